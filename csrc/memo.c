#include "memo.h"

#include <stdlib.h>
#include <string.h>

#include "deferred.h"

enum { MAX_RESULTS = 64, MAX_LENGTHS = 4 };

struct result {
	struct rmf_regular regular;
	struct rmf_visits visits;
	enum rmf_visit_kind kind;
	bool usable; /* else the rules decide each time */
	uint64_t nr; /* folios that it was used for since the last rmf_memo_settle() */

	/* what one visit counts */
	uint64_t ev[RMF_NR_EVENTS];
	uint64_t referenced_ev[RMF_NR_EVENTS];
	uint64_t rss[RMF_NR_MM_COUNTERS];
	int64_t mapped_stat;
	uint32_t nr_lengths;
	uint32_t length[MAX_LENGTHS];
	uint64_t steps[MAX_LENGTHS];
};

struct rmf_memo {
	rmf_visit_same *visit_same;
	uint32_t nr;
	struct result *recent[RMF_NR_VISIT_KINDS][RMF_MAX_ORDER + 1];
	struct result results[MAX_RESULTS];
	/* what the run had counted before the visit whose result is being taken */
	uint64_t ev[RMF_NR_EVENTS];
	uint64_t referenced_ev[RMF_NR_EVENTS];
	uint64_t batch_lengths[RMF_MAX_FOLIO_PAGES + 1];
};

struct rmf_memo *rmf_memo_new(rmf_visit_same *visit_same)
{
	struct rmf_memo *memo = calloc(1, sizeof(*memo));

	if (memo)
		memo->visit_same = visit_same;
	return memo;
}

void rmf_memo_free(struct rmf_memo *memo)
{
	free(memo);
}

/* Read the numbers of a folio that one VMA maps. False if other VMAs map it too, or if the VMA maps
 * only a part of it. */
static bool regular_of(const struct rmf_population *pop, uint32_t folio,
		       struct rmf_regular *regular)
{
	const uint64_t row = pop->rmap_start[folio];
	const rmf_pte *pte;
	uint64_t vpn;
	uint32_t vma;

	if (pop->rmap_start[folio + 1] != row + 1 || !rmf_rmap_vma(pop, row, &vma))
		return false;
	*regular = (struct rmf_regular){
		.vma = vma,
		.flags = pop->folio_flags[folio],
		.refcount = pop->folio_refcount[folio],
		.order = pop->folio_order[folio],
	};
	if (regular->flags & (RMF_FOLIO_PAGE_MAPCOUNTS | RMF_FOLIO_PAGE_FLAGS))
		return false;
	pte = rmf_slot_of_regular(pop, regular->vma, pop->folio_index[folio],
				  rmf_folio_nr_pages(pop, folio), &vpn);
	if (!pte || !rmf_pte_present(*pte))
		return false;
	regular->low = *pte & (RMF_PFN_ONE - 1);
	return true;
}

static bool same_numbers(const struct rmf_regular *a, const struct rmf_regular *b)
{
	return a->flags == b->flags && a->refcount == b->refcount && a->low == b->low &&
	       a->vma == b->vma && a->order == b->order;
}

static struct result *find_result(struct rmf_memo *memo, enum rmf_visit_kind kind,
				  const struct rmf_regular *regular)
{
	for (uint32_t i = 0; i < memo->nr; i++)
		if (memo->results[i].kind == kind &&
		    same_numbers(&memo->results[i].regular, regular))
			return &memo->results[i];
	return NULL;
}

/* Whether the folio is regular. It is compared with its own numbers, which changes nothing. */
static bool is_regular(const struct rmf_run *run, uint32_t folio, const struct rmf_regular *regular)
{
	struct rmf_regular same = *regular;

	same.flags_after = same.flags;
	same.refcount_after = same.refcount;
	same.mapcount_after = same.nr_pages_mapped_after = (int32_t)1 << same.order;
	same.entries_after = RMF_ENTRIES_STAY;
	same.low_after = same.low;
	return run->memo->visit_same(&run->pop, &same, run->arch.cont_ptes, 0, &folio, 1) == 1;
}

/* Find out which of enum rmf_entries_after has become of the entries. False if none of them has. */
static bool entries_after(const struct rmf_population *pop, uint32_t folio, uint64_t swap_taken,
			  struct rmf_regular *regular)
{
	const uint64_t nr = rmf_folio_nr_pages(pop, folio);
	const rmf_pte *ptes;
	rmf_pte first;
	uint64_t vpn;

