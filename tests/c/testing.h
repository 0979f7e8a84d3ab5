/* What the C tests share: checks that report a failure and go on, the policies and architectures
 * that they need, and a world to unmap.
 *
 * Every array of a world has exactly the size that it needs, so that valgrind and the address
 * sanitizer see each access outside. */
#ifndef RMF_TESTING_H
#define RMF_TESTING_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "deferred.h"
#include "folio_batch.h"
#include "reclaim.h"
#include "split.h"
#include "swap.h"
#include "unmap.h"
#include "walk.h"

static unsigned nr_checks, nr_failures;
static const char *test_name = "?";

static inline void expect_eq(int64_t got, int64_t want, const char *what)
{
	nr_checks++;
	if (got == want)
		return;
	nr_failures++;
	fprintf(stderr, "FAIL %s: %s: expected %" PRId64 ", got %" PRId64 "\n", test_name, what,
		want, got);
}

static inline void expect(bool ok, const char *what)
{
	expect_eq(ok, true, what);
}

static inline void expect_str(const char *got, const char *want, const char *what)
{
	nr_checks++;
	if (got && strcmp(got, want) == 0)
		return;
	nr_failures++;
	fprintf(stderr, "FAIL %s: %s: expected %s, got %s\n", test_name, what, want,
		got ? got : "NULL");
}

static inline void run_test(const char *name, void (*test)(void))
{
	test_name = name;
	test();
}

