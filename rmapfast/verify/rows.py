"""What a row of recorded counts stands for: the name of a row, the population of its workload, and its reclaim.

A name such as ``x86_72_order_4_one_of_32_pages_young`` has the machine, the kernel and what is special about the
mapping; the tables are described in measured-vm.toml and measured-mglru.toml.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import rmapfast._core as _core
from rmapfast import arch as _arch
from rmapfast import policy as _policy
from rmapfast import pte, reference
from rmapfast.arch import Arch
from rmapfast.editions import preset_of
from rmapfast.events import EVENT_NAMES, Events
from rmapfast.flags import FolioFlag, TableState, folio_generation
from rmapfast.policy import Policy
from rmapfast.population import ARRAYS, Population
from rmapfast.swap import Swap

# The recorded reclaims of whole mappings: 51M of 64M.
_MAPPED, _ASKED = 64 << 20, 51 << 20
# Anonymous pages of the process that maps the file. 33 to 111 of them make the one recorded row with swap space exact.
_OWN_PAGES = 96
# The swap space of rows with any: more than they use.
_SWAP = Swap(1 << 20)
# nr_pages_mapped of a folio that a PMD maps.
_ENTIRELY_MAPPED = 0x800000

_HEAD = re.compile(
    r"(?P<machine>x86|arm64_16k|arm64|ppc64_64k|s390x|riscv64)_(?P<major>[67])(?P<minor>\d{1,2})_(?P<rest>.+)"
)
_ARCHES = {"x86": "x86-64", "arm64": "arm64-4k"}
# What the rest of a name is made of. The longer forms come first.
_PARTS = re.compile(
    r"order_(?P<order>\d+)|holes_k_(?P<holes>\d+)|one_of_(?P<one_of>\d+)_pages_young|"
    r"page_(?P<page>\d+)_of_(?P<of>\d+)_young|(?P<two>two_processes)|(?P<both>both_young)|(?P<second>second_young)|"
    r"(?P<kind>lazyfree|anon_swap)|(?P<pmd>pmd_mapped)|(?P<uffd>uffd_wp)(?:_vma)?|(?P<touched>touched)|"
    r"(?P<swap>with_swap)|(?P<never>stats_never_flushed)|(?P<flushed>stats_flushed)|(?P<young>young|allyoung)|"
    r"shifted_(?P<shift>\d+)|fault_around_(?P<around>2M)"
)
_KINDS = {"lazyfree": "lazyfree", "anon_swap": "anon"}


@dataclass(frozen=True)
class Row:
    """The workload of a row.

    Parameters
    ----------
    name : str
    arch : Arch
    policy : Policy
        The edition of the kernel.
    order : int
        Of every folio.
    parts : dict of str to str
        What else the name says, by the names of the groups of its pattern.
    classic : bool
        Whether the classic LRU ran, not MGLRU.
    """

    name: str
    arch: Arch
    policy: Policy
    order: int
    parts: dict[str, str] = field(default_factory=dict)
    classic: bool = False

    @property
    def kind(self) -> str:
        """Kind of the folios."""
        return _KINDS.get(self.parts.get("kind", ""), "file")

    @property
    def young(self) -> bool:
        """Whether any entry is young: MADV_FREE makes entries old, and nothing touched them afterwards."""
        wanted = ("young", "one_of", "page", "both", "second")
        return self.kind != "lazyfree" and any(name in self.parts for name in wanted)

    @property
    def samples(self) -> bool:
        """Whether the kernel runs DAMON_STAT, which makes a few old folios referenced: Debian's from 7.2 on."""
        return self.policy.name in ("v7.2", "v7.3") and self.young

    @property
    def swap(self) -> Swap | None:
        """The swap device of the reclaim."""
        return _SWAP if self.kind == "anon" or "swap" in self.parts else None

    @property
    def lru_stats(self) -> tuple[str, ...]:
        """What the statistics of the memory cgroup may have shown; two states where the name does not say."""
        if "flushed" in self.parts or "never" in self.parts:
            return ("flushed" if "flushed" in self.parts else "unflushed",)
        return ("unflushed", "flushed") if self.classic else ("unflushed",)

    def history(self) -> str:
        """What happened to the folios before the reclaim (docs/kernel-rules.md, section 9.8)."""
        if self.kind != "file":
            return ""
        steps = ["faulted" if self.order >= 9 else "written"]
        if "touched" not in self.parts:
            steps.append("populated")
        if "young" not in self.parts and "both" not in self.parts:
            steps.append("cleared")
        return ",".join(steps)


