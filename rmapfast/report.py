"""Results as plain text that survives e-mail: tables of 72 to 100 columns."""

from __future__ import annotations

import math
import textwrap

from rmapfast._sizes import format_size
from rmapfast._version import __version__
from rmapfast.events import EVENT_NAMES

_LABEL = 24
_COLUMN = 13
_RATIO = 8
# Lengths of a histogram that are printed one by one.
_MOST_LENGTHS = 8


def number(value: float) -> str:
    """Return a count per page with four significant digits, or ``-`` where there is none."""
    if math.isnan(value):
        return "-"
    if value == 0:
        return "0"
    return f"{value:.4g}" if value < 1e4 else f"{value:.0f}"


def ratio(value: float, baseline: float) -> str:
    """Return value / baseline with two decimals, or ``-`` where the baseline is 0."""
    if baseline == 0 or math.isnan(value) or math.isnan(baseline):
        return "-"
    return f"{value / baseline:.2f}" if value / baseline >= 0.01 or value == 0 else f"{value / baseline:.1e}"


def _row(label: str, values: list[str], ratios: list[str]) -> str:
    cells = [f"{values[0]:>{_COLUMN}}"]
    cells += [f"{value:>{_COLUMN}}{r:>{_RATIO}}" for value, r in zip(values[1:], ratios, strict=True)]
    return f"{label:<{_LABEL}}" + "".join(cells)


def _event_rows(runs) -> tuple[list[str], int]:
    """Rows of the events that differ between the runs (of all, if there is one run), and how many are left out."""
    rows, same = [], 0
    for event in EVENT_NAMES:
        counts = [run.events[event] for run in runs]
        if not any(counts):
            continue
        if len(runs) > 1 and len(set(counts)) == 1:
            same += 1
            continue
        values = [run.per_page(event) for run in runs]
        rows.append(_row(event, [number(value) for value in values], [ratio(value, values[0]) for value in values[1:]]))
    return rows, same


def _length_rows(runs) -> list[str]:
    """The histogram of batch lengths; rare lengths beyond the most frequent ones are summed up in a last row."""
    lengths = {nr: sum(run.batch_lengths.get(nr, 0) for run in runs) for run in runs for nr in run.batch_lengths}
    shown = sorted(sorted(lengths, key=lengths.get, reverse=True)[:_MOST_LENGTHS])
    rows = []
    for nr in shown:
        counts = [run.batch_lengths.get(nr, 0) for run in runs]
        rows.append(_row(f"  nr = {nr}", [f"{count:,}" for count in counts], ["" for _ in counts[1:]]))
    if len(shown) < len(lengths):
        rest = [sum(count for nr, count in run.batch_lengths.items() if nr not in shown) for run in runs]
        rows.append(
            _row(f"  {len(lengths) - len(shown)} other lengths", [f"{n:,}" for n in rest], ["" for _ in rest[1:]])
        )
    return rows


def histogram_table(runs) -> str:
    """Return the batch-length histogram of some runs, one column each."""
    head = _row("unmap steps by length", [run.policy_name for run in runs], ["" for _ in runs[1:]])
    return "\n".join([head, *_length_rows(runs)])


def comparison_table(comparison) -> str:
    """Return a :class:`Comparison` as text: events per reclaimed page and ratios to the first policy, per architecture."""
    population, first = comparison.population, comparison.runs[0]
    page_shift = first.after.page_shift
    orders = ", ".join(f"{order}: {count:,}" for order, count in population["orders"].items())
    kinds = ", ".join(population["kinds"])
    lines = [
        f"{format_size(population['bytes'])} of {kinds or 'no'} folios (order: folios {orders}), {population['source']}",
        f"{format_size(first.target_pages << page_shift)} asked for through {first.entry}",
    ]
    for arch, runs in comparison.by_arch().items():
        rows, same = _event_rows(runs)
        head = [run.policy_name for run in runs]
        lines += ["", f"{arch}: events per reclaimed page", _row("", head, ["ratio" for _ in runs[1:]]), *rows]
        reclaimed = [format_size(run.reclaimed_bytes) for run in runs]
        lines.append(_row("reclaimed", reclaimed, ["" for _ in runs[1:]]))
        lines.append(histogram_table(runs))
        if same:
            lines.append(f"{same} further events are the same in all runs")
        for run in runs:
            if not run.target_reached:
                lines.append(f"{run.policy_name}: only {format_size(run.reclaimed_bytes)} could be reclaimed")
    lines += ["", *footer(comparison)]
    return "\n".join(line.rstrip() for line in lines)


def footer(comparison) -> list[str]:
    """Return what a table must carry: what was assumed, version and arguments."""
    assumed = ", ".join(f"{name}={value}" for name, value in comparison.population["assumptions"].items())
    arguments = ", ".join(f"{name}={value}" for name, value in comparison.provenance["arguments"].items())
    text = [f"Population: {assumed}."] if assumed else []
    text += [
        "Simulated event counts; no cost model prices them yet, so there are no times.",
        f"rmapfast {__version__}: {arguments}",
    ]
    return [line for paragraph in text for line in textwrap.wrap(paragraph, 96)]
