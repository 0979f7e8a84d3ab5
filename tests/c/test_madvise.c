/* MADV_PAGEOUT, MADV_COLD and MADV_FREE on ranges: what they take, split, leave alone and return.
 */
#include "testing.h"

#include "madvise.h"

enum { VPN = 1024, PFN = 0x1000, ANON = RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED };

struct calls {
	struct world world;
	struct rmf_madvise madvise;
	uint32_t *lists;
};

/* `nr` folios of 16 pages, mapped one behind the other by VMA 0. */
static struct world make_row(struct rmf_policy policy, uint64_t nr, uint32_t folio_flags,
			     uint32_t vma_flags, rmf_pte pte_flags)
{
	struct world world = make_world(arch_x86(), policy);

	add_vma(&world, (struct vma_spec){ .start = VPN, .nr = 16 * nr, .flags = vma_flags });
	for (uint64_t i = 0; i < nr; i++) {
		add_folio(&world, (struct folio_spec){ .pfn = PFN + 16 * i,
						       .index = 16 * i,
						       .order = 4,
						       .flags = folio_flags });
		map_folio(&world, 0, pte_flags);
	}
	return world;
}

/* Put all folios on the inactive list, in the order of their numbers. */
static struct calls start(struct world world)
{
	struct calls calls = { .world = world };
	const uint32_t nr = (uint32_t)world.pop->nr_folios;
	struct rmf_fault fault;

	give_room(&world);
	calls.lists = calloc(2 * world.pop->folio_capacity, sizeof(*calls.lists));
	if (!calls.lists)
		abort();
	for (uint32_t i = 0; i < nr; i++)
		calls.lists[i] = i;
	expect_eq(rmf_madvise_start(&calls.madvise, world.run, calls.lists, nr,
				    calls.lists + world.pop->folio_capacity, 0, &fault),
		  0, "start");
	return calls;
}

static int advise(struct calls *calls, enum rmf_advice advice, uint64_t first, uint64_t end,
		  bool owner)
{
	struct rmf_fault fault;

	expect_eq(rmf_madvise_call(&calls->madvise, advice, 0, VPN + first, VPN + end, owner,
				   &fault),
		  0, "the call begins");
	while (rmf_madvise_step(&calls->madvise, 1))
		;
	expect_sound(&calls->world);
	return calls->madvise.ret;
}

static void finish(struct calls *calls)
{
	rmf_madvise_free(&calls->madvise);
	free(calls->lists);
	free_world(&calls->world);
}

static void expect_list(struct calls *calls, const uint32_t *wanted, uint64_t nr, const char *what)
{
	expect_eq(rmf_madvise_lists(&calls->madvise), 0, "lists");
	expect_eq((int64_t)calls->madvise.inactive.n, (int64_t)nr, what);
	for (uint64_t i = 0; i < nr && i < calls->madvise.inactive.n; i++)
		expect_eq(calls->lists[i], wanted[i], what);
}

/* 64 pages of a file in folios of 16, range 5 to 42: the whole folio is freed, two are cut. These
 * lose all their entries and stay in the cache; the last one is not touched. */
static void test_cut_file(void)
{
	struct calls calls = start(make_row(policy_v7_0_12(), 4, FOLIO_FILE, 0, 0));

	expect_eq(advise(&calls, RMF_MADV_PAGEOUT, 5, 43, true), 0, "result");
	expect_event(&calls.world, RMF_FOLIO_SPLITS, 2);
	expect_event(&calls.world, RMF_PAGES_FREED, 16);
	expect_event(&calls.world, RMF_PAGES_CAME_BACK, 16);
	expect_event(&calls.world, RMF_SHRINK_CALLS, 1);
	expect_eq((int64_t)nr_present(&calls.world, 0), 16, "mapped");
	/* 11 entries of folio 0 and the 11 empty slots after its split; folio 1; the same of the 11
	 * of folio 2 */
	expect_event(&calls.world, RMF_MADVISE_ENTRIES, 2 * 11 + 16 + 2 * 11);
	expect_eq(calls.world.pop->folio_refcount[0], 1, "cached");
	expect_eq(advise(&calls, RMF_MADV_PAGEOUT, 0, 48, true), 0, "again");
	expect_event(&calls.world, RMF_PAGES_FREED, 16);
	finish(&calls);
}

