"""Reclaim of a described population that is never in memory as a whole: shards are visited, and accounted in order."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rmapfast import _core
from rmapfast.arch import Arch
from rmapfast.layout import DEFAULT_CPUMASK
from rmapfast.policy import Policy
from rmapfast.result import Outcome
from rmapfast.spec import PopulationSpec
from rmapfast.swap import UNLIMITED_SWAP

if TYPE_CHECKING:
    from concurrent.futures import Executor

# Pages that are visited in one call: some ten milliseconds.
SHARD = 1 << 21
# Of an executor that does not say how many it has: shards of so many are under way twice over.
_WORKERS = 16
# A worker's stream, which the shards that it visits have in common.
_worker = threading.local()


class ActiveList(Exception):
    """The loop has to turn to the active list, which a stream does not have."""


@dataclass(frozen=True)
class Shards:
    """What a worker must know to visit any shard; it can be pickled."""

    fields: dict
    policy: Policy
    arch: Arch
    swap: bool
    fast: bool

    def visit(self, first: int, end: int, number: int, limit: int | None = None):
        """Return :meth:`_core.Stream.visit` of these pages."""
        if getattr(_worker, "shards", None) != self:
            _worker.stream = _core.Stream(
                self.fields, self.policy, self.arch, swap=self.swap, cpumask=DEFAULT_CPUMASK, fast=self.fast
            )
            _worker.shards = self
        return _worker.stream.visit(first, end, number, limit)


def streams(spec: PopulationSpec, slots: int | None) -> bool:
    """Tell whether a population can be reclaimed as a stream.

    Not if its LRU list is no stream of blocks (``shuffle``, ``active``), if it takes counting to know its lists, if
    folios share swap slots that may run out, or if anonymous folios are split before.
    """
    described = spec.describe()
    swapbacked = spec.kind in ("anon", "shmem")
    if spec.shuffle or spec.active or described["folios"] is None or described["inactive"] is None:
        return False
    return not swapbacked or slots is None or (slots == UNLIMITED_SWAP and not spec.holes)


def _results(executor: Executor | None, window: int, visit: Callable, tasks):
    """Yield the results of the tasks in their order, with at most `window` of them under way."""
    if executor is None:
        for task in tasks:
            yield task, visit(*task)
        return
    under_way = deque()
    try:
        for task in tasks:
            under_way.append((task, executor.submit(visit, *task)))
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
            tasks = ((first, min(first + SHARD, spec.pages), number) for first in range(0, spec.pages, SHARD))
            for task, result in _results(executor, window, shards.visit, tasks):
                done = loop.account(result[1])
                if done < result[0]:
                    # it ended in this shard: what the folios behind the end counted does not count
                    result = shards.visit(*task, done)
                total.add(result)
                if progress:
                    progress(loop.freed_pages)
                if loop.ended:
                    break
    finally:
        if own:
            own.shutdown(cancel_futures=True)
    return Outcome(None, total.events + loop.events, total.referenced, total.lengths, time.perf_counter() - start)


# Kinds that are scanned without swap space.
_FILE_LRU = ("file", "lazyfree")


class _Total:
    """Sums of what shards counted."""

    def __init__(self):
        self.events, self.referenced = (np.zeros(len(_core.EVENT_NAMES), np.uint64) for _ in range(2))
        self.lengths = {}

    def add(self, result) -> None:
        _, _, events, referenced, lengths = result
        self.events += events
        self.referenced += referenced
        for length, count in lengths.items():
            self.lengths[length] = self.lengths.get(length, 0) + count
