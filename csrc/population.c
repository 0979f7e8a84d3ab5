#include "population.h"

#include <stdlib.h>

#define ARRAY(name, type, use, nr, times, more)  \
	{ #name,                                 \
	  type,                                  \
	  use,                                   \
	  offsetof(struct rmf_population, name), \
	  offsetof(struct rmf_population, nr),   \
	  times,                                 \
	  more }

const struct rmf_array *rmf_population_array(unsigned int i)
{
	static const struct rmf_array arrays[] = {
		ARRAY(ptes, 'Q', RMF_ARRAY_WRITTEN, nr_ptes, 1, 0),
		ARRAY(vma_start, 'Q', RMF_ARRAY_TRUSTED, nr_vmas, 1, 0),
		ARRAY(vma_end, 'Q', RMF_ARRAY_TRUSTED, nr_vmas, 1, 0),
		ARRAY(vma_pgoff, 'Q', RMF_ARRAY_TRUSTED, nr_vmas, 1, 0),
		ARRAY(vma_flags, 'I', RMF_ARRAY_TRUSTED, nr_vmas, 1, 0),
		ARRAY(vma_mm, 'I', RMF_ARRAY_TRUSTED, nr_vmas, 1, 0),
		ARRAY(vma_pte_base, 'Q', RMF_ARRAY_TRUSTED, nr_vmas, 1, 0),
		ARRAY(vma_window_start, 'Q', RMF_ARRAY_TRUSTED, nr_vmas, 1, 0),
		ARRAY(vma_window_end, 'Q', RMF_ARRAY_TRUSTED, nr_vmas, 1, 0),
		ARRAY(vma_table_base, 'Q', RMF_ARRAY_TRUSTED, nr_vmas, 1, 0),
		ARRAY(table_state, 'B', RMF_ARRAY_WRITTEN, nr_tables, 1, 0),
		ARRAY(folio_pfn, 'Q', RMF_ARRAY_READ, nr_folios, 1, 0),
		ARRAY(folio_index, 'Q', RMF_ARRAY_READ, nr_folios, 1, 0),
		ARRAY(folio_order, 'B', RMF_ARRAY_TRUSTED, nr_folios, 1, 0),
		ARRAY(folio_flags, 'I', RMF_ARRAY_WRITTEN, nr_folios, 1, 0),
		ARRAY(folio_refcount, 'i', RMF_ARRAY_WRITTEN, nr_folios, 1, 0),
		ARRAY(folio_mapcount, 'i', RMF_ARRAY_WRITTEN, nr_folios, 1, 0),
		ARRAY(folio_entire_mapcount, 'i', RMF_ARRAY_WRITTEN, nr_folios, 1, 0),
		ARRAY(folio_nr_pages_mapped, 'i', RMF_ARRAY_WRITTEN, nr_folios, 1, 0),
		ARRAY(folio_swap, 'Q', RMF_ARRAY_WRITTEN, nr_folios, 1, 0),
		ARRAY(folio_page_base, 'Q', RMF_ARRAY_READ, nr_folios, 1, 0),
		ARRAY(page_mapcount, 'i', RMF_ARRAY_WRITTEN, nr_pages, 1, 0),
		ARRAY(page_flags, 'B', RMF_ARRAY_WRITTEN, nr_pages, 1, 0),
		ARRAY(rmap_start, 'Q', RMF_ARRAY_READ, nr_folios, 1, 1),
		ARRAY(rmap_vma, 'I', RMF_ARRAY_READ, nr_rmap, 1, 0),
		ARRAY(mm_cpumask, 'Q', RMF_ARRAY_TRUSTED, nr_mms, 1, 0),
		ARRAY(mm_flags, 'I', RMF_ARRAY_TRUSTED, nr_mms, 1, 0),
		ARRAY(mm_rss, 'q', RMF_ARRAY_WRITTEN, nr_mms, RMF_NR_MM_COUNTERS, 0),
	};

	return i < sizeof(arrays) / sizeof(arrays[0]) ? &arrays[i] : NULL;
}

