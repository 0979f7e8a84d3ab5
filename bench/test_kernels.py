"""The kernels: the unmap alone, the reference check alone, and reclaim with both.

Rows named ``per-page`` run the general engine, which takes one entry after the other. Only they may stand for per-page
times where a ratio to batched times is quoted. RMAPFAST_BENCH_LARGE=1 adds the population of 256 GiB, which takes
gigabytes and minutes.
"""

import os

import pytest

import rmapfast as rf
from bench.conftest import MIX, groups_of
from rmapfast import _core, arch, policy

# Engine by policy. The C engine visits regular folios by the memo, where both policies would cost the same.
ENGINES = {"v7.0": "c", "per-page": "general"}
# Of each size of page table, what the population maps and the part of it that is unmapped.
SIZES = {"256KiB": ("128MiB", 96 << 20), "20MiB": ("10GiB", 8 << 30)}
if os.environ.get("RMAPFAST_BENCH_LARGE") == "1":
    SIZES["512MiB"] = ("256GiB", 200 << 30)
ORDERS = {"0": "0", "2": "2", "4": "4", "9": "9", "mix": MIX}
EVERYTHING = 1 << 62

CASES = [
    pytest.param(arch, orders, size, id=f"{arch}-{orders}-{size}")
    for arch, all_orders in (("x86-64", ORDERS), ("arm64-4k", ("4", "9")))
    for orders in all_orders
    for size in SIZES
]


def _rounds(size: str) -> dict:
    return {"rounds": 30 if size == "256KiB" else 5, "warmup_rounds": 1}


@pytest.mark.benchmark(group="unmap")
@pytest.mark.parametrize("machine, orders, size", CASES)
@pytest.mark.parametrize("edition", ENGINES)
def test_unmap(benchmark, record, population, machine, orders, size, edition):
    name, nbytes = SIZES[size]
    original, folios, group_start = groups_of(population(name, ORDERS[orders], machine), nbytes)

    def setup():
        run = _core.Run(original.copy(), policy.get(edition), arch.get(machine), fast=ENGINES[edition] == "c")
        return (run, folios, group_start, 0, EVERYTHING), {}

    benchmark.pedantic(_core.Run.shrink_groups, setup=setup, **_rounds(size))
    record(nbytes >> original.page_shift, original.ptes.nbytes)


@pytest.mark.benchmark(group="reclaim")
@pytest.mark.parametrize("machine, orders, size", CASES)
@pytest.mark.parametrize("edition", ENGINES)
def test_reclaim(benchmark, record, population, machine, orders, size, edition):
    """Young folios: each is checked, kept, and unmapped when its turn comes again. Checks of the arguments included."""
    name, nbytes = SIZES[size]
    original = population(name, ORDERS[orders], machine)[0]

    def setup():
        return (original.copy(), nbytes), {"policy": edition, "engine": ENGINES[edition], "in_place": True}

    result = benchmark.pedantic(rf.reclaim, setup=setup, **_rounds(size))
    assert result.target_reached
    record(result.simulated_ptes, original.ptes.nbytes)


@pytest.mark.benchmark(group="reference check")
@pytest.mark.parametrize("machine, orders, size", CASES)
@pytest.mark.parametrize("edition", ENGINES)
def test_referenced(benchmark, record, population, machine, orders, size, edition):
    """The first round over a list of young folios, of which none is unmapped."""
    original = population(SIZES[size][0], ORDERS[orders], machine)[0]
    step = original.nr_pages >> 6

    def setup():
        fresh = original.copy()
        run = _core.Run(fresh, policy.get(edition), arch.get(machine), fast=ENGINES[edition] == "c")
        lists = fresh.lru_inactive, fresh.nr_folios, fresh.lru_inactive.copy(), 0
        run.reclaim_start(*lists, fresh.nr_pages)
        return (run,), {}

    def check(run):
        while not run.freed_pages:
            run.reclaim_step(step)

    benchmark.pedantic(check, setup=setup, **_rounds(size))
    record(original.nr_pages, original.ptes.nbytes)


@pytest.mark.benchmark(group="instruction sets, unmap")
@pytest.mark.parametrize("isa", _core.isas())
@pytest.mark.parametrize("orders", ORDERS)
def test_isa(benchmark, record, population, orders, isa, monkeypatch):
    monkeypatch.setenv("RMAPFAST_ISA", isa)
    original, folios, group_start = groups_of(population("10GiB", ORDERS[orders]), 8 << 30)

    def setup():
        run = _core.Run(original.copy(), policy.get("v7.0"), arch.get("x86-64"), fast=True)
        return (run, folios, group_start, 0, EVERYTHING), {}

    benchmark.pedantic(_core.Run.shrink_groups, setup=setup, **_rounds("20MiB"))
    record(8 << 30 >> original.page_shift, original.ptes.nbytes)
