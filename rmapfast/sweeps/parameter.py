"""What may be an axis of a sweep: every argument of a reclaim, every parameter of a preset, every cost."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeAlias

import numpy as np

from rmapfast import arch as _arch
from rmapfast import cost as _cost
from rmapfast import policy as _policy
from rmapfast import rule as _rule
from rmapfast.arch import Arch
from rmapfast.cost import CostVector
from rmapfast.events import EVENT_NAMES
from rmapfast.loop import ENGINES, ENTRIES, checked_target
from rmapfast.lru import LRU_STATS, LRUS
from rmapfast.policy import Policy
from rmapfast.result import PolicyFunction
from rmapfast.spec import KINDS, PopulationSpec, format_orders, parse_orders
from rmapfast.support import (
    checked_boolean,
    checked_choice,
    checked_integer,
    checked_rate,
    checked_seed,
    closest,
    page_multiple,
    parse_size,
)

# A value of a parameter after its check: plain values that serialise to JSON.
Value: TypeAlias = bool | int | float | str | list[str] | dict[str, Any]

# Other names of parameters.
ALIASES = {
    "population.order": "population.orders",
    "cost": "costs",
    "arch.costs": "costs",
}
ASSUMPTIONS = ("dirty", "write", "soft_dirty", "uffd_wp", "lru", "folio_order")


@dataclass(frozen=True)
class Parameter:
    """What is known of a parameter.

    Parameters
    ----------
    check : callable
        Returns a given value as the plain value that a space holds; raises TypeError, ValueError or OSError.
    unit : str
        ``"1"`` for a count or a share without a unit, empty for what is no number.
    """

    check: Callable[[Any], Value]
    unit: str


def is_price(parameter: str) -> bool:
    """Tell whether a parameter changes prices alone, so that no point has to be simulated anew for it."""
    return parameter == "costs" or parameter.startswith("arch.cost.")


# Architectures, policies and cost vectors: the name of a preset, or a table of all fields.


def _definition(value: Arch | Policy) -> dict[str, Any]:
    """Return an architecture or a policy that differs from every preset as the table of its parameters."""
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.name != "doc"}
    if isinstance(fields.get("costs"), CostVector):
        fields["costs"] = fields["costs"].to_dict()
    return fields


def _checked_arch(value: str | os.PathLike[str] | Arch | Mapping[str, Any]) -> str | dict[str, Any]:
    arch = architecture(value)
    return arch.name if _arch.PRESETS.get(arch.name) == arch else _definition(arch)


def _checked_policy(value: object) -> str | dict[str, Any]:
    if (isinstance(value, str) and _rule.names_a_function(value)) or callable(value):
        return _rule.function_as_text(value)
    policy = Policy(**value) if isinstance(value, Mapping) else value
    if not isinstance(policy, Policy):
        policy = _policy.get(policy if isinstance(policy, str) else repr(policy))
    return policy.name if _policy.PRESETS.get(policy.name) == policy else _definition(policy)


def _checked_costs(value: str | os.PathLike[str] | CostVector | Mapping[str, Any]) -> str | dict[str, Any]:
    if isinstance(value, Mapping):
        return CostVector.from_dict(value).to_dict()
    vector = _cost.get(value)
    return vector.name if vector.name in _cost.names() and _cost.get(vector.name) == vector else vector.to_dict()


def architecture(value: str | os.PathLike[str] | Arch | Mapping[str, Any]) -> Arch:
    """Return the architecture that a value of ``arch`` means."""
    if not isinstance(value, Mapping):
        return _arch.get(value)
    fields = dict(value)
    if isinstance(fields.get("costs"), Mapping):
        fields["costs"] = CostVector.from_dict(fields["costs"])
    return Arch(**fields)


def policy_of(value: str | Mapping[str, Any]) -> Policy | PolicyFunction:
    """Return the policy or the function that a value of ``policy`` means."""
    return Policy(**value) if isinstance(value, Mapping) else _policy.resolved(value)


def costs_of(value: str | Mapping[str, Any]) -> CostVector:
    """Return the cost vector that a value of ``costs`` means."""
    return CostVector.from_dict(value) if isinstance(value, Mapping) else _cost.get(value)


# Other checks


def _checked_paths(value: object) -> str | list[str]:
    paths = [value] if isinstance(value, str | os.PathLike) else value
    if not isinstance(paths, list | tuple) or not paths or not all(isinstance(p, str | os.PathLike) for p in paths):
        raise TypeError(f"expected the path of a capture, or a list of those to be joined, got {value!r}")
    return str(paths[0]) if len(paths) == 1 else [str(path) for path in paths]


def _checked_orders(value: int | str | Mapping[int, Any]) -> int | str:
    mix = parse_orders(value)
    return next(iter(mix)) if len(mix) == 1 else format_orders(mix)


def _checked_cost(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"expected a finite cost, 0 or more, got {value!r}")
    return float(value)


def _checked_holes(value: str | float) -> str | float:
    return value if isinstance(value, str) else checked_rate("holes", value)


def _checked_swap(value: bool | int | str) -> bool | int:
    return value if isinstance(value, bool) else parse_size(value, "swap")


def _unchecked(value: Value) -> Value:
    """Return what is checked where a capture is read."""
    return value


def _choice_of(name: str, known: tuple[str, ...]) -> Callable[[Any], Value]:
    return lambda value: checked_choice(name, value, known)


def _of_field(kind: type[Arch] | type[Policy], name: str) -> Callable[[Any], Value]:
    """Return the check of a field's type in an architecture or a policy, which checks the range of all fields."""
    types: dict[str, type[int] | type[bool] | type[str]] = {"int": int, "bool": bool, "str": str}
    expected = {field.name: types[str(field.type)] for field in dataclasses.fields(kind) if field.type in types}[name]
    choices = _policy.CHOICES.get(name, ()) if kind is Policy else ()

    def check(value: Any) -> Value:
        if type(value) is not expected:
            raise TypeError(f"expected {expected.__name__}, got {value!r}")
        if choices:
            checked_choice(name, value, choices)
        plain: bool | int | str = value
        return plain

    return check


