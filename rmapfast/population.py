"""Populations: what is unmapped. Page tables, VMAs, folios, rmap, mms and LRU lists as NumPy arrays.

docs/model.md, section 2, defines every array. Populations come from :meth:`Population.synthetic` (described by
arguments), :meth:`Population.load` (captures of real processes) and :meth:`Population.from_arrays` (page tables at
hand).

Randomness is counter-based: each choice is a pure function of (seed, stream, number of the PTE or folio), see
:func:`rmapfast._layout.hash64`, so it does not depend on the order or the chunks in which a population is built.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from rmapfast import _core, pte
from rmapfast import arch as _arch
from rmapfast._layout import (
    CHUNK,
    DEFAULT_CPUMASK,
    MAX_ORDER,
    MAX_PAGES,
    STREAM_LRU,
    FolioIndex,
    chosen,
    fold_contpte,
    format_orders,
    parse_orders,
    permute,
    place,
    settle,
)
from rmapfast._names import closest
from rmapfast._sizes import format_size, parse_size

# Every array with its dtype, in the order of docs/model.md.
ARRAYS = {
    "ptes": np.uint64,
    "vma_start": np.uint64,
    "vma_end": np.uint64,
    "vma_pgoff": np.uint64,
    "vma_flags": np.uint32,
    "vma_mm": np.uint32,
    "vma_pte_base": np.uint64,
    "vma_window_start": np.uint64,
    "vma_window_end": np.uint64,
    "vma_table_base": np.uint64,
    "table_state": np.uint8,
    "folio_pfn": np.uint64,
    "folio_index": np.uint64,
    "folio_order": np.uint8,
    "folio_flags": np.uint32,
    "folio_refcount": np.int32,
    "folio_mapcount": np.int32,
    "folio_entire_mapcount": np.int32,
    "folio_nr_pages_mapped": np.int32,
    "folio_swap": np.uint64,
    "folio_page_base": np.uint64,
    "page_mapcount": np.int32,
    "page_flags": np.uint8,
    "rmap_start": np.uint64,
    "rmap_vma": np.uint32,
    "mm_rss": np.int64,
    "mm_cpumask": np.uint64,
    "mm_flags": np.uint32,
    "lru_inactive": np.uint32,
    "lru_active": np.uint32,
}
# Not changed by a run, and large: a copy shares them.
_SHARED = ("folio_pfn", "folio_index", "folio_order", "folio_page_base", "rmap_start", "rmap_vma")
# Allocated at full size but touched only where the flag says that they are valid.
_LAZY = {
    "page_mapcount": _core.FOLIO_PAGE_MAPCOUNTS,
    "page_flags": _core.FOLIO_PAGE_FLAGS,
    "folio_swap": _core.FOLIO_SWAPCACHE,
}

# PTE bits that a synthetic population sets at a rate.
_BITS = {
    "young": pte.YOUNG,
    "dirty": pte.DIRTY,
    "write": pte.WRITE,
    "soft_dirty": pte.SOFT_DIRTY,
    "uffd_wp": pte.UFFD_WP,
}
# Layout of a synthetic population: aligned to the largest folio and to the largest page table.
_VPN_BASE = 0x7F0000000
_PFN_BASE = 0x100000


@dataclass(frozen=True)
class Kind:
    """What a kind of synthetic folio sets: flags, PTE defaults and the mm counter it is charged to."""

    folio_flags: int
    vma_flags: int
    write: float
    dirty: float
    counter: int


KINDS = {
    "file": Kind(0, _core.VMA_SHARED, 0.0, 0.0, 0),
    "lazyfree": Kind(_core.FOLIO_ANON, _core.VMA_ANON, 1.0, 0.0, 1),
    "anon": Kind(_core.FOLIO_ANON | _core.FOLIO_SWAPBACKED, _core.VMA_ANON, 1.0, 1.0, 1),
    "shmem": Kind(_core.FOLIO_SWAPBACKED, _core.VMA_SHARED, 1.0, 1.0, 3),
}


# Argument checks


def _rate(name: str, value) -> float:
    try:
        rate = float(value)
    except (TypeError, ValueError):
        rate = math.nan
    if isinstance(value, str) or not 0.0 <= rate <= 1.0:
        raise (TypeError if rate != rate else ValueError)(f"{name}: expected a rate from 0 to 1, got {value!r}")
    return rate


def _integer(name: str, value, low: int, high: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer from {low} to {high}, got {value!r}") from None
    if not low <= number <= high:
        raise ValueError(f"{name}: expected an integer from {low} to {high}, got {value!r}")
    return number


def _boolean(name: str, value) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def _choice(name: str, value, known) -> str:
    if value not in tuple(known):
        raise ValueError(f"{name}: expected one of {', '.join(known)}, got {value!r}{closest(value, known)}")
    return value


class Population:
    """Page tables, VMAs, folios, rmap, mms and LRU lists.

    The arrays of docs/model.md, section 2, are attributes of the same name: C-contiguous, writable NumPy arrays,
    ``mm_rss`` of shape (mms, 4). ``page_mapcount``, ``page_flags``, ``folio_swap`` and ``folio_entire_mapcount`` are
    allocated at full size but take memory only where they are used.

    Parameters
    ----------
    ptrs_per_pte : int
        Entries per page table.
    page_shift : int
        log2 of the base page size in bytes.
    cont_ptes : int
        Contpte block for which the CONT bits were set.
    arch : Arch, optional
        The architecture that it was made for; :func:`rmapfast.reclaim` uses it where none is given.
    assumptions : dict, optional
        What was assumed, or the arguments that made it; printed with results.
    source : str
        Where it comes from.
    input_hash : str, optional
        SHA-256 (hex) of the capture.
    **arrays
        Every array.

    Raises
    ------
    TypeError
        If an array is missing, unknown, or of another dtype or layout.
    """

    def __init__(
        self,
        *,
        ptrs_per_pte,
        page_shift=12,
        cont_ptes=1,
        arch=None,
        assumptions=None,
        source="arrays",
        input_hash=None,
        **arrays,
    ):
        for name in ARRAYS:
            if name not in arrays:
                raise TypeError(f"{name}: this array is missing")
        for name, array in arrays.items():
            if name not in ARRAYS:
                raise TypeError(f"{name}: no such array{closest(name, ARRAYS)}")
            _check_array(name, array, ARRAYS[name], 2 if name == "mm_rss" else 1)
            setattr(self, name, array)
        self.ptrs_per_pte = ptrs_per_pte
        self.page_shift = page_shift
        self.cont_ptes = cont_ptes
        self.arch = arch
        self.assumptions = dict(assumptions or {})
        self.source = source
        self.input_hash = input_hash

    # What it holds

    @property
    def nr_folios(self) -> int:
        """Number of folios."""
        return len(self.folio_pfn)

    @property
    def nr_pages(self) -> int:
        """Base pages in all folios."""
        return sum(count << order for order, count in self.orders().items())

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays that are in use (a lazily touched array counts if any folio uses it)."""
        flags = int(np.bitwise_or.reduce(self.folio_flags))
        used = {name: bool(flags & flag) for name, flag in _LAZY.items()}
        used["folio_entire_mapcount"] = bool(np.any(self.folio_entire_mapcount))
        return sum(getattr(self, name).nbytes for name in ARRAYS if used.get(name, True))

    def orders(self) -> dict[int, int]:
        """Return order -> number of folios."""
        counts = np.bincount(self.folio_order, minlength=1)
        return {int(order): int(counts[order]) for order in np.flatnonzero(counts)}

    def _nr_present(self) -> int:
        """Number of present PTEs."""
        chunks = (self.ptes[at : at + CHUNK] for at in range(0, len(self.ptes), CHUNK))
        return sum(int(np.count_nonzero(chunk & pte.PRESENT)) for chunk in chunks)

    def rmap(self, folio: int) -> list[tuple[int, int]]:
        """Return (VMA, first virtual page number) of each VMA that may map the folio, in the order of the walk."""
        folio = _integer("folio", folio, 0, self.nr_folios - 1)
        pairs = []
        for vma in self.rmap_vma[int(self.rmap_start[folio]) : int(self.rmap_start[folio + 1])]:
            start = int(self.vma_start[vma])
            pairs.append((int(vma), max(start + int(self.folio_index[folio]) - int(self.vma_pgoff[vma]), start)))
        return pairs

    def page_mapcounts(self, folio: int) -> np.ndarray:
        """Return how many PTEs map each page of the folio, as int32 of shape (pages,)."""
        folio = _integer("folio", folio, 0, self.nr_folios - 1)
        pages = 1 << int(self.folio_order[folio])
        if self.folio_flags[folio] & _core.FOLIO_PAGE_MAPCOUNTS:
            base = int(self.folio_page_base[folio])
            return self.page_mapcount[base : base + pages].copy()
        mappings = int(self.folio_mapcount[folio]) - int(self.folio_entire_mapcount[folio])
        return np.full(pages, mappings // pages, np.int32)

    def describe(self) -> dict:
        """Return what the population holds as a dict that serialises to JSON; sizes in bytes."""
        flags, orders = self.folio_flags, self.orders()
        pages = sum(count << order for order, count in orders.items())
        anon, swapbacked = flags & _core.FOLIO_ANON > 0, flags & _core.FOLIO_SWAPBACKED > 0
        kinds = {
            "file": ~anon & ~swapbacked,
            "shmem": ~anon & swapbacked,
            "anon": anon & swapbacked,
            "lazyfree": anon & ~swapbacked,
        }
        return {
            "source": self.source,
            "pages": pages,
            "folios": self.nr_folios,
            "bytes": pages << self.page_shift,
            "orders": {str(order): count for order, count in orders.items()},
            "kinds": {name: int(np.count_nonzero(mask)) for name, mask in kinds.items() if mask.any()},
            "mms": len(self.mm_flags),
            "vmas": len(self.vma_start),
            "ptes": len(self.ptes),
            "ptes_present": self._nr_present(),
            "inactive": len(self.lru_inactive),
            "active": len(self.lru_active),
            "ptrs_per_pte": self.ptrs_per_pte,
            "page_size": 1 << self.page_shift,
            "nbytes": self.nbytes,
            "input_hash": self.input_hash,
            "assumptions": dict(self.assumptions),
        }

    def __repr__(self):
        orders = ", ".join(f"{order}:{count}" for order, count in self.orders().items())
        return (
            f"<Population {self.source}: {format_size(self.nr_pages << self.page_shift)} in {self.nr_folios} folios "
            f"(order:folios {orders or 'none'}), {len(self.ptes)} PTEs in {len(self.vma_start)} VMAs "
            f"of {len(self.mm_flags)} mms, {len(self.lru_inactive)} inactive, {len(self.lru_active)} active>"
        )

    def copy(self) -> Population:
        """Return a copy that a run may change.

        Arrays that no run changes and that are large (PFN, index, order, page base, rmap) are shared with the original.
        """
        arrays = {}
        for name in ARRAYS:
            array = getattr(self, name)
            if name in _SHARED:
                arrays[name] = array
            elif name in _LAZY and not np.any(self.folio_flags & np.uint32(_LAZY[name])):
                arrays[name] = np.zeros_like(array)
            elif name == "folio_entire_mapcount" and not array.any():
                arrays[name] = np.zeros_like(array)
            else:
                arrays[name] = array.copy()
        return self._derive(arrays)

    def _derive(self, arrays: dict) -> Population:
        """Return a population with some arrays replaced and the rest shared."""
        arrays = {name: arrays.get(name, getattr(self, name)) for name in ARRAYS}
        return Population(
            ptrs_per_pte=self.ptrs_per_pte,
            page_shift=self.page_shift,
            cont_ptes=self.cont_ptes,
            arch=self.arch,
            assumptions=self.assumptions,
            source=self.source,
            input_hash=self.input_hash,
            **arrays,
        )

    def refold(self, cont_ptes: int) -> None:
        """Set the CONT bits anew, for contpte blocks of `cont_ptes` entries (1: none), wherever a block qualifies."""
        self.ptes[(self.ptes & (pte.PRESENT | pte.CONT)) == (pte.PRESENT | pte.CONT)] ^= pte.CONT
        self.cont_ptes = cont_ptes
        if cont_ptes == 1:
            return
        folios = FolioIndex(self.folio_pfn, self.folio_order)
        for vma in range(len(self.vma_start)):
            start, end, base = (int(array[vma]) for array in (self.vma_start, self.vma_end, self.vma_pte_base))
            fold_contpte(self.ptes[base : base + end - start], start, cont_ptes, folios)
            for number in range(start // self.ptrs_per_pte, (end - 1) // self.ptrs_per_pte + 1):
                table = int(self.vma_table_base[vma]) + number - start // self.ptrs_per_pte
                if self.table_state[table] == _core.TABLE_PMD_LEAF:
                    at = base + number * self.ptrs_per_pte - start
                    self.ptes[at : at + self.ptrs_per_pte] &= ~pte.CONT

    # Where it comes from

    @classmethod
    def synthetic(
        cls,
        size: int | str = "10GiB",
        *,
        arch: str | _arch.Arch = "x86-64",
        kind: str = "file",
        orders: int | str | Mapping = 4,
        aligned: bool = True,
        phase: int = 0,
        mapped: float = 1.0,
        holes: float | str = 0.0,
        sharing: int = 1,
        young: float = 1.0,
        dirty: float | None = None,
        write: float | None = None,
        soft_dirty: float = 0.0,
        uffd_wp: float = 0.0,
        uffd_wp_vma: bool | None = None,
        mlocked: float = 0.0,
        folio_dirty: float = 0.0,
        active: bool = False,
        shuffle: bool = False,
        external: int = 0,
        cont: bool = True,
        exec: bool = False,
        droppable: bool = False,
        shared: bool | None = None,
        seed: int = 0,
    ) -> Population:
        """Build a population from a description: one mapping of ``size``, present in ``sharing`` processes.

        Parameters
        ----------
        size : int or str
            Bytes or "10GiB", a multiple of the base page. Met exactly; where the order mix does not fit, the last pages
            are folios of smaller orders (``assumptions["fill"]``).
        arch : str or Arch
            Page size, PTEs per table and contpte block.
        kind : {'file', 'lazyfree', 'anon', 'shmem'}
            * ``file``: page cache, references = pages + mapcount + external; VMA shared, PTEs read-only and clean.
            * ``lazyfree``: anonymous, not swapbacked, PTEs writable and clean, pages exclusive, references = mapcount.
              They are young like all others; right after MADV_FREE they would not be (``young=0``).
            * ``anon``: anonymous, swapbacked, PTEs writable and dirty, pages exclusive, references = mapcount.
            * ``shmem``: swapbacked page cache, references as ``file``; VMA shared, PTEs writable and dirty.

            With ``sharing`` or ``external`` above 0, anonymous pages are not exclusive and by default read-only (after
            a fork).
        orders : int, str or mapping
            One order from 0 to 13, or weights: ``"0:10,4:70,9:20"`` or ``{0: 10, 4: 70, 9: 20}``, as shares of memory.
            One order: folios in address order. A mix: a seeded permutation of the folios.
        aligned : bool
            Place the folios of a mix naturally aligned in the mapping. Without, they follow each other in permuted
            order (PFNs are naturally aligned in any case).
        phase : int
            Pages, 0 to 8191, by which the mapping is shifted against natural alignment.
        mapped : float
            Fraction of the folios that are mapped. Anonymous folios that are not do not exist.
        holes : float or "every:K"
            Fraction of the PTEs that are zapped, or those of the pages i of the mapping with ``i % K == 0``. An
            anonymous folio with holes is PARTIALLY_MAPPED; one without any PTE does not exist.
        sharing : int
            Processes, each with its own mm, VMA and PTEs, at the same addresses.
        young, dirty, write, soft_dirty, uffd_wp : float
            Fraction of the PTEs with the bit. ``dirty`` and ``write`` default by kind. A uffd-wp PTE is never writable.
        uffd_wp_vma : bool, optional
            Whether the VMA is registered for userfaultfd write protection; default: if ``uffd_wp`` is above 0.
        mlocked : float
            Fraction of the folios that are mlocked and unevictable, so on no LRU list. The VMA is locked only if it is
            1.
        folio_dirty : float
            Fraction of the folios that are dirty.
        active : bool
            Put all folios on the active list, not on the inactive one.
        shuffle : bool
            LRU in a seeded permutation, not in address order.
        external : int
            Further mappings of each page, by processes outside the population.
        cont : bool
            Set CONT in each contpte block that the kernel would fold.
        exec, droppable : bool
            VMA flags.
        shared : bool, optional
            VMA flag SHARED; default: for file and shmem.
        seed : int
            0 to 2^64 - 1.

        Raises
        ------
        TypeError, ValueError
            For an argument that does not fit; the message names it.
        """
        given = dict(locals())
        del given["cls"]
        what = _check_description(given)
        pages, anon = what.pages, what.anon
        start, order, packed, fill = place(what.mix, pages, what.aligned, what.seed)
        folio_pfn, nr_pages = (packed + _PFN_BASE).astype(np.uint64), np.int64(1) << order.astype(np.int64)
        is_mapped = chosen(what.seed, "mapped", 0, len(start), what.mapped)
        page_pfn = None if packed is start else np.repeat(folio_pfn - start.astype(np.uint64), nr_pages)
        page_live = None if is_mapped is True else np.repeat(is_mapped, nr_pages if np.ndim(is_mapped) else pages)
        ptes, page_counts, present = _synthetic_ptes(what, page_pfn, page_live)
        if page_counts is None:
            mapcount, pages_mapped, differ = _even_mapcounts(what, is_mapped, nr_pages)
        else:
            mapcount, pages_mapped, differ = settle(page_counts, order)
        flags, locked = _synthetic_flags(what, nr_pages, pages_mapped, differ)
        page_base = np.cumsum(nr_pages) - nr_pages
        keep = mapcount > 0 if anon else np.ones(len(start), bool)
        if not keep.all():
            folio_pfn, start, order, flags, mapcount, pages_mapped, nr_pages, page_base, locked = (
                array[keep]
                for array in (folio_pfn, start, order, flags, mapcount, pages_mapped, nr_pages, page_base, locked)
            )
        nr = len(start)
        lru = permute(what.seed, STREAM_LRU, nr) if what.shuffle else np.arange(nr)
        lru = lru[~locked[lru]].astype(np.uint32)
        vpn = _VPN_BASE + what.phase
        pgoff = vpn if anon else 0
        if what.cont and what.arch.cont_ptes > 1:
            index = FolioIndex(folio_pfn, order)
            for first in range(0, len(ptes), pages):
                fold_contpte(ptes[first : first + pages], vpn, what.arch.cont_ptes, index)
        mms = np.arange(what.sharing)
        rss = np.zeros((what.sharing, 4), np.int64)
        rss[:, what.kind_of.counter] = present
        tables = (vpn + pages - 1) // what.arch.ptrs_per_pte - vpn // what.arch.ptrs_per_pte + 1
        return cls(
            ptrs_per_pte=what.arch.ptrs_per_pte,
            cont_ptes=what.arch.cont_ptes,
            arch=what.arch,
            page_shift=what.arch.page_shift,
            assumptions=_describe_arguments(what, given) | ({"fill": fill} if fill else {}),
            source="synthetic",
            ptes=ptes,
            **_one_window_vmas(mms, vpn, pages, pgoff, _synthetic_vma_flags(what), tables),
            folio_pfn=folio_pfn,
            folio_index=(start + pgoff).astype(np.uint64),
            folio_order=order,
            folio_flags=flags,
            folio_refcount=mapcount + (0 if anon else nr_pages.astype(np.int32)),
            folio_mapcount=mapcount,
            folio_entire_mapcount=np.zeros(nr, np.int32),
            folio_nr_pages_mapped=pages_mapped,
            folio_swap=np.zeros(nr, np.uint64),
            folio_page_base=page_base.astype(np.uint64),
            page_mapcount=page_counts if differ.any() else np.zeros(pages, np.int32),
            page_flags=np.zeros(pages, np.uint8),
            rmap_start=np.arange(0, (nr + 1) * what.sharing, what.sharing, dtype=np.uint64),
            rmap_vma=np.tile(mms.astype(np.uint32), nr),
            mm_rss=rss,
            mm_cpumask=np.full(what.sharing, DEFAULT_CPUMASK, np.uint64),
            mm_flags=np.zeros(what.sharing, np.uint32),
            lru_inactive=np.zeros(0, np.uint32) if what.active else lru,
            lru_active=lru if what.active else np.zeros(0, np.uint32),
        )

    @classmethod
    def from_arrays(
        cls,
        ptes: np.ndarray,
        *,
        folio_pfn,
        folio_order,
        start_vpn: int = 0,
        kind: str = "file",
        folio_flags=0,
        vma_flags: int = 0,
        external: int = 0,
        arch: str | _arch.Arch = "x86-64",
    ) -> Population:
        """Build a population around page-table entries: one mm, one VMA that covers them.

        Mapcounts, references, counters and the rmap follow from the entries (present and device entries map). A folio's
        index follows from the first entry that maps it; entries that map its pages at other places are mappings that no
        walk finds. An entry whose PFN belongs to no folio maps none.

        Parameters
        ----------
        ptes : array of uint64, shape (entries,)
            C-contiguous; copied. CONT bits are taken as they are.
        folio_pfn : int or array, shape (folios,)
            PFN of the first page.
        folio_order : int or array, shape (folios,)
            0 to 13; one order for all, or one each.
        start_vpn : int
            Virtual page number of ``ptes[0]``.
        kind : {'file', 'lazyfree', 'anon', 'shmem'}
            As in :meth:`synthetic`; anonymous pages are exclusive if mapped once.
        folio_flags : int or array
            Folio flags besides those of the kind.
        vma_flags : int
            VMA flags besides those of the kind.
        external : int
            Further mappings of each page.
        arch : str or Arch
            Page size and PTEs per table.

        Raises
        ------
        TypeError, ValueError
            For an argument that does not fit; the message names it.
        """
        arch = _arch.get(arch)
        kind_of = KINDS[_choice("kind", kind, KINDS)]
        anon = bool(kind_of.folio_flags & _core.FOLIO_ANON)
        _check_array("ptes", ptes, np.uint64, 1)
        if not 0 < len(ptes) < MAX_PAGES:
            raise ValueError(f"ptes: expected 1 to 2^33 - 1 entries, got {len(ptes)}")
        ptes = ptes.copy()
        start_vpn = _integer("start_vpn", start_vpn, 0, (1 << 52) - (2 << MAX_ORDER) - len(ptes))
        vma_flags = _integer("vma_flags", vma_flags, 0, (1 << 32) - 1)
        external = _integer("external", external, 0, (1 << 16) - 1)
        pfn = _integers("folio_pfn", folio_pfn, None, 0, (1 << 52) - (1 << MAX_ORDER)).astype(np.uint64)
        order = _integers("folio_order", folio_order, len(pfn), 0, MAX_ORDER).astype(np.uint8)
        flags = _integers("folio_flags", folio_flags, len(pfn), 0, (1 << 32) - 1).astype(np.uint32)
        flags |= np.uint32(kind_of.folio_flags)
        index = FolioIndex(pfn, order)
        if index.overlap():
            raise ValueError("folio_pfn: expected folios that do not overlap, got two that claim the same PFN")
        nr = len(pfn)
        nr_pages = np.int64(1) << order.astype(np.int64)
        base = np.cumsum(nr_pages) - nr_pages
        kinds = pte.kind(ptes)
        slot = np.flatnonzero((kinds == 7) | (kinds == 3) | (kinds == 4))
        folio = index.find(pte.pfn(ptes[slot]))
        slot, folio = slot[folio >= 0], folio[folio >= 0]
        page = pte.pfn(ptes[slot]).astype(np.int64) - pfn[folio].astype(np.int64)
        counts = np.bincount(base[folio] + page, minlength=int(nr_pages.sum())).astype(np.int32) + np.int32(external)
        mapcount, pages_mapped, differ = settle(counts, order)
        flags[differ] |= np.uint32(_core.FOLIO_PAGE_MAPCOUNTS)
        if anon and not external:
            flags[mapcount <= nr_pages] |= np.uint32(_core.FOLIO_EXCLUSIVE)
        # A VMA may begin inside a folio: its page offset leaves room before it.
        pgoff = start_vpn + (1 << MAX_ORDER)
        at, first = np.unique(folio, return_index=True)
        folio_index = np.full(nr, (1 << 52) - 1, np.int64)
        folio_index[at] = pgoff + slot[first] - page[first]
        is_mapped = np.zeros(nr, np.int64)
        is_mapped[at] = 1
        lru = np.flatnonzero(flags & np.uint32(_core.FOLIO_MLOCKED | _core.FOLIO_UNEVICTABLE) == 0).astype(np.uint32)
        active = flags[lru] & np.uint32(_core.FOLIO_ACTIVE) > 0
        cached = np.where(flags & np.uint32(_core.FOLIO_SWAPCACHE) | np.uint32(not anon), nr_pages, 0)
        rss = np.zeros((1, 4), np.int64)
        rss[0, kind_of.counter] = len(slot)
        rss[0, 2] = np.count_nonzero(kinds == 1)
        tables = (start_vpn + len(ptes) - 1) // arch.ptrs_per_pte - start_vpn // arch.ptrs_per_pte + 1
        return cls(
            ptrs_per_pte=arch.ptrs_per_pte,
            cont_ptes=arch.cont_ptes,
            arch=arch,
            page_shift=arch.page_shift,
            assumptions={"kind": kind, "external": external},
            source="arrays",
            ptes=ptes,
            **_one_window_vmas(np.arange(1), start_vpn, len(ptes), pgoff, kind_of.vma_flags | vma_flags, tables),
            folio_pfn=pfn,
            folio_index=folio_index.astype(np.uint64),
            folio_order=order,
            folio_flags=flags,
            folio_refcount=(mapcount + cached).astype(np.int32),
            folio_mapcount=mapcount,
            folio_entire_mapcount=np.zeros(nr, np.int32),
            folio_nr_pages_mapped=pages_mapped,
            folio_swap=np.zeros(nr, np.uint64),
            folio_page_base=base.astype(np.uint64),
            page_mapcount=counts,
            page_flags=np.zeros(len(counts), np.uint8),
            rmap_start=np.concatenate([[0], np.cumsum(is_mapped)]).astype(np.uint64),
            rmap_vma=np.zeros(len(at), np.uint32),
            mm_rss=rss,
            mm_cpumask=np.full(1, DEFAULT_CPUMASK, np.uint64),
            mm_flags=np.zeros(1, np.uint32),
            lru_inactive=lru[~active],
            lru_active=lru[active],
        )

    @classmethod
    def load(cls, path: str | os.PathLike | list, **options) -> Population:
        """Read captures of processes (docs of the format: ``rle3``) as one population.

        Parameters
        ----------
        path : path or list of paths
            One capture, or several of one moment: each is an mm, and folios are joined by PFN.
        **options
            See :func:`rmapfast._reconstruct.to_population`: ``arch``, ``young``, ``dirty``, ``write``, ``soft_dirty``,
            ``uffd_wp``, ``lru``, ``seed``, ``cont``.

        Raises
        ------
        rmapfast._rle3.CaptureError
            For a file that is no such capture, or is damaged.
        OSError
            For a file that cannot be read.
        """
        from rmapfast import _reconstruct, _rle3

        single = isinstance(path, str | bytes | os.PathLike)
        captures = [_rle3.Capture.load(one) for one in ([path] if single else list(path))]
        try:
            return _reconstruct.to_population(captures, **options)
        except MemoryError:
            pages = sum(capture.nr_pages for capture in captures)
            raise _rle3.CaptureError(f"{captures[0].path}: not enough memory for {pages} pages") from None


# Parts of Population.synthetic()


def _check_description(given: dict) -> SimpleNamespace:
    """Return the arguments of :meth:`Population.synthetic`, checked and with defaults filled in.

    Besides: ``pages`` (of the mapping), ``mix`` (parsed orders), ``kind_of``, ``anon``, ``cow`` (anonymous pages that
    are not exclusive) and ``every`` (K of holes as "every:K", else 0).
    """
    what = SimpleNamespace(**given)
    what.arch = _arch.get(given["arch"])
    what.kind_of = KINDS[_choice("kind", what.kind, KINDS)]
    what.size = parse_size(given["size"])
    what.pages = what.size >> what.arch.page_shift
    if what.size % what.arch.page_size or not 0 < what.pages < MAX_PAGES:
        raise ValueError(
            f"size: expected a multiple of the {what.arch.page_size} byte page, 1 to 2^33 - 1 pages, "
            f"got {given['size']!r}"
        )
    what.mix = parse_orders(what.orders)
    what.anon = bool(what.kind_of.folio_flags & _core.FOLIO_ANON)
    for name, low, high in (
        ("sharing", 1, 1 << 20),
        ("external", 0, (1 << 16) - 1),
        ("phase", 0, (1 << MAX_ORDER) - 1),
        ("seed", 0, (1 << 64) - 1),
    ):
        setattr(what, name, _integer(name, given[name], low, high))
    if what.sharing * what.pages >= MAX_PAGES:
        raise ValueError(f"sharing: expected less than 2^33 PTEs in all, got {what.sharing} times {what.pages}")
    what.cow = what.anon and (what.sharing > 1 or what.external > 0)
    for name in ("write", "dirty"):
        if given[name] is None:
            setattr(what, name, 0.0 if what.cow else getattr(what.kind_of, name))
    for name in ("write", "dirty", "young", "soft_dirty", "uffd_wp", "mapped", "mlocked", "folio_dirty"):
        setattr(what, name, _rate(name, getattr(what, name)))
    what.every = _every(what.holes) if isinstance(what.holes, str) else 0
    what.holes = what.holes if what.every else _rate("holes", what.holes)
    if what.uffd_wp_vma is None:
        what.uffd_wp_vma = what.uffd_wp > 0
    if what.shared is None:
        what.shared = not what.anon
    for name in ("uffd_wp_vma", "shared", "aligned", "active", "shuffle", "cont", "exec", "droppable"):
        setattr(what, name, _boolean(name, getattr(what, name)))
        if name == "uffd_wp_vma" and what.uffd_wp and not what.uffd_wp_vma:
            raise ValueError(f"uffd_wp_vma: expected True or None with uffd_wp={what.uffd_wp}, got False")
    return what


def _every(holes: str) -> int:
    """Return K of "every:K"."""
    name, _, text = holes.partition(":")
    if name != "every" or not text.isascii() or not text.isdigit() or not 1 <= int(text) < MAX_PAGES:
        raise ValueError(f'holes: expected a rate from 0 to 1 or "every:K" with K from 1, got {holes!r}')
    return int(text)


def _describe_arguments(what: SimpleNamespace, given: dict) -> dict:
    """Return the arguments as used, in the order of the signature."""
    used = {name: getattr(what, name) for name in given}
    return used | {"size": format_size(what.size), "arch": what.arch.name, "orders": format_orders(what.mix)}


def _synthetic_ptes(what: SimpleNamespace, page_pfn: np.ndarray | None, page_live: np.ndarray | None):
    """Return the PTEs of all mms, the mapcount of each page (None if the same in each folio) and present PTEs per mm.

    Parameters
    ----------
    what : SimpleNamespace
        The description.
    page_pfn : array of uint64, optional
        PFN of each page, less the page's number; default: pages in PFN order.
    page_live : array of bool, optional
        Which pages are of mapped folios; default: all.
    """
    pages = what.pages
    ptes = np.empty(what.sharing * pages, np.uint64)
    page_counts = np.full(pages, what.external, np.int32) if what.holes else None
    present = np.zeros(what.sharing, np.int64)
    for first in range(0, len(ptes), pages):
        for at in range(0, pages, CHUNK):
            end = min(at + CHUNK, pages)
            words = ptes[first + at : first + end]
            words[:] = np.arange(at, end, dtype=np.uint64)
            words += np.uint64(_PFN_BASE) if page_pfn is None else page_pfn[at:end]
            words <<= pte.PFN_SHIFT
            words |= pte.PRESENT
            for name, mask in _BITS.items():
                rate = getattr(what, name)
                if rate:
                    words |= mask * np.uint64(1) * chosen(what.seed, name, first + at, first + end, rate)
            if what.uffd_wp and what.write:
                words &= ~np.where(words & pte.UFFD_WP, pte.WRITE, np.uint64(0))
            live = True if page_live is None else page_live[at:end]
            if what.every:
                live = live & (np.arange(at, end) % what.every != 0)
            elif what.holes:
                live = live & ~np.asarray(chosen(what.seed, "holes", first + at, first + end, what.holes))
            if live is not True:
                words *= live
            if page_counts is not None:
                page_counts[at:end] += live
            present[first // pages] += end - at if live is True else np.count_nonzero(np.broadcast_to(live, end - at))
    return ptes, page_counts, present


def _even_mapcounts(what: SimpleNamespace, is_mapped, nr_pages: np.ndarray):
    """Return what :func:`settle` does for folios without holes, of which all pages are mapped alike."""
    nr = len(nr_pages)
    per_page = what.external + what.sharing * np.broadcast_to(is_mapped, nr).astype(np.int64)
    if nr and int(per_page.max()) * int(nr_pages.max()) >= 1 << 31:
        raise ValueError(
            f"sharing: expected less than 2^31 mappings of a folio, got {what.sharing} and external {what.external}"
        )
    mapcount = (per_page * nr_pages).astype(np.int32)
    return mapcount, np.where(per_page > 0, nr_pages, 0).astype(np.int32), np.zeros(nr, bool)


def _synthetic_flags(what: SimpleNamespace, nr_pages: np.ndarray, pages_mapped: np.ndarray, differ: np.ndarray):
    """Return the flags of the folios, and which are mlocked."""
    nr = len(nr_pages)
    flags = np.full(nr, what.kind_of.folio_flags | (_core.FOLIO_ACTIVE if what.active else 0), np.uint32)
    dirty = chosen(what.seed, "folio_dirty", 0, nr, what.folio_dirty)
    flags |= np.uint32(_core.FOLIO_DIRTY) * np.uint32(1) * dirty
    locked = np.broadcast_to(chosen(what.seed, "mlocked", 0, nr, what.mlocked), nr)
    off_lru = np.uint32(_core.FOLIO_MLOCKED | _core.FOLIO_UNEVICTABLE)
    flags[locked] = flags[locked] & ~np.uint32(_core.FOLIO_ACTIVE) | off_lru
    flags[differ] |= np.uint32(_core.FOLIO_PAGE_MAPCOUNTS)
    if what.anon and not what.cow:
        flags |= np.uint32(_core.FOLIO_EXCLUSIVE)
    if what.anon:
        flags[(pages_mapped < nr_pages) & (pages_mapped > 0)] |= np.uint32(_core.FOLIO_PARTIALLY_MAPPED)
    return flags, locked


def _synthetic_vma_flags(what: SimpleNamespace) -> int:
    flags = what.kind_of.vma_flags & ~_core.VMA_SHARED
    for flag, value in (
        (_core.VMA_SHARED, what.shared),
        (_core.VMA_UFFD_WP, what.uffd_wp_vma),
        (_core.VMA_EXEC, what.exec),
        (_core.VMA_DROPPABLE, what.droppable),
        (_core.VMA_LOCKED, what.mlocked == 1),
    ):
        flags |= flag if value else 0
    return flags


def _one_window_vmas(mms: np.ndarray, start: int, pages: int, pgoff: int, flags: int, tables: int) -> dict:
    """Return the VMA arrays and table states of mms that map the same range in one VMA each."""
    nr = len(mms)
    end = start + pages
    fixed = {"vma_start": start, "vma_end": end, "vma_pgoff": pgoff, "vma_flags": flags}
    fixed |= {"vma_window_start": start, "vma_window_end": end}
    arrays = {name: np.full(nr, value, ARRAYS[name]) for name, value in fixed.items()}
    arrays["vma_mm"] = mms.astype(np.uint32)
    arrays["vma_pte_base"] = (mms * pages).astype(np.uint64)
    arrays["vma_table_base"] = (mms * tables).astype(np.uint64)
    arrays["table_state"] = np.zeros(nr * tables, np.uint8)
    return arrays


def _check_array(name: str, array, dtype, ndim: int) -> None:
    """Raise TypeError unless this is a C-contiguous native array of that dtype and number of dimensions."""
    word = dtype.__name__
    if not isinstance(array, np.ndarray):
        raise TypeError(
            f"{name}: expected a C-contiguous {word} array, got {type(array).__name__}; convert with np.asarray"
        )
    if array.dtype != dtype or not array.dtype.isnative or not array.flags.c_contiguous or array.ndim != ndim:
        layout = "" if array.flags.c_contiguous else ", not C-contiguous"
        hint = f"np.ascontiguousarray({name}, np.{word})" if array.dtype == dtype else f"{name}.astype(np.{word})"
        raise TypeError(
            f"{name}: expected a C-contiguous {word} array, got {array.dtype} with shape {array.shape}{layout}; "
            f"convert with {hint}"
        )
    if name in ("mm_rss",) and array.shape[1] != 4:
        raise TypeError(f"{name}: expected shape (mms, 4), got {array.shape}")


def _integers(name: str, values, size: int | None, low: int, high: int) -> np.ndarray:
    """Return integers of one dimension, checked; a scalar is broadcast to ``size``."""
    array = np.atleast_1d(np.asarray(values))
    if array.size == 0 and not isinstance(values, np.ndarray):
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise TypeError(
            f"{name}: expected an integer or a 1-D integer array, got {array.dtype} with shape {array.shape}"
        )
    if array.size and (int(array.min()) < low or int(array.max()) > high):
        raise ValueError(f"{name}: expected {low} to {high}, got {int(array.min())} to {int(array.max())}")
    if size is not None and np.ndim(values) == 0:
        return np.repeat(array, size)
    if size is not None and len(array) != size:
        raise ValueError(f"{name}: expected one for each of {size} folios, got shape {array.shape}")
    return array.copy()
