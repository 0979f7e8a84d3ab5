"""Sweeps: every structural point of a space is simulated once, and priced for all costs as a matrix product."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rmapfast.cost import CostVector
from rmapfast.events import COMPONENTS, EVENT_NAMES
from rmapfast.loop import SEED_TARGET
from rmapfast.provenance import provenance
from rmapfast.support import check_writable
from rmapfast.sweeps.executors import SweepError, completed, opened
from rmapfast.sweeps.journal import Journal, check_same, header
from rmapfast.sweeps.points import arch_of, counts_of
from rmapfast.sweeps.space import Space, is_price

# More than this only if it is asked for: hours of simulation, gigabytes of prices.
MOST_SIMULATIONS = 10_000
MOST_POINTS = 10_000_000


@dataclass(frozen=True)
class Prices:
    """Predictions of all points; NaN where a point was dropped, failed, was not run or has no cost vector.

    Parameters
    ----------
    unit : {'ns', 'instructions', ''}
        Empty if no point has a price.
    predicted : ndarray of float64, shape of the space
    low, high : ndarray of float64, shape of the space
        The interval.
    breakdown : dict of str to ndarray of float64, shape of the space
        By component.
    per_page : ndarray of float64, shape of the space
        Predicted per reclaimed base page.
    gain : ndarray of float64, shape of the space, or None
        By how much less per page than under the first policy of the sweep: 0.75 if it takes a quarter; None without an
        axis of policies.
    """

    unit: str
    predicted: np.ndarray
    low: np.ndarray
    high: np.ndarray
    breakdown: dict[str, np.ndarray]
    per_page: np.ndarray
    gain: np.ndarray | None


@dataclass(frozen=True, repr=False)
class Sweep:
    """The outcome of a sweep.

    Parameters
    ----------
    space : Space
    records : dict
        By key of the simulation (:meth:`Space.key`): ``events``, ``referenced_events``, ``batch_lengths``,
        ``reclaimed_pages``, ``target_pages``, ``arch`` and ``wall_s``, or ``error``.
    provenance : dict
        Versions, host, the whole space, hashes of inputs.
    """

    space: Space
    records: dict[str, dict]
    provenance: dict

    @cached_property
    def structural(self) -> tuple[int, ...]:
        """Numbers of the dimensions along which points are simulated."""
        return tuple(number for number, dimension in enumerate(self.space.dimensions) if dimension.structural)

    @cached_property
    def simulations(self) -> dict[tuple[int, ...], str]:
        """Keys of the simulations by index; along dimensions of prices the index is 0."""
        return {index: self.space.key(index) for index in self.space.steps(lambda dimension: dimension.structural)}

    def status(self, index: tuple[int, ...]) -> str:
        """Return ``done``, ``failed``, ``not run`` or ``dropped`` of the simulation with that index."""
        if index not in self.simulations:
            return "dropped"
        record = self.records.get(self.simulations[index])
        return "not run" if record is None else "failed" if "error" in record else "done"

    @property
    def failures(self) -> dict[tuple[int, ...], str]:
        """What went wrong, by index of the simulation."""
        return {
            index: self.records[key]["error"]
            for index, key in self.simulations.items()
            if "error" in self.records.get(key, ())
        }

    @property
    def complete(self) -> bool:
        """Whether every simulation was run."""
        return all(key in self.records for key in self.simulations.values())

    @property
    def points(self) -> int:
        """Number of points that the constraints keep."""
        return int(np.count_nonzero(self.space.kept))

    @cached_property
    def prices(self) -> Prices:
        """Predictions of all points."""
        return _prices(self)

    def to_xarray(self):
        """Return an xarray.Dataset: axes as coordinates, counts, predictions, errors and provenance.

        Raises
        ------
        ImportError
            If xarray is not installed; the message has the pip command.
        """
        from rmapfast.sweeps.dataset import to_xarray

        return to_xarray(self)

    def to_dataframe(self):
        """Return a pandas.DataFrame with a row per point that the constraints keep.

        Raises
        ------
        ImportError
            If pandas is not installed; the message has the pip command.
        """
        from rmapfast.sweeps.dataset import to_dataframe

        return to_dataframe(self)

    def save(self, path: str | os.PathLike, *, overwrite: bool = False) -> None:
        """Write the sweep as .nc, .parquet, .csv or .json, whole or not at all; :func:`rmapfast.load` reads it.

        Raises
        ------
        ImportError
            If the format needs a package that is not installed; the message has the pip command.
        ValueError, OSError
        """
        from rmapfast.sweeps.dataset import save

        save(self, path, overwrite=overwrite)

    def rank(self, *, seed: int = 0):
        """Tell which axis moves the predicted gain most: :class:`rmapfast.sweeps.sensitivity.Ranking`."""
        from rmapfast.sweeps.sensitivity import rank

        return rank(self, seed=seed)

    def __repr__(self):
        axes = ", ".join(f"{one.name} {len(one)}" for one in self.space.dimensions)
        done = sum("error" not in record for record in self.records.values())
        return (
            f"<Sweep {axes or 'one point'}: {self.points} points, {done} of {len(set(self.simulations.values()))} "
            f"simulations done, {len(self.failures)} failed>"
        )


def _prices(sweep: Sweep) -> Prices:
    space = sweep.space
    shape, dimensions = space.shape, space.dimensions
    linear = [number for number, dimension in enumerate(dimensions) if dimension.linear]
    costs = [
        (axis.parameter.removeprefix("arch.cost."), np.array(axis.values), at)
        for at, number in enumerate(linear)
        for axis in dimensions[number].axes
    ]
    inner = tuple(shape[number] for number in linear)
    predicted, low, high, pages = (np.full(shape, np.nan) for _ in range(4))
    breakdown: dict[str, np.ndarray] = {}
    unit = ""
    vectors = _Vectors([event for event, _, _ in costs])
    for index in space.steps(lambda dimension: not dimension.linear):
        key = sweep.simulations[tuple(at if n in sweep.structural else 0 for n, at in enumerate(index))]
        record = sweep.records.get(key)
        if record is None or "error" in record:
            continue
        place = tuple(slice(None) if number in linear else at for number, at in enumerate(index))
        pages[place] = record["reclaimed_pages"] or np.nan
        vector, slopes = vectors(space.values(index), record["arch"])
        if vector is None:
            continue
        unit = vector.unit
        events, referenced = (np.array(counts_of(record, key), float) for key in ("events", "referenced_events"))
        base = vector.price(events, referenced)
        value, shares = np.zeros(inner), {name: np.full(inner, share) for name, share in base.breakdown.items()}
        for event, figures, at in costs:
            steps = figures.reshape([-1 if number == at else 1 for number in range(len(inner))])
            value = value + events[EVENT_NAMES.index(event)] * steps
            for name, share in slopes[event].price(events, referenced).breakdown.items():
                slope = share - base.breakdown.get(name, 0.0)
                if slope:
                    shares[name] = shares.get(name, np.zeros(inner)) + slope * steps
        predicted[place] = base.value + value
        low[place] = base.interval[0] + value * max(1 - vector.residual, 0.0)
        high[place] = base.interval[1] + value * (1 + vector.residual)
        for name, share in shares.items():
            breakdown.setdefault(name, np.zeros(shape))[place] = share
    if not space.kept.all():
        for array in (predicted, low, high):
            array[~space.kept] = np.nan
    for array in breakdown.values():
        array[np.isnan(predicted)] = np.nan
    order = [*COMPONENTS]
    names = sorted(breakdown, key=lambda name: order.index(name.split(" + ")[0]))
    per_page = predicted / pages
    gain, along = None, policy_dimension(space)
    if along is not None:
        with np.errstate(invalid="ignore", divide="ignore"):
            gain = 1 - per_page / np.take(per_page, [0], axis=along)
    return Prices(unit, predicted, low, high, {name: breakdown[name] for name in names}, per_page, gain)


class _Vectors:
    """Cost vectors of points, made once for all points that share them.

    A price is linear in each cost: with the costs that are axes at 0 it is the rest, and a step of 1 gives the slope.
    """

    def __init__(self, events: list[str]):
        self.events, self.known = events, {}

    def __call__(self, values: Mapping, arch: str) -> tuple[CostVector | None, dict[str, CostVector]]:
        given = {name: value for name, value in values.items() if name == "arch" or is_price(name)}
        key = repr((arch, given))
        if key not in self.known:
            vector, slopes = arch_of(given, arch).cost_vector, {}
            if vector and self.events:
                vector = vector.replace(**dict.fromkeys(self.events, 0.0))
                slopes = {event: vector.replace(**{event: 1.0}) for event in self.events}
            self.known[key] = vector, slopes
        return self.known[key]


def policy_dimension(space: Space) -> int | None:
    """Return the number of the dimension whose first step is the baseline of gains, or None."""
    for number, dimension in enumerate(space.dimensions):
        if any(axis.parameter == "policy" or axis.parameter.startswith("policy.") for axis in dimension.axes):
            return number
    return None


def sweep(
    space: Mapping | str | os.PathLike | Space,
    output: str | os.PathLike | None = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    executor: str | Executor | None = None,
    workers: int | None = None,
    fail_fast: bool = False,
    yes: bool = False,
    progress: Callable[[int, int, int], None] | None = None,
) -> Sweep:
    """Simulate and price every point of a space.

    Parameters
    ----------
    space : mapping or path
        What the points are (docs/howto-sweep.md): ``{"population.order": [0, 4, 9], "policy": ["v6.16", "v7.0"],
        "population.size": "1GiB"}``, or the TOML file that says the same. Without a target, 80% of the memory is
        reclaimed. Points that differ only in costs share one simulation.
    output : path, optional
        File ending in .nc, .parquet, .csv or .json, written when the sweep ends or is interrupted. Until it is
        complete, finished points are in ``OUTPUT.journal``.
    overwrite : bool
        Replace `output`, and a journal beside it.
    resume : bool
        Go on with what `output` or its journal has of this space; points that failed are tried again.
    executor : {'threads', 'processes', 'dask=ADDRESS'} or concurrent.futures.Executor, optional
        Where points are simulated; the records do not depend on it.
    workers : int, optional
        Number of workers (one per CPU, or as many as the executor has).
    fail_fast : bool
        Stop at the first point that fails, with its error.
    yes : bool
        Run a space of more than 10,000 simulations or 10,000,000 points.
    progress : callable, optional
        Called with the simulations done, their number, and how many failed.

    Returns
    -------
    Sweep

    Raises
    ------
    TypeError, ValueError, OSError, ImportError
        For a space, an output or an executor that does not do; the message names what.
    KeyboardInterrupt
        At Ctrl-C, when what was done has been written.
    SweepError
        If the workers are gone, or of a point with `fail_fast`; what was done has been written.
    """
    space = Space.of(space)
    if output is not None:
        from rmapfast.sweeps.dataset import check_path

        check_path(output)
        check_writable(output, overwrite=overwrite or resume)
    elif resume:
        raise ValueError("resume: needs the output of the sweep to go on with")
    made = Sweep(space, {}, {})
    _check_size(made, yes)
    head = header(space.to_dict(), space.inputs)
    journal = Journal(output) if output is not None else None
    with opened(executor, workers) as where:
        records = journal.open(head, resume=resume, overwrite=overwrite) if journal else {}
        complete = False
        try:
            if resume and not records and os.path.exists(output):
                records = _finished(output, head)
                journal.add(records.items())  # which is what a later resume looks at
            try:
                records, error = _run(made, records, where, journal, fail_fast, progress), None
            except _Partial as partial:
                records, error = partial.records, partial.error
            result = Sweep(space, records, _provenance(space, head, where))
            if output is not None and (not error or any("error" not in one for one in records.values())):
                result.save(output, overwrite=overwrite or resume)
            complete = not error
        finally:
            if journal:
                journal.close(finished=complete)
        if error:
            raise error
    return result


class _Partial(Exception):
    """The sweep ended before its last point."""

    def __init__(self, records: dict, error: BaseException):
        self.records, self.error = records, error


def _check_size(made: Sweep, yes: bool) -> None:
    points = made.points
    sizes = [(points, MOST_POINTS, "points")]
    if points > MOST_SIMULATIONS:  # counted only then: it takes a while
        sizes.append((len(set(made.simulations.values())), MOST_SIMULATIONS, "simulations"))
    for number, most, what in sizes:
        if number > most and not yes:
            raise ValueError(f"sweep: {number:,} {what}, more than {most:,}; yes=True (--yes) runs them all the same")


def _finished(output, head: dict) -> dict[str, dict]:
    """Records of an output that was complete, or whose journal is gone."""
    from rmapfast.saved import load

    found = load(output)
    if not isinstance(found, Sweep):
        raise ValueError(f"{output}: cannot be resumed: it is no sweep; --overwrite begins anew")
    arguments = found.provenance["arguments"]
    before = header(arguments["space"], arguments["inputs"]) | {"rmapfast": found.provenance["rmapfast"]}
    check_same(before, head, output)
    return found.records


def _run(made: Sweep, records: dict, where, journal, fail_fast: bool, progress) -> dict[str, dict]:
    """Simulate what has no record yet; raises _Partial with those that were done."""
    wanted = dict.fromkeys(made.simulations.values())
    records = {key: record for key, record in records.items() if key in wanted and "error" not in record}
    points = {}
    for index, key in made.simulations.items():
        if key not in records and key not in points:
            points[key] = made.space.simulated(index)
    # kept in the order of the space, whatever the order in which they are done
    failed = 0

    def report():
        if progress:
            progress(len(records), len(wanted), failed)

    report()
    try:
        for some in completed(where, list(points.items())):
            records |= dict(some)
            failed += sum("error" in record for _, record in some)
            if journal:
                journal.add(some)
            report()
            if fail_fast and failed:
                raise SweepError(next(record["error"] for _, record in some if "error" in record))
    except (KeyboardInterrupt, SweepError) as error:
        raise _Partial({key: records[key] for key in wanted if key in records}, error) from None
    return {key: records[key] for key in wanted}


def _provenance(space: Space, head: dict, where) -> dict:
    seeds = space.all_values("population.seed") or [0]
    arguments = {"space": head["space"], "inputs": head["inputs"], "seeds": seeds}
    if not space.all_values("target"):
        arguments["target"] = SEED_TARGET
    run = {"executor": where.name, "workers": where.number, "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    return provenance(**arguments) | {"run": run}
