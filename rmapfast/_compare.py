"""Several policies and architectures on the same memory, side by side."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from rmapfast import arch as _arch
from rmapfast import policy as _policy
from rmapfast._reclaim import Result, cost_vector, provenance, reclaim
from rmapfast.cost import CostVector
from rmapfast.population import Population
from rmapfast.spec import PopulationSpec
from rmapfast.support import closest

# The seed's experiment: without and with the patch, for a clean read-only mapping.
SEED_POLICIES = ("v6.16+young", "v7.0")
SEED_ARCHES = ("arm64-4k", "x86-64")


@dataclass(frozen=True, repr=False)
class Comparison:
    """Runs under several policies and architectures, side by side; the first of each architecture is the baseline.

    Parameters
    ----------
    runs : tuple of Result
        By architecture, then policy, as they were asked for.
    population : dict
        What was reclaimed (:meth:`Population.describe`); where runs differ in it, of the first.
    provenance : dict
        Versions, host and arguments.
    """

    runs: tuple[Result, ...]
    population: dict
    provenance: dict

    @classmethod
    def of(
        cls,
        results: Result | Comparison | Mapping[str, Result | Comparison],
        *,
        baseline: str | None = None,
        costs: str | os.PathLike | CostVector | None = None,
    ) -> Comparison:
        """Put live or saved results side by side.

        Parameters
        ----------
        results : Result, Comparison or mapping of str to these
            By the name that a table gives them.
        baseline : str, optional
            Name of a result or of a policy: its first run on each architecture is the baseline there. By default the
            first run of the first result.
        costs : str, path or CostVector, optional
            Price all runs with this cost vector, in place of their own.

        Raises
        ------
        TypeError, ValueError
            If something is no result, nothing has the name `baseline`, or runs on one architecture are priced in
            different units.
        """
        parts = dict(results) if isinstance(results, Mapping) else {"": results}
        if not parts:
            raise ValueError("results: expected at least one, got none")
        runs = [run for name, part in parts.items() for run in _named(name, part)]
        if costs is not None:
            vector = cost_vector(costs)
            runs = [replace(run, arch=run.arch.replace(costs=vector)) for run in runs]
        groups = _by_arch(_baseline_first(runs, baseline) if baseline is not None else runs)
        for arch, group in groups.items():
            if len(vectors := {run.prediction.unit: run.prediction.costs for run in group if run.prediction}) > 1:
                prices = " and ".join(f"in {unit} ({name})" for unit, name in vectors.items())
                raise ValueError(f"costs: runs on {arch} are priced {prices}; name one cost vector for all")
        runs = tuple(run for group in groups.values() for run in group)
        if "" in parts:
            made = results.provenance
        else:
            given = {"baseline": baseline, "costs": costs and vector.name}
            made = provenance(results=list(parts), **{name: value for name, value in given.items() if value})
        return cls(runs=runs, population=runs[0].population, provenance=made)

    def by_arch(self) -> dict[str, list[Result]]:
        """Return the runs of each architecture, the baseline first."""
        return _by_arch(self.runs)

    @property
    def sources(self) -> list[str]:
        """Names of the results that were put together; empty for runs of one comparison."""
        return list(dict.fromkeys(run.source for run in self.runs if run.source))

    def label(self, run: Result) -> str:
        """Return what a table or plot calls a run: its policy, with the number of its source if there are several."""
        return f"[{self.sources.index(run.source) + 1}] {run.policy_name}" if run.source else run.policy_name

    @property
    def alike(self) -> bool:
        """Whether the runs on each architecture reclaim the same memory, so that their totals compare."""
        return not self.sources or all(len(set(map(_memory, group))) == 1 for group in self.by_arch().values())

    def cost_vectors(self) -> dict[str, CostVector]:
        """Return the cost vectors that price the runs by name; of two with the same name the second is "NAME (2)"."""
        vectors: dict[str, CostVector] = {}
        for run in self.runs:
            vector = run.arch.cost
            if vector is not None and vector not in vectors.values():
                names = (vector.name, *(f"{vector.name} ({number})" for number in range(2, len(self.runs) + 1)))
                vectors[next(name for name in names if name not in vectors)] = vector
        return vectors

    def ratio(self, event: str, policy: str, arch: str) -> float:
        """Return an event's count under a policy over that under the baseline (NaN where the baseline has none)."""
        runs = {run.policy_name: run for run in self.by_arch()[arch]}
        baseline = self.by_arch()[arch][0].events[event]
        return runs[policy].events[event] / baseline if baseline else float("nan")

    def to_dict(self) -> dict:
        """Return the comparison as a dict that serialises to JSON, with the cost vectors that price its runs."""
        vectors = self.cost_vectors()
        runs = []
        for run in self.runs:
            document = run.to_dict()
            document["cost_vector"] = next((name for name, one in vectors.items() if one == run.arch.cost), None)
            differing = {k: v for k, v in run.population.items() if k not in self.population or v != self.population[k]}
            document |= {"population": differing} if differing else {}
            document |= {"source": run.source, "provenance": run.provenance} if run.source else {}
            runs.append(document)
        return {
            "provenance": self.provenance,
            "population": self.population,
            "cost_vectors": {name: vector.to_dict() for name, vector in vectors.items()},
            "runs": runs,
        }

    def __repr__(self):
        from rmapfast.report import comparison_table

        return comparison_table(self)


