#include "shrink.h"

#include "deferred.h"
#include "generations.h"
#include "rmap.h"
#include "split.h"
#include "swap.h"
#include "unmap.h"

enum references { REFERENCES_RECLAIM, REFERENCES_KEEP, REFERENCES_ACTIVATE };

/* Models lru_gen_set_refs(), mm/vmscan.c, Linux v7.0: the marks of a referenced folio
 * (docs/kernel-rules.md, section 9.4). Returns whether it is to be activated. */
static bool set_refs(const struct rmf_run *run, uint32_t *flags, bool exec)
{
	const uint32_t both = RMF_FOLIO_REFERENCED | RMF_FOLIO_WORKINGSET, before = *flags & both,
		       accesses = rmf_folio_accesses(*flags);
	const bool again = (*flags & RMF_FOLIO_REFERENCED) && accesses;

	*flags = rmf_with_accesses(*flags, 0);
	if (!before && !(exec && run->policy.mglru == RMF_MGLRU_V7_3)) {
		*flags |= RMF_FOLIO_REFERENCED;
		return false;
	}
	if (!before || run->policy.mglru == RMF_MGLRU_V7_0 || again)
		*flags = (*flags & ~both) | RMF_FOLIO_WORKINGSET;
	else if (before & RMF_FOLIO_REFERENCED) /* folio_mark_accessed() */
		*flags = rmf_with_accesses(*flags, 1);
	else
		*flags |= RMF_FOLIO_REFERENCED;
	return true;
}

/* Models folio_check_references() under MGLRU, mm/vmscan.c, Linux v7.0. */
static enum references check_references_of_gen(struct rmf_run *run, uint64_t folio,
					       int64_t referenced, uint32_t vm_flags)
{
	uint32_t *flags = &run->pop.folio_flags[folio];
	const bool exec = (vm_flags & RMF_VMA_EXEC) && !(*flags & RMF_FOLIO_SWAPBACKED);

	if (vm_flags & RMF_VMA_LOCKED)
		return REFERENCES_ACTIVATE;
	if (!referenced)
		return REFERENCES_RECLAIM;
	return set_refs(run, flags, exec) ? REFERENCES_ACTIVATE : REFERENCES_KEEP;
}

/* Models folio_check_references() of the classic LRU, mm/vmscan.c, Linux v7.0, whose rules MGLRU of
 * v6.12 has too. */
static enum references folio_check_references(struct rmf_run *run, uint64_t folio)
{
	uint32_t *flags = &run->pop.folio_flags[folio], vm_flags;
	bool was_referenced, file = !(*flags & RMF_FOLIO_SWAPBACKED);
	int64_t referenced = rmf_folio_referenced(run, folio, &vm_flags);

	if (run->lru_gen && run->policy.mglru != RMF_MGLRU_V6_12)
		return check_references_of_gen(run, folio, referenced, vm_flags);
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
	return REFERENCES_RECLAIM;
}

bool rmf_folio_evictable(const struct rmf_run *run, uint64_t folio)
{
	return !(run->pop.folio_flags[folio] & RMF_NOT_EVICTABLE);
}

/* The turn of one folio in shrink_folio_list(). */
struct turn {
	struct rmf_run *run;
	uint32_t folio;
	bool ignore_references;
	bool unmapped_in_swap; /* nothing mapped the folio when it got its swap slots */
	bool writes_out;
	bool split;
	struct rmf_visits split_visit;
};

static uint32_t *turn_flags(const struct turn *turn)
{
	return &turn->run->pop.folio_flags[turn->folio];
}

static uint32_t turn_pages(const struct turn *turn)
{
	return rmf_folio_nr_pages(&turn->run->pop, turn->folio);
}

/* Move what the visit deferred from the run into the visit. */
static void take_deferred(struct rmf_run *run, struct rmf_visits *visit)
{
	visit->deferred = run->flush_required;
	visit->writable = run->tlb_writable;
	visit->cpumask = run->tlb_cpumask;
	run->flush_required = run->tlb_writable = false;
	run->tlb_cpumask = 0;
}

/* Split the folio at hand. The turn goes on as that of its first page. False if it is refused. */
static bool split_in_turn(struct turn *turn)
{
	struct rmf_run *run = turn->run;
	const uint8_t order = run->pop.folio_order[turn->folio];

	if (!rmf_split_folio(run, turn->folio, true))
		return false;
	turn->split = true;
	turn->split_visit =
		(struct rmf_visits){ .nr = 1, .order = order, .outcome = RMF_OUTCOME_SPLIT };
	take_deferred(run, &turn->split_visit);
	rmf_count(run, RMF_PAGES_SCANNED, 1 - ((uint64_t)1 << order));
	return true;
}

