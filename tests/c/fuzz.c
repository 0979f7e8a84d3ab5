/* The lane `make fuzz`: random worlds through the fast paths and through the general path, which
 * must end alike in state and in events. Of each end the population must pass its own check, and
 * sums that any right end keeps must hold.
 *
 *     fuzz CASES [FIRST]       cases with the seeds FIRST, FIRST + 1, ...
 *     fuzz SECONDSs [FIRST]    for so long
 *
 * SIGINT and SIGTERM end it after the case at hand.
 *
 * Built with -DRMF_LIBFUZZER it is an entry for libFuzzer. A world is drawn from its bytes then, so
 * that a byte decides one thing and libFuzzer finds which bytes lead to other code. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "deferred.h"
#include "folio_batch.h"
#include "isa.h"
#include "madvise.h"
#include "memo.h"
#include "reclaim.h"
#include "referenced.h"
#include "split.h"
#include "swap.h"
#include "unmap.h"

enum {
	MAX_FOLIOS = 24,
	MAX_PAGES = 256,
	MAX_ALL_FOLIOS = MAX_FOLIOS + MAX_PAGES,
	MAX_MMS = 2,
	MAX_VMAS = 3 * MAX_MMS,
	MAX_SLOTS = MAX_MMS * MAX_PAGES,
	MAX_TABLES = MAX_SLOTS / 2 + 2 * MAX_VMAS,
	MAX_RMAP = MAX_VMAS * MAX_ALL_FOLIOS,
	FIRST_PFN = 1 << 10,
};

/* A world with all its arrays, so that it is copied as one block. */
struct world {
	struct rmf_arch arch;
	struct rmf_policy policy;
	uint32_t ptrs;
	uint64_t nr_folios, nr_pages, nr_vmas, nr_mms, nr_ptes, nr_tables, nr_rmap;
	uint64_t nr_inactive, nr_active;
	uint64_t max_seq, min_seq[RMF_NR_LRU_TYPES]; /* max_seq is 0 with the classic LRU */
	uint64_t vma_start[MAX_VMAS], vma_end[MAX_VMAS], vma_pgoff[MAX_VMAS];
	uint64_t vma_pte_base[MAX_VMAS], vma_window_start[MAX_VMAS], vma_window_end[MAX_VMAS];
	uint64_t vma_table_base[MAX_VMAS], mm_cpumask[MAX_MMS];
	uint64_t folio_pfn[MAX_ALL_FOLIOS], folio_index[MAX_ALL_FOLIOS];
	uint64_t folio_swap[MAX_ALL_FOLIOS], folio_page_base[MAX_ALL_FOLIOS];
	uint64_t rmap_start[MAX_ALL_FOLIOS + 1];
	int64_t mm_rss[MAX_MMS][RMF_NR_MM_COUNTERS];
	struct rmf_pieces pieces[MAX_FOLIOS];
	rmf_pte ptes[MAX_SLOTS];
	uint32_t vma_flags[MAX_VMAS], vma_mm[MAX_VMAS], mm_flags[MAX_MMS];
	uint32_t folio_flags[MAX_ALL_FOLIOS], rmap_vma[MAX_RMAP];
	uint32_t inactive[MAX_ALL_FOLIOS], active[MAX_ALL_FOLIOS];
	int32_t folio_refcount[MAX_ALL_FOLIOS], folio_mapcount[MAX_ALL_FOLIOS];
	int32_t folio_entire_mapcount[MAX_ALL_FOLIOS], folio_nr_pages_mapped[MAX_ALL_FOLIOS];
	int32_t page_mapcount[MAX_PAGES];
	int32_t external[MAX_PAGES]; /* mappings that no entry of the world is */
	uint8_t table_state[MAX_TABLES], folio_order[MAX_ALL_FOLIOS], page_flags[MAX_PAGES];
};

/* ---- chance ---- */

static uint64_t state;

/* What is drawn from first: the bytes that are left of libFuzzer's. */
static const uint8_t *bytes;
static size_t nr_bytes;

static uint64_t draw_from_bytes(uint64_t below)
{
	uint64_t value = 0;

	for (uint64_t rest = below; rest && nr_bytes; rest >>= 8, nr_bytes--)
		value = value << 8 | *bytes++;
	return value % below;
}

static uint64_t draw(uint64_t below)
{
	uint64_t z = (state += 0x9e3779b97f4a7c15);

	if (nr_bytes)
		return draw_from_bytes(below);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return (z ^ (z >> 31)) % below;
}

/* True in `percent` of the cases. */
static bool chance(uint64_t percent)
{
	return draw(100) < percent;
}

static uint32_t some_of(const uint32_t *bits, unsigned int n, uint64_t percent)
{
	uint32_t word = 0;

	for (unsigned int i = 0; i < n; i++)
		word |= chance(percent) ? bits[i] : 0;
	return word;
}

/* ---- a world ---- */

static void draw_arch(struct rmf_arch *arch)
{
	*arch = (struct rmf_arch){
		.ptrs_per_pte = (uint32_t)2 << draw(4),
		.cont_ptes = 1,
		.tlb = (enum rmf_tlb_kind)draw(4),
		.flush_ceiling = chance(50) ? 3 : 33,
		.max_dvm_ops = chance(50) ? 4 : 512,
		.range_tlbi = chance(50),
		.bbml2_noabort = chance(30),
		.page_mapcount = chance(60),
		.mkdirty_soft_dirty = chance(50),
	};
	arch->invlpgb = arch->tlb == RMF_TLB_X86 && chance(30);
	if (arch->tlb == RMF_TLB_ARM64 || arch->tlb == RMF_TLB_RISCV)
		arch->cont_ptes = (uint32_t)1 << draw(arch->ptrs_per_pte >= 8 ? 4 : 2);
}

