/* The unmap of one folio from one VMA: batches, what is put back or left behind, and the bugs of
 * past editions. Rules such as bug 4 are those of docs/kernel-rules.md. */
#include "testing.h"

#include "folio.h"
#include "rmap.h"

enum { VPN = 1024, PFN = 0x1000, NR = 16 };
enum { DEFERRED = RMF_TTU_BATCH_FLUSH | RMF_TTU_SYNC };

static struct world mapped(struct rmf_policy policy, uint32_t folio_flags, uint32_t vma_flags,
			   rmf_pte pte_flags)
{
	return make_mapped(arch_x86(), policy, VPN, 4, folio_flags, vma_flags, pte_flags);
}

/* All pages of the folio are gone from VMA 0. References, mapcounts and rss fell by as many as
 * there were. */
static void expect_gone(const struct world *world, int32_t refs_left)
{
	const struct rmf_population *pop = world->pop;

	expect_eq((int64_t)nr_present(world, 0), 0, "no entry left");
	expect_eq(pop->folio_mapcount[0], 0, "mapcount");
	expect_eq(pop->folio_refcount[0], refs_left, "references");
	expect_eq(pop->mm_rss[RMF_MM_FILEPAGES] + pop->mm_rss[RMF_MM_ANONPAGES] +
			  pop->mm_rss[RMF_MM_SHMEMPAGES],
		  0, "rss");
	expect(!(pop->folio_flags[0] & RMF_FOLIO_PAGE_MAPCOUNTS), "the pages are equal again");
}

/* N pages in one batch: everything happens once, except the reads of the scan, the clears and the
 * page mapcounts. */
static void test_whole_folio_batch(void)
{
	for (uint8_t order = 1; order <= 9; order++) {
		struct world world =
			make_mapped(arch_x86(), policy_v7_0_12(), VPN, order, FOLIO_FILE, 0, 0);
		uint64_t nr = (uint64_t)1 << order;
		const struct event_count want[] = {
			{ RMF_UNMAP_CALLS, 1 },
			{ RMF_NOTIFIER_RANGES, 1 },
			{ RMF_WALK_CALLS, 1 },
			{ RMF_WALK_YIELDS, 1 },
			{ RMF_WALK_PTE_READS, 1 },
			{ RMF_WALK_SLOTS, 1 },
			{ RMF_PTL_LOCKS, 1 },
			{ RMF_ENTRY_PTE_READS, 1 },
			{ RMF_BATCH_PTE_READS, nr - 1 },
			{ RMF_BATCH_SCANS, 1 },
			{ RMF_RAW_PTE_LOADS, nr + 1 },
			{ RMF_BATCHES, 1 },
			{ RMF_BATCHED_PAGES, nr },
			{ RMF_PTES_CLEARED, nr },
			{ RMF_TLB_DEFERRED, 1 },
			{ RMF_RMAP_REMOVE_CALLS, 1 },
			{ RMF_PAGE_MAPCOUNT_ATOMICS, nr },
			{ RMF_FOLIO_MAPCOUNT_ATOMICS, 2 },
			{ RMF_REF_PUTS, 1 },
			{ RMF_RSS_UPDATES, 1 },
		};

		expect(rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED), "the rmap walk may go on");
		expect_only(&world, want, sizeof(want) / sizeof(want[0]));
		expect_gone(&world, (int32_t)nr + 1);
		expect_eq((int64_t)world.run->batch_lengths[nr], 1, "length of the batch");
		expect_eq(world.run->mapped_stat, -(int64_t)nr, "mapped statistic");
		free_world(&world);
	}
}

static void test_per_page(void)
{
	for (uint8_t order = 1; order <= 9; order++) {
		struct world world =
			make_mapped(arch_x86(), policy_per_page(), VPN, order, FOLIO_FILE, 0, 0);
		uint64_t nr = (uint64_t)1 << order;
		const struct event_count want[] = {
			{ RMF_UNMAP_CALLS, 1 },
			{ RMF_NOTIFIER_RANGES, 1 },
			{ RMF_WALK_CALLS, nr + 1 },
			{ RMF_WALK_YIELDS, nr },
			{ RMF_WALK_PTE_READS, 2 * nr - 1 },
			{ RMF_WALK_SLOTS, nr },
			{ RMF_PTL_LOCKS, 1 },
			{ RMF_ENTRY_PTE_READS, nr },
			{ RMF_RAW_PTE_LOADS, 3 * nr - 1 },
			{ RMF_BATCHES, nr },
			{ RMF_BATCHED_PAGES, nr },
			{ RMF_PTES_CLEARED, nr },
			{ RMF_TLB_DEFERRED, nr },
			{ RMF_RMAP_REMOVE_CALLS, nr },
			{ RMF_PAGE_MAPCOUNT_ATOMICS, nr },
			{ RMF_FOLIO_MAPCOUNT_ATOMICS, 2 * nr },
			{ RMF_REF_PUTS, nr },
			{ RMF_RSS_UPDATES, nr },
		};

		expect(rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED), "the rmap walk may go on");
		expect_only(&world, want, sizeof(want) / sizeof(want[0]));
		expect_gone(&world, (int32_t)nr + 1);
		free_world(&world);
	}
}

/* Runs of nr equal entries give NR / nr batches. The walk reads the nr - 1 cleared slots of each
 * batch again, unless it skips them. */
