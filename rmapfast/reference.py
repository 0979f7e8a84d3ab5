"""The model in plain Python: slow, and meant to be read next to docs/kernel-rules.md.

It implements docs/model.md a second time, independently of the C library, and agrees with it bit for bit in state and
in events. It reads from top to bottom in the order of the algorithm, and its sections have the names of the files in
``csrc/``. Comments such as "S5", "2.2 step 8" or "section 2.6" name the rule of docs/kernel-rules.md that a line
models.

A new policy can be tried without C: hand a Python function in place of a :class:`rmapfast.Policy`. It is asked for
every present entry that an unmap comes to, in place of ``folio_unmap_pte_batch()``. All else is as in ``v7.0``, which
leaves one marker per batch in a uffd-wp VMA and does not reset the batch size (bug 4)::

    def at_most_eight(folio, vma, walk, pte):
        if folio.nr_pages == 1 or (folio.anon and folio.swapbacked) or vma.uffd_wp:
            return 1
        if "HWPOISON" in walk.ttu or pte.unused:
            return 1
        nr = walk.batch(min(8, walk.room()), respect=("WRITE", "SOFT_DIRTY"))
        return nr if nr >= 4 else 1

    arch = rmapfast.arch.get("x86-64")
    call = try_to_unmap_one(population, folio=0, vma=0, policy=at_most_eight, arch=arch, ttu={"BATCH_FLUSH", "SYNC"})
    print(call.ret, call.batch_lengths, call.events["walk_pte_reads"])

The function must return 1 to the number of pages left in the folio. It may run past the page table or the VMA: that is
counted (``oob_*``, ``vma_overrun_*``), not prevented.
"""

from __future__ import annotations

import ctypes
import math
import operator
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, SupportsIndex, TypeAlias

import numpy as np
import numpy.typing as npt

import rmapfast._core as _core
from rmapfast import policy as _policy
from rmapfast import rule as _rule
from rmapfast.arch import Arch
from rmapfast.events import EVENT_NAMES, Call, Events
from rmapfast.flags import FOLIO_KINDS, FolioFlag, folio_kind
from rmapfast.lru import MAX_NR_GENS, LruGen
from rmapfast.policy import Policy
from rmapfast.population import Population
from rmapfast.pte import KINDS
from rmapfast.support import closest
from rmapfast.swap import Swap

TTU_FLAGS = ("BATCH_FLUSH", "SYNC", "IGNORE_MLOCK", "HWPOISON", "SPLIT_HUGE_PMD")
FPB_FLAGS = ("RESPECT_DIRTY", "RESPECT_SOFT_DIRTY", "RESPECT_WRITE", "MERGE_WRITE", "MERGE_YOUNG_DIRTY")
FPB_FLAGS_V6_14 = ("IGNORE_DIRTY", "IGNORE_SOFT_DIRTY")
GUARDS = ("none", "contiguous")

# Index in a row of mm_rss.
MM_FILEPAGES, MM_ANONPAGES, MM_SWAPENTS, MM_SHMEMPAGES = range(4)

# Section 3.
SWAP_CLUSTER_MAX = 32
PAGEVEC_SIZE = 31
DEF_PRIORITY = 12
MAX_RECLAIM_RETRIES = 16
MIN_NR_GENS = 2
MIN_LRU_BATCH, MAX_LRU_BATCH = 64, 4096
# Entries of the largest page table there is: a window of one's own ends somewhere.
_LONGEST = 8192
SHRINK_BATCH = 128
# GUP_PIN_COUNTING_BIAS: so many references of an order-0 folio look like a pin.
PIN_REFERENCES = 1024

MADVISE_ACTIONS = ("MADV_PAGEOUT", "MADV_COLD", "MADV_FREE")
EINVAL, ENOMEM = 22, 12

# What a rule in C sees of the flags: those that rmf_rule.h names.
_RULE_FOLIO_FLAGS = (
    *("swapcache", "dirty", "mlocked", "referenced", "active", "pinned", "partially_mapped", "maybe_shared"),
)
_RULE_PTE_FLAGS = (_core.PTE_WRITE | _core.PTE_SOFT_DIRTY) | (_core.PTE_UFFD_WP | _core.PTE_UNUSED | _core.PTE_PROT)

# A policy as a Python function: how many entries this step unmaps.
BatchRule: TypeAlias = "Callable[[Folio, Vma, Walk, Pte], int]"


@dataclass(frozen=True)
class YoungRule:
    """A reference check in Python: what is tested for young, and where MGLRU looks around a young entry.

    Where a function is left out, the rule of the policy `around` holds, as all other rules do.

    Parameters
    ----------
    batch : callable, optional
        ``(folio, vma, walk) -> nr``: how many entries the check takes at once, from the walk's position on. It is asked
        at every present entry that the walk yields, which is ``walk.pte``. ``walk.batch(max_nr)`` scans from there as
        ``folio_pte_batch()`` does, ``walk.room()`` is the number of entries left in the page table and the VMA.
    tested : callable, optional
        ``(folio, vma, walk, nr) -> int``: how many of these nr entries, from the first on, are tested and cleared. By
        default all are.
    window : callable, optional
        ``(vma, vpn) -> (start, end)``: the virtual pages that ``lru_gen_look_around()`` reads if an entry tested at vpn
        was young, end exclusive. A page table has ``vma.tables.ptrs_per_pte`` entries.
    around : str or Policy
        A preset's name, or a policy.

    Examples
    --------
    >>> import rmapfast as rf
    >>> rule = rf.YoungRule(batch=lambda folio, vma, walk: walk.batch(min(folio.nr_pages, walk.room())))
    >>> rule.around
    'v7.2'
    """

    batch: Callable[[Folio, Vma, Walk], int] | None = None
    tested: Callable[[Folio, Vma, Walk, int], int] | None = None
    window: Callable[[Vma, int], tuple[int, int]] | None = None
    around: str | Policy = "v7.2"

    def __post_init__(self) -> None:
        """Check that there is a function, and a policy."""
        functions = (self.batch, self.tested, self.window)
        for name, function in zip(("batch", "tested", "window"), functions, strict=True):
            if function is not None and not callable(function):
                raise TypeError(f"{name}: expected a function, got {function!r}")
        if functions == (None, None, None):
            raise ValueError("batch, tested, window: expected a function for at least one of them, got none")
        _policy.get(self.around)

    @property
    def name(self) -> str:
        """The names of its functions."""
        given = (one for one in (self.batch, self.tested, self.window) if one is not None)
        return ", ".join(_name_of(one) for one in given)


def _name_of(function: Callable[..., object]) -> str:
    return getattr(function, "__name__", repr(function))


def rule_in_c(text: str) -> BatchRule:
    """Return a rule of a policy as a function that fills ``struct rmf_rule_call`` and calls the C function.

    Parameters
    ----------
    text : str
        As a policy keeps it.

    Returns
    -------
    callable
    """
    function = _rule.function(text)

    def rule(folio: Folio, vma: Vma, walk: Walk, pte: Pte) -> int:
        page = folio.page(pte)

        def folio_pte_batch(_: Any, max_nr: int, flags: int) -> int:
            respect = [name for name in ("DIRTY", "SOFT_DIRTY", "WRITE") if flags & _core.FPB_FLAGS[f"RESPECT_{name}"]]
            return walk.batch(max_nr, respect) if max_nr else 0

        def exclusive_batch(_: Any, nr: int) -> int:
            nr = min(nr, folio.nr_pages - page)
            return walk.exclusive_run(nr) if nr else 0

        def place(_: Any, out: Any) -> None:
            out[0] = _rule.Place(
                vma_before=walk.vpn - vma.start,
                vma_left=vma.end - walk.vpn,
                table_before=walk.slot,
                table_left=walk.tables.ptrs_per_pte - walk.slot,
            )

        left = folio.nr_pages - page
        call = _rule.Call(
            folio_nr_pages=folio.nr_pages,
            folio_kind=("file", "shmem", "lazyfree", "anon").index(folio.kind),
            folio_flags=sum(getattr(_core, f"FOLIO_{n.upper()}") for n in _RULE_FOLIO_FLAGS if getattr(folio, n)),
            folio_mapcount=folio.mapcount,
            page=page,
            pte=pte & _RULE_PTE_FLAGS,
            vma_flags=vma.flags,
            hwpoison="HWPOISON" in walk.ttu,
            folio_left=left,
            room=min(walk.room(), left),
            folio_pte_batch=_rule.Scan(folio_pte_batch),
            exclusive_batch=_rule.Exclusive(exclusive_batch),
            young_dirty=_rule.YoungDirty(lambda _: pte & (_core.PTE_YOUNG | _core.PTE_DIRTY)),
            place=_rule.FindPlace(place),
        )
        nr: int = function(ctypes.byref(call))
        return nr

    rule.__name__ = _rule.short_name(text)
    return rule


def _young_rule_in_c(policy: Policy) -> YoungRule:
    """Return the young rule of a policy in the same way."""
    rule = rule_in_c(policy.young_rule)

    def batch(folio: Folio, vma: Vma, walk: Walk) -> int:
        return rule(folio, vma, walk, walk.pte)

    batch.__name__ = _name_of(rule)
    return YoungRule(batch=batch, around=policy)


def _length_given(got: object, most: int, who: str, what: str) -> int:
    """Return a batch length that a function gave; ``ValueError`` unless it is an int from 1 to `most`."""
    is_int = isinstance(got, int | np.integer) and not isinstance(got, bool)
    if not is_int or not 1 <= got <= most:  # type: ignore[operator]
        raise ValueError(f"{who}() must return an int from 1 to {most}, {what}, got {got!r}")
    return int(got)  # type: ignore[call-overload,no-any-return]


def _names(argument: str, got: Iterable[str] | str, known: Sequence[str]) -> frozenset[str]:
    """Return the flag names as a set; an unknown one raises ``ValueError``."""
    names = frozenset([got] if isinstance(got, str) else got)
    for name in sorted(names - set(known), key=str):
        hint = closest(name, known) if isinstance(name, str) else ""
        raise ValueError(f"{argument}: expected names out of {', '.join(known)}, got {name!r}{hint}")
    return names


def _index(argument: str, got: SupportsIndex, size: int) -> int:
    """Return an index into an array of the population; ``IndexError`` if there is no such element."""
    index = operator.index(got)
    if not 0 <= index < size:
        raise IndexError(f"{argument}: expected an index from 0 to {size - 1}, got {index}")
    return index


# --- run: what is recorded ------------------------------------------------------------------------------------------


@dataclass
class Record:
    """What was done, as it is being counted.

    Parameters
    ----------
    ret : bool or int
        What the kernel function returns; for :func:`reclaim` the base pages freed.
    events : dict of str to int
        Count of every event of :data:`EVENT_NAMES`.
    referenced_events : dict of str to int
        Of each count, the part that ``folio_referenced_one()`` counted.
    batch_lengths : dict of int to int
        How many unmap steps cleared that many entries.
    isolated, looked_around : dict of int to int
        How many isolations took that many base pages, and how many look-arounds tested that many entries.
    trace : list of tuple
        ``("step", vpn, nr)``, ``("step_nonpresent", vpn, nr)``, ``("tlb_deferred", vpn, nr)``,
        ``("tlb_immediate", vpn, nr)``, ``("young", vpn, nr)``, ``("beyond", page, mapcount)``,
        ``("notifier", start, end)``, ``("yield", vpn, 0)``, and of the lists ``("round", request, 0)``,
        ``("pass", priority, 0)``, ``("active", asked, pages)``, ``("inactive", asked, pages looked at)`` with
        ``("isolated", pages, pages freed)`` behind it, ``("age", max_seq, 0)``, in the order in which they happened.
    writable : bool
        Whether a PTE whose flush was deferred was dirty.
    mapped_stat : int
        Change of the mapped-pages statistic, in pages (docs/model.md, section 5).
    mapcount_left, referenced, vm_flags : int
        Of the reference check: mappings not seen, VMAs that referenced the folio, their flags.
    deferred : list of int
        The deferred-split queue: folios in the order in which they were found partially mapped.
    swap_used : int
        Swap slots in use at the end of the run, less those at its start.
    """

    ret: bool | int = False
    events: dict[str, int] = field(default_factory=lambda: dict.fromkeys(EVENT_NAMES, 0))
    referenced_events: dict[str, int] = field(default_factory=lambda: dict.fromkeys(EVENT_NAMES, 0))
    batch_lengths: Counter[int] = field(default_factory=Counter)
    isolated: Counter[int] = field(default_factory=Counter)
    looked_around: Counter[int] = field(default_factory=Counter)
    trace: list[tuple[str, int, int]] = field(default_factory=list)
    writable: bool = False
    mapped_stat: int = 0
    mapcount_left: int = 0
    referenced: int = 0
    vm_flags: int = 0
    deferred: list[int] = field(default_factory=list)
    swap_used: int = 0

    def count(self, event: str, nr: int = 1) -> None:
        """Count an event ``nr`` times."""
        self.events[event] += nr

    def call(self) -> Call:
        """Return the record of a single call in the form in which :mod:`rmapfast.calls` returns one."""
        return Call(
            ret=bool(self.ret),
            events=Events([self.events[name] for name in EVENT_NAMES]),
            batch_lengths=dict(sorted(self.batch_lengths.items())),
            trace=self.trace,
            writable=self.writable,
            mapped_stat=self.mapped_stat,
            mapcount_left=self.mapcount_left,
            referenced=self.referenced,
            vm_flags=self.vm_flags,
        )


# --- pte ------------------------------------------------------------------------------------------------------------


class Pte(int):
    """One page-table entry: the 64-bit word of docs/model.md, section 1, with its bits as attributes."""

    @property
    def present(self) -> bool:
        """Whether the entry is present."""
        return bool(self & _core.PTE_PRESENT)

    @property
    def write(self) -> bool:
        """Whether the entry is writable."""
        return bool(self & _core.PTE_WRITE)

    @property
    def young(self) -> bool:
        """Whether the accessed bit is set."""
        return bool(self & _core.PTE_YOUNG)

    @property
    def dirty(self) -> bool:
        """Whether the dirty bit is set."""
        return bool(self & _core.PTE_DIRTY)

    @property
    def soft_dirty(self) -> bool:
        """Whether the soft-dirty bit is set."""
        return bool(self & _core.PTE_SOFT_DIRTY)

    @property
    def uffd_wp(self) -> bool:
        """Whether userfaultfd write-protects the entry."""
        return bool(self & _core.PTE_UFFD_WP)

    @property
    def unused(self) -> bool:
        """Whether the entry is present and marked unused (s390)."""
        return self.present and bool(self & _core.PTE_UNUSED)

    @property
    def cont(self) -> bool:
        """Whether the entry is present and part of a folded contpte block."""
        return self.present and bool(self & _core.PTE_CONT)

    @property
    def none(self) -> bool:
        """Whether the entry is empty."""
        return self == 0

    @property
    def pfn(self) -> int:
        """PFN of the page, or the offset of a swap entry."""
        return self >> _core.PFN_SHIFT

    @property
    def kind(self) -> str:
        """One of :data:`rmapfast.pte.KINDS`."""
        return "present" if self.present else KINDS[(self >> _core.KIND_SHIFT) & _core.KIND_MASK]

    @property
    def device(self) -> bool:
        """Whether this is a device entry: non-present, yet a mapping of its page."""
        return self.kind in ("device_exclusive", "device_private")

    @property
    def special(self) -> bool:
        """Whether the entry is present and maps no folio, such as the shared zero page."""
        return self.present and bool(self & _core.PTE_SPECIAL)

    def set(self, bits: int) -> Pte:
        """Return the entry with these bits set."""
        return Pte(self | bits)

    def clear(self, bits: int) -> Pte:
        """Return the entry with these bits cleared."""
        return Pte(self & ~bits)

    def mkdirty(self, soft_dirty: bool) -> Pte:
        """Return the entry made dirty; on x86 that also makes it soft-dirty (docs/conformance-format.md, section 1)."""
        return self.set(_core.PTE_DIRTY | (_core.PTE_SOFT_DIRTY if soft_dirty else 0))

    def advance(self, nr: int) -> Pte:
        """Return the entry of the page ``nr`` pages on, with the same flags."""
        return Pte((self + (nr << _core.PFN_SHIFT)) & 0xFFFF_FFFF_FFFF_FFFF)


# The entry of the shared zero page.
ZERO_PAGE = _core.ZERO_PFN << _core.PFN_SHIFT | _core.PTE_PRESENT | _core.PTE_SPECIAL


def _nonpresent(kind: str, value: int, flags: int = 0) -> Pte:
    return Pte(value << _core.PFN_SHIFT | KINDS.index(kind) << _core.KIND_SHIFT | flags)


# --- folio_batch: the scan (section 2.1) ----------------------------------------------------------------------------


def _hint(pte: Pte, slot: int, cont_ptes: int) -> int:
    """``pte_batch_hint()``: the rest of a contpte block is known without reading it."""
    return cont_ptes - slot % cont_ptes if pte.cont else 1


def _ignored_bits(flags: frozenset[str]) -> int:
    """Return the bits that the scan does not compare (section 2.1, normalise); young is never compared."""
    ignored = _core.PTE_YOUNG
    for name, bit in (("DIRTY", _core.PTE_DIRTY), ("SOFT_DIRTY", _core.PTE_SOFT_DIRTY), ("WRITE", _core.PTE_WRITE)):
        if f"RESPECT_{name}" not in flags:
            ignored |= bit
    return ignored


def _scan(
    read: Callable[[int], Pte],
    slot: int,
    first: Pte,
    max_nr: int,
    flags: frozenset[str],
    cont_ptes: int,
    soft_dirty: bool,
    table_end: float = math.inf,
) -> tuple[int, Pte]:
    """Scan on from ``first`` at ``slot``; ``read(slot)`` is ``ptep_get()``. Return nr and the merged first entry.

    Entries from ``table_end`` on lie behind the page table, where there are no contpte blocks.
    """
    ignored = _ignored_bits(flags)
    merged = first
    nr = _hint(first, slot, cont_ptes)
    expected = first.advance(nr).clear(ignored)
    while nr < max_nr:
        pte = read(slot + nr)
        if pte.clear(ignored) != expected:
            break
        if "MERGE_WRITE" in flags and pte.write:
            merged = merged.set(_core.PTE_WRITE)
        if "MERGE_YOUNG_DIRTY" in flags:
            if pte.young:
                merged = merged.set(_core.PTE_YOUNG)
            if pte.dirty:
                merged = merged.mkdirty(soft_dirty)
        step = _hint(pte, slot + nr, cont_ptes) if slot + nr < table_end else 1
        expected = expected.advance(step)
        nr += step
    return min(nr, max_nr), merged  # A hint may overshoot (bug 15).


