/* The generations of the multi-gen LRU: what an isolation takes and what it sorts, where rejected
 * folios go, when a generation is dropped and when a new one begins. Every expectation is worked
 * out by hand from docs/kernel-rules.md, section 9. */
#include "testing.h"

enum { VPN = 1024, PFN = 0x1000 };
enum { R = RMF_FOLIO_REFERENCED, W = RMF_FOLIO_WORKINGSET };
enum { M1 = 1 << RMF_FOLIO_REFS_SHIFT, M2 = 2 << RMF_FOLIO_REFS_SHIFT };
enum { M3 = 3 << RMF_FOLIO_REFS_SHIFT, MARKS = R | W | M3 };

/* Folios in generations, oldest first in each, and the loop over them. */
struct gens {
	struct world world;
	struct rmf_reclaim reclaim;
	struct rmf_lru_gen *gen;
	uint32_t *lists; /* inactive and active, with room for all */
	uint64_t next; /* page of the VMA that the next folio maps */
	uint64_t min_seq[RMF_NR_LRU_TYPES];
	uint64_t max_seq;
};

static struct gens make_gens(enum rmf_mglru_rule rule, uint32_t vma_flags)
{
	struct gens gens = { .world = make_world(arch_x86(), policy_mglru(rule)), .max_seq = 3 };

	add_vma(&gens.world, (struct vma_spec){ .start = VPN, .nr = 1024, .flags = vma_flags });
	return gens;
}

/* Add a folio in generation `seq`. Returns its number. */
static uint32_t add(struct gens *gens, uint8_t order, uint64_t seq, uint32_t flags, rmf_pte pte)
{
	const uint32_t folio = add_folio(
		&gens->world, (struct folio_spec){
				      .pfn = PFN + gens->next,
				      .index = gens->next,
				      .order = order,
				      .flags = rmf_with_gen(flags, (uint32_t)(seq % 4) + 1),
			      });

	map_folio(&gens->world, 0, pte);
	gens->next += (uint64_t)1 << order;
	return folio;
}

static uint32_t add_unmapped(struct gens *gens, uint8_t order, uint64_t seq)
{
	const uint32_t folio =
		add_folio(&gens->world, (struct folio_spec){
						.pfn = PFN + gens->next,
						.index = gens->next,
						.order = order,
						.flags = rmf_with_gen(0, (uint32_t)(seq % 4) + 1),
					});

	gens->next += (uint64_t)1 << order;
	return folio;
}

/* Begin. All folios are on the inactive list, in the order in which they were added. */
static int start(struct gens *gens, struct rmf_fault *fault)
{
	const uint64_t n = gens->world.pop->nr_folios;
	const struct rmf_lru_options options = { .mglru = true,
						 .max_seq = gens->max_seq,
						 .min_seq = { gens->min_seq[RMF_LRU_ANON],
							      gens->min_seq[RMF_LRU_FILE] } };

	gens->lists = resized(gens->lists, 2 * n, sizeof(*gens->lists));
	for (uint32_t i = 0; i < n; i++)
		gens->lists[i] = i;
	gens->gen = &gens->reclaim.gen;
	return rmf_reclaim_start(&gens->reclaim, gens->world.run, gens->lists, n, gens->lists + n,
				 0, UINT64_MAX, &options, fault);
}

static void start_well(struct gens *gens)
{
	struct rmf_fault fault;

	expect_eq(start(gens, &fault), 0, "start");
}

/* Begin a pass and isolate once. Returns the base pages freed. */
static uint64_t evict(struct gens *gens, uint32_t priority)
{
	rmf_lru_gen_begin_pass(gens->gen, priority, UINT64_MAX, 0);
	return gens->gen->pass_over ? 0 : rmf_lru_gen_evict(gens->gen);
}

static void free_gens(struct gens *gens)
{
	rmf_reclaim_free(&gens->reclaim);
	free(gens->lists);
	free_world(&gens->world);
}

static uint32_t flags_of(const struct gens *gens, uint32_t folio)
{
	return gens->world.pop->folio_flags[folio];
}

/* Expect the folio in this generation with these marks. */
static void expect_in(const struct gens *gens, uint32_t folio, uint64_t seq, uint32_t marks,
		      const char *what)
{
	expect_eq(rmf_folio_gen(flags_of(gens, folio)), (int64_t)(seq % 4) + 1, what);
	expect_eq((int64_t)(flags_of(gens, folio) & MARKS), (int64_t)marks, what);
	expect(!(flags_of(gens, folio) & RMF_FOLIO_ACTIVE), what);
}

