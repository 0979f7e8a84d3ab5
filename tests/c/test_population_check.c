/* rmf_population_check() finds each bad index and names it. What it accepts can be run, whatever
 * the values are. */
#include "testing.h"

enum { VPN = 1024, PFN = 0x1000 };

static const uint64_t LIMIT = (uint64_t)1 << 52;

/* Two adjacent VMAs with three tables in all, of which the first is a PMD leaf. A folio in both
 * VMAs, an order-0 folio, and a PMD-mapped one. */
static struct world valid_world(void)
{
	struct world world = make_world(arch_x86(), policy_v7_0_12());

	add_mm(&world, 1, RMF_MM_OUTSIDE_MEMCG);
	add_vma(&world, (struct vma_spec){ .start = VPN, .nr = 520 });
	add_vma(&world, (struct vma_spec){ .start = VPN + 520, .nr = 24, .pgoff = 520 });
	join_windows(&world, 0);
	add_folio(&world, (struct folio_spec){ .pfn = PFN + 1024, .index = 512, .order = 4 });
	map_folio(&world, 0, RMF_PTE_YOUNG);
	map_folio(&world, 1, RMF_PTE_DIRTY);
	add_folio(&world,
		  (struct folio_spec){ .pfn = PFN + 2048, .index = 530, .flags = FOLIO_LAZYFREE });
	map_folio(&world, 1, 0);
	add_folio(&world, (struct folio_spec){ .pfn = PFN, .order = 9, .flags = FOLIO_SWAP });
	map_folio(&world, 0, 0);
	world.pop->table_state[0] = RMF_TABLE_PMD_LEAF;
	world.pop->folio_mapcount[2] = world.pop->folio_entire_mapcount[2] = 1;
	world.pop->folio_refcount[2] -= 511;
	return world;
}

static void test_valid(void)
{
	struct world world = valid_world(), empty = make_world(arch_x86(), policy_v7_0_12());
	struct rmf_fault fault;

	expect_eq(rmf_population_check(world.pop, &fault), 0, "a valid population");
	expect_eq(rmf_population_check(empty.pop, &fault), 0, "no VMA, no folio");
	free_world(&world);
	free_world(&empty);
}

/* An array of a population by name, and the width of its elements in bytes. */
struct field {
	const char *name;
	size_t offset;
	size_t width;
};

#define FIELD(name, width) { #name, offsetof(struct rmf_population, name), width }

static const struct field fields[] = {
	FIELD(vma_start, 8),	  FIELD(vma_end, 8),	     FIELD(vma_pgoff, 8),
	FIELD(vma_mm, 4),	  FIELD(vma_pte_base, 8),    FIELD(vma_window_start, 8),
	FIELD(vma_window_end, 8), FIELD(vma_table_base, 8),  FIELD(table_state, 1),
	FIELD(folio_pfn, 8),	  FIELD(folio_index, 8),     FIELD(folio_order, 1),
	FIELD(folio_swap, 8),	  FIELD(folio_page_base, 8), FIELD(rmap_start, 8),
	FIELD(rmap_vma, 4),
};

enum { NR_FIELDS = sizeof(fields) / sizeof(fields[0]) };

static void put(struct world *world, const struct field *field, uint64_t index, uint64_t value)
{
	const uint8_t byte = (uint8_t)value;
	const uint32_t word = (uint32_t)value;
	const void *const element = field->width == 8	? (const void *)&value
				    : field->width == 4 ? (const void *)&word
							: &byte;
	char *array;

	memcpy(&array, (const char *)world->pop + field->offset, sizeof(array));
	memcpy(array + index * field->width, element, field->width);
}

static const struct field *field_named(const char *name)
{
	for (size_t i = 0; i < NR_FIELDS; i++)
		if (strcmp(fields[i].name, name) == 0)
			return &fields[i];
	abort();
}

/* With the element set to `value` there is a fault at `array`[`at`]. That may be another element
 * than the one set, where the rule concerns two. */
