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
#include "regular_body.h"

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

/* The first entries of n, as many as a vector has. Lanes behind them are 0. */
static inline vector load_entries(const rmf_pte *ptes, uint64_t n)
{
#if RMF_VECTOR == 64
	if (n < LANES)
		return (vector)_mm512_maskz_loadu_epi64((__mmask8)((1 << n) - 1), ptes);
#endif
	(void)n;
	return *(const vector *)ptes;
}

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

	if (nr < LANES && (RMF_VECTOR < 64 || nr == 1)) {
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
			const vector words = load_entries(ptes + i, nr - i);

			same |= lanes_zero((words ^ expected) & ~RMF_SHAPE_BITS) << i;
			scan.masks.none |= lanes_zero(words) << i;
			scan.masks.write |= lanes_with(words, WRITE_BIT) << i;
			scan.masks.soft_dirty |= lanes_with(words, SOFT_DIRTY_BIT) << i;
			scan.masks.young |= lanes_with(words, YOUNG_BIT) << i;
			scan.masks.dirty |= lanes_with(words, DIRTY_BIT) << i;
			expected += (rmf_pte)LANES << RMF_PFN_SHIFT;
		}
	}
	scan.masks.none &= rmf_low_bits(nr);
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

/* Write the words of row `row` of a shape from what a scan of the entries found. False if the folio
 * has no shape. */
static inline bool row_words(const struct rmf_run *run, uint32_t order, uint32_t vma_class,
			     struct scan *scan, uint32_t row, struct rmf_shape *shape)
{
	const uint64_t nr = (uint64_t)1 << order;
	uint64_t *words = shape->words + RMF_SHAPE_HEAD + row * RMF_SHAPE_ROW;
	struct rmf_masks *masks = &scan->masks;
	uint64_t class_and_low;
	bool mixed;