class _Words:
    """A bare array of entries, read with ``ptep_get()``."""

    def __init__(self, ptes: npt.NDArray[np.uint64] | Sequence[int], cont_ptes: int):
        self.ptes, self.cont_ptes, self.reads = ptes, cont_ptes, 0

    def get(self, slot: int) -> Pte:
        pte = Pte(self.ptes[slot])
        if self.cont_ptes > 1 and pte.cont:
            block = slot - slot % self.cont_ptes
            for word in self.ptes[block : block + self.cont_ptes]:
                pte = pte.set(int(word) & (_core.PTE_YOUNG | _core.PTE_DIRTY))
        return pte

    def read(self, slot: int) -> Pte:
        self.reads += 1
        return self.get(slot)


def _scan_arguments(
    ptes: npt.NDArray[np.uint64] | Sequence[int],
    start: int,
    max_nr: int,
    folio_pfn: int,
    folio_pages: int,
    cont_ptes: int,
) -> tuple[_Words, int, Pte]:
    if max_nr < 1:
        raise ValueError(f"max_nr: expected 1 or more, got {max_nr}")
    if not 1 <= folio_pages <= 1 << _core.MAX_ORDER:
        raise ValueError(f"folio_pages: expected 1 to {1 << _core.MAX_ORDER}, got {folio_pages}")
    if cont_ptes < 1 or cont_ptes & (cont_ptes - 1):
        raise ValueError(f"cont_ptes: expected a power of two, got {cont_ptes}")
    words = _Words(ptes, cont_ptes)
    start = _index("start", start, len(ptes))
    first = words.get(start)
    if not first.present:
        raise ValueError(f"start: expected the slot of a present entry, got slot {start} with kind {first.kind}")
    if not folio_pfn <= first.pfn < folio_pfn + folio_pages:
        raise ValueError(f"start: expected a page of the folio at PFN {folio_pfn:#x}, got PFN {first.pfn:#x}")
    return words, start, first


def folio_pte_batch_flags(
    ptes: npt.NDArray[np.uint64] | Sequence[int],
    start: int,
    *,
    max_nr: int,
    folio_pfn: int,
    folio_pages: int,
    flags: Iterable[str] = (),
    cont_ptes: int = 1,
    mkdirty_soft_dirty: bool = True,
) -> tuple[int, int, int]:
    """Detect a batch as ``folio_pte_batch_flags()`` does (v6.17 to v7.3; docs/kernel-rules.md, section 2.1).

    Parameters
    ----------
    ptes : sequence of int, or ndarray of uint64, shape (n,)
        Entry words; the index is the slot number in the page table.
    start : int
        Slot of the first entry, which must be present and map a page of the folio. It is not counted as read.
    max_nr : int
        Limit in entries, at least 1; the caller clips it to the page table and the VMA.
    folio_pfn, folio_pages : int
        First PFN and number of pages of the folio.
    flags : iterable of str
        Names out of :data:`FPB_FLAGS`.
    cont_ptes : int
        Entries per contpte block, 1 without contpte.
    mkdirty_soft_dirty : bool
        Whether making an entry dirty makes it soft-dirty too (x86).

    Returns
    -------
    nr : int
        Entries in the batch.
    pte : int
        The first entry with the bits that the MERGE flags collect.
    reads : int
        Logical reads.

    Raises
    ------
    IndexError
        If there is no slot `start`.
    ValueError
        For another argument out of range, or an entry that maps no page of the folio.
    """
    names = _names("flags", flags, FPB_FLAGS)
    words, start, first = _scan_arguments(ptes, start, max_nr, folio_pfn, folio_pages, cont_ptes)
    limit = min(max_nr, folio_pfn + folio_pages - first.pfn)  # 2.1 step 1: the folio's end
    nr, merged = _scan(words.read, start, first, limit, names, words.cont_ptes, mkdirty_soft_dirty)
    return nr, int(merged), words.reads


def folio_pte_batch_v6_14(
    ptes: npt.NDArray[np.uint64] | Sequence[int],
    start: int,
    *,
    max_nr: int,
    folio_pfn: int,
    folio_pages: int,
    flags: Iterable[str] = (),
    cont_ptes: int = 1,
) -> tuple[int, bool, bool, bool, int]:
    """Detect a batch as ``folio_pte_batch()`` did in v6.14: not cut at the folio's end in advance.

    Parameters
    ----------
    ptes, start, max_nr, folio_pfn, folio_pages, cont_ptes
        As for :func:`folio_pte_batch_flags`.
    flags : iterable of str
        Names out of :data:`FPB_FLAGS_V6_14`.

    Returns
    -------
    nr : int
        Entries in the batch.
    any_writable, any_young, any_dirty : bool
        Whether an entry of the batch after the first has the bit.
    reads : int
        Logical reads, one past the folio's end included.

    Raises
    ------
    IndexError, ValueError
        As :func:`folio_pte_batch_flags`.
    """
    names = _names("flags", flags, FPB_FLAGS_V6_14)
    words, start, first = _scan_arguments(ptes, start, max_nr, folio_pfn, folio_pages, cont_ptes)
    ignored = _core.PTE_YOUNG | _core.PTE_WRITE
    if "IGNORE_DIRTY" in names:
        ignored |= _core.PTE_DIRTY
    if "IGNORE_SOFT_DIRTY" in names:
        ignored |= _core.PTE_SOFT_DIRTY
    any_writable = any_young = any_dirty = False
    nr = _hint(first, start, words.cont_ptes)
    expected = first.advance(nr).clear(ignored)
    while nr < max_nr:
        pte = words.read(start + nr)
        if pte.clear(ignored) != expected or pte.pfn >= folio_pfn + folio_pages:
            break
        any_writable |= pte.write
        any_young |= pte.young
        any_dirty |= pte.dirty
        step = _hint(pte, start + nr, words.cont_ptes)
        expected = expected.advance(step)
        nr += step
    return min(nr, max_nr), any_writable, any_young, any_dirty, words.reads


# --- population: mms and VMAs ---------------------------------------------------------------------------------------


class Mm:
    """An address space: its counters and the CPUs it is active on."""

    def __init__(self, population: Population, index: int, record: Record):
        self.rss = population.mm_rss.reshape(-1, 4)[index]
        self.record = record
        self.cpumask = int(population.mm_cpumask[index])
        self.outside_memcg = bool(int(population.mm_flags[index]) & _core.MM_OUTSIDE_MEMCG)

    def add_mm_counter(self, counter: int, value: int) -> None:
        """Add to a counter, in pages."""
        self.rss[counter] += value
        self.record.count("rss_updates")


class Vma:
    """A VMA.

    Attributes
    ----------
    start, end, pgoff : int
        Virtual page numbers, end exclusive; page offset of ``start``.
    flags : int
        The ``VMA_*`` bits; ``locked``, ``uffd_wp``, ``uffd_armed``, ``droppable``, ``exec``, ``shared`` and ``anon``
        are these as bool.
    tables : PageTables
        Its page tables.
    mm : Mm
        Its address space.
    """

    FLAGS = ("locked", "uffd_wp", "uffd_armed", "droppable", "exec", "shared", "anon")
    locked: bool
    uffd_wp: bool
    uffd_armed: bool
    droppable: bool
    exec: bool
    shared: bool
    anon: bool

    def __init__(self, kernel: Kernel, index: int, guard: str = "none"):
        population = kernel.population
        self.index = index
        self.start = int(population.vma_start[index])
        self.end = int(population.vma_end[index])
        self.pgoff = int(population.vma_pgoff[index])
        self.flags = int(population.vma_flags[index])
        for name in self.FLAGS:
            setattr(self, name, bool(self.flags & getattr(_core, f"VMA_{name.upper()}")))
        self.mm = Mm(population, int(population.vma_mm[index]), kernel.record)
        self.tables = PageTables(kernel, self, guard)

    def address(self, folio: Folio) -> range | None:
        """Return where the folio would be here, ``vma_address()`` to ``vma_address_end()``; None if not here."""
        if folio.pgoff >= self.pgoff:
            start = self.start + folio.pgoff - self.pgoff
            if start >= self.end:
                return None
        elif folio.pgoff + folio.nr_pages > self.pgoff:
            start = self.start
        else:
            return None
        if not folio.large:
            return range(start, start + 1)
        return range(start, min(self.start + folio.pgoff + folio.nr_pages - self.pgoff, self.end))


# --- walk (section 2.2) ---------------------------------------------------------------------------------------------

# What a step of the walk returns: the next step, or "yield" or "end".
_Step: TypeAlias = "Callable[[], _Step] | str"


class Walk:
    """``struct page_vma_mapped_walk`` and the walk itself, as a state machine.

    Attributes
    ----------
    vpn, end : int
        Where the walk is, and where it ends (exclusive).
    pte : Pte
        The entry that the caller of :meth:`next` read.
    ttu : frozenset of str
        TTU flags of the unmap.
    pmd : bool
        Whether the last yield was a PMD leaf.
    crossed : bool
        ``PVMW_PGTABLE_CROSSED``.
    """

    pte: Pte

    def __init__(
        self,
        kernel: Kernel,
        folio: Folio,
        vma: Vma,
        *,
        sync: bool,
        migration: bool = False,
        ttu: frozenset[str] = frozenset(),
    ):
        self.folio, self.vma, self.tables, self.record, self.ttu = folio, vma, vma.tables, kernel.record, ttu
        self.sync, self.migration = sync, migration
        pages = vma.address(folio)
        if pages is None:
            raise ValueError(f"vma: expected one that folio {folio.index} reaches into, got vma {vma.index}")
        self.vpn, self.end = pages.start, pages.stop
        self.mapped = self.ptl = self.pmd = self.crossed = False
        self._last_read: int | None = None

    @property
    def table(self) -> int:
        """Number of the page table that holds ``vpn``."""
        return self.vpn // self.tables.ptrs_per_pte

    @property
    def slot(self) -> int:
        """Slot of ``vpn`` in its table."""
        return self.vpn % self.tables.ptrs_per_pte

    # What a policy function may ask.

    def room(self) -> int:
        """Return the number of entries left in this page table and this VMA."""
        return min((self.table + 1) * self.tables.ptrs_per_pte, self.vma.end) - self.vpn

    def batch(self, max_nr: int, respect: Iterable[str] = ()) -> int:
        """Scan from the yielded entry for at most ``max_nr`` entries that map the folio's next pages.

        ``respect`` names what must match in a batch besides the rest: ``WRITE``, ``SOFT_DIRTY``, ``DIRTY``.
        """
        names = _names("respect", respect, ("DIRTY", "SOFT_DIRTY", "WRITE"))
        flags = frozenset(f"RESPECT_{name}" for name in names)
        table, slot = self.table, self.slot
        self.record.count("batch_scans")
        limit = min(max_nr, self.folio.nr_pages - self.folio.page(self.pte))
        nr, _ = _scan(
            lambda s: self.tables.ptep_get(table, s, "batch"),
            slot,
            self.pte,
            limit,
            flags,
            self.tables.cont_ptes,
            soft_dirty=False,
            table_end=self.tables.ptrs_per_pte,
        )
        return nr

    def exclusive_run(self, nr: int) -> int:
        """Return how many of the next nr pages agree with the first in PageAnonExclusive."""
        page = self.folio.page(self.pte)
        run = 1
        while run < nr and self.folio.exclusive(page + run) == self.folio.exclusive(page):
            run += 1
        return run

    # What its callers do.

    def next(self) -> bool:
        """``page_vma_mapped_walk()``: go to the next entry that maps the folio; False at the end."""
        self.record.count("walk_calls")
        if self.pmd:  # 2.2 step 1
            self.done()
            return False
        step: _Step = self._next if self.mapped else self._restart
        while not isinstance(step, str):
            step = step()
        if step == "yield":
            self.record.count("walk_yields")
            return True
        self.done()
        return False

    def done(self) -> None:
        """``page_vma_mapped_walk_done()``."""
        self.mapped = self.ptl = self.pmd = False

    def restart(self) -> None:
        """``page_vma_mapped_walk_restart()``: after a PMD yield, walk the same address again."""
        self.done()

    def skip(self, nr: int) -> None:
        """Advance by nr slots, to the last slot of this table at most; the skipped ones are not read."""
        self.vpn += min(nr, self.tables.ptrs_per_pte - 1 - self.slot)

    # The steps.

    def _read(self, locked: bool = True) -> Pte:
        if self._last_read != self.vpn:
            self.record.count("walk_slots")
        self._last_read = self.vpn
        return self.tables.ptep_get(self.table, self.slot, "walk", locked)

    def _lock(self) -> None:
        if not self.ptl:
            self.ptl = True
            self.record.count("ptl_locks")

    def _restart(self) -> _Step:
        """Enter the table of ``vpn``: 2.2 step 3 to 2.2 step 6."""
        tables, folio = self.tables, self.folio
        if self.vpn >= self.end:
            return "end"
        state = tables.state(self.table)
        if state == _core.TABLE_PMD_LEAF:  # 2.2 step 4
            self.record.count("pmd_locks")
            leaf = tables.get(self.table, 0)
            if leaf.pfn >= folio.pfn + folio.nr_pages or leaf.pfn + tables.ptrs_per_pte <= folio.pfn:
                return "end"
            wanted = leaf.kind == "migration" if self.migration else leaf.present or leaf.kind == "device_private"
            if not wanted:
                return "end"
            self.pmd = True
            return "yield"
        if state == _core.TABLE_ABSENT:  # 2.2 step 5
            if self.sync and folio.nr_pages >= tables.ptrs_per_pte and tables.suits_pmd(self.table):
                self.record.count("pmd_locks")
            self.vpn = (self.table + 1) * tables.ptrs_per_pte
            return self._restart
        self.mapped = True  # 2.2 step 6, map_pte()
        if self.sync:
            self._lock()
            return self._check
        pte = self._read(locked=False)
        wanted = not pte.none and not pte.present if self.migration else pte.present or pte.device
        if not wanted:
            return self._next
        self._lock()
        return self._check

    def _check(self) -> _Step:
        """2.2 step 7, ``check_pte()``: any page of the folio will do, not only the one expected here."""
        pte = self._read()
        wanted = pte.kind == "migration" if self.migration else pte.present or pte.device
        if wanted and 0 <= self.folio.page(pte) < self.folio.nr_pages:
            return "yield"
        return self._next

    def _next(self) -> _Step:
        """2.2 step 8: go on to the next entry that is not none."""
        self.vpn += 1
        if self.vpn >= self.end:
            return "end"
        if self.slot == 0:
            self.mapped = self.ptl = False
            self.crossed = True
            self.record.count("table_crossings")
            return self._restart
        if self._read().none:
            return self._next
        self._lock()
        return self._check


# --- slots and contpte (section 2.6) --------------------------------------------------------------------------------


