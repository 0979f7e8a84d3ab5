"""Replay of the calls that were counted in real kernels: the tables of counts of measured-vm.toml, measured-mglru.toml.

Every figure of every row is judged by itself. A figure must come out exactly but for what the recordings name as
foreign, which is a stated tolerance (:data:`TOLERANCES`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import rmapfast._core as _core
from rmapfast import policy as _policy
from rmapfast.arch import Arch
from rmapfast.events import Events
from rmapfast.policy import Policy
from rmapfast.population import Population
from rmapfast.support import read_toml
from rmapfast.swap import Swap
from rmapfast.verify.rows import Counted, Row, mapping, parse_row, reclaim_row

TABLES = ("counts", "classic_counts", "counts_with_unrelated_walks")
# What the recordings name as foreign.
TOLERANCES = {
    "exit": "up to 4 removals of single pages belong to the exit of a shell",
    "walks": "up to 10 walks belong to something else",
    "damon": "DAMON_STAT makes up to 4 old folios referenced",
    "swap-out": "anonymous folios are freed when their write-out ends: calls up to 4 times as often, others within 1%",
    "cpu": "a process that ran on the reclaimer's CPU alone is flushed at once",
}
_MOST_FOREIGN = 4
_MOST_FOREIGN_WALKS = 10
# Builds A and B of the measurements: 7.2 as it is, and with the seed's two lines reverted.
_BUILDS = {"A": _policy.get("v7.2"), "B": _policy.get("v7.2").replace(name="v7.2-file-per-page", file=False)}

Figure = int | list[int] | dict[int, int]


@dataclass(frozen=True)
class Count:
    """One recorded figure and the model's.

    Parameters
    ----------
    row, what : str
        Row of a table, and the figure in it.
    recorded : int, list of int, dict of int to int, or None
        A number, numbers, or how many had which length; None for a row that cannot be read.
    model : likewise
    agrees : bool
        Whether they agree, or differ by what a tolerance allows.
    note : str
        Which tolerance that is, or why the row cannot be read.
    """

    row: str
    what: str
    recorded: Figure | None
    model: Figure | None
    agrees: bool
    note: str = ""


def replay_counts(path: str | os.PathLike[str], engine: str = "c") -> list[Count]:
    """Compare the recorded call counts of a file with the model's.

    Parameters
    ----------
    path : path
        A TOML file with a table ``[counts]`` or ``[classic_counts]``, as in measured-vm.toml or measured-mglru.toml.
    engine : {'c', 'reference'}
        What reclaims the mappings.

    Returns
    -------
    list of Count
        A row that cannot be read is one figure that does not agree; its note says why.

    Raises
    ------
    ValueError
        If the file is not TOML, or has no such table.
    OSError
        If it cannot be read.
    """
    found: list[Count] = []
    for table, rows in tables_of(path, TABLES).items():
        for name, row in rows.items():
            try:
                judged = _row(name, row, table == "classic_counts", engine)
                found += judged if table != "counts_with_unrelated_walks" else map(_without_walks, judged)
            except (KeyError, TypeError, ValueError) as error:
                text = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
                found.append(Count(name, "row", None, None, False, f"cannot be read: {text}"))
    return found


def _without_walks(count: Count) -> Count:
    """Judge the walks of a row in which some belong to something else."""
    recorded, model = count.recorded, count.model
    if count.agrees or count.what != "pvmw" or not isinstance(recorded, int) or not isinstance(model, int):
        return count
    agrees = 0 < recorded - model <= _MOST_FOREIGN_WALKS
    return replace(count, agrees=agrees, note=TOLERANCES["walks"] if agrees else "")


def tables_of(path: str | os.PathLike[str], names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return those tables of a TOML file that it has.

    Raises
    ------
    ValueError
        If the file is not TOML or has none of them.
    """
    document = read_toml(path)
    found = {name: document[name] for name in names if name in document}
    if not found:
        raise ValueError(f"{path}: expected a table {' or '.join(f'[{name}]' for name in names)}, found none")
    for name, table in found.items():
        if not isinstance(table, dict):
            raise ValueError(f"{path}: [{name}]: expected a table, got {table!r}")
    return found


def _row(name: str, row: Any, classic: bool, engine: str) -> list[Count]:
    _check_figures(row)
    if name == "set_tlb_ubc_flush_pending_x86":
        return _builds(name, row, "tlb_deferred")
    if name == "arch_tlbbatch_flush_x86":
        return _builds(name, row, "tlb_flushes")
    if "sfl" in row:
        return _reclaim(parse_row(name, classic=classic), row, engine)
    return _calls(parse_row(name, classic=True), row)


