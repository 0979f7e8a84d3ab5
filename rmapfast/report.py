"""Results as text that pastes into a commit message or a page: plain tables of 72 to 100 columns, Markdown and CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import textwrap
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from rmapfast import policy as _policy
from rmapfast import pte
from rmapfast._version import __version__
from rmapfast.events import EVENT_NAMES
from rmapfast.flags import FOLIO_KINDS, FolioFlag, folio_kind
from rmapfast.support import format_size

# Of a plain table. Three runs fit beside the baseline: 22 + 14 + 3 * (14 + 7) = 99.
_WIDTH = 100
_LABEL = 22
_COLUMN = 14
_RATIO = 7
_LONGEST_NAME = 27
# Lengths of a histogram that are printed one by one.
_MOST_LENGTHS = 8

# Scales of a price, the largest first: what a table or plot calls the unit, and how much of it one is.
_SCALES = {
    "ns": (("s", 1e9), ("ms", 1e6), ("us", 1e3), ("ns", 1.0)),
    "instructions": (("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0)),
}


@dataclass(frozen=True)
class Row:
    """A line of a table: a label, a cell per run, and a ratio to the first per other run; or a label alone."""

    label: str
    cells: tuple[str, ...] = ()
    ratios: tuple[str, ...] = ()


def number(value: float) -> str:
    """Return a count per page with four significant digits, or ``-`` where there is none."""
    if math.isnan(value):
        return "-"
    if value == 0:
        return "0"
    return f"{value:.4g}" if value < 1e4 else f"{value:.0f}"


def ratio(value: float, baseline: float) -> str:
    """Return value / baseline in at most six characters, or ``-`` where the baseline is 0."""
    if baseline == 0 or math.isnan(value) or math.isnan(baseline):
        return "-"
    quotient = value / baseline
    if 0 < quotient < 0.01:
        return f"{quotient:.4f}" if quotient >= 0.0001 else "<.0001"
    return f"{quotient:.2f}" if quotient < 100 else f"{quotient:.0f}" if quotient < 1e6 else f"{quotient:.0e}"


def change(value: float, baseline: float) -> str:
    """Return by how many percent a value is above the baseline, or ``-`` where the baseline is 0."""
    if baseline == 0 or math.isnan(value) or math.isnan(baseline):
        return "-"
    return f"{100 * (value / baseline - 1):+.1f}%"


def price_scale(unit: str, largest: float) -> tuple[str, float]:
    """Return the unit in which a price of that size has one to three digits before the point, and its size."""
    scales = _SCALES[unit]
    return next((scale for scale in scales if largest >= scale[1]), scales[-1])


def decimals(largest: float) -> int:
    """Return the decimals that show four digits of the largest figure of a row."""
    return min(max(3 - math.floor(math.log10(largest)), 0), 3) if largest > 0 else 0


def per_page(run, value: float) -> float:
    """Return a value of a run per reclaimed base page (NaN if nothing was reclaimed)."""
    return value / run.reclaimed_pages if run.reclaimed_pages else math.nan


def _figures(values: Iterable[float], places: int) -> tuple[str, ...]:
    return tuple("-" if math.isnan(value) else f"{value:.{places}f}" for value in values)


def _ratios(values: list[float]) -> tuple[str, ...]:
    return tuple(ratio(value, values[0]) for value in values[1:])


# Rows of runs on one architecture, the baseline first


def _price_rows(runs, alike: bool) -> list[Row]:
    """The prediction: total with interval, per page with change, and the components."""
    predictions = [run.prediction for run in runs]
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
            _ratios(totals) if alike else (),
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
    for component in dict.fromkeys(name for run in runs if run.prediction for name in run.prediction.breakdown):
        shares = [run.prediction.breakdown.get(component, 0.0) if run.prediction else math.nan for run in runs]
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


def _rows(runs, alike: bool) -> list[Row]:
    """The table of runs on one architecture."""
    events, same = _event_rows(runs)
    return [
        *_price_rows(runs, alike),
        Row("events per reclaimed page"),
        *events,
        *([Row(f"  {same} further events are the same in these runs")] if same else []),
        Row("reclaimed", tuple(format_size(run.reclaimed_bytes) for run in runs)),
        Row("unmap steps by length"),
        *_length_rows(runs),
    ]


# What stands around the tables


def _head(comparison) -> list[str]:
    """What was reclaimed: once where all runs reclaim the same memory, else per saved result."""
    memory = [_memory(run) for run in _one_per_source(comparison)]
    lines = [f"[{number}] {source}" for number, source in enumerate(comparison.sources, 1)]
    if len(set(memory)) == 1:
        lines.insert(0, memory[0])
    else:
        lines = [f"{line}: {text}" for line, text in zip(lines, memory, strict=True)]
    if not comparison.alike:
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


def _heading(comparison, arch: str, runs) -> str:
    return f"{arch}, baseline {comparison.label(runs[0])}" if len(runs) > 1 else arch


def _notes(comparison, arch: str, runs) -> list[str]:
    """What must be known of the runs on one architecture beside their figures."""
    lines = []
    if not any(run.prediction for run in runs):
        lines.append(f"no cost vector belongs to {arch}: events only")
    for run in runs:
        label = comparison.label(run)
        if differ := _differing(run.arch, runs[0].arch):
            lines.append(f"{label} is on {arch} with {differ}")
        if not run.target_reached:
            lines.append(f"{label}: only {format_size(run.reclaimed_bytes)} could be reclaimed")
    vectors = [run.arch.cost for run in runs if run.arch.cost]
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
    lines = [f"Population: {_listed(first)}."] if first else []
    for number, other in enumerate(others, 2):
        if differing := {key: other.get(key, "-") for key in first | other if other.get(key) != first.get(key)}:
            lines.append(f"Population of [{number}] differs in {_listed(differing)}.")
    return lines


def _one_per_source(comparison) -> list:
    return [next(run for run in comparison.runs if run.source == source) for source in comparison.sources or [""]]


def costs_used(comparison) -> list[str]:
    """Return a paragraph on what a prediction is, and one per cost vector, with its unit, kinds of cost and note."""
    vectors = comparison.cost_vectors()
    lines = ["Predicted, not measured; an interval is what the ranges of the costs allow."] if vectors else []
    for name, vector in vectors.items():
        kinds = Counter(cost.kind for cost in vector.costs)
        foreign = {run.arch.name for run in comparison.runs if run.arch.cost == vector} - {vector.arch}
        words = [vector.unit, *filter(None, [vector.build])]
        words += [f"{count} cost{'s' if count > 1 else ''} {kind}" for kind, count in kinds.items()]
        words += [f"made for {vector.arch}, prices {', '.join(sorted(foreign))} here"] if foreign else []
        note = f" {vector.note.rstrip('.')}." if vector.note else ""
        lines.append(f"Cost vector {name}: {', '.join(words)}.{note}")
    return lines


def run_lines(comparison) -> list[str]:
    """Return the version and the arguments of a comparison, and those of each result that was put together in it."""

    def line(provenance: dict) -> str:
        return f"rmapfast {provenance['rmapfast']}; {_listed(provenance['arguments'])}"

    parts = _one_per_source(comparison) if comparison.sources else []
    return [line(comparison.provenance), *(f"[{n}] {line(run.provenance)}" for n, run in enumerate(parts, 1))]


def _listed(arguments: dict) -> str:
    words = {key: ", ".join(map(str, value)) if isinstance(value, list) else value for key, value in arguments.items()}
    return "; ".join(f"{key}: {value}" for key, value in words.items())


# Plain text


def comparison_table(comparison) -> str:
    """Return a :class:`Comparison` as text.

    Per architecture: the prediction and its components, the events per reclaimed page, each with the ratio to the
    baseline, and the batch lengths.
    """
    lines = [line for text in _head(comparison) for line in _paragraph(text)]
    for arch, runs in comparison.by_arch().items():
        lines += ["", _heading(comparison, arch, runs)]
        column = max(_COLUMN, min(max(len(comparison.label(run)) for run in runs), _LONGEST_NAME) + 2)
        # The baseline and as many others as fit; the rest follows below.
        others = max((_WIDTH - _LABEL - column) // (column + _RATIO), 1)
        for first in range(1, max(len(runs), 2), others):
            lines += _columns(comparison, [runs[0], *runs[first : first + others]], column)
        lines += [line for note in _notes(comparison, arch, runs) for line in _paragraph(note)]
    lines += ["", *(line for text in footer(comparison) for line in _paragraph(text))]
    return "\n".join(line.rstrip() for line in lines)


def _columns(comparison, runs, column: int) -> list[str]:
    names = (comparison.label(run) for run in runs)
    names = tuple(name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 2] + ".." for name in names)
    rows = [Row("", names, ("ratio",) * (len(runs) - 1)), *_rows(runs, comparison.alike)]
    return [line for row in rows for line in _lines(row, column)]


def _lines(row: Row, column: int) -> list[str]:
    if not row.cells:
        return [row.label]
    first, *others = row.cells
    cells = f"{first:>{column}}" + "".join(
        f"{cell:>{column}}{text:>{_RATIO}}" for cell, text in zip(others, row.ratios or [""] * len(others), strict=True)
    )
    # components that the data do not separate stand as one, under a long name
    if len(row.label) > _LABEL:
        return [*_paragraph(row.label), " " * _LABEL + cells]
    return [f"{row.label:<{_LABEL}}{cells}"]


def hanging(label: str, width: int, text: str) -> list[str]:
    """Return a label and its text, broken at 96 columns with the following lines indented below the text."""
    return textwrap.wrap(
        text, 96, initial_indent=f"{label:<{width}} ", subsequent_indent=" " * (width + 1), break_on_hyphens=False
    )


def _paragraph(text: str) -> list[str]:
    return textwrap.wrap(text, 96, break_long_words=False, break_on_hyphens=False)


# Markdown and CSV


def comparison_markdown(comparison) -> str:
    """Return a :class:`Comparison` as Markdown: the rows of :func:`comparison_table`, a table per architecture."""
    parts = _head(comparison)
    for arch, runs in comparison.by_arch().items():
        names = tuple(comparison.label(run) for run in runs)
        width = 2 * len(runs)
        rows = [Row("", names, ("ratio",) * (len(runs) - 1)), *_rows(runs, comparison.alike)]
        lines = [_markdown_line(row, width) for row in rows]
        lines.insert(1, "|---|" + "---:|" * (width - 1))
        parts += [f"### {_heading(comparison, arch, runs)}", "\n".join(lines), *_notes(comparison, arch, runs)]
    return "\n\n".join([*parts, *footer(comparison)])


def _markdown_line(row: Row, width: int) -> str:
    cells = [row.label.strip() if row.cells else f"*{row.label.strip()}*", *row.cells[:1]]
    for cell, text in zip(row.cells[1:], row.ratios or [""] * (len(row.cells) - 1), strict=True):
        cells += [cell, text]
    cells += [""] * (width - len(cells))
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


CSV_COLUMNS = ("source", "policy", "arch", "kind", "quantity", "value", "unit", "per_page", "ratio", "share")


def comparison_csv(comparison) -> str:
    """Return a :class:`Comparison` as CSV, one row per run and quantity.

    ``kind`` is prediction, component, event, batch_length or pages; ``per_page`` is the value per reclaimed base page,
    ``ratio`` that over the baseline's, ``share`` a component's part of the prediction. What there is not is empty.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(CSV_COLUMNS)
    for runs in comparison.by_arch().values():
        base = {key: per_page(runs[0], value) for key, value, _ in _quantities(runs[0])}
        for run in runs:
            for key, value, unit in _quantities(run):
                page = per_page(run, value)
                over = page / base[key] if base.get(key) else math.nan
                share = value / run.prediction.value if key[0] == "component" else math.nan
                figures = ("" if math.isnan(figure) else figure for figure in (page, over, share))
                rows.writerow([run.source, run.policy_name, run.arch.name, *key, value, unit, *figures])
    return text.getvalue().rstrip("\n")


