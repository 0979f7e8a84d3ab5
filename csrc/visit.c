#include "visit.h"

#include "memo.h"

bool rmf_visits_join(struct rmf_visits *last, const struct rmf_visits *next)
{
	if (last->order != next->order || last->outcome != next->outcome ||
	    last->listed != next->listed || last->deferred != next->deferred ||
	    last->writable != next->writable || last->writes_out != next->writes_out ||
	    last->cpumask != next->cpumask)
		return false;
	last->nr += next->nr;
	return true;
}

uint64_t rmf_visit(struct rmf_run *run, enum rmf_visit_kind kind, const uint32_t *folios,
		   uint64_t n, struct rmf_visits *out, uint64_t room, uint64_t *nr_out)
{
	uint64_t done = 0, used = *nr_out = 0;

	while (done < n) {
		struct rmf_visits visits;

		if (!rmf_visit_by_memo(run, kind, folios + done, n - done, &visits))
			rmf_visit_by_rules(run, kind, folios[done], &visits);
		done += visits.nr;
		if (used && rmf_visits_join(&out[used - 1], &visits))
			continue;
		out[used++] = visits;
		if (used == room)
			break;
	}
	*nr_out = used;
	return done;
}
