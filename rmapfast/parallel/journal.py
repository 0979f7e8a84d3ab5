"""A journal of finished pieces of work, so that what was done outlives whatever ends the work."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

from rmapfast.support import check_writable

# Seconds of work that a failing machine may cost; a killed process costs nothing.
_SYNC_S = 1.0

_Record = TypeVar("_Record")


class JournalDiffers(ValueError):
    """The journal is of other work of the same kind."""


class Journal(Generic[_Record]):
    """A file of JSON lines: a header that says which work it is of, then one record per finished piece.

    The file is locked while it is open, where the system has such locks. A record is handed to the system at once and
    forced to the disk once a second. A last line without its end was torn by a kill, and is dropped.

    Parameters
    ----------
    path : path
        The file. Symbolic links are followed.
    work : str
        What is journalled, for errors: ``sweep``, ``check``.
    advice : str
        What to do if the file cannot be used, for errors: ``--overwrite begins anew``.
    differs : callable
        Called with the header that was found, as parsed JSON. Returns in words how the work of the file differs from
        the present work, or an empty text if they are the same. Raises ValueError, KeyError or TypeError for a
        line that is not a header of such work.
    parse : callable
        Called with each record that was found, as parsed JSON. Returns what :meth:`open` is to return of it. Raises
        ValueError, KeyError or TypeError for a line that is not a record of such work.

    Examples
    --------
    ::

        journal = Journal(path, "check", advice="name another file", differs=differs, parse=parse)
        done = journal.open(header)
        try:
            for piece in pieces:
                journal.add(run(piece))
        finally:
            journal.close()
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        work: str,
        *,
        advice: str,
        differs: Callable[[Any], str],
        parse: Callable[[Any], _Record],
    ) -> None:
        self.path = Path(os.path.realpath(path))
        self.empty = True
        self._work, self._advice, self._differs, self._parse = work, advice, differs, parse
        self._file: IO[bytes] | None = None
        self._synced = 0.0

    def open(self, header: dict[str, Any], *, anew: bool = False) -> list[_Record]:
        """Open and lock the file, which is made if it is not there.

        Parameters
        ----------
        header : dict
            Says which work this is; written to a file that is empty.
        anew : bool
            Forget what the file holds.

        Returns
        -------
        list
            The records of finished pieces, in the order in which they were added.

        Raises
        ------
        ValueError
            If it is the journal of other work, or no journal. It is left as it was.
        OSError
            If it cannot be written, or is in use.
        """
        check_writable(self.path, overwrite=True)
        file = self._file = open(self.path, "r+b" if self.path.exists() else "x+b")
        try:
            self._lock(file)
            records: list[_Record] = []
            if not anew and (content := file.read()):
                records, end = self._read(content)
                file.truncate(end)
                file.seek(end)
                self.empty = not records
            else:
                file.truncate(0)
            if not file.tell():
                self._write(header)
        except BaseException:
            file.close()
            raise
        return records

    def _lock(self, file: IO[bytes]) -> None:
        try:
            import fcntl
        except ImportError:  # no such locks here: two processes on one file are the user's mistake
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(errno.EBUSY, f"Another {self._work} is writing it", str(self.path)) from None

    def _read(self, content: bytes) -> tuple[list[_Record], int]:
        """Return the records, and the end of the last whole line: what stands behind it was torn by a kill."""
        end = content.rfind(b"\n") + 1
        try:
            documents = [json.loads(line) for line in content[:end].splitlines()]
            if documents and (what := self._differs(documents[0])):
                raise JournalDiffers(f"{self.path}: cannot be resumed: {what}; {self._advice}")
            return [self._parse(one) for one in documents[1:]], end
        except JournalDiffers:
            raise
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self.path}: no journal of a {self._work}: {error}; {self._advice}") from None

    def add(self, record: object) -> None:
        """Append a record, which serialises to JSON.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        self.empty = False
        self._write(record)

    def _write(self, document: object) -> None:
        assert self._file is not None
        try:
            self._file.write(json.dumps(document).encode() + b"\n")
            self._file.flush()
            if time.monotonic() - self._synced > _SYNC_S:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None

    def close(self, *, remove: bool = False) -> None:
        """Close the file, and remove it first if it is no longer needed."""
        if remove:
            self.path.unlink(missing_ok=True)
        if self._file is not None:
            try:
                self._file.close()
            except OSError:  # what a full disk left in the buffer is a torn record
                pass