/* Models folio_maybe_dma_pinned(), include/linux/mm.h, Linux v7.0. A single page has no count of
 * its pins: many references look like one. */
static bool maybe_pinned(const struct turn *turn)
{
	enum { GUP_PIN_COUNTING_BIAS = 1024 };

	return (*turn_flags(turn) & RMF_FOLIO_PINNED) ||
	       (turn_pages(turn) == 1 &&
		turn->run->pop.folio_refcount[turn->folio] >= GUP_PIN_COUNTING_BIAS);
}

/* Whether the policy splits a folio for which there is no run of swap slots. */
static bool splits_without_slots(const struct turn *turn)
{
	const uint64_t free_slots = rmf_swap_free_slots(turn->run);

	switch (turn->run->policy.swap_split) {
	case RMF_SWAP_SPLIT_ANY_SLOT:
		return free_slots > 0;
	case RMF_SWAP_SPLIT_ALL_SLOTS:
		return free_slots >= turn_pages(turn);
	case RMF_SWAP_SPLIT_ALWAYS:
		break;
	}
	return true;
}

/* What a step of the turn leads to. */
enum step { STEP_GO_ON, STEP_KEEP, STEP_ACTIVATE };

/* Put an anonymous folio into the swap cache. It is split if it is partially mapped, or if no run
 * of slots is free. Models shrink_folio_list(), mm/vmscan.c, Linux v7.0. */
static enum step add_to_swap(struct turn *turn)
{
	struct rmf_run *run = turn->run;
	struct rmf_population *pop = &run->pop;
	const uint32_t folio = turn->folio;

	if (maybe_pinned(turn))
		return STEP_KEEP;
	if (turn_pages(turn) > 1) {
		/* somebody else holds it, so that it could not be unmapped completely */
		if (pop->folio_refcount[folio] != 1 + pop->folio_mapcount[folio])
			return STEP_ACTIVATE;
		if ((*turn_flags(turn) & RMF_FOLIO_PARTIALLY_MAPPED) && !split_in_turn(turn))
			return STEP_ACTIVATE;
	}
	if (!rmf_swap_alloc(run, folio)) {
		if (turn_pages(turn) == 1 || !splits_without_slots(turn) || !split_in_turn(turn))
			return STEP_ACTIVATE;
		rmf_count(run, RMF_SWPOUT_FALLBACKS, 1);
		if (!rmf_swap_alloc(run, folio))
			return STEP_ACTIVATE;
	}
	turn->unmapped_in_swap = pop->folio_mapcount[folio] <= 0;
	*turn_flags(turn) |= RMF_FOLIO_SWAPCACHE | RMF_FOLIO_DIRTY;
	pop->folio_refcount[folio] += (int32_t)turn_pages(turn);
	return STEP_GO_ON;
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
	rmf_count(run, RMF_PAGES_CAME_BACK, nr);
	rmf_deferred_remove(run, folio);
	/* the slots of the page cache's xarray that become free: 2^(order mod 6), as counted on
	 * real kernels */
	if (!(flags & RMF_FOLIO_ANON)) {
		rmf_count(run, RMF_PAGE_CACHE_FOLIOS, 1);
		rmf_count(run, RMF_PAGE_CACHE_SLOTS, (uint64_t)1 << (pop->folio_order[folio] % 6));
	}
	return true;
}

/* Slots for a shmem folio, which is unmapped by now. It is split if no run of slots is free. Models
 * shmem_writeout(), mm/shmem.c, Linux v7.0. */
static bool swap_shmem(struct turn *turn)
{
	struct rmf_run *run = turn->run;

	if (!rmf_swap_configured(run))
		return false;
	if (rmf_swap_alloc(run, turn->folio))
		return true;
	if (turn_pages(turn) == 1 || !split_in_turn(turn))
		return false;
	rmf_count(run, RMF_SWPOUT_FALLBACKS, run->policy.shmem_fallback);
	return rmf_swap_alloc(run, turn->folio);
}

/* Write out a dirty folio; the loop flushes before. Models pageout(), mm/vmscan.c, and
 * swap_writeout(), mm/page_io.c, Linux v7.0. */
static enum step pageout(struct turn *turn)
{
	struct rmf_run *run = turn->run;
	struct rmf_population *pop = &run->pop;
	const uint32_t folio = turn->folio, nr = turn_pages(turn);

