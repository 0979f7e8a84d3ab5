"""What neither a capture nor a description of a population shows, put into the arrays of a population.

The contents of pages, pins, references by others and further processes change what reclaim does to a folio
(docs/model.md, section 6), and user space sees none of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rmapfast import pte
from rmapfast.flags import FolioFlag, PageFlag
from rmapfast.layout import FolioIndex
from rmapfast.support import read_regular, shown

# What can be said of pages.
UNSEEN = {
    "zero_filled": "pages that hold only zero bytes",
    "dirty": "pages written since they were made clean",
    "pinned": "pages that are pinned",
    "extra_references": "pages to which something else holds a reference",
    "shared": "pages that one more process maps",
    "poisoned": "pages that are poisoned",
}

# A pin of an order-0 folio takes as many references; one of a large folio takes one.
PIN_REFERENCES = 1024


class Arrays(Protocol):
    """What is read and changed of a :class:`rmapfast.Population`."""

    ptes: npt.NDArray[np.uint64]
    vma_start: npt.NDArray[np.uint64]
    vma_end: npt.NDArray[np.uint64]
    vma_pgoff: npt.NDArray[np.uint64]
    vma_mm: npt.NDArray[np.uint32]
    vma_pte_base: npt.NDArray[np.uint64]
    folio_pfn: npt.NDArray[np.uint64]
    folio_index: npt.NDArray[np.uint64]
    folio_order: npt.NDArray[np.uint8]
    folio_flags: npt.NDArray[np.uint32]
    folio_refcount: npt.NDArray[np.int32]
    folio_mapcount: npt.NDArray[np.int32]
    folio_entire_mapcount: npt.NDArray[np.int32]
    folio_nr_pages_mapped: npt.NDArray[np.int32]
    folio_page_base: npt.NDArray[np.uint64]
    page_mapcount: npt.NDArray[np.int32]
    page_flags: npt.NDArray[np.uint8]
    rmap_start: npt.NDArray[np.uint64]
    rmap_vma: npt.NDArray[np.uint32]
    assumptions: dict[str, Any]

    @property
    def nr_folios(self) -> int:
        """Number of folios."""


def assume_pages(population: Arrays, pages: Mapping[str, npt.ArrayLike], *, mm: int = 0) -> None:
    """Change a population to what is assumed of single pages, and note it in ``population.assumptions``.

    Parameters
    ----------
    population : Population
        Changed in place.
    pages : mapping of str to array of int
        Virtual page numbers by what they are, each of shape (n,):

        * ``zero_filled``: the page holds only zero bytes.
        * ``dirty``: the page was written since it was made clean. The entry of an anonymous page is dirty then; a
          page of a file makes its folio dirty.
        * ``pinned``: the page is pinned (FOLL_PIN).
        * ``extra_references``: something else holds a reference to the page, such as a pipe.
        * ``shared``: one more process maps the page, besides those of the population. A mapping that the population
          has counted already, outside its own, is this one.
        * ``poisoned``: memory_failure has found the page broken, and could not take it away from its users.
    mm : int
        The process whose page numbers these are.

    Raises
    ------
    TypeError, ValueError
        For a name that says nothing about pages, for what is no array of whole numbers, and for a page that belongs to
        no folio of the population; the message names it. The population stays as it was then.

    Examples
    --------
    >>> import rmapfast as rf
    >>> population = rf.Population.synthetic("64KiB", kind="anon", orders=2)
    >>> rf.assume_pages(population, {"zero_filled": population.vma_start[0] + np.arange(3, dtype=np.uint64)})
    >>> rf.madvise(population, "MADV_PAGEOUT", swap=False, engine="reference").came_back_pages
    3
    """
    if not hasattr(population, "folio_pfn"):  # this room stands below that of populations
        raise TypeError(f"population: expected a Population, got {shown(population)}")
    if not isinstance(pages, Mapping):
        raise TypeError(f"pages: expected a mapping of names to pages, got {shown(pages)}")
    found = {}
    for name, given in pages.items():
        if name not in UNSEEN:
            raise ValueError(f"{name}: expected one of {', '.join(UNSEEN)}")
        vpns = np.unique(_page_numbers(name, given))
        slot, folio, page = _locate(population, vpns, mm)
        if np.any(folio < 0):
            wrong = int(vpns[np.flatnonzero(folio < 0)[0]])
            raise ValueError(
                f"{name}: expected pages of folios of the population, got page {wrong:#x}, which is of none"
            )
        found[name] = (vpns, slot, folio, page)
    expanded = _expand(population, found)
    for name, (vpns, slot, folio, page) in found.items():
        if len(vpns):
            _CHANGES[name](population, slot, folio, page)
            population.assumptions[f"{name}_pages"] = f"{len(vpns)} {UNSEEN[name]}"
    _settle(population, expanded)


def parse_pages(name: str, text: str, population: Arrays, mm: int = 0) -> npt.NDArray[np.int64]:
    """Return the pages that a text names, as :func:`assume_pages` takes them.

    Parameters
    ----------
    name : str
        What is assumed of the pages; the error message names it.
    text : str
        Words with commas or white space between them, or the name of a file of such words. A word is a page, a range of
        pages such as ``0-15`` (both ends belong to it), ``every:K`` (pages 0, K, 2K and so on) or ``all``. Pages are
        counted from the first address that the process maps; a number that begins with ``0x`` is a virtual page number.
    population : Population
        Where the pages lie.
    mm : int
        Number of the process.

    Returns
    -------
    ndarray of int64, shape (n,)
        Virtual page numbers.

    Raises
    ------
    ValueError
        For a word that means no pages, and for a page that lies in no VMA of the process.
    OSError
        If a file cannot be read.

    Examples
    --------
    >>> import rmapfast as rf
    >>> population = rf.Population.synthetic("64KiB", kind="anon", orders=2)
    >>> (parse_pages("zero_filled", "0-2,every:8", population) - int(population.vma_start[0])).tolist()
    [0, 1, 2, 8]
    """
    own = population.vma_mm == mm
    starts, ends = population.vma_start[own].astype(np.int64), population.vma_end[own].astype(np.int64)
    first = int(starts.min()) if len(starts) else 0
    pages = np.concatenate([np.zeros(0, np.int64), *map(np.arange, starts, ends)])
    words = text.replace(",", " ").split()
    if not words or not all(_WORD.fullmatch(word) for word in words):
        try:
            words = read_regular(text).decode(errors="replace").replace(",", " ").split()
        except FileNotFoundError:
            raise ValueError(
                f"{name}: expected pages such as 7, 0-15, every:4 or all, or a file of such words, got {text!r}"
            ) from None
    chosen = np.zeros(len(pages), bool)
    for word in words:
        found = _WORD.fullmatch(word)
        if found is None:
            raise ValueError(f"{name}: {text}: expected pages such as 7, 0-15, every:4 or all, got {word!r}")
        if word == "all":
            chosen[:] = True
        elif found["step"]:
            chosen |= (pages - first) % int(found["step"]) == 0
        else:
            low, high = (_virtual(found[end] or found["low"], first) for end in ("low", "high"))
            inside = (pages >= low) & (pages <= high)
            # Numbers of many digits fit no array, so the missing ones are counted.
            if high < low or np.count_nonzero(inside) != high - low + 1:
                raise ValueError(
                    f"{name}: expected pages of the mapping, which are 0 to {max(len(pages) - 1, 0)} unless it has "
                    f"gaps, got {word!r}"
                )
            chosen |= inside
    return pages[chosen]


# A page, a range, every:K, or all.
_WORD = re.compile(r"(?P<low>0x[0-9a-f]+|\d+)(-(?P<high>0x[0-9a-f]+|\d+))?|every:(?P<step>0*[1-9]\d{0,17})|all", re.A)


def _virtual(number: str, first: int) -> int:
    """Return the virtual page number that a number in a text means."""
    if number.startswith("0x"):
        return int(number, 16)
    return first + (int(number) if len(number) < 20 else 1 << 64)


def _page_numbers(name: str, given: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return page numbers as an array, checked."""
    array: npt.NDArray[Any] = np.atleast_1d(np.asarray(given))
    if array.size == 0:
        return np.zeros(0, np.int64)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise TypeError(f"{name}: expected whole page numbers of one dimension, got {array.dtype}")
    return array.astype(np.int64)


