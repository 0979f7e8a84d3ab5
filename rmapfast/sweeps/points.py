"""One point of a sweep: its values, its simulation, and the record of what came out."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping

from rmapfast.arch import Arch
from rmapfast.events import EVENT_NAMES
from rmapfast.loop import SEED_TARGET, reclaim
from rmapfast.policy import Policy
from rmapfast.population import Population
from rmapfast.result import Result
from rmapfast.sweeps.space import architecture, costs_of, policy_of

# Captures that this process has read last, so that points share them.
_MOST_CAPTURES = 2
_captures: dict[str, Population] = {}
_reading = threading.Lock()
# Set when the points of this worker process are no longer wanted.
_stop = None


class Stopped(BaseException):
    """The sweep was interrupted; no error of the point, so nothing that catches errors may catch it."""


def start_worker(stop) -> None:
    """Make a worker process ready: the sweep's own process says when to stop, not the terminal."""
    import signal

    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker with the sweep's process, which may be killed without a word to its workers."""
    import multiprocessing.connection

    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _under(values: Mapping, prefix: str) -> dict:
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def arch_of(values: Mapping, default: str | Arch = "x86-64") -> Arch:
    """Return the architecture of a point, priced with its own costs."""
    arch = architecture(values.get("arch", default))
    changes = _under(values, "arch.")
    costs = {name: changes.pop(name) for name in list(changes) if name.startswith("cost.")}
    if "costs" in values:
        changes["costs"] = costs_of(values["costs"])
    return arch.replace(**changes, **costs) if changes or costs else arch


def _policy_of(values: Mapping) -> Policy:
    policy = policy_of(values.get("policy", "v7.0"))
    changes = _under(values, "policy.")
    return policy.replace(**changes) if changes else policy


def _loaded(values: Mapping) -> Population:
    options = _under(values, "assume.") | _under(values, "population.")
    if "arch" in values:
        options["arch"] = architecture(values["arch"])
    key = repr((values["capture"], options))
    with _reading:
        if key not in _captures:
            while len(_captures) >= _MOST_CAPTURES:
                del _captures[next(iter(_captures))]
            _captures[key] = Population.load(values["capture"], **options)
        return _captures[key]


def simulate(values: Mapping, progress=None) -> Result:
    """Reclaim as the values of a point say."""
    if "capture" in values:
        population = _loaded(values)
        arch = arch_of(values, population.arch)
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
        engine=values.get("engine", "c"),
        progress=progress,
    )


def record_of(result: Result) -> dict:
    """Return what a sweep keeps of a run, as plain values that serialise to JSON; counts of 0 are left out."""
    return {
        "arch": result.arch.name,
        "target_pages": result.target_pages,
        "reclaimed_pages": result.reclaimed_pages,
        "events": {name: count for name, count in result.events.items() if count},
        "referenced_events": {name: count for name, count in result.referenced_events.items() if count},
        "batch_lengths": {str(nr): count for nr, count in sorted(result.batch_lengths.items())},
        "wall_s": result.wall_s,
    }


def counts_of(record: Mapping, key: str) -> list[int]:
    """Return counts of a record in the order of EVENT_NAMES."""
    return [record[key].get(name, 0) for name in EVENT_NAMES]


def run_points(points: list[tuple[str, dict]], stop=None) -> list[tuple[str, dict]]:
    """Simulate points, given by their key and values; returns a record by key, which has ``error`` if it failed.

    Raises
    ------
    Stopped
        If `stop`, or the event of this worker process, was set.
    """
    stop = stop or _stop

    def go_on(_=None):
        if stop is not None and stop.is_set():
            raise Stopped

    done = []
    for key, values in points:
        go_on()
        try:
            done.append((key, record_of(simulate(values, go_on))))
        except Exception as error:
            text = " ".join(str(error).split()) or type(error).__name__
            known = isinstance(error, ValueError | TypeError | OSError)
            done.append((key, {"error": text if known else f"{type(error).__name__}: {text}"}))
    return done
