/* The split of a folio: what it costs, what becomes of the pages, and what refuses it. The numbers
 * are those of docs/kernel-rules.md and of the recorded cases, worked out by hand. */
#include "testing.h"

enum { VPN = 1024, PFN = 0x1000, ANON = RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED };

/* One folio that one VMA maps whole, with nobody else's reference, and room for its pieces. */
static struct world make_whole(uint8_t order, uint32_t folio_flags, uint32_t vma_flags,
			       rmf_pte pte_flags)
{
	struct world world = make_mapped(arch_x86(), policy_v7_0_12(), VPN, order, folio_flags,
					 vma_flags, pte_flags);

	world.pop->folio_refcount[0]--;
	give_room(&world);
	return world;
}

static void expect_folio(const struct world *world, uint64_t folio, uint32_t flags,
			 int32_t mapcount, int32_t refcount, const char *what)
{
	expect_eq(world->pop->folio_flags[folio], flags, what);
	expect_eq(world->pop->folio_mapcount[folio], mapcount, what);
	expect_eq(world->pop->folio_refcount[folio], refcount, what);
	expect_eq(world->pop->folio_order[folio], 0, what);
}

/* An anonymous folio of 4 pages: each page is unmapped, found again and mapped again by itself. */
static void test_cost(void)
{
	const rmf_pte flags = RMF_PTE_WRITE | RMF_PTE_YOUNG | RMF_PTE_DIRTY | RMF_PTE_SOFT_DIRTY;
	struct world world = make_whole(2, ANON | RMF_FOLIO_EXCLUSIVE, RMF_VMA_ANON, flags);
	const struct event_count wanted[] = {
		{ RMF_FOLIO_SPLITS, 1 },
		{ RMF_NOTIFIER_RANGES, 1 },
		/* the unmap reads each entry once, and once more as the caller */
		{ RMF_WALK_CALLS, 5 + 4 * 2 },
		{ RMF_WALK_YIELDS, 4 + 4 },
		{ RMF_WALK_PTE_READS, 7 + 4 },
		{ RMF_WALK_SLOTS, 4 + 4 },
		{ RMF_ENTRY_PTE_READS, 4 + 4 },
		{ RMF_RAW_PTE_LOADS, 11 + 8 },
		{ RMF_PTL_LOCKS, 1 + 4 },
		{ RMF_PTES_CLEARED, 4 },
		{ RMF_FOLIOS_DIRTIED, 4 },
		{ RMF_MIGRATION_ENTRIES, 4 },
		{ RMF_TLB_DEFERRED, 4 },
		{ RMF_TLB_FLUSHES, 1 },
		{ RMF_TLBI_OPS, 1 },
		{ RMF_IPIS, 1 },
		{ RMF_RMAP_REMOVE_CALLS, 4 },
		{ RMF_PAGE_MAPCOUNT_ATOMICS, 4 },
		{ RMF_FOLIO_MAPCOUNT_ATOMICS, 8 },
		{ RMF_REF_PUTS, 4 },
		{ RMF_DEFERRED_SPLITS, 1 }, /* once the first page is unmapped */
		{ RMF_REMAP_WALKS, 4 },
		{ RMF_PTES_REMAPPED, 4 },
	};

	expect(rmf_split_folio_now(world.run, 0), "it is split");
	expect_only(&world, wanted, sizeof(wanted) / sizeof(wanted[0]));
	expect_sound(&world);
	expect_eq((int64_t)world.pop->nr_folios, 4, "folios");
	expect_eq((int64_t)world.pop->nr_rmap, 4, "rmap pairs");
	for (uint64_t i = 0; i < 4; i++) {
		expect_folio(&world, i, ANON | RMF_FOLIO_EXCLUSIVE | RMF_FOLIO_DIRTY, 1, 1,
			     "piece");
		expect_eq((int64_t)world.pop->folio_pfn[i], PFN + (int64_t)i, "PFN");
		expect_eq((int64_t)world.pop->folio_index[i], (int64_t)i, "index");
		expect_eq((int64_t)*pte_at(&world, 0, VPN + i),
			  (int64_t)mk_pte(PFN + i, flags | RMF_PTE_PRESENT), "as before");
	}
	expect_eq(world.pop->mm_rss[RMF_MM_ANONPAGES], 4, "rss");
	expect_eq(world.run->mapped_stat, 0, "as many mapped pages");
	free_world(&world);
}

