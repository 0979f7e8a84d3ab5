"""Arrays that a hostile or careless user passes: none makes the library read or write outside of them."""

import threading
from itertools import cycle

import numpy as np
import pytest

import rmapfast as rf
from rmapfast import calls, loop
from rmapfast.population import ARRAYS

# What a run writes, as csrc/population.c says.
WRITTEN = (
    "ptes",
    "table_state",
    "folio_flags",
    "folio_refcount",
    "folio_mapcount",
    "folio_entire_mapcount",
    "folio_nr_pages_mapped",
    "folio_swap",
    "page_mapcount",
    "page_flags",
    "mm_rss",
)
MIX = {"orders": "0:10,2:20,4:70", "sharing": 2}
CALLS = ({"entry": "memory.reclaim"}, {"entry": "pageout"}, {"entry": "memory.reclaim", "lru": "mglru"})


def shared_with(population, written, other):
    """Give `other` the values that it has in memory that `written` holds too; None if that is not possible."""
    a, b = getattr(population, written), getattr(population, other)
    buffer = np.zeros(max(a.nbytes, b.nbytes) + 16, np.uint8)
    both = [buffer[: array.nbytes].view(array.dtype).reshape(array.shape) for array in (a, b)]
    both[0][...] = a
    both[1][...] = b
    return population.with_arrays(**{written: both[0], other: both[1]})


@pytest.mark.parametrize("written", WRITTEN)
def test_a_written_array_shares_memory_with_no_other(written):
    population = rf.Population.synthetic("256KiB", **MIX)
    for other in ARRAYS:
        if other == written or not getattr(population, other).nbytes:
            continue
        hostile = shared_with(population, written, other)
        either = rf"population\.(?:{written}|{other})"
        with pytest.raises(ValueError, match=f"{either}, {either}: "):
            rf.reclaim(hostile, "64KiB", in_place=True)


def test_arrays_that_overlap_in_part_are_refused_and_read_only_ones_may_be_the_same():
    population = rf.Population.synthetic("256KiB", **MIX)
    buffer = np.zeros(3 * len(population.folio_flags), np.uint32)
    nr = len(population.folio_flags)
    flags, refs = buffer[:nr], buffer[nr - 1 : 2 * nr - 1].view(np.int32)
    flags[:] = population.folio_flags
    with pytest.raises(ValueError, match="share memory"):
        rf.reclaim(population.with_arrays(folio_flags=flags, folio_refcount=refs), "64KiB")
    same = population.with_arrays(vma_window_start=population.vma_start)
    assert rf.reclaim(same, "64KiB").reclaimed_pages == rf.reclaim(population, "64KiB").reclaimed_pages


@pytest.mark.parametrize("name", ARRAYS)
def test_subclasses_and_none_are_refused(name):
    population = rf.Population.synthetic("64KiB", **MIX)
    array = getattr(population, name)
    for hostile in (np.ma.masked_array(array), array.view(np.recarray), None, array.tolist()):
        with pytest.raises(TypeError, match=f"{name}: expected"):
            population.with_arrays(**{name: hostile})
        edited = population.copy()
        setattr(edited, name, hostile)
        with pytest.raises(TypeError, match=f"{name}: expected"):
            calls.try_to_unmap_one(edited, 0, 0)


@pytest.mark.parametrize("hostile", [None, np.ma.masked_array(np.zeros(4, np.uint64)), [0], "ptes"])
def test_a_scan_takes_plain_arrays_only(hostile):
    with pytest.raises(TypeError, match="ptes: expected"):
        rf.folio_pte_batch(hostile, folio_pfn=1, folio_pages=1)


def resize_all(population):
    """Try to move the memory of every array, as ndarray.resize() does; return the names of those that moved."""
    moved = []
    for name in ARRAYS:
        array = getattr(population, name)
        try:
            array.resize(array.size * 3 + 7, refcheck=False)
        except ValueError:
            continue
        moved.append(name)
    return moved


