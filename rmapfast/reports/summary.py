"""What a reader of a mail needs of runs side by side: a report of a screen, and five lines for a commit message."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rmapfast.cost import LEVEL
from rmapfast.events import EVENT_NAMES
from rmapfast.reports.context import costs_in_short, head, heading, notes, run_lines
from rmapfast.reports.rows import change_interval, of_whole_runs, per_page
from rmapfast.result import Result
from rmapfast.runs import Runs
from rmapfast.support import WIDTH, change, decimals, folded, format_size, number, paragraph, price_scale, ratio

# Events that are shown, and the letters of the columns of their table.
MOST_EVENTS = 5
_NAME = 24
_COLUMN = 14
_RATIO = 7
# Lines of a text for a commit message.
_BRIEF = 5
# The columns of the table of predictions: they and a name of up to 22 letters fill the width.
_LABEL = 22
_PREDICTED = 10
_INTERVAL = 15
_PAGE = 9
_CHANGE = 9
_RANGE = 15


def comparison_summary(comparison: Runs) -> str:
    """Return what a mail needs of runs side by side: the predictions, and the events that differ most.

    Parameters
    ----------
    comparison : Runs
        Such as a :class:`rmapfast.Comparison`.

    Returns
    -------
    str
        At most 80 columns, and with up to three policies on two architectures at most 45 lines: what was asked for;
        for each run the predicted time, its interval, and the change; the five events that differ most per reclaimed
        page; and which events have no price. :func:`comparison_table` has the rest.
    """
    lines = [line for text in head(comparison) for line in paragraph(text)]
    for arch, runs in comparison.by_arch().items():
        lines += ["", heading(comparison, arch, runs), *_prediction_lines(comparison, runs)]
        lines += _event_lines(comparison, runs)
        lines += [line for note in notes(comparison, arch, runs) for line in folded(note)]
        if any(run.costs for run in runs) and differing_events(runs) and not comparison.unpriced(arch):
            differs = " that differs" if len(runs) > 1 else ""
            lines.append(f"without a price here: no event{differs}")
    foot = [
        *costs_in_short(comparison),
        *run_lines(comparison),
        "--full (to_text('full') in Python) shows the rest.",
    ]
    lines += ["", *(line for text in foot for line in paragraph(text))]
    return "\n".join(line.rstrip() for line in lines)


def _prediction_lines(comparison: Runs, runs: Sequence[Result]) -> list[str]:
    """Return the table of predictions on one architecture: a line per run."""
    priced = [run.prediction for run in runs if run.costs]
    if not priced:
        return []
    whole = of_whole_runs(runs)
    unit = priced[0].unit
    largest = max(prediction.value for prediction in priced)
    name, scale = price_scale(unit, largest)
    places = decimals(largest / scale)
    pages = [per_page(run, run.prediction.value) if run.costs else math.nan for run in runs]
    digits = decimals(max([0.0, *(page for page in pages if not math.isnan(page))]))
    level = f"{100 * LEVEL:.0f}% interval"
    time = unit == "ns"
    total = f"time ({name})" if time else f"instr. ({name})" if name else "instr."
    lines = [_cells("predicted", total, level, "ns/page" if time else "per page", "change" * (len(runs) > 1), level)]
    compared = [run.prediction.value if run.costs else math.nan for run in runs] if whole else pages
    for run, page, figure in zip(runs, pages, compared, strict=True):
        label = _short(comparison.label(run), _LABEL)
        if not run.costs:
            lines.append(_cells(label, "-", "-", "-", "", ""))
            continue
        low, high = (f"{bound / scale:.{places}f}" for bound in run.prediction.interval)
        against = [] if run is runs[0] else [change(figure, compared[0]), change_interval(runs[0], run, whole)]
        shown = "-" if math.isnan(page) else f"{page:.{digits}f}"
        lines.append(_cells(label, f"{run.prediction.value / scale:.{places}f}", f"{low}-{high}", shown, *against))
    if len(runs) == 1:  # no change, so no interval of one
        lines[0] = lines[0].removesuffix(level)
    return lines


def _cells(label: str, *cells: str) -> str:
    widths = (_PREDICTED, _INTERVAL, _PAGE, _CHANGE, _RANGE)
    return f"{label:<{_LABEL}}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=False))


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 2]}.."


def differing_events(runs: Sequence[Result]) -> list[str]:
    """Return the events in which runs differ from the first one, those that differ most per reclaimed page first.

    Of one run: the events that it has, the most frequent first.

    Parameters
    ----------
    runs : sequence of Result
    """
    whole = of_whole_runs(runs)
    counts = [run.events.counts / (1 if whole else run.reclaimed_pages) for run in runs]
    differ = counts[0] if len(runs) == 1 else np.max([abs(count - counts[0]) for count in counts[1:]], axis=0)
    order = np.argsort(-differ, kind="stable")
    return [EVENT_NAMES[at] for at in order if differ[at] > 0]


def _event_lines(comparison: Runs, runs: Sequence[Result]) -> list[str]:
    """Return the table of the events that differ most; of one run, of those that it has most."""
    found = differing_events(runs)
    whole = of_whole_runs(runs)
    if not found:
        return ["no event differs between these runs" if len(runs) > 1 else "no event happened"]
    per = "in all" if whole else "per reclaimed page"
    most = f"the {min(len(found), MOST_EVENTS)} of {len(found)} events"
    shown = runs[: 1 + (WIDTH - _NAME - _COLUMN) // (_COLUMN + _RATIO)]
    title = f"{most} that {'differ' if len(runs) > 1 else 'occur'} most, {per}"
    if len(runs) > len(shown):
        title += f" (first {len(shown)} runs)"
    names = [_short(comparison.label(run), _COLUMN - 1) for run in shown]
    rows = [("", names, [""] + ["ratio"] * (len(shown) - 1))]
    for event in found[:MOST_EVENTS]:
        counts = [run.events[event] / (1 if whole else run.reclaimed_pages) for run in shown]
        rows.append((event, [number(count) for count in counts], ["", *(ratio(one, counts[0]) for one in counts[1:])]))
    return [
        title,
        *(
            f"{label:<{_NAME}}"
            + "".join(
                f"{cell:>{_COLUMN}}{text:>{_RATIO}}" if at else f"{cell:>{_COLUMN}}"
                for at, (cell, text) in enumerate(zip(cells, ratios, strict=True))
            )
            for label, cells, ratios in rows
        ),
    ]


def comparison_brief(comparison: Runs) -> str:
    """Return runs side by side in at most five lines, for a commit message.

    Parameters
    ----------
    comparison : Runs
        Such as a :class:`rmapfast.Comparison`.

    Returns
    -------
    str
        At most 80 columns: what was asked for, the prediction of each run against the first one, as many as there is
        space for, the events without a price, and the version.
    """
    groups = comparison.by_arch()
    first = next(iter(groups.values()))
    rows = [_in_words(comparison, arch, runs[0], run) for arch, runs in groups.items() for run in runs[1:] or runs]
    names = dict.fromkeys(event for arch in groups for event in comparison.unpriced(arch))
    unpriced = [f"No price: {', '.join(names)}"] if names else []
    space = _BRIEF - 2 - len(unpriced)
    if len(rows) > space:
        rows = [*rows[: space - 1], f"... and {len(rows) - space + 1} more predictions"]
    last = f"Predicted by rmapfast {comparison.provenance['rmapfast']}, not measured; {100 * LEVEL:.0f}% intervals."
    lines = [_asked(comparison, first), *rows, *unpriced, last]
    return "\n".join(line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}..." for line in lines)


def _asked(comparison: Runs, runs: Sequence[Result]) -> str:
    """Return in a line what was asked for, and what was reclaimed if it is less."""
    run = runs[0]
    population = run.population
    orders = list(population["orders"])
    order = f"order {orders[0]}" if len(orders) == 1 else f"orders {orders[0]} to {orders[-1]}" if orders else "none"
    asked = f"{format_size(run.target_pages << run.arch.page_shift)} of {format_size(population['bytes'])}"
    less = f", {format_size(run.reclaimed_bytes)} reclaimed" if not run.target_reached else ""
    base = f", against {comparison.label(run)}" if len(runs) > 1 else ""
    entry = "" if run.entry == "memory.reclaim" else f", {run.entry}"
    lists = ", multi-gen LRU" if run.lru == "mglru" else ""
    return f"{asked} of {', '.join(population['kinds'])} folios, {order}{entry}{lists}{less}{base}:"


def _in_words(comparison: Runs, arch: str, base: Result, run: Result) -> str:
    """Return in a line what a run is predicted to take, and the change."""
    label = f"  {arch}, {_short(comparison.label(run), _LABEL)}:"
    if not run.costs:
        return f"{label} no cost vector"
    whole = of_whole_runs([base, run])
    # where the runs reclaim different memory, only the figures per page compare
    values = [
        one.prediction.value if whole or comparison.same_memory else per_page(one, one.prediction.value)
        for one in (base, run)
        if one.costs
    ]
    unit = run.prediction.unit
    name, scale = price_scale(unit, max(values))
    unit = f"{name} instructions".strip() if unit != "ns" else name
    unit += "" if whole or comparison.same_memory else " per page"
    places = decimals(max(values) / scale)
    words = " -> ".join(f"{value / scale:.{places}f}" for value in (values if run is not base else values[:1]))
    if run is base or len(values) < 2:
        low, high = (bound / scale * values[-1] / run.prediction.value for bound in run.prediction.interval)
        return f"{label} {words} {unit} ({low:.{places}f} to {high:.{places}f})"
    figures = values if whole else [per_page(one, one.prediction.value) for one in (base, run)]
    return f"{label} {words} {unit}, {change(figures[1], figures[0])} ({change_interval(base, run, whole)})"
