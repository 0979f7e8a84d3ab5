/* The reclaim loop: isolation groups, free batches and flushes, second chances, targets, what is
 * kept and what activated. */
#include "testing.h"

enum { VPN = 1024, PFN = 0x1000 };

/* `nr` folios of `order`, one behind the other in one VMA, all on one list. */
struct lru {
	struct world world;
	struct rmf_reclaim reclaim;
	uint32_t *folios; /* of both lists: 2 * nr */
	uint64_t nr;
	uint64_t target;
	bool active; /* on the active list */
	struct rmf_lru_options options;
};

static struct lru make_lru(uint64_t nr, uint8_t order, uint32_t folio_flags, uint32_t vma_flags,
			   rmf_pte pte_flags, uint64_t swap)
{
	struct lru lru = { .world = make_world(arch_x86(), policy_v7_0_12()), .nr = nr };
	uint32_t vma =
		add_vma(&lru.world,
			(struct vma_spec){ .start = VPN, .nr = nr << order, .flags = vma_flags });
	uint32_t *folios = calloc(2 * nr, sizeof(*folios));

	if (!folios)
		abort();
	for (uint64_t i = 0; i < nr; i++) {
		folios[i] = add_folio(&lru.world, (struct folio_spec){ .pfn = PFN + (i << order),
								       .index = i << order,
								       .order = order,
								       .flags = folio_flags });
		map_folio(&lru.world, vma, pte_flags);
	}
	lru.world.run->swap_end = swap;
	lru.folios = folios;
	lru.target = UINT64_MAX;
	return lru;
}

static void start(struct lru *lru)
{
	uint64_t inactive = lru->active ? 0 : lru->nr;
	const uint64_t capacity = lru->world.pop->folio_capacity;
	uint32_t *empty = lru->folios + (capacity > lru->nr ? capacity : lru->nr);
	struct rmf_fault fault;

	expect_eq(rmf_reclaim_start(&lru->reclaim, lru->world.run,
				    lru->active ? empty : lru->folios, inactive,
				    lru->active ? lru->folios : empty, lru->nr - inactive,
				    lru->target, &lru->options, &fault),
		  0, "start");
}

/* Begin, and go on in steps of `budget` pages until the end. */
static void reclaim(struct lru *lru, uint64_t budget)
{
	start(lru);
	while (rmf_reclaim_step(&lru->reclaim, budget))
		;
}

/* Room for splits, in the arrays and in the lists. */
static void make_room(struct lru *lru)
{
	give_room(&lru->world);
	lru->folios = resized(lru->folios, 2 * lru->world.pop->folio_capacity, sizeof(uint32_t));
}

static void free_lru(struct lru *lru)
{
	rmf_reclaim_free(&lru->reclaim);
	free(lru->folios);
	free_world(&lru->world);
}

static uint64_t divided_up(uint64_t n, uint64_t by)
{
	return (n + by - 1) / by;
}

static const uint64_t ALL = (uint64_t)1 << 40;

/* ---- the classic LRU as a model of its own ---- */

/* What happens to clean file folios of one size that one VMA maps, told from the rules for the
 * order of isolations alone (docs/kernel-rules.md, section 10). A list is a queue of folios. */
struct model {
	uint8_t order;
	bool exec;
	bool low; /* the statistics say that the inactive list is to be refilled */
	bool *young, *referenced; /* of each folio */
	uint32_t *queue[2]; /* inactive and active */
	uint64_t first[2], end[2];
	uint64_t isolations, groups, flushes, active_passes, passes, rounds, checks, freed, kept,
		activated, deactivated;
};

static void push(struct model *model, bool active, uint32_t folio)
{
	model->queue[active][model->end[active]++] = folio;
}

/* Take folios until n pages are reached, which is tested before each. Returns how many. */
static uint64_t taken(struct model *model, bool active, uint64_t n, uint32_t *folios)
{
	uint64_t nr = 0;

	while ((nr << model->order) < n && model->first[active] < model->end[active])
		folios[nr++] = model->queue[active][model->first[active]++];
	return nr;
}

