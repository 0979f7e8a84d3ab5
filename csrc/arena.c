#define _DEFAULT_SOURCE /* madvise(), MAP_ANONYMOUS */
#include "arena.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

enum { NR_SPARE = 4 };

static const size_t HUGE_PAGE = (size_t)1 << 21;
/* so much is kept in all for the next time */
static const size_t MOST_SPARE = (size_t)1 << 30;

static struct {
	void *block;
	size_t size;
} spare[NR_SPARE];

static size_t huge_pages(size_t size)
{
	return (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
}

/* Held while `spare` is read or written, a few loads and stores at a time: Python without a GIL
 * lets several threads come here. */
static atomic_flag held = ATOMIC_FLAG_INIT;

static void hold(void)
{
	while (atomic_flag_test_and_set_explicit(&held, memory_order_acquire))
		;
}

static void release(void)
{
	atomic_flag_clear_explicit(&held, memory_order_release);
}

/* Memory that begins at a cache line. `size` is a multiple of one. */
static void *new_block(size_t size)
{
#ifdef __linux__
	if (size >= 2 * HUGE_PAGE) {
		void *block = aligned_alloc(HUGE_PAGE, size);

		if (block)
			madvise(block, size, MADV_HUGEPAGE);
		return block;
	}
#endif
	return aligned_alloc(64, size);
}

void *rmf_arena_take(size_t size, size_t *got)
{
	const size_t unit = size >= 2 * HUGE_PAGE ? HUGE_PAGE : 64;
	int best = -1;

	if (size > SIZE_MAX / 2)
		return NULL;
	size = (size + unit) / unit * unit;
	hold();
	for (int i = 0; i < NR_SPARE; i++)
		if (spare[i].block && spare[i].size >= size && spare[i].size / 2 <= size &&
		    (best < 0 || spare[i].size < spare[best].size))
			best = i;
	if (best < 0) {
		release();
		*got = size;
		return new_block(size);
	}
	void *block = spare[best].block;

	*got = spare[best].size;
	spare[best].block = NULL;
	release();
	return block;
}

void rmf_arena_give(void *block, size_t got)
{
	size_t kept = got;
	int at = 0;

	hold();
	for (int i = 0; i < NR_SPARE; i++)
		kept += spare[i].block ? spare[i].size : 0;
	/* the smallest makes room */
	for (int i = 0; i < NR_SPARE; i++) {
		const size_t size = spare[i].block ? spare[i].size : 0,
			     least = spare[at].block ? spare[at].size : 0;

		if (size < least)
			at = i;
	}
	if (kept <= MOST_SPARE && (!spare[at].block || spare[at].size <= got)) {
		void *smaller = spare[at].block;

		spare[at].block = block;
		spare[at].size = got;
		block = smaller;
	}
	release();
	/* outside: to free a large block takes a while */
	free(block);
}

void *rmf_zeroes_take(size_t size)
{
	uint8_t *block;

	if (size > SIZE_MAX / 2)
		return NULL;
#ifdef __linux__
	if (size >= HUGE_PAGE) {
		/* it begins at a huge page, so that whoever only reads it takes one fault for each
		 */
		const size_t whole = huge_pages(size), more = whole + HUGE_PAGE;
		size_t before;

		block = mmap(NULL, more, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if ((void *)block == MAP_FAILED)
			return NULL;
		before = -(uintptr_t)block & (HUGE_PAGE - 1);
		if (before)
			munmap(block, before);
		munmap(block + before + whole, more - before - whole);
		madvise(block + before, whole, MADV_HUGEPAGE);
		return block + before;
	}
#endif
	block = aligned_alloc(64, (size + 64) / 64 * 64);
	return block ? memset(block, 0, size) : NULL;
}

void rmf_zeroes_give(void *zeroes, size_t size)
{
#ifdef __linux__
	if (size >= HUGE_PAGE) {
		munmap(zeroes, huge_pages(size));
		return;
	}
#endif
	(void)size;
	free(zeroes);
}
