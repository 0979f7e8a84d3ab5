/* The walk over the entries of one VMA that map pages of one folio. Rules such as 2.2 step 5 are
 * those of docs/kernel-rules.md. */
#ifndef RMF_WALK_H
#define RMF_WALK_H

#include "slots.h"

enum rmf_pvmw_flag {
	RMF_PVMW_SYNC = 1 << 0,
	RMF_PVMW_MIGRATION = 1 << 1,
};

struct rmf_walk {
	struct rmf_slots slots;
	uint64_t folio_pfn;
	uint64_t nr_pages;
	uint64_t vpn; /* pvmw.address */
	uint64_t end;
	uint64_t last_read; /* slot of the last read, for RMF_WALK_SLOTS */
	uint32_t vma;
	uint32_t flags;
	bool pmd; /* a PMD leaf was yielded: pmd is set and pte is NULL */
	bool mapped; /* pte is set */
	bool locked; /* ptl is held */
	bool crossed; /* PVMW_PGTABLE_CROSSED */
};

/* Models vma_address(), mm/internal.h, and vma_address_end(), mm/internal.h, Linux v7.0. Returns
 * false if the VMA does not map the folio. */
bool rmf_walk_start(struct rmf_walk *walk, struct rmf_run *run, uint64_t folio, uint32_t vma,
		    uint32_t flags);

/* Models page_vma_mapped_walk(), mm/page_vma_mapped.c, Linux v7.0. */
bool rmf_page_vma_mapped_walk(struct rmf_walk *walk);

/* Walk over a whole folio. Each yield goes into the trace of the run. */
void rmf_walk_folio(struct rmf_run *run, uint64_t folio, uint32_t vma, uint32_t flags);

/* The state and the first slot of the page table at the position of the walk. */
uint8_t *rmf_walk_table_state(const struct rmf_walk *walk);
uint64_t rmf_walk_table_start(const struct rmf_walk *walk);

/* Models page_vma_mapped_walk_done(), include/linux/rmap.h, Linux v7.0. */
static inline void rmf_walk_done(struct rmf_walk *walk)
{
	walk->mapped = false;
	walk->locked = false;
	walk->vpn = walk->end;
}

/* Models page_vma_mapped_walk_restart(), include/linux/rmap.h, Linux v7.0. It comes only after a
 * PMD yield and keeps the address. */
static inline void rmf_walk_restart(struct rmf_walk *walk)
{
	walk->pmd = false;
	walk->locked = false;
}

/* Advance past nr entries that the caller has dealt with. The walk never leaves the page table this
 * way. */
static inline void rmf_walk_skip(struct rmf_walk *walk, uint64_t nr)
{
	uint64_t last = walk->vpn | walk->slots.table_mask;

	walk->vpn = walk->vpn + nr < last ? walk->vpn + nr : last;
}

#endif
