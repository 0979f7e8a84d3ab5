/* The population that is unmapped: page tables, VMAs, folios, rmap and mms as a structure of
 * arrays. docs/model.md, section 2, defines every array. The memory belongs to the caller. Where
 * the arrays have room for more, a split adds folios at the end (split.h). */
#ifndef RMF_POPULATION_H
#define RMF_POPULATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "error.h"
#include "pte.h"

enum rmf_vma_flag {
	RMF_VMA_LOCKED = 1 << 0,
	RMF_VMA_UFFD_WP = 1 << 1,
	RMF_VMA_UFFD_ARMED = 1 << 2, /* any userfaultfd mode except write protection */
	RMF_VMA_DROPPABLE = 1 << 3,
	RMF_VMA_EXEC = 1 << 4,
	RMF_VMA_SHARED = 1 << 5,
	RMF_VMA_ANON = 1 << 6,
};

enum rmf_table_state {
	RMF_TABLE_PTE = 0,
	RMF_TABLE_ABSENT = 1,
	RMF_TABLE_PMD_LEAF = 2,
};

enum rmf_folio_flag {
	RMF_FOLIO_ANON = 1 << 0,
	RMF_FOLIO_SWAPBACKED = 1 << 1,
	RMF_FOLIO_SWAPCACHE = 1 << 2,
	RMF_FOLIO_DIRTY = 1 << 3,
	RMF_FOLIO_MLOCKED = 1 << 4,
	RMF_FOLIO_REFERENCED = 1 << 5,
	RMF_FOLIO_ACTIVE = 1 << 6,
	RMF_FOLIO_PINNED = 1 << 7,
	RMF_FOLIO_UNEVICTABLE = 1 << 8,
	RMF_FOLIO_YOUNG = 1 << 9,
	RMF_FOLIO_PARTIALLY_MAPPED = 1 << 10,
	RMF_FOLIO_LOCKED = 1 << 11,
	RMF_FOLIO_EXCLUSIVE = 1 << 12,
	RMF_FOLIO_PAGE_MAPCOUNTS = 1 << 13, /* page_mapcount[] is valid */
	RMF_FOLIO_PAGE_FLAGS = 1 << 14, /* page_flags[] is valid */
	RMF_FOLIO_FREED = 1 << 15,
	RMF_FOLIO_MAYBE_SHARED = 1 << 16, /* more than one mm maps it, or did */
	RMF_FOLIO_WORKINGSET = 1 << 17,
	RMF_FOLIO_REFS_SHIFT = 18, /* of two bits: MGLRU's count of further accesses */
	RMF_FOLIO_REFS_MASK = 3,
	RMF_FOLIO_GEN_SHIFT = 20, /* of three bits: 1 + the generation's index, 0 on no list of
				     MGLRU's */
	RMF_FOLIO_GEN_MASK = 7,
};

enum rmf_page_flag {
	RMF_PAGE_EXCLUSIVE = 1 << 0,
	RMF_PAGE_HWPOISON = 1 << 1,
	RMF_PAGE_SWAP_DUP_FAIL = 1 << 2,
	RMF_PAGE_ZERO = 1 << 3, /* it holds nothing but zero bytes */
};

enum rmf_mm_flag {
	RMF_MM_OUTSIDE_MEMCG = 1 << 0,
};

enum rmf_mm_counter {
	RMF_MM_FILEPAGES = 0,
	RMF_MM_ANONPAGES = 1,
	RMF_MM_SWAPENTS = 2,
	RMF_MM_SHMEMPAGES = 3,
	RMF_NR_MM_COUNTERS = 4,
};

enum { RMF_MAX_ORDER = 13, RMF_MAX_FOLIO_PAGES = 1 << RMF_MAX_ORDER };

struct rmf_population {
	uint32_t ptrs_per_pte;

	rmf_pte *ptes;
	uint64_t nr_ptes;

	const uint64_t *vma_start;
	const uint64_t *vma_end;
	const uint64_t *vma_pgoff;
	const uint32_t *vma_flags;
	const uint32_t *vma_mm;
	const uint64_t *vma_pte_base;
	const uint64_t *vma_window_start;
	const uint64_t *vma_window_end;
	const uint64_t *vma_table_base;
	uint64_t nr_vmas;

	uint8_t *table_state;
	uint64_t nr_tables;

	uint64_t *folio_pfn;
	uint64_t *folio_index;
	uint8_t *folio_order;
	uint32_t *folio_flags;
	int32_t *folio_refcount;
	int32_t *folio_mapcount;
	int32_t *folio_entire_mapcount;
	int32_t *folio_nr_pages_mapped;
	uint64_t *folio_swap;
	uint64_t *folio_page_base;
	uint64_t nr_folios;
	uint64_t folio_capacity; /* room of the arrays per folio; rmap_start has one more */

	int32_t *page_mapcount;
	uint8_t *page_flags;
	uint64_t nr_pages;

	uint64_t *rmap_start;
	uint32_t *rmap_vma;
	uint64_t nr_rmap;
	uint64_t rmap_capacity;

