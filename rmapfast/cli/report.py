"""``rmapfast report``, a layer over :func:`rmapfast.report`."""

from __future__ import annotations

import argparse

import rmapfast as rf
from rmapfast.cli.shared import Verbs, add_verb, names, print_json
from rmapfast.comparison import SEED_ARCHES
from rmapfast.policy_report import ORDERS, check_path
from rmapfast.support import ProgressLine


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(
        verbs,
        "report",
        run,
        "Check a policy, compare it with its baseline on many layouts of memory, and write one file for a cover letter "
        "or for reviewers.",
    )
    verb.add_argument(
        "policy", metavar="POLICY", help="a preset, or a batching rule of one's own as FILE.c:NAME or FILE.py:NAME"
    )
    verb.add_argument(
        "--baseline",
        metavar="NAME",
        help="what it is compared with (of a rule or with --set: the policy without it; else the nearest release)",
    )
    verb.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="policy.PARAM=VALUE",
        dest="changes",
        help="change a parameter of the policy; arch.PARAM=VALUE changes the architectures",
    )
    verb.add_argument("--capture", action="append", default=[], metavar="FILE", help="a capture to reclaim too")
    verb.add_argument(
        "--arch", metavar="NAME,...", help=f"architectures: presets or FILE.toml ({','.join(SEED_ARCHES)})"
    )
    verb.add_argument("--orders", metavar="N,...", help="folio orders (0,2,4,6,9)")
    verb.add_argument(
        "--kind", metavar="KIND,...", help="file, anon, lazyfree or shmem (those in which the policy differs)"
    )
    verb.add_argument("--size", metavar="SIZE", help="the memory of each run (64MiB; 8MiB for a rule in Python)")
    verb.add_argument("--pages", type=int, metavar="N", help="the largest folio of the check: 1, 2, 4 or 8 pages (4)")
    verb.add_argument(
        "--budget", type=float, default=60.0, metavar="SECONDS", help="time for the check of small states (60)"
    )
    verb.add_argument("--seed", type=int, default=0, metavar="N", help="the seed of all random choices (0)")
    verb.add_argument(
        "-o",
        "--output",
        metavar="FILE.md|FILE.html",
        help="write the report; .md has 80 columns, .html has pictures and needs no network (Markdown to the terminal)",
    )
    verb.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return its exit status."""
    if arguments.output is not None:
        check_path(arguments.output, overwrite=arguments.overwrite)
    of_policy = [text for text in arguments.changes if text.startswith("policy.")]
    of_arches = [text for text in arguments.changes if not text.startswith("policy.")]
    chosen = rf.policy.resolved(arguments.policy)
    baseline: str | rf.Policy | None = arguments.baseline
    if of_policy:
        if not isinstance(chosen, rf.Policy):
            raise ValueError("--set: a Python function has no parameters of a policy")
        baseline = baseline or chosen
        chosen = rf.policy.configured(chosen, of_policy, "--set")
    progress = ProgressLine()
    found = rf.report(
        chosen,
        baseline=baseline,
        captures=arguments.capture,
        arches=rf.arch.configured(names(arguments.arch, SEED_ARCHES), of_arches, where="--set"),
        orders=[_order(text) for text in names(arguments.orders, map(str, ORDERS))],
        kinds=names(arguments.kind) or None,
        size=arguments.size,
        pages=arguments.pages,
        budget=arguments.budget,
        seed=arguments.seed,
        progress=progress,
    )
    progress.clear()
    if arguments.output is not None:
        found.save(arguments.output, overwrite=arguments.overwrite)
    if arguments.json:
        print_json(found.to_dict())
    elif arguments.output is None:
        print(found.to_markdown())
    return 0 if found.clean else 1


def _order(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"--orders: expected folio orders such as 0,4,9, got {text!r}") from None
