"""Saved results: the JSON document of ``rmapfast reclaim --json`` in a file, and back; sweeps in their formats."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, TypeVar

from rmapfast import cost
from rmapfast.arch import Arch
from rmapfast.comparison import Comparison
from rmapfast.cost import CostVector
from rmapfast.events import EVENT_NAMES, Events
from rmapfast.lru import LRUS
from rmapfast.policy import Policy
from rmapfast.result import Result
from rmapfast.support import JsonObject, checked_choice, checked_path, closest, json_text, read_json, write_atomically
from rmapfast.sweeps import Sweep, load_document, load_file

_Preset = TypeVar("_Preset", Arch, Policy)


def save(results: Result | Comparison, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Save a result or a comparison as JSON: the document of :meth:`Comparison.to_dict`.

    :func:`load` reads it. A sweep saves itself (:meth:`Sweep.save`).

    Parameters
    ----------
    results : Result or Comparison
    path : path
    overwrite : bool
        Replace a file that is there.

    Raises
    ------
    TypeError
        For anything else.
    FileExistsError
        If the file is there and may not be replaced.
    OSError
        If it cannot be written; what was there before is still there then.

    Examples
    --------
    >>> import tempfile
    >>> import rmapfast as rf
    >>> result = rf.reclaim(rf.Population.synthetic("1MiB"), "80%")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rf.save(result, f"{folder}/run.json")
    ...     rf.load(f"{folder}/run.json").runs[0].events == result.events
    True
    """
    checked_path("path", path)
    document = json_text(Comparison.of(results).to_dict())
    write_atomically(path, (document + "\n").encode(), overwrite=overwrite)


def load(path: str | os.PathLike[str]) -> Comparison | Sweep:
    """Load what :func:`save`, ``rmapfast reclaim --json`` or a sweep wrote.

    Parameters
    ----------
    path : path
        A file ending in .nc, .parquet or .csv is a sweep, any other is JSON.

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

    Examples
    --------
    >>> import tempfile
    >>> import rmapfast as rf
    >>> compared = rf.compare(rf.Population.synthetic("1MiB"), "80%", arches=["x86-64"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rf.save(compared, f"{folder}/runs.json")
    ...     [run.policy_name for run in rf.load(f"{folder}/runs.json").runs]
    ['v6.16+young', 'v7.0']
    """
    checked_path("path", path)
    if Path(path).suffix.lower() == ".npz":
        raise ValueError(f"{path}: expected a saved result, got a capture; Population.load() (--capture) reads it")
    if Path(path).suffix.lower() in (".nc", ".parquet", ".csv"):
        return load_file(path)
    found = read_json(path)
    return load_document(found) if "records" in found else _comparison(found)


def _comparison(found: JsonObject) -> Comparison:
    vectors_found = found.object("cost_vectors")
    vectors = {
        name: CostVector.from_dict(vector, f"{vectors_found.where}{name}")
        for name, vector in vectors_found.value.items()
    }
    population, provenance = _population(found.object("population")), _provenance(found)
    entries = found.get("runs", list)
    if not entries:
        raise ValueError(f"{found.where}runs: expected at least one, got none")
    runs = tuple(
        _run(JsonObject.of(entry, f"{found.where}runs[{number}]."), population, provenance, vectors)
        for number, entry in enumerate(entries)
    )
    return Comparison(runs=runs, population=population, provenance=provenance)


