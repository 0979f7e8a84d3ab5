"""One thread against several: the cases of bench/cases.py of file folios, in turn, least against least.

CPU time is that of all threads together. *Alone* is what of it the calling thread does while the others wait, and
*at most* how many times as fast several threads can be then. The time on the clock means something on a machine that
does nothing else. With --described a population is made in the run, block by block.
"""

import argparse
import time

import rmapfast as rf
from bench.cases import CASES

STREAMS = ("regular", "order 0", "mix", "young .5", "order 0, young .5", "holes .01")
IN_MEMORY = (*STREAMS, "sharing 2", "shuffled", "order 0, shuffled", "mix, young .5, holes .01", "arm64, young .5")


def measure(population: rf.Population | rf.PopulationSpec, threads: int) -> tuple[float, float, float]:
    """CPU seconds of all threads and of the calling one, and seconds on the clock, of one call."""
    begin = time.process_time(), time.thread_time(), time.perf_counter()
    rf.reclaim(population, "80%", policy="v7.0", threads=threads)
    end = time.process_time(), time.thread_time(), time.perf_counter()
    return tuple(after - before for before, after in zip(begin, end, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--described", action="store_true")
    parser.add_argument("--size", default="2GiB")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--case", action="append", choices=IN_MEMORY, help="default: all")
    arguments = parser.parse_args()
    numbers = (1, arguments.threads)
    columns = ("CPU 1, ms", f"CPU {numbers[1]}", "alone", "at most", "clock 1", f"clock {numbers[1]}")
    print(f"{arguments.size:<26}" + "".join(f" {column:>9}" for column in columns))
    for case in arguments.case or (STREAMS if arguments.described else IN_MEMORY):
        make = rf.Population.described if arguments.described else rf.Population.synthetic
        population = make(arguments.size, **CASES[case])
        rounds = [[measure(population, number) for number in numbers] for _ in range(arguments.rounds)]
        one, several = ([min(turn[i][j] for turn in rounds) for j in range(3)] for i in range(2))
        at_most = one[0] / (several[1] + (several[0] - several[1]) / numbers[1])
        times = [one[0], several[0], several[1], one[2], several[2]]
        figures = [f"{seconds * 1e3:.2f}" for seconds in times]
        figures.insert(3, f"{at_most:.2f}")
        print(f"{case:<26}" + "".join(f" {figure:>9}" for figure in figures), flush=True)


if __name__ == "__main__":
    main()
