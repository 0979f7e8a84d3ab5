"""The lists of the LRU: both engines agree on random populations, and the start of MGLRU is that of kernels.

What the classic LRU does in which order is compared with :mod:`classic_model`; single isolations and look-arounds of
MGLRU are worked out by hand in tests/c.
"""

import numpy as np
import pytest
from classic_model import ClassicModel
from hypothesis import given, settings
from hypothesis import strategies as st
from random_populations import random_arch, random_population, random_swap
from test_twins import assert_same_state

import rmapfast as rf
from rmapfast import flags as flag_helpers
from rmapfast import loop
from rmapfast.flags import FolioFlag, folio_accesses, folio_generation, with_accesses, with_generation
from rmapfast.lru import HISTORY, LRU_STATS, LruGen, checked_history
from rmapfast.population import Population
from rmapfast.swap import Swap

PAGE = 4096
EDITIONS = ("v6.12", "v7.0", "v7.2", "v7.3")
WITH_MGLRU = [name for name, policy in rf.policy.PRESETS.items() if policy.mglru != "none"]
R, W = FolioFlag.REFERENCED, FolioFlag.WORKINGSET


# Random populations


def choice(rng, *values):
    return values[int(rng.integers(len(values)))]


def synthetic(rng, arch):
    """A synthetic population of odd options, with folios in odd states."""
    kind = choice(rng, "file", "file", "lazyfree", "anon", "shmem")
    steps = rng.choice(list(HISTORY), int(rng.integers(0, 4)))
    population = Population.synthetic(
        int(rng.integers(1, 250)) * arch.page_size,
        arch=arch.name,
        kind=kind,
        orders=choice(rng, "0", "2", "4", "9", "3", "0:10,4:70,9:20", "0:50,2:50"),
        young=choice(rng, 0, 0, 1, 0.5, 0.02),
        dirty=choice(rng, 0, 0, 0.1, 1),
        holes=choice(rng, 0, 0, 0.05),
        sharing=choice(rng, 1, 1, 2),
        folio_dirty=choice(rng, 0, 0, 0.1),
        mlocked=choice(rng, 0, 0, 0.1),
        exec=choice(rng, False, False, True),
        active=choice(rng, False, False, True),
        shuffle=choice(rng, False, False, True),
        external=choice(rng, 0, 0, 1),
        phase=choice(rng, 0, 0, 3, 500),
        uffd_wp=choice(rng, 0, 0, 0.2),
        mapped=1.0 if kind in ("anon", "lazyfree") else choice(rng, 1, 1, 0.8),
        history=",".join(steps),
        seed=int(rng.integers(1000)),
    )
    flags, n = population.folio_flags, population.nr_folios
    if rng.random() < 0.4:
        population.folio_refcount[rng.random(n) < 0.05] += 1
        for flag, share in (("LOCKED", 0.05), ("YOUNG", 0.05), ("WORKINGSET", 0.1), ("REFERENCED", 0.1)):
            flags[rng.random(n) < share] |= np.uint32(FolioFlag[flag])
        flags[:] = with_accesses(flags, np.where(rng.random(n) < 0.2, rng.integers(0, 4, n), 0))
    if rng.random() < 0.4:
        to_active = rng.random(len(population.lru_inactive)) < 0.4
        population.lru_active = np.concatenate([population.lru_active, population.lru_inactive[to_active]])
        population.lru_inactive = population.lru_inactive[~to_active]
        flags[population.lru_active] |= np.uint32(FolioFlag.ACTIVE)
    return population


def with_generations(population, rng):
    """The same with numbers of generations, and with a generation for some folios."""
    most = int(rng.integers(1, 9))
    lowest = [int(rng.integers(max(0, most - 3), most)) for _ in range(2)]
    population.lru_gen = LruGen(most, *lowest)
    listed = np.concatenate([population.lru_inactive, population.lru_active])
    some = listed[rng.random(len(listed)) < 0.5]
    swapbacked = population.folio_flags[some] & np.uint32(FolioFlag.SWAPBACKED) > 0
    oldest = np.where(swapbacked, *lowest)
    seq = oldest + (rng.random(len(some)) * (most + 1 - oldest)).astype(np.int64)
    word = population.folio_flags[some] & ~np.uint32(FolioFlag.ACTIVE)
    population.folio_flags[some] = with_generation(word, seq % 4 + 1)
    return population


