"""The check of splits: whether a process still reaches what page-by-page treatment leaves (docs/checker.md)."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from itertools import islice

from rmapfast.arch import Arch
from rmapfast.parallel import opened
from rmapfast.policy import Policy
from rmapfast.reference import BatchRule
from rmapfast.verify.split_judge import SplitEngine, SplitJudge, run_c, run_reference
from rmapfast.verify.split_states import SplitFamily, SplitState, split_families, toy_arch

# The fields of a policy that say how folios are split, swapped and shared, and when they are old.
SPLIT_FIELDS = (
    "young",
    "split_order",
    "swap_split",
    "swap_single",
    "sharing",
    "dirty_flush",
    "shmem_fallback",
)
# States that are drawn of each kind of folio, besides all those of the themes, where folios of 4 pages are tried.
DRAWN = 5000
# States of one job: about a second for all presets.
_JOB, _REFERENCE_JOB = 500, 20


def split_rules(policy: Policy, unmap: Policy, family: SplitFamily) -> Policy:
    """Return one policy for all that treat the states of a family by the same rules; it runs once.

    Parameters
    ----------
    policy : Policy
    unmap : Policy
        The policy that stands for it where a folio of this kind is unmapped.
    family : SplitFamily
    """
    fields = {name: getattr(policy, name) for name in SPLIT_FIELDS}
    # no device of the scope has a map, and what counts in swpout_fallbacks is not compared
    fields |= {"swap_single": "partial", "shmem_fallback": True}
    if not family.anon:
        fields["swap_split"] = "always"
    if family.kind == "file":
        fields["dirty_flush"] = "folio"
    return unmap.replace(**fields)


@dataclasses.dataclass(frozen=True)
class SplitJob:
    """Some states of a family, and the rules that are tried on each.

    Parameters
    ----------
    family : SplitFamily
    states : tuple of SplitState
    rules : tuple of Policy or callable
    oracle : Policy
    arch : Arch
    engine : callable
    """

    family: SplitFamily
    states: tuple[SplitState, ...]
    rules: tuple[Policy | BatchRule, ...]
    oracle: Policy
    arch: Arch
    engine: SplitEngine

    def run(self) -> list[dict[str, tuple[int, SplitState]]]:
        """Return for each rule how many states violate an invariant, and the first of them, by invariant."""
        found: list[dict[str, tuple[int, SplitState]]] = [{} for _ in self.rules]
        for state in self.states:
            judge = SplitJudge(state, self.oracle, self.arch, self.engine)
            for rule, counts in zip(self.rules, found, strict=True):
                for name in judge.violated(rule):
                    count, first = counts.get(name, (0, state))
                    counts[name] = count + 1, first
        return found


@dataclasses.dataclass
class SplitSearch:
    """What was found in the states that were tried.

    Parameters
    ----------
    tried : int
        States.
    left_out : dict of SplitFamily to int
        States that the time did not suffice for.
    counts : list of dict
        For each policy: violating states by invariant.
    examples : list of dict
        For each policy: the first of them by invariant.
    seconds : float
    """

    tried: int
    left_out: dict[SplitFamily, int]
    counts: list[dict[str, int]]
    examples: list[dict[str, SplitState]]
    seconds: float = 0.0


def split_search(
    policies: list[Policy] | BatchRule,
    unmap_rules: Callable[[Policy, str], Policy],
    *,
    pages: int,
    budget: float,
    oracle: Policy,
    arch: Arch,
    threads: int,
    progress: Callable[[str], None] | None,
    drawn: int = DRAWN,
) -> SplitSearch:
    """Try the states of the scope, until the budget is used up; a family is a kind of folio and a theme.

    Parameters
    ----------
    policies : list of Policy, or callable
        A callable runs on the reference, in this process.
    unmap_rules : callable
        Gives, for a policy and a kind of folio, the policy that stands for all that unmap it by the same rules.
    pages : {1, 2, 4, 8}
        Largest folio.
    budget : float
        Seconds.
    oracle : Policy
    arch : Arch
    threads : int
        Worker processes; 1: this process.
    progress : callable, optional
    drawn : int
        States that are drawn of each kind where folios of 4 pages are tried.

    Returns
    -------
    SplitSearch
    """
    begin = time.monotonic()
    families = split_families(pages, drawn if pages >= 4 else 0)
    chosen: list[Policy | BatchRule] = [policies] if callable(policies) else list(policies)
    search = SplitSearch(0, {}, [{} for _ in chosen], [{} for _ in chosen])
    toy, engine = toy_arch(arch), run_reference if callable(policies) else run_c

    def rules_of(family: SplitFamily) -> dict[Policy | BatchRule, list[int]]:
        """The rules that differ for a family, each with the numbers of its policies."""
        rules: dict[Policy | BatchRule, list[int]] = {}
        for number, policy in enumerate(chosen):
            rule = (
                split_rules(policy, unmap_rules(policy, family.kind), family) if isinstance(policy, Policy) else policy
            )
            rules.setdefault(rule, []).append(number)
        return rules

    def jobs() -> Iterator[SplitJob]:
        """A job of each family in turn, so that a budget that is too small meets all of them."""
        size = _JOB if engine is run_c else _REFERENCE_JOB
        left = {family: family.states() for family in families}
        while left:
            for family, states in list(left.items()):
                if time.monotonic() - begin > budget:
                    search.left_out = {one: count for one, rest in left.items() if (count := sum(1 for _ in rest))}
                    return
                job = tuple(islice(states, size))
                if len(job) < size:
                    del left[family]
                if job:
                    yield SplitJob(family, job, tuple(rules_of(family)), oracle, toy, engine)

    # the example of a class is the first state of the first family, whatever the order of the jobs
    ranks: list[dict[str, int]] = [{} for _ in chosen]
    with opened("threads" if threads == 1 or callable(policies) else "processes", threads) as pool:
        for job, found in pool.in_order(SplitJob.run, jobs()):
            search.tried += len(job.states)
            rank = families.index(job.family)
            for numbers, counts in zip(rules_of(job.family).values(), found, strict=True):
                for number in numbers:
                    for name, (count, state) in counts.items():
                        search.counts[number][name] = search.counts[number].get(name, 0) + count
                        if rank < ranks[number].get(name, len(families)):
                            ranks[number][name], search.examples[number][name] = rank, state
            if progress:
                progress(f"{search.tried:,} states with splits; {job.family}")
    search.seconds = time.monotonic() - begin
    return search
