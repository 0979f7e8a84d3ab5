"""The nearest valid name, for error messages."""

from __future__ import annotations

from collections.abc import Iterable


def closest(name: object, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the nearest known name, or an empty string."""
    import difflib  # here, where a name is wrong already: an import that most runs never need

    match = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {match[0]!r}?)" if match else ""
