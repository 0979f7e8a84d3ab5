#include "reclaim.h"

#include <stdlib.h>

#include "memo.h"
#include "packed_log.h"
#include "shrinker.h"
#include "swap.h"
#include "tlb.h"

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

/* ---- what is scanned ---- */

/* Whether one of the folios [first, first + nr) has one of the flags. */
static bool any_has(const struct rmf_run *run, uint64_t first, uint64_t nr, uint32_t flags)
{
	uint32_t found = 0;

	for (uint64_t i = first; i < first + nr; i++)
		found |= run->pop.folio_flags[i];
	return found & flags;
}

/* Take off a list what the kernel would not scan. Freed and unevictable folios are on no list.
 * Without free swap space nobody looks at swapbacked ones. Folios behind each other are looked at
 * together, because a population has up to one folio per page. */
static void drop_unscanned(const struct rmf_run *run, struct rmf_lru_list *list)
{
	enum { BLOCK = 4096 };
	const uint32_t off_list = RMF_FOLIO_FREED | RMF_NOT_EVICTABLE |
				  (rmf_swap_free_slots(run) ? 0 : RMF_FOLIO_SWAPBACKED);
	uint64_t n = 0;

	list->pages = 0;
	for (uint64_t i = 0; i < list->n;) {
		const uint64_t at = rmf_lru_index(list, list->head + i),
			       left = smaller(smaller(list->n - i, list->capacity - at), BLOCK),
			       nr = rmf_ascending(list->folios + at, left);
		const uint32_t first = list->folios[at];

		if (n == i && !any_has(run, first, nr, off_list)) {
			list->pages += rmf_pages_of_folios(&run->pop, first, nr);
			n += nr;
			i += nr;
			continue;
		}
		for (uint64_t folio = first; folio < first + nr; folio++, i++) {
			if (run->pop.folio_flags[folio] & off_list)
				continue;
			list->folios[rmf_lru_index(list, list->head + n++)] = (uint32_t)folio;
			list->pages += rmf_folio_nr_pages(&run->pop, folio);
		}
	}
	list->n = n;
	list->tail = rmf_lru_index(list, list->head + n);
}

/* Take swapbacked folios off the lists once the last swap slot is taken. */
static void drop_swapbacked(struct rmf_reclaim *reclaim)
{
	struct rmf_run *run = reclaim->run;

	if (!run->stop_without_swap || rmf_swap_free_slots(run))
		return;
	run->stop_without_swap = false;
	run->swap_ran_out = true;
	rmf_memo_forget(run);
	if (run->lru_gen)
		return; /* their generations are not evictable any more */
	drop_unscanned(run, &reclaim->inactive);
	drop_unscanned(run, &reclaim->active);
}

/* ---- rounds and passes ---- */

/* Begin a round if one is worth it. Models memory_reclaim(), mm/memcontrol.c, Linux v7.0: each
 * round asks for a quarter of what is missing. */
static bool begin_round(struct rmf_reclaim *reclaim)
{
	if (reclaim->freed >= reclaim->target || reclaim->idle_rounds == RMF_MAX_RECLAIM_RETRIES)
		return false;
	reclaim->request = larger((reclaim->target - reclaim->freed) / 4, RMF_SWAP_CLUSTER_MAX);
	reclaim->round_freed = 0;
	reclaim->walks = 0;
	reclaim->skipped = reclaim->forced = false;
	reclaim->priority = RMF_DEF_PRIORITY + 1;
	rmf_count(reclaim->run, RMF_RECLAIM_ROUNDS, 1);
	rmf_trace_add(reclaim->run, RMF_TRACE_ROUND, reclaim->request, 0);
	return true;
}

/* Begin the next pass: each list is scanned by its size >> priority. Models get_scan_count(),
 * mm/vmscan.c, Linux v7.0. */
