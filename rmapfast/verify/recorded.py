"""Replay of recorded cases: what was done between two captures is read from cases.json, not from a name.

A directory of such cases holds ``cases.json`` beside the captures ``NAME.before.npz``, ``NAME.after.npz``, and
``NAME.mid.npz`` or others where a snapshot was taken between two actions. docs/capture-format.md, section 5, says what
a case has.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rmapfast import pte
from rmapfast.captures import Capture, CaptureError
from rmapfast.editions import preset_of
from rmapfast.flags import FOLIO_KINDS, FolioFlag, folio_kind
from rmapfast.layout import FolioIndex
from rmapfast.loop import MADVISE_ACTIONS, madvise, reclaim
from rmapfast.population import Population
from rmapfast.result import Result
from rmapfast.support import read_json
from rmapfast.swap import Swap
from rmapfast.unseen import assume_pages, pages_of_folios
from rmapfast.verify.live import CaptureCase, capture_lines, replay_captures

CASES_FILE = "cases.json"

# How a page can end.
PAGE_STATES = ("none", "present", "zero page", "swap", "hwpoison")
_STATE_OF_KIND = np.array(
    [
        PAGE_STATES.index({"none": "none", "marker_uffd_wp": "none", "swap": "swap"}.get(kind, "present"))
        if kind != "hwpoison"
        else PAGE_STATES.index("hwpoison")
        for kind in pte.KINDS
    ],
    np.uint8,
)
# The rules of recorded kernels whose release says too little: x70 is Ubuntu's 7.0.14, which calls itself 7.0.0.
_PRESETS = {"x70": "v7.0.12"}
# What is assumed of pages, by the name that it has in a case. A child maps pages besides the process that was captured.
_ASSUMED = {
    "zero_filled": "zero_filled",
    "written_after_MADV_FREE": "dirty",
    "dirty": "dirty",
    "pinned": "pinned",
    "extra_references": "extra_references",
    "also_mapped_by_child": "shared",
}
# Those of them that reads of the process, and earlier actions, leave as they are.
_LASTING = {"pinned", "extra_references", "shared"}
# Counter of /sys/kernel/mm/transparent_hugepage/hugepages-*/stats or of /proc/vmstat -> event.
_SIZE_COUNTERS = {
    "split": "folio_splits",
    "split_deferred": "deferred_splits",
    "swpout": "folios_swapped_whole",
    "swpout_fallback": "swpout_fallbacks",
}
_PSWPOUT = "pages_written"


@dataclass(frozen=True)
class RecordedCase:
    """One recorded case, and how the model compares with it.

    Parameters
    ----------
    name, description : str
        As in cases.json.
    policy : str
        Preset that was replayed.
    pages : int
        Pages compared, over all snapshots.
    differences : tuple of str
        What differs: pages by state, orders, counters. Empty if all agrees.
    """

    name: str
    description: str
    policy: str
    pages: int
    differences: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether page states, orders and counters are those of the real kernel."""
        return not self.differences


def replay_directory(
    directory: str | os.PathLike[str], engine: str = "c"
) -> tuple[list[RecordedCase], list[CaptureCase]]:
    """Replay a directory of captures: a case with actions in cases.json by these, any other pair by its name.

    Parameters
    ----------
    directory : path
        Of the captures, and of cases.json if there is one.
    engine : {'c', 'general', 'reference'}
        As for :func:`rmapfast.reclaim`.

    Returns
    -------
    list of RecordedCase, list of CaptureCase
        Of the two kinds of cases; one of them may be empty.

    Raises
    ------
    CaptureError
        As :func:`replay_recorded` and :func:`rmapfast.verify.replay_captures`.
    """
    recorded = replay_recorded(directory, engine) if (Path(directory) / CASES_FILE).exists() else []
    names = {case.name for case in recorded}
    pairs = [path.name.removesuffix(".before.npz") for path in Path(directory).glob("*.before.npz")]
    if recorded and names.issuperset(pairs):
        return recorded, []
    return recorded, replay_captures(directory, engine, names)


