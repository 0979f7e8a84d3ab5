"""A sweep in files, written and read: netCDF, Parquet, CSV and JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rmapfast.events import EVENT_NAMES
from rmapfast.support import (
    JsonObject,
    call_apart,
    check_installed,
    checked_path,
    imported,
    one_line,
    printable,
    read_json,
    read_regular,
    write_atomically,
)
from rmapfast.sweeps.data import SweepData
from rmapfast.sweeps.dataset import REFERENCED, Simulated, columns, document, plain, to_xarray
from rmapfast.sweeps.points import Record, checked_record
from rmapfast.sweeps.space import Space

# By ending: the modules that it needs, and the extra that brings them.
ENDINGS: dict[str, tuple[tuple[str, ...], str]] = {
    ".nc": (("xarray", "h5netcdf"), "netcdf"),
    ".parquet": (("pyarrow", "pyarrow.parquet"), "parquet"),
    ".csv": ((), ""),
    ".json": ((), ""),
}
# Most bytes that a byte of a file stands for: DEFLATE packs no more.
_MOST_PACKED = 1032
# What the reader of a netCDF file may use: seconds of the processor, and one more for each MiB of the file; addresses.
# The libraries alone take 1 s and map 1.5 GiB.
_SECONDS, _ADDRESSES = 10, 3 << 30
# How the first line of a CSV file begins.
_COMMENT = "# rmapfast sweep: "


def check_path(path: str | os.PathLike[str]) -> Path:
    """Return the path if a sweep can be written in the format that its ending names.

    Raises
    ------
    ValueError, ImportError
        For another ending, or where a package is missing; the message has the pip command.
    """
    path = _with_known_ending(path)
    _packages(path.suffix.lower())
    return path


def _with_known_ending(path: str | os.PathLike[str]) -> Path:
    path = checked_path("output", path)
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"output: expected a file ending in {', '.join(ENDINGS)}, got {str(path)!r}")
    return path


def _needs(ending: str) -> tuple[tuple[str, ...], str, str]:
    modules, extra = ENDINGS[ending]
    return modules, f"{ending} files", extra


def _packages(ending: str) -> list[Any]:
    return imported(*_needs(ending))


def save_file(sweep: SweepData, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a sweep; see :meth:`Sweep.save`."""
    path = check_path(path)
    write_atomically(path, _WRITERS[path.suffix.lower()](sweep), overwrite=overwrite)


def _netcdf(sweep: SweepData) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sweep.nc"
        to_xarray(sweep).to_netcdf(path, engine="h5netcdf")
        return path.read_bytes()


def _parquet(sweep: SweepData) -> bytes:
    pyarrow, parquet = _packages(".parquet")
    arrays = {}
    for name, array in columns(sweep).items():
        masked = isinstance(array, np.ma.MaskedArray)
        mask = np.ma.getmaskarray(array) if masked else np.isnan(array) if array.dtype.kind == "f" else None
        arrays[name] = pyarrow.array(np.asarray(array.data) if masked else array, mask=mask)
    table = pyarrow.table(arrays).replace_schema_metadata({"rmapfast": json.dumps(sweep.provenance)})
    content = io.BytesIO()
    parquet.write_table(table, content)
    return content.getvalue()


def _csv(sweep: SweepData) -> bytes:
    table = columns(sweep)
    text = io.StringIO()
    text.write(f"{_COMMENT}{json.dumps(sweep.provenance)}\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    for row in zip(*map(plain, table.values()), strict=True):
        writer.writerow([printable(cell) if isinstance(cell, str) else cell for cell in row])
    return text.getvalue().encode()


def _json(sweep: SweepData) -> bytes:
    return (json.dumps(document(sweep), allow_nan=False) + "\n").encode()


_WRITERS: dict[str, Callable[[SweepData], bytes]] = {
    ".nc": _netcdf,
    ".parquet": _parquet,
    ".csv": _csv,
    ".json": _json,
}


def read_file(path: str | os.PathLike[str]) -> SweepData:
    """Read what :func:`save_file` wrote.

    Raises
    ------
    ValueError
        If the file is no sweep.
    ImportError
        If the format needs a package that is not installed; the message has the pip command.
    OSError
        If it cannot be read.
    """
    path = _with_known_ending(path)
    check_installed(*_needs(path.suffix.lower()))
    if path.suffix.lower() == ".json":
        found = read_json(path)
        if "records" not in found:
            raise ValueError(f"{path}: no sweep, or damaged: it has no records")
        return from_document(found)
    content = read_regular(path)
    try:
        sweep = _READERS[path.suffix.lower()](content)
        for key, record in sweep.records.items():
            checked_record(JsonObject.of(record, f"records.{key}."))
    except (MemoryError, ChildProcessError):
        raise
    except Exception as error:  # the packages that read the formats raise many kinds of error for damaged bytes
        reason = str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"{path}: no sweep, or damaged: {one_line(reason)}") from None
    return sweep