static void begin_pass(struct rmf_reclaim *reclaim)
{
	struct rmf_run *run = reclaim->run;

	reclaim->priority--;
	reclaim->in_pass = true;
	reclaim->active_turn = false;
	reclaim->pass_freed = 0;
	rmf_count(run, RMF_PRIORITY_PASSES, 1);
	rmf_trace_add(run, RMF_TRACE_PASS, reclaim->priority, 0);
	drop_swapbacked(reclaim);
	if (run->lru_gen) {
		rmf_lru_gen_begin_pass(run->lru_gen, reclaim->priority, reclaim->request,
				       reclaim->round_freed);
		return;
	}
	reclaim->scan_inactive = reclaim->inactive.pages >> reclaim->priority;
	reclaim->scan_active = reclaim->active.pages >> reclaim->priority;
}

/* End a pass: the deferred-split shrinker has its turn. The round ends too if its request is met,
 * or if its priorities were gone through once, and once more with all memory cgroups and with
 * deactivation forced if that freed nothing. Models do_try_to_free_pages(), mm/vmscan.c, Linux
 * v7.0. */
static void end_pass(struct rmf_reclaim *reclaim)
{
	struct rmf_run *run = reclaim->run;

	reclaim->in_pass = false;
	reclaim->round_freed += reclaim->pass_freed;
	if (run->lru_gen)
		rmf_lru_gen_end_pass(run->lru_gen);
	if (rmf_shrink_deferred(run, reclaim->priority)) {
		if (run->lru_gen) {
			rmf_lru_gen_place_pieces(run->lru_gen);
		} else {
			rmf_lru_place_pieces(run, &reclaim->inactive);
			rmf_lru_place_pieces(run, &reclaim->active);
		}
	}
	if (reclaim->round_freed < reclaim->request) {
		if (reclaim->priority)
			return;
		reclaim->forced = reclaim->walks == 1 && reclaim->skipped;
		if (!reclaim->round_freed && (!reclaim->walks++ || reclaim->forced)) {
			reclaim->priority = RMF_DEF_PRIORITY + 1;
			return;
		}
	}
	reclaim->idle_rounds += !reclaim->round_freed;
	reclaim->request = 0;
}

/* Whether passes deactivate. */
static bool may_deactivate(const struct rmf_reclaim *reclaim)
{
	return reclaim->inactive_is_low || reclaim->forced;
}

/* Nobody takes anything from an isolation while the inactive list is empty. */
static void isolate_nothing(struct rmf_reclaim *reclaim)
{
	struct rmf_run *run = reclaim->run;

	rmf_count(run, RMF_ISOLATION_CALLS, 1);
	run->isolated[0]++;
	rmf_trace_add(run, RMF_TRACE_INACTIVE, reclaim->wanted, 0);
	rmf_trace_add(run, RMF_TRACE_ISOLATED, 0, 0);
}

/* The next isolation of the pass at hand, RMF_NEXT_UNKNOWN if the pass is over. The lists take
 * turns of 32 pages. Models shrink_lruvec(), mm/vmscan.c, Linux v7.0. */
static enum rmf_reclaim_next next_of_pass(struct rmf_reclaim *reclaim)
{
	for (;;) {
		if (reclaim->active_turn) {
			reclaim->active_turn = false;
			reclaim->wanted = smaller(reclaim->scan_active, RMF_SWAP_CLUSTER_MAX);
			reclaim->scan_active -= reclaim->wanted;
			if (reclaim->wanted && may_deactivate(reclaim))
				return RMF_NEXT_ACTIVE;
			reclaim->skipped |= reclaim->wanted > 0;
			if (!reclaim->scan_inactive && !may_deactivate(reclaim))
				reclaim->scan_active = 0;
		}
		if (!(reclaim->scan_inactive + reclaim->scan_active) ||
		    reclaim->pass_freed >= reclaim->request)
			return RMF_NEXT_UNKNOWN;
		reclaim->active_turn = true;
		reclaim->wanted = smaller(reclaim->scan_inactive, RMF_SWAP_CLUSTER_MAX);
		reclaim->scan_inactive -= reclaim->wanted;
		if (reclaim->wanted && reclaim->inactive.n)
			return RMF_NEXT_INACTIVE;
		if (reclaim->wanted)
			isolate_nothing(reclaim);
	}
}

