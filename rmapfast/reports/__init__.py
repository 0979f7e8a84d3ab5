"""Runs side by side as text: plain tables that paste into a commit message, Markdown and CSV."""

from rmapfast.reports.context import INTERVAL, assumed, run_lines, without_price
from rmapfast.reports.csv_table import CSV_COLUMNS, comparison_csv, quantity_rows
from rmapfast.reports.html import comparison_html
from rmapfast.reports.markdown import comparison_markdown
from rmapfast.reports.rows import per_page
from rmapfast.reports.table import comparison_table

__all__ = [
    "CSV_COLUMNS",
    "INTERVAL",
    "assumed",
    "comparison_csv",
    "comparison_html",
    "comparison_markdown",
    "comparison_table",
    "per_page",
    "quantity_rows",
    "run_lines",
    "without_price",
]
