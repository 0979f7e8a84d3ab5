"""Reclaim of a population by the C library or by the reference: the loop around the unmap."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import numpy.typing as npt

import rmapfast._core as _core
from rmapfast import arch as _arch
from rmapfast import policy as _policy
from rmapfast.arch import Arch
from rmapfast.cost import CostVector
from rmapfast.events import EVENT_NAMES, Events
from rmapfast.lru import LRU_STATS, LRUS, LruGen
from rmapfast.policy import Policy
from rmapfast.population import Population
from rmapfast.provenance import peak_rss_bytes, provenance
from rmapfast.result import Outcome, PolicyFunction, Result, policy_name, resolve_costs
from rmapfast.spec import PopulationSpec
from rmapfast.support import (
    ProgressBar,
    checked_boolean,
    checked_choice,
    checked_integer,
    info,
    listening,
    parse_size,
    shown,
)
from rmapfast.swap import Swap, swap_device

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from rmapfast.parallel import Pool
    from rmapfast.reference import Record, YoungRule

# The share of the memory that the seed's experiment reclaims: 8 GiB of 10 GiB.
SEED_TARGET = "80%"

ENTRIES = ("memory.reclaim", "pageout")
ENGINES = ("c", "general", "reference")
MADVISE_ACTIONS = ("MADV_PAGEOUT", "MADV_COLD", "MADV_FREE")

# Base pages that are certain to be visited before it is worth while to share them out to threads.
AHEAD_PAGES = 1 << 15

# Work (about PTE loads) between two looks at signals and the progress callback: some tens of milliseconds.
BUDGET = 1 << 22


class ReclaimOptions(TypedDict, total=False):
    """The arguments of :func:`reclaim` that :func:`rmapfast.compare` takes too; their meaning is the same."""

    entry: str
    swap: Swap | bool | int | str
    lru: str | None
    lru_stats: str
    max_ptes_none: int | None
    engine: str | None
    threads: int | None
    executor: str | Executor | None
    workers: int | None


def reclaim(
    population: Population | PopulationSpec | None = None,
    target: int | str = "8GiB",
    *,
    policy: str | Policy | PolicyFunction | YoungRule = "v7.0",
    arch: str | os.PathLike[str] | Arch | None = None,
    entry: str = "memory.reclaim",
    swap: Swap | bool | int | str = True,
    max_ptes_none: int | None = None,
    lru: str | None = None,
    lru_stats: str = "unflushed",
    engine: str | None = None,
    costs: str | os.PathLike[str] | CostVector | None = None,
    in_place: bool = False,
    threads: int | None = 1,
    executor: str | Executor | None = None,
    workers: int | None = None,
    progress: bool | Callable[[int], None] | None = None,
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
    policy : str, Policy, callable or YoungRule
        A preset's name, a policy, ``FILE.c:NAME`` or ``FILE.py:NAME``, a function ``(folio, vma, walk, pte) -> nr``, or
        a :class:`YoungRule`.
    arch : str, path or Arch, optional
        A preset's name, the TOML file of one, or an architecture. By default the one that the population was made for,
        else ``x86-64``.
    entry : {'memory.reclaim', 'pageout'}
        Write to memory.reclaim, or MADV_PAGEOUT over every VMA, a call for each (no reference check, no target).
    swap : Swap, bool, int or str
        Swap space: a device, or True for an unlimited one, False for none, else a size.
    max_ptes_none : int, optional
        khugepaged/max_ptes_none, with ``entry='memory.reclaim'``: the deferred-split shrinker splits a THP of which
        more pages than so many hold only zeroes (:func:`assume_pages`). By default all but one page of a THP, as
        kernels boot: then it splits none for that.
    lru : {'classic', 'mglru'}, optional
        Which lists the kernel keeps, with ``entry='memory.reclaim'``. By default the one that a capture says, else
        ``classic``. The rules of ``mglru`` are those of ``policy.mglru``. A described population is made whole for it.
    lru_stats : {'unflushed', 'flushed'}
        Of the classic LRU: whether the statistics of the memory cgroup, from which it decides to deactivate, show
        nothing yet, as those of a new one, or the lists at the start.
    engine : {'c', 'general', 'reference'}, optional
        ``c`` is the C library. ``general`` is the C library without its fast paths: it takes every folio through all
        rules, so its own speed may be compared between policies. ``reference`` is the slow plain-Python model. The
        results are the same. By default ``c``, or ``reference`` for a function in Python, which no other one runs.
    costs : str, path or CostVector, optional
        Cost vector to price the run with, in place of the architecture's own.
    in_place : bool
        Change the population's arrays, which saves the copy. By default the population stays as it was.
    threads : int, optional
        Threads that visit folios; the result does not depend on their number. More than one is an error where visits
        may depend on each other: in a population that is not reclaimed block by block, with the multi-gen LRU or the
        reference, or if folios on the LRU lists are anonymous or shmem (they take swap slots or are split), share
        entries or are mapped out of place (docs/model.md, section 6). None means one per CPU for a population that is
        reclaimed block by block, and one for others, of which it pays only for some (docs/performance.md).
    executor : {'threads', 'processes', 'dask=ADDRESS'} or concurrent.futures.Executor, optional
        Visits the blocks of a described population in place of `threads`: processes, or a cluster such as
        ``distributed.Client(...).get_executor()``. It is an error where the population cannot be reclaimed block by
        block.
    workers : int, optional
        How many blocks the executor visits at a time, by default one per CPU, or as many as the executor or the cluster
        has. An executor that says how many workers it has takes no other number.
    progress : bool or callable, optional
        True shows a bar (of tqdm where it is installed), or a line; in a log file a line now and then. A function is
        called several times a second with the base pages freed so far.

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
    (144, {16: 9})
    """
    checked_choice("entry", entry, ENTRIES)
    checked_boolean("in_place", in_place)
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise TypeError(f"progress: expected True, False or a function, got {shown(progress)}")
    policy = _resolved(policy)
    engine = _engine_of(policy, engine)
    if population is None:
        population, in_place = Population.synthetic(arch="x86-64" if arch is None else arch), True
    if not isinstance(population, Population | PopulationSpec):
        raise TypeError(f"population: expected a Population or a PopulationSpec, got {type(population).__name__}")
    threads = None if threads is None else checked_integer("threads", threads, 1, 1024)
    if executor is not None and threads != 1:
        raise ValueError(f"threads: expected none with an executor, which has workers of its own, got {threads!r}")
    if executor is None and workers is not None:
        raise ValueError(f"workers: expected with an executor only, got {workers!r}; without one, give threads=")
    if max_ptes_none is not None:
        max_ptes_none = checked_integer("max_ptes_none", max_ptes_none, 0, population.ptrs_per_pte - 1)
        if entry != "memory.reclaim":
            raise ValueError(f"max_ptes_none: expected with entry='memory.reclaim' only, got entry={entry!r}")
    if lru is not None:
        checked_choice("lru", lru, LRUS)
        if entry != "memory.reclaim":
            raise ValueError(f"lru: expected with entry='memory.reclaim' only, got entry={entry!r}")
    checked_choice("lru_stats", lru_stats, LRU_STATS)
    arch = _arch.get(arch if arch is not None else population.arch or "x86-64")
    # A name that no vector has is refused here, not when the run is priced.
    vector = resolve_costs(arch if costs is None else costs)
    lists = lru or (population.lru if isinstance(population, Population) and entry == "memory.reclaim" else None)
    task = _Task(
        policy=policy,
        arch=arch,
        swap=swap_device(swap, population.page_shift),
        target_pages=-(-target_bytes(target, population) >> population.page_shift),
        engine=engine,
        progress=progress or None
        if progress is not True
        else ProgressBar(f"{policy_name(policy)} on {arch.name}", "pages"),
        max_ptes_none=max_ptes_none,
        lru=lists or "classic",
        lru_stats=lru_stats,
    )
    if task.lru == "mglru" and task.rules.mglru == "none":
        raise ValueError(
            f"lru: the rules of MGLRU are not known for policy {task.rules.name}; known are"
            f" {', '.join(name for name, one in _policy.PRESETS.items() if one.mglru == name)};"
            " use lru='classic', or policy.replace(mglru=...)"
        )
    if isinstance(task.progress, ProgressBar):
        task.progress.total = task.target_pages
    outcome = None
    by_block = entry == "memory.reclaim" and engine != "reference" and max_ptes_none is None and task.lru == "classic"
    if isinstance(population, PopulationSpec) and by_block:
        outcome = _block_by_block(population, task, threads, executor, workers)
    if outcome is not None:
        described = population.describe()
    else:
        if executor is not None:
            raise ValueError(
                "executor: expected a described population (Population.described) whose inactive list meets the "
                "target and which is reclaimed block by block (docs/model.md), this one is not"
            )
        if (threads or 1) > 1 and (entry != "memory.reclaim" or engine == "reference"):
            cannot = "MADV_PAGEOUT" if entry != "memory.reclaim" else "the reference"
            raise ValueError(f"threads: expected 1, {cannot} visits one folio after the other, got {threads}")
        if isinstance(population, PopulationSpec):
            info("reclaim", "%r is made as a whole: it cannot be reclaimed block by block", population)
            population, in_place = Population.of(population), True
        check_population(population, arch)
        after = population if in_place else task.copy_of(population)
        described = _described(population, after)
        outcome = _in_memory(after, entry, task, threads or 1)
    arguments: dict[str, Any] = {
        "target": target,
        "entry": entry,
        "swap": swap,
        "engine": engine,
        "threads": threads or 1,
    }
    if max_ptes_none is not None:
        arguments["max_ptes_none"] = max_ptes_none
    if lru_stats != LRU_STATS[0]:
        arguments["lru_stats"] = lru_stats
    target_pages = described["pages"] if entry == "pageout" else task.target_pages
    if isinstance(task.progress, ProgressBar):
        task.progress.close()
    return _result(population, described, entry, target_pages, task, outcome, vector, arguments)


