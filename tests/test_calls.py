"""What single calls and reclaim() refuse, by name and with everything left as it was; policies in Python.

Rules such as S6 are those of docs/kernel-rules.md.
"""

import re

import numpy as np
import pytest

import rmapfast as rf
from rmapfast import pte, reference
from rmapfast.flags import FolioFlag, VmaFlag
from rmapfast.population import ARRAYS

# Arrays that a run writes; the others may be read-only.
WRITTEN = (
    "ptes", "table_state", "folio_flags", "folio_refcount", "folio_mapcount", "folio_entire_mapcount",
    "folio_nr_pages_mapped", "folio_swap", "page_mapcount", "page_flags", "mm_rss",
)  # fmt: skip
LISTS = ("lru_inactive", "lru_active")


def small(**options):
    """Four folios of four pages, in two processes; half of the folios active."""
    population = rf.Population.synthetic("64KiB", orders=2, sharing=2, **options)
    population.lru_inactive, population.lru_active = (np.array(lru, np.uint32) for lru in ([0, 1], [2, 3]))
    population.folio_flags[2:] |= np.uint32(FolioFlag.ACTIVE)
    return population


def snapshot(population):
    return {name: np.array(getattr(population, name), copy=True) for name in ARRAYS}


def assert_untouched(population, before):
    for name, array in before.items():
        np.testing.assert_array_equal(getattr(population, name), array, err_msg=name)


UNMAP = {
    "try_to_unmap_one": lambda population: rf.try_to_unmap_one(population, 0, 0),
    "folio_referenced_one": lambda population: rf.folio_referenced_one(population, 0, 0),
    "page_vma_mapped_walk": lambda population: rf.page_vma_mapped_walk(population, 0, 0),
}
RECLAIM = {
    "reclaim": lambda population: rf.reclaim(population, "64KiB"),
    "reclaim in place": lambda population: rf.reclaim(population, "64KiB", in_place=True),
    "pageout in place": lambda population: rf.reclaim(population, entry="pageout", in_place=True),
}
IN_PLACE = {name: call for name, call in (UNMAP | RECLAIM).items() if name != "reclaim"}


# Wrong arrays

WRONG = {
    "a list": lambda array: array.tolist(),
    "None": lambda array: None,
    "float64": lambda array: array.astype(np.float64),
    "another width": lambda array: array.astype(np.int16),
    "another sign": lambda array: array.astype(array.dtype.str.replace("u", "x").replace("i", "u").replace("x", "i")),
    "objects": lambda array: array.astype(object),
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "a scalar": lambda array: np.array(1, array.dtype),
}


# One byte has no order and no alignment.
WIDE = [name for name, dtype in ARRAYS.items() if dtype is not np.uint8]


def with_array(name, change):
    population = small()
    setattr(population, name, change(getattr(population, name)))
    return population


def complaints(calls, change, names=ARRAYS, said="expected .*got "):
    """Arrays that a call does not refuse by name after a change, and what it does instead."""
    found = []
    for name in names:
        for which, call in calls.items():
            population = with_array(name, change)
            before = snapshot(population)
            try:
                call(population)
            except (TypeError, ValueError) as error:
                if name not in str(error) or not re.search(said, str(error)):
                    found.append(f"{name}: {which}: {type(error).__name__}: {error}")
            except Exception as error:
                found.append(f"{name}: {which}: {type(error).__name__}: {error}")
            else:
                found.append(f"{name}: {which}: no error")
                continue
            assert_untouched(population, before)
    return found


MAPPED = [name for name in ARRAYS if name not in LISTS]


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_type(wrong):
    names = WIDE if wrong == "big-endian" else ARRAYS
    assert complaints(UNMAP, WRONG[wrong], [name for name in names if name not in LISTS]) == []


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_type_in_a_reclaim(wrong):
    assert complaints(RECLAIM, WRONG[wrong], WIDE if wrong == "big-endian" else ARRAYS) == []


def in_steps(array):
    """Every second element of an array twice as long: the numbers are right, C would read others."""
    return np.repeat(array, 2, axis=0)[::2]


