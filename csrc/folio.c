#include "folio.h"

#include <string.h>

#include "deferred.h"

void rmf_pages_open(struct rmf_pages *pages, struct rmf_run *run, uint64_t folio)
{
	const struct rmf_population *pop = &run->pop;
	uint32_t flags = pop->folio_flags[folio], nr = rmf_folio_nr_pages(pop, folio);
	uint64_t base = rmf_folio_page_base(pop, folio);

	*pages = (struct rmf_pages){
		.run = run,
		.folio = folio,
		.nr = nr,
		.mapcounts_expanded = flags & RMF_FOLIO_PAGE_MAPCOUNTS,
		.flags_expanded = flags & RMF_FOLIO_PAGE_FLAGS,
		.mapcount = (pop->folio_mapcount[folio] - pop->folio_entire_mapcount[folio]) /
			    (int32_t)nr,
	};
	if (pages->mapcounts_expanded)
		memcpy(run->page_mapcount, pop->page_mapcount + base,
		       nr * sizeof(*run->page_mapcount));
	if (pages->flags_expanded)
		memcpy(run->page_flags, pop->page_flags + base, nr);
}

/* Give every page a mapcount of its own. */
static void expand_mapcounts(struct rmf_pages *pages)
{
	if (pages->mapcounts_expanded)
		return;
	for (uint32_t i = 0; i < pages->nr; i++)
		pages->run->page_mapcount[i] = pages->mapcount;
	pages->mapcounts_expanded = true;
}

/* Give every page flags of its own. */
static void expand_flags(struct rmf_pages *pages)
{
	bool exclusive = pages->run->pop.folio_flags[pages->folio] & RMF_FOLIO_EXCLUSIVE;

	if (pages->flags_expanded)
		return;
	memset(pages->run->page_flags, exclusive ? RMF_PAGE_EXCLUSIVE : 0, pages->nr);
	pages->flags_expanded = true;
}

/* Store the mapcounts of the pages, or one for all if they are equal. */
static void settle_mapcounts(struct rmf_pages *pages)
{
	struct rmf_population *pop = &pages->run->pop;
	const int32_t *mapcount = pages->run->page_mapcount;
	int64_t sum = (int64_t)pop->folio_mapcount[pages->folio] -
		      pop->folio_entire_mapcount[pages->folio];
	bool uniform = mapcount[0] * (int64_t)pages->nr == sum;

	for (uint32_t i = 1; uniform && i < pages->nr; i++)
		uniform = mapcount[i] == mapcount[0];
	if (uniform) {
		pop->folio_flags[pages->folio] &= ~(uint32_t)RMF_FOLIO_PAGE_MAPCOUNTS;
		return;
	}
	pop->folio_flags[pages->folio] |= RMF_FOLIO_PAGE_MAPCOUNTS;
	memcpy(pop->page_mapcount + rmf_folio_page_base(pop, pages->folio), mapcount,
	       pages->nr * sizeof(*mapcount));
}

/* Store the flags of the pages, or one for all if they are equal. */
static void settle_flags(struct rmf_pages *pages)
{
	struct rmf_population *pop = &pages->run->pop;
	const uint8_t *flags = pages->run->page_flags;
	uint32_t *folio_flags = &pop->folio_flags[pages->folio];
	bool uniform = flags[0] == 0 || flags[0] == RMF_PAGE_EXCLUSIVE;

	for (uint32_t i = 1; uniform && i < pages->nr; i++)
		uniform = flags[i] == flags[0];
	*folio_flags &= ~(uint32_t)(RMF_FOLIO_PAGE_FLAGS | RMF_FOLIO_EXCLUSIVE);
	if (uniform) {
		*folio_flags |= flags[0] ? RMF_FOLIO_EXCLUSIVE : 0;
		return;
	}
	*folio_flags |= RMF_FOLIO_PAGE_FLAGS;
	memcpy(pop->page_flags + rmf_folio_page_base(pop, pages->folio), flags, pages->nr);
}

void rmf_pages_close(struct rmf_pages *pages)
{
	if (pages->mapcounts_expanded)
		settle_mapcounts(pages);
	if (pages->flags_expanded)
		settle_flags(pages);
}

