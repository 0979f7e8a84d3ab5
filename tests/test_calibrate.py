"""Calibration: what is measured is real where this machine allows it, and everything is left as it was."""

import os
import platform
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from waiting import DEADLINE, INTERRUPTIBLE, wait_for

import rmapfast as rf
from rmapfast import arch, cost
from rmapfast.calibration import CalibrateError, Measurement, ReclaimCase, cases, machine, measure
from rmapfast.calibration.memcg import Memcg
from rmapfast.calibration.userfaultfd import why_no_userfaultfd
from rmapfast.calibration.vector import fit_vector
from rmapfast.cli import main
from rmapfast.editions import preset_of


def why_not(folder) -> str:
    try:
        machine.running_arch()
        machine.readahead_setting(folder)
        memcg = Memcg()
        memcg.create()
        memcg.remove()
    except (CalibrateError, OSError) as error:
        return str(error)
    return ""


@pytest.fixture
def here(tmp_path):
    if reason := why_not(tmp_path):
        pytest.skip(reason)
    return tmp_path


def outside(folder) -> tuple:
    """What a calibration changes outside itself."""
    readahead = machine.readahead_setting(folder).read_text()
    groups = sorted(Memcg().parent.glob("rmapfast-calibrate*"))
    return readahead, groups, sorted(folder.iterdir()), os.sched_getaffinity(0), Path("/proc/self/cgroup").read_text()


@pytest.fixture
def short(monkeypatch):
    """One turn over less memory: not for figures."""
    monkeypatch.setattr(measure, "REPEATS", 1)
    monkeypatch.setattr(measure, "SIZE", 8 << 20)
    monkeypatch.setattr(measure, "SIZE_ORDER_0", 4 << 20)


def test_a_calibration_measures_fits_and_leaves_everything_as_it_was(here, short):
    before = outside(here)
    found = rf.calibrate(hold_back=2, folder=here)
    assert outside(here) == before
    assert len(found.held_back) == 2
    for one in (*found.fitted, *found.held_back):
        assert one.ns > 0 and one.predicted > 0 and len(one.ns_all) == 1
        assert one.counts[rf.EVENT_NAMES.index("pages_freed")] == pytest.approx(1)
    kinds = {one.case.kind for one in found.fitted}
    assert kinds == {"file", "lazyfree"} or any("userfaultfd" in text for text in found.not_measured)
    # what was written describes an architecture that prices a run
    assert arch.get(found.arch) is found.arch
    assert rf.reclaim(rf.Population.synthetic("2MiB", arch=found.arch), "1MiB").prediction.seconds > 0


def test_lengths_of_batches_are_what_the_model_sees(here):
    if reason := why_no_userfaultfd():
        pytest.skip(reason)
    with measure.set_up(here) as setup, setup.lazyfree(ReclaimCase("lazyfree", batch=8), 4 << 20) as population:
        result = rf.reclaim(population, "4MiB", policy=preset_of(platform.release()))
    if set(population.describe()["orders"]) != {"9"}:
        pytest.skip("no 2 MiB folios were to be had")
    assert set(result.batch_lengths) == {8}