def at_an_odd_address(array):
    odd = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    odd[...] = array
    return odd


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def test_array_in_steps():
    assert complaints(UNMAP, in_steps, MAPPED, "expected a C-contiguous .*ascontiguousarray") == []


def test_array_in_steps_in_a_reclaim():
    calls = {name: call for name, call in RECLAIM.items() if name in IN_PLACE}
    assert complaints(calls, in_steps, said="expected a C-contiguous .*ascontiguousarray") == []


def test_array_at_an_odd_address():
    assert complaints(UNMAP, at_an_odd_address, [name for name in WIDE if name not in LISTS]) == []


def test_array_at_an_odd_address_in_a_reclaim():
    calls = {name: call for name, call in RECLAIM.items() if name in IN_PLACE}
    assert complaints(calls, at_an_odd_address, WIDE) == []


def test_read_only_array():
    said = "expected a writable array, got a read-only one; pass .*copy"
    assert complaints(IN_PLACE, read_only, WRITTEN, said) == []


def test_read_only_arrays_that_are_only_read():
    population = small()
    for name in set(ARRAYS) - set(WRITTEN):
        getattr(population, name).flags.writeable = False
    assert rf.try_to_unmap_one(population, 0, 0).ret
    # A run on a copy takes read-only arrays of any kind.
    population = small()
    for name in ARRAYS:
        getattr(population, name).flags.writeable = False
    assert rf.reclaim(population, "64KiB").reclaimed_pages == 16


LENGTHS = {
    "shorter": lambda array: array[:-1].copy(),
    "longer": lambda array: np.concatenate([array, array[-1:]]),
    "empty": lambda array: array[:0].copy(),
}
# What no VMA or folio refers to may be there.
MAY_BE_LONGER = ("ptes", "table_state", "rmap_vma")


def misfits(calls, change):
    """Calls that do not say which array does not fit. Of two that do not fit together either may be named."""
    found = []
    for name in MAPPED:
        for which, call in calls.items():
            population = with_array(name, LENGTHS[change])
            before = snapshot(population)
            allowed = name in MAY_BE_LONGER and change == "longer"
            try:
                call(population)
            except (TypeError, ValueError) as error:
                if allowed or not re.search("|".join(ARRAYS), str(error)):
                    found.append(f"{name}: {which}: {type(error).__name__}: {error}")
                assert_untouched(population, before)
            except Exception as error:
                found.append(f"{name}: {which}: {type(error).__name__}: {error}")
            else:
                if not allowed:
                    found.append(f"{name}: {which}: no error")
    return found


@pytest.mark.parametrize("change", LENGTHS)
def test_wrong_length(change):
    assert misfits(UNMAP, change) == []


@pytest.mark.parametrize("change", LENGTHS)
def test_wrong_length_in_a_reclaim(change):
    assert misfits(RECLAIM, change) == []


OUT_OF_RANGE = {
    "vma_end": (0, "vma_end"),
    "vma_start": (1 << 60, "vma_end"),
    "vma_pgoff": ((1 << 64) - 1, "vma_pgoff"),
    "vma_mm": (2, "vma_mm"),
    "vma_pte_base": (17, "vma_pte_base"),
    "vma_window_start": ((1 << 64) - 1, "vma_window_start"),
    "vma_window_end": (0, "vma_window"),
    "vma_table_base": (2, "vma_table_base"),
    "table_state": (3, "table_state"),
    "folio_pfn": (1 << 52, "folio_pfn"),
    "folio_index": ((1 << 64) - 1, "folio_index"),
    "folio_order": (14, "folio_order"),
    "folio_page_base": (13, "folio_page_base"),
    "rmap_start": (9, "rmap_start"),
    "rmap_vma": (2, "rmap_vma"),
}


def assert_out_of_range(calls, name, value, named):
    for call in calls.values():
        population = small()
        getattr(population, name)[-1] = value
        before = snapshot(population)
        with pytest.raises(ValueError, match=named):
            call(population)
        assert_untouched(population, before)


@pytest.mark.parametrize("name", [*OUT_OF_RANGE, "folio_swap"])
def test_out_of_range(name):
    """A number that points outside is found before the first step, whatever the call would do with it."""
    assert_out_of_range(UNMAP, name, *OUT_OF_RANGE.get(name, ((1 << 64) - 1, "folio_swap")))


