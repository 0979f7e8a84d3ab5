/* The reclaim loop around the unmap. docs/model.md, section 6. */
#ifndef RMF_RECLAIM_H
#define RMF_RECLAIM_H

#include "visit.h"

enum {
	RMF_SWAP_CLUSTER_MAX = 32, /* base pages of an isolation */
	RMF_PAGEVEC_SIZE = 31, /* folios in a free batch */
	RMF_MAX_RECLAIM_RETRIES = 16,
	RMF_DEF_PRIORITY = 12,
};

/* A first-in, first-out list of folios. It is a ring in an array of the caller, which has room for
 * all folios of the population. The list begins at index 0. */
struct rmf_lru_list {
	uint32_t *folios;
	uint64_t capacity;
	uint64_t head; /* index of the first entry */
	uint64_t tail; /* index behind the last entry; counts what `n` leaves out */
	uint64_t n; /* entries, without the folios of the group at hand */
};

/* A group: what was isolated together, up to the folio that was visited last. */
struct rmf_group {
	uint64_t folios;
	uint64_t pages; /* base pages */
	uint64_t freed; /* base pages */
	uint64_t kept; /* folios that go back on the inactive list when the group ends */
	uint64_t activated;
	uint32_t batch; /* freed folios that the allocator has not got back yet */
	uint32_t turns; /* of the pages of a split folio that are still to come */
	uint32_t dirty; /* folios that wait for one flush with others (policy dirty_flush_batch) */
	uint32_t dirty_freed; /* of them, those that are freed after it */
};

struct rmf_reclaim {
	struct rmf_run *run;
	struct rmf_lru_list inactive;
	struct rmf_lru_list active;
	uint64_t target; /* base pages */
	uint64_t freed;
	uint64_t round_left; /* folios that are left of this round */
	uint64_t round_freed; /* base pages */
	uint32_t idle_rounds;
	uint64_t lru_pages; /* base pages on both lists at the start, less those freed since */
	uint64_t request_left; /* base pages that this round of memory.reclaim still asks for */
	uint64_t pass_left; /* base pages that this pass may still isolate */
	uint64_t max_pages; /* of the largest folio */
	struct rmf_group group;
	uint32_t empty_rounds; /* rounds that found nothing on the lists */
	bool begun; /* the first round, of the lists, has begun */
	bool ended;
	bool in_pass; /* the deferred-split shrinker is still to have its turn in the pass at hand
		       */
	uint32_t priority; /* of the pass; at 0 the next isolation begins a new round */
};

/* Begin a reclaim of `target` base pages. Each list is an array with room for every folio of the
 * population, and for those that splits may add (pop.folio_capacity); its first nr_* elements are
 * the list. Folios that nobody would scan are taken off:
 * freed and unevictable ones, and swapbacked ones if there is no swap space. Returns 0, or what
 * rmf_lru_check() returns. */
int rmf_reclaim_start(struct rmf_reclaim *reclaim, struct rmf_run *run, uint32_t *inactive,
		      uint64_t nr_inactive, uint32_t *active, uint64_t nr_active, uint64_t target,
		      struct rmf_fault *fault);

/* Begin a reclaim whose visits are made elsewhere. `folios` folios of `pages` base pages in all are
 * on the inactive list, and the active list is empty. Only rmf_reclaim_account(),
 * rmf_reclaim_account_log() and rmf_reclaim_goes_on() may follow. */
void rmf_reclaim_start_accounting(struct rmf_reclaim *reclaim, struct rmf_run *run, uint64_t folios,
				  uint64_t pages, uint64_t target);

/* Whether the loop goes on. To be asked between two groups. */
bool rmf_reclaim_goes_on(struct rmf_reclaim *reclaim);

/* Account for visits (RMF_VISIT_RECLAIM) to the next folios of the inactive list: isolations, free
 * batches, flushes, rounds and passes, and the number of folios left on each list. Returns how many
 * of the folios the loop comes to. These are all, unless the loop ends before or has to turn to the
 * active list.
 *
 * Models shrink_inactive_list(), mm/vmscan.c, Linux v7.0. */
uint64_t rmf_reclaim_account(struct rmf_reclaim *reclaim, const struct rmf_visits *visits);

/* Account for a log of visits, entry by entry, up to the folio at which the loop ends. Returns how
 * many folios the loop comes to. */
uint64_t rmf_reclaim_account_log(struct rmf_reclaim *reclaim, const struct rmf_visits *log,
				 uint64_t nr);

/* Reclaim until the target is reached, until there is nothing left to try, or until `budget` is
 * used up. The budget is 1 or more; a unit is about one PTE load. Returns true while there is more
 * to do.
 *
 * Models shrink_inactive_list() and shrink_active_list() for memory.reclaim, mm/vmscan.c, Linux
 * v7.0. */
bool rmf_reclaim_step(struct rmf_reclaim *reclaim, uint64_t budget);

/* The number of the i-th folio of visits. folios[] begins with those that were visited, unless they
 * are pieces. */
uint32_t rmf_visited_folio(const struct rmf_visits *visits, const uint32_t *folios, uint64_t i);

/* Write to out[] the folio and its pieces that are still to be placed on an LRU list, in the order
 * of that list and without those that were freed. Returns how many. They are placed then. */
uint64_t rmf_place(struct rmf_run *run, uint32_t folio, uint32_t *out);

/* Called for each of the visits in their order; rmf_visited_folio() takes `folios`. */
typedef void rmf_put_back(void *context, const struct rmf_visits *visits, const uint32_t *folios);

/* Reclaim a group of folios without a reference check. put_back may be NULL. Returns the base pages
 * that were freed. Some events are counted only when rmf_memo_settle() is called.
 *
 * Models reclaim_folio_list(), mm/vmscan.c, Linux v7.0. */
uint64_t rmf_shrink_list(struct rmf_run *run, const uint32_t *folios, uint64_t nr_folios,
			 rmf_put_back *put_back, void *context);

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

#endif
