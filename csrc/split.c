#include "split.h"

#include "contpte.h"
#include "deferred.h"
#include "folio.h"
#include "rmap.h"
#include "swap.h"
#include "tlb.h"
#include "unmap.h"
#include "walk.h"

/* A migration entry of the model holds what the entry was before. The bits that a non-present entry
 * uses for its kind go to bits that are free in it; CONT and SPECIAL are dropped. No such entry is
 * left when the split ends. A migration entry that was there before becomes present too, as if it
 * had been read-only, old and clean. An entry that does not lie where its page should be is not
 * found by the walk of the page, and stays a migration entry. */
enum { SAVED_WRITE = 1 << 8, SAVED_YOUNG = 1 << 10, SAVED_DIRTY = 1 << 11 };
static const rmf_pte KEPT = RMF_PTE_SOFT_DIRTY | RMF_PTE_UFFD_WP | RMF_PTE_UNUSED | RMF_PTE_PROT;

static rmf_pte mk_migration(rmf_pte pte)
{
	rmf_pte flags = pte & KEPT;

	flags |= pte & RMF_PTE_WRITE ? SAVED_WRITE : 0;
	flags |= pte & RMF_PTE_YOUNG ? SAVED_YOUNG : 0;
	flags |= pte & RMF_PTE_DIRTY ? SAVED_DIRTY : 0;
	return rmf_mk_nonpresent(RMF_KIND_MIGRATION, rmf_pte_pfn(pte), flags);
}

static rmf_pte mk_present_again(rmf_pte migration)
{
	rmf_pte pte = (migration & ~(RMF_PFN_ONE - 1)) | (migration & KEPT) | RMF_PTE_PRESENT;

	pte |= migration & SAVED_WRITE ? RMF_PTE_WRITE : 0;
	pte |= migration & SAVED_YOUNG ? RMF_PTE_YOUNG : 0;
	pte |= migration & SAVED_DIRTY ? RMF_PTE_DIRTY : 0;
	return pte;
}

bool rmf_any_page_has(const struct rmf_population *pop, uint64_t folio, uint8_t flag)
{
	const uint8_t *flags;
	uint8_t any = 0;

	if (!(pop->folio_flags[folio] & RMF_FOLIO_PAGE_FLAGS))
		return false;
	flags = pop->page_flags + rmf_folio_page_base(pop, folio);
	for (uint32_t i = 0; i < rmf_folio_nr_pages(pop, folio); i++)
		any |= flags[i];
	return any & flag;
}

bool rmf_all_pages_have(const struct rmf_population *pop, uint64_t folio, uint8_t flag)
{
	const uint8_t *flags;
	uint8_t all = flag;

	if (!(pop->folio_flags[folio] & RMF_FOLIO_PAGE_FLAGS))
		return false;
	flags = pop->page_flags + rmf_folio_page_base(pop, folio);
	for (uint32_t i = 0; i < rmf_folio_nr_pages(pop, folio); i++)
		all &= flags[i];
	return all == flag;
}

/* Whether a folio may find no run of swap slots. It does not without swap space, which nobody looks
 * for then. */
static bool may_lack_slots(const struct rmf_run *run)
{
	return run->swap_map || run->swap_fragmented ||
	       (rmf_swap_configured(run) && rmf_swap_free_slots(run) < run->pop.nr_folios
									       << RMF_MAX_ORDER);
}

/* Flags of which one is enough that memory.reclaim may split a folio. A folio that goes to swap is
 * never put on the deferred-split queue on its way; a lazyfree one may be (reclaim_may_split()). */
static uint32_t enough_to_split(const struct rmf_run *run)
{
	return RMF_FOLIO_PARTIALLY_MAPPED |
	       (may_lack_slots(run) ? RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED : 0) |
	       (rmf_looks_for_underused(run) ? RMF_FOLIO_ANON : 0);
}

/* Not 0 if memory.reclaim may split a folio with these flags: without branches, as most folios may
 * not be split. */
