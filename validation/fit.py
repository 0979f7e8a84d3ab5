"""Fit the cost vectors of rmapfast/costs to the measured rows: ``make fit``.

Each problem says which rows its vector explains, which events have a cost, and which costs share a parameter. Costs
that share a parameter keep a proportion that comes from a stated source. No cost belongs to a single row, and none
depends on the folio order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from rmapfast import cost
from rmapfast.calibration import PRIOR_WEIGHT, SCATTER, Fit, fit_costs
from rmapfast.cost import Cost, CostVector
from rmapfast.events import EVENT_NAMES
from validation import rows as _rows

COSTS = Path(__file__).resolve().parents[1] / "rmapfast" / "costs"

# Instructions that a call costs more under the tracer, as measured-vm.toml says; known, not fitted.
TRACER = {"x86-64": 680.0, "arm64-4k": 750.0}

# Events that always come together in an unmap step, or for a page. The proportions of the step come from what
# measured-vm.toml says of build B's 529 per page: rmap removal about 250 (of which the per-page and per-folio mapcount
# atomics have costs of their own), TLB-pending bookkeeping about 38, rest about 150. Of a batched page's 33, 8.5 are
# its rmap removal.
STEP = {"rmap_remove_calls": 158.0, "tlb_deferred": 38.0, "batches": 150.0}
PAGE = {"page_mapcount_atomics": 8.5, "ptes_cleared": 24.5}
# Sums that no row splits: reading and clearing an entry of a batch, and the rest of a step.
JOINT = (("batch_pte_reads", "ptes_cleared"), ("batches", "ref_puts", "rss_updates"))

# The reclaim loop around the unmap, in three parts that a build may scale by itself.
SCAN = ("shrink_calls", "active_passes", "folios_deactivated", "priority_passes")
FREE = ("folios_freed", "page_cache_slots")
PER_PAGE = ("pages_freed", "pages_scanned")
LOOP = (*SCAN, *FREE, *PER_PAGE)

Parameter = Mapping[str, float]

# A row that is outside the limit at this weight stays outside.
_MOST_WEIGHT = 10.0


def _own(*events: str) -> list[Parameter]:
    return [{event: 1.0} for event in events]


def _like(vector: CostVector, *events: str) -> Parameter:
    """One parameter for several costs in the proportion that they have in another vector."""
    return {event: vector[event] for event in events if vector[event]}


@dataclass(frozen=True)
class Problem:
    """One vector: the rows that it is fitted to, and its parameters.

    Parameters
    ----------
    name, unit, arch, build, source, note : str
    rows : tuple of Row
    parameters : tuple of dict
        Costs by event that one parameter scales together.
    joint : tuple
        As in :class:`rmapfast.cost.CostVector`.
    known : dict
        Costs that are given.
    prior : tuple of float
        Expected value of each parameter, 0 where there is none (see :func:`rmapfast.calibration.fit_costs`).
    prior_weight : float
        Weight of the relative deviation from it.
    scatter : float
        Relative error of a row that any equally good vector may have, where the row's own scatter is not larger.
    limit : float
        The weight of a row grows until its relative error is at most this.
    known_source : str
        Source of the costs that are given.
    """

    name: str
    unit: str
    arch: str
    build: str
    source: str
    rows: tuple[_rows.Row, ...]
    parameters: tuple[Parameter, ...]
    joint: tuple = ()
    known: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    prior: tuple[float, ...] = ()
    prior_weight: float = PRIOR_WEIGHT
    scatter: float = SCATTER
    limit: float = math.inf
    known_source: str = "stated in measured-vm.toml"

    @cached_property
    def events(self) -> list[str]:
        """The events that get a fitted cost."""
        return [event for event in (*EVENT_NAMES, cost.TRACER) if any(event in shared for shared in self.parameters)]

    @cached_property
    def _system(self):
        counts = np.array([[_count(row, event) for event in self.events] for row in self.rows])
        shares = np.array([[shared.get(event, 0.0) for shared in self.parameters] for event in self.events])
        given = [sum(_count(row, event) * value for event, value in self.known.items()) for row in self.rows]
        measured = np.array([row.measured for row in self.rows])
        # Errors are relative to the whole figure, the known part included.
        scale = measured / (measured - given)
        return counts, measured - given, shares, scale

    def fit(self, keep=slice(None)) -> Fit:
        """Fit to all rows, or to those that `keep` selects."""
        counts, measured, shares, scale = self._system
        counts, measured, scale = counts[keep], measured[keep], scale[keep]
        weights, prior = np.ones(len(measured)), self.prior or None
        while True:
            fitted = fit_costs(
                counts,
                measured,
                shares,
                weights=weights / scale,
                prior=prior,
                prior_weight=self.prior_weight,
            )
            missed = np.abs(fitted.errors / scale) > self.limit
            if not missed.any() or weights.max() > _MOST_WEIGHT:
                return fitted
            weights[missed] *= 1.2

    def left_out(self) -> np.ndarray:
        """Return the relative error of each row as a fit to all others predicts it."""
        counts, measured, _, scale = self._system
        errors = []
        for row in range(len(self.rows)):
            others = np.arange(len(self.rows)) != row
            errors.append((counts[row] @ self.fit(others).costs / measured[row] - 1) / scale[row])
        return np.array(errors)

    def leverage(self) -> np.ndarray:
        """Return how far each row decides its own prediction: at 1 no other row does, so the row tests nothing."""
        counts, measured, shares, scale = self._system
        used = self.fit().parameters > 0
        relative = (counts @ shares / measured[:, None] / scale[:, None])[:, used]
        expected = np.array(self.prior or [0.0] * len(used))[used]
        expects = self.prior_weight * np.diag(1 / np.where(expected > 0, expected, np.inf))
        orthogonal, _ = np.linalg.qr(np.concatenate([relative, expects]))
        return np.sum(orthogonal**2, axis=1)[: len(measured)]

    def vector(self) -> CostVector:
        """Return the fitted vector."""
        fitted, scale = self.fit(), self._system[3]
        scatter = np.maximum(self.scatter, [1 - row.scatter[0] for row in self.rows])
        members = fitted.as_good(scatter * scale)
        low, high = (bound([fitted.costs, *members], axis=0) for bound in (np.min, np.max))
        figures = zip(self.events, *np.round([fitted.costs, low, high], 4), strict=True)
        costs = [Cost(event, *map(float, three), "fitted", self._source(event)) for event, *three in figures]
        for event, value in self.known.items():
            costs.append(Cost(event, value, value, value, "measured", self.known_source))
            members = np.column_stack([members, np.full(len(members), value)])
        return CostVector(
            name=self.name,
            unit=self.unit,
            arch=self.arch,
            build=self.build,
            note=self.note,
            residual=round(float(np.abs(fitted.errors / scale).max()), 4),
            costs=tuple(costs),
            joint=self.joint,
            members=tuple(map(tuple, np.round(members, 4).tolist())),
        )

    def _source(self, event: str) -> str:
        shared = next(shared for shared in self.parameters if event in shared)
        if len(shared) == 1:
            return self.source
        others = ", ".join(other for other in shared if other != event)
        return f"{self.source}; one parameter in fixed proportion with {others}"


def _count(row, event: str) -> float:
    return row.traced if event == cost.TRACER else float(row.counts[EVENT_NAMES.index(event)])


def _of(rows, vector: str) -> tuple[_rows.Row, ...]:
    return tuple(row for row in rows if row.vector == vector)


CALLS = ("unmap_calls", "referenced_calls", "walk_yields", "walk_slots", "batch_scans", "folio_mapcount_atomics")
YOUNG = ("young_tests", "young_clears")


def ab_problem(rows) -> Problem:
    """Linux 7.2.13 with and without the lines of commit a67fe41e214f: enough rows for a cost per event."""
    return Problem(
        "ab-7.2.13",
        unit="instructions",
        arch="x86-64",
        build="Linux 7.2.13 x86-64, small config, builds A, B and C",
        source="measured-vm.toml [ab], [ab_*]",
        rows=_of(rows, "ab-7.2.13"),
        parameters=(*_own(*CALLS, *YOUNG), STEP, PAGE, *_own(*LOOP)),
        joint=JOINT,
        known={cost.TRACER: TRACER["x86-64"]},
    )


def arm64_problem(rows, ab: CostVector) -> Problem:
    """Debian's 7.2 on arm64: own costs of calls, holes and contpte; those of the loop are ab's, scaled in parts."""
    alone = (*CALLS, "young_tests", "batch_pte_reads")
    contpte = ("raw_pte_loads", "contpte_unfolds", "tlbi_range_ops")
    return Problem(
        "arm64-7.2",
        unit="instructions",
        arch="arm64-4k",
        build="Debian 7.2 arm64",
        source="measured-vm.toml [debian_arm64]",
        rows=_of(rows, "arm64-7.2"),
        parameters=(
            *_own(*alone, *contpte),
            _like(ab, *STEP),
            _like(ab, *PAGE),
            *(_like(ab, *part) for part in (SCAN, FREE, PER_PAGE)),
        ),
        prior=(*(ab[event] for event in alone), *(0.0 for _ in contpte), 1.0, 1.0, 1.0, 1.0, 1.0),
        joint=JOINT,
        known={cost.TRACER: TRACER["arm64-4k"]},
        note=f"Where the rows do not decide, {ab.name} does; the reclaim loop is its, scaled in three parts.",
    )


def scaled_problem(name: str, rows, of: CostVector, build: str, groups) -> Problem:
    """A build with fewer rows than costs: another vector's costs, scaled in groups."""
    return Problem(
        name,
        unit="instructions",
        arch=of.arch,
        build=build,
        source=f"measured-vm.toml [debian_{name.split('-')[0]}], costs of {of.name} scaled",
        rows=_of(rows, name),
        parameters=tuple(_like(of, *group) for group in groups),
        prior=(1.0,) * len(groups),
        joint=JOINT,
        known={cost.TRACER: TRACER[of.arch]},
        note=f"Costs of {of.name}, scaled in {len(groups)} groups.",
    )