static void test_partial_batches(void)
{
	for (uint64_t nr = 1; nr < NR; nr *= 2) {
		for (int skip = 0; skip < 2; skip++) {
			struct rmf_policy policy = policy_v7_0_12();
			uint64_t batches = NR / nr;
			struct world world;

			policy.skip_batch = skip;
			world = mapped(policy, FOLIO_FILE, 0, 0);
			for (uint64_t i = 0; i < NR; i++)
				*pte_at(&world, 0, VPN + i) |= i / nr % 2 ? RMF_PTE_WRITE : 0;
			expect(rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED),
			       "the rmap walk may go on");
			expect_event(&world, RMF_BATCHES, batches);
			expect_eq((int64_t)world.run->batch_lengths[nr], (int64_t)batches,
				  "all of the same length");
			expect_event(&world, RMF_TLB_DEFERRED, batches);
			expect_event(&world, RMF_REF_PUTS, batches);
			expect_event(&world, RMF_RSS_UPDATES, batches);
			expect_event(&world, RMF_WALK_CALLS, batches + 1);
			expect_event(&world, RMF_WALK_PTE_READS,
				     1 + 2 * (batches - 1) + (skip ? 0 : batches * (nr - 1)));
			expect_event(&world, RMF_BATCH_PTE_READS, NR - 1);
			expect_event(&world, RMF_BATCH_SCANS, batches);
			expect_event(&world, RMF_PAGE_MAPCOUNT_ATOMICS, NR);
			expect_event(&world, RMF_FOLIO_MAPCOUNT_ATOMICS, 2 * batches);
			expect_gone(&world, NR + 1);
			free_world(&world);
		}
	}
}

/* A hole at h gives one batch before it and one behind it. */
static void test_hole(void)
{
	for (uint64_t hole = 1; hole + 1 < NR; hole++) {
		struct world world = mapped(policy_v7_0_12(), FOLIO_FILE, 0, 0);

		*pte_at(&world, 0, VPN + hole) = 0;
		world.pop->page_mapcount[hole]--;
		world.pop->folio_mapcount[0]--;
		world.pop->folio_refcount[0]--;
		world.pop->folio_nr_pages_mapped[0]--;
		world.pop->mm_rss[RMF_MM_FILEPAGES]--;
		world.pop->folio_flags[0] |= RMF_FOLIO_PAGE_MAPCOUNTS;
		rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED);
		expect_event(&world, RMF_BATCHES, 2);
		expect_event(&world, RMF_PTES_CLEARED, NR - 1);
		/* the first scan reads up to the hole, the hole included; the second to the end of
		 * the folio */
		expect_event(&world, RMF_BATCH_PTE_READS, hole + (NR - hole - 2));
		/* the first entry; hole - 1 cleared slots and the hole; the entry behind it twice;
		 * its cleared slots */
		expect_event(&world, RMF_WALK_PTE_READS, 1 + hole + 2 + (NR - hole - 2));
		expect_gone(&world, NR + 1);
		expect_eq(world.pop->folio_nr_pages_mapped[0], 0, "pages mapped");
		free_world(&world);
	}
}

/* On any file folio, editions with batches leave the same state as those without. Each step drops
 * as many mappings, references and rss pages as it cleared entries (I1, I8). */
static void test_same_result(void)
{
	const struct rmf_policy policies[] = { policy_per_page(), policy_v6_15(), policy_v6_16(),
					       policy_file_v5(),  policy_v7_0(),  policy_v7_3() };
	uint64_t seed = 20261123;

	for (int round = 0; round < 100; round++) {
		uint64_t vpn = VPN + next_random(&seed) % 512, words = next_random(&seed),
			 more = next_random(&seed);
		struct world oracle = { 0 };

		for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++) {
			struct world world =
				make_mapped(arch_x86(), policies[i], vpn, 5, FOLIO_FILE, 0, 0);
			int64_t refs = world.pop->folio_refcount[0], cleared;

			for (uint64_t slot = 0; slot < 32; slot++) {
				rmf_pte *pte = pte_at(&world, 0, vpn + slot);

				*pte |= words >> slot & 1 ? RMF_PTE_WRITE | RMF_PTE_DIRTY
							  : RMF_PTE_YOUNG;
				if ((more >> slot & 0x101) == 0x101)
					*pte = mk_pte(0x9999, RMF_PTE_PRESENT);
			}
			rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED);
			cleared = (int64_t)event(&world, RMF_PTES_CLEARED);
			expect_eq(refs - world.pop->folio_refcount[0], cleared,
				  "references dropped");
			expect_eq(32 - world.pop->folio_mapcount[0], cleared, "mappings dropped");
			expect_eq(32 - world.pop->mm_rss[RMF_MM_FILEPAGES], cleared, "rss dropped");
			expect_event(&world, RMF_OOB_READS, 0);
			if (!i) {
				oracle = world;
				continue;
			}
			expect(memcmp(world.pop->ptes, oracle.pop->ptes, 32 * sizeof(rmf_pte)) == 0,
			       "entries as per page");
			expect_eq(world.pop->folio_flags[0], oracle.pop->folio_flags[0],
				  "flags as per page");
			expect(memcmp(world.pop->page_mapcount, oracle.pop->page_mapcount,
				      32 * sizeof(int32_t)) == 0,
			       "page mapcounts as per page");
			free_world(&world);
		}
		free_world(&oracle);
	}
}

/* A second VMA maps half of the folio. After an unmap from that VMA only, the pages differ. After
 * an unmap from both they are equal again. */
static void test_page_mapcounts(void)
{
	struct world world = make_world(arch_x86(), policy_v7_0_12());

	add_vma(&world, (struct vma_spec){ .start = VPN, .nr = NR });
	add_vma(&world, (struct vma_spec){ .start = 4 * VPN, .nr = NR / 2, .pgoff = NR / 2 });
	add_folio(&world, (struct folio_spec){ .pfn = PFN, .order = 4 });
	map_folio(&world, 0, 0);
	map_folio(&world, 1, 0);
	rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED);
	expect_eq(world.pop->folio_mapcount[0], NR / 2, "half is mapped");
	expect(world.pop->folio_flags[0] & RMF_FOLIO_PAGE_MAPCOUNTS, "the pages differ");
	for (uint64_t page = 0; page < NR; page++)
		expect_eq(world.pop->page_mapcount[page], page >= NR / 2, "mapcount of the page");
	expect_eq(world.run->mapped_stat, -NR / 2, "half is not mapped any more");
	rmf_try_to_unmap_one(world.run, 0, 1, DEFERRED);
	expect_eq(world.run->mapped_stat, -NR, "nothing is");
	expect_event(&world, RMF_PAGE_MAPCOUNT_ATOMICS, NR + NR / 2);
	expect_gone(&world, NR);
	free_world(&world);
}

