#include "reclaim.h"

#include <stdlib.h>

#include "deferred.h"
#include "memo.h"
#include "swap.h"
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

/* Add nr freed folios to the free batch. Each time it is full, what was deferred is flushed. Each
 * of them deferred what `visits` says. */
static void add_freed(struct rmf_run *run, struct rmf_group *group, const struct rmf_visits *visits,
		      uint64_t nr)
{
	uint64_t flushes = (group->batch + nr) / RMF_PAGEVEC_SIZE;

	group->batch = (uint32_t)((group->batch + nr) % RMF_PAGEVEC_SIZE);
	if (!flushes)
		return;
	rmf_try_to_unmap_flush(run);
	if (!visits->deferred)
		return;
	rmf_tlb_count_flushes(run, visits->cpumask, flushes - 1);
	if (group->batch) {
		run->flush_required = true;
		run->tlb_writable = visits->writable;
		run->tlb_cpumask = visits->cpumask;
	}
}

/* One flush for the dirty folios that wait for it. They are written out then. Models the proposal
 * "mm: batch TLB flushing for dirty folios in vmscan". */
static void end_dirty_batch(struct rmf_run *run, struct rmf_group *group)
{
	const struct rmf_visits nothing = { 0 };
	uint32_t freed = group->dirty_freed;

	if (!group->dirty)
		return;
	rmf_try_to_unmap_flush_dirty(run);
	group->dirty = group->dirty_freed = 0;
	add_freed(run, group, &nothing, freed);
}

/* Add nr folios of the same outcome to a group: what they deferred, the flush in a split or before
 * a write-out, and the flush of a full free batch. */
static void add_to_group(struct rmf_run *run, struct rmf_group *group,
			 const struct rmf_visits *visits, uint64_t nr)
{
	const bool freed = visits->outcome == RMF_OUTCOME_FREED;

	if (!nr)
		return;
	if (visits->writes_out && nr > 1) {
		for (uint64_t i = 0; i < nr; i++)
			add_to_group(run, group, visits, 1);
		return;
	}
	run->flush_required |= visits->deferred;
	run->tlb_writable |= visits->writable;
	run->tlb_cpumask |= visits->cpumask;
	if (visits->outcome == RMF_OUTCOME_SPLIT)
		rmf_try_to_unmap_flush(run);
	if (visits->writes_out && run->policy.dirty_flush_batch) {
		group->dirty_freed += freed;
		if (++group->dirty == RMF_PAGEVEC_SIZE)
			end_dirty_batch(run, group);
		return;
	}
	if (visits->writes_out)
		rmf_try_to_unmap_flush_dirty(run);
	if (freed)
		add_freed(run, group, visits, nr);
}

/* The end of shrink_folio_list(). */
static void flush_group(struct rmf_run *run, struct rmf_group *group)
{
	end_dirty_batch(run, group);
	rmf_try_to_unmap_flush(run);
}

static uint64_t wrapped(const struct rmf_lru_list *list, uint64_t at)
{
	return at < list->capacity ? at : at - list->capacity;
}

uint64_t rmf_place(struct rmf_run *run, uint32_t folio, uint32_t *out)
{
	const uint32_t *flags = run->pop.folio_flags;
	struct rmf_pieces *pieces;
	uint64_t n = 0;

	if (!(flags[folio] & RMF_FOLIO_FREED))
		out[n++] = folio;
	if (!run->pieces || folio >= run->nr_given)
		return n;
	pieces = &run->pieces[folio];
	for (uint32_t i = 0; pieces->unplaced && i < pieces->nr; i++) {
		uint32_t piece =
			pieces->first + (run->policy.split_ascending ? i : pieces->nr - 1 - i);

		if (!(flags[piece] & RMF_FOLIO_FREED))
			out[n++] = piece;
	}
	pieces->unplaced = 0;
	return n;
}

/* Put the pieces of the folios that the shrinker split on a list, behind their folio. Pieces that
 * were freed go nowhere. */
