#include "check_run.h"

#include <stdlib.h>
#include <string.h>

#include "unmap.h"

enum { MAX_TRACE = 16 * RMF_CHECK_MAX_SLOTS };

struct rmf_check {
	struct rmf_run run;
	struct rmf_trace trace;
	struct rmf_trace_entry entries[MAX_TRACE];
	struct rmf_check *oracle; /* a second one, so that the outcome of the oracle need not be
				     copied */
	/* the arrays of the population that `run` works on */
	struct rmf_check_state now;
	uint64_t pte_base, window_start, window_end, table_base;
	uint8_t table_state[2];
	uint64_t folio_pfn, folio_index, folio_swap, page_base;
	int32_t entire_mapcount;
	uint64_t rmap_start[2];
	uint32_t rmap_vma, vma_mm, mm_flags;
	uint64_t mm_cpumask;
	struct rmf_expected expected;
};

static struct rmf_check *new_runner(const struct rmf_arch *arch)
{
	struct rmf_check *check = calloc(1, sizeof(*check));
	struct rmf_population *pop;

	if (!check)
		return NULL;
	check->run.arch = *arch;
	check->trace = (struct rmf_trace){ .entries = check->entries, .capacity = MAX_TRACE };
	check->run.trace = &check->trace;
	check->run.ask_twice = true;
	check->folio_pfn = RMF_CHECK_FOLIO_PFN;
	check->folio_index = RMF_CHECK_FOLIO_INDEX;
	check->folio_swap = RMF_CHECK_FOLIO_SWAP;
	check->rmap_start[1] = 1;
	check->mm_cpumask = 2;
	pop = &check->run.pop;
	*pop = (struct rmf_population){
		.ptes = check->now.ptes,
		.vma_start = &check->now.vma_start,
		.vma_end = &check->now.vma_end,
		.vma_pgoff = &check->now.vma_pgoff,
		.vma_flags = &check->now.vma_flags,
		.vma_mm = &check->vma_mm,
		.vma_pte_base = &check->pte_base,
		.vma_window_start = &check->window_start,
		.vma_window_end = &check->window_end,
		.vma_table_base = &check->table_base,
		.nr_vmas = 1,
		.table_state = check->table_state,
		.nr_tables = 2,
		.folio_pfn = &check->folio_pfn,
		.folio_index = &check->folio_index,
		.folio_order = &check->now.order,
		.folio_flags = &check->now.folio_flags,
		.folio_refcount = &check->now.refcount,
		.folio_mapcount = &check->now.mapcount,
		.folio_entire_mapcount = &check->entire_mapcount,
		.folio_nr_pages_mapped = &check->now.nr_pages_mapped,
		.folio_swap = &check->folio_swap,
		.folio_page_base = &check->page_base,
		.nr_folios = 1,
		.page_mapcount = check->now.page_mapcount,
		.page_flags = check->now.page_flags,
		.nr_pages = RMF_CHECK_MAX_PAGES,
		.rmap_start = check->rmap_start,
		.rmap_vma = &check->rmap_vma,
		.nr_rmap = 1,
		.mm_rss = check->now.rss,
		.mm_cpumask = &check->mm_cpumask,
		.mm_flags = &check->mm_flags,
		.nr_mms = 1,
	};
	return check;
}

struct rmf_check *rmf_check_new(const struct rmf_arch *arch)
{
	struct rmf_check *check = new_runner(arch);

	if (!check)
		return NULL;
	check->oracle = new_runner(arch);
	if (check->oracle)
		return check;
	free(check);
	return NULL;
}

void rmf_check_free(struct rmf_check *check)
{
	if (!check)
		return;
	free(check->oracle);
	free(check);
}

/* Write the per-page arrays out if the unmap dropped them, so that two states can be compared. */
static void expand_pages(struct rmf_check_state *state)
{
	int32_t pages = 1 << state->order;

	if (!(state->folio_flags & RMF_FOLIO_PAGE_MAPCOUNTS))
		for (int32_t page = 0; page < pages; page++)
			state->page_mapcount[page] = state->mapcount / pages;
	if (!(state->folio_flags & RMF_FOLIO_PAGE_FLAGS))
		memset(state->page_flags,
		       state->folio_flags & RMF_FOLIO_EXCLUSIVE ? RMF_PAGE_EXCLUSIVE : 0,
		       (size_t)pages);
	state->folio_flags &=
		~(uint32_t)(RMF_FOLIO_PAGE_MAPCOUNTS | RMF_FOLIO_PAGE_FLAGS | RMF_FOLIO_EXCLUSIVE);
}

