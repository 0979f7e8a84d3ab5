"""Atomic writing of files: a reader sees a whole file or none."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

from rmapfast.support.arguments import checked_boolean, checked_path


def open_regular(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Open a regular file for reading.

    Raises
    ------
    OSError
        If it cannot be read, or is something else: a pipe or a device may block, and never end.
    """
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    mode = os.fstat(number).st_mode
    if not stat.S_ISREG(mode):
        os.close(number)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "Is a directory", os.fspath(path))
        raise OSError(errno.EINVAL, "Not a regular file", os.fspath(path))
    return os.fdopen(number, "rb")


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a regular file; errors are those of :func:`open_regular`."""
    with open_regular(path) as file:
        return file.read()


def check_apart(outputs: Mapping[str, str | os.PathLike[str]], inputs: Iterable[str | os.PathLike[str]]) -> None:
    """Check that no output would replace an input, nor another output.

    Parameters
    ----------
    outputs : mapping
        Paths by what they are called in the error, such as ``--plot``.
    inputs : iterable of paths
        Those that do not exist are passed over.

    Raises
    ------
    ValueError
        If two are the same file; the message names both.
    """
    seen: dict[object, str] = {}
    for path in inputs:
        with contextlib.suppress(OSError, ValueError):
            found = os.stat(path)
            seen[found.st_dev, found.st_ino] = f"the input {os.fspath(path)}"
    for name, path in outputs.items():
        where = os.path.realpath(path)
        keys: list[object] = [where]
        with contextlib.suppress(OSError):
            keys.append(((found := os.stat(where)).st_dev, found.st_ino))
        if other := next((seen[key] for key in keys if key in seen), None):
            raise ValueError(f"{name}: {os.fspath(path)}: expected a file of its own, got {other}")
        seen |= dict.fromkeys(keys, name)


def check_writable(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """Check that a file may be written, and return its path with symbolic links resolved.

    Call it before a long computation, so that a bad path is reported at once.

    Raises
    ------
    OSError
        If the file exists and `overwrite` is False, if the path is something else than a regular file, or if its
        folder does not exist.
    """
    checked_boolean("overwrite", overwrite)
    where = Path(os.path.realpath(checked_path("path", path)))
    if where.exists():
        if not where.is_file():
            raise OSError(errno.EINVAL, "Not a regular file", str(path))
        if not overwrite:
            raise FileExistsError(errno.EEXIST, "File exists, overwrite=True (--overwrite) replaces it", str(path))
    if not where.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "No folder for this file", str(path))
    return where


def lock_file(file: IO[bytes], path: Path) -> bool:
    """Lock an open file until it is closed.

    Returns False if somebody else has locked it, or if another file is at the path by now. Where the system has no such
    locks, two processes on one file are the user's mistake.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except (BlockingIOError, FileNotFoundError):
        return False


def _remove_leftovers(where: Path) -> None:
    """Remove the files that processes which were killed left beside `where`: nobody has locked them."""
    name = re.compile(re.escape(f".{where.name[:100]}.") + "[0-9a-f]{8}")
    for path in where.parent.iterdir():
        if name.fullmatch(path.name):
            with contextlib.suppress(OSError), open(path, "r+b") as file:
                if lock_file(file, path):
                    path.unlink()


@contextlib.contextmanager
def replace_file(where: Path) -> Iterator[tuple[IO[bytes], Callable[[], None]]]:
    """Make an empty file beside `where`, which the block fills and then puts into its place.

    The file is locked until the block closes it. It is removed if it is not in its place at the end of the block, or,
    if this process is killed, when the next one writes to the same place. The tempfile module is not used: only the
    owner could read its files.

    Yields
    ------
    file, function
        The open file, and what forces its content to the disk and puts it into its place.
    """
    _remove_leftovers(where)
    while True:
        temporary = where.with_name(f".{where.name[:100]}.{os.urandom(4).hex()}")
        file = open(temporary, "x+b")
        if lock_file(file, temporary):
            break
        file.close()  # another process took it for a leftover

    def take_place() -> None:
        file.flush()
        os.fsync(file.fileno())
        os.replace(temporary, where)
        sync_folder(where.parent)

    try:
        yield file, take_place
    except BaseException:
        file.close()
        raise
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Force the names of a folder to the disk: what is removed next must not be gone before they are there.

    fsync() of a file is not enough, says POSIX: a machine that fails may forget the name of a new file.
    """
    folder = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # of file systems that cannot
            os.fsync(folder)
    finally:
        os.close(folder)


def write_atomically(path: str | os.PathLike[str], content: bytes, *, overwrite: bool) -> None:
    """Write a file in one step; readers see the old file or the new one, also after a failure."""
    write_together([(path, content)], overwrite=overwrite)


def write_together(files: Iterable[tuple[str | os.PathLike[str], bytes]], *, overwrite: bool) -> None:
    """Write several files, given as (path, content), each in one step.

    After a failure, files that did not exist before do not exist. Files that existed hold their old or new content.
    """
    new: list[Path] = []
    path: str | os.PathLike[str] = ""
    with contextlib.ExitStack() as temporaries:
        try:
            places: list[tuple[Path, Callable[[], None]]] = []
            for path, content in files:
                where = check_writable(path, overwrite=overwrite)
                file, take_place = temporaries.enter_context(replace_file(where))
                temporaries.callback(file.close)
                places.append((where, take_place))
                file.write(content)
            for where, take_place in places:
                path = where
                if not where.exists():
                    new.append(where)
                take_place()
        except BaseException as error:
            for where in new:
                where.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise OSError(error.errno, error.strerror, str(path)) from None
            raise
