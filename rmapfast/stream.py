"""Reclaim of a described population block by block, so that it is never in memory as a whole.

Shards of it are made, visited and discarded on their own, in any order. What they counted is accounted in the order of
the addresses.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from rmapfast import _core
from rmapfast.arch import Arch
from rmapfast.layout import DEFAULT_CPUMASK
from rmapfast.parallel import opened
from rmapfast.policy import Policy
from rmapfast.result import Outcome
from rmapfast.spec import PopulationSpec
from rmapfast.swap import UNLIMITED_SWAP

if TYPE_CHECKING:
    from concurrent.futures import Executor

# Pages that are visited in one call: some ten milliseconds.
SHARD = 1 << 21
# Kinds that are scanned without swap space.
_FILE_LRU = ("file", "lazyfree")

# What a visit counted, as _core.Stream.visit returns it.
Visited: TypeAlias = tuple[int, npt.NDArray[np.uint8], npt.NDArray[np.uint64], npt.NDArray[np.uint64], dict[int, int]]


class ActiveList(Exception):
    """The loop has to turn to the active list, which a stream does not have."""


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
    """What a worker must know to visit any shard; it can be pickled."""

    fields: dict[str, Any]
    policy: Policy
    arch: Arch
    swap: bool
    fast: bool

    def visit(self, shard: Shard) -> Visited:
        """Make the folios of a shard and return what their visit counted."""
        if _worker.stream is None or _worker.shards != self:
            _worker.stream = _core.Stream(
                self.fields, self.policy, self.arch, swap=self.swap, cpumask=DEFAULT_CPUMASK, fast=self.fast
            )
            _worker.shards = self
        return _worker.stream.visit(shard.first, shard.end, shard.number, shard.limit)


class _Worker(threading.local):
    """The stream of a worker, which the shards that it visits have in common."""

    shards: Shards | None = None
    stream: _core.Stream | None = None


_worker = _Worker()


def streams(spec: PopulationSpec, slots: int | None) -> bool:
    """Tell whether a population can be reclaimed as a stream.

    It cannot if its LRU list does not follow the blocks (``shuffle``, ``active``), if the length of its lists is only
    known by counting, if folios share swap slots that may run out, or if anonymous folios are split before.
    """
    described = spec.describe()
    swapbacked = spec.kind in ("anon", "shmem")
    if spec.shuffle or spec.active or described["folios"] is None or described["inactive"] is None:
        return False
    return not swapbacked or slots is None or (slots == UNLIMITED_SWAP and not spec.holes)


def reclaim_stream(
    spec: PopulationSpec,
    target_pages: int,
    policy: Policy,
    arch: Arch,
    slots: int | None,
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
        One that :func:`streams`.
    target_pages : int
        Base pages to free.
    policy : Policy
    arch : Arch
    slots : int or None
        Swap slots; None without swap space.
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
    fields = spec.fields()
    if arch.cont_ptes != spec.cont_ptes:
        fields["cont_ptes"] = arch.cont_ptes
    shards = Shards(fields, policy, arch, slots is not None, fast)
    listed = spec.describe()["inactive"] if slots is not None or spec.kind in _FILE_LRU else 0
    loop = _core.Loop(arch, listed, spec.pages if listed else 0, target_pages)
    total = _Total()
    alone = executor is None and threads == 1
    with nullcontext() if alone else opened(executor, threads if executor is None else workers) as pool:
        number = 0
        while loop.goes_on():
            if not loop.lists[0]:
                raise ActiveList
            number += 1
            tasks = (Shard(first, min(first + SHARD, spec.pages), number) for first in range(0, spec.pages, SHARD))
            visits = pool.in_order(shards.visit, tasks) if pool else ((task, shards.visit(task)) for task in tasks)
            for task, visited in visits:
                folios, log, *_ = visited
                done = loop.account(log)
                if done < folios:
                    # It ended in this shard. What the folios behind the end counted does not count.
                    visited = shards.visit(replace(task, limit=done))
                total.add(visited)
                if progress:
                    progress(loop.freed_pages)
                if loop.ended:
                    break
    return Outcome(None, total.events + loop.events, total.referenced, total.lengths, time.perf_counter() - start)


class _Total:
    """Sums of what shards counted."""

    def __init__(self) -> None:
        self.events, self.referenced = (np.zeros(len(_core.EVENT_NAMES), np.uint64) for _ in range(2))
        self.lengths: dict[int, int] = {}

    def add(self, visited: Visited) -> None:
        _, _, events, referenced, lengths = visited
        self.events += events
        self.referenced += referenced
        for length, count in lengths.items():
            self.lengths[length] = self.lengths.get(length, 0) + count
