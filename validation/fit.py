"""Fit the cost vectors of rmapfast/costs to the measured rows: ``make fit``.

Each problem says which rows its vector explains, which events have a cost, and which costs share a parameter. Costs
that share a parameter keep a proportion that comes from a stated source. No cost belongs to a single row, and none
depends on the folio order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from rmapfast.cost import Cost, CostVector
from rmapfast.events import EVENT_NAMES
from validation import rows as _rows
from validation.coverage import LeftOut, calibrated, classic_designs, left_out, tests_itself
from validation.instructions import BUILDS, CALLS, STEP, Builds
from validation.problem import SIGMAS, Problem, own, rounded, weights
from validation.published import SWAP_OUT, published_vector

COSTS = Path(__file__).resolve().parents[1] / "rmapfast" / "costs"

# Nanoseconds of the host per instruction of build B for the same operation: 0.30 to 0.40, as measured-vm.toml says.
NS_PER_INSTRUCTION = 0.35
# Relative error of a row in nanoseconds that is no error of the model: the minima of five repeats.
NS_SCATTER = 0.05

_ATTRIBUTION = "measured-x86-6.18.toml [attribution]"
# Prices that no row decides, with the bounds of the middle 90%.
X86_GIVEN = (
    Cost("walk_yields", 13.5, 10.8, 16.2, "measured", f"{_ATTRIBUTION}, +-20%"),
    Cost("young_tests", 12.5, 10.0, 15.0, "measured", f"{_ATTRIBUTION}, +-20%"),
    Cost(
        "tlbi_ops",
        70.0,
        50.0,
        100.0,
        "measured",
        f"{_ATTRIBUTION}: 80 to 110 for a local flush of one page, most of it the INVLPG",
    ),
    Cost("tlb_immediate", 25.0, 10.0, 40.0, "measured", f"{_ATTRIBUTION}: 18 for a flush where the mm is not loaded"),
    Cost(
        "ipis",
        800.0,
        200.0,
        5000.0,
        "measured",
        f"{_ATTRIBUTION}: 500 to 25000 on that virtual machine; 1100 to 20000 on another (Linux 6.18 on KVM); the CPUs "
        "of one flush are signalled together, and the flush waits for the slowest",
    ),
    Cost("dsb_ops", 300.0, 100.0, 1000.0, "assumed", "a TLBSYNC waits for all CPUs; nobody published how long"),
    Cost(
        "pages_written",
        650.0,
        350.0,
        1000.0,
        "published",
        "published for 64K folios through MADV_PAGEOUT on bare-metal x86: 839 ns per page, less what is predicted for "
        "the rest; with swap slots, swap cache and zram; compressing pages that compress badly takes longer",
    ),
    Cost(
        "madvise_entries",
        60.0,
        20.0,
        120.0,
        "measured",
        "measured-vm.toml [host_618_pageout_ns]: what is left of these rows, which are of another machine",
    ),
)


# Prices that are those in instructions, within a factor of 2.
X86_ASSUMED = (
    "walk_slots",
    "young_clears",
    "active_passes",
    "priority_passes",
    "folios_deactivated",
    "folios_activated",
    "pmds_cleared",
    "look_arounds",
    "window_pte_reads",
    "window_young_ptes",
    "aging_pte_reads",
    "aging_young_tests",
    "folios_from_generations",
    "folios_sorted",
)


def _assumed(event: str, value: float) -> Cost:
    source = f"{NS_PER_INSTRUCTION:g} ns per instruction of ab-7.2.13, within a factor of 2"
    return Cost(event, *(round(figure, 4) for figure in (value, value / 2, value * 2)), "assumed", source)


def x86_problem(ab: Mapping[str, float]) -> Problem:
    """Linux 6.18 in nanoseconds. What a reference check takes per PTE is known from its profile only."""
    expected = {
        event: NS_PER_INSTRUCTION * ab[event]
        for event in (*CALLS, "folios_freed", "pages_freed", "page_cache_folios", "page_cache_slots")
        if event not in ("walk_yields", "walk_slots")
    }
    expected["batches"] = NS_PER_INSTRUCTION * sum(ab[event] for event in STEP)
    # Both move a folio from one list to another.
    expected["folios_kept"] = NS_PER_INSTRUCTION * ab["folios_deactivated"]
    # [attribution] per_32_page_iteration_v1
    expected["reclaim_rounds"] = 2700.0
    parameters = (*own(*expected, "isolation_calls"), {"page_mapcount_atomics": 0.5, "ptes_cleared": 0.5})
    return Problem(
        "x86-64",
        unit="ns",
        arch="x86-64",
        build="Linux 6.18.44, AMD Zen 4 guest, 2 CPUs",
        source="measured-x86-6.18.toml",
        rows=tuple(_rows.ns_rows()),
        parameters=parameters,
        prior=(*expected.values(), 0.0, 0.0),
        prior_weight=tuple(weights(parameters, {}, 0.05)),
        joint=(
            ("page_mapcount_atomics", "ptes_cleared", "batch_pte_reads"),
            ("batches", "walk_yields", "walk_slots"),
            SWAP_OUT,
        ),
        known=(*X86_GIVEN, *(_assumed(event, NS_PER_INSTRUCTION * ab[event]) for event in X86_ASSUMED)),
        note="A round is one iteration of a write to memory.limit_in_bytes, which asks for 32 pages.",
        scatter=NS_SCATTER,
    )


# Vectors of machines that nobody timed: costs in instructions of the same architecture, which were counted, at as many
# nanoseconds each as on x86-64, within a factor. Each draw has one speed for all costs, so what a policy gains is as
# sure as the instructions are.
UNTIMED = {name: f"{name}-7.2" for name in ("ppc64-64k", "s390x", "riscv64")} | {"riscv64-svnapot": "riscv64-7.2"}
SPEED_FACTOR = 3.0
# Of arm64 with 64K pages nobody counted anything: each cost is that of 16K pages, within this factor.
ARM64_64K_FACTOR = 2.0


def untimed(name: str, counted: CostVector, draws: int = 100) -> CostVector:
    """Return the costs of a machine that nobody timed, from those in instructions."""
    rng = np.random.default_rng(0)
    speed = NS_PER_INSTRUCTION * np.exp(np.log(SPEED_FACTOR) / SIGMAS * rng.normal(size=(draws, 1)))
    members = np.array(counted.members)[:draws] * speed
    note = (
        f"Instructions of {counted.name}, which were counted, at {NS_PER_INSTRUCTION:g} ns each within a factor of "
        f"{SPEED_FACTOR:g}; nobody timed this architecture."
    )
    return _scaled(name, counted, NS_PER_INSTRUCTION, members, note)


def arm64_64k(like: CostVector) -> CostVector:
    """Return the costs of arm64 with 64K pages, which nobody measured."""
    rng = np.random.default_rng(0)
    members = np.array(like.members)
    members = members * np.exp(np.log(ARM64_64K_FACTOR) / SIGMAS * rng.normal(size=members.shape))
    note = f"As {like.name}, each cost within a factor of {ARM64_64K_FACTOR:g}; nobody measured this page size."
    return _scaled("arm64-64k", like, 1.0, members, note)


def _scaled(name: str, like: CostVector, factor: float, members: np.ndarray, note: str) -> CostVector:
    keep = [at for at, one in enumerate(like.costs) if one.event in EVENT_NAMES]
    low, high = np.quantile(members, (0.05, 0.95), axis=0)
    value = np.array([one.value for one in like.costs]) * factor
    bounds = (value, np.minimum(low, value), np.maximum(high, value))
    costs = (
        Cost(like.costs[at].event, *(round(float(bound[at]), 4) for bound in bounds), "assumed", f"assumed: {note}")
        for at in keep
    )
    return replace(
        like,
        name=name,
        unit="ns",
        arch=name,
        build="",
        costs=tuple(costs),
        members=rounded(members[:, keep]),
        note=note,
    )


# The build with the most figures: no other vector is surer than this one.
BEST_TESTED = "ab-7.2.13"


@dataclass(frozen=True)
class Fits:
    """All fits, and what each says of rows that it was not given.

    Parameters
    ----------
    problems : dict of str to Problem
    left_out : dict of str to list of LeftOut
        Each design predicted by a fit without it.
    """

    problems: Mapping[str, Problem]
    left_out: Mapping[str, list[LeftOut]]

    @classmethod
    def measured(cls) -> Fits:
        """Fit all problems, and leave out each design of each in turn."""
        builds = Builds.measured()
        problems = {name: builds.problem(name) for name in BUILDS}
        folds: dict[str, Callable[[str], Problem]] = {name: partial(_fold, builds, name) for name in problems}
        x86 = x86_problem(problems["ab-7.2.13"].costs())
        problems["x86-64"], folds["x86-64"] = x86, x86.without
        return cls(problems, {name: left_out(problem, folds[name]) for name, problem in problems.items()})

    @cached_property
    def residuals(self) -> dict[str, float]:
        """The residual of each vector: its own where it has designs enough to test itself.

        The others have what all of them say together. None is below that of the build with the most figures.
        """
        return {name: max(calibrated(self.peers(name)), self.floor(name)) for name in self.problems}

    def floor(self, name: str) -> float:
        """Return what the residual of a vector is not below; the build that sets it has none."""
        return 0.0 if name == BEST_TESTED else calibrated(self.peers(BEST_TESTED))

    def peers(self, name: str) -> list[LeftOut]:
        """The rows from which the residual of a vector comes."""
        if self.tested(name):
            return [row for row in self.left_out[name] if row.row.lists == "classic"]
        untested = (rows for other, rows in self.left_out.items() if not self.tested(other))
        return [row for rows in untested for row in rows if row.row.lists == "classic"]

    def tested(self, name: str) -> bool:
        """Whether a vector has rows of enough designs to test itself."""
        return tests_itself(self.problems[name])

    @cached_property
    def vectors_by_name(self) -> dict[str, CostVector]:
        """Every cost vector, made once."""
        return self.vectors()

    def vectors(self) -> dict[str, CostVector]:
        """Return every cost vector."""
        found = {}
        for name, problem in self.problems.items():
            designs = len(classic_designs(problem))
            note = (
                ""
                if self.tested(name)
                else (
                    f"Rows of {designs} designs under the classic LRU are too few to test it; how sure it is, is"
                    " borrowed from its relatives."
                )
            )
            found[name] = problem.vector(self.residuals[name], note=note)
        ns = self.residuals["x86-64"]
        arm64 = found["arm64-7.2"]
        found["arm64-4k"] = published_vector("arm64-4k", arm64, ns)
        found["arm64-16k"] = published_vector("arm64-16k", arm64, ns, found["arm64-16k-7.2"])
        found["arm64-64k"] = arm64_64k(found["arm64-16k"])
        return found | {name: replace(untimed(name, found[counted]), residual=ns) for name, counted in UNTIMED.items()}


def _fold(builds: Builds, name: str, design: str) -> Problem:
    return builds.without(name, design).problem(name)


def main() -> None:
    """Fit every vector and write its file."""
    fits = Fits.measured()
    for name, vector in fits.vectors().items():
        (COSTS / f"{name}.toml").write_text(vector.to_toml(), encoding="utf-8")
        print(f"{name}: {len(vector.costs)} costs, residual {100 * vector.residual:.0f}%")


if __name__ == "__main__":
    main()
