/* What one call of try_to_unmap_one() does to a state of the check, by the rules of
 * docs/kernel-rules.md alone. It is the absolute oracle of the check: it shares no code with the
 * model, so a fault of the model that all policies have in common shows against it. */
#ifndef RMF_CHECK_RULES_H
#define RMF_CHECK_RULES_H

#include "check_state.h"
#include "run.h"

/* The events that the rules are asked for. */
enum rmf_expected_event {
	RMF_EXPECT_MLOCKS,
	RMF_EXPECT_MUNLOCKS,
	RMF_EXPECT_MARKERS,
	RMF_EXPECT_DIRTIED,
	RMF_EXPECT_SWAP_DUPS,
	RMF_EXPECT_SWAP_PUTS,
	RMF_EXPECT_RMAP_REMOVALS,
	RMF_EXPECT_REF_PUTS,
	RMF_EXPECT_SPLITS_ASKED,
	RMF_EXPECT_SPLITS_QUEUED,
	RMF_EXPECT_FOLDS,
	RMF_EXPECT_UNFOLDS,
	RMF_EXPECT_WARNS,
	RMF_EXPECT_NR_EVENTS,
};

extern const enum rmf_event rmf_expected_events[RMF_EXPECT_NR_EVENTS];

enum { RMF_EXPECT_MAX_TRACE = 1 + 2 * RMF_CHECK_MAX_SLOTS };

struct rmf_expected {
	/* A known bug of the policy leads outside of the rules in this state: bug 1, a scan that
	 * leaves the page table or the VMA, or bug 4, a stale nr at a non-present entry. Nothing
	 * below is valid. */
	bool known_bug;
	bool ret;
	bool flush_required, tlb_writable;
	int64_t mapped_stat;
	uint64_t ev[RMF_EXPECT_NR_EVENTS];
	uint32_t nr_trace;
	struct rmf_trace_entry trace[RMF_EXPECT_MAX_TRACE];
	struct rmf_check_state after; /* without the flags that say how the pages are stored */
};

/* Work out what a policy does to a state. A rule of the user decides the sizes of its batches
 * itself, so these are taken from `taken`, the trace of the model's call. */
void rmf_check_expect(struct rmf_expected *expected, const struct rmf_check_state *state,
		      const struct rmf_policy *policy, const struct rmf_arch *arch,
		      const struct rmf_trace *taken);

#endif
