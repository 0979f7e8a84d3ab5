"""The small states in which folios are split: two folios next to each other, and what is done to a range of them.

docs/checker.md lists the scope. A state is a handful of words, so that it can be printed, kept as JSON and built again.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from rmapfast import arch as _arch
from rmapfast import pte
from rmapfast.arch import Arch
from rmapfast.flags import FolioFlag, PageFlag, TableState, VmaFlag
from rmapfast.population import ARRAYS, Population
from rmapfast.spec import KINDS
from rmapfast.swap import Swap

# Entries of a page table. A border lies in front of any page.
TABLE = 8
LEAF_ORDER = 3
# Page table that the first page lies in, for the two processes. Their page numbers differ, so that a trace tells which.
FIRST_TABLES = (2, 102)
# Page offset and PFN of the second folio if it is the larger one, else of the first. Aligned for every order.
ORIGIN = 256
# Slots that are in use from the start: those of swap entries, and those of folios in the swap cache.
OLD_SLOTS, CACHED_SLOTS = 1 << 20, 1 << 21

# Bits of an entry by its letter. "z" maps a page that holds only zeroes, "p" a poisoned page.
LETTERS = {
    "w": ("write", "young", "dirty", "soft_dirty"),
    "r": ("young",),
    "o": ("write",),
    "d": ("write", "dirty"),
    "z": ("write", "dirty"),
    "p": ("write", "dirty"),
}
HOLE, SWAPPED = ".", "s"

ACTIONS = ("MADV_PAGEOUT", "MADV_COLD", "MADV_FREE", "reclaim")
CALLERS = ("owner", "other", "other, private")
HOLDERS = ("", "pinned", "reference", "dirty", "locked", "swapcache", "flagged")
# Free slots by name; "fragmented" has any number of slots and no run of them.
SWAPS = ("none", "1", "2", "3", "4", "5", "7", "unlimited", "fragmented")


@dataclass(frozen=True)
class SplitState:
    """Two folios, one behind the other, and a call.

    Parameters
    ----------
    kind : {'anon', 'lazyfree', 'file', 'shmem'}
    orders : tuple of int
        Of the folios.
    slots : str
        A letter per page: one of :data:`LETTERS`, ``.`` for a hole, or ``s`` for a swap entry in a hole.
    action : str
        One of :data:`ACTIONS`; ``reclaim`` is memory.reclaim.
    start, end : int
        The range, in pages from the first one on.
    swap : str
        One of :data:`SWAPS`.
    border : int
        A page-table border lies in front of this page; 0: in front of the first one.
    cut : int
        One VMA ends and the next begins in front of this page; 0: one VMA holds all pages.
    locked : int
        Number of the VMA that is mlocked; -1: none.
    second : str
        Which pages a second process maps: ``x`` or ``.`` per page; empty: none.
    holders : tuple of str
        Who holds each folio, or what is set in it: one of :data:`HOLDERS`.
    caller : str
        One of :data:`CALLERS`: whether the caller owns the file, and if not, whether the mapping is private.
    leaf : bool
        A PMD leaf of the first process maps the only folio, which has as many pages as a table has entries.
    """

    kind: str
    orders: tuple[int, ...]
    slots: str
    action: str
    start: int
    end: int
    swap: str = "unlimited"
    border: int = 0
    cut: int = 0
    locked: int = -1
    second: str = ""
    holders: tuple[str, ...] = ("", "")
    caller: str = "owner"
    leaf: bool = False

    @property
    def anon(self) -> bool:
        """Whether the folios are anonymous."""
        return self.kind in ("anon", "lazyfree")

    @property
    def possible(self) -> bool:
        """Whether a kernel can come to it, and the state is no other one in disguise."""
        if self.locked >= (2 if self.cut else 1) or (self.action == "MADV_FREE" and not self.anon):
            return False
        if self.leaf and not self._leaf_is_possible:
            return False
        if self.action == "reclaim" and (self.start, self.end) != (0, len(self.slots)):
            return False
        for folio, (first, pages) in enumerate(self.folios):
            slots, holder = self.slots[first : first + pages], self.holders[folio]
            mapped = set(slots) - {HOLE, SWAPPED} or "x" in self.second[first : first + pages]
            if self.anon and not mapped and holder:
                return False
            if pages == 1 and holder == "flagged":
                return False
            if holder == "swapcache" and (self.kind != "anon" or SWAPPED in slots):
                return False
            if holder == "swapcache" and self._has_hole(first, pages):
                return False  # docs/checker.md: the model keeps the slot of a page that nobody maps
            if holder == "flagged" and not self.anon:
                return False
        return not (SWAPPED in self.slots and not self.anon)

    @cached_property
    def folios(self) -> list[tuple[int, int]]:
        """First page and number of pages of each folio."""
        pages = [1 << order for order in self.orders]
        return [(sum(pages[:number]), size) for number, size in enumerate(pages)]

    @property
    def memory(self) -> SplitState:
        """The state without its call: states with the same memory have the same one."""
        caller = "other, private" if self.caller == "other, private" else "owner"
        return dataclasses.replace(self, action="", start=0, end=0, swap="", caller=caller)

    def _has_hole(self, first: int, pages: int) -> bool:
        """Whether nobody maps one of these pages."""
        second = self.second or HOLE * len(self.slots)
        return any(self.slots[page] == second[page] == HOLE for page in range(first, first + pages))

    @property
    def _leaf_is_possible(self) -> bool:
        """A leaf fills its table, and has one set of bits; what a fork shares is read-only."""
        bits = {frozenset(LETTERS.get(letter, ())) for letter in self.slots}
        shares = self.anon and bool(self.second)
        fits = self.orders == (LEAF_ORDER,) and not self.border and not self.cut
        return fits and len(bits) == 1 and not (shares and "write" in bits.pop())

    @property
    def per_page(self) -> SplitState:
        """The same memory in folios of one page each."""
        holders = tuple(
            "" if self.holders[folio] == "flagged" else self.holders[folio]
            for folio, order in enumerate(self.orders)
            for _ in range(1 << order)
        )
        return dataclasses.replace(self, orders=(0,) * len(self.slots), holders=holders, leaf=False)

    @property
    def device(self) -> Swap | None:
        """The swap device."""
        if self.swap == "none":
            return None
        if self.swap in ("unlimited", "fragmented"):
            return Swap(fragmented=self.swap == "fragmented")
        return Swap(int(self.swap))

    def to_case(self) -> dict[str, Any]:
        """Return the state as a document that serialises to JSON."""
        return {"split_state": dataclasses.asdict(self)}

    @classmethod
    def of_case(cls, case: dict[str, Any]) -> SplitState:
        """Return the state that :meth:`to_case` wrote.

        Raises
        ------
        TypeError, ValueError
            If the document does not describe a state.
        """
        fields: dict[str, Any] = dict(case["split_state"])
        fields |= {name: tuple(fields[name]) for name in ("orders", "holders")}
        state = cls(**fields)
        pages = sum(1 << order for order in state.orders)
        largest = LEAF_ORDER if state.leaf else LEAF_ORDER - 1
        for name, fits in (
            ("kind", state.kind in KINDS),
            ("orders", all(0 <= order <= largest for order in state.orders) and 0 < pages <= TABLE),
            ("slots", len(state.slots) == pages and set(state.slots) <= {*LETTERS, HOLE, SWAPPED}),
            ("action", state.action in ACTIONS),
            ("start", 0 <= state.start < state.end <= pages),
            ("swap", state.swap in SWAPS),
            ("border", 0 <= state.border < pages),
            ("cut", 0 <= state.cut < pages),
            ("second", len(state.second) in (0, pages) and set(state.second) <= {"x", HOLE}),
            ("holders", len(state.holders) == len(state.orders) and set(state.holders) <= set(HOLDERS)),
            ("caller", state.caller in CALLERS),
        ):
            if not fits:
                raise ValueError(f"{name}: no such state, got {getattr(state, name)!r}")
        return state

    def __str__(self) -> str:
        orders = " and ".join(map(str, self.orders))
        words = [
            f"{self.kind} of order{'s' if len(self.orders) > 1 else ''} {orders}: {self.slots}",
            f"{self.action} of {self.start} to {self.end}",
        ]
        words += ["PMD leaf"] if self.leaf else []
        words += [f"swap {self.swap}"] if self.swap != "unlimited" else []
        words += [f"table border at {self.border}"] if self.border else []
        words += [f"VMA border at {self.cut}"] if self.cut else []
        words += [f"VMA {self.locked} locked"] if self.locked >= 0 else []
        words += [f"second process maps {self.second}"] if self.second else []
        words += [f"folio {number} {holder}" for number, holder in enumerate(self.holders) if holder]
        words += [f"caller {self.caller}"] if self.caller != "owner" else []
        return ", ".join(words)


def toy_arch(arch: str | Arch) -> Arch:
    """Return an architecture with page tables of :data:`TABLE` entries, without contpte."""
    return dataclasses.replace(_arch.get(arch), ptrs_per_pte=TABLE, cont_ptes=1)


def split_population(state: SplitState) -> Population:
    """Return a state as a population of one or two processes, which must not be changed.

    States that differ in their call only share one.
    """
    return _population_of(state.memory)


# The states of a theme come memory by memory, each with all calls.
@lru_cache(maxsize=4)
def _population_of(state: SplitState) -> Population:
    kind = KINDS[state.kind]
    total = len(state.slots)
    processes = 2 if state.second else 1
    # the larger folio is aligned
    origin = ORIGIN - (1 << state.orders[0]) if len(state.orders) == 2 and state.orders[1] > state.orders[0] else ORIGIN
    mapped = [[letter in LETTERS for letter in state.slots], [letter == "x" for letter in state.second]]
    counts = [sum(row[page] for row in mapped[:processes]) for page in range(total)]

    words: list[int] = []
    for page, letter in enumerate(state.slots):
        if letter == SWAPPED:
            words.append(int(pte.make("swap", OLD_SLOTS + page, ["soft_dirty"])))
        elif letter == HOLE:
            words.append(0)
        else:
            bits = [bit for bit in LETTERS[letter] if not (bit == "write" and state.anon and counts[page] > 1)]
            words.append(int(pte.make("present", origin + page, bits)))
    if state.second:
        words += [int(pte.make("present", origin + page, [])) if mapped[1][page] else 0 for page in range(total)]

    arrays: dict[str, list[int]] = {name: [] for name in ARRAYS}
    arrays["ptes"] = words
    spans = [(0, state.cut), (state.cut, total)] if state.cut else [(0, total)]
    vma_flags = int(kind.vma_flags) & ~(int(VmaFlag.SHARED) if state.caller == "other, private" else 0)
    for process in range(processes):
        first = FIRST_TABLES[process] * TABLE + (-state.border % TABLE)
        for number, (low, high) in enumerate(spans):
            is_locked = process == 0 and number == state.locked
            row = {
                "vma_start": first + low,
                "vma_end": first + high,
                "vma_pgoff": origin + low,
                "vma_flags": vma_flags | (int(VmaFlag.LOCKED) if is_locked else 0),
                "vma_mm": process,
                "vma_pte_base": process * total + low,
                "vma_window_start": first,
                "vma_window_end": first + total,
                "vma_table_base": len(arrays["table_state"]),
            }
            for name, value in row.items():
                arrays[name].append(value)
            table_state = TableState.PMD_LEAF if state.leaf and process == 0 else TableState.PTE
            arrays["table_state"] += [int(table_state)] * ((first + high - 1) // TABLE - (first + low) // TABLE + 1)

    # a PMD leaf counts once for the folio, and not for its pages
    of_entries = [count - state.leaf for count in counts]
    arrays["page_mapcount"] = of_entries
    arrays["rmap_start"] = [0]
    for number, (first, pages) in enumerate(state.folios):
        span = range(first, first + pages)
        holder, mapcount = state.holders[number], sum(of_entries[page] for page in span) + state.leaf
        has_hole = any(not counts[page] for page in span)
        has_cache = not state.anon or holder == "swapcache"
        refcount = mapcount + (pages if has_cache else 0) + (holder in ("pinned", "reference"))
        flags = int(kind.folio_flags) | int(FolioFlag.PAGE_MAPCOUNTS | FolioFlag.PAGE_FLAGS)
        flags |= {
            "pinned": int(FolioFlag.PINNED),
            "dirty": int(FolioFlag.DIRTY),
            "locked": int(FolioFlag.LOCKED),
            "swapcache": int(FolioFlag.SWAPCACHE | FolioFlag.DIRTY),
            "flagged": int(FolioFlag.PARTIALLY_MAPPED),
        }.get(holder, 0)
        if state.second and any(mapped[1][page] for page in span) and any(mapped[0][page] for page in span):
            flags |= int(FolioFlag.MAYBE_SHARED)
        if state.anon and has_hole and pages > 2 and holder != "swapcache":
            flags |= int(FolioFlag.PARTIALLY_MAPPED)
        if state.anon and not mapcount:
            # nobody has it: there is no such folio
            flags, refcount = int(kind.folio_flags) | int(FolioFlag.FREED), 0
        for page in span:
            exclusive = state.anon and counts[page] == 1
            held = {"z": int(PageFlag.ZERO), "p": int(PageFlag.HWPOISON)}.get(state.slots[page], 0)
            arrays["page_flags"].append((int(PageFlag.EXCLUSIVE) if exclusive else 0) | held)
        row = {
            "folio_pfn": origin + first,
            "folio_index": origin + first,
            "folio_order": pages.bit_length() - 1,
            "folio_flags": flags,
            "folio_refcount": refcount,
            "folio_mapcount": mapcount,
            "folio_entire_mapcount": int(state.leaf),
            "folio_nr_pages_mapped": sum(counts[page] > 0 for page in span),
            "folio_swap": CACHED_SLOTS + first if holder == "swapcache" else 0,
            "folio_page_base": first,
        }
        for name, value in row.items():
            arrays[name].append(value)
        arrays["rmap_vma"] += [
            process * len(spans) + vma
            for process in range(processes)
            for vma, (low, high) in enumerate(spans)
            if low < first + pages and first < high
        ]
        arrays["rmap_start"].append(len(arrays["rmap_vma"]))
        if not flags & FolioFlag.FREED:
            arrays["lru_inactive"].append(number)
    arrays["mm_cpumask"], arrays["mm_flags"] = [2] * processes, [0] * processes
    rss = np.zeros((processes, 4), np.int64)
    for process in range(processes):
        rss[process, kind.counter] = sum(mapped[process])
    rss[0, 2] = state.slots.count(SWAPPED)
    return population_of(arrays, rss, TABLE)


def population_of(
    arrays: dict[str, list[int]], mm_rss: npt.NDArray[np.int64], ptrs_per_pte: int, cont_ptes: int = 1
) -> Population:
    """Return the population of a state from its arrays (those of :data:`rmapfast.population.ARRAYS` but mm_rss)."""
    made: dict[str, npt.NDArray[Any]] = {
        name: np.array(arrays[name], dtype) for name, dtype in ARRAYS.items() if name != "mm_rss"
    }
    return Population(
        ptrs_per_pte=ptrs_per_pte,
        page_shift=12,
        cont_ptes=cont_ptes,
        arch=None,
        assumptions=None,
        source="check",
        input_hash=None,
        mm_rss=mm_rss,
        **made,
    )


# --- the scope -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SplitFamily:
    """A part of the scope: all states of one kind of folio and one theme.

    Parameters
    ----------
    name : str
        The theme.
    kind : str
        Kind of the folios.
    pages : int
        Pages of the largest folio.
    drawn : int
        How many states are drawn at random; 0: all states of the theme are tried.
    """

    name: str
    kind: str
    pages: int
    drawn: int = 0

    def __str__(self) -> str:
        return f"{self.kind}, {self.name}, folios of up to {self.pages} pages"

    def states(self) -> Iterator[SplitState]:
        """Every state, always in the same order."""
        made = _drawn(self) if self.drawn else _ALL_THEMES[self.name](self)
        return (state for state in made if state.possible)

    @property
    def anon(self) -> bool:
        """Whether the folios are anonymous."""
        return self.kind in ("anon", "lazyfree")

    @property
    def orders(self) -> list[tuple[int, ...]]:
        """Orders of the two folios, the larger of which has `pages` pages. Anonymous folios of order 1 do not exist."""
        largest = self.pages.bit_length() - 1
        known = [order for order in range(largest + 1) if not (self.anon and order == 1)]
        return (
            [(LEAF_ORDER,)]
            if self.pages == TABLE
            else [pair for pair in product(known, repeat=2) if max(pair) == largest]
        )

    @property
    def letters(self) -> str:
        """What may be in a slot."""
        return "wroz.sp" if self.anon else "wro.p"

    @property
    def swaps(self) -> tuple[str, ...]:
        """Swap devices that differ for this kind."""
        if self.kind == "file":
            return ("unlimited",)
        return ("unlimited", "none") if self.kind == "lazyfree" else ("unlimited", "none", "1", "3", "fragmented")

    def calls(self, pages: int) -> Iterator[tuple[str, int, int]]:
        """Every action on every range."""
        actions = ACTIONS[:3] if self.anon else ACTIONS[:2]
        for action in actions:
            for start in range(pages):
                for end in range(start + 1, pages + 1):
                    yield action, start, end
        yield "reclaim", 0, pages

    def call_swaps(self, action: str) -> tuple[str, ...]:
        """Swap devices that differ for an action; only a call that pages out asks for slots."""
        return self.swaps if action in ("MADV_PAGEOUT", "reclaim") else ("unlimited",)


def _with_calls(family: SplitFamily, orders: tuple[int, ...], slots: str, **fields: Any) -> Iterator[SplitState]:
    for action, start, end in family.calls(len(slots)):
        for swap in family.call_swaps(action):
            yield SplitState(family.kind, orders, slots, action, start, end, swap, **fields)


def _odd_ones(family: SplitFamily, pages: int) -> Iterator[str]:
    """All slots the same, and then each of them another."""
    for base in "wr":
        yield base * pages
        for letter in family.letters:
            if letter != base:
                for page in range(pages):
                    yield base * page + letter + base * (pages - page - 1)


def _slots(family: SplitFamily) -> Iterator[SplitState]:
    """Folios of up to 3 pages in all: every combination of slots. Larger ones: one slot differs from the others."""
    for orders in family.orders:
        pages = sum(1 << order for order in orders)
        patterns: Iterable[str] = _odd_ones(family, pages)
        if pages <= 3:
            patterns = map("".join, product(family.letters, repeat=pages))
        for slots in patterns:
            yield from _with_calls(family, orders, slots)


def _tables(family: SplitFamily) -> Iterator[SplitState]:
    """A page-table border in front of every page."""
    for orders in family.orders:
        pages = sum(1 << order for order in orders)
        for border in range(1, pages):
            for slots in ("w" * pages, "r" * pages, "z" * pages if family.anon else "o" * pages):
                yield from _with_calls(family, orders, slots, border=border)


def _vmas(family: SplitFamily) -> Iterator[SplitState]:
    """A border between VMAs in front of every page, or one VMA; none, the first or the second is locked."""
    for orders in family.orders:
        pages = sum(1 << order for order in orders)
        for cut in range(pages):
            for locked in (-1, 0, 1) if cut else (0,):
                yield from _with_calls(family, orders, "w" * pages, cut=cut, locked=locked)


def _sharing(family: SplitFamily) -> Iterator[SplitState]:
    """A second process maps every run of pages; the first one maps all pages, or those that the second does not."""
    for orders in family.orders:
        pages = sum(1 << order for order in orders)
        for low in range(pages):
            for high in range(low + 1, pages + 1):
                second = HOLE * low + "x" * (high - low) + HOLE * (pages - high)
                for slots in ("w" * pages, "".join("w" if mark == HOLE else HOLE for mark in second)):
                    yield from _with_calls(family, orders, slots, second=second)


def _holders(family: SplitFamily) -> Iterator[SplitState]:
    """Each folio held by each, one entry of the first folio dirty or all."""
    for orders in family.orders:
        pages = sum(1 << order for order in orders)
        for holders in product(HOLDERS, repeat=2):
            for slots in ("w" * pages, "w" + "r" * (pages - 1)):
                yield from _with_calls(family, orders, slots, holders=holders)


def _callers(family: SplitFamily) -> Iterator[SplitState]:
    """A caller who does not own the file, in a shared and in a private mapping."""
    for orders in family.orders:
        pages = sum(1 << order for order in orders)
        for caller in CALLERS[1:]:
            yield from _with_calls(family, orders, "w" * pages, caller=caller)


def _leaves(family: SplitFamily) -> Iterator[SplitState]:
    """One folio that a PMD leaf maps: every page alone zero-filled or poisoned, every run shared, every holder."""
    for slots in ("w" * TABLE, "r" * TABLE, "o" * TABLE, "d" * TABLE, "z" * TABLE):
        yield from _with_calls(family, (LEAF_ORDER,), slots, holders=("",), leaf=True)
    for letter in "zp":
        for page in range(TABLE):
            slots = "d" * page + letter + "d" * (TABLE - page - 1)
            yield from _with_calls(family, (LEAF_ORDER,), slots, holders=("",), leaf=True)
    for low in range(TABLE):
        for high in range(low + 1, TABLE + 1):
            second = HOLE * low + "x" * (high - low) + HOLE * (TABLE - high)
            yield from _with_calls(family, (LEAF_ORDER,), "r" * TABLE, second=second, holders=("",), leaf=True)
    for holder in HOLDERS[1:]:
        yield from _with_calls(family, (LEAF_ORDER,), "w" * TABLE, holders=(holder,), leaf=True)


def _drawn(family: SplitFamily) -> Iterator[SplitState]:
    """States in which everything varies, from a fixed seed."""
    rng = random.Random(f"{family.kind} {family.pages}")
    left = family.drawn
    while left:
        orders = rng.choice(family.orders)
        pages = sum(1 << order for order in orders)
        base = rng.choice("wro")
        start = rng.randrange(pages)
        # a fixed number of draws per state, so that one state does not depend on what is possible in another
        slots = "".join(rng.choice(family.letters) if rng.random() < 0.3 else base for _ in range(pages))
        second = "".join(rng.choice("x.") for _ in range(pages)) if rng.random() < 0.3 else ""
        action = rng.choice(ACTIONS)
        state = SplitState(
            family.kind,
            orders,
            slots,
            action,
            0 if action == "reclaim" else start,
            pages if action == "reclaim" else rng.randrange(start + 1, pages + 1),
            swap=rng.choice(SWAPS),
            border=rng.randrange(pages) if rng.random() < 0.4 else 0,
            cut=rng.randrange(pages) if rng.random() < 0.3 else 0,
            locked=rng.randrange(2) if rng.random() < 0.1 else -1,
            second=second if "x" in second else "",
            holders=(
                rng.choice(HOLDERS) if rng.random() < 0.25 else "",
                rng.choice(HOLDERS) if rng.random() < 0.25 else "",
            ),
            caller=rng.choice(CALLERS) if rng.random() < 0.2 else "owner",
        )
        if state.possible:
            left -= 1
            yield state


_THEMES = {
    "slots": _slots,
    "table borders": _tables,
    "VMA borders": _vmas,
    "sharing": _sharing,
    "holders": _holders,
    "callers": _callers,
}
_ALL_THEMES = _THEMES | {"PMD leaves": _leaves}


def split_families(pages: int, drawn: int) -> list[SplitFamily]:
    """Return the scope up to folios of `pages` pages, the smallest first; `drawn` states a kind come at the end."""
    kinds = ("anon", "lazyfree", "shmem", "file")
    sizes = [size for size in (1, 2, 4) if size <= pages]
    families = [
        SplitFamily(name, kind, size)
        for size in sizes
        for name in _THEMES
        for kind in kinds
        if not (kind in ("anon", "lazyfree") and (size == 2 or name == "callers"))
    ]
    if pages == TABLE:
        families += [SplitFamily("PMD leaves", kind, TABLE) for kind in kinds]
    if drawn:
        families += [
            SplitFamily("drawn", kind, 4 if 4 in sizes else 1 if kind in kinds[:2] else sizes[-1], drawn)
            for kind in kinds
        ]
    return families