/* A cut anonymous folio: its pages in the range go, those outside stay mapped. */
static void test_cut_anon(void)
{
	struct calls calls = start(make_row(policy_v7_0_12(), 2, ANON, RMF_VMA_ANON, 0));
	uint32_t wanted[2 + 15] = { 0, 1 };

	calls.world.run->swap_end = 1000;
	expect_eq(advise(&calls, RMF_MADV_PAGEOUT, 0, 6, true), 0, "result");
	expect_event(&calls.world, RMF_FOLIO_SPLITS, 1);
	expect_event(&calls.world, RMF_SWPOUT_FALLBACKS, 0);
	expect_event(&calls.world, RMF_DEFERRED_SPLITS, 1);
	expect_event(&calls.world, RMF_SWAP_ALLOCS, 6);
	expect_event(&calls.world, RMF_PAGES_FREED, 6);
	expect_eq((int64_t)nr_present(&calls.world, 0), 26, "mapped");
	/* where folio 0 was: the pages that are left, from the last one */
	for (uint32_t i = 0; i < 10; i++)
		wanted[i] = 2 + 14 - i;
	wanted[10] = 1;
	expect_list(&calls, wanted, 11, "inactive");
	finish(&calls);
}

/* Without swap each folio is split, and each page is activated. A second call finds nothing to
 * split. */
static void test_without_swap(void)
{
	struct calls calls = start(make_row(policy_v7_0_12(), 4, ANON, RMF_VMA_ANON, 0));

	expect_eq(advise(&calls, RMF_MADV_PAGEOUT, 0, 64, true), 0, "result");
	expect_event(&calls.world, RMF_FOLIO_SPLITS, 4);
	expect_event(&calls.world, RMF_SWPOUT_FALLBACKS, 4);
	expect_event(&calls.world, RMF_PAGES_ACTIVATED, 64);
	expect_event(&calls.world, RMF_DEFERRED_SPLITS, 4);
	expect_event(&calls.world, RMF_PAGES_CAME_BACK, 0);
	/* one flush in each split; there is nothing left at the end */
	expect_event(&calls.world, RMF_TLB_FLUSHES, 4);
	expect_eq(advise(&calls, RMF_MADV_PAGEOUT, 0, 64, true), 0, "result");
	expect_event(&calls.world, RMF_FOLIO_SPLITS, 4);
	expect_event(&calls.world, RMF_PAGES_ACTIVATED, 128);
	expect_eq(rmf_madvise_lists(&calls.madvise), 0, "lists");
	expect_eq((int64_t)calls.madvise.active.n, 64, "active");
	expect_eq((int64_t)calls.madvise.inactive.n, 0, "inactive");
	finish(&calls);
}

/* The proposals split only if there is a slot, or a slot for each page. */
static void test_split_for_slots(void)
{
	for (int rule = RMF_SWAP_SPLIT_ALWAYS; rule <= RMF_SWAP_SPLIT_ALL_SLOTS; rule++)
		for (uint64_t slots = 0; slots <= 3; slots += 3) {
			struct rmf_policy policy = policy_v7_0_12();
			struct calls calls;
			bool splits = rule == RMF_SWAP_SPLIT_ALWAYS ||
				      (rule == RMF_SWAP_SPLIT_ANY_SLOT && slots);

			policy.swap_split = (enum rmf_swap_split_rule)rule;
			calls = start(make_row(policy, 1, ANON, RMF_VMA_ANON, 0));
			calls.world.run->swap_end = slots;
			advise(&calls, RMF_MADV_PAGEOUT, 0, 16, true);
			expect_event(&calls.world, RMF_FOLIO_SPLITS, splits);
			expect_event(&calls.world, RMF_PAGES_FREED, splits ? slots : 0);
			expect_event(&calls.world, RMF_PAGES_ACTIVATED, splits ? 16 - slots : 16);
			finish(&calls);
		}
}

/* A locked VMA ends the call with EINVAL; what came before is done. A gap gives ENOMEM at the end;
 * all the rest is done. */
static void test_results(void)
{
	struct world world = make_row(policy_v7_0_12(), 2, FOLIO_FILE, 0, 0);
	struct calls calls;

	add_vma(&world,
		(struct vma_spec){
			.start = VPN + 32, .nr = 16, .pgoff = 32, .flags = RMF_VMA_LOCKED });
	add_folio(&world, (struct folio_spec){ .pfn = PFN + 32, .index = 32, .order = 4 });
	map_folio(&world, 1, 0);
	add_vma(&world, (struct vma_spec){ .start = VPN + 64, .nr = 16, .pgoff = 64 });
	add_folio(&world, (struct folio_spec){ .pfn = PFN + 64, .index = 64, .order = 4 });
	map_folio(&world, 2, 0);
	calls = start(world);
	expect_eq(advise(&calls, RMF_MADV_PAGEOUT, 16, 80, true), RMF_MADVISE_EINVAL, "locked");
	expect_event(&calls.world, RMF_PAGES_FREED, 16);
	expect_eq((int64_t)nr_present(&calls.world, 2), 16, "not reached");
	expect_eq(advise(&calls, RMF_MADV_PAGEOUT, 48, 80, true), RMF_MADVISE_ENOMEM, "a gap");
	expect_event(&calls.world, RMF_PAGES_FREED, 32);
	expect_eq(advise(&calls, RMF_MADV_PAGEOUT, 80, 100, true), RMF_MADVISE_ENOMEM, "no VMA");
	expect_eq(advise(&calls, RMF_MADV_PAGEOUT, 5, 5, true), 0, "no page");
	expect_eq(advise(&calls, RMF_MADV_FREE, 0, 16, true), RMF_MADVISE_EINVAL,
		  "not an anonymous VMA");
	expect_eq((int64_t)nr_present(&calls.world, 0), 16, "nothing happened");
	expect_event(&calls.world, RMF_MADVISE_CALLS, 5);
	finish(&calls);
}

