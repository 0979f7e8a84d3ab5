"""Capture of live processes from ``/proc``. Nothing is changed in the processes.

Reading needs root or CAP_SYS_ADMIN: without it the kernel hides page frame numbers.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rmapfast.captures.anonymise import anonymise_images
from rmapfast.captures.format import KPF, PM_PFN, PM_PRESENT, PM_SWAP, Capture, CaptureError, RunLengths, has_flags
from rmapfast.captures.image import Image, Region, RunEncoder, Vma
from rmapfast.layout import MAX_PAGES, ranges
from rmapfast.support import (
    check_writable,
    checked_boolean,
    checked_list,
    checked_path,
    checked_progress,
    shown,
    undone,
    write_together,
)

# Entries of /proc files that are read at a time, 8 bytes each. It bounds the memory that a large sparse VMA takes.
_CHUNK = 1 << 20
# Ranges of this many pages and more are first asked whether they map anything: programs reserve terabytes.
_SPARSE = 4096
# Frames up to this distance are read with one call: a second call would cost as much as reading this many entries.
_GAP = 32

# Times that a process is read while its VMAs keep changing.
_ATTEMPTS = 3

# PAGEMAP_SCAN, struct pm_scan_arg and struct page_region: Documentation/admin-guide/mm/pagemap.rst.
_PM_SCAN_ARG = struct.Struct("=12Q")
_PAGE_REGION = np.dtype([("start", "=u8"), ("end", "=u8"), ("categories", "=u8")])
_PAGE_IS_PRESENT, _PAGE_IS_SWAPPED, _PAGE_IS_HUGE = 1 << 3, 1 << 4, 1 << 6
_PAGEMAP_SCAN = (3 << 30) | (_PM_SCAN_ARG.size << 16) | (ord("f") << 8) | 16
# Regions that one call of PAGEMAP_SCAN returns at most.
_REGIONS = 4096

_MAPS = re.compile(
    r"(?P<start>[0-9a-f]+)-(?P<end>[0-9a-f]+) (?P<perms>\S{4}) (?P<offset>[0-9a-f]+) (?P<device>\S+) (?P<inode>\d+) *"
    r"(?P<name>.*)",
    re.DOTALL,  # a file name may hold any byte; /proc escapes only the line feed
)
_SMAPS_KB = re.compile(r"(\w+):\s+(\d+) kB")


@dataclass(frozen=True)
class Captured:
    """What :func:`capture` wrote for one process.

    Parameters
    ----------
    pid : int
        Process.
    path : str
        File.
    vmas, pages, present : int
        VMAs, their pages, and the pages of them that are present.
    file_bytes : int
        Size of the file.
    seconds : float
        Time that reading the process took.

    Examples
    --------
    >>> import rmapfast as rf
    >>> [one] = rf.capture(1234, "mine.npz")  # doctest: +SKIP
    >>> one.present  # doctest: +SKIP
    19104
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
    path: str | os.PathLike[str],
    *,
    freeze: bool = False,
    anonymise: bool = False,
    overwrite: bool = False,
    progress: Callable[[str], None] | None = None,
) -> list[Captured]:
    """Capture live processes in files of the format ``rle3``, which :meth:`rmapfast.Population.load` reads.

    Parameters
    ----------
    pids : int or iterable of int
        Processes.
    path : path
        For one process: the file, ``NAME.npz``. For several: they are written to ``NAME_p0.npz``, ``NAME_p1.npz``, ...
        in their order. Loaded together, folios that they share are joined by PFN.
    freeze : bool
        Stop the processes while they are read (SIGSTOP), and let them go on afterwards, whatever happens.
    anonymise : bool
        Renumber addresses, offsets, page frames, swap slots and inodes, and drop names. docs/howto-capture.md lists
        what stays; a reclaim of the capture counts the same.
    overwrite : bool
        Replace files that exist.
    progress : callable, optional
        Called with a line of text some times a second.

    Returns
    -------
    list of Captured
        One for each process, in their order.

    Raises
    ------
    CaptureError
        If a process cannot be captured. Then no file is written.
    OSError
        If a file cannot be written.

    Examples
    --------
    >>> import rmapfast as rf
    >>> captured = rf.capture(1234, "mine.npz")  # doctest: +SKIP
    >>> population = rf.Population.load("mine.npz")  # doctest: +SKIP
    """
    for name, flag in (("freeze", freeze), ("anonymise", anonymise), ("overwrite", overwrite)):
        checked_boolean(name, flag)
    checked_progress(progress)
    checked_path("path", path)
    pids = _pids(pids)
    page_shift = os.sysconf("SC_PAGE_SIZE").bit_length() - 1
    paths = _paths(path, len(pids))
    for each in paths:
        check_writable(each, overwrite=overwrite)
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(Process(pid, page_shift)) for pid in pids]
        if freeze:
            stack.enter_context(_stopped(processes))
        images = [process.read(progress) for process in processes]
    if anonymise:
        anonymise_images(images)
    contents = [image.encode() for image in images]
    write_together(zip(paths, contents, strict=True), overwrite=overwrite)
    return [
        Captured(pid, str(each), len(image.vmas), image.pages, image.present, len(content), image.seconds)
        for pid, each, image, content in zip(pids, paths, images, contents, strict=True)
    ]


