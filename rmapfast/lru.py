"""The LRU lists of a population: which kind they are, and the state of the multi-gen LRU at the start of a run.

A folio's generation and marks are bits of ``Population.folio_flags`` (:mod:`rmapfast.flags`). Folios on a list without
a generation get the one in which their history puts them (docs/kernel-rules.md, section 9.8).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rmapfast.flags import FolioFlag, folio_accesses, folio_generation, with_accesses, with_generation
from rmapfast.support import checked_integer, closest

LRUS = ("classic", "mglru")
LRU_STATS = ("unflushed", "flushed")
MAX_NR_GENS = 4
# What may have happened to folios before a run, in any order and number.
HISTORY = {
    "written": "write(2) or read-ahead put them into the page cache",
    "faulted": "page faults made them, or read them from disk",
    "populated": "MADV_POPULATE_READ touched each of their mappings",
    "read": "read(2) touched them once",
    "freed": "MADV_FREE was called on them",
    "cleared": "clear_refs was written, which takes REFERENCED from mapped folios",
}
# Of a population that does not say, by folio kind (the order of rmapfast.flags.FOLIO_KINDS).
DEFAULT_HISTORY = (("written",), ("written",), ("faulted",), ("faulted", "freed"))

_FLAGS = npt.NDArray[np.uint32]
_BOOL = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LruGen:
    """Sequence numbers of the generations. The defaults are those of a memory cgroup that was never reclaimed.

    Parameters
    ----------
    max_seq : int
        Of the youngest generation of both types.
    min_seq_anon, min_seq_file : int
        Of the oldest generation of a type; 1 to 3 below `max_seq`. Folios that are not swapbacked are of type file.

    Raises
    ------
    TypeError, ValueError
        If a number is out of range; the message names it.
    """

    max_seq: int = 3
    min_seq_anon: int = 0
    min_seq_file: int = 0

    def __post_init__(self) -> None:
        """Check that each type has 2 to 4 generations."""
        checked_integer("lru_gen.max_seq", self.max_seq, 1, 1 << 62)
        for name in ("min_seq_anon", "min_seq_file"):
            lowest = max(0, self.max_seq - MAX_NR_GENS + 1)
            checked_integer(f"lru_gen.{name}", getattr(self, name), lowest, self.max_seq - 1)


def checked_history(history: str) -> tuple[str, ...]:
    """Return the steps of a history such as ``"written,populated,cleared"``; none for an empty text.

    Raises
    ------
    TypeError, ValueError
        If it is not a text, or names no such step.
    """
    if not isinstance(history, str):
        raise TypeError(f'history: expected steps such as "written,populated", got {history!r}')
    steps = tuple(step.strip() for step in history.split(",")) if history.strip() else ()
    for step in steps:
        if step not in HISTORY:
            raise ValueError(f"history: no such step {step!r}{closest(step, HISTORY)}; known are {', '.join(HISTORY)}")
    return steps


class _Folios:
    """Listed folios that have no generation yet, while their history passes over them."""

    def __init__(self, flags: _FLAGS, mappings: npt.NDArray[np.int64], edition: str, state: LruGen):
        self.flags, self.mappings, self.edition, self.state = flags, mappings, edition, state

    def has(self, flag: FolioFlag) -> _BOOL:
        """Which folios have a flag."""
        found: _BOOL = (self.flags & np.uint32(flag)) != 0
        return found

    def put(self, flag: FolioFlag, where: _BOOL, value: bool = True) -> None:
        """Set or clear a flag of some folios."""
        bit = np.uint32(flag)
        self.flags[where] = self.flags[where] | bit if value else self.flags[where] & ~bit

    def add(self) -> None:
        """Put the folios on a list: ``lru_gen_add_folio()`` (docs/kernel-rules.md, section 9.5)."""
        state, swapbacked, active = self.state, self.has(FolioFlag.SWAPBACKED), self.has(FolioFlag.ACTIVE)
        young = swapbacked & ~self.has(FolioFlag.SWAPCACHE)
        oldest = np.where(swapbacked, state.min_seq_anon, state.min_seq_file)
        if self.edition == "v6.12":
            old = np.where(oldest + 2 >= state.max_seq, oldest, oldest + 1)
            seq = np.where(active, state.max_seq, np.where(young, state.max_seq - 1, old))
            self.put(FolioFlag.REFERENCED, active, False)
            self.flags[active] = with_accesses(self.flags[active], 0)
        else:
            workingset = self.has(FolioFlag.WORKINGSET)
            later = workingset | (self.has(FolioFlag.REFERENCED) & (self.edition != "v7.0"))
            old = state.max_seq - 3 + later
            seq = np.where(active, state.max_seq - 1 + workingset, np.where(young, state.max_seq - 1, old))
        self.put(FolioFlag.ACTIVE, active, False)
        self.flags[:] = with_generation(self.flags, np.maximum(seq, oldest) % MAX_NR_GENS + 1)

    def fault(self) -> None:
        """Mark the folios as page faults do, and put them on a list."""
        everything = np.ones(len(self.flags), np.bool_)
        if self.edition in ("v7.2", "v7.3"):
            workingset = self.has(FolioFlag.WORKINGSET)
            self.put(FolioFlag.ACTIVE, workingset)
            self.put(FolioFlag.REFERENCED, everything)
        else:
            self.put(FolioFlag.ACTIVE, ~self.has(FolioFlag.ANON))
        self.add()

    def mark_accessed(self, where: _BOOL) -> None:
        """``folio_mark_accessed()`` of some folios (docs/kernel-rules.md, section 9.1)."""
        referenced, workingset = self.has(FolioFlag.REFERENCED), self.has(FolioFlag.WORKINGSET)
        accesses = folio_accesses(self.flags)
        if self.edition == "v6.12":
            again = where & referenced & workingset
            accesses[again] = np.minimum(accesses[again] + 1, 3)
            self.put(FolioFlag.WORKINGSET, where & referenced)
        else:
            full = where & referenced & (accesses == 3)
            accesses[where & referenced & (accesses < 3)] += 1
            accesses[where & ~referenced] = 0
            self.put(FolioFlag.WORKINGSET, full)
        self.flags[:] = with_accesses(self.flags, accesses)
        self.put(FolioFlag.REFERENCED, where)

    def step(self, step: str) -> None:
        """Let one step of the history happen."""
        if step == "written":
            self.add()
        elif step == "faulted":
            self.fault()
        elif step == "freed":
            if self.edition == "v6.12":
                self.put(FolioFlag.REFERENCED, np.ones(len(self.flags), np.bool_), False)
            self.add()
        elif step == "cleared":
            self.put(FolioFlag.REFERENCED, self.mappings > 0, False)
        else:
            # five accesses mark a folio fully
            for access in range(1 if step == "read" else 5):
                self.mark_accessed(self.mappings > access if step == "populated" else self.mappings >= 0)


def settle_generations(
    flags: _FLAGS,
    mapcounts: npt.NDArray[np.int32],
    kinds: npt.NDArray[np.int8],
    listed: npt.NDArray[np.uint32],
    history: tuple[str, ...],
    edition: str,
    state: LruGen,
) -> _FLAGS:
    """Return the flags of all folios, with a generation for each on a list.

    Parameters
    ----------
    flags : ndarray of uint32
        ``Population.folio_flags``.
    mapcounts : ndarray of int32
        ``Population.folio_mapcount``.
    kinds : ndarray of int8
        :func:`rmapfast.flags.folio_kind` of the flags.
    listed : ndarray of uint32
        Numbers of the folios on the lists. Those that have a generation keep it.
    history : tuple of str
        What happened to the others; empty: :data:`DEFAULT_HISTORY`.
    edition : str
        Whose rules hold (``Policy.mglru``).
    state : LruGen
    """
    if len(listed) and listed.max() >= len(flags):
        raise ValueError("population.lru_inactive, population.lru_active: no such folio")
    flags = flags.copy()
    new = listed[(folio_generation(flags[listed]) == 0) & ((flags[listed] & np.uint32(FolioFlag.FREED)) == 0)]
    groups = (
        [(new, history)]
        if history
        else [(new[kinds[new] == kind], steps) for kind, steps in enumerate(DEFAULT_HISTORY)]
    )
    for folios, steps in groups:
        one = _Folios(flags[folios], mapcounts[folios].astype(np.int64), edition, state)
        for step in steps:
            one.step(step)
        if not any(folio_generation(one.flags)):
            one.add()
        flags[folios] = one.flags
    return flags
