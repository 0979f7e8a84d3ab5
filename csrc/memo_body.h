/* The body of rmf_visit_known(), compiled once for each instruction set: isa_generic.c and the
 * others define RMF_VISIT_KNOWN, the name of the function, and RMF_VECTOR, the bytes of a vector.
 */
#include <string.h>
#if RMF_VECTOR > 16
#include <immintrin.h>
#endif

#include "counted.h"
#include "memo.h"
#include "swap.h"

enum { LANES = RMF_VECTOR / sizeof(rmf_pte) };

typedef rmf_pte vector __attribute__((vector_size(RMF_VECTOR), aligned(8), may_alias));

/* So many folios and entries are compared at a time that they are still in the first-level cache
 * when they are changed. */
/* After so many folios of one shape in a row, more are looked for at once. */
enum { ROW = 3 };

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
 * in the VMA. */
static inline uint64_t nr_equal_numbers(const struct rmf_population *pop,
					const struct rmf_regular *regular, uint64_t folio,
					uint64_t m)
{
	const uint32_t *flags = pop->folio_flags + folio, *rmap_vma;
	const int32_t *refcount = pop->folio_refcount + folio,
		      *mapcount = pop->folio_mapcount + folio,
		      *mapped = pop->folio_nr_pages_mapped + folio,
		      *entire = pop->folio_entire_mapcount + folio;
	const uint64_t *index = pop->folio_index + folio, *rmap = pop->rmap_start + folio;
	const uint64_t nr = (uint64_t)1 << regular->order, row = rmap[0], first = index[0];
	/* an order-0 folio has no nr_pages_mapped */
	const int32_t pages = (int32_t)nr, ignored = regular->order ? 0 : -1;
	uint32_t differ = 0;
	uint64_t differ64 = 0, equal;

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

/* Compare the first of n folios with `regular`, and change those that fit, as it says. Only folios
 * with consecutive numbers are taken. Returns how many were changed. With RMF_ENTRIES_SWAPPED they
 * take the swap slots from `swap` on, of which the caller has enough. */
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
		uint64_t m = 1, vpn, last_vpn, left = n - done < most ? n - done : most;
		rmf_pte *ptes;

		if (pop->folio_order[folio] != order || (done && folio != folios[done - 1] + 1))
			break;
		while (m < left && folios[done + m] == folio + m &&
		       pop->folio_order[folio + m] == order)
			m++;
		m = nr_equal_numbers(pop, regular, folio, m);
		if (!m)
			break;
		ptes = rmf_slot_of_folio(pop, regular->vma, pop->folio_index[folio], nr, &vpn);
		if (!ptes || ((regular->low & RMF_PTE_CONT) && (vpn & (cont_ptes - 1))))
			break;
		/* aligned folios cross no border of a table, so only their tables need a look */
		if (m > 1 && ((vpn & (nr - 1)) ||
			      !rmf_slot_of_folio(pop, regular->vma, pop->folio_index[folio + m - 1],
						 nr, &last_vpn)))
			m = 1;
		for (uint64_t i = 1; i < m; i += pop->ptrs_per_pte >> order)
			if (!rmf_slot_of_folio(pop, regular->vma, pop->folio_index[folio + i], nr,
					       &last_vpn))
				m = i;
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
			for (uint64_t i = 0; i < m; i++)
				pop->folio_swap[folio + i] = swap + ((done + i) << order);
			break;
		case RMF_ENTRIES_STAY:
		case RMF_ENTRIES_OLD:
		case RMF_ENTRIES_LOW:
			if (regular->low != regular->low_after)
				flip(ptes, m << order, regular->low ^ regular->low_after);
			break;
		}
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