static void place_pieces(struct rmf_reclaim *reclaim, struct rmf_lru_list *list)
{
	struct rmf_run *run = reclaim->run;
	const uint64_t n = list->n;
	uint32_t *folios = malloc((n + 1) * sizeof(*folios));

	if (!folios) {
		run->error = RMF_RUN_NO_MEMORY;
		return;
	}
	for (uint64_t i = 0; i < n; i++)
		folios[i] = list->folios[wrapped(list, list->head + i)];
	list->head = list->n = 0;
	for (uint64_t i = 0; i < n; i++)
		list->n += rmf_place(run, folios[i], list->folios + list->n);
	list->tail = wrapped(list, list->n);
	free(folios);
}

/* End the pass at hand, if one has begun: the deferred-split shrinker has its turn. */
static void end_pass(struct rmf_reclaim *reclaim)
{
	if (!reclaim->in_pass)
		return;
	reclaim->in_pass = false;
	if (!rmf_shrink_deferred(reclaim->run, reclaim->priority))
		return;
	place_pieces(reclaim, &reclaim->inactive);
	place_pieces(reclaim, &reclaim->active);
}

/* The passes of a round begin. */
static void begin_reclaim_round(struct rmf_reclaim *reclaim, uint64_t request)
{
	rmf_count(reclaim->run, RMF_RECLAIM_ROUNDS, 1);
	reclaim->request_left = request;
	reclaim->priority = RMF_DEF_PRIORITY + 1;
}

/* Begin the next pass, at the next priority. Without `shrink` nothing was on the deferred-split
 * queue when the last pass ended. */
static void begin_pass(struct rmf_reclaim *reclaim, bool shrink)
{
	if (shrink)
		end_pass(reclaim);
	rmf_count(reclaim->run, RMF_PRIORITY_PASSES, 1);
	reclaim->pass_left = reclaim->lru_pages >> --reclaim->priority;
	reclaim->in_pass = true;
}

/* Models the rounds and passes of memory.reclaim, memory_reclaim() and do_try_to_free_pages(),
 * mm/memcontrol.c and mm/vmscan.c, Linux v7.0. Each round asks for a quarter of what is missing. In
 * a round, each pass scans list size >> priority.
 *
 * Deviation: the passes are only counted. In the kernel they also cut some isolations short
 * (docs/model.md, section 6). */
static void count_passes(struct rmf_reclaim *reclaim, bool shrink)
{
	if (reclaim->request_left && reclaim->pass_left)
		return;
	if (!reclaim->request_left || !reclaim->priority) {
		uint64_t quarter = (reclaim->target - reclaim->freed) / 4;

		if (shrink)
			end_pass(reclaim);
		begin_reclaim_round(reclaim, larger(quarter, RMF_SWAP_CLUSTER_MAX));
	}
	do {
		begin_pass(reclaim, shrink);
	} while (!reclaim->pass_left && reclaim->priority);
}

/* Begin a round if the last one is over. A round scans as many folios as were on the lists when it
 * began. Returns false if there is no use in going on. */
static bool next_round(struct rmf_reclaim *reclaim)
{
	if (reclaim->round_left)
		return true;
	if (reclaim->begun && !reclaim->round_freed &&
	    ++reclaim->idle_rounds == RMF_MAX_RECLAIM_RETRIES)
		return false;
	reclaim->begun = true;
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

	flush_group(reclaim->run, group);
	reclaim->inactive.n += group->kept;
	reclaim->active.n += group->activated;
	end_groups(reclaim, 1, group->folios, group->freed);
	*group = (struct rmf_group){ 0 };
}

