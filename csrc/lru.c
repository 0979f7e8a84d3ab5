#include "lru.h"

#include <stdlib.h>

/* Count the base pages of the entries. */
static uint64_t count_pages(const struct rmf_run *run, const struct rmf_lru_list *list)
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
	list->pages = count_pages(run, list);
	free(folios);
}
