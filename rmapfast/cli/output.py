"""How comparisons and sweeps are shown: options and printing that ``reclaim``, ``compare`` and ``sweep`` share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import rmapfast as rf
from rmapfast.cli.shared import Parser, print_json
from rmapfast.reports import TEXTS, comparison_csv, comparison_markdown
from rmapfast.support import json_text

if TYPE_CHECKING:
    from rmapfast import Comparison, Sweep


def _comparison_json(comparison: Comparison) -> str:
    return json_text(comparison.to_dict())


FORMATS: dict[str, Callable[[Comparison], str]] = {
    "text": TEXTS["summary"],
    "markdown": comparison_markdown,
    "csv": comparison_csv,
    "json": _comparison_json,
}


def add_output(verb: Parser) -> None:
    """Add the options that say how a comparison is priced and shown."""
    group = verb.add_argument_group("output")
    group.add_argument(
        "--costs",
        metavar="NAME|FILE.toml",
        help="the cost vector that prices the runs, in place of each architecture's own",
    )
    group.add_argument(
        "--format", choices=tuple(FORMATS), help="the form of the output (text; --json means --format json)"
    )
    forms = group.add_mutually_exclusive_group()
    forms.add_argument(
        "--full",
        dest="form",
        action="store_const",
        const="full",
        help="as text: components, all events that differ, batch lengths, assumptions and cost vectors too",
    )
    forms.add_argument(
        "--brief", dest="form", action="store_const", const="brief", help="as text: five lines for a commit message"
    )
    group.add_argument("--plot", metavar="FILE", help="draw the cost components and batch lengths (.png, .svg, .pdf)")


def check_output(arguments: argparse.Namespace) -> None:
    """Refuse output that cannot be made, before the work begins."""
    if arguments.json and arguments.format not in (None, "json"):
        raise ValueError(f"--json: cannot be combined with --format {arguments.format}")
    if arguments.form and (arguments.json or arguments.format not in (None, "text")):
        raise ValueError(f"--{arguments.form}: only for text, not with --{'json' if arguments.json else 'format'}")
    if arguments.plot is not None:
        rf.plot.check_path(arguments.plot)
    if arguments.costs is not None:
        rf.cost.get(arguments.costs)


def show_comparison(comparison: Comparison, arguments: argparse.Namespace) -> None:
    """Draw and print a comparison as the options say."""
    if arguments.plot is not None:
        rf.plot.save(rf.plot.overview(comparison), arguments.plot)
    shown = (
        TEXTS[arguments.form] if arguments.form else FORMATS[arguments.format or ("json" if arguments.json else "text")]
    )
    print(shown(comparison))


def add_view(verb: Parser) -> None:
    """Add the options that say how a sweep is shown."""
    group = verb.add_argument_group("how a sweep is shown")
    group.add_argument(
        "--value",
        metavar="NAME",
        help="what is shown: gain, per_page, predicted, a component or an event (gain if several policies are swept)",
    )
    group.add_argument("--x", metavar="AXIS", help="the axis along the columns (the last one)")
    group.add_argument("--y", metavar="AXIS", help="the axis along the rows (the last but one)")
    group.add_argument("--at", action="append", default=[], metavar="AXIS=STEP", help="show only this step of an axis")
    group.add_argument(
        "--rank", action="store_true", help="rank the axes by how much they change the gain; --plot draws the ranking"
    )


def steps_at(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the step of each axis that ``--at`` names."""
    chosen = {}
    for text in arguments.at:
        name, equals, step = text.partition("=")
        if not (name and equals and step):
            raise ValueError(f"--at: expected AXIS=STEP, got {text!r}")
        chosen[name] = step
    return chosen


def show_sweep(found: Sweep, arguments: argparse.Namespace, as_json: bool) -> None:
    """Draw and print a sweep as the options say."""
    from rmapfast.sweeps import document, heatmap_text, one_point, summary_text, view

    at, several = steps_at(arguments), any(size > 1 for size in found.space.shape)
    ranking = found.rank() if arguments.rank else None
    chosen: dict[str, Any] = {"value": arguments.value, "x": arguments.x, "y": arguments.y, "at": at}
    if arguments.plot is not None:
        rf.plot.save(rf.plot.ranking(found) if ranking else rf.plot.sweep(found, **chosen), arguments.plot)
    if as_json:
        print_json(document(found) | ({"ranking": ranking.to_dict()} if ranking else {}))
        return
    body = str(ranking) if ranking else heatmap_text(view(found, **chosen)) if several else one_point(found)
    print(f"{summary_text(found)}\n\n{body}")
