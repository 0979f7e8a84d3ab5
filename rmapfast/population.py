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

import numpy as np

from rmapfast import _core, pte
from rmapfast import arch as _arch
from rmapfast._layout import (
    CHUNK,
    MAX_ORDER,
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
from rmapfast._pageout import split_folios as split_folios
from rmapfast._sizes import format_size, parse_size

MAX_PAGES = 1 << 33

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

# Layout of a synthetic population: aligned to the largest folio and to the largest page table.
_VPN_BASE = 0x7F0000000
_PFN_BASE = 0x100000
# The mm ran on one CPU that is not CPU 0, which reclaims.
DEFAULT_CPUMASK = 0b10


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

    def __init__(self, *, ptrs_per_pte, page_shift=12, assumptions=None, source="arrays", input_hash=None, **arrays):
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
        return int(np.sum(np.int64(1) << self.folio_order.astype(np.int64)))

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays that are in use (a lazily touched array counts if any folio uses it)."""
        used = {name: bool(np.any(self.folio_flags & flag)) for name, flag in _LAZY.items()}
        used["folio_entire_mapcount"] = bool(np.any(self.folio_entire_mapcount))
        return sum(getattr(self, name).nbytes for name in ARRAYS if used.get(name, True))

    def orders(self) -> dict[int, int]:
        """Return order -> number of folios."""
        counts = np.bincount(self.folio_order, minlength=1)
        return {int(order): int(counts[order]) for order in np.flatnonzero(counts)}

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
        flags = self.folio_flags
        anon, swapbacked = flags & _core.FOLIO_ANON > 0, flags & _core.FOLIO_SWAPBACKED > 0
        kinds = {
            "file": ~anon & ~swapbacked,
            "shmem": ~anon & swapbacked,
            "anon": anon & swapbacked,
            "lazyfree": anon & ~swapbacked,
        }
        return {
            "source": self.source,
            "pages": self.nr_pages,
            "folios": self.nr_folios,
            "bytes": self.nr_pages << self.page_shift,
            "orders": {str(order): count for order, count in self.orders().items()},
            "kinds": {name: int(np.count_nonzero(mask)) for name, mask in kinds.items() if mask.any()},
            "mms": len(self.mm_flags),
            "vmas": len(self.vma_start),
            "ptes": len(self.ptes),
            "ptes_present": int(np.count_nonzero(self.ptes & pte.PRESENT)),
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
            assumptions=self.assumptions,
            source=self.source,
            input_hash=self.input_hash,
            **arrays,
        )

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
        arch = _arch.get(arch)
        kind_of = KINDS[_choice("kind", kind, KINDS)]
        nbytes = parse_size(size)
        if nbytes % arch.page_size or not 0 < nbytes >> arch.page_shift < MAX_PAGES:
            raise ValueError(
                f"size: expected a multiple of the {arch.page_size} byte page, 1 to 2^33 - 1 pages, got {size!r}"
            )
        pages = nbytes >> arch.page_shift
        mix = parse_orders(orders)
        anon = bool(kind_of.folio_flags & _core.FOLIO_ANON)
        sharing = _integer("sharing", sharing, 1, 1 << 20)
        external = _integer("external", external, 0, (1 << 16) - 1)
        phase = _integer("phase", phase, 0, (1 << MAX_ORDER) - 1)
        seed = _integer("seed", seed, 0, (1 << 64) - 1)
        if sharing * pages >= MAX_PAGES:
            raise ValueError(f"sharing: expected less than 2^33 PTEs in all, got {sharing} times {pages}")
        cow = anon and (sharing > 1 or external > 0)
        write = (0.0 if cow else kind_of.write) if write is None else _rate("write", write)
        dirty = (0.0 if cow else kind_of.dirty) if dirty is None else _rate("dirty", dirty)
        young, soft_dirty, uffd_wp = _rate("young", young), _rate("soft_dirty", soft_dirty), _rate("uffd_wp", uffd_wp)
        mapped, mlocked, folio_dirty = (
            _rate("mapped", mapped),
            _rate("mlocked", mlocked),
            _rate("folio_dirty", folio_dirty),
        )
        every = 0
        if isinstance(holes, str):
            name, _, text = holes.partition(":")
            if name != "every" or not text.isascii() or not text.isdigit() or not 1 <= int(text) < MAX_PAGES:
                raise ValueError(f'holes: expected a rate from 0 to 1 or "every:K" with K from 1, got {holes!r}')
            every = int(text)
        else:
            holes = _rate("holes", holes)
        uffd_wp_vma = uffd_wp > 0 if uffd_wp_vma is None else _boolean("uffd_wp_vma", uffd_wp_vma)
        if uffd_wp and not uffd_wp_vma:
            raise ValueError(f"uffd_wp_vma: expected True or None with uffd_wp={uffd_wp}, got False")
        shared = not anon if shared is None else _boolean("shared", shared)
        aligned, active, shuffle = (
            _boolean("aligned", aligned),
            _boolean("active", active),
            _boolean("shuffle", shuffle),
        )
        cont, exec, droppable = _boolean("cont", cont), _boolean("exec", exec), _boolean("droppable", droppable)
        assumptions = {
            "size": format_size(nbytes), "arch": arch.name, "kind": kind,
            "orders": format_orders(mix),
            "aligned": aligned, "phase": phase, "mapped": mapped, "holes": holes, "sharing": sharing, "young": young,
            "dirty": dirty, "write": write, "soft_dirty": soft_dirty, "uffd_wp": uffd_wp, "uffd_wp_vma": uffd_wp_vma,
            "mlocked": mlocked, "folio_dirty": folio_dirty, "active": active, "shuffle": shuffle, "external": external,
            "cont": cont, "exec": exec, "droppable": droppable, "shared": shared, "seed": seed,
        }  # fmt: skip

        start, order, packed, note = place(mix, pages, aligned, seed)
        if note:
            assumptions["fill"] = note
        nr = len(start)
        nr_pages = np.int64(1) << order.astype(np.int64)
        folio_pfn = (packed + _PFN_BASE).astype(np.uint64)
        is_mapped = chosen(seed, "mapped", 0, nr, mapped)
        page_pfn = None if packed is start else np.repeat(folio_pfn - start.astype(np.uint64), nr_pages)
        page_live = None if is_mapped is True else np.repeat(is_mapped, nr_pages if np.ndim(is_mapped) else pages)

        ptes = np.empty(sharing * pages, np.uint64)
        page_counts = np.full(pages, external, np.int32) if every or holes else None
        bits = {"young": young, "dirty": dirty, "write": write, "soft_dirty": soft_dirty, "uffd_wp": uffd_wp}
        masks = {
            "young": pte.YOUNG,
            "dirty": pte.DIRTY,
            "write": pte.WRITE,
            "soft_dirty": pte.SOFT_DIRTY,
            "uffd_wp": pte.UFFD_WP,
        }
        present = np.zeros(sharing, np.int64)
        for first in range(0, sharing * pages, pages):
            for at in range(0, pages, CHUNK):
                end = min(at + CHUNK, pages)
                words = ptes[first + at : first + end]
                words[:] = np.arange(at, end, dtype=np.uint64)
                words += np.uint64(_PFN_BASE) if page_pfn is None else page_pfn[at:end]
                words <<= pte.PFN_SHIFT
                words |= pte.PRESENT
                for name, rate in bits.items():
                    if rate:
                        words |= masks[name] * np.uint64(1) * chosen(seed, name, first + at, first + end, rate)
                if uffd_wp and write:
                    words &= ~np.where(words & pte.UFFD_WP, pte.WRITE, np.uint64(0))
                live = True if page_live is None else page_live[at:end]
                if every:
                    live = live & (np.arange(at, end) % every != 0)
                elif holes:
                    live = live & ~np.asarray(chosen(seed, "holes", first + at, first + end, holes))
                if live is not True:
                    words *= live
                if page_counts is not None:
                    page_counts[at:end] += live
                present[first // pages] += (
                    end - at if live is True else np.count_nonzero(np.broadcast_to(live, end - at))
                )
        if page_counts is None:
            per_page = external + sharing * np.broadcast_to(is_mapped, nr).astype(np.int64)
            if nr and int(per_page.max()) * int(nr_pages.max()) >= 1 << 31:
                raise ValueError(
                    f"sharing: expected less than 2^31 mappings of a folio, got {sharing} and external {external}"
                )
            mapcount = (per_page * nr_pages).astype(np.int32)
            pages_mapped = np.where(per_page > 0, nr_pages, 0).astype(np.int32)
            differ = np.zeros(nr, bool)
        else:
            mapcount, pages_mapped, differ = settle(page_counts, order)

        flags = np.full(nr, kind_of.folio_flags | (_core.FOLIO_ACTIVE if active else 0), np.uint32)
        flags |= np.uint32(_core.FOLIO_DIRTY) * np.uint32(1) * chosen(seed, "folio_dirty", 0, nr, folio_dirty)
        locked = np.broadcast_to(chosen(seed, "mlocked", 0, nr, mlocked), nr)
        flags[locked] = flags[locked] & ~np.uint32(_core.FOLIO_ACTIVE) | np.uint32(
            _core.FOLIO_MLOCKED | _core.FOLIO_UNEVICTABLE
        )
        flags[differ] |= np.uint32(_core.FOLIO_PAGE_MAPCOUNTS)
        if anon and not cow:
            flags |= np.uint32(_core.FOLIO_EXCLUSIVE)
        if anon:
            flags[(pages_mapped < nr_pages) & (pages_mapped > 0)] |= np.uint32(_core.FOLIO_PARTIALLY_MAPPED)

        page_base = np.cumsum(nr_pages) - nr_pages
        keep = mapcount > 0 if anon else np.ones(nr, bool)
        if not keep.all():
            folio_pfn, start, order, flags, mapcount, pages_mapped, nr_pages, page_base, locked = (
                array[keep]
                for array in (folio_pfn, start, order, flags, mapcount, pages_mapped, nr_pages, page_base, locked)
            )
            nr = len(start)
        lru = permute(seed, STREAM_LRU, nr) if shuffle else np.arange(nr)
        lru = lru[~locked[lru]].astype(np.uint32)
        vma_start = _VPN_BASE + phase
        pgoff = vma_start if anon else 0
        vma_flags = kind_of.vma_flags & ~_core.VMA_SHARED | (_core.VMA_SHARED if shared else 0)
        for flag, value in (
            ("UFFD_WP", uffd_wp_vma),
            ("EXEC", exec),
            ("DROPPABLE", droppable),
            ("LOCKED", mlocked == 1),
        ):
            vma_flags |= getattr(_core, f"VMA_{flag}") if value else 0
        rss = np.zeros((sharing, 4), np.int64)
        rss[:, kind_of.counter] = present
        tables = (vma_start + pages - 1) // arch.ptrs_per_pte - vma_start // arch.ptrs_per_pte + 1
        if cont and arch.cont_ptes > 1:
            index = FolioIndex(folio_pfn, order)
            for first in range(0, sharing * pages, pages):
                fold_contpte(ptes[first : first + pages], vma_start, arch.cont_ptes, index)
        mms = np.arange(sharing)
        return cls(
            ptrs_per_pte=arch.ptrs_per_pte,
            page_shift=arch.page_shift,
            assumptions=assumptions,
            source="synthetic",
            ptes=ptes,
            **_one_window_vmas(mms, vma_start, pages, pgoff, vma_flags, tables),
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
            rmap_start=np.arange(0, (nr + 1) * sharing, sharing, dtype=np.uint64),
            rmap_vma=np.tile(mms.astype(np.uint32), nr),
            mm_rss=rss,
            mm_cpumask=np.full(sharing, DEFAULT_CPUMASK, np.uint64),
            mm_flags=np.zeros(sharing, np.uint32),
            lru_inactive=np.zeros(0, np.uint32) if active else lru,
            lru_active=lru if active else np.zeros(0, np.uint32),
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
        rmapfast._capture.CaptureError
            For a file that is no such capture, or is damaged.
        OSError
            For a file that cannot be read.
        """
        from rmapfast import _capture, _reconstruct

        single = isinstance(path, str | bytes | os.PathLike)
        captures = [_capture.Capture.load(one) for one in ([path] if single else list(path))]
        try:
            return _reconstruct.to_population(captures, **options)
        except MemoryError:
            pages = sum(capture.nr_pages for capture in captures)
            raise _capture.CaptureError(f"{captures[0].path}: not enough memory for {pages} pages") from None


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
