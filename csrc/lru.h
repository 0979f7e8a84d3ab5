/* LRU lists: rings of folio numbers. */
#ifndef RMF_LRU_H
#define RMF_LRU_H

#include "run.h"

enum { RMF_DEF_PRIORITY = 12 }; /* of the first pass; a pass scans list size >> priority */

/* A first-in, first-out list of folios: a ring in an array with room for all folios of the
 * population. */
struct rmf_lru_list {
	uint32_t *folios;
	uint64_t capacity;
	uint64_t head; /* index of the entry that is taken next */
	uint64_t tail; /* index behind the last entry; counts what `n` leaves out */
	uint64_t n; /* entries, without those of the group at hand that come back */
	uint64_t pages; /* base pages of these entries */
};

static inline uint64_t rmf_lru_index(const struct rmf_lru_list *list, uint64_t at)
{
	return at < list->capacity ? at : at - list->capacity;
}

/* The i-th entry from the head. */
static inline uint32_t rmf_lru_at(const struct rmf_lru_list *list, uint64_t i)
{
	return list->folios[rmf_lru_index(list, list->head + i)];
}

/* Put a folio behind the last entry. The caller counts it. */
static inline void rmf_lru_append(struct rmf_lru_list *list, uint32_t folio)
{
	list->folios[list->tail] = folio;
	list->tail = rmf_lru_index(list, list->tail + 1);
}

/* Write to out[] the folio and its pieces that are still to be placed on an LRU list, in the order
 * of that list and without those that were freed. Returns how many. They are placed then. */
uint64_t rmf_place(struct rmf_run *run, uint32_t folio, uint32_t *out);

/* Put the pieces of the folios that the shrinker split on a list, behind their folio. Pieces that
 * were freed go nowhere. Without memory the run has an error then. */
void rmf_lru_place_pieces(struct rmf_run *run, struct rmf_lru_list *list);

#endif
