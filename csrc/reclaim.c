#include "reclaim.h"

#include "error.h"
#include "rmap.h"
#include "tlb.h"
#include "unmap.h"

enum fate { FATE_FREED, FATE_KEEP, FATE_ACTIVATE };

enum references { REFERENCES_RECLAIM, REFERENCES_RECLAIM_CLEAN, REFERENCES_KEEP, REFERENCES_ACTIVATE };

/* Models folio_check_references(), classic LRU. */
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

static bool is_evictable(const struct rmf_run *run, uint64_t folio)
{
	return !(run->pop.folio_flags[folio] & (RMF_FOLIO_UNEVICTABLE | RMF_FOLIO_MLOCKED));
}

/* Models folio_alloc_swap(): slots for all pages, or none. */
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

/* An anonymous folio goes to the swap cache, unless somebody else holds it: then it could not be unmapped to the end. */
static bool add_to_swap(struct rmf_run *run, uint64_t folio)
{
	struct rmf_population *pop = &run->pop;

	if (pop->folio_refcount[folio] != 1 + pop->folio_mapcount[folio] || !alloc_swap(run, folio))
		return false;
	pop->folio_flags[folio] |= RMF_FOLIO_SWAPCACHE | RMF_FOLIO_DIRTY;
	pop->folio_refcount[folio] += (int32_t)rmf_folio_nr_pages(pop, folio);
	return true;
}

/* False if the folio is still mapped. */
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

/* Models __remove_mapping() and the lazyfree branch: whether nobody else holds the folio. */
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
	pop->folio_flags[folio] &= ~(uint32_t)(RMF_FOLIO_SWAPCACHE | RMF_FOLIO_ACTIVE | RMF_FOLIO_REFERENCED);
	pop->folio_flags[folio] |= RMF_FOLIO_FREED;
	rmf_count(run, RMF_FOLIOS_FREED, 1);
	rmf_count(run, RMF_PAGES_FREED, nr);
	/* slots that the page cache's xarray gives up: 2^(order mod 6), counted from real kernels */
	if (!(flags & RMF_FOLIO_ANON))
		rmf_count(run, RMF_PAGE_CACHE_SLOTS, (uint64_t)1 << (pop->folio_order[folio] % 6));
	return true;
}

/* One folio of shrink_folio_list(). */
static enum fate shrink_folio(struct rmf_run *run, uint64_t folio, bool ignore_references)
{
	struct rmf_population *pop = &run->pop;
	uint32_t *flags = &pop->folio_flags[folio], nr = rmf_folio_nr_pages(pop, folio);
	enum references references = REFERENCES_RECLAIM;

	rmf_count(run, RMF_FOLIOS_SCANNED, 1);
	rmf_count(run, RMF_PAGES_SCANNED, nr);
	if (*flags & RMF_FOLIO_LOCKED)
		return FATE_KEEP;
	if (nr > 1 && (*flags & RMF_FOLIO_PAGE_FLAGS) && (pop->page_flags[pop->folio_page_base[folio]] & RMF_PAGE_HWPOISON))
		return FATE_KEEP;
	if (!is_evictable(run, folio))
		return FATE_ACTIVATE;
	if (!ignore_references)
		references = folio_check_references(run, folio);
	if (references == REFERENCES_ACTIVATE)
		return FATE_ACTIVATE;
	if (references == REFERENCES_KEEP)
		return FATE_KEEP;
	if ((*flags & (RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED | RMF_FOLIO_SWAPCACHE)) == (RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED) &&
	    !add_to_swap(run, folio))
		return FATE_ACTIVATE;
	if (!unmap_mappings(run, folio) || (*flags & RMF_FOLIO_PINNED))
		return FATE_ACTIVATE;
	if ((*flags & RMF_FOLIO_DIRTY) && (*flags & (RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED)) != RMF_FOLIO_ANON) {
		if (!(*flags & RMF_FOLIO_SWAPBACKED))
			return FATE_ACTIVATE;
		if (references == REFERENCES_RECLAIM_CLEAN)
			return FATE_KEEP;
		if (!(*flags & RMF_FOLIO_ANON) && !alloc_swap(run, folio)) /* shmem goes to swap too */
			return FATE_ACTIVATE;
		rmf_try_to_unmap_flush_dirty(run);
		*flags &= ~(uint32_t)RMF_FOLIO_DIRTY;
		rmf_count(run, RMF_FOLIOS_WRITTEN, 1);
	}
	return remove_mapping(run, folio) ? FATE_FREED : FATE_KEEP;
}