static inline uint32_t reclaim_may_split(uint32_t flags, uint32_t enough)
{
	return (flags & enough) |
	       ((flags & (RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED)) == RMF_FOLIO_ANON);
}

/* Whether memory.reclaim may split one of nr folios from `first` on. */
static bool reclaim_may_split_any(const struct rmf_run *run, uint64_t first, uint64_t nr,
				  uint32_t enough)
{
	const uint32_t *flags = run->pop.folio_flags + first;
	uint32_t any = 0;

	for (uint64_t i = 0; i < nr; i++)
		any |= reclaim_may_split(flags[i], enough);
	return any;
}

int rmf_split_room(const struct rmf_run *run, enum rmf_splitter splitter, uint64_t *folios,
		   uint64_t *pairs, struct rmf_fault *fault)
{
	enum { BLOCK = 512 };
	const struct rmf_population *pop = &run->pop;
	const uint32_t enough = enough_to_split(run);
	uint64_t rows_left = pop->nr_rmap;

	*folios = *pairs = 0;
	for (uint64_t first = 0; first < pop->nr_folios; first += BLOCK) {
		const uint64_t left = pop->nr_folios - first, nr = left < BLOCK ? left : BLOCK;

		if (splitter == RMF_SPLITTER_RECLAIM &&
		    !reclaim_may_split_any(run, first, nr, enough))
			continue;
		for (uint64_t i = first; i < first + nr; i++) {
			const uint64_t pieces = rmf_folio_nr_pages(pop, i) - 1;
			uint64_t rows;

			if (splitter == RMF_SPLITTER_RECLAIM &&
			    !reclaim_may_split(pop->folio_flags[i], enough))
				continue;
			*folios += pieces;
			rows = pop->rmap_start[i + 1] - pop->rmap_start[i];
			if (rows > rows_left)
				return rmf_fault_at(fault, "population.rmap_start", i,
						    "was changed while the run began");
			rows_left -= rows;
			*pairs += pieces * rows;
		}
	}
	return 0;
}

static bool has_room(const struct rmf_run *run, uint64_t folio)
{
	const struct rmf_population *pop = &run->pop;
	uint64_t pieces = rmf_folio_nr_pages(pop, folio) - 1,
		 row = pop->rmap_start[folio + 1] - pop->rmap_start[folio];

	return run->pieces && folio < run->nr_given && pop->folio_capacity >= pop->nr_folios &&
	       pop->folio_capacity - pop->nr_folios >= pieces &&
	       pop->rmap_capacity >= pop->nr_rmap &&
	       pop->rmap_capacity - pop->nr_rmap >= pieces * row;
}

static bool is_cached(uint32_t flags)
{
	return !(flags & RMF_FOLIO_ANON) || (flags & RMF_FOLIO_SWAPCACHE);
}

/* Models the tests of __folio_split(), mm/huge_memory.c, Linux v7.0: somebody else holds the folio,
 * or its private data cannot be released. */
static bool refused(const struct rmf_population *pop, uint64_t folio)
{
	const uint32_t flags = pop->folio_flags[folio];
	const int64_t cache = is_cached(flags) ? rmf_folio_nr_pages(pop, folio) : 0;

	if (flags & RMF_FOLIO_PINNED)
		return true;
	if (pop->folio_refcount[folio] != 1 + (int64_t)pop->folio_mapcount[folio] + cache)
		return true;
	return !(flags & (RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED)) && (flags & RMF_FOLIO_DIRTY);
}

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static void mark_dirty(struct rmf_run *run, uint64_t folio)
{
	run->pop.folio_flags[folio] |= RMF_FOLIO_DIRTY;
	rmf_count(run, RMF_FOLIOS_DIRTIED, 1);
}

static void add_anon_rss(struct rmf_run *run, uint32_t vma, int64_t nr)
{
	uint64_t mm = run->pop.vma_mm[vma];

	rmf_count(run, RMF_RSS_UPDATES, 1);
	run->pop.mm_rss[mm * RMF_NR_MM_COUNTERS + RMF_MM_ANONPAGES] += nr;
}

