#include "check_states.h"

#include <string.h>

#include "check_drawn.h"
#include "unmap.h"

enum { BORDER_VPN = 2 * RMF_CHECK_TABLE }; /* between the two tables */

/* The PFN field of a symbol says which page the entry maps. place_symbol() replaces it by
 * the PFN. */
enum { OWN_PAGE, FOREIGN_PAGE, OTHER_PAGE };

static rmf_pte present_symbol(uint64_t page, rmf_pte flags)
{
	return page << RMF_PFN_SHIFT | RMF_PTE_PRESENT | flags;
}

static void add_symbol(struct rmf_check_family *family, rmf_pte symbol)
{
	family->symbols[family->nr_symbols++] = symbol;
}

/* Add a symbol for each combination of the bits in `mask`, on an entry that maps the right page of
 * the folio. */
static void add_mappings(struct rmf_check_family *family, rmf_pte mask)
{
	rmf_pte flags = 0;

	do {
		add_symbol(family, present_symbol(OWN_PAGE, flags));
		flags = (flags - mask) & mask;
	} while (flags);
}

/* The bits of a present entry that can make a difference for this kind of folio in this VMA. */
static rmf_pte reacting_bits(const struct rmf_check_family *family)
{
	const rmf_pte mask = RMF_PTE_WRITE | RMF_PTE_SOFT_DIRTY | RMF_PTE_DIRTY;

	switch (family->kind) {
	case RMF_CHECK_LAZYFREE:
		/* a restore puts every bit back; uffd-wp makes no difference to soft-dirty and
		 * young */
		return family->uffd_wp ? RMF_PTE_WRITE | RMF_PTE_DIRTY | RMF_PTE_UFFD_WP
				       : mask | RMF_PTE_YOUNG;
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
	case RMF_CHECK_DRAWN:
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

/* TTU flags as the kernel combines them: reclaim; reclaim with an immediate flush; memory failure
 * or offlining, which ignore mlock. */
static const uint32_t reclaim_ttu = RMF_TTU_BATCH_FLUSH | RMF_TTU_SYNC;
static const uint32_t ttus[] = { RMF_TTU_BATCH_FLUSH | RMF_TTU_SYNC,
				 RMF_TTU_BATCH_FLUSH,
				 RMF_TTU_SYNC,
				 0,
				 RMF_TTU_SYNC | RMF_TTU_IGNORE_MLOCK,
				 RMF_TTU_BATCH_FLUSH | RMF_TTU_SYNC | RMF_TTU_IGNORE_MLOCK };

/* Add the condition in a VMA that is not locked, in one that is, and in a locked one with mlock
 * ignored. */
static void add_locked_variants(struct rmf_check_family *family,
				struct rmf_check_condition condition)
{
	condition.ttu = reclaim_ttu;
	add_condition(family, condition);
	condition.vma_flags |= RMF_VMA_LOCKED;
	add_condition(family, condition);
	condition.ttu |= RMF_TTU_IGNORE_MLOCK;
	add_condition(family, condition);
}

static void add_ttu_variants(struct rmf_check_family *family, struct rmf_check_condition condition,
			     bool every)
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
		/* markers do not depend on the folio's flags; the family without uffd-wp tries
		 * these */
		add_condition(family, (struct rmf_check_condition){ .folio_flags = base,
								    .ttu = reclaim_ttu });
		return;
	}
	for (uint32_t dirty = 0; dirty < 2; dirty++)
		add_ttu_variants(family,
				 (struct rmf_check_condition){
					 .folio_flags = base | (dirty ? RMF_FOLIO_DIRTY : 0) },
				 every);
	add_ttu_variants(family, (struct rmf_check_condition){ .folio_flags = base, .external = 1 },
			 false);
	add_condition(family, (struct rmf_check_condition){
				      .folio_flags = base, .extra_refs = 1, .ttu = reclaim_ttu });
}

/* What matters to small folios alone: an unused entry in a VMA that a userfaultfd watches, and a
 * folio that another VMA locked. */
static void add_small_conditions(struct rmf_check_family *family, uint32_t base)
{
	struct rmf_check_condition condition = { .folio_flags = base,
						 .vma_flags = RMF_VMA_UFFD_ARMED,
						 .ttu = reclaim_ttu };

	if (family->kind == RMF_CHECK_ANON)
		condition.folio_flags |= RMF_FOLIO_DIRTY;
	add_condition(family, condition);
	condition.vma_flags = 0;
	condition.folio_flags |= RMF_FOLIO_MLOCKED;
	add_condition(family, condition);
	condition.vma_flags = RMF_VMA_LOCKED;
	condition.ttu |= RMF_TTU_IGNORE_MLOCK;
	add_condition(family, condition);
}

