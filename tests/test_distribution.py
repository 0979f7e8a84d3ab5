"""What is handed out: a source distribution holds the repository, a wheel what is imported. `make dist` makes both."""

import os
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

FOLDER = Path(os.environ.get("RMAPFAST_DIST", ""))
pytestmark = pytest.mark.skipif("RMAPFAST_DIST" not in os.environ, reason="`make dist` builds what is looked at")


@pytest.fixture(scope="module")
def source() -> set[str]:
    (path,) = FOLDER.glob("rmapfast-*.tar.gz")
    with tarfile.open(path) as archive:
        return {one.name.partition("/")[2] for one in archive if one.isfile()}


@pytest.fixture(scope="module")
def wheel() -> set[str]:
    (path,) = FOLDER.glob("rmapfast-*.whl")
    with zipfile.ZipFile(path) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name and not name.endswith("/")}


def test_the_source_holds_what_the_repository_holds(source):
    if not (FOLDER / "tracked").exists():
        pytest.skip("not built in a git repository")
    tracked = set((FOLDER / "tracked").read_text().splitlines())
    assert {path for path in tracked - source if not path.startswith((".ci/", ".github/"))} == set()
    added = {path for path in source - tracked if not path.startswith("rmapfast.egg-info/")}
    assert added == {"PKG-INFO", "setup.cfg"}


def test_the_source_can_be_built_and_tested(source):
    for name in ("rmapfast/_core.pyx", "csrc/Makefile", "csrc/isa_avx2.c", "tests/c/testing.h", "rmapfast/py.typed"):
        assert name in source
    assert not [path for path in source if PurePosixPath(path).suffix in (".so", ".o", ".a", ".pyc")]
    assert "rmapfast/_core.c" not in source


def test_the_wheel_holds_what_is_imported(source, wheel):
    kinds = {".py", ".pyi", ".toml", ".typed", ".h", ".json"}
    wanted = {path for path in source if path.startswith("rmapfast/") and PurePosixPath(path).suffix in kinds}
    wanted.add("rmapfast/py.typed")
    compiled = {path for path in wheel if path.endswith(".so")}
    assert len(compiled) == 1 and wheel - compiled == wanted
    assert any(path.startswith("rmapfast/costs/") for path in wheel)
    assert "rmapfast/include/rmf_rule.h" in wheel
    assert any(path.startswith("rmapfast/schemas/") for path in wheel)
