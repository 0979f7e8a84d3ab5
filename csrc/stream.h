/* A described population that is made, visited and discarded block by block, so that it may be
 * larger than the memory.
 *
 * Pass 1 comes to its folios in address order. Pass 2 comes to those of them that were kept, in the
 * same order, and so on. For a later pass, a block is made again and taken through the passes
 * before, whose events were counted then. */
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

/* Visit the folios of the pages [first, end) that `pass` comes to, but `limit` at most. first and
 * end are borders of blocks or the end. The run has what the visits counted, and the log what
 * became of the folios; both are emptied first. Returns how many folios were visited, or UINT64_MAX
 * without memory. */
uint64_t rmf_stream_visit(struct rmf_stream *stream, uint64_t first, uint64_t end, uint32_t pass,
			  uint64_t limit);
const struct rmf_run *rmf_stream_run(const struct rmf_stream *stream);
const struct rmf_visits *rmf_stream_log(const struct rmf_stream *stream, uint64_t *nr);

#endif
