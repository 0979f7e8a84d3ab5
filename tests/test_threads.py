"""Threads that visit the folios of a population in memory leave what one thread leaves, or are refused."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from random_populations import random_arch, random_policy, random_population, random_swap
from test_fast_paths import edit, irregular_population, some_population
from test_twins import assert_same_state

import rmapfast as rf
from rmapfast import loop, parallel

RULES = Path(__file__).parent / "data" / "rules" / "restated.c"
REFUSED = "threads: expected 1 for this population, "
seeds = st.integers(0, 2**32 - 1)


class OneByOne:
    """A pool that lets one worker after the other visit, in an order that is drawn: the first one visits all."""

    def __init__(self, rng):
        self.rng = rng

    def in_order(self, function, tasks):
        for task in self.rng.permutation(list(tasks)).tolist():
            yield task, function(task)


@contextlib.contextmanager
def shared_out(pages, rng=None):
    """Share out also what is not worth it; with `rng` in an order that no machine would choose."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "AHEAD_PAGES", pages)
        if rng is not None:
            patch.setattr(parallel, "opened", lambda *_: contextlib.nullcontext(OneByOne(rng)))
        yield


def assert_same(one, other):
    np.testing.assert_array_equal(one.events.counts, other.events.counts)
    np.testing.assert_array_equal(one.referenced_events.counts, other.referenced_events.counts)
    assert one.batch_lengths == other.batch_lengths
    assert one.isolated == other.isolated
    assert one.reclaimed_pages == other.reclaimed_pages
    assert one.swap_used == other.swap_used
    assert_same_state(one.after, other.after)


def assert_threads_do_not_show(rng, population, **arguments):
    """Reclaim by 2 to 4 threads as by one. Returns whether that was done, and not refused."""
    target = arguments.pop("target", None) or int(rng.integers(1, 2 * len(population.page_flags) + 1))
    target <<= population.page_shift
    one = rf.reclaim(population, target, **arguments)
    for threads in (2, 4, int(rng.integers(2, 9))):
        with shared_out(int(rng.choice([1, 1, 2, 30])), rng if rng.random() < 0.8 else None):
            try:
                several = rf.reclaim(population, target, threads=threads, **arguments)
            except ValueError as error:
                assert REFUSED in str(error)
                event(str(error).split(", ")[1].split("; got")[0][-30:])
                assert_same(rf.reclaim(population, target, threads=None, **arguments), one)
                return False
        assert_same(several, one)
    return True


def only_file_folios(population):
    """Leave those on the LRU lists, and nothing on the deferred-split queue."""
    population.folio_flags &= ~np.uint32(rf.flags.FolioFlag.PARTIALLY_MAPPED)
    for name in ("lru_inactive", "lru_active"):
        folios = getattr(population, name)
        flags = population.folio_flags[folios]
        anon = flags & np.uint32(rf.flags.FolioFlag.ANON | rf.flags.FolioFlag.SWAPBACKED)
        setattr(population, name, folios[anon == 0])
    return population


def bring_together(rng, population):
    """Give some folios the place of others, and some entries that of others, so that visits depend on each other."""
    for array, rate in (
        (population.folio_index, 0.2),
        (population.ptes, 0.1),
        (population.rmap_vma, 0.1),
        (population.folio_page_base, 0.03),
    ):
        for i in np.flatnonzero(rng.random(len(array)) < rate * rng.random()):
            array[i] = array[min(max(i + int(rng.integers(-3, 4)), 0), len(array) - 1)]
    population.folio_page_base[:] = np.minimum(
        population.folio_page_base, len(population.page_flags) - (1 << population.folio_order.astype(np.uint64))
    )


@settings(max_examples=400, deadline=None)
@given(seeds, st.sampled_from([0.0, 0.02, 0.15]), st.booleans())
def test_odd_states(seed, odd, together):
    rng = np.random.default_rng(seed)
    arch = random_arch(rng)
    population = random_population(seed, arch, odd=odd)
    if together:
        bring_together(rng, population)
    if rng.random() < 0.9:
        population = only_file_folios(population)
    options = {"policy": random_policy(rng), "arch": arch, "swap": random_swap(rng)}
    done = assert_threads_do_not_show(rng, population, engine=str(rng.choice(["c", "general"])), **options)
    event("shared out" if done else "refused")


