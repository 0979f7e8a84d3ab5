"""Small populations full of odd states, from a seed: what the twin tests and the checks are tried on."""

import dataclasses
from itertools import pairwise

import numpy as np

from rmapfast import pte
from rmapfast.arch import PRESETS, Arch
from rmapfast.flags import FolioFlag, PageFlag, TableState, VmaFlag, with_accesses, with_generation
from rmapfast.lru import MAX_NR_GENS, LruGen
from rmapfast.policy import CHOICES, Policy
from rmapfast.policy import PRESETS as POLICIES
from rmapfast.population import Population
from rmapfast.swap import Swap


def random_arch(rng) -> Arch:
    """A preset, or an architecture with page tables so small that folios cross them all the time."""
    page_mapcount = bool(rng.random() < 0.6)
    if rng.random() < 0.4:
        return PRESETS[str(rng.choice(list(PRESETS)))].replace(page_mapcount=page_mapcount)
    tables = int(rng.choice([2, 4, 8, 16, 64]))
    tlb = str(rng.choice(["x86", "arm64", "riscv", "none"]))
    blocks = [size for size in (2, 4, 8) if size <= tables]
    return Arch(
        name="toy",
        ptrs_per_pte=tables,
        cont_ptes=int(rng.choice(blocks)) if tlb in ("arm64", "riscv") else 1,
        tlb=tlb,
        flush_ceiling=int(rng.choice([3, 33])),
        range_tlbi=bool(rng.random() < 0.5),
        max_dvm_ops=int(rng.choice([4, 512])),
        bbml2_noabort=bool(rng.random() < 0.3),
        page_mapcount=page_mapcount,
        mkdirty_soft_dirty=bool(rng.random() < 0.5),
        invlpgb=tlb == "x86" and bool(rng.random() < 0.3),
    )


def random_policy(rng) -> Policy:
    """A preset, or fields that no edition combines."""
    if rng.random() < 0.4:
        return POLICIES[str(rng.choice(list(POLICIES)))]
    fields = {}
    for entry in dataclasses.fields(Policy):
        if entry.name not in ("name", "doc", "rule", "young_rule"):
            values = CHOICES.get(entry.name, (False, True))
            fields[entry.name] = values[int(rng.integers(len(values)))]
    return Policy("random", **fields)


def _flags(rng, known, rate):
    return sum(bit for bit in known if rng.random() < rate)


