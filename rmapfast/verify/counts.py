"""Replay of the calls that kprobes counted in real kernels: the ``[counts]`` table of measured-vm.toml.

How often folios are unmapped (``tuo``) and reference-checked (``fr``) depends on active/inactive balancing and is taken
as given. The walks (``pvmw``), rmap removals (``rr``), batch lengths (``nr``) and deferred flushes follow from them and
must come out exactly, but for a few removals of nr = 1 that the probes caught from elsewhere.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import rmapfast._core as _core
from rmapfast import arch as _arch
from rmapfast import policy as _policy
from rmapfast.arch import Arch
from rmapfast.editions import preset_of
from rmapfast.events import Events
from rmapfast.flags import FolioFlag
from rmapfast.loop import reclaim
from rmapfast.policy import Policy
from rmapfast.population import Population
from rmapfast.support import read_regular
from rmapfast.swap import Swap

# Unrelated rmap removals of single pages that a row may hold.
UNRELATED_REMOVALS = 4

_ROW = re.compile(
    r"(?P<machine>x86|arm64)_(?P<major>[67])(?P<minor>\d{1,2})_"
    r"(?:order_(?P<order>\d+)(?P<kind>_uffd_wp|_lazyfree|_anon_swap)?|holes_k_(?P<holes>\d+))"
)
_KINDS = {"_lazyfree": "lazyfree", "_anon_swap": "anon"}
# Folios that the recorded reclaims unmapped, by order (tuo of the same reclaims).
_UNMAPPED = {4: 817, 9: 26}
# Builds A and B of the measurements: 7.2 as it is, and with the seed's two lines reverted.
_BUILDS = {"A": _policy.get("v7.2"), "B": _policy.get("v7.2").replace(name="v7.2-file-per-page", file=False)}


@dataclass(frozen=True)
class Count:
    """One recorded figure and the model's.

    Parameters
    ----------
    row, what : str
        Row of the ``[counts]`` table, and the figure in it.
    recorded, model : int, or dict of int to int
        A number of calls, or how many batches had which length.
    agrees : bool or None
        Whether they agree. None: a prediction that the record cannot confirm exactly.
    """

    row: str
    what: str
    recorded: int | dict[int, int]
    model: int | dict[int, int]
    agrees: bool | None


def replay_counts(path: str | os.PathLike[str]) -> list[Count]:
    """Compare the recorded call counts of a file with the model's.

    Parameters
    ----------
    path : path
        A TOML file with a ``[counts]`` table as in measured-vm.toml.

    Returns
    -------
    list of Count

    Raises
    ------
    ValueError
        If the file is not TOML, or has no such table or a row that is not understood.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    try:
        rows = tomllib.loads(read_regular(path).decode())["counts"]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not TOML: {error}") from None
    except KeyError:
        raise ValueError(f"{path}: expected a [counts] table, found none") from None
    found = []
    if not isinstance(rows, dict):
        raise ValueError(f"{path}: [counts]: expected a table, got {rows!r}")
    for name, row in rows.items():
        match = _ROW.fullmatch(name)
        try:
            _check_figures(row)
            if match:
                found += _calls(name, row, match)
            elif name == "set_tlb_ubc_flush_pending_x86":
                found += _deferred(name, row)
            elif name == "arch_tlbbatch_flush_x86":
                found += _flushes(name, row)
            else:
                raise ValueError("the name is not understood")
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: [counts] {name}: {error}") from None
    return found


def _check_figures(row: object) -> None:
    """Raise ValueError unless a row is a table of counts, or of tables of counts."""
    if not isinstance(row, dict):
        raise ValueError(f"expected a table, got {row!r}")
    for key, value in row.items():
        if isinstance(value, dict):
            _check_figures(value)
        elif type(value) is not int or not 0 <= value < 1 << 31:
            raise ValueError(f"{key}: expected a count, got {value!r}")


def replay_calls(
    population: Population, policy: Policy, arch: Arch, unmapped: int, checked: int
) -> tuple[Events, dict[int, int]]:
    """Unmap the first `unmapped` folios, each reference-checked before; the first `checked - unmapped` once earlier."""
    population.folio_refcount += 1  # isolated
    run = _core.Run(population, policy, arch, swap=Swap(1 << 30))
    for folio in range(checked - unmapped):
        run.folio_referenced_one(folio, 0)
    large = int(population.folio_order[0]) > 0
    ttu = _core.TTU_FLAGS["BATCH_FLUSH"] | (_core.TTU_FLAGS["SYNC"] if large else 0)
    for folio in range(unmapped):
        run.folio_referenced_one(folio, 0)
        run.try_to_unmap_one(folio, 0, ttu)
    return Events(run.events), run.batch_lengths


