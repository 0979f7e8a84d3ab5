"""What reclaim and madvise do when they cannot take a folio whole: closed forms from the kernel's rules.

The rules are those of docs/kernel-rules.md, section 2.9.
"""

from itertools import pairwise

import numpy as np
import pytest

import rmapfast as rf
from rmapfast import calls, pte, reference
from rmapfast.flags import FolioFlag, PageFlag, VmaFlag

ENGINES = ("c", "general", "reference")
EDITIONS = ("v6.12", "v6.18", "v7.0", "v7.0.12", "v7.2", "v7.3")
PAGE = 4096


@pytest.fixture(params=ENGINES)
def engine(request):
    return request.param


def anon(pages, order, **arguments):
    return rf.Population.synthetic(pages * PAGE, kind="anon", orders=order, **arguments)


def pageout(population, engine, first=None, end=None, action="MADV_PAGEOUT", **arguments):
    """Call madvise on pages first to end of the only VMA, or on all of it."""
    if first is not None:
        base = int(population.vma_start[0])
        arguments |= {"start": (base + first) * PAGE, "length": (end - first) * PAGE}
    return rf.madvise(population, action, engine=engine, **{"swap": False} | arguments)


def pages(population, *spans):
    base = int(population.vma_start[0])
    return np.concatenate([np.arange(base + first, base + end) for first, end in spans])


def states(population):
    """One letter for each entry: . none, s swap, 0 zero page, P present in a folio of order 0, L in a large one."""
    letters = []
    order = {}
    for number in np.flatnonzero(population.folio_flags & FolioFlag.FREED == 0):
        first = int(population.folio_pfn[number])
        order |= dict.fromkeys(
            range(first, first + (1 << int(population.folio_order[number]))), int(population.folio_order[number])
        )
    for word, kind in zip(population.ptes, pte.kind(population.ptes), strict=True):
        if pte.KINDS[kind] == "present":
            large = order.get(int(pte.pfn(word)))
            letters.append("0" if word & pte.SPECIAL else "L" if large else "P")
        else:
            letters.append({"none": ".", "swap": "s", "hwpoison": "h"}[pte.KINDS[kind]])
    return "".join(letters)


# no slot, some slots


@pytest.mark.parametrize("policy", EDITIONS)
def test_without_swap_every_large_folio_is_split(engine, policy):
    """There is no test for free swap before the split, in any edition; then no piece gets a slot."""
    result = rf.reclaim(
        rf.Population.synthetic("16MiB", kind="anon", orders=2),
        entry="pageout", swap=False, policy=policy, engine=engine,
    )  # fmt: skip
    folios = 4096 // 4
    assert result.events["folio_splits"] == result.events["swpout_fallbacks"] == folios == 1024
    assert result.events["deferred_splits"] == folios  # the first PTE that goes leaves it partially mapped
    assert result.events["pages_activated"] == 4096
    assert result.reclaimed_pages == result.came_back_pages == result.swap_used == 0
    assert result.after.orders() == {0: 4096}
    assert states(result.after) == "P" * 4096
    again = rf.reclaim(result.after, entry="pageout", swap=False, policy=policy, engine=engine)
    assert again.events["folio_splits"] == 0


@pytest.mark.parametrize("policy", EDITIONS)
@pytest.mark.parametrize(("slots", "order"), [(3, 2), (10, 4), (1, 4)])
def test_pieces_take_slots_in_the_order_of_the_edition(engine, policy, slots, order):
    """6.12 takes the pages in rising order; later editions the first page, and then from the last one down."""
    result = pageout(anon(1 << order, order), engine, policy=policy, swap=slots * PAGE)
    size = 1 << order
    rising = "s" * slots + "P" * (size - slots)
    falling = "s" + "P" * (size - slots) + "s" * (slots - 1)
    assert states(result.after) == (rising if policy == "v6.12" else falling)
    assert result.reclaimed_pages == result.events["pages_written"] == result.swap_used == slots
    assert result.events["pages_activated"] == size - slots
    assert result.events["folios_swapped_whole"] == 0


def test_fragmented_swap_splits_each_folio_once(engine):
    """No run of slots, and yet every page finds one."""
    result = pageout(anon(64, 4), engine, swap=rf.Swap(fragmented=True))
    assert states(result.after) == "s" * 64
    assert result.events["folio_splits"] == result.events["swpout_fallbacks"] == 4
    assert result.events["swap_allocs"] == 64 and result.swap_used == 64


