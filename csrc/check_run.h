/* The bounded exhaustive check: states are unmapped under policies and under an oracle, and the
 * outcomes are judged. docs/checker.md. */
#ifndef RMF_CHECK_RUN_H
#define RMF_CHECK_RUN_H

#include "check_invariants.h"
#include "check_states.h"

struct rmf_check_found {
	uint64_t count;
	uint64_t index; /* the smallest state that shows it; valid if count > 0 */
};

struct rmf_check_policy {
	struct rmf_policy policy;
	uint64_t nr_violating; /* states with a violation that is not documented */
	struct rmf_check_found found[RMF_NR_INVARIANTS];
};

struct rmf_check;

struct rmf_check *rmf_check_new(const struct rmf_arch *arch);
void rmf_check_free(struct rmf_check *check);

/* Unmap the states [first, end) of a family under the oracle and under each policy, and add up the
 * violations. Returns how many distinct states were tried. */
uint64_t rmf_check_range(struct rmf_check *check, const struct rmf_check_family *family,
			 uint64_t first, uint64_t end, const struct rmf_policy *oracle,
			 struct rmf_check_policy *policies, uint32_t nr_policies);

#endif