static void expect_freed(const struct gens *gens, uint32_t folio, const char *what)
{
	expect_eq((int64_t)(flags_of(gens, folio) & RMF_FOLIO_FREED), RMF_FOLIO_FREED, what);
}

/* Expect exactly these folios on the list of a generation, the one that is taken next first. */
static void expect_list(const struct gens *gens, enum rmf_lru_type type, uint64_t seq,
			const uint32_t *folios, uint64_t nr)
{
	const struct rmf_lru_list *list = &gens->gen->lists[type][seq % 4];

	expect_eq((int64_t)list->n, (int64_t)nr, "length of the list");
	for (uint64_t i = 0; i < nr && i < list->n; i++)
		expect_eq(rmf_lru_at(list, i), folios[i], "order of the list");
}

/* Expect each folio that is left on one list only, and page counts that are those of the
 * generations. Promoted folios may lie elsewhere than their generation says. */
static void expect_whole(const struct gens *gens)
{
	int64_t pages[RMF_NR_LRU_TYPES][4] = { 0 };
	uint64_t listed = 0, seen = 0, left = 0;

	for (int type = 0; type < RMF_NR_LRU_TYPES; type++) {
		for (int i = 0; i < 4; i++) {
			const struct rmf_lru_list *list = &gens->gen->lists[type][i];

			for (uint64_t at = 0; at < list->n; at++) {
				const uint32_t folio = rmf_lru_at(list, at);

				expect(!(seen >> folio & 1), "on one list only");
				seen |= (uint64_t)1 << folio;
				listed++;
			}
		}
	}
	for (uint32_t folio = 0; folio < gens->world.pop->nr_folios; folio++) {
		const uint32_t flags = flags_of(gens, folio), at = rmf_folio_gen(flags);

		left += at > 0;
		if (at)
			pages[rmf_lru_type_of(flags)][at - 1] +=
				rmf_folio_nr_pages(gens->world.pop, folio);
	}
	expect_eq((int64_t)listed, (int64_t)left, "every folio with a generation is on a list");
	for (int type = 0; type < RMF_NR_LRU_TYPES; type++)
		for (int i = 0; i < 4; i++)
			expect_eq((int64_t)gens->gen->lists[type][i].pages +
					  gens->gen->moved[type][i],
				  pages[type][i], "pages of a generation");
}

static const enum rmf_mglru_rule RULES[] = { RMF_MGLRU_V6_12, RMF_MGLRU_V7_0, RMF_MGLRU_V7_2,
					     RMF_MGLRU_V7_3 };
enum { NR_RULES = 4 };

/* A group ends with 64 base pages, with the end of the generation, or when as many folios were
 * looked at as the budget has pages; v6.12 does not ask the budget. */
static void test_group_size(void)
{
	const struct {
		uint8_t order;
		uint64_t nr; /* of folios in the oldest generation */
		uint32_t priority;
		uint64_t old, v6_12; /* folios taken */
	} cases[] = {
		{ 0, 100, 0, 64, 64 },
		{ 4, 9, 0, 4, 4 },
		{ 6, 3, 0, 1, 1 },
		{ 7, 3, 0, 1, 1 },
		{ 0, 3, 0, 3, 3 },
		{ 3, 30, 0, 8, 8 },
		/* a budget of 7 pages, and of 3 */
		{ 4, 7, 4, 4, 4 },
		{ 4, 6, 5, 3, 4 },
		{ 0, 96, 5, 3, 64 },
		{ 2, 20, 5, 2, 16 },
	};

	for (int rule = 0; rule < NR_RULES; rule++) {
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			struct gens gens = make_gens(RULES[rule], 0);
			const uint64_t taken = RULES[rule] == RMF_MGLRU_V6_12 ? cases[i].v6_12
									      : cases[i].old;

			for (uint64_t folio = 0; folio < cases[i].nr; folio++)
				add(&gens, cases[i].order, 0, 0, 0);
			start_well(&gens);
			expect_eq((int64_t)evict(&gens, cases[i].priority),
				  (int64_t)taken << cases[i].order, "pages of the group");
			expect_event(&gens.world, RMF_ISOLATION_CALLS, 1);
			expect_event(&gens.world, RMF_SHRINK_CALLS, 1);
			expect_event(&gens.world, RMF_FOLIOS_SCANNED, taken);
			expect_eq((int64_t)gens.world.run->isolated[taken << cases[i].order], 1,
				  "isolations of this size");
			/* the first ones */
			for (uint32_t folio = 0; folio < cases[i].nr; folio++)
				expect_eq(!(flags_of(&gens, folio) & RMF_FOLIO_FREED),
					  folio >= taken, "which were taken");
			free_gens(&gens);
		}
	}
}

