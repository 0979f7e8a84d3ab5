#include "unmap.h"

#include "contpte.h"
#include "entries.h"
#include "folio.h"
#include "folio_batch.h"
#include "rule.h"
#include "tlb.h"
#include "walk.h"

/* Steps such as S5 are those of docs/kernel-rules.md, section 2.4.
 *
 * One call of try_to_unmap_one() and, in it, one step at PTE level. */
struct unmap {
	struct rmf_run *run;
	struct rmf_walk walk;
	struct rmf_pages pages;
	uint64_t folio;
	uint32_t vma;
	uint32_t vma_flags;
	uint32_t mm;
	uint32_t ttu;
	uint64_t nr; /* nr_pages of the kernel; see policy.nr_reset */
	uint64_t page; /* number of the page in the folio that the entry maps */
	rmf_pte pteval; /* what the clear returned */
};

static uint32_t *folio_flags(const struct unmap *unmap)
{
	return &unmap->run->pop.folio_flags[unmap->folio];
}

static bool is_anon(const struct unmap *unmap)
{
	return *folio_flags(unmap) & RMF_FOLIO_ANON;
}

static bool is_swapbacked(const struct unmap *unmap)
{
	return *folio_flags(unmap) & RMF_FOLIO_SWAPBACKED;
}

/* Models add_mm_counter(), include/linux/mm.h, Linux v7.0. */
static void add_mm_counter(const struct unmap *unmap, enum rmf_mm_counter counter, int64_t nr)
{
	rmf_count(unmap->run, RMF_RSS_UPDATES, 1);
	unmap->run->pop.mm_rss[(uint64_t)unmap->mm * RMF_NR_MM_COUNTERS + counter] += nr;
}

/* Models mm_counter(), include/linux/mm.h, Linux v7.0. */
static enum rmf_mm_counter mm_counter(const struct unmap *unmap)
{
	if (is_anon(unmap))
		return RMF_MM_ANONPAGES;
	return is_swapbacked(unmap) ? RMF_MM_SHMEMPAGES : RMF_MM_FILEPAGES;
}

/* Models folio_put_refs(), include/linux/mm.h, Linux v7.0. */
static void folio_put_refs(const struct unmap *unmap, uint64_t nr)
{
	rmf_count(unmap->run, RMF_REF_PUTS, 1);
	unmap->run->pop.folio_refcount[unmap->folio] -= (int32_t)nr;
}

/* How many of nr slots from vpn on lie in the table and in the VMA. */
static uint64_t nr_inside(const struct rmf_slots *slots, uint64_t vpn, uint64_t nr)
{
	const uint64_t room = rmf_slots_room(slots, vpn);

	return nr < room ? nr : room;
}

/* Models set_pte_at() and set_ptes(), include/linux/pgtable.h, Linux v7.0: nr entries from `value`
 * on, wherever the pointer of the step reaches. */
static void set_ptes(const struct unmap *unmap, rmf_pte value, uint64_t nr)
{
	const struct rmf_slots *slots = &unmap->walk.slots;
	const uint64_t vpn = unmap->walk.vpn, inside = nr_inside(slots, vpn, nr);

	rmf_count(unmap->run, RMF_PTES_SET, nr);
	rmf_entries_set(rmf_slots_at(slots, vpn), inside, value);
	for (uint64_t i = inside; i < nr; i++)
		if (rmf_slots_reach(slots, vpn, vpn + i, RMF_OOB_WRITES, RMF_VMA_OVERRUN_WRITES) ==
		    RMF_REACH_SLOT)
			*rmf_slots_at(slots, vpn + i) = rmf_pte_advance(value, i);
}

/* Put back what the step cleared: the first entry, and its successors. */
static void restore_ptes(const struct unmap *unmap)
{
	set_ptes(unmap, unmap->pteval, unmap->nr);
	rmf_contpte_fold(&unmap->walk.slots, unmap->walk.vpn, unmap->nr, unmap->walk.folio_pfn,
			 unmap->walk.nr_pages);
}

/* Models get_and_clear_ptes(), include/linux/pgtable.h, Linux v7.0. Returns the first entry, with
 * young and dirty of the later ones. */
