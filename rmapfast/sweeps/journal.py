"""The journal of a sweep: a line per finished point, so that what was done outlives whatever ends the sweep."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

from rmapfast._version import __version__
from rmapfast.support import check_writable

# Seconds of work that a failing machine may cost; a killed process costs nothing.
_SYNC_S = 1.0


class Journal:
    """Points of a sweep that are done, in a file beside its output.

    The first line says which sweep it is, each further line is one point. The file is locked while the sweep runs.

    Parameters
    ----------
    output : path
        Of the sweep; the journal is ``OUTPUT.journal``.
    """

    def __init__(self, output: str | os.PathLike):
        where = Path(os.path.realpath(output))
        self.path = where.with_name(where.name + ".journal")
        self._file = None
        self._synced = 0.0
        self._empty = True

    def open(self, header: dict, *, resume: bool, overwrite: bool) -> dict[str, dict]:
        """Open the journal and lock it; returns the records of the points that are done, by key.

        Raises
        ------
        ValueError
            If it is the journal of another sweep, or none.
        OSError
            If it cannot be written, is there without `resume` or `overwrite`, or is in use.
        """
        if self.path.exists() and not (resume or overwrite):
            raise FileExistsError(
                errno.EEXIST,
                "An unfinished sweep, resume=True (--resume) goes on with it, overwrite=True (--overwrite) begins anew",
                str(self.path),
            )
        check_writable(self.path, overwrite=True)
        self._file = open(self.path, "r+b" if self.path.exists() else "x+b")
        try:
            self._lock()
            records = {}
            if resume and (text := self._file.read()):
                records, end = self._read(text, header)
                self._file.truncate(end)
                self._file.seek(end)
                self._empty = not records
            else:
                self._file.truncate(0)
            if not self._file.tell():
                self._write(header)
        except BaseException:
            self._file.close()
            raise
        return records

    def _lock(self) -> None:
        try:
            import fcntl

            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # no such locks here: two sweeps into one file are the user's mistake
            pass
        except BlockingIOError:
            raise OSError(errno.EBUSY, "Another sweep is writing it", str(self.path)) from None

    def _read(self, text: bytes, header: dict) -> tuple[dict[str, dict], int]:
        """The records by key, and the end of the last whole line: what stands behind it was torn by a kill."""
        end = text.rfind(b"\n") + 1
        lines = text[:end].splitlines()
        try:
            documents = [json.loads(line) for line in lines]
            if documents:
                check_same(documents[0], header, self.path)
            return {one["key"]: one["record"] for one in documents[1:]}, end
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, SpaceDiffers):
                raise
            raise ValueError(f"{self.path}: no journal of a sweep: {error}; --overwrite begins anew") from None

    def add(self, records: Iterable[tuple[str, dict]]) -> None:
        """Append records of points by key."""
        for key, record in records:
            self._empty = False
            self._write({"key": key, "record": record})

    def _write(self, document: dict) -> None:
        try:
            self._file.write(json.dumps(document).encode() + b"\n")
            self._file.flush()
            if time.monotonic() - self._synced > _SYNC_S:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None

    def close(self, *, finished: bool) -> None:
        """Close the journal; it is removed if its output has it all, or if it holds nothing."""
        if finished or self._empty:
            self.path.unlink(missing_ok=True)
        try:
            self._file.close()
        except OSError:  # what a full disk left in the buffer is a torn record
            pass


class SpaceDiffers(ValueError):
    """Resumed with another space, other inputs or another version."""


def header(space: dict, inputs: dict[str, str]) -> dict:
    """Return what must be equal for a sweep to be resumed."""
    return {"sweep": 1, "rmapfast": __version__, "space": space, "inputs": inputs}


def check_same(found: dict, wanted: dict, path: str | os.PathLike) -> None:
    """Raise SpaceDiffers, naming what differs, unless two headers are of the same sweep."""
    if not isinstance(found, dict) or found.get("sweep") != wanted["sweep"]:
        raise ValueError("its first line is no header")
    if found.get("rmapfast") != wanted["rmapfast"]:
        what = f"by rmapfast {found.get('rmapfast')}, this is {wanted['rmapfast']}"
    elif found.get("space") != wanted["space"]:
        space = found.get("space") or {}
        keys = [*dict.fromkeys([*space, *wanted["space"]])]
        differing = [key for key in keys if space.get(key) != wanted["space"].get(key)]
        what = f"of another space: {', '.join(differing) or 'its axes'} differ"
    elif found.get("inputs") != wanted["inputs"]:
        changed = [name for name in wanted["inputs"] if found["inputs"].get(name) != wanted["inputs"][name]]
        what = f"of other inputs: {', '.join(changed)} changed since"
    else:
        return
    raise SpaceDiffers(f"{path}: cannot be resumed: it was made {what}; --overwrite begins anew")
