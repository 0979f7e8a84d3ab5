"""Reclaim of described populations.

A described population is generated, reclaimed and discarded in shards of some blocks, so it may be larger than the
memory. Shards may be visited at the same time, by threads or an executor. The reclaim loop accounts for them in the
order of their addresses, so the counts are those of a run in one piece.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

import rmapfast._core as _core
from rmapfast.arch import Arch
from rmapfast.layout import DEFAULT_CPUMASK
from rmapfast.parallel import opened
from rmapfast.policy import Policy
from rmapfast.result import Outcome
from rmapfast.spec import PopulationSpec
from rmapfast.swap import Swap

if TYPE_CHECKING:
    from concurrent.futures import Executor

# Pages that are visited in one call. Such a call takes some ten milliseconds.
SHARD = 1 << 21
# The kinds whose folios are scanned even without swap space.
_FILE_LRU = ("file", "lazyfree")


class ActiveList(Exception):
    """The loop turns to the active list, which a stream does not have."""


class Visited(NamedTuple):
    """What the visit of a shard found.

    Parameters
    ----------
    folios : int
        Folios that were visited.
    log : array of uint8
        What became of each of them, for :meth:`_core.Loop.account`.
    events, referenced : array of uint64, shape (events,)
        Counts of all events, and of those in reference checks.
    lengths : dict of int to int
        Number of batches of each length.
    """

    folios: int
    log: npt.NDArray[np.uint8]
    events: npt.NDArray[np.uint64]
    referenced: npt.NDArray[np.uint64]
    lengths: dict[int, int]


@dataclass(frozen=True)
class Shard:
    """Pages that are visited in one call.

    Parameters
    ----------
    first, end : int
        Pages of the mapping, `end` not among them.
    number : int
        Of the pass over the inactive list, from 1.
    limit : int, optional
        Folios after which the visit ends.
    """

    first: int
    end: int
    number: int
    limit: int | None = None


@dataclass(frozen=True)
class Shards:
    """Everything that a worker needs to visit shards. It can be pickled.

    Parameters
    ----------
    spec : PopulationSpec
    policy, arch
        As in :func:`rmapfast.reclaim`.
    swap : bool
        Whether there is swap space.
    fast : bool
        Whether the fast paths are used.
    """

    spec: PopulationSpec
    policy: Policy
    arch: Arch
    swap: bool
    fast: bool

    def visit(self, shard: Shard) -> Visited:
        """Make the folios of a shard and return what their visit counted."""
        if _worker.stream is None or _worker.shards != self:
            # An architecture with other contpte blocks folds anew, as a population that is materialised does.
            block = self.spec.block_ptes if self.arch.cont_ptes == self.spec.cont_ptes else self.arch.cont_ptes
            _worker.stream = _core.Stream(
                self.spec,
                self.policy,
                self.arch,
                swap=self.swap,
                cpumask=DEFAULT_CPUMASK,
                fast=self.fast,
                cont_ptes=block,
            )
            _worker.shards = self
        return Visited(*_worker.stream.visit(shard.first, shard.end, shard.number, shard.limit))


class _Worker(threading.local):
    """The stream of a worker, which the shards that it visits have in common."""

    shards: Shards | None = None
    stream: _core.Stream | None = None


_worker = _Worker()


def streams(spec: PopulationSpec, swap: Swap | None) -> bool:
    """Return whether a described population can be reclaimed block by block.

    It can if its inactive list is in address order (not with ``shuffle`` or ``active``), the length of the list is
    known without making it, and no folio can be split: swap space cannot run out, and no folio is or becomes partially
    mapped.
    """
    described = spec.describe()
    swapbacked = spec.kind in ("anon", "shmem")
    if spec.shuffle or spec.active or described["folios"] is None or described["inactive"] is None:
        return False
    if spec.kind == "lazyfree" and spec.dirty and max(spec.mix) > 1:
        return False  # an unmap that fails at a dirty page leaves the folio partially mapped
    return not swapbacked or swap is None or (swap == Swap() and not spec.holes)


def reclaim_stream(
    spec: PopulationSpec,
    target_pages: int,
    policy: Policy,
    arch: Arch,
    swap: Swap | None,
    *,
    threads: int,
    executor: str | Executor | None,
    workers: int | None,
    fast: bool,
    progress: Callable[[int], None] | None,
) -> Outcome:
    """Reclaim a described population block by block.

    Parameters
    ----------
    spec : PopulationSpec
        A population for which :func:`streams` is true.
    target_pages : int
        Base pages to free.
    policy : Policy
    arch : Arch
    swap : Swap or None
        The swap device; None without swap space.
    threads : int
        Threads that visit shards, where there is no `executor`. With 1 the calling thread visits them.
    executor : str or concurrent.futures.Executor, optional
    workers : int, optional
        What visits shards in place of threads (:func:`rmapfast.parallel.opened`).
    fast : bool
        Use the fast paths of the C library.
    progress : callable, optional
        Called with the base pages freed so far.

    Raises
    ------
    ActiveList
        If the target is not met by the inactive list.
    """
    start = time.perf_counter()
    shards = Shards(spec, policy, arch, swap is not None, fast)
    listed = spec.describe()["inactive"] if swap is not None or spec.kind in _FILE_LRU else 0
    loop = _core.Loop(arch, policy, listed, spec.pages if listed else 0, target_pages)
    total = _Total()
    alone = executor is None and threads == 1
    with nullcontext() if alone else opened(executor, threads if executor is None else workers) as pool:
        number = 0
        while loop.goes_on():
            if loop.turns_to_active():
                raise ActiveList
            number += 1
            tasks = (Shard(first, min(first + SHARD, spec.pages), number) for first in range(0, spec.pages, SHARD))
            visits = pool.in_order(shards.visit, tasks) if pool else ((task, shards.visit(task)) for task in tasks)
            for task, visited in visits:
                done = loop.account(visited.log)
                if done < visited.folios:
                    # The loop ended within this shard. It is visited again without the folios behind the end.
                    visited = shards.visit(replace(task, limit=done))
                total.add(visited)
                if progress:
                    progress(loop.freed_pages)
                if not loop.goes_on() or loop.turns_to_active():
                    break
    swap_used = 0 if spec.kind in _FILE_LRU else loop.freed_pages
    wall_s = time.perf_counter() - start
    return Outcome(
        None,
        total.events + loop.events,
        total.referenced,
        total.lengths,
        wall_s,
        swap_used=swap_used,
        isolated=loop.isolated,
    )


class _Total:
    """Sums of what shards counted."""

    def __init__(self) -> None:
        self.events, self.referenced = (np.zeros(len(_core.EVENT_NAMES), np.uint64) for _ in range(2))
        self.lengths: dict[int, int] = {}

    def add(self, visited: Visited) -> None:
        """Add the counts of one shard."""
        self.events += visited.events
        self.referenced += visited.referenced
        for length, count in visited.lengths.items():
            self.lengths[length] = self.lengths.get(length, 0) + count
