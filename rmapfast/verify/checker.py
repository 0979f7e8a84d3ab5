"""A bounded exhaustive checker: does a batching policy end where unmapping page by page ends (docs/checker.md).

The C library enumerates every small state (csrc/check.h) and tests the invariants at millions of states a second. A
state that violates one comes back as a case (cases.py), which is drawn, saved, replayed, and judged a
second time in plain Python.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from rmapfast import _core
from rmapfast import arch as _arch
from rmapfast import policy as _policy
from rmapfast.policy import Policy
from rmapfast.provenance import provenance
from rmapfast.verify.cases import INVARIANTS, case_of_state, judge
from rmapfast.verify.table import check_table

# Differences after an abort that are documented, not violations.
DOCUMENTED = ("abort-widened", "abort-left-mapped")

_PAGES = (1, 2, 4, 8)
# States of one job: a few tenths of a second, so that a budget and Ctrl-C are kept.
_JOB = 1 << 17


def known(policy: Policy, invariant: str) -> str:
    """Return the history of a class of violation under a policy: commit or CVE; empty where it has none."""
    if callable(policy):
        return ""
    if invariant in DOCUMENTED:
        return "documented; every batching edition"
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


@dataclass(frozen=True)
class Violation:
    """States that violate one invariant under one policy, the smallest of them as a case, and the class's history."""

    invariant: str
    count: int
    example: dict = field(repr=False)
    history: str = ""


@dataclass(frozen=True)
class PolicyCheck:
    """What was found for one policy."""

    policy: Policy | Callable
    states: int
    violations: tuple[Violation, ...]

    @property
    def policy_name(self) -> str:
        """Name of the policy, or of the function that stands for it."""
        return getattr(self.policy, "name", None) or getattr(self.policy, "__name__", "callable")

    @property
    def clean(self) -> bool:
        """Whether there is nothing but the two documented differences after an abort."""
        return all(violation.invariant in DOCUMENTED for violation in self.violations)


@dataclass(frozen=True, repr=False)
class CheckReport:
    """Outcome of a check.

    Parameters
    ----------
    policies : tuple of PolicyCheck
    oracle : str
        Policy whose final state is the right one.
    states : int
        Distinct states tried.
    complete : bool
        Whether the whole scope was tried within the budget.
    left_out : tuple of str
        What of the scope was not tried.
    seconds : float
    provenance : dict
    """

    policies: tuple[PolicyCheck, ...]
    oracle: str
    states: int
    complete: bool
    left_out: tuple[str, ...]
    seconds: float
    provenance: dict

    @property
    def clean(self) -> bool:
        """Whether every policy is."""
        return all(one.clean for one in self.policies)

    def to_dict(self) -> dict:
        """Return the report as a dict that serialises to JSON."""
        return {
            "provenance": self.provenance,
            "oracle": self.oracle,
            "states": self.states,
            "complete": self.complete,
            "left_out": list(self.left_out),
            "seconds": self.seconds,
            "policies": [
                {
                    "policy": one.policy_name,
                    "states": one.states,
                    "clean": one.clean,
                    "violations": [
                        {"invariant": v.invariant, "count": v.count, "history": v.history, "example": v.example}
                        for v in one.violations
                    ],
                }
                for one in self.policies
            ],
        }

    def __repr__(self):

        return check_table(self)


def check(
    policies=None,
    *,
    pages: int = 4,
    budget: float = 60.0,
    against="per-page",
    arch="x86-64",
    all_bits: bool = False,
    unreachable: bool = False,
    threads: int | None = None,
    resume=None,
    progress: Callable[[str], None] | None = None,
) -> CheckReport:
    """Try every small state under some policies and compare with unmapping page by page.

    Parameters
    ----------
    policies : iterable of str or Policy, or a callable
        Default: every preset. A Python function ``(folio, vma, walk, pte) -> nr`` is checked on the reference model.
    pages : {1, 2, 4, 8}
        Largest folio.
    budget : float
        Seconds; what could not be tried in time is named in ``left_out``.
    against : str or Policy
        The oracle, by default page by page.
    arch : str or Arch
        Its rules (soft-dirty with dirty, TLB deferral) hold; the page table is a toy of 8 slots.
    all_bits : bool
        Every bit and kind of entry for folios of 4 pages too; may take hours.
    unreachable : bool
        Also states that user space cannot make.
    threads : int, optional
        Default: the CPUs of this machine. The outcome does not depend on it.
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
        For arguments out of range; the message names what.
    """
    if pages not in _PAGES:
        raise ValueError(f"pages: expected one of {', '.join(map(str, _PAGES))}, got {pages!r}")
    if not budget > 0:
        raise ValueError(f"budget: expected seconds above 0, got {budget!r}")
    oracle, arch = _policy.get(against), _arch.get(arch)
    if callable(policies):
        return _check_callable(policies, pages, budget, oracle, arch, unreachable, progress)
    chosen = [_policy.get(one) for one in (_policy.PRESETS if policies is None else policies)]
    if not chosen:
        raise ValueError("policies: expected at least one, got none")
    scope = _core.CheckScope(pages, all_bits, unreachable)
    arguments = {
        "policies": [one.name for one in chosen],
        "pages": pages,
        "against": oracle.name,
        "arch": arch.name,
        "all_bits": all_bits,
        "unreachable": unreachable,
    }
    search = _Search(scope, oracle, chosen, arch, Path(resume) if resume else None, arguments)
    search.run(budget, threads or os.cpu_count() or 1, progress)
    return CheckReport(
        policies=tuple(PolicyCheck(one, search.tried, search.violations(one)) for one in chosen),
        oracle=oracle.name,
        states=search.tried,
        complete=search.complete,
        left_out=search.left_out(),
        seconds=search.seconds,
        provenance=provenance(**arguments, budget=budget),
    )


