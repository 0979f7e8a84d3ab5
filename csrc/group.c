#include "group.h"

#include <stdlib.h>

#include "memo.h"
#include "tlb.h"

/* Add nr freed folios to the free batch. Each time it is full, what was deferred is flushed. Each
 * of them deferred what `visits` says. */
static void add_freed(struct rmf_run *run, struct rmf_group *group, const struct rmf_visits *visits,
		      uint64_t nr)
{
	uint64_t flushes = (group->batch + nr) / RMF_PAGEVEC_SIZE;

	group->batch = (uint32_t)((group->batch + nr) % RMF_PAGEVEC_SIZE);
	if (!flushes)
		return;
	rmf_try_to_unmap_flush(run);
	if (!visits->deferred)
		return;
	rmf_tlb_count_flushes(run, visits->cpumask, flushes - 1);
	if (group->batch) {
		run->flush_required = true;
		run->tlb_writable = visits->writable;
		run->tlb_cpumask = visits->cpumask;
	}
}

/* One flush for the dirty folios that wait for it. They are written out then. Models the proposal
 * "mm: batch TLB flushing for dirty folios in vmscan". */
static void end_dirty_batch(struct rmf_run *run, struct rmf_group *group)
{
	const struct rmf_visits nothing = { 0 };
	uint32_t freed = group->dirty_freed;

	if (!group->dirty)
		return;
	rmf_try_to_unmap_flush_dirty(run);
	group->dirty = group->dirty_freed = 0;
	add_freed(run, group, &nothing, freed);
}

void rmf_group_add(struct rmf_run *run, struct rmf_group *group, const struct rmf_visits *visits,
		   uint64_t nr)
{
	const bool freed = visits->outcome == RMF_OUTCOME_FREED;

	if (!nr)
		return;
	if (visits->writes_out && nr > 1) {
		for (uint64_t i = 0; i < nr; i++)
			rmf_group_add(run, group, visits, 1);
		return;
	}
	run->flush_required |= visits->deferred;
	run->tlb_writable |= visits->writable;
	run->tlb_cpumask |= visits->cpumask;
	if (visits->outcome == RMF_OUTCOME_SPLIT)
		rmf_try_to_unmap_flush(run);
	if (visits->writes_out && run->policy.dirty_flush_batch) {
		group->dirty_freed += freed;
		if (++group->dirty == RMF_PAGEVEC_SIZE)
			end_dirty_batch(run, group);
		return;
	}
	if (visits->writes_out)
		rmf_try_to_unmap_flush_dirty(run);
	if (freed)
		add_freed(run, group, visits, nr);
}

void rmf_group_flush(struct rmf_run *run, struct rmf_group *group)
{
	end_dirty_batch(run, group);
	rmf_try_to_unmap_flush(run);
}

int rmf_groups_check(const struct rmf_run *run, const uint32_t *folios, uint64_t nr,
		     const uint64_t *group_start, uint64_t nr_groups, struct rmf_fault *fault)
{
	uint64_t *listed = rmf_folio_bits(&run->pop);
	int error;

	if (!listed)
		return RMF_ENOMEM;
	error = rmf_folios_check(&run->pop, folios, nr, "folios", listed, fault);
	free(listed);
	for (uint64_t group = 0; !error && group <= nr_groups; group++) {
		uint64_t wanted = group == 0 ? 0 : group_start[group - 1];

		if (group_start[group] < wanted || group_start[group] > nr ||
		    (group == 0 && group_start[0]) ||
		    (group == nr_groups && group_start[group] != nr))
			error = rmf_fault_at(fault, "group_start", group,
					     "offsets rise from 0 to the number of folios");
	}
	return error;
}

uint64_t rmf_shrink_list(struct rmf_run *run, enum rmf_visit_kind kind, const uint32_t *folios,
			 uint64_t nr_folios, rmf_put_back *put_back, void *context)
{
	struct rmf_visits visits[RMF_NR_VISITS];
	struct rmf_group group = { 0 };
	uint64_t at = 0, nr, freed = 0;

	rmf_count(run, RMF_SHRINK_CALLS, 1);
	while (at < nr_folios || run->turns.left) {
		const uint32_t *visited = folios + at;

		at += rmf_visit(run, kind, visited, nr_folios - at, visits, RMF_NR_VISITS, &nr);
		for (uint64_t i = 0; i < nr; i++) {
			rmf_group_add(run, &group, &visits[i], visits[i].nr);
			freed += (visits[i].outcome == RMF_OUTCOME_FREED) * visits[i].nr
				 << visits[i].order;
			if (put_back)
				put_back(context, &visits[i], visited);
			visited += visits[i].piece ? 0 : visits[i].nr;
		}
	}
	rmf_group_flush(run, &group);
	return freed;
}

uint64_t rmf_shrink_groups(struct rmf_run *run, const uint32_t *folios, const uint64_t *group_start,
			   uint64_t first, uint64_t nr_groups, uint64_t budget)
{
	uint64_t end = rmf_end_of_budget(run, budget), group;

	for (group = first; group < nr_groups && rmf_work_done(run) < end; group++) {
		rmf_shrink_list(run, RMF_VISIT_PAGEOUT, folios + group_start[group],
				group_start[group + 1] - group_start[group], NULL, NULL);
		if (group % RMF_GROUPS_SETTLED == 0)
			rmf_memo_settle(run);
	}
	rmf_memo_settle(run);
	return group;
}
