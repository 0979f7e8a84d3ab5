/* The lane `make tsan`: described populations, and populations in memory, by 1, 2, 4 and 8 threads
 * under the thread sanitizer.
 *
 * Each thread of a described population has a stream of its own, and all share the description, the
 * architecture and the policy, as the threads of rmapfast/stream.py do. In memory the threads share
 * all arrays and make visits ahead of one loop, as in rmapfast/loop.py. The sums of their events,
 * and the arrays, must be the same for every number of threads. The sanitizer ends the program with
 * an error at a data race. */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "folio_batch.h"
#include "memo.h"
#include "reclaim.h"
#include "stream.h"

enum { BLOCKS = 24, MOST_THREADS = 8 };

struct job {
	struct rmf_description what;
	struct rmf_arch arch;
	struct rmf_policy policy;
	const struct rmf_isa *isa;
	atomic_uint next; /* block that nobody has taken yet */
	bool fast;
};

struct worker {
	struct job *job;
	uint64_t ev[RMF_NR_EVENTS];
	uint64_t visited;
	bool failed;
};

static void *work(void *argument)
{
	struct worker *worker = argument;
	struct job *job = worker->job;
	struct rmf_stream *stream =
		rmf_stream_new(&job->what, &job->arch, &job->policy, true, 3, job->isa, job->fast);
	unsigned int block;

	worker->failed = !stream;
	while (stream && (block = atomic_fetch_add(&job->next, 1)) < BLOCKS) {
		const uint64_t first = (uint64_t)block * RMF_LAYOUT_BLOCK;
		const uint32_t made = rmf_stream_visit(stream, first, first + RMF_LAYOUT_BLOCK, 1,
						       RMF_STREAM_PASSES, UINT64_MAX);

		worker->failed |= made != RMF_STREAM_PASSES;
		for (uint32_t pass = 0; pass < made; pass++) {
			worker->visited += rmf_stream_visited(stream, pass);
			for (int i = 0; i < RMF_NR_EVENTS; i++)
				worker->ev[i] += rmf_stream_run(stream, pass)->ev[i];
		}
	}
	rmf_stream_free(stream);
	return NULL;
}

/* Add up what so many threads count. False if one failed. */
static bool run(struct job *job, unsigned int threads, uint64_t *visited, uint64_t *ev)
{
	static struct worker workers[MOST_THREADS];
	pthread_t ids[MOST_THREADS];
	bool failed = false;

	atomic_store(&job->next, 0);
	*visited = 0;
	memset(ev, 0, RMF_NR_EVENTS * sizeof(*ev));
	for (unsigned int i = 0; i < threads; i++) {
		workers[i] = (struct worker){ .job = job };
		if (pthread_create(&ids[i], NULL, work, &workers[i]))
			return false;
	}
	for (unsigned int i = 0; i < threads; i++) {
		pthread_join(ids[i], NULL);
		failed |= workers[i].failed;
		*visited += workers[i].visited;
		for (int event = 0; event < RMF_NR_EVENTS; event++)
			ev[event] += workers[i].ev[event];
	}
	return !failed;
}

/* ---- in memory ---- */

/* A population of some blocks, and everything that a run changes in it or counts, one behind the
 * other so that two of them can be compared at once. */
struct world {
	struct rmf_run *run;
	unsigned char *memory;
	size_t used;
	uint32_t *inactive, *active;
	uint64_t nr_lru;
	/* not compared: what nobody writes */
	uint64_t vma[4][2];
	uint64_t window[2][2];
	uint64_t pte_base[2], table_base[2], cpumask[2];
	uint32_t vma_flags[2], vma_mm[2], mm_flags[2];
};

enum { WORLD_BLOCKS = 3, WORLD_PAGES = WORLD_BLOCKS * RMF_LAYOUT_BLOCK, WORLD_SIZE = 1 << 24 };

static void *take(struct world *world, uint64_t nr, size_t size)
{
	void *memory = world->memory + world->used;

	world->used += (nr * size + 63) / 64 * 64;
	if (world->used > WORLD_SIZE)
		abort();
	return memory;
}

