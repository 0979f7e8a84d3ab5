"""What a population holds, and how much of it an unmap could batch."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from rmapfast import _core, pte
from rmapfast import arch as _arch
from rmapfast import policy as _policy
from rmapfast.events import EVENT_NAMES
from rmapfast.flags import FOLIO_KINDS, FolioFlag, TableState, VmaFlag, folio_kind
from rmapfast.layout import FolioIndex, ranges
from rmapfast.loop import BUDGET, check_population
from rmapfast.pageout import split_partially_mapped
from rmapfast.policy import Policy
from rmapfast.population import Population
from rmapfast.support import format_size
from rmapfast.swap import Swap

# One before lazyfree file batching, the seed's two, the newest one, and the one that swap-out waits for.
POLICIES = ("per-page", "v6.16", "v7.0", "v7.3", "anon-swap")
VMA_FLAGS = {
    "file": (VmaFlag.ANON, 0),
    "anonymous": (VmaFlag.ANON, VmaFlag.ANON),
    "shared": (VmaFlag.SHARED, VmaFlag.SHARED),
    "executable": (VmaFlag.EXEC, VmaFlag.EXEC),
    "locked": (VmaFlag.LOCKED, VmaFlag.LOCKED),
    "uffd_wp": (VmaFlag.UFFD_WP, VmaFlag.UFFD_WP),
    "droppable": (VmaFlag.DROPPABLE, VmaFlag.DROPPABLE),
}
# Bits in which the entries of a batch may differ.
_BATCH_IGNORES = pte.YOUNG | pte.DIRTY | pte.CONT
# Folios that one shrink_folio_list() gets here: as many as reclaim isolates at order 0.
_GROUP = 32


def describe(population: Population, policies=POLICIES, *, progress=None) -> dict:
    """Return how a population's folios are mapped, and what share of the pages each policy would batch.

    Pages are counted once for each page-table entry that maps them (a PMD leaf counts as its pages), unless it says
    otherwise; "mapped" means that.

    Parameters
    ----------
    population : Population
        Stays as it is.
    policies : sequence of str or Policy
        What to unmap it with: every mapped folio once, whether or not it was referenced.
    progress : callable, optional
        Called with a line of text some times a second.

    Returns
    -------
    dict
        What :meth:`Population.describe` returns, and:

        * ``arch``; ``mapped_pages``.
        * ``vma_flags``: per flag ``vmas``, ``pages`` (of address space) and ``mapped``.
        * ``vmas_unused``: VMAs that map nothing; ``vma_pages``: pages of address space in all.
        * ``orders_by_kind``: per kind and order ``folios``, their ``pages``, and ``mapped``.
        * ``mappings``: per way in which a folio lies in a VMA, ``mappings`` (pairs of both) and ``pages``. ``order_0``,
          ``whole``, ``partial`` and ``pmd`` exclude each other; ``cut_by_vma``, ``cut_by_table``, ``cow`` (pages
          inside it are anonymous copies) and ``holes`` (no page there) are said of large folios and overlap.
        * ``sharing``: distinct pages by the number of entries that map them, those of other processes included.
        * ``runs``: by powers of two of their length, ``runs`` and ``pages`` of entries that one unmap step could take:
          consecutive pages of one folio, in one table and VMA, equal in all bits but young and dirty.
        * ``split_first``: folios that reclaim would split before it unmaps them, as done here too.
        * ``policies``: per policy the mapped pages that are unmapped in steps of several pages (``batched``; those of
          them in steps of a whole folio: ``whole_folio``), one by one (``single``) and by a PMD (``pmd``), those that
          stay (``left``: mlocked, or a failed unmap) and those counted in a step that was taken back (``put_back``);
          ``steps``; ``batched_share`` and ``whole_folio_share`` of all mapped pages (None if there are none).
          ``batched + single + pmd + left - put_back`` is ``mapped_pages``.

    Raises
    ------
    ValueError, TypeError
        For a policy that does not exist, or a population whose arrays do not fit together.
    """
    policies = [_policy.get(policy) for policy in policies]
    arch = _arch.get(population.arch or "x86-64")
    check_population(population, arch)
    entries = mapped_entries(population)
    return population.describe() | {
        "arch": arch.name,
        "mapped_pages": len(entries.slot),
        **_vmas(population, entries),
        "orders_by_kind": _orders_by_kind(population, entries),
        "mappings": _mappings(population, entries),
        "sharing": _sharing(population),
        "runs": _runs(population, entries),
        **_unmapped(population, entries, policies, arch, progress),
    }


def mapped_entries(population: Population) -> SimpleNamespace:
    """Return the entries that map a folio's page, by VMA and address, as arrays of one length.

    ``slot`` (index in ``ptes``), ``vma``, ``vpn``, ``word``, ``folio``, ``page`` (of the folio) and ``leaf`` (whether a
    PMD maps it).
    """
    pop = population
    start, end = pop.vma_start.astype(np.int64), pop.vma_end.astype(np.int64)
    base = pop.vma_pte_base.astype(np.int64)
    found = []
    for number in range(len(start)):
        words = pop.ptes[base[number] : base[number] + end[number] - start[number]]
        at = np.flatnonzero(words & (pte.PRESENT | pte.SPECIAL) == pte.PRESENT)
        found.append((at + base[number], at + start[number], np.full(len(at), number)))
    columns = (np.concatenate([[], *column]).astype(np.int64) for column in zip(*found, strict=True))
    slot, vpn, vma = columns if found else (np.zeros(0, np.int64),) * 3
    word = pop.ptes[slot]
    folio = FolioIndex(pop.folio_pfn, pop.folio_order).find(pte.pfn(word))
    table = pop.vma_table_base.astype(np.int64)[vma] + vpn // pop.ptrs_per_pte - start[vma] // pop.ptrs_per_pte
    state = pop.table_state[table]
    keep = (folio >= 0) & (state != TableState.ABSENT)
    slot, vpn, vma, word, folio, state = (column[keep] for column in (slot, vpn, vma, word, folio, state))
    page = pte.pfn(word).astype(np.int64) - pop.folio_pfn.astype(np.int64)[folio]
    leaf = state == TableState.PMD_LEAF
    return SimpleNamespace(slot=slot, vma=vma, vpn=vpn, word=word, folio=folio, page=page, leaf=leaf)


def _vmas(pop: Population, entries: SimpleNamespace) -> dict:
    pages = (pop.vma_end - pop.vma_start).astype(np.int64)
    mapped = np.bincount(entries.vma, minlength=len(pages))
    flags = {}
    for name, (mask, value) in VMA_FLAGS.items():
        has = pop.vma_flags & np.uint32(mask) == value
        flags[name] = {"vmas": int(has.sum()), "pages": int(pages[has].sum()), "mapped": int(mapped[has].sum())}
    return {"vma_flags": flags, "vmas_unused": int(np.count_nonzero(mapped == 0)), "vma_pages": int(pages.sum())}


def _orders_by_kind(pop: Population, entries: SimpleNamespace) -> dict:
    kind, order = folio_kind(pop.folio_flags), pop.folio_order.astype(np.int64)
    mapped = np.bincount(entries.folio, minlength=pop.nr_folios)
    table: dict[str, dict] = {}
    key = kind * (_core.MAX_ORDER + 1) + order
    for number in np.unique(key):
        of_kind, of_order = divmod(int(number), _core.MAX_ORDER + 1)
        rows = key == number
        count = int(rows.sum())
        row = {"folios": count, "pages": count << of_order, "mapped": int(mapped[rows].sum())}
        table.setdefault(FOLIO_KINDS[of_kind], {})[str(of_order)] = row
    return table


def folio_mappings(population: Population, entries: SimpleNamespace) -> SimpleNamespace:
    """Return how large folios lie in VMAs: arrays with one element per folio, VMA and place in it.

    ``folio``, ``vma``, ``first`` (virtual page number of page 0, also if that is not mapped), ``pages`` (mapped),
    and the masks ``pmd``, ``whole``, ``cut_by_vma``, ``cut_by_table``, ``cow``, ``holes``. ``number`` is the element
    of each entry, -1 for order 0.
    """
    pop = population
    large = np.flatnonzero(pop.folio_order[entries.folio] > 0)
    folio, vma = entries.folio[large], entries.vma[large]
    first = entries.vpn[large] - entries.page[large]
    # Entries of one mapping mostly follow each other: sort their runs, not them.
    opens = np.ones(len(large), bool)
    opens[1:] = (folio[1:] != folio[:-1]) | (vma[1:] != vma[:-1]) | (first[1:] != first[:-1])
    run = np.flatnonzero(opens)
    by = np.lexsort((first[run], vma[run], folio[run]))
    columns = [column[run][by] for column in (folio, vma, first)]
    new = np.ones(len(run), bool)
    new[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    number_of_run = np.empty(len(run), np.int64)
    number_of_run[by] = np.cumsum(new) - 1
    number = np.full(len(entries.slot), -1)
    number[large] = number_of_run[np.cumsum(opens) - 1]
    folio, vma, first = (column[new] for column in columns)

    nr = len(folio)
    size = np.int64(1) << pop.folio_order[folio].astype(np.int64)
    pages = np.bincount(number[large], minlength=nr)
    pmd = np.bincount(number[large], weights=entries.leaf[large], minlength=nr) > 0
    start, end = pop.vma_start[vma].astype(np.int64), pop.vma_end[vma].astype(np.int64)
    low, high = np.maximum(first, start), np.minimum(first + size, end)
    # Position in the VMAs one after the other: that of the entries rises.
    shift = np.cumsum(pop.vma_end - pop.vma_start).astype(np.int64) - pop.vma_end.astype(np.int64)
    place = entries.vpn + shift[entries.vma]
    anon = pop.folio_flags & np.uint32(FolioFlag.ANON) > 0
    copies = place[anon[entries.folio]]

    def inside(places):
        return np.searchsorted(places, high + shift[vma]) - np.searchsorted(places, low + shift[vma])

    return SimpleNamespace(
        number=number,
        folio=folio,
        vma=vma,
        first=first,
        pages=pages,
        pmd=pmd,
        whole=~pmd & (pages == size),
        cut_by_vma=high - low < size,
        cut_by_table=~pmd & (low // pop.ptrs_per_pte != (high - 1) // pop.ptrs_per_pte),
        cow=~anon[folio] & (inside(copies) > 0),
        holes=inside(place) < high - low,
    )


def _mappings(pop: Population, entries: SimpleNamespace) -> dict:
    found = folio_mappings(pop, entries)
    small = int(np.count_nonzero(found.number < 0))
    table = {"order_0": {"mappings": small, "pages": small}}
    masks = {"whole": found.whole, "partial": ~found.whole & ~found.pmd, "pmd": found.pmd}
    masks |= {name: getattr(found, name) for name in ("cut_by_vma", "cut_by_table", "cow", "holes")}
    for name, mask in masks.items():
        table[name] = {"mappings": int(np.count_nonzero(mask)), "pages": int(found.pages[mask].sum())}
    return table


def _sharing(pop: Population) -> dict[str, int]:
    pages = np.int64(1) << pop.folio_order.astype(np.int64)
    own = pop.folio_flags & np.uint32(FolioFlag.PAGE_MAPCOUNTS) > 0
    entire = pop.folio_entire_mapcount.astype(np.int64)
    even = (pop.folio_mapcount - entire) // pages + entire
    counts = [(even[~own], pages[~own])]
    if own.any():
        at = ranges(pop.folio_page_base[own], pages[own])
        page = pop.page_mapcount[at] + np.repeat(entire[own], pages[own])
        counts.append((page, np.ones(len(page), np.int64)))
    count, weight = (np.concatenate(column) for column in zip(*counts, strict=True))
    found, which = np.unique(count, return_inverse=True)
    total = np.bincount(which, weights=weight, minlength=len(found)).astype(np.int64)
    return {str(times): int(nr) for times, nr in zip(found, total, strict=True) if times > 0}


def _runs(pop: Population, entries: SimpleNamespace) -> dict:
    rows = np.flatnonzero(~entries.leaf)
    folio, vma, vpn, page, word = (getattr(entries, name)[rows] for name in ("folio", "vma", "vpn", "page", "word"))
    bits = word & (pte.PFN_ONE - np.uint64(1)) & ~_BATCH_IGNORES
    opens = np.ones(len(rows), bool)
    opens[1:] = (folio[1:] != folio[:-1]) | (vma[1:] != vma[:-1]) | (vpn[1:] != vpn[:-1] + 1)
    opens[1:] |= (page[1:] != page[:-1] + 1) | (bits[1:] != bits[:-1])
    opens |= vpn % pop.ptrs_per_pte == 0
    length = np.diff(np.append(np.flatnonzero(opens), len(rows)))
    power = np.frexp(length)[1] - 1
    runs = np.bincount(power)
    pages = np.bincount(power, weights=length)
    return {str(1 << k): {"runs": int(runs[k]), "pages": int(pages[k])} for k in np.flatnonzero(runs).tolist()}


def _unmapped(population: Population, entries, policies: list[Policy], arch, progress) -> dict:
    """Unmap every folio on a copy per policy; order by order, so that whole folios show in the lengths of the steps."""
    population, split = split_partially_mapped(population)
    order = population.folio_order.astype(np.int64)
    mapped = len(entries.slot)
    results = {}
    for policy in policies:
        after = population.copy()
        run = _core.Run(after, policy, arch, swap=Swap())
        steps: dict[int, int] = {}
        batched = whole = 0
        for number in np.unique(order).tolist():
            folios = np.flatnonzero(order == number).astype(np.uint32)
            starts = np.append(np.arange(0, len(folios), _GROUP), len(folios)).astype(np.uint64)
            group = 0
            while group < len(starts) - 1:
                group = run.shrink_groups(folios, starts, group, BUDGET)
                if progress:
                    progress(f"{policy.name}: order {number}, {format_size(len(folios) << population.page_shift)}")
            before, steps = steps, run.batch_lengths
            new = {nr: count - before.get(nr, 0) for nr, count in steps.items()}
            batched += sum(nr * count for nr, count in new.items() if nr > 1)
            whole += (new.get(1 << number, 0) << number) if number else 0
        single = steps.get(1, 0)
        pmd = int(run.events[EVENT_NAMES.index("pmds_cleared")]) * population.ptrs_per_pte
        left = int(np.count_nonzero(after.ptes[entries.slot] & pte.PRESENT))
        results[policy.name] = {
            "batched": batched,
            "whole_folio": whole,
            "single": single,
            "pmd": pmd,
            "left": left,
            "put_back": batched + single + pmd + left - mapped,
            "steps": sum(steps.values()),
            "batched_share": batched / mapped if mapped else None,
            "whole_folio_share": whole / mapped if mapped else None,
        }
    return {"split_first": split, "policies": results}


def vma_names(paths) -> dict[tuple[int, int], str]:
    """Return the last component of each VMA's name in captures, by number of the capture and first virtual page."""
    from rmapfast.captures import Capture

    names = {}
    for mm, path in enumerate(paths):
        capture = Capture.load(path)
        for start, name, inode in zip(capture.vma_start, capture.vma_name, capture.vma_ino, strict=True):
            last = name if name.startswith("[") else name.rpartition("/")[2]
            names[mm, int(start)] = last or ("file" if inode else "")  # anonymised captures name no file
    return names