def madvise(
    population: Population,
    action: str,
    start: int | None = None,
    length: int | None = None,
    *,
    mm: int = 0,
    owner: bool = True,
    policy: str | Policy | PolicyFunction | YoungRule = "v7.0",
    arch: str | os.PathLike[str] | Arch | None = None,
    swap: Swap | bool | int | str = True,
    engine: str | None = None,
    costs: str | os.PathLike[str] | CostVector | None = None,
    in_place: bool = False,
) -> Result:
    """Call madvise on a range of addresses, and count what the kernel would do.

    Parameters
    ----------
    population : Population
        Where the range lies.
    action : {'MADV_PAGEOUT', 'MADV_COLD', 'MADV_FREE'}
        Page out; make old; or free lazily, on the next reclaim, what is not written before.
    start, length : int, optional
        First address, a multiple of the page size, and bytes; the end is rounded up to a page. Without both, every VMA
        of the process: one call from the first to the end of the last, so that gaps between them give ENOMEM.
    mm : int
        Number of the process.
    owner : bool
        Whether the caller owns the files or may write them. MADV_PAGEOUT passes over file pages otherwise.
    policy, arch, swap, engine, costs, in_place
        As for :func:`reclaim`.

    Returns
    -------
    Result
        ``ret`` is what the call returns: 0; -22 (EINVAL): it stopped at a VMA that it cannot handle, and what came
        before was done; -12 (ENOMEM): a part of the range is in no VMA, and all the rest was done.

    Raises
    ------
    TypeError, ValueError
        For an argument that is out of range or names nothing, and for a population whose arrays do not fit together;
        the message names which. The population is as it was then.

    Examples
    --------
    >>> population = Population.synthetic("64KiB", kind="anon", orders=2)
    >>> result = madvise(population, "MADV_PAGEOUT", swap=False, engine="reference")
    >>> result.ret, result.events["folio_splits"], result.came_back_pages
    (0, 4, 0)
    """
    if not isinstance(population, Population):
        raise TypeError(f"population: expected a Population, got {type(population).__name__}")
    checked_choice("action", action, MADVISE_ACTIONS)
    policy = _resolved(policy)
    engine = _engine_of(policy, engine)
    mm = checked_integer("mm", mm, 0, len(population.held("mm_flags")) - 1)
    first, end = _page_range(population, start, length, mm)
    checked_boolean("owner", owner)
    checked_boolean("in_place", in_place)
    arch = _arch.get(arch if arch is not None else population.arch or "x86-64")
    vector = resolve_costs(arch if costs is None else costs)
    task = _Task(
        policy=policy,
        arch=arch,
        swap=swap_device(swap, population.page_shift),
        target_pages=end - first,
        engine=engine,
        progress=None,
    )
    check_population(population, arch)
    after = population if in_place else task.copy_of(population)
    described = _described(population, after)
    outcome = _madvise(after, [(action, mm, first, end, owner)], task)
    arguments: dict[str, Any] = {
        "action": action, "start": start, "length": length, "mm": mm, "owner": owner, "swap": swap, "engine": engine,
    }  # fmt: skip
    return _result(population, described, action, task.target_pages, task, outcome, vector, arguments)


