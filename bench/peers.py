"""What a user would write instead of the package: the unmap of file folios in NumPy, Numba and plain Python.

All do what ``_core.Run.shrink_groups`` does under policy v7.0 on an architecture like x86-64: they clear the PTEs,
change the folios' counts and flags and the process's counter, and count every event. They know less of the model than
it does, so a population must have: file folios that are not locked, mlocked, pinned, unevictable or freed, in address
order; one process; one VMA that is neither locked nor registered for userfaultfd, and other CPUs in its mask; PTE
tables without contpte; each folio within one table; each PTE none or present, at its page's place and without special
bits. Holes, and bits that cut a batch, are allowed.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from rmapfast import _core, pte
from rmapfast.events import EVENT_NAMES
from rmapfast.flags import FolioFlag

FREE_BATCH = 31  # freed folios after which a deferred TLB flush is due
SELF = 1  # the CPU that reclaims

_PFN_ONE = int(pte.PFN_ONE)
_PRESENT = int(pte.PRESENT)
_DIRTY = int(pte.DIRTY)
# Bits that may differ inside a batch, and bits that may have any value but the same one in the whole batch.
_IGNORED = int(pte.YOUNG | pte.DIRTY)
_FREE = int(pte.WRITE | pte.SOFT_DIRTY)
_SLOW_FLAGS = FolioFlag.ACTIVE | FolioFlag.REFERENCED | FolioFlag.DIRTY | FolioFlag.PAGE_MAPCOUNTS

# What a peer counts on its way; everything else follows from it.
COUNTERS = (
    "folios", "pages", "calls", "walk_calls", "walk_reads", "walk_slots", "scans", "scan_reads", "steps", "large_steps",
    "cleared", "dirtied", "freed", "freed_pages", "slots", "activated", "activated_pages", "kept", "flushes",
)  # fmt: skip


@dataclass
class Outcome:
    """What was counted: events in the order of EVENT_NAMES, and unmap steps by length."""

    events: np.ndarray
    batch_lengths: dict


def _outcome(population, groups: int, count: dict, lengths) -> Outcome:
    """Subtract from the process's counter, and return all events that follow from what was counted."""
    population.mm_rss[0, 0] -= count["cleared"]
    cpumask = int(population.mm_cpumask[0])
    per_step = ("entry_pte_reads", "batches", "tlb_deferred", "rmap_remove_calls", "ref_puts", "rss_updates")
    events = dict.fromkeys((*per_step, "walk_yields"), count["steps"])
    events |= dict.fromkeys(("unmap_calls", "notifier_ranges", "ptl_locks"), count["calls"])
    events |= dict.fromkeys(("batched_pages", "ptes_cleared", "page_mapcount_atomics"), count["cleared"])
    events |= {
        "walk_calls": count["walk_calls"],
        "walk_pte_reads": count["walk_reads"],
        "walk_slots": count["walk_slots"],
        "batch_scans": count["scans"],
        "batch_pte_reads": count["scan_reads"],
        "raw_pte_loads": count["walk_reads"] + count["scan_reads"] + count["steps"],
        "folio_mapcount_atomics": 2 * count["large_steps"],
        "folios_dirtied": count["dirtied"],
        "tlb_flushes": count["flushes"],
        "tlbi_ops": count["flushes"] * (cpumask & SELF),
        "ipis": count["flushes"] * (cpumask & ~SELF).bit_count(),
        "shrink_calls": groups,
        "folios_scanned": count["folios"],
        "pages_scanned": count["pages"],
        "folios_freed": count["freed"],
        "pages_freed": count["freed_pages"],
        "pages_came_back": count["freed_pages"],
        "page_cache_folios": count["freed"],
        "page_cache_slots": count["slots"],
        "folios_activated": count["activated"],
        "pages_activated": count["activated_pages"],
        "folios_kept": count["kept"],
    }
    counts = np.zeros(len(EVENT_NAMES), np.uint64)
    for name, number in events.items():
        counts[EVENT_NAMES.index(name)] = number
    return Outcome(counts, {int(nr): int(times) for nr, times in lengths if times})