def unmap_rules(policy: Policy, kind: str, anon_vma: bool, uffd_wp: bool) -> Policy:
    """Return the policy that unmaps this kind of folio in this kind of VMA alike, so that such editions run once.

    Fields that ``try_to_unmap_one`` cannot come to there get one value: the reference check, the classes of other
    folios, what happens in a batch if there is none, and the uffd-wp rule where it cannot matter.
    """
    batches = {"file": policy.file, "shmem": policy.file, "lazyfree": policy.lazyfree, "anon": policy.anon_swap}[kind]
    rules = policy.replace(
        name="",
        doc="",
        young="batched",
        advance="rescan" if policy.advance == "rescan" or not batches else "caller",
        lazyfree=batches and kind == "lazyfree",
        anon_swap=batches and kind == "anon",
        file=batches and kind in ("file", "shmem"),
    )
    if not batches:
        one_by_one = {"all_or_nothing": False, "clip": True, "respect_write": False, "respect_soft_dirty": False}
        rules = rules.replace(**one_by_one, nr_reset=True, uffd_wp="first-entry")
    elif not uffd_wp or (anon_vma and rules.uffd_wp != "per-page"):
        rules = rules.replace(uffd_wp="whole-batch")
    if kind != "lazyfree":
        rules = rules.replace(failure_swapbacked=False)
    return rules


def family_name(family: dict) -> str:
    """Return a family of states in words."""
    vma = "anonymous" if family["anon_vma"] else "file"
    wp = ", uffd-wp" if family["uffd_wp"] else ""
    return f"{family['pages']} page(s), {family['kind']} in {vma} VMA{wp} ({family['bits']})"


class _Search:
    """The states of a scope, cut in jobs that threads take; the merged outcome does not depend on the threads."""

    def __init__(self, scope, oracle, policies, arch, journal, arguments):
        self.scope, self.oracle, self.arch = scope, oracle, arch
        self.families = [scope.family(number) for number in range(len(scope))]
        # Per family: the rule sets that can differ there, and their numbers.
        self.rules = [
            {rule: number for number, rule in enumerate(dict.fromkeys(self._rules(one, family) for one in policies))}
            for family in range(len(self.families))
        ]
        self.jobs = [
            (number, first) for number, family in enumerate(self.families) for first in range(0, family["states"], _JOB)
        ]
        self.done: dict[int, tuple] = {}
        self.journal, self.arguments = journal, arguments
        self.seconds = 0.0
        if journal and journal.exists():
            self._load()

    @property
    def tried(self) -> int:
        return sum(outcome[0] for outcome in self.done.values())

    @property
    def complete(self) -> bool:
        return len(self.done) == len(self.jobs)

    def run(self, budget: float, threads: int, progress) -> None:
        start = time.monotonic()
        waiting = iter([job for job in range(len(self.jobs)) if job not in self.done])
        running = {}
        log = open(self.journal, "a", encoding="utf-8") if self.journal else None
        pool = ThreadPoolExecutor(threads)
        try:
            if log and not self.done and not log.tell():
                log.write(json.dumps(self.arguments) + "\n")
            while True:
                while len(running) < threads and time.monotonic() - start < budget:
                    job = next(waiting, None)
                    if job is None:
                        break
                    running[pool.submit(self._job, job)] = job
                if not running:
                    break
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    job = running.pop(future)
                    self.done[job] = future.result()
                    if log:
                        log.write(json.dumps([job, *self.done[job]]) + "\n")
                        log.flush()
                if progress:
                    progress(f"{self.tried:,} states, {100 * len(self.done) / len(self.jobs):.0f}% of the scope")
        finally:
            pool.shutdown(cancel_futures=True)
            if log:
                log.close()
        self.seconds = time.monotonic() - start

    def _job(self, job: int) -> tuple:
        family, first = self.jobs[job]
        end = min(first + _JOB, self.families[family]["states"])
        tried, found = self.scope.run(family, first, end, self.oracle, list(self.rules[family]), self.arch)
        return tried, [
            [violating, {name: list(pair) for name, pair in classes.items()}] for violating, classes in found
        ]

    def _load(self) -> None:
        lines = self.journal.read_text(encoding="utf-8").splitlines()
        try:
            if json.loads(lines[0]) != self.arguments:
                raise ValueError(f"resume: {self.journal} holds a check with other arguments: {lines[0]}")
            for line in lines[1:]:
                job, tried, found = json.loads(line)
                self.done[job] = (tried, found)
        except json.JSONDecodeError:
            if not self.done and len(lines) < 2:
                raise ValueError(f"resume: {self.journal} is not the journal of a check") from None
            # the last record was torn when the run was killed: its job is done again
            self.journal.write_text("\n".join(lines[: 1 + len(self.done)]) + "\n", encoding="utf-8")

    def _rules(self, policy: Policy, family: int) -> Policy:
        what = self.families[family]
        return unmap_rules(policy, what["kind"], what["anon_vma"], what["uffd_wp"])

    def violations(self, policy: Policy) -> tuple[Violation, ...]:
        """Of one policy, in the order of INVARIANTS; an example is the smallest state: fewest pages, lowest number."""
        counts: dict[str, int] = {}
        example: dict[str, tuple[int, int]] = {}
        for job in sorted(self.done):
            family = self.jobs[job][0]
            number = self.rules[family][self._rules(policy, family)]
            for name, (count, index) in self.done[job][1][number][1].items():
                counts[name] = counts.get(name, 0) + count
                example.setdefault(name, (family, index))
        return tuple(
            Violation(name, counts[name], case_of_state(self.scope.state(*example[name])), known(policy, name))
            for name in INVARIANTS
            if name in counts
        )

    def left_out(self) -> tuple[str, ...]:
        missing: dict[int, int] = {}
        for job, (family, first) in enumerate(self.jobs):
            if job not in self.done:
                end = min(first + _JOB, self.families[family]["states"])
                missing[family] = missing.get(family, 0) + end - first
        return tuple(f"{family_name(self.families[family])}: {nr:,} states" for family, nr in missing.items())


