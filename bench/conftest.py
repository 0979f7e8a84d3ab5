"""What every benchmark adds to its record: entries per second, and ratios to other measurements of the same run."""

import time
from functools import cache

import numpy as np
import pytest

import rmapfast as rf
from bench import limits

MIX = "0:10,4:70,9:20"


def fastest(call, seconds: float = 0.3) -> float:
    """The shortest of the calls that fit into some time, in seconds."""
    best, end = float("inf"), time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        call()
        best = min(best, time.perf_counter() - start)
    return best


def limit(nbytes: int) -> float:
    """Words per second of one pass that loads each and stores 0 in its place, over an array of so many bytes.

    It is measured anew beside each case: over a session it drifts by 20% to 40%.
    """
    words = np.ones(nbytes // 8, np.uint64)
    limits.read_clear(words)  # the first call compiles it
    return len(words) / fastest(lambda: limits.read_clear(words), 0.1)


@pytest.fixture(scope="session")
def population():
    """Populations by size, orders and architecture, each made once, with their groups (:func:`table_groups`)."""

    @cache
    def made(size: str, orders: str, arch: str = "x86-64"):
        return table_groups(rf.Population.synthetic(size, orders=orders, arch=arch))

    return made


def table_groups(population):
    """A population of one VMA, its folios that one table maps whole, and where the group of each table begins."""
    pages = np.int64(1) << population.folio_order.astype(np.int64)
    vpn = (population.folio_index - population.vma_pgoff[0] + population.vma_start[0]).astype(np.int64)
    table = vpn // population.ptrs_per_pte
    whole = (population.folio_mapcount == pages) & (table == (vpn + pages - 1) // population.ptrs_per_pte)
    folios = np.flatnonzero(whole)
    folios = folios[np.argsort(vpn[folios])]
    starts = np.flatnonzero(np.diff(table[folios], prepend=-1))
    return population, folios.astype(np.uint32), np.append(starts, len(folios)).astype(np.uint64)


def groups_of(population, nbytes: int):
    """The same with the first groups only, which are of so many bytes."""
    original, folios, group_start = population
    pages = np.cumsum(np.int64(1) << original.folio_order[folios].astype(np.int64))
    groups = np.searchsorted(pages[group_start[1:].astype(np.int64) - 1], nbytes >> original.page_shift, side="right")
    return original, folios[: int(group_start[groups])], group_start[: groups + 1]


@pytest.fixture(scope="session")
def times_by_case():
    """Seconds per entry, by case and by who did it."""
    return {}


@pytest.fixture
def record(benchmark, times_by_case):
    """Write entries per second, the share of the limit, and in the package's row the ratios to the peers' times."""

    def write(ptes: int, nbytes: int, by: str = "package", case: str | None = None, **more):
        if not benchmark.stats:
            return
        rate = ptes / benchmark.stats.stats.min
        benchmark.extra_info.update({"ptes_per_s": rate, "of_limit": rate / limit(nbytes), **more})
        if case is None:
            return
        times = times_by_case.setdefault(case, {})
        times[by] = 1 / rate
        if by == "package":
            benchmark.extra_info["times_peer"] = {peer: rate * times[peer] for peer in times if peer != by}

    return write


def _time(seconds: float) -> str:
    for unit, factor in (("s", 1), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def pytest_terminal_summary(terminalreporter, config):
    """One table of what was recorded, 100 columns wide at most."""
    session = getattr(config, "_benchmarksession", None)
    rows = [bench for bench in getattr(session, "benchmarks", []) if bench.extra_info]
    if not rows:
        return
    names = [bench.name.removeprefix("test_") for bench in rows]
    width = min(max(map(len, names)), 44)
    terminalreporter.write_line(
        f"\n{'benchmark':<{width}} {'least':>8} {'MPTE/s':>7} {'of limit':>8}  times peer, more"
    )
    for name, bench in zip(names, rows, strict=True):
        info = dict(bench.extra_info)
        rate, share = info.pop("ptes_per_s", None), info.pop("of_limit", None)
        more = info.pop("times_peer", {}) | {f"{key}=": value for key, value in info.items()}
        line = f"{name[:width]:<{width}} {_time(bench.stats.min):>8} "
        line += f"{f'{rate / 1e6:.1f}' if rate else '':>7} {f'{share:.3f}' if share else '':>8}  "
        line += " ".join(
            f"{key}{value:.3g}" if key.endswith("=") else f"{key} {value:.3g}" for key, value in more.items()
        )
        terminalreporter.write_line(line[:100])
