"""Reclaim of a population: the loop around the unmap, on the C library or the reference."""

from __future__ import annotations

import dataclasses
import os
import platform
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rmapfast import _core, reference
from rmapfast import arch as _arch
from rmapfast import cost as _cost
from rmapfast import policy as _policy
from rmapfast._pageout import pageout_groups, split_partially_mapped
from rmapfast._sizes import format_size, parse_size
from rmapfast._stream import ActiveList, reclaim_stream, streams
from rmapfast._version import __version__
from rmapfast.arch import Arch
from rmapfast.cost import CostVector, Prediction
from rmapfast.description import Description, checked_integer
from rmapfast.events import EVENT_NAMES, Events
from rmapfast.policy import Policy
from rmapfast.population import Population

if TYPE_CHECKING:
    from concurrent.futures import Executor

ENTRIES = ("memory.reclaim", "pageout")
ENGINES = ("c", "general", "reference")

# Swap space that does not run out: the offsets of every page of the largest population fit.
UNLIMITED_SWAP = 1 << 48

# Work (about PTE loads) between two looks at signals and the progress callback: some tens of milliseconds.
_BUDGET = 1 << 22


def provenance(**arguments) -> dict:
    """Return what a run must carry so that it can be repeated: versions, host, and its arguments."""
    return {
        "rmapfast": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "host": {
            "machine": platform.machine(),
            "system": platform.system(),
            "release": platform.release(),
            "cpus": os.cpu_count(),
        },
        "arguments": arguments,
    }