/* As above, where the kernel keeps no mapcount per page: the folio counts as mapped whole until its
 * last mapping is gone. */
static void test_halves_without_page_mapcounts(void)
{
	struct world world = make_world(arch_x86(), policy_v7_0_12());

	world.run->arch.page_mapcount = false;
	add_vma(&world, (struct vma_spec){ .start = VPN, .nr = NR / 2 });
	add_vma(&world, (struct vma_spec){ .start = 4 * VPN, .nr = NR / 2, .pgoff = NR / 2 });
	add_folio(&world, (struct folio_spec){ .pfn = PFN, .order = 4 });
	map_folio(&world, 0, 0);
	map_folio(&world, 1, 0);
	rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED);
	expect_eq(world.run->mapped_stat, 0, "one half is mapped, so the whole folio counts");
	expect_eq(world.pop->folio_nr_pages_mapped[0], NR / 2, "the population knows better");
	rmf_try_to_unmap_one(world.run, 0, 1, DEFERRED);
	expect_eq(world.run->mapped_stat, -NR, "nothing is mapped");
	expect_event(&world, RMF_PAGE_MAPCOUNT_ATOMICS, 0);
	expect_event(&world, RMF_FOLIO_MAPCOUNT_ATOMICS, 2);
	expect_event(&world, RMF_DEFERRED_SPLIT_CALLS, 0); /* a file folio */
	expect_gone(&world, NR);
	free_world(&world);
}

/* Each of nr processes maps a lazyfree folio through two VMAs, a half through each. */
static struct world mapped_by_halves(uint32_t nr, bool page_mapcount)
{
	struct world world = make_world(arch_x86(), policy_v7_0_12());

	world.run->arch.page_mapcount = page_mapcount;
	for (uint32_t mm = 1; mm < nr; mm++)
		add_mm(&world, 3, 0);
	for (uint32_t vma = 0; vma < 2 * nr; vma++)
		add_vma(&world, (struct vma_spec){ .start = (vma + 1) * VPN,
						   .nr = NR / 2,
						   .pgoff = vma % 2 * NR / 2,
						   .flags = RMF_VMA_ANON,
						   .mm = vma / 2 });
	add_folio(&world, (struct folio_spec){
				  .pfn = PFN, .order = 4, .flags = FOLIO_LAZYFREE, .refs = 1 });
	for (uint32_t vma = 0; vma < 2 * nr; vma++)
		map_folio(&world, vma, 0);
	return world;
}

/* A process that loses a half of the folio leaves it partially mapped, whether or not the kernel
 * keeps a mapcount per page. If two processes lose the same half, 16 mappings of 16 pages are left.
 * The mapcount of the folio alone does not show that no one maps half of the pages. */
static void test_partially_mapped_without_page_mapcounts(void)
{
	for (uint64_t exact = 0; exact < 2; exact++) {
		struct world one = mapped_by_halves(1, exact), two = mapped_by_halves(2, exact);

		rmf_try_to_unmap_one(one.run, 0, 0, DEFERRED);
		expect_eq(one.pop->folio_mapcount[0], NR / 2, "mapcount");
		expect_event(&one, RMF_DEFERRED_SPLIT_CALLS, 1);
		expect_event(&one, RMF_DEFERRED_SPLITS, 1);
		expect_eq(one.run->mapped_stat, exact ? -NR / 2 : 0, "one has lost a half");
		rmf_try_to_unmap_one(one.run, 0, 1, DEFERRED);
		expect_eq(one.run->mapped_stat, -NR, "one has lost both");
		expect_gone(&one, 1);

		rmf_try_to_unmap_one(two.run, 0, 0, DEFERRED);
		expect_event(&two, RMF_DEFERRED_SPLIT_CALLS, 0);
		expect_eq(two.run->mapped_stat, 0, "the other maps the half");
		rmf_try_to_unmap_one(two.run, 0, 2, DEFERRED);
		expect_eq(two.pop->folio_mapcount[0], NR, "mapcount");
		expect_eq(two.pop->folio_nr_pages_mapped[0], NR / 2, "pages mapped");
		expect_event(&two, RMF_DEFERRED_SPLIT_CALLS, exact);
		expect_event(&two, RMF_DEFERRED_SPLITS, exact);
		expect_eq(two.run->mapped_stat, exact ? -NR / 2 : 0, "both have lost the half");
		/* one more, and the mapcount shows it */
		rmf_try_to_unmap_one(two.run, 0, 1, DEFERRED);
		expect_eq(two.pop->folio_mapcount[0], NR / 2, "mapcount");
		expect_event(&two, RMF_DEFERRED_SPLITS, 1);
		rmf_try_to_unmap_one(two.run, 0, 3, DEFERRED);
		expect_eq(two.run->mapped_stat, -NR, "nothing is mapped");
		expect_gone(&two, 1);
		free_world(&one);
		free_world(&two);
	}
}

/* Page by page a lazyfree folio is queued as partially mapped. In one batch it is not (bug 6). */
static void test_deferred_split(void)
{
	struct world pages = mapped(policy_per_page(), FOLIO_LAZYFREE, RMF_VMA_ANON, 0);
	struct world batch = mapped(policy_v7_0_12(), FOLIO_LAZYFREE, RMF_VMA_ANON, 0);

	expect(rmf_try_to_unmap_one(pages.run, 0, 0, DEFERRED) &&
		       rmf_try_to_unmap_one(batch.run, 0, 0, DEFERRED),
	       "both are discarded");
	expect_event(&pages, RMF_DEFERRED_SPLITS, 1);
	expect_event(&batch, RMF_DEFERRED_SPLITS, 0);
	expect_gone(&pages, 1);
	expect_gone(&batch, 1);
	free_world(&pages);
	free_world(&batch);
}

