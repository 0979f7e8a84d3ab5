"""A user's script passes strict type checkers against the package as it is installed, and runs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import DEADLINE

import rmapfast

SCRIPT = Path(__file__).resolve().parent / "typing" / "user_script.py"
# Of the package under test: a checker finds what is in site-packages by itself, and a source tree if it is told.
FOLDER = Path(rmapfast.__file__).resolve().parents[1]
INSTALLED = FOLDER.name == "site-packages"


def passes(folder, *command, **environment):
    done = subprocess.run(
        [*map(str, command)],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def script(tmp_path):
    """The script alone in a folder, so that no checker reads the configuration of this repository."""
    return Path(shutil.copy(SCRIPT, tmp_path))


def test_it_runs(script):
    passes(script.parent, sys.executable, script, PYTHONPATH="" if INSTALLED else str(FOLDER))


def test_mypy(script):
    # "silent", as for an installed package: what is wrong inside is for `make lint`
    options = ["--strict", "--follow-imports=silent", "--cache-dir", script.parent / "cache"]
    passes(script.parent, sys.executable, "-m", "mypy", *options, script, MYPYPATH="" if INSTALLED else str(FOLDER))


@pytest.mark.skipif(shutil.which("node") is None, reason="pyright runs on node, which is not installed")
def test_pyright(script):
    paths = "" if INSTALLED else f', "extraPaths": ["{FOLDER}"]'
    (script.parent / "pyrightconfig.json").write_text(f'{{"typeCheckingMode": "strict"{paths}}}')
    passes(
        script.parent,
        sys.executable,
        *("-m", "pyright", "--pythonpath", sys.executable, "--project", "."),
        PYRIGHT_PYTHON_IGNORE_WARNINGS="1",
    )