/* The state is copied by memmove() of the C library. For a struct of this size gcc makes "rep movs"
 * of an assignment, which took a tenth of the run. If this function were inlined, gcc would know
 * that source and target do not overlap, and make "rep movs" of the memmove() too. */
__attribute__((noinline)) struct rmf_run *rmf_check_load(struct rmf_check *check,
							 const struct rmf_check_state *state,
							 const struct rmf_policy *policy)
{
	struct rmf_run *run = &check->run;

	rmf_check_copy(&check->now, state);
	check->pte_base = state->vma_start - state->table;
	check->window_start = state->table;
	check->window_end = 3 * (uint64_t)state->table;
	run->arch.ptrs_per_pte = run->pop.ptrs_per_pte = state->table;
	run->arch.cont_ptes = state->cont;
	run->pop.nr_ptes = 2 * state->table;
	run->flush_required = run->tlb_writable = false;
	run->guard = state->guard_contiguous ? RMF_GUARD_CONTIGUOUS : RMF_GUARD_NONE;
	run->policy = *policy;
	return run;
}

void rmf_check_unload(struct rmf_check *check, struct rmf_check_state *state)
{
	expand_pages(&check->now);
	rmf_check_copy(state, &check->now);
}

/* Unmap the state under a policy; check->now is what is left. */
static bool run_state(struct rmf_check *check, const struct rmf_check_state *state,
		      const struct rmf_policy *policy)
{
	struct rmf_run *run = rmf_check_load(check, state, policy);
	bool ret;

	check->trace.n = 0;
	memset(run->ev, 0, sizeof(run->ev));
	run->mapped_stat = 0;
	ret = rmf_try_to_unmap_one(run, 0, 0, state->ttu);
	expand_pages(&check->now);
	return ret;
}

/* Keep the state `index` as an example of what it violates. */
static void record(struct rmf_check_policy *policy, const struct rmf_check_state *state,
		   uint32_t violated, uint64_t index)
{
	const bool reachable = violated && rmf_check_reachable(state);

	policy->nr_violating += (violated & ~(uint32_t)RMF_INV_DOCUMENTED) != 0;
	for (; violated; violated &= violated - 1) {
		struct rmf_check_found *found = &policy->found[__builtin_ctz(violated)];

		if (!found->count++ || reachable > found->reachable ||
		    (reachable == found->reachable && index < found->index)) {
			found->index = index;
			found->reachable = reachable;
		}
	}
}

/* Count the batches of the last unmap. */
static void count_batches(const struct rmf_trace *trace, uint64_t *cleared)
{
	const uint64_t n = trace->n < trace->capacity ? trace->n : trace->capacity;

	for (uint64_t i = 0; i < n; i++)
		if (trace->entries[i].kind == RMF_TRACE_STEP)
			cleared[trace->entries[i].b]++;
}

const struct rmf_run *rmf_check_current(const struct rmf_check *check)
{
	return &check->run;
}

uint64_t rmf_check_range(struct rmf_check *check, const struct rmf_check_family *family,
			 uint64_t first, uint64_t end, const struct rmf_policy *oracle,
			 struct rmf_check_policy *policies, uint32_t nr_policies)
{
	struct rmf_check_state state;
	struct rmf_check_cursor cursor;
	uint64_t tried = 0;

	rmf_check_cursor_start(family, &cursor);
	for (uint64_t index = first; index < end && rmf_check_cursor_seek(family, &cursor, index);
	     index++) {
		bool expected_ret;

		if (!rmf_check_state_at_cursor(family, &cursor, index, &state))
			continue;
		tried++;
		expected_ret = run_state(check->oracle, &state, oracle);
		if (check->oracle->run.error) {
			check->run.error = check->oracle->run.error;
			check->run.bad_rule = check->oracle->run.bad_rule;
			return tried;
		}
		for (uint32_t i = 0; i < nr_policies; i++) {
			bool ret = run_state(check, &state, &policies[i].policy);
			uint32_t violated = rmf_check_invariants(&check->run, &state, &check->now);

			if (check->run.error)
				return tried;
			rmf_check_expect(&check->expected, &state, &policies[i].policy,
					 &check->run.arch, &check->trace);
			violated |= rmf_check_against_rules(&check->run, &check->now, ret,
							    &check->expected);
			count_batches(&check->trace, policies[i].cleared);
			record(&policies[i], &state,
			       violated | rmf_check_compare(&check->oracle->now, expected_ret,
							    &check->now, ret),
			       index);
		}
	}
	return tried;
}
