#include "shrink.h"

#include "rmap.h"
#include "unmap.h"

enum references {
	REFERENCES_RECLAIM,
	REFERENCES_RECLAIM_CLEAN,
	REFERENCES_KEEP,
	REFERENCES_ACTIVATE
};

/* Models folio_check_references() of the classic LRU, mm/vmscan.c, Linux v7.0. */
static enum references folio_check_references(struct rmf_run *run, uint64_t folio)
{
	uint32_t *flags = &run->pop.folio_flags[folio], vm_flags;
	bool was_referenced, file = !(*flags & RMF_FOLIO_SWAPBACKED);
	int64_t referenced = rmf_folio_referenced(run, folio, &vm_flags);

	was_referenced = *flags & RMF_FOLIO_REFERENCED;
	*flags &= ~(uint32_t)RMF_FOLIO_REFERENCED;
	if (vm_flags & RMF_VMA_LOCKED)
		return REFERENCES_ACTIVATE;
	if (referenced) {
		*flags |= RMF_FOLIO_REFERENCED;
		if (was_referenced || referenced > 1 || ((vm_flags & RMF_VMA_EXEC) && file))
			return REFERENCES_ACTIVATE;
		return REFERENCES_KEEP;
	}
	return was_referenced && file ? REFERENCES_RECLAIM_CLEAN : REFERENCES_RECLAIM;
}

bool rmf_folio_evictable(const struct rmf_run *run, uint64_t folio)
{
	return !(run->pop.folio_flags[folio] & (RMF_FOLIO_UNEVICTABLE | RMF_FOLIO_MLOCKED));
}

/* Models folio_alloc_swap(), mm/swapfile.c, Linux v7.0: slots for all pages, or none. */
static bool alloc_swap(struct rmf_run *run, uint64_t folio)
{
	uint32_t nr = rmf_folio_nr_pages(&run->pop, folio);

	if (run->swap_end - run->swap_next < nr)
		return false;
	run->pop.folio_swap[folio] = run->swap_next;
	run->swap_next += nr;
	rmf_count(run, RMF_SWAP_ALLOCS, 1);
	return true;
}

/* Put an anonymous folio into the swap cache. False if somebody else holds it, because it could not
 * be unmapped completely then, or if swap space is missing. Models shrink_folio_list(),
 * mm/vmscan.c, Linux v7.0. */
static bool add_to_swap(struct rmf_run *run, uint64_t folio)
{
	struct rmf_population *pop = &run->pop;

	if (pop->folio_refcount[folio] != 1 + pop->folio_mapcount[folio] || !alloc_swap(run, folio))
		return false;
	pop->folio_flags[folio] |= RMF_FOLIO_SWAPCACHE | RMF_FOLIO_DIRTY;
	pop->folio_refcount[folio] += (int32_t)rmf_folio_nr_pages(pop, folio);
	return true;
}

/* Unmap the folio everywhere. False if it is still mapped. Models shrink_folio_list(), mm/vmscan.c,
 * Linux v7.0. */
static bool unmap_mappings(struct rmf_run *run, uint64_t folio)
{
	uint32_t nr = rmf_folio_nr_pages(&run->pop, folio), ttu = RMF_TTU_BATCH_FLUSH;

	if (run->pop.folio_mapcount[folio] <= 0)
		return true;
	if (nr > 1)
		ttu |= RMF_TTU_SYNC;
	if (nr >= run->arch.ptrs_per_pte)
		ttu |= RMF_TTU_SPLIT_HUGE_PMD;
	rmf_try_to_unmap(run, folio, ttu);
	if (run->pop.folio_mapcount[folio] <= 0)
		return true;
	rmf_count(run, RMF_UNMAP_FAILURES, 1);
	return false;
}

/* Free the folio. False if somebody else holds it. Models __remove_mapping(), mm/vmscan.c, Linux
 * v7.0, and the branch of shrink_folio_list() for lazyfree folios. */
static bool remove_mapping(struct rmf_run *run, uint64_t folio)
{
	struct rmf_population *pop = &run->pop;
	uint32_t flags = pop->folio_flags[folio], nr = rmf_folio_nr_pages(pop, folio);
	bool lazyfree = (flags & RMF_FOLIO_ANON) && !(flags & RMF_FOLIO_SWAPBACKED);

	if (pop->folio_refcount[folio] != (lazyfree ? 1 : 1 + (int32_t)nr))
		return false;
	if (!lazyfree && (flags & RMF_FOLIO_DIRTY))
		return false;
	pop->folio_refcount[folio] = 0;
	pop->folio_flags[folio] &=
		~(uint32_t)(RMF_FOLIO_SWAPCACHE | RMF_FOLIO_ACTIVE | RMF_FOLIO_REFERENCED);
	pop->folio_flags[folio] |= RMF_FOLIO_FREED;
	rmf_count(run, RMF_FOLIOS_FREED, 1);
	rmf_count(run, RMF_PAGES_FREED, nr);
	/* the slots of the page cache's xarray that become free: 2^(order mod 6), as counted on
	 * real kernels */
	if (!(flags & RMF_FOLIO_ANON))
		rmf_count(run, RMF_PAGE_CACHE_SLOTS, (uint64_t)1 << (pop->folio_order[folio] % 6));
	return true;
}

