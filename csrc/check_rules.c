#include "check_rules.h"

#include <string.h>

#include "folio_batch.h"
#include "unmap.h"

/* Steps such as S5 are those of docs/kernel-rules.md, section 2.4. Slots are numbered from the
 * first of the two tables on. */

const enum rmf_event rmf_expected_events[RMF_EXPECT_NR_EVENTS] = {
	[RMF_EXPECT_MLOCKS] = RMF_MLOCK_CALLS,
	[RMF_EXPECT_MUNLOCKS] = RMF_MUNLOCK_CALLS,
	[RMF_EXPECT_MARKERS] = RMF_MARKERS_SET,
	[RMF_EXPECT_DIRTIED] = RMF_FOLIOS_DIRTIED,
	[RMF_EXPECT_SWAP_DUPS] = RMF_SWAP_DUPS,
	[RMF_EXPECT_SWAP_PUTS] = RMF_SWAP_PUTS,
	[RMF_EXPECT_RMAP_REMOVALS] = RMF_RMAP_REMOVE_CALLS,
	[RMF_EXPECT_REF_PUTS] = RMF_REF_PUTS,
	[RMF_EXPECT_SPLITS_ASKED] = RMF_DEFERRED_SPLIT_CALLS,
	[RMF_EXPECT_SPLITS_QUEUED] = RMF_DEFERRED_SPLITS,
	[RMF_EXPECT_FOLDS] = RMF_CONTPTE_FOLDS,
	[RMF_EXPECT_UNFOLDS] = RMF_CONTPTE_UNFOLDS,
	[RMF_EXPECT_WARNS] = RMF_WARNS,
};

static const rmf_pte used = RMF_PTE_YOUNG | RMF_PTE_DIRTY;

/* One call at work. */
struct call {
	struct rmf_expected *out;
	struct rmf_check_state *now; /* of `out` */
	const struct rmf_policy *policy;
	const struct rmf_arch *arch;
	const struct rmf_trace *taken;
	uint64_t nr_taken; /* entries of `taken` that were looked at; it has no more than fit */
};

/* A step: the entries [slot, slot + nr), the first of which maps `page`. */
struct step {
	uint32_t slot;
	uint32_t nr;
	uint32_t page;
	rmf_pte pte; /* what the clear returned */
};

static bool is_anon(const struct call *call)
{
	return call->now->folio_flags & RMF_FOLIO_ANON;
}

static bool is_swapbacked(const struct call *call)
{
	return call->now->folio_flags & RMF_FOLIO_SWAPBACKED;
}

static uint32_t nr_pages(const struct call *call)
{
	return 1u << call->now->order;
}

static void add_trace(const struct call *call, enum rmf_trace_kind kind, uint64_t slot, int64_t nr)
{
	call->out->trace[call->out->nr_trace++] =
		(struct rmf_trace_entry){ kind, (int64_t)(slot + call->now->table), nr };
}

static bool is_folded(rmf_pte pte)
{
	return rmf_pte_present(pte) && (pte & RMF_PTE_CONT);
}

/* Section 2.6: a folded entry has the young and dirty bits of its block. */
static rmf_pte read_entry(const struct call *call, uint32_t slot)
{
	const rmf_pte *ptes = call->now->ptes;
	const uint32_t block = slot & ~(call->now->cont - 1);
	rmf_pte pte = ptes[slot];

	if (is_folded(pte))
		for (uint32_t i = 0; i < call->now->cont; i++)
			pte |= ptes[block + i] & used;
	return pte;
}

/* Section 2.6: a folded block is unfolded before a part of it changes. */
static void unfold(const struct call *call, uint32_t slot)
{
	const uint32_t block = slot & ~(call->now->cont - 1);
	rmf_pte *ptes = call->now->ptes, bits;

	if (!is_folded(ptes[slot]))
		return;
	bits = read_entry(call, slot) & used;
	for (uint32_t i = 0; i < call->now->cont; i++)
		ptes[block + i] = (ptes[block + i] & ~(rmf_pte)RMF_PTE_CONT) | bits;
	call->out->ev[RMF_EXPECT_UNFOLDS]++;
}

/* room(a): the slots from here on in the page table and in the VMA. */
static uint32_t room(const struct call *call, uint32_t slot)
{
	const struct rmf_check_state *now = call->now;
	const uint32_t table_end = (slot | (now->table - 1)) + 1,
		       vma_end = (uint32_t)(now->vma_end - now->table);

	return (table_end < vma_end ? table_end : vma_end) - slot;
}