uint8_t rmf_pages_flags(const struct rmf_pages *pages, uint64_t page)
{
	if (page >= pages->nr)
		return 0;
	if (pages->flags_expanded)
		return pages->run->page_flags[page];
	return pages->run->pop.folio_flags[pages->folio] & RMF_FOLIO_EXCLUSIVE ? RMF_PAGE_EXCLUSIVE
									       : 0;
}

void rmf_pages_clear_flag(struct rmf_pages *pages, uint64_t page, uint8_t flag)
{
	if (!(rmf_pages_flags(pages, page) & flag))
		return;
	expand_flags(pages);
	pages->run->page_flags[page] &= (uint8_t)~flag;
}

uint64_t rmf_anon_exclusive_batch(const struct rmf_pages *pages, uint64_t page, uint64_t nr)
{
	uint8_t exclusive = rmf_pages_flags(pages, page) & RMF_PAGE_EXCLUSIVE;
	uint64_t i = 1;

	if (!pages->flags_expanded && page + nr <= pages->nr)
		return nr;
	while (i < nr && (rmf_pages_flags(pages, page + i) & RMF_PAGE_EXCLUSIVE) == exclusive)
		i++;
	return i;
}

/* Models what a stale nr does to the pages behind the folio. Their mapcounts start at 0. */
static void decrement_beyond(struct rmf_pages *pages, uint64_t page)
{
	struct rmf_run *run = pages->run;

	if (pages->nr_beyond < pages->nr)
		pages->nr_beyond = pages->nr;
	while (pages->nr_beyond <= page)
		run->page_mapcount[pages->nr_beyond++] = 0;
	run->page_mapcount[page]--;
	rmf_trace_add(run, RMF_TRACE_BEYOND, page, run->page_mapcount[page]);
}

/* Decrement the mapcounts of nr pages. Returns how many of them lost their last mapping. */
static uint32_t remove_page_mappings(struct rmf_pages *pages, uint64_t page, uint64_t nr)
{
	const uint64_t end = page + nr, inside = end < pages->nr ? end : pages->nr;
	uint32_t unmapped = 0;
	int32_t *mapcount;

	if (page == 0 && nr == pages->nr && !pages->mapcounts_expanded) {
		pages->mapcount--;
		return pages->mapcount <= 0 ? pages->nr : 0;
	}
	expand_mapcounts(pages);
	mapcount = pages->run->page_mapcount;
	for (uint64_t i = page; i < inside; i++)
		unmapped += --mapcount[i] <= 0;
	for (uint64_t i = page < inside ? inside : page; i < end; i++) {
		decrement_beyond(pages, i);
		unmapped += mapcount[i] <= 0;
	}
	return unmapped;
}

void rmf_munlock_vma_folio(struct rmf_run *run, uint64_t folio, uint32_t vma)
{
	if (!(run->pop.vma_flags[vma] & RMF_VMA_LOCKED))
		return;
	rmf_count(run, RMF_MUNLOCK_CALLS, 1);
	run->pop.folio_flags[folio] &= ~(uint32_t)RMF_FOLIO_MLOCKED;
}

void rmf_mlock_vma_folio(struct rmf_run *run, uint64_t folio)
{
	rmf_count(run, RMF_MLOCK_CALLS, 1);
	run->pop.folio_flags[folio] |= RMF_FOLIO_MLOCKED;
}

/* Models deferred_split_folio(), mm/huge_memory.c, Linux v7.0. A folio of two pages has no room for
 * the list, and one in the swap cache is never queued. */
static void queue_deferred_split(struct rmf_pages *pages)
{
	struct rmf_run *run = pages->run;
	const uint64_t folio = pages->folio;
	uint32_t *flags = &run->pop.folio_flags[folio];

	if (!(*flags & RMF_FOLIO_ANON) || (*flags & RMF_FOLIO_PARTIALLY_MAPPED))
		return;
	rmf_count(run, RMF_DEFERRED_SPLIT_CALLS, !pages->split_asked);
	pages->split_asked = true;
	if ((*flags & RMF_FOLIO_SWAPCACHE) || run->pop.folio_order[folio] < 2)
		return;
	*flags |= RMF_FOLIO_PARTIALLY_MAPPED;
	rmf_count(run, RMF_DEFERRED_SPLITS, 1);
	rmf_deferred_add(run, folio);
}