def test_mapped_file_folios_are_unmapped_as_often_as_they_are_mapped(here):
    with measure.set_up(here) as setup, setup.mapped_file(ReclaimCase("file", 64, 3), 2 << 20) as population:
        pages = population.nr_pages
        events = rf.reclaim(population, "2MiB", policy=preset_of(platform.release())).events
    assert pages == (2 << 20) // os.sysconf("SC_PAGE_SIZE")
    assert events["ptes_cleared"] == 3 * pages
    assert events["referenced_calls"] == 0  # references from outside the cgroup do not count


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_calibration_leaves_everything_as_it_was(here, how):
    before = outside(here)
    code = INTERRUPTIBLE + "import sys; from rmapfast.cli import main; main(['calibrate', '--folder', sys.argv[1]])"
    child = subprocess.Popen([sys.executable, "-c", code, here], stderr=subprocess.PIPE, text=True, process_group=0)
    try:
        # at the latest it is killed once it has changed the readahead, after the file and the cgroup were made
        wait_for(lambda: outside(here)[0] != before[0] or child.poll() is not None, "a readahead setting")
        assert child.poll() is None, "the calibration ended before it could be killed"
        (os.killpg if how == signal.SIGINT else os.kill)(child.pid, how)  # as a terminal does
        _, err = child.communicate(timeout=DEADLINE)
        assert how == signal.SIGKILL or "Traceback" not in err, err
        wait_for(lambda: outside(here) == before, "everything to be as it was")
    finally:
        child.kill()
        child.wait()
        machine.readahead_setting(here).write_text(before[0])


def test_a_disk_is_calibrated_by_one_process_at_a_time(here):
    """Each would put back the readahead that the other has set."""
    before = outside(here)
    with measure.set_up(here):
        with pytest.raises(CalibrateError, match="another calibration"), measure.set_up(here):
            pass
    assert outside(here) == before
    with measure.set_up(here):
        pass


def test_a_failure_leaves_everything_as_it_was(here, short, monkeypatch):
    def fail(*_):
        raise RuntimeError("no")

    monkeypatch.setattr(measure, "capture_ranges", fail)
    before = outside(here)
    with pytest.raises(RuntimeError):
        rf.calibrate(folder=here)
    assert outside(here) == before


def measurements(vector, factor=1.0):
    """Rows that a vector explains exactly."""
    rows = []
    for order in (0, 2, 4, 6, 9):
        for sharing in (1, 2, 4):
            population = rf.Population.synthetic("4MiB", orders=order, sharing=sharing, young=0.0)
            result = rf.reclaim(population, "3MiB", policy="v6.18")
            counts = result.events.counts / result.reclaimed_pages
            rows.append(
                Measurement(ReclaimCase("file", order, sharing), factor * float(counts @ vector.values), [], counts)
            )
    return rows


def test_the_fit_finds_costs_that_explain_what_was_measured():
    base = arch.get("x86-64")
    rows = measurements(base.cost_vector, 1.3)
    fitted = fit_vector(rows, base)
    for row in rows:
        assert float(row.counts @ fitted.values) == pytest.approx(row.ns, rel=0.03)
        low, high = fitted.price(row.counts).interval
        assert low < row.ns < high
    assert fitted.residual == base.cost_vector.residual
    for one in fitted.costs:
        assert one.low <= one.value <= one.high
    assert cost.CostVector.from_dict(fitted.to_dict()) == fitted


def test_costs_that_no_case_causes_stay():
    base = arch.get("x86-64")
    fitted = fit_vector(measurements(base.cost_vector), base)
    assert fitted["folios_kept"] == base.cost_vector["folios_kept"]
    assert np.isfinite(fitted.values).all()


def test_held_back_cases_are_none_of_the_fitted_ones():
    fitted = {*cases.FILES, *cases.UNMAPPED, *cases.SEVERAL, *cases.LAZYFREE}
    assert not fitted & set(cases.held_back_cases(100, 0))
    assert cases.held_back_cases(5, 1) == cases.held_back_cases(5, 1)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--hold-back", "-1"], "--hold-back"),
        (["-o", "costs.json"], "-o: expected a file ending in .toml"),
        (["--folder", "nowhere"], "nowhere"),
        (["--folder", "/proc"], "readahead"),
    ],
)
def test_bad_input_is_one_line(options, text, capsys):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    assert main(["calibrate", *options]) == 2
    out, err = capsys.readouterr()
    assert out == "" and text in err and re.fullmatch(r"[^\n]+\n", err)


def test_without_root_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(machine.os, "geteuid", lambda: 1000)
    assert main(["calibrate"]) == 2
    assert "root" in capsys.readouterr().err