/* Section 2.1: the bits of an entry that a scan compares. */
static rmf_pte compared(const struct rmf_policy *policy, rmf_pte pte)
{
	rmf_pte ignored = RMF_PTE_YOUNG;

	ignored |= policy->respect & RMF_FPB_RESPECT_DIRTY ? 0 : RMF_PTE_DIRTY;
	ignored |= policy->respect & RMF_FPB_RESPECT_SOFT_DIRTY ? 0 : RMF_PTE_SOFT_DIRTY;
	ignored |= policy->respect & RMF_FPB_RESPECT_WRITE ? 0 : RMF_PTE_WRITE;
	return pte & ~ignored;
}

/* Section 1, the last column: whether the policy unmaps this entry in a batch at all. */
static bool batches(const struct call *call, const struct step *step)
{
	const struct rmf_policy *policy = call->policy;
	const bool class_batches = !is_anon(call)	 ? policy->file
				   : is_swapbacked(call) ? policy->anon_swap
							 : policy->lazyfree;

	return class_batches && nr_pages(call) > 1 && !(call->now->ttu & RMF_TTU_HWPOISON) &&
	       !(step->pte & RMF_PTE_UNUSED) && !(policy->all_or_nothing && step->page) &&
	       !(policy->uffd_wp == RMF_UFFD_PER_PAGE && (call->now->vma_flags & RMF_VMA_UFFD_WP));
}

/* Section 1 and 2.1: how many entries the step takes. Returns 0 if the scan leaves the page table
 * or the VMA (bug 1). */
static uint32_t batch_size(const struct call *call, const struct step *step)
{
	const struct rmf_policy *policy = call->policy;
	const uint32_t inside = room(call, step->slot), left = nr_pages(call) - step->page;
	uint32_t nr = 1;

	if (!batches(call, step))
		return 1;
	while (nr < left) {
		const rmf_pte wanted = rmf_pte_advance(step->pte, nr);

		if (nr == inside && policy->clip)
			break;
		if (nr == inside)
			return 0;
		if (compared(policy, read_entry(call, step->slot + nr)) != compared(policy, wanted))
			break;
		nr++;
	}
	if (policy->all_or_nothing && nr != nr_pages(call))
		return 1;
	/* policy g: a batch is uniform in PageAnonExclusive */
	if (is_anon(call) && is_swapbacked(call))
		for (uint32_t i = 1; i < nr; i++)
			if ((call->now->page_flags[step->page + i] ^
			     call->now->page_flags[step->page]) &
			    RMF_PAGE_EXCLUSIVE)
				return i;
	return nr;
}

/* The size of the next batch of a present entry that the rule of the user took. Returns 0 if it
 * leaves the page table or the VMA. */
static uint32_t size_taken(struct call *call, const struct step *step)
{
	while (call->nr_taken < call->taken->n) {
		const struct rmf_trace_entry *entry = &call->taken->entries[call->nr_taken++];

		if (entry->kind != RMF_TRACE_STEP)
			continue;
		if (entry->b > room(call, step->slot))
			return 0;
		/* anything else that cannot be is a step that the rules do not take */
		return entry->b >= 1 && entry->b <= nr_pages(call) - step->page ? (uint32_t)entry->b
										: 1;
	}
	return 1;
}