def _quantities(run):
    """Yield ((kind, quantity), value, unit) of a run."""
    yield ("pages", "target"), run.target_pages, "pages"
    yield ("pages", "reclaimed"), run.reclaimed_pages, "pages"
    if prediction := run.prediction:
        yield ("prediction", "predicted"), prediction.value, prediction.unit
        for name, bound in zip(("low", "high"), prediction.interval, strict=True):
            yield ("prediction", name), bound, prediction.unit
        for component, share in prediction.breakdown.items():
            yield ("component", component), share, prediction.unit
    for event, count in run.events.items():
        yield ("event", event), count, "1"
    for nr, count in sorted(run.batch_lengths.items()):
        yield ("batch_length", str(nr)), count, "1"


# The checker


def check_table(report, *, known: bool = False) -> str:
    """Return a :class:`CheckReport` as text: states in violation per policy and invariant, or their history."""
    rows = [f"{'policy':<14}{'invariant':<22}{'states':>12}  {'history' if known else 'smallest example'}"]
    for one in report.policies:
        if not one.violations:
            rows.append(f"{one.policy_name:<14}clean")
        for number, violation in enumerate(one.violations):
            name = one.policy_name if number == 0 else ""
            words = _case_in_words(violation.example)
            if known and violation.history:
                words = violation.history
            rows.append(f"{name:<14}{violation.invariant:<22}{violation.count:>12,}  {words}")
    scope = "the whole scope" if report.complete else "not the whole scope"
    lines = [
        *rows,
        "",
        *_paragraph(
            f"{report.states:,} distinct states, {scope}, each under {len(report.policies)} policies and "
            f"{report.oracle}, in {report.seconds:.1f} s."
        ),
        *(f"left out: {text}" for text in report.left_out),
        *_paragraph(f"rmapfast {__version__}; {_listed(report.provenance['arguments'])}"),
    ]
    return "\n".join(line.rstrip() for line in lines)