enum rmf_reclaim_next rmf_reclaim_advance(struct rmf_reclaim *reclaim)
{
	if (reclaim->isolation.wanted)
		return RMF_NEXT_INACTIVE;
	while (reclaim->next == RMF_NEXT_UNKNOWN) {
		if (!reclaim->request && !begin_round(reclaim)) {
			reclaim->next = RMF_NEXT_END;
		} else if (!reclaim->in_pass) {
			begin_pass(reclaim);
		} else {
			if (!reclaim->run->lru_gen)
				reclaim->next = next_of_pass(reclaim);
			else if (!reclaim->gen.pass_over)
				reclaim->next = RMF_NEXT_EVICT;
			if (reclaim->next == RMF_NEXT_UNKNOWN)
				end_pass(reclaim);
		}
	}
	return reclaim->next;
}

/* ---- isolations from the inactive list ---- */

/* Count nr isolations that are done. Each took `pages` base pages, and `freed` of them were freed.
 */
static void count_isolations(struct rmf_reclaim *reclaim, uint64_t nr, uint64_t pages,
			     uint64_t freed)
{
	struct rmf_run *run = reclaim->run;

	rmf_count(run, RMF_ISOLATION_CALLS, nr);
	rmf_count(run, RMF_SHRINK_CALLS, nr);
	run->isolated[pages] += nr;
	reclaim->freed += nr * freed;
	reclaim->pass_freed += nr * freed;
}

static void end_isolation(struct rmf_reclaim *reclaim)
{
	struct rmf_isolation *isolation = &reclaim->isolation;

	rmf_group_flush(reclaim->run, &isolation->group);
	reclaim->inactive.n += isolation->kept;
	reclaim->inactive.pages += isolation->kept_pages;
	reclaim->active.n += isolation->activated;
	reclaim->active.pages += isolation->activated_pages;
	count_isolations(reclaim, 1, isolation->pages, isolation->freed);
	rmf_trace_add(reclaim->run, RMF_TRACE_INACTIVE, isolation->wanted,
		      (int64_t)isolation->pages);
	rmf_trace_add(reclaim->run, RMF_TRACE_ISOLATED, isolation->pages,
		      (int64_t)isolation->freed);
	*isolation = (struct rmf_isolation){ 0 };
}

/* End the isolation if no more folios are taken for it, and all their turns are over. */
static void end_full_isolation(struct rmf_reclaim *reclaim)
{
	const struct rmf_isolation *isolation = &reclaim->isolation;

	if (!isolation->turns && (isolation->pages >= isolation->wanted || !reclaim->inactive.n))
		end_isolation(reclaim);
}

/* Take the result of nr visits into the isolation at hand. */
static void add_to_isolation(struct rmf_reclaim *reclaim, const struct rmf_visits *visits,
			     uint64_t nr)
{
	struct rmf_isolation *isolation = &reclaim->isolation;
	const uint64_t pages = nr << visits->order;

	rmf_group_add(reclaim->run, &isolation->group, visits, nr);
	if (visits->outcome == RMF_OUTCOME_FREED)
		isolation->freed += pages;
	if (!visits->listed)
		return;
	if (visits->outcome == RMF_OUTCOME_KEEP) {
		isolation->kept += nr;
		isolation->kept_pages += pages;
	} else if (visits->outcome == RMF_OUTCOME_ACTIVATE) {
		isolation->activated += nr;
		isolation->activated_pages += pages;
	}
}

/* How many isolations of 32 pages can be done as one, of up to `left` folios like these: nothing
 * that happens between them makes the next one differ. The first of them is begun. */
static uint64_t nr_equal_isolations(const struct rmf_reclaim *reclaim,
				    const struct rmf_visits *visits, uint64_t left)
{
	const uint64_t pages = (uint64_t)1 << visits->order,
		       folios = (RMF_SWAP_CLUSTER_MAX + pages - 1) / pages;
	uint64_t nr = 1 + reclaim->scan_inactive / RMF_SWAP_CLUSTER_MAX;

	if (reclaim->wanted != RMF_SWAP_CLUSTER_MAX || visits->writes_out ||
	    visits->outcome == RMF_OUTCOME_SPLIT || reclaim->run->trace)
		return 0;
	if (reclaim->scan_active && may_deactivate(reclaim))
		nr = 1;
	if (visits->outcome == RMF_OUTCOME_FREED)
		nr = smaller(nr, 1 + less(reclaim->request - reclaim->pass_freed, 1) /
						 (folios * pages));
	return smaller(nr, smaller(left, reclaim->inactive.n) / folios);
}