def directory_lines(recorded: list[RecordedCase], named: list[CaptureCase]) -> list[str]:
    """Return all cases of a directory as lines of text, ending in ``N passed, M failed``."""
    lines = [*(recorded_lines(recorded)[:-1] if recorded else []), *(capture_lines(named)[:-1] if named else [])]
    passed = sum(case.agrees for case in recorded) + sum(case.agrees for case in named)
    return [*lines, f"{passed} passed, {len(recorded) + len(named) - passed} failed"]


def replay_recorded(directory: str | os.PathLike[str], engine: str = "c") -> list[RecordedCase]:
    """Replay the cases of a cases.json that have actions.

    Parameters
    ----------
    directory : path
        Of cases.json and the captures.
    engine : {'c', 'general', 'reference'}
        As for :func:`rmapfast.reclaim`.

    Returns
    -------
    list of RecordedCase

    Raises
    ------
    CaptureError
        For a cases.json that cannot be read, captures that are missing or damaged, an action that is not known, or a
        kernel release that is not understood.
    """
    path = Path(directory) / CASES_FILE
    try:
        document = read_json(path)
    except (OSError, ValueError) as error:
        raise CaptureError(str(error)) from error
    try:
        cases = document.value.get("cases", [])
        with_actions = [case for case in cases if isinstance(case, dict) and "actions" in case]
        return [_Replay(path.parent, case, engine).compare() for case in with_actions]
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, CaptureError):
            raise
        raise CaptureError(f"{path}: {type(error).__name__}: {error}") from error