def check_drawings(report, arch="x86-64") -> list[str]:
    """Return the smallest example of each violation as a drawing, each example once per policy."""
    drawings = []
    for one in report.policies:
        examples = {json.dumps(violation.example): violation.example for violation in one.violations}
        drawings += [case_drawing(case, one.policy, against=report.oracle, arch=arch) for case in examples.values()]
    return drawings


def _case_in_words(case: dict) -> str:
    folio, vma = case["folio"], case["vma"]
    pages = 1 << folio["order"]
    flags = (FolioFlag.ANON if folio["anon"] else 0) | (FolioFlag.SWAPBACKED if folio["swapbacked"] else 0)
    kind = FOLIO_KINDS[int(folio_kind(flags))]
    words = [f"{pages} page{'s' if pages > 1 else ''}, {kind}"]
    words += [name for name in ("dirty", "pinned") if folio[name]]
    words += [*vma["flags"], *case.get("tags", ())]
    return ", ".join(words)


_CODES = {"none": ".", "swap": "swap", "migration": "migr", "device_exclusive": "dev", "device_private": "devp"}
_LETTERS = {
    "write": "W",
    "young": "Y",
    "dirty": "D",
    "soft_dirty": "S",
    "uffd_wp": "U",
    "exclusive": "E",
    "unused": "N",
    "prot": "P",
    "cont": "C",
    "special": "Z",
}