STEPS = ("walk_yields", "walk_slots", "batch_scans", "folio_mapcount_atomics", *STEP)
X86_GROUPS = (("unmap_calls",), ("referenced_calls",), STEPS, tuple(PAGE), YOUNG, SCAN, FREE, PER_PAGE)
ARM64_GROUPS = (
    ("unmap_calls",),
    ("referenced_calls",),
    (*STEPS, "contpte_unfolds", "tlbi_range_ops"),
    (*PAGE, "batch_pte_reads"),
    ("young_tests", "raw_pte_loads"),
    SCAN,
    FREE,
    PER_PAGE,
)


def instruction_problems() -> list[Problem]:
    """Return the kernel builds; the later ones scale the fits of the first two."""
    rows = _rows.vm_rows()
    ab = ab_problem(rows)
    arm64 = arm64_problem(rows, ab.vector())
    scaled = [
        scaled_problem(f"x86-{version}", rows, ab.vector(), f"Debian {version} x86-64", X86_GROUPS)
        for version in ("6.12", "7.2")
    ]
    return [ab, arm64, *scaled, scaled_problem("arm64-6.12", rows, arm64.vector(), "Debian 6.12 arm64", ARM64_GROUPS)]


# Nanoseconds of the host per instruction of build B for the same operation: 0.30 to 0.40, as measured-vm.toml says.
NS_PER_INSTRUCTION = 0.35


