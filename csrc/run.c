#include "run.h"

#include <stdlib.h>

void rmf_trace_grow(struct rmf_trace *trace)
{
	uint64_t capacity = trace->capacity ? 2 * trace->capacity : 64;
	struct rmf_trace_entry *entries = realloc(trace->entries, capacity * sizeof(*entries));

	if (!entries)
		return;
	trace->entries = entries;
	trace->capacity = capacity;
}
