#include "check_drawn.h"

#include <string.h>

#include "unmap.h"

enum { TABLE = RMF_CHECK_DRAWN_TABLE, SLOTS = 2 * TABLE };

/* SplitMix64, by Sebastiano Vigna (public domain). */
static uint64_t next_number(uint64_t *random)
{
	uint64_t z = *random += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static uint32_t below(uint64_t *random, uint32_t n)
{
	return (uint32_t)((next_number(random) >> 32) * n >> 32);
}

static bool chance(uint64_t *random, uint32_t percent)
{
	return below(random, 100) < percent;
}

/* Each flag of the mask half of the time. */
static rmf_pte some_of(uint64_t *random, rmf_pte mask)
{
	return next_number(random) >> 20 & mask;
}

static bool is_anon(const struct rmf_check_family *family)
{
	return family->kind == RMF_CHECK_LAZYFREE || family->kind == RMF_CHECK_ANON;
}

/* Place the folio and the VMA: half of the time the folio lies whole in one table, at a place that
 * is aligned to its size; the VMA may end inside the folio or go on beyond it. Returns the slot of
 * the folio's first page. */
static uint32_t draw_place(uint64_t *random, struct rmf_check_state *state)
{
	const uint32_t pages = 1u << state->order, where = below(random, 4);
	uint32_t at, first = 0, end = pages, before = 0, behind = 0;

	if (where < 2)
		at = below(random, TABLE / pages) * pages;
	else if (where == 2 && pages > 1)
		at = TABLE - 1 - below(random, pages - 1);
	else
		at = below(random, SLOTS - pages + 1);
	if (pages > 1 && chance(random, 30)) {
		first = below(random, pages);
		end = first + 1 + below(random, pages - first);
	}
	if (first == 0 && chance(random, 25))
		before = below(random, at < 5 ? at + 1 : 5);
	if (end == pages && chance(random, 25))
		behind = below(random, SLOTS - at - pages < 5 ? SLOTS - at - pages + 1 : 5);
	state->vma_start = TABLE + at + first - before;
	state->vma_end = TABLE + at + end + behind;
	state->vma_pgoff = RMF_CHECK_FOLIO_INDEX + first - before;
	state->guard_contiguous = chance(random, 30);
	state->first_slot = at;
	state->end_slot = at + 2 * pages < SLOTS ? at + 2 * pages : SLOTS;
	return at;
}

/* An entry that does not continue the mapping of the folio. */
static rmf_pte draw_other(const struct rmf_check_family *family, uint64_t *random, uint32_t page)
{
	const uint64_t own = RMF_CHECK_FOLIO_PFN + page, foreign = RMF_CHECK_FOREIGN_PFN + page;
	const rmf_pte wp = family->uffd_wp && chance(random, 30) ? RMF_PTE_UFFD_WP : 0;

	switch (below(random, 8)) {
	case 0:
		return foreign << RMF_PFN_SHIFT | RMF_PTE_PRESENT;
	case 1:
		return (RMF_CHECK_FOLIO_PFN + below(random, 1u << family->order)) << RMF_PFN_SHIFT |
		       RMF_PTE_PRESENT | RMF_PTE_WRITE;
	case 2:
		return rmf_mk_nonpresent(RMF_KIND_SWAP, RMF_CHECK_SWAP_OFFSET + page, 0);
	case 3:
		return rmf_mk_nonpresent(RMF_KIND_MIGRATION, own, 0);
	case 4:
		if (is_anon(family))
			return rmf_mk_nonpresent(RMF_KIND_DEVICE_EXCLUSIVE, own, wp);
		break;
	case 5:
		return rmf_mk_nonpresent(RMF_KIND_DEVICE_PRIVATE, foreign, 0);
	case 6:
		if (family->uffd_wp && !family->anon_vma)
			return rmf_mk_marker();
		break;
	default:
		break;
	}
	return 0;
}

/* Map the folio: evenly, or with some entries that are different. */
static void draw_slots(const struct rmf_check_family *family, uint64_t *random, uint32_t at,
		       struct rmf_check_state *state)
{
	static const uint32_t rates[] = { 0, 0, 3, 10, 40 };
	const uint32_t pages = 1u << state->order, rate = rates[below(random, 5)];
	const rmf_pte bits = RMF_PTE_WRITE | RMF_PTE_SOFT_DIRTY |
			     (family->uffd_wp ? RMF_PTE_UFFD_WP : 0);
	const rmf_pte used = RMF_PTE_YOUNG | RMF_PTE_DIRTY, spread = some_of(random, used);
	const uint32_t cut = chance(random, 25) ? below(random, pages) : pages;
	rmf_pte flags = some_of(random, bits);

	if (chance(random, 40))
		flags |= some_of(random, used);
	if (chance(random, 5))
		flags |= RMF_PTE_UNUSED;
	if (chance(random, 5))
		flags |= RMF_PTE_PROT;
	memset(state->ptes, 0, sizeof(state->ptes));
	for (uint32_t page = 0; page < pages; page++) {
		rmf_pte *pte = &state->ptes[at + page];

		if (page == cut)
			flags ^= some_of(random, bits);
		*pte = (RMF_CHECK_FOLIO_PFN + page) << RMF_PFN_SHIFT | RMF_PTE_PRESENT | flags |
		       some_of(random, spread);
		if (!chance(random, rate))
			continue;
		if (chance(random, 60))
			*pte ^= (rmf_pte)1 << (1 + below(random, family->uffd_wp ? 5 : 4));
		else
			*pte = draw_other(family, random, page);
	}
	/* what lies outside of the VMA is a neighbour's; half of the time nothing does */
	if (chance(random, 50))
		for (uint32_t i = 0; i < SLOTS; i++)
			if (TABLE + i < state->vma_start || TABLE + i >= state->vma_end)
				state->ptes[i] = 0;
}

/* Fold what can be folded, or most of it. */
static void draw_blocks(uint64_t *random, struct rmf_check_state *state)
{
	const uint32_t order = state->order < 4 ? state->order : 4;
	const bool every = chance(random, 60);

	state->cont = 1;
	if (order == 0 || chance(random, 50))
		return;
	state->cont = 2u << below(random, order);
	for (uint32_t slot = 0; slot < SLOTS; slot += state->cont)
		if (every || chance(random, 60))
			rmf_check_fold(state, slot);
}

static uint32_t draw_ttu(uint64_t *random)
{
	uint32_t ttu = RMF_TTU_BATCH_FLUSH | RMF_TTU_SYNC;

	if (chance(random, 25))
		ttu = (uint32_t)some_of(random, RMF_TTU_BATCH_FLUSH | RMF_TTU_SYNC);
	return ttu | (chance(random, 15) ? RMF_TTU_IGNORE_MLOCK : 0);
}

/* Everything else: flags of the folio and of the VMA, and who else holds the folio. */
static struct rmf_check_condition draw_condition(const struct rmf_check_family *family,
						 uint64_t *random)
{
	static const uint32_t base[RMF_CHECK_NR_KINDS] = {
		[RMF_CHECK_FILE] = 0,
		[RMF_CHECK_SHMEM] = RMF_FOLIO_SWAPBACKED,
		[RMF_CHECK_LAZYFREE] = RMF_FOLIO_ANON,
		[RMF_CHECK_ANON] = RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED | RMF_FOLIO_SWAPCACHE,
	};
	struct rmf_check_condition condition = { .folio_flags = base[family->kind],
						 .ttu = draw_ttu(random) };
	const bool anon = family->kind == RMF_CHECK_ANON;

	if (chance(random, anon ? 80 : 25))
		condition.folio_flags |= RMF_FOLIO_DIRTY;
	if (chance(random, 10))
		condition.folio_flags |= RMF_FOLIO_MLOCKED;
	if (anon && chance(random, 15))
		condition.folio_flags |= RMF_FOLIO_PINNED;
	if (chance(random, 12))
		condition.vma_flags |= RMF_VMA_LOCKED;
	if (family->kind == RMF_CHECK_LAZYFREE && chance(random, 20))
		condition.vma_flags |= RMF_VMA_DROPPABLE;
	if (chance(random, 15))
		condition.vma_flags |= RMF_VMA_UFFD_ARMED;
	condition.extra_refs = chance(random, 15) ? (uint8_t)(1 + below(random, 2)) : 0;
	condition.external = chance(random, 15) ? 1 : 0;
	if (anon && chance(random, 20))
		condition.swap_dup_fails = (uint8_t)(1 + below(random, 1u << family->order));
	/* memory failure splits a large folio before it unmaps it */
	if (family->order == 0 && chance(random, 10)) {
		condition.poisoned = 1;
		condition.ttu = RMF_TTU_HWPOISON | RMF_TTU_IGNORE_MLOCK;
	}
	return condition;
}

/* The exclusive pages of an anonymous folio: all, none, a run, or any. */
static uint32_t draw_marks(uint64_t *random)
{
	const uint32_t any = (uint32_t)next_number(random);

	switch (below(random, 5)) {
	case 0:
		return 0;
	case 1:
		return any;
	case 2:
		return ~0u << (any & 31);
	default:
		return ~0u;
	}
}

void rmf_check_draw(const struct rmf_check_family *family, uint64_t index,
		    struct rmf_check_state *state)
{
	const uint64_t number = (uint64_t)family->order << 4 | (uint64_t)family->kind << 2 |
				(uint64_t)family->anon_vma << 1 | family->uffd_wp;
	uint64_t random = family->seed;
	struct rmf_check_condition condition;

	random = next_number(&random) + number;
	random = next_number(&random) + index;
	state->table = TABLE;
	state->order = family->order;
	state->vma_flags = (family->anon_vma ? RMF_VMA_ANON : 0) |
			   (family->uffd_wp ? RMF_VMA_UFFD_WP : 0);
	draw_slots(family, &random, draw_place(&random, state), state);
	draw_blocks(&random, state);
	condition = draw_condition(family, &random);
	rmf_check_settle(state, &condition,
			 family->kind == RMF_CHECK_ANON ? draw_marks(&random) : 0);
}
