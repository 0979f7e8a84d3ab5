/* The memo: folios of a shape that was seen before are visited with the result that it had then.
 *
 * The shape of a folio is all that a visit depends on: the numbers of the folio, and of each VMA
 * that maps it, its class and the bits of its entries. Numbers of frames, slots and VMAs are not
 * part of it. The rules visit the first folio of a shape. The memo keeps the result: the events,
 * and the state after the visit. Each further folio of the shape gets the same result without a
 * walk, after all its entries were looked at. So the rules are not stated a second time here, and
 * every policy and architecture has a fast path.
 *
 * Some bits matter to the rules by their number only, and the shape then holds their number
 * (counted.h).
 *
 * A rule of the user's own sees what the shape holds, and asks for the rest by functions that say
 * so (rmf_rule.h). A result that depends on more than the shape is not used again. */
#ifndef RMF_MEMO_H
#define RMF_MEMO_H

#include <stddef.h>

#include "shrink.h"

enum {
	RMF_SHAPE_ROWS = 4, /* a folio that more VMAs map has no shape */
	/* up to this order there is a bit for each page; a larger folio has a shape only if all its
	 * pages are mapped alike, but for bits that are counted */
	RMF_SHAPE_ORDER = 6,
	RMF_SHAPE_HEAD = 3,
	RMF_SHAPE_ROW = 6,
	RMF_SHAPE_WORDS = RMF_SHAPE_HEAD + RMF_SHAPE_ROWS * RMF_SHAPE_ROW,
};

/* The bits of an entry that may differ from page to page in a shape. */
#define RMF_SHAPE_BITS \
	((rmf_pte)(RMF_PTE_WRITE | RMF_PTE_SOFT_DIRTY | RMF_PTE_YOUNG | RMF_PTE_DIRTY))

/* The words of a row of a shape. Bit i of a mask belongs to page i. */
enum rmf_shape_word {
	RMF_SHAPE_CLASS, /* that of the VMA, and the bits of present entries that do not differ */
	RMF_SHAPE_NONE,
	RMF_SHAPE_WRITE,
	RMF_SHAPE_SOFT_DIRTY,
	RMF_SHAPE_YOUNG,
	RMF_SHAPE_DIRTY,
};

/* The shape of a folio, and where its entries are. */
struct rmf_shape {
	uint64_t words[RMF_SHAPE_WORDS];
	uint64_t hash;
	uint32_t nr_words; /* 0 means that it has none */
	uint32_t nr_rows;
	bool mixed; /* in some VMA a part of the present entries is young, or dirty */
	bool uniform; /* one VMA maps all pages, by entries that differ only in the PFN */
	rmf_pte *ptes[RMF_SHAPE_ROWS];
	uint32_t vma[RMF_SHAPE_ROWS];
	uint64_t young[RMF_SHAPE_ROWS]; /* as they are: 0 means no entry is young */
};

/* What becomes of the entries of a row. Those that are none stay so. */
enum rmf_entries_after {
	RMF_ENTRIES_STAY,
	RMF_ENTRIES_OLD, /* they stay, and are not young any more */
	RMF_ENTRIES_LOW, /* they keep the PFN, and have the same bits */
	RMF_ENTRIES_CLEARED,
	RMF_ENTRIES_SWAPPED, /* by swap entries, whose slots are taken now */
};

/* What is known of a shape. */
struct rmf_known {
	uint64_t hash;
	uint64_t nr; /* folios that it was used for since the last rmf_memo_settle() */
	uint32_t words; /* where the shape is, in the words of the memo */
	uint32_t nr_words;
	bool usable; /* else the rules decide each time */
	bool takes_swap;
	uint8_t order;
	uint8_t entries_after[RMF_SHAPE_ROWS];
	uint16_t low_after[RMF_SHAPE_ROWS];
	uint32_t flags_after;
	int32_t refcount_after;
	int32_t mapcount_after;
	int32_t nr_pages_mapped_after;
	uint32_t ahead; /* how many folios of the shape are looked for at once in a row of them */
	uint32_t next_used; /* the next one in the list of those with nr > 0, plus 1 */
	struct rmf_visits visits;
	int64_t rss[RMF_SHAPE_ROWS][RMF_NR_MM_COUNTERS];

	/* what one visit counts, in the counts of the memo */
	int64_t mapped_stat;
	uint32_t first_event, nr_events;
	uint32_t first_length, nr_lengths;
};

/* One event of a visit, and how much of it reference checks counted; or one length, the unmap steps
 * of it and the look-arounds. */
struct rmf_memo_count {
	uint32_t number;
	uint64_t nr;
	uint64_t checks;
};

/* A VMA as the rules see it, but for its place. */
struct rmf_vma_class {
	uint64_t cpumask;
	uint32_t vma_flags;
	uint32_t mm_flags;
};

enum { RMF_MEMO_AHEAD = 8, RMF_MEMO_SHAPES = 1 << 13, RMF_MEMO_CLASSES = 64 };

/* What regular folios have in common, before and after a visit. They follow each other in one VMA,
 * which maps all of each by entries that differ only in the PFN. */
struct rmf_regular {
	/* before; the mapcount, and nr_pages_mapped of a large folio, are its number of pages */
	uint32_t vma;
	uint32_t flags;
	int32_t refcount;
	uint32_t order;
	rmf_pte low; /* bits of each entry below the PFN */