static void add_lazyfree_conditions(struct rmf_check_family *family, uint32_t base)
{
	bool every = family->level == RMF_CHECK_ALL_BITS && family->order <= 1;
	struct rmf_check_condition clean = { .folio_flags = base },
				   dirty = { .folio_flags = base | RMF_FOLIO_DIRTY };

	struct rmf_check_condition held = { .folio_flags = base,
					    .extra_refs = 1,
					    .ttu = reclaim_ttu };

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
	clean = (struct rmf_check_condition){ .folio_flags = base,
					      .external = 1,
					      .ttu = reclaim_ttu };
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
	/* at the lower levels the first and the last page stand for all */
	for (uint32_t page = 1; page <= pages;
	     page += family->level == RMF_CHECK_ALL_BITS ? 1 : pages - 1) {
		condition.swap_dup_fails = (uint8_t)page;
		add_condition(family, condition);
	}
	condition = (struct rmf_check_condition){ .folio_flags = base, .ttu = reclaim_ttu };
	add_condition(family, condition);
	condition.folio_flags |= RMF_FOLIO_DIRTY;
	condition.extra_refs = 1;
	if (family->level == RMF_CHECK_ALL_BITS) {
		add_condition(family, condition);
		condition.extra_refs = 0;
	}
	condition.external = 1;
	add_condition(family, condition);
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
	struct rmf_check_condition poisoned = { .folio_flags = flags,
						.poisoned = 1,
						.ttu = RMF_TTU_HWPOISON | RMF_TTU_IGNORE_MLOCK };

	if (family->kind == RMF_CHECK_LAZYFREE)
		add_lazyfree_conditions(family, flags);
	else if (family->kind == RMF_CHECK_ANON)
		add_anon_conditions(family, flags);
	else
		add_file_conditions(family, flags);
	if (family->level == RMF_CHECK_ALL_BITS && family->order <= 1)
		add_small_conditions(family, flags);
	/* memory failure splits a large folio before it unmaps it */
	if (family->order == 0 || family->unreachable)
		add_condition(family, poisoned);
	if (family->unreachable && family->kind == RMF_CHECK_ANON)
		add_condition(family, (struct rmf_check_condition){
					      .folio_flags = RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED,
					      .ttu = reclaim_ttu });
}

static uint64_t power(uint64_t base, uint32_t exponent)
{
	uint64_t result = 1;

	while (exponent--)
		result *= base;
	return result;
}

/* The number of symbols of a slot outside the VMA, which belongs to a neighbour. In small folios
 * with all bits it is every symbol. Else there are three: none, the mapping going on, and a foreign
 * page. */
static uint32_t nr_outside(const struct rmf_check_family *family)
{
	return family->level == RMF_CHECK_ALL_BITS && family->order <= 1 ? family->nr_symbols : 3;
}

static uint64_t nr_slot_states(const struct rmf_check_family *family,
			       const struct rmf_check_geometry *geometry)
{
	uint32_t pages = 1u << family->order, inside = geometry->end - geometry->first;

	return power(family->nr_symbols, inside) * power(nr_outside(family), pages - inside);
}

/* Go to the next geometry; false after the last one. The VMA that holds the whole folio comes
 * first, so that it gives the first example. */
static bool next_geometry(const struct rmf_check_family *family,
			  struct rmf_check_geometry *geometry)
{
	uint32_t pages = 1u << family->order;
	bool border_inside = geometry->border > 0 && geometry->border < pages;

	if (border_inside && !geometry->guard_contiguous) {
		geometry->guard_contiguous = true;
		return true;
	}
	geometry->guard_contiguous = false;
	/* to begin at a border is the same as to end at it, except for a scan that runs past the
	 * end; the small folios try both */
	if (geometry->border-- > (family->level == RMF_CHECK_ALL_BITS ? 0 : 1))
		return true;
	geometry->border = pages;
	if (--geometry->end > geometry->first)
		return true;
	geometry->end = pages;
	return ++geometry->first < pages;
}

static void first_geometry(const struct rmf_check_family *family,
			   struct rmf_check_geometry *geometry)
{
	uint32_t pages = 1u << family->order;

	*geometry = (struct rmf_check_geometry){ .border = pages, .first = 0, .end = pages };
}

static uint64_t nr_variants(const struct rmf_check_family *family)
{
	return (uint64_t)family->nr_conditions * family->nr_exclusive;
}

static void count_states(struct rmf_check_family *family)
{
	struct rmf_check_geometry geometry;

	first_geometry(family, &geometry);
	do
		family->nr_states += nr_slot_states(family, &geometry) * nr_variants(family);
	while (next_geometry(family, &geometry));
}

