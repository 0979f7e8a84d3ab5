/* arm64 contpte blocks: gathers, unfolds and folds, and what a block of 16 costs per page and in a
 * batch. Rules such as section 2.6 are those of docs/kernel-rules.md. */
#include "testing.h"

#include "contpte.h"

enum { VPN = 1024, PFN = 0x1000, BLOCK = 16 };

/* A folio of `order` in folded blocks, old and clean. */
static struct world folded(uint8_t order)
{
	return make_mapped(arch_arm64(), policy_v7_0_12(), VPN, order, FOLIO_FILE, 0, RMF_PTE_CONT);
}

/* The raw loads of one logical read: 1. With CONT also those from the block's start until a young
 * and a dirty entry were seen. */
static void test_gather(void)
{
	for (uint64_t young = 0; young <= BLOCK; young++) {
		for (uint64_t dirty = 0; dirty <= BLOCK; dirty++) {
			struct world world = folded(5);
			const struct rmf_slots slots = rmf_slots_of_vma(world.run, 0);
			uint64_t last = young > dirty ? young : dirty;
			rmf_pte want = mk_pte(PFN + 7, RMF_PTE_PRESENT | RMF_PTE_CONT);

			if (young < BLOCK)
				*pte_at(&world, 0, VPN + young) |= RMF_PTE_YOUNG;
			if (dirty < BLOCK)
				*pte_at(&world, 0, VPN + dirty) |= RMF_PTE_DIRTY;
			want |= (young < BLOCK ? RMF_PTE_YOUNG : 0) |
				(dirty < BLOCK ? RMF_PTE_DIRTY : 0);
			expect_eq((int64_t)rmf_ptep_get(&slots, VPN + 7), (int64_t)want,
				  "young and dirty of the whole block");
			expect_event(&world, RMF_RAW_PTE_LOADS,
				     1 + (last < BLOCK ? last + 1 : BLOCK));
			expect_eq((int64_t)rmf_pte_batch_hint(&slots, VPN + 7, want), BLOCK - 7,
				  "hint: the rest of the block");
			/* the second block does not matter */
			expect_eq((int64_t)rmf_ptep_get(&slots, VPN + 20),
				  (int64_t)mk_pte(PFN + 20, RMF_PTE_PRESENT | RMF_PTE_CONT),
				  "next block");
			free_world(&world);
		}
	}
}

static void test_no_block(void)
{
	struct world world =
		make_mapped(arch_arm64(), policy_v7_0_12(), VPN, 5, FOLIO_FILE, 0, RMF_PTE_YOUNG);
	const struct rmf_slots slots = rmf_slots_of_vma(world.run, 0);

	for (uint64_t i = 0; i < 32; i++)
		expect_eq((int64_t)rmf_pte_batch_hint(&slots, VPN + i,
						      rmf_ptep_get(&slots, VPN + i)),
			  1, "hint without CONT");
	expect_event(&world, RMF_RAW_PTE_LOADS, 32);
	*pte_at(&world, 0, VPN) = rmf_mk_nonpresent(RMF_KIND_SWAP, 1, RMF_PTE_CONT);
	expect_eq((int64_t)rmf_pte_batch_hint(&slots, VPN, rmf_ptep_get(&slots, VPN)), 1,
		  "only present entries have a block");
	expect_event(&world, RMF_RAW_PTE_LOADS, 33);
	free_world(&world);
}

/* Those of three blocks are unfolded that [vpn, vpn + nr) covers only in part. Young and dirty
 * spread over each of them. */
static void test_unfold_edges(void)
{
	for (uint64_t from = 0; from < 3 * BLOCK; from++) {
		for (uint64_t nr = 1; from + nr <= 3 * BLOCK; nr++) {
			struct world world = folded(6);
			const struct rmf_slots slots = rmf_slots_of_vma(world.run, 0);
			uint64_t partly = 0;

			for (uint64_t block = 0; block < 4; block++) {
				*pte_at(&world, 0, VPN + block * BLOCK + 3) |= RMF_PTE_YOUNG;
				*pte_at(&world, 0, VPN + block * BLOCK + 9) |= RMF_PTE_DIRTY;
			}
			rmf_contpte_unfold_edges(&slots, VPN + from, nr);
			for (uint64_t block = 0; block < 4; block++) {
				uint64_t start = block * BLOCK, end = start + BLOCK;
				uint64_t low = from > start ? from : start,
					 high = from + nr < end ? from + nr : end;
				bool unfolded = low < high && high - low < BLOCK, right = true;

				partly += unfolded;
				for (uint64_t i = start; i < end; i++) {
					rmf_pte pte = *pte_at(&world, 0, VPN + i),
						both = RMF_PTE_YOUNG | RMF_PTE_DIRTY;

					right &= !(pte & RMF_PTE_CONT) == unfolded &&
						 rmf_pte_pfn(pte) == PFN + i;
					right &= !unfolded || (pte & both) == both;
				}
				expect(right, "entries of the block");
			}
			expect_event(&world, RMF_CONTPTE_UNFOLDS, partly);
			expect_event(&world, RMF_TLBI_OPS, partly);
			expect_event(&world, RMF_DSB_OPS, partly);
			expect_event(&world, RMF_DSB_ISHST_OPS, partly);
			free_world(&world);
		}
	}
}

