"""Types of the compiled module; _core.pyx has the documentation."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from rmapfast.arch import Arch
from rmapfast.policy import Policy
from rmapfast.population import Population
from rmapfast.spec import PopulationSpec
from rmapfast.swap import Swap

PTE_PRESENT: Final[int]
PTE_WRITE: Final[int]
PTE_YOUNG: Final[int]
PTE_DIRTY: Final[int]
PTE_SOFT_DIRTY: Final[int]
PTE_UFFD_WP: Final[int]
PTE_SPECIAL: Final[int]
PTE_UNUSED: Final[int]
PTE_CONT: Final[int]
PTE_PROT: Final[int]
PTE_EXCLUSIVE: Final[int]
PTE_MARKER_WORD: Final[int]
ZERO_PFN: Final[int]
PFN_SHIFT: Final[int]
KIND_SHIFT: Final[int]
KIND_MASK: Final[int]
VMA_LOCKED: Final[int]
VMA_UFFD_WP: Final[int]
VMA_UFFD_ARMED: Final[int]
VMA_DROPPABLE: Final[int]
VMA_EXEC: Final[int]
VMA_SHARED: Final[int]
VMA_ANON: Final[int]
TABLE_PTE: Final[int]
TABLE_ABSENT: Final[int]
TABLE_PMD_LEAF: Final[int]
FOLIO_ANON: Final[int]
FOLIO_SWAPBACKED: Final[int]
FOLIO_SWAPCACHE: Final[int]
FOLIO_DIRTY: Final[int]
FOLIO_MLOCKED: Final[int]
FOLIO_REFERENCED: Final[int]
FOLIO_ACTIVE: Final[int]
FOLIO_PINNED: Final[int]
FOLIO_UNEVICTABLE: Final[int]
FOLIO_YOUNG: Final[int]
FOLIO_PARTIALLY_MAPPED: Final[int]
FOLIO_LOCKED: Final[int]
FOLIO_EXCLUSIVE: Final[int]
FOLIO_PAGE_MAPCOUNTS: Final[int]
FOLIO_PAGE_FLAGS: Final[int]
FOLIO_FREED: Final[int]
FOLIO_MAYBE_SHARED: Final[int]
FOLIO_WORKINGSET: Final[int]
FOLIO_REFS_SHIFT: Final[int]
FOLIO_REFS_MASK: Final[int]
FOLIO_GEN_SHIFT: Final[int]
FOLIO_GEN_MASK: Final[int]
PAGE_EXCLUSIVE: Final[int]
PAGE_HWPOISON: Final[int]
PAGE_SWAP_DUP_FAIL: Final[int]
PAGE_ZERO: Final[int]
MM_OUTSIDE_MEMCG: Final[int]
MAX_ORDER: Final[int]
LAYOUT_BLOCK: Final[int]

COMPONENTS: Final[tuple[str, ...]]
EVENTS: Final[tuple[tuple[str, str, str, bool], ...]]
RATES: Final[tuple[str, ...]]
EVENT_NAMES: Final[tuple[str, ...]]
FPB_FLAGS: Final[dict[str, int]]
TTU_FLAGS: Final[dict[str, int]]
TRACE_KINDS: Final[tuple[str, ...]]
INVARIANTS: Final[tuple[str, ...]]
CHECK_KINDS: Final[tuple[str, ...]]
CHECK_LEVELS: Final[tuple[str, ...]]
CLAIMS: Final[tuple[str, ...]]

def isas() -> tuple[str, ...]: ...
def isa() -> str: ...
def census(population: Population) -> tuple[dict[int, int], list[int], int, bool, int]: ...
def listed_pages(population: Population) -> int: ...
def empty_arrays(wanted: Mapping[str, tuple[tuple[int, ...], Any]]) -> dict[str, npt.NDArray[Any]]: ...
def zero_arrays(wanted: Mapping[str, tuple[tuple[int, ...], Any]]) -> dict[str, npt.NDArray[Any]]: ...
def check_population(population: Population, arch: Arch) -> None: ...
def described_orders(spec: PopulationSpec, page: int | None = None) -> list[int]: ...
def described_fill(spec: PopulationSpec) -> int: ...
def populate(spec: PopulationSpec, first: int, end: int, arrays: dict[str, npt.NDArray[Any]]) -> tuple[int, int]: ...
def folio_pte_batch_flags(
    ptes: npt.NDArray[np.uint64],
    start: int,
    max_nr: int,
    folio_pfn: int,
    folio_pages: int,
    flags: int,
    cont_ptes: int,
    mkdirty_soft_dirty: bool,
) -> tuple[int, int, int, int]: ...

@final
class Run:
    def __init__(
        self,
        population: Population,
        policy: Policy,
        arch: Arch,
        *,
        guard: str = "none",
        trace: bool = False,
        swap: Swap | None = None,
        fast: bool = False,
        room: str | None = None,
        max_ptes_none: int | None = None,
        checked: bool = False,
        ask_twice: bool = False,
    ) -> None: ...
    def try_to_unmap_one(self, folio: int, vma: int, ttu: int) -> bool: ...
    def folio_referenced_one(self, folio: int, vma: int) -> tuple[bool, int, int, int]: ...
    def folio_referenced(self, folio: int) -> tuple[int, int]: ...
    def page_vma_mapped_walk(self, folio: int, vma: int, *, sync: bool = False, migration: bool = False) -> None: ...
    def shrink_groups(
        self, folios: npt.NDArray[np.uint32], group_start: npt.NDArray[np.uint64], first: int, budget: int
    ) -> int: ...
    def reclaim_start(
        self,
        inactive: npt.NDArray[np.uint32],
        nr_inactive: int,
        active: npt.NDArray[np.uint32],
        nr_active: int,
        target_pages: int,
        *,
        lru_gen: tuple[int, int, int] | None = None,
        page_shift: int | None = None,
    ) -> None: ...
    def reclaim_step(self, budget: int) -> bool: ...
    def share_out(self, workers: int, pages: int) -> str | None: ...
    @property
    def ahead_is_due(self) -> bool: ...
    def ahead_begin(self) -> None: ...
    def ahead_visit(self, worker: int) -> None: ...
    def ahead_end(self) -> None: ...
    def ahead_finish(self) -> None: ...
    def reclaim_finish(self) -> tuple[int, int, int]: ...
    def madvise_start(
        self, inactive: npt.NDArray[np.uint32], nr_inactive: int, active: npt.NDArray[np.uint32], nr_active: int
    ) -> None: ...
    def madvise(self, action: str, mm: int, start: int, end: int, owner: bool = True) -> None: ...
    def madvise_step(self, budget: int) -> bool: ...
    @property
    def madvise_ret(self) -> int: ...
    def madvise_finish(self) -> None: ...
    @property
    def folio_capacity(self) -> int: ...
    def arrays(self) -> dict[str, npt.NDArray[Any]]: ...
    @property
    def deferred(self) -> npt.NDArray[np.uint32]: ...
    @property
    def swap_used(self) -> int: ...
    @property
    def freed_pages(self) -> int: ...
    @property
    def lists(self) -> tuple[tuple[int, int], tuple[int, int]]: ...
    @property
    def events(self) -> npt.NDArray[np.uint64]: ...
    @property
    def referenced_events(self) -> npt.NDArray[np.uint64]: ...
    @property
    def batch_lengths(self) -> dict[int, int]: ...
    @property
    def isolated(self) -> dict[int, int]: ...
    @property
    def looked_around(self) -> dict[int, int]: ...
    @property
    def writable(self) -> bool: ...
    @property
    def mapped_stat(self) -> int: ...
    @property
    def trace_entries(self) -> list[tuple[int, int, int]]: ...

@final
class CheckScope:
    def __init__(self, max_pages: int, all_bits: bool, unreachable: bool, drawn: int, seed: int) -> None: ...
    def __len__(self) -> int: ...
    def family(self, family: int) -> dict[str, Any]: ...
    def state(self, family: int, index: int) -> dict[str, Any] | None: ...
    def counted_bits(
        self, family: int, first: int, end: int, policy: Policy, arch: Arch, claim: str = "right"
    ) -> tuple[int, int, int]: ...
    def run(
        self, family: int, first: int, end: int, oracle: Policy, policies: Sequence[Policy], arch: Arch
    ) -> tuple[int, list[tuple[int, dict[str, tuple[int, int, bool]], dict[int, int]]]]: ...

@final
class Stream:
    def __init__(
        self,
        spec: PopulationSpec,
        policy: Policy,
        arch: Arch,
        *,
        swap: bool,
        cpumask: int,
        fast: bool,
        cont_ptes: int | None = None,
    ) -> None: ...
    def visit(
        self, first: int, end: int, number: int, passes: int = 1, limit: int | None = None
    ) -> list[tuple[int, npt.NDArray[np.uint8], npt.NDArray[np.uint64], npt.NDArray[np.uint64], dict[int, int]]]: ...

@final
class Loop:
    def __init__(self, arch: Arch, policy: Policy, folios: int, pages: int, target_pages: int) -> None: ...
    def account(self, log: npt.NDArray[np.uint8]) -> int: ...
    def goes_on(self) -> bool: ...
    def turns_to_active(self) -> bool: ...
    @property
    def isolated(self) -> dict[int, int]: ...
    @property
    def freed_pages(self) -> int: ...
    @property
    def events(self) -> npt.NDArray[np.uint64]: ...
