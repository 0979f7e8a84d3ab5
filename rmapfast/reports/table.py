"""Everything that is known of runs side by side, as plain text."""

from __future__ import annotations

from collections.abc import Sequence

from rmapfast.reports.context import footer, head, heading, notes
from rmapfast.reports.rows import Row, of_whole_runs, table_rows
from rmapfast.result import Result
from rmapfast.runs import Runs
from rmapfast.support import WIDTH, paragraph

# Letters of the columns of a table. Two runs fit beside the baseline: 22 + 14 + 2 * (14 + 7) = 78.
_LABEL = 22
_COLUMN = 14
_RATIO = 7
_LONGEST_NAME = 23


def comparison_table(comparison: Runs) -> str:
    """Return runs side by side as plain text.

    Parameters
    ----------
    comparison : Runs
        Such as a :class:`rmapfast.Comparison`.

    Returns
    -------
    str
        A table per architecture, of at most 80 columns: the prediction and its components, the events per reclaimed
        page, each with the ratio to the baseline, what came back, and the batch lengths. Where a run reclaimed nothing,
        the figures are of whole runs. More runs than fit have further tables.
    """
    lines = [line for text in head(comparison) for line in paragraph(text)]
    for arch, runs in comparison.by_arch().items():
        lines += ["", heading(comparison, arch, runs)]
        column = max(_COLUMN, min(max(len(comparison.label(run)) for run in runs), _LONGEST_NAME) + 2)
        # The baseline and as many others as fit beside it; the rest follows below.
        others = max((WIDTH - _LABEL - column) // (column + _RATIO), 1)
        for first in range(1, max(len(runs), 2), others):
            shown = [runs[0], *runs[first : first + others]]
            lines += _columns(comparison, shown, column, of_whole_runs(runs))
        lines += [line for note in notes(comparison, arch, runs) for line in paragraph(note)]
    lines += ["", *(line for text in footer(comparison) for line in paragraph(text))]
    return "\n".join(line.rstrip() for line in lines)


def _columns(comparison: Runs, runs: Sequence[Result], column: int, whole: bool) -> list[str]:
    """Return the lines of a table with a column per run."""
    labels = (comparison.label(run) for run in runs)
    names = tuple(name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 2] + ".." for name in labels)
    rows = [Row("", names, ("ratio",) * (len(runs) - 1)), *table_rows(runs, comparison.same_memory, whole)]
    return [line for row in rows for line in _lines(row, column)]


def _lines(row: Row, column: int) -> list[str]:
    """Return a row as text; a label that is too long has a line of its own."""
    if not row.cells:
        return [row.label]
    first, *others = row.cells
    cells = f"{first:>{column}}" + "".join(
        f"{cell:>{column}}{text:>{_RATIO}}" for cell, text in zip(others, row.ratios or [""] * len(others), strict=True)
    )
    # Components that the data do not separate stand as one, under a long name.
    if len(row.label) > _LABEL:
        return [*paragraph(row.label), " " * _LABEL + cells]
    return [f"{row.label:<{_LABEL}}{cells}"]
