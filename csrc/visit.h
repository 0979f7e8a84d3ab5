/* Visits of the reclaim loop: by the memo if it can be used for a folio, else by the rules. */
#ifndef RMF_VISIT_H
#define RMF_VISIT_H

#include "shrink.h"

enum { RMF_NR_VISITS = 256 }; /* room for visits of equal outcome, as callers take them */

/* Visit folios[0] to folios[n - 1], which are all different, until the `room` entries of out[] are
 * used or the loop must look (below); *nr_out is how many were used. The turns of pieces that are
 * left from before come first. Returns how many of folios[] were visited. The turns of the last
 * one's pieces may be left (run->turns). room is 2 or more. The run's deferred flushes stay as they
 * are: they are those of the group at hand. Some events are counted only when rmf_memo_settle() is
 * called. */
uint64_t rmf_visit(struct rmf_run *run, enum rmf_visit_kind kind, const uint32_t *folios,
		   uint64_t n, struct rmf_visits *out, uint64_t room, uint64_t *nr_out);

/* Whether the loop of memory.reclaim has to look before its next visit: the last swap slot is
 * taken, or the run failed. */
bool rmf_loop_must_look(const struct rmf_run *run);

/* What became of any number of folios, in the order in which they are on their list. The memory is
 * that of malloc(). */
struct rmf_visit_log {
	struct rmf_visits *entries;
	uint64_t nr;
	uint64_t room;
};

/* Add visits to the end. False without memory. */
bool rmf_log_visits(struct rmf_visit_log *log, const struct rmf_visits *visits);

#endif
