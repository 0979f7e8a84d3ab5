/* MGLRU's look-around and its page-table walk: which entries are read and cleared, and whose
 * generation changes. Every expectation is worked out by hand from docs/kernel-rules.md, sections
 * 9.6 and 9.7. */
#include "testing.h"

#include "look_around.h"
#include "referenced.h"

enum { VPN = 1024, PFN = 0x1000 };
enum { R = RMF_FOLIO_REFERENCED, W = RMF_FOLIO_WORKINGSET };
enum { M2 = 2 << RMF_FOLIO_REFS_SHIFT, M3 = 3 << RMF_FOLIO_REFS_SHIFT, MARKS = R | W | M3 };

static const enum rmf_mglru_rule RULES[] = { RMF_MGLRU_V6_12, RMF_MGLRU_V7_0, RMF_MGLRU_V7_2,
					     RMF_MGLRU_V7_3 };
enum { NR_RULES = 4 };

/* Folios of one size, one behind the other in one VMA, all in generation 0 of 0 to 3. */
struct look {
	struct world world;
	struct rmf_reclaim reclaim;
	uint32_t *lists;
	uint64_t start; /* of the VMA */
};

static struct look make_look(struct rmf_arch arch, enum rmf_mglru_rule rule, uint64_t start,
			     uint64_t pages, uint8_t order, uint32_t vma_flags, rmf_pte pte)
{
	struct look look = { .world = make_world(arch, policy_mglru(rule)), .start = start };

	add_vma(&look.world, (struct vma_spec){ .start = start, .nr = pages, .flags = vma_flags });
	for (uint64_t page = 0; page < pages; page += (uint64_t)1 << order) {
		add_folio(&look.world, (struct folio_spec){ .pfn = PFN + page,
							    .index = page,
							    .order = order,
							    .flags = rmf_with_gen(0, 1) });
		map_folio(&look.world, 0, pte);
	}
	return look;
}

static void begin(struct look *look)
{
	const struct rmf_lru_options options = { .mglru = true, .max_seq = 3 };
	const uint64_t n = look->world.pop->nr_folios;
	struct rmf_fault fault;

	look->lists = calloc(2 * n, sizeof(*look->lists));
	if (!look->lists)
		abort();
	for (uint32_t i = 0; i < n; i++)
		look->lists[i] = i;
	expect_eq(rmf_reclaim_start(&look->reclaim, look->world.run, look->lists, n,
				    look->lists + n, 0, UINT64_MAX, &options, &fault),
		  0, "start");
}

/* Take a folio off its list, as an isolation does. */
static void isolate(struct look *look, uint32_t folio)
{
	uint32_t *flags = &look->world.pop->folio_flags[folio];

	*flags = rmf_with_gen(*flags, 0);
}

static void free_look(struct look *look)
{
	rmf_reclaim_free(&look->reclaim);
	free(look->lists);
	free_world(&look->world);
}

static bool look_around(struct look *look, uint64_t vpn, uint64_t nr, uint32_t folio)
{
	const struct rmf_slots slots = rmf_slots_of_vma(look->world.run, 0);

	return rmf_look_around(&slots, 0, vpn, nr, folio);
}

/* Check the references of a folio. */
static int64_t check_references(struct look *look, uint32_t folio)
{
	struct rmf_reference reference = { .mapcount = look->world.pop->folio_mapcount[folio] };

	rmf_folio_referenced_one(look->world.run, folio, 0, &reference);
	return reference.referenced;
}

static bool is_young(const struct look *look, uint64_t vpn)
{
	return *pte_at(&look->world, 0, vpn) & RMF_PTE_YOUNG;
}

static void set_young(struct look *look, uint64_t vpn, uint64_t nr)
{
	for (uint64_t i = 0; i < nr; i++)
		*pte_at(&look->world, 0, vpn + i) |= RMF_PTE_YOUNG;
}

static uint64_t nr_young(const struct look *look, uint64_t vpn, uint64_t nr)
{
	uint64_t young = 0;

	for (uint64_t i = 0; i < nr; i++)
		young += is_young(look, vpn + i);
	return young;
}

