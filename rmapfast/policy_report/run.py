"""The work behind a report on a policy: the checks, and the runs with it and with its baseline."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from rmapfast import arch as _arch
from rmapfast import policy as _policy
from rmapfast import rule as _rule
from rmapfast.arch import Arch
from rmapfast.captures import Capture
from rmapfast.comparison import SEED_ARCHES, Comparison, compare
from rmapfast.layout import MAX_ORDER
from rmapfast.loop import SEED_TARGET, reclaim
from rmapfast.policy import Policy
from rmapfast.policy_report.baseline import baseline_of, differing
from rmapfast.policy_report.data import CaptureRun, Point
from rmapfast.policy_report.document import PolicyReport
from rmapfast.policy_report.layouts import KINDS, LAYOUTS, MAIN_LAYOUT, MAIN_ORDER, ORDERS, memory
from rmapfast.population import Population
from rmapfast.provenance import provenance
from rmapfast.reference import YoungRule
from rmapfast.result import PolicyFunction, Result, policy_name
from rmapfast.support import (
    checked_choice,
    checked_integer,
    checked_list,
    checked_path,
    checked_progress,
    page_multiple,
)
from rmapfast.verify import SPLIT_FIELDS, CheckReport, check

# Memory of a run: of a function, which runs on the plain-Python model, and of any other policy; of the runs that only
# find which kinds of folios the policy is about.
_SIZE_OF_A_FUNCTION = "8MiB"
_SIZE = "64MiB"
_SIZE_OF_A_PROBE = "1MiB"
# Seconds of a check of small states, and of each further one; folios of the latter.
_BUDGET = 60.0
_FURTHER_BUDGET = 20.0
_FURTHER_PAGES = 2

Progress = Callable[[str], None]


def report(
    policy: str | Policy | PolicyFunction,
    *,
    baseline: str | Policy | None = None,
    captures: Iterable[str] = (),
    arches: Iterable[str | Arch] = SEED_ARCHES,
    orders: Iterable[int] = ORDERS,
    kinds: Iterable[str] | None = None,
    size: int | str | None = None,
    pages: int | None = None,
    budget: float = _BUDGET,
    seed: int = 0,
    progress: Progress | None = None,
) -> PolicyReport:
    """Check a policy, compare it with its baseline on many layouts of memory, and rank what matters.

    Parameters
    ----------
    policy : str, Policy or callable
        A preset's name; ``FILE.c:NAME``, a batching rule in C; ``FILE.py:NAME`` or a function ``(folio, vma, walk, pte)
        -> nr``, a batching rule in Python; or a policy.
    baseline : str or Policy, optional
        What it is compared with. By default, of a rule the policy around it, and else the kernel release with the
        nearest rules.
    captures : iterable of paths
        Captures that are reclaimed too.
    arches : iterable of str or Arch
        Captures take part in those that have their page size.
    orders : iterable of int
        Folio orders.
    kinds : iterable of {'file', 'anon', 'lazyfree', 'shmem'}, optional
        Kinds of folios. By default those in which the policy differs from its baseline.
    size : int or str, optional
        Memory of each run, of which 80% are reclaimed. By default 64 MiB, and 8 MiB for a function.
    pages : {1, 2, 4, 8}, optional
        Largest folio of the check of small states, as for :func:`rmapfast.check`.
    budget : float
        Seconds for that check.
    seed : int
        Of the random choices in layouts.
    progress : callable, optional
        Called with a line of text.

    Returns
    -------
    PolicyReport

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong type or out of range, and for a policy that cannot be checked or run; the message
        names it.

    Examples
    --------
    >>> found = report("anon-swap", orders=[0, 4], kinds=["anon"], size="1MiB", pages=2)
    >>> found.baseline, found.clean
    ('v7.2', False)
    """
    if isinstance(policy, YoungRule):
        raise TypeError("policy: expected a policy or a batching rule, got a YoungRule; check() takes one")
    chosen = _policy.resolved(policy)
    against = baseline_of(chosen) if baseline is None else _policy.get(baseline)
    machines = [_arch.get(arch) for arch in checked_list("arches", arches, "architectures")]
    steps = [checked_integer("orders", order, 0, MAX_ORDER) for order in checked_list("orders", orders, "folio orders")]
    wanted = None
    if kinds is not None:
        wanted = [checked_choice("kinds", kind, KINDS) for kind in checked_list("kinds", kinds, "kinds of folios")]
    paths = [str(checked_path("captures", path)) for path in checked_list("captures", captures, "paths")]
    for name, values in (("arches", machines), ("orders", steps), ("kinds", wanted)):
        if values is not None and not values:
            raise ValueError(f"{name}: expected at least one, got none")
    by_function = not isinstance(chosen, Policy)
    memory_size = page_multiple(
        size if size is not None else _SIZE_OF_A_FUNCTION if by_function else _SIZE,
        max(arch.page_size for arch in machines),
    )
    checked_integer("seed", seed, 0, (1 << 64) - 1)
    checked_progress(progress)
    loaded = [one for path in paths for one in _loaded(path, machines)]
    start = time.monotonic()
    work = _Work(chosen, against, memory_size, seed, progress or (lambda text: None))
    checks = work.checks(pages, budget)
    about = work.kinds(machines) if wanted is None else tuple(wanted)
    points = work.points(machines, about or KINDS[:1], steps)
    strength = _strength(points)
    about = tuple(sorted(about, key=lambda kind: -strength[kind]))
    points = tuple(sorted(points, key=lambda point: -strength[point.kind]))
    return PolicyReport(
        policy=policy_name(chosen),
        baseline=against.name,
        doc=_doc(chosen),
        source=_source(chosen),
        differing=tuple(differing(chosen, against)) if isinstance(chosen, Policy) else (),
        checks=checks,
        kinds=about,
        tried_kinds=KINDS if wanted is None else tuple(wanted),
        points=points,
        by_order=work.by_order(machines, points[0].kind, steps),
        captures=tuple(work.capture(*one) for one in loaded),
        seconds=time.monotonic() - start,
        provenance=provenance(
            policy=policy if isinstance(policy, str) else policy_name(chosen),
            baseline=against.name,
            captures=paths,
            arches=[arch.name for arch in machines],
            orders=steps,
            kinds=list(about),
            size=memory_size,
            target=SEED_TARGET,
            pages=pages,
            budget=budget,
            seed=seed,
        ),
    )


def _loaded(path: str, arches: list[Arch]) -> list[tuple[str, Arch, Population]]:
    """Return a capture as a population of each architecture that has its page size."""
    shift = Capture.load(path).page_shift
    fitting = [arch for arch in arches if arch.page_shift == shift]
    if not fitting:
        raise ValueError(f"captures: {path} has pages of {1 << shift} bytes, and no architecture of this report has")
    return [(path, arch, Population.load(path, arch=arch)) for arch in fitting]


def _strength(points: tuple[Point, ...]) -> dict[str, float]:
    """Return the mean of the absolute changes of each kind of folio."""
    changes: dict[str, list[float]] = {point.kind: [] for point in points}
    for point in points:
        if point.change:
            changes[point.kind].append(abs(point.change[0]))
    return {kind: sum(values) / len(values) if values else 0.0 for kind, values in changes.items()}


def _doc(policy: Policy | PolicyFunction) -> str:
    text = policy.doc if isinstance(policy, Policy) else inspect.getdoc(policy) or ""
    return " ".join(text.split())


def _source(policy: Policy | PolicyFunction) -> str:
    """Return the source of a rule of one's own; empty where there is none, or it cannot be read."""
    if not isinstance(policy, Policy):
        try:
            return inspect.getsource(policy)
        except (OSError, TypeError):
            return ""
    path = _rule.path_of(policy.rule) or _rule.path_of(policy.young_rule)
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace") if path else ""
    except OSError:
        return ""


