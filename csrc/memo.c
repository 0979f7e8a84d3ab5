#include "memo.h"

#include <stdlib.h>
#include <string.h>

#include "deferred.h"
#include "isa.h"

struct rmf_memo *rmf_memo_new(const struct rmf_isa *isa)
{
	enum { TABLE = 1 << 9 };
	struct rmf_memo *memo = calloc(1, sizeof(*memo));

	if (!memo)
		return NULL;
	memo->isa = isa;
	memo->blocks.size = 1;
	memo->table = calloc(TABLE, sizeof(*memo->table));
	memo->table_mask = TABLE - 1;
	if (memo->table)
		return memo;
	free(memo);
	return NULL;
}

void rmf_memo_free(struct rmf_memo *memo)
{
	if (!memo)
		return;
	free(memo->known);
	free(memo->table);
	free(memo->vma_class);
	free(memo->words);
	free(memo->batch_lengths);
	free(memo->looked_around);
	free(memo->entries);
	free(memo->counts);
	free(memo);
}

/* Make sure that an array has room for nr elements. False without memory. */
static bool make_room(void **array, uint64_t *room, uint64_t nr, size_t size)
{
	const uint64_t wanted = *room * 2 > nr ? *room * 2 : nr + 64;
	void *larger;

	if (nr <= *room)
		return true;
	larger = realloc(*array, wanted * size);
	if (!larger)
		return false;
	*array = larger;
	*room = wanted;
	return true;
}

uint32_t rmf_vma_class_of(struct rmf_run *run, uint32_t vma)
{
	struct rmf_memo *memo = run->memo;
	const struct rmf_population *pop = &run->pop;
	const uint32_t mm = pop->vma_mm[vma];
	const struct rmf_vma_class wanted = { .cpumask = pop->mm_cpumask[mm],
					      .vma_flags = pop->vma_flags[vma],
					      .mm_flags = pop->mm_flags[mm] };
	uint32_t i;

	for (i = 0; i < memo->nr_classes; i++)
		if (memo->classes[i].cpumask == wanted.cpumask &&
		    memo->classes[i].vma_flags == wanted.vma_flags &&
		    memo->classes[i].mm_flags == wanted.mm_flags)
			break;
	if (i == RMF_MEMO_CLASSES)
		return i;
	if (i == memo->nr_classes)
		memo->classes[memo->nr_classes++] = wanted;
	if (memo->nr_vmas != pop->nr_vmas) {
		uint32_t *classes = calloc(pop->nr_vmas, sizeof(*classes));

		if (!classes)
			return i;
		free(memo->vma_class);
		memo->vma_class = classes;
		memo->nr_vmas = pop->nr_vmas;
	}
	memo->vma_class[vma] = i + 1;
	return i;
}

/* Keep what the folio and its entries are before the visit whose result is taken. False without
 * memory. */
static bool keep_before(struct rmf_run *run, uint32_t folio, const struct rmf_shape *shape)
{
	struct rmf_memo *memo = run->memo;
	const struct rmf_population *pop = &run->pop;
	const uint64_t nr = rmf_folio_nr_pages(pop, folio);

	if (!make_room((void **)&memo->batch_lengths, &memo->lengths_room, nr + 1,
		       sizeof(*memo->batch_lengths)) ||
	    !make_room((void **)&memo->looked_around, &memo->looked_room, nr + 1,
		       sizeof(*memo->looked_around)) ||
	    !make_room((void **)&memo->entries, &memo->entries_room, shape->nr_rows * nr,
		       sizeof(*memo->entries)))
		return false;
	memcpy(memo->ev, run->ev, sizeof(run->ev));
	memcpy(memo->referenced_ev, run->referenced_ev, sizeof(run->referenced_ev));
	memcpy(memo->batch_lengths, run->batch_lengths, (nr + 1) * sizeof(*run->batch_lengths));
	memcpy(memo->looked_around, run->looked_around, (nr + 1) * sizeof(*run->looked_around));
	for (uint32_t row = 0; row < shape->nr_rows; row++)
		memcpy(memo->entries + row * nr, shape->ptes[row], nr * sizeof(rmf_pte));
	/* the flags that the shape was made for: with others the folio may have more pages */
	if ((uint32_t)shape->words[0] & RMF_FOLIO_PAGE_MAPCOUNTS)
		memcpy(memo->page_mapcount, pop->page_mapcount + rmf_folio_page_base(pop, folio),
		       nr * sizeof(*memo->page_mapcount));
	return true;
}

