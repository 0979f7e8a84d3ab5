"""Packages that only some uses of a sweep need; where one is missing, the error has the pip command."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any


def imported(modules: Sequence[str], what: str, extra: str) -> list[Any]:
    """Return the modules.

    Raises
    ------
    ImportError
        If one is missing; the message says that `what` needs it, and has the pip command of the extra.
    """
    try:
        return [importlib.import_module(module) for module in modules]
    except ImportError as error:
        missing = error.name or modules[0]
        raise ImportError(f"{what} need {missing}; install it with: pip install 'rmapfast[{extra}]'") from None
