"""Cases beyond the bound of the exhaustive check: seeded cases of larger folios, and mutations of captures."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import numpy.typing as npt

import rmapfast._core as _core
from rmapfast import pte
from rmapfast.flags import FolioFlag, PageFlag, VmaFlag
from rmapfast.population import Population
from rmapfast.verify.cases import FOLIO_FLAGS, FOLIO_INDEX, FOLIO_PFN, Case, case_of_state
from rmapfast.verify.states import State, VmaRange

# The last one is flipped in uffd-wp VMAs only.
_BITS = ("write", "young", "dirty", "soft_dirty", "uffd_wp")
# Flags of a folio when reclaim unmaps it, by kind.
_KINDS = {
    "file": 0,
    "lazyfree": FolioFlag.ANON,
    "anon": FolioFlag.ANON | FolioFlag.SWAPBACKED | FolioFlag.SWAPCACHE | FolioFlag.DIRTY,
    "shmem": FolioFlag.SWAPBACKED,
}
# Orders of folios of 8 to 512 pages.
_RULE_ORDERS = range(3, 10)
# What lies inside the folio: nothing, or borders of the page table and of the VMA.
_RULE_BORDERS = (
    "none",
    "table",
    "folio at a table's end",
    "VMA start",
    "VMA end",
    "VMA start and end",
    "table and VMA",
)
# Real page tables, and a folio as large as one that lies where a kernel may put it.
_REAL_TABLE, _LARGE_PFN, _LARGE_INDEX = 512, 1024, 1024
_RECLAIM_TTU = _core.TTU_FLAGS["BATCH_FLUSH"] | _core.TTU_FLAGS["SYNC"]
# Of the folio of a mutated capture.
_SWAP_OFFSET = 1 << 20


def _consistent_state(
    rng: np.random.Generator,
    words: npt.NDArray[np.uint64],
    first_vpn: int,
    ptrs_per_pte: int,
    vma: VmaRange,
    folio_flags: int,
    order: int,
    pfn: int,
    guard: str = "none",
) -> State:
    """A state whose mapcounts and references go with its entries; sometimes somebody else holds the folio too."""
    pages = 1 << order
    mapped = pte.pfn(words).astype(np.int64) - pfn
    counts = np.bincount(mapped[pte.maps_page(words) & (mapped >= 0) & (mapped < pages)], minlength=pages)
    anon, swapbacked = folio_flags & FolioFlag.ANON, folio_flags & FolioFlag.SWAPBACKED
    cached = not anon or folio_flags & FolioFlag.SWAPCACHE
    exclusive = rng.random(pages) < (0.9 if anon and swapbacked else 0)
    return State(
        ptes=words.tolist(),
        first_vpn=first_vpn,
        ptrs_per_pte=ptrs_per_pte,
        vma=vma,
        folio_flags=folio_flags,
        order=order,
        refcount=1 + int(counts.sum()) + (pages if cached else 0) + int(rng.random() < 0.1),
        page_mapcount=counts.tolist(),
        page_flags=(exclusive.astype(np.uint8) * PageFlag.EXCLUSIVE).tolist(),
        ttu=_RECLAIM_TTU,
        guard=guard,
    )


def _mutate(
    rng: np.random.Generator,
    words: npt.NDArray[np.uint64],
    slots: npt.NDArray[np.int64],
    anon: bool,
    uffd_wp: bool,
    rate: float,
) -> None:
    """Flip bits of some entries, zap some, and put a device entry in the place of some anonymous ones."""
    bits = [getattr(pte, name.upper()) for name in (_BITS if uffd_wp else _BITS[:-1])]
    for slot in slots[rng.random(len(slots)) < rate]:
        what = rng.random()
        if what < 0.7 and words[slot] & pte.PRESENT:
            words[slot] ^= rng.choice(bits)
        elif what < 0.9 or not anon or not words[slot] & pte.PRESENT:
            words[slot] = 0
        else:
            words[slot] = pte.make("device_exclusive", int(pte.pfn(words[slot])))


def random_cases(seed: int, number: int) -> Iterator[Case]:
    """Yield seeded cases of folios of 8 to 64 pages, across page-table and VMA borders; a pure function of the seed.

    All kinds of folios occur, and flags of the folio and of the VMA in every combination.

    Parameters
    ----------
    seed : int
        0 or more.
    number : int
        How many.

    Yields
    ------
    dict
        A case; its fields are those of docs/conformance-format.md.
    """
    per_table = 64
    for count in range(number):
        rng = np.random.default_rng([seed, count])
        order = int(rng.integers(3, 7))
        pages, kind = 1 << order, str(rng.choice(list(_KINDS)))
        uffd_wp = bool(rng.random() < 0.3)
        linear = 2 * per_table - int(rng.integers(0, pages + 1))
        first, end = sorted(rng.choice(pages + 1, 2, replace=False).tolist()) if rng.random() < 0.3 else (0, pages)
        names = [name for name in _BITS[: 5 if uffd_wp else 4] if rng.random() < 0.5]
        words = np.zeros(2 * per_table, np.uint64)
        at = linear - per_table
        word = int(pte.make("present", FOLIO_PFN, names))
        words[at : at + pages] = np.uint64(word) + (np.arange(pages, dtype=np.uint64) << pte.PFN_SHIFT)
        anon = kind in ("lazyfree", "anon")
        _mutate(rng, words, np.arange(at, at + pages), anon, uffd_wp, float(rng.choice([0.02, 0.1, 0.5])))
        folio_flags, vma_flags = _drawn_flags(rng, kind)
        vma_flags |= (VmaFlag.ANON if anon else 0) | (VmaFlag.UFFD_WP if uffd_wp else 0)
        vma = VmaRange(linear + first, linear + end, FOLIO_INDEX + first, vma_flags)
        guard = "contiguous" if rng.random() < 0.5 else "none"
        state = _consistent_state(rng, words, per_table, per_table, vma, folio_flags, order, FOLIO_PFN, guard)
        yield case_of_state(state)


def _drawn_flags(rng: np.random.Generator, kind: str) -> tuple[int, int]:
    """Flags of a folio of a kind and of its VMA, each with some probability and independent of the others."""
    folio_flags, vma_flags = int(_KINDS[kind]), 0
    for flag, rate in ((FolioFlag.DIRTY, 0.2), (FolioFlag.MLOCKED, 0.1), (FolioFlag.PINNED, 0.1)):
        if rng.random() < rate and (kind == "anon" or flag != FolioFlag.PINNED):
            folio_flags |= flag
    for vma_flag, rate in ((VmaFlag.LOCKED, 0.1), (VmaFlag.UFFD_ARMED, 0.1), (VmaFlag.DROPPABLE, 0.2)):
        if rng.random() < rate and (kind == "lazyfree" or vma_flag != VmaFlag.DROPPABLE):
            vma_flags |= vma_flag
    return folio_flags, vma_flags


def rule_cases(seed: int, number: int) -> Iterator[Case]:
    """Yield seeded cases for a rule of one's own: folios of 8 to 512 pages at the borders of tables of 512 entries.

    Any 196 cases that follow each other hold each size of folio of each kind at each border once or more: across a
    table's end, at it, before the start of the VMA, behind its end, and with both. A pure function of the seed.

    Parameters
    ----------
    seed : int
        0 or more.
    number : int
        How many.

    Yields
    ------
    dict
        A case; its fields are those of docs/conformance-format.md.
    """
    combinations = list(product(_RULE_BORDERS, _KINDS, _RULE_ORDERS))
    turns = np.random.default_rng(seed).permutation(len(combinations))
    for count in range(number):
        border, kind, order = combinations[turns[count % len(turns)]]
        yield case_of_state(
            _rule_state(np.random.default_rng([seed, count]), border, kind, order), pfn=_LARGE_PFN, index=_LARGE_INDEX
        )


def _rule_state(rng: np.random.Generator, border: str, kind: str, order: int) -> State:
    """One of the states of :func:`rule_cases`: a folio in two page tables."""
    pages, first_vpn = 1 << order, _REAL_TABLE
    anon, uffd_wp = kind in ("anon", "lazyfree"), bool(rng.random() < 0.2)
    # pages in the first table
    if border.startswith("table"):
        before = int(rng.choice([1, pages // 2, pages - 1, int(rng.integers(1, pages))]))
    elif border == "folio at a table's end":
        before = int(rng.choice([0, pages]))
    else:
        before = int(rng.integers(pages, _REAL_TABLE + 1))
    linear = 2 * _REAL_TABLE - before
    # the part of the folio that the VMA maps; one page is cut off as often as any other number
    cuts = sorted(int(cut) for cut in rng.choice(np.arange(1, pages), 2, replace=False))
    first = cuts[0] if border in ("VMA start", "VMA start and end") else 0
    end = pages
    if border in ("VMA end", "VMA start and end"):
        end = cuts[1]
    elif border == "table and VMA":
        first, end = (cuts[0], pages) if rng.random() < 0.5 else (0, cuts[1])
    # where the folio is not cut, the VMA may go on beyond it
    start_vpn, end_vpn = linear + first, linear + end
    if rng.random() < 0.5:
        start_vpn -= 0 if first else min(int(rng.integers(0, 9)), start_vpn - first_vpn)
        end_vpn += 0 if end < pages else min(int(rng.integers(0, 9)), 3 * _REAL_TABLE - end_vpn)
    names = [name for name in _BITS[: 5 if uffd_wp else 4] if rng.random() < 0.5]
    words = np.zeros(2 * _REAL_TABLE, np.uint64)
    word, at = int(pte.make("present", _LARGE_PFN, names)), linear - first_vpn
    words[at : at + pages] = np.uint64(word) + (np.arange(pages, dtype=np.uint64) << pte.PFN_SHIFT)
    _mutate(rng, words, np.arange(at, at + pages), anon, uffd_wp, float(rng.choice([0.0, 0.0, 0.02, 0.2])))
    if rng.random() < 0.5:
        # nothing but this VMA maps the folio
        words[: start_vpn - first_vpn] = 0
        words[end_vpn - first_vpn :] = 0
    flags = int(_KINDS[kind]) | (int(FolioFlag.DIRTY) if not anon and rng.random() < 0.3 else 0)
    vma_flags = (VmaFlag.ANON if anon else 0) | (VmaFlag.UFFD_WP if uffd_wp else 0)
    vma = VmaRange(start_vpn, end_vpn, _LARGE_INDEX + start_vpn - linear, vma_flags)
    guard = "contiguous" if rng.random() < 0.5 else "none"
    return _consistent_state(rng, words, first_vpn, _REAL_TABLE, vma, flags, order, _LARGE_PFN, guard)


def capture_cases(population: Population, seed: int, number: int) -> Iterator[Case]:
    """Yield mutations of the large folios that a population maps: a folio in a VMA, with some bits flipped.

    Parameters
    ----------
    population : Population
        Not changed.
    seed : int
        0 or more.
    number : int
        How many.

    Yields
    ------
    dict
        A case; its fields are those of docs/conformance-format.md.

    Raises
    ------
    ValueError
        If it maps no folio of more than one page.
    """
    large = np.flatnonzero((population.folio_order > 0) & (population.folio_mapcount > 0))
    if not len(large):
        raise ValueError("capture: it maps no large folio, so there is nothing that a policy could batch")
    per_table = population.ptrs_per_pte
    for count in range(number):
        rng = np.random.default_rng([seed, count])
        folio = int(rng.choice(large))
        pairs = population.rmap(folio)
        vma, vpn = pairs[int(rng.integers(len(pairs)))]
        order, pfn = int(population.folio_order[folio]), int(population.folio_pfn[folio])
        start, end = int(population.vma_start[vma]), int(population.vma_end[vma])
        low = vpn // per_table * per_table
        high = -(-min(vpn + (1 << order), end) // per_table) * per_table
        cut_start, cut_end = max(start, low), min(end, high)
        base = int(population.vma_pte_base[vma]) - start
        words = np.zeros(high - low, np.uint64)
        words[cut_start - low : cut_end - low] = population.ptes[base + cut_start : base + cut_end]
        words[(words & pte.PRESENT) != 0] &= ~pte.CONT
        flags = int(population.folio_flags[folio]) & sum(FOLIO_FLAGS.values()) & ~FolioFlag.MLOCKED
        if flags & FolioFlag.ANON and flags & FolioFlag.SWAPBACKED:
            flags |= FolioFlag.SWAPCACHE
        vma_flags = int(population.vma_flags[vma])
        slots = np.arange(vpn - low, min(vpn + (1 << order), cut_end) - low)
        _mutate(
            rng,
            words,
            slots,
            bool(flags & FolioFlag.ANON),
            bool(vma_flags & VmaFlag.UFFD_WP),
            float(rng.choice([0.0, 0.02, 0.2])),
        )
        cut = VmaRange(cut_start, cut_end, int(population.vma_pgoff[vma]) + cut_start - start, vma_flags)
        state = _consistent_state(rng, words, low, per_table, cut, flags, order, pfn)
        index = int(population.folio_index[folio])
        yield case_of_state(state, pfn=pfn, index=index, swap_offset=_SWAP_OFFSET)