def assert_same(one, other):
    for name in ("events", "referenced_events"):
        assert dict(getattr(one, name)) == dict(getattr(other, name)), name
    for name in ("batch_lengths", "isolated", "looked_around", "swap_used", "reclaimed_pages", "lru"):
        assert getattr(one, name) == getattr(other, name), name
    assert one.after.lru_gen == other.after.lru_gen
    assert_same_state(one.after, other.after)


def assert_sound(result, before, arch):
    """The arrays fit together, and each folio is where its flags say, once."""
    after = result.after
    loop.check_population(after, arch)
    listed = np.concatenate([after.lru_inactive, after.lru_active])
    flags = after.folio_flags
    assert len(np.unique(listed)) == len(listed)
    assert not np.any(flags[listed] & np.uint32(FolioFlag.FREED))
    # where both types of MGLRU were scanned in vain or for the second one, that is one isolation of this size
    assert sum(result.isolated.values()) <= result.events["isolation_calls"]
    assert sum(result.looked_around.values()) == result.events["look_arounds"]
    generation = folio_generation(flags)
    if result.lru == "classic":
        assert not generation.any() and not result.looked_around
        assert sum(result.isolated.values()) == result.events["isolation_calls"]
        return
    state = after.lru_gen
    assert np.array_equal(np.sort(listed), np.flatnonzero(generation))
    assert not np.any(flags[listed] & np.uint32(FolioFlag.ACTIVE))
    swapbacked = flags[listed] & np.uint32(FolioFlag.SWAPBACKED) > 0
    oldest = np.where(swapbacked, state.min_seq_anon, state.min_seq_file)
    assert np.all((generation[listed] - 1 - oldest) % 4 <= state.max_seq - oldest)
    assert state.max_seq == before.lru_gen.max_seq + result.events["ages"]


# Lists that count up are looked at in blocks: ranges about as long as a block and as a word of bits.
PIECES = st.lists(
    st.tuples(st.integers(0, 320), st.sampled_from([1, 1, 2, 15, 16, 17, 18, 33, 63, 64, 65, 130]), st.booleans()),
    max_size=12,
)


def lists_of(pieces):
    """The inactive and the active list: each piece is a range of folios that goes to the end of one of them."""
    lists = [[], []]
    for first, nr, active in pieces:
        lists[active] += range(first, first + nr)
    return [np.array(folios, np.uint32) for folios in lists]


def first_wrong(lists, nr_folios):
    """The first entry of the lists that is no folio or was listed before."""
    listed = set()
    for name, folios in zip(("inactive", "active"), lists, strict=True):
        for at, folio in enumerate(folios.tolist()):
            if folio >= nr_folios or folio in listed:
                rule = "no such folio" if folio >= nr_folios else "the folio is listed already"
                return f"population.lru_{name}[{at}]: {rule}"
            listed.add(folio)
    return None


@settings(max_examples=300, deadline=None)
@given(PIECES, st.integers(100, 450))
def test_the_check_of_the_lists_names_the_first_wrong_entry(pieces, pages):
    population = Population.synthetic(pages * PAGE, orders=0)
    population.lru_inactive, population.lru_active = lists_of(pieces)
    wrong = first_wrong((population.lru_inactive, population.lru_active), pages)
    if wrong is None:
        loop.check_population(population, rf.arch.get("x86-64"))
        return
    with pytest.raises(ValueError) as error:
        loop.check_population(population, rf.arch.get("x86-64"))
    assert str(error.value) == wrong


