"""Spaces of a sweep: axes, zipped axes, explicit cases, fixed values and constraints, from a dict or a TOML file."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
import math
import operator
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from rmapfast import arch as _arch
from rmapfast import cost as _cost
from rmapfast import policy as _policy
from rmapfast.arch import Arch
from rmapfast.cost import CostVector
from rmapfast.events import EVENT_NAMES
from rmapfast.loop import ENGINES, ENTRIES, checked_target
from rmapfast.policy import Policy
from rmapfast.spec import KINDS, PopulationSpec, format_orders, parse_orders
from rmapfast.support import checked_boolean, checked_choice, checked_integer, checked_rate, closest, parse_size

# Other names of parameters.
ALIASES = {
    "population.order": "population.orders",
    "cost": "costs",
    "arch.costs": "costs",
}
ASSUMPTIONS = ("dirty", "write", "soft_dirty", "uffd_wp", "lru")
# Of the arguments of a synthetic population, those that a capture has too.
_OF_CAPTURES = ("population.young", "population.seed")
_RESERVED = ("zip", "cases", "constraints")
_MOST_STEPS = 10_000_000


def is_price(parameter: str) -> bool:
    """Tell whether a parameter changes prices alone, so that no point has to be simulated anew for it."""
    return parameter == "costs" or parameter.startswith("arch.cost.")


# Values: what each parameter takes, as plain values that serialise to JSON


def _definition(kind: type, value) -> dict:
    """An architecture or a policy as the table of its parameters, which differs from a preset."""
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(kind) if field.name != "doc"}
    if isinstance(fields.get("costs"), CostVector):
        fields["costs"] = fields["costs"].to_dict()
    return fields


def _checked_arch(value):
    arch = architecture(value) if isinstance(value, Mapping) else _arch.get(value)
    return arch.name if _arch.PRESETS.get(arch.name) == arch else _definition(Arch, arch)


def _checked_policy(value):
    policy = policy_of(value) if isinstance(value, Mapping) else value
    if not isinstance(policy, Policy):
        policy = _policy.get(policy if isinstance(policy, str) else repr(policy))
    known = policy.name in _policy.PRESETS or policy.name in _policy.ALIASES
    return policy.name if known and _policy.get(policy.name) == policy else _definition(Policy, policy)


def _checked_costs(value):
    if isinstance(value, Mapping):
        return CostVector.from_dict(value).to_dict()
    vector = _cost.get(value)
    return vector.name if vector.name in _cost.names() and _cost.get(vector.name) == vector else vector.to_dict()


def architecture(value: str | Arch | Mapping) -> Arch:
    """Return the architecture that a canonical value of ``arch`` means."""
    if not isinstance(value, Mapping):
        return _arch.get(value)
    fields = dict(value)
    if isinstance(fields.get("costs"), Mapping):
        fields["costs"] = CostVector.from_dict(fields["costs"])
    return Arch(**fields)


def policy_of(value: str | Mapping) -> Policy:
    """Return the policy that a canonical value of ``policy`` means."""
    return Policy(**value) if isinstance(value, Mapping) else _policy.get(value)


def costs_of(value: str | Mapping) -> CostVector:
    """Return the cost vector that a canonical value of ``costs`` means."""
    return CostVector.from_dict(value) if isinstance(value, Mapping) else _cost.get(value)


def _checked_paths(value):
    paths = [value] if isinstance(value, str | os.PathLike) else value
    if not isinstance(paths, list | tuple) or not paths or not all(isinstance(p, str | os.PathLike) for p in paths):
        raise TypeError(f"expected the path of a capture, or a list of those to be joined, got {value!r}")
    return str(paths[0]) if len(paths) == 1 else [str(path) for path in paths]


def _checked_orders(value):
    mix = parse_orders(value)
    return next(iter(mix)) if len(mix) == 1 else format_orders(mix)


def _checked_cost(value):
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"expected a finite cost, 0 or more, got {value!r}")
    return float(value)


def _checked_holes(value):
    return value if isinstance(value, str) else checked_rate("holes", value)


def _of_field(kind: type, name: str) -> Callable:
    """Check the type of a field of an architecture or a policy; its range is checked with the other fields."""
    types = {"int": int, "bool": bool, "str": str}
    expected = {field.name: types[field.type] for field in dataclasses.fields(kind) if field.type in types}[name]
    choices = _policy.CHOICES.get(name, ()) if kind is Policy else ()

    def check(value):
        if type(value) is not expected:
            raise TypeError(f"expected {expected.__name__}, got {value!r}")
        return checked_choice(name, value, choices) if choices else value

    return check


def _of_synthetic(name: str, default) -> Callable:
    if name in ("uffd_wp_vma", "shared") or isinstance(default, bool):
        return lambda value: checked_boolean(name, value)
    if isinstance(default, float) or default is None:
        return _checked_holes if name == "holes" else lambda value: checked_rate(name, value)
    return lambda value: checked_integer(name, value, 0, (1 << 64) - 1)


@cache
def parameters() -> dict[str, tuple[Callable, str]]:
    """Return what may be an axis: by name a function that checks a value, and the unit."""
    known = {
        "arch": (_checked_arch, ""),
        "policy": (_checked_policy, ""),
        "costs": (_checked_costs, ""),
        "target": (checked_target, "bytes"),
        "entry": (lambda value: checked_choice("entry", value, ENTRIES), ""),
        "engine": (lambda value: checked_choice("engine", value, ENGINES), ""),
        "swap": (lambda value: value if isinstance(value, bool) else parse_size(value, "swap"), "bytes"),
        "capture": (_checked_paths, ""),
    }
    for name in ASSUMPTIONS:
        known[f"assume.{name}"] = (lambda value: value, "")
    for argument in dataclasses.fields(PopulationSpec):
        if argument.init and argument.name != "arch":
            known[f"population.{argument.name}"] = (_of_synthetic(argument.name, argument.default), "1")
    known["population.size"] = (lambda value: parse_size(value, "size"), "bytes")
    known["population.kind"] = (lambda value: checked_choice("kind", value, KINDS), "")
    known["population.orders"] = (_checked_orders, "log2(pages)")
    known["population.phase"] = (known["population.phase"][0], "pages")
    units = {"page_shift": "log2(bytes)", "cont_ptes": "PTEs", "ptrs_per_pte": "PTEs", "flush_ceiling": "pages"}
    for kind, where in ((Arch, "arch"), (Policy, "policy")):
        for field in dataclasses.fields(kind):
            if field.name not in ("name", "doc", "costs"):
                known[f"{where}.{field.name}"] = (_of_field(kind, field.name), units.get(field.name, "1"))
    for event in EVENT_NAMES:
        known[f"arch.cost.{event}"] = (_checked_cost, "cost per event")
    return known


def parameter_of(name: str) -> str:
    """Return the parameter that a name means.

    Raises
    ------
    ValueError
        If there is none; the message has the nearest.
    """
    parameter = ALIASES.get(name, name)
    if parameter not in parameters():
        raise ValueError(f"sweep: no such axis {name!r}{closest(name, [*parameters(), *ALIASES])}")
    return parameter


def from_text(text: str):
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
    except ValueError:
        return text
    return value if isinstance(value, int | float | bool) else text


# Axes and dimensions


@dataclass(frozen=True)
class Axis:
    """One parameter with the values that it takes, and the table that describes them if one does."""

    name: str
    values: tuple
    range: Mapping | None = None

    @property
    def parameter(self) -> str:
        """The parameter's own name, where `name` is an alias."""
        return ALIASES.get(self.name, self.name)

    @property
    def unit(self) -> str:
        """Unit of the values, or an empty text."""
        return parameters()[self.parameter][1]

    @cached_property
    def labels(self) -> np.ndarray:
        """The values as they are shown: numbers, truth values or texts, of shape (values,)."""
        mixed = self.mixed
        return mixed if mixed.dtype != object else np.array([str(one) for one in mixed])

    @property
    def mixed(self) -> np.ndarray:
        """The labels as they are compared: of type object where numbers and texts stand together."""
        shown = [label(value) for value in self.values]
        kinds = {float if type(one) is int else type(one) for one in shown}
        return np.array(shown, None if len(kinds) == 1 else object)