static rmf_pte get_and_clear_ptes(const struct unmap *unmap, uint64_t nr)
{
	const struct rmf_slots *slots = &unmap->walk.slots;
	const uint64_t vpn = unmap->walk.vpn, inside = nr_inside(slots, vpn, nr);
	rmf_pte first, later, behind = 0;

	if (inside < nr) /* the entries behind the table continue its last one, so they have its
			   bits */
		behind = rmf_slots_guard(slots, vpn, (vpn | slots->table_mask) + 1);
	rmf_contpte_unfold_edges(slots, vpn, nr);
	first = *rmf_slots_at(slots, vpn);
	*rmf_slots_at(slots, vpn) = 0;
	rmf_count(unmap->run, RMF_PTES_CLEARED, nr);
	later = rmf_entries_clear(rmf_slots_at(slots, vpn) + 1, inside - 1);
	for (uint64_t i = inside; i < nr; i++) {
		enum rmf_reach reach = rmf_slots_reach(slots, vpn, vpn + i, RMF_OOB_WRITES,
						       RMF_VMA_OVERRUN_WRITES);

		if (reach == RMF_REACH_SLOT) {
			later |= *rmf_slots_at(slots, vpn + i);
			*rmf_slots_at(slots, vpn + i) = 0;
		} else if (reach == RMF_REACH_BEYOND) {
			later |= behind;
		}
	}
	first |= later & RMF_PTE_YOUNG;
	return later & RMF_PTE_DIRTY ? rmf_pte_mkdirty(&unmap->run->arch, first) : first;
}

static bool policy_batches(const struct unmap *unmap)
{
	const struct rmf_policy *policy = &unmap->run->policy;

	if (!is_anon(unmap))
		return policy->file;
	return is_swapbacked(unmap) ? policy->anon_swap : policy->lazyfree;
}

/* Models folio_unmap_pte_batch(), mm/rmap.c, Linux v7.0 (a67fe41e214f), and
 * can_batch_unmap_folio_ptes() of v6.15 (354dffd29575). */
static uint64_t folio_unmap_pte_batch(const struct unmap *unmap, rmf_pte pte)
{
	const struct rmf_policy *policy = &unmap->run->policy;
	uint64_t folio_nr = unmap->walk.nr_pages, max_nr = folio_nr, nr;

	if (policy->rule)
		return rmf_rule_unmap_batch(unmap->run, &unmap->walk, &unmap->pages, pte,
					    unmap->ttu & RMF_TTU_HWPOISON);
	if (unmap->ttu & RMF_TTU_HWPOISON || folio_nr == 1 || !policy_batches(unmap) ||
	    (pte & RMF_PTE_UNUSED))
		return 1;
	if (policy->uffd_wp == RMF_UFFD_PER_PAGE && (unmap->vma_flags & RMF_VMA_UFFD_WP))
		return 1;
	if (policy->all_or_nothing && unmap->page != 0)
		return 1;
	if (policy->clip)
		max_nr = rmf_slots_room(&unmap->walk.slots, unmap->walk.vpn);
	nr = rmf_folio_pte_batch_flags(&unmap->walk.slots, unmap->walk.vpn, &pte, max_nr,
				       unmap->walk.folio_pfn, folio_nr, policy->respect, NULL);
	if (policy->all_or_nothing && nr != folio_nr)
		return 1;
	/* a batch that is swapped out must have pages that are all anon-exclusive, or all not */
	if (is_anon(unmap) && is_swapbacked(unmap))
		nr = rmf_anon_exclusive_batch(&unmap->pages, unmap->page, nr);
	return nr;
}

