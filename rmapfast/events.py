"""The events that a run counts, and the result of a single call.

docs/model.md, section 4, defines each event; :data:`EVENT_NAMES` is their order in every array of counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from rmapfast import _core
from rmapfast.support import closest

EVENT_NAMES: tuple[str, ...] = _core.EVENT_NAMES

# What each event counts, in a line; `rmapfast list event` prints them.
DESCRIPTIONS = {
    "unmap_calls": "try_to_unmap_one calls, one per folio and VMA",
    "referenced_calls": "folio_referenced_one calls, one per folio and VMA",
    "walk_calls": "page_vma_mapped_walk calls",
    "walk_yields": "page_vma_mapped_walk calls that returned true",
    "walk_pte_reads": "logical PTE reads by the walk",
    "walk_slots": "distinct slots read by the walk",
    "batch_pte_reads": "logical PTE reads by the batch scan",
    "batch_scans": "folio_pte_batch calls",
    "entry_pte_reads": "logical PTE reads by the caller of the walk",
    "raw_pte_loads": "8-byte PTE loads, contpte gathers and young tests included",
    "ptl_locks": "page-table-lock acquisitions",
    "pmd_locks": "PMD-lock acquisitions",
    "table_crossings": "page-table borders crossed by a walk",
    "batches": "unmap steps at PTE level",
    "batched_pages": "pages whose entry those steps cleared",
    "ptes_cleared": "entries cleared by unmap steps",
    "ptes_set": "entries written by unmap steps: restored, marker, swap, hwpoison",
    "pmds_cleared": "PMD leaves cleared whole",
    "pmd_splits": "PMD leaves split",
    "contpte_unfolds": "contpte blocks unfolded",
    "contpte_folds": "contpte blocks folded",
    "tlb_deferred": "set_tlb_ubc_flush_pending calls",
    "tlb_immediate": "range flushes under the page-table lock",
    "tlb_flushes": "try_to_unmap_flush calls that flushed",
    "tlbi_ops": "TLB invalidation instructions",
    "tlbi_range_ops": "those of them that cover a range of pages (arm64)",
    "dsb_ops": "barriers that wait for TLB invalidations",
    "dsb_ishst_ops": "store barriers before TLB invalidations",
    "ipis": "CPUs signalled for a TLB flush",
    "rmap_remove_calls": "folio_remove_rmap_ptes and _pmd calls",
    "page_mapcount_atomics": "per-page mapcount atomics",
    "folio_mapcount_atomics": "per-folio mapcount atomics",
    "ref_puts": "folio_put_refs calls",
    "rss_updates": "mm counter updates",
    "deferred_splits": "folios queued as partially mapped",
    "markers_set": "uffd-wp markers written",
    "swap_dups": "swap references taken",
    "swap_puts": "swap references given back",
    "mlock_calls": "calls that set a folio's mlocked flag",
    "munlock_calls": "calls that clear a folio's mlocked flag",
    "folios_dirtied": "folio_mark_dirty calls",
    "notifier_ranges": "MMU notifier ranges announced",
    "oob_reads": "entries read outside the page table",
    "oob_writes": "entries written outside the page table",
    "vma_overrun_reads": "entries read inside the table but outside the VMA",
    "vma_overrun_writes": "entries written inside the table but outside the VMA",
    "warns": "kernel warnings",
    "young_calls": "young tests, one per batch or page",
    "young_tests": "entries whose young bit was tested",
    "young_clears": "entries whose young bit was cleared",
    "young_flushes": "TLB flushes for cleared young bits",
    "isolation_calls": "isolations from the inactive list",
    "shrink_calls": "shrink_folio_list calls",
    "active_passes": "shrink_active_list calls",
    "priority_passes": "passes over the lists that a round of memory.reclaim takes",
    "reclaim_rounds": "rounds of memory.reclaim, each for a quarter of what is missing",
    "folios_scanned": "folios handled by shrink_folio_list",
    "pages_scanned": "base pages handled by shrink_folio_list",
    "folios_activated": "folios activated by shrink_folio_list",
    "folios_kept": "folios kept by shrink_folio_list",
    "folios_deactivated": "folios deactivated by shrink_active_list",
    "unmap_failures": "folios still mapped after try_to_unmap",
    "folios_freed": "folios freed",
    "pages_freed": "base pages freed",
    "page_cache_slots": "page-cache slots of freed folios",
    "swap_allocs": "folios given swap space",
    "folios_written": "dirty folios written out",
    "folio_splits": "folios split before reclaim",
}


class Events(Mapping):
    """Counts by event name.

    Parameters
    ----------
    counts : array_like of uint64, shape (len(EVENT_NAMES),)
        In the order of :data:`EVENT_NAMES`.
    """

    def __init__(self, counts):
        self.counts = np.ascontiguousarray(counts, np.uint64)
        if self.counts.shape != (len(EVENT_NAMES),):
            raise ValueError(f"counts: expected {len(EVENT_NAMES)} of them, got shape {self.counts.shape}")

    def __getitem__(self, name: str) -> int:
        try:
            return int(self.counts[EVENT_NAMES.index(name)])
        except ValueError:
            raise KeyError(f"no event {name!r}{closest(name, EVENT_NAMES)}") from None

    def __iter__(self):
        return iter(EVENT_NAMES)

    def __len__(self):
        return len(EVENT_NAMES)

    def __repr__(self):
        counted = ", ".join(f"{name}={count}" for name, count in self.items() if count)
        return f"Events({counted})"


@dataclass(frozen=True)
class Call:
    """What one call on a population did; the population itself was changed in place.

    Parameters
    ----------
    ret : bool or None
        What the kernel function returns.
    events : Mapping
        Counts by event name.
    batch_lengths : dict of int to int
        Unmap steps by the number of entries that they cleared.
    trace : list of tuple
        Single steps, ``(kind, vpn, nr)``; of ``beyond`` (page index, new mapcount), of ``notifier`` (start, end).
    writable : bool
        Whether a PTE whose flush was deferred was dirty.
    mapped_stat : int
        Change of the mapped-pages statistic, in pages.
    mapcount_left, referenced, vm_flags : int
        Of a reference check: mappings not seen, VMAs that referenced the folio, their flags (``VMA_*`` bits).
    """

    ret: bool | None
    events: Mapping[str, int]
    batch_lengths: dict[int, int]
    trace: list[tuple[str, int, int]] = field(repr=False)
    writable: bool = False
    mapped_stat: int = 0
    mapcount_left: int = 0
    referenced: int = 0
    vm_flags: int = 0