static bool was_young(struct model *model, uint32_t folio)
{
	const bool young = model->young[folio];

	model->checks++;
	model->young[folio] = false;
	return young;
}

/* An isolation from the inactive list. Returns the pages freed. */
static uint64_t model_inactive(struct model *model, uint64_t n)
{
	uint32_t folios[32];
	const uint64_t nr = taken(model, false, n, folios);
	uint64_t freed = 0;

	model->isolations++;
	for (uint64_t i = 0; i < nr; i++) {
		const bool before = model->referenced[folios[i]];

		model->referenced[folios[i]] = false;
		if (!was_young(model, folios[i])) {
			freed++;
			continue;
		}
		model->referenced[folios[i]] = true;
		model->activated += before || model->exec;
		model->kept += !(before || model->exec);
		push(model, before || model->exec, folios[i]);
	}
	model->groups += nr > 0;
	model->flushes += divided_up(freed, 31);
	model->freed += freed;
	return freed << model->order;
}

static void model_active(struct model *model, uint64_t n)
{
	uint32_t folios[32];
	const uint64_t nr = taken(model, true, n, folios);

	model->active_passes++;
	for (uint64_t i = 0; i < nr; i++) {
		const bool stays = was_young(model, folios[i]) && model->exec;

		model->deactivated += !stays;
		push(model, stays, folios[i]);
	}
}

static uint64_t at_most_32(uint64_t n)
{
	return n < 32 ? n : 32;
}

/* A pass. Returns the pages freed. */
static uint64_t model_pass(struct model *model, int priority, uint64_t request, bool forced,
			   bool *skipped)
{
	uint64_t left[2], freed = 0;

	for (int active = 0; active < 2; active++)
		left[active] = (model->end[active] - model->first[active]) << model->order >>
			       priority;
	model->passes++;
	while (left[0] || left[1]) {
		const uint64_t inactive = at_most_32(left[0]), active = at_most_32(left[1]);

		left[0] -= inactive;
		left[1] -= active;
		if (inactive)
			freed += model_inactive(model, inactive);
		if (active && (model->low || forced))
			model_active(model, active);
		else if (active)
			*skipped = true;
		if (freed >= request)
			break;
	}
	return freed;
}

static uint64_t model_priorities(struct model *model, uint64_t request, bool forced, bool *skipped)
{
	uint64_t freed = 0;

	for (int priority = 12; priority >= 0 && freed < request; priority--)
		freed += model_pass(model, priority, request, forced, skipped);
	return freed;
}

static void model_reclaim(struct model *model, uint64_t target)
{
	uint64_t freed = 0;

	for (int idle = 0; freed < target && idle < 16;) {
		const uint64_t quarter = (target - freed) / 4,
			       request = quarter < 32 ? 32 : quarter;
		bool skipped = false;
		uint64_t got = model_priorities(model, request, false, &skipped);

		if (!got) /* once more, with the whole tree of memory cgroups */
			got = model_priorities(model, request, false, &skipped);
		if (!got && skipped)
			got = model_priorities(model, request, true, &skipped);
		model->rounds++;
		idle += !got;
		freed += got;
	}
}

static struct model make_model(uint64_t nr, uint8_t order)
{
	struct model model = { .order = order };
	const size_t room = 200 * nr; /* a folio goes round not more often than that */

	model.young = calloc(nr, sizeof(bool));
	model.referenced = calloc(nr, sizeof(bool));
	for (int active = 0; active < 2; active++)
		model.queue[active] = calloc(room, sizeof(uint32_t));
	if (!model.young || !model.referenced || !model.queue[0] || !model.queue[1])
		abort();
	return model;
}

static void free_model(struct model *model)
{
	free(model->young);
	free(model->referenced);
	free(model->queue[0]);
	free(model->queue[1]);
}

