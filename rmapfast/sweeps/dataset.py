"""A sweep as xarray.Dataset, as table, and in files: netCDF, Parquet, CSV and JSON."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import io
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rmapfast._version import __version__
from rmapfast.events import EVENT_NAMES
from rmapfast.support import write_atomically
from rmapfast.sweeps.points import counts_of
from rmapfast.sweeps.run import Sweep
from rmapfast.sweeps.space import Space

# By ending: the modules that it needs, and the extra that brings them.
ENDINGS = {
    ".nc": (("xarray", "h5netcdf"), "netcdf"),
    ".parquet": (("pyarrow",), "parquet"),
    ".csv": ((), ""),
    ".json": ((), ""),
}
# What a record has besides counts.
_SCALARS = {"target_pages": "base pages", "reclaimed_pages": "base pages", "wall_s": "s"}
_REFERENCED, _BREAKDOWN = "referenced.", "breakdown."
# Of the first line of a CSV file.
_COMMENT = "# rmapfast sweep: "


def check_path(path: str | os.PathLike) -> Path:
    """Return the path if a sweep can be written in the format that its ending names.

    Raises
    ------
    ValueError, ImportError
        For another ending, or where a package is missing; the message has the pip command.
    """
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"output: expected a file ending in {', '.join(ENDINGS)}, got {str(path)!r}")
    modules, extra = ENDINGS[path.suffix.lower()]
    _import(modules, f"{path.suffix} files", extra)
    return path


def _import(modules: Sequence[str], what: str, extra: str):
    try:
        return [importlib.import_module(module) for module in modules]
    except ImportError as error:
        missing = error.name or modules[0]
        raise ImportError(f"{what} need {missing}; install it with: pip install 'rmapfast[{extra}]'") from None


# The dataset


def to_xarray(sweep: Sweep):
    """Return the sweep as xarray.Dataset; see :meth:`Sweep.to_xarray`."""
    (xarray,) = _import(["xarray"], "datasets", "xarray")
    space, prices = sweep.space, sweep.prices
    dims = tuple(dimension.name for dimension in space.dimensions)
    inner = tuple(dims[number] for number in sweep.structural)
    simulated = _Simulated(sweep)
    lengths = sorted({int(nr) for record in simulated.records if record for nr in record.get("batch_lengths", ())})
    variables = {
        "events": ((*inner, "event"), simulated.counts("events"), {"units": "1"}),
        "referenced_events": ((*inner, "event"), simulated.counts("referenced_events"), {"units": "1"}),
        "batch_lengths": ((*inner, "nr"), simulated.lengths(lengths), {"units": "1"}),
        "status": (inner, simulated.status()),
        "error": (inner, simulated.texts("error")),
    }
    for name, unit in _SCALARS.items():
        variables[name] = (inner, simulated.scalars(name), {"units": unit})
    variables["arch_name"] = (inner, simulated.texts("arch"))
    if prices.unit:
        unit = {"units": prices.unit}
        variables |= {
            "predicted": (dims, prices.predicted, unit),
            "predicted_interval": ((*dims, "bound"), np.stack([prices.low, prices.high], -1), unit),
            "breakdown": ((*dims, "component"), np.stack(list(prices.breakdown.values()), -1), unit),
            "per_page": (dims, prices.per_page, {"units": f"{prices.unit} per reclaimed page"}),
        }
        if prices.gain is not None:
            variables["gain"] = (dims, prices.gain, {"units": "1", "baseline": "the first policy"})
    variables["provenance"] = ((), json.dumps(sweep.provenance))
    coordinates = {"event": list(EVENT_NAMES), "nr": ("nr", np.array(lengths, np.int64), {"units": "pages"})}
    if prices.unit:
        coordinates |= {"bound": ["low", "high"], "component": list(prices.breakdown)}
    for dimension in space.dimensions:
        for axis in dimension.axes:
            coordinates[axis.name] = (dimension.name, axis.labels, {"units": axis.unit} if axis.unit else {})
        if dimension.name not in coordinates:
            coordinates[dimension.name] = np.arange(len(dimension))
    return xarray.Dataset(variables, coordinates, {"rmapfast": __version__})


class _Simulated:
    """Records as arrays over the structural dimensions; 0 and NaN where there is none."""

    def __init__(self, sweep: Sweep):
        self.shape = tuple(sweep.space.shape[number] for number in sweep.structural)
        self.sweep = sweep
        self.indices = [tuple(index[number] for number in sweep.structural) for index in sweep.simulations]
        self.records = [sweep.records.get(key) for key in sweep.simulations.values()]
        self.done = [record is not None and "error" not in record for record in self.records]

    def _filled(self, empty: np.ndarray, value) -> np.ndarray:
        for index, record, done in zip(self.indices, self.records, self.done, strict=True):
            if done:
                empty[index] = value(record)
        return empty

    def counts(self, key: str) -> np.ndarray:
        empty = np.zeros((*self.shape, len(EVENT_NAMES)), np.uint64)
        return self._filled(empty, lambda record: counts_of(record, key))

    def lengths(self, lengths: list[int]) -> np.ndarray:
        empty = np.zeros((*self.shape, len(lengths)), np.uint64)
        return self._filled(empty, lambda record: [record["batch_lengths"].get(str(nr), 0) for nr in lengths])

    def scalars(self, name: str) -> np.ndarray:
        empty = np.full(self.shape, np.nan) if name == "wall_s" else np.zeros(self.shape, np.int64)
        return self._filled(empty, lambda record: record[name])

    def status(self) -> np.ndarray:
        status = np.full(self.shape, "dropped", "<U7")
        for index, full in zip(self.indices, self.sweep.simulations, strict=True):
            status[index] = self.sweep.status(full)
        return status

    def texts(self, key: str) -> np.ndarray:
        texts = np.full(self.shape, "", object)
        for index, record in zip(self.indices, self.records, strict=True):
            texts[index] = (record or {}).get(key, "")
        return texts.astype(str)


# The table: a row per point


def columns(sweep: Sweep, *, counts: bool = True) -> dict[str, np.ndarray]:
    """Return an array per column and a row per point that the constraints keep, in the order of the space.

    Counts of points that were not simulated are masked, prices are NaN.

    Parameters
    ----------
    sweep : Sweep
    counts : bool
        Also the counts, after axes and prices.
    """
    space, prices = sweep.space, sweep.prices
    rows = np.argwhere(space.kept)

    def of(array):
        return np.atleast_1d(array[tuple(rows.T)])

    found = {
        axis.name: axis.labels[rows[:, number]]
        for number, dimension in enumerate(space.dimensions)
        for axis in dimension.axes
    }
    simulated = _Simulated(sweep)
    at = _positions(simulated, rows[:, list(sweep.structural)])
    found["status"] = np.array([sweep.status(index) for index in sweep.simulations])[at]
    if unit := prices.unit:
        found[f"predicted_{unit}"] = of(prices.predicted)
        found[f"predicted_low_{unit}"] = of(prices.low)
        found[f"predicted_high_{unit}"] = of(prices.high)
        found[f"per_page_{unit}"] = of(prices.per_page)
        if prices.gain is not None:
            found["gain"] = of(prices.gain)
        found |= {f"{_BREAKDOWN}{name}_{unit}": of(share) for name, share in prices.breakdown.items()}
    if not counts:
        return found
    missing = ~np.array(simulated.done, bool)

    def column(values: list, kind):
        array = np.array(values, kind)[at]
        return np.ma.masked_array(array, missing[at]) if missing.any() else array

    records = [record if done else None for record, done in zip(simulated.records, simulated.done, strict=True)]
    for name in _SCALARS:
        kind = float if name == "wall_s" else np.int64
        found[name] = column([record[name] if record else 0 for record in records], kind)
    for key, prefix in (("events", ""), ("referenced_events", _REFERENCED)):
        for name in EVENT_NAMES:
            values = [record[key].get(name, 0) if record else 0 for record in records]
            if not prefix or any(values):
                found[prefix + name] = column(values, np.uint64)
    found["batch_lengths"] = np.array([_lengths_text(record) for record in records])[at]
    for name, key in (("arch_name", "arch"), ("error", "error")):
        found[name] = np.array([(record or {}).get(key, "") for record in simulated.records])[at]
    return found


def _positions(simulated: _Simulated, indices: np.ndarray) -> np.ndarray:
    """The number of the simulation of each row."""
    if not simulated.shape:
        return np.zeros(len(indices), np.int64)
    known = np.ravel_multi_index(np.array(simulated.indices).T, simulated.shape)
    return np.searchsorted(known, np.ravel_multi_index(indices.T, simulated.shape))


def _lengths_text(record: Mapping | None) -> str:
    return " ".join(f"{nr}:{count}" for nr, count in record["batch_lengths"].items()) if record else ""


def to_dataframe(sweep: Sweep):
    """Return the table as pandas.DataFrame; see :meth:`Sweep.to_dataframe`."""
    (pandas,) = _import(["pandas"], "data frames", "xarray")

    def series(array):
        if not isinstance(array, np.ma.MaskedArray):
            return array
        if array.dtype.kind == "f":
            return array.filled(np.nan)
        return pandas.arrays.IntegerArray(array.data.copy(), np.ma.getmaskarray(array).copy())

    return pandas.DataFrame({name: series(array) for name, array in columns(sweep).items()})


# Files


def save(sweep: Sweep, path: str | os.PathLike, *, overwrite: bool = False) -> None:
    """Write a sweep; see :meth:`Sweep.save`."""
    path = check_path(path)
    content = {".nc": _netcdf, ".parquet": _parquet, ".csv": _csv, ".json": _json}[path.suffix.lower()](sweep)
    write_atomically(path, content, overwrite=overwrite)


def _netcdf(sweep: Sweep) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sweep.nc"
        to_xarray(sweep).to_netcdf(path, engine="h5netcdf")
        return path.read_bytes()


def _parquet(sweep: Sweep) -> bytes:
    import pyarrow
    import pyarrow.parquet

    arrays = {}
    for name, array in columns(sweep).items():
        masked = isinstance(array, np.ma.MaskedArray)
        mask = np.ma.getmaskarray(array) if masked else np.isnan(array) if array.dtype.kind == "f" else None
        arrays[name] = pyarrow.array(array.data if masked else array, mask=mask)
    table = pyarrow.table(arrays).replace_schema_metadata({"rmapfast": json.dumps(sweep.provenance)})
    content = io.BytesIO()
    pyarrow.parquet.write_table(table, content)
    return content.getvalue()


def _csv(sweep: Sweep) -> bytes:
    table = columns(sweep)
    text = io.StringIO()
    text.write(f"{_COMMENT}{json.dumps(sweep.provenance)}\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*map(_plain, table.values()), strict=True))
    return text.getvalue().encode()


def _plain(array: np.ndarray) -> list:
    """The values of a column as plain values; None where there is none."""
    if isinstance(array, np.ma.MaskedArray):
        return array.tolist()
    values = array.tolist()
    return [None if value != value else value for value in values] if array.dtype.kind == "f" else values


def _json(sweep: Sweep) -> bytes:
    return (json.dumps(document(sweep), allow_nan=False) + "\n").encode()


def document(sweep: Sweep) -> dict:
    """Return the sweep as a dict that serialises to JSON: a list per column of axes and prices, and the records."""
    table = columns(sweep, counts=False)
    return {
        "provenance": sweep.provenance,
        "columns": {name: _plain(array) for name, array in table.items()},
        "records": sweep.records,
    }


def load_file(path: str | os.PathLike) -> Sweep:
    """Read what :func:`save` wrote, apart from JSON, which :func:`rmapfast.load` reads.

    Raises
    ------
    ValueError
        If the file is no sweep.
    ImportError, OSError
    """
    path = check_path(path)
    with open(path, "rb"):  # a file that cannot be read is not a damaged one
        pass
    try:
        return {".nc": _from_netcdf, ".parquet": _from_parquet, ".csv": _from_csv}[path.suffix.lower()](path)
    except (KeyError, ValueError, TypeError, IndexError, OSError, AttributeError, UnicodeDecodeError) as error:
        reason = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path}: no sweep, or damaged: {reason}") from None


def load_document(document: Mapping) -> Sweep:
    """Return the sweep of a JSON document."""
    return _sweep(document["provenance"], document["records"])


def _sweep(provenance: dict, records: Mapping | None) -> Sweep:
    arguments = provenance["arguments"]
    space = dataclasses.replace(Space.of(arguments["space"]), hashes=arguments["inputs"])
    return Sweep(space, dict(records or {}), provenance)


def _from_rows(provenance: dict, table: Mapping[str, Sequence]) -> Sweep:
    """The sweep of a table; of the rows of a simulation the first is read, they are alike."""
    sweep = _sweep(provenance, None)
    simulated = _Simulated(sweep)
    rows = np.argwhere(sweep.space.kept)
    if len(table["status"]) != len(rows):
        raise ValueError(f"expected {len(rows)} rows, got {len(table['status'])}")
    at = _positions(simulated, rows[:, list(sweep.structural)])
    _, first = np.unique(at, return_index=True)
    names = [name for name in table if name in EVENT_NAMES]
    referenced = {name.removeprefix(_REFERENCED): name for name in table if name.startswith(_REFERENCED)}
    for row, key in zip(first, sweep.simulations.values(), strict=True):
        status = table["status"][row]
        if status == "failed":
            sweep.records[key] = {"error": table["error"][row]}
        if status != "done":
            continue
        counts = {name: int(table[name][row]) for name in names}
        own = {event: int(table[name][row]) for event, name in referenced.items()}
        pairs = (pair.partition(":") for pair in table["batch_lengths"][row].split())
        sweep.records[key] = {
            "arch": table["arch_name"][row],
            **{name: float(table[name][row]) if name == "wall_s" else int(table[name][row]) for name in _SCALARS},
            "events": {name: count for name, count in counts.items() if count},
            "referenced_events": {name: count for name, count in own.items() if count},
            "batch_lengths": {nr: int(count) for nr, _, count in pairs},
        }
    return sweep


def _from_netcdf(path: Path) -> Sweep:
    import xarray

    with xarray.open_dataset(path, engine="h5netcdf") as opened:
        found = opened.load()
    sweep = _sweep(json.loads(str(found["provenance"].values)), None)
    names = [str(name) for name in found["event"].values]
    lengths = [str(nr) for nr in found["nr"].values]
    for key, inner in zip(sweep.simulations.values(), _Simulated(sweep).indices, strict=True):
        status = str(found["status"].values[inner])
        if status == "failed":
            sweep.records[key] = {"error": str(found["error"].values[inner])}
        if status != "done":
            continue

        def sparse(variable, names, inner=inner):
            return {name: int(count) for name, count in zip(names, found[variable].values[inner], strict=True) if count}

        sweep.records[key] = {
            "arch": str(found["arch_name"].values[inner]),
            **{name: found[name].values[inner].item() for name in _SCALARS},
            "events": sparse("events", names),
            "referenced_events": sparse("referenced_events", names),
            "batch_lengths": sparse("batch_lengths", lengths),
        }
    return sweep


def _from_parquet(path: Path) -> Sweep:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    provenance = json.loads((table.schema.metadata or {})[b"rmapfast"])
    return _from_rows(provenance, {name: table.column(name).to_pylist() for name in table.column_names})


def _from_csv(path: Path) -> Sweep:
    with open(path, encoding="utf-8", newline="") as file:
        first = file.readline()
        if not first.startswith(_COMMENT):
            raise ValueError("its first line has no provenance")
        names, *rows = csv.reader(file)
    lists = zip(*rows, strict=True) if rows else ([] for _ in names)
    return _from_rows(json.loads(first.removeprefix(_COMMENT)), dict(zip(names, lists, strict=True)))