/* What an entry is after the visit if its row goes the way of known->entries_after. */
static rmf_pte entry_after(const struct rmf_population *pop, uint32_t folio,
			   enum rmf_entries_after way, rmf_pte low, rmf_pte before, uint64_t i)
{
	switch (way) {
	case RMF_ENTRIES_STAY:
		return before;
	case RMF_ENTRIES_OLD:
		return before & ~(rmf_pte)RMF_PTE_YOUNG;
	case RMF_ENTRIES_LOW:
		return before ? (pop->folio_pfn[folio] + i) << RMF_PFN_SHIFT | low : 0;
	case RMF_ENTRIES_SWAPPED:
		return before ? (pop->folio_swap[folio] + i) << RMF_PFN_SHIFT | low : 0;
	case RMF_ENTRIES_CLEARED:
		break;
	}
	return 0;
}

/* Find out which of enum rmf_entries_after has become of the entries of a row. False if none of
 * them has. */
static bool row_after(const struct rmf_run *run, uint32_t folio, const struct rmf_shape *shape,
		      uint32_t row, bool takes_swap, struct rmf_known *known)
{
	const struct rmf_population *pop = &run->pop;
	const uint64_t nr = rmf_folio_nr_pages(pop, folio);
	const rmf_pte *before = run->memo->entries + row * nr, *after = shape->ptes[row];
	rmf_pte low = 0;

	for (uint64_t i = 0; i < nr && !low; i++)
		low = before[i] ? after[i] & (RMF_PFN_ONE - 1) : 0;
	for (enum rmf_entries_after way = RMF_ENTRIES_STAY; way <= RMF_ENTRIES_SWAPPED; way++) {
		uint64_t i = 0;

		if (way == RMF_ENTRIES_LOW && !rmf_pte_present(low))
			continue;
		if (way == RMF_ENTRIES_SWAPPED &&
		    !(takes_swap && rmf_pte_kind(low) == RMF_KIND_SWAP))
			continue;
		while (i < nr && after[i] == entry_after(pop, folio, way, low, before[i], i))
			i++;
		if (i < nr)
			continue;
		known->entries_after[row] = (uint8_t)way;
		known->low_after[row] = (uint16_t)low;
		return true;
	}
	return false;
}

/* Whether the rules left the entries of each row, and the mapcounts of the pages, as the memo can
 * leave them. */
static bool state_after(const struct rmf_run *run, uint32_t folio, const struct rmf_shape *shape,
			struct rmf_known *known)
{
	const struct rmf_population *pop = &run->pop;

	for (uint32_t row = 0; row < shape->nr_rows; row++)
		if (!row_after(run, folio, shape, row, known->takes_swap, known))
			return false;
	if (known->flags_after & RMF_FOLIO_PAGE_FLAGS)
		return false;
	/* while nothing is stored for the pages they are equal, and nobody reads the array */
	return !(known->flags_after & RMF_FOLIO_PAGE_MAPCOUNTS) ||
	       (((uint32_t)shape->words[0] & RMF_FOLIO_PAGE_MAPCOUNTS) &&
		!memcmp(run->memo->page_mapcount,
			pop->page_mapcount + rmf_folio_page_base(pop, folio),
			rmf_folio_nr_pages(pop, folio) * sizeof(*run->memo->page_mapcount)));
}

