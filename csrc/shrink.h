/* One visit of the reclaim loop to a folio: what it does to the folio, and what the loop has to
 * know about it. docs/model.md, section 6.
 *
 * A visit depends on nothing but the folio, its mappings and the swap slots that are left. A folio
 * that is split yields further visits, of its pieces, which come before the next folio. Other
 * things depend on the order of the visits: isolations, free batches, when the deferred TLB flushes
 * are made, when the target is reached. These are the business of the loop, reclaim.h. So visits
 * can be made in any order, by several threads, and many at a time. */
#ifndef RMF_SHRINK_H
#define RMF_SHRINK_H

#include <stddef.h>
#include <string.h>

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
	RMF_OUTCOME_DROPPED, /* goes to no list: a poisoned page */
	RMF_OUTCOME_SPLIT, /* was split: the turns of all its pages follow, each as a visit */
	RMF_NR_OUTCOMES,
};

/* Visits in a row to folios of one order that went the same way. */
struct rmf_visits {
	uint64_t nr;
	uint64_t cpumask; /* of the deferred flushes */
	uint32_t folio; /* of a piece: its number. Those of further pieces rise or fall by one */
	uint8_t order;
	uint8_t outcome;
	bool piece; /* the turn of a page of a folio that was split: it was not isolated by itself
		     */
	bool falling;
	bool listed; /* the folio is back on a list: neither gone nor unevictable */
	bool deferred; /* each visit left TLB flushes to be made */
	bool writable; /* a dirty PTE is among those to be flushed */
	bool writes_out; /* each visit writes its folio out; what its group deferred is flushed
			    before, if any of it is writable */
};

/* Whether everything in two visits is equal but nr, so that they can be one. */
static inline bool rmf_visits_equal(const struct rmf_visits *last, const struct rmf_visits *next)
{
	/* the small fields at once: they follow each other, from `order` to the end */
	if (memcmp(&last->order, &next->order,
		   sizeof(*last) - offsetof(struct rmf_visits, order)) ||
	    last->cpumask != next->cpumask || last->outcome == RMF_OUTCOME_SPLIT)
		return false;
	/* `next` is the piece that follows */
	return !last->piece || next->folio == (last->falling ? last->folio - (uint32_t)last->nr
							     : last->folio + (uint32_t)last->nr);
}

/* Add `next` to `last` if they are equal. Returns whether they were. */
static inline bool rmf_visits_join(struct rmf_visits *last, const struct rmf_visits *next)
{
	if (!rmf_visits_equal(last, next))
		return false;
	last->nr += next->nr;
	return true;
}

/* The number of the i-th folio of visits. folios[] begins with those that were visited, unless they
 * are pieces. */
static inline uint32_t rmf_visited_folio(const struct rmf_visits *visits, const uint32_t *folios,
					 uint64_t i)
{
	if (!visits->piece)
		return folios[i];
	return visits->falling ? visits->folio - (uint32_t)i : visits->folio + (uint32_t)i;
}

/* Visit one folio by the rules, whether it is regular or not. Fills in out[0], and out[1] if the
 * folio was split in its turn: out[0] is the split then, and out[1] the rest of the turn, which is
 * that of its first page. Returns how many of out[] were filled in. */
uint32_t rmf_visit_by_rules(struct rmf_run *run, enum rmf_visit_kind kind, uint32_t folio,
			    struct rmf_visits out[2]);

/* The turn of the next piece (run->turns), of which one is left. */
void rmf_visit_piece(struct rmf_run *run, enum rmf_visit_kind kind, struct rmf_visits *visit);

/* A folio with one of these flags is not evictable. */
enum { RMF_NOT_EVICTABLE = RMF_FOLIO_UNEVICTABLE | RMF_FOLIO_MLOCKED };

bool rmf_folio_evictable(const struct rmf_run *run, uint64_t folio);

#endif