@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_out_of_range_in_a_reclaim(name):
    assert_out_of_range(RECLAIM, name, *OUT_OF_RANGE[name])


@pytest.mark.parametrize("value", [4, (1 << 32) - 1])
@pytest.mark.parametrize("name", LISTS)
def test_list_entry_out_of_range(name, value):
    assert_out_of_range(RECLAIM, name, value, name)


@pytest.mark.parametrize("engine", ["c", "reference"])
@pytest.mark.parametrize("lists", [([0, 0], [1, 2]), ([0, 1], [1, 2]), ([0, 1, 2, 3, 0], []), ([], [3, 2, 1, 0, 1])])
def test_folio_twice_on_the_lists(lists, engine):
    """A folio is on one list, once; twice, it would be handled again after it was freed."""
    population = small()
    population.lru_inactive, population.lru_active = (np.array(lru, np.uint32) for lru in lists)
    before = snapshot(population)
    with pytest.raises(ValueError, match="lru_"):
        rf.reclaim(population, "64KiB", engine=engine)
    assert_untouched(population, before)


def test_rmap_that_falls():
    population = small()
    population.rmap_start[1], population.rmap_start[2] = 4, 2
    with pytest.raises(ValueError, match=r"rmap_start\[1\]"):
        rf.try_to_unmap_one(population, 3, 0)


@pytest.mark.parametrize("ptrs_per_pte", [0, 1, 3, 513, 1 << 14, -512])
def test_table_size(ptrs_per_pte):
    population = small()
    population.ptrs_per_pte = ptrs_per_pte
    before = snapshot(population)
    for call in (UNMAP | RECLAIM).values():
        with pytest.raises((ValueError, OverflowError), match=r"ptrs_per_pte|PTEs per table"):
            call(population)
    assert_untouched(population, before)


def test_architecture_with_another_table_size():
    arch = rf.arch.get("x86-64").replace(ptrs_per_pte=256)
    for call in (
        lambda population: rf.try_to_unmap_one(population, 0, 0, arch=arch),
        lambda population: rf.reclaim(population, "64KiB", arch=arch),
        lambda population: rf.reclaim(population, "64KiB", arch=arch, engine="reference"),
    ):
        population = small()
        before = snapshot(population)
        with pytest.raises(ValueError, match=r"256.*512"):
            call(population)
        assert_untouched(population, before)


# Single calls


@pytest.mark.parametrize("call", [rf.try_to_unmap_one, rf.folio_referenced_one, rf.page_vma_mapped_walk])
def test_indices(call):
    for folio, vma, named in ((4, 0, "folio"), (-1, 0, "folio"), (1 << 70, 0, "folio"), (0, 2, "vma"), (0, -1, "vma")):
        population = small()
        before = snapshot(population)
        with pytest.raises(
            (ValueError, IndexError, OverflowError), match=f"{named}: expected 0 to .* got {folio or vma}"
        ):
            call(population, folio, vma)
        assert_untouched(population, before)


@pytest.mark.parametrize("wrong", [0.5, "0", None, [0]])
@pytest.mark.parametrize("named", ["folio", "vma"])
@pytest.mark.parametrize("call", [rf.try_to_unmap_one, rf.folio_referenced_one, rf.page_vma_mapped_walk])
def test_indices_that_are_no_integers(call, named, wrong):
    population = small()
    before = snapshot(population)
    with pytest.raises(TypeError):
        call(population, **{"folio": 0, "vma": 0} | {named: wrong})
    assert_untouched(population, before)


