"""``rmapfast list``."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any

import rmapfast as rf
from rmapfast.cli.shared import Verbs, add_verb, print_json
from rmapfast.events import COMPONENTS, DESCRIPTIONS
from rmapfast.support import hanging


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(verbs, "list", run, "List architectures, policies, events, cost vectors or cost components.")
    verb.add_argument("what", choices=tuple(_LISTS))


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return its exit status."""
    document, lines = _LISTS[arguments.what]()
    if arguments.json:
        print_json(document)
    else:
        print("\n".join(lines))
    return 0


# A document for --json, and the lines of the text.
_List = tuple[dict[str, Any], list[str]]


def _arches() -> _List:
    document = {name: dataclasses.asdict(rf.arch.get(name)) for name in rf.arch.names()}
    lines = []
    for name, fields in document.items():
        text = " ".join(f"{key}={value}" for key, value in fields.items() if key != "name" and value != "")
        lines += hanging(name, 12, text)
    return document, lines


def _policies() -> _List:
    presets = {name: rf.policy.get(name) for name in rf.policy.names()}
    document = {name: dataclasses.asdict(policy) for name, policy in presets.items()}
    return document, [line for name, policy in presets.items() for line in hanging(name, 12, policy.doc)]


def _events() -> _List:
    return DESCRIPTIONS, [line for name, text in DESCRIPTIONS.items() for line in hanging(name, 24, text)]


def _costs() -> _List:
    vectors = {name: rf.cost.get(name) for name in rf.cost.names()}
    lines = []
    for name, vector in vectors.items():
        build = f", {vector.build}" if vector.build else ""
        lines += hanging(name, 16, f"{vector.unit}, {vector.arch}, {len(vector.costs)} costs{build}")
    return {name: vector.to_dict() for name, vector in vectors.items()}, lines


def _components() -> _List:
    return COMPONENTS, [line for name, events in COMPONENTS.items() for line in hanging(name, 18, " ".join(events))]


_LISTS: dict[str, Callable[[], _List]] = {
    "arch": _arches,
    "policy": _policies,
    "event": _events,
    "cost": _costs,
    "component": _components,
}
