"""A bounded exhaustive checker: does a batching policy end where unmapping page by page ends (docs/checker.md).

The C library enumerates every small state (csrc/check_states.h) and tests the invariants at millions of states a
second. A state that violates one comes back as a case, which is drawn, saved, replayed, and judged a second time in
plain Python.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from rmapfast import arch as _arch
from rmapfast import policy as _policy
from rmapfast.arch import Arch
from rmapfast.parallel import Journal, opened
from rmapfast.policy import Policy
from rmapfast.provenance import provenance
from rmapfast.reference import BatchRule, YoungRule, batches
from rmapfast.result import policy_name
from rmapfast.support import (
    Seed,
    checked_boolean,
    checked_integer,
    checked_list,
    checked_path,
    checked_progress,
    checked_seed,
    shown,
)
from rmapfast.verify.cases import Case, case_of_state, reachable
from rmapfast.verify.coverage import WatchedRule
from rmapfast.verify.invariants import INVARIANTS, judge
from rmapfast.verify.report import DOCUMENTED, CheckReport, PolicyCheck, Violation
from rmapfast.verify.rule_check import DRAWN, RuleSearch, for_drawn, rule_search, search_of, try_drawn
from rmapfast.verify.search import Rule, Search
from rmapfast.verify.split_check import SPLIT_FIELDS, split_search
from rmapfast.verify.split_judge import SPLIT_INVARIANTS, judge_split
from rmapfast.verify.split_states import SplitState, toy_arch
from rmapfast.verify.states import Class, Family, Found, Scope, Tried
from rmapfast.verify.young_check import young_search
from rmapfast.verify.young_judge import YOUNG_INVARIANTS, has_rules, judge_young
from rmapfast.verify.young_states import YoungState

_PAGES = (1, 2, 4, 8)
_DEFAULT_PAGES = 4
# States drawn of each kind of folio in each kind of VMA: a second or two for each preset.
_DRAWN = 20_000
# States of one job: a few tenths of a second, so that a budget and Ctrl-C are kept.
_JOB = 1 << 17


def history_of(policy: Policy, invariant: str) -> str:
    """Return the history of a class of violation under a policy: commit or CVE; empty where it has none."""
    if invariant in DOCUMENTED:
        return "documented; every batching edition"
    if invariant.startswith("rule-"):  # what follows from a known bug is none
        return ""
    if policy.rule:  # no edition had it
        return ""
    if policy.mlock_at_once:
        return "mlock and lazyfree rules before 354dffd29575"
    if invariant in ("restore-write", "restore-soft-dirty") and not policy.respect_write:
        return "wrong restore, fixed by 29f40594a281"
    if invariant == "uffd-wp-lost" and policy.uffd_wp == "first-entry":
        return "uffd-wp loss of v5, fixed in a67fe41e214f"
    if not policy.clip and invariant != "final-state":
        return "CVE-2025-38447, scan past table or VMA"
    if invariant == "accounting" and not policy.nr_reset:
        return "CVE-2026-63950, stale nr"
    if invariant == "final-state":
        spread = policy.anon_swap and policy.nr_reset
        return "one soft-dirty entry marks its whole batch" if spread else "follows from the others"
    return ""


def check(
    policies: Iterable[str | Policy] | BatchRule | YoungRule | None = None,
    *,
    pages: int | None = None,
    budget: float = 60.0,
    drawn: int | None = None,
    folios: int | None = None,
    seed: Seed = 0,
    against: str | Policy = "per-page",
    arch: str | Arch = "x86-64",
    all_bits: bool = False,
    unreachable: bool = False,
    splits: bool = False,
    young: bool = False,
    threads: int | None = None,
    resume: str | os.PathLike[str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> CheckReport:
    """Try every small state under some policies and compare with unmapping page by page.

    Parameters
    ----------
    policies : iterable of str or Policy, a callable, or YoungRule
        Default: every preset. A Python function ``(folio, vma, walk, pte) -> nr`` is checked on the reference model:
        on small states, then on drawn folios of 8 to 512 pages at the borders of page tables of 512 entries and of
        VMAs. So is a policy with a batching rule in C, on the C library; of small states every one is tried, and the
        rule is asked twice each time. A :class:`YoungRule` is a reference check in Python; it implies `young`.
    pages : {1, 2, 4, 8}, optional
        Largest folio; 4 by default. With a Python function: every small state of folios of up to so many pages is
        tried, or the call is refused because they do not fit into the budget. By default, every one of folios of 1
        page and as many of 2 and 4 pages as there is time for; the report says how many.
    budget : float
        Seconds; what could not be tried in time is named in ``left_out``.
    drawn : int, optional
        How many states are drawn of each kind of folio of 1 to 32 pages in each kind of VMA: 20,000 by default, none
        if `pages` is given. With a Python function: how many folios of 8 to 512 pages are drawn, 3,920 by default.
        They take 10 to 20 seconds; of a small budget half is kept for them.
    folios : int, optional
        With a rule in C: how many folios of 8 to 512 pages are drawn, 3,920 by default, in the same way.
    seed : int, or what :func:`numpy.random.default_rng` takes
        Of what is drawn.
    against : str or Policy
        The oracle, by default page by page.
    arch : str or Arch
        Its rules (soft-dirty with dirty, TLB deferral) hold; the page table is a toy of 8 slots.
    all_bits : bool
        Every bit and kind of entry for folios of 4 pages too; may take hours.
    unreachable : bool
        Also states that user space cannot make.
    splits : bool
        Try the states in which folios are split, in place of those of a single unmap: two folios, calls on ranges of
        them, and swap space that runs out. `pages` is 1, 2 or 4; 8 adds a folio that a PMD leaf maps. Not together
        with `all_bits`, `unreachable` or `resume`.
    young : bool
        Try reference checks in place of unmaps: a folio and its neighbours, young and old, under the classic LRU and
        the multi-gen LRU. The same limits hold as for `splits`.
    threads : int, optional
        Default: the CPUs of this machine. The outcome does not depend on it. With `splits` or `young` as many
        processes try the states. A Python function runs on one.
    resume : path, optional
        A file that keeps what was done; an earlier run with the same arguments is continued.
    progress : callable, optional
        Called with a line of text.

    Returns
    -------
    CheckReport

    Raises
    ------
    TypeError, ValueError
        For arguments out of range, and for a file of `resume` that holds something else; the message names what. For
        a Python function that returns what is no batch size (an int from 1 to the pages left in the folio); the
        message names the folio and the entry.
    OSError
        If that file cannot be read or written.

    Examples
    --------
    >>> check(["v7.0.12"], pages=1).clean
    True
    >>> def first_only(folio, vma, walk, nr):
    ...     return 1
    >>> check(YoungRule(tested=first_only), pages=2, budget=2).clean
    False
    """
    if pages is not None and (not isinstance(pages, int) or isinstance(pages, bool) or pages not in _PAGES):
        raise ValueError(f"pages: expected one of {', '.join(map(str, _PAGES))}, got {shown(pages)}")
    if isinstance(budget, bool) or not isinstance(budget, int | float) or not budget > 0:
        raise ValueError(f"budget: expected seconds above 0, got {shown(budget)}")
    for name, flag in (
        ("all_bits", all_bits), ("unreachable", unreachable), ("splits", splits), ("young", young),
    ):  # fmt: skip
        checked_boolean(name, flag)
    checked_progress(progress)
    if resume is not None:
        checked_path("resume", resume)
    if threads is not None:
        checked_integer("threads", threads, 1, 1024)
    if not (policies is None or callable(policies) or isinstance(policies, YoungRule)):
        policies = checked_list("policies", policies, "policies")
    if drawn is not None and (not isinstance(drawn, int) or not 0 <= drawn < 1 << 48):
        raise ValueError(f"drawn: expected a whole number from 0 to 2**48 - 1, got {shown(drawn)}")
    seed = checked_seed("seed", seed)
    oracle, arch = _policy.get(against), _arch.get(arch)
    young = young or isinstance(policies, YoungRule)
    chosen = [] if callable(policies) or isinstance(policies, YoungRule) else _chosen(policies)
    own_rule = any(one.rule for one in chosen) and not (splits or young)
    if folios is not None and (not own_rule or not isinstance(folios, int) or folios < 0):
        raise ValueError(f"folios: expected a whole number from 0 on, with a rule in C, got {folios!r}")
    if (splits or young) and (drawn is not None or seed):
        name, number = ("seed", seed) if drawn is None else ("drawn", drawn)
        raise ValueError(f"{name}: not together with splits or young, got {number!r}")
    if splits or young:
        mode = "splits" if splits else "young"
        for name, value in (("all_bits", all_bits), ("unreachable", unreachable), ("resume", resume)):
            if value:
                raise ValueError(f"{name}: not together with {mode}, got {value!r}")
        if splits and young:
            raise ValueError("young: not together with splits; they are different states")
        return _check_families(mode, policies, pages or _DEFAULT_PAGES, budget, oracle, arch, threads, progress)
    assert not isinstance(policies, YoungRule)
    if callable(policies):
        for name, value in (("all_bits", all_bits), ("resume", resume)):
            if value:
                raise ValueError(f"{name}: not with a Python function, got {value!r}")
        return _check_callable(policies, pages, budget, drawn, seed, oracle, arch, unreachable, progress)
    if drawn is None:
        drawn = _DRAWN if pages is None else 0
    pages = pages or _DEFAULT_PAGES
    scope = Scope(pages, all_bits=all_bits, unreachable=unreachable, drawn=drawn, seed=seed)
    arguments = {
        "policies": [one.name for one in chosen],
        "pages": pages,
        "against": oracle.name,
        "arch": arch.name,
        "all_bits": all_bits,
        "unreachable": unreachable,
        "drawn": drawn,
        "seed": seed,
    }
    # names alone would take a changed preset for the same one
    header = arguments | {
        "policies": [_fields(one) for one in chosen],
        "against": _fields(oracle),
        "arch": _fields(arch),
    }
    start = time.monotonic()
    folios = (DRAWN if folios is None else folios) if own_rule else 0
    small_budget = budget - for_drawn(budget) if folios else budget
    search = _Search(scope, oracle, chosen, arch, Path(resume) if resume else None, header)
    search.run(small_budget, threads or os.cpu_count() or 1, progress)
    found = [search.found(one) for one in chosen]
    left_out = search.left_out()
    for one, what in zip(chosen, found, strict=True):
        if folios and one.rule:
            try_drawn(what, seed, folios, len(scope.families), start + budget, progress)
            left_out += tuple(f"{one.name}: {text}" for text in what.left_out)
    if own_rule:
        arguments |= {"exhaustive_pages": search.exhaustive_pages, "sampled_pages": 0, "folios": folios}
    return CheckReport(
        policies=tuple(
            PolicyCheck(
                one,
                search.tried + what.drawn,
                _violations(one, what.counts, what.examples),
                what.returned.coverage if one.rule else None,
            )
            for one, what in zip(chosen, found, strict=True)
        ),
        oracle=oracle.name,
        states=search.tried + max(what.drawn for what in found),
        complete=not left_out,
        left_out=left_out,
        seconds=time.monotonic() - start,
        provenance=provenance(**arguments, budget=budget),
    )


def _chosen(policies: Iterable[str | Policy] | None) -> list[Policy]:
    """Return the policies of an argument: every preset by default, and at least one."""
    chosen = [_policy.get(one) for one in (_policy.PRESETS if policies is None else policies)]
    if not chosen:
        raise ValueError("policies: expected at least one, got none")
    return chosen


def _check_families(
    mode: str,
    policies: Iterable[str | Policy] | BatchRule | YoungRule | None,
    pages: int,
    budget: float,
    oracle: Policy,
    arch: Arch,
    threads: int | None,
    progress: Callable[[str], None] | None,
) -> CheckReport:
    """Try the states in which folios are split, or those of reference checks."""
    arguments: dict[str, Any] = {
        "pages": pages,
        "budget": budget,
        "oracle": oracle,
        "arch": arch,
        "threads": threads or os.cpu_count() or 1,
        "progress": progress,
    }
    names: list[Rule]
    search: Search
    watched: WatchedRule | None = None
    if mode == "young":
        if callable(policies):
            raise TypeError("policies: expected policies or a YoungRule with young=True, got a function")
        rules = policies if isinstance(policies, YoungRule) else _chosen(policies)
        names = [rules] if isinstance(rules, YoungRule) else list(rules)
        search = young_search(rules, **arguments)
    else:
        assert not isinstance(policies, YoungRule)
        watched = WatchedRule(policies) if callable(policies) else None
        chosen = [] if callable(policies) else _chosen(policies)
        names = [policies] if callable(policies) else list(chosen)
        search = split_search(
            watched or chosen,
            lambda policy, kind: unmap_rules(policy, kind, kind in ("anon", "lazyfree"), False),
            **arguments,
        )
    return CheckReport(
        policies=tuple(
            PolicyCheck(one, tried, _violations(one, counts, examples), watched.returned.coverage if watched else None)
            for one, tried, counts, examples in zip(names, search.tried, search.counts, search.examples, strict=True)
        ),
        oracle=oracle.name,
        states=search.states,
        complete=not search.left_out,
        left_out=search.left_out,
        seconds=search.seconds,
        provenance=provenance(
            policies=[policy_name(one) for one in names],
            pages=pages,
            **{mode: True},
            against=oracle.name,
            arch=arch.name,
            budget=budget,
        ),
    )


def _fields(what: Policy | Arch) -> dict[str, Any]:
    """Every field of a policy or an architecture that an unmap depends on."""
    fields = {one.name: getattr(what, one.name) for one in dataclasses.fields(what)}
    return {name: value for name, value in fields.items() if name not in ("doc", "costs")}


def unmap_rules(policy: Policy, kind: str, anon_vma: bool, uffd_wp: bool) -> Policy:
    """Return one policy for all that unmap this kind of folio in this kind of VMA by the same rules; it runs once.

    Fields that ``try_to_unmap_one`` cannot come to there get one value: the reference check, the lists, the classes of
    other folios, what happens in a batch if there is none, and the uffd-wp rule where it cannot matter.
    """
    if policy.rule:  # it may tell all kinds of folios and VMAs apart
        return policy.replace(name="", doc="", young_rule="")
    batched = batches(policy, kind)
    rules = policy.replace(
        name="",
        doc="",
        young="batched",
        mglru="none",
        advance="rescan" if policy.advance == "rescan" or not batched else "caller",
        lazyfree=batched and kind == "lazyfree",
        anon_swap=batched and kind == "anon",
        file=batched and kind in ("file", "shmem"),
    )
    if not batched:
        one_by_one = {"all_or_nothing": False, "clip": True, "respect_write": False, "respect_soft_dirty": False}
        rules = rules.replace(**one_by_one, nr_reset=True, uffd_wp="first-entry")
    elif not uffd_wp or (anon_vma and rules.uffd_wp != "per-page"):
        rules = rules.replace(uffd_wp="whole-batch")
    if kind != "lazyfree":
        rules = rules.replace(failure_swapbacked=False)
    # the checker's mm ran on another CPU; an unmap knows nothing of the LRU
    rules = rules.replace(local_tlbi=False, mglru="none")
    # one unmap neither splits a folio nor writes it
    other = _policy.PRESETS["per-page"]
    return rules.replace(**{name: getattr(other, name) for name in SPLIT_FIELDS if name != "young"})


@dataclasses.dataclass(frozen=True)
class _Job:
    """The states `first` to `end` (exclusive) of a family."""

    family: int
    first: int
    end: int


class _Search:
    """The states of a scope, cut in jobs that threads take; the merged outcome does not depend on the threads."""

    def __init__(
        self,
        scope: Scope,
        oracle: Policy,
        policies: list[Policy],
        arch: Arch,
        journal: Path | None,
        header: dict[str, Any],
    ):
        self.scope, self.oracle, self.arch = scope, oracle, arch
        # Per family: the rule sets that can differ there, and their numbers.
        self.rules = [
            {rule: number for number, rule in enumerate(dict.fromkeys(_rules(one, family) for one in policies))}
            for family in scope.families
        ]
        self.jobs = [
            _Job(number, first, min(first + _JOB, family.states))
            for number, family in enumerate(scope.families)
            for first in range(0, family.states, _JOB)
        ]
        self.done: dict[int, Tried] = {}
        self.header = header
        self.journal = journal and Journal(
            journal, "check", advice="resume with another file", differs=self._differs, parse=self._parse
        )
        self.seconds = 0.0

    @property
    def tried(self) -> int:
        return sum(tried.states for tried in self.done.values())

    @property
    def complete(self) -> bool:
        return len(self.done) == len(self.jobs)

    def run(self, budget: float, threads: int, progress: Callable[[str], None] | None) -> None:
        start = time.monotonic()
        if self.journal:
            self.done = dict(self.journal.open(self.header))
        waiting = iter([job for job in range(len(self.jobs)) if job not in self.done])
        try:
            with opened("threads", threads) as pool:
                for job, future in pool.completed(
                    self._try, lambda: next(waiting, None) if time.monotonic() - start < budget else None
                ):
                    self.done[job] = future.result()
                    if self.journal:
                        self.journal.add(self._record(job))
                    if progress:
                        progress(f"{self.tried:,} states, {100 * len(self.done) / len(self.jobs):.0f}% of the scope")
        finally:
            if self.journal:
                self.journal.close()
        self.seconds = time.monotonic() - start

    def _try(self, number: int) -> Tried:
        job = self.jobs[number]
        rules = list(self.rules[job.family])
        return self.scope.run(job.family, job.first, job.end, self.oracle, rules, self.arch)

    # The journal: a header with all that the outcome depends on, then a record per job

    def _differs(self, found: Any) -> str:
        if found == self.header:
            return ""
        if not isinstance(found, dict) or not set(found) & set(self.header):
            raise ValueError("its first line is no header")
        keys = dict.fromkeys([*self.header, *found])
        differing = [key for key in keys if found.get(key) != self.header.get(key)]
        return f"it is of other arguments: {', '.join(differing)} differ"

    def _record(self, job: int) -> list[Any]:
        tried = self.done[job]
        found = [
            [
                one.violating,
                {name: [it.count, it.first, it.reachable] for name, it in one.classes.items()},
                {str(nr): times for nr, times in one.batches.items()},
            ]
            for one in tried.found
        ]
        return [job, tried.states, found]

    def _parse(self, record: Any) -> tuple[int, Tried]:
        number, states, found = record
        job = self.jobs[checked_integer("job", number, 0, len(self.jobs) - 1)]
        size, pages = job.end - job.first, self.scope.families[job.family].pages
        if len(found) != len(self.rules[job.family]) or any(set(one[1]) - set(INVARIANTS) for one in found):
            raise ValueError(f"job {number}: expected what was found under {len(self.rules[job.family])} sets of rules")
        return number, Tried(
            checked_integer("states", states, 0, size),
            tuple(
                Found(
                    checked_integer("violating", violating, 0, size),
                    {
                        name: Class(
                            checked_integer("count", count, 1, size),
                            checked_integer("first", first, job.first, job.end - 1),
                            bool(reachable),
                        )
                        for name, (count, first, reachable) in classes.items()
                    },
                    {
                        checked_integer("nr", int(nr), 1, pages): checked_integer("times", times, 1, 1 << 63)
                        for nr, times in batches.items()
                    },
                )
                for violating, classes, batches in found
            ),
        )

    def found(self, policy: Policy) -> RuleSearch:
        """What was found for one policy; an example is the smallest state: fewest pages, lowest number."""
        found = search_of(policy, self.oracle, self.arch)
        found.tried = self.tried
        for job in sorted(self.done):
            number = self.jobs[job].family
            family = self.scope.families[number]
            one = self.done[job].found[self.rules[number][_rules(policy, family)]]
            for name, states in one.classes.items():
                rank = (not states.reachable, family.pages, number, states.first)
                found.add(name, states.count, rank, partial(self._case, number, states.first))
            for nr, times in one.batches.items():
                found.returned.add(family.kind, nr, times)
        return found

    def _case(self, family: int, index: int) -> Case:
        state = self.scope.state(family, index)
        assert state is not None
        return case_of_state(state)

    @property
    def exhaustive_pages(self) -> int:
        """Every state was tried of folios of up to so many pages."""
        every = {number for number, family in enumerate(self.scope.families) if family.bits != "drawn"}
        todo = [job.family for n, job in enumerate(self.jobs) if n not in self.done]
        missing = {self.scope.families[number].pages for number in todo if number in every}
        sizes = {self.scope.families[number].pages for number in every}
        return max((size for size in sizes if not missing or size < min(missing)), default=0)

    def left_out(self) -> tuple[str, ...]:
        missing: dict[int, int] = {}
        for number, job in enumerate(self.jobs):
            if number not in self.done:
                missing[job.family] = missing.get(job.family, 0) + job.end - job.first
        return tuple(f"{self.scope.families[family]}: {states:,} states" for family, states in missing.items())


def _rules(policy: Policy, family: Family) -> Policy:
    return unmap_rules(policy, family.kind, family.anon_vma, family.uffd_wp)


# A name that several kinds of states have means the same in all of them.
_ALL_INVARIANTS = tuple(dict.fromkeys((*INVARIANTS, *SPLIT_INVARIANTS, *YOUNG_INVARIANTS)))


def _violations(policy: Rule, counts: dict[str, int], examples: dict[str, Case]) -> tuple[Violation, ...]:
    """What was found for one policy, given by invariant: first what has an example that a kernel can reach."""
    found = (
        Violation(
            invariant,
            counts[invariant],
            examples[invariant],
            # the history is that of unmaps
            history_of(policy, invariant)
            if isinstance(policy, Policy) and "young_state" not in examples[invariant]
            else "",
        )
        for invariant in _ALL_INVARIANTS
        if invariant in counts
    )
    return tuple(sorted(found, key=lambda one: not reachable(one.example)))


def check_cases(
    cases: Iterable[Case],
    policies: Iterable[str | Policy] | BatchRule | None = None,
    *,
    against: str | Policy = "per-page",
    arch: str | Arch = "x86-64",
    budget: float = 60.0,
    progress: Callable[[str], None] | None = None,
) -> CheckReport:
    """Judge cases one by one (:func:`judge`) under some policies.

    An example is the first case with fewest pages, of those that a kernel can reach if there are such.

    Parameters
    ----------
    cases : iterable of dict
        Cases as :func:`random_cases`, :func:`capture_cases` and :func:`load_case` give them.
    policies : iterable of str or Policy, or a callable
        Default: every preset. A Python function ``(folio, vma, walk, pte) -> nr`` runs on the reference.
    against, arch, budget, progress
        As for :func:`check`.

    Returns
    -------
    CheckReport

    Raises
    ------
    ValueError
        For an unknown name, for a case whose fields do not fit together, and for a function that returns no batch
        size.
    """
    start = time.monotonic()
    if callable(policies):
        return _check_cases_of_rule(cases, policies, _policy.get(against), arch, budget, progress)
    chosen = _chosen(policies)
    oracle = _policy.get(against)
    states = [0 for _ in chosen]
    counts: list[dict[str, int]] = [{} for _ in chosen]
    examples: list[dict[str, Case]] = [{} for _ in chosen]
    own = [search_of(one, oracle, arch) if one.rule else None for one in chosen]
    tried, complete = 0, True
    for case in cases:
        if time.monotonic() - start > budget:
            complete = False
            break
        tried += 1
        one_unmap = not {"split_state", "young_state"} & set(case)
        for number, (policy, search, count, example) in enumerate(zip(chosen, own, counts, examples, strict=True)):
            if "young_state" in case and not has_rules(policy, YoungState.of_case(case)):
                continue
            states[number] += 1
            violated = search.judge(case) if search and one_unmap else _violated(case, policy, oracle, arch)
            for name in violated:
                count[name] = count.get(name, 0) + 1
                if name not in example or _rank(case) < _rank(example[name]):
                    example[name] = case
        if progress:
            progress(f"{tried:,} cases")
    return CheckReport(
        policies=tuple(
            PolicyCheck(policy, nr, _violations(policy, count, example), search.returned.coverage if search else None)
            for policy, search, nr, count, example in zip(chosen, own, states, counts, examples, strict=True)
        ),
        oracle=oracle.name,
        states=tried,
        complete=complete,
        left_out=() if complete else ("cases after the budget was used up",),
        seconds=time.monotonic() - start,
        provenance=provenance(policies=[one.name for one in chosen], against=oracle.name),
    )


def _check_cases_of_rule(
    cases: Iterable[Case],
    rule: BatchRule,
    oracle: Policy,
    arch: str | Arch,
    budget: float,
    progress: Callable[[str], None] | None,
) -> CheckReport:
    """Judge cases one by one under a Python function."""
    start = time.monotonic()
    search = search_of(rule, oracle, arch)
    complete = True
    for case in cases:
        for other in ("split_state", "young_state"):
            if other in case:
                raise ValueError(f"cases: a Python function takes cases of one unmap, got one with {other}")
        if time.monotonic() - start > budget:
            complete = False
            break
        search.tried += 1
        search.try_case(case, 0, search.tried)
        if progress:
            progress(f"{search.tried:,} cases")
    return CheckReport(
        policies=(_of_rule(rule, search),),
        oracle=oracle.name,
        states=search.tried,
        complete=complete,
        left_out=() if complete else ("cases after the budget was used up",),
        seconds=time.monotonic() - start,
        provenance=provenance(policies=[policy_name(rule)], against=oracle.name),
    )


def _violated(case: Case, policy: Policy, oracle: Policy, arch: str | Arch) -> list[str]:
    """Judge a case of one unmap, a state with splits, or one of a reference check."""
    if "split_state" in case:
        return judge_split(SplitState.of_case(case), policy, oracle, toy_arch(arch))
    if "young_state" in case:
        return judge_young(YoungState.of_case(case), policy, oracle, _arch.get(arch))
    return judge(case, policy, against=oracle, arch=arch)


def _rank(case: Case) -> tuple[bool, int]:
    """The lower it is, the better an example is a case."""
    return not reachable(case), _pages(case)


def _pages(case: Case) -> int:
    """Pages of a case."""
    if "split_state" in case:
        return len(SplitState.of_case(case).slots)
    if "young_state" in case:
        return len(YoungState.of_case(case).slots)
    pages: int = 1 << case["folio"]["order"]
    return pages


def _check_callable(
    rule: BatchRule,
    pages: int | None,
    budget: float,
    drawn: int | None,
    seed: int,
    oracle: Policy,
    arch: Arch,
    unreachable: bool,
    progress: Callable[[str], None] | None,
) -> CheckReport:
    """Check a Python function on the reference: small states, then drawn folios."""
    start = time.monotonic()
    search = search_of(rule, oracle, arch)
    rule_search(
        search,
        policy_name(rule),
        pages=pages,
        budget=budget,
        drawn=DRAWN if drawn is None else drawn,
        seed=seed,
        unreachable=unreachable,
        progress=progress,
    )
    return CheckReport(
        policies=(_of_rule(rule, search),),
        oracle=oracle.name,
        states=search.tried + search.drawn,
        complete=not search.left_out,
        left_out=tuple(search.left_out),
        seconds=time.monotonic() - start,
        provenance=provenance(
            policies=[policy_name(rule)],
            pages=pages,
            exhaustive_pages=search.exhaustive_pages,
            sampled_pages=search.sampled_pages,
            drawn=search.drawn,
            seed=seed,
            against=oracle.name,
            arch=arch.name,
            unreachable=unreachable,
            budget=budget,
        ),
    )


def _of_rule(rule: BatchRule, search: RuleSearch) -> PolicyCheck:
    """Return what was found for a Python function."""
    violations = _violations(rule, search.counts, search.examples)
    return PolicyCheck(rule, search.tried + search.drawn, violations, search.returned.coverage)
