/* The folio at hand: the mapcounts and marks of its pages, and the removal of mappings. */
#ifndef RMF_FOLIO_H
#define RMF_FOLIO_H

#include "run.h"

/* The pages of the folio at hand. While all pages are equal, nothing is stored per page. The first
 * step that makes them differ expands them into the run's scratch buffer. rmf_pages_close() stores
 * them, or drops what is stored if they are equal again (docs/model.md, section 2). */
struct rmf_pages {
	struct rmf_run *run;
	uint64_t folio;
	uint32_t nr;
	bool mapcounts_expanded;
	bool flags_expanded;
	bool split_asked; /* deferred_split_folio() was called since these pages were opened */
	int32_t mapcount; /* of every page, while not expanded */
	uint32_t nr_beyond; /* pages behind the folio's end that were decremented have numbers below
			       this one */
};

void rmf_pages_open(struct rmf_pages *pages, struct rmf_run *run, uint64_t folio);
void rmf_pages_close(struct rmf_pages *pages);

/* The RMF_PAGE_* flags of one page. A page behind the folio's end has none. */
uint8_t rmf_pages_flags(const struct rmf_pages *pages, uint64_t page);
void rmf_pages_clear_flag(struct rmf_pages *pages, uint64_t page, uint8_t flag);

/* How many of nr pages from `page` on are like it in PageAnonExclusive. Models
 * page_anon_exclusive_batch() of the anon-swap proposal (policy g). */
uint64_t rmf_anon_exclusive_batch(const struct rmf_pages *pages, uint64_t page, uint64_t nr);

/* Models folio_remove_rmap_ptes() and __folio_remove_rmap(), mm/rmap.c, Linux v7.0: nr pages from
 * `page` on lose one mapping each. With a stale nr, page + nr may pass the folio's end. That is a
 * warning, and the pages behind the folio are decremented too. */
void rmf_folio_remove_rmap_ptes(struct rmf_pages *pages, uint64_t page, uint64_t nr);

/* Models folio_remove_rmap_pmd(), mm/rmap.c, Linux v7.0. */
void rmf_folio_remove_rmap_pmd(struct rmf_pages *pages);

/* A PMD mapping of the folio becomes PTE mappings of nr pages from `page` on, which lie in it.
 * Models what __split_huge_pmd_locked() does to the folio, mm/huge_memory.c, Linux v7.0. */
void rmf_folio_split_rmap_pmd(struct rmf_pages *pages, uint64_t page, uint64_t nr);

/* Models mlock_vma_folio() and munlock_vma_folio(), mm/internal.h, Linux v7.0. The latter does
 * nothing unless the VMA is locked. */
void rmf_mlock_vma_folio(struct rmf_run *run, uint64_t folio);
void rmf_munlock_vma_folio(struct rmf_run *run, uint64_t folio, uint32_t vma);

#endif