@settings(max_examples=150, deadline=None)
@given(PIECES, st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.01, 0.2]), st.booleans())
def test_what_is_not_scanned_leaves_the_lists_in_order(pieces, seed, share, swap):
    """Without anything to reclaim, a run only takes off its lists what the kernel does not scan."""
    rng = np.random.default_rng(seed)
    population = Population.synthetic(450 * PAGE, orders=choice(rng, "0", "0:50,2:50"), kind="shmem")
    nr = population.nr_folios
    for flag in (FolioFlag.FREED, FolioFlag.UNEVICTABLE, FolioFlag.MLOCKED):
        population.folio_flags[rng.random(nr) < share] |= np.uint32(flag)
    population.folio_flags[rng.random(nr) < share] &= ~np.uint32(FolioFlag.SWAPBACKED)
    lists = lists_of(pieces)
    _, first = np.unique(np.concatenate(lists), return_index=True)
    once = np.zeros(sum(map(len, lists)), bool)
    once[first] = True
    kept = np.split(once, [len(lists[0])])
    lists = [folios[mask & (folios < nr)] for folios, mask in zip(lists, kept, strict=True)]
    population.lru_inactive, population.lru_active = lists
    after = rf.reclaim(population, 0, swap=swap).after
    off = FolioFlag.FREED | FolioFlag.UNEVICTABLE | FolioFlag.MLOCKED | (0 if swap else FolioFlag.SWAPBACKED)
    scanned = population.folio_flags & np.uint32(off) == 0
    for name, folios in zip(("lru_inactive", "lru_active"), lists, strict=True):
        assert np.array_equal(getattr(after, name), folios[scanned[folios]]), name


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["mglru", "mglru", "classic"]), st.sampled_from(LRU_STATS))
def test_engines_agree(seed, lru, lru_stats):
    rng = np.random.default_rng(seed)
    arch = rf.arch.get(choice(rng, "x86-64", "arm64-4k", "riscv64", "arm64-16k"))
    before = synthetic(rng, arch)
    if lru == "mglru" and rng.random() < 0.4:
        with_generations(before, rng)
    pages = 1 << before.folio_order.astype(np.int64)
    room = int(rng.integers(1, pages.sum() + 1))
    options = {
        "policy": choice(rng, *(WITH_MGLRU if lru == "mglru" else rf.policy.PRESETS)),
        "swap": choice(rng, True, True, False, Swap(room), Swap(room, fragmented=True)),
        "lru": lru,
        "lru_stats": lru_stats,
        "max_ptes_none": choice(rng, None, None, None, int(rng.integers(0, 10))),
    }
    target = int(rng.integers(0, int(pages.sum() * 1.3) + 2)) * arch.page_size
    assert_agree(before, target, arch, options)


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["mglru", "mglru", "classic"]), st.sampled_from(LRU_STATS))
def test_engines_agree_on_odd_states(seed, lru, lru_stats):
    rng = np.random.default_rng(seed)
    arch = random_arch(rng)
    before = random_population(seed, arch)
    if lru == "mglru":
        with_generations(before, rng)
    options = {
        "policy": choice(rng, *(WITH_MGLRU if lru == "mglru" else rf.policy.PRESETS)),
        "swap": random_swap(rng),
        "lru": lru,
        "lru_stats": lru_stats,
    }
    assert_agree(before, int(rng.integers(1, 300)) * arch.page_size, arch, options)


def assert_agree(before, target, arch, options):
    results = [rf.reclaim(before, target, arch=arch, engine=engine, **options) for engine in loop.ENGINES]
    for other in results[1:]:
        assert_same(results[0], other)
    assert_sound(results[0], before, arch)


def test_random_populations_come_to_everything():
    """The runs above are not all alike: splits, ageing, promotions, retries, anonymous memory."""
    seen, ages = set(), 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        arch = rf.arch.get("x86-64")
        before = synthetic(rng, arch)
        swap = choice(rng, True, False)
        events = rf.reclaim(before, 600 * PAGE, policy=EDITIONS[seed % 4], lru="mglru", swap=swap).events
        seen |= {name for name, count in events.items() if count}
        ages += events["ages"]
    wanted = {
        *("look_arounds_young", "window_promotions", "aging_promotions", "folios_sorted", "folios_kept"),
        *("folios_activated", "folio_splits", "folios_written", "unmap_failures"),
    }
    assert wanted <= seen and ages > 50


# The classic LRU


