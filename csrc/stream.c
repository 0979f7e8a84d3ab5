#include "stream.h"

#include <stdlib.h>
#include <string.h>

/* Swap space that does not run out. */
static const uint64_t UNLIMITED = (uint64_t)1 << 48;

struct rmf_stream {
	struct rmf_description what;
	const struct rmf_isa *isa;
	bool swap;
	struct rmf_populated made;
	/* the VMAs of the block, one for each process; const in the population */
	uint64_t *vma_start, *vma_end, *vma_pgoff, *vma_pte_base;
	uint64_t *vma_window_start, *vma_window_end, *vma_table_base;
	uint32_t *vma_flags, *vma_mm;
	struct rmf_population pop;
	struct rmf_run *run;
	struct rmf_run *earlier; /* visits the folios in the passes before */
	uint32_t *list; /* the folios that a pass comes to */
	uint64_t nr_list;
	struct rmf_visits *log;
	uint64_t nr_log;
	uint64_t room;
};

static void *array(uint64_t nr, size_t size, bool *missing)
{
	void *memory = nr < SIZE_MAX / size ? calloc(nr ? nr : 1, size) : NULL;

	*missing |= !memory;
	return memory;
}

static struct rmf_run *new_run(struct rmf_stream *stream, const struct rmf_arch *arch,
			       const struct rmf_policy *policy, bool fast, bool *missing)
{
	struct rmf_run *run = array(1, sizeof(*run), missing);

	if (!run)
		return NULL;
	run->arch = *arch;
	run->policy = *policy;
	run->swap_end = stream->swap ? UNLIMITED : 0;
	if (fast) {
		run->memo = rmf_memo_new(stream->isa);
		*missing |= !run->memo;
	}
	return run;
}

struct rmf_stream *rmf_stream_new(const struct rmf_description *what, const struct rmf_arch *arch,
				  const struct rmf_policy *policy, bool swap, uint64_t cpumask,
				  const struct rmf_isa *isa, bool fast)
{
	const uint64_t pages = RMF_LAYOUT_BLOCK, mms = what->sharing,
		       tables = mms * (pages / what->ptrs_per_pte + 2);
	struct rmf_stream *stream = calloc(1, sizeof(*stream));
	struct rmf_populated *made = &stream->made;
	uint64_t *cpumasks;
	bool missing = false;

	if (!stream)
		return NULL;
	stream->what = *what;
	stream->isa = isa;
	stream->swap = swap;
	made->ptes = array(mms * pages, sizeof(*made->ptes), &missing);
	made->folio_pfn = array(pages, sizeof(*made->folio_pfn), &missing);
	made->folio_index = array(pages, sizeof(*made->folio_index), &missing);
	made->folio_order = array(pages, sizeof(*made->folio_order), &missing);
	made->folio_flags = array(pages, sizeof(*made->folio_flags), &missing);
	made->folio_refcount = array(pages, sizeof(*made->folio_refcount), &missing);
	made->folio_mapcount = array(pages, sizeof(*made->folio_mapcount), &missing);
	made->folio_nr_pages_mapped = array(pages, sizeof(*made->folio_nr_pages_mapped), &missing);
	made->folio_page_base = array(pages, sizeof(*made->folio_page_base), &missing);
	made->page_mapcount = array(pages, sizeof(*made->page_mapcount), &missing);
	made->rmap_start = array(pages + 1, sizeof(*made->rmap_start), &missing);
	made->rmap_vma = array(mms * pages, sizeof(*made->rmap_vma), &missing);
	made->mm_rss = array(mms * RMF_NR_MM_COUNTERS, sizeof(*made->mm_rss), &missing);
	made->lru = array(pages, sizeof(*made->lru), &missing);
	stream->vma_start = array(mms, sizeof(*stream->vma_start), &missing);
	stream->vma_end = array(mms, sizeof(*stream->vma_end), &missing);
	stream->vma_pgoff = array(mms, sizeof(*stream->vma_pgoff), &missing);
	stream->vma_pte_base = array(mms, sizeof(*stream->vma_pte_base), &missing);
	stream->vma_window_start = array(mms, sizeof(*stream->vma_window_start), &missing);
	stream->vma_window_end = array(mms, sizeof(*stream->vma_window_end), &missing);
	stream->vma_table_base = array(mms, sizeof(*stream->vma_table_base), &missing);
	stream->vma_flags = array(mms, sizeof(*stream->vma_flags), &missing);
	stream->vma_mm = array(mms, sizeof(*stream->vma_mm), &missing);
	stream->list = array(pages, sizeof(*stream->list), &missing);
	cpumasks = array(mms, sizeof(*cpumasks), &missing);
	stream->pop = (struct rmf_population){
		.ptrs_per_pte = what->ptrs_per_pte,
		.ptes = made->ptes,
		.vma_start = stream->vma_start,
		.vma_end = stream->vma_end,
		.vma_pgoff = stream->vma_pgoff,
		.vma_flags = stream->vma_flags,
		.vma_mm = stream->vma_mm,
		.vma_pte_base = stream->vma_pte_base,
		.vma_window_start = stream->vma_window_start,
		.vma_window_end = stream->vma_window_end,
		.vma_table_base = stream->vma_table_base,
		.nr_vmas = mms,
		.table_state = array(tables, 1, &missing),
		.folio_pfn = made->folio_pfn,
		.folio_index = made->folio_index,
		.folio_order = made->folio_order,
		.folio_flags = made->folio_flags,
		.folio_refcount = made->folio_refcount,
		.folio_mapcount = made->folio_mapcount,
		.folio_entire_mapcount = array(pages, sizeof(int32_t), &missing),
		.folio_nr_pages_mapped = made->folio_nr_pages_mapped,
		.folio_swap = array(pages, sizeof(uint64_t), &missing),
		.folio_page_base = made->folio_page_base,
		.page_mapcount = made->page_mapcount,
		.page_flags = array(pages, 1, &missing),
		.rmap_start = made->rmap_start,
		.rmap_vma = made->rmap_vma,
		.mm_rss = made->mm_rss,
		.mm_cpumask = cpumasks,
		.mm_flags = array(mms, sizeof(uint32_t), &missing),
		.nr_mms = mms,
	};
	stream->run = new_run(stream, arch, policy, fast, &missing);
	stream->earlier = new_run(stream, arch, policy, fast, &missing);
	if (missing) {
		rmf_stream_free(stream);
		return NULL;
	}
	for (uint32_t mm = 0; mm < mms; mm++) {
		stream->vma_flags[mm] = what->vma_flags;
		stream->vma_mm[mm] = mm;
		cpumasks[mm] = cpumask;
	}
	return stream;
}

