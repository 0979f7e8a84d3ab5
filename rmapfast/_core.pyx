# cython: language_level=3
"""What Python calls of csrc. Each function checks its arguments, drops the GIL, makes one C call and maps an error."""

import operator
import os

cimport cython
cimport numpy as cnp
import numpy as np
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport UINT64_MAX, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from rmapfast._csrc cimport *

include "_arrays.pxi"

cnp.import_array()

PTE_PRESENT, PTE_WRITE, PTE_YOUNG, PTE_DIRTY = RMF_PTE_PRESENT, RMF_PTE_WRITE, RMF_PTE_YOUNG, RMF_PTE_DIRTY
PTE_SOFT_DIRTY, PTE_UFFD_WP, PTE_SPECIAL = RMF_PTE_SOFT_DIRTY, RMF_PTE_UFFD_WP, RMF_PTE_SPECIAL
PTE_UNUSED, PTE_CONT, PTE_PROT, PTE_EXCLUSIVE = RMF_PTE_UNUSED, RMF_PTE_CONT, RMF_PTE_PROT, RMF_PTE_EXCLUSIVE
PTE_MARKER_WORD = rmf_mk_marker()
ZERO_PFN = RMF_ZERO_PFN
PFN_SHIFT = RMF_PFN_SHIFT
KIND_SHIFT, KIND_MASK = RMF_KIND_SHIFT, RMF_KIND_MASK

VMA_LOCKED, VMA_UFFD_WP, VMA_UFFD_ARMED = RMF_VMA_LOCKED, RMF_VMA_UFFD_WP, RMF_VMA_UFFD_ARMED
VMA_DROPPABLE, VMA_EXEC, VMA_SHARED, VMA_ANON = RMF_VMA_DROPPABLE, RMF_VMA_EXEC, RMF_VMA_SHARED, RMF_VMA_ANON
TABLE_PTE, TABLE_ABSENT, TABLE_PMD_LEAF = RMF_TABLE_PTE, RMF_TABLE_ABSENT, RMF_TABLE_PMD_LEAF
FOLIO_ANON, FOLIO_SWAPBACKED, FOLIO_SWAPCACHE = RMF_FOLIO_ANON, RMF_FOLIO_SWAPBACKED, RMF_FOLIO_SWAPCACHE
FOLIO_DIRTY, FOLIO_MLOCKED, FOLIO_REFERENCED = RMF_FOLIO_DIRTY, RMF_FOLIO_MLOCKED, RMF_FOLIO_REFERENCED
FOLIO_ACTIVE, FOLIO_PINNED, FOLIO_UNEVICTABLE = RMF_FOLIO_ACTIVE, RMF_FOLIO_PINNED, RMF_FOLIO_UNEVICTABLE
FOLIO_YOUNG, FOLIO_PARTIALLY_MAPPED, FOLIO_LOCKED = RMF_FOLIO_YOUNG, RMF_FOLIO_PARTIALLY_MAPPED, RMF_FOLIO_LOCKED
FOLIO_EXCLUSIVE, FOLIO_PAGE_MAPCOUNTS = RMF_FOLIO_EXCLUSIVE, RMF_FOLIO_PAGE_MAPCOUNTS
FOLIO_PAGE_FLAGS, FOLIO_FREED, FOLIO_MAYBE_SHARED = RMF_FOLIO_PAGE_FLAGS, RMF_FOLIO_FREED, RMF_FOLIO_MAYBE_SHARED
FOLIO_WORKINGSET, FOLIO_REFS_SHIFT, FOLIO_REFS_MASK = RMF_FOLIO_WORKINGSET, RMF_FOLIO_REFS_SHIFT, RMF_FOLIO_REFS_MASK
FOLIO_GEN_SHIFT, FOLIO_GEN_MASK = RMF_FOLIO_GEN_SHIFT, RMF_FOLIO_GEN_MASK
PAGE_EXCLUSIVE, PAGE_HWPOISON, PAGE_SWAP_DUP_FAIL = RMF_PAGE_EXCLUSIVE, RMF_PAGE_HWPOISON, RMF_PAGE_SWAP_DUP_FAIL
PAGE_ZERO = RMF_PAGE_ZERO
MM_OUTSIDE_MEMCG = RMF_MM_OUTSIDE_MEMCG
MAX_ORDER = RMF_MAX_ORDER
LAYOUT_BLOCK = RMF_LAYOUT_BLOCK

# The lines of csrc/events.def. Of an event: (name, description, component, in_reference_check).
COMPONENTS = tuple(rmf_component_name(<rmf_component>i).decode() for i in range(RMF_NR_COMPONENTS))
EVENTS = tuple(
    (
        rmf_event_name(<rmf_event>i).decode(),
        rmf_event_description(<rmf_event>i).decode(),
        COMPONENTS[<int>rmf_event_component(<rmf_event>i)],
        bool(rmf_event_in_reference_check(<rmf_event>i)),
    )
    for i in range(RMF_NR_EVENTS)
)
RATES = tuple(rmf_rate_name(<rmf_rate_of>i).decode() for i in range(RMF_NR_RATES))
EVENT_NAMES = tuple(event[0] for event in EVENTS)
FPB_FLAGS = {
    "RESPECT_DIRTY": RMF_FPB_RESPECT_DIRTY, "RESPECT_SOFT_DIRTY": RMF_FPB_RESPECT_SOFT_DIRTY,
    "RESPECT_WRITE": RMF_FPB_RESPECT_WRITE, "MERGE_WRITE": RMF_FPB_MERGE_WRITE,
    "MERGE_YOUNG_DIRTY": RMF_FPB_MERGE_YOUNG_DIRTY, "UNCUT": RMF_FPB_UNCUT,
}
TTU_FLAGS = {
    "BATCH_FLUSH": RMF_TTU_BATCH_FLUSH, "SYNC": RMF_TTU_SYNC, "IGNORE_MLOCK": RMF_TTU_IGNORE_MLOCK,
    "HWPOISON": RMF_TTU_HWPOISON, "SPLIT_HUGE_PMD": RMF_TTU_SPLIT_HUGE_PMD,
}
TRACE_KINDS = (
    "step", "step_nonpresent", "tlb_deferred", "tlb_immediate", "young", "beyond", "notifier", "yield",
    "round", "pass", "active", "inactive", "isolated", "age",
)

