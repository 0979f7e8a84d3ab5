"""Means of a sweep over one of its axes, such as the seeds, and how far the single points lie from them."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from rmapfast._version import __version__
from rmapfast.support import checked_rate, data_frame, dataset
from rmapfast.sweeps.data import SweepData
from rmapfast.sweeps.outputs import axis_name, known_outputs, value_of
from rmapfast.sweeps.space import Space

_Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Averaged:
    """An output of a sweep, averaged over one axis.

    Arrays have the shape of :attr:`SweepMean.space`; NaN where no point has a value.

    Parameters
    ----------
    label : str
        What it is, with its unit.
    values : ndarray of float64
        The means.
    low, high : ndarray of float64
        The bounds around them; NaN for a standard error of a single point.
    points : ndarray of int64
        How many points each mean is of.
    """

    label: str
    values: _Array
    low: _Array
    high: _Array
    points: npt.NDArray[np.int64]


@dataclass(frozen=True, repr=False)
class MeanData:
    """Means of a sweep over one of its axes; :meth:`Sweep.mean` makes it.

    Parameters
    ----------
    sweep : Sweep
    over : str
        The axis whose points are averaged.
    quantiles : tuple of float, optional
        Shares of the points below the lower and the upper bound; by default the bounds are a standard error from the
        mean.
    """

    sweep: SweepData
    over: str
    quantiles: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Check the axis and the quantiles."""
        _ = self.number
        if self.quantiles is None:
            return
        if not isinstance(self.quantiles, tuple | list) or len(self.quantiles) != 2:
            raise TypeError(f"quantiles: expected two shares such as (0.05, 0.95), got {self.quantiles!r}")
        low, high = (checked_rate("quantiles", one) for one in self.quantiles)
        if low >= high:
            raise ValueError(f"quantiles: expected the lower one first, got {self.quantiles!r}")
        object.__setattr__(self, "quantiles", (low, high))

    @property
    def number(self) -> int:
        """Number of the dimension that is averaged."""
        return self.sweep.space.along(self.over)

    @cached_property
    def space(self) -> Space:
        """The space without that dimension."""
        left = [dimension for at, dimension in enumerate(self.sweep.space.dimensions) if at != self.number]
        return dataclasses.replace(self.sweep.space, dimensions=tuple(left), constraints=())

    @property
    def bounds(self) -> str:
        """What the bounds are, in words."""
        if self.quantiles is None:
            return "standard error"
        return " to ".join(f"{100 * one:g}%" for one in self.quantiles) + " of the points"

    @property
    def about(self) -> str:
        """What was averaged, and what the bounds are."""
        dimension = self.sweep.space.dimensions[self.number]
        return f"mean over {len(dimension)} steps of {axis_name(dimension)}, bounds: {self.bounds}"

    def output(self, name: str | None = None) -> Averaged:
        """Return an output, averaged. A gain is averaged as a gain: of each point over its own baseline.

        Parameters
        ----------
        name : str, optional
            ``gain``, ``per_page``, ``predicted``, a component of the prediction or an event, the last two per reclaimed
            page; the default is that of :func:`rmapfast.plot.sweep`.

        Returns
        -------
        Averaged

        Raises
        ------
        ValueError
            If the sweep has no such output.
        """
        array, label = value_of(self.sweep, name)
        points = np.count_nonzero(~np.isnan(array), axis=self.number)
        with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
            warnings.simplefilter("ignore", RuntimeWarning)  # about means of no points, which are NaN
            mean = np.asarray(np.nanmean(array, axis=self.number))
            if self.quantiles is None:
                error = np.asarray(np.nanstd(array, axis=self.number, ddof=1) / np.sqrt(points))
                low, high = mean - error, mean + error
            else:
                low, high = np.nanquantile(array, self.quantiles, axis=self.number)
        return Averaged(label, mean, np.asarray(low), np.asarray(high), np.asarray(points, np.int64))

    def sel(self, at: Mapping[str, Any] | None = None, **axes: Any) -> Self:
        """Return the means of a part of the sweep; the arguments are those of :meth:`Sweep.sel`.

        Returns
        -------
        SweepMean
        """
        return dataclasses.replace(self, sweep=self.sweep.sel(at, **axes))

    def __len__(self) -> int:
        """Return the number of means."""
        return int(np.count_nonzero(self.sweep.space.kept.any(axis=self.number)))

    def _outputs(self) -> dict[str, Averaged]:
        """Return all outputs that are not 0 everywhere, by name."""
        found = {name: self.output(name) for name in known_outputs(self.sweep)}
        return {name: one for name, one in found.items() if np.nan_to_num(one.values).any()}

    def _points(self, outputs: Mapping[str, Averaged]) -> npt.NDArray[np.int64]:
        """Return how many points each mean is of; a gain needs the baseline too, so it may be of less."""
        counts = [one.points for one in outputs.values()]
        return np.asarray(np.max(counts, axis=0) if counts else np.zeros(self.space.shape), np.int64)

    def to_xarray(self) -> Any:
        """Return an xarray.Dataset: each output over the axes that are left, with its bounds.

        Returns
        -------
        xarray.Dataset
            ``gain``, ``gain_low``, ``gain_high``, and so on for ``per_page``, ``predicted``, components and events (the
            last two per reclaimed page); ``points`` is how many points each mean is of. What each is, with its unit, is
            in the attribute ``long_name``.

        Raises
        ------
        ImportError
            If xarray is not installed; the message has the pip command.
        """
        dims = tuple(dimension.name for dimension in self.space.dimensions)
        variables: dict[str, Any] = {}
        outputs = self._outputs()
        variables["points"] = (dims, self._points(outputs), {"units": "1"})
        for name, one in outputs.items():
            for suffix, array in (("", one.values), ("_low", one.low), ("_high", one.high)):
                variables[name + suffix] = (dims, array, {"long_name": one.label})
        coordinates: dict[str, Any] = {
            axis.name: (dimension.name, axis.labels, {"units": axis.unit} if axis.unit else {})
            for dimension in self.space.dimensions
            for axis in dimension.axes
        }
        return dataset(variables, coordinates, {"rmapfast": __version__, "mean": self.about})

    def to_dataframe(self) -> Any:
        """Return a pandas.DataFrame with a row per mean.

        Returns
        -------
        pandas.DataFrame
            A column per axis that is left, ``points``, and per output its mean and bounds, named as in
            :meth:`to_xarray`.

        Raises
        ------
        ImportError
            If pandas is not installed; the message has the pip command.
        """
        return data_frame(self._columns())

    def to_dict(self) -> dict[str, Any]:
        """Return the table as a dict that serialises to JSON; None where there is no value.

        Returns
        -------
        dict
            ``mean`` (what it is), ``over``, ``bounds``, ``provenance``, and ``columns``: those of :meth:`to_dataframe`.
        """
        columns = {
            name: [None if one != one else one for one in array.tolist()] for name, array in self._columns().items()
        }
        head = {"mean": self.about, "over": self.over, "bounds": self.bounds}
        return head | {"provenance": self.sweep.provenance, "columns": columns}

    def _columns(self) -> dict[str, npt.NDArray[Any]]:
        rows = np.argwhere(self.sweep.space.kept.any(axis=self.number))
        at = tuple(rows.T)
        columns: dict[str, npt.NDArray[Any]] = {
            axis.name: axis.labels[rows[:, number]]
            for number, dimension in enumerate(self.space.dimensions)
            for axis in dimension.axes
        }
        outputs = self._outputs()
        columns["points"] = np.atleast_1d(self._points(outputs)[at])
        for name, one in outputs.items():
            for suffix, array in (("", one.values), ("_low", one.low), ("_high", one.high)):
                columns[name + suffix] = np.atleast_1d(array[at])
        return columns

    def __repr__(self) -> str:
        axes = ", ".join(f"{one.name} {len(one)}" for one in self.space.dimensions)
        return f"<SweepMean {axes or 'one point'}: {self.about}>"
