#include "shrinker.h"

#include "deferred.h"
#include "folio.h"
#include "split.h"

enum { SHRINK_BATCH = 128 }; /* folios of one scan */

/* Models thp_underused(), mm/huge_memory.c, Linux v7.0. */
static bool underused(const struct rmf_run *run, uint32_t folio)
{
	const struct rmf_population *pop = &run->pop;
	const uint8_t *flags = pop->page_flags + rmf_folio_page_base(pop, folio);
	const uint32_t nr = rmf_folio_nr_pages(pop, folio);
	uint32_t zero = 0;

	if (!rmf_looks_for_underused(run) || !(pop->folio_flags[folio] & RMF_FOLIO_PAGE_FLAGS))
		return false;
	for (uint32_t i = 0; i < nr; i++) {
		if (flags[i] & RMF_PAGE_HWPOISON)
			return false;
		zero += (flags[i] & RMF_PAGE_ZERO) != 0;
	}
	return zero > run->max_ptes_none;
}

/* One folio of deferred_split_scan(). Returns whether it was split. */
static bool scan_folio(struct rmf_run *run)
{
	struct rmf_population *pop = &run->pop;
	const uint32_t folio = rmf_deferred_pop(run), flags = pop->folio_flags[folio];
	const bool flagged = flags & RMF_FOLIO_PARTIALLY_MAPPED;

	rmf_count(run, RMF_DEFERRED_SCANS, 1);
	if ((flags & RMF_FOLIO_FREED) || !pop->folio_order[folio])
		return false;
	if (!flagged && ((flags & RMF_FOLIO_MLOCKED) || !underused(run, folio)))
		return false;
	if (flags & RMF_FOLIO_LOCKED) {
		rmf_deferred_add(run, folio);
		return false;
	}
	if (rmf_split_folio_now(run, folio))
		return true;
	if (flagged)
		rmf_deferred_add(run, folio);
	return false;
}

uint64_t rmf_shrink_deferred(struct rmf_run *run, uint32_t priority)
{
	struct rmf_deferred *queue = &run->deferred;
	const uint64_t n = queue->n, delta = 2 * (n >> priority);
	uint64_t total = (queue->carry >> priority) + delta, scanned = 0, split = 0, rest;

	if (!n)
		return 0;
	if (total > 2 * n)
		total = 2 * n;
	while (total >= SHRINK_BATCH || total >= n) {
		uint64_t nr = total < SHRINK_BATCH ? total : SHRINK_BATCH, left = queue->n;

		total -= nr;
		scanned += nr;
		for (; nr && left; nr--, left--)
			split += scan_folio(run);
		if (run->error)
			break;
	}
	rest = queue->carry + delta;
	rest = rest > scanned ? rest - scanned : 0;
	queue->carry = rest < 2 * n ? rest : 2 * n;
	return split;
}