static void draw_policy(struct rmf_policy *policy)
{
	*policy = (struct rmf_policy){
		.lazyfree = chance(70),
		.file = chance(70),
		.anon_swap = chance(50),
		.all_or_nothing = chance(20),
		.clip = chance(80),
		.uffd_wp = (enum rmf_uffd_rule)draw(3),
		.respect = (chance(60) ? RMF_FPB_RESPECT_WRITE : 0) |
			   (chance(60) ? RMF_FPB_RESPECT_SOFT_DIRTY : 0),
		.nr_reset = chance(70),
		.young_batched = chance(50),
		.skip_batch = chance(50),
		.walk_done = (enum rmf_walk_done_rule)draw(3),
		.mlock_at_once = chance(20),
		.failure_swapbacked = chance(20),
		.hwpoison_page0 = chance(30),
		.mismatch_restores = chance(50),
		.split_ascending = chance(50),
		.swap_split = (enum rmf_swap_split_rule)draw(3),
		.swap_single_empty = chance(50),
		.sharing_guess = chance(30),
		.dirty_flush_batch = chance(20),
		.local_tlbi = chance(20),
		.shmem_fallback = chance(50),
	};
}

/* `odd` is the percentage of all that a kernel seldom sees. */
static void draw_folios(struct world *w, uint64_t odd)
{
	static const uint32_t seldom[] = { RMF_FOLIO_DIRTY, RMF_FOLIO_REFERENCED, RMF_FOLIO_PINNED,
					   RMF_FOLIO_YOUNG, RMF_FOLIO_SWAPCACHE };
	static const uint32_t rare[] = { RMF_FOLIO_MLOCKED, RMF_FOLIO_UNEVICTABLE, RMF_FOLIO_LOCKED,
					 RMF_FOLIO_PARTIALLY_MAPPED, RMF_FOLIO_MAYBE_SHARED };
	const bool anon = chance(50), lazyfree = chance(50), alike = chance(50);
	const uint64_t most = 1 + draw(MAX_FOLIOS);
	uint64_t largest = 1, pfn = FIRST_PFN, index = draw(4) * w->ptrs, order;

	while (largest < 6 && (uint64_t)1 << largest <= 2 * w->ptrs)
		largest++;
	order = draw(largest + 1);
	for (uint64_t i = 0; i < most; i++) {
		const uint64_t nr = (uint64_t)1 << order;

		if (w->nr_pages + nr > MAX_PAGES)
			break;
		pfn = (pfn + nr - 1) & ~(nr - 1);
		index = chance(80) ? (index + nr - 1) & ~(nr - 1) : index;
		if (index - w->folio_index[0] + nr > MAX_PAGES && i)
			break;
		w->folio_pfn[i] = pfn;
		w->folio_index[i] = index;
		w->folio_order[i] = (uint8_t)order;
		w->folio_page_base[i] = w->nr_pages;
		w->folio_swap[i] = (1 << 20) + w->nr_pages;
		w->folio_flags[i] = anon != chance(odd) ? RMF_FOLIO_ANON : 0;
		if (w->folio_flags[i] ? lazyfree == chance(odd) : chance(odd))
			w->folio_flags[i] |= RMF_FOLIO_SWAPBACKED;
		w->folio_flags[i] |= some_of(seldom, 5, odd) | some_of(rare, 5, odd / 4);
		w->nr_folios++;
		w->nr_pages += nr;
		pfn += nr + chance(odd);
		index += nr;
		if (!alike)
			order = draw(largest + 1);
	}
}

static void draw_vmas(struct world *w, uint64_t odd)
{
	static const uint32_t seldom[] = { RMF_VMA_UFFD_WP, RMF_VMA_UFFD_ARMED, RMF_VMA_DROPPABLE,
					   RMF_VMA_EXEC, RMF_VMA_SHARED };
	static const uint32_t rare[] = { RMF_VMA_LOCKED };
	const uint64_t last = w->nr_folios - 1, low = w->folio_index[0],
		       high = w->folio_index[last] + ((uint64_t)1 << w->folio_order[last]);
	const bool anon = w->folio_flags[0] & RMF_FOLIO_ANON;

	w->nr_mms = 1 + draw(MAX_MMS);
	for (uint64_t mm = 0; mm < w->nr_mms; mm++) {
		const uint64_t vpn = (1 + draw(4)) * w->ptrs + (chance(50) ? 0 : draw(w->ptrs)),
			       base = w->nr_ptes;
		uint64_t at = low;

		w->mm_cpumask[mm] = 1 + draw(7);
		w->mm_flags[mm] = chance(odd);
		for (uint64_t part = 3; part--;) {
			const uint64_t end = part ? at + draw(high - at + 1) : high, v = w->nr_vmas;

			if (end == at)
				continue;
			w->vma_start[v] = vpn + at - low;
			w->vma_end[v] = vpn + end - low;
			w->vma_pgoff[v] = at;
			w->vma_flags[v] = some_of(seldom, 5, odd) | some_of(rare, 1, odd / 2) |
					  (anon ? RMF_VMA_ANON : 0);
			w->vma_mm[v] = (uint32_t)mm;
			w->vma_pte_base[v] = base + at - low;
			w->vma_window_start[v] = vpn;
			w->vma_window_end[v] = vpn + high - low;
			w->vma_table_base[v] = w->nr_tables;
			w->nr_tables +=
				(w->vma_end[v] - 1) / w->ptrs - w->vma_start[v] / w->ptrs + 1;
			w->nr_vmas++;
			at = end;
		}
		w->nr_ptes += high - low;
	}
}

static int64_t folio_of_pfn(const struct world *w, uint64_t pfn)
{
	for (uint64_t i = 0; i < w->nr_folios; i++)
		if (pfn - w->folio_pfn[i] < (uint64_t)1 << w->folio_order[i])
			return (int64_t)i;
	return -1;
}

