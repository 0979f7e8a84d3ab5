"""Work before a reclaim run: folios are split, and MADV_PAGEOUT collects folios table by table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rmapfast import pte
from rmapfast.flags import FolioFlag, PageFlag, TableState, VmaFlag
from rmapfast.layout import FolioIndex, ranges
from rmapfast.population import Population

# PFN and PRESENT. These bits grow by PFN_ONE from entry to entry in a run of present entries with consecutive PFNs.
_PRESENT_PFN = ~(pte.PFN_ONE - np.uint64(1)) | pte.PRESENT


def split_folios(population: Population, mask: npt.NDArray[np.bool_]) -> Population:
    """Return a population in which the masked folios are split into folios of order 0.

    Each page keeps its flags, its mappings and its place in the LRU list, where the pages of a folio follow each other.
    CONT is cleared in its PTEs, and a PMD leaf that maps it becomes a PTE table. References beyond mappings and caches
    go to the first page. Pages of anonymous folios that nothing maps or references are dropped.

    Parameters
    ----------
    population : Population
        Stays as it is.
    mask : array of bool, shape (folios,)
        Folios to split. Those of order 0 stay as they are.

    Returns
    -------
    Population

    Raises
    ------
    TypeError
        If `mask` has another dtype or shape.
    """
    pop = population
    mask = np.asarray(mask)
    if mask.dtype != bool or mask.shape != (pop.nr_folios,):
        raise TypeError(
            f"mask: expected a bool array of shape ({pop.nr_folios},), got {mask.dtype} with shape {mask.shape}"
        )
    pages = np.int64(1) << pop.folio_order.astype(np.int64)
    mask = mask & (pop.folio_order > 0)
    nr_new = np.where(mask, pages, 1)
    first_new = np.cumsum(nr_new) - nr_new
    source = np.repeat(np.arange(pop.nr_folios), nr_new)
    sub = np.arange(len(source)) - first_new[source]
    split = mask[source]
    folio = source[split]
    page = pop.folio_page_base[folio].astype(np.int64) + sub[split]

    flags = pop.folio_flags[source]
    own = flags[split]
    counts = (pop.folio_mapcount[folio] - pop.folio_entire_mapcount[folio]) // pages[folio]
    counts = np.where(own & FolioFlag.PAGE_MAPCOUNTS > 0, pop.page_mapcount[page], counts).astype(np.int64)
    per_page = np.where(own & FolioFlag.PAGE_FLAGS > 0, pop.page_flags[page], 0)
    per_page |= (own & FolioFlag.EXCLUSIVE > 0).astype(per_page.dtype) * PageFlag.EXCLUSIVE

    ptes, table_state = pop.ptes.copy(), pop.table_state.copy()
    entries = _mapping_entries(pop, np.flatnonzero(mask))
    ptes[entries.slot] &= ~pte.CONT
    leaf = table_state[entries.table] == TableState.PMD_LEAF
    new_of = np.full(pop.nr_folios, -1, np.int64)
    new_of[mask] = np.cumsum(pages[mask]) - pages[mask]
    np.add.at(counts, new_of[entries.folio[leaf]] + entries.page[leaf], 1)
    leaf_table, leaf_folio = np.unique(np.stack([entries.table[leaf], entries.folio[leaf]]), axis=1)
    found = np.bincount(leaf_folio, minlength=pop.nr_folios)
    counts += (pop.folio_entire_mapcount - found)[folio].clip(0)
    table_state[leaf_table] = TableState.PTE

    anon = own & FolioFlag.ANON > 0
    cached = (~anon | (own & FolioFlag.SWAPCACHE > 0)).astype(np.int64)
    extra = pop.folio_refcount.astype(np.int64) - pop.folio_mapcount
    extra = np.where(sub[split] == 0, extra[folio] - cached * pages[folio], 0)
    refcount = pop.folio_refcount[source].astype(np.int64)
    mapcount = pop.folio_mapcount[source].astype(np.int64)
    entire = np.where(split, 0, pop.folio_entire_mapcount[source])
    nr_pages_mapped = pop.folio_nr_pages_mapped[source]
    refcount[split] = counts + cached + extra
    mapcount[split] = counts
    nr_pages_mapped[split] = counts > 0
    other = np.uint32(PageFlag.HWPOISON | PageFlag.SWAP_DUP_FAIL)
    clear = FolioFlag.PAGE_MAPCOUNTS | FolioFlag.PAGE_FLAGS | FolioFlag.EXCLUSIVE | FolioFlag.PARTIALLY_MAPPED
    own &= ~np.uint32(clear)
    own |= np.where(per_page & other, np.uint32(FolioFlag.PAGE_FLAGS), np.uint32(0))
    own |= np.where(per_page == PageFlag.EXCLUSIVE, np.uint32(FolioFlag.EXCLUSIVE), np.uint32(0))
    flags[split] = own
    page_flags = pop.page_flags.copy() if np.any(flags & FolioFlag.PAGE_FLAGS) else np.zeros_like(pop.page_flags)
    page_flags[page] = per_page

    keep = ~split
    keep[split] = ~anon | (refcount[split] > 0)
    number = np.cumsum(keep) - 1
    sub64 = np.where(split, sub, 0).astype(np.uint64)
    arrays: dict[str, npt.NDArray[Any]] = {
        "ptes": ptes,
        "table_state": table_state,
        "folio_pfn": pop.folio_pfn[source] + sub64,
        "folio_index": pop.folio_index[source] + sub64,
        "folio_order": np.where(split, 0, pop.folio_order[source]).astype(np.uint8),
        "folio_flags": flags,
        "folio_refcount": refcount.astype(np.int32),
        "folio_mapcount": mapcount.astype(np.int32),
        "folio_entire_mapcount": entire.astype(np.int32),
        "folio_nr_pages_mapped": nr_pages_mapped.astype(np.int32),
        "folio_swap": pop.folio_swap[source] + sub64,
        "folio_page_base": pop.folio_page_base[source] + sub64,
    }
    arrays = {name: array[keep] if name.startswith("folio_") else array for name, array in arrays.items()}
    # Each page gets the rmap row of its old folio, but for VMAs that map other parts of the folio only.
    row = _rmap_lengths(pop)[source[keep]]
    rmap_vma = pop.rmap_vma[ranges(pop.rmap_start[source[keep]], row)]
    new = np.repeat(np.arange(len(row)), row)
    vma_pages = pop.vma_end[rmap_vma] - pop.vma_start[rmap_vma]
    # A page before the VMA's offset is found too: the unsigned difference is larger than any VMA.
    may_map = (arrays["folio_index"][new] - pop.vma_pgoff[rmap_vma] < vma_pages) | ~split[keep][new]
    arrays["rmap_vma"] = rmap_vma[may_map]
    row = np.bincount(new[may_map], minlength=len(row))
    arrays["rmap_start"] = np.concatenate([[0], np.cumsum(row)]).astype(np.uint64)
    for name in ("lru_inactive", "lru_active"):
        lru = getattr(pop, name)
        new = ranges(first_new[lru], nr_new[lru])
        arrays[name] = number[new[keep[new]]].astype(np.uint32)
    for name in ("page_mapcount", "page_flags", "mm_rss"):
        arrays[name] = getattr(pop, name).copy() if name != "page_flags" else page_flags
    return pop.with_arrays(**arrays)


def _rmap_lengths(pop: Population) -> npt.NDArray[np.int64]:
    """Return the number of VMAs in the rmap row of each folio."""
    start = pop.rmap_start.astype(np.int64)
    return start[1:] - start[:-1]


@dataclass(frozen=True)
class _Entries:
    """Present entries that map a folio, as int64 columns."""

    slot: npt.NDArray[np.int64]  # index in Population.ptes
    table: npt.NDArray[np.int64]
    folio: npt.NDArray[np.int64]
    page: npt.NDArray[np.int64]  # of the folio


def _mapping_entries(pop: Population, folios: npt.NDArray[np.int64]) -> _Entries:
    """Return the present entries that map these folios where their rmap says."""
    row = _rmap_lengths(pop)[folios]
    vma = pop.rmap_vma[ranges(pop.rmap_start[folios], row)]
    folio = np.repeat(folios, row)
    start, end = pop.vma_start[vma].astype(np.int64), pop.vma_end[vma].astype(np.int64)
    vpn = start + pop.folio_index[folio].astype(np.int64) - pop.vma_pgoff[vma].astype(np.int64)
    low = np.maximum(vpn, start)
    high = np.minimum(vpn + (np.int64(1) << pop.folio_order[folio].astype(np.int64)), end)
    length = np.maximum(high - low, 0)
    vpns, vma, folio = ranges(low, length), np.repeat(vma, length), np.repeat(folio, length)
    start = pop.vma_start[vma].astype(np.int64)
    slot = pop.vma_pte_base[vma].astype(np.int64) + vpns - start
    table = pop.vma_table_base[vma].astype(np.int64) + vpns // pop.ptrs_per_pte - start // pop.ptrs_per_pte
    page = pte.pfn(pop.ptes[slot]).astype(np.int64) - pop.folio_pfn[folio].astype(np.int64)
    hit = (pop.ptes[slot] & pte.PRESENT > 0) & (page >= 0) & (page < 1 << pop.folio_order[folio].astype(np.int64))
    hit &= pop.table_state[table] != TableState.ABSENT
    return _Entries(slot[hit], table[hit], folio[hit], page[hit])


def split_partially_mapped(population: Population) -> tuple[Population, int]:
    """Split the folios that the kernel splits when it reclaims: those on the deferred-split list.

    These are the folios on an LRU list that are anonymous, swapbacked and PARTIALLY_MAPPED.

    Parameters
    ----------
    population : Population
        Before a run with ``entry='memory.reclaim'``. It stays as it is.

    Returns
    -------
    Population
        With these folios split; the given one if there are none.
    int
        Number of folios that were split.
    """
    wanted = FolioFlag.ANON | FolioFlag.SWAPBACKED | FolioFlag.PARTIALLY_MAPPED
    mask = (population.folio_flags & wanted == wanted) & (population.folio_order > 0) & _on_lru(population)
    nr = int(np.count_nonzero(mask))
    return (split_folios(population, mask) if nr else population), nr


def pageout_groups(
    population: Population, vmas: Sequence[int] | npt.NDArray[np.integer[Any]] | None = None
) -> tuple[Population, npt.NDArray[np.uint32], npt.NDArray[np.uint64], int]:
    """Collect the folios that MADV_PAGEOUT reclaims (docs/model.md, section 6).

    The folios that one page table maps in one VMA form a group; groups are in address order.

    * A folio is taken if each of its pages is mapped once, by this table in this VMA. A folio that a PMD leaf maps is
      taken if the leaf is its only mapping.
    * A folio that a border of the table or VMA, or a hole, cuts is split first if its mapcount equals the number of its
      PTEs in this VMA. Otherwise it is skipped.
    * Locked VMAs, and folios on no LRU list, are skipped.

    Parameters
    ----------
    population : Population
        Stays as it is.
    vmas : sequence of int, optional
        Numbers of VMAs, in this order. Default: all.

    Returns
    -------
    Population
        After the splits; the given one if there are none.
    folios : array of uint32, shape (folios in all groups,)
        Numbers of the folios, group after group.
    group_start : array of uint64, shape (groups + 1,)
        Index in ``folios`` at which each group begins; the last element is the length of ``folios``.
    int
        Number of folios that were split.

    Raises
    ------
    ValueError, TypeError
        If ``vmas`` holds anything else than numbers of VMAs, or one of them twice.
    """
    nr_vmas = len(population.vma_start)
    chosen = np.arange(nr_vmas) if vmas is None else np.atleast_1d(np.asarray(vmas))
    if chosen.size and chosen.dtype.kind not in "iu":
        raise TypeError(f"vmas: expected VMA numbers, got {chosen.dtype}")
    chosen = chosen.astype(np.int64)
    if chosen.ndim != 1 or np.any((chosen < 0) | (chosen >= nr_vmas)) or len(np.unique(chosen)) != len(chosen):
        raise ValueError(f"vmas: expected VMA numbers from 0 to {nr_vmas - 1}, once each, got {vmas!r}")
    chosen = chosen[population.vma_flags[chosen] & VmaFlag.LOCKED == 0]

    on_lru = _on_lru(population)
    found = _mapped_folios(population, chosen)
    mapcount = population.folio_mapcount[found.folio]
    cut = ~found.leaf & (found.count < _pages(population, found.folio)) & on_lru[found.folio]
    cut &= population.folio_entire_mapcount[found.folio] == 0
    if cut.any():
        cut[cut] = _entries_in_vma(found, cut) == mapcount[cut]
    nr_split = 0
    if cut.any():
        mask = np.zeros(population.nr_folios, bool)
        mask[found.folio[cut]] = True
        nr_split = int(np.count_nonzero(mask))
        population = split_folios(population, mask)
        on_lru = _on_lru(population)
        found = _mapped_folios(population, chosen)
        mapcount = population.folio_mapcount[found.folio]
    pages = _pages(population, found.folio)
    once = np.where(found.leaf, mapcount == 1, (found.count == pages) & (mapcount == pages))
    take = once & on_lru[found.folio]
    group, folio = found.group[take], found.folio[take]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    return population, folio.astype(np.uint32), np.append(starts, len(group)).astype(np.uint64), nr_split


def _pages(pop: Population, folio: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the pages of each folio."""
    return np.int64(1) << pop.folio_order[folio].astype(np.int64)


