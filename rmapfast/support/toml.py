"""TOML files: read, and values written."""

from __future__ import annotations

import json
import os
import tomllib
from typing import Any

from rmapfast.support.arguments import checked_path
from rmapfast.support.files import read_regular


def toml_value(value: Any) -> str:
    """A text, number, truth value or nested list as TOML (whose syntax for these is JSON's).

    Parameters
    ----------
    value : str, int, float, bool or list of these

    Returns
    -------
    str
    """
    # but for DEL, which only TOML wants escaped
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a TOML file; one that is not TOML raises ``ValueError``.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        If the file is not TOML.
    OSError
        If it cannot be read.
    """
    checked_path("path", path)
    try:
        return tomllib.loads(read_regular(path).decode())
    except (ValueError, RecursionError) as error:  # also not UTF-8, numbers too long to read, lists nested too deep
        raise ValueError(f"{path}: not TOML: {error}") from None