static void expect_fault(const char *set, uint64_t index, uint64_t value, const char *array,
			 uint64_t at)
{
	struct world world = valid_world();
	struct rmf_fault fault = { 0 };

	put(&world, field_named(set), index, value);
	expect_eq(rmf_population_check(world.pop, &fault), RMF_EINVAL, set);
	expect(strncmp(fault.array, "population.", 11) == 0, "the fault names the population");
	expect_str(fault.array + 11, array, "array of the fault");
	expect_eq((int64_t)fault.index, (int64_t)at, "index of the fault");
	expect(fault.rule != NULL, "and the rule");
	free_world(&world);
}

static void test_each_index(void)
{
	const uint64_t huge[] = { LIMIT + 1, (uint64_t)1 << 63, UINT64_MAX - 520, UINT64_MAX };

	for (size_t i = 0; i < 4; i++) {
		expect_fault("vma_start", 1, huge[i], "vma_end", 1);
		expect_fault("vma_end", 1, huge[i], "vma_end", 1);
		expect_fault("vma_window_end", 1, huge[i], "vma_window_start", 1);
		expect_fault("vma_window_start", 1, huge[i], "vma_window_start", 1);
		expect_fault("vma_pte_base", 0, huge[i], "vma_pte_base", 0);
		expect_fault("vma_pgoff", 1, huge[i], "vma_pgoff", 1);
		expect_fault("vma_table_base", 1, huge[i], "vma_table_base", 1);
		expect_fault("folio_pfn", 2, huge[i], "folio_pfn", 2);
		expect_fault("folio_index", 2, huge[i], "folio_index", 2);
		expect_fault("folio_swap", 2, huge[i], "folio_swap", 2);
		expect_fault("folio_page_base", 1, huge[i], "folio_page_base", 1);
		expect_fault("rmap_start", 3, huge[i], "rmap_start", 2);
	}
	expect_fault("vma_end", 0, VPN, "vma_end", 0); /* empty */
	expect_fault("vma_pte_base", 1, 519, "vma_pte_base", 1); /* the window begins 520 slots
								    before the VMA */
	expect_fault("vma_pte_base", 1, 521, "vma_pte_base", 1); /* one too many for its end */
	expect_fault("vma_pte_base", 0, 1, "vma_pte_base", 0);
	expect_fault("vma_mm", 1, 2, "vma_mm", 1);
	expect_fault("vma_mm", 0, UINT32_MAX, "vma_mm", 0);
	expect_fault("vma_table_base", 0, 2, "vma_table_base", 0); /* it has two of the three
								      tables: base 1 fits, base 2
								      does not */
	expect_fault("table_state", 1, 3, "table_state", 1);
	expect_fault("table_state", 1, RMF_TABLE_PMD_LEAF, "table_state", 1); /* the VMA covers 8 of
										 its slots */
	expect_fault("table_state", 2, RMF_TABLE_PMD_LEAF, "table_state", 2);
	expect_fault("folio_order", 0, 14, "folio_order", 0);
	expect_fault("folio_order", 1, 255, "folio_order", 1);
	expect_fault("folio_order", 1, 10, "folio_page_base", 1); /* more pages than there are */
	expect_fault("folio_pfn", 2, LIMIT - 511, "folio_pfn", 2);
	expect_fault("folio_swap", 2, LIMIT - 511, "folio_swap", 2);
	expect_fault("folio_page_base", 2, 18, "folio_page_base", 2);
	expect_fault("rmap_start", 1, 4, "rmap_start", 1); /* the next one is lower */
	expect_fault("rmap_start", 3, 5, "rmap_start", 2); /* one pair too many */
	expect_fault("rmap_vma", 3, 2, "rmap_vma", 3);
	expect_fault("rmap_vma", 0, UINT32_MAX, "rmap_vma", 0);
}

static void test_page_table_size(void)
{
	for (uint32_t ptrs = 0; ptrs <= 16384; ptrs++) {
		struct rmf_population pop = { .ptrs_per_pte = ptrs };
		struct rmf_fault fault = { 0 };
		bool valid = ptrs >= 2 && ptrs <= 8192 && __builtin_popcount(ptrs) == 1;

		if ((rmf_population_check(&pop, &fault) == 0) != valid ||
		    (!valid && strcmp(fault.array, "population.ptrs_per_pte") != 0))
			expect(false, "a power of two from 2 to 8192");
	}
	nr_checks++;
}

