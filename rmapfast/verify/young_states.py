"""The small states in which a folio is checked for young entries: the folio, its neighbours, and what borders on them.

docs/checker.md lists the scope. A state is a handful of words, so that it can be printed, kept as JSON and built again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product
from typing import Any

import numpy as np

from rmapfast import arch as _arch
from rmapfast import pte
from rmapfast.arch import Arch
from rmapfast.flags import FolioFlag, MmFlag, TableState, VmaFlag, with_generation
from rmapfast.lru import LRUS
from rmapfast.population import ARRAYS, Population
from rmapfast.spec import KINDS
from rmapfast.verify.split_states import FIRST_TABLES, population_of

# Entries of a page table, and of one in which a window of 64 entries is a part.
TABLE, WIDE_TABLE = 8, 128
LEAF_ORDER = 3
# Entries of a contpte block, where entries are folded.
BLOCK = 4
# Page offset and PFN of the first of the largest folios; aligned for every order.
ORIGIN = 256
# PFN that belongs to no folio.
FOREIGN = ORIGIN + 4096
# max_seq, and min_seq of both types: four generations, of which 3 is the youngest.
GENERATIONS = (3, 0, 0)
OLDEST, YOUNGEST = 1, 4  # as a folio's flags have them

# Bits of an entry that maps its page, by its letter.
MAPPED = {
    "y": ("young",),
    "o": (),
    "d": ("write", "young", "dirty"),
    "w": ("write", "young"),
    "p": ("young", "prot"),
}
# Other entries: none, swap, device-exclusive, the zero page and a page of no folio (both young), and a young entry of
# the folio's first page in the wrong place.
HOLE, SWAPPED, DEVICE, ZERO, ALIEN, MISPLACED = ".", "s", "x", "z", "f", "m"
LETTERS = "".join(MAPPED) + HOLE + SWAPPED + DEVICE + ZERO + ALIEN + MISPLACED

# A folio is the one under test, or lies on a list of MGLRU's, with PG_referenced or without, or is isolated.
TESTED = "tested"
ROLES = (TESTED, "listed", "referenced", "isolated")


@dataclass(frozen=True)
class YoungState:
    """Folios behind each other, one of which is checked.

    Parameters
    ----------
    lru : {'classic', 'mglru'}
    kinds : tuple of {'file', 'anon', 'lazyfree'}
        Of the folios; all of them or none is file.
    orders : tuple of int
        Of the folios.
    roles : tuple of str
        For each folio one of :data:`ROLES`; exactly one is ``tested``.
    slots : str
        A letter per page, out of :data:`LETTERS`.
    border : int
        A page-table border lies in front of this page; 0: in front of the first one.
    cut : int
        One VMA ends and the next begins in front of this page; 0: one VMA holds all pages.
    locked : int
        Number of the VMA that is mlocked; -1: none.
    second : str
        How a second process maps each page: ``y`` (young), ``o`` or ``.`` (not at all); empty: there is none.
    outside : bool
        The second process is outside the memory cgroup.
    idle : bool
        The folio under test has the young flag of page-idle.
    folded : bool
        contpte blocks of :data:`BLOCK` entries are folded wherever they can be.
    leaf : bool
        A PMD leaf of the first process maps the only folio, which has as many pages as a table has entries.
    table : int
        Entries of a page table.
    """

    lru: str
    kinds: tuple[str, ...]
    orders: tuple[int, ...]
    roles: tuple[str, ...]
    slots: str
    border: int = 0
    cut: int = 0
    locked: int = -1
    second: str = ""
    outside: bool = False
    idle: bool = False
    folded: bool = False
    leaf: bool = False
    table: int = TABLE

    @cached_property
    def folios(self) -> list[tuple[int, int]]:
        """First page and number of pages of each folio."""
        pages = [1 << order for order in self.orders]
        return [(sum(pages[:number]), size) for number, size in enumerate(pages)]

    @cached_property
    def tested(self) -> int:
        """Number of the folio under test."""
        return self.roles.index(TESTED)

    @property
    def anon(self) -> bool:
        """Whether the folios are anonymous."""
        return "file" not in self.kinds

    @cached_property
    def spans(self) -> list[tuple[int, int]]:
        """First page and end of each VMA of the first process."""
        total = len(self.slots)
        return [(0, self.cut), (self.cut, total)] if self.cut else [(0, total)]

    @cached_property
    def origin(self) -> int:
        """PFN and page offset of the first page; the first of the largest folios is aligned."""
        largest = self.orders.index(max(self.orders))
        return ORIGIN - self.folios[largest][0]

    def first_vpn(self, process: int) -> int:
        """Return the virtual page number of a process's first page."""
        return FIRST_TABLES[process] * self.table + (-self.border % self.table)

    @cached_property
    def blocks(self) -> list[int]:
        """First page of each contpte block that is folded in the first process."""
        if not self.folded:
            return []
        found = []
        vpn = self.first_vpn(0)
        for (first, pages), (low, high) in product(self.folios, self.spans):
            for page in range(max(first, low), min(first + pages, high) - BLOCK + 1):
                letters = set(self.slots[page : page + BLOCK])
                is_aligned = (vpn + page) % BLOCK == 0 and (self.origin + page) % BLOCK == 0
                # young and dirty may differ in a block, and only an entry that was not written is clean
                if is_aligned and (letters <= set("yo") or letters == {"d"}):
                    found.append(page)
        return found

    @property
    def possible(self) -> bool:
        """Whether a kernel can come to it, and the state is no other one in disguise."""
        if self.locked >= len(self.spans) or (self.folded and not self.blocks):
            return False
        if any((self.origin + first) % pages for first, pages in self.folios):
            return False
        if self.anon and 1 in self.orders:
            return False
        if not self.anon and (DEVICE in self.slots or ZERO in self.slots):
            return False
        first_pages = {first for first, _ in self.folios}
        if any(letter == MISPLACED and page in first_pages for page, letter in enumerate(self.slots)):
            return False
        shared = [not self.second or self.second[page] == HOLE for page in range(len(self.slots))]
        if self.anon and any(letter in "dw" and not alone for letter, alone in zip(self.slots, shared, strict=True)):
            return False
        if self.leaf and (self.orders != (LEAF_ORDER,) or self.border or self.cut or len(set(self.slots)) > 1):
            return False
        # lists matter to MGLRU alone
        return self.lru == "mglru" or not set(self.roles) - {TESTED, "listed"}

    def to_case(self) -> dict[str, Any]:
        """Return the state as a document that serialises to JSON."""
        return {"young_state": dataclasses.asdict(self)}

    @classmethod
    def of_case(cls, case: dict[str, Any]) -> YoungState:
        """Return the state that :meth:`to_case` wrote.

        Raises
        ------
        TypeError, ValueError
            If the document does not describe a state.
        """
        fields: dict[str, Any] = dict(case["young_state"])
        fields |= {name: tuple(fields[name]) for name in ("kinds", "orders", "roles")}
        state = cls(**fields)
        pages = sum(1 << order for order in state.orders)
        folios = len(state.orders)
        for name, fits in (
            ("lru", state.lru in LRUS),
            ("orders", all(0 <= order <= LEAF_ORDER for order in state.orders) and 0 < pages <= WIDE_TABLE),
            ("kinds", len(state.kinds) == folios and set(state.kinds) <= {"file", "anon", "lazyfree"}),
            ("roles", len(state.roles) == folios and set(state.roles) <= set(ROLES) and state.roles.count(TESTED) == 1),
            ("table", state.table in (TABLE, WIDE_TABLE)),
            ("slots", len(state.slots) == pages and set(state.slots) <= set(LETTERS)),
            ("border", 0 <= state.border < pages),
            ("cut", 0 <= state.cut < pages),
            ("second", len(state.second) in (0, pages) and set(state.second) <= {"y", "o", HOLE}),
            ("leaf", not state.leaf or set(state.slots) <= set(MAPPED)),
        ):
            if not fits:
                raise ValueError(f"{name}: no such state, got {getattr(state, name)!r}")
        if not state.possible:
            raise ValueError("young_state: no kernel comes to such a state")
        return state

    def __str__(self) -> str:
        if self.table == WIDE_TABLE:
            first, pages = self.folios[self.tested]
            words = [f"{self.kinds[0]} of order {self.orders[0]}, {len(self.orders)} folios in a table of {self.table}"]
            words.append(f"young at page {first + self.slots[first : first + pages].index('y')}")
        else:
            folios = zip(self.kinds, self.orders, self.roles, strict=True)
            words = [" + ".join(f"{kind} of order {order} ({role})" for kind, order, role in folios)]
            words.append(f"entries {self.slots}")
        words += ["PMD leaf"] if self.leaf else []
        words += ["contpte"] if self.folded else []
        words += [f"table border at {self.border}"] if self.border else []
        words += [f"VMA border at {self.cut}"] if self.cut else []
        words += [f"VMA {self.locked} locked"] if self.locked >= 0 else []
        words += [f"second process {'outside the memcg ' if self.outside else ''}maps {self.second}"] * bool(
            self.second
        )
        words += ["page-idle young"] if self.idle else []
        return ", ".join([*words, self.lru])


