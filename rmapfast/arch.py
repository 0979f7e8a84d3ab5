"""Architectures: the structural parameters that decide which events an unmap causes.

Presets are looked up by name with :func:`get`; :data:`PRESETS` holds them all.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from rmapfast._names import closest

TLB_KINDS = ("none", "x86", "arm64", "riscv")


@dataclass(frozen=True)
class Arch:
    """An architecture as the unmap path sees it.

    Parameters
    ----------
    name : str
        Name of the preset, or of the variation.
    page_shift : int
        log2 of the base page size in bytes.
    ptrs_per_pte : int
        Entries per page table, a power of two.
    cont_ptes : int
        Entries of a contpte block, a power of two; 1 where the architecture has none.
    tlb : {'none', 'x86', 'arm64', 'riscv'}
        When TLB flushes are deferred and what a flush issues (docs/model.md, section 4).
    flush_ceiling : int
        Pages above which an immediate flush becomes a full one (x86, riscv).
    range_tlbi : bool
        Whether one TLBI can cover a range (arm64, FEAT_TLBIRANGE).
    max_dvm_ops : int
        Without ``range_tlbi``: pages from which a whole-ASID flush replaces single TLBIs (arm64).
    bbml2_noabort : bool
        Whether a contpte block can be unfolded without a TLB flush (arm64).
    page_mapcount : bool
        Whether the kernel keeps a mapcount per page (CONFIG_PAGE_MAPCOUNT).
    mkdirty_soft_dirty : bool
        Whether making a PTE dirty also makes it soft-dirty (x86).
    nr_cpus : int
        CPUs of the machine.
    """

    name: str
    page_shift: int = 12
    ptrs_per_pte: int = 512
    cont_ptes: int = 1
    tlb: str = "none"
    flush_ceiling: int = 33
    range_tlbi: bool = False
    max_dvm_ops: int = 512
    bbml2_noabort: bool = False
    page_mapcount: bool = True
    mkdirty_soft_dirty: bool = False
    nr_cpus: int = 32

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            want = {"int": int, "bool": bool, "str": str}[field.type]
            if type(value) is not want:
                raise TypeError(f"arch.{field.name}: expected {field.type}, got {value!r}")
        if not 10 <= self.page_shift <= 20:
            raise ValueError(f"arch.page_shift: expected 10 to 20, got {self.page_shift}")
        for name, low, high in (("ptrs_per_pte", 2, 8192), ("cont_ptes", 1, self.ptrs_per_pte)):
            value = getattr(self, name)
            if not low <= value <= high or value & (value - 1):
                raise ValueError(f"arch.{name}: expected a power of two from {low} to {high}, got {value}")
        if self.tlb not in TLB_KINDS:
            raise ValueError(f"arch.tlb: expected one of {', '.join(TLB_KINDS)}, got {self.tlb!r}")
        for name in ("flush_ceiling", "max_dvm_ops", "nr_cpus"):
            if not 1 <= getattr(self, name) < 1 << 31:
                raise ValueError(f"arch.{name}: expected 1 or more, got {getattr(self, name)}")

    @property
    def page_size(self) -> int:
        """Bytes in a base page."""
        return 1 << self.page_shift

    def replace(self, **changes) -> Arch:
        """Return a copy with some parameters changed; unknown names raise ``TypeError``."""
        known = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                raise TypeError(f"arch.{name}: no such parameter{closest(name, known)}; known are {', '.join(known)}")
        return dataclasses.replace(self, **changes)


PRESETS = {
    arch.name: arch
    for arch in (
        # Facts, section 3: 4K pages, 512 PTEs per table, deferral if another CPU is in mm_cpumask, ceiling 33.
        Arch(name="x86-64", tlb="x86", mkdirty_soft_dirty=True),
        # Facts, sections 2.6, 2.7 and 3: contpte of 16, deferral always, MAX_DVM_OPS 512. Range TLBI as in
        # ARMv8.4 and later; arm64 has no soft-dirty bit.
        Arch(name="arm64-4k", cont_ptes=16, tlb="arm64", range_tlbi=True),
    )
}


def get(arch: str | Arch) -> Arch:
    """Return the architecture itself, or the preset of that name.

    Raises
    ------
    ValueError
        If no preset has that name; the message lists the valid ones.
    """
    if isinstance(arch, Arch):
        return arch
    if arch in PRESETS:
        return PRESETS[arch]
    raise ValueError(f"arch: no preset {arch!r}{closest(arch, PRESETS)}; known are {', '.join(PRESETS)}")
