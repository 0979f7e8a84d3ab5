/* A described population that is made, visited and forgotten block by block, so that it may be
 * larger than any memory.
 *
 * Its inactive list is its folios in address order, then those of them that were kept, in the same
 * order, and so on: pass 1, pass 2, ... What a later pass finds is made anew and taken through the
 * passes before, whose counts were counted then.
 */
#ifndef RMF_STREAM_H
#define RMF_STREAM_H

#include "isa.h"
#include "visit.h"

/* The memory of one block, for one thread at a time. */
struct rmf_stream;

/* NULL without memory. Swapbacked folios are on the lists only with `swap`, which is taken as
 * unlimited: passes before take their slots again. With `fast` false all goes by the rules. */
struct rmf_stream *rmf_stream_new(const struct rmf_description *what, const struct rmf_arch *arch,
				  const struct rmf_policy *policy, bool swap, uint64_t cpumask,
				  const struct rmf_isa *isa, bool fast);
void rmf_stream_free(struct rmf_stream *stream);

/* Visit those folios of pages [first, end), borders of blocks or the end, that `pass` comes to,
 * `limit` at most. What they counted is in the run, what became of them in the log; both are
 * emptied first. Returns how many were visited, or UINT64_MAX without memory. */
uint64_t rmf_stream_visit(struct rmf_stream *stream, uint64_t first, uint64_t end, uint32_t pass,
			  uint64_t limit);
const struct rmf_run *rmf_stream_run(const struct rmf_stream *stream);
const struct rmf_visits *rmf_stream_log(const struct rmf_stream *stream, uint64_t *nr);

#endif