def test_swap_map(engine):
    """A cluster with the header serves single pages only; a whole cluster takes runs."""
    free = np.ones(1025, bool)
    free[0] = False
    result = pageout(anon(16, 4), engine, swap=rf.Swap(free=free))
    assert result.events["folios_swapped_whole"] == 1
    assert result.after.folio_swap[0] == 512
    small = pageout(anon(16, 4), engine, swap=rf.Swap(free=free[:65]))
    assert small.events["swpout_fallbacks"] == 1 and states(small.after) == "s" * 16


def test_whole_folios_go_to_swap_unsplit(engine):
    result = pageout(anon(64, 4), engine, swap=True)
    assert states(result.after) == "s" * 64
    assert result.events["folio_splits"] == result.events["deferred_splits"] == 0
    assert result.events["folios_swapped_whole"] == 4 and result.events["pages_written"] == 64


def test_zero_filled_folio_is_swapped_without_a_write(engine):
    """It uses slots but no I/O; one that holds anything is written as a whole."""
    population = anon(32, 4)
    rf.assume_pages(population, {"zero_filled": pages(population, (0, 24))})
    result = pageout(population, engine, swap=True)
    assert states(result.after) == "s" * 32 and result.swap_used == 32
    assert result.events["pages_written"] == 16 and result.events["folios_swapped_whole"] == 1


def test_zero_filled_pages_come_back(engine):
    """Every 4th page of two THPs was written, and 768 of 1024 pages come back; reclaim counts none of it."""
    population = anon(1024, 9)
    zeroes = pages(population, (0, 1024))
    rf.assume_pages(population, {"zero_filled": zeroes[np.arange(1024) % 4 > 0]})
    rss = int(population.mm_rss[0, 1])
    result = pageout(population, engine)
    assert result.came_back_pages == result.events["zero_pages_freed"] == result.events["zero_pages_mapped"] == 768
    assert result.reclaimed_pages == 0 and states(result.after) == "P000" * 256
    assert rss - int(result.after.mm_rss[0, 1]) == 768
    zero = result.after.ptes[1]
    assert pte.pfn(zero) == pte.ZERO_PFN and not zero & (pte.WRITE | pte.DIRTY) and not pte.maps_page(zero)


@pytest.mark.parametrize("holds", ["mlocked folio", "locked VMA", "poisoned page"])
def test_zero_filled_pages_that_stay(holds):
    """Not in a locked VMA, of a mlocked folio, or poisoned. Only the reference is asked for a single split."""
    population = anon(16, 4)
    rf.assume_pages(population, {"zero_filled": pages(population, (0, 16))})
    if holds == "mlocked folio":
        population.folio_flags[0] |= np.uint32(FolioFlag.MLOCKED)
    elif holds == "locked VMA":
        population.vma_flags[0] |= np.uint32(VmaFlag.LOCKED)
    else:
        population.page_flags[3] |= np.uint8(PageFlag.HWPOISON)
    kernel = reference.Kernel(population, "v7.0", rf.arch.get("x86-64"))
    assert kernel.split(kernel.folio(0), isolated=False) is not None
    assert states(population) == {"poisoned page": "000h" + 12 * "0"}.get(holds, 16 * "P")


# proposals


def test_split_only_if_slots_are_free(engine):
    for policy, slots, expected in (
        ("noswap-split-any", 0, "LLLL"),
        ("noswap-split-any", 3, "sPss"),
        ("noswap-split-all", 0, "LLLL"),
        ("noswap-split-all", 3, "LLLL"),
        ("v7.0.12", 0, "PPPP"),
    ):
        result = pageout(anon(4, 2), engine, policy=policy, swap=slots * PAGE)
        assert states(result.after) == expected, (policy, slots)
    contiguous = pageout(anon(4, 2), engine, policy="noswap-split-all", swap=rf.Swap(4, fragmented=True))
    assert states(contiguous.after) == "ssss"


def test_one_flush_for_31_dirty_folios(engine):
    """64 dirty folios of order 0 take a flush each, or ceil(64 / 31) = 3."""
    for policy, flushes in (("v7.0.12", 64), ("flush-batch", 3)):
        result = pageout(anon(64, 0), engine, policy=policy, swap=True)
        assert result.events["tlb_flushes"] == flushes and states(result.after) == "s" * 64


