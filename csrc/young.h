/* The test of young bits that both LRUs make, inline because a reference check of small folios is
 * not much more. */
#ifndef RMF_YOUNG_H
#define RMF_YOUNG_H

#include "slots.h"

/* Which events count a young test. */
enum rmf_young_test { RMF_YOUNG_OF_FOLIO, RMF_YOUNG_OF_AGING };

/* Clear young in those of nr entries that are present. Returns in how many it was set. The loops
 * have no branches, and nothing is stored if there is nothing to clear: a per-page check on arm64
 * looks at every block 16 times, mostly in vain. */
static inline uint64_t rmf_clear_young(rmf_pte *ptes, uint64_t nr)
{
	const int shift = __builtin_ctz(RMF_PTE_YOUNG);
	uint64_t young = 0;

	_Static_assert(RMF_PTE_PRESENT == 1, "the shifts below move PRESENT onto YOUNG");
	if (nr == 1) { /* the vectorised loops cost more than this */
		young = ptes[0] & (ptes[0] >> shift) & 1;
		ptes[0] &= ~(young << shift);
		return young;
	}
	for (uint64_t i = 0; i < nr; i++)
		young += ptes[i] & (ptes[i] >> shift) & 1;
	if (!young)
		return 0;
	for (uint64_t i = 0; i < nr; i++)
		ptes[i] &= ~((ptes[i] & 1) << shift);
	return young;
}

/* Test and clear young of nr entries, without a TLB flush. arm64 tracks access per block, so a
 * range is widened to whole blocks where an edge is folded. Returns how many entries were tested if
 * any was young, else 0. Models test_and_clear_young_ptes(), include/linux/pgtable.h, and
 * contpte_test_and_clear_young_ptes(), arch/arm64/mm/contpte.c, Linux v7.2. */
static inline uint64_t rmf_test_and_clear_young_ptes(const struct rmf_slots *slots, uint64_t vpn,
						     uint64_t nr, enum rmf_young_test test)
{
	struct rmf_run *run = slots->run;
	uint64_t start = vpn, end = vpn + nr, cleared;

	if (slots->cont_mask) {
		if (*rmf_slots_at(slots, start) & RMF_PTE_CONT)
			start &= ~slots->cont_mask;
		if (*rmf_slots_at(slots, end - 1) & RMF_PTE_CONT)
			end = ((end - 1) | slots->cont_mask) + 1;
		start = start < slots->window_start ? slots->window_start : start;
		end = end > slots->window_end ? slots->window_end : end;
	}
	cleared = rmf_clear_young(rmf_slots_at(slots, start), end - start);
	rmf_count(run, RMF_RAW_PTE_LOADS, end - start);
	if (test == RMF_YOUNG_OF_AGING) {
		rmf_count(run, RMF_AGING_YOUNG_CALLS, 1);
		rmf_count(run, RMF_AGING_YOUNG_TESTS, end - start);
	} else {
		rmf_count(run, RMF_YOUNG_CALLS, 1);
		rmf_count(run, RMF_YOUNG_TESTS, end - start);
		rmf_count(run, RMF_YOUNG_CLEARS, cleared);
	}
	return cleared ? end - start : 0;
}

#endif
