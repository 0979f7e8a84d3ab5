/* When TLB entries are flushed, and what the architecture issues for it. docs/model.md, section 4,
 * has the table. */
#ifndef RMF_TLB_H
#define RMF_TLB_H

#include "run.h"

/* Models should_defer_flush() and set_tlb_ubc_flush_pending(), mm/rmap.c, and flush_tlb_range(),
 * Linux v7.0. nr entries of the mm were cleared at vpn; `pte` is what the clear returned. */
void rmf_tlb_flush_cleared(struct rmf_run *run, uint32_t mm, bool batch_flush, rmf_pte pte,
			   uint64_t vpn, uint64_t nr);

/* Models flush_tlb_range() under the page-table lock, arch/x86/include/asm/tlbflush.h and others,
 * Linux v7.0. */
void rmf_tlb_flush_range(struct rmf_run *run, uint32_t mm, uint64_t vpn, uint64_t nr);

/* Models try_to_unmap_flush() and try_to_unmap_flush_dirty(), mm/rmap.c, Linux v7.0. */
void rmf_try_to_unmap_flush(struct rmf_run *run);
void rmf_try_to_unmap_flush_dirty(struct rmf_run *run);

/* Count nr flushes of what was deferred on these CPUs, as try_to_unmap_flush() makes them. */
void rmf_tlb_count_flushes(struct rmf_run *run, uint64_t cpumask, uint64_t nr);

/* Models the flush in contpte_convert(), arch/arm64/mm/contpte.c, Linux v7.0, and, with another
 * kind of TLB, that of the proposal "riscv: add Svnapot-based contiguous PTE support". */
void rmf_tlb_flush_contpte_block(struct rmf_run *run, uint32_t mm);

/* Models the flush of clear_flush_young_ptes(), Linux v7.0, after young entries were found among
 * nr. arm64 issues TLBIs without a DSB. */
void rmf_tlb_flush_young(struct rmf_run *run, uint32_t mm, uint64_t nr);

/* Models __flush_tlb_range_op(), arch/arm64/include/asm/tlbflush.h, Linux v7.0: the number of TLBI
 * instructions that cover nr pages, and in *ranged how many of them are for a range. */
uint64_t rmf_range_ops(const struct rmf_arch *arch, uint64_t nr, uint64_t *ranged);

#endif