static void expect_in(const struct look *look, uint32_t folio, uint32_t gen, uint32_t marks,
		      const char *what)
{
	const uint32_t flags = look->world.pop->folio_flags[folio];

	expect_eq(rmf_folio_gen(flags), (int64_t)gen + 1, what);
	expect_eq((int64_t)(flags & MARKS), (int64_t)marks, what);
}

/* Nothing ever flushes a TLB. */
static void expect_no_flush(const struct look *look)
{
	const enum rmf_event events[] = { RMF_YOUNG_FLUSHES, RMF_TLB_FLUSHES, RMF_TLB_DEFERRED,
					  RMF_TLB_IMMEDIATE, RMF_TLBI_OPS,    RMF_TLBI_RANGE_OPS,
					  RMF_DSB_OPS,	     RMF_IPIS,	      RMF_TLBI_LOCAL };

	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
		expect_event(&look->world, events[i], 0);
}

/* Old entries cost their tests and nothing else. */
static void test_old(void)
{
	for (int rule = 0; rule < NR_RULES; rule++) {
		const uint64_t calls = RULES[rule] >= RMF_MGLRU_V7_2 ? 1 : 16;
		struct look look = make_look(arch_x86(), RULES[rule], VPN, 64, 4, 0, 0);

		set_young(&look, VPN + 16, 48);
		begin(&look);
		isolate(&look, 0);
		expect_eq(check_references(&look, 0), 0, "not referenced");
		expect_event(&look.world, RMF_LOOK_AROUNDS, calls);
		expect_eq((int64_t)look.world.run->looked_around[16 / calls], (int64_t)calls,
			  "by the entries tested");
		expect_event(&look.world, RMF_LOOK_AROUNDS_YOUNG, 0);
		expect_event(&look.world, RMF_YOUNG_CALLS, calls);
		expect_event(&look.world, RMF_YOUNG_TESTS, 16);
		expect_event(&look.world, RMF_WINDOW_PTE_READS, 0);
		/* up to v7.0 the walk yields each entry, and looks once more behind the last */
		expect_event(&look.world, RMF_WALK_YIELDS, calls);
		expect_event(&look.world, RMF_WALK_CALLS, calls == 1 ? 1 : 17);
		expect_eq((int64_t)nr_young(&look, VPN, 64), 48, "the others");
		expect_no_flush(&look);
		free_look(&look);
	}
}

/* Where the window begins and ends. Single pages that are all young: those in it are cleared. */
static void test_window(void)
{
	const struct {
		uint64_t start, end; /* of the VMA; tables begin at multiples of 512 */
		uint64_t at, first, last;
	} cases[] = {
		/* 24 pages of the first table */
		{ 1000, 1600, 1000, 1000, 1023 },
		{ 1000, 1600, 1010, 1000, 1023 },
		{ 1000, 1600, 1023, 1000, 1023 },
		/* a whole table: less than 32 behind its start, more, less than 32 before its end
		 */
		{ 1000, 1600, 1024, 1024, 1087 },
		{ 1000, 1600, 1055, 1024, 1087 },
		{ 1000, 1600, 1056, 1024, 1087 },
		{ 1000, 1600, 1057, 1025, 1088 },
		{ 1000, 1600, 1300, 1268, 1331 },
		{ 1000, 1600, 1504, 1472, 1535 },
		{ 1000, 1600, 1505, 1472, 1535 },
		{ 1000, 1600, 1535, 1472, 1535 },
		/* 64 pages of the last table, then 65 */
		{ 1000, 1600, 1536, 1536, 1599 },
		{ 1000, 1600, 1599, 1536, 1599 },
		{ 1000, 1601, 1536, 1536, 1599 },
		{ 1000, 1601, 1567, 1536, 1599 },
		{ 1000, 1601, 1568, 1536, 1599 },
		{ 1000, 1601, 1569, 1537, 1600 },
		{ 1000, 1601, 1600, 1537, 1600 },
		/* inside one table, away from its ends */
		{ 1100, 1200, 1100, 1100, 1163 },
		{ 1100, 1200, 1150, 1118, 1181 },
		{ 1100, 1200, 1199, 1136, 1199 },
	};

	for (int rule = 0; rule < NR_RULES; rule++) {
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			const uint64_t start = cases[i].start, nr = cases[i].end - start;
			struct look look =
				make_look(arch_x86(), RULES[rule], start, nr, 0, 0, RMF_PTE_YOUNG);
			const uint32_t folio = (uint32_t)(cases[i].at - start);

			begin(&look);
			isolate(&look, folio);
			expect(look_around(&look, cases[i].at, 1, folio), "young");
			for (uint64_t vpn = start; vpn < cases[i].end; vpn++)
				expect_eq(is_young(&look, vpn),
					  vpn < cases[i].first || vpn > cases[i].last, "young?");
			expect_event(&look.world, RMF_LOOK_AROUNDS_YOUNG, 1);
			expect_event(&look.world, RMF_WINDOW_PTE_READS,
				     cases[i].last - cases[i].first + 1);
			/* all but the page under test, which is not young any more */
			expect_event(&look.world, RMF_WINDOW_YOUNG_PTES,
				     cases[i].last - cases[i].first);
			expect_event(&look.world, RMF_WINDOW_PROMOTIONS,
				     cases[i].last - cases[i].first);
			/* once for each folio, and once more; v6.12 has no such function */
			expect_event(&look.world, RMF_WINDOW_UPDATES,
				     RULES[rule] == RMF_MGLRU_V6_12
					     ? 0
					     : cases[i].last - cases[i].first + 1);
			expect_event(&look.world, RMF_OOB_READS, 0);
			expect_event(&look.world, RMF_VMA_OVERRUN_READS, 0);
			expect_no_flush(&look);
			free_look(&look);
		}
	}
}