@pytest.mark.parametrize("engine", loop.ENGINES)
@pytest.mark.parametrize("lru_stats", LRU_STATS)
@pytest.mark.parametrize("order", [0, 2, 4, 6])
def test_classic_lru(order, lru_stats, engine):
    """Isolations, passes, checks and what is left on each list, against the model."""
    folios = 300 >> (order // 2)
    for active in (False, True):
        for young in (False, True):
            model = ClassicModel(folios, order, young=young, active=active, low=active and lru_stats == "flushed")
            target = (folios << order) * 3 // 5
            counts = model.reclaim(target)
            before = Population.synthetic((folios << order) * PAGE, orders=order, young=young, active=active)
            result = rf.reclaim(before, target * PAGE, policy="v7.2", lru_stats=lru_stats, engine=engine)
            names = {
                "isolation_calls": "isolations",
                "shrink_calls": "groups",
                "active_passes": "active_passes",
                "priority_passes": "passes",
                "reclaim_rounds": "rounds",
                "referenced_calls": "checks",
                "folios_kept": "kept",
                "folios_activated": "activated",
                "folios_deactivated": "deactivated",
            }
            assert {name: result.events[name] for name in names} == {name: counts[key] for name, key in names.items()}
            assert result.events["folios_freed"] == len(model.freed)
            assert [result.after.lru_inactive.tolist(), result.after.lru_active.tolist()] == [
                list(queue) for queue in model.queues
            ]


@pytest.mark.parametrize(
    ("order", "active", "lru_stats", "expected"),
    [
        (4, True, "unflushed", (448, 436, 17, 1674, 817)),
        (4, True, "flushed", (445, 525, 16, 1807, 816)),
        (9, True, "unflushed", (26, 27, 9, 53, 26)),
        (9, True, "flushed", (26, 30, 9, 56, 26)),
        (0, False, "unflushed", (475, 0, 14, 13080, 13080)),
    ],
)
def test_recorded_reclaims(order, active, lru_stats, expected):
    """51 of 64 MiB on v7.2.13 and v6.12.117: docs/kernel-rules.md, section 10."""
    before = Population.synthetic("64MiB", orders=order, young=0, active=active)
    events = rf.reclaim(before, "51MiB", policy="v7.2", lru_stats=lru_stats).events
    names = ("isolation_calls", "active_passes", "reclaim_rounds", "referenced_calls", "folios_freed")
    assert tuple(events[name] for name in names) == expected


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(LRU_STATS))
def test_streamed_is_materialised(seed, lru_stats):
    rng = np.random.default_rng(seed)
    description = Population.described(
        int(rng.integers(1, 5000)) * PAGE,
        orders=choice(rng, "0", "4", "0:20,4:80", "9"),
        young=choice(rng, 0, 0.1, 1),
        active=choice(rng, False, False, True),
        seed=int(rng.integers(1000)),
    )
    target = int(rng.integers(1, description.pages + 1)) * PAGE
    one = rf.reclaim(description, target, policy="v7.2", lru_stats=lru_stats)
    whole = rf.reclaim(Population.of(description), target, policy="v7.2", lru_stats=lru_stats)
    for name in ("events", "referenced_events"):
        assert dict(getattr(one, name)) == dict(getattr(whole, name))
    for name in ("batch_lengths", "isolated", "reclaimed_pages"):
        assert getattr(one, name) == getattr(whole, name)


def test_mglru_of_a_described_population_is_materialised():
    description = Population.described("4MiB", orders="0:20,4:80", young=0.3)
    one = rf.reclaim(description, "3MiB", policy="v7.2", lru="mglru")
    assert one.after is not None
    assert_same(one, rf.reclaim(Population.of(description), "3MiB", policy="v7.2", lru="mglru"))


# Where the generations come from (docs/kernel-rules.md, section 9.8)


def started(edition, **options):
    """The flags of the first folio when a run begins."""
    state = options.pop("lru_gen", None)
    population = Population.synthetic("64KiB", **{"orders": 0} | options)
    population.lru_gen = state or population.lru_gen
    population.settle_generations(edition)
    return int(population.folio_flags[0])


