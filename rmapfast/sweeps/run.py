"""Sweeps: every structural point of a space is simulated once, and priced for all costs."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rmapfast.loop import SEED_TARGET
from rmapfast.parallel import Journal, Pool, opened
from rmapfast.provenance import provenance
from rmapfast.support import (
    JsonObject,
    ProgressBar,
    Seed,
    check_apart,
    check_writable,
    checked_boolean,
    checked_progress,
    checked_seed,
    info,
)
from rmapfast.sweeps.data import SweepData
from rmapfast.sweeps.dataset import document, to_dataframe, to_xarray
from rmapfast.sweeps.files import check_path, from_document, read_file, save_file
from rmapfast.sweeps.html import mean_html, sweep_html
from rmapfast.sweeps.mean import MeanData
from rmapfast.sweeps.points import Record
from rmapfast.sweeps.resuming import ADVICE, differs, header, journal_of, journal_path
from rmapfast.sweeps.sensitivity import Ranking, rank
from rmapfast.sweeps.space import Space
from rmapfast.sweeps.tasks import SweepError, completed

# More than this only if it is asked for: hours of simulation, gigabytes of prices.
MOST_SIMULATIONS = 10_000
MOST_POINTS = 10_000_000


@dataclass(frozen=True, repr=False)
class Sweep(SweepData):
    """The outcome of a sweep: the records of its simulations, and the prices of its points.

    Parameters
    ----------
    space : Space
    records : dict
        By key of the simulation (:meth:`Space.key`): ``events``, ``referenced_events``, ``batch_lengths``,
        ``reclaimed_pages`` and ``target_pages`` in base pages, ``arch`` and ``wall_s``; or ``error`` alone.
    provenance : dict
        Versions, host, the whole space, hashes of inputs.

    Attributes
    ----------
    prices : Prices
        Predictions of all points, as arrays of the shape of the space.
    simulations : dict of tuple of int to str
        Keys of the simulations by index; along dimensions of prices the index is 0.
    structural : tuple of int
        Numbers of the dimensions along which points are simulated.
    failures : dict of tuple of int to str
        What went wrong, by index of the simulation.
    complete : bool
        Whether every simulation was run.
    points : int
        Number of points that the constraints keep.

    Examples
    --------
    >>> import rmapfast as rf
    >>> axes = {"population.size": "1MiB", "population.order": [0, 4], "policy": ["per-page", "v7.0"], "arch": "x86-64"}
    >>> swept = rf.sweep(axes)
    >>> swept.complete, swept.prices.gain.shape
    (True, (2, 2))
    """

    def to_xarray(self) -> Any:
        """Return an xarray.Dataset: axes as coordinates, counts, predictions, errors and provenance.

        Returns
        -------
        xarray.Dataset
            ``events``, ``referenced_events`` (last axis ``event``) and ``batch_lengths`` (last axis ``nr``) are
            uint64 over the dimensions along which points are simulated; ``predicted``, ``predicted_interval`` (last
            axis ``bound``), ``breakdown`` (last axis ``component``), ``per_page`` and ``gain`` are float64 over all
            dimensions, and NaN where there is no price. Units are in the attribute ``units``.

        Raises
        ------
        ImportError
            If xarray is not installed; the message has the pip command.
        """
        return to_xarray(self)

    def to_dataframe(self) -> Any:
        """Return a pandas.DataFrame with a row per point that the constraints keep.

        Returns
        -------
        pandas.DataFrame
            A column per axis, price, count and text. The unit of a price is the end of its name.

        Raises
        ------
        ImportError
            If pandas is not installed; the message has the pip command.
        """
        return to_dataframe(self)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the default output over two axes, the axes, and what failed."""
        return sweep_html(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the sweep as a dict that serialises to JSON, as a .json file holds it.

        Returns
        -------
        dict
            ``provenance``; ``columns``, a list per axis and price with an entry per point; and ``records``.
        """
        return document(self)

    def mean(self, over: str, *, quantiles: tuple[float, float] | None = None) -> SweepMean:
        """Return means over one axis, such as the seeds, with bounds that say how far the points lie from them.

        The bounds say nothing of how well the costs are known; the intervals of the prices do.

        Parameters
        ----------
        over : str
            The axis, such as ``population.seed``.
        quantiles : tuple of float, optional
            Shares of the points below the lower and the upper bound, such as (0.05, 0.95). By default the bounds are a
            standard error from the mean, which has none of a single point.

        Returns
        -------
        SweepMean
            :func:`rmapfast.plot.sweep` draws it with error bars.

        Raises
        ------
        TypeError, ValueError
            If there is no such axis, or `quantiles` are no two rising shares.

        Examples
        --------
        >>> space = {"population.seed": [1, 2, 3], "population.order": [0, 4], "population.holes": 0.1}
        >>> found = sweep({**space, "population.size": "1MiB"})
        >>> found.mean("population.seed")
        <SweepMean population.order 2: mean over 3 steps of population.seed, bounds: standard error>
        """
        return SweepMean(self, over, quantiles)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the sweep as .nc, .parquet, .csv or .json, whole or not at all; :func:`rmapfast.load` reads it.

        Parameters
        ----------
        path : path
        overwrite : bool
            Replace a file that is there.

        Raises
        ------
        ImportError
            If the format needs a package that is not installed; the message has the pip command.
        ValueError
            For another ending.
        OSError
            If the file cannot be written, or is there and may not be replaced.

        Examples
        --------
        >>> import tempfile
        >>> import rmapfast as rf
        >>> swept = rf.sweep({"population.size": "1MiB", "population.order": [0, 4]})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     swept.save(f"{folder}/out.csv")
        ...     len(rf.load(f"{folder}/out.csv"))
        2
        """
        save_file(self, path, overwrite=overwrite)

    def rank(self, *, seed: Seed = 0) -> Ranking:
        """Rank the axes by what they do to the gain of the last policy over the first.

        Without an axis of policies: by what they do to the prediction per reclaimed page. One axis at a time is moved
        from the point nearest the middle of all axes that has a value. Total-order Sobol indices over all points come
        from SALib, where it is installed.

        Parameters
        ----------
        seed : int, or what :func:`numpy.random.default_rng` takes
            Of the samples.

        Returns
        -------
        Ranking

        Raises
        ------
        ValueError
            If nothing has a price, or no axis is left.

        Examples
        --------
        >>> import rmapfast as rf
        >>> axes = {"population.order": [0, 4], "policy": ["per-page", "v7.0"], "arch": "x86-64"}
        >>> rf.sweep({**axes, "population.size": "1MiB"}).rank().output
        'predicted gain per reclaimed page (v7.0 over per-page)'
        """
        return rank(self, seed=checked_seed("seed", seed))


@dataclass(frozen=True, repr=False)
class SweepMean(MeanData):
    """Means of a sweep over one of its axes; :meth:`Sweep.mean` makes it.

    Parameters
    ----------
    sweep : Sweep
    over : str
        The axis whose points are averaged.
    quantiles : tuple of float, optional
        Shares of the points below the lower and the upper bound; by default the bounds are a standard error from the
        mean.

    Examples
    --------
    >>> import rmapfast as rf
    >>> space = {"population.seed": [1, 2, 3], "population.order": [0, 4], "population.holes": 0.1}
    >>> mean = rf.sweep({**space, "population.size": "1MiB"}).mean("population.seed", quantiles=(0.0, 1.0))
    >>> mean
    <SweepMean population.order 2: mean over 3 steps of population.seed, bounds: 0% to 100% of the points>
    >>> found = mean.output("batches")
    >>> bool((found.low <= found.values).all()), found.points.tolist()
    (True, [3, 3])
    """

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the default output over two axes."""
        return mean_html(self)


def load_file(path: str | os.PathLike[str]) -> Sweep:
    """Read what :meth:`Sweep.save` wrote.

    Raises
    ------
    ValueError
        If the file is no sweep.
    ImportError
        If the format needs a package that is not installed; the message has the pip command.
    OSError
        If it cannot be read.
    """
    return _sweep_of(read_file(path))


def load_document(found: JsonObject) -> Sweep:
    """Return the sweep of a JSON document, which has ``records``.

    Raises
    ------
    ValueError
        If it is none; the message names the key.
    """
    return _sweep_of(from_document(found))


def _sweep_of(data: SweepData) -> Sweep:
    return Sweep(data.space, data.records, data.provenance)


def sweep(
    space: Mapping[str, Any] | str | os.PathLike[str] | Space,
    output: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    executor: str | Executor | None = None,
    workers: int | None = None,
    fail_fast: bool = False,
    yes: bool = False,
    progress: bool | Callable[[int, int, int], None] | None = None,
) -> Sweep:
    """Simulate and price every point of a space.

    Parameters
    ----------
    space : mapping, path or Space
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
        Where points are simulated, by default on threads; the records do not depend on it.
    workers : int, optional
        How many points are simulated at a time, by default one per CPU, or as many as the executor or the cluster
        has. An executor that says how many workers it has takes no other number.
    fail_fast : bool
        Stop at the first point that fails, with its error.
    yes : bool
        Run a space of more than 10,000 simulations or 10,000,000 points.
    progress : bool or callable, optional
        True shows a bar (of tqdm where it is installed), or a line; in a log file a line now and then. A function is
        called with the simulations done, their number, and how many failed.

    Returns
    -------
    Sweep

    Raises
    ------
    TypeError, ValueError
        For a space, an output or an executor that cannot be used; the message names what.
    ImportError
        If the output or the executor needs a package that is not installed; the message has the pip command.
    OSError
        If a file cannot be read or written, is there already, or another sweep is writing it.
    KeyboardInterrupt
        At Ctrl-C, when what was done has been written.
    SweepError
        If the workers are gone, or of a point with `fail_fast`; what was done has been written.

    Examples
    --------
    >>> found = sweep({"population.order": [0, 4], "policy": ["v6.16", "v7.0"], "population.size": "1MiB"})
    >>> found
    <Sweep population.order 2, policy 2: 4 points, 4 of 4 simulations done, 0 failed>
    >>> found.prices.gain.shape
    (2, 2)
    """
    for name, flag in (("overwrite", overwrite), ("resume", resume), ("fail_fast", fail_fast), ("yes", yes)):
        checked_boolean(name, flag)
    if not isinstance(progress, bool):
        checked_progress(progress)
    where, space = space, Space.of(space)
    if output is not None:
        check_path(output)
        read = [*space.inputs, *([where] if isinstance(where, str | os.PathLike) else [])]
        check_apart({"output": output, "the journal": journal_path(output)}, read)
        check_writable(output, overwrite=overwrite or resume)
    elif resume:
        raise ValueError("resume: needs the output of the sweep to go on with")
    planned = SweepData(space, {}, {})
    _check_size(planned, yes)
    head = header(space.to_dict(), space.inputs)
    with opened(executor, workers) as pool, _reported(progress) as report:
        if output is None:
            records, error = _run(planned, {}, pool, None, fail_fast, report)
            result = Sweep(space, records, _provenance(space, head, pool))
        else:
            result, error = _run_into(output, planned, head, pool, overwrite, resume, fail_fast, report)
        if error is not None:
            raise error
    return result


_Progress = Callable[[int, int, int], None] | None


@contextmanager
def _reported(progress: bool | _Progress) -> Iterator[_Progress]:
    """Yield the function to call with the simulations done, their number and how many failed; a bar for True."""
    if progress is not True:
        yield progress or None
        return
    bar = ProgressBar("", "points")

    def show(done: int, total: int, failed: int) -> None:
        bar.total = total
        bar(done, f"{failed} failed" if failed else "")

    try:
        yield show
    finally:
        bar.close()


def _run_into(
    output: str | os.PathLike[str],
    planned: SweepData,
    head: dict[str, Any],
    pool: Pool,
    overwrite: bool,
    resume: bool,
    fail_fast: bool,
    progress: _Progress,
) -> tuple[Sweep, BaseException | None]:
    """Run a sweep and write it; what ended it early is returned when what was done has been written."""
    journal = journal_of(output, head)
    if journal.path.exists() and not (resume or overwrite):
        raise FileExistsError(
            errno.EEXIST,
            "An unfinished sweep, resume=True (--resume) goes on with it, overwrite=True (--overwrite) begins anew",
            str(journal.path),
        )
    before = dict(journal.open(head, anew=not resume))
    complete = False
    try:
        if resume and not before and os.path.exists(output):
            before = _finished(output, head)
            for key, record in before.items():  # a later resume looks into the journal
                journal.add({"key": key, "record": record})
        records, error = _run(planned, before, pool, journal, fail_fast, progress)
        result = Sweep(planned.space, records, _provenance(planned.space, head, pool))
        if error is None or any("error" not in one for one in records.values()):
            result.save(output, overwrite=overwrite or resume)
        complete = error is None
    finally:
        journal.close(remove=complete or journal.empty)
    return result, error


def _check_size(planned: SweepData, yes: bool) -> None:
    """Raise ValueError for a space that is so large that it may be a mistake."""
    sizes = [(planned.points, MOST_POINTS, "points")]
    if planned.points > MOST_SIMULATIONS:  # counted only then: it takes a while
        sizes.append((len(set(planned.simulations.values())), MOST_SIMULATIONS, "simulations"))
    for number, most, what in sizes:
        if number > most and not yes:
            raise ValueError(f"sweep: {number:,} {what}, more than {most:,}; yes=True (--yes) runs them all the same")


def _finished(output: str | os.PathLike[str], head: dict[str, Any]) -> dict[str, Record]:
    """Return the records of an output that was complete, or whose journal is gone."""
    found = read_file(output)
    arguments = found.provenance["arguments"]
    before = header(arguments["space"], arguments["inputs"]) | {"rmapfast": found.provenance["rmapfast"]}
    if what := differs(before, head):
        raise ValueError(f"{output}: cannot be resumed: {what}; {ADVICE}")
    return found.records


def _run(
    planned: SweepData,
    before: Mapping[str, Record],
    pool: Pool,
    journal: Journal[tuple[str, Record]] | None,
    fail_fast: bool,
    progress: _Progress,
) -> tuple[dict[str, Record], BaseException | None]:
    """Simulate what has no record yet.

    Returns
    -------
    records : dict
        Old and new ones, in the order of the space.
    error : BaseException or None
        What ended the sweep before its last point.
    """
    wanted = dict.fromkeys(planned.simulations.values())
    records = {key: record for key, record in before.items() if key in wanted and "error" not in record}
    points = {}
    for index, key in planned.simulations.items():
        if key not in records and key not in points:
            points[key] = planned.space.simulated(index)
    shared = planned.points - len(wanted)
    info(
        "sweep",
        "%d simulations for %d points, %d of which share one; %d were done before",
        len(wanted),
        planned.points,
        shared,
        len(records),
    )
    failed = 0
    ended: BaseException | None = None

    def report() -> None:
        if progress:
            progress(len(records), len(wanted), failed)

    report()
    try:
        for some in completed(pool, list(points.items())):
            records |= some
            failed += sum("error" in record for _, record in some)
            for key, record in some:
                if journal:
                    journal.add({"key": key, "record": record})
            report()
            if fail_fast and failed:
                raise SweepError(next(record["error"] for _, record in some if "error" in record))
    except (KeyboardInterrupt, SweepError) as error:
        ended = error
    return {key: records[key] for key in wanted if key in records}, ended


def _provenance(space: Space, head: dict[str, Any], pool: Pool) -> dict[str, Any]:
    seeds = space.all_values("population.seed") or [0]
    arguments = {"space": head["space"], "inputs": head["inputs"], "seeds": seeds}
    if not space.all_values("target"):
        arguments["target"] = SEED_TARGET
    run = {"executor": pool.name, "workers": pool.workers, "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    return provenance(**arguments) | {"run": run}
