/* The deferred-split queue: large anonymous folios of which some pages are no longer mapped. The
 * shrinker (shrinker.h) splits them. */
#ifndef RMF_DEFERRED_H
#define RMF_DEFERRED_H

#include "run.h"

/* Give the run an empty queue with room for all its folios, then put these folios on it; with
 * NULL all those that are flagged as partially mapped, in the order of their numbers. The queue
 * belongs to the run until rmf_deferred_free(). Returns 0, RMF_ENOMEM, or RMF_EINVAL with *fault
 * filled in. */
int rmf_deferred_set(struct rmf_run *run, const uint32_t *folios, uint64_t nr,
		     uint32_t max_ptes_none, struct rmf_fault *fault);
void rmf_deferred_free(struct rmf_run *run);

/* Put a folio on the queue if there is one, or take it off. */
void rmf_deferred_add(struct rmf_run *run, uint64_t folio);
void rmf_deferred_remove(struct rmf_run *run, uint64_t folio);

/* Take the first folio off the queue, which is not empty. */
uint32_t rmf_deferred_pop(struct rmf_run *run);

/* Write the folios on the queue, the first to be scanned first, to out[], which has room for
 * run->deferred.n. */
void rmf_deferred_list(const struct rmf_run *run, uint32_t *out);

#endif