/* Keep what the visit counted. False without memory. */
static bool keep_counts(struct rmf_run *run, struct rmf_known *known)
{
	struct rmf_memo *memo = run->memo;
	const uint32_t nr = (uint32_t)1 << known->order;
	struct rmf_memo_count *counts;

	if (memo->nr_counts > UINT32_MAX - 2 * RMF_MAX_FOLIO_PAGES ||
	    !make_room((void **)&memo->counts, &memo->counts_room,
		       memo->nr_counts + RMF_NR_EVENTS + nr + 1, sizeof(*memo->counts)))
		return false;
	counts = memo->counts + memo->nr_counts;
	known->first_event = (uint32_t)memo->nr_counts;
	for (uint32_t event = 0; event < RMF_NR_EVENTS; event++) {
		const uint64_t all = run->ev[event] - memo->ev[event],
			       part = run->referenced_ev[event] - memo->referenced_ev[event];

		if (all || part)
			counts[known->nr_events++] = (struct rmf_memo_count){ event, all, part };
	}
	counts += known->nr_events;
	known->first_length = known->first_event + known->nr_events;
	for (uint32_t length = 0; length <= nr; length++) {
		const uint64_t steps = run->batch_lengths[length] - memo->batch_lengths[length],
			       looked = run->looked_around[length] - memo->looked_around[length];

		if (steps || looked)
			counts[known->nr_lengths++] =
				(struct rmf_memo_count){ length, steps, looked };
	}
	memo->nr_counts += known->nr_events + known->nr_lengths;
	return true;
}

/* Whether the visit left the deferred-split queue alone. A folio that is freed has left it again,
 * but one that was on it from the start, as the shrinker looks for underused THPs, leaves it. */
static bool left_queue_alone(const struct rmf_run *run, uint32_t order, uint32_t flags_before,
			     uint32_t flags_after)
{
	if (rmf_looks_for_underused(run) && (flags_before & RMF_FOLIO_ANON) &&
	    (uint32_t)1 << order == run->pop.ptrs_per_pte)
		return false;
	return !(flags_before & RMF_FOLIO_PARTIALLY_MAPPED) &&
	       (!(flags_after & RMF_FOLIO_PARTIALLY_MAPPED) || (flags_after & RMF_FOLIO_FREED));
}

/* Whether the visit depended on nothing but the shape. Where the young and dirty bits of a row are
 * all the same, the shape says each. */
static bool depends_on_shape(const struct rmf_run *run, const struct rmf_shape *shape,
			     const struct rmf_known *known, const uint64_t *ev_before)
{
	/* what lies around the folio */
	static const enum rmf_event outside[] = {
		RMF_OOB_READS,		RMF_OOB_WRITES,	     RMF_VMA_OVERRUN_READS,
		RMF_VMA_OVERRUN_WRITES, RMF_TABLE_CROSSINGS, RMF_LOOK_AROUNDS_YOUNG,
	};

	for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++)
		if (run->ev[outside[i]] != ev_before[outside[i]])
			return false;
	if (run->error || (run->rule_saw & RMF_RULE_SAW_PLACE) ||
	    ((run->rule_saw & RMF_RULE_SAW_BITS) && shape->mixed))
		return false;
	/* restored entries fold or do not fold by their PFN */
	if (run->arch.cont_ptes > 1 && !known->takes_swap &&
	    run->ev[RMF_PTES_SET] != ev_before[RMF_PTES_SET])
		return false;
	return left_queue_alone(run, known->order, (uint32_t)shape->words[0], known->flags_after);
}

/* Whether the VMAs of a shape belong to different processes, so that each row's part of what the
 * visit did to the RSS can be told. */
static bool mms_differ(const struct rmf_population *pop, const struct rmf_shape *shape)
{
	for (uint32_t i = 0; i < shape->nr_rows; i++)
		for (uint32_t j = 0; j < i; j++)
			if (pop->vma_mm[shape->vma[i]] == pop->vma_mm[shape->vma[j]])
				return false;
	return true;
}

