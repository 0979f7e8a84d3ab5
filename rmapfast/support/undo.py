"""Undoing changes outside this process, even if this process is killed."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def undone(undo: Callable[[], None]) -> Iterator[None]:
    """Call `undo` when the block ends, however it ends.

    A child process waits for the end of the block. It calls `undo` if this process is killed.

    Parameters
    ----------
    undo : callable
        Called in this process, in the child, or in both. It must use files and system calls only, and must do no harm
        if there is nothing to undo.
    """
    import signal  # an import of 0.7 ms, for a function that few runs call

    read, write = os.pipe()
    try:
        parent = os.pidfd_open(os.getpid())
    except OSError:  # before Linux 5.3
        parent = -1
    # Signals are blocked: one that raises an exception in the child would make it run the block as well.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # about threads: the child takes no lock
            child = os.fork()
        if child == 0:
            _watch(read, write, parent, undo)
        # A signal to the job of the parent, SIGKILL too, must not reach the child. The parent sets its group, so that
        # this holds before the block begins: the child may not have run by then.
        os.setpgid(child, child)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield
    finally:
        try:
            undo()
            os.write(write, b".")
        finally:  # if undo() was interrupted, the child is not told of it and calls undo() itself
            for file in (write, read, parent):
                if file >= 0:
                    os.close(file)
            with contextlib.suppress(ChildProcessError):  # where SIGCHLD is ignored
                os.waitpid(child, 0)


def _watch(read: int, write: int, parent: int, undo: Callable[[], None]) -> None:
    """Wait until the parent writes or ends; in the second case call `undo`."""
    import select

    try:
        os.close(write)
        # The end of the pipe alone does not tell: other children of the parent may hold it open.
        ready, _, _ = select.select([read] if parent < 0 else [read, parent], [], [])
        if read not in ready or not os.read(read, 1):
            undo()
    finally:
        os._exit(0)
