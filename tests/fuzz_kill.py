"""The lane ``make fuzz-kill``: SIGKILL and SIGINT at random moments, and what is left then.

A case is a seed: a verb that works for some seconds (a sweep on threads, processes or Dask, a check with a journal, a
reclaim that saves its result, a capture of another process, a calibration), and a moment. After the signal the output
is whole or not there, after a resume it equals that of an uninterrupted run, no process is left stopped or running, the
machine is as it was, and after the next run no file is left but the output. Of a sweep on Dask it may be a worker that
is killed.
"""

import importlib.util
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from crash_states import numbers
from fuzzing import run_lane
from test_calibrate import outside, why_not
from waiting import DEADLINE, INTERRUPTIBLE, wait_for

import rmapfast as rf

SHORT_RUN = 16
SEEDS = 60
SPACE = {"population.size": "16MiB", "population.order": 0, "population.seed": list(range(SEEDS)), "policy": "v7.0"}
SWEEP = ["sweep", "population.size=16MiB", "population.order=0", "policy=v7.0",
         f"population.seed={','.join(map(str, range(SEEDS)))}", "--workers", "2"]  # fmt: skip
# Ctrl-C before the command runs is Python's own matter, which prints a traceback.
QUIET = "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
MAIN = "from rmapfast.cli import main\n" + INTERRUPTIBLE + "sys.exit(main(sys.argv[1:]))"
# A calibration of some seconds, not for figures.
SHORT_CALIBRATION = (
    "from rmapfast.calibration import measure\n"
    "measure.REPEATS, measure.SIZE, measure.SIZE_ORDER_0 = 1, 8 << 20, 4 << 20\n"
)
# It maps some memory, says so, and waits.
SLEEPER = "import sys; m = bytearray(1 << 26); print('ready', flush=True); sys.stdin.read()"


