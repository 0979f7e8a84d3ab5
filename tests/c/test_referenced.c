/* The reference check of one VMA, batched and per page, and the walk over all VMAs. */
#include "testing.h"

#include "referenced.h"
#include "rmap.h"
#include "unmap.h"

enum { VPN = 1024, PFN = 0x1000, NR = 16 };

static struct rmf_policy young_policy(bool batched)
{
	struct rmf_policy policy = policy_per_page();

	policy.young_batched = batched;
	return policy;
}

static struct rmf_reference check_one(const struct world *world, uint32_t vma, bool *go_on)
{
	struct rmf_reference reference = { .mapcount = world->pop->folio_mapcount[0] };

	*go_on = rmf_folio_referenced_one(world->run, 0, vma, &reference);
	for (int i = 0; i < RMF_NR_EVENTS; i++) /* there were only reference checks */
		expect_eq((int64_t)world->run->referenced_ev[i], (int64_t)world->run->ev[i],
			  rmf_event_name((enum rmf_event)i));
	return reference;
}

/* One batch, or a test and a walk step for each page. Either way one VMA referenced the folio, and
 * no entry is young any more. */
static void test_whole_folio(void)
{
	for (int batched = 0; batched < 2; batched++) {
		for (int young = 0; young < 2; young++) {
			struct world world = make_mapped(arch_x86(), young_policy(batched), VPN, 4,
							 FOLIO_FILE, RMF_VMA_EXEC,
							 young ? RMF_PTE_YOUNG : 0);
			bool go_on;
			struct rmf_reference reference = check_one(&world, 0, &go_on);

			expect_eq(reference.referenced, young, "referencing VMAs");
			expect_eq(reference.vm_flags, young ? RMF_VMA_EXEC : 0, "their flags");
			expect_eq(reference.mapcount, 0, "all mappings seen");
			expect(!go_on, "no further VMA is needed");
			expect_event(&world, RMF_REFERENCED_CALLS, 1);
			expect_event(&world, RMF_WALK_CALLS, batched ? 1 : NR + 1);
			expect_event(&world, RMF_WALK_PTE_READS, batched ? 2 : 2 * NR);
			expect_event(&world, RMF_YOUNG_CALLS, batched ? 1 : NR);
			expect_event(&world, RMF_YOUNG_TESTS, NR);
			expect_event(&world, RMF_YOUNG_CLEARS, young ? NR : 0);
			expect_event(&world, RMF_ENTRY_PTE_READS, batched ? 1 : 0);
			expect_event(&world, RMF_BATCH_PTE_READS, batched ? NR - 1 : 0);
			expect_event(&world, RMF_BATCH_SCANS, batched ? 1 : 0);
			expect_event(&world, RMF_YOUNG_FLUSHES, 0); /* x86 never flushes for a young
								       bit */
			for (uint64_t i = 0; i < NR; i++)
				expect_eq((int64_t)*pte_at(&world, 0, VPN + i),
					  (int64_t)mk_pte(PFN + i, RMF_PTE_PRESENT),
					  "only young is cleared");
			free_world(&world);
		}
	}
}

/* Alternating protection in runs of nr: NR / nr batches. The walk reads none of the slots that it
 * skips. */
static void test_partial_batches(void)
{
	for (uint64_t nr = 1; nr <= 8; nr *= 2) {
		struct world world = make_mapped(arch_x86(), young_policy(true), VPN, 4, FOLIO_FILE,
						 0, RMF_PTE_YOUNG);
		uint64_t batches = NR / nr;
		bool go_on;

		for (uint64_t i = 0; i < NR; i++)
			*pte_at(&world, 0, VPN + i) |= i / nr % 2 ? RMF_PTE_PROT : 0;
		expect_eq(check_one(&world, 0, &go_on).referenced, 1,
			  "one VMA referenced it, however many batches");
		expect_event(&world, RMF_YOUNG_CALLS, batches);
		expect_event(&world, RMF_YOUNG_TESTS, NR);
		expect_event(&world, RMF_WALK_CALLS, batches);
		expect_event(&world, RMF_WALK_PTE_READS, 2 * batches);
		expect_event(&world, RMF_BATCH_PTE_READS, (batches - 1) * nr + nr - 1);
		expect_event(&world, RMF_BATCH_SCANS, batches);
		free_world(&world);
	}
}

static void test_page_idle_young(void)
{
	struct world world =
		make_mapped(arch_x86(), young_policy(true), VPN, 4, RMF_FOLIO_YOUNG, 0, 0);
	bool go_on;

	expect_eq(check_one(&world, 0, &go_on).referenced, 1, "the folio's own young mark counts");
	expect(!(world.pop->folio_flags[0] & RMF_FOLIO_YOUNG), "once");
	expect_eq(check_one(&world, 0, &go_on).referenced, 0, "and is gone then");
	free_world(&world);
}