def _resolved(policy: str | Policy | PolicyFunction | YoungRule) -> Policy | PolicyFunction | YoungRule:
    """Return the policy or the rules in Python that are given or named."""
    if isinstance(policy, str | Policy) or callable(policy):
        return _policy.resolved(policy)
    from rmapfast.reference import YoungRule

    return policy if isinstance(policy, YoungRule) else _policy.get(policy)


def _engine_of(policy: Policy | PolicyFunction | YoungRule, engine: str | None) -> str:
    """Return the engine that runs a policy; an error for one that cannot."""
    if engine is None:
        return "c" if isinstance(policy, Policy) else "reference"
    checked_choice("engine", engine, ENGINES)
    if not isinstance(policy, Policy) and engine != "reference":
        raise ValueError(f"policy: a Python function runs on the reference only, got engine={engine!r}")
    return engine


def _result(
    population: Population | PopulationSpec,
    described: dict[str, Any],
    entry: str,
    target_pages: int,
    task: _Task,
    outcome: Outcome,
    costs: CostVector | None,
    arguments: dict[str, Any],
) -> Result:
    """Return the result of a run, with the arguments from which it can be run again."""
    result = Result(
        policy=task.policy,
        arch=task.arch,
        entry=entry,
        target_pages=target_pages,
        population=described,
        after=outcome.after,
        reclaimed_pages=int(outcome.events[EVENT_NAMES.index("pages_freed")]),
        events=Events(outcome.events),
        referenced_events=Events(outcome.referenced_events),
        batch_lengths=outcome.batch_lengths,
        costs=costs,
        wall_s=outcome.wall_s,
        provenance=provenance(**arguments | {"swap": _as_text(arguments["swap"])})
        | {"input_hash": population.input_hash},
        peak_rss_bytes=peak_rss_bytes(),
        ret=outcome.ret,
        swap_used=outcome.swap_used,
        lru=task.lru,
        isolated=outcome.isolated,
        looked_around=outcome.looked_around,
    )
    if listening() and result.unpriced:
        where = f"{result.policy_name} on {result.arch.name}"
        info("price", "%s: no price for %s", where, ", ".join(result.unpriced))
    return result


