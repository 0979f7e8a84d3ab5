"""The general path: any population, full events, one thread. Reclaim 8 of 10 GiB, reference checks included."""

import subprocess
import sys

import pytest

import rmapfast as rf

POLICIES = ("per-page", "v6.16+young", "v7.0")
PTES = 8 << 30 >> 12


@pytest.mark.benchmark(group="reclaim 8 of 10 GiB")
@pytest.mark.parametrize("arch", ["x86-64", "arm64-4k"])
@pytest.mark.parametrize("orders", ["0", "4", "9", "0:10,4:70,9:20"])
@pytest.mark.parametrize("policy", POLICIES)
def test_reclaim(benchmark, record, arch, orders, policy):
    population = rf.Population.synthetic(arch=arch, orders=orders)

    def setup():
        return (population.copy(),), {"policy": policy, "in_place": True}

    result = benchmark.pedantic(rf.reclaim, setup=setup, rounds=5, warmup_rounds=1)
    assert result.target_reached
    # Reference checks come on top of the entries that are unmapped: young folios are checked twice.
    record(result.simulated_ptes, young_tests_per_pte=result.events["young_tests"] / result.simulated_ptes)


@pytest.mark.benchmark(group="making a population of 10 GiB")
@pytest.mark.parametrize("orders", ["0", "4", "9", "0:10,4:70,9:20"])
def test_synthetic(benchmark, record, orders):
    population = benchmark.pedantic(rf.Population.synthetic, kwargs={"orders": orders}, rounds=5, warmup_rounds=1)
    record(len(population.ptes))


_MEMORY = """
import rmapfast as rf
from rmapfast._reclaim import peak_rss_bytes
before = peak_rss_bytes()
population = rf.Population.synthetic(orders=4)
result = rf.reclaim(population, policy="v7.0", in_place=True)
print((peak_rss_bytes() - before) / population.ptes.nbytes)
"""


@pytest.mark.benchmark(group="memory and the main job")
def test_memory_of_reclaim(benchmark):
    """Peak memory beyond the import, as a multiple of the PTE array, order 4."""

    def run():
        return float(subprocess.run([sys.executable, "-c", _MEMORY], capture_output=True, check=True, text=True).stdout)

    benchmark.extra_info["times_pte_array"] = benchmark.pedantic(run, rounds=1)


@pytest.mark.benchmark(group="memory and the main job")
def test_main_job(benchmark):
    """``rmapfast reclaim`` without arguments, interpreter start included."""
    benchmark.pedantic(
        lambda: subprocess.run([sys.executable, "-m", "rmapfast.cli", "reclaim"], capture_output=True, check=True),
        rounds=3,
    )
    benchmark.extra_info["seconds"] = benchmark.stats.stats.median if benchmark.stats else float("nan")