cdef unsigned int _NR_ARRAYS = 0
while rmf_population_array(_NR_ARRAYS) != NULL:
    _NR_ARRAYS += 1

cdef dict _TLB = {"none": RMF_TLB_NONE, "x86": RMF_TLB_X86, "arm64": RMF_TLB_ARM64, "riscv": RMF_TLB_RISCV}
cdef dict _UFFD = {
    "first-entry": RMF_UFFD_FIRST_ENTRY, "per-page": RMF_UFFD_PER_PAGE, "whole-batch": RMF_UFFD_WHOLE_BATCH,
}
cdef dict _DONE = {"never": RMF_DONE_NEVER, "batched": RMF_DONE_BATCHED, "whole": RMF_DONE_WHOLE}
cdef dict _SWAP_SPLIT = {
    "always": RMF_SWAP_SPLIT_ALWAYS, "any-slot": RMF_SWAP_SPLIT_ANY_SLOT,
    "all-slots": RMF_SWAP_SPLIT_ALL_SLOTS,
}
cdef dict _MGLRU = {
    "none": RMF_MGLRU_NONE, "v6.12": RMF_MGLRU_V6_12, "v7.0": RMF_MGLRU_V7_0, "v7.2": RMF_MGLRU_V7_2,
    "v7.3": RMF_MGLRU_V7_3,
}
cdef dict _ADVICE = {"MADV_PAGEOUT": RMF_MADV_PAGEOUT, "MADV_COLD": RMF_MADV_COLD, "MADV_FREE": RMF_MADV_FREE}
cdef tuple _ROOM = ("reclaim", "madvise")
cdef dict _GUARD = {"none": RMF_GUARD_NONE, "contiguous": RMF_GUARD_CONTIGUOUS}


def isas():
    """Return the instruction sets that this processor has and the build knows, the best first."""
    cdef list found = []
    while rmf_isa_at(len(found)) != NULL:
        found.append(rmf_isa_at(len(found)).name.decode())
    return tuple(found)


def isa():
    """Return the instruction set of the fast loops: the best one, or the one that RMAPFAST_ISA names."""
    known = isas()
    wanted = os.environ.get("RMAPFAST_ISA") or known[0]
    if wanted not in known:
        raise ValueError(f"RMAPFAST_ISA: this processor and build have {', '.join(known)}; got {wanted!r}")
    return wanted


cdef const rmf_isa *_isa() except NULL:
    return rmf_isa_at(isas().index(isa()))


cdef _fill_policy(rmf_policy *p, policy):
    p.lazyfree, p.file, p.anon_swap = policy.lazyfree, policy.file, policy.anon_swap
    p.all_or_nothing, p.clip = policy.all_or_nothing, policy.clip
    p.uffd_wp = _UFFD[policy.uffd_wp]
    p.respect = (RMF_FPB_RESPECT_WRITE if policy.respect_write else 0) | (
        RMF_FPB_RESPECT_SOFT_DIRTY if policy.respect_soft_dirty else 0
    )
    p.nr_reset, p.young_batched = policy.nr_reset, policy.young == "batched"
    p.skip_batch = policy.advance != "rescan"
    p.walk_done = _DONE[policy.walk_done]
    p.mlock_at_once, p.failure_swapbacked = policy.mlock_at_once, policy.failure_swapbacked
    p.hwpoison_page0, p.mismatch_restores = policy.hwpoison_page0, policy.mismatch_restores
    p.split_ascending, p.swap_split = policy.split_order == "ascending", _SWAP_SPLIT[policy.swap_split]
    p.swap_single_empty = policy.swap_single == "empty"
    p.sharing_guess, p.dirty_flush_batch = policy.sharing == "guess", policy.dirty_flush == "batch"
    p.local_tlbi = policy.local_tlbi
    p.shmem_fallback, p.mglru = policy.shmem_fallback, _MGLRU[policy.mglru]
    p.riscv_lazyfree_split = policy.riscv_lazyfree_split
    p.rule, p.young_rule = <void *><size_t>policy.rule_address, <void *><size_t>policy.young_rule_address


cdef _fill_arch(rmf_arch *a, arch):
    a.ptrs_per_pte, a.cont_ptes, a.tlb = arch.ptrs_per_pte, arch.cont_ptes, _TLB[arch.tlb]
    a.flush_ceiling, a.max_dvm_ops, a.range_tlbi = arch.flush_ceiling, arch.max_dvm_ops, arch.range_tlbi
    a.bbml2_noabort, a.page_mapcount = arch.bbml2_noabort, arch.page_mapcount
    a.mkdirty_soft_dirty, a.invlpgb = arch.mkdirty_soft_dirty, arch.invlpgb