static void make_world(struct world *world, const struct job *job)
{
	const struct rmf_description *what = &job->what;
	const uint64_t pages = WORLD_PAGES, mms = what->sharing,
		       tables = pages / what->ptrs_per_pte + 1;
	struct rmf_populated made;
	struct rmf_population *pop;

	*world = (struct world){ .run = calloc(1, sizeof(*world->run)),
				 .memory = calloc(1, WORLD_SIZE) };
	if (!world->run || !world->memory)
		abort();
	made = (struct rmf_populated){
		.ptes = take(world, mms * pages, 8),
		.folio_pfn = take(world, pages, 8),
		.folio_index = take(world, pages, 8),
		.folio_order = take(world, pages, 1),
		.folio_flags = take(world, pages, 4),
		.folio_refcount = take(world, pages, 4),
		.folio_mapcount = take(world, pages, 4),
		.rmap_start = take(world, pages + 1, 8),
		.folio_nr_pages_mapped = take(world, pages, 4),
		.folio_page_base = take(world, pages, 8),
		.page_mapcount = take(world, pages, 4),
		.rmap_vma = take(world, mms * pages, 4),
		.mm_rss = take(world, mms * RMF_NR_MM_COUNTERS, 8),
		.lru = take(world, pages, 4),
	};
	job->isa->populate(what, 0, pages, &made);
	for (uint32_t i = 0; i < mms; i++) {
		world->vma[0][i] = world->window[0][i] = what->vpn;
		world->vma[1][i] = world->window[1][i] = what->vpn + pages;
		world->vma[2][i] = what->pgoff;
		world->pte_base[i] = i * pages;
		world->table_base[i] = i * tables;
		world->vma_mm[i] = i;
		world->cpumask[i] = 3;
	}
	pop = &world->run->pop;
	*pop = (struct rmf_population){
		.ptrs_per_pte = what->ptrs_per_pte,
		.ptes = made.ptes,
		.nr_ptes = mms * pages,
		.vma_start = world->vma[0],
		.vma_end = world->vma[1],
		.vma_pgoff = world->vma[2],
		.vma_flags = world->vma_flags,
		.vma_mm = world->vma_mm,
		.vma_pte_base = world->pte_base,
		.vma_window_start = world->window[0],
		.vma_window_end = world->window[1],
		.vma_table_base = world->table_base,
		.nr_vmas = mms,
		.table_state = take(world, mms * tables, 1),
		.nr_tables = mms * tables,
		.folio_pfn = made.folio_pfn,
		.folio_index = made.folio_index,
		.folio_order = made.folio_order,
		.folio_flags = made.folio_flags,
		.folio_refcount = made.folio_refcount,
		.folio_mapcount = made.folio_mapcount,
		.folio_entire_mapcount = take(world, pages, 4),
		.folio_nr_pages_mapped = made.folio_nr_pages_mapped,
		.folio_swap = take(world, pages, 8),
		.folio_page_base = made.folio_page_base,
		.nr_folios = made.nr_folios,
		.page_mapcount = made.page_mapcount,
		.page_flags = take(world, pages, 1),
		.nr_pages = pages,
		.rmap_start = made.rmap_start,
		.rmap_vma = made.rmap_vma,
		.nr_rmap = made.nr_folios * mms,
		.mm_rss = made.mm_rss,
		.mm_cpumask = world->cpumask,
		.mm_flags = world->mm_flags,
		.nr_mms = mms,
	};
	world->inactive = take(world, pages, 4);
	world->active = take(world, pages, 4);
	world->nr_lru = made.nr_lru;
	/* neighbours are visited by different threads */
	for (uint64_t i = 0; i < made.nr_lru; i++)
		world->inactive[i] = made.lru[i * 31 % made.nr_lru];
}

static void free_world(struct world *world)
{
	rmf_memo_free(world->run->memo);
	free(world->run);
	free(world->memory);
}

struct visitor {
	struct rmf_ahead *ahead;
	uint32_t number;
};

static void *visit_ahead(void *argument)
{
	const struct visitor *visitor = argument;

	rmf_ahead_visit(visitor->ahead, visitor->number);
	return NULL;
}

