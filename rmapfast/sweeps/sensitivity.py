"""Sensitivity: which axis of a sweep moves the predicted gain most."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rmapfast.cost import Range
from rmapfast.support import (
    WIDTH,
    Figure,
    HtmlPart,
    Share,
    between,
    data_frame,
    dataset,
    html_of,
    imported,
    paragraph,
    signed,
)
from rmapfast.sweeps.data import SweepData
from rmapfast.sweeps.outputs import axis_name, steps, value_of
from rmapfast.sweeps.prices import draws_per_page

# Saltelli samples: (axes + 2) times as many lookups in the sweep, none of which is a simulation.
_SAMPLES = 1024


@dataclass(frozen=True)
class Effect:
    """What one axis does to the output.

    Parameters
    ----------
    axis : str
        Its name; names of axes that step together are joined by ``/``.
    lowest, highest : tuple of (str, float)
        Its step with the lowest and with the highest output, the other axes at the base, and the output there.
    swing_interval : tuple of float
        Bounds of the 90% interval of :attr:`swing`; both steps are drawn together where they share their costs.
    total : float or None
        Total-order Sobol index, 0 to 1: share of the output's variance over the whole sweep that this axis has a part
        in. None if there are no Sobol indices (:attr:`Ranking.note`).
    confidence : float or None
        Half-width of its 95% interval.

    Examples
    --------
    >>> import rmapfast as rf
    >>> axes = {"population.size": "1MiB", "population.order": [0, 4], "policy": ["per-page", "v7.0"], "arch": "x86-64"}
    >>> [effect] = rf.sweep(axes).rank().effects
    >>> effect.lowest[0], effect.highest[0]
    ('0', '4')
    """

    axis: str
    lowest: tuple[str, float]
    highest: tuple[str, float]
    swing_interval: tuple[float, float]
    total: float | None
    confidence: float | None

    @property
    def swing(self) -> float:
        """How far the axis alone moves the output: the highest less the lowest."""
        return self.highest[1] - self.lowest[1]


@dataclass(frozen=True, repr=False)
class Ranking:
    """Axes by how much they move the output, the strongest first.

    Parameters
    ----------
    output : str
        What is moved: the predicted gain (a share), or the prediction per reclaimed page, with its unit.
    base : dict of str to str
        The point from which one axis is moved at a time: a step by axis.
    base_value : float
        The output there.
    base_interval : tuple of float
        Bounds of its 90% interval.
    effects : tuple of Effect
    note : str
        Why there are no Sobol indices, or an empty text.

    Examples
    --------
    >>> import rmapfast as rf
    >>> axes = {"population.size": "1MiB", "population.order": [0, 4], "policy": ["per-page", "v7.0"], "arch": "x86-64"}
    >>> [effect.axis for effect in rf.sweep(axes).rank().effects]
    ['population.order']
    """

    output: str
    base: dict[str, str]
    base_value: float
    base_interval: tuple[float, float]
    effects: tuple[Effect, ...]
    note: str

    def __len__(self) -> int:
        """Return the number of axes."""
        return len(self.effects)

    def __iter__(self) -> Iterator[Effect]:
        """Yield the axes, the strongest first."""
        return iter(self.effects)

    def __repr__(self) -> str:
        """Return the table, a row per axis."""
        words = [("axis", "lowest", "highest", "swing", "90%", "total order")]
        for one in self.effects:
            (lowest, low), (highest, high) = one.lowest, one.highest
            total = "-" if one.total is None else f"{one.total:.3f} +- {one.confidence:.3f}"
            swing, interval = signed(one.swing), between(one.swing_interval)
            extremes = (f"{signed(low)} at {lowest}", f"{signed(high)} at {highest}")
            words.append((one.axis, *extremes, swing, interval, total))
        widths = [max(len(row[at]) for row in words) for at in range(len(words[0]))]
        lines = [
            f"what moves the {self.output}",
            *paragraph(self._about),
            *paragraph("total order: share of the variance over all points that the axis has a part in (Sobol)"),
            "",
        ]
        # a table that is too wide has each axis on a line of its own
        wide = sum(widths) + 2 * (len(widths) - 1) > WIDTH
        for row in words:
            cells = "  ".join(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
            lines += [row[0], f"  {cells}"] if wide else [f"{row[0]:<{widths[0]}}  {cells}"]
        return "\n".join(lines + (["", *paragraph(self.note)] if self.note else []))

    @property
    def _about(self) -> str:
        """From where axes are moved."""
        base = ", ".join(f"{name} {step}" for name, step in self.base.items())
        at_base = f"{signed(self.base_value)} (90%: {between(self.base_interval)})"
        return f"one axis at a time, from {base}, where it is {at_base}"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the table."""
        rows = [
            (
                one.axis,
                one.lowest[0],
                Figure(signed(one.lowest[1])),
                one.highest[0],
                Figure(signed(one.highest[1])),
                Figure(signed(one.swing)),
                Figure(between(one.swing_interval)),
                None if one.total is None else Share(one.total),
            )
            for one in self.effects
        ]
        header = ("axis", "lowest at", "value", "highest at", "value", "swing", "90%", "total order")
        notes = [note for note in (self._about, self.note) if note]
        part = HtmlPart("axes", rows, header, notes, open=True)
        return html_of("Ranking", f"what moves the {self.output}", f"{len(self)} axes", [part])

    def _columns(self) -> dict[str, list[Any]]:
        return {
            "axis": [one.axis for one in self.effects],
            "lowest_at": [one.lowest[0] for one in self.effects],
            "lowest": [one.lowest[1] for one in self.effects],
            "highest_at": [one.highest[0] for one in self.effects],
            "highest": [one.highest[1] for one in self.effects],
            "swing": [one.swing for one in self.effects],
            "swing_low": [one.swing_interval[0] for one in self.effects],
            "swing_high": [one.swing_interval[1] for one in self.effects],
            "total_order": [math.nan if one.total is None else one.total for one in self.effects],
            "confidence": [math.nan if one.confidence is None else one.confidence for one in self.effects],
        }

    def to_dataframe(self) -> Any:
        """Return the ranking as a pandas.DataFrame, a row per axis.

        Returns
        -------
        pandas.DataFrame
            ``axis``; ``lowest_at``, ``lowest``, ``highest_at``, ``highest``: the steps with the lowest and the highest
            output, and the output there; ``swing`` with the bounds ``swing_low``, ``swing_high``; ``total_order`` and
            its ``confidence``, NaN where there are no Sobol indices.

        Raises
        ------
        ImportError
            If pandas is not installed; the message has the pip command.
        """
        return data_frame(self._columns())

    def to_xarray(self) -> Any:
        """Return the ranking as an xarray.Dataset along ``axis``, with the columns of :meth:`to_dataframe`.

        Returns
        -------
        xarray.Dataset

        Raises
        ------
        ImportError
            If xarray is not installed; the message has the pip command.
        """
        columns = self._columns()
        axes = columns.pop("axis")
        attributes = {"output": self.output, "base": self._about, "note": self.note}
        return dataset({name: ("axis", values) for name, values in columns.items()}, {"axis": axes}, attributes)

    def to_dict(self) -> dict[str, Any]:
        """Return the ranking as a dict that serialises to JSON.

        Returns
        -------
        dict
        """
        effects = [
            {
                "axis": one.axis,
                "swing": one.swing,
                "swing_interval": list(one.swing_interval),
                "lowest": list(one.lowest),
                "highest": list(one.highest),
                "total_order": one.total,
                "total_order_confidence": one.confidence,
            }
            for one in self.effects
        ]
        return {
            "output": self.output,
            "base": self.base,
            "base_value": self.base_value,
            "base_interval": list(self.base_interval),
            "effects": effects,
            "note": self.note,
        }


