/* Visits that several threads make before the reclaim loop comes to the folios. docs/model.md,
 * section 6.
 *
 * The loop decides folio by folio whether it goes on, but it knows that it will come to the next
 * folios of the inactive list as long as these are not more than it has still to free. What becomes
 * of a folio depends on nothing but the folio and its mappings, if no visit takes a swap slot,
 * splits a folio, or reaches an entry of another folio. So these folios can be visited at once, in
 * any order and by any thread, and the loop takes what became of them from a log. Nothing has to be
 * undone, and the result is that of one thread. */
#ifndef RMF_AHEAD_H
#define RMF_AHEAD_H

#include "lru.h"
#include "visit.h"

struct rmf_ahead;

/* Visits ahead for the folios of two lists, by `workers` threads; *ahead is to be freed in any
 * case. Returns 0, RMF_ENOMEM, or RMF_EINVAL if visits may depend on each other: fault->rule says
 * why, and fault->index is the folio. Nothing is changed. */
int rmf_ahead_new(struct rmf_ahead **ahead, const struct rmf_run *run,
		  const struct rmf_lru_list *inactive, const struct rmf_lru_list *active,
		  uint32_t workers, struct rmf_fault *fault);
void rmf_ahead_free(struct rmf_ahead *ahead);

/* Begin with the next nr folios of the list. No visit ahead is left. */
void rmf_ahead_begin(struct rmf_ahead *ahead, const struct rmf_lru_list *list, uint64_t nr);

/* Visit folios until none is left. Called once for each worker, at the same time or not. */
void rmf_ahead_visit(struct rmf_ahead *ahead, uint32_t worker);

/* Add to the run what the visits counted. An error is that of the first folio that has one. */
void rmf_ahead_end(struct rmf_ahead *ahead, struct rmf_run *run);

/* How many visits the loop has not come to; 0 for NULL. */
uint64_t rmf_ahead_left(const struct rmf_ahead *ahead);

/* Take the next n visits or fewer, of which there is one at least, as rmf_visit() gives them. */
uint64_t rmf_ahead_take(struct rmf_ahead *ahead, uint64_t n, struct rmf_visits *out, uint64_t room,
			uint64_t *nr_out);

#endif
