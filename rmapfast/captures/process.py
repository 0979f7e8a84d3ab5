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
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rmapfast.captures.format import KPF, PM_PFN, PM_PRESENT, PM_SWAP, Capture, CaptureError, encode, has_flags, runs
from rmapfast.layout import MAX_ORDER, MAX_PAGES, ranges
from rmapfast.support import check_writable, undone, write_together

# Entries of /proc files read at a time, 8 bytes each: bounds the memory for a sparse VMA of any size.
_CHUNK = 1 << 20
# From so many pages on one looks first whether there is anything: programs reserve terabytes.
_SPARSE = 4096
# Page frames apart up to which one read is cheaper than two: a call costs about as much as so many entries.
_GAP = 32

# How often a process is read again whose VMAs changed meanwhile.
_ATTEMPTS = 3

# PAGEMAP_SCAN (Documentation/admin-guide/mm/pagemap.rst): struct pm_scan_arg and struct page_region.
_PM_SCAN_ARG = struct.Struct("=12Q")
_PAGE_REGION = np.dtype([("start", "=u8"), ("end", "=u8"), ("categories", "=u8")])
_PAGE_IS_PRESENT, _PAGE_IS_SWAPPED, _PAGE_IS_HUGE = 1 << 3, 1 << 4, 1 << 6
_PAGEMAP_SCAN = (3 << 30) | (_PM_SCAN_ARG.size << 16) | (ord("f") << 8) | 16
_REGIONS = 4096

_MAPS = re.compile(
    r"(?P<start>[0-9a-f]+)-(?P<end>[0-9a-f]+) (?P<perms>\S{4}) (?P<offset>[0-9a-f]+) (?P<device>\S+) (?P<inode>\d+) *"
    r"(?P<name>.*)",
    re.DOTALL,  # a file name may hold any byte; /proc escapes only the line feed
)
_SMAPS_KB = re.compile(r"(\w+):\s+(\d+) kB")


@dataclass
class _Vma:
    start: int  # bytes
    end: int
    pgoff: int
    device: str
    inode: int
    perms: str
    name: str
    flags: str = ""
    smaps_kb: dict[str, int] = field(default_factory=dict)
    huge_unknown: int = 0  # kB that PMDs map somewhere in it, on a kernel that does not say where


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
    pids = _pids(pids)
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
    write_together(zip(paths, contents, strict=True), overwrite=overwrite)
    return [
        Captured(pid, str(each), len(image.vmas), image.pages, image.present, len(content), image.seconds)
        for pid, each, image, content in zip(pids, paths, images, contents, strict=True)
    ]


def capture_of_ranges(pid: int, ranges: list[tuple[int, int]]) -> Capture:
    """Return the capture of some VMAs of a process, those inside ranges of (start, length) in bytes."""
    page_shift = os.sysconf("SC_PAGE_SIZE").bit_length() - 1
    with _Process(pid, page_shift) as process:
        content = process.read(ranges=ranges).encode()
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        file.write(content)
        file.flush()
        return Capture.load(file.name)


