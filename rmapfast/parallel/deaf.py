"""Worker processes that leave Ctrl-C to the process that opened their pool."""

import signal
from multiprocessing.context import SpawnContext, SpawnProcess


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