def young_arch(arch: str | Arch, state: YoungState) -> Arch:
    """Return an architecture with the page tables and contpte blocks of a state."""
    return dataclasses.replace(_arch.get(arch), ptrs_per_pte=state.table, cont_ptes=BLOCK if state.folded else 1)


def _entry(state: YoungState, page: int, folio: int) -> int:
    letter, pfn = state.slots[page], state.origin + page
    if letter in MAPPED:
        cont = ["cont"] if any(first <= page < first + BLOCK for first in state.blocks) else []
        return int(pte.make("present", pfn, [*MAPPED[letter], *cont]))
    if letter == SWAPPED:
        return int(pte.make("swap", 1 << 20 | page))
    if letter == DEVICE:
        return int(pte.make("device_exclusive", pfn))
    if letter == MISPLACED:
        return int(pte.make("present", state.origin + state.folios[folio][0], ["young"]))
    if letter in (ZERO, ALIEN):
        return int(pte.make("present", int(pte.ZERO_PFN) if letter == ZERO else FOREIGN + page, ["young"]))
    return 0


@lru_cache(maxsize=4)
def young_population(state: YoungState) -> Population:
    """Return a state as a population of one or two processes, which must not be changed."""
    total, origin = len(state.slots), state.origin
    folio_of_page = [number for number, (_, pages) in enumerate(state.folios) for _ in range(pages)]
    words = [_entry(state, page, folio_of_page[page]) for page in range(total)]
    if state.second:
        words += [
            0 if letter == HOLE else int(pte.make("present", origin + page, MAPPED[letter]))
            for page, letter in enumerate(state.second)
        ]
    counts = [0] * total
    for page, letter in enumerate(state.slots):
        if letter in MAPPED or letter == DEVICE:
            counts[page] += 1
        elif letter == MISPLACED:
            counts[state.folios[folio_of_page[page]][0]] += 1
    # a PMD leaf counts once for its folio, and not for its pages
    counts = [0] * total if state.leaf else counts
    for page, letter in enumerate(state.second):
        counts[page] += letter != HOLE

    kind = KINDS["anon" if state.anon else "file"]
    processes = 2 if state.second else 1
    arrays: dict[str, list[int]] = {name: [] for name in ARRAYS}
    arrays["ptes"], arrays["page_mapcount"], arrays["page_flags"] = words, counts, [0] * total
    for process in range(processes):
        first = state.first_vpn(process)
        for number, (low, high) in enumerate(state.spans if process == 0 else [(0, total)]):
            is_locked = process == 0 and number == state.locked
            row = {
                "vma_start": first + low,
                "vma_end": first + high,
                "vma_pgoff": origin + low,
                "vma_flags": int(kind.vma_flags) | (int(VmaFlag.LOCKED) if is_locked else 0),
                "vma_mm": process,
                "vma_pte_base": process * total + low,
                "vma_window_start": first,
                "vma_window_end": first + total,
                "vma_table_base": len(arrays["table_state"]),
            }
            for name, value in row.items():
                arrays[name].append(value)
            table_state = TableState.PMD_LEAF if state.leaf and process == 0 else TableState.PTE
            tables = (first + high - 1) // state.table - (first + low) // state.table + 1
            arrays["table_state"] += [int(table_state)] * tables
    arrays["rmap_start"] = [0]
    for number, ((first, pages), role) in enumerate(zip(state.folios, state.roles, strict=True)):
        flags = int(KINDS[state.kinds[number]].folio_flags) | int(FolioFlag.PAGE_MAPCOUNTS)
        flags |= int(FolioFlag.REFERENCED) if role == "referenced" else 0
        flags |= int(FolioFlag.YOUNG) if role == TESTED and state.idle else 0
        if state.lru == "mglru" and role in ("listed", "referenced"):
            flags = int(with_generation(np.array([flags], np.uint32), OLDEST)[0])
        mapped = sum(counts[first : first + pages])
        row = {
            "folio_pfn": origin + first,
            "folio_index": origin + first,
            "folio_order": state.orders[number],
            "folio_flags": flags,
            "folio_refcount": mapped + state.leaf + (0 if state.anon else pages),
            "folio_mapcount": mapped + state.leaf,
            "folio_entire_mapcount": int(state.leaf),
            "folio_nr_pages_mapped": sum(count > 0 for count in counts[first : first + pages]),
            "folio_swap": 0,
            "folio_page_base": first,
        }
        for name, value in row.items():
            arrays[name].append(value)
        spans = [*state.spans, (0, total)] if state.second else state.spans
        arrays["rmap_vma"] += [vma for vma, (low, high) in enumerate(spans) if low < first + pages and first < high]
        arrays["rmap_start"].append(len(arrays["rmap_vma"]))
        if role in ("listed", "referenced"):
            arrays["lru_inactive"].append(number)
    arrays["mm_cpumask"] = [2] * processes
    arrays["mm_flags"] = [0, int(MmFlag.OUTSIDE_MEMCG) if state.outside else 0][:processes]
    return population_of(arrays, np.zeros((processes, 4), np.int64), state.table, BLOCK if state.folded else 1)