	ptes = rmf_slot_of_regular(pop, regular->vma, pop->folio_index[folio], nr, &vpn);
	if (!ptes)
		return false;
	first = *ptes;
	regular->low_after = first & (RMF_PFN_ONE - 1);
	if (!first)
		regular->entries_after = RMF_ENTRIES_CLEARED;
	else if (rmf_pte_present(first) && rmf_pte_pfn(first) == pop->folio_pfn[folio])
		regular->entries_after = RMF_ENTRIES_STAY;
	else if (rmf_pte_kind(first) == RMF_KIND_SWAP && swap_taken == nr &&
		 rmf_pte_pfn(first) == pop->folio_swap[folio])
		regular->entries_after = RMF_ENTRIES_SWAPPED;
	else
		return false;
	for (uint64_t i = 0; i < nr; i++)
		if (ptes[i] != (first ? rmf_pte_advance(first, i) : 0))
			return false;
	return (regular->entries_after == RMF_ENTRIES_SWAPPED) == (swap_taken > 0);
}

/* Take the batch lengths that the visit counted. False if they are too many to keep. */
static bool lengths_since(const struct rmf_run *run, const struct rmf_memo *memo,
			  struct result *result)
{
	for (uint32_t length = 0; length <= RMF_MAX_FOLIO_PAGES; length++) {
		if (run->batch_lengths[length] == memo->batch_lengths[length])
			continue;
		if (result->nr_lengths == MAX_LENGTHS)
			return false;
		result->length[result->nr_lengths] = length;
		result->steps[result->nr_lengths++] =
			run->batch_lengths[length] - memo->batch_lengths[length];
	}
	return true;
}

/* Whether the visit left the deferred-split queue alone. A folio that is freed has left it again,
 * but one that was on it from the start, as the shrinker looks for underused THPs, leaves it. */
static bool left_queue_alone(const struct rmf_run *run, const struct rmf_regular *regular)
{
	if (rmf_looks_for_underused(run) && (regular->flags & RMF_FOLIO_ANON) &&
	    (uint32_t)1 << regular->order == run->pop.ptrs_per_pte)
		return false;
	return !(regular->flags & RMF_FOLIO_PARTIALLY_MAPPED) &&
	       (!(regular->flags_after & RMF_FOLIO_PARTIALLY_MAPPED) ||
		(regular->flags_after & RMF_FOLIO_FREED));
}

/* Visit a regular folio by the rules and keep the result. Returns how many of visits[] were filled
 * in. */
static uint32_t add_result(struct rmf_run *run, enum rmf_visit_kind kind, uint32_t folio,
			   const struct rmf_regular *regular, struct rmf_visits *visits)
{
	struct rmf_memo *memo = run->memo;
	struct result *result = &memo->results[memo->nr++];
	struct rmf_population *pop = &run->pop;
	const int64_t *rss = pop->mm_rss + (uint64_t)pop->vma_mm[regular->vma] * RMF_NR_MM_COUNTERS;
	const uint64_t swap_before = run->swap_next;
	const int64_t used_before = run->swap_used;
	const uint64_t refusals_before = run->swap_refusals;
	const int64_t stat_before = run->mapped_stat;
	const int32_t mapped_before = pop->folio_nr_pages_mapped[folio];
	int64_t rss_before[RMF_NR_MM_COUNTERS];
	uint32_t nr;
	struct rmf_regular *after = &result->regular;

	memcpy(memo->ev, run->ev, sizeof(run->ev));
	memcpy(memo->referenced_ev, run->referenced_ev, sizeof(run->referenced_ev));
	memcpy(memo->batch_lengths, run->batch_lengths, sizeof(run->batch_lengths));
	memcpy(rss_before, rss, sizeof(rss_before));
	nr = rmf_visit_by_rules(run, kind, folio, visits);

	*result = (struct result){ .regular = *regular, .visits = *visits, .kind = kind };
	after->flags_after = pop->folio_flags[folio];
	after->refcount_after = pop->folio_refcount[folio];
	after->mapcount_after = pop->folio_mapcount[folio];
	after->nr_pages_mapped_after = pop->folio_nr_pages_mapped[folio];
	for (int i = 0; i < RMF_NR_EVENTS; i++) {
		result->ev[i] = run->ev[i] - memo->ev[i];
		result->referenced_ev[i] = run->referenced_ev[i] - memo->referenced_ev[i];
	}
	for (int i = 0; i < RMF_NR_MM_COUNTERS; i++)
		result->rss[i] = (uint64_t)(rss[i] - rss_before[i]);
	result->mapped_stat = run->mapped_stat - stat_before;
	result->usable =
		!run->swap_ran_out &&
		/* the slots of a device with a map do not follow each other */
		nr == 1 && (!run->swap_map || run->swap_used == used_before) &&
		/* slots may be given back, so that the next folio finds some */
		run->swap_refusals == refusals_before && visits->outcome != RMF_OUTCOME_DROPPED &&
		left_queue_alone(run, after) &&
		entries_after(pop, folio, run->swap_next - swap_before, after) &&
		lengths_since(run, memo, result) &&
		!(after->flags_after & (RMF_FOLIO_PAGE_MAPCOUNTS | RMF_FOLIO_PAGE_FLAGS)) &&
		(regular->order || after->nr_pages_mapped_after == mapped_before) &&
		/* false if what lies around the folio mattered */
		!result->ev[RMF_OOB_READS] && !result->ev[RMF_OOB_WRITES] &&
		!result->ev[RMF_VMA_OVERRUN_READS] && !result->ev[RMF_VMA_OVERRUN_WRITES] &&
		!result->ev[RMF_TABLE_CROSSINGS] &&
		/* restored entries fold or do not fold by their PFN */
		(run->arch.cont_ptes == 1 || after->entries_after == RMF_ENTRIES_SWAPPED ||
		 !result->ev[RMF_PTES_SET]);
	return nr;
}