/* A window of one page is the page itself. */
static void test_window_of_one_page(void)
{
	struct look look = make_look(arch_x86(), RMF_MGLRU_V7_2, VPN, 1, 0, 0, RMF_PTE_YOUNG);

	begin(&look);
	isolate(&look, 0);
	expect(look_around(&look, VPN, 1, 0), "young");
	expect(!is_young(&look, VPN), "cleared");
	expect_event(&look.world, RMF_WINDOW_PTE_READS, 0);
	expect_event(&look.world, RMF_WINDOW_UPDATES, 0);
	free_look(&look);
}

/* Four folios of 16 pages. Of the second one, under test, all pages are young, of the third one
 * page 4, of the fourth all, of the first none. */
static void test_batched_and_per_entry(void)
{
	const struct {
		uint64_t look_arounds, young, reads, batch_reads, young_calls, tests, promotions;
		uint64_t young_ptes, updates;
	} want[] = {
		/* the first of 16 tests finds young and clears the window, own entries included:
		 * 15 of its own, 1 and 16. Each of them marks its folio */
		{ 16, 1, 64, 0, 16 + 15 + 1 + 16, 16 + 15 + 1 + 16, 15 + 1 + 16, 15 + 1 + 16, 0 },
		/* own entries are passed over, so each test finds young and reads the window: the
		 * first one finds 15 + 17 young entries, and the others 14, 13, ... own ones. Each
		 * window has one update more than folios */
		{ 16, 16, 16 * 64, 0, 16 + 1 + 16, 16 + 1 + 16, 2, 17 + 15 * 16 / 2, 2 + 16 },
		/* a batch of its own, one of pages 4 to 15, one of 16. The window's reads pass over
		 * the rest of a batch, which the scan of the batch reads. The scan before the test
		 * reads 15 */
		{ 1, 1, 64 - 11 - 15, 15 + 11 + 15, 3, 16 + 12 + 16, 2, 2, 2 + 1 },
		{ 1, 1, 64 - 11 - 15, 15 + 11 + 15, 3, 16 + 12 + 16, 2, 2, 2 + 1 },
	};

	for (int rule = 0; rule < NR_RULES; rule++) {
		const bool v6_12 = RULES[rule] == RMF_MGLRU_V6_12;
		struct look look = make_look(arch_x86(), RULES[rule], VPN, 64, 4, 0, 0);

		set_young(&look, VPN + 16, 16);
		set_young(&look, VPN + 36, 1);
		set_young(&look, VPN + 48, 16);
		look.world.pop->folio_flags[3] |= R;
		begin(&look);
		isolate(&look, 1);
		expect_eq(check_references(&look, 1), 1, "one VMA referenced it");
		expect_event(&look.world, RMF_LOOK_AROUNDS, want[rule].look_arounds);
		expect_event(&look.world, RMF_LOOK_AROUNDS_YOUNG, want[rule].young);
		expect_event(&look.world, RMF_WINDOW_PTE_READS, want[rule].reads);
		expect_event(&look.world, RMF_BATCH_PTE_READS, want[rule].batch_reads);
		expect_event(&look.world, RMF_YOUNG_CALLS, want[rule].young_calls);
		expect_event(&look.world, RMF_YOUNG_TESTS, want[rule].tests);
		expect_event(&look.world, RMF_YOUNG_CLEARS, 33);
		expect_event(&look.world, RMF_WINDOW_PROMOTIONS, want[rule].promotions);
		expect_event(&look.world, RMF_WINDOW_YOUNG_PTES, want[rule].young_ptes);
		expect_event(&look.world, RMF_WINDOW_UPDATES, want[rule].updates);
		expect_eq((int64_t)nr_young(&look, VPN, 64), 0, "all are cleared");
		expect_in(&look, 0, 0, 0, "old");
		/* v6.12 promotes at once, v7.x at the second reference */
		expect_in(&look, 2, v6_12 ? 3 : 0, v6_12 ? 0 : R, "one page young");
		expect_in(&look, 3, 3, v6_12 ? 0 : W, "young and marked");
		expect_eq((int64_t)(look.world.pop->folio_flags[1] & MARKS), v6_12 ? R : 0,
			  "under test");
		expect_no_flush(&look);
		free_look(&look);
	}
}

