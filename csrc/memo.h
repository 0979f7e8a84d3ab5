/* The memo: many regular folios are visited at a time, with the result of the first one.
 *
 * A folio is regular if one VMA maps all of it in one page table by entries that differ only in the
 * PFN, and if nothing is stored for its pages. A few numbers then decide what a visit does to it:
 * the first part of struct rmf_regular. The rules visit the first folio with given numbers. The
 * memo keeps the result: the events, and the state after the visit. Each further folio with these
 * numbers gets the same result without a walk, after all its entries were compared. So the rules
 * are not stated a second time here, and every policy and architecture has a fast path. */
#ifndef RMF_MEMO_H
#define RMF_MEMO_H

#include <stddef.h>

#include "shrink.h"

/* What becomes of the entries. */
enum rmf_entries_after {
	RMF_ENTRIES_STAY, /* except for their low bits */
	RMF_ENTRIES_CLEARED,
	RMF_ENTRIES_SWAPPED, /* by swap entries, whose slots are taken now */
};

/* What regular folios of the same result have in common, before and after a visit. */
struct rmf_regular {
	/* before; the mapcount, and nr_pages_mapped of a large folio, are its number of pages */
	uint32_t vma;
	uint32_t flags;
	int32_t refcount;
	uint32_t order;
	rmf_pte low; /* bits of each entry below the PFN */

	/* after */
	uint32_t flags_after;
	int32_t refcount_after;
	int32_t mapcount_after;
	int32_t nr_pages_mapped_after;
	enum rmf_entries_after entries_after;
	rmf_pte low_after;
};

/* The slot of a folio's first page, and *vpn of that slot. NULL unless all its slots lie in the VMA
 * and in one page table that is present. */
static inline rmf_pte *rmf_slot_of_regular(const struct rmf_population *pop, uint32_t vma,
					   uint64_t index, uint64_t nr, uint64_t *vpn)
{
	const uint64_t start = pop->vma_start[vma], size = pop->vma_end[vma] - start,
		       at = index - pop->vma_pgoff[vma];
	const int shift = rmf_table_shift(pop);
	uint64_t table;

	if (index < pop->vma_pgoff[vma] || at >= size || nr > size - at)
		return NULL;
	*vpn = start + at;
	table = *vpn >> shift;
	if ((*vpn + nr - 1) >> shift != table ||
	    pop->table_state[pop->vma_table_base[vma] + table - (start >> shift)] != RMF_TABLE_PTE)
		return NULL;
	return &pop->ptes[pop->vma_pte_base[vma] + at];
}

/* Compare the first of n folios with `regular`, and change those that fit, as it says. Only folios
 * with consecutive numbers are taken. Returns how many were changed. With RMF_ENTRIES_SWAPPED they
 * take the swap slots from `swap` on, of which the caller has enough. */
typedef uint64_t rmf_visit_same(const struct rmf_population *pop, const struct rmf_regular *regular,
				uint32_t cont_ptes, uint64_t swap, const uint32_t *folios,
				uint64_t n);

struct rmf_memo;

/* An empty memo for one run, or NULL without memory. A run without a memo visits every folio by the
 * rules. */
struct rmf_memo *rmf_memo_new(rmf_visit_same *visit_same);
void rmf_memo_free(struct rmf_memo *memo);

/* Visit folios[0] and the folios behind it that have the same result; visits->nr says how many.
 * Returns false if the memo cannot be used for folios[0]. If folios[0] is the first regular folio
 * with its numbers, it alone is visited, by the rules; if it was split, visits[] has two entries,
 * as *nr_visits says (rmf_visit_by_rules()). The events of the memo are counted when
 * rmf_memo_settle() is called. */
bool rmf_visit_by_memo(struct rmf_run *run, enum rmf_visit_kind kind, const uint32_t *folios,
		       uint64_t n, struct rmf_visits visits[2], uint32_t *nr_visits);
void rmf_memo_settle(struct rmf_run *run);

/* Start anew, because visits have other results from now on. */
void rmf_memo_forget(struct rmf_run *run);

#endif