/* A dirty lazyfree folio is put back and becomes swapbacked. Dirty spreads over the batch, and
 * soft-dirty too where dirty sets it. */
static void test_lazyfree_dirty(void)
{
	for (int x86 = 0; x86 < 2; x86++) {
		struct world world = make_mapped(x86 ? arch_x86() : arch_arm64(), policy_v7_0_12(),
						 VPN, 4, FOLIO_LAZYFREE, RMF_VMA_ANON, 0);
		rmf_pte spread = RMF_PTE_PRESENT | RMF_PTE_DIRTY | RMF_PTE_YOUNG |
				 (x86 ? RMF_PTE_SOFT_DIRTY : RMF_PTE_CONT);

		*pte_at(&world, 0, VPN + 4) |= RMF_PTE_YOUNG;
		*pte_at(&world, 0, VPN + 9) |= RMF_PTE_DIRTY;
		expect(!rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED),
		       "the rmap walk is to stop");
		for (uint64_t i = 0; i < NR; i++)
			expect_eq((int64_t)*pte_at(&world, 0, VPN + i),
				  (int64_t)mk_pte(PFN + i, spread), "restored entry");
		expect_eq(world.pop->folio_flags[0],
			  RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED | RMF_FOLIO_DIRTY,
			  "swapbacked and dirty");
		expect_eq(world.pop->folio_mapcount[0], NR, "still mapped");
		expect_eq(world.pop->folio_refcount[0], NR + 1, "references");
		expect_eq(world.pop->mm_rss[RMF_MM_ANONPAGES], NR, "rss");
		expect_event(&world, RMF_PTES_SET, NR);
		expect_event(&world, RMF_FOLIOS_DIRTIED, 1);
		free_world(&world);
	}
	struct world world = mapped(policy_v7_0_12(), FOLIO_LAZYFREE,
				    RMF_VMA_ANON | RMF_VMA_DROPPABLE, RMF_PTE_DIRTY);

	expect(rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED),
	       "a droppable mapping is discarded, dirty or not");
	expect_gone(&world, 1);
	free_world(&world);
}

/* With an unexpected reference the folio is put back and stays lazyfree. Up to v6.14 it becomes
 * swapbacked without need (bug 7). */
static void test_lazyfree_extra_reference(void)
{
	for (int v6_14 = 0; v6_14 < 2; v6_14++) {
		struct rmf_policy policy = policy_per_page();
		struct world world;

		policy.failure_swapbacked = v6_14;
		policy.lazyfree = !v6_14;
		world = mapped(policy, FOLIO_LAZYFREE, RMF_VMA_ANON, RMF_PTE_WRITE);
		world.pop->folio_refcount[0]++;
		expect(!rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED),
		       "the rmap walk is to stop");
		for (uint64_t i = 0; i < NR; i++)
			expect_eq((int64_t)*pte_at(&world, 0, VPN + i),
				  (int64_t)mk_pte(PFN + i, RMF_PTE_PRESENT | RMF_PTE_WRITE),
				  "entry");
		expect_eq((world.pop->folio_flags[0] & RMF_FOLIO_SWAPBACKED) != 0, v6_14,
			  "swapbacked");
		free_world(&world);
	}
}

/* Half of the entries are writable. v6.16 gives all of them the write bit of the first entry; v7.0
 * restores each one (bug 3). */
static void test_restore_write(void)
{
	for (int fixed = 0; fixed < 2; fixed++) {
		struct world world = mapped(fixed ? policy_v7_0() : policy_v6_16(), FOLIO_LAZYFREE,
					    RMF_VMA_ANON, 0);

		for (uint64_t i = 0; i < NR / 2; i++)
			*pte_at(&world, 0, VPN + i) |= RMF_PTE_WRITE | RMF_PTE_DIRTY;
		rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED);
		for (uint64_t i = 0; i < NR; i++)
			expect_eq((*pte_at(&world, 0, VPN + i) & RMF_PTE_WRITE) != 0,
				  !fixed || i < NR / 2, "write");
		free_world(&world);
	}
}

/* Swap-out writes an entry for each page, with its offset and bits. It takes one reference for each
 * page, or one for the batch. */
static void test_swap_out(void)
{
	for (int batched = 0; batched < 2; batched++) {
		struct world world = mapped(batched ? policy_anon_swap() : policy_v7_3(),
					    FOLIO_SWAP | RMF_FOLIO_EXCLUSIVE, RMF_VMA_ANON,
					    RMF_PTE_SOFT_DIRTY | RMF_PTE_UFFD_WP);
		const rmf_pte bits = RMF_PTE_SOFT_DIRTY | RMF_PTE_UFFD_WP | RMF_PTE_EXCLUSIVE;

		world.pop->folio_swap[0] = 1000;
		expect(rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED), "swapped out");
		for (uint64_t i = 0; i < NR; i++)
			expect_eq((int64_t)*pte_at(&world, 0, VPN + i),
				  (int64_t)rmf_mk_nonpresent(RMF_KIND_SWAP, 1000 + i, bits),
				  "swap entry");
		expect_event(&world, RMF_SWAP_DUPS, batched ? 1 : NR);
		expect_event(&world, RMF_RSS_UPDATES, batched ? 2 : 2 * NR);
		expect_event(&world, RMF_PTES_SET, NR);
		expect_eq(world.pop->mm_rss[RMF_MM_SWAPENTS], NR, "swap entries of the mm");
		expect(!(world.pop->folio_flags[0] & RMF_FOLIO_EXCLUSIVE),
		       "no page is exclusive any more");
		/* swap entries are not none, so without a skip each is read twice more */
		expect_event(&world, RMF_WALK_PTE_READS, batched ? 1 : 2 * NR - 1);
		expect_gone(&world, NR + 1);
		free_world(&world);
	}
}