/* A batch of 512 entries looks at no more than the 64 that one entry at its place looks at. */
static void test_large_batch(void)
{
	struct look look = make_look(arch_x86(), RMF_MGLRU_V7_2, 2048, 1024, 9, 0, RMF_PTE_YOUNG);

	begin(&look);
	isolate(&look, 0);
	expect_eq(check_references(&look, 0), 1, "referenced");
	expect_event(&look.world, RMF_YOUNG_TESTS, 512);
	expect_event(&look.world, RMF_WINDOW_PTE_READS, 64);
	expect_event(&look.world, RMF_WINDOW_PROMOTIONS, 0);
	expect_eq((int64_t)nr_young(&look, 2048, 512), 0, "its own");
	expect_eq((int64_t)nr_young(&look, 2560, 512), 512, "the next table's");
	free_look(&look);
}

/* Marks and promotions of a folio in the window, by what it was marked with. */
static void test_promotions(void)
{
	const struct {
		uint32_t marks;
		bool exec;
		struct {
			uint32_t gen, marks;
		} want[NR_RULES];
	} cases[] = {
		{ 0, false, { { 3, 0 }, { 0, R }, { 0, R }, { 0, R } } },
		{ M2, false, { { 3, 0 }, { 0, R }, { 0, R }, { 0, R } } },
		{ R, false, { { 3, 0 }, { 3, W }, { 3, W }, { 3, W } } },
		{ R | M2, false, { { 3, 0 }, { 3, W }, { 3, W }, { 3, W } } },
		{ W, false, { { 3, 0 }, { 3, W }, { 3, W }, { 3, W } } },
		{ 0, true, { { 3, 0 }, { 0, R }, { 0, R }, { 3, W } } },
	};

	for (int rule = 0; rule < NR_RULES; rule++) {
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			struct look look = make_look(arch_x86(), RULES[rule], VPN, 2, 0,
						     cases[i].exec ? RMF_VMA_EXEC : 0,
						     RMF_PTE_YOUNG);
			const struct rmf_lru_list *lists = look.reclaim.gen.lists[RMF_LRU_FILE];

			look.world.pop->folio_flags[1] |= cases[i].marks;
			begin(&look);
			isolate(&look, 0);
			expect(look_around(&look, VPN, 1, 0), "young");
			expect_in(&look, 1, cases[i].want[rule].gen, cases[i].want[rule].marks,
				  "neighbour");
			lists = look.reclaim.gen.lists[RMF_LRU_FILE];
			expect_eq((int64_t)lists[0].n, 2, "it stays where it lies");
			/* the counts follow at the end of the pass */
			expect_eq((int64_t)lists[3].pages, 0, "not yet");
			rmf_lru_gen_end_pass(&look.reclaim.gen);
			expect_eq((int64_t)lists[3].pages, cases[i].want[rule].gen == 3, "now");
			free_look(&look);
		}
	}
}

