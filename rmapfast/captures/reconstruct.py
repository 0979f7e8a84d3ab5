"""From captures to the arrays of a population: folios, VMAs, page tables, rmap and LRU lists.

:func:`population_arrays` makes one table after the other. A table is a dict of columns of the same length; the
functions below fill them and add columns. Numbers of VMAs, pages and tables are those of the population.

``piece``
    Consecutive pages of one VMA with equal flags and counts. Columns of :meth:`Capture.pieces`: ``page``, ``len``,
    ``pm``, ``kf``, ``kc``, ``vma``, ``table``. Further ones: ``vpn`` (of the first page) and masks: ``present``;
    ``special`` (present, without a folio); ``mapped`` (present, with a folio); ``leaf`` (a PMD maps it); ``swapped``
    (swap entries).
``interval``
    Disjoint ranges of visible PFNs, in rising order: ``start``, ``length``. By the piece that shows it first: ``kf``,
    ``vma``, ``index`` (page offset of the first page) and ``page``. Its rows in ``part``: ``first_part`` and ``parts``,
    their number. ``external``: whether processes outside the captures map it too.
``seen``
    One row for each interval in each piece that shows it: ``piece``, ``interval``, ``vma``, ``index`` (page offset that
    this VMA gives the first page).
``folio``
    One row per folio, first in PFN order, later in the order of the first page that maps it: ``pfn``, ``order``,
    ``pages``, ``first_part``. By its first visible page: ``index`` (page offset of its first page) and ``vma``.
    Counted: ``visible`` (pages), ``total`` (mappings by PTEs), ``entire`` (mappings by PMDs), ``mapped`` (pages that
    PTEs map), ``differ`` (whether the mapcounts of its pages differ), ``flags``, ``anon``.
``part``
    One row for each folio and interval that overlap, in PFN order: ``folio``, ``interval``, ``pfn``, ``len``, ``page``,
    ``count`` (PTEs that map each page), ``flags`` (of each page).
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

import numpy as np
import numpy.typing as npt

import rmapfast._core as _core
from rmapfast import arch as _arch
from rmapfast import pte
from rmapfast.arch import Arch
from rmapfast.captures.assumptions import Assumptions
from rmapfast.captures.folios import visible_folios
from rmapfast.captures.format import (
    PM_EXCLUSIVE,
    PM_GUARD,
    PM_PFN,
    PM_PRESENT,
    PM_SOFT_DIRTY,
    PM_SWAP,
    PM_UFFD_WP,
    Capture,
    has_flags,
)
from rmapfast.editions import FAULT_AROUND, maps_whole_folios
from rmapfast.flags import FolioFlag, PageFlag, TableState, VmaFlag
from rmapfast.layout import (
    DEFAULT_CPUMASK,
    DRAW_LRU,
    FolioIndex,
    fold_contpte,
    permute,
    ranges,
    rate_mask,
    sorted_unique,
    window_folds,
)
from rmapfast.support import printable

# Columns of the same length, by name.
Table = dict[str, npt.NDArray[Any]]
# Pairs: numbers of folios, and the number of a VMA for each.
FoliosAndVmas = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]

# The type of those swap entries that are PTE markers.
_MARKER_TYPE = 31
_SWAP = pte.KINDS.index("swap")
_FOLIO_FLAGS = {
    "referenced": FolioFlag.REFERENCED,
    "dirty": FolioFlag.DIRTY,
    "active": FolioFlag.ACTIVE,
    "anon": FolioFlag.ANON,
    "swapcache": FolioFlag.SWAPCACHE,
    "swapbacked": FolioFlag.SWAPBACKED,
    "unevictable": FolioFlag.UNEVICTABLE,
    "mlocked": FolioFlag.MLOCKED,
}
_VMA_FLAGS = {
    "lo": VmaFlag.LOCKED,
    "uw": VmaFlag.UFFD_WP,
    "um": VmaFlag.UFFD_ARMED,
    "ui": VmaFlag.UFFD_ARMED,
    "dp": VmaFlag.DROPPABLE,
    "ex": VmaFlag.EXEC,
    "sh": VmaFlag.SHARED,
}
_SPECIAL_NAMES = ("[vvar]", "[vvar_vclock]", "[vdso]", "[vsyscall]")


def population_arrays(
    captures: list[Capture], assumptions: Assumptions | None = None, *, arch: str | Arch | None = None
) -> dict[str, Any]:
    """Return the arrays of the population that captures of one moment show: one mm each, with folios joined by PFN.

    Parameters
    ----------
    captures : list of Capture
        One or more, of the same page size.
    assumptions : Assumptions, optional
        What is assumed where user space cannot see it.
    arch : str or Arch, optional
        Default: the architecture of the machine and the page size that the first capture names.

    Returns
    -------
    dict
        The arguments of :class:`rmapfast.Population`, and ``lru``, its attribute.

    Raises
    ------
    CaptureError
        If the captures contradict each other or the architecture.
    ValueError
        Without captures, or for an architecture that does not exist.
    """
    if not captures:
        raise ValueError("captures: expected one capture at least, got none")
    assumed = assumptions or Assumptions()
    arch = _check_arch(captures, arch)
    notes: dict[str, str] = {}

    vmas = _Vmas(captures, arch, assumed.uffd_wp == "capture")
    piece = _join_pieces(captures, vmas, arch, notes)
    seen, interval = _visible_intervals(piece, vmas)
    folio, part = _find_folios(interval, notes, assumed.folio_order or 0)
    leaf = _find_pmd_leaves(piece, folio, arch, notes)
    _count_mappings(folio, part, interval, seen, piece, leaf, captures, notes)
    _set_flags(folio, part, interval, seen, piece, vmas)
    _note_displaced(folio, part, interval, seen, notes)
    ptes = _make_ptes(piece, vmas, assumed, notes)
    folio = _number_by_address(folio, part)
    swap = _make_swap_offsets(folio, ptes, notes)
    rmap = _make_rmap(vmas, folio, _seen_pairs(folio, part, interval, seen, vmas), captures[0])
    if assumed.cont and arch.cont_ptes > 1:
        _fold_vmas(ptes, vmas, folio, arch, str(captures[0].meta.get("kernel")), notes)
    hashes = [capture.input_hash for capture in captures]
    lru = _lru_of(captures)
    if lru is None:
        notes["lru_lists"] = "not recorded which LRU the kernel has: the classic one unless another is asked for"
    return dict(
        ptrs_per_pte=arch.ptrs_per_pte,
        cont_ptes=arch.cont_ptes,
        arch=arch,
        page_shift=arch.page_shift,
        lru=lru,
        assumptions=notes | assumed.describe(arch),
        source=", ".join(printable(os.path.basename(capture.path)) for capture in captures),
        input_hash=hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest(),
        ptes=ptes,
        table_state=_make_table_states(piece, leaf, vmas, arch),
        mm_rss=_make_rss(piece, vmas, len(captures)),
        mm_cpumask=np.full(len(captures), DEFAULT_CPUMASK, np.uint64),
        mm_flags=np.zeros(len(captures), np.uint32),
        folio_swap=swap,
        **vmas.arrays(),
        **_folio_arrays(folio),
        **_page_arrays(folio, part),
        **rmap,
        **_make_lists(folio, assumed),
    )


def _check_arch(captures: list[Capture], arch: str | Arch | None) -> Arch:
    """Return the architecture, by default that of the first capture; raise CaptureError if page sizes do not fit it."""
    if arch is None:
        try:
            arch = _arch.of_machine(str(captures[0].meta.get("machine")), 1 << captures[0].page_shift)
        except ValueError as error:
            raise captures[0].error(f"{error}; give arch") from None
    arch = _arch.get(arch)
    for capture in captures:
        if capture.page_shift != arch.page_shift:
            raise capture.error(
                f"pages of 2^{capture.page_shift} bytes do not fit arch {arch.name} (2^{arch.page_shift})"
            )
    return arch


def _lru_of(captures: list[Capture]) -> str | None:
    """Return which LRU the kernel of the captures had; None if they do not say. Raise CaptureError if they differ."""
    found: str | None = captures[0].meta.get("lru")
    for capture in captures:
        if capture.meta.get("lru") != found:
            raise capture.error(f"lru: {capture.meta.get('lru')} contradicts {found} of {captures[0].path}")
    return found


# VMAs and pieces


class _Vmas:
    """The VMAs of all captures, in the order of the population.

    Attributes
    ----------
    first : array of int64, shape (captures,)
        Number of each capture's first VMA, before :meth:`drop`.
    mm, start, end, pgoff : array of int64, shape (VMAs,)
        Number of the mm; virtual page numbers, the end is exclusive; page offset of the first page.
    anon, writable, special, hugetlb : array of bool, shape (VMAs,)
        Anonymous; writable; vdso, vvar and device memory; hugetlb.
    file : array of int64, shape (VMAs,)
        Number of the file, by inode and name.
    flags : array of uint32, shape (VMAs,)
        :class:`rmapfast.flags.VmaFlag` bits.
    keep, number : array, shape (VMAs,)
        After :meth:`drop`: whether the VMA stays, and its number then.
    pte_base, table_base, window_start, window_end : array of int64, shape (VMAs,)
        After :meth:`number_vmas`: as the arrays ``vma_...`` of a population.
    nr_ptes, nr_tables : int
        After :meth:`number_vmas`: page-table entries and tables in all.
    """

    first: npt.NDArray[np.int64]
    mm: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    pgoff: npt.NDArray[np.int64]
    keep: npt.NDArray[np.bool_]
    number: npt.NDArray[np.int64]
    pte_base: npt.NDArray[np.int64]
    table_base: npt.NDArray[np.int64]
    window_start: npt.NDArray[np.int64]
    window_end: npt.NDArray[np.int64]

    def __init__(self, captures: list[Capture], arch: Arch, uffd_wp: bool) -> None:
        sizes = np.array([len(capture.vma_start) for capture in captures], np.int64)
        self.first = np.cumsum(sizes) - sizes
        self.ptrs_per_pte = arch.ptrs_per_pte
        self.mm = np.repeat(np.arange(len(captures)), sizes)
        for name in ("start", "end", "pgoff"):
            columns = [getattr(capture, f"vma_{name}") for capture in captures]
            setattr(self, name, np.concatenate(columns).astype(np.int64))
        ino = np.concatenate([capture.vma_ino for capture in captures])
        self.anon = ino == 0
        # /proc shows no offset of anonymous VMAs. A VMA that was never moved has its own page number as its offset.
        self.pgoff[self.anon] = self.start[self.anon]
        names = [name for capture in captures for name in capture.vma_name]
        files: dict[tuple[int, str], int] = {}
        self.file = np.array(
            [files.setdefault((int(i), n), len(files)) for i, n in zip(ino, names, strict=True)], np.int64
        )
        flags = [flag_set for capture in captures for flag_set in capture.vma_flags]
        perms = [text for capture in captures for text in capture.vma_perms]
        self.flags = np.zeros(len(ino), np.uint32)
        for number, (text, flag_set) in enumerate(zip(perms, flags, strict=True)):
            for flag in flag_set & _VMA_FLAGS.keys():
                self.flags[number] |= _VMA_FLAGS[flag]
            if text.endswith("s"):
                self.flags[number] |= VmaFlag.SHARED
        self.flags[self.anon] |= VmaFlag.ANON
        if not uffd_wp:
            self.flags &= ~np.uint32(VmaFlag.UFFD_WP)
        self.writable = np.array([text[1:2] == "w" for text in perms], bool)
        special = [n in _SPECIAL_NAMES or bool(f & {"pf", "io"}) for n, f in zip(names, flags, strict=True)]
        self.special = np.array(special, bool)
        self.hugetlb = np.array(["ht" in flag_set for flag_set in flags], bool)

    def drop(self, hugetlb: npt.NDArray[np.bool_], notes: dict[str, str]) -> None:
        """Decide which VMAs stay, and number those; `hugetlb` marks VMAs that have hugetlb pages."""
        hugetlb = hugetlb | self.hugetlb
        self.keep = ~(self.special | hugetlb)
        for name, mask in (("special_vmas", self.special), ("hugetlb", hugetlb & ~self.special)):
            if mask.any():
                text = (
                    "vdso, vvar and device VMAs" if name == "special_vmas" else "hugetlb VMAs, which are not modelled"
                )
                notes[name] = f"{int(mask.sum())} {text}: left out ({int((self.end - self.start)[mask].sum())} pages)"
        self.number = np.cumsum(self.keep) - 1

    def number_vmas(self) -> None:
        """Take out the dropped VMAs, and give the others their page-table entries, windows and tables."""
        for name in ("mm", "start", "end", "pgoff", "anon", "file", "flags", "writable"):
            setattr(self, name, getattr(self, name)[self.keep])
        pages = self.end - self.start
        self.pte_base = np.cumsum(pages) - pages
        self.nr_ptes = int(pages.sum())
        opens = np.ones(len(pages), bool)
        opens[1:] = (self.mm[1:] != self.mm[:-1]) | (self.start[1:] != self.end[:-1])
        window = np.cumsum(opens) - 1
        first = np.flatnonzero(opens)
        self.window_start = self.start[first][window]
        self.window_end = self.end[np.append(first[1:], len(pages)) - 1][window] if len(pages) else self.end
        # VMAs of one window that lie in the same table share it.
        first_table = self.window_start // self.ptrs_per_pte
        tables = ((self.window_end - 1) // self.ptrs_per_pte - first_table + 1)[first]
        self.table_base = (np.cumsum(tables) - tables)[window] + self.start // self.ptrs_per_pte - first_table
        self.nr_tables = int(tables.sum())

    def arrays(self) -> Table:
        """Return the VMA arrays of a population."""
        names = ("start", "end", "pgoff", "pte_base", "window_start", "window_end", "table_base")
        arrays = {f"vma_{name}": getattr(self, name).astype(np.uint64) for name in names}
        return arrays | {"vma_flags": self.flags, "vma_mm": self.mm.astype(np.uint32)}


def _join_pieces(captures: list[Capture], vmas: _Vmas, arch: Arch, notes: dict[str, str]) -> Table:
    """Return ``piece``, the pieces of all captures; VMAs that are not modelled are dropped."""
    columns: list[Table] = []
    first_page = first_table = 0
    for first_vma, capture in zip(vmas.first, captures, strict=True):
        piece = capture.pieces(arch.ptrs_per_pte)
        own_vma = piece["vma"]
        piece["vma"] = own_vma + first_vma
        piece["vpn"] = vmas.start[piece["vma"]] + piece["page"] - capture.vma_first[own_vma]
        piece["table"] = np.where(piece["table"] >= 0, piece["table"] + first_table, -1)
        piece["page"] = piece["page"] + first_page
        first_page += capture.nr_pages
        first_table += int((capture.huge_end - capture.huge_start).sum()) // arch.ptrs_per_pte
        columns.append(piece)
    piece = {name: np.concatenate([column[name] for column in columns]) for name in columns[0]}

    hugetlb = np.zeros(len(vmas.start), bool)
    hugetlb[piece["vma"][has_flags(piece["kf"], "hugetlb")]] = True
    vmas.drop(hugetlb, notes)
    keep = vmas.keep[piece["vma"]]
    piece = {name: column[keep] for name, column in piece.items()}
    piece["vma"] = vmas.number[piece["vma"]]
    vmas.number_vmas()

    present = piece["pm"] & PM_PRESENT > 0
    special = present & has_flags(piece["kf"], "zero", "nopage", "reserved")
    if special.any():
        notes["special"] = (
            f"{int(piece['len'][special].sum())} PTEs of zero or reserved pages: special, without a folio"
        )
    return piece | {"present": present, "special": special, "mapped": present & ~special}


def _visible_intervals(piece: Table, vmas: _Vmas) -> tuple[Table, Table]:
    """Return ``seen`` and ``interval``: the pages that the pieces map, as disjoint intervals."""
    row = np.flatnonzero(piece["mapped"])
    pfn, length = (piece["pm"][row] & PM_PFN).astype(np.int64), piece["len"][row]
    cuts = sorted_unique(np.concatenate([pfn, pfn + length]))
    by_pfn = np.argsort(pfn)  # what rises is found several times as fast
    low, nr = np.empty_like(pfn), np.empty_like(pfn)
    low[by_pfn] = np.searchsorted(cuts, pfn[by_pfn])
    nr[by_pfn] = np.searchsorted(cuts, (pfn + length)[by_pfn])
    nr -= low
    at = ranges(low, nr)
    row, offset = np.repeat(row, nr), cuts[at] - np.repeat(pfn, nr)
    shown = np.zeros(len(cuts), bool)
    shown[at] = True
    number = (np.cumsum(shown) - 1)[at]
    start = cuts[shown]
    length = cuts[np.flatnonzero(shown) + 1] - start
    first = np.empty(len(start), np.int64)
    first[number[::-1]] = np.arange(len(number))[::-1]  # the first row of each comes last
    vma = piece["vma"][row]
    index = vmas.pgoff[vma] + piece["vpn"][row] + offset - vmas.start[vma]
    seen = {"piece": row, "interval": number, "vma": vma, "index": index}
    page = piece["page"][row[first]] + offset[first]
    interval = {"start": start, "length": length, "kf": piece["kf"][row[first]], "page": page}
    return seen, interval | {"vma": vma[first], "index": index[first]}


# Folios


def _index(folio: Table) -> FolioIndex:
    """Return the lookup of the folios by PFN."""
    return FolioIndex(folio["pfn"].astype(np.uint64), folio["order"].astype(np.uint8))


def _find_folios(interval: Table, notes: dict[str, str], min_order: int) -> tuple[Table, Table]:
    """Return ``folio`` and ``part``; add ``first_part`` and ``parts`` to ``interval``."""
    start, length, index = interval["start"], interval["length"], interval["index"]
    pfn, order, broken = visible_folios(start, length, interval["kf"], index, min_order)
    if broken:
        notes["broken"] = f"{broken} pages with contradictory head and tail flags: folios of order 0"
    folio = {"pfn": pfn, "order": order, "pages": np.int64(1) << order}
    of_interval = _index(folio).find(start.astype(np.uint64))
    # An interval of order-0 folios holds one folio per page.
    many = np.where(order[of_interval] == 0, length, 1) if len(start) else length
    first_part = np.cumsum(many) - many
    interval |= {"first_part": first_part, "parts": many}
    row = np.repeat(np.arange(len(start)), many)
    step = np.arange(len(row)) - first_part[row]
    part = {
        "folio": of_interval[row] + step,
        "interval": row,
        "pfn": start[row] + step,
        "len": np.where(many[row] > 1, 1, length[row]),
        "page": interval["page"][row] + step,
    }
    folio["first_part"] = np.flatnonzero(np.diff(part["folio"], prepend=-1))
    first = row[folio["first_part"]]
    return folio | {"index": index[first] - start[first] + pfn, "vma": interval["vma"][first]}, part


def _number_by_address(folio: Table, part: Table) -> Table:
    """Return ``folio`` in the order of the first page that maps each; renumber the folios in ``part``."""
    by_address = np.argsort(np.minimum.reduceat(part["page"], folio["first_part"]))
    number = np.empty(len(by_address), np.int64)
    number[by_address] = np.arange(len(by_address))
    part["folio"] = number[part["folio"]]
    return {name: column[by_address] for name, column in folio.items()}


# Counts and flags


def _find_pmd_leaves(piece: Table, folio: Table, arch: Arch, notes: dict[str, str]) -> npt.NDArray[np.int64]:
    """Return the first piece of each PMD leaf; add ``leaf`` to ``piece``.

    A huge range that is not one run of pages of one large folio becomes a PTE table, for example the huge zero page.
    """
    piece["leaf"] = np.zeros(len(piece["pm"]), bool)
    rows = np.flatnonzero(piece["table"] >= 0)
    table, row_of = np.unique(piece["table"][rows], return_inverse=True)
    if not len(table):
        return rows
    pfn = (piece["pm"][rows] & PM_PFN).astype(np.int64)
    begin = np.flatnonzero(np.diff(row_of, prepend=-1))
    linear = pfn - piece["page"][rows] == (pfn - piece["page"][rows])[begin][row_of]
    fits = np.bincount(row_of, weights=~(piece["mapped"][rows] & linear)) == 0
    fits &= np.bincount(row_of, weights=piece["len"][rows]) == arch.ptrs_per_pte
    fits &= pfn[begin] % arch.ptrs_per_pte == 0
    found = _index(folio).find(pfn[begin].astype(np.uint64))
    fits &= (found >= 0) & (np.append(folio["pages"], 1)[found] >= arch.ptrs_per_pte)
    if not fits.all():
        notes["huge"] = f"{int(np.count_nonzero(~fits))} huge ranges without a whole large folio: taken as PTE tables"
    piece["leaf"][rows] = fits[row_of]
    leaves: npt.NDArray[np.int64] = rows[begin][fits]
    return leaves


def _count_mappings(
    folio: Table,
    part: Table,
    interval: Table,
    seen: Table,
    piece: Table,
    leaf: npt.NDArray[np.int64],
    captures: list[Capture],
    notes: dict[str, str],
) -> None:
    """Add ``count`` to ``part``, and ``visible``, ``total``, ``entire``, ``mapped`` and ``differ`` to ``folio``.

    A page is mapped as often as kpagecount says, and at least as often as these captures show.
    """
    nr, first_part = len(interval["start"]), folio["first_part"]
    times_seen = np.bincount(seen["interval"], minlength=nr)
    by_pmd = np.bincount(seen["interval"], weights=piece["leaf"][seen["piece"]], minlength=nr).astype(np.int64)
    reported = np.zeros(nr, np.int64)
    np.maximum.at(reported, seen["interval"], piece["kc"][seen["piece"]])
    count = (np.maximum(reported, times_seen) - by_pmd)[part["interval"]]
    part["count"] = count
    folio["entire"] = np.bincount(_index(folio).find(piece["pm"][leaf] & PM_PFN), minlength=len(folio["pfn"]))
    folio["visible"] = np.add.reduceat(part["len"], first_part)
    folio["total"] = np.add.reduceat(count * part["len"], first_part)
    folio["mapped"] = np.add.reduceat((count > 0) * part["len"], first_part)
    if int((folio["total"] + folio["entire"] + folio["pages"]).max(initial=0)) >= 1 << 31:
        raise captures[0].error("kpagecount: expected less than 2^31 mappings of a folio")
    in_part = folio["visible"] < folio["pages"]
    smallest, largest = np.minimum.reduceat(count, first_part), np.maximum.reduceat(count, first_part)
    folio["differ"] = np.where(in_part, np.minimum(smallest, 0), smallest) != largest
    interval["external"] = reported > times_seen
    external = int((np.maximum(reported - times_seen, 0) * interval["length"]).sum())
    notes["external"] = f"{external} page mappings by processes outside these captures (kpagecount)"
    if in_part.any():
        notes["partial"] = (
            f"{int(np.count_nonzero(in_part))} folios seen in part: smallest naturally aligned power of two that holds "
            "what is mapped; their other pages count as not mapped"
        )


def _set_flags(folio: Table, part: Table, interval: Table, seen: Table, piece: Table, vmas: _Vmas) -> None:
    """Add ``flags`` and ``anon`` to ``folio`` and ``flags`` to ``part``, by kpageflags and pagemap."""
    nr, kf, first_part = len(interval["start"]), interval["kf"], folio["first_part"]
    word = np.zeros(nr, np.uint32)
    for name, flag in _FOLIO_FLAGS.items():
        word |= has_flags(kf, name).astype(np.uint32) * np.uint32(flag)
    flags = np.bitwise_or.reduceat(word[part["interval"]], first_part)
    shared = piece["pm"][seen["piece"]] & PM_EXCLUSIVE == 0
    exclusive = np.bincount(seen["interval"], weights=shared, minlength=nr) == 0
    exclusive &= word & FolioFlag.ANON > 0
    per_page = exclusive * np.uint8(PageFlag.EXCLUSIVE) | has_flags(kf, "hwpoison") * np.uint8(PageFlag.HWPOISON)
    part["flags"] = per_page[part["interval"]]
    lowest, highest = (ufunc.reduceat(part["flags"], first_part) for ufunc in (np.minimum, np.maximum))
    mixed = (lowest != highest) | (highest > PageFlag.EXCLUSIVE)
    flags[mixed] |= FolioFlag.PAGE_FLAGS
    flags[~mixed & (highest == PageFlag.EXCLUSIVE)] |= FolioFlag.EXCLUSIVE
    flags[folio["differ"]] |= FolioFlag.PAGE_MAPCOUNTS
    anon = flags & FolioFlag.ANON > 0
    in_part = (folio["visible"] < folio["pages"]) & (folio["mapped"] > 0)
    flags[anon & in_part] |= FolioFlag.PARTIALLY_MAPPED
    # More than one process: several of these captures, or mappings that none of them shows.
    first_mm, last_mm = np.full(nr, len(vmas.start) + 1), np.full(nr, -1)
    np.minimum.at(first_mm, seen["interval"], vmas.mm[seen["vma"]])
    np.maximum.at(last_mm, seen["interval"], vmas.mm[seen["vma"]])
    several = np.minimum.reduceat(first_mm[part["interval"]], first_part) < np.maximum.reduceat(
        last_mm[part["interval"]], first_part
    )
    several |= np.bitwise_or.reduceat(interval["external"][part["interval"]], first_part)
    flags[several] |= FolioFlag.MAYBE_SHARED
    folio |= {"flags": flags, "anon": anon}


def _note_displaced(folio: Table, part: Table, interval: Table, seen: Table, notes: dict[str, str]) -> None:
    """Note how many pages are mapped at another offset than the first page of their folio implies."""
    number = part["folio"][interval["first_part"]][seen["interval"]]
    implied = folio["index"][number] + interval["start"][seen["interval"]] - folio["pfn"][number]
    wrong = seen["index"] != implied
    if wrong.any():
        lost = int(interval["length"][seen["interval"][wrong]].sum())
        notes["displaced"] = f"{lost} PTEs at another offset than the folio's first: mappings that no rmap walk finds"


def _folio_arrays(folio: Table) -> Table:
    """Return the folio arrays of a population, but for swap offsets and page base."""
    pages, entire, mapcount = folio["pages"], folio["entire"], folio["total"] + folio["entire"]
    uncached = folio["anon"] & (folio["flags"] & FolioFlag.SWAPCACHE == 0)
    return {
        "folio_pfn": folio["pfn"].astype(np.uint64),
        "folio_index": folio["index"].astype(np.uint64),
        "folio_order": folio["order"].astype(np.uint8),
        "folio_flags": folio["flags"],
        "folio_refcount": (mapcount + np.where(uncached, 0, pages)).astype(np.int32),
        "folio_mapcount": mapcount.astype(np.int32),
        "folio_entire_mapcount": entire.astype(np.int32) if entire.any() else np.zeros(len(pages), np.int32),
        "folio_nr_pages_mapped": np.where(entire > 0, pages, folio["mapped"]).astype(np.int32),
    }


def _page_arrays(folio: Table, part: Table) -> Table:
    """Return page base, page mapcounts and page flags; the last two are filled where they differ within a folio."""
    base = np.cumsum(folio["pages"]) - folio["pages"]
    nr_pages = int(folio["pages"].sum())
    page_mapcount, page_flags = np.zeros(nr_pages, np.int32), np.zeros(nr_pages, np.uint8)
    for array, values, use in (
        (page_mapcount, part["count"], folio["differ"]),
        (page_flags, part["flags"], folio["flags"] & FolioFlag.PAGE_FLAGS > 0),
    ):
        rows = np.flatnonzero(use[part["folio"]])
        of = part["folio"][rows]
        at = ranges(base[of] + part["pfn"][rows] - folio["pfn"][of], part["len"][rows])
        array[at] = np.repeat(values[rows], part["len"][rows])
    return {"folio_page_base": base.astype(np.uint64), "page_mapcount": page_mapcount, "page_flags": page_flags}


def _make_swap_offsets(folio: Table, ptes: npt.NDArray[np.uint64], notes: dict[str, str]) -> npt.NDArray[np.uint64]:
    """Return the swap offsets of folios in the swap cache; they follow the offsets in PTEs."""
    swap = np.zeros(len(folio["pfn"]), np.uint64)
    cached = folio["flags"] & FolioFlag.SWAPCACHE > 0
    if cached.any():
        after = int(pte.pfn(ptes[pte.kind(ptes) == _SWAP]).max(initial=0)) + 1
        pages = folio["pages"][cached]
        swap[cached] = (after + np.cumsum(pages) - pages).astype(np.uint64)
        notes["swap"] = f"{int(cached.sum())} folios in the swap cache: their swap offsets are made up"
    return swap


# Page tables


def _make_ptes(piece: Table, vmas: _Vmas, assumed: Assumptions, notes: dict[str, str]) -> npt.NDArray[np.uint64]:
    """Return the PTEs; add ``swapped`` to ``piece``."""
    pm, length, vma, present = piece["pm"], piece["len"], piece["vma"], piece["present"]
    wp = (pm & PM_UFFD_WP > 0) & (assumed.uffd_wp == "capture")
    soft = (pm & PM_SOFT_DIRTY > 0) & (assumed.soft_dirty == "capture")
    word = np.where(present, _present_words(piece, vmas, assumed, wp, soft), _nonpresent_words(piece, wp, soft, notes))
    at = ranges(vmas.pte_base[vma] + piece["vpn"] - vmas.start[vma], length)
    number = ranges(np.zeros(len(length)), length).astype(np.uint64)
    words = np.repeat(word, length) + np.repeat(present.astype(np.uint64) << pte.PFN_SHIFT, length) * number
    if assumed.young_of_all is None:
        young = rate_mask(assumed.seed, "young", ranges(piece["page"], length).astype(np.uint64), assumed.young)
        words |= young * np.repeat(present * pte.YOUNG, length)
    ptes = np.zeros(vmas.nr_ptes, np.uint64)
    ptes[at] = words
    return ptes


def _present_words(
    piece: Table, vmas: _Vmas, assumed: Assumptions, wp: npt.NDArray[np.bool_], soft: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint64]:
    """Return the PTE of the first page of each piece, for pieces that are present; young if all PTEs are."""
    pm, kf, vma = piece["pm"], piece["kf"], piece["vma"]
    anon = has_flags(kf, "anon")
    shared_dirty = (vmas.flags[vma] & VmaFlag.SHARED > 0) & ~anon & has_flags(kf, "dirty")
    by_perms = shared_dirty | (anon & (pm & PM_EXCLUSIVE > 0))
    writable = by_perms if isinstance(assumed.write, str) else bool(assumed.write)
    writable = vmas.writable[vma] & piece["mapped"] & writable & ~wp
    written = has_flags(kf, "dirty") | (anon & has_flags(kf, "swapbacked"))
    dirty = writable & (written if isinstance(assumed.dirty, str) else bool(assumed.dirty))
    flags = np.full(len(pm), pte.PRESENT)
    for mask, flag in (
        (writable, pte.WRITE),
        (dirty, pte.DIRTY),
        (piece["special"], pte.SPECIAL),
        (wp, pte.UFFD_WP),
        (soft, pte.SOFT_DIRTY),
    ):
        flags |= mask * flag
    if assumed.young_of_all:
        flags |= pte.YOUNG
    return ((pm & PM_PFN) << pte.PFN_SHIFT) | flags


def _nonpresent_words(
    piece: Table, wp: npt.NDArray[np.bool_], soft: npt.NDArray[np.bool_], notes: dict[str, str]
) -> npt.NDArray[np.uint64]:
    """Return the PTE of each piece, for pieces that are not present; add ``swapped`` to ``piece``."""
    pm = piece["pm"]
    kind, offset = pm & np.uint64(31), (pm & PM_PFN) >> np.uint64(5)
    swapped = ~piece["present"] & (pm & PM_SWAP > 0)
    marker = swapped & (kind == _MARKER_TYPE) & (pm & PM_UFFD_WP > 0) & (pm & PM_GUARD == 0)
    unknown = swapped & ((kind == _MARKER_TYPE) & ~marker | (pm & PM_GUARD > 0))
    swapped &= ~marker & ~unknown
    piece["swapped"] = swapped
    if unknown.any():
        notes["markers"] = f"{int(piece['len'][unknown].sum())} guard or other markers: taken as none"
    # The type is placed above the offset: swap areas stay apart, and consecutive pages have consecutive offsets.
    value = (offset & np.uint64((1 << 47) - 1)) | kind << np.uint64(47)
    bits = wp * pte.UFFD_WP | soft * pte.SOFT_DIRTY | (pm & PM_EXCLUSIVE > 0) * pte.EXCLUSIVE
    swap_word = value << pte.PFN_SHIFT | np.uint64(_SWAP << _core.KIND_SHIFT) | bits
    return np.where(swapped, swap_word, np.where(marker & wp, pte.MARKER, pte.NONE))


def _fold_vmas(
    ptes: npt.NDArray[np.uint64], vmas: _Vmas, folio: Table, arch: Arch, kernel: str, notes: dict[str, str]
) -> None:
    """Set CONT in every contpte block that the kernel would fold."""
    index = _index(folio)
    files = maps_whole_folios(kernel) or window_folds(FAULT_AROUND >> arch.page_shift, arch.cont_ptes)
    for base, start, end, anon in zip(vmas.pte_base, vmas.start, vmas.end, vmas.anon, strict=True):
        if files or anon:
            fold_contpte(ptes[base : base + end - start], int(start), arch.cont_ptes, index)
    notes["cont"] = f"every contpte block of {arch.cont_ptes} that qualifies is folded" + (
        "" if files else f", but none of files, which {kernel} maps {FAULT_AROUND >> arch.page_shift} pages at a time"
    )


def _make_table_states(piece: Table, leaf: npt.NDArray[np.int64], vmas: _Vmas, arch: Arch) -> npt.NDArray[np.uint8]:
    """Return the state of each table: a PTE table, or a PMD leaf."""
    state = np.zeros(vmas.nr_tables, np.uint8)
    vma = piece["vma"][leaf]
    first = vmas.start[vma] // arch.ptrs_per_pte
    state[vmas.table_base[vma] + piece["vpn"][leaf] // arch.ptrs_per_pte - first] = TableState.PMD_LEAF
    return state


def _make_rss(piece: Table, vmas: _Vmas, nr_mms: int) -> npt.NDArray[np.int64]:
    """Return the counters of each mm: file, anonymous, swap entries, shmem."""
    mapped, anon, swapbacked = piece["mapped"], has_flags(piece["kf"], "anon"), has_flags(piece["kf"], "swapbacked")
    rss = np.zeros((nr_mms, 4), np.int64)
    counters = (mapped & ~anon & ~swapbacked, mapped & anon, piece["swapped"], mapped & ~anon & swapbacked)
    for counter, mask in enumerate(counters):
        mm = vmas.mm[piece["vma"][mask]]
        rss[:, counter] = np.bincount(mm, weights=piece["len"][mask], minlength=nr_mms)
    return rss


# Rmap and lists


def _seen_pairs(folio: Table, part: Table, interval: Table, seen: Table, vmas: _Vmas) -> FoliosAndVmas:
    """Return the mappings that the VMAs of the file do not show: anonymous folios, and files under another name."""
    vma, number = seen["vma"], part["folio"][interval["first_part"]][seen["interval"]]
    told = ~folio["anon"][number] & (vmas.file[vma] == vmas.file[folio["vma"][number]]) & ~vmas.anon[vma]
    row = np.flatnonzero(~told)
    first, nr = (interval[name][seen["interval"][row]] for name in ("first_part", "parts"))
    return part["folio"][ranges(first, nr)], np.repeat(vma[row], nr)


def _make_rmap(vmas: _Vmas, folios: Table, seen_pairs: FoliosAndVmas, capture: Capture) -> Table:
    """Return ``rmap_start`` and ``rmap_vma``.

    The row of a file folio holds every VMA of the file that covers a part of it, whether it is mapped there or not. The
    row of an anonymous folio holds the VMAs that map it. VMAs are in the order in which the interval tree yields them:
    by page offset, mm and address.
    """
    folio_start, folio_end = folios["index"], folios["index"] + folios["pages"]
    vma_end = vmas.pgoff + vmas.end - vmas.start
    rank = np.lexsort((vmas.start, vmas.mm, vmas.pgoff))
    found, found_vmas = ([column] for column in seen_pairs)
    nr = 0
    of_files = np.flatnonzero(~folios["anon"])
    file_of_folio = vmas.file[folios["vma"][of_files]]
    by_file = np.lexsort((folio_start[of_files], file_of_folio))
    files, first_of_file, nr_of_file = np.unique(file_of_folio[by_file], return_index=True, return_counts=True)
    by_file = of_files[by_file]
    for file, low, count in zip(files, first_of_file, nr_of_file, strict=True):
        mine = by_file[low : low + count]
        of_file = np.flatnonzero((vmas.file == file) & ~vmas.anon)
        reach = np.maximum.accumulate(folio_end[mine])
        first = np.searchsorted(reach, vmas.pgoff[of_file], side="right")
        counts = np.maximum(np.searchsorted(folio_start[mine], vma_end[of_file]) - first, 0)
        nr += int(counts.sum())
        if nr >= 1 << 31:
            raise capture.error("expected less than 2^31 pairs of folio and VMA")
        found.append(mine[ranges(first, counts)])
        found_vmas.append(np.repeat(of_file, counts))
    folio, vma = np.concatenate(found), np.concatenate(found_vmas)
    place = np.empty(len(rank), np.int64)
    place[rank] = np.arange(len(rank))
    overlap = folio_start[folio] < vma_end[vma]
    overlap &= folio_end[folio] > vmas.pgoff[vma]
    key = sorted_unique((folio * max(len(rank), 1) + place[vma])[overlap])
    folio = key // max(len(rank), 1)
    row = np.bincount(folio, minlength=len(folio_start))
    return {
        "rmap_start": np.concatenate([[0], np.cumsum(row)]).astype(np.uint64),
        "rmap_vma": rank[key % max(len(rank), 1)].astype(np.uint32),
    }


def _make_lists(folio: Table, assumed: Assumptions) -> Table:
    """Return the LRU lists; folios that are mlocked or unevictable are on none."""
    nr, flags = len(folio["pfn"]), folio["flags"]
    position = permute(assumed.seed, DRAW_LRU, nr) if assumed.lru == "shuffled" else np.arange(nr)
    off_lru = flags & (FolioFlag.UNEVICTABLE | FolioFlag.MLOCKED) > 0
    position = position[~off_lru[position]]
    is_active = flags[position] & FolioFlag.ACTIVE > 0
    return {
        "lru_inactive": position[~is_active].astype(np.uint32),
        "lru_active": position[is_active].astype(np.uint32),
    }