/* The group does not go on into the next generation. */
static void test_end_of_generation(void)
{
	for (int rule = 0; rule < NR_RULES; rule++) {
		struct gens gens = make_gens(RULES[rule], 0);

		for (int i = 0; i < 3; i++)
			add(&gens, 0, 0, 0, 0);
		for (int i = 0; i < 9; i++)
			add(&gens, 0, 1, 0, 0);
		start_well(&gens);
		expect_eq((int64_t)evict(&gens, 0), 3, "pages");
		expect_eq((int64_t)gens.gen->min_seq[RMF_LRU_FILE], 1, "generation 0 is gone");
		expect_eq((int64_t)gens.gen->min_seq[RMF_LRU_ANON], 0, "of its type only");
		free_gens(&gens);
	}
}

/* A folio with all its marks goes on to the next generation; so does one that was promoted, to its
 * own. The tail, in v6.12, turns their order round. */
static void test_sorted(void)
{
	for (int rule = 0; rule < NR_RULES; rule++) {
		const bool v6_12 = RULES[rule] == RMF_MGLRU_V6_12;
		struct gens gens = make_gens(RULES[rule], 0);
		const uint32_t plain = add(&gens, 0, 0, 0, 0),
			       full = add(&gens, 0, 0, R | M3 | W, 0),
			       without_r = add(&gens, 0, 0, M3 | W, 0),
			       not_full = add(&gens, 0, 0, R | M2 | W, 0),
			       without_w = add(&gens, 0, 0, R | M3, 0),
			       promoted = add(&gens, 0, 0, 0, 0),
			       again = add(&gens, 0, 0, R | M3 | W, 0),
			       old = add(&gens, 0, 1, 0, 0), young = add(&gens, 0, 3, 0, 0);

		start_well(&gens);
		/* as a look-around does it */
		gens.world.pop->folio_flags[promoted] =
			rmf_with_gen(gens.world.pop->folio_flags[promoted], 4);
		gens.gen->moved[RMF_LRU_FILE][0]--;
		gens.gen->moved[RMF_LRU_FILE][3]++;
		expect_eq((int64_t)evict(&gens, 0), v6_12 ? 3 : 4, "pages");
		expect_event(&gens.world, RMF_FOLIOS_SORTED, v6_12 ? 4 : 3);
		expect_freed(&gens, plain, "plain");
		expect_freed(&gens, not_full, "R M2 W");
		expect_freed(&gens, without_w, "R M3");
		expect_in(&gens, full, 1, v6_12 ? 0 : W, "R M3 W");
		expect_in(&gens, promoted, 3, 0, "promoted");
		if (v6_12) {
			const uint32_t list[] = { again, without_r, full, old };

			expect_in(&gens, without_r, 1, 0, "M3 W");
			expect_list(&gens, RMF_LRU_FILE, 1, list, 4);
		} else {
			const uint32_t list[] = { old, full, again };

			expect_freed(&gens, without_r, "M3 W");
			expect_list(&gens, RMF_LRU_FILE, 1, list, 3);
		}
		expect_list(&gens, RMF_LRU_FILE, 3, (const uint32_t[]){ young, promoted }, 2);
		expect_whole(&gens);
		free_gens(&gens);
	}
}

/* v7.0 does not isolate dirty file folios, and takes an mlocked one off its list. The others leave
 * both to the shrinker. A dirty folio is activated there, an mlocked one culled. */