/* S5: clear the entries, see that they are flushed, and keep what was dirty. */
static void clear_entries(const struct call *call, struct step *step)
{
	const struct rmf_check_state *now = call->now;
	const uint32_t last = step->slot + step->nr - 1, in_block = now->cont - 1;
	rmf_pte later = 0;
	bool defers;

	if ((step->slot & in_block) || step->nr < now->cont)
		unfold(call, step->slot);
	if ((last + 1) & in_block)
		unfold(call, last);
	step->pte = now->ptes[step->slot];
	for (uint32_t i = 1; i < step->nr; i++)
		later |= now->ptes[step->slot + i];
	step->pte |= later & RMF_PTE_YOUNG;
	/* pte_mkdirty() of x86 sets soft-dirty too */
	if (later & RMF_PTE_DIRTY)
		step->pte |= RMF_PTE_DIRTY |
			     (call->arch->mkdirty_soft_dirty ? RMF_PTE_SOFT_DIRTY : 0);
	memset(&call->now->ptes[step->slot], 0, step->nr * sizeof(rmf_pte));
	/* section 2.7: another CPU ran the mm of the check, so what can be deferred is */
	defers = (now->ttu & RMF_TTU_BATCH_FLUSH) && call->arch->tlb != RMF_TLB_NONE;
	add_trace(call, defers ? RMF_TRACE_TLB_DEFERRED : RMF_TRACE_TLB_IMMEDIATE, step->slot,
		  step->nr);
	call->out->flush_required |= defers;
	call->out->tlb_writable |= defers && (step->pte & RMF_PTE_DIRTY);
	if (step->pte & RMF_PTE_DIRTY) {
		call->now->folio_flags |= RMF_FOLIO_DIRTY;
		call->out->ev[RMF_EXPECT_DIRTIED]++;
	}
}

/* S6: the entries of a file mapping that had the uffd bit become markers. */
static void place_markers(const struct call *call, const struct step *step)
{
	const uint32_t nr = call->policy->uffd_wp == RMF_UFFD_WHOLE_BATCH ? step->nr : 1,
		       flags = call->now->vma_flags;

	if ((flags & RMF_VMA_ANON) || !(flags & RMF_VMA_UFFD_WP) || !(step->pte & RMF_PTE_UFFD_WP))
		return;
	call->out->ev[RMF_EXPECT_MARKERS] += nr;
	for (uint32_t i = 0; i < nr; i++)
		call->now->ptes[step->slot + i] = rmf_mk_marker();
}

/* Section 2.4, "Restoration", and section 2.6: put the entries back, and fold them. */
static void restore(const struct call *call, const struct step *step)
{
	const uint32_t cont = call->now->cont, in_block = cont - 1, end = step->slot + step->nr;
	const rmf_pte pte = is_folded(step->pte) ? step->pte & ~(rmf_pte)RMF_PTE_CONT : step->pte;
	rmf_pte *ptes = call->now->ptes;

	for (uint32_t i = 0; i < step->nr; i++)
		ptes[step->slot + i] = rmf_pte_advance(pte, i);
	if (cont == 1 || !rmf_pte_present(pte))
		return;
	if (step->nr == 1) {
		/* only the last entry of a block has it folded */
		const uint32_t block = step->slot & ~in_block;

		if ((step->slot & in_block) != in_block || !rmf_check_fold(call->now, block))
			return;
		call->out->ev[RMF_EXPECT_FOLDS]++;
		for (uint32_t i = 0; i < cont; i++)
			ptes[block + i] |= read_entry(call, step->slot) & used;
		return;
	}
	for (uint32_t block = (step->slot + in_block) & ~in_block; block + cont <= end;
	     block += cont)
		if (rmf_check_fold(call->now, block))
			call->out->ev[RMF_EXPECT_FOLDS]++;
}

static void add_counter(const struct call *call, int64_t nr)
{
	enum rmf_mm_counter counter = RMF_MM_FILEPAGES;

	if (is_anon(call))
		counter = RMF_MM_ANONPAGES;
	else if (is_swapbacked(call))
		counter = RMF_MM_SHMEMPAGES;
	call->now->rss[counter] += nr;
}

/* 8c, lazyfree. */
static bool discard_lazyfree(const struct call *call, const struct step *step)
{
	struct rmf_check_state *now = call->now;
	const bool droppable = now->vma_flags & RMF_VMA_DROPPABLE,
		   dirty = (now->folio_flags & RMF_FOLIO_DIRTY) && !droppable;

	if (!dirty && now->refcount == 1 + now->mapcount) {
		now->rss[RMF_MM_ANONPAGES] -= step->nr;
		return true;
	}
	restore(call, step);
	/* bug 7: up to v6.14 a reference was enough */
	if (dirty || (call->policy->failure_swapbacked && !droppable))
		now->folio_flags |= RMF_FOLIO_SWAPBACKED;
	return false;
}

