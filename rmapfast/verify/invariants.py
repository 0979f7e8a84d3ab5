"""What an unmap of a case does, and which invariants it violates.

The invariants are written here a second time, apart from ``csrc/check_invariants.c``; docs/checker.md has a sentence
for each. Those whose names begin with ``rule-`` are in :mod:`rmapfast.verify.rule_judge`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import rmapfast._core as _core
from rmapfast import arch as _arch
from rmapfast import calls, pte, reference
from rmapfast import policy as _policy
from rmapfast.arch import Arch
from rmapfast.events import Call
from rmapfast.flags import FolioFlag, VmaFlag
from rmapfast.policy import Policy
from rmapfast.population import Population
from rmapfast.reference import BatchRule
from rmapfast.verify.cases import Case, case_population, page_flags
from rmapfast.verify.rule_judge import Expected

INVARIANTS: tuple[str, ...] = _core.INVARIANTS

# Events of accesses outside the page table or the VMA.
OUTSIDE = ("oob_reads", "oob_writes", "vma_overrun_reads", "vma_overrun_writes")


class Step(NamedTuple):
    """A step of an unmap: its first virtual page, its batch size, and whether its entry was present."""

    vpn: int
    nr: int
    present: bool

    @property
    def cleared(self) -> int:
        """Entries that it cleared; a stale batch size is not what a step at a non-present entry clears."""
        return self.nr if self.present else 1


@dataclass(frozen=True)
class UnmapOutcome:
    """One case unmapped under one policy.

    Parameters
    ----------
    before, after : Population
        The case, before and after.
    call : Call
        What was done.
    """

    before: Population
    after: Population
    call: Call

    @property
    def ret(self) -> bool:
        """What ``try_to_unmap_one()`` returned: False if it was aborted or the VMA is locked."""
        return self.call.ret

    @cached_property
    def steps(self) -> list[Step]:
        """The steps, in order."""
        steps = {"step": True, "step_nonpresent": False}
        return [Step(vpn, nr, steps[what]) for what, vpn, nr in self.call.trace if what in steps]

    @cached_property
    def notified(self) -> range:
        """Virtual pages of the MMU notifier's range, which is the walk's."""
        return next(range(start, end) for what, start, end in self.call.trace if what == "notifier")


def unmap_case(case: Case, policy: str | Policy | BatchRule, arch: str | Arch = "x86-64") -> UnmapOutcome:
    """Unmap a case under a policy (C library), or under a Python function (reference).

    Parameters
    ----------
    case : dict
        As :func:`random_cases`, :func:`capture_cases` and :func:`load_case` give it.
    policy : str, Policy or callable
    arch : str or Arch
        Its rules (soft-dirty with dirty, TLB deferral) hold; the page tables are the case's.

    Raises
    ------
    VectorError
        If the fields of the case do not fit together.
    """
    return _unmapped(case_population(case), case, policy, arch)


def _unmapped(before: Population, case: Case, policy: str | Policy | BatchRule, arch: str | Arch) -> UnmapOutcome:
    after = before.copy()
    arch, ttu, guard = _toy_arch(case, arch), case["ttu"], case["guard"]
    if isinstance(policy, str | Policy):
        call = calls.try_to_unmap_one(after, 0, 0, policy=policy, arch=arch, ttu=ttu, guard=guard)
    else:
        call = reference.try_to_unmap_one(after, 0, 0, policy=policy, arch=arch, ttu=ttu, guard=guard)
    return UnmapOutcome(before, after, call)


def _toy_arch(case: Case, arch: str | Arch) -> Arch:
    """Return an architecture with the page tables and the contpte blocks of a case."""
    geometry = {name: case[name] for name in ("ptrs_per_pte", "page_shift")}
    return _arch.get(arch).replace(**geometry, cont_ptes=case.get("cont_ptes", 1))


def judge(
    case: Case,
    policy: str | Policy | BatchRule,
    *,
    against: str | Policy = "per-page",
    arch: str | Arch = "x86-64",
) -> list[str]:
    """Return the invariants that a policy violates on a case, in the order of :data:`INVARIANTS`.

    Parameters
    ----------
    case, policy, arch
        As for :func:`unmap_case`.
    against : str or Policy
        The oracle, whose final state is the right one.

    Raises
    ------
    VectorError
        If the fields of the case do not fit together.
    """
    return judged(case, policy, against=against, arch=arch)[0]


def judged(
    case: Case, policy: str | Policy | BatchRule, *, against: str | Policy, arch: str | Arch
) -> tuple[list[str], UnmapOutcome]:
    """Return the invariants that a policy violates on a case, and what it did; the arguments are those of judge()."""
    before = case_population(case)
    outcome = _unmapped(before, case, policy, arch)
    oracle = _unmapped(before, case, _policy.get(against), arch)
    found = {name for name, holds in _HOLDS.items() if not holds(outcome)}
    found |= _compare(oracle, outcome) | _against_rules(case, outcome, policy, _toy_arch(case, arch))
    return [name for name in INVARIANTS if name in found], outcome


def _against_rules(case: Case, outcome: UnmapOutcome, policy: str | Policy | BatchRule, arch: Arch) -> set[str]:
    """What the unmap did otherwise than the rules of its edition say."""
    rules = _policy.get(policy if isinstance(policy, str | Policy) else _policy.AROUND_A_FUNCTION)
    sizes = None
    if rules.rule or not isinstance(policy, str | Policy):  # the user's rule decides them
        sizes = [step.nr for step in outcome.steps if step.present]
    return Expected(outcome.before, rules, arch, case["ttu"], sizes).differences(outcome.after, outcome.call)


def _pages(outcome: UnmapOutcome, ptes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Page of the folio that each entry maps, or -1."""
    page = pte.pfn(ptes).astype(np.int64) - int(outcome.before.folio_pfn[0])
    return np.where(pte.maps_page(ptes) & (page >= 0) & (page < 1 << int(outcome.before.folio_order[0])), page, -1)