def _cell(word, folio_pfn: int, pages: int) -> str:
    kind = pte.KINDS[int(pte.kind(word))]
    letters = "".join(_LETTERS[flag] for flag in pte.flags(word))
    if kind == "marker_uffd_wp":
        return "marker"
    if kind != "present":
        return _CODES.get(kind, kind) + (f":{letters}" if letters else "")
    page = int(pte.pfn(word)) - folio_pfn
    return f"{page if 0 <= page < pages else 'x'}:{letters or '-'}"


def case_drawing(case: dict, policy, *, against="per-page", arch="x86-64") -> str:
    """Return a case as a strip of PTEs: before, after under the oracle and under the policy, and the steps of both.

    An entry is the page of the folio that it maps (x: of another one) and its bits: W write, Y young, D dirty,
    S soft-dirty, U uffd-wp, E exclusive, N unused, P another protection; ``.`` is none. ``|`` is a page-table border,
    ``[ ]`` the VMA, ``*`` marks entries in which the two outcomes differ.
    """
    from rmapfast import _cases

    policy = policy if callable(policy) else _policy.get(policy)
    name = getattr(policy, "name", None) or getattr(policy, "__name__", "callable")
    oracle, outcome = (_cases.unmap_case(case, one, arch) for one in (_policy.get(against), policy))
    before = outcome.before
    first, per_table = int(before.vma_window_start[0]), before.ptrs_per_pte
    start, end = int(before.vma_start[0]), int(before.vma_end[0])
    folio_pfn, pages = int(before.folio_pfn[0]), 1 << int(before.folio_order[0])
    seen = [first + int(i) for i in np.flatnonzero(before.ptes | oracle.after.ptes | outcome.after.ptes)]
    low, high = min([start, *seen]), max([end - 1, *seen]) + 1
    if high - low > 20:
        low, high = max(low, start), min(high, max(low, start) + 20)

    def strip(title: str, cells: list[str]) -> str:
        text = ""
        for vpn, cell in zip(range(low, high), cells, strict=True):
            left = "|" if vpn % per_table == 0 else " "
            text += left + ("[" if vpn == start else " ") + f"{cell:^8}" + ("]" if vpn == end - 1 else " ")
        return f"{title:<12}{text}".rstrip()

    def row(title: str, ptes) -> str:
        return strip(title, [_cell(ptes[vpn - first], folio_pfn, pages) for vpn in range(low, high)])

    def steps(one) -> str:
        found = [(vpn, nr, kind) for kind, vpn, nr in one.call.trace if kind in ("step", "step_nonpresent")]
        text = ", ".join(f"{vpn}+{nr}" + (" (non-present)" if kind != "step" else "") for vpn, nr, kind in found)
        return f"{text or 'none'}; {'done' if one.ret else 'aborted'}"

    differ = [oracle.after.ptes[vpn - first] != outcome.after.ptes[vpn - first] for vpn in range(low, high)]
    violated = _cases.judge(case, policy, against=against, arch=arch)
    lines = [
        f"{name} against {against}: {', '.join(violated) or 'no violation'}",
        f"{_case_in_words(case)}; {' '.join(case['ttu']) or 'no TTU flags'}",
        strip("vpn", [str(vpn) for vpn in range(low, high)]),
        row("before", before.ptes),
        row(against[:11], oracle.after.ptes),
        row(name[:11], outcome.after.ptes),
    ]
    if any(differ):
        lines.append(strip("", ["*" if one else "" for one in differ]))
    lines += [f"steps of {against}: {steps(oracle)}", f"steps of {name}: {steps(outcome)}"]
    if violated and (broke := _breaking_step(outcome, [low + i for i, one in enumerate(differ) if one])):
        lines.append(f"it breaks at step {broke[0]}+{broke[1]}")
    lines += [f"  {title}: {a} against {b}" for title, a, b in _folio_differences(oracle, outcome)]
    return "\n".join(lines)


