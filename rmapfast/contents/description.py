"""What a population holds, and how much of it an unmap could batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

import rmapfast._core as _core
from rmapfast import arch as _arch
from rmapfast import policy as _policy
from rmapfast import pte
from rmapfast.arch import Arch
from rmapfast.contents.mappings import MappedEntries, folio_mappings, mapped_entries
from rmapfast.events import EVENT_NAMES
from rmapfast.flags import FOLIO_KINDS, FolioFlag, VmaFlag, folio_kind
from rmapfast.layout import ranges
from rmapfast.loop import BUDGET, check_population
from rmapfast.policy import Policy
from rmapfast.population import Population
from rmapfast.support import checked_list, checked_progress, format_size, shown
from rmapfast.swap import Swap

# Policies that a description unmaps with by default: without batches; before and after batches of file folios; the
# newest edition; and the proposed batches of swapped-out anonymous folios.
POLICIES = ("per-page", "v6.16", "v7.0", "v7.3", "anon-swap")


class _VmaProperty(NamedTuple):
    """A property that a VMA has if the bits `mask` of its flags are `value`."""

    mask: VmaFlag
    value: int


_VMA_PROPERTIES = {
    "file": _VmaProperty(VmaFlag.ANON, 0),
    "anonymous": _VmaProperty(VmaFlag.ANON, VmaFlag.ANON),
    "shared": _VmaProperty(VmaFlag.SHARED, VmaFlag.SHARED),
    "executable": _VmaProperty(VmaFlag.EXEC, VmaFlag.EXEC),
    "locked": _VmaProperty(VmaFlag.LOCKED, VmaFlag.LOCKED),
    "uffd_wp": _VmaProperty(VmaFlag.UFFD_WP, VmaFlag.UFFD_WP),
    "droppable": _VmaProperty(VmaFlag.DROPPABLE, VmaFlag.DROPPABLE),
}
# Bits in which the entries of a batch may differ.
_BATCH_IGNORES = pte.YOUNG | pte.DIRTY | pte.CONT
# Folios in one call of shrink_folio_list(): as many as reclaim isolates at order 0.
_GROUP = 32


def describe(
    population: Population,
    policies: Iterable[str | Policy] = POLICIES,
    *,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Return how the folios of a population are mapped, and what share of the pages each policy would batch.

    "Mapped pages" counts a page once for each page-table entry that maps it. A PMD leaf counts as all its pages.

    Parameters
    ----------
    population : Population
        Stays as it is.
    policies : iterable of str or Policy
        Each of them unmaps a copy: every mapped folio once, whether or not it was referenced.
    progress : callable, optional
        Called with a line of text some times a second.

    Returns
    -------
    dict
        It serialises to JSON. It holds what :meth:`rmapfast.Population.describe` returns, and:

        ``arch`` : str
            Architecture for which the folios are unmapped.
        ``mapped_pages`` : int
            Mapped pages in all.
        ``vma_flags`` : dict of dict
            By property of a VMA: ``vmas``, their ``pages`` of address space, and their ``mapped`` pages.
        ``vmas_unused``, ``vma_pages`` : int
            VMAs without a mapped page; pages of address space in all VMAs.
        ``orders_by_kind`` : dict of dict of dict
            By kind and order (as text): ``folios``, their ``pages``, and ``mapped`` pages.
        ``mappings`` : dict of dict
            By the way in which a folio lies in a VMA: ``mappings`` (pairs of folio and VMA) and mapped ``pages``.
            ``order_0``, ``whole``, ``partial`` and ``pmd`` exclude each other. ``cut_by_vma``, ``cut_by_table``,
            ``cow`` (pages inside the folio are anonymous copies) and ``holes`` (nothing is mapped at pages inside it)
            are about large folios, and may overlap.
        ``sharing`` : dict of int
            By the number of entries that map a page (as text), those of other processes included: pages.
        ``runs`` : dict of dict
            By powers of two of the length (as text): ``runs`` and ``pages`` of entries that one unmap step could take.
            These are consecutive pages of one folio, in one table and VMA, equal in all bits but young and dirty.
        ``split_first`` : int
            Folios that reclaim splits before it unmaps them. They are split here too.
        ``policies`` : dict of dict
            By policy, mapped pages: ``batched`` (unmapped in steps of several pages), ``whole_folio`` (those of them in
            steps of a whole folio), ``single`` (unmapped one by one), ``pmd`` (unmapped by a PMD), ``left`` (still
            mapped: mlocked, or the unmap failed) and ``put_back`` (in steps that were taken back).
            ``batched + single + pmd + left - put_back`` is ``mapped_pages``. Also ``steps``, and ``batched_share`` and
            ``whole_folio_share`` of all mapped pages, None if there are none.

    Raises
    ------
    ValueError, TypeError
        For a policy that does not exist, or a population whose arrays do not fit together.

    Examples
    --------
    >>> found = describe(Population.synthetic("1MiB", orders=4), ["v6.16", "v7.0"])
    >>> found["policies"]["v6.16"]["batched_share"], found["policies"]["v7.0"]["batched_share"]
    (0.0, 1.0)
    """
    if not isinstance(population, Population):
        raise TypeError(f"population: expected a Population, got {shown(population)}")
    checked_progress(progress)
    chosen = [_policy.get(policy) for policy in checked_list("policies", policies, "policies")]
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
        **_unmapped(population, entries, chosen, arch, progress),
    }


