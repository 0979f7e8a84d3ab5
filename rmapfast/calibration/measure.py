"""Costs of the kernel that is running: real reclaims of mappings of our own, measured, simulated and fitted.

Each case maps some memory in a memory cgroup of its own, captures it, and has the kernel reclaim 80% of it in one
system call, whose CPU time is measured. The model reclaims the capture, and the costs are fitted to all cases.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import platform
import random
import re
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rmapfast import arch as _arch
from rmapfast.arch import Arch
from rmapfast.calibration.fitting import fit_costs
from rmapfast.captures import capture_of_ranges
from rmapfast.cost import Cost, CostVector
from rmapfast.editions import preset_of
from rmapfast.events import EVENT_NAMES
from rmapfast.flags import MmFlag
from rmapfast.loop import reclaim
from rmapfast.population import Population
from rmapfast.provenance import provenance
from rmapfast.support import undone

MIB = 1 << 20
# Of each case: large enough that the call takes milliseconds, small enough that two dozen take seconds.
_SIZE = 64 * MIB
# Page by page takes long to read.
_SIZE_ORDER_0 = 16 * MIB
_REPEATS = 7
# After so many seconds no further turn is begun, if there were two.
_ENOUGH_S = 40.0
_SHARE = 0.8
# Relative error of a case that any equally good vector may have: the minima of a few repeats.
_SCATTER = 0.05
_CGROUP = "rmapfast-calibrate"

# linux/mman.h, linux/userfaultfd.h
_MADV_FREE, _MADV_HUGEPAGE = 8, 14  # for ctypes: mmap.madvise() counts from the start of its mapping
_UFFD_API, _UFFDIO_API, _UFFDIO_REGISTER, _UFFDIO_WRITEPROTECT = 0xAA, 0xC018AA3F, 0xC020AA00, 0xC018AA06
_UFFD_FEATURE_PAGEFAULT_FLAG_WP, _UFFDIO_REGISTER_MODE_WP, _UFFDIO_WRITEPROTECT_MODE_WP = 1, 2, 1
_SYS_USERFAULTFD = {"x86_64": 323, "aarch64": 282, "riscv64": 282, "s390x": 355}


class CalibrateError(ValueError):
    """Something that a calibration needs is missing."""


@dataclass(frozen=True)
class Case:
    """One measurement: a mapping and how it is reclaimed.

    Parameters
    ----------
    kind : {'file', 'lazyfree'}
    window_kb : int
        Readahead window of a file, which decides its folio orders; 0 reads page by page.
    mappings : int
        How often a file is mapped, by a process outside the cgroup (whose references do not count).
    batch : int
        Length to which PTE batches of lazyfree 2 MiB folios are cut.
    """

    kind: str
    window_kb: int = 0
    mappings: int = 1
    batch: int = 0

    def __str__(self):
        if self.kind == "lazyfree":
            return f"lazyfree, batches of {self.batch}"
        return f"file, window {self.window_kb}K, {self.mappings} mapping{'s' * (self.mappings != 1)}"


@dataclass
class Measurement:
    """A case with what the kernel took and what the model counts for it.

    Parameters
    ----------
    case : Case
    ns : float
        CPU time per reclaimed page, minimum of the repeats.
    ns_all : list of float
        Of each repeat.
    counts : ndarray, shape (len(EVENT_NAMES),)
        Events per reclaimed page, by the model.
    orders : dict of int to int
        Folios by order, as the capture shows them.
    predicted : float or None
        ns per page that the fitted vector gives.
    """

    case: Case
    ns: float
    ns_all: list[float]
    counts: np.ndarray = field(repr=False)
    orders: dict[int, int] = field(default_factory=dict)
    predicted: float | None = None

    @property
    def error(self) -> float:
        """Relative error of the prediction."""
        return self.predicted / self.ns - 1


@dataclass
class Calibration:
    """Costs of the running kernel and how well they explain its reclaims.

    Parameters
    ----------
    arch : Arch
        The architecture with the fitted cost vector; :meth:`Arch.to_toml` is what ``-o`` writes.
    fitted, held_back : list of Measurement
        Cases that the fit used, and cases that it did not.
    not_measured : list of str
        What could not be measured, and why.
    seconds : float
    provenance : dict
    """

    arch: Arch
    fitted: list[Measurement]
    held_back: list[Measurement]
    not_measured: list[str]
    seconds: float
    provenance: dict

    def to_dict(self) -> dict:
        """Return the calibration as a dict that serialises to JSON."""

        def row(one):
            return {
                "case": str(one.case),
                "orders": one.orders,
                "ns_per_page": one.ns,
                "repeats": one.ns_all,
                "predicted_ns_per_page": one.predicted,
                "error": one.error,
            }

        return {
            "provenance": self.provenance,
            "costs": self.arch.cost_vector.to_dict(),
            "fitted": [row(one) for one in self.fitted],
            "held_back": [row(one) for one in self.held_back],
            "not_measured": self.not_measured,
            "seconds": self.seconds,
        }


FILES = [Case("file", window, 1) for window in (0, 16, 64, 256, 2048)]
UNMAPPED = [Case("file", window, 0) for window in (0, 16, 64, 256, 2048)]
SEVERAL = [Case("file", 64, 2), Case("file", 2048, 2), Case("file", 64, 4)]
LAZYFREE = [Case("lazyfree", batch=batch) for batch in (512, 64, 8, 2, 1)]


def _held_back_cases(number: int, seed: int) -> list[Case]:
    """Cases that the fit does not use: other windows, numbers of mappings and lengths."""
    windows, lengths = (32, 128, 512, 1024), (4, 16, 32, 128, 256)
    all_cases = [Case("file", window, mappings) for window in windows for mappings in (0, 1, 2, 3)]
    all_cases += [Case("lazyfree", batch=batch) for batch in lengths]
    return random.Random(seed).sample(all_cases, min(number, len(all_cases)))


def calibrate(
    *,
    hold_back: int = 0,
    folder: str | os.PathLike = ".",
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Calibration:
    """Measure the running kernel and fit the costs of its architecture (Linux, root; under a minute).

    Parameters
    ----------
    hold_back : int
        Measure so many further reclaims that the fit does not use, and predict them.
    folder : path
        Where files to be mapped are made, on a disk whose filesystem the costs are for.
    seed : int
        Of the choice of held-back cases.
    progress : callable, optional
        Called with a line of text.

    Returns
    -------
    Calibration

    Raises
    ------
    CalibrateError
        If a thing that is needed is missing; the message says which.
    """
    start = time.monotonic()
    base = _base_arch()
    say = progress or (lambda text: None)
    not_measured: list[str] = []
    held = _held_back_cases(hold_back, seed)
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(_lab(Path(folder)))
        cases = [*UNMAPPED, *FILES, *SEVERAL]
        if reason := _no_userfaultfd():
            not_measured.append(f"lazyfree folios with batches cut to a length: {reason}")
            held = [case for case in held if case.kind == "file"]
        else:
            cases += LAZYFREE
        measured = lab.measure([*cases, *held], base, say)
    fitted, held_back = [measured[case] for case in cases], [measured[case] for case in held]
    vector = _fit_vector(fitted, base)
    for one in (*fitted, *held_back):
        one.predicted = float(one.counts @ vector.values)
    not_measured += [
        "reference checks (the mapping process is outside the cgroup): costs as they were",
        "TLB flushes of other CPUs (IPIs): the mapping process runs on one CPU",
        "swap-out: nothing is swapped",
    ]
    return Calibration(
        arch=base.replace(name=platform.node() or "this-machine", costs=vector),
        fitted=fitted,
        held_back=held_back,
        not_measured=not_measured,
        seconds=time.monotonic() - start,
        provenance=provenance(hold_back=hold_back, seed=seed, kernel=platform.release()),
    )


def _base_arch() -> Arch:
    if sys.platform != "linux":
        raise CalibrateError("calibrate: needs Linux")
    if os.geteuid() != 0:
        raise CalibrateError("calibrate: needs root (memory cgroups, page frame numbers, readahead settings)")
    try:
        return _arch.of_machine(platform.machine(), os.sysconf("SC_PAGE_SIZE"))
    except ValueError as error:
        raise CalibrateError(f"calibrate: {error}") from None


# What is measured


@contextlib.contextmanager
def _lab(folder: Path) -> Iterator[_Lab]:
    """A file, a memory cgroup and a readahead setting, all undone at the end, also if this process is killed."""
    if not folder.is_dir():
        raise CalibrateError(f"folder: {folder} is no folder")
    path = folder.resolve() / f".rmapfast-calibrate-{os.getpid()}"
    readahead = _readahead_setting(folder)
    memcg = _Memcg()
    window = readahead.read_text().strip()

    cpus = os.sched_getaffinity(0)

    def undo():
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
            for _ in range(_SIZE // MIB):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        yield _Lab(path, memcg, readahead)


def _readahead_setting(folder: Path) -> Path:
    device = os.stat(folder).st_dev
    setting = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    if not setting.exists():
        raise CalibrateError(f"folder: {folder} is on no disk with a readahead setting ({setting}); choose another")
    return setting


class _Memcg:
    """A memory cgroup of version 1 or 2."""

    def __init__(self):
        v1, v2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
        if (v1 / "memory.limit_in_bytes").exists() or (v1 / "memory.usage_in_bytes").exists():
            self.parent, self.v1 = v1, True
        elif (v2 / "cgroup.controllers").exists() and "memory" in (v2 / "cgroup.controllers").read_text():
            self.parent, self.v1 = v2, False
        else:
            raise CalibrateError("calibrate: no memory cgroup is mounted at /sys/fs/cgroup or /sys/fs/cgroup/memory")
        self.path = self.parent / f"{_CGROUP}-{os.getpid()}"

    def create(self) -> None:
        try:
            self.path.mkdir()
        except OSError as error:
            raise CalibrateError(f"{self.path}: cannot be made ({error.strerror}); needs root") from None

    def remove(self) -> None:
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
        return int((self.path / ("memory.usage_in_bytes" if self.v1 else "memory.current")).read_text())

    def reclaim(self, size: int) -> int:
        """Reclaim so many bytes in one system call; returns its CPU time in ns."""
        if self.v1:
            name, text = "memory.limit_in_bytes", str(max(self.usage - size, 0))
        else:
            name, text = "memory.reclaim", str(size)
        file = os.open(self.path / name, os.O_WRONLY)
        try:
            start = time.thread_time_ns()
            with contextlib.suppress(OSError):  # EBUSY, EAGAIN: what was freed is seen from the pages
                os.write(file, text.encode())
            return time.thread_time_ns() - start
        finally:
            os.close(file)
            if self.v1:
                (self.path / "memory.limit_in_bytes").write_text("-1")

    @contextlib.contextmanager
    def inside(self):
        """Keep this process in the cgroup meanwhile, so that what it maps is charged there."""
        before = Path("/proc/self/cgroup").read_text()
        pattern = r":memory:(.*)" if self.v1 else r"0::(.*)"
        match = re.search(pattern, before)
        back = self.parent / (match[1].lstrip("/") if match else "") / "cgroup.procs"
        (self.path / "cgroup.procs").write_text(str(os.getpid()))
        try:
            yield
        finally:
            target = back if back.exists() else self.parent / "cgroup.procs"
            target.write_text(str(os.getpid()))


class _Lab:
    def __init__(self, path: Path, memcg: _Memcg, readahead: Path):
        self.path, self.memcg, self.readahead = path, memcg, readahead

    def measure(self, cases: list[Case], arch: Arch, say) -> dict[Case, Measurement]:
        """Measure each case some times, in turns so that a slow moment hits all alike; simulate the fastest."""
        found: dict[Case, Measurement] = {}
        start = time.monotonic()
        for turn in range(_REPEATS):
            if turn >= 2 and time.monotonic() - start > _ENOUGH_S * turn / (turn + 1):
                break
            for case in cases:
                say(f"measuring, turn {turn + 1} of {_REPEATS}: {case}")
                size = _SIZE if case.kind == "lazyfree" or case.window_kb else _SIZE_ORDER_0
                run = self._file if case.kind == "file" else self._lazyfree
                with run(case, size) as population:
                    before = self.memcg.usage
                    ns = self.memcg.reclaim(int(size * _SHARE))
                    freed = (before - self.memcg.usage) >> population.page_shift
                if freed <= 0:
                    continue
                one = found.setdefault(case, Measurement(case, np.inf, [], None))
                one.ns_all.append(ns / freed)
                if ns / freed < one.ns:
                    one.ns, one.orders = ns / freed, population.describe()["orders"]
                    one.counts = self._simulate(population, freed, arch)
        for case in cases:
            if case not in found:
                raise CalibrateError(f"calibrate: the kernel reclaimed nothing of: {case}")
        return found

    def _simulate(self, population, freed: int, arch: Arch) -> np.ndarray:
        result = reclaim(
            population, freed << population.page_shift, policy=preset_of(platform.release()), arch=arch, in_place=True
        )
        counts = result.events.counts / max(result.reclaimed_pages, 1)
        if self.memcg.v1:  # lowering memory.limit_in_bytes asks for 32 pages at a time
            counts[EVENT_NAMES.index("reclaim_rounds")] = counts[EVENT_NAMES.index("isolation_calls")]
        return counts

    @contextlib.contextmanager
    def _file(self, case: Case, size: int):
        self._fill_cache(case.window_kb, size)
        with open(self.path, "rb") as file, contextlib.ExitStack() as stack:
            nr = max(case.mappings, 1)
            maps = [stack.enter_context(mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ)) for _ in range(nr)]
            for each in maps:
                # no readahead around what is cached already, and no references left by munmap()
                each.madvise(mmap.MADV_RANDOM)
                np.frombuffer(each, np.uint8)[:: mmap.PAGESIZE].sum()
            population = _capture_range([_address(each) for each in maps])
            if case.mappings == 0:
                population = _unmapped(population)
                for each in maps:
                    each.close()
            yield population

    def _fill_cache(self, window_kb: int, size: int) -> None:
        """Read the file into the page cache with folios of the orders that a readahead window makes, charged to us."""
        self.readahead.write_text(str(max(window_kb, 4)))
        file = os.open(self.path, os.O_RDONLY)
        try:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            if window_kb == 0:
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
        finally:
            os.close(file)
        step = 4096 if window_kb == 0 else 1 << 17
        reader = (
            "import os, sys\n"
            "open(sys.argv[1], 'w').write(str(os.getpid()))\n"
            "file = os.open(sys.argv[2], os.O_RDONLY)\n"
            "if sys.argv[3] == '4096': os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)\n"
            "for _ in range(int(sys.argv[4]) // int(sys.argv[3])): os.read(file, int(sys.argv[3]))\n"
        )
        subprocess.run(
            [
                sys.executable,
                "-S",
                "-E",
                "-c",
                reader,
                self.memcg.path / "cgroup.procs",
                self.path,
                str(step),
                str(size),
            ],
            check=True,
        )

    @contextlib.contextmanager
    def _lazyfree(self, case: Case, size: int):
        with self.memcg.inside():
            # room to begin at a border of 2 MiB
            area = mmap.mmap(-1, size + 2 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            start = -(-_address(area)[0] // (2 * MIB)) * 2 * MIB
            libc = ctypes.CDLL(None, use_errno=True)
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), _MADV_HUGEPAGE)
            ctypes.memset(start, 1, size)
            # before the PMDs are split: MADV_FREE splits a folio whose PTEs it cannot take as one batch
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), _MADV_FREE)
        uffd = _Userfaultfd()
        try:
            uffd.register(start, size)
            page = mmap.PAGESIZE
            if case.batch < 512:
                for at in range(case.batch * page, size, 2 * case.batch * page):
                    uffd.protect(start + at, case.batch * page, True)
            else:  # split the PMD and make its PTEs alike again
                for at in range(0, size, 2 * MIB):
                    uffd.protect(start + at, page, True)
                    uffd.protect(start + at, page, False)
            yield _capture_range([(start, size)])
        finally:
            uffd.close()
            area.close()


def _address(area: mmap.mmap) -> tuple[int, int]:
    return np.frombuffer(area, np.uint8).ctypes.data, len(area)


def _capture_range(ranges: list[tuple[int, int]]) -> Population:
    population = Population.from_captures([capture_of_ranges(os.getpid(), ranges)])
    population.mm_flags |= np.uint32(MmFlag.OUTSIDE_MEMCG)
    population.mm_cpumask[:] = 1  # the reclaiming CPU
    return population


def _unmapped(population: Population) -> Population:
    """Page cache of the same folios that nothing maps."""
    orders = population.describe()["orders"]
    weights = {int(order): count << int(order) for order, count in orders.items()}
    return Population.synthetic(population.nr_pages << population.page_shift, orders=weights, mapped=0.0)


class _Userfaultfd:
    """Write protection of ranges of this process by userfaultfd."""

    def __init__(self):
        libc = ctypes.CDLL(None, use_errno=True)
        number = _SYS_USERFAULTFD.get(platform.machine())
        self.file = libc.syscall(number, os.O_CLOEXEC | os.O_NONBLOCK) if number else -1
        if self.file < 0:
            raise OSError(ctypes.get_errno(), "userfaultfd")
        try:
            fcntl.ioctl(self.file, _UFFDIO_API, struct.pack("=3Q", _UFFD_API, _UFFD_FEATURE_PAGEFAULT_FLAG_WP, 0))
        except OSError:
            os.close(self.file)
            raise

    def register(self, start: int, length: int) -> None:
        fcntl.ioctl(self.file, _UFFDIO_REGISTER, struct.pack("=4Q", start, length, _UFFDIO_REGISTER_MODE_WP, 0))

    def protect(self, start: int, length: int, on: bool) -> None:
        mode = _UFFDIO_WRITEPROTECT_MODE_WP if on else 0
        fcntl.ioctl(self.file, _UFFDIO_WRITEPROTECT, struct.pack("=3Q", start, length, mode))

    def close(self) -> None:
        os.close(self.file)


def _no_userfaultfd() -> str:
    """Why write protection by userfaultfd does not work here, or an empty text."""
    try:
        _Userfaultfd().close()
    except OSError as error:
        return f"userfaultfd with write protection is not available ({error.strerror})"
    return ""


# The fit

# Measured apart by nothing: one parameter.
_TIED = ("page_mapcount_atomics", "ptes_cleared")

# What a reference check takes per PTE is known from a profile only and not measured here.
_KEPT = ("walk_yields", "young_tests")

# Not in the vectors, as their machines deferred flushes: measured-x86-6.18.toml [attribution] has 80 to 110 ns for a
# local flush of one page, most of it the INVLPG.
_LOCAL_FLUSH_NS = {"tlb_immediate": 25.0, "tlbi_ops": 70.0}


def _fit_vector(rows: list[Measurement], base: Arch) -> CostVector:
    """Fit the costs that the cases cause; the architecture's own figures are the prior, and stay for all others."""
    old = base.cost_vector
    counts, measured = np.array([row.counts for row in rows]), np.array([row.ns for row in rows])
    caused = {event for event, total in zip(EVENT_NAMES, counts.sum(axis=0), strict=True) if total}
    expected = {one.event: one.value for one in old.costs if one.event in caused and one.event not in _KEPT}
    expected |= {event: ns for event, ns in _LOCAL_FLUSH_NS.items() if event in caused and not old[event]}
    kept = [one for one in old.costs if one.event not in expected]
    tied = [event for event in expected if event in _TIED]
    parameters = [[event] for event in expected if event not in _TIED] + ([tied] if tied else [])
    shares = np.array([[float(event in shared) for shared in parameters] for event in expected])
    given = counts @ sum((old[one.event] * _unit(one.event) for one in kept), np.zeros(len(EVENT_NAMES)))
    scale = measured / (measured - given)  # errors are relative to the whole figure, the given part included
    fitted = fit_costs(
        counts[:, [EVENT_NAMES.index(event) for event in expected]],
        measured - given,
        shares,
        weights=1 / scale,
        prior=[np.mean([expected[event] for event in shared]) for shared in parameters],
    )
    members = fitted.as_good(_SCATTER * scale)
    figures = np.round([fitted.costs, np.min([fitted.costs, *members], 0), np.max([fitted.costs, *members], 0)], 4)
    source = f"calibrated on {platform.node()}, Linux {platform.release()}"
    costs = [
        Cost(event, *map(float, three), "fitted", source) for event, three in zip(expected, figures.T, strict=True)
    ]
    tail = [one.value for one in kept]
    return CostVector(
        name=f"{platform.node() or 'this-machine'}-{platform.release()}",
        unit="ns",
        arch=base.name,
        build=f"Linux {platform.release()} on {platform.machine()}",
        costs=(*costs, *kept),
        note=f"Fitted to reclaims of this machine; what they do not cause is as in {old.name}.",
        residual=round(float(np.abs(fitted.errors / scale).max()), 4),
        joint=old.joint,
        members=tuple((*map(float, np.round(member, 4)), *tail) for member in members),
    )


def _unit(event: str) -> np.ndarray:
    return (np.array(EVENT_NAMES) == event).astype(float)
