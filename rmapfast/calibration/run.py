"""Costs of the running kernel: reclaims are measured, simulated, and the costs are fitted to all of them."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rmapfast.arch import Arch
from rmapfast.calibration.cases import FILES, LAZYFREE, SEVERAL, UNMAPPED, held_back_cases
from rmapfast.calibration.ipi import measure_ipi
from rmapfast.calibration.machine import running_arch
from rmapfast.calibration.measure import Measurement, measure_cases, set_up
from rmapfast.calibration.userfaultfd import why_no_userfaultfd
from rmapfast.calibration.vector import fit_vector
from rmapfast.cost import CostVector
from rmapfast.provenance import provenance
from rmapfast.support import Seed, checked_seed


@dataclass(frozen=True)
class Calibration:
    """Costs of the running kernel and how well they explain its reclaims.

    Parameters
    ----------
    arch : Arch
        The architecture with the fitted cost vector; :meth:`Arch.to_toml` is what ``-o`` writes.
    costs : CostVector
        The fitted cost vector, in ns.
    fitted, held_back : list of Measurement
        Cases that the fit used, and cases that it did not.
    not_measured : list of str
        What could not be measured, and why.
    seconds : float
        That the calibration took.
    provenance : dict
        Versions, host and arguments.

    Examples
    --------
    >>> import rmapfast as rf
    >>> found = rf.calibrate()  # doctest: +SKIP
    >>> rf.cost.get(found.costs).unit  # doctest: +SKIP
    'ns'
    """

    arch: Arch
    costs: CostVector
    fitted: list[Measurement]
    held_back: list[Measurement]
    not_measured: list[str]
    seconds: float
    provenance: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the calibration as a dict that serialises to JSON.

        Returns
        -------
        dict
        """
        return {
            "provenance": self.provenance,
            "costs": self.costs.to_dict(),
            "fitted": [_row(one) for one in self.fitted],
            "held_back": [_row(one) for one in self.held_back],
            "not_measured": self.not_measured,
            "seconds": self.seconds,
        }


def _row(one: Measurement) -> dict[str, Any]:
    return {
        "case": str(one.case),
        "orders": one.orders,
        "ns_per_page": one.ns,
        "repeats": one.ns_all,
        "predicted_ns_per_page": one.predicted,
        "predicted_interval_ns_per_page": list(one.interval),
        "error": one.error,
    }


def calibrate(
    *,
    hold_back: int = 0,
    folder: str | os.PathLike[str] = ".",
    seed: Seed = 0,
    progress: Callable[[str], None] | None = None,
) -> Calibration:
    """Measure the running kernel and fit the costs of its architecture (Linux, root; under a minute).

    Parameters
    ----------
    hold_back : int
        Measure so many further reclaims that the fit does not use, and predict them.
    folder : path
        Where the file that is mapped is made. The costs are for the filesystem of its disk.
    seed : int, or what :func:`numpy.random.default_rng` takes
        Decides which further cases are held back.
    progress : callable, optional
        Called with a line of text.

    Returns
    -------
    Calibration

    Raises
    ------
    CalibrateError
        If a thing that is needed is missing; the message says which.
    ImportError
        If SciPy is not installed; the message has the pip command.

    Examples
    --------
    >>> import rmapfast as rf
    >>> found = rf.calibrate(hold_back=4)  # doctest: +SKIP
    >>> rf.reclaim(rf.Population.synthetic("1GiB"), "512MiB", arch=found.arch).prediction.seconds  # doctest: +SKIP
    """
    start = time.monotonic()
    seed = checked_seed("seed", seed)
    base = running_arch()
    not_measured: list[str] = []
    held = held_back_cases(hold_back, seed)
    with set_up(Path(folder)) as setup:
        cases = [*UNMAPPED, *FILES, *SEVERAL]
        if reason := why_no_userfaultfd():
            not_measured.append(f"lazyfree folios with batches cut to a length: {reason}")
            held = [case for case in held if case.kind == "file"]
        else:
            cases += LAZYFREE
        measured = measure_cases(setup, [*cases, *held], base, progress or (lambda text: None))
    ipi = measure_ipi() if base.tlb == "x86" else None
    vector = fit_vector([measured[case] for case in cases], base, ipi)

    def predicted(one: Measurement) -> Measurement:
        price = vector.price(one.counts)
        return replace(one, predicted=price.value, interval=price.interval)

    not_measured += [
        "reference checks (the mapping process is outside the cgroup): costs as they were",
        "TLB flushes of other CPUs: one CPU is signalled, and more than one is not measured"
        if ipi
        else "TLB flushes of other CPUs: costs as they were",
        "swap-out: nothing is swapped",
    ]
    return Calibration(
        arch=base.replace(name=platform.node() or "this-machine", costs=vector),
        costs=vector,
        fitted=[predicted(measured[case]) for case in cases],
        held_back=[predicted(measured[case]) for case in held],
        not_measured=not_measured,
        seconds=time.monotonic() - start,
        provenance=provenance(hold_back=hold_back, seed=seed, kernel=platform.release()),
    )
