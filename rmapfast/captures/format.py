"""Captures of processes as files (format ``rle3``), and the folios that their kpageflags show.

A file is data from somebody else: everything is checked before it is used, and sizes before memory is allocated.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile

import numpy as np

from rmapfast.layout import MAX_ORDER, MAX_PAGES, ranges, sorted_unique

FORMAT = "rle3"
_KEYS = {
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
# A run-length coded capture of 2^33 pages has at most so many bytes per array in practice.
_MAX_MEMBER = 1 << 31

# /proc/PID/pagemap
PM_PFN = np.uint64((1 << 55) - 1)
PM_SOFT_DIRTY = np.uint64(1 << 55)
PM_EXCLUSIVE = np.uint64(1 << 56)
PM_UFFD_WP = np.uint64(1 << 57)
PM_GUARD = np.uint64(1 << 58)
PM_SWAP = np.uint64(1 << 62)
PM_PRESENT = np.uint64(1 << 63)

# /proc/kpageflags
KPF = {
    "referenced": 2, "dirty": 4, "active": 6, "anon": 12, "swapcache": 13, "swapbacked": 14, "head": 15, "tail": 16,
    "hugetlb": 17, "unevictable": 18, "hwpoison": 19, "nopage": 20, "zero": 24, "reserved": 32, "mlocked": 33,
}  # fmt: skip


class CaptureError(ValueError):
    """A file that is no capture of this format, or a damaged one."""


class Capture:
    """One process as its ``/proc`` files showed it.

    Attributes
    ----------
    path : str
        File it was read from.
    meta : dict
        As recorded; ``vma_text`` holds perms, name and VmFlags per VMA.
    page_shift : int
        log2 of the page size.
    nr_pages, nr_present : int
        Pages of all VMAs; present ones.
    vma_start, vma_end, huge_start, huge_end : array of uint64
        Virtual page numbers; end exclusive.
    vma_pgoff, vma_ino : array of uint64, shape (VMAs,)
        Page offset of the first page; inode.
    vma_perms, vma_name : list of str
        As in ``/proc/PID/maps``.
    vma_flags : list of set of str
        VmFlags of ``/proc/PID/smaps``.
    pm_len, kf_len, kc_len : array of int64
        Run lengths in pages (kf, kc: present pages only).
    pm_val, kf_val, kc_val : array of uint64
        First entry of each run.
    input_hash : str
        SHA-256 of the file.
    """

    def __init__(self, path: str, arrays: dict, input_hash: str):
        self.path, self.input_hash = path, input_hash
        self._meta(arrays["meta"])
        self._vmas(arrays)
        self._runs(arrays)
        self._huge(arrays)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Capture:
        """Read one capture.

        Raises
        ------
        CaptureError
            If the file is no capture or is damaged; names the file and what is wrong.
        OSError
            If it cannot be read.
        """
        with open(path, "rb") as file:
            data = file.read()
        return cls(os.fspath(path), _read_npz(os.fspath(path), data), hashlib.sha256(data).hexdigest())

    def _error(self, problem: str) -> CaptureError:
        return CaptureError(f"{self.path}: {problem}")

    def _meta(self, raw: np.ndarray) -> None:
        try:
            meta = json.loads(raw.tobytes().decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise self._error(f"meta: expected UTF-8 JSON, got something else ({error})") from None
        if not isinstance(meta, dict) or meta.get("format") != FORMAT:
            got = meta.get("format") if isinstance(meta, dict) else type(meta).__name__
            raise self._error(f'meta: expected format "{FORMAT}", got {got!r}')
        self.page_shift = meta.get("page_shift", 12)
        for key, low, high in (("npages", 0, MAX_PAGES - 1), ("npresent", 0, MAX_PAGES - 1), ("page_shift", 10, 20)):
            value = meta.get(key, 12 if key == "page_shift" else None)
            if type(value) is not int or not low <= value <= high:
                raise self._error(f"meta: expected {key} from {low} to {high}, got {value!r}")
        text = meta.get("vma_text")
        fields = ("perms", "name", "flags")
        if not isinstance(text, list) or not all(
            isinstance(vma, dict) and all(isinstance(vma.get(field), str) for field in fields) for vma in text
        ):
            raise self._error("meta: expected vma_text as a list with perms, name and flags of each VMA")
        self.meta, self.nr_pages, self.nr_present = meta, meta["npages"], meta["npresent"]
        self.vma_perms = [vma["perms"] for vma in text]
        self.vma_name = [vma["name"] for vma in text]
        self.vma_flags = [set(vma["flags"].split()) for vma in text]

    def _vmas(self, arrays: dict) -> None:
        start, end = arrays["vma_start"], arrays["vma_end"]
        if (
            len({len(arrays[key]) for key in ("vma_start", "vma_end", "vma_pgoff", "vma_ino")} | {len(self.vma_name)})
            != 1
        ):
            raise self._error("vma_start, vma_end, vma_pgoff, vma_ino, vma_text: expected one entry per VMA in each")
        if np.any((start | end) & np.uint64((1 << self.page_shift) - 1)):
            raise self._error(f"vma_start, vma_end: expected multiples of the {1 << self.page_shift} byte page")
        if np.any(start >= end):
            raise self._error("vma_end: expected end above start in every VMA")
        if np.any(start[1:] < end[:-1]):
            raise self._error("vma_start: expected VMAs in address order without overlap")
        self.vma_start, self.vma_end = start >> np.uint64(self.page_shift), end >> np.uint64(self.page_shift)
        self.vma_pgoff, self.vma_ino = arrays["vma_pgoff"], arrays["vma_ino"]
        total = int((self.vma_end - self.vma_start).sum())
        if total != self.nr_pages:
            raise self._error(f"meta: expected npages of the {total} pages in the VMAs, got {self.nr_pages}")
        if np.any(self.vma_end > 1 << 52):
            raise self._error("vma_end: expected virtual page numbers up to 2^52")
        if np.any(self.vma_pgoff > (1 << 52) - MAX_PAGES):
            raise self._error("vma_pgoff: expected page offsets below 2^52 - 2^33")
        self.vma_first = np.cumsum(self.vma_end - self.vma_start).astype(np.int64)
        self.vma_first -= (self.vma_end - self.vma_start).astype(np.int64)

    def _runs(self, arrays: dict) -> None:
        for name, value, total in (
            ("pm", "pm_dval", self.nr_pages),
            ("kf", "kf_val", self.nr_present),
            ("kc", "kc_val", self.nr_present),
        ):
            length = arrays[f"{name}_len"]
            if len(length) != len(arrays[value]):
                raise self._error(
                    f"{name}_len: expected as many runs as {value} ({len(arrays[value])}), got {len(length)}"
                )
            if np.any(length == 0):
                raise self._error(f"{name}_len: expected run lengths above 0")
            if int(length.sum(dtype=np.uint64)) != total:
                raise self._error(
                    f"{name}_len: expected run lengths that sum to {total}, got {int(length.sum(dtype=np.uint64))}"
                )
            setattr(self, f"{name}_len", length.astype(np.int64))
        self.pm_val = np.cumsum(arrays["pm_dval"], dtype=np.uint64)
        self.kf_val, self.kc_val = arrays["kf_val"], arrays["kc_val"]
        present = self.pm_val & PM_PRESENT > 0
        found = int(self.pm_len[present].sum())
        if found != self.nr_present:
            raise self._error(f"pm_dval: expected {self.nr_present} present pages as in meta, got {found}")
        pfn = (self.pm_val & PM_PFN)[present]
        if len(pfn) and not pfn.any():
            raise self._error(
                "pagemap: all PFNs are 0; the capture was taken without CAP_SYS_ADMIN, which is needed to see them"
            )
        if len(pfn) and int((pfn + self.pm_len[present].astype(np.uint64)).max()) >= 1 << 52:
            raise self._error("pagemap: expected PFNs below 2^52")
        if len(self.kc_val) and int(self.kc_val.max()) >= 1 << 31:
            raise self._error(f"kc_val: expected mapcounts below 2^31, got {int(self.kc_val.max())}")

    def _huge(self, arrays: dict) -> None:
        start, end = arrays["huge_start"], arrays["huge_end"]
        if len(start) != len(end) or np.any((start | end) & np.uint64((1 << self.page_shift) - 1)):
            raise self._error("huge_start, huge_end: expected as many starts as ends, multiples of the page")
        start, end = start >> np.uint64(self.page_shift), end >> np.uint64(self.page_shift)
        vma = np.searchsorted(self.vma_start, start, side="right") - 1
        if np.any(start >= end) or np.any(start[1:] < end[:-1]) or np.any(vma < 0) or np.any(end > self.vma_end[vma]):
            raise self._error("huge_start, huge_end: expected ordered ranges, each inside one VMA")
        self.huge_start, self.huge_end, self.huge_vma = start, end, vma

    # Decoded arrays

    @property
    def pagemap(self) -> np.ndarray:
        """Entry of each page, as uint64 of shape (nr_pages,)."""
        step = np.repeat((self.pm_val & PM_PRESENT) >> np.uint64(63), self.pm_len)
        first = np.repeat(np.cumsum(self.pm_len) - self.pm_len, self.pm_len)
        return np.repeat(self.pm_val, self.pm_len) + step * (np.arange(self.nr_pages) - first).astype(np.uint64)

    @property
    def kpageflags(self) -> np.ndarray:
        """Flags of each present page, as uint64 of shape (nr_present,)."""
        return np.repeat(self.kf_val, self.kf_len)

    @property
    def kpagecount(self) -> np.ndarray:
        """Mapcount of each present page, as uint64 of shape (nr_present,)."""
        return np.repeat(self.kc_val, self.kc_len)

    def pieces(self, ptrs_per_pte: int) -> dict[str, np.ndarray]:
        """Return the pages as pieces in which VMA, pagemap run, flags, count and huge table are the same.

        Columns: ``page`` (number of the first page in the capture), ``len``, ``pm`` (its pagemap entry), ``kf``, ``kc``
        (0 if not present), ``vma``, ``table`` (number of the PMD-mapped table, -1 if none). Pages without an entry are
        left out.
        """
        present = self.pm_val & PM_PRESENT > 0
        pm_start = np.cumsum(self.pm_len) - self.pm_len
        # Present pages are numbered by themselves: from such a number to the page.
        run_page = pm_start[present]
        run_number = np.cumsum(self.pm_len[present]) - self.pm_len[present]
        cuts = [pm_start, self.vma_first]
        starts = {}
        for name in ("kf", "kc"):
            length = getattr(self, f"{name}_len")
            starts[name] = np.cumsum(length) - length
            run = np.searchsorted(run_number, starts[name], side="right") - 1
            cuts.append(run_page[run] + starts[name] - run_number[run])
        table = self._huge_tables(ptrs_per_pte)
        cuts += [table, table + ptrs_per_pte]
        page = sorted_unique(np.concatenate(cuts))
        page = page[page < self.nr_pages]
        run = np.searchsorted(pm_start, page, side="right") - 1
        is_present = present[run]
        pm = self.pm_val[run] + np.where(is_present, page - pm_start[run], 0).astype(np.uint64)
        kf, kc = np.zeros(len(page), np.uint64), np.zeros(len(page), np.int64)
        number = (np.cumsum(present) - 1)[run[is_present]]
        number = run_number[number] + page[is_present] - run_page[number]
        kf[is_present] = self.kf_val[np.searchsorted(starts["kf"], number, side="right") - 1]
        kc[is_present] = self.kc_val[np.searchsorted(starts["kc"], number, side="right") - 1].astype(np.int64)
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

    def _huge_tables(self, ptrs_per_pte: int) -> np.ndarray:
        """Return the number of the first page of each table that a PMD maps whole."""
        if np.any((self.huge_start | self.huge_end) % np.uint64(ptrs_per_pte)):
            raise self._error(f"huge_start, huge_end: expected multiples of a page table's {ptrs_per_pte} pages")
        shift = self.vma_first[self.huge_vma] - self.vma_start[self.huge_vma].astype(np.int64)
        tables = (self.huge_end - self.huge_start).astype(np.int64) // ptrs_per_pte
        first = np.repeat(self.huge_start.astype(np.int64) + shift, tables)
        return first + ranges(np.zeros(len(tables)), tables) * ptrs_per_pte

    def __repr__(self):
        return f"<Capture {self.path}: {len(self.vma_start)} VMAs, {self.nr_pages} pages, {self.nr_present} present>"


def _read_npz(path: str, data: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of a capture; no pickles, and no more memory than the members really hold."""
    arrays = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = set(archive.namelist())
            for key, dtype in _KEYS.items():
                if f"{key}.npy" not in members:
                    raise CaptureError(f"{path}: expected a capture with the key {key}, which is missing")
                info = archive.getinfo(f"{key}.npy")
                if info.file_size > _MAX_MEMBER:
                    raise CaptureError(f"{path}: {key}: expected less than 2 GiB of runs, got {info.file_size} bytes")
                with archive.open(info) as member:
                    raw = io.BytesIO(member.read())
                version = np.lib.format.read_magic(raw)
                if version not in ((1, 0), (2, 0)):
                    raise CaptureError(f"{path}: {key}: expected npy version 1 or 2, got {version}")
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, found = read(raw)
                if found != np.dtype(dtype).newbyteorder("<") or len(shape) != 1:
                    raise CaptureError(f"{path}: {key}: expected 1-D {np.dtype(dtype)}, got {found} with shape {shape}")
                body = raw.read()
                if len(body) != shape[0] * found.itemsize:
                    raise CaptureError(f"{path}: {key}: expected {shape[0]} elements, got {len(body)} bytes")
                arrays[key] = np.frombuffer(body, found).astype(dtype)
    except CaptureError:
        raise
    except Exception as error:
        # zipfile, zlib and npy headers raise many kinds of error for damaged bytes.
        reason = str(error) or type(error).__name__
        raise CaptureError(f"{path}: expected an intact npz file, got one that cannot be read ({reason})") from None
    return arrays


