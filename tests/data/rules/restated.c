/* The built-in policies, restated as rules, and rules that are wrong. */
#include <rmf_rule.h>

static int may_not_batch(const struct rmf_rule_call *call)
{
	return call->folio_nr_pages == 1 || call->hwpoison || (call->pte & RMF_RULE_PTE_UNUSED);
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
	return call->vma_before < 3 << 14 ? 1 : 0;
}

/* Every other 2^11 pages of a VMA go by batches. */
uint32_t by_place(const struct rmf_rule_call *call)
{
	return call->vma_before >> 11 & 1 ? call->folio_pte_batch(call, call->room, 0) : 1;
}

/* Nothing that it sees is out of its range. */
uint32_t looks(const struct rmf_rule_call *call)
{
	uint64_t in_vma = call->vma_before + call->vma_left;
	uint32_t in_table = call->table_before + call->table_left, least = call->folio_left;

	if (call->vma_left < least)
		least = (uint32_t)call->vma_left;
	if (call->table_left < least)
		least = call->table_left;
	if (!call->vma_left || !in_vma || !call->table_left || (in_table & (in_table - 1)) ||
	    call->page + call->folio_left != call->folio_nr_pages || call->room != least ||
	    call->folio_kind > RMF_RULE_ANON)
		return 0;
	/* which of the numbers a rule sees decide: the twin must see the same */
	return 1 + (call->folio_flags + call->pte + call->vma_flags + call->page +
		    (uint32_t)call->folio_mapcount + (uint32_t)call->vma_before +
		    call->table_before + call->hwpoison) %
			   least;
}
