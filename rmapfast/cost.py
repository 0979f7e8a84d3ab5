"""Cost vectors: one non-negative figure per event, and the price of a run.

A prediction is linear, the sum of events times costs, and comes with its breakdown by component and an interval.
Each vector is an ensemble of draws, which say how sure the costs are. An interval holds the middle 90% of what the
draws predict. What two runs share is drawn together, so a difference or a ratio is surer than the two figures.
Vectors in nanoseconds belong to a machine, vectors in instructions to a kernel build; :func:`get` finds them by name.
docs/validation.md says how often the intervals held what was measured.
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rmapfast.events import COMPONENTS, EVENT_NAMES, REFERENCE_CHECK
from rmapfast.support import (
    Figure,
    HtmlPart,
    Seed,
    Share,
    checked_path,
    closest,
    data_frame,
    dataset,
    html_of,
    price_text,
    read_toml,
    shown,
    toml_value,
)

_FOLDER = Path(__file__).parent / "costs"

UNITS = ("ns", "instructions")
KINDS = ("measured", "published", "fitted", "assumed")

# The share of the draws that an interval holds, unless another one is asked for.
LEVEL = 0.9
# Draws that an interval is made from, and the standard deviations from the middle to the bounds of the middle 90%.
_DRAWS = 1000
_SIGMAS = 1.645

_COMPONENT_OF = {event: component for component, events in COMPONENTS.items() for event in events}
_INDEX = {event: index for index, event in enumerate(EVENT_NAMES)}
_PLACES = {component: np.array([_INDEX[event] for event in events], int) for component, events in COMPONENTS.items()}

# Events of which each comes with another one that has a cost, which holds what it takes: a yield is a call, reads two
# entries and takes the lock; a step drops references, updates a counter and writes what stands in the place; a folio
# is scanned and isolated.
WITH_OTHERS = frozenset(
    "walk_calls walk_pte_reads entry_pte_reads ptl_locks batched_pages ptes_set folios_dirtied ref_puts rss_updates "
    "notifier_ranges young_calls folios_scanned pages_scanned pages_came_back pages_activated isolation_calls "
    "shrink_calls reclaim_rounds tlb_deferred rmap_remove_calls madvise_calls pmd_locks".split()
)

# What a tracer adds to each call that it counts. Some recorded rows hold it; the prediction of a run never does.
TRACER = "traced_calls"


@dataclass(frozen=True)
class Cost:
    """What one event costs.

    Parameters
    ----------
    event : str
        One of :data:`rmapfast.EVENT_NAMES`, or ``traced_calls`` in a vector fitted to traced calls.
    value : float
        In the unit of the vector, not negative.
    low, high : float
        Bounds of the middle 90% of its draws; equal where the cost is given exactly.
    kind : {'measured', 'published', 'fitted', 'assumed'}
        How the figure was come by.
    source : str
        From what.

    Examples
    --------
    >>> import rmapfast as rf
    >>> cost = rf.cost.get("x86-64").costs[0]
    >>> cost.low <= cost.value <= cost.high
    True
    """

    event: str
    value: float
    low: float
    high: float
    kind: str
    source: str

    def __post_init__(self) -> None:
        """Check every field."""
        if self.event not in _INDEX and self.event != TRACER:
            raise ValueError(
                f"cost.{self.event}: no such event{closest(self.event, EVENT_NAMES)}; see rmapfast list event"
            )
        for name in ("value", "low", "high"):
            given = getattr(self, name)
            if isinstance(given, bool) or not isinstance(given, (int, float)) or not math.isfinite(given) or given < 0:
                raise ValueError(f"cost.{self.event}: {name}: expected a finite number, 0 or more, got {given!r}")
            object.__setattr__(self, name, float(given))
        if not self.low <= self.value <= self.high:
            raise ValueError(
                f"cost.{self.event}: expected low <= value <= high, got {self.low:g}, {self.value:g}, {self.high:g}"
            )
        if self.kind not in KINDS:
            raise ValueError(f"cost.{self.event}: kind: expected one of {', '.join(KINDS)}, got {self.kind!r}")
        if not isinstance(self.source, str):
            raise ValueError(f"cost.{self.event}: source: expected a text, got {self.source!r}")


class Range(NamedTuple):
    """A figure and the bounds of its interval.

    Parameters
    ----------
    value, low, high : float

    Examples
    --------
    >>> import rmapfast as rf
    >>> rf.cost.Range(3.0, 2.0, 5.0).high
    5.0
    """

    value: float
    low: float
    high: float

    @classmethod
    def of_draws(cls, value: float, drawn: npt.NDArray[np.float64], level: float = LEVEL) -> Range:
        """A figure with the middle of its draws.

        Parameters
        ----------
        value : float
            Lies in the interval, also where the draws all lie on one side of it.
        drawn : ndarray of float64, shape (k,)
        level : float
            Share of the draws that the interval holds.

        Returns
        -------
        Range

        Raises
        ------
        ValueError
            If the level is not between 0 and 1.
        """
        if isinstance(level, bool) or not isinstance(level, int | float) or not 0 < level < 1:
            raise ValueError(f"level: expected a share between 0 and 1, got {shown(level)}")
        low, high = np.quantile(drawn, ((1 - level) / 2, (1 + level) / 2))
        return cls(value, min(value, float(low)), max(value, float(high)))


@dataclass(frozen=True, repr=False)
class Prediction:
    """The price of one run: a prediction, never a measurement.

    Parameters
    ----------
    value : float
        In :attr:`unit`.
    interval : tuple of float
        Bounds of the interval.
    breakdown : dict of str to float
        Share of each component, in the order of :data:`COMPONENTS`; they add up to the value. Components whose costs
        the data do not separate stand as one, named ``a + b``.
    unit : {'ns', 'instructions'}
    costs : str
        Name of the cost vector.
    level : float
        Share of the draws that the interval holds.

    Examples
    --------
    >>> import rmapfast as rf
    >>> prediction = rf.reclaim(rf.Population.synthetic("1MiB"), "80%", arch="x86-64").prediction
    >>> prediction.unit, prediction.level
    ('ns', 0.9)
    >>> abs(sum(prediction.breakdown.values()) - prediction.value) < 1e-6 * prediction.value
    True
    """

    value: float
    interval: tuple[float, float]
    breakdown: dict[str, float]
    unit: str
    costs: str
    level: float = LEVEL

    @property
    def seconds(self) -> float | None:
        """The value in seconds, or None of a vector in instructions."""
        return self.value * 1e-9 if self.unit == "ns" else None

    def __repr__(self) -> str:
        return f"<Prediction {self._text}, priced with {self.costs}>"

    @property
    def _text(self) -> str:
        """The value with its interval."""
        return f"{price_text(self.unit, self.value, self.interval)[:-1]}, {100 * self.level:g}%)"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the value with its interval, and the components."""
        return html_of("Prediction", self._text, f"predicted, not measured; {self.costs}", [self.html_part()])

    def html_part(self) -> HtmlPart:
        """Return the components as a part of what a notebook shows."""
        rows = [
            (name, Figure(price_text(self.unit, share)), Share(share / self.value if self.value else 0.0))
            for name, share in self.breakdown.items()
        ]
        return HtmlPart("prediction", rows, ("component", "", "share"), more=f"{self._text}, {self.costs}", open=True)

    def to_dict(self) -> dict[str, Any]:
        """Return the prediction as a dict that serialises to JSON; prices in seconds are None in instructions.

        Returns
        -------
        dict
            ``cost_vector``, ``predicted_s``, ``predicted_interval_s``, ``interval_level`` and ``breakdown_s``; in
            instructions also ``predicted_instructions`` and the like.
        """
        in_ns = self.unit == "ns"
        document = {
            "cost_vector": self.costs,
            "predicted_s": self.seconds,
            "predicted_interval_s": [bound * 1e-9 for bound in self.interval] if in_ns else None,
            "interval_level": self.level,
            "breakdown_s": {name: share * 1e-9 for name, share in self.breakdown.items()} if in_ns else None,
        }
        if not in_ns:
            document |= {
                "predicted_instructions": self.value,
                "predicted_interval_instructions": list(self.interval),
                "breakdown_instructions": self.breakdown,
            }
        return document


