/* The states of the bounded exhaustive check: every small state of one folio in one VMA.
 * docs/checker.md.
 *
 * States are numbered. A family fixes the size of the folio, its kind and the kind of VMA. Inside a
 * family a state is a mixed-radix number. A number always means the same state. So work can be cut
 * into ranges and resumed, and two numbers name a counterexample. */
#ifndef RMF_CHECK_STATES_H
#define RMF_CHECK_STATES_H

#include "check_state.h"

struct rmf_check_scope {
	struct rmf_check_family families[RMF_CHECK_MAX_FAMILIES];
	uint32_t nr_families;
};

/* Make all families of folios of up to max_pages pages (1, 2, 4 or 8), small folios first. With
 * all_bits the folios of 4 pages vary in every bit, which takes hours to check. Behind them come
 * the drawn families, of folios of 1 to 32 pages, with `drawn` states each that follow from
 * `seed`. */
void rmf_check_scope_init(struct rmf_check_scope *scope, uint32_t max_pages, bool all_bits,
			  bool unreachable, uint64_t drawn, uint64_t seed);

/* The state `index` of a family. Returns false if it is the same as another state, and is not
 * counted. */
bool rmf_check_state_at(const struct rmf_check_family *family, uint64_t index,
			struct rmf_check_state *state);

/* Where the folio lies: the border of its page table, the borders of the VMA, and what lies behind
 * the first table. */
struct rmf_check_geometry {
	uint32_t border; /* pages before the border; at 0 the folio begins at the border */
	uint32_t first, end; /* pages inside the VMA */
	bool guard_contiguous;
};

/* A geometry and the numbers of its states. A range goes through them in order. */
struct rmf_check_cursor {
	struct rmf_check_geometry geometry;
	uint64_t slots; /* how many states the slots have */
	uint64_t first, end; /* numbers of the geometry's states */
};

void rmf_check_cursor_start(const struct rmf_check_family *family, struct rmf_check_cursor *cursor);

/* Go on to the geometry that holds `index`, which does not lie behind the cursor. Returns false if
 * there is none. */
bool rmf_check_cursor_seek(const struct rmf_check_family *family, struct rmf_check_cursor *cursor,
			   uint64_t index);

/* The state `index`, which lies in the geometry of the cursor. Returns false if it is the same as
 * another state. */
bool rmf_check_state_at_cursor(const struct rmf_check_family *family,
			       const struct rmf_check_cursor *cursor, uint64_t index,
			       struct rmf_check_state *state);

#endif
