"""Reclaim of described populations.

A described population is generated, reclaimed and discarded in shards of some blocks, so it may be larger than the
memory. Shards may be visited at the same time, by threads or an executor. The reclaim loop accounts for them in the
order of their addresses, so the counts are those of a run in one piece.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rmapfast import _core
from rmapfast.arch import Arch
from rmapfast.layout import DEFAULT_CPUMASK
from rmapfast.policy import Policy
from rmapfast.result import Outcome
from rmapfast.spec import PopulationSpec
from rmapfast.swap import UNLIMITED_SWAP

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

# Pages that are visited in one call. Such a call takes some ten milliseconds.
SHARD = 1 << 21
# Workers that an executor is taken to have if it does not say how many.
_WORKERS = 16
# Each worker keeps one stream, for all the shards that it visits.
_worker = threading.local()


class ActiveList(Exception):
    """The inactive list does not meet the target. The loop would need the active list, which a stream does not have."""


# The kinds whose folios are scanned even without swap space.
_FILE_LRU = ("file", "lazyfree")


class Task(NamedTuple):
    """A shard to visit.

    Parameters
    ----------
    first, end : int
        Pages of the mapping; the end is exclusive.
    number : int
        Number of the pass over the population, from 1.
    """

    first: int
    end: int
    number: int


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
class Shards:
    """Everything that a worker needs to visit shards. It can be pickled.

    Parameters
    ----------
    fields : dict
        The description, :meth:`rmapfast.PopulationSpec.fields`.
    policy, arch
        As in :func:`rmapfast.reclaim`.
    swap : bool
        Whether there is swap space.
    fast : bool
        Whether the fast paths are used.
    """

    fields: dict[str, Any]
    policy: Policy
    arch: Arch
    swap: bool
    fast: bool

    def visit(self, task: Task, limit: int | None = None) -> Visited:
        """Reclaim the folios of a shard, or only the first `limit` of them."""
        if getattr(_worker, "shards", None) != self:
            _worker.stream = _core.Stream(
                self.fields, self.policy, self.arch, swap=self.swap, cpumask=DEFAULT_CPUMASK, fast=self.fast
            )
            _worker.shards = self
        stream: _core.Stream = _worker.stream
        return Visited(*stream.visit(task.first, task.end, task.number, limit))


def streams(spec: PopulationSpec, slots: int | None) -> bool:
    """Return whether a described population can be reclaimed block by block; `slots` is the swap space in pages.

    It can if its inactive list is in address order (not with ``shuffle`` or ``active``), the length of the list is
    known without making it, swap space cannot run out, and no anonymous folio has to be split first.
    """
    described = spec.describe()
    swapbacked = spec.kind in ("anon", "shmem")
    if spec.shuffle or spec.active or described["folios"] is None or described["inactive"] is None:
        return False
    return not swapbacked or slots is None or (slots == UNLIMITED_SWAP and not spec.holes)


def _results(
    executor: Executor | None, window: int, shards: Shards, tasks: Iterable[Task]
) -> Iterator[tuple[Task, Visited]]:
    """Yield the tasks with their results, in order; at most `window` of them are under way."""
    if executor is None:
        for task in tasks:
            yield task, shards.visit(task)
        return
    under_way: deque[tuple[Task, Future[Visited]]] = deque()
    try:
        for task in tasks:
            under_way.append((task, executor.submit(shards.visit, task)))
            if len(under_way) == window:
                first, future = under_way.popleft()
                yield first, future.result()
        while under_way:
            first, future = under_way.popleft()
            yield first, future.result()
    finally:
        for _, future in under_way:
            future.cancel()


def reclaim_stream(
    spec: PopulationSpec,
    target_pages: int,
    policy: Policy,
    arch: Arch,
    slots: int | None,
    *,
    threads: int,
    executor: Executor | None,
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
    policy, arch, executor, progress
        As in :func:`rmapfast.reclaim`.
    slots : int or None
        Swap space in pages; None without.
    threads : int
        Threads that visit shards if there is no executor.
    fast : bool
        Whether the fast paths are used.

    Returns
    -------
    Outcome
        Without a population after the run.

    Raises
    ------
    ActiveList
        If the inactive list does not meet the target.
    """
    start = time.perf_counter()
    fields = spec.fields()
    if arch.cont_ptes != spec.cont_ptes:
        fields["cont_ptes"] = arch.cont_ptes
    shards = Shards(fields, policy, arch, slots is not None, fast)
    listed = spec.describe()["inactive"] if slots is not None or spec.kind in _FILE_LRU else 0
    loop = _core.Loop(arch, listed, spec.pages if listed else 0, target_pages)
    total = _Total()
    # Twice as many shards are under way as there are workers, so that none waits.
    own, window = None, 2 * threads
    if executor is not None:
        window = 2 * (getattr(executor, "_max_workers", None) or _WORKERS)
    elif threads > 1:
        from concurrent.futures import ThreadPoolExecutor

        executor = own = ThreadPoolExecutor(threads)
    try:
        number = 0
        while loop.goes_on():
            if not loop.lists[0]:
                raise ActiveList
            number += 1
            starts = range(0, spec.pages, SHARD)
            tasks = (Task(first, min(first + SHARD, spec.pages), number) for first in starts)
            for task, visited in _results(executor, window, shards, tasks):
                done = loop.account(visited.log)
                if done < visited.folios:
                    # The loop ended within this shard. It is visited again without the folios behind the end.
                    visited = shards.visit(task, done)
                total.add(visited)
                if progress:
                    progress(loop.freed_pages)
                if loop.ended:
                    break
    finally:
        if own:
            own.shutdown(cancel_futures=True)
    return Outcome(None, total.events + loop.events, total.referenced, total.lengths, time.perf_counter() - start)


class _Total:
    """Sums of the counts of shards."""

    def __init__(self) -> None:
        self.events, self.referenced = (np.zeros(len(_core.EVENT_NAMES), np.uint64) for _ in range(2))
        self.lengths: dict[int, int] = {}

    def add(self, visited: Visited) -> None:
        """Add the counts of one shard."""
        self.events += visited.events
        self.referenced += visited.referenced
        for length, count in visited.lengths.items():
            self.lengths[length] = self.lengths.get(length, 0) + count
