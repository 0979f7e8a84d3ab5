"""``rmapfast sweep``, a layer over :func:`rmapfast.sweep`."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

import rmapfast as rf
from rmapfast.cli.output import add_view, show_sweep, steps_at
from rmapfast.cli.shared import Verbs, add_verb
from rmapfast.parallel import EXECUTORS
from rmapfast.support import read_toml
from rmapfast.sweeps import chosen_steps, from_text, parameter_of


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(verbs, "sweep", run, "Simulate and price every point of a space.")
    verb.add_argument(
        "space",
        nargs="+",
        metavar="SPACE.toml|KEY=V1,V2",
        help="axes such as population.order=0,4,9 arch.cont_ptes=1,16 policy=v6.16,v7.0 or "
        "arch.cost.tlbi_ops=10..400/100; a key with one value is fixed; values that have a comma are separated by ';'",
    )
    verb.add_argument(
        "--where", action="append", default=[], metavar="EXPR", help="a constraint; points that break it are left out"
    )
    verb.add_argument("--zip", action="append", default=[], metavar="KEY,KEY", help="axes that step together")
    verb.add_argument("-o", "--output", metavar="FILE", help="save the sweep: .nc, .parquet, .csv or .json")
    verb.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    verb.add_argument("--resume", action="store_true", help="continue the sweep that FILE or its journal holds")
    verb.add_argument("--executor", metavar="WHERE", help=f"where points run: {', '.join(EXECUTORS)} (threads)")
    verb.add_argument("--workers", type=int, metavar="N", help="points that run at once (one per CPU)")
    verb.add_argument("--fail-fast", action="store_true", help="stop at the first point that fails")
    verb.add_argument("--yes", action="store_true", help="run the sweep even if it is very large")
    verb.add_argument(
        "--plot", metavar="FILE", help="draw a heatmap over two axes, or lines over one (.png, .svg, .pdf)"
    )
    add_view(verb)


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return its exit status."""
    if arguments.plot is not None:
        rf.plot.check_path(arguments.plot)
    space = space_of(arguments)
    # a view that is not possible is refused before the work begins
    chosen_steps(space, steps_at(arguments))
    for name in (arguments.x, arguments.y):
        if name is not None:
            space.along(name)
    try:
        found = rf.sweep(
            space,
            arguments.output,
            overwrite=arguments.overwrite,
            resume=arguments.resume,
            executor=arguments.executor,
            workers=arguments.workers,
            fail_fast=arguments.fail_fast,
            yes=arguments.yes,
            progress=True,
        )
    except KeyboardInterrupt:
        kept = ""
        if arguments.output:
            done = os.path.exists(arguments.output)
            kept = f"; finished points are in {arguments.output}, --resume continues" if done else "; no point was done"
        print(f"rmapfast: interrupted{kept}", file=sys.stderr)
        return 130
    show_sweep(found, arguments, arguments.json)
    return 1 if found.failures else 0


def space_of(arguments: argparse.Namespace) -> rf.Space:
    """Return the space that a TOML file, words such as KEY=V1,V2 and the options describe together."""
    document: dict[str, Any] = {}
    for word in arguments.space:
        name, equals, text = word.partition("=")
        if not equals:
            if not word.endswith(".toml"):
                raise ValueError(f"sweep: expected SPACE.toml or KEY=V1,V2, got {word!r}")
            document |= read_toml(word)
            continue
        mix = parameter_of(name) == "population.orders" and ":" in text
        values = [from_text(one) for one in (text.split(";") if ";" in text or mix else text.split(","))]
        if text == "" or "" in values:
            raise ValueError(f"{name}: the axis is empty; give it a value or leave it out")
        document[name] = values if len(values) > 1 else values[0]
    for group in arguments.zip:
        axes = {name: document.pop(name, None) for name in group.split(",")}
        if missing := [name for name, values in axes.items() if not isinstance(values, list)]:
            raise ValueError(f"--zip: {missing[0]}: expected an axis of several values; give it as KEY=V1,V2")
        document["zip"] = [*document.get("zip", []), axes]
    if arguments.where:
        document["constraints"] = [*document.get("constraints", []), *arguments.where]
    return rf.Space.of(document)
