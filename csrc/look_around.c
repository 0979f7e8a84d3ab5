#include "look_around.h"

#include "contpte.h"
#include "folio_batch.h"
#include "generations.h"
#include "young.h"

static const uint32_t NO_FOLIO = UINT32_MAX;

/* Which events count what is done. */
struct events {
	enum rmf_young_test young;
	enum rmf_event reads, updates, promotions;
};

static const struct events WINDOW = { RMF_YOUNG_OF_FOLIO, RMF_WINDOW_PTE_READS, RMF_WINDOW_UPDATES,
				      RMF_WINDOW_PROMOTIONS },
			   AGING = { RMF_YOUNG_OF_AGING, RMF_AGING_PTE_READS, RMF_AGING_UPDATES,
				     RMF_AGING_PROMOTIONS };

/* The folio of a young entry, if its generation or marks may change; else NO_FOLIO. Without a folio
 * under test (NO_FOLIO) it is a page-table walk that asks. */
static uint32_t young_folio(struct rmf_run *run, rmf_pte pte, uint32_t under_test)
{
	uint32_t folio, flags;

	if (!rmf_pte_present(pte) || !(pte & RMF_PTE_YOUNG) || (pte & RMF_PTE_SPECIAL) ||
	    rmf_pte_pfn(pte) == RMF_ZERO_PFN ||
	    !rmf_pfn_index_find(&run->lru_gen->index, rmf_pte_pfn(pte), &folio))
		return NO_FOLIO;
	flags = run->pop.folio_flags[folio];
	if (run->policy.mglru != RMF_MGLRU_V6_12)
		return rmf_folio_gen(flags) ? folio : NO_FOLIO;
	if (under_test == NO_FOLIO || !(flags & RMF_FOLIO_SWAPBACKED) ||
	    (run->pop.folio_flags[under_test] & RMF_FOLIO_SWAPBACKED))
		return folio;
	return NO_FOLIO;
}

/* Mark or promote a folio. Returns whether it was. Models folio_update_gen(), mm/vmscan.c
 * (docs/kernel-rules.md, section 9.6). */
static bool update_gen(struct rmf_run *run, uint32_t folio, uint32_t vma)
{
	struct rmf_lru_gen *gen = run->lru_gen;
	uint32_t *flags = &run->pop.folio_flags[folio];
	const bool v6_12 = run->policy.mglru == RMF_MGLRU_V6_12,
		   exec = run->policy.mglru == RMF_MGLRU_V7_3 &&
			  (run->pop.vma_flags[vma] & RMF_VMA_EXEC) &&
			  !(*flags & RMF_FOLIO_SWAPBACKED);
	const uint32_t young = (uint32_t)(gen->max_seq % RMF_MAX_NR_GENS),
		       old = rmf_folio_gen(*flags);
	const int64_t pages = rmf_folio_nr_pages(&run->pop, folio);

	if (!old && !v6_12)
		return false;
	if (!old) {
		*flags |= RMF_FOLIO_REFERENCED;
		return true;
	}
	if (!v6_12 && !exec && !(*flags & (RMF_FOLIO_REFERENCED | RMF_FOLIO_WORKINGSET))) {
		*flags = rmf_with_accesses(*flags, 0) | RMF_FOLIO_REFERENCED;
		return true;
	}
	gen->moved[rmf_lru_type_of(*flags)][rmf_list_of_gen(*flags)] -= pages;
	gen->moved[rmf_lru_type_of(*flags)][young] += pages;
	*flags &= ~(uint32_t)(RMF_FOLIO_REFERENCED | RMF_FOLIO_WORKINGSET);
	*flags = rmf_with_gen(rmf_with_accesses(*flags, 0), young + 1) |
		 (v6_12 ? 0 : (uint32_t)RMF_FOLIO_WORKINGSET);
	return true;
}

/* Models walk_update_folio(), mm/vmscan.c: mark the folio dirty where an entry was, and mark or
 * promote it. */