def test_one_flush_for_each_split(engine):
    """The split flushes what it deferred; nothing is left for the end of the list."""
    assert pageout(anon(64, 4), engine).events["tlb_flushes"] == 4


# madvise with ranges


def test_cut_anonymous_folio(engine):
    """Pages 5 to 42 of four folios: the first and the third are cut, all pages of a cut folio become order 0."""
    result = pageout(anon(64, 4), engine, 5, 43)
    assert states(result.after) == "P" * 48 + "L" * 16
    assert result.events["folio_splits"] == 3 and result.events["swpout_fallbacks"] == 1  # a cut is no fallback
    assert result.events["pages_activated"] == 38
    swapped = pageout(anon(64, 4), engine, 5, 43, swap=True)
    assert states(swapped.after) == "P" * 5 + "s" * 38 + "P" * 5 + "L" * 16
    assert swapped.events["folio_splits"] == 2 and swapped.events["folios_swapped_whole"] == 1


@pytest.mark.parametrize("action", ["MADV_PAGEOUT", "MADV_COLD"])
def test_cut_file_folio_is_unmapped_and_stays_cached(engine, action):
    """16 freed (the whole folio, page-out only), 32 unmapped but cached, 16 untouched."""
    population = rf.Population.synthetic(64 * PAGE, orders=4)
    result = pageout(population, engine, 5, 43, action=action)
    freed = 16 if action == "MADV_PAGEOUT" else 0
    assert result.reclaimed_pages == result.came_back_pages == freed
    assert states(result.after) == "." * 16 + ("." if freed else "L") * 16 + "." * 16 + "L" * 16
    cached = result.after.folio_flags & FolioFlag.FREED == 0
    assert int(np.left_shift(1, result.after.folio_order[cached].astype(int)).sum()) == 64 - freed
    assert result.events["folio_splits"] == 2
    again = pageout(result.after, engine, action=action)
    assert again.reclaimed_pages == freed and again.events["folio_splits"] == 0  # no PTE leads to the cached ones


def test_dirty_file_folio_is_not_split(engine):
    """Its private data cannot be released."""
    result = pageout(rf.Population.synthetic(16 * PAGE, orders=4, folio_dirty=1.0), engine, 0, 5)
    assert states(result.after) == "L" * 16 and result.events["split_failures"] == 1


def test_cold_of_whole_folios_splits_none(engine):
    population = anon(32, 4, active=True)
    result = pageout(population, engine, action="MADV_COLD")
    assert states(result.after) == "L" * 32 and not np.any(result.after.ptes & pte.YOUNG)
    assert list(result.after.lru_inactive) == [0, 1] and not len(result.after.lru_active)


def test_free_then_pageout(engine):
    """MADV_FREE of pages 5 to 42, then MADV_PAGEOUT without swap: 38 pages are discarded, 26 stay."""
    freed = pageout(anon(64, 4), engine, 5, 43, action="MADV_FREE")
    assert states(freed.after) == "P" * 16 + "L" * 16 + "P" * 16 + "L" * 16
    assert freed.reclaimed_pages == 0
    result = pageout(freed.after, engine)
    assert states(result.after) == "P" * 5 + "." * 38 + "P" * 21
    assert result.reclaimed_pages == 38


def test_dirty_spreads_to_the_pieces_of_a_split(engine):
    """A lazyfree folio with one page written again stays whole if it is cut, up to the pages outside of it."""
    population = anon(16, 4)
    cleaned = pageout(population, engine, action="MADV_FREE").after
    rf.assume_pages(cleaned, {"dirty": pages(cleaned, (5, 6))})
    result = pageout(cleaned, engine, 0, 15)
    assert states(result.after) == "P" * 16 and result.reclaimed_pages == 0
    clean = pageout(pageout(population, engine, action="MADV_FREE").after, engine, 0, 15)
    assert states(clean.after) == "." * 15 + "P" and clean.reclaimed_pages == 15


def test_locked_vma_ends_the_call(engine):
    """The VMAs before it were done, it and all after it are not."""
    population = anon(64, 4)
    parts = split_vma(population, 32, 48)
    parts.vma_flags[1] |= np.uint32(VmaFlag.LOCKED)
    result = pageout(parts, engine)
    assert result.ret == -22
    assert states(result.after) == "P" * 32 + "L" * 32


