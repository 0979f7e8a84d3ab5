"""What several verbs share: the parser, the line of progress, JSON, and options that mean the same everywhere."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeAlias

import rmapfast as rf
from rmapfast.support import closest

# What add_subparsers() returns: argparse has no public name for it.
Verbs: TypeAlias = "argparse._SubParsersAction[Parser]"


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print the line and exit with status 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")


class Progress:
    """A line on stderr that each call replaces, at most ten times a second. Without a terminal it shows nothing."""

    def __init__(self) -> None:
        self.shown = 0.0
        self.enabled = sys.stderr.isatty()

    def __call__(self, text: str) -> None:
        """Show `text` in place of the line before."""
        if self.enabled and time.monotonic() - self.shown > 0.1:
            self.shown = time.monotonic()
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Remove the line."""
        if self.enabled and self.shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def add_verb(verbs: Verbs, name: str, run: Callable[[argparse.Namespace], int], text: str) -> Parser:
    """Return the parser of a verb that `run` runs. `text` says in one sentence what the verb does."""
    verb = verbs.add_parser(name, help=text, description=text, epilog="Defaults are in parentheses.")
    verb.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    verb.set_defaults(run=run)
    return verb


def print_json(document: object) -> None:
    """Print a document as indented JSON."""
    json.dump(document, sys.stdout, indent=1, default=str)
    print()


def names(text: str | None, default: Iterable[str] = ()) -> list[str]:
    """Return the names in a list such as ``v7.0,v7.3``, or the default if there is no list."""
    return [name.strip() for name in text.split(",")] if text is not None else list(default)


def policies(text: str | None, default: Iterable[str]) -> list[rf.Policy]:
    """Return the policies that ``--policy`` names."""
    return [rf.policy.get(name) for name in names(text, default)]


def add_assume(group: argparse._ActionsContainer) -> None:
    """Add ``--assume``, for verbs that read captures."""
    group.add_argument(
        "--assume",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="assume what /proc does not show of a capture: dirty=auto|true|false, write=perms|true|false, "
        "soft_dirty=ignore|capture, uffd_wp=capture|ignore, lru=address|shuffled",
    )


def assumptions(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what ``--assume`` says, as arguments of :meth:`rmapfast.Population.load`."""
    if not arguments.assume:
        return {}
    from rmapfast.sweeps import ASSUMPTIONS

    assumed: dict[str, Any] = {}
    for text in arguments.assume:
        name, _, value = text.partition("=")
        if name not in ASSUMPTIONS or not value:
            raise ValueError(
                f"--assume: expected NAME=VALUE with a name of {', '.join(ASSUMPTIONS)}{closest(name, ASSUMPTIONS)}, "
                f"got {text!r}"
            )
        assumed[name] = {"true": True, "false": False}.get(value, value)
    if not arguments.capture:
        raise ValueError("--assume: only with --capture; a synthetic population is described by its own options")
    return assumed
