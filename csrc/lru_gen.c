#include "lru_gen.h"

#include <stdlib.h>

#include "group.h"
#include "look_around.h"

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint32_t *flags_of(const struct rmf_lru_gen *gen, uint32_t folio)
{
	return &gen->run->pop.folio_flags[folio];
}

static uint64_t pages_of(const struct rmf_lru_gen *gen, uint32_t folio)
{
	return rmf_folio_nr_pages(&gen->run->pop, folio);
}

static enum rmf_mglru_rule edition(const struct rmf_lru_gen *gen)
{
	return gen->run->policy.mglru;
}

/* ---- lists ---- */

static struct rmf_lru_list *list_of(struct rmf_lru_gen *gen, enum rmf_lru_type type, uint64_t seq)
{
	return &gen->lists[type][seq % RMF_MAX_NR_GENS];
}

static uint64_t nr_gens(const struct rmf_lru_gen *gen, enum rmf_lru_type type)
{
	return gen->max_seq - gen->min_seq[type] + 1;
}

/* Put a folio at the head of a list, where it is taken last. */
static void add_at_head(struct rmf_lru_list *list, uint32_t folio)
{
	rmf_lru_append(list, folio);
	list->n++;
}

/* Put a folio at the tail of a list, where it is taken next. */
static void add_at_tail(struct rmf_lru_list *list, uint32_t folio)
{
	list->head = (list->head ? list->head : list->capacity) - 1;
	list->folios[list->head] = folio;
	list->n++;
}

static uint32_t take(struct rmf_lru_list *list)
{
	const uint32_t folio = list->folios[list->head];

	list->head = rmf_lru_index(list, list->head + 1);
	list->n--;
	return folio;
}

/* Give a folio that was taken off its list another generation, and put it on that list. */
static void move(struct rmf_lru_gen *gen, uint32_t folio, uint64_t seq, bool at_tail)
{
	uint32_t *flags = flags_of(gen, folio);
	const enum rmf_lru_type type = rmf_lru_type_of(*flags);
	struct rmf_lru_list *to = list_of(gen, type, seq);

	gen->lists[type][rmf_list_of_gen(*flags)].pages -= pages_of(gen, folio);
	to->pages += pages_of(gen, folio);
	*flags = rmf_with_gen(*flags, (uint32_t)(seq % RMF_MAX_NR_GENS) + 1);
	if (at_tail)
		add_at_tail(to, folio);
	else
		add_at_head(to, folio);
}

/* ---- types, and what can be evicted of them ---- */

static bool evictable(const struct rmf_lru_gen *gen, enum rmf_lru_type type)
{
	return rmf_lru_type_evictable(gen->run, type);
}

/* The smaller min_seq of the evictable types. */
static uint64_t oldest(const struct rmf_lru_gen *gen)
{
	uint64_t seq = gen->min_seq[RMF_LRU_FILE];

	return evictable(gen, RMF_LRU_ANON) ? smaller(seq, gen->min_seq[RMF_LRU_ANON]) : seq;
}

/* Pages of one generation of the evictable types. */
static uint64_t pages_in(const struct rmf_lru_gen *gen, uint64_t seq)
{
	uint64_t pages = 0;

	for (int type = 0; type < RMF_NR_LRU_TYPES; type++)
		if (evictable(gen, type))
			pages += gen->lists[type][seq % RMF_MAX_NR_GENS].pages;
	return pages;
}

static uint64_t evictable_pages(const struct rmf_lru_gen *gen)
{
	uint64_t pages = 0;

	for (int type = 0; type < RMF_NR_LRU_TYPES; type++)
		for (uint64_t seq = gen->min_seq[type]; evictable(gen, type) && seq <= gen->max_seq;
		     seq++)
			pages += gen->lists[type][seq % RMF_MAX_NR_GENS].pages;
	return pages;
}

/* Drop the oldest generations that are empty. Returns whether any was. Models
 * try_to_inc_min_seq(), mm/vmscan.c (docs/kernel-rules.md, section 9.3). */
