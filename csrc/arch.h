/* An architecture as the unmap path sees it. The fields are those of rmapfast.Arch, which documents
 * them. */
#ifndef RMF_ARCH_H
#define RMF_ARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "pte.h"

enum rmf_tlb_kind {
	RMF_TLB_NONE = 0,
	RMF_TLB_X86 = 1,
	RMF_TLB_ARM64 = 2,
	RMF_TLB_RISCV = 3,
};

struct rmf_arch {
	uint32_t ptrs_per_pte;
	uint32_t cont_ptes; /* 1 means no contpte */
	enum rmf_tlb_kind tlb;
	uint32_t flush_ceiling;
	uint32_t max_dvm_ops;
	bool range_tlbi;
	bool bbml2_noabort;
	bool page_mapcount;
	bool mkdirty_soft_dirty;
	bool invlpgb; /* only with RMF_TLB_X86 */
};

/* Models pte_mkdirty(), arch/x86/include/asm/pgtable.h and others, Linux v7.0. Some architectures
 * set soft-dirty too. */
static inline rmf_pte rmf_pte_mkdirty(const struct rmf_arch *arch, rmf_pte pte)
{
	return pte | RMF_PTE_DIRTY | (arch->mkdirty_soft_dirty ? RMF_PTE_SOFT_DIRTY : 0);
}

#endif
