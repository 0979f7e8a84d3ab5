"""Numbers and paragraphs as plain text, for tables that can be pasted into a mail."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Mapping
from typing import Any

# Units in which a price may be shown, the largest first: name, and size in the unit of the price.
_SCALES = {
    "ns": (("s", 1e9), ("ms", 1e6), ("us", 1e3), ("ns", 1.0)),
    "instructions": (("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0)),
}


def printable(text: str) -> str:
    r"""Return a text of a file or of another process with its control characters, line breaks too, as escapes.

    A terminal acts on such characters, and an SVG with them is no XML.

    Examples
    --------
    >>> print(printable("a\x1b[2Jb\n"))
    a\x1b[2Jb\n
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape", "replace").decode() for char in text)


def printable_json(text: str) -> Any:
    """Return a JSON document with :func:`printable` keys and texts.

    Raises
    ------
    ValueError, RecursionError
        If the text is not JSON.
    """
    document = json.loads(text)
    # JSON has line breaks and tabs between its words only. Without escapes, all other characters are in texts as they
    # are here.
    words = text.replace("\n", "").replace("\t", "").replace("\r", "")
    return document if words.isprintable() and "\\" not in words else _with_printable_texts(document)


def _with_printable_texts(document: Any) -> Any:
    if isinstance(document, str):
        return printable(document)
    if isinstance(document, dict):
        return {
            printable(key) if isinstance(key, str) else key: _with_printable_texts(one) for key, one in document.items()
        }
    if isinstance(document, list):
        return [_with_printable_texts(one) for one in document]
    return document


def one_line(text: str) -> str:
    """Return a text as one line that a terminal may show; white space becomes a space."""
    return printable(" ".join(text.split()))


def number(value: float) -> str:
    """Return a number with four significant digits, or ``-`` for NaN."""
    if math.isnan(value):
        return "-"
    if value == 0:
        return "0"
    return f"{value:.4g}" if value < 1e4 else f"{value:.0f}"


def ratio(value: float, baseline: float) -> str:
    """Return value / baseline in at most six characters, or ``-`` if the baseline is 0 or one of them is NaN."""
    if baseline == 0 or math.isnan(value) or math.isnan(baseline):
        return "-"
    quotient = value / baseline
    if 0 < quotient < 0.01:
        return f"{quotient:.4f}" if quotient >= 0.0001 else "<.0001"
    return f"{quotient:.2f}" if quotient < 100 else f"{quotient:.0f}" if quotient < 1e6 else f"{quotient:.0e}"


def change(value: float, baseline: float) -> str:
    """Return the change from the baseline in percent, or ``-`` if the baseline is 0 or one of them is NaN."""
    if baseline == 0 or math.isnan(value) or math.isnan(baseline):
        return "-"
    return f"{100 * (value / baseline - 1):+.1f}%"


def price_scale(unit: str, largest: float) -> tuple[str, float]:
    """Return the largest unit, with its size, in which the price `largest` is 1 or more."""
    scales = _SCALES[unit]
    return next((scale for scale in scales if largest >= scale[1]), scales[-1])


def decimals(largest: float) -> int:
    """Return the number of decimals, 0 to 3, that shows four digits of the largest number of a row."""
    return min(max(3 - math.floor(math.log10(largest)), 0), 3) if largest > 0 else 0


def hanging(label: str, width: int, text: str) -> list[str]:
    """Return the lines of a label and a text, wrapped at 96 columns and aligned behind the label."""
    return textwrap.wrap(
        text, 96, initial_indent=f"{label:<{width}} ", subsequent_indent=" " * (width + 1), break_on_hyphens=False
    )


def paragraph(text: str) -> list[str]:
    """Return the lines of a text wrapped at 96 columns."""
    return textwrap.wrap(text, 96, break_long_words=False, break_on_hyphens=False)


def listed(arguments: Mapping[str, Any]) -> str:
    """Return the arguments of a run as ``name: value; ...``."""
    words = {key: ", ".join(map(str, value)) if isinstance(value, list) else value for key, value in arguments.items()}
    return "; ".join(f"{key}: {value}" for key, value in words.items())