def _slots(population, folios):
    """Index of each folio's first entry."""
    first = population.folio_index[folios] - population.vma_pgoff[0] + population.vma_pte_base[0]
    return first.astype(np.int64)


# Plain Python


def _unmap_words(words: list, expected: int, count: dict, lengths: dict) -> tuple[int, int]:
    """Unmap one folio whose entries are `words`, in place; returns how many were cleared, and the OR of them."""
    nr = len(words)
    before, steps, at, seen = count["cleared"], 0, 0, 0
    done = False
    while at < nr and not done:
        word = words[at]
        if not word:
            at += 1
            continue
        if (word & ~(_IGNORED | _FREE)) != expected + at * _PFN_ONE:
            raise ValueError(f"entry {word:#x} is not regular")
        length = 1
        if nr > 1:
            count["scans"] += 1
            want = word & ~_IGNORED
            while at + length < nr:
                count["scan_reads"] += 1
                if words[at + length] & ~_IGNORED != want + length * _PFN_ONE:
                    break
                length += 1
        step_seen = 0
        for i in range(at, at + length):
            step_seen |= words[i]
            words[i] = 0
        count["dirtied"] += step_seen & _DIRTY > 0
        count["walk_reads"] += at > 0  # an entry after the first is read once more when it is not none
        seen |= step_seen
        steps += 1
        lengths[length] = lengths.get(length, 0) + 1
        count["cleared"] += length
        done = length == nr
        at += length
    count["calls"] += 1
    count["steps"] += steps
    count["large_steps"] += steps if nr > 1 else 0
    count["walk_calls"] += steps + (not done)
    # A large folio's first entry is read under the lock, a small one's before it too.
    count["walk_reads"] += (1 if nr > 1 else 2) if done else nr
    count["walk_slots"] += 1 if done else nr
    return count["cleared"] - before, seen


def unmap_python(population, folios, group_start) -> Outcome:
    """One folio after the other."""
    pop, count, lengths = population, dict.fromkeys(COUNTERS, 0), {}
    slots = _slots(pop, folios).tolist()
    for group in range(len(group_start) - 1):
        pending, batch = False, 0
        for i in range(int(group_start[group]), int(group_start[group + 1])):
            folio, slot = int(folios[i]), slots[i]
            order, flags = int(pop.folio_order[folio]), int(pop.folio_flags[folio])
            nr, refs = 1 << order, int(pop.folio_refcount[folio])
            if pop.folio_mapcount[folio]:
                words = pop.ptes[slot : slot + nr].tolist()
                expected = int(pop.folio_pfn[folio]) * _PFN_ONE + _PRESENT
                cleared, seen = _unmap_words(words, expected, count, lengths)
                pop.ptes[slot : slot + nr] = words
                pop.folio_mapcount[folio] = 0
                if nr > 1:
                    pop.folio_nr_pages_mapped[folio] = 0
                    flags &= ~FolioFlag.PAGE_MAPCOUNTS
                flags |= FolioFlag.DIRTY if seen & _DIRTY else 0
                refs -= cleared
                pending = True
            count["folios"] += 1
            count["pages"] += nr
            if not flags & FolioFlag.DIRTY and refs == nr:
                flags = flags & ~(FolioFlag.ACTIVE | FolioFlag.REFERENCED) | FolioFlag.FREED
                refs = 0
                count["freed"] += 1
                count["freed_pages"] += nr
                count["slots"] += 1 << order % 6
                batch += 1
                if batch == FREE_BATCH:
                    count["flushes"] += pending
                    pending, batch = False, 0
            elif flags & FolioFlag.DIRTY:
                flags |= FolioFlag.ACTIVE
                count["activated"] += 1
                count["activated_pages"] += nr
            else:
                count["kept"] += 1
            pop.folio_flags[folio] = flags
            pop.folio_refcount[folio] = refs
        count["flushes"] += pending
    return _outcome(pop, len(group_start) - 1, count, lengths.items())