@dataclass(frozen=True)
class _Mapped:
    """What page tables map: one row for each table and folio, in the order of the first entry."""

    group: npt.NDArray[np.int64]  # number of the table among those of the chosen VMAs
    vma: npt.NDArray[np.int64]
    folio: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]  # entries
    leaf: npt.NDArray[np.bool_]  # whether the table is a PMD leaf


def _entries_in_vma(mapped: _Mapped, wanted: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return how many PTEs map the folio in the VMA, for each wanted row."""
    vma, folio, count = mapped.vma, mapped.folio, np.where(mapped.leaf, 0, mapped.count)
    related = np.zeros(int(folio.max()) + 1, bool)
    related[folio[wanted]] = True
    rows = np.flatnonzero(related[folio])
    _, owner = np.unique(vma[rows] * len(related) + folio[rows], return_inverse=True)
    return np.bincount(owner, weights=count[rows]).astype(np.int64)[owner][wanted[rows]]


def _on_lru(pop: Population) -> npt.NDArray[np.bool_]:
    """Return whether each folio is on an LRU list."""
    on = np.zeros(pop.nr_folios, bool)
    on[pop.lru_inactive] = True
    on[pop.lru_active] = True
    return on


def _mapped_folios(pop: Population, vmas: npt.NDArray[np.int64]) -> _Mapped:
    """Return what the tables of these VMAs map."""
    runs = _pfn_runs(pop, vmas)
    # Cut the runs into folios.
    index = FolioIndex(pop.folio_pfn, pop.folio_order)
    nr_runs = len(runs.pfn) if len(index.pfn) else 0
    pfn, end = runs.pfn[:nr_runs], runs.end[:nr_runs]
    low = np.maximum(np.searchsorted(index.pfn, pfn, side="right") - 1, 0)
    folios = np.searchsorted(index.pfn, end, side="left") - low
    run, at = np.repeat(np.arange(nr_runs), folios), ranges(low, folios)
    count = np.minimum(end[run], index.end[at]).astype(np.int64) - np.maximum(pfn[run], index.pfn[at]).astype(np.int64)
    run, at, count = run[count > 0], at[count > 0], count[count > 0]
    folio = at if index.number is None else index.number[at]
    # A table may map a folio in several runs: its entries are out of order, or others lie in between.
    key = runs.group[run] * max(pop.nr_folios, 1) + folio
    if np.any(key[1:] <= key[:-1]):
        _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
        order = np.argsort(first)
        count = np.bincount(inverse, weights=count).astype(np.int64)[order]
        run, folio = run[first[order]], folio[first[order]]
    return _Mapped(runs.group[run], runs.vma[run], folio, count, runs.leaf[run])


@dataclass(frozen=True)
class _PfnRuns:
    """Runs of present entries with consecutive PFNs in one table."""

    group: npt.NDArray[np.int64]  # as in _Mapped
    vma: npt.NDArray[np.int64]
    leaf: npt.NDArray[np.bool_]
    pfn: npt.NDArray[np.uint64]
    end: npt.NDArray[np.uint64]  # exclusive


def _pfn_runs(pop: Population, vmas: npt.NDArray[np.int64]) -> _PfnRuns:
    """Return the runs in these VMAs, in the order of their entries."""
    start, end = pop.vma_start[vmas].astype(np.int64), pop.vma_end[vmas].astype(np.int64)
    first_table = start // pop.ptrs_per_pte
    nr_tables = (end - 1) // pop.ptrs_per_pte - first_table + 1
    which = np.repeat(np.arange(len(vmas)), nr_tables)
    state = pop.table_state[ranges(pop.vma_table_base[vmas], nr_tables)]
    base = np.cumsum(end - start) - (end - start)
    first_entry = base[which] + np.maximum(ranges(first_table, nr_tables) * pop.ptrs_per_pte - start[which], 0)

    slices = zip(pop.vma_pte_base[vmas].astype(np.int64), end - start, strict=True)
    entries = np.concatenate([pop.ptes[:0], *(pop.ptes[low : low + length] for low, length in slices)])
    present_pfn = entries & _PRESENT_PFN
    begins = np.ones(len(entries), bool)
    begins[1:] = present_pfn[1:] - present_pfn[:-1] != pte.PFN_ONE
    begins[first_entry] = True
    begin = np.flatnonzero(begins)
    length = np.diff(np.append(begin, len(entries)))
    group = np.searchsorted(first_entry, begin, side="right") - 1
    keep = (present_pfn[begin] & pte.PRESENT > 0) & (state[group] != TableState.ABSENT)
    begin, length, group = begin[keep], length[keep], group[keep]
    pfn = pte.pfn(present_pfn[begin])
    leaf = state[group] == TableState.PMD_LEAF
    return _PfnRuns(group, vmas[which[group]], leaf, pfn, pfn + length.astype(np.uint64))
