#include "census.h"

/* Count the orders. Neighbours mostly have the same one, so eight are compared at a time. */
static void count_orders(const struct rmf_population *pop, uint64_t *folios_of_order)
{
	const uint64_t n = pop->nr_folios, ones = 0x0101010101010101;
	uint64_t i = 0;

	while (i < n) {
		const uint8_t order = pop->folio_order[i];
		const uint64_t first = i;
		uint64_t eight;

		for (; i + sizeof(eight) <= n; i += sizeof(eight)) {
			memcpy(&eight, pop->folio_order + i, sizeof(eight));
			if (eight != order * ones)
				break;
		}
		while (i < n && pop->folio_order[i] == order)
			i++;
		folios_of_order[order] += i - first;
	}
}

static void count_flags(const struct rmf_population *pop, struct rmf_census *census)
{
	const uint32_t both = RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED;
	uint64_t anon = 0, swapbacked = 0, two = 0;
	int32_t entire = 0;
	uint32_t any = 0;

	for (uint64_t i = 0; i < pop->nr_folios; i++) {
		const uint32_t flags = pop->folio_flags[i];

		any |= flags;
		anon += flags & RMF_FOLIO_ANON;
		swapbacked += (flags & RMF_FOLIO_SWAPBACKED) != 0;
		two += (flags & both) == both;
		entire |= pop->folio_entire_mapcount[i];
	}
	_Static_assert(RMF_FOLIO_ANON == 1 && RMF_FOLIO_SWAPBACKED == 2, "the places of the kinds");
	census->folios_of_kind[RMF_FOLIO_ANON] = anon - two;
	census->folios_of_kind[RMF_FOLIO_SWAPBACKED] = swapbacked - two;
	census->folios_of_kind[RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED] = two;
	census->folios_of_kind[0] = pop->nr_folios - anon - swapbacked + two;
	census->flags = any;
	census->entire = entire;
}

void rmf_population_census(const struct rmf_population *pop, struct rmf_census *census)
{
	*census = (struct rmf_census){ 0 };
	count_orders(pop, census->folios_of_order);
	count_flags(pop, census);
	for (uint64_t i = 0; i < pop->nr_ptes; i++)
		census->ptes_present += pop->ptes[i] & RMF_PTE_PRESENT;
}

uint64_t rmf_listed_pages(const struct rmf_population *pop, const uint32_t *folios, uint64_t nr)
{
	uint64_t pages = 0;

	for (uint64_t i = 0; i < nr;) {
		const uint32_t first = *(const volatile uint32_t *)&folios[i];
		uint64_t n = rmf_ascending(folios + i, nr - i);

		if (first + n > pop->nr_folios)
			n = 1;
		if (first < pop->nr_folios)
			pages += rmf_pages_of_folios(pop, first, n);
		i += n;
	}
	return pages;
}