def _check_figures(row: object) -> None:
    """Raise ValueError unless a row is a table of counts, or of tables or lists of counts."""
    if not isinstance(row, dict):
        raise ValueError(f"expected a table, got {row!r}")
    for key, value in row.items():
        if isinstance(value, dict):
            _check_figures(value)
            continue
        for one in value if isinstance(value, list) else [value]:
            if type(one) is not int or not 0 <= one < 1 << 31:
                raise ValueError(f"{key}: expected a count, got {one!r}")


# --- rows of a whole reclaim -----------------------------------------------------------------------------------------

_EVENTS = {
    "freed": ("pages_freed",),
    "tuo": ("unmap_calls",),
    "fr": ("referenced_calls",),
    "pvmw": ("walk_calls",),
    "sfl": ("shrink_calls",),
    "rounds": ("reclaim_rounds",),
    "passes": ("priority_passes",),
    "active_calls": ("active_passes",),
    "la": ("look_arounds",),
    "la_young": ("look_arounds_young",),
    "ages": ("ages",),
    "update_calls": ("window_updates", "aging_updates"),
    "young_ptes": ("young_tests", "aging_young_tests"),
    "stp": ("tlb_deferred",),
    "flushes": ("tlb_flushes",),
    "contpte_gets": ("contpte_gathers",),
    "contpte_unfolds": ("contpte_unfolds",),
}


def _model(what: str, row: Row, counted: Counted) -> Figure:
    """Return a figure of the model by the name that the recordings give it."""
    events = counted.events
    folded = row.arch.cont_ptes > 1 and 1 << row.order >= row.arch.cont_ptes
    if what in _EVENTS:
        total = sum(events[event] for event in _EVENTS[what])
        # a young test of a PMD leaf is none of a PTE
        return total - counted.referenced["pmd_locks"] if what == "young_ptes" else total
    if what == "rr":  # folio_remove_rmap_ptes() alone
        return events["rmap_remove_calls"] - events["pmds_cleared"]
    if what == "nr":
        return counted.lengths
    if what == "la_nr":
        return counted.looked_around
    if what == "start_generations":
        return counted.generations
    if what == "contpte_young_calls":
        return folded * (events["young_calls"] + events["aging_young_calls"])
    if what == "contpte_clear_calls":
        return folded * events["batches"]
    if what == "contpte_flush_young_calls":
        return events["young_flushes"]
    raise ValueError(f"{what}: no such figure")


def _reclaim(row: Row, figures: dict[str, Any], engine: str) -> list[Count]:
    """Judge the figures of a reclaim; where the statistics are not known, by the state that more of them fit."""
    start = figures.get("start_generations")
    return max(
        (_judge_all(row, figures, reclaim_row(row, stats, engine, start)) for stats in row.lru_stats),
        key=lambda found: sum(count.agrees for count in found),
    )


def _judge_all(row: Row, figures: dict[str, Any], counted: Counted, *, whole: bool = True) -> list[Count]:
    """Judge the figures of a row: of a whole reclaim, or of calls whose numbers are given."""
    found = []
    for what, value in figures.items():
        recorded = {int(length): count for length, count in value.items()} if isinstance(value, dict) else value
        model = _model(what, row, counted)
        if recorded == model:
            found.append(Count(row.name, what, recorded, model, True))
            continue
        tolerance = _tolerance(row, what, recorded, model, counted, whole=whole)
        found.append(Count(row.name, what, recorded, model, bool(tolerance), TOLERANCES.get(tolerance, "")))
    return found


def _tolerance(row: Row, what: str, recorded: Figure, model: Figure, counted: Counted, *, whole: bool) -> str:
    """Return the tolerance that allows a difference, or ""."""
    if what in ("rr", "nr") and _without_singles(recorded) == _without_singles(model):
        if 0 <= _singles(recorded) - _singles(model) <= _MOST_FOREIGN:
            return "exit"
    # more checks or later write-outs change what a reclaim does, not what a given number of calls does
    if whole and row.samples and _is_sampled(row, what, recorded, model, counted):
        return "damon"
    if whole and row.kind == "anon" and _is_late(what, recorded, model):
        return "swap-out"
    if what == "stp" and "two" in row.parts and isinstance(recorded, int) and recorded * 2 == model:
        return "cpu"
    return ""


def _without_singles(figure: Figure) -> dict[int, int] | None:
    return {length: count for length, count in figure.items() if length != 1} if isinstance(figure, dict) else None


def _singles(figure: Figure) -> int:
    return figure if isinstance(figure, int) else figure.get(1, 0) if isinstance(figure, dict) else 0


