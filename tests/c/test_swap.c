/* The swap device: counted slots, a device with a map, and slots given back. */
#include "testing.h"

enum { ANON = RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED, NONE = -1 };

/* A world with an unmapped folio of each order from 0 to 9. */
static struct world make_folios(struct rmf_policy policy)
{
	struct world world = make_world(arch_x86(), policy);

	for (uint8_t order = 0; order <= 9; order++)
		add_folio(&world, (struct folio_spec){ .pfn = (uint64_t)1 << (order + 1),
						       .order = order,
						       .flags = ANON });
	return world;
}

/* Give the device `nr` slots of which all but the header are free. */
static void set_free_map(struct world *world, uint64_t nr)
{
	uint8_t *slots = malloc(nr + 1);
	struct rmf_fault fault;

	if (!slots)
		abort();
	memset(slots, 1, nr);
	slots[0] = 0;
	expect_eq(rmf_swap_map_set(world->run, slots, nr, &fault), 0, "the map");
	free(slots);
}

/* Take slots for the folio of this order. Returns the offset, or NONE. */
static int64_t take(struct world *world, uint8_t order)
{
	if (!rmf_swap_alloc(world->run, order))
		return NONE;
	return (int64_t)world->pop->folio_swap[order];
}

static void test_counted(void)
{
	struct world world = make_folios(policy_v7_0_12());

	expect(!rmf_swap_configured(world.run), "no device");
	expect_eq(take(&world, 0), NONE, "no device");
	expect_eq((int64_t)world.run->swap_refusals, 0, "nothing to refuse");
	world.run->swap_end = 20;
	expect_eq(take(&world, 4), 0, "16 slots");
	expect_eq(take(&world, 4), NONE, "4 are left");
	expect_eq(take(&world, 2), 16, "they will do for 4 pages");
	expect_eq((int64_t)rmf_swap_free_slots(world.run), 0, "none is left");
	expect_eq(world.run->swap_used, 20, "in use");
	rmf_swap_give_back(world.run, 3, 1);
	expect_eq(take(&world, 0), 20, "the offsets go on rising");
	expect_event(&world, RMF_SWAP_ALLOCS, 3);
	expect_event(&world, RMF_SWAP_FREES, 1);
	world.run->swap_end += 16;
	world.run->swap_fragmented = true;
	expect_eq(take(&world, 1), NONE, "no run of slots");
	expect(take(&world, 0) != NONE, "but single ones");
	free_world(&world);
}

/* Runs are aligned. Offset 0 has the header, so neither 3 nor 5 free slots take 4 pages. */
static void test_aligned(void)
{
	struct world world = make_folios(policy_v7_0_12());

	set_free_map(&world, 4);
	expect_eq(take(&world, 2), NONE, "3 free slots");
	set_free_map(&world, 6);
	expect_eq(take(&world, 2), NONE, "5 free slots");
	expect_eq((int64_t)rmf_swap_free_slots(world.run), 5, "nothing was taken");
	/* cluster 0 has the header, cluster 1 is cut */
	set_free_map(&world, 600);
	expect_eq(take(&world, 9), NONE, "no whole cluster of 512");
	set_free_map(&world, 1024);
	expect_eq(take(&world, 9), 512, "cluster 1");
	expect_eq(take(&world, 9), NONE, "it was the only one");
	free_world(&world);
}

/* A large folio needs a cluster that is unused or serves its order. */
static void test_clusters(void)
{
	struct world world = make_folios(policy_v7_0_12());

	set_free_map(&world, 64);
	expect_eq(take(&world, 4), NONE, "the only cluster serves single pages");
	for (int64_t i = 1; i <= 15; i++)
		expect_eq(take(&world, 0), i, "single pages");
	expect_eq(take(&world, 4), NONE, "still");
	set_free_map(&world, 3 * 512);
	expect_eq(take(&world, 4), 512, "cluster 1 serves order 4 from now on");
	expect_eq(take(&world, 2), 1024, "cluster 2 serves order 2");
	expect_eq(take(&world, 4), 528, "cluster 1");
	expect_eq(take(&world, 3), NONE, "no cluster is left for order 3");
	expect_eq(take(&world, 0), 1, "single pages begin in cluster 0");
	for (int i = 2; i < 512; i++)
		take(&world, 0);
	expect_eq(take(&world, 0), 544, "and take any cluster when it is full");
	rmf_swap_give_back(world.run, 1024, 4);
	expect_eq(take(&world, 3), 1024, "an unused cluster serves any order");
	free_world(&world);
}

/* Up to v6.14 a single page goes to an unused cluster first, which large folios then lack. */
static void test_single_pages_of_v6_14(void)
{
	struct world world = make_folios(policy_v6_14());

	set_free_map(&world, 1024);
	expect_eq(take(&world, 0), 512, "cluster 1 is unused");
	expect_eq(take(&world, 0), 513, "the cluster of the last one");
	expect_eq(take(&world, 4), NONE, "cluster 1 serves single pages now");
	free_world(&world);
}

/* Slots that the device does not have, or that are free, cannot be given back. */
static void test_give_back_nonsense(void)
{
	struct world world = make_folios(policy_v7_0_12());

	set_free_map(&world, 8);
	expect_eq(take(&world, 0), 1, "one slot");
	rmf_swap_give_back(world.run, 6, 4);
	rmf_swap_give_back(world.run, (uint64_t)1 << 50, 2);
	rmf_swap_give_back(world.run, 0, 1);
	expect_eq((int64_t)rmf_swap_free_slots(world.run), 6, "as before");
	expect_eq(world.run->swap_used, 1, "as before");
	rmf_swap_give_back(world.run, 1, 1);
	expect_eq((int64_t)rmf_swap_free_slots(world.run), 7, "all free");
	free_world(&world);
}

static void test_bad_map(void)
{
	struct world world = make_folios(policy_v7_0_12());
	const uint8_t header_free[] = { 1, 1 };
	struct rmf_fault fault;

	expect_eq(rmf_swap_map_set(world.run, header_free, 2, &fault), RMF_EINVAL, "refused");
	expect_str(fault.array, "swap.free", "the argument");
	expect_eq(rmf_swap_map_set(world.run, header_free, 0, &fault), 0, "no slot");
	expect(!rmf_swap_configured(world.run), "no device");
	expect_eq(take(&world, 0), NONE, "no slot");
	free_world(&world);
}

int main(void)
{
	run_test("counted", test_counted);
	run_test("aligned", test_aligned);
	run_test("clusters", test_clusters);
	run_test("single_pages_of_v6_14", test_single_pages_of_v6_14);
	run_test("give_back_nonsense", test_give_back_nonsense);
	run_test("bad_map", test_bad_map);
	return report("test_swap");
}
