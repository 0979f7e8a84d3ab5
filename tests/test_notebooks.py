"""The notebooks of examples/: each runs as a script. `make notebooks` executes them as notebooks too."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import DEADLINE

import rmapfast

pytest.importorskip("matplotlib")
FOLDER = Path(__file__).resolve().parents[1] / "examples" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.py"))
# These take longer; `make notebooks` runs them.
LONG = {"own_policy"}


@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path.stem not in LONG], ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path):
    package = Path(rmapfast.__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-W", "error", path],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(package), "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout and not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_one(path):
    text = path.read_text(encoding="utf-8")
    assert re.search(r"(?m)^#     formats: py:percent$", text)
    cells = re.split(r"(?m)^# %%", text)[1:]
    words = [cell for cell in cells if cell.startswith(" [markdown]")]
    assert words[0].splitlines()[1].startswith("# # ") and len(cells) > len(words) > 2
    assert f"notebooks/{path.name}" in (FOLDER.parents[1] / "docs" / "notebooks.md").read_text(encoding="utf-8")
