"""The entries that map folios, and how large folios lie in VMAs: what descriptions and memory maps are made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rmapfast import pte
from rmapfast.flags import FolioFlag, TableState
from rmapfast.layout import FolioIndex
from rmapfast.population import Population


@dataclass(frozen=True)
class MappedEntries:
    """Page-table entries that map a page of a folio, by VMA and address.

    Parameters
    ----------
    slot : array of int64, shape (entries,)
        Index in ``Population.ptes``.
    vma, vpn : array of int64, shape (entries,)
        VMA and virtual page number.
    word : array of uint64, shape (entries,)
        The entry.
    folio, page : array of int64, shape (entries,)
        Folio, and page of the folio.
    leaf : array of bool, shape (entries,)
        Whether a PMD maps it.
    """

    slot: npt.NDArray[np.int64]
    vma: npt.NDArray[np.int64]
    vpn: npt.NDArray[np.int64]
    word: npt.NDArray[np.uint64]
    folio: npt.NDArray[np.int64]
    page: npt.NDArray[np.int64]
    leaf: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FolioMappings:
    """How large folios lie in VMAs: one row per folio, VMA and place in it.

    Parameters
    ----------
    number : array of int64, shape (entries,)
        Row of each of the :class:`MappedEntries`, -1 for folios of order 0.
    folio, vma : array of int64, shape (rows,)
        Folio and VMA.
    first : array of int64, shape (rows,)
        Virtual page number of the folio's page 0, also where that page is not mapped.
    pages : array of int64, shape (rows,)
        Mapped pages.
    pmd, whole : array of bool, shape (rows,)
        Mapped by a PMD; all pages mapped by PTEs.
    cut_by_vma, cut_by_table : array of bool, shape (rows,)
        A border of the VMA, or of a page table, lies inside the folio.
    cow, holes : array of bool, shape (rows,)
        Pages inside the folio are anonymous copies; nothing is mapped at pages inside it.
    """

    number: npt.NDArray[np.int64]
    folio: npt.NDArray[np.int64]
    vma: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    pages: npt.NDArray[np.int64]
    pmd: npt.NDArray[np.bool_]
    whole: npt.NDArray[np.bool_]
    cut_by_vma: npt.NDArray[np.bool_]
    cut_by_table: npt.NDArray[np.bool_]
    cow: npt.NDArray[np.bool_]
    holes: npt.NDArray[np.bool_]

    @property
    def partial(self) -> npt.NDArray[np.bool_]:
        """Whether PTEs map a part of the folio, as bool of shape (rows,)."""
        partial: npt.NDArray[np.bool_] = ~self.whole & ~self.pmd
        return partial


def mapped_entries(population: Population) -> MappedEntries:
    """Return the entries that map a page of a folio."""
    pop = population
    start, end = pop.vma_start.astype(np.int64), pop.vma_end.astype(np.int64)
    base = pop.vma_pte_base.astype(np.int64)
    none = np.zeros(0, np.int64)
    found = [(none, none, none)]
    for number in range(len(start)):
        words = pop.ptes[base[number] : base[number] + end[number] - start[number]]
        at = np.flatnonzero(words & (pte.PRESENT | pte.SPECIAL) == pte.PRESENT)
        found.append((at + base[number], at + start[number], np.full(len(at), number)))
    slot, vpn, vma = (np.concatenate(column) for column in zip(*found, strict=True))
    word = pop.ptes[slot]
    folio = FolioIndex(pop.folio_pfn, pop.folio_order).find(pte.pfn(word))
    table = pop.vma_table_base.astype(np.int64)[vma] + vpn // pop.ptrs_per_pte - start[vma] // pop.ptrs_per_pte
    state = pop.table_state[table]
    keep = (folio >= 0) & (state != TableState.ABSENT)
    word, folio = word[keep], folio[keep]
    return MappedEntries(
        slot=slot[keep],
        vma=vma[keep],
        vpn=vpn[keep],
        word=word,
        folio=folio,
        page=pte.pfn(word).astype(np.int64) - pop.folio_pfn.astype(np.int64)[folio],
        leaf=state[keep] == TableState.PMD_LEAF,
    )


def folio_mappings(population: Population, entries: MappedEntries) -> FolioMappings:
    """Return how the large folios of these entries lie in VMAs."""
    pop = population
    large = np.flatnonzero(pop.folio_order[entries.folio] > 0)
    folio, vma = entries.folio[large], entries.vma[large]
    first = entries.vpn[large] - entries.page[large]
    # Most entries of one mapping follow each other. Sorting the runs takes less time than sorting the entries.
    opens = np.ones(len(large), bool)
    opens[1:] = (folio[1:] != folio[:-1]) | (vma[1:] != vma[:-1]) | (first[1:] != first[:-1])
    run = np.flatnonzero(opens)
    by = np.lexsort((first[run], vma[run], folio[run]))
    columns = [column[run][by] for column in (folio, vma, first)]
    new = np.ones(len(run), bool)
    new[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    number_of_run = np.empty(len(run), np.int64)
    number_of_run[by] = np.cumsum(new) - 1
    number = np.full(len(entries.slot), -1)
    number[large] = number_of_run[np.cumsum(opens) - 1]
    folio, vma, first = (column[new] for column in columns)

    nr = len(folio)
    size = np.int64(1) << pop.folio_order[folio].astype(np.int64)
    pages = np.bincount(number[large], minlength=nr)
    pmd = np.bincount(number[large], weights=entries.leaf[large], minlength=nr) > 0
    start, end = pop.vma_start[vma].astype(np.int64), pop.vma_end[vma].astype(np.int64)
    low, high = np.maximum(first, start), np.minimum(first + size, end)
    # Places count through all VMAs, one after the other. Those of the entries rise.
    shift = np.cumsum(pop.vma_end - pop.vma_start).astype(np.int64) - pop.vma_end.astype(np.int64)
    place = entries.vpn + shift[entries.vma]
    anon = pop.folio_flags & FolioFlag.ANON > 0
    copies = place[anon[entries.folio]]

    def inside(places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return how many of these places lie in each mapping."""
        return np.searchsorted(places, high + shift[vma]) - np.searchsorted(places, low + shift[vma])

    return FolioMappings(
        number=number,
        folio=folio,
        vma=vma,
        first=first,
        pages=pages,
        pmd=pmd,
        whole=~pmd & (pages == size),
        cut_by_vma=high - low < size,
        cut_by_table=~pmd & (low // pop.ptrs_per_pte != (high - 1) // pop.ptrs_per_pte),
        cow=~anon[folio] & (inside(copies) > 0),
        holes=inside(place) < high - low,
    )
