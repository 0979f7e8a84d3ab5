"""Cases beyond the bound of the exhaustive check: seeded cases of larger folios, and mutations of captures."""

from __future__ import annotations

from collections.abc import Iterator

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
}
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
        _mutate(rng, words, np.arange(at, at + pages), kind != "file", uffd_wp, float(rng.choice([0.02, 0.1, 0.5])))
        vma_flags = (VmaFlag.ANON if kind != "file" else 0) | (VmaFlag.UFFD_WP if uffd_wp else 0)
        vma = VmaRange(linear + first, linear + end, FOLIO_INDEX + first, vma_flags)
        guard = "contiguous" if rng.random() < 0.5 else "none"
        state = _consistent_state(rng, words, per_table, per_table, vma, _KINDS[kind], order, FOLIO_PFN, guard)
        yield case_of_state(state)


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
