"""Atomic writing of files: a reader sees a whole file or none."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path


def check_writable(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """Check that a file may be written, and return its path with symbolic links resolved.

    Call it before a long computation, so that a bad path is reported at once.

    Raises
    ------
    OSError
        If the file exists and `overwrite` is False, if the path is something else than a regular file, or if its
        folder does not exist.
    """
    where = Path(os.path.realpath(path))
    if where.exists():
        if not where.is_file():
            raise OSError(errno.EINVAL, "Not a regular file", str(path))
        if not overwrite:
            raise FileExistsError(errno.EEXIST, "File exists, overwrite=True (--overwrite) replaces it", str(path))
    if not where.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "No folder for this file", str(path))
    return where


def write_atomically(path: str | os.PathLike[str], content: bytes, *, overwrite: bool) -> None:
    """Write a file in one step; readers see the old file or the new one, also after a failure."""
    write_together([(path, content)], overwrite=overwrite)


def write_together(files: Iterable[tuple[str | os.PathLike[str], bytes]], *, overwrite: bool) -> None:
    """Write several files, given as (path, content), each in one step.

    After a failure, files that did not exist before do not exist. Files that existed hold their old or new content.
    """
    done: list[tuple[Path, Path]] = []
    new: list[Path] = []
    path: str | os.PathLike[str]
    try:
        for path, content in files:
            where = check_writable(path, overwrite=overwrite)
            # The tempfile module is not used: only the owner could read its files.
            temporary = where.with_name(f".{where.name[:100]}.{os.urandom(4).hex()}")
            done.append((temporary, where))
            with open(temporary, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for temporary, where in done:
            path = where
            if not where.exists():
                new.append(where)
            os.replace(temporary, where)
    except BaseException as error:
        for where in new:
            where.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
    finally:
        for temporary, _ in done:
            temporary.unlink(missing_ok=True)
