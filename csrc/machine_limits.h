/* What this machine's memory allows: the passes that benchmarks are set against. Nothing is simulated here. */
#ifndef RMF_MACHINE_LIMITS_H
#define RMF_MACHINE_LIMITS_H

#include <stddef.h>
#include <stdint.h>

/* Load each word; returns the sum. */
uint64_t rmf_limit_read(const uint64_t *words, size_t n);

/* Load each word and store 0 in its place, in one pass; returns the sum. No unmap of n entries can do less. */
uint64_t rmf_limit_read_clear(uint64_t *words, size_t n);

/* Copy n words; the two arrays do not overlap. */
void rmf_limit_copy(uint64_t *restrict to, const uint64_t *restrict from, size_t n);

#endif
