"""A memory cgroup of one's own, from which the kernel reclaims."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from rmapfast.calibration.machine import CalibrateError

_NAME = "rmapfast-calibrate"


class Memcg:
    """A memory cgroup of version 1 or 2; it is named after this process and exists after :meth:`create`.

    Raises
    ------
    CalibrateError
        If no memory cgroup is mounted.
    """

    def __init__(self) -> None:
        v1, v2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
        if (v1 / "memory.limit_in_bytes").exists() or (v1 / "memory.usage_in_bytes").exists():
            self.parent, self.v1 = v1, True
        elif (v2 / "cgroup.controllers").exists() and "memory" in (v2 / "cgroup.controllers").read_text():
            self.parent, self.v1 = v2, False
        else:
            raise CalibrateError("calibrate: no memory cgroup is mounted at /sys/fs/cgroup or /sys/fs/cgroup/memory")
        self.path = self.parent / f"{_NAME}-{os.getpid()}"

    def create(self) -> None:
        """Make the cgroup."""
        try:
            self.path.mkdir()
        except OSError as error:
            raise CalibrateError(f"{self.path}: cannot be made ({error.strerror}); needs root") from None

    def remove(self) -> None:
        """Move the processes in the cgroup to its parent and remove it, if it is there."""
        # A process that is just being killed cannot be moved, and keeps the group busy until it is gone.
        end = time.monotonic() + 5
        while self.path.exists() and time.monotonic() < end:
            with contextlib.suppress(OSError):
                for pid in (self.path / "cgroup.procs").read_text().split():
                    (self.parent / "cgroup.procs").write_text(pid)
            with contextlib.suppress(OSError):
                self.path.rmdir()
                return
            time.sleep(0.02)

    @property
    def usage(self) -> int:
        """Bytes that are charged to the cgroup."""
        return int((self.path / ("memory.usage_in_bytes" if self.v1 else "memory.current")).read_text())

    def reclaim(self, size: int) -> int:
        """Reclaim so many bytes in one system call; return its CPU time in ns."""
        if self.v1:
            name, text = "memory.limit_in_bytes", str(max(self.usage - size, 0))
        else:
            name, text = "memory.reclaim", str(size)
        file = os.open(self.path / name, os.O_WRONLY)
        try:
            start = time.thread_time_ns()
            # EBUSY or EAGAIN if less was freed than asked for; the caller counts what was freed.
            with contextlib.suppress(OSError):
                os.write(file, text.encode())
            return time.thread_time_ns() - start
        finally:
            os.close(file)
            if self.v1:
                (self.path / "memory.limit_in_bytes").write_text("-1")

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Keep this process in the cgroup during the block, so that the memory it maps is charged there."""
        before = Path("/proc/self/cgroup").read_text()
        match = re.search(r":memory:(.*)" if self.v1 else r"0::(.*)", before)
        back = self.parent / (match[1].lstrip("/") if match else "") / "cgroup.procs"
        (self.path / "cgroup.procs").write_text(str(os.getpid()))
        try:
            yield
        finally:
            target = back if back.exists() else self.parent / "cgroup.procs"
            target.write_text(str(os.getpid()))
