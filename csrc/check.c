#include "check.h"

#include <stdlib.h>
#include <string.h>

#include "unmap.h"

enum {
	FOLIO_PFN = 64, /* aligned to the largest folio */
	FOREIGN_PFN = 1024,
	SWAP_OFFSET = 4096,
	FIRST_VPN = RMF_CHECK_TABLE, /* of the two tables */
	BORDER_VPN = 2 * RMF_CHECK_TABLE, /* between them */
	FOLIO_INDEX = 256, /* a multiple of the page table */
	MAX_TRACE = 16 * RMF_CHECK_SLOTS,
	DOCUMENTED = 1 << RMF_INV_ABORT_WIDENED | 1 << RMF_INV_ABORT_LEFT_MAPPED,
};

static const char *const invariant_names[RMF_NR_INVARIANTS] = {
	[RMF_INV_ACCOUNTING] = "accounting",
	[RMF_INV_SLOT_ONCE] = "slot-once",
	[RMF_INV_FORWARD] = "forward",
	[RMF_INV_OUT_OF_BOUNDS] = "out-of-bounds",
	[RMF_INV_UFFD_WP_LOST] = "uffd-wp-lost",
	[RMF_INV_RESTORE_WRITE] = "restore-write",
	[RMF_INV_RESTORE_SOFT_DIRTY] = "restore-soft-dirty",
	[RMF_INV_RESTORE_YOUNG] = "restore-young",
	[RMF_INV_DIRTY_LOST] = "dirty-lost",
	[RMF_INV_TLB_FLUSH] = "tlb-flush",
	[RMF_INV_NOTIFIER] = "notifier",
	[RMF_INV_MLOCK] = "mlock",
	[RMF_INV_FINAL_STATE] = "final-state",
	[RMF_INV_ABORT_WIDENED] = "abort-widened",
	[RMF_INV_ABORT_LEFT_MAPPED] = "abort-left-mapped",
};

const char *rmf_invariant_name(enum rmf_invariant invariant)
{
	return (unsigned)invariant < RMF_NR_INVARIANTS ? invariant_names[invariant] : NULL;
}

/* --- enumeration ------------------------------------------------------------------------------------------------- */

/* In a symbol the PFN field says which page an entry names; state_at() puts the real one in. */
enum { OWN_PAGE, FOREIGN_PAGE, OTHER_PAGE };

static rmf_pte present_symbol(uint64_t page, rmf_pte flags)
{
	return page << RMF_PFN_SHIFT | RMF_PTE_PRESENT | flags;
}

static void add_symbol(struct rmf_check_family *family, rmf_pte symbol)
{
	family->symbols[family->nr_symbols++] = symbol;
}

/* Every combination of the bits in `mask` on an entry of the folio's own page. */
static void add_mappings(struct rmf_check_family *family, rmf_pte mask)
{
	rmf_pte flags = 0;

	do {
		add_symbol(family, present_symbol(OWN_PAGE, flags));
		flags = (flags - mask) & mask;
	} while (flags);
}

/* Bits of a present entry that can make a difference for this kind of folio in this VMA. */
static rmf_pte reacting_bits(const struct rmf_check_family *family)
{
	const rmf_pte mask = RMF_PTE_WRITE | RMF_PTE_SOFT_DIRTY | RMF_PTE_DIRTY;

	switch (family->kind) {
	case RMF_CHECK_LAZYFREE:
		/* a restore gives every bit back; soft-dirty and young do so without uffd-wp as with it */
		return family->uffd_wp ? RMF_PTE_WRITE | RMF_PTE_DIRTY | RMF_PTE_UFFD_WP : mask | RMF_PTE_YOUNG;
	case RMF_CHECK_ANON:
		/* swap entries carry soft-dirty and uffd-wp */
		return family->uffd_wp ? RMF_PTE_SOFT_DIRTY | RMF_PTE_UFFD_WP : mask;
	case RMF_CHECK_FILE:
	case RMF_CHECK_SHMEM:
	case RMF_CHECK_NR_KINDS:
		break;
	}
	return family->uffd_wp ? mask | RMF_PTE_UFFD_WP : mask;
}

static void add_symbols(struct rmf_check_family *family)
{
	const rmf_pte all = RMF_PTE_WRITE | RMF_PTE_YOUNG | RMF_PTE_DIRTY | RMF_PTE_SOFT_DIRTY;
	bool anon = family->kind == RMF_CHECK_LAZYFREE || family->kind == RMF_CHECK_ANON;

	add_symbol(family, 0);
	switch (family->level) {
	case RMF_CHECK_ALL_BITS:
		add_mappings(family, family->uffd_wp ? all | RMF_PTE_UFFD_WP : all);
		add_symbol(family, present_symbol(OWN_PAGE, RMF_PTE_UNUSED));
		add_symbol(family, present_symbol(OWN_PAGE, RMF_PTE_PROT));
		if (family->order > 0)
			add_symbol(family, present_symbol(OTHER_PAGE, RMF_PTE_WRITE));
		add_symbol(family, rmf_mk_nonpresent(RMF_KIND_MIGRATION, OWN_PAGE, 0));
		add_symbol(family, rmf_mk_nonpresent(RMF_KIND_DEVICE_PRIVATE, FOREIGN_PAGE, 0));
		add_symbol(family, rmf_mk_nonpresent(RMF_KIND_SWAP, FOREIGN_PAGE, 0));
		break;
	case RMF_CHECK_REACTING_BITS:
		add_mappings(family, reacting_bits(family));
		break;
	case RMF_CHECK_FEW:
		add_symbol(family, present_symbol(OWN_PAGE, 0));
		add_symbol(family, present_symbol(OWN_PAGE, RMF_PTE_WRITE | RMF_PTE_SOFT_DIRTY));
		add_symbol(family, present_symbol(OWN_PAGE, RMF_PTE_DIRTY | RMF_PTE_YOUNG));
		break;
	}
	add_symbol(family, present_symbol(FOREIGN_PAGE, 0));
	if (anon || family->unreachable)
		add_symbol(family, rmf_mk_nonpresent(RMF_KIND_DEVICE_EXCLUSIVE, OWN_PAGE, 0));
	if (family->uffd_wp && !family->anon_vma)
		add_symbol(family, rmf_mk_marker());
}

