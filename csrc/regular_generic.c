/* rmf_visit_alike() for any processor of the architecture. setup.py and the Makefile have the flags. */
#define RMF_VISIT_ALIKE rmf_visit_alike_generic
#define RMF_VECTOR 16
#include "regular_body.h"
