"""The outcome of a check as text."""

from __future__ import annotations

import json

from rmapfast._version import __version__
from rmapfast.support import listed, paragraph
from rmapfast.verify.drawing import case_drawing, case_in_words


def check_table(report, *, known: bool = False) -> str:
    """Return a :class:`CheckReport` as text: states in violation per policy and invariant, or their history."""
    rows = [f"{'policy':<14}{'invariant':<22}{'states':>12}  {'history' if known else 'smallest example'}"]
    for one in report.policies:
        if not one.violations:
            rows.append(f"{one.policy_name:<14}clean")
        for number, violation in enumerate(one.violations):
            name = one.policy_name if number == 0 else ""
            words = case_in_words(violation.example)
            if known and violation.history:
                words = violation.history
            rows.append(f"{name:<14}{violation.invariant:<22}{violation.count:>12,}  {words}")
    scope = "the whole scope" if report.complete else "not the whole scope"
    lines = [
        *rows,
        "",
        *paragraph(
            f"{report.states:,} distinct states, {scope}, each under {len(report.policies)} policies and "
            f"{report.oracle}, in {report.seconds:.1f} s."
        ),
        *(f"left out: {text}" for text in report.left_out),
        *paragraph(f"rmapfast {__version__}; {listed(report.provenance['arguments'])}"),
    ]
    return "\n".join(line.rstrip() for line in lines)


def check_drawings(report, arch="x86-64") -> list[str]:
    """Return the smallest example of each violation as a drawing, each example once per policy."""
    drawings = []
    for one in report.policies:
        examples = {json.dumps(violation.example): violation.example for violation in one.violations}
        drawings += [case_drawing(case, one.policy, against=report.oracle, arch=arch) for case in examples.values()]
    return drawings
