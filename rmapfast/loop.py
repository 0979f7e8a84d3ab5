"""Reclaim of a population by the C library or by the reference: the loop around the unmap."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

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
from rmapfast.result import Outcome, PolicyFunction, Result, resolve_costs
from rmapfast.spec import PopulationSpec
from rmapfast.stream import ActiveList, reclaim_stream, streams
from rmapfast.support import checked_integer, parse_size
from rmapfast.swap import swap_pages

if TYPE_CHECKING:
    from concurrent.futures import Executor

# The share of the memory that the seed's experiment reclaims: 8 GiB of 10 GiB.
SEED_TARGET = "80%"

ENTRIES = ("memory.reclaim", "pageout")
ENGINES = ("c", "general", "reference")

# Work (about PTE loads) between two looks at signals and the progress callback: some tens of milliseconds.
BUDGET = 1 << 22


class ReclaimOptions(TypedDict, total=False):
    """The arguments of :func:`reclaim` that :func:`rmapfast.compare` takes too; their meaning is the same."""

    entry: str
    swap: bool | int | str
    engine: str
    threads: int | None
    executor: str | Executor | None
    workers: int | None


def reclaim(
    population: Population | PopulationSpec | None = None,
    target: int | str = "8GiB",
    *,
    policy: str | Policy | PolicyFunction = "v7.0",
    arch: str | os.PathLike[str] | Arch | None = None,
    entry: str = "memory.reclaim",
    swap: bool | int | str = True,
    engine: str = "c",
    costs: str | os.PathLike[str] | CostVector | None = None,
    in_place: bool = False,
    threads: int | None = 1,
    executor: str | Executor | None = None,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Result:
    """Reclaim memory from a population and count what the kernel would do.

    Parameters
    ----------
    population : Population or PopulationSpec, optional
        What to reclaim from; by default ``Population.synthetic()``: 10 GiB of clean file folios of order 4.
        A described one (:meth:`Population.described`) is generated, reclaimed and discarded block by block where that
        is possible, so it may be larger than the memory. The counts are the same, and ``result.after`` is None.
    target : int or str
        Bytes to reclaim ("8GiB"), or a share of the memory that reclaim may find ("80%"; :func:`target_bytes`), with
        ``entry='memory.reclaim'``. The run stops with the isolation that reaches it.
    policy : str, Policy or callable
        A preset's name, a policy, or, with the reference engine, a function ``(folio, vma, walk, pte) -> nr``.
    arch : str, path or Arch, optional
        A preset's name, the TOML file of one, or an architecture. By default the one that the population was made for,
        else ``x86-64``.
    entry : {'memory.reclaim', 'pageout'}
        Write to memory.reclaim, or MADV_PAGEOUT over every VMA (no reference check, no target).
    swap : bool, int or str
        Swap space: True is unlimited, False none, else a size.
    engine : {'c', 'general', 'reference'}
        ``c`` is the C library. ``general`` is the C library without its fast paths: it takes every folio through all
        rules, so its own speed may be compared between policies. ``reference`` is the slow plain-Python model. The
        results are the same.
    costs : str, path or CostVector, optional
        Cost vector to price the run with, in place of the architecture's own.
    in_place : bool
        Change the population's arrays, which saves the copy. By default the population stays as it was.
    threads : int, optional
        Threads that visit the blocks of a described population; the result does not depend on their number. More than
        one is an error where the population cannot be reclaimed block by block. None means one per CPU where it can be,
        and one elsewhere.
    executor : {'threads', 'processes', 'dask=ADDRESS'} or concurrent.futures.Executor, optional
        Visits the blocks of a described population in place of `threads`: processes, or a cluster such as
        ``distributed.Client(...).get_executor()``. It is an error where the population cannot be reclaimed block by
        block.
    workers : int, optional
        How many blocks the executor visits at a time, by default one per CPU, or as many as the executor or the cluster
        has. An executor that says how many workers it has takes no other number.
    progress : callable, optional
        Called several times a second with the base pages freed so far.

    Returns
    -------
    Result
        Counts, batch lengths, the price and where they come from.

    Raises
    ------
    TypeError, ValueError
        For an argument that is out of range or names nothing, for a population whose arrays do not fit together, and
        where `threads`, `executor` or `workers` cannot be used; the message names which.

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
    if executor is not None and threads != 1:
        raise ValueError(f"threads: expected none with an executor, which has workers of its own, got {threads!r}")
    if executor is None and workers is not None:
        raise ValueError(f"workers: expected with an executor only, got {workers!r}; without one, give threads=")
    arch = _arch.get(arch or population.arch or "x86-64")
    # A name that no vector has is refused here, not when the run is priced.
    vector = resolve_costs(arch if costs is None else costs)
    task = _Task(
        policy=policy if callable(policy) else _policy.get(policy),
        arch=arch,
        slots=swap_pages(swap, population.page_shift),
        target_pages=-(-target_bytes(target, population) >> population.page_shift),
        engine=engine,
        progress=progress,
    )
    outcome = None
    if isinstance(population, PopulationSpec) and entry == "memory.reclaim" and engine != "reference":
        outcome = _block_by_block(population, task, threads, executor, workers)
    if outcome is not None:
        described = population.describe()
    else:
        for name, given in (("executor", executor is not None), ("threads", (threads or 1) > 1)):
            if given:
                raise ValueError(
                    f"{name}: expected a described population (Population.described) whose inactive list meets the "
                    "target and which is reclaimed block by block (docs/model.md), this one is not"
                )
        if isinstance(population, PopulationSpec):
            population, in_place = Population.of(population), True
        check_population(population, arch)
        described = population.describe()
        outcome = _in_memory(population if in_place else population.copy(), entry, task)
        if in_place and outcome.after is not population:
            # Folios were split on the way, into new arrays.
            vars(population).update(vars(outcome.after))
            outcome = dataclasses.replace(outcome, after=population)
    return Result(
        policy=task.policy,
        arch=arch,
        entry=entry,
        target_pages=described["pages"] if entry == "pageout" else task.target_pages,
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


def checked_target(target: int | str) -> int | str:
    """Return a target as bytes, or a share of the memory as a text such as ``"80%"``.

    Raises
    ------
    TypeError, ValueError
        For anything else; the message says what was expected.
    """
    if isinstance(target, str) and target.strip().endswith("%"):
        try:
            percent = float(target.strip()[:-1])
        except ValueError:
            percent = math.nan
        if not 0 <= percent <= 100:
            raise ValueError(f'target: expected a size or "0%" to "100%" of the memory, got {target!r}')
        return f"{percent:g}%"
    return parse_size(target, "target")


def target_bytes(target: int | str, population: Population | PopulationSpec) -> int:
    """Return the bytes that a target means.

    Parameters
    ----------
    target : int or str
        A size, or a share such as ``"80%"`` of the memory that reclaim may find.
    population : Population or PopulationSpec
        Of a population this memory is the folios on its LRU lists, of a described one all of it.

    Raises
    ------
    TypeError, ValueError
        If the target is no size and no share; the message says what was expected.

    Examples
    --------
    >>> target_bytes("80%", Population.described("10MiB"))
    8388608
    """
    target = checked_target(target)
    if not isinstance(target, str):
        return target
    if isinstance(population, PopulationSpec):
        memory = population.bytes
    else:
        listed = np.concatenate([population.lru_inactive, population.lru_active])
        pages = np.left_shift(1, population.folio_order[listed], dtype=np.int64)
        memory = int(pages.sum()) << population.page_shift
    return int(memory * float(target[:-1]) / 100)


@dataclass(frozen=True)
class _Task:
    """What :func:`reclaim` was asked for, with its names looked up.

    Parameters
    ----------
    policy : Policy or callable
        A function only with the reference engine.
    arch : Arch
    slots : int or None
        Free swap slots, in base pages; None without swap space.
    target_pages : int
        Base pages to free, with ``entry='memory.reclaim'``.
    engine : str
    progress : callable or None
    """

    policy: Policy | PolicyFunction
    arch: Arch
    slots: int | None
    target_pages: int
    engine: str
    progress: Callable[[int], None] | None

    @property
    def fast(self) -> bool:
        """Whether the C library may use its fast paths."""
        return self.engine == "c"

    @property
    def compiled_policy(self) -> Policy:
        """The policy of a run on the C library."""
        assert isinstance(self.policy, Policy)
        return self.policy


def _block_by_block(
    spec: PopulationSpec,
    task: _Task,
    threads: int | None,
    executor: str | Executor | None,
    workers: int | None,
) -> Outcome | None:
    """Reclaim a described population that is never in memory as a whole; return None if that is not possible."""
    if not streams(spec, task.slots):
        return None
    arch = task.arch
    if arch.ptrs_per_pte != spec.ptrs_per_pte:
        raise ValueError(
            f"arch: {arch.name} has {arch.ptrs_per_pte} PTEs per table, the population was made for {spec.ptrs_per_pte}"
        )
    try:
        return reclaim_stream(
            spec,
            task.target_pages,
            task.compiled_policy,
            arch,
            task.slots,
            threads=threads or os.cpu_count() or 1,
            executor=executor,
            workers=workers,
            fast=task.fast,
            progress=task.progress,
        )
    except ActiveList:
        return None


def _in_memory(population: Population, entry: str, task: _Task) -> Outcome:
    """Reclaim a population that is in memory, and change it."""
    if task.arch.cont_ptes != population.cont_ptes:
        population.refold(task.arch.cont_ptes)
    return (_pageout if entry == "pageout" else _memory_reclaim)(population, task)


def check_population(population: Population, arch: Arch) -> None:
    """Raise TypeError or ValueError, naming the array, unless all arrays fit together and suit the architecture."""
    _core.check_population(population, arch)


def _with_splits(counts: npt.ArrayLike, splits: int) -> npt.NDArray[np.uint64]:
    """Return counts with the splits that were made before the run."""
    events = np.array(counts, np.uint64)
    events[EVENT_NAMES.index("folio_splits")] += np.uint64(splits)
    return events


def _outcome_of_reference(after: Population, record: reference.Record, splits: int, start: float) -> Outcome:
    wall_s = time.perf_counter() - start
    events, referenced = (
        np.array([counts[name] for name in EVENT_NAMES], np.uint64)
        for counts in (record.events, record.referenced_events)
    )
    return Outcome(after, _with_splits(events, splits), referenced, dict(record.batch_lengths), wall_s)


def _outcome_of_run(after: Population, run: _core.Run, splits: int, start: float) -> Outcome:
    wall_s = time.perf_counter() - start
    return Outcome(after, _with_splits(run.events, splits), run.referenced_events, run.batch_lengths, wall_s)


def _ring(lru: npt.NDArray[np.uint32], capacity: int) -> npt.NDArray[np.uint32]:
    """Return an array that begins with the list and has space for every folio."""
    ring = np.empty(capacity, np.uint32)
    ring[: len(lru)] = lru[:capacity]
    return ring


def _listed(ring: npt.NDArray[np.uint32], head: int, n: int) -> npt.NDArray[np.uint32]:
    """Return the list of `n` folios that begins at `head` of a ring."""
    return np.concatenate([ring[head : head + n], ring[: max(head + n - len(ring), 0)]])


def _memory_reclaim(population: Population, task: _Task) -> Outcome:
    """Take folios from the LRU lists until the target is met, as a write to memory.reclaim does."""
    population, splits = split_partially_mapped(population) if task.slots else (population, 0)
    start = time.perf_counter()
    if task.engine == "reference":
        record = reference.reclaim(
            population, task.target_pages, policy=task.policy, arch=task.arch, swap_pages=task.slots
        )
        return _outcome_of_reference(population, record, splits, start)
    run = _core.Run(population, task.compiled_policy, task.arch, swap_pages=task.slots, fast=task.fast)
    inactive, active = (_ring(lru, population.nr_folios) for lru in (population.lru_inactive, population.lru_active))
    run.reclaim_start(inactive, len(population.lru_inactive), active, len(population.lru_active), task.target_pages)
    try:
        while run.reclaim_step(BUDGET):
            if task.progress:
                task.progress(run.freed_pages)
    finally:
        # An interrupted run leaves a consistent population behind.
        (head, n), (active_head, active_n) = run.lists
        population.lru_inactive = _listed(inactive, head, n)
        population.lru_active = _listed(active, active_head, active_n)
    return _outcome_of_run(population, run, splits, start)


def _pageout(population: Population, task: _Task) -> Outcome:
    """Reclaim what every VMA maps, table by table, as MADV_PAGEOUT does."""
    population, folios, group_start, splits = pageout_groups(population)
    start = time.perf_counter()
    if task.engine == "reference":
        record = reference.shrink_groups(
            population, folios, group_start, policy=task.policy, arch=task.arch, swap_pages=task.slots
        )
        outcome = _outcome_of_reference(population, record, splits, start)
    else:
        run = _core.Run(population, task.compiled_policy, task.arch, swap_pages=task.slots, fast=task.fast)
        group = 0
        while group < len(group_start) - 1:
            group = run.shrink_groups(folios, group_start, group, BUDGET)
            if task.progress:
                task.progress(int(run.events[EVENT_NAMES.index("pages_freed")]))
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