@settings(max_examples=60, deadline=None)
@given(seeds, st.sampled_from([some_population, irregular_population]))
def test_described_and_edited(seed, make):
    rng = np.random.default_rng(seed)
    arch = rf.arch.get(str(rng.choice(list(rf.arch.PRESETS))))
    population = make(rng, arch)
    if make is some_population and rng.random() < 0.5:
        edit(rng, population)
    if rng.random() < 0.7:
        population = only_file_folios(population)
    done = assert_threads_do_not_show(rng, population, policy=random_policy(rng), arch=arch, swap=bool(rng.integers(2)))
    event("shared out" if done else "refused")


@settings(max_examples=80, deadline=None)
@given(seeds, st.sampled_from(list(rf.policy.PRESETS)))
def test_the_page_cache_is_never_refused(seed, policy):
    rng = np.random.default_rng(seed)
    arch = rf.arch.get(str(rng.choice(list(rf.arch.PRESETS))))
    population = rf.Population.synthetic(
        int(rng.integers(1, 4000)) << arch.page_shift,
        arch=arch,
        orders=str(rng.choice(["0", "2", "4", "9", "0:10,4:70,9:20"])),
        young=float(rng.choice([0.0, 0.5, 1.0])),
        dirty=float(rng.choice([0.0, 0.1])),
        holes=float(rng.choice([0.0, 0.05])),
        sharing=int(rng.choice([1, 1, 2])),
        phase=int(rng.choice([0, 1, 500])),
        shuffle=bool(rng.integers(2)),
        active=bool(rng.random() < 0.3),
        seed=int(rng.integers(1000)),
    )
    options = {"policy": policy, "arch": arch, "lru_stats": str(rng.choice(["flushed", "unflushed"]))}
    assert assert_threads_do_not_show(rng, population, **options)


def test_threads_at_the_same_time(monkeypatch):
    population = rf.Population.synthetic("256MiB", orders="0:10,4:70,9:20", young=0.5, holes=0.01, shuffle=True)
    one = rf.reclaim(population, "80%")
    for threads in (2, 4, 7):
        assert_same(rf.reclaim(population, "80%", threads=threads), one)
    monkeypatch.setattr(loop, "AUTOMATIC_PAGES", 1)
    assert_same(rf.reclaim(population, "80%", threads=None), one)


def test_what_cannot_be_met_ends_after_as_many_rounds():
    # folios that somebody else holds are kept for ever
    population = rf.Population.synthetic("4MiB", orders=2)
    population.folio_refcount[:] += 1
    rng = np.random.default_rng(1)
    assert assert_threads_do_not_show(rng, population, target=1024)
    assert rf.reclaim(population, "4MiB").events["reclaim_rounds"] == 16


@pytest.mark.parametrize("in_place", [True, False])
def test_an_interrupt_leaves_a_consistent_population(in_place):
    population = rf.Population.synthetic("64MiB", orders=4, young=0.0)
    before = population.copy()

    def interrupt(_):
        raise KeyboardInterrupt

    with shared_out(1), pytest.raises(KeyboardInterrupt):
        rf.reclaim(population, "64MiB", threads=2, in_place=in_place, progress=interrupt)
    if not in_place:
        assert_same_state(population, before)
        return
    freed = population.folio_flags & np.uint32(rf.flags.FolioFlag.FREED) != 0
    assert freed.any()
    assert not freed[population.lru_inactive].any()
    rf.reclaim(population, "1MiB")


def test_an_interrupt_amid_the_visits(monkeypatch):
    population = rf.Population.synthetic("64MiB", orders=4, young=0.0)

    class Interrupted(OneByOne):
        def in_order(self, function, tasks):
            raise KeyboardInterrupt
            yield

    with shared_out(1):
        monkeypatch.setattr(parallel, "opened", lambda *_: contextlib.nullcontext(Interrupted(None)))
        with pytest.raises(KeyboardInterrupt):
            rf.reclaim(population, "32MiB", threads=2, in_place=True)
    freed = population.folio_flags & np.uint32(rf.flags.FolioFlag.FREED) != 0
    assert (int(freed.sum()) << 4) == 32 << 8  # the visits that were begun
    assert not freed[population.lru_inactive].any()