@pytest.mark.parametrize("call", [rf.try_to_unmap_one, rf.folio_referenced_one])
def test_vma_that_does_not_map_the_folio(call):
    """The last eight pages are a VMA of their own: it does not map the first folio, and nothing happens."""
    population = small()
    population.vma_start[1] += 8
    population.vma_pgoff[1] += 8
    population.vma_pte_base[1] += 8
    before = snapshot(population)
    with pytest.raises(ValueError, match="vma: VMA 1 does not map folio 0"):
        call(population, 0, 1)
    assert_untouched(population, before)
    assert rf.page_vma_mapped_walk(population, 0, 1).ret is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "v7.4"}, "policy: no preset 'v7.4'.*known are"),
        ({"policy": None}, "policy"),
        ({"arch": "arm65"}, "arch: no preset 'arm65'.*known are"),
        ({"ttu": ["SINC"]}, "ttu: no flag 'SINC'.*SYNC"),
        ({"ttu": 3}, "ttu|iterable"),
        ({"guard": "stone"}, "guard: .*none.*contiguous.*got 'stone'"),
    ],
)
def test_names(options, message):
    population = small()
    before = snapshot(population)
    with pytest.raises((TypeError, ValueError), match=message):
        rf.try_to_unmap_one(population, 0, 0, **options)
    assert_untouched(population, before)


def test_not_a_population():
    for call in (*UNMAP.values(), *RECLAIM.values()):
        for wrong in (np.zeros(4, np.uint64), "population", {}):
            with pytest.raises((TypeError, AttributeError), match=r"opulation|no attribute"):
                call(wrong)


# folio_pte_batch


def table(pages=16, pfn=64):
    return np.array([pte.make("present", pfn + page) for page in range(pages)], np.uint64)


def test_folio_pte_batch():
    ptes = table()
    assert rf.folio_pte_batch(ptes, folio_pfn=64, folio_pages=16) == 16
    assert rf.folio_pte_batch(ptes, 3, folio_pfn=64, folio_pages=8) == 5
    assert rf.folio_pte_batch(ptes, 3, folio_pfn=64, folio_pages=8, max_nr=2) == 2
    ptes[6] |= pte.WRITE
    assert rf.folio_pte_batch(ptes, folio_pfn=64, folio_pages=16) == 16
    assert rf.folio_pte_batch(ptes, folio_pfn=64, folio_pages=16, flags=["RESPECT_WRITE"]) == 6
    assert rf.folio_pte_batch(ptes, folio_pfn=64, folio_pages=16, flags="RESPECT_WRITE") == 6
    ptes[4] ^= pte.PROT
    assert rf.folio_pte_batch(ptes, folio_pfn=64, folio_pages=16) == 4


@pytest.mark.parametrize(
    ("ptes", "options", "message"),
    [
        (table().tolist(), {}, "ptes: expected a NumPy array of uint64, got list"),
        (None, {}, "ptes: expected a NumPy array of uint64, got NoneType"),
        (table().astype(np.int64), {}, "ptes: .*uint64.*got .*i8"),
        (table().astype(">u8"), {}, "ptes: .*uint64.*got >u8"),
        (table().astype(np.float64), {}, "ptes: .*uint64.*got .*f8"),
        (np.repeat(table(), 2)[::2], {}, "ptes: .*C-contiguous.*ascontiguousarray"),
        (at_an_odd_address(table()), {}, "ptes: "),
        (np.asfortranarray(np.tile(table(), (2, 1))), {}, "ptes: "),
        (table()[:0], {}, "start|max_nr|ptes"),
        (table(), {"start": 16}, "start: expected an integer from 0 to 15, got 16"),
        (table(), {"start": -1}, "start: expected an integer from 0 to 15, got -1"),
        (table(), {"start": 1 << 70}, "start"),
        (table(), {"start": 1.5}, "start|float"),
        (table(), {"max_nr": 0}, "max_nr: expected 1 or more, got 0"),
        (table(), {"max_nr": -1}, "max_nr"),
        (table(), {"max_nr": 1 << 70}, "max_nr"),
        (table(), {"folio_pages": 0}, "folio_pages: expected 1 to 8192, got 0"),
        (table(), {"folio_pages": 8193}, "folio_pages: expected 1 to 8192, got 8193"),
        (table(), {"folio_pages": -1}, "folio_pages"),
        (table(), {"folio_pfn": -1}, "folio_pfn"),
        (table(), {"folio_pfn": 65}, r"ptes\[0\]: expected a present entry of the folio at PFN 0x41"),
        (np.zeros(4, np.uint64), {}, r"ptes\[0\]: expected a present entry"),
        (table(), {"flags": ["RESPECT_YOUNG"]}, "flags: no flag 'RESPECT_YOUNG'.*RESPECT_WRITE"),
        (table(), {"cont_ptes": 0}, "cont_ptes: expected a power of two, got 0"),
        (table(), {"cont_ptes": 12}, "cont_ptes: expected a power of two, got 12"),
        (table(), {"cont_ptes": -16}, "cont_ptes"),
    ],
)  # fmt: skip
def test_folio_pte_batch_errors(ptes, options, message):
    before = np.array(ptes, copy=True)
    with pytest.raises((TypeError, ValueError, OverflowError), match=message):
        rf.folio_pte_batch(ptes, **{"folio_pfn": 64, "folio_pages": 16} | options)
    np.testing.assert_array_equal(np.array(ptes), before)


