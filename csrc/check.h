/* Bounded exhaustive check: every small state of one folio in one VMA, unmapped under a policy and under an oracle. docs/checker.md.
 *
 * States are numbered: a family fixes the size of the folio, its kind and the kind of VMA; inside a family a state is a mixed-radix number. The
 * same number is the same state for ever, so work can be cut in ranges, resumed, and a counterexample named by two numbers.
 */
#ifndef RMF_CHECK_H
#define RMF_CHECK_H

#include "run.h"

enum {
	RMF_CHECK_MAX_PAGES = 8,
	RMF_CHECK_TABLE = 8, /* slots of a page table */
	RMF_CHECK_SLOTS = 2 * RMF_CHECK_TABLE,
	RMF_CHECK_MAX_FAMILIES = 64,
	RMF_CHECK_MAX_SYMBOLS = 80,
	RMF_CHECK_MAX_CONDITIONS = 96,
};

/* What a run must keep. docs/checker.md has a sentence on each. */
enum rmf_invariant {
	RMF_INV_ACCOUNTING,
	RMF_INV_SLOT_ONCE,
	RMF_INV_FORWARD,
	RMF_INV_OUT_OF_BOUNDS,
	RMF_INV_UFFD_WP_LOST,
	RMF_INV_RESTORE_WRITE,
	RMF_INV_RESTORE_SOFT_DIRTY,
	RMF_INV_RESTORE_YOUNG,
	RMF_INV_DIRTY_LOST,
	RMF_INV_TLB_FLUSH,
	RMF_INV_NOTIFIER,
	RMF_INV_MLOCK,
	RMF_INV_FINAL_STATE,
	RMF_INV_ABORT_WIDENED, /* documented, after an abort: dirty, young or soft-dirty spread over the batch */
	RMF_INV_ABORT_LEFT_MAPPED, /* documented, after an abort: another set of pages left mapped */
	RMF_NR_INVARIANTS,
};

const char *rmf_invariant_name(enum rmf_invariant invariant);

enum rmf_check_kind {
	RMF_CHECK_FILE,
	RMF_CHECK_SHMEM,
	RMF_CHECK_LAZYFREE,
	RMF_CHECK_ANON,
	RMF_CHECK_NR_KINDS,
};

/* How much a slot varies: every bit and kind of entry; what the folio kind and the VMA can react to; a handful. */
enum rmf_check_level { RMF_CHECK_ALL_BITS, RMF_CHECK_REACTING_BITS, RMF_CHECK_FEW };

/* Everything about a state but its slots, its borders and the marks of its pages. */
struct rmf_check_condition {
	uint32_t folio_flags;
	uint32_t vma_flags;
	uint32_t ttu;
	uint8_t extra_refs;
	uint8_t external; /* mappings of page 0 outside the population */
	uint8_t poisoned; /* page 0 is */
	uint8_t swap_dup_fails; /* 1 + the page for which it does */
};

struct rmf_check_family {
	uint8_t order;
	enum rmf_check_kind kind;
	enum rmf_check_level level;
	bool anon_vma;
	bool uffd_wp;
	bool unreachable; /* holds states that user space cannot make */
	rmf_pte symbols[RMF_CHECK_MAX_SYMBOLS]; /* of a slot in the VMA; PFNs relative, see check.c */
	uint32_t nr_symbols;
	struct rmf_check_condition conditions[RMF_CHECK_MAX_CONDITIONS];
	uint32_t nr_conditions;
	uint32_t nr_exclusive; /* patterns of anon-exclusive marks */
	uint64_t nr_states;
};

struct rmf_check_scope {
	struct rmf_check_family families[RMF_CHECK_MAX_FAMILIES];
	uint32_t nr_families;
};

/* All families of folios of up to max_pages pages (1, 2, 4 or 8), small to large. all_bits: 4 pages with every bit, for hours. */
void rmf_check_scope_init(struct rmf_check_scope *scope, uint32_t max_pages, bool all_bits, bool unreachable);

/* A population of one folio, one VMA and one mm, and the arrays behind it. */
struct rmf_check_state {
	rmf_pte ptes[RMF_CHECK_SLOTS];
	uint64_t vma_start, vma_end, vma_pgoff;
	uint32_t folio_flags;
	int32_t refcount, mapcount, nr_pages_mapped;
	int32_t page_mapcount[RMF_CHECK_MAX_PAGES];
	uint8_t page_flags[RMF_CHECK_MAX_PAGES];
	int64_t rss[RMF_NR_MM_COUNTERS];
	uint8_t order;
	uint32_t vma_flags;
	uint32_t ttu;
	bool guard_contiguous;
	/* Slots that can change: the folio's, and as many behind it that a stale batch may reach. */
	uint32_t first_slot, end_slot;
};

/* State `index` of a family; false if it is the same as another one (then it is not counted). */
bool rmf_check_state_at(const struct rmf_check_family *family, uint64_t index, struct rmf_check_state *state);

struct rmf_check_found {
	uint64_t count;
	uint64_t index; /* smallest state that shows it, valid if count > 0 */
};

struct rmf_check_policy {
	struct rmf_policy policy;
	uint64_t nr_violating; /* states with any violation but the two documented ones */
	struct rmf_check_found found[RMF_NR_INVARIANTS];
};

struct rmf_check;

struct rmf_check *rmf_check_new(const struct rmf_arch *arch);
void rmf_check_free(struct rmf_check *check);

/* Unmap states [first, end) of a family under the oracle and each policy, and add up what is violated. Returns how many distinct states
 * were tried. */
uint64_t rmf_check_range(struct rmf_check *check, const struct rmf_check_family *family, uint64_t first, uint64_t end,
			 const struct rmf_policy *oracle, struct rmf_check_policy *policies, uint32_t nr_policies);

#endif
