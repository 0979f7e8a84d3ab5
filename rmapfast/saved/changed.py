"""Numbers that are not what they were: of a run, of a sweep, and as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from rmapfast.result import Result
from rmapfast.support import folded
from rmapfast.sweeps import Record, SweepData, where

_Name = TypeVar("_Name", bound=str | int)

# Numbers in a table, and differences of one kind of price that are listed.
_MOST_SHOWN = 20
_MOST_PRICES = 1000


@dataclass(frozen=True)
class Difference:
    """A number that is not what it was.

    Parameters
    ----------
    where : str
        The run: policy and architecture, or the steps of a point of a sweep.
    name : str
        The event (a count), ``batches of N`` (unmap steps of N pages), ``reclaimed_pages`` and ``target_pages`` (base
        pages), ``predicted``, ``predicted low``, ``predicted high`` (the unit of the cost vector), or ``error``.
    before, now : int, float, str or None
        A price is None where there is none. An error is a text.

    Examples
    --------
    >>> import rmapfast as rf
    >>> rf.Difference("v7.0 on x86-64", "batches", 9, 10).now
    10
    """

    where: str
    name: str
    before: int | float | str | None
    now: int | float | str | None


def differences(before: SweepData, now: SweepData) -> Iterator[Difference]:
    """Yield what differs between two sweeps of the same space; of prices the first 1000 of each kind.

    Raises
    ------
    ValueError
        If the spaces differ.
    """
    if before.space.to_dict() != now.space.to_dict():
        raise ValueError("sweeps: expected two of the same space, got different ones")
    keys = zip(before.simulations.items(), now.simulations.values(), strict=True)
    for (index, key), other in keys:
        point = where(before, index, before.structural)
        yield from _of_records(point, before.records.get(key, {}), now.records.get(other, {}))
    old, new = before.prices, now.prices
    prices = {
        "predicted": (old.predicted, new.predicted),
        "predicted low": (old.low, new.low),
        "predicted high": (old.high, new.high),
    }
    for name, (was, became) in prices.items():
        same = np.isclose(was, became, rtol=1e-12, atol=0, equal_nan=True)
        for place in np.argwhere(~same)[:_MOST_PRICES]:
            at = tuple(int(step) for step in place)
            yield Difference(where(before, at), name, float(was[at]), float(became[at]))


def _of_records(point: str, old: Record, new: Record) -> Iterator[Difference]:
    if old.get("error") != new.get("error"):
        yield Difference(point, "error", old.get("error", "none"), new.get("error", "none"))
    yield from _of_counts(point, old.get("events", {}), new.get("events", {}))
    yield from _of_counts(point, old.get("referenced_events", {}), new.get("referenced_events", {}), "referenced ")
    yield from _of_counts(point, old.get("batch_lengths", {}), new.get("batch_lengths", {}), "batches of ")
    yield from _of_counts(point, _sizes(old), _sizes(new))


def _sizes(record: Record) -> dict[str, int]:
    return {"reclaimed_pages": record.get("reclaimed_pages", 0), "target_pages": record.get("target_pages", 0)}


def run_differences(before: Result, now: Result) -> Iterator[Difference]:
    """Yield what differs between two runs of the same reclaim, apart from what depends on the machine."""
    run = f"{before.policy_name} on {before.arch.name}"
    yield from _of_counts(run, before.events, now.events)
    yield from _of_counts(run, before.batch_lengths, now.batch_lengths, "batches of ")
    old_sizes, new_sizes = (
        {"reclaimed_pages": one.reclaimed_pages, "target_pages": one.target_pages} for one in (before, now)
    )
    yield from _of_counts(run, old_sizes, new_sizes)
    old, new = (one.prediction.value if one.costs else None for one in (before, now))
    if old != new:
        yield Difference(run, "predicted", old, new)


def _of_counts(
    point: str, before: Mapping[_Name, int], now: Mapping[_Name, int], prefix: str = ""
) -> Iterator[Difference]:
    """Yield the counts that differ; one that is left out is 0."""
    for name in dict.fromkeys([*before, *now]):
        old, new = before.get(name, 0), now.get(name, 0)
        if old != new:
            yield Difference(point, f"{prefix}{name}", old, new)


def differences_table(differences: Sequence[Difference]) -> str:
    """Return numbers that are not what they were as a plain table: 20 of them at most."""
    shown = differences[:_MOST_SHOWN]
    lines = [line for one in shown for line in folded(f"{one.where}: {one.name} was {one.before}, is {one.now}")]
    if len(differences) > _MOST_SHOWN:
        lines.append(f"... and {len(differences) - _MOST_SHOWN} more")
    return "\n".join(lines)