def _locate(
    population: Arrays, vpns: npt.NDArray[np.int64], mm: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the slot in ``ptes`` (-1: not mapped), the folio (-1: none), and the page in it of each virtual page."""
    pop = population
    slot, folio, page = (np.full(len(vpns), -1, np.int64) for _ in range(3))
    index = FolioIndex(pop.folio_pfn, pop.folio_order)
    vma_of_pair = pop.rmap_vma
    pairs: npt.NDArray[np.int64] = np.diff(pop.rmap_start).astype(np.int64)
    folio_of_pair = np.repeat(np.arange(pop.nr_folios), pairs)
    for vma in np.flatnonzero(pop.vma_mm == mm):
        start, end = int(pop.vma_start[vma]), int(pop.vma_end[vma])
        here = np.flatnonzero((vpns >= start) & (vpns < end))
        if not len(here):
            continue
        at = int(pop.vma_pte_base[vma]) + vpns[here] - start
        mapped = pte.maps_page(pop.ptes[at])
        slot[here] = np.where(mapped, at, -1)
        by_entry = index.find(pte.pfn(pop.ptes[at]))
        # A page that is not mapped here belongs to the folio that the VMA maps around it.
        rows = folio_of_pair[vma_of_pair == vma]
        rows = rows[np.argsort(pop.folio_index[rows], kind="stable")]
        first = pop.folio_index[rows].astype(np.int64)
        offset = vpns[here] - start + int(pop.vma_pgoff[vma])
        near = np.searchsorted(first, offset, side="right") - 1
        by_offset = rows[near] if len(rows) else np.full(len(here), -1)
        distance = offset - (first[near] if len(rows) else 0)
        inside = (near >= 0) & (by_offset >= 0)
        inside &= distance < np.left_shift(1, pop.folio_order[by_offset], dtype=np.int64)
        folio[here] = np.where(mapped & (by_entry >= 0), by_entry, np.where(inside, by_offset, -1))
        pfn = pte.pfn(pop.ptes[at]).astype(np.int64)
        page[here] = np.where(mapped & (by_entry >= 0), pfn - pop.folio_pfn[folio[here]].astype(np.int64), distance)
    return slot, folio, page


def pages_of_folios(population: Arrays, vpns: npt.NDArray[np.int64], mm: int = 0) -> npt.NDArray[np.int64]:
    """Return those of the virtual pages that belong to a folio of the population."""
    return vpns[_locate(population, vpns, mm)[1] >= 0]


_Found = dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]]


def _expand(population: Arrays, found: _Found) -> npt.NDArray[np.int64]:
    """Write what is stored for a whole folio out to its pages; return these folios."""
    pop = population
    folios: npt.NDArray[np.int64] = np.unique(
        np.concatenate([np.zeros(0, np.int64), *(row[2] for row in found.values())])
    )
    for folio in folios:
        base, order = int(pop.folio_page_base[folio]), int(pop.folio_order[folio])
        pages = slice(base, base + (1 << order))
        if not pop.folio_flags[folio] & FolioFlag.PAGE_MAPCOUNTS:
            pop.page_mapcount[pages] = (pop.folio_mapcount[folio] - pop.folio_entire_mapcount[folio]) >> order
        if not pop.folio_flags[folio] & FolioFlag.PAGE_FLAGS:
            exclusive = pop.folio_flags[folio] & FolioFlag.EXCLUSIVE
            pop.page_flags[pages] = PageFlag.EXCLUSIVE if exclusive else 0
    return folios


def _settle(population: Arrays, folios: npt.NDArray[np.int64]) -> None:
    """Store what pages have in common for the whole folio again (docs/model.md, section 2)."""
    pop = population
    for folio in folios:
        base, order = int(pop.folio_page_base[folio]), int(pop.folio_order[folio])
        pages = slice(base, base + (1 << order))
        counts, flags = pop.page_mapcount[pages], pop.page_flags[pages]
        word = int(pop.folio_flags[folio])
        word &= ~int(FolioFlag.PAGE_MAPCOUNTS | FolioFlag.PAGE_FLAGS | FolioFlag.EXCLUSIVE)
        if counts.min() != counts.max():
            word |= FolioFlag.PAGE_MAPCOUNTS
        if np.all(flags == PageFlag.EXCLUSIVE):
            word |= FolioFlag.EXCLUSIVE
        elif flags.any():
            word |= FolioFlag.PAGE_FLAGS
        pop.folio_flags[folio] = word


def _assume_zero_filled(
    pop: Arrays, slot: npt.NDArray[np.int64], folio: npt.NDArray[np.int64], page: npt.NDArray[np.int64]
) -> None:
    pop.page_flags[pop.folio_page_base[folio].astype(np.int64) + page] |= PageFlag.ZERO


def _assume_dirty(
    pop: Arrays, slot: npt.NDArray[np.int64], folio: npt.NDArray[np.int64], page: npt.NDArray[np.int64]
) -> None:
    anon = pop.folio_flags[folio] & FolioFlag.ANON > 0
    pop.ptes[slot[anon & (slot >= 0)]] |= pte.WRITE | pte.DIRTY
    pop.folio_flags[folio[~anon]] |= FolioFlag.DIRTY


def _assume_pinned(
    pop: Arrays, slot: npt.NDArray[np.int64], folio: npt.NDArray[np.int64], page: npt.NDArray[np.int64]
) -> None:
    pop.folio_flags[folio] |= FolioFlag.PINNED
    np.add.at(pop.folio_refcount, folio, np.where(pop.folio_order[folio] > 0, 1, PIN_REFERENCES).astype(np.int32))


def _assume_extra_references(
    pop: Arrays, slot: npt.NDArray[np.int64], folio: npt.NDArray[np.int64], page: npt.NDArray[np.int64]
) -> None:
    np.add.at(pop.folio_refcount, folio, np.int32(1))


def _assume_shared(
    pop: Arrays, slot: npt.NDArray[np.int64], folio: npt.NDArray[np.int64], page: npt.NDArray[np.int64]
) -> None:
    pop.folio_flags[folio] |= FolioFlag.MAYBE_SHARED
    at = pop.folio_page_base[folio].astype(np.int64) + page
    # Mappings outside the population that its counts have already are those of this process.
    missing = (pop.page_mapcount[at] <= (slot >= 0)).astype(np.int32)
    entire = pop.folio_entire_mapcount[folio] > 0
    # A process that maps a whole folio that a PMD maps here is taken to do so by a PMD too.
    for number in np.unique(folio[entire]):
        if pop.folio_entire_mapcount[number] == 1:
            pop.folio_entire_mapcount[number] += 1
            pop.folio_mapcount[number] += 1
            pop.folio_refcount[number] += 1
    missing[entire] = 0
    pop.page_mapcount[at] += missing
    np.add.at(pop.folio_mapcount, folio, missing)
    np.add.at(pop.folio_refcount, folio, missing)
    for number in np.unique(folio):
        base, pages = int(pop.folio_page_base[number]), 1 << int(pop.folio_order[number])
        if not pop.folio_entire_mapcount[number]:
            mapped = int(np.count_nonzero(pop.page_mapcount[base : base + pages]))
            pop.folio_nr_pages_mapped[number] = mapped
            if mapped == pages:
                pop.folio_flags[number] &= ~np.uint32(FolioFlag.PARTIALLY_MAPPED)


def _assume_poisoned(
    pop: Arrays, slot: npt.NDArray[np.int64], folio: npt.NDArray[np.int64], page: npt.NDArray[np.int64]
) -> None:
    pop.page_flags[pop.folio_page_base[folio].astype(np.int64) + page] |= PageFlag.HWPOISON


_CHANGES = {
    "zero_filled": _assume_zero_filled,
    "dirty": _assume_dirty,
    "pinned": _assume_pinned,
    "extra_references": _assume_extra_references,
    "shared": _assume_shared,
    "poisoned": _assume_poisoned,
}
