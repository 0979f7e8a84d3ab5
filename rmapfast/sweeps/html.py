"""Sweeps and their means as a notebook shows them."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt

from rmapfast.support import Figure, HtmlPart, html_of, signed
from rmapfast.sweeps.axes import word
from rmapfast.sweeps.data import SweepData
from rmapfast.sweeps.mean import MeanData
from rmapfast.sweeps.outputs import steps, title, value_of
from rmapfast.sweeps.tables import cell, spread, summary
from rmapfast.sweeps.views import View, view

# Rows, columns and tables that are shown of a sweep.
_MOST_ROWS = 24
_MOST_COLUMNS = 12
_MOST_FACETS = 8


def sweep_html(sweep: SweepData) -> str:
    """Return a sweep as HTML: its default output over two axes, its axes, and what failed."""
    sentences = summary(sweep)
    axes = [
        (axis.name, axis.unit, len(axis.values), ", ".join(map(word, _some(axis.labels.tolist()))))
        for axis in sweep.space.axes
    ]
    fixed = list(sweep.space.fixed.items())
    failed = [line for line in sentences if line.startswith(("failed", "..."))]
    parts = [
        HtmlPart("failed", notes=failed, more=f"{len(sweep.failures)} simulations", open=True),
        *(_tables(view(sweep)) if max(sweep.space.shape, default=1) > 1 else _one_value(*value_of(sweep))),
        HtmlPart("axes", axes, ("axis", "unit", "steps", "values"), more=f"{len(axes)}"),
        HtmlPart("fixed", [(name, _text(value)) for name, value in fixed], more=f"{len(fixed)}"),
        HtmlPart("constraints", [[text] for text in sweep.space.constraints], more=f"{len(sweep.space.constraints)}"),
        HtmlPart("provenance", [(name, _text(value)) for name, value in sweep.provenance.items()]),
    ]
    return html_of("Sweep", f"{sweep.points:,} points", sentences[0].removeprefix("sweep: "), parts)


def mean_html(mean: MeanData) -> str:
    """Return the means of a sweep as HTML."""
    if max(mean.space.shape, default=1) > 1:
        tables = _tables(view(mean))
    else:
        one = mean.output()
        tables = _one_value(one.values, f"{one.label}, mean")
    return html_of("SweepMean", f"{len(mean):,} means", mean.about, tables)


def _one_value(values: npt.NDArray[np.float64], label: str) -> list[HtmlPart]:
    """Return the output of a sweep without an axis of several steps."""
    value = float(values.reshape(-1)[0])
    return [HtmlPart(label, [[Figure(signed(value))]], open=True)]


def _tables(shown: View) -> list[HtmlPart]:
    """Return the first tables of an output, with as many rows and columns as can be read."""
    across, down = steps(shown.x), steps(shown.y) if shown.y else [""]
    columns, rows = spread(len(across), _MOST_COLUMNS), spread(len(down), _MOST_ROWS)
    header = [title(shown.y) if shown.y else "", *(across[on] for on in columns)]
    notes = [
        f"{len(part)} of {total} steps along the {name} are shown."
        for name, part, total in (("columns", columns, len(across)), ("rows", rows, len(down)))
        if len(part) < total
    ]
    if len(shown.facets) > _MOST_FACETS:
        notes.append(f"{len(shown.facets) - _MOST_FACETS} more tables; sel() chooses.")
    return [
        HtmlPart(
            f"{shown.label}, {words}" if words else shown.label,
            [[down[at], *(Figure(cell(shown, place, at, on)) for on in columns)] for at in rows],
            header,
            notes,
            f"along the columns: {title(shown.x)}",
            open=place == 0,
        )
        for place, (words, _) in enumerate(shown.facets[:_MOST_FACETS])
    ]


def _some(values: list[object]) -> list[object]:
    """Return the values, or the first and the last of many."""
    return values if len(values) <= _MOST_COLUMNS else [*values[:5], "...", *values[-2:]]


def _text(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 300 else f"{text[:300]}..."