# --- the scope -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class YoungFamily:
    """A part of the scope: all states of one theme and one LRU in which the largest folio has so many pages.

    Parameters
    ----------
    name : str
        The theme.
    lru : {'classic', 'mglru'}
    pages : int
        Pages of the largest folio.
    """

    name: str
    lru: str
    pages: int

    def __str__(self) -> str:
        return f"{self.name}, folios of up to {self.pages} pages, {self.lru}"

    def states(self) -> Iterator[YoungState]:
        """Every state, always in the same order."""
        return (state for state in _THEMES[self.name](self) if state.possible)

    @property
    def order(self) -> int:
        """Order of the largest folio."""
        return self.pages.bit_length() - 1

    @property
    def roles(self) -> tuple[str, ...]:
        """What a neighbour can be."""
        return ROLES[1:] if self.lru == "mglru" else ("listed",)

    def alone(self, kind: str, slots: str, **fields: Any) -> YoungState:
        """Return a state of one folio."""
        return YoungState(self.lru, (kind,), (self.order,), (TESTED,), slots, **fields)

    def pairs(self) -> Iterator[tuple[tuple[str, str], tuple[int, ...], int]]:
        """Kinds and orders of two folios, one of which is the largest, and the number of the one under test."""
        kinds = (("file", "file"), ("anon", "anon"), ("anon", "lazyfree"), ("lazyfree", "anon"))
        for pair, orders, tested in product(kinds, product(range(self.order + 1), repeat=2), (0, 1)):
            if max(orders) == self.order:
                yield pair, orders, tested

    def pair(self, tested: int, role: str) -> tuple[str, str]:
        """Roles of two folios."""
        return (TESTED, role) if tested == 0 else (role, TESTED)


