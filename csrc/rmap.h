/* The rmap walks: one folio, and every VMA that may map it. */
#ifndef RMF_RMAP_H
#define RMF_RMAP_H

#include "run.h"

/* Models try_to_unmap(), mm/rmap.c, Linux v7.0: unmap the folio from every VMA that may map it. */
void rmf_try_to_unmap(struct rmf_run *run, uint64_t folio, uint32_t ttu);

/* Models folio_referenced(), mm/rmap.c, Linux v7.0. Returns the number of VMAs that referenced the
 * folio, and their flags in *vm_flags. */
int64_t rmf_folio_referenced(struct rmf_run *run, uint64_t folio, uint32_t *vm_flags);

#endif
