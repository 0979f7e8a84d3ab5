/* The generations of the multi-gen LRU: what folios and lists say of them. lru_gen.h moves folios
 * between them. Rules such as section 9.3 are those of docs/kernel-rules.md. */
#ifndef RMF_GENERATIONS_H
#define RMF_GENERATIONS_H

#include "lru.h"
#include "pfn_index.h"
#include "swap.h"

enum {
	RMF_MIN_NR_GENS = 2,
	RMF_MAX_NR_GENS = 4,
	RMF_MIN_LRU_BATCH = 64, /* base pages of an isolation, and entries of a window */
	RMF_MAX_LRU_BATCH = 4096,
};

/* Folios that are not swapbacked are of type file, lazyfree ones too. */
enum rmf_lru_type { RMF_LRU_ANON, RMF_LRU_FILE, RMF_NR_LRU_TYPES };

struct rmf_lru_gen {
	struct rmf_run *run;
	bool batched; /* look-around and page-table walk go by batches */
	bool new_loop; /* the reclaim loop of v7.2 */
	uint64_t max_seq;
	uint64_t min_seq[RMF_NR_LRU_TYPES];
	/* by seq modulo 4; pages are those of the folios whose generation it is, wherever they lie
	 */
	struct rmf_lru_list lists[RMF_NR_LRU_TYPES][RMF_MAX_NR_GENS];
	int64_t moved[RMF_NR_LRU_TYPES][RMF_MAX_NR_GENS]; /* pages of promotions since the last
							     settling */
	bool walked; /* the page tables were walked: no mm has run since */
	struct rmf_pfn_index index;
	uint32_t *rejected; /* folios of the group at hand that were not freed */
	uint64_t nr_rejected;
	uint64_t room;

	/* the pass */
	uint32_t priority;
	uint64_t request; /* of the round, base pages */
	uint64_t round_freed;
	uint64_t left; /* base pages that are still to be looked at (new loop) */
	uint64_t scanned; /* what was looked at (old loop) */
	bool pass_over;
};

static inline uint32_t rmf_folio_gen(uint32_t flags)
{
	return flags >> RMF_FOLIO_GEN_SHIFT & RMF_FOLIO_GEN_MASK;
}

/* The list of a folio whose flags say that it has a generation. It is one of the lists with any
 * flags: whoever else has the arrays may change them. */
static inline uint32_t rmf_list_of_gen(uint32_t flags)
{
	return (rmf_folio_gen(flags) - 1) % RMF_MAX_NR_GENS;
}

static inline uint32_t rmf_folio_accesses(uint32_t flags)
{
	return flags >> RMF_FOLIO_REFS_SHIFT & RMF_FOLIO_REFS_MASK;
}

static inline uint32_t rmf_with_gen(uint32_t flags, uint32_t gen)
{
	return (flags & ~((uint32_t)RMF_FOLIO_GEN_MASK << RMF_FOLIO_GEN_SHIFT)) |
	       gen << RMF_FOLIO_GEN_SHIFT;
}

static inline uint32_t rmf_with_accesses(uint32_t flags, uint32_t accesses)
{
	return (flags & ~((uint32_t)RMF_FOLIO_REFS_MASK << RMF_FOLIO_REFS_SHIFT)) |
	       accesses << RMF_FOLIO_REFS_SHIFT;
}

static inline enum rmf_lru_type rmf_lru_type_of(uint32_t flags)
{
	return flags & RMF_FOLIO_SWAPBACKED ? RMF_LRU_ANON : RMF_LRU_FILE;
}

/* Whether folios of the type can be evicted: without swap space, or with less than 64 free slots,
 * only file. */
static inline bool rmf_lru_type_evictable(const struct rmf_run *run, enum rmf_lru_type type)
{
	return type == RMF_LRU_FILE || rmf_swap_free_slots(run) >= RMF_MIN_LRU_BATCH;
}

#endif
