"""Populations: counts that must agree with each other, whatever the arguments."""

from typing import get_type_hints

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rmapfast as rf
from rmapfast import _core, arch, pte, reference
from rmapfast.arch import PRESETS
from rmapfast.flags import FolioFlag, TableState, VmaFlag
from rmapfast.layout import FolioIndex, permute
from rmapfast.population import ARRAYS, Population
from rmapfast.spec import KINDS, parse_orders

SMALL = arch.Arch(name="small", ptrs_per_pte=32, cont_ptes=8, tlb="arm64")
rates = st.sampled_from([0.0, 0.03, 0.5, 1.0])


def mapped_pages(population):
    """Return the entries that map a folio: slot, folio, page, and whether a PMD leaf does."""
    slot = np.flatnonzero(population.ptes & pte.PRESENT)
    pfn = pte.pfn(population.ptes[slot])
    folio = FolioIndex(population.folio_pfn, population.folio_order).find(pfn)
    slot, pfn, folio = slot[folio >= 0], pfn[folio >= 0], folio[folio >= 0]
    vma = np.searchsorted(population.vma_pte_base, slot, side="right") - 1
    vpn = population.vma_start[vma] + slot.astype(np.uint64) - population.vma_pte_base[vma]
    ptrs = np.uint64(population.ptrs_per_pte)
    table = population.vma_table_base[vma] + vpn // ptrs - population.vma_start[vma] // ptrs
    leaf = population.table_state[table] == TableState.PMD_LEAF
    return slot, folio, (pfn - population.folio_pfn[folio]).astype(np.int64), leaf, vma, vpn


def check_consistent(population, external=0):
    """Assert that mapcounts, references, rmap, counters and LRU follow from the page tables."""
    _, folio, page, leaf, vma, vpn = mapped_pages(population)
    flags = population.folio_flags
    pages = 1 << population.folio_order.astype(np.int64)
    for name, dtype in ARRAYS.items():
        array = getattr(population, name)
        assert array.dtype == dtype and array.flags.c_contiguous and array.flags.writeable, name
    for name in ARRAYS:
        if name.startswith("folio_"):
            assert len(getattr(population, name)) == population.nr_folios, name
    by_pte = np.bincount(folio[~leaf], minlength=population.nr_folios)
    entire = population.folio_entire_mapcount
    assert np.array_equal(population.folio_mapcount - entire, by_pte + external * pages)
    for one in range(min(population.nr_folios, 50)):
        want = np.bincount(page[~leaf & (folio == one)], minlength=pages[one]) + external
        got = population.page_mapcounts(one)
        assert np.array_equal(got, want)
        if pages[one] > 1 and not entire[one]:
            assert population.folio_nr_pages_mapped[one] == np.count_nonzero(want)
    anon = flags & FolioFlag.ANON > 0
    cached = np.where(anon & (flags & FolioFlag.SWAPCACHE == 0), 0, pages)
    assert np.array_equal(population.folio_refcount, population.folio_mapcount + cached)
    assert np.all(population.folio_pfn % pages.astype(np.uint64) == 0)
    assert not FolioIndex(population.folio_pfn, population.folio_order).overlap()
    mm = population.vma_mm[vma]
    swapbacked = flags & FolioFlag.SWAPBACKED > 0
    counter = np.where(anon, 1, np.where(swapbacked, 3, 0))[folio]
    want = np.zeros_like(population.mm_rss)
    np.add.at(want, (mm, counter), 1)
    assert np.array_equal(population.mm_rss[:, [0, 1, 3]], want[:, [0, 1, 3]])
    # Each mapping is where the rmap says.
    assert np.array_equal(
        vpn - population.vma_start[vma] + population.vma_pgoff[vma],
        population.folio_index[folio] + page.astype(np.uint64),
    )
    start = population.rmap_start.astype(np.int64)
    assert start[0] == 0 and start[-1] == len(population.rmap_vma) and np.all(np.diff(start) >= 0)
    pairs = set(zip(np.repeat(np.arange(population.nr_folios), np.diff(start)), population.rmap_vma, strict=True))
    assert len(pairs) == len(population.rmap_vma)
    assert set(zip(folio, vma, strict=True)) <= pairs
    for one, number in pairs:
        size = population.vma_end[number] - population.vma_start[number]
        first = int(population.folio_index[one]) - int(population.vma_pgoff[number])
        assert -int(pages[one]) < first < int(size)
    lru = np.concatenate([population.lru_inactive, population.lru_active])
    evictable = flags & (FolioFlag.MLOCKED | FolioFlag.UNEVICTABLE | FolioFlag.FREED) == 0
    assert np.array_equal(np.sort(lru), np.flatnonzero(evictable))
    assert np.all(flags[population.lru_active] & FolioFlag.ACTIVE)
    assert not np.any(flags[population.lru_inactive] & FolioFlag.ACTIVE)
    check_cont(population)


