/* Described populations: one mapping, present in some processes, made block by block.
 * docs/model.md, section 2. */
#ifndef RMF_POPULATE_H
#define RMF_POPULATE_H

#include "population.h"

#include <stdbool.h>

/* Pages. The folios of a block depend on nothing outside of it, and none straddles its border. */
enum { RMF_LAYOUT_BLOCK = 1 << 14 };

/* Numbers are chosen if `always`, or if their hash is below `below`: 2^64 times the rate. */
struct rmf_rate {
	uint64_t below;
	bool always;
};

/* The arguments of rmapfast.Population.synthetic(), which documents them, as numbers. */
struct rmf_description {
	uint64_t pages;
	uint64_t seed;
	uint64_t vpn; /* of the first page */
	uint64_t pgoff; /* of the first page */
	uint64_t pfn_base;
	uint32_t ptrs_per_pte;
	uint32_t cont_ptes; /* 1: no CONT bits */
	uint32_t nr_orders;
	uint8_t order[RMF_MAX_ORDER + 1]; /* falling */
	uint64_t weight[RMF_MAX_ORDER + 1]; /* shares of memory; their sum is at most 2^32 */
	bool aligned;
	bool anon;
	bool exclusive; /* every page is anon-exclusive */
	uint32_t folio_flags;
	uint32_t vma_flags;
	uint32_t sharing;
	int32_t external;
	uint32_t rss_counter;
	uint64_t every; /* every so many pages there is a hole, 0: nowhere */
	struct rmf_rate mapped, holes, young, dirty, write, soft_dirty, uffd_wp, mlocked,
		folio_dirty;
};

/* The arrays of a population that are filled. Those of folios have room for rmf_described_folios()
 * of the range, rmap_vma and ptes `sharing` times as much as folios and pages, mm_rss has a row for
 * each process. */
struct rmf_populated {
	rmf_pte *ptes;
	uint64_t *folio_pfn;
	uint64_t *folio_index;
	uint8_t *folio_order;
	uint32_t *folio_flags;
	int32_t *folio_refcount;
	int32_t *folio_mapcount;
	int32_t *folio_nr_pages_mapped;
	uint64_t *folio_page_base;
	int32_t *page_mapcount; /* written only where there are holes */
	uint64_t *rmap_start;
	uint32_t *rmap_vma;
	int64_t *mm_rss; /* added to */
	uint32_t *lru; /* folios in address order, without those that are mlocked */
	uint64_t nr_folios;
	uint64_t nr_lru;
};

/* Folios that begin in the first `page` pages, a border of blocks or the end; also those that do
 * not exist, because nothing maps them. */
uint64_t rmf_described_folios(const struct rmf_description *what, uint64_t page);

/* How many of them are of each order. */
void rmf_described_orders(const struct rmf_description *what, uint64_t page,
			  uint64_t folios[RMF_MAX_ORDER + 1]);

/* How many of each order of the mix are in the block of `nr` pages from `page` on; returns the
 * pages left, which no order of the mix can fill. */
uint64_t rmf_described_block(const struct rmf_description *what, uint64_t page, uint64_t nr,
			     uint64_t folios[RMF_MAX_ORDER + 1]);

/* Pages at the end that are filled with smaller folios than the mix has. */
uint64_t rmf_described_fill(const struct rmf_description *what);

/* Make the pages [first, end), borders of blocks or the end. Folio and VMA numbers count from 0. */
typedef void rmf_populate(const struct rmf_description *what, uint64_t first, uint64_t end,
			  struct rmf_populated *out);

#endif