@dataclass(frozen=True, repr=False)
class Result:
    """One reclaim of one population under one policy on one architecture.

    Parameters
    ----------
    policy : Policy, callable or str
        Of a saved run under a function, the function's name.
    arch : Arch
        With the cost vector that the run is priced with.
    entry : {'memory.reclaim', 'pageout'}
    target_pages : int
        Base pages asked for; for ``pageout`` all that the population maps.
    population : dict
        What was reclaimed, before the run (:meth:`Population.describe`).
    after : Population or None
        Its state after the run; not of a saved run.
    reclaimed_pages : int
        Base pages freed.
    events : Events
        Counts by name.
    referenced_events : Events
        Of each count, the part that the reference checks counted (``folio_referenced_one``).
    batch_lengths : dict of int to int
        Unmap steps by the number of entries that they cleared.
    wall_s : float
        Seconds that the simulation took, without making or copying the population.
    provenance : dict
        Versions, host and arguments.
    peak_rss_bytes : int or None
        Largest resident size of the process until the run's end, or None where it is not known.
    source : str
        Which of the results that :meth:`Comparison.of` put together the run is from.
    """

    policy: Policy | Callable | str
    arch: Arch
    entry: str
    target_pages: int
    population: dict
    after: Population | None = field(compare=False)
    reclaimed_pages: int = 0
    events: Events = None
    referenced_events: Events = None
    batch_lengths: dict = None
    wall_s: float = field(default=0.0, compare=False)
    provenance: dict = field(default=None, compare=False)
    peak_rss_bytes: int | None = field(default=None, compare=False)
    source: str = field(default="", compare=False)

    @property
    def policy_name(self) -> str:
        """Name of the policy, or of the function that stands for it."""
        if isinstance(self.policy, str):
            return self.policy
        return getattr(self.policy, "name", None) or getattr(self.policy, "__name__", "callable")

    @property
    def reclaimed_bytes(self) -> int:
        """Bytes freed."""
        return self.reclaimed_pages << self.arch.page_shift

    @property
    def target_reached(self) -> bool:
        """Whether as many pages were freed as asked for."""
        return self.reclaimed_pages >= self.target_pages

    @property
    def simulated_ptes(self) -> int:
        """Entries that the simulated unmap cleared."""
        return self.events["ptes_cleared"]

    @property
    def ptes_per_s(self) -> float:
        """Simulation speed: entries cleared per second of :attr:`wall_s`."""
        return self.simulated_ptes / self.wall_s if self.wall_s else 0.0

    def per_page(self, event: str) -> float:
        """Return an event's count per reclaimed base page (NaN if nothing was reclaimed)."""
        count = self.events[event]
        return count / self.reclaimed_pages if self.reclaimed_pages else float("nan")

    @cached_property
    def prediction(self) -> Prediction | None:
        """The price with the architecture's cost vector, or None if it has none."""
        return self.price()

    def price(
        self, costs: str | os.PathLike | CostVector | Arch | np.ndarray | None = None
    ) -> Prediction | np.ndarray | None:
        """Price the run without simulating it again.

        Parameters
        ----------
        costs : str, path, CostVector, Arch or ndarray, optional
            A cost vector, its name or TOML file, or an architecture that has one; by default the run's architecture.
            Or many vectors at once: a float array of shape (k, len(EVENT_NAMES)), such as those of
            :meth:`CostVector.sample` and :func:`rmapfast.cost.matrix`.

        Returns
        -------
        Prediction, ndarray or None
            Of an array float64 of shape (k,), in the unit of its costs. None of an architecture without costs.

        Raises
        ------
        TypeError, ValueError
            For an unknown name, and for an array of another shape or type, or with a cost that is negative or not
            finite; the message names it.
        """
        if isinstance(costs, np.ndarray):
            return _checked_costs(costs) @ self.events.counts.astype(float)
        vector = cost_vector(self.arch if costs is None else costs)
        return vector and vector.price(self.events.counts, self.referenced_events.counts)

    def to_dict(self) -> dict:
        """Return the run as a dict that serialises to JSON; prices are None without a cost vector."""
        return {
            "policy": self.policy_name,
            "arch": self.arch.name,
            "entry": self.entry,
            "target_pages": self.target_pages,
            "reclaimed_bytes": self.reclaimed_bytes,
            "reclaimed_pages": self.reclaimed_pages,
            "target_reached": self.target_reached,
            "events": dict(self.events),
            "referenced_events": {name: count for name, count in self.referenced_events.items() if count},
            "batch_lengths": {str(nr): count for nr, count in sorted(self.batch_lengths.items())},
            **(self.prediction.to_dict() if self.prediction else _NO_PRICE),
            "simulated_ptes": self.simulated_ptes,
            "wall_s": self.wall_s,
            "ptes_per_s": self.ptes_per_s,
            "peak_rss_bytes": self.peak_rss_bytes,
            "policy_parameters": _parameters(self.policy, "doc") if isinstance(self.policy, Policy) else None,
            "arch_parameters": _parameters(self.arch, "costs"),
        }

    def to_xarray(self):
        """Return an xarray.Dataset with the counts along ``event``, the histogram along ``nr`` and the prediction.

        The prediction is there if the architecture has a cost vector: its interval along ``bound``, its breakdown
        along ``component``.

        Raises
        ------
        ImportError
            If xarray is not installed; the message has the pip command.
        """
        try:
            import xarray
        except ImportError:
            raise ImportError("to_xarray needs xarray; install it with: pip install 'rmapfast[xarray]'") from None
        lengths = sorted(self.batch_lengths.items())
        variables = {
            "events": ("event", self.events.counts, {"units": "1"}),
            "batch_lengths": ("nr", np.array([count for _, count in lengths], np.uint64), {"units": "1"}),
            "reclaimed_pages": ((), self.reclaimed_pages, {"units": "base pages"}),
        }
        coordinates = {"event": list(EVENT_NAMES), "nr": ("nr", [nr for nr, _ in lengths], {"units": "pages"})}
        attributes = {"policy": self.policy_name, "arch": self.arch.name, "entry": self.entry, "rmapfast": __version__}
        if prediction := self.prediction:
            unit = {"units": prediction.unit}
            variables |= {
                "predicted": ((), prediction.value, unit),
                "predicted_interval": ("bound", list(prediction.interval), unit),
                "breakdown": ("component", list(prediction.breakdown.values()), unit),
            }
            coordinates |= {"bound": ["low", "high"], "component": list(prediction.breakdown)}
            attributes["cost_vector"] = prediction.costs
        return xarray.Dataset(variables, coordinates, attributes)

    def __repr__(self):
        steps = self.events["batches"]
        mean = self.events["batched_pages"] / steps if steps else 0.0
        return (
            f"<Result {self.policy_name} on {self.arch.name}: {format_size(self.reclaimed_bytes)} reclaimed of "
            f"{format_size(self.target_pages << self.arch.page_shift)} asked, {steps} steps of {mean:.2f} pages, "
            f"{self.per_page('walk_pte_reads'):.2f} walk reads per page"
            + (f", predicted {self.prediction.value:.4g} {self.prediction.unit}>" if self.prediction else ">")
        )


