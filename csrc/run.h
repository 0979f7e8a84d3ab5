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
};

struct rmf_trace_entry {
	int64_t kind;
	int64_t a; /* vpn; in BEYOND the number of the page */
	int64_t b; /* nr; in BEYOND the new mapcount, in NOTIFIER the end of the range */
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
	int64_t mapped_stat; /* change of NR_FILE_MAPPED and NR_ANON_MAPPED, in pages */

	/* the TLB flushes that the group of folios at hand deferred since the last
	 * try_to_unmap_flush() */
	bool flush_required;
	bool tlb_writable;
	uint64_t tlb_cpumask;

	uint64_t swap_next; /* the next free slot; they are handed out upwards */
	uint64_t swap_end;

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