def test_the_first_nonsense_of_a_rule_is_the_error():
    policy = rf.policy.get("v7.0").replace(rule=f"{RULES}:late_nonsense")
    population = rf.Population.synthetic("1MiB", orders="2:1,3:1", young=0.0)
    with pytest.raises(ValueError, match=r"policy\.rule") as one:
        rf.reclaim(population, "1MiB", policy=policy)
    for seed in range(8):
        with shared_out(1, np.random.default_rng(seed)), pytest.raises(ValueError, match=r"policy\.rule") as several:
            rf.reclaim(population, "1MiB", policy=policy, threads=4)
        assert str(several.value) == str(one.value)


def twice_in_place(population):
    """Folio 2 has the page offset of folio 1, so that both belong into the same slots."""
    population.folio_index[2] = population.folio_index[1]


def out_of_place(population):
    """The entries of the first folio are in reverse order."""
    population.ptes[:4] = population.ptes[:4][::-1]


def same_pages(population):
    population.folio_page_base[2] = population.folio_page_base[1]


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (twice_in_place, "folio 2 has page-table entries where another folio on the LRU lists has some"),
        (out_of_place, "folio 0 is mapped by entries that are not where its pages belong"),
        (same_pages, "folio 2 has the place in the page arrays that another folio has"),
    ],
)
def test_folios_that_depend_on_each_other_are_named(spoil, why):
    population = rf.Population.synthetic("1MiB", orders=2)
    spoil(population)
    before = population.copy()
    with pytest.raises(ValueError, match=f"{REFUSED}{why}"):
        rf.reclaim(population, "80%", threads=2)
    assert_same_state(population, before)
    # nobody comes to a folio that is on no list
    population.lru_inactive = population.lru_inactive[3:].copy()
    with shared_out(1):
        rf.reclaim(population, "80%", threads=2)


@pytest.mark.parametrize(
    ("arguments", "options", "why"),
    [
        ({"kind": "anon"}, {}, "folio 0 is no folio of the page cache: it may take swap slots in its turn"),
        ({"kind": "shmem"}, {}, "folio 0 is no folio of the page cache"),
        ({"kind": "lazyfree"}, {}, "folio 0 is no folio of the page cache"),
        ({"kind": "anon", "holes": 0.1}, {}, "folios are on the deferred-split queue, which each pass shrinks"),
        ({}, {"lru": "mglru", "policy": "v7.2"}, "the multi-gen LRU looks around each folio"),
        ({}, {"engine": "reference"}, "expected 1, the reference visits one folio after the other"),
        ({}, {"entry": "pageout"}, "expected 1, MADV_PAGEOUT visits one folio after the other"),
        (
            {},
            {"engine": "reference", "policy": lambda folio, vma, walk, pte: 1},
            "expected 1, the reference visits one folio after the other",
        ),
    ],
    ids=str,
)
def test_threads_are_never_ignored(arguments, options, why):
    population = rf.Population.synthetic("1MiB", orders=4, **arguments)
    with pytest.raises(ValueError, match=r"^threads: expected 1") as error:
        rf.reclaim(population, "512KiB", threads=2, **options)
    assert why in str(error.value)
    assert "got 2" in str(error.value)
    assert rf.reclaim(population, "512KiB", threads=None, **options).events["folios_scanned"]


def test_without_swap_only_the_page_cache_is_scanned():
    file, anon = (rf.Population.synthetic("1MiB", orders=4, kind=kind) for kind in ("file", "anon"))
    assert file.nr_folios == anon.nr_folios
    with shared_out(1):
        rf.reclaim(anon, "512KiB", swap=False, threads=2)
        rf.reclaim(file, "512KiB", swap=False, threads=2)


def test_compare_takes_threads():
    population = rf.Population.synthetic("4MiB", orders=4)
    with shared_out(1):
        several = rf.compare(population, "2MiB", policies=["v6.16", "v7.0"], threads=2)
    one = rf.compare(population, "2MiB", policies=["v6.16", "v7.0"])
    for left, right in zip(several.runs, one.runs, strict=True):
        np.testing.assert_array_equal(left.events.counts, right.events.counts)