static void add_condition(struct rmf_check_family *family, struct rmf_check_condition condition)
{
	if (family->nr_conditions < RMF_CHECK_MAX_CONDITIONS)
		family->conditions[family->nr_conditions++] = condition;
}

/* TTU flags as the kernel combines them: reclaim, the same with an immediate flush, and memory failure or offlining, which ignore mlock. */
static const uint32_t reclaim_ttu = RMF_TTU_BATCH_FLUSH | RMF_TTU_SYNC;
static const uint32_t ttus[] = { RMF_TTU_BATCH_FLUSH | RMF_TTU_SYNC, RMF_TTU_BATCH_FLUSH, RMF_TTU_SYNC, 0,
				 RMF_TTU_SYNC | RMF_TTU_IGNORE_MLOCK, RMF_TTU_BATCH_FLUSH | RMF_TTU_SYNC | RMF_TTU_IGNORE_MLOCK };

/* Each folio condition in a VMA that is not locked, in one that is, and in one that is while mlock is ignored. */
static void add_locked_variants(struct rmf_check_family *family, struct rmf_check_condition condition)
{
	condition.ttu = reclaim_ttu;
	add_condition(family, condition);
	condition.vma_flags |= RMF_VMA_LOCKED;
	add_condition(family, condition);
	condition.ttu |= RMF_TTU_IGNORE_MLOCK;
	add_condition(family, condition);
}

static void add_ttu_variants(struct rmf_check_family *family, struct rmf_check_condition condition, bool every)
{
	if (!every) {
		add_locked_variants(family, condition);
		return;
	}
	for (uint32_t i = 0; i < sizeof(ttus) / sizeof(*ttus); i++) {
		condition.ttu = ttus[i];
		condition.vma_flags &= ~(uint32_t)RMF_VMA_LOCKED;
		if (!(ttus[i] & RMF_TTU_IGNORE_MLOCK))
			add_condition(family, condition);
		condition.vma_flags |= RMF_VMA_LOCKED;
		add_condition(family, condition);
	}
}

static void add_file_conditions(struct rmf_check_family *family, uint32_t base)
{
	bool every = family->level == RMF_CHECK_ALL_BITS;

	if (!every && family->uffd_wp) {
		/* markers do not react to the folio's flags, which the family without uffd-wp tries */
		add_condition(family, (struct rmf_check_condition){ .folio_flags = base, .ttu = reclaim_ttu });
		return;
	}
	for (uint32_t dirty = 0; dirty < 2; dirty++)
		add_ttu_variants(family, (struct rmf_check_condition){ .folio_flags = base | (dirty ? RMF_FOLIO_DIRTY : 0) }, every);
	add_ttu_variants(family, (struct rmf_check_condition){ .folio_flags = base, .external = 1 }, false);
}

static void add_lazyfree_conditions(struct rmf_check_family *family, uint32_t base)
{
	bool every = family->level == RMF_CHECK_ALL_BITS && family->order <= 1;
	struct rmf_check_condition clean = { .folio_flags = base }, dirty = { .folio_flags = base | RMF_FOLIO_DIRTY };

	struct rmf_check_condition held = { .folio_flags = base, .extra_refs = 1, .ttu = reclaim_ttu };

	add_ttu_variants(family, clean, every);
	dirty.ttu = reclaim_ttu;
	if (family->level != RMF_CHECK_ALL_BITS) {
		add_condition(family, dirty);
		add_condition(family, held);
	} else {
		add_ttu_variants(family, dirty, every);
		add_ttu_variants(family, held, every);
	}
	dirty.ttu = clean.ttu = reclaim_ttu;
	dirty.vma_flags = clean.vma_flags = held.vma_flags = RMF_VMA_DROPPABLE;
	add_condition(family, dirty);
	if (family->level != RMF_CHECK_ALL_BITS)
		return;
	add_condition(family, clean);
	add_condition(family, held);
	clean = (struct rmf_check_condition){ .folio_flags = base, .external = 1, .ttu = reclaim_ttu };
	add_condition(family, clean);
}

