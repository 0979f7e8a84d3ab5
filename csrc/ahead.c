#include "ahead.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "memo.h"

/* A worker begins with so many parts of its own, and takes over what others have not begun then. */
enum { PARTS_OF_WORKER = 4 };

/* Folios that lie behind each other in the list. */
struct part {
	atomic_bool begun;
	uint64_t first; /* index in the ring */
	uint64_t nr;
	struct rmf_visit_log log;
	enum rmf_run_error error;
	struct rmf_bad_rule bad_rule;
};

struct rmf_ahead {
	uint32_t nr_workers;
	struct rmf_run *workers;
	int64_t *rss; /* what each worker adds to pop.mm_rss */
	uint64_t nr_rss; /* of one worker */
	const struct rmf_lru_list *list;
	struct part *parts;
	uint32_t nr_parts;
	/* what the loop takes next */
	uint64_t left;
	uint32_t part;
	uint64_t entry; /* of the log of the part */
	uint64_t taken; /* of the visits of the entry */
};

/* ---- whether visits depend on each other ---- */

/* What is known while the folios are looked at: a bit for each folio on a list, and for each slot
 * and each place in the page arrays that a folio has which was looked at. */
struct check {
	const struct rmf_run *run;
	uint64_t *listed;
	uint64_t *slots;
	uint64_t *pages;
};

/* Whether nr bits from `first` on are clear. They are set then if `set` says so. */
static bool are_clear(uint64_t *bits, uint64_t first, uint64_t nr, bool set)
{
	uint64_t taken = 0;

	while (nr) {
		const uint64_t at = first % 64, most = 64 - at, n = nr < most ? nr : most;
		const uint64_t mask = (n == 64 ? ~(uint64_t)0 : ((uint64_t)1 << n) - 1) << at;

		taken |= bits[first / 64] & mask;
		bits[first / 64] |= set ? mask : 0;
		first += n;
		nr -= n;
	}
	return !taken;
}

/* Whether nr entries are none, or have the PFN `pfn` and its successors, with any of the bits
 * `any`. */
static bool follow_but(const rmf_pte *ptes, uint64_t nr, uint64_t pfn, rmf_pte any)
{
	uint64_t differ = 0;

	for (uint64_t i = 0; i < nr; i++)
		differ |= ((ptes[i] ^ ((pfn + i) << RMF_PFN_SHIFT)) & ~any) &
			  (ptes[i] ? ~(uint64_t)0 : 0);
	return !differ;
}

/* The slots that a visit to a folio can reach in one VMA: where its pages belong, as far as the
 * window has them. A scan that leaves the VMA ends where the folio does. */
struct reach {
	uint64_t vpn; /* of page 0, wherever that is */
	uint64_t first;
	uint64_t end;
};

/* Whether every entry in reach that maps a page of the folio lies where the page belongs, so that a
 * scan from there ends with the folio, and every folded block lies in reach as a whole. */
static bool in_place(const struct rmf_run *run, uint64_t folio, uint32_t vma,
		     const struct reach *reach)
{
	const struct rmf_population *pop = &run->pop;
	const rmf_pte *ptes =
		&pop->ptes[pop->vma_pte_base[vma] + reach->first - pop->vma_start[vma]];
	const uint64_t pfn = pop->folio_pfn[folio], nr = rmf_folio_nr_pages(pop, folio),
		       page = reach->first - reach->vpn, cont_mask = run->arch.cont_ptes - 1;
	const bool whole_blocks = !((reach->first | reach->end) & cont_mask);
	const rmf_pte flags = RMF_PFN_ONE - 1;

	if (follow_but(ptes, reach->end - reach->first, pfn + page,
		       whole_blocks ? flags : flags & ~(rmf_pte)RMF_PTE_CONT))
		return true;
	for (uint64_t i = 0; i < reach->end - reach->first; i++) {
		const uint64_t vpn = reach->first + i, maps = rmf_pte_pfn(ptes[i]) - pfn;

		if ((rmf_pte_present(ptes[i]) || rmf_pte_is_device(ptes[i])) && maps < nr &&
		    maps != page + i)
			return false;
		if ((ptes[i] & RMF_PTE_CONT) &&
		    ((vpn & ~cont_mask) < reach->first || (vpn | cont_mask) >= reach->end))
			return false;
	}
	return true;
}

/* Whether every PMD leaf in reach lies there as a whole, or with `none` whether there is none. */
static bool leaves_in_reach(const struct rmf_population *pop, uint32_t vma,
			    const struct reach *reach, bool none)
{
	const int shift = rmf_table_shift(pop);
	const uint64_t start = pop->vma_start[vma], end = pop->vma_end[vma],
		       first = reach->first < start ? start : reach->first;

	for (uint64_t table = first >> shift; table << shift < reach->end && table << shift < end;
	     table++) {
		const uint8_t *state =
			&pop->table_state[pop->vma_table_base[vma] + table - (start >> shift)];

		if (*state == RMF_TABLE_PMD_LEAF &&
		    (none || table << shift < reach->first || (table + 1) << shift > reach->end))
			return false;
	}
	return true;
}