	int64_t *mm_rss;
	const uint64_t *mm_cpumask;
	const uint32_t *mm_flags;
	uint64_t nr_mms;
};

/* What a run does with an array. Whoever else can write to the arrays while the run lives may do so
 * at any moment. So a run checks what it reads wherever that says where it reads or writes next. It
 * trusts some arrays without a look, because a look would cost too much or the array is small.
 * These must be out of the reach of everybody else: the caller copies them. */
enum rmf_array_use { RMF_ARRAY_READ, RMF_ARRAY_WRITTEN, RMF_ARRAY_TRUSTED };

/* An array of a population: the attribute of that name of rmapfast.Population. */
struct rmf_array {
	const char *name;
	char type; /* of its elements, as NumPy's character: Q, I, B are unsigned, q, i signed */
	enum rmf_array_use use;
	size_t at; /* of the pointer in struct rmf_population */
	size_t nr; /* of the number of its elements there, but for `times` and `more` */
	uint32_t times;
	uint32_t more;
};

/* Array number i, or NULL. The first array of a kind says how many elements the others have. */
const struct rmf_array *rmf_population_array(unsigned int i);

/* Check that the arrays fit together. Returns 0, or RMF_EINVAL with *fault filled in. */
int rmf_population_check(const struct rmf_population *pop, struct rmf_fault *fault);

/* Check only what a run trusts (enum rmf_array_use): copies of arrays that rmf_population_check()
 * has seen, which may have changed before they were copied. */
int rmf_population_check_trusted(const struct rmf_population *pop, struct rmf_fault *fault);

/* Check that the folios on the two LRU lists exist and that each is listed once. Returns 0,
 * RMF_ENOMEM, or RMF_EINVAL with *fault filled in. */
int rmf_lru_check(const struct rmf_population *pop, const uint32_t *inactive, uint64_t nr_inactive,
		  const uint32_t *active, uint64_t nr_active, struct rmf_fault *fault);

/* Check the same of any list of folios, which the fault calls `name`. `listed` has a bit for each
 * folio of the population. A folio whose bit is set was listed before; the bits of the folios
 * listed here are set. */
int rmf_folios_check(const struct rmf_population *pop, const uint32_t *folios, uint64_t nr,
		     const char *name, uint64_t *listed, struct rmf_fault *fault);

/* Bits for rmf_folios_check(), all clear. The caller frees them. NULL without memory. */
uint64_t *rmf_folio_bits(const struct rmf_population *pop);

/* How many numbers at the beginning of the nr count up, each by 1: at least 1. The LRU lists of
 * most populations are in address order. */
uint64_t rmf_ascending(const uint32_t *numbers, uint64_t nr);

/* Base pages of the folios [first, first + nr). For orders that no folio can have it is any number.
 */
uint64_t rmf_pages_of_folios(const struct rmf_population *pop, uint64_t first, uint64_t nr);

static inline uint32_t rmf_folio_nr_pages(const struct rmf_population *pop, uint64_t folio)
{
	return (uint32_t)1 << pop->folio_order[folio];
}

/* The number of a page table is the vpn of its slots, shifted by this. */
static inline int rmf_table_shift(const struct rmf_population *pop)
{
	return __builtin_ctz(pop->ptrs_per_pte); /* a power of two */
}

/* Where the pages of a folio are in the page arrays: at place 0 if the number was changed since the
 * check. */
static inline uint64_t rmf_folio_page_base(const struct rmf_population *pop, uint64_t folio)
{
	const uint64_t base = *(const volatile uint64_t *)&pop->folio_page_base[folio];

	return base <= pop->nr_pages - rmf_folio_nr_pages(pop, folio) ? base : 0;
}

/* The VMA in a row of the rmap. False if there is none: the rmap was changed since the check. */
static inline bool rmf_rmap_vma(const struct rmf_population *pop, uint64_t row, uint32_t *vma)
{
	if (row >= pop->nr_rmap)
		return false;
	*vma = *(const volatile uint32_t *)&pop->rmap_vma[row];
	return *vma < pop->nr_vmas;
}

/* Whether a table of a VMA is a PMD leaf. One that does not lie in its VMA as a whole is none: its
 * state was changed since the check. */
static inline bool rmf_is_pmd_leaf(const struct rmf_population *pop, uint32_t vma, uint64_t table,
				   uint8_t state)
{
	return state == RMF_TABLE_PMD_LEAF && table >= pop->vma_start[vma] &&
	       table + pop->ptrs_per_pte <= pop->vma_end[vma];
}

/* The first folio at or behind i that has more than one page; nr_folios if there is none. Single
 * pages are passed over eight at a time, for a population has up to one per page. */
static inline uint64_t rmf_next_large_folio(const struct rmf_population *pop, uint64_t i)
{
	const uint64_t n = pop->nr_folios;
	uint64_t eight;

	for (; i + sizeof(eight) <= n; i += sizeof(eight)) {
		memcpy(&eight, pop->folio_order + i, sizeof(eight));
		if (eight)
			break;
	}
	while (i < n && !pop->folio_order[i])
		i++;
	return i;
}

#endif
