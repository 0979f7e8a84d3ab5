"""Packages that only some uses need, imported there; where one is missing, the error has the pip command."""

from __future__ import annotations

import importlib
import importlib.util
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
        raise _missing(error.name or modules[0], what, extra) from None


def check_installed(modules: Sequence[str], what: str, extra: str) -> None:
    """Raise the error of :func:`imported` if a module is missing, without importing what takes long.

    Parameters
    ----------
    modules : sequence of str
        None of them lies in a package that is not among them.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise _missing(module, what, extra)


def _missing(module: str, what: str, extra: str) -> ImportError:
    return ImportError(f"{what} need {module}; install it with: pip install 'rmapfast[{extra}]'")


def data_frame(columns: Mapping[str, Any]) -> Any:
    """Return columns as a pandas.DataFrame; ImportError has the pip command."""
    (pandas,) = imported(["pandas"], "data frames", "xarray")
    return pandas.DataFrame(dict(columns))


def dataset(variables: Mapping[str, Any], coordinates: Mapping[str, Any], attributes: Mapping[str, Any]) -> Any:
    """Return arrays as an xarray.Dataset; ImportError has the pip command."""
    (xarray,) = imported(["xarray"], "datasets", "xarray")
    return xarray.Dataset(dict(variables), dict(coordinates), dict(attributes))