def marks(word):
    """A folio's generation as an index, then which of R and W it has, and M."""
    word = np.uint32(word)
    letters = "".join(letter for letter, flag in (("R", R), ("W", W)) if int(word) & flag)
    return int(folio_generation(word)) - 1, letters, int(folio_accesses(word))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # write(2): to max_seq - 3; v6.12: to min_seq + 1, if there are four generations
        ({"history": "written"}, [(1, "", 0), (0, "", 0), (0, "", 0), (0, "", 0)]),
        ({}, [(1, "", 0), (0, "", 0), (0, "", 0), (0, "", 0)]),
        # a read marks, and moves nothing
        ({"history": "written,read"}, [(1, "R", 0), (0, "R", 0), (0, "R", 0), (0, "R", 0)]),
        ({"history": "written,read,read"}, [(1, "RW", 0), (0, "R", 1), (0, "R", 1), (0, "R", 1)]),
        ({"history": "written,read,read,read"}, [(1, "RW", 1), (0, "R", 2), (0, "R", 2), (0, "R", 2)]),
        # MADV_POPULATE_READ marks once for each PTE; all marks are there after five
        ({"history": "written,populated"}, [(1, "R", 0), (0, "R", 0), (0, "R", 0), (0, "R", 0)]),
        ({"history": "written,populated", "orders": 1}, [(1, "RW", 0), (0, "R", 1), (0, "R", 1), (0, "R", 1)]),
        ({"history": "written,populated", "orders": 2}, [(1, "RW", 2), (0, "R", 3), (0, "R", 3), (0, "R", 3)]),
        ({"history": "written,populated", "orders": 3}, [(1, "RW", 3), (0, "RW", 3), (0, "RW", 3), (0, "RW", 3)]),
        ({"history": "written,populated", "orders": 4}, [(1, "RW", 3), (0, "RW", 3), (0, "RW", 3), (0, "RW", 3)]),
        # clear_refs takes R alone, and of mapped folios alone
        ({"history": "written,populated,cleared", "orders": 4}, [(1, "W", 3), (0, "W", 3), (0, "W", 3), (0, "W", 3)]),
        ({"history": "written,read,cleared", "mapped": 0}, [(1, "R", 0), (0, "R", 0), (0, "R", 0), (0, "R", 0)]),
        # read from disk by a fault: active, to max_seq (v6.12) or max_seq - 1; v7.2 sets R: max_seq - 2
        ({"history": "faulted"}, [(3, "", 0), (2, "", 0), (1, "R", 0), (1, "R", 0)]),
        # as 2M folios of a MADV_HUGEPAGE mapping, where clear_refs took R away later
        ({"history": "faulted,cleared"}, [(3, "", 0), (2, "", 0), (1, "", 0), (1, "", 0)]),
        # anonymous memory: max_seq - 1
        ({"kind": "anon"}, [(2, "", 0), (2, "", 0), (2, "R", 0), (2, "R", 0)]),
        ({"kind": "shmem", "history": "written"}, [(2, "", 0), (2, "", 0), (2, "", 0), (2, "", 0)]),
        # MADV_FREE adds it as file memory: v7.2 keeps the R of the fault, v6.12 clears it
        ({"kind": "lazyfree"}, [(1, "", 0), (0, "", 0), (1, "R", 0), (1, "R", 0)]),
        ({"kind": "lazyfree", "history": "faulted,freed,cleared"}, [(1, "", 0), (0, "", 0), (1, "", 0), (1, "", 0)]),
        # folios of the active list without a history of their own: A
        ({"active": True}, [(3, "", 0), (2, "", 0), (2, "", 0), (2, "", 0)]),
        # a memory cgroup that was emptied before: two generations, 4 and 5, and all goes to 4
        ({"lru_gen": LruGen(5, 4, 4)}, [(0, "", 0)] * 4),
        # three, 1 to 3: v6.12 has min_seq + 2 >= max_seq
        ({"lru_gen": LruGen(3, 1, 1)}, [(1, "", 0)] * 4),
        ({"lru_gen": LruGen(3, 1, 1), "history": "faulted"}, [(3, "", 0), (2, "", 0), (1, "R", 0), (1, "R", 0)]),
    ],
)
def test_history(options, expected):
    assert [marks(started(edition, **options)) for edition in EDITIONS] == expected


def test_steps_of_one_history_add_up():
    """Of v7.2: W of a folio that was fully marked sends a later fault to the youngest generation."""
    assert marks(started("v7.2", history="populated,faulted", orders=4)) == (3, "RW", 3)
    # and W or R of one that is added again to max_seq - 2
    assert marks(started("v7.2", history="read,written")) == (1, "R", 0)
    assert marks(started("v7.0", history="read,written")) == (0, "R", 0)
    assert marks(started("v7.0", history="populated,written", orders=4)) == (1, "RW", 3)
    assert marks(started("v6.12", history="populated,written", orders=4)) == (1, "RW", 3)


def test_a_generation_that_is_given_stays():
    population = Population.synthetic("64KiB", orders=0)
    population.folio_flags[3] = with_generation(population.folio_flags[3:4], 3)[0]
    population.settle_generations("v7.2")
    assert folio_generation(population.folio_flags).tolist() == [1, 1, 1, 3] + [1] * 12
    # the classic LRU has none
    population.settle_generations(None)
    assert not folio_generation(population.folio_flags).any()


