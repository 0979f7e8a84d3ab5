/* The deferred-split queue: who is on it, how much of it a pass scans, and what comes back. */
#include "shrinker.h"
#include "testing.h"

enum { VPN = 1024, PFN = 0x1000, ANON = RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED };

/* `nr` anonymous folios of 16 pages in one VMA. Of each, all pages but the first `mapped` are
 * holes, and it is flagged. */
static struct world make_queued(uint64_t nr, uint32_t mapped)
{
	struct world world = make_world(arch_x86(), policy_v7_0_12());
	uint32_t vma = add_vma(
		&world, (struct vma_spec){ .start = VPN, .nr = 16 * nr, .flags = RMF_VMA_ANON });

	for (uint64_t i = 0; i < nr; i++) {
		uint32_t folio = add_folio(&world, (struct folio_spec){ .pfn = PFN + 16 * i,
									.index = 16 * i,
									.order = 4,
									.flags = ANON });

		map_folio(&world, vma, 0);
		for (uint32_t page = mapped; page < 16; page++)
			make_hole(&world, vma, folio, page);
		world.pop->folio_flags[folio] |= RMF_FOLIO_PARTIALLY_MAPPED;
	}
	give_room(&world);
	expect_eq(rmf_deferred_set(world.run), 0, "the queue");
	return world;
}

/* Four folios wait for a low priority: 2 * (4 >> 2) = 2 are too few, and are carried over; with
 * half of them and 2 * (4 >> 1) there are 5, which is enough for all four. */
static void test_priority(void)
{
	struct world world = make_queued(4, 1);

	for (uint32_t priority = 12; priority >= 2; priority--)
		expect_eq((int64_t)rmf_shrink_deferred(world.run, priority), 0, "not yet");
	expect_eq((int64_t)world.run->deferred.carry, 2, "carried over");
	expect_event(&world, RMF_DEFERRED_SCANS, 0);
	expect_eq((int64_t)rmf_shrink_deferred(world.run, 1), 4, "all four");
	expect_sound(&world);
	expect_event(&world, RMF_DEFERRED_SCANS, 4);
	expect_event(&world, RMF_FOLIO_SPLITS, 4);
	expect_event(&world, RMF_DEFERRED_SPLITS, 0);
	expect_event(&world, RMF_PAGES_CAME_BACK, 60);
	expect_event(&world, RMF_PAGES_FREED, 0);
	expect_eq((int64_t)world.run->deferred.n, 0, "none is left");
	expect_eq((int64_t)nr_present(&world, 0), 4, "mapped");
	free_world(&world);
}

/* A folio that somebody pins is looked at each time, and goes to the end of the queue. */
static void test_pinned(void)
{
	struct world world = make_queued(2, 1);
	uint32_t queue[2] = { 9, 9 };

	world.pop->folio_flags[0] |= RMF_FOLIO_PINNED;
	world.pop->folio_flags[1] |= RMF_FOLIO_LOCKED;
	for (int i = 0; i < 3; i++)
		expect_eq((int64_t)rmf_shrink_deferred(world.run, 0), 0, "none is split");
	expect_event(&world, RMF_DEFERRED_SCANS, 6);
	expect_event(&world, RMF_SPLIT_FAILURES, 3);
	rmf_deferred_list(world.run, queue);
	expect_eq(queue[0], 0, "first");
	expect_eq(queue[1], 1, "second");
	free_world(&world);
}

/* An unflagged folio is split only if more of its pages are zero than max_ptes_none. */
static void test_underused(void)
{
	for (uint32_t none = 7; none <= 8; none++) {
		struct world world = make_queued(1, 16);

		world.run->max_ptes_none = none;
		world.pop->folio_flags[0] &= ~(uint32_t)RMF_FOLIO_PARTIALLY_MAPPED;
		for (uint32_t page = 8; page < 16; page++)
			mark_page(&world, 0, page, RMF_PAGE_ZERO);
		expect_eq((int64_t)rmf_shrink_deferred(world.run, 0), none == 7, "underused?");
		expect_event(&world, RMF_PAGES_CAME_BACK, none == 7 ? 8 : 0);
		expect_eq((int64_t)world.run->deferred.n, 0, "it has left the queue");
		free_world(&world);
	}
}

/* memory.reclaim without swap: nobody scans the folios, nothing is reclaimed, and yet their holes
 * come back, because the shrinker runs in the passes. */
static void test_without_swap(void)
{
	struct world world = make_queued(4, 2);
	uint32_t *lists = calloc(2 * world.pop->folio_capacity, sizeof(*lists));
	const struct rmf_lru_options classic = { .mglru = false };
	struct rmf_reclaim reclaim;
	struct rmf_fault fault;

	if (!lists)
		abort();
	for (uint32_t i = 0; i < 4; i++)
		lists[i] = i;
	expect_eq(rmf_reclaim_start(&reclaim, world.run, lists, 4,
				    lists + world.pop->folio_capacity, 0, 1000, &classic, &fault),
		  0, "start");
	while (rmf_reclaim_step(&reclaim, 1))
		;
	rmf_reclaim_free(&reclaim);
	expect_sound(&world);
	expect_event(&world, RMF_FOLIO_SPLITS, 4);
	expect_event(&world, RMF_PAGES_CAME_BACK, 4 * 14);
	expect_event(&world, RMF_PAGES_FREED, 0);
	expect_event(&world, RMF_FOLIOS_SCANNED, 0);
	/* 16 rounds in vain, each through the priorities and once more with all memory cgroups */
	expect_event(&world, RMF_RECLAIM_ROUNDS, 16);
	expect_event(&world, RMF_PRIORITY_PASSES, 16 * 2 * 13);
	expect_eq((int64_t)nr_present(&world, 0), 8, "mapped pages stay");
	free(lists);
	free_world(&world);
}

/* A folio in the swap cache is never queued, nor one of two pages. A lazyfree one that loses its
 * mappings page by page is, and leaves the queue when it is freed. */
static void test_who_is_queued(void)
{
	const struct {
		uint8_t order;
		uint32_t flags;
		uint64_t want;
	} cases[] = { { 4, FOLIO_SWAP, 0 }, { 1, FOLIO_LAZYFREE, 0 }, { 2, FOLIO_LAZYFREE, 1 } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct world world = make_mapped(arch_x86(), policy_v6_14(), VPN, cases[i].order,
						 cases[i].flags, RMF_VMA_ANON, 0);

		expect_eq(rmf_deferred_set(world.run), 0, "the queue");
		rmf_try_to_unmap_one(world.run, 0, 0, RMF_TTU_BATCH_FLUSH);
		expect_event(&world, RMF_DEFERRED_SPLITS, cases[i].want);
		expect_eq((int64_t)world.run->deferred.n, (int64_t)cases[i].want, "on the queue");
		free_world(&world);
	}
}

int main(void)
{
	run_test("priority", test_priority);
	run_test("pinned", test_pinned);
	run_test("underused", test_underused);
	run_test("without_swap", test_without_swap);
	run_test("who_is_queued", test_who_is_queued);
	return report("test_deferred");
}
