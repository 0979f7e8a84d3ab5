/* A described population that is made, visited and discarded block by block, so that it may be
 * larger than the memory.
 *
 * Pass 1 comes to its folios in address order. Pass 2 comes to those of them that were kept, in the
 * same order, and so on. What becomes of a folio in a pass depends on nothing outside its block. So
 * a block can be taken through two passes while it is in the cache, although the loop comes to its
 * second pass only after the first pass of all blocks. Otherwise a block is made again for a later
 * pass, and taken through the passes before, whose events were counted then. */
#ifndef RMF_STREAM_H
#define RMF_STREAM_H

#include "isa.h"
#include "visit.h"

/* The memory of one block, for one thread at a time. */
struct rmf_stream;

/* A stream, or NULL without memory. With `swap` there is unlimited swap space; without it,
 * swapbacked folios are on no list. An earlier pass that is repeated takes its swap slots again.
 * Without `fast` every folio is visited by the rules. */
struct rmf_stream *rmf_stream_new(const struct rmf_description *what, const struct rmf_arch *arch,
				  const struct rmf_policy *policy, bool swap, uint64_t cpumask,
				  const struct rmf_isa *isa, bool fast);
void rmf_stream_free(struct rmf_stream *stream);

/* How many passes can be asked for at once. */
enum { RMF_STREAM_PASSES = 2 };

/* Take the pages [first, end) through nr_passes passes from number `pass` on. first and end are
 * borders of blocks or the end. A single pass visits `limit` folios at most; several have no limit,
 * UINT64_MAX. Returns how many passes were made, or 0 without memory. These are all, unless the
 * rule of the policy returned nonsense: that is an error of the first pass only, and a later pass
 * is not made then. */
uint32_t rmf_stream_visit(struct rmf_stream *stream, uint64_t first, uint64_t end, uint32_t pass,
			  uint32_t nr_passes, uint64_t limit);

/* Of the i-th of these passes, from 0: what its visits counted, how many folios were visited, and
 * the log of what became of them. */
const struct rmf_run *rmf_stream_run(const struct rmf_stream *stream, uint32_t i);
uint64_t rmf_stream_visited(const struct rmf_stream *stream, uint32_t i);
const struct rmf_visits *rmf_stream_log(const struct rmf_stream *stream, uint32_t i, uint64_t *nr);

#endif