/* In v7.x only folios on a list are looked at. In v6.12 isolated ones are marked too. */
static void test_isolated_neighbours(void)
{
	for (int rule = 0; rule < NR_RULES; rule++) {
		const bool v6_12 = RULES[rule] == RMF_MGLRU_V6_12;
		struct look look = make_look(arch_x86(), RULES[rule], VPN, 3, 0, 0, RMF_PTE_YOUNG);

		begin(&look);
		for (uint32_t folio = 0; folio < 2; folio++)
			isolate(&look, folio);
		expect(look_around(&look, VPN, 1, 0), "young");
		expect_eq(is_young(&look, VPN + 1), !v6_12, "isolated");
		expect_eq((int64_t)(look.world.pop->folio_flags[1] & MARKS), v6_12 ? R : 0,
			  "isolated");
		expect_eq(rmf_folio_gen(look.world.pop->folio_flags[1]), 0, "on no list still");
		expect(!is_young(&look, VPN + 2), "on a list");
		free_look(&look);
	}
}

/* v6.12 leaves anonymous neighbours alone, unless the folio under test is anonymous too. */
static void test_other_type(void)
{
	for (int rule = 0; rule < NR_RULES; rule++) {
		for (int anon = 0; anon < 2; anon++) {
			const bool left_out = RULES[rule] == RMF_MGLRU_V6_12 && !anon;
			struct look look =
				make_look(arch_x86(), RULES[rule], VPN, 2, 0, 0, RMF_PTE_YOUNG);

			look.world.pop->folio_flags[0] |= anon ? RMF_FOLIO_SWAPBACKED : 0;
			look.world.pop->folio_flags[1] |= RMF_FOLIO_SWAPBACKED;
			begin(&look);
			isolate(&look, 0);
			expect(look_around(&look, VPN, 1, 0), "young");
			expect_eq(is_young(&look, VPN + 1), left_out, "neighbour");
			free_look(&look);
		}
	}
}

/* Entries that are not present, map the zero page or no folio are passed over. */
static void test_other_entries(void)
{
	for (int rule = 0; rule < NR_RULES; rule++) {
		struct look look = make_look(arch_x86(), RULES[rule], VPN, 6, 0, 0, RMF_PTE_YOUNG);
		const rmf_pte present = RMF_PTE_PRESENT | RMF_PTE_YOUNG;
		const rmf_pte others[] = { 0, rmf_mk_nonpresent(RMF_KIND_SWAP, 1, 0),
					   mk_pte(RMF_ZERO_PFN, present | RMF_PTE_SPECIAL),
					   mk_pte(PFN + 4096, present) };

		begin(&look);
		for (int i = 0; i < 4; i++)
			*pte_at(&look.world, 0, VPN + 1 + (uint64_t)i) = others[i];
		isolate(&look, 0);
		expect(look_around(&look, VPN, 1, 0), "young");
		for (int i = 0; i < 4; i++)
			expect(*pte_at(&look.world, 0, VPN + 1 + (uint64_t)i) == others[i],
			       "as it was");
		expect_event(&look.world, RMF_WINDOW_PTE_READS, 6);
		/* the zero page, the page of no folio, and the one that counts */
		expect_event(&look.world, RMF_WINDOW_YOUNG_PTES, 3);
		expect_event(&look.world, RMF_WINDOW_UPDATES,
			     RULES[rule] == RMF_MGLRU_V6_12 ? 0 : 1 + 1);
		expect_event(&look.world, RMF_YOUNG_CALLS, 2);
		expect(!is_young(&look, VPN + 5), "the one that counts");
		free_look(&look);
	}
}

/* A dirty entry among young ones makes its folio dirty, unless that is swapbacked anonymous memory
 * outside the swap cache. (v6.12 would leave some of these kinds alone.) */
