#include "deferred.h"

#include <stdlib.h>

#include "split.h"
#include "tlb.h"

enum { SHRINK_BATCH = 128 }; /* folios of one scan */

void rmf_deferred_free(struct rmf_run *run)
{
	free(run->deferred.folios);
	free(run->deferred.queued);
	run->deferred = (struct rmf_deferred){ 0 };
}

int rmf_deferred_set(struct rmf_run *run, const uint32_t *folios, uint64_t nr,
		     uint32_t max_ptes_none, struct rmf_fault *fault)
{
	const uint32_t flagged = RMF_FOLIO_ANON | RMF_FOLIO_PARTIALLY_MAPPED,
		       may = flagged | RMF_FOLIO_FREED;
	const uint64_t capacity = run->pop.nr_folios;
	struct rmf_deferred *queue = &run->deferred;
	uint64_t *listed = folios ? rmf_folio_bits(&run->pop) : NULL;
	int error = 0;

	if (folios) {
		if (!listed)
			return RMF_ENOMEM;
		error = rmf_folios_check(&run->pop, folios, nr, "deferred", listed, fault);
		free(listed);
	}
	if (error)
		return error;
	rmf_deferred_free(run);
	queue->folios = malloc((capacity + 1) * sizeof(*queue->folios));
	queue->queued = calloc(capacity + 1, 1);
	if (!queue->folios || !queue->queued) {
		rmf_deferred_free(run);
		return RMF_ENOMEM;
	}
	queue->capacity = capacity;
	queue->max_ptes_none = max_ptes_none;
	for (uint64_t i = 0; folios && i < nr; i++)
		rmf_deferred_add(run, folios[i]);
	for (uint64_t i = 0; !folios && i < capacity; i++)
		if (run->pop.folio_order[i] && (run->pop.folio_flags[i] & may) == flagged)
			rmf_deferred_add(run, i);
	return 0;
}

void rmf_deferred_add(struct rmf_run *run, uint64_t folio)
{
	struct rmf_deferred *queue = &run->deferred;
	uint64_t at;

	if (!queue->folios || folio >= queue->capacity || queue->queued[folio])
		return;
	at = queue->head + queue->nr_entries++;
	queue->folios[at < queue->capacity ? at : at - queue->capacity] = (uint32_t)folio;
	queue->queued[folio] = 1;
	queue->n++;
}

void rmf_deferred_remove(struct rmf_run *run, uint64_t folio)
{
	struct rmf_deferred *queue = &run->deferred;

	if (!queue->folios || folio >= queue->capacity || !queue->queued[folio])
		return;
	queue->queued[folio] = 0;
	queue->n--;
}

void rmf_deferred_list(const struct rmf_run *run, uint32_t *out)
{
	const struct rmf_deferred *queue = &run->deferred;

	for (uint64_t i = 0; i < queue->nr_entries; i++) {
		uint64_t at = queue->head + i;
		uint32_t folio = queue->folios[at < queue->capacity ? at : at - queue->capacity];

		if (queue->queued[folio])
			*out++ = folio;
	}
}

/* Take the first folio off the queue, which is not empty. */
static uint32_t pop_first(struct rmf_run *run)
{
	struct rmf_deferred *queue = &run->deferred;
	uint32_t folio;

	do {
		folio = queue->folios[queue->head++];
		if (queue->head == queue->capacity)
			queue->head = 0;
		queue->nr_entries--;
	} while (!queue->queued[folio]);
	rmf_deferred_remove(run, folio);
	return folio;
}

/* Models thp_underused(), mm/huge_memory.c, Linux v7.0. */
static bool underused(const struct rmf_run *run, uint32_t folio)
{
	const struct rmf_population *pop = &run->pop;
	const uint8_t *flags = pop->page_flags + pop->folio_page_base[folio];
	const uint32_t nr = rmf_folio_nr_pages(pop, folio);
	uint32_t zero = 0;

	if (!(pop->folio_flags[folio] & RMF_FOLIO_PAGE_FLAGS))
		return false;
	for (uint32_t i = 0; i < nr; i++) {
		if (flags[i] & RMF_PAGE_HWPOISON)
			return false;
		zero += (flags[i] & RMF_PAGE_ZERO) != 0;
	}
	return zero > run->deferred.max_ptes_none;
}

/* One folio of deferred_split_scan(). Returns whether it was split. */
static bool scan_folio(struct rmf_run *run)
{
	struct rmf_population *pop = &run->pop;
	const uint32_t folio = pop_first(run), flags = pop->folio_flags[folio];
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