static int start(struct world *world, const uint32_t *inactive, uint64_t nr_inactive,
		 const uint32_t *active, uint64_t nr_active, struct rmf_fault *fault)
{
	const struct rmf_lru_options classic = { .mglru = false };
	uint32_t lists[2][4] = { { 0 }, { 0 } };
	struct rmf_reclaim reclaim;
	int error;

	memcpy(lists[0], inactive, nr_inactive * sizeof(*inactive));
	memcpy(lists[1], active, nr_active * sizeof(*active));
	error = rmf_reclaim_start(&reclaim, world->run, lists[0], nr_inactive, lists[1], nr_active,
				  UINT64_MAX, &classic, fault);
	rmf_reclaim_free(&reclaim);
	return error;
}

static void test_lru_lists(void)
{
	const uint32_t good[] = { 0, 1, 2, 0 }, bad[] = { 0, 3, 2 }, twice[] = { 2, 0, 2 },
		       huge[] = { 0, 1, UINT32_MAX };
	struct world world = valid_world();
	struct rmf_fault fault;

	expect_eq(start(&world, good, 3, good, 0, &fault), 0, "all on one list");
	expect_eq(start(&world, bad, 3, good, 0, &fault), RMF_EINVAL, "no such folio");
	expect_str(fault.array, "population.lru_inactive", "list");
	expect_eq((int64_t)fault.index, 1, "index");
	expect_eq(start(&world, good, 0, huge, 3, &fault), RMF_EINVAL, "no such folio");
	expect_str(fault.array, "population.lru_active", "list");
	expect_eq((int64_t)fault.index, 2, "index");
	expect_eq(start(&world, twice, 3, good, 0, &fault), RMF_EINVAL, "a folio twice on a list");
	expect_eq((int64_t)fault.index, 2, "index");
	expect_eq(start(&world, good, 2, good, 1, &fault), RMF_EINVAL, "a folio on both lists");
	expect_str(fault.array, "population.lru_active", "list");
	expect_eq(start(&world, good, 3, good, 0, &fault), 0, "a refusal leaves no trace");
	expect_eq(start(&world, good, 2, good, 2, &fault), RMF_EINVAL,
		  "four entries, three folios");
	expect_eq(start(&world, good, 4, good, 0, &fault), RMF_EINVAL, "four entries in one list");
	free_world(&world);
}

/* Options at random: the classic LRU, or generations. Then each folio gets one that its type has,
 * and none is active. */
static struct rmf_lru_options random_lru(struct world *world, uint64_t *seed)
{
	struct rmf_lru_options options = { .mglru = next_random(seed) & 1,
					   .stats_flushed = next_random(seed) & 1,
					   .page_shift = 12,
					   .max_seq = next_random(seed) % 9 + 1 };

	world->run->policy.mglru = RMF_MGLRU_V6_12 + next_random(seed) % 4;
	for (int type = 0; type < RMF_NR_LRU_TYPES; type++) {
		const uint64_t most = options.max_seq < 3 ? options.max_seq : 3;

		options.min_seq[type] = options.max_seq - 1 - next_random(seed) % most;
	}
	for (uint32_t folio = 0; options.mglru && folio < 3; folio++) {
		uint32_t *flags = &world->pop->folio_flags[folio];
		const enum rmf_lru_type type = rmf_lru_type_of(*flags);
		const uint64_t gens = options.max_seq + 1 - options.min_seq[type],
			       seq = options.min_seq[type] + next_random(seed) % gens;

		*flags &= ~(uint32_t)RMF_FOLIO_ACTIVE;
		*flags |= (uint32_t)(next_random(seed) & 7) << 17; /* the marks */
		*flags = rmf_with_gen(*flags, (uint32_t)(seq % RMF_MAX_NR_GENS) + 1);
	}
	return options;
}

