/* What an unmap must keep, and whether an unmapped state kept it. docs/checker.md has a sentence on
 * each invariant. */
#ifndef RMF_CHECK_INVARIANTS_H
#define RMF_CHECK_INVARIANTS_H

#include "check_rules.h"
#include "check_states.h"
#include "run.h"

enum rmf_invariant {
	RMF_INV_ACCOUNTING,
	RMF_INV_SLOT_ONCE,
	RMF_INV_FORWARD,
	RMF_INV_OUT_OF_BOUNDS,
	RMF_INV_UFFD_WP_LOST,
	RMF_INV_RESTORE_WRITE,
	RMF_INV_RESTORE_SOFT_DIRTY,
	RMF_INV_RESTORE_YOUNG,
	RMF_INV_DIRTY_LOST,
	RMF_INV_TLB_FLUSH,
	RMF_INV_NOTIFIER,
	RMF_INV_MLOCK,
	RMF_INV_FINAL_STATE,
	RMF_INV_RULE_STEPS,
	RMF_INV_RULE_ENTRIES,
	RMF_INV_RULE_COUNTERS,
	RMF_INV_RULE_FOLIO,
	RMF_INV_RULE_TLB,
	RMF_INV_RULE_EVENTS,
	RMF_INV_ABORT_WIDENED, /* documented: after an abort, dirty, young or soft-dirty have spread
				  over the batch */
	RMF_INV_ABORT_LEFT_MAPPED, /* documented: after an abort, another set of pages is left
				      mapped */
	RMF_NR_INVARIANTS,
};

/* The bits of the two that are no violation. */
enum { RMF_INV_DOCUMENTED = 1 << RMF_INV_ABORT_WIDENED | 1 << RMF_INV_ABORT_LEFT_MAPPED };

const char *rmf_invariant_name(enum rmf_invariant invariant);

/* The invariants that the unmap of `before` to `after` broke, a bit each. The run has the trace and
 * the events of the unmap. */
uint32_t rmf_check_invariants(const struct rmf_run *run, const struct rmf_check_state *before,
			      const struct rmf_check_state *after);

/* Compare what an unmap left, returned and counted with what the rules say. In a state in which a
 * known bug of the policy leads outside of the rules there is nothing to compare with. */
uint32_t rmf_check_against_rules(const struct rmf_run *run, const struct rmf_check_state *after,
				 bool ret, const struct rmf_expected *expected);

/* Compare what the oracle left and returned with what a policy did. Returns 0 if there is no
 * difference. After an abort two differences are documented; any other is RMF_INV_FINAL_STATE. */
uint32_t rmf_check_compare(const struct rmf_check_state *oracle, bool oracle_ret,
			   const struct rmf_check_state *policy, bool policy_ret);

#endif
