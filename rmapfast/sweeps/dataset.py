"""A sweep as xarray.Dataset, as columns with a row per point, and as pandas.DataFrame."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from rmapfast._version import __version__
from rmapfast.events import EVENT_NAMES
from rmapfast.support import imported
from rmapfast.sweeps.data import SweepData
from rmapfast.sweeps.points import Record, counts_of

_Number = TypeVar("_Number", np.uint64, np.int64, np.float64)

# Sizes of a record, with their units.
SIZES: dict[Literal["target_pages", "reclaimed_pages"], str] = {
    "target_pages": "base pages",
    "reclaimed_pages": "base pages",
}
# What stands before the name of an event that the reference checks counted, and before a component of the prediction.
REFERENCED, _BREAKDOWN = "referenced.", "breakdown."


def to_xarray(sweep: SweepData) -> Any:
    """Return the sweep as xarray.Dataset; see :meth:`Sweep.to_xarray`."""
    (xarray,) = imported(["xarray"], "datasets", "xarray")
    space, prices = sweep.space, sweep.prices
    dims = tuple(dimension.name for dimension in space.dimensions)
    inner = tuple(dims[number] for number in sweep.structural)
    simulated = Simulated(sweep)
    lengths = sorted({int(nr) for record in simulated.records if record for nr in record.get("batch_lengths", ())})
    variables: dict[str, Any] = {
        "events": ((*inner, "event"), simulated.counts("events"), {"units": "1"}),
        "referenced_events": ((*inner, "event"), simulated.counts("referenced_events"), {"units": "1"}),
        "batch_lengths": ((*inner, "nr"), simulated.lengths(lengths), {"units": "1"}),
        "status": (inner, simulated.status()),
        "error": (inner, simulated.texts("error")),
    }
    for name, unit in SIZES.items():
        variables[name] = (inner, simulated.sizes(name), {"units": unit})
    variables["wall_s"] = (inner, simulated.wall_s(), {"units": "s"})
    variables["arch_name"] = (inner, simulated.texts("arch"))
    if prices.unit:
        priced = {"units": prices.unit}
        variables |= {
            "predicted": (dims, prices.predicted, priced),
            "predicted_interval": ((*dims, "bound"), np.stack([prices.low, prices.high], -1), priced),
            "breakdown": ((*dims, "component"), np.stack(list(prices.breakdown.values()), -1), priced),
            "per_page": (dims, prices.per_page, {"units": f"{prices.unit} per reclaimed page"}),
            "without_price": (dims, prices.unpriced),
        }
        if prices.gain is not None:
            variables["gain"] = (dims, prices.gain, {"units": "1", "baseline": "the first policy"})
    variables["provenance"] = ((), json.dumps(sweep.provenance))
    coordinates: dict[str, Any] = {
        "event": list(EVENT_NAMES),
        "nr": ("nr", np.array(lengths, np.int64), {"units": "pages"}),
    }
    if prices.unit:
        coordinates |= {"bound": ["low", "high"], "component": list(prices.breakdown)}
    for dimension in space.dimensions:
        for axis in dimension.axes:
            coordinates[axis.name] = (dimension.name, axis.labels, {"units": axis.unit} if axis.unit else {})
        if dimension.name not in coordinates:
            coordinates[dimension.name] = np.arange(len(dimension))
    return xarray.Dataset(variables, coordinates, {"rmapfast": __version__})


class Simulated:
    """Records as arrays over the structural dimensions; 0, NaN and empty texts where there is none."""

    def __init__(self, sweep: SweepData) -> None:
        self.shape = tuple(sweep.space.shape[number] for number in sweep.structural)
        self.sweep = sweep
        self.indices = [tuple(index[number] for number in sweep.structural) for index in sweep.simulations]
        self.records = [sweep.records.get(key) for key in sweep.simulations.values()]

    @property
    def done(self) -> list[Record | None]:
        """The records of simulations that were done, None of the others."""
        return [None if record is None or "error" in record else record for record in self.records]

    def _filled(self, empty: npt.NDArray[_Number], value: Callable[[Record], Any]) -> npt.NDArray[_Number]:
        for index, record in zip(self.indices, self.done, strict=True):
            if record is not None:
                empty[index] = value(record)
        return empty

    def counts(self, key: Literal["events", "referenced_events"]) -> npt.NDArray[np.uint64]:
        """Return counts, with a last axis over EVENT_NAMES."""
        empty = np.zeros((*self.shape, len(EVENT_NAMES)), np.uint64)
        return self._filled(empty, lambda record: counts_of(record, key))

    def lengths(self, lengths: list[int]) -> npt.NDArray[np.uint64]:
        """Return counts of unmap steps, with a last axis over these lengths."""
        empty = np.zeros((*self.shape, len(lengths)), np.uint64)
        return self._filled(empty, lambda record: [record["batch_lengths"].get(str(nr), 0) for nr in lengths])

    def sizes(self, name: Literal["target_pages", "reclaimed_pages"]) -> npt.NDArray[np.int64]:
        """Return a size in base pages."""
        return self._filled(np.zeros(self.shape, np.int64), lambda record: record[name])

    def wall_s(self) -> npt.NDArray[np.float64]:
        """Return the seconds that simulations took."""
        return self._filled(np.full(self.shape, np.nan), lambda record: record["wall_s"])

    def status(self) -> npt.NDArray[np.str_]:
        """Return what became of the simulations."""
        status = np.full(self.shape, "dropped", "<U7")
        for index, full in zip(self.indices, self.sweep.simulations, strict=True):
            status[index] = self.sweep.status(full)
        return status

    def texts(self, key: Literal["arch", "error"]) -> npt.NDArray[np.str_]:
        """Return a text."""
        texts = np.full(self.shape, "", object)
        for index, record in zip(self.indices, self.records, strict=True):
            texts[index] = (record or {}).get(key, "")
        return texts.astype(np.str_)

    def positions(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the number of the simulation of each row of indices, of shape (rows, structural dimensions)."""
        if not self.shape:
            return np.zeros(len(indices), np.int64)
        known = np.ravel_multi_index(tuple(np.array(self.indices).T), self.shape)
        return np.asarray(np.searchsorted(known, np.ravel_multi_index(tuple(indices.T), self.shape)), np.int64)


