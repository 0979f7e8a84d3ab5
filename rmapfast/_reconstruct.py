"""From captures to a population: folios, VMAs, page tables and rmap of what :mod:`rmapfast._capture` read."""

from __future__ import annotations

import hashlib
import os

import numpy as np

from rmapfast import _core, pte
from rmapfast import arch as _arch
from rmapfast._capture import (
    KPF,
    PM_EXCLUSIVE,
    PM_GUARD,
    PM_PFN,
    PM_PRESENT,
    PM_SOFT_DIRTY,
    PM_SWAP,
    PM_UFFD_WP,
    Capture,
)
from rmapfast._layout import MAX_ORDER, STREAM_LRU, FolioIndex, fold_contpte, permute, ranges, rate_mask, sorted_unique
from rmapfast.population import DEFAULT_CPUMASK, Population

# The type of the swap entry in which the kernel hides PTE markers.
_MARKER_TYPE = 31
_FOLIO_FLAGS = {
    "referenced": _core.FOLIO_REFERENCED,
    "dirty": _core.FOLIO_DIRTY,
    "active": _core.FOLIO_ACTIVE,
    "anon": _core.FOLIO_ANON,
    "swapcache": _core.FOLIO_SWAPCACHE,
    "swapbacked": _core.FOLIO_SWAPBACKED,
    "unevictable": _core.FOLIO_UNEVICTABLE,
    "mlocked": _core.FOLIO_MLOCKED,
}
_VMA_FLAGS = {
    "lo": _core.VMA_LOCKED,
    "uw": _core.VMA_UFFD_WP,
    "um": _core.VMA_UFFD_ARMED,
    "ui": _core.VMA_UFFD_ARMED,
    "dp": _core.VMA_DROPPABLE,
    "ex": _core.VMA_EXEC,
    "sh": _core.VMA_SHARED,
}
_SPECIAL_NAMES = ("[vvar]", "[vvar_vclock]", "[vdso]", "[vsyscall]")
_ARCH_OF_MACHINE = {"x86_64": "x86-64", "aarch64": "arm64-4k"}


def _has(kpageflags: np.ndarray, *names: str) -> np.ndarray:
    """Return where any of these kpageflags bits is set."""
    return kpageflags & np.uint64(sum(1 << KPF[name] for name in names)) > 0