def capture_of_ranges(pid: int, ranges: list[tuple[int, int]]) -> Capture:
    """Return the capture of the VMAs of a process that lie inside given ranges of addresses.

    Parameters
    ----------
    pid : int
        Process.
    ranges : list of (int, int)
        Start and length of each range, in bytes.

    Raises
    ------
    CaptureError
        If the process cannot be captured.
    """
    page_shift = os.sysconf("SC_PAGE_SIZE").bit_length() - 1
    with Process(pid, page_shift) as process:
        content = process.read(ranges=ranges).encode()
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        file.write(content)
        file.flush()
        return Capture.load(file.name)


def _pids(pids: int | Iterable[int]) -> list[int]:
    """Return the processes as a list, checked."""
    if not sys.platform.startswith("linux"):
        raise CaptureError(f"capture: needs Linux, whose /proc shows page tables, got {sys.platform}")
    # A str is not accepted, but one is reported as a whole and not letter by letter.
    pids = [pids] if isinstance(pids, int | str) else checked_list("pid", pids, "numbers of processes")
    if not pids:
        raise CaptureError("pid: expected at least one, got none")
    for number, pid in enumerate(pids):
        if type(pid) is not int or pid < 1:
            raise CaptureError(f"pid: expected the number of a process, 1 or more, got {shown(pid)}")
        if pid in pids[:number]:
            raise CaptureError(f"pid: expected each process once, got {pid} again")
    return pids


def _paths(path: str | os.PathLike[str], nr: int) -> list[Path]:
    """Return the file of each process."""
    path = Path(path)
    if path.suffix != ".npz":
        raise CaptureError(f"{path}: expected a file name ending in .npz")
    return [path] if nr == 1 else [path.with_name(f"{path.stem}_p{number}.npz") for number in range(nr)]


