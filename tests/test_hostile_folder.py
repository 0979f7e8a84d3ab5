"""Each input of ``shared/data/hostile``, which the project mishandled once, and what it gives now."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from crash_states import numbers
from shared import DATA
from waiting import DEADLINE

import rmapfast as rf

pytestmark = pytest.mark.shared
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]")
# What the scripts call by names that are gone.
RENAMED = {
    "_derive(": "with_arrays(**",
    "_doors": "calls",
    "rmapfast._reclaim": "rmapfast.loop",
    "range(300)": "range(9)",  # seconds in place of minutes
}
SPACE = {
    "population.order": [0, 2], "policy": ["v6.16+young", "v7.0"], "arch.cost.tlbi_ops": [50.0, 400.0],
    "arch": "arm64-4k", "population.size": "256KiB",
}  # fmt: skip
SWEEP = ["sweep", "population.order=0,2", "policy=v6.16+young,v7.0", "arch.cost.tlbi_ops=50.0,400.0", "arch=arm64-4k",
         "population.size=256KiB", "-o", "jj.csv", "--resume"]  # fmt: skip
REFUSED = {
    "esc_arch.csv": r"records\.\w+\.arch: expected printable text",
    "esc_key.json": r"events\.\\x1b\]0;owned\\x07: expected a whole number",
    "neg.csv": r"reclaimed_pages: expected 0 to 2\^64 - 1, got -7",
    "json_struct_02.json": r"events\.tlbi_local: the key is missing",
    "json_struct_05.json": r"expected 0 to 2\^64 - 1",
    "swjson_01.json": r"expected 0 to 2\^64 - 1",
    "swjson_03.json": "expected a whole number",
    "swjson_04.json": "expected a whole number",
    "swjson_06.json": "expected a whole number, got Infinity",
    "swjson_08.json": "expected a whole number",
    "nc_bits_08.nc": "no sweep, or damaged",
    "nc_bits_09.nc": "no sweep, or damaged",
}
JOURNALS = [f"journal_{number}.journal" for number in ("01", "03", "04", "05", "06", "07", "10")]
SCRIPTS = {
    "alias_in_place.py": (1, r"ValueError: population\.\w+, population\.\w+: expected memory of their own"),
    "masked_array.py": (1, "TypeError: vma_end: expected a C-contiguous uint64 array, got MaskedArray"),
    "race_rmap.py": (0, r"^$"),
    "split_larger_than_table.py": (0, r"^(?!.*REFUSED)(?s:.*)$"),
    "guard_soft_dirty.py": (0, "(?m)^same "),
}
OTHERS = {"README.md", "describe_plot_control_chars.npz", "output_over_capture.sh", "sweep_journal_record.sh"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for path in (DATA / "hostile").iterdir():
        shutil.copyfile(path, tmp_path / path.name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_nothing_of_the_folder_is_left_out(folder):
    assert {path.name for path in folder.iterdir()} == OTHERS | {*REFUSED, *JOURNALS, *SCRIPTS}


@pytest.mark.parametrize("name", REFUSED)
def test_a_damaged_file_is_refused(run, folder, name):
    status, out, err = run("compare", name)
    assert (status, out, err.count("\n")) == (2, "", 1) and not CONTROL.search(err)
    assert err.startswith(f"rmapfast: error: {name}: ") and re.search(REFUSED[name], err), err


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", JOURNALS)
def test_a_damaged_journal_is_resumed(run, folder, name):
    """Its records have no checksum, so none is taken, and each point is run again."""
    (folder / "jj.csv.journal").write_bytes((folder / name).read_bytes())
    status, _, err = run(*SWEEP)
    assert status == 0 and err.count("\n") == 1 and "damaged; what they held is done again" in err, err
    assert numbers(rf.load("jj.csv")) == numbers(rf.sweep(SPACE))
    assert not (folder / "jj.csv.journal").exists()


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_that_crashed_or_differed(folder, name):
    text = (folder / name).read_text()
    for old, new in RENAMED.items():
        text = text.replace(old, new)
    child = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=DEADLINE, env=dict(os.environ)
    )
    status, wanted = SCRIPTS[name]
    assert child.returncode == status, child.stderr
    assert re.search(wanted, child.stderr if status else child.stdout), (child.stdout, child.stderr)


def test_control_characters_reach_no_terminal_and_no_figure(run, folder):
    status, out, err = run("describe", "describe_plot_control_chars.npz", "--plot", "plot.svg")
    assert status == 0 and not CONTROL.search(out + err)
    assert not CONTROL.search((folder / "plot.svg").read_text())


def test_an_output_over_its_capture_is_refused(run, folder):
    capture = folder / "describe_plot_control_chars.npz"
    before = capture.read_bytes()
    status, out, err = run("reclaim", "--capture", capture, "--target", "1MiB", "-o", capture, "--overwrite")
    assert (status, out, err.count("\n")) == (2, "", 1) and "expected a file of its own, got the input" in err
    assert capture.read_bytes() == before