	/* after */
	uint32_t flags_after;
	int32_t refcount_after;
	int32_t mapcount_after;
	int32_t nr_pages_mapped_after;
	enum rmf_entries_after entries_after;
	rmf_pte low_after;
	bool takes_swap;
};

/* The last regular shape of an order. */
struct rmf_recent {
	struct rmf_regular regular;
	uint32_t number; /* of the shape */
	uint32_t trust; /* how often it may fail before nothing is compared with it at once */
};

/* How many folios are looked at as a block next time, and after how many others. */
struct rmf_blocks {
	uint32_t size, skip, in_vain;
};

struct rmf_memo {
	const struct rmf_isa *isa;
	struct rmf_blocks blocks;
	struct rmf_recent recent[RMF_NR_VISIT_KINDS][RMF_MAX_ORDER + 1];
	struct rmf_known *known;
	uint64_t nr, room;
	uint32_t used; /* list of the shapes with nr > 0 */
	uint32_t *table; /* numbers of shapes plus 1, by hash; at most half of it is in use */
	uint64_t table_mask; /* its size - 1 */
	uint64_t *words;
	uint64_t nr_words, words_room;
	struct rmf_memo_count *counts;
	uint64_t nr_counts, counts_room;
	uint32_t nr_classes;
	struct rmf_vma_class classes[RMF_MEMO_CLASSES];
	uint32_t *vma_class; /* for each VMA, plus 1; 0 is not known yet */
	uint64_t nr_vmas;
	/* what was before the visit whose result is being taken */
	uint64_t ev[RMF_NR_EVENTS];
	uint64_t referenced_ev[RMF_NR_EVENTS];
	uint64_t *batch_lengths;
	uint64_t lengths_room;
	uint64_t *looked_around;
	uint64_t looked_room;
	rmf_pte *entries; /* row by row */
	uint64_t entries_room;
	int32_t page_mapcount[1 << RMF_SHAPE_ORDER];
};

/* The slot of a folio's first page, and *vpn of that slot. NULL unless all its slots lie in the VMA
 * and in one page table that is present. */
static inline rmf_pte *rmf_slot_of_folio(const struct rmf_population *pop, uint32_t vma,
					 uint64_t index, uint64_t nr, uint64_t *vpn)
{
	const uint64_t start = pop->vma_start[vma], size = pop->vma_end[vma] - start,
		       at = index - pop->vma_pgoff[vma];
	const int shift = rmf_table_shift(pop);
	uint64_t table;

	if (index < pop->vma_pgoff[vma] || at >= size || nr > size - at)
		return NULL;
	*vpn = start + at;
	table = *vpn >> shift;
	if ((*vpn + nr - 1) >> shift != table ||
	    pop->table_state[pop->vma_table_base[vma] + table - (start >> shift)] != RMF_TABLE_PTE)
		return NULL;
	return &pop->ptes[pop->vma_pte_base[vma] + at];
}

/* Whether the words of two shapes are equal. The second one was written word by word a moment ago.
 * A vector load would wait for these stores, and a volatile word is loaded by itself. */
static inline bool rmf_same_words(const uint64_t *known, const volatile uint64_t *words,
				  uint32_t nr)
{
	_Static_assert(RMF_SHAPE_HEAD == 3 && RMF_SHAPE_ROW % 3 == 0, "three at a time");
	for (uint32_t i = 0; i < nr; i += 3)
		if ((known[i] ^ words[i]) | (known[i + 1] ^ words[i + 1]) |
		    (known[i + 2] ^ words[i + 2]))
			return false;
	return true;
}

/* What is known of a shape, or NULL. */
static inline struct rmf_known *rmf_known_shape(struct rmf_memo *memo,
						const struct rmf_shape *shape)
{
	for (uint64_t i = shape->hash >> 40;; i++) {
		const uint32_t number = memo->table[i & memo->table_mask];
		struct rmf_known *known;

		if (!number)
			return NULL;
		known = &memo->known[number - 1];
		if (known->hash == shape->hash && known->nr_words == shape->nr_words &&
		    rmf_same_words(memo->words + known->words, shape->words, shape->nr_words))
			return known;
	}
}

/* The class of a VMA, or RMF_MEMO_CLASSES if there are too many. */
uint32_t rmf_vma_class_of(struct rmf_run *run, uint32_t vma);

/* Visit folios[0] and those behind it as long as their shapes are known, and add their visits to
 * out[]. Returns how many were visited. *shape is that of the next one if it was looked at. */
typedef uint64_t rmf_visit_known(struct rmf_run *run, enum rmf_visit_kind kind,
				 const uint32_t *folios, uint64_t n, struct rmf_visits *out,
				 uint64_t room, uint64_t *used, struct rmf_shape *shape);

/* An empty memo for one run, or NULL without memory. A run without a memo visits every folio by the
 * rules. */
struct rmf_memo *rmf_memo_new(const struct rmf_isa *isa);
void rmf_memo_free(struct rmf_memo *memo);

/* Visit folios[0], and those behind it for which the loop need not look; out[] has room for two
 * visits or more, and *used is how many of them are used. Returns how many were visited, 1 or more.
 * The events of the memo are counted when rmf_memo_settle() is called. */
uint64_t rmf_visit_by_memo(struct rmf_run *run, enum rmf_visit_kind kind, const uint32_t *folios,
			   uint64_t n, struct rmf_visits *out, uint64_t room, uint64_t *used);
void rmf_memo_settle(struct rmf_run *run);

/* Start anew, because visits have other results from now on. */
void rmf_memo_forget(struct rmf_run *run);

#endif
