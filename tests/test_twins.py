"""The C library and the plain-Python reference agree bit for bit: state, events and single steps."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from random_populations import random_arch, random_policy, random_population, random_swap, with_unseen

import rmapfast as rf
from rmapfast import _core, calls, reference
from rmapfast.flags import FolioFlag, TableState
from rmapfast.loop import check_population, reclaim
from rmapfast.population import ARRAYS
from rmapfast.support import flag_mask

POLICIES = list(rf.policy.PRESETS)
seeds = st.integers(0, 2**32 - 1)
policies = st.sampled_from(POLICIES)
ttus = st.sets(st.sampled_from(list(_core.TTU_FLAGS)))


def used(population, name):
    """An array without what means nothing: pages of uniform folios, swap offsets of folios that are not cached."""
    array = getattr(population, name)
    if name == "folio_swap":
        return array[(population.folio_flags & np.uint32(FolioFlag.SWAPCACHE)) != 0]
    if name == "folio_nr_pages_mapped":
        return array[population.folio_order > 0]
    flag = {"page_mapcount": FolioFlag.PAGE_MAPCOUNTS, "page_flags": FolioFlag.PAGE_FLAGS}.get(name)
    if flag is None:
        return array
    valid = (population.folio_flags & np.uint32(flag)) != 0
    pages = 1 << population.folio_order.astype(np.int64)
    where = [
        array[base : base + nr]
        for base, nr in zip(population.folio_page_base[valid].tolist(), pages[valid], strict=True)
    ]
    return np.concatenate([array[:0], *where])


def assert_same_state(one, other):
    for name in ARRAYS:
        np.testing.assert_array_equal(used(one, name), used(other, name), err_msg=name)


def assert_same_call(one, other):
    assert one.ret == other.ret
    assert dict(one.events) == dict(other.events)
    assert dict(one.batch_lengths) == dict(other.batch_lengths)
    assert [tuple(step) for step in one.trace] == [tuple(step) for step in other.trace]
    for name in ("writable", "mapped_stat", "mapcount_left", "referenced", "vm_flags"):
        assert getattr(one, name) == getattr(other, name), name


def pairs(population):
    """Every (folio, VMA) of the rmap."""
    return [(folio, vma) for folio in range(population.nr_folios) for vma, _ in population.rmap(folio)]


def assert_both_agree(seed, call):
    """Run `call(engine, population, folio, vma, arch)` on both engines, for each pair of the population in turn."""
    arch = random_arch(np.random.default_rng(seed))
    one, other = random_population(seed, arch), random_population(seed, arch)
    for folio, vma in pairs(one):
        assert_same_call(call(calls, one, folio, vma, arch), call(reference, other, folio, vma, arch))
        assert_same_state(one, other)
        for population in (one, other):
            check_population(population, arch)


@settings(max_examples=600, deadline=None)
@given(seeds, policies, ttus, st.sampled_from(["none", "contiguous"]))
@example(50297, "v6.15", set(), "contiguous")  # a dirty entry behind the table makes the first one soft-dirty
def test_try_to_unmap_one(seed, policy, ttu, guard):
    policy = rf.policy.get(policy)
    assert_both_agree(
        seed, lambda engine, *at: engine.try_to_unmap_one(*at[:3], policy=policy, arch=at[3], ttu=ttu, guard=guard)
    )


@settings(max_examples=300, deadline=None)
@given(seeds, seeds, ttus, st.sampled_from(["none", "contiguous"]))
def test_try_to_unmap_one_under_policies_that_no_edition_has(seed, policy_seed, ttu, guard):
    policy = random_policy(np.random.default_rng(policy_seed))
    assert_both_agree(
        seed, lambda engine, *at: engine.try_to_unmap_one(*at[:3], policy=policy, arch=at[3], ttu=ttu, guard=guard)
    )


def larger_than_a_table():
    """An anonymous folio of two page tables, both of which are PMD leaves."""
    population = rf.Population.synthetic("4MiB", kind="anon", orders=10)
    population.table_state[:] = TableState.PMD_LEAF
    population.folio_mapcount[0] = population.folio_entire_mapcount[0] = population.folio_refcount[0] = 2
    return population


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("ttu", [set(), {"SPLIT_HUGE_PMD"}, {"SPLIT_HUGE_PMD", "SYNC", "BATCH_FLUSH"}])
def test_a_folio_larger_than_a_table_with_pmd_leaves(policy, ttu):
    """After the split of one leaf no number stands for the mapcounts of all pages any more."""
    arch, policy = rf.arch.get("x86-64"), rf.policy.get(policy)
    one, other = larger_than_a_table(), larger_than_a_table()
    assert_same_call(
        calls.try_to_unmap_one(one, 0, 0, policy=policy, arch=arch, ttu=ttu),
        reference.try_to_unmap_one(other, 0, 0, policy=policy, arch=arch, ttu=ttu),
    )
    assert_same_state(one, other)
    for population in (one, other):
        check_population(population, arch)


def test_behind_a_folded_block_each_entry_is_read():
    """Memory behind a page table continues its last entry, CONT included, but has no contpte blocks."""
    arch = rf.Arch(name="toy", ptrs_per_pte=8, cont_ptes=4, tlb="arm64")
    worlds = [rf.Population.synthetic("64KiB", kind="lazyfree", orders=4, arch=arch) for _ in range(2)]
    assert worlds[0].ptes[7] & rf.pte.CONT
    made = [
        engine.try_to_unmap_one(world, 0, 0, policy=rf.policy.get("v6.15"), arch=arch, ttu=set(), guard="contiguous")
        for engine, world in zip((calls, reference), worlds, strict=True)
    ]
    assert_same_call(*made)
    assert_same_state(*worlds)
    assert made[0].events["oob_reads"] == 8, "the folio has eight pages behind the table"


@settings(max_examples=300, deadline=None)
@given(seeds, policies)
def test_folio_referenced_one(seed, policy):
    policy = rf.policy.get(policy)
    assert_both_agree(seed, lambda engine, *at: engine.folio_referenced_one(*at[:3], policy=policy, arch=at[3]))


@settings(max_examples=300, deadline=None)
@given(seeds, policies, ttus)
def test_what_the_reference_checks_counted(seed, policy, ttu):
    """Of every event all that the check of one VMA counts, and nothing that an unmap counts, in C as in Python.

    C takes the difference of the listed events only (csrc/referenced.c); here it is taken of all.
    """
    arch, policy = random_arch(np.random.default_rng(seed)), rf.policy.get(policy)
    one, other = random_population(seed, arch), random_population(seed, arch)
    run, twin = _core.Run(one, policy, arch, guard="contiguous"), reference.Kernel(other, policy, arch)
    counted = np.zeros(len(rf.EVENT_NAMES), np.uint64)
    for folio, vma in pairs(one):
        before = run.events
        run.folio_referenced_one(folio, vma)
        counted += run.events - before
        np.testing.assert_array_equal(run.referenced_events, counted)
        run.try_to_unmap_one(folio, vma, flag_mask("ttu", ttu, _core.TTU_FLAGS))
        np.testing.assert_array_equal(run.referenced_events, counted)
        twin_folio, twin_vma = twin.folio(folio), twin.vma(vma, "contiguous")
        if twin_vma.address(twin_folio) is not None:
            twin.folio_referenced_one(twin_folio, twin_vma)
            twin.try_to_unmap_one(twin_folio, twin_vma, frozenset(ttu))
            twin_folio.settle()
    assert twin.record.referenced_events == dict(zip(rf.EVENT_NAMES, counted.tolist(), strict=True))
    assert twin.record.events == dict(zip(rf.EVENT_NAMES, run.events.tolist(), strict=True))


@settings(max_examples=200, deadline=None)
@given(seeds, st.booleans(), st.booleans())
def test_page_vma_mapped_walk(seed, sync, migration):
    assert_both_agree(
        seed, lambda engine, *at: engine.page_vma_mapped_walk(*at[:3], arch=at[3], sync=sync, migration=migration)
    )


def assert_same_run(seed, run):
    """Run `run(population, rng, engine)` on a population of that seed with all engines."""
    results = []
    for engine in ("c", "general", "reference"):
        arch = random_arch(np.random.default_rng(seed))
        odd = (0, 0.03, 0.15)[seed % 3]
        population = with_unseen(random_population(seed, arch, odd=odd), np.random.default_rng(seed + 1))
        results.append(run(population, arch, np.random.default_rng(seed + 2), engine))
    for one in results[:2]:
        assert one.events == results[2].events
        assert one.referenced_events == results[2].referenced_events
        assert one.batch_lengths == results[2].batch_lengths
        assert (one.ret, one.swap_used) == (results[2].ret, results[2].swap_used)
        assert_same_state(one.after, results[2].after)


@settings(max_examples=400, deadline=None)
@given(seeds, policies, st.sampled_from(["memory.reclaim", "pageout"]), st.integers(1, 300))
def test_reclaim(seed, policy, entry, target):
    assert_same_run(
        seed,
        lambda population, arch, rng, engine: reclaim(
            population, target * 4096, policy=policy, arch=arch, entry=entry, swap=random_swap(rng), engine=engine
        ),
    )


@settings(max_examples=400, deadline=None)
@given(seeds, policies, st.sampled_from(reference.MADVISE_ACTIONS), st.booleans())
def test_madvise(seed, policy, action, owner):
    def run(population, arch, rng, engine):
        shift, last = population.page_shift, int(population.vma_end.max()) + 3
        start = int(rng.integers(int(population.vma_start.min()), last))
        length = int(rng.integers(0, last - start))
        mm = int(rng.integers(len(population.mm_flags)))
        return rf.madvise(
            population, action, start << shift, length << shift,
            mm=mm, owner=owner, policy=policy, arch=arch, swap=random_swap(rng), engine=engine,
        )  # fmt: skip

    assert_same_run(seed, run)


@settings(max_examples=300, deadline=None)
@given(seeds, st.sets(st.sampled_from([name for name in _core.FPB_FLAGS if name != "UNCUT"])), st.data())
def test_folio_pte_batch_flags(seed, flags, data):
    rng = np.random.default_rng(seed)
    arch = random_arch(rng)
    population = random_population(seed, arch)
    present = np.flatnonzero(population.ptes & rf.pte.PRESENT)
    for start in present[:20]:
        pfn = int(rf.pte.pfn(population.ptes[start]))
        owners = np.flatnonzero(
            (population.folio_pfn <= pfn)
            & (pfn < population.folio_pfn + (1 << population.folio_order.astype(np.uint64)))
        )
        if not len(owners):
            continue
        folio_pfn, pages = int(population.folio_pfn[owners[0]]), 1 << int(population.folio_order[owners[0]])
        max_nr = data.draw(st.integers(1, len(population.ptes) - int(start)))
        mask = flag_mask("flags", flags, _core.FPB_FLAGS)
        nr, merged, reads, _ = _core.folio_pte_batch_flags(
            population.ptes, start, max_nr, folio_pfn, pages, mask, arch.cont_ptes, arch.mkdirty_soft_dirty
        )
        want = reference.folio_pte_batch_flags(
            population.ptes,
            int(start),
            max_nr=max_nr,
            folio_pfn=folio_pfn,
            folio_pages=pages,
            flags=flags,
            cont_ptes=arch.cont_ptes,
            mkdirty_soft_dirty=arch.mkdirty_soft_dirty,
        )
        assert (nr, merged, reads) == (want[0], int(want[1]), want[2])


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kind", ["file", "lazyfree", "anon", "shmem"])
@pytest.mark.parametrize("arch", ["x86-64", "arm64-4k"])
def test_reclaim_of_a_synthetic_population(policy, kind, arch):
    def run(engine):
        population = rf.Population.synthetic(
            "2MiB",
            arch=arch,
            kind=kind,
            orders="0:10,2:20,4:70",
            holes=0.05,
            sharing=2,
            dirty=0.1,
            soft_dirty=0.1,
            uffd_wp=0.1,
            young=0.5,
            seed=7,
        )
        return reclaim(population, "1500KiB", policy=policy, arch=arch, engine=engine)

    one, other = run("c"), run("reference")
    assert one.events == other.events
    assert one.referenced_events == other.referenced_events
    assert one.batch_lengths == other.batch_lengths
    assert_same_state(one.after, other.after)
    assert one.events["walk_yields"] > 0