/* Unmap every folio from every VMA, then reclaim. A budget that would overflow means no limit. */
static void run_everything(struct world *world, uint64_t *seed)
{
	const struct rmf_policy policies[] = {
		policy_per_page(), policy_v6_15(), policy_v6_16(),
		policy_v7_0(),	   policy_v7_3(),  policy_anon_swap()
	};
	uint32_t inactive[3] = { 2, 0, 1 }, active[3] = { 0 };
	struct rmf_lru_options options;
	struct rmf_reclaim reclaim;
	struct rmf_fault fault;

	world->run->arch = next_random(seed) & 1 ? arch_arm64() : arch_x86();
	world->run->policy = policies[next_random(seed) % 6];
	world->run->guard = next_random(seed) & 1 ? RMF_GUARD_CONTIGUOUS : RMF_GUARD_NONE;
	world->run->swap_end = next_random(seed) % 1024;
	if (next_random(seed) & 1) {
		for (uint32_t folio = 0; folio < 3; folio++)
			for (uint32_t vma = 0; vma < 2; vma++)
				rmf_try_to_unmap_one(world->run, folio, vma,
						     (uint32_t)next_random(seed) & 31);
	}
	options = random_lru(world, seed);
	expect_eq(rmf_reclaim_start(&reclaim, world->run, inactive, 3, active, 0, UINT64_MAX,
				    &options, &fault),
		  0, "start");
	expect(!rmf_reclaim_step(&reclaim, UINT64_MAX), "reclaim ends");
	rmf_reclaim_free(&reclaim);
	expect(event(world, RMF_WALK_SLOTS) <= event(world, RMF_WALK_PTE_READS),
	       "no slot without a read");
	expect(event(world, RMF_WALK_YIELDS) <= event(world, RMF_WALK_CALLS),
	       "no yield without a call");
}

/* Hostile values, one to four at a time, in any array, and any words in the page tables. What the
 * check accepts runs without an access outside the arrays; the sanitizers and valgrind watch. */
static void test_hostile_values(void)
{
	const uint64_t values[] = { 0,
				    1,
				    2,
				    3,
				    13,
				    14,
				    15,
				    511,
				    512,
				    513,
				    519,
				    520,
				    544,
				    VPN,
				    PFN,
				    LIMIT - 8192,
				    LIMIT - 1,
				    LIMIT,
				    LIMIT + 1,
				    UINT32_MAX,
				    UINT64_MAX - VPN,
				    UINT64_MAX };
	const uint64_t nr_values = sizeof(values) / sizeof(values[0]);
	uint64_t seed = 88172645463325252, accepted = 0;

	for (int round = 0; round < 3000; round++) {
		struct world world = valid_world();
		struct rmf_population *pop = world.pop;
		const uint8_t sizes[NR_FIELDS] = { 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 4, 4 };
		struct rmf_fault fault = { 0 };

		for (uint64_t n = next_random(&seed) % 4 + 1; n; n--) {
			uint64_t field = next_random(&seed) % NR_FIELDS;

			put(&world, &fields[field], next_random(&seed) % sizes[field],
			    values[next_random(&seed) % nr_values]);
		}
		for (uint64_t i = 0; i < 3; i++) {
			pop->folio_flags[i] = (uint32_t)next_random(&seed) & 0xffff;
			((uint32_t *)pop->vma_flags)[i % 2] = (uint32_t)next_random(&seed) & 0x7f;
		}
		for (uint64_t i = next_random(&seed) % pop->nr_ptes; i < pop->nr_ptes; i++) {
			pop->ptes[i] = mk_pte(PFN + i, next_random(&seed) & 0xfff);
			if (next_random(&seed) % 8 == 0)
				pop->ptes[i] = next_random(&seed);
		}
		for (uint64_t i = 0; i < pop->nr_pages; i++)
			pop->page_flags[i] = (uint8_t)next_random(&seed);
		if (rmf_population_check(pop, &fault) == 0) {
			run_everything(&world, &seed);
			accepted++;
		} else {
			expect(fault.array && fault.rule, "a fault says what and why");
		}
		free_world(&world);
	}
	expect(accepted > 300 && accepted < 2700, "both kinds were met");
}

int main(void)
{
	run_test("valid", test_valid);
	run_test("each index", test_each_index);
	run_test("page table size", test_page_table_size);
	run_test("LRU lists", test_lru_lists);
	run_test("hostile values", test_hostile_values);
	return report("test_population_check");
}