static void add_anon_conditions(struct rmf_check_family *family, uint32_t base)
{
	uint32_t pages = 1u << family->order;
	struct rmf_check_condition condition = { .folio_flags = base | RMF_FOLIO_DIRTY };

	add_ttu_variants(family, condition, family->level == RMF_CHECK_ALL_BITS);
	condition.ttu = reclaim_ttu;
	condition.folio_flags |= RMF_FOLIO_PINNED;
	add_condition(family, condition);
	condition.folio_flags &= ~(uint32_t)RMF_FOLIO_PINNED;
	/* with few bits the first and the last page stand for all */
	for (uint32_t page = 1; page <= pages; page += family->level == RMF_CHECK_ALL_BITS ? 1 : pages - 1) {
		condition.swap_dup_fails = (uint8_t)page;
		add_condition(family, condition);
	}
}

static void add_conditions(struct rmf_check_family *family)
{
	static const uint32_t base[RMF_CHECK_NR_KINDS] = {
		[RMF_CHECK_FILE] = 0,
		[RMF_CHECK_SHMEM] = RMF_FOLIO_SWAPBACKED,
		[RMF_CHECK_LAZYFREE] = RMF_FOLIO_ANON,
		[RMF_CHECK_ANON] = RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED | RMF_FOLIO_SWAPCACHE,
	};
	uint32_t flags = base[family->kind];
	struct rmf_check_condition poisoned = { .folio_flags = flags, .poisoned = 1, .ttu = RMF_TTU_HWPOISON | RMF_TTU_IGNORE_MLOCK };

	if (family->kind == RMF_CHECK_LAZYFREE)
		add_lazyfree_conditions(family, flags);
	else if (family->kind == RMF_CHECK_ANON)
		add_anon_conditions(family, flags);
	else
		add_file_conditions(family, flags);
	/* memory failure splits a large folio before it unmaps it */
	if (family->order == 0 || family->unreachable)
		add_condition(family, poisoned);
	if (family->unreachable && family->kind == RMF_CHECK_ANON)
		add_condition(family, (struct rmf_check_condition){ .folio_flags = RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED, .ttu = reclaim_ttu });
}

/* Where the folio lies: its page-table border, the VMA's borders, and what is behind the first table. */
struct geometry {
	uint32_t border; /* pages before the border; 0: the folio begins at it */
	uint32_t first, end; /* pages inside the VMA */
	bool guard_contiguous;
};

static uint64_t power(uint64_t base, uint32_t exponent)
{
	uint64_t result = 1;

	while (exponent--)
		result *= base;
	return result;
}

/* Symbols of a slot outside the VMA: the neighbour's. With all bits every one of them, else none, the folio going on, a foreign page. */
static uint32_t nr_outside(const struct rmf_check_family *family)
{
	return family->level == RMF_CHECK_ALL_BITS && family->order <= 1 ? family->nr_symbols : 3;
}

static uint64_t nr_slot_states(const struct rmf_check_family *family, const struct geometry *geometry)
{
	uint32_t pages = 1u << family->order, inside = geometry->end - geometry->first;

	return power(family->nr_symbols, inside) * power(nr_outside(family), pages - inside);
}

/* The geometry that comes after; false after the last. The VMA that holds the whole folio comes first, so that it gives the first example. */
static bool next_geometry(const struct rmf_check_family *family, struct geometry *geometry)
{
	uint32_t pages = 1u << family->order;
	bool border_inside = geometry->border > 0 && geometry->border < pages;

	if (border_inside && !geometry->guard_contiguous) {
		geometry->guard_contiguous = true;
		return true;
	}
	geometry->guard_contiguous = false;
	/* beginning at a border is as good as ending at it, but for a scan past the end; the small folios try both */
	if (geometry->border-- > (family->level == RMF_CHECK_ALL_BITS ? 0 : 1))
		return true;
	geometry->border = pages;
	if (--geometry->end > geometry->first)
		return true;
	geometry->end = pages;
	return ++geometry->first < pages;
}

static void first_geometry(const struct rmf_check_family *family, struct geometry *geometry)
{
	uint32_t pages = 1u << family->order;

	*geometry = (struct geometry){ .border = pages, .first = 0, .end = pages };
}

static uint64_t nr_variants(const struct rmf_check_family *family)
{
	return (uint64_t)family->nr_conditions * family->nr_exclusive;
}

static void count_states(struct rmf_check_family *family)
{
	struct geometry geometry;

	first_geometry(family, &geometry);
	do
		family->nr_states += nr_slot_states(family, &geometry) * nr_variants(family);
	while (next_geometry(family, &geometry));
}

static void add_family(struct rmf_check_scope *scope, struct rmf_check_family family)
{
	if (scope->nr_families == RMF_CHECK_MAX_FAMILIES)
		return;
	add_symbols(&family);
	add_conditions(&family);
	family.nr_exclusive = 1;
	if (family.kind == RMF_CHECK_ANON)
		family.nr_exclusive = family.level == RMF_CHECK_ALL_BITS ? 1u << (1u << family.order) : 3;
	count_states(&family);
	scope->families[scope->nr_families++] = family;
}