def _by_arch(runs: Iterable[Result]) -> dict[str, list[Result]]:
    groups: dict[str, list[Result]] = {}
    for run in runs:
        groups.setdefault(run.arch.name, []).append(run)
    return groups


def _named(name: str, part: Result | Comparison) -> list[Result]:
    """The runs of a result that is called so, each with the arguments from which it can be repeated."""
    if not isinstance(part, Result | Comparison):
        raise TypeError(f"results: expected a Result or Comparison, got {type(part).__name__}")
    runs = [part] if isinstance(part, Result) else part.runs
    if not name:
        return list(runs)
    return [
        replace(run, source=f"{name}: {run.source}", provenance=run.provenance)
        if run.source
        else replace(run, source=name, provenance=part.provenance)
        for run in runs
    ]


def _baseline_first(runs: list[Result], baseline: str) -> list[Result]:
    sources, policies = ({getattr(run, key) for run in runs} for key in ("source", "policy_name"))
    if baseline not in sources | policies:
        known = sorted((sources | policies) - {""})
        raise ValueError(
            f"baseline: no result or policy {baseline!r}{closest(baseline, known)}; there are {', '.join(known)}"
        )
    key = "source" if baseline in sources else "policy_name"
    return sorted(runs, key=lambda run: getattr(run, key) != baseline)


def _memory(run: Result) -> str:
    """What a run reclaimed, as far as its totals depend on it."""
    population = run.population
    assumptions = {name: value for name, value in population["assumptions"].items() if name != "arch"}
    same = [population[name] for name in ("source", "input_hash", "bytes")]
    return json.dumps([same, assumptions, run.entry, run.target_pages], sort_keys=True, default=str)


def compare(
    population: Population | PopulationSpec | Callable[[object], Population | PopulationSpec] | None = None,
    target: int | str = "8GiB",
    *,
    policies: Iterable = SEED_POLICIES,
    arches: Iterable = SEED_ARCHES,
    costs: str | os.PathLike | CostVector | None = None,
    progress: Callable[[str, int], None] | None = None,
    arguments: dict | None = None,
    **options,
) -> Comparison:
    """Reclaim the same memory under several policies and architectures.

    Parameters
    ----------
    population : Population, PopulationSpec or callable, optional
        A population (then the architectures must share its table size), or a function that makes one for an
        architecture; by default ``Population.synthetic(arch=arch)``, the seed's experiment.
    target : int or str
        Bytes to reclaim.
    policies, arches : iterable of str or objects
        The first policy is the baseline.
    costs : str, path or CostVector, optional
        Cost vector to price all runs with, in place of the architectures' own.
    progress : callable, optional
        Called with a label and the base pages freed so far.
    arguments : dict, optional
        Recorded in the provenance beside those of this call.
    **options
        Further arguments of :func:`reclaim`: ``entry``, ``swap``, ``engine``, ``threads``, ``executor``.

    Returns
    -------
    Comparison

    Raises
    ------
    TypeError, ValueError
        As :func:`reclaim`; also if a list is empty.
    """
    policies = [policy if callable(policy) else _policy.get(policy) for policy in policies]
    arches = [_arch.get(arch) for arch in arches]
    vector = None if costs is None else cost_vector(costs)
    for name, given in (("policies", policies), ("arches", arches)):
        if not given:
            raise ValueError(f"{name}: expected at least one, got none")
    runs, described = [], None
    for arch in arches:
        base = population if isinstance(population, Population | PopulationSpec) else (population or _synthetic)(arch)
        described = described or base.describe()
        for number, policy in enumerate(policies):
            label = f"{getattr(policy, 'name', 'policy')} on {arch.name}"
            # The last run of a population that was made here needs no copy of it.
            last = number == len(policies) - 1 and base is not population
            runs.append(
                reclaim(
                    base,
                    target,
                    policy=policy,
                    arch=arch,
                    costs=vector,
                    in_place=last,
                    progress=progress and (lambda freed, label=label: progress(label, freed)),
                    **options,
                )
            )
    names = {
        "policies": [run.policy_name for run in runs[: len(policies)]],
        "arches": [arch.name for arch in arches],
        "target": target,
        **({"costs": vector.name} if vector else {}),
        **{name: value for name, value in options.items() if name != "executor"},
    }
    return Comparison(
        runs=tuple(runs),
        population=described,
        provenance=provenance(**names, **(arguments or {})) | {"input_hash": described["input_hash"]},
    )


def _synthetic(arch) -> Population:
    return Population.synthetic(arch=arch)