/* S5: clear the entry, or the batch that begins with it. */
static void clear_entries(struct unmap *unmap, rmf_pte pte)
{
	struct rmf_run *run = unmap->run;
	uint64_t cleared = 1;

	if (rmf_pte_present(pte)) {
		unmap->nr = folio_unmap_pte_batch(unmap, pte);
		cleared = unmap->nr;
		unmap->pteval = get_and_clear_ptes(unmap, cleared);
		rmf_tlb_flush_cleared(run, unmap->mm, unmap->ttu & RMF_TTU_BATCH_FLUSH,
				      unmap->pteval, unmap->walk.vpn, cleared);
		rmf_trace_add(run, RMF_TRACE_STEP, unmap->walk.vpn, (int64_t)unmap->nr);
		if (unmap->pteval & RMF_PTE_DIRTY) {
			*folio_flags(unmap) |= RMF_FOLIO_DIRTY;
			rmf_count(run, RMF_FOLIOS_DIRTIED, 1);
		}
	} else {
		/* There is no batch here. With a stale nr, all steps below count nr pages for one
		 * cleared entry (bug 4). */
		unmap->pteval = pte;
		*rmf_slots_at(&unmap->walk.slots, unmap->walk.vpn) = 0;
		rmf_count(run, RMF_PTES_CLEARED, 1);
		rmf_trace_add(run, RMF_TRACE_STEP_NONPRESENT, unmap->walk.vpn, (int64_t)unmap->nr);
	}
	rmf_count(run, RMF_BATCHES, 1);
	rmf_count(run, RMF_BATCHED_PAGES, cleared);
	run->batch_lengths[cleared]++;
}

/* S6. Models pte_install_uffd_wp_if_needed(), include/linux/mm_inline.h, Linux v7.0, and
 * install_uffd_wp_ptes_if_needed(), Linux v7.3. */
static void install_uffd_wp(const struct unmap *unmap)
{
	uint64_t nr = unmap->run->policy.uffd_wp == RMF_UFFD_WHOLE_BATCH ? unmap->nr : 1;

	if ((unmap->vma_flags & RMF_VMA_ANON) || !(unmap->vma_flags & RMF_VMA_UFFD_WP) ||
	    !(unmap->pteval & RMF_PTE_UFFD_WP))
		return;
	rmf_count(unmap->run, RMF_MARKERS_SET, nr);
	rmf_count(unmap->run, RMF_PTES_SET, nr);
	for (uint64_t i = 0; i < nr; i++)
		if (rmf_slots_reach(&unmap->walk.slots, unmap->walk.vpn, unmap->walk.vpn + i,
				    RMF_OOB_WRITES, RMF_VMA_OVERRUN_WRITES) == RMF_REACH_SLOT)
			*rmf_slots_at(&unmap->walk.slots, unmap->walk.vpn + i) = rmf_mk_marker();
}

/* 8a: the call has TTU_HWPOISON and the page (from v7.3 on: page 0) is poisoned. */
static bool is_poisoned(const struct unmap *unmap)
{
	uint64_t page = unmap->run->policy.hwpoison_page0 ? 0 : unmap->page;

	return (unmap->ttu & RMF_TTU_HWPOISON) &&
	       (rmf_pages_flags(&unmap->pages, page) & RMF_PAGE_HWPOISON);
}

/* Whether a lazyfree folio can be discarded, and why not. */
enum discard { DISCARD_OK, DISCARD_DIRTY, DISCARD_REFERENCED };

static enum discard lazyfree_discard(const struct unmap *unmap)
{
	const struct rmf_population *pop = &unmap->run->pop;

	if ((*folio_flags(unmap) & RMF_FOLIO_DIRTY) && !(unmap->vma_flags & RMF_VMA_DROPPABLE))
		return DISCARD_DIRTY;
	if (pop->folio_refcount[unmap->folio] != 1 + pop->folio_mapcount[unmap->folio])
		return DISCARD_REFERENCED;
	return DISCARD_OK;
}

/* Make the folio swapbacked again after a failed discard: only a dirty one; up to v6.14 any (bug
 * 7). */
static void lazyfree_failed(const struct unmap *unmap, enum discard why)
{
	bool swapbacked = unmap->run->policy.failure_swapbacked
				  ? !(unmap->vma_flags & RMF_VMA_DROPPABLE)
				  : why == DISCARD_DIRTY;

	if (swapbacked)
		*folio_flags(unmap) |= RMF_FOLIO_SWAPBACKED;
}

/* 8c for a lazyfree folio: discard the pages, or put their entries back. */
static bool unmap_lazyfree(const struct unmap *unmap)
{
	enum discard discard = lazyfree_discard(unmap);

	if (discard == DISCARD_OK) {
		add_mm_counter(unmap, RMF_MM_ANONPAGES, -(int64_t)unmap->nr);
		return true;
	}
	restore_ptes(unmap);
	lazyfree_failed(unmap, discard);
	return false;
}

