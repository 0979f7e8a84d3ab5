#include "populate.h"

#include <string.h>

const char *rmf_rate_name(enum rmf_rate_of rate)
{
	static const char *const names[RMF_NR_RATES] = {
#define RMF_RATE(rate, name) name,
		RMF_RATES(RMF_RATE)
#undef RMF_RATE
	};

	return names[rate];
}

/* How many folios of each order of the mix lie in the first `page` pages, as far as the mix can be
 * met. Each order has its share of what the larger orders leave, rounded down. So more pages never
 * mean fewer folios of an order. */
static void shares(const struct rmf_description *what, uint64_t page,
		   uint64_t folios[RMF_MAX_ORDER + 1])
{
	uint64_t weights = 0;

	for (uint32_t k = 0; k < what->nr_orders; k++)
		weights += what->weight[k];
	for (uint32_t k = 0; k < what->nr_orders; weights -= what->weight[k++]) {
		unsigned __int128 share = page;

		if (k + 1 < what->nr_orders)
			share = share * what->weight[k] / weights;
		folios[k] = (uint64_t)share >> what->order[k];
		page -= folios[k] << what->order[k];
	}
}

uint64_t rmf_described_block(const struct rmf_description *what, uint64_t page, uint64_t nr,
			     uint64_t folios[RMF_MAX_ORDER + 1])
{
	uint64_t before[RMF_MAX_ORDER + 1], left = nr;

	shares(what, page, before);
	shares(what, page + nr, folios);
	for (uint32_t k = 0; k < what->nr_orders; k++) {
		uint64_t room = left >> what->order[k];

		folios[k] -= before[k];
		if (folios[k] > room || k + 1 == what->nr_orders)
			folios[k] = room;
		left -= folios[k] << what->order[k];
	}
	return left;
}

static uint64_t last_block(const struct rmf_description *what, uint64_t page)
{
	return page == what->pages ? page % RMF_LAYOUT_BLOCK : 0;
}

uint64_t rmf_described_fill(const struct rmf_description *what)
{
	uint64_t folios[RMF_MAX_ORDER + 1], last = last_block(what, what->pages);

	return last ? rmf_described_block(what, what->pages - last, last, folios) : 0;
}

void rmf_described_orders(const struct rmf_description *what, uint64_t page,
			  uint64_t folios[RMF_MAX_ORDER + 1])
{
	uint64_t counts[RMF_MAX_ORDER + 1], last = last_block(what, page), fill = 0;

	memset(folios, 0, (RMF_MAX_ORDER + 1) * sizeof(*folios));
	shares(what, page - last, counts);
	for (uint32_t k = 0; k < what->nr_orders; k++)
		folios[what->order[k]] += counts[k];
	if (!last)
		return;
	fill = rmf_described_block(what, page - last, last, counts);
	for (uint32_t k = 0; k < what->nr_orders; k++)
		folios[what->order[k]] += counts[k];
	for (uint32_t order = 0; fill >> order; order++)
		folios[order] += fill >> order & 1;
}

uint64_t rmf_described_folios(const struct rmf_description *what, uint64_t page)
{
	uint64_t folios[RMF_MAX_ORDER + 1], nr = 0;

	rmf_described_orders(what, page, folios);
	for (uint32_t order = 0; order <= RMF_MAX_ORDER; order++)
		nr += folios[order];
	return nr;
}
