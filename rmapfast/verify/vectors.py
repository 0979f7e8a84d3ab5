"""Replay of recorded conformance vectors on the C library or the reference.

A vector holds the input and the recorded outcome of one call of a real kernel function, for every kernel variant; the
format is described in docs/conformance-format.md. Every field of every ``expect`` is compared.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from rmapfast import _core, calls, pte, reference
from rmapfast import policy as _policy
from rmapfast.arch import Arch
from rmapfast.editions import REFERENCED_VECTORS, UNMAP_VECTORS
from rmapfast.flags import FolioFlag, PageFlag, TableState, VmaFlag
from rmapfast.population import Population
from rmapfast.support import flag_mask

# Flags by their name in a vector (docs/conformance-format.md).
VMA_FLAGS = {
    "LOCKED": VmaFlag.LOCKED,
    "UFFD_WP": VmaFlag.UFFD_WP,
    "DROPPABLE": VmaFlag.DROPPABLE,
    "UFFD_MISSING": VmaFlag.UFFD_ARMED,
}
FOLIO_FLAGS = {
    "anon": FolioFlag.ANON,
    "swapbacked": FolioFlag.SWAPBACKED,
    "swapcache": FolioFlag.SWAPCACHE,
    "dirty": FolioFlag.DIRTY,
    "mlocked": FolioFlag.MLOCKED,
    "pinned": FolioFlag.PINNED,
    "young_flag": FolioFlag.YOUNG,
}
# A vector spans a few page tables; anything larger is a damaged or hostile file.
_MAX_SLOTS = 1 << 20

ENGINES = {"c": calls, "reference": reference}


class VectorError(ValueError):
    """A file that is not a valid set of conformance vectors."""


@dataclass
class Report:
    """Outcome of a replay: (case, variant) pairs passed and failed, and what differed in the first failures."""

    passed: Counter = field(default_factory=Counter)
    failed: Counter = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)

    def add(self, variant: str, name: str, expect: dict, got: dict) -> None:
        """Compare one outcome with the recorded one."""
        wrong = [key for key in expect if key not in got or got[key] != expect[key]]
        if not wrong:
            self.passed[variant] += 1
            return
        self.failed[variant] += 1
        if len(self.differences) < 20:
            what = "; ".join(f"{key}: expected {expect[key]!r}, got {got.get(key)!r}" for key in wrong[:3])
            self.differences.append(f"{name} {variant}: {what}"[:400])

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failed.total()

    def lines(self) -> list[str]:
        """The report as text, ending in ``N passed, N failed``."""
        variants = dict.fromkeys([*self.passed, *self.failed])
        table = [f"{name:>10}  {self.passed[name]:>6} passed  {self.failed[name]:>6} failed" for name in variants]
        return [*self.differences, *table, f"{self.passed.total()} passed, {self.failed.total()} failed"]


def read_vectors(path):
    """Yield (line number, vector) from a ``.jsonl.gz`` or ``.jsonl`` file.

    Raises
    ------
    VectorError
        If the file is damaged or truncated, or a line is not a JSON object.
    """
    path = Path(path)
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8") as lines:
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


def conformance(paths, *, engine: str = "c", progress=None) -> Report:
    """Replay conformance vectors.

    Parameters
    ----------
    paths : path or iterable of paths
        ``*.jsonl.gz`` files of unmap, batch or reference-check vectors.
    engine : {'c', 'reference'}
        What is tested.
    progress : callable, optional
        Called with the number of vectors replayed so far.

    Returns
    -------
    Report

    Raises
    ------
    VectorError
        If a file is damaged, truncated, of an unknown kind, or its counts do not add up.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine: expected one of {', '.join(ENGINES)}, got {engine!r}")
    report, done = Report(), 0
    for path in [paths] if isinstance(paths, str | Path) else paths:
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


def _replay(vector: dict, engine: str, report: Report) -> None:
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


def _run_of(entry) -> list:
    """An element of a PTE list with its run length: virtual page, kind, value, flags, count."""
    return [*entry, 1] if len(entry) == 4 else entry


