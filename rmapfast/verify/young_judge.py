"""What a reference check does to a small state, and which invariants it violates; docs/checker.md has a sentence each.

The invariants know nothing of how entries are batched. They ask which entries of the folio were young before, which are
young afterwards, and which other entries a window may have cleared.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np

import rmapfast._core as _core
from rmapfast import policy as _policy
from rmapfast import pte, reference
from rmapfast.arch import Arch
from rmapfast.events import EVENT_NAMES
from rmapfast.flags import FolioFlag, VmaFlag
from rmapfast.policy import Policy
from rmapfast.population import Population
from rmapfast.reference import BatchRule, YoungRule
from rmapfast.verify.split_judge import fresh
from rmapfast.verify.young_states import BLOCK, GENERATIONS, YOUNGEST, YoungState, young_arch, young_population

# In the order in which a report has them.
YOUNG_INVARIANTS = (
    "young-left",
    "referenced",
    "visited",
    "mlock",
    "outside-window",
    "window-missed",
    "marks",
    "out-of-bounds",
    "tlb-flush",
    "other-state",
    "final-state",
)

# Entries of lru_gen_look_around()'s window.
_WINDOW = 64
_PRESENT, _YOUNG, _DIRTY = int(pte.PRESENT), int(pte.YOUNG), int(pte.DIRTY)
_SHIFT, _ZERO_PFN = int(pte.PFN_SHIFT), int(pte.ZERO_PFN)
_KIND_SHIFT, _KIND_MASK = int(_core.KIND_SHIFT), int(_core.KIND_MASK)
_DEVICE = pte.KINDS.index("device_exclusive")
_OUTSIDE = ("oob_reads", "oob_writes", "vma_overrun_reads", "vma_overrun_writes")
_COUNTED = (*_OUTSIDE, "referenced_calls", "young_flushes")
_EVENTS = {name: EVENT_NAMES.index(name) for name in _COUNTED}
_GEN_MASK, _GEN_SHIFT = int(_core.FOLIO_GEN_MASK), int(_core.FOLIO_GEN_SHIFT)
_REFERENCED, _DIRTY_FOLIO = int(FolioFlag.REFERENCED), int(FolioFlag.DIRTY)
_MLOCKED, _IDLE = int(FolioFlag.MLOCKED), int(FolioFlag.YOUNG)
_LOCKED = int(VmaFlag.LOCKED)
# Arrays that a reference check leaves alone.
_KEPT = (
    "table_state",
    "folio_refcount",
    "folio_mapcount",
    "folio_entire_mapcount",
    "folio_nr_pages_mapped",
    "page_mapcount",
    "page_flags",
    "mm_rss",
)

Rule: TypeAlias = "Policy | BatchRule | YoungRule"


@dataclass(frozen=True)
class YoungOutcome:
    """What a reference check did to a state.

    Parameters
    ----------
    after : Population
    referenced, vm_flags : int
        VMAs that referenced the folio, and their flags.
    counts : dict of str to int
        Events: accesses outside page table and VMA, VMAs visited, flushes of young entries.
    tests : tuple of (int, int)
        What was tested for young in order: the virtual page, and how many entries.
    windows : dict of int to tuple
        By the virtual page of a young entry: the window that a function chose there. Empty under a policy.
    """

    after: Population
    referenced: int
    vm_flags: int
    counts: dict[str, int]
    tests: tuple[tuple[int, int], ...]
    windows: dict[int, tuple[int, int]] = field(default_factory=dict)


# Checks the folio under test of a population, and changes the population.
YoungEngine: TypeAlias = "Callable[[Population, YoungState, Rule, Arch], YoungOutcome]"


def check_young_c(population: Population, state: YoungState, rule: Rule, arch: Arch) -> YoungOutcome:
    """Check the folio of a state with the C library."""
    assert isinstance(rule, Policy)
    run = _core.Run(population, rule, arch, trace=True, ask_twice=True)
    if state.lru == "mglru":
        rings = np.empty(run.folio_capacity, np.uint32), np.empty(run.folio_capacity, np.uint32)
        nr = len(population.lru_inactive)
        rings[0][:nr] = population.lru_inactive
        run.reclaim_start(rings[0], nr, rings[1], 0, 0, lru_gen=GENERATIONS)
    referenced, vm_flags = run.folio_referenced(state.tested)
    events = run.events
    return YoungOutcome(
        population,
        referenced,
        vm_flags,
        {name: int(events[index]) for name, index in _EVENTS.items()},
        tuple((vpn, nr) for kind, vpn, nr in run.trace_entries if _core.TRACE_KINDS[kind] == "young"),
    )


def check_young_reference(population: Population, state: YoungState, rule: Rule, arch: Arch) -> YoungOutcome:
    """Check the folio of a state with the reference."""
    windows: dict[int, tuple[int, int]] = {}
    if isinstance(rule, YoungRule) and (choose := rule.window):

        def recorded(vma: reference.Vma, vpn: int) -> tuple[int, int]:
            windows[vpn] = choose(vma, vpn)
            return windows[vpn]

        recorded.__name__ = getattr(choose, "__name__", repr(choose))
        rule = dataclasses.replace(rule, window=recorded)
    kernel = reference.Kernel(population, rule, arch)
    kernel.load_lists()
    if state.lru == "mglru":
        reference.Generations(kernel)
    referenced, vm_flags = kernel.folio_referenced(kernel.folio(state.tested))
    record = kernel.record
    tests = tuple((vpn, nr) for kind, vpn, nr in record.trace if kind == "young")
    counts = {name: record.events[name] for name in _EVENTS}
    return YoungOutcome(population, referenced, vm_flags, counts, tests, windows)


@dataclass(frozen=True)
class _Visit:
    """A VMA that the check comes to: the folio's entries there, by their index, and whether it is locked."""

    vma: int
    entries: tuple[int, ...]
    locked: bool