def from_document(found: JsonObject) -> SweepData:
    """Return the sweep of a JSON document (:func:`document`).

    Raises
    ------
    ValueError
        If it is none; the message names the key.
    """
    provenance = found.object("provenance")
    provenance.text("rmapfast")
    arguments, records = provenance.object("arguments"), found.object("records")
    for key in ("space", "inputs"):
        arguments.object(key)
    for key in records.value:
        checked_record(records.object(key))
    try:
        return _sweep(provenance.value, records.value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{arguments.where.rstrip('.')}: {error}") from None


def _sweep(provenance: dict[str, Any], records: Mapping[str, Record]) -> SweepData:
    """Return a sweep of the space that its provenance holds."""
    arguments = provenance["arguments"]
    space = dataclasses.replace(Space.of(arguments["space"]), hashes=arguments["inputs"])
    return SweepData(space, dict(records), provenance)


def _from_rows(provenance: dict[str, Any], table: Mapping[str, Sequence[Any]]) -> SweepData:
    """Return the sweep of a table; rows of one simulation say the same of it, so the first is read."""
    sweep = _sweep(provenance, {})
    simulated = Simulated(sweep)
    rows = np.argwhere(sweep.space.kept)
    if len(table["status"]) != len(rows):
        raise ValueError(f"expected {len(rows)} rows, got {len(table['status'])}")
    at = simulated.positions(rows[:, list(sweep.structural)])
    _, first = np.unique(at, return_index=True)
    names = [name for name in table if name in EVENT_NAMES]
    referenced = {name.removeprefix(REFERENCED): name for name in table if name.startswith(REFERENCED)}
    for row, key in zip(first, sweep.simulations.values(), strict=True):
        status = table["status"][row]
        if status == "failed":
            sweep.records[key] = {"error": table["error"][row]}
        if status != "done":
            continue
        pairs = (pair.partition(":") for pair in table["batch_lengths"][row].split())
        sweep.records[key] = {
            "arch": table["arch_name"][row],
            "target_pages": int(table["target_pages"][row]),
            "reclaimed_pages": int(table["reclaimed_pages"][row]),
            "wall_s": float(table["wall_s"][row]),
            "events": _sparse(names, [table[name][row] for name in names]),
            "referenced_events": _sparse(referenced, [table[name][row] for name in referenced.values()]),
            "batch_lengths": {nr: int(count) for nr, _, count in pairs},
        }
    return sweep


def _sparse(names: Iterable[str], counts: Iterable[Any]) -> dict[str, int]:
    """Return the counts that are not 0, by name."""
    return {name: int(count) for name, count in zip(names, counts, strict=True) if int(count)}


def _check_inflated(content: bytes, size: int) -> None:
    """Raise ValueError for a file that claims more than any compression packs into it."""
    if size > max(len(content), 1 << 16) * _MOST_PACKED:
        raise ValueError(f"it claims {size} bytes of data, and has {len(content)} in all")


def _from_netcdf(content: bytes) -> SweepData:
    """Return the sweep of a file, which another process reads: libhdf5 reads some damaged files without end."""
    found = call_apart(
        "rmapfast.sweeps.files:netcdf_document",
        content,
        seconds=_SECONDS + (len(content) >> 20),
        addresses=_ADDRESSES + len(content) * _MOST_PACKED,
    )
    return _sweep(found["provenance"], found["records"])


def netcdf_document(content: bytes) -> dict[str, Any]:
    """Return the provenance and the records of a netCDF file; any exception means that it is no sweep."""
    xarray, _ = _packages(".nc")
    with xarray.open_dataset(io.BytesIO(content), engine="h5netcdf") as opened:
        _check_inflated(content, sum(variable.nbytes for variable in opened.variables.values()))
        found = opened.load()
    sweep = _sweep(json.loads(str(found["provenance"].values)), {})
    names = [str(name) for name in found["event"].values]
    lengths = [str(nr) for nr in found["nr"].values]
    for key, inner in zip(sweep.simulations.values(), Simulated(sweep).indices, strict=True):
        status = str(found["status"].values[inner])
        if status == "failed":
            sweep.records[key] = {"error": str(found["error"].values[inner])}
        if status != "done":
            continue
        sweep.records[key] = {
            "arch": str(found["arch_name"].values[inner]),
            "target_pages": int(found["target_pages"].values[inner]),
            "reclaimed_pages": int(found["reclaimed_pages"].values[inner]),
            "wall_s": float(found["wall_s"].values[inner]),
            "events": _sparse(names, found["events"].values[inner]),
            "referenced_events": _sparse(names, found["referenced_events"].values[inner]),
            "batch_lengths": _sparse(lengths, found["batch_lengths"].values[inner]),
        }
    return {"provenance": sweep.provenance, "records": sweep.records}


def _from_parquet(content: bytes) -> SweepData:
    _, parquet = _packages(".parquet")
    file = parquet.ParquetFile(io.BytesIO(content))
    _check_inflated(content, 8 * file.metadata.num_rows * file.metadata.num_columns)
    table = file.read()
    provenance = json.loads((table.schema.metadata or {})[b"rmapfast"])
    return _from_rows(provenance, {name: table.column(name).to_pylist() for name in table.column_names})


def _from_csv(content: bytes) -> SweepData:
    file = io.StringIO(content.decode("utf-8"), newline="")
    first = file.readline()
    if not first.startswith(_COMMENT):
        raise ValueError("its first line has no provenance")
    names, *rows = csv.reader(file)
    lists = zip(*rows, strict=True) if rows else ([] for _ in names)
    return _from_rows(json.loads(first.removeprefix(_COMMENT)), dict(zip(names, lists, strict=True)))


_READERS: dict[str, Callable[[bytes], SweepData]] = {
    ".nc": _from_netcdf,
    ".parquet": _from_parquet,
    ".csv": _from_csv,
}
