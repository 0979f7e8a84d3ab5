/* The loops for AVX2. setup.py and the Makefile have the compiler flags. */
#ifdef __x86_64__
#define RMF_VISIT_KNOWN rmf_visit_known_avx2
#define RMF_POPULATE rmf_populate_avx2
#define RMF_VECTOR 32
#include "populate_body.h"
#include "memo_body.h"
#endif
