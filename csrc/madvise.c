#include "madvise.h"

#include <stdlib.h>
#include <string.h>

#include "memo.h"
#include "slots.h"
#include "split.h"
#include "swap.h"

static const uint64_t LIMIT = (uint64_t)1 << 52;
static const uint64_t TO_ACTIVE = (uint64_t)1 << 32; /* besides the folio in put_back[] */
static const uint64_t SUPERSEDED = UINT64_MAX;

struct rmf_vma_place {
	uint64_t start;
	uint32_t mm;
	uint32_t vma;
};

static int compare_vmas(const void *a, const void *b)
{
	const struct rmf_vma_place *one = a, *other = b;

	if (one->mm != other->mm)
		return one->mm < other->mm ? -1 : 1;
	if (one->start != other->start)
		return one->start < other->start ? -1 : 1;
	return one->vma < other->vma ? -1 : one->vma > other->vma;
}

/* The first VMA of the mm that ends behind vpn. False if there is none. */
static bool find_vma(const struct rmf_madvise *madvise, uint64_t vpn, uint32_t *vma)
{
	const struct rmf_population *pop = &madvise->run->pop;
	const struct rmf_vma_place *vmas = madvise->vmas;
	uint64_t low = 0, high = pop->nr_vmas;

	/* the first that begins behind vpn */
	while (low < high) {
		uint64_t middle = low + (high - low) / 2;

		if (vmas[middle].mm < madvise->mm ||
		    (vmas[middle].mm == madvise->mm && vmas[middle].start <= vpn))
			low = middle + 1;
		else
			high = middle;
	}
	if (low && vmas[low - 1].mm == madvise->mm && pop->vma_end[vmas[low - 1].vma] > vpn)
		low--;
	if (low == pop->nr_vmas || vmas[low].mm != madvise->mm)
		return false;
	*vma = vmas[low].vma;
	return true;
}

/* ---- the LRU lists ---- */

/* The folio is at the end of a list from now on. */
static void list_folio(struct rmf_madvise *madvise, uint32_t folio, bool active)
{
	if (madvise->nr_put_back == madvise->room) {
		uint64_t room = madvise->room ? 2 * madvise->room : 1024;
		uint64_t *longer = realloc(madvise->put_back, room * sizeof(*longer));

		if (!longer) {
			madvise->run->error = RMF_RUN_NO_MEMORY;
			return;
		}
		madvise->put_back = longer;
		madvise->room = room;
	}
	madvise->put_back[madvise->nr_put_back++] = folio | (active ? TO_ACTIVE : 0);
	madvise->on_lru[folio] = 1;
	madvise->moved[folio] = 1;
}

static void put_back(void *context, const struct rmf_visits *visits, const uint32_t *folios)
{
	const bool active = visits->outcome == RMF_OUTCOME_ACTIVATE;

	if (!visits->listed || !(active || visits->outcome == RMF_OUTCOME_KEEP))
		return;
	for (uint64_t i = 0; i < visits->nr; i++)
		list_folio(context, rmf_visited_folio(visits, folios, i), active);
}

/* Write to out[] what is where a folio was at first: the folio, and the pieces of its split, as far
 * as they have not moved. Returns how many. */
static uint64_t place_here(struct rmf_madvise *madvise, uint32_t folio, uint32_t *out)
{
	const uint64_t nr = rmf_place(madvise->run, folio, out);
	uint64_t n = 0;

	for (uint64_t i = 0; i < nr; i++)
		if (madvise->on_lru[out[i]] && !madvise->moved[out[i]])
			out[n++] = out[i];
	return n;
}

/* Mark what came back a second time later. False without memory. */
static bool supersede(struct rmf_madvise *madvise)
{
	uint8_t *seen = calloc(madvise->inactive.capacity + 1, 1);

	if (!seen)
		return false;
	for (uint64_t i = madvise->nr_put_back; i--;) {
		uint32_t folio = (uint32_t)madvise->put_back[i];

		if (madvise->put_back[i] == SUPERSEDED)
			continue;
		if (seen[folio])
			madvise->put_back[i] = SUPERSEDED;
		seen[folio] = 1;
	}
	free(seen);
	return true;
}

