#include "stream.h"

#include <stdlib.h>
#include <string.h>

/* Swap space that does not run out. */
static const uint64_t UNLIMITED = (uint64_t)1 << 48;

/* A pass over the folios of a block. */
struct pass {
	struct rmf_run *run;
	uint64_t visited;
	struct rmf_visit_log log;
};

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
	struct pass passes[RMF_STREAM_PASSES]; /* what was asked for */
	struct pass earlier; /* the passes before, whose log nobody wants */
	uint32_t *list; /* the folios that a pass comes to */
	uint64_t nr_list;
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
	for (uint32_t i = 0; i < RMF_STREAM_PASSES; i++)
		stream->passes[i].run = new_run(stream, arch, policy, fast, &missing);
	stream->earlier.run = new_run(stream, arch, policy, fast, &missing);
	if (missing) {
		rmf_stream_free(stream);
		return NULL;
	}
	for (uint32_t mm = 0; mm < mms; mm++) {
		stream->vma_start[mm] = what->vpn;
		stream->vma_end[mm] = what->vpn + what->pages;
		stream->vma_pgoff[mm] = what->pgoff;
		stream->vma_flags[mm] = what->vma_flags;
		stream->vma_mm[mm] = mm;
		cpumasks[mm] = cpumask;
	}
	return stream;
}

static void free_pass(struct pass *pass)
{
	if (pass->run)
		rmf_memo_free(pass->run->memo);
	free(pass->run);
	free(pass->log.entries);
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
	for (uint32_t i = 0; i < RMF_STREAM_PASSES; i++)
		free_pass(&stream->passes[i]);
	free_pass(&stream->earlier);
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
		/* the VMA is that of the whole; where it would begin in the arrays is a number
		 * modulo 2^64 */
		stream->vma_window_start[mm] = start;
		stream->vma_window_end[mm] = start + pages;
		stream->vma_pte_base[mm] = mm * pages - first;
		stream->vma_table_base[mm] = mm * tables - (table - what->vpn / what->ptrs_per_pte);
	}
	pop->nr_ptes = what->sharing * pages;
	pop->nr_tables = what->sharing * tables;
	pop->nr_pages = pages;
	pop->nr_folios = stream->made.nr_folios;
	pop->nr_rmap = pop->nr_folios * what->sharing;
	for (uint32_t i = 0; i < RMF_STREAM_PASSES; i++)
		stream->passes[i].run->pop = *pop;
	stream->earlier.run->pop = *pop;
	stream->nr_list = 0;
	for (uint64_t i = 0; i < stream->made.nr_lru; i++)
		if (stream->swap || !(pop->folio_flags[stream->made.lru[i]] & RMF_FOLIO_SWAPBACKED))
			stream->list[stream->nr_list++] = stream->made.lru[i];
}

/* Visit the folios on the list, until the pass has visited `limit`. Those that it kept are the list
 * then. False without memory. */
static bool take_pass(struct rmf_stream *stream, struct pass *pass, uint64_t limit)
{
	struct rmf_visits visits[RMF_NR_VISITS];
	uint64_t done = 0, kept = 0, nr;

	while (done < stream->nr_list && pass->visited < limit) {
		const uint64_t left = stream->nr_list - done, most = limit - pass->visited;
		const uint32_t *folios = stream->list + done;
		const uint64_t n = rmf_visit(pass->run, RMF_VISIT_RECLAIM, folios,
					     left < most ? left : most, visits, RMF_NR_VISITS, &nr);

		done += n;
		pass->visited += n;
		for (uint64_t i = 0; i < nr; folios += visits[i++].nr) {
			if (pass != &stream->earlier && !rmf_log_visits(&pass->log, &visits[i]))
				return false;
			if (visits[i].outcome != RMF_OUTCOME_KEEP || !visits[i].listed)
				continue;
			memmove(stream->list + kept, folios, visits[i].nr * sizeof(*folios));
			kept += visits[i].nr;
		}
	}
	stream->nr_list = kept;
	return true;
}

static uint64_t end_of_block(uint64_t page, uint64_t end)
{
	return end - page < RMF_LAYOUT_BLOCK ? end : page + RMF_LAYOUT_BLOCK;
}

static void begin_pass(struct pass *pass)
{
	struct rmf_run *run = pass->run;

	rmf_memo_settle(run);
	memset(run->ev, 0, sizeof(run->ev));
	memset(run->referenced_ev, 0, sizeof(run->referenced_ev));
	memset(run->batch_lengths, 0, sizeof(run->batch_lengths));
	run->error = RMF_RUN_OK;
	pass->visited = pass->log.nr = 0;
}

/* Whether a rule of the user returned nonsense in the block that begins with `page`, in the first
 * pass that was asked for or before it. The folio gets the number that it has in the whole
 * population. */
static bool take_error(struct rmf_stream *stream, uint64_t page)
{
	const struct rmf_run *earlier = stream->earlier.run;
	struct rmf_run *run = stream->passes[0].run;

	if (earlier->error) {
		run->error = earlier->error;
		run->bad_rule = earlier->bad_rule;
	}
	if (run->error)
		run->bad_rule.folio += rmf_described_folios(&stream->what, page);
	return run->error;
}

uint32_t rmf_stream_visit(struct rmf_stream *stream, uint64_t first, uint64_t end, uint32_t pass,
			  uint32_t nr_passes, uint64_t limit)
{
	struct pass *passes = stream->passes;

	for (uint32_t i = 0; i < nr_passes; i++)
		begin_pass(&passes[i]);
	begin_pass(&stream->earlier);
	for (uint64_t page = first; page < end && passes[0].visited < limit;
	     page = end_of_block(page, end)) {
		make_block(stream, page, end_of_block(page, end));
		for (uint32_t i = 1; i < pass; i++)
			take_pass(stream, &stream->earlier, UINT64_MAX);
		if (!take_pass(stream, &passes[0], limit))
			return 0;
		if (take_error(stream, page))
			return 1;
		for (uint32_t i = 1; i < nr_passes; i++) {
			if (!take_pass(stream, &passes[i], UINT64_MAX))
				return 0;
			if (passes[i].run->error) /* the loop may end before it comes there */
				nr_passes = i;
		}
	}
	for (uint32_t i = 0; i < nr_passes; i++)
		rmf_memo_settle(passes[i].run);
	return nr_passes;
}

const struct rmf_run *rmf_stream_run(const struct rmf_stream *stream, uint32_t i)
{
	return stream->passes[i].run;
}

uint64_t rmf_stream_visited(const struct rmf_stream *stream, uint32_t i)
{
	return stream->passes[i].visited;
}

const struct rmf_visits *rmf_stream_log(const struct rmf_stream *stream, uint32_t i, uint64_t *nr)
{
	*nr = stream->passes[i].log.nr;
	return stream->passes[i].log.entries;
}
