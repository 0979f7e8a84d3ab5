/* Which young and dirty bits of a folio's entries the rules see by their number only. The memo
 * takes folios that differ in their places alone for equal. The checker holds the rules to it: it
 * moves the bits in every small state, with and without folded contpte blocks of two entries, and
 * compares the outcomes (rmf_check_counted_bits(), check_counted.c). */
#ifndef RMF_COUNTED_H
#define RMF_COUNTED_H

#include "folio_batch.h"
#include "policy.h"

/* The entries of one folio in one VMA, of up to 64 pages. Bit i of a mask belongs to page i. */
struct rmf_masks {
	rmf_pte low; /* bits that each present entry has, besides those of the masks */
	uint64_t none, write, soft_dirty, young, dirty;
};

/* What is claimed. The tests plant the wrong claim, and the checker must find it. */
enum rmf_claim {
	RMF_CLAIM_RIGHT,
	/* wrong: get_and_clear_ptes() merges a dirty bit by pte_mkdirty() only if it is not the
	 * first entry's */
	RMF_CLAIM_FIRST_IS_COUNTED,
	RMF_NR_CLAIMS,
};

static inline uint64_t rmf_low_bits(uint64_t nr)
{
	return nr < 64 ? ((uint64_t)1 << nr) - 1 : ~(uint64_t)0;
}

/* Move the bits of a mask to the front of their runs, which begin at `starts`, so that nothing but
 * their number in each run is left. The bit at the front stays by itself if `first` is set. */
static inline uint64_t rmf_moved_bits(uint64_t mask, uint64_t starts, uint64_t within, bool first)
{
	uint64_t out = 0;

	while (starts) {
		const int at = __builtin_ctzll(starts);
		uint64_t run = within & ~rmf_low_bits((uint64_t)at);

		starts &= starts - 1;
		if (starts)
			run &= (starts & -starts) - 1;
		if (first) {
			out |= mask & ((uint64_t)1 << at);
			run &= run - 1;
			if (run)
				out |= rmf_low_bits((uint64_t)__builtin_popcountll(mask & run))
				       << (at + 1);
		} else {
			out |= rmf_low_bits((uint64_t)__builtin_popcountll(mask & run)) << at;
		}
	}
	return out;
}

/* Leave of the young and dirty bits what the rules see. The first entry of a run keeps its dirty
 * bit, because that is merged into the others' in another way. A run is a part of the folio whose
 * entries are present and equal in all other bits; it ends where a contpte block ends. In a folded
 * block with dirty entries a read ends where young and dirty are both seen, so there all bits stay.
 */
static inline void rmf_count_bits(const struct rmf_policy *policy, uint32_t cont_ptes,
				  uint32_t order, enum rmf_claim claim, struct rmf_masks *masks)
{
	const uint64_t within = rmf_low_bits((uint64_t)1 << order) & ~masks->none,
		       joins = ~((masks->write ^ masks->write << 1) |
				 (masks->soft_dirty ^ masks->soft_dirty << 1));
	uint64_t starts = within & ~(within << 1 & joins);

	if (masks->low & RMF_PTE_CONT) {
		if (masks->dirty)
			return;
		for (uint64_t i = 0; i < (uint64_t)1 << order; i += cont_ptes)
			starts |= within & (uint64_t)1 << i;
	}
	masks->young = rmf_moved_bits(masks->young, starts, within, false);
	if (!(policy->respect & RMF_FPB_RESPECT_DIRTY))
		masks->dirty = rmf_moved_bits(masks->dirty, starts, within,
					      claim != RMF_CLAIM_FIRST_IS_COUNTED);
}

#endif