/* set_ptes() sets CONT in each whole block that is aligned by slot and by PFN. It does not
 * flush. */
static void test_fold_range(void)
{
	for (uint64_t skew = 0; skew < 2; skew++) {
		for (uint64_t from = 0; from < 2 * BLOCK; from++) {
			for (uint64_t nr = 2; from + nr <= 4 * BLOCK; nr++) {
				struct world world = make_mapped(arch_arm64(), policy_v7_0_12(),
								 VPN, 6, FOLIO_FILE, 0, 0);
				const struct rmf_slots slots = rmf_slots_of_vma(world.run, 0);
				uint64_t first = (from + BLOCK - 1) / BLOCK,
					 end = (from + nr) / BLOCK;
				uint64_t whole = !skew && end > first ? end - first : 0;
				bool right = true;

				for (uint64_t i = 0; i < 64; i++)
					*pte_at(&world, 0, VPN + i) =
						mk_pte(PFN + skew + i, RMF_PTE_PRESENT);
				rmf_contpte_fold(&slots, VPN + from, nr, PFN, 128);
				for (uint64_t i = 0; i < 64; i++) {
					bool cont = *pte_at(&world, 0, VPN + i) & RMF_PTE_CONT;

					right &= cont ==
						 (whole && i / BLOCK >= first && i / BLOCK < end);
				}
				expect(right, "CONT in the whole blocks only");
				expect_event(&world, RMF_CONTPTE_FOLDS, whole);
				expect_event(&world, RMF_TLBI_OPS, 0);
				free_world(&world);
			}
		}
	}
}

/* set_pte() of one entry folds if the entry is the last of its block and all 16 are one translation
 * of one folio. */
static void expect_fold_one(struct world *world, uint64_t slot, uint64_t folio_nr, bool folds,
			    const char *what)
{
	const struct rmf_slots slots = rmf_slots_of_vma(world->run, 0);

	rmf_contpte_fold(&slots, VPN + slot, 1, PFN, folio_nr);
	expect_eq((int64_t)event(world, RMF_CONTPTE_FOLDS), folds, what);
	expect_event(world, RMF_DSB_OPS, folds);
	expect_event(world, RMF_TLBI_OPS, folds);
	for (uint64_t i = 0; i < BLOCK; i++)
		expect_eq((*pte_at(world, 0, VPN + i) & RMF_PTE_CONT) != 0, folds, what);
	free_world(world);
}

static struct world unfolded_block(void)
{
	return make_mapped(arch_arm64(), policy_v7_0_12(), VPN, 5, FOLIO_FILE, 0, 0);
}

static void test_fold_one(void)
{
	struct world world;

	for (uint64_t slot = 0; slot < BLOCK; slot++) {
		world = unfolded_block();
		expect_fold_one(&world, slot, 32, slot == BLOCK - 1,
				"only the last entry of a block folds it");
		world = unfolded_block();
		*pte_at(&world, 0, VPN + slot) |= RMF_PTE_YOUNG | RMF_PTE_DIRTY;
		expect_fold_one(&world, 15, 32, true, "young and dirty may differ");
		world = unfolded_block();
		*pte_at(&world, 0, VPN + slot) ^= RMF_PTE_WRITE;
		expect_fold_one(&world, 15, 32, false, "write may not");
		world = unfolded_block();
		*pte_at(&world, 0, VPN + slot) += RMF_PFN_ONE;
		expect_fold_one(&world, 15, 32, false, "nor may the PFN jump");
		world = unfolded_block();
		*pte_at(&world, 0, VPN + slot) = 0;
		expect_fold_one(&world, 15, 32, false, "nor an entry be none");
	}
	world = unfolded_block();
	expect_fold_one(&world, 15, 8, false, "nor the folio end in the block");
}

/* A block that the window cuts, which only arrays made by hand have. Nothing outside the window is
 * touched; the sanitizers watch. */
static void test_cut_block(void)
{
	struct world world = make_world(arch_arm64(), policy_v7_0_12());
	struct rmf_slots slots;

	add_vma(&world, (struct vma_spec){ .start = VPN + 5, .nr = 20 });
	add_folio(&world, (struct folio_spec){ .pfn = PFN, .index = 3, .order = 4 });
	slots = rmf_slots_of_vma(world.run, 0);
	for (uint64_t i = 5; i < 25; i++)
		*pte_at(&world, 0, VPN + i) = mk_pte(PFN + i, RMF_PTE_PRESENT | RMF_PTE_CONT);
	rmf_ptep_get(&slots, VPN + 5);
	expect_event(&world, RMF_RAW_PTE_LOADS, 1 + 11);
	rmf_ptep_get(&slots, VPN + 24);
	expect_event(&world, RMF_RAW_PTE_LOADS, 1 + 11 + 1 + 9);
	rmf_contpte_unfold_edges(&slots, VPN + 6, 18);
	expect_event(&world, RMF_CONTPTE_UNFOLDS, 2);
	rmf_contpte_fold(&slots, VPN + 5, 20, PFN, 32);
	rmf_contpte_fold(&slots, VPN + 15, 1, PFN, 32);
	expect_event(&world, RMF_CONTPTE_FOLDS, 0);
	free_world(&world);
}

