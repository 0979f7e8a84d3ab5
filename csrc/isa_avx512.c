/* The loops for AVX-512. setup.py and the Makefile have the compiler flags. */
#ifdef __x86_64__
#define RMF_VISIT_KNOWN rmf_visit_known_avx512
#define RMF_POPULATE rmf_populate_avx512
#define RMF_VECTOR 64
#include "populate_body.h"
#include "memo_body.h"
#endif