static void test_dirty_and_mlocked(void)
{
	static const uint64_t seq[] = { 3, 1, 2, 2 }, /* of the dirty folio */
		with_w[] = { 3, 1, 3, 3 };

	for (int rule = 0; rule < NR_RULES; rule++) {
		const bool v7_0 = RULES[rule] == RMF_MGLRU_V7_0,
			   v6_12 = RULES[rule] == RMF_MGLRU_V6_12;
		struct gens gens = make_gens(RULES[rule], 0);
		const uint32_t dirty = add(&gens, 2, 0, RMF_FOLIO_DIRTY, 0),
			       workingset = add(&gens, 2, 0, RMF_FOLIO_DIRTY | W, 0),
			       mlocked = add(&gens, 2, 0, RMF_FOLIO_MLOCKED, 0);

		start_well(&gens);
		expect_eq((int64_t)evict(&gens, 0), 0, "pages");
		expect_event(&gens.world, RMF_FOLIOS_SORTED, v7_0 ? 3 : 0);
		expect_event(&gens.world, RMF_FOLIOS_SCANNED, v7_0 ? 0 : 3);
		expect_event(&gens.world, RMF_FOLIOS_ACTIVATED, v7_0 ? 0 : 3);
		expect_in(&gens, dirty, seq[rule], 0, "dirty");
		expect_in(&gens, workingset, with_w[rule], v6_12 ? 0 : W, "dirty, W");
		expect_eq(rmf_folio_gen(flags_of(&gens, mlocked)), 0, "mlocked");
		expect_whole(&gens);
		free_gens(&gens);
	}
}

/* Where a young folio goes that lies in generation 0 of 0 to 3, for each set of marks. Another
 * folio stays behind, so the generation is not dropped in between. */
static void test_rejected(void)
{
	const struct {
		uint32_t marks;
		bool exec;
		struct {
			uint64_t seq;
			uint32_t marks;
		} want[NR_RULES];
	} cases[] = {
		/* v6.12: always to the youngest generation */
		/* v7.0: the first reference sets R, which is lost on the way to max_seq - 1 */
		/* v7.2: it sets R, which means max_seq - 2 */
		{ 0, false, { { 3, 0 }, { 2, 0 }, { 1, R }, { 1, R } } },
		/* M without R is cleared by the isolation */
		{ M2, false, { { 3, 0 }, { 2, 0 }, { 1, R }, { 1, R } } },
		/* the second reference activates: v7.0 sets W; v7.2 counts it first */
		{ R, false, { { 3, 0 }, { 3, W }, { 2, R | M1 }, { 2, R | M1 } } },
		{ R | M1, false, { { 3, 0 }, { 3, W }, { 3, W }, { 3, W } } },
		{ W, false, { { 3, 0 }, { 3, W }, { 3, R | W }, { 3, R | W } } },
		/* v7.3 activates executable file memory at the first reference */
		{ 0, true, { { 3, 0 }, { 2, 0 }, { 1, R }, { 3, W } } },
	};

	for (int rule = 0; rule < NR_RULES; rule++) {
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			struct gens gens = make_gens(RULES[rule], cases[i].exec ? RMF_VMA_EXEC : 0);
			const uint32_t young = add(&gens, 6, 0, cases[i].marks, RMF_PTE_YOUNG),
				       other = add(&gens, 6, 0, 0, 0);

			start_well(&gens);
			expect_eq((int64_t)evict(&gens, 0), 0, "pages");
			expect_event(&gens.world, RMF_REFERENCED_CALLS, 1);
			expect_in(&gens, young, cases[i].want[rule].seq, cases[i].want[rule].marks,
				  "young");
			/* the window of the folio's look-around is the folio itself */
			expect_list(&gens, RMF_LRU_FILE, 0, &other, 1);
			expect_list(&gens, RMF_LRU_FILE, cases[i].want[rule].seq, &young, 1);
			expect_whole(&gens);
			free_gens(&gens);
		}
	}
}

/* With three generations the place of a folio that was referenced once would be the oldest one. So
 * v7.2 sends it to max_seq - 1 without R, as v7.0 does always. Priority 12 does not age. */
static void test_rejected_of_three(void)
{
	static const uint64_t seq[] = { 3, 2, 2, 2 };

	for (int rule = 0; rule < NR_RULES; rule++) {
		struct gens gens = make_gens(RULES[rule], 0);
		const uint32_t young = add(&gens, 9, 1, 0, RMF_PTE_YOUNG);

		for (int i = 0; i < 15; i++)
			add_unmapped(&gens, 9, 1);
		gens.min_seq[RMF_LRU_FILE] = 1;
		start_well(&gens);
		expect_eq((int64_t)evict(&gens, RMF_DEF_PRIORITY), 0, "pages"); /* a budget of 2 */
		expect_event(&gens.world, RMF_AGES, 0);
		expect_in(&gens, young, seq[rule], 0, "young");
		free_gens(&gens);
	}
}

/* A clean folio that is unmapped and could not be freed is tried once more. Then it goes where the
 * rules for rejected folios put it. Generation 0 keeps another folio. */