# NumPy

CHUNK = 1 << 14  # entries at a time: what is computed on the way stays in the cache


def unmap_numpy(population, folios, group_start) -> Outcome:
    """Whole folios in array operations, chunk by chunk; folios with holes or unlike bits one after the other."""
    pop, count, lengths = population, dict.fromkeys(COUNTERS, 0), {}
    order = pop.folio_order[folios]
    nr = np.left_shift(np.int64(1), order, dtype=np.int64)
    mapped = np.flatnonzero(pop.folio_mapcount[folios])
    slot, length = _slots(pop, folios[mapped]), nr[mapped]
    ends = slot + length
    run_begins = np.ones(len(slot), bool)
    run_begins[1:] = slot[1:] != ends[:-1]
    chunk_begins = run_begins.copy()
    chunk_begins[1:] |= (slot[1:] // CHUNK) != (slot[:-1] // CHUNK)
    bounds = np.append(np.flatnonzero(chunk_begins), len(slot)).tolist()
    expected = (pop.folio_pfn[folios[mapped]] << pte.PFN_SHIFT) | pte.PRESENT
    is_start = np.zeros(len(pop.ptes) + 1, bool)
    is_start[slot] = True
    whole = np.ones(len(slot), bool)
    dirty = np.zeros(len(slot), bool)
    cleared = length.copy()
    width = CHUNK + int(length.max(initial=1))
    masked, step, fits = np.empty(width, np.uint64), np.empty(width, np.uint64), np.empty(width, bool)
    for first, last in pairwise(bounds):
        low, high = int(slot[first]), int(ends[last - 1])
        words = pop.ptes[low:high]
        word, delta, fit = masked[: len(words)], step[: len(words) - 1], fits[: len(words) - 1]
        np.bitwise_and(words, ~np.uint64(_IGNORED), out=word)
        np.subtract(word[1:], word[:-1], out=delta)
        np.equal(delta, pte.PFN_ONE, out=fit)
        fit |= is_start[low + 1 : high]
        begin = slot[first:last] - low
        good = (word[begin] & ~np.uint64(_FREE)) == expected[first:last]
        if not fit.all():
            good[np.searchsorted(begin, np.flatnonzero(~fit) + 1, side="right") - 1] = False
        if np.bitwise_or.reduce(words) & pte.DIRTY:
            dirty[first:last] = np.bitwise_or.reduceat(words, begin) & pte.DIRTY > 0
        if good.all():
            words[:] = 0
            continue
        whole[first:last] = good
        words[np.repeat(good, length[first:last])] = 0
        for i in (np.flatnonzero(~good) + first).tolist():
            rest = pop.ptes[slot[i] : ends[i]].tolist()
            cleared[i], _ = _unmap_words(rest, int(expected[i]), count, lengths)
            pop.ptes[slot[i] : ends[i]] = rest

    # The steps of whole folios; those of the others are counted already.
    pages = length[whole]
    large = pages > 1
    nr_whole, nr_large = len(pages), int(np.count_nonzero(large))
    count["calls"] += nr_whole
    count["steps"] += nr_whole
    count["large_steps"] += nr_large
    count["walk_calls"] += nr_whole
    count["walk_reads"] += 2 * nr_whole - nr_large
    count["walk_slots"] += nr_whole
    count["scans"] += nr_large
    count["scan_reads"] += int(pages.sum()) - nr_whole
    count["cleared"] += int(pages.sum())
    count["dirtied"] += int(np.count_nonzero(dirty & whole))
    for exponent, times in enumerate(np.bincount(order[mapped][whole]).tolist()):
        lengths[1 << exponent] = lengths.get(1 << exponent, 0) + times

    flags, refs = pop.folio_flags[folios], pop.folio_refcount[folios].astype(np.int64)
    refs[mapped] -= cleared
    flags[mapped[length > 1]] &= ~np.uint32(FolioFlag.PAGE_MAPCOUNTS)
    flags[mapped[dirty]] |= np.uint32(FolioFlag.DIRTY)
    dirty_folio = flags & np.uint32(FolioFlag.DIRTY) > 0
    freed = ~dirty_folio & (refs == nr)
    kept = ~dirty_folio & ~freed
    np.copyto(
        flags,
        flags & ~np.uint32(FolioFlag.ACTIVE | FolioFlag.REFERENCED) | np.uint32(FolioFlag.FREED),
        where=freed,
    )
    np.copyto(flags, flags | np.uint32(FolioFlag.ACTIVE), where=dirty_folio)
    refs[freed] = 0
    pop.folio_flags[folios], pop.folio_refcount[folios], pop.folio_mapcount[folios] = flags, refs, 0
    pop.folio_nr_pages_mapped[folios[mapped[length > 1]]] = 0
    count["folios"], count["pages"] = len(folios), int(nr.sum())
    count["freed"], count["freed_pages"] = int(np.count_nonzero(freed)), int(nr[freed].sum())
    count["slots"] = int((1 << np.arange(14) % 6) @ np.bincount(order[freed], minlength=14))
    count["activated"], count["kept"] = int(np.count_nonzero(dirty_folio)), int(np.count_nonzero(kept))
    count["activated_pages"] = int(nr[dirty_folio].sum())
    count["flushes"] = _flushes(freed, mapped, group_start.astype(np.int64))
    return _outcome(pop, len(group_start) - 1, count, lengths.items())


def _flushes(freed, mapped, group_start) -> int:
    """Return the flushes that are due: one per free batch and per end of a group with an unmap since the last one."""
    total = np.concatenate([[0], np.cumsum(freed)])
    group = np.repeat(np.arange(len(group_start) - 1), np.diff(group_start))
    so_far = total[1:] - total[group_start[group]]
    batch = np.where(freed, so_far - 1, so_far) // FREE_BATCH
    key = (group * (len(freed) + 1) + batch)[mapped]
    return int(np.count_nonzero(np.diff(key))) + (len(key) > 0)


# Numba

try:
    from numba import njit
except ImportError:
    unmap_numba = None
else:
    _F_DIRTY, _F_ACTIVE, _F_FREED, _F_COUNTS = (
        np.uint32(flag) for flag in (FolioFlag.DIRTY, FolioFlag.ACTIVE, FolioFlag.FREED, FolioFlag.PAGE_MAPCOUNTS)
    )
    _F_NOT_FREED = ~np.uint32(FolioFlag.ACTIVE | FolioFlag.REFERENCED)
    _W_KEPT, _W_FREE, _W_DIRTY = ~np.uint64(_IGNORED), ~np.uint64(_FREE), pte.DIRTY
    _W_ONE, _W_SHIFT, _W_PRESENT, _W_NONE = pte.PFN_ONE, pte.PFN_SHIFT, pte.PRESENT, np.uint64(0)

    @njit(cache=True, error_model="numpy", nogil=True)
    def _nr_alike(pfn, index, order_of, flags_of, refcount, mapcount, folios, folio):
        """How many of the folios lie behind each other, in memory and in the arrays, with the same numbers."""
        nr, order = len(folios), order_of[folio]
        if np.int64(folios[nr - 1]) != folio + nr - 1:
            nr = 1
            while np.int64(folios[nr]) == folio + nr:
                nr += 1
        unlike, unlike_words = np.uint32(0), _W_NONE
        for k in range(nr):
            step = np.uint64(k) << np.uint64(order)
            unlike_words |= (pfn[folio + k] ^ (pfn[folio] + step)) | (index[folio + k] ^ (index[folio] + step))
        for k in range(nr):
            unlike |= (flags_of[folio + k] ^ flags_of[folio]) | np.uint32(order_of[folio + k] ^ order)
            unlike |= np.uint32(refcount[folio + k] ^ refcount[folio]) | np.uint32(
                mapcount[folio + k] ^ mapcount[folio]
            )
        if unlike == 0 and unlike_words == _W_NONE:
            return nr
        k = 1
        while (
            k < nr
            and pfn[folio + k] == pfn[folio] + (np.uint64(k) << np.uint64(order))
            and index[folio + k] == index[folio] + (np.uint64(k) << np.uint64(order))
            and order_of[folio + k] == order
            and flags_of[folio + k] == flags_of[folio]
            and refcount[folio + k] == refcount[folio]
            and mapcount[folio + k] == mapcount[folio]
        ):
            k += 1
        return k

    @njit(cache=True, error_model="numpy", nogil=True)
    def _clear_whole(words, expected):
        """Clear the entries if all are clean and follow each other; return whether they did."""
        first, unlike = words[0] & _W_KEPT, _W_NONE
        for k in range(len(words)):
            unlike |= ((words[k] & _W_KEPT) ^ (first + (np.uint64(k) << _W_SHIFT))) | (words[k] & _W_DIRTY)
        if unlike != _W_NONE or (first & _W_FREE) != expected:
            return False
        for k in range(len(words)):
            words[k] = _W_NONE
        return True

    BLOCK = 2048  # entries of alike folios that are compared at a time at most

    @njit(cache=True, error_model="numpy", nogil=True)
    def _numba_loop(
        ptes, pfn, index, order_of, flags_of, refcount, mapcount, nr_pages_mapped, shift, folios, group_start, lengths
    ):
        folios_seen, pages, calls, walk_calls, walk_reads, walk_slots = len(folios), 0, 0, 0, 0, 0
        scans, scan_reads, steps, large_steps, cleared_all, dirtied = 0, 0, 0, 0, 0, 0
        nr_freed, freed_pages, slots, activated, activated_pages, kept, flushes = 0, 0, 0, 0, 0, 0, 0
        whole_of = np.zeros(16, np.int64)
        for group in range(len(group_start) - 1):
            pending, batch = False, 0
            i, end, most = np.int64(group_start[group]), np.int64(group_start[group + 1]), BLOCK
            while i < end:
                folio = np.int64(folios[i])
                order = np.int64(order_of[folio])
                nr = 1 << order
                flags, refs = flags_of[folio], refcount[folio]
                if mapcount[folio] == nr and not (flags & (_F_DIRTY | _F_COUNTS)):
                    room = min(end - i, max(1, most >> order))
                    alike = _nr_alike(pfn, index, order_of, flags_of, refcount, mapcount, folios[i : i + room], folio)
                    slot = np.int64(index[folio]) + shift
                    words = ptes[slot : slot + (alike << order)]
                    if _clear_whole(words, (pfn[folio] << _W_SHIFT) | _W_PRESENT):
                        calls += alike
                        whole_of[order] += alike
                        cleared_all += len(words)
                        pages += len(words)
                        left = refs - np.int32(nr)
                        freed = left == nr
                        for k in range(alike):
                            mapcount[folio + k] = 0
                            refcount[folio + k] = 0 if freed else left
                        if nr > 1:
                            for k in range(alike):
                                nr_pages_mapped[folio + k] = 0
                        if freed:
                            for k in range(alike):
                                flags_of[folio + k] = (flags & _F_NOT_FREED) | _F_FREED
                            nr_freed += alike
                            freed_pages += len(words)
                            slots += alike << (order % 6)
                            full, batch = divmod(batch + alike, FREE_BATCH)
                            flushes += full
                            pending = full == 0 or batch > 0
                        else:
                            kept += alike
                            pending = True
                        most = min(BLOCK, most * 4) if alike == room else max(64, len(words))
                        i += alike
                        continue
                    most = 64
                i += 1
                pages += nr
                if mapcount[folio] != 0:
                    slot = np.int64(index[folio]) + shift
                    words = ptes[slot : slot + nr]
                    first = words[0] & _W_KEPT
                    # All entries are compared without an early exit, so that the loop vectorises.
                    unlike = (first & _W_FREE) ^ ((pfn[folio] << _W_SHIFT) | _W_PRESENT)
                    seen = _W_NONE
                    want = first
                    for k in range(nr):
                        unlike |= (words[k] & _W_KEPT) ^ (want + np.uint64(k) * _W_ONE)
                        seen |= words[k]
                    calls += 1
                    if unlike == _W_NONE:
                        for k in range(nr):
                            words[k] = _W_NONE
                        cleared = nr
                        whole_of[order] += 1
                        dirtied += (seen & _W_DIRTY) != _W_NONE
                    else:
                        cleared, my_steps, at = 0, 0, 0
                        while at < nr:
                            if words[at] == _W_NONE:
                                at += 1
                                continue
                            want = words[at] & _W_KEPT
                            length, reads = 1, 0
                            while at + length < nr:
                                reads += 1
                                if (words[at + length] & _W_KEPT) != want + np.uint64(length) * _W_ONE:
                                    break
                                length += 1
                            step_seen = _W_NONE
                            for k in range(at, at + length):
                                step_seen |= words[k]
                                words[k] = _W_NONE
                            dirtied += (step_seen & _W_DIRTY) != _W_NONE
                            walk_reads += at > 0
                            scan_reads += reads
                            lengths[length] += 1
                            my_steps += 1
                            cleared += length
                            at += length
                        steps += my_steps
                        large_steps += my_steps
                        scans += my_steps
                        walk_calls += my_steps + 1
                        walk_reads += nr
                        walk_slots += nr
                    cleared_all += cleared
                    mapcount[folio] = 0
                    if nr > 1:
                        nr_pages_mapped[folio] = 0
                        flags &= ~_F_COUNTS
                    if seen & _W_DIRTY:
                        flags |= _F_DIRTY
                    refs -= np.int32(cleared)
                    pending = True
                if flags & _F_DIRTY:
                    flags |= _F_ACTIVE
                    activated += 1
                    activated_pages += nr
                elif refs == nr:
                    flags = (flags & _F_NOT_FREED) | _F_FREED
                    refs = np.int32(0)
                    nr_freed += 1
                    freed_pages += nr
                    slots += 1 << (order % 6)
                    batch += 1
                    if batch == FREE_BATCH:
                        flushes += pending
                        pending, batch = False, 0
                else:
                    kept += 1
                flags_of[folio] = flags
                refcount[folio] = refs
            flushes += pending
        for order in range(len(whole_of)):
            times = whole_of[order]
            if times == 0:
                continue
            lengths[1 << order] += times
            steps += times
            walk_calls += times
            walk_slots += times
            walk_reads += times if order else 2 * times
            scan_reads += times * ((1 << order) - 1)
            if order:
                scans += times
                large_steps += times
        return (
            folios_seen, pages, calls, walk_calls, walk_reads, walk_slots, scans, scan_reads, steps, large_steps,
            cleared_all, dirtied, nr_freed, freed_pages, slots, activated, activated_pages, kept, flushes,
        )  # fmt: skip

    def unmap_numba(population, folios, group_start) -> Outcome:
        """One pass, compiled: rows of alike folios at once, then folio by folio, then entry by entry."""
        pop = population
        lengths = np.zeros((1 << _core.MAX_ORDER) + 1, np.int64)
        counts = _numba_loop(
            pop.ptes, pop.folio_pfn, pop.folio_index, pop.folio_order, pop.folio_flags, pop.folio_refcount,
            pop.folio_mapcount, pop.folio_nr_pages_mapped, int(pop.vma_pte_base[0]) - int(pop.vma_pgoff[0]), folios,
            group_start, lengths,
        )  # fmt: skip
        count = dict(zip(COUNTERS, counts, strict=True))
        return _outcome(pop, len(group_start) - 1, count, enumerate(lengths.tolist()))


PEERS = {"python": unmap_python, "numpy": unmap_numpy} | ({"numba": unmap_numba} if unmap_numba else {})