def test_gap_is_reported_at_the_end(engine):
    """All the rest was done."""
    population = anon(64, 4)
    base = int(population.vma_start[0]) * PAGE
    result = rf.madvise(population, "MADV_PAGEOUT", base, 65 * PAGE, swap=False, engine=engine)
    assert result.ret == -12 and states(result.after) == "P" * 64
    assert rf.madvise(population, "MADV_PAGEOUT", base, 0, swap=False, engine=engine).ret == 0
    nowhere = rf.madvise(population, "MADV_PAGEOUT", 0, PAGE, swap=False, engine=engine)
    assert nowhere.ret == -12 and states(nowhere.after) == "L" * 64


def test_free_needs_anonymous_memory(engine):
    result = pageout(rf.Population.synthetic(16 * PAGE, orders=4), engine, action="MADV_FREE")
    assert result.ret == -22 and states(result.after) == "L" * 16


def test_caller_that_may_not_write_the_file(engine):
    """A shared mapping is passed over, result 0; MADV_COLD asks for no permission."""
    population = rf.Population.synthetic(16 * PAGE, orders=4)
    result = pageout(population, engine, owner=False)
    assert result.ret == 0 and states(result.after) == "L" * 16
    private = population.copy()
    private.vma_flags[0] &= ~np.uint32(VmaFlag.SHARED)
    assert states(pageout(private, engine, owner=False).after) == "L" * 16
    assert states(pageout(private, engine).after) == "." * 16
    assert states(pageout(population, engine, 0, 4, action="MADV_COLD", owner=False).after) == "." * 16


def test_two_processes_with_a_half_each(engine):
    """6.12 guesses by page 0, which is mapped once; later editions keep track of who maps the folio."""
    ptes = np.array([pte.make("present", 512 + page, ["write", "dirty"]) if page < 8 else 0 for page in range(16)])
    population = rf.Population.from_arrays(ptes.astype(np.uint64), folio_pfn=[512], folio_order=4, kind="anon")
    rf.assume_pages(population, {"shared": pages(population, (8, 16))})
    assert int(population.folio_mapcount[0]) == 16
    assert states(pageout(population, engine, policy="v6.12").after) == "P" * 8 + "." * 8
    assert states(pageout(population, engine, policy="v7.2").after) == "L" * 8 + "." * 8


def test_folio_that_is_mapped_twice_is_left_alone(engine):
    for policy in ("v6.12", "v7.2"):
        population = anon(16, 4, external=1)
        assert states(pageout(population, engine, 0, 8, policy=policy).after) == "L" * 16
        assert states(pageout(population, engine, policy=policy).after) == "L" * 16


def test_bad_ranges():
    population = anon(16, 4)
    for arguments, message in (
        (("MADV_DONTNEED",), "action: expected one of"),
        (("MADV_COLD", 1, PAGE), "start: expected a multiple of the page size"),
        (("MADV_COLD", PAGE, None), "length: expected it together with start"),
        (("MADV_COLD", 1 << 63, 1 << 63), "length: expected a range that ends below"),
        (("MADV_COLD", 0, -1), "length: expected"),
    ):
        with pytest.raises(ValueError, match=message):
            rf.madvise(population, *arguments)
    with pytest.raises(ValueError, match="mm: expected"):
        rf.madvise(population, "MADV_COLD", mm=1)
    with pytest.raises(ValueError, match="zero_filled: expected pages of folios of the population"):
        rf.assume_pages(population, {"zero_filled": [3]})
    with pytest.raises(ValueError, match="nonsense: expected one of"):
        rf.assume_pages(population, {"nonsense": [3]})
    with pytest.raises(ValueError, match="free: expected as many elements as the device has slots"):
        rf.Swap(4, free=[False, True])
    assert states(population) == "L" * 16 and "zero_filled" not in population.assumptions


# the deferred-split queue


def test_shrinker_splits_what_is_partially_mapped(engine):
    """Without swap the list is not scanned, and yet unmapped pages come back; reclaim counts none."""
    population = anon(64, 4, holes="every:2")
    result = rf.reclaim(population, "1MiB", swap=False, engine=engine)
    assert result.events["folio_splits"] == result.events["deferred_scans"] == 4
    assert result.came_back_pages == 32 and result.reclaimed_pages == 0
    assert states(result.after) == ".P" * 32
    # Four folios: nothing is scanned at the priorities 12 to 2, and all of them at 1. No round frees anything, so there
    # are 16, each with its 13 priorities twice.
    assert result.events["reclaim_rounds"] == 16 and result.events["priority_passes"] == 16 * 26


