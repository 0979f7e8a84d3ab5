/* The loop of memory.reclaim: rounds, passes and isolations. docs/model.md, section 6. */
#ifndef RMF_RECLAIM_H
#define RMF_RECLAIM_H

#include "ahead.h"
#include "group.h"
#include "lru.h"
#include "lru_gen.h"

enum { RMF_MAX_RECLAIM_RETRIES = 16 };

/* Which lists there are, and what is known of them at the start. All zero: the classic LRU of a new
 * memory cgroup. */
struct rmf_lru_options {
	bool mglru;
	bool stats_flushed; /* the statistics of the memory cgroup show the two lists */
	uint32_t page_shift; /* used with stats_flushed */
	uint64_t max_seq; /* of the multi-gen LRU */
	uint64_t min_seq[RMF_NR_LRU_TYPES];
};

/* What the loop does next. */
enum rmf_reclaim_next {
	RMF_NEXT_UNKNOWN, /* it was not asked yet, or that is done */
	RMF_NEXT_INACTIVE, /* isolate from the inactive list, and shrink the group */
	RMF_NEXT_ACTIVE, /* isolate from the active list, and deactivate */
	RMF_NEXT_EVICT, /* isolate from the generations, and shrink the group */
	RMF_NEXT_END,
};

/* An isolation from the inactive list, up to the folio that was visited last. */
struct rmf_isolation {
	struct rmf_group group;
	uint64_t wanted; /* base pages that it asks for; 0 while there is none */
	uint64_t pages; /* base pages taken */
	uint64_t freed; /* base pages */
	uint64_t kept; /* folios that go back on the inactive list when the group ends */
	uint64_t kept_pages;
	uint64_t activated;
	uint64_t activated_pages;
	uint32_t turns; /* of the pages of a split folio that are still to come */
};

struct rmf_reclaim {
	struct rmf_run *run;
	struct rmf_lru_list inactive;
	struct rmf_lru_list active;
	struct rmf_lru_gen gen; /* in place of the two, if run->lru_gen is set */
	uint64_t target; /* base pages */
	uint64_t freed; /* without the isolation at hand */
	uint64_t max_pages; /* of the largest folio */

	/* the round, try_to_free_mem_cgroup_pages() */
	uint64_t request; /* base pages; 0 between two rounds */
	uint64_t round_freed;
	uint32_t idle_rounds; /* rounds so far that freed nothing */
	uint32_t walks; /* how often the priorities were gone through before in this round */
	bool skipped; /* a pass was not to deactivate */
	bool forced; /* passes deactivate always */
	bool inactive_is_low; /* passes deactivate, as the statistics say */

	/* the pass */
	uint32_t priority; /* above RMF_DEF_PRIORITY before the first */
	bool in_pass;
	bool active_turn; /* the active list is next */
	uint64_t scan_inactive; /* base pages still to be isolated from each list */
	uint64_t scan_active;
	uint64_t pass_freed;

	enum rmf_reclaim_next next;
	uint64_t wanted; /* base pages of the next isolation from a list */
	struct rmf_isolation isolation;

	struct rmf_ahead *ahead; /* or NULL */
	uint64_t ahead_pages; /* fewer base pages are not visited ahead */
};

/* Begin a reclaim of `target` base pages. Each list is an array with room for every folio of the
 * population, and for those that splits may add (pop.folio_capacity); its first nr_* elements are
 * the list. Of the classic LRU what nobody would scan is taken off: freed and unevictable folios,
 * and swapbacked ones if there is no swap space. With the multi-gen LRU the folios of both lists
 * have generations. rmf_reclaim_free() is to be called in any case. Returns 0, RMF_ENOMEM, or
 * RMF_EINVAL with *fault filled in. */
int rmf_reclaim_start(struct rmf_reclaim *reclaim, struct rmf_run *run, uint32_t *inactive,
		      uint64_t nr_inactive, uint32_t *active, uint64_t nr_active, uint64_t target,
		      const struct rmf_lru_options *options, struct rmf_fault *fault);
void rmf_reclaim_free(struct rmf_reclaim *reclaim);

/* Begin a reclaim whose visits are made elsewhere. `folios` folios of `pages` base pages in all are
 * on the inactive list, and the active list is empty. Only rmf_reclaim_account_log() and
 * rmf_reclaim_advance() may follow. */
void rmf_reclaim_start_accounting(struct rmf_reclaim *reclaim, struct rmf_run *run, uint64_t folios,
				  uint64_t pages, uint64_t target);

/* What the loop does next; RMF_NEXT_INACTIVE in the middle of an isolation. Rounds and passes begin
 * and end as needed, and are counted. */
enum rmf_reclaim_next rmf_reclaim_advance(struct rmf_reclaim *reclaim);

/* Account for a packed log (packed_log.h) of visits (RMF_VISIT_RECLAIM) to the next folios of the
 * inactive list, entry by entry: isolations, free batches, flushes, rounds and passes, and what is
 * left on each list. Returns how many of the folios the loop comes to. These are all, unless the
 * loop ends before or has to turn to the active list. */
uint64_t rmf_reclaim_account_log(struct rmf_reclaim *reclaim, const uint8_t *log, uint64_t nr);

/* Reclaim until the target is reached, until there is nothing left to try, until `budget` is used
 * up, or until visits are to be made ahead. The budget is 1 or more; a unit is about one PTE load.
 * Returns true while there is more to do. */
bool rmf_reclaim_step(struct rmf_reclaim *reclaim, uint64_t budget);

/* Have visits made ahead by `workers` threads (ahead.h), wherever `pages` base pages or more are
 * certain to come; pages is 1 or more. Returns 0, RMF_ENOMEM, or RMF_EINVAL if visits may depend on
 * each other: fault->rule says why. That is of the folio fault->index, unless fault->array is NULL.
 * Nothing is changed then. */
int rmf_reclaim_share_out(struct rmf_reclaim *reclaim, uint32_t workers, uint64_t pages,
			  struct rmf_fault *fault);

/* Whether visits are to be made ahead before the next step: rmf_reclaim_begin_ahead(),
 * rmf_ahead_visit() once for each worker, rmf_ahead_end(). */
bool rmf_reclaim_ahead_is_due(const struct rmf_reclaim *reclaim);
void rmf_reclaim_begin_ahead(struct rmf_reclaim *reclaim);

/* Write the generations back to the arrays of rmf_reclaim_start(): the two youngest are the active
 * list. Nothing with the classic LRU, whose lists are always there. */
void rmf_reclaim_store_lists(struct rmf_reclaim *reclaim);

#endif
