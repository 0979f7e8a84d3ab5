"""What an IPI for a TLB flush takes: a page is given back with and without another CPU that runs the mm."""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import threading
import time
from dataclasses import dataclass

import numpy as np

# linux/mman.h
_MADV_DONTNEED = 4
_CALLS = 1000
# What a signal takes at least. Calls that took less than that more than without one caused none.
_LEAST_NS = 300.0


@dataclass(frozen=True)
class Ipi:
    """What the signal to one other CPU adds to a flush, in ns.

    Parameters
    ----------
    low, middle, high : float
        5%, 50% and 95% of the calls that were signalled: those that took 300 ns longer than the median without.
    """

    low: float
    middle: float
    high: float


def measure_ipi() -> Ipi | None:
    """Return what an IPI takes between two of the CPUs that this process may use.

    None if there is only one CPU, or if the other one is too busy.

    Each call gives back one page that was just written, so the kernel flushes it on each CPU that runs this mm. The
    other CPU computes meanwhile, without the interpreter's lock.
    """
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        return None
    stop = threading.Event()
    ready = threading.Event()

    def compute() -> None:
        os.sched_setaffinity(threading.get_native_id(), {cpus[0]})
        ready.set()
        while not stop.is_set():
            hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 20_000)

    own = threading.get_native_id()
    before = os.sched_getaffinity(own)
    other = threading.Thread(target=compute, daemon=True)
    try:
        os.sched_setaffinity(own, {cpus[-1]})
        alone = _call_times()
        other.start()
        ready.wait()
        # Until the thread has begun to compute on its CPU.
        time.sleep(0.05)
        signalled = _call_times()
    finally:
        stop.set()
        if other.is_alive():
            other.join()
        os.sched_setaffinity(own, before)
    # Where something else has the other CPU at the moment, it runs another mm and is not signalled.
    late = np.array([call for call in signalled if call > np.median(alone) + _LEAST_NS])
    if len(late) < _CALLS / 10:
        return None
    return Ipi(*(float(one) for one in np.quantile(late, (0.05, 0.5, 0.95)) - np.median(alone)))


def _call_times() -> list[int]:
    """Nanoseconds of calls that give back a page which was just written."""
    libc = ctypes.CDLL(None, use_errno=True)
    area = mmap.mmap(-1, mmap.PAGESIZE)
    address = np.frombuffer(area, np.uint8).ctypes.data
    arguments = ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), _MADV_DONTNEED
    times = []
    for _ in range(_CALLS):
        area[0] = 1
        start = time.perf_counter_ns()
        libc.madvise(*arguments)
        times.append(time.perf_counter_ns() - start)
    return times