def _pieces(capture: Capture, ptrs_per_pte: int) -> dict[str, np.ndarray]:
    """Return the pages of a capture as pieces in which VMA, pagemap run, flags, count and huge table are the same.

    Columns: ``page`` (number of the first page in the capture), ``len``, ``pm`` (its pagemap entry), ``kf``, ``kc`` (0
    if not present), ``vma``, ``table`` (number of the PMD-mapped table, -1 if none). Pages without an entry are left
    out.
    """
    present = capture.pm_val & PM_PRESENT > 0
    pm_start = np.cumsum(capture.pm_len) - capture.pm_len
    # Present pages are numbered by themselves: from such a number to the page.
    run_page = pm_start[present]
    run_number = np.cumsum(capture.pm_len[present]) - capture.pm_len[present]
    cuts = [pm_start, capture.vma_first]
    starts = {}
    for name in ("kf", "kc"):
        length = getattr(capture, f"{name}_len")
        starts[name] = np.cumsum(length) - length
        run = np.searchsorted(run_number, starts[name], side="right") - 1
        cuts.append(run_page[run] + starts[name] - run_number[run])
    shift = capture.vma_first[capture.huge_vma] - capture.vma_start[capture.huge_vma].astype(np.int64)
    huge_pages = (capture.huge_end - capture.huge_start).astype(np.int64)
    if np.any((capture.huge_start | capture.huge_end) % np.uint64(ptrs_per_pte)):
        raise capture._error(f"huge_start, huge_end: expected multiples of a page table's {ptrs_per_pte} pages")
    table = np.repeat(capture.huge_start.astype(np.int64) + shift, huge_pages // ptrs_per_pte)
    table += ranges(np.zeros(len(shift)), huge_pages // ptrs_per_pte) * ptrs_per_pte
    cuts += [table, table + ptrs_per_pte]
    page = sorted_unique(np.concatenate(cuts))
    page = page[page < capture.nr_pages]
    length = np.diff(np.append(page, capture.nr_pages))
    run = np.searchsorted(pm_start, page, side="right") - 1
    is_present = present[run]
    pm = capture.pm_val[run] + np.where(is_present, page - pm_start[run], 0).astype(np.uint64)
    kf, kc = np.zeros(len(page), np.uint64), np.zeros(len(page), np.int64)
    number = (np.cumsum(present) - 1)[run[is_present]]
    number = run_number[number] + page[is_present] - run_page[number]
    kf[is_present] = capture.kf_val[np.searchsorted(starts["kf"], number, side="right") - 1]
    kc[is_present] = capture.kc_val[np.searchsorted(starts["kc"], number, side="right") - 1].astype(np.int64)
    at = np.searchsorted(table, page, side="right") - 1
    in_table = (at >= 0) & (page < table[at] + ptrs_per_pte) if len(table) else np.zeros(len(page), bool)
    vma = np.searchsorted(capture.vma_first, page, side="right") - 1
    columns = {
        "page": page,
        "len": length,
        "pm": pm,
        "kf": kf,
        "kc": kc,
        "vma": vma,
        "table": np.where(in_table, at, -1),
    }
    keep = is_present | (pm & PM_SWAP > 0)
    return {name: column[keep] for name, column in columns.items()}


def _folios(start: np.ndarray, length: np.ndarray, kf: np.ndarray, index: np.ndarray):
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
    head = _has(kf, "head") & (length == 1)
    tail = _has(kf, "tail") & ~head
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
    block, order = block[top], order[top]

    wrong = np.zeros(len(block) + 1, bool)
    inside = []
    for page in (start, last):
        at = np.searchsorted(block, page, side="right") - 1
        hit = (at >= 0) & (page < block[at] + (1 << order[at])) if len(block) else np.zeros(len(page), bool)
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
    return pfn[rank], order[rank], int(length[single & (head | tail | _has(kf, "head"))].sum())


def to_population(
    captures: list[Capture],
    *,
    arch: str | _arch.Arch | None = None,
    young: bool | float = True,
    dirty: str | bool = "auto",
    write: str | bool = "perms",
    soft_dirty: str = "ignore",
    uffd_wp: str = "capture",
    lru: str = "address",
    seed: int = 0,
    cont: bool = True,
) -> Population:
    """Return the population that captures of one moment show, one mm each, with folios joined by PFN.

    What user space cannot see is assumed, by the arguments below, and said in ``assumptions``.

    Parameters
    ----------
    captures : list of Capture
        One or more, of the same page size.
    arch : str or Arch, optional
        Default: by the machine of the capture, x86-64 or arm64-4k.
    young : bool or float
        Whether, or at which rate, present PTEs are young.
    write : {'perms'} or bool
        ``perms``: a PTE is writable if its VMA is and it maps an exclusive anonymous page, or a dirty folio in a shared
        VMA. True: wherever the VMA is writable. A uffd-wp PTE never is.
    dirty : {'auto'} or bool
        ``auto``: writable PTEs of swapbacked anonymous folios and of dirty folios are dirty (MADV_FREE cleaned the
        others). True: all writable PTEs.
    soft_dirty : {'ignore', 'capture'}
        Whether bit 55 of pagemap counts; it means nothing on a kernel without soft-dirty tracking.
    uffd_wp : {'capture', 'ignore'}
        Whether uffd-wp bits, markers and VMA flags count.
    lru : {'address', 'shuffled'}
        Order of the lists: by the first page mapped, captures in the given order; or a seeded permutation.
    seed : int
        For ``young`` as a rate and ``lru`` shuffled.
    cont : bool
        Set CONT in the contpte blocks that the kernel would fold (arm64).

    Raises
    ------
    CaptureError
        If the captures contradict each other or the architecture.
    ValueError, TypeError
        For an argument that does not fit.
    """
    if not captures:
        raise ValueError("captures: expected one capture at least, got none")
    young = _option("young", young, ())
    if not 0 <= young <= 1:
        raise ValueError(f"young: expected True, False or a rate from 0 to 1, got {young!r}")
    dirty, write = _option("dirty", dirty, ("auto",), bool), _option("write", write, ("perms",), bool)
    soft_dirty = _option("soft_dirty", soft_dirty, ("ignore", "capture"), str)
    uffd_wp = _option("uffd_wp", uffd_wp, ("capture", "ignore"), str)
    lru, cont = _option("lru", lru, ("address", "shuffled"), str), _option("cont", cont, (), bool)
    machine = captures[0].meta.get("machine")
    if arch is None and machine not in _ARCH_OF_MACHINE:
        raise captures[0]._error(f"machine {machine!r} has no default architecture; give arch")
    arch = _arch.get(_ARCH_OF_MACHINE[machine] if arch is None else arch)
    for capture in captures:
        if capture.page_shift != arch.page_shift:
            raise capture._error(
                f"pages of 2^{capture.page_shift} bytes do not fit arch {arch.name} (2^{arch.page_shift})"
            )
    notes: dict[str, str] = {}

    # VMAs and the pieces of their pages
    vmas = _Vmas(captures, arch, uffd_wp == "capture")
    columns: list[dict] = []
    first_table = 0
    for number, capture in enumerate(captures):
        piece = _pieces(capture, arch.ptrs_per_pte)
        piece["vma"] += vmas.first[number]
        piece["vpn"] = vmas.start[piece["vma"]] + piece["page"] - capture.vma_first[piece["vma"] - vmas.first[number]]
        piece["table"] = np.where(piece["table"] >= 0, piece["table"] + first_table, -1)
        first_table += int((capture.huge_end - capture.huge_start).sum()) // arch.ptrs_per_pte
        piece["page"] = piece["page"] + sum(other.nr_pages for other in captures[:number])
        columns.append(piece)
    piece = {name: np.concatenate([column[name] for column in columns]) for name in columns[0]}
    hugetlb = np.zeros(len(vmas.start), bool)
    hugetlb[piece["vma"][_has(piece["kf"], "hugetlb")]] = True
    vmas.drop(hugetlb, notes)
    keep = vmas.keep[piece["vma"]]
    piece = {name: column[keep] for name, column in piece.items()}
    piece["vma"] = vmas.number[piece["vma"]]
    vmas.number_vmas()

    # Folios: the visible pages as disjoint intervals of PFNs, each seen once or more
    present = piece["pm"] & PM_PRESENT > 0
    special = present & _has(piece["kf"], "zero", "nopage", "reserved")
    if special.any():
        notes["special"] = (
            f"{int(piece['len'][special].sum())} PTEs of zero or reserved pages: special, without a folio"
        )
    row = np.flatnonzero(present & ~special)
    pfn, length, vma = (piece["pm"][row] & PM_PFN).astype(np.int64), piece["len"][row], piece["vma"][row]
    cuts = sorted_unique(np.concatenate([pfn, pfn + length]))
    low = np.searchsorted(cuts, pfn)
    nr = np.searchsorted(cuts, pfn + length) - low
    at = ranges(low, nr)
    row, offset = np.repeat(row, nr), cuts[at] - np.repeat(pfn, nr)
    start, seen_first, interval = np.unique(cuts[at], return_index=True, return_inverse=True)
    length = cuts[np.searchsorted(cuts, start) + 1] - start if len(start) else start
    vma = piece["vma"][row]
    index = vmas.pgoff[vma] + piece["vpn"][row] + offset - vmas.start[vma]
    kf = piece["kf"][row[seen_first]]
    pfn, order, broken = _folios(start, length, kf, index[seen_first])
    if broken:
        notes["broken"] = f"{broken} pages with contradictory head and tail flags: folios of order 0"
    lookup = FolioIndex(pfn.astype(np.uint64), order.astype(np.uint8))
    of_interval = lookup.find(start.astype(np.uint64))
    # An interval of order-0 folios holds many, in consecutive PFNs: from here on one row per folio and interval.
    many = np.where(order[of_interval] == 0, length, 1) if len(start) else length
    part = np.repeat(np.arange(len(start)), many)
    step = np.arange(len(part)) - np.repeat(np.cumsum(many) - many, many)
    folio = of_interval[part] + step
    part_len = np.where(np.repeat(many, many) > 1, 1, length[part])
    part_pfn = start[part] + step

    # Number the folios by the first page that maps them.
    key = (piece["page"][row] + offset)[seen_first][part] + step
    begin = np.flatnonzero(np.diff(folio, prepend=-1))
    by_address = np.argsort(np.minimum.reduceat(key, begin)) if len(begin) else begin
    number = np.empty(len(pfn), np.int64)
    number[by_address] = np.arange(len(pfn))

    # PMD leaves
    leaf_of_piece, leaf_first = _pmd_leaves(piece, present & ~special, lookup, order, arch.ptrs_per_pte, notes)
    by_pmd = np.bincount(interval, weights=leaf_of_piece[row], minlength=len(start)).astype(np.int64)
    entire = (
        np.bincount(lookup.find(piece["pm"][leaf_first] & PM_PFN), minlength=len(pfn))
        if len(leaf_first)
        else np.zeros(len(pfn), np.int64)
    )

    # Mapcounts. A page is mapped at least as often as these captures show.
    seen = np.bincount(interval, minlength=len(start))
    reported = np.zeros(len(start), np.int64)
    np.maximum.at(reported, interval, piece["kc"][row])
    count = (np.maximum(reported, seen) - by_pmd)[part]
    visible, total, smallest, largest = (np.zeros(len(pfn), np.int64) for _ in range(4))
    mapped = np.zeros(len(pfn), np.int64)
    if len(begin):
        visible = np.add.reduceat(part_len, begin)
        total = np.add.reduceat(count * part_len, begin)
        mapped = np.add.reduceat((count > 0) * part_len, begin)
        smallest, largest = np.minimum.reduceat(count, begin), np.maximum.reduceat(count, begin)
    pages = np.int64(1) << order
    if len(pfn) and int((total + entire + pages).max()) >= 1 << 31:
        raise captures[0]._error("kpagecount: expected less than 2^31 mappings of a folio")
    smallest = np.where(visible < pages, np.minimum(smallest, 0), smallest)
    differ = smallest != largest
    external = int((np.maximum(reported - seen, 0) * length).sum())
    notes["external"] = f"{external} page mappings by processes outside these captures (kpagecount)"
    hidden = int(np.count_nonzero(visible < pages))
    if hidden:
        notes["partial"] = (
            f"{hidden} folios seen in part: smallest naturally aligned power of two that holds what is mapped; "
            "their other pages count as not mapped"
        )

    # Flags
    flags = np.zeros(len(pfn), np.uint32)
    word = np.zeros(len(start), np.uint32)
    for name, flag in _FOLIO_FLAGS.items():
        word |= _has(kf, name).astype(np.uint32) * np.uint32(flag)
    anon_page = word & np.uint32(_core.FOLIO_ANON) > 0
    exclusive = anon_page & (
        np.bincount(interval, weights=piece["pm"][row] & PM_EXCLUSIVE == 0, minlength=len(start)) == 0
    )
    per_page = exclusive * np.uint8(_core.PAGE_EXCLUSIVE) | _has(kf, "hwpoison") * np.uint8(_core.PAGE_HWPOISON)
    if len(begin):
        flags = np.bitwise_or.reduceat(word[part], begin)
        lowest, highest = np.minimum.reduceat(per_page[part], begin), np.maximum.reduceat(per_page[part], begin)
        mixed = (lowest != highest) | (highest > _core.PAGE_EXCLUSIVE)
        flags[mixed] |= np.uint32(_core.FOLIO_PAGE_FLAGS)
        flags[~mixed & (highest == _core.PAGE_EXCLUSIVE)] |= np.uint32(_core.FOLIO_EXCLUSIVE)
    flags[differ] |= np.uint32(_core.FOLIO_PAGE_MAPCOUNTS)
    anon = flags & np.uint32(_core.FOLIO_ANON) > 0
    off_lru = flags & np.uint32(_core.FOLIO_UNEVICTABLE | _core.FOLIO_MLOCKED) > 0
    flags[anon & (visible < pages) & (mapped > 0)] |= np.uint32(_core.FOLIO_PARTIALLY_MAPPED)
    cached = np.where(anon & (flags & np.uint32(_core.FOLIO_SWAPCACHE) == 0), 0, pages)
    folio_start = (index[seen_first] - start)[part][begin] + pfn if len(begin) else pfn
    wrong = index + pfn[of_interval[interval]] - start[interval] != folio_start[of_interval[interval]]
    if wrong.any():
        lost = int(length[interval[wrong]].sum())
        notes["displaced"] = f"{lost} PTEs at another offset than the folio's first: mappings that no rmap walk finds"

    arrays = vmas.arrays()
    arrays["ptes"], arrays["mm_rss"] = _fill_ptes(
        piece, special, vmas, len(captures), arch, young, dirty, write, soft_dirty, uffd_wp, seed, notes
    )
    arrays["table_state"] = np.zeros(vmas.nr_tables, np.uint8)
    table_vma = piece["vma"][leaf_first]
    table = vmas.table_base[table_vma] + piece["vpn"][leaf_first] // arch.ptrs_per_pte
    arrays["table_state"][table - vmas.start[table_vma] // arch.ptrs_per_pte] = _core.TABLE_PMD_LEAF

    # Renumber: from here on in address order.
    pfn, order, flags, pages, differ = (column[by_address] for column in (pfn, order, flags, pages, differ))
    total, entire, mapped, cached, folio_start, off_lru, anon = (
        column[by_address] for column in (total, entire, mapped, cached, folio_start, off_lru, anon)
    )
    page_base = np.cumsum(pages) - pages
    nr_pages = int(pages.sum())
    page_mapcount, page_flags = np.zeros(nr_pages, np.int32), np.zeros(nr_pages, np.uint8)
    folio = number[folio]
    for array, values, use in (
        (page_mapcount, count, differ),
        (page_flags, per_page[part], flags & np.uint32(_core.FOLIO_PAGE_FLAGS) > 0),
    ):
        rows = np.flatnonzero(use[folio])
        at = ranges(page_base[folio[rows]] + part_pfn[rows] - pfn[folio[rows]], part_len[rows])
        array[at] = np.repeat(values[rows], part_len[rows])
    swap = np.zeros(len(pfn), np.uint64)
    swapcache = flags & np.uint32(_core.FOLIO_SWAPCACHE) > 0
    if swapcache.any():
        after = int(pte.pfn(arrays["ptes"][pte.kind(arrays["ptes"]) == 1]).max(initial=0)) + 1
        swap[swapcache] = (after + np.cumsum(pages[swapcache]) - pages[swapcache]).astype(np.uint64)
        notes["swap"] = f"{int(swapcache.sum())} folios in the swap cache: their swap offsets are made up"
    vma_of_folio = np.zeros(len(pfn), np.int64)
    vma_of_folio[number] = vma[seen_first][part][begin] if len(begin) else 0
    seen_pairs = _seen_pairs(interval, many, vma, of_interval, number, anon, vmas, vma_of_folio)
    arrays |= _rmap(vmas, folio_start, pages, anon, vma_of_folio, seen_pairs, captures[0])
    position = permute(seed, STREAM_LRU, len(pfn)) if lru == "shuffled" else np.arange(len(pfn))
    position = position[~off_lru[position]]
    is_active = flags[position] & np.uint32(_core.FOLIO_ACTIVE) > 0
    if cont and arch.cont_ptes > 1:
        index_of = FolioIndex(pfn.astype(np.uint64), order.astype(np.uint8))
        for one in range(len(vmas.start)):
            base, nr = vmas.pte_base[one], vmas.end[one] - vmas.start[one]
            fold_contpte(arrays["ptes"][base : base + nr], int(vmas.start[one]), arch.cont_ptes, index_of)
        notes["cont"] = f"every contpte block of {arch.cont_ptes} that qualifies is folded"
    hashes = [capture.input_hash for capture in captures]
    notes |= {
        "arch": arch.name,
        "young": f"{young}, pagemap does not show it",
        "write": f"{write}, pagemap does not show it",
        "dirty": f"{dirty}, pagemap does not show it",
        "soft_dirty": soft_dirty,
        "uffd_wp": uffd_wp,
        "lru": f"{lru} order; active and unevictable as in kpageflags; unmapped page cache is not there",
        "references": "mappings and page or swap cache, no others",
        "seed": str(seed),
    }
    return Population(
        ptrs_per_pte=arch.ptrs_per_pte,
        page_shift=arch.page_shift,
        assumptions=notes,
        source=", ".join(os.path.basename(capture.path) for capture in captures),
        input_hash=hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest(),
        folio_pfn=pfn.astype(np.uint64),
        folio_index=folio_start.astype(np.uint64),
        folio_order=order.astype(np.uint8),
        folio_flags=flags,
        folio_refcount=(total + entire + cached).astype(np.int32),
        folio_mapcount=(total + entire).astype(np.int32),
        folio_entire_mapcount=entire.astype(np.int32) if entire.any() else np.zeros(len(pfn), np.int32),
        folio_nr_pages_mapped=np.where(entire > 0, pages, mapped).astype(np.int32),
        folio_swap=swap,
        folio_page_base=page_base.astype(np.uint64),
        page_mapcount=page_mapcount,
        page_flags=page_flags,
        mm_cpumask=np.full(len(captures), DEFAULT_CPUMASK, np.uint64),
        mm_flags=np.zeros(len(captures), np.uint32),
        lru_inactive=position[~is_active].astype(np.uint32),
        lru_active=position[is_active].astype(np.uint32),
        **arrays,
    )


def _option(name: str, value, choices: tuple, kind=None):
    """Return an option: one of the choices, or a value of that kind (default: a number)."""
    known = [*map(repr, choices), *(("True", "False") if kind is bool else () if kind is str else ("a number",))]
    if isinstance(value, str):
        if value not in choices:
            raise ValueError(f"{name}: expected {' or '.join(known)}, got {value!r}")
    elif not isinstance(value, (bool, np.bool_) if kind is bool else () if kind is str else (bool, int, float)):
        raise TypeError(f"{name}: expected {' or '.join(known)}, got {value!r}")
    return value


class _Vmas:
    """The VMAs of all captures in the order of the population, as int64 columns."""

    def __init__(self, captures: list[Capture], arch: _arch.Arch, uffd_wp: bool):
        sizes = [len(capture.vma_start) for capture in captures]
        self.first = np.cumsum(sizes) - sizes
        self.ptrs_per_pte = arch.ptrs_per_pte
        self.mm = np.repeat(np.arange(len(captures)), sizes)
        for name in ("start", "end", "pgoff"):
            columns = [getattr(capture, f"vma_{name}") for capture in captures]
            setattr(self, name, np.concatenate(columns).astype(np.int64))
        ino = np.concatenate([capture.vma_ino for capture in captures])
        self.anon = ino == 0
        # /proc shows no offset for anonymous VMAs; the linear one is that of a VMA that was never moved.
        self.pgoff[self.anon] = self.start[self.anon]
        names = [name for capture in captures for name in capture.vma_name]
        files: dict[tuple, int] = {}
        self.file = np.array(
            [files.setdefault((int(i), n), len(files)) for i, n in zip(ino, names, strict=True)], np.int64
        )
        flags = [flag_set for capture in captures for flag_set in capture.vma_flags]
        perms = [text for capture in captures for text in capture.vma_perms]
        self.flags = np.zeros(len(ino), np.uint32)
        for number, (text, flag_set) in enumerate(zip(perms, flags, strict=True)):
            self.flags[number] = sum({_VMA_FLAGS[flag] for flag in flag_set if flag in _VMA_FLAGS})
            if text.endswith("s"):
                self.flags[number] |= _core.VMA_SHARED
        self.flags[self.anon] |= np.uint32(_core.VMA_ANON)
        if not uffd_wp:
            self.flags &= ~np.uint32(_core.VMA_UFFD_WP)
        self.writable = np.array([text[1:2] == "w" for text in perms], bool)
        special = [n in _SPECIAL_NAMES or bool(f & {"pf", "io"}) for n, f in zip(names, flags, strict=True)]
        self.special = np.array(special, bool)
        self.hugetlb = np.array(["ht" in flag_set for flag_set in flags], bool)

    def drop(self, hugetlb: np.ndarray, notes: dict) -> None:
        """Decide which VMAs stay, and their new numbers."""
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
        """Take out the dropped VMAs; lay out page-table entries, windows and tables."""
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
        # VMAs of one window share the tables that they share.
        first_table = self.window_start // self.ptrs_per_pte
        tables = ((self.window_end - 1) // self.ptrs_per_pte - first_table + 1)[first]
        self.table_base = (np.cumsum(tables) - tables)[window] + self.start // self.ptrs_per_pte - first_table
        self.nr_tables = int(tables.sum())

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the VMA arrays of a population."""
        names = ("start", "end", "pgoff", "pte_base", "window_start", "window_end", "table_base")
        arrays = {f"vma_{name}": getattr(self, name).astype(np.uint64) for name in names}
        return arrays | {"vma_flags": self.flags, "vma_mm": self.mm.astype(np.uint32)}


def _pmd_leaves(piece: dict, mapped: np.ndarray, lookup: FolioIndex, order: np.ndarray, ptrs_per_pte: int, notes: dict):
    """Return whether each piece lies in a PMD leaf, and the first piece of each leaf.

    A huge range that is not one run of pages of one large folio (the huge zero page, for one) stays a PTE table.
    """
    rows = np.flatnonzero(piece["table"] >= 0)
    table, row_of = np.unique(piece["table"][rows], return_inverse=True)
    in_leaf = np.zeros(len(piece["pm"]), bool)
    if not len(table):
        return in_leaf, rows
    pfn = (piece["pm"][rows] & PM_PFN).astype(np.int64)
    begin = np.flatnonzero(np.diff(row_of, prepend=-1))
    linear = pfn - piece["page"][rows] == (pfn - piece["page"][rows])[begin][row_of]
    fits = np.bincount(row_of, weights=~(mapped[rows] & linear)) == 0
    fits &= np.bincount(row_of, weights=piece["len"][rows]) == ptrs_per_pte
    fits &= pfn[begin] % ptrs_per_pte == 0
    folio = lookup.find(pfn[begin].astype(np.uint64))
    fits &= (folio >= 0) & (1 << np.append(order, 0)[folio] >= ptrs_per_pte)
    if not fits.all():
        notes["huge"] = f"{int(np.count_nonzero(~fits))} huge ranges without a whole large folio: taken as PTE tables"
    in_leaf[rows] = fits[row_of]
    return in_leaf, rows[begin][fits]


def _fill_ptes(piece, special, vmas, nr_mms, arch, young, dirty, write, soft_dirty, uffd_wp, seed, notes):
    """Return the PTE array and the mm counters."""
    pm, kf, length, vma = piece["pm"], piece["kf"], piece["len"], piece["vma"]
    present = pm & PM_PRESENT > 0
    anon = _has(kf, "anon")
    may_write = vmas.writable[vma] & present & ~special
    shared_dirty = (vmas.flags[vma] & np.uint32(_core.VMA_SHARED) > 0) & ~anon & _has(kf, "dirty")
    by_perms = shared_dirty | (anon & (pm & PM_EXCLUSIVE > 0))
    writable = may_write & (by_perms if isinstance(write, str) else bool(write))
    wp = (pm & PM_UFFD_WP > 0) & (uffd_wp == "capture")
    writable &= ~wp
    written = _has(kf, "dirty") | (anon & _has(kf, "swapbacked"))
    is_dirty = writable & (written if isinstance(dirty, str) else bool(dirty))
    soft = (pm & PM_SOFT_DIRTY > 0) & (soft_dirty == "capture")
    flags = np.full(len(pm), pte.PRESENT)
    constant_young = isinstance(young, bool | np.bool_) or young in (0, 1)
    for mask, flag in (
        (writable, pte.WRITE),
        (is_dirty, pte.DIRTY),
        (special, pte.SPECIAL),
        (wp, pte.UFFD_WP),
        (soft, pte.SOFT_DIRTY),
    ):
        flags |= mask * flag
    if constant_young and young:
        flags |= pte.YOUNG
    word = ((pm & PM_PFN) << pte.PFN_SHIFT) | flags

    kind, offset = pm & np.uint64(31), (pm & PM_PFN) >> np.uint64(5)
    swapped = ~present & (pm & PM_SWAP > 0)
    marker = swapped & (kind == _MARKER_TYPE) & (pm & PM_UFFD_WP > 0) & (pm & PM_GUARD == 0)
    unknown = swapped & ((kind == _MARKER_TYPE) & ~marker | (pm & PM_GUARD > 0))
    swapped &= ~marker & ~unknown
    # The type goes above the offset: areas stay apart, and the next page is the next offset.
    value = (offset & np.uint64((1 << 47) - 1)) | kind << np.uint64(47)
    bits = wp * pte.UFFD_WP | soft * pte.SOFT_DIRTY | (pm & PM_EXCLUSIVE > 0) * pte.EXCLUSIVE
    swap_word = value << pte.PFN_SHIFT | np.uint64(1 << _core.KIND_SHIFT) | bits
    word = np.where(present, word, np.where(swapped, swap_word, np.where(marker & wp, pte.MARKER, pte.NONE)))
    if unknown.any():
        notes["markers"] = f"{int(length[unknown].sum())} guard or other markers: taken as none"

    at = ranges(vmas.pte_base[vma] + piece["vpn"] - vmas.start[vma], length)
    step = np.repeat(present.astype(np.uint64) << pte.PFN_SHIFT, length) * ranges(np.zeros(len(length)), length).astype(
        np.uint64
    )
    words = np.repeat(word, length) + step
    if not constant_young:
        pages = ranges(piece["page"], length).astype(np.uint64)
        words |= rate_mask(seed, "young", pages, young) * np.repeat(present * pte.YOUNG, length)
    ptes = np.zeros(vmas.nr_ptes, np.uint64)
    ptes[at] = words

    rss = np.zeros((nr_mms, 4), np.int64)
    mapped = present & ~special
    counters = (
        mapped & ~anon & ~_has(kf, "swapbacked"),
        mapped & anon,
        swapped,
        mapped & ~anon & _has(kf, "swapbacked"),
    )
    for counter, mask in enumerate(counters):
        rss[:, counter] = np.bincount(vmas.mm[vma[mask]], weights=length[mask], minlength=nr_mms)
    return ptes, rss


def _seen_pairs(interval, many, vma, of_interval, number, anon, vmas, vma_of_folio):
    """Return (folio, VMA) of mappings that the file's VMAs do not tell: anonymous folios, files under another name."""
    first = number[of_interval[interval]] if len(interval) else interval
    told = ~anon[first] & (vmas.file[vma] == vmas.file[vma_of_folio[first]]) & ~vmas.anon[vma]
    rows = np.flatnonzero(~told)
    # The folios of an interval of order 0 are consecutive in PFN order, from the first one's place there.
    places = ranges(of_interval[interval[rows]], many[interval[rows]])
    return number[places], np.repeat(vma[rows], many[interval[rows]])


def _rmap(vmas, folio_start, pages, anon, vma_of_folio, seen_pairs, capture):
    """Return ``rmap_start`` and ``rmap_vma``: VMAs by page offset, mm and address, as the interval tree yields them.

    A file folio's row holds every VMA of the file that covers a part of it, mapped there or not; an anonymous folio's
    those that map it.
    """
    rank = np.lexsort((vmas.start, vmas.mm, vmas.pgoff))
    pairs = [np.stack(seen_pairs)]
    nr = 0
    file_of_folio = np.where(anon, -1, vmas.file[vma_of_folio]) if len(folio_start) else folio_start
    by_file = np.lexsort((folio_start, file_of_folio))
    files = file_of_folio[by_file]
    for vma in np.flatnonzero(~vmas.anon):
        file = vmas.file[vma]
        low, high = (int(np.searchsorted(files, file + step)) for step in (0, 1))
        mine = by_file[low:high]
        begin = folio_start[mine]
        end = np.maximum.accumulate(begin + pages[mine])
        first = np.searchsorted(end, vmas.pgoff[vma], side="right")
        last = np.searchsorted(begin, vmas.pgoff[vma] + vmas.end[vma] - vmas.start[vma])
        nr += max(last - first, 0)
        if nr >= 1 << 31:
            raise capture._error("expected less than 2^31 pairs of folio and VMA")
        found = mine[first:last]
        pairs.append(np.stack([found, np.full(len(found), vma)]))
    folio, vma = np.concatenate(pairs, axis=1)
    place = np.empty(len(rank), np.int64)
    place[rank] = np.arange(len(rank))
    overlap = folio_start[folio] < vmas.pgoff[vma] + vmas.end[vma] - vmas.start[vma]
    overlap &= folio_start[folio] + pages[folio] > vmas.pgoff[vma]
    key = sorted_unique((folio * max(len(rank), 1) + place[vma])[overlap])
    folio, vma = key // max(len(rank), 1), rank[key % max(len(rank), 1)] if len(rank) else key
    row = np.bincount(folio, minlength=len(folio_start))
    return {
        "rmap_start": np.concatenate([[0], np.cumsum(row)]).astype(np.uint64),
        "rmap_vma": vma.astype(np.uint32),
    }
