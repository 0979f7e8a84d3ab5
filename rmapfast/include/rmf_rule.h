/* Rules of one's own in C: docs/howto-policy.md. The header stands alone and is C99.
 *
 * A batching rule takes the place of folio_unmap_pte_batch(). It is called for every present entry
 * that an unmap comes to, of large folios and of single pages, and returns how many entries to
 * clear at once.
 *
 * A young rule takes the place of the scan in folio_referenced_one(). It is called for every
 * present entry that a reference check comes to, and returns how many entries to test at once.
 *
 * A rule sees no address and no PFN. The same call must get the same answer: threads may call a
 * rule at the same time, and what it made of one folio is used again for folios that look the same
 * to it. So it keeps no state of its own. */
#ifndef RMF_RULE_H
#define RMF_RULE_H

#include <stdint.h>

enum rmf_rule_kind {
	RMF_RULE_FILE = 0,
	RMF_RULE_SHMEM = 1,
	RMF_RULE_LAZYFREE = 2,
	RMF_RULE_ANON = 3, /* anonymous and swapbacked */
};

/* folio_flags */
enum rmf_rule_folio_flag {
	RMF_RULE_FOLIO_SWAPCACHE = 1 << 2,
	RMF_RULE_FOLIO_DIRTY = 1 << 3,
	RMF_RULE_FOLIO_MLOCKED = 1 << 4,
	RMF_RULE_FOLIO_REFERENCED = 1 << 5,
	RMF_RULE_FOLIO_ACTIVE = 1 << 6,
	RMF_RULE_FOLIO_PINNED = 1 << 7,
	RMF_RULE_FOLIO_PARTIALLY_MAPPED = 1 << 10,
	RMF_RULE_FOLIO_MAYBE_SHARED = 1 << 16, /* more than one mm maps it, or did */
};

/* vma_flags */
enum rmf_rule_vma_flag {
	RMF_RULE_VMA_LOCKED = 1 << 0,
	RMF_RULE_VMA_UFFD_WP = 1 << 1,
	RMF_RULE_VMA_UFFD_ARMED = 1 << 2, /* any userfaultfd mode except write protection */
	RMF_RULE_VMA_DROPPABLE = 1 << 3,
	RMF_RULE_VMA_EXEC = 1 << 4,
	RMF_RULE_VMA_SHARED = 1 << 5,
	RMF_RULE_VMA_ANON = 1 << 6,
};

/* pte: the bits of the entry, which is present. Young and dirty are for young_dirty(). */
enum rmf_rule_pte_flag {
	RMF_RULE_PTE_WRITE = 1 << 1,
	RMF_RULE_PTE_YOUNG = 1 << 2,
	RMF_RULE_PTE_DIRTY = 1 << 3,
	RMF_RULE_PTE_SOFT_DIRTY = 1 << 4,
	RMF_RULE_PTE_UFFD_WP = 1 << 5,
	RMF_RULE_PTE_UNUSED = 1 << 7,
	RMF_RULE_PTE_PROT = 1 << 9,
};

/* Flags of folio_pte_batch(): which bits must match in a batch besides the rest. */
enum rmf_rule_respect {
	RMF_RULE_RESPECT_DIRTY = 1 << 0,
	RMF_RULE_RESPECT_SOFT_DIRTY = 1 << 1,
	RMF_RULE_RESPECT_WRITE = 1 << 2,
};

/* Where the entry lies. Distances are in entries. */
struct rmf_rule_place {
	uint64_t vma_before; /* from the start of the VMA to the entry */
	uint64_t vma_left; /* from the entry on, with it, to the end of the VMA */
	uint32_t table_before; /* from the start of the page table to the entry */
	uint32_t table_left; /* to the end of the page table */
};

/* The entry at hand, and what lies around it. */
struct rmf_rule_call {
	uint32_t folio_nr_pages; /* 1: the folio is not large */
	uint32_t folio_kind; /* enum rmf_rule_kind */
	uint32_t folio_flags;
	int32_t folio_mapcount; /* mappings of all its pages that are left, this one among them */
	uint32_t page; /* number of the page in the folio that the entry maps, from 0 */
	uint32_t pte; /* without young and dirty */
	uint32_t vma_flags;
	uint32_t hwpoison; /* 1: the unmap is for a poisoned page (TTU_HWPOISON) */
	uint32_t folio_left; /* entries from this one on, with it, to the end of the folio */
	uint32_t room; /* the same to the end of the folio, the page table or the VMA, whichever
			  comes first */

	/* Scan from the entry on for at most max_nr entries that map the next pages of the folio,
	 * as folio_pte_batch() does. The scan ends with the folio. Only max_nr stops it at the end
	 * of the VMA or of the table. Returns 1 to max_nr, or 0 if max_nr is 0. */
	uint32_t (*folio_pte_batch)(const struct rmf_rule_call *call, uint32_t max_nr,
				    uint32_t flags);
	/* How many of nr pages from this one on are like it in PageAnonExclusive. */
	uint32_t (*exclusive_batch)(const struct rmf_rule_call *call, uint32_t nr);
	/* RMF_RULE_PTE_YOUNG and RMF_RULE_PTE_DIRTY of the entry. A rule that asks for them, or
	 * scans with RMF_RULE_RESPECT_DIRTY, is asked for each folio in which some entries are
	 * young or dirty and some are not. */
	uint32_t (*young_dirty)(const struct rmf_rule_call *call);
	/* A rule that asks for it is asked for each folio: no two lie in the same place. `room` is
	 * enough to stop at a border. */
	void (*place)(const struct rmf_rule_call *call, struct rmf_rule_place *place);
	const void *behind; /* the caller's own */
};

/* Returns nr: a batching rule from 1 to folio_left, a young rule from 1 to room. Anything else ends
 * the run with an error. */
typedef uint32_t rmf_rule(const struct rmf_rule_call *call);

#endif