/* Account for a removal after which nr pages of the folio are no longer mapped. Without per-page
 * mapcounts the kernel cannot tell these pages. A folio then counts as mapped whole until its
 * mapcount is 0, and as partially mapped while the mapcount is below its number of pages
 * (docs/kernel-rules.md, section 2.4). An order-0 folio's mapcount is that of its page. */
static void account_removal(struct rmf_pages *pages, int32_t nr)
{
	struct rmf_run *run = pages->run;
	struct rmf_population *pop = &run->pop;
	const int32_t mapcount = pop->folio_mapcount[pages->folio];
	bool partial;

	if (pages->nr == 1) {
		run->mapped_stat -= nr;
		return;
	}
	pop->folio_nr_pages_mapped[pages->folio] -= nr;
	if (run->arch.page_mapcount) {
		run->mapped_stat -= nr;
		partial = nr > 0 && pop->folio_nr_pages_mapped[pages->folio] != 0;
	} else {
		run->mapped_stat -= mapcount == 0 ? pages->nr : 0;
		partial = mapcount > 0 && mapcount < (int32_t)pages->nr &&
			  pop->folio_entire_mapcount[pages->folio] <= 0;
	}
	if (partial)
		queue_deferred_split(pages);
}

void rmf_folio_remove_rmap_ptes(struct rmf_pages *pages, uint64_t page, uint64_t nr)
{
	struct rmf_run *run = pages->run;
	uint32_t unmapped = remove_page_mappings(pages, page, nr);
	bool pmd_mapped = run->pop.folio_entire_mapcount[pages->folio] > 0;

	rmf_count(run, RMF_RMAP_REMOVE_CALLS, 1);
	rmf_count(run, RMF_WARNS, page + nr > pages->nr);
	run->pop.folio_mapcount[pages->folio] -= (int32_t)nr;
	account_removal(pages, pmd_mapped ? 0 : (int32_t)unmapped);
	if (pages->nr == 1) {
		rmf_count(run, RMF_PAGE_MAPCOUNT_ATOMICS, 1);
	} else {
		rmf_count(run, RMF_FOLIO_MAPCOUNT_ATOMICS, 1);
		if (run->arch.page_mapcount) {
			rmf_count(run, RMF_PAGE_MAPCOUNT_ATOMICS, nr);
			rmf_count(run, RMF_FOLIO_MAPCOUNT_ATOMICS, unmapped > 0);
		}
	}
}

/* The folio lost a PMD mapping. While it has another one all its pages are mapped. */
static void account_pmd_removal(struct rmf_pages *pages)
{
	struct rmf_population *pop = &pages->run->pop;
	int32_t mapped = 0;

	if (--pop->folio_entire_mapcount[pages->folio] > 0) {
		mapped = (int32_t)pages->nr;
	} else {
		for (uint32_t i = 0; i < pages->nr; i++)
			mapped += (pages->mapcounts_expanded ? pages->run->page_mapcount[i]
							     : pages->mapcount) > 0;
	}
	account_removal(pages, pop->folio_nr_pages_mapped[pages->folio] - mapped);
}

void rmf_folio_remove_rmap_pmd(struct rmf_pages *pages)
{
	struct rmf_run *run = pages->run;

	rmf_count(run, RMF_RMAP_REMOVE_CALLS, 1);
	rmf_count(run, RMF_FOLIO_MAPCOUNT_ATOMICS, 1);
	run->pop.folio_mapcount[pages->folio]--;
	account_pmd_removal(pages);
}

void rmf_folio_split_rmap_pmd(struct rmf_pages *pages, uint64_t page, uint64_t nr)
{
	struct rmf_run *run = pages->run;

	run->pop.folio_mapcount[pages->folio] += (int32_t)nr - 1;
	if (nr == pages->nr && !pages->mapcounts_expanded) {
		pages->mapcount++;
	} else {
		expand_mapcounts(pages);
		for (uint64_t i = page; i < page + nr; i++)
			run->page_mapcount[i]++;
	}
	account_pmd_removal(pages);
}
