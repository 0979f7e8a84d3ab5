/* rmf_visit_alike() for neon. setup.py and the Makefile have the flags. */
#ifdef __ARM_NEON
#define RMF_VISIT_ALIKE rmf_visit_alike_neon
#define RMF_VECTOR 16
#include "regular_body.h"
#endif
