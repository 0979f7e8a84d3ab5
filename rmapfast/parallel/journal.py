"""A journal of finished pieces of work, so that what was done outlives whatever ends the work."""

from __future__ import annotations

import errno
import json
import os
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

from rmapfast.support import check_writable, lock_file, replace_file, sync_folder

# Seconds of work that a failing machine may cost; a killed process costs nothing.
_SYNC_S = 1.0
# What a damaged record may raise while it is read.
_DAMAGES = (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError)

_Record = TypeVar("_Record")


class JournalDiffers(ValueError):
    """The journal is of other work of the same kind."""


class Journal(Generic[_Record]):
    """A file of lines: a header that says which work it is of, then one record per finished piece.

    The header is a JSON document. A record is its CRC-32 in eight hexadecimal digits, a space and a JSON document. The
    file is locked while it is open, where the system has such locks. A record is handed to the system at once and
    forced to the disk once a second. One that does not fit its checksum, or that is no record of such work, is dropped
    with a warning. The intact ones are kept, in a new file that takes the place of the damaged one in one step.

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
        ValueError, KeyError or TypeError for what is not a record of such work.

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
        try:
            self._file = self._opened()
            records: list[_Record] = []
            content = b"" if anew else self._file.read()
            if content:
                records, intact = self._read(content)
                self.empty = not records
                if intact != content:
                    self._rewrite(intact)
                self._file.seek(len(intact))
            else:
                self._file.truncate(0)
            if not self._file.tell():
                self._write(_line(header))
        except BaseException:
            self.close()
            raise
        return records

    def _opened(self) -> IO[bytes]:
        """Open and lock the file."""
        try:
            file = open(self.path, "r+b")
        except FileNotFoundError:
            file = open(self.path, "x+b")
            sync_folder(self.path.parent)
        if lock_file(file, self.path):
            return file
        file.close()
        raise OSError(errno.EBUSY, f"Another {self._work} is writing it", str(self.path))

    def _rewrite(self, content: bytes) -> None:
        """Put a file with this content in place of the one that is open, in one step. It is locked before that."""
        assert self._file is not None
        damaged = self._file
        with replace_file(self.path) as (file, take_place):
            file.write(content)
            take_place()
        self._file = file
        damaged.close()

    def _read(self, content: bytes) -> tuple[list[_Record], bytes]:
        """Return the records, and the content without what is damaged or was torn by a kill."""
        head, *lines = content.split(b"\n")[:-1] or [b""]
        try:
            if head and (what := self._differs(json.loads(head))):
                raise JournalDiffers(f"{self.path}: cannot be resumed: {what}; {self._advice}")
        except JournalDiffers:
            raise
        except _DAMAGES as error:
            raise ValueError(f"{self.path}: no journal of a {self._work}: {error}; {self._advice}") from None
        records, intact = [], [head]
        for line in lines:
            try:
                records.append(self._parse(_document(line)))
            except _DAMAGES:
                continue
            intact.append(line)
        if len(records) < len(lines):
            warnings.warn(
                f"{self.path}: {len(lines) - len(records)} of {len(lines)} records are damaged; what they held is done"
                " again",
                stacklevel=4,
            )
        return records, b"".join(line + b"\n" for line in intact if line)

    def add(self, record: object) -> None:
        """Append a record, which serialises to JSON.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        self.empty = False
        document = _line(record)
        self._write(b"%08x %s" % (zlib.crc32(document[:-1]), document))

    def _write(self, line: bytes) -> None:
        assert self._file is not None
        try:
            self._file.write(line)
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


def _line(document: object) -> bytes:
    return json.dumps(document).encode() + b"\n"


def _document(line: bytes) -> Any:
    """Return the JSON document of a record.

    Raises
    ------
    ValueError
        If the line does not fit its checksum.
    """
    checksum, _, document = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(document):
        raise ValueError("the record does not fit its checksum")
    return json.loads(document)