/* What the run counted is what the model says, and so are the folios left on each list. */
static void expect_as_model(const struct lru *lru, const struct model *model)
{
	const struct event_count counts[] = {
		{ RMF_ISOLATION_CALLS, model->isolations },
		{ RMF_SHRINK_CALLS, model->groups },
		{ RMF_TLB_FLUSHES, model->flushes },
		{ RMF_ACTIVE_PASSES, model->active_passes },
		{ RMF_PRIORITY_PASSES, model->passes },
		{ RMF_RECLAIM_ROUNDS, model->rounds },
		{ RMF_REFERENCED_CALLS, model->checks },
		{ RMF_FOLIOS_FREED, model->freed },
		{ RMF_FOLIOS_KEPT, model->kept },
		{ RMF_FOLIOS_ACTIVATED, model->activated },
		{ RMF_FOLIOS_DEACTIVATED, model->deactivated },
	};
	const struct rmf_lru_list *lists[] = { &lru->reclaim.inactive, &lru->reclaim.active };

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		expect_event(&lru->world, counts[i].event, counts[i].nr);
	for (int active = 0; active < 2; active++) {
		const uint64_t nr = model->end[active] - model->first[active];

		expect_eq((int64_t)lists[active]->n, (int64_t)nr, "folios left");
		expect_eq((int64_t)lists[active]->pages, (int64_t)(nr << model->order),
			  "pages left");
		for (uint64_t i = 0; i < nr && i < lists[active]->n; i++)
			expect_eq(rmf_lru_at(lists[active], i),
				  model->queue[active][model->first[active] + i], "order");
	}
}

/* Random populations, targets and steps. */
static void test_against_model(void)
{
	uint64_t seed = 15;

	for (int round = 0; round < 400; round++) {
		const uint64_t nr = next_random(&seed) % 90 + 1, share = next_random(&seed) % 5;
		const uint8_t order = (uint8_t)(next_random(&seed) % 8);
		const bool exec = next_random(&seed) % 4 == 0;
		struct lru lru = make_lru(nr, order, FOLIO_FILE, exec ? RMF_VMA_EXEC : 0, 0, 0);
		struct model model = make_model(nr, order);
		uint32_t *lists[2] = { lru.folios, lru.folios + nr };
		uint64_t n[2] = { 0 };
		struct rmf_fault fault;

		model.exec = exec;
		for (uint32_t i = 0; i < nr; i++) {
			const bool active = next_random(&seed) % 5 < share;
			uint32_t *flags = &lru.world.pop->folio_flags[i];

			model.young[i] = next_random(&seed) % 3 == 0;
			model.referenced[i] = next_random(&seed) % 3 == 0;
			for (uint64_t page = 0; model.young[i] && page < (uint64_t)1 << order;
			     page++)
				*pte_at(&lru.world, 0, VPN + ((uint64_t)i << order) + page) |=
					RMF_PTE_YOUNG;
			*flags |= model.referenced[i] ? RMF_FOLIO_REFERENCED : 0;
			*flags |= active ? RMF_FOLIO_ACTIVE : 0;
			lists[active][n[active]++] = i;
			push(&model, active, i);
		}
		lru.target = next_random(&seed) % (nr << order) + (next_random(&seed) % 4 ? 0 : 99);
		lru.options.stats_flushed = next_random(&seed) & 1;
		lru.options.page_shift = 12;
		/* below 1 GiB the ratio is 1 */
		model.low = lru.options.stats_flushed && n[0] < n[1];
		expect_eq(rmf_reclaim_start(&lru.reclaim, lru.world.run, lists[0], n[0], lists[1],
					    n[1], lru.target, &lru.options, &fault),
			  0, "start");
		while (rmf_reclaim_step(&lru.reclaim,
					round & 1 ? ALL : next_random(&seed) % 50 + 1))
			;
		model_reclaim(&model, lru.target);
		expect_as_model(&lru, &model);
		free_model(&model);
		free_lru(&lru);
	}
}

