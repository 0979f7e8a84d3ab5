/* One state of the check: a folio in one VMA, and what it is made of. docs/checker.md. */
#ifndef RMF_CHECK_STATE_H
#define RMF_CHECK_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "population.h"

enum {
	RMF_CHECK_MAX_PAGES = 32,
	RMF_CHECK_TABLE = 8, /* slots of a page table */
	RMF_CHECK_DRAWN_TABLE = 64, /* the same in drawn states */
	RMF_CHECK_MAX_SLOTS = 2 * RMF_CHECK_DRAWN_TABLE,
	RMF_CHECK_FOLIO_PFN = 64, /* aligned to the largest folio */
	RMF_CHECK_FOLIO_INDEX = 256, /* a multiple of the page table */
	RMF_CHECK_FOREIGN_PFN = 1024, /* of pages of other folios */
	RMF_CHECK_SWAP_OFFSET = 4096, /* of swap entries */
	RMF_CHECK_FOLIO_SWAP = 2 * RMF_CHECK_SWAP_OFFSET, /* first swap slot of the folio */
	RMF_CHECK_MAX_FAMILIES = 128,
	RMF_CHECK_MAX_SYMBOLS = 80,
	RMF_CHECK_MAX_CONDITIONS = 96,
};

enum rmf_check_kind {
	RMF_CHECK_FILE,
	RMF_CHECK_SHMEM,
	RMF_CHECK_LAZYFREE,
	RMF_CHECK_ANON,
	RMF_CHECK_NR_KINDS,
};

/* How much a slot varies: every bit and kind of entry; the bits that the kind of folio and the VMA
 * can react to; a handful of entries. A drawn state varies in everything at once. */
enum rmf_check_level {
	RMF_CHECK_ALL_BITS,
	RMF_CHECK_REACTING_BITS,
	RMF_CHECK_FEW,
	RMF_CHECK_DRAWN,
};

/* Everything about a state except its slots, its borders and the marks of its pages. */
struct rmf_check_condition {
	uint32_t folio_flags;
	uint32_t vma_flags;
	uint32_t ttu;
	uint8_t extra_refs;
	uint8_t external; /* mappings of page 0 outside the population */
	uint8_t poisoned; /* page 0 is poisoned */
	uint8_t swap_dup_fails; /* 1 + the page whose swap reference fails; 0 for none */
};

struct rmf_check_family {
	uint8_t order;
	enum rmf_check_kind kind;
	enum rmf_check_level level;
	bool anon_vma;
	bool uffd_wp;
	bool unreachable; /* holds states that user space cannot make */
	uint8_t cont; /* entries of a contpte block; 1 where nothing is folded. Not in drawn
			 families, whose states choose it */
	uint64_t seed; /* of a drawn family */
	rmf_pte symbols[RMF_CHECK_MAX_SYMBOLS]; /* of a slot in the VMA; PFNs are relative, see
						   place_symbol() */
	uint32_t nr_symbols;
	struct rmf_check_condition conditions[RMF_CHECK_MAX_CONDITIONS];
	uint32_t nr_conditions;
	uint32_t nr_exclusive; /* patterns of anon-exclusive marks */
	uint64_t nr_states;
};

/* A population of one folio, one VMA and one mm, with its arrays. */
struct rmf_check_state {
	uint64_t vma_start, vma_end, vma_pgoff;
	uint32_t folio_flags;
	int32_t refcount, mapcount, nr_pages_mapped;
	int64_t rss[RMF_NR_MM_COUNTERS];
	uint32_t vma_flags;
	uint32_t ttu;
	/* The slots that can change: those of the folio, and as many behind them, which a stale nr
	 * may reach. */
	uint32_t first_slot, end_slot;
	uint32_t table; /* slots of a page table; there are two, and the first vpn is this number
			   too */
	uint32_t cont; /* entries of a contpte block */
	uint8_t order;
	bool guard_contiguous;
	uint8_t page_flags[RMF_CHECK_MAX_PAGES];
	int32_t page_mapcount[RMF_CHECK_MAX_PAGES];
	rmf_pte ptes[RMF_CHECK_MAX_SLOTS]; /* the last field: a small state is copied without the
					      slots that it does not have */
};

/* Copy a state, or the part of it that is in use. */
void rmf_check_copy(struct rmf_check_state *to, const struct rmf_check_state *from);

/* The page of the folio that an entry maps, or a number behind the folio's pages if it maps none.
 */
static inline uint64_t rmf_check_page(const struct rmf_check_state *state, rmf_pte pte)
{
	const uint64_t page = rmf_pte_pfn(pte) - RMF_CHECK_FOLIO_PFN, none = RMF_CHECK_MAX_PAGES;

	return (rmf_pte_present(pte) || rmf_pte_is_device(pte)) && page >> state->order == 0 ? page
											     : none;
}

/* The first slot that a walk reads: that of the folio's first page, or of the first one in the VMA.
 */
static inline uint32_t rmf_check_walk_start(const struct rmf_check_state *state)
{
	const uint64_t before = state->vma_pgoff < RMF_CHECK_FOLIO_INDEX
					? RMF_CHECK_FOLIO_INDEX - state->vma_pgoff
					: 0;

	return (uint32_t)(state->vma_start + before - state->table);
}

/* The slot behind the last one that a walk reads. */
static inline uint32_t rmf_check_walk_end(const struct rmf_check_state *state)
{
	const uint64_t last = state->vma_start + RMF_CHECK_FOLIO_INDEX +
			      ((uint64_t)1 << state->order) - state->vma_pgoff;

	return (uint32_t)((last < state->vma_end ? last : state->vma_end) - state->table);
}

/* Set what follows from the entries: mapcounts, references, and the marks of the pages in the mask
 * `exclusive`. */
void rmf_check_settle(struct rmf_check_state *state, const struct rmf_check_condition *condition,
		      uint32_t exclusive);

/* Fold the contpte block at a slot, if it is one translation of the folio. */
bool rmf_check_fold(struct rmf_check_state *state, uint32_t slot);

/* Whether a kernel can reach a state. It knows what verify/cases.py has tags for. */
bool rmf_check_reachable(const struct rmf_check_state *state);

#endif
