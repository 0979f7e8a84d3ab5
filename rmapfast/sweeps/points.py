"""One point of a sweep: its values, its simulation, and the record of what came out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypedDict, cast

from rmapfast.arch import Arch
from rmapfast.events import EVENT_NAMES
from rmapfast.layout import MAX_ORDER
from rmapfast.loop import SEED_TARGET, reclaim
from rmapfast.lru import LRU_STATS
from rmapfast.parallel import check_stop
from rmapfast.policy import Policy
from rmapfast.population import Population
from rmapfast.result import PolicyFunction, Result
from rmapfast.spec import PopulationSpec
from rmapfast.support import JsonObject, closest, info
from rmapfast.sweeps.parameter import architecture, costs_of, policy_of

# Captures that this process has read last, so that points share them.
_MOST_CAPTURES = 2
_captures: dict[str, Population] = {}
_reading = threading.Lock()


class Record(TypedDict, total=False):
    """What a sweep keeps of a simulation, as plain values that serialise to JSON; of one that failed only ``error``.

    Counts are by name of the event, and lengths are texts of a number of pages; those whose count is 0 are left out.
    """

    arch: str
    target_pages: int
    reclaimed_pages: int
    events: dict[str, int]
    referenced_events: dict[str, int]
    batch_lengths: dict[str, int]
    wall_s: float
    error: str


def _under(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the values of the parameters under a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def arch_of(values: Mapping[str, Any], default: str | Arch = "x86-64") -> Arch:
    """Return the architecture of a point, priced with the point's costs."""
    arch = architecture(values.get("arch", default))
    changes = _under(values, "arch.")
    costs = {name: changes.pop(name) for name in list(changes) if name.startswith("cost.")}
    if "costs" in values:
        changes["costs"] = costs_of(values["costs"])
    return arch.replace(**changes, **costs) if changes or costs else arch


def _policy_of(values: Mapping[str, Any]) -> Policy | PolicyFunction:
    policy = policy_of(values.get("policy", "v7.0"))
    changes = _under(values, "policy.")
    if changes and not isinstance(policy, Policy):
        raise ValueError(f"policy.{next(iter(changes))}: a function in Python has no such field")
    return policy.replace(**changes) if changes and isinstance(policy, Policy) else policy


def _loaded(values: Mapping[str, Any]) -> Population:
    """Return the population of a point's capture."""
    options = _under(values, "assume.") | _under(values, "population.")
    if "arch" in values:
        options["arch"] = architecture(values["arch"])
    key = repr((values["capture"], options | {"arch": values.get("arch")}))
    with _reading:
        if key in _captures:
            info("sweep", "%s: used again, it was read for a point before", values["capture"])
        else:
            info("sweep", "%s: read", values["capture"])
            while len(_captures) >= _MOST_CAPTURES:
                del _captures[next(iter(_captures))]
            _captures[key] = Population.load(values["capture"], **options)
        return _captures[key]


def simulate(values: Mapping[str, Any], progress: Callable[[int], None] | None = None) -> Result:
    """Reclaim as the values of a point say."""
    population: Population | PopulationSpec
    if "capture" in values:
        population = _loaded(values)
        arch = arch_of(values, population.arch or "x86-64")
    else:
        arch = arch_of(values)
        arguments = {"size": "10GiB"} | _under(values, "population.")
        population = Population.described(arch=arch, **arguments)
    return reclaim(
        population,
        values.get("target", SEED_TARGET),
        policy=_policy_of(values),
        arch=arch,
        entry=values.get("entry", "memory.reclaim"),
        swap=values.get("swap", True),
        lru=values.get("lru"),
        lru_stats=values.get("lru_stats", LRU_STATS[0]),
        engine=values.get("engine"),
        progress=progress,
    )


def record_of(result: Result) -> Record:
    """Return what a sweep keeps of a run."""
    return {
        "arch": result.arch.name,
        "target_pages": result.target_pages,
        "reclaimed_pages": result.reclaimed_pages,
        "events": {name: count for name, count in result.events.items() if count},
        "referenced_events": {name: count for name, count in result.referenced_events.items() if count},
        "batch_lengths": {str(nr): count for nr, count in sorted(result.batch_lengths.items())},
        "wall_s": result.wall_s,
    }


def checked_record(record: JsonObject) -> Record:
    """Return a record that was read.

    Raises
    ------
    ValueError
        If it is none; the message names the key.
    """
    if "error" in record:
        record.text("error")
        return cast(Record, record.value)
    record.text("arch")
    for size in ("target_pages", "reclaimed_pages"):
        record.count(size)
    record.seconds("wall_s")
    for kind in ("events", "referenced_events"):
        for event in record.counts(kind):
            if event not in EVENT_NAMES:
                raise ValueError(f"{record.where}{kind}: no event {event!r}{closest(event, EVENT_NAMES)}")
    for length in record.counts("batch_lengths"):
        if not length.isdecimal() or not 0 < int(length[:8]) <= 1 << MAX_ORDER:
            raise ValueError(
                f"{record.where}batch_lengths: expected lengths from 1 to {1 << MAX_ORDER}, got {length!r}"
            )
    return cast(Record, record.value)


def counts_of(record: Record, key: Literal["events", "referenced_events"]) -> list[int]:
    """Return counts of a record in the order of EVENT_NAMES."""
    return [record[key].get(name, 0) for name in EVENT_NAMES]


def run_points(points: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, Record]]:
    """Simulate points, given by their key and values; returns a record by key, which has ``error`` if it failed.

    Raises
    ------
    Stopped
        If the sweep was interrupted.
    """
    done: list[tuple[str, Record]] = []
    for key, values in points:
        check_stop()
        try:
            done.append((key, record_of(simulate(values, lambda _: check_stop()))))
        except Exception as error:
            text = " ".join(str(error).split()) or type(error).__name__
            known = isinstance(error, ValueError | TypeError | OSError)
            done.append((key, {"error": text if known else f"{type(error).__name__}: {text}"}))
    return done