/* Models folio_dup_swap(), mm/swapfile.c, Linux v7.0, for the pages of the step. */
static bool folio_dup_swap(const struct unmap *unmap)
{
	rmf_count(unmap->run, RMF_SWAP_DUPS, 1);
	for (uint64_t i = 0; i < unmap->nr; i++)
		if (rmf_pages_flags(&unmap->pages, unmap->page + i) & RMF_PAGE_SWAP_DUP_FAIL)
			return false;
	return true;
}

/* 8c for a folio in the swap cache: swap entries take the place of the cleared ones. */
static bool unmap_swapbacked(struct unmap *unmap)
{
	struct rmf_population *pop = &unmap->run->pop;
	bool exclusive = rmf_pages_flags(&unmap->pages, unmap->page) & RMF_PAGE_EXCLUSIVE;
	rmf_pte flags = unmap->pteval & (RMF_PTE_SOFT_DIRTY | RMF_PTE_UFFD_WP);

	if (!folio_dup_swap(unmap)) {
		restore_ptes(unmap);
		return false;
	}
	if (exclusive && (*folio_flags(unmap) & RMF_FOLIO_PINNED)) {
		rmf_count(unmap->run, RMF_SWAP_PUTS, 1);
		restore_ptes(unmap);
		return false;
	}
	for (uint64_t i = 0; i < unmap->nr; i++)
		rmf_pages_clear_flag(&unmap->pages, unmap->page + i, RMF_PAGE_EXCLUSIVE);
	add_mm_counter(unmap, RMF_MM_ANONPAGES, -(int64_t)unmap->nr);
	add_mm_counter(unmap, RMF_MM_SWAPENTS, (int64_t)unmap->nr);
	if (exclusive)
		flags |= RMF_PTE_EXCLUSIVE;
	set_ptes(unmap,
		 rmf_mk_nonpresent(RMF_KIND_SWAP, pop->folio_swap[unmap->folio] + unmap->page,
				   flags),
		 unmap->nr);
	return true;
}

/* 8c: an anonymous folio. Returns false if the call aborts. */
static bool unmap_anon(struct unmap *unmap)
{
	bool swapcache = *folio_flags(unmap) & RMF_FOLIO_SWAPCACHE;

	if (is_swapbacked(unmap) != swapcache) {
		rmf_count(unmap->run, RMF_WARNS, 1);
		if (unmap->run->policy.mismatch_restores)
			restore_ptes(unmap);
		return false;
	}
	return swapcache ? unmap_swapbacked(unmap) : unmap_lazyfree(unmap);
}

/* S8: account for the cleared entries, and write another entry in their place if the kind of page
 * needs one. Returns false if the call aborts. */
static bool account(struct unmap *unmap)
{
	bool batches;

	if (is_poisoned(unmap)) {
		add_mm_counter(unmap, mm_counter(unmap), -1);
		set_ptes(unmap,
			 rmf_mk_nonpresent(RMF_KIND_HWPOISON, unmap->walk.folio_pfn + unmap->page,
					   0),
			 1);
		return true;
	}
	if (rmf_pte_present(unmap->pteval) && (unmap->pteval & RMF_PTE_UNUSED) &&
	    !(unmap->vma_flags & (RMF_VMA_UFFD_WP | RMF_VMA_UFFD_ARMED))) {
		add_mm_counter(unmap, mm_counter(unmap), -1);
		return true;
	}
	if (is_anon(unmap))
		return unmap_anon(unmap);
	batches = unmap->run->policy.file || unmap->run->policy.rule;
	add_mm_counter(unmap, mm_counter(unmap), batches ? -(int64_t)unmap->nr : -1);
	return true;
}

/* Whether the walk ends after a successful step. */
static bool is_last_step(const struct unmap *unmap)
{
	switch (unmap->run->policy.walk_done) {
	case RMF_DONE_NEVER:
		return false;
	case RMF_DONE_BATCHED:
		return unmap->nr > 1;
	case RMF_DONE_WHOLE:
		break;
	}
	return unmap->nr == unmap->walk.nr_pages;
}

/* One step at PTE level, S4 to S9. Returns false if the call aborts. *done says that the walk has
 * nothing left to find. */
