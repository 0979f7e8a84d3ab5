/* arm64 contpte: blocks of entries that share one translation. Reads, the batch hint, clears and
 * restores have to know of them. */
#ifndef RMF_CONTPTE_H
#define RMF_CONTPTE_H

#include "slots.h"

/* Models contpte_ptep_get(), arch/arm64/mm/contpte.c, Linux v7.0: `raw` with the young and dirty
 * bits of its whole block. */
rmf_pte rmf_contpte_gather(const struct rmf_slots *slots, uint64_t vpn, rmf_pte raw);

/* Models __contpte_try_unfold(), arch/arm64/mm/contpte.c, Linux v7.0, for a change of [vpn, vpn +
 * nr): folded blocks that it covers only in part are unfolded. */
void rmf_contpte_unfold_edges(const struct rmf_slots *slots, uint64_t vpn, uint64_t nr);

/* Models set_ptes() and contpte_set_ptes(), arch/arm64/mm/contpte.c, Linux v7.0: gives CONT to
 * those of the nr entries just written that form blocks. They map pages of the folio [folio_pfn,
 * folio_pfn + folio_nr). */
void rmf_contpte_fold(const struct rmf_slots *slots, uint64_t vpn, uint64_t nr, uint64_t folio_pfn,
		      uint64_t folio_nr);

/* Models ptep_get_lockless(), include/linux/pgtable.h, Linux v7.0: one logical read of a slot in
 * the window. */
static inline rmf_pte rmf_ptep_get_lockless(const struct rmf_slots *slots, uint64_t vpn)
{
	rmf_pte raw = *rmf_slots_at(slots, vpn);

	rmf_count(slots->run, RMF_RAW_PTE_LOADS, 1);
	if (slots->cont_mask && (raw & RMF_PTE_CONT) && rmf_pte_present(raw))
		return rmf_contpte_gather(slots, vpn, raw);
	return raw;
}

/* Models ptep_get(), include/linux/pgtable.h, Linux v7.0. */
static inline rmf_pte rmf_ptep_get(const struct rmf_slots *slots, uint64_t vpn)
{
	rmf_pte raw = *rmf_slots_at(slots, vpn);

	if (slots->cont_mask && (raw & RMF_PTE_CONT) && rmf_pte_present(raw))
		rmf_count(slots->run, RMF_CONTPTE_GATHERS, 1);
	return rmf_ptep_get_lockless(slots, vpn);
}

/* Models pte_batch_hint(), include/linux/pgtable.h, Linux v7.0: how many entries, this one
 * included, are known to continue it. */
static inline uint64_t rmf_pte_batch_hint(const struct rmf_slots *slots, uint64_t vpn, rmf_pte pte)
{
	if (!slots->cont_mask || !(pte & RMF_PTE_CONT) || !rmf_pte_present(pte))
		return 1;
	return slots->cont_mask + 1 - (vpn & slots->cont_mask);
}

#endif
