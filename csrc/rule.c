#include "rule.h"

#include "folio_batch.h"

/* What a rule sees has the numbers that the model has, so that nothing is translated at run time.
 */
_Static_assert((int)RMF_RULE_FOLIO_SWAPCACHE == (int)RMF_FOLIO_SWAPCACHE &&
		       (int)RMF_RULE_FOLIO_DIRTY == (int)RMF_FOLIO_DIRTY &&
		       (int)RMF_RULE_FOLIO_MLOCKED == (int)RMF_FOLIO_MLOCKED &&
		       (int)RMF_RULE_FOLIO_REFERENCED == (int)RMF_FOLIO_REFERENCED &&
		       (int)RMF_RULE_FOLIO_ACTIVE == (int)RMF_FOLIO_ACTIVE &&
		       (int)RMF_RULE_FOLIO_PINNED == (int)RMF_FOLIO_PINNED &&
		       (int)RMF_RULE_FOLIO_PARTIALLY_MAPPED == (int)RMF_FOLIO_PARTIALLY_MAPPED &&
		       (int)RMF_RULE_FOLIO_MAYBE_SHARED == (int)RMF_FOLIO_MAYBE_SHARED,
	       "folio_flags");
_Static_assert((int)RMF_RULE_VMA_LOCKED == (int)RMF_VMA_LOCKED &&
		       (int)RMF_RULE_VMA_UFFD_WP == (int)RMF_VMA_UFFD_WP &&
		       (int)RMF_RULE_VMA_UFFD_ARMED == (int)RMF_VMA_UFFD_ARMED &&
		       (int)RMF_RULE_VMA_DROPPABLE == (int)RMF_VMA_DROPPABLE &&
		       (int)RMF_RULE_VMA_EXEC == (int)RMF_VMA_EXEC &&
		       (int)RMF_RULE_VMA_SHARED == (int)RMF_VMA_SHARED &&
		       (int)RMF_RULE_VMA_ANON == (int)RMF_VMA_ANON,
	       "vma_flags");
_Static_assert((int)RMF_RULE_PTE_WRITE == (int)RMF_PTE_WRITE &&
		       (int)RMF_RULE_PTE_YOUNG == (int)RMF_PTE_YOUNG &&
		       (int)RMF_RULE_PTE_DIRTY == (int)RMF_PTE_DIRTY &&
		       (int)RMF_RULE_PTE_SOFT_DIRTY == (int)RMF_PTE_SOFT_DIRTY &&
		       (int)RMF_RULE_PTE_UFFD_WP == (int)RMF_PTE_UFFD_WP &&
		       (int)RMF_RULE_PTE_UNUSED == (int)RMF_PTE_UNUSED &&
		       (int)RMF_RULE_PTE_PROT == (int)RMF_PTE_PROT,
	       "pte");
_Static_assert((int)RMF_RULE_RESPECT_DIRTY == (int)RMF_FPB_RESPECT_DIRTY &&
		       (int)RMF_RULE_RESPECT_SOFT_DIRTY == (int)RMF_FPB_RESPECT_SOFT_DIRTY &&
		       (int)RMF_RULE_RESPECT_WRITE == (int)RMF_FPB_RESPECT_WRITE,
	       "flags of folio_pte_batch()");

enum {
	FOLIO_FLAGS = RMF_RULE_FOLIO_SWAPCACHE | RMF_RULE_FOLIO_DIRTY | RMF_RULE_FOLIO_MLOCKED |
		      RMF_RULE_FOLIO_REFERENCED | RMF_RULE_FOLIO_ACTIVE | RMF_RULE_FOLIO_PINNED |
		      RMF_RULE_FOLIO_PARTIALLY_MAPPED | RMF_RULE_FOLIO_MAYBE_SHARED,
	PTE_FLAGS = RMF_RULE_PTE_WRITE | RMF_RULE_PTE_YOUNG | RMF_RULE_PTE_DIRTY |
		    RMF_RULE_PTE_SOFT_DIRTY | RMF_RULE_PTE_UFFD_WP | RMF_RULE_PTE_UNUSED |
		    RMF_RULE_PTE_PROT,
	RESPECT_FLAGS = RMF_RULE_RESPECT_DIRTY | RMF_RULE_RESPECT_SOFT_DIRTY |
			RMF_RULE_RESPECT_WRITE,
};

