/* The shrinker of the deferred-split queue. */
#ifndef RMF_SHRINKER_H
#define RMF_SHRINKER_H

#include "run.h"

/* Models do_shrink_slab(), mm/shrinker.c, and deferred_split_scan(), mm/huge_memory.c, Linux v7.0,
 * in a pass of reclaim of the given priority. Returns how many folios were split. Their pieces are
 * still to be placed on the LRU lists (struct rmf_pieces). */
uint64_t rmf_shrink_deferred(struct rmf_run *run, uint32_t priority);

#endif