static void add_to_table(struct rmf_memo *memo, uint64_t hash, uint32_t number)
{
	uint64_t at = hash >> 40;

	while (memo->table[at & memo->table_mask])
		at++;
	memo->table[at & memo->table_mask] = number;
}

/* Make sure that at most half of the table is in use with one more. False without memory. */
static bool grow_table(struct rmf_memo *memo)
{
	const uint64_t size = memo->table_mask + 1;
	uint32_t *table;

	if (2 * (memo->nr + 1) <= size)
		return true;
	table = calloc(4 * size, sizeof(*table));
	if (!table)
		return false;
	free(memo->table);
	memo->table = table;
	memo->table_mask = 4 * size - 1;
	for (uint32_t i = 0; i < memo->nr; i++)
		add_to_table(memo, memo->known[i].hash, i + 1);
	return true;
}

/* Put a new shape into the memo. NULL if there is no room or no memory. */
static struct rmf_known *add_known(struct rmf_memo *memo, const struct rmf_shape *shape)
{
	struct rmf_known *known;

	if (memo->nr == RMF_MEMO_SHAPES || !grow_table(memo) ||
	    !make_room((void **)&memo->known, &memo->room, memo->nr + 1, sizeof(*memo->known)) ||
	    !make_room((void **)&memo->words, &memo->words_room, memo->nr_words + shape->nr_words,
		       sizeof(*memo->words)))
		return NULL;
	known = &memo->known[memo->nr];
	*known = (struct rmf_known){ .hash = shape->hash,
				     .words = (uint32_t)memo->nr_words,
				     .nr_words = shape->nr_words,
				     .ahead = RMF_MEMO_AHEAD };
	memcpy(memo->words + memo->nr_words, shape->words, shape->nr_words * sizeof(*shape->words));
	memo->nr_words += shape->nr_words;
	add_to_table(memo, shape->hash, (uint32_t)++memo->nr);
	return known;
}

/* Visit the first folio of a shape by the rules and keep the result. Returns how many of visits[]
 * were filled in. */
static uint32_t visit_first(struct rmf_run *run, enum rmf_visit_kind kind, uint32_t folio,
			    const struct rmf_shape *shape, struct rmf_known *known,
			    struct rmf_visits visits[2])
{
	const struct rmf_population *pop = &run->pop;
	const uint64_t nr_pages = rmf_folio_nr_pages(pop, folio);
	const uint64_t slot_before = run->swap_next, refusals_before = run->swap_refusals;
	const int64_t used_before = run->swap_used, stat_before = run->mapped_stat;
	const int32_t entire_before = pop->folio_entire_mapcount[folio],
		      mapped_before = pop->folio_nr_pages_mapped[folio];
	uint64_t slots;
	uint32_t nr;

	if (!keep_before(run, folio, shape))
		return rmf_visit_by_rules(run, kind, folio, visits);
	known->order = pop->folio_order[folio];
	for (uint32_t row = 0; row < shape->nr_rows; row++)
		memcpy(known->rss[row],
		       pop->mm_rss + (uint64_t)pop->vma_mm[shape->vma[row]] * RMF_NR_MM_COUNTERS,
		       sizeof(known->rss[row]));
	run->rule_saw = 0;
	nr = rmf_visit_by_rules(run, kind, folio, visits);
	/* the arrays of a population may grow in a split */
	if (nr != 1)
		return nr;
	for (uint32_t row = 0; row < shape->nr_rows; row++) {
		const int64_t *rss =
			pop->mm_rss + (uint64_t)pop->vma_mm[shape->vma[row]] * RMF_NR_MM_COUNTERS;

		for (int i = 0; i < RMF_NR_MM_COUNTERS; i++)
			known->rss[row][i] = rss[i] - known->rss[row][i];
	}
	known->visits = *visits;
	known->mapped_stat = run->mapped_stat - stat_before;
	known->flags_after = pop->folio_flags[folio];
	known->refcount_after = pop->folio_refcount[folio];
	known->mapcount_after = pop->folio_mapcount[folio];
	known->nr_pages_mapped_after = pop->folio_nr_pages_mapped[folio];
	slots = run->swap_next - slot_before;
	known->takes_swap = slots > 0;
	known->usable =
		!run->swap_ran_out && visits->outcome != RMF_OUTCOME_DROPPED &&
		/* the slots of a device with a map do not follow each other; one that is
		 * taken and given back has to be free */
		(!run->swap_map || (run->swap_used == used_before &&
				    run->ev[RMF_SWAP_ALLOCS] == run->memo->ev[RMF_SWAP_ALLOCS])) &&
		/* slots may be given back, so that the next folio finds some */
		run->swap_refusals == refusals_before &&
		(run->swap_map || run->swap_used - used_before == (int64_t)slots) &&
		(!slots || slots == nr_pages) &&
		pop->folio_entire_mapcount[folio] == entire_before &&
		(known->order || known->nr_pages_mapped_after == mapped_before) &&
		depends_on_shape(run, shape, known, run->memo->ev) &&
		state_after(run, folio, shape, known) && keep_counts(run, known);
	return nr;
}