/* The last line of each main(): prints the result and returns the exit status. */
static inline int report(const char *file)
{
	printf("%s: %u checks, %u failed\n", file, nr_checks, nr_failures);
	return nr_failures ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* xorshift64: gives the same numbers everywhere */
static inline uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static inline struct rmf_arch arch_x86(void)
{
	return (struct rmf_arch){ .ptrs_per_pte = 512,
				  .cont_ptes = 1,
				  .tlb = RMF_TLB_X86,
				  .flush_ceiling = 33,
				  .max_dvm_ops = 512,
				  .page_mapcount = true,
				  .mkdirty_soft_dirty = true };
}

static inline struct rmf_arch arch_arm64(void)
{
	return (struct rmf_arch){ .ptrs_per_pte = 512,
				  .cont_ptes = 16,
				  .tlb = RMF_TLB_ARM64,
				  .flush_ceiling = 33,
				  .max_dvm_ops = 512,
				  .range_tlbi = true,
				  .page_mapcount = true };
}

/* The editions of rmapfast/policy.py, each as a change to the one before. */
static inline struct rmf_policy policy_per_page(void)
{
	return (struct rmf_policy){
		.clip = true, .nr_reset = true, .walk_done = RMF_DONE_WHOLE, .shmem_fallback = true
	};
}

static inline struct rmf_policy policy_v6_14(void)
{
	struct rmf_policy policy = policy_per_page();

	policy.mlock_at_once = policy.failure_swapbacked = true;
	policy.walk_done = RMF_DONE_NEVER;
	policy.split_ascending = policy.sharing_guess = policy.swap_single_empty = true;
	policy.shmem_fallback = false;
	return policy;
}

static inline struct rmf_policy policy_v6_15(void)
{
	struct rmf_policy policy = policy_per_page();

	policy.lazyfree = policy.all_or_nothing = true;
	policy.shmem_fallback = false;
	policy.clip = false;
	policy.walk_done = RMF_DONE_BATCHED;
	return policy;
}

static inline struct rmf_policy policy_v6_16(void)
{
	struct rmf_policy policy = policy_per_page();

	policy.lazyfree = true;
	policy.nr_reset = policy.shmem_fallback = false;
	return policy;
}

static inline struct rmf_policy policy_file_v5(void)
{
	struct rmf_policy policy = policy_v6_16();

	policy.file = policy.young_batched = true;
	return policy;
}

static inline struct rmf_policy policy_v7_0(void)
{
	struct rmf_policy policy = policy_file_v5();

	policy.uffd_wp = RMF_UFFD_PER_PAGE;
	policy.shmem_fallback = true;
	policy.respect = RMF_FPB_RESPECT_WRITE | RMF_FPB_RESPECT_SOFT_DIRTY;
	return policy;
}

static inline struct rmf_policy policy_v7_0_12(void)
{
	struct rmf_policy policy = policy_v7_0();

	policy.nr_reset = true;
	return policy;
}

static inline struct rmf_policy policy_v7_3(void)
{
	struct rmf_policy policy = policy_v7_0_12();

	policy.uffd_wp = RMF_UFFD_WHOLE_BATCH;
	policy.hwpoison_page0 = policy.mismatch_restores = true;
	return policy;
}

static inline struct rmf_policy policy_anon_swap(void)
{
	struct rmf_policy policy = policy_v7_0_12();

	policy.anon_swap = policy.skip_batch = true;
	return policy;
}

/* The policy of an edition that has an MGLRU (v6.12, v7.0, v7.2, v7.3). */
static inline struct rmf_policy policy_mglru(enum rmf_mglru_rule rule)
{
	struct rmf_policy policy = rule == RMF_MGLRU_V6_12  ? policy_v6_14()
				   : rule == RMF_MGLRU_V7_3 ? policy_v7_3()
							    : policy_v7_0_12();

	policy.mglru = rule;
	return policy;
}

struct world {
	struct rmf_run *run;
	struct rmf_population *pop; /* &run->pop */
};

struct vma_spec {
	uint64_t start;
	uint64_t nr; /* pages */
	uint64_t pgoff;
	uint32_t flags;
	uint32_t mm;
};

struct folio_spec {
	uint64_t pfn;
	uint64_t index;
	uint8_t order;
	uint32_t flags;
	int32_t refs; /* references besides those of the mappings and of the page or swap cache */
};

enum { FOLIO_LAZYFREE = RMF_FOLIO_ANON, FOLIO_FILE = 0, FOLIO_SHMEM = RMF_FOLIO_SWAPBACKED };
enum { FOLIO_SWAP = RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED | RMF_FOLIO_SWAPCACHE };

static inline void *resized(const void *array, uint64_t nr, size_t size)
{
	void *longer = realloc((void *)array, nr * size);

	if (!longer)
		abort();
	return longer;
}

static inline void *appended(const void *array, uint64_t nr, const void *value, size_t size)
{
	char *longer = resized(array, nr + 1, size);

	memcpy(longer + nr * size, value, size);
	return longer;
}

static inline uint32_t add_mm(struct world *world, uint64_t cpumask, uint32_t flags)
{
	struct rmf_population *pop = world->pop;
	uint64_t n = pop->nr_mms++;

	pop->mm_cpumask = appended(pop->mm_cpumask, n, &cpumask, sizeof(cpumask));
	pop->mm_flags = appended(pop->mm_flags, n, &flags, sizeof(flags));
	pop->mm_rss = resized(pop->mm_rss, (n + 1) * RMF_NR_MM_COUNTERS, sizeof(*pop->mm_rss));
	memset(pop->mm_rss + n * RMF_NR_MM_COUNTERS, 0, RMF_NR_MM_COUNTERS * sizeof(*pop->mm_rss));
	return (uint32_t)n;
}

/* A world with mm 0, which runs on the CPU that reclaims and on one other. So TLB flushes are
 * deferred. */
static inline struct world make_world(struct rmf_arch arch, struct rmf_policy policy)
{
	struct rmf_run *run = calloc(1, sizeof(*run));
	struct world world = { run, run ? &run->pop : NULL };
	uint64_t zero = 0;

	if (!run)
		abort();
	run->arch = arch;
	run->policy = policy;
	run->max_ptes_none = arch.ptrs_per_pte - 1;
	run->pop.ptrs_per_pte = arch.ptrs_per_pte;
	run->pop.rmap_start = appended(NULL, 0, &zero, sizeof(zero));
	add_mm(&world, 3, 0);
	return world;
}

static inline void free_world(struct world *world)
{
	struct rmf_population *pop = world->pop;
	const void *const arrays[] = {
		pop->ptes,
		pop->vma_start,
		pop->vma_end,
		pop->vma_pgoff,
		pop->vma_flags,
		pop->vma_mm,
		pop->vma_pte_base,
		pop->vma_window_start,
		pop->vma_window_end,
		pop->vma_table_base,
		pop->table_state,
		pop->folio_pfn,
		pop->folio_index,
		pop->folio_order,
		pop->folio_flags,
		pop->folio_refcount,
		pop->folio_mapcount,
		pop->folio_entire_mapcount,
		pop->folio_nr_pages_mapped,
		pop->folio_swap,
		pop->folio_page_base,
		pop->page_mapcount,
		pop->page_flags,
		pop->rmap_start,
		pop->rmap_vma,
		pop->mm_rss,
		pop->mm_cpumask,
		pop->mm_flags,
	};

	for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++)
		free((void *)arrays[i]);
	rmf_swap_map_free(world->run);
	rmf_deferred_free(world->run);
	free(world->run->pieces);
	free(world->run);
}