@pytest.mark.parametrize("scan", [rf.folio_pte_batch, lambda *a, **b: reference.folio_pte_batch_flags(*a, **b)[0]])
def test_scan_stays_in_the_array(scan):
    """A scan is asked for more than the array or the folio holds, and takes what there is."""
    ptes = table(32)
    assert scan(ptes[:16].copy(), 3, folio_pfn=64, folio_pages=32, max_nr=13) == 13
    assert scan(ptes, 3, folio_pfn=64, folio_pages=16, max_nr=29) == 13


@pytest.mark.parametrize(
    "options",
    [
        {"cont_ptes": 0}, {"cont_ptes": 3}, {"cont_ptes": -16}, {"folio_pages": 0}, {"folio_pages": 8193},
        {"folio_pfn": 1}, {"max_nr": 0}, {"flags": ["RESPECT_YOUNG"]},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("scan", [rf.folio_pte_batch, reference.folio_pte_batch_flags], ids=["c", "reference"])
def test_scans_refuse_the_same(scan, options):
    """The reference takes the same arguments as the C library and refuses the same ones."""
    named = {"folio_pfn": "folio|PFN"}.get(*options, *options)
    with pytest.raises(ValueError, match=named):
        scan(table(), 0, **{"folio_pfn": 64, "folio_pages": 16, "max_nr": 16} | options)


# reclaim


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "much"}, "target: expected bytes or a size"),
        ({"target": -1}, "target: expected 0 to"),
        ({"target": 1.5}, "target"),
        ({"policy": "v8"}, "policy: no preset"),
        ({"policy": 7}, "policy: expected a Policy or the name of a preset, got int"),
        ({"arch": "vax"}, "arch: no preset"),
        ({"entry": "munmap"}, "entry: expected one of memory.reclaim, pageout, got 'munmap'"),
        ({"engine": "rust"}, "engine: expected one of c, general, reference, got 'rust'"),
        ({"swap": "some"}, "swap: expected bytes or a size"),
        ({"swap": -1}, "swap: expected 0 to"),
        (
            {"policy": lambda *_: 1, "engine": "c"},
            "policy: a Python function runs on the reference only, got engine='c'",
        ),
        ({"population": [1]}, "population: expected a Population or a PopulationSpec, got list"),
    ],
)
def test_reclaim_arguments(options, message):
    population = small()
    before = snapshot(population)
    with pytest.raises((TypeError, ValueError), match=message):
        rf.reclaim(**{"population": population, "target": "64KiB"} | options)
    assert_untouched(population, before)


@pytest.mark.parametrize("engine", ["c", "reference"])
@pytest.mark.parametrize("entry", ["memory.reclaim", "pageout"])
@pytest.mark.parametrize("kind", ["file", "anon", "lazyfree"])
def test_reclaim_leaves_its_input(kind, entry, engine):
    population = rf.Population.synthetic("256KiB", kind=kind, orders="0:1,2:3", holes=0.2, seed=2)
    before, note = snapshot(population), dict(population.assumptions)
    result = rf.reclaim(population, "256KiB", entry=entry, engine=engine)
    assert result.reclaimed_pages > 0
    assert_untouched(population, before)
    assert population.assumptions == note
    assert np.any(result.after.ptes != population.ptes) and not np.shares_memory(result.after.ptes, population.ptes)


