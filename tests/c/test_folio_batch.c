/* The PTE-batch scan: its length, what stops it, and how many entries it reads. */
#include "testing.h"

enum { VPN = 8192, PFN = 0x1000 };

/* the scan from the entry at vpn of VMA 0 on, for folio 0 */
static uint64_t scan(const struct world *world, uint64_t vpn, rmf_pte *pte, uint64_t max_nr,
		     uint32_t flags, rmf_pte *later)
{
	const struct rmf_slots slots = rmf_slots_of_vma(world->run, 0);

	memset(world->run->ev, 0, sizeof(world->run->ev));
	*pte = *pte_at(world, 0, vpn);
	return rmf_folio_pte_batch_flags(&slots, vpn, pte, max_nr, world->pop->folio_pfn[0],
					 rmf_folio_nr_pages(world->pop, 0), flags, later);
}

static struct world mapped(struct rmf_arch arch, uint8_t order, rmf_pte flags)
{
	return make_mapped(arch, policy_v7_0_12(), VPN, order, FOLIO_FILE, 0, flags);
}

static void test_aligned(void)
{
	struct rmf_arch arch = arch_x86();

	arch.ptrs_per_pte = 8192;
	for (uint8_t order = 0; order <= RMF_MAX_ORDER; order++) {
		struct world world = mapped(arch, order, RMF_PTE_YOUNG);
		int64_t nr = 1 << order;
		rmf_pte pte;

		expect_eq((int64_t)scan(&world, VPN, &pte, (uint64_t)nr, 0, NULL), nr,
			  "N aligned entries are one batch");
		expect_event(&world, RMF_BATCH_SCANS, 1);
		expect_event(&world, RMF_BATCH_PTE_READS, (uint64_t)nr - 1);
		expect_event(&world, RMF_RAW_PTE_LOADS, (uint64_t)nr - 1);
		free_world(&world);
	}
}

/* The entry at `at` becomes `word`. The batch is then `stop` long, and the scan has read the entry
 * that stopped it. */
static void expect_stop(rmf_pte base, uint64_t at, rmf_pte word, uint32_t flags, bool stops,
			const char *what)
{
	struct world world = mapped(arch_x86(), 4, base);
	rmf_pte pte;

	*pte_at(&world, 0, VPN + at) = word;
	expect_eq((int64_t)scan(&world, VPN, &pte, 16, flags, NULL), stops ? (int64_t)at : 16,
		  what);
	expect_event(&world, RMF_BATCH_PTE_READS, stops ? at : 15);
	free_world(&world);
}

static void test_stop_causes(void)
{
	for (uint64_t at = 1; at < 16; at++) {
		const rmf_pte next = mk_pte(PFN + at, RMF_PTE_PRESENT);

		expect_stop(0, at, 0, 0, true, "none");
		expect_stop(0, at, next + RMF_PFN_ONE, 0, true, "another page of the folio");
		expect_stop(0, at, mk_pte(0x9999, RMF_PTE_PRESENT), 0, true, "foreign PFN");
		expect_stop(0, at, rmf_mk_nonpresent(RMF_KIND_SWAP, PFN + at, 0), 0, true,
			    "swap entry");
		expect_stop(0, at, rmf_mk_nonpresent(RMF_KIND_DEVICE_EXCLUSIVE, PFN + at, 0), 0,
			    true, "device entry of the page");
		expect_stop(0, at, rmf_mk_marker(), 0, true, "marker");
		expect_stop(0, at, next | RMF_PTE_UFFD_WP, 0, true, "uffd-wp");
		expect_stop(0, at, next | RMF_PTE_PROT, 0, true, "protection");
		expect_stop(0, at, next | RMF_PTE_SPECIAL, 0, true, "special");
		expect_stop(0, at, next | RMF_PTE_CONT, 0, true, "CONT");
		expect_stop(0, at, next | RMF_PTE_YOUNG, 7, false, "young never stops");
		expect_stop(0, at, next | RMF_PTE_WRITE, 0, false, "write");
		expect_stop(0, at, next | RMF_PTE_WRITE, RMF_FPB_RESPECT_WRITE, true,
			    "write, respected");
		expect_stop(RMF_PTE_WRITE, at, next, RMF_FPB_RESPECT_WRITE, true,
			    "no write, respected");
		expect_stop(0, at, next | RMF_PTE_SOFT_DIRTY, RMF_FPB_RESPECT_WRITE, false,
			    "soft-dirty");
		expect_stop(0, at, next | RMF_PTE_SOFT_DIRTY, RMF_FPB_RESPECT_SOFT_DIRTY, true,
			    "soft-dirty, respected");
		expect_stop(0, at, next | RMF_PTE_DIRTY, RMF_FPB_RESPECT_SOFT_DIRTY, false,
			    "dirty");
		expect_stop(0, at, next | RMF_PTE_DIRTY, RMF_FPB_RESPECT_DIRTY, true,
			    "dirty, respected");
	}
}