static void add_family(struct rmf_check_scope *scope, struct rmf_check_family family)
{
	if (scope->nr_families == RMF_CHECK_MAX_FAMILIES)
		return;
	if (family.level == RMF_CHECK_DRAWN) {
		scope->families[scope->nr_families++] = family;
		return;
	}
	add_symbols(&family);
	add_conditions(&family);
	family.nr_exclusive = 1;
	if (family.kind == RMF_CHECK_ANON)
		family.nr_exclusive =
			family.level == RMF_CHECK_ALL_BITS ? 1u << (1u << family.order) : 3;
	count_states(&family);
	scope->families[scope->nr_families++] = family;
}

/* Add a family for each kind of folio and VMA that is like `like` in all other respects. */
static void add_families(struct rmf_check_scope *scope, struct rmf_check_family like)
{
	const enum rmf_check_level level = like.level;

	for (int kind = 0; kind < RMF_CHECK_NR_KINDS; kind++) {
		for (int vma = 0; vma < 4; vma++) {
			bool anon_vma = !(vma & 1), uffd_wp = vma & 2;
			bool file = kind == RMF_CHECK_FILE || kind == RMF_CHECK_SHMEM;

			/* A file folio cannot be in an anonymous VMA. MADV_FREE needs an anonymous
			 * VMA. An anonymous folio is in a private file VMA after copy-on-write, but
			 * only uffd-wp makes a difference there. */
			if ((file && anon_vma) || (!file && !anon_vma && !uffd_wp))
				continue;
			if (kind == RMF_CHECK_LAZYFREE && !anon_vma && !like.unreachable)
				continue;
			like.kind = (enum rmf_check_kind)kind;
			/* shmem differs from file in the counter only */
			like.level = kind == RMF_CHECK_SHMEM && level == RMF_CHECK_REACTING_BITS
					     ? RMF_CHECK_FEW
					     : level;
			like.anon_vma = anon_vma;
			like.uffd_wp = uffd_wp;
			add_family(scope, like);
		}
	}
}

void rmf_check_scope_init(struct rmf_check_scope *scope, uint32_t max_pages, bool all_bits,
			  bool unreachable, uint64_t drawn, uint64_t seed)
{
	struct rmf_check_family like = { .unreachable = unreachable };

	scope->nr_families = 0;
	memset(scope->families, 0, sizeof(scope->families));
	for (uint8_t order = 0; order <= 3 && 1u << order <= max_pages; order++) {
		enum rmf_check_level level = order <= 1 || (order == 2 && all_bits)
						     ? RMF_CHECK_ALL_BITS
					     : order == 2 ? RMF_CHECK_REACTING_BITS
							  : RMF_CHECK_FEW;

		like.order = order;
		like.level = level;
		like.cont = 1;
		add_families(scope, like);
		/* the same, of folded blocks of two entries */
		like.level = order == 1 ? RMF_CHECK_REACTING_BITS : RMF_CHECK_FEW;
		like.cont = 2;
		if (order == 1 || order == 2)
			add_families(scope, like);
	}
	like.level = RMF_CHECK_DRAWN;
	like.cont = 1;
	like.nr_states = drawn;
	like.seed = seed;
	for (like.order = 0; drawn && like.order <= RMF_CHECK_MAX_DRAWN_ORDER; like.order++)
		add_families(scope, like);
}

/* The entry that a symbol stands for in the slot of page `page`. */
static rmf_pte place_symbol(rmf_pte symbol, uint32_t page, uint32_t pages)
{
	rmf_pte flags = symbol & (RMF_PFN_ONE - 1);
	uint64_t where = rmf_pte_pfn(symbol), value = RMF_CHECK_FOLIO_PFN + page;

	switch (rmf_pte_kind(symbol)) {
	case RMF_KIND_NONE:
	case RMF_KIND_MARKER:
		return symbol;
	case RMF_KIND_SWAP:
		value = RMF_CHECK_SWAP_OFFSET + page;
		break;
	case RMF_KIND_MIGRATION:
	case RMF_KIND_DEVICE_EXCLUSIVE:
	case RMF_KIND_DEVICE_PRIVATE:
	case RMF_KIND_HWPOISON:
	case RMF_KIND_PRESENT:
		if (where == FOREIGN_PAGE)
			value = RMF_CHECK_FOREIGN_PFN + page;
		else if (where == OTHER_PAGE)
			value = RMF_CHECK_FOLIO_PFN + (page + 1) % pages;
		break;
	}
	return value << RMF_PFN_SHIFT | flags;
}

/* The symbol of a slot outside the VMA: none, the mapping of the slot next to it going on, or a
 * foreign page. */
static rmf_pte outside_symbol(uint64_t digit, rmf_pte inside)
{
	if (digit == 0)
		return 0;
	if (digit == 2)
		return present_symbol(FOREIGN_PAGE, 0);
	return present_symbol(OWN_PAGE, rmf_pte_present(inside) ? inside & (RMF_PFN_ONE - 1) : 0);
}

