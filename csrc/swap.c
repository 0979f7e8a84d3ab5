#include "swap.h"

#include <stdlib.h>
#include <string.h>

void rmf_swap_map_free(struct rmf_run *run)
{
	struct rmf_swap_map *map = run->swap_map;

	run->swap_map = NULL;
	if (!map)
		return;
	free(map->used);
	free(map->clusters);
	free(map);
}

int rmf_swap_map_set(struct rmf_run *run, const uint8_t *free_slots, uint64_t nr_slots,
		     struct rmf_fault *fault)
{
	const uint32_t size = run->pop.ptrs_per_pte;
	struct rmf_swap_map *map;

	if (nr_slots > (uint64_t)1 << 48)
		return rmf_fault_at(fault, "swap.free", 0, "at most 2^48 slots");
	if (nr_slots && free_slots[0])
		return rmf_fault_at(fault, "swap.free", 0, "offset 0 holds the header");
	rmf_swap_map_free(run);
	run->swap_map = map = calloc(1, sizeof(*map));
	if (!map)
		return RMF_ENOMEM;
	map->nr_slots = nr_slots;
	map->cluster_slots = size;
	map->nr_clusters = (nr_slots + size - 1) / size;
	map->used = malloc(nr_slots + 1);
	map->clusters = calloc(map->nr_clusters + 1, sizeof(*map->clusters));
	if (!map->used || !map->clusters) {
		rmf_swap_map_free(run);
		return RMF_ENOMEM;
	}
	map->last_single = map->nr_clusters;
	for (uint64_t i = 0; i < map->nr_clusters; i++) {
		struct rmf_cluster *cluster = &map->clusters[i];

		cluster->cut = i == 0 || (i + 1) * size > nr_slots;
		cluster->order = cluster->cut ? 0 : -1;
	}
	for (uint64_t i = 0; i < nr_slots; i++) {
		struct rmf_cluster *cluster = &map->clusters[i / size];

		map->used[i] = !free_slots[i];
		map->nr_free += free_slots[i] != 0;
		if (map->used[i]) {
			cluster->used++;
			cluster->order = 0;
		}
	}
	return 0;
}

bool rmf_swap_configured(const struct rmf_run *run)
{
	return run->swap_map ? run->swap_map->nr_slots > 0 : run->swap_end > 0;
}

uint64_t rmf_swap_free_slots(const struct rmf_run *run)
{
	return run->swap_map ? run->swap_map->nr_free : run->swap_end - run->swap_next;
}

/* The first free run of nr slots in a cluster, aligned to nr. UINT64_MAX if there is none. */
static uint64_t free_run(const struct rmf_swap_map *map, uint64_t cluster, uint64_t nr)
{
	uint64_t start = cluster * map->cluster_slots, end = start + map->cluster_slots;

	if (end > map->nr_slots)
		end = map->nr_slots;
	for (; start + nr <= end; start += nr)
		if (!memchr(map->used + start, 1, nr))
			return start;
	return UINT64_MAX;
}

/* The first run in the clusters that serve `order`; -1 stands for those that serve none. */
static uint64_t run_of_clusters(const struct rmf_swap_map *map, int32_t order, uint64_t nr)
{
	for (uint64_t i = 0; i < map->nr_clusters; i++) {
		uint64_t offset;

		if (map->clusters[i].order != order ||
		    map->clusters[i].used + nr > map->cluster_slots)
			continue;
		offset = free_run(map, i, nr);
		if (offset != UINT64_MAX)
			return offset;
	}
	return UINT64_MAX;
}

/* Where a slot for a single page is free. It may be in any cluster. */
static uint64_t find_slot(const struct rmf_swap_map *map, bool empty_first)
{
	uint64_t offset = UINT64_MAX;

	if (empty_first && map->last_single < map->nr_clusters)
		offset = free_run(map, map->last_single, 1);
	if (offset == UINT64_MAX)
		offset = run_of_clusters(map, empty_first ? -1 : 0, 1);
	if (offset == UINT64_MAX)
		offset = run_of_clusters(map, empty_first ? 0 : -1, 1);
	for (uint64_t i = 0; offset == UINT64_MAX && i < map->nr_clusters; i++)
		offset = free_run(map, i, 1);
	return offset;
}

/* Where nr = 2^order slots are free for a folio. Models cluster_alloc_swap_entry(), mm/swapfile.c,
 * Linux v7.0, without its per-CPU clusters. */
static uint64_t find_slots(const struct rmf_swap_map *map, int32_t order, uint64_t nr,
			   bool empty_first)
{
	uint64_t offset = UINT64_MAX;

	if (nr > map->cluster_slots || nr > map->nr_free)
		return UINT64_MAX;
	if (!order)
		return find_slot(map, empty_first);
	if (nr < map->cluster_slots)
		offset = run_of_clusters(map, order, nr);
	return offset == UINT64_MAX ? run_of_clusters(map, -1, nr) : offset;
}

static bool take_slots(struct rmf_swap_map *map, int32_t order, uint64_t nr, bool empty_first,
		       uint64_t *offset)
{
	struct rmf_cluster *cluster;

	*offset = find_slots(map, order, nr, empty_first);
	if (*offset == UINT64_MAX)
		return false;
	cluster = &map->clusters[*offset / map->cluster_slots];
	if (cluster->order == -1)
		cluster->order = order;
	if (!order)
		map->last_single = *offset / map->cluster_slots;
	cluster->used += (uint32_t)nr;
	memset(map->used + *offset, 1, nr);
	map->nr_free -= nr;
	return true;
}

bool rmf_swap_alloc(struct rmf_run *run, uint64_t folio)
{
	const uint8_t order = run->pop.folio_order[folio];
	const uint64_t nr = (uint64_t)1 << order;
	uint64_t offset = run->swap_next;
	bool found;

	if (run->swap_map) {
		found = take_slots(run->swap_map, order, nr, run->policy.swap_single_empty,
				   &offset);
	} else {
		found = run->swap_end - run->swap_next >= nr && !(order && run->swap_fragmented);
		run->swap_next += found ? nr : 0;
	}
	if (!found) {
		run->swap_refusals += rmf_swap_configured(run);
		return false;
	}
	run->pop.folio_swap[folio] = offset;
	run->swap_used += (int64_t)nr;
	rmf_count(run, RMF_SWAP_ALLOCS, 1);
	return true;
}

void rmf_swap_give_back(struct rmf_run *run, uint64_t offset, uint64_t nr)
{
	struct rmf_swap_map *map = run->swap_map;

	rmf_count(run, RMF_SWAP_FREES, nr);
	if (!map) {
		run->swap_used -= (int64_t)nr;
		if (rmf_swap_configured(run))
			run->swap_end += nr;
		return;
	}
	for (uint64_t i = offset; i < offset + nr; i++) {
		struct rmf_cluster *cluster;

		if (!i || i >= map->nr_slots || !map->used[i])
			continue;
		cluster = &map->clusters[i / map->cluster_slots];
		map->used[i] = 0;
		map->nr_free++;
		run->swap_used--;
		if (!--cluster->used && !cluster->cut)
			cluster->order = -1;
	}
}