def check_cases(
    cases, policies=None, *, against="per-page", arch="x86-64", budget: float = 60.0, progress=None
) -> CheckReport:
    """Judge cases one by one (:func:`judge`) under some policies; the smallest example is the first with fewest pages.

    Parameters
    ----------
    cases : iterable of dict
        Cases as :func:`random_cases`, :func:`capture_cases` and :func:`load_case` give them.
    policies, against, arch, budget, progress
        As for :func:`check`.

    Returns
    -------
    CheckReport
    """
    start = time.monotonic()
    chosen = [_policy.get(one) for one in (_policy.PRESETS if policies is None else policies)]
    oracle = _policy.get(against)
    counts: dict[tuple, int] = {}
    example: dict[tuple, dict] = {}
    tried, complete = 0, True
    for case in cases:
        if time.monotonic() - start > budget:
            complete = False
            break
        tried += 1
        for policy in chosen:
            for name in judge(case, policy, against=oracle, arch=arch):
                key = policy.name, name
                counts[key] = counts.get(key, 0) + 1
                smallest = example.setdefault(key, case)
                if case["folio"]["order"] < smallest["folio"]["order"]:
                    example[key] = case
        if progress:
            progress(f"{tried:,} cases")
    return CheckReport(
        policies=tuple(
            PolicyCheck(
                one,
                tried,
                tuple(
                    Violation(name, counts[one.name, name], example[one.name, name], known(one, name))
                    for name in INVARIANTS
                    if (one.name, name) in counts
                ),
            )
            for one in chosen
        ),
        oracle=oracle.name,
        states=tried,
        complete=complete,
        left_out=() if complete else ("cases after the budget was used up",),
        seconds=time.monotonic() - start,
        provenance=provenance(policies=[one.name for one in chosen], against=oracle.name),
    )


# --- user policies on the reference ---------------------------------------------------------------------------------


def _check_callable(rule, pages, budget, oracle, arch, unreachable, progress) -> CheckReport:
    """Check a Python function on the reference: every n-th state, so that the budget meets all families."""
    start = time.monotonic()
    scope = _core.CheckScope(min(pages, 4), False, unreachable)
    tried, counts, example = 0, {}, {}
    families = [scope.family(number) for number in range(len(scope))]
    left = sum(family["states"] for family in families)
    left_out = []
    for number, family in enumerate(families):
        share = (budget - (time.monotonic() - start)) / (len(families) - number)
        end, stride = time.monotonic() + share, max(1, family["states"] // max(int(share * 400), 1))
        for index in range(0, family["states"], stride):
            if time.monotonic() > end:
                break
            state = scope.state(number, index)
            if state is None:
                continue
            tried += 1
            case = case_of_state(state)
            for name in judge(case, rule, against=oracle, arch=arch):
                counts[name] = counts.get(name, 0) + 1
                example.setdefault(name, case)
        if stride > 1 or time.monotonic() > end:
            left_out.append(f"{family_name(family)}: tried one state in {stride}")
        if progress:
            progress(f"{tried:,} of {left:,} states on the reference")
    found = tuple(Violation(name, counts[name], example[name]) for name in INVARIANTS if name in counts)
    return CheckReport(
        policies=(PolicyCheck(rule, tried, found),),
        oracle=oracle.name,
        states=tried,
        complete=not left_out,
        left_out=tuple(left_out),
        seconds=time.monotonic() - start,
        provenance=provenance(policies=[getattr(rule, "__name__", "callable")], pages=pages, against=oracle.name),
    )
