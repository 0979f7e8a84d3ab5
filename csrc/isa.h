/* The loops over many entries or folios. They are compiled once for each instruction set, and one
 * set is chosen at run time. */
#ifndef RMF_ISA_H
#define RMF_ISA_H

#include "populate.h"
#include "memo.h"

struct rmf_isa {
	const char *name;
	rmf_visit_known *visit_known;
	rmf_populate *populate;
};

/* The n-th best instruction set that this processor has and this build knows, or NULL. */
const struct rmf_isa *rmf_isa(unsigned int n);

#endif
