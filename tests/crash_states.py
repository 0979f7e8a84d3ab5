"""What a failing machine may leave of the files of a sweep: the second part of ``make fuzz-kill``.

A case is a seed: a sweep is recorded, and states that POSIX allows after a crash are made.

A recorded run is a sequence of writes, truncations, fsyncs, and changes of names. At a crash after some of them

* what was written to a file before its last fsync is there; of what was written later nothing, all, a part up to some
  byte, or zeros in its place;
* names that were made, replaced or removed before the last fsync of the folder are so; of later changes any part is.

From each such state the sweep is resumed. It must end as an uninterrupted one, nothing may be left beside its output,
and no point may be run again whose record was forced to the disk.
"""

import contextlib
import functools
import json
import os
import stat
import sys
import tempfile
import warnings
import zlib
from collections import Counter
from pathlib import Path
from unittest import mock

import numpy as np
from fuzzing import run_lane

import rmapfast as rf
from rmapfast.parallel import journal as journals
from rmapfast.support import files
from rmapfast.sweeps import journal_path

SHORT_RUN = 30
STATES = 10  # of a recorded run
SPACE = {"population.size": "256KiB", "population.order": [0, 2, 4], "policy": ["v6.16+young", "v7.0"]}
OUTPUT = "out.json"


class _File:
    """An open file whose writes are recorded."""

    def __init__(self, record, file, number):
        self._record, self._file, self._number = record, file, number

    def write(self, data):
        self._record.append(("write", self._number, self._file.tell(), bytes(data)))
        return self._file.write(data)

    def truncate(self, size=None):
        size = self._file.tell() if size is None else size
        self._record.append(("truncate", self._number, size))
        return self._file.truncate(size)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()


class Recorded:
    """What was done to the files of a folder; files are numbered, as their names change."""

    def __init__(self, folder):
        self.folder = folder
        self.done = []
        self.content = {number: path.read_bytes() for number, path in enumerate(sorted(folder.iterdir()))}
        self.names = {path.name: number for number, path in enumerate(sorted(folder.iterdir()))}
        self.first_names = dict(self.names)
        self._numbers = {}  # by descriptor

    def _here(self, path):
        return Path(path).parent == self.folder

    def open(self, path, mode="r", *rest, **options):
        file = open(path, mode, *rest, **options)
        if not self._here(path) or not ("+" in mode or "w" in mode or "x" in mode):
            return file
        name = Path(path).name
        if name not in self.names:
            self.names[name] = len(self.content)
            self.content[self.names[name]] = b""
            self.done.append(("name", name, self.names[name], ""))
        self._numbers[file.fileno()] = self.names[name]
        return _File(self.done, file, self.names[name])

    def fsync(self, number):
        if stat.S_ISDIR(os.fstat(number).st_mode):
            self.done.append(("sync names",))
        elif number in self._numbers:
            self.done.append(("sync", self._numbers[number]))

    def replace(self, source, target, *, real=os.replace):
        real(source, target)
        if self._here(target):
            self.names[Path(target).name] = number = self.names.pop(Path(source).name)
            self.done.append(("rename", Path(target).name, number, Path(source).name))

    def unlink(self, path, *rest, real=os.unlink, **options):
        real(path, *rest, **options)
        if self._here(path) and self.names.pop(Path(path).name, None) is not None:
            self.done.append(("no name", Path(path).name))

    @contextlib.contextmanager
    def recording(self):
        with (
            mock.patch.object(journals, "open", self.open, create=True),
            mock.patch.object(files, "open", self.open, create=True),
            mock.patch.object(os, "fsync", self.fsync),
            mock.patch.object(os, "replace", self.replace),
            mock.patch.object(os, "unlink", self.unlink),
        ):
            yield

    def _written(self, number, steps):
        """The content of a file after these steps."""
        content = bytearray(self.content[number])
        for what, *where in steps:
            if what == "truncate":
                del content[where[1] :]
            else:
                content[where[1] : where[1] + len(where[2])] = where[2]
        return bytes(content)

    def crash(self, rng):
        """Return what a crash leaves, as contents by name, and how many records must be in it."""
        done = self.done[: int(rng.integers(len(self.done) + 1))]
        synced = max((at for at, one in enumerate(done) if one[0] == "sync names"), default=-1)
        kept, now = dict(self.first_names), dict(self.first_names)
        all_or_some = rng.random()
        for at, (what, *where) in enumerate(done):
            if what in ("name", "rename", "no name"):
                for names in (now, kept) if at < synced or rng.random() < all_or_some else (now,):
                    names.pop(where[0] if what == "no name" else where[-1], None)
                    names |= {where[0]: where[1]} if what != "no name" else {}
        left = {name: self._left(rng, number, done) for name, number in kept.items()}
        return left, self._promised(now, kept, done)

    def _steps(self, number, done):
        """The steps of a file, and how many of them an fsync forced to the disk."""
        steps, synced = [], 0
        for one in done:
            if one[0] in ("write", "truncate") and one[1] == number:
                steps.append(one)
            elif one == ("sync", number):
                synced = len(steps)
        return steps, synced

    def _left(self, rng, number, done):
        steps, synced = self._steps(number, done)
        base, how = self._written(number, steps[:synced]), rng.random()
        if how < 0.3:
            return base
        whole = self._written(number, steps)
        if how < 0.6:
            return whole
        if how < 0.7:  # its length was forced to the disk, and not its content
            return base[: len(whole)] + bytes(max(0, len(whole) - len(base)))
        some = steps[: int(rng.integers(synced, len(steps) + 1))]
        content = self._written(number, some)
        if len(some) > synced and some[-1][0] == "write":
            content = content[: len(content) - int(rng.integers(len(some[-1][3]) + 1))]
        return content

    def _promised(self, now, kept, done):
        """How many records must be found: those that were forced to the disk; all if the journal was removed."""
        journal = journal_path(self.folder / OUTPUT).name
        removed = journal not in now and ("no name", journal) in done
        numbers = [one[2] for one in done if one[0] in ("name", "rename") and one[1] == journal]
        numbers += [self.first_names[journal]] if journal in self.first_names and not numbers else []
        if not numbers:
            return 0
        steps, synced = self._steps(numbers[-1], done)
        return records(self._written(numbers[-1], steps if removed and journal not in kept else steps[:synced]))