static rmf_pte odd_entry(rmf_pte pte)
{
	static const uint32_t bits[] = { RMF_PTE_WRITE,	     RMF_PTE_YOUNG,   RMF_PTE_DIRTY,
					 RMF_PTE_SOFT_DIRTY, RMF_PTE_UFFD_WP, RMF_PTE_PROT,
					 RMF_PTE_UNUSED };
	const uint64_t pfn = rmf_pte_pfn(pte);

	switch (draw(12)) {
	case 0:
		return 0;
	case 1:
		return rmf_mk_nonpresent(RMF_KIND_DEVICE_EXCLUSIVE, pfn,
					 chance(50) ? RMF_PTE_SOFT_DIRTY : 0);
	case 2:
		return rmf_mk_nonpresent(RMF_KIND_DEVICE_PRIVATE, 5, 0);
	case 3:
		return rmf_mk_nonpresent(RMF_KIND_SWAP, 1 + draw(99),
					 chance(50) ? RMF_PTE_EXCLUSIVE : RMF_PTE_UFFD_WP);
	case 4:
		return rmf_mk_nonpresent(RMF_KIND_MIGRATION, pfn, 0);
	case 5:
		return chance(50) ? rmf_mk_marker() : rmf_mk_nonpresent(RMF_KIND_HWPOISON, pfn, 0);
	case 6:
		return chance(50)
			       ? (RMF_ZERO_PFN << RMF_PFN_SHIFT) | RMF_PTE_PRESENT | RMF_PTE_SPECIAL
			       : (7 << RMF_PFN_SHIFT) | RMF_PTE_PRESENT;
	default:
		return pte ? pte ^ bits[draw(7)] : 0;
	}
}

static void draw_entries(struct world *w, uint64_t odd)
{
	static const uint32_t bits[] = { RMF_PTE_WRITE,	     RMF_PTE_YOUNG,   RMF_PTE_DIRTY,
					 RMF_PTE_SOFT_DIRTY, RMF_PTE_UFFD_WP, RMF_PTE_PROT };
	const uint32_t alike = some_of(bits, 6, 40);
	const bool same = chance(60);

	for (uint64_t v = 0; v < w->nr_vmas; v++) {
		rmf_pte *ptes = w->ptes + w->vma_pte_base[v];
		const uint64_t low = w->vma_pgoff[v], size = w->vma_end[v] - w->vma_start[v];

		for (uint64_t i = 0; i < w->nr_folios; i++) {
			const rmf_pte word = RMF_PTE_PRESENT |
					     (same ? alike : some_of(bits, 6, 40));

			if (chance(odd / 2))
				continue;
			for (uint64_t page = 0; page < (uint64_t)1 << w->folio_order[i]; page++)
				if (w->folio_index[i] + page - low < size)
					ptes[w->folio_index[i] + page - low] =
						((w->folio_pfn[i] + page) << RMF_PFN_SHIFT) | word;
		}
		for (uint64_t at = 0; at < size; at++)
			if (chance(odd))
				ptes[at] = odd_entry(ptes[at]);
	}
}

/* Make some tables absent and some PMD leaves, and fold contpte blocks. */
static void draw_tables(struct world *w, uint64_t odd)
{
	const uint64_t nr = w->ptrs, block = w->arch.cont_ptes;

	for (uint64_t v = 0; v < w->nr_vmas; v++) {
		rmf_pte *ptes = w->ptes + w->vma_pte_base[v];
		const uint64_t start = w->vma_start[v], end = w->vma_end[v];

		for (uint64_t t = start / nr; t <= (end - 1) / nr; t++) {
			uint8_t *table = &w->table_state[w->vma_table_base[v] + t - start / nr];
			const uint64_t low = t * nr < start ? start : t * nr,
				       high = (t + 1) * nr > end ? end : (t + 1) * nr;
			const rmf_pte first = ptes[low - start];
			const int64_t folio = folio_of_pfn(w, rmf_pte_pfn(first));

			if (chance(odd / 3)) {
				*table = RMF_TABLE_ABSENT; /* its slots mean nothing */
				if (t % 2)
					memset(ptes + low - start, 0, (high - low) * sizeof(*ptes));
			} else if (high - low == nr && chance(30) && rmf_pte_present(first) &&
				   !(first & (RMF_PTE_UNUSED | RMF_PTE_SPECIAL)) && folio >= 0 &&
				   rmf_pte_pfn(first) + nr <=
					   w->folio_pfn[folio] +
						   ((uint64_t)1 << w->folio_order[folio])) {
				*table = RMF_TABLE_PMD_LEAF;
				for (uint64_t i = 0; i < nr; i++)
					ptes[low - start + i] = rmf_pte_advance(first, i);
			}
			if (*table != RMF_TABLE_PTE || block == 1)
				continue;
			for (uint64_t at = (low + block - 1) & ~(block - 1); at + block <= high;
			     at += block) {
				rmf_pte *entry = ptes + at - start;
				const uint64_t pfn = rmf_pte_pfn(*entry);
				const int64_t of = folio_of_pfn(w, pfn);
				bool fits = rmf_pte_present(*entry) && !(pfn & (block - 1)) &&
					    of >= 0 && chance(80) &&
					    pfn + block <=
						    w->folio_pfn[of] +
							    ((uint64_t)1 << w->folio_order[of]);

				for (uint64_t i = 1; fits && i < block; i++)
					fits = ((entry[i] ^ rmf_pte_advance(*entry, i)) &
						~(rmf_pte)(RMF_PTE_YOUNG | RMF_PTE_DIRTY)) == 0;
				for (uint64_t i = 0; fits && i < block; i++)
					entry[i] |= RMF_PTE_CONT;
			}
		}
	}
}

static bool maps_page(rmf_pte pte)
{
	return rmf_pte_present(pte) || rmf_pte_kind(pte) == RMF_KIND_DEVICE_EXCLUSIVE;
}

/* Count the mappings of each page by PTEs in counts[], and those of each folio by PMD leaves in
 * leaves[]. The folios are those of `of`, which are whole. */
static void count_mappings(const struct world *w, const struct world *of, int32_t *counts,
			   int32_t *leaves)
{
	memset(counts, 0, sizeof(*counts) * of->nr_pages);
	memset(leaves, 0, sizeof(*leaves) * of->nr_folios);
	for (uint64_t v = 0; v < w->nr_vmas; v++) {
		for (uint64_t vpn = w->vma_start[v]; vpn < w->vma_end[v]; vpn++) {
			const rmf_pte pte = w->ptes[w->vma_pte_base[v] + vpn - w->vma_start[v]];
			const uint8_t table = w->table_state[w->vma_table_base[v] + vpn / w->ptrs -
							     w->vma_start[v] / w->ptrs];
			const int64_t folio = maps_page(pte) && table != RMF_TABLE_ABSENT
						      ? folio_of_pfn(of, rmf_pte_pfn(pte))
						      : -1;

			if (folio < 0)
				continue;
			if (table == RMF_TABLE_PMD_LEAF)
				leaves[folio] += !(vpn % w->ptrs);
			else
				counts[of->folio_page_base[folio] + rmf_pte_pfn(pte) -
				       of->folio_pfn[folio]]++;
		}
	}
}

