"""Several policies and architectures on the same memory, side by side."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Unpack

from rmapfast import arch as _arch
from rmapfast import policy as _policy
from rmapfast.arch import Arch
from rmapfast.cost import CostVector
from rmapfast.events import EVENT_NAMES
from rmapfast.loop import MADVISE_ACTIONS, ReclaimOptions, madvise, reclaim
from rmapfast.policy import Policy
from rmapfast.population import Population
from rmapfast.provenance import provenance
from rmapfast.reports import CSV_COLUMNS, TEXTS, comparison_html, quantity_rows
from rmapfast.result import PolicyFunction, Result, policy_name, resolve_costs
from rmapfast.runs import Runs, group_by_arch
from rmapfast.spec import PopulationSpec
from rmapfast.support import (
    checked_choice,
    checked_integer,
    checked_list,
    closest,
    data_frame,
    dataset,
    page_multiple,
    parse_size,
    shown,
)

# The experiment of the patch's commit message: without and with the patch, for a clean read-only mapping.
SEED_POLICIES = ("v6.16+young", "v7.0")
SEED_ARCHES = ("arm64-4k", "x86-64")
# The options that a madvise call takes too.
_OF_CALLS = frozenset({"swap", "engine"})


@dataclass(frozen=True)
class MadviseCall:
    """A madvise call, for :func:`compare`.

    Parameters
    ----------
    action : {'MADV_PAGEOUT', 'MADV_COLD', 'MADV_FREE'}
    range : str, optional
        ``START:LENGTH``, each in bytes or a size such as ``20KiB``. START counts from the first address that the
        process maps, or is an address if it begins with ``0x``. Default: from the first VMA to the end of the last.
    process : int
        Its number among the mms of the population.
    owner : bool
        Whether the caller owns the files or may write them.

    Raises
    ------
    TypeError, ValueError
        For an argument of another form; the message names it.

    Examples
    --------
    >>> call = MadviseCall("MADV_PAGEOUT", "20KiB:16KiB")
    >>> call(Population.synthetic("64KiB", kind="anon", orders=2), swap=False).events["folio_splits"]
    2
    """

    action: str
    range: str | None = None
    process: int = 0
    owner: bool = True

    def __post_init__(self) -> None:
        """Check the arguments."""
        checked_choice("action", self.action, MADVISE_ACTIONS)
        checked_integer("process", self.process, 0, (1 << 32) - 1)
        if self.range is not None:
            self._parts()

    def _parts(self) -> tuple[bool, int, int]:
        """Return whether the start is an address, the start, and the length, both in bytes."""
        start, colon, length = str(self.range).partition(":")
        if not colon or ":" in length:
            raise ValueError(f"range: expected START:LENGTH such as 20KiB:2MiB, got {self.range!r}")
        if not start.startswith("0x"):
            return False, parse_size(start, "range: START"), parse_size(length, "range: LENGTH")
        if not re.fullmatch("0x[0-9a-fA-F]{1,16}", start):
            raise ValueError(f"range: START: expected an address below 2^64 such as 0x7f0000000000, got {start[:40]!r}")
        return True, int(start, 16), parse_size(length, "range: LENGTH")

    def __call__(self, population: Population, **options: Any) -> Result:
        """Make the call.

        Parameters
        ----------
        population : Population
        **options
            Of :func:`rmapfast.madvise`: ``policy``, ``arch``, ``swap``, ``engine``, ``costs``, ``in_place``.

        Returns
        -------
        Result

        Raises
        ------
        TypeError, ValueError
            As :func:`rmapfast.madvise`; the message says of a range whether its start or its length is wrong.
        """
        start = length = None
        if self.range is not None:
            absolute, start, length = self._parts()
            own = population.vma_start[population.vma_mm == self.process]
            if not absolute:
                page_multiple(self.range.partition(":")[0], 1 << population.page_shift, "range: START")
            if not absolute and len(own):
                start += int(own.min()) << population.page_shift
        try:
            return madvise(population, self.action, start, length, mm=self.process, owner=self.owner, **options)
        except ValueError as error:
            if str(error).startswith(("start:", "length:")):
                raise ValueError(f"range: {error}") from None
            if str(error).startswith("mm:"):
                raise ValueError(f"process: {str(error).removeprefix('mm: ')}") from None
            raise

    def arguments(self) -> dict[str, Any]:
        """Return the arguments as a result keeps them; what is as by default is left out."""
        given = {
            "entry": self.action,
            "range": self.range,
            "process": self.process or None,
            "caller": None if self.owner else "other",
        }
        return {name: value for name, value in given.items() if value is not None}

    @classmethod
    def again(cls, arguments: Mapping[str, Any]) -> MadviseCall:
        """Return the call that a result kept (:meth:`arguments`)."""
        return cls(
            arguments["entry"],
            arguments.get("range"),
            process=arguments.get("process", 0),
            owner=arguments.get("caller") != "other",
        )


@dataclass(frozen=True, repr=False)
class Comparison(Runs):
    """Runs under several policies and architectures, side by side; printed as a table.

    The first run of each architecture is the baseline.

    Parameters
    ----------
    runs : tuple of Result
        By architecture, then policy, in the order in which they were asked for.
    population : dict
        What was reclaimed (:meth:`Population.describe`); where the runs differ in it, that of the first run.
    provenance : dict
        Versions, host and arguments.

    Examples
    --------
    >>> before, after = compare(Population.synthetic("1MiB"), "512KiB", arches=["x86-64"]).runs
    >>> before.events["batches"], after.events["batches"]
    (144, 9)
    """

    @classmethod
    def of(
        cls,
        results: Result | Comparison | Mapping[str, Result | Comparison],
        *,
        baseline: str | None = None,
        costs: str | os.PathLike[str] | CostVector | None = None,
    ) -> Comparison:
        """Put results side by side, made in this process or loaded.

        Parameters
        ----------
        results : Result, Comparison or mapping of str to these
            The keys of a mapping are the names that a table shows.
        baseline : str, optional
            Name of a result or of a policy: its first run on each architecture is the baseline there. By default the
            first run of the first result.
        costs : str, path or CostVector, optional
            Price all runs with this cost vector, in place of their own.

        Returns
        -------
        Comparison

        Raises
        ------
        TypeError
            If one of the results is something else.
        ValueError
            If there are no results, none has the name `baseline`, or runs on one architecture are priced in different
            units.

        Examples
        --------
        >>> page = compare(Population.synthetic("1MiB", orders=0), "512KiB")
        >>> large = compare(Population.synthetic("1MiB", orders=4), "512KiB")
        >>> Comparison.of({"order 0": page, "order 4": large}, baseline="v7.0").sources
        ['order 0', 'order 4']
        """
        if isinstance(results, Mapping):
            if not results:
                raise ValueError("results: expected at least one, got none")
            runs = [run for name, part in results.items() for run in _named(name, part)]
        else:
            runs = _runs_of(results)
        vector = None if costs is None else resolve_costs(costs)
        if costs is not None:
            runs = [replace(run, costs=vector) for run in runs]
        groups = group_by_arch(_baseline_first(runs, baseline) if baseline is not None else runs)
        for arch, group in groups.items():
            if len(vectors := {run.prediction.unit: run.prediction.costs for run in group if run.costs}) > 1:
                prices = " and ".join(f"in {unit} ({name})" for unit, name in vectors.items())
                raise ValueError(f"costs: runs on {arch} are priced {prices}; name one cost vector for all")
        ordered = tuple(run for group in groups.values() for run in group)
        if isinstance(results, Mapping):
            given = {"baseline": baseline, "costs": vector and vector.name}
            made = provenance(results=list(results), **{name: value for name, value in given.items() if value})
        else:
            made = results.provenance
        return cls(runs=ordered, population=ordered[0].population, provenance=made)

    def to_dataframe(self) -> Any:
        """Return the runs as a pandas.DataFrame, a row per run and quantity.

        Returns
        -------
        pandas.DataFrame
            Columns as :func:`rmapfast.reports.comparison_csv` writes them: ``source``, ``policy``, ``arch``, ``kind``
            (prediction, component, event, batch_length, pages or madvise), ``quantity``, ``value``, ``unit``,
            ``per_page`` (per reclaimed base page), ``ratio`` (that divided by the baseline's) and ``share`` (a
            component's part of the prediction). NaN where a run has no such figure.

        Raises
        ------
        ImportError
            If pandas is not installed; the message has the pip command.
        """
        columns = zip(*quantity_rows(self), strict=True)
        return data_frame(dict(zip(CSV_COLUMNS, map(list, columns), strict=True)))

    def to_xarray(self) -> Any:
        """Return the runs as an xarray.Dataset along ``run``.

        Returns
        -------
        xarray.Dataset
            ``events`` and ``referenced_events`` (last axis ``event``), ``batch_lengths`` (last axis ``nr``),
            ``reclaimed_pages``, ``predicted``, ``predicted_interval`` (last axis ``bound``) and ``breakdown`` (last
            axis ``component``), with NaN where a run has no price. ``policy``, ``arch``, ``source`` and ``unit`` (of
            the prices) are coordinates of the runs.

        Raises
        ------
        ImportError
            If xarray is not installed; the message has the pip command.
        """
        runs = self.runs
        prices = [run.prediction if run.costs else None for run in runs]
        lengths = sorted({nr for run in runs for nr in run.batch_lengths})
        components = list(dict.fromkeys(name for price in prices if price for name in price.breakdown))
        nan = float("nan")
        variables: dict[str, Any] = {
            "events": (("run", "event"), [run.events.counts for run in runs], {"units": "1"}),
            "referenced_events": (("run", "event"), [run.referenced_events.counts for run in runs], {"units": "1"}),
            "batch_lengths": (("run", "nr"), [[run.batch_lengths.get(nr, 0) for nr in lengths] for run in runs]),
            "reclaimed_pages": ("run", [run.reclaimed_pages for run in runs], {"units": "base pages"}),
            "predicted": ("run", [price.value if price else nan for price in prices]),
            "predicted_interval": (("run", "bound"), [price.interval if price else (nan, nan) for price in prices]),
            "breakdown": (
                ("run", "component"),
                [[price.breakdown.get(name, 0.0) if price else nan for name in components] for price in prices],
            ),
        }
        coordinates: dict[str, Any] = {
            "policy": ("run", [run.policy_name for run in runs]),
            "arch": ("run", [run.arch.name for run in runs]),
            "source": ("run", [run.source for run in runs]),
            "unit": ("run", [price.unit if price else "" for price in prices]),
            "event": list(EVENT_NAMES),
            "nr": ("nr", lengths, {"units": "pages"}),
            "bound": ["low", "high"],
            "component": components,
        }
        return dataset(variables, coordinates, {"rmapfast": self.provenance["rmapfast"]})

    def __repr__(self) -> str:
        """Return the predictions and the events that differ most."""
        return self.to_text()

    def to_text(self, form: str = "summary") -> str:
        """Return the runs side by side as plain text of at most 80 columns.

        Parameters
        ----------
        form : {'summary', 'full', 'brief'}
            ``summary``: the predictions with their intervals, the five events that differ most, and what has no price;
            with up to three policies on two architectures 45 lines. ``full``: components, all events that differ, batch
            lengths, assumptions and cost vectors too. ``brief``: five lines for a commit message.

        Returns
        -------
        str

        Raises
        ------
        ValueError
            For another form.

        Examples
        --------
        >>> comparison = compare(Population.described("1MiB"), "512KiB", arches=["x86-64"])
        >>> len(comparison.to_text("brief").splitlines()) <= 5
        True
        """
        return TEXTS[checked_choice("form", form, TEXTS)](self)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the table of each architecture."""
        return comparison_html(self)


def _runs_of(part: Result | Comparison) -> list[Result]:
    if not isinstance(part, Result | Comparison):
        raise TypeError(f"results: expected a Result or Comparison, got {type(part).__name__}")
    return [part] if isinstance(part, Result) else list(part.runs)


def _named(name: str, part: Result | Comparison) -> list[Result]:
    """Return the runs of a result under a name, each with the arguments from which it can be repeated."""
    return [
        replace(run, source=f"{name}: {run.source}", provenance=run.provenance)
        if run.source
        else replace(run, source=name, provenance=part.provenance)
        for run in _runs_of(part)
    ]


def _baseline_first(runs: list[Result], baseline: str) -> list[Result]:
    """Return the runs of the source or policy of that name first; the order stays as it is otherwise."""
    sources, policies = {run.source for run in runs}, {run.policy_name for run in runs}
    if not isinstance(baseline, str) or baseline not in sources | policies:
        known = sorted((sources | policies) - {""})
        raise ValueError(
            f"baseline: no result or policy {baseline!r}{closest(baseline, known)}; there are {', '.join(known)}"
        )
    if baseline in sources:
        return sorted(runs, key=lambda run: run.source != baseline)
    return sorted(runs, key=lambda run: run.policy_name != baseline)


def compare(
    population: Population | PopulationSpec | Callable[[Arch], Population | PopulationSpec] | None = None,
    target: int | str = "8GiB",
    *,
    policies: Iterable[str | Policy | PolicyFunction] = SEED_POLICIES,
    arches: Iterable[str | os.PathLike[str] | Arch] = SEED_ARCHES,
    call: MadviseCall | None = None,
    costs: str | os.PathLike[str] | CostVector | None = None,
    progress: bool | Callable[[str, int], None] | None = None,
    arguments: Mapping[str, Any] | None = None,
    **options: Unpack[ReclaimOptions],
) -> Comparison:
    """Reclaim the same memory under several policies and architectures, or call madvise on it.

    Parameters
    ----------
    population : Population, PopulationSpec or callable, optional
        A population (then the architectures must have tables of its size), or a function that makes one for an
        architecture; by default ``Population.synthetic(arch=arch)``, 10 GiB of clean file folios of order 4.
    target : int or str
        Bytes to reclaim, or a share of the memory such as "80%".
    policies : iterable of str, Policy or callable
        As for :func:`reclaim`. The first one is the baseline. A function in Python runs on the slow reference model,
        the others on the C library, unless `engine` says something else.
    arches : iterable of str, path or Arch
    call : MadviseCall, optional
        A madvise call in place of the reclaim. Then `target`, and ``entry``, ``threads``, ``executor`` and ``workers``
        of `options`, mean nothing and must not be given; a described population is generated as a whole.
    costs : str, path or CostVector, optional
        Cost vector to price all runs with, in place of the architectures' own.
    progress : bool or callable, optional
        True shows a bar (of tqdm where it is installed), or a line; in a log file a line now and then. A function is
        called several times a second with a label and the base pages freed so far.
    arguments : mapping, optional
        Recorded in the provenance beside the arguments of this call.
    **options
        Further arguments of :func:`reclaim`: ``entry``, ``swap``, ``engine``, ``threads``, ``executor``,
        ``workers``.

    Returns
    -------
    Comparison

    Raises
    ------
    TypeError, ValueError
        As :func:`reclaim` and :func:`rmapfast.madvise`; also if there are no policies or no architectures, and for
        an option that means nothing to a call.

    Examples
    --------
    >>> def population(arch):
    ...     return Population.synthetic("1MiB", arch=arch)
    >>> comparison = compare(population, "512KiB", policies=["v6.16", "v7.0"], arches=["arm64-4k"])
    >>> comparison.ratio("batches", "v7.0", "arm64-4k")
    0.0625
    """
    chosen = [_policy.resolved(policy) for policy in checked_list("policies", policies, "policies")]
    machines = [_arch.get(arch) for arch in checked_list("arches", arches, "architectures")]
    if not (population is None or isinstance(population, Population | PopulationSpec) or callable(population)):
        raise TypeError(
            f"population: expected a Population, a PopulationSpec or a function of an Arch, got {shown(population)}"
        )
    if arguments is not None and not isinstance(arguments, Mapping):
        raise TypeError(f"arguments: expected a mapping, got {shown(arguments)}")
    vector = None if costs is None else resolve_costs(costs)
    if not chosen:
        raise ValueError("policies: expected at least one, got none")
    if not machines:
        raise ValueError("arches: expected at least one, got none")
    if call is not None:
        for name in sorted(options.keys() - _OF_CALLS):
            if options.get(name) is not None:
                raise ValueError(f"{name}: expected none with a madvise call, got {options.get(name)!r}")
    runs: list[Result] = []
    described: dict[str, Any] = {}
    for arch in machines:
        if isinstance(population, Population | PopulationSpec):
            base = population
        else:
            base = population(arch) if population is not None else Population.synthetic(arch=arch)
            if not isinstance(base, Population | PopulationSpec):
                raise TypeError(f"population: expected a function that returns a Population, it returned {shown(base)}")
        if call is not None and isinstance(base, PopulationSpec):
            base = Population.of(base)
        described = described or base.describe()
        for number, policy in enumerate(chosen, 1):
            label = f"{policy_name(policy)} on {arch.name}"
            # The last run of a population that was made here needs no copy of it.
            in_place = number == len(chosen) and base is not population
            if call is not None:
                assert isinstance(base, Population)
                device: dict[str, Any] = {name: value for name, value in options.items() if name in _OF_CALLS}
                runs.append(call(base, policy=policy, arch=arch, costs=vector, in_place=in_place, **device))
                continue
            runs.append(
                reclaim(
                    base,
                    target,
                    policy=policy,
                    arch=arch,
                    costs=vector,
                    in_place=in_place,
                    progress=partial(progress, label) if callable(progress) else progress,
                    **options,
                )
            )
    names = {
        "policies": [run.policy_name for run in runs[: len(chosen)]],
        "arches": [arch.name for arch in machines],
        **({"target": target} if call is None else call.arguments()),
        **({"costs": vector.name} if vector else {}),
        **{
            name: value
            for name, value in options.items()
            if name not in ("lru", "executor", "workers") and value is not None
        },
    }
    return Comparison(
        runs=tuple(runs),
        population=described,
        provenance=provenance(**names, **(arguments or {})) | {"input_hash": described["input_hash"]},
    )
