"""What the model must do whatever computes it: closed forms, facts about kernels, identities, bugs and their fixes."""

import functools
import json
import math

import numpy as np
import pytest
from classic_model import ClassicModel
from random_populations import random_arch, random_population, random_swap, with_unseen
from test_twins import assert_same_state, pairs

import rmapfast as rf
from rmapfast import _core, loop, pte
from rmapfast.flags import FolioFlag, PageFlag, TableState, VmaFlag

PER_PAGE = rf.policy.get("per-page")
# The oracle of everything but the reference check, which counts references per batch where it batches.
ORACLE = PER_PAGE.replace(name="per-page+young", young="batched")
# Editions and proposals without a known bug.
SOUND = ("v7.0.12", "v7.3", "walker-jump", "skip-caller", "skip-hint")
WHOLE = {"file": "v7.0.12", "lazyfree": "v7.0.12", "shmem": "v7.0.12", "anon": "anon-swap"}
PAGE = 4096
UNMAP = ("BATCH_FLUSH", "SYNC")


def synthetic(pages, **options):
    return rf.Population.synthetic(pages * PAGE, **options)


def unmap_all(pages, policy, *, entry="memory.reclaim", arch="x86-64", **options):
    """Reclaim everything from a synthetic population whose PTEs are old, so that each folio is handled once."""
    population = synthetic(pages, arch=arch, **{"young": 0} | options)
    return rf.reclaim(population, pages * PAGE, policy=policy, arch=arch, entry=entry)


# Closed forms


@pytest.mark.parametrize("arch", ["x86-64", "arm64-4k"])
@pytest.mark.parametrize("order", [0, 1, 2, 4, 6, 9])
@pytest.mark.parametrize("kind", WHOLE)
def test_batches_of_aligned_folios(kind, order, arch):
    """N PTEs in folios of nr pages are unmapped in N / nr steps, or in N page by page, with one operation each."""
    pages, nr = 4096, 1 << order
    for policy, length in ((WHOLE[kind], nr), ("per-page", 1), ("v6.12", 1)):
        result = unmap_all(pages, policy, kind=kind, orders=order, arch=arch)
        events, steps = result.events, pages // length
        assert result.batch_lengths == {length: steps}
        assert events["batches"] == events["rmap_remove_calls"] == events["ref_puts"] == steps
        # A swap-out moves pages between two counters.
        assert events["rss_updates"] == (2 if kind == "anon" else 1) * steps
        assert events["tlb_deferred"] == steps and events["tlb_immediate"] == 0
        assert events["ptes_cleared"] == events["page_mapcount_atomics"] == pages
        assert result.reclaimed_pages == pages and not result.after.ptes[pte.kind(result.after.ptes) == 7].size
        assert events["unmap_calls"] == events["notifier_ranges"] == pages // nr


@pytest.mark.parametrize("order", [0, 1, 2, 4, 6, 9])
def test_walk_calls(order):
    """docs/kernel-rules.md, section 8: F + 1 per page, 1 for a whole folio; order 0: 1 from v7.0 on, 2 before."""
    pages, per_folio = 4096, 1 << order
    folios = pages // per_folio

    def calls(policy, entry):
        return unmap_all(pages, policy, entry=entry, orders=order).events["walk_calls"] / folios

    assert calls("v7.0", "pageout") == 1
    assert calls("v6.12", "pageout") == per_folio + 1
    assert calls("per-page", "pageout") == (per_folio + 1 if order else 1)
    # The reference check of memory.reclaim comes on top.
    assert calls("v7.0", "memory.reclaim") == 2
    assert calls("v6.12", "memory.reclaim") == 2 * (per_folio + 1)
    # v6.16 ends the walk if nr is the whole folio, as page 0 of order 0 is; v6.15 only after a real batch.
    assert calls("v6.16+young", "memory.reclaim") == (per_folio + 2 if order else 2)
    assert calls("v6.15", "pageout") == per_folio + 1


@pytest.mark.parametrize("every", [2, 5, 16, 17, 129])
@pytest.mark.parametrize("order", [2, 4, 9])
def test_holes(order, every):
    """Each run of mapped pages of a folio is one batch; a folio that is not one batch takes a walk call more."""
    pages = 4096
    folios = (np.arange(pages) % every != 0).reshape(-1, 1 << order)
    edges = np.diff(np.pad(folios, ((0, 0), (1, 1))).astype(int), axis=1)
    runs = np.count_nonzero(edges == 1, axis=1)
    lengths = np.nonzero(edges.ravel() == -1)[0] - np.nonzero(edges.ravel() == 1)[0]
    whole, mapped = np.count_nonzero(folios.all(axis=1)), np.count_nonzero(folios.any(axis=1))
    result = unmap_all(pages, "v7.0.12", orders=order, holes=f"every:{every}")
    events = result.events
    assert result.batch_lengths == dict(zip(*np.unique(lengths, return_counts=True), strict=True))
    assert events["unmap_calls"] == mapped and events["batches"] == runs.sum()
    assert events["walk_calls"] == 2 * (runs.sum() + mapped - whole)
    assert events["ptes_cleared"] == folios.sum()


@pytest.mark.parametrize("order", [0, 2, 4, 9])
def test_young_file_folios_are_checked_twice(order):
    """The first check clears the young bits and keeps the folio; only the second time around is it unmapped."""
    pages, target = 4096, 1024
    folios = pages >> order
    model = ClassicModel(folios, order, young=True)
    model.reclaim(target)
    wanted = len(model.freed)
    population = synthetic(pages, orders=order)
    result = rf.reclaim(population, target * PAGE, policy="v7.0")
    events = result.events
    assert target <= result.reclaimed_pages == events["pages_freed"] == wanted << order
    assert events["pages_scanned"] == pages + result.reclaimed_pages
    assert events["folios_scanned"] == events["referenced_calls"] == folios + wanted
    assert events["folios_kept"] == folios and events["folios_activated"] == 0
    assert events["unmap_calls"] == events["folios_freed"] == wanted
    assert events["young_clears"] == pages
    assert model.counts["isolations"] == events["isolation_calls"]
    # First in, first out: the first folios went.
    kinds = pte.kind(result.after.ptes)
    assert np.all(kinds[: wanted << order] == 0) and np.all(kinds[wanted << order :] == 7)


@pytest.mark.parametrize("order", range(10))
def test_isolation(order):
    """Isolations of up to 32 base pages, as priorities cut them, and one shrink_folio_list for each."""
    pages = 2048
    for target in (pages, 33):
        model = ClassicModel(pages >> order, order)
        counts = model.reclaim(target)
        result = rf.reclaim(synthetic(pages, orders=order, young=0), target * PAGE, policy="v7.0")
        events = result.events
        assert events["isolation_calls"] == counts["isolations"] and events["shrink_calls"] == counts["groups"]
        assert (events["reclaim_rounds"], events["priority_passes"]) == (counts["rounds"], counts["passes"])
        assert events["tlb_flushes"] == counts["flushes"]
        assert result.reclaimed_pages == len(model.freed) << order >= target
        assert events["pages_scanned"] == result.reclaimed_pages and events["folios_scanned"] == len(model.freed)