static bool inc_min_seq(struct rmf_lru_gen *gen)
{
	uint64_t new[RMF_NR_LRU_TYPES], last = gen->max_seq - RMF_MIN_NR_GENS;
	bool advanced = false;

	for (int type = 0; type < RMF_NR_LRU_TYPES; type++) {
		new[type] = gen->min_seq[type];
		while (evictable(gen, type) && new[type] + RMF_MIN_NR_GENS <= gen->max_seq &&
		       !list_of(gen, type, new[type])->n)
			new[type]++;
	}
	if (evictable(gen, RMF_LRU_ANON)) { /* the types stay within reach of each other */
		uint64_t *anon = &new[RMF_LRU_ANON], *file = &new[RMF_LRU_FILE];

		if (edition(gen) == RMF_MGLRU_V6_12)
			*anon = smaller(*anon, *file);
		else if (gen->max_seq < RMF_MIN_NR_GENS)
			;
		else if (*anon > last && *file < last)
			*anon = last;
		else if (*file > last && *anon < last)
			*file = last;
	}
	for (int type = 0; type < RMF_NR_LRU_TYPES; type++) {
		advanced |= new[type] != gen->min_seq[type];
		gen->min_seq[type] = new[type];
	}
	return advanced;
}

/* ---- marks (section 9.1) ---- */

/* Whether an isolation passes the folio on to the next generation. */
static bool fully_referenced(const struct rmf_lru_gen *gen, uint32_t flags)
{
	return rmf_folio_accesses(flags) == 3 && (flags & RMF_FOLIO_WORKINGSET) &&
	       (edition(gen) == RMF_MGLRU_V6_12 || (flags & RMF_FOLIO_REFERENCED));
}

/* The generation of a folio that is put on a list. Models lru_gen_add_folio(),
 * include/linux/mm_inline.h (section 9.5). */
static uint64_t seq_of_addition(const struct rmf_lru_gen *gen, uint32_t flags)
{
	const enum rmf_lru_type type = rmf_lru_type_of(flags);
	const uint64_t min = gen->min_seq[type], max = gen->max_seq;
	const bool anon = type == RMF_LRU_ANON && !(flags & RMF_FOLIO_SWAPCACHE),
		   workingset = flags & RMF_FOLIO_WORKINGSET;
	uint64_t below;

	if (edition(gen) == RMF_MGLRU_V6_12) {
		if (flags & RMF_FOLIO_ACTIVE)
			return max;
		if (anon)
			return max - 1;
		return min + RMF_MIN_NR_GENS >= max ? min : min + 1;
	}
	if (flags & RMF_FOLIO_ACTIVE)
		below = !workingset;
	else if (anon)
		below = 1;
	else
		below = workingset || (gen->new_loop && (flags & RMF_FOLIO_REFERENCED)) ? 2 : 3;
	return max < min + below ? min : max - below;
}

static void add(struct rmf_lru_gen *gen, uint32_t folio)
{
	uint32_t *flags = flags_of(gen, folio);
	const uint64_t seq = seq_of_addition(gen, *flags);
	struct rmf_lru_list *list = list_of(gen, rmf_lru_type_of(*flags), seq);

	if ((*flags & RMF_FOLIO_ACTIVE) && edition(gen) == RMF_MGLRU_V6_12)
		*flags = rmf_with_accesses(*flags & ~(uint32_t)RMF_FOLIO_REFERENCED, 0);
	*flags = rmf_with_gen(*flags & ~(uint32_t)RMF_FOLIO_ACTIVE,
			      (uint32_t)(seq % RMF_MAX_NR_GENS) + 1);
	list->pages += pages_of(gen, folio);
	add_at_head(list, folio);
}

/* ---- isolation (section 9.3) ---- */

/* Take the folio, which is on no list any more, out of the counts. */
static void leave(struct rmf_lru_gen *gen, uint32_t folio)
{
	uint32_t *flags = flags_of(gen, folio);

	gen->lists[rmf_lru_type_of(*flags)][rmf_list_of_gen(*flags)].pages -= pages_of(gen, folio);
	*flags = rmf_with_gen(*flags, 0);
}

/* Move a folio that is not to be isolated where it belongs. Returns whether it was moved. Models
 * sort_folio(), mm/vmscan.c. */
