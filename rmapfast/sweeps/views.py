"""What of a sweep is shown: one of its outputs, over one or two of its axes, for tables and for plots."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rmapfast.events import EVENT_NAMES
from rmapfast.support import closest
from rmapfast.sweeps.axes import Axis, Dimension
from rmapfast.sweeps.data import SweepData
from rmapfast.sweeps.points import Record, counts_of
from rmapfast.sweeps.space import Space


@dataclass(frozen=True)
class View:
    """Tables of one output over two axes, or over one.

    Parameters
    ----------
    label : str
        The output.
    x : Dimension
        Along the columns.
    y : Dimension or None
        Along the rows; None of tables with one row.
    facets : list of (str, ndarray of float64, shape (rows, columns))
        A table per step of the other axes, with the words that say which; NaN where there is no value.
    """

    label: str
    x: Dimension
    y: Dimension | None
    facets: list[tuple[str, npt.NDArray[np.float64]]]


# Words


def steps(dimension: Dimension) -> list[str]:
    """Return what each step of a dimension is called: by its first axis, or by all if that does not tell them apart."""
    labels = [[word(one) for one in axis.labels.tolist()] for axis in _shown_axes(dimension)]
    return ["/".join(words) for words in zip(*labels, strict=True)]


def word(value: object) -> str:
    """Return a label as text."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _shown_axes(dimension: Dimension) -> tuple[Axis, ...]:
    """Return the axes by which the steps of a dimension are called."""
    first = dimension.axes[0]
    tells = dimension.name == first.name and len(set(first.labels.tolist())) == len(dimension)
    return (first,) if tells else dimension.axes


def axis_name(dimension: Dimension) -> str:
    """Return the name of a dimension: its first axis, or all if that does not tell its steps apart."""
    return "/".join(axis.name for axis in _shown_axes(dimension))


def title(dimension: Dimension) -> str:
    """Return the name of a dimension with its unit."""
    units = {axis.unit for axis in _shown_axes(dimension)}
    unit = next(iter(units)) if len(units) == 1 else ""
    return f"{axis_name(dimension)} ({unit})" if unit not in ("", "1") else axis_name(dimension)


# Outputs


def value_of(sweep: SweepData, name: str | None = None) -> tuple[npt.NDArray[np.float64], str]:
    """Return an output at all points, and what it is called.

    Parameters
    ----------
    sweep : Sweep
    name : str, optional
        ``gain``, ``per_page``, ``predicted``, a component of the prediction or an event, both per reclaimed page; by
        default the gain if there are policies to compare, else the prediction per page, else ``walk_pte_reads``.

    Returns
    -------
    values : ndarray of float64, shape of the space
        NaN where a point has none.
    label : str

    Raises
    ------
    ValueError
        If the sweep has no such output.
    """
    prices, along = sweep.prices, sweep.space.policy_dimension
    unit = prices.unit
    known = [*EVENT_NAMES]
    if unit:
        several = along is not None and len(sweep.space.dimensions[along]) > 1
        known = [*(["gain"] if several else []), "per_page", "predicted", *prices.breakdown, *known]
    name = name or (known[0] if unit else "walk_pte_reads")
    if name not in known:
        raise ValueError(f"value: no output {name!r} in this sweep{closest(name, known)}; it has {', '.join(known)}")
    if name == "gain" and prices.gain is not None:
        return prices.gain, "predicted gain per reclaimed page"
    if name == "per_page":
        return prices.per_page, f"predicted {unit} per reclaimed page"
    if name == "predicted":
        return prices.predicted, f"predicted {unit}"
    pages = _of_records(sweep, lambda record: record["reclaimed_pages"] or math.nan)
    if name in prices.breakdown:
        return prices.breakdown[name] / pages, f"predicted {unit} of {name} per reclaimed page"
    index = EVENT_NAMES.index(name)
    return _of_records(sweep, lambda record: counts_of(record, "events")[index]) / pages, f"{name} per reclaimed page"


