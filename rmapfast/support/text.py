"""Figures and paragraphs as text, for tables that paste into a mail."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from typing import Any

# Scales of a price, the largest first: what a table or plot calls the unit, and how much of it one is.
_SCALES = {
    "ns": (("s", 1e9), ("ms", 1e6), ("us", 1e3), ("ns", 1.0)),
    "instructions": (("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0)),
}


def number(value: float) -> str:
    """Return a count per page with four significant digits, or ``-`` where there is none."""
    if math.isnan(value):
        return "-"
    if value == 0:
        return "0"
    return f"{value:.4g}" if value < 1e4 else f"{value:.0f}"


def ratio(value: float, baseline: float) -> str:
    """Return value / baseline in at most six characters, or ``-`` where the baseline is 0."""
    if baseline == 0 or math.isnan(value) or math.isnan(baseline):
        return "-"
    quotient = value / baseline
    if 0 < quotient < 0.01:
        return f"{quotient:.4f}" if quotient >= 0.0001 else "<.0001"
    return f"{quotient:.2f}" if quotient < 100 else f"{quotient:.0f}" if quotient < 1e6 else f"{quotient:.0e}"


def change(value: float, baseline: float) -> str:
    """Return by how many percent a value is above the baseline, or ``-`` where the baseline is 0."""
    if baseline == 0 or math.isnan(value) or math.isnan(baseline):
        return "-"
    return f"{100 * (value / baseline - 1):+.1f}%"


def price_scale(unit: str, largest: float) -> tuple[str, float]:
    """Return the unit in which a price of that size has one to three digits before the point, and its size."""
    scales = _SCALES[unit]
    return next((scale for scale in scales if largest >= scale[1]), scales[-1])


def decimals(largest: float) -> int:
    """Return the decimals that show four digits of the largest figure of a row."""
    return min(max(3 - math.floor(math.log10(largest)), 0), 3) if largest > 0 else 0


def hanging(label: str, width: int, text: str) -> list[str]:
    """Return a label and its text, broken at 96 columns with the following lines indented below the text."""
    return textwrap.wrap(
        text, 96, initial_indent=f"{label:<{width}} ", subsequent_indent=" " * (width + 1), break_on_hyphens=False
    )


def paragraph(text: str) -> list[str]:
    """Return a text broken at 96 columns."""
    return textwrap.wrap(text, 96, break_long_words=False, break_on_hyphens=False)


def listed(arguments: Mapping[str, Any]) -> str:
    """Return the arguments of a run as text."""
    words = {key: ", ".join(map(str, value)) if isinstance(value, list) else value for key, value in arguments.items()}
    return "; ".join(f"{key}: {value}" for key, value in words.items())