/* A PMD leaf becomes a table of migration entries at once: one flush, and never "partially
 * mapped". */
static void test_pmd(void)
{
	struct world world = make_whole(9, ANON, RMF_VMA_ANON, RMF_PTE_WRITE);

	world.pop->table_state[0] = RMF_TABLE_PMD_LEAF;
	world.pop->folio_mapcount[0] = world.pop->folio_entire_mapcount[0] = 1;
	world.pop->folio_refcount[0] = 1;
	expect(rmf_split_folio_now(world.run, 0), "it is split");
	expect_event(&world, RMF_PMD_SPLITS, 1);
	expect_event(&world, RMF_TLB_IMMEDIATE, 1);
	expect_event(&world, RMF_TLB_FLUSHES, 0);
	expect_event(&world, RMF_DEFERRED_SPLITS, 0);
	expect_event(&world, RMF_RMAP_REMOVE_CALLS, 1);
	expect_event(&world, RMF_MIGRATION_ENTRIES, 512);
	expect_event(&world, RMF_REMAP_WALKS, 512);
	expect_event(&world, RMF_PTES_REMAPPED, 512);
	expect_eq(world.pop->table_state[0], RMF_TABLE_PTE, "a table of entries");
	expect_eq((int64_t)world.pop->nr_folios, 512, "folios");
	expect_eq((int64_t)nr_present(&world, 0), 512, "present");
	expect_eq(world.pop->folio_entire_mapcount[0], 0, "no PMD mapping");
	expect_sound(&world);
	free_world(&world);
}

/* Pages of zero bytes are not mapped again, unless the VMA is locked. What nothing maps is freed.
 */
static void test_zero_pages(void)
{
	for (int locked = 0; locked < 2; locked++) {
		struct world world = make_mapped(arch_x86(), policy_v7_0_12(), VPN, 4, ANON,
						 RMF_VMA_ANON | (locked ? RMF_VMA_LOCKED : 0),
						 RMF_PTE_WRITE | RMF_PTE_SOFT_DIRTY);
		const uint64_t zero = locked ? 0 : 12;

		world.pop->folio_refcount[0]--;
		for (uint32_t page = 0; page < 16; page++)
			if (page % 4)
				mark_page(&world, 0, page, RMF_PAGE_ZERO);
		give_room(&world);
		expect(rmf_split_folio_now(world.run, 0), "it is split");
		expect_sound(&world);
		expect_event(&world, RMF_ZERO_PAGES_MAPPED, zero);
		expect_event(&world, RMF_ZERO_PAGES_FREED, zero);
		expect_event(&world, RMF_PAGES_CAME_BACK, zero);
		expect_event(&world, RMF_PAGES_FREED, 0);
		expect_event(&world, RMF_PTES_REMAPPED, 16 - zero);
		expect_eq(world.pop->mm_rss[RMF_MM_ANONPAGES], 16 - (int64_t)zero, "rss");
		expect_eq((int64_t)*pte_at(&world, 0, VPN + 1),
			  locked ? (int64_t)mk_pte(PFN + 1, RMF_PTE_PRESENT | RMF_PTE_WRITE |
								    RMF_PTE_SOFT_DIRTY)
				 : (int64_t)mk_pte(RMF_ZERO_PFN, RMF_PTE_PRESENT | RMF_PTE_SPECIAL |
									 RMF_PTE_SOFT_DIRTY),
			  "the zero page, or the page");
		expect_eq(!!(world.pop->folio_flags[1] & RMF_FOLIO_FREED), !locked, "freed");
		expect_eq(world.pop->folio_flags[0] & RMF_FOLIO_FREED, 0, "page 0 stays");
		free_world(&world);
	}
}