def test_pinned_folio_fails_in_the_shrinker(engine):
    population = anon(32, 4, holes="every:2")
    rf.assume_pages(population, {"pinned": pages(population, (1, 2))})
    result = rf.reclaim(population, "1MiB", swap=False, engine=engine)
    assert states(result.after) == ".L" * 8 + ".P" * 8
    assert result.events["folio_splits"] == 1 and result.events["split_failures"] > 1


def test_partially_mapped_folio_is_split_by_the_list_with_swap(engine):
    """Only mapped pages are written, and unmapped pieces hold a slot during their turn only."""
    population = anon(16, 4, holes="every:4")
    result = pageout(population, engine, swap=12 * PAGE)
    assert states(result.after) == ".sss" * 4 and result.swap_used == 12
    assert result.events["swpout_fallbacks"] == 0 and result.events["folios_swapped_whole"] == 0


# without a mapcount per page (CONFIG_NO_PAGE_MAPCOUNT)

EXACT = rf.arch.get("x86-64")
BY_FOLIO = EXACT.replace(page_mapcount=False)


def mapped_by_halves(processes, kind="lazyfree"):
    """One isolated folio of 16 pages; process p maps its first half by VMA 2 * p, and the other by VMA 2 * p + 1."""
    population = rf.Population.synthetic(16 * PAGE, kind=kind, orders=4, sharing=processes)
    process = np.repeat(np.arange(processes), 2)
    first = np.tile(np.array([0, 8], np.uint64), processes)
    for name in ("vma_flags", "vma_mm", "vma_table_base"):
        setattr(population, name, getattr(population, name)[process])
    for name in ("vma_pgoff", "vma_pte_base", "vma_start"):
        setattr(population, name, getattr(population, name)[process] + first)
    population.vma_end = population.vma_start + np.uint64(8)
    population.vma_window_start, population.vma_window_end = population.vma_start.copy(), population.vma_end.copy()
    population.rmap_start = np.array([0, 2 * processes], np.uint64)
    population.rmap_vma = np.arange(2 * processes, dtype=np.uint32)
    population.folio_refcount += 1
    return population


# The kind, how many processes map the folio, the VMAs that it is unmapped from; after each of them the statistic's
# change and the folios queued: with a mapcount per page, and without.
HALVES = [
    ("file", 1, (0, 1), ((-8, 0), (-8, 0)), ((0, 0), (-16, 0))),
    ("lazyfree", 1, (0, 1), ((-8, 1), (-8, 0)), ((0, 1), (-16, 0))),
    # Two processes lose the same half: 16 mappings of 16 pages are left. The next loss shows it.
    ("lazyfree", 2, (0, 2, 1, 3), ((0, 0), (-8, 1), (0, 0), (-8, 0)), ((0, 0), (0, 0), (0, 1), (-16, 0))),
    # One process loses the folio, and no page is unmapped; then the other loses a half.
    ("lazyfree", 2, (0, 1, 2), ((0, 0), (0, 0), (-8, 1)), ((0, 0), (0, 0), (0, 1))),
    # Each process loses another half: every page is still mapped, and the mapcount does not tell.
    ("lazyfree", 2, (0, 3), ((0, 0), (0, 0)), ((0, 0), (0, 0))),
    # Three processes lose a half, two of them the same: 24 mappings are left.
    ("lazyfree", 3, (0, 2, 4, 1), ((0, 0), (0, 0), (-8, 1), (0, 0)), ((0, 0), (0, 0), (0, 0), (0, 0))),
]


@pytest.mark.parametrize("model", [calls, reference], ids=["c", "reference"])
@pytest.mark.parametrize(("kind", "processes", "vmas", "exact", "by_folio"), HALVES)
def test_halves_with_and_without_page_mapcounts(model, kind, processes, vmas, exact, by_folio):
    """Without them the folio's mapcount m decides: all pages count until m is 0; partially mapped is 0 < m < 16."""
    for arch, expected in ((EXACT, exact), (BY_FOLIO, by_folio)):
        population = mapped_by_halves(processes, kind)
        got = []
        for vma in vmas:
            call = model.try_to_unmap_one(population, 0, vma, policy="v7.2", arch=arch, ttu=["BATCH_FLUSH", "SYNC"])
            assert call.ret and call.events["ptes_cleared"] == 8
            assert call.events["page_mapcount_atomics"] == (8 if arch.page_mapcount else 0)
            got.append((call.mapped_stat, call.events["deferred_splits"]))
        assert tuple(got) == expected
        assert int(population.folio_mapcount[0]) == 16 * processes - 8 * len(vmas)


