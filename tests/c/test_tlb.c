/* When TLB entries are flushed, and what the architecture issues for it. */
#include "testing.h"

#include "tlb.h"

/* The fewest instructions of the closed form: one for each scale that has units, and one for an odd
 * page. */
static void test_range_ops(void)
{
	const struct rmf_arch arch = arch_arm64();
	/* pages, instructions, those of them that cover a range */
	const uint64_t known[][3] = {
		{ 1, 1, 0 },
		{ 2, 1, 1 },
		{ 3, 2, 1 },
		{ 15, 2, 1 },
		{ 16, 1, 1 },
		{ 17, 2, 1 },
		{ 64, 1, 1 },
		{ 65, 2, 1 },
		{ 66, 2, 2 },
		{ 67, 3, 2 },
		{ 128, 1, 1 },
		{ 512, 1, 1 },
		{ 513, 2, 1 },
		{ 2048, 1, 1 },
		{ 8192, 1, 1 },
		{ 1 << 16, 1, 1 },
		{ (1 << 16) + (1 << 11) + (1 << 6) + 2 + 1, 5, 4 },
		{ 1 << 21, 1, 1 },
		{ (1 << 21) - 1, 5, 4 },
		{ (1 << 21) + 1, 1, 0 },
		{ (uint64_t)1 << 40, 1, 0 },
	};
	uint64_t ranged;

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		expect_eq((int64_t)rmf_range_ops(&arch, known[i][0], &ranged), (int64_t)known[i][1],
			  "ops of a range");
		expect_eq((int64_t)ranged, (int64_t)known[i][2], "ops that cover a range");
	}
	for (uint8_t order = 0; order <= 21; order++) {
		expect_eq((int64_t)rmf_range_ops(&arch, (uint64_t)1 << order, &ranged), 1,
			  "a power of two is one op");
		expect_eq((int64_t)ranged, order > 0, "for a range, unless it is one page");
	}
	for (uint64_t nr = 1; nr < (1 << 21); nr += 4099) {
		int64_t odd = nr & 1, want = (nr >> 16 > 0) + ((nr >> 11 & 31) > 0) +
					     ((nr >> 6 & 31) > 0) + ((nr >> 1 & 31) > 0);

		expect_eq((int64_t)rmf_range_ops(&arch, nr, &ranged), want + odd,
			  "one op for each non-zero group of five bits, and for an odd page");
		expect_eq((int64_t)ranged, want, "ops that cover a range");
	}
}

static void test_no_range_tlbi(void)
{
	struct rmf_arch arch = arch_arm64();
	uint64_t ranged;

	arch.range_tlbi = false;
	for (uint64_t nr = 1; nr < 600; nr++) {
		expect_eq((int64_t)rmf_range_ops(&arch, nr, &ranged), nr < 512 ? (int64_t)nr : 1,
			  "n, or one from max_dvm_ops on");
		expect_eq((int64_t)ranged, 0, "none for a range");
	}
}

/* Flush one range of nr pages of an mm with this mask, then what was deferred. */
static struct world flushed(enum rmf_tlb_kind tlb, uint64_t cpumask, bool batch_flush, rmf_pte pte,
			    uint64_t nr)
{
	struct rmf_arch arch = tlb == RMF_TLB_ARM64 ? arch_arm64() : arch_x86();
	struct world world;

	arch.tlb = tlb;
	world = make_world(arch, policy_per_page());
	rmf_tlb_flush_cleared(world.run, add_mm(&world, cpumask, 0), batch_flush, pte, 0, nr);
	return world;
}

static void test_deferral(void)
{
	const enum rmf_tlb_kind kinds[] = { RMF_TLB_NONE, RMF_TLB_X86, RMF_TLB_ARM64,
					    RMF_TLB_RISCV };

	for (size_t k = 0; k < 4; k++) {
		for (uint64_t cpumask = 0; cpumask < 8; cpumask++) {
			for (int batch_flush = 0; batch_flush < 2; batch_flush++) {
				struct world world = flushed(kinds[k], cpumask, batch_flush, 0, 16);
				bool others = cpumask & ~(uint64_t)1;
				bool deferred = batch_flush &&
						(kinds[k] >= RMF_TLB_ARM64 ||
						 (kinds[k] == RMF_TLB_X86 && others));

				expect_event(&world, RMF_TLB_DEFERRED, deferred);
				expect_event(&world, RMF_TLB_IMMEDIATE, !deferred);
				rmf_try_to_unmap_flush(world.run);
				rmf_try_to_unmap_flush(world.run);
				expect_event(&world, RMF_TLB_FLUSHES, deferred);
				free_world(&world);
			}
		}
	}
}