@dataclass(frozen=True, repr=False)
class CostVector:
    """One cost per event; events that are not named cost nothing.

    Parameters
    ----------
    name : str
    unit : {'ns', 'instructions'}
        Per event.
    arch : str
        Name of the architecture that it belongs to.
    costs : tuple of Cost
        At most one per event.
    build : str
        The kernel build whose instructions were counted, or the machine.
    note : str
        What a user must know.
    residual : float
        Relative error of each cost that is no error of the fit: no cost is quite a constant. Each draw has another one
        for each cost, with this standard deviation, but for costs that are given exactly.
    joint : tuple of tuple of str
        Sets of events of which the data fix only the sum of the costs, where nothing says how to split it; the sum
        stands with one of them.
    members : tuple of tuple of float
        Draws of the costs, in the order of `costs`. Without members the costs are drawn independently, each with its
        `low` and `high` as the bounds of the middle 90%.

    Examples
    --------
    >>> import rmapfast as rf
    >>> vector = rf.cost.get("ab-7.2.13")
    >>> vector.unit
    'instructions'
    >>> result = rf.reclaim(rf.Population.synthetic("1MiB"), "80%", arch="x86-64", costs=vector)
    >>> result.prediction.unit
    'instructions'
    """

    name: str
    unit: str
    arch: str
    costs: tuple[Cost, ...]
    build: str = ""
    note: str = ""
    residual: float = 0.0
    joint: tuple[tuple[str, ...], ...] = ()
    members: tuple[tuple[float, ...], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        """Check every field."""
        for name in ("name", "arch", "build", "note"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"cost.{name}: expected a text, got {getattr(self, name)!r}")
        if self.unit not in UNITS:
            raise ValueError(f"cost.unit: expected one of {', '.join(UNITS)}, got {self.unit!r}")
        if not self.costs or not all(isinstance(cost, Cost) for cost in self.costs):
            raise ValueError(f"cost.costs: expected at least one Cost, got {self.costs!r}")
        events = [cost.event for cost in self.costs]
        for event in events:
            if events.count(event) > 1:
                raise ValueError(f"cost.{event}: given more than once")
        if not isinstance(self.residual, (int, float)) or not 0 <= self.residual < math.inf:
            raise ValueError(f"cost.residual: expected a relative error, 0 or more, got {self.residual!r}")
        object.__setattr__(self, "residual", float(self.residual))
        for event in (event for events_ in self.joint for event in events_):
            if event not in _INDEX:
                raise ValueError(f"cost.joint: no event {event!r}{closest(event, EVENT_NAMES)}")
        for member in self.members:
            if len(member) != len(events) or not all(math.isfinite(value) and value >= 0 for value in member):
                raise ValueError(f"cost.members: expected {len(events)} finite figures each, 0 or more, got {member!r}")

    @property
    def facts(self) -> str:
        """How many costs it has, their unit, what they are of, and the number of draws."""
        of = ", ".join(filter(None, [self.arch, self.build]))
        drawn = f", {len(self.members)} draws" if self.members else ""
        return f"{len(self.costs)} costs in {self.unit} of {of}{drawn}"

    def __repr__(self) -> str:
        return f"<CostVector {self.name}: {self.facts}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the costs with their intervals."""
        return html_of("CostVector", self.name, self.facts, self.html_parts(open=True))

    def html_parts(self, *, open: bool = False) -> list[HtmlPart]:
        """Return the costs, and what a user must know of them, as parts of what a notebook shows."""
        costs = sorted(self.costs, key=lambda cost: -cost.value)
        rows = [
            (cost.event, cost.value, Figure(f"{cost.low:.4g} to {cost.high:.4g}"), cost.kind, cost.source)
            for cost in costs
        ]
        header = ("event", self.unit, f"{100 * LEVEL:.0f}%", "kind", "source")
        joint = [" + ".join(events) for events in self.joint]
        notes = [self.note] if self.note else []
        notes += [f"The data fix only the sum of: {'; '.join(joint)}."] if joint else []
        return [HtmlPart("costs", rows, header, notes, self.name, open)]

    def to_dataframe(self) -> Any:
        """Return the costs as a pandas.DataFrame, a row per event.

        Returns
        -------
        pandas.DataFrame
            Columns ``event``, ``value``, ``low``, ``high`` (in the unit of the vector), ``kind`` and ``source``.

        Raises
        ------
        ImportError
            If pandas is not installed; the message has the pip command.
        """
        names = ("event", "value", "low", "high", "kind", "source")
        return data_frame({name: [getattr(cost, name) for cost in self.costs] for name in names})

    def to_xarray(self) -> Any:
        """Return the costs as an xarray.Dataset along ``event``.

        Returns
        -------
        xarray.Dataset
            ``value``, ``low`` and ``high`` in the unit of the vector, ``kind`` and ``source``.

        Raises
        ------
        ImportError
            If xarray is not installed; the message has the pip command.
        """
        unit = {"units": self.unit}
        variables: dict[str, Any] = {
            name: ("event", [getattr(cost, name) for cost in self.costs], unit) for name in ("value", "low", "high")
        }
        variables |= {name: ("event", [getattr(cost, name) for cost in self.costs]) for name in ("kind", "source")}
        attributes = {"name": self.name, "arch": self.arch, "build": self.build}
        return dataset(variables, {"event": [cost.event for cost in self.costs]}, attributes)

    def __getitem__(self, event: str) -> float:
        """The cost of an event (0 where none is named)."""
        if event not in _INDEX and event != TRACER:
            raise KeyError(f"no event {event!r}{closest(event, EVENT_NAMES)}")
        return next((cost.value for cost in self.costs if cost.event == event), 0.0)

    @cached_property
    def _columns(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Positions in EVENT_NAMES of the costs that are events of a run, and in `costs`."""
        placed = [(_INDEX[cost.event], at) for at, cost in enumerate(self.costs) if cost.event != TRACER]
        return np.array([index for index, _ in placed]), np.array([at for _, at in placed])

    def _spread(self, figures: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Figures in the order of `costs` (last axis) as rows over EVENT_NAMES."""
        figures = np.asarray(figures, float)
        columns, at = self._columns
        rows = np.zeros((*figures.shape[:-1], len(EVENT_NAMES)))
        rows[..., columns] = figures[..., at]
        return rows

    @property
    def values(self) -> npt.NDArray[np.float64]:
        """The costs as float64 of shape (len(EVENT_NAMES),)."""
        return self._spread([cost.value for cost in self.costs])

    def _draw(self, size: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        """Draw costs, in the order of `costs`: float64 of shape (size, len(costs))."""
        value, low, high = (np.array([getattr(cost, name) for cost in self.costs]) for name in ("value", "low", "high"))
        if self.members:
            # Each member as often as any other, as far as that is possible.
            turns = -(-size // len(self.members))
            rows = np.concatenate([rng.permutation(len(self.members)) for _ in range(turns)])[:size]
            drawn = np.array(self.members)[rows]
        else:
            normal = rng.normal(size=(size, len(value))) / _SIGMAS
            drawn = np.maximum(value + np.where(normal < 0, value - low, high - value) * normal, 0.0)
        error = np.where(low < high, self.residual, 0.0)
        return np.asarray(drawn * np.exp(error * rng.normal(size=drawn.shape) - error**2 / 2))

    @cached_property
    def _draws(self) -> npt.NDArray[np.float64]:
        """The draws that intervals are made from, of the costs that are events of a run."""
        return np.ascontiguousarray(self._draw(_DRAWS, np.random.default_rng(0))[:, self._columns[1]])

    def draws(self, counts: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return what each draw predicts for a run; the same draws for every run, so that runs can be compared.

        Parameters
        ----------
        counts : array_like, shape (len(EVENT_NAMES),)
            Events of the run.

        Returns
        -------
        ndarray of float64, one per draw
            In the unit of the vector.
        """
        return np.asarray(self._draws @ _of_events("counts", counts)[self._columns[0]])

    def sample(self, size: int, seed: Seed = 0) -> npt.NDArray[np.float64]:
        """Draw cost vectors, as float64 of shape (size, len(EVENT_NAMES)).

        Parameters
        ----------
        size : int
            Number of vectors.
        seed : int, or what :func:`numpy.random.default_rng` takes

        Returns
        -------
        ndarray of float64, shape (size, len(EVENT_NAMES))
            In the unit of the vector.

        Examples
        --------
        >>> import rmapfast as rf
        >>> rf.cost.get("x86-64").sample(10, seed=1).shape == (10, len(rf.EVENT_NAMES))
        True
        """
        return self._spread(self._draw(size, np.random.default_rng(seed)))

    def replace(self, **changes: float) -> CostVector:
        """Return a copy in which some events cost something else, exactly.

        Parameters
        ----------
        **changes : float
            Costs by event, in the unit of the vector.

        Returns
        -------
        CostVector

        Raises
        ------
        ValueError
            If there is no such event, or a cost is negative or not finite.

        Examples
        --------
        >>> import rmapfast as rf
        >>> rf.cost.get("arm64-4k").replace(tlbi_ops=100.0)["tlbi_ops"]
        100.0
        """
        costs, members = list(self.costs), np.array(self.members)
        for event, value in changes.items():
            cost = Cost(event, value, value, value, "assumed", "given")
            at = next((at for at, known in enumerate(costs) if known.event == event), None)
            if at is None:
                costs.append(cost)
                if self.members:
                    members = np.column_stack([members, np.full(len(members), float(value))])
            else:
                costs[at] = cost
                if self.members:
                    members[:, at] = value
        joint = tuple(events for events in self.joint if not set(events) & set(changes))
        return replace(self, costs=tuple(costs), joint=joint, members=tuple(tuple(row) for row in members.tolist()))

    def price(
        self, counts: npt.ArrayLike, referenced: npt.ArrayLike | None = None, *, level: float = LEVEL
    ) -> Prediction:
        """Price one run.

        Parameters
        ----------
        counts : array_like, shape (len(EVENT_NAMES),)
            Events of the run.
        referenced : array_like, optional
            The part of them that the reference check caused, which the breakdown then shows under that name.
        level : float
            Share of the draws that the interval holds.

        Returns
        -------
        Prediction

        Raises
        ------
        ValueError
            If `level` is not between 0 and 1.

        Examples
        --------
        >>> import rmapfast as rf
        >>> result = rf.reclaim(rf.Population.synthetic("1MiB"), "80%", arch="x86-64")
        >>> half = result.costs.price(result.events.counts, level=0.5).interval
        >>> half[1] - half[0] < result.prediction.interval[1] - result.prediction.interval[0]
        True
        """
        events = _of_events("counts", counts)
        found = self._priced(events, level)
        shares = self._by_component(self.values, events, referenced)
        return Prediction(
            value=found.value,
            interval=(found.low, found.high),
            breakdown={name: float(share) for name, share in self._merged(shares).items()},
            unit=self.unit,
            costs=self.name,
            level=level,
        )

    def _priced(self, events: npt.NDArray[np.float64], level: float) -> Range:
        """The price of events, or of a difference of events, with its interval."""
        return Range.of_draws(float(events @ self.values), self.draws(events), level)

    def change(self, before: npt.ArrayLike, after: npt.ArrayLike, *, level: float = LEVEL) -> Range:
        """Return by which share the price of `after` differs from that of `before`; both are drawn together.

        Parameters
        ----------
        before, after : array_like, shape (len(EVENT_NAMES),)
            Events of two runs, or of a page of each.
        level : float
            Share of the draws that the interval holds.

        Returns
        -------
        Range
            -0.75 means a quarter of the price. NaN where `before` costs nothing.

        Examples
        --------
        >>> import rmapfast as rf
        >>> runs = rf.compare(rf.Population.synthetic("1MiB"), "80%", arches=["x86-64"]).runs
        >>> change = rf.cost.get("x86-64").change(*(run.events.counts for run in runs))
        >>> change.low < change.value < 0
        True
        """
        old, new = _of_events("before", before), _of_events("after", after)
        first = float(old @ self.values)
        if not first:
            return Range(math.nan, math.nan, math.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn = self.draws(new) / self.draws(old) - 1
        return Range.of_draws(float(new @ self.values) / first - 1, drawn, level)

    def difference(self, before: npt.ArrayLike, after: npt.ArrayLike, *, level: float = LEVEL) -> Range:
        """Return what is saved: the price of `before` less that of `after`; both are drawn together.

        Parameters
        ----------
        before, after : array_like, shape (len(EVENT_NAMES),)
            Events of two runs, or of a page of each.
        level : float
            Share of the draws that the interval holds.

        Returns
        -------
        Range
            In the unit of the vector.
        """
        saved = _of_events("before", before) - _of_events("after", after)
        return self._priced(saved, level)

    def unpriced(self, *runs: npt.ArrayLike) -> list[str]:
        """Return the events in which runs differ and that have no price: the predictions are silent about them.

        Parameters
        ----------
        *runs : array_like, shape (len(EVENT_NAMES),)
            Events of each run, or of a page of each. Of one run: the events that it has.

        Returns
        -------
        list of str
            Without those of :data:`WITH_OTHERS`, whose price others hold, and those that `joint` ties to one with a
            price.
        """
        counts = np.array([_of_events("runs", run) for run in runs])
        other = counts[:1] if len(runs) > 1 else np.zeros_like(counts)
        differ = (np.abs(counts - other) > 1e-9 * np.maximum(counts, other)).any(axis=0)
        # Loads of a table entry take the time that the read has, except where a contpte block is gathered.
        covered = WITH_OTHERS | ({"raw_pte_loads"} if not counts[:, _INDEX["contpte_unfolds"]].any() else set())
        priced = {cost.event for cost in self.costs if cost.high > 0}
        covered |= {event for events in self.joint if priced & set(events) for event in events}
        return [
            event for event, index in _INDEX.items() if differ[index] and event not in priced and event not in covered
        ]

    def shares(
        self, counts: npt.ArrayLike, referenced: npt.ArrayLike | None = None, *, level: float = LEVEL
    ) -> dict[str, Range]:
        """Return the share of each component in the price of a run.

        Parameters
        ----------
        counts, referenced : array_like, shape (len(EVENT_NAMES),)
            As for :meth:`price`.
        level : float
            Share of the draws that each interval holds.

        Returns
        -------
        dict of str to Range
            The components of :attr:`Prediction.breakdown`; empty where the run costs nothing.
        """
        events = _of_events("counts", counts)
        value = float(events @ self.values)
        if not value:
            return {}
        parts = self._merged(self._by_component(self.values, events, referenced))
        drawn = self._merged(self._by_component(self._spread_draws, events, referenced))
        whole = np.maximum(self.draws(events), 1e-300)
        return {
            name: Range.of_draws(float(part) / value, np.asarray(drawn.get(name, 0.0)) / whole, level)
            for name, part in parts.items()
        }

    @cached_property
    def _spread_draws(self) -> npt.NDArray[np.float64]:
        """The draws as rows over EVENT_NAMES."""
        rows = np.zeros((_DRAWS, len(EVENT_NAMES)))
        rows[:, self._columns[0]] = self._draws
        return rows

    @staticmethod
    def _by_component(
        values: npt.NDArray[np.float64], counts: npt.NDArray[np.float64], referenced: npt.ArrayLike | None
    ) -> dict[str, Any]:
        """What each component costs, by one vector or by many (first axis)."""
        checked = np.zeros_like(counts) if referenced is None else _of_events("referenced", referenced)
        parts = {
            component: values[..., _PLACES[component]] @ (counts - checked)[_PLACES[component]]
            for component in COMPONENTS
        }
        parts[REFERENCE_CHECK] = parts[REFERENCE_CHECK] + values @ checked
        return parts

    def _merged(self, shares: Mapping[str, Any]) -> dict[str, Any]:
        """The shares, with components that `joint` ties together as one; those without a share are left out."""
        groups = [{component} for component in COMPONENTS]
        for events in self.joint:
            touched = {_COMPONENT_OF[event] for event in events}
            hit = [group for group in groups if group & touched]
            groups = [group for group in groups if group not in hit] + ([set().union(*hit)] if hit else [])
        order = list(COMPONENTS)
        merged = {
            " + ".join(sorted(group, key=order.index)): sum(shares[component] for component in group)
            for group in sorted(groups, key=lambda group: min(map(order.index, group)))
        }
        return {name: share for name, share in merged.items() if np.any(share)}

    def to_dict(self) -> dict[str, Any]:
        """Return the vector as plain values, as its TOML file holds it.

        Returns
        -------
        dict
            Keys ``name``, ``unit``, ``arch``, ``build``, ``note``, ``residual``, ``joint``, ``costs`` and ``members``.
        """
        document: dict[str, Any] = {
            "name": self.name,
            "unit": self.unit,
            "arch": self.arch,
            "build": self.build,
            "note": self.note,
        }
        document |= {"residual": self.residual, "joint": [list(events) for events in self.joint]}
        document["costs"] = {
            cost.event: {name: getattr(cost, name) for name in ("value", "low", "high", "kind", "source")}
            for cost in self.costs
        }
        return document | {"members": [list(member) for member in self.members]}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], where: str = "cost") -> CostVector:
        """Return the vector that :meth:`to_dict` described.

        Parameters
        ----------
        document : mapping
        where : str
            What the document is, for the error text.

        Returns
        -------
        CostVector

        Raises
        ------
        ValueError
            If a key is missing or unknown, or its value is not valid; the message names it.
        """
        if not isinstance(document, Mapping):
            raise ValueError(f"{where}: expected a table, got {document!r}")
        known = {"name", "unit", "arch", "build", "note", "residual", "joint", "costs", "members"}
        given = dict(document)
        for key in given:
            if key not in known:
                raise ValueError(
                    f"{where}: no such key {key!r}{closest(key, known)}; known are {', '.join(sorted(known))}"
                )
        for key in ("name", "unit", "arch", "costs"):
            if key not in given:
                raise ValueError(f"{where}: the key {key!r} is missing")
        if not isinstance(given["costs"], Mapping):
            raise ValueError(f"{where}: costs: expected a table of events, got {given['costs']!r}")
        for event, figures in given["costs"].items():
            wanted = {"value", "low", "high", "kind", "source"}
            if not isinstance(figures, Mapping) or set(figures) != wanted:
                raise ValueError(f"{where}: costs.{event}: expected {', '.join(sorted(wanted))}, got {figures!r}")
        try:
            given["costs"] = tuple(Cost(event, **figures) for event, figures in given["costs"].items())
            given["joint"] = tuple(tuple(events) for events in given.get("joint", ()))
            given["members"] = tuple(tuple(map(float, member)) for member in given.get("members", ()))
            return cls(**given)
        except (TypeError, ValueError, OverflowError) as error:  # the last of an integer that no float holds
            raise ValueError(f"{where}: {error}") from None

    def to_toml(self, table: str = "") -> str:
        """Return the vector as TOML that reads back as an equal one: at top level, or as the table of that name.

        Parameters
        ----------
        table : str
            Name of the table; "" for the top level.

        Returns
        -------
        str
        """
        document = self.to_dict()
        members = document.pop("members")
        lines = [f"[{table}]"] if table else []
        lines += [f"{key} = {toml_value(value)}" for key, value in document.items() if key != "costs"]
        if members:
            lines += ["members = [", *(f"  {toml_value(member)}," for member in members), "]"]
        prefix = f"{table}." if table else ""
        for event, figures in document["costs"].items():
            lines += ["", f"[{prefix}costs.{event}]"]
            lines += [f"{key} = {toml_value(value)}" for key, value in figures.items()]
        return "\n".join(lines) + "\n"


def matrix(costs: Iterable[CostVector]) -> npt.NDArray[np.float64]:
    """Return the values of vectors as float64 of shape (k, len(EVENT_NAMES)), for :meth:`rmapfast.Result.price`.

    Parameters
    ----------
    costs : iterable of CostVector, of length k

    Returns
    -------
    ndarray of float64, shape (k, len(EVENT_NAMES))
    """
    return np.array([vector.values for vector in costs])


@cache
def names() -> tuple[str, ...]:
    """Return the names of the vectors that come with the package.

    Examples
    --------
    >>> import rmapfast as rf
    >>> {"x86-64", "arm64-4k"} <= set(rf.cost.names())
    True
    """
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


@cache
def _packaged(name: str) -> CostVector:
    text = (_FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    return CostVector.from_dict(tomllib.loads(text), name)


def _of_events(name: str, counts: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return what an argument counts of each event, as floats."""
    array: npt.NDArray[Any] | None
    try:
        array = np.asarray(counts)
    except ValueError:  # a list of lists of several lengths
        array = None
    if array is None or array.dtype.kind not in "uif" or array.shape != (len(EVENT_NAMES),):
        raise TypeError(f"{name}: expected a number for each of the {len(EVENT_NAMES)} events, got {shown(counts)}")
    return array.astype(float)


def get(costs: str | os.PathLike[str] | CostVector) -> CostVector:
    """Return the vector itself, the one of that name, or the one in a TOML file.

    Parameters
    ----------
    costs : str, path or CostVector

    Returns
    -------
    CostVector

    Raises
    ------
    ValueError
        If no vector has that name, or the file is not a cost vector; the message lists the valid names.

    Examples
    --------
    >>> import rmapfast as rf
    >>> rf.cost.get("arm64-4k").unit
    'ns'
    """
    if isinstance(costs, CostVector):
        return costs
    if isinstance(costs, str) and costs in names():
        return _packaged(costs)
    path = checked_path("costs", costs)
    if path.suffix != ".toml":
        raise ValueError(
            f"cost: no vector {str(costs)!r}{closest(str(costs), names())}; known are {', '.join(names())}"
        )
    return CostVector.from_dict(read_toml(path), str(path))
