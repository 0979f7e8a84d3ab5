"""Runs side by side as Markdown."""

from __future__ import annotations

from rmapfast.reports.context import footer, head, heading, notes
from rmapfast.reports.rows import Row, of_whole_runs, table_rows
from rmapfast.runs import Runs


def comparison_markdown(comparison: Runs) -> str:
    """Return runs side by side as Markdown: the rows of :func:`comparison_table`, a table per architecture.

    Parameters
    ----------
    comparison : Runs
        Such as a :class:`rmapfast.Comparison`.
    """
    parts = head(comparison)
    for arch, runs in comparison.by_arch().items():
        names = tuple(comparison.label(run) for run in runs)
        width = 2 * len(runs)
        body = table_rows(runs, comparison.same_memory, of_whole_runs(runs))
        rows = [Row("", names, ("ratio",) * (len(runs) - 1)), *body]
        lines = [_markdown_line(row, width) for row in rows]
        lines.insert(1, "|---|" + "---:|" * (width - 1))
        parts += [f"### {heading(comparison, arch, runs)}", "\n".join(lines), *notes(comparison, arch, runs)]
    return "\n\n".join([*parts, *footer(comparison)])


def _markdown_line(row: Row, width: int) -> str:
    """Return a row of `width` cells; a heading is in italics."""
    cells = [row.label.strip() if row.cells else f"*{row.label.strip()}*", *row.cells[:1]]
    for cell, text in zip(row.cells[1:], row.ratios or [""] * (len(row.cells) - 1), strict=True):
        cells += [cell, text]
    cells += [""] * (width - len(cells))
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
