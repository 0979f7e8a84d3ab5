"""The fast path by shapes gives what the general path gives, bit for bit, whatever the instruction set."""

import dataclasses

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from random_populations import random_arch, random_population
from test_twins import assert_same_state

import rmapfast as rf
from rmapfast import _core, pte
from rmapfast.flags import FolioFlag
from rmapfast.policy import CHOICES
from rmapfast.population import Population
from rmapfast.swap import UNLIMITED_SWAP

POLICIES = list(rf.policy.PRESETS)
ARCHES = list(rf.arch.PRESETS)
RATES = (0.0, 1.0, 1.0, 0.03, 0.5)


def assert_fast_is_general(population, arch, policy, entry, target, swap):
    """`target` in pages and `swap` in slots (None: no swap space)."""
    slots = False if swap is None else True if swap == UNLIMITED_SWAP else swap << arch.page_shift
    fast, general = (
        rf.reclaim(population, target << arch.page_shift, policy=policy, arch=arch, entry=entry, swap=slots, engine=one)
        for one in ("c", "general")
    )
    assert_same_state(fast.after, general.after)
    np.testing.assert_array_equal(fast.events.counts, general.events.counts)
    np.testing.assert_array_equal(fast.referenced_events.counts, general.referenced_events.counts)
    assert fast.batch_lengths == general.batch_lengths


def some_population(rng, arch):
    """Mostly regular, described at random, then edited here and there."""
    anon = bool(rng.random() < 0.4)
    mixes = ["0", "1", "2", "3", "4", "6", "9", "0:1,2:2", "0:10,4:70,9:20", "0:2,3:1,5:3"]
    population = Population.synthetic(
        int(rng.integers(1, 3000)) << arch.page_shift,
        arch=arch,
        kind=str(rng.choice(["anon", "lazyfree"] if anon else ["file", "file", "shmem"])),
        orders=str(rng.choice(mixes)),
        aligned=bool(rng.random() < 0.8),
        phase=int(rng.choice([0, 0, 0, 1, 16, 500])),
        mapped=float(rng.choice([1.0, 1.0, 0.7])),
        holes=float(rng.choice([0.0, 0.0, 0.01])),
        sharing=int(rng.choice([1, 1, 1, 2])),
        young=float(rng.choice(RATES)),
        dirty=float(rng.choice([0.0, 0.0, 1.0, 0.1])),
        soft_dirty=float(rng.choice([0.0, 0.0, 0.5])),
        uffd_wp=float(rng.choice([0.0, 0.0, 1.0, 0.2])),
        mlocked=float(rng.choice([0.0, 0.0, 0.0, 0.1, 1.0])),
        folio_dirty=float(rng.choice([0.0, 0.0, 1.0, 0.1])),
        active=bool(rng.random() < 0.2),
        shuffle=bool(rng.random() < 0.3),
        external=int(rng.choice([0, 0, 0, 1])),
        exec=bool(rng.random() < 0.2),
        droppable=bool(rng.random() < 0.1),
        cont=bool(rng.random() < 0.8),
        seed=int(rng.integers(0, 1000)),
    )
    for _ in range(int(rng.choice([0, 0, 1, 5, 50])) if population.nr_folios else 0):
        edit(rng, population)
    return population


def edit(rng, population):
    """Make one folio or entry odd."""
    folio, slot = int(rng.integers(population.nr_folios)), int(rng.integers(len(population.ptes)))
    match int(rng.integers(6)):
        case 0:
            population.ptes[slot] ^= np.uint64(1 << int(rng.integers(1, 8)))
        case 1:
            population.ptes[slot] ^= pte.PFN_ONE
        case 2:
            population.folio_refcount[folio] += 1
        case 3:
            known = (
                FolioFlag.DIRTY,
                FolioFlag.REFERENCED,
                FolioFlag.PINNED,
                FolioFlag.YOUNG,
                FolioFlag.LOCKED,
            )
            population.folio_flags[folio] ^= np.uint32(int(rng.choice(known)))
        case 4:
            population.ptes[slot] = 0
        case 5:
            population.folio_nr_pages_mapped[folio] -= 1


seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=700, deadline=None)
@given(seeds, st.sampled_from(POLICIES))
@example(0, "v7.0")
@example(2047, "per-page")  # a marker in place of frame 0 looked like an entry that had kept its frame
def test_described_and_edited(seed, policy):
    rng = np.random.default_rng(seed)
    arch = rf.arch.get(str(rng.choice(ARCHES)))
    population = some_population(rng, arch)
    entry = str(rng.choice(["memory.reclaim", "memory.reclaim", "memory.reclaim", "pageout"]))
    swap = int(rng.choice([UNLIMITED_SWAP, UNLIMITED_SWAP, 100])) if rng.random() < 0.8 else None
    target = int(rng.integers(1, 2 * population.nr_pages + 2))
    assert_fast_is_general(population, arch, rf.policy.get(policy), entry, target, swap)


def some_policy(rng):
    """Return a preset, or one with some of its rules changed."""
    policy = rf.policy.get(str(rng.choice(POLICIES)))
    changes = {}
    for field in dataclasses.fields(policy):
        if field.name not in ("name", "doc", "rule", "young_rule") and rng.random() < 0.2:
            choices = CHOICES.get(field.name, (False, True))
            changes[field.name] = choices[int(rng.integers(len(choices)))]
    return policy.replace(name="changed", **changes)


def irregular_population(rng, arch):
    """Bits that differ from page to page, holes, and mappings that are shared."""

    def rate():
        return float(rng.choice([0.0, 0.0, 1.0, 0.03, 0.1, 0.5]))

    population = Population.synthetic(
        int(rng.integers(1, 4000)) << arch.page_shift,
        arch=arch,
        kind=str(rng.choice(["file", "file", "shmem", "anon", "lazyfree"])),
        orders=str(
            rng.choice(["0", "1", "2", "3", "4", "5", "6", "7", "9", "0:1,2:2", "0:10,4:70,9:20", "7:1,6:1,2:1"])
        ),
        phase=int(rng.choice([0, 0, 1, 16])),
        holes=float(rng.choice([0.0, 0.01, 0.1, 0.5])),
        sharing=int(rng.integers(1, 6)),
        young=rate(),
        dirty=rate(),
        write=rate(),
        soft_dirty=rate(),
        uffd_wp=float(rng.choice([0.0, 0.0, 1.0])),
        folio_dirty=float(rng.choice([0.0, 0.0, 1.0, 0.1])),
        active=bool(rng.random() < 0.2),
        shuffle=bool(rng.random() < 0.4),
        exec=bool(rng.random() < 0.2),
        droppable=bool(rng.random() < 0.1),
        cont=bool(rng.random() < 0.8),
        seed=int(rng.integers(0, 1000)),
    )
    for _ in range(int(rng.choice([0, 5, 200]))):
        edit(rng, population)
    return population


@settings(max_examples=400, deadline=None)
@given(seeds)
def test_irregular(seed):
    rng = np.random.default_rng(seed)
    arch = rf.arch.get(str(rng.choice(ARCHES)))
    population, policy = irregular_population(rng, arch), some_policy(rng)
    entry = str(rng.choice(["memory.reclaim", "memory.reclaim", "pageout"]))
    swap = int(rng.choice([UNLIMITED_SWAP, UNLIMITED_SWAP, 100])) if rng.random() < 0.8 else None
    assert_fast_is_general(population, arch, policy, entry, int(rng.integers(1, 2 * population.nr_pages + 2)), swap)


@pytest.mark.parametrize("isa", _core.isas())
@pytest.mark.parametrize("seed", range(40))
def test_irregular_on_each_instruction_set(isa, seed, monkeypatch):
    monkeypatch.setenv("RMAPFAST_ISA", isa)
    rng = np.random.default_rng(seed)
    arch = rf.arch.get(str(rng.choice(ARCHES)))
    population, policy = irregular_population(rng, arch), some_policy(rng)
    assert_fast_is_general(population, arch, policy, "memory.reclaim", population.nr_pages, UNLIMITED_SWAP)