/* Do nr equal isolations as one. Returns how many folios they took. */
static uint64_t do_equal_isolations(struct rmf_reclaim *reclaim, const struct rmf_visits *visits,
				    uint64_t nr)
{
	const bool freed = visits->outcome == RMF_OUTCOME_FREED,
		   kept = visits->outcome == RMF_OUTCOME_KEEP && visits->listed,
		   activated = visits->outcome == RMF_OUTCOME_ACTIVATE && visits->listed;
	const uint64_t pages = (uint64_t)1 << visits->order,
		       folios = (RMF_SWAP_CLUSTER_MAX + pages - 1) / pages, skips = nr - 1;
	/* in between, the active list has its turns and is passed over */
	const uint64_t passed = smaller(reclaim->scan_active, skips * RMF_SWAP_CLUSTER_MAX);

	rmf_tlb_count_flushes(reclaim->run, visits->cpumask,
			      visits->deferred * nr * (freed && folios > RMF_PAGEVEC_SIZE ? 2 : 1));
	reclaim->inactive.n -= nr * folios * !kept;
	reclaim->inactive.pages -= nr * folios * pages * !kept;
	reclaim->active.n += nr * folios * activated;
	reclaim->active.pages += nr * folios * pages * activated;
	reclaim->scan_inactive -= skips * RMF_SWAP_CLUSTER_MAX;
	reclaim->scan_active -= passed;
	reclaim->skipped |= passed > 0;
	count_isolations(reclaim, nr, folios * pages, freed * folios * pages);
	return nr * folios;
}

/* Account for visits. Returns how many of the folios the loop comes to. Models
 * shrink_inactive_list(), mm/vmscan.c, Linux v7.0. */
static uint64_t account(struct rmf_reclaim *reclaim, const struct rmf_visits *visits)
{
	struct rmf_isolation *isolation = &reclaim->isolation;
	const uint64_t pages = (uint64_t)1 << visits->order;
	uint64_t left = visits->nr;

	if (visits->piece) {
		/* it was isolated as a part of the folio */
		add_to_isolation(reclaim, visits, left);
		isolation->turns -= (uint32_t)left;
		end_full_isolation(reclaim);
		return left;
	}
	while (left) {
		uint64_t nr;

		if (!isolation->wanted) {
			if (rmf_reclaim_advance(reclaim) != RMF_NEXT_INACTIVE)
				break;
			reclaim->next = RMF_NEXT_UNKNOWN;
			nr = nr_equal_isolations(reclaim, visits, left);
			if (nr) {
				left -= do_equal_isolations(reclaim, visits, nr);
				continue;
			}
			isolation->wanted = reclaim->wanted;
		}
		nr = smaller(smaller(left,
				     (isolation->wanted - isolation->pages + pages - 1) / pages),
			     reclaim->inactive.n);
		add_to_isolation(reclaim, visits, nr);
		reclaim->inactive.n -= nr;
		reclaim->inactive.pages -= nr * pages;
		isolation->pages += nr * pages;
		if (visits->outcome == RMF_OUTCOME_SPLIT)
			isolation->turns = (uint32_t)pages;
		left -= nr;
		end_full_isolation(reclaim);
	}
	return visits->nr - left;
}

uint64_t rmf_reclaim_account_log(struct rmf_reclaim *reclaim, const uint8_t *log, uint64_t nr)
{
	struct rmf_packed_log packed = { .bytes = log, .nr = nr };
	struct rmf_visits visits;
	uint64_t done = 0;

	while (rmf_unpack_visits(&packed, &visits)) {
		uint64_t taken;

		/* the log may come from another process */
		if (visits.order > RMF_MAX_ORDER || visits.outcome > RMF_OUTCOME_ACTIVATE ||
		    visits.piece)
			break;
		taken = account(reclaim, &visits);
		done += taken;
		if (taken < visits.nr)
			break;
	}
	return done;
}

/* ---- visits ---- */

/* Models lru_add(), mm/swap.c, Linux v7.0. A folio that became mlocked goes to the unevictable
 * list, which nobody scans. A freed folio goes nowhere. */
