"""Worker processes that leave Ctrl-C to the process that opened their pool."""

import signal
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any


class DeafProcess(SpawnProcess):
    """A process that does not hear Ctrl-C from its first instruction on, also while it imports."""

    def start(self) -> None:
        """Start it with the signal blocked, which it inherits. Ctrl-C is heard here when it runs."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class DeafContext(SpawnContext):
    """Makes such processes. They are spawned: a fork would take over the locks of this process's threads."""

    def __init__(self) -> None:
        super().__init__()
        self._made: list[DeafProcess] = []

    def Process(self, *args: Any, **kwargs: Any) -> DeafProcess:  # type: ignore[override]
        """Make a process, and remember it."""
        self._made.append(DeafProcess(*args, **kwargs))
        return self._made[-1]

    def end_processes(self) -> None:
        """End those that run and wait for them.

        A pool that Ctrl-C reached while it started them does not know them all, and Python would wait for them for ever
        at its end.
        """
        for process in self._made:
            if process.pid is not None and process.is_alive():
                process.terminate()
                process.join()