def test_queue_without_page_mapcounts(engine):
    """A split queues its folio on the way with both: the first page that goes leaves m = 15."""
    for arch in (EXACT, BY_FOLIO):
        result = pageout(anon(32, 4), engine, arch=arch)
        assert result.events["folio_splits"] == result.events["deferred_splits"] == 2
        assert states(result.after) == "P" * 32


@pytest.mark.parametrize("external", [0, 1])
def test_lazyfree_folio_page_by_page_without_page_mapcounts(engine, external):
    """If somebody else maps each page too, the mapcount falls from 32 to 16 only, and no page is unmapped."""
    for arch in (EXACT, BY_FOLIO):
        population = rf.Population.synthetic(16 * PAGE, kind="lazyfree", orders=4, young=0, external=external)
        result = rf.reclaim(population, 16 * PAGE, policy="v6.12", arch=arch, engine=engine)
        assert result.events["ptes_cleared"] == result.events["batches"] == 16
        assert result.events["deferred_splits"] == 1 - external


# poison, pins, references


@pytest.mark.parametrize("page", [0, 5, 15])
def test_any_poisoned_page_keeps_a_large_folio(engine, page):
    population = anon(32, 4)
    population.page_flags[:16] = PageFlag.EXCLUSIVE
    population.page_flags[page] |= np.uint8(PageFlag.HWPOISON)
    population.folio_flags[0] ^= np.uint32(FolioFlag.PAGE_FLAGS | FolioFlag.EXCLUSIVE)
    result = pageout(population, engine, swap=True)
    assert states(result.after) == "L" * 16 + "s" * 16
    assert result.events["folios_kept"] == 1 and result.events["pages_scanned"] == 16


def test_poisoned_single_page_is_unmapped_and_dropped(engine):
    population = anon(2, 0)
    population.page_flags[0] = PageFlag.EXCLUSIVE | PageFlag.HWPOISON
    population.folio_flags[0] ^= np.uint32(FolioFlag.PAGE_FLAGS | FolioFlag.EXCLUSIVE)
    result = pageout(population, engine, swap=True)
    assert states(result.after) == "hs" and result.reclaimed_pages == 1
    assert result.events["folios_kept"] == result.events["folios_activated"] == 0
    assert 0 not in {*result.after.lru_inactive, *result.after.lru_active}


@pytest.mark.parametrize(
    ("what", "order", "swap", "state", "active", "slots"),
    [
        ("extra_references", 0, True, "s", 0, 1),
        ("extra_references", 0, False, "P", 1, 0),
        ("extra_references", 2, True, "LLLL", 4, 0),
        ("extra_references", 2, False, "LLLL", 4, 0),
        ("pinned", 0, True, "P", 0, 0),
        ("pinned", 2, True, "LLLL", 0, 0),
        ("pinned", 2, False, "LLLL", 0, 0),
    ],
)
def test_references_and_pins_of_anonymous_folios(engine, what, order, swap, state, active, slots):
    """The table of E."""
    population = anon(1 << order, order)
    rf.assume_pages(population, {what: pages(population, (0, 1))})
    result = pageout(population, engine, swap=swap)
    assert states(result.after) == state and result.reclaimed_pages == 0
    assert result.events["pages_activated"] == active and result.swap_used == slots
    assert result.events["folio_splits"] == result.events["swpout_fallbacks"] == result.events["folios_written"] == 0


def test_references_and_pins_of_other_folios(engine):
    for kind, what, state, active in (
        ("file", "extra_references", "....", 0),
        ("file", "pinned", "....", 4),
        ("lazyfree", "extra_references", "LLLL", 4),
        ("lazyfree", "pinned", "LLLL", 4),
    ):
        population = rf.Population.synthetic(4 * PAGE, kind=kind, orders=2)
        rf.assume_pages(population, {what: pages(population, (0, 1))})
        result = pageout(population, engine)
        assert states(result.after) == state, (kind, what)
        assert result.events["pages_activated"] == active and result.reclaimed_pages == 0
        assert result.after.folio_flags[0] & FolioFlag.FREED == 0


