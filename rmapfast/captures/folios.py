"""Folios from the head and tail flags of the pages that user space sees."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rmapfast.captures.format import has_flags
from rmapfast.layout import MAX_ORDER, ranges


def visible_folios(
    start: npt.NDArray[np.int64],
    length: npt.NDArray[np.int64],
    kf: npt.NDArray[np.uint64],
    index: npt.NDArray[np.int64],
    min_order: int = 0,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], int]:
    """Reconstruct the folios of visible pages.

    * A page that is neither head nor tail is a folio of order 0.
    * A run of pages that begins with a head belongs to the smallest naturally aligned block that starts at the head and
      holds the run and at least one tail.
    * A run of tails without a visible head belongs to the smallest naturally aligned block that holds it and starts
      before it.
    * Blocks that overlap are one folio.
    * Where a visible page contradicts that (a head or single page inside, a tail at the start, an order above 13), the
      pages become folios of order 0.

    Parameters
    ----------
    start, length : array of int64, shape (intervals,)
        Disjoint intervals of PFNs, in rising order.
    kf : array of uint64, shape (intervals,)
        Entry of kpageflags that all pages of the interval have.
    index : array of int64, shape (intervals,)
        Page offset of the first page.
    min_order : int
        Smallest order of a folio that a head or tail page belongs to.

    Returns
    -------
    pfn, order : array of int64, shape (folios,)
        First PFN and order, in PFN order.
    broken : int
        Pages that became folios of order 0 because of a contradiction.
    """
    last = start + length - 1
    head = has_flags(kf, "head") & (length == 1)
    tail = has_flags(kf, "tail") & ~head
    block, order = _compound_blocks(start, last, head, tail, min_order)
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


def _compound_blocks(
    start: npt.NDArray[np.int64],
    last: npt.NDArray[np.int64],
    head: npt.NDArray[np.bool_],
    tail: npt.NDArray[np.bool_],
    min_order: int,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return first PFN and order of the smallest naturally aligned blocks that hold the runs of head and tail pages."""
    joins = np.zeros(len(start), bool)
    joins[1:] = tail[1:] & (head | tail)[:-1] & (start[1:] == last[:-1] + 1)
    first = np.flatnonzero(~joins)
    run_last = last[np.append(first[1:], len(start)) - 1] if len(first) else last
    with_head, compound = head[first], (head | tail)[first]
    low = np.maximum(np.where(with_head, start[first], start[first] - 1), 0)
    high = np.where(with_head, np.maximum(run_last, low + 1), run_last)
    order = np.maximum(np.frexp((low ^ high).astype(np.float64))[1].astype(np.int64), min_order)
    block = low >> order << order
    good = compound & (order <= MAX_ORDER) & ~(with_head & (block != low))
    # Naturally aligned blocks are disjoint, or one holds the other. Keep those that no other one holds.
    block, order = block[good], order[good]
    rank = np.lexsort((-order, block))
    block, order = block[rank], order[rank]
    reach = np.maximum.accumulate(block + (1 << order)) if len(block) else block
    top = np.ones(len(block), bool)
    top[1:] = block[1:] >= reach[:-1]
    return block[top], order[top]
