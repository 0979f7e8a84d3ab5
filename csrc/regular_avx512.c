/* rmf_visit_alike() for avx512. setup.py and the Makefile have the flags. */
#ifdef __x86_64__
#define RMF_VISIT_ALIKE rmf_visit_alike_avx512
#define RMF_VECTOR 64
#include "regular_body.h"
#endif
