/* A part of the body of rmf_visit_known(): rows of regular folios, whose entries are compared and
 * changed many at a time. */
#include <string.h>

#include "memo.h"

enum { LANES = RMF_VECTOR / sizeof(rmf_pte) };

typedef rmf_pte vector __attribute__((vector_size(RMF_VECTOR), aligned(8), may_alias));

/* After twice so many folios of one shape in a row, more are looked for at once. */
enum { ROW = 3, MAX_TRUST = 4 };

/* So many folios that may differ in their entries share one look at their numbers. */
enum { MIN_BLOCK = 8, MAX_BLOCK = 64 };

/* So many folios and entries are compared at a time that they are still in the first-level cache
 * when they are changed. */
enum { MAX_FOLIOS = 128, MAX_ENTRIES = 2048 };

/* `first` and its successors. */
static inline vector running(rmf_pte first)
{
	static const rmf_pte frames[] = { 0 * RMF_PFN_ONE, 1 * RMF_PFN_ONE, 2 * RMF_PFN_ONE,
					  3 * RMF_PFN_ONE, 4 * RMF_PFN_ONE, 5 * RMF_PFN_ONE,
					  6 * RMF_PFN_ONE, 7 * RMF_PFN_ONE };

	return *(const vector *)frames + first;
}

/* Whether n entries are `first` and its successors. */
static inline bool follow(const rmf_pte *ptes, uint64_t n, rmf_pte first)
{
	rmf_pte differ = 0;
	uint64_t i = 0;

	if (n >= 4 * LANES) {
		const rmf_pte step = (rmf_pte)LANES << RMF_PFN_SHIFT;
		vector expected = running(first), differs = { 0 };

		for (; i + 4 * LANES <= n; i += 4 * LANES, expected += 4 * step) {
			const vector *at = (const vector *)(ptes + i);

			differs |= (at[0] ^ expected) | (at[1] ^ (expected + step)) |
				   (at[2] ^ (expected + 2 * step)) |
				   (at[3] ^ (expected + 3 * step));
		}
		for (int lane = 0; lane < LANES; lane++)
			differ |= differs[lane];
	}
	for (; i < n; i++)
		differ |= ptes[i] ^ (first + (i << RMF_PFN_SHIFT));
	return !differ;
}

static inline void clear(rmf_pte *ptes, uint64_t n)
{
	uint64_t i = 0;

	for (; i + LANES <= n; i += LANES)
		*(vector *)(ptes + i) = (vector){ 0 };
	for (; i < n; i++)
		ptes[i] = 0;
}

/* Write `first` and its successors. */
static inline void fill(rmf_pte *ptes, uint64_t n, rmf_pte first)
{
	vector words = running(first);
	uint64_t i = 0;

	for (; i + LANES <= n; i += LANES, words += (rmf_pte)LANES << RMF_PFN_SHIFT)
		*(vector *)(ptes + i) = words;
	for (; i < n; i++)
		ptes[i] = first + (i << RMF_PFN_SHIFT);
}

/* Clear n entries if they are `first` and its successors, in one pass. What was cleared too early
 * is known, and is put back. */
static inline bool clear_following(rmf_pte *ptes, uint64_t n, rmf_pte first)
{
	const rmf_pte step = (rmf_pte)LANES << RMF_PFN_SHIFT;
	vector expected = running(first);
	uint64_t i = 0;

	for (; i + 4 * LANES <= n; i += 4 * LANES, expected += 4 * step) {
		vector *at = (vector *)(ptes + i);
		vector differs = (at[0] ^ expected) | (at[1] ^ (expected + step)) |
				 (at[2] ^ (expected + 2 * step)) | (at[3] ^ (expected + 3 * step));
		rmf_pte differ = 0;

		for (int lane = 0; lane < LANES; lane++)
			differ |= differs[lane];
		if (differ)
			goto put_back;
		for (int j = 0; j < 4; j++)
			at[j] = (vector){ 0 };
	}
	if (follow(ptes + i, n - i, first + (i << RMF_PFN_SHIFT))) {
		clear(ptes + i, n - i);
		return true;
	}
put_back:
	fill(ptes, i, first);
	return false;
}

static inline void flip(rmf_pte *ptes, uint64_t n, rmf_pte bits)
{
	for (uint64_t i = 0; i < n; i++)
		ptes[i] ^= bits;
}