@dataclass(frozen=True)
class _Work:
    """A policy, its baseline, and what their runs have in common."""

    policy: Policy | PolicyFunction
    baseline: Policy
    size: int
    seed: int
    progress: Progress

    def checks(self, pages: int | None, budget: float) -> tuple[CheckReport, ...]:
        """Check the policy: the unmap of a folio, and where its rules are about them, splits and reference checks."""
        name = policy_name(self.policy)

        def said(text: str) -> None:
            self.progress(f"check of {name}: {text}")

        if not isinstance(self.policy, Policy):
            return (check(self.policy, pages=pages, budget=budget, seed=self.seed, progress=said),)
        fields = set(differing(self.policy, self.baseline))
        found = [check([self.policy], pages=pages, budget=budget, progress=said)]
        further: dict[str, Any] = {
            "pages": _FURTHER_PAGES,
            "budget": min(budget, _FURTHER_BUDGET),
            "progress": said,
        }
        if fields & set(SPLIT_FIELDS) - {"young"}:
            found.append(check([self.policy], splits=True, **further))
        if fields & {"young", "young_rule", "mglru"}:
            found.append(check([self.policy], young=True, **further))
        return tuple(found)

    def _pair(self, size: int | str, kind: str, order: int, layout: str, arch: Arch) -> tuple[Result, Result]:
        """Return the runs of a memory under the baseline and under the policy."""
        spec = memory(size, kind, order, layout, arch, self.seed)
        before = reclaim(spec, SEED_TARGET, policy=self.baseline, arch=arch)
        return before, reclaim(spec, SEED_TARGET, policy=self.policy, arch=arch)

    def kinds(self, arches: list[Arch]) -> tuple[str, ...]:
        """Return the kinds of folios in which the policy differs from its baseline in any event."""
        found = []
        for kind in KINDS:
            self.progress(f"looking for differences: {kind}")
            runs = (
                self._pair(_SIZE_OF_A_PROBE, kind, MAIN_ORDER, layout, arch)
                for layout, arch in product(LAYOUTS, arches)
            )
            if any(before.events != after.events for before, after in runs):
                found.append(kind)
        return tuple(found)

    def points(self, arches: list[Arch], kinds: Iterable[str], orders: list[int]) -> tuple[Point, ...]:
        """Run every layout of every order and kind on every architecture, with and without the policy."""
        cases = list(product(arches, kinds, LAYOUTS, orders))
        found = []
        for number, (arch, kind, layout, order) in enumerate(cases, 1):
            self.progress(f"runs: {number} of {len(cases)} ({arch.name}, {kind}, order {order}, {layout})")
            found.append(point(*self._pair(self.size, kind, order, layout, arch), kind, layout, order))
        return tuple(found)

    def by_order(self, arches: list[Arch], kind: str, orders: list[int]) -> dict[int, Comparison]:
        """Return the runs that are shown in detail, by folio order."""

        def compared(order: int) -> Comparison:
            self.progress(f"runs in detail: order {order}")
            return compare(
                lambda arch: memory(self.size, kind, order, MAIN_LAYOUT, arch, self.seed),
                SEED_TARGET,
                policies=[self.baseline, self.policy],
                arches=arches,
                arguments={"size": self.size, "kind": kind, "orders": order},
            )

        return {order: compared(order) for order in sorted(set(orders))}

    def capture(self, path: str, arch: Arch, population: Population) -> CaptureRun:
        """Reclaim a capture with and without the policy."""
        self.progress(f"{path} on {arch.name}")
        found = compare(population, SEED_TARGET, policies=[self.baseline, self.policy], arches=[arch])
        before, after = found.runs
        orders = population.describe()["orders"]
        one = point(before, after, "capture", Path(path).name, max(map(int, orders), default=0))
        return CaptureRun(path=path, point=one, same=before.events == after.events)


def point(before: Result, after: Result, kind: str, layout: str, order: int) -> Point:
    """Return what two runs of the same memory say."""
    change = unit = None
    prices = (float("nan"), float("nan"))
    per_page = [run.events.counts / max(run.reclaimed_pages, 1) for run in (before, after)]
    reclaimed = min(before.reclaimed_pages, after.reclaimed_pages) > 0
    unpriced: list[str] = []
    if before.costs and after.costs and reclaimed:
        change = before.costs.change(*per_page)
        unit = before.costs.unit
        prices = (
            before.prediction.value / before.reclaimed_pages,
            after.prediction.value / after.reclaimed_pages,
        )
        unpriced = before.costs.unpriced(*per_page)
    return Point(
        arch=before.arch.name,
        kind=kind,
        layout=layout,
        order=order,
        before=prices[0],
        after=prices[1],
        unit=unit or "",
        change=None if change is None else (change.value, change.low, change.high),
        differing=int(np.count_nonzero(before.events.counts != after.events.counts)),
        unpriced=tuple(unpriced),
        reached=before.target_reached and after.target_reached,
    )
