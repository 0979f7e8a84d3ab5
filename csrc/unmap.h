/* The unmap of one folio from one VMA. Rules such as S5 are those of docs/kernel-rules.md. */
#ifndef RMF_UNMAP_H
#define RMF_UNMAP_H

#include "run.h"

enum rmf_ttu_flag {
	RMF_TTU_BATCH_FLUSH = 1 << 0,
	RMF_TTU_SYNC = 1 << 1,
	RMF_TTU_IGNORE_MLOCK = 1 << 2,
	RMF_TTU_HWPOISON = 1 << 3,
	RMF_TTU_SPLIT_HUGE_PMD = 1 << 4,
};

/* Models try_to_unmap_one(), mm/rmap.c, Linux v7.0 (a67fe41e214f); the policy makes it one of the
 * editions from v6.12 to v7.3-rc7. Returns false if the rmap walk is to stop. */
bool rmf_try_to_unmap_one(struct rmf_run *run, uint64_t folio, uint32_t vma, uint32_t ttu);

#endif
