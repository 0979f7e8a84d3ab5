"""Points of a sweep as tasks of a pool: short points share a task, and a task that failed is tried point by point."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Future
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
        self.workers, self.size = workers, 1

    def take(self) -> list[Point] | None:
        """Return the next task, or None if there is none for now."""
        if self.alone:
            return [self.alone.popleft()]
        return [self.waiting.popleft() for _ in range(min(self.size, len(self.waiting)))] or None

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
            records = _records(task, future)
            if records is None:
                queue.alone.extend(task)
                continue
            queue.learn(records)
            yield records
    except BrokenExecutor as error:
        raise SweepError(
            f"the workers ended unexpectedly ({type(error).__name__}); what they had not finished is not lost: resume"
        ) from None


def _records(task: list[Point], future: Future[list[tuple[str, Record]]]) -> list[tuple[str, Record]] | None:
    """Return the records of a task; None if its points are to be tried one by one."""
    try:
        return future.result()
    except BrokenExecutor:
        raise
    except Exception as error:  # such as that of a cluster whose workers died of this task again and again
        if len(task) > 1:
            return None
        return [(task[0][0], {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"})]
