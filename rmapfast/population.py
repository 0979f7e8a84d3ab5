"""Populations: the memory that is unmapped, as NumPy arrays of page tables, VMAs, folios, rmap, mms and LRU lists.

docs/model.md, section 2, defines every array. Populations come from :meth:`Population.synthetic` (described by
arguments), :meth:`Population.load` (captures of real processes) and :meth:`Population.from_arrays` (given page
tables).

Every random choice is a pure function of the seed, the draw, and the number of the PTE or folio
(:func:`rmapfast.layout.hash64`). It does not depend on the order or the chunks in which a population is built.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import rmapfast._core as _core
from rmapfast import arch as _arch
from rmapfast import pte
from rmapfast.arch import Arch
from rmapfast.arrays import HeldArrays
from rmapfast.flags import FOLIO_KINDS, FolioFlag, TableState, folio_generation, folio_kind, with_generation
from rmapfast.layout import (
    DEFAULT_CPUMASK,
    DRAW_LRU,
    MAX_ORDER,
    MAX_PAGES,
    FolioIndex,
    fold_contpte,
    permute,
    settle,
)
from rmapfast.lru import LruGen, checked_history, settle_generations
from rmapfast.spec import KINDS, PopulationSpec, described, described_html
from rmapfast.support import checked_choice, checked_integer, checked_list, checked_path, closest, format_size
from rmapfast.unseen import UNSEEN, assume_pages

if TYPE_CHECKING:
    from rmapfast.captures import Capture

# Every array with its dtype, in the order of docs/model.md.
ARRAYS: dict[str, type[np.generic]] = {
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
# Large arrays that no run changes. A copy of a population shares them with the original.
_SHARED = ("folio_pfn", "folio_index", "folio_order", "folio_page_base", "rmap_start", "rmap_vma")
# Arrays that are valid only for folios with the flag. They have full size. Where no folio has the flag they are not
# written, so they take no memory.
_LAZY = {
    "page_mapcount": FolioFlag.PAGE_MAPCOUNTS,
    "page_flags": FolioFlag.PAGE_FLAGS,
    "folio_swap": FolioFlag.SWAPCACHE,
}
# The arrays with one element per folio that _core.populate() fills from a description.
MADE_PER_FOLIO = (
    "folio_pfn",
    "folio_index",
    "folio_order",
    "folio_flags",
    "folio_refcount",
    "folio_mapcount",
    "folio_nr_pages_mapped",
    "folio_page_base",
)


class Population(HeldArrays, names=ARRAYS):
    """Page tables, VMAs, folios, rmap, mms and LRU lists.

    The arrays of docs/model.md, section 2, are attributes of the same name: C-contiguous, writable NumPy arrays of one
    dimension, but for ``mm_rss`` of shape (mms, 4). ``page_mapcount``, ``page_flags``, ``folio_swap`` and
    ``folio_entire_mapcount`` have full size but take memory only where they are used.

    Parameters
    ----------
    ptrs_per_pte : int
        Entries per page table.
    page_shift : int
        log2 of the base page size in bytes.
    cont_ptes : int
        Entries of the contpte block for which the CONT bits were set; 1 without contpte.
    arch : Arch, optional
        Architecture that the population was made for; :func:`rmapfast.reclaim` uses it where none is given.
    assumptions : dict, optional
        What was assumed, or the arguments that made the population; printed with results.
    source : str
        Origin that results name: ``synthetic``, ``arrays``, or the names of the captures.
    input_hash : str, optional
        SHA-256 (hex) of the capture.
    **arrays : ndarray
        Every array, with the dtypes that are declared below.

    Attributes
    ----------
    lru : {'classic', 'mglru'} or None
        Which LRU the kernel of the capture had; None if it is not known.
    lru_gen : LruGen
        Sequence numbers of MGLRU's generations; at first those of a new memory cgroup.
    history : str
        What happened to the folios before the run, for those on a list without a generation
        (:data:`rmapfast.lru.HISTORY`); empty: what is usual for each kind.

    Raises
    ------
    TypeError
        If an array is missing, unknown, or of another dtype or layout.

    Examples
    --------
    >>> import rmapfast as rf
    >>> population = rf.Population.synthetic("1MiB", orders=4, holes="every:32")
    >>> population.nr_folios, population.nr_pages, len(population.ptes)
    (16, 256, 256)
    >>> int(rf.pte.maps_page(population.ptes).sum())
    248
    """

    ptes: npt.NDArray[np.uint64]
    vma_start: npt.NDArray[np.uint64]
    vma_end: npt.NDArray[np.uint64]
    vma_pgoff: npt.NDArray[np.uint64]
    vma_flags: npt.NDArray[np.uint32]
    vma_mm: npt.NDArray[np.uint32]
    vma_pte_base: npt.NDArray[np.uint64]
    vma_window_start: npt.NDArray[np.uint64]
    vma_window_end: npt.NDArray[np.uint64]
    vma_table_base: npt.NDArray[np.uint64]
    table_state: npt.NDArray[np.uint8]
    folio_pfn: npt.NDArray[np.uint64]
    folio_index: npt.NDArray[np.uint64]
    folio_order: npt.NDArray[np.uint8]
    folio_flags: npt.NDArray[np.uint32]
    folio_refcount: npt.NDArray[np.int32]
    folio_mapcount: npt.NDArray[np.int32]
    folio_entire_mapcount: npt.NDArray[np.int32]
    folio_nr_pages_mapped: npt.NDArray[np.int32]
    folio_swap: npt.NDArray[np.uint64]
    folio_page_base: npt.NDArray[np.uint64]
    page_mapcount: npt.NDArray[np.int32]
    page_flags: npt.NDArray[np.uint8]
    rmap_start: npt.NDArray[np.uint64]
    rmap_vma: npt.NDArray[np.uint32]
    mm_rss: npt.NDArray[np.int64]
    mm_cpumask: npt.NDArray[np.uint64]
    mm_flags: npt.NDArray[np.uint32]
    lru_inactive: npt.NDArray[np.uint32]
    lru_active: npt.NDArray[np.uint32]

    def __init__(
        self,
        *,
        ptrs_per_pte: int,
        page_shift: int = 12,
        cont_ptes: int = 1,
        arch: Arch | None = None,
        assumptions: Mapping[str, Any] | None = None,
        source: str = "arrays",
        input_hash: str | None = None,
        **arrays: npt.NDArray[Any],
    ) -> None:
        for name in ARRAYS:
            if name not in arrays:
                raise TypeError(f"{name}: this array is missing")
        for name, array in arrays.items():
            if name not in ARRAYS:
                raise TypeError(f"{name}: no such array{closest(name, ARRAYS)}")
            _check_array(name, array, ARRAYS[name], 2 if name == "mm_rss" else 1)
        super().__init__(arrays)
        self.ptrs_per_pte = ptrs_per_pte
        self.page_shift = page_shift
        self.cont_ptes = cont_ptes
        self.arch = arch
        self.assumptions = dict(assumptions or {})
        self.source = source
        self.input_hash = input_hash
        self.lru: str | None = None
        self.lru_gen = LruGen()
        self.history = ""

    # What it holds

    @property
    def nr_folios(self) -> int:
        """Number of folios."""
        return len(self.held("folio_pfn"))

    @property
    def nr_pages(self) -> int:
        """Base pages in all folios."""
        return sum(count << order for order, count in self.orders().items())

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays; those that are valid only with a flag count if any folio has it."""
        return self._used_bytes(*self._uses())

    def _uses(self) -> tuple[int, bool]:
        """Return the flags that folios have, and whether PMD leaves map some."""
        if self.lent:  # fewer arrays than a census looks at
            return int(np.bitwise_or.reduce(self.held("folio_flags"))), bool(np.any(self.held("folio_entire_mapcount")))
        _, _, flags, entire, _ = self.see(_core.census)
        return flags, entire

    def _used_bytes(self, flags: int, entire: bool) -> int:
        """Return the bytes of the arrays where folios have these flags, and PMD leaves map some or none."""
        used = {name: bool(flags & flag) for name, flag in _LAZY.items()} | {"folio_entire_mapcount": entire}
        return sum(self.held(name).nbytes for name in ARRAYS if used.get(name, True))

    def orders(self) -> dict[int, int]:
        """Return order -> number of folios.

        Returns
        -------
        dict of int to int

        Examples
        --------
        >>> import rmapfast as rf
        >>> rf.Population.synthetic("1MiB", orders=4).orders()
        {4: 16}
        """
        counts = np.bincount(self.held("folio_order"), minlength=1)
        return {int(order): int(counts[order]) for order in np.flatnonzero(counts)}

    def rmap(self, folio: int) -> list[tuple[int, int]]:
        """Return the VMAs that may map a folio, in the order of the rmap walk.

        Parameters
        ----------
        folio : int
            Number of the folio.

        Returns
        -------
        list of (int, int)
            Number of the VMA, and the first virtual page at which it may map the folio.

        Raises
        ------
        TypeError, ValueError
            If there is no such folio.

        Examples
        --------
        >>> import rmapfast as rf
        >>> len(rf.Population.synthetic("1MiB", orders=4, sharing=3).rmap(0))
        3
        """
        folio = checked_integer("folio", folio, 0, self.nr_folios - 1)
        pairs = []
        first, end = (int(self.held("rmap_start")[row]) for row in (folio, folio + 1))
        for vma in self.held("rmap_vma")[first:end]:
            start, pgoff = int(self.held("vma_start")[vma]), int(self.held("vma_pgoff")[vma])
            pairs.append((int(vma), max(start + int(self.held("folio_index")[folio]) - pgoff, start)))
        return pairs

    def page_mapcounts(self, folio: int) -> npt.NDArray[np.int32]:
        """Return how many PTEs map each page of a folio.

        Parameters
        ----------
        folio : int
            Number of the folio.

        Returns
        -------
        ndarray of int32, shape (pages of the folio,)

        Raises
        ------
        TypeError, ValueError
            If there is no such folio.

        Examples
        --------
        >>> import rmapfast as rf
        >>> rf.Population.synthetic("1MiB", orders=2, sharing=3).page_mapcounts(0).tolist()
        [3, 3, 3, 3]
        """
        folio = checked_integer("folio", folio, 0, self.nr_folios - 1)
        pages = 1 << int(self.held("folio_order")[folio])
        if self.held("folio_flags")[folio] & FolioFlag.PAGE_MAPCOUNTS:
            base = int(self.held("folio_page_base")[folio])
            return self.held("page_mapcount")[base : base + pages].copy()
        mappings = int(self.held("folio_mapcount")[folio]) - int(self.held("folio_entire_mapcount")[folio])
        return np.full(pages, mappings // pages, np.int32)

    def describe(self) -> dict[str, Any]:
        """Return what the population holds as a dict that serialises to JSON.

        Returns
        -------
        dict
            * ``source``, ``input_hash``, ``assumptions``, ``ptrs_per_pte``: as the attributes.
            * ``pages``, ``bytes``, ``folios``: memory in all folios, and their number.
            * ``orders``, ``kinds``: folios of each order (as text) and kind.
            * ``mms``, ``vmas``, ``ptes``, ``ptes_present``: their numbers.
            * ``inactive``, ``active``: folios on each LRU list.
            * ``page_size``: bytes of a base page; ``nbytes``: :attr:`nbytes`.
        """
        orders, folios, flags, entire, present = self.see(_core.census)
        pages = sum(count << order for order, count in orders.items())
        kinds = {FOLIO_KINDS[kind]: folios[bits] for bits, kind in enumerate(folio_kind(np.arange(4)).tolist())}
        return {
            "source": self.source,
            "pages": pages,
            "folios": self.nr_folios,
            "bytes": pages << self.page_shift,
            "orders": {str(order): count for order, count in orders.items()},
            "kinds": {name: kinds[name] for name in FOLIO_KINDS if kinds[name]},
            "mms": len(self.held("mm_flags")),
            "vmas": len(self.held("vma_start")),
            "ptes": len(self.held("ptes")),
            "ptes_present": present,
            "inactive": len(self.held("lru_inactive")),
            "active": len(self.held("lru_active")),
            "ptrs_per_pte": self.ptrs_per_pte,
            "page_size": 1 << self.page_shift,
            "nbytes": self._used_bytes(flags, entire),
            "input_hash": self.input_hash,
            "assumptions": dict(self.assumptions),
        }

    def __repr__(self) -> str:
        orders = ", ".join(f"{order}:{count}" for order, count in self.orders().items())
        ptes, vmas, mms, inactive, active = (
            len(self.held(name)) for name in ("ptes", "vma_start", "mm_flags", "lru_inactive", "lru_active")
        )
        return (
            f"<Population {self.source}: {format_size(self.nr_pages << self.page_shift)} in {self.nr_folios} folios "
            f"(order:folios {orders or 'none'}), {ptes} PTEs in {vmas} VMAs of {mms} mms, {inactive} inactive, "
            f"{active} active>"
        )

    def _repr_html_(self) -> str:
        """Return what a notebook shows: folios by order and kind, sizes, and what was assumed."""
        return described_html("Population", self.describe())

    def copy(self) -> Population:
        """Return a copy that a run may change.

        Large arrays that no run changes (PFN, index, order, page base, rmap) are shared with the original.

        Returns
        -------
        Population

        Examples
        --------
        >>> import rmapfast as rf
        >>> population = rf.Population.synthetic("1MiB")
        >>> rf.reclaim(population.copy(), "80%", in_place=True).reclaimed_pages <= population.nr_pages
        True
        """
        return self._copied(tuple(name for name in ARRAYS if name not in _SHARED))

    def copy_for_run(self) -> Population:
        """Return a copy whose LRU lists are shared too: a run replaces them, and does not change them.

        Returns
        -------
        Population
        """
        return self._copied(
            tuple(name for name in ARRAYS if name not in _SHARED and name not in ("lru_inactive", "lru_active"))
        )

    def _copied(self, names: tuple[str, ...]) -> Population:
        """Return a population with some arrays copied. What no folio uses is zero, and takes no memory."""
        flags, entire = self._uses()
        wanted = {name: (self.held(name).shape, ARRAYS[name]) for name in names}
        unused = {name for name, flag in _LAZY.items() if not flags & flag}
        unused |= set() if entire else {"folio_entire_mapcount"}
        arrays = _core.zero_arrays({name: wanted[name] for name in names if name in unused})
        copied = _core.empty_arrays({name: wanted[name] for name in names if name not in unused})
        for name, array in copied.items():
            np.copyto(array, self.held(name))
        return self._with(arrays | copied)

    def _with(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Population:
        """Return a population with arrays in place of its own; the others are shared, and with them who has them."""
        other = Population(
            ptrs_per_pte=self.ptrs_per_pte,
            page_shift=self.page_shift,
            cont_ptes=self.cont_ptes,
            arch=self.arch,
            assumptions=self.assumptions,
            source=self.source,
            input_hash=self.input_hash,
            **{name: self.held(name) for name in ARRAYS} | dict(arrays),
        )
        other.lru, other.lru_gen, other.history = self.lru, self.lru_gen, self.history
        other.shares_with(self)
        return other

    def __copy__(self) -> Population:
        """Return a population that shares all arrays with this one."""
        return self.with_arrays()

    def with_arrays(self, **arrays: npt.NDArray[Any]) -> Population:
        """Return a population with the given arrays in place of its own; the others are shared.

        Parameters
        ----------
        **arrays : ndarray
            By the name of the attribute, with its dtype and shape.

        Returns
        -------
        Population
        """
        self.lend()
        return self._with(arrays)

    def refold(self, cont_ptes: int) -> None:
        """Set the CONT bits anew in every contpte block of `cont_ptes` entries that qualifies; 1 clears all of them.

        Parameters
        ----------
        cont_ptes : int
            Entries of a contpte block, a power of two.
        """
        self.arrays_change()
        ptes, start_of, end_of = self.held("ptes"), self.held("vma_start"), self.held("vma_end")
        ptes[(ptes & (pte.PRESENT | pte.CONT)) == (pte.PRESENT | pte.CONT)] ^= pte.CONT
        self.cont_ptes = cont_ptes
        if cont_ptes == 1:
            return
        folios = FolioIndex(self.held("folio_pfn"), self.held("folio_order"))
        for vma in range(len(start_of)):
            start, end, base = (int(array[vma]) for array in (start_of, end_of, self.held("vma_pte_base")))
            fold_contpte(ptes[base : base + end - start], start, cont_ptes, folios)
            for number in range(start // self.ptrs_per_pte, (end - 1) // self.ptrs_per_pte + 1):
                table = int(self.held("vma_table_base")[vma]) + number - start // self.ptrs_per_pte
                if self.held("table_state")[table] == TableState.PMD_LEAF:
                    at = base + number * self.ptrs_per_pte - start
                    ptes[at : at + self.ptrs_per_pte] &= ~pte.CONT

    def settle_generations(self, edition: str | None) -> None:
        """Give each listed folio without a generation the one in which its history puts it; None clears all.

        Parameters
        ----------
        edition : str or None
            Whose rules hold (``Policy.mglru``); None for the classic LRU.
        """
        flags = self.held("folio_flags")
        if edition is None:
            if folio_generation(np.bitwise_or.reduce(flags, keepdims=True)).any():
                self.arrays_change()
                flags[:] = with_generation(flags, 0)
            return
        self.arrays_change()
        flags[:] = settle_generations(
            flags,
            self.held("folio_mapcount"),
            folio_kind(flags),
            np.concatenate([self.held("lru_inactive"), self.held("lru_active")]),
            checked_history(self.history),
            edition,
            self.lru_gen,
        )

    # Where it comes from

    @classmethod
    def synthetic(cls, size: int | str = "10GiB", **arguments: Any) -> Population:
        """Make a population from a description: one mapping of `size`, present in ``sharing`` processes.

        Parameters
        ----------
        size : int or str
            Bytes, or text such as "10GiB".
        **arguments
            Those of :class:`rmapfast.PopulationSpec`: ``kind``, ``orders``, ``holes``, ``young``, ``arch``, ``seed``
            and others.

        Returns
        -------
        Population

        Raises
        ------
        TypeError, ValueError
            For an argument of the wrong type or out of range, or if there are 2^33 PTEs or more; the message names it.

        Examples
        --------
        >>> population = Population.synthetic("1MiB", orders=2, young=0.5)
        >>> population.nr_folios, len(population.ptes)
        (64, 256)
        """
        return cls.of(described(size, arguments))

    @classmethod
    def described(cls, size: int | str = "10GiB", **arguments: Any) -> PopulationSpec:
        """Describe a population with the arguments of :meth:`synthetic`, without making it.

        :func:`rmapfast.reclaim` generates it block by block, so it may be larger than the memory.

        Parameters
        ----------
        size : int or str
            Bytes, or text such as "10GiB".
        **arguments
            Those of :class:`rmapfast.PopulationSpec`.

        Returns
        -------
        PopulationSpec

        Raises
        ------
        TypeError, ValueError
            For an argument of the wrong type or out of range; the message names it.

        Examples
        --------
        >>> Population.described("4PiB", orders=9)
        <PopulationSpec 4 PiB of file, orders 9>
        """
        return described(size, arguments)

    @classmethod
    def of(cls, spec: PopulationSpec) -> Population:
        """Make a described population.

        Parameters
        ----------
        spec : PopulationSpec
            Its description.

        Returns
        -------
        Population

        Raises
        ------
        ValueError
            If it has 2^33 PTEs or more.
        """
        pages, arch = spec.pages, _arch.get(spec.arch)
        if pages >= MAX_PAGES:
            raise ValueError(f"size: expected 1 to 2^33 - 1 pages, got {pages}; described() is not limited so")
        if spec.sharing * pages >= MAX_PAGES:
            raise ValueError(f"sharing: expected less than 2^33 PTEs in all, got {spec.sharing} times {pages}")
        nr = spec.nr_folios
        mms = np.arange(spec.sharing)
        sizes = dict.fromkeys(MADE_PER_FOLIO, nr)
        sizes |= {"ptes": spec.sharing * pages, "rmap_start": nr + 1, "lru_inactive": nr}
        made = _core.empty_arrays({name: ((size,), ARRAYS[name]) for name, size in sizes.items()})
        made |= _core.zero_arrays(
            {
                "page_mapcount": ((pages,), np.int32),
                "page_flags": ((pages,), np.uint8),
                "folio_swap": ((nr,), np.uint64),
                "folio_entire_mapcount": ((nr,), np.int32),
                "rmap_vma": ((nr * spec.sharing,), np.uint32),
                "mm_rss": ((spec.sharing, 4), np.int64),
            }
        )
        lru = made.pop("lru_inactive")
        kept, nr_lru = _core.populate(spec, 0, pages, made | {"lru": lru})
        lru = lru[:nr_lru]
        if kept < nr:  # anonymous folios that nothing maps
            made |= {
                name: made[name][:kept].copy() for name in (*MADE_PER_FOLIO, "folio_swap", "folio_entire_mapcount")
            }
            made["rmap_start"] = made["rmap_start"][: kept + 1].copy()
            made["rmap_vma"] = made["rmap_vma"][: kept * spec.sharing].copy()
        if spec.shuffle:
            lru = permute(spec.seed, DRAW_LRU, kept).astype(np.uint32)
            lru = lru[made["folio_flags"][lru] & FolioFlag.MLOCKED == 0]
        vpn, pgoff = spec.vpn, spec.pgoff
        tables = (vpn + pages - 1) // arch.ptrs_per_pte - vpn // arch.ptrs_per_pte + 1
        population = cls(
            ptrs_per_pte=arch.ptrs_per_pte,
            cont_ptes=arch.cont_ptes,
            arch=arch,
            page_shift=arch.page_shift,
            assumptions=spec.assumptions,
            source=spec.source,
            input_hash=spec.input_hash,
            **made,
            **_one_window_vmas(mms, vpn, pages, pgoff, spec.vma_flags, tables),
            mm_cpumask=np.full(spec.sharing, DEFAULT_CPUMASK, np.uint64),
            mm_flags=np.zeros(spec.sharing, np.uint32),
            lru_inactive=np.zeros(0, np.uint32) if spec.active else lru,
            lru_active=lru if spec.active else np.zeros(0, np.uint32),
        )
        population.history = spec.history
        return population.just_made()

    @classmethod
    def from_arrays(
        cls,
        ptes: npt.NDArray[np.uint64],
        *,
        folio_pfn: npt.ArrayLike,
        folio_order: npt.ArrayLike,
        start_vpn: int = 0,
        kind: str = "file",
        folio_flags: npt.ArrayLike = 0,
        vma_flags: int = 0,
        external: int = 0,
        arch: str | Arch = "x86-64",
    ) -> Population:
        """Build a population around page-table entries: one mm with one VMA that covers them.

        Mapcounts, references, counters and the rmap follow from the entries that map a page
        (:func:`rmapfast.pte.maps_page`). The index of a folio follows from the first entry that maps it. Entries that
        map its pages at other places are mappings that no rmap walk finds. An entry whose PFN belongs to no folio maps
        none.

        Parameters
        ----------
        ptes : array of uint64, shape (entries,)
            C-contiguous; copied. CONT bits are taken as they are.
        folio_pfn : int or array of int, shape (folios,)
            PFN of the first page of each folio.
        folio_order : int or array of int, shape (folios,)
            0 to 13. One number is the order of all folios.
        start_vpn : int
            Virtual page number of ``ptes[0]``.
        kind : {'file', 'lazyfree', 'anon', 'shmem'}
            As in :class:`rmapfast.PopulationSpec`. Anonymous pages are exclusive if they are mapped once.
        folio_flags : int or array of int, shape (folios,)
            :class:`rmapfast.flags.FolioFlag` bits besides those of the kind.
        vma_flags : int
            :class:`rmapfast.flags.VmaFlag` bits besides those of the kind.
        external : int
            Further mappings of each page, 0 to 65535.
        arch : str or Arch
            Determines the page size and the PTEs per table.

        Returns
        -------
        Population

        Raises
        ------
        TypeError, ValueError
            For an argument of the wrong type or out of range; the message names it.

        Examples
        --------
        >>> ptes = np.array([pte.make("present", 0x100 + page, ["young"]) for page in range(4)])
        >>> population = Population.from_arrays(ptes, folio_pfn=0x100, folio_order=2)
        >>> population.page_mapcounts(0)
        array([1, 1, 1, 1], dtype=int32)
        """
        arch = _arch.get(arch)
        kind_of = KINDS[checked_choice("kind", kind, KINDS)]
        anon = bool(kind_of.folio_flags & FolioFlag.ANON)
        _check_array("ptes", ptes, np.uint64, 1)
        if not 0 < len(ptes) < MAX_PAGES:
            raise ValueError(f"ptes: expected 1 to 2^33 - 1 entries, got {len(ptes)}")
        ptes = ptes.copy()
        start_vpn = checked_integer("start_vpn", start_vpn, 0, (1 << 52) - (2 << MAX_ORDER) - len(ptes))
        vma_flags = checked_integer("vma_flags", vma_flags, 0, (1 << 32) - 1)
        external = checked_integer("external", external, 0, (1 << 16) - 1)
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
        slot = np.flatnonzero(pte.maps_page(ptes))
        folio = index.find(pte.pfn(ptes[slot]))
        slot, folio = slot[folio >= 0], folio[folio >= 0]
        page = pte.pfn(ptes[slot]).astype(np.int64) - pfn[folio].astype(np.int64)
        counts = np.bincount(base[folio] + page, minlength=int(nr_pages.sum())).astype(np.int32) + np.int32(external)
        mapcount, pages_mapped, differ = settle(counts, order)
        flags[differ] |= FolioFlag.PAGE_MAPCOUNTS
        if external:
            flags |= np.uint32(FolioFlag.MAYBE_SHARED)
        if anon and not external:
            flags[mapcount <= nr_pages] |= FolioFlag.EXCLUSIVE
        # The page offset of the VMA leaves room before it: the VMA may begin inside a folio.
        pgoff = start_vpn + (1 << MAX_ORDER)
        at, first = np.unique(folio, return_index=True)
        folio_index = np.full(nr, (1 << 52) - 1, np.int64)
        folio_index[at] = pgoff + slot[first] - page[first]
        is_mapped = np.zeros(nr, np.int64)
        is_mapped[at] = 1
        lru = np.flatnonzero(flags & (FolioFlag.MLOCKED | FolioFlag.UNEVICTABLE) == 0).astype(np.uint32)
        active = flags[lru] & FolioFlag.ACTIVE > 0
        cached = np.where((flags & FolioFlag.SWAPCACHE > 0) | (not anon), nr_pages, 0)
        rss = np.zeros((1, 4), np.int64)
        rss[0, kind_of.counter] = len(slot)
        rss[0, 2] = np.count_nonzero(pte.kind(ptes) == pte.KINDS.index("swap"))
        tables = (start_vpn + len(ptes) - 1) // arch.ptrs_per_pte - start_vpn // arch.ptrs_per_pte + 1
        return cls(
            ptrs_per_pte=arch.ptrs_per_pte,
            cont_ptes=arch.cont_ptes,
            arch=arch,
            page_shift=arch.page_shift,
            assumptions={"kind": kind, "external": external},
            source="arrays",
            input_hash=None,
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
        ).just_made()

    @classmethod
    def from_captures(cls, captures: list[Capture], *, arch: str | Arch | None = None, **options: Any) -> Population:
        """Build the population that captures of one moment show. Each capture is an mm; folios are joined by PFN.

        Parameters
        ----------
        captures : list of Capture
            One or more, of the same page size.
        arch : str or Arch, optional
            Default: the architecture of the machine and the page size that the first capture names.
        **options
            Those of :class:`rmapfast.captures.Assumptions`: ``young``, ``dirty``, ``write``, ``soft_dirty``,
            ``uffd_wp``, ``lru``, ``seed``, ``cont``, ``folio_order``. And what is assumed of single pages of the first
            process, as arrays of virtual page numbers (:func:`rmapfast.assume_pages`): ``zero_filled``, ``dirty``,
            ``pinned``, ``extra_references``, ``shared``.

        Returns
        -------
        Population

        Raises
        ------
        rmapfast.CaptureError
            If the captures contradict each other or the architecture, or are too large for the memory.
        TypeError, ValueError
            For an option of the wrong type or out of range, or without captures.
        """
        from rmapfast.captures import Assumptions, CaptureError, population_arrays

        of_pages = {
            name: options.pop(name)
            for name in UNSEEN
            if name in options and not (name == "dirty" and isinstance(options[name], str | bool | np.bool_))
        }
        assumptions = Assumptions(**options)
        try:
            made = population_arrays(captures, assumptions, arch=arch)
            lru = made.pop("lru")
            population = cls(**made)
            population.lru = lru
        except MemoryError:
            pages = sum(capture.nr_pages for capture in captures)
            raise CaptureError(f"{captures[0].path}: not enough memory for {pages} pages") from None
        assume_pages(population, of_pages)
        return population.just_made()

    @classmethod
    def load(cls, path: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], **options: Any) -> Population:
        """Read captures of processes as one population; docs/capture-format.md describes the files.

        Parameters
        ----------
        path : path or list of paths
            One capture, or several of one moment.
        **options
            Those of :meth:`from_captures`, ``arch`` included.

        Returns
        -------
        Population

        Raises
        ------
        rmapfast.CaptureError
            For a file that is no such capture or is damaged, and as in :meth:`from_captures`.
        OSError
            For a file that cannot be read.
        TypeError, ValueError
            For an option of the wrong type or out of range.

        Examples
        --------
        >>> import rmapfast as rf
        >>> population = rf.Population.load("mine.npz", young=0.5)  # doctest: +SKIP
        """
        from rmapfast.captures import Capture

        paths = [path] if isinstance(path, str | os.PathLike) else checked_list("path", path, "paths of captures")
        return cls.from_captures([Capture.load(checked_path("path", one)) for one in paths], **options)


def _one_window_vmas(
    mms: npt.NDArray[np.int64], start: int, pages: int, pgoff: int, flags: int, tables: int
) -> dict[str, npt.NDArray[Any]]:
    """Return the VMA arrays and table states of mms that map the same range in one VMA each."""
    nr = len(mms)
    end = start + pages
    fixed = {"vma_start": start, "vma_end": end, "vma_pgoff": pgoff, "vma_flags": flags}
    fixed |= {"vma_window_start": start, "vma_window_end": end}
    arrays: dict[str, npt.NDArray[Any]] = {name: np.full(nr, value, ARRAYS[name]) for name, value in fixed.items()}
    arrays["vma_mm"] = mms.astype(np.uint32)
    arrays["vma_pte_base"] = (mms * pages).astype(np.uint64)
    arrays["vma_table_base"] = (mms * tables).astype(np.uint64)
    arrays["table_state"] = np.zeros(nr * tables, np.uint8)
    return arrays


def _check_array(name: str, array: Any, dtype: type[np.generic], ndim: int) -> None:
    """Raise TypeError unless `array` is a C-contiguous native array of this dtype and number of dimensions."""
    word = dtype.__name__
    if type(array) is not np.ndarray:  # what a subclass holds may be something else than its memory
        raise TypeError(
            f"{name}: expected a C-contiguous {word} array, got {type(array).__name__}; convert with np.array"
        )
    if array.dtype != dtype or not array.dtype.isnative or not array.flags.c_contiguous or array.ndim != ndim:
        layout = "" if array.flags.c_contiguous else ", not C-contiguous"
        hint = f"np.ascontiguousarray({name}, np.{word})" if array.dtype == dtype else f"{name}.astype(np.{word})"
        raise TypeError(
            f"{name}: expected a C-contiguous {word} array, got {array.dtype} with shape {array.shape}{layout}; "
            f"convert with {hint}"
        )
    if name == "mm_rss" and array.shape[1] != 4:
        raise TypeError(f"{name}: expected shape (mms, 4), got {array.shape}")


def _integers(name: str, values: npt.ArrayLike, size: int | None, low: int, high: int) -> npt.NDArray[Any]:
    """Return a 1-D array of integers from `low` to `high`; one number is repeated `size` times."""
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