static void lru_add(struct rmf_reclaim *reclaim, const struct rmf_visits *visits,
		    const uint32_t *folios)
{
	const bool active = visits->outcome == RMF_OUTCOME_ACTIVATE;

	if (!visits->listed || !(active || visits->outcome == RMF_OUTCOME_KEEP))
		return;
	for (uint64_t i = 0; i < visits->nr; i++)
		rmf_lru_append(active ? &reclaim->active : &reclaim->inactive,
			       rmf_visited_folio(visits, folios, i));
}

/* Take the result of a visit to a folio of the active list. */
static void account_active(struct rmf_reclaim *reclaim, const struct rmf_visits *visits)
{
	struct rmf_lru_list *list = visits->outcome == RMF_OUTCOME_ACTIVATE ? &reclaim->active
									    : &reclaim->inactive;

	if (!visits->listed)
		return;
	list->n += visits->nr;
	list->pages += visits->nr << visits->order;
}

/* Take the next n folios off a list, visit them, and put them back where they belong. It stops
 * before if the last swap slot is taken. */
static void visit_list(struct rmf_reclaim *reclaim, enum rmf_visit_kind kind,
		       struct rmf_lru_list *list, uint64_t n)
{
	struct rmf_run *run = reclaim->run;
	struct rmf_visits visits[RMF_NR_VISITS];

	do {
		const uint32_t *folios = list->folios + list->head;
		const uint64_t most = smaller(n, list->capacity - list->head);
		uint64_t nr, done;

		if (kind == RMF_VISIT_RECLAIM && rmf_ahead_left(reclaim->ahead))
			done = rmf_ahead_take(reclaim->ahead, most, visits, RMF_NR_VISITS, &nr);
		else
			done = rmf_visit(run, kind, folios, most, visits, RMF_NR_VISITS, &nr);

		list->head = rmf_lru_index(list, list->head + done);
		n -= done;
		for (uint64_t i = 0; i < nr; i++) {
			lru_add(reclaim, &visits[i], folios);
			folios += visits[i].piece ? 0 : visits[i].nr;
			if (kind == RMF_VISIT_RECLAIM)
				account(reclaim, &visits[i]);
			else
				account_active(reclaim, &visits[i]);
		}
	} while (run->turns.left || (n && (kind == RMF_VISIT_ACTIVE || !rmf_loop_must_look(run))));
	rmf_memo_settle(run);
}

/* Models shrink_active_list() with isolate_lru_folios(), mm/vmscan.c, Linux v7.0. Base pages are
 * counted after a folio was taken. */
static void shrink_active(struct rmf_reclaim *reclaim)
{
	struct rmf_lru_list *list = &reclaim->active;
	uint64_t nr = 0, pages = 0;

	for (; pages < reclaim->wanted && nr < list->n; nr++)
		pages += rmf_folio_nr_pages(&reclaim->run->pop, rmf_lru_at(list, nr));
	rmf_count(reclaim->run, RMF_ACTIVE_PASSES, 1);
	rmf_trace_add(reclaim->run, RMF_TRACE_ACTIVE, reclaim->wanted, (int64_t)pages);
	list->n -= nr;
	list->pages -= pages;
	reclaim->next = RMF_NEXT_UNKNOWN;
	visit_list(reclaim, RMF_VISIT_ACTIVE, list, nr);
}

/* The fewest folios that isolations of so many base pages take. */
static uint64_t fewest_folios(const struct rmf_reclaim *reclaim, uint64_t pages)
{
	const uint64_t most = reclaim->max_pages, whole = pages / RMF_SWAP_CLUSTER_MAX,
		       rest = pages % RMF_SWAP_CLUSTER_MAX;

	return whole * ((RMF_SWAP_CLUSTER_MAX + most - 1) / most) + (rest + most - 1) / most;
}

/* How many folios can be visited before it has to be decided how the loop goes on: those of the
 * isolation at hand, or of the next one, and of the ones after it in this pass, as long as the pass
 * cannot end before. */