	turn->writes_out = true;
	if (pop->folio_refcount[folio] != 1 + (int32_t)nr)
		return STEP_KEEP;
	if (turn->unmapped_in_swap) {
		/* no entry refers to the slots: they are given back, and nothing is written */
		rmf_swap_give_back(run, pop->folio_swap[folio], nr);
		*turn_flags(turn) &= ~(uint32_t)RMF_FOLIO_SWAPCACHE;
		pop->folio_refcount[folio] -= (int32_t)nr;
		return STEP_KEEP;
	}
	if (!(*turn_flags(turn) & RMF_FOLIO_ANON) && !swap_shmem(turn))
		return STEP_ACTIVATE;
	*turn_flags(turn) &= ~(uint32_t)RMF_FOLIO_DIRTY;
	rmf_count(run, RMF_FOLIOS_WRITTEN, 1);
	if (!rmf_all_pages_have(pop, folio, RMF_PAGE_ZERO)) {
		rmf_count(run, RMF_PAGES_WRITTEN, turn_pages(turn));
		rmf_count(run, RMF_FOLIOS_SWAPPED_WHOLE, turn_pages(turn) > 1);
	}
	return STEP_GO_ON;
}

/* A single poisoned page: its entries become hwpoison entries, unless it can be dropped without
 * anybody missing it. Models unmap_poisoned_folio(), mm/memory-failure.c, Linux v7.0. */
static enum rmf_outcome drop_poisoned(const struct turn *turn)
{
	const uint32_t flags = *turn_flags(turn);
	const bool clean_file =
		!(flags & (RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED | RMF_FOLIO_DIRTY));
	uint32_t ttu = RMF_TTU_IGNORE_MLOCK | RMF_TTU_SYNC;

	if (!(flags & RMF_FOLIO_SWAPCACHE) && !clean_file)
		ttu |= RMF_TTU_HWPOISON;
	if (turn->run->pop.folio_mapcount[turn->folio] > 0)
		rmf_try_to_unmap(turn->run, turn->folio, ttu);
	return RMF_OUTCOME_DROPPED;
}

static enum rmf_outcome outcome_of(enum step step)
{
	return step == STEP_KEEP ? RMF_OUTCOME_KEEP : RMF_OUTCOME_ACTIVATE;
}

/* Models shrink_folio_list(), mm/vmscan.c, Linux v7.0, for one folio. */
static enum rmf_outcome shrink_folio(struct turn *turn)
{
	struct rmf_run *run = turn->run;
	uint32_t *flags = turn_flags(turn), folio = turn->folio;
	enum references references = REFERENCES_RECLAIM;
	enum step step = STEP_GO_ON;

	rmf_count(run, RMF_FOLIOS_SCANNED, 1);
	if (*flags & RMF_FOLIO_LOCKED)
		return RMF_OUTCOME_KEEP;
	if (rmf_any_page_has(&run->pop, folio, RMF_PAGE_HWPOISON))
		return turn_pages(turn) > 1 ? RMF_OUTCOME_KEEP : drop_poisoned(turn);
	rmf_count(run, RMF_PAGES_SCANNED, turn_pages(turn));
	if (!rmf_folio_evictable(run, folio))
		return RMF_OUTCOME_ACTIVATE;
	if (run->lru_gen && run->policy.mglru == RMF_MGLRU_V6_12 &&
	    (*flags & RMF_FOLIO_REFERENCED) && run->pop.folio_mapcount[folio] > 0)
		return RMF_OUTCOME_KEEP; /* the look-around of an earlier folio marked it */
	if (!turn->ignore_references)
		references = folio_check_references(run, folio);
	if (references == REFERENCES_ACTIVATE)
		return RMF_OUTCOME_ACTIVATE;
	if (references == REFERENCES_KEEP)
		return RMF_OUTCOME_KEEP;
	if ((*flags & (RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED | RMF_FOLIO_SWAPCACHE)) ==
	    (RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED))
		step = add_to_swap(turn);
	if (step != STEP_GO_ON)
		return outcome_of(step);
	if (!unmap_mappings(run, folio) || maybe_pinned(turn))
		return RMF_OUTCOME_ACTIVATE;
	if ((*flags & RMF_FOLIO_DIRTY) &&
	    (*flags & (RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED)) != RMF_FOLIO_ANON) {
		if (!(*flags & RMF_FOLIO_SWAPBACKED))
			return RMF_OUTCOME_ACTIVATE;
		step = pageout(turn);
		if (step != STEP_GO_ON)
			return outcome_of(step);
	}
	return remove_mapping(run, folio) ? RMF_OUTCOME_FREED : RMF_OUTCOME_KEEP;
}