static void update(struct rmf_run *run, const struct events *events, uint32_t folio, uint32_t vma,
		   bool dirty)
{
	const uint32_t swapped = RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED;
	uint32_t *flags;

	if (folio == NO_FOLIO)
		return;
	flags = &run->pop.folio_flags[folio];
	if (dirty && !(*flags & RMF_FOLIO_DIRTY) &&
	    (*flags & (swapped | RMF_FOLIO_SWAPCACHE)) != swapped) {
		*flags |= RMF_FOLIO_DIRTY;
		rmf_count(run, RMF_FOLIOS_DIRTIED, 1);
	}
	if (update_gen(run, folio, vma))
		rmf_count(run, events->promotions, 1);
}

/* How many entries from vpn on, up to `max`, continue the young entry `pte` on pages of its folio.
 */
static uint64_t entries_of_folio(struct rmf_run *run, const struct rmf_slots *slots, uint64_t vpn,
				 rmf_pte pte, uint64_t max)
{
	const rmf_pte *entries = rmf_slots_at(slots, vpn);
	uint64_t nr = 1, left;
	uint32_t folio;

	if (!rmf_pfn_index_find(&run->lru_gen->index, rmf_pte_pfn(pte), &folio))
		return 1;
	left = run->pop.folio_pfn[folio] + rmf_folio_nr_pages(&run->pop, folio) - rmf_pte_pfn(pte);
	max = max < left ? max : left;
	while (nr < max && entries[nr] == rmf_pte_advance(pte, nr))
		nr++;
	return nr;
}

/* Pass over entries that are not young. Returns the first that is, or end. With contpte blocks an
 * entry is as young as its block, so it is left to the caller. */
static uint64_t pass_old(const struct rmf_slots *slots, uint64_t vpn, uint64_t end)
{
	const rmf_pte both = RMF_PTE_PRESENT | RMF_PTE_YOUNG;
	const rmf_pte *entries = rmf_slots_at(slots, vpn);
	uint64_t nr = 0;

	while (!slots->cont_mask && vpn + nr < end && (entries[nr] & both) != both)
		nr++;
	return vpn + nr;
}

static void count_reads(struct rmf_run *run, const struct events *events, uint64_t nr)
{
	rmf_count(run, events->reads, nr);
	rmf_count(run, RMF_RAW_PTE_LOADS, nr);
}

/* Clear the young entries of [start, end), which lies in one page table, and mark or promote their
 * folios: once for each run of entries of one folio, in v6.12 for each entry. */
static void clear_young_entries(const struct rmf_slots *slots, uint32_t vma, uint64_t start,
				uint64_t end, uint32_t under_test, const struct events *events)
{
	struct rmf_run *run = slots->run;
	const bool v6_12 = run->policy.mglru == RMF_MGLRU_V6_12, batched = run->lru_gen->batched;
	uint32_t last = NO_FOLIO;
	bool dirty = false;
	uint64_t nr;

	for (uint64_t vpn = start; vpn < end; vpn += nr) {
		const uint64_t next = pass_old(slots, vpn, end);
		uint32_t folio;
		rmf_pte pte;

		count_reads(run, events, next - vpn);
		vpn = next;
		if (vpn == end)
			break;
		pte = rmf_ptep_get(slots, vpn);
		folio = young_folio(run, pte, under_test);
		rmf_count(run, events->reads, 1);
		nr = 1;
		if (folio == NO_FOLIO && !slots->cont_mask) {
			/* the entries behind it are of a folio that nobody marks either, if there
			 * is one; each is read */
			nr = entries_of_folio(run, slots, vpn, pte, end - vpn);
			count_reads(run, events, nr - 1);
		}
		if (events == &WINDOW)
			rmf_count(run, RMF_WINDOW_YOUNG_PTES,
				  nr * (rmf_pte_present(pte) && (pte & RMF_PTE_YOUNG)));
		if (folio == NO_FOLIO)
			continue;
		if (batched && run->pop.folio_order[folio])
			nr = rmf_folio_pte_batch_flags(slots, vpn, &pte, end - vpn,
						       run->pop.folio_pfn[folio],
						       rmf_folio_nr_pages(&run->pop, folio),
						       RMF_FPB_MERGE_YOUNG_DIRTY, NULL);
		rmf_test_and_clear_young_ptes(slots, vpn, nr, events->young);
		if (v6_12) {
			update(run, events, folio, vma, pte & RMF_PTE_DIRTY);
			continue;
		}
		if (folio != last) {
			rmf_count(run, events->updates, 1);
			update(run, events, last, vma, dirty);
			last = folio;
			dirty = false;
		}
		dirty |= (pte & RMF_PTE_DIRTY) != 0;
	}
	/* walk_update_folio() is called once more than there are runs of one folio */
	rmf_count(run, events->updates, !v6_12);
	update(run, events, last, vma, dirty);
}

