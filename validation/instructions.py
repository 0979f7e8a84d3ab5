"""Kernel builds in instructions: every vector starts from what its relatives have in common.

Three levels. The shape of all builds: costs relative to each other, as each build takes more or less as a whole. The
shape of an architecture, which deviates from it. A build of the architecture, which deviates from that. So a cost that
the rows of a build do not decide is that of its relatives, times how much the build takes as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rmapfast import cost
from rmapfast.calibration import Rows
from rmapfast.cost import Cost
from validation import rows as _rows
from validation.lists import mglru_rows
from validation.problem import Parameter, Problem, own, weights
from validation.rows import Row

# Instructions that a call costs more under the tracer. For x86-64 and arm64 with 4K pages the data say how many; of the
# others that it is 680 to 1000.
TRACER = {"x86": 680.0, "arm64": 750.0}
TRACER_OF_OTHERS = 800.0

# Events that always come together in an unmap step, or for a page. The proportions of the step come from what
# measured-vm.toml says of build B's 529 per page: rmap removal about 250 (of which the per-page and per-folio mapcount
# atomics have costs of their own), TLB-pending bookkeeping about 38, rest about 150. Of a batched page's 33, 8.5 are
# its rmap removal.
STEP = {"rmap_remove_calls": 158.0, "tlb_deferred": 38.0, "batches": 150.0}
PAGE = {"page_mapcount_atomics": 8.5, "ptes_cleared": 24.5}
# Sums that no row splits: reading and clearing an entry of a batch, and the rest of a step.
JOINT = (("batch_pte_reads", "ptes_cleared"), ("batches", "ref_puts", "rss_updates"))

CALLS = ("unmap_calls", "referenced_calls", "walk_yields", "walk_slots", "batch_scans", "folio_mapcount_atomics")
# A young test takes what it takes, whoever asks.
YOUNG_TEST = {"young_tests": 1.0, "aging_young_tests": 1.0}
# The reclaim loop around the unmap.
LOOP = (
    "shrink_calls",
    "active_passes",
    "priority_passes",
    "folios_deactivated",
    "folios_activated",
    "folios_freed",
    "page_cache_folios",
    "page_cache_slots",
    "pages_freed",
    "pages_scanned",
)
# MGLRU: the look-around beside the young tests, its window, and the page-table walk of ageing.
MGLRU = (
    *("look_arounds", "window_pte_reads", "window_young_ptes", "aging_pte_reads", "aging_updates"),
    *("folios_from_generations", "folios_sorted"),
)
# How far their costs vary from one design to the next: ages, windows and walks depend on how a run came about.
MGLRU_SPREAD = 0.5
CONTPTE = ("batch_pte_reads", "raw_pte_loads", "contpte_unfolds", "tlbi_range_ops")

# Where the first level starts, in instructions: round figures of the smallest and best measured build, x86-64 with a
# small config. What they decide in the end is little, as rows of several builds decide each.
START = {
    **dict(zip(CALLS, (430.0, 470.0, 76.0, 13.0, 47.0, 41.0), strict=True)),
    "young_tests": 32.0,
    "young_clears": 10.0,
    **dict(zip(LOOP, (170.0, 1600.0, 5000.0, 1050.0, 500.0, 1000.0, 550.0, 50.0, 30.0, 20.0), strict=True)),
    **dict(zip(MGLRU, (60.0, 50.0, 25.0, 60.0, 100.0, 350.0, 500.0), strict=True)),
    **dict(zip(CONTPTE, (25.0, 8.0, 500.0, 100.0), strict=True)),
    "pmds_cleared": 500.0,
}
# What relatives have in common to a lesser degree: clearing a young bit, and what few rows have.
VAGUE = {"young_clears": 0.3, "folios_activated": 0.3, "pmds_cleared": 0.5}
# Weight of a deviation, by level.
SHAPE_WEIGHT, FAMILY_WEIGHT, BUILD_WEIGHT = 0.02, 0.05, 0.05

BUILDS = {
    "ab-7.2.13": ("x86-64", "Linux 7.2.13 x86-64, small config, builds A, B and C", "measured-vm.toml [ab], [ab_*]"),
    "x86-7.2": ("x86-64", "Debian 7.2 x86-64", "measured-vm.toml [debian_x86]"),
    "x86-6.12": ("x86-64", "Debian 6.12 x86-64", "measured-vm.toml [debian_x86]"),
    "arm64-7.2": ("arm64-4k", "Debian 7.2 arm64", "measured-vm.toml [debian_arm64]"),
    "arm64-6.12": ("arm64-4k", "Debian 6.12 arm64", "measured-vm.toml [debian_arm64]"),
    **{
        f"{name}-{edition}": (name, f"unmodified {release} {name}", f"measured-arch.toml [{name.replace('-', '_')}.*]")
        for name in ("arm64-16k", "ppc64-64k", "s390x", "riscv64")
        for edition, release in (("7.2", "7.2.13 and 7.3-rc7"), ("6.12", "6.12"))
    },
}


@dataclass(frozen=True)
class Builds:
    """All rows in instructions, by vector.

    Parameters
    ----------
    rows : dict of str to tuple of Row
    """

    rows: Mapping[str, tuple[Row, ...]]

    @classmethod
    def measured(cls) -> Builds:
        """All rows that were measured."""
        found = [*_rows.vm_rows(), *_rows.arch_rows(), *mglru_rows()]
        return cls({name: tuple(row for row in found if row.vector == name) for name in BUILDS})

    def without(self, name: str, design: str) -> Builds:
        """All but one vector's rows of a design."""
        kept = tuple(row for row in self.rows[name] if row.design != design)
        return Builds({**self.rows, name: kept})

    def problem(self, name: str) -> Problem:
        """The problem of one vector, with what its relatives have in common as its prior."""
        arch, build, source = BUILDS[name]
        family = _family(name)
        systems = {other: self._system(other) for other in BUILDS}
        start = _prior()
        shape = _common(list(systems.values()), start, SHAPE_WEIGHT)
        relatives = [system for other, system in systems.items() if _family(other) == family]
        of_family = _common(relatives, shape, FAMILY_WEIGHT)
        prior = of_family * _speed(systems[name], of_family)
        parameters, known = _parameters(), _tracer(family) if family in TRACER else ()
        keep = [number for number, shared in enumerate(parameters) if _has(family, shared)]
        priors = [float(prior[number]) for number in keep]
        chosen = [parameters[number] for number in keep]
        weight = weights(chosen, VAGUE, BUILD_WEIGHT)
        if not known:
            chosen.append({cost.TRACER: 1.0})
            priors.append(TRACER_OF_OTHERS)
            weight.append(BUILD_WEIGHT)
        return Problem(
            name,
            unit="instructions",
            arch=arch,
            build=build,
            source=source,
            rows=self.rows[name],
            parameters=tuple(chosen),
            prior=tuple(priors),
            prior_weight=tuple(weight),
            joint=JOINT,
            known=known,
            spread=dict.fromkeys((*MGLRU, *(event for event in YOUNG_TEST if event.startswith("aging"))), MGLRU_SPREAD),
        )

    def _system(self, name: str) -> Rows:
        """The rows of a vector over the parameters of all."""
        family, parameters = _family(name), _parameters()
        problem = Problem(
            name,
            "instructions",
            "",
            "",
            "",
            self.rows[name],
            tuple(shared if _has(family, shared) else {} for shared in parameters),
            prior=(0.0,) * len(parameters),
            prior_weight=(0.0,) * len(parameters),
            known=_tracer(family),
        )
        return problem.system()