static void put_refs(struct rmf_run *run, uint64_t folio, int32_t nr)
{
	rmf_count(run, RMF_REF_PUTS, 1);
	run->pop.folio_refcount[folio] -= nr;
}

/* Models __split_huge_pmd_locked() with freeze, mm/huge_memory.c, Linux v7.0: the leaf becomes a
 * table of migration entries. */
static void migrate_pmd(struct rmf_run *run, struct rmf_walk *walk, struct rmf_pages *pages)
{
	const uint64_t table = rmf_walk_table_start(walk), nr = walk->slots.table_mask + 1;
	const rmf_pte pmd = *rmf_slots_at(&walk->slots, table);

	rmf_count(run, RMF_PMD_SPLITS, 1);
	rmf_tlb_flush_range(run, run->pop.vma_mm[walk->vma], table, nr);
	if (pmd & RMF_PTE_DIRTY)
		mark_dirty(run, pages->folio);
	for (uint64_t i = 0; i < nr; i++)
		*rmf_slots_at(&walk->slots, table + i) = mk_migration(rmf_pte_advance(pmd, i));
	*rmf_walk_table_state(walk) = RMF_TABLE_PTE;
	rmf_count(run, RMF_MIGRATION_ENTRIES, nr);
	rmf_folio_remove_rmap_pmd(pages);
	put_refs(run, pages->folio, 1);
}

/* One entry of try_to_migrate_one(), mm/rmap.c, Linux v7.0. It is never part of a batch. */
static void migrate_pte(struct rmf_run *run, struct rmf_walk *walk, struct rmf_pages *pages)
{
	const struct rmf_slots *slots = &walk->slots;
	rmf_pte *slot = rmf_slots_at(slots, walk->vpn), pte;
	uint64_t page;

	rmf_count(run, RMF_ENTRY_PTE_READS, 1);
	page = rmf_pte_pfn(rmf_ptep_get(slots, walk->vpn)) - walk->folio_pfn;
	if (!rmf_pte_present(*slot) || page >= walk->nr_pages)
		return; /* a device entry stays; so does one that was changed since the walk read it
			 */
	rmf_contpte_unfold_edges(slots, walk->vpn, 1);
	pte = *slot;
	rmf_count(run, RMF_PTES_CLEARED, 1);
	rmf_tlb_flush_cleared(run, run->pop.vma_mm[walk->vma], true, pte, walk->vpn, 1);
	if (pte & RMF_PTE_DIRTY)
		mark_dirty(run, pages->folio);
	if (rmf_pages_flags(pages, page) & RMF_PAGE_HWPOISON) {
		*slot = rmf_mk_nonpresent(RMF_KIND_HWPOISON, rmf_pte_pfn(pte), 0);
		add_anon_rss(run, walk->vma, -1);
	} else {
		*slot = mk_migration(pte);
		rmf_count(run, RMF_MIGRATION_ENTRIES, 1);
	}
	rmf_folio_remove_rmap_ptes(pages, page, 1);
	put_refs(run, pages->folio, 1);
}

/* Models try_to_migrate_one(), mm/rmap.c, Linux v7.0. */
static void migrate_from_vma(struct rmf_run *run, uint64_t folio, uint32_t vma)
{
	struct rmf_pages pages;
	struct rmf_walk walk;

	if (!rmf_walk_start(&walk, run, folio, vma, RMF_PVMW_SYNC))
		return;
	rmf_count(run, RMF_NOTIFIER_RANGES, 1);
	rmf_pages_open(&pages, run, folio);
	while (rmf_page_vma_mapped_walk(&walk)) {
		if (!walk.pmd) {
			migrate_pte(run, &walk, &pages);
			continue;
		}
		if (!rmf_pte_present(*rmf_slots_at(&walk.slots, rmf_walk_table_start(&walk))))
			break; /* a device entry stays */
		migrate_pmd(run, &walk, &pages);
		rmf_walk_restart(&walk);
	}
	rmf_pages_close(&pages);
}

