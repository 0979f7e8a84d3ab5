"""Files of captured processes, format ``rle3``. docs/capture-format.md describes it.

A file may come from somebody else. Everything is checked before it is used, and sizes before memory is allocated.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rmapfast.layout import MAX_PAGES, ranges, sorted_unique
from rmapfast.lru import LRUS
from rmapfast.support import printable_json, read_regular

FORMAT = "rle3"
# The arrays of a file.
_KEYS: dict[str, type[np.generic]] = {
    "vma_start": np.uint64,
    "vma_end": np.uint64,
    "vma_pgoff": np.uint64,
    "vma_ino": np.uint64,
    "huge_start": np.uint64,
    "huge_end": np.uint64,
    "pm_len": np.uint32,
    "pm_dval": np.uint64,
    "kf_len": np.uint32,
    "kf_val": np.uint64,
    "kc_len": np.uint32,
    "kc_val": np.uint64,
    "meta": np.uint8,
}
# Most bytes of one array, and of the JSON document. In practice no capture of a process that can be simulated has more.
_MAX_MEMBER = 1 << 28
_MAX_META = 1 << 26
# Most bytes of the header of an npy member.
_MAX_HEADER = 1 << 14

# Bits of an entry of /proc/PID/pagemap.
PM_PFN = np.uint64((1 << 55) - 1)
PM_SOFT_DIRTY = np.uint64(1 << 55)
PM_EXCLUSIVE = np.uint64(1 << 56)
PM_UFFD_WP = np.uint64(1 << 57)
PM_GUARD = np.uint64(1 << 58)
PM_SWAP = np.uint64(1 << 62)
PM_PRESENT = np.uint64(1 << 63)

# Numbers of the bits of an entry of /proc/kpageflags.
KPF = {
    "referenced": 2, "dirty": 4, "active": 6, "anon": 12, "swapcache": 13, "swapbacked": 14, "head": 15, "tail": 16,
    "hugetlb": 17, "unevictable": 18, "hwpoison": 19, "nopage": 20, "zero": 24, "reserved": 32, "mlocked": 33,
}  # fmt: skip


class CaptureError(ValueError):
    """A process cannot be captured, or a file is damaged, not a capture, or contradicts another one.

    Examples
    --------
    >>> import rmapfast as rf
    >>> try:
    ...     rf.capture(2**31 - 1, "mine.npz")
    ... except rf.CaptureError:
    ...     print("there is no such process, or it may not be captured")
    there is no such process, or it may not be captured
    """


class RunLengths(NamedTuple):
    """Entries coded as runs.

    Parameters
    ----------
    length : array of int64, shape (runs,)
        Entries in each run.
    first : array of uint64, shape (runs,)
        First entry of each run. :func:`runs` says what the others are.
    """

    length: npt.NDArray[np.int64]
    first: npt.NDArray[np.uint64]


class Capture:
    """One process as its ``/proc`` files showed it; :meth:`load` reads one.

    Attributes
    ----------
    path : str
        File that it was read from.
    meta : dict
        As recorded. ``vma_text`` holds perms, name and VmFlags of each VMA.
    page_shift : int
        log2 of the page size in bytes.
    nr_pages, nr_present : int
        Pages of all VMAs, and present ones.
    vma_start, vma_end : array of uint64, shape (VMAs,)
        Virtual page numbers; the end is exclusive.
    vma_pgoff, vma_ino : array of uint64, shape (VMAs,)
        Page offset of the first page; inode, 0 for anonymous memory.
    vma_first : array of int64, shape (VMAs,)
        Number of the first page; the pages of all VMAs are numbered in address order.
    huge_start, huge_end : array of uint64, shape (ranges,)
        Ranges of virtual page numbers that PMDs map; the end is exclusive.
    huge_vma : array of int64, shape (ranges,)
        VMA of each of these ranges.
    vma_perms, vma_name : list of str
        As in ``/proc/PID/maps``.
    vma_flags : list of set of str
        VmFlags of ``/proc/PID/smaps``.
    pm : RunLengths
        Entries of pagemap, one per page. The entries of a present run count up.
    kf, kc : RunLengths
        Entries of kpageflags and kpagecount, one per present page.
    input_hash : str
        SHA-256 (hex) of the file.
    """

    def __init__(
        self, path: str, meta: dict[str, Any], arrays: Mapping[str, npt.NDArray[Any]], input_hash: str
    ) -> None:
        self.path, self.input_hash = path, input_hash
        self._take_meta(meta)
        self._vmas(arrays)
        self._runs(arrays)
        self._huge(arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Capture:
        """Read one capture.

        Parameters
        ----------
        path : path
            A file of the format ``rle3``.

        Returns
        -------
        Capture

        Raises
        ------
        CaptureError
            If the file is not a capture or is damaged. The message names the file and what is wrong.
        OSError
            If the file cannot be read.
        """
        data = read_regular(path)
        return cls(os.fspath(path), *_read_npz(os.fspath(path), data), hashlib.sha256(data).hexdigest())

    def error(self, problem: str) -> CaptureError:
        """Return the error that names this file and a problem."""
        return CaptureError(f"{self.path}: {problem}")

    def _take_meta(self, meta: dict[str, Any]) -> None:
        """Take the JSON document."""
        self.meta, self.nr_pages, self.nr_present = meta, meta["npages"], meta["npresent"]
        self.page_shift = meta.get("page_shift", 12)
        self.vma_perms = [vma["perms"] for vma in meta["vma_text"]]
        self.vma_name = [vma["name"] for vma in meta["vma_text"]]
        self.vma_flags = [set(vma["flags"].split()) for vma in meta["vma_text"]]

    def _vmas(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Check and take the VMAs."""
        start, end = arrays["vma_start"], arrays["vma_end"]
        if (
            len({len(arrays[key]) for key in ("vma_start", "vma_end", "vma_pgoff", "vma_ino")} | {len(self.vma_name)})
            != 1
        ):
            raise self.error("vma_start, vma_end, vma_pgoff, vma_ino, vma_text: expected one entry per VMA in each")
        if np.any((start | end) & np.uint64((1 << self.page_shift) - 1)):
            raise self.error(f"vma_start, vma_end: expected multiples of the {1 << self.page_shift} byte page")
        if np.any(start >= end):
            raise self.error("vma_end: expected end above start in every VMA")
        if np.any(start[1:] < end[:-1]):
            raise self.error("vma_start: expected VMAs in address order without overlap")
        self.vma_start, self.vma_end = start >> np.uint64(self.page_shift), end >> np.uint64(self.page_shift)
        self.vma_pgoff, self.vma_ino = arrays["vma_pgoff"], arrays["vma_ino"]
        total = int((self.vma_end - self.vma_start).sum())
        if total != self.nr_pages:
            raise self.error(f"meta: expected npages of the {total} pages in the VMAs, got {self.nr_pages}")
        if np.any(self.vma_end > 1 << 52):
            raise self.error("vma_end: expected virtual page numbers up to 2^52")
        if np.any(self.vma_pgoff > (1 << 52) - MAX_PAGES):
            raise self.error("vma_pgoff: expected page offsets below 2^52 - 2^33")
        self.vma_first = np.cumsum(self.vma_end - self.vma_start).astype(np.int64)
        self.vma_first -= (self.vma_end - self.vma_start).astype(np.int64)

    def _runs(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Check and take the runs of pagemap, kpageflags and kpagecount."""
        lengths = {}
        for name, value, total in (
            ("pm", "pm_dval", self.nr_pages),
            ("kf", "kf_val", self.nr_present),
            ("kc", "kc_val", self.nr_present),
        ):
            length = arrays[f"{name}_len"]
            if len(length) != len(arrays[value]):
                raise self.error(
                    f"{name}_len: expected as many runs as {value} ({len(arrays[value])}), got {len(length)}"
                )
            if np.any(length == 0):
                raise self.error(f"{name}_len: expected run lengths above 0")
            if int(length.sum(dtype=np.uint64)) != total:
                raise self.error(
                    f"{name}_len: expected run lengths that sum to {total}, got {int(length.sum(dtype=np.uint64))}"
                )
            lengths[name] = length.astype(np.int64)
        self.pm = RunLengths(lengths["pm"], np.cumsum(arrays["pm_dval"], dtype=np.uint64))
        self.kf = RunLengths(lengths["kf"], arrays["kf_val"])
        self.kc = RunLengths(lengths["kc"], arrays["kc_val"])
        present = self.pm.first & PM_PRESENT > 0
        found = int(self.pm.length[present].sum())
        if found != self.nr_present:
            raise self.error(f"pm_dval: expected {self.nr_present} present pages as in meta, got {found}")
        pfn = (self.pm.first & PM_PFN)[present]
        if len(pfn) and not pfn.any():
            raise self.error(
                "pagemap: all PFNs are 0; the capture was taken without CAP_SYS_ADMIN, which is needed to see them"
            )
        if len(pfn) and int((pfn + self.pm.length[present].astype(np.uint64)).max()) >= 1 << 52:
            raise self.error("pagemap: expected PFNs below 2^52")
        if len(self.kc.first) and int(self.kc.first.max()) >= 1 << 31:
            raise self.error(f"kc_val: expected mapcounts below 2^31, got {int(self.kc.first.max())}")

    def _huge(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Check and take the ranges that PMDs map."""
        start, end = arrays["huge_start"], arrays["huge_end"]
        if len(start) != len(end) or np.any((start | end) & np.uint64((1 << self.page_shift) - 1)):
            raise self.error("huge_start, huge_end: expected as many starts as ends, multiples of the page")
        start, end = start >> np.uint64(self.page_shift), end >> np.uint64(self.page_shift)
        vma = np.searchsorted(self.vma_start, start, side="right") - 1
        if np.any(start >= end) or np.any(start[1:] < end[:-1]) or np.any(vma < 0) or np.any(end > self.vma_end[vma]):
            raise self.error("huge_start, huge_end: expected ordered ranges, each inside one VMA")
        self.huge_start, self.huge_end, self.huge_vma = start, end, vma

    # Decoded arrays

    @property
    def pagemap(self) -> npt.NDArray[np.uint64]:
        """Entry of each page, as uint64 of shape (nr_pages,)."""
        length, value = self.pm
        step: npt.NDArray[np.uint64] = np.repeat((value & PM_PRESENT) >> np.uint64(63), length)
        first = np.repeat(np.cumsum(length) - length, length)
        number: npt.NDArray[np.uint64] = (np.arange(self.nr_pages) - first).astype(np.uint64)
        return np.repeat(value, length) + step * number

    @property
    def kpageflags(self) -> npt.NDArray[np.uint64]:
        """Flags of each present page, as uint64 of shape (nr_present,)."""
        return np.repeat(self.kf.first, self.kf.length)

    @property
    def kpagecount(self) -> npt.NDArray[np.uint64]:
        """Mapcount of each present page, as uint64 of shape (nr_present,)."""
        return np.repeat(self.kc.first, self.kc.length)

    def pieces(self, ptrs_per_pte: int) -> dict[str, npt.NDArray[Any]]:
        """Return the pages as pieces in which VMA, pagemap run, flags, count and huge table are the same.

        Pages without an entry are left out.

        Returns
        -------
        dict of ndarray, each of shape (pieces,)
            ``page`` (number of the first page in the capture), ``len`` (pages), ``pm`` (pagemap entry of the first
            page), ``kf`` and ``kc`` (0 if not present), ``vma``, and ``table`` (number of the PMD-mapped table, -1 if
            none).
        """
        pm_length, pm_first = self.pm
        present = pm_first & PM_PRESENT > 0
        pm_start = np.cumsum(pm_length) - pm_length
        # kpageflags and kpagecount hold present pages only. Of each present run: the number of its first page among all
        # pages, and among the present ones.
        run_page = pm_start[present]
        run_number = np.cumsum(pm_length[present]) - pm_length[present]
        cuts = [pm_start, self.vma_first]
        starts = []
        for coded in (self.kf, self.kc):
            start = np.cumsum(coded.length) - coded.length
            run = np.searchsorted(run_number, start, side="right") - 1
            cuts.append(run_page[run] + start - run_number[run])
            starts.append(start)
        table = self._huge_tables(ptrs_per_pte)
        cuts += [table, table + ptrs_per_pte]
        page = sorted_unique(np.concatenate(cuts))
        page = page[page < self.nr_pages]
        run = np.searchsorted(pm_start, page, side="right") - 1
        is_present = present[run]
        pm = pm_first[run] + np.where(is_present, page - pm_start[run], 0).astype(np.uint64)
        kf, kc = np.zeros(len(page), np.uint64), np.zeros(len(page), np.int64)
        number = (np.cumsum(present) - 1)[run[is_present]]
        number = run_number[number] + page[is_present] - run_page[number]
        kf[is_present] = self.kf.first[np.searchsorted(starts[0], number, side="right") - 1]
        kc[is_present] = self.kc.first[np.searchsorted(starts[1], number, side="right") - 1].astype(np.int64)
        at = np.searchsorted(table, page, side="right") - 1
        in_table = (at >= 0) & (page < table[at] + ptrs_per_pte) if len(table) else np.zeros(len(page), bool)
        columns = {
            "page": page,
            "len": np.diff(np.append(page, self.nr_pages)),
            "pm": pm,
            "kf": kf,
            "kc": kc,
            "vma": np.searchsorted(self.vma_first, page, side="right") - 1,
            "table": np.where(in_table, at, -1),
        }
        keep = is_present | (pm & PM_SWAP > 0)
        return {name: column[keep] for name, column in columns.items()}

    def _huge_tables(self, ptrs_per_pte: int) -> npt.NDArray[np.int64]:
        """Return the number of the first page of each table that one PMD maps."""
        if np.any((self.huge_start | self.huge_end) % np.uint64(ptrs_per_pte)):
            raise self.error(f"huge_start, huge_end: expected multiples of a page table's {ptrs_per_pte} pages")
        shift = self.vma_first[self.huge_vma] - self.vma_start[self.huge_vma].astype(np.int64)
        tables = (self.huge_end - self.huge_start).astype(np.int64) // ptrs_per_pte
        first = np.repeat(self.huge_start.astype(np.int64) + shift, tables)
        return first + ranges(np.zeros(len(tables)), tables) * ptrs_per_pte

    def __repr__(self) -> str:
        return f"<Capture {self.path}: {len(self.vma_start)} VMAs, {self.nr_pages} pages, {self.nr_present} present>"


def _meta_of(path: str, raw: npt.NDArray[Any]) -> dict[str, Any]:
    """Check and return the JSON document of a file."""
    try:
        meta = printable_json(raw.tobytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CaptureError(f"{path}: meta: expected UTF-8 JSON, got something else ({error})") from None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        got = meta.get("format") if isinstance(meta, dict) else type(meta).__name__
        raise CaptureError(f'{path}: meta: expected format "{FORMAT}", got {got!r}')
    for key, low, high in (("npages", 0, MAX_PAGES - 1), ("npresent", 0, MAX_PAGES - 1), ("page_shift", 10, 20)):
        value = meta.get(key, 12 if key == "page_shift" else None)
        if type(value) is not int or not low <= value <= high:
            raise CaptureError(f"{path}: meta: expected {key} from {low} to {high}, got {value!r}")
    if meta.get("lru") not in (None, *LRUS):
        raise CaptureError(f"{path}: meta: expected lru as one of {', '.join(LRUS)}, got {meta['lru']!r}")
    text, fields = meta.get("vma_text"), ("perms", "name", "flags")
    if not isinstance(text, list) or not all(
        isinstance(vma, dict) and all(isinstance(vma.get(field), str) for field in fields) for vma in text
    ):
        raise CaptureError(f"{path}: meta: expected vma_text as a list with perms, name and flags of each VMA")
    return meta


def _read_npz(path: str, data: bytes) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Return the JSON document and the arrays of a capture.

    Pickles are refused, and no member is inflated beyond what its header says. The document comes first: it says how
    many VMAs and pages there are, and no array has more elements than that.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            meta = _meta_of(path, _read_member(path, archive, "meta", _MAX_META))
            arrays = {}
            pages, present = meta["npages"], meta["npresent"]
            most = {"vma": len(meta["vma_text"]), "huge": pages, "pm": pages, "kf": present, "kc": present}
            for key in _KEYS:
                if key != "meta":
                    arrays[key] = _read_member(path, archive, key, most[key.partition("_")[0]])
    except (CaptureError, MemoryError):
        raise
    except Exception as error:
        # zipfile, zlib and npy headers raise many kinds of error for damaged bytes.
        reason = str(error) or type(error).__name__
        if os.fspath(path).lower().endswith((".json", ".nc", ".parquet", ".csv")):
            reason += "; load() reads saved results"
        raise CaptureError(f"{path}: expected an intact npz file, got one that cannot be read ({reason})") from None
    return meta, arrays


def _read_member(path: str, archive: zipfile.ZipFile, key: str, most: int) -> npt.NDArray[Any]:
    """Return an array of a capture that has `most` elements at most."""
    dtype = np.dtype(_KEYS[key])
    if f"{key}.npy" not in archive.namelist():
        raise CaptureError(f"{path}: expected a capture with the key {key}, which is missing")
    with archive.open(f"{key}.npy") as member:
        head = io.BytesIO(member.read(_MAX_HEADER))
        version = np.lib.format.read_magic(head)
        if version not in ((1, 0), (2, 0)):
            raise CaptureError(f"{path}: {key}: expected npy version 1 or 2, got {version}")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, found = read(head)
        if found != dtype.newbyteorder("<") or len(shape) != 1:
            raise CaptureError(f"{path}: {key}: expected 1-D {dtype}, got {found} with shape {shape}")
        size = shape[0] * dtype.itemsize
        if not 0 <= shape[0] <= most or size > _MAX_MEMBER:
            raise CaptureError(
                f"{path}: {key}: expected {min(most, _MAX_MEMBER // dtype.itemsize)} elements at most, got {shape[0]}"
            )
        body = head.read()
        body += member.read(max(size + 1 - len(body), 0))
    if len(body) != size:
        raise CaptureError(f"{path}: {key}: expected {shape[0]} elements, got {len(body)} bytes")
    return np.frombuffer(body, found).astype(dtype)


def runs(entries: npt.NDArray[np.uint64], counts_up: bool) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    """Return the lengths and first entries of the runs of an array of uint64.

    Within a run all entries are equal. With `counts_up`, present pagemap entries grow by 1 from page to page instead.
    """
    if not len(entries):
        return np.empty(0, np.int64), np.empty(0, np.uint64)
    expected = entries[:-1] + ((entries[:-1] >> np.uint64(63)) if counts_up else np.uint64(0))
    # Counting up from the largest entry would wrap to 0, and 0 does not count up.
    first = np.flatnonzero(np.concatenate([[True], (entries[1:] != expected) | (expected < entries[:-1])]))
    return np.diff(first, append=len(entries)), entries[first]


def encode(
    meta: Mapping[str, Any],
    *,
    vma: Mapping[str, Sequence[int]],
    huge: Sequence[tuple[int, int]],
    pm: RunLengths,
    kf: RunLengths,
    kc: RunLengths,
) -> bytes:
    """Return a capture as the bytes of its file.

    Parameters
    ----------
    meta : dict
        The JSON document (docs/capture-format.md).
    vma : dict of list
        ``start`` and ``end`` in bytes, ``pgoff``, ``inode``: one element per VMA.
    huge : list of (int, int)
        Start and end in bytes of the ranges that PMDs map.
    pm, kf, kc : RunLengths
        Runs of pagemap, and of kpageflags and kpagecount of the present pages.
    """
    arrays: dict[str, npt.ArrayLike] = {
        "vma_start": vma["start"],
        "vma_end": vma["end"],
        "vma_pgoff": vma["pgoff"],
        "vma_ino": vma["inode"],
        "huge_start": np.array([start for start, _ in huge], np.uint64),
        "huge_end": np.array([end for _, end in huge], np.uint64),
        "pm_len": pm.length,
        "pm_dval": np.diff(pm.first, prepend=np.uint64(0)),
        "kf_len": kf.length,
        "kf_val": kf.first,
        "kc_len": kc.length,
        "kc_val": kc.first,
        "meta": np.frombuffer(json.dumps(meta).encode("utf-8"), np.uint8),
    }
    file = io.BytesIO()
    typed: dict[str, Any] = {key: np.asarray(array).astype(_KEYS[key]) for key, array in arrays.items()}
    np.savez_compressed(file, **typed)
    return file.getvalue()


def has_flags(kpageflags: npt.NDArray[np.uint64], *names: str) -> npt.NDArray[np.bool_]:
    """Return whether any of the named bits is set in each entry of kpageflags."""
    return kpageflags & np.uint64(sum(1 << KPF[name] for name in names)) > 0
