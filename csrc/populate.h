/* Described populations: one mapping, present in some processes, made block by block.
 * docs/model.md, section 2. */
#ifndef RMF_POPULATE_H
#define RMF_POPULATE_H

#include "population.h"

#include <stdbool.h>

/* The pages of a block. Its folios depend on nothing outside the block, and none crosses its
 * border. */
enum { RMF_LAYOUT_BLOCK = 1 << 14 };

/* A number is chosen if `always` is set, or if its hash is below `below`, which is 2^64 times the
 * rate. */
struct rmf_rate {
	uint64_t below;
	bool always;
};

/* What is drawn at a rate, once for each PTE or folio. The names are those of the arguments of
 * rmapfast.PopulationSpec. The place in this list is the number of the draw. */
#define RMF_RATES(RATE)                \
	RATE(MAPPED, "mapped")         \
	RATE(HOLES, "holes")           \
	RATE(YOUNG, "young")           \
	RATE(DIRTY, "dirty")           \
	RATE(WRITE, "write")           \
	RATE(SOFT_DIRTY, "soft_dirty") \
	RATE(UFFD_WP, "uffd_wp")       \
	RATE(MLOCKED, "mlocked")       \
	RATE(FOLIO_DIRTY, "folio_dirty")

enum rmf_rate_of {
#define RMF_RATE(rate, name) RMF_RATE_##rate,
	RMF_RATES(RMF_RATE)
#undef RMF_RATE
		RMF_NR_RATES
};

const char *rmf_rate_name(enum rmf_rate_of rate);

/* The arguments of rmapfast.PopulationSpec, which documents them, as numbers. */
struct rmf_description {
	uint64_t pages;
	uint64_t seed;
	uint64_t vpn; /* of the first page */
	uint64_t pgoff; /* of the first page */
	uint64_t pfn_base;
	uint32_t ptrs_per_pte;
	uint32_t cont_ptes; /* 1 means no CONT bits */
	uint32_t nr_orders;
	uint8_t order[RMF_MAX_ORDER + 1]; /* falling */
	uint64_t weight[RMF_MAX_ORDER + 1]; /* shares of memory; they add up to at most 2^32 */
	bool aligned;
	bool anon;
	bool exclusive; /* every page is anon-exclusive */
	uint32_t folio_flags;
	uint32_t vma_flags;
	uint32_t sharing;
	int32_t external;
	uint32_t rss_counter;
	uint64_t every; /* there is a hole every so many pages; 0 means none */
	struct rmf_rate rate[RMF_NR_RATES];
};

/* The arrays of a population that are filled. The arrays of folios have room for
 * rmf_described_folios() of the range. rmap_vma and ptes have `sharing` times as much room as there
 * are folios and pages. mm_rss has a row for each process. */
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
	uint32_t *rmap_vma; /* all zero; written only for several processes */
	int64_t *mm_rss; /* added to */
	uint32_t *lru; /* folios in address order, without those that are mlocked */
	uint64_t nr_folios;
	uint64_t nr_lru;
};

/* How many folios begin in the first `page` pages, which end at the border of a block or at the
 * end. Folios that nothing maps, and that therefore do not exist, are counted too. */
uint64_t rmf_described_folios(const struct rmf_description *what, uint64_t page);

/* How many of these folios there are of each order. */
void rmf_described_orders(const struct rmf_description *what, uint64_t page,
			  uint64_t folios[RMF_MAX_ORDER + 1]);

/* How many folios of each order of the mix lie in the block of `nr` pages that begins at `page`.
 * Returns the number of pages that no order of the mix can fill. */
uint64_t rmf_described_block(const struct rmf_description *what, uint64_t page, uint64_t nr,
			     uint64_t folios[RMF_MAX_ORDER + 1]);

/* How many pages at the end are filled with smaller folios than the mix has. */
uint64_t rmf_described_fill(const struct rmf_description *what);

/* Make the pages [first, end), which are borders of blocks or the end. Folio and VMA numbers count
 * from 0. */
typedef void rmf_populate(const struct rmf_description *what, uint64_t first, uint64_t end,
			  struct rmf_populated *out);

#endif
