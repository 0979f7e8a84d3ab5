/* The built-in policies, restated as rules, and rules that are wrong. */
#include <rmf_rule.h>

static int may_not_batch(const struct rmf_rule_call *call)
{
	return call->folio_nr_pages == 1 || call->hwpoison || (call->pte & RMF_RULE_PTE_UNUSED);
}

static uint64_t vma_before(const struct rmf_rule_call *call)
{
	struct rmf_rule_place place;

	call->place(call, &place);
	return place.vma_before;
}

uint32_t one(const struct rmf_rule_call *call)
{
	(void)call;
	return 1;
}

/* v7.0: lazyfree and file folios, not in uffd-wp VMAs */
uint32_t v7_0(const struct rmf_rule_call *call)
{
	if (may_not_batch(call) || call->folio_kind == RMF_RULE_ANON ||
	    (call->vma_flags & RMF_RULE_VMA_UFFD_WP))
		return 1;
	return call->folio_pte_batch(call, call->room,
				     RMF_RULE_RESPECT_WRITE | RMF_RULE_RESPECT_SOFT_DIRTY);
}

/* v6.15: whole lazyfree folios, not clipped (CVE-2025-38447) */
uint32_t v6_15(const struct rmf_rule_call *call)
{
	uint32_t nr;

	if (may_not_batch(call) || call->folio_kind != RMF_RULE_LAZYFREE || call->page)
		return 1;
	nr = call->folio_pte_batch(call, call->folio_nr_pages, 0);
	return nr == call->folio_nr_pages ? nr : 1;
}

/* anon-swap: every kind */
uint32_t anon_swap(const struct rmf_rule_call *call)
{
	uint32_t nr;

	if (may_not_batch(call) || (call->vma_flags & RMF_RULE_VMA_UFFD_WP))
		return 1;
	nr = call->folio_pte_batch(call, call->room,
				   RMF_RULE_RESPECT_WRITE | RMF_RULE_RESPECT_SOFT_DIRTY);
	return call->folio_kind == RMF_RULE_ANON ? call->exclusive_batch(call, nr) : nr;
}

uint32_t unclipped_16(const struct rmf_rule_call *call)
{
	if (may_not_batch(call) || call->folio_kind != RMF_RULE_FILE || call->page ||
	    call->folio_nr_pages < 16 || (call->vma_flags & RMF_RULE_VMA_UFFD_WP))
		return 1;
	return call->folio_pte_batch(call, call->folio_nr_pages, 0);
}

uint32_t unclipped(const struct rmf_rule_call *call)
{
	if (may_not_batch(call) || call->folio_kind != RMF_RULE_FILE ||
	    (call->vma_flags & RMF_RULE_VMA_UFFD_WP))
		return 1;
	return call->folio_pte_batch(call, call->folio_nr_pages, 0);
}

/* File folios up to the end of the folio, the page table and the VMA. */
uint32_t clipped(const struct rmf_rule_call *call)
{
	if (call->folio_kind == RMF_RULE_LAZYFREE || call->folio_kind == RMF_RULE_ANON ||
	    call->hwpoison || (call->pte & RMF_RULE_PTE_UNUSED) ||
	    (call->vma_flags & RMF_RULE_VMA_UFFD_WP))
		return 1;
	return call->folio_pte_batch(call, call->room, 0);
}

/* Whole file folios of 16 pages or more, not clipped: wrong in large folios only. */
uint32_t whole_from_16(const struct rmf_rule_call *call)
{
	uint32_t nr;

	if (call->folio_kind == RMF_RULE_LAZYFREE || call->folio_kind == RMF_RULE_ANON ||
	    call->hwpoison || (call->pte & RMF_RULE_PTE_UNUSED) || call->page ||
	    call->folio_nr_pages < 16 || (call->vma_flags & RMF_RULE_VMA_UFFD_WP))
		return 1;
	nr = call->folio_pte_batch(call, call->folio_nr_pages, 0);
	return nr >= 16 ? nr : 1;
}

uint32_t none(const struct rmf_rule_call *call)
{
	return call->folio_pte_batch(call, 0, 0);
}

uint32_t one_too_many(const struct rmf_rule_call *call)
{
	return call->folio_left + 1;
}

