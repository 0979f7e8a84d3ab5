/* The bounded exhaustive check: states are unmapped under policies and under an oracle, and the
 * outcomes are judged. docs/checker.md. */
#ifndef RMF_CHECK_RUN_H
#define RMF_CHECK_RUN_H

#include "check_invariants.h"
#include "check_states.h"
#include "counted.h"

struct rmf_check_found {
	uint64_t count;
	/* if count > 0: the smallest state that shows it, of those that a kernel can reach if there
	 * is one */
	uint64_t index;
	bool reachable;
};

struct rmf_check_policy {
	struct rmf_policy policy;
	uint64_t nr_violating; /* states with a violation that is not documented */
	struct rmf_check_found found[RMF_NR_INVARIANTS];
	uint64_t cleared[RMF_CHECK_MAX_PAGES + 1]; /* batches of present entries by their length */
};

struct rmf_check;

struct rmf_check *rmf_check_new(const struct rmf_arch *arch);
void rmf_check_free(struct rmf_check *check);

/* Unmap the states [first, end) of a family under the oracle and under each policy, and add up the
 * violations. Rules of the user are asked twice each time. Returns how many distinct states were
 * tried. It ends early, with an error of the run, if such a rule returned nonsense. */
uint64_t rmf_check_range(struct rmf_check *check, const struct rmf_check_family *family,
			 uint64_t first, uint64_t end, const struct rmf_policy *oracle,
			 struct rmf_check_policy *policies, uint32_t nr_policies);

/* The run of `check`. */
const struct rmf_run *rmf_check_current(const struct rmf_check *check);

/* Make a state the one that the run of `check` works on, under a policy, and give the run back. */
struct rmf_run *rmf_check_load(struct rmf_check *check, const struct rmf_check_state *state,
			       const struct rmf_policy *policy);

/* What has become of it, with the arrays per page written out. */
void rmf_check_unload(struct rmf_check *check, struct rmf_check_state *state);

/* Visit the states [first, end) of a family, and each once more with its young and dirty bits moved
 * to other places where `claim` says that the places do not matter. Adds the states whose outcome
 * was another to *found. Returns how many had bits to move. */
uint64_t rmf_check_counted_bits(struct rmf_check *check, const struct rmf_check_family *family,
				uint64_t first, uint64_t end, const struct rmf_policy *policy,
				enum rmf_claim claim, struct rmf_check_found *found);

#endif