/* Give the arrays room for the pieces of every folio. To be called when the world is complete. */
static inline void give_room(struct world *world)
{
	struct rmf_population *pop = world->pop;
	struct rmf_fault fault;
	uint64_t folios, pairs;

	if (rmf_split_room(world->run, RMF_SPLITTER_MADVISE, &folios, &pairs, &fault))
		abort();
	folios += pop->nr_folios;
	pairs += pop->nr_rmap;
	pop->folio_pfn = resized(pop->folio_pfn, folios, sizeof(*pop->folio_pfn));
	pop->folio_index = resized(pop->folio_index, folios, sizeof(*pop->folio_index));
	pop->folio_order = resized(pop->folio_order, folios, sizeof(*pop->folio_order));
	pop->folio_flags = resized(pop->folio_flags, folios, sizeof(*pop->folio_flags));
	pop->folio_refcount = resized(pop->folio_refcount, folios, sizeof(*pop->folio_refcount));
	pop->folio_mapcount = resized(pop->folio_mapcount, folios, sizeof(*pop->folio_mapcount));
	pop->folio_entire_mapcount =
		resized(pop->folio_entire_mapcount, folios, sizeof(*pop->folio_entire_mapcount));
	pop->folio_nr_pages_mapped =
		resized(pop->folio_nr_pages_mapped, folios, sizeof(*pop->folio_nr_pages_mapped));
	pop->folio_swap = resized(pop->folio_swap, folios, sizeof(*pop->folio_swap));
	pop->folio_page_base = resized(pop->folio_page_base, folios, sizeof(*pop->folio_page_base));
	pop->rmap_start = resized(pop->rmap_start, folios + 1, sizeof(*pop->rmap_start));
	pop->rmap_vma = resized(pop->rmap_vma, pairs + 1, sizeof(*pop->rmap_vma));
	pop->folio_capacity = folios;
	pop->rmap_capacity = pairs;
	world->run->nr_given = pop->nr_folios;
	world->run->pieces = calloc(pop->nr_folios + 1, sizeof(*world->run->pieces));
	if (!world->run->pieces)
		abort();
}

/* Add a VMA whose window is the VMA itself. All its tables are there, and its entries are none. */
static inline uint32_t add_vma(struct world *world, struct vma_spec vma)
{
	struct rmf_population *pop = world->pop;
	uint64_t n = pop->nr_vmas++, end = vma.start + vma.nr, ptrs = pop->ptrs_per_pte;
	uint64_t tables = (end - 1) / ptrs - vma.start / ptrs + 1;

	pop->vma_start = appended(pop->vma_start, n, &vma.start, sizeof(vma.start));
	pop->vma_end = appended(pop->vma_end, n, &end, sizeof(end));
	pop->vma_pgoff = appended(pop->vma_pgoff, n, &vma.pgoff, sizeof(vma.pgoff));
	pop->vma_flags = appended(pop->vma_flags, n, &vma.flags, sizeof(vma.flags));
	pop->vma_mm = appended(pop->vma_mm, n, &vma.mm, sizeof(vma.mm));
	pop->vma_pte_base = appended(pop->vma_pte_base, n, &pop->nr_ptes, sizeof(pop->nr_ptes));
	pop->vma_window_start = appended(pop->vma_window_start, n, &vma.start, sizeof(vma.start));
	pop->vma_window_end = appended(pop->vma_window_end, n, &end, sizeof(end));
	pop->vma_table_base =
		appended(pop->vma_table_base, n, &pop->nr_tables, sizeof(pop->nr_tables));
	pop->ptes = resized(pop->ptes, pop->nr_ptes + vma.nr, sizeof(*pop->ptes));
	memset(pop->ptes + pop->nr_ptes, 0, vma.nr * sizeof(*pop->ptes));
	pop->nr_ptes += vma.nr;
	pop->table_state =
		resized(pop->table_state, pop->nr_tables + tables, sizeof(*pop->table_state));
	memset(pop->table_state + pop->nr_tables, RMF_TABLE_PTE, tables);
	pop->nr_tables += tables;
	return (uint32_t)n;
}

/* Let VMAs a and a + 1, which are adjacent and of one mm, see the entries of each other. */
static inline void join_windows(struct world *world, uint32_t a)
{
	((uint64_t *)world->pop->vma_window_end)[a] = world->pop->vma_end[a + 1];
	((uint64_t *)world->pop->vma_window_start)[a + 1] = world->pop->vma_start[a];
}

/* Add an unmapped folio with the references of the page cache or the swap cache, and `refs`
 * more. */