/* End the group if no more folios are isolated for it, and all their turns are over. */
static void end_full_group(struct rmf_reclaim *reclaim)
{
	const struct rmf_group *group = &reclaim->group;

	if (!group->turns && (group->pages >= RMF_SWAP_CLUSTER_MAX || !reclaim->inactive.n))
		end_group(reclaim);
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

	if (visits->piece) {
		/* it was isolated as a part of the folio */
		add_to_group(reclaim->run, group, visits, left);
		group->freed += freed * left * pages;
		group->kept += kept * left;
		group->activated += activated * left;
		group->turns -= (uint32_t)left;
		end_full_group(reclaim);
		return left;
	}
	while (left) {
		uint64_t nr;

		if (!group->folios) {
			if (!rmf_reclaim_goes_on(reclaim) || !reclaim->inactive.n)
				break;
			count_passes(reclaim, false);
			nr = 0;
			if (!visits->writes_out && visits->outcome != RMF_OUTCOME_SPLIT)
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
		add_to_group(reclaim->run, group, visits, nr);
		reclaim->inactive.n -= nr;
		group->folios += nr;
		group->pages += nr * pages;
		group->freed += freed * nr * pages;
		group->kept += kept * nr;
		group->activated += activated * nr;
		if (visits->outcome == RMF_OUTCOME_SPLIT)
			group->turns = (uint32_t)pages;
		left -= nr;
		end_full_group(reclaim);
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
		if (log[i].order > RMF_MAX_ORDER || log[i].outcome > RMF_OUTCOME_ACTIVATE ||
		    log[i].piece)
			break;
		taken = rmf_reclaim_account(reclaim, &log[i]);
		done += taken;
		if (taken < log[i].nr)
			break;
	}
	return done;
}

static void append(struct rmf_lru_list *list, uint32_t folio)
{
	list->folios[list->tail] = folio;
	list->tail = wrapped(list, list->tail + 1);
}

uint32_t rmf_visited_folio(const struct rmf_visits *visits, const uint32_t *folios, uint64_t i)
{
	if (!visits->piece)
		return folios[i];
	return visits->falling ? visits->folio - (uint32_t)i : visits->folio + (uint32_t)i;
}

/* Models lru_add(), mm/swap.c, Linux v7.0. A folio that became mlocked goes to the unevictable
 * list, which nobody scans. A freed folio goes nowhere. */
static void lru_add(struct rmf_reclaim *reclaim, const struct rmf_visits *visits,
		    const uint32_t *folios)
{
	const bool active = visits->outcome == RMF_OUTCOME_ACTIVATE;

	if (!visits->listed || !(active || visits->outcome == RMF_OUTCOME_KEEP))
		return;
	for (uint64_t i = 0; i < visits->nr; i++)
		append(active ? &reclaim->active : &reclaim->inactive,
		       rmf_visited_folio(visits, folios, i));
}

/* Take the next n folios off a list, visit them, and put them back where they belong. It stops
 * before if the loop must look. */
static void visit_list(struct rmf_reclaim *reclaim, enum rmf_visit_kind kind,
		       struct rmf_lru_list *list, uint64_t n)
{
	struct rmf_run *run = reclaim->run;
	const uint64_t queued = run->deferred.n;
	struct rmf_visits visits[NR_VISITS];

	do {
		const uint32_t *folios = list->folios + list->head;
		uint64_t nr,
			done = rmf_visit(run, kind, folios, smaller(n, list->capacity - list->head),
					 visits, NR_VISITS, &nr);

		list->head = wrapped(list, list->head + done);
		n -= done;
		for (uint64_t i = 0; i < nr; i++) {
			lru_add(reclaim, &visits[i], folios);
			folios += visits[i].piece ? 0 : visits[i].nr;
			if (kind == RMF_VISIT_RECLAIM) {
				rmf_reclaim_account(reclaim, &visits[i]);
			} else if (visits[i].listed) {
				reclaim->inactive.n +=
					visits[i].nr * (visits[i].outcome == RMF_OUTCOME_KEEP);
				reclaim->active.n +=
					visits[i].nr * (visits[i].outcome == RMF_OUTCOME_ACTIVATE);
			}
		}
	} while (run->turns.left ||
		 (n && (kind == RMF_VISIT_ACTIVE || !rmf_loop_must_look(run, queued))));
	rmf_memo_settle(run);
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
 * Without free swap space nobody looks at swapbacked ones. Returns the base pages that are left. */
static uint64_t drop_unscanned(const struct rmf_run *run, struct rmf_lru_list *list)
{
	bool no_swap = !rmf_swap_free_slots(run);
	uint64_t n = 0, pages = 0;

	for (uint64_t i = 0; i < list->n; i++) {
		uint32_t folio = list->folios[wrapped(list, list->head + i)],
			 flags = run->pop.folio_flags[folio];

		if ((flags & RMF_FOLIO_FREED) || !rmf_folio_evictable(run, folio) ||
		    (no_swap && (flags & RMF_FOLIO_SWAPBACKED)))
			continue;
		list->folios[wrapped(list, list->head + n++)] = folio;
		pages += rmf_folio_nr_pages(&run->pop, folio);
	}
	list->n = n;
	list->tail = wrapped(list, list->head + n);
	return pages;
}

static uint64_t list_pages(const struct rmf_run *run, const struct rmf_lru_list *list)
{
	uint64_t pages = 0;

	for (uint64_t i = 0; i < list->n; i++)
		pages += rmf_folio_nr_pages(&run->pop, list->folios[wrapped(list, list->head + i)]);
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
	const uint64_t capacity = larger(run->pop.nr_folios, run->pop.folio_capacity);
	int error = rmf_lru_check(&run->pop, inactive, nr_inactive, active, nr_active, fault);

	if (error)
		return error;
	*reclaim = (struct rmf_reclaim){
		.run = run,
		.inactive = { .folios = inactive, .capacity = capacity, .n = nr_inactive },
		.active = { .folios = active, .capacity = capacity, .n = nr_active },
		.target = target,
	};
	reclaim->lru_pages = drop_unscanned(run, &reclaim->inactive);
	reclaim->lru_pages += drop_unscanned(run, &reclaim->active);
	run->swap_ran_out = rmf_swap_configured(run) && !rmf_swap_free_slots(run);
	run->stop_without_swap = rmf_swap_free_slots(run) > 0;
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
		.begun = true,
		.round_left = folios,
		.lru_pages = pages,
	};
}

/* What a run has cost the simulation so far. The memo does not change it. */
static uint64_t work_done(const struct rmf_run *run)
{
	return run->ev[RMF_FOLIOS_SCANNED] + run->ev[RMF_PAGES_SCANNED] + run->ev[RMF_WALK_CALLS] +
	       run->ev[RMF_RAW_PTE_LOADS] + run->ev[RMF_ACTIVE_PASSES];
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

	if (rmf_loop_must_look(reclaim->run, UINT64_MAX))
		return smaller(nr, 1);
	if (reclaim->run->deferred.n) {
		/* the shrinker has its turn when the pass ends: each isolation takes 32 pages from
		 * it, and has a folio or more */
		uint64_t request = less(reclaim->request_left, group->freed);

		nr = smaller(nr, 1 + less(reclaim->pass_left, 1) / RMF_SWAP_CLUSTER_MAX);
		nr = smaller(nr, 1 + less(request, 1) / reclaim->max_pages);
	}
	nr = smaller(nr, 1 + less(missing, 1) / reclaim->max_pages);
	nr = smaller(nr, 1 + budget_left / reclaim->max_pages);
	/* the retries may be used up with this round */
	if (reclaim->idle_rounds + 1 == RMF_MAX_RECLAIM_RETRIES)
		nr = smaller(nr, 1 + less(less(reclaim->round_left, group->folios), 1));
	return nr;
}

/* A round that finds nothing on the lists. It comes to the shrinker only. */
static void empty_round(struct rmf_reclaim *reclaim)
{
	reclaim->empty_rounds++;
	begin_reclaim_round(reclaim, 0);
	while (reclaim->priority)
		begin_pass(reclaim, true);
	end_pass(reclaim);
	reclaim->pass_left = 0;
}

/* Take off the lists what is not scanned any more: swapbacked folios once the last swap slot is
 * taken. */
static void drop_swapbacked(struct rmf_reclaim *reclaim)
{
	struct rmf_run *run = reclaim->run;

	if (run->stop_without_swap && !rmf_swap_free_slots(run)) {
		run->unscanned_pages =
			list_pages(run, &reclaim->inactive) + list_pages(run, &reclaim->active);
		run->unscanned_pages -= drop_unscanned(run, &reclaim->inactive);
		run->unscanned_pages -= drop_unscanned(run, &reclaim->active);
		run->stop_without_swap = false;
		run->swap_ran_out = true;
		rmf_memo_forget(run);
	}
	reclaim->lru_pages = less(reclaim->lru_pages, run->unscanned_pages);
	run->unscanned_pages = 0;
}

/* What has to be done before a group: whether the lists are worth looking at. If not, the loop has
 * ended, or something else was done. */
static bool begin_group(struct rmf_reclaim *reclaim)
{
	struct rmf_run *run = reclaim->run;

	drop_swapbacked(reclaim);
	if (reclaim->freed >= reclaim->target || !next_round(reclaim)) {
		reclaim->ended = true;
		return false;
	}
	if (reclaim->inactive.n + reclaim->active.n)
		return true;
	end_pass(reclaim);
	if (reclaim->inactive.n + reclaim->active.n)
		return false;
	if (run->deferred.n && reclaim->empty_rounds < RMF_MAX_RECLAIM_RETRIES)
		empty_round(reclaim);
	else
		reclaim->ended = true;
	return false;
}

bool rmf_reclaim_step(struct rmf_reclaim *reclaim, uint64_t budget)
{
	struct rmf_run *run = reclaim->run;
	uint64_t end = end_of_budget(run, budget);

	while (!run->error) {
		if (!reclaim->group.folios) {
			if (reclaim->ended) {
				end_pass(reclaim);
				break;
			}
			if (!begin_group(reclaim))
				continue;
			if (work_done(run) >= end)
				return true;
			if (!reclaim->inactive.n) {
				shrink_active(reclaim);
				continue;
			}
			if (run->deferred.n)
				count_passes(reclaim, true);
			if (!reclaim->inactive.n)
				continue; /* the shrinker freed them */
		}
		visit_list(reclaim, RMF_VISIT_RECLAIM, &reclaim->inactive,
			   folios_to_visit(reclaim, less(end, work_done(run))));
	}
	return false;
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

uint64_t rmf_shrink_list(struct rmf_run *run, const uint32_t *folios, uint64_t nr_folios,
			 rmf_put_back *put_back, void *context)
{
	struct rmf_visits visits[NR_VISITS];
	struct rmf_group group = { 0 };
	uint64_t at = 0, nr, freed = 0;

	rmf_count(run, RMF_SHRINK_CALLS, 1);
	while (at < nr_folios || run->turns.left) {
		const uint32_t *visited = folios + at;

		at += rmf_visit(run, RMF_VISIT_PAGEOUT, visited, nr_folios - at, visits, NR_VISITS,
				&nr);
		for (uint64_t i = 0; i < nr; i++) {
			add_to_group(run, &group, &visits[i], visits[i].nr);
			freed += (visits[i].outcome == RMF_OUTCOME_FREED) * visits[i].nr
				 << visits[i].order;
			if (put_back)
				put_back(context, &visits[i], visited);
			visited += visits[i].piece ? 0 : visits[i].nr;
		}
	}
	flush_group(run, &group);
	return freed;
}

uint64_t rmf_shrink_groups(struct rmf_run *run, const uint32_t *folios, const uint64_t *group_start,
			   uint64_t first, uint64_t nr_groups, uint64_t budget)
{
	uint64_t end = end_of_budget(run, budget), group;

	for (group = first; group < nr_groups && work_done(run) < end; group++) {
		rmf_shrink_list(run, folios + group_start[group],
				group_start[group + 1] - group_start[group], NULL, NULL);
		if (group % GROUPS_SETTLED == 0)
			rmf_memo_settle(run);
	}
	rmf_memo_settle(run);
	return group;
}
