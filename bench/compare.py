"""Compare two saved runs (``make bench-json``): how each row's share of the machine's limit changed.

Machines differ, so shares of the limit of the same run are compared, not seconds.
"""

import json
import sys
from pathlib import Path


def shares(path: str) -> dict[str, float]:
    """Share of the limit by benchmark, of those that have one."""
    benchmarks = json.loads(Path(path).read_text(encoding="utf-8"))["benchmarks"]
    return {row["fullname"]: row["extra_info"]["of_limit"] for row in benchmarks if "of_limit" in row["extra_info"]}


def main(base: str, new: str) -> None:
    before, after = shares(base), shares(new)
    print(f"{'benchmark':<66} {'before':>8} {'after':>8} {'ratio':>7}")
    for name in sorted(before.keys() & after.keys()):
        short = name.removeprefix("bench/")
        print(f"{short[:66]:<66} {before[name]:>8.4f} {after[name]:>8.4f} {after[name] / before[name]:>7.2f}")
    for what, names in (("gone", before.keys() - after.keys()), ("new", after.keys() - before.keys())):
        for name in sorted(names):
            print(f"{what}: {name.removeprefix('bench/')}")


if __name__ == "__main__":
    main(*sys.argv[1:])