def _page_range(population: Population, start: int | None, length: int | None, mm: int) -> tuple[int, int]:
    """Return the first page and the end of a range that madvise was given in bytes."""
    page = 1 << population.page_shift
    if start is None and length is None:
        own = population.held("vma_mm") == mm
        if not own.any():
            return 0, 0
        return int(population.held("vma_start")[own].min()), int(population.held("vma_end")[own].max())
    if start is None or length is None:
        missing = "start" if start is None else "length"
        raise ValueError(f"{missing}: expected it together with {'length' if start is None else 'start'}, got None")
    start = checked_integer("start", start, 0, (1 << 64) - 1)
    length = checked_integer("length", length, 0, (1 << 64) - 1)
    if start % page:
        raise ValueError(f"start: expected a multiple of the page size, {page}, got {start:#x}")
    end = start + -(-length // page) * page
    if end >= 1 << 64:
        raise ValueError(f"length: expected a range that ends below 2^64, got {start:#x} and {length:#x} bytes")
    return start >> population.page_shift, end >> population.page_shift


def _as_text(swap: Swap | bool | int | str) -> bool | int | str:
    """Return an argument `swap` as it is kept with a result."""
    return repr(swap) if isinstance(swap, Swap) else swap


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
        memory = population.see(_core.listed_pages) << population.page_shift
    return int(memory * float(target[:-1]) / 100)


@dataclass(frozen=True)
class _Task:
    """What :func:`reclaim` was asked for, with its names looked up.

    Parameters
    ----------
    policy : Policy, callable or YoungRule
        A function only with the reference engine.
    arch : Arch
    swap : Swap or None
        The swap device; None without swap space.
    target_pages : int
        Base pages to free, with ``entry='memory.reclaim'``.
    engine : str
    progress : callable or None
    max_ptes_none : int or None
        As for :func:`reclaim`.
    lru, lru_stats : str
        As for :func:`reclaim`; of the former, the one that is used.
    """

    policy: Policy | PolicyFunction | YoungRule
    arch: Arch
    swap: Swap | None
    target_pages: int
    engine: str
    progress: Callable[[int], None] | None
    max_ptes_none: int | None = None
    lru: str = "classic"
    lru_stats: str = "unflushed"

    @property
    def rules(self) -> Policy:
        """The edition whose rules hold, also around a policy that is a function."""
        if isinstance(self.policy, Policy):
            return self.policy
        return _policy.get(getattr(self.policy, "around", _policy.AROUND_A_FUNCTION))

    @property
    def fast(self) -> bool:
        """Whether the C library may use its fast paths."""
        return self.engine == "c"

    def copy_of(self, population: Population) -> Population:
        """Return a copy of a population that the engine may change."""
        return population.copy() if self.engine == "reference" else population.copy_for_run()

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
    from rmapfast.stream import ActiveList, reclaim_stream, streams

    if not streams(spec, task.swap):
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
            task.swap,
            threads=threads or os.cpu_count() or 1,
            executor=executor,
            workers=workers,
            fast=task.fast,
            progress=task.progress,
        )
    except ActiveList:
        return None


