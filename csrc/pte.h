/* The PTE word: the one table of its bits. docs/model.md, section 1.
 *
 * The layout belongs to the model, not to an architecture. Flags are low and the page frame number
 * begins at bit 12, so that "the next page with the same flags" is one addition. arch.h says which
 * architecture writes which bits. */
#ifndef RMF_PTE_H
#define RMF_PTE_H

#include <stdbool.h>
#include <stdint.h>

typedef uint64_t rmf_pte;

enum {
	RMF_PTE_PRESENT = 1 << 0,
	RMF_PTE_WRITE = 1 << 1,
	RMF_PTE_YOUNG = 1 << 2,
	RMF_PTE_DIRTY = 1 << 3,
	RMF_PTE_SOFT_DIRTY = 1 << 4,
	RMF_PTE_UFFD_WP = 1 << 5,
	RMF_PTE_SPECIAL = 1 << 6,
	RMF_PTE_UNUSED = 1 << 7,
	RMF_PTE_CONT = 1 << 8,
	RMF_PTE_PROT = 1 << 9,
	/* in a non-present entry */
	RMF_PTE_EXCLUSIVE = 1 << 6,
};

enum { RMF_PFN_SHIFT = 12, RMF_KIND_SHIFT = 1, RMF_KIND_MASK = 7 };

/* Kinds of entry. The non-present kinds have the value that the word has. */
enum rmf_pte_kind {
	RMF_KIND_NONE = 0,
	RMF_KIND_SWAP = 1,
	RMF_KIND_MIGRATION = 2,
	RMF_KIND_DEVICE_EXCLUSIVE = 3,
	RMF_KIND_DEVICE_PRIVATE = 4,
	RMF_KIND_HWPOISON = 5,
	RMF_KIND_MARKER = 6,
	RMF_KIND_PRESENT = 7,
};

#define RMF_PFN_ONE ((rmf_pte)1 << RMF_PFN_SHIFT)

/* The PFN of the shared zero page, which belongs to no folio. Its entries are SPECIAL. */
#define RMF_ZERO_PFN (((uint64_t)1 << 52) - 1)

static inline bool rmf_pte_none(rmf_pte pte)
{
	return pte == 0;
}

static inline bool rmf_pte_present(rmf_pte pte)
{
	return pte & RMF_PTE_PRESENT;
}

static inline enum rmf_pte_kind rmf_pte_kind(rmf_pte pte)
{
	if (rmf_pte_present(pte))
		return RMF_KIND_PRESENT;
	return (enum rmf_pte_kind)((pte >> RMF_KIND_SHIFT) & RMF_KIND_MASK);
}

/* Device entries are non-present, but each counts as a mapping of its page. */
static inline bool rmf_pte_is_device(rmf_pte pte)
{
	enum rmf_pte_kind kind = rmf_pte_kind(pte);

	return kind == RMF_KIND_DEVICE_EXCLUSIVE || kind == RMF_KIND_DEVICE_PRIVATE;
}

/* The PFN of a present, migration or device entry, or the swap offset of a swap entry. */
static inline uint64_t rmf_pte_pfn(rmf_pte pte)
{
	return pte >> RMF_PFN_SHIFT;
}

static inline rmf_pte rmf_pte_advance(rmf_pte pte, uint64_t nr)
{
	return pte + (nr << RMF_PFN_SHIFT);
}

static inline rmf_pte rmf_mk_nonpresent(enum rmf_pte_kind kind, uint64_t value, rmf_pte flags)
{
	return (value << RMF_PFN_SHIFT) | ((rmf_pte)kind << RMF_KIND_SHIFT) | flags;
}

static inline rmf_pte rmf_mk_marker(void)
{
	return rmf_mk_nonpresent(RMF_KIND_MARKER, 0, RMF_PTE_UFFD_WP);
}

#endif