static void test_retry(void)
{
	static const uint64_t seq[] = { 3, 2, 2, 2 };

	for (int rule = 0; rule < NR_RULES; rule++) {
		struct gens gens = make_gens(RULES[rule], 0);
		const uint32_t held = add_unmapped(&gens, 6, 0);

		add_unmapped(&gens, 6, 0);
		gens.world.pop->folio_refcount[held]++;
		start_well(&gens);
		expect_eq((int64_t)evict(&gens, 0), 0, "pages");
		expect_event(&gens.world, RMF_ISOLATION_CALLS, 1);
		expect_event(&gens.world, RMF_SHRINK_CALLS, 2);
		expect_event(&gens.world, RMF_FOLIOS_SCANNED, 2);
		expect_event(&gens.world, RMF_FOLIOS_KEPT, 2);
		expect_in(&gens, held, seq[rule], 0, "held");
		expect_whole(&gens);
		free_gens(&gens);
	}
}

/* Empty generations are dropped while two stay; of two nothing is isolated. v7.2 drops them before
 * it isolates too. */
static void test_dropped(void)
{
	for (int rule = 0; rule < NR_RULES; rule++) {
		const bool new_loop = RULES[rule] >= RMF_MGLRU_V7_2;
		struct gens gens = make_gens(RULES[rule], 0);
		const uint32_t folio = add(&gens, 6, 2, 0, 0);

		start_well(&gens);
		expect_eq((int64_t)evict(&gens, 0), 0, "pages");
		expect_eq((int64_t)gens.gen->min_seq[RMF_LRU_FILE], 2, "two generations stay");
		expect_eq((int64_t)gens.gen->min_seq[RMF_LRU_ANON], 0, "the other type's");
		/* of three or four generations v6.12 and v7.0 find the oldest empty first */
		expect_event(&gens.world, RMF_ISOLATION_CALLS, !new_loop);
		expect_event(&gens.world, RMF_SHRINK_CALLS, 0);
		expect(gens.gen->pass_over, "the pass is over");
		expect_in(&gens, folio, 2, 0, "it stays");
		free_gens(&gens);
	}
}

/* v7.2 leaves a pass when the request is met, v6.12 and v7.0 only when what was looked at reaches
 * the budget, which is computed anew in every turn: 64 of 256, 128 of 192, 192 of 128. */
static void test_request_met(void)
{
	for (int rule = 0; rule < NR_RULES; rule++) {
		const bool new_loop = RULES[rule] >= RMF_MGLRU_V7_2;
		struct gens gens = make_gens(RULES[rule], 0);
		uint64_t freed = 0;

		for (int i = 0; i < 256; i++)
			add(&gens, 0, 0, 0, 0);
		start_well(&gens);
		rmf_lru_gen_begin_pass(gens.gen, 0, 32, 0);
		while (!gens.gen->pass_over)
			freed += rmf_lru_gen_evict(gens.gen);
		expect_eq((int64_t)freed, new_loop ? 64 : 192, "pages");
		free_gens(&gens);
	}
}

/* File is isolated first. Anonymous memory has its turn if nothing was isolated; in v7.2 only if
 * nothing was looked at. v6.12 begins with anonymous memory if that has the older generation. */
static void test_types(void)
{
	for (int rule = 0; rule < NR_RULES; rule++) {
		const bool new_loop = RULES[rule] >= RMF_MGLRU_V7_2,
			   v6_12 = RULES[rule] == RMF_MGLRU_V6_12;
		struct gens gens = make_gens(RULES[rule], 0);
		uint32_t file, shmem;

		add(&gens, 4, 0, R | M3 | W, 0);
		shmem = add(&gens, 4, 0, FOLIO_SHMEM, 0);
		gens.world.run->swap_end = 1024;
		start_well(&gens);
		evict(&gens, 0);
		expect_event(&gens.world, RMF_FOLIOS_SORTED, 1);
		expect_event(&gens.world, RMF_ISOLATION_CALLS, new_loop ? 1 : 2);
		expect_event(&gens.world, RMF_FOLIOS_SCANNED, !new_loop);
		expect_eq(rmf_folio_gen(flags_of(&gens, shmem)), new_loop, "isolated?");
		free_gens(&gens);

		gens = make_gens(RULES[rule], 0);
		file = add(&gens, 4, 1, 0, 0);
		shmem = add(&gens, 4, 0, FOLIO_SHMEM, 0);
		gens.world.run->swap_end = 1024;
		gens.min_seq[RMF_LRU_FILE] = 1;
		start_well(&gens);
		evict(&gens, 0);
		expect_event(&gens.world, RMF_ISOLATION_CALLS, 1);
		expect_eq(rmf_folio_gen(flags_of(&gens, file)), v6_12 ? 2 : 0, "file");
		expect_eq(rmf_folio_gen(flags_of(&gens, shmem)), !v6_12, "shmem");
		free_gens(&gens);
	}
}