def runs(entries: np.ndarray, counts_up: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the lengths and first entries of the runs of an array of uint64.

    Within a run all entries are equal; with `counts_up` a present pagemap entry grows by 1 per page instead.
    """
    if not len(entries):
        return np.empty(0, np.int64), np.empty(0, np.uint64)
    expected = entries[:-1] + ((entries[:-1] >> np.uint64(63)) if counts_up else np.uint64(0))
    # counting up from the largest entry would wrap to 0, from which nothing counts up
    first = np.flatnonzero(np.concatenate([[True], (entries[1:] != expected) | (expected < entries[:-1])]))
    return np.diff(first, append=len(entries)), entries[first]


def encode(meta: dict, *, vma: dict, huge: tuple, pm: tuple, kf: tuple, kc: tuple) -> bytes:
    """Return a capture as the bytes of its file.

    Parameters
    ----------
    meta : dict
        As docs/capture-format.md says.
    vma : dict of list
        ``start``, ``end`` (bytes), ``pgoff``, ``inode``.
    huge : tuple of array
        Starts and ends of PMD-mapped ranges, bytes.
    pm, kf, kc : tuple of array
        Lengths and first entries of the runs (:func:`runs`) of pagemap, and of kpageflags and kpagecount of the
        present pages.
    """
    arrays = {
        "vma_start": vma["start"],
        "vma_end": vma["end"],
        "vma_pgoff": vma["pgoff"],
        "vma_ino": vma["inode"],
        "huge_start": huge[0],
        "huge_end": huge[1],
        "pm_len": pm[0],
        "pm_dval": np.diff(pm[1], prepend=np.uint64(0)),
        "kf_len": kf[0],
        "kf_val": kf[1],
        "kc_len": kc[0],
        "kc_val": kc[1],
        "meta": np.frombuffer(json.dumps(meta).encode("utf-8"), np.uint8),
    }
    file = io.BytesIO()
    np.savez_compressed(file, **{key: np.asarray(array).astype(_KEYS[key]) for key, array in arrays.items()})
    return file.getvalue()


def has_flags(kpageflags: np.ndarray, *names: str) -> np.ndarray:
    """Return where any of these kpageflags bits is set."""
    return kpageflags & np.uint64(sum(1 << KPF[name] for name in names)) > 0


def visible_folios(start: np.ndarray, length: np.ndarray, kf: np.ndarray, index: np.ndarray):
    """Reconstruct the folios of visible pages.

    A page that is neither head nor tail is a folio of order 0. A run of pages that begins with a head belongs to the
    smallest naturally aligned power of two that starts at the head and holds the run (and one tail at least); a run of
    tails without a visible head to the smallest naturally aligned one that holds it and starts before it. Blocks that
    overlap are one folio. Where that contradicts a visible page (a head or single page inside, a tail at the start, an
    order above 13), the pages become folios of order 0.

    Parameters
    ----------
    start, length : array of int64
        Disjoint PFN intervals in rising order.
    kf : array of uint64
        Their kpageflags.
    index : array of int64
        Page offset (file, or anonymous) of their first page.

    Returns
    -------
    pfn, order : array of int64
        Folios in PFN order.
    broken : int
        Pages that became order 0 for contradictions.
    """
    last = start + length - 1
    head = has_flags(kf, "head") & (length == 1)
    tail = has_flags(kf, "tail") & ~head
    block, order = _compound_blocks(start, last, head, tail)
    size = 1 << order
    wrong = np.zeros(len(block) + 1, bool)
    inside = []
    for page in (start, last):
        at = np.searchsorted(block, page, side="right") - 1
        hit = (at >= 0) & (page < (block + size)[at]) if len(block) else np.zeros(len(page), bool)
        at = np.where(hit, at, len(block))
        inside.append(at)
        wrong[at[hit & ~tail & ~(head & (page == np.append(block, -1)[at]))]] = True
    at, at_last = inside
    wrong[at[at != at_last]] = wrong[at_last[at != at_last]] = True
    offset = start - np.append(block, 0)[at]
    wrong[at[(at < len(block)) & ((tail & (offset == 0)) | (index < offset))]] = True
    wrong[-1] = True
    single = wrong[at]
    block, order = block[~wrong[:-1]], order[~wrong[:-1]]
    pfn = np.concatenate([block, ranges(start[single], length[single])])
    order = np.concatenate([order, np.zeros(len(pfn) - len(order), np.int64)])
    rank = np.argsort(pfn, kind="stable")
    return pfn[rank], order[rank], int(length[single & (head | tail | has_flags(kf, "head"))].sum())


def _compound_blocks(start, last, head, tail) -> tuple[np.ndarray, np.ndarray]:
    """Return first PFN and order of the smallest natural blocks that hold runs of head and tail pages."""
    joins = np.zeros(len(start), bool)
    joins[1:] = tail[1:] & (head | tail)[:-1] & (start[1:] == last[:-1] + 1)
    first = np.flatnonzero(~joins)
    run_last = last[np.append(first[1:], len(start)) - 1] if len(first) else last
    with_head, compound = head[first], (head | tail)[first]
    low = np.maximum(np.where(with_head, start[first], start[first] - 1), 0)
    high = np.where(with_head, np.maximum(run_last, low + 1), run_last)
    order = np.frexp((low ^ high).astype(np.float64))[1].astype(np.int64)
    block = low >> order << order
    good = compound & (order <= MAX_ORDER) & ~(with_head & (block != low))
    # Natural blocks nest or are disjoint: of each nest, keep the largest.
    block, order = block[good], order[good]
    rank = np.lexsort((-order, block))
    block, order = block[rank], order[rank]
    reach = np.maximum.accumulate(block + (1 << order)) if len(block) else block
    top = np.ones(len(block), bool)
    top[1:] = block[1:] >= reach[:-1]
    return block[top], order[top]
