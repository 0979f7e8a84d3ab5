"""Presets that another installed package brings as entry points: a dist-info in a folder on the path."""

import json
import os
import subprocess
import sys

import pytest
from waiting import DEADLINE

import rmapfast as rf

MODULE = """
import rmapfast as rf
MINE = rf.policy.get("v7.2").replace(name="inner name", anon_swap=True, doc="A preset of another package.")
BOARD = rf.arch.get("arm64-4k").replace(name="inner name", cont_ptes=1, nr_cpus=4)
NUMBER = 7
"""
ENTRIES = """
[rmapfast.policies]
mine = presets_of_mine:MINE
v7.0 = presets_of_mine:MINE
number = presets_of_mine:NUMBER
gone = presets_of_mine:GONE

[rmapfast.architectures]
board = presets_of_mine:BOARD
no-module = not_there:BOARD
"""


def install(folder, package="mine", entries=ENTRIES):
    """Put a package into a folder as pip would."""
    (folder / "presets_of_mine.py").write_text(MODULE)
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entries)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    install(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("presets_of_mine", None)


def test_presets_of_another_package(installed):
    policy, arch = rf.policy.get("mine"), rf.arch.get("board")
    assert (policy.name, policy.anon_swap) == ("mine", True) and (arch.name, arch.nr_cpus) == ("board", 4)
    assert rf.policy.names()[-3:] == ("gone", "mine", "number") and rf.arch.names()[-2:] == ("board", "no-module")
    # A preset of this package is the one of its name.
    assert rf.policy.get("v7.0") == rf.policy.PRESETS["v7.0"] and rf.policy.names().count("v7.0") == 1


def test_they_are_used_as_any_other(installed, tmp_path):
    result = rf.reclaim(rf.Population.synthetic("1MiB", arch="board"), "50%", policy="mine", arch="board")
    assert (result.policy_name, result.arch.name) == ("mine", "board")
    space = {"policy": ["v7.0", "mine"], "arch": ["board", "x86-64"], "population.size": "1MiB"}
    swept = rf.sweep(space, tmp_path / "out.json")
    assert swept.complete and not swept.failures
    assert [point.values["policy"] for point in swept.sel(arch="board")] == ["v7.0", "mine"]


def test_a_saved_sweep_does_not_need_the_package(installed, tmp_path, monkeypatch):
    rf.sweep({"policy": ["v7.0", "mine"], "population.size": "1MiB"}, tmp_path / "out.json")
    monkeypatch.undo()
    with pytest.raises(ValueError, match="policy: no preset 'mine'"):
        rf.policy.get("mine")
    assert rf.rerun(tmp_path / "out.json").same


@pytest.mark.parametrize(
    ("get", "name", "said"),
    [
        (
            rf.policy.get,
            "number",
            r"policies: the preset 'number' of mine \(.*\): expected a Policy, got int",
        ),
        (rf.policy.get, "gone", r"the preset 'gone' of mine \(presets_of_mine:GONE\) cannot be loaded: AttributeError"),
        (rf.arch.get, "no-module", r"the preset 'no-module' of mine .* cannot be loaded: ModuleNotFoundError"),
        (rf.policy.get, "mime", r"policy: no preset 'mime' \(did you mean 'mine'\?\); known are .*, mine, number"),
        (rf.arch.get, "bord", r"arch: no preset 'bord' \(did you mean 'board'\?\); known are .*board"),
    ],
)
def test_presets_that_cannot_be_had(installed, get, name, said):
    with pytest.raises(ValueError, match=said):
        get(name)


def test_two_packages_with_one_name(installed):
    install(installed, "other", "[rmapfast.policies]\nmine = presets_of_mine:NUMBER\n")
    with pytest.raises(ValueError, match=r"'mine' is a preset of (mine and other|other and mine); uninstall one"):
        rf.policy.get("mine")


def test_on_the_command_line(tmp_path):
    good = "[rmapfast.policies]\nmine = presets_of_mine:MINE\n[rmapfast.architectures]\nboard = presets_of_mine:BOARD\n"
    install(tmp_path, entries=good)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}

    def run(*words):
        command = [sys.executable, "-m", "rmapfast", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, env=environment)

    done = run("reclaim", "--size", "1MiB", "--policy", "v7.0,mine", "--arch", "board", "--json")
    assert done.returncode == 0, done.stderr
    assert [one["policy"] for one in json.loads(done.stdout)["runs"]] == ["v7.0", "mine"]
    assert "A preset of another package." in run("list", "policy").stdout and "board" in run("list", "arch").stdout
    bad = run("reclaim", "--size", "1MiB", "--policy", "mime")
    assert bad.returncode == 2 and bad.stderr.count("\n") == 1 and "did you mean 'mine'" in bad.stderr
