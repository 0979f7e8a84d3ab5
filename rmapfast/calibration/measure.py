"""Reclaims of mappings of our own: the kernel's CPU time, and the events that the model counts for them.

Each case maps some memory that is charged to a memory cgroup, captures it, and has the kernel reclaim 80% of it in one
system call, whose CPU time is measured. The model reclaims the capture.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import mmap
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rmapfast.arch import Arch
from rmapfast.calibration.cases import ReclaimCase
from rmapfast.calibration.machine import CalibrateError, readahead_setting
from rmapfast.calibration.memcg import Memcg
from rmapfast.calibration.userfaultfd import Userfaultfd
from rmapfast.captures import capture_of_ranges
from rmapfast.editions import preset_of
from rmapfast.events import EVENT_NAMES
from rmapfast.flags import MmFlag
from rmapfast.loop import reclaim
from rmapfast.population import Population
from rmapfast.support import lock_file, undone

MIB = 1 << 20
# Bytes of a case: enough that the call takes milliseconds, few enough that two dozen cases take seconds.
SIZE = 64 * MIB
# Bytes of a case whose file is read page by page, which takes long.
SIZE_ORDER_0 = 16 * MIB
# Turns over all cases.
REPEATS = 7
# Seconds after which no further turn begins, if there were two.
ENOUGH_S = 40.0
# Part of a case that is reclaimed.
SHARE = 0.8

# linux/mman.h. madvise() is called through ctypes, as mmap.madvise() counts from the start of its mapping.
_MADV_FREE, _MADV_HUGEPAGE = 8, 14

# A program that joins the cgroup and reads a file, so that the file's page cache is charged there.
_READER = (
    "import os, sys\n"
    "open(sys.argv[1], 'w').write(str(os.getpid()))\n"
    "file = os.open(sys.argv[2], os.O_RDONLY)\n"
    "if sys.argv[3] == '4096': os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)\n"
    "for _ in range(int(sys.argv[4]) // int(sys.argv[3])): os.read(file, int(sys.argv[3]))\n"
)


@dataclass(frozen=True, eq=False)
class Measurement:
    """A case with what the kernel took and what the model counts for it.

    Parameters
    ----------
    case : ReclaimCase
    ns : float
        CPU time in ns per reclaimed page, the minimum of the repeats.
    ns_all : list of float
        The same of each repeat.
    counts : ndarray of float64, shape (len(EVENT_NAMES),)
        Events per reclaimed page, by the model.
    orders : dict of str to int
        Folios by order, as the capture shows them.
    predicted : float
        ns per page that the fitted vector gives; NaN before the fit.
    interval : tuple of float
        Bounds of the 90% interval of that.
    """

    case: ReclaimCase
    ns: float
    ns_all: list[float]
    counts: npt.NDArray[np.float64] = field(repr=False)
    orders: dict[str, int] = field(default_factory=dict)
    predicted: float = math.nan
    interval: tuple[float, float] = (math.nan, math.nan)

    @property
    def error(self) -> float:
        """Relative error of the prediction."""
        return self.predicted / self.ns - 1


@dataclass(frozen=True)
class Setup:
    """What the cases need; :func:`set_up` makes it and puts everything back.

    Parameters
    ----------
    path : Path
        A file of random bytes to be mapped.
    memcg : Memcg
    readahead : Path
        File in /sys that holds the readahead window of the disk, in KiB.
    """

    path: Path
    memcg: Memcg
    readahead: Path

    @contextlib.contextmanager
    def mapped_file(self, case: ReclaimCase, size: int) -> Iterator[Population]:
        """Map a file as a case says, and yield the population that a capture of it shows."""
        self._fill_cache(case.window_kb, size)
        with open(self.path, "rb") as file, contextlib.ExitStack() as stack:
            nr = max(case.mappings, 1)
            maps = [stack.enter_context(mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ)) for _ in range(nr)]
            for each in maps:
                # No readahead around what is cached already, and no references left by munmap().
                each.madvise(mmap.MADV_RANDOM)
                np.frombuffer(each, np.uint8)[:: mmap.PAGESIZE].sum()
            population = capture_ranges([_range_of(each) for each in maps])
            if case.mappings == 0:
                population = _unmapped(population)
                for each in maps:
                    each.close()
            yield population

    def _fill_cache(self, window_kb: int, size: int) -> None:
        """Read the file into the page cache in folios of the orders that a readahead window makes."""
        self.readahead.write_text(str(max(window_kb, 4)))
        file = os.open(self.path, os.O_RDONLY)
        try:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            if window_kb == 0:
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
        finally:
            os.close(file)
        step = 4096 if window_kb == 0 else 1 << 17
        words = [str(self.memcg.path / "cgroup.procs"), str(self.path), str(step), str(size)]
        # in a group of its own: Ctrl-C ends it through its parent. Its file may be gone a moment before it is.
        reader = [sys.executable, "-S", "-E", "-c", _READER, *words]
        done = subprocess.run(reader, check=False, process_group=0, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            why = done.stderr.strip().rpartition("\n")[2]
            raise CalibrateError(f"calibrate: {self.path} could not be read into the page cache: {why}")

    @contextlib.contextmanager
    def lazyfree(self, case: ReclaimCase, size: int) -> Iterator[Population]:
        """Make lazyfree folios of 2 MiB with batches of a length, and yield the population that a capture shows."""
        with self.memcg.inside():
            # Large enough to hold `size` bytes that begin at a border of 2 MiB.
            area = mmap.mmap(-1, size + 2 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            start = -(-_range_of(area)[0] // (2 * MIB)) * 2 * MIB
            libc = ctypes.CDLL(None, use_errno=True)
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), _MADV_HUGEPAGE)
            ctypes.memset(start, 1, size)
            # Before the PMDs are split: MADV_FREE splits a folio whose PTEs it cannot take as one batch.
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), _MADV_FREE)
        uffd = Userfaultfd()
        try:
            uffd.register(start, size)
            page = mmap.PAGESIZE
            if case.batch < 512:
                for at in range(case.batch * page, size, 2 * case.batch * page):
                    uffd.protect(start + at, case.batch * page, True)
            else:
                # Split the PMD, and make its PTEs equal again.
                for at in range(0, size, 2 * MIB):
                    uffd.protect(start + at, page, True)
                    uffd.protect(start + at, page, False)
            yield capture_ranges([(start, size)])
        finally:
            uffd.close()
            area.close()


@contextlib.contextmanager
def set_up(folder: Path) -> Iterator[Setup]:
    """Make a file, a memory cgroup and a readahead setting; undo all at the end, also if this process is killed.

    Raises
    ------
    CalibrateError
        If there is no such folder, its disk has no readahead setting or is being calibrated, or there are no memory
        cgroups.
    """
    if not folder.is_dir():
        raise CalibrateError(f"folder: {folder} is no folder")
    readahead = readahead_setting(folder)
    # Two at once would put back what the other one has set. The child of undone() has the lock until all is undone.
    with open(readahead, "r+b") as setting:
        if not lock_file(setting, readahead):
            raise CalibrateError(f"folder: another calibration is at work on the disk of {folder}")
        yield from _set_up(folder, readahead)


def _set_up(folder: Path, readahead: Path) -> Iterator[Setup]:
    path = folder.resolve() / f".rmapfast-calibrate-{os.getpid()}"
    memcg = Memcg()
    window = readahead.read_text().strip()
    cpus = os.sched_getaffinity(0)

    def undo() -> None:
        with contextlib.suppress(OSError):
            readahead.write_text(window)
        with contextlib.suppress(OSError):
            path.unlink()
        memcg.remove()

    with undone(undo), contextlib.ExitStack() as stack:
        # A process that has run on another CPU is flushed there too, by an IPI of 0.5 to 25 us.
        stack.callback(os.sched_setaffinity, 0, cpus)
        os.sched_setaffinity(0, {max(cpus)})
        memcg.create()
        with open(path, "wb") as file:
            block = os.urandom(MIB)
            for _ in range(SIZE // MIB):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        yield Setup(path, memcg, readahead)


def measure_cases(
    setup: Setup, cases: list[ReclaimCase], arch: Arch, say: Callable[[str], None]
) -> dict[ReclaimCase, Measurement]:
    """Measure each case several times and simulate its fastest reclaim.

    The repeats go in turns over all cases, so that a slow moment of the machine slows every case.

    Raises
    ------
    CalibrateError
        If the kernel reclaimed nothing of a case.
    """
    fastest: dict[ReclaimCase, Measurement] = {}
    ns_all: dict[ReclaimCase, list[float]] = {case: [] for case in cases}
    start = time.monotonic()
    for turn in range(REPEATS):
        if turn >= 2 and time.monotonic() - start > ENOUGH_S * turn / (turn + 1):
            break
        for case in cases:
            say(f"measuring, turn {turn + 1} of {REPEATS}: {case}")
            size = SIZE if case.kind == "lazyfree" or case.window_kb else SIZE_ORDER_0
            prepare = setup.mapped_file if case.kind == "file" else setup.lazyfree
            with prepare(case, size) as population:
                before = setup.memcg.usage
                call_ns = setup.memcg.reclaim(int(size * SHARE))
                freed = (before - setup.memcg.usage) >> population.page_shift
            if freed <= 0:
                continue
            ns = call_ns / freed
            ns_all[case].append(ns)
            if ns == min(ns_all[case]):
                orders = population.describe()["orders"]
                counts = _simulated(population, freed, arch, setup.memcg)
                fastest[case] = Measurement(case, ns, ns_all[case], counts, orders)
    for case in cases:
        if case not in fastest:
            raise CalibrateError(f"calibrate: the kernel reclaimed nothing of: {case}")
    return fastest


def _simulated(population: Population, freed: int, arch: Arch, memcg: Memcg) -> npt.NDArray[np.float64]:
    """Reclaim as many pages from a captured population; return the events per page."""
    result = reclaim(
        population, freed << population.page_shift, policy=preset_of(platform.release()), arch=arch, in_place=True
    )
    counts = result.events.counts / max(result.reclaimed_pages, 1)
    # Lowering memory.limit_in_bytes asks for 32 pages at a time.
    if memcg.v1:
        counts[EVENT_NAMES.index("reclaim_rounds")] = counts[EVENT_NAMES.index("isolation_calls")]
    return counts


def _range_of(area: mmap.mmap) -> tuple[int, int]:
    """Return the address and the size of a mapping."""
    return np.frombuffer(area, np.uint8).ctypes.data, len(area)


def capture_ranges(ranges: list[tuple[int, int]]) -> Population:
    """Capture ranges of this process, as a process outside the cgroup that runs on the reclaiming CPU alone."""
    population = Population.from_captures([capture_of_ranges(os.getpid(), ranges)])
    population.mm_flags |= np.uint32(MmFlag.OUTSIDE_MEMCG)
    population.mm_cpumask[:] = 1
    return population


def _unmapped(population: Population) -> Population:
    """Return page cache in folios of the same orders that nothing maps."""
    orders = population.describe()["orders"]
    weights = {int(order): count << int(order) for order, count in orders.items()}
    return Population.synthetic(population.nr_pages << population.page_shift, orders=weights, mapped=0.0)