/* Which lanes of a vector are 0. */
static inline uint64_t lanes_zero(vector words)
{
#if RMF_VECTOR == 64
	return _mm512_testn_epi64_mask((__m512i)words, (__m512i)words);
#elif RMF_VECTOR == 32
	const __m256i zero = _mm256_setzero_si256();

	return (uint32_t)_mm256_movemask_pd((__m256d)_mm256_cmpeq_epi64((__m256i)words, zero));
#else
	uint64_t lanes = 0;

	for (int lane = 0; lane < LANES; lane++)
		lanes |= (uint64_t)!words[lane] << lane;
	return lanes;
#endif
}

/* Which lanes of a vector have a bit, which is a constant. */
static inline uint64_t lanes_with(vector words, int bit)
{
#if RMF_VECTOR == 64
	return _mm512_test_epi64_mask((__m512i)words, _mm512_set1_epi64(1 << bit));
#elif RMF_VECTOR == 32
	return (uint32_t)_mm256_movemask_pd((__m256d)_mm256_slli_epi64((__m256i)words, 63 - bit));
#else
	uint64_t lanes = 0;

	for (int lane = 0; lane < LANES; lane++)
		lanes |= (words[lane] >> bit & 1) << lane;
	return lanes;
#endif
}

/* The entries of one row. They fit if they are none, or map the page that belongs there, with bits
 * that may differ. Of a folio with more than 64 pages the masks are numbers: the young entries, and
 * the dirty ones with bit 63 for the first. */
struct scan {
	bool fits;
	struct rmf_masks masks;
};

enum {
	WRITE_BIT = 1,
	YOUNG_BIT = 2,
	DIRTY_BIT = 3,
	SOFT_DIRTY_BIT = 4,
};
_Static_assert(RMF_PTE_WRITE == 1 << WRITE_BIT && RMF_PTE_YOUNG == 1 << YOUNG_BIT &&
		       RMF_PTE_DIRTY == 1 << DIRTY_BIT && RMF_PTE_SOFT_DIRTY == 1 << SOFT_DIRTY_BIT,
	       "pte.h");

/* The bits of the first entry that is not none. */
static inline rmf_pte first_low(const rmf_pte *ptes, uint64_t nr)
{
	uint64_t i = 0;

	while (i < nr - 1 && !ptes[i])
		i++;
	return ptes[i] & (RMF_PFN_ONE - 1);
}

/* Look at the nr entries of a folio that has a bit for each page. nr is a constant. */
static inline __attribute__((always_inline)) struct scan scan_entries(const rmf_pte *ptes,
								      rmf_pte frame, uint64_t nr)
{
	struct scan scan = { .masks.low = first_low(ptes, nr) };
	const rmf_pte first = frame | scan.masks.low;
	uint64_t same = 0;

	if (nr < LANES) {
		for (uint64_t i = 0; i < nr; i++) {
			const rmf_pte pte = ptes[i], differ = pte ^ (first + (i << RMF_PFN_SHIFT));

			same |= (uint64_t)!(differ & ~RMF_SHAPE_BITS) << i;
			scan.masks.none |= (uint64_t)!pte << i;
			scan.masks.write |= (pte >> WRITE_BIT & 1) << i;
			scan.masks.soft_dirty |= (pte >> SOFT_DIRTY_BIT & 1) << i;
			scan.masks.young |= (pte >> YOUNG_BIT & 1) << i;
			scan.masks.dirty |= (pte >> DIRTY_BIT & 1) << i;
		}
	} else {
		vector expected = running(first);

		for (uint64_t i = 0; i < nr; i += LANES) {
			const vector words = *(const vector *)(ptes + i);

			same |= lanes_zero((words ^ expected) & ~RMF_SHAPE_BITS) << i;
			scan.masks.none |= lanes_zero(words) << i;
			scan.masks.write |= lanes_with(words, WRITE_BIT) << i;
			scan.masks.soft_dirty |= lanes_with(words, SOFT_DIRTY_BIT) << i;
			scan.masks.young |= lanes_with(words, YOUNG_BIT) << i;
			scan.masks.dirty |= lanes_with(words, DIRTY_BIT) << i;
			expected += (rmf_pte)LANES << RMF_PFN_SHIFT;
		}
	}
	scan.fits = !(~(same | scan.masks.none) & rmf_low_bits(nr)) &&
		    (!scan.masks.low || (scan.masks.low & RMF_PTE_PRESENT));
	return scan;
}