def x86_problem(ab: CostVector) -> Problem:
    """Linux 6.18 in nanoseconds. What a reference check takes per PTE is known from its profile only."""
    expected = {
        event: NS_PER_INSTRUCTION * ab[event]
        for event in (*CALLS, "folios_freed", "pages_freed", "page_cache_slots")
        if event not in ("walk_yields", "walk_slots")
    }
    expected["batches"] = NS_PER_INSTRUCTION * sum(ab[event] for event in STEP)
    # Both move a folio from one list to another.
    expected["folios_kept"] = NS_PER_INSTRUCTION * ab["folios_deactivated"]
    # [attribution] per_32_page_iteration_v1
    expected["reclaim_rounds"] = 2700.0
    return Problem(
        "x86-64",
        unit="ns",
        arch="x86-64",
        build="Linux 6.18.44, AMD Zen 4 guest, 2 CPUs",
        source="measured-x86-6.18.toml",
        rows=tuple(_rows.ns_rows()),
        parameters=(*_own(*expected, "isolation_calls"), {"page_mapcount_atomics": 0.5, "ptes_cleared": 0.5}),
        prior=(*expected.values(), 0.0, 0.0),
        # The minima of five repeats scatter more than counted instructions.
        prior_weight=0.05,
        joint=(("page_mapcount_atomics", "ptes_cleared", "batch_pte_reads"), ("batches", "walk_yields")),
        known={"walk_yields": 13.5, "young_tests": 12.5},
        known_source="measured-x86-6.18.toml [attribution], +-20%",
        note="A round is one iteration of a write to memory.limit_in_bytes, which asks for 32 pages.",
        scatter=0.05,
        limit=0.149,
    )