/* With swap the types stay within reach of each other. Where no folio lies the generations of each
 * type are dropped up to max_seq - 1, which is 3. v7.x holds a type at 2 while the other one is
 * below that. In v6.12 anonymous memory does not pass file memory. */
static void test_reach(void)
{
	const struct {
		uint64_t file, anon; /* the generation that the folios lie in, of 1 to 4 */
		uint64_t v6_12[RMF_NR_LRU_TYPES], v7[RMF_NR_LRU_TYPES]; /* min_seq: anon, file */
	} cases[] = {
		{ 2, 4, { 2, 2 }, { 3, 2 } }, { 4, 2, { 2, 3 }, { 2, 3 } },
		{ 4, 4, { 3, 3 }, { 3, 3 } }, { 1, 4, { 1, 1 }, { 2, 1 } },
		{ 4, 1, { 1, 3 }, { 1, 2 } },
	};

	for (int rule = 0; rule < NR_RULES; rule++) {
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			const uint64_t *want = RULES[rule] == RMF_MGLRU_V6_12 ? cases[i].v6_12
									      : cases[i].v7;
			struct gens gens = make_gens(RULES[rule], 0);

			/* one may be isolated, the other stays */
			for (int n = 0; n < 2; n++) {
				add(&gens, 6, cases[i].file, 0, 0);
				add(&gens, 6, cases[i].anon, FOLIO_SHMEM, 0);
			}
			gens.world.run->swap_end = 1024;
			gens.max_seq = 4;
			gens.min_seq[RMF_LRU_ANON] = gens.min_seq[RMF_LRU_FILE] = 1;
			start_well(&gens);
			evict(&gens, 0);
			for (int type = 0; type < RMF_NR_LRU_TYPES; type++)
				expect_eq((int64_t)gens.gen->min_seq[type], (int64_t)want[type],
					  type == RMF_LRU_FILE ? "file" : "anon");
			free_gens(&gens);
		}
	}
}

/* Three generations of file memory below priority 12: v7.2 walks the page tables, begins a new
 * generation and goes on; v7.0 leaves the pass; v6.12 asks how large the generations are, and does
 * as v7.0 then. The walk marks young folios, or promotes those that were marked. */
static void test_ageing(void)
{
	for (int rule = 0; rule < NR_RULES; rule++) {
		for (int top_heavy = 0; top_heavy < 2; top_heavy++) {
			const bool new_loop = RULES[rule] >= RMF_MGLRU_V7_2,
				   v6_12 = RULES[rule] == RMF_MGLRU_V6_12,
				   ages = !v6_12 || top_heavy;
			struct gens gens = make_gens(RULES[rule], 0);
			const uint32_t old = add(&gens, 0, 1, 0, 0),
				       young = add(&gens, 0, 1, 0, RMF_PTE_YOUNG),
				       marked = add(&gens, 0, 1, R, RMF_PTE_YOUNG);

			/* 4 of 7 pages in the youngest generation */
			for (int i = 0; top_heavy && i < 4; i++)
				add(&gens, 0, 3, 0, 0);
			gens.min_seq[RMF_LRU_FILE] = 1;
			start_well(&gens);
			expect_eq((int64_t)evict(&gens, 0), new_loop ? 2 : ages ? 0 : 1, "pages");
			expect_event(&gens.world, RMF_AGES, ages);
			expect_event(&gens.world, RMF_AGING_PTE_READS, ages ? 1024 : 0);
			expect_event(&gens.world, RMF_AGING_YOUNG_CALLS, ages ? 2 : 0);
			expect_event(&gens.world, RMF_AGING_YOUNG_TESTS, ages ? 2 : 0);
			expect_event(&gens.world, RMF_AGING_PROMOTIONS, ages ? 2 : 0);
			/* two folios in one of two tables, and once more in each */
			expect_event(&gens.world, RMF_AGING_UPDATES, ages && !v6_12 ? 2 + 2 : 0);
			expect_event(&gens.world, RMF_TLB_FLUSHES, new_loop || !ages);
			expect_event(&gens.world, RMF_YOUNG_FLUSHES, 0);
			expect_eq((int64_t)gens.gen->max_seq, ages ? 4 : 3, "max_seq");
			expect_eq((int64_t)gens.gen->min_seq[RMF_LRU_ANON], ages, "of 4 of 4");
			if (ages) {
				/* the new generation is 4; v7.x marks before it promotes */
				expect_in(&gens, marked, 3, v6_12 ? 0 : W, "marked before");
				if (new_loop) {
					expect_freed(&gens, old, "old");
					expect_freed(&gens, young, "old now");
					expect_event(&gens.world, RMF_FOLIOS_SORTED, 1);
				} else {
					expect_event(&gens.world, RMF_ISOLATION_CALLS, 0);
					expect(gens.gen->pass_over, "the pass is over");
					expect_in(&gens, old, 1, 0, "old");
					expect_in(&gens, young, v6_12 ? 3 : 1, v6_12 ? 0 : R,
						  "young");
				}
			}
			rmf_lru_gen_end_pass(gens.gen);
			expect_whole(&gens);
			free_gens(&gens);
		}
	}
}

