/* The multi-gen LRU: the reclaim loop over folios in generations. Rules such as section 9.3 are
 * those of docs/kernel-rules.md. */
#ifndef RMF_LRU_GEN_H
#define RMF_LRU_GEN_H

#include "generations.h"

/* Put the folios of the two lists into their generations. rmf_lru_gen_free() is to be called in any
 * case. Returns 0, RMF_ENOMEM, or RMF_EINVAL with *fault filled in. */
int rmf_lru_gen_start(struct rmf_lru_gen *gen, struct rmf_run *run, uint64_t max_seq,
		      const uint64_t *min_seq, const struct rmf_lru_list *inactive,
		      const struct rmf_lru_list *active, struct rmf_fault *fault);
void rmf_lru_gen_free(struct rmf_lru_gen *gen);

/* Write the folios back to the two lists: those of the two youngest generations are active. */
void rmf_lru_gen_store(const struct rmf_lru_gen *gen, struct rmf_lru_list *inactive,
		       struct rmf_lru_list *active);

/* Begin a pass of a round that asks for `request` base pages and has `round_freed` of them.
 * gen->pass_over says whether there is anything to do in it. */
void rmf_lru_gen_begin_pass(struct rmf_lru_gen *gen, uint32_t priority, uint64_t request,
			    uint64_t round_freed);

/* Isolate once and shrink the group, or age. Returns the base pages freed. gen->pass_over says
 * whether the pass is over. Some events are counted only when rmf_memo_settle() is called.
 *
 * Models try_to_shrink_lruvec() and evict_folios(), mm/vmscan.c, Linux v6.12, v7.0, v7.2 or v7.3.
 */
uint64_t rmf_lru_gen_evict(struct rmf_lru_gen *gen);

void rmf_lru_gen_end_pass(struct rmf_lru_gen *gen);

/* Put the pieces of folios that the shrinker split behind their folio. */
void rmf_lru_gen_place_pieces(struct rmf_lru_gen *gen);

#endif
