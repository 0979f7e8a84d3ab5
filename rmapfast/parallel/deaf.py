"""Worker processes that leave Ctrl-C to the process that opened their pool."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, TypeVar

_Result = TypeVar("_Result")


class DeafProcess(SpawnProcess):
    """A process that does not hear Ctrl-C from its first instruction on, also while it imports."""

    def start(self) -> None:
        """Start it with the signal blocked, which it inherits."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class DeafContext(SpawnContext):
    """Makes such processes. They are spawned: a fork would take over the locks of this process's threads."""

    Process = DeafProcess


class DeafExecutor(ProcessPoolExecutor):
    """A pool of such processes, which start when tasks are submitted."""

    def submit(self, fn: Callable[..., _Result], /, *args: Any, **kwargs: Any) -> Future[_Result]:
        """Submit a task; Ctrl-C waits until the pool knows each process that it started.

        Nobody would tell an unknown one to end, and Python would wait for it at its own end for ever.
        """
        with _ctrl_c_waits():
            return super().submit(fn, *args, **kwargs)


@contextlib.contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Hear Ctrl-C when the block ends. It interrupts the main thread alone.

    To block the signal would not do: another thread hears it then, and Python interrupts the main thread all the same.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    heard: list[tuple[Any, ...]] = []
    signal.signal(signal.SIGINT, lambda *call: heard.append(call))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if heard:
            handler(*heard[0])