/* A device entry is a mapping without a young bit. */
static void test_device_entry(void)
{
	for (int batched = 0; batched < 2; batched++) {
		struct world world = make_mapped(arch_x86(), young_policy(batched), VPN, 4,
						 FOLIO_LAZYFREE, RMF_VMA_ANON, 0);
		bool go_on;

		*pte_at(&world, 0, VPN + 15) =
			rmf_mk_nonpresent(RMF_KIND_DEVICE_EXCLUSIVE, PFN + 15, 0) | RMF_PTE_YOUNG;
		rmf_pte before = *pte_at(&world, 0, VPN + 15);
		expect_eq(check_one(&world, 0, &go_on).mapcount, 0, "it is a mapping");
		expect_event(&world, RMF_YOUNG_TESTS, 15);
		expect_eq((int64_t)*pte_at(&world, 0, VPN + 15), (int64_t)before,
			  "and stays as it is");
		free_world(&world);
	}
}

/* In a locked VMA the folio becomes mlocked if all its entries were seen under one PTL. */
static void test_mlock(void)
{
	for (int batched = 0; batched < 2; batched++) {
		for (int crossing = 0; crossing < 2; crossing++) {
			struct world world = make_mapped(arch_x86(), young_policy(batched),
							 crossing ? VPN + 504 : VPN, 4, FOLIO_FILE,
							 RMF_VMA_LOCKED, RMF_PTE_YOUNG);
			bool go_on;
			struct rmf_reference reference = check_one(&world, 0, &go_on);

			expect_event(&world, RMF_MLOCK_CALLS, !crossing);
			expect_eq((world.pop->folio_flags[0] & RMF_FOLIO_MLOCKED) != 0, !crossing,
				  "mlocked");
			expect_eq((reference.vm_flags & RMF_VMA_LOCKED) != 0, !crossing,
				  "the caller is told");
			expect_event(&world, RMF_YOUNG_CALLS, 0);
			expect(!go_on, "nothing left to see");
			free_world(&world);
		}
		struct world world = make_mapped(arch_x86(), young_policy(batched), VPN, 4,
						 FOLIO_FILE, RMF_VMA_LOCKED, 0);
		bool go_on;

		*pte_at(&world, 0, VPN + 3) = 0;
		check_one(&world, 0, &go_on);
		expect_event(&world, RMF_MLOCK_CALLS, 0);
		free_world(&world);
	}
}

/* A folded block is tested whole: 16 tests in a batch of 16, and 16 tests for each of 16 pages.
 * Each test that found young issues one range TLBI. */
static void test_contpte(void)
{
	for (int batched = 0; batched < 2; batched++) {
		struct world world = make_mapped(arch_arm64(), young_policy(batched), VPN, 4,
						 FOLIO_FILE, 0, RMF_PTE_CONT);
		bool go_on;

		*pte_at(&world, 0, VPN + 15) |= RMF_PTE_YOUNG;
		expect_eq(check_one(&world, 0, &go_on).referenced, 1, "one young entry is enough");
		expect_event(&world, RMF_YOUNG_TESTS, batched ? NR : NR * NR);
		expect_event(&world, RMF_YOUNG_CLEARS, 1);
		expect_event(&world, RMF_YOUNG_FLUSHES, 1);
		expect_event(&world, RMF_TLBI_OPS, 1);
		expect_event(&world, RMF_TLBI_RANGE_OPS, 1);
		expect_event(&world, RMF_DSB_OPS, 0);
		/* without SYNC: two reads by the walk for each yield, one by the batched form; 1 +
		 * 16 loads for each of these reads; 16 loads for each test */
		expect_event(&world, RMF_RAW_PTE_LOADS,
			     batched ? 3 * 17 + NR : 2 * NR * 17 + NR * NR);
		free_world(&world);
	}
}