/* Folios freed and not yet given back to the allocator: a full batch flushes first. */
static void free_batch_add(struct rmf_run *run, uint32_t *batch)
{
	if (++*batch < RMF_PAGEVEC_SIZE)
		return;
	rmf_try_to_unmap_flush(run);
	*batch = 0;
}

/* A folio that was not freed loses the isolation reference; it is gone if that was the last one. */
static void putback(struct rmf_run *run, uint64_t folio, enum fate fate)
{
	if (--run->pop.folio_refcount[folio] == 0 && run->pop.folio_mapcount[folio] == 0)
		run->pop.folio_flags[folio] |= RMF_FOLIO_FREED;
	if (fate == FATE_ACTIVATE) {
		run->pop.folio_flags[folio] |= RMF_FOLIO_ACTIVE;
		rmf_count(run, RMF_FOLIOS_ACTIVATED, 1);
	} else {
		rmf_count(run, RMF_FOLIOS_KEPT, 1);
	}
}

static uint32_t lru_pop(struct rmf_lru_list *list)
{
	uint32_t folio = list->folios[list->head];

	list->head = list->head + 1 == list->capacity ? 0 : list->head + 1;
	list->n--;
	return folio;
}

/* Models lru_add(): what became mlocked on the way goes to the unevictable list, which nobody scans; what is freed goes nowhere. */
static void lru_push(const struct rmf_run *run, struct rmf_lru_list *list, uint32_t folio)
{
	uint64_t end = list->head + list->n;

	if (!is_evictable(run, folio) || (run->pop.folio_flags[folio] & RMF_FOLIO_FREED))
		return;
	list->folios[end < list->capacity ? end : end - list->capacity] = folio;
	list->n++;
}

/* Models isolate_lru_folios(): base pages are counted after a folio was taken. */
static uint32_t isolate(struct rmf_run *run, struct rmf_lru_list *list, uint32_t group[RMF_SWAP_CLUSTER_MAX])
{
	uint32_t nr = 0;

	for (uint64_t pages = 0; pages < RMF_SWAP_CLUSTER_MAX && list->n; nr++) {
		group[nr] = lru_pop(list);
		run->pop.folio_refcount[group[nr]]++;
		pages += rmf_folio_nr_pages(&run->pop, group[nr]);
	}
	return nr;
}

/* Models how memory.reclaim asks in rounds of a quarter of what is missing, and each round scans list size >> priority
 * in one pass after the other, memory_reclaim() and do_try_to_free_pages(), Linux v7.0.
 * Deviation: the passes are counted only; they cut no isolation short. */