static void write_list(struct rmf_madvise *madvise, struct rmf_lru_list *list, bool active,
		       uint32_t *folios)
{
	const uint32_t *flags = madvise->run->pop.folio_flags;
	uint64_t n = 0;

	for (uint64_t i = 0; i < list->n; i++)
		n += place_here(madvise, list->folios[i], folios + n);
	for (uint64_t i = 0; i < madvise->nr_put_back; i++) {
		uint64_t entry = madvise->put_back[i];
		uint32_t folio = (uint32_t)entry;

		if (entry != SUPERSEDED && !!(entry & TO_ACTIVE) == active &&
		    madvise->on_lru[folio] && !(flags[folio] & RMF_FOLIO_FREED))
			folios[n++] = folio;
	}
	memcpy(list->folios, folios, n * sizeof(*folios));
	list->n = n;
}

int rmf_madvise_lists(struct rmf_madvise *madvise)
{
	/* a list is written in one go, so that there is room for a folio's pieces behind the last
	 */
	uint32_t *folios =
		malloc((madvise->inactive.capacity + RMF_MAX_FOLIO_PAGES) * sizeof(*folios));
	int error = folios && supersede(madvise) ? 0 : RMF_ENOMEM;

	if (!error) {
		write_list(madvise, &madvise->inactive, false, folios);
		write_list(madvise, &madvise->active, true, folios);
		madvise->nr_put_back = 0;
		memset(madvise->moved, 0, madvise->inactive.capacity);
	}
	free(folios);
	return error;
}

/* ---- one folio ---- */

/* Models folio_maybe_mapped_shared(), include/linux/mm.h, Linux v7.0, and
 * folio_likely_mapped_shared() of v6.12, which guesses from the first page. */
static bool is_shared(const struct rmf_run *run, uint32_t folio)
{
	const struct rmf_population *pop = &run->pop;
	const uint32_t flags = pop->folio_flags[folio], nr = rmf_folio_nr_pages(pop, folio);
	const int32_t mapcount = pop->folio_mapcount[folio],
		      entire = pop->folio_entire_mapcount[folio];

	if (mapcount <= 1)
		return false;
	if (nr == 1)
		return true;
	if (!run->policy.sharing_guess)
		return flags & RMF_FOLIO_MAYBE_SHARED;
	if (entire > 0 || mapcount > (int32_t)nr)
		return true;
	if (flags & RMF_FOLIO_PAGE_MAPCOUNTS)
		return pop->page_mapcount[rmf_folio_page_base(pop, folio)] > 1;
	return mapcount / (int32_t)nr > 1;
}

static bool filtered(const struct rmf_madvise *madvise, uint32_t folio)
{
	return madvise->anon_only && !(madvise->run->pop.folio_flags[folio] & RMF_FOLIO_ANON);
}

/* Split a folio of which the range, the VMA or the table holds a part. False if it stays whole. */
static bool split_cut(struct rmf_madvise *madvise, uint32_t folio)
{
	struct rmf_run *run = madvise->run;
	const struct rmf_pieces *pieces;

	/* a leaf that a split did not find may map a single page */
	if (!run->pop.folio_order[folio] || is_shared(run, folio) || filtered(madvise, folio) ||
	    (run->pop.folio_flags[folio] & RMF_FOLIO_LOCKED))
		return false;
	/* its pieces follow it where it is now */
	if (madvise->moved[folio] && rmf_madvise_lists(madvise))
		run->error = RMF_RUN_NO_MEMORY;
	if (run->error || !rmf_split_folio_now(run, folio))
		return false;
	pieces = &run->pieces[folio];
	memset(madvise->on_lru + pieces->first, madvise->on_lru[folio], pieces->nr);
	return true;
}

static void clear_bits(rmf_pte *ptes, uint64_t nr, rmf_pte bits)
{
	for (uint64_t i = 0; i < nr; i++)
		ptes[i] &= ~bits;
}

/* Isolate a folio on a list for MADV_PAGEOUT, or deactivate it for MADV_COLD. `nr` entries map
 * it. */
static void page_out(struct rmf_madvise *madvise, uint32_t folio, rmf_pte *ptes, uint64_t nr)
{
	struct rmf_run *run = madvise->run;
	uint32_t *flags = &run->pop.folio_flags[folio];

	if (!madvise->on_lru[folio] || filtered(madvise, folio))
		return;
	if (madvise->advice == RMF_MADV_COLD)
		clear_bits(ptes, nr, RMF_PTE_YOUNG);
	*flags &= ~(uint32_t)(RMF_FOLIO_REFERENCED | RMF_FOLIO_YOUNG);
	if (!rmf_folio_evictable(run, folio))
		return;
	*flags &= ~(uint32_t)RMF_FOLIO_ACTIVE;
	if (madvise->advice == RMF_MADV_COLD) {
		list_folio(madvise, folio, false);
		return;
	}
	madvise->on_lru[folio] = 0;
	madvise->moved[folio] = 1;
	madvise->group[madvise->nr_group++] = folio;
}