/* Models unmap_folio(), mm/huge_memory.c, Linux v7.0. Entries of a file folio are gone for good. */
static void unmap_folio(struct rmf_run *run, uint64_t folio)
{
	const struct rmf_population *pop = &run->pop;
	uint32_t ttu = RMF_TTU_BATCH_FLUSH | RMF_TTU_SYNC | RMF_TTU_IGNORE_MLOCK;

	if (!(pop->folio_flags[folio] & RMF_FOLIO_ANON)) {
		if (pop->folio_mapcount[folio] <= 0)
			return;
		if (rmf_folio_nr_pages(pop, folio) >= run->arch.ptrs_per_pte)
			ttu |= RMF_TTU_SPLIT_HUGE_PMD;
		rmf_try_to_unmap(run, folio, ttu);
		return;
	}
	for (uint64_t i = pop->rmap_start[folio]; i < pop->rmap_start[folio + 1]; i++) {
		migrate_from_vma(run, folio, pop->rmap_vma[i]);
		if (pop->folio_mapcount[folio] <= 0)
			break;
	}
}

/* The flags of a piece whose page has the flags `page`. */
static uint32_t piece_flags(uint32_t folio, uint8_t page)
{
	folio &= ~(uint32_t)(RMF_FOLIO_MAYBE_SHARED | RMF_FOLIO_PARTIALLY_MAPPED |
			     RMF_FOLIO_PAGE_MAPCOUNTS | RMF_FOLIO_PAGE_FLAGS | RMF_FOLIO_EXCLUSIVE);
	if (page == RMF_PAGE_EXCLUSIVE)
		return folio | RMF_FOLIO_EXCLUSIVE;
	return page ? folio | RMF_FOLIO_PAGE_FLAGS : folio;
}

/* Whether the VMA covers the page offset. */
static bool covers(const struct rmf_population *pop, uint32_t vma, uint64_t index)
{
	return index - pop->vma_pgoff[vma] < pop->vma_end[vma] - pop->vma_start[vma];
}

/* Add the folio of one page. It has the row of the folio as far as it concerns the page. */
static void add_piece(struct rmf_population *pop, uint64_t folio, uint32_t page, uint32_t flags,
		      int32_t mapcount, int32_t refcount)
{
	const uint64_t piece = page ? pop->nr_folios++ : folio;

	pop->folio_order[piece] = 0;
	pop->folio_flags[piece] = flags;
	pop->folio_mapcount[piece] = mapcount;
	pop->folio_refcount[piece] = refcount;
	pop->folio_entire_mapcount[piece] = 0;
	pop->folio_swap[piece] = flags & RMF_FOLIO_SWAPCACHE ? pop->folio_swap[folio] + page : 0;
	if (!page)
		return;
	pop->folio_pfn[piece] = pop->folio_pfn[folio] + page;
	pop->folio_index[piece] = pop->folio_index[folio] + page;
	pop->folio_page_base[piece] = pop->folio_page_base[folio] + page;
	for (uint64_t i = pop->rmap_start[folio]; i < pop->rmap_start[folio + 1]; i++)
		if (covers(pop, pop->rmap_vma[i], pop->folio_index[piece]))
			pop->rmap_vma[pop->nr_rmap++] = pop->rmap_vma[i];
	pop->rmap_start[piece + 1] = pop->nr_rmap;
}

/* Models __split_folio_to_order(), mm/huge_memory.c, Linux v7.0. The reference of the caller goes
 * to the first page. With `held` each piece gets one too. */