bool rmf_visit_by_memo(struct rmf_run *run, enum rmf_visit_kind kind, const uint32_t *folios,
		       uint64_t n, struct rmf_visits visits[2], uint32_t *nr_visits)
{
	struct rmf_memo *memo = run->memo;
	const struct rmf_population *pop = &run->pop;
	struct result **recent, *result;
	struct rmf_regular regular;

	if (!memo || run->trace || !regular_of(pop, folios[0], &regular))
		return false;
	recent = &memo->recent[kind][regular.order];
	result = *recent;
	if (!result || !same_numbers(&result->regular, &regular)) {
		result = find_result(memo, kind, &regular);
		if (!result) {
			if (memo->nr == MAX_RESULTS || !is_regular(run, folios[0], &regular))
				return false;
			*nr_visits = add_result(run, kind, folios[0], &regular, visits);
			return true;
		}
		*recent = result;
	}
	if (!result->usable)
		return false;
	if (result->regular.entries_after == RMF_ENTRIES_SWAPPED &&
	    n > (run->swap_end - run->swap_next) >> regular.order)
		n = (run->swap_end - run->swap_next) >> regular.order;
	n = memo->visit_same(pop, &result->regular, run->arch.cont_ptes, run->swap_next, folios, n);
	if (!n)
		return false;
	if (result->regular.entries_after == RMF_ENTRIES_SWAPPED) {
		run->swap_next += n << regular.order;
		run->swap_used += (int64_t)(n << regular.order);
	}
	result->nr += n;
	*nr_visits = 1;
	*visits = result->visits;
	visits->nr = n;
	return true;
}

void rmf_memo_forget(struct rmf_run *run)
{
	struct rmf_memo *memo = run->memo;

	if (!memo)
		return;
	rmf_memo_settle(run);
	memset(memo->recent, 0, sizeof(memo->recent));
	memo->nr = 0;
}

void rmf_memo_settle(struct rmf_run *run)
{
	for (uint32_t i = 0; run->memo && i < run->memo->nr; i++) {
		struct result *result = &run->memo->results[i];
		int64_t *rss = run->pop.mm_rss +
			       (uint64_t)run->pop.vma_mm[result->regular.vma] * RMF_NR_MM_COUNTERS;

		if (!result->nr)
			continue;
		for (int event = 0; event < RMF_NR_EVENTS; event++) {
			run->ev[event] += result->nr * result->ev[event];
			run->referenced_ev[event] += result->nr * result->referenced_ev[event];
		}
		for (int counter = 0; counter < RMF_NR_MM_COUNTERS; counter++)
			rss[counter] += (int64_t)(result->nr * result->rss[counter]);
		for (uint32_t length = 0; length < result->nr_lengths; length++)
			run->batch_lengths[result->length[length]] +=
				result->nr * result->steps[length];
		run->mapped_stat += (int64_t)result->nr * result->mapped_stat;
		result->nr = 0;
	}
}
