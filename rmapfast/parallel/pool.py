"""One pool for all work in pieces: threads, processes, a Dask cluster, or any ``concurrent.futures.Executor``."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from rmapfast.support import checked_integer, closest

# Imported where an executor is used: streams import this module, and most runs have none.
if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

# What `executor` may be, besides an executor object.
EXECUTORS = ("threads", "processes", "dask=ADDRESS")

# Workers of an executor that does not say how many it has, such as that of a cluster.
_UNKNOWN = 16
# Seconds between two looks at signals.
_TICK = 0.2

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


class Stopped(BaseException):
    """The work was interrupted. This is no error of a task, so that nothing that catches errors catches it."""


class _Event(Protocol):
    """An event of threads or of processes."""

    def is_set(self) -> bool: ...


class _Worker(threading.local):
    """What a thread knows as a worker of a pool."""

    stop: _Event | None = None


_worker = _Worker()


def check_stop() -> None:
    """End the task that calls this if its pool is closing; a long task calls it some times a second.

    Only workers of a pool that :func:`opened` made are told to stop. On an executor of the user's, and outside of a
    pool, nothing happens.

    Raises
    ------
    Stopped
        If the work was interrupted.
    """
    if _worker.stop is not None and _worker.stop.is_set():
        raise Stopped


@dataclass(frozen=True)
class Pool:
    """Workers that are ready.

    Parameters
    ----------
    executor : concurrent.futures.Executor
        Runs the tasks.
    workers : int
        How many tasks run at a time. At most twice as many and one are under way, so that no worker waits for its next
        task and an interrupt leaves little behind.
    name : str
        What the executor is called in a provenance: ``threads``, ``processes``, ``dask``, or the class of the
        user's executor.
    """

    executor: Executor
    workers: int
    name: str

    def completed(
        self, function: Callable[[_Task], _Result], take: Callable[[], _Task | None]
    ) -> Iterator[tuple[_Task, Future[_Result]]]:
        """Run tasks and yield each with its outcome when it is done, in whatever order.

        Parameters
        ----------
        function : callable
            Called with a task. Must be picklable where workers are processes.
        take : callable
            Called without arguments for the next task, only when a worker will soon be free. It returns None when
            there is none for now. It is asked again whenever a task is done, so it may hand out a task that came up
            meanwhile. The iteration ends when there is none and nothing is under way.

        Yields
        ------
        task, future
            ``future.result()`` returns what the function returned, or raises what it raised.

        Raises
        ------
        concurrent.futures.BrokenExecutor
            If the workers are gone.
        """
        from concurrent.futures import FIRST_COMPLETED, wait

        under_way: dict[Future[_Result], _Task] = {}
        try:
            while True:
                while len(under_way) < 2 * self.workers + 1 and (task := take()) is not None:
                    under_way[self.executor.submit(function, task)] = task
                if not under_way:
                    return
                done, _ = wait(under_way, timeout=_TICK, return_when=FIRST_COMPLETED)
                for future in done:
                    yield under_way.pop(future), future
        finally:
            for future in under_way:
                future.cancel()

    def in_order(self, function: Callable[[_Task], _Result], tasks: Iterable[_Task]) -> Iterator[tuple[_Task, _Result]]:
        """Run tasks and yield each with what the function returned, in the order of the tasks.

        The consumer may end the iteration at any time. Tasks that have not begun by then are cancelled.

        Parameters
        ----------
        function : callable
            Called with a task. Must be picklable where workers are processes.
        tasks : iterable
            Read only as far as workers are free for.

        Yields
        ------
        task, result

        Raises
        ------
        concurrent.futures.BrokenExecutor
            If the workers are gone.
        Exception
            What the function raised.
        """
        under_way: deque[tuple[_Task, Future[_Result]]] = deque()
        try:
            for task in tasks:
                under_way.append((task, self.executor.submit(function, task)))
                if len(under_way) == 2 * self.workers:
                    first, future = under_way.popleft()
                    yield first, future.result()
            while under_way:
                first, future = under_way.popleft()
                yield first, future.result()
        finally:
            for _, future in under_way:
                future.cancel()


@contextlib.contextmanager
def opened(executor: str | Executor | None = None, workers: int | None = None) -> Iterator[Pool]:
    """Open the pool that ``executor=`` and ``workers=`` mean, and close it when the block ends.

    Workers that still run are told to stop (:func:`check_stop`), also at Ctrl-C. Worker processes leave Ctrl-C to the
    process that opened them, and end with it even if it is killed. An executor of the user's stays open.

    Parameters
    ----------
    executor : {'threads', 'processes', 'dask=ADDRESS'} or concurrent.futures.Executor, optional
        Where tasks run, by default on threads.
    workers : int, optional
        How many run at a time, by default one per CPU, or as many as the executor or the cluster has. An executor
        that says how many it has takes no other number.

    Yields
    ------
    Pool

    Raises
    ------
    TypeError, ValueError
        For an executor or a number that cannot be used; the message names it.
    ImportError
        If Dask is not installed; the message has the pip command.
    OSError
        If no Dask scheduler answers.
    """
    number = checked_integer("workers", workers, 1, 100_000) if workers is not None else None
    if executor is None or isinstance(executor, str):
        yield from _named(executor or "threads", number)
    elif hasattr(executor, "submit"):
        own = getattr(executor, "_max_workers", None)
        if own and number not in (None, own):
            raise ValueError(f"workers: the {type(executor).__name__} has {own}, got {number}; leave workers out")
        yield Pool(executor, number or own or _UNKNOWN, type(executor).__name__)
    else:
        raise TypeError(f"executor: {_expected(executor)}")


def _expected(executor: object) -> str:
    return f"expected {', '.join(EXECUTORS)} or a concurrent.futures.Executor, got {executor!r}"


def _named(name: str, number: int | None) -> Iterator[Pool]:
    kind, _, address = name.partition("=")
    if name == "threads":
        yield from _threads(number or os.cpu_count() or 1)
    elif name == "processes":
        yield from _processes(number or os.cpu_count() or 1)
    elif kind == "dask" and address:
        yield from _dask(address, number)
    else:
        raise ValueError(f"executor: {_expected(name)}{closest(kind, ['threads', 'processes', 'dask'])}")


def _threads(number: int) -> Iterator[Pool]:
    from concurrent.futures import ThreadPoolExecutor

    stop = threading.Event()
    executor = ThreadPoolExecutor(number, initializer=_start_thread, initargs=(stop,))
    try:
        yield Pool(executor, number, "threads")
    finally:
        stop.set()
        executor.shutdown(cancel_futures=True)


def _start_thread(stop: _Event) -> None:
    _worker.stop = stop


def _processes(number: int) -> Iterator[Pool]:
    from rmapfast.parallel.deaf import DeafContext, DeafExecutor

    context = DeafContext()
    stop = context.Event()
    executor = DeafExecutor(number, context, initializer=_start_process, initargs=(stop,))
    try:
        yield Pool(executor, number, "processes")
    finally:
        stop.set()
        executor.shutdown(cancel_futures=True)


def _start_process(stop: _Event) -> None:
    """Make a worker process ready: the process that opened the pool says when to stop, not the terminal."""
    _worker.stop = stop
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker with the process that opened the pool, which may be killed without a word to its workers."""
    import multiprocessing
    from multiprocessing import connection

    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _dask(address: str, number: int | None) -> Iterator[Pool]:
    import importlib

    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError:
        raise ImportError("executor dask needs distributed; install it with: pip install 'rmapfast[dask]'") from None
    try:
        client = distributed.Client(address, timeout=10)
    except OSError as error:
        raise OSError(f"executor: no Dask scheduler answers at {address} ({error})") from None
    with client, client.get_executor() as executor:
        known = len(client.scheduler_info(n_workers=-1)["workers"])
        yield Pool(executor, number or max(known, 1), "dask")
