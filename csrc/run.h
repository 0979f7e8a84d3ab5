/* One run: a population, how it is unmapped, and what was counted. */
#ifndef RMF_RUN_H
#define RMF_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "arch.h"
#include "events.h"
#include "policy.h"
#include "population.h"

/* What lies in memory behind a page table, where a scan that runs out of the table reads it. */
enum rmf_guard {
	RMF_GUARD_NONE = 0,
	RMF_GUARD_CONTIGUOUS = 1, /* entries that continue the table's last one */
};

enum rmf_trace_kind {
	RMF_TRACE_STEP,
	RMF_TRACE_STEP_NONPRESENT,
	RMF_TRACE_TLB_DEFERRED,
	RMF_TRACE_TLB_IMMEDIATE,
	RMF_TRACE_YOUNG,
	RMF_TRACE_BEYOND,
	RMF_TRACE_NOTIFIER,
	RMF_TRACE_YIELD,
	RMF_TRACE_ROUND,
	RMF_TRACE_PASS,
	RMF_TRACE_ACTIVE,
	RMF_TRACE_INACTIVE,
	RMF_TRACE_ISOLATED,
	RMF_TRACE_AGE,
};

struct rmf_trace_entry {
	int64_t kind;
	/* vpn; in BEYOND the number of the page, in ROUND the pages asked for, in PASS the
	 * priority, in ACTIVE and INACTIVE the pages or folios asked for, in ISOLATED the pages
	 * taken, in AGE max_seq */
	int64_t a;
	/* nr; in BEYOND the new mapcount, in NOTIFIER the end of the range, in ACTIVE the pages
	 * taken, in INACTIVE those looked at, in ISOLATED those freed */
	int64_t b;
};

/* A record of single steps. It grows if it may. If it is full, n goes on counting. */
struct rmf_trace {
	struct rmf_trace_entry *entries;
	uint64_t capacity;
	uint64_t n;
	bool grows; /* the entries are memory of malloc() */
};

/* Double the room of a trace. Without memory it stays as it is. */
void rmf_trace_grow(struct rmf_trace *trace);

/* The pieces that a split made of a folio, besides its first page, which keeps the folio's
 * number. */
struct rmf_pieces {
	uint32_t first; /* number of the piece of page 1; the others follow in page order */
	uint16_t nr; /* 0 means that the folio was not split */
	uint16_t unplaced; /* they are not on the LRU lists yet, where they follow the folio */
};

/* The pieces of a split in shrink_folio_list() whose turns come next. */
struct rmf_turns {
	uint32_t next; /* number of a folio */
	uint32_t left;
	bool ascending; /* by number, and so by page */
};

/* The deferred-split queue, deferred.h. */
struct rmf_deferred {
	uint32_t *folios; /* a ring, or NULL: there is no queue. Folios that left the queue some
			     other way than through its head are still in it */
	uint8_t *queued; /* for each folio, whether it is on the queue */
	uint64_t capacity;
	uint64_t head;
	uint64_t nr_entries;
	uint64_t n; /* folios on the queue */
	uint64_t carry; /* what the shrinker was to scan and did not */
};

/* A cluster of swap slots, swap.h. */
struct rmf_cluster {
	uint32_t used;
	int32_t order; /* that it serves, or -1 */
	bool cut; /* it holds the header, or is not whole: it always serves single pages */
};

/* A swap device whose slots are known one by one, swap.h. */
struct rmf_swap_map {
	uint8_t *used; /* for each slot */
	struct rmf_cluster *clusters;
	uint64_t nr_slots;
	uint64_t nr_free;
	uint64_t nr_clusters;
	uint64_t last_single; /* cluster of the last single page, or nr_clusters */
	uint32_t cluster_slots;
};

enum { RMF_MAX_ISOLATED_PAGES = RMF_MAX_FOLIO_PAGES + 63 };