static inline uint32_t add_folio(struct world *world, struct folio_spec folio)
{
	struct rmf_population *pop = world->pop;
	uint64_t n = pop->nr_folios++, swap = 0, nr = (uint64_t)1 << folio.order;
	bool cached = !(folio.flags & RMF_FOLIO_ANON) || (folio.flags & RMF_FOLIO_SWAPCACHE);
	int32_t refs = folio.refs + (cached ? (int32_t)nr : 0), zero = 0;

	pop->folio_pfn = appended(pop->folio_pfn, n, &folio.pfn, sizeof(folio.pfn));
	pop->folio_index = appended(pop->folio_index, n, &folio.index, sizeof(folio.index));
	pop->folio_order = appended(pop->folio_order, n, &folio.order, sizeof(folio.order));
	pop->folio_flags = appended(pop->folio_flags, n, &folio.flags, sizeof(folio.flags));
	pop->folio_refcount = appended(pop->folio_refcount, n, &refs, sizeof(refs));
	pop->folio_mapcount = appended(pop->folio_mapcount, n, &zero, sizeof(zero));
	pop->folio_entire_mapcount = appended(pop->folio_entire_mapcount, n, &zero, sizeof(zero));
	pop->folio_nr_pages_mapped = appended(pop->folio_nr_pages_mapped, n, &zero, sizeof(zero));
	pop->folio_swap = appended(pop->folio_swap, n, &swap, sizeof(swap));
	pop->folio_page_base =
		appended(pop->folio_page_base, n, &pop->nr_pages, sizeof(pop->nr_pages));
	pop->page_mapcount =
		resized(pop->page_mapcount, pop->nr_pages + nr, sizeof(*pop->page_mapcount));
	pop->page_flags = resized(pop->page_flags, pop->nr_pages + nr, sizeof(*pop->page_flags));
	memset(pop->page_mapcount + pop->nr_pages, 0, nr * sizeof(*pop->page_mapcount));
	memset(pop->page_flags + pop->nr_pages, 0, nr);
	pop->nr_pages += nr;
	pop->rmap_start = appended(pop->rmap_start, n + 1, &pop->nr_rmap, sizeof(pop->nr_rmap));
	return (uint32_t)n;
}

static inline rmf_pte *pte_at(const struct world *world, uint32_t vma, uint64_t vpn)
{
	return world->pop->ptes + world->pop->vma_pte_base[vma] +
	       (vpn - world->pop->vma_start[vma]);
}

static inline rmf_pte mk_pte(uint64_t pfn, rmf_pte flags)
{
	return (pfn << RMF_PFN_SHIFT) | flags;
}

/* Add a VMA that may map the folio added last. */
static inline void add_rmap(struct world *world, uint32_t vma)
{
	struct rmf_population *pop = world->pop;

	pop->rmap_vma = appended(pop->rmap_vma, pop->nr_rmap++, &vma, sizeof(vma));
	((uint64_t *)pop->rmap_start)[pop->nr_folios] = pop->nr_rmap;
}

static inline int64_t *rss_of(const struct world *world, uint32_t folio, uint32_t mm)
{
	uint32_t flags = world->pop->folio_flags[folio];
	enum rmf_mm_counter counter = flags & RMF_FOLIO_SWAPBACKED ? RMF_MM_SHMEMPAGES
								   : RMF_MM_FILEPAGES;

	if (flags & RMF_FOLIO_ANON)
		counter = RMF_MM_ANONPAGES;
	return &world->pop->mm_rss[mm * RMF_NR_MM_COUNTERS + counter];
}

/* Map what the VMA covers of the folio added last, with one mapcount, reference and rss
 * page for each page. If that is only a part, the page mapcounts become valid. Returns the
 * number of pages. */
static inline uint32_t map_folio(struct world *world, uint32_t vma, rmf_pte flags)
{
	struct rmf_population *pop = world->pop;
	uint32_t folio = (uint32_t)pop->nr_folios - 1, nr = rmf_folio_nr_pages(pop, folio),
		 mapped = 0;
	int32_t *mapcount = pop->page_mapcount + pop->folio_page_base[folio];

	for (uint32_t i = 0; i < nr; i++) {
		uint64_t slot = pop->folio_index[folio] + i - pop->vma_pgoff[vma];

		if (slot >= pop->vma_end[vma] - pop->vma_start[vma])
			continue;
		*pte_at(world, vma, pop->vma_start[vma] + slot) =
			mk_pte(pop->folio_pfn[folio] + i, flags | RMF_PTE_PRESENT);
		pop->folio_nr_pages_mapped[folio] += mapcount[i]++ == 0;
		mapped++;
	}
	pop->folio_mapcount[folio] += (int32_t)mapped;
	pop->folio_refcount[folio] += (int32_t)mapped;
	*rss_of(world, folio, pop->vma_mm[vma]) += mapped;
	if (mapped < nr)
		pop->folio_flags[folio] |= RMF_FOLIO_PAGE_MAPCOUNTS;
	add_rmap(world, vma);
	return mapped;
}