/* Virtual page numbers, page offsets and PFNs stay below this limit, so that the sum of two of them
 * and a folio does not overflow. */
static const uint64_t LIMIT = (uint64_t)1 << 52;

static int check_vma(const struct rmf_population *pop, uint64_t i, struct rmf_fault *fault)
{
	uint64_t start = pop->vma_start[i], end = pop->vma_end[i], base = pop->vma_pte_base[i];
	uint64_t window_start = pop->vma_window_start[i], window_end = pop->vma_window_end[i],
		 table = pop->vma_table_base[i];
	uint64_t first = start / pop->ptrs_per_pte, nr_tables;

	if (start >= end || end > LIMIT)
		return rmf_fault_at(fault, "population.vma_end", i,
				    "must be above vma_start and at most 2^52");
	if (window_start > start || window_end < end || window_end > LIMIT)
		return rmf_fault_at(fault, "population.vma_window_start", i,
				    "the window must hold the VMA and end at 2^52 at most");
	if (base < start - window_start || base > pop->nr_ptes ||
	    window_end - start > pop->nr_ptes - base)
		return rmf_fault_at(fault, "population.vma_pte_base", i,
				    "the window must lie in ptes");
	if (pop->vma_pgoff[i] > LIMIT)
		return rmf_fault_at(fault, "population.vma_pgoff", i, "must be at most 2^52");
	if (pop->vma_mm[i] >= pop->nr_mms)
		return rmf_fault_at(fault, "population.vma_mm", i, "no such mm");
	nr_tables = (end - 1) / pop->ptrs_per_pte - first + 1;
	if (table > pop->nr_tables || nr_tables > pop->nr_tables - table)
		return rmf_fault_at(fault, "population.vma_table_base", i,
				    "the VMA's tables must lie in table_state");
	for (uint64_t t = 0; t < nr_tables; t++) {
		uint64_t table_start = (first + t) * pop->ptrs_per_pte;

		if (pop->table_state[table + t] > RMF_TABLE_PMD_LEAF)
			return rmf_fault_at(fault, "population.table_state", table + t,
					    "must be 0, 1 or 2");
		if (pop->table_state[table + t] == RMF_TABLE_PMD_LEAF &&
		    (table_start < start || table_start + pop->ptrs_per_pte > end))
			return rmf_fault_at(fault, "population.table_state", table + t,
					    "a PMD leaf must lie in its VMA as a whole");
	}
	return 0;
}

static int check_folio(const struct rmf_population *pop, uint64_t i, struct rmf_fault *fault)
{
	uint64_t nr;

	if (pop->folio_order[i] > RMF_MAX_ORDER)
		return rmf_fault_at(fault, "population.folio_order", i, "must be at most 13");
	nr = rmf_folio_nr_pages(pop, i);
	if (pop->folio_pfn[i] > RMF_ZERO_PFN - nr)
		return rmf_fault_at(fault, "population.folio_pfn", i,
				    "the folio must end below PFN 2^52 - 1, the zero page");
	if (pop->folio_index[i] > LIMIT)
		return rmf_fault_at(fault, "population.folio_index", i, "must be at most 2^52");
	if (pop->folio_swap[i] > LIMIT - nr)
		return rmf_fault_at(fault, "population.folio_swap", i,
				    "the swap slots must end at 2^52 at most");
	if (pop->nr_pages < nr || pop->folio_page_base[i] > pop->nr_pages - nr)
		return rmf_fault_at(fault, "population.folio_page_base", i,
				    "the folio's pages must lie in the page arrays");
	if (!(pop->folio_flags[i] & RMF_FOLIO_PAGE_MAPCOUNTS) &&
	    (pop->folio_mapcount[i] - pop->folio_entire_mapcount[i]) % (int32_t)nr)
		return rmf_fault_at(fault, "population.folio_mapcount", i,
				    "without PAGE_MAPCOUNTS every page has as many mappings");
	if (pop->rmap_start[i] > pop->rmap_start[i + 1] || pop->rmap_start[i + 1] > pop->nr_rmap)
		return rmf_fault_at(fault, "population.rmap_start", i,
				    "must not fall and must end inside rmap_vma");
	return 0;
}