/* A batch ends where the exclusive mark of the pages changes. A batch whose swap reference fails,
 * or that is pinned, is put back whole. */
static void test_swap_batches(void)
{
	for (uint64_t cut = 1; cut < NR; cut++) {
		struct world world = mapped(policy_anon_swap(), FOLIO_SWAP | RMF_FOLIO_PAGE_FLAGS,
					    RMF_VMA_ANON, 0);

		for (uint64_t i = 0; i < cut; i++)
			world.pop->page_flags[i] = RMF_PAGE_EXCLUSIVE;
		rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED);
		expect_event(&world, RMF_BATCHES, 2);
		for (uint64_t i = 0; i < NR; i++)
			expect_eq((*pte_at(&world, 0, VPN + i) & RMF_PTE_EXCLUSIVE) != 0, i < cut,
				  "exclusive swap entry");
		expect(!(world.pop->folio_flags[0] & RMF_FOLIO_PAGE_FLAGS),
		       "the pages are equal again");
		free_world(&world);

		world = mapped(policy_anon_swap(), FOLIO_SWAP | RMF_FOLIO_PAGE_FLAGS, RMF_VMA_ANON,
			       0);
		world.pop->page_flags[cut] = RMF_PAGE_SWAP_DUP_FAIL;
		expect(!rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED), "no swap reference");
		expect_eq((int64_t)nr_present(&world, 0), NR, "put back whole");
		expect_eq(world.pop->folio_refcount[0], 2 * NR + 1, "references");
		free_world(&world);
	}
	struct world world = mapped(policy_anon_swap(),
				    FOLIO_SWAP | RMF_FOLIO_EXCLUSIVE | RMF_FOLIO_PINNED,
				    RMF_VMA_ANON, 0);

	expect(!rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED), "pinned");
	expect_event(&world, RMF_SWAP_PUTS, 1);
	expect_eq((int64_t)nr_present(&world, 0), NR, "put back whole");
	free_world(&world);
}

static void test_swapcache_mismatch(void)
{
	for (int v7_3 = 0; v7_3 < 2; v7_3++) {
		struct world world = mapped(v7_3 ? policy_v7_3() : policy_v7_0_12(),
					    RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED, RMF_VMA_ANON, 0);

		expect(!rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED), "abort");
		expect_event(&world, RMF_WARNS, 1);
		expect_eq((int64_t)nr_present(&world, 0), v7_3 ? NR : NR - 1,
			  "the first entry is lost unless v7.3 puts it back");
		free_world(&world);
	}
}

/* Markers are written into the first slot of a batch only (bug 2), page by page, or into each slot.
 * There are none in an anonymous VMA, or without the bit. */
static void test_uffd_wp(void)
{
	const struct rmf_policy policies[] = { policy_file_v5(), policy_v7_0_12(), policy_v7_3() };
	const uint64_t markers[] = { 1, NR, NR }, batches[] = { 1, NR, 1 };

	for (int i = 0; i < 3; i++) {
		struct world world = mapped(policies[i], FOLIO_SHMEM,
					    RMF_VMA_UFFD_WP | RMF_VMA_SHARED, RMF_PTE_UFFD_WP);

		rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED);
		expect_event(&world, RMF_MARKERS_SET, markers[i]);
		expect_event(&world, RMF_PTES_SET, markers[i]);
		expect_event(&world, RMF_BATCHES, batches[i]);
		for (uint64_t slot = 0; slot < NR; slot++)
			expect_eq((int64_t)*pte_at(&world, 0, VPN + slot),
				  slot < markers[i] ? (int64_t)rmf_mk_marker() : 0, "marker");
		expect_gone(&world, NR + 1);
		free_world(&world);
	}
	for (int anon = 0; anon < 2; anon++) {
		struct world world = mapped(policy_v7_3(), FOLIO_LAZYFREE,
					    RMF_VMA_UFFD_WP | (anon ? RMF_VMA_ANON : 0),
					    anon ? RMF_PTE_UFFD_WP : 0);

		rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED);
		expect_event(&world, RMF_MARKERS_SET, 0);
		expect_event(&world, RMF_BATCHES, 1);
		free_world(&world);
	}
}

/* After a partial batch the walk reads a marker twice, but a none slot once. */
static void test_markers_are_read_twice(void)
{
	struct world world = mapped(policy_v7_3(), FOLIO_FILE, RMF_VMA_UFFD_WP, RMF_PTE_UFFD_WP);

	for (uint64_t i = NR / 2; i < NR; i++)
		*pte_at(&world, 0, VPN + i) ^= RMF_PTE_UFFD_WP;
	rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED);
	expect_event(&world, RMF_BATCHES, 2);
	expect_event(&world, RMF_WALK_PTE_READS, 1 + 2 * (NR / 2 - 1) + 2 + (NR / 2 - 1));
	free_world(&world);
}

/* A lazyfree folio whose first 8 pages end a table and whose other 8 begin the next one (bug 1). */
static struct world at_table_end(struct rmf_policy policy, enum rmf_guard guard)
{
	struct world world =
		make_mapped(arch_x86(), policy, VPN + 512 - 8, 4, FOLIO_LAZYFREE, RMF_VMA_ANON, 0);

	world.run->guard = guard;
	rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED);
	return world;
}

static void test_out_of_bounds(void)
{
	struct world world = at_table_end(policy_v6_15(), RMF_GUARD_NONE);

	expect_event(&world, RMF_OOB_READS, 1); /* it found none behind the table; then it went page
						   by page */
	expect_event(&world, RMF_OOB_WRITES, 0);
	expect_event(&world, RMF_BATCHES, NR);
	expect_gone(&world, 1);
	free_world(&world);

	/* The entries behind the table go on. The whole folio is "cleared", but half of it in
	 * foreign memory. The next table keeps its own entries. */
	world = at_table_end(policy_v6_15(), RMF_GUARD_CONTIGUOUS);
	expect_event(&world, RMF_OOB_READS, 8);
	expect_event(&world, RMF_OOB_WRITES, 8);
	expect_event(&world, RMF_PTES_CLEARED, NR);
	expect_eq((int64_t)nr_present(&world, 0), 8, "the second table's entries are still there");
	expect_eq(world.pop->folio_mapcount[0], 0, "though nothing counts them");
	free_world(&world);

	world = at_table_end(policy_v6_16(), RMF_GUARD_CONTIGUOUS);
	expect_event(&world, RMF_OOB_READS, 0);
	expect_event(&world, RMF_OOB_WRITES, 0);
	expect_event(&world, RMF_BATCHES, 2);
	expect_gone(&world, 1);
	free_world(&world);
}

