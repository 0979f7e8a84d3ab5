/* Error codes: negative, 0 is success. */
#ifndef RMF_ERROR_H
#define RMF_ERROR_H

enum {
	RMF_ENOMEM = -1,
	/* -10 to -19: arguments */
	RMF_EPOPULATION = -10,
	RMF_ELRU = -11,
	RMF_EFOLIO = -12,
	RMF_EARCH = -13,
	RMF_ERANGE = -14,
};

/* What the code means, in one line. */
const char *rmf_strerror(int error);

#endif