def _words(entries, first: int, length: int) -> np.ndarray:
    """A PTE list as an array whose element 0 is virtual page `first`; entries outside of it are an error."""
    words = np.zeros(length, np.uint64)
    last = -1
    for entry in entries:
        vpn, kind, value, flags, count = _run_of(entry)
        if not (isinstance(vpn, int) and isinstance(count, int)) or count < 1 or count > _MAX_SLOTS:
            raise VectorError(f"ptes: bad run length or page in {entry}")
        if vpn <= last or vpn < first or vpn + count > first + length:
            raise VectorError(f"ptes: {entry} overlaps the entry before it or lies outside the tables")
        last = vpn + count - 1
        step = 0 if value is None else int(pte.PFN_ONE)
        word = int(pte.make(kind, value, flags))
        if word + step * count >= 1 << 64:
            raise VectorError(f"ptes: the values of {entry} overflow")
        words[vpn - first : vpn - first + count] = np.uint64(word) + np.arange(count, dtype=np.uint64) * np.uint64(step)
    return words


def _batch_outcome(vector: dict, engine: str) -> dict:
    folio, per_table = vector["folio"], vector["ptrs_per_pte"]
    if not 1 <= per_table <= _MAX_SLOTS or not 0 <= folio["order"] <= _core.MAX_ORDER:
        raise VectorError(f"ptrs_per_pte {per_table} or order {folio['order']} does not make sense")
    first = vector["start_vpn"] // per_table * per_table
    ptes = _words(vector["ptes"], first, per_table)
    cont_ptes = vector["cont_ptes"] or 1
    start, pages, old = vector["start_vpn"] - first, 1 << folio["order"], vector["impl"] == "v6.14"
    if vector["impl"] not in ("v7.1", "v6.14"):
        raise VectorError(f"impl: unknown {vector['impl']!r}, known are v7.1, v6.14")
    if not old:
        if engine == "c":
            flags = flag_mask("fpb", vector["fpb"], _core.FPB_FLAGS)
            nr, merged, reads, _ = _core.folio_pte_batch_flags(
                ptes, start, vector["max_nr"], folio["pfn"], pages, flags, cont_ptes, True
            )
        else:
            nr, merged, reads = reference.folio_pte_batch_flags(
                ptes,
                start,
                max_nr=vector["max_nr"],
                folio_pfn=folio["pfn"],
                folio_pages=pages,
                flags=vector["fpb"],
                cont_ptes=cont_ptes,
            )
        flags = sorted(pte.flags(merged))
        expect = vector["expect"]
        return {
            "nr": nr,
            "pte_reads": reads,
            "merged_pfn": int(pte.pfn(merged)),
            "merged_flags": expect["merged_flags"] if sorted(expect["merged_flags"]) == flags else flags,
        }
    if engine == "c":
        respect = {"RESPECT_DIRTY", "RESPECT_SOFT_DIRTY"} - {
            name.replace("IGNORE", "RESPECT") for name in vector["fpb"]
        }
        flags = flag_mask("fpb", [*respect, "UNCUT"], _core.FPB_FLAGS)
        nr, _, reads, later = _core.folio_pte_batch_flags(
            ptes, start, vector["max_nr"], folio["pfn"], pages, flags, cont_ptes, True
        )
        write, young, dirty = (bool(np.uint64(later) & bit) for bit in (pte.WRITE, pte.YOUNG, pte.DIRTY))
    else:
        nr, write, young, dirty, reads = reference.folio_pte_batch_v6_14(
            ptes,
            start,
            max_nr=vector["max_nr"],
            folio_pfn=folio["pfn"],
            folio_pages=pages,
            flags=vector["fpb"],
            cont_ptes=cont_ptes,
        )
    return {"nr": nr, "pte_reads": reads, "any_writable": write, "any_young": young, "any_dirty": dirty}


def vector_population(vector: dict) -> Population:
    """Return the input of an unmap vector as a population of one folio and one VMA."""
    return VectorCase(vector).population


def _check_pages(name: str, numbers, pages: int) -> None:
    for number in numbers:
        if type(number) is not int or not 0 <= number < pages:
            raise VectorError(f"{name}: expected pages 0 to {pages - 1}, got {number!r}")