static void test_dirty(void)
{
	const struct {
		uint32_t flags;
		bool dirtied;
	} cases[] = { { FOLIO_FILE, true },
		      { FOLIO_LAZYFREE, true },
		      { FOLIO_SHMEM, true },
		      { FOLIO_SWAP, true },
		      { RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED, false } };

	for (int rule = 1; rule < NR_RULES; rule++) {
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			struct look look =
				make_look(arch_x86(), RULES[rule], VPN, 32, 4, 0, RMF_PTE_YOUNG);

			*pte_at(&look.world, 0, VPN + 20) |= RMF_PTE_DIRTY;
			look.world.pop->folio_flags[1] |= cases[i].flags;
			begin(&look);
			isolate(&look, 0);
			expect(look_around(&look, VPN, 16, 0), "young");
			expect_eq((look.world.pop->folio_flags[1] & RMF_FOLIO_DIRTY) != 0,
				  cases[i].dirtied, "dirty");
			expect_event(&look.world, RMF_FOLIOS_DIRTIED, cases[i].dirtied);
			free_look(&look);
		}
	}
}

/* arm64: a test of one entry of a folded block tests the block, on both sides of a range. */
static void test_contpte(void)
{
	const struct {
		uint64_t at, nr, tested; /* in pages of the VMA; pages 16 to 47 are folded */
	} cases[] = { { 20, 1, 16 }, { 0, 1, 1 }, { 15, 2, 17 }, { 31, 2, 32 }, { 47, 2, 17 } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct look look =
			make_look(arch_arm64(), RMF_MGLRU_V7_2, VPN, 64, 6, 0, RMF_PTE_YOUNG);

		for (uint64_t page = 16; page < 48; page++)
			*pte_at(&look.world, 0, VPN + page) |= RMF_PTE_CONT;
		begin(&look);
		isolate(&look, 0);
		expect(look_around(&look, VPN + cases[i].at, cases[i].nr, 0), "young");
		expect_event(&look.world, RMF_YOUNG_CALLS, 1);
		expect_event(&look.world, RMF_YOUNG_TESTS, cases[i].tested);
		expect_event(&look.world, RMF_YOUNG_CLEARS, cases[i].tested);
		expect_eq((int64_t)nr_young(&look, VPN, 64), 64 - (int64_t)cases[i].tested,
			  "the rest is the isolated folio's own");
		expect_no_flush(&look);
		free_look(&look);
	}
}

/* Per entry on arm64: the first of 16 tests clears the whole block, so the others find none. */
static void test_contpte_per_entry(void)
{
	struct look look = make_look(arch_arm64(), RMF_MGLRU_V7_0, VPN, 16, 4, 0,
				     RMF_PTE_YOUNG | RMF_PTE_CONT);

	begin(&look);
	isolate(&look, 0);
	expect_eq(check_references(&look, 0), 1, "referenced");
	expect_event(&look.world, RMF_LOOK_AROUNDS, 16);
	expect_event(&look.world, RMF_LOOK_AROUNDS_YOUNG, 1);
	expect_event(&look.world, RMF_YOUNG_TESTS, 16 * 16);
	expect_no_flush(&look);
	free_look(&look);
}

/* The page-table walk of ageing reads every entry but those that a batch passes over, and treats
 * young ones as a window does. Here two folios of four are young, one by a single page. */
static void test_page_table_walk(void)
{
	for (int rule = 0; rule < NR_RULES; rule++) {
		const bool v6_12 = RULES[rule] == RMF_MGLRU_V6_12,
			   batched = RULES[rule] >= RMF_MGLRU_V7_2;
		struct look look = make_look(arch_x86(), RULES[rule], 1500, 64, 4, 0, 0);

		set_young(&look, 1500 + 16, 16);
		set_young(&look, 1500 + 40, 1);
		look.world.pop->folio_flags[2] |= R;
		begin(&look);
		rmf_walk_page_tables(look.world.run);
		/* page 40 is the third folio's page 8, and the table ends at page 36 */
		expect_event(&look.world, RMF_AGING_PTE_READS, batched ? 64 - 15 - 7 : 64);
		expect_event(&look.world, RMF_AGING_YOUNG_CALLS, batched ? 2 : 17);
		expect_event(&look.world, RMF_AGING_YOUNG_TESTS, batched ? 16 + 8 : 17);
		expect_event(&look.world, RMF_AGING_PROMOTIONS, v6_12 ? 17 : 2);
		/* one folio in each of two tables, and once more in each; v6.12 has no such
		 * function
		 */
		expect_event(&look.world, RMF_AGING_UPDATES, v6_12 ? 0 : 2 * (1 + 1));
		expect_event(&look.world, RMF_YOUNG_CALLS, 0);
		expect_eq((int64_t)nr_young(&look, 1500, 64), 0, "all are cleared");
		expect_in(&look, 1, v6_12 ? 3 : 0, v6_12 ? 0 : R, "young");
		expect_in(&look, 2, 3, v6_12 ? 0 : W, "one page young, and marked");
		expect_in(&look, 0, 0, 0, "old");
		expect_no_flush(&look);
		free_look(&look);
	}
}

