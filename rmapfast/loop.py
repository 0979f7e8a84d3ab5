"""Reclaim of a population: the loop around the unmap, on the C library or the reference."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rmapfast import _core, reference
from rmapfast import arch as _arch
from rmapfast import policy as _policy
from rmapfast.arch import Arch
from rmapfast.cost import CostVector
from rmapfast.events import EVENT_NAMES, Events
from rmapfast.flags import FolioFlag
from rmapfast.pageout import pageout_groups, split_partially_mapped
from rmapfast.policy import Policy
from rmapfast.population import Population
from rmapfast.provenance import peak_rss_bytes, provenance
from rmapfast.result import Outcome, Result, resolve_costs
from rmapfast.spec import PopulationSpec
from rmapfast.stream import ActiveList, reclaim_stream, streams
from rmapfast.support import checked_integer, parse_size
from rmapfast.swap import Swap, swap_pages

if TYPE_CHECKING:
    from concurrent.futures import Executor

ENTRIES = ("memory.reclaim", "pageout")
ENGINES = ("c", "general", "reference")

# Work (about PTE loads) between two looks at signals and the progress callback: some tens of milliseconds.
BUDGET = 1 << 22


def reclaim(
    population: Population | PopulationSpec | None = None,
    target: int | str = "8GiB",
    *,
    policy: str | Policy | Callable[..., int] = "v7.0",
    arch: str | Arch | None = None,
    entry: str = "memory.reclaim",
    swap: bool | int | str = True,
    engine: str = "c",
    costs: str | os.PathLike[str] | CostVector | None = None,
    in_place: bool = False,
    threads: int | None = 1,
    executor: Executor | None = None,
    progress: Callable[[int], None] | None = None,
) -> Result:
    """Reclaim memory from a population and count what the kernel would do.

    Parameters
    ----------
    population : Population or PopulationSpec, optional
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
        Cost vector to price the run with, in place of the architecture's own.
    in_place : bool
        Change the population's arrays, which saves the copy; by default it is left as it was.
    threads : int, optional
        Threads that visit the blocks of a described population; the result does not depend on them. More than one only
        where the population can be reclaimed block by block. None: one per CPU there, and one elsewhere.
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
        For arguments out of range, for a population whose arrays do not fit together, and where `threads` or
        `executor` could not be used; the message names what.

    Examples
    --------
    >>> result = reclaim(Population.synthetic("1MiB", orders=4), "512KiB", policy="v7.0")
    >>> result.reclaimed_pages, result.batch_lengths
    (128, {16: 8})
    """
    if entry not in ENTRIES:
        raise ValueError(f"entry: expected one of {', '.join(ENTRIES)}, got {entry!r}")
    if engine not in ENGINES:
        raise ValueError(f"engine: expected one of {', '.join(ENGINES)}, got {engine!r}")
    if callable(policy) and engine != "reference":
        raise ValueError("policy: a Python function runs on the reference only; pass engine='reference'")
    if population is None:
        population, in_place = Population.synthetic(arch=arch or "x86-64"), True
    if not isinstance(population, Population | PopulationSpec):
        raise TypeError(f"population: expected a Population or a PopulationSpec, got {type(population).__name__}")
    threads = None if threads is None else checked_integer("threads", threads, 1, 1024)
    arch = _arch.get(arch or population.arch or "x86-64")
    # a name that no vector has is refused here, not when the run is priced
    vector = resolve_costs(arch if costs is None else costs)
    policy = policy if callable(policy) else _policy.get(policy)
    slots = swap_pages(swap, population.page_shift)
    target_pages = -(-parse_size(target, "target") >> population.page_shift)
    outcome = None
    described = population.describe() if isinstance(population, PopulationSpec) else None
    if isinstance(population, PopulationSpec) and entry == "memory.reclaim" and engine != "reference":
        outcome = _block_by_block(population, target_pages, policy, arch, slots, engine, threads, executor, progress)
    if outcome is None:
        for name, given in (("executor", executor is not None), ("threads", (threads or 1) > 1)):
            if given:
                raise ValueError(
                    f"{name}: expected a described population (Population.described) whose inactive list meets the "
                    "target and which is reclaimed block by block (docs/model.md), this one is not"
                )
        given_population = population if isinstance(population, Population) else None
        if isinstance(population, PopulationSpec):
            population, in_place = Population.of(population), True
        check_population(population, arch)
        described = population.describe()
        after = population if in_place else population.copy()
        if arch.cont_ptes != after.cont_ptes:
            after.refold(arch.cont_ptes)
        if entry == "pageout":
            outcome = _pageout(after, policy, arch, slots, engine, progress)
        else:
            outcome = _memory_reclaim(after, target_pages, policy, arch, slots, engine, progress)
        if in_place and given_population is not None and outcome.after is not given_population:
            # folios were split on the way, into new arrays
            vars(given_population).update(vars(outcome.after))
            outcome = dataclasses.replace(outcome, after=given_population)
    assert described is not None
    return Result(
        policy=policy,
        arch=arch,
        entry=entry,
        target_pages=described["pages"] if entry == "pageout" else target_pages,
        population=described,
        after=outcome.after,
        reclaimed_pages=int(outcome.events[EVENT_NAMES.index("pages_freed")]),
        events=Events(outcome.events),
        referenced_events=Events(outcome.referenced_events),
        batch_lengths=outcome.batch_lengths,
        costs=vector,
        wall_s=outcome.wall_s,
        provenance=provenance(target=target, entry=entry, swap=swap, engine=engine, threads=threads or 1)
        | {"input_hash": population.input_hash},
        peak_rss_bytes=peak_rss_bytes(),
    )


def _block_by_block(
    spec: PopulationSpec,
    target_pages: int,
    policy: Policy,
    arch: Arch,
    slots: int | None,
    engine: str,
    threads: int | None,
    executor: Executor | None,
    progress: Callable[[int], None] | None,
) -> Outcome | None:
    """Reclaim a described population that is never in memory; None if it cannot be done so."""
    if not streams(spec, slots):
        return None
    if arch.ptrs_per_pte != spec.ptrs_per_pte:
        raise ValueError(
            f"arch: {arch.name} has {arch.ptrs_per_pte} PTEs per table, the population was made for {spec.ptrs_per_pte}"
        )
    try:
        return reclaim_stream(
            spec,
            target_pages,
            policy,
            arch,
            slots,
            threads=threads or os.cpu_count() or 1,
            executor=executor,
            fast=engine == "c",
            progress=progress,
        )
    except ActiveList:
        return None


def check_population(population: Population, arch: Arch) -> None:
    """Raise TypeError or ValueError, naming the array, unless all arrays fit together and suit the architecture."""
    _core.check_population(population, arch)


def _with_splits(counts: npt.ArrayLike, splits: int) -> npt.NDArray[np.uint64]:
    events = np.array(counts, np.uint64)
    events[EVENT_NAMES.index("folio_splits")] += np.uint64(splits)
    return events


def _outcome_of_reference(after: Population, call: reference.Call, splits: int, start: float) -> Outcome:
    wall_s = time.perf_counter() - start
    events, referenced = (
        np.array([counts[name] for name in EVENT_NAMES], np.uint64) for counts in (call.events, call.referenced_events)
    )
    return Outcome(after, _with_splits(events, splits), referenced, dict(call.batch_lengths), wall_s)


def _outcome_of_run(after: Population, run: _core.Run, splits: int, start: float) -> Outcome:
    wall_s = time.perf_counter() - start
    return Outcome(after, _with_splits(run.events, splits), run.referenced_events, run.batch_lengths, wall_s)


def _ring(lru: npt.NDArray[np.uint32], capacity: int) -> npt.NDArray[np.uint32]:
    """Return an array with room for every folio that begins with the list."""
    ring = np.empty(capacity, np.uint32)
    ring[: len(lru)] = lru[:capacity]
    return ring


def _listed(ring: npt.NDArray[np.uint32], head: int, n: int) -> npt.NDArray[np.uint32]:
    return np.concatenate([ring[head : head + n], ring[: max(head + n - len(ring), 0)]])


def _memory_reclaim(
    population: Population,
    target_pages: int,
    policy: Policy | Callable[..., int],
    arch: Arch,
    slots: int | None,
    engine: str,
    progress: Callable[[int], None] | None,
) -> Outcome:
    population, splits = split_partially_mapped(population) if slots else (population, 0)
    start = time.perf_counter()
    if engine == "reference":
        call = reference.reclaim(population, target_pages, policy=policy, arch=arch, swap_pages=slots)
        return _outcome_of_reference(population, call, splits, start)
    run = _core.Run(population, policy, arch, swap=None if slots is None else Swap(slots), fast=engine == "c")
    inactive, active = (_ring(lru, population.nr_folios) for lru in (population.lru_inactive, population.lru_active))
    run.reclaim_start(inactive, len(population.lru_inactive), active, len(population.lru_active), target_pages)
    try:
        while run.reclaim_step(BUDGET):
            if progress:
                progress(run.freed_pages)
    finally:
        # An interrupted run leaves a consistent population behind.
        (head, n), (active_head, active_n) = run.lists
        population.lru_inactive = _listed(inactive, head, n)
        population.lru_active = _listed(active, active_head, active_n)
    return _outcome_of_run(population, run, splits, start)


def _pageout(
    population: Population,
    policy: Policy | Callable[..., int],
    arch: Arch,
    slots: int | None,
    engine: str,
    progress: Callable[[int], None] | None,
) -> Outcome:
    population, folios, group_start, splits = pageout_groups(population)
    start = time.perf_counter()
    if engine == "reference":
        call = reference.shrink_groups(population, folios, group_start, policy=policy, arch=arch, swap_pages=slots)
        outcome = _outcome_of_reference(population, call, splits, start)
    else:
        run = _core.Run(population, policy, arch, swap=None if slots is None else Swap(slots), fast=engine == "c")
        group = 0
        while group < len(group_start) - 1:
            group = run.shrink_groups(folios, group_start, group, BUDGET)
            if progress:
                progress(int(run.events[EVENT_NAMES.index("pages_freed")]))
        outcome = _outcome_of_run(population, run, splits, start)
    _put_back(population, folios)
    return outcome


def _put_back(population: Population, folios: npt.NDArray[np.uint32]) -> None:
    """Put survivors of a pageout at the end of the list that their flags name, as lru_add() does."""
    off = FolioFlag.FREED | FolioFlag.UNEVICTABLE | FolioFlag.MLOCKED
    survivors = folios[(population.folio_flags[folios] & off) == 0]
    is_active = (population.folio_flags[survivors] & FolioFlag.ACTIVE) != 0
    taken = np.zeros(population.nr_folios, bool)
    taken[folios] = True
    for name, returned in (("lru_inactive", survivors[~is_active]), ("lru_active", survivors[is_active])):
        lru = getattr(population, name)
        setattr(population, name, np.concatenate([lru[~taken[lru]], returned]).astype(np.uint32))
