/* Visits of the reclaim loop, by the memo where it knows the folio and else by the rules. */
#ifndef RMF_VISIT_H
#define RMF_VISIT_H

#include "shrink.h"

/* Visit folios[0] .. folios[n - 1], all different, until `room` entries of out[] are full; *nr_out
 * of them were used. Returns how many folios were visited. The run's deferred flushes are those of
 * the group at hand: they are left as they are. Not all is counted before rmf_memo_settle(). */
uint64_t rmf_visit(struct rmf_run *run, enum rmf_visit_kind kind, const uint32_t *folios,
		   uint64_t n, struct rmf_visits *out, uint64_t room, uint64_t *nr_out);

/* Add `next` to `last` if the two could be one entry: everything but nr is equal. */
bool rmf_visits_join(struct rmf_visits *last, const struct rmf_visits *next);

#endif