def _ages(pages: int) -> Iterator[str]:
    """Every combination of young and old entries."""
    return map("".join, product("yo", repeat=pages))


def _one_young(pages: int) -> Iterator[str]:
    """All young, all old, and each one young alone."""
    yield "y" * pages
    yield "o" * pages
    if pages > 1:
        for page in range(pages):
            yield "o" * page + "y" + "o" * (pages - page - 1)


def _slots(family: YoungFamily) -> Iterator[YoungState]:
    """One folio: every combination of entries; of 4 and more pages those of young, old and none, and one odd entry."""
    pages = family.pages
    for kind in ("file", "anon"):
        if pages <= 2:
            patterns = list(map("".join, product(LETTERS, repeat=pages)))
        else:
            patterns = list(map("".join, product("yo.", repeat=pages))) if pages == 4 else list(_ages(pages))
            for base, letter, page in product("yo", LETTERS[2:], range(pages)):
                patterns.append(base * page + letter + base * (pages - page - 1))
        for slots in dict.fromkeys(patterns):
            yield family.alone(kind, slots)


def _neighbours(family: YoungFamily) -> Iterator[YoungState]:
    """Two folios: every combination of young and old in the tested one (of 8 pages some), some in its neighbour."""
    for kinds, orders, tested in family.pairs():
        sizes = [1 << order for order in orders]
        beside = [*_one_young(sizes[1 - tested]), *(letter * sizes[1 - tested] for letter in "dzf")]
        under_test = _ages(sizes[tested]) if family.pages < TABLE else _one_young(sizes[tested])
        for own, other, role in product(under_test, beside, family.roles):
            slots = own + other if tested == 0 else other + own
            yield YoungState(family.lru, kinds, orders, family.pair(tested, role), slots)