# The map of the memory

# Cells in a row of the map; rows of all memory; pages in a row, and rows, of the part that is drawn page by page.
MAP_WIDTH = 128
_MAP_ROWS = 48
_DETAIL_WIDTH = 128
_DETAIL_ROWS = 12


def memory_map(population: Population) -> SimpleNamespace:
    """Return what a figure of the memory shows: cells of equal size in rows, and one part of it page by page.

    Returns
    -------
    SimpleNamespace
        ``cell`` (pages, a power of two), ``width`` (cells in a row), ``orders`` (that are mapped), ``any_partial``,
        ``any_pmd``, ``skipped`` (rows without a mapped page) and

        * ``strips``: rows, each with ``vma`` (None: small VMAs that share it), ``first`` (virtual page), ``begin`` and
          ``end`` (cells that belong to VMAs) and, per cell, ``share`` (of its pages that is mapped), ``order`` (that
          maps most of it, -1 without), ``partial`` and ``pmd`` (whether a folio mapped in part or by a PMD is there).
        * ``detail``: ``width`` (pages in a row), ``partial`` and ``rows``, as strips, with ``runs``: (begin, end,
          order, partial, pmd) of what follows each other there; None if there is no large folio.
    """
    pop = population
    entries = mapped_entries(pop)
    found = folio_mappings(pop, entries)
    in_part = np.append(~found.whole & ~found.pmd, False)[found.number]
    order = pop.folio_order[entries.folio].astype(np.int64)
    used = np.unique(entries.vma)
    memory = SimpleNamespace(
        width=MAP_WIDTH,
        orders=np.unique(order).tolist(),
        any_partial=bool(in_part.any()),
        any_pmd=bool(entries.leaf.any()),
    )
    cell = 1
    while True:
        strips, skipped = _strips(pop, entries, used, order, in_part, cell)
        if len(strips) <= _MAP_ROWS:
            break
        cell *= 2
    memory.cell, memory.strips, memory.skipped = cell, strips, skipped
    memory.detail = _detail(pop, entries, found, order, in_part)
    return memory