/* The pages of holes are freed. A folio that was flagged before counts no second time. */
static void test_holes(void)
{
	struct world world =
		make_mapped(arch_x86(), policy_v7_0_12(), VPN, 4, ANON, RMF_VMA_ANON, 0);

	world.pop->folio_refcount[0]--;
	for (uint32_t page = 0; page < 16; page += 2)
		make_hole(&world, 0, 0, page);
	world.pop->folio_flags[0] |= RMF_FOLIO_PARTIALLY_MAPPED;
	give_room(&world);
	expect(rmf_split_folio_now(world.run, 0), "it is split");
	expect_sound(&world);
	expect_event(&world, RMF_DEFERRED_SPLITS, 0);
	expect_event(&world, RMF_MIGRATION_ENTRIES, 8);
	expect_event(&world, RMF_REMAP_WALKS, 16);
	expect_event(&world, RMF_PAGES_CAME_BACK, 8);
	expect_folio(&world, 0, ANON | RMF_FOLIO_FREED, 0, 0, "the first page is a hole");
	expect_folio(&world, 1, ANON, 1, 1, "mapped");
	free_world(&world);
}

/* One dirty entry makes every page of the folio dirty. */
static void test_dirty_spreads(void)
{
	struct world world = make_whole(2, FOLIO_LAZYFREE, RMF_VMA_ANON, 0);

	*pte_at(&world, 0, VPN + 2) |= RMF_PTE_DIRTY;
	expect(rmf_split_folio_now(world.run, 0), "it is split");
	for (uint64_t i = 0; i < 4; i++) {
		expect_folio(&world, i, RMF_FOLIO_ANON | RMF_FOLIO_DIRTY, 1, 1, "dirty");
		expect_eq(!!(*pte_at(&world, 0, VPN + i) & RMF_PTE_DIRTY), i == 2, "entry");
	}
	free_world(&world);
}

/* All entries of a file folio go, and its pages stay in the cache. */
static void test_file(void)
{
	struct world world = make_whole(4, FOLIO_FILE, 0, 0);

	expect(rmf_split_folio_now(world.run, 0), "it is split");
	expect_sound(&world);
	expect_event(&world, RMF_FOLIO_SPLITS, 1);
	expect_event(&world, RMF_MIGRATION_ENTRIES, 0);
	expect_event(&world, RMF_REMAP_WALKS, 0);
	expect_event(&world, RMF_PAGES_CAME_BACK, 0);
	expect_eq((int64_t)nr_present(&world, 0), 0, "unmapped");
	for (uint64_t i = 0; i < 16; i++)
		expect_folio(&world, i, 0, 0, 1, "cached");
	free_world(&world);
}

/* The entry of a poisoned page becomes a hwpoison entry. */
static void test_poison(void)
{
	struct world world = make_whole(2, ANON, RMF_VMA_ANON, 0);

	mark_page(&world, 0, 3, RMF_PAGE_HWPOISON);
	expect(rmf_split_folio_now(world.run, 0), "it is split");
	expect_event(&world, RMF_MIGRATION_ENTRIES, 3);
	expect_eq((int64_t)*pte_at(&world, 0, VPN + 3),
		  (int64_t)rmf_mk_nonpresent(RMF_KIND_HWPOISON, PFN + 3, 0), "hwpoison");
	expect_eq((int64_t)nr_present(&world, 0), 3, "the rest");
	expect_eq(world.pop->mm_rss[RMF_MM_ANONPAGES], 3, "rss");
	free_world(&world);
}

static void expect_refused(uint32_t folio_flags, int32_t refs, const char *what)
{
	struct world world =
		make_whole(2, folio_flags, folio_flags & RMF_FOLIO_ANON ? RMF_VMA_ANON : 0, 0);
	const struct event_count wanted[] = { { RMF_SPLIT_FAILURES, 1 } };

	world.pop->folio_refcount[0] += refs;
	expect(!rmf_split_folio_now(world.run, 0), what);
	expect_only(&world, wanted, 1);
	expect_eq((int64_t)world.pop->nr_folios, 1, what);
	expect_eq((int64_t)nr_present(&world, 0), 4, what);
	expect_eq(world.run->error, RMF_RUN_OK, what);
	free_world(&world);
}

