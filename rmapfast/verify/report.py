"""The outcome of a check, and its text."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from rmapfast._version import __version__
from rmapfast.arch import Arch
from rmapfast.policy import Policy
from rmapfast.reference import BatchRule, YoungRule
from rmapfast.result import policy_name
from rmapfast.support import folded, hanging, listed, paragraph
from rmapfast.verify.cases import Case
from rmapfast.verify.coverage import Coverage
from rmapfast.verify.drawing import case_drawing, case_in_words

# Letters of the column of names.
_WIDEST_NAME = 24
# Differences after an abort that are documented, not violations.
DOCUMENTED = ("abort-widened", "abort-left-mapped")


@dataclass(frozen=True)
class Violation:
    """States that violate one invariant under one policy.

    Parameters
    ----------
    invariant : str
        One of :data:`rmapfast.verify.INVARIANTS`, :data:`rmapfast.verify.SPLIT_INVARIANTS` or
        :data:`rmapfast.verify.YOUNG_INVARIANTS`.
    count : int
        How many states.
    example : dict
        The smallest of them as a case; its fields are those of docs/conformance-format.md. A state with splits has one
        field, ``split_state``, with those of :class:`rmapfast.verify.SplitState`, and a state of a reference check
        ``young_state`` with those of :class:`rmapfast.verify.YoungState`.
    history : str
        Commit or CVE of the bug that the class belongs to; empty where it has none.

    Examples
    --------
    >>> import rmapfast as rf
    >>> [one] = rf.check(["v6.15"], pages=2).policies
    >>> "out-of-bounds" in {violation.invariant for violation in one.violations}
    True
    """

    invariant: str
    count: int
    example: Case = field(repr=False)
    history: str = ""


@dataclass(frozen=True)
class PolicyCheck:
    """What was found for one policy.

    Parameters
    ----------
    policy : Policy, callable or YoungRule
    states : int
        Distinct states tried.
    violations : tuple of Violation
        In the order of :data:`rmapfast.verify.INVARIANTS`, but those first whose example a kernel can reach.
    coverage : Coverage or None
        What a batching rule of one's own returned, how often and for which folios; None without one.

    Examples
    --------
    >>> import rmapfast as rf
    >>> [one] = rf.check(["v7.0"], pages=1).policies
    >>> one.policy_name, one.clean
    ('v7.0', True)
    """

    policy: Policy | BatchRule | YoungRule
    states: int
    violations: tuple[Violation, ...]
    coverage: Coverage | None = None

    @property
    def policy_name(self) -> str:
        """Name of the policy, or of the functions that stand for it."""
        return policy_name(self.policy)

    @property
    def clean(self) -> bool:
        """Whether there is nothing but the two documented differences after an abort."""
        return all(violation.invariant in DOCUMENTED for violation in self.violations)


@dataclass(frozen=True, repr=False)
class CheckReport:
    """Outcome of a check; printed, it is a table.

    Parameters
    ----------
    policies : tuple of PolicyCheck
        In the order in which they were given.
    oracle : str
        Policy whose final state is the right one.
    states : int
        Distinct states tried.
    complete : bool
        Whether the whole scope was tried within the budget.
    left_out : tuple of str
        What of the scope was not tried.
    seconds : float
        How long it took.
    provenance : dict
        Versions, host and arguments; serialises to JSON.

    Examples
    --------
    >>> import rmapfast as rf
    >>> report = rf.check(["v7.0"], pages=1)
    >>> report.complete, report.clean
    (True, True)
    """

    policies: tuple[PolicyCheck, ...]
    oracle: str
    states: int
    complete: bool
    left_out: tuple[str, ...]
    seconds: float
    provenance: dict[str, Any]

    @property
    def clean(self) -> bool:
        """Whether every policy is clean."""
        return all(one.clean for one in self.policies)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a dict that serialises to JSON.

        Returns
        -------
        dict
        """
        return {
            "provenance": self.provenance,
            "oracle": self.oracle,
            "states": self.states,
            "complete": self.complete,
            "left_out": list(self.left_out),
            "seconds": self.seconds,
            "policies": [
                {
                    "policy": one.policy_name,
                    "states": one.states,
                    "clean": one.clean,
                    **({"coverage": one.coverage.to_dict()} if one.coverage else {}),
                    "violations": [
                        {"invariant": v.invariant, "count": v.count, "history": v.history, "example": v.example}
                        for v in one.violations
                    ],
                }
                for one in self.policies
            ],
        }

    def __repr__(self) -> str:
        return check_table(self)


