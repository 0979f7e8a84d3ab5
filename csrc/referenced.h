/* The reference check of one VMA. */
#ifndef RMF_REFERENCED_H
#define RMF_REFERENCED_H

#include "slots.h"

/* Models struct folio_referenced_arg, mm/rmap.c, Linux v7.0. */
struct rmf_reference {
	int64_t mapcount; /* mappings not seen yet */
	int64_t referenced; /* VMAs that referenced the folio */
	uint32_t vm_flags;
};

/* Which events count a young test. */
enum rmf_young_test { RMF_YOUNG_OF_FOLIO, RMF_YOUNG_OF_AGING };

/* Test and clear young of nr entries, without a TLB flush. arm64 tracks access per block, so a
 * range is widened to whole blocks where an edge is folded. Returns how many entries were tested if
 * any was young, else 0. Models test_and_clear_young_ptes(), include/linux/pgtable.h, and
 * contpte_test_and_clear_young_ptes(), arch/arm64/mm/contpte.c, Linux v7.2. */
uint64_t rmf_test_and_clear_young_ptes(const struct rmf_slots *slots, uint64_t vpn, uint64_t nr,
				       enum rmf_young_test test);

/* Models folio_referenced_one(), mm/rmap.c: that of Linux v7.0 (52e054f71840) with
 * policy.young_batched, else that of v6.14. Returns false if the rmap walk is to stop. */
bool rmf_folio_referenced_one(struct rmf_run *run, uint64_t folio, uint32_t vma,
			      struct rmf_reference *reference);

#endif
