"""Where points are simulated: threads, processes, a Dask cluster, or any ``concurrent.futures.Executor``."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, wait
from dataclasses import dataclass
from functools import partial

from rmapfast.support import checked_integer, closest
from rmapfast.sweeps.points import Stopped, run_points, start_worker

KINDS = ("threads", "processes", "dask=ADDRESS")
# A task takes about this many seconds, however short its points are, so that its transport does not count.
_TASK_S = 0.05
_MOST_POINTS = 64
# Seconds between two looks at signals.
_TICK = 0.2


class SweepError(RuntimeError):
    """A sweep cannot go on; what was done has been written."""


@dataclass(frozen=True)
class Workers:
    """An executor that is ready, the number of its workers, and the function that runs points on one."""

    executor: Executor
    number: int
    run: Callable
    name: str


@contextlib.contextmanager
def opened(executor: str | Executor | None, workers: int | None) -> Iterator[Workers]:
    """Open what `executor` means, and end what was opened; points that still run are told to stop.

    Raises
    ------
    TypeError, ValueError, ImportError, OSError
    """
    number = checked_integer("workers", workers, 1, 100_000) if workers is not None else None
    name = "threads" if executor is None else executor
    if isinstance(name, str):
        kind, _, address = name.partition("=")
        if name == "threads":
            yield from _threads(number or os.cpu_count() or 1)
        elif name == "processes":
            yield from _processes(number or os.cpu_count() or 1)
        elif kind == "dask" and address:
            yield from _dask(address, number)
        else:
            raise ValueError(
                f"executor: expected {', '.join(KINDS)} or a concurrent.futures.Executor, got "
                f"{name!r}{closest(kind, ['threads', 'processes', 'dask'])}"
            )
    elif hasattr(executor, "submit"):
        number = number or getattr(executor, "_max_workers", None) or os.cpu_count() or 1
        yield Workers(executor, number, run_points, type(executor).__name__)
    else:
        raise TypeError(f"executor: expected {', '.join(KINDS)} or a concurrent.futures.Executor, got {executor!r}")


def _threads(number: int) -> Iterator[Workers]:
    from concurrent.futures import ThreadPoolExecutor
    from threading import Event

    stop = Event()
    executor = ThreadPoolExecutor(number)
    try:
        yield Workers(executor, number, partial(run_points, stop=stop), "threads")
    finally:
        stop.set()
        executor.shutdown(cancel_futures=True)


def _processes(number: int) -> Iterator[Workers]:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    # spawned: a fork would take over the locks of this process's threads
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    executor = ProcessPoolExecutor(number, context, initializer=start_worker, initargs=(stop,))
    try:
        yield Workers(executor, number, run_points, "processes")
    finally:
        stop.set()
        executor.shutdown(cancel_futures=True)


def _dask(address: str, number: int | None) -> Iterator[Workers]:
    try:
        from distributed import Client
    except ImportError:
        raise ImportError("executor dask needs distributed; install it with: pip install 'rmapfast[dask]'") from None
    try:
        client = Client(address, timeout=10)
    except OSError as error:
        raise OSError(f"executor: no Dask scheduler answers at {address} ({error})") from None
    with client, client.get_executor() as executor:
        known = len(client.scheduler_info(n_workers=-1)["workers"])
        yield Workers(executor, number or max(known, 1), run_points, "dask")


def completed(workers: Workers, points: list[tuple[str, dict]]) -> Iterator[list[tuple[str, dict]]]:
    """Yield the records of points by key, some at a time, in the order in which they are done.

    Raises
    ------
    SweepError
        If the workers are gone.
    """
    waiting, under_way, size = deque(points), {}, 1
    try:
        while waiting or under_way:
            while waiting and len(under_way) < 2 * workers.number + 1:
                task = [waiting.popleft() for _ in range(min(size, len(waiting)))]
                under_way[_submitted(workers, task)] = task
            done, _ = wait(under_way, timeout=_TICK, return_when=FIRST_COMPLETED)
            for future in done:
                task = under_way.pop(future)
                records = _outcome(future, task)
                if records is None:  # one of them ended the worker: each for itself
                    under_way |= {_submitted(workers, [point]): [point] for point in task}
                    continue
                walls = [record["wall_s"] for _, record in records if "wall_s" in record]
                if walls:
                    mean = max(sum(walls) / len(walls), 1e-4)
                    size = max(1, min(int(_TASK_S / mean), _MOST_POINTS, len(waiting) // (2 * workers.number)))
                yield records
    finally:
        for future in under_way:
            future.cancel()


def _submitted(workers: Workers, task: list):
    try:
        return workers.executor.submit(workers.run, task)
    except BrokenExecutor as error:
        raise SweepError(_gone(error)) from None


def _gone(error: BaseException) -> str:
    return f"the workers ended unexpectedly ({type(error).__name__}); what they had not finished is not lost: resume"


def _outcome(future, task: list) -> list | None:
    """The records of a task; None if it is to be tried point by point."""
    try:
        return future.result()
    except Stopped:
        raise
    except BrokenExecutor as error:
        raise SweepError(_gone(error)) from None
    except Exception as error:  # such as that of a cluster whose workers died of this task again and again
        if len(task) > 1:
            return None
        return [(task[0][0], {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"})]
