"""Work in pieces: pools on threads, processes and executors of the user's, and the journal of what is finished."""

import json
import os
import signal
import time
import warnings
import zlib
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import pytest

import rmapfast as rf
from rmapfast.parallel import EXECUTORS, Journal, Stopped, check_stop, opened
from rmapfast.parallel.deaf import DeafProcess
from rmapfast.parallel.journal import JournalDiffers
from rmapfast.support import replace_file, write_atomically


def double(number):
    return 2 * number


def until_stopped(started):
    """Run until the pool closes; says so in a file."""
    with open(started, "a") as file:
        file.write("started\n")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        time.sleep(0.01)
        try:
            check_stop()
        except Stopped:
            with open(started, "a") as file:
                file.write("stopped\n")
            raise
    raise AssertionError("nobody said stop")


def handed_out(tasks):
    """What hands out tasks one by one, then None."""
    tasks = iter(tasks)
    return lambda: next(tasks, None)


@pytest.mark.parametrize("executor", ["threads", "processes", None])
def test_tasks_run_once_and_in_order(executor):
    with opened(executor, 2) as pool:
        assert pool.workers == 2 and pool.name == (executor or "threads")
        assert list(pool.in_order(double, range(50))) == [(n, 2 * n) for n in range(50)]
        found = {task: future.result() for task, future in pool.completed(double, handed_out(range(50)))}
    assert found == {n: 2 * n for n in range(50)}


def test_an_executor_of_the_users_is_left_open():
    with ThreadPoolExecutor(3) as executor:
        with opened(executor) as pool:
            assert (pool.workers, pool.name) == (3, "ThreadPoolExecutor")
            assert list(pool.in_order(double, [1, 2])) == [(1, 2), (2, 4)]
        assert executor.submit(double, 4).result() == 8


class Waiting(Executor):
    """An executor that does not say how many workers it has, and that runs a task when its result is asked for."""

    def __init__(self):
        self.submitted = []

    def submit(self, call, task):
        future = Future()
        self.submitted.append(future)
        future.set_result(call(task))
        return future


def test_few_tasks_are_under_way():
    """A long list of tasks is read only as far as the workers are."""
    read = []

    def tasks():
        for number in range(1000):
            read.append(number)
            yield number

    with opened(Waiting(), 3) as pool:
        results = pool.in_order(double, tasks())
        assert next(results) == (0, 0) and len(read) == 6
        results.close()
        next(pool.completed(double, handed_out(tasks())))
        assert len(read) == 6 + 7
    with opened(Waiting()) as pool:
        assert pool.workers > 1


