/* The walk over the entries of one VMA: what it yields, what it reads, which locks it takes. Rules
 * such as room(a) are those of docs/kernel-rules.md. */
#include "testing.h"

enum { VPN = 1024, PFN = 0x1000 };

/* Walk to the end without a skip. Returns how often the walk yielded; *first is where it yielded
 * first. */
static uint64_t walk_all(const struct world *world, uint32_t vma, uint32_t flags,
			 struct rmf_walk *walk, uint64_t *first)
{
	uint64_t yields = 0;

	memset(world->run->ev, 0, sizeof(world->run->ev));
	if (!rmf_walk_start(walk, world->run, 0, vma, flags))
		return 0;
	while (rmf_page_vma_mapped_walk(walk)) {
		if (!yields++)
			*first = walk->vpn;
	}
	return yields;
}

static void expect_walk(const struct world *world, uint32_t vma, uint32_t flags, uint64_t yields,
			uint64_t reads, uint64_t slots, uint64_t locks)
{
	struct rmf_walk walk;
	uint64_t first = 0;

	expect_eq((int64_t)walk_all(world, vma, flags, &walk, &first), (int64_t)yields, "yields");
	expect_event(world, RMF_WALK_YIELDS, yields);
	expect_event(world, RMF_WALK_CALLS, yields + 1);
	expect_event(world, RMF_WALK_PTE_READS, reads);
	expect_event(world, RMF_RAW_PTE_LOADS, reads);
	expect_event(world, RMF_WALK_SLOTS, slots);
	expect_event(world, RMF_PTL_LOCKS, locks);
}

/* For each page one read to see that the entry is not none, and one to check it. The first entry is
 * not tested for none; without SYNC it is read before the lock. */
static void test_per_page(void)
{
	for (uint8_t order = 0; order <= 9; order++) {
		struct world world =
			make_mapped(arch_x86(), policy_per_page(), VPN, order, FOLIO_FILE, 0, 0);
		uint64_t nr = (uint64_t)1 << order;

		expect_walk(&world, 0, RMF_PVMW_SYNC, nr, 2 * nr - 1, nr, 1);
		expect_walk(&world, 0, 0, nr, 2 * nr, nr, 1);
		free_world(&world);
	}
}

/* A none slot costs one read. Any other slot that does not match costs two. */
static void test_skipped_slots(void)
{
	const rmf_pte words[] = {
		0,
		mk_pte(0x9999, RMF_PTE_PRESENT),
		mk_pte(PFN + 16, RMF_PTE_PRESENT),
		rmf_mk_nonpresent(RMF_KIND_SWAP, PFN, 0),
		rmf_mk_nonpresent(RMF_KIND_MIGRATION, PFN, 0),
		rmf_mk_nonpresent(RMF_KIND_HWPOISON, PFN, 0),
		rmf_mk_nonpresent(RMF_KIND_DEVICE_PRIVATE, 0x9999, 0),
		rmf_mk_marker(),
	};

	for (size_t word = 0; word < sizeof(words) / sizeof(words[0]); word++) {
		/* the first k slots do not match; after that k of the later slots */
		for (uint64_t k = 1; k < 16; k++) {
			struct world world = make_mapped(arch_x86(), policy_per_page(), VPN, 4,
							 FOLIO_FILE, 0, 0);
			uint64_t each = words[word] ? 2 : 1;
			bool locks_first = rmf_pte_present(words[word]) ||
					   rmf_pte_is_device(words[word]);

			for (uint64_t i = 0; i < k; i++)
				*pte_at(&world, 0, VPN + i) = words[word];
			/* SYNC checks the first slot; otherwise it is read, and checked if it could
			 * match */
			expect_walk(&world, 0, RMF_PVMW_SYNC, 16 - k,
				    1 + (k - 1) * each + 2 * (16 - k), 16, 1);
			expect_walk(&world, 0, 0, 16 - k,
				    1 + locks_first + (k - 1) * each + 2 * (16 - k), 16, 1);
			for (uint64_t i = 0; i < 16; i++)
				*pte_at(&world, 0, VPN + i) =
					i < 16 - k ? mk_pte(PFN + i, RMF_PTE_PRESENT) : words[word];
			expect_walk(&world, 0, RMF_PVMW_SYNC, 16 - k, 2 * (16 - k) - 1 + k * each,
				    16, 1);
			free_world(&world);
		}
	}
}