static uint64_t folios_to_visit(const struct rmf_reclaim *reclaim, uint64_t budget_left)
{
	const struct rmf_isolation *isolation = &reclaim->isolation;
	const uint64_t wanted = isolation->wanted ? isolation->wanted - isolation->pages
						  : reclaim->wanted,
		       missing = less(reclaim->request, reclaim->pass_freed + isolation->freed);
	uint64_t nr = fewest_folios(reclaim, wanted);

	if (rmf_loop_must_look(reclaim->run))
		return smaller(reclaim->inactive.n, 1);
	if (!(reclaim->scan_active && may_deactivate(reclaim)))
		nr = larger(nr, smaller(nr + fewest_folios(reclaim, reclaim->scan_inactive),
					1 + less(missing, 1) / reclaim->max_pages));
	nr = smaller(nr, 1 + budget_left / reclaim->max_pages);
	if (rmf_ahead_left(reclaim->ahead))
		nr = smaller(nr, rmf_ahead_left(reclaim->ahead));
	return smaller(nr, reclaim->inactive.n);
}

/* ---- visits ahead ---- */

/* The base pages that are missing from the target. */
static uint64_t missing(const struct rmf_reclaim *reclaim)
{
	return less(reclaim->target, reclaim->freed + reclaim->isolation.freed);
}

int rmf_reclaim_share_out(struct rmf_reclaim *reclaim, uint32_t workers, uint64_t pages,
			  struct rmf_fault *fault)
{
	const struct rmf_run *run = reclaim->run;

	if (run->lru_gen)
		return rmf_fault_at(fault, NULL, 0,
				    "the multi-gen LRU looks around each folio that it visits, and"
				    " moves others");
	if (run->deferred.n)
		return rmf_fault_at(fault, NULL, 0,
				    "folios are on the deferred-split queue, which each pass"
				    " shrinks");
	reclaim->ahead_pages = pages;
	return rmf_ahead_new(&reclaim->ahead, run, &reclaim->inactive, &reclaim->active, workers,
			     fault);
}

/* The loop comes to the next folios of the inactive list for certain as long as the target cannot
 * be met before. It ends otherwise only with the last round that frees nothing. A round that frees
 * nothing scans the whole list, so if another one may follow that will do so. */
bool rmf_reclaim_ahead_is_due(const struct rmf_reclaim *reclaim)
{
	return reclaim->ahead && !rmf_ahead_left(reclaim->ahead) && !reclaim->run->error &&
	       reclaim->idle_rounds + 1 < RMF_MAX_RECLAIM_RETRIES && reclaim->inactive.n &&
	       smaller(missing(reclaim), reclaim->inactive.pages) >= reclaim->ahead_pages;
}

void rmf_reclaim_begin_ahead(struct rmf_reclaim *reclaim)
{
	enum { MOST_PAGES = 1 << 23 }; /* some ten milliseconds, so that progress can be shown */
	const struct rmf_lru_list *list = &reclaim->inactive;
	const uint64_t most = smaller(missing(reclaim), MOST_PAGES);
	uint64_t nr = 0, pages = 0;

	if (list->pages <= most)
		nr = list->n;
	else if (list->pages == list->n * reclaim->max_pages) /* all folios have so many */
		nr = (most + reclaim->max_pages - 1) / reclaim->max_pages;
	else
		while (nr < list->n && pages < most)
			pages += rmf_folio_nr_pages(&reclaim->run->pop, rmf_lru_at(list, nr++));
	rmf_ahead_begin(reclaim->ahead, list, nr);
}

/* ---- start, steps, end ---- */

static uint64_t max_pages(const struct rmf_population *pop)
{
	uint8_t order = 0;

	for (uint64_t i = 0; i < pop->nr_folios; i++)
		order = pop->folio_order[i] > order ? pop->folio_order[i] : order;
	return (uint64_t)1 << order;
}

static uint64_t integer_square_root(uint64_t of)
{
	uint64_t root = 0;

	while ((root + 1) * (root + 1) <= of)
		root++;
	return root;
}

/* Whether the inactive list is to be refilled, by the statistics. Models inactive_is_low(),
 * mm/vmscan.c, Linux v7.0. */
