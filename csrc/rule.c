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
	YOUNG_DIRTY = RMF_RULE_PTE_YOUNG | RMF_RULE_PTE_DIRTY,
	PTE_FLAGS = RMF_RULE_PTE_WRITE | RMF_RULE_PTE_SOFT_DIRTY | RMF_RULE_PTE_UFFD_WP |
		    RMF_RULE_PTE_UNUSED | RMF_RULE_PTE_PROT,
	RESPECT_FLAGS = RMF_RULE_RESPECT_DIRTY | RMF_RULE_RESPECT_SOFT_DIRTY |
			RMF_RULE_RESPECT_WRITE,
};

/* What the functions that a rule may call need. */
struct behind {
	struct rmf_run *run;
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
	if (flags & RMF_RULE_RESPECT_DIRTY)
		behind->run->rule_saw |= RMF_RULE_SAW_BITS;
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

static uint32_t young_dirty(const struct rmf_rule_call *call)
{
	const struct behind *behind = call->behind;

	behind->run->rule_saw |= RMF_RULE_SAW_BITS;
	return (uint32_t)behind->pte & YOUNG_DIRTY;
}

static void place(const struct rmf_rule_call *call, struct rmf_rule_place *place)
{
	const struct behind *behind = call->behind;
	const struct rmf_slots *slots = &behind->walk->slots;
	const uint64_t vpn = behind->walk->vpn;
	const uint32_t in_table = (uint32_t)(vpn & slots->table_mask);

	behind->run->rule_saw |= RMF_RULE_SAW_PLACE;
	*place = (struct rmf_rule_place){
		.vma_before = vpn - slots->vma_start,
		.vma_left = slots->vma_end - vpn,
		.table_before = in_table,
		.table_left = (uint32_t)slots->table_mask + 1 - in_table,
	};
}

static uint32_t kind_of(uint32_t folio_flags)
{
	bool swapbacked = folio_flags & RMF_FOLIO_SWAPBACKED;

	if (folio_flags & RMF_FOLIO_ANON)
		return swapbacked ? RMF_RULE_ANON : RMF_RULE_LAZYFREE;
	return swapbacked ? RMF_RULE_SHMEM : RMF_RULE_FILE;
}

/* Whether entries that differ at most in young and dirty lie on both sides of a batch's end. If so,
 * the places of these bits matter, and not only their numbers (counted.h). */
static bool ends_inside_run(const struct rmf_slots *slots, uint64_t vpn, uint64_t nr)
{
	rmf_pte last, next;

	if (nr >= rmf_slots_room(slots, vpn))
		return true;
	last = *rmf_slots_at(slots, vpn + nr - 1);
	next = *rmf_slots_at(slots, vpn + nr);
	return last && next && !((last ^ next) & (RMF_PTE_WRITE | RMF_PTE_SOFT_DIRTY));
}

/* Ask a rule, which must return from 1 to `most`. */
static uint64_t ask(struct rmf_run *run, rmf_rule *rule, const struct rmf_walk *walk,
		    const struct rmf_pages *pages, rmf_pte pte, bool hwpoison, bool young)
{
	const struct rmf_slots *slots = &walk->slots;
	const uint32_t page = (uint32_t)(rmf_pte_pfn(pte) - walk->folio_pfn),
		       flags = run->pop.folio_flags[pages->folio],
		       left = (uint32_t)walk->nr_pages - page;
	const uint64_t to_border = rmf_slots_room(slots, walk->vpn);
	const uint32_t room = to_border < left ? (uint32_t)to_border : left;
	const struct behind behind = { run, walk, pages, pte };
	const struct rmf_rule_call call = {
		.folio_nr_pages = (uint32_t)walk->nr_pages,
		.folio_kind = kind_of(flags),
		.folio_flags = flags & FOLIO_FLAGS,
		.folio_mapcount = run->pop.folio_mapcount[pages->folio],
		.page = page,
		.pte = (uint32_t)pte & PTE_FLAGS,
		.vma_flags = run->pop.vma_flags[walk->vma],
		.hwpoison = hwpoison,
		.folio_left = left,
		.room = room,
		.folio_pte_batch = folio_pte_batch,
		.exclusive_batch = exclusive_batch,
		.young_dirty = young_dirty,
		.place = place,
		.behind = &behind,
	};
	struct rmf_bad_rule bad = {
		.folio = pages->folio, .vpn = walk->vpn, .most = young ? room : left, .young = young
	};

	if (run->error)
		return 1;
	bad.nr = rule(&call);
	bad.again = run->ask_twice ? rule(&call) : bad.nr;
	if (bad.nr - 1 < bad.most && bad.again == bad.nr) {
		if (bad.nr < left && ends_inside_run(slots, walk->vpn, bad.nr))
			run->rule_saw |= RMF_RULE_SAW_BITS;
		return bad.nr;
	}
	run->error = RMF_RUN_BAD_RULE;
	run->bad_rule = bad;
	return 1;
}

uint64_t rmf_rule_unmap_batch(struct rmf_run *run, const struct rmf_walk *walk,
			      const struct rmf_pages *pages, rmf_pte pte, bool hwpoison)
{
	return ask(run, run->policy.rule, walk, pages, pte, hwpoison, false);
}

uint64_t rmf_rule_young_batch(struct rmf_run *run, const struct rmf_walk *walk, uint64_t folio,
			      rmf_pte pte)
{
	struct rmf_pages pages;

	rmf_pages_open(&pages, run, folio);
	return ask(run, run->policy.young_rule, walk, &pages, pte, false, true);
}
