"""Faults of each kind that the lanes hunt, planted one by one, and after how many cases their lane finds each.

``make mutants`` runs it after the faults in the rules of csrc (mutants.py). The lanes try the cases of their short
runs, in their order. The exit status is 1 if one fault is not found.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FUZZ, FILES, CRASHES = "fuzz", "fuzz-files", "crash-states"
LANES = {
    FUZZ: ["csrc/build/fuzz", "400000"],
    FILES: [sys.executable, "tests/fuzz_files.py"],
    CRASHES: [sys.executable, "tests/crash_states.py"],
}


class Planted(NamedTuple):
    """A fault: what it is, the text of a file that is replaced, and the lane that is to find it."""

    what: str
    file: str
    old: str
    new: str
    lane: str


FAULTS = (
    Planted("fast path: one folio of a row is not freed", "csrc/regular_body.h",
            "for (uint64_t i = 0; i < m; i++)\n\t\t\tpop->folio_flags[folio + i] = regular->flags_after;",
            "for (uint64_t i = 0; i + 1 < m; i++)\n\t\t\tpop->folio_flags[folio + i] = regular->flags_after;", FUZZ),
    Planted("fast path: refcounts are not looked at", "csrc/regular_body.h",
            "(uint32_t)(refcount[i] ^ regular->refcount) |", "", FUZZ),
    Planted("fast path: no check for a folio that crosses a table", "csrc/memo.h",
            "if ((*vpn + nr - 1) >> shift != table ||", "if (0 ||", FUZZ),
    Planted("a dropped check: the texts of VMAs in a capture", "rmapfast/captures/format.py",
            "if not isinstance(text, list) or not all(", "if False and not all(", FILES),
    Planted("a dropped check: the types of JSON values", "rmapfast/support/json_object.py",
            "if not isinstance(value, kinds) or isinstance(value, bool):", "if False:", FILES),
    Planted("a dropped check: the checksum of a journal's record", "rmapfast/parallel/journal.py",
            'if checksum != b"%08x" % zlib.crc32(document):', "if False:", FILES),
    Planted("no fsync of an output before it is renamed", "rmapfast/support/files.py",
            "        os.fsync(file.fileno())\n", "", CRASHES),
    Planted("no fsync of the folder before the journal is removed", "rmapfast/support/files.py",
            "        sync_folder(where.parent)\n", "", CRASHES),
    Planted("no fsync of the folder of a new journal", "rmapfast/parallel/journal.py",
            "            sync_folder(self.path.parent)\n", "", CRASHES),
    Planted("the journal is removed before the output is there", "rmapfast/sweeps/run.py",
            "            result.save(output, overwrite=overwrite or resume)\n",
            "            journal.path.unlink(missing_ok=error is None)\n"
            "            result.save(output, overwrite=overwrite or resume)\n", CRASHES),
    Planted("a damaged journal is written over in place", "rmapfast/parallel/journal.py",
            "                    self._rewrite(intact)\n",
            "                    self._file.seek(0), self._file.truncate(), self._file.write(intact)\n", CRASHES),
    Planted("a missing escape: all control characters", "rmapfast/support/text.py",
            "if text.isprintable():\n        return text\n", "return text\n", FILES),
    Planted("a missing escape: errors", "rmapfast/support/text.py",
            'return printable(" ".join(text.split()))', 'return " ".join(text.split())', FILES),
    Planted("a missing escape: C1 control characters", "rmapfast/support/text.py",
            "char if char.isprintable() else char.encode", 'char if char >= "\\x7f" else char.encode', FILES),
)  # fmt: skip


def found_after(fault: Planted, base: Path) -> int | None:
    """Plant a fault in a copy of the tree and return after how many cases its lane has a finding, or None."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "tree"
        shutil.copytree(base, folder, symlinks=True)
        path = folder / fault.file
        text = path.read_text()
        if text.count(fault.old) != 1:
            raise RuntimeError(f"{fault.what}: {fault.file} has the text {text.count(fault.old)} times")
        path.write_text(text.replace(fault.old, fault.new))
        if fault.lane == FUZZ:
            build(folder)
        variables = {"PYTHONPATH": str(folder), "PYTHONUNBUFFERED": "1", "FUZZ_S": ""}
        with subprocess.Popen(
            LANES[fault.lane], cwd=folder, env=os.environ | variables, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, errors="replace",
        ) as lane:  # fmt: skip
            try:
                for line in lane.stdout:
                    if found := re.match(r"\S+: case (\d+): ", line):
                        return int(found[1])  # the seeds are 1, 2, ...
            finally:
                lane.kill()
    return None


def build(folder: Path) -> None:
    """Build the C lane."""
    subprocess.run(["make", "-s", "-C", "csrc", "CFLAGS=-O1", "WERROR=", "build/fuzz"], cwd=folder, check=True)


def main() -> int:
    """Try all faults and print after how many cases each was found."""
    missed = 0
    with tempfile.TemporaryDirectory() as name:
        base = Path(name) / "base"
        ignored = shutil.ignore_patterns(".git", ".venv", "build", "build-*", "__pycache__")
        shutil.copytree(ROOT, base, symlinks=True, ignore=ignored)
        build(base)
        for fault in FAULTS:
            after = found_after(fault, base)
            print(f"{fault.what:<64} {fault.lane:<13} {'missed' if after is None else f'case {after:,}'}", flush=True)
            missed += after is None
    print(f"planted: {len(FAULTS)} faults, {missed} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