	if (!scan->fits)
		return false;
	shape->young[row] = masks->young;
	if (order <= RMF_SHAPE_ORDER) {
		const uint64_t within = rmf_low_bits(nr) & ~masks->none;

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
	shape->mixed |= mixed;
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
	return true;
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
	uint64_t vpn;
	rmf_pte *ptes = rmf_slot_of_folio(pop, vma, pop->folio_index[folio], nr, &vpn);
	struct scan scan;

	if (!ptes || vma_class == RMF_MEMO_CLASSES)
		return false;
	scan = scan_row(ptes, pop->folio_pfn[folio] << RMF_PFN_SHIFT, order);
	/* a larger folded block, or one that begins elsewhere, has entries of other folios */
	if ((scan.masks.low & RMF_PTE_CONT) &&
	    (nr < run->arch.cont_ptes || (vpn & (run->arch.cont_ptes - 1))))
		return false;
	if (!row_words(run, order, vma_class, &scan, row, shape))
		return false;
	shape->ptes[row] = ptes;
	shape->vma[row] = vma;
	shape->nr_rows = row + 1;
	shape->nr_words += RMF_SHAPE_ROW;
	return true;
}

static inline uint64_t head_hash(const uint64_t *words)
{
	return words[0] * 0x2d358dccaa6c78a5 + words[1] * 0x8bb84b93962eacc9 +
	       words[2] * 0x4b33a62ed433d4a3;
}

static inline void finish_hash(struct rmf_shape *shape)
{
	shape->hash ^= shape->hash >> 32;
	shape->hash *= 0x9e3779b97f4a7c15;
}

/* Whether the mapcounts of the pages of a folio are the numbers of entries that map them. */
static inline bool mapcounts_agree(const struct rmf_population *pop, uint32_t folio,
				   const struct rmf_shape *shape)
{
	const uint64_t nr = rmf_folio_nr_pages(pop, folio);
	const int32_t *mapcount = pop->page_mapcount + rmf_folio_page_base(pop, folio);
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
	/* read once: an index that is changed meanwhile must not be used otherwise than it was
	 * checked */
	const uint64_t first = *(const volatile uint64_t *)&pop->rmap_start[folio],
		       rows = pop->rmap_start[folio + 1] - first;
	uint32_t vma;

	shape->nr_words = 0;
	shape->mixed = false;
	if (rows > RMF_SHAPE_ROWS || (flags & RMF_FOLIO_PAGE_FLAGS) ||
	    ((flags & RMF_FOLIO_PAGE_MAPCOUNTS) && order > RMF_SHAPE_ORDER))
		return;
	shape->words[0] = (uint64_t)(uint32_t)pop->folio_refcount[folio] << 32 | flags;
	shape->words[1] = (uint64_t)(uint32_t)pop->folio_entire_mapcount[folio] << 32 |
			  (uint32_t)pop->folio_mapcount[folio];
	/* an order-0 folio has no nr_pages_mapped */
	shape->words[2] = (uint64_t)(rows << 16 | order << 8 | (uint32_t)kind) << 32 |
			  (order ? (uint32_t)pop->folio_nr_pages_mapped[folio] : 0);
	shape->hash = head_hash(shape->words);
	shape->nr_words = RMF_SHAPE_HEAD;
	shape->nr_rows = 0;
	shape->uniform = false;
	/* of a folio that nobody maps the rules look at no entry; dirty file folios come by again
	 * and again after they were unmapped */
	for (uint64_t i = 0; i < rows && (int32_t)shape->words[1] > 0; i++) {
		if (!rmf_rmap_vma(pop, first + i, &vma) || !row_of(run, folio, vma, shape)) {
			shape->nr_words = 0;
			return;
		}
	}
	shape->uniform = rows == 1 && shape->uniform;
	finish_hash(shape);
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

/* Visit the first of n folios as far as they are regular ones of a known shape. How many are looked
 * at at once depends on how many there were before. */
static uint64_t visit_alike(struct rmf_run *run, struct rmf_known *known,
			    const struct rmf_regular *regular, const uint32_t *folios, uint64_t n)
{
	const struct rmf_population *pop = &run->pop;
	int64_t *rss = pop->mm_rss + (uint64_t)pop->vma_mm[regular->vma] * RMF_NR_MM_COUNTERS;
	uint64_t done = 0, nr;

	do {
		const uint64_t ahead = n - done < known->ahead ? n - done : known->ahead;
		uint64_t left = ahead;

		if (known->takes_swap && left > (run->swap_end - run->swap_next) >> known->order)
			left = (run->swap_end - run->swap_next) >> known->order;
		nr = visit_regular(pop, regular, run->arch.cont_ptes, run->swap_next, folios + done,
				   left);
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
	for (int i = 0; i < RMF_NR_MM_COUNTERS; i++)
		rss[i] += (int64_t)done * known->rss[0][i];
	return done;
}

/* Whether one VMA maps each page once, and nothing is stored for the pages, so that further folios
 * can be looked at without all their numbers. */
static inline bool is_mapped_once(const struct rmf_shape *shape, uint32_t order)
{
	const int32_t nr = (int32_t)1 << order;

	return shape->nr_rows == 1 && !((uint32_t)shape->words[0] & RMF_FOLIO_PAGE_MAPCOUNTS) &&
	       shape->words[1] == (uint32_t)nr && (!order || (int32_t)shape->words[2] == nr);
}

/* The visits that are made, and the shape of the last one. */
struct made {
	struct rmf_memo *memo;
	struct rmf_visits *out;
	uint64_t room;
	uint64_t used;
	struct rmf_known *last;
	uint32_t row; /* how many of the visits before had the shape of the last one */
};

/* Add nr visits. False if there is no room. */
static inline bool add_visits(struct made *made, struct rmf_known *known, uint64_t nr)
{
	struct rmf_visits *visits = NULL;

	if (made->used)
		visits = &made->out[made->used - 1];
	if (!visits || !rmf_visits_equal(visits, &known->visits)) {
		if (made->used == made->room)
			return false;
		visits = &made->out[made->used++];
		*visits = known->visits;
		visits->nr = 0;
	}
	visits->nr += nr;
	if (!known->nr) {
		known->next_used = made->memo->used;
		made->memo->used = (uint32_t)(known - made->memo->known) + 1;
	}
	known->nr += nr;
	made->row = known == made->last ? made->row + 1 : 0;
	made->last = known;
	return true;
}

/* Visit folios that follow the last one, which one VMA maps once, as far as they differ from it in
 * their entries only: their numbers are compared many at a time. It ends after a row of regular
 * folios of one shape, which is for visit_alike(); *row says so, and `shape` is that of the last
 * one then. Returns how many were visited. */
static uint64_t visit_block(struct rmf_run *run, struct rmf_shape *shape, const uint32_t *folios,
			    uint64_t n, struct made *made, bool *row)
{
	const struct rmf_population *pop = &run->pop;
	struct rmf_memo *memo = run->memo;
	const uint32_t order = made->last->order,
		       vma_class = (uint32_t)(shape->words[RMF_SHAPE_HEAD] >> 32);
	const struct rmf_regular numbers = {
		.vma = shape->vma[0],
		.flags = (uint32_t)shape->words[0],
		.refcount = (int32_t)(shape->words[0] >> 32),
		.order = order,
		.low = (uint32_t)shape->words[RMF_SHAPE_HEAD],
	};
	const uint64_t head = head_hash(shape->words), common = shape->words[RMF_SHAPE_HEAD],
		       folio = folios[0];
	/* what is known of single pages, by the bits that differ: there are no other shapes */
	struct rmf_known *single[16] = { NULL };
	rmf_pte *ptes;
	const uint64_t m = nr_of_block(pop, &numbers, run->arch.cont_ptes, folios, n, &ptes);
	uint64_t i;

	for (i = 0; i < m; i++, ptes += (uint64_t)1 << order) {
		const uint64_t frame = pop->folio_pfn[folio + i] << RMF_PFN_SHIFT;
		const rmf_pte low = *ptes ^ frame, bits = low & RMF_SHAPE_BITS;
		struct rmf_known *known = NULL;

		_Static_assert(RMF_PTE_WRITE == 2 && RMF_PTE_SOFT_DIRTY == 16, "16 cases");
		shape->ptes[0] = ptes;
		if (!order && (low ^ bits) == (uint32_t)common)
			known = single[bits >> 1];
		if (known) {
			shape->young[0] = bits & RMF_PTE_YOUNG;
		} else {
			struct scan scan = scan_row(ptes, frame, order);

			shape->hash = head;
			if (!row_words(run, order, vma_class, &scan, 0, shape) ||
			    shape->words[RMF_SHAPE_HEAD] != common)
				break;
			finish_hash(shape);
			known = rmf_known_shape(memo, shape);
			if (!known || !known->usable || known->takes_swap)
				break;
			if (!order)
				single[bits >> 1] = known;
		}
		if (!add_visits(made, known, 1))
			break;
		change_folio(run, (uint32_t)(folio + i), known, shape);
		*row = made->row == (order ? 2 * ROW : 4 * ROW) && (!order || shape->uniform);
		if (!*row)
			continue;
		if (!order) { /* what is known of single pages was found without the words */
			uint64_t *words = shape->words + RMF_SHAPE_HEAD;

			shape->uniform = true;
			words[RMF_SHAPE_WRITE] = (bits & RMF_PTE_WRITE) != 0;
			words[RMF_SHAPE_SOFT_DIRTY] = (bits & RMF_PTE_SOFT_DIRTY) != 0;
			words[RMF_SHAPE_YOUNG] = (bits & RMF_PTE_YOUNG) != 0;
			words[RMF_SHAPE_DIRTY] = (bits & RMF_PTE_DIRTY) != 0;
		}
		return i + 1;
	}
	return i;
}

/* Whether to look for a block behind a folio. After looks in vain it is tried less often. */
static inline bool block_is_due(struct rmf_blocks *blocks)
{
	if (!blocks->skip)
		return true;
	blocks->skip--;
	return false;
}

/* What a look for a block of blocks->size folios, or of `left` if that is less, teaches. */
static inline void after_block(struct rmf_blocks *blocks, uint64_t nr, uint64_t left)
{
	if (nr >= blocks->size && blocks->size < MAX_BLOCK)
		blocks->size *= 2;
	else if (nr < blocks->size && nr < left)
		blocks->size = nr < MIN_BLOCK ? MIN_BLOCK : (uint32_t)nr;
	if (nr)
		blocks->in_vain = 0;
	else if (blocks->in_vain < 5)
		blocks->in_vain++;
	blocks->skip = (1u << blocks->in_vain) - 1;
}

/* Remember the shape of a folio that one VMA maps once by equal entries: the next folios of its
 * order are compared with it at once. */
static void remember(struct rmf_recent *recent, const struct rmf_memo *memo,
		     const struct rmf_known *known, const struct rmf_shape *shape)
{
	const uint64_t *words = shape->words, *row = words + RMF_SHAPE_HEAD;
	struct rmf_regular *regular = &recent->regular;

	recent->number = (uint32_t)(known - memo->known);
	*regular = (struct rmf_regular){
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
		.takes_swap = known->takes_swap,
	};
	regular->low |= (row[RMF_SHAPE_WRITE] ? RMF_PTE_WRITE : 0) |
			(row[RMF_SHAPE_SOFT_DIRTY] ? RMF_PTE_SOFT_DIRTY : 0) |
			(row[RMF_SHAPE_YOUNG] ? RMF_PTE_YOUNG : 0) |
			(row[RMF_SHAPE_DIRTY] ? RMF_PTE_DIRTY : 0);
	if (known->entries_after[0] == RMF_ENTRIES_STAY)
		regular->low_after = regular->low;
	if (known->entries_after[0] == RMF_ENTRIES_OLD)
		regular->low_after = regular->low & ~(rmf_pte)RMF_PTE_YOUNG;
}

/* Fetch what the visits to come will read, in three steps of which each needs the one before: the
 * numbers of a folio, its VMA, its entries. Where folios follow each other the processor does that
 * by itself. In a shuffled list of 2 GiB it makes a run 1.7 times as fast. gcc would drop the call
 * of a function that only prefetches, so it has to be inlined. */
static inline __attribute__((always_inline)) void fetch_ahead(const struct rmf_population *pop,
							      const uint32_t *folios, uint64_t left)
{
	enum { NUMBERS = 24, VMA = 16, ENTRIES = 8 };
	uint32_t folio, vma;
	uint64_t row;

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
	/* the index is read once: it may be changed meanwhile */
	row = *(const volatile uint64_t *)&pop->rmap_start[folio];
	if (row < pop->rmap_start[folio + 1] && rmf_rmap_vma(pop, row, &vma)) {
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
	struct made made = { .memo = memo, .out = out, .room = room, .used = *used };
	uint64_t done = 0;

	shape->nr_words = 0;
	while (done < n && made.used < room) {
		const uint32_t folio = folios[done], order = run->pop.folio_order[folio];
		struct rmf_recent *recent = &memo->recent[kind][order];
		struct rmf_known *known = NULL;
		uint64_t nr = 0;

		shape->nr_words = 0;
		fetch_ahead(&run->pop, folios + done, n - done);
		if (recent->trust) {
			known = &memo->known[recent->number];
			nr = visit_alike(run, known, &recent->regular, folios + done, n - done);
			recent->trust = nr ? MAX_TRUST : recent->trust - 1;
		}
		if (nr) {
			add_visits(&made, known, nr);
			done += nr;
		} else {
			shape_of(run, kind, folio, shape);
			if (!shape->nr_words)
				break;
			known = rmf_known_shape(memo, shape);
			if (!known || !known->usable ||
			    (known->takes_swap &&
			     run->swap_end - run->swap_next < (uint64_t)1 << order))
				break;
			add_visits(&made, known, 1);
			change_folio(run, folio, known, shape);
			done++;
			const bool once = is_mapped_once(shape, order);

			if (once && shape->uniform) {
				/* that of a large folio is worth a failure */
				recent->trust = (made.row >= ROW || order > RMF_SHAPE_ORDER) &&
						recent->number == (uint32_t)(known - memo->known);
				remember(recent, memo, known, shape);
			}
			if (once && !recent->trust && done < n && folios[done] == folio + 1 &&
			    !known->takes_swap && block_is_due(&memo->blocks)) {
				const uint64_t left = n - done, most = memo->blocks.size;
				bool row = false;

				nr = visit_block(run, shape, folios + done,
						 left < most ? left : most, &made, &row);
				after_block(&memo->blocks, nr, left);
				done += nr;
				shape->nr_words = 0; /* it is that of another folio now */
				known = made.last;
				if (row) {
					remember(recent, memo, known, shape);
					recent->trust = MAX_TRUST;
				}
			}
		}
		/* the loop has to look at its lists now */
		if (known->takes_swap && run->stop_without_swap && !rmf_swap_free_slots(run)) {
			shape->nr_words = 0;
			break;
		}
	}
	if (made.used == room)
		shape->nr_words = 0;
	*used = made.used;
	return done;
}