def _run(
    found: JsonObject, population: dict[str, Any], provenance: dict[str, Any], vectors: dict[str, CostVector]
) -> Result:
    parameters = found.get("policy_parameters", dict, type(None))
    costs = _costs(found, vectors)
    policy: Policy | str = found.text("policy")
    if parameters is not None:
        policy = _build(Policy, {"name": policy, **parameters}, f"{found.where}policy_parameters")
    differing = found.object("population").value if "population" in found else {}
    return Result(
        policy=policy,
        arch=_arch(found, costs),
        costs=costs,
        entry=found.text("entry"),
        target_pages=found.count("target_pages"),
        population=_population(JsonObject(population | differing, f"{found.where}population.")),
        after=None,
        reclaimed_pages=found.count("reclaimed_pages"),
        events=_events(found, "events"),
        referenced_events=_events(found, "referenced_events", sparse=True),
        batch_lengths=_lengths(found, "batch_lengths"),
        wall_s=found.seconds("wall_s"),
        provenance=_provenance(found) if "provenance" in found else provenance,
        peak_rss_bytes=found.get("peak_rss_bytes", int, type(None)),
        source=found.text("source") if "source" in found else "",
        # Files that were saved before madvise was there have neither.
        ret=found.get("ret", int, type(None)) if "ret" in found else None,
        swap_used=found.get("swap_used", int) if "swap_used" in found else 0,
        # Nor do those before MGLRU have these.
        lru=checked_choice(f"{found.where}lru", found.text("lru"), LRUS) if "lru" in found else LRUS[0],
        isolated=_lengths(found, "isolated") if "isolated" in found else {},
        looked_around=_lengths(found, "looked_around") if "looked_around" in found else {},
    )


def _lengths(found: JsonObject, name: str) -> dict[int, int]:
    lengths = found.counts(name)
    if not all(nr.isascii() and nr.isdigit() and len(nr) < 20 for nr in lengths):
        raise ValueError(f"{found.where}{name}: expected lengths as keys, got {', '.join(map(repr, lengths))}")
    return {int(nr): count for nr, count in lengths.items()}


def _costs(found: JsonObject, vectors: dict[str, CostVector]) -> CostVector | None:
    name = found.get("cost_vector", str, type(None))
    if name is not None and name not in vectors:
        raise ValueError(f"{found.where}cost_vector: {name!r} is not in cost_vectors{closest(name, vectors)}")
    return None if name is None else vectors[name]


def _arch(found: JsonObject, costs: CostVector | None) -> Arch:
    parameters = found.object("arch_parameters")
    where = f"{found.where}arch_parameters"
    default = parameters.get("costs", str, dict, type(None)) if "costs" in parameters else None
    if default is None:  # the run's own, by its name if the package has the same one
        packaged = costs is not None and costs.name in cost.names() and cost.get(costs.name) == costs
        default = costs.name if costs is not None and packaged else costs or ""
    elif isinstance(default, dict):
        default = CostVector.from_dict(default, f"{where}.costs")
    return _build(Arch, {"name": found.text("arch"), **parameters.value, "costs": default}, where)


def _build(kind: type[_Preset], parameters: dict[str, Any], where: str) -> _Preset:
    """Return an architecture or a policy; a parameter that was added since the file was saved has its default."""
    known = [field.name for field in dataclasses.fields(kind) if field.name != "doc"]
    for name in parameters:
        if name not in known:
            raise ValueError(f"{where}: no such key {name!r}{closest(name, known)}")
    try:
        return kind(**parameters)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from None


def _events(found: JsonObject, key: str, *, sparse: bool = False) -> Events:
    """Return counts by event; all must be given, unless those that are 0 were left out."""
    counts = found.object(key)
    for name in found.counts(key):
        if name not in EVENT_NAMES:
            raise ValueError(f"{found.where}{key}: no event {name!r}{closest(name, EVENT_NAMES)}")
    return Events([0 if sparse and name not in counts else counts.count(name) for name in EVENT_NAMES])


def _population(found: JsonObject) -> dict[str, Any]:
    found.text("source")
    found.count("bytes")
    found.counts("orders")
    found.counts("kinds")
    found.get("input_hash", str, type(None))
    found.object("assumptions")
    return found.value


def _provenance(found: JsonObject) -> dict[str, Any]:
    provenance = found.object("provenance")
    provenance.text("rmapfast")
    provenance.object("arguments")
    return provenance.value