static void add_families(struct rmf_check_scope *scope, uint8_t order, enum rmf_check_level level, bool unreachable)
{
	for (int kind = 0; kind < RMF_CHECK_NR_KINDS; kind++) {
		/* shmem differs from file in nothing but the counter: the small folios show it */
		if (kind == RMF_CHECK_SHMEM && level != RMF_CHECK_ALL_BITS)
			continue;
		for (int vma = 0; vma < 4; vma++) {
			bool anon_vma = !(vma & 1), uffd_wp = vma & 2;
			bool file = kind == RMF_CHECK_FILE || kind == RMF_CHECK_SHMEM;

			/* MADV_FREE needs an anonymous VMA; a file folio cannot be in one; an anonymous one is in a private file VMA after
			 * copy-on-write, which only uffd-wp tells from an anonymous VMA */
			if ((file && anon_vma) || (!file && !anon_vma && !uffd_wp))
				continue;
			if (kind == RMF_CHECK_LAZYFREE && !anon_vma && !unreachable)
				continue;
			add_family(scope, (struct rmf_check_family){ .order = order,
								     .kind = (enum rmf_check_kind)kind,
								     .level = level,
								     .anon_vma = anon_vma,
								     .uffd_wp = uffd_wp,
								     .unreachable = unreachable });
		}
	}
}

void rmf_check_scope_init(struct rmf_check_scope *scope, uint32_t max_pages, bool all_bits, bool unreachable)
{
	scope->nr_families = 0;
	memset(scope->families, 0, sizeof(scope->families));
	for (uint8_t order = 0; order <= 3 && 1u << order <= max_pages; order++) {
		enum rmf_check_level level = order <= 1 || (order == 2 && all_bits) ? RMF_CHECK_ALL_BITS :
					     order == 2				    ? RMF_CHECK_REACTING_BITS :
										      RMF_CHECK_FEW;

		add_families(scope, order, level, unreachable);
	}
}

/* The word of a symbol in the slot of page `page`. */
static rmf_pte place_symbol(rmf_pte symbol, uint32_t page, uint32_t pages)
{
	rmf_pte flags = symbol & (RMF_PFN_ONE - 1);
	uint64_t where = rmf_pte_pfn(symbol), value = FOLIO_PFN + page;

	switch (rmf_pte_kind(symbol)) {
	case RMF_KIND_NONE:
	case RMF_KIND_MARKER:
		return symbol;
	case RMF_KIND_SWAP:
		value = SWAP_OFFSET + page;
		break;
	case RMF_KIND_MIGRATION:
	case RMF_KIND_DEVICE_EXCLUSIVE:
	case RMF_KIND_DEVICE_PRIVATE:
	case RMF_KIND_HWPOISON:
	case RMF_KIND_PRESENT:
		if (where == FOREIGN_PAGE)
			value = FOREIGN_PFN + page;
		else if (where == OTHER_PAGE)
			value = FOLIO_PFN + (page + 1) % pages;
		break;
	}
	return value << RMF_PFN_SHIFT | flags;
}

/* Outside the VMA: none, the mapping of the slot next to it going on, or a foreign page. */
static rmf_pte outside_symbol(uint64_t digit, rmf_pte inside)
{
	if (digit == 0)
		return 0;
	if (digit == 2)
		return present_symbol(FOREIGN_PAGE, 0);
	return present_symbol(OWN_PAGE, rmf_pte_present(inside) ? inside & (RMF_PFN_ONE - 1) : 0);
}

static void place_slots(const struct rmf_check_family *family, const struct geometry *geometry, uint64_t slots, struct rmf_check_state *state)
{
	uint32_t pages = 1u << family->order, nr = nr_outside(family);
	uint64_t at = BORDER_VPN - geometry->border - FIRST_VPN;
	rmf_pte symbols[RMF_CHECK_MAX_PAGES];
	uint64_t digits[RMF_CHECK_MAX_PAGES];

	for (uint32_t i = 0; i < RMF_CHECK_SLOTS; i++)
		state->ptes[i] = 0;
	state->first_slot = (uint32_t)at;
	state->end_slot = at + 2 * pages < RMF_CHECK_SLOTS ? (uint32_t)at + 2 * pages : RMF_CHECK_SLOTS;
	for (uint32_t page = pages; page-- > 0;) {
		bool inside = page >= geometry->first && page < geometry->end;
		uint32_t radix = inside ? family->nr_symbols : nr;

		digits[page] = slots % radix;
		slots /= radix;
		symbols[page] = inside || nr != 3 ? family->symbols[digits[page]] : 0;
	}
	for (uint32_t page = 0; page < pages; page++) {
		bool inside = page >= geometry->first && page < geometry->end;
		uint32_t next = page < geometry->first ? geometry->first : geometry->end - 1;
		rmf_pte symbol = inside || nr != 3 ? symbols[page] : outside_symbol(digits[page], symbols[next]);

		state->ptes[at + page] = place_symbol(symbol, page, pages);
	}
}

/* Mapcounts, references and marks that go with the entries. */
static void place_folio(const struct rmf_check_family *family, const struct rmf_check_condition *condition, uint64_t exclusive,
			struct rmf_check_state *state)
{
	static const uint8_t patterns[] = { 0xff, 0x00, 0x55 };
	uint32_t pages = 1u << family->order;
	uint8_t marks = family->level == RMF_CHECK_ALL_BITS ? (uint8_t)exclusive : patterns[exclusive];
	bool cached = !(condition->folio_flags & RMF_FOLIO_ANON) || (condition->folio_flags & RMF_FOLIO_SWAPCACHE);