def _in_memory(population: Population, entry: str, task: _Task, threads: int) -> Outcome:
    """Reclaim a population that is in memory, and change it."""
    if entry == "memory.reclaim":
        return _memory_reclaim(population, task, threads)
    vmas = zip(*(population.held(name) for name in ("vma_mm", "vma_start", "vma_end")), strict=True)
    return _madvise(
        population, [("MADV_PAGEOUT", int(mm), int(first), int(end), True) for mm, first, end in vmas], task
    )


def _refold(population: Population, arch: Arch) -> None:
    """Fold the contpte blocks of the population as the architecture does."""
    if arch.cont_ptes != population.cont_ptes:
        population.refold(arch.cont_ptes)


def check_population(population: Population, arch: Arch) -> None:
    """Raise TypeError or ValueError, naming the array, unless all arrays fit together and suit the architecture.

    Arrays that passed before are not looked at again as long as nobody outside of the package got one of them.
    """
    if arch.ptrs_per_pte == population.ptrs_per_pte:
        population.see(_core.check_population, arch)
    else:  # an error, whatever was seen when they were equal
        _core.check_population(population, arch)


def _described(population: Population, after: Population) -> dict[str, Any]:
    """Return what a population holds before a run on `after`, the population itself or a copy of it.

    Where the arrays have to be looked at again it is the copy's: the cache still has them.
    """
    return (after if population.lent else population).describe()


def _outcome_of_reference(after: Population, record: Record, start: float) -> Outcome:
    wall_s = time.perf_counter() - start
    events, referenced = (
        np.array([counts[name] for name in EVENT_NAMES], np.uint64)
        for counts in (record.events, record.referenced_events)
    )
    return Outcome(
        after,
        events,
        referenced,
        dict(record.batch_lengths),
        wall_s,
        swap_used=record.swap_used,
        isolated=dict(sorted(record.isolated.items())),
        looked_around=dict(sorted(record.looked_around.items())),
    )


def _outcome_of_run(after: Population, run: _core.Run, start: float) -> Outcome:
    wall_s = time.perf_counter() - start
    return Outcome(
        after,
        run.events,
        run.referenced_events,
        run.batch_lengths,
        wall_s,
        swap_used=run.swap_used,
        isolated=run.isolated,
        looked_around=run.looked_around,
    )


