"""Rules of one's own on the fast paths: what was found for one folio is used again only where it must be the same."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_populations import random_arch, random_population
from test_fast_paths import ARCHES, UNLIMITED_SWAP, assert_fast_is_general, irregular_population
from test_rule import DATA, assert_same

import rmapfast as rf
import rmapfast._core as _core
from rmapfast import rule as rules
from rmapfast.verify.states import Scope

BATCHING = [
    *(
        f"restated.c:{name}"
        for name in ("one", "v7_0", "v6_15", "anon_swap", "unclipped", "looks", "by_place", "by_distance")
    ),
    *(f"restated.c:{name}" for name in ("by_bits", "by_scan", "by_first", "in_pairs", "all", "by_flags")),
    *(f"hashed.c:batch_{number}" for number in range(16)),
]
YOUNG = [
    "",
    *(
        f"restated.c:{name}"
        for name in ("young", "one", "by_place", "by_distance", "by_bits", "by_scan", "in_pairs", "all")
    ),
    *(f"hashed.c:young_{number}" for number in range(16)),
]
AROUND = ["per-page", "v6.14", "v6.15", "v7.0", "v7.2", "v7.3", "anon-swap"]


def own(rng, batching=None):
    """A policy with rules of one's own."""
    rule, young = batching or str(rng.choice(BATCHING)), str(rng.choice(YOUNG))
    policy = rf.policy.get(str(rng.choice(AROUND))).replace(name="own", rule=f"{DATA}/{rule}")
    return policy.replace(young_rule=f"{DATA}/{young}" if young else "")


seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=500, deadline=None)
@given(seeds)
def test_irregular_populations(seed):
    rng = np.random.default_rng(seed)
    arch = rf.arch.get(str(rng.choice(ARCHES)))
    population = irregular_population(rng, arch)
    entry = str(rng.choice(["memory.reclaim", "memory.reclaim", "pageout"]))
    swap = int(rng.choice([UNLIMITED_SWAP, UNLIMITED_SWAP, 100])) if rng.random() < 0.8 else None
    assert_fast_is_general(population, arch, own(rng), entry, int(rng.integers(1, 2 * population.nr_pages + 2)), swap)


@pytest.mark.parametrize("isa", _core.isas())
@pytest.mark.parametrize("batching", BATCHING)
def test_each_rule_on_each_instruction_set(isa, batching, monkeypatch):
    monkeypatch.setenv("RMAPFAST_ISA", isa)
    rng = np.random.default_rng(BATCHING.index(batching))
    arch = rf.arch.get(str(rng.choice(ARCHES)))
    population = irregular_population(rng, arch)
    entry = "pageout" if rng.random() < 0.5 else "memory.reclaim"
    assert_fast_is_general(population, arch, own(rng, batching), entry, population.nr_pages, UNLIMITED_SWAP)


@settings(max_examples=200, deadline=None)
@given(seeds, st.integers(1, 200))
def test_odd_states(seed, target):
    rng = np.random.default_rng(seed)
    arch = random_arch(rng)
    assert_fast_is_general(random_population(seed, arch), arch, own(rng), "memory.reclaim", target, 1000)


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_mglru_and_both_engines(seed):
    rng = np.random.default_rng(seed)
    arch = rf.arch.get(str(rng.choice(ARCHES)))
    population = irregular_population(rng, arch)
    policy = own(rng).replace(mglru=str(rng.choice(["v6.12", "v7.0", "v7.2", "v7.3"])))
    fast, general = (
        rf.reclaim(population, "60%", policy=policy, arch=arch, lru="mglru", engine=engine)
        for engine in ("c", "general")
    )
    assert_same(fast, general)


@pytest.mark.parametrize("rule", ["restated.c:v7_0", "restated.c:by_place", "hashed.c:batch_8"])
@pytest.mark.parametrize("threads", [1, 3])
def test_block_by_block(rule, threads):
    population = rf.Population.described("48MiB", orders="0:10,4:70,9:20", young=0.03, holes=0.01, sharing=2)
    policy = rf.policy.get("v7.0").replace(name="own", rule=f"{DATA}/{rule}", young_rule=f"{DATA}/hashed.c:young_10")
    fast, general = (
        rf.reclaim(population, "20MiB", policy=policy, threads=threads, engine=engine) for engine in ("c", "general")
    )
    assert_same(fast, general)


# How often a rule is asked


def asked(rule, population, field="rule", **arguments):
    """How often a rule is asked during a run with the fast paths."""
    calls = []

    @rules.Rule
    def watched(call):
        calls.append(call.contents.page)
        return rule(call)

    policy = rf.policy.get("v7.0").replace(name="mine", **{field: watched})
    rf.reclaim(population, "100%", policy=policy, **arguments)
    return len(calls)


def whole(call):
    return call.contents.folio_pte_batch(call, call.contents.room, 2 | 4)


def with_place(call):
    call.contents.place(call, rules.Place())
    return whole(call)


def with_bits(call):
    call.contents.young_dirty(call)
    return whole(call)


def pairs(call):
    return min(2, call.contents.room)


FOLIOS = 64  # of 16 pages


@pytest.mark.parametrize(
    ("rule", "bits", "often"),
    [
        # a rule that sees the shape alone is asked once for each shape
        (whole, {}, False),
        (pairs, {}, False),
        (with_bits, {}, False),
        (with_bits, {"dirty": 1.0}, False),
        # whoever asks for the place is asked for each folio
        (with_place, {}, True),
        # the places of some dirty entries: a rule that ends its batches where runs end does not see them
        (whole, {"dirty": 0.1}, False),
        (with_bits, {"dirty": 0.1}, True),
        (pairs, {"dirty": 0.1}, True),
    ],
)
def test_a_rule_is_asked_again_only_where_it_may_say_something_else(rule, bits, often):
    population = rf.Population.synthetic(FOLIOS * 16 << 12, orders=4, young=0.0, seed=3, **bits)
    times = asked(rule, population)
    assert times >= FOLIOS * 3 // 4 if often else times <= FOLIOS // 4
    assert asked(rule, population, engine="general") >= FOLIOS


def test_a_young_rule_too():
    population = rf.Population.synthetic(FOLIOS * 16 << 12, orders=4, young=0.0)
    assert asked(whole, population, "young_rule") == 1
    assert asked(with_place, population, "young_rule") == FOLIOS


# Every small state: what is remembered does not depend on the places of the bits


@pytest.mark.parametrize("rule", BATCHING)
def test_bits_that_count_under_a_rule(rule):
    """The bits of each small state are moved; where the rule saw no places, the outcome must be the same."""
    scope = Scope(2)._scope
    policy = rf.policy.get("v7.0").replace(name="own", rule=f"{DATA}/{rule}", young_rule=f"{DATA}/hashed.c:young_8")
    tried = 0
    for family in range(len(scope)):
        moved, differ, first = scope.counted_bits(
            family, 0, scope.family(family)["states"], policy, rf.arch.get("x86-64")
        )
        tried += moved
        assert not differ, (scope.family(family), first)
    assert tried > 100
