"""This version of the package against another one: the cases of bench/cases.py, in turn, least against least.

The other version is a commit, which is built in a folder of its own. Machines drift while a benchmark runs, so the two
take turns, each in a process of its own, and only ratios mean something.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.cases import regular_of

HERE = Path(__file__).resolve().parent.parent


def build(commit: str, folder: Path) -> None:
    """Check a commit out into a folder and build its extension module there."""
    with subprocess.Popen(["git", "archive", commit], cwd=HERE, stdout=subprocess.PIPE) as archive:
        subprocess.run(["tar", "-x", "-C", folder], stdin=archive.stdout, check=True)
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def measured(package: Path, arguments: list[str], script: str = "cases.py") -> dict[str, dict[str, float]]:
    """What a script in bench/ of this version measures of the package in a folder."""
    environment = os.environ | {"PYTHONPATH": str(package)}
    command = [sys.executable, str(HERE / "bench" / script), *arguments]
    return json.loads(subprocess.run(command, env=environment, cwd=package, check=True, capture_output=True).stdout)


def least(one: dict[str, dict[str, float]], other: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """The least of each figure of two measurements."""
    return {case: {name: min(value, other[case][name]) for name, value in row.items()} for case, row in one.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--size", default="2GiB")
    parser.add_argument("--rounds", default="5")
    arguments = parser.parse_args()
    rest = ["--size", arguments.size, "--rounds", arguments.rounds]
    with tempfile.TemporaryDirectory() as folder:
        build(arguments.commit, Path(folder))
        before, after = measured(Path(folder), rest), measured(HERE, rest)
        for _ in range(arguments.turns - 1):
            before, after = least(before, measured(Path(folder), rest)), least(after, measured(HERE, rest))
    print(f"{'':<32} {'run, ms':>17} {'times':>6} {'times':>8} {'whole call, ms':>17} {'times':>6}")
    columns = "before", "now", "faster", "regular", "before", "now", "faster"
    print(f"{'case':<32} {columns[0]:>8} {columns[1]:>8} {columns[2]:>6} {columns[3]:>8}", end=" ")
    print(f"{columns[4]:>8} {columns[5]:>8} {columns[6]:>6}")
    for case, row in before.items():
        now, line = after[case], f"{case:<32}"
        regular = before.get(regular_of(case))
        for name in ("run_s", "whole_s"):
            line += f" {row[name] * 1e3:>8.2f} {now[name] * 1e3:>8.2f} {row[name] / now[name]:>6.2f}"
            if name == "run_s":
                line += f" {now[name] / regular[name]:>8.1f}" if regular else " " * 9
        print(line)
    print("times regular: the run now over the regular case of its orders before")


if __name__ == "__main__":
    main()