static bool unmap_entries(struct unmap *unmap, bool *done)
{
	rmf_pte pte;

	rmf_count(unmap->run, RMF_ENTRY_PTE_READS, 1);
	pte = rmf_ptep_get(&unmap->walk.slots, unmap->walk.vpn);
	unmap->page = rmf_pte_pfn(pte) - unmap->walk.folio_pfn;
	if (unmap->page >= unmap->walk.nr_pages) { /* the entry was changed since the walk read it
						    */
		*done = true;
		return true;
	}
	clear_entries(unmap, pte);
	install_uffd_wp(unmap);
	if (!account(unmap))
		return false;
	rmf_folio_remove_rmap_ptes(&unmap->pages, unmap->page, unmap->nr);
	rmf_munlock_vma_folio(unmap->run, unmap->folio, unmap->vma);
	folio_put_refs(unmap, unmap->nr);
	*done = is_last_step(unmap);
	if (!*done && unmap->run->policy.skip_batch)
		rmf_walk_skip(&unmap->walk, unmap->nr - 1);
	return true;
}

static void clear_pmd(const struct unmap *unmap, uint64_t table)
{
	for (uint64_t i = 0; i <= unmap->walk.slots.table_mask; i++)
		*rmf_slots_at(&unmap->walk.slots, table + i) = 0;
	*rmf_walk_table_state(&unmap->walk) = RMF_TABLE_ABSENT;
}

static void discard_pmd(struct unmap *unmap)
{
	add_mm_counter(unmap, mm_counter(unmap), -(int64_t)unmap->walk.slots.table_mask - 1);
	rmf_folio_remove_rmap_pmd(&unmap->pages);
	rmf_munlock_vma_folio(unmap->run, unmap->folio, unmap->vma);
	folio_put_refs(unmap, 1);
}

/* Models unmap_huge_pmd_locked(), mm/huge_memory.c, Linux v7.0. A lazyfree folio is discarded whole
 * or not at all. */
static bool unmap_lazyfree_pmd(struct unmap *unmap, uint64_t table, rmf_pte pmd)
{
	enum discard discard;

	rmf_count(unmap->run, RMF_PMDS_CLEARED, 1);
	rmf_tlb_flush_range(unmap->run, unmap->mm, table, unmap->walk.slots.table_mask + 1);
	if (pmd & RMF_PTE_DIRTY) {
		*folio_flags(unmap) |= RMF_FOLIO_DIRTY;
		rmf_count(unmap->run, RMF_FOLIOS_DIRTIED, 1);
	}
	discard = lazyfree_discard(unmap);
	if (discard != DISCARD_OK) {
		lazyfree_failed(unmap, discard);
		return false;
	}
	clear_pmd(unmap, table);
	discard_pmd(unmap);
	return true;
}

/* Models split_huge_pmd_locked(), mm/huge_memory.c, Linux v7.0. An anonymous leaf becomes a page
 * table; a file leaf is dropped. */
static void split_pmd(struct unmap *unmap, uint64_t table, rmf_pte pmd)
{
	struct rmf_population *pop = &unmap->run->pop;
	const struct rmf_slots *slots = &unmap->walk.slots;
	const uint64_t nr = slots->table_mask + 1, pfn = rmf_pte_pfn(pmd),
		       folio_pfn = unmap->walk.folio_pfn,
		       folio_end = folio_pfn + unmap->walk.nr_pages;
	uint64_t first, end; /* the pages of the folio that the leaf maps */

	rmf_count(unmap->run, RMF_PMD_SPLITS, 1);
	rmf_tlb_flush_range(unmap->run, unmap->mm, table, nr);
	if (!is_anon(unmap)) {
		if (pmd & RMF_PTE_DIRTY) {
			*folio_flags(unmap) |= RMF_FOLIO_DIRTY;
			rmf_count(unmap->run, RMF_FOLIOS_DIRTIED, 1);
		}
		rmf_count(unmap->run, RMF_PMDS_CLEARED, 1);
		clear_pmd(unmap, table);
		discard_pmd(unmap);
		return;
	}
	for (uint64_t i = 0; i < nr; i++)
		*rmf_slots_at(slots, table + i) = rmf_pte_advance(pmd, i);
	rmf_contpte_fold(slots, table, nr, unmap->walk.folio_pfn, unmap->walk.nr_pages);
	*rmf_walk_table_state(&unmap->walk) = RMF_TABLE_PTE;
	first = pfn > folio_pfn ? pfn : folio_pfn;
	end = pfn + nr < folio_end ? pfn + nr : folio_end;
	if (end < first) /* the leaf was changed since the walk read it, and maps no page */
		end = first;
	pop->folio_refcount[unmap->folio] += (int32_t)(end - first) - 1;
	rmf_folio_split_rmap_pmd(&unmap->pages, first - folio_pfn, end - first);
}

