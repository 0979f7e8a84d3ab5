/* A batching policy. The fields are those of rmapfast.Policy, which documents them. */
#ifndef RMF_POLICY_H
#define RMF_POLICY_H

#include <stdbool.h>
#include <stdint.h>

enum rmf_uffd_rule {
	RMF_UFFD_FIRST_ENTRY = 0,
	RMF_UFFD_PER_PAGE = 1,
	RMF_UFFD_WHOLE_BATCH = 2,
};

enum rmf_walk_done_rule {
	RMF_DONE_NEVER = 0,
	RMF_DONE_BATCHED = 1,
	RMF_DONE_WHOLE = 2,
};

struct rmf_policy {
	bool lazyfree;
	bool file;
	bool anon_swap;
	bool all_or_nothing;
	bool clip;
	enum rmf_uffd_rule uffd_wp;
	uint32_t respect; /* RMF_FPB_* flags of the scan before an unmap */
	bool nr_reset;
	bool young_batched;
	bool skip_batch; /* the walk does not read the slots of a batch again */
	enum rmf_walk_done_rule walk_done;
	bool mlock_at_once;
	bool failure_swapbacked;
	bool hwpoison_page0;
	bool mismatch_restores;
};

#endif