def _of_population(name: str, default: object) -> Callable[[Any], Value]:
    """Return the check of an argument of a described population, after its default."""
    if name == "holes":
        return _checked_holes
    if name == "seed":
        return lambda value: checked_seed(name, value)
    if name in ("uffd_wp_vma", "shared") or isinstance(default, bool):
        return lambda value: checked_boolean(name, value)
    if isinstance(default, float) or default is None:
        return lambda value: checked_rate(name, value)
    return lambda value: checked_integer(name, value, 0, (1 << 64) - 1)


@cache
def parameters() -> dict[str, Parameter]:
    """Return all parameters that may be an axis, by name."""
    known = {
        "arch": Parameter(_checked_arch, ""),
        "policy": Parameter(_checked_policy, ""),
        "costs": Parameter(_checked_costs, ""),
        "target": Parameter(checked_target, "bytes"),
        "entry": Parameter(_choice_of("entry", ENTRIES), ""),
        "engine": Parameter(_choice_of("engine", ENGINES), ""),
        "swap": Parameter(_checked_swap, "bytes"),
        "lru": Parameter(_choice_of("lru", LRUS), ""),
        "lru_stats": Parameter(_choice_of("lru_stats", LRU_STATS), ""),
        "capture": Parameter(_checked_paths, ""),
    }
    for name in ASSUMPTIONS:
        known[f"assume.{name}"] = Parameter(_unchecked, "")
    for argument in dataclasses.fields(PopulationSpec):
        if argument.init and argument.name != "arch":
            known[f"population.{argument.name}"] = Parameter(_of_population(argument.name, argument.default), "1")
    # of the smallest page; that of the architecture is tested when it is known
    page = min(preset.page_size for preset in _arch.PRESETS.values())
    known["population.size"] = Parameter(lambda value: page_multiple(value, page, "size"), "bytes")
    known["population.kind"] = Parameter(_choice_of("kind", tuple(KINDS)), "")
    known["population.orders"] = Parameter(_checked_orders, "log2(pages)")
    known["population.phase"] = dataclasses.replace(known["population.phase"], unit="pages")
    units = {"page_shift": "log2(bytes)", "cont_ptes": "PTEs", "ptrs_per_pte": "PTEs", "flush_ceiling": "pages"}
    for kind, where in ((Arch, "arch"), (Policy, "policy")):
        for field in dataclasses.fields(kind):
            if field.name not in ("name", "doc", "costs", *_rule.FIELDS):
                known[f"{where}.{field.name}"] = Parameter(_of_field(kind, field.name), units.get(field.name, "1"))
    for name in _rule.FIELDS:
        known[f"policy.{name}"] = Parameter(partial(_rule.as_text, field=name), "")
    for event in EVENT_NAMES:
        known[f"arch.cost.{event}"] = Parameter(_checked_cost, "cost per event")
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


def checked(name: str, value: object) -> Value:
    """Return a value of a parameter as the plain value that a space holds; an error names the parameter."""
    check = parameters()[parameter_of(name)].check
    try:
        return check(value.item() if isinstance(value, np.generic) else value)
    except (TypeError, ValueError, OSError) as error:
        text = str(error)
        raise type(error)(text if text.startswith(f"{name}:") else f"{name}: {text}") from None
