/* One visit of the reclaim loop to a folio: what it does to the folio, and what the loop has to
 * know about it. docs/model.md, section 6.
 *
 * A visit depends on nothing but the folio, its mappings and the swap slots that are left. Other
 * things depend on the order of the visits: isolations, free batches, when the deferred TLB flushes
 * are made, when the target is reached. These are the business of the loop, reclaim.h. So visits
 * can be made in any order, by several threads, and many at a time. */
#ifndef RMF_SHRINK_H
#define RMF_SHRINK_H

#include "run.h"

enum rmf_visit_kind {
	RMF_VISIT_RECLAIM, /* by shrink_folio_list() for memory.reclaim */
	RMF_VISIT_PAGEOUT, /* by shrink_folio_list() for MADV_PAGEOUT: no reference check */
	RMF_VISIT_ACTIVE, /* by shrink_active_list() */
	RMF_NR_VISIT_KINDS,
};

enum rmf_outcome {
	RMF_OUTCOME_FREED,
	RMF_OUTCOME_KEEP, /* goes to the inactive list */
	RMF_OUTCOME_ACTIVATE, /* goes to the active list */
};

/* Visits in a row to folios of one order that went the same way. */
struct rmf_visits {
	uint64_t nr;
	uint64_t cpumask; /* of the deferred flushes */
	uint8_t order;
	uint8_t outcome;
	bool listed; /* the folio is back on a list: neither gone nor unevictable */
	bool deferred; /* each visit left TLB flushes to be made */
	bool writable; /* a dirty PTE is among those to be flushed */
	bool writes_out; /* each visit writes its folio out; what its group deferred is flushed
			    before, if any of it is writable */
};

/* Visit one folio by the rules, whether it is regular or not. */
void rmf_visit_by_rules(struct rmf_run *run, enum rmf_visit_kind kind, uint32_t folio,
			struct rmf_visits *visit);

bool rmf_folio_evictable(const struct rmf_run *run, uint64_t folio);

#endif
