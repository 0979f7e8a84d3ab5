"""Files and words that a hostile or careless user gives: one line that says what is wrong, and no file is harmed."""

import contextlib
import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path

import numpy as np
import pytest
from waiting import DEADLINE

import rmapfast as rf
from rmapfast.captures import CaptureError
from rmapfast.captures.format import Capture, RunLengths, encode
from rmapfast.support import check_apart, open_regular, printable
from rmapfast.sweeps import files
from rmapfast.verify.recorded import replay_recorded

CAPTURE = next((Path(__file__).parent / "data" / "captures").glob("*.npz"))
NASTY = "lib\x1b[2J\x1b]0;owned\x07\n\x9b.so"
# What a terminal acts on, or an XML file may not hold.
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\udc80-\udcff]")


def capture_of(pages, name=NASTY, kernel="7.0"):
    """A capture of one file mapping whose pages follow each other."""
    meta = {
        "format": "rle3", "page_shift": 12, "npages": pages, "npresent": pages, "kernel": kernel, "machine": "x86_64",
        "vma_text": [{"perms": "r--s", "name": name, "flags": "rd sh"}],
    }  # fmt: skip
    one = np.array([pages])
    return encode(
        meta,
        vma={"start": [1 << 30], "end": [(1 << 30) + (pages << 12)], "pgoff": [0], "inode": [7]},
        huge=[],
        pm=RunLengths(one, np.array([1 << 63 | 1 << 20], np.uint64)),
        kf=RunLengths(one, np.array([4], np.uint64)),
        kc=RunLengths(one, np.array([1], np.uint64)),
    )


def refused(run, *words):
    """Run the command, which must fail with one clean line; return the line."""
    status, out, err = run(*words)
    assert (status, out, err.count("\n")) == (2, "", 1), (status, out, err)
    assert not CONTROL.search(err) and "Traceback" not in err
    return err


# Outputs


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cap.npz").write_bytes(CAPTURE.read_bytes())
    (tmp_path / "space.toml").write_text('"population.size" = "1MiB"\npolicy = ["v7.0", "v7.3"]\n')
    rf.save(rf.reclaim(rf.Population.synthetic("1MiB"), "64KiB"), tmp_path / "saved.json")
    (tmp_path / "map.txt").write_text("0111")
    os.link(tmp_path / "cap.npz", tmp_path / "linked.json")
    os.symlink(tmp_path / "saved.json", tmp_path / "alias.json")
    os.link(tmp_path / "cap.npz", tmp_path / "swept.csv.journal")
    os.symlink(tmp_path / "swept.csv", tmp_path / "symbolic.csv")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["reclaim", "--capture", "cap.npz", "--target", "1MiB", "-o", "cap.npz", "--overwrite"], "-o: cap.npz"),
        (["reclaim", "--capture", "cap.npz", "--target", "1MiB", "-o", "linked.json", "--overwrite"], "cap.npz"),
        (["reclaim", "--size", "1MiB", "-o", "x.json", "--plot", "x.json"], "--plot: x.json"),
        (["reclaim", "--size", "1MiB", "-o", "x.csv"], "-o: expected a file ending in .json"),
        (["reclaim", "--size", "1MiB", "-o", "x.npz"], "-o: expected a file ending in .json"),
        (["reclaim", "--size", "1MiB", "--swap", "free=map.txt", "--plot", "map.txt"], "map.txt"),
        (["compare", "saved.json", "--plot", "saved.json"], "saved.json"),
        (["compare", "alias.json", "--plot", "saved.json"], "alias.json"),
        (["describe", "cap.npz", "--plot", "cap.npz"], "cap.npz"),
        (["sweep", "space.toml", "-o", "space.toml", "--overwrite"], "space.toml"),
        (["sweep", "capture=cap.npz", "-o", "cap.npz", "--overwrite"], "cap.npz"),
        (["sweep", "population.size=1MiB", "-o", "a.csv", "--plot", "a.csv.journal"], "journal"),
        (["sweep", "capture=swept.csv.journal", "-o", "symbolic.csv", "--overwrite"], "journal"),
        (["check", "--replay", "saved.json", "--resume", "saved.json"], "saved.json"),
        (["capture", "1", "-o", "x.json"], "-o: expected a file ending in .npz"),
        (["calibrate", "-o", "x.json"], "-o: expected a file ending in .toml"),
    ],
)
def test_an_output_is_a_file_of_its_own_and_of_its_format(run, folder, words, named):
    before = {path: path.read_bytes() for path in folder.iterdir() if path.exists()}
    assert named in refused(run, *words)
    assert {path: path.read_bytes() for path in folder.iterdir() if path.exists()} == before