/* The table goes on but the VMA ends. v6.15 clears the entries of the neighbour too; v6.16 does
 * not. */
static void test_vma_overrun(void)
{
	for (int fixed = 0; fixed < 2; fixed++) {
		struct world world =
			make_world(arch_x86(), fixed ? policy_v6_16() : policy_v6_15());

		add_vma(&world, (struct vma_spec){ .start = VPN, .nr = 10, .flags = RMF_VMA_ANON });
		add_vma(&world,
			(struct vma_spec){
				.start = VPN + 10, .nr = 6, .pgoff = 10, .flags = RMF_VMA_ANON });
		join_windows(&world, 0);
		add_folio(&world,
			  (struct folio_spec){
				  .pfn = PFN, .order = 4, .flags = FOLIO_LAZYFREE, .refs = 1 });
		map_folio(&world, 0, 0);
		map_folio(&world, 1, 0);
		rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED);
		expect_event(&world, RMF_VMA_OVERRUN_READS, fixed ? 0 : 6);
		expect_event(&world, RMF_VMA_OVERRUN_WRITES, fixed ? 0 : 6);
		expect_event(&world, RMF_OOB_READS, 0);
		expect_eq((int64_t)nr_present(&world, 1), fixed ? 6 : 0, "the neighbour's entries");
		free_world(&world);
	}
}

/* A droppable lazyfree folio of 16 pages, of which the last is device-exclusive. If nr is not
 * reset, that one entry drops 15 mappings (bug 4). */
static void test_stale_nr(void)
{
	for (int fixed = 0; fixed < 2; fixed++) {
		struct world world = mapped(fixed ? policy_v7_0_12() : policy_v7_0(),
					    FOLIO_LAZYFREE, RMF_VMA_ANON | RMF_VMA_DROPPABLE, 0);
		struct rmf_trace_entry entries[64];
		struct rmf_trace trace = { .entries = entries, .capacity = 64 };
		uint64_t beyond = 0;
		int64_t dropped = fixed ? NR : 15 + 15;

		world.run->trace = &trace;
		*pte_at(&world, 0, VPN + 15) =
			rmf_mk_nonpresent(RMF_KIND_DEVICE_EXCLUSIVE, PFN + 15, 0);
		expect(rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED), "nobody notices");
		for (uint64_t i = 0; i < trace.n; i++)
			beyond += entries[i].kind == RMF_TRACE_BEYOND && entries[i].b == -1;
		expect_event(&world, RMF_PTES_CLEARED, NR);
		expect_event(&world, RMF_TLB_DEFERRED, 1); /* no TLB holds a device entry */
		expect_eq(world.pop->folio_refcount[0], NR + 1 - dropped, "references");
		expect_eq(world.pop->folio_mapcount[0], NR - dropped, "mapcount");
		expect_eq(world.pop->mm_rss[RMF_MM_ANONPAGES], NR - dropped, "rss");
		expect_event(&world, RMF_WARNS, fixed ? 0 : 1);
		expect_eq((int64_t)beyond, fixed ? 0 : 14,
			  "pages behind the folio that lost a mapping they never had");
		free_world(&world);
	}
}

/* In a locked VMA nothing is unmapped. The folio becomes mlocked if all its pages were seen under
 * one PTL (bug 10). */
static void test_mlock(void)
{
	for (int crossing = 0; crossing < 2; crossing++) {
		struct world world = make_mapped(arch_x86(), policy_v7_3(),
						 crossing ? VPN + 500 : VPN, 4, FOLIO_FILE,
						 RMF_VMA_LOCKED, 0);

		expect(!rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED),
		       "the rmap walk is to stop");
		expect_eq((int64_t)nr_present(&world, 0), NR, "nothing is unmapped");
		expect_event(&world, RMF_WALK_YIELDS, NR);
		expect_event(&world, RMF_ENTRY_PTE_READS, 0);
		expect_event(&world, RMF_MLOCK_CALLS, !crossing);
		expect_eq((world.pop->folio_flags[0] & RMF_FOLIO_MLOCKED) != 0, !crossing,
			  "mlocked");
		expect(rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED | RMF_TTU_IGNORE_MLOCK),
		       "unless mlock is ignored");
		expect_event(&world, RMF_MUNLOCK_CALLS, crossing ? 2 : 1); /* one for each batch */
		expect(!(world.pop->folio_flags[0] & RMF_FOLIO_MLOCKED), "munlocked");
		expect_gone(&world, NR + 1);
		free_world(&world);
	}
	for (uint8_t order = 0; order < 2; order++) {
		struct rmf_policy policy = policy_per_page();
		struct world world;

		policy.mlock_at_once = true;
		world = make_mapped(arch_x86(), policy, VPN, order, FOLIO_FILE, RMF_VMA_LOCKED, 0);
		expect(!rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED), "v6.14 stops");
		expect_event(&world, RMF_WALK_YIELDS, 1);
		expect_event(&world, RMF_MLOCK_CALLS, order == 0);
		free_world(&world);
	}
}

/* A poisoned page gets a hwpoison entry. From v7.3 on the mark of page 0 decides for all pages.
 * TTU_HWPOISON forces nr = 1. */