def columns(sweep: SweepData, *, counts: bool = True) -> dict[str, npt.NDArray[Any]]:
    """Return an array per column and a row per point that the constraints keep, in the order of the space.

    Counts of points that were not simulated are masked, prices are NaN.

    Parameters
    ----------
    sweep : SweepData
    counts : bool
        Also the counts, after axes and prices.
    """
    space, prices = sweep.space, sweep.prices
    rows = np.argwhere(space.kept)

    def of(array: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.atleast_1d(array[tuple(rows.T)])

    found: dict[str, npt.NDArray[Any]] = {
        axis.name: axis.labels[rows[:, number]]
        for number, dimension in enumerate(space.dimensions)
        for axis in dimension.axes
    }
    simulated = Simulated(sweep)
    at = simulated.positions(rows[:, list(sweep.structural)])
    found["status"] = np.array([sweep.status(index) for index in sweep.simulations])[at]
    if unit := prices.unit:
        found[f"predicted_{unit}"] = of(prices.predicted)
        found[f"predicted_low_{unit}"] = of(prices.low)
        found[f"predicted_high_{unit}"] = of(prices.high)
        found[f"per_page_{unit}"] = of(prices.per_page)
        if prices.gain is not None:
            found["gain"] = of(prices.gain)
        found |= {f"{_BREAKDOWN}{name}_{unit}": of(share) for name, share in prices.breakdown.items()}
        found["without_price"] = np.atleast_1d(prices.unpriced[tuple(rows.T)])
    if not counts:
        return found
    records = simulated.done
    missing = np.array([record is None for record in records])

    def column(values: list[Any], kind: type[np.generic]) -> npt.NDArray[Any]:
        array = np.array(values, kind)[at]
        return np.ma.masked_array(array, missing[at]) if missing.any() else array

    for size in SIZES:
        found[size] = column([record[size] if record else 0 for record in records], np.int64)
    found["wall_s"] = column([record["wall_s"] if record else 0 for record in records], np.float64)
    for event in EVENT_NAMES:
        found[event] = column([record["events"].get(event, 0) if record else 0 for record in records], np.uint64)
    for event in EVENT_NAMES:
        values = [record["referenced_events"].get(event, 0) if record else 0 for record in records]
        if any(values):
            found[REFERENCED + event] = column(values, np.uint64)
    found["batch_lengths"] = np.array([_lengths_text(record) for record in records])[at]
    found["arch_name"] = np.array([(record or {}).get("arch", "") for record in simulated.records])[at]
    found["error"] = np.array([(record or {}).get("error", "") for record in simulated.records])[at]
    return found


def _lengths_text(record: Record | None) -> str:
    return " ".join(f"{nr}:{count}" for nr, count in record["batch_lengths"].items()) if record else ""


def plain(array: npt.NDArray[Any]) -> list[Any]:
    """Return the values of a column as plain values; None where there is none."""
    values: list[Any] = array.tolist()
    if isinstance(array, np.ma.MaskedArray) or array.dtype.kind != "f":
        return values
    return [None if value != value else value for value in values]


def document(sweep: SweepData) -> dict[str, Any]:
    """Return the sweep as a dict that serialises to JSON: a list per column of axes and prices, and the records."""
    table = columns(sweep, counts=False)
    return {
        "provenance": sweep.provenance,
        "columns": {name: plain(array) for name, array in table.items()},
        "records": sweep.records,
    }


def to_dataframe(sweep: SweepData) -> Any:
    """Return the table as pandas.DataFrame; see :meth:`Sweep.to_dataframe`."""
    (pandas,) = imported(["pandas"], "data frames", "xarray")

    def series(array: npt.NDArray[Any]) -> Any:
        if not isinstance(array, np.ma.MaskedArray):
            return array
        if array.dtype.kind == "f":
            return array.filled(np.nan)
        return pandas.arrays.IntegerArray(array.data.copy(), np.ma.getmaskarray(array).copy())

    return pandas.DataFrame({name: series(array) for name, array in columns(sweep).items()})
