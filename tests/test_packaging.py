"""What packagers and shells get: the man page, completion, the citation, the recipe, and the list of wheels."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from waiting import DEADLINE

import rmapfast
from rmapfast import cli

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def run(*command, **options):
    done = subprocess.run(
        [*map(str, command)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=os.environ | {"PYTHONPATH": str(Path(rmapfast.__file__).resolve().parents[1])},
        **options,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def man_page(tmp_path_factory):
    pytest.importorskip("build_manpages")
    path = tmp_path_factory.mktemp("man") / "rmapfast.1"
    options = ("--module", "rmapfast.cli", "--function", "parser", "--prog", "rmapfast", "--output", path)
    run(Path(sys.executable).with_name("argparse-manpage"), *options)
    return path


def test_the_man_page_has_each_verb_and_option(man_page):
    text = man_page.read_text(encoding="utf-8").replace("\\", "")
    for verb in cli.parser()._subparsers._group_actions[0].choices:
        assert f"rmapfast {verb}" in text
    assert "--policy" in text and "--hold-back" in text


@pytest.mark.skipif(shutil.which("man") is None, reason="man is not installed")
def test_the_man_page_is_shown_without_a_warning(man_page):
    shown = run("man", "--warnings", "-l", man_page)
    assert "RMAPFAST(1)" in shown.stdout and not shown.stderr


@pytest.fixture(scope="module")
def completion(tmp_path_factory):
    pytest.importorskip("shtab")
    path = tmp_path_factory.mktemp("completion") / "rmapfast.bash"
    options = ("--shell=bash", "--error-unimportable", "--prog", "rmapfast", "rmapfast.cli.parser")
    path.write_text(run(Path(sys.executable).with_name("shtab"), *options).stdout)
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sw"], {"sweep"}),
        (["reclaim", "--poli"], {"--policy"}),
        (["reclaim", "--lru", ""], {"classic", "mglru"}),
        (["list", "ev"], {"event"}),
    ],
)
def test_bash_completes(completion, words, expected):
    typed = " ".join(f"'{word}'" for word in ["rmapfast", *words])
    before = words[-2] if len(words) > 1 else "rmapfast"
    script = (
        f"source {completion}; COMP_WORDS=({typed}); COMP_CWORD={len(words)}; "
        f"_shtab_rmapfast rmapfast '{words[-1]}' '{before}'; echo ${{COMPREPLY[@]}}"
    )
    assert set(run("bash", "-c", script).stdout.split()) == expected


def test_the_version_is_one():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    recipe = (ROOT / "packaging" / "conda" / "recipe.yaml").read_text(encoding="utf-8")
    assert re.search(r"(?m)^version: (.*)$", citation)[1] == rmapfast.__version__
    assert re.search(r'(?m)^  version: "(.*)"$', recipe)[1] == rmapfast.__version__


def test_the_recipe_needs_what_the_project_needs():
    recipe = (ROOT / "packaging" / "conda" / "recipe.yaml").read_text(encoding="utf-8")
    wanted = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
    for requirement in wanted:
        name, version = re.fullmatch(r"([\w-]+)>=([\d.]+)", requirement).groups()
        assert re.search(rf"(?m)^    - {name.lower()} >={re.escape(version)}$", recipe), requirement


def test_the_wheels_are_those_of_the_classifiers():
    built = {version for version in PROJECT["tool"]["cibuildwheel"]["build"] if "t-" not in version}
    named = re.findall(r"Python :: 3\.(\d+)", " ".join(PROJECT["project"]["classifiers"]))
    assert built == {f"cp3{version}-*" for version in named}
