/* Logs of visits in few bytes: those of second passes wait until the reclaim loop comes to them.
 * A log of mixed orders takes a byte for an entry of 32, or a little more.
 *
 * A packed log is a row of entries. The low three bits of a byte say which of the seven last kinds
 * of visits an entry has; 7 says that a struct rmf_visits follows, which is a new kind, in the
 * place of the oldest one. The other five bits are the number of visits; 0 says that the number
 * follows, seven bits a byte, the low ones first, with the highest bit set in all but the last. */
#ifndef RMF_PACKED_LOG_H
#define RMF_PACKED_LOG_H

#include "shrink.h"

enum { RMF_LOG_KINDS = 7 };

/* Pack nr entries, none of which is a piece, into out[], or count only if that is NULL. What they
 * say of the number of the folio is lost. Returns the number of bytes. */
uint64_t rmf_pack_log(const struct rmf_visits *log, uint64_t nr, uint8_t *out);

/* What is left of a packed log. All zero but the first two. */
struct rmf_packed_log {
	const uint8_t *bytes;
	uint64_t nr;
	struct rmf_visits kinds[RMF_LOG_KINDS];
	uint32_t oldest;
};

/* Take the next entry. False at the end, or if the bytes are no packed log: they may come from
 * another process. */
bool rmf_unpack_visits(struct rmf_packed_log *log, struct rmf_visits *visits);

#endif
