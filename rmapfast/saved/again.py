"""Saved results, run again to see whether the numbers are the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from rmapfast._version import __version__
from rmapfast.comparison import Comparison
from rmapfast.loop import reclaim
from rmapfast.population import Population
from rmapfast.result import Result
from rmapfast.saved.documents import load
from rmapfast.sweeps import Sweep, sweep
from rmapfast.sweeps import where as where_is


@dataclass(frozen=True)
class Difference:
    """A number that is not what it was."""

    where: str
    name: str
    before: object
    now: object


@dataclass(frozen=True)
class Rerun:
    """A saved result and what running it again gave.

    Parameters
    ----------
    path : str
    before, now : str
        Version that made the file, and this one.
    runs : int
        Simulations that were compared.
    differences : tuple of Difference
    again : Sweep or Comparison
        The new outcome.
    """

    path: str
    before: str
    now: str
    runs: int
    differences: tuple[Difference, ...]
    again: Sweep | Comparison

    @property
    def same(self) -> bool:
        """Whether every number is what it was."""
        return not self.differences

    def to_dict(self) -> dict:
        """Return the outcome as a dict that serialises to JSON."""
        return {
            "file": self.path,
            "rmapfast_before": self.before,
            "rmapfast_now": self.now,
            "runs": self.runs,
            "same": self.same,
            "differences": [vars(one) for one in self.differences],
        }


def rerun(path: str | os.PathLike, *, progress: Callable[..., None] | None = None, **options) -> Rerun:
    """Run a saved result again and compare every number that does not depend on the machine.

    Parameters
    ----------
    path : path
        What :func:`rmapfast.save`, ``rmapfast reclaim -o`` or a sweep wrote.
    progress : callable, optional
        Called with the simulations done, their number, and how many failed.
    **options
        Of a sweep, where it runs: ``executor``, ``workers``.

    Raises
    ------
    ValueError
        If the file does not say how to repeat its runs, or an input has changed since.
    OSError
        If the file or an input cannot be read.
    """
    saved = load(path)
    version = saved.provenance["rmapfast"]
    if isinstance(saved, Sweep):
        before = saved.provenance["arguments"]["inputs"]
        space = type(saved.space).of(saved.provenance["arguments"]["space"])
        for name, found in space.inputs.items():
            if before.get(name) != found:
                raise ValueError(
                    f"{name}: changed since {path} was made (SHA-256 {found[:12]}, was {before[name][:12]})"
                )
        again = sweep(space, yes=True, progress=progress, **options)
        return Rerun(str(path), version, __version__, len(saved.records), tuple(differences(saved, again)), again)
    runs, found = [], []
    for number, run in enumerate(saved.runs, 1):
        runs.append(_again(run, saved))
        found += _of_results(f"{run.policy_name} on {run.arch.name}", run, runs[-1])
        if progress:
            progress(number, len(saved.runs), 0)
    again = Comparison(tuple(runs), saved.population, saved.provenance)
    return Rerun(str(path), version, __version__, len(runs), tuple(found), again)


def _again(run: Result, saved: Comparison) -> Result:
    described, arguments = run.population, (run.provenance or saved.provenance)["arguments"]
    assumed = dict(described["assumptions"])
    if isinstance(run.policy, str):
        raise ValueError(f"{run.policy}: a policy that is a Python function is not in the file and cannot be repeated")
    if described["source"] == "synthetic":
        population = Population.described(
            **{k: v for k, v in assumed.items() if k not in ("arch", "fill")}, arch=run.arch
        )
    elif paths := arguments.get("capture"):
        given = ("young", "seed", "dirty", "write", "soft_dirty", "uffd_wp", "lru")
        options = {name: arguments[name] for name in given if name in arguments}
        population = Population.load(paths, arch=run.arch, **options)
        if population.input_hash != described["input_hash"]:
            raise ValueError(f"{' '.join(paths)}: changed since the runs were made")
    else:
        raise ValueError(f"the population ({described['source']}) is not described in the file: it cannot be repeated")
    return reclaim(
        population,
        run.target_pages << run.arch.page_shift,
        policy=run.policy,
        arch=run.arch,
        entry=run.entry,
        swap=arguments.get("swap", True),
        engine=arguments.get("engine", "c"),
        in_place=True,
    )


def _of_results(where: str, before: Result, now: Result):
    yield from _of_counts(where, before.events, now.events)
    yield from _of_counts(where, before.batch_lengths, now.batch_lengths, "batches of ")
    yield from _of_counts(where, vars_of(before), vars_of(now))
    prices = [one.prediction.value if one.costs else None for one in (before, now)]
    if prices[0] != prices[1]:
        yield Difference(where, "predicted", *prices)


def vars_of(run: Result) -> dict:
    """The sizes of a run."""
    return {"reclaimed_pages": run.reclaimed_pages, "target_pages": run.target_pages}


def _of_counts(where: str, before: Mapping, now: Mapping, prefix: str = ""):
    for name in dict.fromkeys([*before, *now]):
        pair = before.get(name, 0), now.get(name, 0)
        if pair[0] != pair[1]:
            yield Difference(where, f"{prefix}{name}", *pair)


def differences(before: Sweep, now: Sweep):
    """Yield what differs between two sweeps of the same space.

    Raises
    ------
    ValueError
        If the spaces differ.
    """
    if before.space.to_dict() != now.space.to_dict():
        raise ValueError("sweeps: expected two of the same space, got different ones")
    keys = zip(before.simulations.items(), now.simulations.values(), strict=True)
    for (index, key), other in keys:
        where = where_is(before, index, before.structural)
        old, new = before.records.get(key, {}), now.records.get(other, {})
        if old.get("error") != new.get("error"):
            yield Difference(where, "error", old.get("error", "none"), new.get("error", "none"))
        for name in ("events", "referenced_events", "batch_lengths"):
            prefix = {"events": "", "referenced_events": "referenced ", "batch_lengths": "batches of "}[name]
            yield from _of_counts(where, old.get(name, {}), new.get(name, {}), prefix)
        sizes = [{name: one.get(name, 0) for name in ("reclaimed_pages", "target_pages")} for one in (old, new)]
        yield from _of_counts(where, *sizes)
    old, new = before.prices, now.prices
    for name in ("predicted", "low", "high"):
        pair = getattr(old, name), getattr(new, name)
        for index in np.argwhere(~np.isclose(*pair, rtol=1e-12, atol=0, equal_nan=True))[:1000]:
            at = tuple(index)
            name_of = "predicted" if name == "predicted" else f"predicted {name}"
            yield Difference(where_is(before, at), name_of, *(float(one[at]) for one in pair))