/* 8c, swapbacked. */
static bool swap_out(const struct call *call, const struct step *step)
{
	struct rmf_check_state *now = call->now;
	const bool exclusive = now->page_flags[step->page] & RMF_PAGE_EXCLUSIVE;
	rmf_pte flags = step->pte & (RMF_PTE_SOFT_DIRTY | RMF_PTE_UFFD_WP);
	bool fails = false;

	flags |= exclusive ? RMF_PTE_EXCLUSIVE : 0;
	call->out->ev[RMF_EXPECT_SWAP_DUPS]++;
	for (uint32_t i = 0; i < step->nr && step->page + i < nr_pages(call); i++)
		fails |= now->page_flags[step->page + i] & RMF_PAGE_SWAP_DUP_FAIL;
	if (!fails && exclusive && (now->folio_flags & RMF_FOLIO_PINNED)) {
		call->out->ev[RMF_EXPECT_SWAP_PUTS]++;
		fails = true;
	}
	if (fails) {
		restore(call, step);
		return false;
	}
	now->rss[RMF_MM_ANONPAGES] -= step->nr;
	now->rss[RMF_MM_SWAPENTS] += step->nr;
	for (uint32_t i = 0; i < step->nr; i++) {
		now->page_flags[step->page + i] &= (uint8_t)~RMF_PAGE_EXCLUSIVE;
		now->ptes[step->slot + i] = rmf_mk_nonpresent(
			RMF_KIND_SWAP, RMF_CHECK_FOLIO_SWAP + step->page + i, flags);
	}
	return true;
}

/* S8. Returns false if the call aborts. */
static bool account(const struct call *call, const struct step *step)
{
	struct rmf_check_state *now = call->now;
	const uint32_t asked = call->policy->hwpoison_page0 ? 0 : step->page;
	const bool swapcache = now->folio_flags & RMF_FOLIO_SWAPCACHE;

	if ((now->ttu & RMF_TTU_HWPOISON) && (now->page_flags[asked] & RMF_PAGE_HWPOISON)) { /* 8a
											      */
		add_counter(call, -1);
		now->ptes[step->slot] =
			rmf_mk_nonpresent(RMF_KIND_HWPOISON, RMF_CHECK_FOLIO_PFN + step->page, 0);
		return true;
	}
	if (rmf_pte_present(step->pte) && (step->pte & RMF_PTE_UNUSED) &&
	    !(now->vma_flags & (RMF_VMA_UFFD_WP | RMF_VMA_UFFD_ARMED))) { /* 8b */
		add_counter(call, -1);
		return true;
	}
	if (!is_anon(call)) { /* 8d */
		add_counter(call, -(int64_t)step->nr);
		return true;
	}
	if (is_swapbacked(call) != swapcache) { /* 8c */
		call->out->ev[RMF_EXPECT_WARNS]++;
		if (call->policy->mismatch_restores)
			restore(call, step);
		return false;
	}
	return swapcache ? swap_out(call, step) : discard_lazyfree(call, step);
}

/* "What folio_remove_rmap_ptes() costs" and "CONFIG_NO_PAGE_MAPCOUNT" in section 2.4: the mapped
 * statistic, and whether the folio is queued for a deferred split. */
static void remove_mappings(const struct call *call, const struct step *step, bool *asked)
{
	struct rmf_check_state *now = call->now;
	const int32_t pages = (int32_t)nr_pages(call);
	int32_t gone = 0;
	bool partial;

	for (uint32_t i = 0; i < step->nr; i++)
		gone += --now->page_mapcount[step->page + i] == 0;
	now->mapcount -= (int32_t)step->nr;
	if (now->order == 0) {
		call->out->mapped_stat -= gone;
		return;
	}
	now->nr_pages_mapped -= gone;
	if (call->arch->page_mapcount) {
		call->out->mapped_stat -= gone;
		partial = gone && now->nr_pages_mapped;
	} else {
		call->out->mapped_stat -= now->mapcount ? 0 : pages;
		partial = now->mapcount > 0 && now->mapcount < pages;
	}
	if (!partial || !is_anon(call) || (now->folio_flags & RMF_FOLIO_PARTIALLY_MAPPED))
		return;
	call->out->ev[RMF_EXPECT_SPLITS_ASKED] += !*asked;
	*asked = true;
	/* a folio of two pages has no room for the list */
	if ((now->folio_flags & RMF_FOLIO_SWAPCACHE) || now->order < 2)
		return;
	now->folio_flags |= RMF_FOLIO_PARTIALLY_MAPPED;
	call->out->ev[RMF_EXPECT_SPLITS_QUEUED]++;
}

