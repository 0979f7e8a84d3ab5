/* Memory for large arrays that come and go. What is given back is kept and used again: the pages of
 * a new block have to be made by the kernel, one fault each, which took 23% to 42% of a run with
 * its copies. */
#ifndef RMF_ARENA_H
#define RMF_ARENA_H

#include <stddef.h>

/* A block of `size` bytes or more, *got of them, with anything in it; NULL without memory. */
void *rmf_arena_take(size_t size, size_t *got);

/* Give back a block of `got` bytes. */
void rmf_arena_give(void *block, size_t got);

/* `size` bytes that are zero and begin at a cache line; NULL without memory. Large ones take memory
 * only where they are written. calloc() writes the zeroes itself where it uses memory again that
 * was freed, which took 9% of a run with its copies. */
void *rmf_zeroes_take(size_t size);

/* Give back `size` bytes of rmf_zeroes_take(). */
void rmf_zeroes_give(void *zeroes, size_t size);

#endif