static bool sort(struct rmf_lru_gen *gen, uint32_t folio)
{
	uint32_t *flags = flags_of(gen, folio);
	const enum rmf_lru_type type = rmf_lru_type_of(*flags);
	const uint64_t min = gen->min_seq[type];
	const bool v6_12 = edition(gen) == RMF_MGLRU_V6_12, v7_0 = edition(gen) == RMF_MGLRU_V7_0;

	if (!rmf_folio_evictable(gen->run, folio)) {
		if (v7_0)
			leave(gen, folio);
		return v7_0;
	}
	if (rmf_list_of_gen(*flags) != min % RMF_MAX_NR_GENS) {
		add_at_head(&gen->lists[type][rmf_list_of_gen(*flags)], folio);
		return true;
	}
	if (fully_referenced(gen, *flags)) {
		*flags = rmf_with_accesses(*flags & ~(uint32_t)RMF_FOLIO_REFERENCED, 0);
		if (v6_12)
			*flags &= ~(uint32_t)RMF_FOLIO_WORKINGSET;
		move(gen, folio, min + 1, v6_12);
		return true;
	}
	if (v7_0 && type == RMF_LRU_FILE && (*flags & RMF_FOLIO_DIRTY)) {
		move(gen, folio, min + 1, false);
		return true;
	}
	return false;
}

/* Take a folio for the group. Models isolate_folio(), mm/vmscan.c. */
static void isolate(struct rmf_lru_gen *gen, uint32_t folio)
{
	uint32_t *flags = flags_of(gen, folio);
	const bool v6_12 = edition(gen) == RMF_MGLRU_V6_12;

	if (!(*flags & RMF_FOLIO_REFERENCED)) {
		*flags = rmf_with_accesses(*flags, 0);
		if (v6_12)
			*flags &= ~(uint32_t)RMF_FOLIO_WORKINGSET;
	}
	if (v6_12)
		*flags &= ~(uint32_t)RMF_FOLIO_REFERENCED;
	leave(gen, folio);
}

/* A group, and what the isolation looked at. */
struct isolated {
	uint32_t folios[RMF_MIN_LRU_BATCH];
	uint64_t nr;
	uint64_t pages;
	uint64_t looked; /* base pages, those of sorted folios included */
	bool scanned; /* a list was looked at */
	bool used_up; /* as many folios as allowed were looked at */
};

/* Models scan_folios(), mm/vmscan.c: from the oldest generation, up to 64 base pages. */
static void scan(struct rmf_lru_gen *gen, enum rmf_lru_type type, uint64_t limit,
		 struct isolated *group)
{
	struct rmf_lru_list *list = list_of(gen, type, gen->min_seq[type]);

	group->looked = 0;
	if (nr_gens(gen, type) == RMF_MIN_NR_GENS)
		return;
	group->scanned = true;
	rmf_count(gen->run, RMF_ISOLATION_CALLS, 1);
	for (; list->n && limit && group->pages < RMF_MIN_LRU_BATCH; limit--) {
		const uint32_t folio = take(list);

		group->looked += pages_of(gen, folio);
		if (sort(gen, folio)) {
			rmf_count(gen->run, RMF_FOLIOS_SORTED, 1);
			continue;
		}
		isolate(gen, folio);
		rmf_count(gen->run, RMF_FOLIOS_FROM_GENERATIONS, 1);
		group->pages += pages_of(gen, folio);
		group->folios[group->nr++] = folio;
	}
	group->used_up = !limit;
}

/* Models isolate_folios(), mm/vmscan.c. Nothing refaults in a run, so file comes first. */
static void isolate_group(struct rmf_lru_gen *gen, uint64_t limit, struct isolated *group)
{
	const bool both = evictable(gen, RMF_LRU_ANON),
		   anon_first = both && edition(gen) == RMF_MGLRU_V6_12 &&
				gen->min_seq[RMF_LRU_ANON] < gen->min_seq[RMF_LRU_FILE];

	*group = (struct isolated){ .nr = 0 };
	scan(gen, anon_first ? RMF_LRU_ANON : RMF_LRU_FILE, limit, group);
	if (both && !group->nr && !group->used_up && !(group->looked && gen->new_loop))
		scan(gen, anon_first ? RMF_LRU_FILE : RMF_LRU_ANON, limit, group);
}