def parse_row(name: str, *, classic: bool = False) -> Row:
    """Return what the name of a row stands for.

    Raises
    ------
    ValueError
        If the name is not understood.
    """
    head = _HEAD.fullmatch(name)
    if not head:
        raise ValueError("the name is not understood: expected it to begin like x86_72_ or arm64_612_")
    parts: dict[str, str] = {}
    rest = head["rest"]
    while rest:
        match = _PARTS.match(rest)
        if not match:
            raise ValueError(f"the name is not understood from {rest!r} on")
        parts |= {group: text for group, text in match.groupdict().items() if text is not None}
        rest = rest[match.end() :].removeprefix("_")
    order = int(parts.pop("order", "9"))
    if order > 11:
        raise ValueError(f"expected an order up to 11, got {order}")
    policy = _policy.get(preset_of(f"{head['major']}.{head['minor']}"))
    arch = _arch.get(_ARCHES.get(head["machine"], head["machine"].replace("_", "-")))
    return Row(name, arch, policy, order, parts, classic)


def mapping(row: Row, size: int = _MAPPED) -> Population:
    """Return the mapping of a row, with old entries unless the name says more."""
    parts = row.parts
    options: dict[str, Any] = {"holes": f"every:{parts['holes']}"} if "holes" in parts else {}
    if "uffd" in parts:
        options["uffd_wp_vma"] = True
    if "shift" in parts:
        options["phase"] = int(parts["shift"]) >> row.arch.page_shift
    if row.policy.name == "v6.12":  # a fault there maps a window of the file, later ones a whole large folio
        options["fault_around"] = "2MiB" if "around" in parts else "64KiB"
    population = Population.synthetic(
        size,
        arch=row.arch,
        kind=row.kind,
        orders=row.order,
        sharing=2 if "two" in parts else 1,
        young=1.0 if row.kind != "lazyfree" and ("young" in parts or "both" in parts) else 0.0,
        dirty=0.0 if row.kind != "anon" else None,
        history=row.history(),
        **options,
    )
    entries = population.ptes.reshape(2 if "two" in parts else 1, -1)
    young = np.zeros(entries.shape[1], np.bool_)
    if "one_of" in parts:
        young[:: int(parts["one_of"])] = True
    if "page" in parts:
        young[int(parts["page"]) :: int(parts["of"])] = True
    entries[:, young & (entries[0] != 0)] |= np.uint64(pte.YOUNG)
    if "second" in parts:
        entries[1, entries[1] != 0] |= np.uint64(pte.YOUNG)
    if "pmd" in parts:
        _map_by_pmds(row, population)
    if row.classic and row.kind == "file":
        _list_as_populated(row, population)
    if "swap" in parts:
        _add_own_pages(population)
    return population


def _map_by_pmds(row: Row, population: Population) -> None:
    """Put a PMD leaf in place of each page table."""
    size = population.ptrs_per_pte
    population.table_state[:] = TableState.PMD_LEAF
    for first in range(0, len(population.ptes), size):
        population.ptes[first + 1 : first + size] = 0
        population.ptes[first] &= ~np.uint64(pte.CONT)
    population.folio_refcount[:] = 1 + (size if row.kind == "file" else 0)  # the page cache's
    population.folio_mapcount[:] = population.folio_entire_mapcount[:] = 1
    population.folio_nr_pages_mapped[:] = _ENTIRELY_MAPPED


def _add_own_pages(population: Population) -> None:
    """Add the anonymous pages of the process itself: with swap they are evictable too, but never the next to go."""
    arrays = {name: getattr(population, name) for name in ARRAYS}
    last = int(population.folio_pfn[-1]) + (1 << int(population.folio_order[-1]))
    numbers = np.arange(len(population.folio_pfn), len(population.folio_pfn) + _OWN_PAGES)
    added: dict[str, Any] = {
        "folio_pfn": last + np.arange(_OWN_PAGES),
        "folio_flags": np.full(_OWN_PAGES, FolioFlag.ANON | FolioFlag.SWAPBACKED | FolioFlag.EXCLUSIVE),
        "folio_refcount": np.ones(_OWN_PAGES),
        "rmap_start": np.full(_OWN_PAGES, population.rmap_start[-1]),
        "lru_inactive": numbers,
    }
    for name in arrays:
        if name.startswith("folio_") or name in added:
            more = added.get(name, np.zeros(_OWN_PAGES))
            setattr(population, name, np.concatenate([arrays[name], np.asarray(more, arrays[name].dtype)]))


