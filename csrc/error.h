/* Errors: a negative code, and for RMF_EINVAL what is wrong. 0 is success. */
#ifndef RMF_ERROR_H
#define RMF_ERROR_H

#include <stdint.h>

enum rmf_error {
	RMF_ENOMEM = -1,
	RMF_EINVAL = -2, /* an argument breaks a rule, which a struct rmf_fault names */
};

/* What is wrong: an element of an array, and the rule that it breaks. */
struct rmf_fault {
	const char *array; /* as the caller of the Python package knows it */
	const char *rule;
	uint64_t index;
};

static inline int rmf_fault_at(struct rmf_fault *fault, const char *array, uint64_t index,
			       const char *rule)
{
	*fault = (struct rmf_fault){ array, rule, index };
	return RMF_EINVAL;
}

#endif