/* ---- where rejected folios go (section 9.5) ---- */

/* Take note of the folios of a group that go back on a list. */
static void reject(void *context, const struct rmf_visits *visits, const uint32_t *folios)
{
	struct rmf_lru_gen *gen = context;

	if (!visits->listed)
		return;
	if (gen->nr_rejected + visits->nr > gen->room) {
		const uint64_t room = 2 * (gen->nr_rejected + visits->nr);
		uint32_t *longer = realloc(gen->rejected, room * sizeof(*longer));

		if (!longer) {
			gen->run->error = RMF_RUN_NO_MEMORY;
			return;
		}
		gen->rejected = longer;
		gen->room = room;
	}
	for (uint64_t i = 0; i < visits->nr; i++)
		gen->rejected[gen->nr_rejected++] = rmf_visited_folio(visits, folios, i);
}

/* Whether a rejected folio is tried once more: it is unmapped and clean, and was not freed. */
static bool worth_a_retry(const struct rmf_lru_gen *gen, uint32_t folio)
{
	uint32_t not_with = RMF_FOLIO_ACTIVE | RMF_FOLIO_DIRTY;

	if (edition(gen) == RMF_MGLRU_V6_12)
		not_with |= RMF_FOLIO_REFERENCED | RMF_FOLIO_LOCKED;
	return !(*flags_of(gen, folio) & not_with) && gen->run->pop.folio_mapcount[folio] <= 0;
}

/* Mark a rejected folio active if it would come back to the oldest generation, in v6.12 always. */
static void rotate(const struct rmf_lru_gen *gen, uint32_t folio)
{
	uint32_t *flags = flags_of(gen, folio);
	const uint32_t kind = *flags & (RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED);

	if (edition(gen) != RMF_MGLRU_V6_12) {
		if (seq_of_addition(gen, *flags) != gen->min_seq[rmf_lru_type_of(*flags)])
			return;
		*flags &= ~(uint32_t)RMF_FOLIO_REFERENCED;
	} else if ((*flags & RMF_FOLIO_DIRTY) && !kind &&
		   gen->run->pop.folio_mapcount[folio] <= 0) {
		/* shrink_folio_list() set PG_reclaim */
		if (*flags & RMF_FOLIO_WORKINGSET)
			*flags |= RMF_FOLIO_REFERENCED;
		return;
	} else {
		*flags &= ~(uint32_t)(RMF_FOLIO_REFERENCED | RMF_FOLIO_WORKINGSET);
	}
	*flags = rmf_with_accesses(*flags, 0) | RMF_FOLIO_ACTIVE;
}

/* Put the rejected folios back, and those that are to be tried once more into retry[]. Returns how
 * many these are. */
static uint64_t put_back(struct rmf_lru_gen *gen, bool first, uint32_t *retry)
{
	uint64_t nr = 0;

	for (uint64_t i = 0; i < gen->nr_rejected; i++) {
		const uint32_t folio = gen->rejected[i];

		if (first && worth_a_retry(gen, folio)) {
			retry[nr++] = folio;
			continue;
		}
		rotate(gen, folio);
		add(gen, folio);
	}
	gen->nr_rejected = 0;
	return nr;
}

/* Shrink a group, and once more what is worth it. Returns the base pages freed. */
static uint64_t shrink_group(struct rmf_lru_gen *gen, const struct isolated *group)
{
	struct rmf_run *run = gen->run;
	uint64_t freed, nr;
	uint32_t *retry;

	freed = rmf_shrink_list(run, RMF_VISIT_RECLAIM, group->folios, group->nr, reject, gen);
	if (!gen->nr_rejected || run->error)
		return freed;
	retry = malloc(gen->nr_rejected * sizeof(*retry));
	if (!retry) {
		run->error = RMF_RUN_NO_MEMORY;
		return freed;
	}
	nr = put_back(gen, true, retry);
	if (nr) {
		freed += rmf_shrink_list(run, RMF_VISIT_RECLAIM, retry, nr, reject, gen);
		put_back(gen, false, retry);
	}
	free(retry);
	return freed;
}

