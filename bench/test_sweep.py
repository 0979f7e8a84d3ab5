"""Sweeps: many small points, what a point costs beyond its simulation, and many costs on one structure."""

import json
import os

import pytest

import rmapfast as rf
from bench.test_program import run_python

SEEDS = {"population.size": "64MiB", "population.holes": 0.01, "population.seed": list(range(250))}
POINTS = SEEDS | {"population.order": [4, 9], "policy": ["v6.16", "v7.0"]}


@pytest.mark.benchmark(group="sweeps")
@pytest.mark.parametrize("executor", ["threads-1", "threads-2", "processes-2"])
def test_points(benchmark, executor):
    """1,000 structural points of 64 MiB; processes are started anew."""
    where, workers = executor.split("-")
    made = benchmark.pedantic(rf.sweep, args=(POINTS,), kwargs={"executor": where, "workers": int(workers)}, rounds=3)
    benchmark.extra_info["points"] = len(made.records)
    if benchmark.stats:
        simulated = sum(record["wall_s"] for record in made.records.values())
        each = benchmark.stats.stats.median * (1 if where == "threads" else int(workers)) / len(made.records)
        benchmark.extra_info["ms_per_point"] = each * 1e3
        benchmark.extra_info["ms_simulated"] = simulated / len(made.records) * 1e3


_COSTS = """
import json, time
import rmapfast as rf
from rmapfast.provenance import peak_rss_bytes
costs = {"from": 1, "to": 500, "steps": 1000}
space = {"population.size": "1GiB", "arch": "arm64-4k", "arch.cost.tlbi_ops": costs, "arch.cost.walk_pte_reads": costs}
start = time.perf_counter()
made = rf.sweep(space)
prices = made.prices
seconds = time.perf_counter() - start
assert prices.predicted.size == 10**6
made.to_xarray()
dataset_s = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "dataset_s": dataset_s, "peak_rss_MiB": peak_rss_bytes() / 2**20}))
"""


@pytest.mark.benchmark(group="sweeps")
def test_million_costs(benchmark):
    """10^6 cost points on one structure, in a process of its own: prices alone, and with the dataset."""
    found = json.loads(benchmark.pedantic(run_python, args=("-c", _COSTS), rounds=1))
    benchmark.extra_info |= found | {"cpus": os.cpu_count()}
