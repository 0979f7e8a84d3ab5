"""The lane ``make fuzz-files``: every format that is read, damaged in ways that know its structure.

A case is a seed: it takes a good file, changes it (bytes, and for JSON, TOML, CSV, captures and journals their values,
keys and members), and gives it to the verb that reads it. A finding is a foreign exception, an exit status other than
0, 1 and 2, an error of more than one line or without the name of the file, a control character in the output, 30 s or
1 GiB, a changed input, or other numbers after a resume from a damaged journal.

Cases run in this process, so that 100 or more are done in a second; the limit of memory is set for all of it.
"""

import contextlib
import faulthandler
import io
import json
import os
import re
import resource
import signal
import sys
import tempfile
import warnings
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from crash_states import numbers
from fuzzing import run_lane

import rmapfast as rf
from rmapfast import cli
from rmapfast.sweeps.resuming import header, journal_of

SHORT_RUN = 3000
DATA = Path(__file__).parent / "data"
SPACE = {"population.size": "256KiB", "population.order": [0, 2], "policy": ["v6.16+young", "v7.0"], "arch": "arm64-4k"}
WORDS = ["population.size=256KiB", "population.order=0,2", "policy=v6.16+young,v7.0", "arch=arm64-4k"]
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]")
# Errors of what they hold name the key or the option alone.
UNNAMED = ("space.toml", "map.txt", "again.json")
# What a terminal acts on.
NASTY = ["\x1b[2J", "\x1b]0;t\x07", "\x9b2J", "\u202e", "\r", "\x00", "\x7f"]
ODD = [
    0, -1, 1, 2**31, 2**32, 2**53, 2**63, 2**64, -(2**63), 10**30, 10**400, 1e308, -0.0, 0.5, float("nan"),
    float("inf"), float("-inf"), None, True, False, "", "x", "\x1b[2J", "\x1b]0;t\x07", "a\nb", "\u202e", "9" * 400,
    [], {}, [[]], {"": 0}, [0] * 1000, "/dev/zero", "../..", "%", "\x00",
]  # fmt: skip


def seeds_of(folder):
    """Good files, with the words of the command that reads each; {} stands for the file."""
    swept, compared = rf.sweep(SPACE), rf.reclaim(rf.Population.synthetic("256KiB"), "64KiB", arch="x86-64")
    files = {}

    def add(name, *words):
        files[name] = ((folder / name).read_bytes(), list(words))

    for ending in ("csv", "json", "nc", "parquet"):
        swept.save(folder / f"sweep.{ending}")
        add(f"sweep.{ending}", "compare", "{}")
    rf.save(compared, folder / "saved.json")
    add("saved.json", "compare", "{}")
    files["again.json"] = (files["saved.json"][0], ["rerun", "{}"])
    (folder / "arch.toml").write_text(rf.arch.get("arm64-4k").to_toml())
    add("arch.toml", "reclaim", "--size", "256KiB", "--target", "64KiB", "--arch", "{}")
    (folder / "costs.toml").write_text(rf.arch.get("x86-64").cost_vector.to_toml())
    add("costs.toml", "reclaim", "--size", "256KiB", "--target", "64KiB", "--costs", "{}")
    (folder / "space.toml").write_text('"population.size" = "256KiB"\npolicy = ["v7.0", "v7.3"]\nzip = [{a = [1]}]\n')
    add("space.toml", "sweep", "{}")
    head = header(swept.space.to_dict(), {})
    journal = journal_of(folder / "out.csv", head)
    journal.open(head)
    for key, record in swept.records.items():
        journal.add({"key": key, "record": record})
    journal.close()
    add("out.csv.journal", "sweep", *WORDS, "--resume", "-o", "out.csv")
    report = rf.check(["v6.16"], pages=2, budget=600, threads=1).to_dict()
    (folder / "case.json").write_text(json.dumps(report["policies"][0]["violations"][0]))
    add("case.json", "check", "--replay", "{}", "--draw", "--policy", "v7.0")
    (folder / "map.txt").write_text("0" + "1" * 90)
    add("map.txt", "reclaim", "--size", "256KiB", "--target", "64KiB", "--kind", "anon", "--swap", "free={}")
    for path in sorted((DATA / "captures").glob("*.npz"))[:6]:
        files[path.name] = (path.read_bytes(), ["describe", "{}"])
    vectors = sorted((DATA / "conformance").glob("*.jsonl.gz"))[0]
    files["few.jsonl"] = (b"\n".join(_lines(vectors)[:12]) + b"\n", ["conformance", "{}"])
    rows = (DATA / "counts.toml").read_bytes().splitlines(keepends=True)
    few = b"".join(row for row in rows if row.startswith((b"#", b"[")) or b"order_9 = { tuo" in row)  # the quick ones
    files["counts.toml"] = (few, ["conformance", "--counts", "{}"])
    return files