def _of_records(sweep: SweepData, value: Callable[[Record], float]) -> npt.NDArray[np.float64]:
    """Return a value of each record at all points."""
    array = np.full([n if at in sweep.structural else 1 for at, n in enumerate(sweep.space.shape)], np.nan)
    for index, key in sweep.simulations.items():
        record = sweep.records.get(key)
        if record and "error" not in record:
            array[index] = value(record)
    return np.where(sweep.space.kept, array, np.nan)


# Tables of an output


def chosen_steps(space: Space, at: Mapping[str, Any]) -> dict[int, int]:
    """Return the number of the step that each name means, by the number of the dimension.

    Parameters
    ----------
    space : Space
    at : mapping
        What a step is called (:func:`steps`), by the name of an axis.

    Raises
    ------
    ValueError
        If the space has no such axis or step.
    """
    chosen = {}
    for name, called in at.items():
        along = space.along(name)
        words = steps(space.dimensions[along])
        if str(called) not in words:
            raise ValueError(f"{name}: no step {called!r}{closest(called, words)}; it has {', '.join(words)}")
        chosen[along] = words.index(str(called))
    return chosen


def view(
    sweep: SweepData,
    *,
    value: str | None = None,
    x: str | None = None,
    y: str | None = None,
    at: Mapping[str, Any] | None = None,
) -> View:
    """Return the tables of an output.

    Parameters
    ----------
    sweep : Sweep
    value : str, optional
        See :func:`value_of`.
    x, y : str, optional
        Axes along the columns and rows; by default the last two that have several steps.
    at : mapping of str to str, optional
        Of further axes, the step to show.

    Raises
    ------
    ValueError
        If the sweep has no such output, axis or step.
    """
    space = sweep.space
    array, output = value_of(sweep, value)
    chosen = chosen_steps(space, at or {})
    # the first policy has no gain over itself, so it is not shown
    baseline = space.policy_dimension if array is sweep.prices.gain else None
    wanted = [None if name is None else space.along(name) for name in (x, y)]
    across, down = _placed(space, wanted, [*chosen], baseline)
    others = [n for n in range(len(space.shape)) if n not in (across, down)]
    ranges = [
        [chosen[n]] if n in chosen else range(1, space.shape[n]) if n == baseline else range(space.shape[n])
        for n in others
    ]
    facets = []
    for index in itertools.product(*ranges):
        place: list[int | slice] = [slice(None)] * array.ndim
        for n, step in zip(others, index, strict=True):
            place[n] = step
        table = array[tuple(place)]
        table = table[None] if down is None else table if down < across else table.T
        if not np.isnan(table).all():
            facets.append((_facet_words(space, zip(others, index, strict=True)), table))
    return View(output, space.dimensions[across], None if down is None else space.dimensions[down], facets)


def _placed(space: Space, wanted: list[int | None], chosen: list[int], baseline: int | None) -> tuple[int, int | None]:
    """Return the dimensions along the columns and along the rows.

    Parameters
    ----------
    space : Space
    wanted : list of two
        What was asked for, or None.
    chosen : list
        Dimensions of which one step is shown.
    baseline : int or None
        The dimension of the policies, if the output is the gain; it is used only where no other is left.
    """
    several = [n for n, size in enumerate(space.shape) if size > 1 and n not in chosen]
    free = [n for n in several if n not in wanted and n != baseline] or [n for n in several if n not in wanted]
    across, down = wanted
    if across is None and free:
        across = free.pop()
    if across is None:
        across, down = (0 if space.shape else None) if down is None else down, None
    elif down is None and free and free[-1] != baseline:
        down = free.pop()
    if across is None:
        raise ValueError("sweep: one point has no axis to show")
    if across == down:
        raise ValueError(f"x and y: expected two axes, got {space.dimensions[across].name!r} twice")
    return across, down


def _facet_words(space: Space, index: Iterable[tuple[int, int]]) -> str:
    """Return which steps a table is of; a dimension with one step goes without saying."""
    shown = [(space.dimensions[n], step) for n, step in index if space.shape[n] > 1]
    return ", ".join(f"{axis_name(dimension)} {steps(dimension)[step]}" for dimension, step in shown)
