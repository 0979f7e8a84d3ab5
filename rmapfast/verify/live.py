"""Replay of before/after pairs of captures: which pages a real kernel unmapped, and which the model does."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rmapfast import pte
from rmapfast.captures import Capture, CaptureError
from rmapfast.editions import preset_of
from rmapfast.layout import FolioIndex
from rmapfast.loop import reclaim
from rmapfast.population import Population

# How a page can end.
STATES = ("none", "marker", "mapped", "swap")
_MAPPED = STATES.index("mapped")
_STATE_OF_KIND = np.array(
    [
        STATES.index({"none": "none", "marker_uffd_wp": "marker", "swap": "swap"}.get(kind, "mapped"))
        for kind in pte.KINDS
    ],
    np.uint8,
)


@dataclass(frozen=True)
class CaptureCase:
    """One pair (or pairs of several processes) and how the model compares with it.

    Parameters
    ----------
    name, action : str
        The case, and what was done between the two captures as the model replays it.
    policy : str
        Preset that was replayed.
    pages : int
        Pages compared.
    differences : int
        Pages that end in another state than in the real kernel.
    real, model : dict of str to int
        Pages by end state (none, marker, mapped, swap).
    """

    name: str
    action: str
    policy: str
    pages: int
    differences: int
    real: dict[str, int]
    model: dict[str, int]

    @property
    def agrees(self) -> bool:
        """Whether each page ends in the same state."""
        return not self.differences


def replay_captures(
    directory: str | os.PathLike[str], engine: str = "c", without: Container[str] = ()
) -> list[CaptureCase]:
    """Reclaim the "before" capture of every pair in a directory and compare with its "after".

    Parameters
    ----------
    directory : path
        Holds ``NAME.before.npz`` and ``NAME.after.npz``; ``NAME.p0``, ``NAME.p1`` ... are processes of one case. A name
        that ends in ``_pageout`` is replayed as MADV_PAGEOUT, one in ``_memcg`` as memory.reclaim of everything, one
        in ``_partfree`` as no reclaim, any other as memory.reclaim of as many folios as the pair lost. No swap.
    engine : {'c', 'general', 'reference'}
        As for :func:`rmapfast.reclaim`.
    without : container of str
        Names of cases that are left out.

    Returns
    -------
    list of CaptureCase

    Raises
    ------
    CaptureError
        For damaged captures, a directory without pairs, a pair that is not complete, or captures whose kernel release
        is not understood.
    """
    directory = Path(directory)
    befores = sorted(directory.glob("*.before.npz"))
    if not befores:
        raise CaptureError(f"{directory}: no NAME.before.npz in it")
    groups: dict[str, list[Path]] = {}
    for path in befores:
        name = re.sub(r"\.p\d+$", "", path.name.removesuffix(".before.npz"))
        groups.setdefault(name, []).append(path)
    return [_replay(name, paths, engine) for name, paths in groups.items() if name not in without]


def _replay(name: str, paths: list[Path], engine: str) -> CaptureCase:
    afters = [path.with_name(path.name.replace(".before.npz", ".after.npz")) for path in paths]
    for path in afters:
        if not path.exists():
            raise CaptureError(f"{path}: missing; a pair needs its before and its after capture")
    before, after = ([Capture.load(path) for path in side] for side in (paths, afters))
    kernel = str(before[0].meta.get("kernel"))
    try:
        edition = preset_of(kernel)
    except ValueError as error:
        raise CaptureError(f"{paths[0]}: kernel {error}") from None
    population = Population.from_captures(before)
    real = np.concatenate([_states(Population.from_captures([capture])) for capture in after])
    start = np.concatenate([_states(Population.from_captures([capture])) for capture in before])
    if len(start) != len(real):
        raise CaptureError(f"{afters[0]}: {len(real)} pages, but the capture before has {len(start)}")
    action, result = _act(name, population, edition, _went(population, (start == _MAPPED) & (real != _MAPPED)), engine)
    model = _states(result) if result else start
    return CaptureCase(
        name=name,
        action=action,
        policy=edition,
        pages=len(real),
        differences=int(np.count_nonzero(model != real)),
        real=_counts(real),
        model=_counts(model),
    )


def _went(population: Population, gone: npt.NDArray[np.bool_]) -> int:
    """Return how many folios lost their last mapping, where `gone` says which slots lost theirs."""
    mapped = np.flatnonzero(pte.maps_page(population.ptes))
    index = FolioIndex(population.folio_pfn, population.folio_order)
    folio = index.find(population.ptes[mapped] >> pte.PFN_SHIFT)
    left = np.bincount(folio[~gone[mapped]], minlength=len(population.folio_pfn))
    had = np.bincount(folio, minlength=len(population.folio_pfn))
    return int(np.sum((had > 0) & (left == 0)))


def _act(name: str, population: Population, policy: str, went: int, engine: str) -> tuple[str, Population | None]:
    """Replay what the case's name says; return the action, and the population after it (None: nothing is reclaimed)."""
    page = 1 << population.page_shift
    if name.endswith("_pageout"):
        return "MADV_PAGEOUT", reclaim(population, 0, policy=policy, entry="pageout", swap=False, engine=engine).after
    if name.endswith("_memcg"):
        everything = population.nr_pages * page
        return "force_empty", reclaim(population, everything, policy=policy, swap=False, engine=engine).after
    if name.endswith("_partfree"):
        return "MADV_FREE, no reclaim", None
    # Other page cache took part of the request there, also inside the isolations. So the number of folios comes from
    # the pair, and reclaim gets to see as many at the heads of the lists.
    lru = np.concatenate([population.lru_inactive, population.lru_active])
    seen = np.cumsum(population.folio_mapcount[lru] > 0) <= went
    nr_inactive = len(population.lru_inactive)
    population.lru_inactive, population.lru_active = (
        lru[:nr_inactive][seen[:nr_inactive]],
        lru[nr_inactive:][seen[nr_inactive:]],
    )
    everything = population.nr_pages * page
    result = reclaim(population, everything, policy=policy, swap=False, engine=engine)
    return f"memory.reclaim of {went} folios", result.after


def _states(population: Population) -> npt.NDArray[np.uint8]:
    """Return the state of each slot as an index into STATES, in the order of the captures' VMAs."""
    states: npt.NDArray[np.uint8] = _STATE_OF_KIND[pte.kind(population.ptes)]
    return states


def _counts(states: npt.NDArray[np.uint8]) -> dict[str, int]:
    found = np.bincount(states, minlength=len(STATES))
    return {name: int(count) for name, count in zip(STATES, found, strict=True) if count}


def capture_lines(cases: list[CaptureCase]) -> list[str]:
    """Return the cases as lines of text, one each, ending in ``N passed, N failed``."""
    width = max(len(case.name) for case in cases)
    table = []
    for case in cases:
        verdict = (
            "agrees"
            if case.agrees
            else f"{case.differences} of {case.pages} pages differ: real {json.dumps(case.real)}, model"
        )
        ends = json.dumps(case.model)
        table.append(f"{case.name:<{width}}  {case.policy:<6} {case.action:<30} {verdict} {ends}")
    failed = sum(not case.agrees for case in cases)
    return [*table, f"{len(cases) - failed} passed, {failed} failed"]
