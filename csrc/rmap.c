#include "rmap.h"

#include "referenced.h"
#include "unmap.h"

void rmf_try_to_unmap(struct rmf_run *run, uint64_t folio, uint32_t ttu)
{
	const struct rmf_population *pop = &run->pop;
	uint32_t vma;

	for (uint64_t i = pop->rmap_start[folio];
	     i < pop->rmap_start[folio + 1] && rmf_rmap_vma(pop, i, &vma); i++) {
		if (!rmf_try_to_unmap_one(run, folio, vma, ttu))
			break;
		if (pop->folio_mapcount[folio] <= 0)
			break;
	}
}

int64_t rmf_folio_referenced(struct rmf_run *run, uint64_t folio, uint32_t *vm_flags)
{
	const struct rmf_population *pop = &run->pop;
	struct rmf_reference reference = { .mapcount = pop->folio_mapcount[folio] };
	uint32_t vma;

	*vm_flags = 0;
	if (reference.mapcount <= 0)
		return 0;
	for (uint64_t i = pop->rmap_start[folio];
	     i < pop->rmap_start[folio + 1] && rmf_rmap_vma(pop, i, &vma); i++) {
		if (pop->mm_flags[pop->vma_mm[vma]] & RMF_MM_OUTSIDE_MEMCG)
			continue;
		if (!rmf_folio_referenced_one(run, folio, vma, &reference))
			break;
	}
	*vm_flags = reference.vm_flags;
	return reference.referenced;
}
