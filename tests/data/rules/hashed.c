/* Rules whose answers are a hash of what they look at. Each looks at other things, and all are
 * pure. A batching rule may answer with any number, a young rule with one up to the room. */
#include <rmf_rule.h>

enum { LOOKS_AT_BITS = 1, LOOKS_AT_PLACE = 2, SCANS = 4, ENDS_RUNS = 8 };

static uint32_t mix(uint32_t hash, uint32_t word)
{
	hash = (hash ^ word) * 0x9e3779b1u;
	return hash ^ hash >> 15;
}

static uint32_t answer(const struct rmf_rule_call *call, uint32_t seed, uint32_t looks)
{
	uint32_t hash = mix(seed, call->folio_nr_pages), most = call->folio_left;

	hash = mix(hash, call->folio_kind);
	hash = mix(hash, call->folio_flags);
	hash = mix(hash, (uint32_t)call->folio_mapcount);
	hash = mix(hash, call->page);
	hash = mix(hash, call->pte);
	hash = mix(hash, call->vma_flags);
	hash = mix(hash, call->room);
	hash = mix(hash, call->exclusive_batch(call, call->folio_left));
	if (looks & LOOKS_AT_BITS)
		hash = mix(hash, call->young_dirty(call));
	if (looks & LOOKS_AT_PLACE) {
		struct rmf_rule_place place;

		call->place(call, &place);
		hash = mix(hash, (uint32_t)place.vma_before / 16);
		hash = mix(hash, place.table_left / 16);
	}
	if (looks & SCANS)
		hash = mix(hash,
			   call->folio_pte_batch(call, 1 + hash % call->folio_nr_pages,
						 hash >> 8 & (looks & LOOKS_AT_BITS ? 7 : 6)));
	/* most answers of a rule that ends its batches where runs end are used again */
	if ((looks & ENDS_RUNS) && hash % 8)
		return call->folio_pte_batch(call, call->room,
					     RMF_RULE_RESPECT_WRITE | RMF_RULE_RESPECT_SOFT_DIRTY);
	if (hash % 16)
		most = call->room;
	return 1 + (hash >> 4) % most;
}

#define BATCHING(n)                                          \
	uint32_t batch_##n(const struct rmf_rule_call *call) \
	{                                                    \
		return answer(call, n, n);                   \
	}
#define YOUNG(n)                                             \
	uint32_t young_##n(const struct rmf_rule_call *call) \
	{                                                    \
		uint32_t nr = answer(call, 100 + n, n);      \
                                                             \
		return nr < call->room ? nr : call->room;    \
	}
#define BOTH(n) BATCHING(n) YOUNG(n)
BOTH(0)
BOTH(1)
BOTH(2)
BOTH(3)
BOTH(4)
BOTH(5)
BOTH(6)
BOTH(7)
BOTH(8)
BOTH(9)
BOTH(10)
BOTH(11)
BOTH(12)
BOTH(13)
BOTH(14)
BOTH(15)