class VectorCase:
    """One unmap or reference-check vector as a population, and the outcome of a run in the vectors' terms."""

    def __init__(self, vector: dict):
        self.vector = vector
        self.vma, self.folio = vector["vma"], vector["folio"]
        self.per_table = vector["ptrs_per_pte"]
        # Advance and flush rules of the recording: x86's.
        self.arch = Arch(
            name="recorded",
            page_shift=vector["page_shift"],
            ptrs_per_pte=self.per_table,
            tlb="x86",
            mkdirty_soft_dirty=True,
        )
        self.population = self._population()

    def _population(self) -> Population:
        vma, folio, per_table = self.vma, self.folio, self.per_table
        start, end = vma["start_vpn"], vma["end_vpn"]
        tables = set(self.vector["tables"])
        spanned = tables | set(self.vector["absent_pmds"]) | {start // per_table, (end - 1) // per_table}
        first, length = min(spanned) * per_table, (max(spanned) + 1 - min(spanned)) * per_table
        if not 0 < length <= _MAX_SLOTS or start >= end:
            raise VectorError(f"vma: pages {start} to {end} in {len(tables)} tables do not make sense")
        vma_tables = range(start // per_table, (end - 1) // per_table + 1)
        if not 0 <= folio["order"] <= _core.MAX_ORDER:
            raise VectorError(f"folio: order {folio['order']}, expected 0 to {_core.MAX_ORDER}")
        pages = 1 << folio["order"]
        runs = folio["page_mapcounts"]
        if sum(count for count, _ in runs) != pages or min(value for run in runs for value in run) < 0:
            raise VectorError(f"page_mapcounts: {runs} are not the counts of {pages} pages")
        for name in ("exclusive_pages", "hwpoison_pages"):
            _check_pages(name, folio[name], pages)
        if folio["swap_dup_fail_page"] is not None:
            _check_pages("swap_dup_fail_page", [folio["swap_dup_fail_page"]], pages)
        mapcounts = np.repeat(*np.array(runs, np.int64).T[::-1])
        if mapcounts.sum() != folio["mapcount"]:
            raise VectorError(
                f"page_mapcounts: {mapcounts.sum()} mappings, mapcount {folio['mapcount']}: do not add up"
            )
        page_flags = np.zeros(pages, np.uint8)
        page_flags[folio["exclusive_pages"]] |= PageFlag.EXCLUSIVE
        page_flags[folio["hwpoison_pages"]] |= PageFlag.HWPOISON
        if folio["swap_dup_fail_page"] is not None:
            page_flags[folio["swap_dup_fail_page"]] |= PageFlag.SWAP_DUP_FAIL
        flags = FolioFlag.PAGE_MAPCOUNTS | FolioFlag.PAGE_FLAGS
        flags |= sum(bit for name, bit in FOLIO_FLAGS.items() if folio.get(name))
        vma_flags = sum(VMA_FLAGS[name] for name in vma["flags"]) | (VmaFlag.ANON if vma["anonymous"] else 0)
        return Population(
            page_shift=self.arch.page_shift,
            ptrs_per_pte=per_table,
            ptes=_words(self.vector["ptes"], first, length),
            vma_start=np.array([start], np.uint64),
            vma_end=np.array([end], np.uint64),
            vma_pgoff=np.array([vma["pgoff"]], np.uint64),
            vma_flags=np.array([vma_flags], np.uint32),
            vma_mm=np.zeros(1, np.uint32),
            vma_pte_base=np.array([start - first], np.uint64),
            vma_window_start=np.array([first], np.uint64),
            vma_window_end=np.array([first + length], np.uint64),
            vma_table_base=np.zeros(1, np.uint64),
            table_state=np.array(
                [TableState.PTE if table in tables else TableState.ABSENT for table in vma_tables], np.uint8
            ),
            folio_pfn=np.array([folio["pfn"]], np.uint64),
            folio_index=np.array([folio["index"]], np.uint64),
            folio_order=np.array([folio["order"]], np.uint8),
            folio_flags=np.array([flags], np.uint32),
            folio_refcount=np.array([folio["refcount"]], np.int32),
            folio_mapcount=np.array([folio["mapcount"]], np.int32),
            folio_entire_mapcount=np.zeros(1, np.int32),
            folio_nr_pages_mapped=np.array([np.count_nonzero(mapcounts > 0)], np.int32),
            folio_swap=np.array([folio["swap_offset"] or 0], np.uint64),
            folio_page_base=np.zeros(1, np.uint64),
            page_mapcount=mapcounts.astype(np.int32),
            page_flags=page_flags,
            rmap_start=np.array([0, 1], np.uint64),
            rmap_vma=np.zeros(1, np.uint32),
            mm_rss=np.zeros((1, 4), np.int64),
            # another CPU is in the mask, so that flushes can always be deferred
            mm_cpumask=np.array([2], np.uint64),
            mm_flags=np.zeros(1, np.uint32),
            lru_inactive=np.zeros(0, np.uint32),
            lru_active=np.zeros(0, np.uint32),
        )

    def _common(self, after: Population, call) -> dict:
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

    def _ptes_after(self, after: Population):
        """The recorded list of changed entries if it says the same as the page tables, else what changed."""
        before, recorded = self.population, self.vector["expect"]["ptes_after"]
        first, length = int(before.vma_window_start[0]), len(before.ptes)
        changed = np.flatnonzero(before.ptes != after.ptes)
        if sum(count for *_, count in map(_run_of, recorded)) > length:
            raise VectorError(f"ptes_after: more than {length} entries")
        listed = [vpn - first + i for vpn, *_, count in map(_run_of, recorded) for i in range(count)]
        if listed == changed.tolist():
            words = _words(recorded, first, length)
            if np.array_equal(words[changed], after.ptes[changed]):
                return recorded
        return {first + int(i): pte.describe(after.ptes[i]) for i in changed}

    def unmapped(self, policy, engine: str) -> dict:
        after, vector = self.population.copy(), self.vector
        call = ENGINES[engine].try_to_unmap_one(
            after, 0, 0, policy=policy, arch=self.arch, ttu=vector["ttu"], guard=vector["guard"]
        )
        events, flags = call.events, int(after.folio_flags[0])
        trace = SimpleNamespace(steps=[], beyond={}, deferred=[], flush=[], notifier=None)
        for kind, a, b in call.trace:
            if kind == "step":
                trace.steps.append([a, b])
            elif kind == "step_nonpresent":
                trace.steps.append([a, b, "nonpresent"])
            elif kind == "beyond":
                trace.beyond[a] = b
            elif kind == "tlb_deferred":
                trace.deferred.append([a, b])
            elif kind == "tlb_immediate":
                trace.flush.append([a, b])
            elif kind == "notifier":
                trace.notifier = [a, b]
        page_flags, mapcounts = _page_flags(after), after.page_mapcounts(0).tolist()
        expect = vector["expect"]
        return self._common(after, call) | {
            "steps": trace.steps,
            "rss": dict(zip(("file", "anon", "swap", "shmem"), after.mm_rss[0].tolist(), strict=True)),
            "refcount": int(after.folio_refcount[0]),
            "mapcount": int(after.folio_mapcount[0]),
            "page_mapcounts": _recorded_runs(expect["page_mapcounts"], mapcounts),
            "page_mapcounts_beyond": [[page, count] for page, count in sorted(trace.beyond.items())],
            "nr_pages_mapped": int(after.folio_nr_pages_mapped[0]) if self.folio["order"] else None,
            "mapped_stat": call.mapped_stat,
            "dirty": bool(flags & FolioFlag.DIRTY),
            "swapbacked": bool(flags & FolioFlag.SWAPBACKED),
            "munlock_calls": events["munlock_calls"],
            "exclusive_pages": np.flatnonzero(page_flags & PageFlag.EXCLUSIVE).tolist(),
            "deferred_split": events["deferred_splits"],
            "tlb": {
                "deferred": events["tlb_deferred"],
                "deferred_range": trace.deferred,
                "flush_range": trace.flush,
                "writable": call.writable,
            },
            "oob_writes": events["oob_writes"],
            "vma_overrun_reads": events["vma_overrun_reads"],
            "vma_overrun_writes": events["vma_overrun_writes"],
            "swap_dups": events["swap_dups"],
            "swap_puts": events["swap_puts"],
            "notifier": trace.notifier,
        }

    def referenced(self, policy, engine: str) -> dict:
        after = self.population.copy()
        call = ENGINES[engine].folio_referenced_one(after, 0, 0, policy=policy, arch=self.arch)
        names = [name for name, bit in VMA_FLAGS.items() if call.vm_flags & bit]
        expect = self.vector["expect"]
        return self._common(after, call) | {
            "mapcount_left": call.mapcount_left,
            "referenced": call.referenced,
            "vm_flags": expect["vm_flags"] if sorted(expect["vm_flags"]) == sorted(names) else names,
            "steps": [[vpn, nr] for kind, vpn, nr in call.trace if kind == "young"],
        }


def _page_flags(population: Population) -> np.ndarray:
    flags, pages = int(population.folio_flags[0]), 1 << int(population.folio_order[0])
    if flags & FolioFlag.PAGE_FLAGS:
        return population.page_flags[:pages]
    return np.full(pages, PageFlag.EXCLUSIVE if flags & FolioFlag.EXCLUSIVE else 0, np.uint8)


def _recorded_runs(expect, values: list[int]):
    """The recorded run-length list if it says the same as `values`, else the values."""
    counted = sum(count for count, _ in expect)
    if counted > 1 << _core.MAX_ORDER:
        raise VectorError(f"page_mapcounts: {expect} are the counts of more pages than a folio has")
    if counted != len(values):
        return values
    return expect if [value for count, value in expect for _ in range(count)] == values else values