/* ---- the loop over the lists (section 9.2) ---- */

/* One isolation and its group. *looked is what the loop takes off its budget. Returns the base
 * pages freed. Models evict_folios(), mm/vmscan.c. */
static uint64_t evict_folios(struct rmf_lru_gen *gen, uint64_t limit, uint64_t *looked)
{
	const enum rmf_lru_type last = evictable(gen, RMF_LRU_ANON) ? RMF_LRU_ANON : RMF_LRU_FILE;
	struct rmf_run *run = gen->run;
	struct isolated group;
	bool advanced = false;
	uint64_t freed = 0;

	limit = smaller(limit, RMF_MAX_LRU_BATCH);
	if (gen->new_loop)
		inc_min_seq(gen);
	isolate_group(gen, limit, &group);
	if (!gen->new_loop || group.looked)
		advanced = inc_min_seq(gen);
	if (group.nr)
		freed = shrink_group(gen, &group);
	if (group.scanned) {
		run->isolated[group.pages]++;
		rmf_trace_add(run, RMF_TRACE_INACTIVE, limit, (int64_t)group.looked);
		rmf_trace_add(run, RMF_TRACE_ISOLATED, group.pages, (int64_t)freed);
	}
	*looked = group.looked;
	if (gen->new_loop)
		return freed;
	/* what was looked at counts only if something was isolated, or as many as allowed */
	if (nr_gens(gen, last) == RMF_MIN_NR_GENS)
		*looked = 0;
	else
		*looked = (group.nr || group.used_up ? group.looked : 0) + advanced;
	return freed;
}

/* Whether the page tables are walked before anything else is evicted (v6.12 and v7.0). */
static bool should_age(const struct rmf_lru_gen *gen, uint64_t total)
{
	const uint64_t min = oldest(gen);

	if (edition(gen) == RMF_MGLRU_V7_0 || min + RMF_MIN_NR_GENS != gen->max_seq)
		return min + RMF_MIN_NR_GENS >= gen->max_seq;
	return pages_in(gen, gen->max_seq) * 2 > total ||
	       pages_in(gen, gen->max_seq - 2) * 4 < total;
}

/* Move the oldest generation of a type into the next one, whose order it precedes. Models
 * inc_min_seq(), mm/vmscan.c (section 9.7). */
static void pass_on(struct rmf_lru_gen *gen, enum rmf_lru_type type)
{
	const uint64_t min = gen->min_seq[type];
	struct rmf_lru_list *list = list_of(gen, type, min);

	while (evictable(gen, type) && list->n) {
		const uint32_t folio = take(list);
		uint32_t *flags = flags_of(gen, folio);

		if (rmf_list_of_gen(*flags) != min % RMF_MAX_NR_GENS) {
			add_at_tail(&gen->lists[type][rmf_list_of_gen(*flags)], folio);
			continue;
		}
		*flags = rmf_with_accesses(*flags & ~(uint32_t)RMF_FOLIO_REFERENCED, 0);
		move(gen, folio, min + 1, true);
	}
	gen->min_seq[type]++;
}

/* Show the promotions in the counts of pages. Models reset_batch_size(), mm/vmscan.c. */
static void settle_counts(struct rmf_lru_gen *gen)
{
	for (int type = 0; type < RMF_NR_LRU_TYPES; type++) {
		for (int i = 0; i < RMF_MAX_NR_GENS; i++) {
			gen->lists[type][i].pages += (uint64_t)gen->moved[type][i];
			gen->moved[type][i] = 0;
		}
	}
}

/* Walk the page tables and begin a new generation. Models try_to_inc_max_seq(), mm/vmscan.c
 * (section 9.7). */
