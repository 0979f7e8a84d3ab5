"""Results as text that pastes into a commit message or a page: plain tables of 72 to 100 columns, Markdown and CSV."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from rmapfast.events import EVENT_NAMES
from rmapfast.support import change, decimals, format_size, listed, number, price_scale, ratio

# Of a plain table. Three runs fit beside the baseline: 22 + 14 + 3 * (14 + 7) = 99.
WIDTH = 100
LABEL = 22
COLUMN = 14
RATIO = 7
LONGEST_NAME = 27
# Lengths of a histogram that are printed one by one.
_MOST_LENGTHS = 8


@dataclass(frozen=True)
class Row:
    """A line of a table: a label, a cell per run, and a ratio to the first per other run; or a label alone."""

    label: str
    cells: tuple[str, ...] = ()
    ratios: tuple[str, ...] = ()


def per_page(run, value: float) -> float:
    """Return a value of a run per reclaimed base page (NaN if nothing was reclaimed)."""
    return value / run.reclaimed_pages if run.reclaimed_pages else math.nan


def _figures(values: Iterable[float], places: int) -> tuple[str, ...]:
    return tuple("-" if math.isnan(value) else f"{value:.{places}f}" for value in values)


def _ratios(values: list[float]) -> tuple[str, ...]:
    return tuple(ratio(value, values[0]) for value in values[1:])


# Rows of runs on one architecture, the baseline first


def _price_rows(runs, same_memory: bool) -> list[Row]:
    """The prediction: total with interval, per page with change, and the components."""
    predictions = [run.prediction if run.costs else None for run in runs]
    if not any(predictions):
        return []
    unit = next(prediction.unit for prediction in predictions if prediction)
    totals = [prediction.value if prediction else math.nan for prediction in predictions]
    pages = [per_page(run, total) for run, total in zip(runs, totals, strict=True)]
    name, scale = price_scale(unit, np.nanmax(totals))
    places = decimals(np.nanmax(totals) / scale)
    digits = decimals(np.nanmax([0.0, *pages]))
    intervals = tuple(
        "-".join(_figures([bound / scale for bound in prediction.interval], places)) if prediction else "-"
        for prediction in predictions
    )
    time = unit == "ns"
    return [
        Row(
            f"predicted {'time' if time else 'instr.'} ({name})" if name else "predicted instr.",
            _figures([total / scale for total in totals], places),
            # where the runs reclaim different memory only the figures per page compare
            _ratios(totals) if same_memory else (),
        ),
        Row("  interval", intervals),
        Row(
            "ns per reclaimed page" if time else "instructions per page",
            _figures(pages, digits),
            _ratios(pages),
        ),
        *([Row("  change", ("", *(change(page, pages[0]) for page in pages[1:])))] if len(runs) > 1 else []),
        Row(f"components: {'ns' if time else 'instructions'} per reclaimed page, share"),
        *_component_rows(runs, digits),
    ]


def _component_rows(runs, places: int) -> list[Row]:
    rows = []
    for component in dict.fromkeys(name for run in runs if run.costs for name in run.prediction.breakdown):
        shares = [run.prediction.breakdown.get(component, 0.0) if run.costs else math.nan for run in runs]
        pages = [per_page(run, share) for run, share in zip(runs, shares, strict=True)]
        cells = tuple(
            "-" if math.isnan(share) else f"{figure} {100 * share / run.prediction.value:4.0f}%"
            for run, share, figure in zip(runs, shares, _figures(pages, places), strict=True)
        )
        rows.append(Row(f"  {component}", cells, _ratios(pages)))
    return rows


def _event_rows(runs) -> tuple[list[Row], int]:
    """Rows of the events that differ between the runs (of all, if there is one run), and how many are left out."""
    rows, same = [], 0
    for event in EVENT_NAMES:
        counts = [run.events[event] for run in runs]
        if not any(counts):
            continue
        if len(runs) > 1 and len({(count, run.reclaimed_pages) for count, run in zip(counts, runs, strict=True)}) == 1:
            same += 1
            continue
        values = [run.per_page(event) for run in runs]
        rows.append(Row(event, tuple(number(value) for value in values), _ratios(values)))
    return rows, same


def _length_rows(runs) -> list[Row]:
    """The histogram of batch lengths; rare lengths beyond the most frequent ones are summed up in a last row."""
    lengths = Counter()
    for run in runs:
        lengths.update(run.batch_lengths)
    shown = sorted(sorted(lengths, key=lengths.get, reverse=True)[:_MOST_LENGTHS])
    rows = [Row(f"  nr = {nr}", tuple(f"{run.batch_lengths.get(nr, 0):,}" for run in runs)) for nr in shown]
    if len(shown) < len(lengths):
        rest = (sum(count for nr, count in run.batch_lengths.items() if nr not in shown) for run in runs)
        rows.append(Row(f"  {len(lengths) - len(shown)} other lengths", tuple(f"{count:,}" for count in rest)))
    return rows


def table_rows(runs, same_memory: bool) -> list[Row]:
    """The table of runs on one architecture."""
    events, same = _event_rows(runs)
    return [
        *_price_rows(runs, same_memory),
        Row("events per reclaimed page"),
        *events,
        *([Row(f"  {same} further events are the same in these runs")] if same else []),
        Row("reclaimed", tuple(format_size(run.reclaimed_bytes) for run in runs)),
        Row("unmap steps by length"),
        *_length_rows(runs),
    ]


# What stands around the tables


def head(comparison) -> list[str]:
    """What was reclaimed: once where all runs reclaim the same memory, else per saved result."""
    memory = [_memory(run) for run in _one_per_source(comparison)]
    lines = [f"[{at}] {source}" for at, source in enumerate(comparison.sources, 1)]
    if len(set(memory)) == 1:
        lines.insert(0, memory[0])
    else:
        lines = [f"{line}: {text}" for line, text in zip(lines, memory, strict=True)]
    if not comparison.same_memory:
        lines.append("These runs reclaim different memory: only the figures per reclaimed page compare.")
    return lines


def _memory(run) -> str:
    population = run.population
    orders = ", ".join(f"{order}: {count:,}" for order, count in population["orders"].items())
    kinds = ", ".join(population["kinds"])
    return (
        f"{population['source']}: {format_size(population['bytes'])} of {kinds or 'no'} folios ({orders}); "
        f"{format_size(run.target_pages << run.arch.page_shift)} asked for through {run.entry}"
    )


def heading(comparison, arch: str, runs) -> str:
    """Return what stands above the table of an architecture."""
    return f"{arch}, baseline {comparison.label(runs[0])}" if len(runs) > 1 else arch


def notes(comparison, arch: str, runs) -> list[str]:
    """What must be known of the runs on one architecture beside their figures."""
    lines = []
    if not any(run.costs for run in runs):
        lines.append(f"no cost vector belongs to {arch}: events only")
    for run in runs:
        label = comparison.label(run)
        if differ := _differing(run.arch, runs[0].arch):
            lines.append(f"{label} is on {arch} with {differ}")
        if not run.target_reached:
            lines.append(f"{label}: only {format_size(run.reclaimed_bytes)} could be reclaimed")
    vectors = [run.costs for run in runs if run.costs]
    if any(vector != vectors[0] for vector in vectors):
        lines.append("these runs are priced with different cost vectors")
    return lines


def _differing(arch, other) -> str:
    names = [field.name for field in dataclasses.fields(arch) if field.name != "costs"]
    return ", ".join(f"{name}={getattr(arch, name)}" for name in names if getattr(arch, name) != getattr(other, name))


def footer(comparison) -> list[str]:
    """Return what a table must carry, in paragraphs: what was assumed, what the prices rest on, version, arguments."""
    return [*assumed(comparison), *costs_used(comparison), *run_lines(comparison)]


def assumed(comparison) -> list[str]:
    """Return a paragraph on what the population is made from, and one per further one on what differs there."""
    first, *others = (
        {key: value for key, value in run.population["assumptions"].items() if key != "arch"}
        for run in _one_per_source(comparison)
    )
    lines = [f"Population: {listed(first)}."] if first else []
    for at, other in enumerate(others, 2):
        if differing := {key: other.get(key, "-") for key in first | other if other.get(key) != first.get(key)}:
            lines.append(f"Population of [{at}] differs in {listed(differing)}.")
    return lines


def _one_per_source(comparison) -> list:
    return [next(run for run in comparison.runs if run.source == source) for source in comparison.sources or [""]]


def costs_used(comparison) -> list[str]:
    """Return a paragraph on what a prediction is, and one per cost vector, with its unit, kinds of cost and note."""
    vectors = comparison.cost_vectors()
    lines = ["Predicted, not measured; an interval is what the ranges of the costs allow."] if vectors else []
    for name, vector in vectors.items():
        kinds = Counter(cost.kind for cost in vector.costs)
        foreign = {run.arch.name for run in comparison.runs if run.costs == vector} - {vector.arch}
        words = [vector.unit, *filter(None, [vector.build])]
        words += [f"{count} cost{'s' if count > 1 else ''} {kind}" for kind, count in kinds.items()]
        words += [f"made for {vector.arch}, prices {', '.join(sorted(foreign))} here"] if foreign else []
        note = f" {vector.note.rstrip('.')}." if vector.note else ""
        lines.append(f"Cost vector {name}: {', '.join(words)}.{note}")
    return lines


def run_lines(comparison) -> list[str]:
    """Return the version and the arguments of a comparison, and those of each result that was put together in it."""

    def line(provenance: dict) -> str:
        return f"rmapfast {provenance['rmapfast']}; {listed(provenance['arguments'])}"

    parts = _one_per_source(comparison) if comparison.sources else []
    return [line(comparison.provenance), *(f"[{n}] {line(run.provenance)}" for n, run in enumerate(parts, 1))]