/* Make the folio lazyfree. `mapcount` is what it is if nothing else maps it. Models
 * madvise_free_pte_range() and folio_mark_lazyfree(), Linux v7.0. */
static void mark_lazyfree(struct rmf_madvise *madvise, uint32_t folio, rmf_pte *ptes, uint64_t nr,
			  int32_t mapcount)
{
	struct rmf_run *run = madvise->run;
	struct rmf_population *pop = &run->pop;
	const uint32_t pages = rmf_folio_nr_pages(pop, folio);
	uint32_t *flags = &pop->folio_flags[folio];

	if (!(*flags & RMF_FOLIO_ANON))
		return;
	if (*flags & (RMF_FOLIO_SWAPCACHE | RMF_FOLIO_DIRTY)) {
		if ((*flags & RMF_FOLIO_LOCKED) || pop->folio_mapcount[folio] != mapcount)
			return;
		if (*flags & RMF_FOLIO_SWAPCACHE) {
			rmf_swap_give_back(run, pop->folio_swap[folio], pages);
			pop->folio_refcount[folio] -= (int32_t)pages;
		}
		*flags &= ~(uint32_t)(RMF_FOLIO_SWAPCACHE | RMF_FOLIO_DIRTY);
	}
	clear_bits(ptes, nr, RMF_PTE_YOUNG | RMF_PTE_DIRTY);
	if (!(*flags & RMF_FOLIO_SWAPBACKED) || !madvise->on_lru[folio] ||
	    !rmf_folio_evictable(run, folio))
		return;
	*flags &= ~(uint32_t)(RMF_FOLIO_SWAPBACKED | RMF_FOLIO_ACTIVE | RMF_FOLIO_REFERENCED);
	list_folio(madvise, folio, false);
}

/* ---- one page table ---- */

/* Models folio_pte_batch() with FPB_MERGE_YOUNG_DIRTY, mm/internal.h, Linux v7.0: how many of
 * max_nr entries map consecutive pages of a folio. */
static uint64_t batch_of(const rmf_pte *ptes, uint64_t max_nr)
{
	const rmf_pte merged = RMF_PTE_WRITE | RMF_PTE_YOUNG | RMF_PTE_DIRTY | RMF_PTE_SOFT_DIRTY |
			       RMF_PTE_CONT;
	rmf_pte expected = ptes[0] & ~merged;
	uint64_t nr = 1;

	while (nr < max_nr && (ptes[nr] & ~merged) == (expected += RMF_PFN_ONE))
		nr++;
	return nr;
}

/* MADV_FREE at an entry that is not present. */
static void free_nonpresent(struct rmf_madvise *madvise, uint32_t vma, rmf_pte *pte)
{
	struct rmf_run *run = madvise->run;
	enum rmf_pte_kind kind = rmf_pte_kind(*pte);

	if (kind == RMF_KIND_SWAP) {
		rmf_swap_give_back(run, rmf_pte_pfn(*pte), 1);
		rmf_count(run, RMF_RSS_UPDATES, 1);
		run->pop.mm_rss[(uint64_t)run->pop.vma_mm[vma] * RMF_NR_MM_COUNTERS +
				RMF_MM_SWAPENTS]--;
	} else if (kind != RMF_KIND_HWPOISON) {
		return;
	}
	*pte = 0;
}

/* The entries [vpn, end) of one page table. Models madvise_cold_or_pageout_pte_range() and
 * madvise_free_pte_range(), mm/madvise.c, Linux v7.0. */
static void walk_ptes(struct rmf_madvise *madvise, uint32_t vma, uint64_t vpn, uint64_t end)
{
	struct rmf_run *run = madvise->run;
	const struct rmf_population *pop = &run->pop;
	const struct rmf_slots slots = rmf_slots_of_vma(run, vma);
	uint64_t looks = 0;

	while (vpn < end && !run->error) {
		rmf_pte *ptes = rmf_slots_at(&slots, vpn), pte = *ptes;
		uint64_t pages, nr = 1;
		uint32_t folio;

		if (!rmf_pte_present(pte) || (pte & RMF_PTE_SPECIAL) ||
		    !rmf_pfn_index_find(&madvise->index, rmf_pte_pfn(pte), &folio)) {
			if (madvise->advice == RMF_MADV_FREE && !rmf_pte_present(pte))
				free_nonpresent(madvise, vma, ptes);
			looks++;
			vpn++;
			continue;
		}
		pages = rmf_folio_nr_pages(pop, folio);
		if (pages > 1) {
			uint64_t left = pages - (rmf_pte_pfn(pte) - pop->folio_pfn[folio]);

			nr = batch_of(ptes, left < end - vpn ? left : end - vpn);
		}
		looks += nr;
		if (nr < pages) {
			/* after a split the same entry is looked at again */
			if (!split_cut(madvise, folio))
				vpn += nr;
			continue;
		}
		if (madvise->advice == RMF_MADV_FREE)
			mark_lazyfree(madvise, folio, ptes, nr, (int32_t)nr);
		else if (pop->folio_mapcount[folio] == (int32_t)nr)
			page_out(madvise, folio, ptes, nr);
		vpn += nr;
	}
	rmf_count(run, RMF_MADVISE_ENTRIES, looks);
}

