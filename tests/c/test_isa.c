/* Every instruction set that this processor has does what the rules do, on streams of described
 * populations. */
#include <string.h>

#include "isa.h"
#include "stream.h"
#include "testing.h"

static struct rmf_description description(uint32_t number)
{
	static const uint8_t orders[][3] = { { 0 }, { 3 }, { 4 }, { 9 }, { 9, 4, 0 }, { 5, 2, 1 } };
	struct rmf_description what = {
		.pages = 3 * RMF_LAYOUT_BLOCK + 100,
		.seed = number,
		.vpn = 0x7f0000000,
		.pfn_base = 0x100000,
		.ptrs_per_pte = 512,
		.cont_ptes = number & 1 ? 16 : 1,
		.nr_orders = number % 6 < 4 ? 1 : 3,
		.aligned = number & 2,
		.sharing = 1,
		.rate[RMF_RATE_MAPPED] = { .always = true },
		.rate[RMF_RATE_YOUNG] = { .always = number % 3,
					  .below = number % 3 ? 0 : UINT64_MAX / 50 },
		.rate[RMF_RATE_SOFT_DIRTY] = { .always = number % 5 == 0 },
	};

	for (uint32_t k = 0; k < what.nr_orders; k++) {
		what.order[k] = orders[number % 6][k];
		what.weight[k] = k + 1;
	}
	return what;
}

/* Whether pass i of one stream is the only pass of another one. */
static void expect_same_pass(const struct rmf_stream *one, uint32_t i,
			     const struct rmf_stream *other, const char *isa)
{
	const struct rmf_run *a = rmf_stream_run(one, i), *b = rmf_stream_run(other, 0);
	const struct rmf_visits *log, *log_other;
	uint64_t nr, nr_other;

	expect_eq((int64_t)rmf_stream_visited(one, i), (int64_t)rmf_stream_visited(other, 0), isa);
	expect(!memcmp(a->ev, b->ev, sizeof(a->ev)), isa);
	expect(!memcmp(a->referenced_ev, b->referenced_ev, sizeof(a->ev)), isa);
	expect(!memcmp(a->batch_lengths, b->batch_lengths, sizeof(a->batch_lengths)), isa);
	log = rmf_stream_log(one, i, &nr);
	log_other = rmf_stream_log(other, 0, &nr_other);
	expect_eq((int64_t)nr, (int64_t)nr_other, "length of the log");
	for (uint64_t at = 0; at < nr && nr == nr_other; at++)
		expect(log[at].nr == log_other[at].nr && rmf_visits_equal(&log[at], &log_other[at]),
		       "entry of the log");
}

static void test_every_isa(void)
{
	const struct rmf_arch arches[] = {
		{ .ptrs_per_pte = 512,
		  .cont_ptes = 1,
		  .tlb = RMF_TLB_X86,
		  .flush_ceiling = 33,
		  .page_mapcount = true,
		  .mkdirty_soft_dirty = true },
		{ .ptrs_per_pte = 512,
		  .cont_ptes = 16,
		  .tlb = RMF_TLB_ARM64,
		  .range_tlbi = true,
		  .page_mapcount = true },
	};
	const struct rmf_policy policies[] = {
		{ .walk_done = RMF_DONE_NEVER },
		{ .file = true,
		  .clip = true,
		  .nr_reset = true,
		  .young_batched = true,
		  .walk_done = RMF_DONE_WHOLE },
	};

	for (uint32_t number = 0; number < 24; number++) {
		const struct rmf_description what = description(number);
		const struct rmf_arch *arch = &arches[number & 1];
		const struct rmf_policy *policy = &policies[number / 2 % 2];
		const struct rmf_isa *isa;

		for (unsigned int n = 0; (isa = rmf_isa(n)); n++) {
			struct rmf_stream *fast =
				rmf_stream_new(&what, arch, policy, true, 2, isa, true);
			struct rmf_stream *rules =
				rmf_stream_new(&what, arch, policy, true, 2, isa, false);

			expect(fast && rules, "memory");
			/* two passes at once are the two of them one by one */
			for (uint32_t pass = 1; fast && rules && pass <= 3; pass++) {
				expect_eq(rmf_stream_visit(fast, 0, what.pages, pass, 2,
							   UINT64_MAX),
					  2, isa->name);
				for (uint32_t i = 0; i < 2; i++) {
					expect_eq(rmf_stream_visit(rules, 0, what.pages, pass + i,
								   1, UINT64_MAX),
						  1, isa->name);
					expect_same_pass(fast, i, rules, isa->name);
				}
				rmf_stream_visit(fast, 0, what.pages, pass, 1, 5000);
				rmf_stream_visit(rules, 0, what.pages, pass, 1, 5000);
				expect_same_pass(fast, 0, rules, isa->name);
			}
			rmf_stream_free(fast);
			rmf_stream_free(rules);
		}
	}
}

int main(void)
{
	run_test("every instruction set", test_every_isa);
	return report("test_isa");
}
