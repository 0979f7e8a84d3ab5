"""What a report on a policy holds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from rmapfast.comparison import Comparison
from rmapfast.policy_report.layouts import MAIN_ORDER
from rmapfast.verify import CheckReport


@dataclass(frozen=True)
class Point:
    """One memory, reclaimed under the baseline and under the policy.

    Parameters
    ----------
    arch, kind, layout : str
        The architecture; the kind of folios; a name of the layouts, or of a capture.
    order : int
        Folio order; of a capture the largest.
    before, after : float
        Price of a reclaimed base page; NaN without one.
    unit : str
        Of the prices; empty without a cost vector.
    change : tuple of float, or None
        Predicted change and the bounds of its interval; None where there is no price or nothing was reclaimed.
    differing : int
        Events that differ.
    unpriced : tuple of str
        Events that differ and have no price.
    reached : bool
        Whether both runs reached their target.
    """

    arch: str
    kind: str
    layout: str
    order: int
    before: float
    after: float
    unit: str
    change: tuple[float, float, float] | None
    differing: int
    unpriced: tuple[str, ...]
    reached: bool


@dataclass(frozen=True)
class CaptureRun:
    """A capture that was reclaimed under the baseline and under the policy.

    Parameters
    ----------
    path : str
    point : Point
    same : bool
        Whether no event differs.
    """

    path: str
    point: Point
    same: bool


@dataclass(frozen=True)
class Factor:
    """How much the change depends on one thing that was varied.

    Parameters
    ----------
    name : str
        ``folio order``, ``layout``, ``architecture`` or ``kind``.
    means : dict of str to float
        The mean change over all runs with this step, by step.
    """

    name: str
    means: dict[str, float]

    @property
    def swing(self) -> float:
        """The largest mean less the smallest."""
        return max(self.means.values()) - min(self.means.values())


@dataclass(frozen=True, repr=False)
class ReportData:
    """What a report shows; :class:`rmapfast.PolicyReport`, which can be written to a file, says what each field is."""

    policy: str
    baseline: str
    doc: str
    source: str
    differing: tuple[str, ...]
    checks: tuple[CheckReport, ...]
    kinds: tuple[str, ...]
    tried_kinds: tuple[str, ...]
    points: tuple[Point, ...]
    by_order: dict[int, Comparison]
    captures: tuple[CaptureRun, ...]
    seconds: float = field(compare=False)
    provenance: dict[str, Any] = field(compare=False)

    @property
    def clean(self) -> bool:
        """Whether every check is clean."""
        return all(check.clean for check in self.checks)

    @property
    def main(self) -> Comparison:
        """The runs that are shown in detail: of folio order 4, or of the largest one."""
        return self.by_order.get(MAIN_ORDER, self.by_order[max(self.by_order)])

    @property
    def factors(self) -> tuple[Factor, ...]:
        """What the change depends on, the strongest first."""
        priced = [point for point in self.points if point.change]
        found = []
        for name, step in (
            ("folio order", lambda point: str(point.order)),
            ("layout", lambda point: point.layout),
            ("architecture", lambda point: point.arch),
            ("kind", lambda point: point.kind),
        ):
            changes: dict[str, list[float]] = {}
            for point in priced:
                changes.setdefault(step(point), []).append(point.change[0] if point.change else 0.0)
            if len(changes) > 1:
                found.append(Factor(name, {key: sum(values) / len(values) for key, values in changes.items()}))
        return tuple(sorted(found, key=lambda factor: factor.swing, reverse=True))

    @property
    def slower(self) -> tuple[Point, ...]:
        """The points whose whole interval says that the policy costs time, the worst first."""
        found = [point for point in self.points if point.change and point.change[1] > 0]
        return tuple(sorted(found, key=lambda point: point.change[0] if point.change else 0.0, reverse=True))

    @property
    def unpriced(self) -> dict[str, list[str]]:
        """The events that differ somewhere and have no price, by architecture."""
        found: dict[str, list[str]] = {}
        for point in (*self.points, *(run.point for run in self.captures)):
            found.setdefault(point.arch, []).extend(point.unpriced)
        return {arch: list(dict.fromkeys(events)) for arch, events in found.items() if events}

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a dict that serialises to JSON.

        Returns
        -------
        dict
        """
        return {
            "provenance": self.provenance,
            "policy": self.policy,
            "baseline": self.baseline,
            "differing": list(self.differing),
            "clean": self.clean,
            "checks": [check.to_dict() for check in self.checks],
            "kinds": list(self.kinds),
            "tried_kinds": list(self.tried_kinds),
            "points": [dataclasses.asdict(point) for point in self.points],
            "factors": [dataclasses.asdict(factor) for factor in self.factors],
            "captures": [dataclasses.asdict(run) for run in self.captures],
            "without_price": self.unpriced,
            "main": self.main.to_dict(),
            "seconds": self.seconds,
        }