static void test_hwpoison(void)
{
	for (int page0 = 0; page0 < 2; page0++) {
		struct world world = mapped(page0 ? policy_v7_3() : policy_v7_0_12(),
					    RMF_FOLIO_PAGE_FLAGS, 0, 0);

		world.pop->page_flags[page0 ? 0 : 5] = RMF_PAGE_HWPOISON;
		rmf_try_to_unmap_one(world.run, 0, 0, RMF_TTU_HWPOISON);
		expect_event(&world, RMF_BATCHES, NR);
		for (uint64_t i = 0; i < NR; i++)
			expect_eq((int64_t)*pte_at(&world, 0, VPN + i),
				  page0 || i == 5 ? (int64_t)rmf_mk_nonpresent(RMF_KIND_HWPOISON,
									       PFN + i, 0)
						  : 0,
				  "hwpoison entry");
		expect_event(&world, RMF_TLB_IMMEDIATE, NR);
		expect_gone(&world, NR + 1);
		free_world(&world);
	}
}

/* An entry that s390 marks as unused is dropped alone, and without the test of a lazyfree folio.
 * With userfaultfd armed it is an entry like any other. */
static void test_unused(void)
{
	struct world world = mapped(policy_v7_0_12(), FOLIO_LAZYFREE, RMF_VMA_ANON, RMF_PTE_UNUSED);

	world.pop->folio_refcount[0]++;
	expect(rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED),
	       "dropped in spite of the reference");
	expect_event(&world, RMF_BATCHES, NR);
	expect_gone(&world, 2);
	free_world(&world);
	world = mapped(policy_v7_0_12(), FOLIO_LAZYFREE, RMF_VMA_ANON | RMF_VMA_UFFD_ARMED,
		       RMF_PTE_UNUSED);
	world.pop->folio_refcount[0]++;
	expect(!rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED), "armed: the reference counts");
	free_world(&world);
}

static struct world pmd_mapped(uint32_t folio_flags, rmf_pte pte_flags)
{
	struct world world = make_mapped(arch_x86(), policy_v7_0_12(), VPN, 9, folio_flags,
					 folio_flags & RMF_FOLIO_ANON ? RMF_VMA_ANON : 0,
					 pte_flags);

	world.pop->table_state[0] = RMF_TABLE_PMD_LEAF;
	world.pop->folio_mapcount[0] = world.pop->folio_entire_mapcount[0] = 1;
	world.pop->folio_refcount[0] -= 511;
	return world;
}

/* Remove a PMD mapping of an anonymous folio that `entire` PMDs map, and PTEs each of its first
 * `ptes` pages once. Returns the change of the mapped statistic. */
static int64_t remove_pmd(bool page_mapcount, int32_t entire, int32_t ptes, uint64_t want_queued)
{
	struct world world = pmd_mapped(FOLIO_LAZYFREE, 0);
	struct rmf_pages pages;
	int64_t stat;

	world.run->arch.page_mapcount = page_mapcount;
	world.pop->folio_flags[0] |= RMF_FOLIO_PAGE_MAPCOUNTS;
	world.pop->folio_entire_mapcount[0] = entire;
	world.pop->folio_mapcount[0] = entire + ptes;
	for (int32_t page = 0; page < 512; page++)
		world.pop->page_mapcount[page] = page < ptes;
	rmf_pages_open(&pages, world.run, 0);
	rmf_folio_remove_rmap_pmd(&pages);
	rmf_pages_close(&pages);
	expect_event(&world, RMF_DEFERRED_SPLITS, want_queued);
	expect_eq(world.pop->folio_nr_pages_mapped[0], entire > 1 ? 512 : ptes, "pages mapped");
	stat = world.run->mapped_stat;
	free_world(&world);
	return stat;
}

/* What the removal of a PMD mapping does to the statistic and to the queue. */
static void test_pmd_removal(void)
{
	expect_eq(remove_pmd(true, 1, 0, 0), -512, "exact: the last mapping");
	expect_eq(remove_pmd(true, 1, 8, 1), -504, "exact: PTEs map 8 pages");
	expect_eq(remove_pmd(true, 1, 512, 0), 0, "exact: PTEs map all pages");
	expect_eq(remove_pmd(true, 2, 8, 0), 0, "exact: another PMD maps it");
	expect_eq(remove_pmd(false, 1, 0, 0), -512, "the last mapping");
	expect_eq(remove_pmd(false, 1, 8, 1), 0, "PTEs map 8 pages");
	expect_eq(remove_pmd(false, 1, 512, 0), 0, "PTEs map all pages");
	expect_eq(remove_pmd(false, 2, 8, 0), 0, "another PMD maps it");
	expect_eq(remove_pmd(false, 2, 0, 0), 0, "only another PMD maps it");
}

/* While a PMD maps the folio, the removal of PTEs changes neither. */
static void test_ptes_beside_a_pmd(void)
{
	for (int exact = 0; exact < 2; exact++) {
		struct world world = pmd_mapped(FOLIO_LAZYFREE, 0);
		struct rmf_pages pages;

		world.run->arch.page_mapcount = exact;
		world.pop->folio_mapcount[0] += 8;
		world.pop->folio_flags[0] |= RMF_FOLIO_PAGE_MAPCOUNTS;
		for (int page = 0; page < 512; page++)
			world.pop->page_mapcount[page] = page < 8;
		rmf_pages_open(&pages, world.run, 0);
		rmf_folio_remove_rmap_ptes(&pages, 0, 8);
		rmf_pages_close(&pages);
		expect_eq(world.run->mapped_stat, 0, "mapped statistic");
		expect_eq(world.pop->folio_nr_pages_mapped[0], 512, "pages mapped");
		expect_event(&world, RMF_DEFERRED_SPLIT_CALLS, 0);
		free_world(&world);
	}
}