@settings(max_examples=400, deadline=None)
@given(seeds, st.sampled_from(POLICIES), st.integers(1, 200))
def test_odd_states(seed, policy, target):
    arch = random_arch(np.random.default_rng(seed))
    assert_fast_is_general(random_population(seed, arch), arch, rf.policy.get(policy), "memory.reclaim", target, 1000)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("arch", ["x86-64", "arm64-4k"])
@pytest.mark.parametrize("orders", ["0", "4", "0:10,4:70,9:20"])
def test_every_preset(policy, arch, orders):
    population = Population.synthetic("24MiB", orders=orders, arch=arch)
    assert_fast_is_general(population, rf.arch.get(arch), rf.policy.get(policy), "memory.reclaim", 5000, None)


@pytest.mark.parametrize("isa", _core.isas())
@pytest.mark.parametrize("orders", ["0", "1", "2", "3", "4", "9", "0:10,4:70,9:20"])
def test_each_instruction_set(isa, orders, monkeypatch):
    monkeypatch.setenv("RMAPFAST_ISA", isa)
    assert _core.isa() == isa
    rng = np.random.default_rng(0)
    arch, policy = rf.arch.get("x86-64"), rf.policy.get("v7.0")
    for kind in ("file", "lazyfree", "anon"):
        population = Population.synthetic("24MiB", orders=orders, kind=kind, arch=arch, soft_dirty=1.0)
        for _ in range(40):
            edit(rng, population)
        assert_fast_is_general(population, arch, policy, "memory.reclaim", 5000, UNLIMITED_SWAP)


def test_unknown_instruction_set(monkeypatch):
    monkeypatch.setenv("RMAPFAST_ISA", "mmx")
    with pytest.raises(ValueError, match=r"RMAPFAST_ISA: this processor and build have .*generic; got 'mmx'"):
        rf.reclaim(Population.synthetic("1MiB"), "1MiB")


@pytest.mark.parametrize("budget", [1, 7, 100, 5000, 1 << 22])
def test_any_budget(budget, monkeypatch):
    monkeypatch.setattr("rmapfast.loop.BUDGET", budget)
    population = Population.synthetic("8MiB", orders="0:10,4:70,9:20", young=0.5)
    whole = rf.reclaim(population, "6MiB", engine="reference")
    for engine in ("c", "general"):
        part = rf.reclaim(population, "6MiB", engine=engine)
        assert dict(part.events) == dict(whole.events)
        assert_same_state(part.after, whole.after)


@pytest.mark.parametrize("kind", ["anon", "lazyfree"])
def test_a_thp_that_is_freed_leaves_the_deferred_split_queue(kind):
    """Where the shrinker looks for underused THPs, each anonymous THP is on its queue from the start."""
    arch = rf.arch.get("x86-64").replace(name="toy", ptrs_per_pte=16)
    population = rf.Population.synthetic("2MiB", kind=kind, orders=4, arch=arch, dirty=0.0, young=0.0)
    population.folio_flags[-1] |= FolioFlag.LOCKED  # so that the loop goes on through all priorities
    results = [
        rf.reclaim(population, "2MiB", arch=arch, engine=engine, max_ptes_none=3)
        for engine in ("c", "general", "reference")
    ]
    assert results[0].events == results[1].events == results[2].events
    assert results[0].events["folios_freed"] == 31


@pytest.mark.parametrize("entries", ["none", "stale"])
@pytest.mark.parametrize("order", [0, 6, 8])
def test_a_table_that_is_absent_ends_a_row(order, entries):
    """Folios that nothing maps here, in several page tables, of which one is absent.

    Their mapcounts come from elsewhere. What the slots of an absent table hold means nothing.
    """
    arch = rf.arch.get("x86-64")
    population = Population.synthetic("128MiB", arch=arch, orders=order, kind="file")
    population.table_state[50] = _core.TABLE_ABSENT
    if entries == "none":
        population.ptes[:] = 0
    assert_fast_is_general(population, arch, rf.policy.get("v7.0"), "memory.reclaim", 1 << 15, UNLIMITED_SWAP)
