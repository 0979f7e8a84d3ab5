"""Runs side by side as a notebook shows them."""

from __future__ import annotations

from rmapfast.reports.context import footer, head, heading, notes
from rmapfast.reports.rows import of_whole_runs, table_rows
from rmapfast.result import Result
from rmapfast.runs import Runs
from rmapfast.support import Figure, HtmlPart, html_of


def comparison_html(comparison: Runs) -> str:
    """Return runs side by side as HTML: a table per architecture, and what stands above and below them in text.

    Parameters
    ----------
    comparison : Runs
        Such as a :class:`rmapfast.Comparison`.

    Returns
    -------
    str
    """
    first, *others = head(comparison)
    parts = [HtmlPart("results", notes=others, open=True)]
    parts += [_table(comparison, arch, runs) for arch, runs in comparison.by_arch().items()]
    parts.append(HtmlPart("what it rests on", notes=footer(comparison)))
    return html_of("Comparison", f"{len(comparison.runs)} runs", first, parts)


def _table(comparison: Runs, arch: str, runs: list[Result]) -> HtmlPart:
    """Return the table of an architecture; the ratio to the baseline stands beside each other run."""
    header = ["", comparison.label(runs[0])]
    for run in runs[1:]:
        header += [comparison.label(run), "ratio"]
    rows: list[list[object]] = []
    for row in table_rows(runs, comparison.same_memory, of_whole_runs(runs)):
        cells: list[object] = [row.label, *map(Figure, row.cells[:1])]
        ratios = row.ratios or ("",) * len(row.cells[1:])
        for cell, ratio in zip(row.cells[1:], ratios, strict=True):
            cells += [Figure(cell), Figure(ratio)]
        rows.append(cells)
    return HtmlPart(heading(comparison, arch, runs), rows, header, notes(comparison, arch, runs), open=True)
