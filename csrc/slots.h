/* The page-table slots that the walk of one VMA can reach, addressed by virtual page number.
 *
 * A buggy scan may leave the page table or the VMA. Inside the window it finds the neighbour's
 * entries. Everywhere else it reads none, or what the guard says, and its writes have no effect. So
 * an access out of bounds is an event of the model and never one of this program.
 *
 * Rules such as room(a) are those of docs/kernel-rules.md. */
#ifndef RMF_SLOTS_H
#define RMF_SLOTS_H

#include "run.h"

struct rmf_slots {
	struct rmf_run *run;
	uint32_t mm;
	rmf_pte *ptes;
	uint64_t base; /* index of a slot = base + vpn, modulo 2^64 */
	uint64_t window_start;
	uint64_t window_end;
	uint64_t vma_start;
	uint64_t vma_end;
	uint64_t table_mask; /* ptrs_per_pte - 1 */
	uint64_t cont_mask; /* cont_ptes - 1; 0 without contpte */
};

static inline struct rmf_slots rmf_slots_of_vma(struct rmf_run *run, uint32_t vma)
{
	const struct rmf_population *pop = &run->pop;

	return (struct rmf_slots){
		.run = run,
		.mm = pop->vma_mm[vma],
		.ptes = pop->ptes,
		.base = pop->vma_pte_base[vma] - pop->vma_start[vma],
		.window_start = pop->vma_window_start[vma],
		.window_end = pop->vma_window_end[vma],
		.vma_start = pop->vma_start[vma],
		.vma_end = pop->vma_end[vma],
		.table_mask = run->arch.ptrs_per_pte - 1,
		.cont_mask = run->arch.cont_ptes - 1,
	};
}

/* An array of `nr` entries as the slots of one page table. Its first entry has vpn 0. It belongs to
 * no mm, so it is only read. */
static inline struct rmf_slots rmf_slots_of_table(struct rmf_run *run, rmf_pte *ptes, uint64_t nr)
{
	return (struct rmf_slots){
		.run = run,
		.ptes = ptes,
		.window_end = nr,
		.vma_end = nr,
		.table_mask = UINT64_MAX,
		.cont_mask = run->arch.cont_ptes - 1,
	};
}

/* room(a): the slots from vpn on that are left in the page table and in the VMA, and so in the
 * window. vpn lies in the VMA. */
static inline uint64_t rmf_slots_room(const struct rmf_slots *slots, uint64_t vpn)
{
	const uint64_t last = vpn | slots->table_mask;

	return (last < slots->vma_end ? last + 1 : slots->vma_end) - vpn;
}

static inline bool rmf_slots_in_window(const struct rmf_slots *slots, uint64_t vpn)
{
	return vpn - slots->window_start < slots->window_end - slots->window_start;
}

/* The word in memory. vpn lies in the window. */
static inline rmf_pte *rmf_slots_at(const struct rmf_slots *slots, uint64_t vpn)
{
	return &slots->ptes[slots->base + vpn];
}

/* Where an access to vpn ends up that goes through a pointer to the slot of `first`. */
enum rmf_reach {
	RMF_REACH_SLOT, /* a slot in the window */
	RMF_REACH_HOLE, /* inside the table where no VMA is: none */
	RMF_REACH_BEYOND, /* behind the table */
};

static inline enum rmf_reach rmf_slots_reach(const struct rmf_slots *slots, uint64_t first,
					     uint64_t vpn, enum rmf_event oob,
					     enum rmf_event overrun)
{
	if ((first ^ vpn) & ~slots->table_mask) {
		rmf_count(slots->run, oob, 1);
		return RMF_REACH_BEYOND;
	}
	if (vpn - slots->vma_start >= slots->vma_end - slots->vma_start)
		rmf_count(slots->run, overrun, 1);
	return rmf_slots_in_window(slots, vpn) ? RMF_REACH_SLOT : RMF_REACH_HOLE;
}

/* What lies behind the table of `first` in the place of vpn. */
static inline rmf_pte rmf_slots_guard(const struct rmf_slots *slots, uint64_t first, uint64_t vpn)
{
	uint64_t last = first | slots->table_mask;

	if (slots->run->guard != RMF_GUARD_CONTIGUOUS || !rmf_slots_in_window(slots, last) ||
	    !rmf_pte_present(*rmf_slots_at(slots, last)))
		return 0;
	return rmf_pte_advance(*rmf_slots_at(slots, last), vpn - last);
}

#endif