def _vmas(pop: Population, entries: MappedEntries) -> dict[str, Any]:
    """Return the parts of a description that are about VMAs."""
    pages = (pop.vma_end - pop.vma_start).astype(np.int64)
    mapped = np.bincount(entries.vma, minlength=len(pages))
    flags = {}
    for name, (mask, value) in _VMA_PROPERTIES.items():
        has = pop.vma_flags & mask == value
        flags[name] = {"vmas": int(has.sum()), "pages": int(pages[has].sum()), "mapped": int(mapped[has].sum())}
    return {"vma_flags": flags, "vmas_unused": int(np.count_nonzero(mapped == 0)), "vma_pages": int(pages.sum())}


def _orders_by_kind(pop: Population, entries: MappedEntries) -> dict[str, dict[str, dict[str, int]]]:
    """Return the part ``orders_by_kind`` of a description."""
    kind, order = folio_kind(pop.folio_flags), pop.folio_order.astype(np.int64)
    mapped = np.bincount(entries.folio, minlength=pop.nr_folios)
    table: dict[str, dict[str, dict[str, int]]] = {}
    key = kind * (_core.MAX_ORDER + 1) + order
    for number in np.unique(key):
        of_kind, of_order = divmod(int(number), _core.MAX_ORDER + 1)
        rows = key == number
        count = int(rows.sum())
        row = {"folios": count, "pages": count << of_order, "mapped": int(mapped[rows].sum())}
        table.setdefault(FOLIO_KINDS[of_kind], {})[str(of_order)] = row
    return table


def _mappings(pop: Population, entries: MappedEntries) -> dict[str, dict[str, int]]:
    """Return the part ``mappings`` of a description."""
    found = folio_mappings(pop, entries)
    small = int(np.count_nonzero(found.number < 0))
    table = {"order_0": {"mappings": small, "pages": small}}
    masks = {"whole": found.whole, "partial": found.partial, "pmd": found.pmd}
    masks |= {name: getattr(found, name) for name in ("cut_by_vma", "cut_by_table", "cow", "holes")}
    for name, mask in masks.items():
        table[name] = {"mappings": int(np.count_nonzero(mask)), "pages": int(found.pages[mask].sum())}
    return table


def _sharing(pop: Population) -> dict[str, int]:
    """Return the part ``sharing`` of a description."""
    pages = np.int64(1) << pop.folio_order.astype(np.int64)
    own = pop.folio_flags & FolioFlag.PAGE_MAPCOUNTS > 0
    entire = pop.folio_entire_mapcount.astype(np.int64)
    even = (pop.folio_mapcount - entire) // pages + entire
    counts = [(even[~own], pages[~own])]
    if own.any():
        at = ranges(pop.folio_page_base[own], pages[own])
        page = pop.page_mapcount[at].astype(np.int64) + np.repeat(entire[own], pages[own])
        counts.append((page, np.ones(len(page), np.int64)))
    count, weight = (np.concatenate(column) for column in zip(*counts, strict=True))
    found, which = np.unique(count, return_inverse=True)
    total = np.bincount(which, weights=weight, minlength=len(found)).astype(np.int64)
    return {str(times): int(nr) for times, nr in zip(found, total, strict=True) if times > 0}


def _runs(pop: Population, entries: MappedEntries) -> dict[str, dict[str, int]]:
    """Return the part ``runs`` of a description."""
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


def _unmapped(
    population: Population,
    entries: MappedEntries,
    policies: list[Policy],
    arch: Arch,
    progress: Callable[[str], None] | None,
) -> dict[str, Any]:
    """Return the parts ``split_first`` and ``policies`` of a description.

    Each policy unmaps every folio of a copy. It does so order by order, so that the lengths of the steps tell which
    were whole folios.
    """
    wanted = FolioFlag.ANON | FolioFlag.SWAPBACKED | FolioFlag.PARTIALLY_MAPPED
    split = int(np.count_nonzero((population.folio_flags & wanted == wanted) & (population.folio_order > 0)))
    order = population.folio_order.astype(np.int64)
    mapped = len(entries.slot)
    results = {}
    for policy in policies:
        after = population.copy()
        run = _core.Run(after, policy, arch, swap=Swap(), room="reclaim")
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
