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
	/* v6.14: the folio's end does not limit the scan in advance, so it may read one entry
	 * behind it */
	RMF_FPB_UNCUT = 1 << 5,
};

/* Models folio_pte_batch_flags(), mm/internal.h, Linux v7.0. With RMF_FPB_UNCUT it models
 * folio_pte_batch() of v6.14.
 *
 * *pte is the entry at vpn as rmf_ptep_get() returned it: present, and mapping a page of the folio
 * [folio_pfn, folio_pfn + folio_nr). The merge flags change it. max_nr is 1 or more. Entries
 * outside the table or the VMA are read, and counted as such reads. `later` receives the write,
 * young and dirty bits of the entries after the first; it may be NULL. Returns nr, from 1 to
 * max_nr. */
uint64_t rmf_folio_pte_batch_flags(const struct rmf_slots *slots, uint64_t vpn, rmf_pte *pte,
				   uint64_t max_nr, uint64_t folio_pfn, uint64_t folio_nr,
				   uint32_t flags, rmf_pte *later);

#endif
