"""The lane ``make fuzz-twins``: random worlds through the C library, fast and general, and through the reference.

A case is a seed: a world, an architecture, a policy whose fields no edition need combine, and either single calls on
every pair of a folio and a VMA, or a whole reclaim or madvise. State, events and steps must be equal, and after every
call the population of each engine must pass its own check.

Without FUZZ_S the lane runs the same cases each time. FUZZ_S=3600 runs other cases for an hour, and
``python tests/fuzz_twins.py SEED`` runs one.
"""

import sys
from collections import Counter

import numpy as np
from fuzzing import run_lane
from random_populations import random_arch, random_policy, random_population, random_swap, with_generations, with_unseen
from test_twins import assert_same_call, assert_same_state, pairs

import rmapfast as rf
from rmapfast import _core, calls, pte, reference
from rmapfast.flags import FolioFlag, PageFlag, VmaFlag
from rmapfast.loop import check_population

SHORT_RUN = 4000
ENGINES = ("c", "general", "reference")


def single_calls(seed, rng, done):
    """Every pair of a folio and a VMA, by unmaps and reference checks that follow each other on one population."""
    arch, policy = random_arch(rng), random_policy(rng)
    worlds = [(calls, random_population(seed, arch)), (reference, random_population(seed, arch))]
    ttu = {flag for flag in _core.TTU_FLAGS if rng.random() < 0.4}
    guard = str(rng.choice(["none", "contiguous"]))
    for folio, vma in pairs(worlds[0][1]):
        if rng.random() < 0.2:
            made = [one.folio_referenced_one(world, folio, vma, policy=policy, arch=arch) for one, world in worlds]
        else:
            made = [
                one.try_to_unmap_one(world, folio, vma, policy=policy, arch=arch, ttu=ttu, guard=guard)
                for one, world in worlds
            ]
        assert_same_call(*made)
        assert_same_state(worlds[0][1], worlds[1][1])
        for _, world in worlds:
            check_population(world, arch)
        done["single calls"] += 1


def whole_run(seed, rng, done):
    """A reclaim or a call of madvise by all three engines."""
    arch, policy, swap_seed = random_arch(rng), random_policy(rng), int(rng.integers(1 << 32))
    entry = str(rng.choice(["memory.reclaim", "pageout", *reference.MADVISE_ACTIONS]))
    odd, target, owner = float(rng.choice([0, 0.03, 0.15])), int(rng.integers(1, 300)), bool(rng.random() < 0.5)
    cut = rng.random(2)
    mglru = entry == "memory.reclaim" and policy.mglru != "none" and bool(rng.random() < 0.7)
    stats = "flushed" if entry == "memory.reclaim" and rng.random() < 0.5 else "unflushed"
    results = []
    for engine in ENGINES:
        population = with_unseen(random_population(seed, arch, odd=odd), np.random.default_rng(seed))
        swap = random_swap(np.random.default_rng(swap_seed))
        if mglru:
            with_generations(population, np.random.default_rng(seed))
        if entry in reference.MADVISE_ACTIONS:
            shift, low = population.page_shift, int(population.vma_start.min())
            start = low + int(cut[0] * (int(population.vma_end.max()) - low + 3))
            length = int(cut[1] * (int(population.vma_end.max()) - start + 4))
            result = rf.madvise(
                population, entry, start << shift, max(length, 0) << shift,
                owner=owner, policy=policy, arch=arch, swap=swap, engine=engine,
            )  # fmt: skip
        else:
            result = rf.reclaim(
                population, target << population.page_shift,
                policy=policy, arch=arch, entry=entry, swap=swap, engine=engine,
                lru="mglru" if mglru else None, lru_stats=stats,
            )  # fmt: skip
        check_population(result.after, arch)
        results.append(result)
    for one in results[:2]:
        for name in ("events", "referenced_events", "batch_lengths", "looked_around", "isolated", "ret", "swap_used"):
            assert getattr(one, name) == getattr(results[2], name), name
        assert_same_state(one.after, results[2].after)
        for name in ("lru_inactive", "lru_active", "lru_gen"):
            np.testing.assert_equal(getattr(one.after, name), getattr(results[2].after, name), name)
    events = results[0].events
    assert events["batched_pages"] == sum(nr * steps for nr, steps in results[0].batch_lengths.items())
    assert events["batches"] == sum(results[0].batch_lengths.values())
    done["runs with generations" if mglru else "whole runs"] += 1