@pytest.mark.parametrize("engine", ["c", "reference"])
def test_reclaim_in_place(engine):
    population = small()
    result = rf.reclaim(population, "64KiB", engine=engine, in_place=True)
    assert result.reclaimed_pages == 16
    assert result.after is population and not population.ptes.any()
    assert len(population.lru_inactive) == len(population.lru_active) == 0


def test_compare_arguments():
    with pytest.raises(ValueError, match="policies: expected at least one"):
        rf.compare(small(), "64KiB", policies=[])
    with pytest.raises(ValueError, match="arches: expected at least one"):
        rf.compare(small(), "64KiB", arches=[])
    population = small()
    before = snapshot(population)
    rf.compare(population, "64KiB", policies=["per-page", "v7.0"], arches=["x86-64"])
    assert_untouched(population, before)


# Arch, Policy, Events


def test_arch_and_policy_are_checked():
    arch, policy = rf.arch.get("x86-64"), rf.policy.get("v7.0")
    for change, message in (
        ({"cont_ptes": 3}, "cont_ptes: expected a power of two"),
        ({"cont_ptes": 1024}, "cont_ptes: expected a power of two from 1 to 512"),
        ({"ptrs_per_pte": 512.0}, "ptrs_per_pte: expected int"),
        ({"range_tlbi": 1}, "range_tlbi: expected bool"),
        ({"tlb": "fast"}, "tlb: expected one of"),
        ({"pageshift": 12}, "pageshift: no such parameter.*page_shift"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            arch.replace(**change)
    for change, message in (
        ({"clip": 1}, "clip: expected bool"),
        ({"advance": "jump"}, "advance: expected one of"),
        ({"nr_rest": True}, "nr_rest: no such parameter.*nr_reset"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            policy.replace(**change)
    with pytest.raises(AttributeError):
        arch.cont_ptes = 4
    events = rf.reclaim(small(), "64KiB").events
    with pytest.raises(KeyError, match=r"no event 'batch'.*batches"):
        events["batch"]
    with pytest.raises(ValueError, match="counts"):
        rf.Events([1, 2, 3])


# Policies in Python


def at_most_eight(folio, vma, walk, pte):
    if folio.nr_pages == 1 or (folio.anon and folio.swapbacked) or vma.uffd_wp:
        return 1
    if "HWPOISON" in walk.ttu or pte.unused:
        return 1
    nr = walk.batch(min(8, walk.room()), respect=("WRITE", "SOFT_DIRTY"))
    return nr if nr >= 4 else 1


def test_policy_in_python():
    """The example of the reference's docstring: batches of 8 at most and 4 at least."""
    assert "def at_most_eight(folio, vma, walk, pte):" in reference.__doc__
    population = rf.Population.synthetic("256KiB", orders="1:1,2:1,4:2", young=0)
    result = rf.reclaim(population, "256KiB", policy=at_most_eight, engine="reference")
    # 8 folios of 2 pages, 4 of 4 and 2 of 16.
    orders = population.orders()
    assert result.batch_lengths == {1: 2 * orders[1], 4: orders[2], 8: 2 * orders[4]}
    assert result.policy_name == "at_most_eight" and "at_most_eight" in repr(result)
    words = table()
    words[3] = 0
    population = rf.Population.from_arrays(words, folio_pfn=64, folio_order=4)
    call = reference.try_to_unmap_one(
        population, folio=0, vma=0, policy=at_most_eight, arch=rf.arch.get("x86-64"), ttu={"BATCH_FLUSH", "SYNC"}
    )
    assert call.ret and call.batch_lengths == {1: 3, 8: 1, 4: 1} and not population.ptes.any()


def test_policy_in_python_that_restates_a_preset():
    """One that takes what the scan gives is v7.0 where no VMA has uffd-wp."""

    def whole(folio, vma, walk, pte):
        if folio.nr_pages == 1 or (folio.anon and folio.swapbacked):
            return 1
        return walk.batch(walk.room(), respect=("WRITE", "SOFT_DIRTY"))

    population = rf.Population.synthetic("1MiB", orders="0:1,2:1,4:2", holes=0.1, write=0.2, seed=8)
    one = rf.reclaim(population, "1MiB", policy=whole, engine="reference")
    other = rf.reclaim(population, "1MiB", policy="v7.0", engine="reference")
    assert one.events == other.events and one.batch_lengths == other.batch_lengths


def two_at_a_time(folio, vma, walk, pte):
    return min(2, walk.batch(walk.room()))


def test_the_rules_around_a_policy_in_python_are_those_of_v7_0():
    """It does not reset the batch size (bug 4), and a batch leaves a marker in its first slot only (S6)."""
    words = [*table(2), pte.make("device_exclusive", 66), *table(1, pfn=67)]
    population = rf.Population.from_arrays(np.array(words), folio_pfn=64, folio_order=2, kind="lazyfree")
    population.folio_refcount += 1
    arch = rf.arch.get("x86-64")
    call = reference.try_to_unmap_one(population, 0, 0, policy=two_at_a_time, arch=arch, ttu={"BATCH_FLUSH", "SYNC"})
    start = int(population.vma_start[0])
    steps = [step for step in call.trace if step[0].startswith("step")]
    # the device entry reuses the length 2 of the batch before it, so five mappings are dropped, and there were four
    assert steps == [("step", start, 2), ("step_nonpresent", start + 2, 2), ("step", start + 3, 1)]
    assert population.folio_mapcount[0] == 4 - 5
    words = [word | pte.UFFD_WP for word in table(4)]
    population = rf.Population.from_arrays(np.array(words), folio_pfn=64, folio_order=2)
    population.vma_flags |= VmaFlag.UFFD_WP
    call = reference.try_to_unmap_one(population, 0, 0, policy=two_at_a_time, arch=arch, ttu={"BATCH_FLUSH", "SYNC"})
    assert call.batch_lengths == {2: 2} and call.events["markers_set"] == 2
    assert population.ptes.tolist() == [pte.MARKER, pte.NONE, pte.MARKER, pte.NONE]


def test_single_calls_are_of_v7_0_by_default():
    """Unlike v7.2 it does not reset the batch size (bug 4), unlike v6.14 its reference check is batched."""
    words = [*table(2), pte.make("device_exclusive", 66), pte.NONE]
    for options, dropped in (({}, 4), ({"policy": "v7.0"}, 4), ({"policy": "v7.2"}, 3)):
        population = rf.Population.from_arrays(np.array(words), folio_pfn=64, folio_order=2, kind="lazyfree")
        population.folio_refcount += 1
        rf.try_to_unmap_one(population, 0, 0, **options)
        assert population.folio_mapcount[0] == 3 - dropped
    population = rf.Population.from_arrays(table(4), folio_pfn=64, folio_order=2)
    assert rf.folio_referenced_one(population, 0, 0).events["young_calls"] == 1


@pytest.mark.parametrize("got", [0, -1, 17, 1 << 70, None, "1", 1.0, True])
def test_policy_in_python_that_returns_nonsense(got):
    def bad(folio, vma, walk, pte):
        return got

    with pytest.raises(
        ValueError, match=rf"policy: bad\(\) must return an int from 1 to 16.*got {re.escape(repr(got))}"
    ):
        rf.reclaim(rf.Population.synthetic("64KiB", young=0), "64KiB", policy=bad, engine="reference")


def test_policy_in_python_that_takes_more_than_is_left():
    def too_much(folio, vma, walk, pte):
        return 16

    population = rf.Population.from_arrays(table(15, pfn=65), folio_pfn=64, folio_order=4)
    with pytest.raises(ValueError, match="from 1 to 15, the pages left"):
        reference.try_to_unmap_one(population, 0, 0, policy=too_much, arch=rf.arch.get("x86-64"))


def test_policy_in_python_that_raises():
    def broken(folio, vma, walk, pte):
        raise RuntimeError("mine")

    population = rf.Population.synthetic("64KiB", young=0)
    before = snapshot(population)
    with pytest.raises(RuntimeError, match="mine"):
        rf.reclaim(population, "64KiB", policy=broken, engine="reference")
    assert_untouched(population, before)