/* 51 of 64 MiB, as it was recorded on v7.2.13 and v6.12.117 (docs/kernel-rules.md, section 10). */
static void test_recorded(void)
{
	const struct {
		uint8_t order;
		bool active, flushed;
		uint64_t isolations, active_passes, rounds, passes, checks, freed;
	} cases[] = {
		{ 4, true, false, 448, 436, 17, 200, 1674, 817 },
		{ 4, true, true, 445, 525, 16, 116, 1807, 816 },
		{ 9, true, false, 26, 27, 9, 0, 53, 26 },
		{ 9, true, true, 26, 30, 9, 0, 56, 26 },
		{ 0, false, false, 475, 0, 14, 0, 13080, 13080 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct lru lru = make_lru(16384 >> cases[i].order, cases[i].order,
					  cases[i].active ? RMF_FOLIO_ACTIVE : 0, 0, 0, 0);

		lru.active = cases[i].active;
		lru.target = 51 * 256;
		lru.options = (struct rmf_lru_options){ .stats_flushed = cases[i].flushed,
							.page_shift = 12 };
		reclaim(&lru, ALL);
		expect_event(&lru.world, RMF_ISOLATION_CALLS, cases[i].isolations);
		expect_event(&lru.world, RMF_ACTIVE_PASSES, cases[i].active_passes);
		expect_event(&lru.world, RMF_RECLAIM_ROUNDS, cases[i].rounds);
		if (cases[i].passes)
			expect_event(&lru.world, RMF_PRIORITY_PASSES, cases[i].passes);
		expect_event(&lru.world, RMF_REFERENCED_CALLS, cases[i].checks);
		expect_event(&lru.world, RMF_FOLIOS_FREED, cases[i].freed);
		free_lru(&lru);
	}
}

/* Old clean file folios: each is scanned once and freed. */
static void test_clean_folios(void)
{
	for (uint8_t order = 0; order <= 9; order++) {
		const uint64_t nr = 70, pages = (uint64_t)1 << order;
		struct lru lru = make_lru(nr, order, FOLIO_FILE, 0, 0, 0);
		struct model model = make_model(nr, order);

		for (uint32_t i = 0; i < nr; i++)
			push(&model, false, i);
		reclaim(&lru, ALL);
		model_reclaim(&model, lru.target);
		expect_as_model(&lru, &model);
		expect_event(&lru.world, RMF_FOLIOS_SCANNED, nr);
		expect_event(&lru.world, RMF_PAGES_SCANNED, nr * pages);
		expect_event(&lru.world, RMF_FOLIOS_FREED, nr);
		expect_event(&lru.world, RMF_PAGES_FREED, nr * pages);
		expect_event(&lru.world, RMF_UNMAP_CALLS, nr);
		/* two for the reference check and two for the unmap; SYNC saves large folios one */
		expect_event(&lru.world, RMF_WALK_PTE_READS, nr * (order ? 3 : 4));
		expect_event(&lru.world, RMF_PAGE_CACHE_FOLIOS, nr);
		expect_event(&lru.world, RMF_PAGE_CACHE_SLOTS, nr << (order % 6));
		for (uint64_t i = 0; i < nr; i++)
			expect(lru.world.pop->folio_flags[i] == RMF_FOLIO_FREED &&
				       !lru.world.pop->folio_refcount[i],
			       "freed");
		free_model(&model);
		free_lru(&lru);
	}
}

/* Of 16 folios of 16 pages the passes of priorities 8 to 6 take one each. So few pages are taken
 * exactly; what is asked for beyond is taken by whole isolations of one or two folios. */
static void test_target(void)
{
	for (uint64_t target = 0; target <= 256; target += 17) {
		struct lru lru = make_lru(16, 4, FOLIO_FILE, 0, 0, 0);
		struct model model = make_model(16, 4);

		for (uint32_t i = 0; i < 16; i++)
			push(&model, false, i);
		lru.target = target;
		reclaim(&lru, ALL);
		model_reclaim(&model, target);
		expect_as_model(&lru, &model);
		expect(event(&lru.world, RMF_PAGES_FREED) >= target, "met");
		free_model(&model);
		free_lru(&lru);
	}
}

/* The run is the same however it is cut into steps. */
static void test_budget(void)
{
	struct lru whole = make_lru(40, 2, FOLIO_SHMEM, 0, RMF_PTE_YOUNG | RMF_PTE_DIRTY, 1000);
	struct lru steps = make_lru(40, 2, FOLIO_SHMEM, 0, RMF_PTE_YOUNG | RMF_PTE_DIRTY, 1000);

	reclaim(&whole, ALL);
	reclaim(&steps, 1);
	for (int i = 0; i < RMF_NR_EVENTS; i++)
		expect_event(&steps.world, (enum rmf_event)i,
			     event(&whole.world, (enum rmf_event)i));
	free_lru(&whole);
	free_lru(&steps);
}

/* A young folio is kept once. At the second look it is freed, unless it was touched again. */
static void test_second_chance(void)
{
	struct lru lru = make_lru(8, 4, FOLIO_FILE, 0, RMF_PTE_YOUNG, 0);

	reclaim(&lru, ALL);
	expect_event(&lru.world, RMF_REFERENCED_CALLS, 16);
	expect_event(&lru.world, RMF_FOLIOS_SCANNED, 16);
	expect_event(&lru.world, RMF_FOLIOS_KEPT, 8);
	expect_event(&lru.world, RMF_FOLIOS_ACTIVATED, 0);
	expect_event(&lru.world, RMF_FOLIOS_FREED, 8);
	free_lru(&lru);
	/* touched again between the two looks, it is activated */
	lru = make_lru(1, 4, FOLIO_FILE, 0, RMF_PTE_YOUNG, 0);
	start(&lru);
	expect(rmf_reclaim_step(&lru.reclaim, 1), "there is more to do");
	expect(lru.world.pop->folio_flags[0] & RMF_FOLIO_REFERENCED, "marked");
	*pte_at(&lru.world, 0, VPN) |= RMF_PTE_YOUNG;
	rmf_reclaim_step(&lru.reclaim, 1);
	expect_event(&lru.world, RMF_FOLIOS_ACTIVATED, 1);
	free_lru(&lru);
}

/* A folio that was referenced before, or that is young and executable file memory, is activated.
 * Once it is old, an active pass deactivates it, and it is freed. The first round frees nothing
 * before its forced walk. In that, priorities 6 to 1 ask for 1, 2, 4, 6, 8 and 8 pages of the
 * active list, which is one folio each. */
static void test_activation(void)
{
	for (int exec = 0; exec < 2; exec++) {
		struct lru lru = make_lru(6, 4, exec ? 0 : RMF_FOLIO_REFERENCED,
					  exec ? RMF_VMA_EXEC : 0, RMF_PTE_YOUNG, 0);

		reclaim(&lru, ALL);
		expect_event(&lru.world, RMF_FOLIOS_ACTIVATED, 6);
		expect_event(&lru.world, RMF_FOLIOS_KEPT, 0);
		expect_event(&lru.world, RMF_ACTIVE_PASSES, 6);
		expect_event(&lru.world, RMF_FOLIOS_DEACTIVATED, 6);
		expect_event(&lru.world, RMF_FOLIOS_FREED, 6);
		/* on the inactive list, on the active one, on the inactive one */
		expect_event(&lru.world, RMF_REFERENCED_CALLS, 18);
		free_lru(&lru);
	}
}

/* A folio that two VMAs referenced is activated at once. */
static void test_two_references(void)
{
	struct lru lru = make_lru(1, 4, FOLIO_FILE, 0, RMF_PTE_YOUNG, 0);

	map_folio(&lru.world, add_vma(&lru.world, (struct vma_spec){ .start = 4 * VPN, .nr = 16 }),
		  RMF_PTE_YOUNG);
	reclaim(&lru, ALL);
	expect_event(&lru.world, RMF_FOLIOS_ACTIVATED, 1);
	expect_event(&lru.world, RMF_FOLIOS_KEPT, 0);
	expect_event(&lru.world, RMF_FOLIOS_FREED, 1);
	free_lru(&lru);
}

/* A PMD-mapped file folio is reclaimed without any work per page. */
static void test_pmd_mapped(void)
{
	struct lru lru = make_lru(1, 9, FOLIO_FILE, 0, 0, 0);

	lru.world.pop->table_state[0] = RMF_TABLE_PMD_LEAF;
	lru.world.pop->folio_mapcount[0] = lru.world.pop->folio_entire_mapcount[0] = 1;
	lru.world.pop->folio_refcount[0] -= 511;
	reclaim(&lru, ALL);
	expect_event(&lru.world, RMF_PMD_SPLITS, 1);
	expect_event(&lru.world, RMF_PAGES_FREED, 512);
	expect_event(&lru.world, RMF_PTES_CLEARED, 0);
	expect_event(&lru.world, RMF_RAW_PTE_LOADS, 0);
	free_lru(&lru);
}

/* From an active list, referenced executable file folios go round once more. All others are
 * deactivated, whether referenced or not. In the forced walk priorities 6 to 1 take one folio each
 * of a list that gets shorter. If it does not, priorities 6 to 3 take one each, priority 2 the
 * other two, and 1 and 0 twice up to two. */
static void test_active_list(void)
{
	for (int exec = 0; exec < 2; exec++) {
		struct lru lru =
			make_lru(6, 4, RMF_FOLIO_ACTIVE, exec ? RMF_VMA_EXEC : 0, RMF_PTE_YOUNG, 0);

		lru.active = true;
		reclaim(&lru, ALL);
		expect_event(&lru.world, RMF_ACTIVE_PASSES, exec ? 9 : 6);
		expect_event(&lru.world, RMF_FOLIOS_DEACTIVATED, 6);
		expect_event(&lru.world, RMF_FOLIOS_FREED, 6);
		free_lru(&lru);
	}
}

/* 16 rounds in vain, each through the 13 priorities and once more with all memory cgroups. */
static void expect_nothing_found(const struct lru *lru)
{
	const struct event_count counts[] = { { RMF_RECLAIM_ROUNDS, 16 },
					      { RMF_PRIORITY_PASSES, 16 * 2 * 13 } };

	expect_only(&lru->world, counts, 2);
}

static void test_no_swap(void)
{
	struct lru lru = make_lru(8, 4, RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED, RMF_VMA_ANON, 0, 0);

	reclaim(&lru, ALL);
	expect_nothing_found(&lru);
	expect_eq((int64_t)nr_present(&lru.world, 0), 128, "nobody looked at them");
	free_lru(&lru);
}

/* Anonymous folios take swap slots in order. Where the slots run out a folio is split, and its
 * first and last pages get what is left. Nobody looks at the isolations behind it.
 *
 * Of 64 pages priorities 6 to 3 isolate one folio each. Of 1024 pages priorities 10 to 6 do so, and
 * priority 5 isolates two folios at once, 944 >> 5 = 29 pages. Both are worked on, with slots or
 * without: the second one is split in vain if the first one took the rest. */
static void test_swap(void)
{
	const struct {
		uint64_t folios, fit, splits;
	} cases[] = { { 4, 0, 1 },  { 4, 1, 1 },  { 4, 2, 1 }, { 4, 3, 1 },
		      { 64, 4, 1 }, { 64, 5, 2 }, { 64, 6, 1 } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const uint64_t fit = cases[i].fit, splits = cases[i].splits,
			       pages = 16 * cases[i].folios;
		struct lru lru =
			make_lru(cases[i].folios, 4,
				 RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED | RMF_FOLIO_EXCLUSIVE,
				 RMF_VMA_ANON, 0, 16 * fit + 8);

		make_room(&lru);
		reclaim(&lru, ALL);
		expect_sound(&lru.world);
		expect_event(&lru.world, RMF_SWAP_ALLOCS, fit + 8);
		expect_event(&lru.world, RMF_FOLIOS_WRITTEN, fit + 8);
		expect_event(&lru.world, RMF_FOLIOS_SWAPPED_WHOLE, fit);
		expect_event(&lru.world, RMF_PAGES_WRITTEN, 16 * fit + 8);
		expect_event(&lru.world, RMF_FOLIOS_FREED, fit + 8);
		expect_event(&lru.world, RMF_FOLIO_SPLITS, splits);
		expect_event(&lru.world, RMF_SWPOUT_FALLBACKS, splits);
		expect_event(&lru.world, RMF_PAGES_ACTIVATED, 8 + 16 * (splits - 1));
		expect_event(&lru.world, RMF_PAGE_CACHE_SLOTS, 0);
		expect_eq((int64_t)lru.world.run->swap_next, (int64_t)(16 * fit + 8),
			  "slots in use");
		expect_eq(lru.world.pop->mm_rss[RMF_MM_SWAPENTS], (int64_t)(16 * fit + 8),
			  "swap entries");
		expect_eq(lru.world.pop->mm_rss[RMF_MM_ANONPAGES], (int64_t)(pages - 16 * fit - 8),
			  "anonymous pages");
		for (uint64_t page = 0; page < 16 * fit; page++)
			expect_eq((int64_t)*pte_at(&lru.world, 0, VPN + page),
				  (int64_t)rmf_mk_nonpresent(RMF_KIND_SWAP, page,
							     RMF_PTE_EXCLUSIVE),
				  "swap entry");
		free_lru(&lru);
	}
}

/* shrink_folio_list() on one group of n order-0 folios, all mapped and all freed, flushes after
 * each 31st folio and once for the rest. */
static void test_free_batches(void)
{
	for (uint64_t nr = 1; nr <= 130; nr += 3) {
		for (uint64_t groups = 1; groups <= 2; groups++) {
			struct lru lru = make_lru(nr, 0, FOLIO_FILE, 0, RMF_PTE_YOUNG, 0);
			const uint64_t half = groups == 2 ? nr / 2 : nr, starts[] = { 0, half, nr };

			rmf_shrink_groups(lru.world.run, lru.folios, starts, 0, groups, UINT64_MAX);
			expect_event(&lru.world, RMF_TLB_FLUSHES,
				     divided_up(half, 31) + divided_up(nr - half, 31));
			expect_event(&lru.world, RMF_SHRINK_CALLS, groups);
			expect_event(&lru.world, RMF_FOLIOS_FREED, nr); /* young or not */
			expect_event(&lru.world, RMF_REFERENCED_CALLS, 0);
			expect_event(&lru.world, RMF_ISOLATION_CALLS, 0);
			free_lru(&lru);
		}
	}
}

/* A dirty PTE that may still be in a TLB must be flushed before its folio is written, so no flushes
 * are batched then. */
static void test_dirty_flush(void)
{
	struct lru lru = make_lru(20, 0, FOLIO_SHMEM, 0, RMF_PTE_DIRTY, 20);
	const uint64_t starts[] = { 0, 20 };

	rmf_shrink_groups(lru.world.run, lru.folios, starts, 0, 1, UINT64_MAX);
	expect_event(&lru.world, RMF_FOLIOS_WRITTEN, 20);
	expect_event(&lru.world, RMF_FOLIOS_FREED, 20);
	expect_event(&lru.world, RMF_TLB_FLUSHES, 20);
	free_lru(&lru);
}

enum outcome { FREED, KEPT, ACTIVATED };

/* The outcome of one folio with these flags and references. */
static void expect_outcome(uint32_t folio_flags, uint32_t vma_flags, rmf_pte pte_flags,
			   int32_t refs, enum outcome want, const char *what)
{
	struct lru lru = make_lru(1, 4, folio_flags, vma_flags, pte_flags, 100);
	const uint64_t starts[] = { 0, 1 };
	int32_t before = lru.world.pop->folio_refcount[0] += refs;

	if (folio_flags & RMF_FOLIO_PAGE_FLAGS)
		lru.world.pop->page_flags[0] = RMF_PAGE_HWPOISON;
	rmf_shrink_groups(lru.world.run, lru.folios, starts, 0, 1, UINT64_MAX);
	expect_eq((int64_t)event(&lru.world, RMF_FOLIOS_FREED), want == FREED, what);
	expect_eq((int64_t)event(&lru.world, RMF_FOLIOS_KEPT), want == KEPT, what);
	expect_eq((int64_t)event(&lru.world, RMF_FOLIOS_ACTIVATED), want == ACTIVATED, what);
	expect_eq((lru.world.pop->folio_flags[0] & RMF_FOLIO_ACTIVE) != 0, want == ACTIVATED, what);
	if (want != FREED && lru.world.pop->folio_mapcount[0])
		expect_eq(lru.world.pop->folio_refcount[0] -
				  (lru.world.pop->folio_flags[0] & RMF_FOLIO_SWAPCACHE ? 16 : 0),
			  before, "the isolation reference is given back");
	free_lru(&lru);
}

static void test_outcomes(void)
{
	const uint32_t anon = RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED;

	expect_outcome(FOLIO_FILE, 0, 0, 0, FREED, "clean file");
	expect_outcome(FOLIO_FILE, 0, RMF_PTE_DIRTY, 0, ACTIVATED, "dirty file: not written here");
	expect_outcome(FOLIO_FILE, 0, 0, 1, KEPT, "file with a reference");
	expect_outcome(FOLIO_SHMEM, 0, RMF_PTE_DIRTY, 0, FREED, "dirty shmem is written");
	expect_outcome(anon, RMF_VMA_ANON, 0, 1, ACTIVATED,
		       "anonymous with a reference: gets no swap");
	expect_outcome(FOLIO_LAZYFREE, RMF_VMA_ANON, 0, 0, FREED, "lazyfree");
	expect_outcome(FOLIO_LAZYFREE, RMF_VMA_ANON, 0, 1, ACTIVATED,
		       "lazyfree with a reference: still mapped");
	expect_outcome(FOLIO_LAZYFREE, RMF_VMA_ANON, RMF_PTE_DIRTY, 0, ACTIVATED,
		       "dirty lazyfree: still mapped");
	expect_outcome(anon, RMF_VMA_ANON, 0, 0, FREED, "anonymous");
	expect_outcome(anon | RMF_FOLIO_PINNED | RMF_FOLIO_EXCLUSIVE, RMF_VMA_ANON, 0, 1, KEPT,
		       "pinned anonymous: gets no swap");
	expect_outcome(RMF_FOLIO_PINNED, 0, 0, 0, ACTIVATED, "pinned file");
	expect_outcome(RMF_FOLIO_LOCKED, 0, 0, 0, KEPT, "locked by somebody else");
	expect_outcome(RMF_FOLIO_UNEVICTABLE, 0, 0, 0, ACTIVATED, "unevictable");
	expect_outcome(RMF_FOLIO_MLOCKED, 0, 0, 0, ACTIVATED, "mlocked");
	expect_outcome(RMF_FOLIO_PAGE_FLAGS, 0, 0, 0, KEPT, "poisoned");
	expect_outcome(FOLIO_FILE, RMF_VMA_LOCKED, 0, 0, ACTIVATED, "in a locked VMA");
}

/* Folios that are freed or unevictable are taken off the list at the start, and folios that the run
 * mlocks when it does so. */
static void test_taken_off(void)
{
	struct lru lru = make_lru(8, 4, RMF_FOLIO_UNEVICTABLE, 0, 0, 0);

	lru.world.pop->folio_flags[0] = RMF_FOLIO_MLOCKED;
	lru.world.pop->folio_flags[1] = RMF_FOLIO_FREED;
	reclaim(&lru, ALL);
	expect_nothing_found(&lru);
	free_lru(&lru);
	lru = make_lru(8, 4, FOLIO_FILE, RMF_VMA_LOCKED, 0, 0);
	reclaim(&lru, ALL);
	expect_event(&lru.world, RMF_MLOCK_CALLS, 8);
	expect_event(&lru.world, RMF_FOLIOS_SCANNED, 8);
	expect_eq((int64_t)(lru.reclaim.inactive.n + lru.reclaim.active.n), 0,
		  "on no list any more");
	free_lru(&lru);
}

int main(void)
{
	run_test("clean folios", test_clean_folios);
	run_test("against model", test_against_model);
	run_test("recorded", test_recorded);
	run_test("target", test_target);
	run_test("budget", test_budget);
	run_test("second chance", test_second_chance);
	run_test("activation", test_activation);
	run_test("two references", test_two_references);
	run_test("PMD mapped", test_pmd_mapped);
	run_test("active list", test_active_list);
	run_test("no swap", test_no_swap);
	run_test("swap", test_swap);
	run_test("free batches", test_free_batches);
	run_test("dirty flush", test_dirty_flush);
	run_test("outcomes", test_outcomes);
	run_test("taken off", test_taken_off);
	return report("test_reclaim");
}
