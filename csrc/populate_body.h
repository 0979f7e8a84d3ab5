/* The body of rmf_populate(), compiled once for each instruction set: isa_generic.c and the others
 * define RMF_POPULATE, the name of the function. */
#include <string.h>

#include "populate.h"

/* What is drawn besides the rates, whose numbers are those of enum rmf_rate_of. */
enum draw {
	DRAW_SLOTS = 256, /* one for each order of the mix */
	DRAW_SEQUENCE = 512,
};

static const uint64_t GOLDEN = 0x9E3779B97F4A7C15;

/* The finaliser of splitmix64. */
static inline uint64_t mix64(uint64_t x)
{
	x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
	x = (x ^ x >> 27) * 0x94D049BB133111EB;
	return x ^ x >> 31;
}

/* The Python hash64(seed, draw, counter) is random_at(draw_key(seed, draw), counter). No number
 * depends on what was drawn before. */
static uint64_t draw_key(uint64_t seed, uint32_t draw)
{
	return mix64(seed + (draw + 1) * GOLDEN) + GOLDEN;
}

static inline uint64_t random_at(uint64_t key, uint64_t counter)
{
	return mix64(counter * GOLDEN + key);
}

/* A number from 0 to n - 1, for n up to 2^32. */
static inline uint64_t random_below(uint64_t key, uint64_t counter, uint64_t n)
{
	return (random_at(key, counter) >> 32) * n >> 32;
}

static inline bool chosen(const struct rmf_rate *rate, uint64_t key, uint64_t number)
{
	return rate->always || (rate->below && random_at(key, number) < rate->below);
}

static bool possible(const struct rmf_rate *rate)
{
	return rate->always || rate->below;
}

/* Whether some numbers are chosen and others are not. */
static bool random(const struct rmf_rate *rate)
{
	return !rate->always && rate->below;
}

/* A block that is being cut into slots. For each order of the mix: how many slots are still to
 * come, and how many of these will be folios. */
struct cut {
	const struct rmf_description *what;
	uint64_t left[RMF_MAX_ORDER + 1];
	uint64_t want[RMF_MAX_ORDER + 1];
	uint64_t key[RMF_MAX_ORDER + 1];
};

/* Cut the pages [page, end) into slots of the k-th order, and those slots that are no folios into
 * slots of the next order. Writes the orders of the folios. */
static uint8_t *cut_slots(struct cut *cut, uint32_t k, uint64_t page, uint64_t end, uint8_t *orders)
{
	const uint8_t order = cut->what->order[k];
	const uint64_t size = (uint64_t)1 << order;

	for (; page + size <= end; page += size) {
		uint64_t left = cut->left[k]--;

		if (cut->want[k] == left) {
			uint64_t nr = (end - page) >> order;

			memset(orders, order, nr);
			orders += nr;
			cut->left[k] -= nr - 1;
			cut->want[k] -= nr;
			page += nr << order;
			break;
		}
		if (random_below(cut->key[k], page >> order, left) < cut->want[k]) {
			cut->want[k]--;
			*orders++ = order;
		} else {
			orders = cut_slots(cut, k + 1, page, page + size, orders);
		}
	}
	if (page < end && k + 1 < cut->what->nr_orders)
		orders = cut_slots(cut, k + 1, page, end, orders);
	return orders;
}

/* Write the orders of the folios of one block, in address order, and their PFNs if they are not
 * placed naturally aligned. Returns the number of folios. */
static uint64_t lay_out_block(const struct rmf_description *what, uint64_t page, uint64_t nr,
			      uint64_t number, uint8_t *orders, uint64_t *pfn)
{
	uint64_t folios[RMF_MAX_ORDER + 1], rest = rmf_described_block(what, page, nr, folios),
					    left = nr;
	uint8_t *end = orders;

	if (what->aligned || what->nr_orders == 1) {
		struct cut cut = { .what = what };

		for (uint32_t k = 0; k < what->nr_orders; k++) {
			cut.left[k] = left >> what->order[k];
			cut.want[k] = folios[k];
			cut.key[k] = draw_key(what->seed, DRAW_SLOTS + k);
			left -= folios[k] << what->order[k];
		}
		end = cut_slots(&cut, 0, page, page + nr, orders);
	} else {
		const uint64_t key = draw_key(what->seed, DRAW_SEQUENCE);
		uint64_t packed[RMF_MAX_ORDER + 1], at = what->pfn_base + page, all = 0;

		for (uint32_t k = 0; k < what->nr_orders; k++) {
			packed[k] = at;
			at += folios[k] << what->order[k];
			all += folios[k];
		}
		for (; all; all--) {
			uint64_t pick = random_below(key, number++, all);
			uint32_t k = 0;

			while (pick >= folios[k])
				pick -= folios[k++];
			folios[k]--;
			*pfn++ = packed[k];
			packed[k] += (uint64_t)1 << what->order[k];
			*end++ = what->order[k];
		}
		for (uint8_t order = RMF_MAX_ORDER; rest && order--;)
			if (rest >> order & 1) {
				*pfn++ = at;
				at += (uint64_t)1 << order;
			}
	}
	for (uint8_t order = RMF_MAX_ORDER; rest && order--;)
		if (rest >> order & 1)
			*end++ = order;
	return (uint64_t)(end - orders);
}

