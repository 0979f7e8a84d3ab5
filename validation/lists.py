"""The rows of measured-mglru.toml that are instructions: whole reclaims and calls under the multi-gen LRU."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rmapfast import Population, reclaim
from rmapfast.events import EVENT_NAMES
from rmapfast.lru import LruGen
from rmapfast.verify.rows import Row as Recorded
from rmapfast.verify.rows import mapping, parse_row
from validation.rows import MIB, POLICIES, Row, load, without

FILE = "measured-mglru.toml"
# A memory cgroup that was reclaimed until it was empty: two generations are left, and the next reclaim ages first.
EMPTIED = LruGen(max_seq=5, min_seq_anon=2, min_seq_file=4)
# What happens outside of shrink_folio_list().
_OUTSIDE = (
    *("isolation_calls", "pages_scanned", "priority_passes", "reclaim_rounds"),
    *("folios_sorted", "folios_from_generations"),
    *(event for event in EVENT_NAMES if event.startswith("aging_") or event == "ages"),
)
# The vector of a kernel; of 7.3 there are too few rows for one of its own.
_EDITION = {"612": "6.12", "72": "7.2", "73": "7.2"}


def mglru_rows() -> list[Row]:
    """Return the rows of measured-mglru.toml that are instructions."""
    data = load(FILE)
    return [*_totals(data), *_ab(data), *_first_three(data), *_calls_of_old(data), *_calls(data)]


def _reclaimed(population: Population, policy, arch, mib: int, later: bool):
    if later:
        population.lru_gen = EMPTIED
    options = {"policy": policy, "arch": arch, "lru": "mglru", "swap": False, "in_place": True}
    return reclaim(population, mib * MIB, **options)


def _row_of(section: str, name: str, vector: str, kind: str, recorded: Recorded, measured: float, counts, traced=0.0):
    return Row(FILE, section, name, vector, kind, recorded.order, measured, counts, traced)


def _vector(recorded: Recorded) -> str:
    machine, kernel = recorded.name.split("_")[:2]
    return f"{machine}-{_EDITION[kernel]}"


def _name(recorded: Recorded, later: bool = False) -> str:
    """A name whose last word is the build: rows of one design differ in it alone."""
    _, kernel, rest = recorded.name.split("_", 2)
    return f"mglru {rest}{' later' if later else ''} {kernel[0]}.{kernel[1:]}"


def _total(
    section: str, recorded: Recorded, vector: str, name: str, measured: float, size: int, later: bool, policy=None
):
    """A whole reclaim of 80% of so many MiB, per page."""
    population = mapping(recorded, size * MIB)
    result = _reclaimed(population, policy or recorded.policy, recorded.arch, size * 4 // 5, later)
    counts = result.events.counts / result.reclaimed_pages
    return _row_of(section, name, vector, "total", recorded, measured, counts)


def _totals(data: dict) -> Iterator[Row]:
    for key, figures in data["total"].items():
        recorded = parse_row(key)
        size = 128 if recorded.young or key.startswith("arm64") else 256
        # Of seven runs whose order is not known six found a memory cgroup that was emptied.
        for figure, later in (("fresh", False), ("later", True), ("median", True)):
            if figure in figures:
                name = _name(recorded, later)
                yield _total("total", recorded, _vector(recorded), name, figures[figure], size, later)


def _ab(data: dict) -> Iterator[Row]:
    for key, builds in data["ab"].items():
        later = not key.endswith("_fresh")
        recorded = parse_row(f"x86_72_{key.removeprefix('file_').removesuffix('_fresh')}")
        for build, measured in builds.items():
            name = f"mglru order_{recorded.order}{' later' if later else ''} {build}"
            yield _total("ab", recorded, "ab-7.2.13", name, measured, 256, later, POLICIES[build])


def _first_three(data: dict) -> Iterator[Row]:
    for key, (first, second, _) in data["first_three"].items():
        recorded = parse_row(key)
        for measured, later in ((first, False), (second, True)):
            name = f"64M {_name(recorded, later)}"
            yield _total("first_three", recorded, _vector(recorded), name, measured, 64, later)


def _of_calls(recorded: Recorded, kind: str, policy=None) -> np.ndarray:
    """Mean events of a call in the recorded reclaim."""
    result = _reclaimed(mapping(recorded), policy or recorded.policy, recorded.arch, 51, later=False)
    events = result.events
    if kind == "referenced":
        return result.referenced_events.counts / events["referenced_calls"]
    if kind == "unmap":
        counts = events.counts - result.referenced_events.counts
        loop = ("isolation_calls", "shrink_calls", "folios_scanned", "folios_freed", "pages_freed", "folios_kept")
        cache = ("folios_activated", "page_cache_slots", "page_cache_folios", "pages_came_back", "tlb_flushes", "ipis")
        return without(counts, *_OUTSIDE, *loop, *cache) / events["unmap_calls"]
    return without(events.counts, *_OUTSIDE) / events["shrink_calls"]


_KINDS = {"folio_referenced": "referenced", "try_to_unmap": "unmap", "shrink_folio_list": "shrink"}


def _calls_of_old(data: dict) -> Iterator[Row]:
    for key, builds in data["per_call_old"].items():
        prefix, what = key.split("_order_")[0].split("_", 1)
        for build, measured in builds.items():
            if build.startswith("calls"):
                continue
            kernel = "612" if build == "6.12" else "72"
            recorded = parse_row(f"x86_{kernel}_order_{key.split('_order_')[1]}")
            vector = "ab-7.2.13" if prefix == "ab" else f"x86-{build}"
            counts = _of_calls(recorded, _KINDS[what], POLICIES[build])
            name = f"mglru {what} order_{recorded.order} {build}"
            yield _row_of("per_call_old", name, vector, _KINDS[what], recorded, measured, counts, 1.0)


def _calls(data: dict) -> Iterator[Row]:
    for key, figures in data["per_call"].items():
        machine, kernel, rest = key.split("_", 2)
        what, _, rest = rest.partition("_order_")
        if what not in _KINDS:
            continue  # what a look-around takes is a part of its folio_referenced
        recorded = parse_row(f"{machine}_{kernel}_order_{rest}")
        counts = _of_calls(recorded, _KINDS[what])
        name = f"mean {_name(recorded)}"
        measured = figures["total"] / figures["calls"]
        yield _row_of("per_call", name, _vector(recorded), _KINDS[what], recorded, measured, counts, 1.0)