def alike_run(seed, rng, done):
    """A reclaim of folios that are alike, which the fast path takes by runs; some are held, some cross page tables."""
    arch, policy = random_arch(rng), random_policy(rng)
    size, order = int(rng.integers(64, 400)), int(rng.choice([0, 1, 2, 2, 3]))
    population = rf.Population.synthetic(
        size << arch.page_shift, arch=arch, seed=seed, orders=0 if size < 8 << order else order,
        kind=str(rng.choice(["file", "shmem", "lazyfree"])), aligned=bool(rng.random() < 0.4),
        phase=int(rng.choice([0, 1, 5])), young=float(rng.choice([0, 0, 0.2])),
    )  # fmt: skip
    population.folio_refcount[rng.random(population.nr_folios) < float(rng.choice([0, 0.03]))] += 1
    target = int(rng.integers(size // 2, size + 1)) << arch.page_shift
    one, general, other = (
        rf.reclaim(population, target, policy=policy, arch=arch, engine=engine, swap=False) for engine in ENGINES
    )
    for result in (one, general):
        for name in ("events", "referenced_events", "batch_lengths", "ret"):
            assert getattr(result, name) == getattr(other, name), name
        assert_same_state(result.after, other.after)
    done["runs of folios alike"] += 1


def batch_calls(seed, rng, done):
    """Unmaps of anonymous folios that are mapped evenly, but for what ends a batch or stops it.

    That is a page that is exclusive or not, or whose swap reference fails, an entry that is unused or of a device, or
    the end of a table. Where blocks are folded their entries stay alike, and batches end inside of blocks.
    """
    block = int(rng.choice([1, 2, 4, 8, 16]))
    arch = rf.arch.get("arm64-4k").replace(
        cont_ptes=block, ptrs_per_pte=int(rng.choice([16, 32, 512])), bbml2_noabort=bool(rng.random() < 0.3)
    )
    policy, armed = random_policy(rng), bool(rng.random() < 0.3)
    orders, young, phase = int(rng.integers(2, 5)), float(rng.choice([0, 0.3, 1])), int(rng.choice([0, 0, 3]))
    one, other = (
        rf.Population.synthetic(
            "512KiB", arch=arch, seed=seed, orders=orders, kind="anon", young=young, aligned=phase == 0, phase=phase
        )
        for _ in range(2)
    )
    pages = one.nr_pages
    exclusive = np.repeat(rng.random(pages) < 0.5, rng.integers(1, 3 * block + 8, pages))[:pages]
    fails = rng.random(pages) < float(rng.choice([0, 0.03]))
    unused, device = rng.random((2, len(one.ptes))) < (0 if block > 1 else 0.05)
    for population in (one, other):
        population.folio_flags[:] &= ~FolioFlag.EXCLUSIVE
        population.folio_flags[:] |= FolioFlag.PAGE_FLAGS | FolioFlag.SWAPCACHE
        population.folio_refcount[:] += 1 << population.folio_order
        population.folio_swap[:] = (1 << 20) + population.folio_page_base
        population.page_flags[:] = np.where(exclusive, PageFlag.EXCLUSIVE, 0) | np.where(
            fails, PageFlag.SWAP_DUP_FAIL, 0
        )
        population.vma_flags[:] |= VmaFlag.UFFD_ARMED if armed else 0
        population.ptes[unused] |= pte.UNUSED
        population.ptes[device] = [
            pte.make("device_exclusive", int(pte.pfn(entry))) for entry in population.ptes[device]
        ]
    for folio, vma in pairs(other):
        made = [
            engine.try_to_unmap_one(world, folio, vma, policy=policy, arch=arch, ttu={"BATCH_FLUSH"})
            for engine, world in ((calls, one), (reference, other))
        ]
        assert_same_call(*made)
        assert_same_state(one, other)
        done["single calls on even folios"] += 1


def case(seed: int, done: Counter) -> None:
    """One case; an AssertionError or any other exception is a finding."""
    rng = np.random.default_rng(seed)
    if seed % 8 == 3:
        alike_run(seed, rng, done)
    elif seed % 16 == 5:
        batch_calls(seed, rng, done)
    else:
        (single_calls if rng.random() < 0.5 else whole_run)(seed, rng, done)


if __name__ == "__main__":
    sys.exit(run_lane("fuzz-twins", case, short_run=SHORT_RUN))
