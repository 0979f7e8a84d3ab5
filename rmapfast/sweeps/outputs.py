"""What a sweep gives out: its outputs at all points, and what its dimensions and their steps are called."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from rmapfast.events import EVENT_NAMES
from rmapfast.support import closest
from rmapfast.sweeps.axes import Axis, Dimension, word
from rmapfast.sweeps.data import SweepData
from rmapfast.sweeps.points import Record, counts_of

# Words


def steps(dimension: Dimension) -> list[str]:
    """Return what each step of a dimension is called: by its first axis, or by all if that does not tell them apart."""
    labels = [[word(one) for one in axis.labels.tolist()] for axis in _shown_axes(dimension)]
    return ["/".join(words) for words in zip(*labels, strict=True)]


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


def known_outputs(sweep: SweepData) -> list[str]:
    """Return the names of the outputs that a sweep has, the one that is shown by default first."""
    prices, along = sweep.prices, sweep.space.policy_dimension
    if not prices.unit:
        return [*EVENT_NAMES]
    several = along is not None and len(sweep.space.dimensions[along]) > 1
    return [*(["gain"] if several else []), "per_page", "predicted", *prices.breakdown, *EVENT_NAMES]


def output_name(sweep: SweepData, name: str | None = None) -> str:
    """Return the name of an output, or of the one that is shown by default.

    Raises
    ------
    ValueError
        If the sweep has no such output.
    """
    known = known_outputs(sweep)
    name = name or (known[0] if sweep.prices.unit else "walk_pte_reads")
    if name not in known:
        raise ValueError(f"value: no output {name!r} in this sweep{closest(name, known)}; it has {', '.join(known)}")
    return name


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
    name = output_name(sweep, name)
    prices, unit = sweep.prices, sweep.prices.unit
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