/* Look at the entries of a larger folio. Young entries are counted, and so are dirty ones, but for
 * the first. */
static inline struct scan scan_many(const rmf_pte *ptes, rmf_pte frame, uint64_t nr)
{
	enum { AT_ONCE = 64 };
	const rmf_pte low = *ptes & (RMF_PFN_ONE - 1);
	struct scan scan = {
		.masks.low = low,
		.masks.write = low & RMF_PTE_WRITE ? ~(uint64_t)0 : 0,
		.masks.soft_dirty = low & RMF_PTE_SOFT_DIRTY ? ~(uint64_t)0 : 0,
	};
	uint64_t young = 0, dirty = 0;

	for (uint64_t i = 0; i < nr; i += AT_ONCE) {
		rmf_pte differ = 0;

		for (uint64_t j = i; j < i + AT_ONCE; j++) {
			differ |= ptes[j] ^ (frame + (j << RMF_PFN_SHIFT) + low);
			young += ptes[j] >> YOUNG_BIT & 1;
			dirty += ptes[j] >> DIRTY_BIT & 1;
		}
		if (differ & ~(rmf_pte)(RMF_PTE_YOUNG | RMF_PTE_DIRTY))
			return scan;
	}
	scan.fits = low & RMF_PTE_PRESENT;
	scan.masks.young = young;
	scan.masks.dirty = dirty | (low & RMF_PTE_DIRTY ? (uint64_t)1 << 63 : 0);
	return scan;
}

static inline struct scan scan_row(const rmf_pte *ptes, rmf_pte frame, uint32_t order)
{
	switch (order) {
	case 0:
		return scan_entries(ptes, frame, 1);
	case 1:
		return scan_entries(ptes, frame, 2);
	case 2:
		return scan_entries(ptes, frame, 4);
	case 3:
		return scan_entries(ptes, frame, 8);
	case 4:
		return scan_entries(ptes, frame, 16);
	case 5:
		return scan_entries(ptes, frame, 32);
	case RMF_SHAPE_ORDER:
		return scan_entries(ptes, frame, 64);
	}
	return scan_many(ptes, frame, (uint64_t)1 << order);
}

static inline bool some_not_all(uint64_t mask, uint64_t within)
{
	return mask && mask != within;
}

/* Find the shape of how one VMA maps a folio. False if it has none. */
static inline bool row_of(struct rmf_run *run, uint32_t folio, uint32_t vma,
			  struct rmf_shape *shape)
{
	const struct rmf_population *pop = &run->pop;
	const uint32_t order = pop->folio_order[folio], row = shape->nr_rows;
	const uint64_t nr = (uint64_t)1 << order;
	const struct rmf_memo *memo = run->memo;
	const uint32_t vma_class = vma < memo->nr_vmas && memo->vma_class[vma]
					   ? memo->vma_class[vma] - 1
					   : rmf_vma_class_of(run, vma);
	uint64_t *words = shape->words + RMF_SHAPE_HEAD + row * RMF_SHAPE_ROW, vpn, within;
	rmf_pte *ptes = rmf_slot_of_folio(pop, vma, pop->folio_index[folio], nr, &vpn);
	uint64_t class_and_low;
	struct rmf_masks *masks;
	struct scan scan;
	bool mixed;

