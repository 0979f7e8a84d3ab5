#include "check_state.h"

#include <stddef.h>
#include <string.h>

#include "unmap.h"

void rmf_check_settle(struct rmf_check_state *state, const struct rmf_check_condition *condition,
		      uint32_t exclusive)
{
	const uint32_t pages = 1u << state->order;
	const bool cached = !(condition->folio_flags & RMF_FOLIO_ANON) ||
			    (condition->folio_flags & RMF_FOLIO_SWAPCACHE);

	memset(state->page_flags, 0, pages);
	memset(state->page_mapcount, 0, pages * sizeof(*state->page_mapcount));
	memset(state->rss, 0, sizeof(state->rss));
	for (uint32_t i = state->first_slot; i < state->end_slot; i++) {
		const uint64_t page = rmf_check_page(state, state->ptes[i]);

		if (page < pages)
			state->page_mapcount[page]++;
	}
	state->page_mapcount[0] += condition->external;
	state->mapcount = state->nr_pages_mapped = 0;
	for (uint32_t page = 0; page < pages; page++) {
		state->mapcount += state->page_mapcount[page];
		state->nr_pages_mapped += state->page_mapcount[page] > 0;
		state->page_flags[page] = exclusive >> page & 1 ? RMF_PAGE_EXCLUSIVE : 0;
	}
	if (condition->poisoned)
		state->page_flags[0] |= RMF_PAGE_HWPOISON;
	if (condition->swap_dup_fails)
		state->page_flags[condition->swap_dup_fails - 1] |= RMF_PAGE_SWAP_DUP_FAIL;
	/* isolated, mapped, and in the page cache or swap cache */
	state->refcount =
		1 + state->mapcount + (cached ? (int32_t)pages : 0) + condition->extra_refs;
	state->folio_flags = condition->folio_flags | RMF_FOLIO_PAGE_MAPCOUNTS |
			     RMF_FOLIO_PAGE_FLAGS;
	state->vma_flags |= condition->vma_flags;
	state->ttu = condition->ttu;
}

bool rmf_check_fold(struct rmf_check_state *state, uint32_t slot)
{
	const rmf_pte first = state->ptes[slot], ignored = RMF_PTE_YOUNG | RMF_PTE_DIRTY;

	if (!rmf_pte_present(first) || rmf_check_page(state, first) % state->cont ||
	    rmf_check_page(state, first) + state->cont > 1u << state->order)
		return false;
	for (uint32_t i = 1; i < state->cont; i++)
		if ((state->ptes[slot + i] ^ rmf_pte_advance(first, i)) & ~ignored)
			return false;
	for (uint32_t i = 0; i < state->cont; i++)
		state->ptes[slot + i] |= RMF_PTE_CONT;
	return true;
}

void rmf_check_copy(struct rmf_check_state *to, const struct rmf_check_state *from)
{
	memmove(to, from,
		offsetof(struct rmf_check_state, ptes) + 2 * from->table * sizeof(*from->ptes));
}

bool rmf_check_reachable(const struct rmf_check_state *state)
{
	const bool anon = state->folio_flags & RMF_FOLIO_ANON,
		   swapbacked = state->folio_flags & RMF_FOLIO_SWAPBACKED,
		   swapcache = state->folio_flags & RMF_FOLIO_SWAPCACHE,
		   anon_vma = state->vma_flags & RMF_VMA_ANON;
	const uint64_t start = state->vma_start - state->table, end = state->vma_end - state->table;

	/* a lazyfree folio in a file VMA, a swap cache mark that does not fit, a large folio that
	 * is unmapped as poisoned */
	if ((anon && !swapbacked && !anon_vma) || (anon && swapbacked != swapcache) ||
	    (state->order && (state->ttu & RMF_TTU_HWPOISON)))
		return false;
	for (uint64_t i = 0; i < 2 * state->table; i++) {
		const rmf_pte pte = state->ptes[i];
		const uint64_t page = rmf_pte_pfn(pte) - RMF_CHECK_FOLIO_PFN;

		if (!rmf_pte_present(pte) && !rmf_pte_is_device(pte))
			continue;
		/* a device entry of a file page, a page that a file VMA maps out of its place */
		if (rmf_pte_kind(pte) == RMF_KIND_DEVICE_EXCLUSIVE && !anon)
			return false;
		if (!anon_vma && page >> state->order == 0 && i >= start && i < end &&
		    page + RMF_CHECK_FOLIO_INDEX != i - start + state->vma_pgoff)
			return false;
	}
	return true;
}