static void draw_counts(struct world *w, uint64_t odd)
{
	int32_t leaves[MAX_FOLIOS];

	count_mappings(w, w, w->page_mapcount, leaves);
	for (uint64_t i = 0; i < w->nr_folios; i++) {
		const uint64_t nr = (uint64_t)1 << w->folio_order[i], base = w->folio_page_base[i];
		const bool all = chance(50), none = chance(30);
		uint32_t *flags = &w->folio_flags[i];
		bool same_counts = true, same_flags = true;
		int32_t sum = 0, mapped = 0;

		if (chance(odd / 3)) {
			const uint64_t page = base + draw(nr);

			w->external[page]++;
			w->page_mapcount[page]++;
		}
		for (uint64_t page = base; page < base + nr; page++) {
			uint8_t *mark = &w->page_flags[page];

			if ((*flags & RMF_FOLIO_ANON) && (all || (!none && chance(50))))
				*mark |= RMF_PAGE_EXCLUSIVE;
			*mark |= (uint8_t)(chance(odd / 10) ? RMF_PAGE_HWPOISON : 0);
			*mark |= (uint8_t)(chance(odd / 10) ? RMF_PAGE_SWAP_DUP_FAIL : 0);
			*mark |= (uint8_t)(chance(odd / 3) ? RMF_PAGE_ZERO : 0);
			sum += w->page_mapcount[page];
			mapped += w->page_mapcount[page] > 0;
			same_counts &= w->page_mapcount[page] == w->page_mapcount[base];
			same_flags &= *mark == w->page_flags[base] &&
				      !(*mark & ~RMF_PAGE_EXCLUSIVE);
		}
		w->folio_entire_mapcount[i] = leaves[i];
		w->folio_mapcount[i] = sum + leaves[i];
		w->folio_nr_pages_mapped[i] = leaves[i] ? (int32_t)nr : mapped;
		w->folio_refcount[i] = w->folio_mapcount[i] + chance(odd / 2);
		if (!(*flags & RMF_FOLIO_ANON) || (*flags & RMF_FOLIO_SWAPCACHE))
			w->folio_refcount[i] += (int32_t)nr;
		if (!same_counts)
			*flags |= RMF_FOLIO_PAGE_MAPCOUNTS;
		if (!same_flags)
			*flags |= RMF_FOLIO_PAGE_FLAGS;
		else if (w->page_flags[base])
			*flags |= RMF_FOLIO_EXCLUSIVE;
	}
}

static void draw_rmap_and_lists(struct world *w, uint64_t odd)
{
	for (uint64_t i = 0; i < w->nr_folios; i++) {
		const uint64_t nr = (uint64_t)1 << w->folio_order[i];

		for (uint64_t v = 0; v < w->nr_vmas; v++)
			if (w->vma_pgoff[v] < w->folio_index[i] + nr &&
			    w->vma_pgoff[v] + w->vma_end[v] - w->vma_start[v] > w->folio_index[i])
				w->rmap_vma[w->nr_rmap++] = (uint32_t)v;
		w->rmap_start[i + 1] = w->nr_rmap;
		if (chance(odd))
			w->folio_flags[i] |= RMF_FOLIO_ACTIVE;
		if (w->folio_flags[i] & RMF_FOLIO_ACTIVE)
			w->active[w->nr_active++] = (uint32_t)i;
		else
			w->inactive[w->nr_inactive++] = (uint32_t)i;
	}
	for (uint64_t i = w->nr_inactive; i > 1 && chance(30); i--) {
		const uint64_t other = draw(i);
		const uint32_t folio = w->inactive[i - 1];

		w->inactive[i - 1] = w->inactive[other];
		w->inactive[other] = folio;
	}
}

static void draw_world(struct world *w)
{
	static const uint64_t odds[] = { 0, 3, 8, 15 };
	const uint64_t odd = odds[draw(4)];

	memset(w, 0, sizeof(*w));
	draw_arch(&w->arch);
	draw_policy(&w->policy);
	w->ptrs = w->arch.ptrs_per_pte;
	draw_folios(w, odd);
	draw_vmas(w, odd);
	draw_entries(w, odd);
	draw_tables(w, odd);
	draw_counts(w, odd);
	draw_rmap_and_lists(w, odd);
}

/* Give each listed folio a generation and marks, and the lists the order in which they are given
 * out. What is drawn here comes last, so that the worlds of earlier seeds stay what they are. */
static void draw_generations(struct world *w)
{
	const uint32_t marks[] = { RMF_FOLIO_REFERENCED, RMF_FOLIO_WORKINGSET };

	w->max_seq = 1 + draw(9);
	for (int type = 0; type < RMF_NR_LRU_TYPES; type++)
		w->min_seq[type] =
			w->max_seq - 1 - draw(w->max_seq < 3 ? w->max_seq : RMF_MAX_NR_GENS - 1);
	while (w->nr_active)
		w->inactive[w->nr_inactive++] = w->active[--w->nr_active];
	for (uint64_t i = 0; i < w->nr_folios; i++) {
		uint32_t *flags = &w->folio_flags[i];
		const uint64_t min = w->min_seq[rmf_lru_type_of(*flags)],
			       seq = min + draw(w->max_seq - min + 1);

		*flags = (*flags & ~(uint32_t)RMF_FOLIO_ACTIVE) | some_of(marks, 2, 25);
		*flags = rmf_with_accesses(*flags, chance(50) ? 0 : (uint32_t)draw(4));
		*flags = rmf_with_gen(*flags, (uint32_t)(seq % RMF_MAX_NR_GENS) + 1);
	}
}