def label(value):
    """Return a value as a table shows it."""
    if isinstance(value, Mapping):
        return value["name"]
    return "+".join(Path(path).name for path in value) if isinstance(value, list) else value


@dataclass(frozen=True)
class Dimension:
    """An axis, or some that are zipped: they step together."""

    name: str
    axes: tuple[Axis, ...]

    def __len__(self) -> int:
        return len(self.axes[0].values)

    @property
    def structural(self) -> bool:
        """Whether a step needs another simulation."""
        return not all(is_price(axis.parameter) for axis in self.axes)

    @property
    def linear(self) -> bool:
        """Whether a step changes only costs of single events."""
        return all(axis.parameter.startswith("arch.cost.") for axis in self.axes)


@dataclass(frozen=True)
class Space:
    """The points of a sweep: the product of its dimensions, less those that a constraint drops.

    Parameters
    ----------
    dimensions : tuple of Dimension
    fixed : dict
        Values by parameter that all points have.
    constraints : tuple of str
        Expressions over the parameters; a point stays if all are true.
    hashes : dict, optional
        What :attr:`inputs` were when a saved sweep was made.
    """

    dimensions: tuple[Dimension, ...]
    fixed: dict
    constraints: tuple[str, ...]
    hashes: dict | None = None

    @classmethod
    def of(cls, document: Mapping | str | os.PathLike | Space) -> Space:
        """Read a space.

        Parameters
        ----------
        document : mapping, path or Space
            A mapping, or the TOML file that holds one. Keys are parameters (``population.order``, ``arch.cont_ptes``,
            ``arch.cost.tlbi_ops``, ``policy.file``, ``target`` and the other arguments of :func:`rmapfast.reclaim`,
            ``capture``; tables may stand for the dots); a list is an axis, a table ``{from, to, steps, scale}`` an axis
            of evenly spaced values (``scale = "log"``: by ratios), another value is fixed. ``zip`` lists tables of axes
            that step together, ``cases`` lists explicit points, ``constraints`` lists expressions that points fulfil.

        Raises
        ------
        TypeError, ValueError, OSError
            For what does not do; the message names it.
        """
        if isinstance(document, Space):
            return document
        if isinstance(document, str | os.PathLike):
            path, document = document, _cost.read_toml(document)
            try:
                return cls.of(document)
            except (TypeError, ValueError) as error:
                raise type(error)(f"{path}: {error}") from None
        if not isinstance(document, Mapping):
            raise TypeError(f"space: expected a mapping or the path of a TOML file, got {type(document).__name__}")
        dimensions, fixed = [], {}
        for name, value in _flat(document):
            if name == "zip":
                dimensions += [_zipped(group, f"zip[{at}]") for at, group in enumerate(_list(name, value))]
            elif name == "cases":
                dimensions += _cases(_list(name, value))
            elif name != "constraints":
                parameter, values = parameter_of(name), _axis_values(name, value)
                if values is None:
                    if parameter in fixed:
                        raise ValueError(f"{name}: given more than once")
                    fixed[parameter] = _checked(name, value)
                else:
                    axis = _unique(_axis(name, values))
                    dimensions.append(Dimension(name, (_spaced_axis(axis, value),)))
        space = cls(tuple(dimensions), fixed, tuple(_list("constraints", document.get("constraints", []))))
        space._check()
        return space

    def _check(self) -> None:
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

    def all_values(self, parameter: str) -> list:
        """Return the values that a parameter takes somewhere."""
        if parameter in self.fixed:
            return [self.fixed[parameter]]
        return [value for axis in self.axes if axis.parameter == parameter for value in axis.values]

    def along(self, name: str) -> int:
        """Return the number of the dimension that has this name, or an axis of this name.

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

    @cached_property
    def kept(self) -> np.ndarray:
        """Which points the constraints keep, as bool of :attr:`shape`."""
        if not self.constraints:
            return np.broadcast_to(np.True_, self.shape)
        names = {}
        for parameter, value in self.fixed.items():
            names[parameter] = np.array(label(value))
        for number, dimension in enumerate(self.dimensions):
            for axis in dimension.axes:
                shape = [1] * len(self.dimensions)
                shape[number] = len(dimension)
                names[axis.name] = names[axis.parameter] = axis.mixed.reshape(shape)
        kept = np.True_
        for text in self.constraints:
            kept = kept & _Constraint(text, names).holds()
        return np.broadcast_to(kept, self.shape)

    def values(self, index: tuple[int, ...]) -> dict:
        """Return the values of a point by parameter."""
        values = dict(self.fixed)
        for at, dimension in zip(index, self.dimensions, strict=True):
            values |= {axis.parameter: axis.values[at] for axis in dimension.axes}
        return values

    def steps(self, chosen: Callable[[Dimension], bool]) -> Iterator[tuple[int, ...]]:
        """Yield the indices of kept points over some dimensions; at the others the index is 0."""
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
        """SHA-256 of each capture that points load, by path."""
        if self.hashes is not None:
            return self.hashes
        hashes = {}
        for value in self.all_values("capture"):
            for path in [value] if isinstance(value, str) else value:
                with open(path, "rb") as file:
                    hashes[path] = hashlib.file_digest(file, "sha256").hexdigest()
        return hashes

    def key(self, index: tuple[int, ...]) -> str:
        """Return what identifies the simulation of a point: points that differ only in prices share it."""
        values = self.simulated(index)
        paths = values.get("capture", [])
        hashes = [self.inputs[path] for path in ([paths] if isinstance(paths, str) else paths)]
        text = json.dumps([values, hashes], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    def simulated(self, index: tuple[int, ...]) -> dict:
        """Return the values of a point that its simulation depends on."""
        return {name: value for name, value in self.values(index).items() if not is_price(name)}

    def to_dict(self) -> dict:
        """Return the space as a dict from which :meth:`of` makes an equal one, and which serialises to JSON."""
        document, zipped = dict(self.fixed), []
        for dimension in self.dimensions:
            table = {axis.name: axis.range or list(axis.values) for axis in dimension.axes}
            if len(table) == 1 and dimension.name in table:
                document |= table
            elif dimension.name == "case":
                document["cases"] = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
            else:
                zipped = document.setdefault("zip", [])
                zipped.append(table)
        return document | ({"constraints": list(self.constraints)} if self.constraints else {})


def _flat(document: Mapping, prefix: str = "") -> Iterator[tuple[str, object]]:
    """The entries with dotted names; a table is a value if it defines an architecture, policy, vector or range."""
    for key, value in document.items():
        name = f"{prefix}{key}"
        if not isinstance(value, Mapping) or name in _RESERVED or "from" in value:
            yield name, value
        elif ALIASES.get(name, name) in ("arch", "policy", "costs") and "name" in value:
            yield name, value
        elif name == "population.orders" or name == "population.order":
            yield name, value
        else:
            yield from _flat(value, f"{name}.")


def _list(name: str, value) -> list:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{name}: expected a list, got {value!r}")
    return list(value)


def _axis_values(name: str, value) -> list | None:
    """The values of an axis, or None of a fixed value."""
    if isinstance(value, Mapping) and "from" in value:
        return _spaced(name, value)
    if isinstance(value, np.ndarray) and value.ndim == 1:
        return value.tolist()
    return list(value) if isinstance(value, list | tuple | range) else None


def _spaced_axis(axis: Axis, value) -> Axis:
    return dataclasses.replace(axis, range=dict(value)) if isinstance(value, Mapping) else axis


def _spaced(name: str, table: Mapping) -> list:
    expected = "expected {from, to, steps} and perhaps scale = 'linear' or 'log'"
    low, high, steps, scale = (table.get(key) for key in ("from", "to", "steps", "scale"))
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (low, high))
    if not numbers or type(steps) is not int or set(table) - {"from", "to", "steps", "scale"}:
        raise ValueError(f"{name}: {expected}, got {dict(table)!r}")
    if not 2 <= steps <= _MOST_STEPS or not math.isfinite(low) or not math.isfinite(high) or low == high:
        raise ValueError(f"{name}: expected two ends and 2 to {_MOST_STEPS} steps, got {dict(table)!r}")
    if scale not in (None, "linear", "log") or (scale == "log" and min(low, high) <= 0):
        raise ValueError(f"{name}: {expected}, with ends above 0 for 'log', got {dict(table)!r}")
    values = (np.geomspace if scale == "log" else np.linspace)(low, high, steps)
    return [int(value) if value == int(value) and not is_price(name) else float(value) for value in values]


def _checked(name: str, value):
    check = parameters()[parameter_of(name)][0]
    try:
        return check(value.item() if isinstance(value, np.generic) else value)
    except (TypeError, ValueError, OSError) as error:
        text = str(error)
        raise type(error)(text if text.startswith(f"{name}:") else f"{name}: {text}") from None


def _axis(name: str, values: list, where: str = "") -> Axis:
    parameter_of(name)
    if not values:
        raise ValueError(f"{where}{name}: the axis is empty; give it a value or leave it out")
    if name.startswith("arch.cost.") and len(values) > 1000:  # costs of a fine range, at once
        array = np.asarray(values, float)
        if not (np.isfinite(array).all() and (array >= 0).all()):
            raise ValueError(f"{where}{name}: expected finite costs, 0 or more")
        values = array.tolist()
    else:
        values = [_checked(name, value) for value in values]
    return Axis(name, tuple(values))


def _unique(axis: Axis) -> Axis:
    found = [json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else value for value in axis.values]
    if len(set(found)) < len(found):
        seen = set()
        twice = next(value for one, value in zip(found, axis.values, strict=True) if one in seen or seen.add(one))
        raise ValueError(f"{axis.name}: {label(twice)!r} is given twice")
    if axis.labels.dtype.kind == "U" and len(set(axis.labels.tolist())) < len(found):
        raise ValueError(f"{axis.name}: two different values are named alike: {', '.join(axis.labels)}")
    return axis


def _zipped(group, where: str) -> Dimension:
    if not isinstance(group, Mapping) or not group:
        raise TypeError(f"{where}: expected a table of axes, got {group!r}")
    axes = []
    for name, value in _flat(group):
        values = _axis_values(name, value)
        if values is None:
            raise TypeError(f"{where}.{name}: expected a list, got {value!r}")
        axes.append(_spaced_axis(_axis(name, values, f"{where}."), value))
    lengths = {axis.name: len(axis.values) for axis in axes}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{where}: zipped axes of unequal length: {', '.join(f'{k} {n}' for k, n in lengths.items())}")
    return Dimension(axes[0].name, tuple(axes))


def _cases(cases: list) -> list[Dimension]:
    if not cases:
        raise ValueError("cases: expected at least one, got none")
    rows = []
    for at, case in enumerate(cases):
        if not isinstance(case, Mapping) or not case:
            raise TypeError(f"cases[{at}]: expected a table of values, got {case!r}")
        rows.append(dict(_flat(case)))
        if set(rows[-1]) != set(rows[0]):
            missing = ", ".join(sorted(set(rows[0]) ^ set(rows[-1])))
            raise ValueError(f"cases[{at}]: expected the same keys as in cases[0], got one more or less: {missing}")
    return [Dimension("case", tuple(_axis(name, [row[name] for row in rows], "cases.") for name in rows[0]))]


# Constraints

_BINARY = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
}
_COMPARE = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


class _Constraint:
    """An expression of names, constants, arithmetic and comparisons, over all points at once."""

    def __init__(self, text: str, names: Mapping[str, np.ndarray]):
        if not isinstance(text, str):
            raise TypeError(f"constraints: expected expressions as text, got {text!r}")
        self.text, self.names = text, names

    def holds(self) -> np.ndarray:
        try:
            return np.asarray(self._value(ast.parse(self.text.strip(), mode="eval").body), bool)
        except (SyntaxError, TypeError, RecursionError, ArithmeticError) as error:
            raise ValueError(f"constraints: {self.text!r}: {error}") from None

    def _value(self, node):
        match node:
            case ast.Constant(value=bool() | int() | float() | str() as value):
                return np.asarray(value)
            case ast.Name() | ast.Attribute():
                return self._named(node)
            case ast.BoolOp(op=op, values=values):
                found = [np.asarray(self._value(one), bool) for one in values]
                together = np.logical_and if isinstance(op, ast.And) else np.logical_or
                result = found[0]
                for one in found[1:]:
                    result = together(result, one)
                return result
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return ~np.asarray(self._value(operand), bool)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self._value(operand)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                with np.errstate(all="ignore"):
                    return _BINARY[type(op)](self._value(left), self._value(right))
            case ast.Compare(left=left, ops=ops, comparators=right):
                result = np.True_
                for op, one in zip(ops, right, strict=True):
                    result = result & self._compared(left, op, one)
                    left = one
                return result
        raise TypeError(f"only names, numbers, texts, arithmetic and comparisons, not {ast.unparse(node)!r}")

    def _compared(self, left, op, right):
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(right, ast.Tuple | ast.List):
                raise TypeError("'in' needs a list")
            found = np.False_
            for one in right.elts:
                found = found | self._compared(left, ast.Eq(), one)
            return ~found if isinstance(op, ast.NotIn) else found
        if type(op) not in _COMPARE:
            raise TypeError(f"no such comparison in {self.text!r}")
        a, b = self._value(left), self._value(right)
        if "O" not in a.dtype.kind + b.dtype.kind and (a.dtype.kind == "U") != (b.dtype.kind == "U"):
            if isinstance(op, ast.Eq | ast.NotEq):
                return np.asarray(isinstance(op, ast.NotEq))
            raise TypeError(f"{ast.unparse(left)} and {ast.unparse(right)} are a text and a number")
        return _COMPARE[type(op)](a, b)

    def _named(self, node) -> np.ndarray:
        name = ast.unparse(node)
        name = name if name in self.names else ALIASES.get(name, name)
        if name not in self.names:
            known = list(self.names)
            raise ValueError(
                f"constraints: {self.text!r}: no axis or fixed value {name!r}{closest(name, known)}; there are "
                f"{', '.join(known)}"
            )
        return self.names[name]