/* How many of m folios from `folio` on have the numbers of a regular one, and lie behind each other
 * in the VMA. The first has the page offset `first`. */
static inline uint64_t nr_equal_numbers(const struct rmf_population *pop,
					const struct rmf_regular *regular, uint64_t folio,
					uint64_t first, uint64_t m)
{
	const uint32_t *flags = pop->folio_flags + folio, *rmap_vma;
	const int32_t *refcount = pop->folio_refcount + folio,
		      *mapcount = pop->folio_mapcount + folio,
		      *mapped = pop->folio_nr_pages_mapped + folio,
		      *entire = pop->folio_entire_mapcount + folio;
	const uint64_t *index = pop->folio_index + folio, *rmap = pop->rmap_start + folio;
	const uint64_t nr = (uint64_t)1 << regular->order, row = *(const volatile uint64_t *)rmap;
	/* an order-0 folio has no nr_pages_mapped */
	const int32_t pages = (int32_t)nr, ignored = regular->order ? 0 : -1;
	uint32_t differ = 0;
	uint64_t differ64 = 0, equal;

	if (row > pop->nr_rmap)
		return 0;
	if (m > pop->nr_rmap - row)
		m = pop->nr_rmap - row;
	for (uint64_t i = 0; i < m; i++)
		differ64 |= (index[i] ^ (first + (i << regular->order))) |
			    (rmap[i + 1] ^ (row + i + 1));
	if (!differ64) {
		rmap_vma = pop->rmap_vma + row;
		for (uint64_t i = 0; i < m; i++)
			differ |= (flags[i] ^ regular->flags) |
				  (uint32_t)(refcount[i] ^ regular->refcount) |
				  (uint32_t)(mapcount[i] ^ pages) |
				  (uint32_t)((mapped[i] ^ pages) & ~ignored) | (uint32_t)entire[i] |
				  (rmap_vma[i] ^ regular->vma);
		if (!differ)
			return m;
	}
	for (equal = 0; equal < m; equal++)
		if (flags[equal] != regular->flags || refcount[equal] != regular->refcount ||
		    mapcount[equal] != pages || ((mapped[equal] ^ pages) & ~ignored) ||
		    entire[equal] || index[equal] != first + (equal << regular->order) ||
		    rmap[equal] != row + equal || rmap[equal + 1] != row + equal + 1 ||
		    pop->rmap_vma[row + equal] != regular->vma)
			break;
	return equal;
}

/* How many of m folios, which have consecutive slots from ptes[0] on, are mapped as a regular one
 * is. If *cleared was set and still is, their entries are cleared already. */
static inline uint64_t nr_equal_entries(rmf_pte *ptes, const uint64_t *pfn, uint64_t m,
					uint32_t order, rmf_pte low, bool *cleared)
{
	const uint64_t nr = (uint64_t)1 << order, first = pfn[0];
	uint64_t differ = 0, equal;

	for (uint64_t i = 0; i < m; i++)
		differ |= pfn[i] ^ (first + (i << order));
	if (!differ && *cleared &&
	    clear_following(ptes, m << order, (first << RMF_PFN_SHIFT) | low))
		return m;
	if (!differ && !*cleared && follow(ptes, m << order, (first << RMF_PFN_SHIFT) | low))
		return m;
	*cleared = false;
	if (!order) {
		for (differ = 0, equal = 0; equal < m; equal++)
			differ |= ptes[equal] ^ ((pfn[equal] << RMF_PFN_SHIFT) | low);
		if (!differ)
			return m;
	}
	for (equal = 0; equal < m; equal++)
		if (!follow(ptes + (equal << order), nr, (pfn[equal] << RMF_PFN_SHIFT) | low))
			break;
	return equal;
}

/* How many of the first n folios, whose numbers are consecutive, have the numbers of a regular one
 * and lie behind each other in its VMA and in tables that are present; *ptes is their first entry.
 */