def records(content: bytes) -> int:
    """How many intact records a journal has."""
    lines = [line.partition(b" ") for line in content.split(b"\n")[1:-1]]
    return sum(checksum == b"%08x" % zlib.crc32(document) for checksum, _, document in lines)


def recorded_run(rng, folder: Path) -> Recorded:
    """A sweep from nothing, from the journal of a part with a damaged record, or over an older output."""
    output, how = folder / OUTPUT, rng.random()
    if how < 0.4:
        journal = journal_path(output)
        with mock.patch.object(journals.Journal, "close", lambda self, remove=False: self._file.close()):
            rf.sweep(SPACE, output, workers=1)
        output.unlink()
        lines = journal.read_bytes().splitlines(keepends=True)
        lines[2:3] = [lines[2].replace(b"1", b"2", 1)] if rng.random() < 0.5 else []
        journal.write_bytes(b"".join(lines[: int(rng.integers(2, len(lines) + 1))]))
    elif how < 0.6:
        rf.sweep(SPACE, output, workers=1)
    resume = journal_path(output).exists()
    run = Recorded(folder)
    with (
        run.recording(),
        mock.patch.object(journals, "_SYNC_S", float(rng.choice([-1, 0.002, 10]))),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # of the damaged record
        rf.sweep(SPACE, output, workers=1, resume=resume, overwrite=not resume)
    return run


def numbers(sweep):
    """What a sweep found, but for wall times."""
    records = {key: {k: v for k, v in one.items() if k != "wall_s"} for key, one in sweep.records.items()}
    return json.dumps(records), [getattr(sweep.prices, name).tobytes() for name in ("predicted", "low", "high")]


@functools.cache
def whole():
    """What the uninterrupted sweep found."""
    return numbers(rf.sweep(SPACE))


def check_crash(run: Recorded, rng) -> None:
    """Make a state of a crash, and resume from it."""
    left, promised = run.crash(rng)
    first = []
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for file, content in left.items():
            (Path(name) / file).write_bytes(content)
        output = Path(name) / OUTPUT
        if output.exists():
            rf.load(output)  # whole, whatever it holds
        resume = output.exists() or journal_path(output).exists()
        found = rf.sweep(
            SPACE, output, resume=resume, workers=1, progress=lambda done, total, failed: first.append(done)
        )
        assert numbers(found) == whole(), "the resumed sweep differs"
        assert os.listdir(name) == [OUTPUT], os.listdir(name)
    assert first[0] >= promised, f"{promised} records were on the disk, {first[0]} are found"


def case(seed: int, done: Counter) -> None:
    """A recorded run, and states of crashes in it."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as name:
        run = recorded_run(rng, Path(name))
        for _ in range(STATES):
            check_crash(run, rng)
            done["crash states"] += 1


if __name__ == "__main__":
    sys.exit(run_lane("crash-states", case, short_run=SHORT_RUN))
