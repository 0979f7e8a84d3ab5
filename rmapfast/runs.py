"""Runs side by side, as tables, figures and files show them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rmapfast.cost import CostVector
from rmapfast.events import EVENT_NAMES
from rmapfast.result import Result
from rmapfast.support import shown


@dataclass(frozen=True, repr=False)
class Runs:
    """Runs under several policies and architectures, side by side; the first of each architecture is the baseline.

    Parameters
    ----------
    runs : tuple of Result
        By architecture, then policy, in the order in which they were asked for.
    population : dict
        What was reclaimed (:meth:`Population.describe`); where the runs differ in it, that of the first run.
    provenance : dict
        Versions, host and arguments.
    """

    runs: tuple[Result, ...]
    population: dict[str, Any]
    provenance: dict[str, Any]

    def by_arch(self) -> dict[str, list[Result]]:
        """Return the runs of each architecture, the baseline first."""
        return group_by_arch(self.runs)

    def _on(self, arch: str) -> list[Result]:
        """Return the runs on an architecture; raise KeyError if there are none."""
        groups = self.by_arch()
        if not isinstance(arch, str) or arch not in groups:
            raise KeyError(f"arch: expected one of {', '.join(groups)}, got {shown(arch)}")
        return groups[arch]

    @property
    def sources(self) -> list[str]:
        """Names of the results that were put together; empty for runs of one comparison."""
        return list(dict.fromkeys(run.source for run in self.runs if run.source))

    def label(self, run: Result) -> str:
        """Return the name of a run in a table or plot: its policy, after the number of its source if there are any."""
        return f"[{self.sources.index(run.source) + 1}] {run.policy_name}" if run.source else run.policy_name

    @property
    def same_memory(self) -> bool:
        """Whether the runs on each architecture reclaim the same memory, so that their totals compare."""
        return not self.sources or all(len(set(map(_memory, group))) == 1 for group in self.by_arch().values())

    def unpriced(self, arch: str) -> list[str]:
        """Return the events in which the runs on an architecture differ and that none of them has a price for.

        Parameters
        ----------
        arch : str

        Returns
        -------
        list of str
            Of one run: the events that it has. Events are compared per reclaimed page, and as totals where a run
            reclaimed nothing.
        """
        runs = self._on(arch)
        whole = any(run.reclaimed_pages == 0 for run in runs)
        counts = [run.events.counts / (1 if whole else run.reclaimed_pages) for run in runs]
        found = [set(run.costs.unpriced(*counts)) for run in runs if run.costs]
        return [event for event in EVENT_NAMES if found and all(event in one for one in found)]

    def cost_vectors(self) -> dict[str, CostVector]:
        """Return the cost vectors that price the runs by name; of two with the same name the second is "NAME (2)"."""
        vectors: dict[str, CostVector] = {}
        for run in self.runs:
            vector = run.costs
            if vector is not None and vector not in vectors.values():
                names = (vector.name, *(f"{vector.name} ({number})" for number in range(2, len(self.runs) + 1)))
                vectors[next(name for name in names if name not in vectors)] = vector
        return vectors

    def ratio(self, event: str, policy: str, arch: str) -> float:
        """Return an event's count under a policy divided by that under the baseline.

        Parameters
        ----------
        event, policy, arch : str
            Names; the baseline is the first run on that architecture.

        Returns
        -------
        float
            NaN where the baseline counts none.

        Raises
        ------
        KeyError
            If there is no such event or run.
        """
        group = self._on(arch)
        runs = {run.policy_name: run for run in group}
        if not isinstance(policy, str) or policy not in runs:
            raise KeyError(f"policy: expected one of {', '.join(runs)}, got {shown(policy)}")
        baseline = group[0].events[event]
        return runs[policy].events[event] / baseline if baseline else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Return the runs as a dict that serialises to JSON, with the cost vectors that price them.

        Returns
        -------
        dict
            ``provenance``, ``population``, ``cost_vectors`` by name, ``without_price`` (:meth:`unpriced` by
            architecture), and ``runs``: :meth:`Result.to_dict` of each with
            the name of its cost vector and with what its population, source and provenance differ in.
        """
        vectors = self.cost_vectors()
        runs = []
        for run in self.runs:
            document = run.to_dict()
            document["cost_vector"] = next((name for name, one in vectors.items() if one == run.costs), None)
            differing = {k: v for k, v in run.population.items() if k not in self.population or v != self.population[k]}
            document |= {"population": differing} if differing else {}
            document |= {"source": run.source, "provenance": run.provenance} if run.source else {}
            runs.append(document)
        return {
            "provenance": self.provenance,
            "population": self.population,
            "cost_vectors": {name: vector.to_dict() for name, vector in vectors.items()},
            "without_price": {arch: self.unpriced(arch) for arch in self.by_arch()},
            "runs": runs,
        }


def group_by_arch(runs: Iterable[Result]) -> dict[str, list[Result]]:
    """Return the runs by the name of their architecture, in their order."""
    groups: dict[str, list[Result]] = {}
    for run in runs:
        groups.setdefault(run.arch.name, []).append(run)
    return groups


def _memory(run: Result) -> str:
    """Return what a run reclaimed, as far as its totals depend on it."""
    population = run.population
    assumptions = {name: value for name, value in population["assumptions"].items() if name != "arch"}
    same = [population[name] for name in ("source", "input_hash", "bytes")]
    return json.dumps([same, assumptions, run.entry, run.target_pages], sort_keys=True, default=str)