def test_history_and_generations_decide_what_goes_first():
    """The folios of the oldest generation go, in the order of their list."""
    population = Population.synthetic("1MiB", orders=4, young=0)
    generation = np.array([2, 1, 3, 1] * 4)
    population.folio_flags[:] = with_generation(population.folio_flags, generation)
    # 48 pages in rounds of 32: of 256 priorities 8 and 7 take a folio each; of 224 priority 7 takes one and 6 three
    first = np.flatnonzero(generation == 1)[:6]
    for engine in loop.ENGINES:
        result = rf.reclaim(population, "192KiB", policy="v7.2", lru="mglru", engine=engine)
        assert np.array_equal(np.flatnonzero(result.after.folio_flags & np.uint32(FolioFlag.FREED)), first)
        assert result.isolated == {16: 3, 48: 1} and result.events["ages"] == 0


# Flags


@given(
    st.lists(st.tuples(st.integers(0, (1 << 23) - 1), st.integers(0, 7), st.integers(0, 3)), min_size=1, max_size=20)
)
def test_fields_of_the_flags(rows):
    flags, generation, accesses = (np.array(column) for column in zip(*rows, strict=True))
    flags = flags.astype(np.uint32)
    changed = with_accesses(with_generation(flags, generation), accesses)
    assert changed.dtype == np.uint32
    assert folio_generation(changed).tolist() == generation.tolist()
    assert folio_accesses(changed).tolist() == accesses.tolist()
    for flag in FolioFlag:  # all others are as they were
        assert np.array_equal(changed & np.uint32(flag), flags & np.uint32(flag))
    assert np.array_equal(
        with_generation(with_accesses(changed, folio_accesses(flags)), folio_generation(flags)), flags
    )


def test_fields_and_flags_do_not_overlap():
    everything = np.uint32(sum(FolioFlag))
    assert folio_generation(everything) == folio_accesses(everything) == 0
    assert flag_helpers.folio_kind(with_generation(np.array([3], np.uint32), 4)).tolist() == [2]


# Bad input


@pytest.mark.parametrize(
    ("history", "error", "words"),
    [
        ("writen", ValueError, ["no such step 'writen'", "written"]),
        ("written,,read", ValueError, ["no such step ''"]),
        ("written;read", ValueError, ["no such step"]),
        (3, TypeError, ["history", "got 3"]),
        (None, TypeError, ["history"]),
    ],
)
def test_bad_history(history, error, words):
    with pytest.raises(error) as caught:
        checked_history(history)
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)


def test_good_history():
    assert checked_history("") == checked_history("  ") == ()
    assert checked_history("written, populated ,cleared") == ("written", "populated", "cleared")


@pytest.mark.parametrize(
    ("numbers", "error", "name"),
    [
        ((0, 0, 0), ValueError, "lru_gen.max_seq"),
        ((3, 3, 0), ValueError, "lru_gen.min_seq_anon"),
        ((3, 0, 3), ValueError, "lru_gen.min_seq_file"),
        ((5, 1, 3), ValueError, "lru_gen.min_seq_anon"),
        ((5, 2, 1), ValueError, "lru_gen.min_seq_file"),
        ((3, -1, 0), ValueError, "lru_gen.min_seq_anon"),
        (("3", 0, 0), TypeError, "lru_gen.max_seq"),
        ((3, 0.5, 0), TypeError, "lru_gen.min_seq_anon"),
    ],
)
def test_bad_numbers_of_generations(numbers, error, name):
    with pytest.raises(error, match=name):
        LruGen(*numbers)


def small(**changes):
    population = Population.synthetic("64KiB", orders=0)
    for folio, word in changes.pop("flags", {}).items():
        population.folio_flags[folio] = word
    for name, value in changes.items():
        setattr(population, name, value)
    return population


def generation_word(generation, flags=0):
    return with_generation(np.array([flags], np.uint32), generation)[0]


