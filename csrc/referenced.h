/* The reference check of one VMA. */
#ifndef RMF_REFERENCED_H
#define RMF_REFERENCED_H

#include "run.h"

/* struct folio_referenced_arg */
struct rmf_reference {
	int64_t mapcount; /* mappings not seen yet */
	int64_t referenced; /* VMAs that referenced the folio */
	uint32_t vm_flags;
};

/* Models folio_referenced_one(), mm/rmap.c: Linux v7.0 (52e054f71840) with policy.young_batched,
 * else v6.14. False stops the rmap walk. */
bool rmf_folio_referenced_one(struct rmf_run *run, uint64_t folio, uint32_t vma,
			      struct rmf_reference *reference);

#endif