def test_a_task_may_come_up_while_others_run():
    """Such as one that is tried again: after None, the pool asks once more when a task is done."""
    waiting, done = [8], []
    with opened("threads", 1) as pool:
        for task, future in pool.completed(double, lambda: waiting.pop() if waiting else None):
            done.append((task, future.result()))
            if task > 1:
                waiting.append(task // 2)
    assert done == [(8, 16), (4, 8), (2, 4), (1, 2)]


def test_the_error_of_a_task_is_raised_where_its_result_is_asked_for():
    with opened("threads", 2) as pool:
        with pytest.raises(ValueError, match="invalid literal"):
            list(pool.in_order(int, ["1", "x", "2"]))
        outcomes = {task: future.exception() for task, future in pool.completed(int, handed_out(["1", "x"]))}
    assert outcomes["1"] is None and isinstance(outcomes["x"], ValueError)


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_an_interrupt_stops_long_tasks(tmp_path, executor):
    """However long they are: the block is left at once, and nothing of it goes on."""
    path = tmp_path / "started"

    def interrupted():
        with opened(executor, 1) as pool:
            for _ in range(5):
                pool.executor.submit(until_stopped, path)
            end = time.monotonic() + 60
            while not path.exists() and time.monotonic() < end:
                time.sleep(0.01)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    words = path.read_text().split()
    # a process has its next task at hand already, which then ends at its first look
    assert words in (["started", "stopped"], ["started", "stopped"] * 2)


@pytest.mark.parametrize("number", [1, 2])
def test_an_interrupt_while_processes_start_leaves_none(monkeypatch, number):
    """The executor does not know of a process while it starts it; Python would wait for it at its end."""
    started, start = [], DeafProcess.start
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it

    def interrupted(process):
        start(process)
        started.append(process)
        if len(started) == number:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(DeafProcess, "start", interrupted)
    with pytest.raises(KeyboardInterrupt), opened("processes", 2) as pool:
        for _ in range(8):
            pool.executor.submit(time.sleep, 0.1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)
    assert len(started) == number and not any(process.is_alive() for process in started)


def test_check_stop_outside_of_a_pool_does_nothing():
    check_stop()
    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(check_stop).result() is None


def test_what_is_no_executor():
    for executor, error, words in (
        ("thread", ValueError, "executor: expected threads, .*did you mean 'threads'"),
        ("dask=", ValueError, "dask=ADDRESS"),
        (4, TypeError, "executor: expected threads"),
    ):
        with pytest.raises(error, match=words), opened(executor):
            pass
    assert EXECUTORS == ("threads", "processes", "dask=ADDRESS")


def test_workers_are_never_ignored():
    for number in (0, -1):
        with pytest.raises(ValueError, match="workers"), opened("threads", number):
            pass
    with ThreadPoolExecutor(3) as executor:
        with pytest.raises(ValueError, match="workers: the ThreadPoolExecutor has 3, got 2"), opened(executor, 2):
            pass
        with opened(executor, 3) as pool:
            assert pool.workers == 3
        description = rf.Population.described("1MiB")
        for options, words in (
            ({"executor": executor, "threads": 2}, "threads: expected none with an executor"),
            ({"executor": executor, "threads": None}, "threads: expected none with an executor"),
            ({"executor": executor, "workers": 2}, "workers: the ThreadPoolExecutor has 3"),
            ({"workers": 2}, "workers: expected with an executor only"),
            ({"executor": "thread"}, "did you mean 'threads'"),
        ):
            with pytest.raises(ValueError, match=words):
                rf.reclaim(description, "1MiB", **options)
        with pytest.raises(ValueError, match="executor: expected a described population"):
            rf.reclaim(rf.Population.synthetic("1MiB"), "1MiB", executor="threads", workers=2)


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_reclaim_and_sweep_mean_the_same_by_an_executor(executor):
    description = rf.Population.described("40GiB", orders="0:10,4:70,9:20", seed=3)
    split, alone = (
        rf.reclaim(description, "30GiB", **options) for options in ({"executor": executor, "workers": 2}, {})
    )
    assert split.events == alone.events and split.batch_lengths == alone.batch_lengths


def test_an_executor_that_broke_is_named():
    from concurrent.futures import BrokenExecutor

    with ProcessPoolExecutor(1) as executor, opened(executor) as pool, pytest.raises(BrokenExecutor):
        list(pool.in_order(os._exit, [1]))


# The journal


def journal_of(path, number=1):
    return Journal(
        path,
        "count",
        advice="name another file",
        differs=lambda found: "" if found["of"] == number else f"it counts {found['of']}",
        parse=lambda record: record["n"],
    )


def held(path):
    """What a journal holds."""
    journal = journal_of(path)
    records = journal.open({"of": 1})
    journal.close()
    return records


def line(record):
    """A record as a line of a journal."""
    text = json.dumps(record).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


HEADER = b'{"of": 1}\n'


def test_a_journal_holds_what_was_added(tmp_path):
    path = tmp_path / "journal"
    journal = journal_of(path)
    assert journal.open({"of": 1}) == [] and journal.empty
    for n in range(3):
        journal.add({"n": n})
    assert not journal.empty
    assert path.read_bytes() == HEADER + b"".join(line({"n": n}) for n in range(3))  # at once, not when it is closed
    journal.close()
    again = journal_of(path)
    assert again.open({"of": 1}) == [0, 1, 2] and not again.empty
    again.add({"n": 3})
    again.close()
    assert held(path) == [0, 1, 2, 3]
    anew = journal_of(path)
    assert anew.open({"of": 2}, anew=True) == [] and path.read_text() == '{"of": 2}\n'
    anew.close(remove=True)
    assert not path.exists()


@pytest.mark.parametrize("torn", [b'{"n": 7', b"{", b"\xff"])
def test_a_torn_record_is_dropped(tmp_path, torn):
    path = tmp_path / "journal"
    path.write_bytes(HEADER + line({"n": 0}) + torn)
    journal = journal_of(path)
    assert journal.open({"of": 1}) == [0]
    journal.add({"n": 1})
    journal.close()
    assert path.read_bytes() == HEADER + line({"n": 0}) + line({"n": 1})
    path.write_bytes(b'{"of"')  # before the header was whole
    journal = journal_of(path)
    assert journal.open({"of": 1}) == []
    journal.close()
    assert path.read_bytes() == b'{"of": 1}\n'


@pytest.mark.parametrize(
    "damaged",
    [b"x\n", b"\n", b'{"n": 1}\n',
     line({"n": 1})[1:], line({"n": 1}).replace(b"1}", b"2}"), line({"m": 1}), line([[[]]]),
     b"00000000 \xff\n", line(None), line({"n": 1})[:-1] + b"\r\n", b"[" * 100_000 + b"\n"],
)  # fmt: skip
def test_a_damaged_record_is_dropped_with_a_warning_and_the_intact_ones_stay(tmp_path, damaged):
    path = tmp_path / "journal"
    path.write_bytes(HEADER + line({"n": 0}) + damaged + line({"n": 2}))
    journal = journal_of(path)
    with pytest.warns(UserWarning, match="journal: 1 of 3 records are damaged; what they held is done again"):
        assert journal.open({"of": 1}) == [0, 2]
    with pytest.raises(OSError, match="Another count is writing it"):
        journal_of(path).open({"of": 1})
    journal.add({"n": 1})
    journal.close()
    assert path.read_bytes() == HEADER + line({"n": 0}) + line({"n": 2}) + line({"n": 1})
    assert os.listdir(tmp_path) == ["journal"]


def test_every_single_damaged_byte_is_noticed_or_does_not_matter(tmp_path):
    path, content = tmp_path / "journal", HEADER + line({"n": 10}) + line({"n": 20})
    first = len(HEADER) + len(line({"n": 10}))
    for at in range(len(HEADER), len(content)):
        for wrong in (content[at] ^ 1, content[at] ^ 0x80, 0, ord("\n")):
            path.write_bytes(content[:at] + bytes([wrong]) + content[at + 1 :])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = set(held(path))
            # the other record stays; the newline between the two may cost both
            kept = set() if at == first - 1 else {20} if at < first else {10}
            assert kept <= found <= {10, 20}, (at, wrong)


def test_what_is_at_the_place_was_on_the_disk_before_what_it_replaces_goes(tmp_path, monkeypatch):
    """A power cut must find the journal or the output: the content, the name, and only then the removal."""
    done = []
    for name in ("fsync", "replace", "unlink"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, real=real, name=name: (done.append(name), real(*args))[1])
    monkeypatch.setattr(type(tmp_path), "unlink", lambda self, missing_ok=False: done.append("unlink"))
    journal = journal_of(tmp_path / "journal")
    journal.open({"of": 1})
    done.clear()
    write_atomically(tmp_path / "output", b"result", overwrite=False)
    journal.close(remove=True)
    assert done[:3] == ["fsync", "replace", "fsync"] and "unlink" in done[3:]


def test_a_leftover_of_a_killed_process_is_removed_and_one_in_use_is_not(tmp_path):
    dead, other = tmp_path / ".out.csv.0123abcd", tmp_path / ".out.csv.backup"
    for path in (dead, other):
        path.write_bytes(b"half")
    with replace_file(tmp_path / "out.csv") as (file, take_place):
        assert not dead.exists() and other.exists()
        file.write(b"first")
        write_atomically(tmp_path / "out.csv", b"second", overwrite=False)
        take_place()
        file.close()
    assert (tmp_path / "out.csv").read_bytes() == b"first"
    assert sorted(os.listdir(tmp_path)) == [".out.csv.backup", "out.csv"]


def test_a_journal_of_something_else_is_left_as_it_was(tmp_path):
    path = tmp_path / "journal"
    for content, error, words in (
        (
            b'{"of": 2}\n' + line({"n": 0}),
            JournalDiffers,
            r"journal: cannot be resumed: it counts 2; name another file",
        ),
        (b'{"to": 2}\n', ValueError, "no journal of a count: 'of'; name another file"),
        (b"x\n", ValueError, "no journal of a count"),
        (b"\xff\xfe\n", ValueError, "no journal of a count"),
    ):
        path.write_bytes(content)
        with pytest.raises(error, match=words):
            journal_of(path).open({"of": 1})
        assert path.read_bytes() == content


def test_a_journal_is_written_by_one(tmp_path):
    path = tmp_path / "journal"
    first = journal_of(path)
    first.open({"of": 1})
    first.add({"n": 0})
    with pytest.raises(OSError, match="Another count is writing it"):
        journal_of(path).open({"of": 1}, anew=True)
    first.close()
    assert held(path) == [0]


def test_where_no_journal_can_be(tmp_path):
    for path in (tmp_path, tmp_path / "missing" / "journal"):
        with pytest.raises(OSError, match=path.name):
            journal_of(path).open({"of": 1})