static void count_passes(struct rmf_reclaim *reclaim)
{
	if (reclaim->request_left && reclaim->pass_left)
		return;
	if (!reclaim->request_left || !reclaim->priority) {
		uint64_t quarter = (reclaim->target - reclaim->freed) / 4;

		rmf_count(reclaim->run, RMF_RECLAIM_ROUNDS, 1);
		reclaim->request_left = quarter > RMF_SWAP_CLUSTER_MAX ? quarter : RMF_SWAP_CLUSTER_MAX;
		reclaim->priority = RMF_DEF_PRIORITY + 1;
	}
	do {
		rmf_count(reclaim->run, RMF_PRIORITY_PASSES, 1);
		reclaim->pass_left = reclaim->lru_pages >> --reclaim->priority;
	} while (!reclaim->pass_left && reclaim->priority);
}

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/* Models shrink_inactive_list(): one isolation and its shrink_folio_list(). */
static void shrink_inactive(struct rmf_reclaim *reclaim)
{
	struct rmf_run *run = reclaim->run;
	uint64_t freed_before = run->ev[RMF_PAGES_FREED];
	uint32_t group[RMF_SWAP_CLUSTER_MAX], batch = 0;
	enum fate fates[RMF_SWAP_CLUSTER_MAX];
	uint64_t freed;
	uint32_t nr;

	count_passes(reclaim);
	nr = isolate(run, &reclaim->inactive, group);
	rmf_count(run, RMF_ISOLATION_CALLS, 1);
	rmf_count(run, RMF_SHRINK_CALLS, 1);
	for (uint32_t i = 0; i < nr; i++) {
		fates[i] = shrink_folio(run, group[i], false);
		if (fates[i] == FATE_FREED)
			free_batch_add(run, &batch);
	}
	rmf_try_to_unmap_flush(run);
	for (uint32_t i = 0; i < nr; i++) {
		if (fates[i] == FATE_FREED)
			continue;
		putback(run, group[i], fates[i]);
		lru_push(run, fates[i] == FATE_ACTIVATE ? &reclaim->active : &reclaim->inactive, group[i]);
	}
	freed = run->ev[RMF_PAGES_FREED] - freed_before;
	reclaim->round_left = less(reclaim->round_left, nr);
	reclaim->freed += freed;
	reclaim->round_freed += freed;
	reclaim->lru_pages = less(reclaim->lru_pages, freed);
	reclaim->request_left = less(reclaim->request_left, freed);
	reclaim->pass_left = less(reclaim->pass_left, RMF_SWAP_CLUSTER_MAX);
}

/* Models shrink_active_list(): only referenced executable file folios stay. */
static void shrink_active(struct rmf_reclaim *reclaim)
{
	struct rmf_run *run = reclaim->run;
	uint32_t group[RMF_SWAP_CLUSTER_MAX], nr = isolate(run, &reclaim->active, group);

	rmf_count(run, RMF_ACTIVE_PASSES, 1);
	for (uint32_t i = 0; i < nr; i++) {
		uint32_t *flags = &run->pop.folio_flags[group[i]], vm_flags;
		int64_t referenced = rmf_folio_referenced(run, group[i], &vm_flags);

		run->pop.folio_refcount[group[i]]--;
		if (referenced && (vm_flags & RMF_VMA_EXEC) && !(*flags & RMF_FOLIO_SWAPBACKED)) {
			lru_push(run, &reclaim->active, group[i]);
			continue;
		}
		*flags &= ~(uint32_t)RMF_FOLIO_ACTIVE;
		lru_push(run, &reclaim->inactive, group[i]);
		rmf_count(run, RMF_FOLIOS_DEACTIVATED, 1);
	}
}

static int check_list(const struct rmf_reclaim *reclaim, const struct rmf_lru_list *list, const char *name, struct rmf_fault *fault)
{
	uint64_t nr_folios = reclaim->run->pop.nr_folios;

	if (reclaim->inactive.n > list->capacity || reclaim->active.n > list->capacity - reclaim->inactive.n ||
	    list->capacity > nr_folios) {
		*fault = (struct rmf_fault){ name, "more entries than there are folios", list->n };
		return RMF_ELRU;
	}
	for (uint64_t i = 0; i < list->n; i++) {
		if (list->folios[i] >= nr_folios) {
			*fault = (struct rmf_fault){ name, "no such folio", i };
			return RMF_ELRU;
		}
		if (reclaim->run->pop.folio_flags[list->folios[i]] & RMF_FOLIO_LISTED) {
			*fault = (struct rmf_fault){ name, "the folio is on the lists already", i };
			return RMF_ELRU;
		}
		reclaim->run->pop.folio_flags[list->folios[i]] |= RMF_FOLIO_LISTED;
	}
	return 0;
}

