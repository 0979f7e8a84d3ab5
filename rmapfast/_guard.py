"""Undoing what was changed outside this process, even if it is killed."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@contextlib.contextmanager
def undone(undo: Callable[[], None]) -> Iterator[None]:
    """Call `undo` when the block ends, however it ends: a child does it should this process be killed in it.

    Parameters
    ----------
    undo : callable
        May run in either process; must only use files and system calls, and do no harm when there is nothing to undo.
    """
    read, write = os.pipe()
    guard = os.fork()
    if guard == 0:
        os.close(write)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        try:
            if not os.read(read, 1):  # the other end was closed without a word: the process is gone
                undo()
        finally:
            os._exit(0)
    os.close(read)
    try:
        yield
    finally:
        try:
            undo()
        finally:
            os.write(write, b".")
            os.close(write)
            os.waitpid(guard, 0)