@pytest.mark.parametrize(
    ("population", "options", "words"),
    [
        ({}, {"lru": "mglru", "entry": "pageout"}, ["lru", "pageout"]),
        ({}, {"lru": "lists"}, ["lru", "'lists'", "classic"]),
        ({}, {"lru_stats": "stale"}, ["lru_stats", "'stale'", "unflushed"]),
        ({}, {"lru": "mglru", "policy": "v6.14"}, ["lru", "v6.14", "v7.2", "classic"]),
        ({}, {"lru": "mglru", "policy": "v7.1"}, ["lru", "v7.1"]),
        # more than there can be, and one that is not there now
        ({"flags": {5: generation_word(5)}}, {"lru": "mglru"}, ["population.lru_inactive[5]", "generation"]),
        ({"flags": {5: generation_word(7)}}, {"lru": "mglru"}, ["population.lru_inactive[5]", "generation"]),
        (
            {"flags": {5: generation_word(1)}, "lru_gen": LruGen(3, 0, 1)},
            {"lru": "mglru"},
            ["population.lru_inactive[5]", "generation"],
        ),
        # marks that contradict each other
        ({"flags": {5: generation_word(2, FolioFlag.ACTIVE)}}, {"lru": "mglru"}, ["lru_inactive[5]", "ACTIVE"]),
        ({"history": "swapped"}, {"lru": "mglru"}, ["history", "'swapped'"]),
    ],
)
def test_bad_input(population, options, words):
    for engine in loop.ENGINES:
        with pytest.raises(ValueError) as caught:
            rf.reclaim(small(**population), 8 * PAGE, engine=engine, **{"policy": "v7.2"} | options)
        message = str(caught.value)
        assert all(word in message for word in words) and "\n" not in message, message


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["--lru", "mglru", "--policy", "v6.14"], "v6.14"),
        (["--lru", "mglru", "--entry", "pageout"], "pageout"),
        (["--lru", "lists"], "lists"),
        (["--lru-stats", "stale"], "stale"),
        (["--lru", "mglru", "--history", "writen", "--policy", "v7.2"], "writen"),
    ],
)
def test_bad_command(run, argv, word):
    status, out, err = run("reclaim", "--size", "1MiB", *argv)
    assert status == 2 and not out and word in err and err.startswith("rmapfast") and err.count("\n") == 1, err


# Results that are saved, and sweeps


def test_a_saved_result_keeps_its_lists(tmp_path):
    population = Population.synthetic("2MiB", orders=4, active=True, history="faulted")
    for number, options in enumerate(
        ({"lru": "mglru"}, {"lru": "classic", "lru_stats": "flushed"}, {"lru": "classic", "lru_stats": "unflushed"})
    ):
        result = rf.reclaim(population, "1MiB", policy="v7.2", **options)
        path = tmp_path / f"{number}.json"
        rf.save(result, path)
        (loaded,) = rf.load(path).runs
        assert loaded.lru == result.lru == options["lru"]
        assert loaded.isolated == result.isolated and loaded.looked_around == result.looked_around
        assert dict(loaded.events) == dict(result.events)
        assert rf.rerun(path).same
    # they do differ, so that a forgotten argument is found
    assert len({rf.load(tmp_path / f"{number}.json").runs[0].events["active_passes"] for number in range(3)}) == 3


def test_a_saved_comparison_keeps_its_lists(tmp_path):
    comparison = rf.compare(Population.described("2MiB", young=0.5), "1MiB", policies=["v7.0", "v7.2"], lru="mglru")
    rf.save(comparison, tmp_path / "a.json")
    assert {one.lru for one in rf.load(tmp_path / "a.json").runs} == {"mglru"}
    assert rf.rerun(tmp_path / "a.json").same


def test_sweep():
    space = {
        "population.size": "2MiB",
        "population.active": True,
        "population.young": 0,
        "population.order": 4,
        "policy": ["v7.0", "v7.2"],
        "target": "1MiB",
        "lru": ["classic", "mglru"],
        "lru_stats": ["unflushed", "flushed"],
    }
    swept = rf.sweep(space).to_xarray()
    before = Population.synthetic("2MiB", active=True, young=0, orders=4)
    seen = set()
    for policy in ("v7.0", "v7.2"):
        for lru in ("classic", "mglru"):
            for lru_stats in LRU_STATS:
                events = rf.reclaim(before, "1MiB", policy=policy, lru=lru, lru_stats=lru_stats).events
                point = {"policy": policy, "lru": lru, "lru_stats": lru_stats}
                np.testing.assert_array_equal(swept.sel(point)["events"].squeeze(), events.counts)
                seen.add((lru, lru_stats, events["isolation_calls"], events["active_passes"]))
    assert len({row[2:] for row in seen}) >= 3