def check_cont(population):
    """Assert that CONT stands on whole aligned blocks only."""
    for vma in range(len(population.vma_start)):
        start, end = int(population.vma_start[vma]), int(population.vma_end[vma])
        base = int(population.vma_pte_base[vma])
        words = population.ptes[base : base + end - start]
        cont = np.flatnonzero((words & pte.CONT > 0) & (words & pte.PRESENT > 0))
        if not len(cont):
            continue
        size = 8 if population.ptrs_per_pte == 32 else 16
        blocks = np.unique((cont + start) // size)
        assert len(cont) == len(blocks) * size
        block = words[(blocks[:, None] * size + np.arange(size) - start)] & ~(pte.YOUNG | pte.DIRTY)
        assert np.all(pte.pfn(block[:, 0]) % size == 0)
        assert np.all(block == block[:, :1] + (np.arange(size, dtype=np.uint64) << pte.PFN_SHIFT))
        folio = FolioIndex(population.folio_pfn, population.folio_order).find(pte.pfn(block[:, 0]))
        assert np.all(1 << population.folio_order[folio].astype(int) >= size)


descriptions = st.fixed_dictionaries(
    {
        "size": st.integers(1, 700).map(lambda pages: pages * 4096),
        "kind": st.sampled_from(sorted(KINDS)),
        "orders": st.sampled_from([0, 2, 4, 6, "0:10,4:70,6:20", "1:1,3:1", {5: 1, 0: 2.5}]),
        "aligned": st.booleans(),
        "phase": st.sampled_from([0, 1, 8, 16, 31]),
        "mapped": rates,
        "holes": rates | st.sampled_from(["every:1", "every:5"]),
        "sharing": st.integers(1, 3),
        "young": rates,
        "dirty": rates | st.none(),
        "write": rates | st.none(),
        "soft_dirty": rates,
        "uffd_wp": rates,
        "mlocked": rates,
        "active": st.booleans(),
        "shuffle": st.booleans(),
        "external": st.integers(0, 2),
        "seed": st.integers(0, 2**64 - 1),
    }
)


@settings(max_examples=60, deadline=None)
@given(descriptions)
def test_synthetic_is_consistent(description):
    population = Population.synthetic(**description, arch=SMALL)
    check_consistent(population, description["external"])
    assert len(population.ptes) == description["size"] // 4096 * description["sharing"]
    if population.folio_flags.size and population.folio_flags[0] & FolioFlag.ANON == 0:
        assert population.nr_pages << 12 == description["size"]
    both = population.ptes & (pte.UFFD_WP | pte.WRITE)
    assert not np.any(both == pte.UFFD_WP | pte.WRITE)
    again = Population.synthetic(**description, arch=SMALL)
    for name in ARRAYS:
        assert np.array_equal(getattr(population, name), getattr(again, name)), name


@settings(max_examples=60, deadline=None)
@given(descriptions, st.randoms(use_true_random=False))
def test_split_conserves(description, random):
    """The pieces have the mappings, the references and the place in the list that the folio had."""
    population = Population.synthetic(**(description | {"kind": "anon"}), arch=SMALL)
    split = population.copy()
    kernel = reference.Kernel(split, "v7.0", SMALL)
    kernel.load_lists()
    for folio in range(population.nr_folios):
        if population.folio_order[folio] and random.random() < 0.5:
            kernel.split(kernel.folio(folio), isolated=False)
    kernel.store_lists()
    check_consistent(split, description["external"])
    spread = pte.CONT | pte.YOUNG | pte.DIRTY  # over a block that is unfolded
    assert np.array_equal(split.ptes & ~spread, population.ptes & ~spread)
    assert split.folio_mapcount.sum() == population.folio_mapcount.sum()
    assert split.folio_refcount.sum() == population.folio_refcount.sum()
    # The lists hold the pages that something maps, and no others.
    for name in ("lru_inactive", "lru_active"):
        old = np.concatenate([[0], *(pfns(population, folio) for folio in getattr(population, name))])
        new = np.concatenate([[0], *(pfns(split, folio) for folio in getattr(split, name))])
        assert len(np.unique(new)) == len(new)
        freed = split.folio_pfn[split.folio_flags & np.uint32(FolioFlag.FREED) > 0]
        assert set(old.tolist()) == {*new.tolist(), *np.intersect1d(freed, old).tolist()}


def pfns(population, folio):
    return int(population.folio_pfn[folio]) + np.arange(1 << int(population.folio_order[folio]))


@pytest.mark.parametrize("aligned", [True, False])
def test_order_mix_shares(aligned):
    population = Population.synthetic("64MiB", orders="0:10,4:70,9:20", aligned=aligned, seed=3)
    pages = 16384
    counts = population.orders()
    # Each order gets its share up to one folio of the largest order.
    for order, share, error in ((9, 0.2, 512), (4, 0.7, 512), (0, 0.1, 512)):
        assert abs((counts[order] << order) - share * pages) < error
    assert population.nr_pages == pages
    sizes = np.uint64(1) << population.folio_order.astype(np.uint64)
    if aligned:
        assert np.all(population.folio_index % sizes == 0)
    assert np.all(population.folio_index[1:] == population.folio_index[:-1] + sizes[:-1])
    # A permutation, not one order after the other.
    assert np.count_nonzero(np.diff(population.folio_order.astype(int))) > 100
    other = Population.synthetic("64MiB", orders="0:10,4:70,9:20", aligned=aligned, seed=4)
    assert not np.array_equal(population.folio_order[:500], other.folio_order[:500])


def test_size_is_met_with_smaller_folios():
    population = Population.synthetic(4096 * (512 + 21), orders=9)
    assert population.orders() == {0: 1, 2: 1, 4: 1, 9: 1}
    assert "21 pages" in population.assumptions["fill"]
    assert "fill" not in Population.synthetic("2MiB", orders=9).assumptions


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_rates(rate):
    population = Population.synthetic(
        "64MiB",
        kind="anon",
        orders=0,
        young=rate,
        dirty=rate,
        write=rate,
        soft_dirty=rate,
        mlocked=rate,
        holes=1 - rate,
    )
    present = population.ptes[population.ptes & pte.PRESENT > 0]
    assert abs(len(present) / 16384 - rate) < 0.03
    for flag in (pte.YOUNG, pte.DIRTY, pte.WRITE, pte.SOFT_DIRTY):
        assert abs(np.count_nonzero(present & flag) / len(present) - rate) < 0.05
    assert abs(np.count_nonzero(population.folio_flags & FolioFlag.MLOCKED) / population.nr_folios - rate) < 0.05
    # The draws are independent.
    both = np.count_nonzero((present & pte.YOUNG > 0) & (present & pte.DIRTY > 0)) / len(present)
    assert abs(both - rate * rate) < 0.05


def test_choices_do_not_depend_on_the_size():
    small = Population.synthetic("1MiB", young=0.3, holes=0.2, seed=9)
    large = Population.synthetic("4MiB", young=0.3, holes=0.2, seed=9)
    assert np.array_equal(small.ptes, large.ptes[:256])


def test_cont_blocks():
    for options, blocks in (
        ({}, 16),
        ({"cont": False}, 0),
        ({"phase": 8}, 0),
        ({"phase": 16}, 16),
        ({"orders": 3}, 0),
        ({"orders": 9, "size": "2MiB"}, 32),
        ({"holes": "every:64"}, 12),
        ({"young": 0.5, "dirty": 0.5}, 16),
        ({"write": 0.5}, 0),
    ):
        population = Population.synthetic(**{"size": "1MiB", "arch": "arm64-4k"} | options)
        assert np.count_nonzero(population.ptes & pte.CONT) == 16 * blocks, options
        check_consistent(population)
    assert not np.any(Population.synthetic("1MiB").ptes & pte.CONT)


def test_defaults_are_the_experiment():
    population = Population.synthetic("1MiB")
    assert population.orders() == {4: 16}
    assert np.all(population.ptes & np.uint64(0xFFF) == pte.PRESENT | pte.YOUNG)
    assert list(population.lru_inactive) == list(range(16)) and not len(population.lru_active)
    assert np.all(population.folio_refcount == 32) and np.all(population.folio_mapcount == 16)
    assert population.vma_flags[0] == VmaFlag.SHARED and population.mm_rss.tolist() == [[256, 0, 0, 0]]
    assert population.mm_cpumask[0] == 2
    assert "1 MiB" in repr(population) and population.describe()["orders"] == {"4": 16}


def test_large_tables_and_folios():
    big = arch.Arch(name="arm64-64k", page_shift=16, ptrs_per_pte=8192, cont_ptes=32, tlb="arm64")
    population = Population.synthetic("2GiB", orders=13, phase=5, arch=big)
    assert population.nr_folios == 4 and len(population.table_state) == 5
    check_consistent(population)
    assert population.rmap(1) == [(0, int(population.vma_start[0]) + 8192)]


def test_copy_is_independent():
    population = Population.synthetic("1MiB", holes=0.3, kind="anon")
    copy = population.copy()
    for name in ARRAYS:
        assert np.array_equal(getattr(copy, name), getattr(population, name)), name
    before = population.ptes.copy()
    copy.ptes[:] = 0
    copy.folio_flags[:] = 0
    copy.page_mapcount[:] = -5
    assert np.array_equal(population.ptes, before) and population.folio_flags.any()
    check_consistent(population)


def test_from_arrays():
    words = np.array([pte.make("present", 0x100 + i, ["young"]) for i in range(8)] + [pte.NONE, pte.MARKER], np.uint64)
    words[3] = pte.make("swap", 7)
    population = Population.from_arrays(words, start_vpn=1022, folio_pfn=[0x100, 0x104, 0x200], folio_order=[2, 2, 0])
    assert population.folio_mapcount.tolist() == [3, 4, 0]
    assert population.page_mapcounts(0).tolist() == [1, 1, 1, 0] and population.page_mapcounts(1).tolist() == [1] * 4
    assert population.rmap(0) == [(0, 1022)] and population.rmap(1) == [(0, 1026)] and population.rmap(2) == []
    assert population.mm_rss.tolist() == [[7, 0, 1, 0]]
    assert len(population.table_state) == 2
    population.ptes[0] = 0
    assert words[0]
    # A VMA may begin inside a folio.
    middle = Population.from_arrays(words[2:3].copy(), folio_pfn=0x100, folio_order=2)
    check_consistent(middle)
    assert middle.rmap(0) == [(0, 0)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ptes": np.zeros(4)}, "ptes: expected a C-contiguous uint64 array, got float64 .*astype"),
        ({"ptes": np.zeros(8, np.uint64)[::2]}, "ptes: expected a C-contiguous uint64"),
        ({"ptes": np.zeros(8, ">u8")}, "ptes: expected a C-contiguous uint64"),
        ({"ptes": np.zeros(0, np.uint64)}, "ptes: expected 1 to"),
        ({"ptes": [1, 2]}, "ptes: expected .* got list"),
        ({"folio_order": 14}, "folio_order: expected 0 to 13"),
        ({"folio_pfn": [16, 17]}, "overlap"),
        ({"folio_pfn": -1}, "folio_pfn: expected 0"),
        ({"folio_pfn": 1.5}, "folio_pfn: expected an integer"),
        ({"folio_order": [1, 2, 3]}, "folio_order: expected one for each of 1"),
        ({"start_vpn": -1}, "start_vpn: "),
        ({"kind": "anno"}, "kind: .*did you mean 'anon'"),
    ],
)
def test_from_arrays_errors(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Population.from_arrays(**{"ptes": np.zeros(4, np.uint64), "folio_pfn": 16, "folio_order": 4} | arguments)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", "10 GB!"), ("size", -1), ("size", 4095), ("size", 0), ("size", 1.5), ("size", "1e9"),
        ("size", 1 << 62),
        ("kind", "files"), ("orders", 14), ("orders", -1), ("orders", "4:x"), ("orders", "4:1,4:2"), ("orders", {}),
        ("orders", "0:0"), ("orders", 2.5), ("orders", "4:-1"), ("orders", "4:nan"), ("young", 1.1), ("young", -0.1),
        ("young", float("nan")), ("young", "1"), ("dirty", 2), ("holes", "every:0"), ("holes", "each:2"), ("holes", 3),
        ("sharing", 0), ("sharing", 1.5), ("phase", -1), ("phase", 8192), ("external", -1), ("seed", -1),
        ("seed", 1.5), ("seed", "1"), ("aligned", 1), ("active", "no"), ("arch", "x86_65"), ("mlocked", 1.5),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(name, value):
    with pytest.raises((TypeError, ValueError), match=name):
        Population.synthetic(**{"size": "1MiB"} | {name: value})


def test_uffd_wp_needs_its_vma():
    with pytest.raises(ValueError, match="uffd_wp_vma"):
        Population.synthetic("1MiB", uffd_wp=0.5, uffd_wp_vma=False)


def test_missing_array_is_named():
    with pytest.raises(TypeError, match="ptes: this array is missing"):
        Population(ptrs_per_pte=512)


@given(st.integers(0, 3000), st.integers(0, 2**64 - 1))
@settings(max_examples=50, deadline=None)
def test_permutation(size, seed):
    image = permute(seed, 0, size)
    assert np.array_equal(np.sort(image), np.arange(size))
    if size:
        assert permute(seed, 0, size, [size - 1])[0] == image[-1]


def test_parse_orders():
    assert parse_orders("4") == parse_orders(4) == {4: 1}
    assert parse_orders("0:10, 4:70") == {0: 10, 4: 70}


def test_every_array_is_declared_with_its_dtype():
    declared = {name: hint for name, hint in get_type_hints(Population).items() if name in ARRAYS}
    assert list(declared) == list(ARRAYS)
    assert all(hint == npt.NDArray[ARRAYS[name]] for name, hint in declared.items())


@pytest.mark.parametrize("arch", ["arm64-4k", "arm64-16k", "arm64-64k"])
def test_blocks_are_folded_as_the_mapping_came_about(arch):
    """Recorded on 16K pages: windows of 64K fold nothing, those of 2M and whole folios do; none if shifted."""
    block, page = PRESETS[arch].cont_ptes, PRESETS[arch].page_size
    order = block.bit_length()  # two blocks

    def folded(**options):
        made = Population.synthetic(4 * page << order, arch=arch, orders=order, **options)
        assert made.cont_ptes == block
        return int(np.count_nonzero(made.ptes & np.uint64(pte.CONT)))

    everything = 4 << order
    assert folded() == folded(fault_around="folio") == folded(fault_around="2MiB") == everything
    assert folded(fault_around=page * block) == everything
    # several pages at a time, but less than a block
    for pages in (2, block // 2):
        assert folded(fault_around=page * pages) == 0
    # one page at a time: the last entry folds its block
    assert folded(fault_around=page) == everything
    # anonymous folios are mapped whole
    for kind in ("anon", "lazyfree"):
        assert folded(kind=kind, fault_around=page * 2) == everything
    assert folded(phase=1) == folded(phase=1, fault_around="2MiB") == 0
    assert folded(cont=False, fault_around="2MiB") == 0


@pytest.mark.parametrize("window", ["1KiB", 4095, "12KiB", 0, "much", None])
def test_a_window_is_a_power_of_two_of_pages(window):
    with pytest.raises((TypeError, ValueError), match="fault_around"):
        Population.synthetic("1MiB", fault_around=window)


def test_memory_of_a_result_is_not_used_again_while_an_array_of_it_lives():
    population = Population.synthetic("64MiB", orders=2, young=0.5)
    before = {name: getattr(population, name).copy() for name in ARRAYS}
    kept = []
    for target in ("16MiB", "32MiB", "48MiB", "24MiB"):
        after = rf.reclaim(population, target).after
        view = after.ptes[100:-100:3]
        kept.append((view, view.copy(), after.folio_flags, after.folio_flags.copy(), after.lru_inactive.copy()))
        kept[-1] += (after.lru_inactive,)
        del after, view
    for view, ptes, flags, wanted, lru, listed in kept:
        assert np.array_equal(view, ptes) and np.array_equal(flags, wanted) and np.array_equal(lru, listed)
    for name, array in before.items():
        assert np.array_equal(getattr(population, name), array), name


@pytest.mark.parametrize("large", [5, 1 << 16])
@pytest.mark.parametrize("new", [_core.empty_arrays, _core.zero_arrays])
def test_new_arrays_are_apart_and_aligned(new, large):
    arrays = new({"a": ((3,), np.uint8), "b": ((large, 4), np.int64), "c": ((0,), np.uint32)})
    assert new is _core.empty_arrays or not any(array.any() for array in arrays.values())
    for value, array in enumerate(arrays.values()):
        array[...] = value
    assert {name: array.shape for name, array in arrays.items()} == {"a": (3,), "b": (large, 4), "c": (0,)}
    assert all(array.ctypes.data % 64 == 0 and array.flags.writeable for array in arrays.values())
    assert (arrays["a"] == 0).all() and (arrays["b"] == 1).all()
    again = new({"a": ((large, 4), np.int64)})["a"]
    del arrays
    assert new is _core.empty_arrays or not again.any()
    assert new is _core.empty_arrays or not new({"a": ((large, 4), np.int64)})["a"].any()
    with pytest.raises(ValueError, match="dimensions"):
        new({"a": ((1, 2, 3), np.uint8)})


@pytest.mark.parametrize("kind", ["file", "shmem", "anon", "lazyfree"])
def test_the_description_counts_what_the_arrays_hold(kind):
    population = Population.synthetic("9MiB", orders="0:1,3:2,9:3", kind=kind, holes=0.1, seed=3)
    described = population.describe()
    orders, folios = np.unique(population.folio_order, return_counts=True)
    assert described["orders"] == {str(order): nr for order, nr in zip(orders.tolist(), folios.tolist(), strict=True)}
    assert described["kinds"] == {kind: population.nr_folios}
    assert described["ptes_present"] == np.count_nonzero(population.ptes & pte.PRESENT)
    assert described["nbytes"] == population.nbytes


@pytest.mark.parametrize("name", ["folio_flags", "folio_entire_mapcount"])
def test_what_is_counted_names_the_array_that_is_too_short(name):
    population = Population.synthetic("64KiB", orders=0)
    short = population.with_arrays(**{name: getattr(population, name)[:-1].copy()})
    with pytest.raises(ValueError, match=f"population.{name}: expected 16 elements, got 15"):
        short.describe()
