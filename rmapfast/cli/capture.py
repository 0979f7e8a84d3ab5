"""``rmapfast capture``, a layer over :func:`rmapfast.capture`."""

from __future__ import annotations

import argparse
import dataclasses

import rmapfast as rf
from rmapfast.cli.shared import Verbs, add_verb, print_folded, print_json
from rmapfast.support import ProgressLine


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(verbs, "capture", run, "Write what the page tables of live processes map (Linux, root).")
    verb.add_argument(
        "pid", nargs="+", type=int, metavar="PID", help="several are written as FILE_p0.npz, FILE_p1.npz, ..."
    )
    verb.add_argument("-o", "--output", required=True, metavar="FILE.npz", help="the file to write")
    verb.add_argument("--freeze", action="store_true", help="stop the processes while they are read")
    verb.add_argument(
        "--anonymise", action="store_true", help="renumber addresses, offsets, page frames and inodes, and drop names"
    )
    verb.add_argument("--overwrite", action="store_true", help="replace files that exist")


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return its exit status."""
    progress = ProgressLine()
    done = rf.capture(
        arguments.pid,
        arguments.output,
        freeze=arguments.freeze,
        anonymise=arguments.anonymise,
        overwrite=arguments.overwrite,
        progress=progress,
    )
    progress.clear()
    if arguments.json:
        print_json({"captures": [dataclasses.asdict(one) for one in done]})
        return 0
    for one in done:
        print_folded(
            f"{one.path}: process {one.pid}, {one.vmas} VMAs, {one.present} of {one.pages} pages present, "
            f"{one.file_bytes} bytes, {one.seconds:.2f} s"
        )
    return 0