class PageTables:
    """The page tables of a VMA.

    An entry is addressed by its table (``vpn // ptrs_per_pte``) and its slot. A slot of ``ptrs_per_pte`` or more lies
    in the memory behind the table, and one below 0 in the memory in front of it, which holds zeros.
    """

    def __init__(self, kernel: Kernel, vma: Vma, guard: str):
        population, index = kernel.population, vma.index
        self.population, self.arch, self.record, self.vma = population, kernel.arch, kernel.record, vma
        self.tlb = kernel.tlb
        self.ptrs_per_pte, self.cont_ptes = int(population.ptrs_per_pte), kernel.arch.cont_ptes
        self.window = range(int(population.vma_window_start[index]), int(population.vma_window_end[index]))
        self._first_pte = int(population.vma_pte_base[index]) - vma.start
        self._first_table = int(population.vma_table_base[index]) - vma.start // self.ptrs_per_pte
        self._continued = guard == "contiguous"

    # Tables.

    def state(self, table: int) -> int:
        """Return the state of a table, one of the ``TABLE_*`` constants."""
        return int(self.population.table_state[self._first_table + table])

    def set_state(self, table: int, state: int) -> None:
        """Set the state of a table."""
        self.population.table_state[self._first_table + table] = state

    def suits_pmd(self, table: int) -> bool:
        """Whether a PMD leaf could map this table (docs/conformance-format.md, section 2)."""
        first, vma = table * self.ptrs_per_pte, self.vma
        if first < vma.start or first + self.ptrs_per_pte > vma.end:
            return False
        return vma.anon or (vma.start - vma.pgoff) % self.ptrs_per_pte == 0

    # Entries as they lie in memory; nothing is counted.

    def get(self, table: int, slot: int) -> Pte:
        """Return the entry as it lies in memory."""
        if slot < 0:
            return Pte(0)
        if slot >= self.ptrs_per_pte:
            last = self.get(table, self.ptrs_per_pte - 1) if self._continued else Pte(0)
            return last.advance(slot - self.ptrs_per_pte + 1) if last.present else Pte(0)
        vpn = table * self.ptrs_per_pte + slot
        return Pte(self.population.ptes[self._first_pte + vpn]) if vpn in self.window else Pte(0)

    def put(self, table: int, slot: int, pte: Pte) -> None:
        """Write an entry; outside the table and the window that has no effect."""
        vpn = table * self.ptrs_per_pte + slot
        if 0 <= slot < self.ptrs_per_pte and vpn in self.window:
            self.population.ptes[self._first_pte + vpn] = int(pte)

    def _count_outside(self, table: int, slot: int, access: str) -> None:
        if not 0 <= slot < self.ptrs_per_pte:
            self.record.count(f"oob_{access}s")
        elif not self.vma.start <= table * self.ptrs_per_pte + slot < self.vma.end:
            self.record.count(f"vma_overrun_{access}s")

    # contpte blocks.

    def has_cont(self, table: int, slot: int) -> bool:
        """Whether the entry belongs to a folded block. Memory outside a table has no blocks."""
        return self.cont_ptes > 1 and 0 <= slot < self.ptrs_per_pte and self.get(table, slot).cont

    def block(self, table: int, slot: int) -> list[int]:
        """Return the slots of the contpte block around a slot that lie in the window."""
        first = slot - slot % self.cont_ptes
        return [s for s in range(first, first + self.cont_ptes) if table * self.ptrs_per_pte + s in self.window]

    def convert(self, table: int, slot: int, cont: bool) -> None:
        """``contpte_convert()``: fold or unfold a block; young and dirty spread over it."""
        block = self.block(table, slot)
        bits = _core.PTE_CONT if cont else 0
        for s in block:
            bits |= self.get(table, s) & (_core.PTE_YOUNG | _core.PTE_DIRTY)
        for s in block:
            entry = self.get(table, s)
            if entry.present and (cont or entry.cont):  # an array edited by hand may have holes in a block
                self.put(table, s, entry.clear(_core.PTE_CONT).set(bits))
        self.record.count("contpte_folds" if cont else "contpte_unfolds")
        if not self.arch.bbml2_noabort:
            self.tlb.flush_now(self.vma.mm, self.cont_ptes)

    def _fold_blocks(self, table: int, slot: int, pte: Pte, nr: int) -> None:
        """Give CONT to whole aligned blocks of nr entries just written, without a flush."""
        if self.cont_ptes == 1:
            return
        for i in range(nr):
            first = slot + i
            aligned = first % self.cont_ptes == 0 and pte.advance(i).pfn % self.cont_ptes == 0
            if aligned and i + self.cont_ptes <= nr and first < self.ptrs_per_pte:
                for s in range(first, first + self.cont_ptes):
                    self.put(table, s, self.get(table, s).set(_core.PTE_CONT))
                self.record.count("contpte_folds")

    def _try_fold(self, table: int, slot: int, folio: Folio) -> None:
        """Fold the block if its last entry was just set and all of them fit."""
        last = self.cont_ptes - 1
        pte = self.get(table, slot) if slot < self.ptrs_per_pte else Pte(0)
        if not pte.present or slot % self.cont_ptes != last or pte.pfn % self.cont_ptes != last:
            return
        if pte.pfn - last < folio.pfn or pte.pfn >= folio.pfn + folio.nr_pages:
            return
        ignored = _core.PTE_YOUNG | _core.PTE_DIRTY
        for back in range(self.cont_ptes):
            if self.get(table, slot - back).clear(ignored) != pte.advance(-back).clear(ignored):
                return
        self.convert(table, slot, cont=True)

    # Counted accesses.

    def ptep_get(self, table: int, slot: int, reader: str, locked: bool = True) -> Pte:
        """Logical read, counted for ``reader`` (walk, batch, entry, window, aging): a block gathers."""
        pte = self.get(table, slot)
        loads = 1
        if self.has_cont(table, slot):
            self.record.count("contpte_gathers", int(locked))
            young = dirty = False
            for s in self.block(table, slot):
                entry = self.get(table, s)
                loads += 1
                young |= entry.young
                dirty |= entry.dirty
                if young and dirty:
                    break
            pte = pte.set((_core.PTE_YOUNG if young else 0) | (_core.PTE_DIRTY if dirty else 0))
        self.record.count(f"{reader}_pte_reads")
        self.record.count("raw_pte_loads", loads)
        self._count_outside(table, slot, "read")
        return pte

    def get_and_clear_ptes(self, table: int, slot: int, nr: int) -> Pte:
        """Clear nr entries; return the first, with young and dirty of the others added.

        The rule is in docs/conformance-format.md, section 1.
        """
        end = min(slot + nr, self.ptrs_per_pte)
        behind = self.get(table, self.ptrs_per_pte)  # all entries there have its bits
        for edge in (slot, end - 1):
            # Only a block that is covered in part is unfolded.
            first = edge - edge % self.cont_ptes
            if self.has_cont(table, edge) and (first < slot or first + self.cont_ptes > end):
                self.convert(table, edge, cont=False)
        collected = self.get(table, slot)
        for s in range(slot, slot + nr):
            entry = self.get(table, s) if s < end else behind
            if s > slot and entry.dirty:
                collected = collected.mkdirty(self.arch.mkdirty_soft_dirty)
            if s > slot and entry.young:
                collected = collected.set(_core.PTE_YOUNG)
            self.put(table, s, Pte(0))
            self._count_outside(table, s, "write")
        self.record.count("ptes_cleared", nr)
        return collected

    def set_pte(self, table: int, slot: int, pte: Pte) -> None:
        """Write one entry of an unmap step, without folding."""
        self.put(table, slot, pte)
        self.record.count("ptes_set")
        self._count_outside(table, slot, "write")

    def set_ptes(self, table: int, slot: int, pte: Pte, nr: int, folio: Folio) -> None:
        """Restore nr entries: the collected one and its advanced copies (section 2.4, restoration)."""
        for i in range(nr):
            entry = pte.advance(i)
            if self.cont_ptes > 1 and entry.present:
                entry = entry.clear(_core.PTE_CONT)
            self.set_pte(table, slot + i, entry)
        if self.cont_ptes == 1 or not pte.present:
            return
        if nr == 1:
            self._try_fold(table, slot, folio)
        else:
            self._fold_blocks(table, slot, pte, nr)

    def test_and_clear_young_ptes(self, table: int, slot: int, nr: int, events: str = "", flush: bool = True) -> bool:
        """Clear young of nr entries, widened to whole contpte blocks at both ends; flush on arm64, unless MGLRU asks.

        ``events`` is the prefix of the events that count it.
        """
        first, end = slot, slot + nr
        if self.has_cont(table, first):
            first = self.block(table, first)[0]
        if self.has_cont(table, end - 1):
            end = self.block(table, end - 1)[-1] + 1
        young = False
        self.record.count(f"{events}young_calls")
        for s in range(first, end):
            self.record.count(f"{events}young_tests")
            self.record.count("raw_pte_loads")
            entry = self.get(table, s)
            if entry.present and entry.young:
                young = True
                self.record.count("young_clears", int(not events))
                self.put(table, s, entry.clear(_core.PTE_YOUNG))
        if flush and young and self.arch.tlb == "arm64":
            self.record.count("young_flushes")
            self.tlb.tlbi(self.vma.mm, end - first)
        return young

    # PMD leaves (docs/model.md, section 5). The leaf's word is in the table's first slot.

    def clear_pmd(self, table: int) -> Pte:
        """Clear the leaf; the table is absent then, and none of its slots holds anything."""
        leaf = self.get(table, 0)
        for slot in range(self.ptrs_per_pte):
            self.put(table, slot, Pte(0))
        self.set_state(table, _core.TABLE_ABSENT)
        self.record.count("pmds_cleared")
        return leaf

    def split_pmd(self, table: int) -> None:
        """Put a page table in place of the leaf: its word, advanced; contpte blocks fold as in ``set_ptes()``."""
        leaf = self.get(table, 0)
        for slot in range(self.ptrs_per_pte):
            self.put(table, slot, leaf.advance(slot))
        self.set_state(table, _core.TABLE_PTE)
        self._fold_blocks(table, 0, leaf, self.ptrs_per_pte)


# --- tlb (section 2.7) ----------------------------------------------------------------------------------------------


def range_ops(arch: Arch, nr: int) -> tuple[int, int]:
    """Return the TLBIs of an arm64 range flush of nr pages: for ranges, and others (docs/model.md, section 4)."""
    if not arch.range_tlbi:
        return 0, 1 if nr >= arch.max_dvm_ops else nr
    if nr > 1 << 21:
        return 0, 1
    ranged = 0
    for scale in (3, 2, 1, 0):
        shift = 5 * scale + 1
        while num := min(nr >> shift, 32):
            nr -= num << shift
            ranged += 1
    return ranged, nr  # nr is 0, or 1: an odd page


class Tlb:
    """The TLB work of one reclaim, with the batch of deferred flushes (``tlb_ubc``)."""

    def __init__(self, arch: Arch, record: Record, policy: Policy):
        self.arch, self.record, self.policy = arch, record, policy
        self.flush_required = self.writable = False
        self.cpumask = 0
        self.broadcast = False  # arm64: whether a TLBI that nothing waited for yet was sent to all CPUs

    @staticmethod
    def _cpus(cpumask: int) -> tuple[bool, int]:
        """Return whether CPU 0, which reclaims, is in the mask, and how many others are."""
        return bool(cpumask & 1), (cpumask & ~1).bit_count()

    def is_local(self, mm: Mm) -> bool:
        """Whether arm64 invalidates the mm's entries on this CPU alone, because the mm ran nowhere else."""
        return self.policy.local_tlbi and self._cpus(mm.cpumask) == (True, 0)

    def tlbi(self, mm: Mm, nr: int) -> None:
        """Issue the TLBIs of arm64 for a range of nr pages, without a barrier."""
        ranged, single = range_ops(self.arch, nr)
        if self.is_local(mm):
            self.record.count("tlbi_local", ranged + single)
        else:
            self.record.count("tlbi_ops", ranged + single)
            self.record.count("tlbi_range_ops", ranged)

    def flush_now(self, mm: Mm, nr: int) -> None:
        """Flush a range of nr pages on the CPUs of the mm, and wait for it."""
        if self.arch.tlb == "arm64":
            self.record.count("dsb_ishst_ops")
            self.tlbi(mm, nr)
            self.record.count("dsb_nsh" if self.is_local(mm) else "dsb_ops")
            return
        own, others = self._cpus(mm.cpumask)
        if own:
            self.record.count("tlbi_ops", 1 if nr > self.arch.flush_ceiling else nr)
        self._flush_others(others)

    def should_defer_flush(self, mm: Mm, ttu: frozenset[str]) -> bool:
        """Whether the flush of a cleared entry may wait."""
        if "BATCH_FLUSH" not in ttu or self.arch.tlb == "none":
            return False
        return self.arch.tlb != "x86" or self._cpus(mm.cpumask)[1] > 0

    def set_tlb_ubc_flush_pending(self, mm: Mm, pte: Pte, vpn: int, nr: int) -> None:
        """Defer the flush of nr entries whose collected entry is ``pte``."""
        self.record.count("tlb_deferred")
        self.record.trace.append(("tlb_deferred", vpn, nr))
        self.flush_required = True
        if self.arch.tlb == "arm64":
            # The TLBIs are issued now, the barrier that waits for them comes later.
            self.record.count("dsb_ishst_ops")
            self.tlbi(mm, nr)
            self.broadcast |= not self.is_local(mm)
        else:
            self.cpumask |= mm.cpumask
        if pte.dirty:
            self.writable = self.record.writable = True

    def flush_tlb_range(self, mm: Mm, vpn: int, nr: int) -> None:
        """Flush nr pages now, under the page-table lock."""
        self.record.count("tlb_immediate")
        self.record.trace.append(("tlb_immediate", vpn, nr))
        self.flush_now(mm, nr)

    def _flush_others(self, others: int) -> None:
        """Flush on that many other CPUs: an IPI each, or one INVLPGB for all and the TLBSYNC that waits for it."""
        if self.arch.invlpgb and others:
            self.record.count("tlbi_ops")
            self.record.count("dsb_ops")
        else:
            self.record.count("ipis", others)

    def try_to_unmap_flush(self) -> None:
        """Do what was deferred."""
        if not self.flush_required:
            return
        self.record.count("tlb_flushes")
        if self.arch.tlb == "arm64":
            self.record.count("dsb_ops" if self.broadcast else "dsb_nsh")
        else:
            own, others = self._cpus(self.cpumask)
            if not (self.arch.invlpgb and others):  # INVLPGB flushes the CPU that issues it along with the others
                self.record.count("tlbi_ops", int(own))
            self._flush_others(others)
        self.flush_required = self.writable = self.broadcast = False
        self.cpumask = 0


# --- swap -----------------------------------------------------------------------------------------------------------


