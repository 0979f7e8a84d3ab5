#include "packed_log.h"

enum { KIND_BITS = 3, NEW_KIND = RMF_LOG_KINDS, MAX_SHORT = 31 };

/* Where packed bytes go: nowhere while they are only counted. */
struct out {
	uint8_t *bytes;
	uint64_t nr;
};

static void put(struct out *out, const void *bytes, uint64_t nr)
{
	if (out->bytes)
		memcpy(out->bytes + out->nr, bytes, nr);
	out->nr += nr;
}

static void put_byte(struct out *out, uint64_t byte)
{
	const uint8_t one = (uint8_t)byte;

	put(out, &one, 1);
}

uint64_t rmf_pack_log(const struct rmf_visits *log, uint64_t nr, uint8_t *out)
{
	struct rmf_packed_log packed = { 0 };
	struct out to = { .bytes = out };
	uint32_t known = 0;

	for (uint64_t i = 0; i < nr; i++) {
		uint32_t kind = 0;
		uint64_t visits = log[i].nr;

		while (kind < known && !rmf_visits_equal(&packed.kinds[kind], &log[i]))
			kind++;
		if (kind == known) {
			kind = packed.oldest;
			packed.oldest = (kind + 1) % RMF_LOG_KINDS;
			known += known < RMF_LOG_KINDS;
			packed.kinds[kind] = log[i];
			put_byte(&to, NEW_KIND);
			put(&to, &log[i], sizeof(log[i]));
		}
		if (visits <= MAX_SHORT) {
			put_byte(&to, visits << KIND_BITS | kind);
			continue;
		}
		put_byte(&to, kind);
		for (; visits > 0x7f; visits >>= 7)
			put_byte(&to, 0x80 | (visits & 0x7f));
		put_byte(&to, visits);
	}
	return to.nr;
}

static bool take(struct rmf_packed_log *log, void *out, uint64_t nr)
{
	if (log->nr < nr)
		return false;
	memcpy(out, log->bytes, nr);
	log->bytes += nr;
	log->nr -= nr;
	return true;
}

static bool take_number(struct rmf_packed_log *log, uint64_t *number)
{
	uint8_t byte = 0x80;

	*number = 0;
	for (int shift = 0; byte & 0x80; shift += 7) {
		if (shift > 56 || !take(log, &byte, 1))
			return false;
		*number |= (uint64_t)(byte & 0x7f) << shift;
	}
	return true;
}

bool rmf_unpack_visits(struct rmf_packed_log *log, struct rmf_visits *visits)
{
	uint8_t byte;
	uint64_t nr;

	if (!take(log, &byte, 1))
		return false;
	if ((byte & NEW_KIND) == NEW_KIND) {
		if (!take(log, &log->kinds[log->oldest], sizeof(*visits)) || !take(log, &byte, 1))
			return false;
		log->oldest = (log->oldest + 1) % RMF_LOG_KINDS;
		if ((byte & NEW_KIND) == NEW_KIND)
			return false;
	}
	nr = byte >> KIND_BITS;
	if (!nr && !take_number(log, &nr))
		return false;
	*visits = log->kinds[byte & NEW_KIND];
	visits->nr = nr;
	return true;
}
