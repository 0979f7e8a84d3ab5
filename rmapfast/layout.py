"""Parts that populations are made from: seeded draws, lookup by PFN, contpte folding, mapcounts."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

import rmapfast._core as _core
from rmapfast import pte

MAX_ORDER = _core.MAX_ORDER
# A population has fewer page-table entries than this.
MAX_PAGES = 1 << 33
# CPUs on which an mm ran, as bits: CPU 1. CPU 0 reclaims.
DEFAULT_CPUMASK = 0b10
# Pages handled at a time, so that temporary arrays fit into the CPU's cache.
CHUNK = 1 << 17

# Properties that are drawn at a rate, for each PTE or folio. The index is the number of the draw.
RATES = _core.RATES
# permute() uses four draws. For the order of an LRU list, this is the first of them.
DRAW_LRU = 768


def hash64(seed: int, draw: int, counter: npt.ArrayLike) -> npt.NDArray[np.uint64]:
    """Return the ``counter``-th value of a draw by splitmix64, as uint64 of the shape of ``counter``.

    The value is ``mix(mix(seed + (draw + 1) * G) + (counter + 1) * G)`` modulo 2^64, where ``mix`` is the splitmix64
    finaliser and G is its increment 0x9E3779B97F4A7C15.
    """
    golden = 0x9E3779B97F4A7C15
    key = int(_mix64(np.array([(seed + (draw + 1) * golden) & 0xFFFFFFFFFFFFFFFF], np.uint64))[0])
    x = np.array(counter, np.uint64, ndmin=1)
    x *= np.uint64(golden)
    x += np.uint64((key + golden) & 0xFFFFFFFFFFFFFFFF)
    return _mix64(x).reshape(np.shape(counter))


def _mix64(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Apply the splitmix64 finaliser in place."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x ^= x >> np.uint64(shift)
        x *= np.uint64(factor)
    x ^= x >> np.uint64(31)
    return x


def rate_mask(seed: int, draw: str, numbers: npt.NDArray[np.uint64], rate: float) -> npt.NDArray[np.bool_]:
    """Return which of these numbers are chosen, as bool of the same shape; the rate is above 0 and below 1."""
    return hash64(seed, RATES.index(draw), numbers) < np.uint64(int(rate * 2.0**64))


def permute(seed: int, draw: int, size: int, index: npt.ArrayLike | None = None) -> npt.NDArray[np.int64]:
    """Return the image of each index (default: all of them) under a seeded permutation of ``range(size)``, as int64.

    Each image can be computed by itself. The permutation is an unbalanced Feistel network of four rounds over the bits
    of ``size - 1``. It is applied again while the value is not below ``size``.
    """
    x = np.arange(size, dtype=np.uint64) if index is None else np.array(index, np.uint64)
    bits = max((size - 1).bit_length(), 2) if size else 2
    low_bits = np.uint64(bits // 2)
    low, high = np.uint64((1 << (bits // 2)) - 1), np.uint64((1 << (bits - bits // 2)) - 1)
    todo: Any = slice(None)
    while True:
        left, right = x[todo] >> low_bits, x[todo] & low
        for step in range(4):
            if step & 1:
                right ^= hash64(seed, draw + step, left) & low
            else:
                left ^= hash64(seed, draw + step, right) & high
        x[todo] = left << low_bits | right
        outside = x >= size
        if not outside.any():
            return x.astype(np.int64)
        todo = outside


class FolioIndex:
    """Looks up folios by PFN.

    Parameters
    ----------
    folio_pfn : array of uint64, shape (folios,)
        In any order. The PFN ranges must not overlap.
    folio_order : array of uint8, shape (folios,)

    Attributes
    ----------
    pfn, end : array of uint64, shape (folios,)
        First PFN of each folio, in rising order, and the PFN behind its last page.
    number : array of int64, shape (folios,), or None
        Number of each of these folios. None if the folios were given in PFN order.
    """

    number: npt.NDArray[np.int64] | None
    pfn: npt.NDArray[np.uint64]
    end: npt.NDArray[np.uint64]

    def __init__(self, folio_pfn: npt.NDArray[np.uint64], folio_order: npt.NDArray[np.uint8]) -> None:
        rising = bool(np.all(folio_pfn[1:] > folio_pfn[:-1]))
        self.number = None if rising else np.argsort(folio_pfn, kind="stable")
        self.pfn = folio_pfn if self.number is None else folio_pfn[self.number]
        order = folio_order if self.number is None else folio_order[self.number]
        self.end = self.pfn + (np.uint64(1) << order.astype(np.uint64))

    def overlap(self) -> bool:
        """Return whether two folios claim the same PFN."""
        return bool(np.any(self.pfn[1:] < self.end[:-1]))

    def find(self, pfns: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Return the number of the folio that holds each PFN, -1 for none, as int64 of the same length."""
        if not len(self.pfn):
            return np.full(len(pfns), -1, np.int64)
        at = np.searchsorted(self.pfn, pfns, side="right") - 1
        hit = (at >= 0) & (pfns < self.end[at])
        return np.where(hit, at if self.number is None else self.number[at], -1)