def test_a_sweep_from_python_does_not_write_over_its_captures(folder):
    with pytest.raises(ValueError, match="expected a file of its own, got the input"):
        rf.sweep({"capture": "cap.npz"}, "cap.csv/../linked.json", overwrite=True)
    check_apart({"one": "a", "two": "b"}, ["c", "missing\0name"])


# Inputs


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
@pytest.mark.parametrize(
    "words",
    [["describe", "{}"], ["compare", "{}.json"], ["sweep", "{}.toml"], ["reclaim", "--arch", "{}.toml"],
     ["conformance", "{}"], ["conformance", "{}.gz"], ["check", "--replay", "{}"], ["rerun", "{}.csv"],
     ["conformance", "--counts", "{}"], ["reclaim", "--swap", "free={}"]],
)  # fmt: skip
def test_only_regular_files_are_read(run, tmp_path, monkeypatch, make, words):
    monkeypatch.chdir(tmp_path)
    words = [word.format("odd") for word in words]
    make(next(word for word in words if "odd" in word).removeprefix("free="))
    assert re.search("Not a regular file|Is a directory", refused(run, *words))


def test_a_member_is_inflated_only_as_far_as_its_header_says(tmp_path):
    """512 MiB of zeros behind a header that promises 3 elements, and a header that promises more than the document."""
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(io.BytesIO(capture_of(3))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name in ("pm_dval.npy", "vma_start.npy", "meta.npy"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for other, body in members.items():
                with archive.open(other, "w") as member:
                    member.write(body)
                    for _ in range(32 if other == name else 0):
                        member.write(bytes(1 << 22))
        with pytest.raises(CaptureError, match=f"{name.removesuffix('.npy')}: expected"):
            Capture.load(path)


def test_a_capture_that_claims_many_pages_is_described(run, tmp_path):
    path = tmp_path / "many.npz"
    path.write_bytes(capture_of(1 << 18))
    status, out, _ = run("describe", path)
    assert status == 0 and "1 GiB" in out


@pytest.mark.parametrize(
    "text",
    ["".join(f'[[zip]]\n"arch.cost.tlbi_ops" = [{n}, 2]\n' for n in range(20_000)),
     "".join(f'"population.x{n}" = [1, 2]\n' for n in range(20_000)),
     "population.order = 1e999\n", f'"population.size" = {"9" * 5000}\n', "x = " + "[" * 5000],
)  # fmt: skip
def test_a_space_that_is_none_is_refused(run, tmp_path, text):
    path = tmp_path / "space.toml"
    path.write_text(text)
    refused(run, "sweep", path)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000, '{"a": ' + "9" * 5000 + "}", "[]", "\xff"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("case.json", ["check", "--replay"]),
        ("few.jsonl", ["conformance"]),
        ("saved.json", ["compare"]),
        ("saved.json", ["rerun"]),
        ("sweep.csv", ["compare"]),
    ],
)
def test_json_that_python_cannot_read_is_refused_by_its_name(run, tmp_path, name, words, content):
    path = tmp_path / name
    path.write_text(("# rmapfast sweep: " if name.endswith("csv") else "") + content + "\n", encoding="latin-1")
    assert name in refused(run, *words, path)


def test_a_cases_file_that_python_cannot_read_is_refused_by_its_name(run, tmp_path):
    (tmp_path / "cases.json").write_text("[" * 100_000)
    assert refused(run, "conformance", "--live", tmp_path).count("cases.json") == 1


def test_a_cases_file_that_is_no_file_is_a_capture_error(tmp_path):
    (tmp_path / "cases.json").mkdir()
    with pytest.raises(CaptureError, match=r"cases\.json"):
        replay_recorded(tmp_path)


