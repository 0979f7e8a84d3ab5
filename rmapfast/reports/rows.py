"""The rows of a table of runs on one architecture, whatever the table is written as."""

from __future__ import annotations

import errno
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rmapfast.cost import LEVEL, Range
from rmapfast.events import EVENT_NAMES
from rmapfast.result import Result
from rmapfast.support import change, decimals, format_size, number, price_scale, ratio

# Lengths of a histogram that have a row of their own.
_MOST_LENGTHS = 8


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Parameters
    ----------
    label : str
    cells : tuple of str
        One per run, or none in a line that is a heading.
    ratios : tuple of str
        Ratio of each run but the first to the first; empty where a ratio says nothing.
    """

    label: str
    cells: tuple[str, ...] = ()
    ratios: tuple[str, ...] = ()


def per_page(run: Result, value: float) -> float:
    """Return a value of a run per reclaimed base page (NaN if nothing was reclaimed).

    Parameters
    ----------
    run : Result
    value : float
        Of the whole run, such as a price.
    """
    return value / run.reclaimed_pages if run.reclaimed_pages else math.nan


def of_whole_runs(runs: Sequence[Result]) -> bool:
    """Tell whether figures are those of the whole run: where a run reclaimed nothing it has none per page."""
    return any(run.reclaimed_pages == 0 for run in runs)


def _figure(run: Result, value: float, whole: bool) -> float:
    return value if whole else per_page(run, value)


def _figures(values: Iterable[float], places: int) -> tuple[str, ...]:
    return tuple("-" if math.isnan(value) else f"{value:.{places}f}" for value in values)


def _ratios(values: list[float]) -> tuple[str, ...]:
    return tuple(ratio(value, values[0]) for value in values[1:])


# Rows of runs on one architecture, the baseline first


def _price_rows(runs: Sequence[Result], same_memory: bool, whole: bool) -> list[Row]:
    """Return the prediction: the total with its interval, the price per page with its change, and the components."""
    predictions = [run.prediction if run.costs else None for run in runs]
    if not any(predictions):
        return []
    unit = next(prediction.unit for prediction in predictions if prediction)
    totals = [prediction.value if prediction else math.nan for prediction in predictions]
    pages = [per_page(run, total) for run, total in zip(runs, totals, strict=True)]
    compared = totals if whole and same_memory else pages
    name, scale = price_scale(unit, np.nanmax(totals))
    places = decimals(np.nanmax(totals) / scale)
    digits = decimals(np.nanmax([0.0, *pages]))
    intervals = tuple(
        "-".join(_figures([bound / scale for bound in prediction.interval], places)) if prediction else "-"
        for prediction in predictions
    )
    time = unit == "ns"
    level = f"({100 * LEVEL:.0f}%)"
    return [
        Row(
            f"predicted {'time' if time else 'instr.'} ({name})" if name else "predicted instr.",
            _figures([total / scale for total in totals], places),
            # Where the runs reclaim different memory, only the figures per page compare.
            _ratios(totals) if same_memory else (),
        ),
        Row(f"  interval {level}", intervals),
        Row(
            "ns per reclaimed page" if time else "instructions per page",
            _figures(pages, digits),
            _ratios(pages),
        ),
        *([Row("  change", ("", *(change(one, compared[0]) for one in compared[1:])))] if len(runs) > 1 else []),
        *_change_rows(runs, whole and same_memory, level),
        Row(f"components: {'ns' if time else 'instructions'}{'' if whole else ' per reclaimed page'}, share {level}"),
        *_component_rows(runs, digits, whole),
    ]


def _change_rows(runs: Sequence[Result], totals: bool, level: str) -> list[Row]:
    """Return the interval of each change, where both runs are priced by the same draws."""
    cells = ["", *(change_interval(runs[0], run, totals) for run in runs[1:])]
    return [Row(f"    interval {level}", tuple(cells))] if any(cell not in ("", "-") for cell in cells) else []


def change_interval(first: Result, run: Result, totals: bool) -> str:
    """Return the interval of the change between two runs in percent, or ``-`` where they are not drawn together.

    Parameters
    ----------
    first, run : Result
    totals : bool
        Whether whole runs are compared, in place of what they count per reclaimed page.
    """

    def counts(one: Result) -> npt.NDArray[np.float64]:
        return one.events.counts / (1 if totals else max(one.reclaimed_pages, 1))

    if run.costs is None or run.costs != first.costs:
        return "-"
    found = run.costs.change(counts(first), counts(run))
    return "-" if math.isnan(found.value) else _percents(found.low, found.high)


def _percents(low: float, high: float) -> str:
    return " to ".join(f"{round(100 * bound):+d}" if round(100 * bound) else "0" for bound in (low, high)) + "%"


def _component_rows(runs: Sequence[Result], places: int, whole: bool) -> list[Row]:
    rows = []
    ranges = [run.costs.shares(run.events.counts, run.referenced_events.counts) if run.costs else {} for run in runs]
    for component in dict.fromkeys(name for run in runs if run.costs for name in run.prediction.breakdown):
        shares = [run.prediction.breakdown.get(component, 0.0) if run.costs else math.nan for run in runs]
        pages = [_figure(run, share, whole) for run, share in zip(runs, shares, strict=True)]
        cells = tuple(
            "-" if math.isnan(share) or component not in ranges[at] else f"{figure} {_share(ranges[at][component])}"
            for at, (share, figure) in enumerate(zip(shares, _figures(pages, places), strict=True))
        )
        rows.append(Row(f"  {component}", cells, _ratios(pages)))
    return rows


def _share(found: Range) -> str:
    """Return a share in percent: its interval, or the figure where that is a point."""
    low, high = (f"{100 * bound:.0f}" for bound in found[1:])
    return f"{low if low == high else f'{low}-{high}'}%".rjust(7)


def _event_rows(runs: Sequence[Result], whole: bool) -> tuple[list[Row], int]:
    """Return a row per event that differs between the runs, and how many are the same; of one run all are rows."""
    rows: list[Row] = []
    same = 0
    for event in EVENT_NAMES:
        counts = [run.events[event] for run in runs]
        if not any(counts):
            continue
        if len(runs) > 1 and len({(count, run.reclaimed_pages) for count, run in zip(counts, runs, strict=True)}) == 1:
            same += 1
            continue
        values = [_figure(run, count, whole) for run, count in zip(runs, counts, strict=True)]
        rows.append(Row(event, tuple(number(value) for value in values), _ratios(values)))
    return rows, same


def _length_rows(runs: Sequence[Result]) -> list[Row]:
    """Return the histogram of batch lengths; all but the most frequent lengths are summed up in a last row."""
    lengths: Counter[int] = Counter()
    for run in runs:
        lengths.update(run.batch_lengths)
    shown = sorted(sorted(lengths, key=lambda nr: lengths[nr], reverse=True)[:_MOST_LENGTHS])
    rows = [Row(f"  nr = {nr}", tuple(f"{run.batch_lengths.get(nr, 0):,}" for run in runs)) for nr in shown]
    if len(shown) < len(lengths):
        rest = (sum(count for nr, count in run.batch_lengths.items() if nr not in shown) for run in runs)
        rows.append(Row(f"  {len(lengths) - len(shown)} other lengths", tuple(f"{count:,}" for count in rest)))
    return rows


def _outcome_rows(runs: Sequence[Result]) -> list[Row]:
    """Return what was reclaimed, what came back, and, where there is any, splits, swap and what madvise returned."""
    splits = [run.events["folio_splits"] for run in runs]
    rows = [
        Row("reclaimed", tuple(format_size(run.reclaimed_bytes) for run in runs)),
        Row("memory that came back", tuple(format_size(run.came_back_pages << run.arch.page_shift) for run in runs)),
    ]
    if any(splits):
        rows.append(Row("folios split", tuple(f"{count:,}" for count in splits)))
    if any(run.swap_used for run in runs):
        rows.append(Row("swap slots used", tuple(f"{run.swap_used:,}" for run in runs)))
    if any(run.ret is not None for run in runs):
        rows.append(Row("madvise returns", tuple(_returned(run) for run in runs)))
    return rows


def _returned(run: Result) -> str:
    """Return what madvise returned, by the name of the error."""
    return "-" if run.ret is None else f"-{errno.errorcode[-run.ret]}" if run.ret else "0"


def table_rows(runs: Sequence[Result], same_memory: bool, whole: bool) -> list[Row]:
    """Return the rows of a table of runs on one architecture, the baseline first.

    Parameters
    ----------
    runs : sequence of Result
    same_memory : bool
        Whether totals compare.
    whole : bool
        Whether figures are those of whole runs, in place of those per reclaimed page (:func:`of_whole_runs`).
    """
    events, same = _event_rows(runs, whole)
    return [
        *_price_rows(runs, same_memory, whole),
        Row("events" if whole else "events per reclaimed page"),
        *events,
        *([Row(f"  {same} further events are the same in these runs")] if same else []),
        *_outcome_rows(runs),
        Row("unmap steps by length"),
        *_length_rows(runs),
    ]