bool rmf_look_around(const struct rmf_slots *slots, uint32_t vma, uint64_t vpn, uint64_t nr,
		     uint32_t folio)
{
	enum { WINDOW_PTES = RMF_MIN_LRU_BATCH, HALF = WINDOW_PTES / 2 };
	struct rmf_run *run = slots->run;
	uint64_t start = vpn & ~slots->table_mask, end = (vpn | slots->table_mask) + 1;

	rmf_count(run, RMF_LOOK_AROUNDS, 1);
	run->looked_around[nr]++;
	rmf_trace_add(run, RMF_TRACE_YOUNG, vpn, (int64_t)nr);
	if (!rmf_test_and_clear_young_ptes(slots, vpn, nr, RMF_YOUNG_OF_FOLIO))
		return false;
	rmf_count(run, RMF_LOOK_AROUNDS_YOUNG, 1);
	start = start < slots->vma_start ? slots->vma_start : start;
	end = end > slots->vma_end ? slots->vma_end : end;
	if (end - start == 1)
		return true;
	if (end - start > WINDOW_PTES) {
		if (vpn - start < HALF) {
			end = start + WINDOW_PTES;
		} else if (end - vpn < HALF) {
			start = end - WINDOW_PTES;
		} else {
			start = vpn - HALF;
			end = vpn + HALF;
		}
	}
	clear_young_entries(slots, vma, start, end, folio, &WINDOW);
	return true;
}

/* A PMD leaf counts as one entry. Returns whether it was young. */
static bool walk_leaf(struct rmf_run *run, uint32_t vma, rmf_pte *pmd)
{
	const uint32_t folio = young_folio(run, *pmd, NO_FOLIO);
	const bool dirty = *pmd & RMF_PTE_DIRTY;

	if (folio == NO_FOLIO)
		return false;
	*pmd &= ~(rmf_pte)RMF_PTE_YOUNG;
	rmf_count(run, RMF_AGING_UPDATES, run->policy.mglru != RMF_MGLRU_V6_12);
	update(run, &AGING, folio, vma, dirty);
	return true;
}

static void walk_vma(struct rmf_run *run, uint32_t vma)
{
	const struct rmf_population *pop = &run->pop;
	const struct rmf_slots slots = rmf_slots_of_vma(run, vma);
	const uint64_t size = pop->ptrs_per_pte;
	const uint8_t *state = pop->table_state + pop->vma_table_base[vma];
	uint64_t start = slots.vma_start, end;
	uint8_t is;
	bool young_leaves = false;

	for (; start < slots.vma_end; start = end, state++) {
		end = (start | (size - 1)) + 1;
		end = end < slots.vma_end ? end : slots.vma_end;
		is = *(const volatile uint8_t *)state;
		if (is == RMF_TABLE_PTE)
			clear_young_entries(&slots, vma, start, end, NO_FOLIO, &AGING);
		else if (rmf_is_pmd_leaf(pop, vma, start, is))
			young_leaves |= walk_leaf(run, vma, rmf_slots_at(&slots, start));
	}
	/* as in a table: once more than there are runs of one folio */
	if (young_leaves && run->policy.mglru != RMF_MGLRU_V6_12)
		rmf_count(run, RMF_AGING_UPDATES, 1);
}

void rmf_walk_page_tables(struct rmf_run *run)
{
	const struct rmf_population *pop = &run->pop;

	for (uint32_t vma = 0; vma < pop->nr_vmas; vma++) {
		const uint32_t flags = pop->vma_flags[vma];
		const bool anon_left_out = (flags & RMF_VMA_ANON) &&
					   !rmf_lru_type_evictable(run, RMF_LRU_ANON);

		if (!(flags & RMF_VMA_LOCKED) && !anon_left_out &&
		    !(pop->mm_flags[pop->vma_mm[vma]] & RMF_MM_OUTSIDE_MEMCG))
			walk_vma(run, vma);
	}
}
