"""What a call on a small state does, and which invariants of splits it violates; docs/checker.md has a sentence each.

The invariants know nothing of how folios are split. They ask what the processes reach before and after, and whether
the books agree with the page tables.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

import rmapfast._core as _core
from rmapfast import pte, reference
from rmapfast.arch import Arch
from rmapfast.events import EVENT_NAMES
from rmapfast.flags import FolioFlag, PageFlag, TableState
from rmapfast.policy import Policy
from rmapfast.population import Population
from rmapfast.reference import BatchRule
from rmapfast.spec import KINDS
from rmapfast.swap import UNLIMITED_SWAP
from rmapfast.verify.split_states import LETTERS, SWAPPED, SplitState, split_population

# In the order in which a report has them.
SPLIT_INVARIANTS = (
    "lost",
    "wrong-content",
    "freed-mapped",
    "dirty-lost",
    "restore-write",
    "restore-soft-dirty",
    "pieces",
    "accounting",
    "slots",
    "lists",
    "tlb-flush",
    "came-back",
    "population",
)

_PRESENT, _WRITE, _DIRTY, _SOFT_DIRTY = (int(pte.PRESENT), int(pte.WRITE), int(pte.DIRTY), int(pte.SOFT_DIRTY))
_SHIFT, _ZERO_PFN = int(pte.PFN_SHIFT), int(pte.ZERO_PFN)
_KIND_SHIFT, _KIND_MASK = int(_core.KIND_SHIFT), int(_core.KIND_MASK)
_SWAP, _HWPOISON = pte.KINDS.index("swap"), pte.KINDS.index("hwpoison")
_ANON, _SWAPBACKED, _SWAPCACHE = int(FolioFlag.ANON), int(FolioFlag.SWAPBACKED), int(FolioFlag.SWAPCACHE)
_FREED, _FOLIO_DIRTY, _ACTIVE = int(FolioFlag.FREED), int(FolioFlag.DIRTY), int(FolioFlag.ACTIVE)
_PARTIALLY, _PAGE_FLAGS = int(FolioFlag.PARTIALLY_MAPPED), int(FolioFlag.PAGE_FLAGS)
_PAGE_MAPCOUNTS = int(FolioFlag.PAGE_MAPCOUNTS)
_UNEVICTABLE = int(FolioFlag.UNEVICTABLE | FolioFlag.MLOCKED)
_EXCLUSIVE, _PAGE_EXCLUSIVE = int(FolioFlag.EXCLUSIVE), int(PageFlag.EXCLUSIVE)
# The arrays that a call changes.
_CHANGED = (
    "ptes",
    "table_state",
    "folio_flags",
    "folio_refcount",
    "folio_mapcount",
    "folio_entire_mapcount",
    "folio_nr_pages_mapped",
    "folio_swap",
    "page_mapcount",
    "page_flags",
    "mm_rss",
)
_BUDGET = 1 << 20
_EVENTS = {name: EVENT_NAMES.index(name) for name in ("pages_written", "pages_came_back", "folio_splits")}


@dataclass(frozen=True)
class SplitOutcome:
    """What a call did to a state.

    Parameters
    ----------
    after : Population
    counts : dict of str to int
        The events ``pages_written``, ``pages_came_back`` and ``folio_splits``.
    swap_used : int
        Slots in use at the end less those at the start, as the engine says.
    flushed : frozenset of int
        Virtual pages whose TLB entries were flushed, or queued for a flush.
    pending : bool
        Whether a flush was still queued at the end.
    deferred : tuple of int
        Folios on the deferred-split queue at the end.
    """

    after: Population
    counts: dict[str, int]
    swap_used: int
    flushed: frozenset[int]
    pending: bool
    deferred: tuple[int, ...]

    @cached_property
    def folio_of_page(self) -> dict[int, int]:
        """Number of the folio by PFN; -1 where two folios have it."""
        found: dict[int, int] = {}
        pairs = zip(self.after.folio_pfn.tolist(), self.after.folio_order.tolist(), strict=True)
        for number, (first, order) in enumerate(pairs):
            for pfn in range(first, first + (1 << order)):
                found[pfn] = -1 if pfn in found else number
        return found


# Does a call on a population and changes it.
SplitEngine: TypeAlias = "Callable[[Population, SplitState, Policy | BatchRule, Arch], SplitOutcome]"


def _call(population: Population, state: SplitState) -> tuple[str, int, int, int, bool]:
    first = int(population.vma_window_start[0])
    return state.action, 0, first + state.start, first + state.end, state.caller == "owner"


def run_c(population: Population, state: SplitState, policy: Policy | BatchRule, arch: Arch) -> SplitOutcome:
    """Do the call of a state with the C library."""
    assert isinstance(policy, Policy)
    reclaims = state.action == "reclaim"
    room = "reclaim" if reclaims else "madvise"
    run = _core.Run(population, policy, arch, trace=True, swap=state.device, room=room)
    capacity = run.folio_capacity
    rings = np.empty(capacity, np.uint32), np.empty(capacity, np.uint32)
    nr = len(population.lru_inactive)
    rings[0][:nr] = population.lru_inactive
    if reclaims:
        run.reclaim_start(rings[0], nr, rings[1], 0, len(state.slots))
        while run.reclaim_step(_BUDGET):
            pass
    else:
        run.madvise_start(rings[0], nr, rings[1], 0)
        run.madvise(*_call(population, state))
        while run.madvise_step(_BUDGET):
            pass
        run.madvise_finish()
    for ring, name, (head, length) in zip(rings, ("lru_inactive", "lru_active"), run.lists, strict=True):
        setattr(population, name, ring[(head + np.arange(length)) % max(capacity, 1)])
    for name, array in run.arrays().items():
        setattr(population, name, array)
    events = run.events
    flushed = [
        vpn
        for kind, first, length in run.trace_entries
        if _core.TRACE_KINDS[kind] in ("tlb_deferred", "tlb_immediate")
        for vpn in range(first, first + length)
    ]
    counts = {name: int(events[index]) for name, index in _EVENTS.items()}
    deferred = tuple(run.deferred.tolist())
    return SplitOutcome(population, counts, run.swap_used, frozenset(flushed), run.writable, deferred)


def run_reference(population: Population, state: SplitState, policy: Policy | BatchRule, arch: Arch) -> SplitOutcome:
    """Do the call of a state with the reference."""
    kernel = reference.Kernel(population, policy, arch, state.device)
    kernel.load_lists()
    if state.action == "reclaim":
        reference.memory_reclaim(kernel, reference.TwoLists(kernel, "unflushed"), len(state.slots))
    else:
        kernel.madvise(*_call(population, state))
    kernel.store_lists()
    record = kernel.record
    flushed = [
        vpn
        for kind, first, length in record.trace
        if kind in ("tlb_deferred", "tlb_immediate")
        for vpn in range(first, first + length)
    ]
    counts = {name: record.events[name] for name in _EVENTS}
    return SplitOutcome(
        population, counts, record.swap_used, frozenset(flushed), kernel.tlb.flush_required, tuple(record.deferred)
    )


def fresh(population: Population) -> Population:
    """Return a population that a call may change; it shares what no call changes in place."""
    made = copy.copy(population)
    for name in _CHANGED:
        setattr(made, name, getattr(population, name).copy())
    return made


def lost_pages(before: Population, after: Population) -> set[int]:
    """Return the indices of the entries that mapped a page or held a swap entry and are empty now."""
    pairs = zip(before.ptes.tolist(), after.ptes.tolist(), strict=True)
    return {at for at, (old, new) in enumerate(pairs) if old and not new}


class SplitJudge:
    """One state: its population, and what page-by-page treatment leaves of it.

    Parameters
    ----------
    state : SplitState
    oracle : Policy
        How the memory in folios of one page is treated.
    arch : Arch
        As :func:`rmapfast.verify.split_states.toy_arch` makes it.
    engine : callable
        Does the calls.
    """

    def __init__(self, state: SplitState, oracle: Policy, arch: Arch, engine: SplitEngine = run_c) -> None:
        self.state, self.arch, self.engine = state, arch, engine
        self.before = split_population(state)
        self._oracle = oracle
        self.total = len(state.slots)
        self.kind = KINDS[state.kind]
        self.words = self.before.ptes.tolist()
        self.origin = int(self.before.folio_pfn[0])
        self.zero = {self.origin + page for page, letter in enumerate(state.slots) if letter == "z"}
        self.poisoned = {self.origin + page for page, letter in enumerate(state.slots) if letter == "p"}
        self.dirty = self._dirty_before()
        # anonymous pages without a slot are nowhere else, even if their entries are clean
        self.unsaved = {
            self.origin + page
            for number, (first, pages) in enumerate(state.folios)
            for page in range(first, first + pages)
            if state.kind == "anon" and state.holders[number] != "swapcache"
        }

    @cached_property
    def losable(self) -> set[int]:
        """The entries that page-by-page treatment empties."""
        small = split_population(self.state.per_page)
        outcome = self.engine(fresh(small), self.state.per_page, self._oracle, self.arch)
        return lost_pages(small, outcome.after)

    def _dirty_before(self) -> set[int]:
        """PFNs of the pages that hold what is nowhere else; those that MADV_FREE gives up are not counted."""
        state, found = self.state, set()
        given_up = range(state.start, state.end) if state.action == "MADV_FREE" else range(0)
        for number, (first, pages) in enumerate(state.folios):
            for page in range(first, first + pages):
                sources = [state.slots[page] in LETTERS and "dirty" in LETTERS[state.slots[page]]]
                sources.append(bool(int(self.before.folio_flags[number]) & _FOLIO_DIRTY))
                if any(sources) and page not in given_up:
                    found.add(self.origin + page)
        return found

    def violated(self, policy: Policy | BatchRule) -> list[str]:
        """Do the call under a policy; return the names of the invariants that do not hold."""
        outcome = self.engine(fresh(self.before), self.state, policy, self.arch)
        try:
            _core.check_population(outcome.after, self.arch)
        except (TypeError, ValueError):
            return ["population"]
        found = set(self._violations(outcome))
        return [name for name in SPLIT_INVARIANTS if name in found]

    def _violations(self, outcome: SplitOutcome) -> Iterator[str]:
        yield from self._pieces(outcome)
        yield from self._reach(outcome)
        yield from self._books(outcome)

    def _reach(self, outcome: SplitOutcome) -> Iterator[str]:
        """What each entry reaches: the same page, its slot, the zero page for zeroes, or its place in the file."""
        after, state = outcome.after, self.state
        flags, slots = after.folio_flags.tolist(), after.folio_swap.tolist()
        pfns = after.folio_pfn.tolist()
        words = after.ptes.tolist()
        lost: set[int] = set()
        dirty_entries: set[int] = set()
        for at, (old, new) in enumerate(zip(self.words, words, strict=True)):
            if new & _PRESENT and new & _DIRTY:
                dirty_entries.add(new >> _SHIFT)
            kind = new >> _KIND_SHIFT & _KIND_MASK
            if not old & _PRESENT:
                if new == old:
                    continue
                # MADV_FREE gives swap entries back
                gives_up = old and not new and state.action == "MADV_FREE"
                if not (gives_up and state.start <= at < state.end):
                    yield "wrong-content"
                continue
            pfn = old >> _SHIFT
            folio = outcome.folio_of_page.get(pfn, -1)
            if folio < 0:
                continue  # no folio, or two: a matter of the pieces
            if new & _PRESENT:
                if new >> _SHIFT == _ZERO_PFN:
                    if pfn not in self.zero or new & (_WRITE | _DIRTY):
                        yield "wrong-content"
                elif new >> _SHIFT != pfn:
                    yield "wrong-content"
                elif flags[folio] & _FREED:
                    yield "freed-mapped"
                elif (new ^ old) & _WRITE:
                    yield "restore-write"
            elif not new:
                lost.add(at)
            elif kind == _SWAP:
                has_slot = flags[folio] & (_SWAPCACHE | _FREED) and flags[folio] & _ANON
                if not has_slot or new >> _SHIFT != slots[folio] + pfn - pfns[folio]:
                    yield "wrong-content"
            elif kind != _HWPOISON or pfn not in self.poisoned:
                yield "wrong-content"
            if old & _SOFT_DIRTY and new and not new & _SOFT_DIRTY and kind != _HWPOISON:
                yield "restore-soft-dirty"
            if (not new & _PRESENT or new >> _SHIFT != pfn) and not self._is_flushed(outcome, at):
                yield "tlb-flush"
        if outcome.pending:
            yield "tlb-flush"
        if self.state.anon:
            keeps = {at for at in lost if self.words[at] >> _SHIFT not in self.poisoned}
            if keeps and not keeps <= self.losable:
                yield "lost"
        yield from self._dirt(outcome, dirty_entries)

    def _is_flushed(self, outcome: SplitOutcome, at: int) -> bool:
        process, page = divmod(at, self.total)
        vma = int(np.flatnonzero(self.before.vma_mm == process)[0])
        return int(self.before.vma_window_start[vma]) + page in outcome.flushed

    def _dirt(self, outcome: SplitOutcome, dirty_entries: set[int]) -> Iterator[str]:
        """Dirty pages stay dirty, or were written; what has gone to swap was written."""
        flags, must_write = outcome.after.folio_flags.tolist(), 0
        mapped_before = {word >> _SHIFT for word in self.words if word & _PRESENT}
        for pfn in (self.dirty | self.unsaved) - self.zero - self.poisoned:
            folio = outcome.folio_of_page.get(pfn, -1)
            if folio < 0 or (self.state.anon and pfn not in mapped_before):
                continue
            word = flags[folio]
            if word & _FREED:
                if not word & _SWAPBACKED:
                    yield "dirty-lost"
                must_write += 1
            elif pfn not in self.dirty and not word & _SWAPCACHE:
                continue  # still where it was, and as clean
            elif not word & _FOLIO_DIRTY and pfn not in dirty_entries:
                if not word & _SWAPBACKED:
                    yield "dirty-lost"
                must_write += 1
        if outcome.counts["pages_written"] < must_write:
            yield "dirty-lost"

    def _pieces(self, outcome: SplitOutcome) -> Iterator[str]:
        """Every page is in one folio, where it was: its PFN, its offset, its VMAs, its marks."""
        before, after = self.before, outcome.after
        if sum(1 << order for order in after.folio_order.tolist()) != self.total:
            yield "pieces"
        pages = zip(
            after.folio_pfn.tolist(),
            after.folio_index.tolist(),
            after.folio_page_base.tolist(),
            after.folio_order.tolist(),
            after.folio_flags.tolist(),
            strict=True,
        )
        starts, rows = after.rmap_start.tolist(), after.rmap_vma.tolist()
        words = after.ptes.tolist()
        mapped = {word >> _SHIFT for word in words if word & _PRESENT}
        marked_before, marked = before.page_flags.tolist(), after.page_flags.tolist()
        owners: dict[int, set[int]] = {}
        for number, (pfn, index, base, order, flags) in enumerate(pages):
            owners[number] = set(rows[starts[number] : starts[number + 1]])
            if index != pfn or base != pfn - self.origin:
                yield "pieces"
            if flags & _PARTIALLY and order == 0:
                yield "pieces"
            if flags & _FREED or not self.state.anon:
                continue
            for page in range(base, base + (1 << order)):
                marks = marked[page] if flags & _PAGE_FLAGS else bool(flags & _EXCLUSIVE)
                was = marked_before[page]
                if order == 0 and self.origin + page in mapped and (marks ^ was) & _PAGE_EXCLUSIVE:
                    yield "pieces"
        for folio in outcome.folio_of_page.values():
            if folio < 0:
                yield "pieces"
        split = sum(1 for order in before.folio_order.tolist() if order) - sum(
            1 for order in after.folio_order.tolist() if order
        )
        if split != outcome.counts["folio_splits"]:
            yield "pieces"
        bases, ends = before.vma_pte_base.tolist(), (before.vma_end - before.vma_start).tolist()
        for vma, (base, length) in enumerate(zip(bases, ends, strict=True)):
            for word in words[base : base + length]:
                folio = outcome.folio_of_page.get(word >> _SHIFT, -1) if word & _PRESENT else -1
                if folio >= 0 and vma not in owners[folio]:
                    yield "pieces"

    def _books(self, outcome: SplitOutcome) -> Iterator[str]:
        """Mapcounts, references, counters, slots and lists are what the page tables and flags say."""
        before, after, state = self.before, outcome.after, self.state
        words, flags = after.ptes.tolist(), after.folio_flags.tolist()
        counts = dict.fromkeys(range(self.origin, self.origin + self.total), 0)
        rss = [[0, 0, 0, 0] for _ in range(len(before.mm_flags))]
        used: list[int] = []
        for at, word in enumerate(words):
            process = at // self.total
            if word & _PRESENT and word >> _SHIFT != _ZERO_PFN:
                counts[word >> _SHIFT] = counts.get(word >> _SHIFT, 0) + 1
                rss[process][self.kind.counter] += 1
            elif not word & _PRESENT and word >> _KIND_SHIFT & _KIND_MASK == _SWAP:
                rss[process][2] += 1
                used.append(word >> _SHIFT)
        if rss != after.mm_rss.tolist():
            yield "accounting"
        used = sorted(set(used))  # a shared page has one slot
        # a PMD leaf counts once for its folio, and not for its pages
        has_leaf = bool((after.table_state == TableState.PMD_LEAF).any())
        entire, bases = after.folio_entire_mapcount.tolist(), after.folio_page_base.tolist()
        page_mapcounts = after.page_mapcount.tolist()
        lists = [*after.lru_inactive.tolist(), *after.lru_active.tolist()]
        active = set(after.lru_active.tolist())
        mapcounts, refs = after.folio_mapcount.tolist(), after.folio_refcount.tolist()
        rows = zip(
            after.folio_pfn.tolist(), after.folio_order.tolist(), after.folio_nr_pages_mapped.tolist(), strict=True
        )
        if len(set(outcome.deferred)) < len(outcome.deferred):
            yield "lists"
        freed = 0
        in_use = set(used)
        for number, (pfn, order, nr_mapped) in enumerate(rows):
            pages, word = 1 << order, flags[number]
            mine = [counts[page] for page in range(pfn, pfn + pages) if page in counts]
            whole = int(has_leaf and entire[number] > 0)
            # a folio of one page has no count of mapped pages
            nr_expected = sum(count > 0 for count in mine) if order else nr_mapped
            mine = [count - whole for count in mine]
            mapcount = sum(mine) + whole
            if (mapcounts[number], nr_mapped, entire[number]) != (mapcount, nr_expected, whole):
                yield "accounting"
            if word & _PAGE_MAPCOUNTS:
                stored = page_mapcounts[bases[number] : bases[number] + pages]
            else:
                stored = [(mapcounts[number] - entire[number]) // pages] * pages
            if stored != mine:
                yield "accounting"
            if number in outcome.deferred and (order < 2 or word & _FREED or not word & _ANON):
                yield "lists"
            is_poisoned = any(page in self.poisoned for page in range(pfn, pfn + pages))
            if word & _FREED:
                freed += pages
                if number in lists or refs[number] or mapcount:
                    yield "lists" if number in lists else "accounting"
                # a clean shmem folio holds zeroes, and needs no slot
                if not word & _ANON and word & _SWAPBACKED and self._was_dirty(self._old_folio(pfn)):
                    in_use |= set(range(int(after.folio_swap[number]), int(after.folio_swap[number]) + pages))
                continue
            holder = state.holders[self._old_folio(pfn)] in ("pinned", "reference")
            cached = pages if not word & _ANON or word & _SWAPCACHE else 0
            if refs[number] != mapcount + cached + holder or (not refs[number] and not is_poisoned):
                yield "accounting"
            if word & _SWAPCACHE:
                in_use |= set(range(int(after.folio_swap[number]), int(after.folio_swap[number]) + pages))
            expected = not word & _UNEVICTABLE
            # without free swap memory.reclaim leaves out what needs it; the lists of the outcome are those it scans
            if state.action == "reclaim" and state.swap != "unlimited" and word & _SWAPBACKED:
                expected = number in lists
            if (lists.count(number) != expected and not is_poisoned) or lists.count(number) > 1:
                yield "lists"
            if number in lists and (number in active) != bool(word & _ACTIVE):
                yield "lists"
        used_before = state.slots.count(SWAPPED) + sum(
            pages for number, (_, pages) in enumerate(state.folios) if state.holders[number] == "swapcache"
        )
        if len(in_use) - used_before != outcome.swap_used:
            yield "slots"
        device = state.device
        if device is None or device.free_slots < UNLIMITED_SWAP:
            if outcome.swap_used > (device.free_slots if device else 0):
                yield "slots"
        gone_before = sum(pages for number, (_, pages) in enumerate(state.folios) if self._is_gone(number))
        if freed - gone_before != outcome.counts["pages_came_back"]:
            yield "came-back"

    def _old_folio(self, pfn: int) -> int:
        """Number of the folio that a page was in before the call."""
        return next(
            number
            for number, (first, pages) in enumerate(self.state.folios)
            if first <= pfn - self.origin < first + pages
        )

    def _was_dirty(self, number: int) -> bool:
        """Whether a page of a folio was dirty; one dirty entry makes the whole folio dirty when it is unmapped."""
        first, pages = self.state.folios[number]
        return any(self.origin + page in self.dirty for page in range(first, first + pages))

    def _is_gone(self, number: int) -> bool:
        return bool(int(self.before.folio_flags[number]) & _FREED)


def judge_split(
    state: SplitState, policy: Policy | BatchRule, oracle: Policy, arch: Arch, engine: SplitEngine = run_c
) -> list[str]:
    """Return the names of the invariants that a policy violates in a state."""
    return SplitJudge(state, oracle, arch, engine).violated(policy)
