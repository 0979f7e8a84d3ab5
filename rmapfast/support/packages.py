"""Packages that only some uses need, imported there; where one is missing, the error has the pip command."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
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


def data_frame(columns: Mapping[str, Any]) -> Any:
    """Return columns as a pandas.DataFrame; ImportError has the pip command."""
    (pandas,) = imported(["pandas"], "data frames", "xarray")
    return pandas.DataFrame(dict(columns))


def dataset(variables: Mapping[str, Any], coordinates: Mapping[str, Any], attributes: Mapping[str, Any]) -> Any:
    """Return arrays as an xarray.Dataset; ImportError has the pip command."""
    (xarray,) = imported(["xarray"], "datasets", "xarray")
    return xarray.Dataset(dict(variables), dict(coordinates), dict(attributes))
