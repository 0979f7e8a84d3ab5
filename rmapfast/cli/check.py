"""``rmapfast check``, a layer over :func:`rmapfast.check` and :func:`rmapfast.verify.check_cases`."""

from __future__ import annotations

import argparse
from typing import Any

import rmapfast as rf
from rmapfast.cli.shared import Verbs, add_assume, add_verb, assumptions, policies_or_function, print_json
from rmapfast.support import ProgressLine
from rmapfast.verify import capture_cases, check_cases, check_drawings, check_table, load_case, random_cases


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(verbs, "check", run, "Try every small state: does a policy end where unmapping page by page ends?")
    verb.add_argument(
        "--policy",
        metavar="NAME,...",
        help="the policies to check: presets, rules in C as FILE.c:NAME (a young rule as FILE.c:+YOUNG), or one "
        "FILE.py:NAME (every preset)",
    )
    verb.add_argument(
        "--against", metavar="NAME", default="per-page", help="the policy whose outcome is right (per-page)"
    )
    verb.add_argument(
        "--pages",
        type=int,
        metavar="N",
        help="the largest folio: 1, 2, 4 or 8 pages, and nothing drawn (4, and drawn states of up to 32 pages)",
    )
    verb.add_argument(
        "--folios", type=int, metavar="N", help="with a rule in C: folios of 8 to 512 pages to draw (3920)"
    )
    verb.add_argument(
        "--budget",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="stop after this time and list what is left (60)",
    )
    verb.add_argument("--arch", default="x86-64", metavar="NAME", help="the architecture (x86-64)")
    verb.add_argument(
        "--all-bits", action="store_true", help="also try every PTE bit with folios of 4 pages; this may take hours"
    )
    verb.add_argument(
        "--unreachable", action="store_true", help="also try states that no program in user space can make"
    )
    verb.add_argument(
        "--splits",
        action="store_true",
        help="instead: try the states in which folios are split: two folios, and calls on ranges of them",
    )
    verb.add_argument(
        "--young",
        action="store_true",
        help="instead: try reference checks: which young bits are cleared, under the classic LRU and MGLRU",
    )
    verb.add_argument("--resume", metavar="FILE", help="keep what was tried in FILE, and continue from it")
    verb.add_argument("--threads", type=int, metavar="N", help="threads that try states (one per CPU)")
    verb.add_argument(
        "--random", type=int, metavar="N", help="instead: try N random cases with folios of 8 to 64 pages"
    )
    verb.add_argument("--capture", action="append", metavar="FILE", help="instead: try mutations of a capture's folios")
    add_assume(verb)
    verb.add_argument("--cases", type=int, default=200, metavar="N", help="the number of mutations (200)")
    verb.add_argument(
        "--drawn", type=int, metavar="N", help="the states drawn of each kind of folio and VMA (20,000; 0 with --pages)"
    )
    verb.add_argument("--seed", type=int, default=0, metavar="N", help="the seed of all that is drawn (0)")
    verb.add_argument("--replay", metavar="FILE", help="instead: try one case, a JSON example of an earlier check")
    verb.add_argument("--known", action="store_true", help="show the commit or CVE behind each class of violation")
    verb.add_argument("--draw", action="store_true", help="draw the smallest example of each violation")


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return its exit status."""
    chosen, progress = policies_or_function(arguments.policy, rf.policy.PRESETS), ProgressLine()
    shared: dict[str, Any] = {
        "against": arguments.against,
        "arch": arguments.arch,
        "budget": arguments.budget,
        "progress": progress,
    }
    if not arguments.budget > 0:
        raise ValueError(f"--budget: expected seconds above 0, got {arguments.budget}")
    for name in ("random", "cases", "threads"):
        if (value := getattr(arguments, name)) is not None and value < 1:
            raise ValueError(f"--{name}: expected 1 or more, got {value}")
    if arguments.replay:
        report = check_cases([load_case(arguments.replay)], chosen, **shared)
    elif arguments.capture:
        population = rf.Population.load(arguments.capture, **assumptions(arguments))
        report = check_cases(capture_cases(population, arguments.seed, arguments.cases), chosen, **shared)
    elif arguments.random:
        report = check_cases(random_cases(arguments.seed, arguments.random), chosen, **shared)
    else:
        report = rf.check(
            chosen,
            pages=arguments.pages,
            drawn=arguments.drawn,
            folios=arguments.folios,
            seed=arguments.seed,
            all_bits=arguments.all_bits,
            unreachable=arguments.unreachable,
            splits=arguments.splits,
            young=arguments.young,
            threads=arguments.threads,
            resume=arguments.resume,
            **shared,
        )
    progress.clear()
    if arguments.json:
        print_json(report.to_dict())
    else:
        print(check_table(report, known=arguments.known))
        if arguments.draw or arguments.replay:
            for drawing in check_drawings(report, arguments.arch):
                print("\n" + drawing)
    return 0 if report.clean else 1