def random_population(seed: int, arch: Arch | None = None, *, odd: float = 0.15) -> Population:
    """A few folios mapped by a few adjacent or distant VMAs of one or two mms.

    `odd` is the rate of everything that a kernel seldom sees: entries of other kinds, single flipped bits, extra
    references, flags.
    """
    rng = np.random.default_rng(seed)
    arch = arch or random_arch(rng)
    per_table = arch.ptrs_per_pte
    table_order = per_table.bit_length() - 1
    nr_folios = int(rng.integers(1, 6))
    # up to four tables, or two contpte blocks, or 32 pages
    block_order = arch.cont_ptes.bit_length() - 1
    order = rng.integers(0, min(max(6, block_order + 2), table_order + 3), nr_folios).astype(np.uint8)
    pages = 1 << order.astype(np.int64)
    pfn = np.zeros(nr_folios, np.uint64)
    index = np.zeros(nr_folios, np.uint64)
    next_pfn, next_index = 1 << 10, int(rng.integers(0, 4)) * per_table
    for i in range(nr_folios):
        size = int(pages[i])
        next_pfn = -(-next_pfn // size) * size
        next_index = -(-next_index // size) * size if rng.random() < 0.8 else next_index
        pfn[i], index[i] = next_pfn, next_index
        next_pfn, next_index = next_pfn + size, next_index + size
    total_index = next_index
    anon_world = bool(rng.random() < 0.5)
    flags = np.zeros(nr_folios, np.uint32)
    for i in range(nr_folios):
        if anon_world or rng.random() < odd:
            flags[i] |= FolioFlag.ANON | (FolioFlag.SWAPBACKED if rng.random() < 0.5 else 0)
        elif rng.random() < odd:
            flags[i] |= FolioFlag.SWAPBACKED
        odd_flags = (
            FolioFlag.DIRTY,
            FolioFlag.REFERENCED,
            FolioFlag.PINNED,
            FolioFlag.YOUNG,
            FolioFlag.SWAPCACHE,
        )
        rare = (FolioFlag.MLOCKED, FolioFlag.UNEVICTABLE, FolioFlag.LOCKED, FolioFlag.PARTIALLY_MAPPED)
        flags[i] |= np.uint32(_flags(rng, odd_flags, odd) | _flags(rng, rare, odd / 5))

    starts, ends, pgoffs, vma_flags, mms, windows, bases = [], [], [], [], [], [], []
    nr_mms = int(rng.integers(1, 3))
    ptes = np.zeros(0, np.uint64)
    for mm in range(nr_mms):
        first_vpn = int(rng.integers(1, 5)) * per_table + int(rng.choice([0, 0, 1, per_table - 1]))
        cuts = sorted({0, total_index, *rng.integers(0, total_index + 1, int(rng.integers(0, 3))).tolist()})
        cuts = [cut for cut in cuts if cut >= int(index[0])] or [0, total_index]
        if len(cuts) == 1:
            cuts = [int(index[0]), total_index]
        offset = cuts[0]
        window = (first_vpn, first_vpn + cuts[-1] - offset)
        base = len(ptes)
        for low, high in pairwise(cuts):
            starts.append(first_vpn + low - offset)
            ends.append(first_vpn + high - offset)
            pgoffs.append(low)
            known = (VmaFlag.UFFD_WP, VmaFlag.UFFD_ARMED, VmaFlag.DROPPABLE, VmaFlag.EXEC, VmaFlag.SHARED)
            word = _flags(rng, known, odd * 1.5) | _flags(rng, (VmaFlag.LOCKED,), odd / 2)
            vma_flags.append(word | (VmaFlag.ANON if anon_world else 0))
            mms.append(mm)
            windows.append(window)
            bases.append(base + low - offset)
        stretch = np.zeros(window[1] - window[0], np.uint64)
        fill(rng, stretch, offset, pfn, index, pages, odd)
        ptes = np.concatenate([ptes, stretch])

    nr_vmas = len(starts)
    table_base, states = [], []
    for vma in range(nr_vmas):
        table_base.append(len(states))
        for table in range(starts[vma] // per_table, (ends[vma] - 1) // per_table + 1):
            states.append(TableState.ABSENT if rng.random() < odd / 3 else TableState.PTE)
            low, high = max(table * per_table, starts[vma]), min((table + 1) * per_table, ends[vma])
            at = bases[vma] + low - starts[vma]
            if states[-1] == TableState.ABSENT:  # its slots mean nothing
                if table % 2:
                    ptes[at : at + high - low] = 0
            elif high - low == per_table and rng.random() < 0.3:
                make_leaf(rng, ptes, at, per_table, pfn, pages, states)
    if arch.cont_ptes > 1:
        fold(rng, ptes, starts, ends, bases, states, table_base, arch, pfn, pages)

    entire = np.zeros(nr_folios, np.int32)
    page_base = np.concatenate([[0], np.cumsum(pages)[:-1]]).astype(np.uint64)
    mapcounts = np.zeros(int(pages.sum()), np.int32)
    leaf_slots = np.zeros(len(ptes), bool)
    for vma in range(nr_vmas):
        first = starts[vma] // per_table
        for table in range(first, (ends[vma] - 1) // per_table + 1):
            if states[table_base[vma] + table - first] == TableState.PMD_LEAF:
                at = bases[vma] + table * per_table - starts[vma]
                leaf_slots[at : at + per_table] = True
                folio = owner(pfn, pages, int(pte.pfn(ptes[at])))
                entire[folio] += 1
    kinds = pte.kind(ptes)
    for at in np.flatnonzero((kinds == 7) | (kinds == 3)):
        if leaf_slots[at]:
            continue
        where = np.flatnonzero((pte.pfn(ptes[at]) >= pfn) & (pte.pfn(ptes[at]) < pfn + pages.astype(np.uint64)))
        if len(where):
            folio = int(where[0])
            mapcounts[int(page_base[folio]) + int(pte.pfn(ptes[at]) - pfn[folio])] += 1
    external = rng.random(nr_folios) < odd / 3
    for folio in np.flatnonzero(external):
        mapcounts[int(page_base[folio]) + int(rng.integers(0, pages[folio]))] += 1
    page_flags = np.zeros(len(mapcounts), np.uint8)
    mapcount, mapped = np.zeros(nr_folios, np.int32), np.zeros(nr_folios, np.int32)
    refcount = np.zeros(nr_folios, np.int32)
    for folio in range(nr_folios):
        own = slice(int(page_base[folio]), int(page_base[folio] + pages[folio]))
        mapcount[folio] = mapcounts[own].sum() + entire[folio]
        mapped[folio] = pages[folio] if entire[folio] else np.count_nonzero(mapcounts[own] > 0)
        cached = not flags[folio] & FolioFlag.ANON or flags[folio] & FolioFlag.SWAPCACHE
        refcount[folio] = mapcount[folio] + (pages[folio] if cached else 0) + (rng.random() < odd / 2)
        if flags[folio] & FolioFlag.ANON:
            exclusive = rng.random()
            page_flags[own] = rng.random(pages[folio]) < (1 if exclusive < 0.5 else 0.5)
        page_flags[own] |= (rng.random(pages[folio]) < odd / 10).astype(np.uint8) * PageFlag.HWPOISON
        page_flags[own] |= (rng.random(pages[folio]) < odd / 10).astype(np.uint8) * PageFlag.SWAP_DUP_FAIL
        flags[folio] |= FolioFlag.PAGE_MAPCOUNTS | FolioFlag.PAGE_FLAGS
        settle(folio, own, flags, mapcounts, page_flags)

    rmap = [
        [
            vma
            for vma in range(nr_vmas)
            if pgoffs[vma] < index[folio] + pages[folio] and pgoffs[vma] + ends[vma] - starts[vma] > index[folio]
        ]
        for folio in range(nr_folios)
    ]
    lru = rng.permutation(nr_folios).astype(np.uint32)
    is_active = rng.random(nr_folios) < 0.3
    flags[is_active] |= np.uint32(FolioFlag.ACTIVE)
    return Population(
        page_shift=arch.page_shift,
        ptrs_per_pte=per_table,
        ptes=ptes,
        vma_start=np.array(starts, np.uint64),
        vma_end=np.array(ends, np.uint64),
        vma_pgoff=np.array(pgoffs, np.uint64),
        vma_flags=np.array(vma_flags, np.uint32),
        vma_mm=np.array(mms, np.uint32),
        vma_pte_base=np.array(bases, np.uint64),
        vma_window_start=np.array([window[0] for window in windows], np.uint64),
        vma_window_end=np.array([window[1] for window in windows], np.uint64),
        vma_table_base=np.array(table_base, np.uint64),
        table_state=np.array(states, np.uint8),
        folio_pfn=pfn,
        folio_index=index,
        folio_order=order,
        folio_flags=flags,
        folio_refcount=refcount,
        folio_mapcount=mapcount,
        folio_entire_mapcount=entire,
        folio_nr_pages_mapped=mapped,
        folio_swap=page_base + np.uint64(1 << 20),
        folio_page_base=page_base,
        page_mapcount=mapcounts,
        page_flags=page_flags,
        rmap_start=np.concatenate([[0], np.cumsum([len(row) for row in rmap])]).astype(np.uint64),
        rmap_vma=np.array([vma for row in rmap for vma in row], np.uint32),
        mm_rss=rng.integers(0, 1000, (nr_mms, 4)),
        mm_cpumask=rng.choice([1, 2, 3, 7], nr_mms).astype(np.uint64),
        mm_flags=(rng.random(nr_mms) < odd).astype(np.uint32),
        lru_inactive=lru[~is_active[lru]],
        lru_active=lru[is_active[lru]],
    )


def with_unseen(population: Population, rng) -> Population:
    """The same with what a capture cannot show: pages of zeroes, folios that are shared or on the deferred queue."""
    for folio in range(population.nr_folios):
        base, order = int(population.folio_page_base[folio]), int(population.folio_order[folio])
        pages = population.page_flags[base : base + (1 << order)]
        flags = population.folio_flags
        if rng.random() < 0.4:
            if not flags[folio] & FolioFlag.PAGE_FLAGS:
                pages[:] = PageFlag.EXCLUSIVE if flags[folio] & FolioFlag.EXCLUSIVE else 0
            pages |= (rng.random(len(pages)) < rng.choice([0.2, 0.9, 1.0])).astype(np.uint8) * np.uint8(PageFlag.ZERO)
            flags[folio] &= ~np.uint32(FolioFlag.PAGE_FLAGS | FolioFlag.EXCLUSIVE)
            if np.all(pages == PageFlag.EXCLUSIVE):
                flags[folio] |= np.uint32(FolioFlag.EXCLUSIVE)
            elif pages.any():
                flags[folio] |= np.uint32(FolioFlag.PAGE_FLAGS)
        if rng.random() < 0.3:
            flags[folio] |= np.uint32(FolioFlag.MAYBE_SHARED)
        if rng.random() < 0.3 and order and flags[folio] & FolioFlag.ANON:
            flags[folio] |= np.uint32(FolioFlag.PARTIALLY_MAPPED)
    return population


def with_generations(population: Population, rng) -> Population:
    """The same with a generation and marks for each folio, or for none: then its history says them (rmapfast.lru)."""
    youngest = int(rng.integers(1, 10))
    least = max(0, youngest - 3)
    anon, file = (int(rng.integers(least, youngest)) for _ in range(2))
    population.lru_gen = LruGen(youngest, anon, file)
    flags = population.folio_flags
    if rng.random() < 0.8:
        oldest = np.where(flags & FolioFlag.SWAPBACKED, anon, file)
        seq = rng.integers(oldest, youngest + 1)
        flags &= ~np.uint32(FolioFlag.ACTIVE)
        for mark in (FolioFlag.REFERENCED, FolioFlag.WORKINGSET):
            flags |= (rng.random(len(flags)) < 0.25).astype(np.uint32) * np.uint32(mark)
        flags[:] = with_accesses(flags, rng.integers(0, 4, len(flags)) * (rng.random(len(flags)) < 0.5))
        flags[:] = with_generation(flags, seq % MAX_NR_GENS + 1)
    return population


def random_swap(rng) -> Swap | bool:
    """No swap, an unlimited one, a small one, a fragmented one, or a map."""
    free = rng.random(int(rng.integers(2, 200))) < 0.8
    free[0] = False
    devices = [True, False, Swap(int(rng.integers(1, 40))), Swap(fragmented=True), Swap(free=free)]
    return devices[int(rng.integers(len(devices)))]


def fill(rng, stretch, offset, pfn, index, pages, odd):
    """Map the folios linearly; then flip bits, zap entries, and put other kinds in their place."""
    for folio in range(len(pfn)):
        if rng.random() < odd / 2:
            continue
        bits = [
            bit
            for bit in (pte.WRITE, pte.YOUNG, pte.DIRTY, pte.SOFT_DIRTY, pte.UFFD_WP, pte.PROT)
            if rng.random() < 0.4
        ]
        word = int(pte.PRESENT) | sum(int(bit) for bit in bits)
        for page in range(int(pages[folio])):
            at = int(index[folio]) + page - offset
            if 0 <= at < len(stretch):
                stretch[at] = (int(pfn[folio]) + page) << 12 | word
    flippable = [pte.WRITE, pte.YOUNG, pte.DIRTY, pte.SOFT_DIRTY, pte.UFFD_WP, pte.PROT, pte.UNUSED]
    noise = rng.choice([0.0, odd, 2 * odd])
    for at in np.flatnonzero(rng.random(len(stretch)) < noise):
        what = rng.random()
        page = int(pte.pfn(stretch[at]))
        if what < 0.6:
            if stretch[at]:
                stretch[at] ^= rng.choice(flippable[:-1] if what < 0.55 else flippable)
        elif what < 0.75:
            stretch[at] = 0
        elif what < 0.8 and stretch[at]:
            stretch[at] = pte.make("device_exclusive", page, ["soft_dirty"] if what < 0.77 else [])
        elif what < 0.85:
            stretch[at] = pte.make("device_private", 5, [])
        elif what < 0.9:
            stretch[at] = pte.make("swap", at, ["exclusive"] if what < 0.87 else ["uffd_wp"])
        elif what < 0.94:
            stretch[at] = pte.make("migration", page, [])
        elif what < 0.97:
            stretch[at] = pte.MARKER
        else:
            stretch[at] = pte.make("present", 7 if what < 0.98 else int(pfn[0]), ["young"])


def owner(pfn, pages, page):
    """The folio that has the page of this PFN, or None."""
    found = np.flatnonzero((pfn.astype(np.int64) <= page) & (page < pfn.astype(np.int64) + pages))
    return int(found[0]) if len(found) else None


def make_leaf(rng, ptes, at, per_table, pfn, pages, states):
    """Turn a page table into a PMD leaf if its first entry maps a folio that has pages for a whole table."""
    if not ptes[at] & pte.PRESENT or ptes[at] & pte.UNUSED:
        return
    folio = owner(pfn, pages, int(pte.pfn(ptes[at])))
    if folio is None or int(pte.pfn(ptes[at])) + per_table > int(pfn[folio]) + int(pages[folio]):
        return
    ptes[at : at + per_table] = ptes[at] + (np.arange(per_table, dtype=np.uint64) << np.uint64(12))
    states[-1] = TableState.PMD_LEAF


def fold(rng, ptes, starts, ends, bases, states, table_base, arch, pfn, pages):
    """Set CONT in whole aligned blocks whose entries map consecutive pages of one folio with the same bits."""
    ignored = pte.YOUNG | pte.DIRTY
    block = arch.cont_ptes
    for vma, start in enumerate(starts):
        for vpn in range(-(-start // block) * block, ends[vma] - block + 1, block):
            table = table_base[vma] + vpn // arch.ptrs_per_pte - start // arch.ptrs_per_pte
            at = bases[vma] + vpn - start
            words = ptes[at : at + block]
            first = int(pte.pfn(words[0]))
            whole = any(int(p) <= first and first + block <= int(p) + int(n) for p, n in zip(pfn, pages, strict=True))
            expected = words[0] + (np.arange(block, dtype=np.uint64) << np.uint64(12))
            same = bool(((words & ~ignored) == (expected & ~ignored)).all())
            if (
                states[table] == TableState.PTE
                and words[0] & pte.PRESENT
                and first % block == 0
                and whole
                and same
                and rng.random() < 0.8
            ):
                ptes[at : at + block] |= pte.CONT


def settle(folio, own, flags, mapcounts, page_flags):
    """Give up the page arrays where the folio is uniform, for half of the folios."""
    if folio % 2:
        return
    if (mapcounts[own] == mapcounts[own][0]).all():
        flags[folio] &= ~np.uint32(FolioFlag.PAGE_MAPCOUNTS)
    if (page_flags[own] == 0).all() or (page_flags[own] == PageFlag.EXCLUSIVE).all():
        flags[folio] &= ~np.uint32(FolioFlag.PAGE_FLAGS)
        if page_flags[own][0]:
            flags[folio] |= np.uint32(FolioFlag.EXCLUSIVE)
