/* Counts over the arrays of a population, for its description. */
#ifndef RMF_CENSUS_H
#define RMF_CENSUS_H

#include "population.h"

struct rmf_census {
	uint64_t folios_of_order[UINT8_MAX + 1];
	uint64_t folios_of_kind[4]; /* by RMF_FOLIO_ANON and RMF_FOLIO_SWAPBACKED */
	uint32_t flags; /* those that any folio has */
	bool entire; /* a PMD leaf maps some folio */
	uint64_t ptes_present;
};

/* Count. No index is followed, so the arrays need not have been checked. */
void rmf_population_census(const struct rmf_population *pop, struct rmf_census *census);

/* Count the base pages of the folios on a list. Entries that are no folio are passed over. */
uint64_t rmf_listed_pages(const struct rmf_population *pop, const uint32_t *folios, uint64_t nr);

#endif