/* A world with one VMA at `vpn`, and one folio of `order` at PFN 0x1000 that the VMA maps whole.
 * The folio has an isolation reference. */
static inline struct world make_mapped(struct rmf_arch arch, struct rmf_policy policy, uint64_t vpn,
				       uint8_t order, uint32_t folio_flags, uint32_t vma_flags,
				       rmf_pte pte_flags)
{
	struct world world = make_world(arch, policy);
	uint32_t vma = add_vma(&world, (struct vma_spec){ .start = vpn,
							  .nr = (uint64_t)1 << order,
							  .flags = vma_flags });

	add_folio(&world, (struct folio_spec){
				  .pfn = 0x1000, .order = order, .flags = folio_flags, .refs = 1 });
	map_folio(&world, vma, pte_flags);
	return world;
}

static inline uint64_t event(const struct world *world, enum rmf_event which)
{
	return world->run->ev[which];
}

static inline void expect_event(const struct world *world, enum rmf_event which, uint64_t want)
{
	expect_eq((int64_t)event(world, which), (int64_t)want, rmf_event_name(which));
}

struct event_count {
	enum rmf_event event;
	uint64_t nr;
};

/* Expect these events and no others. */
static inline void expect_only(const struct world *world, const struct event_count *wanted,
			       size_t nr)
{
	uint64_t want[RMF_NR_EVENTS] = { 0 };

	for (size_t i = 0; i < nr; i++)
		want[wanted[i].event] = wanted[i].nr;
	for (int i = 0; i < RMF_NR_EVENTS; i++)
		expect_event(world, (enum rmf_event)i, want[i]);
}

/* The number of slots of a VMA that are present. */
static inline uint64_t nr_present(const struct world *world, uint32_t vma)
{
	uint64_t nr = 0;

	for (uint64_t vpn = world->pop->vma_start[vma]; vpn < world->pop->vma_end[vma]; vpn++)
		nr += rmf_pte_present(*pte_at(world, vma, vpn));
	return nr;
}

/* Mark pages of a folio with RMF_PAGE_* flags, besides what they have. */
static inline void mark_page(struct world *world, uint32_t folio, uint32_t page, uint8_t flag)
{
	struct rmf_population *pop = world->pop;
	uint8_t *flags = pop->page_flags + pop->folio_page_base[folio];

	if (!(pop->folio_flags[folio] & RMF_FOLIO_PAGE_FLAGS)) {
		bool exclusive = pop->folio_flags[folio] & RMF_FOLIO_EXCLUSIVE;

		memset(flags, exclusive ? RMF_PAGE_EXCLUSIVE : 0, rmf_folio_nr_pages(pop, folio));
		pop->folio_flags[folio] &= ~(uint32_t)RMF_FOLIO_EXCLUSIVE;
		pop->folio_flags[folio] |= RMF_FOLIO_PAGE_FLAGS;
	}
	flags[page] |= flag;
}

/* Take a mapping of a page away, as munmap() does. */
static inline void make_hole(struct world *world, uint32_t vma, uint32_t folio, uint32_t page)
{
	struct rmf_population *pop = world->pop;
	int32_t *mapcount = pop->page_mapcount + pop->folio_page_base[folio];
	uint32_t nr = rmf_folio_nr_pages(pop, folio);

	if (!(pop->folio_flags[folio] & RMF_FOLIO_PAGE_MAPCOUNTS))
		for (uint32_t i = 0; i < nr; i++)
			mapcount[i] = pop->folio_mapcount[folio] / (int32_t)nr;
	pop->folio_flags[folio] |= RMF_FOLIO_PAGE_MAPCOUNTS;
	mapcount[page]--;
	*pte_at(world, vma,
		pop->vma_start[vma] + pop->folio_index[folio] + page - pop->vma_pgoff[vma]) = 0;
	pop->folio_mapcount[folio]--;
	pop->folio_refcount[folio]--;
	pop->folio_nr_pages_mapped[folio]--;
	(*rss_of(world, folio, pop->vma_mm[vma]))--;
}

static inline void expect_sound(const struct world *world)
{
	struct rmf_fault fault;

	expect_eq(rmf_population_check(world->pop, &fault), 0, "the population fits together");
}

#endif