def _tracer(family: str) -> tuple[Cost, ...]:
    figure = TRACER.get(family, TRACER_OF_OTHERS)
    return (Cost(cost.TRACER, figure, figure, figure, "measured", "stated in measured-vm.toml"),)


def _family(name: str) -> str:
    return "x86" if name.startswith(("ab", "x86")) else name.split("-")[0]


def _parameters() -> list[Parameter]:
    """The parameters of all builds."""
    return [*own(*CALLS), YOUNG_TEST, *own("young_clears"), STEP, PAGE, *own(*LOOP, *MGLRU, "pmds_cleared", *CONTPTE)]


def _has(family: str, shared: Parameter) -> bool:
    """Whether a family has a cost of its own for a parameter."""
    return family == "arm64" or next(iter(shared)) not in CONTPTE


def _prior() -> np.ndarray:
    return np.array([START.get(next(iter(shared)), 1.0) for shared in _parameters()])


def _speed(system: Rows, costs: np.ndarray) -> float:
    """How much a build takes as a whole, relative to costs of another."""
    predicted, weights = system.relative @ costs, system.weights**2
    return float((weights * predicted) @ system.wanted / ((weights * predicted) @ predicted)) if len(predicted) else 1.0


def _common(systems: Sequence[Rows], prior: np.ndarray, weight: float) -> np.ndarray:
    """The costs that several builds have in common, but for how much each takes as a whole."""
    chosen = _parameters()
    found = prior
    # Costs and speeds are found in turns; they settle within a few.
    for _ in range(5):
        parts = [(_speed(system, found) * system.relative, system.wanted, system.weights) for system in systems]
        relative, wanted, of_rows = (np.concatenate(part) for part in zip(*parts, strict=True))
        expects = {"prior": prior, "prior_weight": weights(chosen, VAGUE, weight)}
        rows = Rows(relative, np.ones(len(wanted)), given=1 - wanted, weights=of_rows, **expects)
        found = rows.fit().parameters
    return found
