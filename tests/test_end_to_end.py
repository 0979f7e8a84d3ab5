"""A run of a population whose arrays nobody got looks at them less. It finds what it would find with a full look."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_twins import assert_same_state

import rmapfast as rf
from rmapfast import calls
from rmapfast.flags import FolioFlag
from rmapfast.population import ARRAYS, Population

MIX = "0:10,2:20,4:70"
# x86-64 with contpte blocks: a run folds the entries of its copy.
SMALL = rf.arch.get("x86-64").replace(name="blocks", cont_ptes=4)
# What may happen between two runs. Each gets the population, what is kept of before, and a random generator.
STEPS = {}


def step(function):
    STEPS[function.__name__] = function
    return function


def change(population, rng):
    """Write to an array of a population, as a user does; the arrays may not fit together then."""
    name = str(rng.choice(["folio_flags", "ptes", "folio_refcount", "folio_order", "folio_index", "rmap_vma"]))
    array = getattr(population, name)
    if not len(array):
        return
    at = rng.integers(len(array), size=3)
    if name == "folio_flags":
        array[at] ^= np.uint32(rng.choice([FolioFlag.DIRTY, FolioFlag.SWAPBACKED, FolioFlag.PAGE_MAPCOUNTS]))
    elif name == "ptes":
        array[at] = 0
    else:
        array[at] += array.dtype.type(rng.integers(2) + 20 * (rng.random() < 0.1))


@step
def nothing(population, kept, rng):
    return population


@step
def run(population, kept, rng):
    kept.append(rf.reclaim(population, f"{rng.integers(90)}%").after)
    return population


@step
def run_in_place(population, kept, rng):
    rf.reclaim(population, f"{rng.integers(40)}%", in_place=True, progress=lambda _: population.describe())
    return population


@step
def other_lists(population, kept, rng):
    kept.append(rf.reclaim(population, "20%", lru="mglru", policy="v7.2", in_place=bool(rng.integers(2))).after)
    return population


@step
def advise(population, kept, rng):
    kept.append(rf.madvise(population, "MADV_PAGEOUT", in_place=bool(rng.integers(2))).after)
    return population


@step
def one_call(population, kept, rng):
    calls.try_to_unmap_one(population, int(rng.integers(population.nr_folios)), 0)
    return population


@step
def refold(population, kept, rng):
    population.refold(int(rng.choice([1, 16])))
    return population


@step
def keep_an_array(population, kept, rng):
    kept.append(population.folio_flags)
    return population


@step
def write(population, kept, rng):
    change(population, rng)
    return population


@step
def write_to_what_was_kept(population, kept, rng):
    if kept:
        one = kept[rng.integers(len(kept))]
        if isinstance(one, Population):
            change(one, rng)
        else:
            one[rng.integers(len(one))] ^= np.uint32(FolioFlag.SWAPBACKED)
    return population


@step
def write_to_a_copy(population, kept, rng):
    change(population.copy(), rng)
    return population


@step
def go_on_with_a_copy(population, kept, rng):
    kept.append(population)
    return population.copy()


@step
def go_on_with_other_arrays(population, kept, rng):
    flags = population.held("folio_flags").copy()
    kept.extend([population, flags])
    return population.with_arrays(folio_flags=flags)


@step
def go_on_with_what_is_left(population, kept, rng):
    kept.append(population)
    return rf.reclaim(population, "30%").after


@step
def go_on_with_the_same_arrays(population, kept, rng):
    kept.append(population)
    return copy.copy(population)


@step
def go_on_with_a_pickle(population, kept, rng):
    return pickle.loads(pickle.dumps(population))


@step
def set_an_array(population, kept, rng):
    population.lru_inactive = population.lru_inactive[::2].copy()
    return population


def rebuilt(population):
    """The same population of arrays that the package has not seen yet."""
    arrays = {name: population.held(name).copy() for name in ARRAYS}
    other = Population(
        ptrs_per_pte=population.ptrs_per_pte,
        page_shift=population.page_shift,
        cont_ptes=population.cont_ptes,
        arch=population.arch,
        **arrays,
    )
    other.lru_gen = population.lru_gen
    return other


def outcome(population, **options):
    """What a run gives, or its error."""
    try:
        result = rf.reclaim(population, "50%", **options)
    except ValueError as error:
        return str(error)
    return result


@settings(max_examples=250, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(STEPS)), max_size=6),
    st.sampled_from(["file", "anon", "lazyfree", "shmem"]),
    st.integers(0, 2**32 - 1),
)
def test_a_run_sees_whatever_happened_before(steps, kind, seed):
    rng = np.random.default_rng(seed)
    population = Population.synthetic("512KiB", orders=MIX, kind=kind, holes=0.02, arch="arm64-4k")
    kept = []
    try:
        for name in ["run", *steps]:
            population = STEPS[name](population, kept, rng)
    except ValueError:
        pass  # arrays that do not fit together any more are refused, below too
    other = rebuilt(population)
    found, wanted = outcome(population), outcome(other)
    if isinstance(wanted, str):
        assert found == wanted
        return
    assert dict(found.events) == dict(wanted.events) and found.batch_lengths == wanted.batch_lengths
    assert {**found.population, "source": None, "assumptions": None, "input_hash": None} == {
        **wanted.population,
        "source": None,
        "assumptions": None,
        "input_hash": None,
    }
    assert_same_state(found.after, wanted.after)
    assert_same_state(population, other)


def test_nobody_has_the_arrays_of_a_population_until_one_is_taken(monkeypatch):
    looks = []
    look = rf._core.check_population
    monkeypatch.setattr(rf._core, "check_population", lambda *arguments: looks.append(1) or look(*arguments))
    population = Population.synthetic("1MiB", orders=MIX)
    for policy in ("v7.0", "v6.15"):
        after = rf.reclaim(population, "50%", policy=policy).after
        repr(population), population.describe(), population.nbytes, population.rmap(0), population.page_mapcounts(0)
    assert len(looks) == 1
    after.folio_pfn.setflags(write=False)
    rf.reclaim(population, "50%")
    rf.reclaim(population, "50%")
    assert len(looks) == 3, "the PFNs of a result are those of the population"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"threads": 2},
        {"engine": "general"},
        {"entry": "pageout"},
        {"lru": "mglru", "policy": "v7.2"},
        {"arch": SMALL},
    ],
)
def test_no_call_takes_an_array_of_the_population(options):
    population = Population.synthetic("1MiB", orders=MIX)
    rf.reclaim(population, "50%", **options)
    rf.madvise(population, "MADV_COLD")
    rf.compare(population, "50%", policies=["v6.15", "v7.0"])
    assert not population.lent


@pytest.mark.parametrize("name", ["folio_flags", "ptes", "lru_inactive"])
def test_arrays_that_a_user_passed_are_looked_at_each_time(name):
    for other in (copy.copy, lambda population: population.with_arrays(**{name: population.held(name).copy()})):
        population = other(Population.synthetic("1MiB", orders=MIX))
        array = population.held(name)  # as the user has it
        before = rf.reclaim(population, "50%").population
        if name == "folio_flags":
            array[0] ^= np.uint32(FolioFlag.SWAPBACKED)
        elif name == "ptes":
            array[0] = 0
        else:
            array[0] = 2**32 - 1
            with pytest.raises(ValueError, match="no such folio"):
                rf.reclaim(population, "50%")
            continue
        assert rf.reclaim(population, "50%").population != before


def test_an_error_is_found_as_often_as_it_is_asked_for():
    population = Population.synthetic("1MiB", orders=MIX)
    for _ in range(2):
        with pytest.raises(ValueError, match="arch: "):
            rf.reclaim(population, "50%", arch="arm64-16k")
    rf.reclaim(population, "50%")
    population.ptrs_per_pte = 256
    for engine in rf.loop.ENGINES:
        with pytest.raises(ValueError, match="arch: "):
            rf.reclaim(population, "50%", arch="x86-64", engine=engine)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.sampled_from(["file", "anon", "shmem"]), st.floats(0, 1), st.booleans())
def test_unused_arrays_are_zero_and_can_be_written(pages, kind, holes, wait):
    """Also where their memory was that of other populations before."""
    population = Population.synthetic(pages * 4096, orders="0:30,4:70", kind=kind, holes=holes)
    flags = int(np.bitwise_or.reduce(population.held("folio_flags"), initial=0))
    for _ in range(2):
        other = population.copy()
        for name, flag in (
            ("page_mapcount", "PAGE_MAPCOUNTS"),
            ("page_flags", "PAGE_FLAGS"),
            ("folio_swap", "SWAPCACHE"),
        ):
            array = getattr(other, name)
            assert len(array) == len(population.held(name))
            if not flags & FolioFlag[flag]:
                assert not array.any()
            array[...] = 77
        other.folio_entire_mapcount[...] = 5
        if wait:
            kept = other
        assert not population.held("folio_entire_mapcount").any()
    assert not wait or (kept.folio_swap == 77).all()


def test_the_target_is_a_share_of_what_is_listed():
    """Of any list: in order, shuffled, in pieces, of one order or several."""
    rng = np.random.default_rng(3)
    population = Population.synthetic("8MiB", orders=MIX)
    order, nr = population.folio_order.astype(np.int64), population.nr_folios
    for lists in (np.arange(nr), rng.permutation(nr), np.concatenate([np.arange(50, 90), [3], np.arange(20, 41)])):
        population.lru_inactive = lists[1::2].astype(np.uint32) if rng.random() < 0.5 else lists.astype(np.uint32)
        population.lru_active = np.zeros(0, np.uint32)
        pages = int((1 << order[population.lru_inactive]).sum())
        assert rf.loop.target_bytes("100%", population) == pages * 4096
    population.lru_inactive = np.array([0, nr, 2**32 - 1], np.uint32)
    assert rf.loop.target_bytes("100%", population) == 4096 << int(order[0])
    with pytest.raises(ValueError, match=r"lru_inactive\[1\]: no such folio"):
        rf.reclaim(population, "100%")
