#include "pfn_index.h"

#include <stdlib.h>
#include <string.h>

/* Pages of a folio as it was given, before any split. */
static uint64_t given_pages(const struct rmf_run *run, uint64_t folio)
{
	if (run->pieces && run->pieces[folio].nr)
		return (uint64_t)run->pieces[folio].nr + 1;
	return rmf_folio_nr_pages(&run->pop, folio);
}

static bool in_pfn_order(const struct rmf_run *run, uint64_t nr)
{
	for (uint64_t i = 1; i < nr; i++)
		if (run->pop.folio_pfn[i - 1] + given_pages(run, i - 1) > run->pop.folio_pfn[i])
			return false;
	return true;
}

/* Sort folio numbers by PFN: a radix sort, 16 bits at a time. False without memory. */
static bool sort_by_pfn(struct rmf_pfn_index *index, uint64_t nr)
{
	enum { BITS = 16, VALUES = 1 << BITS };
	const uint64_t *given = index->run->pop.folio_pfn;
	/* sorted by a copy: numbers that change meanwhile would be counted otherwise than placed */
	uint64_t *pfn = malloc((nr + 1) * sizeof(*pfn));
	uint32_t *from = malloc((nr + 1) * sizeof(*from)), *to = malloc((nr + 1) * sizeof(*to));
	uint64_t *place = malloc(VALUES * sizeof(*place)), highest = 0;

	for (uint64_t i = 0; from && pfn && i < nr; i++) {
		from[i] = (uint32_t)i;
		pfn[i] = given[i];
		highest |= pfn[i];
	}
	for (int shift = 0; from && to && pfn && place && shift < 64 && highest >> shift;
	     shift += BITS) {
		uint64_t sum = 0;
		uint32_t *swapped = from;

		memset(place, 0, VALUES * sizeof(*place));
		for (uint64_t i = 0; i < nr; i++)
			place[pfn[i] >> shift & (VALUES - 1)]++;
		for (uint64_t i = 0; i < VALUES; i++) {
			uint64_t n = place[i];

			place[i] = sum;
			sum += n;
		}
		for (uint64_t i = 0; i < nr; i++)
			to[place[pfn[from[i]] >> shift & (VALUES - 1)]++] = from[i];
		from = to;
		to = swapped;
	}
	index->by_pfn = from;
	free(to);
	free(pfn);
	free(place);
	return from && to && pfn && place;
}

static uint64_t folio_at(const struct rmf_pfn_index *index, uint64_t i)
{
	return index->by_pfn ? index->by_pfn[i] : i;
}

static bool holds_pfn(const struct rmf_pfn_index *index, uint64_t i, uint64_t pfn)
{
	uint64_t folio = folio_at(index, i);

	return pfn - index->run->pop.folio_pfn[folio] < given_pages(index->run, folio);
}

/* Look where the folio is if those around the last one found are of its order. */
static bool guess(struct rmf_pfn_index *index, uint64_t pfn)
{
	const uint64_t folio = folio_at(index, index->at);
	const int64_t distance = (int64_t)(pfn - index->run->pop.folio_pfn[folio]),
		      at = (int64_t)index->at + (distance >> index->run->pop.folio_order[folio]);

	if (at < 0 || (uint64_t)at >= index->nr || !holds_pfn(index, (uint64_t)at, pfn))
		return false;
	index->at = (uint64_t)at;
	return true;
}

bool rmf_pfn_index_make(struct rmf_pfn_index *index, const struct rmf_run *run)
{
	/* without splits the folios that it has now are those that were given */
	const uint64_t nr = run->pieces ? run->nr_given : run->pop.nr_folios;

	*index = (struct rmf_pfn_index){ .run = run, .nr = nr };
	return in_pfn_order(run, nr) || sort_by_pfn(index, nr);
}

void rmf_pfn_index_free(struct rmf_pfn_index *index)
{
	free(index->by_pfn);
	index->by_pfn = NULL;
}

bool rmf_pfn_index_find(struct rmf_pfn_index *index, uint64_t pfn, uint32_t *folio)
{
	const struct rmf_run *run = index->run;
	uint64_t low = 0, high = index->nr, page;

	if (!high)
		return false;
	if (!holds_pfn(index, index->at, pfn) && !guess(index, pfn)) {
		while (high - low > 1) {
			uint64_t middle = low + (high - low) / 2;

			if (run->pop.folio_pfn[folio_at(index, middle)] <= pfn)
				low = middle;
			else
				high = middle;
		}
		index->at = low;
		if (!holds_pfn(index, low, pfn))
			return false;
	}
	*folio = (uint32_t)folio_at(index, index->at);
	page = pfn - run->pop.folio_pfn[*folio];
	if (page && run->pieces && run->pieces[*folio].nr)
		*folio = run->pieces[*folio].first + (uint32_t)page - 1;
	return true;
}