cdef _fill_rate(rmf_rate *rate, double value):
    rate.always = value == 1.0
    rate.below = 0 if rate.always else <uint64_t>int(value * 2.0**64)


cdef _fill_description(rmf_description *what, spec, cont_ptes=None):
    """Take a PopulationSpec, which was checked when it was made; `cont_ptes` stands in for its contpte block."""
    memset(what, 0, sizeof(what[0]))
    what.pages, what.seed, what.vpn = spec.pages, spec.seed, spec.vpn
    what.pgoff, what.pfn_base = spec.pgoff, spec.pfn_base
    what.ptrs_per_pte, what.cont_ptes = spec.ptrs_per_pte, spec.block_ptes if cont_ptes is None else cont_ptes
    what.nr_orders = len(spec.weights)
    for i, (order, weight) in enumerate(spec.weights.items()):
        what.order[i], what.weight[i] = order, weight
    what.aligned, what.anon, what.exclusive = spec.aligned, spec.anon, spec.exclusive
    what.folio_flags, what.vma_flags = spec.folio_flags, spec.vma_flags
    what.sharing, what.external = spec.sharing, spec.external
    what.rss_counter, what.every = spec.rss_counter, spec.every
    for i, name in enumerate(RATES):
        rate = getattr(spec, name)
        _fill_rate(&what.rate[i], 0.0 if isinstance(rate, str) else rate)  # holes="every:K" are in spec.every


def described_orders(spec, page=None):
    """Count the folios of each order that begin in the first `page` pages, which end with a block; default: all."""
    cdef rmf_description what
    cdef uint64_t folios[RMF_MAX_ORDER + 1]
    _fill_description(&what, spec)
    rmf_described_orders(&what, what.pages if page is None else page, folios)
    return [folios[i] for i in range(RMF_MAX_ORDER + 1)]


def described_fill(spec):
    """Count the pages at the end that do not fit the mix."""
    cdef rmf_description what
    _fill_description(&what, spec)
    return rmf_described_fill(&what)


include "_memory.pxi"
include "_rule.pxi"


cdef void *_made(dict arrays, str name, int typenum, uint64_t size, int ndim=1) except? NULL:
    """The memory of an array that is to be filled."""
    array = _checked(name, arrays[name], typenum, True, ndim)
    if cnp.PyArray_SIZE(array) < <cnp.npy_intp>size:
        raise ValueError(f"{name}: expected {size} elements or more, got {cnp.PyArray_SIZE(array)}")
    return cnp.PyArray_DATA(array)


def populate(spec, first, end, dict arrays):
    """Make the pages [first, end) of a described population. Both are borders of blocks, or the end.

    `arrays` has the arrays that struct rmf_populated names. Returns the number of folios and of those on the LRU list.
    """
    cdef rmf_description what
    cdef rmf_populated out
    cdef uint64_t a, b, pages, folios
    cdef const rmf_isa *isa = _isa()
    _fill_description(&what, spec)
    if not 0 <= first < end <= what.pages or any(at % RMF_LAYOUT_BLOCK and at != what.pages for at in (first, end)):
        raise ValueError(f"first, end: expected multiples of {RMF_LAYOUT_BLOCK} up to {what.pages}, got {first}, {end}")
    a, b, pages = first, end, end - first
    folios = rmf_described_folios(&what, b) - rmf_described_folios(&what, a)
    out.ptes = <uint64_t *>_made(arrays, "ptes", cnp.NPY_UINT64, what.sharing * pages)
    out.folio_pfn = <uint64_t *>_made(arrays, "folio_pfn", cnp.NPY_UINT64, folios)
    out.folio_index = <uint64_t *>_made(arrays, "folio_index", cnp.NPY_UINT64, folios)
    out.folio_order = <uint8_t *>_made(arrays, "folio_order", cnp.NPY_UINT8, folios)
    out.folio_flags = <uint32_t *>_made(arrays, "folio_flags", cnp.NPY_UINT32, folios)
    out.folio_refcount = <int32_t *>_made(arrays, "folio_refcount", cnp.NPY_INT32, folios)
    out.folio_mapcount = <int32_t *>_made(arrays, "folio_mapcount", cnp.NPY_INT32, folios)
    out.folio_nr_pages_mapped = <int32_t *>_made(arrays, "folio_nr_pages_mapped", cnp.NPY_INT32, folios)
    out.folio_page_base = <uint64_t *>_made(arrays, "folio_page_base", cnp.NPY_UINT64, folios)
    out.page_mapcount = <int32_t *>_made(arrays, "page_mapcount", cnp.NPY_INT32, pages)
    out.rmap_start = <uint64_t *>_made(arrays, "rmap_start", cnp.NPY_UINT64, folios + 1)
    out.rmap_vma = <uint32_t *>_made(arrays, "rmap_vma", cnp.NPY_UINT32, folios * what.sharing)
    out.mm_rss = <int64_t *>_made(arrays, "mm_rss", cnp.NPY_INT64, 4 * what.sharing, 2)
    out.lru = <uint32_t *>_made(arrays, "lru", cnp.NPY_UINT32, folios)
    with nogil:
        isa.populate(&what, a, b, &out)
    return out.nr_folios, out.nr_lru


