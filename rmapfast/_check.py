"""A bounded exhaustive checker: does a batching policy end where unmapping page by page ends (docs/checker.md).

The C library enumerates every small state (csrc/check.h) and tests the invariants at millions of states a second. A
state that violates one comes back as a *case*: a dict in the format of the recorded unmap vectors, which is drawn,
saved, replayed, and judged a second time here, in plain Python.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from rmapfast import _core, _doors, pte, reference
from rmapfast import arch as _arch
from rmapfast import policy as _policy
from rmapfast._conformance import VectorError, vector_population
from rmapfast._reclaim import provenance
from rmapfast.policy import Policy

INVARIANTS: tuple[str, ...] = _core.INVARIANTS

# What each invariant says; the last two are documented differences after an abort, not violations.
SENTENCES = {
    "accounting": "pages unmapped = mapcount drop = reference drop = counter change, page by page",
    "slot-once": "each slot is handled at most once",
    "forward": "the walk moves forward only",
    "out-of-bounds": "nothing is read or written outside the page table and the VMA",
    "uffd-wp-lost": "a cleared slot with the uffd-wp bit in a non-anonymous VMA ends as a marker",
    "restore-write": "a failed unmap restores each entry's write bit exactly",
    "restore-soft-dirty": "a failed unmap loses no soft-dirty bit",
    "restore-young": "a failed unmap loses no young bit",
    "dirty-lost": "a dirty entry leaves the folio dirty, or is restored dirty",
    "tlb-flush": "every cleared accessible entry is covered by a flush",
    "notifier": "the announced MMU notifier range covers every cleared entry",
    "mlock": "a folio is mlocked only when all its pages were seen under one page-table lock",
    "final-state": "the final state is that of the oracle",
    "abort-widened": "(documented) after an abort dirty, young or soft-dirty are spread over the batch",
    "abort-left-mapped": "(documented) after an abort another set of pages is left mapped",
}
DOCUMENTED = ("abort-widened", "abort-left-mapped")

_PAGES = (1, 2, 4, 8)
# States of one job: a few tenths of a second, so that a budget and Ctrl-C are kept.
_JOB = 1 << 17
_LETTERS = (("write", "W"), ("young", "Y"), ("dirty", "D"), ("soft_dirty", "S"), ("uffd_wp", "U"), ("exclusive", "E"))


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
    """States that violate one invariant under one policy, and the smallest of them as a case."""

    invariant: str
    count: int
    example: dict | None = field(repr=False, default=None)


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
                        {"invariant": v.invariant, "count": v.count, "example": v.example} for v in one.violations
                    ],
                }
                for one in self.policies
            ],
        }

    def __repr__(self):
        from rmapfast.report import check_table

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
            Violation(name, counts[name], case_of_state(self.scope.state(*example[name])))
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


# --- cases: states in the format of the recorded vectors --------------------------------------------------------------

_VMA_NAMES = {"LOCKED": _core.VMA_LOCKED, "UFFD_WP": _core.VMA_UFFD_WP, "DROPPABLE": _core.VMA_DROPPABLE}
_FOLIO_NAMES = {
    "anon": _core.FOLIO_ANON,
    "swapbacked": _core.FOLIO_SWAPBACKED,
    "swapcache": _core.FOLIO_SWAPCACHE,
    "dirty": _core.FOLIO_DIRTY,
    "mlocked": _core.FOLIO_MLOCKED,
    "pinned": _core.FOLIO_PINNED,
}
# The toy folio of csrc/check.c.
_FOLIO_PFN, _FOLIO_INDEX, _SWAP_OFFSET = 64, 256, 8192


def case_of_state(state: dict) -> dict:
    """Return an enumerated state as a case."""
    start, end, pgoff, vma_flags = state["vma"]
    flags, page_flags = state["folio_flags"], np.array(state["page_flags"], np.uint8)
    fails = np.flatnonzero(page_flags & _core.PAGE_SWAP_DUP_FAIL)
    per_table, first = state["ptrs_per_pte"], state["first_vpn"]
    return {
        "tags": _tags(state),
        "page_shift": 12,
        "ptrs_per_pte": per_table,
        "vma": {
            "start_vpn": start,
            "end_vpn": end,
            "pgoff": pgoff,
            "flags": [name for name, bit in _VMA_NAMES.items() if vma_flags & bit],
            "anonymous": bool(vma_flags & _core.VMA_ANON),
        },
        "folio": {
            "pfn": _FOLIO_PFN,
            "order": state["order"],
            "index": _FOLIO_INDEX,
            **{name: bool(flags & bit) for name, bit in _FOLIO_NAMES.items()},
            "refcount": state["refcount"],
            "mapcount": sum(state["page_mapcount"]),
            "page_mapcounts": [[1, count] for count in state["page_mapcount"]],
            "exclusive_pages": np.flatnonzero(page_flags & _core.PAGE_EXCLUSIVE).tolist(),
            "hwpoison_pages": np.flatnonzero(page_flags & _core.PAGE_HWPOISON).tolist(),
            "swap_offset": _SWAP_OFFSET,
            "swap_dup_fail_page": int(fails[0]) if len(fails) else None,
        },
        "ttu": [name for name, bit in _core.TTU_FLAGS.items() if state["ttu"] & bit],
        "ptes": [_entry(first + i, word) for i, word in enumerate(state["ptes"]) if word],
        "tables": list(range(first // per_table, (first + len(state["ptes"])) // per_table)),
        "absent_pmds": [],
        "guard": state["guard"],
    }


def _tags(state: dict) -> list[str]:
    """What user space cannot make, in the words of the recorded vectors where they have one."""
    flags, vma_anon = state["folio_flags"], state["vma"][3] & _core.VMA_ANON
    anon = bool(flags & _core.FOLIO_ANON)
    swapbacked, swapcache = bool(flags & _core.FOLIO_SWAPBACKED), bool(flags & _core.FOLIO_SWAPCACHE)
    device = any(pte.KINDS[int(kind)] == "device_exclusive" for kind in pte.kind(np.array(state["ptes"], np.uint64)))
    found = {
        "unreachable:lazyfree-in-file-vma": anon and not swapbacked and not vma_anon,
        "abnormal:swapcache-mismatch": anon and swapbacked != swapcache,
        "unreachable:hwpoison-large-folio": state["order"] > 0 and bool(state["ttu"] & _core.TTU_FLAGS["HWPOISON"]),
        "unreachable:device-exclusive-file": device and not anon,
    }
    return [tag for tag, present in found.items() if present]


def _entry(vpn: int, word: int) -> list:
    kind = pte.KINDS[int(pte.kind(word))]
    return [vpn, kind, None if kind == "marker_uffd_wp" else int(pte.pfn(word)), pte.flags(word)]


def load_case(path) -> dict:
    """Read a case from a JSON file, as ``check --json`` and :meth:`CheckReport.to_dict` give them.

    Raises
    ------
    ValueError
        If the file is not JSON or no valid case; the message says what.
    """
    try:
        case = json.loads(Path(path).read_text(encoding="utf-8"))
        case = case.get("example", case) if isinstance(case, dict) else case
        vector_population(case)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    except VectorError as error:
        raise ValueError(f"{path}: not a case: {error}") from None
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise ValueError(f"{path}: not a case: {type(error).__name__} {error}") from None
    return case


@dataclass(frozen=True)
class Outcome:
    """One case unmapped under one policy."""

    ret: bool
    before: object
    after: object
    call: object


def unmap_case(case: dict, policy, arch="x86-64") -> Outcome:
    """Unmap a case under a policy (C library), or under a Python function (reference)."""
    before = vector_population(case)
    after = before.copy()
    arch = _arch.get(arch).replace(ptrs_per_pte=before.ptrs_per_pte, page_shift=before.page_shift)
    engine = reference if callable(policy) else _doors
    call = engine.try_to_unmap_one(after, 0, 0, policy=policy, arch=arch, ttu=case["ttu"], guard=case["guard"])
    return Outcome(call.ret, before, after, call)


def judge(case: dict, policy, *, against="per-page", arch="x86-64") -> list[str]:
    """Return the invariants that a policy violates on a case, in the order of :data:`INVARIANTS`.

    The invariants are written here a second time, apart from ``csrc/check.c``.
    """
    outcome = unmap_case(case, policy, arch)
    oracle = unmap_case(case, _policy.get(against), arch)
    found = {name for name, test in _TESTS.items() if not test(outcome)}
    found |= _compare(oracle, outcome)
    return [name for name in INVARIANTS if name in found]


def _maps(outcome: Outcome, ptes) -> np.ndarray:
    """Page of the folio that each entry maps, or -1."""
    kinds = pte.kind(ptes)
    page = pte.pfn(ptes).astype(np.int64) - int(outcome.before.folio_pfn[0])
    mapping = (kinds == 7) | (kinds == 3) | (kinds == 4)
    return np.where(mapping & (page >= 0) & (page < 1 << int(outcome.before.folio_order[0])), page, -1)


def _page_flags(population) -> np.ndarray:
    flags, pages = int(population.folio_flags[0]), 1 << int(population.folio_order[0])
    if flags & _core.FOLIO_PAGE_FLAGS:
        return population.page_flags[:pages]
    return np.full(pages, _core.PAGE_EXCLUSIVE if flags & _core.FOLIO_EXCLUSIVE else 0, np.uint8)


def _accounting(outcome: Outcome) -> bool:
    before, after = outcome.before, outcome.after
    was, now = _maps(outcome, before.ptes), _maps(outcome, after.ptes)
    lost = was[(was >= 0) & (now < 0)]
    by_page = np.bincount(lost, minlength=1 << int(before.folio_order[0]))
    swapped = np.count_nonzero((was >= 0) & (pte.kind(after.ptes) == pte.KINDS.index("swap")))
    file, anon, swap, shmem = (after.mm_rss[0] - before.mm_rss[0]).tolist()
    return (
        np.array_equal(before.page_mapcounts(0) - after.page_mapcounts(0), by_page)
        and before.folio_mapcount[0] - after.folio_mapcount[0] == len(lost)
        and before.folio_refcount[0] - after.folio_refcount[0] == len(lost)
        and file + anon + shmem == -len(lost)
        and swap == swapped
    )


def _steps(outcome: Outcome) -> list[tuple[int, int]]:
    """(vpn, entries) that each step cleared."""
    sizes = {"step": None, "step_nonpresent": 1}
    return [(vpn, sizes[kind] or nr) for kind, vpn, nr in outcome.call.trace if kind in sizes]


def _slot_once(outcome: Outcome) -> bool:
    slots = [vpn + i for vpn, nr in _steps(outcome) for i in range(nr)]
    return len(slots) == len(set(slots))


def _forward(outcome: Outcome) -> bool:
    starts = [vpn for vpn, _ in _steps(outcome)]
    return all(a < b for a, b in pairwise(starts))


def _in_bounds(outcome: Outcome) -> bool:
    names = ("oob_reads", "oob_writes", "vma_overrun_reads", "vma_overrun_writes")
    return not any(outcome.call.events[name] for name in names)


def _changed(outcome: Outcome) -> tuple[np.ndarray, np.ndarray]:
    """Present entries that changed, before and after."""
    was, now = outcome.before.ptes, outcome.after.ptes
    changed = (was != now) & (was & pte.PRESENT != 0)
    return was[changed], now[changed]


def _restored_without(bit, exactly: bool):
    """A test that entries which are present before and after do not lose (or, exactly, do not change) a bit."""

    def test(outcome: Outcome) -> bool:
        was, now = _changed(outcome)
        still = (now & pte.PRESENT) != 0
        differs = (was ^ now) if exactly else was & ~now
        return not np.any(differs[still] & bit)

    return test


def _uffd_wp_kept(outcome: Outcome) -> bool:
    was, now = _changed(outcome)
    restored = (now & pte.PRESENT) != 0
    if np.any((was ^ now)[restored] & pte.UFFD_WP):
        return False
    flags = int(outcome.before.vma_flags[0])
    if flags & _core.VMA_ANON or not flags & _core.VMA_UFFD_WP:
        return True
    return not np.any((was & pte.UFFD_WP != 0) & (now == pte.NONE))


def _dirty_kept(outcome: Outcome) -> bool:
    was, now = _changed(outcome)
    mapped = _maps(outcome, was) >= 0
    gone = (now & pte.PRESENT) == 0
    dirty = (was & pte.DIRTY) != 0
    if np.any(dirty & ~gone & ((now & pte.DIRTY) == 0)):
        return False
    return not np.any(dirty & gone & mapped) or bool(outcome.after.folio_flags[0] & _core.FOLIO_DIRTY)


def _flushed(outcome: Outcome) -> bool:
    first = int(outcome.before.vma_window_start[0])
    flushed = {
        vpn + i for kind, vpn, nr in outcome.call.trace if kind in ("tlb_deferred", "tlb_immediate") for i in range(nr)
    }
    was, now = outcome.before.ptes, outcome.after.ptes
    gone = np.flatnonzero((was & pte.PRESENT != 0) & (now & pte.PRESENT == 0))
    return all(first + int(i) in flushed for i in gone)


def _notified(outcome: Outcome) -> bool:
    ranges = [(start, end) for kind, start, end in outcome.call.trace if kind == "notifier"]
    return all(ranges[0][0] <= vpn and vpn + nr <= ranges[0][1] for vpn, nr in _steps(outcome))


def _mlock_earned(outcome: Outcome) -> bool:
    if not outcome.call.events["mlock_calls"]:
        return True
    before = outcome.before
    window, per_table = int(before.vma_window_start[0]), before.ptrs_per_pte
    start, end = next((start, end) for kind, start, end in outcome.call.trace if kind == "notifier")  # the walk's range
    table_end = min(end, (start // per_table + 1) * per_table)
    seen = np.count_nonzero(_maps(outcome, before.ptes[start - window : table_end - window]) >= 0)
    return seen == 1 << int(before.folio_order[0])


_TESTS = {
    "accounting": _accounting,
    "slot-once": _slot_once,
    "forward": _forward,
    "out-of-bounds": _in_bounds,
    "uffd-wp-lost": _uffd_wp_kept,
    "restore-write": _restored_without(pte.WRITE, True),
    "restore-soft-dirty": _restored_without(pte.SOFT_DIRTY, False),
    "restore-young": _restored_without(pte.YOUNG, False),
    "dirty-lost": _dirty_kept,
    "tlb-flush": _flushed,
    "notifier": _notified,
    "mlock": _mlock_earned,
}

_REPRESENTATION = _core.FOLIO_PAGE_MAPCOUNTS | _core.FOLIO_PAGE_FLAGS | _core.FOLIO_EXCLUSIVE
# A batch does not leave a folio partially mapped on its way: queueing for a deferred split is no part of the result.
_QUEUED = _core.FOLIO_PARTIALLY_MAPPED


def _compare(oracle: Outcome, outcome: Outcome) -> set[str]:
    """The final state against the oracle's; after an abort two differences are documented."""
    one, other = oracle.after, outcome.after
    one_flags = int(one.folio_flags[0]) & ~(_REPRESENTATION | _QUEUED)
    other_flags = int(other.folio_flags[0]) & ~(_REPRESENTATION | _QUEUED)
    same_counts = (
        one.folio_refcount[0] == other.folio_refcount[0]
        and one.folio_mapcount[0] == other.folio_mapcount[0]
        and np.array_equal(one.page_mapcounts(0), other.page_mapcounts(0))
        and np.array_equal(_page_flags(one), _page_flags(other))
        and np.array_equal(one.mm_rss, other.mm_rss)
    )
    same_ptes = np.array_equal(one.ptes, other.ptes)
    if same_ptes and same_counts and one_flags == other_flags and oracle.ret == outcome.ret:
        return set()
    if oracle.ret or outcome.ret:
        return {"final-state"}
    present = (one.ptes & pte.PRESENT) != 0
    if not np.array_equal(present, (other.ptes & pte.PRESENT) != 0):
        return {"abort-left-mapped"}
    wider = pte.DIRTY | pte.YOUNG | pte.SOFT_DIRTY
    differ = one.ptes ^ other.ptes
    only_wider = not np.any(differ & ~wider) and not np.any(one.ptes & ~other.ptes) and np.all(present[differ != 0])
    # A batch that finds a dirty entry behind a clean one makes the folio dirty, and so swapbacked, one step earlier.
    dirtied = _core.FOLIO_DIRTY | _core.FOLIO_SWAPBACKED if other_flags & _core.FOLIO_DIRTY else 0
    same_folio = same_counts and not (one_flags ^ other_flags) & ~dirtied and not one_flags & ~other_flags & dirtied
    return {"abort-widened"} if only_wider and same_folio else {"final-state"}


