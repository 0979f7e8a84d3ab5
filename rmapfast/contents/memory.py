"""Maps of the memory: what a figure of all VMAs, and of one part of them page by page, shows."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rmapfast.captures import Capture
from rmapfast.contents.mappings import FolioMappings, MappedEntries, folio_mappings, mapped_entries
from rmapfast.population import Population

# Cells in a row of the map, and its rows at most.
_MAP_WIDTH = 128
_MAP_ROWS = 48
# Pages in a row of the part that is shown page by page, and its rows.
_DETAIL_WIDTH = 128
_DETAIL_ROWS = 12


@dataclass(frozen=True)
class Strip:
    """A row of the map.

    Parameters
    ----------
    vma : int or None
        VMA; None where small VMAs share the row.
    first : int
        Virtual page number of the first cell, 0 in a shared row.
    begin, end : int
        Cells that belong to VMAs; the end is exclusive.
    share : array of float64, shape (cells,)
        Fraction of the pages of each cell that is mapped.
    order : array of int64, shape (cells,)
        Order that maps most of the cell, -1 if nothing is mapped.
    partial, pmd : array of bool, shape (cells,)
        Whether a folio is mapped in part there; whether a PMD maps one.
    """

    vma: int | None
    first: int
    begin: int
    end: int
    share: npt.NDArray[np.float64]
    order: npt.NDArray[np.int64]
    partial: npt.NDArray[np.bool_]
    pmd: npt.NDArray[np.bool_]


class DetailRun(NamedTuple):
    """Consecutive pages of one folio in a row of the detail.

    Parameters
    ----------
    begin, end : int
        Pages of the row; the end is exclusive.
    order : int
        Order of the folio.
    partial, pmd : bool
        Whether the folio is mapped in part; whether a PMD maps it.
    """

    begin: int
    end: int
    order: int
    partial: bool
    pmd: bool


@dataclass(frozen=True)
class DetailRow:
    """A row of the detail.

    Parameters
    ----------
    vma : int
        VMA.
    first : int
        Virtual page number of the first page.
    begin, end : int
        Pages that belong to the VMA; the end is exclusive.
    runs : list of DetailRun
        Mapped pages.
    """

    vma: int
    first: int
    begin: int
    end: int
    runs: list[DetailRun]


@dataclass(frozen=True)
class Detail:
    """A part of one VMA, page by page.

    Parameters
    ----------
    width : int
        Pages in a row.
    partial : bool
        Whether it was chosen for folios that are mapped in part; else for large folios.
    rows : list of DetailRow
        In address order.
    """

    width: int
    partial: bool
    rows: list[DetailRow]


@dataclass(frozen=True)
class MemoryMap:
    """What a figure of the memory shows.

    Parameters
    ----------
    cell : int
        Pages in a cell, a power of two.
    width : int
        Cells in a row.
    orders : list of int
        Orders of the mapped folios.
    any_partial, any_pmd : bool
        Whether any folio is mapped in part, or by a PMD.
    skipped : int
        Rows without a mapped page, which are left out.
    strips : list of Strip
        The other rows.
    detail : Detail or None
        One part page by page; None if there is no large folio.
    """

    cell: int
    width: int
    orders: list[int]
    any_partial: bool
    any_pmd: bool
    skipped: int
    strips: list[Strip]
    detail: Detail | None


class _Rows(NamedTuple):
    """Rows of the map, and how many without a mapped page were left out."""

    strips: list[Strip]
    skipped: int


@dataclass(frozen=True)
class _Cells:
    """What the rows are made from, for each mapped entry."""

    entries: MappedEntries
    order: npt.NDArray[np.int64]  # of the folio
    in_part: npt.NDArray[np.bool_]  # whether the folio is mapped in part


def memory_map(population: Population) -> MemoryMap:
    """Return what a figure of the memory shows: rows of cells of the same size, and one part page by page.

    Parameters
    ----------
    population : Population
        Stays as it is.

    Returns
    -------
    MemoryMap
    """
    entries = mapped_entries(population)
    found = folio_mappings(population, entries)
    # Entries of order-0 folios have no row in `found`: number -1 picks the False that is appended.
    in_part = np.append(found.partial, False)[found.number]
    order = population.folio_order[entries.folio].astype(np.int64)
    cells = _Cells(entries, order, in_part)
    cell = 1
    while (rows := _rows(population, cells, cell)) is None:
        cell *= 2
    return MemoryMap(
        cell=cell,
        width=_MAP_WIDTH,
        orders=np.unique(order).tolist(),
        any_partial=bool(in_part.any()),
        any_pmd=bool(entries.leaf.any()),
        skipped=rows.skipped,
        strips=rows.strips,
        detail=_detail(population, cells, found),
    )


def vma_names(paths: Iterable[str | os.PathLike[str]]) -> dict[tuple[int, int], str]:
    """Return the names of the VMAs in captures.

    Parameters
    ----------
    paths : iterable of path
        Files of captures, in the order in which a population was loaded from them.

    Returns
    -------
    dict of (int, int) to str
        By number of the mm and first virtual page: the last component of the name.

    Raises
    ------
    rmapfast.CaptureError, OSError
        For a file that is not a capture, or cannot be read.
    """
    names = {}
    for mm, path in enumerate(paths):
        capture = Capture.load(path)
        for start, name, inode in zip(capture.vma_start, capture.vma_name, capture.vma_ino, strict=True):
            last = name if name.startswith("[") else name.rpartition("/")[2]
            names[mm, int(start)] = last or ("file" if inode else "")  # anonymised captures hold no names of files
    return names


def _rows(pop: Population, cells: _Cells, cell: int) -> _Rows | None:
    """Lay the VMAs out in rows of cells of `cell` pages; None if there are too many rows.

    VMAs of half a row and more begin a row, in address order. Smaller ones follow each other in the rows after them.
    """
    entries, order = cells.entries, cells.order
    used = np.unique(entries.vma)
    start, end = pop.vma_start.astype(np.int64), pop.vma_end.astype(np.int64)
    first, last = start // cell, (end - 1) // cell + 1
    is_large = last - first >= _MAP_WIDTH // 2
    # Place of the first cell of each VMA, counted through all rows.
    place = np.zeros(len(start), np.int64)
    large = used[is_large[used]].tolist()
    first_rows = []
    at = 0
    for vma in large:
        place[vma] = at
        first_rows.append(at // _MAP_WIDTH)
        at += -(-int(last[vma] - first[vma]) // _MAP_WIDTH) * _MAP_WIDTH
        if at // _MAP_WIDTH > 1 << 22:  # most of the address space is empty
            return None
    shared_from = at // _MAP_WIDTH
    for vma in used[~is_large[used]].tolist():
        place[vma] = at
        at += int(last[vma] - first[vma])
    where = place[entries.vma] + entries.vpn // cell - first[entries.vma]
    present = np.unique(where // _MAP_WIDTH)
    if len(present) > _MAP_ROWS:
        return None
    if not len(present):
        return _Rows([], 0)
    # Rows without a mapped page are left out: cells are numbered through the others.
    number = np.searchsorted(present, where // _MAP_WIDTH) * _MAP_WIDTH + where % _MAP_WIDTH
    nr = len(present) * _MAP_WIDTH
    known = np.unique(order)
    by_order = np.stack([np.bincount(number[order == one], minlength=nr) for one in known])
    share = by_order.sum(axis=0) / cell
    most = np.where(share > 0, known[by_order.argmax(axis=0)], -1)
    partial = np.bincount(number[cells.in_part], minlength=nr) > 0
    pmd = np.bincount(number[entries.leaf], minlength=nr) > 0
    strips = []
    for strip, row in enumerate(present.tolist()):
        part = slice(strip * _MAP_WIDTH, (strip + 1) * _MAP_WIDTH)
        begin = row * _MAP_WIDTH
        owner, virtual, stop = None, 0, at - begin
        if row < shared_from:
            owner = large[int(np.searchsorted(first_rows, row, side="right")) - 1]
            stop = int(place[owner] + last[owner] - first[owner]) - begin
            virtual = int(first[owner] + begin - place[owner]) * cell
        strips.append(
            Strip(
                vma=owner,
                first=virtual,
                begin=0,
                end=min(stop, _MAP_WIDTH),
                share=share[part],
                order=most[part],
                partial=partial[part],
                pmd=pmd[part],
            )
        )
    return _Rows(strips, -(-at // _MAP_WIDTH) - len(present))


def _detail(pop: Population, cells: _Cells, found: FolioMappings) -> Detail | None:
    """Return the part of a VMA with most folios mapped in part; if there are none, with most large folios."""
    if not len(found.folio):
        return None
    entries = cells.entries
    span = _DETAIL_WIDTH * _DETAIL_ROWS
    partial = found.partial
    wanted = partial if partial.any() else np.ones(len(partial), bool)
    # Windows begin at multiples of half a span. The number of different orders in a window counts first, then that of
    # the folios, so that a mix is preferred.
    key = np.stack([found.vma[wanted], found.first[wanted].clip(0) // (span // 2)])
    windows, which = np.unique(key, axis=1, return_inverse=True)
    kinds = np.unique(np.stack([which.ravel(), pop.folio_order[found.folio[wanted]].astype(np.int64)]), axis=1)
    score = np.bincount(kinds[0], minlength=windows.shape[1]) * span + np.bincount(which.ravel())
    vma, window = windows[:, int(score.argmax())].tolist()
    start, end = int(pop.vma_start[vma]), int(pop.vma_end[vma])
    # Rows begin at multiples of their width. The part reaches no further beyond the end of the VMA than it must.
    low = max(window * (span // 2), start // _DETAIL_WIDTH * _DETAIL_WIDTH)
    low = max(min(low, -(-end // _DETAIL_WIDTH) * _DETAIL_WIDTH - span), start // _DETAIL_WIDTH * _DETAIL_WIDTH)
    inside = np.flatnonzero((entries.vma == vma) & (entries.vpn >= low) & (entries.vpn < low + span))
    vpn = entries.vpn[inside]
    rows = []
    for first in range(low, min(low + span, end), _DETAIL_WIDTH):
        mine = inside[slice(*np.searchsorted(vpn, [first, first + _DETAIL_WIDTH]).tolist())]
        at, of = entries.vpn[mine] - first, found.number[mine]
        begins = np.flatnonzero(np.diff(at, prepend=-2) + np.abs(np.diff(of, prepend=-2)) != 1)
        runs = [
            DetailRun(
                begin=int(at[one]),
                end=int(at[behind - 1]) + 1,
                order=int(cells.order[mine[one]]),
                partial=bool(cells.in_part[mine[one]]),
                pmd=bool(entries.leaf[mine[one]]),
            )
            for one, behind in zip(begins, np.append(begins[1:], len(at)), strict=True)
        ]
        begin, stop = max(start - first, 0), min(end - first, _DETAIL_WIDTH)
        rows.append(DetailRow(vma=vma, first=first, begin=begin, end=stop, runs=runs))
    return Detail(width=_DETAIL_WIDTH, partial=bool(partial.any()), rows=rows)
