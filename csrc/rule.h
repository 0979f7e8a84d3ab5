/* Rules of the user's own: rmf_rule.h, which is installed, says what they get. */
#ifndef RMF_CSRC_RULE_H
#define RMF_CSRC_RULE_H

#include "folio.h"
#include "walk.h"

/* Ask the batching rule of the policy for the present entry `pte` at the position of the walk. If
 * it returns nonsense, the run has an error, what was returned is kept, and the answer is 1, here
 * and from then on. What the answer depends on besides the shape of the folio (memo.h) is added to
 * run->rule_saw. */
uint64_t rmf_rule_unmap_batch(struct rmf_run *run, const struct rmf_walk *walk,
			      const struct rmf_pages *pages, rmf_pte pte, bool hwpoison);

/* The same for the young rule of the policy. */
uint64_t rmf_rule_young_batch(struct rmf_run *run, const struct rmf_walk *walk, uint64_t folio,
			      rmf_pte pte);

#endif