def _accounting(outcome: UnmapOutcome) -> bool:
    before, after = outcome.before, outcome.after
    was, now = _pages(outcome, before.ptes), _pages(outcome, after.ptes)
    lost = was[(was >= 0) & (now < 0)]
    by_page = np.bincount(lost, minlength=1 << int(before.folio_order[0]))
    swapped = np.count_nonzero((was >= 0) & (pte.kind(after.ptes) == pte.KINDS.index("swap")))
    file, anon, swap, shmem = (after.mm_rss[0] - before.mm_rss[0]).tolist()
    return bool(
        np.array_equal(before.page_mapcounts(0) - after.page_mapcounts(0), by_page)
        and before.folio_mapcount[0] - after.folio_mapcount[0] == len(lost)
        and before.folio_refcount[0] - after.folio_refcount[0] == len(lost)
        and file + anon + shmem == -len(lost)
        and swap == swapped
    )


def _slot_once(outcome: UnmapOutcome) -> bool:
    slots = [step.vpn + i for step in outcome.steps for i in range(step.cleared)]
    return len(slots) == len(set(slots))


def _forward(outcome: UnmapOutcome) -> bool:
    return all(a.vpn < b.vpn for a, b in pairwise(outcome.steps))


def _in_bounds(outcome: UnmapOutcome) -> bool:
    return not any(outcome.call.events[name] for name in OUTSIDE)