class Process:
    """The /proc files of one process, to be used in a ``with`` block.

    They stay open in between, so that a process that gets the PID later is not taken for this one.

    Parameters
    ----------
    pid : int
        Process.
    page_shift : int
        log2 of the page size in bytes.
    """

    def __init__(self, pid: int, page_shift: int) -> None:
        self.pid, self.page_shift = pid, page_shift
        self._files: dict[str, int] = {}
        self._folder = -1

    def __enter__(self) -> Process:
        try:
            self._open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for file in (*self._files.values(), self._folder):
            if file >= 0:
                os.close(file)
        self._files, self._folder = {}, -1

    def _open(self) -> None:
        """Open all files; raise CaptureError if that is not possible."""
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
            if self.state() in "ZX":  # true for "" as well: it is gone
                raise CaptureError(f"pid: process {self.pid} exited") from None
            if isinstance(error, ProcessLookupError):
                raise self._no_memory() from None
            raise CaptureError(
                f"{os.path.join(where, name)}: not there: needs Linux with CONFIG_PROC_PAGE_MONITOR"
            ) from None

    def _no_memory(self) -> CaptureError:
        """Return the error for a process without memory."""
        return CaptureError(f"pid: process {self.pid} has no memory: it is a kernel thread, or is exiting")

    def _exited(self) -> CaptureError:
        """Return the error for a process that exited meanwhile."""
        return CaptureError(f"pid: process {self.pid} exited (or executed another program) while it was read")

    def state(self) -> str:
        """Return the letter of its state, as in /proc/PID/stat, or "" if the process is gone."""
        return self._state("stat")

    def states(self) -> str:
        """Return the letters of the states of all its threads, or "" if the process is gone."""
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
        """Return the letter of the state in a file ``stat``, or ""."""
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
        """Send a signal to this process. As its folder is open, no later process with its PID can get it."""
        signal.pidfd_send_signal(self._folder, number)

    def _read(self, name: str, size: int, offset: int) -> bytes:
        """Read a part of a file."""
        try:
            return os.pread(self._files[name], size, offset)
        except ProcessLookupError:
            raise self._exited() from None
        except PermissionError:
            # The process has become another user's since the file was opened.
            raise CaptureError(
                f"/proc/{self.pid}/{name}: not permitted: needs CAP_SYS_ADMIN and CAP_SYS_PTRACE (root has both)"
            ) from None

    def _text(self, name: str) -> str:
        """Read a whole file as text."""
        pieces, offset = [], 0
        while piece := self._read(name, 1 << 20, offset):
            pieces.append(piece)
            offset += len(piece)
        return b"".join(pieces).decode("utf-8", "replace")

    def read(self, progress: Callable[[str], None] | None = None, ranges: list[tuple[int, int]] | None = None) -> Image:
        """Read the process; read it again if its VMAs changed meanwhile.

        Parameters
        ----------
        progress : callable, optional
            Called with a line of text some times a second.
        ranges : list of (int, int), optional
            Read only the VMAs that lie inside ranges of (start, length), in bytes.

        Raises
        ------
        CaptureError
            If it cannot be read, exits, or keeps changing its VMAs.
        """
        for _ in range(_ATTEMPTS):
            start = time.monotonic()
            vmas = self._vmas()
            if ranges is not None:
                vmas = [vma for vma in vmas if any(a <= vma.start and vma.end <= a + n for a, n in ranges)]
            total = sum(vma.end - vma.start for vma in vmas) >> self.page_shift
            if total >= MAX_PAGES:
                raise CaptureError(f"pid: process {self.pid} maps {total} pages; expected less than 2^33")
            pm, kf, kc = RunEncoder(True), RunEncoder(False), RunEncoder(False)
            huge: list[Region] = []
            done = 0
            for vma in vmas:
                chunks_before = len(pm.chunks)
                for nr, entries in self.pagemap(vma):
                    pm.add(entries, nr)
                    self._physical(entries, kf, kc)
                    done += nr
                    if progress:
                        progress(f"process {self.pid}: {done} of {total} pages")
                huge += self._huge(vma, pm.joined(chunks_before))
            if ranges is not None or self._text("maps") == self._maps:
                return Image(
                    vmas,
                    huge,
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

    def _vmas(self) -> list[Vma]:
        """Read the VMAs from maps and smaps."""
        self._maps = self._text("maps")
        vmas: list[Vma] = []
        for line in self._text("smaps").split("\n"):
            if match := _MAPS.fullmatch(line):
                name = match["name"]
                vmas.append(
                    Vma(
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
        # [vsyscall] lies in the kernel's half of the addresses, which pagemap does not show.
        vmas = [vma for vma in vmas if vma.name != "[vsyscall]"]
        if not vmas:
            raise self._no_memory()
        return vmas

    def pagemap(self, vma: Vma) -> Iterator[tuple[int, npt.NDArray[np.uint64]]]:
        """Yield the VMA in chunks: the number of pages, and their entries or the one entry that all of them have."""
        start, end = vma.start >> self.page_shift, vma.end >> self.page_shift
        while start < end:
            # Chunks end at multiples of the chunk size, so that they do not cut a page table.
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
                continue  # pages appeared after the range was found to be empty
            yield nr, entries
            start += nr

    def _empty(self, start: int, nr: int) -> bool:
        """Return whether none of these pages has an entry; False if the kernel does not tell."""
        first, last = start << self.page_shift, (start + nr) << self.page_shift
        try:
            regions, _ = self.scan(first, last, any_of=_PAGE_IS_PRESENT | _PAGE_IS_SWAPPED, regions=1, max_pages=1)
        except OSError:
            return False
        return not regions

    def _physical(self, entries: npt.NDArray[np.uint64], kf: RunEncoder, kc: RunEncoder) -> None:
        """Append kpageflags and kpagecount of the present pages among these entries of pagemap."""
        pfns = (entries[(entries & PM_PRESENT) != 0] & PM_PFN).astype(np.int64)
        if not len(pfns):
            return
        distinct, back = np.unique(pfns, return_inverse=True)
        # A frame of a device may lie behind the end of memory. It has no entry.
        kf.add(_at(self._files["kpageflags"], distinct, 1 << KPF["nopage"])[back])
        count = _at(self._files["kpagecount"], distinct, 0)
        # For a frame that is not a page of a folio, the count can be any number, even a negative one.
        count[count >= 1 << 31] = 0
        kc.add(count[back])

    def _huge(self, vma: Vma, pm: RunLengths) -> list[Region]:
        """Return the ranges of a VMA that PMDs map: by PAGEMAP_SCAN, before Linux 6.7 by smaps and pagemap."""
        if "ht" in vma.flags.split():  # hugetlb: its pages may have any size
            return []
        try:
            return self._scan_huge(vma)
        except ProcessLookupError:
            raise self._exited() from None
        except OSError as error:
            if error.errno not in (errno.ENOTTY, errno.EINVAL):
                raise
        return self._huge_by_smaps(vma, pm)

    def _scan_huge(self, vma: Vma) -> list[Region]:
        """Return the ranges of a VMA that PMDs map, by PAGEMAP_SCAN."""
        found: list[Region] = []
        start = vma.start
        while start < vma.end:
            regions, walked = self.scan(start, vma.end, all_of=_PAGE_IS_PRESENT | _PAGE_IS_HUGE)
            found += regions
            if walked <= start:
                break
            start = walked
        return found

    def scan(
        self, start: int, end: int, *, all_of: int = 0, any_of: int = 0, regions: int = _REGIONS, max_pages: int = 0
    ) -> tuple[list[Region], int]:
        """Call PAGEMAP_SCAN.

        Parameters
        ----------
        start, end : int
            Addresses.
        all_of, any_of : int
            Categories that a page must have, all of them or any of them.
        regions, max_pages : int
            Most regions, and pages in them, to return; 0 pages: no limit.

        Returns
        -------
        list of Region
            Ranges of such pages.
        int
            Address up to which the kernel looked.

        Raises
        ------
        OSError
            If the kernel has no PAGEMAP_SCAN, or the process is gone.
        """
        found = np.zeros(regions, _PAGE_REGION)
        argument = bytearray(
            _PM_SCAN_ARG.pack(
                *(_PM_SCAN_ARG.size, 0, start, end, 0, found.ctypes.data, regions, max_pages),
                *(0, all_of, any_of, all_of | any_of),  # categories: inverted, all of, any of, returned
            )
        )
        nr = fcntl.ioctl(self._files["pagemap"], _PAGEMAP_SCAN, argument)
        walk_end: int = _PM_SCAN_ARG.unpack(argument)[4]
        return [Region(int(region["start"]), int(region["end"])) for region in found[:nr]], walk_end

    def _huge_by_smaps(self, vma: Vma, pm: RunLengths) -> list[Region]:
        """Return the tables that may be PMD-mapped, if smaps counts as many; it does not say which ones are."""
        kb = sum(vma.smaps_kb.get(name, 0) for name in ("AnonHugePages", "ShmemPmdMapped", "FilePmdMapped"))
        if not kb:
            return []
        length, value = pm
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
        return [Region(int(one) << self.page_shift, int(one + ptrs) << self.page_shift) for one in table]


def _at(file: int, pfns: npt.NDArray[np.int64], missing: int) -> npt.NDArray[np.uint64]:
    """Return the entries of /proc/kpageflags or kpagecount for page frames in rising order.

    Frames that are near to each other are read with one call. Frames without an entry get the value `missing`.
    """
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
def _stopped(processes: list[Process]) -> Iterator[None]:
    """Stop processes while the block runs. Those that were stopped before stay stopped afterwards."""
    running = [process for process in processes if process.state() not in "Tt"]
    if any(process.pid == os.getpid() for process in running):
        raise CaptureError("--freeze: a process cannot stop itself")
    with undone(lambda: resume(running)):
        for process in running:
            try:
                process.send(signal.SIGSTOP)
            except ProcessLookupError:
                raise CaptureError(f"pid: process {process.pid} exited") from None
            except PermissionError:
                raise CaptureError(f"pid: process {process.pid} may not be stopped: needs root or CAP_KILL") from None
        _wait_stopped(running)
        yield


def _wait_stopped(processes: list[Process]) -> None:
    """Wait until all threads are stopped."""
    end = time.monotonic() + 5
    while not all(set(process.states()) <= set("TtZX") for process in processes):
        if time.monotonic() > end:
            raise CaptureError("--freeze: a process did not stop within 5 s (it waits for a device)")
        time.sleep(0.001)


def resume(processes: list[Process]) -> None:
    """Let processes go on."""
    for process in processes:
        with contextlib.suppress(OSError):
            process.send(signal.SIGCONT)
