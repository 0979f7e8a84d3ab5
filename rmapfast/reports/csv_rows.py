"""Runs side by side as CSV."""

from __future__ import annotations

import csv
import io
import math

from rmapfast.reports.rows import per_page

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
