#include "reclaim.h"

#include <stdlib.h>

#include "memo.h"
#include "tlb.h"

enum {
	NR_VISITS = 256,
	GROUPS_SETTLED = 32, /* a pageout settles the memo once for so many groups */
};

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Add nr folios of the same outcome to a group: what they deferred, the flush before a write-out,
 * and the flush of a full free batch. */
static void add_to_group(struct rmf_run *run, uint32_t *batch, const struct rmf_visits *visits,
			 uint64_t nr)
{
	uint64_t flushes;

	if (!nr)
		return;
	if (visits->writes_out && nr > 1) {
		for (uint64_t i = 0; i < nr; i++)
			add_to_group(run, batch, visits, 1);
		return;
	}
	run->flush_required |= visits->deferred;
	run->tlb_writable |= visits->writable;
	run->tlb_cpumask |= visits->cpumask;
	if (visits->writes_out)
		rmf_try_to_unmap_flush_dirty(run);
	if (visits->outcome != RMF_OUTCOME_FREED)
		return;
	flushes = (*batch + nr) / RMF_PAGEVEC_SIZE;
	*batch = (uint32_t)((*batch + nr) % RMF_PAGEVEC_SIZE);
	if (!flushes)
		return;
	rmf_try_to_unmap_flush(run);
	if (!visits->deferred)
		return;
	rmf_tlb_count_flushes(run, visits->cpumask, flushes - 1);
	if (*batch) {
		run->flush_required = true;
		run->tlb_writable = visits->writable;
		run->tlb_cpumask = visits->cpumask;
	}
}

/* Models the rounds and passes of memory.reclaim, memory_reclaim() and do_try_to_free_pages(),
 * mm/memcontrol.c and mm/vmscan.c, Linux v7.0. Each round asks for a quarter of what is missing. In
 * a round, each pass scans list size >> priority.
 *
 * Deviation: the passes are only counted. In the kernel they also cut some isolations short
 * (docs/model.md, section 6). */
static void count_passes(struct rmf_reclaim *reclaim)
{
	if (reclaim->request_left && reclaim->pass_left)
		return;
	if (!reclaim->request_left || !reclaim->priority) {
		uint64_t quarter = (reclaim->target - reclaim->freed) / 4;

		rmf_count(reclaim->run, RMF_RECLAIM_ROUNDS, 1);
		reclaim->request_left = larger(quarter, RMF_SWAP_CLUSTER_MAX);
		reclaim->priority = RMF_DEF_PRIORITY + 1;
	}
	do {
		rmf_count(reclaim->run, RMF_PRIORITY_PASSES, 1);
		reclaim->pass_left = reclaim->lru_pages >> --reclaim->priority;
	} while (!reclaim->pass_left && reclaim->priority);
}

/* Begin a round if the last one is over. A round scans as many folios as were on the lists when it
 * began. Returns false if there is no use in going on. */
static bool next_round(struct rmf_reclaim *reclaim)
{
	if (reclaim->round_left)
		return true;
	if (!reclaim->round_freed && ++reclaim->idle_rounds == RMF_MAX_RECLAIM_RETRIES)
		return false;
	reclaim->round_left = reclaim->inactive.n + reclaim->active.n;
	reclaim->round_freed = 0;
	return true;
}

bool rmf_reclaim_goes_on(struct rmf_reclaim *reclaim)
{
	reclaim->ended = reclaim->ended || reclaim->freed >= reclaim->target ||
			 !(reclaim->inactive.n + reclaim->active.n) || !next_round(reclaim);
	return !reclaim->ended;
}

/* Account for nr equal groups that are done. Each had `folios` folios, and `pages` base pages of it
 * were freed. */
static void end_groups(struct rmf_reclaim *reclaim, uint64_t nr, uint64_t folios, uint64_t pages)
{
	rmf_count(reclaim->run, RMF_ISOLATION_CALLS, nr);
	rmf_count(reclaim->run, RMF_SHRINK_CALLS, nr);
	reclaim->round_left = less(reclaim->round_left, nr * folios);
	reclaim->freed += nr * pages;
	reclaim->round_freed += nr * pages;
	reclaim->lru_pages = less(reclaim->lru_pages, nr * pages);
	reclaim->request_left = less(reclaim->request_left, nr * pages);
	reclaim->pass_left = less(reclaim->pass_left, nr * RMF_SWAP_CLUSTER_MAX);
}

/* How many groups of `folios` such folios can be done as one. Nothing that happens between them
 * makes the next one differ. */