static void free_run(struct rmf_run *run)
{
	if (run)
		rmf_memo_free(run->memo);
	free(run);
}

void rmf_stream_free(struct rmf_stream *stream)
{
	struct rmf_populated *made;

	if (!stream)
		return;
	made = &stream->made;
	free(made->ptes);
	free(made->folio_pfn);
	free(made->folio_index);
	free(made->folio_order);
	free(made->folio_flags);
	free(made->folio_refcount);
	free(made->folio_mapcount);
	free(made->folio_nr_pages_mapped);
	free(made->folio_page_base);
	free(made->page_mapcount);
	free(made->rmap_start);
	free(made->rmap_vma);
	free(made->mm_rss);
	free(made->lru);
	free(stream->vma_start);
	free(stream->vma_end);
	free(stream->vma_pgoff);
	free(stream->vma_pte_base);
	free(stream->vma_window_start);
	free(stream->vma_window_end);
	free(stream->vma_table_base);
	free(stream->vma_flags);
	free(stream->vma_mm);
	free(stream->list);
	free(stream->pop.table_state);
	free(stream->pop.folio_entire_mapcount);
	free(stream->pop.folio_swap);
	free(stream->pop.page_flags);
	free((void *)stream->pop.mm_cpumask);
	free((void *)stream->pop.mm_flags);
	free_run(stream->run);
	free_run(stream->earlier);
	free(stream->log);
	free(stream);
}

/* Make the pages [first, end) of one block, and the list of its folios. */
static void make_block(struct rmf_stream *stream, uint64_t first, uint64_t end)
{
	const struct rmf_description *what = &stream->what;
	const uint64_t pages = end - first, start = what->vpn + first,
		       table = start / what->ptrs_per_pte;
	const uint64_t tables = (start + pages - 1) / what->ptrs_per_pte - table + 1;
	struct rmf_population *pop = &stream->pop;

	memset(stream->made.mm_rss, 0,
	       what->sharing * RMF_NR_MM_COUNTERS * sizeof(*stream->made.mm_rss));
	stream->isa->populate(what, first, end, &stream->made);
	for (uint32_t mm = 0; mm < what->sharing; mm++) {
		stream->vma_start[mm] = stream->vma_window_start[mm] = start;
		stream->vma_end[mm] = stream->vma_window_end[mm] = start + pages;
		stream->vma_pgoff[mm] = what->pgoff + first;
		stream->vma_pte_base[mm] = mm * pages;
		stream->vma_table_base[mm] = mm * tables;
	}
	pop->nr_ptes = what->sharing * pages;
	pop->nr_tables = what->sharing * tables;
	pop->nr_pages = pages;
	pop->nr_folios = stream->made.nr_folios;
	pop->nr_rmap = pop->nr_folios * what->sharing;
	stream->run->pop = stream->earlier->pop = *pop;
	stream->nr_list = 0;
	for (uint64_t i = 0; i < stream->made.nr_lru; i++)
		if (stream->swap || !(pop->folio_flags[stream->made.lru[i]] & RMF_FOLIO_SWAPBACKED))
			stream->list[stream->nr_list++] = stream->made.lru[i];
}

