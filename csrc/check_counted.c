#include <string.h>

#include "check_run.h"
#include "counted.h"
#include "shrink.h"

/* What a visit left and counted. */
struct outcome {
	struct rmf_visits visits[2];
	uint32_t nr;
	struct rmf_check_state state;
	uint64_t ev[RMF_NR_EVENTS];
	uint64_t referenced_ev[RMF_NR_EVENTS];
	uint64_t batch_lengths[RMF_CHECK_MAX_PAGES + 1];
	int64_t mapped_stat;
	uint64_t swap_next;
	int64_t swap_used;
	uint32_t rule_saw;
};

/* The masks of the folio's entries. False if the memo would not take the folio: if not all its
 * slots lie in the VMA and in one table, or if an entry is neither none nor that of its page. */
static bool masks_of(const struct rmf_check_state *state, struct rmf_masks *masks)
{
	const rmf_pte varying = RMF_PTE_WRITE | RMF_PTE_SOFT_DIRTY | RMF_PTE_YOUNG | RMF_PTE_DIRTY;
	const uint64_t nr = (uint64_t)1 << state->order,
		       vpn = state->vma_start + (RMF_CHECK_FOLIO_INDEX - state->vma_pgoff),
		       first = vpn - state->table;

	*masks = (struct rmf_masks){ 0 };
	if (state->vma_pgoff > RMF_CHECK_FOLIO_INDEX || vpn + nr > state->vma_end ||
	    first / state->table != (first + nr - 1) / state->table)
		return false;
	for (uint64_t i = 0; i < nr; i++) {
		const rmf_pte pte = state->ptes[first + i],
			      low = pte & (RMF_PFN_ONE - 1) & ~varying, bit = (rmf_pte)1 << i;

		if (!pte) {
			masks->none |= bit;
			continue;
		}
		if (!rmf_pte_present(pte) || rmf_pte_pfn(pte) != RMF_CHECK_FOLIO_PFN + i ||
		    (masks->low && low != masks->low))
			return false;
		masks->low = low;
		masks->write |= pte & RMF_PTE_WRITE ? bit : 0;
		masks->soft_dirty |= pte & RMF_PTE_SOFT_DIRTY ? bit : 0;
		masks->young |= pte & RMF_PTE_YOUNG ? bit : 0;
		masks->dirty |= pte & RMF_PTE_DIRTY ? bit : 0;
	}
	/* marks of single pages have their place, and a folio that has them has no shape */
	for (uint64_t i = 1; i < nr; i++)
		if (state->page_flags[i] != state->page_flags[0])
			return false;
	return !(state->page_flags[0] & ~RMF_PAGE_EXCLUSIVE);
}

/* Put other young and dirty bits into the entries of the folio. */
static void set_bits(struct rmf_check_state *state, const struct rmf_masks *masks)
{
	const uint64_t first =
		state->vma_start + (RMF_CHECK_FOLIO_INDEX - state->vma_pgoff) - state->table;

	for (uint64_t i = 0; i < (uint64_t)1 << state->order; i++) {
		rmf_pte *pte = &state->ptes[first + i];

		if (!*pte)
			continue;
		*pte &= ~(rmf_pte)(RMF_PTE_YOUNG | RMF_PTE_DIRTY);
		*pte |= masks->young >> i & 1 ? RMF_PTE_YOUNG : 0;
		*pte |= masks->dirty >> i & 1 ? RMF_PTE_DIRTY : 0;
	}
}

static void visit(struct rmf_check *check, const struct rmf_check_state *state,
		  const struct rmf_policy *policy, enum rmf_visit_kind kind,
		  struct outcome *outcome)
{
	struct rmf_run *run = rmf_check_load(check, state, policy);

	run->trace = NULL;
	run->pop.folio_refcount[0]--; /* the states are those of an isolated folio */
	run->swap_next = RMF_CHECK_SWAP_OFFSET;
	run->swap_end = RMF_CHECK_FOLIO_SWAP;
	run->swap_used = run->mapped_stat = 0;
	run->rule_saw = 0;
	memset(run->ev, 0, sizeof(run->ev));
	memset(run->referenced_ev, 0, sizeof(run->referenced_ev));
	memset(run->batch_lengths, 0, sizeof(outcome->batch_lengths));
	memset(outcome->visits, 0, sizeof(outcome->visits));
	outcome->nr = rmf_visit_by_rules(run, kind, 0, outcome->visits);
	rmf_check_unload(check, &outcome->state);
	memcpy(outcome->ev, run->ev, sizeof(run->ev));
	memcpy(outcome->referenced_ev, run->referenced_ev, sizeof(run->referenced_ev));
	memcpy(outcome->batch_lengths, run->batch_lengths, sizeof(outcome->batch_lengths));
	outcome->mapped_stat = run->mapped_stat;
	outcome->swap_next = run->swap_next;
	outcome->swap_used = run->swap_used;
	outcome->rule_saw = run->rule_saw;
}

