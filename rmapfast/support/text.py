"""Numbers and paragraphs as plain text, for tables that can be pasted into a mail."""

from __future__ import annotations

import dataclasses
import json
import math
import textwrap
from collections.abc import Mapping
from typing import Any

# Columns of every table and text: what survives a mail, quoted once or twice.
WIDTH = 80

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


def changed_fields(instance: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that are not as by default, by name; without those that its repr leaves out."""
    return {
        one.name: getattr(instance, one.name)
        for one in dataclasses.fields(instance)
        if one.repr and (one.default is dataclasses.MISSING or getattr(instance, one.name) != one.default)
    }


def short_repr(instance: Any) -> str:
    """Return the call that makes a dataclass, with the fields that are not as by default."""
    given = ", ".join(f"{name}={value!r}" for name, value in changed_fields(instance).items())
    return f"{type(instance).__name__}({given})"


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


def signed(value: float) -> str:
    """Return a number of either sign with four digits."""
    return "-" + number(-value) if value < 0 else number(value)


def between(interval: tuple[float, float]) -> str:
    """Return bounds as text."""
    return " to ".join(map(signed, interval))


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


def price_text(unit: str, value: float, interval: tuple[float, float] | None = None) -> str:
    """Return a price with three digits, in the largest unit in which it is 0.1 or more.

    Parameters
    ----------
    unit : {'ns', 'instructions'}
    value : float
        In the unit.
    interval : tuple of float, optional
        Its bounds, which are shown in the same unit.

    Examples
    --------
    >>> price_text("ns", 896_700.0), price_text("instructions", 2.5e9, (1e9, 3e9))
    ('0.897 ms', '2.50 G instructions (1.00 to 3.00)')
    """
    scales = _SCALES[unit]
    name, scale = next((one for one in scales if abs(value) >= one[1] / 10), scales[-1])
    if unit != "ns":
        name = f"{name} {unit}".strip()

    def digits(figure: float) -> str:
        figure /= scale
        places = min(max(2 - math.floor(math.log10(abs(figure))), 0), 3) if figure else 0
        return f"{figure:.{places}f}"

    between = f" ({' to '.join(map(digits, interval))})" if interval else ""
    return f"{digits(value)} {name}{between}"


def decimals(largest: float) -> int:
    """Return the number of decimals, 0 to 3, that shows four digits of the largest number of a row."""
    return min(max(3 - math.floor(math.log10(largest)), 0), 3) if largest > 0 else 0


def hanging(label: str, width: int, text: str) -> list[str]:
    """Return the lines of a label and a text, wrapped at :data:`WIDTH` columns and aligned behind the label."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=f"{label:<{width}} ", subsequent_indent=" " * (width + 1), break_on_hyphens=False
    )


def paragraph(text: str) -> list[str]:
    """Return the lines of a text wrapped at :data:`WIDTH` columns."""
    return textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def folded(line: str) -> list[str]:
    """Return a line as lines of at most :data:`WIDTH` columns; those behind the first are indented."""
    return textwrap.wrap(line, WIDTH, subsequent_indent="    ", break_on_hyphens=False) or [""]


def listed(arguments: Mapping[str, Any]) -> str:
    """Return the arguments of a run as ``name: value; ...``."""
    words = {key: ", ".join(map(str, value)) if isinstance(value, list) else value for key, value in arguments.items()}
    return "; ".join(f"{key}: {value}" for key, value in words.items())