	for (uint32_t page = 0; page < RMF_CHECK_MAX_PAGES; page++)
		state->page_mapcount[page] = state->page_flags[page] = 0;
	for (uint32_t counter = 0; counter < RMF_NR_MM_COUNTERS; counter++)
		state->rss[counter] = 0;
	for (uint32_t i = state->first_slot; i < state->end_slot; i++) {
		rmf_pte pte = state->ptes[i];
		uint64_t page = rmf_pte_pfn(pte) - FOLIO_PFN;

		if ((rmf_pte_present(pte) || rmf_pte_is_device(pte)) && page < pages)
			state->page_mapcount[page]++;
	}
	state->page_mapcount[0] += condition->external;
	state->mapcount = state->nr_pages_mapped = 0;
	for (uint32_t page = 0; page < pages; page++) {
		state->mapcount += state->page_mapcount[page];
		state->nr_pages_mapped += state->page_mapcount[page] > 0;
		state->page_flags[page] = marks >> page & 1 && family->kind == RMF_CHECK_ANON ? RMF_PAGE_EXCLUSIVE : 0;
	}
	if (condition->poisoned)
		state->page_flags[0] |= RMF_PAGE_HWPOISON;
	if (condition->swap_dup_fails)
		state->page_flags[condition->swap_dup_fails - 1] |= RMF_PAGE_SWAP_DUP_FAIL;
	/* isolated, mapped, and in the page cache or swap cache */
	state->refcount = 1 + state->mapcount + (cached ? (int32_t)pages : 0) + condition->extra_refs;
	state->folio_flags = condition->folio_flags | RMF_FOLIO_PAGE_MAPCOUNTS | RMF_FOLIO_PAGE_FLAGS;
}

/* A geometry and the numbers of its states: a range walks through them in order. */
struct cursor {
	struct geometry geometry;
	uint64_t slots; /* states of the slots */
	uint64_t first, end; /* numbers of the geometry's states */
};

static void cursor_start(const struct rmf_check_family *family, struct cursor *cursor)
{
	first_geometry(family, &cursor->geometry);
	cursor->slots = nr_slot_states(family, &cursor->geometry);
	cursor->first = 0;
	cursor->end = cursor->slots * nr_variants(family);
}

/* Go on to the geometry that holds `index`, which is not behind the cursor; false if there is none. */
static bool cursor_seek(const struct rmf_check_family *family, struct cursor *cursor, uint64_t index)
{
	while (index >= cursor->end) {
		if (!next_geometry(family, &cursor->geometry))
			return false;
		cursor->slots = nr_slot_states(family, &cursor->geometry);
		cursor->first = cursor->end;
		cursor->end += cursor->slots * nr_variants(family);
	}
	return true;
}

/* The state `index` at the cursor; false if it is the same as another. */
static bool state_at_cursor(const struct rmf_check_family *family, const struct cursor *cursor, uint64_t index, struct rmf_check_state *state)
{
	const struct geometry *geometry = &cursor->geometry;
	uint64_t variant = (index - cursor->first) / cursor->slots, linear = BORDER_VPN - geometry->border;
	const struct rmf_check_condition *condition = &family->conditions[variant / family->nr_exclusive];

	state->vma_start = linear + geometry->first;
	state->vma_end = linear + geometry->end;
	state->vma_pgoff = FOLIO_INDEX + geometry->first;
	state->order = family->order;
	state->vma_flags = condition->vma_flags | (family->anon_vma ? RMF_VMA_ANON : 0) | (family->uffd_wp ? RMF_VMA_UFFD_WP : 0);
	state->ttu = condition->ttu;
	state->guard_contiguous = geometry->guard_contiguous;
	place_slots(family, geometry, (index - cursor->first) % cursor->slots, state);
	/* the guard continues the table's last entry: without one it is no guard */
	if (geometry->guard_contiguous && !rmf_pte_present(state->ptes[RMF_CHECK_TABLE - 1]))
		return false;
	place_folio(family, condition, variant % family->nr_exclusive, state);
	return true;
}

bool rmf_check_state_at(const struct rmf_check_family *family, uint64_t index, struct rmf_check_state *state)
{
	struct cursor cursor;

	cursor_start(family, &cursor);
	return cursor_seek(family, &cursor, index) && state_at_cursor(family, &cursor, index, state);
}

/* --- running a state --------------------------------------------------------------------------------------------- */

struct rmf_check {
	struct rmf_run run;
	struct rmf_trace trace;
	struct rmf_trace_entry entries[MAX_TRACE];
	struct rmf_check *oracle; /* another one, so that its outcome need not be copied */
	/* the arrays of the population that `run` works on */
	struct rmf_check_state now;
	uint64_t pte_base, window_start, window_end, table_base;
	uint8_t table_state[2];
	uint64_t folio_pfn, folio_index, folio_swap, page_base;
	int32_t entire_mapcount;
	uint64_t rmap_start[2];
	uint32_t rmap_vma, vma_mm, mm_flags;
	uint64_t mm_cpumask;
};

static struct rmf_check *new_runner(const struct rmf_arch *arch)
{
	struct rmf_check *check = calloc(1, sizeof(*check));
	struct rmf_population *pop;