static void clear_listed(const struct rmf_reclaim *reclaim)
{
	for (uint64_t folio = 0; folio < reclaim->run->pop.nr_folios; folio++)
		reclaim->run->pop.folio_flags[folio] &= ~(uint32_t)RMF_FOLIO_LISTED;
}

/* Keep what the kernel would scan: freed and unevictable folios are on no list, and without swap nobody looks at the swapbacked ones. */
static void drop_unscanned(const struct rmf_run *run, struct rmf_lru_list *list)
{
	bool no_swap = run->swap_end == run->swap_next;
	uint64_t n = 0;

	for (uint64_t i = 0; i < list->n; i++) {
		uint32_t flags = run->pop.folio_flags[list->folios[i]];

		if ((flags & RMF_FOLIO_FREED) || !is_evictable(run, list->folios[i]) || (no_swap && (flags & RMF_FOLIO_SWAPBACKED)))
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

int rmf_reclaim_start(struct rmf_reclaim *reclaim, struct rmf_fault *fault)
{
	int error = check_list(reclaim, &reclaim->inactive, "lru_inactive", fault);

	if (!error)
		error = check_list(reclaim, &reclaim->active, "lru_active", fault);
	clear_listed(reclaim);
	if (error)
		return error;
	drop_unscanned(reclaim->run, &reclaim->inactive);
	drop_unscanned(reclaim->run, &reclaim->active);
	reclaim->round_left = reclaim->inactive.n + reclaim->active.n;
	reclaim->lru_pages = list_pages(reclaim->run, &reclaim->inactive) + list_pages(reclaim->run, &reclaim->active);
	return 0;
}

/* A round looks at as many folios as were on the lists when it began. Returns whether there is any use in going on. */
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

/* What a run costs the simulation, whoever maps the folios and however often they are looked at. */
static uint64_t work_done(const struct rmf_run *run)
{
	return run->ev[RMF_PAGES_SCANNED] + run->ev[RMF_WALK_CALLS] + run->ev[RMF_RAW_PTE_LOADS] + run->ev[RMF_ACTIVE_PASSES];
}

static uint64_t end_of_budget(const struct rmf_run *run, uint64_t budget)
{
	uint64_t done = work_done(run);

	return budget < UINT64_MAX - done ? done + budget : UINT64_MAX;
}

bool rmf_reclaim_step(struct rmf_reclaim *reclaim, uint64_t budget)
{
	uint64_t end = end_of_budget(reclaim->run, budget);

	while (reclaim->freed < reclaim->target && reclaim->inactive.n + reclaim->active.n) {
		if (!next_round(reclaim))
			return false;
		if (work_done(reclaim->run) >= end)
			return true;
		if (reclaim->inactive.n)
			shrink_inactive(reclaim);
		else
			shrink_active(reclaim);
	}
	return false;
}

uint64_t rmf_shrink_groups(struct rmf_run *run, const uint32_t *folios, const uint64_t *group_start, uint64_t first, uint64_t nr_groups,
			   uint64_t budget)
{
	uint64_t end = end_of_budget(run, budget), group;

	for (group = first; group < nr_groups && work_done(run) < end; group++) {
		uint32_t batch = 0;

		rmf_count(run, RMF_SHRINK_CALLS, 1);
		for (uint64_t i = group_start[group]; i < group_start[group + 1]; i++) {
			enum fate fate;

			run->pop.folio_refcount[folios[i]]++;
			fate = shrink_folio(run, folios[i], true);
			if (fate == FATE_FREED)
				free_batch_add(run, &batch);
			else
				putback(run, folios[i], fate);
		}
		rmf_try_to_unmap_flush(run);
	}
	return group;
}