/* The unmap of one old, clean block of 16 (section 2.6). Page by page: two gathers for each
 * page, an unfold, three loads for each further page and 16 TLBIs. In a batch: two gathers
 * and one TLBI. */
static void test_block_cost(void)
{
	struct world batch = folded(4), pages = folded(4);

	pages.run->policy = policy_per_page();
	rmf_try_to_unmap_one(batch.run, 0, 0, RMF_TTU_BATCH_FLUSH | RMF_TTU_SYNC);
	rmf_try_to_unmap_one(pages.run, 0, 0, RMF_TTU_BATCH_FLUSH | RMF_TTU_SYNC);
	expect_event(&batch, RMF_RAW_PTE_LOADS, 2 * (1 + 16));
	expect_event(&batch, RMF_BATCH_PTE_READS, 0);
	expect_event(&batch, RMF_CONTPTE_UNFOLDS, 0);
	expect_event(&batch, RMF_TLBI_OPS, 1);
	expect_event(&batch, RMF_DSB_OPS, 0);
	expect_event(&pages, RMF_RAW_PTE_LOADS, 2 * (1 + 16) + 15 * 3);
	expect_event(&pages, RMF_CONTPTE_UNFOLDS, 1);
	expect_event(&pages, RMF_TLBI_OPS, 1 + 16);
	expect_event(&pages, RMF_DSB_OPS, 1);
	expect_event(&pages, RMF_DSB_ISHST_OPS, 1 + 16);
	free_world(&batch);
	free_world(&pages);
}

/* A lazyfree batch that is put back folds again. Page by page the block stays unfolded until the
 * last entry is put back. */
static void test_restore_folds(void)
{
	const struct rmf_policy policies[] = { policy_v7_0_12(), policy_per_page() };

	for (int i = 0; i < 2; i++) {
		struct world world = make_mapped(arch_arm64(), policies[i], VPN, 6, FOLIO_LAZYFREE,
						 RMF_VMA_ANON, RMF_PTE_CONT);
		bool batch = i == 0;

		world.pop->folio_refcount[0]++;
		expect(!rmf_try_to_unmap_one(world.run, 0, 0, RMF_TTU_SYNC),
		       "an unexpected reference aborts");
		expect_eq((int64_t)nr_present(&world, 0), 64, "all entries are back");
		expect_event(&world, RMF_CONTPTE_FOLDS, batch ? 4 : 0);
		expect_event(&world, RMF_CONTPTE_UNFOLDS, batch ? 0 : 1);
		for (uint64_t slot = 0; slot < 64; slot++)
			expect_eq((*pte_at(&world, 0, VPN + slot) & RMF_PTE_CONT) != 0,
				  batch || slot >= BLOCK, "folded");
		free_world(&world);
	}
}

/* A batch that runs out of its table (v6.15, where the entries go on behind it) meets no block
 * there. The block of the next table stays folded. */
static void test_behind_table(void)
{
	struct world world = make_mapped(arch_arm64(), policy_v6_15(), VPN + 512 - 8, 4,
					 FOLIO_LAZYFREE, RMF_VMA_ANON, 0);

	world.run->guard = RMF_GUARD_CONTIGUOUS;
	for (uint64_t i = 0; i < 8; i++)
		*pte_at(&world, 0, VPN + 512 + i) =
			mk_pte(0x9000 + i, RMF_PTE_PRESENT | RMF_PTE_CONT);
	expect(rmf_try_to_unmap_one(world.run, 0, 0, RMF_TTU_SYNC), "one batch of 16");
	expect_event(&world, RMF_OOB_WRITES, 8);
	expect_event(&world, RMF_CONTPTE_UNFOLDS, 0);
	for (uint64_t i = 0; i < 8; i++)
		expect_eq((int64_t)*pte_at(&world, 0, VPN + 512 + i),
			  (int64_t)mk_pte(0x9000 + i, RMF_PTE_PRESENT | RMF_PTE_CONT), "folded");
	free_world(&world);
}

int main(void)
{
	run_test("gather", test_gather);
	run_test("no block", test_no_block);
	run_test("unfold edges", test_unfold_edges);
	run_test("fold range", test_fold_range);
	run_test("fold one", test_fold_one);
	run_test("cut block", test_cut_block);
	run_test("block cost", test_block_cost);
	run_test("restore folds", test_restore_folds);
	run_test("behind table", test_behind_table);
	return report("test_contpte");
}
