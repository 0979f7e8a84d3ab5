/* States of the check that are drawn: everything about them varies at once, and their folios are
 * large enough for batches of 32 pages. docs/checker.md. */
#ifndef RMF_CHECK_DRAWN_H
#define RMF_CHECK_DRAWN_H

#include "check_state.h"

enum { RMF_CHECK_MAX_DRAWN_ORDER = 5 };

/* Make the state `index` of a drawn family. It follows from the number, the family and its seed
 * alone. */
void rmf_check_draw(const struct rmf_check_family *family, uint64_t index,
		    struct rmf_check_state *state);

#endif
