#include "check_invariants.h"

#include <string.h>

static const char *const invariant_names[RMF_NR_INVARIANTS] = {
	[RMF_INV_ACCOUNTING] = "accounting",
	[RMF_INV_SLOT_ONCE] = "slot-once",
	[RMF_INV_FORWARD] = "forward",
	[RMF_INV_OUT_OF_BOUNDS] = "out-of-bounds",
	[RMF_INV_UFFD_WP_LOST] = "uffd-wp-lost",
	[RMF_INV_RESTORE_WRITE] = "restore-write",
	[RMF_INV_RESTORE_SOFT_DIRTY] = "restore-soft-dirty",
	[RMF_INV_RESTORE_YOUNG] = "restore-young",
	[RMF_INV_DIRTY_LOST] = "dirty-lost",
	[RMF_INV_TLB_FLUSH] = "tlb-flush",
	[RMF_INV_NOTIFIER] = "notifier",
	[RMF_INV_MLOCK] = "mlock",
	[RMF_INV_FINAL_STATE] = "final-state",
	[RMF_INV_RULE_STEPS] = "rule-steps",
	[RMF_INV_RULE_ENTRIES] = "rule-entries",
	[RMF_INV_RULE_COUNTERS] = "rule-counters",
	[RMF_INV_RULE_FOLIO] = "rule-folio",
	[RMF_INV_RULE_TLB] = "rule-tlb",
	[RMF_INV_RULE_EVENTS] = "rule-events",
	[RMF_INV_ABORT_WIDENED] = "abort-widened",
	[RMF_INV_ABORT_LEFT_MAPPED] = "abort-left-mapped",
};

const char *rmf_invariant_name(enum rmf_invariant invariant)
{
	return (unsigned)invariant < RMF_NR_INVARIANTS ? invariant_names[invariant] : NULL;
}

static uint32_t violated_if(bool condition, enum rmf_invariant invariant)
{
	return condition ? 1u << invariant : 0;
}

static bool maps_folio(const struct rmf_check_state *state, rmf_pte pte)
{
	return rmf_check_page(state, pte) < RMF_CHECK_MAX_PAGES;
}

/* A bit for each slot that changed, from the first that can on. */
static uint64_t changed_slots(const struct rmf_check_state *before,
			      const struct rmf_check_state *after)
{
	uint64_t changed = 0;

	for (uint32_t i = before->first_slot; i < before->end_slot; i++)
		changed |= (uint64_t)(before->ptes[i] != after->ptes[i])
			   << (i - before->first_slot);
	return changed;
}

/* Whether what was dropped fits the slots that lost their mapping. */
static uint32_t check_accounting(const struct rmf_check_state *before,
				 const struct rmf_check_state *after, uint64_t changed)
{
	uint32_t pages = 1u << before->order;
	int32_t lost = 0, swapped = 0, by_page[RMF_CHECK_MAX_PAGES] = { 0 };
	bool wrong = false;

	for (; changed; changed &= changed - 1) {
		const uint32_t i = before->first_slot + (uint32_t)__builtin_ctzll(changed);

		if (maps_folio(before, before->ptes[i]) && !maps_folio(after, after->ptes[i])) {
			lost++;
			by_page[rmf_check_page(before, before->ptes[i])]++;
			swapped += rmf_pte_kind(after->ptes[i]) == RMF_KIND_SWAP;
		}
	}
	for (uint32_t page = 0; page < pages; page++)
		wrong |= before->page_mapcount[page] - after->page_mapcount[page] != by_page[page];
	wrong |= before->mapcount - after->mapcount != lost ||
		 before->refcount - after->refcount != lost;
	wrong |= after->rss[RMF_MM_FILEPAGES] + after->rss[RMF_MM_ANONPAGES] +
			 after->rss[RMF_MM_SHMEMPAGES] !=
		 -lost;
	wrong |= after->rss[RMF_MM_SWAPENTS] != swapped;
	return violated_if(wrong, RMF_INV_ACCOUNTING);
}

