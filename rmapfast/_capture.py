"""Capture of live processes from ``/proc``: what their page tables map, without changing anything in them.

Reading needs root or CAP_SYS_ADMIN: without it the kernel hides page frame numbers.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import platform
import re
import signal
import struct
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rmapfast._files import check_writable, write_atomically
from rmapfast._guard import undone
from rmapfast._layout import MAX_ORDER, ranges
from rmapfast._rle3 import PM_PFN, PM_PRESENT, CaptureError, encode, runs
from rmapfast.population import Population

# Entries of /proc files read at a time, 8 bytes each: bounds the memory for a sparse VMA of any size.
_CHUNK = 1 << 20
# Page frames apart up to which one read is cheaper than two: a call costs about as much as so many entries.
_GAP = 32

# How often a process is read again whose VMAs changed meanwhile.
_ATTEMPTS = 3

# PAGEMAP_SCAN (Documentation/admin-guide/mm/pagemap.rst): struct pm_scan_arg and struct page_region.
_PM_SCAN_ARG = struct.Struct("=12Q")
_PAGE_REGION = np.dtype([("start", "=u8"), ("end", "=u8"), ("categories", "=u8")])
_PAGE_IS_PRESENT, _PAGE_IS_HUGE = 1 << 3, 1 << 6
_PAGEMAP_SCAN = (3 << 30) | (_PM_SCAN_ARG.size << 16) | (ord("f") << 8) | 16
_REGIONS = 4096

_MAPS = re.compile(
    r"(?P<start>[0-9a-f]+)-(?P<end>[0-9a-f]+) (?P<perms>\S{4}) (?P<offset>[0-9a-f]+) \S+ (?P<inode>\d+)\s*(?P<name>.*)"
)
_SMAPS_KB = re.compile(r"(\w+):\s+(\d+) kB")


@dataclass
class _Vma:
    start: int  # bytes
    end: int
    pgoff: int
    inode: int
    perms: str
    name: str
    flags: str = ""
    smaps_kb: dict[str, int] = field(default_factory=dict)


@dataclass
class Captured:
    """What :func:`capture` wrote.

    Parameters
    ----------
    pid : int
    path : str
    vmas, pages, present : int
        VMAs, pages that they span, and those that are present.
    file_bytes : int
    seconds : float
        For reading the process.
    """

    pid: int
    path: str
    vmas: int
    pages: int
    present: int
    file_bytes: int
    seconds: float


def capture(
    pids: int | Iterable[int],
    path: str | os.PathLike,
    *,
    freeze: bool = False,
    anonymise: bool = False,
    overwrite: bool = False,
    progress: Callable[[str], None] | None = None,
) -> list[Captured]:
    """Capture live processes in the ``rle3`` format, which :meth:`Population.load` reads.

    Parameters
    ----------
    pids : int or iterable of int
    path : path
        One process: the file. Several: ``NAME.npz`` stands for ``NAME_p0.npz``, ``NAME_p1.npz``, ... in their order;
        loaded together, folios that they share are joined by PFN.
    freeze : bool
        Stop the processes while they are read (SIGSTOP) and let them go on afterwards, whatever happens.
    anonymise : bool
        Renumber page frames, keeping contiguity and alignment, and inodes; drop names.
    overwrite : bool
        Replace files that exist.
    progress : callable, optional
        Called with a line of text some times a second.

    Returns
    -------
    list of Captured

    Raises
    ------
    CaptureError
        If a process cannot be captured; nothing is written then.
    OSError
        If a file cannot be written.
    """
    pids = [pids] if isinstance(pids, int) else list(pids)
    if not pids:
        raise CaptureError("pid: expected at least one, got none")
    page_shift = os.sysconf("SC_PAGE_SIZE").bit_length() - 1
    paths = _paths(path, len(pids))
    for each in paths:
        check_writable(each, overwrite=overwrite)
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(_Process(pid, page_shift)) for pid in pids]
        if freeze:
            stack.enter_context(_stopped(processes))
        images = [process.read(progress or (lambda text: None)) for process in processes]
    if anonymise:
        _anonymise(images)
    contents = [image.encode() for image in images]
    for each, content in zip(paths, contents, strict=True):
        write_atomically(each, content, overwrite=overwrite)
    return [
        Captured(pid, str(each), len(image.vmas), image.pages, image.present, len(content), image.seconds)
        for pid, each, image, content in zip(pids, paths, images, contents, strict=True)
    ]


def population_of(pid: int, ranges: list[tuple[int, int]], **options):
    """Return the population of some VMAs of a process, those inside ranges of (start, length) in bytes."""
    page_shift = os.sysconf("SC_PAGE_SIZE").bit_length() - 1
    with _Process(pid, page_shift) as process:
        content = process.read(ranges=ranges).encode()
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        file.write(content)
        file.flush()
        return Population.load(file.name, **options)


def _paths(path, nr: int) -> list[Path]:
    path = Path(path)
    if path.suffix != ".npz":
        raise CaptureError(f"{path}: expected a file name ending in .npz")
    return [path] if nr == 1 else [path.with_name(f"{path.stem}_p{number}.npz") for number in range(nr)]


@dataclass
class _Image:
    """One process as it was read: run-length coded already, so small."""

    vmas: list[_Vma]
    huge: np.ndarray  # of _PAGE_REGION
    pm: tuple[np.ndarray, np.ndarray]  # run lengths, first entries
    kf: tuple[np.ndarray, np.ndarray]
    kc: tuple[np.ndarray, np.ndarray]
    page_shift: int
    seconds: float
    anonymised: bool = False

    @property
    def pages(self) -> int:
        return int(self.pm[0].sum())

    @property
    def present(self) -> int:
        return int(self.kf[0].sum())

    def encode(self) -> bytes:
        meta = {
            "format": "rle3",
            "kernel": platform.release(),
            "machine": platform.machine(),
            "page_shift": self.page_shift,
            "npages": self.pages,
            "npresent": self.present,
            "capture_ns": int(self.seconds * 1e9),
            "anonymised": self.anonymised,
            "vma_text": [
                {"perms": vma.perms, "name": vma.name, "flags": vma.flags, "smaps_kb": vma.smaps_kb}
                for vma in self.vmas
            ],
        }
        return encode(
            meta,
            vma={name: [getattr(vma, name) for vma in self.vmas] for name in ("start", "end", "pgoff", "inode")},
            huge=(self.huge["start"], self.huge["end"]),
            pm=self.pm,
            kf=self.kf,
            kc=self.kc,
        )


class _Runs:
    """Run-length coded entries, appended chunk by chunk."""

    def __init__(self, counts_up: bool):
        self.counts_up = counts_up
        self.lengths: list[np.ndarray] = []
        self.values: list[np.ndarray] = []

    def add(self, entries: np.ndarray) -> None:
        length, value = runs(entries, self.counts_up)
        self.lengths.append(length)
        self.values.append(value)

    def joined(self) -> tuple[np.ndarray, np.ndarray]:
        if not self.lengths:
            return np.empty(0, np.int64), np.empty(0, np.uint64)
        return np.concatenate(self.lengths), np.concatenate(self.values)


class _Process:
    """The /proc files of one process, open from the first look to the last: a recycled PID is another process."""

    def __init__(self, pid: int, page_shift: int):
        self.pid, self.page_shift = pid, page_shift
        self._files: dict[str, int] = {}

    def __enter__(self) -> _Process:
        try:
            self._folder = os.open(f"/proc/{self.pid}", os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            raise CaptureError(f"pid: no process {self.pid}") from None
        try:
            for name in ("pagemap", "smaps", "maps", "stat"):
                self._files[name] = os.open(name, os.O_RDONLY, dir_fd=self._folder)
            for name in ("kpageflags", "kpagecount"):
                self._files[name] = os.open(f"/proc/{name}", os.O_RDONLY)
        except PermissionError as error:
            self.__exit__()
            raise CaptureError(
                f"{error.filename}: not permitted for process {self.pid}: needs root or CAP_SYS_ADMIN (and "
                "CAP_SYS_PTRACE for another user's process)"
            ) from None
        except FileNotFoundError as error:
            self.__exit__()
            if error.filename.startswith("/proc"):
                raise CaptureError(f"{error.filename}: not there; needs Linux with CONFIG_PROC_PAGE_MONITOR") from None
            raise CaptureError(f"pid: process {self.pid} exited") from None
        return self

    def __exit__(self, *_) -> None:
        for file in self._files.values():
            os.close(file)
        os.close(self._folder)

    def state(self) -> str:
        """One letter, as in /proc/PID/stat."""
        return self._text("stat").rpartition(")")[2].split()[0]

    def _text(self, name: str) -> str:
        pieces, offset = [], 0
        try:
            while piece := os.pread(self._files[name], 1 << 20, offset):
                pieces.append(piece)
                offset += len(piece)
        except ProcessLookupError:
            raise CaptureError(f"pid: process {self.pid} exited while it was read") from None
        return b"".join(pieces).decode("utf-8", "replace")

    def read(self, progress=lambda text: None, ranges=None) -> _Image:
        """Read everything, or the VMAs that lie in ranges of (start, length); again if the VMAs changed meanwhile."""
        for _ in range(_ATTEMPTS):
            start = time.monotonic()
            vmas = self._vmas()
            if ranges is not None:
                vmas = [vma for vma in vmas if any(a <= vma.start and vma.end <= a + n for a, n in ranges)]
            pm, kf, kc = _Runs(True), _Runs(False), _Runs(False)
            total = sum(vma.end - vma.start for vma in vmas) >> self.page_shift
            done = 0
            for vma in vmas:
                for entries in self._pagemap(vma):
                    pm.add(entries)
                    self._physical(entries, kf, kc)
                    done += len(entries)
                    progress(f"process {self.pid}: {done} of {total} pages")
            huge = self._huge(vmas)
            if ranges is not None or self._text("maps") == self._maps:
                return _Image(
                    vmas, huge, pm.joined(), kf.joined(), kc.joined(), self.page_shift, time.monotonic() - start
                )
        raise CaptureError(
            f"pid: process {self.pid} kept changing its mappings while it was read; --freeze stops it meanwhile"
        )

    def _vmas(self) -> list[_Vma]:
        self._maps = self._text("maps")
        vmas: list[_Vma] = []
        for line in self._text("smaps").splitlines():
            if match := _MAPS.fullmatch(line):
                name = match["name"]
                vmas.append(
                    _Vma(
                        int(match["start"], 16),
                        int(match["end"], 16),
                        int(match["offset"], 16) >> self.page_shift,
                        int(match["inode"]),
                        match["perms"],
                        name if name.startswith("[") else name.rpartition("/")[2],
                    )
                )
            elif line.startswith("VmFlags:"):
                vmas[-1].flags = line.partition(":")[2].strip()
            elif match := _SMAPS_KB.fullmatch(line.strip()):
                if match[2] != "0":
                    vmas[-1].smaps_kb[match[1]] = int(match[2])
        vmas = [vma for vma in vmas if vma.name != "[vsyscall]"]  # lies in the kernel's half: no pagemap
        if not vmas:
            raise CaptureError(f"pid: process {self.pid} has no memory: it is exiting, or a kernel thread")
        return vmas

    def _pagemap(self, vma: _Vma) -> Iterator[np.ndarray]:
        for first in range(vma.start >> self.page_shift, vma.end >> self.page_shift, _CHUNK):
            nr = min(_CHUNK, (vma.end >> self.page_shift) - first)
            raw = os.pread(self._files["pagemap"], nr * 8, first * 8)
            if len(raw) != nr * 8:
                raise CaptureError(f"pid: process {self.pid} exited while it was read")
            entries = np.frombuffer(raw, np.uint64)
            present = entries[(entries & PM_PRESENT) != 0]
            if len(present) and not np.any(present & PM_PFN):
                raise CaptureError(
                    f"/proc/{self.pid}/pagemap: the page frame numbers are zero: needs root or CAP_SYS_ADMIN"
                )
            yield entries

    def _physical(self, entries: np.ndarray, kf: _Runs, kc: _Runs) -> None:
        pfns = (entries[(entries & PM_PRESENT) != 0] & PM_PFN).astype(np.int64)
        if not len(pfns):
            return
        distinct, back = np.unique(pfns, return_inverse=True)
        for name, into in (("kpageflags", kf), ("kpagecount", kc)):
            into.add(_at(self._files[name], distinct)[back])

    def _huge(self, vmas: list[_Vma]) -> np.ndarray:
        """Ranges that a PMD maps whole: by PAGEMAP_SCAN, before Linux 6.7 by what smaps says of whole VMAs."""
        found = []
        for vma in vmas:
            try:
                found += self._scan(vma)
            except OSError as error:
                if error.errno not in (errno.ENOTTY, errno.EINVAL):
                    raise
                found += self._huge_by_smaps(vma)
        return np.array(found, _PAGE_REGION)

    def _scan(self, vma: _Vma) -> list[tuple[int, int, int]]:
        regions, found, start = np.zeros(_REGIONS, _PAGE_REGION), [], vma.start
        want = _PAGE_IS_PRESENT | _PAGE_IS_HUGE
        while start < vma.end:
            argument = bytearray(
                _PM_SCAN_ARG.pack(
                    *(_PM_SCAN_ARG.size, 0, start, vma.end, 0, regions.ctypes.data, _REGIONS, 0),
                    *(0, want, 0, want),  # inverted, all of, any of, returned
                )
            )
            nr = fcntl.ioctl(self._files["pagemap"], _PAGEMAP_SCAN, argument)
            found += [tuple(region) for region in regions[:nr].tolist()]
            walked = _PM_SCAN_ARG.unpack(argument)[4]
            if walked <= start:
                break
            start = walked
        return found

    def _huge_by_smaps(self, vma: _Vma) -> list[tuple[int, int, int]]:
        kb = sum(vma.smaps_kb.get(name, 0) for name in ("AnonHugePages", "ShmemPmdMapped", "FilePmdMapped"))
        return [(vma.start, vma.end, _PAGE_IS_HUGE)] if kb and kb == vma.smaps_kb.get("Size") else []


def _at(file: int, pfns: np.ndarray) -> np.ndarray:
    """Entries of /proc/kpageflags or kpagecount of sorted distinct page frames, neighbours in one read."""
    out = np.zeros(len(pfns), np.uint64)
    borders = np.flatnonzero(np.diff(pfns) > _GAP) + 1
    for low, high in zip([0, *borders.tolist()], [*borders.tolist(), len(pfns)], strict=True):
        while low < high:
            first = int(pfns[low])
            end = min(high, int(np.searchsorted(pfns, first + _CHUNK)))
            raw = os.pread(file, (int(pfns[end - 1]) - first + 1) * 8, first * 8)
            entries = np.frombuffer(raw, np.uint64)
            at = pfns[low:end] - first
            known = at < len(entries)  # a frame behind the end of memory, of a device, has none
            out[low:end][known] = entries[at[known]]
            low = end
    return out


@contextlib.contextmanager
def _stopped(processes: list[_Process]):
    """Processes stopped while the block runs."""
    running = [process for process in processes if process.state() not in "Tt"]
    if any(process.pid == os.getpid() for process in running):
        raise CaptureError("--freeze: a process cannot stop itself")
    with undone(lambda: _resume(running)):
        for process in running:
            try:
                os.kill(process.pid, signal.SIGSTOP)
            except ProcessLookupError:
                raise CaptureError(f"pid: process {process.pid} exited") from None
            except PermissionError:
                raise CaptureError(f"pid: process {process.pid} may not be stopped: needs CAP_KILL") from None
        _wait_stopped(running)
        yield


def _wait_stopped(processes: list[_Process]) -> None:
    end = time.monotonic() + 5
    while any(process.state() not in "TtZX" for process in processes):
        if time.monotonic() > end:
            raise CaptureError("--freeze: a process did not stop within 5 s (it waits for a device)")
        time.sleep(0.001)


def _resume(processes: list[_Process]) -> None:
    for process in processes:
        with contextlib.suppress(OSError):
            os.kill(process.pid, signal.SIGCONT)


# Frames are renumbered in blocks of the largest folio, so that each keeps its alignment.
_BLOCK_ORDER = MAX_ORDER


def _anonymise(images: list[_Image]) -> None:
    """Renumber frames and inodes alike in all images and drop what names something."""
    blocks = np.unique(np.concatenate([_blocks(image) for image in images]))
    # Blocks that were neighbours stay neighbours; between others one is left free.
    new = np.cumsum(np.where(np.diff(blocks, prepend=-1) == 1, 1, 2)) if len(blocks) else blocks
    inodes = {inode: number for number, inode in enumerate(sorted({v.inode for i in images for v in i.vmas} | {0}))}
    for image in images:
        length, value = image.pm
        pfn = (value & PM_PFN).astype(np.int64)
        present = (value & PM_PRESENT) != 0
        moved = value.copy()
        block = new[np.searchsorted(blocks, pfn[present] >> _BLOCK_ORDER)]
        renumbered = (block << _BLOCK_ORDER) | (pfn[present] & ((1 << _BLOCK_ORDER) - 1))
        moved[present] = value[present] & ~PM_PFN | renumbered.astype(np.uint64)
        image.pm = length, moved
        image.anonymised = True
        for vma in image.vmas:
            vma.inode = inodes[vma.inode]
            vma.name = vma.name if vma.name in ("[heap]", "[stack]") else ""


def _blocks(image: _Image) -> np.ndarray:
    """Blocks that hold a present frame."""
    length, value = image.pm
    present = (value & PM_PRESENT) != 0
    first = (value[present] & PM_PFN).astype(np.int64)
    low, high = first >> _BLOCK_ORDER, (first + length[present] - 1) >> _BLOCK_ORDER
    return ranges(low, high - low + 1)