def test_arrays_do_not_move_while_a_run_lives(monkeypatch):
    monkeypatch.setattr(loop, "BUDGET", 1000)  # many looks
    population = rf.Population.synthetic("4MiB", **MIX)
    owned = population.with_arrays(**{name: getattr(population, name).copy() for name in ARRAYS})
    moved = []
    rf.reclaim(owned, "2MiB", in_place=True, progress=lambda _: moved.append(resize_all(owned)))
    assert moved and all(set(names) <= {"lru_inactive", "lru_active"} for names in moved)
    run = rf._core.Run(owned, rf.policy.get("v7.0"), rf.arch.get("x86-64"))
    assert set(resize_all(owned)) <= {"lru_inactive", "lru_active"}
    del run
    views = population.with_arrays(ptes=np.append(population.ptes, np.uint64(0))[:-1])
    run = rf._core.Run(views, rf.policy.get("v7.0"), rf.arch.get("x86-64"))
    with pytest.raises(ValueError):
        views.ptes.base.resize(10**6, refcheck=False)
    del run
    assert "ptes" in resize_all(owned), "resize() works again when the run is over"


def hostile_values(array, draw):
    """Values at the edges of the dtype, and any others."""
    info = np.iinfo(array.dtype)
    edges = np.array([info.min, info.max, 0, 1, info.max // 2 + 1], array.dtype)
    noise = draw.integers(info.min, info.max, array.shape, array.dtype, endpoint=True)
    return np.where(draw.random(array.shape) < 0.5, draw.choice(edges, array.shape), noise)


@pytest.mark.parametrize("kind", ["file", "anon", "lazyfree"])
def test_a_thread_that_writes_to_every_array_cannot_crash_a_run(kind):
    """Results are worthless then. An error is right too; a crash of the process is not."""
    draw = np.random.default_rng(5)
    arch = rf.arch.get("arm64-4k")
    population = rf.Population.synthetic("64MiB", kind=kind, holes=0.01, arch=arch, **MIX)
    arrays = {name: getattr(population, name).copy() for name in ARRAYS}
    good = {name: array.copy() for name, array in arrays.items()}
    bad = {name: hostile_values(array, draw) for name, array in arrays.items()}
    bad["table_state"] = draw.integers(0, 3, len(good["table_state"])).astype(np.uint8)
    over = threading.Event()

    def write():
        """Leave a run time to begin between two writes: what it finds wrong at the start is refused."""
        for pause in cycle((0.0003, 0.0003, 0.0003, 0.02)):
            if over.wait(pause):
                return
            name = draw.choice(list(ARRAYS))
            arrays[name][...] = bad[name]
            arrays[name][...] = good[name]

    writer = threading.Thread(target=write)
    writer.start()
    finished = 0
    try:
        for attempt in range(240):
            in_place = attempt % 2 == 0
            for name, array in arrays.items():
                array[...] = good[name]
            try:
                population = population.with_arrays(**arrays)
                call = CALLS[attempt // 2 % len(CALLS)]
                policies = ("v6.12", "v7.0", "v7.2", "v7.3") if "lru" in call else ("v7.0", "v6.15", "per-page", "v7.3")
                policy = policies[attempt // (2 * len(CALLS)) % len(policies)]
                rf.reclaim(population, "48MiB", policy=policy, arch=arch, in_place=in_place, **call)
                finished += 1
            except ValueError:
                continue
    finally:
        over.set()
        writer.join()
    assert finished, "no run came past its check: the test tries nothing"


def test_a_thread_that_writes_the_rmap_cannot_crash_a_run():
    """copy() shares the rmap, so that it can change under a run of a copy too."""
    population = rf.Population.synthetic("64MiB", holes=0.01, **MIX)
    good, over = population.rmap_vma.copy(), threading.Event()
    starts, bad = population.rmap_start.copy(), np.full_like(good, 2**32 - 1)

    def write():
        for pause in cycle((0.002, 0.002, 0.002, 0.05)):
            if over.wait(pause):
                return
            population.rmap_vma[...] = bad
            population.rmap_start[1:] = 2**63
            population.rmap_vma[...] = good
            population.rmap_start[...] = starts

    writer = threading.Thread(target=write)
    writer.start()
    finished = 0
    try:
        for _ in range(300):
            try:
                rf.reclaim(population, "48MiB")
                finished += 1
            except ValueError:
                continue
    finally:
        over.set()
        writer.join()
    assert finished, "no run came past its check: the test tries nothing"
