#include "contpte.h"

#include "tlb.h"

/* The part of vpn's block that lies in the window. A block lies there whole unless somebody edited
 * the arrays by hand. */
static void block_of(const struct rmf_slots *slots, uint64_t vpn, uint64_t *start, uint64_t *end)
{
	*start = vpn & ~slots->cont_mask;
	*end = (vpn | slots->cont_mask) + 1;
	if (*start < slots->window_start)
		*start = slots->window_start;
	if (*end > slots->window_end)
		*end = slots->window_end;
}

rmf_pte rmf_contpte_gather(const struct rmf_slots *slots, uint64_t vpn, rmf_pte raw)
{
	const rmf_pte both = RMF_PTE_YOUNG | RMF_PTE_DIRTY;
	uint64_t start, end, loads;
	const rmf_pte *block;
	rmf_pte seen = 0;

	block_of(slots, vpn, &start, &end);
	block = rmf_slots_at(slots, start);
	loads = end - start;
	/* The kernel stops at the first entry by which it has seen both bits. A clean or old block
	 * has no such entry. So OR the whole block first, which vectorises, and look for the entry
	 * only if both bits are there. Per-page mode on arm64 spends half of its time here. */
	for (uint64_t i = 0; i < loads; i++)
		seen |= block[i];
	seen &= both;
	if (seen == both) {
		rmf_pte so_far = 0;

		for (loads = 0; so_far != both && loads < end - start; loads++)
			so_far |= block[loads] & both;
	}
	rmf_count(slots->run, RMF_RAW_PTE_LOADS, loads);
	return raw | seen;
}

static void unfold(const struct rmf_slots *slots, uint64_t vpn)
{
	uint64_t start, end, at;
	rmf_pte seen = 0;

	block_of(slots, vpn, &start, &end);
	for (at = start; at < end; at++)
		seen |= *rmf_slots_at(slots, at) & (RMF_PTE_YOUNG | RMF_PTE_DIRTY);
	for (at = start; at < end; at++) {
		rmf_pte *pte = rmf_slots_at(slots, at);

		/* a block made by hand may hold entries that are not part of it */
		if (rmf_pte_present(*pte) && (*pte & RMF_PTE_CONT))
			*pte = (*pte & ~(rmf_pte)RMF_PTE_CONT) | seen;
	}
	rmf_count(slots->run, RMF_CONTPTE_UNFOLDS, 1);
	rmf_tlb_flush_contpte_block(slots->run, slots->mm);
}

static bool is_folded(const struct rmf_slots *slots, uint64_t vpn)
{
	rmf_pte pte;

	if (!rmf_slots_in_window(slots, vpn))
		return false;
	pte = *rmf_slots_at(slots, vpn);
	return rmf_pte_present(pte) && (pte & RMF_PTE_CONT);
}

void rmf_contpte_unfold_edges(const struct rmf_slots *slots, uint64_t vpn, uint64_t nr)
{
	uint64_t last = vpn + nr - 1, table_last = vpn | slots->table_mask;

	if (!slots->cont_mask)
		return;
	if (last > table_last)
		last = table_last;
	if (((vpn & slots->cont_mask) || nr <= slots->cont_mask) && is_folded(slots, vpn))
		unfold(slots, vpn);
	if (((last + 1) & slots->cont_mask) && is_folded(slots, last))
		unfold(slots, last);
}

/* Models contpte_try_fold(), arch/arm64/mm/contpte.c, Linux v7.0. A block folds when its last entry
 * is set and the block is one translation. */
static void try_fold(const struct rmf_slots *slots, uint64_t vpn, uint64_t folio_pfn,
		     uint64_t folio_nr)
{
	const rmf_pte ignored = RMF_PTE_YOUNG | RMF_PTE_DIRTY;
	rmf_pte last = *rmf_slots_at(slots, vpn), seen = 0;
	uint64_t start = vpn & ~slots->cont_mask, pfn = rmf_pte_pfn(last) & ~slots->cont_mask, at;

	if ((vpn & slots->cont_mask) != slots->cont_mask ||
	    (rmf_pte_pfn(last) & slots->cont_mask) != slots->cont_mask)
		return;
	if (pfn < folio_pfn || pfn + slots->cont_mask >= folio_pfn + folio_nr ||
	    start < slots->window_start)
		return;
	for (at = start; at < vpn; at++) {
		rmf_pte expected = rmf_pte_advance(last & 0xfff, pfn + (at - start));

		if ((*rmf_slots_at(slots, at) & ~ignored) != (expected & ~ignored))
			return;
	}
	for (at = start; at <= vpn; at++)
		seen |= *rmf_slots_at(slots, at) & ignored;
	for (at = start; at <= vpn; at++)
		*rmf_slots_at(slots, at) |= RMF_PTE_CONT | seen;
	rmf_count(slots->run, RMF_CONTPTE_FOLDS, 1);
	rmf_tlb_flush_contpte_block(slots->run, slots->mm);
}

void rmf_contpte_fold(const struct rmf_slots *slots, uint64_t vpn, uint64_t nr, uint64_t folio_pfn,
		      uint64_t folio_nr)
{
	uint64_t at, block = slots->cont_mask + 1, end = (vpn | slots->table_mask) + 1;

	if (!slots->cont_mask || !rmf_pte_present(*rmf_slots_at(slots, vpn)))
		return;
	/* entries outside the table or the window were not written */
	if (end > vpn + nr)
		end = vpn + nr;
	if (end > slots->window_end)
		end = slots->window_end;
	for (at = vpn; at < end; at++)
		*rmf_slots_at(slots, at) &= ~(rmf_pte)RMF_PTE_CONT;
	if (nr == 1) {
		try_fold(slots, vpn, folio_pfn, folio_nr);
		return;
	}
	/* set_ptes() of several entries sets CONT at once in each whole block that is aligned by
	 * slot and by PFN */
	for (at = (vpn + slots->cont_mask) & ~slots->cont_mask; at + block <= end; at += block) {
		if (rmf_pte_pfn(*rmf_slots_at(slots, at)) & slots->cont_mask)
			continue;
		for (uint64_t i = at; i < at + block; i++)
			*rmf_slots_at(slots, i) |= RMF_PTE_CONT;
		rmf_count(slots->run, RMF_CONTPTE_FOLDS, 1);
	}
}
