"""The program around the kernels: making populations, memory, calls, the import and the main job."""

import subprocess
import sys

import pytest

import rmapfast as rf
from bench.conftest import MIX, fastest
from rmapfast import _core


def run_python(*arguments) -> str:
    return subprocess.run([sys.executable, *arguments], capture_output=True, check=True, text=True).stdout


@pytest.mark.benchmark(group="making a population of 10 GiB")
@pytest.mark.parametrize("orders", ["0", "4", "9", MIX])
def test_synthetic(benchmark, record, orders):
    population = benchmark.pedantic(rf.Population.synthetic, kwargs={"orders": orders}, rounds=3, warmup_rounds=1)
    record(len(population.ptes), population.ptes.nbytes)


_MEMORY = """
import rmapfast as rf
from rmapfast.provenance import peak_rss_bytes
before = peak_rss_bytes()
population = rf.Population.synthetic(orders=4)
result = rf.reclaim(population, policy="v7.0", in_place=True)
print((peak_rss_bytes() - before) / population.ptes.nbytes)
"""


@pytest.mark.benchmark(group="memory and the main job")
def test_memory_of_reclaim(benchmark):
    """Peak memory beyond the import, as a multiple of the PTE array, order 4."""
    benchmark.extra_info["times_pte_array"] = benchmark.pedantic(lambda: float(run_python("-c", _MEMORY)), rounds=1)


@pytest.mark.benchmark(group="memory and the main job")
def test_main_job(benchmark):
    """``rmapfast reclaim`` without arguments, interpreter start included."""
    benchmark.pedantic(run_python, args=("-m", "rmapfast.cli", "reclaim"), rounds=3)
    benchmark.extra_info["seconds"] = benchmark.stats.stats.median if benchmark.stats else float("nan")


_IMPORT = """
import time
import numpy
start = time.perf_counter()
import rmapfast
print(time.perf_counter() - start)
"""


@pytest.mark.benchmark(group="calls and the import")
def test_import(benchmark):
    """``import rmapfast`` where NumPy is imported already, best of ten processes; the median is of whole processes."""
    seconds = []
    benchmark.pedantic(lambda: seconds.append(float(run_python("-c", _IMPORT))), rounds=10, warmup_rounds=1)
    benchmark.extra_info["beyond_numpy_ms"] = min(seconds) * 1e3


@pytest.mark.benchmark(group="calls and the import")
def test_folio_pte_batch(benchmark):
    """One scan of a whole page table, and what it takes beyond the Cython function under it, called for one entry."""
    table = rf.Population.synthetic("2MiB", orders=9)
    pfn, one = int(table.folio_pfn[0]), table.ptes[:1]
    assert benchmark(rf.folio_pte_batch, table.ptes, folio_pfn=pfn, folio_pages=512) == 512
    scan = _core.folio_pte_batch_flags
    nothing = fastest(lambda: [scan(one, 0, 1, pfn, 1, 0, 1, False) for _ in range(1000)]) / 1000
    if benchmark.stats:
        benchmark.extra_info["overhead_us"] = (benchmark.stats.stats.median - nothing) * 1e6
