"""``rmapfast rerun``, a layer over :func:`rmapfast.rerun`."""

from __future__ import annotations

import argparse

import rmapfast as rf
from rmapfast.cli.shared import Verbs, add_verb, print_folded, print_json
from rmapfast.parallel import EXECUTORS
from rmapfast.saved import differences_table


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(verbs, "rerun", run, "Run a saved result again and say whether the numbers are the same.")
    verb.add_argument("result", metavar="RESULT", help="a file that reclaim -o or sweep -o saved")
    verb.add_argument(
        "--executor", metavar="WHERE", help=f"where a sweep's points run: {', '.join(EXECUTORS)} (threads)"
    )
    verb.add_argument("--workers", type=int, metavar="N", help="points of a sweep that run at once (one per CPU)")


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return its exit status."""
    found = rf.rerun(arguments.result, executor=arguments.executor, workers=arguments.workers, progress=True)
    if arguments.json:
        print_json(found.to_dict())
    elif found.same:
        versions = f"rmapfast {found.before}, run again by {found.now}"
        print_folded(f"{found.path}: {found.runs} simulations of {versions}: the same numbers")
    else:
        print_folded(
            f"{found.path}: {len(found.differences)} numbers of rmapfast {found.before} differ under {found.now}:"
        )
        print(differences_table(found.differences))
    return 0 if found.same else 1
