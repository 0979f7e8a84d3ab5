/* Regular folios, many at a time.
 *
 * A folio is regular if one VMA maps it, whole, in one page table, by entries that differ in nothing but the PFN, and nothing is stored for its
 * pages. What a visit does to it is then decided by a few numbers (struct rmf_regular, the first part). The first folio with given numbers
 * is visited by the rules, and what happened is the lesson: the events, and the state after it. Further ones get the same without a
 * walk, after each of their entries was compared. So there is no second statement of the rules here, and every policy and
 * architecture has its fast path.
 */
#ifndef RMF_REGULAR_H
#define RMF_REGULAR_H

#include <stddef.h>

#include "shrink.h"

/* What becomes of the entries. */
enum rmf_entries_after {
	RMF_ENTRIES_STAY, /* but for the low bits */
	RMF_ENTRIES_CLEARED,
	RMF_ENTRIES_SWAPPED, /* to slots that are taken now */
};

/* Folios that a visit finds and leaves alike. */
struct rmf_regular {
	/* as found; mapcount, and nr_pages_mapped of a large folio, are its pages */
	uint32_t vma;
	uint32_t flags;
	int32_t refcount;
	uint32_t order;
	rmf_pte low; /* bits of each entry below the PFN */

	/* as left */
	uint32_t flags_after;
	int32_t refcount_after;
	int32_t mapcount_after;
	int32_t nr_pages_mapped_after;
	enum rmf_entries_after entries_after;
	rmf_pte low_after;
};

/* The slot of a folio's first page, if all of its slots are in the VMA and in one page table that is present; *vpn of it. */
static inline rmf_pte *rmf_slot_of_regular(const struct rmf_population *pop, uint32_t vma, uint64_t index, uint64_t nr, uint64_t *vpn)
{
	const uint64_t start = pop->vma_start[vma], size = pop->vma_end[vma] - start, at = index - pop->vma_pgoff[vma];
	const int shift = __builtin_ctz(pop->ptrs_per_pte); /* a power of two */
	uint64_t table;

	if (index < pop->vma_pgoff[vma] || at >= size || nr > size - at)
		return NULL;
	*vpn = start + at;
	table = *vpn >> shift;
	if ((*vpn + nr - 1) >> shift != table || pop->table_state[pop->vma_table_base[vma] + table - (start >> shift)] != RMF_TABLE_PTE)
		return NULL;
	return &pop->ptes[pop->vma_pte_base[vma] + at];
}

/* Compare and change the first of n folios that are as `regular` says and have consecutive numbers; returns how many. With RMF_ENTRIES_SWAPPED they
 * take the slots from `swap` on, and the caller sees to it that there are enough. */
typedef uint64_t rmf_visit_alike(const struct rmf_population *pop, const struct rmf_regular *regular, uint32_t cont_ptes, uint64_t swap,
				 const uint32_t *folios, uint64_t n);

struct rmf_lessons;

/* Lessons for one run; NULL without memory. A run without lessons visits every folio by the rules. */
struct rmf_lessons *rmf_lessons_new(rmf_visit_alike *visit_alike);
void rmf_lessons_free(struct rmf_lessons *lessons);

/* Visit the first of n folios if they are regular and a lesson says what happens to them; it may be the first that is taken. Their number is
 * visits->nr; false if there are none. Their events are counted by rmf_settle_lessons(). */
bool rmf_visit_regular(struct rmf_run *run, enum rmf_visit_kind kind, const uint32_t *folios, uint64_t n, struct rmf_visits *visits);
void rmf_settle_lessons(struct rmf_run *run);

#endif
