/* Young entries that MGLRU finds beside the one it tests: the look-around of a reference check, and
 * the page-table walk of ageing. Rules such as section 9.6 are those of docs/kernel-rules.md. */
#ifndef RMF_LOOK_AROUND_H
#define RMF_LOOK_AROUND_H

#include "slots.h"

/* Test nr entries from vpn on, which map the folio, and clear them. If any was young, look for
 * young entries in the window around vpn. No TLB is flushed. Returns whether any of the nr was
 * young.
 *
 * Models lru_gen_look_around(), mm/vmscan.c, Linux v6.12, v7.0, v7.2 or v7.3. */
bool rmf_look_around(const struct rmf_slots *slots, uint32_t vma, uint64_t vpn, uint64_t nr,
		     uint32_t folio);

/* Clear the young entries of all page tables, and mark or promote their folios.
 *
 * Models walk_mm(), mm/vmscan.c, Linux v6.12, v7.0, v7.2 or v7.3. */
void rmf_walk_page_tables(struct rmf_run *run);

#endif
