/* What this machine's memory allows: the passes that benchmarks are set against. Nothing is simulated here. limits.py builds and loads it. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Words per turn. Each has a sum of its own, because a single sum would wait for the addition before. */
enum { LANES = 16 };

static uint64_t total(const uint64_t sums[LANES])
{
	uint64_t sum = 0;

	for (int lane = 0; lane < LANES; lane++)
		sum += sums[lane];
	return sum;
}

/* Load each word; returns the sum. */
uint64_t limit_read(const uint64_t *words, size_t n)
{
	uint64_t sums[LANES] = { 0 };
	size_t i = 0;

	for (; i + LANES <= n; i += LANES)
		for (size_t lane = 0; lane < LANES; lane++)
			sums[lane] += words[i + lane];
	for (; i < n; i++)
		sums[0] += words[i];
	return total(sums);
}

/* Load each word and store 0 in its place, in one pass; returns the sum. No unmap of n entries can do less. */
uint64_t limit_read_clear(uint64_t *words, size_t n)
{
	uint64_t sums[LANES] = { 0 };
	size_t i = 0;

	for (; i + LANES <= n; i += LANES)
		for (size_t lane = 0; lane < LANES; lane++) {
			sums[lane] += words[i + lane];
			words[i + lane] = 0;
		}
	for (; i < n; i++) {
		sums[0] += words[i];
		words[i] = 0;
	}
	return total(sums);
}

/* Copy n words; the two arrays do not overlap. */
void limit_copy(uint64_t *restrict to, const uint64_t *restrict from, size_t n)
{
	memcpy(to, from, n * sizeof(*to));
}