static void test_nothing_there(void)
{
	struct world world = make_mapped(arch_x86(), policy_per_page(), VPN, 4, FOLIO_FILE, 0, 0);

	memset(world.pop->ptes, 0, 16 * sizeof(rmf_pte));
	expect_walk(&world, 0, 0, 0, 16, 16, 0);
	expect_walk(&world, 0, RMF_PVMW_SYNC, 0, 16, 16, 1);
	free_world(&world);
}

/* Any page of the folio matches, wherever it is mapped. Device entries match too. */
static void test_what_matches(void)
{
	struct world world = make_mapped(arch_x86(), policy_per_page(), VPN, 4, FOLIO_FILE, 0, 0);

	for (uint64_t i = 0; i < 16; i++)
		*pte_at(&world, 0, VPN + i) = mk_pte(PFN + 15 - i, RMF_PTE_PRESENT);
	*pte_at(&world, 0, VPN + 4) = rmf_mk_nonpresent(RMF_KIND_DEVICE_EXCLUSIVE, PFN + 9, 0);
	*pte_at(&world, 0, VPN + 5) = rmf_mk_nonpresent(RMF_KIND_DEVICE_PRIVATE, PFN + 9, 0);
	expect_walk(&world, 0, RMF_PVMW_SYNC, 16, 31, 16, 1);
	/* with MIGRATION only migration entries of the folio match */
	*pte_at(&world, 0, VPN + 7) = rmf_mk_nonpresent(RMF_KIND_MIGRATION, PFN + 3, 0);
	*pte_at(&world, 0, VPN + 8) = rmf_mk_nonpresent(RMF_KIND_MIGRATION, 0x9999, 0);
	expect_walk(&world, 0, RMF_PVMW_SYNC | RMF_PVMW_MIGRATION, 1, 31, 16, 1);
	expect_walk(&world, 0, RMF_PVMW_MIGRATION, 1, 31, 16, 1);
	expect_walk(&world, 0, RMF_PVMW_SYNC, 14, 31, 16, 1);
	free_world(&world);
}

static void test_table_crossing(void)
{
	for (uint64_t before = 1; before < 16; before++) {
		struct world world = make_mapped(arch_x86(), policy_per_page(), VPN + 512 - before,
						 4, FOLIO_FILE, 0, 0);
		struct rmf_walk walk;
		uint64_t first = 0;

		/* the first entry of each table is not tested for none */
		expect_walk(&world, 0, RMF_PVMW_SYNC, 16, 30, 16, 2);
		expect_walk(&world, 0, 0, 16, 32, 16, 2);
		expect_event(&world, RMF_TABLE_CROSSINGS, 1);
		walk_all(&world, 0, 0, &walk, &first);
		expect(walk.crossed, "the caller is told");

		world.pop->table_state[0] = RMF_TABLE_ABSENT;
		expect_walk(&world, 0, RMF_PVMW_SYNC, 16 - before, 2 * (16 - before) - 1,
			    16 - before, 1);
		expect_event(&world, RMF_TABLE_CROSSINGS, 0);
		world.pop->table_state[0] = RMF_TABLE_PTE;
		world.pop->table_state[1] = RMF_TABLE_ABSENT;
		expect_walk(&world, 0, RMF_PVMW_SYNC, before, 2 * before - 1, before, 1);
		expect_event(&world, RMF_TABLE_CROSSINGS, 1);
		free_world(&world);
	}
}

/* With SYNC a PMD-sized folio takes the PMD lock where there is no table. */
static void test_absent_pmd_lock(void)
{
	for (uint8_t order = 8; order <= 10; order++) {
		struct world world =
			make_mapped(arch_x86(), policy_per_page(), VPN, order, FOLIO_FILE, 0, 0);

		memset(world.pop->table_state, RMF_TABLE_ABSENT, world.pop->nr_tables);
		expect_walk(&world, 0, RMF_PVMW_SYNC, 0, 0, 0, 0);
		expect_event(&world, RMF_PMD_LOCKS, order < 9 ? 0 : (uint64_t)1 << (order - 9));
		expect_walk(&world, 0, 0, 0, 0, 0, 0);
		expect_event(&world, RMF_PMD_LOCKS, 0);
		free_world(&world);
	}
}

/* The VMA covers the pages [from, from + nr) of the folio. The walk begins at the start of the VMA
 * or of the folio. */
