"""Results as plain text that survives e-mail: tables of 72 to 100 columns."""

from __future__ import annotations

import json
import math
import textwrap

import numpy as np

from rmapfast import _core, pte
from rmapfast import policy as _policy
from rmapfast._sizes import format_size
from rmapfast._version import __version__
from rmapfast.events import EVENT_NAMES

_LABEL = 24
_COLUMN = 13
_RATIO = 8
# Policies beside the baseline in one row.
_MOST_OTHERS = 3
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
    lines = [f"{arch}: events per reclaimed page"]
    # The baseline and as many others as fit in 100 columns; the rest follows below.
    for first in range(1, max(len(runs), 2), _MOST_OTHERS):
        lines += _columns([runs[0], *runs[first : first + _MOST_OTHERS]])
    for run in runs:
        if not run.target_reached:
            lines.append(f"{run.policy_name}: only {format_size(run.reclaimed_bytes)} could be reclaimed")
    return lines


def _columns(runs) -> list[str]:
    blank = ["" for _ in runs[1:]]
    names = [run.policy_name for run in runs]
    rows, same = _event_rows(runs)
    lines = [_row("", names, ["ratio" for _ in blank]), *rows]
    lines.append(_row("reclaimed", [format_size(run.reclaimed_bytes) for run in runs], blank))
    lines += [_row("unmap steps by length", names, blank), *_length_rows(runs)]
    return [*lines, f"{same} further events are the same in these runs"] if same else lines


def hanging(label: str, width: int, text: str) -> list[str]:
    """Return a label and its text, broken at 96 columns with the following lines indented below the text."""
    return textwrap.wrap(
        text, 96, initial_indent=f"{label:<{width}} ", subsequent_indent=" " * (width + 1), break_on_hyphens=False
    )


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
    words = {key: ", ".join(map(str, value)) if isinstance(value, list) else value for key, value in arguments.items()}
    return "; ".join(f"{key}: {value}" for key, value in words.items())


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
        *_paragraph(f"rmapfast {__version__}; {_arguments(report.provenance['arguments'])}"),
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
    kind = (
        ("shmem" if folio["swapbacked"] else "file")
        if not folio["anon"]
        else ("anon" if folio["swapbacked"] else "lazyfree")
    )
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
        {
            name
            for name in ("DIRTY", "SWAPBACKED", "MLOCKED")
            if int(one.after.folio_flags[0]) & getattr(_core, f"FOLIO_{name}")
        }
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
