"""Runs as text: tables, Markdown and CSV."""

from rmapfast.reports.csv_rows import CSV_COLUMNS, comparison_csv
from rmapfast.reports.markdown import comparison_markdown
from rmapfast.reports.rows import assumed, per_page, run_lines
from rmapfast.reports.table import comparison_table

__all__ = [
    "CSV_COLUMNS",
    "assumed",
    "comparison_csv",
    "comparison_markdown",
    "comparison_table",
    "per_page",
    "run_lines",
]
