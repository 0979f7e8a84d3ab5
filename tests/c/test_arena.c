/* Blocks that are given back and taken again, by several threads at a time: no two hold the same
 * memory. `make tsan` runs this under the thread sanitizer. */
#include <pthread.h>
#include <stdatomic.h>

#include "arena.h"
#include "testing.h"

enum { THREADS = 4, ROUNDS = 400 };

static atomic_uint overwritten, missing;

static void *take_and_give(void *id)
{
	const unsigned char mark = (unsigned char)(uintptr_t)id;

	for (size_t round = 0; round < ROUNDS; round++) {
		const size_t size = 64 << (round + mark) % 8;
		size_t got[2];
		unsigned char *blocks[2];

		for (int i = 0; i < 2; i++) {
			blocks[i] = rmf_arena_take(size, &got[i]);
			if (!blocks[i] || got[i] < size) {
				atomic_fetch_add(&missing, 1);
				return NULL;
			}
			memset(blocks[i], mark + i * THREADS, got[i]);
		}
		for (int i = 0; i < 2; i++) {
			for (size_t at = 0; at < got[i]; at++)
				if (blocks[i][at] != mark + i * THREADS)
					atomic_fetch_add(&overwritten, 1);
			rmf_arena_give(blocks[i], got[i]);
		}
	}
	return NULL;
}

static void test_threads(void)
{
	pthread_t threads[THREADS];

	for (uintptr_t id = 0; id < THREADS; id++)
		expect_eq(pthread_create(&threads[id], NULL, take_and_give, (void *)id), 0,
			  "pthread_create");
	for (int id = 0; id < THREADS; id++)
		pthread_join(threads[id], NULL);
	expect_eq(atomic_load(&missing), 0, "blocks that were not there");
	expect_eq(atomic_load(&overwritten), 0, "bytes that another thread wrote");
}

static void test_a_block_is_used_again(void)
{
	size_t got, again;
	void *first = rmf_arena_take(1 << 20, &got);

	rmf_arena_give(first, got);
	void *second = rmf_arena_take(1 << 20, &again);

	expect(second == first && again == got, "the block that was given back");
	rmf_arena_give(second, again);
}

int main(void)
{
	run_test("threads", test_threads);
	run_test("a block is used again", test_a_block_is_used_again);
	return report("test_arena");
}