/* Give back the isolation reference of a folio that was not freed. The folio is gone if that was
 * the last reference. */
static void putback(struct rmf_run *run, uint64_t folio, enum rmf_outcome outcome)
{
	const uint32_t nr = rmf_folio_nr_pages(&run->pop, folio);

	--run->pop.folio_refcount[folio];
	if (outcome == RMF_OUTCOME_DROPPED)
		return;
	if (run->pop.folio_refcount[folio] == 0 && run->pop.folio_mapcount[folio] == 0) {
		run->pop.folio_flags[folio] |= RMF_FOLIO_FREED;
		rmf_count(run, RMF_PAGES_CAME_BACK, nr);
		rmf_deferred_remove(run, folio);
	}
	if (outcome == RMF_OUTCOME_ACTIVATE) {
		run->pop.folio_flags[folio] |= RMF_FOLIO_ACTIVE;
		rmf_count(run, RMF_FOLIOS_ACTIVATED, 1);
		rmf_count(run, RMF_PAGES_ACTIVATED, nr);
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

/* Whether the folio is back on a list that is scanned. */
static bool is_listed(struct rmf_run *run, uint64_t folio, enum rmf_outcome outcome)
{
	const uint32_t flags = run->pop.folio_flags[folio];

	if (outcome == RMF_OUTCOME_DROPPED || !rmf_folio_evictable(run, folio) ||
	    (flags & RMF_FOLIO_FREED))
		return false;
	return run->lru_gen || !run->swap_ran_out || !(flags & RMF_FOLIO_SWAPBACKED);
}

/* The turn of a folio on which the isolation has a reference. */
static void take_turn(struct turn *turn, struct rmf_visits *visit)
{
	struct rmf_run *run = turn->run;
	enum rmf_outcome outcome = shrink_folio(turn);

	if (outcome != RMF_OUTCOME_FREED)
		putback(run, turn->folio, outcome);
	*visit = (struct rmf_visits){
		.nr = 1,
		.folio = turn->folio,
		.order = run->pop.folio_order[turn->folio],
		.outcome = (uint8_t)outcome,
		.listed = is_listed(run, turn->folio, outcome),
		.writes_out = turn->writes_out,
	};
}

/* The deferred flushes of the group at hand, which a visit leaves as they are. */
struct pending {
	bool required;
	bool writable;
	uint64_t cpumask;
};

static struct pending set_pending(struct rmf_run *run, struct pending next)
{
	struct pending last = { run->flush_required, run->tlb_writable, run->tlb_cpumask };

	run->flush_required = next.required;
	run->tlb_writable = next.writable;
	run->tlb_cpumask = next.cpumask;
	return last;
}

uint32_t rmf_visit_by_rules(struct rmf_run *run, enum rmf_visit_kind kind, uint32_t folio,
			    struct rmf_visits out[2])
{
	const struct pending group = set_pending(run, (struct pending){ 0 });
	struct turn turn = { .run = run,
			     .folio = folio,
			     .ignore_references = kind == RMF_VISIT_PAGEOUT };
	struct rmf_visits *visit = out;

	if (kind == RMF_VISIT_ACTIVE) {
		enum rmf_outcome outcome = shrink_active_folio(run, folio);

		*visit = (struct rmf_visits){ .nr = 1,
					      .order = run->pop.folio_order[folio],
					      .outcome = (uint8_t)outcome,
					      .listed = is_listed(run, folio, outcome) };
	} else {
		run->pop.folio_refcount[folio]++;
		take_turn(&turn, visit);
		if (turn.split) {
			out[1] = out[0];
			out[0] = turn.split_visit;
			visit = &out[1];
		}
	}
	visit->piece = turn.split;
	take_deferred(run, visit);
	set_pending(run, group);
	return turn.split ? 2 : 1;
}

void rmf_visit_piece(struct rmf_run *run, enum rmf_visit_kind kind, struct rmf_visits *visit)
{
	const struct pending group = set_pending(run, (struct pending){ 0 });
	struct turn turn = { .run = run,
			     .folio = run->turns.next,
			     .ignore_references = kind == RMF_VISIT_PAGEOUT };

	run->turns.left--;
	run->turns.next += run->turns.ascending ? 1 : UINT32_MAX;
	take_turn(&turn, visit);
	visit->piece = true;
	visit->falling = !run->turns.ascending;
	take_deferred(run, visit);
	set_pending(run, group);
}