static void test_refused(void)
{
	expect_refused(ANON, 1, "an extra reference");
	expect_refused(ANON | RMF_FOLIO_PINNED, 0, "pinned");
	expect_refused(RMF_FOLIO_DIRTY, 0, "a dirty file folio");
	expect_refused(FOLIO_FILE, 1, "a file folio with an extra reference");
}

/* Without room in the arrays nothing is changed, and the run says so. */
static void test_no_room(void)
{
	struct world world = make_whole(2, ANON, RMF_VMA_ANON, 0);

	world.pop->folio_capacity--;
	expect(!rmf_split_folio_now(world.run, 0), "no room for a folio");
	expect_eq(world.run->error, RMF_RUN_NO_ROOM, "the run failed");
	expect_only(&world, NULL, 0);
	world.pop->folio_capacity++;
	world.pop->rmap_capacity--;
	expect(!rmf_split_folio_now(world.run, 0), "no room for a pair");
	expect_eq((int64_t)nr_present(&world, 0), 4, "nothing happened");
	free_world(&world);
}

/* Which pages of one folio get one of `slots` single slots: bit i stands for page i. */
static uint64_t swapped_pages(struct rmf_policy policy, uint8_t order, uint64_t slots)
{
	struct world world =
		make_mapped(arch_x86(), policy, VPN, order, ANON, RMF_VMA_ANON, RMF_PTE_DIRTY);
	const uint64_t starts[] = { 0, 1 };
	const uint32_t folios[] = { 0 };
	uint64_t swapped = 0, nr = (uint64_t)1 << order;

	world.pop->folio_refcount[0]--;
	world.run->swap_end = slots;
	give_room(&world);
	rmf_shrink_groups(world.run, folios, starts, 0, 1, UINT64_MAX);
	expect_sound(&world);
	for (uint64_t i = 0; i < nr; i++)
		if (rmf_pte_kind(*pte_at(&world, 0, VPN + i)) == RMF_KIND_SWAP)
			swapped |= (uint64_t)1 << i;
	expect_event(&world, RMF_FOLIO_SPLITS, 1);
	expect_event(&world, RMF_SWPOUT_FALLBACKS, 1);
	expect_event(&world, RMF_PAGES_WRITTEN, slots);
	expect_event(&world, RMF_PAGES_ACTIVATED, nr - slots);
	expect_event(&world, RMF_PAGES_SCANNED, nr);
	expect_event(&world, RMF_FOLIOS_SCANNED, nr);
	/* the flush of the split, one before each write-out, and none at the end */
	expect_event(&world, RMF_TLB_FLUSHES, 1 + slots);
	free_world(&world);
	return swapped;
}

/* The pieces take their turns in rising order up to v6.14; since, page 0 and then from the last. */
static void test_order_of_pieces(void)
{
	expect_eq((int64_t)swapped_pages(policy_v6_14(), 2, 3), 0x7, "v6.14: pages 0 to 2");
	expect_eq((int64_t)swapped_pages(policy_v7_0_12(), 2, 3), 0xd, "pages 0, 3 and 2");
	expect_eq((int64_t)swapped_pages(policy_v6_14(), 4, 10), 0x3ff, "v6.14: pages 0 to 9");
	expect_eq((int64_t)swapped_pages(policy_v7_0_12(), 4, 10), 0xff81,
		  "page 0 and pages 15 to 7");
}

int main(void)
{
	run_test("cost", test_cost);
	run_test("pmd", test_pmd);
	run_test("zero_pages", test_zero_pages);
	run_test("holes", test_holes);
	run_test("dirty_spreads", test_dirty_spreads);
	run_test("file", test_file);
	run_test("poison", test_poison);
	run_test("refused", test_refused);
	run_test("no_room", test_no_room);
	run_test("order_of_pieces", test_order_of_pieces);
	return report("test_split");
}
