/* A batching policy. The fields are those of rmapfast.Policy, which documents them. */
#ifndef RMF_POLICY_H
#define RMF_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "rmf_rule.h"

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

/* Whether a folio for which no run of swap slots is free is split. */
enum rmf_swap_split_rule {
	RMF_SWAP_SPLIT_ALWAYS = 0,
	RMF_SWAP_SPLIT_ANY_SLOT = 1, /* only if any slot is free */
	RMF_SWAP_SPLIT_ALL_SLOTS = 2, /* only if as many slots are free as it has pages */
};

/* Edition whose rules the multi-gen LRU follows. */
enum rmf_mglru_rule {
	RMF_MGLRU_NONE = 0, /* they are not known */
	RMF_MGLRU_V6_12 = 1,
	RMF_MGLRU_V7_0 = 2,
	RMF_MGLRU_V7_2 = 3,
	RMF_MGLRU_V7_3 = 4,
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
	bool split_ascending; /* the pieces of a split take their turns in rising page order */
	enum rmf_swap_split_rule swap_split;
	bool swap_single_empty; /* a single page prefers an unused cluster of swap slots */
	bool sharing_guess; /* else the flag MAYBE_SHARED says whether a folio is shared */
	bool dirty_flush_batch; /* one flush for up to 31 dirty folios, which are written after it
				 */
	bool local_tlbi; /* arm64: no broadcast if only the CPU that reclaims ran the mm */
	bool shmem_fallback; /* the split of a shmem folio counts as swpout_fallbacks */
	enum rmf_mglru_rule mglru;
	bool riscv_lazyfree_split; /* riscv splits the PMD of a lazyfree folio */
	rmf_rule *rule; /* in place of folio_unmap_pte_batch(), or NULL; see rule.h */
	rmf_rule *young_rule; /* in place of the scan in folio_referenced_one(), or NULL */
};

#endif