uint32_t late_nonsense(const struct rmf_rule_call *call)
{
	return call->page == 5 ? 0 : 1;
}

/* Nonsense behind the first three blocks of a described population. */
uint32_t far_nonsense(const struct rmf_rule_call *call)
{
	return vma_before(call) < 3 << 14 ? 1 : 0;
}

/* Every other 2^11 pages of a VMA go by batches. */
uint32_t by_place(const struct rmf_rule_call *call)
{
	return vma_before(call) >> 11 & 1 ? call->folio_pte_batch(call, call->room, 0) : 1;
}

/* Nothing that it sees is out of its range. */
uint32_t looks(const struct rmf_rule_call *call)
{
	struct rmf_rule_place place;
	uint64_t in_vma;
	uint32_t in_table, least = call->folio_left, bits = call->young_dirty(call);

	call->place(call, &place);
	in_vma = place.vma_before + place.vma_left;
	in_table = place.table_before + place.table_left;
	if (place.vma_left < least)
		least = (uint32_t)place.vma_left;
	if (place.table_left < least)
		least = place.table_left;
	if (!place.vma_left || !in_vma || !place.table_left || (in_table & (in_table - 1)) ||
	    call->page + call->folio_left != call->folio_nr_pages || call->room != least ||
	    call->folio_kind > RMF_RULE_ANON)
		return 0;
	/* which of the numbers a rule sees decide: the twin must see the same */
	return 1 + (call->folio_flags + call->pte + bits + call->vma_flags + call->page +
		    (uint32_t)call->folio_mapcount + (uint32_t)place.vma_before +
		    place.table_before + call->hwpoison) %
			   least;
}

/* Rules that look at one thing each besides the shape of a folio. */
uint32_t by_distance(const struct rmf_rule_call *call)
{
	struct rmf_rule_place place;

	call->place(call, &place);
	return 1 + (uint32_t)(place.vma_before / 3 + place.table_left) % call->room;
}

uint32_t by_bits(const struct rmf_rule_call *call)
{
	return call->young_dirty(call) ? 1 : call->folio_pte_batch(call, call->room, 0);
}

/* What these see shows in nothing but their answers, which end where runs of equal entries end. */
uint32_t by_scan(const struct rmf_rule_call *call)
{
	uint32_t run = call->folio_pte_batch(call, call->room,
					     RMF_RULE_RESPECT_WRITE | RMF_RULE_RESPECT_SOFT_DIRTY),
		 equal = call->folio_pte_batch(call, run, RMF_RULE_RESPECT_DIRTY);

	return equal == run ? call->folio_pte_batch(call, call->room, 0) : run;
}

uint32_t by_first(const struct rmf_rule_call *call)
{
	uint32_t flags = RMF_RULE_RESPECT_WRITE | RMF_RULE_RESPECT_SOFT_DIRTY;

	return call->folio_pte_batch(call, call->room, call->young_dirty(call) ? 0 : flags);
}

/* Two at a time, which cuts runs of equal entries. */
uint32_t in_pairs(const struct rmf_rule_call *call)
{
	return call->room < 2 ? 1 : call->folio_pte_batch(call, 2, 0);
}

/* All that is left, whatever the entries hold. */
uint32_t all(const struct rmf_rule_call *call)
{
	return call->room;
}

/* The first half of the folio as it comes, then entry by entry as long as the folio is dirty. */
uint32_t by_flags(const struct rmf_rule_call *call)
{
	uint32_t nr = call->folio_pte_batch(call, call->room, RMF_RULE_RESPECT_WRITE);

	if (call->folio_mapcount * 2 > (int32_t)call->folio_nr_pages)
		return nr;
	return call->folio_flags & RMF_RULE_FOLIO_DIRTY ? 1 : nr;
}

/* As v7.0 tests for young. */
uint32_t young(const struct rmf_rule_call *call)
{
	return call->folio_pte_batch(call, call->room, 0);
}

uint32_t beyond_room(const struct rmf_rule_call *call)
{
	return call->room + 1;
}

/* Another answer each time. */
uint32_t counts(const struct rmf_rule_call *call)
{
	static uint32_t asked;

	return 1 + asked++ % call->room;
}
