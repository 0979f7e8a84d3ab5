/* The enumeration of small states, and the invariants on them. */
#include "check_run.h"

#include <string.h>

#include "testing.h"

static struct rmf_check_scope scope; /* too large for the stack */

/* The states of a family are numbered without gaps, and each is a valid population. */
static void test_states(void)
{
	rmf_check_scope_init(&scope, 8, false, true, 5000, 0);
	expect(scope.nr_families > 0 && scope.nr_families < RMF_CHECK_MAX_FAMILIES, "families fit");
	for (uint32_t f = 0; f < scope.nr_families; f++) {
		const struct rmf_check_family *family = &scope.families[f];
		uint64_t stride = family->nr_states / 997 + 1;
		struct rmf_check_state state;

		expect(family->nr_symbols <= RMF_CHECK_MAX_SYMBOLS &&
			       family->nr_conditions < RMF_CHECK_MAX_CONDITIONS,
		       "tables fit");
		expect(!rmf_check_state_at(family, family->nr_states, &state),
		       "no state behind the last");
		for (uint64_t index = 0; index < family->nr_states; index += stride) {
			int32_t mapcount = 0;

			if (!rmf_check_state_at(family, index, &state))
				continue;
			expect(state.vma_start < state.vma_end, "a VMA has pages");
			for (int page = 0; page < 1 << state.order; page++)
				mapcount += state.page_mapcount[page];
			expect_eq(state.mapcount, mapcount, "mapcounts add up");
			expect(state.refcount > state.mapcount, "isolated");
		}
	}
}

/* Ranges add up, whatever they are cut into. The mended edition shows only the documented
 * differences. */
static void test_ranges(void)
{
	const struct rmf_arch arch = arch_x86();
	struct rmf_check *check = rmf_check_new(&arch);
	const struct rmf_policy oracle = policy_per_page();
	uint64_t tried = 0, stale = 0;

	rmf_check_scope_init(&scope, 4, false, false, 3000, 0);
	for (uint32_t f = 0; f < scope.nr_families; f++) {
		const struct rmf_check_family *family = &scope.families[f];
		uint64_t first = family->nr_states / 2,
			 end = first + 3000 < family->nr_states ? first + 3000 : family->nr_states;
		struct rmf_check_policy whole[2], cut[2];

		memset(whole, 0, sizeof(whole));
		whole[0].policy = policy_v7_3();
		whole[1].policy = policy_v6_16();
		memcpy(cut, whole, sizeof(cut));
		tried = rmf_check_range(check, family, first, end, &oracle, whole, 2);
		for (uint64_t at = first; at < end; at += 700)
			tried -= rmf_check_range(check, family, at, at + 700 < end ? at + 700 : end,
						 &oracle, cut, 2);
		expect_eq((int64_t)tried, 0, "states of the parts");
		for (uint32_t i = 0; i < RMF_NR_INVARIANTS; i++) {
			expect_eq((int64_t)whole[1].found[i].count, (int64_t)cut[1].found[i].count,
				  rmf_invariant_name((enum rmf_invariant)i));
			expect(RMF_INV_DOCUMENTED >> i & 1 || whole[0].found[i].count == 0,
			       "v7.3 is clean");
		}
		stale += whole[1].nr_violating;
	}
	expect(stale > 0, "v6.16 is not");
	rmf_check_free(check);
}

int main(void)
{
	run_test("states", test_states);
	run_test("ranges", test_ranges);
	return report("test_check");
}
