#include "walk.h"

#include "contpte.h"
#include "entries.h"

/* Steps such as 2.2 step 5 are those of docs/kernel-rules.md. */

bool rmf_walk_start(struct rmf_walk *walk, struct rmf_run *run, uint64_t folio, uint32_t vma,
		    uint32_t flags)
{
	const struct rmf_population *pop = &run->pop;
	uint64_t start = pop->vma_start[vma], end = pop->vma_end[vma], pgoff = pop->vma_pgoff[vma];
	uint64_t index = pop->folio_index[folio], nr_pages = rmf_folio_nr_pages(pop, folio);
	uint64_t vpn, last;

	if (index >= pgoff) {
		if (index - pgoff >= end - start)
			return false;
		vpn = start + (index - pgoff);
	} else if (index + nr_pages > pgoff) {
		vpn = start;
	} else {
		return false;
	}
	last = start + (index + nr_pages - pgoff);
	/* a compound literal would be cleared before; that was 3% of a run with sharing=2 */
	walk->slots = rmf_slots_of_vma(run, vma);
	walk->folio_pfn = pop->folio_pfn[folio];
	walk->nr_pages = nr_pages;
	walk->vpn = vpn;
	walk->end = last < end ? last : end;
	walk->last_read = UINT64_MAX;
	walk->vma = vma;
	walk->flags = flags;
	walk->pmd = walk->mapped = walk->locked = walk->crossed = false;
	return true;
}

uint64_t rmf_walk_table_start(const struct rmf_walk *walk)
{
	return walk->vpn & ~walk->slots.table_mask;
}

uint8_t *rmf_walk_table_state(const struct rmf_walk *walk)
{
	const struct rmf_population *pop = &walk->slots.run->pop;
	const int shift = rmf_table_shift(pop);
	uint64_t table = (walk->vpn >> shift) - (pop->vma_start[walk->vma] >> shift);

	return &pop->table_state[pop->vma_table_base[walk->vma] + table];
}

static void count_read(struct rmf_walk *walk)
{
	struct rmf_run *run = walk->slots.run;

	rmf_count(run, RMF_WALK_PTE_READS, 1);
	rmf_count(run, RMF_WALK_SLOTS, walk->last_read != walk->vpn);
	walk->last_read = walk->vpn;
}

/* One logical read of the entry at the position of the walk. */
static rmf_pte read_entry(struct rmf_walk *walk)
{
	count_read(walk);
	return rmf_ptep_get(&walk->slots, walk->vpn);
}

/* Read the entries from the position of the walk on while they are none, up to the end of the range
 * or of the table. The position is behind them then. */
static void skip_none(struct rmf_walk *walk)
{
	struct rmf_run *run = walk->slots.run;
	const uint64_t table_end = (walk->vpn | walk->slots.table_mask) + 1,
		       end = walk->end < table_end ? walk->end : table_end,
		       nr = rmf_entries_none(rmf_slots_at(&walk->slots, walk->vpn),
					     end - walk->vpn);

	if (!nr)
		return;
	rmf_count(run, RMF_WALK_PTE_READS, nr);
	rmf_count(run, RMF_WALK_SLOTS, nr - (walk->last_read == walk->vpn));
	rmf_count(run, RMF_RAW_PTE_LOADS, nr);
	walk->vpn += nr;
	walk->last_read = walk->vpn - 1;
}

static void lock_ptl(struct rmf_walk *walk)
{
	rmf_count(walk->slots.run, RMF_PTL_LOCKS, 1);
	walk->locked = true;
}

/* Models map_pte() without PVMW_SYNC, mm/page_vma_mapped.c, Linux v7.0: whether the first entry is
 * worth the lock. */
static bool first_entry_matters(struct rmf_walk *walk)
{
	rmf_pte pte;

	count_read(walk);
	pte = rmf_ptep_get_lockless(&walk->slots, walk->vpn);
	if (walk->flags & RMF_PVMW_MIGRATION)
		return !rmf_pte_none(pte) && !rmf_pte_present(pte);
	return rmf_pte_present(pte) || rmf_pte_is_device(pte);
}

/* Models check_pte(), mm/page_vma_mapped.c, Linux v7.0. Any page of the folio matches, not only the
 * one expected at this address. */
static bool check_pte(struct rmf_walk *walk)
{
	rmf_pte pte = read_entry(walk);

	if (walk->flags & RMF_PVMW_MIGRATION) {
		if (rmf_pte_kind(pte) != RMF_KIND_MIGRATION)
			return false;
	} else if (!rmf_pte_present(pte) && !rmf_pte_is_device(pte)) {
		return false;
	}
	return rmf_pte_pfn(pte) - walk->folio_pfn < walk->nr_pages;
}

