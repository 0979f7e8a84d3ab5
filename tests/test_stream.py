"""A population reclaimed block by block gives what the whole gives, whatever the shards and the number of threads."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rmapfast as rf
from rmapfast import _core, stream
from rmapfast.population import ARRAYS, MADE_PER_FOLIO, Population
from rmapfast.swap import Swap

POLICIES = list(rf.policy.PRESETS)
BLOCK = _core.LAYOUT_BLOCK


RULES = Path(__file__).parent / "data" / "rules" / "restated.c"


def some_description(rng, arch, **fixed):
    """A description of up to five blocks."""
    kind = str(rng.choice(["file", "file", "lazyfree", "anon", "shmem"]))
    arguments = {
        "kind": kind,
        "orders": str(rng.choice(["0", "3", "4", "9", "13", "0:1,2:2", "0:10,4:70,9:20", "2:2,3:1,5:3,11:1"])),
        "aligned": bool(rng.random() < 0.7),
        "phase": int(rng.choice([0, 0, 1, 500])),
        "sharing": int(rng.choice([1, 1, 1, 2])),
        "young": float(rng.choice([0.0, 1.0, 1.0, 0.5, 0.001])),
        "dirty": float(rng.choice([0.0, 0.0, 1.0, 0.1])),
        "uffd_wp": float(rng.choice([0.0, 0.0, 1.0, 0.2])),
        "folio_dirty": float(rng.choice([0.0, 0.0, 1.0, 0.1])),
        "mapped": 1.0 if kind in ("anon", "lazyfree") else float(rng.choice([1.0, 0.8])),
        "holes": 0.0 if kind in ("anon", "lazyfree") else float(rng.choice([0.0, 0.01])),
        "exec": bool(rng.random() < 0.1),
        "external": int(rng.choice([0, 0, 1])),
        "seed": int(rng.integers(0, 1000)),
    }
    size = int(rng.integers(1, 5 * BLOCK)) << arch.page_shift
    return Population.described(size, arch=arch, **(arguments | fixed))


def assert_same_counts(one, other):
    assert dict(one.events) == dict(other.events)
    assert dict(one.referenced_events) == dict(other.referenced_events)
    assert one.batch_lengths == other.batch_lengths
    assert one.reclaimed_pages == other.reclaimed_pages


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(POLICIES), st.sampled_from([BLOCK, 2 * BLOCK, 1 << 21]))
def test_streamed_is_materialised(seed, policy, shard):
    rng = np.random.default_rng(seed)
    arch = rf.arch.get(str(rng.choice(["x86-64", "arm64-4k", "arm64-16k", "riscv64"])))
    description = some_description(rng, arch)
    target = int(rng.integers(1, 2 * description.pages)) << arch.page_shift
    swap = bool(rng.random() < 0.7)
    whole = rf.reclaim(Population.of(description), target, policy=policy, swap=swap, in_place=True)
    before = stream.SHARD, stream.WAITING
    try:
        stream.SHARD, stream.WAITING = shard, int(rng.choice([0, 100, 2000, before[1]]))
        one = rf.reclaim(description, target, policy=policy, swap=swap)
        assert_same_counts(one, whole)
        assert_same_counts(rf.reclaim(description, target, policy=policy, swap=swap, threads=None), whole)
        try:
            assert_same_counts(rf.reclaim(description, target, policy=policy, swap=swap, threads=3), whole)
        except ValueError as error:  # it was materialised, and visits may depend on each other
            assert one.after is not None and str(error).startswith("threads: expected ")
    finally:
        stream.SHARD, stream.WAITING = before


def test_streamed_flushes_of_dirty_batches():
    # The loop that accounts for a stream has to know the policy: one flush for the dirty folios of an isolation.
    description = Population.described("64MiB", kind="anon", orders=3)
    streamed = rf.reclaim(description, "32MiB", policy="flush-batch")
    assert streamed.after is None
    assert_same_counts(streamed, rf.reclaim(Population.of(description), "32MiB", policy="flush-batch"))
    assert streamed.events["tlb_flushes"] < streamed.events["folios_written"]


def test_it_was_streamed():
    description = Population.described("200MiB", orders="0:10,4:70,9:20")
    assert rf.reclaim(description, "150MiB").after is None
    for engine in ("c", "general"):
        assert_same_counts(
            rf.reclaim(description, "150MiB", engine=engine),
            rf.reclaim(Population.of(description), "150MiB", engine="general"),
        )


@pytest.fixture
def shards(monkeypatch):
    """The shards of one block each that are made, in their order."""
    made, visit = [], stream.Shards.visit
    monkeypatch.setattr(stream, "SHARD", BLOCK)
    monkeypatch.setattr(stream.Shards, "visit", lambda self, shard: made.append(shard) or visit(self, shard))
    return made


@pytest.mark.parametrize("young", [1.0, 0.5, 0.0])
def test_each_block_is_made_once(shards, young):
    blocks = 40
    rf.reclaim(Population.described(blocks * BLOCK << 12, orders=4, young=young), "80%")
    firsts = [shard.first for shard in shards]
    # the one in which the loop ends is visited again; where it ends with a shard, it may look at the next one
    assert len(firsts) <= len(set(firsts)) + 2
    assert len(set(firsts)) - (blocks if young else 32) in (0, 1)
    # the second pass of the last blocks is not made: the loop does not come to it
    assert sum(shard.passes == 2 for shard in shards) <= (32 if young else 0) + 2


@pytest.mark.parametrize("threads", [1, 2])
def test_logs_that_wait_have_bounded_room(shards, monkeypatch, threads):
    description = Population.described(20 * BLOCK << 12, orders=0, dirty=0.1)
    reference = rf.reclaim(description, "60%", threads=threads)
    made = len(shards)
    monkeypatch.setattr(stream, "WAITING", 1 << 14)
    assert_same_counts(rf.reclaim(description, "60%", threads=threads), reference)
    assert len(shards) - made > made


@pytest.mark.parametrize("threads", [1, 4])
def test_nonsense_that_the_loop_does_not_come_to_is_no_error(shards, threads):
    # the second pass of a block is made before the loop comes to it, if it ever does
    policy = rf.policy.get("v7.0").replace(rule=f"{RULES}:far_nonsense")
    description = Population.described(6 * BLOCK << 12, orders=4)
    one = rf.reclaim(description, BLOCK << 12, policy=policy, threads=threads)
    assert any(shard.passes == 2 for shard in shards)
    assert_same_counts(one, rf.reclaim(Population.of(description), BLOCK << 12, policy=policy))
    with pytest.raises(ValueError, match=f"left in folio {3 * BLOCK >> 4} at vpn"):
        rf.reclaim(description, "80%", policy=policy, threads=threads)


def test_a_rule_sees_the_vma_of_the_whole(shards):
    policy = rf.policy.get("v7.0").replace(rule=f"{RULES}:by_place")
    description = Population.described(3 * BLOCK << 12, orders=4, phase=500)
    one = rf.reclaim(description, "80%", policy=policy)
    assert_same_counts(one, rf.reclaim(Population.of(description), "80%", policy=policy))
    assert set(one.batch_lengths) >= {1, 16}


@pytest.mark.parametrize(
    "options", [{"shuffle": True}, {"active": True}, {"kind": "anon", "holes": 0.1}, {"mlocked": 0.5}], ids=str
)
def test_what_cannot_be_streamed_is_materialised(options):
    description = Population.described("20MiB", **options)
    assert not stream.streams(description, Swap())
    result = rf.reclaim(description, "10MiB")
    assert result.after is not None
    assert_same_counts(result, rf.reclaim(Population.of(description), "10MiB"))


def test_a_run_that_comes_to_the_active_list_is_materialised():
    description = Population.described("20MiB", sharing=2)
    result = rf.reclaim(description, "10MiB")
    assert result.events["active_passes"] and result.after is not None
    assert_same_counts(result, rf.reclaim(Population.of(description), "10MiB"))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_blocks_are_parts_of_the_whole(seed):
    rng = np.random.default_rng(seed)
    arch = rf.arch.get(str(rng.choice(["x86-64", "arm64-4k", "arm64-64k"])))
    mlocked = float(rng.choice([0.0, 0.3]))
    description = some_description(rng, arch, mlocked=mlocked)
    whole, pages, sharing = Population.of(description), description.pages, description.sharing
    at = 0
    for first in range(0, pages, BLOCK):
        end = min(first + BLOCK, pages)
        nr = end - first
        made = {
            "ptes": np.empty(sharing * nr, np.uint64),
            **{name: np.empty(nr, ARRAYS[name]) for name in MADE_PER_FOLIO},
            "page_mapcount": np.zeros(nr, np.int32),
            "rmap_start": np.empty(nr + 1, np.uint64),
            "rmap_vma": np.empty(nr * sharing, np.uint32),
            "mm_rss": np.zeros((sharing, 4), np.int64),
            "lru": np.empty(nr, np.uint32),
        }
        folios, nr_lru = _core.populate(description, first, end, made)
        for name in MADE_PER_FOLIO:
            part = made[name][:folios] + np.uint64(first) if name == "folio_page_base" else made[name][:folios]
            np.testing.assert_array_equal(part, getattr(whole, name)[at : at + folios], err_msg=name)
        for mm in range(sharing):
            np.testing.assert_array_equal(
                made["ptes"][mm * nr : mm * nr + nr], whole.ptes[mm * pages + first : mm * pages + end]
            )
        listed = whole.lru_inactive[(whole.lru_inactive >= at) & (whole.lru_inactive < at + folios)]
        np.testing.assert_array_equal(made["lru"][:nr_lru] + np.uint32(at), listed)
        at += folios
    assert at == whole.nr_folios == description.nr_folios
    assert description.folios_by_order() == whole.orders()


@pytest.mark.parametrize("orders", ["0:10,4:70,9:20", "0:1,1:1", "2:2,3:1,5:3,11:1", "4:99,9:1", "0:1,13:1"])
@pytest.mark.parametrize("aligned", [True, False])
def test_the_layout_of_a_mix(orders, aligned):
    """Each page is in one folio, PFNs are naturally aligned, and each block has its share of each order."""
    population = Population.synthetic(5 * BLOCK + 777 << 12, orders=orders, aligned=aligned, seed=4)
    size = 1 << population.folio_order.astype(np.int64)
    start = population.folio_index.astype(np.int64)
    np.testing.assert_array_equal(start, np.cumsum(size) - size)
    assert start[-1] + size[-1] == 5 * BLOCK + 777
    assert not np.any(population.folio_pfn.astype(np.int64) % size)
    assert not aligned or not np.any(start % size)
    pfns = np.sort(population.folio_pfn.astype(np.int64))
    assert len(np.unique(pfns)) == len(pfns)
    weights = {order: float(share) for order, share in population_mix(orders).items()}
    for block in range(5):
        inside = start // BLOCK == block
        for order, weight in weights.items():
            pages = int(size[inside & (population.folio_order == order)].sum())
            assert abs(pages - BLOCK * weight / sum(weights.values())) <= 2 << max(weights)


def population_mix(orders):
    return dict((int(order), int(weight)) for order, weight in (part.split(":") for part in orders.split(",")))


def test_a_description_needs_no_memory():
    description = Population.described("4PiB", orders="0:10,4:70,9:20")
    described = description.describe()
    assert described["bytes"] == 4 << 50
    assert sum(count << int(order) for order, count in described["orders"].items()) == description.pages
    with pytest.raises(ValueError, match=r"size: expected 1 to 2\^33 - 1 pages, got 1099511627776"):
        Population.of(description)
