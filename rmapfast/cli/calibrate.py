"""``rmapfast calibrate``, a layer over :func:`rmapfast.calibrate`."""

from __future__ import annotations

import argparse

import rmapfast as rf
from rmapfast.calibration import calibration_table
from rmapfast.cli.shared import Verbs, add_verb, print_json
from rmapfast.support import ProgressLine, check_writable, write_atomically


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(
        verbs, "calibrate", run, "Measure the running kernel (Linux, root) and fit the costs of this machine."
    )
    verb.add_argument("-o", "--output", metavar="ARCH.toml", help="write the architecture with its costs")
    verb.add_argument("--overwrite", action="store_true", help="replace a file that exists")
    verb.add_argument(
        "--hold-back", type=int, default=0, metavar="N", help="predict N reclaims that the fit does not use (0)"
    )
    verb.add_argument("--folder", default=".", metavar="DIR", help="the folder for the files that are mapped (.)")
    verb.add_argument("--seed", type=int, default=0, metavar="N", help="seed for the choice of those N (0)")


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return its exit status."""
    if arguments.hold_back < 0:
        raise ValueError(f"--hold-back: expected 0 or more, got {arguments.hold_back}")
    if arguments.output:
        check_writable(arguments.output, overwrite=arguments.overwrite)
    progress = ProgressLine()
    found = rf.calibrate(hold_back=arguments.hold_back, folder=arguments.folder, seed=arguments.seed, progress=progress)
    progress.clear()
    if arguments.output:
        write_atomically(arguments.output, found.arch.to_toml().encode("utf-8"), overwrite=arguments.overwrite)
    if arguments.json:
        print_json(found.to_dict())
    else:
        print(calibration_table(found))
    return 0
