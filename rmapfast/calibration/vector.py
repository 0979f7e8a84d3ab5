"""The cost vector of a machine, fitted to what was measured on it."""

from __future__ import annotations

import platform
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rmapfast.arch import Arch
from rmapfast.calibration.fitting import Rows
from rmapfast.calibration.ipi import Ipi
from rmapfast.calibration.measure import Measurement
from rmapfast.cost import Cost, CostVector
from rmapfast.events import EVENT_NAMES

# Relative error of a case: the minima of a few repeats.
_SCATTER = 0.05
_DRAWS = 100
# Standard deviations from the middle to the bounds of the middle 90%.
_SIGMAS = 1.645

# No case separates these two, so they share one parameter.
_TIED = ("page_mapcount_atomics", "ptes_cleared")

# The cost of a reference check per PTE is known from a profile only and is not measured here.
_KEPT = ("walk_yields", "young_tests")

# The packaged vectors have no cost of a local flush, as their machines deferred flushes. measured-x86-6.18.toml
# [attribution] has 80 to 110 ns for a local flush of one page, most of it the INVLPG.
_LOCAL_FLUSH_NS = {"tlb_immediate": 25.0, "tlbi_ops": 70.0}


def fit_vector(rows: Sequence[Measurement], base: Arch, ipi: Ipi | None = None) -> CostVector:
    """Fit the costs of the events that the cases cause.

    Parameters
    ----------
    rows : sequence of Measurement
    base : Arch
        Its cost vector is the prior of the fitted costs; all other costs are taken from it.
    ipi : Ipi, optional
        What a signal to another CPU takes, in place of the cost that `base` has.

    Returns
    -------
    CostVector
        In ns.

    Raises
    ------
    ValueError
        If `base` has no cost vector.
    ImportError
        If SciPy is not installed; the message has the pip command.
    """
    old = base.cost_vector
    if old is None:
        raise ValueError(f"base: expected an architecture with a cost vector, {base.name} has none")
    counts, measured = np.array([row.counts for row in rows]), np.array([row.ns for row in rows])
    caused = {event for event, total in zip(EVENT_NAMES, counts.sum(axis=0), strict=True) if total}
    expected = {one.event: one.value for one in old.costs if one.event in caused and one.event not in _KEPT}
    expected |= {event: ns for event, ns in _LOCAL_FLUSH_NS.items() if event in caused and not old[event]}
    kept = [one for one in old.costs if one.event not in expected]
    if ipi is not None and "ipis" not in expected:
        source = f"calibrated on {platform.node()}, Linux {platform.release()}: two CPUs"
        measured_ipi = Cost("ipis", ipi.middle, ipi.low, ipi.high, "measured", source)
        kept = [*(one for one in kept if one.event != "ipis"), measured_ipi]
    tied = [event for event in expected if event in _TIED]
    parameters = [[event] for event in expected if event not in _TIED] + ([tied] if tied else [])
    rng = np.random.default_rng(0)
    known = np.array([one.value for one in kept])
    low, high = (np.array([getattr(one, name) for one in kept]) for name in ("low", "high"))
    normal = rng.normal(size=(_DRAWS, len(kept))) / _SIGMAS
    drawn = np.maximum(known + np.where(normal < 0, known - low, high - known) * normal, 0.0)
    explained = counts @ np.array([_unit(one.event) for one in kept]).reshape(-1, len(EVENT_NAMES)).T
    system = Rows(
        counts[:, [EVENT_NAMES.index(event) for event in expected]],
        measured,
        [[float(event in shared) for shared in parameters] for event in expected],
        given=explained @ known,
        prior=[float(np.mean([expected[event] for event in shared])) for shared in parameters],
    )
    fitted = system.fit()
    members = system.draw([str(row.case) for row in rows], scatter=_SCATTER, given=drawn @ explained.T, draws=_DRAWS)
    bounds = np.quantile(members, (0.05, 0.95), axis=0)
    bounds = np.array([np.minimum(bounds[0], fitted.costs), np.maximum(bounds[1], fitted.costs)])
    source = f"calibrated on {platform.node()}, Linux {platform.release()}"
    costs = [
        Cost(event, float(value), float(below), float(above), "fitted", source)
        for event, value, below, above in zip(expected, *np.round([fitted.costs, *bounds], 4), strict=True)
    ]
    return CostVector(
        name=f"{platform.node() or 'this-machine'}-{platform.release()}",
        unit="ns",
        arch=base.name,
        build=f"Linux {platform.release()} on {platform.machine()}",
        costs=(*costs, *kept),
        note=f"Fitted to reclaims of this machine; what they do not cause is as in {old.name}.",
        residual=old.residual,
        joint=old.joint,
        members=tuple(
            tuple(float(f"{value:.4g}") for value in row) for row in np.column_stack([members, drawn]).tolist()
        ),
    )


def _unit(event: str) -> npt.NDArray[np.float64]:
    """Return counts in which an event occurs once."""
    counts = np.zeros(len(EVENT_NAMES))
    counts[EVENT_NAMES.index(event)] = 1.0
    return counts