static void fill_words(rmf_pte *ptes, uint64_t nr, rmf_pte first)
{
	for (uint64_t i = 0; i < nr; i++)
		ptes[i] = first + (i << RMF_PFN_SHIFT);
}

static void set_some(rmf_pte *ptes, uint64_t nr, const struct rmf_rate *rate, uint64_t key,
		     uint64_t number, rmf_pte bit)
{
	if (random(rate))
		for (uint64_t i = 0; i < nr; i++)
			ptes[i] |= random_at(key, number + i) < rate->below ? bit : 0;
}

/* Write the entries of one process for the pages [first, end). *out has the orders and PFNs of all
 * nr folios. */
static void fill_ptes(const struct rmf_description *what, uint32_t mm, uint64_t first, uint64_t end,
		      uint64_t number, uint64_t nr, struct rmf_populated *out)
{
	static const struct {
		enum rmf_rate_of rate;
		rmf_pte bit;
	} bits[] = { { RMF_RATE_YOUNG, RMF_PTE_YOUNG },
		     { RMF_RATE_DIRTY, RMF_PTE_DIRTY },
		     { RMF_RATE_WRITE, RMF_PTE_WRITE },
		     { RMF_RATE_SOFT_DIRTY, RMF_PTE_SOFT_DIRTY },
		     { RMF_RATE_UFFD_WP, RMF_PTE_UFFD_WP } };
	const uint64_t pages = end - first, entry = mm * what->pages + first,
		       mapped_key = draw_key(what->seed, RMF_RATE_MAPPED),
		       holes_key = draw_key(what->seed, RMF_RATE_HOLES);
	rmf_pte *ptes = out->ptes + mm * pages, always = RMF_PTE_PRESENT;
	uint64_t present = pages;

	for (uint32_t i = 0; i < 5; i++)
		always |= what->rate[bits[i].rate].always ? bits[i].bit : 0;
	if (what->aligned || what->nr_orders == 1) {
		fill_words(ptes, pages, ((what->pfn_base + first) << RMF_PFN_SHIFT) | always);
	} else {
		for (uint64_t i = 0, at = 0; i < nr; at += (uint64_t)1 << out->folio_order[i++])
			fill_words(ptes + at, (uint64_t)1 << out->folio_order[i],
				   (out->folio_pfn[i] << RMF_PFN_SHIFT) | always);
	}
	for (uint32_t i = 0; i < 5; i++)
		set_some(ptes, pages, &what->rate[bits[i].rate], draw_key(what->seed, bits[i].rate),
			 entry, bits[i].bit);
	if (possible(&what->rate[RMF_RATE_UFFD_WP]) && possible(&what->rate[RMF_RATE_WRITE]))
		for (uint64_t i = 0; i < pages; i++)
			ptes[i] &= ptes[i] & RMF_PTE_UFFD_WP ? ~(rmf_pte)RMF_PTE_WRITE
							     : ~(rmf_pte)0;
	if (!what->rate[RMF_RATE_MAPPED].always)
		for (uint64_t i = 0, at = 0; i < nr; at += (uint64_t)1 << out->folio_order[i++])
			if (!chosen(&what->rate[RMF_RATE_MAPPED], mapped_key, number + i))
				memset(ptes + at, 0, sizeof(*ptes) << out->folio_order[i]);
	if (what->every) {
		for (uint64_t i = (what->every - first % what->every) % what->every; i < pages;
		     i += what->every)
			ptes[i] = 0;
	} else if (possible(&what->rate[RMF_RATE_HOLES])) {
		for (uint64_t i = 0; i < pages; i++)
			ptes[i] = chosen(&what->rate[RMF_RATE_HOLES], holes_key, entry + i)
					  ? 0
					  : ptes[i];
	}
	if (!what->rate[RMF_RATE_MAPPED].always || what->every ||
	    possible(&what->rate[RMF_RATE_HOLES])) {
		present = 0;
		for (uint64_t i = 0; i < pages; i++)
			present += ptes[i] & 1;
	}
	out->mm_rss[(uint64_t)mm * RMF_NR_MM_COUNTERS + what->rss_counter] += (int64_t)present;
}

/* Set CONT in the blocks of a folio that the kernel folds. Such a block is aligned by slot and by
 * PFN, whole and present, and its entries are equal but for young and dirty. */
