#include "referenced.h"

#include "contpte.h"
#include "folio.h"
#include "folio_batch.h"
#include "generations.h"
#include "look_around.h"
#include "rule.h"
#include "tlb.h"
#include "walk.h"
#include "young.h"

/* Models clear_flush_young_ptes(), include/linux/pgtable.h, and contpte_clear_flush_young_ptes(),
 * arch/arm64/mm/contpte.c, Linux v7.0. Returns whether any entry was young. */
static bool clear_flush_young_ptes(const struct rmf_slots *slots, uint64_t vpn, uint64_t nr)
{
	uint64_t tested;

	rmf_trace_add(slots->run, RMF_TRACE_YOUNG, vpn, (int64_t)nr);
	tested = rmf_test_and_clear_young_ptes(slots, vpn, nr, RMF_YOUNG_OF_FOLIO);
	if (tested)
		rmf_tlb_flush_young(slots->run, slots->mm, tested);
	return tested;
}

/* Models pmdp_clear_flush_young(), mm/pgtable-generic.c, Linux v7.0. */
static bool clear_flush_young_pmd(const struct rmf_walk *walk)
{
	struct rmf_run *run = walk->slots.run;
	uint64_t table = rmf_walk_table_start(walk);
	rmf_pte *pmd = rmf_slots_at(&walk->slots, table);
	bool young = rmf_pte_present(*pmd) && (*pmd & RMF_PTE_YOUNG); /* a device entry has no young
									 bit */

	rmf_count(run, RMF_YOUNG_CALLS, 1);
	rmf_count(run, RMF_YOUNG_TESTS, 1);
	rmf_trace_add(run, RMF_TRACE_YOUNG, table, (int64_t)run->pop.ptrs_per_pte);
	if (!young)
		return false;
	*pmd &= ~(rmf_pte)RMF_PTE_YOUNG;
	rmf_count(run, RMF_YOUNG_CLEARS, 1);
	rmf_tlb_flush_young(run, walk->slots.mm, 1);
	return true;
}

/* Whether MGLRU looks around by entries, while the classic LRU may go by batches (v7.0). */
static bool looks_around_per_entry(const struct rmf_run *run)
{
	return run->lru_gen && !run->lru_gen->batched;
}

/* How many entries from the walk's position on are tested as one batch. Models the scan in
 * folio_referenced_one(), mm/rmap.c, Linux v7.0 (52e054f71840). */
static uint64_t young_batch(const struct rmf_walk *walk, uint64_t folio)
{
	struct rmf_run *run = walk->slots.run;
	const bool own = run->policy.young_rule;
	rmf_pte pte;

	if (!own &&
	    (!run->policy.young_batched || walk->nr_pages == 1 || looks_around_per_entry(run)))
		return 1;
	rmf_count(run, RMF_ENTRY_PTE_READS, 1);
	pte = rmf_ptep_get(&walk->slots, walk->vpn);
	if (!rmf_pte_present(pte))
		return 1;
	if (own)
		return rmf_rule_young_batch(run, walk, folio, pte);
	return rmf_folio_pte_batch_flags(&walk->slots, walk->vpn, &pte,
					 rmf_slots_room(&walk->slots, walk->vpn), walk->folio_pfn,
					 walk->nr_pages, 0, NULL);
}

/* Test nr entries at the walk's position. Returns whether any was young. */
static bool young_ptes(const struct rmf_walk *walk, uint32_t vma, uint32_t folio, uint64_t nr)
{
	if (walk->slots.run->lru_gen)
		return rmf_look_around(&walk->slots, vma, walk->vpn, nr, folio);
	return clear_flush_young_ptes(&walk->slots, walk->vpn, nr);
}

static bool mlocked(struct rmf_run *run, uint64_t folio, struct rmf_reference *reference)
{
	rmf_mlock_vma_folio(run, folio);
	reference->vm_flags |= RMF_VMA_LOCKED;
	return false;
}

/* What happens at a yield in a locked VMA: the walk goes on, it stops and the folio becomes
 * mlocked, or it stops. */
enum locked_yield { LOCKED_CONTINUE, LOCKED_MLOCK, LOCKED_STOP };

static enum locked_yield locked_yield(const struct rmf_run *run, const struct rmf_walk *walk,
				      uint64_t ptes)
{
	if (walk->pmd)
		return LOCKED_MLOCK;
	if (!run->policy.young_batched)
		return walk->nr_pages == 1 ? LOCKED_MLOCK : LOCKED_CONTINUE;
	if (ptes != walk->nr_pages)
		return LOCKED_CONTINUE;
	return walk->crossed ? LOCKED_STOP : LOCKED_MLOCK;
}

