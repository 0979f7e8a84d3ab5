#include "visit.h"

#include "memo.h"
#include "swap.h"

/* The number of the piece that would follow these. */
static uint32_t next_piece(const struct rmf_visits *visits, bool falling)
{
	const uint32_t nr = (uint32_t)visits->nr;

	return falling ? visits->folio - nr : visits->folio + nr;
}

bool rmf_visits_join(struct rmf_visits *last, const struct rmf_visits *next)
{
	if (last->order != next->order || last->outcome != next->outcome ||
	    last->listed != next->listed || last->deferred != next->deferred ||
	    last->writable != next->writable || last->writes_out != next->writes_out ||
	    last->cpumask != next->cpumask || last->piece != next->piece ||
	    last->outcome == RMF_OUTCOME_SPLIT)
		return false;
	if (last->piece &&
	    (last->falling != next->falling || next->folio != next_piece(last, last->falling)))
		return false;
	last->nr += next->nr;
	return true;
}

bool rmf_loop_must_look(const struct rmf_run *run)
{
	return (run->stop_without_swap && !rmf_swap_free_slots(run)) || run->error;
}

uint64_t rmf_visit(struct rmf_run *run, enum rmf_visit_kind kind, const uint32_t *folios,
		   uint64_t n, struct rmf_visits *out, uint64_t room, uint64_t *nr_out)
{
	uint64_t done = 0, used = *nr_out = 0;

	while ((run->turns.left || done < n) && used + 2 <= room) {
		struct rmf_visits visits[2];
		uint32_t nr = 1;

		if (run->turns.left) {
			rmf_visit_piece(run, kind, visits);
		} else {
			if (done && kind == RMF_VISIT_RECLAIM && rmf_loop_must_look(run))
				break;
			if (!rmf_visit_by_memo(run, kind, folios + done, n - done, visits, &nr))
				nr = rmf_visit_by_rules(run, kind, folios[done], visits);
			done += visits[0].nr;
		}
		for (uint32_t i = 0; i < nr; i++)
			if (!used || !rmf_visits_join(&out[used - 1], &visits[i]))
				out[used++] = visits[i];
	}
	*nr_out = used;
	return done;
}
