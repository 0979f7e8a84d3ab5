/* The lane `make tsan`: described populations by 1, 2, 4 and 8 threads under the thread sanitizer.
 *
 * Each thread has a stream of its own, and all share the description, the architecture and the
 * policy, as the threads of rmapfast/stream.py do. The sums of their events must be the same for
 * every number of threads. The sanitizer ends the program with an error at a data race. */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "folio_batch.h"
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
	}
	printf("streams: %u runs of %u blocks with 1, 2, 4 and 8 threads, %u failed\n", runs,
	       BLOCKS, failures);
	return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
