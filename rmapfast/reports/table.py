"""Runs side by side as plain text: tables of at most 100 columns that paste into a commit message."""

from __future__ import annotations

from rmapfast.reports.rows import (
    COLUMN,
    LABEL,
    LONGEST_NAME,
    RATIO,
    WIDTH,
    Row,
    footer,
    head,
    heading,
    notes,
    table_rows,
)
from rmapfast.support import paragraph


def comparison_table(comparison) -> str:
    """Return a :class:`Comparison` as text.

    Per architecture: the prediction and its components, the events per reclaimed page, each with the ratio to the
    baseline, and the batch lengths.
    """
    lines = [line for text in head(comparison) for line in paragraph(text)]
    for arch, runs in comparison.by_arch().items():
        lines += ["", heading(comparison, arch, runs)]
        column = max(COLUMN, min(max(len(comparison.label(run)) for run in runs), LONGEST_NAME) + 2)
        # The baseline and as many others as fit; the rest follows below.
        others = max((WIDTH - LABEL - column) // (column + RATIO), 1)
        for first in range(1, max(len(runs), 2), others):
            lines += _columns(comparison, [runs[0], *runs[first : first + others]], column)
        lines += [line for note in notes(comparison, arch, runs) for line in paragraph(note)]
    lines += ["", *(line for text in footer(comparison) for line in paragraph(text))]
    return "\n".join(line.rstrip() for line in lines)


def _columns(comparison, runs, column: int) -> list[str]:
    names = (comparison.label(run) for run in runs)
    names = tuple(name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 2] + ".." for name in names)
    rows = [Row("", names, ("ratio",) * (len(runs) - 1)), *table_rows(runs, comparison.same_memory)]
    return [line for row in rows for line in _lines(row, column)]


def _lines(row: Row, column: int) -> list[str]:
    if not row.cells:
        return [row.label]
    first, *others = row.cells
    cells = f"{first:>{column}}" + "".join(
        f"{cell:>{column}}{text:>{RATIO}}" for cell, text in zip(others, row.ratios or [""] * len(others), strict=True)
    )
    # components that the data do not separate stand as one, under a long name
    if len(row.label) > LABEL:
        return [*paragraph(row.label), " " * LABEL + cells]
    return [f"{row.label:<{LABEL}}{cells}"]