static bool folio_referenced_one(struct rmf_run *run, uint64_t folio, uint32_t vma,
				 struct rmf_reference *reference)
{
	const struct rmf_population *pop = &run->pop;
	bool locked = pop->vma_flags[vma] & RMF_VMA_LOCKED, batched = run->policy.young_batched;
	uint64_t ptes = 0, referenced = 0;
	struct rmf_walk walk;

	if (!rmf_walk_start(&walk, run, folio, vma, 0))
		return true;
	rmf_count(run, RMF_REFERENCED_CALLS, 1);
	while (rmf_page_vma_mapped_walk(&walk)) {
		uint64_t nr = 1;

		if (locked) {
			enum locked_yield what = locked_yield(run, &walk, ++ptes);

			/* v6.14 leaves the mapcount alone if it stops at once */
			reference->mapcount -= batched || what == LOCKED_CONTINUE;
			if (what == LOCKED_CONTINUE)
				continue;
			rmf_walk_done(&walk);
			if (what == LOCKED_MLOCK)
				return mlocked(run, folio, reference);
			break;
		}
		if (walk.pmd) {
			referenced += clear_flush_young_pmd(&walk);
		} else {
			nr = young_batch(&walk, folio);
			ptes += nr;
			/* a device entry has no young bit to test */
			if (rmf_pte_present(*rmf_slots_at(&walk.slots, walk.vpn)))
				referenced += young_ptes(&walk, vma, (uint32_t)folio, nr);
		}
		reference->mapcount -= (int64_t)nr;
		if (batched && ptes == walk.nr_pages && !looks_around_per_entry(run)) {
			rmf_walk_done(&walk);
			break;
		}
		rmf_walk_skip(&walk, nr - 1);
	}
	if (locked && !batched && ptes == walk.nr_pages && !walk.crossed)
		return mlocked(run, folio, reference);
	if (pop->folio_flags[folio] & RMF_FOLIO_YOUNG) {
		pop->folio_flags[folio] &= ~(uint32_t)RMF_FOLIO_YOUNG;
		referenced++;
	}
	if (referenced) {
		reference->referenced++;
		reference->vm_flags |= pop->vma_flags[vma] & ~(uint32_t)RMF_VMA_LOCKED;
	}
	return reference->mapcount != 0;
}

/* The events that events.def marks ALSO and ONLY. tests/test_twins.py fails if one is missing. What
 * others count too needs a difference. In lists as short as these gcc -O3 unrolls the loops below.
 * One loop over all 19 events made a reclaim of order-0 folios 28% slower; these lists make it 7%
 * slower, and 4% over orders 0, 4 and 9 (the cases of bench/test_kernels.py with engine "general"
 * on 512 MiB, where the difference is seen best). */
#define SHARED_NEVER(event)
#define SHARED_ALSO(event) event,
#define SHARED_ONLY(event)
#define OWN_NEVER(event)
#define OWN_ALSO(event)
#define OWN_ONLY(event) event,
static const enum rmf_event shared_events[] = {
#define RMF_EVENT(event, name, component, check, text) SHARED_##check(RMF_##event)
#include "events.def"
};
static const enum rmf_event own_events[] = {
#define RMF_EVENT(event, name, component, check, text) OWN_##check(RMF_##event)
#include "events.def"
};
enum {
	NR_SHARED_EVENTS = sizeof(shared_events) / sizeof(shared_events[0]),
	NR_OWN_EVENTS = sizeof(own_events) / sizeof(own_events[0]),
};

bool rmf_folio_referenced_one(struct rmf_run *run, uint64_t folio, uint32_t vma,
			      struct rmf_reference *reference)
{
	uint64_t *part = run->referenced_ev;
	bool go_on;

	for (int i = 0; i < NR_SHARED_EVENTS; i++)
		part[shared_events[i]] -= run->ev[shared_events[i]];
	go_on = folio_referenced_one(run, folio, vma, reference);
	for (int i = 0; i < NR_SHARED_EVENTS; i++)
		part[shared_events[i]] += run->ev[shared_events[i]];
	for (int i = 0; i < NR_OWN_EVENTS; i++)
		part[own_events[i]] = run->ev[own_events[i]];
	return go_on;
}