/* Whether the visit left the entries of the folio in a state that the memo cannot express: some
 * were dealt with and some were not. Then it forgets the result, whatever else it was. */
static bool is_partial(const struct rmf_check_state *before, const struct rmf_check_state *after)
{
	bool stay = true, old = true, equal = true, none = true, nonpresent = true;
	rmf_pte low = 0;

	for (uint32_t i = before->first_slot; i < before->end_slot; i++) {
		const rmf_pte was = before->ptes[i], is = after->ptes[i];

		if (!rmf_pte_present(was) || rmf_check_page(before, was) >= RMF_CHECK_MAX_PAGES)
			continue;
		low = low ? low : is & (RMF_PFN_ONE - 1);
		stay &= is == was;
		old &= is == (was & ~(rmf_pte)RMF_PTE_YOUNG);
		equal &= rmf_pte_present(is) && (is & (RMF_PFN_ONE - 1)) == low;
		none &= !is;
		nonpresent &= is && !rmf_pte_present(is) && (is & (RMF_PFN_ONE - 1)) == low;
	}
	return !(stay || old || equal || none || nonpresent);
}

/* Whether the memo forgets the result: it cannot express it, or a rule of the user saw more than
 * the shape. */
static bool is_forgotten(const struct rmf_check_state *before, const struct outcome *outcome)
{
	return outcome->rule_saw || is_partial(before, &outcome->state);
}

/* Whether the entries are the same, if young and dirty bits may have changed places. */
static bool same_entries(const struct rmf_check_state *one, const struct rmf_check_state *other)
{
	const rmf_pte both = RMF_PTE_YOUNG | RMF_PTE_DIRTY;
	int64_t young = 0, dirty = 0;

	for (uint32_t i = one->first_slot; i < one->end_slot; i++) {
		const rmf_pte a = one->ptes[i], b = other->ptes[i];

		if (a == b)
			continue;
		if (!rmf_pte_present(a) || ((a ^ b) & ~both))
			return false;
		young += (int64_t)(a & RMF_PTE_YOUNG) - (int64_t)(b & RMF_PTE_YOUNG);
		dirty += (int64_t)(a & RMF_PTE_DIRTY) - (int64_t)(b & RMF_PTE_DIRTY);
	}
	return !young && !dirty;
}

static bool same_outcome(const struct outcome *one, const struct outcome *other)
{
	const struct rmf_check_state *a = &one->state, *b = &other->state;

	return one->nr == other->nr && !memcmp(one->visits, other->visits, sizeof(one->visits)) &&
	       !memcmp(one->ev, other->ev, sizeof(one->ev)) &&
	       !memcmp(one->referenced_ev, other->referenced_ev, sizeof(one->referenced_ev)) &&
	       !memcmp(one->batch_lengths, other->batch_lengths, sizeof(one->batch_lengths)) &&
	       one->mapped_stat == other->mapped_stat && one->swap_next == other->swap_next &&
	       one->swap_used == other->swap_used && same_entries(a, b) &&
	       a->folio_flags == b->folio_flags && a->refcount == b->refcount &&
	       a->mapcount == b->mapcount && a->nr_pages_mapped == b->nr_pages_mapped &&
	       !memcmp(a->page_mapcount, b->page_mapcount, sizeof(*a->page_mapcount) << a->order) &&
	       !memcmp(a->page_flags, b->page_flags, (size_t)1 << a->order) &&
	       !memcmp(a->rss, b->rss, sizeof(a->rss));
}

uint64_t rmf_check_counted_bits(struct rmf_check *check, const struct rmf_check_family *family,
				uint64_t first, uint64_t end, const struct rmf_policy *policy,
				enum rmf_claim claim, struct rmf_check_found *found)
{
	struct rmf_check_state state, moved;
	struct rmf_check_cursor cursor;
	struct outcome one, other;
	uint64_t tried = 0;

	rmf_check_cursor_start(family, &cursor);
	for (uint64_t index = first; index < end && rmf_check_cursor_seek(family, &cursor, index);
	     index++) {
		struct rmf_masks masks, counted;
		bool differs = false, forgotten;

		if (!rmf_check_state_at_cursor(family, &cursor, index, &state) ||
		    !masks_of(&state, &masks))
			continue;
		counted = masks;
		rmf_count_bits(policy, state.cont, state.order, claim, &counted);
		if (counted.young == masks.young && counted.dirty == masks.dirty)
			continue;
		rmf_check_copy(&moved, &state);
		set_bits(&moved, &counted);
		tried++;
		for (enum rmf_visit_kind kind = 0; kind < RMF_NR_VISIT_KINDS; kind++) {
			visit(check, &state, policy, kind, &one);
			visit(check, &moved, policy, kind, &other);
			forgotten = is_forgotten(&state, &one);
			differs |= forgotten != is_forgotten(&moved, &other) ||
				   (!forgotten && !same_outcome(&one, &other));
		}
		if (differs && (!found->count++ || index < found->index))
			found->index = index;
	}
	return tried;
}
