"""The whole command line: its verbs, its errors and its exit status.

To add a verb: write ``rmapfast/cli/VERB.py`` with ``add(verbs)`` and ``run(arguments)``, and add its name to
:data:`VERBS`. `CONTRIBUTING.md` has the whole checklist.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module

import rmapfast as rf
from rmapfast.cli.files import check_files
from rmapfast.cli.shared import Parser, Printable
from rmapfast.support import one_line

# Each is a module of this room, in the order of the help.
VERBS = (
    "reclaim",
    "compare",
    "report",
    "sweep",
    "rerun",
    "capture",
    "describe",
    "calibrate",
    "conformance",
    "check",
    "list",
    "info",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        The words after ``rmapfast``. Default: those of this process.

    Returns
    -------
    int
        Exit status: 0 for success, 1 if a check failed, 2 for bad usage or bad input, 130 after Ctrl-C. An error is one
        line on stderr.

    Raises
    ------
    SystemExit
        After ``--help`` and ``--version``, and with status 2 for words that cannot be parsed.
    """
    try:
        with _one_line_warnings():
            words = sys.argv[1:] if argv is None else list(argv)
            arguments = _parsed(words)
            check_files(arguments)
            with contextlib.redirect_stdout(Printable(sys.stdout)):
                return int(arguments.run(arguments))
    except BrokenPipeError:
        # the reader of a pipe may close it at any time
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as stop:
        # what was being written may complain when it goes, such as an archive that is half written
        before, sys.unraisablehook = sys.unraisablehook, lambda _: None
        stop.__traceback__ = stop.__context__ = None
        sys.unraisablehook = before
        print("rmapfast: interrupted", file=sys.stderr)
        return 130
    except _expected() as error:
        text = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) and error.filename else str(error)
        print(f"rmapfast: error: {one_line(text) or type(error).__name__}", file=sys.stderr)
        return 2


def _parsed(words: list[str]) -> argparse.Namespace:
    """Return the arguments; leave with status 2 if the words cannot be parsed."""
    # Only the chosen verb's module is imported: importing all of them takes as long as a small reclaim.
    chosen = parser(words[:1] if words and words[0] in VERBS else VERBS)
    arguments, more = chosen.parse_known_args(words)
    # argparse accepts positional words in one place only, but the axes of a sweep may stand anywhere
    if more and arguments.verb == "sweep" and not any(word.startswith("-") for word in more):
        arguments.space += more
    elif more:
        chosen.error(f"unrecognized arguments: {' '.join(more)}")
    return arguments


@contextlib.contextmanager
def _one_line_warnings() -> Iterator[None]:
    """Show each warning as one line on stderr."""
    import warnings

    def show(message: Warning | str, *_: object, **__: object) -> None:
        print(f"rmapfast: warning: {one_line(str(message))}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _expected() -> tuple[type[Exception], ...]:
    """Return what a verb raises for bad input. Only a verb that imported the sweeps can raise SweepError."""
    known = (ValueError, TypeError, OSError, MemoryError, ImportError, OverflowError, RecursionError)
    return (*known, rf.SweepError) if "rmapfast.sweeps" in sys.modules else known


def parser(names: Iterable[str] = VERBS) -> Parser:
    """Return the parser of the command line.

    Parameters
    ----------
    names : iterable of str
        The verbs that it knows, out of :data:`VERBS`.
    """
    top = Parser(prog="rmapfast", description="Simulates how Linux unmaps large folios through the reverse map.")
    top.add_argument("--version", action="version", version=f"rmapfast {rf.__version__}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name in names:
        import_module(f"{__package__}.{name}").add(verbs)
    return top