@dataclass
class _Looks:
    """What the look-arounds of one outcome do by the rules.

    Parameters
    ----------
    seen, cleared : set of int
        Entries in the windows, and those that are made old there.
    touched : dict of int to bool
        Folios that the windows find young, and whether such an entry is dirty.
    flushed_tests : int
        Tests that found a young entry and flush it where the architecture does: MGLRU flushes none but PMD leaves.
    """

    seen: set[int] = field(default_factory=set)
    cleared: set[int] = field(default_factory=set)
    touched: dict[int, bool] = field(default_factory=dict)
    flushed_tests: int = 0


class YoungJudge:
    """One state: its population, and what the check is to find in it.

    Parameters
    ----------
    state : YoungState
    oracle : Policy
        What the outcome is compared with.
    arch : Arch
        Its rules hold; page tables and contpte blocks are those of the state.
    engine : callable, optional
        Does the checks. By default the C library, and the reference where a function is tried.

    Raises
    ------
    ValueError
        If the state is one of MGLRU, which is not known of the oracle.
    """

    def __init__(self, state: YoungState, oracle: Policy, arch: Arch, engine: YoungEngine | None = None) -> None:
        if not has_rules(oracle, state):
            raise ValueError(f"against: expected a policy whose multi-gen LRU is known, got {oracle.name}")
        self.state, self.arch = state, young_arch(arch, state)
        self.before = young_population(state)
        self.oracle, self._engine = oracle, engine
        self.words: list[int] = self.before.ptes.tolist()
        self.young = self._young(self.words)
        self.total = len(state.slots)
        self.flags: list[int] = self.before.folio_flags.tolist()
        self.folio_of_pfn = {
            state.origin + first + page: number
            for number, (first, pages) in enumerate(state.folios)
            for page in range(pages)
        }
        self._walk()

    # What the check is to find.

    def _walk(self) -> None:
        """Go through the VMAs that map the folio: which are visited, which reference it, whether it is mlocked."""
        state, before, tested = self.state, self.before, self.state.tested
        self.visits: list[_Visit] = []
        self.referenced, self.vm_flags = 0, 0
        self.mlocked, idle = False, state.idle
        left = int(before.folio_mapcount[tested])
        first_pair, end_pair = (int(before.rmap_start[tested + one]) for one in (0, 1))
        for vma in before.rmap_vma[first_pair:end_pair].tolist():
            flags = int(before.vma_flags[vma])
            process = int(before.vma_mm[vma])
            if not left:
                break
            if process == 1 and state.outside:
                continue
            low, high = (int(array[vma]) - state.first_vpn(process) for array in (before.vma_start, before.vma_end))
            first, pages = state.folios[tested]
            low, high = max(low, first), min(high, first + pages)
            has_leaf = state.leaf and process == 0
            # the word of a leaf is in the first slot of its table
            pages_seen = [low] if has_leaf else [page for page in range(low, high) if self._maps(process, page)]
            entries = tuple(process * self.total + page for page in pages_seen)
            self.visits.append(_Visit(vma, entries, bool(flags & _LOCKED)))
            left -= 1 if has_leaf else len(entries)
            if flags & _LOCKED:
                vpn = state.first_vpn(process)
                one_table = (vpn + low) // state.table == (vpn + high - 1) // state.table
                if has_leaf or (len(entries) == pages and one_table):
                    self.mlocked = True
                    self.vm_flags |= _LOCKED
                    break
            young = not flags & _LOCKED and any(self.words[at] & _PRESENT and self.words[at] & _YOUNG for at in entries)
            if young or idle:
                self.referenced += 1
                self.vm_flags |= flags & ~_LOCKED
            idle = False
        self.idle_left = idle

    def _maps(self, process: int, page: int) -> bool:
        """Whether an entry maps the folio under test; a device-exclusive one does."""
        word = self.words[process * self.total + page]
        is_device = not word & _PRESENT and word >> _KIND_SHIFT & _KIND_MASK == _DEVICE
        return bool(word & _PRESENT or is_device) and self.folio_of_pfn.get(word >> _SHIFT) == self.state.tested

    @cached_property
    def own(self) -> set[int]:
        """The entries that must be old afterwards: those of the folio in each visited VMA that is not locked."""
        return {at for visit in self.visits if not visit.locked for at in visit.entries if self.words[at] & _PRESENT}

    # What a policy may do beside it.

    def _place(self, vpn: int) -> tuple[int, int]:
        """Process and page of a virtual page number."""
        process = int(vpn >= self.state.first_vpn(1) - self.state.table)
        return process, vpn - self.state.first_vpn(process)

    def _span(self, process: int, page: int) -> range:
        """The pages of the page table and the VMA that a page lies in."""
        spans = self.state.spans if process == 0 else [(0, self.total)]
        low, high = next((low, high) for low, high in spans if low <= page < high)
        first = self.state.first_vpn(process)
        table = (first + page) // self.state.table * self.state.table - first
        return range(max(low, table), min(high, table + self.state.table))

    def _window(self, outcome: YoungOutcome, vpn: int) -> range:
        """The pages that the look-around at an entry reads, within page table and VMA."""
        process, page = self._place(vpn)
        span = self._span(process, page)
        if vpn in outcome.windows:
            first = self.state.first_vpn(process)
            start, end = (one - first for one in outcome.windows[vpn])
            return range(max(start, span.start), min(end, span.stop))
        if len(span) <= _WINDOW:
            return span
        start = min(max(page - _WINDOW // 2, span.start), span.stop - _WINDOW)
        return range(start, start + _WINDOW)

    def _block(self, at: int) -> range:
        """The entries that share a young bit: those of the folded block, or the entry alone."""
        if at < self.total:
            for first in self.state.blocks:
                if first <= at < first + BLOCK:
                    return range(first, first + BLOCK)
        return range(at, at + 1)

    def _counts_in_window(self, at: int, edition: str) -> int | None:
        """Folio of a young entry that a window clears, or None if the edition leaves such folios alone."""
        folio = self.folio_of_pfn.get(self.words[at] >> _SHIFT)
        if folio is None:
            return None
        if edition != "v6.12":
            on_list = self.flags[folio] >> _GEN_SHIFT & _GEN_MASK
            return folio if on_list else None
        is_file = self.state.kinds[folio] != "anon"
        return folio if is_file or self.state.kinds[self.state.tested] == "anon" else None

    def violated(self, rule: Rule) -> list[str]:
        """Check the folio under a rule; return the names of the invariants that do not hold.

        A rule whose MGLRU is not known is right in a state of MGLRU.
        """
        if not has_rules(rule, self.state):
            return []
        outcome = self.outcome(rule)
        found = set(self._violations(outcome, rule))
        return [name for name in YOUNG_INVARIANTS if name in found]

    def outcome(self, rule: Rule) -> YoungOutcome:
        """Check the folio under a rule, on a population of its own."""
        engine = self._engine or (check_young_c if isinstance(rule, Policy) else check_young_reference)
        return engine(fresh(self.before), self.state, rule, self.arch)

    @cached_property
    def _right(self) -> tuple[YoungOutcome, set[int], set[int]]:
        """What the oracle does, its young entries afterwards, and what its windows saw."""
        outcome = self.outcome(self.oracle)
        seen = self._look_around(outcome, self.oracle.mglru).seen
        return outcome, self._young(outcome.after.ptes.tolist()), seen

    @cached_property
    def _kept(self) -> list[bytes]:
        return [getattr(self.before, name).tobytes() for name in _KEPT]

    def _violations(self, outcome: YoungOutcome, rule: Rule) -> Iterator[str]:
        state, after = self.state, outcome.after
        words: list[int] = after.ptes.tolist()
        flags: list[int] = after.folio_flags.tolist()
        young = self._young(words)
        cleared = self.young - young
        if self.own & young or bool(flags[state.tested] & _IDLE) != self.idle_left:
            yield "young-left"
        if (outcome.referenced, outcome.vm_flags) != (self.referenced, self.vm_flags):
            yield "referenced"
        if outcome.counts["referenced_calls"] != len(self.visits):
            yield "visited"
        if bool(flags[state.tested] & _MLOCKED) != self.mlocked:
            yield "mlock"
        if any(outcome.counts[name] for name in _OUTSIDE):
            yield "out-of-bounds"
        edition = _edition(rule)
        looks = self._look_around(outcome, edition)
        if cleared - self.own - looks.cleared:
            yield "outside-window"
        if looks.cleared - cleared:
            yield "window-missed"
        if any(self._marks_are_wrong(folio, flags[folio], looks, edition) for folio in range(len(flags))):
            yield "marks"
        if outcome.counts["young_flushes"] != (looks.flushed_tests if self.arch.tlb == "arm64" else 0):
            yield "tlb-flush"
        kept = self._kept == [getattr(after, name).tobytes() for name in _KEPT]
        if not kept or any((old ^ new) & ~_YOUNG for old, new in zip(self.words, words, strict=True)):
            yield "other-state"
        if self._differs(outcome, young, looks):
            yield "final-state"

    @staticmethod
    def _young(words: list[int]) -> set[int]:
        return {at for at, word in enumerate(words) if word & _PRESENT and word & _YOUNG}

    def _look_around(self, outcome: YoungOutcome, edition: str) -> _Looks:
        """Follow the tests of an outcome: each that finds a young entry looks around it."""
        young = set(self.young)
        looks = _Looks()
        for vpn, nr in outcome.tests:
            process, page = self._place(vpn)
            at = process * self.total + page
            is_leaf = self.state.leaf and process == 0
            tested = {one for entry in range(at, at + nr) for one in self._block(entry)}
            if not tested & young:
                continue
            young -= tested
            if self.state.lru == "classic" or is_leaf:
                looks.flushed_tests += 1
                continue
            window = self._window(outcome, vpn)
            for entry in range(process * self.total + window.start, process * self.total + window.stop):
                block = set(self._block(entry))
                looks.seen |= block
                folio = self._counts_in_window(entry, edition)
                if not block & young or folio is None:
                    continue
                looks.cleared |= block & young
                looks.touched[folio] = looks.touched.get(folio, False) or bool(self.words[entry] & _DIRTY)
                young -= block
        return looks

    def _marks_are_wrong(self, folio: int, after: int, looks: _Looks, edition: str) -> bool:
        """Whether a folio that a window found young is not marked, or another one is."""
        before = self.flags[folio]
        others = _IDLE | _MLOCKED
        if folio not in looks.touched:
            return bool((before ^ after) & ~others)
        swapped = self.state.kinds[folio] == "anon"  # not in the swap cache
        dirty = before | (_DIRTY_FOLIO if looks.touched[folio] and not swapped else 0)
        if (dirty ^ after) & _DIRTY_FOLIO:
            return True
        if not before >> _GEN_SHIFT & _GEN_MASK:
            return not after & _REFERENCED
        is_youngest = after >> _GEN_SHIFT & _GEN_MASK == YOUNGEST
        if edition == "v6.12" or before & _REFERENCED:
            return not is_youngest
        return not (is_youngest or after & _REFERENCED)

    def _differs(self, outcome: YoungOutcome, young: set[int], looks: _Looks) -> bool:
        """Whether anything but what the windows saw is other than under the oracle."""
        right, wanted, seen = self._right
        of_tested = [int(one.after.folio_flags[self.state.tested]) & (_MLOCKED | _IDLE) for one in (outcome, right)]
        unseen = self.own | (set(range(len(self.words))) - seen - looks.seen)
        return (
            (outcome.referenced, outcome.vm_flags) != (right.referenced, right.vm_flags)
            or of_tested[0] != of_tested[1]
            or bool((young ^ wanted) & unseen)
        )


def _edition(rule: Rule) -> str:
    """The edition whose MGLRU a rule follows."""
    if isinstance(rule, YoungRule):
        return _policy.get(rule.around).mglru
    assert isinstance(rule, Policy)
    return rule.mglru


def has_rules(rule: Rule, state: YoungState) -> bool:
    """Return whether a rule says what happens in a state: the rules of MGLRU are not known for every policy."""
    return state.lru == "classic" or _edition(rule) != "none"


def judge_young(
    state: YoungState, rule: Policy | YoungRule, oracle: Policy, arch: Arch, engine: YoungEngine | None = None
) -> list[str]:
    """Return the names of the invariants that a policy or a function violates in a state.

    None under a policy whose MGLRU is not known, in a state of MGLRU (:func:`has_rules`).
    """
    return YoungJudge(state, oracle, arch, engine).violated(rule)
