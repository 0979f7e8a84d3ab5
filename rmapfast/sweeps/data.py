"""The points of a sweep and what came out: what a table, a plot and a file need to know of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from rmapfast.sweeps.points import Record
from rmapfast.sweeps.prices import Prices, price_points
from rmapfast.sweeps.space import Space


@dataclass(frozen=True, repr=False)
class SweepData:
    """A space, the records of its simulations, and the prices of its points.

    Parameters
    ----------
    space : Space
    records : dict
        By key of the simulation (:meth:`Space.key`): ``events``, ``referenced_events``, ``batch_lengths``,
        ``reclaimed_pages`` and ``target_pages`` in base pages, ``arch`` and ``wall_s``; or ``error`` alone.
    provenance : dict
        Versions, host, the whole space, hashes of inputs.
    """

    space: Space
    records: dict[str, Record]
    provenance: dict[str, Any]

    @cached_property
    def structural(self) -> tuple[int, ...]:
        """Numbers of the dimensions along which points are simulated."""
        return tuple(number for number, dimension in enumerate(self.space.dimensions) if dimension.structural)

    @cached_property
    def simulations(self) -> dict[tuple[int, ...], str]:
        """Keys of the simulations by index; along dimensions of prices the index is 0."""
        return {index: self.space.key(index) for index in self.space.steps(lambda dimension: dimension.structural)}

    def status(self, index: tuple[int, ...]) -> str:
        """Return ``done``, ``failed``, ``not run`` or ``dropped`` of the simulation with that index."""
        if index not in self.simulations:
            return "dropped"
        record = self.records.get(self.simulations[index])
        return "not run" if record is None else "failed" if "error" in record else "done"

    @property
    def failures(self) -> dict[tuple[int, ...], str]:
        """What went wrong, by index of the simulation."""
        return {
            index: self.records[key]["error"]
            for index, key in self.simulations.items()
            if "error" in self.records.get(key, ())
        }

    @property
    def complete(self) -> bool:
        """Whether every simulation was run."""
        return all(key in self.records for key in self.simulations.values())

    @property
    def points(self) -> int:
        """Number of points that the constraints keep."""
        return int(np.count_nonzero(self.space.kept))

    @cached_property
    def prices(self) -> Prices:
        """Predictions of all points."""
        return price_points(self.space, self.simulations, self.records)

    def __repr__(self) -> str:
        axes = ", ".join(f"{one.name} {len(one)}" for one in self.space.dimensions)
        done = sum("error" not in record for record in self.records.values())
        return (
            f"<Sweep {axes or 'one point'}: {self.points} points, {done} of {len(set(self.simulations.values()))} "
            f"simulations done, {len(self.failures)} failed>"
        )
