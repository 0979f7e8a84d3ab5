"""Described populations, reclaimed block by block. 40 TiB takes a minute: RMAPFAST_BENCH_LARGE=1."""

import os

import pytest

import rmapfast as rf
from bench.conftest import MIX

SIZES = {"256GiB": "200GiB"} | ({"40TiB": "32TiB"} if os.environ.get("RMAPFAST_BENCH_LARGE") == "1" else {})


@pytest.mark.benchmark(group="streams")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("orders", ["0", "4", "9", MIX])
@pytest.mark.parametrize("threads", [1, 2])
def test_stream(benchmark, record, size, orders, threads):
    """Young folios: two passes over each block."""
    description = rf.Population.described(size, orders=orders)
    run = {"target": SIZES[size], "policy": "v7.0", "threads": threads}
    result = benchmark.pedantic(rf.reclaim, args=(description,), kwargs=run, rounds=2)
    assert result.target_reached
    record(result.simulated_ptes, 20 << 20, peak_rss_MiB=result.peak_rss_bytes / (1 << 20))
