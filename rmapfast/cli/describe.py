"""``rmapfast describe``, a layer over :func:`rmapfast.describe`."""

from __future__ import annotations

import argparse

import rmapfast as rf
from rmapfast.cli.shared import Verbs, add_assume, add_verb, assumptions, policies, print_json
from rmapfast.contents import POLICIES, description_table, vma_names
from rmapfast.support import ProgressLine


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(
        verbs, "describe", run, "Show what a capture holds, what each policy would batch, and what is assumed."
    )
    verb.add_argument("capture", nargs="+", metavar="FILE", help="a capture; several are joined by PFN")
    add_assume(verb)
    verb.add_argument("--policy", metavar="NAME,...", help=f"policies that unmap it ({','.join(POLICIES)})")
    verb.add_argument("--plot", metavar="FILE", help="draw the folio orders and a map of the memory (.png, .svg, .pdf)")


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return its exit status."""
    chosen = policies(arguments.policy, POLICIES)
    if arguments.plot is not None:
        rf.plot.check_path(arguments.plot)
    population, progress = rf.Population.load(arguments.capture, **assumptions(arguments)), ProgressLine()
    described = rf.describe(population, chosen, progress=progress)
    progress.clear()
    if arguments.plot is not None:
        figure = rf.plot.description(population, described, names=vma_names(arguments.capture))
        rf.plot.save(figure, arguments.plot)
    if arguments.json:
        print_json(described)
    else:
        print(description_table(described))
    return 0
