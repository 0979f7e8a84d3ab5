/* rmf_visit_alike() for avx2. setup.py and the Makefile have the flags. */
#ifdef __x86_64__
#define RMF_VISIT_ALIKE rmf_visit_alike_avx2
#define RMF_VECTOR 32
#include "regular_body.h"
#endif