# --- beyond the bound: random larger cases, mutations of captures -----------------------------------------------------

_BITS = ("write", "young", "dirty", "soft_dirty", "uffd_wp")
_KINDS = {
    "file": 0,
    "lazyfree": _core.FOLIO_ANON,
    "anon": _core.FOLIO_ANON | _core.FOLIO_SWAPBACKED | _core.FOLIO_SWAPCACHE | _core.FOLIO_DIRTY,
}
_RECLAIM_TTU = _core.TTU_FLAGS["BATCH_FLUSH"] | _core.TTU_FLAGS["SYNC"]


def _consistent_state(rng, words, first_vpn, per_table, vma, flags, order, pfn, guard="none") -> dict:
    """A state whose mapcounts and references go with its entries; sometimes somebody else holds the folio too."""
    pages = 1 << order
    mapped = pte.pfn(words).astype(np.int64) - pfn
    counts = np.bincount(
        mapped[((pte.kind(words) == 7) | (pte.kind(words) == 3)) & (mapped >= 0) & (mapped < pages)], minlength=pages
    )
    anon, swapbacked = flags & _core.FOLIO_ANON, flags & _core.FOLIO_SWAPBACKED
    cached = not anon or flags & _core.FOLIO_SWAPCACHE
    exclusive = rng.random(pages) < (0.9 if anon and swapbacked else 0)
    return {
        "ptes": words.tolist(),
        "first_vpn": first_vpn,
        "ptrs_per_pte": per_table,
        "vma": vma,
        "folio_flags": flags,
        "order": order,
        "refcount": 1 + int(counts.sum()) + (pages if cached else 0) + int(rng.random() < 0.1),
        "page_mapcount": counts.tolist(),
        "page_flags": exclusive.astype(np.uint8) * _core.PAGE_EXCLUSIVE,
        "ttu": _RECLAIM_TTU,
        "guard": guard,
    }


