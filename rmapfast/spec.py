"""Described populations: the arguments that describe one, and what follows from them without making its arrays."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any

import rmapfast._core as _core
from rmapfast import arch as _arch
from rmapfast.flags import FolioFlag, VmaFlag
from rmapfast.layout import MAX_ORDER, MAX_PAGES, RATES, window_folds
from rmapfast.lru import checked_history
from rmapfast.support import (
    Figure,
    HtmlPart,
    Share,
    checked_boolean,
    checked_choice,
    checked_integer,
    checked_rate,
    checked_seed,
    closest,
    format_size,
    html_of,
    page_multiple,
    parse_size,
)

MAX_DESCRIBED_PAGES = 1 << 44
# First virtual page and first PFN of a described population: aligned to the largest folio and the largest page table.
_VPN_BASE = 0x7F0000000
_PFN_BASE = 0x100000

# A share of the memory, in any unit.
Weight = float | str | Fraction


@dataclass(frozen=True)
class Kind:
    """What a kind of folio implies.

    Parameters
    ----------
    folio_flags, vma_flags : int
        :class:`rmapfast.flags.FolioFlag` and :class:`rmapfast.flags.VmaFlag` bits.
    write, dirty : float
        Default fraction of the PTEs with the bit.
    counter : int
        Column of ``Population.mm_rss`` that counts the pages.
    """

    folio_flags: int
    vma_flags: int
    write: float
    dirty: float
    counter: int


KINDS = {
    "file": Kind(0, VmaFlag.SHARED, 0.0, 0.0, 0),
    "lazyfree": Kind(FolioFlag.ANON, VmaFlag.ANON, 1.0, 0.0, 1),
    "anon": Kind(FolioFlag.ANON | FolioFlag.SWAPBACKED, VmaFlag.ANON, 1.0, 1.0, 1),
    "shmem": Kind(FolioFlag.SWAPBACKED, VmaFlag.SHARED, 1.0, 1.0, 3),
}


@dataclass(frozen=True)
class PopulationSpec:
    """The description of a population: one mapping of ``size``, present in ``sharing`` processes.

    :func:`rmapfast.reclaim` generates a described population block by block where that is possible, so it may be larger
    than the memory. :meth:`rmapfast.Population.of` makes all its arrays.

    Parameters
    ----------
    size : int or str
        Bytes, or text such as "10GiB"; a multiple of the base page. The size is met exactly: where the order mix does
        not fit, the last pages are folios of smaller orders (``assumptions["fill"]``).
    arch : str or Arch
        Determines the page size, the PTEs per table and the contpte block.
    kind : {'file', 'lazyfree', 'anon', 'shmem'}
        * ``file``: page cache, references = pages + mapcount + external; VMA shared, PTEs read-only and clean.
        * ``lazyfree``: anonymous, not swapbacked, PTEs writable and clean, pages exclusive, references = mapcount.
          They are young by default; right after MADV_FREE they would not be (``young=0``).
        * ``anon``: anonymous, swapbacked, PTEs writable and dirty, pages exclusive, references = mapcount.
        * ``shmem``: swapbacked page cache, references as ``file``; VMA shared, PTEs writable and dirty.

        With ``sharing`` or ``external`` above 0, anonymous pages are not exclusive and by default read-only (after
        a fork).
    orders : int, str or mapping
        One order from 0 to 13, or weights: ``"0:10,4:70,9:20"`` or ``{0: 10, 4: 70, 9: 20}``, as shares of memory.
        One order: folios in address order. A mix is met within each block of 2^14 pages, where the folios are
        placed at random.
    aligned : bool
        Place the folios of a mix naturally aligned in the mapping. If False, they follow each other in random order.
        PFNs are naturally aligned in any case.
    phase : int
        Pages, 0 to 8191, by which the mapping is shifted against natural alignment.
    mapped : float
        Fraction of the folios that are mapped. Anonymous folios that are not mapped do not exist.
    holes : float or "every:K"
        Fraction of the PTEs that are zapped. ``every:K`` zaps those of the pages i of the mapping with
        ``i % K == 0``. An anonymous folio with holes is PARTIALLY_MAPPED; one without any PTE does not exist.
    sharing : int
        Processes, each with its own mm, VMA and PTEs, at the same addresses.
    young, dirty, write, soft_dirty, uffd_wp : float
        Fraction of the PTEs with the bit. ``dirty`` and ``write`` default by kind. A uffd-wp PTE is never writable.
    uffd_wp_vma : bool, optional
        Whether the VMA is registered for userfaultfd write protection; default: if ``uffd_wp`` is above 0.
    mlocked : float
        Fraction of the folios that are mlocked and unevictable, so on no LRU list. The VMA is locked only if the
        fraction is 1.
    folio_dirty : float
        Fraction of the folios that are dirty.
    active : bool
        Put all folios on the active list instead of the inactive one.
    shuffle : bool
        Order the LRU list by a seeded permutation instead of by address.
    external : int
        Further mappings of each page, by processes outside the population.
    cont : bool
        Set CONT in each contpte block that the kernel would fold.
    fault_around : int, str or "folio"
        How file and shmem folios were mapped, on which contpte blocks depend: a page fault mapped an aligned window of
        so many bytes, as v6.12 does (``64KiB`` unless debugfs says otherwise), or the whole folio, as v7.2 does. A
        window of several pages that is smaller than a contpte block folds none.
    exec, droppable : bool
        VMA flags.
    shared : bool, optional
        VMA flag SHARED; default: for file and shmem.
    history : str
        How the folios came to their lists, for MGLRU: steps of :data:`rmapfast.lru.HISTORY` in order, such as
        ``"written,populated,cleared"``. By default file and shmem folios were written, anonymous ones faulted in, and
        lazyfree ones freed after that.
    seed : int, or what :func:`numpy.random.default_rng` takes
        0 to 2^64 - 1. For anything else, such as a ``SeedSequence``, a ``Generator`` or None (another population each
        time), a seed is drawn from it. The attribute holds the number, which gives the same population again.

    Attributes
    ----------
    mix : dict of int to Fraction
        Weight of each order in ``orders``.
    every : int
        K of ``holes="every:K"``, else 0.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong type or out of range; the message names it.

    Examples
    --------
    >>> spec = PopulationSpec("1GiB", orders="0:10,4:70,9:20", holes=0.01)
    >>> spec.pages, spec.nr_folios > 0
    (262144, True)
    """

    size: int | str = "10GiB"
    _: KW_ONLY
    arch: str | _arch.Arch = "x86-64"
    kind: str = "file"
    orders: int | str | Mapping[int, Weight] = 4
    aligned: bool = True
    phase: int = 0
    mapped: float = 1.0
    holes: float | str = 0.0
    sharing: int = 1
    young: float = 1.0
    dirty: float | None = None
    write: float | None = None
    soft_dirty: float = 0.0
    uffd_wp: float = 0.0
    uffd_wp_vma: bool | None = None
    mlocked: float = 0.0
    folio_dirty: float = 0.0
    active: bool = False
    shuffle: bool = False
    external: int = 0
    cont: bool = True
    fault_around: int | str = "folio"
    exec: bool = False
    droppable: bool = False
    shared: bool | None = None
    history: str = ""
    seed: int = 0
    mix: dict[int, Fraction] = field(init=False, repr=False, compare=False)
    every: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check every argument and fill in the defaults that depend on other arguments."""
        used: dict[str, Any] = {"arch": _arch.get(self.arch)}
        page_size = used["arch"].page_size
        checked_choice("kind", self.kind, KINDS)
        used["size"] = page_multiple(self.size, page_size)
        if not 0 < used["size"] // page_size < MAX_DESCRIBED_PAGES:
            raise ValueError(f"size: expected 1 to 2^44 - 1 pages of {page_size} bytes, got {self.size!r}")
        used["mix"] = parse_orders(self.orders)
        for name, low, high in (
            ("sharing", 1, 1 << 20),
            ("external", 0, (1 << 16) - 1),
            ("phase", 0, (1 << MAX_ORDER) - 1),
        ):
            used[name] = checked_integer(name, getattr(self, name), low, high)
        used["seed"] = checked_seed("seed", self.seed)
        if used["external"] + used["sharing"] >= 1 << (31 - max(used["mix"])):
            raise ValueError(
                f"sharing: expected less than 2^31 mappings of a folio, got {self.sharing} and external {self.external}"
            )
        used["history"] = ",".join(checked_history(self.history))
        used["fault_around"] = self.fault_around
        if not (isinstance(self.fault_around, str) and self.fault_around == "folio"):
            window = parse_size(self.fault_around, "fault_around")
            if window < page_size or window & (window - 1):
                raise ValueError(
                    f"fault_around: expected 'folio' or a power of two of at least a page ({page_size} bytes), such as "
                    f'"64KiB", got {self.fault_around!r}'
                )
            used["fault_around"] = window
        self._set(used)
        for name in ("write", "dirty"):
            if getattr(self, name) is None:
                self._set({name: 0.0 if self.cow else getattr(KINDS[self.kind], name)})
        self._set({name: checked_rate(name, getattr(self, name)) for name in RATES if name != "holes"})
        self._set({"every": _every(self.holes) if isinstance(self.holes, str) else 0})
        if not self.every:
            self._set({"holes": checked_rate("holes", self.holes)})
        if self.uffd_wp_vma is None:
            self._set({"uffd_wp_vma": self.uffd_wp > 0})
        if self.shared is None:
            self._set({"shared": not self.anon})
        for name in ("uffd_wp_vma", "shared", "aligned", "active", "shuffle", "cont", "exec", "droppable"):
            self._set({name: checked_boolean(name, getattr(self, name))})
            if name == "uffd_wp_vma" and self.uffd_wp and not self.uffd_wp_vma:
                raise ValueError(f"uffd_wp_vma: expected True or None with uffd_wp={self.uffd_wp}, got False")

    def _set(self, values: Mapping[str, Any]) -> None:
        """Set fields of this frozen dataclass while it is made."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    # What follows from the arguments

    @property
    def bytes(self) -> int:
        """Size of the mapping in bytes."""
        return parse_size(self.size)

    @property
    def pages(self) -> int:
        """Base pages of the mapping."""
        return self.bytes >> self.page_shift

    @property
    def page_shift(self) -> int:
        """log2 of the base page size in bytes."""
        return _arch.get(self.arch).page_shift

    @property
    def ptrs_per_pte(self) -> int:
        """Entries per page table."""
        return _arch.get(self.arch).ptrs_per_pte

    @property
    def cont_ptes(self) -> int:
        """Entries of a contpte block, 1 if the architecture has none."""
        return _arch.get(self.arch).cont_ptes

    @property
    def anon(self) -> bool:
        """Whether the folios are anonymous."""
        return bool(KINDS[self.kind].folio_flags & FolioFlag.ANON)

    @property
    def cow(self) -> bool:
        """Whether the pages are anonymous and mapped more than once, so that none is exclusive."""
        return self.anon and (self.sharing > 1 or self.external > 0)

    @property
    def source(self) -> str:
        """The origin that results name."""
        return "synthetic"

    @property
    def input_hash(self) -> None:
        """Always None: no file was read."""
        return None

    @cached_property
    def assumptions(self) -> dict[str, Any]:
        """The arguments with their defaults filled in, and under ``fill`` a note on pages that do not fit the mix."""
        used = {one.name: getattr(self, one.name) for one in dataclasses.fields(self) if one.init}
        used |= {
            "size": format_size(self.bytes),
            "arch": _arch.get(self.arch).name,
            "orders": format_orders(self.mix),
            "fault_around": self.fault_around if self.fault_around == "folio" else format_size(int(self.fault_around)),
        }
        fill = _core.described_fill(self)
        return used | ({"fill": _fill_note(fill)} if fill else {})

    # What the C library takes (struct rmf_description, csrc/populate.h)

    @property
    def vpn(self) -> int:
        """First virtual page number of the mapping."""
        return _VPN_BASE + self.phase

    @property
    def pgoff(self) -> int:
        """Page offset of the mapping in the file, or in the anonymous linear index."""
        return self.vpn if self.anon else 0

    @property
    def pfn_base(self) -> int:
        """PFN of the first page."""
        return _PFN_BASE

    @property
    def block_ptes(self) -> int:
        """Entries of the contpte blocks in which CONT is set, 1 where it is not."""
        if not self.cont:
            return 1
        if self.anon or self.fault_around == "folio":
            return self.cont_ptes
        return self.cont_ptes if window_folds(int(self.fault_around) >> self.page_shift, self.cont_ptes) else 1

    @cached_property
    def weights(self) -> dict[int, int]:
        """Share of the memory of each order, largest order first, as whole numbers with a sum of at most 2^32."""
        falling = sorted(self.mix, reverse=True)
        return dict(zip(falling, _whole_weights([self.mix[order] for order in falling]), strict=True))

    @property
    def exclusive(self) -> bool:
        """Whether every page is anonymous and exclusive."""
        return self.anon and not self.cow

    @property
    def folio_flags(self) -> int:
        """Flags of every folio, but for those that are drawn."""
        several = self.sharing > 1 or self.external > 0
        return (
            KINDS[self.kind].folio_flags
            | (FolioFlag.ACTIVE if self.active else 0)
            | (FolioFlag.MAYBE_SHARED if several else 0)
        )

    @property
    def vma_flags(self) -> int:
        """Flags of the VMA in each process."""
        flags = KINDS[self.kind].vma_flags & ~VmaFlag.SHARED
        for flag, value in (
            (VmaFlag.SHARED, self.shared),
            (VmaFlag.UFFD_WP, self.uffd_wp_vma),
            (VmaFlag.EXEC, self.exec),
            (VmaFlag.DROPPABLE, self.droppable),
            (VmaFlag.LOCKED, self.mlocked == 1),
        ):
            flags |= flag if value else 0
        return flags

    @property
    def rss_counter(self) -> int:
        """Column of ``mm_rss`` to which the mapping is charged."""
        return KINDS[self.kind].counter

    # What it holds

    def folios_by_order(self) -> dict[int, int]:
        """Return order -> number of folios, unmapped ones included.

        Returns
        -------
        dict of int to int
        """
        counts = _core.described_orders(self)
        return {order: count for order, count in enumerate(counts) if count}

    @property
    def nr_folios(self) -> int:
        """Number of folios, unmapped ones included."""
        return sum(self.folios_by_order().values())

    def describe(self) -> dict[str, Any]:
        """Return what :meth:`rmapfast.Population.describe` does, with None for numbers that need the arrays.

        Returns
        -------
        dict
            The same keys.
        """
        orders = self.folios_by_order()
        folios = sum(orders.values())
        # Anonymous folios that nothing maps do not exist, and holes may unmap a whole folio.
        exact = not self.anon or (self.mapped == 1 and not self.holes)
        on_lists = folios if self.mlocked == 0 and exact else 0 if self.mlocked == 1 else None
        present = self.sharing * self.pages if self.mapped == 1 and not self.holes else None
        return {
            "source": self.source,
            "pages": self.pages if exact else None,
            "folios": folios if exact else None,
            "bytes": self.bytes if exact else None,
            "orders": {str(order): count for order, count in orders.items()} if exact else None,
            "kinds": {self.kind: folios if exact else None},
            "mms": self.sharing,
            "vmas": self.sharing,
            "ptes": self.sharing * self.pages,
            "ptes_present": present,
            "inactive": 0 if self.active else on_lists,
            "active": on_lists if self.active else 0,
            "ptrs_per_pte": self.ptrs_per_pte,
            "page_size": 1 << self.page_shift,
            "nbytes": 0,
            "input_hash": None,
            "assumptions": dict(self.assumptions),
        }

    def _repr_html_(self) -> str:
        """Return what a notebook shows of the population that it describes."""
        return described_html("PopulationSpec", self.describe())

    def __repr__(self) -> str:
        return f"<PopulationSpec {format_size(self.bytes)} of {self.kind}, orders {format_orders(self.mix)}>"


def described(size: int | str, arguments: Mapping[str, Any]) -> PopulationSpec:
    """Return the description with these arguments; an unknown name is a TypeError that has the nearest known one."""
    known = [one.name for one in dataclasses.fields(PopulationSpec) if one.init and one.name != "size"]
    for name in arguments:
        if name not in known:
            raise TypeError(f"{name}: no such argument{closest(name, known)}; known are {', '.join(known)}")
    return PopulationSpec(size, **arguments)


def described_html(kind: str, described: Mapping[str, Any]) -> str:
    """Return what a notebook shows of a population that ``describe()`` described.

    Parameters
    ----------
    kind : str
        The class of what is shown.
    described : mapping
    """
    sizes = {name: value for name, value in described.items() if name not in ("orders", "kinds", "assumptions")}
    pages = max(described["pages"], 1)
    orders = [
        (
            Figure(order),
            Figure(format_size(described["page_size"] << int(order))),
            folios,
            Share((folios << int(order)) / pages),
        )
        for order, folios in described["orders"].items()
    ]
    memory = f"{format_size(described['bytes'])} in {described['folios']:,} folios"
    parts = [
        HtmlPart("folios by order", orders, ("order", "size", "folios", "of the memory"), open=True),
        HtmlPart("folios by kind", list(described["kinds"].items()), ("kind", "folios"), open=True),
        HtmlPart("sizes", list(sizes.items())),
        HtmlPart("assumed", list(described["assumptions"].items()), more=f"{len(described['assumptions'])} arguments"),
    ]
    return html_of(kind, str(described["source"]), memory, parts)


def parse_orders(orders: int | str | Mapping[int, Weight]) -> dict[int, Fraction]:
    """Return order -> weight (share of memory).

    Parameters
    ----------
    orders : int, str or mapping
        One order; text such as ``"0:10,4:70,9:20"``; or weights by order.

    Raises
    ------
    ValueError
        If it is none of these, an order is out of range or named twice, or no weight is above 0.
    """
    usage = f'expected an order from 0 to {MAX_ORDER}, "order:weight,..." or a mapping from order to weight'
    pairs: list[tuple[int | str, Weight]]
    if isinstance(orders, str):
        entries = [entry.partition(":") for entry in orders.split(",")]
        pairs = [(order.strip(), weight.strip() if colon else "1") for order, colon, weight in entries]
    else:
        pairs = list(orders.items()) if isinstance(orders, Mapping) else [(orders, 1)]
    mix: dict[int, Fraction] = {}
    for order, weight in pairs:
        try:
            number = int(order) if isinstance(order, str) else operator.index(order)
            share = Fraction(weight)
        except (TypeError, ValueError, OverflowError, ZeroDivisionError):
            raise ValueError(f"orders: {usage}, got {orders!r}") from None
        if not 0 <= number <= MAX_ORDER or share < 0 or number in mix:
            raise ValueError(f"orders: {usage}, orders once each and weights not negative, got {orders!r}")
        mix[number] = share
    mix = {order: share for order, share in mix.items() if share}
    if not mix:
        raise ValueError(f"orders: {usage}, one weight at least above 0, got {orders!r}")
    return mix


def format_orders(mix: dict[int, Fraction]) -> str:
    """Return an order mix as text that :func:`parse_orders` reads."""
    return ",".join(f"{order}:{float(share):g}" if len(mix) > 1 else str(order) for order, share in mix.items())


def _every(holes: str) -> int:
    """Return K of ``every:K``."""
    name, _, text = holes.partition(":")
    if name != "every" or not text.isascii() or not text.isdigit() or not 1 <= int(text) < MAX_PAGES:
        raise ValueError(f'holes: expected a rate from 0 to 1 or "every:K" with K from 1, got {holes!r}')
    return int(text)


def _fill_note(pages: int) -> str:
    """Return what ``assumptions["fill"]`` says of the last pages."""
    orders = ", ".join(str(order) for order in range(pages.bit_length() - 1, -1, -1) if pages >> order & 1)
    return f"the last {pages} pages do not fit the mix: folios of orders {orders}"


def _whole_weights(weights: list[Fraction]) -> list[int]:
    """Return integers in the same proportion, rounded if need be, so that their sum is at most 2^32."""
    common = math.lcm(*(weight.denominator for weight in weights))
    whole = [int(weight * common) for weight in weights]
    if sum(whole) > 1 << 32:
        whole = [max(int(weight * ((1 << 32) - len(weights)) / sum(weights)), 1) for weight in weights]
    return whole