/* Who may not write a file does not page it out, but the pages that are the caller's own. */
static void test_owner(void)
{
	for (int shared = 0; shared < 2; shared++) {
		struct world world =
			make_row(policy_v7_0_12(), 1, FOLIO_FILE, shared ? RMF_VMA_SHARED : 0, 0);
		struct calls calls = start(world);

		expect_eq(advise(&calls, RMF_MADV_PAGEOUT, 0, 8, false), 0, "result");
		expect_eq(advise(&calls, RMF_MADV_PAGEOUT, 0, 16, false), 0, "result");
		expect_eq((int64_t)nr_present(&calls.world, 0), 16, "left alone");
		expect_event(&calls.world, RMF_MADVISE_ENTRIES, shared ? 0 : 24);
		expect_eq(advise(&calls, RMF_MADV_COLD, 0, 16, false), 0, "no such filter");
		expect_event(&calls.world, RMF_MADVISE_ENTRIES, shared ? 16 : 40);
		finish(&calls);
	}
}

/* A folio that two processes map: the guess of v6.14 looks at page 0, later editions at a flag. */
static void test_shared(void)
{
	for (int guess = 0; guess < 2; guess++)
		for (int flag = 0; flag < 2; flag++) {
			struct world world = make_row(guess ? policy_v6_14() : policy_v7_0_12(), 1,
						      ANON | (flag ? RMF_FOLIO_MAYBE_SHARED : 0),
						      RMF_VMA_ANON, 0);
			struct calls calls;
			uint32_t mm = add_mm(&world, 1, 0);
			bool splits = guess || !flag;

			/* the other maps pages 8 to 15, and this one 0 to 7 */
			add_vma(&world, (struct vma_spec){ .start = 9 * VPN,
							   .nr = 8,
							   .pgoff = 8,
							   .flags = RMF_VMA_ANON,
							   .mm = mm });
			map_folio(&world, 1, 0);
			for (uint32_t page = 8; page < 16; page++)
				make_hole(&world, 0, 0, page);
			world.pop->folio_nr_pages_mapped[0] = 16;
			world.pop->folio_flags[0] &= ~(uint32_t)RMF_FOLIO_PAGE_MAPCOUNTS;
			calls = start(world);
			calls.world.run->swap_end = 1000;
			advise(&calls, RMF_MADV_PAGEOUT, 0, 16, true);
			expect_event(&calls.world, RMF_FOLIO_SPLITS, splits);
			expect_event(&calls.world, RMF_PAGES_FREED, splits ? 8 : 0);
			expect_eq((int64_t)nr_present(&calls.world, 1), 8, "the other's half");
			finish(&calls);
		}
}

/* MADV_COLD makes the entries old, and moves the folio to the end of the inactive list. */
static void test_cold(void)
{
	struct calls calls = start(
		make_row(policy_v7_0_12(), 3, RMF_FOLIO_ACTIVE, 0, RMF_PTE_YOUNG | RMF_PTE_DIRTY));
	const uint32_t wanted[] = { 0, 2, 1 };

	expect_eq(advise(&calls, RMF_MADV_COLD, 16, 32, true), 0, "result");
	expect_eq((int64_t)*pte_at(&calls.world, 0, VPN + 20),
		  (int64_t)mk_pte(PFN + 20, RMF_PTE_PRESENT | RMF_PTE_DIRTY), "old");
	expect_eq((int64_t)*pte_at(&calls.world, 0, VPN + 15),
		  (int64_t)mk_pte(PFN + 15, RMF_PTE_PRESENT | RMF_PTE_YOUNG | RMF_PTE_DIRTY),
		  "outside");
	expect_eq(calls.world.pop->folio_flags[1], 0, "not active");
	expect_eq(calls.world.pop->folio_flags[2], RMF_FOLIO_ACTIVE, "outside");
	expect_event(&calls.world, RMF_FOLIOS_SCANNED, 0);
	expect_list(&calls, wanted, 3, "moved");
	finish(&calls);
}

/* MADV_FREE makes folios lazyfree. A dirty one must be mapped here alone. Swap entries are freed.
 */