def _parameters(preset: Policy | Arch, without: str) -> dict:
    """The fields of a policy or an architecture, but for its name and one more."""
    names = (one.name for one in dataclasses.fields(preset) if one.name not in ("name", without))
    return {name: getattr(preset, name) for name in names}


_NO_PRICE = dict.fromkeys(("cost_vector", "predicted_s", "predicted_interval_s", "breakdown_s"))


def cost_vector(costs: str | os.PathLike | CostVector | Arch) -> CostVector | None:
    """Return the cost vector that an argument `costs` means, or None of an architecture without one."""
    if isinstance(costs, Arch):
        return costs.cost
    if not isinstance(costs, str | os.PathLike | CostVector):
        raise TypeError(
            f"costs: expected a CostVector, the name or TOML file of one, an Arch, or a float array of shape "
            f"(k, {len(EVENT_NAMES)}), got {repr(costs)[:60]}"
        )
    return _cost.get(costs)


def _checked_costs(costs: np.ndarray) -> np.ndarray:
    """The array, if its rows are cost vectors."""
    expected = f"expected a float array of shape (k, {len(EVENT_NAMES)}), one row per vector"
    if costs.ndim != 2 or costs.shape[1] != len(EVENT_NAMES):
        raise ValueError(f"costs: {expected}, got shape {costs.shape}")
    if not np.issubdtype(costs.dtype, np.floating):
        raise TypeError(f"costs: {expected}, got {costs.dtype}; convert with costs.astype(float)")
    # one pass each, and no array of truth values: NaN and infinity come through minimum and maximum
    if costs.size and not (costs.min() >= 0 and costs.max() < np.inf):
        row, event = np.argwhere(~((costs >= 0) & np.isfinite(costs)))[0]
        raise ValueError(
            f"costs[{row}, {event}] ({EVENT_NAMES[event]}): expected a finite cost, 0 or more, got {costs[row, event]}"
        )
    return costs.astype(float, copy=False)


def peak_rss_bytes() -> int | None:
    """Return the largest resident size of this process so far in bytes, or None where it is not known."""
    try:
        # not ru_maxrss, which begins with the size of the process that started this one
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)[1]) * 1024
    except (OSError, TypeError):
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def swap_pages_of(swap, page_shift: int) -> int | None:
    """Return the swap slots that an argument `swap` means: True is unlimited, False none, else a size."""
    if swap is True:
        return UNLIMITED_SWAP
    if swap is False or swap is None:
        return None
    return parse_size(swap, "swap") >> page_shift