static void test_pmd_leaf(void)
{
	struct world world = pmd_mapped(FOLIO_FILE, RMF_PTE_DIRTY);

	/* a file leaf is cleared whole, at no cost per page */
	expect(rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED | RMF_TTU_SPLIT_HUGE_PMD),
	       "file leaf");
	expect_only(&world,
		    (const struct event_count[]){ { RMF_UNMAP_CALLS, 1 },
						  { RMF_NOTIFIER_RANGES, 1 },
						  { RMF_WALK_CALLS, 2 },
						  { RMF_WALK_YIELDS, 1 },
						  { RMF_PMD_LOCKS, 2 },
						  { RMF_PMD_SPLITS, 1 },
						  { RMF_PMDS_CLEARED, 1 },
						  { RMF_TLB_IMMEDIATE, 1 },
						  { RMF_TLBI_OPS, 1 },
						  { RMF_IPIS, 1 },
						  { RMF_FOLIOS_DIRTIED, 1 },
						  { RMF_RSS_UPDATES, 1 },
						  { RMF_RMAP_REMOVE_CALLS, 1 },
						  { RMF_FOLIO_MAPCOUNT_ATOMICS, 1 },
						  { RMF_REF_PUTS, 1 } },
		    15);
	expect_eq(world.pop->table_state[0], RMF_TABLE_ABSENT, "table");
	expect_gone(&world, 512 + 1);
	free_world(&world);

	/* a swapbacked anonymous leaf becomes a table of 512 entries, which is swapped out page by
	 * page */
	world = pmd_mapped(FOLIO_SWAP, 0);
	expect(rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED | RMF_TTU_SPLIT_HUGE_PMD),
	       "anonymous leaf");
	expect_event(&world, RMF_PMD_SPLITS, 1);
	expect_event(&world, RMF_PMDS_CLEARED, 0);
	expect_event(&world, RMF_BATCHES, 512);
	expect_event(&world, RMF_PTES_SET, 512);
	expect_eq(world.pop->table_state[0], RMF_TABLE_PTE, "table");
	expect_eq(world.pop->folio_entire_mapcount[0], 0, "entire mapcount");
	expect_gone(&world, 512 + 1);
	free_world(&world);

	/* a lazyfree leaf is discarded whole, or not at all */
	world = pmd_mapped(FOLIO_LAZYFREE, 0);
	expect(rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED), "lazyfree leaf");
	expect_event(&world, RMF_PMDS_CLEARED, 1);
	expect_event(&world, RMF_RSS_UPDATES, 1);
	expect_event(&world, RMF_TLB_IMMEDIATE, 1);
	expect_gone(&world, 1);
	free_world(&world);
	world = pmd_mapped(FOLIO_LAZYFREE, RMF_PTE_DIRTY);
	expect(!rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED), "dirty lazyfree leaf");
	expect(world.pop->folio_flags[0] & RMF_FOLIO_SWAPBACKED, "swapbacked");
	expect_eq(world.pop->table_state[0], RMF_TABLE_PMD_LEAF, "leaf");
	expect_eq(world.pop->folio_mapcount[0], 1, "mapcount");
	free_world(&world);

	world = pmd_mapped(FOLIO_FILE, 0);
	expect(!rmf_try_to_unmap_one(world.run, 0, 0, DEFERRED), "a leaf that may not be split");
	expect_event(&world, RMF_WARNS, 1);
	free_world(&world);
}

/* The walk over VMAs ends where one call fails, or when nothing is mapped any more. */
static void test_many_vmas(void)
{
	for (int locked = 0; locked < 4; locked++) {
		struct world world = make_world(arch_x86(), policy_v7_0_12());

		for (int i = 0; i < 4; i++)
			add_vma(&world,
				(struct vma_spec){ .start = (uint64_t)(i + 1) * VPN,
						   .nr = NR,
						   .flags = i == locked ? RMF_VMA_LOCKED : 0 });
		add_folio(&world, (struct folio_spec){ .pfn = PFN, .order = 4 });
		for (uint32_t vma = 0; vma < 3; vma++)
			map_folio(&world, vma, 0);
		add_rmap(&world, 3); /* may map the folio, but does not */
		rmf_try_to_unmap(world.run, 0, DEFERRED);
		expect_event(&world, RMF_UNMAP_CALLS, locked < 3 ? (uint64_t)locked + 1 : 3);
		expect_eq(world.pop->folio_mapcount[0], locked < 3 ? (3 - locked) * NR : 0,
			  "mapcount");
		expect_eq(world.run->mapped_stat, locked < 3 ? 0 : -NR,
			  "a page counts as mapped until its last mapping is gone");
		free_world(&world);
	}
}

int main(void)
{
	run_test("whole folio batch", test_whole_folio_batch);
	run_test("per page", test_per_page);
	run_test("partial batches", test_partial_batches);
	run_test("hole", test_hole);
	run_test("same result", test_same_result);
	run_test("page mapcounts", test_page_mapcounts);
	run_test("halves without page mapcounts", test_halves_without_page_mapcounts);
	run_test("partially mapped without page mapcounts",
		 test_partially_mapped_without_page_mapcounts);
	run_test("deferred split", test_deferred_split);
	run_test("lazyfree dirty", test_lazyfree_dirty);
	run_test("lazyfree extra reference", test_lazyfree_extra_reference);
	run_test("restore write", test_restore_write);
	run_test("swap-out", test_swap_out);
	run_test("swap batches", test_swap_batches);
	run_test("swapcache mismatch", test_swapcache_mismatch);
	run_test("uffd-wp", test_uffd_wp);
	run_test("markers are read twice", test_markers_are_read_twice);
	run_test("out of bounds", test_out_of_bounds);
	run_test("VMA overrun", test_vma_overrun);
	run_test("stale nr", test_stale_nr);
	run_test("mlock", test_mlock);
	run_test("hwpoison", test_hwpoison);
	run_test("unused", test_unused);
	run_test("PMD removal", test_pmd_removal);
	run_test("PTEs beside a PMD", test_ptes_beside_a_pmd);
	run_test("PMD leaf", test_pmd_leaf);
	run_test("many VMAs", test_many_vmas);
	return report("test_unmap");
}
