"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path


def check_writable(path: str | os.PathLike, *, overwrite: bool) -> Path:
    """Return where a file is to be written (behind symbolic links), before the work whose outcome it is to hold.

    Raises
    ------
    OSError
        If there is a file that may not be overwritten, something that is no file, or no folder to write it into.
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


def write_atomically(path: str | os.PathLike, content: bytes, *, overwrite: bool) -> None:
    """Write a file in one step: a reader, and whoever comes after a failure, sees the old state or the new one."""
    write_together([(path, content)], overwrite=overwrite)


def write_together(files: Iterable[tuple[str | os.PathLike, bytes]], *, overwrite: bool) -> None:
    """Write files, given as (path, content), each in one step; after a failure none of them is new."""
    done: list[tuple[Path, Path]] = []
    new: list[Path] = []
    try:
        for path, content in files:
            where = check_writable(path, overwrite=overwrite)
            # not tempfile, whose files only their owner may read
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
