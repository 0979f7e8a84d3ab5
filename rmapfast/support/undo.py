"""Undoing what was changed outside this process, even if it is killed."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import warnings
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def undone(undo: Callable[[], None]) -> Iterator[None]:
    """Call `undo` when the block ends, however it ends: a child does it should this process be killed in it.

    Parameters
    ----------
    undo : callable
        May run in either process, or in both; must only use files and system calls, and do no harm when there is
        nothing to undo.
    """
    read, write = os.pipe()
    try:
        parent = os.pidfd_open(os.getpid())
    except OSError:  # before Linux 5.3
        parent = -1
    # A signal that raised an exception in the child would let it go on as a second parent.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads; the child takes no lock
            guard = os.fork()
        if guard == 0:
            _watch(read, write, parent, undo)
        # What is sent to a job, SIGKILL too, is not for the child. The parent sets this, so that it
        # holds before the block begins: the child may not have run by then.
        os.setpgid(guard, guard)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield
    finally:
        try:
            undo()
            os.write(write, b".")
        finally:  # if undo() was interrupted the child gets no word, and does it
            for file in (write, read, parent):
                if file >= 0:
                    os.close(file)
            with contextlib.suppress(ChildProcessError):  # where SIGCHLD is ignored
                os.waitpid(guard, 0)


def _watch(read: int, write: int, parent: int, undo: Callable[[], None]) -> None:
    """Wait for a word of the parent, or for its end."""
    try:
        os.close(write)
        # Other children of the parent may hold the pipe open, so its end alone does not tell.
        ready, _, _ = select.select([read] if parent < 0 else [read, parent], [], [])
        if read not in ready or not os.read(read, 1):
            undo()
    finally:
        os._exit(0)