/* Models the PMD part of page_vma_mapped_walk(), mm/page_vma_mapped.c, Linux v7.0. Returns whether
 * the leaf is yielded; if not, the walk ends. */
static bool check_pmd(struct rmf_walk *walk)
{
	rmf_pte pmd = *rmf_slots_at(&walk->slots, rmf_walk_table_start(walk));
	uint64_t pfn = rmf_pte_pfn(pmd), nr = walk->slots.table_mask + 1;
	bool overlaps = pfn < walk->folio_pfn + walk->nr_pages && walk->folio_pfn < pfn + nr;

	rmf_count(walk->slots.run, RMF_PMD_LOCKS, 1);
	if (walk->flags & RMF_PVMW_MIGRATION)
		return rmf_pte_kind(pmd) == RMF_KIND_MIGRATION && overlaps;
	return (rmf_pte_present(pmd) || rmf_pte_kind(pmd) == RMF_KIND_DEVICE_PRIVATE) && overlaps;
}

/* Whether the walk takes and drops the PMD lock where no table is. With PVMW_SYNC a PMD-sized folio
 * waits that way for a PMD split at the same time (2.2 step 5). */
static bool syncs_with_pmd_lock(const struct rmf_walk *walk)
{
	const struct rmf_population *pop = &walk->slots.run->pop;
	uint64_t table = rmf_walk_table_start(walk), nr = pop->ptrs_per_pte;

	if (!(walk->flags & RMF_PVMW_SYNC) || walk->nr_pages < nr)
		return false;
	if (table < walk->slots.vma_start || table + nr > walk->slots.vma_end)
		return false;
	return (pop->vma_flags[walk->vma] & RMF_VMA_ANON) ||
	       (walk->slots.vma_start - pop->vma_pgoff[walk->vma]) % nr == 0;
}

static bool not_found(struct rmf_walk *walk)
{
	rmf_walk_done(walk);
	return false;
}

static bool found(struct rmf_walk *walk)
{
	rmf_count(walk->slots.run, RMF_WALK_YIELDS, 1);
	return true;
}

bool rmf_page_vma_mapped_walk(struct rmf_walk *walk)
{
	struct rmf_run *run = walk->slots.run;

	rmf_count(run, RMF_WALK_CALLS, 1);
	if (walk->pmd)
		return not_found(walk);
	if (walk->mapped)
		goto next;
restart:
	for (;; walk->vpn = rmf_walk_table_start(walk) + run->pop.ptrs_per_pte) {
		uint8_t state;

		if (walk->vpn >= walk->end)
			return not_found(walk);
		state = *(volatile uint8_t *)rmf_walk_table_state(walk);
		if (state == RMF_TABLE_PTE)
			break;
		if (rmf_is_pmd_leaf(&run->pop, walk->vma, rmf_walk_table_start(walk), state)) {
			if (!check_pmd(walk))
				return not_found(walk);
			walk->pmd = true;
			return found(walk);
		}
		rmf_count(run, RMF_PMD_LOCKS, syncs_with_pmd_lock(walk));
	}
	walk->mapped = true;
	if (!(walk->flags & RMF_PVMW_SYNC) && !first_entry_matters(walk))
		goto next;
	lock_ptl(walk);
	for (;;) {
		if (check_pte(walk))
			return found(walk);
	next:
		walk->vpn++;
		if (walk->vpn < walk->end && (walk->vpn & walk->slots.table_mask))
			skip_none(walk);
		if (walk->vpn >= walk->end)
			return not_found(walk);
		if (!(walk->vpn & walk->slots.table_mask)) {
			walk->mapped = false;
			walk->locked = false;
			walk->crossed = true;
			rmf_count(run, RMF_TABLE_CROSSINGS, 1);
			goto restart;
		}
		read_entry(walk); /* it is not none */
		if (!walk->locked)
			lock_ptl(walk);
	}
}

void rmf_walk_folio(struct rmf_run *run, uint64_t folio, uint32_t vma, uint32_t flags)
{
	struct rmf_walk walk;

	if (!rmf_walk_start(&walk, run, folio, vma, flags))
		return;
	while (rmf_page_vma_mapped_walk(&walk))
		rmf_trace_add(run, RMF_TRACE_YIELD, walk.vpn, 0);
}