def _list_as_populated(row: Row, population: Population) -> None:
    """Put file folios where MADV_POPULATE_READ leaves them: one access marks a folio, the next makes it active."""
    if row.order:
        population.lru_active, population.lru_inactive = population.lru_inactive, population.lru_active
        population.folio_flags |= FolioFlag.ACTIVE
    elif "young" in row.parts:  # clear_refs was not written
        population.folio_flags |= FolioFlag.REFERENCED


@dataclass(frozen=True)
class Counted:
    """What the reclaim of a row counted.

    Parameters
    ----------
    events, referenced : Events
    lengths, looked_around : dict of int to int
        Unmap steps by the entries that they cleared, and look-arounds by those that they tested.
    trace : list of (str, int, int)
        What happened, as :class:`rmapfast.reference.Record` has it.
    generations : list of int
        Pages of type file in each generation before, the oldest first.
    """

    events: Events
    referenced: Events
    lengths: dict[int, int]
    looked_around: dict[int, int]
    trace: list[tuple[str, int, int]]
    generations: list[int]


def reclaim_row(
    row: Row, lru_stats: str = "unflushed", engine: str = "c", start_generations: list[int] | None = None
) -> Counted:
    """Reclaim the mapping of a row as its workload did.

    Parameters
    ----------
    row : Row
    lru_stats : str
        One of ``row.lru_stats``.
    engine : {'c', 'reference'}
    start_generations : list of int, optional
        Pages of type file in the generations, as recorded. Folios that are in none of them wait in the batch of another
        CPU, and are on no list.
    """
    population = mapping(row)
    population.settle_generations(None if row.classic else row.policy.mglru)
    if start_generations and row.kind == "lazyfree" and sum(start_generations) < population.nr_pages:
        listed = sum(start_generations) >> row.order
        population.folio_flags[population.lru_inactive[listed:]] &= ~np.uint32(
            _core.FOLIO_GEN_MASK << _core.FOLIO_GEN_SHIFT
        )
        population.lru_inactive = population.lru_inactive[:listed].copy()
    pages = np.left_shift(1, population.folio_order, dtype=np.int64)
    of_type = (population.folio_flags & FolioFlag.SWAPBACKED) == 0
    generation = folio_generation(population.folio_flags)
    generations = [int(pages[of_type & (generation == 1 + index)].sum()) for index in range(4)]
    return replace(_reclaimed(row, population, lru_stats, engine), generations=generations)


def _reclaimed(row: Row, population: Population, lru_stats: str, engine: str) -> Counted:
    target = _ASKED // row.arch.page_size
    if engine == "reference":
        record = reference.reclaim(
            population,
            target,
            policy=row.policy,
            arch=row.arch,
            swap=row.swap,
            lru="classic" if row.classic else "mglru",
            lru_stats=lru_stats,
        )
        events, referenced = (
            Events([counts[name] for name in EVENT_NAMES]) for counts in (record.events, record.referenced_events)
        )
        return Counted(
            events, referenced, dict(record.batch_lengths), dict(record.looked_around), record.trace, generations=[]
        )
    run = _core.Run(population, row.policy, row.arch, swap=row.swap, room="reclaim", trace=True)
    rings = [np.zeros(run.folio_capacity, np.uint32) for _ in range(2)]
    lists = population.lru_inactive, population.lru_active
    for ring, lru in zip(rings, lists, strict=True):
        ring[: len(lru)] = lru
    state = population.lru_gen
    run.reclaim_start(
        rings[0],
        len(lists[0]),
        rings[1],
        len(lists[1]),
        target,
        lru_gen=None if row.classic else (state.max_seq, state.min_seq_anon, state.min_seq_file),
        page_shift=row.arch.page_shift if lru_stats == "flushed" else None,
    )
    while run.reclaim_step(1 << 30):
        pass
    trace = [(_core.TRACE_KINDS[kind], a, b) for kind, a, b in run.trace_entries]
    return Counted(Events(run.events), Events(run.referenced_events), run.batch_lengths, run.looked_around, trace, [])