def _rings(
    lists: tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]], capacity: int
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Return two arrays that begin with the lists and have space for every folio."""
    rings = _core.empty_arrays({name: ((capacity,), np.dtype(np.uint32)) for name in ("inactive", "active")})
    for ring, lru in zip(rings.values(), lists, strict=True):
        ring[: len(lru)] = lru[:capacity]
    return rings["inactive"], rings["active"]


def _take_over(
    population: Population, run: _core.Run, inactive: npt.NDArray[np.uint32], active: npt.NDArray[np.uint32]
) -> None:
    """Put the lists of a run, and the arrays that it replaced because folios were split, into the population."""
    for ring, name, (head, n) in zip((inactive, active), ("lru_inactive", "lru_active"), run.lists, strict=True):
        population.hold({name: np.concatenate([ring[head : head + n], ring[: max(head + n - len(ring), 0)]])})
    population.hold(run.arrays())


def _share_out(run: _core.Run, threads: int) -> None:
    """Tell a run that several threads make its visits."""
    why = run.share_out(threads, AHEAD_PAGES)
    if why:
        raise ValueError(f"threads: expected 1 for this population, {why}; got {threads}")


def _opened(threads: int) -> AbstractContextManager[Pool | None]:
    """Return a pool of threads, or None of one thread."""
    if threads == 1:
        return nullcontext()
    from rmapfast.parallel import opened  # with concurrent.futures and logging

    return opened("threads", threads)


def _steps(run: _core.Run, threads: int, progress: Callable[[int], None] | None) -> None:
    """Take a reclaim to its end."""
    with _opened(threads) as pool:
        while run.reclaim_step(BUDGET):
            if pool and run.ahead_is_due:
                run.ahead_begin()
                for _ in pool.in_order(run.ahead_visit, range(threads)):
                    pass
                run.ahead_end()
            if progress:
                progress(run.freed_pages)


def _memory_reclaim(population: Population, task: _Task, threads: int) -> Outcome:
    """Take folios from the LRU lists until the target is met, as a write to memory.reclaim does."""
    _refold(population, task.arch)
    population.settle_generations(task.rules.mglru if task.lru == "mglru" else None)
    start = time.perf_counter()
    if task.engine == "reference":
        from rmapfast import reference

        record = reference.reclaim(
            population,
            task.target_pages,
            policy=task.policy,
            arch=task.arch,
            swap=task.swap,
            max_ptes_none=task.max_ptes_none,
            lru=task.lru,
            lru_stats=task.lru_stats,
        )
        return _outcome_of_reference(population, record, start)
    run = _core.Run(
        population,
        task.compiled_policy,
        task.arch,
        swap=task.swap,
        fast=task.fast,
        room="reclaim",
        max_ptes_none=task.max_ptes_none,
        checked=True,
    )
    lists = population.held("lru_inactive"), population.held("lru_active")
    inactive, active = _rings(lists, run.folio_capacity)
    state = population.lru_gen
    run.reclaim_start(
        inactive,
        len(lists[0]),
        active,
        len(lists[1]),
        task.target_pages,
        lru_gen=(state.max_seq, state.min_seq_anon, state.min_seq_file) if task.lru == "mglru" else None,
        page_shift=population.page_shift if task.lru_stats == "flushed" else None,
    )
    if threads > 1:
        _share_out(run, threads)
    try:
        _steps(run, threads, task.progress)
    finally:
        run.ahead_finish()
        if task.lru == "mglru":
            population.lru_gen = LruGen(*run.reclaim_finish())
        # An interrupted run leaves a consistent population behind.
        _take_over(population, run, inactive, active)
    return _outcome_of_run(population, run, start)


def _madvise(population: Population, calls: list[tuple[str, int, int, int, bool]], task: _Task) -> Outcome:
    """Make madvise calls: action, mm, first page, end, and whether the caller owns the files."""
    _refold(population, task.arch)
    start = time.perf_counter()
    if task.engine == "reference":
        from rmapfast import reference

        record, results = reference.madvise(population, calls, policy=task.policy, arch=task.arch, swap=task.swap)
        outcome = _outcome_of_reference(population, record, start)
    else:
        run = _core.Run(
            population, task.compiled_policy, task.arch, swap=task.swap, fast=task.fast, room="madvise", checked=True
        )
        lists = population.held("lru_inactive"), population.held("lru_active")
        inactive, active = _rings(lists, run.folio_capacity)
        run.madvise_start(inactive, len(lists[0]), active, len(lists[1]))
        results = []
        try:
            for action, mm, first, end, owner in calls:
                run.madvise(action, mm, first, end, owner)
                while run.madvise_step(BUDGET):
                    if task.progress:
                        task.progress(run.freed_pages)
                results.append(run.madvise_ret)
        finally:
            run.madvise_finish()
            _take_over(population, run, inactive, active)
        outcome = _outcome_of_run(population, run, start)
    return replace(outcome, ret=next((ret for ret in results if ret), 0))
