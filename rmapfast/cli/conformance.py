"""``rmapfast conformance``, a layer over :func:`rmapfast.conformance` and the other replays of `rmapfast.verify`."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import rmapfast as rf
from rmapfast.cli.shared import Verbs, add_verb, print_json
from rmapfast.support import ProgressLine, folded
from rmapfast.verify import (
    ENGINES,
    CaptureCase,
    RecordedCase,
    count_lines,
    directory_lines,
    replay_counts,
    replay_directory,
    replay_sequences,
    sequence_lines,
)


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(verbs, "conformance", run, "Replay what real kernels did and compare every field.")
    verb.add_argument("files", nargs="*", metavar="FILE", help="recorded vectors (*.jsonl.gz)")
    verb.add_argument("--engine", choices=tuple(ENGINES), default="c", help="what replays vectors and captures (c)")
    verb.add_argument(
        "--live", action="append", metavar="DIR", default=[], help="captures from before and after a reclaim"
    )
    verb.add_argument(
        "--counts", action="append", metavar="TOML", default=[], help="call counts of real kernels ([counts])"
    )
    verb.add_argument(
        "--sequences",
        action="append",
        metavar="TOML",
        default=[],
        help="what real kernels isolated, entry by entry ([isolations])",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return its exit status."""
    if not (arguments.files or arguments.live or arguments.counts or arguments.sequences):
        raise ValueError("FILE: nothing to replay; give vectors, --live DIR, --counts TOML or --sequences TOML")
    progress, ok = ProgressLine(), True
    totals: list[tuple[int, int]] = []
    documents: dict[str, Any] = {}
    lines: list[str] = []
    if arguments.files:
        report = rf.conformance(arguments.files, engine=arguments.engine, progress=lambda n: progress(f"{n} vectors"))
        progress.clear()
        ok &= report.ok
        totals.append((report.passed.total(), report.failed.total()))
        documents["vectors"] = {
            "engine": arguments.engine,
            "passed": report.passed,
            "failed": report.failed,
            "differences": report.differences,
        }
        lines += [f"engine: {arguments.engine}", *report.lines()]
    for directory in arguments.live:
        recorded, named = replay_directory(directory, arguments.engine)
        cases: list[RecordedCase | CaptureCase] = [*recorded, *named]
        agreed = sum(case.agrees for case in cases)
        ok &= agreed == len(cases)
        totals.append((agreed, len(cases) - agreed))
        documents.setdefault("live", []).extend(dataclasses.asdict(case) | {"agrees": case.agrees} for case in cases)
        lines += [directory, *directory_lines(recorded, named)]
    for path in arguments.counts:
        counts = replay_counts(path, arguments.engine)
        agreed = sum(count.agrees for count in counts)
        ok &= agreed == len(counts)
        totals.append((agreed, len(counts) - agreed))
        documents.setdefault("counts", []).extend(dataclasses.asdict(count) for count in counts)
        lines += [path, *count_lines(counts)]
    for path in arguments.sequences:
        sequences = replay_sequences(path, arguments.engine)
        agreed = sum(one.agrees for one in sequences)
        ok &= agreed == len(sequences)
        totals.append((agreed, len(sequences) - agreed))
        documents.setdefault("sequences", []).extend(
            dataclasses.asdict(one) | {"agrees": one.agrees, "passes_agree": one.passes_agree} for one in sequences
        )
        lines += [path, *sequence_lines(sequences)]
    if len(totals) > 1:
        passed, failed = map(sum, zip(*totals, strict=True))
        lines += ["in all", f"{passed} passed, {failed} failed"]
    if arguments.json:
        print_json(documents)
    else:
        print("\n".join(part for line in lines for part in folded(line)))
    return 0 if ok else 1