/* The PFNs go on behind the folio. A scan that is cut does not look there. The scan of v6.14 reads
 * one entry to see it. */
static void test_folio_end(void)
{
	struct world world = make_world(arch_x86(), policy_v7_0_12());
	uint32_t vma = add_vma(&world, (struct vma_spec){ .start = VPN, .nr = 32 });
	rmf_pte pte;

	add_folio(&world, (struct folio_spec){ .pfn = PFN, .order = 4 });
	map_folio(&world, vma, 0);
	add_folio(&world, (struct folio_spec){ .pfn = PFN + 16, .index = 16, .order = 4 });
	map_folio(&world, vma, 0);
	for (uint64_t page = 0; page < 16; page++) {
		expect_eq((int64_t)scan(&world, VPN + page, &pte, 32 - page, 0, NULL),
			  (int64_t)(16 - page), "to the folio's end");
		expect_event(&world, RMF_BATCH_PTE_READS, 15 - page);
		expect_eq((int64_t)scan(&world, VPN + page, &pte, 32 - page, RMF_FPB_UNCUT, NULL),
			  (int64_t)(16 - page), "uncut as well");
		expect_event(&world, RMF_BATCH_PTE_READS, 16 - page);
	}
	for (uint64_t max_nr = 1; max_nr <= 16; max_nr++) {
		expect_eq((int64_t)scan(&world, VPN, &pte, max_nr, 0, NULL), (int64_t)max_nr,
			  "to max_nr");
		expect_event(&world, RMF_BATCH_PTE_READS, max_nr - 1);
	}
	free_world(&world);
}

static void test_merge(void)
{
	const rmf_pte bits = RMF_PTE_WRITE | RMF_PTE_YOUNG | RMF_PTE_DIRTY,
		      base = mk_pte(PFN, RMF_PTE_PRESENT);
	struct world world = mapped(arch_x86(), 4, 0);
	rmf_pte pte, later;

	*pte_at(&world, 0, VPN + 3) |= RMF_PTE_WRITE;
	*pte_at(&world, 0, VPN + 7) |= RMF_PTE_YOUNG;
	*pte_at(&world, 0, VPN + 15) |= RMF_PTE_DIRTY;
	expect_eq((int64_t)scan(&world, VPN, &pte, 16, 0, &later), 16, "nothing respected");
	expect_eq((int64_t)pte, (int64_t)base, "no merge flag: the entry stays");
	expect_eq((int64_t)later, (int64_t)bits, "what the later entries had");
	scan(&world, VPN, &pte, 16, RMF_FPB_MERGE_WRITE, NULL);
	expect_eq((int64_t)pte, (int64_t)(base | RMF_PTE_WRITE), "merged write");
	scan(&world, VPN, &pte, 16, RMF_FPB_MERGE_YOUNG_DIRTY, NULL);
	expect_eq((int64_t)pte,
		  (int64_t)(base | RMF_PTE_YOUNG | RMF_PTE_DIRTY | RMF_PTE_SOFT_DIRTY),
		  "merged young and dirty, as x86 dirties");
	scan(&world, VPN, &pte, 8, RMF_FPB_MERGE_YOUNG_DIRTY | RMF_FPB_MERGE_WRITE, &later);
	expect_eq((int64_t)pte, (int64_t)(base | RMF_PTE_YOUNG | RMF_PTE_WRITE),
		  "nothing from behind the batch");
	expect_eq((int64_t)later, RMF_PTE_YOUNG | RMF_PTE_WRITE, "nor in later");
	expect_eq((int64_t)*pte_at(&world, 0, VPN), (int64_t)base, "memory is not written");
	*pte_at(&world, 0, VPN) |= bits;
	scan(&world, VPN, &pte, 2, 0, &later);
	expect_eq((int64_t)later, 0, "the first entry is not a later one");
	free_world(&world);
}

