"""Several policies and architectures on the same memory, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rmapfast import arch as _arch
from rmapfast import policy as _policy
from rmapfast._reclaim import Result, provenance, reclaim
from rmapfast.population import Population

# The seed's experiment: without and with the patch, for a clean read-only mapping.
SEED_POLICIES = ("v6.16+young", "v7.0")
SEED_ARCHES = ("arm64-4k", "x86-64")


@dataclass(frozen=True, repr=False)
class Comparison:
    """Runs of the same memory under several policies and architectures; the first policy is the baseline.

    Parameters
    ----------
    runs : tuple of Result
        By architecture, then policy, as they were asked for.
    population : dict
        What was reclaimed, for each run alike (:meth:`Population.describe`).
    provenance : dict
        Versions, host and arguments.
    """

    runs: tuple[Result, ...]
    population: dict
    provenance: dict

    def by_arch(self) -> dict[str, list[Result]]:
        """Return the runs of each architecture, the baseline first."""
        groups: dict[str, list[Result]] = {}
        for run in self.runs:
            groups.setdefault(run.arch.name, []).append(run)
        return groups

    def ratio(self, event: str, policy: str, arch: str) -> float:
        """Return an event's count under a policy over that under the baseline (NaN where the baseline has none)."""
        runs = {run.policy_name: run for run in self.by_arch()[arch]}
        baseline = self.by_arch()[arch][0].events[event]
        return runs[policy].events[event] / baseline if baseline else float("nan")

    def to_dict(self) -> dict:
        """Return the comparison as a dict that serialises to JSON."""
        keep = ("pages", "folios", "bytes", "orders")
        population = {name: self.population[name] for name in keep}
        population["source"] = self.population["source"]
        population["assumptions"] = self.population["assumptions"]
        return {
            "provenance": self.provenance,
            "population": population,
            "runs": [run.to_dict() for run in self.runs],
        }

    def __repr__(self):
        from rmapfast.report import comparison_table

        return comparison_table(self)


def compare(
    population: Population | Callable[[object], Population] | None = None,
    target: int | str = "8GiB",
    *,
    policies: Iterable = SEED_POLICIES,
    arches: Iterable = SEED_ARCHES,
    progress: Callable[[str, int], None] | None = None,
    arguments: dict | None = None,
    **options,
) -> Comparison:
    """Reclaim the same memory under several policies and architectures.

    Parameters
    ----------
    population : Population or callable, optional
        A population (then the architectures must share its table size), or a function that makes one for an
        architecture; by default ``Population.synthetic(arch=arch)``, the seed's experiment.
    target : int or str
        Bytes to reclaim.
    policies, arches : iterable of str or objects
        The first policy is the baseline.
    progress : callable, optional
        Called with a label and the base pages freed so far.
    arguments : dict, optional
        Recorded in the provenance beside those of this call.
    **options
        Further arguments of :func:`reclaim`: ``entry``, ``swap``, ``engine``.

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
    for name, given in (("policies", policies), ("arches", arches)):
        if not given:
            raise ValueError(f"{name}: expected at least one, got none")
    runs, described = [], None
    for arch in arches:
        base = population if isinstance(population, Population) else (population or _synthetic)(arch)
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
                    in_place=last,
                    progress=progress and (lambda freed, label=label: progress(label, freed)),
                    **options,
                )
            )
    names = {
        "policies": [run.policy_name for run in runs[: len(policies)]],
        "arches": [arch.name for arch in arches],
        "target": target,
        **options,
    }
    return Comparison(
        runs=tuple(runs),
        population=described,
        provenance=provenance(**names, **(arguments or {})) | {"input_hash": described["input_hash"]},
    )


def _synthetic(arch) -> Population:
    return Population.synthetic(arch=arch)