/* x86, riscv and none: an INVLPG for each page up to the ceiling, above it one full flush. Each
 * other CPU is signalled. */
static void test_immediate_ceiling(void)
{
	const enum rmf_tlb_kind kinds[] = { RMF_TLB_NONE, RMF_TLB_X86, RMF_TLB_RISCV };

	for (size_t k = 0; k < 3; k++) {
		for (uint64_t nr = 1; nr <= 64; nr++) {
			struct world world = flushed(kinds[k], 0xf1, false, 0, nr);

			expect_event(&world, RMF_TLBI_OPS, nr <= 33 ? nr : 1);
			expect_event(&world, RMF_TLBI_RANGE_OPS, 0);
			expect_event(&world, RMF_IPIS, 4);
			expect_event(&world, RMF_DSB_OPS, 0);
			free_world(&world);
		}
	}
	struct world world = flushed(RMF_TLB_X86, 0xf0, false, 0, 16);

	expect_event(&world, RMF_TLBI_OPS, 0); /* CPU 0 does not run the mm */
	expect_event(&world, RMF_IPIS, 4);
	free_world(&world);
}

/* x86 does not keep deferred ranges: there is one full flush of the union of the masks. */
static void test_x86_collects_masks(void)
{
	struct world world = make_world(arch_x86(), policy_per_page());
	uint32_t a = add_mm(&world, 0x6, 0), b = add_mm(&world, 0xc, 0);

	for (int i = 0; i < 10; i++) {
		rmf_tlb_flush_cleared(world.run, a, true, 0, 0, 16);
		rmf_tlb_flush_cleared(world.run, b, true, 0, 0, 16);
	}
	expect_event(&world, RMF_TLBI_OPS, 0);
	expect_event(&world, RMF_IPIS, 0);
	rmf_try_to_unmap_flush(world.run);
	expect_event(&world, RMF_TLB_DEFERRED, 20);
	expect_event(&world, RMF_TLB_FLUSHES, 1);
	expect_event(&world, RMF_IPIS, 3);
	expect_event(&world, RMF_TLBI_OPS, 0);
	rmf_tlb_flush_cleared(world.run, 0, true, 0, 0, 16); /* mm 0: CPUs 0 and 1 */
	rmf_try_to_unmap_flush(world.run);
	expect_event(&world, RMF_IPIS, 4);
	expect_event(&world, RMF_TLBI_OPS, 1);
	free_world(&world);
}

/* INVLPGB takes the place of all IPIs. In a full flush it also takes the place of the CPU's own
 * flush, because it reaches that CPU too. */
static void test_invlpgb(void)
{
	for (uint64_t cpumask = 0; cpumask < 16; cpumask++) {
		const uint64_t remote = (cpumask & ~(uint64_t)1) != 0, self = cpumask & 1;

		for (uint64_t nr = 1; nr <= 64; nr += 21) {
			struct rmf_arch arch = arch_x86();
			struct world now, later;

			arch.invlpgb = true;
			now = make_world(arch, policy_per_page());
			rmf_tlb_flush_cleared(now.run, add_mm(&now, cpumask, 0), false, 0, 0, nr);
			expect_event(&now, RMF_TLBI_OPS, self * (nr > 33 ? 1 : nr) + remote);
			expect_event(&now, RMF_DSB_OPS, remote);
			expect_event(&now, RMF_IPIS, 0);
			free_world(&now);

			later = make_world(arch, policy_per_page());
			rmf_tlb_flush_cleared(later.run, add_mm(&later, cpumask, 0), true, 0, 0,
					      nr);
			expect_event(&later, RMF_TLB_DEFERRED, remote);
			if (remote) {
				expect_event(&later, RMF_TLBI_OPS, 0);
				rmf_try_to_unmap_flush(later.run);
				expect_event(&later, RMF_TLBI_OPS, 1);
				expect_event(&later, RMF_DSB_OPS, 1);
			}
			expect_event(&later, RMF_IPIS, 0);
			free_world(&later);
		}
	}
}

/* arm64 issues TLBIs at once and waits for them once: one DSB for all ranges. Without deferral
 * there is a DSB for each range. */