/* ---- a run ---- */

/* What is done to a world. */
struct deed {
	enum { DEED_RECLAIM, DEED_GROUPS, DEED_MADVISE, DEED_CALLS, NR_DEEDS } kind;
	enum { SWAP_NONE, SWAP_ENDLESS, SWAP_SMALL, SWAP_FRAGMENTED, SWAP_MAP, NR_SWAPS } swap;
	enum rmf_advice advice;
	bool owner;
	uint64_t target;
	uint64_t start;
	uint64_t end;
	uint64_t slots;
	uint64_t seed; /* of single calls, and of the map of slots */
	uint32_t max_ptes_none;
};

static void attach(struct rmf_run *run, struct world *w)
{
	run->arch = w->arch;
	run->policy = w->policy;
	run->pop = (struct rmf_population){
		.ptrs_per_pte = w->ptrs,
		.ptes = w->ptes,
		.nr_ptes = w->nr_ptes,
		.vma_start = w->vma_start,
		.vma_end = w->vma_end,
		.vma_pgoff = w->vma_pgoff,
		.vma_flags = w->vma_flags,
		.vma_mm = w->vma_mm,
		.vma_pte_base = w->vma_pte_base,
		.vma_window_start = w->vma_window_start,
		.vma_window_end = w->vma_window_end,
		.vma_table_base = w->vma_table_base,
		.nr_vmas = w->nr_vmas,
		.table_state = w->table_state,
		.nr_tables = w->nr_tables,
		.folio_pfn = w->folio_pfn,
		.folio_index = w->folio_index,
		.folio_order = w->folio_order,
		.folio_flags = w->folio_flags,
		.folio_refcount = w->folio_refcount,
		.folio_mapcount = w->folio_mapcount,
		.folio_entire_mapcount = w->folio_entire_mapcount,
		.folio_nr_pages_mapped = w->folio_nr_pages_mapped,
		.folio_swap = w->folio_swap,
		.folio_page_base = w->folio_page_base,
		.nr_folios = w->nr_folios,
		.folio_capacity = MAX_ALL_FOLIOS,
		.page_mapcount = w->page_mapcount,
		.page_flags = w->page_flags,
		.nr_pages = w->nr_pages,
		.rmap_start = w->rmap_start,
		.rmap_vma = w->rmap_vma,
		.nr_rmap = w->nr_rmap,
		.rmap_capacity = MAX_RMAP,
		.mm_rss = &w->mm_rss[0][0],
		.mm_cpumask = w->mm_cpumask,
		.mm_flags = w->mm_flags,
		.nr_mms = w->nr_mms,
	};
	run->pieces = w->pieces;
	run->nr_given = w->nr_folios;
}

static void set_swap(struct rmf_run *run, const struct deed *deed)
{
	uint8_t free_slots[128] = { 0 };
	struct rmf_fault fault;

	switch (deed->swap) {
	case SWAP_ENDLESS:
		run->swap_end = (uint64_t)1 << 40;
		break;
	case SWAP_SMALL:
		run->swap_end = deed->slots;
		break;
	case SWAP_FRAGMENTED:
		run->swap_end = (uint64_t)1 << 40;
		run->swap_fragmented = true;
		break;
	case SWAP_MAP:
		state = deed->seed;
		for (uint64_t i = 1; i < 2 + deed->slots; i++)
			free_slots[i] = chance(80);
		if (rmf_swap_map_set(run, free_slots, 2 + deed->slots, &fault))
			abort();
		break;
	case SWAP_NONE:
	case NR_SWAPS:
		break;
	}
}

/* A list has room for the pieces of splits. */
struct lists {
	uint32_t inactive[MAX_ALL_FOLIOS];
	uint32_t active[MAX_ALL_FOLIOS];
	uint64_t nr_inactive;
	uint64_t nr_active;
};

static void unroll(const struct rmf_lru_list *list, uint32_t *out, uint64_t *n)
{
	*n = list->n;
	for (uint64_t i = 0; i < list->n; i++)
		out[i] = list->folios[(list->head + i) % list->capacity];
}

static void do_reclaim(struct rmf_run *run, const struct world *w, const struct deed *deed,
		       struct lists *lists)
{
	static uint32_t inactive[MAX_ALL_FOLIOS], active[MAX_ALL_FOLIOS];
	const struct rmf_lru_options options = { .stats_flushed = deed->seed & 1,
						 .page_shift = 12,
						 .mglru = w->max_seq,
						 .max_seq = w->max_seq,
						 .min_seq = { w->min_seq[RMF_LRU_ANON],
							      w->min_seq[RMF_LRU_FILE] } };
	struct rmf_reclaim reclaim;
	struct rmf_fault fault;

	memcpy(inactive, w->inactive, sizeof(inactive));
	memcpy(active, w->active, sizeof(active));
	if (rmf_deferred_set(run) ||
	    rmf_reclaim_start(&reclaim, run, inactive, w->nr_inactive, active, w->nr_active,
			      deed->target, &options, &fault))
		abort();
	while (rmf_reclaim_step(&reclaim, 64))
		;
	rmf_reclaim_store_lists(&reclaim);
	unroll(&reclaim.inactive, lists->inactive, &lists->nr_inactive);
	unroll(&reclaim.active, lists->active, &lists->nr_active);
	rmf_reclaim_free(&reclaim);
}

static void do_madvise(struct rmf_run *run, const struct world *w, const struct deed *deed,
		       struct lists *lists)
{
	static uint32_t inactive[MAX_ALL_FOLIOS], active[MAX_ALL_FOLIOS];
	struct rmf_madvise madvise;
	struct rmf_fault fault;