static uint64_t nr_equal_groups(const struct rmf_reclaim *reclaim, uint64_t folios, uint64_t pages)
{
	uint64_t nr = smaller(less(reclaim->round_left, 1) / folios,
			      less(reclaim->pass_left, 1) / RMF_SWAP_CLUSTER_MAX);

	if (pages) {
		uint64_t wanted = smaller(reclaim->request_left, reclaim->target - reclaim->freed);

		nr = smaller(nr, less(wanted, 1) / pages);
	}
	return smaller(nr + 1, reclaim->inactive.n / folios);
}

static void end_group(struct rmf_reclaim *reclaim)
{
	struct rmf_group *group = &reclaim->group;

	rmf_try_to_unmap_flush(reclaim->run);
	reclaim->inactive.n += group->kept;
	reclaim->active.n += group->activated;
	end_groups(reclaim, 1, group->folios, group->freed);
	*group = (struct rmf_group){ 0 };
}

uint64_t rmf_reclaim_account(struct rmf_reclaim *reclaim, const struct rmf_visits *visits)
{
	const bool freed = visits->outcome == RMF_OUTCOME_FREED,
		   kept = visits->outcome == RMF_OUTCOME_KEEP && visits->listed,
		   activated = visits->outcome == RMF_OUTCOME_ACTIVATE && visits->listed;
	const uint64_t pages = (uint64_t)1 << visits->order,
		       full = (RMF_SWAP_CLUSTER_MAX + pages - 1) / pages;
	struct rmf_group *group = &reclaim->group;
	uint64_t left = visits->nr;

	while (left) {
		uint64_t nr;

		if (!group->folios) {
			if (!rmf_reclaim_goes_on(reclaim) || !reclaim->inactive.n)
				break;
			count_passes(reclaim);
			nr = 0;
			if (!visits->writes_out)
				nr = smaller(left / full,
					     nr_equal_groups(reclaim, full, freed * full * pages));
			if (nr) {
				uint64_t flushes = freed && full > RMF_PAGEVEC_SIZE ? 2 : 1;

				rmf_tlb_count_flushes(reclaim->run, visits->cpumask,
						      visits->deferred ? nr * flushes : 0);
				reclaim->inactive.n -= nr * full * !kept;
				reclaim->active.n += nr * full * activated;
				end_groups(reclaim, nr, full, freed * full * pages);
				left -= nr * full;
				continue;
			}
		}
		nr = smaller(smaller(left,
				     (RMF_SWAP_CLUSTER_MAX - group->pages + pages - 1) / pages),
			     reclaim->inactive.n);
		add_to_group(reclaim->run, &group->batch, visits, nr);
		reclaim->inactive.n -= nr;
		group->folios += nr;
		group->pages += nr * pages;
		group->freed += freed * nr * pages;
		group->kept += kept * nr;
		group->activated += activated * nr;
		left -= nr;
		if (group->pages >= RMF_SWAP_CLUSTER_MAX || !reclaim->inactive.n)
			end_group(reclaim);
	}
	return visits->nr - left;
}

uint64_t rmf_reclaim_account_log(struct rmf_reclaim *reclaim, const struct rmf_visits *log,
				 uint64_t nr)
{
	uint64_t done = 0;

	for (uint64_t i = 0; i < nr; i++) {
		uint64_t taken;

		/* the log may come from another process */
		if (log[i].order > RMF_MAX_ORDER || log[i].outcome > RMF_OUTCOME_ACTIVATE)
			break;
		taken = rmf_reclaim_account(reclaim, &log[i]);
		done += taken;
		if (taken < log[i].nr)
			break;
	}
	return done;
}

static uint64_t wrapped(const struct rmf_lru_list *list, uint64_t at)
{
	return at < list->capacity ? at : at - list->capacity;
}

/* Models lru_add(), mm/swap.c, Linux v7.0. A folio that became mlocked goes to the unevictable
 * list, which nobody scans. A freed folio goes nowhere. */
static void lru_add(struct rmf_reclaim *reclaim, const struct rmf_visits *visits,
		    const uint32_t *folios)
{
	struct rmf_lru_list *list = &reclaim->inactive;

	if (visits->outcome == RMF_OUTCOME_ACTIVATE)
		list = &reclaim->active;
	if (visits->outcome == RMF_OUTCOME_FREED || !visits->listed)
		return;
	for (uint64_t i = 0; i < visits->nr; i++) {
		list->folios[list->tail] = folios[i];
		list->tail = wrapped(list, list->tail + 1);
	}
}

