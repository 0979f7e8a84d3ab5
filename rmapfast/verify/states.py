"""The small states that the C library enumerates (csrc/check_states.h), with names for what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import rmapfast._core as _core
from rmapfast.arch import Arch
from rmapfast.policy import Policy


@dataclass(frozen=True)
class VmaRange:
    """The VMA of a state.

    Parameters
    ----------
    start, end : int
        Virtual page numbers, end exclusive.
    pgoff : int
        Page offset of `start`.
    flags : int
        :class:`rmapfast.flags.VmaFlag` bits.
    """

    start: int
    end: int
    pgoff: int
    flags: int


@dataclass(frozen=True)
class State:
    """One folio in one VMA, and how it is unmapped.

    Parameters
    ----------
    ptes : sequence of int
        The entries of whole page tables, from `first_vpn` on.
    first_vpn : int
        Virtual page number of the first entry.
    ptrs_per_pte : int
        Entries per page table.
    vma : VmaRange
    folio_flags : int
        :class:`rmapfast.flags.FolioFlag` bits.
    order, refcount : int
        Order of the folio, and its references.
    page_mapcount, page_flags : sequence of int
        Per page: how many entries map it, and its :class:`rmapfast.flags.PageFlag` bits.
    ttu : int
        Bits of ``_core.TTU_FLAGS``.
    guard : {'none', 'contiguous'}
        What lies in memory behind each page table: zeros, or entries that continue its last one.
    cont_ptes : int
        Entries of a contpte block, 1 without contpte.
    """

    ptes: Sequence[int]
    first_vpn: int
    ptrs_per_pte: int
    vma: VmaRange
    folio_flags: int
    order: int
    refcount: int
    page_mapcount: Sequence[int]
    page_flags: Sequence[int]
    ttu: int
    guard: str
    cont_ptes: int = 1


@dataclass(frozen=True)
class Family:
    """The states of folios of one size and kind in one kind of VMA.

    Parameters
    ----------
    pages : int
        Pages of the folio.
    kind : str
        Kind of the folio, out of :data:`rmapfast.flags.FOLIO_KINDS`.
    bits : str
        How much a slot varies, out of ``_core.CHECK_LEVELS``.
    anon_vma, uffd_wp : bool
        Whether the VMA is anonymous, and whether userfaultfd write-protects in it.
    folded : bool
        Whether the states are those with a folded contpte block of two entries. Drawn states may have blocks of any
        size.
    symbols, conditions, exclusive : int
        How many entries a slot can hold, how many conditions of folio, VMA and TTU flags there are, and how many
        patterns of anon-exclusive marks. All are 0 for drawn states.
    states : int
        How many numbers the states have; some are equal to others.
    """

    pages: int
    kind: str
    bits: str
    anon_vma: bool
    uffd_wp: bool
    folded: bool
    symbols: int
    conditions: int
    exclusive: int
    states: int

    def __str__(self) -> str:
        """The family in words."""
        vma = "anonymous" if self.anon_vma else "file"
        wp = ", uffd-wp" if self.uffd_wp else ""
        folded = ", contpte" if self.folded else ""
        return f"{self.pages} page(s), {self.kind} in {vma} VMA{wp} ({self.bits}{folded})"


@dataclass(frozen=True)
class Class:
    """The states in which one policy violates one invariant: how many, and one of them.

    Parameters
    ----------
    count : int
    first : int
        The lowest number of one that a kernel can reach; of any if it can reach none.
    reachable : bool
    """

    count: int
    first: int
    reachable: bool


@dataclass(frozen=True)
class Found:
    """What one policy did wrong in a range of states.

    Parameters
    ----------
    violating : int
        States with a violation that is not documented.
    classes : dict of str to Class
        By invariant.
    batches : dict of int to int
        How many batches of present entries it unmapped, by their length.
    """

    violating: int
    classes: dict[str, Class]
    batches: dict[int, int]


@dataclass(frozen=True)
class Tried:
    """What trying a range of states gave: the distinct states, and what was found for each policy."""

    states: int
    found: tuple[Found, ...]


class Scope:
    """Every small state up to a bound, and drawn states of larger folios, by family.

    A number always means the same state, for one seed.

    Parameters
    ----------
    pages : {1, 2, 4, 8}
        Largest folio.
    all_bits : bool
        Folios of 4 pages vary in every bit and kind of entry too.
    unreachable : bool
        Also states that user space cannot make.
    drawn, seed : int
        How many states are drawn of each kind of folio of 1 to 32 pages in each kind of VMA, and from which seed.
    """

    def __init__(self, pages: int, *, all_bits: bool = False, unreachable: bool = False, drawn: int = 0, seed: int = 0):
        self._scope = _core.CheckScope(pages, all_bits, unreachable, drawn, seed)
        self.families = tuple(Family(**self._scope.family(number)) for number in range(len(self._scope)))

    def state(self, family: int, index: int) -> State | None:
        """Return a state of a family by its number, or None if it is equal to another state."""
        fields = self._scope.state(family, index)
        return None if fields is None else State(**fields | {"vma": VmaRange(*fields["vma"])})

    def run(self, family: int, first: int, end: int, oracle: Policy, policies: Sequence[Policy], arch: Arch) -> Tried:
        """Unmap the states `first` to `end` (exclusive) of a family under some policies and compare with the oracle."""
        states, found = self._scope.run(family, first, end, oracle, policies, arch)
        return Tried(
            states,
            tuple(
                Found(violating, {name: Class(*one) for name, one in classes.items()}, batches)
                for violating, classes, batches in found
            ),
        )
