/* The walk over the entries of one VMA that map pages of one folio. */
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
	bool pmd; /* yielded a PMD leaf: pmd set, pte NULL */
	bool mapped; /* pte set */
	bool locked; /* ptl held */
	bool crossed; /* PVMW_PGTABLE_CROSSED */
};

/* Models vma_address() and vma_address_end(), mm/internal.h and mm/rmap.c, Linux v7.0. False if the
 * VMA does not map the folio. */
bool rmf_walk_start(struct rmf_walk *walk, struct rmf_run *run, uint64_t folio, uint32_t vma,
		    uint32_t flags);

/* Models page_vma_mapped_walk(), mm/page_vma_mapped.c, Linux v7.0. */
bool rmf_page_vma_mapped_walk(struct rmf_walk *walk);

/* Walk over a whole folio; each yield goes into the run's trace. */
void rmf_walk_folio(struct rmf_run *run, uint64_t folio, uint32_t vma, uint32_t flags);

/* State and first slot of the page table at the walk's position. */
uint8_t *rmf_walk_table_state(const struct rmf_walk *walk);
uint64_t rmf_walk_table_start(const struct rmf_walk *walk);

/* Models page_vma_mapped_walk_done(). */
static inline void rmf_walk_done(struct rmf_walk *walk)
{
	walk->mapped = false;
	walk->locked = false;
	walk->vpn = walk->end;
}

/* Models page_vma_mapped_walk_restart(): only after a PMD yield, keeps the address. */
static inline void rmf_walk_restart(struct rmf_walk *walk)
{
	walk->pmd = false;
	walk->locked = false;
}

/* Advance past nr entries that the caller has dealt with; never leaves the page table. */
static inline void rmf_walk_skip(struct rmf_walk *walk, uint64_t nr)
{
	uint64_t last = walk->vpn | walk->slots.table_mask;

	walk->vpn = walk->vpn + nr < last ? walk->vpn + nr : last;
}

#endif
