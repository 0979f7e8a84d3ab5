/* The deferred-split queue: large anonymous folios of which some pages are no longer mapped. The
 * shrinker (shrinker.h) splits them. */
#ifndef RMF_DEFERRED_H
#define RMF_DEFERRED_H

#include "run.h"

/* Whether run->max_ptes_none lets any THP be underused. It does not as kernels boot, when it is all
 * but one page of a THP. */
static inline bool rmf_looks_for_underused(const struct rmf_run *run)
{
	return run->max_ptes_none < run->pop.ptrs_per_pte - 1;
}

/* Give the run a queue, with the folios on it that are flagged as partially mapped, in the order of
 * their numbers. Kernels queue each anonymous THP at its first fault; these are on it too where the
 * shrinker looks for underused ones, and would be dropped by it unseen elsewhere. The queue belongs
 * to the run until rmf_deferred_free(). Returns 0 or RMF_ENOMEM. */
int rmf_deferred_set(struct rmf_run *run);
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
