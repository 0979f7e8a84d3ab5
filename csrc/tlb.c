#include "tlb.h"

static const uint64_t SELF = 1; /* CPU 0 reclaims */
static const uint64_t ALL_CPUS = UINT64_MAX;

/* How many other CPUs are in the mask. */
static uint64_t others(uint64_t cpumask)
{
	return (uint64_t)__builtin_popcountll(cpumask & ~SELF);
}

uint64_t rmf_range_ops(const struct rmf_arch *arch, uint64_t nr, uint64_t *ranged)
{
	*ranged = 0;
	if (!arch->range_tlbi)
		return nr >= arch->max_dvm_ops ? 1 : nr;
	if (nr > (uint64_t)1 << 21)
		return 1;
	for (int scale = 3; scale >= 0; scale--) {
		int shift = 5 * scale + 1;
		uint64_t num = nr >> shift;

		if (num > 32)
			num = 32;
		*ranged += num > 0;
		nr -= num << shift;
	}
	return *ranged + nr;
}

/* The CPUs that an arm64 TLBI for the mm reaches: all, or CPU 0 alone. Models the proposal "arm64:
 * tlbflush: Don't broadcast if mm was only active on local cpu". */
static uint64_t tlbi_reaches(const struct rmf_run *run, uint32_t mm)
{
	return run->policy.local_tlbi && run->pop.mm_cpumask[mm] == SELF ? SELF : ALL_CPUS;
}

/* Count the TLBIs of arm64 for nr pages of the mm. */
static void count_range_ops(struct rmf_run *run, uint32_t mm, uint64_t nr)
{
	uint64_t ranged, ops = rmf_range_ops(&run->arch, nr, &ranged);

	if (tlbi_reaches(run, mm) == SELF) {
		rmf_count(run, RMF_TLBI_LOCAL, ops);
		return;
	}
	rmf_count(run, RMF_TLBI_OPS, ops);
	rmf_count(run, RMF_TLBI_RANGE_OPS, ranged);
}

/* Count nr barriers of arm64 that wait for TLBIs which reach these CPUs. */
static void count_barriers(struct rmf_run *run, uint64_t reached, uint64_t nr)
{
	rmf_count(run, reached == SELF ? RMF_DSB_NSH : RMF_DSB_OPS, nr);
}

/* Models arch_tlbbatch_should_defer(), arch/x86/include/asm/tlbflush.h and others, Linux v7.0. */
static bool should_defer(const struct rmf_run *run, uint32_t mm)
{
	switch (run->arch.tlb) {
	case RMF_TLB_X86:
		return others(run->pop.mm_cpumask[mm]) > 0;
	case RMF_TLB_ARM64:
	case RMF_TLB_RISCV:
		return true;
	case RMF_TLB_NONE:
		break;
	}
	return false;
}

/* Count nr flushes on the other CPUs of the mask: an IPI to each CPU, or INVLPGB and TLBSYNC, which
 * no CPU has to answer. */
static void flush_others(struct rmf_run *run, uint64_t cpumask, uint64_t nr)
{
	if (!run->arch.invlpgb) {
		rmf_count(run, RMF_IPIS, nr * others(cpumask));
	} else if (others(cpumask)) {
		rmf_count(run, RMF_TLBI_OPS, nr);
		rmf_count(run, RMF_DSB_OPS, nr);
	}
}

/* Flush nr pages of the mm now, on each CPU that runs it. */
static void flush_now(struct rmf_run *run, uint32_t mm, uint64_t nr)
{
	uint64_t cpumask = run->pop.mm_cpumask[mm];

	if (run->arch.tlb == RMF_TLB_ARM64) {
		rmf_count(run, RMF_DSB_ISHST_OPS, 1);
		count_range_ops(run, mm, nr);
		count_barriers(run, tlbi_reaches(run, mm), 1);
		return;
	}
	if (cpumask & SELF)
		rmf_count(run, RMF_TLBI_OPS, nr > run->arch.flush_ceiling ? 1 : nr);
	flush_others(run, cpumask, 1);
}

void rmf_tlb_flush_range(struct rmf_run *run, uint32_t mm, uint64_t vpn, uint64_t nr)
{
	rmf_count(run, RMF_TLB_IMMEDIATE, 1);
	rmf_trace_add(run, RMF_TRACE_TLB_IMMEDIATE, vpn, (int64_t)nr);
	flush_now(run, mm, nr);
}

void rmf_tlb_flush_cleared(struct rmf_run *run, uint32_t mm, bool batch_flush, rmf_pte pte,
			   uint64_t vpn, uint64_t nr)
{
	if (!batch_flush || !should_defer(run, mm)) {
		rmf_tlb_flush_range(run, mm, vpn, nr);
		return;
	}
	rmf_count(run, RMF_TLB_DEFERRED, 1);
	rmf_trace_add(run, RMF_TRACE_TLB_DEFERRED, vpn, (int64_t)nr);
	run->flush_required = true;
	if (pte & RMF_PTE_DIRTY)
		run->tlb_writable = true;
	if (run->arch.tlb == RMF_TLB_ARM64) {
		rmf_count(run, RMF_DSB_ISHST_OPS, 1);
		count_range_ops(run, mm, nr);
		/* one barrier waits for all, so one broadcast among them makes it wait for all CPUs
		 */
		run->tlb_cpumask |= tlbi_reaches(run, mm);
	} else {
		/* the range is ignored, because the flush will be a full one */
		run->tlb_cpumask |= run->pop.mm_cpumask[mm];
	}
}

void rmf_tlb_count_flushes(struct rmf_run *run, uint64_t cpumask, uint64_t nr)
{
	rmf_count(run, RMF_TLB_FLUSHES, nr);
	if (run->arch.tlb == RMF_TLB_ARM64) {
		count_barriers(run, cpumask, nr);
		return;
	}
	/* the broadcast reaches the sending CPU too */
	if (!run->arch.invlpgb || !others(cpumask))
		rmf_count(run, RMF_TLBI_OPS, nr * (cpumask & SELF));
	flush_others(run, cpumask, nr);
}

void rmf_try_to_unmap_flush(struct rmf_run *run)
{
	if (!run->flush_required)
		return;
	rmf_tlb_count_flushes(run, run->tlb_cpumask, 1);
	run->flush_required = false;
	run->tlb_writable = false;
	run->tlb_cpumask = 0;
}

void rmf_try_to_unmap_flush_dirty(struct rmf_run *run)
{
	if (run->tlb_writable)
		rmf_try_to_unmap_flush(run);
}

void rmf_tlb_flush_contpte_block(struct rmf_run *run, uint32_t mm)
{
	if (!run->arch.bbml2_noabort)
		flush_now(run, mm, run->arch.cont_ptes);
}

void rmf_tlb_flush_young(struct rmf_run *run, uint32_t mm, uint64_t nr)
{
	if (run->arch.tlb != RMF_TLB_ARM64)
		return;
	rmf_count(run, RMF_YOUNG_FLUSHES, 1);
	count_range_ops(run, mm, nr);
}