def _mutate(rng, words, slots, anon: bool, uffd_wp: bool, rate: float) -> None:
    """Flip bits of some entries, zap some, and put a device entry in the place of some anonymous ones."""
    bits = [getattr(pte, name.upper()) for name in (_BITS if uffd_wp else _BITS[:-1])]
    for slot in slots[rng.random(len(slots)) < rate]:
        what = rng.random()
        if what < 0.7 and words[slot] & pte.PRESENT:
            words[slot] ^= rng.choice(bits)
        elif what < 0.9 or not anon or not words[slot] & pte.PRESENT:
            words[slot] = 0
        else:
            words[slot] = pte.make("device_exclusive", int(pte.pfn(words[slot])))


def random_cases(seed: int, number: int):
    """Yield seeded cases of folios of 8 to 64 pages, across page-table and VMA borders; a pure function of the seed."""
    per_table = 64
    for count in range(number):
        rng = np.random.default_rng([seed, count])
        order = int(rng.integers(3, 7))
        pages, kind = 1 << order, str(rng.choice(list(_KINDS)))
        uffd_wp = bool(rng.random() < 0.3)
        linear = 2 * per_table - int(rng.integers(0, pages + 1))
        first, end = sorted(rng.choice(pages + 1, 2, replace=False).tolist()) if rng.random() < 0.3 else (0, pages)
        names = [name for name in _BITS[: 5 if uffd_wp else 4] if rng.random() < 0.5]
        words = np.zeros(2 * per_table, np.uint64)
        at = linear - per_table
        word = int(pte.make("present", _FOLIO_PFN, names))
        words[at : at + pages] = np.uint64(word) + (np.arange(pages, dtype=np.uint64) << pte.PFN_SHIFT)
        _mutate(rng, words, np.arange(at, at + pages), kind != "file", uffd_wp, float(rng.choice([0.02, 0.1, 0.5])))
        vma_flags = (_core.VMA_ANON if kind != "file" else 0) | (_core.VMA_UFFD_WP if uffd_wp else 0)
        vma = (linear + first, linear + end, _FOLIO_INDEX + first, vma_flags)
        guard = "contiguous" if rng.random() < 0.5 else "none"
        yield case_of_state(
            _consistent_state(rng, words, per_table, per_table, vma, _KINDS[kind], order, _FOLIO_PFN, guard)
        )