/* Why a visit to a folio may depend on visits to others by the way a VMA maps it, or NULL. */
static const char *mapping_depends(struct check *check, uint64_t folio, uint32_t vma)
{
	const struct rmf_population *pop = &check->run->pop;
	const uint64_t start = pop->vma_start[vma], size = pop->vma_end[vma] - start,
		       window_start = pop->vma_window_start[vma],
		       window_end = pop->vma_window_end[vma],
		       index = *(const volatile uint64_t *)&pop->folio_index[folio],
		       nr = rmf_folio_nr_pages(pop, folio), pgoff = pop->vma_pgoff[vma];
	struct reach reach;

	if (index >= pgoff + size || index + nr <= pgoff)
		return NULL; /* the VMA does not map it */
	/* modulo 2^64, if the folio would begin below address 0 */
	reach.vpn = start + index - pgoff;
	reach.end = reach.vpn + nr < window_end ? reach.vpn + nr : window_end;
	reach.first = index >= pgoff			     ? reach.vpn
		      : start - window_start < pgoff - index ? window_start
							     : reach.vpn;
	if (!are_clear(check->slots, pop->vma_pte_base[vma] + reach.first - start,
		       reach.end - reach.first, true))
		return "has page-table entries where another folio on the LRU lists has some";
	if (!leaves_in_reach(pop, vma, &reach, false) || !in_place(check->run, folio, vma, &reach))
		return "is mapped by entries that are not where its pages belong";
	return NULL;
}

static bool in_page_cache(const struct rmf_population *pop, uint64_t folio)
{
	return !(pop->folio_flags[folio] & (RMF_FOLIO_ANON | RMF_FOLIO_SWAPBACKED));
}

/* Why a visit to a folio may depend on visits to others, or NULL. */
static const char *depends(struct check *check, uint64_t folio)
{
	const struct rmf_population *pop = &check->run->pop;
	const char *why = NULL;
	uint32_t vma;

	if (!in_page_cache(pop, folio))
		return "is no folio of the page cache: it may take swap slots in its turn, or be"
		       " split";
	if (!are_clear(check->pages, rmf_folio_page_base(pop, folio),
		       rmf_folio_nr_pages(pop, folio), true))
		return "has the place in the page arrays that another folio has";
	for (uint64_t i = pop->rmap_start[folio];
	     !why && i < pop->rmap_start[folio + 1] && rmf_rmap_vma(pop, i, &vma); i++)
		why = mapping_depends(check, folio, vma);
	return why;
}

static bool is_listed(const struct check *check, uint64_t folio)
{
	return check->listed[folio / 64] >> folio % 64 & 1;
}

/* How many folios from this one on follow each other in every way, in one VMA, and are mapped where
 * their pages belong, so that they are looked at together. 0 says nothing. */
static uint64_t look_at_row(struct check *check, uint64_t folio)
{
	enum { MOST = 256 };
	const struct rmf_population *pop = &check->run->pop;
	const uint64_t row = pop->rmap_start[folio], pfn = pop->folio_pfn[folio],
		       base = rmf_folio_page_base(pop, folio),
		       index = *(const volatile uint64_t *)&pop->folio_index[folio],
		       cont_ptes = check->run->arch.cont_ptes;
	const rmf_pte flags = RMF_PFN_ONE - 1;
	uint64_t nr = 0, pages = 0, least = RMF_MAX_FOLIO_PAGES, first;
	struct reach reach;
	uint32_t vma;

	if (!rmf_rmap_vma(pop, row, &vma))
		return 0;
	for (; nr < MOST && folio + nr < pop->nr_folios && row + nr < pop->nr_rmap; nr++) {
		const uint64_t next = folio + nr, size = rmf_folio_nr_pages(pop, next);

		if (!is_listed(check, next) || !in_page_cache(pop, next) ||
		    pop->rmap_start[next] != row + nr ||
		    pop->rmap_start[next + 1] != row + nr + 1 || pop->rmap_vma[row + nr] != vma ||
		    pop->folio_index[next] != index + pages ||
		    pop->folio_pfn[next] != pfn + pages ||
		    pop->folio_page_base[next] != base + pages)
			break;
		pages += size;
		least = size < least ? size : least;
	}
	if (nr < 2 || index < pop->vma_pgoff[vma] || pages > pop->nr_pages - base ||
	    index - pop->vma_pgoff[vma] + pages > pop->vma_end[vma] - pop->vma_start[vma])
		return 0;
	reach.first = reach.vpn = pop->vma_start[vma] + index - pop->vma_pgoff[vma];
	reach.end = reach.first + pages;
	first = pop->vma_pte_base[vma] + reach.first - pop->vma_start[vma];
	if (!leaves_in_reach(pop, vma, &reach, true) ||
	    !are_clear(check->slots, first, pages, false) ||
	    !are_clear(check->pages, base, pages, false) ||
	    /* folded blocks are those of one folio if folios are not smaller, and aligned */
	    !follow_but(&pop->ptes[first], pages, pfn,
			least >= cont_ptes && !(reach.first & (cont_ptes - 1))
				? flags
				: flags & ~(rmf_pte)RMF_PTE_CONT))
		return 0;
	are_clear(check->slots, first, pages, true);
	are_clear(check->pages, base, pages, true);
	return nr;
}