/* A PMD leaf. Returns whether it was split, and its entries are to be looked at. Models the PMD
 * part of the same functions. */
static bool walk_pmd(struct rmf_madvise *madvise, uint32_t vma, uint64_t table, bool whole,
		     uint8_t *state)
{
	struct rmf_run *run = madvise->run;
	const struct rmf_slots slots = rmf_slots_of_vma(run, vma);
	rmf_pte *pmd = rmf_slots_at(&slots, table);
	uint32_t folio;

	rmf_count(run, RMF_MADVISE_ENTRIES, 1);
	if (!rmf_pte_present(*pmd) || (*pmd & RMF_PTE_SPECIAL) ||
	    !rmf_pfn_index_find(&madvise->index, rmf_pte_pfn(*pmd), &folio) ||
	    is_shared(run, folio) || filtered(madvise, folio))
		return false;
	if (!whole)
		return split_cut(madvise, folio) && *state == RMF_TABLE_PTE;
	if (madvise->advice != RMF_MADV_FREE)
		page_out(madvise, folio, pmd, 1);
	else if (run->pop.folio_mapcount[folio] == 1 &&
		 !(run->pop.folio_flags[folio] & RMF_FOLIO_LOCKED))
		mark_lazyfree(madvise, folio, pmd, 1, 1);
	return false;
}

/* The pages [vpn, end) of a VMA, which lie in one page table, and the reclaim of what was isolated
 * there. */
static void walk_table(struct rmf_madvise *madvise, uint32_t vma, uint64_t vpn, uint64_t end)
{
	struct rmf_run *run = madvise->run;
	const uint64_t size = run->pop.ptrs_per_pte, table = vpn / size;
	uint8_t *state = &run->pop.table_state[run->pop.vma_table_base[vma] + table -
					       run->pop.vma_start[vma] / size];

	const uint8_t was = *state;

	if (was == RMF_TABLE_PTE ||
	    (rmf_is_pmd_leaf(&run->pop, vma, table * size, was) &&
	     walk_pmd(madvise, vma, table * size, vpn == table * size && end == vpn + size, state)))
		walk_ptes(madvise, vma, vpn, end);
	if (!madvise->nr_group)
		return;
	madvise->freed += rmf_shrink_list(run, RMF_VISIT_PAGEOUT, madvise->group, madvise->nr_group,
					  put_back, madvise);
	madvise->nr_group = 0;
	if (++madvise->nr_groups % RMF_GROUPS_SETTLED == 0)
		rmf_memo_settle(run);
}

/* ---- a call ---- */

/* Whether the advice fits the VMA. If not, the call ends with ret, or goes on behind the VMA.
 * Models can_madv_lru_vma() and madvise_pageout(), mm/madvise.c, Linux v7.0. */
static bool enter_vma(struct rmf_madvise *madvise, uint32_t vma)
{
	const uint32_t flags = madvise->run->pop.vma_flags[vma];

	if ((flags & RMF_VMA_LOCKED) ||
	    (madvise->advice == RMF_MADV_FREE && !(flags & RMF_VMA_ANON))) {
		madvise->ret = RMF_MADVISE_EINVAL;
		madvise->vpn = madvise->end;
		return false;
	}
	madvise->anon_only = madvise->advice == RMF_MADV_PAGEOUT && !madvise->owner &&
			     !(flags & RMF_VMA_ANON);
	if (madvise->anon_only && (flags & RMF_VMA_SHARED)) {
		madvise->vpn = madvise->run->pop.vma_end[vma];
		return false;
	}
	return true;
}

static uint64_t work_done(const struct rmf_run *run)
{
	return run->ev[RMF_MADVISE_ENTRIES] + run->ev[RMF_PAGES_SCANNED] + run->ev[RMF_WALK_CALLS] +
	       run->ev[RMF_RAW_PTE_LOADS];
}

