/* The folio of a PFN. */
#ifndef RMF_PFN_INDEX_H
#define RMF_PFN_INDEX_H

#include "run.h"

struct rmf_pfn_index {
	const struct rmf_run *run;
	uint64_t nr; /* folios given */
	uint32_t *by_pfn; /* the folios given in the order of their PFNs; NULL if that is theirs */
	uint64_t at; /* where the last PFN was found in this order */
};

/* Make the index of the folios that the population has now; pieces of later splits are found too.
 * False without memory. rmf_pfn_index_free() is to be called in any case. */
bool rmf_pfn_index_make(struct rmf_pfn_index *index, const struct rmf_run *run);
void rmf_pfn_index_free(struct rmf_pfn_index *index);

/* The folio that has a PFN now. False if none has. */
bool rmf_pfn_index_find(struct rmf_pfn_index *index, uint64_t pfn, uint32_t *folio);

#endif