/* Returns 0, or RMF_EINVAL with *fault filled in. */
static int look_at_folios(struct check *check, struct rmf_fault *fault)
{
	for (uint64_t folio = 0, nr; folio < check->run->pop.nr_folios; folio += nr) {
		const char *why;

		nr = 1;
		if (!is_listed(check, folio))
			continue;
		nr = look_at_row(check, folio);
		if (nr)
			continue;
		nr = 1;
		why = depends(check, folio);
		if (why)
			return rmf_fault_at(fault, "folio", folio, why);
	}
	return 0;
}

static void mark(uint64_t *bits, const struct rmf_lru_list *list)
{
	for (uint64_t i = 0; i < list->n; i++) {
		const uint32_t folio = rmf_lru_at(list, i);

		bits[folio / 64] |= (uint64_t)1 << folio % 64;
	}
}

/* Returns 0, RMF_ENOMEM, or RMF_EINVAL with *fault filled in. */
static int check_folios(const struct rmf_run *run, const struct rmf_lru_list *inactive,
			const struct rmf_lru_list *active, struct rmf_fault *fault)
{
	struct check check = {
		.run = run,
		.listed = rmf_folio_bits(&run->pop),
		.slots = calloc(run->pop.nr_ptes / 64 + 1, sizeof(uint64_t)),
		.pages = calloc(run->pop.nr_pages / 64 + 1, sizeof(uint64_t)),
	};
	int error = RMF_ENOMEM;

	if (check.listed && check.slots && check.pages) {
		mark(check.listed, inactive);
		mark(check.listed, active);
		error = look_at_folios(&check, fault);
	}
	free(check.listed);
	free(check.slots);
	free(check.pages);
	return error;
}

/* ---- start, visits, end ---- */

static int new_workers(struct rmf_ahead *ahead, const struct rmf_run *run, uint32_t workers)
{
	ahead->nr_rss = run->pop.nr_mms * RMF_NR_MM_COUNTERS;
	ahead->workers = calloc(workers, sizeof(*ahead->workers));
	ahead->rss = calloc(workers * ahead->nr_rss + 1, sizeof(*ahead->rss));
	ahead->parts = calloc((size_t)workers * PARTS_OF_WORKER, sizeof(*ahead->parts));
	if (!ahead->workers || !ahead->rss || !ahead->parts)
		return RMF_ENOMEM;
	for (; ahead->nr_workers < workers; ahead->nr_workers++) {
		struct rmf_run *worker = &ahead->workers[ahead->nr_workers];

		worker->pop = run->pop;
		worker->pop.mm_rss = ahead->rss + ahead->nr_workers * ahead->nr_rss;
		worker->arch = run->arch;
		worker->policy = run->policy;
		worker->guard = run->guard;
		worker->max_ptes_none = run->max_ptes_none;
		if (!run->memo)
			continue;
		worker->memo = rmf_memo_new(run->memo->isa);
		if (!worker->memo)
			return RMF_ENOMEM;
	}
	return 0;
}

int rmf_ahead_new(struct rmf_ahead **ahead, const struct rmf_run *run,
		  const struct rmf_lru_list *inactive, const struct rmf_lru_list *active,
		  uint32_t workers, struct rmf_fault *fault)
{
	int error = check_folios(run, inactive, active, fault);

	*ahead = NULL;
	if (error)
		return error;
	*ahead = calloc(1, sizeof(**ahead));
	return *ahead ? new_workers(*ahead, run, workers) : RMF_ENOMEM;
}

void rmf_ahead_free(struct rmf_ahead *ahead)
{
	if (!ahead)
		return;
	for (uint32_t i = 0; i < ahead->nr_workers; i++)
		rmf_memo_free(ahead->workers[i].memo);
	for (uint32_t i = 0; ahead->parts && i < ahead->nr_workers * PARTS_OF_WORKER; i++)
		free(ahead->parts[i].log.entries);
	free(ahead->workers);
	free(ahead->rss);
	free(ahead->parts);
	free(ahead);
}