@pytest.mark.parametrize("content", ["x = " + "[" * 20_000, "x = " + "9" * 5000, "\xff"])
@pytest.mark.parametrize(
    "words",
    [
        ["sweep"],
        ["conformance", "--counts"],
        ["conformance", "--sequences"],
        ["reclaim", "--size", "1MiB", "--arch"],
        ["reclaim", "--size", "1MiB", "--costs"],
    ],
)
def test_toml_that_python_cannot_read_is_refused_by_its_name(run, tmp_path, words, content):
    path = tmp_path / "some.toml"
    path.write_text(content + "\n", encoding="latin-1")
    assert "some.toml: not TOML" in refused(run, *words, path)


def test_a_value_of_an_axis_that_nests_too_deep_is_refused(run):
    assert "population.order" in refused(run, "sweep", "population.order=" + "[" * 30_000)


def test_a_damaged_netcdf_file_is_refused_without_a_word_of_its_package(tmp_path):
    """What h5netcdf prints when such a file is closed does not come through pytest's capture: a process is needed."""
    path = tmp_path / "swept.nc"
    rf.sweep({"population.size": "256KiB", "policy": ["v7.0", "v7.3"]}, path)
    content = path.read_bytes()
    for at in range(96, len(content), 5999):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :])
        with contextlib.suppress(ValueError):
            rf.load(path)
    script = "import sys; from rmapfast import cli; sys.exit(max(cli.main(['compare', one]) for one in sys.argv[1:]))"
    names = []
    for number, at in enumerate(range(96, len(content), len(content) // 12)):
        names.append(tmp_path / f"{number}.nc")
        names[-1].write_bytes(content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :])
    child = subprocess.run([sys.executable, "-c", script, *names], capture_output=True, text=True, timeout=DEADLINE)
    assert child.returncode == 2 and all(line.startswith("rmapfast: error: ") for line in child.stderr.splitlines())


def test_a_netcdf_file_that_libhdf5_reads_without_end_is_refused(run, tmp_path, monkeypatch):
    """The lane found it: a damaged heap of variable-length texts."""
    monkeypatch.setattr(files, "_SECONDS", 4)
    path = tmp_path / "endless.nc"
    path.write_bytes(gzip.decompress((Path(__file__).parent / "data" / "endless.nc.gz").read_bytes()))
    assert "did not end within 4 s" in refused(run, "compare", path)


@pytest.mark.parametrize("change", [{"ttu": None}, {"ttu": ["X"]}, {"guard": "x"}, {"guard": []}])
def test_a_case_whose_call_is_none_is_refused(run, tmp_path, change):
    path = tmp_path / "case.json"
    report = rf.check(["v6.16"], pages=2, budget=60, threads=1)
    case = report.policies[0].violations[0].example | change
    path.write_text(json.dumps({name: value for name, value in case.items() if value is not None}))
    assert "not a case" in refused(run, "check", "--replay", path)


@pytest.mark.parametrize("away", [-2, 2])
def test_a_case_whose_vma_does_not_hold_the_folio_is_refused(run, tmp_path, away):
    path = tmp_path / "case.json"
    case = rf.check(["v6.16"], pages=2, budget=60, threads=1).policies[0].violations[0].example
    assert case["folio"]["order"] == 1 and case["vma"]["end_vpn"] - case["vma"]["start_vpn"] == 2
    case["folio"]["index"] = case["vma"]["pgoff"] + away
    path.write_text(json.dumps(case))
    said = refused(run, "check", "--replay", path)
    assert "case.json: not a case: vma: its page offsets are none of the folio" in said
    case["folio"]["index"] -= away // 2
    path.write_text(json.dumps(case))
    status, out, err = run("check", "--replay", path, "--policy", "v7.0")
    assert (status, err) == (0, "") and "1 distinct states" in out, (status, out, err)


# Control characters


def test_names_in_captures_are_shown_with_escapes(run, tmp_path):
    path, plot = tmp_path / "nasty\x1b.npz", tmp_path / "plot.svg"
    path.write_bytes(capture_of(64, kernel=NASTY))
    for words in (
        ["describe", path, "--plot", plot],
        ["describe", path, "--json"],
        ["reclaim", "--capture", path, "--target", "64KiB"],
        ["reclaim", "--capture", path, "--target", "64KiB", "--format", "csv"],
        ["reclaim", "--capture", path, "--target", "64KiB", "--format", "markdown", "--plot", plot],
    ):
        status, out, err = run(*words)
        assert status == 0 and not CONTROL.search(out + err), words
        assert not plot.exists() or not CONTROL.search(plot.read_text())
    ElementTree.parse(plot)


def test_names_in_results_are_shown_with_escapes(run, tmp_path):
    path, swept = tmp_path / "saved.json", tmp_path / "swept.csv"
    rf.save(rf.reclaim(rf.Population.synthetic("1MiB"), "64KiB"), path)
    document = json.loads(path.read_text())
    document["runs"][0]["events"][NASTY] = 3
    path.write_text(json.dumps(document))
    assert "\\x1b[2J" in refused(run, "compare", path)
    space = {"population.size": "1MiB", "policy": "v7.0", "arch": ["x86-64", "arm64-4k"]}
    rf.sweep(space, swept)
    swept.write_bytes(swept.read_bytes().replace(b",x86-64,", b",x\x1b[2J\xc2\x9b86,"))
    status, out, err = run("compare", swept)
    assert status in (0, 2) and not CONTROL.search(out + err)


@pytest.mark.parametrize("word", [NASTY, "a\udc80b", "x" * 10_000, "\u202e"])
@pytest.mark.parametrize(
    "words", [["reclaim", "--policy", "{}"], ["reclaim", "--arch", "{}"], ["describe", "{}"], ["compare", "{}"],
              ["sweep", "{}=1"], ["reclaim", "--set", "{}=1"], ["{}"], ["check", "--policy", "{}"]],
)  # fmt: skip
def test_words_are_shown_with_escapes(run, word, words):
    err = refused(run, *(part.format(word) for part in words))
    assert "\u202e" not in err


def test_printable():
    assert printable(NASTY) == "lib\\x1b[2J\\x1b]0;owned\\x07\\n\\x9b.so"
    assert printable("a é ☃") == "a é ☃" and printable("\udc80") == "\\udc80"


# Numbers


# What Python or TOML reads as a number in range.
TAKEN = {
    "--orders": ["٣"],
    **{key: ["1_000", "٣"] for key in ["--phase", "--sharing", "--external", "--seed", "--threads"]},
    **{key: ["1e-400"] for key in ["--mapped", "--holes", "--young"]},
    "--set=arch.cont_ptes": ["0x10"],
    **{key: ["0x10", "1_000", "٣"] for key in ["--set=arch.nr_cpus", "--set=arch.flush_ceiling"]},
    "--set=arch.cost.tlbi_ops": ["9" * 30, "1_000", "1e-400", "٣"],
}
NUMBERS = ["-1", "9" * 30, "9" * 5000, "1e400", "nan", "inf", "-inf", "0x10", "1_000", "", "1e-400", "٣"]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(
    "option",
    ["--size", "--orders", "--phase", "--mapped", "--holes", "--sharing", "--external", "--young", "--seed",
     "--target", "--threads", "--process", "--swap", "--set=arch.cont_ptes", "--set=arch.cost.tlbi_ops",
     "--set=arch.nr_cpus", "--set=arch.flush_ceiling"],
)  # fmt: skip
def test_numbers_out_of_range(run, option, number):
    """Each is refused in one line, unless it is a number that the option takes."""
    words = [f"{option}={number}"] if "=" in option else [option, number]
    status, out, err = run("reclaim", "--size", "1MiB", "--target", "64KiB", *words)
    if number in TAKEN.get(option, ()):
        assert status == 0, err
    else:
        assert (status, out, err.count("\n")) == (2, "", 1) and "Traceback" not in err, (status, err)


# Signals


def test_ctrl_c_while_words_are_parsed_is_quiet(tmp_path):
    script = (
        "import os, signal, sys\nfrom rmapfast import cli\nfrom rmapfast.cli import command\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background job ignores it
        "command.parser = lambda names: os.kill(os.getpid(), signal.SIGINT)\nsys.exit(cli.main(['info']))"
    )
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=DEADLINE)
    assert (child.returncode, child.stdout, child.stderr) == (130, "", "rmapfast: interrupted\n"), signal.SIGINT


def test_open_regular_reads(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    with open_regular(tmp_path / "a") as file:
        assert file.read() == b"x"
