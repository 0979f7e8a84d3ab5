#include "deferred.h"

#include <stdlib.h>

void rmf_deferred_free(struct rmf_run *run)
{
	free(run->deferred.folios);
	free(run->deferred.queued);
	run->deferred = (struct rmf_deferred){ 0 };
}

/* Whether the folio is on the queue when a run begins. */
static bool queued_before(const struct rmf_run *run, uint64_t folio)
{
	const uint32_t flags = run->pop.folio_flags[folio];

	if (!(flags & RMF_FOLIO_ANON) || (flags & RMF_FOLIO_FREED))
		return false;
	return (flags & RMF_FOLIO_PARTIALLY_MAPPED) ||
	       (rmf_looks_for_underused(run) &&
		rmf_folio_nr_pages(&run->pop, folio) == run->pop.ptrs_per_pte);
}

int rmf_deferred_set(struct rmf_run *run)
{
	const uint64_t capacity = run->pop.nr_folios;
	struct rmf_deferred *queue = &run->deferred;

	rmf_deferred_free(run);
	queue->folios = malloc((capacity + 1) * sizeof(*queue->folios));
	queue->queued = calloc(capacity + 1, 1);
	if (!queue->folios || !queue->queued) {
		rmf_deferred_free(run);
		return RMF_ENOMEM;
	}
	queue->capacity = capacity;
	for (uint64_t i = rmf_next_large_folio(&run->pop, 0); i < capacity;
	     i = rmf_next_large_folio(&run->pop, i + 1))
		if (queued_before(run, i))
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

uint32_t rmf_deferred_pop(struct rmf_run *run)
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
