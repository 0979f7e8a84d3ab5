"""Parts of a population: seeded draws, lookup by PFN, contpte folding, mapcounts."""

from __future__ import annotations

import numpy as np

from rmapfast import _core, pte

MAX_ORDER = _core.MAX_ORDER
# A population has fewer page-table entries than that.
MAX_PAGES = 1 << 33
# An mm ran on one CPU that is not CPU 0, which reclaims.
DEFAULT_CPUMASK = 0b10
# Pages handled at a time, so that temporary arrays stay in the cache.
CHUNK = 1 << 17

# What is drawn at a rate, one draw for each PTE or folio. The position is the number of the draw.
RATES = ("mapped", "holes", "young", "dirty", "write", "soft_dirty", "uffd_wp", "mlocked", "folio_dirty")
# The first of the four draws that permute() takes for the order of an LRU list.
DRAW_LRU = 768


def hash64(seed: int, draw: int, counter) -> np.ndarray:
    """Return the ``counter``-th value of a draw by splitmix64, as uint64 of the shape of ``counter``.

    With ``mix`` the splitmix64 finaliser and G its increment 0x9E3779B97F4A7C15, all modulo 2^64:
    ``mix(mix(seed + (draw + 1) * G) + (counter + 1) * G)``.
    """
    golden = 0x9E3779B97F4A7C15
    key = int(_mix64(np.array([(seed + (draw + 1) * golden) & 0xFFFFFFFFFFFFFFFF], np.uint64))[0])
    x = np.array(counter, np.uint64, ndmin=1)
    x *= np.uint64(golden)
    x += np.uint64((key + golden) & 0xFFFFFFFFFFFFFFFF)
    return _mix64(x).reshape(np.shape(counter))


def _mix64(x: np.ndarray) -> np.ndarray:
    """Apply the splitmix64 finaliser in place."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x ^= x >> np.uint64(shift)
        x *= np.uint64(factor)
    x ^= x >> np.uint64(31)
    return x


def rate_mask(seed: int, draw: str, numbers: np.ndarray, rate: float) -> np.ndarray:
    """Return which of these numbers are chosen at a rate above 0 and below 1, as bool of the same shape."""
    return hash64(seed, RATES.index(draw), numbers) < np.uint64(int(rate * 2.0**64))


def permute(seed: int, draw: int, size: int, index=None) -> np.ndarray:
    """Return the image of each index (default: all of them) under a seeded permutation of ``range(size)``, as int64.

    Four rounds of an unbalanced Feistel network over the bits of ``size - 1``, walked until the value is below
    ``size``: each image can be computed by itself.
    """
    x = np.arange(size, dtype=np.uint64) if index is None else np.array(index, np.uint64)
    bits = max((size - 1).bit_length(), 2) if size else 2
    low_bits = np.uint64(bits // 2)
    low, high = np.uint64((1 << (bits // 2)) - 1), np.uint64((1 << (bits - bits // 2)) - 1)
    todo = slice(None)
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
    """Folios by PFN.

    Parameters
    ----------
    folio_pfn, folio_order : array
        One entry per folio, in any order; the PFN ranges must not overlap.
    """

    def __init__(self, folio_pfn: np.ndarray, folio_order: np.ndarray):
        rising = bool(np.all(folio_pfn[1:] > folio_pfn[:-1]))
        self.number = None if rising else np.argsort(folio_pfn, kind="stable")
        self.pfn = folio_pfn if rising else folio_pfn[self.number]
        order = folio_order if rising else folio_order[self.number]
        self.end = self.pfn + (np.uint64(1) << order.astype(np.uint64))

    def overlap(self) -> bool:
        """Tell whether two folios claim one PFN."""
        return bool(np.any(self.pfn[1:] < self.end[:-1]))

    def find(self, pfns: np.ndarray) -> np.ndarray:
        """Return the folio of each PFN, -1 where none has it, as int64."""
        if not len(self.pfn):
            return np.full(len(pfns), -1, np.int64)
        at = np.searchsorted(self.pfn, pfns, side="right") - 1
        hit = (at >= 0) & (pfns < self.end[at])
        return np.where(hit, at if self.number is None else self.number[at], -1)


def sorted_unique(values: np.ndarray) -> np.ndarray:
    """Return the distinct values in rising order; on nearly sorted input 10 times as fast as np.unique's hash table."""
    values = np.sort(values)
    first = np.ones(len(values), bool)
    first[1:] = values[1:] != values[:-1]
    return values[first]


def ranges(start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Return the concatenation of ``arange(start[i], start[i] + length[i])``, as int64."""
    length = np.asarray(length, np.int64)
    end = np.cumsum(length)
    total = int(end[-1]) if len(end) else 0
    return np.repeat(np.asarray(start, np.int64) - (end - length), length) + np.arange(total)


def fold_contpte(ptes: np.ndarray, vpn: int, cont_ptes: int, folios: FolioIndex) -> None:
    """Set CONT in the blocks of one VMA's entries that the kernel folds.

    A block is folded if it is aligned in virtual pages and in PFN, whole, present, inside one folio, and its entries
    are equal but for young and dirty.
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


def settle(page_counts: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mapcount, nr_pages_mapped and "page mapcounts differ" per folio, given the PTE mapcount of each page."""
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