	if (!check)
		return NULL;
	check->run.arch = *arch;
	check->run.arch.ptrs_per_pte = RMF_CHECK_TABLE;
	/* CONT says nothing that the entries do not say, so a state that differs in it alone is no other state */
	check->run.arch.cont_ptes = 1;
	check->trace = (struct rmf_trace){ .entries = check->entries, .capacity = MAX_TRACE };
	check->run.trace = &check->trace;
	check->window_start = FIRST_VPN;
	check->window_end = FIRST_VPN + RMF_CHECK_SLOTS;
	check->folio_pfn = FOLIO_PFN;
	check->folio_index = FOLIO_INDEX;
	check->folio_swap = 2 * SWAP_OFFSET;
	check->rmap_start[1] = 1;
	check->mm_cpumask = 2;
	pop = &check->run.pop;
	*pop = (struct rmf_population){
		.ptrs_per_pte = RMF_CHECK_TABLE,
		.ptes = check->now.ptes,
		.nr_ptes = RMF_CHECK_SLOTS,
		.vma_start = &check->now.vma_start,
		.vma_end = &check->now.vma_end,
		.vma_pgoff = &check->now.vma_pgoff,
		.vma_flags = &check->now.vma_flags,
		.vma_mm = &check->vma_mm,
		.vma_pte_base = &check->pte_base,
		.vma_window_start = &check->window_start,
		.vma_window_end = &check->window_end,
		.vma_table_base = &check->table_base,
		.nr_vmas = 1,
		.table_state = check->table_state,
		.nr_tables = 2,
		.folio_pfn = &check->folio_pfn,
		.folio_index = &check->folio_index,
		.folio_order = &check->now.order,
		.folio_flags = &check->now.folio_flags,
		.folio_refcount = &check->now.refcount,
		.folio_mapcount = &check->now.mapcount,
		.folio_entire_mapcount = &check->entire_mapcount,
		.folio_nr_pages_mapped = &check->now.nr_pages_mapped,
		.folio_swap = &check->folio_swap,
		.folio_page_base = &check->page_base,
		.nr_folios = 1,
		.page_mapcount = check->now.page_mapcount,
		.page_flags = check->now.page_flags,
		.nr_pages = RMF_CHECK_MAX_PAGES,
		.rmap_start = check->rmap_start,
		.rmap_vma = &check->rmap_vma,
		.nr_rmap = 1,
		.mm_rss = check->now.rss,
		.mm_cpumask = &check->mm_cpumask,
		.mm_flags = &check->mm_flags,
		.nr_mms = 1,
	};
	return check;
}

struct rmf_check *rmf_check_new(const struct rmf_arch *arch)
{
	struct rmf_check *check = new_runner(arch);

	if (!check)
		return NULL;
	check->oracle = new_runner(arch);
	if (check->oracle)
		return check;
	free(check);
	return NULL;
}

void rmf_check_free(struct rmf_check *check)
{
	if (!check)
		return;
	free(check->oracle);
	free(check);
}

/* Write the per-page arrays out where the unmap has settled them, so that two states can be compared. */
static void expand_pages(struct rmf_check_state *state)
{
	int32_t pages = 1 << state->order;

	if (!(state->folio_flags & RMF_FOLIO_PAGE_MAPCOUNTS))
		for (int32_t page = 0; page < pages; page++)
			state->page_mapcount[page] = state->mapcount / pages;
	if (!(state->folio_flags & RMF_FOLIO_PAGE_FLAGS))
		memset(state->page_flags, state->folio_flags & RMF_FOLIO_EXCLUSIVE ? RMF_PAGE_EXCLUSIVE : 0, (size_t)pages);
	state->folio_flags &= ~(uint32_t)(RMF_FOLIO_PAGE_MAPCOUNTS | RMF_FOLIO_PAGE_FLAGS | RMF_FOLIO_EXCLUSIVE);
}

/* Unmap the state under a policy; check->now is what is left. */
static bool run_state(struct rmf_check *check, const struct rmf_check_state *state, const struct rmf_policy *policy)
{
	struct rmf_run *run = &check->run;
	bool ret;

	/* gcc copies a struct of this size by "rep movs", which took a tenth of the run; the library's copy does not */
	memmove(&check->now, state, sizeof(*state));
	check->pte_base = state->vma_start - FIRST_VPN;
	check->trace.n = 0;
	/* of the events only these are looked at */
	run->ev[RMF_MLOCK_CALLS] = run->ev[RMF_OOB_READS] = run->ev[RMF_OOB_WRITES] = 0;
	run->ev[RMF_VMA_OVERRUN_READS] = run->ev[RMF_VMA_OVERRUN_WRITES] = 0;
	run->flush_required = run->tlb_writable = false;
	run->guard = state->guard_contiguous ? RMF_GUARD_CONTIGUOUS : RMF_GUARD_NONE;
	run->policy = *policy;
	ret = rmf_try_to_unmap_one(run, 0, 0, state->ttu);
	expand_pages(&check->now);
	return ret;
}

/* --- invariants -------------------------------------------------------------------------------------------------- */

static bool maps_folio(rmf_pte pte, uint32_t pages)
{
	return (rmf_pte_present(pte) || rmf_pte_is_device(pte)) && rmf_pte_pfn(pte) - FOLIO_PFN < pages;
}

static uint32_t violated_if(bool condition, enum rmf_invariant invariant)
{
	return condition ? 1u << invariant : 0;
}

/* A bit for each slot that is not what it was. */
static uint64_t changed_slots(const struct rmf_check *check, const struct rmf_check_state *before)
{
	uint64_t changed = 0;

	for (uint32_t i = before->first_slot; i < before->end_slot; i++)
		changed |= (uint64_t)(before->ptes[i] != check->now.ptes[i]) << i;
	return changed;
}

