"""What of a sweep is shown: one of its outputs, over one or two of its axes, for tables and for plots."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rmapfast.support import closest
from rmapfast.sweeps.axes import Dimension
from rmapfast.sweeps.data import SweepData
from rmapfast.sweeps.mean import MeanData
from rmapfast.sweeps.outputs import axis_name, output_name, steps, value_of
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
    bounds : list of (ndarray, ndarray)
        The lower and the upper bound of each table of means; none without means.
    bounds_are : str
        What the bounds are.
    by_error : bool
        Whether they are a standard error from the mean.
    """

    label: str
    x: Dimension
    y: Dimension | None
    facets: list[tuple[str, npt.NDArray[np.float64]]]
    bounds: list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]
    bounds_are: str = ""
    by_error: bool = False


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
    sweep: SweepData | MeanData,
    *,
    value: str | None = None,
    x: str | None = None,
    y: str | None = None,
    at: Mapping[str, Any] | None = None,
) -> View:
    """Return the tables of an output.

    Parameters
    ----------
    sweep : Sweep or SweepMean
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
    if isinstance(sweep, MeanData):
        name, mean = output_name(sweep.sweep, value), sweep.output(value)
        arrays, output = [mean.values, mean.low, mean.high], f"{mean.label}, mean"
    else:
        name = output_name(sweep, value)
        array, output = value_of(sweep, value)
        arrays = [array]
    chosen = chosen_steps(space, at or {})
    # the first policy has no gain over itself, so it is not shown
    baseline = space.policy_dimension if name == "gain" else None
    wanted = [None if name is None else space.along(name) for name in (x, y)]
    across, down = _placed(space, wanted, [*chosen], baseline)
    others = [n for n in range(len(space.shape)) if n not in (across, down)]
    ranges = [
        [chosen[n]] if n in chosen else range(1, space.shape[n]) if n == baseline else range(space.shape[n])
        for n in others
    ]
    facets, bounds = [], []
    for index in itertools.product(*ranges):
        place: list[int | slice] = [slice(None)] * len(space.shape)
        for n, step in zip(others, index, strict=True):
            place[n] = step
        taken = [array[tuple(place)] for array in arrays]
        table, *around = (one[None] if down is None else one if down < across else one.T for one in taken)
        if not np.isnan(table).all():
            facets.append((_facet_words(space, zip(others, index, strict=True)), table))
            bounds += [(around[0], around[1])] if around else []
    rows = None if down is None else space.dimensions[down]
    if not isinstance(sweep, MeanData):
        return View(output, space.dimensions[across], rows, facets, bounds)
    return View(output, space.dimensions[across], rows, facets, bounds, sweep.bounds, sweep.quantiles is None)


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
