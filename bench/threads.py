"""One thread against several: the cases of bench/cases.py of file folios, in turn, least against least.

CPU time is that of all threads together. The time on the clock means something on a machine that does nothing else.
With --described a population is made in the run, block by block.
"""

import argparse
import time

import rmapfast as rf
from bench.cases import CASES

STREAMS = ("regular", "order 0", "mix", "young .5", "order 0, young .5", "holes .01")
IN_MEMORY = (*STREAMS, "sharing 2", "shuffled", "order 0, shuffled", "mix, young .5, holes .01", "arm64, young .5")


def measure(population: rf.Population | rf.PopulationSpec, threads: int) -> tuple[float, float]:
    """CPU seconds and seconds on the clock of one call."""
    cpu, wall = time.process_time(), time.perf_counter()
    rf.reclaim(population, "80%", policy="v7.0", threads=threads)
    return time.process_time() - cpu, time.perf_counter() - wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--described", action="store_true")
    parser.add_argument("--size", default="2GiB")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--case", action="append", choices=IN_MEMORY, help="default: all")
    arguments = parser.parse_args()
    numbers = (1, arguments.threads)
    head = "".join(f" {f'CPU {number}, ms':>12} {f'clock {number}, ms':>14}" for number in numbers)
    print(f"{arguments.size:<26}{head}  times")
    for case in arguments.case or (STREAMS if arguments.described else IN_MEMORY):
        make = rf.Population.described if arguments.described else rf.Population.synthetic
        population = make(arguments.size, **CASES[case])
        rounds = [[measure(population, number) for number in numbers] for _ in range(arguments.rounds)]
        least = [[min(turn[i][j] for turn in rounds) for j in range(2)] for i in range(2)]
        line = f"{case:<26}" + "".join(f" {cpu * 1e3:>12.2f} {wall * 1e3:>14.2f}" for cpu, wall in least)
        print(f"{line} {least[0][1] / least[1][1]:>6.2f}", flush=True)


if __name__ == "__main__":
    main()
