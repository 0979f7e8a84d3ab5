"""A search through small states that are judged in Python: families of states, cut in jobs that processes take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol, TypeAlias

from rmapfast.parallel import opened
from rmapfast.policy import Policy
from rmapfast.reference import BatchRule, YoungRule

# What is tried on a state. Functions run on the reference.
Rule: TypeAlias = "Policy | BatchRule | YoungRule"

# States of one job: about a second for all presets.
_JOB, _REFERENCE_JOB = 500, 20


class State(Protocol):
    """A small state."""

    def to_case(self) -> dict[str, Any]:
        """Return the state as a document that serialises to JSON."""


class Family(Protocol):
    """A part of a scope."""

    def states(self) -> Iterator[Any]:
        """Every state, always in the same order."""


class Judge(Protocol):
    """A state and what is right in it."""

    def violated(self, rule: Any) -> list[str]:
        """Try a rule; return the names of the invariants that do not hold."""


@dataclass(frozen=True)
class _Job:
    """Some states of a family, and the rules that are tried on each."""

    family: int
    states: tuple[Any, ...]
    rules: tuple[Rule, ...]
    judge: Callable[[Any], Judge]

    def run(self) -> list[dict[str, tuple[int, State]]]:
        """Return for each rule how many states violate an invariant, and the first of them, by invariant."""
        found: list[dict[str, tuple[int, State]]] = [{} for _ in self.rules]
        for state in self.states:
            judge = self.judge(state)
            for rule, counts in zip(self.rules, found, strict=True):
                for name in judge.violated(rule):
                    count, first = counts.get(name, (0, state))
                    counts[name] = count + 1, first
        return found


@dataclass
class Search:
    """What was found in the states that were tried.

    Parameters
    ----------
    states : int
        States that were tried under any rule.
    tried : list of int
        For each policy: states that were tried.
    counts : list of dict
        For each policy: violating states by invariant.
    examples : list of dict
        For each policy: the first of them by invariant, as a case.
    left_out : tuple of str
        What the time did not suffice for.
    seconds : float
    """

    states: int
    tried: list[int]
    counts: list[dict[str, int]]
    examples: list[dict[str, dict[str, Any]]]
    left_out: tuple[str, ...] = field(default=())
    seconds: float = 0.0


def search_families(
    families: list[Any],
    chosen: list[Rule],
    rule_of: Callable[[Rule, Any], Rule | None],
    judge: Callable[[Any], Judge],
    *,
    budget: float,
    threads: int,
    progress: Callable[[str], None] | None,
) -> Search:
    """Try the states of all families, until the budget is used up.

    Parameters
    ----------
    families : list of Family
        The smallest first: the example of a class is the first state of the first family, whatever the order of jobs.
    chosen : list of Policy, callable or YoungRule
    rule_of : callable
        Gives, for one of `chosen` and a family, what stands for all that treat its states by the same rules; None if
        it has no rules for them.
    judge : callable
        Makes the judge of a state.
    budget : float
        Seconds.
    threads : int
        Worker processes; 1: this process. Functions and function pointers run in this process.
    progress : callable, optional

    Returns
    -------
    Search
    """
    begin = time.monotonic()
    nothing: list[None] = [None] * len(chosen)
    search = Search(0, [0 for _ in nothing], [{} for _ in nothing], [{} for _ in nothing])
    on_reference = not all(isinstance(one, Policy) for one in chosen)
    size = _REFERENCE_JOB if on_reference else _JOB
    rules: list[dict[Rule, list[int]]] = []  # by family: what differs there, with the numbers of its policies
    for family in families:
        rules.append({})
        for number, one in enumerate(chosen):
            rule = rule_of(one, family)
            if rule is not None:
                rules[-1].setdefault(rule, []).append(number)

    def jobs() -> Iterator[_Job]:
        """A job of each family in turn, so that a budget that is too small meets all of them."""
        left = {number: family.states() for number, family in enumerate(families) if rules[number]}
        while left:
            for number, states in list(left.items()):
                if time.monotonic() - begin > budget:
                    missing = {families[one]: sum(1 for _ in rest) for one, rest in left.items()}
                    search.left_out = tuple(f"{one}: {count:,} states" for one, count in missing.items() if count)
                    return
                job = tuple(islice(states, size))
                if len(job) < size:
                    del left[number]
                if job:
                    yield _Job(number, job, tuple(rules[number]), judge)

    ranks: list[dict[str, int]] = [{} for _ in chosen]
    here = threads == 1 or on_reference or any(isinstance(one, Policy) and one.has_pointer for one in chosen)
    with opened("threads" if here else "processes", threads) as pool:
        for job, found in pool.in_order(_Job.run, jobs()):
            search.states += len(job.states)
            for numbers, counts in zip(rules[job.family].values(), found, strict=True):
                for number in numbers:
                    search.tried[number] += len(job.states)
                    for name, (count, state) in counts.items():
                        search.counts[number][name] = search.counts[number].get(name, 0) + count
                        if job.family < ranks[number].get(name, len(families)):
                            ranks[number][name], search.examples[number][name] = job.family, state.to_case()
            if progress:
                progress(f"{search.states:,} states; {families[job.family]}")
    search.seconds = time.monotonic() - begin
    return search
