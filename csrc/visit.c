#include "visit.h"

#include <stdlib.h>

#include "memo.h"
#include "swap.h"

bool rmf_loop_must_look(const struct rmf_run *run)
{
	return (run->stop_without_swap && !rmf_swap_free_slots(run)) || run->error;
}

uint64_t rmf_visit(struct rmf_run *run, enum rmf_visit_kind kind, const uint32_t *folios,
		   uint64_t n, struct rmf_visits *out, uint64_t room, uint64_t *nr_out)
{
	uint64_t done = 0, used = *nr_out = 0;

	while ((run->turns.left || done < n) && used + 2 <= room) {
		if (run->turns.left) {
			struct rmf_visits visits;

			rmf_visit_piece(run, kind, &visits);
			if (!used || !rmf_visits_join(&out[used - 1], &visits))
				out[used++] = visits;
			continue;
		}
		if (done && kind == RMF_VISIT_RECLAIM && rmf_loop_must_look(run))
			break;
		done += rmf_visit_by_memo(run, kind, folios + done, n - done, out, room, &used);
	}
	*nr_out = used;
	return done;
}

bool rmf_log_visits(struct rmf_visit_log *log, const struct rmf_visits *visits)
{
	if (log->nr && rmf_visits_join(&log->entries[log->nr - 1], visits))
		return true;
	if (log->nr == log->room) {
		uint64_t room = log->room ? 2 * log->room : 1024;
		struct rmf_visits *entries = realloc(log->entries, room * sizeof(*entries));

		if (!entries)
			return false;
		log->entries = entries;
		log->room = room;
	}
	log->entries[log->nr++] = *visits;
	return true;
}