def test_cut_folio_that_somebody_holds_is_not_split(engine):
    population = anon(16, 4)
    rf.assume_pages(population, {"extra_references": pages(population, (0, 1))})
    result = pageout(population, engine, 0, 4)
    assert states(result.after) == "L" * 16 and result.events["split_failures"] == 1


# shmem


def test_shmem_without_a_run_of_slots(engine):
    """10 slots, two folios of order 4: 10 pages swapped, 22 stay cached and active, no PTE is left."""
    population = rf.Population.synthetic(32 * PAGE, kind="shmem", orders=4)
    for policy, counted in (("v6.12", 0), ("v7.2", 2)):
        result = pageout(population, engine, swap=10 * PAGE, policy=policy)
        assert states(result.after) == "." * 32 and result.reclaimed_pages == 10
        assert result.events["pages_activated"] == 22 and result.events["swpout_fallbacks"] == counted
    without = pageout(population, engine)
    assert without.events["folio_splits"] == 0 and without.events["pages_activated"] == 32
    assert states(without.after) == "." * 32


def split_vma(population, first, end):
    """The same with its only VMA cut into three at these pages."""
    cuts = [0, first, end, int(population.vma_end[0] - population.vma_start[0])]
    arrays = {name: getattr(population, name) for name in rf.population.ARRAYS}
    start, table = int(population.vma_start[0]), population.ptrs_per_pte
    parts = list(pairwise(cuts))
    for name, values in {
        "vma_start": [start + low for low, _ in parts],
        "vma_end": [start + high for _, high in parts],
        "vma_pgoff": [int(population.vma_pgoff[0]) + low for low, _ in parts],
        "vma_pte_base": [low for low, _ in parts],
        "vma_table_base": [(start + low) // table - start // table for low, _ in parts],
    }.items():
        arrays[name] = np.array(values, np.uint64)
    for name in ("vma_flags", "vma_mm", "vma_window_start", "vma_window_end"):
        arrays[name] = np.repeat(arrays[name], 3)
    rows = []
    for folio in range(population.nr_folios):
        low = int(population.folio_index[folio]) - int(population.vma_pgoff[0])
        high = low + (1 << int(population.folio_order[folio]))
        rows.append([number for number, (a, b) in enumerate(parts) if low < b and high > a])
    arrays["rmap_start"] = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.uint64)
    arrays["rmap_vma"] = np.array([vma for row in rows for vma in row], np.uint32)
    return rf.Population(ptrs_per_pte=table, arch=population.arch, **arrays)


@pytest.mark.parametrize("engine", ["c", "general", "reference"])
def test_underused_thps(engine):
    """Each of two THPs has 504 zero-filled pages; the shrinker splits it if that is more than max_ptes_none."""
    for max_ptes_none, splits in ((None, 0), (0, 2), (503, 2), (504, 0), (511, 0)):
        population = rf.Population.synthetic("4MiB", kind="anon", orders=9)
        first = int(population.vma_start[0])
        rf.assume_pages(population, {"zero_filled": [first + page for page in range(1024) if page % 64]})
        result = rf.reclaim(
            population, "4MiB", policy="v7.2", arch="x86-64", swap=False, max_ptes_none=max_ptes_none, engine=engine
        )
        assert result.events["folio_splits"] == splits
        assert result.came_back_pages == 504 * splits
        assert result.reclaimed_pages == 0


@pytest.mark.parametrize("engine", ["c", "reference"])
def test_a_thp_of_zeroes_alone_is_not_underused_as_kernels_boot(engine):
    for max_ptes_none, splits in ((510, 1), (511, 0)):
        population = rf.Population.synthetic("2MiB", kind="anon", orders=9)
        first = int(population.vma_start[0])
        rf.assume_pages(population, {"zero_filled": range(first, first + 512)})
        result = rf.reclaim(population, "2MiB", arch="x86-64", swap=False, max_ptes_none=max_ptes_none, engine=engine)
        assert result.events["folio_splits"] == splits


def test_max_ptes_none_out_of_range():
    population = rf.Population.synthetic("2MiB", kind="anon", orders=9)
    with pytest.raises(ValueError, match="max_ptes_none: expected"):
        rf.reclaim(population, "2MiB", arch="x86-64", max_ptes_none=512)
    with pytest.raises(ValueError, match=r"max_ptes_none: expected with entry=.memory\.reclaim."):
        rf.reclaim(population, arch="x86-64", entry="pageout", max_ptes_none=64)