class _Replay:
    """The replay of one case."""

    def __init__(self, directory: Path, case: Mapping[str, Any], engine: str):
        self.directory, self.case, self.engine = directory, case, engine
        self.name = str(case["case"])
        release = str(case["kernel"])
        try:
            self.policy = _PRESETS.get(self.name.partition("-")[0]) or preset_of(release)
        except ValueError as error:
            raise CaptureError(f"{directory / CASES_FILE}: case {self.name}: kernel {error}") from None
        self.events: Counter[str] = Counter()
        self.differences: list[str] = []
        self.pages = 0
        self.setup = case["setup"] or []
        self.not_visible = case["not_visible"] or {}
        self.owner = True
        self.memcg = any(str(action["call"]).startswith("memory.") for action in case["actions"])

    def capture(self, phase: str, assumed: Collection[str] = ()) -> Population:
        """Load a capture of the case as a population, with these of the things that it cannot show."""
        path = self.directory / f"{self.name}.{phase}.npz"
        if not path.exists():
            raise CaptureError(f"{path}: missing; case {self.name} needs it")
        orders = [int(order) for order in self.case["folio_order"].values() if order is not None]
        population = Population.from_captures([Capture.load(path)], folio_order=max(orders, default=0))
        if assumed:
            # A page that was given back before, or is in swap, belongs to no folio.
            pages = {name: pages_of_folios(population, vpns) for name, vpns in self.assumed_pages().items()}
            assume_pages(population, {name: vpns for name, vpns in pages.items() if name in assumed})
        return population

    def map_start(self, name: str) -> int:
        """Return the first page number of a map."""
        for step in (*self.case["actions"], *self.setup):
            if step.get("map") == name and "start" in step:
                return int(step["start"]) // 4096 - int(step["page"])
        raise CaptureError(f"{self.directory / CASES_FILE}: case {self.name}: no address of map {name}")

    def assumed_pages(self) -> dict[str, npt.NDArray[np.int64]]:
        """Return what the case says that its captures do not show, as page numbers."""
        pages: dict[str, list[npt.NDArray[np.int64]]] = {}
        for name, given in self.not_visible.items():
            if name not in _ASSUMED:
                continue
            by_map = given if isinstance(given, dict) else {"a": given}
            for map_name, spans in by_map.items():
                start = self.map_start(map_name)
                spans = [np.arange(start + first, start + end) for first, end in spans]
                pages.setdefault(_ASSUMED[name], []).extend(spans)
        return {name: np.concatenate(spans) for name, spans in pages.items()}

    def swap(self, population: Population) -> Swap | bool:
        """Return the swap device: every slot is free that no entry and no written shmem folio uses."""
        if self.case["swap"] is None:
            return False
        free = np.ones(int(self.case["swap"]["slots"]) + 1, bool)
        free[0] = False
        offsets = pte.pfn(population.ptes[pte.kind(population.ptes) == pte.KINDS.index("swap")])
        # The type of the area stands above the offset (rmapfast.captures).
        offsets &= np.uint64((1 << 47) - 1)
        free[offsets[offsets < len(free)]] = False
        shmem = (folio_kind(population.folio_flags) == FOLIO_KINDS.index("shmem")) & (
            (population.folio_flags & np.uint32(FolioFlag.FREED)) != 0
        )
        for offset, order in zip(population.folio_swap[shmem].tolist(), population.folio_order[shmem], strict=True):
            if offset:  # slot 0 is the header of the device
                free[offset : offset + (1 << order)] = False
        return Swap(free=free)

    def owns(self, uid: int) -> bool:
        """Whether this user owns the file, or may write it."""
        file: Mapping[str, Any] = next((step for step in self.setup if step.get("call") == "make_file"), {})
        return uid in (0, int(file.get("owner_uid", 0))) or bool(int(file.get("mode", "0644"), 8) & 0o002)

    def compare(self) -> RecordedCase:
        """Follow the actions; compare at each snapshot and at the end."""
        state = self.capture("before", assumed=set(_ASSUMED.values()))
        cached = _cached_pages(state)
        unknown = False
        for action in self.case["actions"]:
            call = str(action["call"])
            if call == "snapshot":
                phase = str(action["phase"])
                if unknown:  # the process touched pages: go on from what it had then
                    state, unknown = self.capture(phase, assumed=_LASTING), False
                else:
                    self.compare_pages(phase, state, self.capture(phase))
            elif call == "seteuid":
                self.owner = self.owns(int(action["uid"]))
            elif call in ("read", "write"):
                unknown = True
            else:
                result = self.act(action, state, self.swap(state))
                assert result.after is not None
                state = result.after
                self.events.update(dict(result.events))
        self.compare_pages("after", state, self.capture("after"))
        self.compare_counters(cached - _cached_pages(state))
        return RecordedCase(self.name, str(self.case["desc"]), self.policy, self.pages, tuple(self.differences))

    def act(self, action: Mapping[str, Any], state: Population, swap: Swap | bool) -> Result:
        """Do one action."""
        call = str(action["call"])
        if call in MADVISE_ACTIONS:
            start, end = int(action["start"]), int(action["end"])
            result = madvise(
                state, call, start, end - start,
                owner=self.owner, policy=self.policy, swap=swap, engine=self.engine, in_place=True,
            )  # fmt: skip
            expected = int(action["result"])
            if bool(result.ret) != bool(expected):
                self.differences.append(f"{call} returns {result.ret}, the kernel {expected}")
            return result
        if call not in ("memory.reclaim", "memory.force_empty"):
            raise CaptureError(f"{self.directory / CASES_FILE}: case {self.name}: unknown action {call!r}")
        none = [int(step["value"]) for step in self.setup if str(step.get("name")).endswith("max_ptes_none")]
        target = action["bytes"] if action.get("bytes") else state.nr_pages << state.page_shift
        return reclaim(
            state, int(target), policy=self.policy, swap=swap, max_ptes_none=none[-1] if none else None,
            engine=self.engine, in_place=True,
        )  # fmt: skip

    def compare_pages(self, phase: str, model: Population, real: Population) -> None:
        """Compare the state and the order of every page."""
        states = _states(model), _states(real)
        if len(states[0]) != len(states[1]):
            raise CaptureError(
                f"{self.directory / self.name}.{phase}.npz: {len(states[1])} pages, but {len(states[0])} before"
            )
        self.pages += len(states[0])
        wrong = states[0] != states[1]
        if wrong.any():
            counts = (json.dumps(_counts(state)) for state in reversed(states))
            self.differences.append(f"{phase}: {int(wrong.sum())} pages, real {' model '.join(counts)}")
        orders = [_orders(population) for population in (model, real)]
        wrong = (orders[0] != orders[1]) & (orders[0] >= 0) & (orders[1] >= 0)
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            self.differences.append(
                f"{phase}: orders of {int(wrong.sum())} pages, the first {orders[1][at]}, in the model {orders[0][at]}"
            )

    def compare_counters(self, freed: int) -> None:
        """Compare what the kernel counted, where that is the process alone."""
        expected: Counter[str] = Counter()
        for name, count in self.case["thp_stats"].items():
            event = _SIZE_COUNTERS.get(name.partition("_")[2])
            if event:
                expected[event] += int(count)
        events = list(_SIZE_COUNTERS.values())
        if not self.memcg:  # a memory cgroup holds other pages too, such as the stack
            expected[_PSWPOUT] = int(self.case["counters"].get("pswpout", 0))
            events.append(_PSWPOUT)
        for event in events:
            if self.events[event] != expected[event]:
                self.differences.append(f"{event} {expected[event]}, in the model {self.events[event]}")
        resident = [self.case[phase].get("page_cache_pages") for phase in ("before", "after")]
        if None not in resident and resident[0] - resident[1] != freed:
            self.differences.append(f"page_cache_pages fall by {resident[0] - resident[1]}, in the model by {freed}")