@pytest.mark.parametrize("order", range(14))
def test_page_cache_slots(order):
    """docs/kernel-rules.md, section 8: 1, 2, 4, 8, 16, 32, 1, 2 ... slots for orders 0, 1, 2 ..."""
    slots = (1, 2, 4, 8, 16, 32)[order % 6]
    for kind, expected in (("file", slots), ("shmem", slots), ("lazyfree", 0), ("anon", 0)):
        events = unmap_all(1 << 13, "v7.0", kind=kind, orders=order).events
        folios = 1 << 13 >> order
        assert events["page_cache_slots"] == expected * folios
        assert events["page_cache_folios"] == (folios if expected else 0)


@pytest.mark.parametrize("order", [0, 1, 4, 9])
def test_batch_reads(order):
    """Without contpte a scan reads all but the first entry; a contpte block is read by its first entry."""
    pages, nr = 2048, 1 << order
    events = unmap_all(pages, "v7.0", entry="pageout", orders=order).events
    assert events["batch_pte_reads"] == pages // nr * (nr - 1)
    # Order 0 is looked at before the lock is taken and again after it.
    assert events["walk_pte_reads"] == pages // nr * (1 if order else 2)
    events = unmap_all(pages, "v7.0", entry="pageout", orders=order, arch="arm64-4k").events
    blocks = nr // 16
    assert events["batch_pte_reads"] == pages // nr * (max(blocks - 1, 0) if blocks else nr - 1)


@pytest.mark.parametrize("order", [0, 1, 4, 9])
def test_batch_scans(order):
    """A folio that is one batch costs one scan for each unmap and one for each batched check; order 0 none."""
    pages, folios = 2048, 2048 >> order
    large = folios if order else 0
    # Scans by the unmap and by the reference check.
    expected = {
        "v6.14": {"file": (0, 0), "lazyfree": (0, 0), "anon": (0, 0)},
        "v6.15": {"file": (0, 0), "lazyfree": (large, 0), "anon": (0, 0)},
        "v6.16": {"file": (0, 0), "lazyfree": (large, 0), "anon": (0, 0)},
        "per-page": {"file": (0, 0), "lazyfree": (0, 0), "anon": (0, 0)},
        "v7.0": {"file": (large, large), "lazyfree": (large, large), "anon": (0, large)},
        "anon-swap": {"file": (large, large), "lazyfree": (large, large), "anon": (large, large)},
    }
    for policy, kinds in expected.items():
        for kind, (unmap, check) in kinds.items():
            for arch in ("x86-64", "arm64-4k"):
                result = unmap_all(pages, policy, kind=kind, orders=order, arch=arch)
                assert result.events["unmap_calls"] == result.events["referenced_calls"] == folios
                assert result.events["batch_scans"] == unmap + check
                assert result.referenced_events["batch_scans"] == check
                result = unmap_all(pages, policy, kind=kind, orders=order, arch=arch, entry="pageout")
                assert result.events["batch_scans"] == unmap


def test_batch_scans_of_an_unmap():
    """One for each step that comes to the scan; where nr is 1 for another reason there is none."""

    def scans(policy, words, ttu=UNMAP, **options):
        call = rf.try_to_unmap_one(folio_at(0, words, **options), 0, 0, policy=policy, ttu=ttu)
        assert call.ret and call.events["ptes_cleared"] == np.count_nonzero(words)
        return call.events["batch_scans"], call.events["batches"]

    hole = present(16)
    hole[3] = 0
    device = present(16)
    device[3] = pte.make("device_exclusive", (1 << 12) + 3)
    droppable = {"vma_flags": VmaFlag.DROPPABLE}
    assert scans("v7.0.12", present(16)) == (1, 1)
    assert scans("v7.0.12", hole) == (2, 2)
    assert scans("v7.0.12", device, **droppable) == (2, 3)
    # v6.15 tries at page 0 only, and takes all or nothing.
    assert scans("v6.15", present(16)) == (1, 1)
    assert scans("v6.15", hole) == (1, 15)
    assert scans("v6.15", [0, *present(15, first=1)]) == (0, 15)
    # By the folio, the entry, the unmap, the VMA.
    assert scans("v7.0.12", present(1), order=0) == (0, 1)
    assert scans("v7.0.12", present(16, "unused"), **droppable) == (0, 16)
    assert scans("v7.0.12", present(16), ttu=("HWPOISON",)) == (0, 16)
    assert scans("v7.0.12", present(16), vma_flags=VmaFlag.UFFD_WP) == (0, 16)
    assert scans("v7.3", present(16), vma_flags=VmaFlag.UFFD_WP) == (1, 1)


def test_batch_scans_of_a_python_policy():
    """Each scan that the function asks for is one."""

    def twice(folio, vma, walk, pte):
        return min(walk.batch(4), walk.batch(walk.room()))

    arch = rf.arch.get("x86-64")
    call = rf.reference.try_to_unmap_one(folio_at(0, present(16)), 0, 0, policy=twice, arch=arch, ttu=UNMAP)
    assert call.batch_lengths == {4: 4} and call.events["batch_scans"] == 8