def capture_cases(population, seed: int, number: int):
    """Yield mutations of the large folios that a population maps: a folio in a VMA, with some bits flipped."""
    large = np.flatnonzero((population.folio_order > 0) & (population.folio_mapcount > 0))
    if not len(large):
        raise ValueError("capture: it maps no large folio, so there is nothing that a policy could batch")
    per_table = population.ptrs_per_pte
    for count in range(number):
        rng = np.random.default_rng([seed, count])
        folio = int(rng.choice(large))
        pairs = population.rmap(folio)
        vma, vpn = pairs[int(rng.integers(len(pairs)))]
        order, pfn = int(population.folio_order[folio]), int(population.folio_pfn[folio])
        start, end = int(population.vma_start[vma]), int(population.vma_end[vma])
        low = vpn // per_table * per_table
        high = -(-min(vpn + (1 << order), end) // per_table) * per_table
        cut_start, cut_end = max(start, low), min(end, high)
        base = int(population.vma_pte_base[vma]) - start
        words = np.zeros(high - low, np.uint64)
        words[cut_start - low : cut_end - low] = population.ptes[base + cut_start : base + cut_end]
        words[(words & pte.PRESENT) != 0] &= ~pte.CONT
        flags = int(population.folio_flags[folio]) & sum(_FOLIO_NAMES.values()) & ~_core.FOLIO_MLOCKED
        if flags & _core.FOLIO_ANON and flags & _core.FOLIO_SWAPBACKED:
            flags |= _core.FOLIO_SWAPCACHE
        vma_flags = int(population.vma_flags[vma])
        slots = np.arange(vpn - low, min(vpn + (1 << order), cut_end) - low)
        _mutate(
            rng,
            words,
            slots,
            bool(flags & _core.FOLIO_ANON),
            bool(vma_flags & _core.VMA_UFFD_WP),
            float(rng.choice([0.0, 0.02, 0.2])),
        )
        pgoff = int(population.vma_pgoff[vma]) + cut_start - start
        state = _consistent_state(rng, words, low, per_table, (cut_start, cut_end, pgoff, vma_flags), flags, order, pfn)
        case = case_of_state(state)
        case["folio"] |= {"pfn": pfn, "index": int(population.folio_index[folio]), "swap_offset": 1 << 20}
        yield case


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
                    Violation(name, counts[one.name, name], example[one.name, name])
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