def _lines(path):
    import gzip

    with gzip.open(path) as file:
        return file.read().splitlines()


def damaged(rng, name, content):
    """A file that is a little, or a lot, different."""
    how = rng.random()
    if how < 0.45 and (changed := _structure(rng, name, content)) is not None:
        return changed
    content = bytearray(content)
    for _ in range(1 + int(rng.integers(4))):
        at = int(rng.integers(len(content) + 1))
        what = rng.random()
        if what < 0.4 and at < len(content):
            content[at] ^= 1 << int(rng.integers(8))
        elif what < 0.55:
            content[at:at] = rng.bytes(int(rng.integers(1, 9)))
        elif what < 0.7:
            del content[at : at + int(rng.integers(1, 200))]
        elif what < 0.8:
            del content[at:]
        elif what < 0.9:
            size = int(rng.integers(1, 64))
            content[at : at + size] = content[: len(content[at : at + size])]
        else:
            content[at : at + 1] = str(ODD[int(rng.integers(len(ODD)))]).encode("utf-8", "replace")[:500]
    return bytes(content)


def _structure(rng, name, content):
    """Change a value, a key or a member of the format; None if that is not known here."""
    if name.endswith(".json"):
        return _json(rng, content)
    if name.endswith((".jsonl", ".journal")):
        lines = content.split(b"\n")
        at = int(rng.integers(len(lines)))
        mark, _, body = lines[at].rpartition(b" {")
        if name.endswith(".jsonl") or not mark:
            mark, body = b"", lines[at]
        else:
            body = b"{" + body
        changed = _json(rng, body) or b""
        if mark and rng.random() < 0.7:  # a record that fits its checksum
            mark = b"%08x" % zlib.crc32(changed)
        lines[at] = (mark + b" " if mark else b"") + changed
        return b"\n".join(lines)
    if name.endswith((".toml", ".csv")):
        words = re.split(rb'([,="\n\[\] ])', content)
        for _ in range(1 + int(rng.integers(3))):
            words[int(rng.integers(len(words)))] = str(ODD[int(rng.integers(len(ODD)))]).encode("utf-8", "replace")
        return b"".join(words)
    if name.endswith(".npz"):
        return _npz(rng, content)
    return None