/* Slots that lost their mapping, against what was dropped for them. */
static uint32_t check_accounting(const struct rmf_check *check, const struct rmf_check_state *before, uint64_t changed)
{
	const struct rmf_check_state *after = &check->now;
	uint32_t pages = 1u << before->order;
	int32_t lost = 0, swapped = 0, by_page[RMF_CHECK_MAX_PAGES] = { 0 };
	bool wrong = false;

	for (; changed; changed &= changed - 1) {
		int i = __builtin_ctzll(changed);

		if (maps_folio(before->ptes[i], pages) && !maps_folio(after->ptes[i], pages)) {
			lost++;
			by_page[rmf_pte_pfn(before->ptes[i]) - FOLIO_PFN]++;
			swapped += rmf_pte_kind(after->ptes[i]) == RMF_KIND_SWAP;
		}
	}
	for (uint32_t page = 0; page < pages; page++)
		wrong |= before->page_mapcount[page] - after->page_mapcount[page] != by_page[page];
	wrong |= before->mapcount - after->mapcount != lost || before->refcount - after->refcount != lost;
	wrong |= after->rss[RMF_MM_FILEPAGES] + after->rss[RMF_MM_ANONPAGES] + after->rss[RMF_MM_SHMEMPAGES] != -lost;
	wrong |= after->rss[RMF_MM_SWAPENTS] != swapped;
	return violated_if(wrong, RMF_INV_ACCOUNTING);
}

/* Entries that were cleared or put back: bits that must survive. */
static uint32_t check_entries(const struct rmf_check *check, const struct rmf_check_state *before, uint64_t changed)
{
	const struct rmf_check_state *after = &check->now;
	uint32_t pages = 1u << before->order, wrong = 0;
	bool markers = !(before->vma_flags & RMF_VMA_ANON) && (before->vma_flags & RMF_VMA_UFFD_WP);

	for (; changed; changed &= changed - 1) {
		int i = __builtin_ctzll(changed);
		rmf_pte was = before->ptes[i], is = after->ptes[i], lost = was & ~is;

		if (!rmf_pte_present(was))
			continue;
		if (!rmf_pte_present(is)) {
			wrong |= violated_if(markers && (was & RMF_PTE_UFFD_WP) && rmf_pte_none(is), RMF_INV_UFFD_WP_LOST);
			wrong |= violated_if((was & RMF_PTE_DIRTY) && maps_folio(was, pages) && !(after->folio_flags & RMF_FOLIO_DIRTY),
					     RMF_INV_DIRTY_LOST);
			continue;
		}
		wrong |= violated_if((was ^ is) & RMF_PTE_WRITE, RMF_INV_RESTORE_WRITE);
		wrong |= violated_if(lost & RMF_PTE_SOFT_DIRTY, RMF_INV_RESTORE_SOFT_DIRTY);
		wrong |= violated_if(lost & RMF_PTE_YOUNG, RMF_INV_RESTORE_YOUNG);
		wrong |= violated_if(lost & RMF_PTE_DIRTY, RMF_INV_DIRTY_LOST);
		wrong |= violated_if((was ^ is) & RMF_PTE_UFFD_WP, RMF_INV_UFFD_WP_LOST);
	}
	return wrong;
}

/* The single steps: where they went, and whether flushes and the notifier range cover them. */
static uint32_t check_steps(const struct rmf_check *check, const struct rmf_check_state *before, uint64_t changed)
{
	uint64_t flushed = 0, done = 0;
	int64_t last = -1, notified = 0, notified_end = 0;
	uint32_t wrong = 0;

	for (uint64_t n = 0; n < check->trace.n; n++) {
		const struct rmf_trace_entry *entry = &check->entries[n];
		uint64_t first = (uint64_t)entry->a - FIRST_VPN, nr = (uint64_t)entry->b;
		uint64_t bits = first < RMF_CHECK_SLOTS && nr < RMF_CHECK_SLOTS ? ((1ull << nr) - 1) << first : 0;

		switch ((enum rmf_trace_kind)entry->kind) {
		case RMF_TRACE_STEP_NONPRESENT:
			bits = 1ull << first;
			nr = 1;
			/* fall through */
		case RMF_TRACE_STEP:
			wrong |= violated_if(entry->a <= last, RMF_INV_FORWARD);
			wrong |= violated_if(done & bits, RMF_INV_SLOT_ONCE);
			wrong |= violated_if(entry->a < notified || entry->a + (int64_t)nr > notified_end, RMF_INV_NOTIFIER);
			last = entry->a;
			done |= bits;
			break;
		case RMF_TRACE_TLB_DEFERRED:
		case RMF_TRACE_TLB_IMMEDIATE:
			flushed |= bits;
			break;
		case RMF_TRACE_NOTIFIER:
			notified = entry->a;
			notified_end = entry->b;
			break;
		case RMF_TRACE_YOUNG:
		case RMF_TRACE_BEYOND:
		case RMF_TRACE_YIELD:
			break;
		}
	}
	for (changed &= ~flushed; changed; changed &= changed - 1) {
		int i = __builtin_ctzll(changed);

		wrong |= violated_if(rmf_pte_present(before->ptes[i]) && !rmf_pte_present(check->now.ptes[i]), RMF_INV_TLB_FLUSH);
	}
	return wrong;
}