	if (!ptes || vma_class == RMF_MEMO_CLASSES)
		return false;
	scan = scan_row(ptes, pop->folio_pfn[folio] << RMF_PFN_SHIFT, order);
	masks = &scan.masks;
	/* a larger folded block, or one that begins elsewhere, has entries of other folios */
	if (!scan.fits || ((masks->low & RMF_PTE_CONT) &&
			   (nr < run->arch.cont_ptes || (vpn & (run->arch.cont_ptes - 1)))))
		return false;
	shape->young[row] = masks->young;
	if (order <= RMF_SHAPE_ORDER) {
		within = rmf_low_bits(nr) & ~masks->none;
		mixed = some_not_all(masks->young, within) || some_not_all(masks->dirty, within);
		shape->uniform = !masks->none && !mixed && !some_not_all(masks->write, within) &&
				 !some_not_all(masks->soft_dirty, within);
		if (mixed)
			rmf_count_bits(&run->policy, run->arch.cont_ptes, order, RMF_CLAIM_RIGHT,
				       masks);
	} else {
		const bool mixed_dirty = some_not_all(masks->dirty, nr | (uint64_t)1 << 63);

		mixed = mixed_dirty || some_not_all(masks->young, nr);
		shape->uniform = !mixed;
		if ((mixed && (masks->low & RMF_PTE_CONT)) ||
		    (mixed_dirty && (run->policy.respect & RMF_FPB_RESPECT_DIRTY)))
			return false;
	}
	class_and_low = (uint64_t)vma_class << 32 | (masks->low & ~RMF_SHAPE_BITS);
	words[RMF_SHAPE_CLASS] = class_and_low;
	words[RMF_SHAPE_NONE] = masks->none;
	words[RMF_SHAPE_WRITE] = masks->write;
	words[RMF_SHAPE_SOFT_DIRTY] = masks->soft_dirty;
	words[RMF_SHAPE_YOUNG] = masks->young;
	words[RMF_SHAPE_DIRTY] = masks->dirty;
	/* sums of products can be made side by side */
	shape->hash = shape->hash * 0x9e3779b97f4a7c15 + class_and_low * 0xbf58476d1ce4e5b9 +
		      masks->none * 0x94d049bb133111eb + masks->write * 0xd6e8feb86659fd93 +
		      masks->soft_dirty * 0xa0761d6478bd642f + masks->young * 0xe7037ed1a0b428db +
		      masks->dirty * 0x8ebc6af09c88c6e3;
	shape->ptes[row] = ptes;
	shape->vma[row] = vma;
	shape->nr_rows = row + 1;
	shape->nr_words += RMF_SHAPE_ROW;
	return true;
}

/* Whether the mapcounts of the pages of a folio are the numbers of entries that map them. */
static inline bool mapcounts_agree(const struct rmf_population *pop, uint32_t folio,
				   const struct rmf_shape *shape)
{
	const uint64_t nr = rmf_folio_nr_pages(pop, folio);
	const int32_t *mapcount = pop->page_mapcount + pop->folio_page_base[folio];
	uint32_t differ = 0;

	for (uint64_t i = 0; i < nr; i++) {
		int32_t maps = (int32_t)shape->nr_rows;

		for (uint32_t row = 0; row < shape->nr_rows; row++)
			maps -= (int32_t)(shape->words[RMF_SHAPE_HEAD + row * RMF_SHAPE_ROW +
						       RMF_SHAPE_NONE] >>
						  i &
					  1);
		differ |= (uint32_t)(mapcount[i] ^ maps);
	}
	return !differ;
}

/* Find the shape of a folio. Without one, nr_words is 0. */
static inline void shape_of(struct rmf_run *run, enum rmf_visit_kind kind, uint32_t folio,
			    struct rmf_shape *shape)
{
	const struct rmf_population *pop = &run->pop;
	const uint32_t flags = pop->folio_flags[folio], order = pop->folio_order[folio];
	const uint64_t rows = pop->rmap_start[folio + 1] - pop->rmap_start[folio];
	const uint32_t *vma = pop->rmap_vma + pop->rmap_start[folio];