static void test_arm64(void)
{
	for (int deferred = 0; deferred < 2; deferred++) {
		struct world world = make_world(arch_arm64(), policy_per_page());

		for (int i = 0; i < 10; i++)
			rmf_tlb_flush_cleared(world.run, 0, deferred, 0, 0, 17);
		rmf_try_to_unmap_flush(world.run);
		expect_event(&world, RMF_DSB_ISHST_OPS, 10);
		expect_event(&world, RMF_TLBI_OPS, 20);
		expect_event(&world, RMF_TLBI_RANGE_OPS, 10);
		expect_event(&world, RMF_DSB_OPS, deferred ? 1 : 10);
		expect_event(&world, RMF_IPIS, 0);
		free_world(&world);
	}
}

static void test_flush_dirty(void)
{
	struct world clean = flushed(RMF_TLB_X86, 3, true, RMF_PTE_PRESENT, 1),
		     dirty = flushed(RMF_TLB_X86, 3, true, RMF_PTE_DIRTY, 1);

	rmf_try_to_unmap_flush_dirty(clean.run);
	expect_event(&clean, RMF_TLB_FLUSHES, 0);
	rmf_try_to_unmap_flush_dirty(dirty.run);
	rmf_try_to_unmap_flush_dirty(dirty.run);
	expect_event(&dirty, RMF_TLB_FLUSHES, 1);
	free_world(&clean);
	free_world(&dirty);
}

/* arm64 flushes for a cleared young bit without a DSB, and the others do not flush. A contpte
 * conversion waits unless the CPU has BBML2. */
static void test_young_and_contpte(void)
{
	struct world arm64 = make_world(arch_arm64(), policy_per_page()),
		     x86 = make_world(arch_x86(), policy_per_page());

	rmf_tlb_flush_young(x86.run, 0, 16);
	expect_only(&x86, NULL, 0);
	rmf_tlb_flush_young(arm64.run, 0, 17);
	expect_only(&arm64,
		    (const struct event_count[]){ { RMF_YOUNG_FLUSHES, 1 },
						  { RMF_TLBI_OPS, 2 },
						  { RMF_TLBI_RANGE_OPS, 1 } },
		    3);
	memset(arm64.run->ev, 0, sizeof(arm64.run->ev));
	rmf_tlb_flush_contpte_block(arm64.run, 0);
	expect_only(&arm64,
		    (const struct event_count[]){ { RMF_DSB_ISHST_OPS, 1 },
						  { RMF_TLBI_OPS, 1 },
						  { RMF_TLBI_RANGE_OPS, 1 },
						  { RMF_DSB_OPS, 1 } },
		    4);
	memset(arm64.run->ev, 0, sizeof(arm64.run->ev));
	arm64.run->arch.bbml2_noabort = true;
	rmf_tlb_flush_contpte_block(arm64.run, 0);
	expect_only(&arm64, NULL, 0);
	free_world(&arm64);
	free_world(&x86);
}

static struct rmf_policy policy_local_tlbi(void)
{
	struct rmf_policy policy = policy_per_page();

	policy.local_tlbi = true;
	return policy;
}

/* The proposal: nothing is broadcast for an mm that ran on CPU 0 and nowhere else. An mm that ran
 * elsewhere, or on no CPU that is known, is flushed as ever. */
static void test_local_tlbi(void)
{
	for (uint64_t cpumask = 0; cpumask < 8; cpumask++) {
		const uint64_t local = cpumask == 1, broadcast = !local;
		struct world world = make_world(arch_arm64(), policy_local_tlbi());
		const uint32_t mm = add_mm(&world, cpumask, 0);

		/* 17 pages: a range of 16 and a single page; their barrier comes last */
		for (int i = 0; i < 10; i++)
			rmf_tlb_flush_cleared(world.run, mm, true, 0, 0, 17);
		rmf_tlb_flush_range(world.run, mm, 0, 17);
		rmf_tlb_flush_contpte_block(world.run, mm);
		rmf_tlb_flush_young(world.run, mm, 16);
		expect_event(&world, RMF_TLBI_LOCAL, local * (20 + 2 + 1 + 1));
		expect_event(&world, RMF_TLBI_OPS, broadcast * (20 + 2 + 1 + 1));
		expect_event(&world, RMF_TLBI_RANGE_OPS, broadcast * (10 + 1 + 1 + 1));
		expect_event(&world, RMF_DSB_ISHST_OPS, 10 + 1 + 1);
		expect_event(&world, RMF_DSB_NSH, local * 2);
		expect_event(&world, RMF_DSB_OPS, broadcast * 2);
		rmf_try_to_unmap_flush(world.run);
		rmf_try_to_unmap_flush(world.run);
		expect_event(&world, RMF_TLB_FLUSHES, 1);
		expect_event(&world, RMF_DSB_NSH, local * 3);
		expect_event(&world, RMF_DSB_OPS, broadcast * 3);
		free_world(&world);
	}
}