def _mapping(arch: Arch, order: int, folios: int, kind: str = "file", **options: Any) -> Population:
    population = Population.synthetic(
        (folios << order) * arch.page_size, arch=arch, kind=kind, orders=order, young=0.0, **options
    )
    if kind == "anon":
        population.folio_flags |= FolioFlag.SWAPCACHE  # reclaim gives the folios swap space before it unmaps them
    return population


def _calls(name: str, row: dict[str, Any], match: re.Match[str]) -> list[Count]:
    arch = _arch.of_machine(match["machine"])
    policy = _policy.get(preset_of(f"{match['major']}.{match['minor']}"))
    order = 9 if match["holes"] else int(match["order"])
    options: dict[str, Any] = {"holes": f"every:{match['holes']}"} if match["holes"] else {}
    if match["kind"] == "_uffd_wp":
        options["uffd_wp_vma"] = True
    kind = _KINDS.get(match["kind"], "file")
    unmapped, checked = row["tuo"], row["fr"]
    population = _mapping(arch, order, max(unmapped, checked - unmapped), kind, **options)
    events, lengths = replay_calls(population, policy, arch, unmapped, checked)
    removals = events["rmap_remove_calls"]
    found = [
        Count(name, "pvmw", row["pvmw"], events["walk_calls"], row["pvmw"] == events["walk_calls"]),
        Count(name, "rr", row["rr"], removals, 0 <= row["rr"] - removals <= UNRELATED_REMOVALS),
    ]
    if "nr" in row:
        recorded = {int(nr): count for nr, count in row["nr"].items()}
        unrelated = recorded.get(1, 0) - lengths.get(1, 0)
        agrees = recorded | {1: 0} == lengths | {1: 0} and 0 <= unrelated <= UNRELATED_REMOVALS
        found.append(Count(name, "nr", recorded, lengths, agrees))
    return found


# Runs the reclaim of a row on folios of an order under a policy.
_Run = Callable[[int, Policy], Events]


def _builds(name: str, row: dict[str, Any], event: str, run: _Run) -> list[Count]:
    """A row with a figure per order and build."""
    found = []
    for order, builds in row.items():
        if not isinstance(builds, dict):
            raise ValueError(f"{order}: expected a figure for each build, got {builds!r}")
        for build, recorded in builds.items():
            got = run(int(order.removeprefix("order_")), _BUILDS[build])[event]
            found.append(Count(name, f"{order} {build}", recorded, got, recorded == got))
    return found


def _deferred(name: str, row: dict[str, Any]) -> list[Count]:
    arch = _arch.get("x86-64")

    def unmap(order: int, policy: Policy) -> Events:
        folios = _UNMAPPED[order]
        return replay_calls(_mapping(arch, order, folios), policy, arch, folios, folios)[0]

    return _builds(name, row, "tlb_deferred", unmap)


def _flushes(name: str, row: dict[str, Any]) -> list[Count]:
    """One flush per shrink_folio_list call; how many of those order 4 took depends on scan sizes that are not given."""
    arch = _arch.get("x86-64")

    def reclaim_all(order: int, policy: Policy) -> Events:
        population = _mapping(arch, order, _UNMAPPED[order])
        return reclaim(population, population.nr_pages * arch.page_size, policy=policy, arch=arch, in_place=True).events

    found = _builds(name, row, "tlb_flushes", reclaim_all)
    return [replace(count, agrees=None) if count.what.startswith("order_4") else count for count in found]


def count_lines(found: list[Count]) -> list[str]:
    """Return the figures as lines of text, one each, ending in ``N passed, N failed``."""
    width = max(len(f"{count.row} {count.what}") for count in found)
    table = []
    for count in found:
        verdict = {True: "agrees", False: "DIFFERS", None: "predicted from isolation alone"}[count.agrees]
        table.append(
            f"{f'{count.row} {count.what}':<{width}}  recorded {count.recorded}  model {count.model}  {verdict}"
        )
    checked = [count.agrees for count in found if count.agrees is not None]
    return [*table, f"{sum(checked)} passed, {len(checked) - sum(checked)} failed"]
