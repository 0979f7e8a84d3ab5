/* The split of a large folio into single pages. docs/model.md, section 6, says what it does and
 * what it counts. */
#ifndef RMF_SPLIT_H
#define RMF_SPLIT_H

#include "run.h"

/* What a run does that may split folios. */
enum rmf_splitter { RMF_SPLITTER_RECLAIM, RMF_SPLITTER_MADVISE };

/* How many folios and rmap pairs the pieces would be if all folios were split that may be. A run
 * whose arrays have so much more room can split whatever it comes to. The run has its swap space.
 * Returns 0, or RMF_EINVAL with *fault filled in if rmap_start was changed since the check, so that
 * nobody asks for room for rows that cannot be. */
int rmf_split_room(const struct rmf_run *run, enum rmf_splitter splitter, uint64_t *folios,
		   uint64_t *pairs, struct rmf_fault *fault);

/* Split a folio of order 1 or more, on which the caller has one of the references. Returns false if
 * the split is refused. The caller is to make the flush of try_to_unmap_flush().
 *
 * With `turns` the pieces get an isolation reference each, and their turns in shrink_folio_list()
 * are next (run->turns). Without it they are still to be placed on the LRU lists.
 *
 * Models split_folio_to_list(), mm/huge_memory.c, Linux v7.0. */
bool rmf_split_folio(struct rmf_run *run, uint32_t folio, bool turns);

/* Take a reference, split the folio, flush, and drop the reference. What nothing maps or holds is
 * freed. Models split_folio() as madvise and the shrinker call it, Linux v7.0. */
bool rmf_split_folio_now(struct rmf_run *run, uint32_t folio);

/* Whether the page has the flag RMF_PAGE_*. Without flags of its pages a folio has none but
 * EXCLUSIVE. */
static inline bool rmf_page_has(const struct rmf_population *pop, uint64_t folio, uint32_t page,
				uint8_t flag)
{
	return (pop->folio_flags[folio] & RMF_FOLIO_PAGE_FLAGS) &&
	       (pop->page_flags[rmf_folio_page_base(pop, folio) + page] & flag);
}

/* Whether any page of the folio has the flag, or all have it. */
bool rmf_any_page_has(const struct rmf_population *pop, uint64_t folio, uint8_t flag);
bool rmf_all_pages_have(const struct rmf_population *pop, uint64_t folio, uint8_t flag);

#endif
