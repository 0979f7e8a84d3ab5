"""Whole calls, end to end, as tables: a reclaim against the run in it, and captures from the file on.

With --against a commit this version and that one take turns, each in a process of its own. Each figure is the least.
"""

import argparse
import tempfile
from pathlib import Path

from bench.compare import HERE, build, least, measured

TABLES = (
    {"run_s": "run", "call_s": "call"},
    {"taken_call_s": "taken", "make_s": "making"},
    {"load_s": "load", "capture_call_s": "reclaim"},
)


def show(rows: dict[str, dict[str, dict[str, float]]], columns: dict[str, str]) -> None:
    """Print a table of milliseconds, with a column for each figure of each version."""
    heads = [f"{name}, {version}" for name in columns.values() for version in rows]
    print(f"\n{'CPU ms':<26}" + "".join(f" {head:>15}" for head in heads))
    for case, now in rows["now"].items():
        if not columns.keys() <= now.keys():
            continue
        figures = [row[case][name] for name in columns for row in rows.values()]
        line = f"{case:<26}" + "".join(f" {seconds * 1e3:>15.2f}" for seconds in figures)
        print(line + (f"   {now['call_s'] / now['run_s']:.2f}" if "run_s" in columns else ""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", metavar="COMMIT")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--size", default="10GiB")
    parser.add_argument("--rounds", default="6")
    arguments = parser.parse_args()
    options = ["--size", arguments.size, "--rounds", arguments.rounds]
    with tempfile.TemporaryDirectory() as folder:
        versions = {"now": HERE}
        if arguments.against:
            build(arguments.against, Path(folder))
            versions = {"before": Path(folder), "now": HERE}
        rows = {version: measured(package, options, "calls.py") for version, package in versions.items()}
        for _ in range(arguments.turns - 1):
            for version, package in versions.items():
                rows[version] = least(rows[version], measured(package, options, "calls.py"))
    for columns in TABLES:
        show(rows, columns)
    print("Behind call: times the run, now. taken: a user has the entries, so that each call looks at all arrays anew")


if __name__ == "__main__":
    main()
