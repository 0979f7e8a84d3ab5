"""Replay of recorded conformance vectors on the C library or the reference.

A vector holds the input and the recorded outcome of one call of a real kernel function, for every kernel variant; the
format is described in docs/conformance-format.md. Every field of every ``expect`` is compared.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

import rmapfast._core as _core
from rmapfast import calls, pte, reference
from rmapfast import policy as _policy
from rmapfast.arch import Arch
from rmapfast.editions import REFERENCED_VECTORS, UNMAP_VECTORS
from rmapfast.events import Call
from rmapfast.flags import FolioFlag, PageFlag
from rmapfast.policy import Policy
from rmapfast.population import Population
from rmapfast.support import checked_choice, checked_list, checked_path, checked_progress, flag_mask, open_regular
from rmapfast.verify.cases import (
    MAX_SLOTS,
    VMA_FLAGS,
    Entries,
    VectorError,
    case_arch,
    case_population,
    page_flags,
    words_of,
)

# A JSON document; its fields are those of docs/conformance-format.md.
Vector: TypeAlias = dict[str, Any]
# What a vector expects, or a run gave, by field.
Fields: TypeAlias = dict[str, Any]

# Differences that a report shows.
_SHOWN = 20


class Engine(Protocol):
    """The single calls that both engines have."""

    def try_to_unmap_one(
        self,
        population: Population,
        folio: int,
        vma: int,
        *,
        policy: Policy,
        arch: Arch,
        ttu: Iterable[str],
        guard: str,
    ) -> Call:
        """Unmap one folio from one VMA."""

    def folio_referenced_one(self, population: Population, folio: int, vma: int, *, policy: Policy, arch: Arch) -> Call:
        """Test and clear the young bits of one folio in one VMA."""


ENGINES: dict[str, Engine] = {"c": calls, "reference": reference}


@dataclass
class ConformanceReport:
    """Outcome of a replay.

    Parameters
    ----------
    passed, failed : Counter of str
        How many (case, variant) pairs agree with the recording, and how many do not, by kernel variant.
    differences : list of str
        What differed in the first failures, 20 at most.

    Examples
    --------
    >>> import rmapfast as rf
    >>> rf.ConformanceReport().ok
    True
    """

    passed: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)

    def add(self, variant: str, name: str, expect: Fields, got: Fields) -> None:
        """Compare one outcome with the recorded one.

        Parameters
        ----------
        variant : str
            Code of the kernel edition.
        name : str
            Name of the vector.
        expect, got : mapping
            The recorded outcome and that of the model, by field.
        """
        wrong = [key for key in expect if key not in got or got[key] != expect[key]]
        if not wrong:
            self.passed[variant] += 1
            return
        self.failed[variant] += 1
        if len(self.differences) < _SHOWN:
            what = "; ".join(f"{key}: expected {expect[key]!r}, got {got.get(key)!r}" for key in wrong[:3])
            self.differences.append(f"{name} {variant}: {what}"[:400])

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failed.total()

    def lines(self) -> list[str]:
        """Return the report as text, ending in ``N passed, N failed``.

        Returns
        -------
        list of str
        """
        variants = dict.fromkeys([*self.passed, *self.failed])
        table = [f"{name:>10}  {self.passed[name]:>6} passed  {self.failed[name]:>6} failed" for name in variants]
        return [*self.differences, *table, f"{self.passed.total()} passed, {self.failed.total()} failed"]


def read_vectors(path: str | os.PathLike[str]) -> Iterator[tuple[int, Vector]]:
    """Yield (line number, vector) from a ``.jsonl.gz`` or ``.jsonl`` file.

    Raises
    ------
    VectorError
        If the file is damaged or truncated, or a line is not a JSON object.
    """
    path = Path(path)
    number = 0
    try:
        with (
            open_regular(path) as file,
            gzip.open(file) if path.suffix == ".gz" else file as unpacked,
            io.TextIOWrapper(unpacked, encoding="utf-8") as lines,
        ):
            for number, line in enumerate(lines, 1):
                vector = json.loads(line)
                if not isinstance(vector, dict):
                    raise VectorError(f"{path}:{number}: expected a JSON object, got {type(vector).__name__}")
                yield number, vector
    except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError) as error:
        raise VectorError(f"{path}: damaged or truncated after line {number}: {error}") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, VectorError):
            raise
        raise VectorError(f"{path}:{number}: not JSON: {error}") from None
    if not number:
        raise VectorError(f"{path}: no vectors in it")


def conformance(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    engine: str = "c",
    progress: Callable[[int], None] | None = None,
) -> ConformanceReport:
    """Replay conformance vectors and compare every recorded field.

    Parameters
    ----------
    paths : path or iterable of paths
        ``*.jsonl.gz`` or ``*.jsonl`` files of unmap, batch or reference-check vectors (docs/conformance-format.md).
    engine : {'c', 'reference'}
        What is tested: the C library or the plain-Python reference.
    progress : callable, optional
        Called with the number of vectors replayed so far.

    Returns
    -------
    ConformanceReport
        ``report.ok`` says whether everything agrees.

    Raises
    ------
    VectorError
        If a file is damaged, truncated, of an unknown kind, or its counts do not add up.
    ValueError
        For an unknown engine.
    OSError
        If a file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> import rmapfast as rf
    >>> with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
    ...     try:
    ...         rf.conformance(file.name)
    ...     except rf.VectorError:
    ...         print("no vectors in it")
    no vectors in it
    """
    checked_choice("engine", engine, ENGINES)
    checked_progress(progress)
    given = [paths] if isinstance(paths, str | os.PathLike) else checked_list("paths", paths, "paths of vectors")
    report, done = ConformanceReport(), 0
    for path in [checked_path("paths", one) for one in given]:
        for number, vector in read_vectors(path):
            try:
                _replay(vector, engine, report)
            except VectorError as error:
                raise VectorError(f"{path}:{number}: {error}") from None
            except (KeyError, IndexError, TypeError, ValueError, OverflowError, AttributeError) as error:
                raise VectorError(f"{path}:{number}: not a valid vector: {type(error).__name__} {error}") from None
            done += 1
            if progress:
                progress(done)
    return report


def _replay(vector: Vector, engine: str, report: ConformanceReport) -> None:
    name = f"{vector['id']} {vector.get('name', '')}".strip()
    if "impl" in vector:
        report.add(vector["impl"], name, vector["expect"], _batch_outcome(vector, engine))
        return
    case = VectorCase(vector)
    unmap = "ttu" in vector
    known = UNMAP_VECTORS if unmap else REFERENCED_VECTORS
    for variant in vector["variants"]:
        if variant not in known:
            raise VectorError(f"variants: unknown {variant!r}, known are {', '.join(known)}")
        policy = _policy.get(known[variant])
        outcome = case.unmapped(policy, engine) if unmap else case.referenced(policy, engine)
        report.add(variant, name, vector["expect"], outcome)


# --- vectors of the batch scan ---------------------------------------------------------------------------------------


def _batch_outcome(vector: Vector, engine: str) -> Fields:
    per_table, order = vector["ptrs_per_pte"], vector["folio"]["order"]
    if not 1 <= per_table <= MAX_SLOTS or not 0 <= order <= _core.MAX_ORDER:
        raise VectorError(f"ptrs_per_pte {per_table} or order {order} does not make sense")
    outcomes = {"v7.1": _batch_outcome_v7_1, "v6.14": _batch_outcome_v6_14}
    if vector["impl"] not in outcomes:
        raise VectorError(f"impl: unknown {vector['impl']!r}, known are {', '.join(outcomes)}")
    first = vector["start_vpn"] // per_table * per_table
    where = {
        "ptes": words_of(vector["ptes"], first, per_table),
        "start": vector["start_vpn"] - first,
        "max_nr": vector["max_nr"],
        "folio_pfn": vector["folio"]["pfn"],
        "folio_pages": 1 << order,
        "cont_ptes": vector["cont_ptes"] or 1,
    }
    return outcomes[vector["impl"]](vector, engine, where)


def _batch_outcome_v7_1(vector: Vector, engine: str, where: dict[str, Any]) -> Fields:
    if engine == "c":
        mask = flag_mask("fpb", vector["fpb"], _core.FPB_FLAGS)
        nr, merged, reads, _ = _core.folio_pte_batch_flags(**where, flags=mask, mkdirty_soft_dirty=True)
    else:
        nr, merged, reads = reference.folio_pte_batch_flags(**where, flags=vector["fpb"])
    return {
        "nr": nr,
        "pte_reads": reads,
        "merged_pfn": int(pte.pfn(merged)),
        "merged_flags": _in_recorded_order(vector["expect"]["merged_flags"], pte.flags(merged)),
    }


def _batch_outcome_v6_14(vector: Vector, engine: str, where: dict[str, Any]) -> Fields:
    if engine == "c":
        respect = {"RESPECT_DIRTY", "RESPECT_SOFT_DIRTY"} - {
            name.replace("IGNORE", "RESPECT") for name in vector["fpb"]
        }
        mask = flag_mask("fpb", [*respect, "UNCUT"], _core.FPB_FLAGS)
        nr, _, reads, later = _core.folio_pte_batch_flags(**where, flags=mask, mkdirty_soft_dirty=True)
        write, young, dirty = (bool(np.uint64(later) & bit) for bit in (pte.WRITE, pte.YOUNG, pte.DIRTY))
    else:
        nr, write, young, dirty, reads = reference.folio_pte_batch_v6_14(**where, flags=vector["fpb"])
    return {"nr": nr, "pte_reads": reads, "any_writable": write, "any_young": young, "any_dirty": dirty}


# --- vectors of unmap and reference check ----------------------------------------------------------------------------


@dataclass
class _UnmapTrace:
    """The steps of an unmap, sorted as a vector lists them."""

    steps: list[list[int | str]] = field(default_factory=list)
    beyond: dict[int, int] = field(default_factory=dict)
    deferred: list[list[int]] = field(default_factory=list)
    immediate: list[list[int]] = field(default_factory=list)
    notifier: list[int] | None = None

    @classmethod
    def of(cls, call: Call) -> _UnmapTrace:
        trace = cls()
        for what, a, b in call.trace:
            if what == "step":
                trace.steps.append([a, b])
            elif what == "step_nonpresent":
                trace.steps.append([a, b, "nonpresent"])
            elif what == "beyond":
                trace.beyond[a] = b
            elif what == "tlb_deferred":
                trace.deferred.append([a, b])
            elif what == "tlb_immediate":
                trace.immediate.append([a, b])
            elif what == "notifier":
                trace.notifier = [a, b]
        return trace


class VectorCase:
    """One unmap or reference-check vector as a population, and the outcome of a run in the vectors' terms.

    Parameters
    ----------
    vector : dict
        The JSON document.

    Attributes
    ----------
    population : Population
        The vector's input: one folio in one VMA.
    arch : Arch
        That of the recording.
    """

    def __init__(self, vector: Vector):
        self.vector = vector
        self.arch = case_arch(vector)
        self.population = case_population(vector)

    def unmapped(self, policy: Policy, engine: str) -> Fields:
        """Unmap a copy under a policy; return every field that an unmap vector may expect."""
        after, vector = self.population.copy(), self.vector
        call = ENGINES[engine].try_to_unmap_one(
            after, 0, 0, policy=policy, arch=self.arch, ttu=vector["ttu"], guard=vector["guard"]
        )
        events, flags, trace = call.events, int(after.folio_flags[0]), _UnmapTrace.of(call)
        return self._common(after, call) | {
            "steps": trace.steps,
            "rss": dict(zip(("file", "anon", "swap", "shmem"), after.mm_rss[0].tolist(), strict=True)),
            "refcount": int(after.folio_refcount[0]),
            "mapcount": int(after.folio_mapcount[0]),
            "page_mapcounts": _recorded_runs(vector["expect"]["page_mapcounts"], after.page_mapcounts(0).tolist()),
            "page_mapcounts_beyond": [[page, count] for page, count in sorted(trace.beyond.items())],
            "nr_pages_mapped": int(after.folio_nr_pages_mapped[0]) if vector["folio"]["order"] else None,
            "mapped_stat": call.mapped_stat,
            "dirty": bool(flags & FolioFlag.DIRTY),
            "swapbacked": bool(flags & FolioFlag.SWAPBACKED),
            "munlock_calls": events["munlock_calls"],
            "exclusive_pages": np.flatnonzero(page_flags(after) & PageFlag.EXCLUSIVE).tolist(),
            "deferred_split": events["deferred_split_calls"],
            "tlb": {
                "deferred": events["tlb_deferred"],
                "deferred_range": trace.deferred,
                "flush_range": trace.immediate,
                "writable": call.writable,
            },
            "oob_writes": events["oob_writes"],
            "vma_overrun_reads": events["vma_overrun_reads"],
            "vma_overrun_writes": events["vma_overrun_writes"],
            "swap_dups": events["swap_dups"],
            "swap_puts": events["swap_puts"],
            "notifier": trace.notifier,
        }

    def referenced(self, policy: Policy, engine: str) -> Fields:
        """Reference-check a copy under a policy; return every field that a reference-check vector may expect."""
        after = self.population.copy()
        call = ENGINES[engine].folio_referenced_one(after, 0, 0, policy=policy, arch=self.arch)
        names = [name for name, bit in VMA_FLAGS.items() if call.vm_flags & bit]
        return self._common(after, call) | {
            "mapcount_left": call.mapcount_left,
            "referenced": call.referenced,
            "vm_flags": _in_recorded_order(self.vector["expect"]["vm_flags"], names),
            "steps": [[vpn, nr] for what, vpn, nr in call.trace if what == "young"],
        }

    def _common(self, after: Population, call: Call) -> Fields:
        """Fields that unmap and reference vectors share."""
        events = call.events
        return {
            "ret": call.ret,
            "mlocked": bool(after.folio_flags[0] & FolioFlag.MLOCKED),
            "mlock_calls": events["mlock_calls"],
            "walk_iterations": events["walk_yields"],
            "pte_reads_in_walk": events["walk_pte_reads"],
            "ptes_examined_in_walk": events["walk_slots"],
            "pte_reads_in_batch": events["batch_pte_reads"],
            "ptl_locks": events["ptl_locks"],
            "pmd_locks": events["pmd_locks"],
            "warns": events["warns"],
            "oob_reads": events["oob_reads"],
            # The model's lock is a flag of the walk, which does not outlive the call.
            "locks_held_at_exit": 0,
            "ptes_after": self._ptes_after(after),
        }

    def _ptes_after(self, after: Population) -> list[Any] | dict[int, str]:
        """The recorded list of changed entries if it says the same as the page tables, else what changed."""
        before = self.population
        recorded: list[Any] = self.vector["expect"]["ptes_after"]
        first, length = int(before.vma_window_start[0]), len(before.ptes)
        changed = np.flatnonzero(before.ptes != after.ptes)
        entries = [Entries(*entry) for entry in recorded]
        if sum(entry.nr for entry in entries) > length:
            raise VectorError(f"ptes_after: more than {length} entries")
        listed = [entry.vpn - first + i for entry in entries for i in range(entry.nr)]
        if listed == changed.tolist():
            words = words_of(recorded, first, length)
            if np.array_equal(words[changed], after.ptes[changed]):
                return recorded
        return {first + int(i): pte.describe(after.ptes[i]) for i in changed}


def _in_recorded_order(recorded: list[str], names: list[str]) -> list[str]:
    """The recorded names if they are the same, whatever their order, else the names sorted."""
    return recorded if sorted(recorded) == sorted(names) else sorted(names)


def _recorded_runs(recorded: list[list[int]], values: list[int]) -> list[list[int]] | list[int]:
    """The recorded run-length list if it says the same as `values`, else the values."""
    counted = sum(count for count, _ in recorded)
    if counted > 1 << _core.MAX_ORDER:
        raise VectorError(f"page_mapcounts: {recorded} are the counts of more pages than a folio has")
    if counted != len(values):
        return values
    return recorded if [value for count, value in recorded for _ in range(count)] == values else values