/* Whether the bits survived that must: in entries that were cleared, and in entries that were put
 * back. */
static uint32_t check_entries(const struct rmf_check_state *before,
			      const struct rmf_check_state *after, uint64_t changed)
{
	uint32_t wrong = 0;
	bool markers = !(before->vma_flags & RMF_VMA_ANON) && (before->vma_flags & RMF_VMA_UFFD_WP);

	for (; changed; changed &= changed - 1) {
		const uint32_t i = before->first_slot + (uint32_t)__builtin_ctzll(changed);
		rmf_pte was = before->ptes[i], is = after->ptes[i], lost = was & ~is;

		if (!rmf_pte_present(was))
			continue;
		if (!rmf_pte_present(is)) {
			wrong |= violated_if(markers && (was & RMF_PTE_UFFD_WP) && rmf_pte_none(is),
					     RMF_INV_UFFD_WP_LOST);
			wrong |= violated_if((was & RMF_PTE_DIRTY) && maps_folio(before, was) &&
						     !(after->folio_flags & RMF_FOLIO_DIRTY),
					     RMF_INV_DIRTY_LOST);
			continue;
		}
		wrong |= violated_if((was ^ is) & RMF_PTE_WRITE, RMF_INV_RESTORE_WRITE);
		wrong |= violated_if(lost & RMF_PTE_SOFT_DIRTY, RMF_INV_RESTORE_SOFT_DIRTY);
		wrong |= violated_if(lost & RMF_PTE_YOUNG, RMF_INV_RESTORE_YOUNG);
		wrong |= violated_if(lost & RMF_PTE_DIRTY, RMF_INV_DIRTY_LOST);
		wrong |= violated_if((was ^ is) & RMF_PTE_UFFD_WP, RMF_INV_UFFD_WP_LOST);
	}
	return wrong;
}

/* Whether the steps went forward, touched a slot once, and lay in the notifier range; and whether
 * flushes cover what was cleared. */
static uint32_t check_steps(const struct rmf_trace *trace, const struct rmf_check_state *before,
			    const struct rmf_check_state *after, uint64_t changed)
{
	uint64_t flushed = 0, done = 0;
	int64_t last = -1, notified = 0, notified_end = 0;
	uint32_t wrong = 0;

	for (uint64_t n = 0; n < trace->n; n++) {
		const struct rmf_trace_entry *entry = &trace->entries[n];
		uint64_t first = (uint64_t)entry->a - before->table - before->first_slot,
			 nr = (uint64_t)entry->b;
		uint64_t bits = first < 64 && nr < 64 ? ((1ull << nr) - 1) << first : 0;

		switch ((enum rmf_trace_kind)entry->kind) {
		case RMF_TRACE_STEP_NONPRESENT:
			bits = first < 64 ? 1ull << first : 0;
			nr = 1;
			/* fall through */
		case RMF_TRACE_STEP:
			wrong |= violated_if(entry->a <= last, RMF_INV_FORWARD);
			wrong |= violated_if(done & bits, RMF_INV_SLOT_ONCE);
			wrong |= violated_if(entry->a < notified ||
						     entry->a + (int64_t)nr > notified_end,
					     RMF_INV_NOTIFIER);
			last = entry->a;
			done |= bits;
			break;
		case RMF_TRACE_TLB_DEFERRED:
		case RMF_TRACE_TLB_IMMEDIATE:
			flushed |= bits;
			break;
		case RMF_TRACE_NOTIFIER:
			notified = entry->a;
			notified_end = entry->b;
			break;
		default:
			break;
		}
	}
	for (changed &= ~flushed; changed; changed &= changed - 1) {
		const uint32_t i = before->first_slot + (uint32_t)__builtin_ctzll(changed);

		wrong |= violated_if(rmf_pte_present(before->ptes[i]) &&
					     !rmf_pte_present(after->ptes[i]),
				     RMF_INV_TLB_FLUSH);
	}
	return wrong;
}

