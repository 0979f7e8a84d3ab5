"""Replay of the calls that kprobes counted in real kernels: the ``[counts]`` table of measured-vm.toml.

How often folios are unmapped and reference-checked depends on active/inactive balancing and is taken as given (``tuo``
and ``fr``); the walks (``pvmw``), rmap removals (``rr``), batch lengths and deferred flushes follow and must come out
exactly, but for a few removals of nr = 1 that the probes caught from elsewhere.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

from rmapfast import _core
from rmapfast import arch as _arch
from rmapfast import policy as _policy
from rmapfast.editions import preset_of
from rmapfast.events import Events
from rmapfast.flags import FolioFlag
from rmapfast.population import Population
from rmapfast.swap import Swap

# Unrelated rmap removals of single pages that a row may hold.
UNRELATED_REMOVALS = 4

_ROW = re.compile(
    r"(?P<machine>x86|arm64)_(?P<major>[67])(?P<minor>\d{1,2})_"
    r"(?:order_(?P<order>\d+)(?P<kind>_uffd_wp|_lazyfree|_anon_swap)?|holes_k_(?P<holes>\d+))"
)
_KINDS = {"_lazyfree": "lazyfree", "_anon_swap": "anon"}
# Builds A and B of the measurements: 7.2 as it is, and with the seed's two lines reverted.
_BUILDS = {"A": _policy.get("v7.2"), "B": _policy.get("v7.2").replace(name="v7.2-file-per-page", file=False)}


@dataclass(frozen=True)
class Count:
    """One recorded figure and the model's."""

    row: str
    what: str
    recorded: object
    model: object
    agrees: bool | None  # None: a prediction that the record cannot confirm exactly


def replay_counts(path) -> list[Count]:
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
    """
    path = Path(path)
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8"))["counts"]
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


def _check_figures(row) -> None:
    """A row is a table of counts, or of tables of counts."""
    if not isinstance(row, dict):
        raise ValueError(f"expected a table, got {row!r}")
    for key, value in row.items():
        if isinstance(value, dict):
            _check_figures(value)
        elif type(value) is not int or not 0 <= value < 1 << 31:
            raise ValueError(f"{key}: expected a count, got {value!r}")


def replay_calls(population: Population, policy, arch, unmapped: int, checked: int) -> tuple[Events, dict[int, int]]:
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


def _mapping(arch, order: int, folios: int, kind: str = "file", **options) -> Population:
    population = Population.synthetic(
        (folios << order) * arch.page_size, arch=arch, kind=kind, orders=order, young=0.0, **options
    )
    if kind == "anon":
        population.folio_flags |= FolioFlag.SWAPCACHE  # reclaim gives the folios swap space before it unmaps them
    return population


def _calls(name: str, row: dict, match: re.Match) -> list[Count]:
    arch = _arch.of_machine(match["machine"])
    policy = _policy.get(preset_of(f"{match['major']}.{match['minor']}"))
    order = 9 if match["holes"] else int(match["order"])
    options = {"holes": f"every:{match['holes']}"} if match["holes"] else {}
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
        alike = {nr: count for nr, count in recorded.items() if nr != 1} == {
            nr: n for nr, n in lengths.items() if nr != 1
        }
        found.append(Count(name, "nr", recorded, lengths, alike and 0 <= unrelated <= UNRELATED_REMOVALS))
    return found


def _builds(name: str, row: dict, event: str, unmap) -> list[Count]:
    """A row with a figure per order and build."""
    found = []
    for order, builds in row.items():
        if not isinstance(builds, dict):
            raise ValueError(f"{order}: expected a figure for each build, got {builds!r}")
        for build, recorded in builds.items():
            got = unmap(int(order.removeprefix("order_")), _BUILDS[build])[event]
            found.append(Count(name, f"{order} {build}", recorded, got, recorded == got))
    return found


def _deferred(name: str, row: dict) -> list[Count]:
    arch = _arch.get("x86-64")

    def unmap(order, policy):
        folios = {4: 817, 9: 26}[order]  # tuo of the same reclaims
        return replay_calls(_mapping(arch, order, folios), policy, arch, folios, folios)[0]

    return _builds(name, row, "tlb_deferred", unmap)


def _flushes(name: str, row: dict) -> list[Count]:
    """One flush per shrink_folio_list call; how many of those order 4 took depends on scan sizes that are not given."""
    from rmapfast.loop import reclaim

    arch = _arch.get("x86-64")

    def unmap(order, policy):
        folios = {4: 817, 9: 26}[order]
        population = _mapping(arch, order, folios)
        return reclaim(population, population.nr_pages * arch.page_size, policy=policy, arch=arch, in_place=True).events

    found = _builds(name, row, "tlb_flushes", unmap)
    return [replace(count, agrees=None) if count.what.startswith("order_4") else count for count in found]


def count_lines(found: list[Count]) -> list[str]:
    """The figures as text, one each, ending in ``N passed, N failed``."""
    width = max(len(f"{count.row} {count.what}") for count in found)
    table = []
    for count in found:
        verdict = {True: "agrees", False: "DIFFERS", None: "predicted from isolation alone"}[count.agrees]
        table.append(
            f"{f'{count.row} {count.what}':<{width}}  recorded {count.recorded}  model {count.model}  {verdict}"
        )
    checked = [count.agrees for count in found if count.agrees is not None]
    return [*table, f"{sum(checked)} passed, {len(checked) - sum(checked)} failed"]