	shape->nr_words = 0;
	if (rows > RMF_SHAPE_ROWS || (flags & RMF_FOLIO_PAGE_FLAGS) ||
	    ((flags & RMF_FOLIO_PAGE_MAPCOUNTS) && order > RMF_SHAPE_ORDER))
		return;
	shape->words[0] = (uint64_t)(uint32_t)pop->folio_refcount[folio] << 32 | flags;
	shape->words[1] = (uint64_t)(uint32_t)pop->folio_entire_mapcount[folio] << 32 |
			  (uint32_t)pop->folio_mapcount[folio];
	/* an order-0 folio has no nr_pages_mapped */
	shape->words[2] = (uint64_t)(rows << 16 | order << 8 | (uint32_t)kind) << 32 |
			  (order ? (uint32_t)pop->folio_nr_pages_mapped[folio] : 0);
	shape->hash = shape->words[0] * 0x2d358dccaa6c78a5 + shape->words[1] * 0x8bb84b93962eacc9 +
		      shape->words[2] * 0x4b33a62ed433d4a3;
	shape->nr_words = RMF_SHAPE_HEAD;
	shape->nr_rows = 0;
	for (uint64_t i = 0; i < rows; i++) {
		if (!row_of(run, folio, vma[i], shape)) {
			shape->nr_words = 0;
			return;
		}
	}
	shape->uniform = rows == 1 && shape->uniform;
	shape->hash ^= shape->hash >> 32;
	shape->hash *= 0x9e3779b97f4a7c15;
	if ((flags & RMF_FOLIO_PAGE_MAPCOUNTS) && !mapcounts_agree(pop, folio, shape))
		shape->nr_words = 0;
}

/* The entries of a row after the visit. */
static inline void change_entries(const struct rmf_population *pop, uint32_t folio,
				  const struct rmf_known *known, const struct rmf_shape *shape,
				  uint32_t row, uint64_t swap)
{
	const uint64_t nr = (uint64_t)1 << known->order;
	rmf_pte *ptes = shape->ptes[row], first;

	switch ((enum rmf_entries_after)known->entries_after[row]) {
	case RMF_ENTRIES_STAY:
		break;
	case RMF_ENTRIES_OLD:
		if (shape->young[row])
			for (uint64_t i = 0; i < nr; i++)
				ptes[i] &= ~(rmf_pte)RMF_PTE_YOUNG;
		break;
	case RMF_ENTRIES_CLEARED:
		clear(ptes, nr);
		break;
	case RMF_ENTRIES_LOW:
	case RMF_ENTRIES_SWAPPED:
		first = known->entries_after[row] == RMF_ENTRIES_LOW ? pop->folio_pfn[folio] : swap;
		first = first << RMF_PFN_SHIFT | known->low_after[row];
		for (uint64_t i = 0; i < nr; i++)
			ptes[i] = ptes[i] ? first + (i << RMF_PFN_SHIFT) : 0;
		break;
	}
}

/* Give a folio the state after the visit. */
static inline void change_folio(struct rmf_run *run, uint32_t folio, const struct rmf_known *known,
				const struct rmf_shape *shape)
{
	const struct rmf_population *pop = &run->pop;

	for (uint32_t row = 0; row < shape->nr_rows; row++) {
		int64_t *rss =
			pop->mm_rss + (uint64_t)pop->vma_mm[shape->vma[row]] * RMF_NR_MM_COUNTERS;

		change_entries(pop, folio, known, shape, row, run->swap_next);
		for (int i = 0; i < RMF_NR_MM_COUNTERS; i++)
			rss[i] += known->rss[row][i];
	}
	if (known->takes_swap) {
		const uint64_t nr = (uint64_t)1 << known->order;

		pop->folio_swap[folio] = run->swap_next;
		run->swap_next += nr;
		run->swap_used += (int64_t)nr;
	}
	pop->folio_flags[folio] = known->flags_after;
	pop->folio_refcount[folio] = known->refcount_after;
	pop->folio_mapcount[folio] = known->mapcount_after;
	if (known->order)
		pop->folio_nr_pages_mapped[folio] = known->nr_pages_mapped_after;
}

