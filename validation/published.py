"""The published experiment on arm64: three times, of which neither the folio order nor what a flush costs is known.

All costs are those of an arm64 build in instructions, at so many nanoseconds each, and something that takes longer than
its instructions: the broadcast TLB invalidations, the unmap steps, the unfolds of contpte blocks, or the gathers of
contpte reads. No time says which. So each is tried, with each folio order, and weighted by how well the three times are
met; the draws of the vector are drawn from all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from rmapfast.calibration import Rows
from rmapfast.cost import Cost, CostVector
from rmapfast.events import EVENT_NAMES
from validation.problem import SEED, drawn, rounded, vector_of_draws
from validation.rows import Row, published_rows

# How likely each folio order was before looking at the times. The default readahead window of 128K makes folios up to
# order 5; 64K is the size that arm64 folds and that the other experiments of the thread use.
ORDERS: Mapping[int, float] = {2: 0.05, 3: 0.10, 4: 0.30, 5: 0.40, 6: 0.06, 7: 0.03, 8: 0.02, 9: 0.04}

# What may take longer than its instructions.
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "a TLBI or DSB": ("tlbi_ops", "dsb_ops"),
    "an unmap step": ("batches",),
    "a contpte unfold": ("contpte_unfolds",),
    "a load of a contpte gather": ("raw_pte_loads",),
}
# Relative error that such a model has: as the fit of x86-64, which has rows enough to tell.
MODEL_ERROR = 0.10
# Relative error of one run of `time`.
_SCATTER = 0.03

# Prices that no time has: of another arm64 machine, an Apple M3.
GIVEN = (
    Cost(
        "pages_written",
        180.0,
        80.0,
        400.0,
        "published",
        "published for 64K folios through MADV_PAGEOUT on an Apple M3: 571 ns per page and 266 with batches, less what "
        "is predicted for the rest; with swap slots, swap cache and zram",
    ),
)
# Events that a swap-out has together; the price of the write-out holds them all.
SWAP_OUT = (
    "pages_written",
    "swap_allocs",
    "swap_dups",
    "folios_written",
    "folios_swapped_whole",
)

# What no time separates: everything that an unmap step does.
JOINT = (
    (
        *("batch_pte_reads", "ptes_cleared", "batches", "ref_puts", "rss_updates", "contpte_unfolds", "raw_pte_loads"),
        *("tlbi_ops", "dsb_ops", "dsb_ishst_ops", "tlbi_range_ops", "rmap_remove_calls", "walk_yields"),
    ),
    SWAP_OUT,
)


NOTE = (
    "Three published times decide two figures: nanoseconds per instruction, and what takes longer than its "
    "instructions. The folio order and what that is are drawn too."
)


@dataclass(frozen=True, eq=False)
class Alternative:
    """One folio order, and one thing that takes longer than its instructions.

    Parameters
    ----------
    order : int
    extra : str
        Of :data:`EXTRAS`.
    weight : float
        Prior, times how well the three times are met; all weights add up to 1.
    ns_per_instruction, ns : float
        What the fit gives.
    errors : ndarray of float64, shape (3,)
        Relative error of each time.
    """

    order: int
    extra: str
    weight: float
    ns_per_instruction: float
    ns: float
    errors: np.ndarray


def _system(rows: list[Row], shape: np.ndarray, extra: str, measured: np.ndarray) -> Rows:
    counts = np.array(
        [[row.counts @ shape, sum(row.counts[EVENT_NAMES.index(e)] for e in EXTRAS[extra])] for row in rows]
    )
    return Rows(counts, measured)


def alternatives(shape: CostVector) -> list[Alternative]:
    """Return every alternative with its fit and its weight."""
    found = []
    for order, prior in ORDERS.items():
        rows = published_rows(order)
        measured = np.array([row.measured for row in rows])
        for extra in EXTRAS:
            fitted = _system(rows, shape.values, extra, measured).fit()
            likelihood = float(np.exp(-0.5 * np.sum((fitted.errors / MODEL_ERROR) ** 2)))
            found.append((order, extra, prior * likelihood / len(EXTRAS), *fitted.costs, fitted.errors))
    whole = sum(one[2] for one in found)
    return [Alternative(order, extra, weight / whole, *rest) for order, extra, weight, *rest in found]


def _costs(shape: np.ndarray, extra: str, speed: float, ns: float) -> np.ndarray:
    costs = speed * shape
    costs[[EVENT_NAMES.index(event) for event in EXTRAS[extra]]] += ns
    return costs


def published_vector(
    name: str, shape: CostVector, residual: float, on: CostVector | None = None, draws: int = 100
) -> CostVector:
    """Return the vector of the machine of the published experiment.

    Parameters
    ----------
    name : str
        Of the vector and its architecture.
    shape : CostVector
        Costs in instructions of a build for the page size of the experiment.
    residual : float
        As in :class:`rmapfast.cost.CostVector`.
    on : CostVector, optional
        Costs in instructions of the build that is priced, if that is another one.
    draws : int
    """
    tried, priced = alternatives(shape), on or shape
    rows = {order: published_rows(order) for order in ORDERS}
    value = np.sum(
        [one.weight * _costs(priced.values, one.extra, one.ns_per_instruction, one.ns) for one in tried], axis=0
    )
    rng = np.random.default_rng(SEED)
    members = []
    for counted, other in zip(shape.sample(draws, rng), priced.sample(draws, rng), strict=True):
        one = tried[rng.choice(len(tried), p=[each.weight for each in tried])]
        times = np.array([row.measured for row in rows[one.order]]) * np.exp(_SCATTER * rng.normal(size=3))
        fitted = _system(rows[one.order], counted, one.extra, times).fit()
        members.append(_costs(counted if on is None else other, one.extra, *fitted.costs))
    source = f"published.toml, folio order and flush cost unknown; shape of {shape.name}"
    made = vector_of_draws(
        CostVector(
            name,
            unit="ns",
            arch=name,
            costs=(Cost("batches", 0.0, 0.0, 0.0, "published", source),),
            build="arm64 server with 32 cores of commits 07f440c23a19 and a67fe41e214f",
            note=NOTE,
            residual=residual,
            joint=JOINT,
        ),
        value,
        np.array(members),
        "published" if on is None else "assumed",
        source if on is None else f"{source}; costs of {on.name}; nobody timed this page size",
    )
    if on is not None:
        return made
    members = np.column_stack([made.members, drawn(GIVEN, draws, rng)])
    return replace(made, costs=(*made.costs, *GIVEN), members=rounded(members))