def _strips(pop: Population, entries, used, order, in_part, cell: int):
    """Lay the VMAs out in rows of cells; those of less than half a row follow each other in shared rows."""
    start, end = pop.vma_start.astype(np.int64), pop.vma_end.astype(np.int64)
    first, last = start // cell, (end - 1) // cell + 1
    is_large = last - first >= MAP_WIDTH // 2
    # Row and column of each VMA's first cell: own rows in address order, the small ones after them.
    place = np.zeros(len(start), np.int64)
    owners: list[tuple[int, int]] = []
    at = 0
    for vma in used[is_large[used]].tolist():
        place[vma] = at
        rows = -(-int(last[vma] - first[vma]) // MAP_WIDTH)
        owners.append((at // MAP_WIDTH, vma))
        at += rows * MAP_WIDTH
        if at // MAP_WIDTH > 1 << 22:  # mostly empty address space: larger cells
            return [None] * (_MAP_ROWS + 1), 0
    small_from = at // MAP_WIDTH
    for vma in used[~is_large[used]].tolist():
        place[vma] = at
        at += int(last[vma] - first[vma])
    nr_rows = -(-at // MAP_WIDTH)
    where = place[entries.vma] + entries.vpn // cell - first[entries.vma]
    present = np.unique(where // MAP_WIDTH)
    if len(present) > _MAP_ROWS:
        return [None] * len(present), 0
    slim = np.searchsorted(present, where // MAP_WIDTH) * MAP_WIDTH + where % MAP_WIDTH
    cells = len(present) * MAP_WIDTH
    by_order = np.stack([np.bincount(slim[order == number], minlength=cells) for number in np.unique(order)] or [[]])
    share = by_order.sum(axis=0) / cell
    most = np.where(share > 0, np.unique(order)[by_order.argmax(axis=0)] if len(order) else -1, -1)
    partial = np.bincount(slim[in_part], minlength=cells) > 0
    pmd = np.bincount(slim[entries.leaf], minlength=cells) > 0
    owner_rows = np.array([row for row, _ in owners], np.int64)
    strips = []
    for number, row in enumerate(present.tolist()):
        part = slice(number * MAP_WIDTH, (number + 1) * MAP_WIDTH)
        vma, begin = None, row * MAP_WIDTH
        if row < small_from:
            vma = owners[int(np.searchsorted(owner_rows, row, side="right")) - 1][1]
            stop = min(place[vma] + last[vma] - first[vma] - begin, MAP_WIDTH)
            virtual = (first[vma] + begin - place[vma]) * cell
        else:
            stop, virtual = min(at - begin, MAP_WIDTH), 0
        strips.append(
            SimpleNamespace(
                vma=vma,
                first=int(virtual),
                begin=0,
                end=int(stop),
                share=share[part],
                order=most[part],
                partial=partial[part],
                pmd=pmd[part],
            )
        )
    return strips, nr_rows - len(present)


def _detail(pop: Population, entries, found, order, in_part):
    """Choose the part of one VMA that has most folios mapped in part, else most large folios, and draw it out."""
    if not len(found.folio):
        return None
    span = _DETAIL_WIDTH * _DETAIL_ROWS
    partial = ~found.whole & ~found.pmd
    wanted = partial if partial.any() else np.ones(len(partial), bool)
    # Windows that begin at half a span too; one folio of each order counts most, so that a mix is preferred.
    key = np.stack([found.vma[wanted], found.first[wanted].clip(0) // (span // 2)])
    windows, which = np.unique(key, axis=1, return_inverse=True)
    kinds = np.unique(np.stack([which.ravel(), pop.folio_order[found.folio[wanted]].astype(np.int64)]), axis=1)
    score = np.bincount(kinds[0], minlength=windows.shape[1]) * span + np.bincount(which.ravel())
    vma, window = windows[:, int(score.argmax())].tolist()
    start, end = int(pop.vma_start[vma]), int(pop.vma_end[vma])
    # Whole rows of addresses, no further beyond the VMA's end than needed.
    low = max(window * (span // 2), start // _DETAIL_WIDTH * _DETAIL_WIDTH)
    low = max(min(low, -(-end // _DETAIL_WIDTH) * _DETAIL_WIDTH - span), start // _DETAIL_WIDTH * _DETAIL_WIDTH)
    rows = []
    mine = (entries.vma == vma) & (entries.vpn >= low) & (entries.vpn < low + span)
    vpn, number, orders, parts, leaf = (
        column[mine] for column in (entries.vpn, found.number, order, in_part, entries.leaf)
    )
    for first in range(low, min(low + span, end), _DETAIL_WIDTH):
        inside = slice(*np.searchsorted(vpn, [first, first + _DETAIL_WIDTH]))
        at, of = vpn[inside] - first, number[inside]
        opens = np.flatnonzero(np.diff(at, prepend=-2) + np.abs(np.diff(of, prepend=-2)) != 1)
        runs = [
            (
                int(at[one]),
                int(at[last - 1]) + 1,
                int(orders[inside][one]),
                bool(parts[inside][one]),
                bool(leaf[inside][one]),
            )
            for one, last in zip(opens, np.append(opens[1:], len(at)), strict=True)
        ]
        begin, stop = max(start - first, 0), min(end - first, _DETAIL_WIDTH)
        rows.append(SimpleNamespace(vma=vma, first=first, begin=begin, end=stop, runs=runs))
    return SimpleNamespace(width=_DETAIL_WIDTH, partial=bool(partial.any()), rows=rows)