/* A folio may become mlocked only if all its pages were seen under one page-table lock. */
static uint32_t check_mlock(const struct rmf_run *run, const struct rmf_check_state *before)
{
	const uint32_t start = rmf_check_walk_start(before), end = rmf_check_walk_end(before),
		       pages = 1u << before->order;
	uint32_t seen = 0;

	if (!run->ev[RMF_MLOCK_CALLS])
		return 0;
	for (uint32_t i = start; i < end; i++)
		seen += maps_folio(before, before->ptes[i]) &&
			i / before->table == start / before->table;
	return violated_if(seen != pages, RMF_INV_MLOCK);
}

uint32_t rmf_check_invariants(const struct rmf_run *run, const struct rmf_check_state *before,
			      const struct rmf_check_state *after)
{
	const uint64_t *ev = run->ev;
	uint64_t outside = ev[RMF_OOB_READS] + ev[RMF_OOB_WRITES] + ev[RMF_VMA_OVERRUN_READS] +
			   ev[RMF_VMA_OVERRUN_WRITES];
	uint64_t changed = changed_slots(before, after);

	return check_accounting(before, after, changed) | check_entries(before, after, changed) |
	       check_steps(run->trace, before, after, changed) | check_mlock(run, before) |
	       violated_if(outside, RMF_INV_OUT_OF_BOUNDS);
}

static bool is_of_tlb(const struct rmf_trace_entry *entry)
{
	return entry->kind == RMF_TRACE_TLB_DEFERRED || entry->kind == RMF_TRACE_TLB_IMMEDIATE;
}

/* Whether the flushes (`tlb`), or everything else, went as the rules say. */
static bool same_trace(const struct rmf_trace *trace, const struct rmf_expected *expected, bool tlb)
{
	uint64_t a = 0, b = 0;

	while (true) {
		const struct rmf_trace_entry *one, *other;

		while (a < trace->n && is_of_tlb(&trace->entries[a]) != tlb)
			a++;
		while (b < expected->nr_trace && is_of_tlb(&expected->trace[b]) != tlb)
			b++;
		if (a == trace->n || b == expected->nr_trace)
			return a == trace->n && b == expected->nr_trace;
		one = &trace->entries[a++];
		other = &expected->trace[b++];
		if (one->kind != other->kind || one->a != other->a || one->b != other->b)
			return false;
	}
}

uint32_t rmf_check_against_rules(const struct rmf_run *run, const struct rmf_check_state *after,
				 bool ret, const struct rmf_expected *expected)
{
	const struct rmf_check_state *right = &expected->after;
	const uint32_t pages = 1u << after->order;
	bool same_events = run->mapped_stat == expected->mapped_stat, same_steps;
	uint32_t wrong = 0;

	if (expected->known_bug)
		return 0;
	for (int i = 0; i < RMF_EXPECT_NR_EVENTS; i++)
		same_events &= run->ev[rmf_expected_events[i]] == expected->ev[i];
	wrong |= violated_if(!same_events, RMF_INV_RULE_EVENTS);
	/* nearly always all is the same */
	same_steps = run->trace->n == expected->nr_trace &&
		     !memcmp(run->trace->entries, expected->trace,
			     expected->nr_trace * sizeof(*expected->trace));
	wrong |= violated_if(!same_steps && !same_trace(run->trace, expected, false),
			     RMF_INV_RULE_STEPS);
	wrong |= violated_if((!same_steps && !same_trace(run->trace, expected, true)) ||
				     run->flush_required != expected->flush_required ||
				     run->tlb_writable != expected->tlb_writable,
			     RMF_INV_RULE_TLB);
	wrong |= violated_if(memcmp(after->ptes, right->ptes,
				    2 * after->table * sizeof(*after->ptes)),
			     RMF_INV_RULE_ENTRIES);
	wrong |= violated_if(memcmp(after->rss, right->rss, sizeof(after->rss)),
			     RMF_INV_RULE_COUNTERS);
	wrong |= violated_if(ret != expected->ret || after->folio_flags != right->folio_flags ||
				     after->refcount != right->refcount ||
				     after->mapcount != right->mapcount ||
				     after->nr_pages_mapped != right->nr_pages_mapped ||
				     memcmp(after->page_mapcount, right->page_mapcount,
					    pages * sizeof(*after->page_mapcount)) ||
				     memcmp(after->page_flags, right->page_flags, pages),
			     RMF_INV_RULE_FOLIO);
	return wrong;
}