def _states(population: Population) -> npt.NDArray[np.uint8]:
    """Return the state of each slot as an index into PAGE_STATES, in the order of the captures' VMAs."""
    states: npt.NDArray[np.uint8] = _STATE_OF_KIND[pte.kind(population.ptes)]
    special = (population.ptes & (pte.PRESENT | pte.SPECIAL)) == (pte.PRESENT | pte.SPECIAL)
    states[special] = PAGE_STATES.index("zero page")
    return states


def _orders(population: Population) -> npt.NDArray[np.int64]:
    """Return the order of the folio that each slot maps, -1 where it maps none."""
    orders = np.full(len(population.ptes), -1, np.int64)
    mapped = np.flatnonzero(pte.maps_page(population.ptes))
    live = np.flatnonzero(population.folio_flags & FolioFlag.FREED == 0)
    index = FolioIndex(population.folio_pfn[live], population.folio_order[live])
    folio = index.find(pte.pfn(population.ptes[mapped]))
    orders[mapped[folio >= 0]] = population.folio_order[live][folio[folio >= 0]]
    return orders


def _cached_pages(population: Population) -> int:
    """Return the pages of files that are in the page cache, mapped or not."""
    flags = population.folio_flags
    cached = flags & (FolioFlag.ANON | FolioFlag.SWAPBACKED | FolioFlag.FREED) == 0
    return int(np.left_shift(1, population.folio_order[cached], dtype=np.int64).sum())


def _counts(states: npt.NDArray[np.uint8]) -> dict[str, int]:
    found = np.bincount(states, minlength=len(PAGE_STATES))
    return {name: int(count) for name, count in zip(PAGE_STATES, found, strict=True) if count}


def recorded_lines(cases: list[RecordedCase]) -> list[str]:
    """Return the cases as lines of text: one each, one for each edition, and ``N passed, M failed``."""
    width = max((len(case.name) for case in cases), default=0)
    lines = [
        f"{case.name:<{width}}  {case.policy:<7} {'agrees' if case.agrees else '; '.join(case.differences)}"
        for case in cases
    ]
    for edition in dict.fromkeys(case.name.partition("-")[0] for case in cases):
        own = [case for case in cases if case.name.partition("-")[0] == edition]
        passed = sum(case.agrees for case in own)
        lines.append(f"{edition} ({own[0].policy}): {passed} of {len(own)} agree")
    failed = sum(not case.agrees for case in cases)
    return [*lines, f"{len(cases) - failed} passed, {failed} failed"]
