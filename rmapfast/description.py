"""Described populations: the arguments of Population.synthetic(), and what follows from them without an array."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import SimpleNamespace

from rmapfast import _core
from rmapfast import arch as _arch
from rmapfast._layout import MAX_ORDER, MAX_PAGES, format_orders, parse_orders
from rmapfast.flags import FolioFlag, VmaFlag
from rmapfast.support import checked_boolean, checked_choice, checked_integer, checked_rate, format_size, parse_size

MAX_DESCRIBED_PAGES = 1 << 44
# Layout of a synthetic population: aligned to the largest folio and to the largest page table.
_VPN_BASE = 0x7F0000000
_PFN_BASE = 0x100000
_RATES = ("mapped", "holes", "young", "dirty", "write", "soft_dirty", "uffd_wp", "mlocked", "folio_dirty")


@dataclass(frozen=True)
class Kind:
    """What a kind of synthetic folio sets: flags, PTE defaults and the mm counter it is charged to."""

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


class Description:
    """A population that is described, not made: :meth:`Population.described` returns one.

    Parameters
    ----------
    given : mapping
        Every argument of :meth:`Population.synthetic`.

    Attributes
    ----------
    arch : Arch
        What it is described for.
    pages : int
        Base pages of the mapping.
    assumptions : dict
        The arguments as used.

    Raises
    ------
    TypeError, ValueError
        For an argument that does not fit; the message names it.
    """

    source = "synthetic"
    input_hash = None

    def __init__(self, given: Mapping):
        what = _check_description(dict(given))
        self.what = what
        self.arch = what.arch
        self.pages = what.pages
        self.page_shift = what.arch.page_shift
        self.ptrs_per_pte = what.arch.ptrs_per_pte
        self.cont_ptes = what.arch.cont_ptes
        fill = _core.described_fill(self.fields())
        self.assumptions = _describe_arguments(what, given) | ({"fill": _fill_note(fill)} if fill else {})

    def fields(self) -> dict:
        """Return struct rmf_description, csrc/populate.h."""
        what = self.what
        vpn = _VPN_BASE + what.phase
        falling = sorted(what.mix, reverse=True)
        return {
            "pages": what.pages,
            "seed": what.seed,
            "vpn": vpn,
            "pgoff": vpn if what.anon else 0,
            "pfn_base": _PFN_BASE,
            "ptrs_per_pte": self.ptrs_per_pte,
            "cont_ptes": self.cont_ptes if what.cont else 1,
            "order": falling,
            "weight": _whole_weights([what.mix[order] for order in falling]),
            "aligned": what.aligned,
            "anon": what.anon,
            "exclusive": what.anon and not what.cow,
            "folio_flags": what.kind_of.folio_flags | (FolioFlag.ACTIVE if what.active else 0),
            "vma_flags": _synthetic_vma_flags(what),
            "sharing": what.sharing,
            "external": what.external,
            "rss_counter": what.kind_of.counter,
            "every": what.every,
        } | {name: 0.0 if name == "holes" and what.every else getattr(what, name) for name in _RATES}

    def orders(self) -> dict[int, int]:
        """Return order -> number of folios, those included that nothing maps."""
        counts = _core.described_orders(self.fields())
        return {order: count for order, count in enumerate(counts) if count}

    @property
    def nr_folios(self) -> int:
        """Number of folios, those included that nothing maps."""
        return sum(self.orders().values())

    def describe(self) -> dict:
        """Return :meth:`Population.describe` of the population; None where it has to be made to know."""
        what, orders = self.what, self.orders()
        folios = sum(orders.values())
        # an anonymous folio that nothing maps does not exist, and holes may leave nothing of one
        exact = not what.anon or (what.mapped == 1 and not what.holes)
        on_lists = folios if what.mlocked == 0 and exact else 0 if what.mlocked == 1 else None
        present = what.sharing * what.pages if what.mapped == 1 and not what.holes else None
        return {
            "source": self.source,
            "pages": what.pages if exact else None,
            "folios": folios if exact else None,
            "bytes": what.size if exact else None,
            "orders": {str(order): count for order, count in orders.items()} if exact else None,
            "kinds": {what.kind: folios if exact else None},
            "mms": what.sharing,
            "vmas": what.sharing,
            "ptes": what.sharing * what.pages,
            "ptes_present": present,
            "inactive": 0 if what.active else on_lists,
            "active": on_lists if what.active else 0,
            "ptrs_per_pte": self.ptrs_per_pte,
            "page_size": 1 << self.page_shift,
            "nbytes": 0,
            "input_hash": None,
            "assumptions": dict(self.assumptions),
        }

    def __repr__(self):
        return f"<Description {format_size(self.what.size)} of {self.what.kind}, orders {format_orders(self.what.mix)}>"


def _fill_note(pages: int) -> str:
    orders = ", ".join(str(order) for order in range(pages.bit_length() - 1, -1, -1) if pages >> order & 1)
    return f"the last {pages} pages do not fit the mix: folios of orders {orders}"


def _whole_weights(weights: list[Fraction]) -> list[int]:
    """Return whole numbers in the same proportion, or nearly, with a sum of at most 2^32."""
    common = math.lcm(*(weight.denominator for weight in weights))
    whole = [int(weight * common) for weight in weights]
    if sum(whole) > 1 << 32:
        whole = [max(int(weight * ((1 << 32) - len(weights)) / sum(weights)), 1) for weight in weights]
    return whole


def _check_description(given: dict) -> SimpleNamespace:
    """Return the arguments of :meth:`Population.synthetic`, checked and with defaults filled in.

    Besides: ``pages`` (of the mapping), ``mix`` (parsed orders), ``kind_of``, ``anon``, ``cow`` (anonymous pages that
    are not exclusive) and ``every`` (K of holes as "every:K", else 0).
    """
    what = SimpleNamespace(**given)
    what.arch = _arch.get(given["arch"])
    what.kind_of = KINDS[checked_choice("kind", what.kind, KINDS)]
    what.size = parse_size(given["size"])
    what.pages = what.size >> what.arch.page_shift
    if what.size % what.arch.page_size or not 0 < what.pages < MAX_DESCRIBED_PAGES:
        raise ValueError(
            f"size: expected a multiple of the {what.arch.page_size} byte page, 1 to 2^44 - 1 pages, "
            f"got {given['size']!r}"
        )
    what.mix = parse_orders(what.orders)
    what.anon = bool(what.kind_of.folio_flags & FolioFlag.ANON)
    for name, low, high in (
        ("sharing", 1, 1 << 20),
        ("external", 0, (1 << 16) - 1),
        ("phase", 0, (1 << MAX_ORDER) - 1),
        ("seed", 0, (1 << 64) - 1),
    ):
        setattr(what, name, checked_integer(name, given[name], low, high))
    if what.external + what.sharing >= 1 << (31 - max(what.mix)):
        raise ValueError(
            f"sharing: expected less than 2^31 mappings of a folio, got {what.sharing} and external {what.external}"
        )
    what.cow = what.anon and (what.sharing > 1 or what.external > 0)
    for name in ("write", "dirty"):
        if given[name] is None:
            setattr(what, name, 0.0 if what.cow else getattr(what.kind_of, name))
    for name in ("write", "dirty", "young", "soft_dirty", "uffd_wp", "mapped", "mlocked", "folio_dirty"):
        setattr(what, name, checked_rate(name, getattr(what, name)))
    what.every = _every(what.holes) if isinstance(what.holes, str) else 0
    what.holes = what.holes if what.every else checked_rate("holes", what.holes)
    if what.uffd_wp_vma is None:
        what.uffd_wp_vma = what.uffd_wp > 0
    if what.shared is None:
        what.shared = not what.anon
    for name in ("uffd_wp_vma", "shared", "aligned", "active", "shuffle", "cont", "exec", "droppable"):
        setattr(what, name, checked_boolean(name, getattr(what, name)))
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


def _synthetic_vma_flags(what: SimpleNamespace) -> int:
    flags = what.kind_of.vma_flags & ~VmaFlag.SHARED
    for flag, value in (
        (VmaFlag.SHARED, what.shared),
        (VmaFlag.UFFD_WP, what.uffd_wp_vma),
        (VmaFlag.EXEC, what.exec),
        (VmaFlag.DROPPABLE, what.droppable),
        (VmaFlag.LOCKED, what.mlocked == 1),
    ):
        flags |= flag if value else 0
    return flags