/* Take the next n folios off a list, visit them, and put them back where they belong. */
static void visit_list(struct rmf_reclaim *reclaim, enum rmf_visit_kind kind,
		       struct rmf_lru_list *list, uint64_t n)
{
	struct rmf_visits visits[NR_VISITS];

	while (n) {
		const uint32_t *folios = list->folios + list->head;
		uint64_t nr, done = rmf_visit(reclaim->run, kind, folios,
					      smaller(n, list->capacity - list->head), visits,
					      NR_VISITS, &nr);

		list->head = wrapped(list, list->head + done);
		n -= done;
		for (uint64_t i = 0; i < nr; folios += visits[i++].nr) {
			lru_add(reclaim, &visits[i], folios);
			if (kind == RMF_VISIT_RECLAIM) {
				rmf_reclaim_account(reclaim, &visits[i]);
			} else if (visits[i].listed) {
				reclaim->inactive.n +=
					visits[i].nr * (visits[i].outcome == RMF_OUTCOME_KEEP);
				reclaim->active.n +=
					visits[i].nr * (visits[i].outcome == RMF_OUTCOME_ACTIVATE);
			}
		}
	}
	rmf_memo_settle(reclaim->run);
}

/* Models shrink_active_list() with isolate_lru_folios(), mm/vmscan.c, Linux v7.0. Base pages are
 * counted after a folio was taken. */
static void shrink_active(struct rmf_reclaim *reclaim)
{
	struct rmf_lru_list *list = &reclaim->active;
	uint64_t nr = 0;

	for (uint64_t pages = 0; pages < RMF_SWAP_CLUSTER_MAX && nr < list->n; nr++)
		pages += rmf_folio_nr_pages(&reclaim->run->pop,
					    list->folios[wrapped(list, list->head + nr)]);
	rmf_count(reclaim->run, RMF_ACTIVE_PASSES, 1);
	list->n -= nr;
	visit_list(reclaim, RMF_VISIT_ACTIVE, list, nr);
}

/* Take off a list what the kernel would not scan. Freed and unevictable folios are on no list.
 * Without swap space nobody looks at swapbacked ones. */
static void drop_unscanned(const struct rmf_run *run, struct rmf_lru_list *list)
{
	bool no_swap = run->swap_end == run->swap_next;
	uint64_t n = 0;

	for (uint64_t i = 0; i < list->n; i++) {
		uint32_t flags = run->pop.folio_flags[list->folios[i]];

		if ((flags & RMF_FOLIO_FREED) || !rmf_folio_evictable(run, list->folios[i]) ||
		    (no_swap && (flags & RMF_FOLIO_SWAPBACKED)))
			continue;
		list->folios[n++] = list->folios[i];
	}
	list->n = n;
}

static uint64_t list_pages(const struct rmf_run *run, const struct rmf_lru_list *list)
{
	uint64_t pages = 0;

	for (uint64_t i = 0; i < list->n; i++)
		pages += rmf_folio_nr_pages(&run->pop, list->folios[i]);
	return pages;
}

static uint64_t max_pages(const struct rmf_population *pop)
{
	uint8_t order = 0;

	for (uint64_t i = 0; i < pop->nr_folios; i++)
		order = pop->folio_order[i] > order ? pop->folio_order[i] : order;
	return (uint64_t)1 << order;
}

int rmf_reclaim_start(struct rmf_reclaim *reclaim, struct rmf_run *run, uint32_t *inactive,
		      uint64_t nr_inactive, uint32_t *active, uint64_t nr_active, uint64_t target,
		      struct rmf_fault *fault)
{
	const uint64_t capacity = run->pop.nr_folios;
	int error = rmf_lru_check(&run->pop, inactive, nr_inactive, active, nr_active, fault);

	if (error)
		return error;
	*reclaim = (struct rmf_reclaim){
		.run = run,
		.inactive = { .folios = inactive, .capacity = capacity, .n = nr_inactive },
		.active = { .folios = active, .capacity = capacity, .n = nr_active },
		.target = target,
	};
	drop_unscanned(run, &reclaim->inactive);
	drop_unscanned(run, &reclaim->active);
	reclaim->round_left = reclaim->inactive.n + reclaim->active.n;
	reclaim->lru_pages =
		list_pages(run, &reclaim->inactive) + list_pages(run, &reclaim->active);
	reclaim->inactive.tail = wrapped(&reclaim->inactive, reclaim->inactive.n);
	reclaim->active.tail = wrapped(&reclaim->active, reclaim->active.n);
	reclaim->max_pages = max_pages(&run->pop);
	return 0;
}

