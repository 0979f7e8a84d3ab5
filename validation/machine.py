"""Try predictions on the machine at hand: ``make validate MACHINE=NAME`` (Linux, root)."""

from __future__ import annotations

import csv
import datetime
import platform
import sys

import numpy as np

import rmapfast as rf
from validation.rows import DATA

TRIED = DATA / "machines.csv"
_HELD_BACK = 12


def main(name: str) -> None:
    """Calibrate, predict the cases that were held back, and add a row to the table of machines.

    Parameters
    ----------
    name : str
        Of the machine, as the table shows it.
    """
    found = rf.calibrate(hold_back=_HELD_BACK, progress=lambda text: print(text, file=sys.stderr))
    ranges = [(one, one.interval) for one in found.held_back]
    errors = np.abs([one.error for one, _ in ranges])
    row = [
        datetime.date.today().isoformat(),
        name,
        platform.release(),
        str(len(ranges)),
        f"{100 * np.mean([low <= one.ns <= high for one, (low, high) in ranges]):.0f}%",
        f"{100 * np.median([(high - low) / one.predicted for one, (low, high) in ranges]):.0f}%",
        f"{100 * np.median(errors):.1f}%",
        f"{100 * errors.max():.0f}%",
    ]
    with open(TRIED, "a", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow(row)
    print(", ".join(row))


if __name__ == "__main__":
    main(sys.argv[1])