enum rmf_run_error {
	RMF_RUN_OK = 0,
	RMF_RUN_NO_MEMORY,
	RMF_RUN_NO_ROOM, /* a folio was to be split, and the arrays have no room for its pieces */
	RMF_RUN_BAD_RULE, /* the rule of the policy returned nonsense, bad_rule says where */
};

/* What a rule of the user returned that is not from 1 to `most`, or that is not what it returned
 * again for the same call. */
struct rmf_bad_rule {
	uint64_t folio;
	uint64_t vpn;
	uint32_t nr;
	uint32_t again;
	uint32_t most;
	bool young; /* it is the young rule */
};

/* What a rule of the user asked for that the shape of a folio does not hold. */
enum rmf_rule_saw {
	RMF_RULE_SAW_PLACE = 1 << 0, /* where an entry lies */
	RMF_RULE_SAW_BITS = 1 << 1, /* which entries are young or dirty, where some are not */
};

struct rmf_run {
	struct rmf_population pop;
	struct rmf_arch arch;
	struct rmf_policy policy;
	enum rmf_guard guard;
	struct rmf_trace *trace; /* or NULL */
	struct rmf_memo *memo; /* or NULL, see memo.h */

	uint64_t ev[RMF_NR_EVENTS];
	uint64_t referenced_ev[RMF_NR_EVENTS]; /* of it, what reference checks counted */
	uint64_t batch_lengths[RMF_MAX_FOLIO_PAGES + 1];
	uint64_t looked_around[RMF_MAX_FOLIO_PAGES + 1]; /* look-arounds by the entries tested */
	uint64_t isolated[RMF_MAX_ISOLATED_PAGES + 1]; /* isolations by the base pages taken */
	int64_t mapped_stat; /* change of NR_FILE_MAPPED and NR_ANON_MAPPED, in pages */

	/* the TLB flushes that the group of folios at hand deferred since the last
	 * try_to_unmap_flush() */
	bool flush_required;
	bool tlb_writable;
	uint64_t tlb_cpumask;

	/* without a map: the next slot; slots are handed out upwards, as many as are free */
	uint64_t swap_next;
	uint64_t swap_end;
	bool swap_fragmented; /* no run of slots is free */
	struct rmf_swap_map *swap_map; /* or NULL */
	int64_t swap_used; /* slots taken, less those given back */
	uint32_t max_ptes_none; /* khugepaged/max_ptes_none, deferred.h */
	uint64_t swap_refusals; /* how often a swap device had no room for a folio */
	/* memory.reclaim: it has to look at its lists when the last slot is taken. After that it
	 * does not scan swapbacked folios any more */
	bool stop_without_swap;
	bool swap_ran_out;
	struct rmf_lru_gen *lru_gen; /* the multi-gen LRU, lru_gen.h; NULL with the classic one */

	struct rmf_pieces *pieces; /* for each folio that the population had at the start; NULL if
				      nothing may be split */
	uint64_t nr_given; /* folios that it had at the start */
	struct rmf_turns turns;
	struct rmf_deferred deferred;
	enum rmf_run_error error;
	struct rmf_bad_rule bad_rule;
	uint32_t rule_saw; /* enum rmf_rule_saw, added up by rules of the user */
	bool ask_twice; /* rules of the user: the checker compares the two answers */

	/* the pages of the folio at hand while they differ, and the pages behind it (folio.h) */
	int32_t page_mapcount[2 * RMF_MAX_FOLIO_PAGES];
	uint8_t page_flags[RMF_MAX_FOLIO_PAGES];
};

static inline void rmf_count(struct rmf_run *run, enum rmf_event event, uint64_t nr)
{
	run->ev[event] += nr;
}

static inline void rmf_trace_add(struct rmf_run *run, enum rmf_trace_kind kind, uint64_t a,
				 int64_t b)
{
	struct rmf_trace *trace = run->trace;

	if (!trace)
		return;
	if (trace->n >= trace->capacity && trace->grows)
		rmf_trace_grow(trace);
	if (trace->n < trace->capacity)
		trace->entries[trace->n] = (struct rmf_trace_entry){ kind, (int64_t)a, b };
	trace->n++;
}

#endif
