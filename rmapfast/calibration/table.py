"""A calibration as text."""

from __future__ import annotations

from rmapfast._version import __version__
from rmapfast.calibration.run import Calibration
from rmapfast.support import hanging, listed, paragraph


def calibration_table(found: Calibration) -> str:
    """Return a calibration as text: each case measured and predicted, the costs, and what was not measured.

    Parameters
    ----------
    found : Calibration

    Returns
    -------
    str
        In lines of at most 80 columns; figures in ns per reclaimed page, and in ns per event.
    """
    rows: list[str] = []
    for title, measurements in (("fitted", found.fitted), ("held back: predicted, not fitted", found.held_back)):
        if not measurements:
            continue
        rows += ["", f"{title + ', ns per page':<46}{'measured':>10}{'predicted':>11}{'error':>9}{'90%':>16}"]
        rows += [
            f"{one.case!s:<46}{one.ns:>10.1f}{one.predicted:>11.1f}{100 * one.error:>+8.1f}%"
            f"{f'{one.interval[0]:.1f} to {one.interval[1]:.1f}':>16}"
            for one in measurements
        ]
    inside = sum(one.interval[0] <= one.ns <= one.interval[1] for one in found.held_back)
    if found.held_back:
        rows.append(f"{inside} of {len(found.held_back)} held-back minima inside the 90% interval of their prediction")
    vector = found.costs
    rows += ["", f"{'cost, ns':<28}{'fitted':>10}{'90% from':>14}{'to':>10}"]
    rows += [
        f"{one.event:<28}{one.value:>10.1f}{one.low:>14.1f}{one.high:>10.1f}"
        + (f"  {one.kind}" * (one.kind != "fitted"))
        for one in vector.costs
    ]
    rows += ["", *(line for text in found.not_measured for line in hanging("not measured:", 13, text))]
    arguments = listed(found.provenance["arguments"])
    head = f"{found.arch.name}: costs of {vector.build}, measured in {found.seconds:.0f} s"
    return "\n".join([head, *rows, *paragraph(f"rmapfast {__version__}; {arguments}")])
