"""Runs side by side as rows of CSV and of a data frame, one per run and quantity."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator

from rmapfast.reports.rows import per_page
from rmapfast.result import Result
from rmapfast.runs import Runs
from rmapfast.support import printable

CSV_COLUMNS = ("source", "policy", "arch", "kind", "quantity", "value", "unit", "per_page", "ratio", "share")


# Kind and name of a quantity.
_Key = tuple[str, str]


def comparison_csv(comparison: Runs) -> str:
    """Return runs side by side as CSV, a row per run and quantity.

    Parameters
    ----------
    comparison : Runs
        Such as a :class:`rmapfast.Comparison`.

    Returns
    -------
    str
        Rows of :data:`CSV_COLUMNS`. ``kind`` is prediction, component, event, batch_length, pages or
        madvise. ``per_page`` is
        the value per reclaimed base page, ``ratio`` is that divided by the baseline's, and ``share`` is a component's
        part of the prediction. A cell is empty where a run has no such figure.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(CSV_COLUMNS)
    for row in quantity_rows(comparison):
        rows.writerow(["" if isinstance(cell, float) and math.isnan(cell) else cell for cell in row])
    return text.getvalue().rstrip("\n")


def quantity_rows(comparison: Runs) -> Iterator[tuple[str | float, ...]]:
    """Yield the rows of the table, with a cell for each of :data:`CSV_COLUMNS`; NaN where a run has no such figure.

    Parameters
    ----------
    comparison : Runs
    """
    for runs in comparison.by_arch().values():
        base = {key: per_page(runs[0], value) for key, value, _ in _quantities(runs[0])}
        for run in runs:
            for key, value, unit in _quantities(run):
                page = per_page(run, value)
                over = page / base[key] if base.get(key) else math.nan
                share = value / run.prediction.value if key[0] == "component" else math.nan
                names = map(printable, (run.source, run.policy_name, run.arch.name))
                yield (*names, *key, value, unit, page, over, share)


def _quantities(run: Result) -> Iterator[tuple[_Key, float, str]]:
    """Yield the key, the value and the unit of each quantity of a run."""
    yield ("pages", "target"), run.target_pages, "pages"
    yield ("pages", "reclaimed"), run.reclaimed_pages, "pages"
    yield ("pages", "came back"), run.came_back_pages, "pages"
    yield ("pages", "swap used"), run.swap_used, "pages"
    if run.ret is not None:
        yield ("madvise", "returns"), run.ret, "1"
    if run.costs:
        prediction = run.prediction
        yield ("prediction", "predicted"), prediction.value, prediction.unit
        for name, bound in zip(("low", "high"), prediction.interval, strict=True):
            yield ("prediction", name), bound, prediction.unit
        for component, share in prediction.breakdown.items():
            yield ("component", component), share, prediction.unit
    for event, count in run.events.items():
        yield ("event", event), count, "1"
    for nr, count in sorted(run.batch_lengths.items()):
        yield ("batch_length", str(nr)), count, "1"