static inline uint64_t nr_of_block(const struct rmf_population *pop,
				   const struct rmf_regular *regular, uint32_t cont_ptes,
				   const uint32_t *folios, uint64_t n, rmf_pte **ptes)
{
	const uint32_t order = regular->order;
	/* the page offset is read once: all slots follow from it, so that they lie in the VMA
	 * whoever else writes to the array */
	const uint64_t nr = (uint64_t)1 << order, folio = folios[0],
		       index = *(const volatile uint64_t *)&pop->folio_index[folio];
	uint64_t m = 1, in_vma, vpn, other_vpn;

	if (pop->folio_order[folio] != order)
		return 0;
	while (m < n && folios[m] == folio + m && pop->folio_order[folio + m] == order)
		m++;
	m = nr_equal_numbers(pop, regular, folio, index, m);
	if (!m)
		return 0;
	*ptes = rmf_slot_of_folio(pop, regular->vma, index, nr, &vpn);
	if (!*ptes || ((regular->low & RMF_PTE_CONT) && (vpn & (cont_ptes - 1))))
		return 0;
	/* aligned folios cross no border of a table: the first one of each table stands for it */
	if (vpn & (nr - 1))
		return 1;
	in_vma = (pop->vma_end[regular->vma] - vpn) >> order;
	m = m < in_vma ? m : in_vma;
	for (uint64_t i = (pop->ptrs_per_pte - (vpn & (pop->ptrs_per_pte - 1))) >> order; i < m;
	     i += pop->ptrs_per_pte >> order)
		if (!rmf_slot_of_folio(pop, regular->vma, index + (i << order), nr, &other_vpn))
			m = i;
	return m;
}

/* Compare the first of n folios with `regular`, and change those that fit, as it says. Only folios
 * with consecutive numbers are taken. Returns how many were changed. If they
 * take swap slots, these are those from `swap` on, of which the caller has enough. */
static uint64_t visit_regular(const struct rmf_population *pop, const struct rmf_regular *regular,
			      uint32_t cont_ptes, uint64_t swap, const uint32_t *folios, uint64_t n)
{
	const uint32_t order = regular->order;
	const uint64_t nr = (uint64_t)1 << order, most = MAX_ENTRIES >> order;
	uint64_t done = 0;

	/* a larger block, or one that begins elsewhere, has entries of other folios */
	if ((regular->low & RMF_PTE_CONT) && nr < cont_ptes)
		return 0;
	if (n > MAX_FOLIOS)
		n = MAX_FOLIOS;
	while (done < n) {
		const uint64_t folio = folios[done];
		/* compare and clear in one pass where the entries are most of what is read */
		bool cleared = regular->entries_after == RMF_ENTRIES_CLEARED && order >= 6;
		const uint64_t left = n - done < most ? n - done : most;
		rmf_pte *ptes;
		uint64_t m;

		if (done && folio != folios[done - 1] + 1)
			break;
		m = nr_of_block(pop, regular, cont_ptes, folios + done, left, &ptes);
		if (!m)
			break;
		m = nr_equal_entries(ptes, pop->folio_pfn + folio, m, order, regular->low,
				     &cleared);
		if (!m)
			break;
		switch (regular->entries_after) {
		case RMF_ENTRIES_CLEARED:
			if (!cleared)
				clear(ptes, m << order);
			break;
		case RMF_ENTRIES_SWAPPED:
			fill(ptes, m << order,
			     ((swap + (done << order)) << RMF_PFN_SHIFT) | regular->low_after);
			break;
		case RMF_ENTRIES_STAY:
		case RMF_ENTRIES_OLD:
		case RMF_ENTRIES_LOW:
			if (regular->low != regular->low_after)
				flip(ptes, m << order, regular->low ^ regular->low_after);
			break;
		}
		if (regular->takes_swap)
			for (uint64_t i = 0; i < m; i++)
				pop->folio_swap[folio + i] = swap + ((done + i) << order);
		for (uint64_t i = 0; i < m; i++)
			pop->folio_flags[folio + i] = regular->flags_after;
		if (regular->refcount_after != regular->refcount)
			for (uint64_t i = 0; i < m; i++)
				pop->folio_refcount[folio + i] = regular->refcount_after;
		if (regular->mapcount_after != (int32_t)nr)
			for (uint64_t i = 0; i < m; i++)
				pop->folio_mapcount[folio + i] = regular->mapcount_after;
		if (order && regular->nr_pages_mapped_after != (int32_t)nr)
			for (uint64_t i = 0; i < m; i++)
				pop->folio_nr_pages_mapped[folio + i] =
					regular->nr_pages_mapped_after;
		done += m;
	}
	return done;
}
