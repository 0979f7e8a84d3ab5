/* The loops for NEON. setup.py and the Makefile have the compiler flags. */
#ifdef __ARM_NEON
#define RMF_VISIT_KNOWN rmf_visit_known_neon
#define RMF_POPULATE rmf_populate_neon
#define RMF_VECTOR 16
#include "populate_body.h"
#include "memo_body.h"
#endif