/* A folded block is read once. An aligned folio of B blocks costs B - 1 reads, and so does one that
 * begins inside a block. */
static void test_contpte_hint(void)
{
	for (uint8_t order = 4; order <= 9; order++) {
		struct world world =
			mapped(arch_arm64(), order, RMF_PTE_CONT | RMF_PTE_YOUNG | RMF_PTE_DIRTY);
		uint64_t nr = (uint64_t)1 << order;
		rmf_pte pte;

		for (uint64_t page = 0; page < nr; page += 5) {
			expect_eq((int64_t)scan(&world, VPN + page, &pte, nr - page, 0, NULL),
				  (int64_t)(nr - page), "over all blocks");
			expect_event(&world, RMF_BATCH_PTE_READS, nr / 16 - page / 16 - 1);
			/* each entry is young and dirty: one load finds CONT, one sees both bits */
			expect_event(&world, RMF_RAW_PTE_LOADS, 2 * (nr / 16 - page / 16 - 1));
		}
		for (uint64_t max_nr = 1; max_nr <= nr; max_nr += 3)
			expect_eq((int64_t)scan(&world, VPN, &pte, max_nr, 0, NULL),
				  (int64_t)max_nr, "a hint past max_nr is cut");
		free_world(&world);
	}
}

static void test_contpte_meets_unfolded(void)
{
	struct world world = mapped(arch_arm64(), 6, RMF_PTE_CONT);
	rmf_pte pte;

	for (uint64_t i = 32; i < 48; i++)
		*pte_at(&world, 0, VPN + i) &= ~(rmf_pte)RMF_PTE_CONT;
	expect_eq((int64_t)scan(&world, VPN, &pte, 64, 0, NULL), 32, "two folded blocks");
	expect_event(&world, RMF_BATCH_PTE_READS, 2);
	expect_eq((int64_t)scan(&world, VPN + 32, &pte, 32, 0, NULL), 16, "one unfolded block");
	expect_event(&world, RMF_BATCH_PTE_READS, 16);
	free_world(&world);
}

/* Reads outside the table, the VMA and the window are counted as such, and find none. */
static void test_out_of_bounds(void)
{
	struct world world = make_world(arch_x86(), policy_v6_15());
	uint32_t vma = add_vma(&world, (struct vma_spec){ .start = VPN + 504, .nr = 8 });
	rmf_pte pte;

	add_vma(&world, (struct vma_spec){ .start = VPN + 512, .nr = 8, .pgoff = 8 });
	join_windows(&world, 0);
	add_folio(&world, (struct folio_spec){ .pfn = PFN, .order = 4 });
	map_folio(&world, vma, 0);
	map_folio(&world, 1, 0);
	expect_eq((int64_t)scan(&world, VPN + 504, &pte, 16, 0, NULL), 8,
		  "behind a table lies nothing, whatever the next table holds");
	expect_event(&world, RMF_OOB_READS, 1);
	expect_event(&world, RMF_VMA_OVERRUN_READS, 0);
	world.run->guard = RMF_GUARD_CONTIGUOUS;
	expect_eq((int64_t)scan(&world, VPN + 504, &pte, 16, 0, NULL), 16,
		  "unless the guard says so");
	expect_event(&world, RMF_OOB_READS, 8);
	free_world(&world);

	world = make_world(arch_x86(), policy_v6_15());
	vma = add_vma(&world, (struct vma_spec){ .start = VPN, .nr = 10 });
	add_folio(&world, (struct folio_spec){ .pfn = PFN, .order = 4 });
	map_folio(&world, vma, 0);
	expect_eq((int64_t)scan(&world, VPN, &pte, 16, 0, NULL), 10,
		  "a hole behind the VMA reads as none");
	expect_event(&world, RMF_OOB_READS, 0);
	expect_event(&world, RMF_VMA_OVERRUN_READS, 1);
	free_world(&world);
}

int main(void)
{
	run_test("aligned", test_aligned);
	run_test("stop causes", test_stop_causes);
	run_test("folio end", test_folio_end);
	run_test("merge", test_merge);
	run_test("contpte hint", test_contpte_hint);
	run_test("contpte meets unfolded", test_contpte_meets_unfolded);
	run_test("out of bounds", test_out_of_bounds);
	return report("test_folio_batch");
}