/* Models shrink_folio_list(), mm/vmscan.c, Linux v7.0, for one folio. */
static enum rmf_outcome shrink_folio(struct rmf_run *run, uint64_t folio, bool ignore_references,
				     bool *writes_out)
{
	struct rmf_population *pop = &run->pop;
	uint32_t *flags = &pop->folio_flags[folio], nr = rmf_folio_nr_pages(pop, folio);
	enum references references = REFERENCES_RECLAIM;

	rmf_count(run, RMF_FOLIOS_SCANNED, 1);
	rmf_count(run, RMF_PAGES_SCANNED, nr);
	if (*flags & RMF_FOLIO_LOCKED)
		return RMF_OUTCOME_KEEP;
	if (nr > 1 && (*flags & RMF_FOLIO_PAGE_FLAGS) &&
	    (pop->page_flags[pop->folio_page_base[folio]] & RMF_PAGE_HWPOISON))
		return RMF_OUTCOME_KEEP;
	if (!rmf_folio_evictable(run, folio))
		return RMF_OUTCOME_ACTIVATE;
	if (!ignore_references)
		references = folio_check_references(run, folio);
	if (references == REFERENCES_ACTIVATE)
		return RMF_OUTCOME_ACTIVATE;
	if (references == REFERENCES_KEEP)
		return RMF_OUTCOME_KEEP;
	if ((*flags & (RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED | RMF_FOLIO_SWAPCACHE)) ==
		    (RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED) &&
	    !add_to_swap(run, folio))
		return RMF_OUTCOME_ACTIVATE;
	if (!unmap_mappings(run, folio) || (*flags & RMF_FOLIO_PINNED))
		return RMF_OUTCOME_ACTIVATE;
	if ((*flags & RMF_FOLIO_DIRTY) &&
	    (*flags & (RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED)) != RMF_FOLIO_ANON) {
		if (!(*flags & RMF_FOLIO_SWAPBACKED))
			return RMF_OUTCOME_ACTIVATE;
		if (references == REFERENCES_RECLAIM_CLEAN)
			return RMF_OUTCOME_KEEP;
		/* shmem goes to swap too */
		if (!(*flags & RMF_FOLIO_ANON) && !alloc_swap(run, folio))
			return RMF_OUTCOME_ACTIVATE;
		*writes_out = true; /* the loop flushes before */
		*flags &= ~(uint32_t)RMF_FOLIO_DIRTY;
		rmf_count(run, RMF_FOLIOS_WRITTEN, 1);
	}
	return remove_mapping(run, folio) ? RMF_OUTCOME_FREED : RMF_OUTCOME_KEEP;
}

/* Give back the isolation reference of a folio that was not freed. The folio is gone if that was
 * the last reference. */
static void putback(struct rmf_run *run, uint64_t folio, enum rmf_outcome outcome)
{
	if (--run->pop.folio_refcount[folio] == 0 && run->pop.folio_mapcount[folio] == 0)
		run->pop.folio_flags[folio] |= RMF_FOLIO_FREED;
	if (outcome == RMF_OUTCOME_ACTIVATE) {
		run->pop.folio_flags[folio] |= RMF_FOLIO_ACTIVE;
		rmf_count(run, RMF_FOLIOS_ACTIVATED, 1);
	} else {
		rmf_count(run, RMF_FOLIOS_KEPT, 1);
	}
}

/* Models shrink_active_list(), mm/vmscan.c, Linux v7.0, for one folio. Only a referenced executable
 * file folio stays active. */
static enum rmf_outcome shrink_active_folio(struct rmf_run *run, uint64_t folio)
{
	uint32_t *flags = &run->pop.folio_flags[folio], vm_flags;
	int64_t referenced = rmf_folio_referenced(run, folio, &vm_flags);

	if (referenced && (vm_flags & RMF_VMA_EXEC) && !(*flags & RMF_FOLIO_SWAPBACKED))
		return RMF_OUTCOME_ACTIVATE;
	*flags &= ~(uint32_t)RMF_FOLIO_ACTIVE;
	rmf_count(run, RMF_FOLIOS_DEACTIVATED, 1);
	return RMF_OUTCOME_KEEP;
}

void rmf_visit_by_rules(struct rmf_run *run, enum rmf_visit_kind kind, uint32_t folio,
			struct rmf_visits *visit)
{
	const bool required = run->flush_required, writable = run->tlb_writable;
	const uint64_t cpumask = run->tlb_cpumask;
	struct rmf_population *pop = &run->pop;
	enum rmf_outcome outcome;

	*visit = (struct rmf_visits){ .nr = 1, .order = pop->folio_order[folio] };
	run->flush_required = run->tlb_writable = false;
	run->tlb_cpumask = 0;
	if (kind == RMF_VISIT_ACTIVE) {
		outcome = shrink_active_folio(run, folio);
	} else {
		pop->folio_refcount[folio]++;
		outcome = shrink_folio(run, folio, kind == RMF_VISIT_PAGEOUT, &visit->writes_out);
		if (outcome != RMF_OUTCOME_FREED)
			putback(run, folio, outcome);
	}
	visit->outcome = (uint8_t)outcome;
	visit->listed = rmf_folio_evictable(run, folio) &&
			!(pop->folio_flags[folio] & RMF_FOLIO_FREED);
	visit->deferred = run->flush_required;
	visit->writable = run->tlb_writable;
	visit->cpumask = run->tlb_cpumask;
	run->flush_required = required;
	run->tlb_writable = writable;
	run->tlb_cpumask = cpumask;
}
