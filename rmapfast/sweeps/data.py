"""The points of a sweep and what came out: what a table, a plot and a file need to know of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np

from rmapfast.events import Events
from rmapfast.sweeps.points import Record, counts_of
from rmapfast.sweeps.prices import Prices, price_points
from rmapfast.sweeps.space import Space


@dataclass(frozen=True)
class SweepPoint:
    """One point of a sweep.

    Parameters
    ----------
    values : dict of str to bool, int, float or str
        What it has of each axis, as tables show it.
    status : {'done', 'failed', 'not run'}
    error : str
        What went wrong with one that failed.
    unit : {'ns', 'instructions', ''}
        Of the prices; empty if no point of the sweep has one.
    predicted : float
        NaN where there is no price, as for the next three.
    interval : tuple of float
        Bounds of the 90% interval.
    per_page : float
        Predicted per reclaimed base page.
    gain : float
        1 - (``per_page`` / that of the first policy); NaN without an axis of policies too.
    reclaimed_pages : int
    events : Events or None
        Counts; None of a point that was not done.

    Examples
    --------
    >>> import rmapfast as rf
    >>> for point in rf.sweep({"population.order": [0, 4], "population.size": "1MiB"}):
    ...     print(point.values, point.status)
    {'population.order': 0} done
    {'population.order': 4} done
    """

    values: dict[str, Any]
    status: str
    error: str
    unit: str
    predicted: float
    interval: tuple[float, float]
    per_page: float
    gain: float
    reclaimed_pages: int
    events: Events | None = field(repr=False)


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

    def __len__(self) -> int:
        """Return the number of points that the constraints keep."""
        return self.points

    def __iter__(self) -> Iterator[SweepPoint]:
        """Yield the points that the constraints keep, in the order of the space."""
        prices = self.prices
        for found in np.argwhere(self.space.kept):
            index = tuple(map(int, found))
            simulated = tuple(at if number in self.structural else 0 for number, at in enumerate(index))
            record = self.records.get(self.simulations[simulated], {})
            done = bool(record) and "error" not in record
            yield SweepPoint(
                values={
                    axis.name: axis.labels[at].item()
                    for at, dimension in zip(index, self.space.dimensions, strict=True)
                    for axis in dimension.axes
                },
                status=self.status(simulated),
                error=record.get("error", ""),
                unit=prices.unit,
                predicted=float(prices.predicted[index]),
                interval=(float(prices.low[index]), float(prices.high[index])),
                per_page=float(prices.per_page[index]),
                gain=float("nan") if prices.gain is None else float(prices.gain[index]),
                reclaimed_pages=record["reclaimed_pages"] if done else 0,
                events=Events(counts_of(record, "events")) if done else None,
            )

    def sel(self, at: Mapping[str, Any] | None = None, **axes: Any) -> Self:
        """Return a part of the sweep: the points where axes have certain values. Nothing is simulated again.

        Parameters
        ----------
        at : mapping, optional
            By name of an axis, such as ``{"population.order": 4}``: a value, which leaves the axis away; or a list of
            values, or a slice (both ends are included) of those that stay. A value is given as for the space, or as
            tables show it. Gains are those over the first policy that stays.
        **axes
            The same, for names without a dot.

        Returns
        -------
        Sweep

        Raises
        ------
        ValueError
            If there is no such axis or value, or no point is left.

        Examples
        --------
        >>> import rmapfast as rf
        >>> found = rf.sweep({"population.order": [0, 4], "policy": ["v6.16", "v7.0"], "population.size": "1MiB"})
        >>> found.sel({"population.order": 4})
        <Sweep policy 2: 2 points, 2 of 2 simulations done, 0 failed>
        """
        space = self.space.select({**(at or {}), **axes})
        part = replace(self, space=space, records={})
        part.records.update({key: self.records[key] for key in part.simulations.values() if key in self.records})
        arguments = self.provenance.get("arguments", {}) | {"space": space.to_dict()}
        if "seeds" in arguments:
            arguments["seeds"] = space.all_values("population.seed") or arguments["seeds"]
        return replace(part, provenance=self.provenance | {"arguments": arguments})

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