/* S3: the walk yielded a PMD leaf. Returns false if the call ends with *ret. */
static bool unmap_pmd(struct unmap *unmap, bool *ret)
{
	uint64_t table = rmf_walk_table_start(&unmap->walk);
	rmf_pte pmd = *rmf_slots_at(&unmap->walk.slots, table);
	bool splits = unmap->run->policy.riscv_lazyfree_split &&
		      unmap->run->arch.tlb == RMF_TLB_RISCV;

	if (is_anon(unmap) && !is_swapbacked(unmap) && !splits) {
		*ret = unmap_lazyfree_pmd(unmap, table, pmd);
		return false;
	}
	if (!(unmap->ttu & RMF_TTU_SPLIT_HUGE_PMD) || !rmf_pte_present(pmd)) {
		rmf_count(unmap->run, RMF_WARNS, 1);
		*ret = false;
		return false;
	}
	split_pmd(unmap, table, pmd);
	unmap->ttu &= ~(uint32_t)RMF_TTU_SPLIT_HUGE_PMD;
	rmf_walk_restart(&unmap->walk);
	return true;
}

/* S2: a yield in a locked VMA. Returns false if the walk ends. */
static bool restore_mlock(const struct unmap *unmap, uint64_t ptes)
{
	const struct rmf_walk *walk = &unmap->walk;

	if (unmap->run->policy.mlock_at_once) {
		if (walk->pmd || walk->nr_pages == 1)
			rmf_mlock_vma_folio(unmap->run, unmap->folio);
		return false;
	}
	if (!walk->pmd && ptes != walk->nr_pages)
		return true;
	if (walk->pmd || !walk->crossed)
		rmf_mlock_vma_folio(unmap->run, unmap->folio);
	return false;
}

bool rmf_try_to_unmap_one(struct rmf_run *run, uint64_t folio, uint32_t vma, uint32_t ttu)
{
	const struct rmf_population *pop = &run->pop;
	uint32_t vma_flags = pop->vma_flags[vma];
	bool ret = true, done = false;
	struct unmap unmap; /* set field by field: clearing it all costs as much as a step */
	uint64_t ptes = 0;

	if (!rmf_walk_start(&unmap.walk, run, folio, vma, ttu & RMF_TTU_SYNC ? RMF_PVMW_SYNC : 0))
		return true;
	rmf_count(run, RMF_UNMAP_CALLS, 1);
	rmf_count(run, RMF_NOTIFIER_RANGES, 1);
	rmf_trace_add(run, RMF_TRACE_NOTIFIER, unmap.walk.vpn, (int64_t)unmap.walk.end);
	unmap.run = run;
	unmap.folio = folio;
	unmap.vma = vma;
	unmap.vma_flags = vma_flags;
	unmap.mm = pop->vma_mm[vma];
	unmap.ttu = ttu;
	unmap.nr = 1;
	rmf_pages_open(&unmap.pages, run, folio);
	while (!done && rmf_page_vma_mapped_walk(&unmap.walk)) {
		if (run->policy.nr_reset)
			unmap.nr = 1;
		if (!(ttu & RMF_TTU_IGNORE_MLOCK) && (vma_flags & RMF_VMA_LOCKED)) {
			ret = false;
			done = !restore_mlock(&unmap, ++ptes);
		} else if (unmap.walk.pmd) {
			done = !unmap_pmd(&unmap, &ret);
		} else if (!unmap_entries(&unmap, &done)) {
			ret = false;
			done = true;
		}
	}
	rmf_pages_close(&unmap.pages);
	return ret;
}
