#include "folio_batch.h"

#include "contpte.h"
#include "entries.h"

static rmf_pte ignored_bits(uint32_t flags)
{
	rmf_pte ignored = RMF_PTE_YOUNG;

	if (!(flags & RMF_FPB_RESPECT_DIRTY))
		ignored |= RMF_PTE_DIRTY;
	if (!(flags & RMF_FPB_RESPECT_SOFT_DIRTY))
		ignored |= RMF_PTE_SOFT_DIRTY;
	if (!(flags & RMF_FPB_RESPECT_WRITE))
		ignored |= RMF_PTE_WRITE;
	return ignored;
}

/* Read the entry at vpn. *hint is the number of entries that it stands for: memory behind the table
 * has no contpte blocks. */
static rmf_pte read_entry(const struct rmf_slots *slots, uint64_t first, uint64_t vpn,
			  uint64_t *hint)
{
	enum rmf_reach reach;
	rmf_pte pte;

	rmf_count(slots->run, RMF_BATCH_PTE_READS, 1);
	reach = rmf_slots_reach(slots, first, vpn, RMF_OOB_READS, RMF_VMA_OVERRUN_READS);
	if (reach == RMF_REACH_SLOT) {
		pte = rmf_ptep_get(slots, vpn);
		*hint = rmf_pte_batch_hint(slots, vpn, pte);
		return pte;
	}
	*hint = 1;
	rmf_count(slots->run, RMF_RAW_PTE_LOADS, 1);
	return reach == RMF_REACH_BEYOND ? rmf_slots_guard(slots, first, vpn) : 0;
}

/* The scan as far as it needs no care: entries in the table, the VMA and the folio that continue
 * `first`, and that are not folded. Returns their number, with the one at vpn. */
static uint64_t plain_batch(const struct rmf_slots *slots, uint64_t vpn, rmf_pte first,
			    uint64_t max_nr, rmf_pte ignored, rmf_pte *seen)
{
	const uint64_t room = rmf_slots_room(slots, vpn), end = max_nr < room ? max_nr : room;
	uint64_t nr;

	if (end <= 1 || (slots->cont_mask && (first & RMF_PTE_CONT)))
		return 1;
	nr = rmf_entries_follow(rmf_slots_at(slots, vpn + 1), end - 1, rmf_pte_advance(first, 1),
				ignored, seen);
	rmf_count(slots->run, RMF_BATCH_PTE_READS, nr);
	rmf_count(slots->run, RMF_RAW_PTE_LOADS, nr);
	return 1 + nr;
}

uint64_t rmf_folio_pte_batch_flags(const struct rmf_slots *slots, uint64_t vpn, rmf_pte *pte,
				   uint64_t max_nr, uint64_t folio_pfn, uint64_t folio_nr,
				   uint32_t flags, rmf_pte *later)
{
	const rmf_pte ignored = ignored_bits(flags);
	const uint64_t left = folio_pfn + folio_nr - rmf_pte_pfn(*pte);
	const rmf_pte first = *pte;
	rmf_pte seen = 0;
	uint64_t nr;

	rmf_count(slots->run, RMF_BATCH_SCANS, 1);
	if (!(flags & RMF_FPB_UNCUT) && max_nr > left)
		max_nr = left ? left : 1; /* 0: the entry was changed since it was read */
	nr = rmf_pte_batch_hint(slots, vpn, first);
	if (nr == 1)
		nr = plain_batch(slots, vpn, first, max_nr < left ? max_nr : left, ignored, &seen);
	while (nr < max_nr) {
		uint64_t hint;
		rmf_pte entry = read_entry(slots, vpn, vpn + nr, &hint);

		if ((entry & ~ignored) != (rmf_pte_advance(first, nr) & ~ignored))
			break;
		if (nr >= left)
			break;
		seen |= entry;
		nr += hint;
	}
	if ((flags & RMF_FPB_MERGE_WRITE) && (seen & RMF_PTE_WRITE))
		*pte |= RMF_PTE_WRITE;
	if (flags & RMF_FPB_MERGE_YOUNG_DIRTY) {
		*pte |= seen & RMF_PTE_YOUNG;
		if (seen & RMF_PTE_DIRTY)
			*pte = rmf_pte_mkdirty(&slots->run->arch, *pte);
	}
	if (later)
		*later = seen & (RMF_PTE_WRITE | RMF_PTE_YOUNG | RMF_PTE_DIRTY);
	return nr < max_nr ? nr : max_nr;
}
