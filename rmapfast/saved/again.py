"""Saved results, run again to see whether the numbers are the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from rmapfast._version import __version__
from rmapfast.comparison import Comparison, MadviseCall
from rmapfast.loop import MADVISE_ACTIONS, reclaim
from rmapfast.lru import LRU_STATS, checked_history
from rmapfast.population import Population
from rmapfast.result import Result
from rmapfast.saved.changed import Difference, differences, run_differences
from rmapfast.saved.documents import load
from rmapfast.spec import PopulationSpec
from rmapfast.sweeps import Space, Sweep, sweep
from rmapfast.unseen import UNSEEN, assume_pages, parse_pages


@dataclass(frozen=True)
class Rerun:
    """A saved result and what running it again gave.

    Parameters
    ----------
    path : str
        The file.
    before, now : str
        Version of rmapfast that made the file, and this one.
    runs : int
        Simulations that were compared.
    differences : tuple of Difference
        Every number that is not what it was; none if the result was repeated.
    again : Sweep or Comparison
        The new outcome.

    Examples
    --------
    >>> import tempfile
    >>> import rmapfast as rf
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rf.save(rf.reclaim(rf.Population.synthetic("1MiB"), "80%"), f"{folder}/run.json")
    ...     rf.rerun(f"{folder}/run.json").same
    True
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

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as a dict that serialises to JSON.

        Returns
        -------
        dict
        """
        return {
            "file": self.path,
            "rmapfast_before": self.before,
            "rmapfast_now": self.now,
            "runs": self.runs,
            "same": self.same,
            "differences": [vars(one) for one in self.differences],
        }


def rerun(
    path: str | os.PathLike[str],
    *,
    executor: str | Executor | None = None,
    workers: int | None = None,
    progress: bool | Callable[[int, int, int], None] | None = None,
) -> Rerun:
    """Run a saved result again and compare every number that does not depend on the machine.

    Parameters
    ----------
    path : path
        What :func:`rmapfast.save`, ``rmapfast reclaim -o`` or a sweep wrote.
    executor, workers
        Where the points of a sweep run, as for :func:`rmapfast.sweep`; not with a result of reclaim.
    progress : bool or callable, optional
        True shows a bar (of tqdm where it is installed), or a line; in a log file a line now and then. A function is
        called with the simulations done, their number, and how many failed.

    Returns
    -------
    Rerun

    Raises
    ------
    ValueError
        If the file does not say how to repeat its runs, if an input has changed since, or if `executor` or `workers`
        could not be used.
    OSError
        If the file or an input cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> import rmapfast as rf
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rf.save(rf.reclaim(rf.Population.synthetic("1MiB"), "80%"), f"{folder}/run.json")
    ...     rf.rerun(f"{folder}/run.json").differences
    ()
    """
    saved = load(path)
    version = saved.provenance["rmapfast"]
    if isinstance(saved, Sweep):
        arguments = saved.provenance["arguments"]
        before, space = arguments["inputs"], Space.of(arguments["space"])
        for name, found in space.inputs.items():
            if before.get(name) != found:
                raise ValueError(
                    f"{name}: changed since {path} was made (SHA-256 {found[:12]}, was {before[name][:12]})"
                )
        swept = sweep(space, yes=True, executor=executor, workers=workers, progress=progress)
        return Rerun(str(path), version, __version__, len(saved.records), tuple(differences(saved, swept)), swept)
    for option, given in (("executor", executor), ("workers", workers)):
        if given is not None:
            raise ValueError(f"{option}: expected a sweep, whose points run on workers; {path} holds runs of reclaim")
    runs: list[Result] = []
    differing: list[Difference] = []
    for number, run in enumerate(saved.runs, 1):
        runs.append(_again(run, saved))
        differing += run_differences(run, runs[-1])
        if callable(progress):
            progress(number, len(saved.runs), 0)
    again = Comparison(tuple(runs), saved.population, saved.provenance)
    return Rerun(str(path), version, __version__, len(runs), tuple(differing), again)


def _again(run: Result, saved: Comparison) -> Result:
    """Return the run of a saved comparison, made again."""
    arguments = (run.provenance or saved.provenance)["arguments"]
    if isinstance(run.policy, str):
        raise ValueError(f"{run.policy}: a policy that is a Python function is not in the file and cannot be repeated")
    population = _population(run, arguments)
    options: dict[str, Any] = {
        "policy": run.policy,
        "arch": run.arch,
        "swap": arguments.get("swap", True),
        "engine": arguments.get("engine", "c"),
        "in_place": True,
    }
    if run.entry in MADVISE_ACTIONS:
        made = Population.of(population) if isinstance(population, PopulationSpec) else population
        return MadviseCall.again(arguments)(made, **options)
    if "max_ptes_none" in arguments:
        options["max_ptes_none"] = arguments["max_ptes_none"]
    if run.entry == "memory.reclaim":
        options |= {"lru": run.lru, "lru_stats": arguments.get("lru_stats", LRU_STATS[0])}
    return reclaim(population, run.target_pages << run.arch.page_shift, entry=run.entry, **options)


def _population(run: Result, arguments: dict[str, Any]) -> Population | PopulationSpec:
    """Return the population that a saved run reclaimed, made or loaded again."""
    population = _loaded(run, arguments)
    given = [text.partition("=") for text in arguments.get("assume_pages", [])]
    if given:
        population = Population.of(population) if isinstance(population, PopulationSpec) else population
        assume_pages(population, {name: parse_pages(name, pages, population) for name, _, pages in given})
    return population


def _loaded(run: Result, arguments: dict[str, Any]) -> Population | PopulationSpec:
    """Return the population of a saved run without what was assumed of single pages."""
    described = run.population
    if described["source"] == "synthetic":
        not_given = {"arch", "fill", *(f"{name}_pages" for name in UNSEEN)}
        assumed = {name: value for name, value in described["assumptions"].items() if name not in not_given}
        return Population.described(**assumed, arch=run.arch)
    paths = arguments.get("capture")
    if not paths:
        raise ValueError(f"the population ({described['source']}) is not described in the file: it cannot be repeated")
    given = ("young", "seed", "dirty", "write", "soft_dirty", "uffd_wp", "lru", "folio_order")
    options = {name: arguments[name] for name in given if name in arguments}
    population = Population.load(paths, arch=run.arch, **options)
    population.history = ",".join(checked_history(arguments.get("history", "")))
    if population.input_hash != described["input_hash"]:
        raise ValueError(f"{' '.join(paths)}: changed since the runs were made")
    return population
