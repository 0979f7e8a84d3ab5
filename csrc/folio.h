/* The folio at hand: its pages' mapcounts and marks, and the removal of mappings. */
#ifndef RMF_FOLIO_H
#define RMF_FOLIO_H

#include "run.h"

/* The pages of the folio at hand. While all are equal nothing is stored per page; the first step
 * that makes them differ expands them into the run's scratch buffer, and rmf_pages_close() settles
 * them back (docs/model.md, section 2). */
struct rmf_pages {
	struct rmf_run *run;
	uint64_t folio;
	uint32_t nr;
	bool mapcounts_expanded;
	bool flags_expanded;
	int32_t mapcount; /* of every page, while not expanded */
	uint32_t nr_beyond; /* decremented pages past the folio's end are below this index */
};

void rmf_pages_open(struct rmf_pages *pages, struct rmf_run *run, uint64_t folio);
void rmf_pages_close(struct rmf_pages *pages);

/* RMF_PAGE_* flags of one page; none past the folio's end. */
uint8_t rmf_pages_flags(const struct rmf_pages *pages, uint64_t page);
void rmf_pages_clear_flag(struct rmf_pages *pages, uint64_t page, uint8_t flag);

/* Add to every page's PTE mapcount, as the split of a PMD leaf does. */
void rmf_pages_add_mapcount(struct rmf_pages *pages, int32_t nr);

/* Models folio_remove_rmap_ptes() and __folio_remove_rmap(), mm/rmap.c, Linux v7.0: nr pages from
 * `page` on lose one mapping each. page + nr may pass the folio's end (stale nr): a warning, and
 * the pages behind are decremented. */
void rmf_folio_remove_rmap_ptes(struct rmf_pages *pages, uint32_t vma, uint64_t page, uint64_t nr);

/* Models folio_remove_rmap_pmd(). */
void rmf_folio_remove_rmap_pmd(struct rmf_pages *pages, uint32_t vma);

/* Models mlock_vma_folio(). */
void rmf_mlock_vma_folio(struct rmf_run *run, uint64_t folio);

#endif