	memcpy(inactive, w->inactive, sizeof(inactive));
	memcpy(active, w->active, sizeof(active));
	if (rmf_madvise_start(&madvise, run, inactive, w->nr_inactive, active, w->nr_active,
			      &fault))
		abort();
	for (uint32_t mm = 0; mm < w->nr_mms; mm++) {
		if (rmf_madvise_call(&madvise, deed->advice, mm, deed->start, deed->end,
				     deed->owner, &fault))
			abort();
		while (rmf_madvise_step(&madvise, 64))
			;
	}
	if (rmf_madvise_lists(&madvise))
		abort();
	unroll(&madvise.inactive, lists->inactive, &lists->nr_inactive);
	unroll(&madvise.active, lists->active, &lists->nr_active);
	rmf_madvise_free(&madvise);
}

static void do_calls(struct rmf_run *run, const struct world *w, const struct deed *deed)
{
	state = deed->seed;
	run->guard = chance(50) ? RMF_GUARD_CONTIGUOUS : RMF_GUARD_NONE;
	for (uint64_t i = 0; i < w->nr_folios; i++) {
		for (uint64_t row = w->rmap_start[i]; row < w->rmap_start[i + 1]; row++) {
			struct rmf_reference reference = { .mapcount = run->pop.folio_mapcount[i] };

			if (chance(20))
				rmf_folio_referenced_one(run, i, w->rmap_vma[row], &reference);
			else
				rmf_try_to_unmap_one(run, i, w->rmap_vma[row], (uint32_t)draw(32));
		}
	}
}

static void do_deed(struct rmf_run *run, struct world *w, const struct deed *deed,
		    struct lists *lists)
{
	struct rmf_memo *memo = run->memo;
	/* what is as large as the largest folio is cleared as far as this lane needs it */
	const size_t rest = offsetof(struct rmf_run, mapped_stat);

	memset(run, 0, offsetof(struct rmf_run, batch_lengths));
	memset(run->batch_lengths, 0, (MAX_PAGES + 1) * sizeof(*run->batch_lengths));
	memset(run->looked_around, 0, (MAX_PAGES + 1) * sizeof(*run->looked_around));
	memset(run->isolated, 0, (2 * MAX_PAGES + 1) * sizeof(*run->isolated));
	memset((char *)run + rest, 0, offsetof(struct rmf_run, page_mapcount) - rest);
	run->memo = memo;
	lists->nr_inactive = lists->nr_active = 0;
	attach(run, w);
	run->max_ptes_none = deed->max_ptes_none;
	set_swap(run, deed);
	if (deed->kind == DEED_RECLAIM)
		do_reclaim(run, w, deed, lists);
	else if (deed->kind == DEED_GROUPS)
		rmf_shrink_list(run, RMF_VISIT_PAGEOUT, w->inactive, w->nr_inactive, NULL, NULL);
	else if (deed->kind == DEED_MADVISE)
		do_madvise(run, w, deed, lists);
	else
		do_calls(run, w, deed);
	rmf_memo_settle(run);
	rmf_memo_forget(run);
	rmf_deferred_free(run);
	rmf_swap_map_free(run);
}

/* ---- what must hold ---- */

static const char *wrong;
static uint64_t wrong_at;

static bool fails(const char *what, uint64_t at)
{
	wrong = what;
	wrong_at = at;
	return false;
}

#define SAME(a, b, n, what)                                        \
	do {                                                       \
		for (uint64_t i_ = 0; i_ < (n); i_++)              \
			if ((a)[i_] != (b)[i_])                    \
				return fails(what " differs", i_); \
	} while (0)

/* Whether two runs end alike. What means nothing is not compared: pages of uniform folios, slots of
 * folios that are not in swap. */
static bool same_end(const struct rmf_run *a, const struct rmf_run *b)
{
	const struct rmf_population *p = &a->pop, *q = &b->pop;

	SAME(a->ev, b->ev, RMF_NR_EVENTS, "an event");
	SAME(a->referenced_ev, b->referenced_ev, RMF_NR_EVENTS, "an event of reference checks");
	SAME(a->batch_lengths, b->batch_lengths, MAX_PAGES + 1, "a batch length");
	SAME(a->looked_around, b->looked_around, MAX_PAGES + 1, "a look-around");
	SAME(a->isolated, b->isolated, 2 * MAX_PAGES + 1, "an isolation");
	if (a->mapped_stat != b->mapped_stat || a->swap_used != b->swap_used ||
	    a->error != b->error || p->nr_folios != q->nr_folios || p->nr_rmap != q->nr_rmap)
		return fails("a number of the run differs", 0);
	SAME(p->ptes, q->ptes, p->nr_ptes, "an entry");
	SAME(p->table_state, q->table_state, p->nr_tables, "a table");
	SAME(p->mm_rss, q->mm_rss, p->nr_mms * RMF_NR_MM_COUNTERS, "a counter");
	SAME(p->folio_flags, q->folio_flags, p->nr_folios, "a folio's flags");
	SAME(p->folio_order, q->folio_order, p->nr_folios, "an order");
	SAME(p->folio_pfn, q->folio_pfn, p->nr_folios, "a PFN");
	SAME(p->folio_index, q->folio_index, p->nr_folios, "an index");
	SAME(p->folio_refcount, q->folio_refcount, p->nr_folios, "a refcount");
	SAME(p->folio_mapcount, q->folio_mapcount, p->nr_folios, "a mapcount");
	SAME(p->folio_entire_mapcount, q->folio_entire_mapcount, p->nr_folios,
	     "an entire mapcount");
	SAME(p->rmap_start, q->rmap_start, p->nr_folios + 1, "a row of the rmap");
	SAME(p->rmap_vma, q->rmap_vma, p->nr_rmap, "the rmap");
	for (uint64_t i = 0; i < p->nr_folios; i++) {
		const uint64_t base = p->folio_page_base[i], nr = rmf_folio_nr_pages(p, i);

		if (nr > 1 && p->folio_nr_pages_mapped[i] != q->folio_nr_pages_mapped[i])
			return fails("nr_pages_mapped differs", i);
		if ((p->folio_flags[i] & RMF_FOLIO_SWAPCACHE) &&
		    p->folio_swap[i] != q->folio_swap[i])
			return fails("a swap slot differs", i);
		if (p->folio_flags[i] & RMF_FOLIO_PAGE_MAPCOUNTS)
			SAME(p->page_mapcount + base, q->page_mapcount + base, nr,
			     "a page's mapcount");
		if (p->folio_flags[i] & RMF_FOLIO_PAGE_FLAGS)
			SAME(p->page_flags + base, q->page_flags + base, nr, "a page's flags");
	}
	return true;
}