def _changed(outcome: UnmapOutcome) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Present entries that changed, before and after."""
    was, now = outcome.before.ptes, outcome.after.ptes
    changed = (was != now) & (was & pte.PRESENT != 0)
    return was[changed], now[changed]


def _restored(bit: np.uint64, *, exactly: bool) -> Callable[[UnmapOutcome], bool]:
    """A test that entries which are present before and after do not lose a bit; exactly: that it does not change."""

    def holds(outcome: UnmapOutcome) -> bool:
        was, now = _changed(outcome)
        still = (now & pte.PRESENT) != 0
        differs = (was ^ now) if exactly else was & ~now
        return not np.any(differs[still] & bit)

    return holds


def _uffd_wp_kept(outcome: UnmapOutcome) -> bool:
    was, now = _changed(outcome)
    restored = (now & pte.PRESENT) != 0
    if np.any((was ^ now)[restored] & pte.UFFD_WP):
        return False
    flags = int(outcome.before.vma_flags[0])
    if flags & VmaFlag.ANON or not flags & VmaFlag.UFFD_WP:
        return True
    return not np.any((was & pte.UFFD_WP != 0) & (now == pte.NONE))


def _dirty_kept(outcome: UnmapOutcome) -> bool:
    was, now = _changed(outcome)
    mapped = _pages(outcome, was) >= 0
    gone = (now & pte.PRESENT) == 0
    dirty = (was & pte.DIRTY) != 0
    if np.any(dirty & ~gone & ((now & pte.DIRTY) == 0)):
        return False
    return not np.any(dirty & gone & mapped) or bool(outcome.after.folio_flags[0] & FolioFlag.DIRTY)


def _flushed(outcome: UnmapOutcome) -> bool:
    first = int(outcome.before.vma_window_start[0])
    flushes = ("tlb_deferred", "tlb_immediate")
    flushed = {vpn + i for what, vpn, nr in outcome.call.trace if what in flushes for i in range(nr)}
    was, now = outcome.before.ptes, outcome.after.ptes
    gone = np.flatnonzero((was & pte.PRESENT != 0) & (now & pte.PRESENT == 0))
    return all(first + int(i) in flushed for i in gone)


def _notified(outcome: UnmapOutcome) -> bool:
    notified = outcome.notified
    return all(notified.start <= step.vpn and step.vpn + step.cleared <= notified.stop for step in outcome.steps)


def _mlock_earned(outcome: UnmapOutcome) -> bool:
    if not outcome.call.events["mlock_calls"]:
        return True
    before, walked = outcome.before, outcome.notified
    window, per_table = int(before.vma_window_start[0]), before.ptrs_per_pte
    table_end = min(walked.stop, (walked.start // per_table + 1) * per_table)
    pages = _pages(outcome, before.ptes[walked.start - window : table_end - window])
    return int(np.count_nonzero(pages >= 0)) == 1 << int(before.folio_order[0])


_HOLDS: dict[str, Callable[[UnmapOutcome], bool]] = {
    "accounting": _accounting,
    "slot-once": _slot_once,
    "forward": _forward,
    "out-of-bounds": _in_bounds,
    "uffd-wp-lost": _uffd_wp_kept,
    "restore-write": _restored(pte.WRITE, exactly=True),
    "restore-soft-dirty": _restored(pte.SOFT_DIRTY, exactly=False),
    "restore-young": _restored(pte.YOUNG, exactly=False),
    "dirty-lost": _dirty_kept,
    "tlb-flush": _flushed,
    "notifier": _notified,
    "mlock": _mlock_earned,
}

# Flags that say how the pages are stored. The final states are compared without them.
_REPRESENTATION = FolioFlag.PAGE_MAPCOUNTS | FolioFlag.PAGE_FLAGS | FolioFlag.EXCLUSIVE
# Page by page a folio is partially mapped for a while, and is queued for a deferred split; in one batch it never is. So
# this flag is not compared either.
_QUEUED = FolioFlag.PARTIALLY_MAPPED


def _compare(oracle: UnmapOutcome, outcome: UnmapOutcome) -> set[str]:
    """Compare the final state with the oracle's; after an abort two differences are documented."""
    one, other = oracle.after, outcome.after
    one_flags = int(one.folio_flags[0]) & ~(_REPRESENTATION | _QUEUED)
    other_flags = int(other.folio_flags[0]) & ~(_REPRESENTATION | _QUEUED)
    same_counts = (
        one.folio_refcount[0] == other.folio_refcount[0]
        and one.folio_mapcount[0] == other.folio_mapcount[0]
        and np.array_equal(one.page_mapcounts(0), other.page_mapcounts(0))
        and np.array_equal(page_flags(one), page_flags(other))
        and np.array_equal(one.mm_rss, other.mm_rss)
    )
    # CONT says nothing that the entries do not say
    one_ptes, other_ptes = (np.where(it & pte.PRESENT, it & ~pte.CONT, it) for it in (one.ptes, other.ptes))
    same_ptes = np.array_equal(one_ptes, other_ptes)
    if same_ptes and same_counts and one_flags == other_flags and oracle.ret == outcome.ret:
        return set()
    if oracle.ret or outcome.ret:
        return {"final-state"}
    present = (one_ptes & pte.PRESENT) != 0
    if not np.array_equal(present, (other_ptes & pte.PRESENT) != 0):
        return {"abort-left-mapped"}
    wider = pte.DIRTY | pte.YOUNG | pte.SOFT_DIRTY
    differ = one_ptes ^ other_ptes
    # The oracle may have folded a block of which the batch has a part; then young and dirty are spread there.
    folded = np.where(one_ptes != one.ptes, pte.DIRTY | pte.YOUNG, np.uint64(0))
    narrower = one_ptes & ~other_ptes & ~folded
    only_wider = not np.any(differ & ~wider) and not np.any(narrower) and np.all(present[differ != 0])
    # A batch that finds a dirty entry behind a clean one makes the folio dirty, and so swapbacked, one step earlier.
    dirtied = FolioFlag.DIRTY | FolioFlag.SWAPBACKED if other_flags & FolioFlag.DIRTY else 0
    same_folio = same_counts and not (one_flags ^ other_flags) & ~dirtied and not one_flags & ~other_flags & dirtied
    return {"abort-widened"} if only_wider and same_folio else {"final-state"}