/* S9. */
static void discard(const struct call *call, const struct step *step, bool *asked)
{
	remove_mappings(call, step, asked);
	call->out->ev[RMF_EXPECT_RMAP_REMOVALS]++;
	if (call->now->vma_flags & RMF_VMA_LOCKED) {
		call->out->ev[RMF_EXPECT_MUNLOCKS]++;
		call->now->folio_flags &= ~(uint32_t)RMF_FOLIO_MLOCKED;
	}
	call->now->refcount -= (int32_t)step->nr;
	call->out->ev[RMF_EXPECT_REF_PUTS]++;
}

static bool is_last(const struct call *call, const struct step *step)
{
	switch (call->policy->walk_done) {
	case RMF_DONE_NEVER:
		return false;
	case RMF_DONE_BATCHED:
		return step->nr > 1;
	case RMF_DONE_WHOLE:
		break;
	}
	return step->nr == nr_pages(call);
}

/* S2: a VMA that is locked keeps its entries, and the folio is mlocked if all its pages were seen
 * in one page table (bug 10). */
static void keep_locked(const struct call *call, uint32_t slot, uint32_t end)
{
	const uint32_t table = slot / call->now->table;
	uint32_t seen = 0, last = 0;

	for (uint32_t i = slot; i < end; i++) {
		if (rmf_check_page(call->now, call->now->ptes[i]) >= nr_pages(call))
			continue;
		call->out->ret = false;
		seen++;
		last = i;
		if (seen == nr_pages(call) || call->policy->mlock_at_once)
			break;
	}
	if (seen == nr_pages(call) && last / call->now->table == table) {
		call->out->ev[RMF_EXPECT_MLOCKS]++;
		call->now->folio_flags |= RMF_FOLIO_MLOCKED;
	}
}

/* S4 to S9 for each entry that maps the folio. */
static void unmap(struct call *call, uint32_t slot, uint32_t end)
{
	bool asked = false;
	uint32_t last_nr = 1;

	for (; slot < end; slot++) {
		struct step step = { .slot = slot, .nr = 1, .pte = read_entry(call, slot) };
		const uint64_t page = rmf_check_page(call->now, step.pte);

		if (page >= nr_pages(call))
			continue;
		step.page = (uint32_t)page;
		if (rmf_pte_present(step.pte)) {
			step.nr = call->policy->rule ? size_taken(call, &step)
						     : batch_size(call, &step);
			if (!step.nr) {
				call->out->known_bug = true;
				return;
			}
			clear_entries(call, &step);
			add_trace(call, RMF_TRACE_STEP, slot, step.nr);
		} else {
			if (last_nr > 1 && !call->policy->nr_reset) { /* S1, bug 4 */
				call->out->known_bug = true;
				return;
			}
			call->now->ptes[slot] = 0;
			add_trace(call, RMF_TRACE_STEP_NONPRESENT, slot, 1);
		}
		last_nr = step.nr;
		place_markers(call, &step);
		if (!account(call, &step)) {
			call->out->ret = false;
			return;
		}
		discard(call, &step, &asked);
		if (is_last(call, &step))
			return;
	}
}

void rmf_check_expect(struct rmf_expected *expected, const struct rmf_check_state *state,
		      const struct rmf_policy *policy, const struct rmf_arch *arch,
		      const struct rmf_trace *taken)
{
	struct rmf_check_state *now = &expected->after;
	struct call call = { expected, now, policy, arch, taken, 0 };
	const uint32_t start = rmf_check_walk_start(state), end = rmf_check_walk_end(state);

	rmf_check_copy(now, state);
	now->folio_flags &= ~(uint32_t)(RMF_FOLIO_PAGE_MAPCOUNTS | RMF_FOLIO_PAGE_FLAGS);
	expected->known_bug = expected->flush_required = expected->tlb_writable = false;
	expected->ret = true;
	expected->mapped_stat = 0;
	expected->nr_trace = 0;
	memset(expected->ev, 0, sizeof(expected->ev));
	/* S0 */
	add_trace(&call, RMF_TRACE_NOTIFIER, start, (int64_t)(end + state->table));
	if ((state->vma_flags & RMF_VMA_LOCKED) && !(state->ttu & RMF_TTU_IGNORE_MLOCK))
		keep_locked(&call, start, end);
	else
		unmap(&call, start, end);
}
