"""JSON documents: as text, read from a file, and their values by key, with an error that names the file and the key."""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import dataclass
from typing import Any

from rmapfast.support.files import read_regular

# A list of plain numbers that indentation spread over many lines; a text holds no bare line break.
_SPREAD = re.compile(r'\[\n([^\[\]{}"]*)\n\s*\]')
_NAMES = {dict: "an object", list: "a list", str: "a text", int: "a whole number", type(None): "null"}


@dataclass(frozen=True)
class JsonObject:
    """A JSON object, and where it stands.

    Parameters
    ----------
    value : dict
    where : str
        What stands before a key in an error, such as ``"a.json: runs[1]."``.
    """

    value: dict[str, Any]
    where: str

    @classmethod
    def of(cls, value: object, where: str) -> JsonObject:
        """Return the value with its place, if it is an object.

        Raises
        ------
        ValueError
            If it is none.
        """
        if not isinstance(value, dict):
            raise ValueError(f"{where.rstrip('. :')}: expected an object, got {_short(value)}")
        return cls(value, where)

    def __contains__(self, key: str) -> bool:
        return key in self.value

    def get(self, key: str, *kinds: type) -> Any:
        """Return the value of a key, if it is of one of these types; no truth value is a whole number.

        Raises
        ------
        ValueError
            If the key is missing or its value is of another type.
        """
        if key not in self.value:
            raise ValueError(f"{self.where}{key}: the key is missing")
        value = self.value[key]
        if not isinstance(value, kinds) or isinstance(value, bool):
            expected = " or ".join(_NAMES.get(kind, "a number") for kind in kinds)
            raise ValueError(f"{self.where}{key}: expected {expected}, got {_short(value)}")
        return value

    def object(self, key: str) -> JsonObject:
        """Return the object of a key."""
        return JsonObject(self.get(key, dict), f"{self.where}{key}.")

    def text(self, key: str) -> str:
        """Return the printable text of a key; it is not empty."""
        value: str = self.get(key, str)
        if not value or not value.isprintable():
            raise ValueError(f"{self.where}{key}: expected printable text, got {_short(value)}")
        return value

    def count(self, key: str) -> int:
        """Return the count of a key: 0 to 2^64 - 1."""
        value: int = self.get(key, int)
        if not 0 <= value < 1 << 64:
            raise ValueError(f"{self.where}{key}: expected 0 to 2^64 - 1, got {_short(value)}")
        return value

    def counts(self, key: str) -> dict[str, int]:
        """Return the object of a key, all of whose values are counts."""
        counts = self.object(key)
        return {name: counts.count(name) for name in counts.value}

    def seconds(self, key: str) -> float:
        """Return the seconds of a key: a finite number, 0 or more."""
        value: float = self.get(key, int, float)
        if not 0 <= value < math.inf:
            raise ValueError(f"{self.where}{key}: expected seconds, 0 or more, got {_short(value)}")
        return value


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def json_text(document: object) -> str:
    """Return a document as indented JSON with lists of numbers on one line."""
    text = json.dumps(document, indent=1, default=str)
    return _SPREAD.sub(lambda match: f"[{' '.join(match[1].split())}]", text)


def read_json(path: str | os.PathLike[str]) -> JsonObject:
    """Read a file that holds one JSON object.

    Raises
    ------
    ValueError
        If it holds anything else.
    OSError
        If it cannot be read.
    """
    try:
        document = json.loads(read_regular(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    return JsonObject.of(document, f"{path}: ")