static void fold(const struct rmf_description *what, rmf_pte *ptes, uint64_t vpn, uint64_t pfn,
		 uint64_t nr)
{
	const uint64_t block = what->cont_ptes;
	const rmf_pte ignored = RMF_PTE_YOUNG | RMF_PTE_DIRTY;

	for (uint64_t at = -vpn & (block - 1); at + block <= nr; at += block) {
		rmf_pte differ = 0;

		if (((pfn + at) & (block - 1)) || !(ptes[at] & RMF_PTE_PRESENT))
			continue;
		for (uint64_t i = 0; i < block; i++)
			differ |= ptes[at + i] ^ (ptes[at] + (i << RMF_PFN_SHIFT));
		for (uint64_t i = 0; i < block; i++)
			ptes[at + i] |= differ & ~ignored ? 0 : RMF_PTE_CONT;
	}
}

static bool has_holes(const struct rmf_description *what)
{
	return what->every || possible(&what->rate[RMF_RATE_HOLES]);
}

/* Whether all pages have the same number of mappings. */
static bool mapped_evenly(const struct rmf_description *what)
{
	return !has_holes(what) && !random(&what->rate[RMF_RATE_MAPPED]);
}

/* Count the mappings of one folio of `nr` pages that begins at page `at` of the range. Returns
 * whether its pages differ. */
static bool count_mappings(const struct rmf_description *what, uint64_t pages, uint64_t at,
			   uint64_t nr, int32_t *page_mapcount, const rmf_pte *ptes,
			   int32_t *mapcount, int32_t *pages_mapped)
{
	bool differ = false;

	*mapcount = *pages_mapped = 0;
	for (uint64_t i = at; i < at + nr; i++) {
		int32_t count = what->external;

		for (uint32_t mm = 0; mm < what->sharing; mm++)
			count += (int32_t)(ptes[mm * pages + i] & 1);
		page_mapcount[i] = count;
		*mapcount += count;
		*pages_mapped += count > 0;
		differ |= count != page_mapcount[at];
	}
	return differ;
}

/* Write the place, mapcounts, references and flags of nr folios whose orders are known, and the
 * PFNs of those that are not packed. There is one loop for each array, so that each vectorises:
 * where all folios are equal, a block takes a few nanoseconds per folio. */
static void fill_folios(const struct rmf_description *what, uint64_t first, uint64_t end,
			uint64_t number, uint64_t nr, struct rmf_populated *out)
{
	const uint64_t pages = end - first, mapped_key = draw_key(what->seed, RMF_RATE_MAPPED),
		       mlocked_key = draw_key(what->seed, RMF_RATE_MLOCKED),
		       dirty_key = draw_key(what->seed, RMF_RATE_FOLIO_DIRTY);
	const int32_t per_page =
		what->external + (what->rate[RMF_RATE_MAPPED].always ? (int32_t)what->sharing : 0);
	const int32_t cached = what->anon ? 0 : 1;
	const uint32_t flags = what->folio_flags | (what->exclusive ? RMF_FOLIO_EXCLUSIVE : 0) |
			       (what->rate[RMF_RATE_FOLIO_DIRTY].always ? RMF_FOLIO_DIRTY : 0);
	const uint8_t *orders = out->folio_order;
	uint64_t *base = out->folio_page_base, *pfn = out->folio_pfn, *index = out->folio_index,
		 at = 0;
	int32_t *mapcount = out->folio_mapcount, *mapped = out->folio_nr_pages_mapped,
		*refcount = out->folio_refcount;
	uint32_t *folio_flags = out->folio_flags;

	for (uint64_t i = 0; i < nr; i++) {
		base[i] = at;
		at += (uint64_t)1 << orders[i];
	}
	for (uint64_t i = 0; i < nr; i++)
		index[i] = base[i] + what->pgoff + first;
	for (uint64_t i = 0; i < nr && (what->aligned || what->nr_orders == 1); i++)
		pfn[i] = base[i] + what->pfn_base + first;
	for (uint64_t i = 0; i < nr; i++)
		folio_flags[i] = flags;
	for (uint64_t i = 0; i + 1 < nr; i++)
		mapped[i] = (int32_t)(base[i + 1] - base[i]);
	if (nr)
		mapped[nr - 1] = (int32_t)(pages - base[nr - 1]);
	if (mapped_evenly(what)) {
		for (uint64_t i = 0; i < nr; i++) {
			mapcount[i] = mapped[i] * per_page;
			refcount[i] = mapcount[i] + mapped[i] * cached;
			mapped[i] = per_page > 0 ? mapped[i] : 0;
		}
	}
	for (uint64_t i = 0; i < nr && !mapped_evenly(what); i++) {
		const int32_t size = mapped[i];

		if (has_holes(what)) {
			if (count_mappings(what, pages, base[i], (uint64_t)size, out->page_mapcount,
					   out->ptes, &mapcount[i], &mapped[i]))
				folio_flags[i] |= RMF_FOLIO_PAGE_MAPCOUNTS;
		} else {
			mapcount[i] = size * (what->external + (chosen(&what->rate[RMF_RATE_MAPPED],
								       mapped_key, number + i)
									? (int32_t)what->sharing
									: 0));
			mapped[i] = mapcount[i] ? size : 0;
		}
		refcount[i] = mapcount[i] + size * cached;
		if (what->anon && mapped[i] && mapped[i] < size)
			folio_flags[i] |= RMF_FOLIO_PARTIALLY_MAPPED;
	}
	for (uint64_t i = 0; i < nr && random(&what->rate[RMF_RATE_FOLIO_DIRTY]); i++)
		folio_flags[i] |= chosen(&what->rate[RMF_RATE_FOLIO_DIRTY], dirty_key, number + i)
					  ? RMF_FOLIO_DIRTY
					  : 0;
	for (uint64_t i = 0; i < nr && possible(&what->rate[RMF_RATE_MLOCKED]); i++)
		if (chosen(&what->rate[RMF_RATE_MLOCKED], mlocked_key, number + i))
			folio_flags[i] = (folio_flags[i] & ~(uint32_t)RMF_FOLIO_ACTIVE) |
					 RMF_FOLIO_MLOCKED | RMF_FOLIO_UNEVICTABLE;
}

