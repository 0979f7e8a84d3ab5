/* The loops for NEON; the flags are those of setup.py and the Makefile. */
#ifdef __ARM_NEON
#define RMF_VISIT_SAME rmf_visit_same_neon
#define RMF_POPULATE rmf_populate_neon
#define RMF_VECTOR 16
#include "populate_body.h"
#include "memo_body.h"
#endif