/* Locked VMAs are not walked, nor anonymous ones without swap, nor another memory cgroup's. */
static void test_vmas_left_out(void)
{
	const struct {
		uint32_t vma, mm;
		uint64_t swap;
		bool walked;
	} cases[] = { { 0, 0, 0, true },
		      { RMF_VMA_LOCKED, 0, 0, false },
		      { RMF_VMA_ANON, 0, 0, false },
		      { RMF_VMA_ANON, 0, 63, false }, /* less than 64 free slots do not count */
		      { RMF_VMA_ANON, 0, 64, true },
		      { 0, RMF_MM_OUTSIDE_MEMCG, 0, false } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct look look = make_look(arch_x86(), RMF_MGLRU_V7_2, VPN, 4, 0, cases[i].vma,
					     RMF_PTE_YOUNG);

		((uint32_t *)look.world.pop->mm_flags)[0] = cases[i].mm;
		look.world.run->swap_end = cases[i].swap;
		begin(&look);
		rmf_walk_page_tables(look.world.run);
		expect_eq((int64_t)nr_young(&look, VPN, 4), cases[i].walked ? 0 : 4, "walked?");
		free_look(&look);
	}
}

/* A PMD leaf counts as one entry of the walk. A reference check of one clears and flushes it as the
 * classic LRU does, and looks at no neighbours. */
static void test_pmd_leaf(void)
{
	for (int rule = 0; rule < NR_RULES; rule++) {
		const bool v6_12 = RULES[rule] == RMF_MGLRU_V6_12;
		struct look look =
			make_look(arch_x86(), RULES[rule], VPN, 512, 9, 0, RMF_PTE_YOUNG);
		struct rmf_population *pop = look.world.pop;

		pop->table_state[0] = RMF_TABLE_PMD_LEAF;
		pop->folio_mapcount[0] = pop->folio_entire_mapcount[0] = 1;
		begin(&look);
		rmf_walk_page_tables(look.world.run);
		expect(!is_young(&look, VPN), "cleared");
		expect_event(&look.world, RMF_AGING_PROMOTIONS, 1);
		expect_event(&look.world, RMF_AGING_UPDATES, v6_12 ? 0 : 1 + 1);
		expect_event(&look.world, RMF_AGING_PTE_READS, 0);
		expect_in(&look, 0, v6_12 ? 3 : 0, v6_12 ? 0 : R, "young");
		set_young(&look, VPN, 1);
		isolate(&look, 0);
		expect_eq(check_references(&look, 0), 1, "referenced");
		expect_event(&look.world, RMF_LOOK_AROUNDS, 0);
		expect_event(&look.world, RMF_YOUNG_TESTS, 1);
		free_look(&look);
	}
}

int main(void)
{
	run_test("old", test_old);
	run_test("window", test_window);
	run_test("window of one page", test_window_of_one_page);
	run_test("batched and per entry", test_batched_and_per_entry);
	run_test("large batch", test_large_batch);
	run_test("promotions", test_promotions);
	run_test("isolated neighbours", test_isolated_neighbours);
	run_test("other type", test_other_type);
	run_test("other entries", test_other_entries);
	run_test("dirty", test_dirty);
	run_test("contpte", test_contpte);
	run_test("contpte per entry", test_contpte_per_entry);
	run_test("page-table walk", test_page_table_walk);
	run_test("VMAs left out", test_vmas_left_out);
	run_test("PMD leaf", test_pmd_leaf);
	return report("test_look_around");
}