def _is_sampled(row: Row, what: str, recorded: Figure, model: Figure, counted: Counted) -> bool:
    """Whether a few more reference checks of old folios, and as many young entries less, explain a difference."""
    if what == "la_nr":
        return (
            isinstance(recorded, dict)
            and isinstance(model, dict)
            and set(recorded) == set(model)
            and all(0 <= recorded[length] - model[length] <= _MOST_FOREIGN for length in model)
        )
    if not isinstance(recorded, int) or not isinstance(model, int):
        return False
    more = recorded - model
    checks = max(counted.referenced["referenced_calls"], 1)
    per_check = {
        "fr": 1,
        "la": 1,
        "sfl": 1,
        "contpte_young_calls": 1,
        "pvmw": -(-counted.referenced["walk_calls"] // checks),
        # its entries are read one by one in place of by blocks, and once more by the check
        "contpte_gets": (1 << row.order) + 1,
    }
    if what in per_check:
        return 0 < more <= _MOST_FOREIGN * per_check[what]
    return what in ("la_young", "update_calls") and -_MOST_FOREIGN <= more < 0


def _is_late(what: str, recorded: Figure, model: Figure) -> bool:
    """Whether a difference may come from write-outs that end later: in folios a little, in what is repeated much."""
    if isinstance(recorded, dict) and isinstance(model, dict):
        return set(recorded) == set(model) and all(_is_late(what, recorded[nr], model[nr]) for nr in model)
    if not isinstance(recorded, int) or not isinstance(model, int):
        return False
    repeated = what in ("sfl", "rounds", "passes", "ages", "update_calls")
    return model <= recorded <= model * 4 if repeated else abs(recorded - model) <= model / 100


# --- rows of calls, whose numbers are given --------------------------------------------------------------------------


def replay_calls(
    population: Population, policy: Policy, arch: Arch, unmapped: int, checked: int
) -> tuple[Events, dict[int, int]]:
    """Unmap the first `unmapped` folios, each reference-checked before; the first `checked - unmapped` once earlier."""
    population.folio_refcount += 1  # isolated
    run = _core.Run(population, policy, arch, swap=Swap(1 << 30))
    for folio in range(checked - unmapped):
        run.folio_referenced_one(folio, 0)
    order = int(population.folio_order[0])
    ttu = _core.TTU_FLAGS["BATCH_FLUSH"] | (_core.TTU_FLAGS["SYNC"] if order else 0)
    if 1 << order >= population.ptrs_per_pte:
        ttu |= _core.TTU_FLAGS["SPLIT_HUGE_PMD"]
    for folio in range(unmapped):
        run.folio_referenced_one(folio, 0)
        run.try_to_unmap_one(folio, 0, ttu)
    return Events(run.events), run.batch_lengths


def _calls(row: Row, figures: dict[str, Any]) -> list[Count]:
    """How often folios are unmapped and checked is given; walks, removals and batch lengths follow."""
    for name in ("tuo", "fr", "pvmw", "rr"):
        if name not in figures:
            raise KeyError(name)
    unmapped, checked = figures["tuo"], figures["fr"]
    folios = max(unmapped, checked - unmapped)
    population = mapping(row, (folios << row.order) * row.arch.page_size)
    if row.kind == "anon":
        population.folio_flags |= _core.FOLIO_SWAPCACHE  # reclaim gives folios swap space before it unmaps them
    events, lengths = replay_calls(population, row.policy, row.arch, unmapped, checked)
    counted = Counted(events, events, lengths, {}, [], [])
    return _judge_all(
        row, {name: figures[name] for name in ("pvmw", "rr", "nr") if name in figures}, counted, whole=False
    )


def _builds(name: str, row: dict[str, Any], event: str) -> list[Count]:
    """Judge a row with a figure per order and build, of whole reclaims under the classic LRU."""
    found = []
    for order, builds in row.items():
        if not isinstance(builds, dict):
            raise ValueError(f"{order}: expected a figure for each build, got {builds!r}")
        whole = parse_row(f"x86_72_{order}", classic=True)
        for build, recorded in builds.items():
            if build not in _BUILDS:
                raise ValueError(f"{order}: expected build A or B, got {build!r}")
            counted = reclaim_row(Row(whole.name, whole.arch, _BUILDS[build], whole.order, classic=True))
            model = counted.events[event]
            found.append(Count(name, f"{order} {build}", recorded, model, recorded == model))
    return found


def verdict(count: Count) -> str:
    """Return in words whether a figure agrees."""
    if not count.agrees:
        return "DIFFERS"
    return f"within tolerance: {count.note}" if count.note else "agrees"


def count_lines(found: list[Count]) -> list[str]:
    """Return the figures as lines of text, one each, ending in ``N passed, M failed``."""
    width = max((len(f"{count.row} {count.what}") for count in found), default=0)
    table = []
    for count in found:
        if count.recorded is None:
            table.append(f"{count.row:<{width}}  {count.note}")
            continue
        table.append(
            f"{f'{count.row} {count.what}':<{width}}  recorded {count.recorded}  model {count.model}  {verdict(count)}"
        )
    passed = sum(count.agrees for count in found)
    return [*table, f"{passed} passed, {len(found) - passed} failed"]
