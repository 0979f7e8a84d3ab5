"""How the cost of a reclaim grows with the memory: a table, and with --figure a picture of it.

Up to 4 GiB the population is in memory; from there on it is made, reclaimed and dropped block by block.
"""

import argparse
import time

import rmapfast as rf
from bench.cases import MIX

SIZES = ("1MiB", "16MiB", "256MiB", "4GiB", "64GiB", "1TiB")
IN_MEMORY = SIZES[:4]
ORDERS = {"order 4": 4, "mix": MIX, "order 0": 0}


def cpu_seconds(size: str, orders: int | str, rounds: int) -> tuple[float, int]:
    """Least CPU time of one thread, without the making of a population in memory; and the pages."""
    described = rf.Population.described(size, orders=orders)
    population = rf.Population.of(described) if size in IN_MEMORY else described
    best = float("inf")
    for _ in range(rounds):
        start = time.thread_time()
        rf.reclaim(population, "80%", policy="v7.0")
        best = min(best, time.thread_time() - start)
    return best, described.pages


def draw(path: str, rows: dict[str, list[tuple[int, float]]]) -> None:
    """Draw CPU time per page against the memory."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, points in rows.items():
        axes.plot([pages * 4096 / 2**30 for pages, _ in points], [ns for _, ns in points], marker="o", label=name)
    axes.axvline(2**4, color="0.7", linestyle=":")
    axes.set(xscale="log", yscale="log", xlabel="memory, GiB", ylabel="CPU time per page, ns")
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", default=SIZES[-1], choices=SIZES)
    parser.add_argument("--figure", metavar="FILE.svg")
    arguments = parser.parse_args()
    sizes = SIZES[: SIZES.index(arguments.largest) + 1]
    rows = {name: [] for name in ORDERS}
    print(f"{'memory':<8}" + "".join(f" {name + ', ms':>14} {'ns/page':>8}" for name in ORDERS))
    for size in sizes:
        line = f"{size:<8}"
        for name, orders in ORDERS.items():
            seconds, pages = cpu_seconds(size, orders, 5 if size in IN_MEMORY else 1)
            rows[name].append((pages, seconds / pages * 1e9))
            line += f" {seconds * 1e3:>14.4g} {seconds / pages * 1e9:>8.3g}"
        print(line, flush=True)
    if arguments.figure:
        draw(arguments.figure, rows)


if __name__ == "__main__":
    main()
