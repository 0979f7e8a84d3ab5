"""What several verbs share: the parser, the line of progress, JSON, and options that mean the same everywhere."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TextIO, TypeAlias

import rmapfast as rf
from rmapfast.result import PolicyFunction
from rmapfast.support import closest, folded, one_line, printable
from rmapfast.unseen import UNSEEN, assume_pages, parse_pages

# What add_subparsers() returns: argparse has no public name for it.
Verbs: TypeAlias = "argparse._SubParsersAction[Parser]"


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print the line and exit with status 2."""
        self.exit(2, f"{self.prog}: error: {one_line(message)}\n")


class Printable(io.TextIOBase):
    """A text file to which control characters of names are written as escapes; line feeds stay.

    Parameters
    ----------
    file : text file
    """

    def __init__(self, file: TextIO) -> None:
        self.file = file

    def write(self, text: str) -> int:
        """Write a text."""
        shown = text if text.isprintable() else "\n".join(map(printable, text.split("\n")))
        try:
            self.file.write(shown)
        except UnicodeEncodeError:  # a terminal that knows few letters
            self.file.write(shown.encode("ascii", "backslashreplace").decode())
        return len(text)

    def flush(self) -> None:
        """Flush the file."""
        self.file.flush()

    def fileno(self) -> int:
        """Return the number of the file."""
        return self.file.fileno()

    def isatty(self) -> bool:
        """Whether the file is a terminal."""
        return self.file.isatty()


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


def print_folded(line: str) -> None:
    """Print a line, folded where it is too long for a mail."""
    print("\n".join(folded(line)))


def names(text: str | None, default: Iterable[str] = ()) -> list[str]:
    """Return the names in a list such as ``v7.0,v7.3``, or the default if there is no list."""
    return [name.strip() for name in text.split(",")] if text is not None else list(default)


def policies_or_function(text: str | None, default: Iterable[str]) -> list[rf.Policy] | PolicyFunction:
    """Return the policies that ``--policy`` names, or the function in Python, which stands alone."""
    chosen = [rf.policy.resolved(name) for name in names(text, default)]
    found = [one for one in chosen if isinstance(one, rf.Policy)]
    if len(found) == len(chosen):
        return found
    if len(chosen) > 1:
        raise ValueError(f"--policy: expected a function in Python alone, got {text!r}")
    return next(one for one in chosen if not isinstance(one, rf.Policy))


def policies(text: str | None, default: Iterable[str]) -> list[rf.Policy]:
    """Return the policies that ``--policy`` names."""
    return [rf.policy.get(name) for name in names(text, default)]


# Values of --assume dirty=... that are no pages.
_DIRTY = ("auto", "true", "false")


def add_assume(group: argparse._ActionsContainer, pages: bool = False) -> None:
    """Add ``--assume``, for verbs that read captures, and with what is assumed of single pages if asked."""
    of_pages = (
        f"; of any memory: {', '.join(UNSEEN)}=PAGES, such as 0-15,20 or every:4 or all, counted from the first "
        "mapping, or a file of such words"
    )
    group.add_argument(
        "--assume",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="assume what /proc does not show of a capture: dirty=auto|true|false, write=perms|true|false, "
        "soft_dirty=ignore|capture, uffd_wp=capture|ignore, lru=address|shuffled, folio_order=N (of folios that are "
        f"seen in part){of_pages if pages else ''}",
    )


def assumptions(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what ``--assume`` says of a capture as a whole, as arguments of :meth:`rmapfast.Population.load`."""
    if not arguments.assume:
        return {}
    from rmapfast.sweeps import ASSUMPTIONS

    assumed: dict[str, Any] = {}
    for text in arguments.assume:
        name, value = _assumption(text, ASSUMPTIONS)
        assumed[name] = int(value) if value.isdecimal() else {"true": True, "false": False}.get(value, value)
    if assumed and not arguments.capture:
        raise ValueError(
            f"--assume {next(iter(assumed))}: only with --capture; a synthetic population is described by its own "
            "options"
        )
    return assumed


def page_assumptions(arguments: argparse.Namespace) -> dict[str, str]:
    """Take what ``--assume`` says of single pages out of the arguments; return the words that name the pages."""
    if not arguments.assume:
        return {}
    from rmapfast.sweeps import ASSUMPTIONS

    pages: dict[str, str] = {}
    rest = []
    for text in arguments.assume:
        name, value = _assumption(text, (*ASSUMPTIONS, *UNSEEN))
        if name not in UNSEEN or (name == "dirty" and value in _DIRTY):
            rest.append(text)
        else:
            pages[name] = f"{pages[name]},{value}" if name in pages else value
    arguments.assume = rest
    return pages


def _assumption(text: str, known: Iterable[str]) -> tuple[str, str]:
    """Return the name and the value of a word of ``--assume``. The beginning of a name is enough if it is the only."""
    name, _, value = text.partition("=")
    names = [name] if name in known else [one for one in dict.fromkeys(known) if name and one.startswith(name)]
    if len(names) != 1 or not value:
        raise ValueError(
            f"--assume: expected NAME=VALUE with a name of {', '.join(dict.fromkeys(known))}{closest(name, known)}, "
            f"got {text!r}"
        )
    return names[0], value


def with_pages(population: rf.Population, pages: dict[str, str]) -> rf.Population:
    """Return the population, changed to what :func:`page_assumptions` says of its pages."""
    try:
        assume_pages(population, {name: parse_pages(name, text, population) for name, text in pages.items()})
    except ValueError as error:
        raise ValueError(f"--assume {error}") from None
    return population