/* What the functions that a rule may call need. */
struct behind {
	const struct rmf_walk *walk;
	const struct rmf_pages *pages;
	rmf_pte pte;
};

/* Models folio_pte_batch(), mm/util.c, Linux v7.0, with the flags of its longer form. */
static uint32_t folio_pte_batch(const struct rmf_rule_call *call, uint32_t max_nr, uint32_t flags)
{
	const struct behind *behind = call->behind;
	const struct rmf_walk *walk = behind->walk;
	rmf_pte pte = behind->pte;

	if (!max_nr)
		return 0;
	return (uint32_t)rmf_folio_pte_batch_flags(&walk->slots, walk->vpn, &pte, max_nr,
						   walk->folio_pfn, walk->nr_pages,
						   flags & RESPECT_FLAGS, NULL);
}

static uint32_t exclusive_batch(const struct rmf_rule_call *call, uint32_t nr)
{
	const struct behind *behind = call->behind;

	if (nr > call->folio_left)
		nr = call->folio_left;
	return nr ? (uint32_t)rmf_anon_exclusive_batch(behind->pages, call->page, nr) : 0;
}

static uint32_t kind_of(uint32_t folio_flags)
{
	bool swapbacked = folio_flags & RMF_FOLIO_SWAPBACKED;

	if (folio_flags & RMF_FOLIO_ANON)
		return swapbacked ? RMF_RULE_ANON : RMF_RULE_LAZYFREE;
	return swapbacked ? RMF_RULE_SHMEM : RMF_RULE_FILE;
}

uint64_t rmf_rule_unmap_batch(struct rmf_run *run, const struct rmf_walk *walk,
			      const struct rmf_pages *pages, rmf_pte pte, bool hwpoison)
{
	const struct rmf_slots *slots = &walk->slots;
	const uint32_t page = (uint32_t)(rmf_pte_pfn(pte) - walk->folio_pfn),
		       flags = run->pop.folio_flags[pages->folio],
		       table_before = (uint32_t)(walk->vpn & slots->table_mask),
		       left = (uint32_t)walk->nr_pages - page;
	const uint64_t room = rmf_slots_room(slots, walk->vpn);
	const struct behind behind = { walk, pages, pte };
	const struct rmf_rule_call call = {
		.folio_nr_pages = (uint32_t)walk->nr_pages,
		.folio_kind = kind_of(flags),
		.folio_flags = flags & FOLIO_FLAGS,
		.folio_mapcount = run->pop.folio_mapcount[pages->folio],
		.page = page,
		.pte = (uint32_t)pte & PTE_FLAGS,
		.vma_flags = run->pop.vma_flags[walk->vma],
		.hwpoison = hwpoison,
		.vma_before = walk->vpn - slots->vma_start,
		.vma_left = slots->vma_end - walk->vpn,
		.table_before = table_before,
		.table_left = (uint32_t)slots->table_mask + 1 - table_before,
		.folio_left = left,
		.room = room < left ? (uint32_t)room : left,
		.folio_pte_batch = folio_pte_batch,
		.exclusive_batch = exclusive_batch,
		.behind = &behind,
	};
	uint32_t nr;

	if (run->error)
		return 1;
	nr = run->policy.rule(&call);
	if (nr - 1 < left)
		return nr;
	run->error = RMF_RUN_BAD_RULE;
	run->bad_rule = (struct rmf_bad_rule){ pages->folio, walk->vpn, nr, left };
	return 1;
}
