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


def comparison_table(comparison) -> str:
    """Return a :class:`Comparison` as text.

    Events per reclaimed page with ratios to the first policy, and the batch lengths, per architecture.
    """
    population, first = comparison.population, comparison.runs[0]
    page_shift = first.after.page_shift
    orders = ", ".join(f"{order}: {count:,}" for order, count in population["orders"].items())
    kinds = ", ".join(population["kinds"])
    lines = [
        *_paragraph(f"{population['source']}: {format_size(population['bytes'])} of {kinds or 'no'} folios ({orders})"),
        f"{format_size(first.target_pages << page_shift)} asked for through {first.entry}",
    ]
    for arch, runs in comparison.by_arch().items():
        lines += ["", *_arch_table(arch, runs)]
    return "\n".join(line.rstrip() for line in [*lines, "", *footer(comparison)])


def _arch_table(arch: str, runs) -> list[str]:
    blank = ["" for _ in runs[1:]]
    names = [run.policy_name for run in runs]
    rows, same = _event_rows(runs)
    lines = [f"{arch}: events per reclaimed page", _row("", names, ["ratio" for _ in blank]), *rows]
    lines.append(_row("reclaimed", [format_size(run.reclaimed_bytes) for run in runs], blank))
    lines += [_row("unmap steps by length", names, blank), *_length_rows(runs)]
    if same:
        lines.append(f"{same} further events are the same in all runs")
    for run in runs:
        if not run.target_reached:
            lines.append(f"{run.policy_name}: only {format_size(run.reclaimed_bytes)} could be reclaimed")
    return lines


def _paragraph(text: str) -> list[str]:
    return textwrap.wrap(text, 96, break_long_words=False, break_on_hyphens=False)


def footer(comparison) -> list[str]:
    """Return what a table must carry: what was assumed, version and arguments."""
    assumed = "; ".join(
        f"{key}: {value}" for key, value in comparison.population["assumptions"].items() if key != "arch"
    )
    return [
        *(_paragraph(f"Population: {assumed}.") if assumed else []),
        "Simulated event counts; no cost model prices them yet, so there are no times.",
        *_paragraph(f"rmapfast {__version__}; {_arguments(comparison.provenance['arguments'])}"),
    ]


def _arguments(arguments: dict) -> str:
    words = {key: ",".join(map(str, value)) if isinstance(value, list) else value for key, value in arguments.items()}
    return " ".join(f"{key}={value}" for key, value in words.items())
