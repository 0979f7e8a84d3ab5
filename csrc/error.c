#include "error.h"

const char *rmf_strerror(int error)
{
	switch (error) {
	case 0:
		return "success";
	case RMF_ENOMEM:
		return "out of memory";
	case RMF_EPOPULATION:
		return "the arrays of the population do not fit together";
	case RMF_ELRU:
		return "an LRU list names a folio that does not exist, or more folios than there are";
	case RMF_EFOLIO:
		return "no such folio, VMA or page";
	case RMF_EARCH:
		return "the population was made for another page table size";
	case RMF_ERANGE:
		return "a PTE range lies outside the array, or outside the folio";
	default:
		return "unknown error";
	}
}