def rank(sweep: SweepData, *, seed: int = 0) -> Ranking:
    """Rank the axes of a sweep; see :meth:`Sweep.rank`."""
    space, along = sweep.space, sweep.space.policy_dimension
    if not sweep.prices.unit:
        raise ValueError("rank: no point has a price; give an architecture with costs, or costs=")
    name = "per_page" if along is None or len(space.dimensions[along]) < 2 else "gain"
    values, label = value_of(sweep, name)
    if along is not None:
        policies = steps(space.dimensions[along])
        values = np.take(values, [-1], axis=along)
        label += f" ({policies[-1]} over {policies[0]})" if name == "gain" else ""
    moved = [number for number, size in enumerate(values.shape) if size > 1]
    if not moved:
        raise ValueError("rank: expected an axis of two values or more beside the policies, got none")
    known = np.argwhere(~np.isnan(values))
    if not len(known):
        raise ValueError("rank: no point has a value")
    distance = np.abs(known - np.array(values.shape) // 2).sum(axis=1)
    middle = tuple(int(at) for at in known[np.argmin(distance)])

    def drawn(index: tuple[int, ...]) -> npt.NDArray[np.float64]:
        return _drawn(sweep, index, along if name == "gain" else None)

    totals, confidences, note = _sobol(values, moved, seed)
    effects = []
    for at, number in enumerate(moved):
        line = values[tuple(slice(None) if one == number else middle[one] for one in range(values.ndim))]
        words = steps(space.dimensions[number])
        low, high = int(np.nanargmin(line)), int(np.nanargmax(line))
        ends = [drawn(tuple(end if one == number else at for one, at in enumerate(middle))) for end in (low, high)]
        effects.append(
            Effect(
                axis_name(space.dimensions[number]),
                (words[low], float(line[low])),
                (words[high], float(line[high])),
                Range.of_draws(float(line[high] - line[low]), ends[1] - ends[0])[1:],
                totals[at] if totals else None,
                confidences[at] if confidences else None,
            )
        )
    effects.sort(key=lambda one: (-(one.total or 0.0), -one.swing))
    base = {axis_name(space.dimensions[number]): steps(space.dimensions[number])[middle[number]] for number in moved}
    value = float(values[middle])
    return Ranking(label, base, value, Range.of_draws(value, drawn(middle))[1:], tuple(effects), note)


def _drawn(sweep: SweepData, index: tuple[int, ...], policies: int | None) -> npt.NDArray[np.float64]:
    """Return the output at a point by draw: the gain of the last policy over the first, or the price per page.

    Parameters
    ----------
    sweep : SweepData
    index : tuple of int
    policies : int or None
        The dimension of the policies if the output is the gain.
    """

    def per_page(step: int | None) -> npt.NDArray[np.float64]:
        place = tuple(step if n == policies and step is not None else at for n, at in enumerate(index))
        return draws_per_page(sweep.space, sweep.simulations, sweep.records, place)

    if policies is None:
        return per_page(None)
    return 1 - per_page(sweep.space.shape[policies] - 1) / per_page(0)


def _sobol(
    values: npt.NDArray[np.float64], moved: list[int], seed: int
) -> tuple[list[float] | None, list[float] | None, str]:
    """Return total-order indices and the half-widths of their intervals, or None and why."""
    if missing := int(np.isnan(values).sum()):
        return None, None, f"no Sobol indices: {missing} of {values.size} points were dropped or failed"
    if not np.ptp(values):
        return None, None, "no Sobol indices: the output is the same everywhere"
    try:
        _, analysis, sampling = imported(["SALib", "SALib.analyze.sobol", "SALib.sample.sobol"], "they", "sensitivity")
    except ImportError as error:
        return None, None, f"no Sobol indices: {error}"
    names = [f"x{number}" for number in moved]
    problem = {"num_vars": len(moved), "names": names, "bounds": [[0.0, 1.0]] * len(moved)}
    seed %= (1 << 32) - 1  # SALib takes no larger ones
    points = sampling.sample(problem, _SAMPLES, calc_second_order=False, seed=seed)
    index = [np.zeros(len(points), np.int64)] * values.ndim
    for column, number in enumerate(moved):
        index[number] = np.minimum(
            (points[:, column] * values.shape[number]).astype(np.int64), values.shape[number] - 1
        )
    # SALib takes a seed of 0 for none.
    found = analysis.analyze(problem, values[tuple(index)], calc_second_order=False, seed=seed + 1)
    return [float(one) for one in found["ST"]], [float(one) for one in found["ST_conf"]], ""