static void add_visits(const struct rmf_visits *visits, uint32_t nr, struct rmf_visits *out,
		       uint64_t *used)
{
	for (uint32_t i = 0; i < nr; i++)
		if (!*used || !rmf_visits_join(&out[*used - 1], &visits[i]))
			out[(*used)++] = visits[i];
}

uint64_t rmf_visit_by_memo(struct rmf_run *run, enum rmf_visit_kind kind, const uint32_t *folios,
			   uint64_t n, struct rmf_visits *out, uint64_t room, uint64_t *used)
{
	struct rmf_memo *memo = run->memo;
	struct rmf_visits visits[2];
	struct rmf_shape shape;
	struct rmf_known *known = NULL;
	uint64_t done = 0;
	uint32_t nr;

	if (memo && !run->trace) {
		done = memo->isa->visit_known(run, kind, folios, n, out, room, used, &shape);
		if (done == n || room - *used < 2 || (done && !shape.nr_words))
			return done;
		if (shape.nr_words && !rmf_known_shape(memo, &shape) &&
		    mms_differ(&run->pop, &shape))
			known = add_known(memo, &shape);
	}
	nr = known ? visit_first(run, kind, folios[done], &shape, known, visits)
		   : rmf_visit_by_rules(run, kind, folios[done], visits);
	add_visits(visits, nr, out, used);
	return done + 1;
}

void rmf_memo_forget(struct rmf_run *run)
{
	struct rmf_memo *memo = run->memo;

	if (!memo)
		return;
	rmf_memo_settle(run);
	memset(memo->table, 0, (memo->table_mask + 1) * sizeof(*memo->table));
	memo->nr = 0;
	memo->nr_words = memo->nr_counts = 0;
	memset(memo->recent, 0, sizeof(memo->recent));
	memo->blocks = (struct rmf_blocks){ .size = 1 };
	/* the next population may have other VMAs */
	free(memo->vma_class);
	memo->vma_class = NULL;
	memo->nr_vmas = memo->nr_classes = 0;
}

void rmf_memo_settle(struct rmf_run *run)
{
	struct rmf_memo *memo = run->memo;

	while (memo && memo->used) {
		struct rmf_known *known = &memo->known[memo->used - 1];
		const struct rmf_memo_count *counts = memo->counts + known->first_event;

		for (uint32_t i = 0; i < known->nr_events; i++) {
			run->ev[counts[i].number] += known->nr * counts[i].nr;
			run->referenced_ev[counts[i].number] += known->nr * counts[i].checks;
		}
		counts = memo->counts + known->first_length;
		for (uint32_t i = 0; i < known->nr_lengths; i++) {
			run->batch_lengths[counts[i].number] += known->nr * counts[i].nr;
			run->looked_around[counts[i].number] += known->nr * counts[i].checks;
		}
		run->mapped_stat += (int64_t)known->nr * known->mapped_stat;
		known->nr = 0;
		memo->used = known->next_used;
	}
}