def sorted_unique(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the distinct values in rising order.

    On nearly sorted input this is 10 times as fast as np.unique, which uses a hash table.
    """
    values = np.sort(values)
    first = np.ones(len(values), bool)
    first[1:] = values[1:] != values[:-1]
    return values[first]


def ranges(start: npt.NDArray[Any], length: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return the concatenation of ``arange(start[i], start[i] + length[i])``, as int64."""
    length = np.asarray(length, np.int64)
    end = np.cumsum(length)
    total = int(end[-1]) if len(end) else 0
    return np.repeat(np.asarray(start, np.int64) - (end - length), length) + np.arange(total)


def window_folds(window: int, cont_ptes: int) -> bool:
    """Return whether page faults that map so many pages at a time, aligned, fold contpte blocks of so many.

    docs/kernel-rules.md, section 2.6: set_ptes() of several entries sets CONT in blocks that it covers whole; of one
    entry it folds a block with its last entry.
    """
    return window == 1 or window >= cont_ptes


def fold_contpte(ptes: npt.NDArray[np.uint64], vpn: int, cont_ptes: int, folios: FolioIndex) -> None:
    """Set CONT in those contpte blocks of one VMA that the kernel folds; `vpn` is the virtual page of ``ptes[0]``.

    A block is folded if all of these hold: its virtual pages and its PFNs are aligned, its entries are present and
    map consecutive pages of one folio, and the entries are equal except for young and dirty.
    """
    first = -vpn % cont_ptes
    step = max(CHUNK // cont_ptes, 1) * cont_ptes
    for start in range(first, len(ptes) - cont_ptes + 1, step):
        entries = ptes[start : min(start + step, start + (len(ptes) - start) // cont_ptes * cont_ptes)]
        same = entries & ~(pte.YOUNG | pte.DIRTY)
        follows = np.ones(len(same), bool)
        np.equal(same[1:], same[:-1] + pte.PFN_ONE, out=follows[1:])
        follows[::cont_ptes] = True
        first_pfn = same[::cont_ptes] >> pte.PFN_SHIFT
        fold = follows.reshape(-1, cont_ptes).all(axis=1) & (same[::cont_ptes] & pte.PRESENT > 0)
        fold &= first_pfn & np.uint64(cont_ptes - 1) == 0
        folio = folios.find(first_pfn)
        fold &= (folio >= 0) & (folio == folios.find(first_pfn + np.uint64(cont_ptes - 1)))
        entries |= np.repeat(fold.astype(np.uint64) * pte.CONT, cont_ptes)


def settle(
    page_counts: npt.NDArray[np.int32], order: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Return mapcount, nr_pages_mapped and "page mapcounts differ" of each folio.

    Parameters
    ----------
    page_counts : array of int32, shape (pages of all folios,)
        PTEs that map each page, folio after folio.
    order : array of uint8, shape (folios,)

    Raises
    ------
    ValueError
        If a folio has 2^31 mappings or more.
    """
    pages = np.int64(1) << order.astype(np.int64)
    if not len(pages):
        return np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, bool)
    base = np.cumsum(pages) - pages
    total = np.add.reduceat(page_counts, base, dtype=np.int64)
    if int(total.max()) >= 1 << 31:
        raise ValueError(f"mapcount: expected less than 2^31 mappings of a folio, got {int(total.max())}")
    mapped = np.add.reduceat(page_counts > 0, base, dtype=np.int32)
    differ = np.minimum.reduceat(page_counts, base) != np.maximum.reduceat(page_counts, base)
    return total.astype(np.int32), mapped, differ