/* One barrier waits for the TLBIs of all mms. It is local only if all of them were, and the next
 * one starts anew. */
static void test_local_tlbi_of_several_mms(void)
{
	struct world world = make_world(arch_arm64(), policy_local_tlbi());
	const uint32_t here = add_mm(&world, 1, 0), unknown = add_mm(&world, 0, 0),
		       also_here = add_mm(&world, 1, 0);
	const uint32_t mms[][2] = {
		{ here, also_here }, { here, unknown }, { unknown, here }, { also_here, here }
	};

	for (size_t i = 0; i < 4; i++) {
		rmf_tlb_flush_cleared(world.run, mms[i][0], true, 0, 0, 1);
		rmf_tlb_flush_cleared(world.run, mms[i][1], true, 0, 0, 1);
		rmf_try_to_unmap_flush(world.run);
	}
	expect_event(&world, RMF_TLBI_LOCAL, 6);
	expect_event(&world, RMF_TLBI_OPS, 2);
	expect_event(&world, RMF_DSB_NSH, 2);
	expect_event(&world, RMF_DSB_OPS, 2);
	free_world(&world);
}

/* The proposal is about arm64. */
static void test_local_tlbi_elsewhere(void)
{
	const enum rmf_tlb_kind kinds[] = { RMF_TLB_NONE, RMF_TLB_X86, RMF_TLB_RISCV };

	for (size_t k = 0; k < 3; k++) {
		struct rmf_arch arch = arch_x86();
		struct world world;

		arch.tlb = kinds[k];
		world = make_world(arch, policy_local_tlbi());
		rmf_tlb_flush_cleared(world.run, add_mm(&world, 1, 0), false, 0, 0, 16);
		expect_only(&world,
			    (const struct event_count[]){ { RMF_TLB_IMMEDIATE, 1 },
							  { RMF_TLBI_OPS, 16 } },
			    2);
		free_world(&world);
	}
}

/* Other architectures than arm64 flush a contpte block as any range: with Svnapot on riscv the CPU
 * itself invalidates each page, and each other CPU of the mm is signalled. There is no barrier. */
static void test_svnapot_block(void)
{
	for (uint64_t cpumask = 0; cpumask < 16; cpumask++) {
		for (uint32_t ceiling = 8; ceiling <= 64; ceiling *= 8) {
			struct rmf_arch arch = arch_x86();
			struct world world;
			uint64_t self = cpumask & 1;

			arch.tlb = RMF_TLB_RISCV;
			arch.cont_ptes = 16;
			arch.flush_ceiling = ceiling;
			world = make_world(arch, policy_per_page());
			rmf_tlb_flush_contpte_block(world.run, add_mm(&world, cpumask, 0));
			expect_only(&world,
				    (const struct event_count[]){
					    { RMF_TLBI_OPS, self * (ceiling < 16 ? 1 : 16) },
					    { RMF_IPIS,
					      (uint64_t)__builtin_popcountll(cpumask) - self } },
				    2);
			free_world(&world);
		}
	}
}

int main(void)
{
	run_test("range ops", test_range_ops);
	run_test("no range TLBI", test_no_range_tlbi);
	run_test("deferral", test_deferral);
	run_test("immediate ceiling", test_immediate_ceiling);
	run_test("x86 collects masks", test_x86_collects_masks);
	run_test("INVLPGB", test_invlpgb);
	run_test("arm64", test_arm64);
	run_test("flush dirty", test_flush_dirty);
	run_test("young and contpte", test_young_and_contpte);
	run_test("local TLBI", test_local_tlbi);
	run_test("local TLBI of several mms", test_local_tlbi_of_several_mms);
	run_test("local TLBI elsewhere", test_local_tlbi_elsewhere);
	run_test("Svnapot block", test_svnapot_block);
	return report("test_tlb");
}