def started(folder, words):
    script = QUIET + (SHORT_CALIBRATION if words[0] == "calibrate" else "") + MAIN
    return subprocess.Popen(
        [sys.executable, "-c", script, *words], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def struck(folder, words, number, delay):
    """Run words, send the signal after a while, and wait for the end of all processes of its session."""
    child = started(folder, words)
    time.sleep(delay)
    if number == signal.SIGKILL:
        child.kill()  # that process alone: its workers have to notice
    else:
        os.killpg(child.pid, number)  # as a terminal does
    _, err = child.communicate(timeout=DEADLINE)
    # What a killed process had started may say that it is gone.
    assert number == signal.SIGKILL or "Traceback" not in err, err[-500:]
    end = time.monotonic() + DEADLINE
    while members(child.pid):
        assert time.monotonic() < end, f"processes are left: {members(child.pid)}"
        time.sleep(0.02)
    return child.returncode


def members(session):
    """The processes of a session that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text().rpartition(")")
        except OSError:
            continue
        fields = rest.split()
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(name)
    return found


def finished(folder, words):
    child = started(folder, words)
    out, err = child.communicate(timeout=DEADLINE)
    assert child.returncode == 0, (child.returncode, err[-500:])
    return out


def sweep_case(rng, folder, number, done):
    executor = str(rng.choice(["threads", "processes"]))
    output = folder / f"out.{rng.choice(['csv', 'json', 'nc'])}"
    words = [*SWEEP, "-o", output.name, "--executor", executor]
    strikes = 1 + int(rng.integers(3))
    for strike in range(strikes):
        struck(folder, words + (["--resume"] if strike else []), number, float(rng.uniform(0.1, 1.6)))
        done["kills" if number == signal.SIGKILL else "interrupts"] += 1
        if output.exists():
            rf.load(output)  # whole, whatever it holds
        if not strike and not output.exists() and not Path(f"{output}.journal").exists():
            break  # it had not begun
    again = ["--resume"] if output.exists() or Path(f"{output}.journal").exists() else []
    finished(folder, words + again)
    assert numbers(rf.load(output)) == WHOLE["sweep"], "the resumed sweep differs"
    return [output.name]


def dask_case(rng, folder, number, done):
    import dask
    import distributed

    delay, victim = float(rng.uniform(0.5, 4)), int(rng.integers(4))
    with (
        dask.config.set({"distributed.comm.timeouts.connect": f"{DEADLINE}s"}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1", silence_logs=logging.CRITICAL
        ) as cluster,
    ):
        words = [*SWEEP[:-2], "-o", "out.json", "--executor", f"dask={cluster.scheduler_address}"]
        if number == signal.SIGKILL and victim in cluster.workers:
            child = started(folder, words)
            time.sleep(delay)
            os.kill(cluster.workers[victim].pid, number)
            _, err = child.communicate(timeout=DEADLINE)
            assert child.returncode == 0, (child.returncode, err[-500:])
        else:
            struck(folder, words, number, delay)
            output = folder / "out.json"
            finished(folder, words + (["--resume"] if output.exists() or Path(f"{output}.journal").exists() else []))
    done["kills" if number == signal.SIGKILL else "interrupts"] += 1
    assert numbers(rf.load(folder / "out.json")) == WHOLE["sweep"], "the sweep on Dask differs"
    return ["out.json"]


def check_case(rng, folder, number, done):
    words = ["check", "--policy", "v6.16,v7.3", "--pages", "2", "--threads", "1", "--resume", "journal", "--json"]
    struck(folder, words, number, float(rng.uniform(0.2, 1.2)))
    done["kills" if number == signal.SIGKILL else "interrupts"] += 1
    child = started(folder, words)
    out, err = child.communicate(timeout=DEADLINE)
    assert child.returncode in (0, 1), err
    assert json.loads(out)["policies"] == WHOLE["check"], "the resumed check differs"
    return ["journal"]


def reclaim_case(rng, folder, number, done):
    words = ["reclaim", "--size", "2GiB", "--orders", "0", "--engine", "general", "-o", "out.json", "--overwrite"]
    (folder / "out.json").write_bytes(SAVED)
    struck(folder, words, number, float(rng.uniform(0.1, 1.5)))
    done["kills" if number == signal.SIGKILL else "interrupts"] += 1
    rf.load(folder / "out.json")  # the old one or the new one
    finished(folder, ["reclaim", "--size", "1MiB", "--target", "64KiB", "-o", "out.json", "--overwrite"])
    return ["out.json"]


def capture_case(rng, folder, number, done):
    sleeper = subprocess.Popen(
        [sys.executable, "-c", SLEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert sleeper.stdout.readline() == "ready\n"
        words = ["capture", str(sleeper.pid), "-o", "cap.npz", "--freeze", "--overwrite"]
        struck(folder, words, number, float(rng.uniform(0.1, 0.7)))
        done["kills" if number == signal.SIGKILL else "interrupts"] += 1
        end = time.monotonic() + DEADLINE
        while (state := Path(f"/proc/{sleeper.pid}/stat").read_text().rpartition(")")[2].split()[0]) in "Tt":
            assert time.monotonic() < end, f"the process is left stopped ({state})"
            time.sleep(0.02)
        if (folder / "cap.npz").exists():
            rf.Population.load(folder / "cap.npz")
        finished(folder, words)
    finally:
        sleeper.stdin.close()
        sleeper.wait()
        sleeper.stdout.close()
    return ["cap.npz"]


def calibrate_case(rng, folder, number, done):
    words = ["calibrate", "-o", "here.toml", "--overwrite"]
    readahead, groups, *_ = outside(folder)
    struck(folder, words, number, float(rng.uniform(0.3, 4)))
    done["kills" if number == signal.SIGKILL else "interrupts"] += 1
    wait_for(
        lambda: outside(folder)[0] == readahead and set(outside(folder)[1]) <= set(groups), "the machine as it was"
    )
    assert set(os.listdir(folder)) <= {"here.toml"}, os.listdir(folder)
    finished(folder, words)
    rf.arch.get(folder / "here.toml")
    return ["here.toml"]


def case(seed: int, done: Counter) -> None:
    """One verb, struck once or several times."""
    rng = np.random.default_rng(seed)
    number = signal.SIGKILL if rng.random() < 0.7 else signal.SIGINT
    cases = [sweep_case, sweep_case, check_case, reclaim_case]
    cases += [dask_case] if importlib.util.find_spec("distributed") else []
    cases += [capture_case] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as name:
        cases += [calibrate_case] if not why_not(Path(name)) else []
        left = cases[int(rng.integers(len(cases)))](rng, Path(name), number, done)
        assert sorted(os.listdir(name)) == left, f"left behind: {sorted(os.listdir(name))}"


if __name__ == "__main__":
    policies = rf.check(["v6.16", "v7.3"], pages=2, budget=600, threads=1).to_dict()["policies"]
    WHOLE = {"sweep": numbers(rf.sweep(SPACE)), "check": json.loads(json.dumps(policies))}
    with tempfile.TemporaryDirectory() as name:
        rf.save(rf.reclaim(rf.Population.synthetic("256KiB"), "64KiB", arch="x86-64"), Path(name) / "saved.json")
        SAVED = (Path(name) / "saved.json").read_bytes()
    sys.exit(run_lane("fuzz-kill", case, short_run=SHORT_RUN))
