"""CPU time of whole calls: reclaims and the runs in them, captures from the file on, and the first making.

As a program it measures the package that is imported and prints one JSON document: bench/end_to_end.py runs it with two
versions of the package in turn.
"""

import argparse
import json
import os
import time
from pathlib import Path

from cases import MIX  # beside this program, which may measure another version

import rmapfast as rf
from rmapfast import loop

CASES = {
    "order 4": {},
    "order 0": {"orders": 0},
    "mix": {"orders": MIX},
    "young .5": {"young": 0.5},
    "mix, young .5, holes .01": {"orders": MIX, "young": 0.5, "holes": 0.01},
}
CAPTURES = {"gcc": ("wild_gcc_cc1_p0", "wild_gcc_cc1_p1"), "python with numpy": ("wild_python_numpy",)}
DATA = Path(os.environ.get("RMAPFAST_SHARED") or Path(__file__).resolve().parents[2] / "shared") / "data" / "captures"


def timed(function):
    """The same function, which adds to the list that comes with it what CPU seconds its calls took."""
    seconds = []

    def call(*arguments):
        start = time.thread_time()
        try:
            return function(*arguments)
        finally:
            seconds.append(time.thread_time() - start)

    return call, seconds


def reclaims(size: str, rounds: int) -> dict[str, dict[str, float]]:
    """CPU seconds of calls and of the runs in them; `taken` are those of a population whose entries a user has."""
    rows = {}
    loop._in_memory, runs = timed(loop._in_memory)
    reclaim, calls = timed(lambda population: rf.reclaim(population, "80%", policy="v7.0"))
    for case, arguments in CASES.items():
        made, made_s = timed(lambda arguments=arguments: rf.Population.synthetic(size, **arguments))
        population, row = made(), {"make_s": made_s[0]}
        for kind in ("", "taken_"):
            runs.clear(), calls.clear()
            for _ in range(rounds):
                reclaim(population)
            row |= {f"{kind}run_s": min(runs), f"{kind}call_s": min(calls)}
            population.ptes[:1] += 0
        rows[case] = row
    return rows


def captures(rounds: int) -> dict[str, dict[str, float]]:
    """CPU seconds from the files of a process to the population, and of a reclaim from it."""
    rows = {}
    for case, names in CAPTURES.items():
        paths = [DATA / f"{name}.npz" for name in names]
        if not all(path.exists() for path in paths):
            continue
        load, loads = timed(lambda paths=paths: rf.Population.load(paths))
        reclaim, calls = timed(lambda population: rf.reclaim(population, "80%", policy="v7.0"))
        for _ in range(rounds):
            reclaim(load())
        rows[case] = {"load_s": min(loads), "capture_call_s": min(calls)}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="10GiB")
    parser.add_argument("--rounds", type=int, default=6)
    arguments = parser.parse_args()
    print(json.dumps(reclaims(arguments.size, arguments.rounds) | captures(arguments.rounds)))


if __name__ == "__main__":
    main()
