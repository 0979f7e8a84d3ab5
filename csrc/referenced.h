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

/* Models folio_referenced_one(), mm/rmap.c: that of Linux v7.0 (52e054f71840) with
 * policy.young_batched, else that of v6.14. Returns false if the rmap walk is to stop. */
bool rmf_folio_referenced_one(struct rmf_run *run, uint64_t folio, uint32_t vma,
			      struct rmf_reference *reference);

#endif