void rmf_ahead_begin(struct rmf_ahead *ahead, const struct rmf_lru_list *list, uint64_t nr)
{
	const uint64_t most = (uint64_t)ahead->nr_workers * PARTS_OF_WORKER;
	uint64_t done = 0;

	ahead->list = list;
	ahead->nr_parts = (uint32_t)(nr < most ? nr : most);
	for (uint32_t i = 0; i < ahead->nr_parts; i++) {
		struct part *part = &ahead->parts[i];

		part->first = rmf_lru_index(list, list->head + done);
		part->nr = (nr - done) / (ahead->nr_parts - i);
		part->log.nr = 0;
		part->error = RMF_RUN_OK;
		atomic_store(&part->begun, false);
		done += part->nr;
	}
	ahead->left = nr;
	ahead->part = 0;
	ahead->entry = ahead->taken = 0;
}

static void visit_part(const struct rmf_lru_list *list, struct rmf_run *worker, struct part *part)
{
	struct rmf_visits visits[RMF_NR_VISITS];
	uint64_t at = part->first, left = part->nr, nr;

	while (left && !worker->error) {
		const uint64_t most = list->capacity - at,
			       done = rmf_visit(worker, RMF_VISIT_RECLAIM, list->folios + at,
						left < most ? left : most, visits, RMF_NR_VISITS,
						&nr);

		at = rmf_lru_index(list, at + done);
		left -= done;
		for (uint64_t i = 0; i < nr; i++)
			if (!rmf_log_visits(&part->log, &visits[i]))
				worker->error = RMF_RUN_NO_MEMORY;
	}
	part->error = worker->error;
	part->bad_rule = worker->bad_rule;
	worker->error = RMF_RUN_OK; /* a part before this one may have an error too */
}

void rmf_ahead_visit(struct rmf_ahead *ahead, uint32_t worker)
{
	struct rmf_run *run = &ahead->workers[worker];

	for (uint32_t i = 0; i < ahead->nr_parts; i++) {
		struct part *part = &ahead->parts[(worker * PARTS_OF_WORKER + i) % ahead->nr_parts];

		if (!atomic_exchange(&part->begun, true))
			visit_part(ahead->list, run, part);
	}
	rmf_memo_settle(run);
}

/* Move what a worker counted into the run. */
static void take_counts(struct rmf_run *run, struct rmf_run *worker, int64_t *rss, uint64_t nr_rss)
{
	for (int i = 0; i < RMF_NR_EVENTS; i++) {
		run->ev[i] += worker->ev[i];
		run->referenced_ev[i] += worker->referenced_ev[i];
	}
	for (int i = 0; i <= RMF_MAX_FOLIO_PAGES; i++)
		run->batch_lengths[i] += worker->batch_lengths[i];
	run->mapped_stat += worker->mapped_stat;
	for (uint64_t i = 0; i < nr_rss; i++)
		run->pop.mm_rss[i] += rss[i];
	memset(worker->ev, 0, sizeof(worker->ev));
	memset(worker->referenced_ev, 0, sizeof(worker->referenced_ev));
	memset(worker->batch_lengths, 0, sizeof(worker->batch_lengths));
	worker->mapped_stat = 0;
	memset(rss, 0, nr_rss * sizeof(*rss));
}

void rmf_ahead_end(struct rmf_ahead *ahead, struct rmf_run *run)
{
	for (uint32_t i = 0; i < ahead->nr_workers; i++)
		take_counts(run, &ahead->workers[i], ahead->rss + i * ahead->nr_rss, ahead->nr_rss);
	for (uint32_t i = 0; i < ahead->nr_parts && !run->error; i++) {
		run->error = ahead->parts[i].error;
		run->bad_rule = ahead->parts[i].bad_rule;
	}
}

uint64_t rmf_ahead_left(const struct rmf_ahead *ahead)
{
	return ahead ? ahead->left : 0;
}

uint64_t rmf_ahead_take(struct rmf_ahead *ahead, uint64_t n, struct rmf_visits *out, uint64_t room,
			uint64_t *nr_out)
{
	uint64_t done = 0;

	*nr_out = 0;
	if (n > ahead->left)
		n = ahead->left;
	while (done < n && *nr_out < room) {
		const struct part *part = &ahead->parts[ahead->part];
		const struct rmf_visits *entry = &part->log.entries[ahead->entry];
		uint64_t nr;

		if (ahead->entry == part->log.nr) {
			ahead->part++;
			ahead->entry = 0;
			continue;
		}
		nr = entry->nr - ahead->taken < n - done ? entry->nr - ahead->taken : n - done;
		out[*nr_out] = *entry;
		out[(*nr_out)++].nr = nr;
		ahead->taken += nr;
		done += nr;
		if (ahead->taken == entry->nr) {
			ahead->entry++;
			ahead->taken = 0;
		}
	}
	ahead->left -= done;
	return done;
}
