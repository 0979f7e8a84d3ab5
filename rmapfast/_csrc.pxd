# cython: language_level=3
"""What _core.pyx uses of csrc, header by header. The headers say what each name means."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "pte.h" nogil:
    enum:
        RMF_PTE_PRESENT
        RMF_PTE_WRITE
        RMF_PTE_YOUNG
        RMF_PTE_DIRTY
        RMF_PTE_SOFT_DIRTY
        RMF_PTE_UFFD_WP
        RMF_PTE_SPECIAL
        RMF_PTE_UNUSED
        RMF_PTE_CONT
        RMF_PTE_PROT
        RMF_PTE_EXCLUSIVE
        RMF_PFN_SHIFT
        RMF_KIND_SHIFT
        RMF_KIND_MASK
    unsigned long long rmf_mk_marker()
    const uint64_t RMF_ZERO_PFN

cdef extern from "error.h" nogil:
    enum:
        RMF_ENOMEM
        RMF_EINVAL
    struct rmf_fault:
        const char *array
        const char *rule
        uint64_t index

cdef extern from "population.h" nogil:
    enum:
        RMF_VMA_LOCKED
        RMF_VMA_UFFD_WP
        RMF_VMA_UFFD_ARMED
        RMF_VMA_DROPPABLE
        RMF_VMA_EXEC
        RMF_VMA_SHARED
        RMF_VMA_ANON
        RMF_TABLE_PTE
        RMF_TABLE_ABSENT
        RMF_TABLE_PMD_LEAF
        RMF_FOLIO_ANON
        RMF_FOLIO_SWAPBACKED
        RMF_FOLIO_SWAPCACHE
        RMF_FOLIO_DIRTY
        RMF_FOLIO_MLOCKED
        RMF_FOLIO_REFERENCED
        RMF_FOLIO_ACTIVE
        RMF_FOLIO_PINNED
        RMF_FOLIO_UNEVICTABLE
        RMF_FOLIO_YOUNG
        RMF_FOLIO_PARTIALLY_MAPPED
        RMF_FOLIO_LOCKED
        RMF_FOLIO_EXCLUSIVE
        RMF_FOLIO_PAGE_MAPCOUNTS
        RMF_FOLIO_PAGE_FLAGS
        RMF_FOLIO_FREED
        RMF_FOLIO_MAYBE_SHARED
        RMF_FOLIO_WORKINGSET
        RMF_FOLIO_REFS_SHIFT
        RMF_FOLIO_REFS_MASK
        RMF_FOLIO_GEN_SHIFT
        RMF_FOLIO_GEN_MASK
        RMF_PAGE_EXCLUSIVE
        RMF_PAGE_HWPOISON
        RMF_PAGE_SWAP_DUP_FAIL
        RMF_PAGE_ZERO
        RMF_MM_OUTSIDE_MEMCG
        RMF_MAX_ORDER
        RMF_MAX_FOLIO_PAGES
        RMF_NR_MM_COUNTERS

    struct rmf_population:
        uint32_t ptrs_per_pte
        uint64_t *ptes
        uint64_t nr_ptes
        uint64_t nr_vmas
        uint8_t *folio_order
        uint32_t *folio_flags
        int32_t *folio_mapcount
        int32_t *folio_entire_mapcount
        uint64_t nr_folios
        uint64_t folio_capacity
        uint64_t nr_rmap
        uint64_t rmap_capacity

    enum rmf_array_use:
        RMF_ARRAY_WRITTEN
        RMF_ARRAY_TRUSTED
    struct rmf_array:
        const char *name
        char type
        rmf_array_use use
        size_t at
        size_t nr
        uint32_t times
        uint32_t more

    const rmf_array *rmf_population_array(unsigned int i)
    int rmf_population_check(const rmf_population *pop, rmf_fault *fault)
    int rmf_population_check_trusted(const rmf_population *pop, rmf_fault *fault)
    int rmf_lru_check(const rmf_population *pop, const uint32_t *inactive, uint64_t nr_inactive, const uint32_t *active,
                      uint64_t nr_active, rmf_fault *fault)

cdef extern from "census.h" nogil:
    struct rmf_census:
        uint64_t *folios_of_order
        uint64_t *folios_of_kind
        uint32_t flags
        bint entire
        uint64_t ptes_present
    void rmf_population_census(const rmf_population *pop, rmf_census *census)
    uint64_t rmf_listed_pages(const rmf_population *pop, const uint32_t *folios, uint64_t nr)

cdef extern from "arena.h":
    void *rmf_arena_take(size_t size, size_t *got)
    void rmf_arena_give(void *block, size_t got)
    void *rmf_zeroes_take(size_t size)
    void rmf_zeroes_give(void *zeroes, size_t size)

cdef extern from "populate.h" nogil:
    enum:
        RMF_LAYOUT_BLOCK
    struct rmf_rate:
        uint64_t below
        bint always
    enum rmf_rate_of:
        RMF_NR_RATES
    const char *rmf_rate_name(rmf_rate_of rate)
    struct rmf_description:
        uint64_t pages
        uint64_t seed
        uint64_t vpn
        uint64_t pgoff
        uint64_t pfn_base
        uint32_t ptrs_per_pte
        uint32_t cont_ptes
        uint32_t nr_orders
        uint8_t *order
        uint64_t *weight
        bint aligned
        bint anon
        bint exclusive
        uint32_t folio_flags
        uint32_t vma_flags
        uint32_t sharing
        int32_t external
        uint32_t rss_counter
        uint64_t every
        rmf_rate rate[9]
    struct rmf_populated:
        uint64_t *ptes
        uint64_t *folio_pfn
        uint64_t *folio_index
        uint8_t *folio_order
        uint32_t *folio_flags
        int32_t *folio_refcount
        int32_t *folio_mapcount
        int32_t *folio_nr_pages_mapped
        uint64_t *folio_page_base
        int32_t *page_mapcount
        uint64_t *rmap_start
        uint32_t *rmap_vma
        int64_t *mm_rss
        uint32_t *lru
        uint64_t nr_folios
        uint64_t nr_lru
    uint64_t rmf_described_folios(const rmf_description *what, uint64_t page)
    void rmf_described_orders(const rmf_description *what, uint64_t page, uint64_t *folios)
    uint64_t rmf_described_fill(const rmf_description *what)

cdef extern from "arch.h" nogil:
    enum rmf_tlb_kind:
        RMF_TLB_NONE
        RMF_TLB_X86
        RMF_TLB_ARM64
        RMF_TLB_RISCV
    struct rmf_arch:
        uint32_t ptrs_per_pte
        uint32_t cont_ptes
        rmf_tlb_kind tlb
        uint32_t flush_ceiling
        uint32_t max_dvm_ops
        bint range_tlbi
        bint bbml2_noabort
        bint page_mapcount
        bint mkdirty_soft_dirty
        bint invlpgb

cdef extern from "policy.h" nogil:
    enum rmf_uffd_rule:
        RMF_UFFD_FIRST_ENTRY
        RMF_UFFD_PER_PAGE
        RMF_UFFD_WHOLE_BATCH
    enum rmf_walk_done_rule:
        RMF_DONE_NEVER
        RMF_DONE_BATCHED
        RMF_DONE_WHOLE
    enum rmf_swap_split_rule:
        RMF_SWAP_SPLIT_ALWAYS
        RMF_SWAP_SPLIT_ANY_SLOT
        RMF_SWAP_SPLIT_ALL_SLOTS
    enum rmf_mglru_rule:
        RMF_MGLRU_NONE
        RMF_MGLRU_V6_12
        RMF_MGLRU_V7_0
        RMF_MGLRU_V7_2
        RMF_MGLRU_V7_3
    struct rmf_policy:
        bint lazyfree
        bint file
        bint anon_swap
        bint all_or_nothing
        bint clip
        rmf_uffd_rule uffd_wp
        uint32_t respect
        bint nr_reset
        bint young_batched
        bint skip_batch
        rmf_walk_done_rule walk_done
        bint mlock_at_once
        bint failure_swapbacked
        bint hwpoison_page0
        bint mismatch_restores
        bint split_ascending
        rmf_swap_split_rule swap_split
        bint swap_single_empty
        bint sharing_guess
        bint dirty_flush_batch
        bint local_tlbi
        bint shmem_fallback
        rmf_mglru_rule mglru
        bint riscv_lazyfree_split
        void *rule
        void *young_rule

cdef extern from "events.h" nogil:
    enum rmf_event:
        RMF_BATCH_PTE_READS
        RMF_NR_EVENTS
    enum rmf_component:
        RMF_NR_COMPONENTS
    const char *rmf_event_name(rmf_event event)
    const char *rmf_event_description(rmf_event event)
    rmf_component rmf_event_component(rmf_event event)
    bint rmf_event_in_reference_check(rmf_event event)
    const char *rmf_component_name(rmf_component component)

cdef extern from "isa.h" nogil:
    struct rmf_memo:
        pass
    ctypedef void rmf_populate(const rmf_description *what, uint64_t first, uint64_t end, rmf_populated *out)
    struct rmf_isa:
        const char *name
        rmf_populate *populate
    const rmf_isa *rmf_isa_at "rmf_isa"(unsigned int n)
    rmf_memo *rmf_memo_new(const rmf_isa *isa)
    void rmf_memo_free(rmf_memo *memo)

cdef extern from "run.h" nogil:
    enum:
        RMF_MAX_ISOLATED_PAGES
    enum rmf_guard:
        RMF_GUARD_NONE
        RMF_GUARD_CONTIGUOUS
    struct rmf_trace_entry:
        int64_t kind
        int64_t a
        int64_t b
    struct rmf_trace:
        rmf_trace_entry *entries
        uint64_t capacity
        uint64_t n
        bint grows
    struct rmf_pieces:
        pass
    struct rmf_deferred:
        uint64_t n
    enum rmf_run_error:
        RMF_RUN_OK
        RMF_RUN_NO_MEMORY
        RMF_RUN_NO_ROOM
        RMF_RUN_BAD_RULE
    struct rmf_bad_rule:
        uint64_t folio
        uint64_t vpn
        uint32_t nr
        uint32_t again
        uint32_t most
        bint young
    struct rmf_run:
        rmf_population pop
        rmf_arch arch
        rmf_policy policy
        rmf_guard guard
        rmf_trace *trace
        rmf_memo *memo
        uint64_t *ev
        uint64_t *referenced_ev
        uint64_t *batch_lengths
        uint64_t *looked_around
        uint64_t *isolated
        int64_t mapped_stat
        bint flush_required
        bint tlb_writable
        uint64_t tlb_cpumask
        uint64_t swap_next
        uint64_t swap_end
        bint swap_fragmented
        int64_t swap_used
        uint32_t max_ptes_none
        rmf_pieces *pieces
        uint64_t nr_given
        rmf_deferred deferred
        rmf_run_error error
        rmf_bad_rule bad_rule
        bint ask_twice

cdef extern from "swap.h" nogil:
    int rmf_swap_map_set(rmf_run *run, const uint8_t *free_slots, uint64_t nr_slots, rmf_fault *fault)
    void rmf_swap_map_free(rmf_run *run)

cdef extern from "split.h" nogil:
    enum rmf_splitter:
        RMF_SPLITTER_RECLAIM
        RMF_SPLITTER_MADVISE
    int rmf_split_room(const rmf_run *run, rmf_splitter splitter, uint64_t *folios, uint64_t *pairs, rmf_fault *fault)

cdef extern from "deferred.h" nogil:
    int rmf_deferred_set(rmf_run *run)
    void rmf_deferred_free(rmf_run *run)
    void rmf_deferred_list(const rmf_run *run, uint32_t *out)

cdef extern from "slots.h" nogil:
    struct rmf_slots:
        pass
    rmf_slots rmf_slots_of_table(rmf_run *run, uint64_t *ptes, uint64_t nr)

cdef extern from "contpte.h" nogil:
    uint64_t rmf_ptep_get(const rmf_slots *slots, uint64_t vpn)

cdef extern from "folio_batch.h" nogil:
    enum rmf_fpb_flag:
        RMF_FPB_RESPECT_DIRTY
        RMF_FPB_RESPECT_SOFT_DIRTY
        RMF_FPB_RESPECT_WRITE
        RMF_FPB_MERGE_WRITE
        RMF_FPB_MERGE_YOUNG_DIRTY
        RMF_FPB_UNCUT
    uint64_t rmf_folio_pte_batch_flags(const rmf_slots *slots, uint64_t vpn, uint64_t *pte, uint64_t max_nr,
                                       uint64_t folio_pfn, uint64_t folio_nr, uint32_t flags, uint64_t *later)

cdef extern from "walk.h" nogil:
    enum rmf_pvmw_flag:
        RMF_PVMW_SYNC
        RMF_PVMW_MIGRATION
    void rmf_walk_folio(rmf_run *run, uint64_t folio, uint32_t vma, uint32_t flags)

cdef extern from "unmap.h" nogil:
    enum rmf_ttu_flag:
        RMF_TTU_BATCH_FLUSH
        RMF_TTU_SYNC
        RMF_TTU_IGNORE_MLOCK
        RMF_TTU_HWPOISON
        RMF_TTU_SPLIT_HUGE_PMD
    bint rmf_try_to_unmap_one(rmf_run *run, uint64_t folio, uint32_t vma, uint32_t ttu)

cdef extern from "referenced.h" nogil:
    struct rmf_reference:
        int64_t mapcount
        int64_t referenced
        uint32_t vm_flags
    bint rmf_folio_referenced_one(rmf_run *run, uint64_t folio, uint32_t vma, rmf_reference *reference)

cdef extern from "rmap.h" nogil:
    int64_t rmf_folio_referenced(rmf_run *run, uint64_t folio, uint32_t *vm_flags)

cdef extern from "shrink.h" nogil:
    struct rmf_visits:
        pass

cdef extern from "stream.h" nogil:
    struct rmf_stream:
        pass
    rmf_stream *rmf_stream_new(const rmf_description *what, const rmf_arch *arch, const rmf_policy *policy, bint swap,
                               uint64_t cpumask, const rmf_isa *isa, bint fast)
    void rmf_stream_free(rmf_stream *stream)
    enum:
        RMF_STREAM_PASSES
    uint32_t rmf_stream_visit(rmf_stream *stream, uint64_t first, uint64_t end, uint32_t number, uint32_t nr_passes,
                              uint64_t limit)
    const rmf_run *rmf_stream_run(const rmf_stream *stream, uint32_t i)
    uint64_t rmf_stream_visited(const rmf_stream *stream, uint32_t i)
    const rmf_visits *rmf_stream_log(const rmf_stream *stream, uint32_t i, uint64_t *nr)

cdef extern from "lru.h" nogil:
    struct rmf_lru_list:
        uint64_t head
        uint64_t n

cdef extern from "group.h" nogil:
    int rmf_groups_check(const rmf_run *run, const uint32_t *folios, uint64_t nr, const uint64_t *group_start,
                         uint64_t nr_groups, rmf_fault *fault)
    uint64_t rmf_shrink_groups(rmf_run *run, const uint32_t *folios, const uint64_t *group_start, uint64_t first,
                               uint64_t nr_groups, uint64_t budget)

cdef extern from "lru_gen.h" nogil:
    struct rmf_lru_gen:
        uint64_t max_seq
        uint64_t *min_seq

cdef extern from "packed_log.h" nogil:
    uint64_t rmf_pack_log(const rmf_visits *log, uint64_t nr, uint8_t *out)

cdef extern from "ahead.h" nogil:
    struct rmf_ahead:
        pass
    void rmf_ahead_visit(rmf_ahead *ahead, uint32_t worker)
    void rmf_ahead_end(rmf_ahead *ahead, rmf_run *run)
    uint64_t rmf_ahead_left(const rmf_ahead *ahead)

cdef extern from "reclaim.h" nogil:
    struct rmf_lru_options:
        bint mglru
        bint stats_flushed
        uint32_t page_shift
        uint64_t max_seq
        uint64_t *min_seq
    enum rmf_reclaim_next:
        RMF_NEXT_ACTIVE
        RMF_NEXT_END
    struct rmf_reclaim:
        rmf_run *run
        rmf_lru_list inactive
        rmf_lru_list active
        rmf_lru_gen gen
        uint64_t freed
        rmf_ahead *ahead
    int rmf_reclaim_start(rmf_reclaim *reclaim, rmf_run *run, uint32_t *inactive, uint64_t nr_inactive,
                          uint32_t *active, uint64_t nr_active, uint64_t target, const rmf_lru_options *options,
                          rmf_fault *fault)
    void rmf_reclaim_free(rmf_reclaim *reclaim)
    void rmf_reclaim_start_accounting(rmf_reclaim *reclaim, rmf_run *run, uint64_t folios, uint64_t pages,
                                      uint64_t target)
    rmf_reclaim_next rmf_reclaim_advance(rmf_reclaim *reclaim)
    uint64_t rmf_reclaim_account_log(rmf_reclaim *reclaim, const uint8_t *log, uint64_t nr)
    bint rmf_reclaim_step(rmf_reclaim *reclaim, uint64_t budget)
    int rmf_reclaim_share_out(rmf_reclaim *reclaim, uint32_t workers, uint64_t pages, rmf_fault *fault)
    bint rmf_reclaim_ahead_is_due(const rmf_reclaim *reclaim)
    void rmf_reclaim_begin_ahead(rmf_reclaim *reclaim)
    void rmf_reclaim_store_lists(rmf_reclaim *reclaim)

cdef extern from "madvise.h" nogil:
    enum rmf_advice:
        RMF_MADV_PAGEOUT
        RMF_MADV_COLD
        RMF_MADV_FREE
    struct rmf_madvise:
        rmf_run *run
        rmf_lru_list inactive
        rmf_lru_list active
        uint64_t freed
        int ret
    int rmf_madvise_start(rmf_madvise *madvise, rmf_run *run, uint32_t *inactive, uint64_t nr_inactive,
                          uint32_t *active, uint64_t nr_active, rmf_fault *fault)
    void rmf_madvise_free(rmf_madvise *madvise)
    int rmf_madvise_call(rmf_madvise *madvise, rmf_advice advice, uint32_t mm, uint64_t start, uint64_t end, bint owner,
                         rmf_fault *fault)
    bint rmf_madvise_step(rmf_madvise *madvise, uint64_t budget)
    int rmf_madvise_lists(rmf_madvise *madvise)

cdef extern from "check_invariants.h" nogil:
    enum:
        RMF_NR_INVARIANTS
    enum rmf_invariant:
        pass
    const char *rmf_invariant_name(rmf_invariant invariant)

cdef extern from "check_states.h" nogil:
    enum rmf_check_kind:
        pass
    enum rmf_check_level:
        pass
    struct rmf_check_family:
        uint8_t order
        rmf_check_kind kind
        rmf_check_level level
        bint anon_vma
        bint uffd_wp
        uint8_t cont
        uint32_t nr_symbols
        uint32_t nr_conditions
        uint32_t nr_exclusive
        uint64_t nr_states
    struct rmf_check_scope:
        rmf_check_family *families
        uint32_t nr_families
    void rmf_check_scope_init(rmf_check_scope *scope, uint32_t max_pages, bint all_bits, bint unreachable,
                              uint64_t drawn, uint64_t seed)
    struct rmf_check_state:
        uint64_t *ptes
        uint64_t vma_start
        uint64_t vma_end
        uint64_t vma_pgoff
        uint32_t folio_flags
        int32_t refcount
        int32_t mapcount
        int32_t *page_mapcount
        uint8_t *page_flags
        uint8_t order
        uint32_t table
        uint32_t cont
        uint32_t vma_flags
        uint32_t ttu
        bint guard_contiguous
    bint rmf_check_state_at(const rmf_check_family *family, uint64_t index, rmf_check_state *state)

cdef extern from "check_run.h" nogil:
    struct rmf_check_found:
        uint64_t count
        uint64_t index
        bint reachable
    struct rmf_check_policy:
        rmf_policy policy
        uint64_t nr_violating
        rmf_check_found *found
        uint64_t *cleared
    struct rmf_check:
        pass
    rmf_check *rmf_check_new(const rmf_arch *arch)
    void rmf_check_free(rmf_check *check)
    enum rmf_claim:
        RMF_CLAIM_RIGHT
    uint64_t rmf_check_counted_bits(rmf_check *check, const rmf_check_family *family, uint64_t first, uint64_t end,
                                    const rmf_policy *policy, rmf_claim claim, rmf_check_found *found)
    const rmf_run *rmf_check_current(const rmf_check *check)
    uint64_t rmf_check_range(rmf_check *check, const rmf_check_family *family, uint64_t first, uint64_t end,
                             const rmf_policy *oracle, rmf_check_policy *policies, uint32_t nr_policies)
