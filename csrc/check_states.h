/* The states of the bounded exhaustive check: every small state of one folio in one VMA.
 * docs/checker.md.
 *
 * States are numbered. A family fixes the size of the folio, its kind and the kind of VMA. Inside a
 * family a state is a mixed-radix number. A number always means the same state. So work can be cut
 * into ranges and resumed, and two numbers name a counterexample. */
#ifndef RMF_CHECK_STATES_H
#define RMF_CHECK_STATES_H

#include <stdbool.h>
#include <stdint.h>

#include "population.h"

enum {
	RMF_CHECK_MAX_PAGES = 8,
	RMF_CHECK_TABLE = 8, /* slots of a page table */
	RMF_CHECK_SLOTS = 2 * RMF_CHECK_TABLE,
	RMF_CHECK_FIRST_VPN = RMF_CHECK_TABLE, /* of the two tables */
	RMF_CHECK_FOLIO_PFN = 64, /* aligned to the largest folio */
	RMF_CHECK_FOLIO_INDEX = 256, /* a multiple of the page table */
	RMF_CHECK_SWAP_OFFSET = 4096, /* of swap entries */
	RMF_CHECK_MAX_FAMILIES = 64,
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
 * can react to; a handful of entries. */
enum rmf_check_level { RMF_CHECK_ALL_BITS, RMF_CHECK_REACTING_BITS, RMF_CHECK_FEW };

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
	rmf_pte symbols[RMF_CHECK_MAX_SYMBOLS]; /* of a slot in the VMA; PFNs are relative, see
						   place_symbol() */
	uint32_t nr_symbols;
	struct rmf_check_condition conditions[RMF_CHECK_MAX_CONDITIONS];
	uint32_t nr_conditions;
	uint32_t nr_exclusive; /* patterns of anon-exclusive marks */
	uint64_t nr_states;
};

struct rmf_check_scope {
	struct rmf_check_family families[RMF_CHECK_MAX_FAMILIES];
	uint32_t nr_families;
};

/* Make all families of folios of up to max_pages pages (1, 2, 4 or 8), small folios first. With
 * all_bits the folios of 4 pages vary in every bit, which takes hours to check. */
void rmf_check_scope_init(struct rmf_check_scope *scope, uint32_t max_pages, bool all_bits,
			  bool unreachable);

/* A population of one folio, one VMA and one mm, with its arrays. */
struct rmf_check_state {
	rmf_pte ptes[RMF_CHECK_SLOTS];
	uint64_t vma_start, vma_end, vma_pgoff;
	uint32_t folio_flags;
	int32_t refcount, mapcount, nr_pages_mapped;
	int32_t page_mapcount[RMF_CHECK_MAX_PAGES];
	uint8_t page_flags[RMF_CHECK_MAX_PAGES];
	int64_t rss[RMF_NR_MM_COUNTERS];
	uint8_t order;
	uint32_t vma_flags;
	uint32_t ttu;
	bool guard_contiguous;
	/* The slots that can change: those of the folio, and as many behind them, which a stale nr
	 * may reach. */
	uint32_t first_slot, end_slot;
};

/* The state `index` of a family. Returns false if it is the same as another state, and is not
 * counted. */
bool rmf_check_state_at(const struct rmf_check_family *family, uint64_t index,
			struct rmf_check_state *state);

/* Whether a kernel can reach a state. It knows what verify/cases.py has tags for. */
bool rmf_check_reachable(const struct rmf_check_state *state);

/* Where the folio lies: the border of its page table, the borders of the VMA, and what lies behind
 * the first table. */
struct rmf_check_geometry {
	uint32_t border; /* pages before the border; at 0 the folio begins at the border */
	uint32_t first, end; /* pages inside the VMA */
	bool guard_contiguous;
};

/* A geometry and the numbers of its states. A range goes through them in order. */
struct rmf_check_cursor {
	struct rmf_check_geometry geometry;
	uint64_t slots; /* how many states the slots have */
	uint64_t first, end; /* numbers of the geometry's states */
};

void rmf_check_cursor_start(const struct rmf_check_family *family, struct rmf_check_cursor *cursor);

/* Go on to the geometry that holds `index`, which does not lie behind the cursor. Returns false if
 * there is none. */
bool rmf_check_cursor_seek(const struct rmf_check_family *family, struct rmf_check_cursor *cursor,
			   uint64_t index);

/* The state `index`, which lies in the geometry of the cursor. Returns false if it is the same as
 * another state. */
bool rmf_check_state_at_cursor(const struct rmf_check_family *family,
			       const struct rmf_check_cursor *cursor, uint64_t index,
			       struct rmf_check_state *state);

#endif
