"""What every benchmark adds to its record: entries per second, and the share of the machine's limit in the same run."""

import time

import numpy as np
import pytest


@pytest.fixture(scope="session")
def limit():
    """Entries per second of one pass that loads each word and stores 0 in its place, over a 20 MiB page-table array."""
    ptes = np.ones(10 << 30 >> 12, np.uint64)
    best = float("inf")
    for _ in range(9):
        start = time.perf_counter()
        np.bitwise_and(ptes, np.uint64(0), out=ptes)
        best = min(best, time.perf_counter() - start)
    return len(ptes) / best


@pytest.fixture
def record(benchmark, limit):
    """Write entries per second and the share of the limit into the benchmark's extra_info."""

    def write(ptes: int, **more):
        rate = ptes / benchmark.stats.stats.median if benchmark.stats else float("nan")
        benchmark.extra_info.update({"ptes_per_s": rate, "of_limit": rate / limit, **more})

    return write


def pytest_terminal_summary(terminalreporter, config):
    """One table of what was recorded."""
    session = getattr(config, "_benchmarksession", None)
    rows = [bench for bench in getattr(session, "benchmarks", []) if bench.extra_info]
    if not rows:
        return
    terminalreporter.write_line(f"\n{'benchmark':<58} {'median':>10} {'MPTE/s':>8} {'of limit':>9}  more")
    for bench in rows:
        info = dict(bench.extra_info)
        rate, share = info.pop("ptes_per_s", float("nan")), info.pop("of_limit", float("nan"))
        more = " ".join(f"{key}={value:.3g}" for key, value in info.items())
        times = f"{bench.stats.median * 1e3:>8.1f}ms {rate / 1e6:>8.1f} {share:>9.3f}"
        terminalreporter.write_line(f"{bench.name:<58} {times}  {more}")