# Assumed folio order of the published experiment; its authors do not state it.
PUBLISHED_ORDER = 4


def arm64_ns_problem(arm64: CostVector) -> Problem:
    """The published experiment in nanoseconds: three times and the shape of an instruction vector."""
    shape = {cost.event: cost.value for cost in arm64.costs if cost.value and cost.event != "traced_calls"}
    return Problem(
        "arm64-4k",
        unit="ns",
        arch="arm64-4k",
        build="arm64 server with 32 cores of commits 07f440c23a19 and a67fe41e214f",
        source=f"published.toml, folio order {PUBLISHED_ORDER} assumed; shape of {arm64.name}",
        rows=tuple(_rows.published_rows(PUBLISHED_ORDER)),
        parameters=(shape, {"tlbi_ops": 1.0, "dsb_ops": 1.0}),
        joint=(*arm64.joint, ("tlbi_ops", "dsb_ops", "dsb_ishst_ops")),
        note="Two parameters for three published times: nanoseconds per instruction, and a TLBI or DSB.",
        scatter=0.1,
        limit=0.09,
    )


def assumed(name: str, like: CostVector, factor: float) -> CostVector:
    """Return the costs of an architecture that nobody measured: another one's, within a factor."""
    source = f"assumed: as {like.name}, within a factor of {factor:g}; nobody measured this architecture"
    return CostVector(
        name,
        unit=like.unit,
        arch=name,
        costs=tuple(
            Cost(c.event, c.value, round(c.low / factor, 4), round(c.high * factor, 4), "assumed", source)
            for c in like.costs
        ),
        joint=like.joint,
        note=source,
    )


ASSUMED = {"arm64-16k": ("arm64-4k", 2.0), "arm64-64k": ("arm64-4k", 2.0)} | {
    name: ("x86-64", 3.0) for name in ("riscv64", "riscv64-svnapot", "s390x", "ppc64-64k")
}


def problems() -> list[Problem]:
    """Return every problem: the kernel builds in instructions, then the machines in nanoseconds."""
    builds = instruction_problems()
    vectors = {problem.name: problem.vector() for problem in builds[:2]}
    return [*builds, x86_problem(vectors["ab-7.2.13"]), arm64_ns_problem(vectors["arm64-7.2"])]


def main() -> None:
    """Fit every vector and write its file."""
    vectors = {problem.name: problem.vector() for problem in problems()}
    vectors |= {name: assumed(name, vectors[like], factor) for name, (like, factor) in ASSUMED.items()}
    for name, vector in vectors.items():
        (COSTS / f"{name}.toml").write_text(vector.to_toml(), encoding="utf-8")
        print(f"{name}: {len(vector.costs)} costs, largest error {100 * vector.residual:.1f}%")


if __name__ == "__main__":
    main()