static void age(struct rmf_lru_gen *gen)
{
	rmf_count(gen->run, RMF_AGES, 1);
	rmf_trace_add(gen->run, RMF_TRACE_AGE, gen->max_seq, 0);
	if (!gen->walked)
		rmf_walk_page_tables(gen->run);
	gen->walked = true;
	settle_counts(gen);
	for (int type = 0; type < RMF_NR_LRU_TYPES; type++)
		if (nr_gens(gen, type) == RMF_MAX_NR_GENS)
			pass_on(gen, type);
	gen->max_seq++;
}

void rmf_lru_gen_begin_pass(struct rmf_lru_gen *gen, uint32_t priority, uint64_t request,
			    uint64_t round_freed)
{
	gen->priority = priority;
	gen->request = request;
	gen->round_freed = round_freed;
	gen->scanned = 0;
	gen->left = evictable_pages(gen) >> priority;
	gen->pass_over = gen->new_loop && !gen->left;
}

static uint64_t evict_new(struct rmf_lru_gen *gen)
{
	const uint64_t min = oldest(gen) + RMF_MIN_NR_GENS;
	uint64_t looked, freed;

	if (min > gen->max_seq || (gen->priority != RMF_DEF_PRIORITY && min == gen->max_seq))
		age(gen);
	freed = evict_folios(gen, smaller(gen->left, RMF_MIN_LRU_BATCH), &looked);
	gen->round_freed += freed;
	gen->pass_over = !looked || gen->round_freed >= gen->request || looked >= gen->left;
	gen->left -= looked;
	return freed;
}

static uint64_t evict_old(struct rmf_lru_gen *gen)
{
	const bool empty = oldest(gen) + RMF_MIN_NR_GENS > gen->max_seq;
	const uint64_t total = empty ? 0 : evictable_pages(gen), nr = total >> gen->priority;
	uint64_t looked, freed;

	gen->pass_over = true;
	if (gen->priority != RMF_DEF_PRIORITY && should_age(gen, total)) {
		age(gen);
		return 0;
	}
	if (!nr)
		return 0;
	freed = evict_folios(gen, edition(gen) == RMF_MGLRU_V7_0 ? nr : RMF_MAX_LRU_BATCH, &looked);
	gen->scanned += looked;
	gen->pass_over = !looked || gen->scanned >= nr;
	return freed;
}

uint64_t rmf_lru_gen_evict(struct rmf_lru_gen *gen)
{
	return gen->new_loop ? evict_new(gen) : evict_old(gen);
}

void rmf_lru_gen_end_pass(struct rmf_lru_gen *gen)
{
	settle_counts(gen);
}

void rmf_lru_gen_place_pieces(struct rmf_lru_gen *gen)
{
	uint64_t pages[RMF_NR_LRU_TYPES][RMF_MAX_NR_GENS] = { 0 };
	struct rmf_population *pop = &gen->run->pop;

	for (uint32_t folio = 0; folio < pop->nr_folios; folio++)
		if (pop->folio_flags[folio] & RMF_FOLIO_FREED)
			pop->folio_flags[folio] = rmf_with_gen(pop->folio_flags[folio], 0);
	for (int type = 0; type < RMF_NR_LRU_TYPES; type++) {
		for (int i = 0; i < RMF_MAX_NR_GENS; i++) {
			struct rmf_lru_list *list = &gen->lists[type][i];

			rmf_lru_place_pieces(gen->run, list);
			for (uint64_t at = 0; at < list->n; at++) {
				const uint32_t folio = rmf_lru_at(list, at);

				pages[type][rmf_list_of_gen(*flags_of(gen, folio))] +=
					pages_of(gen, folio);
			}
		}
	}
	for (int type = 0; type < RMF_NR_LRU_TYPES; type++)
		for (int i = 0; i < RMF_MAX_NR_GENS; i++)
			gen->lists[type][i].pages = pages[type][i];
}

/* ---- start and end ---- */