void rmf_reclaim_start_accounting(struct rmf_reclaim *reclaim, struct rmf_run *run, uint64_t folios,
				  uint64_t pages, uint64_t target)
{
	*reclaim = (struct rmf_reclaim){
		.run = run,
		.inactive = { .n = folios },
		.target = target,
		.round_left = folios,
		.lru_pages = pages,
	};
}

/* What a run has cost the simulation so far. The memo does not change it. */
static uint64_t work_done(const struct rmf_run *run)
{
	return run->ev[RMF_PAGES_SCANNED] + run->ev[RMF_WALK_CALLS] + run->ev[RMF_RAW_PTE_LOADS] +
	       run->ev[RMF_ACTIVE_PASSES];
}

static uint64_t end_of_budget(const struct rmf_run *run, uint64_t budget)
{
	uint64_t done = work_done(run);

	return budget < UINT64_MAX - done ? done + budget : UINT64_MAX;
}

/* How many folios can be visited before it has to be decided whether the loop goes on. Either the
 * group at hand is not finished, or the loop cannot end at a group that begins with one of them. */
static uint64_t folios_to_visit(const struct rmf_reclaim *reclaim, uint64_t budget_left)
{
	const struct rmf_group *group = &reclaim->group;
	uint64_t missing = less(reclaim->target, reclaim->freed + group->freed),
		 nr = reclaim->inactive.n;

	nr = smaller(nr, 1 + less(missing, 1) / reclaim->max_pages);
	nr = smaller(nr, 1 + budget_left / reclaim->max_pages);
	/* the retries may be used up with this round */
	if (reclaim->idle_rounds + 1 == RMF_MAX_RECLAIM_RETRIES)
		nr = smaller(nr, 1 + less(less(reclaim->round_left, group->folios), 1));
	return nr;
}

bool rmf_reclaim_step(struct rmf_reclaim *reclaim, uint64_t budget)
{
	uint64_t end = end_of_budget(reclaim->run, budget);

	for (;;) {
		if (!reclaim->group.folios) {
			if (!rmf_reclaim_goes_on(reclaim))
				return false;
			if (work_done(reclaim->run) >= end)
				return true;
			if (!reclaim->inactive.n) {
				shrink_active(reclaim);
				continue;
			}
		}
		visit_list(reclaim, RMF_VISIT_RECLAIM, &reclaim->inactive,
			   folios_to_visit(reclaim, less(end, work_done(reclaim->run))));
	}
}

int rmf_groups_check(const struct rmf_run *run, const uint32_t *folios, uint64_t nr,
		     const uint64_t *group_start, uint64_t nr_groups, struct rmf_fault *fault)
{
	uint64_t *listed = rmf_folio_bits(&run->pop);
	int error;

	if (!listed)
		return RMF_ENOMEM;
	error = rmf_folios_check(&run->pop, folios, nr, "folios", listed, fault);
	free(listed);
	for (uint64_t group = 0; !error && group <= nr_groups; group++) {
		uint64_t wanted = group == 0 ? 0 : group_start[group - 1];

		if (group_start[group] < wanted || group_start[group] > nr ||
		    (group == 0 && group_start[0]) ||
		    (group == nr_groups && group_start[group] != nr))
			error = rmf_fault_at(fault, "group_start", group,
					     "offsets rise from 0 to the number of folios");
	}
	return error;
}

uint64_t rmf_shrink_groups(struct rmf_run *run, const uint32_t *folios, const uint64_t *group_start,
			   uint64_t first, uint64_t nr_groups, uint64_t budget)
{
	uint64_t end = end_of_budget(run, budget), group;

	for (group = first; group < nr_groups && work_done(run) < end; group++) {
		struct rmf_visits visits[NR_VISITS];
		uint64_t at = group_start[group], nr;
		uint32_t batch = 0;

		rmf_count(run, RMF_SHRINK_CALLS, 1);
		while (at < group_start[group + 1]) {
			at += rmf_visit(run, RMF_VISIT_PAGEOUT, folios + at,
					group_start[group + 1] - at, visits, NR_VISITS, &nr);
			for (uint64_t i = 0; i < nr; i++)
				add_to_group(run, &batch, &visits[i], visits[i].nr);
		}
		rmf_try_to_unmap_flush(run);
		if (group % GROUPS_SETTLED == 0)
			rmf_memo_settle(run);
	}
	rmf_memo_settle(run);
	return group;
}