def test_contpte_unfolds():
    """Page by page each block is unfolded once; whole blocks are cleared folded."""
    pages = 2048
    for policy, unfolds in (("per-page", pages // 16), ("v7.0", 0)):
        events = unmap_all(pages, policy, orders=4, entry="pageout", arch="arm64-4k").events
        assert events["contpte_unfolds"] == unfolds
        # A range TLBI per step and one per unfold; a barrier per unfold and per flush.
        assert events["tlbi_ops"] == events["batches"] + unfolds
        # A step of one page is no range; one of 16 is, and so is a block.
        assert events["tlbi_range_ops"] == (unfolds if unfolds else events["batches"])
        assert events["dsb_ops"] == events["tlb_flushes"] + unfolds


@pytest.mark.parametrize(
    ("cpumask", "deferred", "ipis"), [(0b01, False, 0), (0b10, True, 1), (0b11, True, 1), (0b1110, True, 3)]
)
def test_deferral_on_x86(cpumask, deferred, ipis):
    """docs/kernel-rules.md, section 2.7: deferred iff another CPU is in the mask; a flush signals each once."""
    pages = 512
    population = synthetic(pages, young=0)
    population.mm_cpumask[:] = cpumask
    events = rf.reclaim(population, pages * PAGE, policy="v7.0").events
    assert (events["tlb_deferred"], events["tlb_immediate"]) == ((32, 0) if deferred else (0, 32))
    calls = ClassicModel(32, 4).reclaim(pages)["groups"]
    assert events["tlb_flushes"] == (calls if deferred else 0)
    assert events["ipis"] == calls * ipis
    # INVLPG for each page of a range that is not deferred; a whole flush of its own TLB if CPU 0 is in the mask.
    assert events["tlbi_ops"] == (pages if not deferred else calls if cpumask & 1 else 0)


def test_flush_ceiling_on_x86():
    """Immediate ranges above 33 pages become one full flush."""
    for order, ops in ((4, 16), (5, 32), (6, 1), (9, 1)):
        population = synthetic(512, young=0, orders=order)
        population.mm_cpumask[:] = 1
        assert rf.reclaim(population, 512 * PAGE, policy="v7.0").events["tlbi_ops"] == ops * (512 >> order)


@pytest.mark.parametrize(
    ("pages", "ops", "ranged"),
    [(1, 1, 0), (2, 1, 1), (16, 1, 1), (3, 2, 1), (64, 1, 1), (65, 2, 1), (66, 2, 2), (67, 3, 2), (512, 1, 1)],
)
def test_range_tlbi(pages, ops, ranged):
    """A range TLBI covers up to 32 units of 2, 64 ... pages; an odd page left is one more, and not for a range."""
    words = np.array([pte.make("present", 1 << 10 | page) for page in range(pages)], np.uint64)
    order = (pages - 1).bit_length()
    single = rf.arch.get("arm64-4k").replace(range_tlbi=False)
    for arch, expected, expected_ranged in (("arm64-4k", ops, ranged), (single, pages, 0), ("x86-64", 0, 0)):
        population = rf.Population.from_arrays(words, folio_pfn=1 << 10, folio_order=order, start_vpn=1 << 9, arch=arch)
        population.mm_cpumask[:] = 3
        for ttu in (("BATCH_FLUSH", "SYNC"), ()):
            call = rf.try_to_unmap_one(population.copy(), 0, 0, arch=arch, ttu=ttu)
            assert call.batch_lengths == {pages: 1}
            assert call.events["tlbi_range_ops"] == expected_ranged
            if arch != "x86-64":
                # Without ranges 512 pages or more are one flush of the whole address space.
                assert call.events["tlbi_ops"] == (1 if pages >= 512 else expected)
        # The flush for young entries is another one of the same range.
        population.ptes[:] |= np.uint64(pte.YOUNG)
        call = rf.folio_referenced_one(population, 0, 0, arch=arch)
        assert call.events["young_calls"] == 1 and call.events["tlbi_range_ops"] == expected_ranged
        assert call.events["tlbi_ops"] == (1 if pages >= 512 and arch is single else expected)


@pytest.mark.parametrize("order", [0, 4, 9])
@pytest.mark.parametrize("arch", ["x86-64", "arm64-4k"])
def test_what_the_reference_checks_counted(arch, order):
    """Folios that are old: the check walks as the unmap does, but without the lock first, and flushes nothing."""
    pages, folios, nr = 2048, 2048 >> order, 1 << order
    for policy, calls in (("v7.0", 1), ("v6.14", nr + 1)):
        result = unmap_all(pages, policy, orders=order, arch=arch)
        events, part = result.events, result.referenced_events
        assert part["referenced_calls"] == events["referenced_calls"] == folios
        assert part["walk_calls"] == calls * folios and events["walk_calls"] == 2 * part["walk_calls"]
        assert part["ptl_locks"] == folios and events["ptl_locks"] == 2 * folios
        assert part["young_tests"] == events["young_tests"] > 0
        zero = (
            "unmap_calls",
            "batches",
            "ptes_cleared",
            "tlbi_ops",
            "tlb_deferred",
            "rmap_remove_calls",
            "shrink_calls",
        )
        assert not any(part[name] for name in zero)
        assert part["batch_pte_reads"] == events["batch_pte_reads"] // 2
        # What comes on top of a MADV_PAGEOUT, which does not check, is the part of the checks.
        unchecked = unmap_all(pages, policy, orders=order, arch=arch, entry="pageout")
        assert not any(unchecked.referenced_events.values())
        for name in ("walk_calls", "walk_yields", "walk_pte_reads", "batch_scans", "entry_pte_reads", "raw_pte_loads"):
            assert events[name] - part[name] == unchecked.events[name]


def test_young_folios_are_flushed_for_by_the_check():
    """arm64: a range TLBI for each folio of 16 young pages, without a barrier; the unmap takes another one later."""
    result = rf.reclaim(synthetic(1024, arch="arm64-4k"), 1024 * PAGE, policy="v7.0", arch="arm64-4k")
    folios = 1024 // 16
    for name in ("tlbi_ops", "tlbi_range_ops"):
        assert result.referenced_events[name] == folios and result.events[name] == 2 * folios
    assert result.referenced_events["young_flushes"] == folios
    assert not result.referenced_events["dsb_ops"] + result.referenced_events["dsb_ishst_ops"]


def test_active_folios_are_deactivated_first():
    pages = 1024
    result = unmap_all(pages, "v7.0", active=True)
    assert result.events["active_passes"] == ClassicModel(64, 4, active=True).reclaim(pages)["active_passes"]
    assert result.events["folios_deactivated"] == result.events["folios_freed"] == pages // 16
    # Checked on the active list, then on the inactive one: measured-vm.toml, fr against tuo.
    assert result.events["referenced_calls"] == 2 * result.events["unmap_calls"]


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_sharing(processes):
    pages = 512
    result = unmap_all(pages, "v7.0", sharing=processes)
    assert result.batch_lengths == {16: 32 * processes}
    assert result.events["unmap_calls"] == result.events["referenced_calls"] == 32 * processes
    assert result.events["folios_freed"] == 32


def test_external_mappings_keep_folios():
    result = rf.reclaim(synthetic(512, young=0, external=1), 512 * PAGE, policy="v7.0")
    assert result.reclaimed_pages == 0 and not result.target_reached
    assert result.events["unmap_failures"] > 0
    assert np.array_equal(result.after.folio_mapcount, np.full(32, 16))


def test_writable_file_pages_split_batches():
    """The write bit must match from v7.0 on: a batch ends where it flips; v7.0-rc1 does not look."""
    pages = 4096
    population = synthetic(pages, young=0, write=0.3, seed=3)
    write = (population.ptes & pte.WRITE > 0).reshape(-1, 16)
    flips = np.count_nonzero(write[:, 1:] != write[:, :-1])
    for policy, steps in (("v7.0", pages // 16 + flips), ("v7.0-rc1", pages // 16), ("per-page", pages)):
        assert rf.reclaim(population, pages * PAGE, policy=policy).events["batches"] == steps


def test_table_border_splits_a_folio():
    """A folio of 16 pages that begins 8 entries before a table's end is two batches, in two tables."""
    events = unmap_all(512, "v7.0", phase=504, entry="memory.reclaim").events
    straddling = 1
    assert events["batches"] == 512 // 16 + straddling
    # In the reference check and in the unmap.
    assert events["table_crossings"] == 2 * straddling


# Swap and clean-up


def test_swap_space():
    pages = 1024
    for swap, freed in ((True, pages), (False, 0), (512 * PAGE, 512)):
        population = synthetic(pages, kind="anon", young=0)
        result = rf.reclaim(population, pages * PAGE, policy="v7.0", swap=swap)
        assert result.reclaimed_pages == freed
        assert result.events["swap_allocs"] == result.events["folios_written"] == freed // 16
        assert result.events["swap_dups"] == freed
        assert result.after.mm_rss[0].tolist() == [0, pages - freed, freed, 0]
        assert np.count_nonzero(pte.kind(result.after.ptes) == 1) == freed


def test_swap_entries_carry_bits():
    """Soft-dirty, uffd-wp and exclusive go into the swap entry; its offsets rise with the pages."""
    words = np.array([pte.make("present", 64 + page, ["dirty"]) for page in range(4)], np.uint64)
    words[1] |= pte.SOFT_DIRTY
    words[2] |= pte.UFFD_WP
    population = rf.Population.from_arrays(words, folio_pfn=64, folio_order=2, kind="anon")
    for policy in ("per-page", "v7.3", "anon-swap"):
        after = rf.reclaim(population, 4 * PAGE, policy=policy, entry="pageout").after.ptes
        offsets = pte.pfn(after)
        assert np.array_equal(offsets - offsets[0], np.arange(4))
        assert [pte.flags(word) for word in after] == [
            ["exclusive"], ["exclusive", "soft_dirty"], ["exclusive", "uffd_wp"], ["exclusive"],
        ]  # fmt: skip


def test_dirty_lazyfree_is_kept():
    """A dirty lazyfree folio becomes swapbacked and stays mapped as it was, but for the spread of dirty.

    Putting back the batch folds its contpte block, as set_ptes() does.
    """
    words = np.array([pte.make("present", 64 + page, ["write"]) for page in range(16)], np.uint64)
    words[5] |= pte.DIRTY
    population = rf.Population.from_arrays(words, folio_pfn=64, folio_order=4, kind="lazyfree", arch="arm64-4k")
    for policy in ("v7.0.12", "v7.3", "per-page"):
        result = rf.reclaim(population, 16 * PAGE, policy=policy, arch="arm64-4k", entry="pageout")
        after = result.after
        assert result.reclaimed_pages == 0 and result.events["unmap_failures"] == 1
        assert after.folio_flags[0] & FolioFlag.SWAPBACKED
        kept = slice(5, None) if policy == "per-page" else slice(None)
        ignored = pte.DIRTY | pte.CONT
        assert np.array_equal(after.ptes[kept] & ~ignored, words[kept] & ~ignored)
        assert np.all(after.ptes & pte.CONT) == (policy != "per-page") == result.events["contpte_folds"]
        assert after.ptes[5] & pte.DIRTY
        assert after.folio_mapcount[0] == np.count_nonzero(pte.kind(after.ptes) == 7)
        assert after.mm_rss[0, 1] == after.folio_mapcount[0]


# Identities

MIGRATION = (pte.KINDS.index("migration"),)


def mappings(population, given, kinds=(3, 7)):
    """Entries that map a page of the `given` population's folios, (mms, folios); a PMD leaf counts for each page."""
    per_table = population.ptrs_per_pte
    counts = np.zeros((len(population.mm_flags), given.nr_folios + 1), np.int64)
    size = np.uint64(1) << given.folio_order.astype(np.uint64)
    for vma in range(len(population.vma_start)):
        start, end = int(population.vma_start[vma]), int(population.vma_end[vma])
        base, first = int(population.vma_pte_base[vma]), start // per_table
        for vpn in range(start, end):
            state = population.table_state[int(population.vma_table_base[vma]) + vpn // per_table - first]
            word = population.ptes[base + vpn - start]
            if state == TableState.ABSENT or int(pte.kind(word)) not in kinds:
                continue
            pfn = pte.pfn(word)
            owner = np.flatnonzero((given.folio_pfn <= pfn) & (pfn < given.folio_pfn + size))
            counts[population.vma_mm[vma], owner[0] if len(owner) else -1] += 1
    return counts


def owners(population, given):
    """The folio of the `given` population that each folio is, or is a piece of."""
    order = np.argsort(given.folio_pfn)
    return order[np.searchsorted(given.folio_pfn[order], population.folio_pfn, side="right") - 1]


def folio_mappings(population):
    """Mappings of the pages of each folio, those by a PMD counted for each page of its table."""
    entire = population.folio_entire_mapcount.astype(np.int64)
    return population.folio_mapcount - entire + entire * population.ptrs_per_pte


SEEDS = range(170)


@functools.cache
def odd_population(seed, odd=0.15):
    """A random population and its architecture; made once, for tests that do not change it."""
    arch = random_arch(np.random.default_rng(seed))
    return random_population(seed, arch, odd=odd), arch


@functools.cache
def oracle_run(seed, odd, entry):
    population, arch = odd_population(seed, odd)
    return rf.reclaim(population, 1 << 20, policy=ORACLE, arch=arch, entry=entry)


@pytest.mark.parametrize("policy", list(rf.policy.PRESETS))
def test_event_identities(policy):
    for seed in SEEDS:
        before, arch = odd_population(seed)
        entry = ("memory.reclaim", "pageout")[seed % 2]
        result = rf.reclaim(before, 1 << 20, policy=policy, arch=arch, entry=entry)
        events, lengths = result.events, result.batch_lengths
        assert sum(lengths.values()) == events["batches"]
        assert sum(nr * count for nr, count in lengths.items()) == events["batched_pages"]
        # A split clears entries too, each for a migration entry; poisoned pages get none, and a PMD leaf many.
        by_splits = events["ptes_cleared"] - events["batched_pages"]
        poisoned = np.any(before.page_flags & PageFlag.HWPOISON)
        assert by_splits >= 0 and (poisoned or by_splits <= events["migration_entries"])
        assert poisoned or events["pmd_splits"] or by_splits == events["migration_entries"]
        assert events["pages_freed"] == result.reclaimed_pages
        assert events["walk_yields"] <= events["walk_calls"]
        assert events["walk_slots"] <= events["walk_pte_reads"]
        ended = events["folios_freed"] + events["folios_activated"] + events["folios_kept"]
        dropped = events["folios_scanned"] - ended  # poisoned folios of order 0
        assert 0 <= dropped and (not dropped or np.any(before.page_flags & PageFlag.HWPOISON))
        assert (
            events["tlb_deferred"] + events["tlb_immediate"]
            <= events["batches"] + events["pmds_cleared"] + events["pmd_splits"] + by_splits
        )
        announced = events["notifier_ranges"] - events["unmap_calls"]  # by splits: one for each VMA
        assert announced == 0 if not events["folio_splits"] else announced >= 0
        # one shrink_folio_list for each isolation that took anything
        assert events["isolation_calls"] == sum(result.isolated.values())
        assert events["isolation_calls"] - result.isolated.get(0, 0) <= events["shrink_calls"]
        assert events["young_clears"] <= events["young_tests"]
        assert events["tlbi_range_ops"] <= events["tlbi_ops"] * (arch.tlb == "arm64" and arch.range_tlbi)
        assert arch.tlb == "arm64" or not events["tlbi_local"] + events["dsb_nsh"]
        # A scan begins with the entry that its caller has read.
        assert events["batch_scans"] <= events["entry_pte_reads"]
        assert events["batch_scans"] or not events["batch_pte_reads"]
        assert events["raw_pte_loads"] >= (
            events["walk_pte_reads"] + events["batch_pte_reads"] + events["entry_pte_reads"]
        )
        freed = result.after.folio_flags & np.uint32(FolioFlag.FREED) > 0
        # Besides those that reclaim freed, folios and pieces that nobody held any more are gone.
        pages = np.int64(1) << result.after.folio_order.astype(np.int64)
        assert np.sum(pages[freed]) == events["pages_came_back"] == result.came_back_pages >= events["pages_freed"]
        assert not np.any(result.after.folio_refcount[freed])


@pytest.mark.parametrize("policy", ["per-page", "v6.12", *SOUND, "anon-swap", "v6.18"])
def test_conservation(policy):
    """Mapcounts, references, counters and page tables say the same after a run as before it."""
    checked = split = 0
    for seed in SEEDS:
        before, arch = odd_population(seed)
        result = rf.reclaim(before, 1 << 20, policy=policy, arch=arch, entry=("memory.reclaim", "pageout")[seed % 2])
        after = result.after
        # The split of a leaf counts each page of the folio once more, also if the folio is larger than the table. Such
        # folios are left to test_twins and test_fast_paths.
        larger = before.folio_order > before.ptrs_per_pte.bit_length() - 1
        if result.events["pmd_splits"] and np.any(before.folio_entire_mapcount[larger]):
            continue
        # A swapcache mismatch warns; the entries are lost up to v7.2, as in the kernel.
        if result.events["warns"] and policy != "v7.3":
            continue
        checked += 1
        split += result.events["folio_splits"]
        owner = owners(after, before)
        lost = mappings(before, before) - mappings(after, before)
        # A split leaves a migration entry that does not lie where its page should be, and ends older ones.
        waiting = mappings(before, before, MIGRATION) - mappings(after, before, MIGRATION)
        assert np.all(lost + waiting >= 0)
        # What the folios lost is what the page tables lost, and what the counters lost.
        assert np.array_equal(
            folio_mappings(before) - np.bincount(owner, folio_mappings(after)), lost[:, :-1].sum(axis=0)
        )
        rss = before.mm_rss - after.mm_rss
        assert np.array_equal(rss[:, [0, 1, 3]].sum(axis=1), (lost + waiting).sum(axis=1))
        swapped = np.count_nonzero(pte.kind(after.ptes) == 1) - np.count_nonzero(pte.kind(before.ptes) == 1)
        assert -rss[:, 2].sum() == swapped
        # Freed folios have no references; others, with all their pieces, have as many besides those of mappings as
        # before, and one for each page that came into the swap cache.
        freed = after.folio_flags & np.uint32(FolioFlag.FREED) > 0
        whole = np.bincount(owner, freed) == 0
        cached = (after.folio_flags & ~before.folio_flags[owner] & np.uint32(FolioFlag.SWAPCACHE)) > 0
        pages = np.int64(1) << after.folio_order.astype(np.int64)
        others = np.bincount(owner, after.folio_refcount - after.folio_mapcount - cached * pages)
        assert np.array_equal(others[whole], (before.folio_refcount - before.folio_mapcount)[whole])
        assert not np.any(after.folio_mapcount[freed])
        for folio in range(after.nr_folios):
            counts = after.page_mapcounts(folio)
            assert np.all(counts >= 0)
            assert counts.sum() + after.folio_entire_mapcount[folio] == after.folio_mapcount[folio]
            if after.folio_order[folio]:
                every = after.folio_entire_mapcount[folio] > 0
                mapped = len(counts) if every else np.count_nonzero(counts)
                assert after.folio_nr_pages_mapped[folio] == mapped
    assert checked > 130 and split


def test_clean_file_identities():
    """What is cleared is what the folios lose: mapcounts, references, counter, page by page."""
    population = synthetic(4096, orders="0:1,2:1,4:2,6:1", holes=0.1, write=0.1, young=0.2, seed=4, shuffle=True)
    for policy in ("per-page", *SOUND):
        result = rf.reclaim(population, 1000 * PAGE, policy=policy)
        after, events = result.after, result.events
        cleared = sum(nr * count for nr, count in result.batch_lengths.items())
        present = [np.count_nonzero(each.ptes & pte.PRESENT) for each in (population, after)]
        assert 0 < cleared == events["ptes_cleared"] == present[0] - present[1]
        assert np.sum(population.folio_mapcount) - np.sum(after.folio_mapcount) == cleared
        assert population.mm_rss[0, 0] - after.mm_rss[0, 0] == cleared
        # Freed folios give back their page-cache references too.
        given = np.sum(population.folio_refcount) - np.sum(after.folio_refcount)
        assert given == cleared + result.reclaimed_pages
        assert result.reclaimed_pages >= 1000 and result.target_reached


# Policies against each other


def comparable(population):
    """State that batching must not change; that a folio is queued as partially mapped on the way is no part of it."""
    masked = population.copy()
    masked.folio_flags &= ~np.uint32(FolioFlag.PARTIALLY_MAPPED)
    return masked


@pytest.mark.parametrize("policy", SOUND)
@pytest.mark.parametrize("odd", [0.0, 0.05, 0.15, 0.3])
def test_batched_unmap_ends_as_per_page(policy, odd):
    """One call: whenever the unmap succeeds, it ends in the state of the unmap page by page."""
    succeeded = batched = 0
    for seed in range(150):
        population, arch = odd_population(seed, odd)
        population = population.copy()
        population.folio_refcount += 1
        for folio, vma in pairs(population):
            one, other = population.copy(), population.copy()
            per_page = rf.try_to_unmap_one(one, folio, vma, policy=PER_PAGE, arch=arch, ttu=UNMAP)
            call = rf.try_to_unmap_one(other, folio, vma, policy=policy, arch=arch, ttu=UNMAP)
            assert call.ret == per_page.ret
            if not call.ret:
                continue
            succeeded += 1
            batched += max(call.batch_lengths, default=0) > 1
            assert_same_state(comparable(one), comparable(other))
            assert call.events["ptes_cleared"] == per_page.events["ptes_cleared"]
            assert call.events["markers_set"] == per_page.events["markers_set"]
            assert call.mapped_stat == per_page.mapped_stat and call.writable == per_page.writable
            assert call.events["batches"] <= per_page.events["batches"]
            assert not call.events["oob_reads"] + call.events["vma_overrun_reads"]
    assert succeeded > 200 and batched > 40


@pytest.mark.parametrize("policy", SOUND)
@pytest.mark.parametrize("entry", ["memory.reclaim", "pageout"])
def test_batched_reclaim_ends_as_per_page(policy, entry):
    """A reclaim in which no unmap fails ends equal: page tables, folios, counters, lists, what was freed."""
    compared = batched = 0
    for seed in range(300):
        odd = (0.0, 0.05, 0.15, 0.3)[seed % 4]
        population, arch = odd_population(seed, odd)
        oracle = oracle_run(seed, odd, entry)
        if oracle.events["unmap_failures"] or oracle.events["warns"]:
            continue
        result = rf.reclaim(population, 1 << 20, policy=policy, arch=arch, entry=entry)
        assert result.events["unmap_failures"] == 0
        assert_same_state(comparable(oracle.after), comparable(result.after))
        assert result.reclaimed_pages == oracle.reclaimed_pages
        compared += 1
        batched += max(result.batch_lengths, default=0) > 1
    assert compared > 100 and batched > 40


@pytest.mark.parametrize("kind", ["file", "lazyfree", "anon", "shmem"])
@pytest.mark.parametrize("arch", ["x86-64", "arm64-4k"])
def test_batched_reclaim_of_a_mapping_ends_as_per_page(kind, arch):
    options = {"orders": "0:1,2:1,4:4,9:2", "holes": 0.02, "young": 0.3, "soft_dirty": 0.05, "write": 0.5, "seed": 11}
    population = synthetic(8192, kind=kind, arch=arch, dirty=0 if kind == "lazyfree" else 0.1, phase=3, **options)
    oracle = rf.reclaim(population, 6000 * PAGE, policy=ORACLE, arch=arch)
    for policy in SOUND:
        result = rf.reclaim(population, 6000 * PAGE, policy=policy, arch=arch)
        assert_same_state(comparable(oracle.after), comparable(result.after))
        assert result.events["batches"] < oracle.events["batches"] or kind == "anon"


@pytest.mark.parametrize("arch", ["x86-64", "arm64-4k"])
def test_anon_swap_ends_as_per_page(arch):
    """All but one bit: where making a PTE dirty makes it soft-dirty, one dirty page makes its batch soft-dirty."""
    options = {"orders": "0:1,2:1,4:4,9:2", "young": 0.3, "write": 0.9, "dirty": 0.1, "seed": 11}
    population = synthetic(4096, kind="anon", arch=arch, **options)
    oracle, result = (rf.reclaim(population, "16MiB", policy=policy, arch=arch) for policy in (ORACLE, "anon-swap"))
    assert result.events["batches"] < oracle.events["batches"] == oracle.events["swap_dups"]
    assert result.events["swap_dups"] == result.events["batches"]
    gained = oracle.after.ptes ^ result.after.ptes
    assert not np.any(gained & ~pte.SOFT_DIRTY) and not np.any(gained & oracle.after.ptes)
    assert np.any(gained) == (arch == "x86-64")
    result.after.ptes[:] = oracle.after.ptes
    assert_same_state(comparable(oracle.after), comparable(result.after))


def test_skip_caller_and_skip_hint_are_the_same():
    for seed in range(300):
        population, arch = odd_population(seed)
        entry = ("memory.reclaim", "pageout")[seed % 2]
        one, other = (
            rf.reclaim(population, 1 << 20, policy=policy, arch=arch, entry=entry)
            for policy in ("skip-caller", "skip-hint")
        )
        assert one.events == other.events and one.batch_lengths == other.batch_lengths
        assert_same_state(one.after, other.after)


def test_aliases_are_the_same():
    for alias in ("v7.1", "v7.2"):
        assert unmap_all(512, alias, holes=0.2).events == unmap_all(512, "v7.0.12", holes=0.2).events


def test_rescan_costs_nr_minus_1_reads():
    """After a partial batch of nr the walker reads the nr - 1 slots that were cleared; who skips them does not."""
    words = np.array([pte.make("present", 64 + page) for page in range(16)], np.uint64)
    words[8] = 0
    reads = {}
    for policy in ("v7.0.12", "skip-caller", "skip-hint", "walker-jump"):
        population = rf.Population.from_arrays(words, folio_pfn=64, folio_order=4)
        call = rf.try_to_unmap_one(population, 0, 0, policy=policy)
        assert call.batch_lengths == {8: 1, 7: 1}
        reads[policy] = call.events["walk_pte_reads"]
    assert reads["skip-caller"] == reads["skip-hint"] == reads["walker-jump"]
    assert reads["v7.0.12"] - reads["skip-caller"] == (8 - 1) + (7 - 1)


def test_markers_are_read_twice():
    """docs/kernel-rules.md, section 2.2: a none slot costs the walk one read, a marker two (v7.3 and a jump)."""
    words = np.array([pte.make("present", 64 + page, ["uffd_wp"]) for page in range(16)], np.uint64)
    words[8] = 0
    reads = {}
    for policy in ("v7.3", "walker-jump"):
        population = rf.Population.from_arrays(words, folio_pfn=64, folio_order=4, vma_flags=VmaFlag.UFFD_WP)
        call = rf.try_to_unmap_one(population, 0, 0, policy=policy)
        assert call.batch_lengths == {8: 1, 7: 1} and call.events["markers_set"] == 15
        reads[policy] = call.events["walk_pte_reads"]
    assert reads["v7.3"] - reads["walker-jump"] == 2 * ((8 - 1) + (7 - 1))


def test_rescan_costs_on_random_populations():
    compared = 0
    for seed in range(300):
        population, arch = odd_population(seed)
        population = population.copy()
        population.folio_refcount += 1
        for folio, vma in pairs(population):
            calls = [
                rf.try_to_unmap_one(population.copy(), folio, vma, policy=policy, arch=arch, ttu=UNMAP)
                for policy in ("v7.0.12", "skip-caller")
            ]
            pages = 1 << int(population.folio_order[folio])
            partial = sum((nr - 1) * count for nr, count in calls[0].batch_lengths.items() if nr != pages)
            assert calls[0].batch_lengths == calls[1].batch_lengths
            if calls[0].ret:
                assert calls[0].events["walk_pte_reads"] - calls[1].events["walk_pte_reads"] == partial
                compared += partial > 0
    assert compared > 30


# Bugs (docs/kernel-rules.md, section 5) and their fixes

FIXED = ("v7.0.12", "v7.3")


def folio_at(table_offset, entries, *, kind="lazyfree", order=4, extra=0, **options):
    """One folio, isolated, whose first page lies `table_offset` entries into a page table of 512."""
    population = rf.Population.from_arrays(
        np.array(entries, np.uint64),
        folio_pfn=1 << 12,
        folio_order=order,
        start_vpn=512 + table_offset,
        kind=kind,
        **options,
    )
    population.folio_refcount += 1 + extra
    return population


def present(pages, *flags, first=0):
    return [pte.make("present", (1 << 12) + first + page, flags) for page in range(pages)]


def test_bug_1_scan_past_the_page_table():
    """v6.15 bounds the scan by the folio, not by the table (CVE-2025-38447)."""

    def unmap(policy, guard):
        population = folio_at(504, present(16))
        return rf.try_to_unmap_one(population, 0, 0, policy=policy, ttu=UNMAP, guard=guard), population

    call, population = unmap("v6.15", "none")
    assert call.events["oob_reads"] == 1 and call.events["oob_writes"] == 0
    assert call.batch_lengths == {1: 16} and not population.ptes.any()
    # Memory behind the table that happens to continue it: cleared, while half of the real mappings stay.
    call, population = unmap("v6.15", "contiguous")
    assert call.events["oob_reads"] >= 8 and call.events["oob_writes"] == 8
    assert np.count_nonzero(population.ptes) == 8 and population.folio_mapcount[0] == 0
    for policy in ("per-page", "v6.14", "v6.16", "v7.0", *FIXED):
        for guard in ("none", "contiguous"):
            call, population = unmap(policy, guard)
            assert call.ret and call.events["oob_reads"] == call.events["oob_writes"] == 0
            assert not population.ptes.any() and population.folio_mapcount[0] == 0
            assert call.batch_lengths == ({1: 16} if policy in ("per-page", "v6.14") else {8: 2})


def test_bug_1_scan_past_the_vma():
    """The same scan takes the neighbour's entries, which have the same bits."""

    def unmap(policy):
        population = folio_at(0, present(16))
        population.vma_end[0] -= 8
        return rf.try_to_unmap_one(population, 0, 0, policy=policy, ttu=UNMAP), population

    call, population = unmap("v6.15")
    assert call.events["vma_overrun_reads"] >= 8 and call.events["vma_overrun_writes"] == 8
    assert not population.ptes.any()
    for policy in ("per-page", "v6.16", *FIXED):
        call, population = unmap(policy)
        assert call.ret and call.events["vma_overrun_reads"] == call.events["vma_overrun_writes"] == 0
        assert np.count_nonzero(population.ptes[8:]) == 8 and not population.ptes[:8].any()
        assert population.folio_mapcount[0] == 8


@pytest.mark.parametrize("kind", ["file", "shmem"])
def test_bug_2_lost_uffd_wp(kind):
    """The patch as posted writes one marker for a batch; every cleared write-protected entry must leave one."""
    steps = {"per-page": 16, "v7.0-rc1": 16, "v7.0": 16, "v7.0.12": 16, "v7.3": 1, "walker-jump": 1, "file-v5": 1}
    for policy, number in steps.items():
        population = folio_at(0, present(16, "uffd_wp"), kind=kind, vma_flags=VmaFlag.UFFD_WP)
        call = rf.try_to_unmap_one(population, 0, 0, policy=policy, ttu=UNMAP)
        assert call.ret and call.events["batches"] == number and population.folio_mapcount[0] == 0
        left = np.count_nonzero(population.ptes == pte.MARKER)
        assert left == call.events["markers_set"] == (1 if policy == "file-v5" else 16)
        assert left == np.count_nonzero(population.ptes)


@pytest.mark.parametrize("bit", ["write", "soft_dirty"])
@pytest.mark.parametrize("first", [True, False])
def test_bug_3_wrong_restore(bit, first):
    """Half of the pages have the bit; a failed unmap must put back what was there (29f40594a281)."""
    halves = [present(8, bit), present(8, bit, first=8)]
    plain = [present(8), present(8, first=8)]
    words = [*(halves[0] if first else plain[0]), *(plain[1] if first else halves[1])]
    mask = {"write": pte.WRITE, "soft_dirty": pte.SOFT_DIRTY}[bit]
    buggy = ("v6.15", "v6.16", "v6.16+young", "file-v5", "v7.0-rc1")
    for policy in rf.policy.PRESETS:
        population = folio_at(0, words, extra=1)
        call = rf.try_to_unmap_one(population, 0, 0, policy=policy, ttu=UNMAP)
        assert not call.ret and np.count_nonzero(population.ptes & pte.PRESENT) == population.folio_mapcount[0] == 16
        had, has = (np.array(words) & mask > 0, population.ptes & mask > 0)
        if policy in buggy:
            # The first entry's bit everywhere.
            assert np.all(has == first) and not np.array_equal(had, has)
        else:
            assert np.array_equal(population.ptes, np.array(words))


@pytest.mark.parametrize("device", [1, 8, 14, 15])
def test_bug_4_stale_nr(device):
    """A non-present entry after a batch takes the batch's nr (CVE-2026-63950): rmap and references drop too often."""
    words = present(16)
    words[device] = pte.make("device_exclusive", (1 << 12) + device)
    rest = 15 - device
    for policy in rf.policy.PRESETS:
        population = folio_at(0, words, vma_flags=VmaFlag.DROPPABLE)
        call = rf.try_to_unmap_one(population, 0, 0, policy=policy, ttu=UNMAP)
        stale = policy in ("v6.16", "v6.16+young", "file-v5", "v7.0-rc1", "v7.0") and device > 1
        taken = [nr for kind, _, nr in call.trace if kind == "step_nonpresent"]
        cleared = call.events["ptes_cleared"]
        dropped = 16 - int(population.folio_mapcount[0])
        assert taken == [device if stale else 1]
        assert int(population.folio_refcount[0]) == 17 - dropped
        assert population.mm_rss[0, 1] == 16 - dropped
        if stale:
            assert dropped > cleared
        else:
            assert call.ret and dropped == cleared == 16 and not population.ptes.any()
        if stale and not rest:
            assert dropped == 2 * device


def test_bug_6_deferred_split_on_the_way():
    """Page by page an anonymous folio is queued as partially mapped; a batch that takes all of it is not."""
    for policy, queued in (("per-page", 1), ("v6.14", 1), ("v7.0.12", 0), ("v6.15", 0)):
        population = folio_at(0, present(16))
        assert rf.try_to_unmap_one(population, 0, 0, policy=policy, ttu=UNMAP).events["deferred_splits"] == queued


def test_bug_7_extra_reference():
    """Up to v6.14 an extra reference makes a clean lazyfree folio swapbacked; later only dirty ones become so."""
    for policy in rf.policy.PRESETS:
        population = folio_at(0, present(16), extra=1)
        assert not rf.try_to_unmap_one(population, 0, 0, policy=policy, ttu=UNMAP).ret
        swapbacked = bool(population.folio_flags[0] & FolioFlag.SWAPBACKED)
        assert swapbacked == (policy in ("v6.12", "v6.14"))


def test_bug_10_mlock_of_a_part():
    """mlocked only if all pages were seen in one page table."""
    for offset, order, pages, mlocked in ((0, 4, 16, True), (0, 4, 8, False), (504, 4, 16, False)):
        population = folio_at(offset, present(pages), kind="file", order=order, vma_flags=VmaFlag.LOCKED)
        call = rf.try_to_unmap_one(population, 0, 0, policy="v7.0.12", ttu=UNMAP)
        assert not call.ret and call.events["ptes_cleared"] == 0
        assert bool(population.folio_flags[0] & FolioFlag.MLOCKED) == mlocked


# Not vacuous


def test_every_event_occurs_in_random_populations():
    """What the twin tests compare is not all zeros: each event is counted by some seed."""
    seen = np.zeros(len(rf.EVENT_NAMES), np.uint64)
    presets, ttus = list(rf.policy.PRESETS), [UNMAP, ("SPLIT_HUGE_PMD",), ("IGNORE_MLOCK", "SYNC"), ("HWPOISON",)]
    for seed in range(300):
        population, arch = odd_population(seed)
        policy = presets[seed % len(presets)]
        rng = np.random.default_rng(seed)
        unseen = with_unseen(population.copy(), rng)
        for entry in ("memory.reclaim", "pageout"):
            for one, swap in ((population, True), (unseen, random_swap(rng))):
                result = rf.reclaim(one, 1 << 20, policy=policy, arch=arch, entry=entry, swap=swap)
                seen += result.events.counts
        if rf.policy.get(policy).mglru != "none":
            seen += rf.reclaim(population, 1 << 20, policy=policy, arch=arch, lru="mglru").events.counts
        for number, (folio, vma) in enumerate(pairs(population)):
            # v6.15 is the one that runs out of its page table and VMA.
            for each in (policy, "v6.15"):
                call = rf.try_to_unmap_one(
                    population.copy(), folio, vma, policy=each, arch=arch, guard="contiguous", ttu=ttus[number % 4]
                )
                seen += call.events.counts
    assert [name for name, count in zip(rf.EVENT_NAMES, seen, strict=True) if not count] == []


def test_every_event_of_a_check_occurs_in_random_populations():
    """And no other. Of what only a check counts its part is all."""
    seen = set()
    for seed in range(300):
        population, arch = odd_population(seed)
        # One preset alone counts local TLBIs, and few of the populations have any.
        # And the events of look-arounds belong to MGLRU.
        preset = list(rf.policy.PRESETS)[seed % len(rf.policy.PRESETS)]
        for policy, lru in (
            (preset, "classic"),
            ("local-tlbi", "classic"),
            (("v6.12", "v7.0", "v7.2")[seed % 3], "mglru"),
        ):
            result = rf.reclaim(population, 1 << 20, policy=policy, arch=arch, lru=lru)
            part = result.referenced_events
            assert all(part[name] <= count for name, count in result.events.items())
            for name in (
                *("referenced_calls", "young_calls", "young_tests", "young_clears", "young_flushes", "look_arounds"),
                *("look_arounds_young", "window_pte_reads", "window_updates", "window_promotions"),
            ):
                assert part[name] == result.events[name]
            seen |= {name for name, count in part.items() if count}
    assert seen == rf.events.IN_REFERENCE_CHECK


# Runs


def test_runs_repeat():
    for engine in ("c", "reference"):
        runs = [
            rf.reclaim(synthetic(512, orders="0:1,4:3", holes=0.1), "1MiB", policy="v7.3", engine=engine) for _ in "ab"
        ]
        assert runs[0].events == runs[1].events and runs[0].batch_lengths == runs[1].batch_lengths
        assert_same_state(runs[0].after, runs[1].after)


def test_steps_do_not_matter(monkeypatch):
    """However often a run looks up for signals and progress, it does the same."""

    def run():
        freed = []
        population = synthetic(2048, orders="0:1,4:3", holes=0.1, active=True)
        return rf.reclaim(population, "6MiB", policy="v7.3", progress=freed.append), freed

    whole, _ = run()
    monkeypatch.setattr(loop, "BUDGET", 1)
    stepped, freed = run()
    assert whole.events == stepped.events
    assert_same_state(whole.after, stepped.after)
    assert len(freed) > 10 and freed == sorted(freed)


def test_interrupted_run_leaves_a_consistent_population(monkeypatch):
    """A run that is broken off in place can be continued, and ends as one that was not."""
    monkeypatch.setattr(loop, "BUDGET", 64)
    population = synthetic(2048, young=0)

    def interrupt(freed):
        if freed >= 512:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rf.reclaim(population, "8MiB", policy="v7.0", in_place=True, progress=interrupt)
    freed = np.count_nonzero(population.folio_flags & FolioFlag.FREED)
    assert 512 // 16 <= freed < 2048 // 16
    assert len(population.lru_inactive) + len(population.lru_active) == 2048 // 16 - freed
    rf.reclaim(population, "8MiB", policy="v7.0", in_place=True)
    assert_same_state(population, rf.reclaim(synthetic(2048, young=0), "8MiB", policy="v7.0").after)


def test_result():
    result = unmap_all(512, "v7.0", orders=4)
    assert result.per_page("batches") == 1 / 16 and result.target_reached
    assert result.simulated_ptes == 512 and result.reclaimed_bytes == 512 * PAGE
    assert "v7.0 on x86-64" in repr(result)
    document = json.loads(json.dumps(result.to_dict()))
    assert document["batch_lengths"] == {"16": 32}
    assert document["referenced_events"] == {name: count for name, count in result.referenced_events.items() if count}
    assert (
        document["referenced_events"]["referenced_calls"] == 32 and "unmap_calls" not in document["referenced_events"]
    )
    dataset = result.to_xarray()
    assert int(dataset.events.sel(event="batches")) == 32 and dataset.nr.values.tolist() == [16]
    assert math.isnan(rf.reclaim(synthetic(512), 0, policy="v7.0").per_page("batches"))
    comparison = rf.compare(synthetic(512), "1MiB", policies=["per-page", "v7.0"], arches=["x86-64"])
    assert comparison.ratio("batches", "v7.0", "x86-64") == 1 / 16


def test_rounds_and_passes_of_memory_reclaim_by_hand():
    # 8 folios of 512 pages, all asked for; list sizes >> 12, 11, ... pages: rounds ask for 1024, 768, 512, 384, 256
    # and 128 pages, and take 2 (1 page, 2), 3 (0, 1, 2), 2 (0, 1), 3 (0, 0, 1), 3 (0, 0, 1) and 4 (0, 0, 0, 1) passes
    population = rf.Population.synthetic("16MiB", orders=9, young=0.0)
    events = rf.reclaim(population, "16MiB").events
    assert (events["isolation_calls"], events["reclaim_rounds"], events["priority_passes"]) == (8, 6, 17)


@pytest.mark.parametrize(
    ("folios", "group_start", "what"),
    [
        ([0, 1, 1], [0, 3], r"folios\[2\]: the folio is listed already"),
        ([0, 64], [0, 2], r"folios\[1\]: no such folio"),
        ([0, 1], [1, 2], r"group_start\[0\]"),
        ([0, 1], [0, 1], r"group_start\[1\]"),
        ([0, 1], [0, 3, 2], r"group_start\[1\]"),
        ([0, 1, 2], [0, 2, 1, 3], r"group_start\[2\]"),
        ([0, 1], [], "group_start"),
    ],
)
def test_groups_that_do_not_do(folios, group_start, what):
    population = rf.Population.synthetic("4MiB", orders=4)
    run = _core.Run(population, rf.policy.get("v7.0"), rf.arch.get("x86-64"))
    with pytest.raises(ValueError, match=what):
        run.shrink_groups(np.array(folios, np.uint32), np.array(group_start, np.uint64), 0, 1 << 40)
    assert not run.events.any()


@pytest.mark.parametrize(("arch", "policy", "walks", "removals"), [
    # recorded on real kernels, 26 folios: 13416 and 78 walks, of which 2 per folio are those of the reference check
    ("riscv64", "v6.12", 514, 512),
    ("riscv64", "v7.2", 1, 1),
    ("x86-64", "v6.12", 1, 1),
])  # fmt: skip
@pytest.mark.parametrize("engine", ["c", "reference"])
def test_lazyfree_folios_that_a_pmd_maps(engine, arch, policy, walks, removals):
    """Discarded whole, but by v6.12 on riscv, which splits the PMD and unmaps page by page."""
    population = rf.Population.synthetic("4MiB", kind="lazyfree", orders=9, young=0.0, arch=arch)
    population.table_state[:] = rf.flags.TableState.PMD_LEAF
    population.folio_entire_mapcount[:] = population.folio_mapcount[:] = population.folio_refcount[:] = 1
    population.folio_nr_pages_mapped[:] = 512
    events = rf.reclaim(population, "4MiB", policy=policy, arch=arch, engine=engine).events
    assert events["folios_freed"] == 2
    assert events["walk_calls"] - 2 * events["referenced_calls"] == 2 * walks
    assert events["rmap_remove_calls"] == 2 * removals