static void make_pieces(struct rmf_run *run, uint32_t folio, bool held)
{
	struct rmf_population *pop = &run->pop;
	const uint32_t flags = pop->folio_flags[folio], nr = rmf_folio_nr_pages(pop, folio);
	const int32_t entire = pop->folio_entire_mapcount[folio], cached = is_cached(flags);
	const uint64_t base = rmf_folio_page_base(pop, folio);
	const bool own = flags & RMF_FOLIO_PAGE_MAPCOUNTS;
	const int32_t each = (pop->folio_mapcount[folio] - entire) / (int32_t)nr;

	run->pieces[folio] =
		(struct rmf_pieces){ .first = (uint32_t)pop->nr_folios, .nr = (uint16_t)(nr - 1) };
	for (uint32_t i = 0; i < nr; i++) {
		int32_t mapcount = entire + (own ? pop->page_mapcount[base + i] : each);
		uint8_t page = flags & RMF_FOLIO_EXCLUSIVE ? RMF_PAGE_EXCLUSIVE : 0;

		if (flags & RMF_FOLIO_PAGE_FLAGS)
			page = pop->page_flags[base + i];
		pop->page_flags[base + i] = page;
		add_piece(pop, folio, i, piece_flags(flags, page), mapcount,
			  mapcount + cached + (held || !i));
	}
}

/* Models try_to_map_unused_to_zeropage(), mm/migrate.c, Linux v7.0: a page of zero bytes is not
 * mapped again. */
static bool becomes_zero_page(const struct rmf_population *pop, uint64_t piece, uint32_t vma)
{
	return rmf_page_has(pop, piece, 0, RMF_PAGE_ZERO) &&
	       !rmf_page_has(pop, piece, 0, RMF_PAGE_HWPOISON) &&
	       !(pop->folio_flags[piece] & RMF_FOLIO_MLOCKED) &&
	       !(pop->vma_flags[vma] & RMF_VMA_LOCKED);
}

/* Models remove_migration_pte(), mm/migrate.c, Linux v7.0, for the piece in one VMA. Returns how
 * many entries became the zero page. */
static uint64_t remap_in_vma(struct rmf_run *run, uint64_t piece, uint32_t vma)
{
	struct rmf_population *pop = &run->pop;
	struct rmf_walk walk;
	uint64_t zero = 0;

	if (!rmf_walk_start(&walk, run, piece, vma, RMF_PVMW_SYNC | RMF_PVMW_MIGRATION))
		return 0;
	while (rmf_page_vma_mapped_walk(&walk)) {
		rmf_pte *slot = rmf_slots_at(&walk.slots, walk.vpn);

		if (walk.pmd)
			break;
		rmf_count(run, RMF_ENTRY_PTE_READS, 1);
		rmf_ptep_get(&walk.slots, walk.vpn);
		if (becomes_zero_page(pop, piece, vma)) {
			*slot = (RMF_ZERO_PFN << RMF_PFN_SHIFT) | RMF_PTE_PRESENT |
				RMF_PTE_SPECIAL | (*slot & (RMF_PTE_SOFT_DIRTY | RMF_PTE_UFFD_WP));
			add_anon_rss(run, vma, -1);
			zero++;
			continue;
		}
		*slot = mk_present_again(*slot);
		rmf_count(run, RMF_PTES_REMAPPED, 1);
		run->mapped_stat += pop->folio_mapcount[piece]++ == 0;
		pop->folio_refcount[piece]++;
	}
	rmf_count(run, RMF_ZERO_PAGES_MAPPED, zero);
	return zero;
}

static uint64_t number_of_piece(const struct rmf_run *run, uint32_t folio, uint32_t page)
{
	return page ? run->pieces[folio].first + page - 1 : folio;
}

/* Remove from migration entries that were not found what only this file reads. They are where the
 * folio is mapped, or in the tables that its PMD leaves became. */
