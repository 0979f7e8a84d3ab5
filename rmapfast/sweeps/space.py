"""The space of a sweep: its axes, what is fixed, and which points are kept; from a dict or a TOML file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from rmapfast.cost import CostVector
from rmapfast.support import closest, open_regular, read_toml
from rmapfast.sweeps.axes import Axis, Dimension, flat, label, listed_cases, single, zipped
from rmapfast.sweeps.constraints import holds
from rmapfast.sweeps.parameter import Value, architecture, checked, costs_of, is_price, parameter_of

# Of the arguments of a described population, those that a capture has too.
_OF_CAPTURES = ("population.young", "population.seed")


@dataclass(frozen=True)
class Space:
    """The points of a sweep: the product of its dimensions, less those that a constraint drops.

    A point is named by its index, one number of a step per dimension.

    Parameters
    ----------
    dimensions : tuple of Dimension
    fixed : dict
        Values by parameter that all points have.
    constraints : tuple of str
        Expressions over the parameters; a point stays if all are true.
    hashes : dict of str to str, optional
        What :attr:`inputs` were when a saved sweep was made.

    Examples
    --------
    >>> space = Space.of({"population.order": [0, 4, 9], "policy": ["v6.16", "v7.0"], "population.size": "1GiB"})
    >>> space.shape, space.values((1, 0))
    ((3, 2), {'population.size': 1073741824, 'population.orders': 4, 'policy': 'v6.16'})
    """

    dimensions: tuple[Dimension, ...]
    fixed: dict[str, Value]
    constraints: tuple[str, ...]
    hashes: dict[str, str] | None = None

    @classmethod
    def of(cls, document: Mapping[str, Any] | str | os.PathLike[str] | Space) -> Space:
        """Read a space.

        Parameters
        ----------
        document : mapping, path or Space
            A mapping, or the TOML file that holds one. Keys are parameters (``population.order``, ``arch.cont_ptes``,
            ``arch.cost.tlbi_ops``, ``policy.file``, ``target`` and the other arguments of :func:`rmapfast.reclaim`,
            ``capture``; tables may stand for the dots). A list is an axis. A table ``{from, to, steps, scale}`` is an
            axis of evenly spaced values (``scale = "log"``: by ratios). Another value is fixed. ``zip`` lists tables
            of axes that step together, ``cases`` lists explicit points, ``constraints`` lists expressions that points
            fulfil.

        Returns
        -------
        Space

        Raises
        ------
        TypeError, ValueError
            For a key or a value that cannot be used; the message names it.
        OSError
            If a file cannot be read.

        Examples
        --------
        >>> import rmapfast as rf
        >>> rf.Space.of({"population.order": [0, 4], "policy": ["v6.18", "v7.0"]}).shape
        (2, 2)
        """
        if isinstance(document, Space):
            return document
        if isinstance(document, str | os.PathLike):
            path, document = document, read_toml(document)
            try:
                return cls.of(document)
            except (TypeError, ValueError) as error:
                raise type(error)(f"{path}: {error}") from None
        if not isinstance(document, Mapping):
            raise TypeError(f"space: expected a mapping or the path of a TOML file, got {type(document).__name__}")
        dimensions: list[Dimension] = []
        fixed: dict[str, Value] = {}
        for name, value in flat(document):
            if name == "zip":
                dimensions += [zipped(group, f"zip[{at}]") for at, group in enumerate(_list(name, value))]
            elif name == "cases":
                dimensions.append(listed_cases(_list(name, value)))
            elif name != "constraints":
                parameter, dimension = parameter_of(name), single(name, value)
                if dimension is not None:
                    dimensions.append(dimension)
                elif parameter in fixed:
                    raise ValueError(f"{name}: given more than once")
                else:
                    fixed[parameter] = checked(name, value)
        space = cls(tuple(dimensions), fixed, tuple(_list("constraints", document.get("constraints", []))))
        space._check()
        return space

    def _check(self) -> None:
        """Raise ValueError for parameters that cannot stand together, and if no point is kept."""
        seen = set(self.fixed)
        for axis in self.axes:
            if axis.parameter in seen:
                raise ValueError(f"{axis.name}: given more than once")
            seen.add(axis.parameter)
        if "capture" in seen:
            for name in sorted(seen):
                if name.startswith("population.") and name not in _OF_CAPTURES:
                    raise ValueError(f"{name}: not with capture, which says itself what is mapped")
        elif assumed := next((name for name in sorted(seen) if name.startswith("assume.")), None):
            raise ValueError(f"{assumed}: only with capture; a synthetic population is described by population.*")
        if len(units := {vector.unit: vector.name for vector in self._vectors()}) > 1:
            prices = " and ".join(f"in {unit} ({name})" for unit, name in units.items())
            raise ValueError(f"costs: points are priced {prices}; name one cost vector for all")
        if not self.kept.any():
            raise ValueError(f"constraints: no point is left by {' and '.join(map(repr, self.constraints))}")

    def _vectors(self) -> list[CostVector]:
        """Return the cost vectors that price some point."""
        if costs := self.all_values("costs"):
            return [costs_of(value) for value in costs]
        return [arch.cost_vector for arch in map(architecture, self.all_values("arch")) if arch.cost_vector]

    @property
    def axes(self) -> list[Axis]:
        """All axes, in the order of the dimensions."""
        return [axis for dimension in self.dimensions for axis in dimension.axes]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of steps of each dimension."""
        return tuple(map(len, self.dimensions))

    def all_values(self, parameter: str) -> list[Any]:
        """Return the values that a parameter takes somewhere; none if it is left at its default.

        Parameters
        ----------
        parameter : str
            A parameter of the sweep, such as ``population.order``.

        Returns
        -------
        list
        """
        if parameter in self.fixed:
            return [self.fixed[parameter]]
        return [value for axis in self.axes if axis.parameter == parameter for value in axis.values]

    def along(self, name: str) -> int:
        """Return the number of the dimension that has this name, or an axis of this name.

        Parameters
        ----------
        name : str

        Returns
        -------
        int

        Raises
        ------
        ValueError
            If there is none.
        """
        for number, dimension in enumerate(self.dimensions):
            names = {dimension.name, *(axis.name for axis in dimension.axes)}
            if name in names | {axis.parameter for axis in dimension.axes}:
                return number
        known = [dimension.name for dimension in self.dimensions]
        raise ValueError(f"no axis {name!r} in this sweep{closest(name, known)}; it has {', '.join(known) or 'none'}")

    @property
    def policy_dimension(self) -> int | None:
        """Number of the dimension whose first step is the baseline of gains, or None."""
        for number, dimension in enumerate(self.dimensions):
            if any(axis.parameter == "policy" or axis.parameter.startswith("policy.") for axis in dimension.axes):
                return number
        return None

    @cached_property
    def kept(self) -> npt.NDArray[np.bool_]:
        """Which points the constraints keep, of :attr:`shape`."""
        if not self.constraints:
            return np.broadcast_to(np.True_, self.shape)
        names: dict[str, npt.NDArray[Any]] = {}
        for parameter, value in self.fixed.items():
            names[parameter] = np.array(label(value))
        for number, dimension in enumerate(self.dimensions):
            for axis in dimension.axes:
                shape = [1] * len(self.dimensions)
                shape[number] = len(dimension)
                names[axis.name] = names[axis.parameter] = axis.mixed.reshape(shape)
        kept: npt.NDArray[np.bool_] = np.asarray(np.True_)
        for text in self.constraints:
            kept = kept & holds(text, names)
        return np.broadcast_to(kept, self.shape)

    def select(self, at: Mapping[str, Any]) -> Space:
        """Return the part of the space where axes have certain values.

        Parameters
        ----------
        at : mapping
            By name of an axis: a value, which leaves the axis away; or a list of values or a slice (both ends are
            included) of those that stay. A value is given as for the space, or as tables show it.

        Returns
        -------
        Space

        Raises
        ------
        ValueError
            If there is no such axis or value, or no point is left.
        """
        dimensions: list[Dimension | None] = list(self.dimensions)
        fixed = dict(self.fixed)
        for name, wanted in at.items():
            along = self.along(name)
            dimension = dimensions[along]
            if dimension is None:
                raise ValueError(f"{name}: its axis steps together with another one that is given")
            several = isinstance(wanted, slice | list | tuple | range | np.ndarray)
            chosen = dimension.chosen(name, wanted)
            if several or len(chosen) > 1:
                dimensions[along] = dimension.part(chosen)
            else:
                fixed |= {axis.parameter: axis.values[chosen[0]] for axis in dimension.axes}
                dimensions[along] = None
        left = tuple(dimension for dimension in dimensions if dimension is not None)
        space = Space(left, fixed, self.constraints, self.inputs)
        space._check()
        return space

    def values(self, index: tuple[int, ...]) -> dict[str, Any]:
        """Return the values of a point by parameter.

        Parameters
        ----------
        index : tuple of int
            Step along each dimension.

        Returns
        -------
        dict
        """
        values = dict(self.fixed)
        for at, dimension in zip(index, self.dimensions, strict=True):
            values |= {axis.parameter: axis.values[at] for axis in dimension.axes}
        return values

    def steps(self, chosen: Callable[[Dimension], bool]) -> Iterator[tuple[int, ...]]:
        """Yield the indices of kept points over some dimensions; at the others the index is 0.

        Parameters
        ----------
        chosen : callable
            Tells of a dimension whether it is one of those.

        Yields
        ------
        tuple of int
            Step along each dimension.
        """
        numbers = [number for number, dimension in enumerate(self.dimensions) if chosen(dimension)]
        others = tuple(number for number in range(len(self.dimensions)) if number not in numbers)
        kept = self.kept.any(axis=others)
        for found in np.argwhere(kept):
            index = [0] * len(self.dimensions)
            for number, at in zip(numbers, found, strict=True):
                index[number] = int(at)
            yield tuple(index)

    @cached_property
    def inputs(self) -> dict[str, str]:
        """SHA-256 of each capture that points load, in hexadecimal, by path."""
        if self.hashes is not None:
            return self.hashes
        hashes = {}
        for value in self.all_values("capture"):
            for path in [value] if isinstance(value, str) else value:
                with open_regular(path) as file:
                    hashes[path] = hashlib.file_digest(file, "sha256").hexdigest()
        return hashes

    def key(self, index: tuple[int, ...]) -> str:
        """Return what identifies the simulation of a point: points that differ only in prices share it.

        Parameters
        ----------
        index : tuple of int
            Step along each dimension.

        Returns
        -------
        str
            20 hexadecimal digits.
        """
        values = self.simulated(index)
        paths = values.get("capture", [])
        hashes = [self.inputs[path] for path in ([paths] if isinstance(paths, str) else paths)]
        text = json.dumps([values, hashes], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    def simulated(self, index: tuple[int, ...]) -> dict[str, Any]:
        """Return the values of a point that its simulation depends on.

        Parameters
        ----------
        index : tuple of int
            Step along each dimension.

        Returns
        -------
        dict
        """
        return {name: value for name, value in self.values(index).items() if not is_price(name)}

    def to_dict(self) -> dict[str, Any]:
        """Return the space as a dict from which :meth:`of` makes an equal one, and which serialises to JSON.

        Returns
        -------
        dict
        """
        document: dict[str, Any] = dict(self.fixed)
        for dimension in self.dimensions:
            table = {axis.name: axis.range or list(axis.values) for axis in dimension.axes}
            if len(table) == 1 and dimension.name in table:
                document |= table
            elif dimension.name == "case":
                document["cases"] = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
            else:
                document.setdefault("zip", []).append(table)
        return document | ({"constraints": list(self.constraints)} if self.constraints else {})


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{name}: expected a list, got {value!r}")
    return list(value)