static void test_partly_mapped(void)
{
	for (uint64_t from = 0; from < 16; from++) {
		for (uint64_t nr = 1; from + nr <= 16; nr++) {
			struct world world = make_world(arch_x86(), policy_per_page());
			struct rmf_walk walk;
			uint64_t first = 0;

			add_vma(&world,
				(struct vma_spec){ .start = VPN, .nr = nr, .pgoff = 100 + from });
			add_folio(&world,
				  (struct folio_spec){ .pfn = PFN, .index = 100, .order = 4 });
			map_folio(&world, 0, 0);
			expect_walk(&world, 0, RMF_PVMW_SYNC, nr, 2 * nr - 1, nr, 1);
			walk_all(&world, 0, 0, &walk, &first);
			expect_eq((int64_t)rmf_pte_pfn(*pte_at(&world, 0, first)),
				  (int64_t)(PFN + from), "page of the first yield");
			expect_eq((int64_t)walk.end, (int64_t)(VPN + nr), "end");
			free_world(&world);
		}
	}
}

static void test_not_mapped(void)
{
	const uint64_t index[] = { 0, 84, 132, (uint64_t)1 << 52 };
	struct rmf_walk walk;

	for (size_t i = 0; i < sizeof(index) / sizeof(index[0]); i++) {
		struct world world = make_world(arch_x86(), policy_per_page());

		add_vma(&world, (struct vma_spec){ .start = VPN, .nr = 32, .pgoff = 100 });
		add_folio(&world, (struct folio_spec){ .pfn = PFN, .index = index[i], .order = 4 });
		expect(!rmf_walk_start(&walk, world.run, 0, 0, 0),
		       "the VMA does not map the folio");
		free_world(&world);
	}
}

static void test_pmd_leaf(void)
{
	struct world world = make_mapped(arch_x86(), policy_per_page(), VPN, 9, FOLIO_FILE, 0, 0);
	struct rmf_walk walk;

	world.pop->table_state[0] = RMF_TABLE_PMD_LEAF;
	expect_walk(&world, 0, RMF_PVMW_SYNC, 1, 0, 0, 0);
	expect_event(&world, RMF_PMD_LOCKS, 1);
	expect_walk(&world, 0, RMF_PVMW_MIGRATION, 0, 0, 0, 0);
	rmf_walk_start(&walk, world.run, 0, 0, 0);
	expect(rmf_page_vma_mapped_walk(&walk) && walk.pmd && !walk.mapped,
	       "a leaf yields without a PTE");
	*rmf_walk_table_state(&walk) = RMF_TABLE_PTE;
	rmf_walk_restart(&walk);
	expect(rmf_page_vma_mapped_walk(&walk) && walk.mapped && walk.vpn == VPN,
	       "after a split it restarts at the same address");

	world.pop->table_state[0] = RMF_TABLE_PMD_LEAF;
	*pte_at(&world, 0, VPN) = mk_pte(PFN + 512, RMF_PTE_PRESENT);
	expect_walk(&world, 0, RMF_PVMW_SYNC, 0, 0, 0, 0);
	*pte_at(&world, 0, VPN) = rmf_mk_nonpresent(RMF_KIND_MIGRATION, PFN, 0);
	expect_walk(&world, 0, 0, 0, 0, 0, 0);
	expect_walk(&world, 0, RMF_PVMW_MIGRATION, 1, 0, 0, 0);
	free_world(&world);
}

/* room(a) reaches to the end of the table or of the VMA. A skip stays in the table. */
static void test_room_and_skip(void)
{
	struct world world =
		make_mapped(arch_x86(), policy_per_page(), VPN + 500, 5, FOLIO_FILE, 0, 0);
	const struct rmf_slots slots = rmf_slots_of_vma(world.run, 0);
	struct rmf_walk walk;

	for (uint64_t i = 0; i < 32; i++)
		expect_eq((int64_t)rmf_slots_room(&slots, VPN + 500 + i),
			  (int64_t)(i < 12 ? 12 - i : 32 - i), "room");
	for (uint64_t nr = 0; nr < 32; nr++) {
		rmf_walk_start(&walk, world.run, 0, 0, 0);
		rmf_page_vma_mapped_walk(&walk);
		rmf_walk_skip(&walk, nr);
		expect_eq((int64_t)walk.vpn, (int64_t)(VPN + 500 + (nr < 11 ? nr : 11)),
			  "a skip stays in the table");
	}
	free_world(&world);
}

int main(void)
{
	run_test("per page", test_per_page);
	run_test("skipped slots", test_skipped_slots);
	run_test("nothing there", test_nothing_there);
	run_test("what matches", test_what_matches);
	run_test("table crossing", test_table_crossing);
	run_test("absent PMD lock", test_absent_pmd_lock);
	run_test("partly mapped", test_partly_mapped);
	run_test("not mapped", test_not_mapped);
	run_test("PMD leaf", test_pmd_leaf);
	run_test("room and skip", test_room_and_skip);
	return report("test_walk");
}