static void place_slots(const struct rmf_check_family *family,
			const struct rmf_check_geometry *geometry, uint64_t slots,
			struct rmf_check_state *state)
{
	uint32_t pages = 1u << family->order, nr = nr_outside(family);
	uint64_t at = BORDER_VPN - geometry->border - RMF_CHECK_TABLE;
	rmf_pte symbols[RMF_CHECK_MAX_PAGES];
	uint64_t digits[RMF_CHECK_MAX_PAGES];

	state->table = RMF_CHECK_TABLE;
	state->cont = family->cont;
	for (uint32_t i = 0; i < 2 * RMF_CHECK_TABLE; i++)
		state->ptes[i] = 0;
	state->first_slot = (uint32_t)at;
	state->end_slot = at + 2 * pages < 2 * RMF_CHECK_TABLE ? (uint32_t)at + 2 * pages
							       : 2 * RMF_CHECK_TABLE;
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
		rmf_pte symbol = inside || nr != 3 ? symbols[page]
						   : outside_symbol(digits[page], symbols[next]);

		state->ptes[at + page] = place_symbol(symbol, page, pages);
	}
}

/* Fold every block of the folio that can be. Returns whether there is one. */
static bool fold_all(struct rmf_check_state *state)
{
	bool folded = false;

	for (uint32_t slot = 0; slot < 2 * state->table; slot += state->cont)
		folded |= rmf_check_fold(state, slot);
	return folded;
}

void rmf_check_cursor_start(const struct rmf_check_family *family, struct rmf_check_cursor *cursor)
{
	first_geometry(family, &cursor->geometry);
	cursor->first = 0;
	if (family->level == RMF_CHECK_DRAWN) {
		cursor->end = family->nr_states;
		return;
	}
	cursor->slots = nr_slot_states(family, &cursor->geometry);
	cursor->end = cursor->slots * nr_variants(family);
}

bool rmf_check_cursor_seek(const struct rmf_check_family *family, struct rmf_check_cursor *cursor,
			   uint64_t index)
{
	while (index >= cursor->end) {
		if (family->level == RMF_CHECK_DRAWN)
			return false;
		if (!next_geometry(family, &cursor->geometry))
			return false;
		cursor->slots = nr_slot_states(family, &cursor->geometry);
		cursor->first = cursor->end;
		cursor->end += cursor->slots * nr_variants(family);
	}
	return true;
}

bool rmf_check_state_at_cursor(const struct rmf_check_family *family,
			       const struct rmf_check_cursor *cursor, uint64_t index,
			       struct rmf_check_state *state)
{
	static const uint8_t patterns[] = { 0xff, 0x00, 0x55 };
	const struct rmf_check_geometry *geometry = &cursor->geometry;
	const struct rmf_check_condition *condition;
	uint64_t variant, linear;
	uint32_t exclusive;

	if (family->level == RMF_CHECK_DRAWN) {
		rmf_check_draw(family, index, state);
		return true;
	}
	variant = (index - cursor->first) / cursor->slots;
	linear = BORDER_VPN - geometry->border;
	condition = &family->conditions[variant / family->nr_exclusive];
	exclusive = (uint32_t)(variant % family->nr_exclusive);
	if (family->level != RMF_CHECK_ALL_BITS)
		exclusive = patterns[exclusive];
	state->vma_start = linear + geometry->first;
	state->vma_end = linear + geometry->end;
	state->vma_pgoff = RMF_CHECK_FOLIO_INDEX + geometry->first;
	state->order = family->order;
	state->vma_flags = (family->anon_vma ? RMF_VMA_ANON : 0) |
			   (family->uffd_wp ? RMF_VMA_UFFD_WP : 0);
	state->guard_contiguous = geometry->guard_contiguous;
	place_slots(family, geometry, (index - cursor->first) % cursor->slots, state);
	/* the guard continues the table's last entry; if that is not present, there is nothing to
	 * continue */
	if (geometry->guard_contiguous && !rmf_pte_present(state->ptes[RMF_CHECK_TABLE - 1]))
		return false;
	if (state->cont > 1 && !fold_all(state))
		return false;
	rmf_check_settle(state, condition, family->kind == RMF_CHECK_ANON ? exclusive : 0);
	return true;
}

bool rmf_check_state_at(const struct rmf_check_family *family, uint64_t index,
			struct rmf_check_state *state)
{
	struct rmf_check_cursor cursor;

	rmf_check_cursor_start(family, &cursor);
	return rmf_check_cursor_seek(family, &cursor, index) &&
	       rmf_check_state_at_cursor(family, &cursor, index, state);
}