def check_table(report: CheckReport, *, known: bool = False) -> str:
    """Return a report as text: states in violation per policy and invariant, with the smallest example in words.

    Parameters
    ----------
    report : CheckReport
    known : bool
        Show the history of a class (commit or CVE) in place of its example, where it has one.

    Returns
    -------
    str
        A table, what was left out, and a line with version and arguments.
    """
    wide = min(max([14, *(len(one.policy_name) + 2 for one in report.policies)]), _WIDEST_NAME)
    rows = [f"{'policy':<{wide}}{'invariant':<22}{'states':>12}  {'history' if known else 'smallest example'}"]
    for one in report.policies:
        name = one.policy_name
        if len(name) + 2 > wide:  # it has a line of its own
            rows.append(name)
            name = ""
        if not one.violations:
            clean = "clean"
            folios = report.provenance["arguments"].get("folios", 0)
            if one.states < report.states - folios:
                clean = (
                    f"clean in the {one.states:,} states that it has rules for" if one.states else "has no rules here"
                )
            rows += hanging(name, wide - 1, clean)
        for violation in one.violations:
            words = case_in_words(violation.example)
            if known and violation.history:
                words = violation.history
            rows += hanging(f"{name:<{wide}}{violation.invariant:<22}{violation.count:>12,} ", wide + 35, words)
            name = ""
    scope = "the whole scope" if report.complete else "not the whole scope"
    covered = [line for one in report.policies if one.coverage for line in one.coverage.lines(one.policy_name)]
    lines = [
        *rows,
        "",
        *([*covered, ""] if covered else []),
        *paragraph(
            f"{report.states:,} distinct states, {scope}, each under {len(report.policies)} policies and "
            f"{report.oracle}, in {report.seconds:.1f} s."
        ),
        *_tried_in_words(report.provenance["arguments"]),
        *(line for text in report.left_out for line in folded(f"left out: {text}")),
        *paragraph(f"rmapfast {__version__}; {listed(report.provenance['arguments'])}"),
    ]
    return "\n".join(line.rstrip() for line in lines)


def _tried_in_words(arguments: dict[str, Any]) -> list[str]:
    """What was tried of the scope of a rule of one's own; nothing for policies without."""
    if "exhaustive_pages" not in arguments:
        return []
    every, part = arguments["exhaustive_pages"], arguments["sampled_pages"]
    folios = arguments.get("folios", arguments["drawn"])
    words = [f"Every small state of folios of up to {every} page(s)." if every else "No size of folio exhaustively."]
    if part:
        words.append(f"A part of the small states of folios of up to {part} pages.")
    words.append(f"{folios:,} drawn folios of 8 to 512 pages (seed {arguments['seed']}).")
    return paragraph(" ".join(words))


def check_drawings(report: CheckReport, arch: str | Arch = "x86-64") -> list[str]:
    """Return the smallest example of each violation as a drawing, each example once per policy.

    Parameters
    ----------
    report : CheckReport
    arch : str or Arch
        The one that was checked.
    """
    drawings = []
    for one in report.policies:
        examples = {json.dumps(violation.example): violation.example for violation in one.violations}
        drawings += [case_drawing(case, one.policy, against=report.oracle, arch=arch) for case in examples.values()]
    return drawings
