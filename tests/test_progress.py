"""How far long work is: bars, lines and log files; and what the package logs."""

import contextlib
import io
import logging
import os
import subprocess
import sys

import pytest
from waiting import DEADLINE

import rmapfast as rf
from rmapfast.support import ProgressBar, ProgressLine

SPACE = {"population.order": [0, 4], "policy": ["v6.16", "v7.0"], "population.size": "1MiB"}


class Clock:
    """A clock that is moved by hand."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    return clock


class Terminal(io.StringIO):
    """A terminal, which is standard error in a ``with`` block."""

    def isatty(self):
        return True

    def __enter__(self):
        self.redirected = contextlib.redirect_stderr(self)
        self.redirected.__enter__()
        return self

    def __exit__(self, *error):
        self.redirected.__exit__(*error)


def test_a_line_in_a_log_now_and_then(clock, capsys):
    line = ProgressLine()
    for seconds in range(100):
        clock.now = 1000.0 + seconds
        line(f"second {seconds}")
    line.clear()
    assert capsys.readouterr().err.splitlines() == ["second 30", "second 60", "second 90"]


def test_a_line_that_is_replaced_on_a_terminal(clock):
    with Terminal() as terminal:
        line = ProgressLine()
        line("one")
        line("too soon")
        clock.now += 1
        line("two")
        line.clear()
    assert terminal.getvalue() == "\r\033[Kone\r\033[Ktwo\r\033[K"


def test_rate_and_time_left_count_from_where_the_work_began(clock, capsys, monkeypatch):
    bar = ProgressBar("v7.0", "points", 1000)
    bar(400)  # of an earlier sweep
    clock.now += 50
    bar(500, "3 failed")
    bar.close()
    assert capsys.readouterr().err == "v7.0: 500/1,000 points, 2/s, 250 s left, 3 failed\n"


def test_a_bar_of_tqdm_on_a_terminal(clock):
    pytest.importorskip("tqdm")
    with Terminal() as terminal:
        bar = ProgressBar("v7.0", "points", 100)
        bar(10)
        assert bar.bar is None  # work that ends soon needs no bar
        clock.now += 1
        bar(40)
        assert (bar.bar.n, bar.bar.total, bar.bar.initial) == (40, 100, 10)
        bar(100, "2 failed")
        assert bar.bar.postfix == "2 failed" and bar.bar.n == 100
        bar.close()
    assert "v7.0" in terminal.getvalue()


def test_without_tqdm_a_line(clock, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with Terminal() as terminal:
        bar = ProgressBar("", "points", 100)
        bar(0)
        clock.now += 1
        bar(40)
    assert bar.bar is None and "40/100 points, 40/s, 2 s left" in terminal.getvalue()


@pytest.mark.parametrize("progress", [True, False, None])
def test_progress_changes_no_result(progress, tmp_path):
    population = rf.Population.synthetic("1MiB")
    assert rf.reclaim(population, "50%", progress=progress) == rf.reclaim(population, "50%")
    compared = rf.compare(population, "50%", arches=["x86-64"], progress=progress)
    assert compared.runs == rf.compare(population, "50%", arches=["x86-64"]).runs
    swept = rf.sweep(SPACE, tmp_path / "out.json", progress=progress)
    assert swept.complete and rf.rerun(tmp_path / "out.json", progress=progress).same


def test_functions_are_called_as_before(monkeypatch):
    freed, points = [], []
    monkeypatch.setattr("rmapfast.loop.BUDGET", 1000)
    rf.reclaim(rf.Population.synthetic("4MiB", orders=0), "50%", engine="general", progress=freed.append)
    rf.sweep(SPACE, progress=lambda *counts: points.append(counts))
    assert freed == sorted(freed) and freed and points[0] == (0, 4, 0) and points[-1] == (4, 4, 0)


# What is logged


@pytest.fixture
def logged(caplog):
    caplog.set_level(logging.INFO, "rmapfast")
    return caplog


def test_events_without_a_price(logged):
    run = rf.reclaim(rf.Population.synthetic("1MiB"), "50%", arch="x86-64", policy="v6.16")
    found = [record.getMessage() for record in logged.records if record.name == "rmapfast.price"]
    assert run.unpriced and found == [f"v6.16 on x86-64: no price for {', '.join(run.unpriced)}"]


def test_a_population_that_is_made_as_a_whole(logged):
    spec = rf.Population.described("1MiB")
    rf.reclaim(spec, "50%")
    assert not [record for record in logged.records if record.name == "rmapfast.reclaim"]
    rf.reclaim(spec, "50%", lru="mglru", policy="v7.2")
    (record,) = [record for record in logged.records if record.name == "rmapfast.reclaim"]
    assert record.getMessage().startswith(repr(spec))


def test_simulations_that_are_shared_or_were_done(logged, tmp_path):
    rf.sweep(SPACE | {"arch.cost.batches": [1.0, 2.0]}, tmp_path / "out.json")
    rf.sweep(SPACE | {"arch.cost.batches": [1.0, 2.0]}, tmp_path / "out.json", resume=True)
    found = [record.getMessage() for record in logged.records if record.name == "rmapfast.sweep"]
    assert found == [f"4 simulations for 8 points, 4 of which share one; {done} were done before" for done in (0, 4)]


def test_nothing_is_logged_or_imported_unless_it_is_asked_for():
    code = (
        "import sys, rmapfast as rf\nrf.reclaim(rf.Population.synthetic('1MiB'), '50%', policy='v6.16')\n"
        "print('logging' in sys.modules)\n"
        "import logging\nrf.reclaim(rf.Population.synthetic('1MiB'), '50%', policy='v6.16')"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE, env=environment
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")
