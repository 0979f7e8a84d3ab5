"""What a user of Numba would write for irregular populations: holes, mixed bits, and mappings that are shared.

It does what ``_core.Run.shrink_groups`` does under policy v7.0 on an architecture like x86-64, for file folios that are
not locked, mlocked, pinned, unevictable or freed, each whole in every VMA that maps it, in PTE tables without contpte.
It changes the same state and counts the batch lengths and those events that a user would count; the package counts all
of them. It is the peer to beat where :mod:`bench.peers` cannot follow.
"""

import numpy as np
from numba import njit

from rmapfast import _core, pte
from rmapfast.flags import FolioFlag

# The events that it counts, in the order of what _loop() returns.
COUNTED = (
    "unmap_calls", "walk_calls", "batches", "ptes_cleared", "folios_dirtied", "folios_freed", "pages_freed",
    "tlb_flushes", "folios_activated", "folios_kept", "batch_scans", "batch_pte_reads",
)  # fmt: skip
FREE_BATCH = 31  # freed folios after which a deferred TLB flush is due

_DIRTY, _ACTIVE, _FREED, _COUNTS = (
    np.uint32(flag) for flag in (FolioFlag.DIRTY, FolioFlag.ACTIVE, FolioFlag.FREED, FolioFlag.PAGE_MAPCOUNTS)
)
_STAYS_IF_FREED = ~np.uint32(FolioFlag.ACTIVE | FolioFlag.REFERENCED)
_NONE = np.uint64(0)
_PTE_DIRTY, _PRESENT, _SHIFT = np.uint64(pte.DIRTY), np.uint64(pte.PRESENT), np.uint64(pte.PFN_SHIFT)
# What must be alike in a batch, and what a regular entry has besides it.
_ALIKE = ~np.uint64(pte.YOUNG | pte.DIRTY)
_FIXED = ~np.uint64(pte.WRITE | pte.SOFT_DIRTY)


@njit(cache=True, error_model="numpy", nogil=True)
def _loop(
    ptes, pfn, index, order_of, flags_of, refcount, mapcount, nr_pages_mapped, rmap_start, rmap_vma, vma_pgoff,
    vma_start, vma_end, vma_pte_base, vma_mm, rss, cpumask, folios, group_start, lengths,
):  # fmt: skip
    calls = walk_calls = steps = cleared_all = dirtied = nr_freed = freed_pages = flushes = activated = kept = 0
    scans = scan_reads = 0
    for group in range(len(group_start) - 1):
        pending, batch = _NONE, 0
        for i in range(np.int64(group_start[group]), np.int64(group_start[group + 1])):
            folio = np.int64(folios[i])
            nr = 1 << np.int64(order_of[folio])
            flags, refs, maps = flags_of[folio], refcount[folio], mapcount[folio]
            expected = (pfn[folio] << _SHIFT) | _PRESENT
            row, end = np.int64(rmap_start[folio]), np.int64(rmap_start[folio + 1])
            seen_all, before = _NONE, maps
            while row < end and maps > 0:
                vma = np.int64(rmap_vma[row])
                row += 1
                size = vma_end[vma] - vma_start[vma]
                if index[folio] < vma_pgoff[vma] or index[folio] + np.uint64(nr) > vma_pgoff[vma] + size:
                    raise ValueError("a VMA maps a part of a folio")
                slot = np.int64(index[folio] - vma_pgoff[vma] + vma_pte_base[vma])
                words = ptes[slot : slot + nr]
                first = words[0] & _ALIKE
                # all entries are compared without an early exit, so that the loop vectorises
                unlike, seen = (first & _FIXED) ^ expected, _NONE
                for k in range(nr):
                    unlike |= (words[k] & _ALIKE) ^ (first + (np.uint64(k) << _SHIFT))
                    seen |= words[k]
                calls += 1
                cleared = 0
                if unlike == _NONE:
                    for k in range(nr):
                        words[k] = _NONE
                    cleared = nr
                    lengths[nr] += 1
                    steps += 1
                    walk_calls += 1
                    dirtied += (seen & _PTE_DIRTY) != _NONE
                    if nr > 1:
                        scans += 1
                        scan_reads += nr - 1
                else:
                    at = 0
                    while at < nr:
                        word = words[at]
                        if word == _NONE:
                            at += 1
                            continue
                        wanted = word & _ALIKE
                        if (wanted & _FIXED) != expected + (np.uint64(at) << _SHIFT):
                            raise ValueError("an entry is not regular")
                        length, step_seen = 1, word
                        words[at] = _NONE
                        scans += nr > 1
                        while at + length < nr:
                            scan_reads += 1
                            word = words[at + length]
                            if (word & _ALIKE) != wanted + (np.uint64(length) << _SHIFT):
                                break
                            step_seen |= word
                            words[at + length] = _NONE
                            length += 1
                        dirtied += (step_seen & _PTE_DIRTY) != _NONE
                        lengths[length] += 1
                        steps += 1
                        walk_calls += 1
                        cleared += length
                        at += length
                    walk_calls += 1
                seen_all |= seen
                maps -= np.int32(cleared)
                refs -= np.int32(cleared)
                rss[vma_mm[vma], 0] -= cleared
                if cleared:
                    pending |= cpumask[vma_mm[vma]]
                cleared_all += cleared
            if before != maps:
                mapcount[folio] = maps
                if nr > 1:
                    nr_pages_mapped[folio] = 0
                    flags &= ~_COUNTS
                if seen_all & _PTE_DIRTY:
                    flags |= _DIRTY
            if flags & _DIRTY:
                flags |= _ACTIVE
                activated += 1
            elif refs == nr:
                flags = (flags & _STAYS_IF_FREED) | _FREED
                refs = np.int32(0)
                nr_freed += 1
                freed_pages += nr
                batch += 1
                if batch == FREE_BATCH:
                    flushes += pending != _NONE
                    pending, batch = _NONE, 0
            else:
                kept += 1
            flags_of[folio] = flags
            refcount[folio] = refs
        flushes += pending != _NONE
    return (
        calls, walk_calls, steps, cleared_all, dirtied, nr_freed, freed_pages, flushes, activated, kept, scans,
        scan_reads,
    )  # fmt: skip


def unmap_general(population, folios, group_start) -> tuple[dict[str, int], dict[int, int]]:
    """Unmap the folios group by group; return the counted events and the unmap steps by length."""
    pop, lengths = population, np.zeros((1 << _core.MAX_ORDER) + 1, np.int64)
    counts = _loop(
        pop.ptes, pop.folio_pfn, pop.folio_index, pop.folio_order, pop.folio_flags, pop.folio_refcount,
        pop.folio_mapcount, pop.folio_nr_pages_mapped, pop.rmap_start, pop.rmap_vma, pop.vma_pgoff, pop.vma_start,
        pop.vma_end, pop.vma_pte_base, pop.vma_mm, pop.mm_rss, pop.mm_cpumask, folios, group_start, lengths,
    )  # fmt: skip
    used = np.flatnonzero(lengths)
    return dict(zip(COUNTED, counts, strict=True)), dict(zip(used.tolist(), lengths[used].tolist(), strict=True))