def _with_borders(family: YoungFamily, **fields: Any) -> Iterator[tuple[YoungState, int]]:
    """Two folios of one kind, and each page in front of which a border can lie."""
    for kinds, orders, tested in family.pairs():
        if kinds[0] != kinds[1]:
            continue
        total = sum(1 << order for order in orders)
        for slots in dict.fromkeys((*_one_young(total), ("yo" * total)[:total], ("oy" * total)[:total])):
            for page in range(1, total):
                yield YoungState(family.lru, kinds, orders, family.pair(tested, "listed"), slots, **fields), page


def _tables(family: YoungFamily) -> Iterator[YoungState]:
    """A page-table border in front of every page, no VMA locked or the one there is."""
    for locked in (-1, 0):
        for state, page in _with_borders(family, locked=locked):
            yield dataclasses.replace(state, border=page)


def _vmas(family: YoungFamily) -> Iterator[YoungState]:
    """A border between VMAs in front of every page; none of them locked, or one."""
    for locked in (-1, 0, 1):
        for state, page in _with_borders(family, locked=locked):
            yield dataclasses.replace(state, cut=page)


def _between(family: YoungFamily) -> Iterator[YoungState]:
    """A folio between two others, with a page-table border and a VMA border in front of every page."""
    pages = family.pages
    for kind, beside in product(("file", "anon"), dict.fromkeys((0, family.order))):
        more = 1 << beside
        total = pages + 2 * more
        for own, border, cut in product(
            dict.fromkeys(("y" * pages, "o" * (pages - 1) + "y")), range(total), range(total)
        ):
            roles = ("listed", TESTED, "listed")
            orders = (beside, family.order, beside)
            slots = "y" * more + own + "y" * more
            yield YoungState(family.lru, (kind,) * 3, orders, roles, slots, border=border, cut=cut)


def _locked(family: YoungFamily) -> Iterator[YoungState]:
    """One folio in a locked VMA: mapped as a whole, with each hole, and with a young flag of page-idle."""
    pages = family.pages
    for kind, letter, idle in product(("file", "anon"), "yo", (False, True)):
        yield family.alone(kind, letter * pages, locked=0, idle=idle)
        if pages > 1:
            for page in range(pages):
                yield family.alone(kind, letter * page + HOLE + letter * (pages - page - 1), locked=0, idle=idle)


