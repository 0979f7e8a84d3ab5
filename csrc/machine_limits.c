#include "machine_limits.h"

#include <string.h>

/* Words per turn, with a sum of its own for each: one sum alone would wait for the addition before. */
enum { LANES = 16 };

static uint64_t total(const uint64_t sums[LANES])
{
	uint64_t sum = 0;

	for (int lane = 0; lane < LANES; lane++)
		sum += sums[lane];
	return sum;
}

uint64_t rmf_limit_read(const uint64_t *words, size_t n)
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

uint64_t rmf_limit_read_clear(uint64_t *words, size_t n)
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

void rmf_limit_copy(uint64_t *restrict to, const uint64_t *restrict from, size_t n)
{
	memcpy(to, from, n * sizeof(*to));
}