static bool same_lists(const struct lists *a, const struct lists *b)
{
	if (a->nr_inactive != b->nr_inactive || a->nr_active != b->nr_active)
		return fails("the length of a list differs", a->nr_inactive);
	SAME(a->inactive, b->inactive, a->nr_inactive, "the inactive list");
	SAME(a->active, b->active, a->nr_active, "the active list");
	return true;
}

/* Identities between events. */
static bool events_add_up(const struct rmf_run *run)
{
	const uint64_t *ev = run->ev;
	uint64_t steps = 0, pages = 0, looks = 0, tested = 0, isolated = 0;

	for (uint64_t nr = 0; nr <= MAX_PAGES; nr++) {
		steps += run->batch_lengths[nr];
		pages += nr * run->batch_lengths[nr];
		looks += run->looked_around[nr];
		tested += nr * run->looked_around[nr];
	}
	for (uint64_t nr = 0; nr <= 2 * MAX_PAGES; nr++)
		isolated += run->isolated[nr];
	if (steps != ev[RMF_BATCHES] || pages != ev[RMF_BATCHED_PAGES])
		return fails("the batch lengths do not add up to the batches and their pages",
			     steps);
	if (looks != ev[RMF_LOOK_AROUNDS] || tested > ev[RMF_YOUNG_TESTS])
		return fails("the look-arounds do not add up", looks);
	if (isolated > ev[RMF_ISOLATION_CALLS])
		return fails("more isolations by their pages than calls", isolated);
	if (ev[RMF_WINDOW_YOUNG_PTES] > ev[RMF_WINDOW_PTE_READS])
		return fails("a window found more young entries than it read",
			     ev[RMF_WINDOW_YOUNG_PTES]);
	/* a table or window without a folio is one call of walk_update_folio(); v6.12 has none */
	if (run->policy.mglru == RMF_MGLRU_V6_12
		    ? ev[RMF_WINDOW_UPDATES] || ev[RMF_AGING_UPDATES]
		    : ev[RMF_WINDOW_PROMOTIONS] > ev[RMF_WINDOW_UPDATES] ||
			      ev[RMF_AGING_PROMOTIONS] > ev[RMF_AGING_UPDATES])
		return fails("more promotions than calls that promote",
			     ev[RMF_WINDOW_PROMOTIONS] + ev[RMF_AGING_PROMOTIONS]);
	if (ev[RMF_WALK_YIELDS] > ev[RMF_WALK_CALLS])
		return fails("more yields than calls of the walk", ev[RMF_WALK_YIELDS]);
	if (ev[RMF_FOLIOS_FREED] > ev[RMF_PAGES_FREED])
		return fails("more folios freed than pages", ev[RMF_FOLIOS_FREED]);
	for (int i = 0; i < RMF_NR_EVENTS; i++)
		if (run->referenced_ev[i] > ev[i])
			return fails("reference checks counted more of an event than all did",
				     (uint64_t)i);
	return true;
}

/* Mapcounts are the entries that map a page. `leaves` are the PMD leaves that are left, by the
 * folios that were there before. Which pages a leaf maps is not known of the pieces of a folio, so
 * each counts it. */
static bool mapcounts_add_up(const struct rmf_population *pop, const struct world *before,
			     const int32_t *counts, const int32_t *leaves)
{
	bool whole[MAX_FOLIOS];

	for (uint64_t i = 0; i < before->nr_folios; i++)
		whole[i] = pop->folio_order[i] == before->folio_order[i];
	for (uint64_t i = 0; i < pop->nr_folios; i++) {
		const uint64_t nr = rmf_folio_nr_pages(pop, i), base = pop->folio_page_base[i];
		const int64_t from = folio_of_pfn(before, pop->folio_pfn[i]);
		const bool own = pop->folio_flags[i] & RMF_FOLIO_PAGE_MAPCOUNTS;
		const int32_t each =
			(pop->folio_mapcount[i] - pop->folio_entire_mapcount[i]) / (int32_t)nr;
		int32_t sum = 0, mapped = 0;

		if (from < 0)
			return fails("a folio lies where none was", i);
		sum = leaves[from];
		for (uint64_t page = base; page < base + nr; page++) {
			const int32_t mappings = counts[page] + before->external[page];

			sum += mappings;
			mapped += mappings > 0;
			if (whole[from] && (own ? pop->page_mapcount[page] : each) != mappings)
				return fails("a page's mapcount is not its mappings", page);
		}
		if (nr > 1 &&
		    pop->folio_nr_pages_mapped[i] != (leaves[from] ? (int32_t)nr : mapped))
			return fails("nr_pages_mapped is not the pages that are mapped", i);
		if (sum != pop->folio_mapcount[i] ||
		    (whole[from] ? leaves[from] : 0) != pop->folio_entire_mapcount[i])
			return fails("a folio's mapcount is not its mappings", i);
	}
	return true;
}

/* Mappings are counted right, and the counters of an mm move with them. That is so unless the
 * policy has one of the known bugs: a stale nr, a scan that leaves its table. A split may leave a
 * migration entry, which a counter still counts. */
