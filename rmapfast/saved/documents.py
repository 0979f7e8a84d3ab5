"""Saved results: the JSON document of ``rmapfast reclaim --json`` in a file, and back; sweeps in their formats."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from pathlib import Path

from rmapfast import cost
from rmapfast.arch import Arch
from rmapfast.comparison import Comparison
from rmapfast.cost import CostVector
from rmapfast.events import EVENT_NAMES, Events
from rmapfast.policy import Policy
from rmapfast.result import Result
from rmapfast.support import closest, write_atomically
from rmapfast.sweeps import load_document, load_file

# A list of plain numbers that indentation spread over many lines; a text holds no bare line break.
_SPREAD = re.compile(r'\[\n([^\[\]{}"]*)\n\s*\]')


def json_text(document) -> str:
    """Return a document as indented JSON with lists of numbers on one line."""
    text = json.dumps(document, indent=1, default=str)
    return _SPREAD.sub(lambda match: f"[{' '.join(match[1].split())}]", text)


def save(results: Result | Comparison, path: str | os.PathLike, *, overwrite: bool = False) -> None:
    """Save a result or a comparison as JSON: the document of :meth:`Comparison.to_dict`.

    Parameters
    ----------
    results : Result or Comparison
    path : path
    overwrite : bool
        Replace a file that is there.

    Raises
    ------
    FileExistsError
        If the file is there and may not be replaced.
    OSError
        If it cannot be written; what was there before is still there then.
    """
    document = json_text(Comparison.of(results).to_dict())
    write_atomically(path, (document + "\n").encode(), overwrite=overwrite)


def load(path: str | os.PathLike):
    """Load what :func:`save`, ``rmapfast reclaim --json`` or a sweep wrote.

    Returns
    -------
    Comparison or Sweep
        The runs of a comparison have no population after the run (``after`` is None); tables, plots and prices are the
        same.

    Raises
    ------
    ValueError
        If the file is no saved result; the message names the key.
    ImportError
        If the format of a sweep needs a package that is not installed; the message has the pip command.
    OSError
        If it cannot be read.
    """
    if Path(path).suffix.lower() in (".nc", ".parquet", ".csv"):
        return load_file(path)
    try:
        document = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    where = f"{path}: "
    if isinstance(document, dict) and "records" in document:
        return _sweep_of(document, where)
    vectors = {
        name: CostVector.from_dict(vector, f"{where}cost_vectors.{name}")
        for name, vector in _get(document, "cost_vectors", dict, where).items()
    }
    population, provenance = _population(document, where), _provenance(document, where)
    entries = _get(document, "runs", list, where)
    if not entries:
        raise ValueError(f"{where}runs: expected at least one, got none")
    runs = tuple(
        _run(entry, f"{where}runs[{number}].", population, provenance, vectors) for number, entry in enumerate(entries)
    )
    return Comparison(runs=runs, population=population, provenance=provenance)


def _sweep_of(document: dict, where: str):

    provenance, records = _provenance(document, where), _get(document, "records", dict, where)
    arguments = provenance["arguments"]
    for key in ("space", "inputs"):
        _get(arguments, key, dict, f"{where}provenance.arguments.")
    for key, record in records.items():
        at = f"{where}records.{key}."
        if "error" in _get(records, key, dict, f"{where}records."):
            _text(record, "error", at)
            continue
        _text(record, "arch", at)
        for name in ("target_pages", "reclaimed_pages"):
            _count(record, name, at)
        _seconds(record, "wall_s", at)
        for name in ("events", "referenced_events"):
            _events(record, name, at, sparse=True)
        _counts(record, "batch_lengths", at)
    try:
        return load_document(document)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}provenance.arguments: {error}") from None


def _run(document, where: str, population: dict, provenance: dict, vectors: dict[str, CostVector]) -> Result:
    policy = _get(document, "policy_parameters", (dict, type(None)), where)
    lengths = _counts(document, "batch_lengths", where)
    if not all(nr.isascii() and nr.isdigit() and len(nr) < 20 for nr in lengths):
        raise ValueError(f"{where}batch_lengths: expected lengths as keys, got {', '.join(map(repr, lengths))}")
    costs = _costs(document, where, vectors)
    peak = _get(document, "peak_rss_bytes", (int, type(None)), where)
    return Result(
        policy=_text(document, "policy", where)
        if policy is None
        else _build(Policy, {"name": _text(document, "policy", where), **policy}, f"{where}policy_parameters"),
        arch=_arch(document, where, costs),
        costs=costs,
        entry=_text(document, "entry", where),
        target_pages=_count(document, "target_pages", where),
        population=_population({"population": population | _get(document, "population", dict, where, {})}, where),
        after=None,
        reclaimed_pages=_count(document, "reclaimed_pages", where),
        events=_events(document, "events", where),
        referenced_events=_events(document, "referenced_events", where, sparse=True),
        batch_lengths={int(nr): count for nr, count in lengths.items()},
        wall_s=_seconds(document, "wall_s", where),
        provenance=_provenance(document, where) if "provenance" in document else provenance,
        peak_rss_bytes=peak,
        source=_text(document, "source", where) if "source" in document else "",
    )


def _costs(document: dict, where: str, vectors: dict[str, CostVector]) -> CostVector | None:
    name = _get(document, "cost_vector", (str, type(None)), where)
    if name is not None and name not in vectors:
        raise ValueError(f"{where}cost_vector: {name!r} is not in cost_vectors{closest(name, vectors)}")
    return None if name is None else vectors[name]


def _arch(document: dict, where: str, costs: CostVector | None) -> Arch:
    parameters = dict(_get(document, "arch_parameters", dict, where))
    where += "arch_parameters"
    default = _get({"costs": None} | parameters, "costs", (str, dict, type(None)), f"{where}.")
    if default is None:  # the run's own, by its name if the package has the same one
        packaged = costs is not None and costs.name in cost.names() and cost.get(costs.name) == costs
        default = costs.name if costs is not None and packaged else costs or ""
    elif isinstance(default, dict):
        default = CostVector.from_dict(default, f"{where}.costs")
    return _build(Arch, {"name": _text(document, "arch", where), **parameters, "costs": default}, where)


def _build(kind, parameters: dict, where: str):
    """An architecture or a policy; a parameter that was added since the file was saved has its default."""
    known = [field.name for field in dataclasses.fields(kind) if field.name != "doc"]
    for name in parameters:
        if name not in known:
            raise ValueError(f"{where}: no such key {name!r}{closest(name, known)}")
    try:
        return kind(**parameters)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from None


# Values by key, with an error that names it


def _get(document, key: str, kind: type | tuple, where: str, default=None):
    if not isinstance(document, dict):
        raise ValueError(f"{where.rstrip('. :')}: expected an object, got {_short(document)}")
    if key not in document and default is not None:
        return default
    if key not in document:
        raise ValueError(f"{where}{key}: the key is missing")
    value = document[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        names = {dict: "an object", list: "a list", str: "a text", int: "a whole number", type(None): "null"}
        kinds = kind if isinstance(kind, tuple) else (kind,)
        expected = " or ".join(names.get(one, "a number") for one in kinds)
        raise ValueError(f"{where}{key}: expected {expected}, got {_short(value)}")
    return value


def _short(value) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _text(document, key: str, where: str) -> str:
    value = _get(document, key, str, where)
    if not value or not value.isprintable():
        raise ValueError(f"{where}{key}: expected printable text, got {_short(value)}")
    return value


def _count(document, key: str, where: str) -> int:
    value = _get(document, key, int, where)
    if not 0 <= value < 1 << 64:
        raise ValueError(f"{where}{key}: expected 0 to 2^64 - 1, got {_short(value)}")
    return value


def _counts(document, key: str, where: str) -> dict[str, int]:
    counts = _get(document, key, dict, where)
    return {name: _count(counts, name, f"{where}{key}.") for name in counts}


def _events(document, key: str, where: str, *, sparse: bool = False) -> Events:
    """Counts by name; all must be given, unless those that are 0 were left out."""
    counts = _counts(document, key, where)
    for name in counts:
        if name not in EVENT_NAMES:
            raise ValueError(f"{where}{key}: no event {name!r}{closest(name, EVENT_NAMES)}")
    if sparse:
        return Events([counts.get(name, 0) for name in EVENT_NAMES])
    return Events([_count(counts, name, f"{where}{key}.") for name in EVENT_NAMES])


def _seconds(document, key: str, where: str) -> float:
    value = _get(document, key, (int, float), where)
    if not 0 <= value < math.inf:
        raise ValueError(f"{where}{key}: expected seconds, 0 or more, got {_short(value)}")
    return value


def _population(document, where: str) -> dict:
    population = _get(document, "population", dict, where)
    where += "population."
    _text(population, "source", where)
    _count(population, "bytes", where)
    _counts(population, "orders", where)
    _counts(population, "kinds", where)
    _get(population, "input_hash", (str, type(None)), where)
    _get(population, "assumptions", dict, where)
    return population


def _provenance(document, where: str) -> dict:
    provenance = _get(document, "provenance", dict, where)
    _text(provenance, "rmapfast", f"{where}provenance.")
    _get(provenance, "arguments", dict, f"{where}provenance.")
    return provenance
