/* The loops for any processor of the architecture. setup.py and the Makefile have the compiler
 * flags. */
#define RMF_VISIT_KNOWN rmf_visit_known_generic
#define RMF_POPULATE rmf_populate_generic
#define RMF_VECTOR 16
#include "populate_body.h"
#include "memo_body.h"
