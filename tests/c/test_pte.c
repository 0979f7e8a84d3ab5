/* The PTE word, and the names of events and components. */
#include "testing.h"

static void test_words(void)
{
	expect(rmf_pte_none(0), "0 is none");
	expect_eq(rmf_pte_kind(0), RMF_KIND_NONE, "kind of none");
	expect(!rmf_pte_none(rmf_mk_marker()), "a marker is not none");
	expect_eq(rmf_pte_kind(rmf_mk_marker()), RMF_KIND_MARKER, "kind of a marker");
	expect_eq((int64_t)rmf_pte_pfn(rmf_mk_marker()), 0, "a marker holds no PFN");
	expect(rmf_mk_marker() & RMF_PTE_UFFD_WP, "a marker is a uffd-wp one");
	for (rmf_pte low = 0; low < 16; low++)
		expect_eq(rmf_pte_kind(low | RMF_PTE_PRESENT), RMF_KIND_PRESENT,
			  "a present entry has no other kind");
}

static void test_nonpresent(void)
{
	const uint64_t top = ((uint64_t)1 << 52) - 1;
	const rmf_pte flags = RMF_PTE_SOFT_DIRTY | RMF_PTE_UFFD_WP | RMF_PTE_EXCLUSIVE;

	for (int kind = RMF_KIND_SWAP; kind <= RMF_KIND_MARKER; kind++) {
		rmf_pte pte = rmf_mk_nonpresent((enum rmf_pte_kind)kind, top, flags);

		expect(!rmf_pte_present(pte), "not present");
		expect_eq(rmf_pte_kind(pte), kind, "kind");
		expect_eq((int64_t)rmf_pte_pfn(pte), (int64_t)top, "value");
		expect_eq((int64_t)(pte & flags), (int64_t)flags, "flags");
		expect_eq(rmf_pte_is_device(pte),
			  kind == RMF_KIND_DEVICE_EXCLUSIVE || kind == RMF_KIND_DEVICE_PRIVATE,
			  "device");
	}
}

static void test_advance(void)
{
	const rmf_pte flags = 0xfff;

	for (uint64_t nr = 0; nr <= 8192; nr += 63) {
		expect_eq((int64_t)rmf_pte_pfn(rmf_pte_advance(mk_pte(0x1000, flags), nr)),
			  (int64_t)(0x1000 + nr), "PFN");
		expect_eq((int64_t)(rmf_pte_advance(mk_pte(0x1000, flags), nr) & flags),
			  (int64_t)flags, "flags stay");
	}
}

static void test_mkdirty(void)
{
	struct rmf_arch arch = arch_x86();

	expect_eq((int64_t)rmf_pte_mkdirty(&arch, 1),
		  RMF_PTE_PRESENT | RMF_PTE_DIRTY | RMF_PTE_SOFT_DIRTY, "x86 sets soft-dirty too");
	arch.mkdirty_soft_dirty = false;
	expect_eq((int64_t)rmf_pte_mkdirty(&arch, 1), RMF_PTE_PRESENT | RMF_PTE_DIRTY,
		  "others do not");
}

static void test_names(void)
{
	for (int i = 0; i < RMF_NR_EVENTS; i++) {
		expect(rmf_event_name((enum rmf_event)i) != NULL, "every event has a name");
		for (int j = 0; j < i; j++)
			expect(strcmp(rmf_event_name((enum rmf_event)i),
				      rmf_event_name((enum rmf_event)j)) != 0,
			       "no two events share it");
	}
	expect(!rmf_event_name(RMF_NR_EVENTS), "no event of that number");
	expect(!rmf_event_description(RMF_NR_EVENTS), "and no text of it");
	for (int i = 0; i < RMF_NR_COMPONENTS; i++)
		expect(rmf_component_name((enum rmf_component)i) != NULL,
		       "every component has a name");
	expect(!rmf_component_name(RMF_NR_COMPONENTS), "no component of that number");
}

int main(void)
{
	run_test("words", test_words);
	run_test("nonpresent", test_nonpresent);
	run_test("advance", test_advance);
	run_test("mkdirty", test_mkdirty);
	run_test("names", test_names);
	return report("test_pte");
}