static void test_free(void)
{
	struct calls calls = start(make_row(policy_v7_0_12(), 3, ANON, RMF_VMA_ANON,
					    RMF_PTE_YOUNG | RMF_PTE_DIRTY | RMF_PTE_WRITE));
	struct rmf_population *pop = calls.world.pop;

	pop->folio_flags[0] |= RMF_FOLIO_DIRTY;
	pop->folio_flags[1] |= RMF_FOLIO_DIRTY;
	pop->folio_mapcount[1]++;
	pop->folio_refcount[1]++;
	pop->folio_flags[1] |= RMF_FOLIO_PAGE_MAPCOUNTS;
	make_hole(&calls.world, 0, 2, 15);
	*pte_at(&calls.world, 0, VPN + 47) = rmf_mk_nonpresent(RMF_KIND_SWAP, 7, 0);
	pop->mm_rss[RMF_MM_SWAPENTS] = 1;
	calls.world.run->swap_end = 10;
	expect_eq(advise(&calls, RMF_MADV_FREE, 0, 48, true), 0, "result");
	expect_eq(pop->folio_flags[0], RMF_FOLIO_ANON, "lazyfree and clean");
	expect_eq((int64_t)*pte_at(&calls.world, 0, VPN),
		  (int64_t)mk_pte(PFN, RMF_PTE_PRESENT | RMF_PTE_WRITE), "old and clean");
	expect(pop->folio_flags[1] & RMF_FOLIO_SWAPBACKED, "dirty, and mapped by others");
	/* the hole cuts folio 2: it is split, and each page is lazyfree */
	expect_event(&calls.world, RMF_FOLIO_SPLITS, 1);
	expect_eq(pop->folio_flags[2] & ~(uint32_t)RMF_FOLIO_DIRTY, RMF_FOLIO_ANON, "page 0");
	expect_event(&calls.world, RMF_PAGES_CAME_BACK, 1);
	expect_eq((int64_t)*pte_at(&calls.world, 0, VPN + 47), 0, "the swap entry is gone");
	expect_eq(pop->mm_rss[RMF_MM_SWAPENTS], 0, "swap entries");
	expect_event(&calls.world, RMF_SWAP_FREES, 1);
	finish(&calls);
}

/* PFNs in any order are found, and the result is the same. */
static void test_any_pfn_order(void)
{
	struct world world = make_world(arch_x86(), policy_v7_0_12());
	struct calls calls;

	add_vma(&world, (struct vma_spec){ .start = VPN, .nr = 512 });
	for (uint64_t i = 0; i < 128; i++) {
		add_folio(&world, (struct folio_spec){ .pfn = ((i * 77 % 128) << 20) + 4,
						       .index = 4 * i,
						       .order = 2 });
		map_folio(&world, 0, 0);
	}
	calls = start(world);
	expect_eq(advise(&calls, RMF_MADV_PAGEOUT, 2, 510, true), 0, "result");
	expect_event(&calls.world, RMF_FOLIO_SPLITS, 2);
	expect_event(&calls.world, RMF_PAGES_FREED, 504);
	expect_eq((int64_t)nr_present(&calls.world, 0), 0, "none is left");
	finish(&calls);
}

static void test_bad_calls(void)
{
	struct calls calls = start(make_row(policy_v7_0_12(), 1, FOLIO_FILE, 0, 0));
	struct rmf_madvise *madvise = &calls.madvise;
	struct rmf_fault fault;

	expect_eq(rmf_madvise_call(madvise, RMF_MADV_COLD, 1, 0, 1, true, &fault), RMF_EINVAL,
		  "no such mm");
	expect_str(fault.array, "mm", "the argument");
	expect_eq(rmf_madvise_call(madvise, RMF_MADV_COLD, 0, 2, 1, true, &fault), RMF_EINVAL,
		  "ends before it starts");
	expect_eq(rmf_madvise_call(madvise, RMF_MADV_COLD, 0, 0, UINT64_MAX, true, &fault),
		  RMF_EINVAL, "too far");
	expect_str(fault.array, "length", "the argument");
	expect_eq(rmf_madvise_call(madvise, RMF_NR_ADVICE, 0, 0, 1, true, &fault), RMF_EINVAL,
		  "no such advice");
	expect_event(&calls.world, RMF_MADVISE_CALLS, 0);
	finish(&calls);
}

int main(void)
{
	run_test("cut_file", test_cut_file);
	run_test("cut_anon", test_cut_anon);
	run_test("without_swap", test_without_swap);
	run_test("split_for_slots", test_split_for_slots);
	run_test("results", test_results);
	run_test("owner", test_owner);
	run_test("shared", test_shared);
	run_test("cold", test_cold);
	run_test("free", test_free);
	run_test("any_pfn_order", test_any_pfn_order);
	run_test("bad_calls", test_bad_calls);
	return report("test_madvise");
}