/* Drop the anonymous folios that nothing maps, because they do not exist, and move the others up.
 * Returns how many are left. */
static uint64_t drop_unmapped(const struct rmf_description *what, uint64_t nr,
			      struct rmf_populated *out)
{
	uint64_t kept = 0;

	if (!what->anon ||
	    (mapped_evenly(what) && (what->rate[RMF_RATE_MAPPED].always || what->external)))
		return nr;
	for (uint64_t i = 0; i < nr; i++) {
		if (!out->folio_mapcount[i])
			continue;
		out->folio_pfn[kept] = out->folio_pfn[i];
		out->folio_index[kept] = out->folio_index[i];
		out->folio_order[kept] = out->folio_order[i];
		out->folio_flags[kept] = out->folio_flags[i];
		out->folio_refcount[kept] = out->folio_refcount[i];
		out->folio_mapcount[kept] = out->folio_mapcount[i];
		out->folio_nr_pages_mapped[kept] = out->folio_nr_pages_mapped[i];
		out->folio_page_base[kept++] = out->folio_page_base[i];
	}
	return kept;
}

rmf_populate RMF_POPULATE;

void RMF_POPULATE(const struct rmf_description *what, uint64_t first, uint64_t end,
		  struct rmf_populated *out)
{
	const uint64_t pages = end - first, number = rmf_described_folios(what, first),
		       sharing = what->sharing;
	uint64_t nr = 0, nr_lru, *rmap_start = out->rmap_start;
	uint32_t *lru = out->lru, *rmap_vma = out->rmap_vma;

	for (uint64_t page = first; page < end; page += RMF_LAYOUT_BLOCK)
		nr += lay_out_block(what, page,
				    end - page < RMF_LAYOUT_BLOCK ? end - page : RMF_LAYOUT_BLOCK,
				    number + nr, out->folio_order + nr, out->folio_pfn + nr);
	for (uint32_t mm = 0; mm < what->sharing; mm++)
		fill_ptes(what, mm, first, end, number, nr, out);
	fill_folios(what, first, end, number, nr, out);
	for (uint32_t mm = 0; mm < what->sharing && what->cont_ptes > 1; mm++)
		for (uint64_t i = 0; i < nr; i++)
			fold(what, out->ptes + mm * pages + out->folio_page_base[i],
			     what->vpn + first + out->folio_page_base[i], out->folio_pfn[i],
			     (uint64_t)1 << out->folio_order[i]);
	nr = drop_unmapped(what, nr, out);
	out->nr_folios = nr;
	nr_lru = nr;
	for (uint64_t i = 0; i < nr; i++)
		lru[i] = (uint32_t)i;
	if (possible(&what->rate[RMF_RATE_MLOCKED])) {
		nr_lru = 0;
		for (uint64_t i = 0; i < nr; i++)
			if (!(out->folio_flags[i] & RMF_FOLIO_MLOCKED))
				lru[nr_lru++] = (uint32_t)i;
	}
	out->nr_lru = nr_lru;
	for (uint64_t i = 0; i <= nr; i++)
		rmap_start[i] = i * sharing;
	for (uint64_t i = 0; i < nr && sharing > 1; i++)
		for (uint32_t mm = 0; mm < sharing; mm++)
			rmap_vma[i * sharing + mm] = mm;
}