def _pids(pids) -> list[int]:
    if not sys.platform.startswith("linux"):
        raise CaptureError(f"capture: needs Linux, whose /proc shows page tables, got {sys.platform}")
    pids = [pids] if isinstance(pids, int | str) else list(pids)
    if not pids:
        raise CaptureError("pid: expected at least one, got none")
    for number, pid in enumerate(pids):
        if type(pid) is not int or pid < 1:
            raise CaptureError(f"pid: expected the number of a process, 1 or more, got {pid!r}")
        if pid in pids[:number]:
            raise CaptureError(f"pid: expected each process once, got {pid} again")
    return pids


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
            "huge_unknown_kb": sum(vma.huge_unknown for vma in self.vmas),
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

    def add(self, entries: np.ndarray, nr: int | None = None) -> None:
        """Append entries; one entry may stand for `nr` equal ones."""
        length, value = runs(entries, self.counts_up)
        if len(entries) == 1 and nr is not None:
            length = np.array([nr])
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
        self._folder = -1

    def __enter__(self) -> _Process:
        try:
            self._open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        for file in (*self._files.values(), self._folder):
            if file >= 0:
                os.close(file)
        self._files, self._folder = {}, -1

    def _open(self) -> None:
        name = where = f"/proc/{self.pid}"
        try:
            self._folder = os.open(where, os.O_RDONLY | os.O_DIRECTORY)
            for name in ("stat", "pagemap", "smaps", "maps"):
                self._files[name] = os.open(name, os.O_RDONLY, dir_fd=self._folder)
            where = "/proc"
            for name in ("kpageflags", "kpagecount"):
                self._files[name] = os.open(f"/proc/{name}", os.O_RDONLY)
        except PermissionError:
            if where == "/proc":
                raise CaptureError(
                    f"/proc/{name}: not permitted: needs CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH (root has both)"
                ) from None
            raise CaptureError(
                f"{os.path.join(where, name)}: not permitted: needs CAP_SYS_ADMIN and, for a process of another user, "
                "CAP_SYS_PTRACE (root has both)"
            ) from None
        except (FileNotFoundError, ProcessLookupError) as error:
            if self._folder < 0:
                raise CaptureError(f"pid: no process {self.pid}") from None
            if self.state() in "ZX":  # also if it is gone: ""
                raise CaptureError(f"pid: process {self.pid} exited") from None
            if isinstance(error, ProcessLookupError):
                raise self._no_memory() from None
            raise CaptureError(
                f"{os.path.join(where, name)}: not there: needs Linux with CONFIG_PROC_PAGE_MONITOR"
            ) from None

    def _no_memory(self) -> CaptureError:
        return CaptureError(f"pid: process {self.pid} has no memory: it is a kernel thread, or is exiting")

    def _exited(self) -> CaptureError:
        return CaptureError(f"pid: process {self.pid} exited (or executed another program) while it was read")

    def state(self) -> str:
        """One letter, as in /proc/PID/stat; none if the process is gone."""
        return self._state("stat")

    def states(self) -> str:
        """The states of all its threads."""
        try:
            folder = os.open("task", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._folder)
        except OSError:
            return ""
        try:
            return "".join(self._state(f"task/{thread}/stat") for thread in os.listdir(folder))
        except OSError:
            return ""
        finally:
            os.close(folder)

    def _state(self, name: str) -> str:
        try:
            file = os.open(name, os.O_RDONLY, dir_fd=self._folder)
        except OSError:
            return ""
        try:
            return os.pread(file, 4096, 0).rpartition(b")")[2].split()[0].decode()
        except (OSError, IndexError):
            return ""
        finally:
            os.close(file)

    def send(self, number: int) -> None:
        """Send a signal; the open folder stands for the process, so never to another one with its PID."""
        signal.pidfd_send_signal(self._folder, number)

    def _read(self, name: str, size: int, offset: int) -> bytes:
        try:
            return os.pread(self._files[name], size, offset)
        except ProcessLookupError:
            raise self._exited() from None
        except PermissionError:
            # of a process that became another user's meanwhile
            raise CaptureError(
                f"/proc/{self.pid}/{name}: not permitted: needs CAP_SYS_ADMIN and CAP_SYS_PTRACE (root has both)"
            ) from None

    def _text(self, name: str) -> str:
        pieces, offset = [], 0
        while piece := self._read(name, 1 << 20, offset):
            pieces.append(piece)
            offset += len(piece)
        return b"".join(pieces).decode("utf-8", "replace")

    def read(self, progress=lambda text: None, ranges=None) -> _Image:
        """Read everything, or the VMAs that lie in ranges of (start, length); again if the VMAs changed meanwhile."""
        for _ in range(_ATTEMPTS):
            start = time.monotonic()
            vmas = self._vmas()
            if ranges is not None:
                vmas = [vma for vma in vmas if any(a <= vma.start and vma.end <= a + n for a, n in ranges)]
            total = sum(vma.end - vma.start for vma in vmas) >> self.page_shift
            if total >= MAX_PAGES:
                raise CaptureError(f"pid: process {self.pid} maps {total} pages; expected less than 2^33")
            pm, kf, kc = _Runs(True), _Runs(False), _Runs(False)
            huge: list[tuple[int, int, int]] = []
            done = 0
            for vma in vmas:
                runs_before = len(pm.values)
                for nr, entries in self._pagemap(vma):
                    pm.add(entries, nr)
                    self._physical(entries, kf, kc)
                    done += nr
                    progress(f"process {self.pid}: {done} of {total} pages")
                huge += self._huge(vma, pm.lengths[runs_before:], pm.values[runs_before:])
            if ranges is not None or self._text("maps") == self._maps:
                return _Image(
                    vmas,
                    np.array(huge, _PAGE_REGION),
                    pm.joined(),
                    kf.joined(),
                    kc.joined(),
                    self.page_shift,
                    time.monotonic() - start,
                )
            if not self._text("maps"):
                raise self._exited()
        raise CaptureError(
            f"pid: process {self.pid} kept changing its mappings while it was read; --freeze stops it meanwhile"
        )

    def _vmas(self) -> list[_Vma]:
        self._maps = self._text("maps")
        vmas: list[_Vma] = []
        for line in self._text("smaps").split("\n"):
            if match := _MAPS.fullmatch(line):
                name = match["name"]
                vmas.append(
                    _Vma(
                        int(match["start"], 16),
                        int(match["end"], 16),
                        int(match["offset"], 16) >> self.page_shift,
                        match["device"],
                        int(match["inode"]),
                        match["perms"],
                        name if name.startswith("[") else name.rpartition("/")[2],
                    )
                )
            elif line.startswith("VmFlags:"):
                vmas[-1].flags = line.partition(":")[2].strip()
            elif (match := _SMAPS_KB.fullmatch(line)) and match[2] != "0":
                vmas[-1].smaps_kb[match[1]] = int(match[2])
        vmas = [vma for vma in vmas if vma.name != "[vsyscall]"]  # lies in the kernel's half: no pagemap
        if not vmas:
            raise self._no_memory()
        return vmas

    def _pagemap(self, vma: _Vma) -> Iterator[tuple[int, np.ndarray]]:
        """Yield numbers of pages and their entries, or the one entry that all of them have."""
        start, end = vma.start >> self.page_shift, vma.end >> self.page_shift
        while start < end:
            # Chunks end at multiples of the chunk, so that none cuts a page table.
            nr = min(end, (start // _CHUNK + 1) * _CHUNK) - start
            nr_read = 1 if nr >= _SPARSE and self._empty(start, nr) else nr
            raw = self._read("pagemap", nr_read * 8, start * 8)
            if len(raw) != nr_read * 8:
                raise self._exited()
            entries = np.frombuffer(raw, np.uint64)
            present = entries[(entries & PM_PRESENT) != 0]
            if len(present) and not np.any(present & PM_PFN):
                raise CaptureError(
                    f"/proc/{self.pid}/pagemap: the page frame numbers are zero: needs root or CAP_SYS_ADMIN"
                )
            if nr_read < nr and np.any(entries & (PM_PRESENT | PM_SWAP)):
                continue  # filled since it was found empty
            yield nr, entries
            start += nr

    def _empty(self, start: int, nr: int) -> bool:
        """Whether none of these pages has an entry; if the kernel does not tell, no."""
        first, last = start << self.page_shift, (start + nr) << self.page_shift
        try:
            regions, _ = self._scan(first, last, any_of=_PAGE_IS_PRESENT | _PAGE_IS_SWAPPED, regions=1, max_pages=1)
        except OSError:
            return False
        return not regions

    def _physical(self, entries: np.ndarray, kf: _Runs, kc: _Runs) -> None:
        pfns = (entries[(entries & PM_PRESENT) != 0] & PM_PFN).astype(np.int64)
        if not len(pfns):
            return
        distinct, back = np.unique(pfns, return_inverse=True)
        # A frame behind the end of memory, of a device, has no entry.
        kf.add(_at(self._files["kpageflags"], distinct, 1 << KPF["nopage"])[back])
        count = _at(self._files["kpagecount"], distinct, 0)
        # Of a frame that is no page of a folio the count can be any number, also one below 0.
        count[count >= 1 << 31] = 0
        kc.add(count[back])

    def _huge(self, vma: _Vma, lengths: list[np.ndarray], values: list[np.ndarray]) -> list[tuple[int, int, int]]:
        """Ranges that a PMD maps whole: by PAGEMAP_SCAN, before Linux 6.7 by smaps and pagemap."""
        if "ht" in vma.flags.split():  # hugetlb, of any size
            return []
        try:
            return self._scan_huge(vma)
        except ProcessLookupError:
            raise self._exited() from None
        except OSError as error:
            if error.errno not in (errno.ENOTTY, errno.EINVAL):
                raise
        return self._huge_by_smaps(vma, lengths, values)

    def _scan_huge(self, vma: _Vma) -> list[tuple[int, int, int]]:
        found, start = [], vma.start
        while start < vma.end:
            regions, walked = self._scan(start, vma.end, all_of=_PAGE_IS_PRESENT | _PAGE_IS_HUGE)
            found += regions
            if walked <= start:
                break
            start = walked
        return found

    def _scan(self, start: int, end: int, *, all_of=0, any_of=0, regions=_REGIONS, max_pages=0):
        """Regions (start, end, categories) of these categories, and the address up to which they were looked for."""
        found = np.zeros(regions, _PAGE_REGION)
        argument = bytearray(
            _PM_SCAN_ARG.pack(
                *(_PM_SCAN_ARG.size, 0, start, end, 0, found.ctypes.data, regions, max_pages),
                *(0, all_of, any_of, all_of | any_of),  # inverted, all of, any of, returned
            )
        )
        nr = fcntl.ioctl(self._files["pagemap"], _PAGEMAP_SCAN, argument)
        return [tuple(region) for region in found[:nr].tolist()], _PM_SCAN_ARG.unpack(argument)[4]

    def _huge_by_smaps(self, vma, lengths, values) -> list[tuple[int, int, int]]:
        """Tables that may be PMD-mapped, if smaps says that so many are; it does not say which."""
        kb = sum(vma.smaps_kb.get(name, 0) for name in ("AnonHugePages", "ShmemPmdMapped", "FilePmdMapped"))
        if not kb:
            return []
        length, value = np.concatenate(lengths), np.concatenate(values)
        page = (vma.start >> self.page_shift) + np.cumsum(length) - length
        ptrs = 1 << (self.page_shift - 3)  # 8 bytes per entry, in a table of one page
        low, high = -(-page // ptrs) * ptrs, (page + length) // ptrs * ptrs
        pfn = (value & PM_PFN).astype(np.int64)
        fits = ((value & PM_PRESENT) != 0) & (low < high) & ((pfn - page) % ptrs == 0)
        nr = (high - low)[fits] // ptrs
        step = ranges(np.zeros(len(nr), np.int64), nr) * ptrs
        table, head = np.repeat(low[fits], nr) + step, np.repeat((pfn + low - page)[fits], nr) + step
        if len(table):
            distinct, back = np.unique(head, return_inverse=True)
            flags = _at(self._files["kpageflags"], distinct, 0)[back]
            last = _at(self._files["kpageflags"], distinct + ptrs - 1, 0)[back]
            table = table[has_flags(last, "tail") & has_flags(flags, "head", "tail")]
        if len(table) * ptrs << self.page_shift != kb << 10:
            vma.huge_unknown = kb
            return []
        return [(int(one) << self.page_shift, int(one + ptrs) << self.page_shift, _PAGE_IS_HUGE) for one in table]


def _at(file: int, pfns: np.ndarray, missing: int) -> np.ndarray:
    """Entries of /proc/kpageflags or kpagecount of sorted distinct page frames, neighbours in one read."""
    out = np.full(len(pfns), missing, np.uint64)
    borders = np.flatnonzero(np.diff(pfns) > _GAP) + 1
    for low, high in zip([0, *borders.tolist()], [*borders.tolist(), len(pfns)], strict=True):
        while low < high:
            first = int(pfns[low])
            end = min(high, int(np.searchsorted(pfns, first + _CHUNK)))
            raw = os.pread(file, (int(pfns[end - 1]) - first + 1) * 8, first * 8)
            entries = np.frombuffer(raw, np.uint64)
            at = pfns[low:end] - first
            known = at < len(entries)
            out[low:end][known] = entries[at[known]]
            low = end
    return out


@contextlib.contextmanager
def _stopped(processes: list[_Process]):
    """Processes stopped while the block runs, but for those that were stopped before: they stay so."""
    running = [process for process in processes if process.state() not in "Tt"]
    if any(process.pid == os.getpid() for process in running):
        raise CaptureError("--freeze: a process cannot stop itself")
    with undone(lambda: _resume(running)):
        for process in running:
            try:
                process.send(signal.SIGSTOP)
            except ProcessLookupError:
                raise CaptureError(f"pid: process {process.pid} exited") from None
            except PermissionError:
                raise CaptureError(f"pid: process {process.pid} may not be stopped: needs root or CAP_KILL") from None
        _wait_stopped(running)
        yield


def _wait_stopped(processes: list[_Process]) -> None:
    end = time.monotonic() + 5
    while not all(set(process.states()) <= set("TtZX") for process in processes):
        if time.monotonic() > end:
            raise CaptureError("--freeze: a process did not stop within 5 s (it waits for a device)")
        time.sleep(0.001)


def _resume(processes: list[_Process]) -> None:
    for process in processes:
        with contextlib.suppress(OSError):
            process.send(signal.SIGCONT)


# Frames are renumbered in blocks of the largest folio, so that each keeps its alignment.
_BLOCK_ORDER = MAX_ORDER


# Swap types from here on stand for no swap area but hold a page frame (migration, hwpoison, device memory).
_PFN_TYPES, _MARKER_TYPE = 23, 31


def _anonymise(images: list[_Image]) -> None:
    """Renumber frames and inodes alike in all images and drop what names something."""
    blocks = np.unique(np.concatenate([_blocks(image) for image in images]))
    # Blocks that were neighbours stay neighbours; between others one is left free.
    new = np.cumsum(np.where(np.diff(blocks, prepend=-1) == 1, 1, 2)) if len(blocks) else blocks
    # By device too: without names nothing else tells files of two file systems apart.
    files = sorted({(vma.device, vma.inode) for image in images for vma in image.vmas if vma.inode})
    inodes = {file: number for number, file in enumerate(files, 1)}
    for image in images:
        length, value = image.pm
        pfn = (value & PM_PFN).astype(np.int64)
        present = (value & PM_PRESENT) != 0
        moved = value.copy()
        block = new[np.searchsorted(blocks, pfn[present] >> _BLOCK_ORDER)]
        renumbered = (block << _BLOCK_ORDER) | (pfn[present] & ((1 << _BLOCK_ORDER) - 1))
        moved[present] = value[present] & ~PM_PFN | renumbered.astype(np.uint64)
        kind = value & np.uint64(31)
        frame = ~present & ((value & PM_SWAP) != 0) & (kind >= _PFN_TYPES) & (kind != _MARKER_TYPE)
        moved[frame] = value[frame] & ~PM_PFN | kind[frame]
        image.pm = length, moved
        image.anonymised = True
        for vma in image.vmas:
            # [stack], [vdso] and the like name nothing of the user's; [anon:NAME] does.
            vma.name = vma.name if not vma.inode and ":" not in vma.name else ""
            vma.inode = inodes[vma.device, vma.inode] if vma.inode else 0


def _blocks(image: _Image) -> np.ndarray:
    """Blocks that hold a present frame."""
    length, value = image.pm
    present = (value & PM_PRESENT) != 0
    first = (value[present] & PM_PFN).astype(np.int64)
    low, high = first >> _BLOCK_ORDER, (first + length[present] - 1) >> _BLOCK_ORDER
    return ranges(low, high - low + 1)