static bool same_folio(const struct rmf_check_state *one, const struct rmf_check_state *other,
		       uint32_t ignored_flags)
{
	return !((one->folio_flags ^ other->folio_flags) & ~ignored_flags) &&
	       one->refcount == other->refcount && one->mapcount == other->mapcount &&
	       !memcmp(one->page_mapcount, other->page_mapcount,
		       sizeof(*one->page_mapcount) << one->order) &&
	       !memcmp(one->page_flags, other->page_flags, (size_t)1 << one->order) &&
	       !memcmp(one->rss, other->rss, sizeof(one->rss));
}

static rmf_pte without_cont(rmf_pte pte)
{
	return rmf_pte_present(pte) ? pte & ~(rmf_pte)RMF_PTE_CONT : pte;
}

uint32_t rmf_check_compare(const struct rmf_check_state *oracle, bool oracle_ret,
			   const struct rmf_check_state *policy, bool policy_ret)
{
	/* a batch never leaves a folio partially mapped on its way, so the result is the same
	 * without the queue for deferred splits */
	const uint32_t queued = RMF_FOLIO_PARTIALLY_MAPPED;
	/* a batch that finds a dirty entry behind a clean one makes the folio dirty, and so
	 * swapbacked, one step earlier */
	const uint32_t dirtied = RMF_FOLIO_DIRTY | RMF_FOLIO_SWAPBACKED;
	const rmf_pte widened = RMF_PTE_DIRTY | RMF_PTE_YOUNG | RMF_PTE_SOFT_DIRTY;
	bool same_but_wider = true, same_mapped = true;
	rmf_pte differing = 0;
	bool same_ptes;

	for (uint32_t i = oracle->first_slot; i < oracle->end_slot; i++)
		differing |= oracle->ptes[i] ^ policy->ptes[i];
	/* CONT says nothing that the entries do not say */
	same_ptes = !(differing & ~(rmf_pte)RMF_PTE_CONT);

	if (same_ptes && policy_ret == oracle_ret && same_folio(oracle, policy, queued))
		return 0;
	if (oracle_ret || policy_ret)
		return 1u << RMF_INV_FINAL_STATE;

	for (uint32_t i = oracle->first_slot; i < oracle->end_slot; i++) {
		const rmf_pte a = without_cont(oracle->ptes[i]), b = without_cont(policy->ptes[i]);
		/* the oracle may have folded a block of which the batch has a part; then young and
		 * dirty are spread there */
		const rmf_pte folded = a == oracle->ptes[i] ? 0 : RMF_PTE_DIRTY | RMF_PTE_YOUNG;

		same_but_wider &= a == b || (rmf_pte_present(a) && !((a ^ b) & ~widened) &&
					     !(a & ~b & ~folded));
		same_mapped &= rmf_pte_present(a) == rmf_pte_present(b);
	}
	if (!same_mapped)
		return 1u << RMF_INV_ABORT_LEFT_MAPPED;
	same_but_wider &= same_folio(
		oracle, policy, policy->folio_flags & RMF_FOLIO_DIRTY ? queued | dirtied : queued);
	same_but_wider &= !(oracle->folio_flags & ~policy->folio_flags & dirtied);
	return same_but_wider ? 1u << RMF_INV_ABORT_WIDENED : 1u << RMF_INV_FINAL_STATE;
}