/* At priority 12 v7.2 ages only if a type has two generations, the older ones nothing. */
static void test_ageing_at_first_priority(void)
{
	for (int rule = 0; rule < NR_RULES; rule++) {
		for (uint64_t min = 1; min < 3; min++) {
			const bool new_loop = RULES[rule] >= RMF_MGLRU_V7_2;
			struct gens gens = make_gens(RULES[rule], 0);

			for (int i = 0; i < 8; i++) /* 4096 pages: a budget of 1 */
				add_unmapped(&gens, 9, min);
			gens.min_seq[RMF_LRU_FILE] = min;
			start_well(&gens);
			expect_eq((int64_t)evict(&gens, RMF_DEF_PRIORITY),
				  min == 1 || new_loop ? 512 : 0, "pages");
			expect_event(&gens.world, RMF_AGES, min == 2 && new_loop);
			free_gens(&gens);
		}
	}
}

/* The page tables are walked once, since no process runs in between. */
static void test_walked_once(void)
{
	struct gens gens = make_gens(RMF_MGLRU_V7_0, 0);

	add(&gens, 0, 2, 0, 0);
	gens.min_seq[RMF_LRU_FILE] = 2;
	start_well(&gens);
	for (uint64_t turn = 1; turn <= 2; turn++) {
		evict(&gens, 0);
		expect_event(&gens.world, RMF_AGES, turn);
		expect_event(&gens.world, RMF_AGING_PTE_READS, 1024);
	}
	free_gens(&gens);
}

/* Folios that are touched again and again go round in lists that have room for one more than them.
 * None is lost or listed twice when the rings wrap. */
static void test_rings_wrap(void)
{
	enum { NR = 7 };

	for (int rule = 0; rule < NR_RULES; rule++) {
		struct gens gens = make_gens(RULES[rule], 0);
		uint64_t seed = 7, moves = 0, last = 0;

		for (int i = 0; i < NR; i++)
			add(&gens, 6, (uint64_t)i % 4, 0, 0);
		start_well(&gens);
		for (int turn = 0; turn < 300; turn++) {
			for (uint64_t page = 0; page < NR * 64; page++)
				*pte_at(&gens.world, 0, VPN + page) |= RMF_PTE_YOUNG;
			for (uint32_t i = 0; i < NR; i++) /* some are marked fully */
				if (next_random(&seed) % 4 == 0)
					gens.world.pop->folio_flags[i] |= R | M3 | W;
			evict(&gens, (uint32_t)(next_random(&seed) % 8));
			rmf_lru_gen_end_pass(gens.gen);
			expect_whole(&gens);
			for (int type = 0; type < RMF_NR_LRU_TYPES; type++) {
				const uint64_t nr = gens.gen->max_seq - gens.gen->min_seq[type] + 1;

				expect(nr >= 2 && nr <= 4, "two to four generations");
			}
		}
		moves = event(&gens.world, RMF_FOLIOS_SORTED) +
			event(&gens.world, RMF_FOLIOS_SCANNED);
		expect(moves > 8 * 4 * 4, "each ring went round several times");
		for (int i = 0; i < 4; i++)
			last += gens.gen->lists[RMF_LRU_FILE][i].n;
		/* an ageing clears young just before v7.2 isolates */
		expect_eq((int64_t)(last + event(&gens.world, RMF_FOLIOS_FREED)), NR,
			  "all are still there");
		expect(last >= NR - 1, "nearly all were always young");
		free_gens(&gens);
	}
}

