"""The check of a batching rule of one's own: of a Python function small states on the reference; then drawn folios."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from rmapfast.arch import Arch
from rmapfast.flags import FOLIO_KINDS, folio_kind
from rmapfast.policy import Policy
from rmapfast.reference import BatchRule
from rmapfast.verify.cases import Case, case_of_state, reachable
from rmapfast.verify.coverage import Returned, WatchedRule
from rmapfast.verify.drawing import case_in_words
from rmapfast.verify.generation import rule_cases
from rmapfast.verify.invariants import judge, judged
from rmapfast.verify.states import Family, Scope

# States that the reference tries in a second, about; for estimates.
REFERENCE_RATE = 1000
# Largest folio of the small states that are tried in part where no number of pages is asked for.
SAMPLED_PAGES = 4
# The drawn folios: several for each kind, size and border; 10 to 20 seconds.
DRAWN = 3920
# Of a budget that is small, this part is for the drawn folios; of any budget no more than these seconds.
_DRAWN_SHARE, _DRAWN_SECONDS = 1 / 2, 20.0


@dataclass
class RuleSearch:
    """What was found for a rule.

    Parameters
    ----------
    judge : callable
        Gives the names of the invariants that the rule violates on a case.
    returned : Returned
        What the rule returned.
    tried, drawn : int
        Small states tried, and drawn folios.
    exhaustive_pages, sampled_pages : int
        Every state was tried of folios of up to so many pages, and a part of those of folios of up to so many; 0 for
        none.
    counts, examples : dict
        By invariant: how many states violate it, and one of them: a reachable one if there is one, that of the
        smallest folio then, and that with the lowest number then.
    left_out : list of str
    """

    judge: Callable[[Case], list[str]]
    returned: Returned
    tried: int = 0
    drawn: int = 0
    exhaustive_pages: int = 0
    sampled_pages: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, Case] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    _ranks: dict[str, tuple[bool, int, int, int]] = field(default_factory=dict)

    def try_case(self, case: Case, family: int, index: int) -> None:
        """Judge the rule on one case; ``ValueError`` with the case in words if it returns what cannot be."""
        try:
            violated = self.judge(case)
        except ValueError as error:
            raise ValueError(f"{error}; the folio: {case_in_words(case)}") from error
        rank = not reachable(case), 1 << case["folio"]["order"], family, index
        for name in violated:
            self.add(name, 1, rank, lambda: case)

    def add(self, name: str, count: int, rank: tuple[bool, int, int, int], case: Callable[[], Case]) -> None:
        """Add states that violate an invariant.

        Parameters
        ----------
        name : str
        count : int
        rank : tuple
            Of the example: whether no kernel can reach it, its pages, its family, its number there.
        case : callable
            Gives the example.
        """
        self.counts[name] = self.counts.get(name, 0) + count
        if name not in self._ranks or rank < self._ranks[name]:
            self._ranks[name], self.examples[name] = rank, case()

    def try_states(self, scope: Scope, family: int, order: Iterable[int], end: float) -> bool:
        """Try the states of a family in an order of their numbers; False if the time did not suffice."""
        for index in order:
            if time.monotonic() > end:
                return False
            state = scope.state(family, index)
            if state is not None:
                self.tried += 1
                self.try_case(case_of_state(state), family, index)
        return True


def for_drawn(budget: float) -> float:
    """Return how many seconds of a budget are kept for drawn folios."""
    return min(budget * _DRAWN_SHARE, _DRAWN_SECONDS)


def search_of(rule: Policy | BatchRule, oracle: Policy, arch: str | Arch) -> RuleSearch:
    """Return a search in which nothing was tried yet, for a Python function, or for a policy on the C library."""
    if not isinstance(rule, Policy):
        watched = WatchedRule(rule)
        return RuleSearch(lambda case: judge(case, watched, against=oracle, arch=arch), watched.returned)
    returned = Returned()

    def judge_policy(case: Case) -> list[str]:
        violated, outcome = judged(case, rule, against=oracle, arch=arch)
        kind = folio_kind(outcome.before.folio_flags[0])
        for step in outcome.steps:
            if step.present:
                returned.add(FOLIO_KINDS[int(kind)], step.nr)
        return violated

    return RuleSearch(judge_policy, returned)


def rule_search(
    search: RuleSearch,
    name: str,
    *,
    pages: int | None,
    budget: float,
    drawn: int,
    seed: int,
    unreachable: bool,
    progress: Callable[[str], None] | None,
) -> None:
    """Try a rule on small states on the reference, and on drawn folios.

    Parameters
    ----------
    search : RuleSearch
        A new one, in which what is found is kept.
    name : str
        Name of the rule.
    pages : {1, 2, 4, 8} or None
        Every state of folios of up to so many pages. None: every state of folios of one page, and as many of larger
        ones as the budget admits.
    budget : float
        Seconds.
    drawn, seed : int
        How many folios are drawn, and from which seed.
    unreachable : bool
        Also small states that user space cannot make.
    progress : callable, optional

    Raises
    ------
    ValueError
        If the states that `pages` asks for do not fit into the budget, before anything is tried; if the rule returns
        what cannot be.
    """
    start = time.monotonic()
    small_budget = budget - for_drawn(budget) if drawn else budget
    scope = Scope(pages or SAMPLED_PAGES, unreachable=unreachable)
    if pages is not None:
        _refuse_what_does_not_fit(name, pages, scope, budget, small_budget)
    _try_small(search, scope, pages, start + small_budget, progress)
    try_drawn(search, seed, drawn, len(scope.families), start + budget, progress)


def _refuse_what_does_not_fit(name: str, pages: int, scope: Scope, budget: float, small_budget: float) -> None:
    """Raise ``ValueError`` with what would do, unless every state can be tried in time, by the estimate."""
    states = _states(scope.families)
    needed = states / REFERENCE_RATE
    if needed > small_budget:
        extra = min(needed * _DRAWN_SHARE / (1 - _DRAWN_SHARE), _DRAWN_SECONDS)
        raise ValueError(
            f"pages: {states:,} states of up to {pages} page(s) take a Python function such as {name}() "
            f"about {_duration(needed)} ({REFERENCE_RATE:,} a second), more than budget={budget:g} leaves for them; "
            f"use budget={int(needed + extra) + 1}, or leave pages out to try a part of them"
        )


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _states(families: Iterable[Family]) -> int:
    return sum(family.states for family in families)


def _spread(states: int) -> Iterator[int]:
    """Yield the numbers of all states once; the first few of them are spread over the whole range evenly."""
    # steps of the golden ratio of the range leave no large gap, wherever they end
    step = int(states * 0.6180339887) | 1
    while math.gcd(step, states) != 1:
        step += 2
    return (number * step % states for number in range(states))


def _try_small(
    search: RuleSearch, scope: Scope, pages: int | None, end: float, progress: Callable[[str], None] | None
) -> None:
    """Try the small states: all if `pages` says so; else all of one page, if there is time, and a part of others."""
    families = scope.families
    singles = _states(family for family in families if family.pages == 1)
    # Every state of one page takes half of the time at most: larger folios say more about a rule that batches.
    half = (end - time.monotonic()) / 2
    every = pages or int(singles / REFERENCE_RATE <= half)
    middle = end if pages else end - half
    for size in sorted({family.pages for family in families}):
        before, whole = search.tried, True
        numbers = [number for number, family in enumerate(families) if family.pages == size]
        for number in numbers:
            states, until = families[number].states, middle
            order: Iterable[int] = range(states)
            if size > every:
                # the budget meets all families
                now = time.monotonic()
                order, until = _spread(states), now + (end - now) / (len(families) - number)
            whole &= search.try_states(scope, number, order, until)
            if progress:
                progress(f"{search.tried:,} small states on the reference")
        tried = search.tried - before
        if whole and search.exhaustive_pages == size // 2:
            search.exhaustive_pages = size
        elif tried:
            search.sampled_pages = size
        if not whole:
            states = _states(families[number] for number in numbers)
            search.left_out.append(
                f"folios of {size} page{'s' if size > 1 else ''}: tried {tried:,} of {states:,} state numbers, "
                f"spread over {len(numbers)} kinds of folio and VMA"
            )


def try_drawn(
    search: RuleSearch,
    seed: int,
    number: int,
    family: int,
    end: float,
    progress: Callable[[str], None] | None,
) -> None:
    """Try drawn folios until a time, as a family behind those of the small states."""
    for case in rule_cases(seed, number):
        if time.monotonic() > end:
            search.left_out.append(f"drawn folios: tried {search.drawn:,} of {number:,}")
            break
        search.drawn += 1
        search.try_case(case, family, search.drawn)
        if progress:
            progress(f"{search.tried:,} small states, {search.drawn:,} drawn folios")