def _texts(node):
    """Yield where the texts of a document are: a mapping or list, and the key."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(value, str):
            yield node, key
        elif isinstance(value, dict | list):
            yield from _texts(value)


def _json(rng, content):
    try:
        document = json.loads(content)
    except ValueError:
        return None
    if isinstance(document, dict | list) and rng.random() < 0.3 and (texts := list(_texts(document))):
        names = [one for one in texts if one[1] == "name"]  # what is shown
        some = names if names and rng.random() < 0.5 else [texts[int(rng.integers(len(texts)))]]
        for at, key in some:
            cut = int(rng.integers(len(at[key]) + 1))
            at[key] = at[key][:cut] + NASTY[int(rng.integers(len(NASTY)))] + at[key][cut:]
        return json.dumps(document).encode("utf-8", "replace")
    for _ in range(1 + int(rng.integers(2))):
        at, key = None, None
        node = document
        while isinstance(node, dict | list) and node and (at is None or rng.random() < 0.85):
            keys = list(node) if isinstance(node, dict) else range(len(node))
            at, key = node, keys[int(rng.integers(len(keys)))]
            node = at[key]
        odd = ODD[int(rng.integers(len(ODD)))]
        what = rng.random()
        if at is None:
            document = odd
        elif what < 0.7:
            at[key] = odd
        elif what < 0.85:
            del at[key]
        elif isinstance(at, dict):
            at[str(odd)[:60]] = at.pop(key)
    return json.dumps(document).encode("utf-8", "replace")


def _npz(rng, content):
    """Change an element or the length of an array, or a value of the document; or say what is not so in the archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    names = sorted(members)
    for _ in range(1 + int(rng.integers(2))):
        name = "meta.npy" if "meta.npy" in names and rng.random() < 0.4 else names[int(rng.integers(len(names)))]
        array = np.load(io.BytesIO(members[name]))
        what = rng.random()
        if name == "meta.npy" and what < 0.8:
            array = np.frombuffer(_json(rng, array.tobytes()) or b"", np.uint8)
        elif what < 0.6 and array.size and array.dtype.kind in "iu":
            info = np.iinfo(array.dtype)
            values = [0, 1, info.max, info.max // 2, 1 << 12, 1 << 20, int(array[0]), int(array[-1]) ^ 1]
            array = array.copy()
            array[int(rng.integers(array.size))] = values[int(rng.integers(len(values)))] % (int(info.max) + 1)
        elif what < 0.7:
            array = array[: int(rng.integers(array.size + 1))]
        elif what < 0.8:
            array = np.concatenate([array, array])
        elif what < 0.9:
            array = array.astype([np.int8, np.float64, ">u8"][int(rng.integers(3))])
        else:
            del members[name]
            names.remove(name)
            continue
        file = io.BytesIO()
        np.save(file, array)
        members[name] = file.getvalue()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return file.getvalue()


def _forged(content, changed):
    """Whether a journal has another record than before that fits its checksum."""
    lines = (line.partition(b" ") for line in set(changed.split(b"\n")) - set(content.split(b"\n")))
    return any(checksum == b"%08x" % zlib.crc32(document) for checksum, _, document in lines)


class Slow(BaseException):
    """A case took 30 s."""


def _alarm(*_):
    raise Slow("30 s")


class Lane:
    """The good files, and a folder to work in."""

    def __init__(self, folder):
        self.folder = folder
        os.chdir(folder)
        self.files = seeds_of(folder)
        self.names = sorted(self.files)
        # a process of its own reads a netCDF file, which takes a second
        self.chances = np.array([0.1 if name.endswith(".nc") else 1.0 for name in self.names])
        self.chances /= self.chances.sum()
        self.whole = numbers(rf.sweep(SPACE))

    def case(self, seed: int, done: Counter) -> None:
        """One damaged file."""
        rng = np.random.default_rng(seed)
        name = str(rng.choice(self.names, p=self.chances))
        content, words = self.files[name]
        changed = damaged(rng, name, content)
        path = self.folder / name
        for left in self.folder.glob("out.csv*"):
            left.unlink()
        path.write_bytes(changed)
        out, err = io.StringIO(), io.StringIO()
        signal.alarm(30)
        # A library that hangs hears no signal: the lane ends then, and leaves its folder with the file.
        faulthandler.dump_traceback_later(60, exit=True)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    status = cli.main([word.replace("{}", name) for word in words])
                except SystemExit as stop:
                    status = stop.code
        finally:
            signal.alarm(0)
            faulthandler.cancel_dump_traceback_later()
        if status == 130:  # the lane is to end
            raise KeyboardInterrupt
        assert status in (0, 1, 2), f"{name}: exit status {status}"
        assert not CONTROL.search(out.getvalue() + err.getvalue()), f"{name}: a control character: {err.getvalue()!r}"
        assert status != 2 or err.getvalue().count("\n") == 1, f"{name}: {err.getvalue()!r}"
        named = name in UNNAMED or name in err.getvalue()
        assert status != 2 or named, f"{name}: an error that does not name it: {err.getvalue()!r}"
        assert name.endswith(".journal") or path.read_bytes() == changed, f"{name}: the input was changed"
        if name == "out.csv.journal" and status == 0 and not _forged(content, changed):
            assert numbers(rf.load("out.csv")) == self.whole, "a damaged record was taken"
        done[("taken", "failed checks", "refused")[status]] += 1


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))  # addresses: 1 GiB of memory, and what libraries map
    signal.signal(signal.SIGALRM, _alarm)
    with tempfile.TemporaryDirectory() as name:
        print(f"fuzz-files: works in {name}", flush=True)
        lane = Lane(Path(name))
        status = run_lane("fuzz-files", lane.case, short_run=SHORT_RUN)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"fuzz-files: {peak:.0f} MiB at most")
        os.chdir("/")
    sys.exit(1 if peak > 1024 else status)