def reclaim(
    population: Population | Description | None = None,
    target: int | str = "8GiB",
    *,
    policy: str | Policy | Callable = "v7.0",
    arch: str | Arch | None = None,
    entry: str = "memory.reclaim",
    swap: bool | int | str = True,
    engine: str = "c",
    costs: str | os.PathLike | CostVector | None = None,
    in_place: bool = False,
    threads: int = 1,
    executor: Executor | None = None,
    progress: Callable[[int], None] | None = None,
) -> Result:
    """Reclaim memory from a population and count what the kernel would do.

    Parameters
    ----------
    population : Population or Description, optional
        What to reclaim from; by default the seed's, ``Population.synthetic()``: 10 GiB of clean file folios of order 4.
        A described one (:meth:`Population.described`) is made, reclaimed and forgotten block by block where that can be
        done, so it may be larger than the memory; the counts are the same, and ``result.after`` is None.
    target : int or str
        Bytes to reclaim ("8GiB"), with ``entry='memory.reclaim'``. The run stops with the isolation that reaches it.
    policy : str, Policy or callable
        A preset's name, a policy, or, with the reference engine, a function ``(folio, vma, walk, pte) -> nr``.
    arch : str or Arch, optional
        By default the one that the population was made for, else ``x86-64``.
    entry : {'memory.reclaim', 'pageout'}
        Write to memory.reclaim, or MADV_PAGEOUT over every VMA (no reference check, no target).
    swap : bool, int or str
        Swap space: True is unlimited, False none, else a size.
    engine : {'c', 'general', 'reference'}
        The C library; its general path alone, which looks at every folio by the rules and whose own speed may be
        compared between policies; or the slow plain-Python model. The results are the same.
    costs : str, path or CostVector, optional
        Cost vector to price the run with, in place of the architecture's own: ``result.arch`` has it.
    in_place : bool
        Change the population's arrays, which saves the copy; by default it is left as it was.
    threads : int
        Threads that visit the blocks of a described population; the result does not depend on them.
    executor : concurrent.futures.Executor, optional
        Visits the blocks of a described population in place of threads: processes, or a cluster such as
        ``distributed.Client(...).get_executor()``. Only where the population can be reclaimed block by block.
    progress : callable, optional
        Called with the base pages freed so far, some times a second.

    Returns
    -------
    Result

    Raises
    ------
    TypeError, ValueError
        For arguments out of range, and for a population whose arrays do not fit together; the message names what.
    """
    if entry not in ENTRIES:
        raise ValueError(f"entry: expected one of {', '.join(ENTRIES)}, got {entry!r}")
    if engine not in ENGINES:
        raise ValueError(f"engine: expected one of {', '.join(ENGINES)}, got {engine!r}")
    if callable(policy) and engine != "reference":
        raise ValueError("policy: a Python function runs on the reference only; pass engine='reference'")
    if population is None:
        population, in_place = Population.synthetic(arch=arch or "x86-64"), True
    if not isinstance(population, Population | Description):
        raise TypeError(f"population: expected a Population or a Description, got {type(population).__name__}")
    threads = checked_integer("threads", threads, 1, 1024)
    arch = _arch.get(arch or population.arch or "x86-64")
    if costs is not None:
        arch = arch.replace(costs=cost_vector(costs) or "")
    cost_vector(arch)  # a name that no vector has is refused here, not when the run is priced
    policy = policy if callable(policy) else _policy.get(policy)
    swap_pages = swap_pages_of(swap, population.page_shift)
    target_pages = -(-parse_size(target, "target") >> population.page_shift)
    description, described, outcome = None, None, None
    if isinstance(population, Description):
        description = population
        if entry == "memory.reclaim" and engine != "reference" and streams(description, swap_pages, UNLIMITED_SWAP):
            where = {"threads": threads, "executor": executor}
            outcome = _streamed(description, target_pages, policy, arch, swap_pages, engine, where, progress)
        if outcome:
            described = description.describe()
        elif executor is None:
            population, in_place = Population.of(description), True
    if executor is not None and not outcome:
        raise ValueError(
            "executor: expected a described population (Population.described) whose inactive list meets the target and "
            "which is reclaimed block by block (docs/model.md), this one is not"
        )
    if not outcome:
        check_population(population, arch)
        described = population.describe()
        after = population if in_place else population.copy()
        if arch.cont_ptes != after.cont_ptes:
            after.refold(arch.cont_ptes)
        if entry == "pageout":
            outcome = _pageout(after, policy, arch, swap_pages, engine, progress)
        else:
            outcome = _memory_reclaim(after, target_pages, policy, arch, swap_pages, engine, progress)
    after, counts, referenced_counts, batch_lengths, wall_s = outcome
    if after is not None and in_place and after is not population:  # folios were split on the way, into new arrays
        vars(population).update(vars(after))
        after = population
    result = Result(
        policy=policy,
        arch=arch,
        entry=entry,
        target_pages=described["pages"] if entry == "pageout" else target_pages,
        population=described,
        after=after,
        reclaimed_pages=int(counts[EVENT_NAMES.index("pages_freed")]),
        events=Events(counts),
        referenced_events=Events(referenced_counts),
        batch_lengths=batch_lengths,
        wall_s=wall_s,
        provenance=provenance(target=target, entry=entry, swap=swap, engine=engine, threads=threads)
        | {"input_hash": population.input_hash},
        peak_rss_bytes=peak_rss_bytes(),
    )
    return result


def _streamed(description, target_pages, policy, arch, swap_pages, engine, where, progress):
    """Outcome of a described population, without a population after it; None if the loop comes to the active list."""
    if arch.ptrs_per_pte != description.ptrs_per_pte:
        raise ValueError(
            f"arch: {arch.name} has {arch.ptrs_per_pte} PTEs per table, the population was made for "
            f"{description.ptrs_per_pte}"
        )
    try:
        return None, *reclaim_stream(
            description,
            target_pages,
            policy,
            arch,
            swap_pages,
            **where,
            fast=engine == "c",
            progress=progress,
        )
    except ActiveList:
        return None