/* What is refused, and where the fault is. */
static void expect_refused(uint32_t gen, uint32_t flags, uint64_t max_seq, uint64_t min_anon,
			   uint64_t min_file, const char *array, uint64_t index)
{
	struct gens gens = make_gens(RMF_MGLRU_V7_2, 0);
	struct rmf_fault fault = { 0 };

	add(&gens, 0, max_seq, 0, 0);
	add(&gens, 0, max_seq, 0, 0);
	gens.world.pop->folio_flags[1] = rmf_with_gen(flags, gen);
	gens.max_seq = max_seq;
	gens.min_seq[RMF_LRU_ANON] = min_anon;
	gens.min_seq[RMF_LRU_FILE] = min_file;
	expect_eq(start(&gens, &fault), RMF_EINVAL, "refused");
	expect_str(fault.array, array, "array");
	expect_eq((int64_t)fault.index, (int64_t)index, "index");
	expect(!gens.world.run->lru_gen, "no lists are left behind");
	free_gens(&gens);
}

static void test_refused(void)
{
	const char *const list = "population.lru_inactive", *const state = "population.lru_gen";

	expect_refused(0, 0, 3, 0, 0, list, 1);
	for (uint32_t gen = 5; gen < 8; gen++)
		expect_refused(gen, 0, 3, 0, 0, list, 1);
	/* generation 0 is gone; its type is that of the folio */
	expect_refused(1, 0, 3, 0, 1, list, 1);
	expect_refused(1, RMF_FOLIO_SWAPBACKED, 3, 1, 0, list, 1);
	/* 5, 6, 7 are there, which are 1, 2, 3 modulo 4 */
	expect_refused(1, 0, 7, 4, 5, list, 1);
	expect_refused(2, RMF_FOLIO_ACTIVE, 3, 0, 0, list, 1);
	expect_refused(4, 0, 3, 3, 0, state, RMF_LRU_ANON);
	expect_refused(4, 0, 3, 0, 3, state, RMF_LRU_FILE);
	expect_refused(1, 0, 4, 1, 0, state, RMF_LRU_FILE);
	expect_refused(1, 0, 0, 0, 0, state, RMF_LRU_ANON);
}

/* The lists come back with the two youngest generations as the active one, oldest first, and file
 * before anonymous memory in each. */
static void test_stored(void)
{
	struct gens gens = make_gens(RMF_MGLRU_V7_2, 0);
	const uint32_t third = add(&gens, 0, 3, FOLIO_SHMEM, 0), first = add(&gens, 0, 1, 0, 0),
		       second = add(&gens, 0, 2, 0, 0), zeroth = add(&gens, 0, 0, FOLIO_SHMEM, 0),
		       file = add(&gens, 0, 3, 0, 0);
	const uint32_t want[] = { zeroth, first, second, file, third };

	start_well(&gens);
	rmf_reclaim_store_lists(&gens.reclaim);
	expect_eq((int64_t)gens.reclaim.inactive.n, 2, "inactive");
	expect_eq((int64_t)gens.reclaim.active.n, 3, "active");
	for (uint64_t i = 0; i < 5; i++)
		expect_eq(rmf_lru_at(i < 2 ? &gens.reclaim.inactive : &gens.reclaim.active,
				     i < 2 ? i : i - 2),
			  want[i], "order");
	free_gens(&gens);
}

int main(void)
{
	run_test("group size", test_group_size);
	run_test("end of generation", test_end_of_generation);
	run_test("sorted", test_sorted);
	run_test("dirty and mlocked", test_dirty_and_mlocked);
	run_test("rejected", test_rejected);
	run_test("rejected of three", test_rejected_of_three);
	run_test("retry", test_retry);
	run_test("dropped", test_dropped);
	run_test("request met", test_request_met);
	run_test("types", test_types);
	run_test("reach", test_reach);
	run_test("ageing", test_ageing);
	run_test("ageing at the first priority", test_ageing_at_first_priority);
	run_test("walked once", test_walked_once);
	run_test("rings wrap", test_rings_wrap);
	run_test("refused", test_refused);
	run_test("stored", test_stored);
	return report("test_lru_gen");
}