static bool log_visits(struct rmf_stream *stream, const struct rmf_visits *visits)
{
	struct rmf_visits *last = stream->nr_log ? &stream->log[stream->nr_log - 1] : NULL;

	if (last && rmf_visits_join(last, visits))
		return true;
	if (stream->nr_log == stream->room) {
		uint64_t room = stream->room ? 2 * stream->room : 1024;
		struct rmf_visits *log = realloc(stream->log, room * sizeof(*log));

		if (!log)
			return false;
		stream->log = log;
		stream->room = room;
	}
	stream->log[stream->nr_log++] = *visits;
	return true;
}

/* Repeat an earlier pass: only what it kept is still on the list. */
static void repeat_pass(struct rmf_stream *stream)
{
	struct rmf_visits visits[RMF_NR_VISITS];
	uint64_t done = 0, kept = 0, nr;

	while (done < stream->nr_list) {
		const uint32_t *folios = stream->list + done;

		done += rmf_visit(stream->earlier, RMF_VISIT_RECLAIM, folios,
				  stream->nr_list - done, visits, RMF_NR_VISITS, &nr);
		for (uint64_t i = 0; i < nr; folios += visits[i++].nr)
			for (uint64_t j = 0;
			     j < visits[i].nr && visits[i].outcome == RMF_OUTCOME_KEEP &&
			     visits[i].listed;
			     j++)
				stream->list[kept++] = folios[j];
	}
	stream->nr_list = kept;
}

static uint64_t end_of_block(uint64_t page, uint64_t end)
{
	return end - page < RMF_LAYOUT_BLOCK ? end : page + RMF_LAYOUT_BLOCK;
}

/* Whether a rule of the user returned nonsense in the block that begins with `page`. The folio gets
 * the number that it has in the whole population. */
static bool take_error(struct rmf_stream *stream, uint64_t page)
{
	struct rmf_run *run = stream->run;

	if (stream->earlier->error) {
		run->error = stream->earlier->error;
		run->bad_rule = stream->earlier->bad_rule;
	}
	if (run->error)
		run->bad_rule.folio += rmf_described_folios(&stream->what, page);
	return run->error;
}

uint64_t rmf_stream_visit(struct rmf_stream *stream, uint64_t first, uint64_t end, uint32_t pass,
			  uint64_t limit)
{
	struct rmf_run *run = stream->run;
	uint64_t visited = 0;

	memset(run->ev, 0, sizeof(run->ev));
	memset(run->referenced_ev, 0, sizeof(run->referenced_ev));
	memset(run->batch_lengths, 0, sizeof(run->batch_lengths));
	run->error = stream->earlier->error = RMF_RUN_OK;
	stream->nr_log = 0;
	for (uint64_t page = first; page < end && visited < limit; page = end_of_block(page, end)) {
		make_block(stream, page, end_of_block(page, end));
		for (uint32_t i = 1; i < pass; i++)
			repeat_pass(stream);
		for (uint64_t done = 0, nr; done < stream->nr_list && visited < limit;) {
			struct rmf_visits visits[RMF_NR_VISITS];
			uint64_t left = stream->nr_list - done, n;

			n = rmf_visit(run, RMF_VISIT_RECLAIM, stream->list + done,
				      left < limit - visited ? left : limit - visited, visits,
				      RMF_NR_VISITS, &nr);
			done += n;
			visited += n;
			for (uint64_t i = 0; i < nr; i++)
				if (!log_visits(stream, &visits[i]))
					return UINT64_MAX;
		}
		if (take_error(stream, page))
			break;
	}
	rmf_memo_settle(run);
	return visited;
}

const struct rmf_run *rmf_stream_run(const struct rmf_stream *stream)
{
	return stream->run;
}

const struct rmf_visits *rmf_stream_log(const struct rmf_stream *stream, uint64_t *nr)
{
	*nr = stream->nr_log;
	return stream->log;
}