/* In how many folios of a row the same uniform shape is looked for, of n at most, after the folio
 * whose shape that is. Returns how many had it and were changed. */
static uint64_t visit_alike(struct rmf_run *run, struct rmf_known *known,
			    const struct rmf_shape *shape, const uint32_t *folios, uint64_t n)
{
	const struct rmf_population *pop = &run->pop;
	const uint64_t *words = shape->words, *row = words + RMF_SHAPE_HEAD;
	struct rmf_regular regular = {
		.vma = shape->vma[0],
		.flags = (uint32_t)words[0],
		.refcount = (int32_t)(words[0] >> 32),
		.order = known->order,
		.low = (uint32_t)row[RMF_SHAPE_CLASS],
		.flags_after = known->flags_after,
		.refcount_after = known->refcount_after,
		.mapcount_after = known->mapcount_after,
		.nr_pages_mapped_after = known->nr_pages_mapped_after,
		.entries_after = known->entries_after[0],
		.low_after = known->low_after[0],
	};
	int64_t *rss = pop->mm_rss + (uint64_t)pop->vma_mm[regular.vma] * RMF_NR_MM_COUNTERS;
	uint64_t done = 0, nr;

	regular.low |= (row[RMF_SHAPE_WRITE] ? RMF_PTE_WRITE : 0) |
		       (row[RMF_SHAPE_SOFT_DIRTY] ? RMF_PTE_SOFT_DIRTY : 0) |
		       (row[RMF_SHAPE_YOUNG] ? RMF_PTE_YOUNG : 0) |
		       (row[RMF_SHAPE_DIRTY] ? RMF_PTE_DIRTY : 0);
	if (known->entries_after[0] == RMF_ENTRIES_STAY)
		regular.low_after = regular.low;
	if (known->entries_after[0] == RMF_ENTRIES_OLD)
		regular.low_after = regular.low & ~(rmf_pte)RMF_PTE_YOUNG;
	do {
		const uint64_t ahead = n - done < known->ahead ? n - done : known->ahead;
		uint64_t left = ahead;

		if (known->takes_swap && left > (run->swap_end - run->swap_next) >> known->order)
			left = (run->swap_end - run->swap_next) >> known->order;
		nr = visit_regular(pop, &regular, run->arch.cont_ptes, run->swap_next,
				   folios + done, left);
		if (known->takes_swap) {
			run->swap_next += nr << known->order;
			run->swap_used += (int64_t)(nr << known->order);
		}
		done += nr;
		if (nr < ahead)
			break;
		if (known->ahead < MAX_FOLIOS)
			known->ahead *= 2;
	} while (done < n);
	/* what the next row of this shape is likely to have */
	if (done * 2 < known->ahead)
		known->ahead = done < RMF_MEMO_AHEAD / 2 ? RMF_MEMO_AHEAD : (uint32_t)done * 2;
	known->nr += done;
	for (int i = 0; i < RMF_NR_MM_COUNTERS; i++)
		rss[i] += (int64_t)done * known->rss[0][i];
	return done;
}

/* Whether visit_regular() may compare further folios with this one. */
static inline bool is_regular(const struct rmf_shape *shape, uint32_t order)
{
	const int32_t nr = (int32_t)1 << order;

	return shape->uniform && !((uint32_t)shape->words[0] & RMF_FOLIO_PAGE_MAPCOUNTS) &&
	       shape->words[1] == (uint32_t)nr && (!order || (int32_t)shape->words[2] == nr);
}

/* Fetch what the visits to come will read, in three steps of which each needs the one before: the
 * numbers of a folio, its VMA, its entries. Where folios follow each other the processor does that
 * by itself. In a shuffled list of 2 GiB it makes a run 1.7 times as fast. gcc would drop the call
 * of a function that only prefetches, so it has to be inlined. */