def check_population(population: Population, arch: Arch) -> None:
    """Raise TypeError or ValueError, naming the array, unless all arrays fit together and suit the architecture."""
    _core.check_population(population, arch)


def _with_splits(counts: np.ndarray, splits: int) -> np.ndarray:
    counts = np.array(counts, np.uint64)
    counts[EVENT_NAMES.index("folio_splits")] += np.uint64(splits)
    return counts


def _reference_outcome(population, call, splits: int, start: float):
    wall_s = time.perf_counter() - start
    counts, referenced_counts = (
        np.array([events[name] for name in EVENT_NAMES], np.uint64) for events in (call.events, call.referenced_events)
    )
    return population, _with_splits(counts, splits), referenced_counts, dict(call.batch_lengths), wall_s


def _c_outcome(population, run, splits: int, start: float):
    wall_s = time.perf_counter() - start
    return population, _with_splits(run.events, splits), run.referenced_events, run.batch_lengths, wall_s


def _ring(lru: np.ndarray, capacity: int) -> np.ndarray:
    """An array with room for every folio that begins with the list."""
    ring = np.empty(capacity, np.uint32)
    ring[: len(lru)] = lru[:capacity]
    return ring


def _listed(ring: np.ndarray, head: int, n: int) -> np.ndarray:
    return np.concatenate([ring[head : head + n], ring[: max(head + n - len(ring), 0)]])


def _memory_reclaim(population, target_pages, policy, arch, swap_pages, engine, progress):
    population, splits = split_partially_mapped(population) if swap_pages else (population, 0)
    start = time.perf_counter()
    if engine == "reference":
        call = reference.reclaim(population, target_pages, policy=policy, arch=arch, swap_pages=swap_pages)
        return _reference_outcome(population, call, splits, start)
    run = _core.Run(population, policy, arch, swap_pages=swap_pages, fast=engine == "c")
    inactive, active = (_ring(lru, population.nr_folios) for lru in (population.lru_inactive, population.lru_active))
    run.reclaim_start(inactive, len(population.lru_inactive), active, len(population.lru_active), target_pages)
    try:
        while run.reclaim_step(_BUDGET):
            if progress:
                progress(run.freed_pages)
    finally:
        # An interrupted run leaves a consistent population behind.
        (head, n), (active_head, active_n) = run.lists
        population.lru_inactive = _listed(inactive, head, n)
        population.lru_active = _listed(active, active_head, active_n)
    return _c_outcome(population, run, splits, start)


def _pageout(population, policy, arch, swap_pages, engine, progress):
    population, folios, group_start, splits = pageout_groups(population)
    start = time.perf_counter()
    if engine == "reference":
        call = reference.shrink_groups(population, folios, group_start, policy=policy, arch=arch, swap_pages=swap_pages)
        outcome = _reference_outcome(population, call, splits, start)
    else:
        run = _core.Run(population, policy, arch, swap_pages=swap_pages, fast=engine == "c")
        group = 0
        while group < len(group_start) - 1:
            group = run.shrink_groups(folios, group_start, group, _BUDGET)
            if progress:
                progress(int(run.events[EVENT_NAMES.index("pages_freed")]))
        outcome = _c_outcome(population, run, splits, start)
    _put_back(population, folios)
    return outcome


def _put_back(population, folios) -> None:
    """Survivors of a pageout go to the end of the list that their flags name, as lru_add() puts them."""
    off = _core.FOLIO_FREED | _core.FOLIO_UNEVICTABLE | _core.FOLIO_MLOCKED
    survivors = folios[(population.folio_flags[folios] & np.uint32(off)) == 0]
    is_active = (population.folio_flags[survivors] & np.uint32(_core.FOLIO_ACTIVE)) != 0
    taken = np.zeros(population.nr_folios, bool)
    taken[folios] = True
    for name, returned in (("lru_inactive", survivors[~is_active]), ("lru_active", survivors[is_active])):
        lru = getattr(population, name)
        setattr(population, name, np.concatenate([lru[~taken[lru]], returned]).astype(np.uint32))
