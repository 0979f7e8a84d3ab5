"""Runs side by side as text: plain tables that paste into a commit message, Markdown and CSV."""

from rmapfast.reports.context import INTERVAL, assumed, costs_used, run_lines, without_price
from rmapfast.reports.csv_table import CSV_COLUMNS, comparison_csv, quantity_rows
from rmapfast.reports.html import comparison_html
from rmapfast.reports.markdown import comparison_markdown
from rmapfast.reports.rows import change_interval, per_page
from rmapfast.reports.summary import comparison_brief, comparison_summary, differing_events
from rmapfast.reports.table import comparison_table

# The texts of runs side by side, by how much they say.
TEXTS = {"summary": comparison_summary, "full": comparison_table, "brief": comparison_brief}

__all__ = [
    "CSV_COLUMNS",
    "INTERVAL",
    "TEXTS",
    "assumed",
    "change_interval",
    "comparison_brief",
    "comparison_csv",
    "comparison_html",
    "comparison_markdown",
    "comparison_summary",
    "comparison_table",
    "costs_used",
    "differing_events",
    "per_page",
    "quantity_rows",
    "run_lines",
    "without_price",
]