static int load(struct rmf_lru_gen *gen, const struct rmf_lru_list *from, const char *name,
		struct rmf_fault *fault)
{
	for (uint64_t i = 0; i < from->n; i++) {
		const uint32_t folio = rmf_lru_at(from, i), flags = *flags_of(gen, folio);
		const enum rmf_lru_type type = rmf_lru_type_of(flags);
		const uint32_t at = rmf_folio_gen(flags);
		struct rmf_lru_list *list;

		if (flags & RMF_FOLIO_FREED)
			continue;
		/* how far above the oldest generation it is */
		if (!at || at > RMF_MAX_NR_GENS ||
		    (at - 1 - gen->min_seq[type]) % RMF_MAX_NR_GENS >= nr_gens(gen, type))
			return rmf_fault_at(fault, name, i,
					    "the folio's generation must be one of its type's");
		if (flags & RMF_FOLIO_ACTIVE)
			return rmf_fault_at(fault, name, i,
					    "a folio in a generation must not be ACTIVE");
		list = &gen->lists[type][at - 1];
		list->pages += pages_of(gen, folio);
		add_at_head(list, folio);
	}
	return 0;
}

int rmf_lru_gen_start(struct rmf_lru_gen *gen, struct rmf_run *run, uint64_t max_seq,
		      const uint64_t *min_seq, const struct rmf_lru_list *inactive,
		      const struct rmf_lru_list *active, struct rmf_fault *fault)
{
	const enum rmf_mglru_rule rule = run->policy.mglru;
	int error;

	*gen = (struct rmf_lru_gen){
		.run = run,
		.new_loop = rule == RMF_MGLRU_V7_2 || rule == RMF_MGLRU_V7_3,
		.max_seq = max_seq,
		.min_seq = { min_seq[RMF_LRU_ANON], min_seq[RMF_LRU_FILE] },
	};
	gen->batched = gen->new_loop && run->policy.young_batched;
	for (int type = 0; type < RMF_NR_LRU_TYPES; type++) {
		if (!max_seq || min_seq[type] >= max_seq ||
		    max_seq - min_seq[type] >= RMF_MAX_NR_GENS)
			return rmf_fault_at(fault, "population.lru_gen", (uint64_t)type,
					    "each type must have 2 to 4 generations");
		for (int i = 0; i < RMF_MAX_NR_GENS; i++) {
			struct rmf_lru_list *list = &gen->lists[type][i];

			/* one entry more, so that a full ring is told from an empty one */
			list->capacity = inactive->capacity + 1;
			list->folios = malloc(list->capacity * sizeof(*list->folios));
			if (!list->folios)
				return RMF_ENOMEM;
		}
	}
	if (!rmf_pfn_index_make(&gen->index, run))
		return RMF_ENOMEM;
	error = load(gen, inactive, "population.lru_inactive", fault);
	if (!error)
		error = load(gen, active, "population.lru_active", fault);
	if (!error)
		run->lru_gen = gen;
	return error;
}

void rmf_lru_gen_free(struct rmf_lru_gen *gen)
{
	for (int type = 0; type < RMF_NR_LRU_TYPES; type++)
		for (int i = 0; i < RMF_MAX_NR_GENS; i++)
			free(gen->lists[type][i].folios);
	free(gen->rejected);
	rmf_pfn_index_free(&gen->index);
	if (gen->run)
		gen->run->lru_gen = NULL;
	*gen = (struct rmf_lru_gen){ 0 };
}

void rmf_lru_gen_store(const struct rmf_lru_gen *gen, struct rmf_lru_list *inactive,
		       struct rmf_lru_list *active)
{
	static const enum rmf_lru_type order[] = { RMF_LRU_FILE, RMF_LRU_ANON };
	const uint64_t first = smaller(gen->min_seq[RMF_LRU_ANON], gen->min_seq[RMF_LRU_FILE]);

	inactive->head = inactive->n = active->head = active->n = 0;
	for (uint64_t seq = first; seq <= gen->max_seq; seq++) {
		struct rmf_lru_list *to = seq + 1 >= gen->max_seq ? active : inactive;

		for (int i = 0; i < RMF_NR_LRU_TYPES; i++) {
			const struct rmf_lru_list *from =
				&gen->lists[order[i]][seq % RMF_MAX_NR_GENS];

			for (uint64_t at = 0; seq >= gen->min_seq[order[i]] && at < from->n; at++)
				to->folios[to->n++] = rmf_lru_at(from, at);
		}
	}
}