class SwapSpace:
    """The swap device as a run uses it (docs/model.md, section 6).

    Attributes
    ----------
    configured : bool
        Whether there is a device at all.
    free : int
        Free slots.
    used : int
        Slots in use less those at the start.
    """

    def __init__(self, device: Swap | None, cluster: int, single: str):
        self._single_in_empty = single == "empty"
        self._last_single: int | None = None  # the cluster of the last single page
        self.configured = device is not None
        self.free = 0 if device is None else device.free_slots
        self.fragmented = device is not None and device.fragmented
        self.used = 0
        self._next = 0
        self._cluster = cluster
        self._map: list[bool] | None = None
        if device is not None and device.free is not None:
            self._map = [bool(slot) for slot in device.free]
            nr = -(-len(self._map) // cluster)
            # A cluster with the header, or one that the end of the device cuts, is never empty: it serves order 0.
            self._never_empty = {0, *([nr - 1] if len(self._map) % cluster else [])}
            self._serves: list[int | None] = [None if self._empty(number) else 0 for number in range(nr)]

    def _slots(self, number: int) -> range:
        """Return the offsets of a cluster."""
        assert self._map is not None
        return range(number * self._cluster, min((number + 1) * self._cluster, len(self._map)))

    def _empty(self, number: int) -> bool:
        """Whether no slot of a cluster is in use and it may serve any order."""
        assert self._map is not None
        return number not in self._never_empty and all(self._map[slot] for slot in self._slots(number))

    def alloc(self, nr: int) -> int | None:
        """Take nr slots in a row, a power of two; return the offset of the first, or None."""
        if self._map is None:
            if nr > self.free or (nr > 1 and self.fragmented):
                return None
            offset = self._next
            self._next += nr
        else:
            found = self._find(nr)
            if found is None:
                return None
            offset, number = found
            if self._serves[number] is None:
                self._serves[number] = nr.bit_length() - 1
            if nr == 1:
                self._last_single = number
            for slot in range(offset, offset + nr):
                self._map[slot] = False
        self.free -= nr
        self.used += nr
        return offset

    def _find(self, nr: int) -> tuple[int, int] | None:
        """Return the offset of the first of nr slots, and their cluster."""
        order = nr.bit_length() - 1
        if nr > self._cluster:
            return None
        numbers = range(len(self._serves))
        choices = [[number for number in numbers if self._serves[number] == wanted] for wanted in (order, None)]
        if order == 0:
            if self._single_in_empty:
                choices.reverse()
                choices.insert(0, [] if self._last_single is None else [self._last_single])
            choices.append(list(numbers))
        elif nr == self._cluster:
            del choices[0]
        for choice in choices:
            for number in choice:
                for offset in self._slots(number)[::nr]:
                    if self._is_free(offset, nr):
                        return offset, number
        return None

    def _is_free(self, offset: int, nr: int) -> bool:
        assert self._map is not None
        return offset + nr <= len(self._map) and all(self._map[offset : offset + nr])

    def give_back(self, offset: int, nr: int) -> None:
        """Give nr slots back. An offset that the map does not know, or that is free, changes nothing."""
        if self._map is None:
            self.free += nr
            self.used -= nr
            return
        for slot in range(offset, offset + nr):
            if 0 < slot < len(self._map) and not self._map[slot]:
                self._map[slot] = True
                self.free += 1
                self.used -= 1
                number = slot // self._cluster
                if self._empty(number):
                    self._serves[number] = None


# --- folio ----------------------------------------------------------------------------------------------------------

# The arrays with an element for each folio.
FOLIO_ARRAYS = (
    *("folio_pfn", "folio_index", "folio_order", "folio_flags", "folio_refcount", "folio_mapcount"),
    *("folio_entire_mapcount", "folio_nr_pages_mapped", "folio_swap", "folio_page_base"),
)

# The counter of each kind of folio. Swapbacked file folios are shmem.
_COUNTERS = {"file": MM_FILEPAGES, "shmem": MM_SHMEMPAGES, "anon": MM_ANONPAGES, "lazyfree": MM_ANONPAGES}
# The kind by (anon, swapbacked), worked out once: folio_kind() is made for arrays, and slow for one folio.
_KIND = {
    (anon, swapbacked): FOLIO_KINDS[int(folio_kind(anon * FolioFlag.ANON | swapbacked * FolioFlag.SWAPBACKED))]
    for anon in (False, True)
    for swapbacked in (False, True)
}


class Folio:
    """A folio, read from the population; :meth:`settle` writes it back.

    Attributes
    ----------
    index : int
        Its number in the population.
    pfn, pgoff, order, nr_pages : int
        First PFN, page offset of the first page, order, pages.
    gen, accesses : int
        Of MGLRU: 1 + index of its generation, or 0 on none of its lists; count of accesses after the first.
    anon, swapbacked, swapcache, dirty, mlocked, pinned : bool
        Folio flags; the other names of the ``FOLIO_*`` constants work likewise, in lower case.
    refcount, mapcount, entire_mapcount, nr_pages_mapped : int
        As in docs/model.md, section 2.
    page_mapcounts, page_flags : list of int
        Per page, whether or not the population stores them.
    """

    FLAGS = (
        *("anon", "swapbacked", "swapcache", "dirty", "mlocked", "referenced", "active", "pinned", "unevictable"),
        *("young", "partially_mapped", "locked", "freed", "maybe_shared", "workingset"),
    )
    anon: bool
    swapbacked: bool
    swapcache: bool
    dirty: bool
    mlocked: bool
    referenced: bool
    active: bool
    pinned: bool
    unevictable: bool
    young: bool
    partially_mapped: bool
    locked: bool
    freed: bool
    maybe_shared: bool
    workingset: bool

    COUNTS = ("refcount", "mapcount", "entire_mapcount", "nr_pages_mapped", "swap")
    refcount: int
    mapcount: int
    entire_mapcount: int
    nr_pages_mapped: int
    swap: int

    def __init__(self, population: Population, index: int):
        self.population, self.index = population, index
        # Of its turn: whether it got its swap slots while nothing mapped it, and whether a later flush is its own.
        self.slots_unused = self.waits_for_flush = False
        # Whether deferred_split_folio() was called in the unmap at hand.
        self.split_asked = False
        self.reload()

    def reload(self) -> None:
        """Read the folio again from the arrays; after a split it is the first piece."""
        population, index = self.population, self.index
        self.pfn = int(population.folio_pfn[index])
        self.pgoff = int(population.folio_index[index])
        self.order = int(population.folio_order[index])
        self.nr_pages = 1 << self.order
        for name in self.COUNTS:
            setattr(self, name, int(getattr(population, f"folio_{name}")[index]))
        flags = int(population.folio_flags[index])
        for name in self.FLAGS:
            setattr(self, name, bool(flags & getattr(_core, f"FOLIO_{name.upper()}")))
        # MGLRU: 1 + the generation's index (0: on no list), and the count of further accesses.
        self.gen = flags >> _core.FOLIO_GEN_SHIFT & _core.FOLIO_GEN_MASK
        self.accesses = flags >> _core.FOLIO_REFS_SHIFT & _core.FOLIO_REFS_MASK
        base = int(population.folio_page_base[index])
        self._pages = slice(base, base + self.nr_pages)
        if flags & _core.FOLIO_PAGE_MAPCOUNTS:
            self.page_mapcounts = [int(value) for value in population.page_mapcount[self._pages]]
        else:
            self.page_mapcounts = [(self.mapcount - self.entire_mapcount) // self.nr_pages] * self.nr_pages
        if flags & _core.FOLIO_PAGE_FLAGS:
            self.page_flags = [int(value) for value in population.page_flags[self._pages]]
        else:
            self.page_flags = [_core.PAGE_EXCLUSIVE if flags & _core.FOLIO_EXCLUSIVE else 0] * self.nr_pages
        self._stored = flags & (_core.FOLIO_PAGE_MAPCOUNTS | _core.FOLIO_PAGE_FLAGS | _core.FOLIO_EXCLUSIVE)
        # Pages past the end whose mapcount a stale nr dropped (bug 4), from 0.
        self.beyond: Counter[int] = Counter()

    @property
    def large(self) -> bool:
        """Whether the folio has more than one page."""
        return self.nr_pages > 1

    @property
    def cached_pages(self) -> int:
        """References that the page cache or the swap cache holds: one for each page, or none."""
        return self.nr_pages if self.swapcache or not self.anon else 0

    @property
    def poisoned(self) -> bool:
        """Whether any page of it is poisoned."""
        return any(flags & _core.PAGE_HWPOISON for flags in self.page_flags)

    @property
    def zero_pages(self) -> int:
        """How many of its pages hold only zero bytes."""
        return sum(bool(flags & _core.PAGE_ZERO) for flags in self.page_flags)

    @property
    def maybe_dma_pinned(self) -> bool:
        """``folio_maybe_dma_pinned()``: at order 0 many plain references look like a pin."""
        return self.pinned or (not self.large and self.refcount >= PIN_REFERENCES)

    @property
    def evictable(self) -> bool:
        """Whether it may be on a list that reclaim scans."""
        return not (self.unevictable or self.mlocked)

    @property
    def kind(self) -> str:
        """One of :data:`rmapfast.flags.FOLIO_KINDS`."""
        return _KIND[self.anon, self.swapbacked]

    @property
    def lazyfree(self) -> bool:
        """Whether MADV_FREE was called on it."""
        return self.kind == "lazyfree"

    @property
    def mm_counter(self) -> int:
        """The counter that its mappings are in."""
        return _COUNTERS[self.kind]

    def page(self, pte: Pte) -> int:
        """Return the index of the page that the entry maps."""
        return pte.pfn - self.pfn

    def exclusive(self, page: int) -> bool:
        """``PageAnonExclusive()``."""
        # a stale nr may ask for pages past the folio's end
        return self.anon and page < self.nr_pages and bool(self.page_flags[page] & _core.PAGE_EXCLUSIVE)

    def store_flags(self) -> None:
        """Write counts and flags back, and leave the pages as they are stored."""
        population, index = self.population, self.index
        for name in self.COUNTS:
            getattr(population, f"folio_{name}")[index] = getattr(self, name)
        flags = self._stored | self.gen << _core.FOLIO_GEN_SHIFT | self.accesses << _core.FOLIO_REFS_SHIFT
        for name in self.FLAGS:
            if getattr(self, name):
                flags |= getattr(_core, f"FOLIO_{name.upper()}")
        population.folio_flags[index] = flags

    def settle(self) -> None:
        """Write everything back; a folio whose pages are equal stores nothing per page (docs/model.md, section 2)."""
        self._stored = 0
        mapcounts = self.page_mapcounts
        if len(set(mapcounts)) > 1 or sum(mapcounts) != self.mapcount - self.entire_mapcount:
            self._stored |= _core.FOLIO_PAGE_MAPCOUNTS
            self.population.page_mapcount[self._pages] = mapcounts
        marks = set(self.page_flags)
        if marks == {_core.PAGE_EXCLUSIVE}:
            self._stored |= _core.FOLIO_EXCLUSIVE
        elif marks != {0}:
            self._stored |= _core.FOLIO_PAGE_FLAGS
            self.population.page_flags[self._pages] = self.page_flags
        self.store_flags()

    def mlock(self, record: Record) -> None:
        """``mlock_vma_folio()``."""
        self.mlocked = True
        record.count("mlock_calls")

    def mark_dirty(self, record: Record) -> None:
        """``folio_mark_dirty()``."""
        self.dirty = True
        record.count("folios_dirtied")

    def put_refs(self, nr: int, record: Record) -> None:
        """``folio_put_refs()``."""
        self.refcount -= nr
        record.count("ref_puts")

    def remove_rmap_ptes(
        self, page: int, nr: int, vma: Vma, record: Record, page_mapcount: bool, munlock: bool = True
    ) -> None:
        """``folio_remove_rmap_ptes()`` (section 2.4, end): drop the mappings of nr pages."""
        if page + nr > self.nr_pages:
            record.count("warns")  # the range sanity check
        self.mapcount -= nr
        unmapped = 0
        for number in range(page, page + nr):
            if number < self.nr_pages:
                self.page_mapcounts[number] -= 1
                left = self.page_mapcounts[number]
            else:
                self.beyond[number] -= 1
                left = self.beyond[number]
                record.trace.append(("beyond", number, left))
            if left <= 0:
                unmapped += 1
        record.count("rmap_remove_calls")
        if not self.large:
            record.count("page_mapcount_atomics")
        else:
            record.count("folio_mapcount_atomics")
            if page_mapcount:
                record.count("page_mapcount_atomics", nr)
                record.count("folio_mapcount_atomics", 1 if unmapped else 0)
        self._removed(unmapped if self.entire_mapcount <= 0 else 0, vma, record, page_mapcount, munlock)

    def remove_rmap_pmd(self, vma: Vma, record: Record, page_mapcount: bool, munlock: bool = True) -> None:
        """``folio_remove_rmap_pmd()``: drop one mapping of the whole folio."""
        self.mapcount -= 1
        record.count("rmap_remove_calls")
        record.count("folio_mapcount_atomics")
        self.remove_entire_mapping(vma, record, page_mapcount, munlock)

    def remove_entire_mapping(self, vma: Vma, record: Record, page_mapcount: bool, munlock: bool) -> None:
        """Account for one PMD mapping less; while there is another one all pages are mapped."""
        self.entire_mapcount -= 1
        still_mapped = self.nr_pages
        if self.entire_mapcount <= 0:
            still_mapped = sum(count > 0 for count in self.page_mapcounts)
        self._removed(self.nr_pages_mapped - still_mapped, vma, record, page_mapcount, munlock)

    def _removed(self, nr: int, vma: Vma, record: Record, page_mapcount: bool, munlock: bool) -> None:
        """Do what both removals do at their end; ``nr`` pages are no longer mapped."""
        if self.large:
            self.nr_pages_mapped -= nr
        # What the kernel takes for the pages that the removal unmapped, and whether it takes some for mapped still
        # and others not (bug 6).
        gone, in_part = nr, nr != 0 and self.nr_pages_mapped != 0
        if self.large and not page_mapcount:
            # It knows the folio's mapcount only: all of its pages count as mapped until no mapping is left.
            gone = 0 if self.mapcount else self.nr_pages
            in_part = self.entire_mapcount <= 0 and self.mapcount in range(1, self.nr_pages)
        record.mapped_stat -= gone
        if self.large and in_part and self.anon and not self.partially_mapped:
            record.count("deferred_split_calls", int(not self.split_asked))
            self.split_asked = True
            if self.order >= 2 and not self.swapcache:
                self.partially_mapped = True
                record.count("deferred_splits")
                record.deferred.append(self.index)
        if vma.locked and munlock:  # munlock_vma_folio()
            self.mlocked = False
            record.count("munlock_calls")


# --- the kernel at work: rmap, unmap, referenced, shrink, reclaim ---------------------------------------------------


def batches(policy: Policy, kind: str) -> bool:
    """Whether a policy unmaps a kind of folio in batches. Shmem folios are file folios to it."""
    return {"file": policy.file, "shmem": policy.file, "lazyfree": policy.lazyfree, "anon": policy.anon_swap}[kind]


class Kernel:
    """The kernel's functions on a population, under a policy on an architecture, and the record of what they did.

    Parameters
    ----------
    population : Population
        The arrays of docs/model.md, section 2; changed in place.
    policy : Policy, str, callable or YoungRule
        A batching policy, a function in place of its batch rule (see the module's docstring), or functions in place of
        its reference check.
    arch : Arch
        The architecture; its ``ptrs_per_pte`` must be the population's.
    swap : Swap, optional
        The swap device; none without.

    Raises
    ------
    ValueError
        If the table size of the architecture is not the population's, or no preset has the policy's name.
    """

    def __init__(
        self, population: Population, policy: Policy | str | BatchRule | YoungRule, arch: Arch, swap: Swap | None = None
    ):
        if int(population.ptrs_per_pte) != arch.ptrs_per_pte:
            raise ValueError(
                f"arch: expected ptrs_per_pte {population.ptrs_per_pte} as the population has, got {arch.ptrs_per_pte};"
                f" use arch.replace(ptrs_per_pte={population.ptrs_per_pte})"
            )
        self.population, self.arch = population, arch
        self.rule: BatchRule | None = None
        self.young_rule: YoungRule | None = None
        if isinstance(policy, Policy | str):
            self.policy = _policy.get(policy)
            self.rule = rule_in_c(self.policy.rule) if self.policy.rule else None
            self.young_rule = _young_rule_in_c(self.policy) if self.policy.young_rule else None
        elif isinstance(policy, YoungRule):
            self.policy, self.young_rule = _policy.get(policy.around), policy
        else:
            self.policy, self.rule = _policy.get(_policy.AROUND_A_FUNCTION), policy
        self.swap = SwapSpace(swap, arch.ptrs_per_pte, self.policy.swap_single)
        self.record = Record()
        self.tlb = Tlb(arch, self.record, self.policy)
        self.inactive: list[int] = []
        self.active: list[int] = []
        # MGLRU's lists, where they are used in place of the two.
        self.generations: Generations | None = None
        # The folios of the lists, and the folio of each PFN: what the walk of madvise asks.
        self.listed: set[int] = set()
        self.folio_of_pfn: dict[int, int] = {}
        # The deferred-split shrinker's rest of passes before, and khugepaged/max_ptes_none.
        self.shrinker_carry = 0
        self.max_ptes_none = int(population.ptrs_per_pte) - 1

    @property
    def looks_for_underused(self) -> bool:
        """Whether a THP can be underused. As kernels boot, max_ptes_none is all but one of its pages: then none is."""
        return self.max_ptes_none < int(self.population.ptrs_per_pte) - 1

    def folio(self, index: SupportsIndex) -> Folio:
        """Return a folio by its number."""
        return Folio(self.population, _index("folio", index, len(self.population.folio_pfn)))

    def vma(self, index: SupportsIndex, guard: str = "none") -> Vma:
        """Return a VMA by its number."""
        return Vma(self, _index("vma", index, len(self.population.vma_start)), guard)

    # --- rmap (section 2.3) ---

    def rmap(self, folio: Folio) -> Iterator[Vma]:
        """Yield the VMAs that may map the folio, in the order of the walk."""
        first, end = (int(self.population.rmap_start[folio.index + i]) for i in (0, 1))
        for pair in range(first, end):
            vma = self.vma(self.population.rmap_vma[pair])
            if vma.address(folio) is not None:
                yield vma

    def try_to_unmap(self, folio: Folio, ttu: frozenset[str]) -> None:
        """Unmap the folio everywhere."""
        for vma in self.rmap(folio):
            ret = self.try_to_unmap_one(folio, vma, ttu)
            folio.settle()
            if not ret or folio.mapcount <= 0:
                break

    def folio_referenced(self, folio: Folio) -> tuple[int, int]:
        """Return how many VMAs referenced the folio, and their flags."""
        record = self.record
        record.mapcount_left, record.referenced, record.vm_flags = folio.mapcount, 0, 0
        if folio.mapcount > 0:
            for vma in self.rmap(folio):
                if vma.mm.outside_memcg:
                    continue
                if not self.folio_referenced_one(folio, vma):
                    break
        folio.store_flags()
        return record.referenced, record.vm_flags

    # --- unmap (section 2.4) ---

    def unmap_batch(self, folio: Folio, vma: Vma, walk: Walk, pte: Pte) -> int:
        """``folio_unmap_pte_batch()``: how many entries this step unmaps."""
        policy = self.policy
        if self.rule is not None:
            return self._ask_rule(self.rule, folio, vma, walk, pte)
        if not batches(policy, folio.kind) or not folio.large or "HWPOISON" in walk.ttu or pte.unused:
            return 1
        if vma.uffd_wp and policy.uffd_wp == "per-page":
            return 1
        if policy.all_or_nothing and folio.page(pte) != 0:
            return 1
        max_nr = walk.room() if policy.clip else folio.nr_pages
        respect = []
        if policy.respect_write:
            respect.append("WRITE")
        if policy.respect_soft_dirty:
            respect.append("SOFT_DIRTY")
        nr = walk.batch(max_nr, respect)
        if policy.all_or_nothing and nr != folio.nr_pages:
            return 1
        return walk.exclusive_run(nr) if folio.kind == "anon" else nr

    def _ask_rule(self, rule: BatchRule, folio: Folio, vma: Vma, walk: Walk, pte: Pte) -> int:
        left = folio.nr_pages - folio.page(pte)
        what = f"the pages left in folio {folio.index} at vpn {walk.vpn}"
        return _length_given(rule(folio, vma, walk, pte), left, f"policy: {_name_of(rule)}", what)

    def try_to_unmap_one(self, folio: Folio, vma: Vma, ttu: frozenset[str]) -> bool:
        """Unmap the folio from one VMA; the caller settles the folio."""
        policy, record, tables, tlb = self.policy, self.record, vma.tables, self.tlb
        walk = Walk(self, folio, vma, sync="SYNC" in ttu, ttu=ttu)
        folio.split_asked = False
        record.count("unmap_calls")
        record.count("notifier_ranges")  # S0: once per VMA
        record.trace.append(("notifier", walk.vpn, walk.end))
        ret = True
        ptes = 0
        nr = 1
        while walk.next():
            if policy.nr_reset:  # S1; without it a non-present entry reuses the last nr (CVE-2026-63950)
                nr = 1
            if vma.locked and "IGNORE_MLOCK" not in ttu:  # S2
                ret = False
                if policy.mlock_at_once:
                    if walk.pmd or not folio.large:
                        folio.mlock(record)
                    break
                ptes += 1
                if not walk.pmd and ptes != folio.nr_pages:
                    continue
                if walk.pmd or not walk.crossed:
                    folio.mlock(record)
                break
            if walk.pmd:  # S3
                splits = policy.riscv_lazyfree_split and self.arch.tlb == "riscv"
                if folio.lazyfree and not splits:
                    ret = self.discard_pmd(folio, vma, walk)
                    break
                if "SPLIT_HUGE_PMD" not in walk.ttu:
                    record.count("warns")
                    ret = False
                    break
                self.split_pmd(folio, vma, walk)
                walk.ttu -= {"SPLIT_HUGE_PMD"}
                walk.restart()
                continue
            vpn, table, slot = walk.vpn, walk.table, walk.slot
            pte = walk.pte = tables.ptep_get(table, slot, "entry")  # S4
            page = folio.page(pte)
            if pte.present:  # S5
                nr = self.unmap_batch(folio, vma, walk, pte)
                cleared = nr
                pte = tables.get_and_clear_ptes(table, slot, nr)
                if tlb.should_defer_flush(vma.mm, ttu):
                    tlb.set_tlb_ubc_flush_pending(vma.mm, pte, vpn, nr)
                else:
                    tlb.flush_tlb_range(vma.mm, vpn, nr)
                if pte.dirty:
                    folio.mark_dirty(record)
            else:
                cleared = 1
                tables.get_and_clear_ptes(table, slot, 1)
            record.count("batches")
            record.count("batched_pages", cleared)
            record.batch_lengths[cleared] += 1
            record.trace.append(("step" if pte.present else "step_nonpresent", vpn, nr))
            if vma.uffd_wp and not vma.anon and pte.uffd_wp:  # S6
                for i in range(nr if policy.uffd_wp == "whole-batch" else 1):
                    tables.set_pte(table, slot + i, Pte(_core.PTE_MARKER_WORD))
                    record.count("markers_set")
            if not self.unmap_entries(folio, vma, walk, pte, page, nr):  # S8
                ret = False
                break
            folio.remove_rmap_ptes(page, nr, vma, record, self.arch.page_mapcount)  # S9
            folio.put_refs(nr, record)
            if nr > 1 and policy.walk_done == "batched":
                break
            if nr == folio.nr_pages and policy.walk_done == "whole":
                break
            if policy.advance != "rescan":
                walk.skip(nr - 1)
        walk.done()
        record.ret = ret
        return ret

    def unmap_entries(self, folio: Folio, vma: Vma, walk: Walk, pte: Pte, page: int, nr: int) -> bool:
        """S8: account for nr cleared entries, of which ``pte`` was collected; False to abort."""
        policy, record, mm, tables = self.policy, self.record, vma.mm, vma.tables
        table, slot = walk.table, walk.slot
        marked = folio.page_flags[0 if policy.hwpoison_page0 else page] & _core.PAGE_HWPOISON
        if "HWPOISON" in walk.ttu and marked:  # 8a
            mm.add_mm_counter(folio.mm_counter, -1)
            tables.set_pte(table, slot, _nonpresent("hwpoison", folio.pfn + page))
            return True
        if pte.unused and not vma.uffd_wp and not vma.uffd_armed:  # 8b
            mm.add_mm_counter(folio.mm_counter, -1)
            return True
        if not folio.anon:  # 8d
            mm.add_mm_counter(folio.mm_counter, -nr if policy.file or policy.rule else -1)
            return True
        if folio.swapbacked != folio.swapcache:  # 8c
            record.count("warns")
            if policy.mismatch_restores:
                tables.set_ptes(table, slot, pte, nr, folio)
            return False
        if folio.lazyfree:
            if not self.may_discard(folio, vma):
                tables.set_ptes(table, slot, pte, nr, folio)
                return False
            mm.add_mm_counter(MM_ANONPAGES, -nr)
            return True
        record.count("swap_dups")
        pages = range(page, min(page + nr, folio.nr_pages))  # a stale nr may pass the folio's end
        if any(folio.page_flags[number] & _core.PAGE_SWAP_DUP_FAIL for number in pages):
            tables.set_ptes(table, slot, pte, nr, folio)
            return False
        exclusive = folio.exclusive(page)
        if exclusive and folio.pinned:  # folio_try_share_anon_rmap_pte() fails
            record.count("swap_puts")
            tables.set_ptes(table, slot, pte, nr, folio)
            return False
        for number in pages:
            folio.page_flags[number] &= ~_core.PAGE_EXCLUSIVE
        mm.add_mm_counter(MM_ANONPAGES, -nr)
        mm.add_mm_counter(MM_SWAPENTS, nr)
        flags = pte & (_core.PTE_SOFT_DIRTY | _core.PTE_UFFD_WP) | (_core.PTE_EXCLUSIVE if exclusive else 0)
        for i in range(nr):
            tables.set_pte(table, slot + i, _nonpresent("swap", folio.swap + page + i, flags))
        return True

    def may_discard(self, folio: Folio, vma: Vma) -> bool:
        """8c, lazyfree: whether nobody wrote to the folio or holds it; if not, it may become swapbacked again."""
        dirty = folio.dirty and not vma.droppable
        held = folio.refcount != 1 + folio.mapcount
        if dirty or (held and self.policy.failure_swapbacked and not vma.droppable):
            folio.swapbacked = True
        return not (dirty or held)

    def discard_pmd(self, folio: Folio, vma: Vma, walk: Walk) -> bool:
        """``unmap_huge_pmd_locked()``: drop a lazyfree folio that a PMD leaf maps (docs/model.md, section 5)."""
        table, tables = walk.table, vma.tables
        before = [tables.get(table, slot) for slot in range(tables.ptrs_per_pte)]
        leaf = tables.clear_pmd(table)
        self.tlb.flush_tlb_range(vma.mm, table * tables.ptrs_per_pte, tables.ptrs_per_pte)
        if leaf.dirty:
            folio.mark_dirty(self.record)
        if not self.may_discard(folio, vma):
            for slot, pte in enumerate(before):
                tables.put(table, slot, pte)
            tables.set_state(table, _core.TABLE_PMD_LEAF)
            return False
        vma.mm.add_mm_counter(MM_ANONPAGES, -tables.ptrs_per_pte)
        folio.remove_rmap_pmd(vma, self.record, self.arch.page_mapcount)
        folio.put_refs(1, self.record)
        return True

    def split_pmd(self, folio: Folio, vma: Vma, walk: Walk) -> None:
        """``split_huge_pmd_locked()``: an anonymous leaf becomes a table, a file leaf is dropped."""
        table, tables = walk.table, vma.tables
        self.record.count("pmd_splits")
        self.tlb.flush_tlb_range(vma.mm, table * tables.ptrs_per_pte, tables.ptrs_per_pte)
        if folio.anon:
            first = folio.page(tables.get(table, 0))
            tables.split_pmd(table)
            mapped = range(max(first, 0), min(first + tables.ptrs_per_pte, folio.nr_pages))
            folio.mapcount += len(mapped) - 1
            folio.refcount += len(mapped) - 1
            for page in mapped:
                folio.page_mapcounts[page] += 1
            folio.remove_entire_mapping(vma, self.record, self.arch.page_mapcount, munlock=False)
            return
        if tables.clear_pmd(table).dirty:
            folio.mark_dirty(self.record)
        vma.mm.add_mm_counter(folio.mm_counter, -tables.ptrs_per_pte)
        folio.remove_rmap_pmd(vma, self.record, self.arch.page_mapcount)
        folio.put_refs(1, self.record)

    # --- referenced (section 2.5) ---

    def folio_referenced_one(self, folio: Folio, vma: Vma) -> bool:
        """Look for young entries of the folio in one VMA; ``record.mapcount_left`` and so on carry over."""
        before = dict(self.record.events)
        ret = self._folio_referenced_one(folio, vma)
        for name, count in self.record.events.items():
            self.record.referenced_events[name] += count - before[name]
        return ret

    def _folio_referenced_one(self, folio: Folio, vma: Vma) -> bool:
        record, tables = self.record, vma.tables
        batched = self.policy.young == "batched"
        by_batches = self.generations.batched if self.generations else batched
        record.count("referenced_calls")
        walk = Walk(self, folio, vma, sync=False)
        referenced = False
        ptes = 0
        while walk.next():
            if vma.locked:
                if not batched and (not folio.large or walk.pmd):
                    return self._mlocked(folio, walk)
                ptes += 1
                record.mapcount_left -= 1
                if not batched or (not walk.pmd and ptes != folio.nr_pages):
                    continue
                if walk.crossed and not walk.pmd:
                    break
                return self._mlocked(folio, walk)
            nr = 1
            if walk.pmd:
                referenced |= self._clear_young_pmd(vma, walk)
            else:
                nr = self.young_batch(folio, vma, walk, by_batches)
                if tables.get(walk.table, walk.slot).present:  # bug 12: a device entry has no young bit
                    referenced |= self._clear_young(folio, vma, walk, nr)
                walk.skip(nr - 1)
            ptes += nr
            record.mapcount_left -= nr
            if by_batches and ptes == folio.nr_pages:
                break
        if vma.locked and not batched and ptes == folio.nr_pages and not walk.crossed:
            return self._mlocked(folio, walk)  # up to v6.14 decided after the whole walk
        walk.done()
        if folio.young:  # folio_test_clear_young()
            folio.young = False
            referenced = True
        if referenced:
            record.referenced += 1
            record.vm_flags |= vma.flags & ~_core.VMA_LOCKED
        record.ret = record.mapcount_left != 0
        return record.ret

    def _mlocked(self, folio: Folio, walk: Walk) -> bool:
        walk.done()
        folio.mlock(self.record)
        self.record.vm_flags |= _core.VMA_LOCKED
        self.record.ret = False
        return False

    def young_batch(self, folio: Folio, vma: Vma, walk: Walk, by_batches: bool) -> int:
        """How many entries this step of the reference check takes."""
        rule = self.young_rule.batch if self.young_rule else None
        if not rule and not (by_batches and folio.large):
            return 1
        pte = walk.pte = vma.tables.ptep_get(walk.table, walk.slot, "entry")
        if not pte.present:
            return 1
        if not rule:
            return walk.batch(walk.room())
        most = min(walk.room(), folio.nr_pages - folio.page(pte))
        what = f"the entries left of page table, VMA and folio {folio.index} at vpn {walk.vpn}"
        return _length_given(rule(folio, vma, walk), most, f"batch: {_name_of(rule)}", what)

    def _clear_young(self, folio: Folio, vma: Vma, walk: Walk, nr: int) -> bool:
        if self.young_rule and (rule := self.young_rule.tested):
            what = f"the entries of the batch of folio {folio.index} at vpn {walk.vpn}"
            nr = _length_given(rule(folio, vma, walk, nr), nr, f"tested: {_name_of(rule)}", what)
        if self.generations:
            return self.generations.look_around(folio, vma, walk, nr)
        self.record.trace.append(("young", walk.vpn, nr))
        return vma.tables.test_and_clear_young_ptes(walk.table, walk.slot, nr)

    def _clear_young_pmd(self, vma: Vma, walk: Walk) -> bool:
        record, tables = self.record, vma.tables
        record.count("young_calls")
        record.count("young_tests")
        record.trace.append(("young", walk.table * tables.ptrs_per_pte, tables.ptrs_per_pte))
        leaf = tables.get(walk.table, 0)
        if not leaf.present:  # bug 12: a device entry has no young bit
            return False
        if leaf.young:
            record.count("young_clears")
            tables.put(walk.table, 0, leaf.clear(_core.PTE_YOUNG))
            if self.arch.tlb == "arm64":
                record.count("young_flushes")
                self.tlb.tlbi(vma.mm, 1)
        return leaf.young

    # --- split (section 2.9) ---

    def split(self, folio: Folio, isolated: bool) -> list[int] | None:
        """Split a large folio into pages; return the numbers of the pieces after the first, in the edition's order.

        ``isolated``: the folio is in the hands of ``shrink_folio_list()``. Each piece gets a reference then, and none
        is freed or put on a list here. The folio must be read again. None if the split was refused.
        """
        record = self.record
        dirty_file = folio.dirty and not folio.anon and not folio.swapbacked
        expected = int(isolated) + folio.mapcount + folio.cached_pages
        if folio.pinned or folio.refcount != expected or dirty_file:
            record.count("split_failures")
            return None
        replaced: dict[tuple[int, int], Pte] = {}
        if folio.anon:
            self.try_to_migrate(folio, replaced)
        elif folio.mapcount > 0:
            ttu = {"BATCH_FLUSH", "SYNC", "IGNORE_MLOCK"}
            if folio.nr_pages >= self.arch.ptrs_per_pte:
                ttu.add("SPLIT_HUGE_PMD")
            self.try_to_unmap(folio, frozenset(ttu))
        self.tlb.try_to_unmap_flush()
        record.count("folio_splits")
        if folio.index in record.deferred:
            record.deferred.remove(folio.index)
        pieces = self.make_pieces(folio, isolated)
        if folio.anon:
            for piece in pieces:
                self.remove_migration_ptes(piece, folio, replaced)
        for piece in pieces:
            piece.nr_pages_mapped = int(piece.mapcount > 0)
            piece.maybe_shared = folio.maybe_shared and piece.mapcount > 1
            if not isolated and piece.refcount == 0:
                piece.freed = True
                record.count("pages_came_back")
            piece.settle()
        rest = pieces[1:] if self.policy.split_order == "ascending" else pieces[:0:-1]
        if not isolated:
            self._list_pieces(pieces[0], rest)
        return [piece.index for piece in rest]

    def try_to_migrate(self, folio: Folio, replaced: dict[tuple[int, int], Pte]) -> None:
        """Put a migration entry in place of each mapping; ``replaced`` gets the entries by VMA and page number."""
        record, tlb = self.record, self.tlb
        for vma in self.rmap(folio):
            tables = vma.tables
            folio.split_asked = False
            record.count("notifier_ranges")
            walk = Walk(self, folio, vma, sync=True)
            while walk.next():
                if walk.pmd:
                    leaf = tables.get(walk.table, 0)
                    if not leaf.present:  # a device entry stays
                        walk.done()
                        break
                    self._migrate_pmd(folio, vma, walk.table, replaced)
                    walk.restart()
                    continue
                table, slot = walk.table, walk.slot
                pte = tables.ptep_get(table, slot, "entry")
                page = folio.page(pte)
                if not pte.present:  # a device entry stays
                    continue
                pte = tables.get_and_clear_ptes(table, slot, 1)
                if tlb.should_defer_flush(vma.mm, frozenset({"BATCH_FLUSH"})):
                    tlb.set_tlb_ubc_flush_pending(vma.mm, pte, walk.vpn, 1)
                else:
                    tlb.flush_tlb_range(vma.mm, walk.vpn, 1)
                if pte.dirty:
                    folio.mark_dirty(record)
                if folio.page_flags[page] & _core.PAGE_HWPOISON:
                    tables.put(table, slot, _nonpresent("hwpoison", folio.pfn + page))
                    vma.mm.add_mm_counter(folio.mm_counter, -1)
                else:
                    kept = pte & (_core.PTE_SOFT_DIRTY | _core.PTE_UFFD_WP)
                    tables.put(table, slot, _nonpresent("migration", folio.pfn + page, kept))
                    replaced[vma.index, walk.vpn] = pte.clear(_core.PTE_CONT | _core.PTE_SPECIAL)
                    record.count("migration_entries")
                folio.remove_rmap_ptes(page, 1, vma, record, self.arch.page_mapcount, munlock=False)
                folio.put_refs(1, record)
            folio.settle()
            if folio.mapcount <= 0:
                break

    def _migrate_pmd(self, folio: Folio, vma: Vma, table: int, replaced: dict[tuple[int, int], Pte]) -> None:
        """Split a PMD leaf so that its table is full of migration entries."""
        record, tables = self.record, vma.tables
        first = table * tables.ptrs_per_pte
        record.count("pmd_splits")
        self.tlb.flush_tlb_range(vma.mm, first, tables.ptrs_per_pte)
        leaf = tables.get(table, 0)
        if leaf.dirty:
            folio.mark_dirty(record)
        for slot in range(tables.ptrs_per_pte):
            pte = leaf.advance(slot)
            kept = pte & (_core.PTE_SOFT_DIRTY | _core.PTE_UFFD_WP)
            replaced[vma.index, first + slot] = pte.clear(_core.PTE_CONT | _core.PTE_SPECIAL)
            tables.put(table, slot, _nonpresent("migration", pte.pfn, kept))
        tables.set_state(table, _core.TABLE_PTE)
        record.count("migration_entries", tables.ptrs_per_pte)
        folio.remove_rmap_pmd(vma, record, self.arch.page_mapcount, munlock=False)
        folio.put_refs(1, record)

    def make_pieces(self, folio: Folio, isolated: bool) -> list[Folio]:
        """Make each page a folio; the first keeps the number, the others get the next ones, in page order.

        Mappings that a split replaced are not counted yet; those that no walk found are.
        """
        folio.settle()
        population, index, more = self.population, folio.index, folio.nr_pages - 1
        first_new = len(population.folio_pfn)
        for name in FOLIO_ARRAYS:
            array = getattr(population, name)
            setattr(population, name, np.concatenate([array, np.repeat(array[index : index + 1], more)]))
        self._extend_rmap(folio)
        pieces = []
        for page, number in enumerate((index, *range(first_new, first_new + more))):
            population.folio_pfn[number] = folio.pfn + page
            population.folio_index[number] = folio.pgoff + page
            population.folio_order[number] = 0
            population.folio_page_base[number] += np.uint64(page)
            piece = Folio(population, number)
            piece.page_flags = [folio.page_flags[page]]
            piece.mapcount = folio.page_mapcounts[page] + folio.entire_mapcount
            piece.page_mapcounts = [piece.mapcount]
            piece.entire_mapcount = 0
            piece.swap = folio.swap + page if folio.swapcache else 0
            piece.refcount = piece.mapcount + piece.cached_pages + int(isolated)
            piece.partially_mapped = False
            piece.settle()
            pieces.append(piece)
            self.folio_of_pfn[piece.pfn] = number
        return pieces

    def _extend_rmap(self, folio: Folio) -> None:
        """Append the rmap rows of the pieces after the first: the VMAs of the folio's row that reach the page."""
        population = self.population
        first, end = (int(population.rmap_start[folio.index + i]) for i in (0, 1))
        vmas = [int(vma) for vma in population.rmap_vma[first:end]]
        rows = []
        for pgoff in range(folio.pgoff + 1, folio.pgoff + folio.nr_pages):
            rows.append([vma for vma in vmas if self._reaches(vma, pgoff)])
        starts = int(population.rmap_start[-1]) + np.cumsum([len(row) for row in rows], dtype=np.uint64)
        population.rmap_start = np.concatenate([population.rmap_start, starts.astype(np.uint64)])
        pairs = np.array([vma for row in rows for vma in row], np.uint32)
        population.rmap_vma = np.concatenate([population.rmap_vma, pairs])

    def _reaches(self, vma: int, pgoff: int) -> bool:
        population = self.population
        first = int(population.vma_pgoff[vma])
        return first <= pgoff < first + int(population.vma_end[vma]) - int(population.vma_start[vma])

    def remove_migration_ptes(self, piece: Folio, folio: Folio, replaced: dict[tuple[int, int], Pte]) -> None:
        """Make the entries of a piece present again, or map the zero page in its place if it holds only zeroes."""
        record = self.record
        record.count("remap_walks")
        flags = piece.page_flags[0]
        zeroed = False
        for vma in self.rmap(piece):
            walk = Walk(self, piece, vma, sync=True, migration=True)
            while walk.next():
                entry = vma.tables.ptep_get(walk.table, walk.slot, "entry")
                kept = entry & (_core.PTE_SOFT_DIRTY | _core.PTE_UFFD_WP)
                # An entry that was a migration entry before the split comes back too.
                foreign = Pte(piece.pfn << _core.PFN_SHIFT | _core.PTE_PRESENT | kept)
                pte = replaced.get((vma.index, walk.vpn), foreign)
                if flags & _core.PAGE_ZERO and not (flags & _core.PAGE_HWPOISON or folio.mlocked or vma.locked):
                    kept = pte & (_core.PTE_SOFT_DIRTY | _core.PTE_UFFD_WP)
                    vma.tables.put(walk.table, walk.slot, Pte(ZERO_PAGE | kept))
                    vma.mm.add_mm_counter(MM_ANONPAGES, -1)
                    record.count("zero_pages_mapped")
                    zeroed = True
                    continue
                vma.tables.put(walk.table, walk.slot, pte)
                record.count("ptes_remapped")
                piece.mapcount += 1
                piece.refcount += 1
                piece.page_mapcounts[0] += 1
                record.mapped_stat += int(piece.mapcount == 1)
        if zeroed and piece.mapcount == 0:
            record.count("zero_pages_freed")

    def _list_pieces(self, head: Folio, rest: list[Folio]) -> None:
        """Put the pieces of a folio that nobody isolated behind its place in its list."""
        if head.index not in self.listed:
            return
        lru = next(lru for lru in self._lists() if head.index in lru)
        at = lru.index(head.index)
        lru[at : at + 1] = [piece.index for piece in (head, *rest) if not piece.freed]
        if self.generations:
            for piece in (head, *rest):
                if piece.freed:
                    self.generations.forget(piece)
        self.listed.discard(head.index)
        self.listed.update(piece.index for piece in (head, *rest) if not piece.freed)

    # --- shrink (section 2.8) ---

    def folio_check_references(self, folio: Folio) -> str:
        """Return activate, keep or reclaim."""
        referenced, vm_flags = self.folio_referenced(folio)
        if self.generations and self.generations.edition != "v6.12":
            return self.generations.check_references(folio, referenced, vm_flags)
        was_referenced, folio.referenced = folio.referenced, False
        if vm_flags & _core.VMA_LOCKED:
            return "activate"
        if referenced:
            folio.referenced = True
            if was_referenced or referenced > 1 or (vm_flags & _core.VMA_EXEC and not folio.swapbacked):
                return "activate"
            return "keep"
        return "reclaim"

    def alloc_swap(self, folio: Folio) -> bool:
        """``folio_alloc_swap()``: slots for all pages, or none."""
        offset = self.swap.alloc(folio.nr_pages)
        if offset is None:
            return False
        folio.swap = offset
        self.record.count("swap_allocs")
        return True

    def split_in_turn(self, folio: Folio, turns: deque[int]) -> bool:
        """Split a folio in the middle of its turn, which goes on as that of its first page; the others are next."""
        nr_pages = folio.nr_pages
        pieces = self.split(folio, isolated=True)
        if pieces is None:
            return False
        turns.extendleft(reversed(pieces))
        self.record.count("pages_scanned", 1 - nr_pages)
        folio.reload()
        return True

    def add_to_swap(self, folio: Folio, turns: deque[int]) -> str:
        """Give an anonymous folio swap slots, as a whole or, after a split, its first page; or return its outcome."""
        if folio.maybe_dma_pinned:
            return "kept"
        if folio.large and folio.refcount != 1 + folio.mapcount:
            return "activated"  # somebody else holds it: it could be neither split nor unmapped to the end
        if folio.large and folio.partially_mapped and not self.split_in_turn(folio, turns):
            return "activated"
        if not self.alloc_swap(folio):
            if not folio.large or not self.may_split_for_swap(folio) or not self.split_in_turn(folio, turns):
                return "activated"
            self.record.count("swpout_fallbacks")
            if not self.alloc_swap(folio):
                return "activated"
        folio.swapcache = folio.dirty = True
        folio.refcount += folio.nr_pages
        folio.slots_unused = folio.mapcount == 0
        return ""

    def may_split_for_swap(self, folio: Folio) -> bool:
        """Whether the policy splits a folio for which there is no run of slots."""
        wanted = {"always": 0, "any-slot": 1, "all-slots": folio.nr_pages}[self.policy.swap_split]
        return self.swap.free >= wanted

    def unmap_poisoned(self, folio: Folio) -> None:
        """``unmap_poisoned_folio()``: the entries of an order-0 folio become hwpoison entries, where it matters."""
        ttu = {"IGNORE_MLOCK", "SYNC", "HWPOISON"}
        if folio.swapcache or not (folio.anon or folio.swapbacked or folio.dirty):
            ttu.remove("HWPOISON")
        if folio.mapcount > 0:
            self.try_to_unmap(folio, frozenset(ttu))

    def shrink_folio(self, folio: Folio, ignore_references: bool, turns: deque[int]) -> str:
        """Reclaim one folio if it can be; return the outcome: freed, activated, kept or dropped."""
        if folio.locked or (folio.large and folio.poisoned):
            return "kept"
        if folio.poisoned:
            self.unmap_poisoned(folio)
            return "dropped"
        self.record.count("pages_scanned", folio.nr_pages)
        if not folio.evictable:
            return "activated"
        if self.generations and self.generations.edition == "v6.12" and folio.mapcount > 0 and folio.referenced:
            return "kept"  # a look-around of an earlier folio of the group marked it
        references = "reclaim" if ignore_references else self.folio_check_references(folio)
        if references in ("activate", "keep"):
            return "activated" if references == "activate" else "kept"
        if folio.kind == "anon" and not folio.swapcache:
            outcome = self.add_to_swap(folio, turns)
            if outcome:
                return outcome
        if folio.mapcount > 0:
            ttu = {"BATCH_FLUSH"}
            if folio.large:
                ttu.add("SYNC")
            if folio.nr_pages >= self.arch.ptrs_per_pte:
                ttu.add("SPLIT_HUGE_PMD")
            self.try_to_unmap(folio, frozenset(ttu))
            if folio.mapcount > 0:
                self.record.count("unmap_failures")
                return "activated"
        if folio.maybe_dma_pinned:
            return "activated"
        if folio.dirty and not folio.lazyfree:
            if not folio.swapbacked:
                return "activated"
            # A proposal collects 31 dirty folios for one flush. Only that flush is late here, and what it lets free.
            folio.waits_for_flush = self.policy.dirty_flush == "batch"
            if not folio.waits_for_flush:
                self.try_to_unmap_flush_dirty()
            return self.write_out(folio, turns)
        return self.remove_mapping(folio)

    def try_to_unmap_flush_dirty(self) -> None:
        """Flush what was deferred, if an entry of it was dirty."""
        if self.tlb.writable:
            self.tlb.try_to_unmap_flush()

    def write_out(self, folio: Folio, turns: deque[int]) -> str:
        """``pageout()`` and the rest of the turn of a dirty folio; return the outcome."""
        record = self.record
        if folio.refcount != 1 + folio.nr_pages:
            return "kept"
        if folio.slots_unused:
            self.give_back_swap(folio)
            return "kept"
        if not folio.anon and not self.alloc_swap_for_shmem(folio, turns):
            return "activated"
        folio.dirty = False
        record.count("folios_written")
        if folio.zero_pages < folio.nr_pages:  # a folio of zeroes needs no write
            record.count("pages_written", folio.nr_pages)
            record.count("folios_swapped_whole", int(folio.large))
        return self.remove_mapping(folio)

    def give_back_swap(self, folio: Folio) -> None:
        """``folio_free_swap()``: take the folio out of the swap cache, and give its slots back."""
        self.swap.give_back(folio.swap, folio.nr_pages)
        self.record.count("swap_frees", folio.nr_pages)
        folio.swapcache = False
        folio.refcount -= folio.nr_pages

    def alloc_swap_for_shmem(self, folio: Folio, turns: deque[int]) -> bool:
        """Give an unmapped shmem folio swap slots, as a whole or, after a split, its first page."""
        if not self.swap.configured:
            return False
        if self.alloc_swap(folio):
            return True
        if not folio.large or not self.split_in_turn(folio, turns):
            return False
        self.record.count("swpout_fallbacks", int(self.policy.shmem_fallback))
        return self.alloc_swap(folio)

    def remove_mapping(self, folio: Folio) -> str:
        """Free an unmapped, clean folio if nobody else holds it."""
        if folio.lazyfree:
            return "freed" if folio.refcount == 1 else "kept"
        return "freed" if folio.refcount == 1 + folio.nr_pages and not folio.dirty else "kept"

    def shrink_folio_list(self, group: list[int], ignore_references: bool) -> list[tuple[int, str]]:
        """Reclaim what can be of the isolated folios; return each, and the pieces of those split, with its outcome."""
        record = self.record
        record.count("shrink_calls")
        outcomes: list[tuple[int, str]] = []
        turns = deque(group)
        free_batch = dirty_batch = dirty_freed = 0
        while turns or dirty_batch:
            freed = 0
            if dirty_batch == PAGEVEC_SIZE or not turns:
                self.try_to_unmap_flush_dirty()
                freed, dirty_batch, dirty_freed = dirty_freed, 0, 0
            else:
                folio = self.folio(turns.popleft())
                record.count("folios_scanned")
                outcome = self.shrink_folio(folio, ignore_references, turns)
                outcomes.append((folio.index, outcome))
                self._end_turn(folio, outcome)
                if folio.waits_for_flush:
                    dirty_batch += 1
                    dirty_freed += int(outcome == "freed")
                else:
                    freed = int(outcome == "freed")
            free_batch += freed
            if free_batch >= PAGEVEC_SIZE:
                self.tlb.try_to_unmap_flush()
                free_batch -= PAGEVEC_SIZE
        self.tlb.try_to_unmap_flush()
        return outcomes

    def _end_turn(self, folio: Folio, outcome: str) -> None:
        """Count the outcome of a turn, and write the folio back."""
        record = self.record
        if outcome == "activated":
            folio.active = True
            record.count("pages_activated", folio.nr_pages)
        elif outcome == "freed":
            folio.freed = True
            folio.swapcache = folio.active = folio.referenced = False
            folio.refcount = 0
            record.count("pages_freed", folio.nr_pages)
            record.count("pages_came_back", folio.nr_pages)
            record.count("page_cache_folios", 0 if folio.anon else 1)
            record.count("page_cache_slots", 0 if folio.anon else 1 << folio.order % 6)
            if folio.index in record.deferred:
                record.deferred.remove(folio.index)
        if outcome != "dropped":
            record.count(f"folios_{outcome}")
        folio.store_flags()

    # --- madvise (section 2.9) ---

    def madvise(self, action: str, mm: int, start: int, end: int, owner: bool) -> int:
        """Call madvise on the pages from start to end (exclusive) of an mm; return 0, -EINVAL or -ENOMEM.

        ``owner``: the caller owns the files, or may write them.
        """
        self.record.count("madvise_calls")
        population = self.population
        if start == end:
            return 0
        own = [index for index in range(len(population.vma_start)) if int(population.vma_mm[index]) == mm]
        at = start
        gap = False
        for index in sorted(own, key=lambda index: int(population.vma_start[index])):
            vma = self.vma(index)
            if vma.end <= start or vma.start >= end:
                continue
            gap |= vma.start > at
            at = vma.end
            if vma.locked or (action == "MADV_FREE" and not vma.anon):
                return -EINVAL
            may = action != "MADV_PAGEOUT" or owner or vma.anon
            if may or not vma.shared:
                self.madvise_vma(action, vma, max(start, vma.start), min(end, vma.end), anon_only=not may)
        return -ENOMEM if gap or at < end else 0

    def madvise_vma(self, action: str, vma: Vma, start: int, end: int, anon_only: bool) -> None:
        """Walk the part of a range that lies in one VMA, table by table, and page out what each table yields."""
        ptrs_per_pte = vma.tables.ptrs_per_pte
        for table in range(start // ptrs_per_pte, (end - 1) // ptrs_per_pte + 1):
            first, last = max(start, table * ptrs_per_pte), min(end, (table + 1) * ptrs_per_pte)
            group: list[int] = []
            self.madvise_table(MadviseStep(action, vma, anon_only, group), table, first, last)
            if group:
                taken = set(group)
                for lru in (self.inactive, self.active):
                    lru[:] = [index for index in lru if index not in taken]
                self.put_back(self.isolate_and_shrink(group, ignore_references=True))

    def madvise_table(self, step: MadviseStep, table: int, first: int, end: int) -> None:
        """Walk the part of a range that lies in one page table."""
        state = step.vma.tables.state(table)
        if state == _core.TABLE_ABSENT:
            return
        if state == _core.TABLE_PMD_LEAF:
            self.record.count("madvise_entries")
            if not self.madvise_leaf(step, table, end - first == step.vma.tables.ptrs_per_pte):
                return
        vpn = first
        while vpn < end:
            vpn += self.madvise_entries(step, table, vpn, end)

    def madvise_leaf(self, step: MadviseStep, table: int, whole: bool) -> bool:
        """Handle a PMD leaf; return whether a page table is in its place now whose entries come next."""
        leaf = step.vma.tables.get(table, 0)
        folio = self._madvised(leaf)
        if folio is None or self.is_shared(folio) or (step.anon_only and not folio.anon):
            return False
        if not whole:
            if not folio.large:  # a leaf that a split did not find may map a single page
                return False
            return not folio.locked and self.split(folio, isolated=False) is not None and folio.anon
        if step.action == "MADV_FREE":
            if folio.mapcount == 1:
                self.madvise_free(folio, step.vma, table, 0, 1, mappings=1)
        elif folio.index in self.listed:
            self.madvise_cold_or_pageout(step, folio, table, 0, 1)
        return False

    def madvise_entries(self, step: MadviseStep, table: int, vpn: int, end: int) -> int:
        """Handle the entry at vpn and those that belong to it; return how many, or 0 to look at it again."""
        tables = step.vma.tables
        slot = vpn % tables.ptrs_per_pte
        pte = tables.get(table, slot)
        folio = self._madvised(pte)
        if folio is None:
            self.record.count("madvise_entries")
            if step.action == "MADV_FREE":
                self._madvise_free_nonpresent(step.vma, table, slot, pte)
            return 1
        nr = 1
        if folio.large:
            nr, _ = _scan(
                lambda s: tables.get(table, s).clear(_core.PTE_CONT),
                slot,
                pte.clear(_core.PTE_CONT),
                min(end - vpn, folio.nr_pages - folio.page(pte)),
                frozenset(),
                1,
                soft_dirty=False,
            )
        self.record.count("madvise_entries", nr)
        unwanted = step.anon_only and not folio.anon
        if nr < folio.nr_pages:
            if self.is_shared(folio) or unwanted or folio.locked or self.split(folio, isolated=False) is None:
                return nr
            return 0
        if step.action == "MADV_FREE":
            self.madvise_free(folio, step.vma, table, slot, nr, mappings=nr)
        elif folio.index in self.listed and folio.mapcount == folio.nr_pages and not unwanted:
            self.madvise_cold_or_pageout(step, folio, table, slot, nr)
        return nr

    def _madvised(self, pte: Pte) -> Folio | None:
        """Return the folio that an entry maps, None if it maps none."""
        if not pte.present or pte.special or pte.pfn not in self.folio_of_pfn:
            return None
        return self.folio(self.folio_of_pfn[pte.pfn])

    def is_shared(self, folio: Folio) -> bool:
        """Whether the edition takes a folio for one that several processes map."""
        if folio.mapcount <= 1:
            return False
        if not folio.large:
            return True
        if self.policy.sharing == "tracked":
            return folio.maybe_shared
        return folio.entire_mapcount > 0 or folio.mapcount > folio.nr_pages or folio.page_mapcounts[0] > 1

    def madvise_cold_or_pageout(self, step: MadviseStep, folio: Folio, table: int, slot: int, nr: int) -> None:
        """Make a folio old; take it off its list for the page-out, or move it to the end of the inactive list."""
        folio.referenced = folio.young = False
        if step.action == "MADV_PAGEOUT":
            if folio.evictable:
                folio.active = False
                self.listed.discard(folio.index)
                step.group.append(folio.index)
        else:
            tables = step.vma.tables
            for s in range(slot, slot + nr):
                tables.put(table, s, tables.get(table, s).clear(_core.PTE_YOUNG))
            if folio.evictable:
                folio.active = False
                self._move_to_inactive(folio)
        folio.store_flags()

    def madvise_free(self, folio: Folio, vma: Vma, table: int, slot: int, nr: int, mappings: int) -> None:
        """Make a folio clean and lazyfree. ``mappings`` is the mapcount of a folio that only these entries map."""
        if folio.dirty or folio.swapcache:
            if folio.locked or folio.mapcount != mappings:
                return
            if folio.swapcache:
                self.give_back_swap(folio)
            folio.dirty = False
        for s in range(slot, slot + nr):
            vma.tables.put(table, s, vma.tables.get(table, s).clear(_core.PTE_YOUNG | _core.PTE_DIRTY))
        if folio.kind == "anon" and folio.evictable and folio.index in self.listed:
            folio.swapbacked = folio.active = folio.referenced = False
            self._move_to_inactive(folio)
        folio.store_flags()

    def _madvise_free_nonpresent(self, vma: Vma, table: int, slot: int, pte: Pte) -> None:
        """MADV_FREE of an entry that is not present: its swap slot is given back."""
        if pte.kind == "swap":
            self.swap.give_back(pte.pfn, 1)
            self.record.count("swap_frees")
            vma.mm.add_mm_counter(MM_SWAPENTS, -1)
        if pte.kind in ("swap", "hwpoison"):
            vma.tables.put(table, slot, Pte(0))

    def _move_to_inactive(self, folio: Folio) -> None:
        """Move a listed folio to the end of the inactive list."""
        (self.inactive if folio.index in self.inactive else self.active).remove(folio.index)
        self.inactive.append(folio.index)

    # --- lists: isolation and putting back (section 2.8) ---

    def load_lists(self) -> None:
        """Read the LRU lists, the deferred-split queue and the folio of each PFN from the population."""
        population = self.population
        self.inactive = [int(index) for index in population.lru_inactive]
        self.active = [int(index) for index in population.lru_active]
        self.listed = {*self.inactive, *self.active}
        anon = (population.folio_flags & np.uint32(_core.FOLIO_ANON | _core.FOLIO_FREED)) == _core.FOLIO_ANON
        queued = (population.folio_flags & np.uint32(_core.FOLIO_PARTIALLY_MAPPED)) != 0
        if self.looks_for_underused:
            # Each THP is queued at its first fault.
            queued |= 1 << population.folio_order.astype(np.int64) == population.ptrs_per_pte
        self.record.deferred = [int(index) for index in np.flatnonzero(anon & queued & (population.folio_order > 0))]
        for index, (pfn, order) in enumerate(zip(population.folio_pfn, population.folio_order, strict=True)):
            self.folio_of_pfn.update(dict.fromkeys(range(int(pfn), int(pfn) + (1 << int(order))), index))

    def store_lists(self) -> None:
        """Write the LRU lists to the population."""
        if self.generations:
            self.generations.store()
        self.population.lru_inactive = np.array(self.inactive, np.uint32)
        self.population.lru_active = np.array(self.active, np.uint32)
        self.record.swap_used = self.swap.used

    def _lists(self) -> list[list[int]]:
        return self.generations.all_lists() if self.generations else [self.inactive, self.active]

    def isolate_and_shrink(self, group: list[int], ignore_references: bool) -> list[tuple[int, str]]:
        """Hold one reference on each folio of a group while it is shrunk; return the outcome of each turn."""
        population = self.population
        for index in group:
            population.folio_refcount[index] += 1
        outcomes = self.shrink_folio_list(group, ignore_references)
        for index, outcome in outcomes:
            if outcome == "freed":
                continue
            population.folio_refcount[index] -= 1
            gone = population.folio_refcount[index] == 0 and population.folio_mapcount[index] == 0
            if gone and outcome != "dropped":  # folio_put() of the last one
                population.folio_flags[index] |= np.uint32(_core.FOLIO_FREED)
                self.record.count("pages_came_back", 1 << int(population.folio_order[index]))
                if index in self.record.deferred:
                    self.record.deferred.remove(index)
        return outcomes

    def put_back(self, outcomes: list[tuple[int, str]]) -> None:
        """Put what was kept or activated back on the lists, in the order of the turns: ``lru_add()``."""
        for index, outcome in outcomes:
            folio = self.folio(index)
            if outcome != "dropped" and not folio.freed and folio.evictable:
                (self.active if folio.active else self.inactive).append(index)
                self.listed.add(index)

    def pages(self, lru: Iterable[int]) -> int:
        """Base pages of the folios on a list."""
        return sum(1 << int(self.population.folio_order[index]) for index in lru)

    def take(self, lru: list[int], nr: int) -> list[int]:
        """Take folios from the head of a list until nr base pages are reached."""
        pages = taken = 0
        while taken < len(lru) and pages < nr:
            pages += 1 << int(self.population.folio_order[lru[taken]])
            taken += 1
        group = lru[:taken]
        del lru[:taken]
        self.listed.difference_update(group)
        return group

    def shrink_active_list(self, nr: int) -> None:
        """Deactivate nr base pages of folios; referenced executable file folios go round once more."""
        self.record.count("active_passes")
        group = self.take(self.active, nr)
        self.record.trace.append(("active", nr, self.pages(group)))
        for index in group:
            folio = self.folio(index)
            referenced, vm_flags = self.folio_referenced(folio)
            if referenced and not folio.swapbacked and vm_flags & _core.VMA_EXEC:
                lru = self.active
            else:
                folio.active = False
                folio.store_flags()
                lru = self.inactive
                self.record.count("folios_deactivated")
            if folio.evictable:  # lru_add()
                lru.append(index)
                self.listed.add(index)

    def shrink_inactive_list(self, nr: int) -> int:
        """Isolate nr base pages of folios and shrink them; return the pages freed."""
        self.record.count("isolation_calls")
        before = self.record.events["pages_freed"]
        group = self.take(self.inactive, nr)
        pages = self.pages(group)
        self.record.isolated[pages] += 1
        if group:
            self.put_back(self.isolate_and_shrink(group, ignore_references=False))
        freed = self.record.events["pages_freed"] - before
        self.record.trace += [("inactive", nr, pages), ("isolated", pages, freed)]
        return freed

    def keep_scanned(self) -> None:
        """Take what reclaim does not scan off the lists."""
        for lru in (self.inactive, self.active):
            self.listed.difference_update(index for index in lru if not self.scanned(self.folio(index)))
            lru[:] = [index for index in lru if index in self.listed]

    def keep_scanned_without_swap(self) -> None:
        """Take swapbacked folios off the lists once the last swap slot is taken."""
        if self.swap.configured and self.swap.free == 0:
            self.keep_scanned()

    def scanned(self, folio: Folio) -> bool:
        """Whether reclaim scans the folio's list: never the unevictable one, swapbacked folios with free swap only."""
        if folio.freed or not folio.evictable:
            return False
        return self.swap.free > 0 or not folio.swapbacked

    # --- the deferred-split shrinker (section 2.9) ---

    def shrink_deferred(self, priority: int) -> None:
        """``do_shrink_slab()`` for the deferred-split queue, at the end of a priority pass."""
        queued = len(self.record.deferred)
        delta = 2 * (queued >> priority)
        total = min((self.shrinker_carry >> priority) + delta, 2 * queued)
        scanned = 0
        while queued and (total >= SHRINK_BATCH or total >= queued):
            nr = min(SHRINK_BATCH, total)
            for _ in range(min(nr, len(self.record.deferred))):
                self.scan_deferred(self.record.deferred.pop(0))
            total -= nr
            scanned += nr
        if queued:
            self.shrinker_carry = min(max(self.shrinker_carry + delta - scanned, 0), 2 * queued)

    def scan_deferred(self, index: int) -> None:
        """Split a folio that was taken off the queue if it is partially mapped, or mostly zeroes."""
        self.record.count("deferred_scans")
        folio = self.folio(index)
        if not folio.partially_mapped:
            underused = self.looks_for_underused and folio.zero_pages > self.max_ptes_none
            if not underused or not folio.evictable or folio.poisoned:
                return
        if folio.locked or (self.split(folio, isolated=False) is None and folio.partially_mapped):
            self.record.deferred.append(index)


@dataclass(frozen=True)
class MadviseStep:
    """What the walk of a madvise call does in one VMA and page table.

    Parameters
    ----------
    action : str
        One of :data:`MADVISE_ACTIONS`.
    vma : Vma
        Where it walks.
    anon_only : bool
        Whether file folios are passed over: the caller must not page them out.
    group : list of int
        The folios that it takes for the page-out, in the order of their addresses.
    """

    action: str
    vma: Vma
    anon_only: bool
    group: list[int]


# --- the reclaim loop of memory.reclaim, and the two kinds of lists (section 10) --------------------------------------


def memory_reclaim(kernel: Kernel, lists: TwoLists | Generations, target_pages: int) -> None:
    """Run rounds, each for a quarter of what is missing, until the target is met or 16 rounds freed nothing."""
    futile = 0
    while kernel.record.events["pages_freed"] < target_pages and futile < MAX_RECLAIM_RETRIES:
        missing = target_pages - kernel.record.events["pages_freed"]
        futile += int(reclaim_round(kernel, lists, max(missing // 4, SWAP_CLUSTER_MAX)) == 0)


def reclaim_round(kernel: Kernel, lists: TwoLists | Generations, request: int) -> int:
    """``try_to_free_mem_cgroup_pages()``: passes of falling priority; return the pages freed.

    If they free nothing they are repeated: once with a walk of all memory cgroups, which finds nothing more here, and
    once with deactivation forced if it was skipped.
    """
    kernel.record.count("reclaim_rounds")
    kernel.record.trace.append(("round", request, 0))
    lists.begin_round()
    freed = reclaim_passes(kernel, lists, request) or reclaim_passes(kernel, lists, request)
    if not freed and lists.force_deactivation():
        freed = reclaim_passes(kernel, lists, request)
    return freed


def reclaim_passes(kernel: Kernel, lists: TwoLists | Generations, request: int) -> int:
    """``do_try_to_free_pages()``: passes from priority 12 to 0 until the request is met."""
    before = kernel.record.events["pages_freed"]
    for priority in range(DEF_PRIORITY, -1, -1):
        kernel.record.count("priority_passes")
        kernel.record.trace.append(("pass", priority, 0))
        lists.shrink(priority, request, before)
        kernel.shrink_deferred(priority)
        if kernel.record.events["pages_freed"] - before >= request:
            break
    return kernel.record.events["pages_freed"] - before


class TwoLists:
    """The classic LRU: the inactive and the active list.

    ``lru_stats`` says what the statistics of the memory cgroup show, which decide whether to deactivate: nothing yet
    (unflushed), or the lists as they were at the start (flushed).
    """

    def __init__(self, kernel: Kernel, lru_stats: str):
        self.kernel = kernel
        kernel.keep_scanned()
        inactive, active = (kernel.pages(lru) if lru_stats == "flushed" else 0 for lru in kernel._lists())
        gib = (inactive + active) << kernel.arch.page_shift >> 30
        self.inactive_is_low = inactive * (math.isqrt(10 * gib) if gib else 1) < active
        self.forced = self.skipped = False

    def begin_round(self) -> None:
        """Begin a round: nothing is forced."""
        self.forced = self.skipped = False

    def force_deactivation(self) -> bool:
        """Force deactivation if a pass of this round skipped it; return whether one did."""
        self.forced = self.skipped
        return self.forced

    def shrink(self, priority: int, request: int, round_freed: int) -> None:
        """Scan ``list size >> priority`` of each list in turns of 32 pages: ``shrink_lruvec()``."""
        kernel = self.kernel
        kernel.keep_scanned_without_swap()
        active, inactive = (kernel.pages(lru) >> priority for lru in (kernel.active, kernel.inactive))
        before = kernel.record.events["pages_freed"]
        while active or inactive:
            if inactive:
                nr = min(inactive, SWAP_CLUSTER_MAX)
                inactive -= nr
                kernel.shrink_inactive_list(nr)
                kernel.keep_scanned_without_swap()
            if active:
                nr = min(active, SWAP_CLUSTER_MAX)
                active -= nr
                if self.inactive_is_low or self.forced:
                    kernel.shrink_active_list(nr)
                else:
                    self.skipped = True
            if kernel.record.events["pages_freed"] - before >= request:
                break


class Generations:
    """The multi-gen LRU (sections 9.1 to 9.9): lists by type and generation, under the rules of one edition.

    A list begins with the folio that is taken next. ``max_seq`` is common to both types, ``min_seq`` one for each.
    """

    FILE, ANON = "file", "anon"

    def __init__(self, kernel: Kernel):
        self.kernel, self.record, self.population = kernel, kernel.record, kernel.population
        self.edition = kernel.policy.mglru
        self.new = self.edition in ("v7.2", "v7.3")  # the reclaim loop of 7.2
        self.batched = self.new and kernel.policy.young == "batched"
        state = kernel.population.lru_gen
        self.max_seq = state.max_seq
        self.min_seq = {self.ANON: state.min_seq_anon, self.FILE: state.min_seq_file}
        self.lists: dict[str, list[list[int]]] = {kind: [[] for _ in range(MAX_NR_GENS)] for kind in self.min_seq}
        self.nr_pages = {kind: [0] * MAX_NR_GENS for kind in self.min_seq}
        self.moved: list[tuple[str, int, int, int]] = []  # promotions that nr_pages does not show yet
        self.walked = False
        for name, lru in (("lru_inactive", kernel.inactive), ("lru_active", kernel.active)):
            for place, index in enumerate(lru):
                self._load(kernel.folio(index), f"population.{name}[{place}]")
        kernel.generations = self

    def _load(self, folio: Folio, where: str) -> None:
        """Put a folio on the list of its generation, which has to be one of its type's."""
        if folio.freed:
            return
        kind = self.type_of(folio)
        above = (folio.gen - 1 - self.min_seq[kind]) % MAX_NR_GENS
        if not 1 <= folio.gen <= MAX_NR_GENS or above >= self.nr_gens(kind):
            raise ValueError(f"{where}: the folio's generation must be one of its type's")
        if folio.active:
            raise ValueError(f"{where}: a folio in a generation must not be ACTIVE")
        self.lists[kind][folio.gen - 1].append(folio.index)
        self.nr_pages[kind][folio.gen - 1] += folio.nr_pages

    def type_of(self, folio: Folio) -> str:
        """Lazyfree folios are of type file."""
        return self.ANON if folio.swapbacked else self.FILE

    def evictable_types(self) -> list[str]:
        """Without swap space, or with less than 64 free slots, only file."""
        return [self.ANON, self.FILE] if self.kernel.swap.free >= MIN_LRU_BATCH else [self.FILE]

    def all_lists(self) -> list[list[int]]:
        """Every list."""
        return [lru for lists in self.lists.values() for lru in lists]

    def nr_gens(self, kind: str) -> int:
        """Generations of a type."""
        return self.max_seq - self.min_seq[kind] + 1

    def store(self) -> None:
        """Write the lists back: the two youngest generations are the active list."""
        self.kernel.inactive, self.kernel.active = [], []
        for seq in range(min(self.min_seq.values()), self.max_seq + 1):
            lru = self.kernel.active if seq >= self.max_seq - 1 else self.kernel.inactive
            for kind in (self.FILE, self.ANON):
                if seq >= self.min_seq[kind]:
                    lru += self.lists[kind][seq % MAX_NR_GENS]
        self.population.lru_gen = LruGen(self.max_seq, self.min_seq[self.ANON], self.min_seq[self.FILE])

    # Marks and generations of a folio (section 9.1).

    def refs(self, folio: Folio) -> int:
        """How often the folio was accessed, 0 to 4."""
        if self.edition == "v6.12":
            return folio.accesses + folio.workingset
        return folio.accesses + 1 if folio.referenced else 0

    def fully_referenced(self, folio: Folio) -> bool:
        """Whether an isolation passes the folio on to the next generation."""
        return self.refs(folio) + (folio.workingset if self.edition != "v6.12" else 0) == (
            4 if self.edition == "v6.12" else 5
        )

    def mark_accessed(self, folio: Folio) -> None:
        """``folio_mark_accessed()`` of 7.x."""
        if not folio.referenced:
            folio.referenced, folio.accesses = True, 0
        elif folio.accesses == 3:
            folio.workingset = True
        else:
            folio.accesses += 1

    def move(self, folio: Folio, seq: int, at_tail: bool = False) -> None:
        """Give a listed folio another generation, and put it on that list; the caller took it off its own."""
        kind, gen = self.type_of(folio), seq % MAX_NR_GENS
        self.nr_pages[kind][folio.gen - 1] -= folio.nr_pages
        self.nr_pages[kind][gen] += folio.nr_pages
        folio.gen = gen + 1
        self._list(folio, at_tail)

    def _list(self, folio: Folio, at_tail: bool = False) -> None:
        lru = self.lists[self.type_of(folio)][folio.gen - 1]
        lru.insert(0 if at_tail else len(lru), folio.index)
        folio.store_flags()

    def forget(self, folio: Folio) -> None:
        """Take a folio that is on no list any more out of the counts."""
        self.nr_pages[self.type_of(folio)][folio.gen - 1] -= folio.nr_pages
        folio.gen = 0
        folio.store_flags()

    def seq_of_addition(self, folio: Folio) -> int:
        """Return the generation in which a folio that is put on a list lands: ``lru_gen_add_folio()`` (section 9.5)."""
        kind = self.type_of(folio)
        oldest, newest = self.min_seq[kind], self.max_seq
        if self.edition == "v6.12":
            if folio.active:
                return newest
            if kind == self.ANON and not folio.swapcache:
                return newest - 1
            return oldest if oldest + MIN_NR_GENS >= newest else oldest + 1
        if folio.active:
            seq = newest if folio.workingset else newest - 1
        elif kind == self.ANON and not folio.swapcache:
            seq = newest - 1
        else:
            seq = newest - 2 if folio.workingset or (self.new and folio.referenced) else newest - 3
        return max(seq, oldest)

    def add(self, folio: Folio) -> None:
        """Put a folio on a list."""
        seq = self.seq_of_addition(folio)
        if folio.active and self.edition == "v6.12":
            folio.referenced, folio.accesses = False, 0
        folio.active = False
        folio.gen = seq % MAX_NR_GENS + 1
        self.nr_pages[self.type_of(folio)][folio.gen - 1] += folio.nr_pages
        self._list(folio)
        self.kernel.listed.add(folio.index)

    def update_gen(self, folio: Folio, vma: Vma) -> bool:
        """Mark or promote a folio that a window or a page-table walk found young: ``folio_update_gen()``."""
        executable = bool(vma.flags & _core.VMA_EXEC) and not folio.swapbacked
        if self.edition == "v6.12":
            if not folio.gen:
                folio.referenced = True
                folio.store_flags()
                return True
        elif not folio.gen:
            return False
        elif not folio.referenced and not folio.workingset and not (self.edition == "v7.3" and executable):
            folio.referenced, folio.accesses = True, 0
            folio.store_flags()
            return True
        old, folio.gen = folio.gen - 1, self.max_seq % MAX_NR_GENS + 1
        folio.referenced, folio.accesses, folio.workingset = False, 0, self.edition != "v6.12"
        self.moved.append((self.type_of(folio), old, folio.gen - 1, folio.nr_pages))
        folio.store_flags()
        return True

    def settle_counts(self) -> None:
        """Show the promotions in the counts of pages: ``reset_batch_size()``."""
        for kind, old, new, pages in self.moved:
            self.nr_pages[kind][old] -= pages
            self.nr_pages[kind][new] += pages
        self.moved.clear()

    # The loop over the lists (section 9.2).

    def begin_round(self) -> None:
        """Nothing to do."""

    def force_deactivation(self) -> bool:
        """MGLRU deactivates nothing."""
        return False

    def evictable_pages(self) -> int:
        """Pages of all generations of the evictable types."""
        return sum(
            self.nr_pages[kind][seq % MAX_NR_GENS]
            for kind in self.evictable_types()
            for seq in range(self.min_seq[kind], self.max_seq + 1)
        )

    def oldest(self) -> int:
        """The smaller min_seq of the evictable types."""
        return min(self.min_seq[kind] for kind in self.evictable_types())

    def shrink(self, priority: int, request: int, round_freed: int) -> None:
        """Evict what the priority allows: ``lru_gen_shrink_lruvec()``."""
        if self.new:
            self._shrink_new(priority, request, round_freed)
        else:
            self._shrink_old(priority)
        self.settle_counts()

    def _shrink_new(self, priority: int, request: int, round_freed: int) -> None:
        left = self.evictable_pages() >> priority
        while left > 0:
            oldest = self.oldest()
            if oldest + MIN_NR_GENS > self.max_seq or (
                priority != DEF_PRIORITY and oldest + MIN_NR_GENS == self.max_seq
            ):
                self.age()
            looked = self.evict(min(left, MIN_LRU_BATCH))
            if not looked or self.record.events["pages_freed"] - round_freed >= request:
                break
            left -= looked

    def _shrink_old(self, priority: int) -> None:
        scanned = 0
        while True:
            total = 0 if self.oldest() + MIN_NR_GENS > self.max_seq else self.evictable_pages()
            if priority != DEF_PRIORITY and self.should_age(total):
                self.age()
                return
            nr = total >> priority
            if nr <= 0:
                return
            delta = self.evict(nr if self.edition == "v7.0" else MAX_LRU_BATCH)
            scanned += delta
            if not delta or scanned >= nr:
                return

    def should_age(self, total: int) -> bool:
        """Whether the page tables are walked before anything else is evicted (6.12 and 7.0)."""
        oldest = self.oldest()
        if self.edition == "v7.0" or oldest + MIN_NR_GENS != self.max_seq:
            return oldest + MIN_NR_GENS >= self.max_seq
        youngest, third = (
            sum(self.nr_pages[kind][seq % MAX_NR_GENS] for kind in self.evictable_types())
            for seq in (self.max_seq, self.max_seq - 2)
        )
        return youngest * 2 > total or third * 4 < total

    # Eviction (sections 9.3 and 9.5).

    def evict(self, limit: int) -> int:
        """Isolate a group and shrink it; return what the loop takes off its budget: ``evict_folios()``."""
        if self.new:
            self.inc_min_seq()
        asked = min(limit, MAX_LRU_BATCH)
        scans = self.record.events["isolation_calls"]
        looked, group, used_up = self.isolate(asked)
        advanced = self.inc_min_seq() if looked or not self.new else False
        before, pages = self.record.events["pages_freed"], self.kernel.pages(group)
        retry = self.put_back(self.kernel.isolate_and_shrink(group, False), first=True) if group else []
        if retry:
            self.put_back(self.kernel.isolate_and_shrink(retry, False), first=False)
        if self.record.events["isolation_calls"] > scans:
            freed = self.record.events["pages_freed"] - before
            self.record.isolated[pages] += 1
            self.record.trace += [("inactive", asked, looked), ("isolated", pages, freed)]
        if self.new:
            return looked
        # 6.12 and 7.0: what was looked at counts only if something was isolated or the limit is used up.
        last = self.ANON if len(self.evictable_types()) > 1 else self.FILE
        if self.nr_gens(last) == MIN_NR_GENS:
            return 0
        return (looked if group or used_up else 0) + int(advanced)

    def inc_min_seq(self) -> bool:
        """Drop empty oldest generations: ``try_to_inc_min_seq()``; return whether any was."""
        new = dict(self.min_seq)
        for kind in self.evictable_types():
            while new[kind] + MIN_NR_GENS <= self.max_seq and not self.lists[kind][new[kind] % MAX_NR_GENS]:
                new[kind] += 1
        if len(self.evictable_types()) > 1:  # the types stay within reach of each other
            if self.edition == "v6.12":
                new[self.ANON] = min(new[self.ANON], new[self.FILE])
            else:
                last = self.max_seq - MIN_NR_GENS
                for kind, other in ((self.ANON, self.FILE), (self.FILE, self.ANON)):
                    if new[kind] > last and new[other] < last:
                        new[kind] = last
                        break
        advanced = new != self.min_seq
        self.min_seq = new
        return advanced

    def isolate(self, limit: int) -> tuple[int, list[int], bool]:
        """Look for folios in the oldest generation of one type, then of the other: ``isolate_folios()``.

        Returns the pages looked at, the folios isolated, and whether the limit was used up.
        """
        types = self.evictable_types()[::-1]  # file first: nothing refaults in a run
        if self.edition == "v6.12" and len(types) > 1 and self.min_seq[self.ANON] < self.min_seq[self.FILE]:
            types.reverse()
        looked, used_up = 0, False
        group: list[int] = []
        for kind in types:
            looked, group, used_up = self.scan(limit, kind)
            if group or used_up or (looked and self.new):
                break
        return looked, group, used_up

    def scan(self, limit: int, kind: str) -> tuple[int, list[int], bool]:
        """Look at up to ``limit`` folios of the oldest generation, and isolate 64 pages: ``scan_folios()``."""
        looked = isolated = 0
        group: list[int] = []
        if self.nr_gens(kind) == MIN_NR_GENS:
            return 0, group, False
        self.record.count("isolation_calls")
        lru = self.lists[kind][self.min_seq[kind] % MAX_NR_GENS]
        while lru and limit and isolated < MIN_LRU_BATCH:
            limit -= 1
            folio = self.kernel.folio(lru.pop(0))
            looked += folio.nr_pages
            if self.sort(folio):
                self.record.count("folios_sorted")
                continue
            if not folio.referenced:
                folio.accesses = 0
            if self.edition == "v6.12":
                folio.workingset &= folio.referenced
                folio.referenced = False
            self.record.count("folios_from_generations")
            self.forget(folio)
            self.kernel.listed.discard(folio.index)
            isolated += folio.nr_pages
            group.append(folio.index)
        return looked, group, not limit

    def sort(self, folio: Folio) -> bool:
        """Move a folio that must not be isolated where it belongs: ``sort_folio()``; return whether it was moved."""
        kind = self.type_of(folio)
        oldest = self.min_seq[kind]
        if not folio.evictable and self.edition == "v7.0":
            self.forget(folio)
            self.kernel.listed.discard(folio.index)
            return True
        if not folio.evictable:
            return False
        if folio.gen - 1 != oldest % MAX_NR_GENS:
            self._list(folio)
            return True
        if self.fully_referenced(folio):
            folio.referenced, folio.accesses = False, 0
            folio.workingset &= self.edition != "v6.12"
            self.move(folio, oldest + 1, at_tail=self.edition == "v6.12")
            return True
        if self.edition == "v7.0" and kind == self.FILE and folio.dirty:
            self.move(folio, oldest + 1)
            return True
        return False

    def check_references(self, folio: Folio, referenced: int, vm_flags: int) -> str:
        """``folio_check_references()`` of 7.x."""
        if vm_flags & _core.VMA_LOCKED:
            return "activate"
        if not referenced:
            return "reclaim"
        executable = bool(vm_flags & _core.VMA_EXEC) and not folio.swapbacked
        if folio.referenced or folio.workingset:
            if self.edition == "v7.0" or self.refs(folio) > 1:
                folio.referenced, folio.accesses, folio.workingset = False, 0, True
            else:
                self.mark_accessed(folio)
            return "activate"
        if self.edition == "v7.3" and executable:
            folio.referenced, folio.accesses, folio.workingset = False, 0, True
            return "activate"
        folio.referenced, folio.accesses = True, 0
        return "keep"

    def put_back(self, outcomes: list[tuple[int, str]], first: bool) -> list[int]:
        """Put what was not freed back on the lists; return what is tried once more, the first time."""
        retry = []
        for index, outcome in outcomes:
            folio = self.kernel.folio(index)
            if outcome in ("dropped", "freed") or folio.freed or not folio.evictable:
                continue
            if (
                first
                and not (folio.active or folio.mapcount > 0 or folio.dirty)
                and not (self.edition == "v6.12" and (folio.referenced or folio.locked))
            ):
                retry.append(index)
                continue
            self.rotate(folio)
            self.add(folio)
        return retry

    def rotate(self, folio: Folio) -> None:
        """Mark a rejected folio active where it would come back to the oldest generation, or always (6.12)."""
        if self.edition != "v6.12":
            if self.seq_of_addition(folio) == self.min_seq[self.type_of(folio)]:
                folio.referenced, folio.accesses, folio.active = False, 0, True
        elif folio.dirty and folio.kind == "file" and folio.mapcount <= 0:  # unmapped: PG_reclaim is set
            folio.referenced |= folio.workingset
        else:
            folio.referenced, folio.accesses, folio.workingset, folio.active = False, 0, False, True

    # Look-around and ageing (sections 9.6 and 9.7).

    def look_around(self, folio: Folio, vma: Vma, walk: Walk, nr: int) -> bool:
        """Test nr entries; if any was young, look for young entries around them: ``lru_gen_look_around()``."""
        record = self.record
        record.count("look_arounds")
        record.looked_around[nr] += 1
        record.trace.append(("young", walk.vpn, nr))
        if not vma.tables.test_and_clear_young_ptes(walk.table, walk.slot, nr, flush=False):
            return False
        record.count("look_arounds_young")
        start, end = self.window(folio, vma, walk)
        if end - start > 1:
            self.clear_young_entries(vma, walk.table, start, end, folio)
        return True

    def window(self, folio: Folio, vma: Vma, walk: Walk) -> tuple[int, int]:
        """Return the virtual pages around a young entry that a look-around reads."""
        rule = self.kernel.young_rule and self.kernel.young_rule.window
        if rule:
            return self._ask_rule(rule, folio, vma, walk)
        first = walk.table * vma.tables.ptrs_per_pte
        start, end = max(first, vma.start), min(first + vma.tables.ptrs_per_pte, vma.end)
        if end - start > MIN_LRU_BATCH:
            half = MIN_LRU_BATCH // 2
            if walk.vpn - start < half:
                end = start + MIN_LRU_BATCH
            elif end - walk.vpn < half:
                start = end - MIN_LRU_BATCH
            else:
                start, end = walk.vpn - half, walk.vpn + half
        return start, end

    def _ask_rule(
        self, rule: Callable[[Vma, int], tuple[int, int]], folio: Folio, vma: Vma, walk: Walk
    ) -> tuple[int, int]:
        got = rule(vma, walk.vpn)
        is_pair = isinstance(got, tuple) and len(got) == 2 and all(isinstance(one, int | np.integer) for one in got)
        if not is_pair or not got[0] <= walk.vpn < got[1] <= got[0] + _LONGEST:
            raise ValueError(
                f"window: {_name_of(rule)}() must return (start, end) of at most {_LONGEST} entries around vpn"
                f" {walk.vpn}, which maps folio {folio.index}, got {got!r}"
            )
        return int(got[0]), int(got[1])

    def clear_young_entries(self, vma: Vma, table: int, start: int, end: int, under_test: Folio | None) -> None:
        """Clear young of the entries from start to end of a table, and mark or promote their folios.

        With a folio under test the entries are a look-around's window, else a part of a page-table walk.
        """
        events = "window" if under_test else "aging"
        young_events = "" if under_test else "aging_"
        tables, record = vma.tables, self.record
        base = table * tables.ptrs_per_pte
        last: Folio | None = None
        dirty = False
        vpn = start
        while vpn < end:
            pte = tables.ptep_get(table, vpn - base, events)
            if under_test:
                record.count("window_young_ptes", int(pte.present and pte.young))
            folio = self._young_folio(pte, under_test)
            nr = 1
            if folio is None:
                vpn += 1
                continue
            if self.batched and folio.large:
                record.count("batch_scans")
                limit = min(end - vpn, folio.nr_pages - folio.page(pte))
                flags = frozenset(("MERGE_YOUNG_DIRTY",))
                read = partial(tables.ptep_get, table, reader="batch")
                nr, pte = _scan(read, vpn - base, pte, limit, flags, tables.cont_ptes, soft_dirty=False)
            tables.test_and_clear_young_ptes(table, vpn - base, nr, young_events, flush=False)
            vpn += nr
            if self.edition == "v6.12":
                self._update(folio, pte.dirty, vma, events)
                continue
            if last is None or last.index != folio.index:
                record.count(f"{events}_updates")
                self._update(last, dirty, vma, events)
                last, dirty = folio, False
            dirty |= pte.dirty
        if self.edition != "v6.12":  # walk_update_folio() is called once more than there are runs of one folio
            record.count(f"{events}_updates")
            self._update(last, dirty, vma, events)

    def _young_folio(self, pte: Pte, under_test: Folio | None) -> Folio | None:
        """Return the folio of a young entry if its generation or marks may change."""
        if not pte.present or pte.special or pte.pfn == _core.ZERO_PFN or not pte.young:
            return None
        index = self.kernel.folio_of_pfn.get(pte.pfn)
        if index is None:
            return None
        folio = under_test if under_test and under_test.index == index else self.kernel.folio(index)
        if self.edition == "v6.12":
            wanted = under_test is None or not folio.swapbacked or under_test.swapbacked
            return folio if wanted else None
        return folio if folio.gen else None

    def _update(self, folio: Folio | None, dirty: bool, vma: Vma, events: str) -> None:
        """``walk_update_folio()``: mark the folio dirty where an entry was, and mark or promote it."""
        if folio is None:
            return
        swapped = folio.anon and folio.swapbacked and not folio.swapcache
        if dirty and not folio.dirty and not swapped:
            folio.mark_dirty(self.record)
            folio.store_flags()
        if self.update_gen(folio, vma):
            self.record.count(f"{events}_promotions")

    def age(self) -> None:
        """Walk the page tables and begin a new generation: ``try_to_inc_max_seq()``."""
        self.record.count("ages")
        self.record.trace.append(("age", self.max_seq, 0))
        if not self.walked:  # later no mm has run since
            for index in range(len(self.population.vma_start)):
                self.walk_vma(self.kernel.vma(index))
        self.walked = True
        self.settle_counts()
        for kind in self.min_seq:
            if self.nr_gens(kind) == MAX_NR_GENS:
                self.pass_on(kind)
        self.max_seq += 1

    def walk_vma(self, vma: Vma) -> None:
        """Clear young entries of a VMA, table by table."""
        anon_left_out = bool(vma.flags & _core.VMA_ANON) and self.ANON not in self.evictable_types()
        if vma.locked or vma.mm.outside_memcg or anon_left_out:
            return
        size = vma.tables.ptrs_per_pte
        young_leaves = 0
        for table in range(vma.start // size, (vma.end - 1) // size + 1):
            state = vma.tables.state(table)
            if state == _core.TABLE_PTE:
                start, end = max(table * size, vma.start), min((table + 1) * size, vma.end)
                self.clear_young_entries(vma, table, start, end, None)
            elif state == _core.TABLE_PMD_LEAF:
                young_leaves += self.walk_leaf(vma, table)
        if young_leaves and self.edition != "v6.12":  # as in a table: once more than there are runs of one folio
            self.record.count("aging_updates", young_leaves + 1)

    def walk_leaf(self, vma: Vma, table: int) -> bool:
        """Clear young of a PMD leaf, whose folio counts as one entry; return whether it was young."""
        leaf = vma.tables.get(table, 0)
        folio = self._young_folio(leaf, None)
        if folio is None:
            return False
        vma.tables.put(table, 0, leaf.clear(_core.PTE_YOUNG))
        self._update(folio, leaf.dirty, vma, "aging")
        return True

    def pass_on(self, kind: str) -> None:
        """Move the oldest generation of a type into the next one, to its tail: ``inc_min_seq()``."""
        oldest = self.min_seq[kind]
        if kind in self.evictable_types():
            lru = self.lists[kind][oldest % MAX_NR_GENS]
            while lru:
                folio = self.kernel.folio(lru.pop(0))
                if folio.gen - 1 == oldest % MAX_NR_GENS:
                    folio.referenced, folio.accesses = False, 0
                    self.move(folio, oldest + 1, at_tail=True)
                else:
                    self._list(folio, at_tail=True)
        self.min_seq[kind] += 1


# --- single calls, and reclaim of a whole population ----------------------------------------------------------------


def _mapped_here(kernel: Kernel, folio: int, vma: int, guard: str = "none") -> tuple[Folio, Vma]:
    one, where = kernel.folio(folio), kernel.vma(vma, guard)
    if where.address(one) is None:
        raise ValueError(
            f"vma: expected a VMA that folio {one.index} with page offset {one.pgoff} and {one.nr_pages} pages"
            f" reaches into, got vma {where.index} with page offset {where.pgoff} and {where.end - where.start} pages"
        )
    return one, where


def try_to_unmap_one(
    population: Population,
    folio: int,
    vma: int,
    *,
    policy: Policy | str | BatchRule | YoungRule,
    arch: Arch,
    ttu: Iterable[str] = (),
    guard: str = "none",
) -> Call:
    """Unmap a folio from one VMA.

    Parameters
    ----------
    population : Population
        Changed in place.
    folio, vma : int
        Indices.
    policy : Policy, str or callable
        A batching policy, or a function ``(folio, vma, walk, pte) -> nr`` (see the module's docstring).
    arch : Arch
        The architecture.
    ttu : iterable of str
        Names out of :data:`TTU_FLAGS`.
    guard : {'none', 'contiguous'}
        What lies in memory behind each table: zeros, or entries that go on where the last slot ends.

    Returns
    -------
    Call
        ``ret`` is False if the unmap was aborted or the VMA is locked.

    Raises
    ------
    IndexError
        If there is no such folio or VMA.
    ValueError
        For an unknown name, a VMA that the folio does not reach into, or a function that returns no valid length.
    """
    flags = _names("ttu", ttu, TTU_FLAGS)
    if guard not in GUARDS:
        raise ValueError(f"guard: expected one of {', '.join(GUARDS)}, got {guard!r}")
    kernel = Kernel(population, policy, arch)
    one, where = _mapped_here(kernel, folio, vma, guard)
    kernel.try_to_unmap_one(one, where, flags)
    one.settle()
    return kernel.record.call()


def folio_referenced_one(
    population: Population, folio: int, vma: int, *, policy: Policy | str | BatchRule | YoungRule, arch: Arch
) -> Call:
    """Test and clear the young bits of a folio in one VMA.

    Parameters
    ----------
    population, folio, vma, policy, arch
        As for :func:`try_to_unmap_one`.

    Returns
    -------
    Call
        With ``mapcount_left``, which starts at the folio's mapcount, ``referenced`` and ``vm_flags``.

    Raises
    ------
    IndexError, ValueError
        As :func:`try_to_unmap_one`.
    """
    kernel = Kernel(population, policy, arch)
    one, where = _mapped_here(kernel, folio, vma)
    kernel.record.mapcount_left = one.mapcount
    kernel.folio_referenced_one(one, where)
    one.store_flags()
    return kernel.record.call()


def page_vma_mapped_walk(
    population: Population, folio: int, vma: int, *, arch: Arch, sync: bool = False, migration: bool = False
) -> Call:
    """Walk a folio in one VMA to the end and change nothing.

    Parameters
    ----------
    population, folio, vma, arch
        As for :func:`try_to_unmap_one`.
    sync, migration : bool
        ``PVMW_SYNC`` and ``PVMW_MIGRATION``.

    Returns
    -------
    Call
        Its ``trace`` has ``("yield", vpn, 0)`` for each entry found; ``ret`` is whether there was any.

    Raises
    ------
    IndexError, ValueError
        As :func:`try_to_unmap_one`.
    """
    kernel = Kernel(population, "per-page", arch)
    one, where = _mapped_here(kernel, folio, vma)
    walk = Walk(kernel, one, where, sync=sync, migration=migration)
    while walk.next():
        kernel.record.trace.append(("yield", walk.vpn, 0))
    kernel.record.ret = bool(kernel.record.trace)
    return kernel.record.call()


def madvise(
    population: Population,
    calls: Iterable[tuple[str, int, int, int, bool]],
    *,
    policy: Policy | str | BatchRule | YoungRule,
    arch: Arch,
    swap: Swap | None = None,
) -> tuple[Record, list[int]]:
    """Make madvise calls, one after the other.

    Parameters
    ----------
    population, policy, arch
        As for :func:`try_to_unmap_one`. Where folios are split the population gets new, longer arrays of folios;
        ``lru_inactive`` and ``lru_active`` always are new.
    calls : iterable of tuple
        Action (one of :data:`MADVISE_ACTIONS`), number of the mm, first virtual page, end, and whether the caller owns
        the files or may write them.
    swap : Swap, optional
        The swap device; none without.

    Returns
    -------
    Record
        ``ret`` is the number of base pages that reclaim freed.
    list of int
        What each call returns: 0, -22 (EINVAL) or -12 (ENOMEM).
    """
    kernel = Kernel(population, policy, arch, swap)
    kernel.load_lists()
    results = [kernel.madvise(action, mm, start, end, owner) for action, mm, start, end, owner in calls]
    kernel.store_lists()
    kernel.record.ret = kernel.record.events["pages_freed"]
    return kernel.record, results


def reclaim(
    population: Population,
    target_pages: int,
    *,
    policy: Policy | str | BatchRule | YoungRule,
    arch: Arch,
    swap: Swap | None = None,
    max_ptes_none: int | None = None,
    lru: str = "classic",
    lru_stats: str = "unflushed",
) -> Record:
    """Reclaim from the population's LRU lists as a write to memory.reclaim does.

    Parameters
    ----------
    population, policy, arch, swap
        As for :func:`madvise`. Without swap, swapbacked folios are taken off the lists.
    target_pages : int
        Base pages to free.
    max_ptes_none : int, optional
        khugepaged/max_ptes_none: a folio on the queue that is not partially mapped is split if more of its pages hold
        only zeroes. By default as kernels boot: none is.
    lru, lru_stats : str
        As for :func:`rmapfast.reclaim`.

    Returns
    -------
    Record
        ``ret`` is the number of base pages freed.
    """
    kernel = Kernel(population, policy, arch, swap)
    if max_ptes_none is not None:
        kernel.max_ptes_none = max_ptes_none
    kernel.load_lists()
    lists: TwoLists | Generations = TwoLists(kernel, lru_stats) if lru == "classic" else Generations(kernel)
    memory_reclaim(kernel, lists, operator.index(target_pages))
    kernel.store_lists()
    kernel.record.ret = kernel.record.events["pages_freed"]
    return kernel.record