static bool visit_by_threads(struct rmf_reclaim *reclaim, unsigned int threads)
{
	struct visitor visitors[MOST_THREADS];
	pthread_t ids[MOST_THREADS];

	rmf_reclaim_begin_ahead(reclaim);
	for (unsigned int i = 0; i < threads; i++) {
		visitors[i] = (struct visitor){ reclaim->ahead, i };
		if (pthread_create(&ids[i], NULL, visit_ahead, &visitors[i]))
			return false;
	}
	for (unsigned int i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	rmf_ahead_end(reclaim->ahead, reclaim->run);
	return true;
}

/* The mapcounts of pages whose folio has none of its own are anything: the rules leave there what
 * they had on the way, the memo does not. */
static void clear_unused_mapcounts(struct world *world)
{
	struct rmf_population *pop = &world->run->pop;

	for (uint64_t i = 0; i < pop->nr_folios; i++)
		if (!(pop->folio_flags[i] & RMF_FOLIO_PAGE_MAPCOUNTS))
			memset(pop->page_mapcount + pop->folio_page_base[i], 0,
			       rmf_folio_nr_pages(pop, i) * sizeof(*pop->page_mapcount));
}

/* Reclaim three quarters of a population. False if that failed, or if nothing was shared out. */
static bool reclaim_world(struct world *world, const struct job *job, unsigned int threads)
{
	const struct rmf_lru_options options = { 0 };
	struct rmf_reclaim reclaim = { 0 };
	struct rmf_fault fault;
	bool done, shared_out = threads == 1;

	make_world(world, job);
	world->run->arch = job->arch;
	world->run->policy = job->policy;
	world->run->max_ptes_none = job->what.ptrs_per_pte - 1;
	world->run->memo = job->fast ? rmf_memo_new(job->isa) : NULL;
	done = !rmf_reclaim_start(&reclaim, world->run, world->inactive, world->nr_lru,
				  world->active, 0, WORLD_PAGES / 4 * 3, &options, &fault) &&
	       (threads == 1 || !rmf_reclaim_share_out(&reclaim, threads, 1000, &fault));
	while (done && rmf_reclaim_step(&reclaim, 1 << 20))
		if (rmf_reclaim_ahead_is_due(&reclaim)) {
			done = visit_by_threads(&reclaim, threads);
			shared_out = true;
		}
	rmf_reclaim_free(&reclaim);
	clear_unused_mapcounts(world);
	return done && shared_out && !world->run->error;
}

static bool same_world(const struct world *one, const struct world *other)
{
	return !memcmp(one->memory, other->memory, WORLD_SIZE) &&
	       !memcmp(one->run->ev, other->run->ev, sizeof(one->run->ev)) &&
	       !memcmp(one->run->referenced_ev, other->run->referenced_ev, sizeof(one->run->ev)) &&
	       !memcmp(one->run->batch_lengths, other->run->batch_lengths,
		       sizeof(one->run->batch_lengths)) &&
	       !memcmp(one->run->isolated, other->run->isolated, sizeof(one->run->isolated)) &&
	       one->run->mapped_stat == other->run->mapped_stat;
}

/* Returns how many numbers of threads gave something else than one thread. */
static unsigned int differ_in_memory(const struct job *job)
{
	unsigned int failures = 0;
	struct world one, other;

	failures += !reclaim_world(&one, job, 1);
	for (unsigned int threads = 2; threads <= MOST_THREADS; threads *= 2) {
		if (!reclaim_world(&other, job, threads) || !same_world(&one, &other)) {
			printf("streams: in memory, with %u threads it failed or differs\n",
			       threads);
			failures++;
		}
		free_world(&other);
	}
	free_world(&one);
	return failures;
}

int main(void)
{
	static const uint32_t kinds[] = { 0, RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED,
					  RMF_FOLIO_ANON };
	uint64_t ev[2][RMF_NR_EVENTS], visited[2];
	unsigned int runs = 0, failures = 0;

	for (unsigned int variant = 0; variant < 12; variant++) {
		const bool arm = variant & 1, anon = kinds[variant / 4] & RMF_FOLIO_ANON;
		struct job job = {
			.what = { .pages = (uint64_t)BLOCKS * RMF_LAYOUT_BLOCK,
				  .seed = variant,
				  .vpn = 1 << 20,
				  .pgoff = 1 << 20,
				  .pfn_base = 1 << 20,
				  .ptrs_per_pte = 512,
				  .cont_ptes = arm ? 16 : 1,
				  .nr_orders = 2,
				  .order = { 4, 2 },
				  .weight = { (uint64_t)3 << 30, (uint64_t)1 << 30 },
				  .aligned = true,
				  .anon = anon,
				  .exclusive = anon,
				  .folio_flags = kinds[variant / 4],
				  .vma_flags = anon ? RMF_VMA_ANON : 0,
				  .sharing = 1,
				  .rss_counter = anon ? RMF_MM_ANONPAGES : RMF_MM_FILEPAGES,
				  /* an anonymous folio with holes is split, which streams cannot */
				  .every = variant / 4 == 1 ? 0 : 37,
				  .rate = { [RMF_RATE_MAPPED] = { .always = true },
					    [RMF_RATE_YOUNG] = { .below = UINT64_MAX / 2 },
					    [RMF_RATE_DIRTY] = { .below = UINT64_MAX / 3 } } },
			.arch = { .ptrs_per_pte = 512,
				  .cont_ptes = arm ? 16 : 1,
				  .tlb = arm ? RMF_TLB_ARM64 : RMF_TLB_X86,
				  .flush_ceiling = 33,
				  .max_dvm_ops = 512,
				  .page_mapcount = true },
			.policy = { .lazyfree = true,
				    .file = true,
				    .clip = true,
				    .nr_reset = true,
				    .walk_done = RMF_DONE_WHOLE,
				    .respect = RMF_FPB_RESPECT_WRITE },
			.isa = rmf_isa(0),
			.fast = variant & 2,
		};

		for (unsigned int threads = 1; threads <= MOST_THREADS; threads *= 2) {
			const bool first = threads == 1;

			runs++;
			if (run(&job, threads, &visited[!first], ev[!first]) && visited[0] &&
			    visited[!first] == visited[0] &&
			    !memcmp(ev[!first], ev[0], sizeof(ev[0])))
				continue;
			failures++;
			printf("streams: variant %u differs with %u threads\n", variant, threads);
		}
		if (!anon) {
			job.what.pages = WORLD_PAGES;
			job.what.sharing = 1 + variant / 2 % 2;
			runs += 4;
			failures += differ_in_memory(&job);
		}
	}
	printf("streams: %u runs with 1, 2, 4 and 8 threads, %u failed\n", runs, failures);
	return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