def _idle(family: YoungFamily) -> Iterator[YoungState]:
    """One folio with a young flag of page-idle."""
    for kind, slots in product(("file", "anon"), _ages(family.pages)):
        yield family.alone(kind, slots, idle=True)


def _sharing(family: YoungFamily) -> Iterator[YoungState]:
    """A second process maps every run of pages of one folio, young or old; the first maps all, or the others."""
    pages = family.pages
    for kind, letter, own, outside in product(("file", "anon"), "yo", "yo", (False, True)):
        for low in range(pages):
            for high in range(low + 1, pages + 1):
                second = HOLE * low + letter * (high - low) + HOLE * (pages - high)
                rest = "".join(own if mark == HOLE else HOLE for mark in second)
                # where nothing is left to the first process, its letter makes no difference
                patterns = (own * pages, rest) if own == "y" or own in rest else (own * pages,)
                for slots, locked in product(patterns, (-1, 0)):
                    yield family.alone(kind, slots, second=second, outside=outside, locked=locked)


def _blocks(family: YoungFamily) -> Iterator[YoungState]:
    """Folded contpte blocks: every combination of young and old, beside a neighbour, and with a VMA border."""
    for kind in ("file", "anon"):
        for slots in _ages(family.pages):
            yield family.alone(kind, slots, folded=True)
        for order, tested, role in product((0, family.order), (0, 1), family.roles):
            orders = (family.order, order) if tested == 0 else (order, family.order)
            for own, other in product(_one_young(family.pages), _one_young(1 << order)):
                slots = own + other if tested == 0 else other + own
                roles = family.pair(tested, role)
                for border, cut in dict.fromkeys(((0, 0), (0, BLOCK), (BLOCK, 0), (1 << orders[0], 0))):
                    if max(border, cut) < len(slots):
                        yield YoungState(
                            family.lru, (kind,) * 2, orders, roles, slots, border=border, cut=cut, folded=True
                        )


def _leaves(family: YoungFamily) -> Iterator[YoungState]:
    """A PMD leaf, beside runs of pages that a second process maps."""
    pages = family.pages
    for kind, letter, locked, idle in product(("file", "anon"), "yo", (-1, 0), (False, True)):
        for second in ("", "y" * pages, "o" * pages, "y" + HOLE * (pages - 1), "o" * (pages - 1) + "y"):
            yield family.alone(kind, letter * pages, second=second, locked=locked, idle=idle, leaf=True)


def _windows(family: YoungFamily) -> Iterator[YoungState]:
    """One young page at every place of a table of 128 entries; its neighbours are young, and a VMA border lies near."""
    folios = WIDE_TABLE // family.pages
    for place, page, cut, folded in product(range(folios), range(family.pages), (0, 20, 70, 120), (False, True)):
        own = HOLE * page + "y" + HOLE * (family.pages - page - 1)
        slots = "y" * (family.pages * place) + own + "y" * (family.pages * (folios - place - 1))
        roles = tuple(TESTED if number == place else "listed" for number in range(folios))
        kinds, orders = ("file",) * folios, (family.order,) * folios
        yield YoungState(family.lru, kinds, orders, roles, slots, cut=cut, folded=folded, table=WIDE_TABLE)


_THEMES: dict[str, Callable[[YoungFamily], Iterator[YoungState]]] = {
    "slots": _slots,
    "neighbours": _neighbours,
    "table borders": _tables,
    "VMA borders": _vmas,
    "between": _between,
    "locked": _locked,
    "idle": _idle,
    "sharing": _sharing,
    "contpte": _blocks,
    "PMD leaves": _leaves,
    "windows": _windows,
}
# Sizes of the largest folio, where not every size is tried.
_SIZES = {"contpte": (4, 8), "PMD leaves": (8,), "windows": (4,)}


def young_families(pages: int) -> list[YoungFamily]:
    """Return the scope up to folios of `pages` pages, the smallest first."""
    return [
        YoungFamily(name, lru, size)
        for size in (1, 2, 4, 8)
        if size <= pages
        for name in _THEMES
        if size in _SIZES.get(name, (size,))
        for lru in LRUS
        if not (name == "windows" and lru == "classic")
    ]
