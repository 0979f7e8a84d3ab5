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
			for (uint32_t pass = 1; fast && rules && pass <= 3; pass++) {
				const struct rmf_run *a, *b;
				uint64_t nr, nr_rules;

				expect_eq(
					(int64_t)rmf_stream_visit(fast, 0, what.pages, pass, 5000),
					(int64_t)rmf_stream_visit(rules, 0, what.pages, pass, 5000),
					isa->name);
				a = rmf_stream_run(fast);
				b = rmf_stream_run(rules);
				expect(!memcmp(a->ev, b->ev, sizeof(a->ev)), isa->name);
				expect(!memcmp(a->referenced_ev, b->referenced_ev, sizeof(a->ev)),
				       isa->name);
				expect(!memcmp(a->batch_lengths, b->batch_lengths,
					       sizeof(a->batch_lengths)),
				       isa->name);
				rmf_stream_log(fast, &nr);
				rmf_stream_log(rules, &nr_rules);
				expect_eq((int64_t)nr, (int64_t)nr_rules, "length of the log");
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