@cython.final
cdef class Run:
    """A population under one policy on one architecture, and what was counted in it.

    The arrays of the population are changed in place. Whoever writes to them while the Run lives makes its results
    worthless, but the Run never reads or writes outside of them: it works on copies of the arrays that it trusts
    (csrc/population.h), looks at every other index when it uses it, and keeps NumPy from moving the memory. With
    `fast`, regular folios are visited many at a time; the result is the same.

    `swap` is a Swap or None. `room` says which folios may be split: "reclaim", those that memory.reclaim splits;
    "madvise", all; None, none. With room the Run works on longer copies of the arrays per folio and of the rmap, which
    arrays() returns. `max_ptes_none` is that of khugepaged; None as kernels boot. `checked` says that
    check_population() has seen these arrays, or those they are a copy of. `ask_twice` has rules of the user answer each
    call twice, and is an error where the answers differ.
    """

    cdef rmf_run *run
    cdef rmf_trace trace
    cdef rmf_reclaim reclaim
    cdef rmf_madvise madvised
    cdef list _arrays
    cdef list _pinned
    cdef dict _taken
    cdef dict _longer
    cdef bint _read_only
    cdef uint32_t nr_workers

    def __cinit__(self):
        self.run = <rmf_run *>PyMem_Calloc(1, sizeof(rmf_run))
        if self.run == NULL:
            raise MemoryError
        self._arrays = []
        self._pinned = []
        self._taken = {}
        self._longer = {}

    def __dealloc__(self):
        free(self.trace.entries)
        rmf_madvise_free(&self.madvised)
        rmf_reclaim_free(&self.reclaim)
        if self.run != NULL:
            rmf_memo_free(self.run.memo)
            rmf_swap_map_free(self.run)
            rmf_deferred_free(self.run)
        PyMem_Free(self.run)

    def __init__(self, population, policy, arch, *, guard="none", trace=False, swap=None, fast=False, room=None,
                 max_ptes_none=None, checked=False, ask_twice=False):
        if self._arrays:
            raise ValueError("a Run is made once; make a new one")
        if guard not in _GUARD:
            raise ValueError(f"guard: expected one of {', '.join(_GUARD)}, got {guard!r}")
        if room is not None and room not in _ROOM:
            raise ValueError(f"room: expected one of {', '.join(_ROOM)} or None, got {room!r}")
        self.run.guard = _GUARD[guard]
        self.run.ask_twice = ask_twice
        _fill_policy(&self.run.policy, policy)
        self._set_population(population, arch, False, checked)
        self._set_swap(swap)
        self.run.max_ptes_none = population.ptrs_per_pte - 1 if max_ptes_none is None else max_ptes_none
        if room is not None:
            self._make_room(RMF_SPLITTER_MADVISE if room == "madvise" else RMF_SPLITTER_RECLAIM)
        if trace:
            self.trace.grows = True
            self.run.trace = &self.trace
        if fast:
            self.run.memo = rmf_memo_new(_isa())
            if self.run.memo == NULL:
                raise MemoryError

    cdef _set_swap(self, swap):
        cdef const uint8_t *slots
        cdef uint64_t nr
        cdef rmf_fault fault
        cdef int error
        if swap is None:
            return
        if swap.free is None:
            self.run.swap_end, self.run.swap_fragmented = swap.free_slots, swap.fragmented
            return
        free_slots = np.array(swap.free, order="C").view(np.uint8)  # a copy: the array is the user's
        slots, nr = <const uint8_t *>cnp.PyArray_DATA(free_slots), len(free_slots)
        with nogil:
            error = rmf_swap_map_set(self.run, slots, nr, &fault)
        _raise_error(error, &fault)

    cdef _lengthen(self, const rmf_array *one, uint64_t folios, uint64_t pairs):
        """Work on a copy of an array that is long enough, if it is an array per folio or of the rmap."""
        cdef char *pop = <char *>&self.run.pop
        cdef uint64_t *nr = <uint64_t *>(pop + one.nr)
        if nr != &self.run.pop.nr_folios and nr != &self.run.pop.nr_rmap:
            return
        name = one.name.decode()
        old = self._taken[name]
        array = np.empty((folios if nr == &self.run.pop.nr_folios else pairs) + one.more, old.dtype)
        array[: len(old)] = old
        self._longer[name] = array
        (<void **>(pop + one.at))[0] = cnp.PyArray_DATA(array)

    cdef _make_room(self, rmf_splitter splitter):
        """Give the arrays room for the pieces of every folio that may be split."""
        cdef rmf_fault fault
        cdef int error
        cdef rmf_population *pop = &self.run.pop
        cdef uint64_t folios, pairs
        cdef unsigned int i
        with nogil:
            error = rmf_split_room(self.run, splitter, &folios, &pairs, &fault)
        _raise_error(error, &fault)
        if not folios:
            return
        folios += pop.nr_folios
        pairs += pop.nr_rmap
        if folios > <uint64_t>0xffffffff:
            raise ValueError(f"population.folio_pfn: at most 2^32 - 1 folios, got {folios} with the pieces of splits")
        for i in range(_NR_ARRAYS):
            self._lengthen(rmf_population_array(i), folios, pairs)
        self._check()  # the copies: the arrays may have changed since they were checked
        pieces = np.zeros(pop.nr_folios, np.uint64)
        self._arrays.append(pieces)
        self.run.pieces, self.run.nr_given = <rmf_pieces *>cnp.PyArray_DATA(pieces), pop.nr_folios
        pop.folio_capacity, pop.rmap_capacity = folios, pairs

    cdef _take(self, p, const rmf_array *one, set kinds, set written):
        """Take an array of a population. The first of a kind says how many elements the others must have."""
        cdef char *pop = <char *>&self.run.pop
        cdef uint64_t *nr = <uint64_t *>(pop + one.nr)
        cdef uint64_t got
        name = one.name.decode()
        typenum = np.dtype(chr(one.type)).num
        ndim = 2 if one.times > 1 else 1
        if one.use == RMF_ARRAY_WRITTEN:
            written.add(name)
        array = _checked("population." + name, p.held(name), typenum,
                         one.use == RMF_ARRAY_WRITTEN and not self._read_only, ndim)
        got = cnp.PyArray_SIZE(array)
        if one.nr not in kinds:
            kinds.add(one.nr)
            nr[0] = got
        elif got != nr[0] * one.times + one.more:
            raise ValueError(f"population.{name}: expected {nr[0] * one.times + one.more} elements, got {got}")
        self._taken[name] = array
        _pin(self._pinned, array)
        if one.use == RMF_ARRAY_TRUSTED and not self._read_only:
            array = array.copy()
        self._arrays.append(array)
        (<void **>(pop + one.at))[0] = cnp.PyArray_DATA(array)

    cdef _check(self, bint trusted_only=False):
        cdef rmf_fault fault
        cdef int error
        with nogil:
            if trusted_only:
                error = rmf_population_check_trusted(&self.run.pop, &fault)
            else:
                error = rmf_population_check(&self.run.pop, &fault)
        _raise_error(error, &fault)

    cdef _set_population(self, p, arch, bint read_only, bint checked):
        """Take the arrays of a population that suits the architecture. `read_only`: nothing will be run."""
        cdef rmf_population *pop = &self.run.pop
        cdef unsigned int i
        self._read_only = read_only
        if not read_only:
            p.arrays_change()
        _fill_arch(&self.run.arch, arch)
        if not 2 <= operator.index(p.ptrs_per_pte) <= 8192:
            raise ValueError(f"population.ptrs_per_pte: expected a power of two from 2 to 8192, got {p.ptrs_per_pte}")
        pop.ptrs_per_pte = p.ptrs_per_pte
        names = ["lru_inactive", "lru_active"]
        lists = [_checked("population." + name, p.held(name), cnp.NPY_UINT32, False) for name in names]
        kinds, written = set(), set()
        for i in range(_NR_ARRAYS):
            self._take(p, rmf_population_array(i), kinds, written)
        _check_apart([*self._taken, *names], [*self._taken.values(), *lists], written)
        if arch.ptrs_per_pte != p.ptrs_per_pte:
            raise ValueError(
                f"arch: {arch.name} has {arch.ptrs_per_pte} PTEs per table, the population was made for"
                f" {p.ptrs_per_pte}"
            )
        # the copies: the arrays may have changed since check_population() saw them
        self._check(trusted_only=checked)

    cdef _check_lists(self, p):
        """Raise ValueError unless each folio on the LRU lists exists and is there once."""
        lists = p.held("lru_inactive"), p.held("lru_active")
        for name, array in zip(("lru_inactive", "lru_active"), lists, strict=True):
            _checked("population." + name, array, cnp.NPY_UINT32, False)
            _pin(self._pinned, array)
        cdef const uint32_t *inactive = <uint32_t *>cnp.PyArray_DATA(lists[0])
        cdef const uint32_t *active = <uint32_t *>cnp.PyArray_DATA(lists[1])
        cdef uint64_t nr_inactive = len(lists[0]), nr_active = len(lists[1])
        cdef rmf_fault fault
        cdef int error
        with nogil:
            error = rmf_lru_check(&self.run.pop, inactive, nr_inactive, active, nr_active, &fault)
        _raise_error(error, &fault)

    cdef _check_pair(self, folio, vma):
        for name, index in (("folio", folio), ("vma", vma)):
            if not hasattr(index, "__index__"):
                raise TypeError(f"{name}: expected a whole number, got {index!r}")
        if not 0 <= folio < self.run.pop.nr_folios:
            raise ValueError(f"folio: expected 0 to {self.run.pop.nr_folios - 1}, got {folio}")
        if not 0 <= vma < self.run.pop.nr_vmas:
            raise ValueError(f"vma: expected 0 to {self.run.pop.nr_vmas - 1}, got {vma}")

    def try_to_unmap_one(self, folio, vma, ttu):
        """Call rmf_try_to_unmap_one(); ttu is a mask of TTU_FLAGS."""
        self._check_pair(folio, vma)
        cdef uint64_t f = folio
        cdef uint32_t v = vma, t = ttu
        cdef bint ret
        with nogil:
            ret = rmf_try_to_unmap_one(self.run, f, v, t)
        _raise_bad_rule(self.run, "")
        return bool(ret)

    def folio_referenced_one(self, folio, vma):
        """Call rmf_folio_referenced_one(); returns (ret, mapcount_left, referenced, vm_flags)."""
        self._check_pair(folio, vma)
        cdef uint64_t f = folio
        cdef uint32_t v = vma
        cdef rmf_reference reference
        cdef bint ret
        reference.mapcount = self.run.pop.folio_mapcount[f]
        reference.referenced = 0
        reference.vm_flags = 0
        with nogil:
            ret = rmf_folio_referenced_one(self.run, f, v, &reference)
        _raise_bad_rule(self.run, "")
        return bool(ret), reference.mapcount, reference.referenced, reference.vm_flags

    def folio_referenced(self, folio):
        """Call rmf_folio_referenced(), after reclaim_start() on its lists; returns (referenced, vm_flags)."""
        self._check_pair(folio, 0)
        cdef uint64_t f = folio
        cdef int64_t referenced
        cdef uint32_t vm_flags
        with nogil:
            referenced = rmf_folio_referenced(self.run, f, &vm_flags)
        _raise_bad_rule(self.run, "")
        return referenced, vm_flags

    def page_vma_mapped_walk(self, folio, vma, *, sync=False, migration=False):
        """Call rmf_walk_folio(): walk to the end; each yield goes into the trace."""
        self._check_pair(folio, vma)
        cdef uint64_t f = folio
        cdef uint32_t v = vma, flags = (RMF_PVMW_SYNC if sync else 0) | (RMF_PVMW_MIGRATION if migration else 0)
        with nogil:
            rmf_walk_folio(self.run, f, v, flags)

    def shrink_groups(self, folios, group_start, first, budget):
        """Call rmf_shrink_groups() from group `first` on; returns the group to go on with.

        Group i is folios[group_start[i]:group_start[i + 1]]; a folio is in one group at most.
        """
        _checked("folios", folios, cnp.NPY_UINT32, False)
        _checked("group_start", group_start, cnp.NPY_UINT64, False)
        if len(group_start) == 0:
            raise ValueError("group_start: expected at least the offset 0, got none")
        cdef const uint32_t *f = <uint32_t *>cnp.PyArray_DATA(folios)
        cdef const uint64_t *g = <uint64_t *>cnp.PyArray_DATA(group_start)
        cdef uint64_t n = len(group_start) - 1, at = first, b = budget, nr = len(folios)
        cdef rmf_fault fault
        cdef int error
        with nogil:
            error = rmf_groups_check(self.run, f, nr, g, n, &fault)
            if not error:
                at = rmf_shrink_groups(self.run, f, g, at, n, b)
        _raise_error(error, &fault)
        self._raise_run_error()
        return at

    cdef _check_rings(self, inactive, nr_inactive, active, nr_active):
        for name, array, n in (("lru_inactive", inactive, nr_inactive), ("lru_active", active, nr_active)):
            _checked(name, array, cnp.NPY_UINT32, True)
            if not 0 <= n <= len(array) == self.folio_capacity:
                raise ValueError(f"population.{name}: {n} entries for {len(array)} folios")
            self._arrays.append(array)

    cdef int _raise_run_error(self) except -1:
        if self.run.error == RMF_RUN_NO_MEMORY:
            raise MemoryError
        _raise_bad_rule(self.run, "")
        if self.run.error:
            raise ValueError("room: a folio was to be split, and the arrays have no room for its pieces")
        return 0

    def reclaim_start(self, inactive, nr_inactive, active, nr_active, target_pages, *, lru_gen=None, page_shift=None):
        """Call rmf_reclaim_start(). Both arrays have `folio_capacity` elements; their first nr_* are the lists.

        With `lru_gen` (max_seq and the min_seq of anon and file) they are in generations. With `page_shift` the
        statistics of the memory cgroup show the lists.
        """
        cdef rmf_fault fault
        cdef int error
        cdef rmf_lru_options options
        memset(&options, 0, sizeof(options))
        options.mglru, options.stats_flushed = lru_gen is not None, page_shift is not None
        if lru_gen is not None:
            options.max_seq, options.min_seq[0], options.min_seq[1] = lru_gen
        if page_shift is not None:
            options.page_shift = page_shift
        if self.reclaim.run != NULL:
            raise ValueError("reclaim_start() is called once")
        self._check_rings(inactive, nr_inactive, active, nr_active)
        cdef uint32_t *i = <uint32_t *>cnp.PyArray_DATA(inactive)
        cdef uint32_t *a = <uint32_t *>cnp.PyArray_DATA(active)
        cdef uint64_t nr_i = nr_inactive, nr_a = nr_active, target = target_pages
        with nogil:
            error = rmf_deferred_set(self.run)
            if not error:
                error = rmf_reclaim_start(&self.reclaim, self.run, i, nr_i, a, nr_a, target, &options, &fault)
        _raise_error(error, &fault)

    def reclaim_step(self, budget):
        """Call rmf_reclaim_step(); True while there is more to do."""
        cdef uint64_t b = budget
        cdef bint more
        if self.reclaim.run == NULL:
            raise ValueError("reclaim_step() comes after reclaim_start()")
        with nogil:
            more = rmf_reclaim_step(&self.reclaim, b)
        self._raise_run_error()
        return bool(more)

    def share_out(self, workers, pages):
        """Call rmf_reclaim_share_out(); returns why visits may depend on each other, or None if they do not.

        Then each reclaim_step() that leaves `ahead_is_due` is followed by ahead_begin(), ahead_visit(i) for each of the
        workers 0 to `workers` - 1, at the same time or not, and ahead_end().
        """
        cdef rmf_fault fault
        cdef int error
        cdef uint32_t nr = workers
        cdef uint64_t least = pages
        if self.reclaim.run == NULL or self.reclaim.ahead != NULL:
            raise ValueError("share_out() comes once, after reclaim_start()")
        with nogil:
            error = rmf_reclaim_share_out(&self.reclaim, nr, least, &fault)
        if error == RMF_EINVAL:
            return fault.rule.decode() if fault.array == NULL else f"folio {fault.index} {fault.rule.decode()}"
        _raise_error(error, &fault)
        self.nr_workers = nr
        return None

    @property
    def ahead_is_due(self):
        """Whether visits are to be made ahead before the next step."""
        return rmf_reclaim_ahead_is_due(&self.reclaim)

    def ahead_begin(self):
        """Call rmf_reclaim_begin_ahead()."""
        if not rmf_reclaim_ahead_is_due(&self.reclaim):
            raise ValueError("ahead_begin() comes when ahead_is_due says so")
        with nogil:
            rmf_reclaim_begin_ahead(&self.reclaim)

    def ahead_visit(self, worker):
        """Call rmf_ahead_visit()."""
        cdef uint32_t number = worker
        if number >= self.nr_workers:
            raise ValueError(f"worker: expected 0 to {self.nr_workers - 1}, got {worker}")
        with nogil:
            rmf_ahead_visit(self.reclaim.ahead, number)

    def ahead_end(self):
        """Call rmf_ahead_end()."""
        if self.nr_workers == 0:
            raise ValueError("ahead_end() comes after share_out()")
        with nogil:
            rmf_ahead_end(self.reclaim.ahead, self.run)
        self._raise_run_error()

    def ahead_finish(self):
        """After an interrupt: make the visits that were begun ahead, and let the loop come to all of them."""
        if self.nr_workers == 0:
            return
        with nogil:
            rmf_ahead_visit(self.reclaim.ahead, 0)
            rmf_ahead_end(self.reclaim.ahead, self.run)
            while not self.run.error and rmf_ahead_left(self.reclaim.ahead):
                rmf_reclaim_step(&self.reclaim, 1)

    def reclaim_finish(self):
        """Write the generations to the arrays of reclaim_start(); returns their (max_seq, min_seq of anon, of file)."""
        rmf_reclaim_store_lists(&self.reclaim)
        return self.reclaim.gen.max_seq, self.reclaim.gen.min_seq[0], self.reclaim.gen.min_seq[1]

    def madvise_start(self, inactive, nr_inactive, active, nr_active):
        """Call rmf_madvise_start(). The lists are those of reclaim_start()."""
        cdef rmf_fault fault
        cdef int error
        if self.madvised.run != NULL:
            raise ValueError("madvise_start() is called once; any number of madvise() may follow")
        self._check_rings(inactive, nr_inactive, active, nr_active)
        cdef uint32_t *i = <uint32_t *>cnp.PyArray_DATA(inactive)
        cdef uint32_t *a = <uint32_t *>cnp.PyArray_DATA(active)
        cdef uint64_t nr_i = nr_inactive, nr_a = nr_active
        with nogil:
            error = rmf_madvise_start(&self.madvised, self.run, i, nr_i, a, nr_a, &fault)
            if error:
                rmf_madvise_free(&self.madvised)
        _raise_error(error, &fault)

    def madvise(self, action, mm, start, end, owner=True):
        """Begin a call for the pages [start, end) of an mm; madvise_step() does it."""
        cdef rmf_fault fault
        cdef int error
        if self.madvised.run == NULL:
            raise ValueError("madvise() comes after madvise_start()")
        if action not in _ADVICE:
            raise ValueError(f"action: expected one of {', '.join(_ADVICE)}, got {action!r}")
        error = rmf_madvise_call(&self.madvised, _ADVICE[action], mm, start, end, owner, &fault)
        _raise_error(error, &fault)

    def madvise_step(self, budget):
        """Call rmf_madvise_step(); True while there is more to do."""
        cdef uint64_t b = budget
        cdef bint more
        if self.madvised.run == NULL:
            raise ValueError("madvise_step() comes after madvise()")
        with nogil:
            more = rmf_madvise_step(&self.madvised, b)
        self._raise_run_error()
        return bool(more)

    @property
    def madvise_ret(self):
        """The result of the last call: 0, -12 (ENOMEM) or -22 (EINVAL)."""
        return self.madvised.ret

    def madvise_finish(self):
        """Write the LRU lists as they are now to the arrays of madvise_start(); `lists` says how long they are."""
        cdef int error
        if self.madvised.run == NULL:
            raise ValueError("madvise_finish() comes after madvise_start()")
        with nogil:
            error = rmf_madvise_lists(&self.madvised)
        _raise_error(error, NULL)

    @property
    def folio_capacity(self):
        """How many folios there may be at the end: the length of the arrays of LRU lists."""
        return max(self.run.pop.nr_folios, self.run.pop.folio_capacity)

    def arrays(self):
        """The arrays that the Run works on in place of the population's, by name; {} without room."""
        cdef uint64_t n = self.run.pop.nr_folios, pairs = self.run.pop.nr_rmap
        length = {"rmap_start": n + 1, "rmap_vma": pairs}
        return {name: array[: length.get(name, n)] for name, array in self._longer.items()}

    @property
    def deferred(self):
        """The folios on the deferred-split queue, as a new uint32 array."""
        queue = np.empty(self.run.deferred.n, np.uint32)
        rmf_deferred_list(self.run, <uint32_t *>cnp.PyArray_DATA(queue))
        return queue

    @property
    def swap_used(self):
        """Swap slots in use now less those at the start."""
        return self.run.swap_used

    @property
    def freed_pages(self):
        return self.madvised.freed if self.madvised.run != NULL else self.reclaim.freed

    @property
    def lists(self):
        """(head, n) of the inactive and of the active ring."""
        if self.madvised.run != NULL:
            return (0, self.madvised.inactive.n), (0, self.madvised.active.n)
        return (self.reclaim.inactive.head, self.reclaim.inactive.n), (self.reclaim.active.head, self.reclaim.active.n)

    @property
    def events(self):
        """Counts in the order of EVENT_NAMES, as a new uint64 array."""
        return _counts(self.run.ev)

    @property
    def referenced_events(self):
        """The part of each count that folio_referenced_one() counted, as a new uint64 array."""
        return _counts(self.run.referenced_ev)

    @property
    def batch_lengths(self):
        """How many steps cleared how many entries, as {entries: steps}."""
        return _lengths(self.run.batch_lengths)

    @property
    def isolated(self):
        """How many isolations took how many base pages, as {pages: isolations}."""
        return _lengths(self.run.isolated, RMF_MAX_ISOLATED_PAGES)

    @property
    def looked_around(self):
        """How many look-arounds tested how many entries, as {entries: look-arounds}."""
        return _lengths(self.run.looked_around)

    @property
    def writable(self):
        return bool(self.run.tlb_writable)

    @property
    def mapped_stat(self):
        return self.run.mapped_stat

    @property
    def trace_entries(self):
        """Recorded steps as (index into TRACE_KINDS, a, b) (csrc/run.h)."""
        cdef uint64_t nr = self.trace.n
        if nr > self.trace.capacity:
            raise MemoryError(f"{nr} steps were taken, there was room for {self.trace.capacity}")
        entries = np.empty((nr, 3), np.int64)
        if nr:
            memcpy(cnp.PyArray_DATA(entries), self.trace.entries, nr * sizeof(rmf_trace_entry))
        return list(map(tuple, entries.tolist()))