/* Whether one of nr folios from `first` on may break a rule of check_folio(). The rules are written
 * without branches here, so that they vectorise. */
static bool suspicious(const struct rmf_population *pop, uint64_t first, uint64_t nr)
{
	uint64_t wrong = 0;

	for (uint64_t i = first; i < first + nr; i++) {
		uint64_t order = pop->folio_order[i] <= RMF_MAX_ORDER ? pop->folio_order[i] : 0,
			 pages = (uint64_t)1 << order;
		uint32_t rest = (uint32_t)(pop->folio_mapcount[i] - pop->folio_entire_mapcount[i]) &
				(uint32_t)(pages - 1);

		wrong |= (pop->folio_order[i] > RMF_MAX_ORDER) |
			 (pop->folio_pfn[i] > RMF_ZERO_PFN - pages) |
			 (pop->folio_index[i] > LIMIT) | (pop->folio_swap[i] > LIMIT - pages) |
			 (pop->nr_pages < pages) |
			 (pop->folio_page_base[i] > pop->nr_pages - pages) |
			 (rest && !(pop->folio_flags[i] & RMF_FOLIO_PAGE_MAPCOUNTS)) |
			 (pop->rmap_start[i] > pop->rmap_start[i + 1]) |
			 (pop->rmap_start[i + 1] > pop->nr_rmap);
	}
	return wrong;
}

static int check_sizes_and_vmas(const struct rmf_population *pop, struct rmf_fault *fault)
{
	int error = 0;

	if (pop->ptrs_per_pte < 2 || pop->ptrs_per_pte > 8192 ||
	    (pop->ptrs_per_pte & (pop->ptrs_per_pte - 1)))
		return rmf_fault_at(fault, "population.ptrs_per_pte", 0,
				    "must be a power of two from 2 to 8192");
	if (pop->nr_folios > UINT32_MAX || pop->nr_vmas > UINT32_MAX)
		return rmf_fault_at(fault, "population.folio_pfn", 0,
				    "at most 2^32 - 1 folios and VMAs");
	for (uint64_t i = 0; i < pop->nr_vmas && !error; i++)
		error = check_vma(pop, i, fault);
	return error;
}

int rmf_population_check_trusted(const struct rmf_population *pop, struct rmf_fault *fault)
{
	int error = check_sizes_and_vmas(pop, fault);
	uint8_t highest = 0;

	for (uint64_t i = 0; i < pop->nr_folios; i++)
		highest = pop->folio_order[i] > highest ? pop->folio_order[i] : highest;
	if (!error &&
	    (highest > RMF_MAX_ORDER || (pop->nr_folios && pop->nr_pages >> highest == 0)))
		for (uint64_t i = 0; i < pop->nr_folios && !error; i++)
			error = check_folio(pop, i, fault);
	return error;
}

int rmf_population_check(const struct rmf_population *pop, struct rmf_fault *fault)
{
	enum { BLOCK = 512 };
	int error = check_sizes_and_vmas(pop, fault);

	for (uint64_t first = 0; first < pop->nr_folios && !error; first += BLOCK) {
		uint64_t nr = pop->nr_folios - first < BLOCK ? pop->nr_folios - first : BLOCK;

		if (suspicious(pop, first, nr))
			for (uint64_t i = first; i < first + nr && !error; i++)
				error = check_folio(pop, i, fault);
	}
	for (uint64_t i = 0; i < pop->nr_rmap && !error; i++)
		if (pop->rmap_vma[i] >= pop->nr_vmas)
			error = rmf_fault_at(fault, "population.rmap_vma", i, "no such VMA");
	return error;
}

uint64_t *rmf_folio_bits(const struct rmf_population *pop)
{
	return calloc(pop->nr_folios / 64 + 1, sizeof(uint64_t));
}