def _breaking_step(outcome, differ: list[int]):
    """The step that left a slot differing, counted more than it cleared, or went out of bounds; else the first one."""
    before = outcome.before
    per_table, end = before.ptrs_per_pte, int(before.vma_end[0])
    steps = [(vpn, nr, kind) for kind, vpn, nr in outcome.call.trace if kind in ("step", "step_nonpresent")]
    for vpn, nr, kind in steps:
        stale = kind == "step_nonpresent" and nr > 1
        outside = vpn + nr > min(end, (vpn // per_table + 1) * per_table)
        if stale or outside or any(vpn <= slot < vpn + nr for slot in differ):
            return vpn, nr
    return steps[0][:2] if steps else None


def _folio_differences(oracle, outcome):
    """What differs between two outcomes beside the PTEs: (name, policy's, oracle's)."""
    for name in ("folio_refcount", "folio_mapcount"):
        a, b = int(getattr(outcome.after, name)[0]), int(getattr(oracle.after, name)[0])
        if a != b:
            yield name, a, b
    flags = [
        {name for name in ("DIRTY", "SWAPBACKED", "MLOCKED") if int(one.after.folio_flags[0]) & FolioFlag[name]}
        for one in (outcome, oracle)
    ]
    if flags[0] != flags[1]:
        yield "folio flags", " ".join(sorted(flags[0])) or "none", " ".join(sorted(flags[1])) or "none"
    rss = [one.after.mm_rss[0].tolist() for one in (outcome, oracle)]
    if rss[0] != rss[1]:
        yield "counters (file, anon, swap, shmem)", rss[0], rss[1]
    outside = {
        name: outcome.call.events[name]
        for name in ("oob_reads", "oob_writes", "vma_overrun_reads", "vma_overrun_writes")
    }
    for name, count in outside.items():
        if count:
            yield name, count, oracle.call.events[name]


# The calibration


def calibration_table(found) -> str:
    """Return a :class:`Calibration` as text: each case measured and predicted, the costs, and what was left out."""
    rows = []
    for title, measurements in (("fitted", found.fitted), ("held back: predicted, not fitted", found.held_back)):
        if not measurements:
            continue
        rows += ["", f"{title + ', ns per page':<46}{'measured':>10}{'predicted':>11}{'error':>9}"]
        rows += [
            f"{one.case!s:<46}{one.ns:>10.1f}{one.predicted:>11.1f}{100 * one.error:>+8.1f}%" for one in measurements
        ]
    within = sum(abs(one.error) <= 0.2 for one in found.held_back)
    if found.held_back:
        rows.append(f"{within} of {len(found.held_back)} held-back predictions within 20% of the measured minimum")
    vector = found.arch.cost
    rows += ["", f"{'cost, ns':<28}{'fitted':>10}{'as good from':>14}{'to':>10}"]
    rows += [
        f"{one.event:<28}{one.value:>10.1f}{one.low:>14.1f}{one.high:>10.1f}"
        + (f"  {one.kind}" * (one.kind != "fitted"))
        for one in vector.costs
    ]
    rows += ["", *(line for text in found.not_measured for line in hanging("not measured:", 13, text))]
    arguments = _listed(found.provenance["arguments"])
    head = f"{found.arch.name}: costs of {vector.build}, measured in {found.seconds:.0f} s"
    return "\n".join([head, *rows, *_paragraph(f"rmapfast {__version__}; {arguments}")])


# What a capture holds

_MAPPINGS = {
    "order_0": "order 0",
    "whole": "large, whole by PTEs",
    "pmd": "large, by a PMD",
    "partial": "large, in part",
    "cut_by_vma": "  cut by a VMA border",
    "cut_by_table": "  cut by a page-table border",
    "cow": "  with COWed pages inside",
    "holes": "  with holes",
}


def description_table(described: dict) -> str:
    """Return what :func:`rmapfast._describe.describe` found as text."""
    page, mapped = described["page_size"], described["mapped_pages"]
    lines = _paragraph(
        f"{described['source']}: {described['mms']} process(es), {described['vmas']} VMAs, {described['ptes']} PTEs, "
        f"{described['ptes_present']} present"
    )
    kinds = ", ".join(f"{count} {kind}" for kind, count in described["kinds"].items())
    lines += [f"{format_size(described['bytes'])} in {described['folios']} folios: {kinds or 'none'}"]
    lines += [f"LRU: {described['inactive']} inactive, {described['active']} active"]

    lines += ["", f"{'VMAs':<28}{'number':>10}{'size':>12}{'mapped':>12}"]
    everything = {"vmas": described["vmas"], "pages": described["vma_pages"], "mapped": mapped}
    for name, row in {"all": everything, **described["vma_flags"]}.items():
        if row["vmas"]:
            size, of_it = format_size(row["pages"] * page), format_size(row["mapped"] * page)
            lines.append(f"  {name.replace('_', '-'):<26}{row['vmas']:>10}{size:>12}{of_it:>12}")
    if described["vmas_unused"]:
        lines.append(f"  {'without a mapped page':<26}{described['vmas_unused']:>10}")

    lines += ["", *_order_lines(described)]

    lines += ["", f"{'how folios lie in VMAs':<28}{'mappings':>10}{'pages':>12}{'of mapped':>12}"]
    for name, label in _MAPPINGS.items():
        row = described["mappings"][name]
        if row["mappings"]:
            lines.append(f"  {label:<26}{row['mappings']:>10,}{row['pages']:>12,}{_share(row['pages'], mapped):>12}")

    lines += ["", f"{'runs that may batch':<28}{'runs':>10}{'pages':>12}{'of mapped':>12}"]
    for low, row in described["runs"].items():
        label = f"{low} to {2 * int(low) - 1} pages" if int(low) > 1 else "1 page"
        lines.append(f"  {label:<26}{row['runs']:>10,}{row['pages']:>12,}{_share(row['pages'], mapped):>12}")

    pages = sum(described["sharing"].values())
    lines += ["", f"{'mappings of a page':<38}{'pages':>12}{'share':>12}"]
    for label, nr in _sharing_rows(described["sharing"]):
        lines.append(f"  {label:<36}{nr:>12,}{_share(nr, pages):>12}")

    lines += ["", *_policy_lines(described), "", "Assumed:"]
    for name, value in described["assumptions"].items():
        lines += hanging(f"  {name}:", 14, str(value))
    return "\n".join(line.rstrip() for line in lines)


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f}%" if whole else "-"


def _order_lines(described: dict) -> list[str]:
    """Folios by order and kind, with the memory of each order."""
    kinds = described["orders_by_kind"]
    lines = [f"{'folios of order':<18}" + "".join(f"{kind:>11}" for kind in kinds) + f"{'memory':>12}{'share':>9}"]
    for order, count in described["orders"].items():
        size = format_size(described["page_size"] << int(order))
        cells = "".join(f"{rows[order]['folios'] if order in rows else 0:>11,}" for rows in kinds.values())
        pages = count << int(order)
        memory = format_size(pages * described["page_size"])
        lines.append(f"  {order:<4}{size:>10}  {cells}{memory:>12}{_share(pages, described['pages']):>9}")
    return lines


def _sharing_rows(sharing: dict[str, int]) -> list[tuple[str, int]]:
    """Counts up to 4 by themselves, more by powers of two."""
    bins: dict[int, int] = {}
    for times, nr in sharing.items():
        low = int(times) if int(times) <= 4 else 1 << (int(times).bit_length() - 1)
        bins[low] = bins.get(low, 0) + nr
    names = {low: f"{low}" if low < 4 else f"{low} to {2 * low - 1}" for low in bins}
    return [(names[low], nr) for low, nr in sorted(bins.items())]


def _policy_lines(described: dict) -> list[str]:
    """The share of the mapped pages that each policy batches."""
    mapped = described["mapped_pages"]
    lines = [
        f"{'mapped pages unmapped by':<26}{'batches':>9}{'of whole':>10}{'one':>8}{'by a':>8}{'not':>8}{'steps':>13}",
        f"{'':<26}{'':>9}{'folios':>10}{'by one':>8}{'PMD':>8}{'':>8}",
    ]
    for name, row in described["policies"].items():
        cells = (
            f"{_share(row[key], mapped):>{width}}"
            for key, width in (("batched", 9), ("whole_folio", 10), ("single", 8), ("pmd", 8), ("left", 8))
        )
        lines.append(f"  {name:<24}{''.join(cells)}{row['steps']:>13,}")
    notes = []
    if any(row["put_back"] for row in described["policies"].values()):
        most = max(row["put_back"] for row in described["policies"].values())
        notes.append(f"Up to {most:,} of the pages were in steps that were taken back.")
    if described["split_first"]:
        notes.append(
            f"{described['split_first']:,} partially mapped anonymous folios are split before, as reclaim does."
        )
    notes.append(
        f"Each folio is unmapped once on {described['arch']}, whether it was referenced or not, with unlimited swap."
    )
    notes.append(f"rmapfast {__version__}")
    return [*lines, *_paragraph(" ".join(notes))]