static void strip_migration_entries(struct rmf_run *run, uint64_t folio, uint64_t nr)
{
	const struct rmf_population *pop = &run->pop;
	const rmf_pte saved = SAVED_WRITE | SAVED_YOUNG | SAVED_DIRTY | RMF_PTE_UNUSED |
			      RMF_PTE_PROT;
	const uint64_t around = nr < pop->ptrs_per_pte ? 0 : pop->ptrs_per_pte;
	const uint64_t first = pop->folio_index[folio];

	for (uint64_t i = pop->rmap_start[folio]; i < pop->rmap_start[folio + 1]; i++) {
		const uint32_t vma = pop->rmap_vma[i];

		for (uint64_t index = less(first, around); index < first + nr + around; index++) {
			rmf_pte *pte;

			if (!covers(pop, vma, index))
				continue;
			pte = pop->ptes + pop->vma_pte_base[vma] + (index - pop->vma_pgoff[vma]);
			if (rmf_pte_kind(*pte) == RMF_KIND_MIGRATION)
				*pte &= ~saved;
		}
	}
}

/* Models remap_page(), mm/huge_memory.c, Linux v7.0: one rmap walk for each page. */
static void remap_pieces(struct rmf_run *run, uint32_t folio)
{
	const struct rmf_population *pop = &run->pop;

	for (uint32_t page = 0; page <= run->pieces[folio].nr; page++) {
		const uint64_t piece = number_of_piece(run, folio, page);
		uint64_t zero = 0;

		rmf_count(run, RMF_REMAP_WALKS, 1);
		for (uint64_t i = pop->rmap_start[piece]; i < pop->rmap_start[piece + 1]; i++)
			zero += remap_in_vma(run, piece, pop->rmap_vma[i]);
		rmf_count(run, RMF_ZERO_PAGES_FREED, zero && !pop->folio_mapcount[piece]);
	}
	strip_migration_entries(run, folio, (uint64_t)run->pieces[folio].nr + 1);
}

bool rmf_split_folio(struct rmf_run *run, uint32_t folio, bool turns)
{
	struct rmf_population *pop = &run->pop;
	const uint32_t shared = pop->folio_flags[folio] & RMF_FOLIO_MAYBE_SHARED;

	if (refused(pop, folio)) {
		rmf_count(run, RMF_SPLIT_FAILURES, 1);
		return false;
	}
	if (!has_room(run, folio)) {
		run->error = RMF_RUN_NO_ROOM;
		return false;
	}
	unmap_folio(run, folio);
	rmf_count(run, RMF_FOLIO_SPLITS, 1);
	rmf_deferred_remove(run, folio);
	make_pieces(run, folio, turns);
	if (pop->folio_flags[folio] & RMF_FOLIO_ANON)
		remap_pieces(run, folio);
	for (uint32_t page = 0; page <= run->pieces[folio].nr; page++) {
		const uint64_t piece = number_of_piece(run, folio, page);

		pop->folio_nr_pages_mapped[piece] = pop->folio_mapcount[piece] > 0;
		if (pop->folio_mapcount[piece] > 1)
			pop->folio_flags[piece] |= shared;
	}
	if (turns) {
		const bool ascending = run->policy.split_ascending;

		run->turns.left = run->pieces[folio].nr;
		run->turns.next = run->pieces[folio].first + (ascending ? 0 : run->turns.left - 1);
		run->turns.ascending = ascending;
	} else {
		run->pieces[folio].unplaced = 1;
	}
	return true;
}

bool rmf_split_folio_now(struct rmf_run *run, uint32_t folio)
{
	struct rmf_population *pop = &run->pop;
	bool split;

	pop->folio_refcount[folio]++;
	split = rmf_split_folio(run, folio, false);
	rmf_try_to_unmap_flush(run);
	pop->folio_refcount[folio]--;
	for (uint32_t page = 0; split && page <= run->pieces[folio].nr; page++) {
		const uint64_t piece = number_of_piece(run, folio, page);

		if (pop->folio_refcount[piece])
			continue;
		pop->folio_flags[piece] |= RMF_FOLIO_FREED;
		rmf_count(run, RMF_PAGES_CAME_BACK, 1);
	}
	return split;
}
