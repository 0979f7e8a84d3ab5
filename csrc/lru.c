#include "lru.h"

#include <stdlib.h>

uint64_t rmf_lru_pages(const struct rmf_run *run, const struct rmf_lru_list *list)
{
	uint64_t pages = 0;

	for (uint64_t i = 0; i < list->n; i++)
		pages += rmf_folio_nr_pages(&run->pop, rmf_lru_at(list, i));
	return pages;
}

uint64_t rmf_place(struct rmf_run *run, uint32_t folio, uint32_t *out)
{
	const uint32_t *flags = run->pop.folio_flags;
	struct rmf_pieces *pieces;
	uint64_t n = 0;

	if (!(flags[folio] & RMF_FOLIO_FREED))
		out[n++] = folio;
	if (!run->pieces || folio >= run->nr_given)
		return n;
	pieces = &run->pieces[folio];
	for (uint32_t i = 0; pieces->unplaced && i < pieces->nr; i++) {
		uint32_t piece =
			pieces->first + (run->policy.split_ascending ? i : pieces->nr - 1 - i);

		if (!(flags[piece] & RMF_FOLIO_FREED))
			out[n++] = piece;
	}
	pieces->unplaced = 0;
	return n;
}

void rmf_lru_place_pieces(struct rmf_run *run, struct rmf_lru_list *list)
{
	const uint64_t n = list->n;
	uint32_t *folios = malloc((n + 1) * sizeof(*folios));

	if (!folios) {
		run->error = RMF_RUN_NO_MEMORY;
		return;
	}
	for (uint64_t i = 0; i < n; i++)
		folios[i] = rmf_lru_at(list, i);
	list->head = list->n = 0;
	for (uint64_t i = 0; i < n; i++)
		list->n += rmf_place(run, folios[i], list->folios + list->n);
	list->tail = rmf_lru_index(list, list->n);
	list->pages = rmf_lru_pages(run, list);
	free(folios);
}

uint32_t rmf_visited_folio(const struct rmf_visits *visits, const uint32_t *folios, uint64_t i)
{
	if (!visits->piece)
		return folios[i];
	return visits->falling ? visits->folio - (uint32_t)i : visits->folio + (uint32_t)i;
}
