"""Several policies and architectures on the same memory, side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from rmapfast import arch as _arch
from rmapfast import policy as _policy
from rmapfast.arch import Arch
from rmapfast.cost import CostVector
from rmapfast.loop import reclaim
from rmapfast.population import Population
from rmapfast.provenance import provenance
from rmapfast.reports import comparison_table
from rmapfast.result import Result, resolve_costs
from rmapfast.runs import Runs, group_by_arch
from rmapfast.spec import PopulationSpec
from rmapfast.support import closest

# The seed's experiment: without and with the patch, for a clean read-only mapping.
SEED_POLICIES = ("v6.16+young", "v7.0")
SEED_ARCHES = ("arm64-4k", "x86-64")


@dataclass(frozen=True, repr=False)
class Comparison(Runs):
    """Runs under several policies and architectures, side by side; printed as a table.

    The first run of each architecture is the baseline. See :class:`rmapfast.runs.Runs` for the attributes.
    """

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
            vector = resolve_costs(costs)
            runs = [replace(run, costs=vector) for run in runs]
        groups = group_by_arch(_baseline_first(runs, baseline) if baseline is not None else runs)
        for arch, group in groups.items():
            if len(vectors := {run.prediction.unit: run.prediction.costs for run in group if run.costs}) > 1:
                prices = " and ".join(f"in {unit} ({name})" for unit, name in vectors.items())
                raise ValueError(f"costs: runs on {arch} are priced {prices}; name one cost vector for all")
        runs = tuple(run for group in groups.values() for run in group)
        if "" in parts:
            made = results.provenance
        else:
            given = {"baseline": baseline, "costs": costs and vector.name}
            made = provenance(results=list(parts), **{name: value for name, value in given.items() if value})
        return cls(runs=runs, population=runs[0].population, provenance=made)

    def __repr__(self) -> str:
        """Return the table."""
        return comparison_table(self)


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


def compare(
    population: Population | PopulationSpec | Callable[[Arch], Population | PopulationSpec] | None = None,
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
    vector = None if costs is None else resolve_costs(costs)
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