bool rmf_madvise_step(struct rmf_madvise *madvise, uint64_t budget)
{
	struct rmf_run *run = madvise->run;
	const struct rmf_population *pop = &run->pop;
	const uint64_t size = pop->ptrs_per_pte, begun = work_done(run);

	while (madvise->vpn < madvise->end && !run->error) {
		uint64_t end, vma_end, table_end;
		uint32_t vma;

		if (work_done(run) - begun >= budget)
			return true;
		if (!find_vma(madvise, madvise->vpn, &vma) || pop->vma_start[vma] >= madvise->end) {
			madvise->gap = true;
			madvise->vpn = madvise->end;
			break;
		}
		if (pop->vma_start[vma] > madvise->vpn) {
			madvise->gap = true;
			madvise->vpn = pop->vma_start[vma];
		}
		if (!enter_vma(madvise, vma))
			continue;
		vma_end = pop->vma_end[vma];
		table_end = (madvise->vpn / size + 1) * size;
		end = vma_end < table_end ? vma_end : table_end;
		end = end < madvise->end ? end : madvise->end;
		walk_table(madvise, vma, madvise->vpn, end);
		madvise->vpn = end;
	}
	rmf_memo_settle(run);
	if (!madvise->ret && madvise->gap)
		madvise->ret = RMF_MADVISE_ENOMEM;
	return false;
}

int rmf_madvise_call(struct rmf_madvise *madvise, enum rmf_advice advice, uint32_t mm,
		     uint64_t start, uint64_t end, bool owner, struct rmf_fault *fault)
{
	if ((unsigned)advice >= RMF_NR_ADVICE)
		return rmf_fault_at(fault, "action", 0, "no such advice");
	if (mm >= madvise->run->pop.nr_mms)
		return rmf_fault_at(fault, "mm", 0, "no such mm");
	if (start > end || end > LIMIT)
		return rmf_fault_at(
			fault, "length", 0,
			"the range must not end before its start, nor above 2^52 pages");
	madvise->advice = advice;
	madvise->mm = mm;
	madvise->vpn = start;
	madvise->end = end;
	madvise->owner = owner;
	madvise->gap = false;
	madvise->ret = 0;
	rmf_count(madvise->run, RMF_MADVISE_CALLS, 1);
	return 0;
}

void rmf_madvise_free(struct rmf_madvise *madvise)
{
	free(madvise->on_lru);
	free(madvise->moved);
	rmf_pfn_index_free(&madvise->index);
	free(madvise->vmas);
	free(madvise->put_back);
	free(madvise->group);
	*madvise = (struct rmf_madvise){ 0 };
}

int rmf_madvise_start(struct rmf_madvise *madvise, struct rmf_run *run, uint32_t *inactive,
		      uint64_t nr_inactive, uint32_t *active, uint64_t nr_active,
		      struct rmf_fault *fault)
{
	const struct rmf_population *pop = &run->pop;
	const uint64_t capacity = pop->nr_folios < pop->folio_capacity ? pop->folio_capacity
								       : pop->nr_folios;
	int error;

	*madvise = (struct rmf_madvise){
		.run = run,
		.inactive = { .folios = inactive, .capacity = capacity, .n = nr_inactive },
		.active = { .folios = active, .capacity = capacity, .n = nr_active },
	};
	error = rmf_lru_check(pop, inactive, nr_inactive, active, nr_active, fault);
	if (error)
		return error;
	madvise->on_lru = calloc(capacity + 1, 1);
	madvise->moved = calloc(capacity + 1, 1);
	madvise->vmas = malloc((pop->nr_vmas + 1) * sizeof(*madvise->vmas));
	madvise->group = malloc(pop->ptrs_per_pte * sizeof(*madvise->group));
	if (!madvise->on_lru || !madvise->moved || !madvise->vmas || !madvise->group)
		return RMF_ENOMEM;
	if (!rmf_pfn_index_make(&madvise->index, run))
		return RMF_ENOMEM;
	for (uint64_t i = 0; i < nr_inactive; i++)
		madvise->on_lru[inactive[i]] = 1;
	for (uint64_t i = 0; i < nr_active; i++)
		madvise->on_lru[active[i]] = 1;
	for (uint32_t i = 0; i < pop->nr_vmas; i++)
		madvise->vmas[i] = (struct rmf_vma_place){ .start = pop->vma_start[i],
							   .mm = pop->vma_mm[i],
							   .vma = i };
	qsort(madvise->vmas, pop->nr_vmas, sizeof(*madvise->vmas), compare_vmas);
	return 0;
}