static void test_pmd_leaf(void)
{
	for (int arm64 = 0; arm64 < 2; arm64++) {
		struct world world = make_mapped(arm64 ? arch_arm64() : arch_x86(),
						 young_policy(true), VPN, 9, FOLIO_FILE, 0,
						 RMF_PTE_YOUNG);
		bool go_on;

		world.pop->table_state[0] = RMF_TABLE_PMD_LEAF;
		world.pop->folio_mapcount[0] = world.pop->folio_entire_mapcount[0] = 1;
		expect_eq(check_one(&world, 0, &go_on).referenced, 1, "a young leaf");
		expect(!go_on, "one mapping, seen");
		expect_event(&world, RMF_YOUNG_CALLS, 1);
		expect_event(&world, RMF_YOUNG_TESTS, 1);
		expect_event(&world, RMF_YOUNG_CLEARS, 1);
		expect_event(&world, RMF_RAW_PTE_LOADS, 0);
		expect_event(&world, RMF_YOUNG_FLUSHES, (uint64_t)arm64);
		expect_event(&world, RMF_TLBI_OPS, (uint64_t)arm64);
		expect_event(&world, RMF_TLBI_RANGE_OPS, 0);
		expect_eq(check_one(&world, 0, &go_on).referenced, 0, "young no more");
		free_world(&world);
	}
}

/* The walk over VMAs. Each VMA that referenced the folio counts once. The walk ends when all
 * mappings were seen. An mm outside the memcg is skipped. */
static void test_many_vmas(void)
{
	struct world world = make_world(arch_x86(), young_policy(true));
	uint32_t outside = add_mm(&world, 1, RMF_MM_OUTSIDE_MEMCG), vm_flags;

	add_vma(&world, (struct vma_spec){ .start = VPN, .nr = NR });
	add_vma(&world, (struct vma_spec){
				.start = 2 * VPN, .nr = NR, .mm = outside, .flags = RMF_VMA_EXEC });
	add_vma(&world, (struct vma_spec){ .start = 3 * VPN, .nr = NR, .flags = RMF_VMA_SHARED });
	add_folio(&world, (struct folio_spec){ .pfn = PFN, .order = 4 });
	expect_eq(rmf_folio_referenced(world.run, 0, &vm_flags), 0,
		  "an unmapped folio is not walked");
	for (uint32_t vma = 0; vma < 3; vma++)
		map_folio(&world, vma, RMF_PTE_YOUNG);
	expect_event(&world, RMF_REFERENCED_CALLS, 0);
	expect_eq(rmf_folio_referenced(world.run, 0, &vm_flags), 2, "two VMAs of the memcg");
	expect_eq(vm_flags, RMF_VMA_SHARED, "and their flags");
	expect_event(&world, RMF_REFERENCED_CALLS, 2);
	expect(*pte_at(&world, 1, 2 * VPN) & RMF_PTE_YOUNG, "the other mm stays young");
	world.pop->folio_mapcount[0] = NR;
	rmf_folio_referenced(world.run, 0, &vm_flags);
	expect_event(&world, RMF_REFERENCED_CALLS, 3); /* the first VMA has all mappings */
	free_world(&world);
}

/* What an unmap counts between two checks is not part of theirs. */
static void test_part_of_the_counts(void)
{
	struct world world =
		make_mapped(arch_arm64(), young_policy(true), VPN, 4, FOLIO_FILE, 0, RMF_PTE_YOUNG);
	uint64_t checked[RMF_NR_EVENTS];
	bool go_on;

	check_one(&world, 0, &go_on);
	memcpy(checked, world.run->ev, sizeof(checked));
	rmf_try_to_unmap_one(world.run, 0, 0, RMF_TTU_BATCH_FLUSH);
	expect_event(&world, RMF_WALK_YIELDS, 1 + NR);
	for (int i = 0; i < RMF_NR_EVENTS; i++)
		expect_eq((int64_t)world.run->referenced_ev[i], (int64_t)checked[i],
			  rmf_event_name((enum rmf_event)i));
	map_folio(&world, 0, RMF_PTE_YOUNG);
	rmf_folio_referenced_one(world.run, 0, 0, &(struct rmf_reference){ .mapcount = NR });
	expect_eq((int64_t)world.run->referenced_ev[RMF_WALK_YIELDS], 2,
		  "two checks of a batch each");
	expect_eq((int64_t)world.run->referenced_ev[RMF_RAW_PTE_LOADS],
		  2 * (int64_t)checked[RMF_RAW_PTE_LOADS], "that read the same");
	expect_eq((int64_t)world.run->referenced_ev[RMF_PTES_CLEARED], 0, "and cleared nothing");
	free_world(&world);
}

int main(void)
{
	run_test("whole folio", test_whole_folio);
	run_test("partial batches", test_partial_batches);
	run_test("page-idle young", test_page_idle_young);
	run_test("device entry", test_device_entry);
	run_test("mlock", test_mlock);
	run_test("contpte", test_contpte);
	run_test("PMD leaf", test_pmd_leaf);
	run_test("many VMAs", test_many_vmas);
	run_test("part of the counts", test_part_of_the_counts);
	return report("test_referenced");
}