static bool inactive_is_low(const struct rmf_reclaim *reclaim, uint32_t page_shift)
{
	const uint64_t inactive = reclaim->inactive.pages, active = reclaim->active.pages,
		       gib = (inactive + active) << page_shift >> 30;

	return inactive * (gib ? integer_square_root(10 * gib) : 1) < active;
}

int rmf_reclaim_start(struct rmf_reclaim *reclaim, struct rmf_run *run, uint32_t *inactive,
		      uint64_t nr_inactive, uint32_t *active, uint64_t nr_active, uint64_t target,
		      const struct rmf_lru_options *options, struct rmf_fault *fault)
{
	const uint64_t capacity = larger(run->pop.nr_folios, run->pop.folio_capacity);
	int error = rmf_lru_check(&run->pop, inactive, nr_inactive, active, nr_active, fault);

	*reclaim = (struct rmf_reclaim){
		.run = run,
		.inactive = { .folios = inactive, .capacity = capacity, .n = nr_inactive },
		.active = { .folios = active, .capacity = capacity, .n = nr_active },
		.target = target,
		.max_pages = max_pages(&run->pop),
	};
	if (error)
		return error;
	run->swap_ran_out = rmf_swap_configured(run) && !rmf_swap_free_slots(run);
	run->stop_without_swap = rmf_swap_free_slots(run) > 0;
	if (options->mglru)
		return rmf_lru_gen_start(&reclaim->gen, run, options->max_seq, options->min_seq,
					 &reclaim->inactive, &reclaim->active, fault);
	drop_unscanned(run, &reclaim->inactive);
	drop_unscanned(run, &reclaim->active);
	if (options->stats_flushed)
		reclaim->inactive_is_low = inactive_is_low(reclaim, options->page_shift);
	return 0;
}

void rmf_reclaim_free(struct rmf_reclaim *reclaim)
{
	rmf_lru_gen_free(&reclaim->gen);
	rmf_ahead_free(reclaim->ahead);
}

void rmf_reclaim_start_accounting(struct rmf_reclaim *reclaim, struct rmf_run *run, uint64_t folios,
				  uint64_t pages, uint64_t target)
{
	*reclaim = (struct rmf_reclaim){
		.run = run,
		.inactive = { .n = folios, .pages = pages },
		.target = target,
	};
}

/* Isolate from the generations until the pass is over or the budget is used up. */
static void evict(struct rmf_reclaim *reclaim, uint64_t end)
{
	struct rmf_run *run = reclaim->run;

	reclaim->next = RMF_NEXT_UNKNOWN;
	for (uint64_t i = 1; !reclaim->gen.pass_over && !run->error && rmf_work_done(run) < end;
	     i++) {
		const uint64_t freed = rmf_lru_gen_evict(&reclaim->gen);

		reclaim->freed += freed;
		reclaim->pass_freed += freed;
		/* what the memo has not settled is no work done yet */
		if (i % RMF_GROUPS_SETTLED == 0)
			rmf_memo_settle(run);
	}
	rmf_memo_settle(run);
}

bool rmf_reclaim_step(struct rmf_reclaim *reclaim, uint64_t budget)
{
	struct rmf_run *run = reclaim->run;
	const uint64_t end = rmf_end_of_budget(run, budget);

	while (!run->error) {
		enum rmf_reclaim_next next;

		if (!reclaim->isolation.wanted)
			drop_swapbacked(reclaim);
		next = rmf_reclaim_advance(reclaim);
		if (next == RMF_NEXT_END)
			break;
		if (!reclaim->isolation.wanted && rmf_work_done(run) >= end)
			return true;
		if (next == RMF_NEXT_INACTIVE && rmf_reclaim_ahead_is_due(reclaim))
			return true;
		if (next == RMF_NEXT_INACTIVE)
			visit_list(reclaim, RMF_VISIT_RECLAIM, &reclaim->inactive,
				   folios_to_visit(reclaim, less(end, rmf_work_done(run))));
		else if (next == RMF_NEXT_ACTIVE)
			shrink_active(reclaim);
		else
			evict(reclaim, end);
	}
	return false;
}

void rmf_reclaim_store_lists(struct rmf_reclaim *reclaim)
{
	if (reclaim->run->lru_gen)
		rmf_lru_gen_store(&reclaim->gen, &reclaim->inactive, &reclaim->active);
}
