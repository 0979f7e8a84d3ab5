"""Regular and irregular populations, and the CPU time that reclaiming four fifths of them takes.

As a program it measures the package that is imported and prints one JSON document: bench/compare.py runs it with two
versions of the package in turn.
"""

import argparse
import json
import time

import rmapfast as rf

MIX = "0:10,4:70,9:20"
# Arguments of PopulationSpec; folios are of order 4 where nothing is said.
CASES = {
    "regular": {},
    "order 0": {"orders": 0},
    "mix": {"orders": MIX},
    "young .5": {"young": 0.5},
    "order 0, young .5": {"orders": 0, "young": 0.5},
    "order 2, young .5": {"orders": 2, "young": 0.5},
    "order 9, young .5": {"orders": 9, "young": 0.5},
    "holes .01": {"holes": 0.01},
    "order 9, holes .01": {"orders": 9, "holes": 0.01},
    "sharing 2": {"sharing": 2},
    "sharing 2, young .5, holes .01": {"sharing": 2, "young": 0.5, "holes": 0.01},
    "dirty .1": {"dirty": 0.1},
    "anon, dirty .1": {"kind": "anon", "dirty": 0.1},
    "lazyfree, dirty .1": {"kind": "lazyfree", "dirty": 0.1},
    "shuffled": {"shuffle": True},
    "shuffled, young .5": {"shuffle": True, "young": 0.5},
    "order 0, shuffled": {"orders": 0, "shuffle": True},
    "mix, young .5, holes .01": {"orders": MIX, "young": 0.5, "holes": 0.01},
    "arm64, young .5": {"arch": "arm64-4k", "young": 0.5},
}
# What a case is set against: the regular population of its orders.
REGULAR = {"order 0": "order 0", "mix": "mix"}


def regular_of(case: str) -> str:
    """The regular case of the same orders."""
    return REGULAR.get(case.split(",", maxsplit=1)[0], "regular")


def cpu_seconds(population: rf.Population, arch: str, in_place: bool) -> tuple[float, rf.Result]:
    """CPU time of one reclaim, which a loaded machine changes less than the time on the clock, and its result."""
    start = time.thread_time()
    result = rf.reclaim(population, "80%", policy="v7.0", arch=arch, in_place=in_place)
    return time.thread_time() - start, result


def measure(case: str, size: str, rounds: int) -> dict[str, float]:
    """Least CPU seconds of the run, with the check of its arrays, and of the whole call; and what was done."""
    arguments = {"arch": "x86-64"} | CASES[case]
    population = rf.Population.synthetic(size, **arguments)
    run, whole = [], []
    for _ in range(rounds):
        seconds, result = cpu_seconds(population, arguments["arch"], False)
        whole.append(seconds)
        run.append(cpu_seconds(population.copy(), arguments["arch"], True)[0])
    return {
        "run_s": min(run),
        "whole_s": min(whole),
        "ptes": result.simulated_ptes,
        "folios": int(result.events["folios_scanned"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="2GiB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", action="append", choices=CASES, help="default: all")
    arguments = parser.parse_args()
    cases = arguments.case or list(CASES)
    print(json.dumps({case: measure(case, arguments.size, arguments.rounds) for case in cases}))


if __name__ == "__main__":
    main()
