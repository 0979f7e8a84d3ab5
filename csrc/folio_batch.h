/* The PTE-batch scan: how many entries map consecutive pages of one folio with the same bits. */
#ifndef RMF_FOLIO_BATCH_H
#define RMF_FOLIO_BATCH_H

#include "slots.h"

enum rmf_fpb_flag {
	RMF_FPB_RESPECT_DIRTY = 1 << 0,
	RMF_FPB_RESPECT_SOFT_DIRTY = 1 << 1,
	RMF_FPB_RESPECT_WRITE = 1 << 2,
	RMF_FPB_MERGE_WRITE = 1 << 3,
	RMF_FPB_MERGE_YOUNG_DIRTY = 1 << 4,
	/* v6.14: not cut at the folio's end in advance, so that one entry past it may be read */
	RMF_FPB_UNCUT = 1 << 5,
};

/* Models folio_pte_batch_flags(), mm/internal.h, Linux v7.0; with RMF_FPB_UNCUT folio_pte_batch()
 * of v6.14.
 *
 * *pte is the entry at vpn as rmf_ptep_get() returned it, present and a page of the folio
 * [folio_pfn, folio_pfn + folio_nr); the merge flags change it. max_nr >= 1; entries outside the
 * table or the VMA are read and counted as what they are. `later` (may be NULL) receives the write,
 * young and dirty bits found in the entries after the first. Returns nr in [1, max_nr]. */
uint64_t rmf_folio_pte_batch_flags(const struct rmf_slots *slots, uint64_t vpn, rmf_pte *pte,
				   uint64_t max_nr, uint64_t folio_pfn, uint64_t folio_nr,
				   uint32_t flags, rmf_pte *later);

#endif
