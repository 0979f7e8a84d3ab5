/* MADV_PAGEOUT, MADV_COLD and MADV_FREE over a range of pages of one mm. docs/model.md, section 6.
 */
#ifndef RMF_MADVISE_H
#define RMF_MADVISE_H

#include "group.h"
#include "lru.h"
#include "pfn_index.h"

enum rmf_advice {
	RMF_MADV_PAGEOUT,
	RMF_MADV_COLD,
	RMF_MADV_FREE,
	RMF_NR_ADVICE,
};

/* What the calls return, as the kernel does. */
enum { RMF_MADVISE_ENOMEM = -12, RMF_MADVISE_EINVAL = -22 };

/* Any number of madvise calls on one population. The fields are those of madvise.c. */
struct rmf_madvise {
	struct rmf_run *run;
	struct rmf_lru_list inactive;
	struct rmf_lru_list active;
	uint8_t *on_lru; /* for each folio, those that splits may add included */
	uint8_t *moved; /* its place is not that of the lists as they were given */
	struct rmf_pfn_index index;
	struct rmf_vma_place *vmas;
	uint64_t *put_back; /* folios in the order in which they came back on a list */
	uint64_t nr_put_back;
	uint64_t room;
	uint32_t *group; /* what this page table has isolated */
	uint64_t nr_group;
	uint64_t nr_groups;
	uint64_t freed; /* base pages that reclaim freed */

	/* the call at hand */
	enum rmf_advice advice;
	uint32_t mm;
	bool owner;
	bool anon_only; /* in this VMA */
	bool gap; /* a part of the range was in no VMA */
	uint64_t vpn;
	uint64_t end;
	int ret;
};

/* Prepare for calls. The lists are those of rmf_reclaim_start(). Returns 0, RMF_ENOMEM, or
 * RMF_EINVAL with *fault filled in. rmf_madvise_free() is to be called in any case. */
int rmf_madvise_start(struct rmf_madvise *madvise, struct rmf_run *run, uint32_t *inactive,
		      uint64_t nr_inactive, uint32_t *active, uint64_t nr_active,
		      struct rmf_fault *fault);
void rmf_madvise_free(struct rmf_madvise *madvise);

/* Begin a call for the pages [start, end) of an mm. `owner` says that the caller owns the files or
 * may write them. Returns 0, or RMF_EINVAL with *fault filled in. */
int rmf_madvise_call(struct rmf_madvise *madvise, enum rmf_advice advice, uint32_t mm,
		     uint64_t start, uint64_t end, bool owner, struct rmf_fault *fault);

/* Go on with the call until it is done or the budget is used up, which is one of
 * rmf_reclaim_step(). Returns true while there is more to do. madvise->ret is the result then.
 *
 * Models madvise_pageout(), madvise_cold() and madvise_free_single_vma(), mm/madvise.c, Linux
 * v7.0. */
bool rmf_madvise_step(struct rmf_madvise *madvise, uint64_t budget);

/* Write both lists as they are now. Returns 0 or RMF_ENOMEM. */
int rmf_madvise_lists(struct rmf_madvise *madvise);

#endif
