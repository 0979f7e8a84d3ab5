"""Points of a sweep as tasks of a pool: short points share a task, and each point of one that failed is tried again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from typing import Any, TypeAlias

from rmapfast.parallel import Pool
from rmapfast.sweeps.points import Record, run_points

# A task takes about this many seconds, however short its points are, so that its transport does not count.
_TASK_S = 0.05
_MOST_POINTS = 64

# A point by its key and its values.
Point: TypeAlias = tuple[str, dict[str, Any]]


class SweepError(RuntimeError):
    """A sweep cannot go on; what was done has been written.

    Examples
    --------
    >>> import rmapfast as rf
    >>> issubclass(rf.SweepError, RuntimeError)
    True
    """


class _Queue:
    """Points that are still to be done, handed out as tasks."""

    def __init__(self, points: list[Point], workers: int) -> None:
        self.waiting = deque(points)
        self.alone: deque[Point] = deque()
        self.again: set[str] = set()  # keys of the points that are tried again
        self.workers, self.size = workers, 1

    def take(self) -> list[Point] | None:
        """Return the next task, or None if there is none for now."""
        if self.alone:
            return [self.alone.popleft()]
        return [self.waiting.popleft() for _ in range(min(self.size, len(self.waiting)))] or None

    def put_back(self, task: list[Point]) -> None:
        """Have the points of a task tried again, one by one."""
        self.again.update(key for key, _ in task)
        self.alone.extend(task)

    def learn(self, records: list[tuple[str, Record]]) -> None:
        """Make the next tasks as large as their points are short."""
        walls = [record["wall_s"] for _, record in records if "wall_s" in record]
        if walls:
            mean = max(sum(walls) / len(walls), 1e-4)
            self.size = max(1, min(int(_TASK_S / mean), _MOST_POINTS, len(self.waiting) // (2 * self.workers)))


def completed(pool: Pool, points: list[Point]) -> Iterator[list[tuple[str, Record]]]:
    """Yield the records of points by key, some at a time, in the order in which they are done.

    Raises
    ------
    SweepError
        If the workers are gone.
    """
    queue = _Queue(points, pool.workers)
    try:
        for task, future in pool.completed(run_points, queue.take):
            try:
                records = future.result()
            except BrokenExecutor:
                raise
            # such as that of a cluster that lost the result with a worker, or whose workers died of this task
            except Exception as error:
                if task[0][0] not in queue.again:
                    queue.put_back(task)
                    continue
                text = " ".join(str(error).split())
                records = [(task[0][0], {"error": f"{type(error).__name__}: {text}"})]
            queue.learn(records)
            yield records
    except BrokenExecutor as error:
        raise SweepError(
            f"the workers ended unexpectedly ({type(error).__name__}); what they had not finished is not lost: resume"
        ) from None