/* A folio may only be marked mlocked if all its pages were seen under one page-table lock. */
static uint32_t check_mlock(const struct rmf_check *check, const struct rmf_check_state *before)
{
	uint64_t start = before->vma_start - FIRST_VPN, end = before->vma_end - FIRST_VPN, table = start / RMF_CHECK_TABLE;
	uint32_t pages = 1u << before->order, seen = 0;

	if (!check->run.ev[RMF_MLOCK_CALLS])
		return 0;
	for (uint64_t i = start; i < end; i++)
		seen += maps_folio(before->ptes[i], pages) && i / RMF_CHECK_TABLE == table;
	return violated_if(seen != pages, RMF_INV_MLOCK);
}

static uint32_t check_invariants(const struct rmf_check *check, const struct rmf_check_state *before)
{
	const uint64_t *ev = check->run.ev;
	uint64_t outside = ev[RMF_OOB_READS] + ev[RMF_OOB_WRITES] + ev[RMF_VMA_OVERRUN_READS] + ev[RMF_VMA_OVERRUN_WRITES];
	uint64_t changed = changed_slots(check, before);

	return check_accounting(check, before, changed) | check_entries(check, before, changed) | check_steps(check, before, changed) |
	       check_mlock(check, before) | violated_if(outside, RMF_INV_OUT_OF_BOUNDS);
}

static bool same_folio(const struct rmf_check_state *one, const struct rmf_check_state *other, uint32_t ignored_flags)
{
	return !((one->folio_flags ^ other->folio_flags) & ~ignored_flags) && one->refcount == other->refcount && one->mapcount == other->mapcount &&
	       !memcmp(one->page_mapcount, other->page_mapcount, sizeof(one->page_mapcount)) &&
	       !memcmp(one->page_flags, other->page_flags, sizeof(one->page_flags)) && !memcmp(one->rss, other->rss, sizeof(one->rss));
}

/* The final state against the oracle's. After an abort two differences are documented; anything else is not. */
static uint32_t compare_states(const struct rmf_check_state *oracle, bool oracle_ret, const struct rmf_check_state *policy, bool policy_ret)
{
	/* a batch does not leave a folio partially mapped on its way: queueing for a deferred split is no part of the result */
	const uint32_t queued = RMF_FOLIO_PARTIALLY_MAPPED;
	/* a batch that finds a dirty entry behind a clean one makes the folio dirty, and so swapbacked, one step earlier */
	const uint32_t dirtied = RMF_FOLIO_DIRTY | RMF_FOLIO_SWAPBACKED;
	const rmf_pte widened = RMF_PTE_DIRTY | RMF_PTE_YOUNG | RMF_PTE_SOFT_DIRTY;
	bool same_but_wider = true, same_mapped = true;
	size_t size = (oracle->end_slot - oracle->first_slot) * sizeof(*oracle->ptes);
	bool same_ptes = !memcmp(&oracle->ptes[oracle->first_slot], &policy->ptes[oracle->first_slot], size);

	if (same_ptes && policy_ret == oracle_ret && same_folio(oracle, policy, queued))
		return 0;
	if (oracle_ret || policy_ret)
		return 1u << RMF_INV_FINAL_STATE;

	for (uint32_t i = oracle->first_slot; i < oracle->end_slot; i++) {
		rmf_pte a = oracle->ptes[i], b = policy->ptes[i];

		same_but_wider &= a == b || (rmf_pte_present(a) && !((a ^ b) & ~widened) && !(a & ~b));
		same_mapped &= rmf_pte_present(a) == rmf_pte_present(b);
	}
	if (!same_mapped)
		return 1u << RMF_INV_ABORT_LEFT_MAPPED;
	same_but_wider &= same_folio(oracle, policy, policy->folio_flags & RMF_FOLIO_DIRTY ? queued | dirtied : queued);
	same_but_wider &= !(oracle->folio_flags & ~policy->folio_flags & dirtied);
	return same_but_wider ? 1u << RMF_INV_ABORT_WIDENED : 1u << RMF_INV_FINAL_STATE;
}

static void record(struct rmf_check_policy *policy, uint32_t violated, uint64_t index)
{
	policy->nr_violating += (violated & ~(uint32_t)DOCUMENTED) != 0;
	for (; violated; violated &= violated - 1) {
		struct rmf_check_found *found = &policy->found[__builtin_ctz(violated)];

		if (!found->count++ || index < found->index)
			found->index = index;
	}
}

uint64_t rmf_check_range(struct rmf_check *check, const struct rmf_check_family *family, uint64_t first, uint64_t end,
			 const struct rmf_policy *oracle, struct rmf_check_policy *policies, uint32_t nr_policies)
{
	struct rmf_check_state state;
	struct cursor cursor;
	uint64_t tried = 0;

	cursor_start(family, &cursor);
	for (uint64_t index = first; index < end && cursor_seek(family, &cursor, index); index++) {
		bool expected_ret;

		if (!state_at_cursor(family, &cursor, index, &state))
			continue;
		tried++;
		expected_ret = run_state(check->oracle, &state, oracle);
		for (uint32_t i = 0; i < nr_policies; i++) {
			bool ret = run_state(check, &state, &policies[i].policy);
			uint32_t violated = check_invariants(check, &state);

			record(&policies[i], violated | compare_states(&check->oracle->now, expected_ret, &check->now, ret), index);
		}
	}
	return tried;
}