uint64_t rmf_ascending(const uint32_t *numbers, uint64_t nr)
{
	enum { BLOCK = 16 };
	uint64_t n = 1;

	if (nr < 2 || numbers[1] != numbers[0] + 1)
		return 1; /* a shuffled list: no look at a block */
	for (; n + BLOCK <= nr; n += BLOCK) {
		uint32_t differ = 0;

		for (uint32_t i = 0; i < BLOCK; i++)
			differ |= numbers[n + i] ^ (numbers[0] + (uint32_t)n + i);
		if (differ)
			break;
	}
	while (n < nr && numbers[n] == numbers[0] + (uint32_t)n)
		n++;
	return n;
}

/* Without undefined behaviour for the orders of arrays that were not checked. */
static uint64_t pages_of_order(uint8_t order)
{
	return (uint64_t)1 << (order & 63);
}

uint64_t rmf_pages_of_folios(const struct rmf_population *pop, uint64_t first, uint64_t nr)
{
	const uint64_t ones = 0x0101010101010101, end = first + nr;
	uint64_t pages = 0, eight;

	for (; first + sizeof(eight) <= end; first += sizeof(eight)) {
		const uint8_t order = pop->folio_order[first];

		memcpy(&eight, pop->folio_order + first, sizeof(eight));
		if (eight == order * ones) {
			pages += sizeof(eight) * pages_of_order(order);
			continue;
		}
		for (uint64_t i = first; i < first + sizeof(eight); i++)
			pages += pages_of_order(pop->folio_order[i]);
	}
	for (; first < end; first++)
		pages += pages_of_order(pop->folio_order[first]);
	return pages;
}

/* The bits [first, end) of a word of bits, of which some are in it. */
static uint64_t bits_in_word(uint64_t word, uint64_t first, uint64_t end)
{
	const uint64_t low = first > word * 64 ? first - word * 64 : 0,
		       high = end < word * 64 + 64 ? end - word * 64 : 64;

	return (high == 64 ? 0 : (uint64_t)1 << high) - ((uint64_t)1 << low);
}

/* Set the bits [first, end). Returns false, and sets none, if one of them is set already. */
static bool set_clear_bits(uint64_t *bits, uint64_t first, uint64_t end)
{
	uint64_t set = 0;

	for (uint64_t word = first / 64; word * 64 < end; word++)
		set |= bits[word] & bits_in_word(word, first, end);
	for (uint64_t word = first / 64; !set && word * 64 < end; word++)
		bits[word] |= bits_in_word(word, first, end);
	return !set;
}

int rmf_folios_check(const struct rmf_population *pop, const uint32_t *folios, uint64_t nr,
		     const char *name, uint64_t *listed, struct rmf_fault *fault)
{
	uint64_t i = 0;

	while (i < nr) {
		const uint32_t first = *(const volatile uint32_t *)&folios[i];
		const uint64_t n = rmf_ascending(folios + i, nr - i);

		if (first + n <= pop->nr_folios && set_clear_bits(listed, first, first + n)) {
			i += n;
			continue;
		}
		for (const uint64_t end = i + n; i < end; i++) {
			const uint32_t folio = *(const volatile uint32_t *)&folios[i];

			if (folio >= pop->nr_folios)
				return rmf_fault_at(fault, name, i, "no such folio");
			if (!set_clear_bits(listed, folio, (uint64_t)folio + 1))
				return rmf_fault_at(fault, name, i, "the folio is listed already");
		}
	}
	return 0;
}

int rmf_lru_check(const struct rmf_population *pop, const uint32_t *inactive, uint64_t nr_inactive,
		  const uint32_t *active, uint64_t nr_active, struct rmf_fault *fault)
{
	uint64_t *listed = rmf_folio_bits(pop);
	int error;

	if (!listed)
		return RMF_ENOMEM;
	error = rmf_folios_check(pop, inactive, nr_inactive, "population.lru_inactive", listed,
				 fault);
	if (!error)
		error = rmf_folios_check(pop, active, nr_active, "population.lru_active", listed,
					 fault);
	free(listed);
	return error;
}
