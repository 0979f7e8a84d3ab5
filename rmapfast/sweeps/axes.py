"""Axes of a sweep: parameters with the values that they take, and the dimensions along which they step."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from rmapfast.rule import names_a_function, short_name
from rmapfast.support import closest
from rmapfast.sweeps.parameter import ALIASES, Value, checked, is_price, parameter_of, parameters

# Keys of a space that are no parameters.
_RESERVED = ("zip", "cases", "constraints")
_MOST_STEPS = 10_000_000


@dataclass(frozen=True)
class Axis:
    """One parameter with the values that it takes.

    Parameters
    ----------
    name : str
        Of the parameter, or an alias of it such as ``population.order``.
    values : tuple
        Plain values, at least one, in the order of the steps: numbers in :attr:`unit`, truth values, texts, or the
        table of an architecture, a policy or a cost vector that is no preset.
    range : mapping, optional
        ``{from, to, steps, scale}`` if the values are evenly spaced ones.

    Examples
    --------
    >>> import rmapfast as rf
    >>> space = rf.Space.of({"population.order": [0, 4]})
    >>> space.dimensions[0].axes[0].values
    (0, 4)
    """

    name: str
    values: tuple[Value, ...]
    range: Mapping[str, Any] | None = None

    @property
    def parameter(self) -> str:
        """The parameter's own name, where :attr:`name` is an alias."""
        return ALIASES.get(self.name, self.name)

    @property
    def unit(self) -> str:
        """Unit of the values; ``"1"`` for numbers without one, empty for what is no number."""
        return parameters()[self.parameter].unit

    @cached_property
    def labels(self) -> npt.NDArray[Any]:
        """The values as they are shown: numbers, truth values or texts, of shape (values,)."""
        mixed = self.mixed
        return mixed if mixed.dtype != object else np.array([str(one) for one in mixed])

    @property
    def mixed(self) -> npt.NDArray[Any]:
        """The labels as they are compared, of shape (values,): objects where numbers and texts stand together."""
        shown = [label(value) for value in self.values]
        kinds = {float if type(one) is int else type(one) for one in shown}
        return np.array(shown, None if len(kinds) == 1 else object)


def label(value: Value) -> bool | int | float | str:
    """Return a value as a table shows it."""
    if isinstance(value, Mapping):
        return str(value["name"])
    if isinstance(value, str) and names_a_function(value):
        return short_name(value)
    return "+".join(Path(path).name for path in value) if isinstance(value, list) else value


def word(value: object) -> str:
    """Return a label as text."""
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Dimension:
    """An axis, or several that are zipped: they step together.

    Parameters
    ----------
    name : str
        Name of its first axis, or ``case`` of cases that were listed.
    axes : tuple of Axis
        All of the same length, which is that of the dimension.

    Examples
    --------
    >>> import rmapfast as rf
    >>> [len(dimension) for dimension in rf.Space.of({"population.order": [0, 4], "policy": ["v7.0"]}).dimensions]
    [2, 1]
    """

    name: str
    axes: tuple[Axis, ...]

    def __len__(self) -> int:
        return len(self.axes[0].values)

    @property
    def structural(self) -> bool:
        """Whether a step needs another simulation."""
        return not all(is_price(axis.parameter) for axis in self.axes)

    def chosen(self, name: str, wanted: Any) -> list[int]:
        """Return the numbers of the steps where an axis has certain values.

        Parameters
        ----------
        name : str
            Of one of the axes, or of the dimension.
        wanted : object
            A value, a list of them, or a slice from value to value, both included.

        Raises
        ------
        ValueError
            If there is no such step; the message names the nearest.
        """
        named = (axis for axis in self.axes if name in (axis.name, axis.parameter))
        axis = next(named, self.axes[0])
        if isinstance(wanted, slice):
            if axis.labels.dtype.kind not in "if" or wanted.step is not None:
                raise ValueError(f"{name}: expected a slice of numbers without a step, got {wanted!r}")
            low, high = (-math.inf if wanted.start is None else wanted.start), wanted.stop
            inside = (axis.labels >= low) & (axis.labels <= (math.inf if high is None else high))
            found = [int(at) for at in np.flatnonzero(inside)]
            if not found:
                raise ValueError(f"{name}: no step from {wanted.start!r} to {wanted.stop!r}")
            return found
        if isinstance(wanted, list | tuple | range | np.ndarray):
            steps = [step for one in wanted for step in self.chosen(name, one)]
            if not steps:
                raise ValueError(f"{name}: expected at least one step, got none")
            return list(dict.fromkeys(steps))
        try:
            plain: object = checked(axis.name, wanted)
        except (TypeError, ValueError, OSError):
            plain = None
        words = [word(one) for one in axis.labels.tolist()]
        same = [at for at, value in enumerate(axis.values) if plain is not None and value == plain]
        found = same or [at for at, called in enumerate(words) if called == str(wanted)]
        if not found:
            raise ValueError(f"{name}: no step {wanted!r}{closest(wanted, words)}; it has {', '.join(words)}")
        return found

    def part(self, chosen: list[int]) -> Dimension:
        """Return the dimension with the steps of these numbers alone, in their order."""
        axes = (Axis(axis.name, tuple(axis.values[at] for at in chosen)) for axis in self.axes)
        return Dimension(self.name, tuple(axes))

    @property
    def linear(self) -> bool:
        """Whether a step changes only costs of single events."""
        return all(axis.parameter.startswith("arch.cost.") for axis in self.axes)


# What a document says


def flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the entries with dotted names; a table that defines an architecture, policy, vector or range is a value."""
    for key, value in document.items():
        name = f"{prefix}{key}"
        if not isinstance(value, Mapping) or name in _RESERVED or "from" in value:
            yield name, value
        elif ALIASES.get(name, name) in ("arch", "policy", "costs") and "name" in value:
            yield name, value
        elif ALIASES.get(name, name) == "population.orders":
            yield name, value
        else:
            yield from flat(value, f"{name}.")


def from_text(text: str) -> bool | int | float | str | dict[str, Any]:
    """Return the value that a word on the command line means: a JSON number or truth value, a range, or the text."""
    if ".." in text and "/" in text:
        low, _, rest = text.partition("..")
        high, _, steps = rest.partition("/")
        scale = "log" if steps.endswith("log") else "linear"
        try:
            return {"from": float(low), "to": float(high), "steps": int(steps.removesuffix("log")), "scale": scale}
        except ValueError:
            return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, int | float | bool) else text


def single(name: str, value: Any) -> Dimension | None:
    """Return the dimension of one axis, or None if the value is a fixed one."""
    values = _values(name, value)
    return None if values is None else Dimension(name, (_spaced_axis(_unique(_axis(name, values)), value),))


def zipped(group: object, where: str) -> Dimension:
    """Return the dimension of axes that step together."""
    if not isinstance(group, Mapping) or not group:
        raise TypeError(f"{where}: expected a table of axes, got {group!r}")
    axes = []
    for name, value in flat(group):
        values = _values(name, value)
        if values is None:
            raise TypeError(f"{where}.{name}: expected a list, got {value!r}")
        axes.append(_spaced_axis(_axis(name, values, f"{where}."), value))
    lengths = {axis.name: len(axis.values) for axis in axes}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{where}: zipped axes of unequal length: {', '.join(f'{k} {n}' for k, n in lengths.items())}")
    return Dimension(axes[0].name, tuple(axes))


def listed_cases(cases: list[Any]) -> Dimension:
    """Return the dimension of points that were listed."""
    if not cases:
        raise ValueError("cases: expected at least one, got none")
    rows: list[dict[str, Any]] = []
    for at, case in enumerate(cases):
        if not isinstance(case, Mapping) or not case:
            raise TypeError(f"cases[{at}]: expected a table of values, got {case!r}")
        rows.append(dict(flat(case)))
        if set(rows[-1]) != set(rows[0]):
            missing = ", ".join(sorted(set(rows[0]) ^ set(rows[-1])))
            raise ValueError(f"cases[{at}]: expected the same keys as in cases[0], got one more or less: {missing}")
    return Dimension("case", tuple(_axis(name, [row[name] for row in rows], "cases.") for name in rows[0]))


def _values(name: str, value: Any) -> list[Any] | None:
    """Return the values of an axis, or None if the value is a fixed one."""
    if isinstance(value, Mapping) and "from" in value:
        return _spaced(name, value)
    if isinstance(value, np.ndarray) and value.ndim == 1:
        return list(value.tolist())
    return list(value) if isinstance(value, list | tuple | range) else None


def _spaced_axis(axis: Axis, value: Any) -> Axis:
    return dataclasses.replace(axis, range=dict(value)) if isinstance(value, Mapping) else axis


def _spaced(name: str, table: Mapping[str, Any]) -> list[int | float]:
    expected = "expected {from, to, steps} and perhaps scale = 'linear' or 'log'"
    low, high, steps, scale = (table.get(key) for key in ("from", "to", "steps", "scale"))
    if not _is_number(low) or not _is_number(high) or type(steps) is not int:
        raise ValueError(f"{name}: {expected}, got {dict(table)!r}")
    if set(table) - {"from", "to", "steps", "scale"}:
        raise ValueError(f"{name}: {expected}, got {dict(table)!r}")
    if not 2 <= steps <= _MOST_STEPS or not math.isfinite(low) or not math.isfinite(high) or low == high:
        raise ValueError(f"{name}: expected two ends and 2 to {_MOST_STEPS} steps, got {dict(table)!r}")
    if scale not in (None, "linear", "log") or (scale == "log" and min(low, high) <= 0):
        raise ValueError(f"{name}: {expected}, with ends above 0 for 'log', got {dict(table)!r}")
    values = np.geomspace(low, high, steps) if scale == "log" else np.linspace(low, high, steps)
    return [int(value) if value == int(value) and not is_price(name) else float(value) for value in values]


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _axis(name: str, values: list[Any], where: str = "") -> Axis:
    parameter_of(name)
    if not values:
        raise ValueError(f"{where}{name}: the axis is empty; give it a value or leave it out")
    if name.startswith("arch.cost.") and len(values) > 1000:  # costs of a fine range, at once
        array = np.asarray(values, float)
        if not (np.isfinite(array).all() and (array >= 0).all()):
            raise ValueError(f"{where}{name}: expected finite costs, 0 or more")
        return Axis(name, tuple(array.tolist()))
    return Axis(name, tuple(checked(name, value) for value in values))


def _unique(axis: Axis) -> Axis:
    """Return the axis, if its values differ and are shown differently."""
    seen = set()
    for value in axis.values:
        one = json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else value
        if one in seen:
            raise ValueError(f"{axis.name}: {label(value)!r} is given twice")
        seen.add(one)
    if axis.labels.dtype.kind == "U" and len(set(axis.labels.tolist())) < len(seen):
        raise ValueError(f"{axis.name}: two different values have the same name: {', '.join(axis.labels)}")
    return axis
