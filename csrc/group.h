/* Folios that were isolated together and go through shrink_folio_list(): free batches, and when the
 * TLB flushes are made that they deferred. docs/model.md, section 6. */
#ifndef RMF_GROUP_H
#define RMF_GROUP_H

#include "visit.h"

enum { RMF_GROUPS_SETTLED = 32 }; /* the memo is settled once for so many groups */

enum {
	RMF_SWAP_CLUSTER_MAX = 32, /* base pages of an isolation */
	RMF_PAGEVEC_SIZE = 31, /* folios in a free batch */
};

/* What the group has to remember, up to the folio that was visited last. */
struct rmf_group {
	uint32_t batch; /* freed folios that the allocator has not got back yet */
	uint32_t dirty; /* folios that wait for one flush with others (policy dirty_flush_batch) */
	uint32_t dirty_freed; /* of them, those that are freed after it */
};

/* Add visits of the same outcome to a group: what they deferred, the flush in a split or before a
 * write-out, and the flush of a full free batch. nr of them, where visits->nr does not hold. */
void rmf_group_add(struct rmf_run *run, struct rmf_group *group, const struct rmf_visits *visits,
		   uint64_t nr);

/* The end of shrink_folio_list(): the flush of what is left. */
void rmf_group_flush(struct rmf_run *run, struct rmf_group *group);

/* Called for each of the visits in their order; rmf_visited_folio() takes `folios`. */
typedef void rmf_put_back(void *context, const struct rmf_visits *visits, const uint32_t *folios);

/* Take a group of folios through shrink_folio_list(). put_back may be NULL. Returns the base pages
 * that were freed. Some events are counted only when rmf_memo_settle() is called.
 *
 * With RMF_VISIT_PAGEOUT it models reclaim_folio_list(), mm/vmscan.c, Linux v7.0. */
uint64_t rmf_shrink_list(struct rmf_run *run, enum rmf_visit_kind kind, const uint32_t *folios,
			 uint64_t nr_folios, rmf_put_back *put_back, void *context);

/* Check groups for rmf_shrink_groups(): the offsets rise, and no folio is in two groups or twice in
 * one. Returns 0, RMF_ENOMEM, or RMF_EINVAL with *fault filled in. */
int rmf_groups_check(const struct rmf_run *run, const uint32_t *folios, uint64_t nr,
		     const uint64_t *group_start, uint64_t nr_groups, struct rmf_fault *fault);

/* Reclaim groups of folios without a reference check. Group i is folios[group_start[i]] to
 * folios[group_start[i + 1] - 1]. It begins with group `first` and stops when the budget is used
 * up. Returns the group to go on with.
 *
 * Models shrink_folio_list() as reclaim_folio_list() calls it for MADV_PAGEOUT, mm/vmscan.c, Linux
 * v7.0. */
uint64_t rmf_shrink_groups(struct rmf_run *run, const uint32_t *folios, const uint64_t *group_start,
			   uint64_t first, uint64_t nr_groups, uint64_t budget);

/* What a run has cost the simulation so far. The memo does not change it. */
static inline uint64_t rmf_work_done(const struct rmf_run *run)
{
	return run->ev[RMF_FOLIOS_SCANNED] + run->ev[RMF_PAGES_SCANNED] + run->ev[RMF_WALK_CALLS] +
	       run->ev[RMF_RAW_PTE_LOADS] + run->ev[RMF_ACTIVE_PASSES];
}

/* The work at which a budget is used up that begins now. */
static inline uint64_t rmf_end_of_budget(const struct rmf_run *run, uint64_t budget)
{
	const uint64_t done = rmf_work_done(run);

	return budget < UINT64_MAX - done ? done + budget : UINT64_MAX;
}

#endif
