"""Checks of arguments. Every error names the argument, what it got and what was expected."""

from __future__ import annotations

import math
import operator
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

# What numpy.random.default_rng takes.
Seed: TypeAlias = "int | Sequence[int] | np.random.SeedSequence | np.random.BitGenerator | np.random.Generator | None"

# Bytes of each unit, in lower case.
_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgtpe", 1):
    _UNITS[_letter] = _UNITS[f"{_letter}ib"] = 1024**_power
    _UNITS[f"{_letter}b"] = 1000**_power
_SIZE = re.compile(r"\s*(\d{1,30}(?:\.\d{1,30})?)\s*([a-z]*)\s*", re.ASCII | re.IGNORECASE)
_LIMIT = 1 << 63


def parse_size(size: int | str, name: str = "size") -> int:
    """Return a size in bytes.

    Parameters
    ----------
    size : int or str
        Bytes, or a number with a unit: ``KiB``, ``MiB``, ``GiB``, ``TiB`` and, as in the kernel's own files, ``K``,
        ``M``, ``G``, ``T`` are powers of 1024; ``kB``, ``MB``, ``GB``, ``TB`` are powers of 1000. Upper and lower case
        mean the same.
    name : str
        Argument that the error message names.

    Returns
    -------
    int
        Bytes, from 0 to 2^63 - 1.

    Raises
    ------
    ValueError
        If the text is no size, or the size is negative, not a whole number of bytes, or 2^63 or more.
    TypeError
        If `size` is neither text nor an integer.

    Examples
    --------
    >>> parse_size("64K"), parse_size("2 MB")
    (65536, 2000000)
    """
    if isinstance(size, str):
        match = _SIZE.fullmatch(size)
        if not match or match[2].lower() not in _UNITS:
            raise ValueError(f'{name}: expected bytes or a size such as "10GiB", "64KiB" or "2M", got {size!r}')
        exact = Fraction(match[1]) * _UNITS[match[2].lower()]
        if exact.denominator != 1:
            raise ValueError(f"{name}: expected a whole number of bytes, got {size!r}")
        value = int(exact)
    else:
        try:
            value = operator.index(size)
        except TypeError:
            raise TypeError(f'{name}: expected bytes as int or a size such as "10GiB", got {size!r}') from None
        if isinstance(size, bool):
            raise TypeError(f'{name}: expected bytes as int or a size such as "10GiB", got {size!r}')
    if not 0 <= value < _LIMIT:
        raise ValueError(f"{name}: expected 0 to 2^63 - 1 bytes, got {size!r}")
    return value


def page_multiple(size: int | str, page_size: int, name: str = "size") -> int:
    """Return a size in bytes that is a whole number of pages.

    Raises
    ------
    TypeError, ValueError
        As :func:`parse_size`, and for part of a page; of a decimal unit the message says so.
    """
    value = parse_size(size, name)
    if value % page_size:
        unit = _SIZE.fullmatch(size)[2].lower() if isinstance(size, str) else ""  # type: ignore[index]
        decimal = ""
        if len(unit) == 2:
            letter = unit[0].upper()
            decimal = f": {value:,} bytes, as {letter}B is decimal; {letter}iB means {_UNITS[unit[0]]:,} bytes"
        raise ValueError(f"{name}: expected a multiple of the {page_size} byte page, got {size!r}{decimal}")
    return value


def format_size(size: int) -> str:
    """Return bytes as text with the largest IEC unit that fits: ``"10 GiB"``, ``"1.5 MiB"``, ``"300 B"``."""
    size = operator.index(size)
    power = min((max(abs(size), 1).bit_length() - 1) // 10, 6)
    if not power:
        return f"{size} B"
    value = f"{size / 1024**power:.2f}".rstrip("0").rstrip(".")
    return f"{value} {'KMGTPE'[power - 1]}iB"


def closest(name: object, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the nearest known name, or an empty string."""
    import difflib  # imported here because only runs with a wrong name need it

    match = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {match[0]!r}?)" if match else ""


def checked_rate(name: str, value: Any) -> float:
    """Return the value as a float; raise TypeError or ValueError unless it is a number from 0 to 1."""
    try:
        rate = float(value)
    except (TypeError, ValueError):
        rate = math.nan
    if isinstance(value, str) or not 0.0 <= rate <= 1.0:
        raise (TypeError if rate != rate else ValueError)(f"{name}: expected a rate from 0 to 1, got {value!r}")
    return rate


def checked_integer(name: str, value: Any, low: int, high: int) -> int:
    """Return the value as an int; raise TypeError or ValueError unless it is an integer from `low` to `high`."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer from {low} to {high}, got {value!r}") from None
    if not low <= number <= high:
        raise ValueError(f"{name}: expected an integer from {low} to {high}, got {value!r}")
    return number


def checked_seed(name: str, seed: Any) -> int:
    """Return a seed as a number from 0 to 2^64 - 1.

    Parameters
    ----------
    name : str
        Argument that the error message names.
    seed : int, or what :func:`numpy.random.default_rng` takes
        A number in that range is returned as it is. Else one is drawn from the generator that NumPy makes of it; a
        ``Generator`` moves on, and None is another seed each time.

    Raises
    ------
    TypeError, ValueError
        If NumPy makes no generator of it.
    """
    try:
        number = operator.index(seed)
    except TypeError:
        number = -1
    if 0 <= number < 1 << 64:
        return number
    try:
        return int(np.random.default_rng(seed).integers(1 << 40))  # short enough for a table
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"{name}: expected an integer, 0 or more, or what numpy.random.default_rng takes, got {seed!r}"
        ) from None


def checked_boolean(name: str, value: Any) -> bool:
    """Return the value as a bool; raise TypeError unless it is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def shown(value: object) -> str:
    """Return a value of any kind as one short line, for an error."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def checked_path(name: str, value: Any) -> Path:
    """Return the value as a path; raise TypeError or ValueError unless it is a text or a path that a file may have."""
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise TypeError(f"{name}: expected a path, got {shown(value)}")
    if "\0" in os.fspath(value):
        raise ValueError(f"{name}: expected a path without null characters, got {shown(value)}")
    return Path(value)


def checked_list(name: str, value: Any, of: str) -> list[Any]:
    """Return the value as a list; raise TypeError for a text and for what has no items. `of` says what is expected."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise TypeError(f"{name}: expected a list of {of}, got {shown(value)}")
    return list(value)


def checked_progress(value: Any) -> None:
    """Raise TypeError unless the value is None or a function."""
    if value is not None and not callable(value):
        raise TypeError(f"progress: expected a function or None, got {shown(value)}")


def checked_choice(name: str, value: Any, known: Iterable[str]) -> str:
    """Return the value; raise ValueError unless it is one of the known names."""
    known = tuple(known)
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name}: expected one of {', '.join(known)}, got {shown(value)}{closest(value, known)}")
    return str(value)


def flag_mask(argument: str, names: str | Iterable[str], known: Mapping[str, int]) -> int:
    """Return the bits of one or more flag names; raise ValueError, which lists the known names, for another name."""
    mask = 0
    for name in [names] if isinstance(names, str) else checked_list(argument, names, "flags"):
        if not isinstance(name, str) or name not in known:
            raise ValueError(f"{argument}: no flag {shown(name)}{closest(name, known)}; known are {', '.join(known)}")
        mask |= known[name]
    return mask
