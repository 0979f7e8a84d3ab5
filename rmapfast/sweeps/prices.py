"""Prices of a sweep: every point is priced with its costs, those that differ only in costs as a matrix product."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rmapfast.cost import CostVector
from rmapfast.events import COMPONENTS, EVENT_NAMES
from rmapfast.sweeps.parameter import is_price
from rmapfast.sweeps.points import Record, arch_of, counts_of
from rmapfast.sweeps.space import Space


@dataclass(frozen=True)
class Prices:
    """Predictions of all points; NaN where a point was dropped, failed, was not run or has no cost vector.

    Arrays have the shape of the space (:attr:`Space.shape`).

    Parameters
    ----------
    unit : {'ns', 'instructions', ''}
        Empty if no point has a price.
    predicted : ndarray of float64
        In the unit.
    low, high : ndarray of float64
        Bounds of the 90% interval, in the unit.
    breakdown : dict of str to ndarray of float64
        Share of each component, in the unit; they add up to ``predicted``.
    per_page : ndarray of float64
        Predicted per reclaimed base page.
    gain : ndarray of float64, or None
        1 - (``per_page`` / that of the first policy of the sweep): 0.75 means a quarter of the time. None without an
        axis of policies.
    unpriced : ndarray of str
        Events of each point that its costs have no price for, with blanks between; empty where it has no price.

    Examples
    --------
    >>> import rmapfast as rf
    >>> axes = {"population.size": "1MiB", "population.order": [0, 4], "policy": ["per-page", "v7.0"], "arch": "x86-64"}
    >>> prices = rf.sweep(axes).prices
    >>> prices.unit, prices.gain[0].tolist()
    ('ns', [0.0, 0.0])
    """

    unit: str
    predicted: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    breakdown: dict[str, npt.NDArray[np.float64]]
    per_page: npt.NDArray[np.float64]
    gain: npt.NDArray[np.float64] | None
    unpriced: npt.NDArray[np.str_]


def price_points(space: Space, simulations: Mapping[tuple[int, ...], str], records: Mapping[str, Record]) -> Prices:
    """Price all points of a space.

    Parameters
    ----------
    space : Space
    simulations : mapping of index to key
        Simulations that points share; along dimensions of prices the index is 0.
    records : mapping of key to Record
    """
    shape, dimensions = space.shape, space.dimensions
    linear = [number for number, dimension in enumerate(dimensions) if dimension.linear]
    structural = [number for number, dimension in enumerate(dimensions) if dimension.structural]
    costs = [
        (axis.parameter.removeprefix("arch.cost."), np.array(axis.values, float), at)
        for at, number in enumerate(linear)
        for axis in dimensions[number].axes
    ]
    inner = tuple(shape[number] for number in linear)
    predicted, low, high, pages = (np.full(shape, np.nan) for _ in range(4))
    unpriced = np.full(shape, "", object)
    breakdown: dict[str, npt.NDArray[np.float64]] = {}
    unit = ""
    vectors = _Vectors([event for event, _, _ in costs])
    for index in space.steps(lambda dimension: not dimension.linear):
        record = records.get(simulations[tuple(at if n in structural else 0 for n, at in enumerate(index))])
        if record is None or "error" in record:
            continue
        place = tuple(slice(None) if number in linear else at for number, at in enumerate(index))
        pages[place] = record["reclaimed_pages"] or np.nan
        vector, slopes = vectors.of(space.values(index), record["arch"])
        if vector is None:
            continue
        unit = vector.unit
        events = np.array(counts_of(record, "events"), float)
        referenced = np.array(counts_of(record, "referenced_events"), float)
        base = vector.price(events, referenced)
        given = {event for event, _, _ in costs}
        unpriced[place] = " ".join(event for event in vector.unpriced(events) if event not in given)
        value, shares = np.zeros(inner), {name: np.full(inner, share) for name, share in base.breakdown.items()}
        for event, figures, at in costs:
            steps = figures.reshape([-1 if number == at else 1 for number in range(len(inner))])
            value = value + events[EVENT_NAMES.index(event)] * steps
            for name, share in slopes[event].price(events, referenced).breakdown.items():
                slope = share - base.breakdown.get(name, 0.0)
                if slope:
                    shares[name] = shares.get(name, np.zeros(inner)) + slope * steps
        predicted[place] = base.value + value
        # A cost that is an axis is given exactly, so it moves both bounds by as much as the value.
        low[place] = base.interval[0] + value
        high[place] = base.interval[1] + value
        for name, of_component in shares.items():
            breakdown.setdefault(name, np.zeros(shape))[place] = of_component
    if not space.kept.all():
        for array in (predicted, low, high):
            array[~space.kept] = np.nan
    for array in breakdown.values():
        array[np.isnan(predicted)] = np.nan
    order = [*COMPONENTS]
    names = sorted(breakdown, key=lambda name: order.index(name.split(" + ")[0]))
    per_page = predicted / pages
    shares = {name: breakdown[name] for name in names}
    gain = _gain(space, per_page)
    return Prices(unit, predicted, low, high, shares, per_page, gain, unpriced.astype(np.str_))


def _gain(space: Space, per_page: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    along = space.policy_dimension
    if along is None:
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(1 - per_page / np.take(per_page, [0], axis=along))


def draws_per_page(
    space: Space,
    simulations: Mapping[tuple[int, ...], str],
    records: Mapping[str, Record],
    index: tuple[int, ...],
) -> npt.NDArray[np.float64]:
    """Return what each draw of the costs predicts per reclaimed page at a point that has a price.

    Parameters
    ----------
    space, simulations, records
        As for :func:`price_points`.
    index : tuple of int
    """
    structural = tuple(at if dimension.structural else 0 for at, dimension in zip(index, space.dimensions, strict=True))
    record = records[simulations[structural]]
    costs = {
        axis.parameter.removeprefix("arch.cost."): float(np.array(axis.values, float)[at])
        for at, dimension in zip(index, space.dimensions, strict=True)
        if dimension.linear
        for axis in dimension.axes
    }
    vector, _ = _Vectors(list(costs)).of(space.values(index), record["arch"])
    assert vector is not None, "the point has a price"
    events = np.array(counts_of(record, "events"), float)
    # Costs that are axes are given exactly.
    exact = sum(cost * events[EVENT_NAMES.index(event)] for event, cost in costs.items())
    return np.asarray((vector.draws(events) + exact) / record["reclaimed_pages"])


class _Vectors:
    """Cost vectors of points, made once for all points that share them.

    A price is linear in each cost. The price with the costs that are axes at 0 is the part that they do not change; a
    cost of 1 gives the slope.
    """

    def __init__(self, events: list[str]) -> None:
        self.events = events
        self.known: dict[str, tuple[CostVector | None, dict[str, CostVector]]] = {}

    def of(self, values: Mapping[str, Any], arch: str) -> tuple[CostVector | None, dict[str, CostVector]]:
        """Return the vector of a point with the costs that are axes at 0, and those with one of them at 1."""
        given = {name: value for name, value in values.items() if name == "arch" or is_price(name)}
        key = repr((arch, given))
        if key not in self.known:
            vector, slopes = arch_of(given, arch).cost_vector, {}
            if vector and self.events:
                vector = vector.replace(**dict.fromkeys(self.events, 0.0))
                slopes = {event: vector.replace(**{event: 1.0}) for event in self.events}
            self.known[key] = vector, slopes
        return self.known[key]