static bool conserves(const struct rmf_run *run, const struct world *before, struct world *after)
{
	int32_t counts[MAX_PAGES], leaves[MAX_FOLIOS];

	if (!run->policy.nr_reset || !run->policy.clip || run->ev[RMF_WARNS])
		return true;
	count_mappings(after, before, counts, leaves);
	if (!mapcounts_add_up(&run->pop, before, counts, leaves))
		return false;
	if (run->ev[RMF_FOLIO_SPLITS])
		return true;
	for (uint64_t mm = 0; mm < before->nr_mms; mm++) {
		int64_t was = 0, now = 0, swap_was = 0, swap_now = 0, change = 0;

		for (uint64_t v = 0; v < before->nr_vmas; v++) {
			const uint64_t base = before->vma_pte_base[v],
				       size = before->vma_end[v] - before->vma_start[v];

			if (before->vma_mm[v] != mm)
				continue;
			for (uint64_t at = base; at < base + size; at++) {
				was += maps_page(before->ptes[at]) &&
				       folio_of_pfn(before, rmf_pte_pfn(before->ptes[at])) >= 0;
				now += maps_page(after->ptes[at]) &&
				       folio_of_pfn(before, rmf_pte_pfn(after->ptes[at])) >= 0;
				swap_was += rmf_pte_kind(before->ptes[at]) == RMF_KIND_SWAP;
				swap_now += rmf_pte_kind(after->ptes[at]) == RMF_KIND_SWAP;
			}
		}
		for (int i = 0; i < RMF_NR_MM_COUNTERS; i++)
			change += i == RMF_MM_SWAPENTS ? 0 : after->mm_rss[mm][i];
		if (change != now - was)
			return fails("the counters of an mm do not follow its mappings", mm);
		if (after->mm_rss[mm][RMF_MM_SWAPENTS] != swap_now - swap_was)
			return fails("the counter of swap entries does not follow them", mm);
	}
	return true;
}

/* ---- cases ---- */

static struct world given, fast_world, world;
static struct rmf_run fast_run, general_run;
static struct lists fast_lists, lists;
static struct rmf_memo *memos[8]; /* by instruction set, kept from case to case */

static void draw_deed(struct deed *deed, const struct world *w)
{
	uint64_t low = w->vma_start[0], high = w->vma_end[w->nr_vmas - 1];

	for (uint64_t v = 0; v < w->nr_vmas; v++) {
		low = w->vma_start[v] < low ? w->vma_start[v] : low;
		high = w->vma_end[v] > high ? w->vma_end[v] : high;
	}
	*deed = (struct deed){
		.kind = draw(NR_DEEDS),
		.swap = draw(NR_SWAPS),
		.advice = (enum rmf_advice)draw(RMF_NR_ADVICE),
		.owner = chance(50),
		.target = 1 + draw(w->nr_pages + 8),
		.slots = 1 + draw(100),
		.seed = draw(UINT64_MAX),
		.max_ptes_none = (uint32_t)(chance(50) ? w->ptrs - 1 : draw(w->ptrs)),
	};
	deed->start = chance(50) ? low : low + draw(high - low + 1);
	deed->end = chance(50) ? high : deed->start + draw(high - deed->start + 3);
	deed->end = deed->end < deed->start ? deed->start : deed->end;
}

/* One case. False with a finding, which `wrong` says. */
static bool one_case(uint64_t seed)
{
	struct rmf_fault fault;
	struct deed deed;
	uint64_t folios, nr_folios;
	unsigned int nr = 0, isa;

	state = seed * 0x9e3779b97f4a7c15 + 1;
	draw_world(&given);
	draw_deed(&deed, &given);
	while (rmf_isa(nr))
		nr++;
	isa = (unsigned int)draw(nr);
	given.policy.mglru = (enum rmf_mglru_rule)draw(RMF_MGLRU_V7_3 + 1);
	given.policy.riscv_lazyfree_split = chance(50);
	if (deed.kind == DEED_RECLAIM && given.policy.mglru && chance(60))
		draw_generations(&given);
	if (chance(60)) /* a target that is not met is sixteen rounds of the same */
		deed.target = 1 + deed.target / 4;
	nr_bytes = 0; /* a deed draws the same twice */
	attach(&general_run, &given);
	if (rmf_population_check(&general_run.pop, &fault))
		return fails("the world itself is wrong", fault.index);
	nr_folios = given.nr_folios;
	for (folios = 0; nr_folios--;)
		folios += ((uint64_t)1 << given.folio_order[nr_folios]) - 1;
	if (given.nr_folios + folios > MAX_ALL_FOLIOS)
		return fails("the world has no room for splits", folios);
	memcpy(&fast_world, &given, sizeof(given));
	memcpy(&world, &given, sizeof(given));
	if (!memos[isa] && !(memos[isa] = rmf_memo_new(rmf_isa(isa))))
		abort();
	fast_run.memo = memos[isa];
	do_deed(&fast_run, &fast_world, &deed, &fast_lists);
	do_deed(&general_run, &world, &deed, &lists);
	if (!same_end(&fast_run, &general_run) || !same_lists(&fast_lists, &lists))
		return false;
	if (rmf_population_check(&general_run.pop, &fault))
		return fails(fault.rule, fault.index);
	return events_add_up(&general_run) && conserves(&general_run, &given, &world);
}

#ifdef RMF_LIBFUZZER
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bytes = data;
	nr_bytes = size;
	if (!one_case(1)) {
		printf("fuzz: %s (%" PRIu64 ")\n", wrong, wrong_at);
		abort();
	}
	return 0;
}
#else
static double now(void)
{
	struct timespec time;

	timespec_get(&time, TIME_UTC);
	return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static volatile sig_atomic_t stopped;

static void stop(int number)
{
	stopped = number;
}

int main(int argc, char **argv)
{
	const double begun = now();
	char *unit = "";
	const uint64_t most = argc > 1 ? strtoull(argv[1], &unit, 10) : 1000,
		       first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
	uint64_t done = 0, findings = 0;

	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
	signal(SIGINT, stop);
	signal(SIGTERM, stop);
	for (; findings < 10 && !stopped; done++) {
		if (*unit != 's' ? done == most : !(done % 256) && now() - begun > (double)most)
			break;
		if (one_case(first + done))
			continue;
		findings++;
		printf("fuzz: case %" PRIu64 ": %s (%" PRIu64 ")\n", first + done, wrong, wrong_at);
	}
	printf("fuzz: %" PRIu64 " cases from %" PRIu64 " in %.1f s, %.0f a second; %" PRIu64
	       " findings\n",
	       done, first, now() - begun, (double)done / (now() - begun + 1e-9), findings);
	for (size_t i = 0; i < sizeof(memos) / sizeof(memos[0]); i++)
		rmf_memo_free(memos[i]);
	return findings ? EXIT_FAILURE : EXIT_SUCCESS;
}
#endif
