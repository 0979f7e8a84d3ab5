"""Reclaim of described populations.

A described population is generated, reclaimed and discarded in shards of some blocks, so it may be larger than the
memory. Shards may be visited at the same time, by threads or an executor. The reclaim loop accounts for them in the
order of their addresses, so the counts are those of a run in one piece.

A pass over the inactive list comes to what the pass before kept. So a shard is taken through two passes at once, while
each of its blocks is in the cache, and what the second one found waits for the end of the first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

import rmapfast._core as _core
from rmapfast.arch import Arch
from rmapfast.layout import DEFAULT_CPUMASK
from rmapfast.parallel import Pool, opened
from rmapfast.policy import Policy
from rmapfast.result import Outcome
from rmapfast.spec import PopulationSpec
from rmapfast.swap import Swap

if TYPE_CHECKING:
    from concurrent.futures import Executor

# Pages that are visited in one call. Such a call takes some ten milliseconds.
SHARD = 1 << 21
# Bytes of logs of second passes that may wait. A shard whose log finds no room is made again for its second pass.
WAITING = 1 << 27
# The kinds whose folios are scanned even without swap space.
_FILE_LRU = ("file", "lazyfree")
_PAGES_FREED = _core.EVENT_NAMES.index("pages_freed")


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

    @property
    def freed_pages(self) -> int:
        """Base pages that the visits freed."""
        return int(self.events[_PAGES_FREED])


@dataclass(frozen=True)
class Shard:
    """Pages that are visited in one call.

    Parameters
    ----------
    first, end : int
        Pages of the mapping, `end` not among them.
    number : int
        Of the pass over the inactive list, from 1.
    passes : int
        How many passes the pages are taken through, from that one on: 1 or 2.
    limit : int, optional
        Folios after which a single pass ends.
    """

    first: int
    end: int
    number: int
    passes: int = 1
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

    def visit(self, shard: Shard) -> list[Visited]:
        """Make the folios of a shard and return what their visits counted, one of each pass."""
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
        visits = _worker.stream.visit(shard.first, shard.end, shard.number, shard.passes, shard.limit)
        return [Visited(*visited) for visited in visits]


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
        waiting: dict[int, Visited] = {}
        while loop.goes_on():
            if loop.turns_to_active():
                raise ActiveList
            number += 1
            this = _Pass(number, spec.pages, target_pages - loop.freed_pages, waiting)
            for shard, visited in this.visits(shards, pool):
                done = loop.account(visited.log)
                if done < visited.folios:
                    # The loop ended within this shard. It is visited again without the folios behind the end.
                    (visited,) = shards.visit(replace(shard, passes=1, limit=done))
                total.add(visited)
                this.add(shard, visited)
                if progress:
                    progress(loop.freed_pages)
                if not loop.goes_on() or loop.turns_to_active():
                    break
            waiting = this.waiting
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


class _Pass:
    """A pass over the inactive list, shard by shard.

    Parameters
    ----------
    number : int
        From 1.
    pages : int
        Of the population.
    missing : int
        Pages that are to be freed from here on.
    found : dict of int to Visited
        What this pass finds in the shards, by their first page, where that is known already.
    """

    def __init__(self, number: int, pages: int, missing: int, found: dict[int, Visited]) -> None:
        self.number, self.pages, self.missing, self.found = number, pages, missing, found
        self.freed = self.accounted = 0
        # What the next pass finds, as far as it is known.
        self.waiting: dict[int, Visited] = {}
        self.waiting_freed = self.waiting_pages = self.waiting_bytes = 0

    def visits(self, shards: Shards, pool: Pool | None) -> Iterator[tuple[Shard, Visited]]:
        """Yield each shard with what this pass finds in it, in the order of the addresses."""
        firsts = range(0, self.pages, SHARD)
        tasks = map(self._shard, [first for first in firsts if first not in self.found])
        made = pool.in_order(shards.visit, tasks) if pool else ((task, shards.visit(task)) for task in tasks)
        for first in firsts:
            if first in self.found:
                yield Shard(first, min(first + SHARD, self.pages), self.number), self.found.pop(first)
                continue
            shard, visits = next(made)
            if len(visits) > 1:
                self._wait(shard, visits[1])
            yield shard, visits[0]

    def add(self, shard: Shard, visited: Visited) -> None:
        """Take note of what the loop has accounted for."""
        self.accounted += shard.end - shard.first
        self.freed += visited.freed_pages

    def _wait(self, shard: Shard, visited: Visited) -> None:
        if self.waiting_bytes + visited.log.nbytes > WAITING:
            return
        self.waiting[shard.first] = visited
        self.waiting_bytes += visited.log.nbytes
        self.waiting_pages += shard.end - shard.first
        self.waiting_freed += visited.freed_pages

    def _shard(self, first: int) -> Shard:
        """Return the shard that begins at a page, with the next pass if the loop is likely to come to it.

        A description is alike everywhere, so the shards so far say what the others free.
        """
        missing = self.missing
        if self.accounted:
            missing -= self.freed * self.pages // self.accounted
        wanted = missing > 0 and self.waiting_bytes < WAITING
        if self.waiting_pages:
            wanted = wanted and first * self.waiting_freed < missing * self.waiting_pages
        return Shard(first, min(first + SHARD, self.pages), self.number, 2 if wanted else 1)


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