def check_population(population, arch):
    """Raise TypeError or ValueError, naming the array, unless all arrays fit together and suit the architecture.

    Both LRU lists are checked too. Read-only arrays will do.
    """
    cdef Run run = Run.__new__(Run)
    run._set_population(population, arch, True, False)
    run._check_lists(population)


cdef rmf_run *_scan = <rmf_run *>PyMem_Calloc(1, sizeof(rmf_run))
if _scan == NULL:
    raise MemoryError


def folio_pte_batch_flags(
    cnp.ndarray ptes not None, Py_ssize_t start, uint64_t max_nr, uint64_t folio_pfn, uint64_t folio_pages,
    uint32_t flags, uint32_t cont_ptes, bint mkdirty_soft_dirty
):
    """Call rmf_folio_pte_batch_flags() on an array that is one page table; returns (nr, merged pte, reads, later bits).

    The GIL is kept: a scan of a page table is shorter than giving it back, and the scratch run is shared.
    """
    if not cnp.PyArray_CheckExact(ptes) or cnp.PyArray_TYPE(ptes) != cnp.NPY_UINT64 or (
        not cnp.PyArray_ISCARRAY_RO(ptes) or cnp.PyArray_NDIM(ptes) != 1
    ):
        _checked("ptes", ptes, cnp.NPY_UINT64, False)
    cdef uint64_t length = cnp.PyArray_SIZE(ptes), pte, later, nr
    cdef rmf_slots slots
    if not 0 <= start < <Py_ssize_t>length:
        raise ValueError(f"start: expected 0 to {length - 1}, got {start}")
    if max_nr < 1:
        raise ValueError("max_nr: expected 1 or more, got 0")
    if folio_pages < 1 or folio_pages > RMF_MAX_FOLIO_PAGES:
        raise ValueError(f"folio_pages: expected 1 to {RMF_MAX_FOLIO_PAGES}, got {folio_pages}")
    if cont_ptes < 1 or cont_ptes & (cont_ptes - 1):
        raise ValueError(f"cont_ptes: expected a power of two, got {cont_ptes}")
    _scan.arch.cont_ptes = cont_ptes
    _scan.arch.mkdirty_soft_dirty = mkdirty_soft_dirty
    _scan.ev[<Py_ssize_t>RMF_BATCH_PTE_READS] = 0
    slots = rmf_slots_of_table(_scan, <uint64_t *>cnp.PyArray_DATA(ptes), length)
    pte = rmf_ptep_get(&slots, start)
    if not pte & RMF_PTE_PRESENT or (pte >> RMF_PFN_SHIFT) - folio_pfn >= folio_pages:
        raise ValueError(f"ptes[{start}]: expected a present entry of the folio at PFN {folio_pfn:#x}, got {pte:#x}")
    nr = rmf_folio_pte_batch_flags(&slots, start, &pte, max_nr, folio_pfn, folio_pages, flags, &later)
    return nr, pte, _scan.ev[<Py_ssize_t>RMF_BATCH_PTE_READS], later


include "_check.pxi"


cdef _array(const uint64_t *counts, Py_ssize_t nr):
    array = np.empty(nr, np.uint64)
    memcpy(cnp.PyArray_DATA(array), counts, nr * sizeof(uint64_t))
    return array


cdef _counts(const uint64_t *counts):
    return _array(counts, RMF_NR_EVENTS)


cdef _lengths(const uint64_t *lengths, longest=RMF_MAX_FOLIO_PAGES):
    array = _array(lengths, longest + 1)
    used = np.flatnonzero(array)
    return dict(zip(used.tolist(), array[used].tolist(), strict=True))


include "_stream.pxi"