static inline __attribute__((always_inline)) void fetch_ahead(const struct rmf_population *pop,
							      const uint32_t *folios, uint64_t left)
{
	enum { NUMBERS = 24, VMA = 16, ENTRIES = 8 };
	uint32_t folio;

	if (left <= NUMBERS || folios[NUMBERS] - folios[0] == NUMBERS)
		return;
	folio = folios[NUMBERS];
	__builtin_prefetch(&pop->folio_order[folio]);
	__builtin_prefetch(&pop->folio_flags[folio], 1);
	__builtin_prefetch(&pop->folio_refcount[folio], 1);
	__builtin_prefetch(&pop->folio_mapcount[folio], 1);
	__builtin_prefetch(&pop->folio_entire_mapcount[folio]);
	__builtin_prefetch(&pop->folio_nr_pages_mapped[folio], 1);
	__builtin_prefetch(&pop->folio_index[folio]);
	__builtin_prefetch(&pop->folio_pfn[folio]);
	__builtin_prefetch(&pop->rmap_start[folio]);
	folio = folios[VMA];
	__builtin_prefetch(&pop->rmap_vma[pop->rmap_start[folio]]);
	folio = folios[ENTRIES];
	if (pop->rmap_start[folio] < pop->rmap_start[folio + 1]) {
		const uint32_t vma = pop->rmap_vma[pop->rmap_start[folio]];
		const rmf_pte *ptes = pop->ptes + pop->vma_pte_base[vma] +
				      (pop->folio_index[folio] - pop->vma_pgoff[vma]);

		/* a prefetch of an address that does not exist does nothing */
		for (uint32_t line = 0; line < rmf_folio_nr_pages(pop, folio) && line < 32;
		     line += 8)
			__builtin_prefetch(ptes + line, 1);
	}
}

rmf_visit_known RMF_VISIT_KNOWN;

uint64_t RMF_VISIT_KNOWN(struct rmf_run *run, enum rmf_visit_kind kind, const uint32_t *folios,
			 uint64_t n, struct rmf_visits *out, uint64_t room, uint64_t *used,
			 struct rmf_shape *shape)
{
	struct rmf_memo *memo = run->memo;
	const struct rmf_known *last = NULL;
	uint32_t row = 0;
	uint64_t done = 0;

	shape->nr_words = 0;
	while (done < n) {
		const uint32_t folio = folios[done];
		struct rmf_known *known;
		struct rmf_visits *visits;
		uint64_t nr = 1;

		fetch_ahead(&run->pop, folios + done, n - done);
		shape_of(run, kind, folio, shape);
		if (!shape->nr_words)
			break;
		known = rmf_known_shape(memo, shape);
		if (!known || !known->usable)
			break;
		if (known->takes_swap && run->swap_end - run->swap_next < (uint64_t)1
										  << known->order)
			break;
		visits = &out[*used - 1];
		if (!*used || !rmf_visits_equal(visits, &known->visits)) {
			if (*used == room)
				break;
			visits = &out[(*used)++];
			*visits = known->visits;
			visits->nr = 0;
		}
		change_folio(run, folio, known, shape);
		if (!known->nr) {
			known->next_used = memo->used;
			memo->used = (uint32_t)(known - memo->known) + 1;
		}
		known->nr++;
		row = known == last ? row + 1 : 0;
		last = known;
		done++;
		if ((row >= ROW || known->ahead > RMF_MEMO_AHEAD) && done < n &&
		    folios[done] == folio + 1 && is_regular(shape, known->order))
			nr += visit_alike(run, known, shape, folios + done, n - done);
		visits->nr += nr;
		done += nr - 1;
		/* the loop has to look at its lists now */
		if (known->takes_swap && run->stop_without_swap && !rmf_swap_free_slots(run)) {
			shape->nr_words = 0;
			break;
		}
	}
	return done;
}
