"""What a report on a policy says in words, whatever it is written as."""

from __future__ import annotations

from collections.abc import Sequence

from rmapfast.cost import LEVEL
from rmapfast.policy_report.data import Factor, Point, ReportData
from rmapfast.policy_report.layouts import LAYOUTS
from rmapfast.support import format_size, listed
from rmapfast.verify import DOCUMENTED, CheckReport

# Runs that are named one by one.
MOST_POINTS = 5
_LEVEL = f"{100 * LEVEL:.0f}%"


def verdict(report: ReportData) -> str:
    """Return in a line what the checks found."""
    states = " and ".join(f"{check.states:,}" for check in report.checks) + " small states"
    if not all(check.complete for check in report.checks):
        states += ", which are not the whole scope"
    if report.clean:
        return f"Check: clean in {states}."
    found = [violation for check in report.checks for one in check.policies for violation in one.violations]
    classes = {one.invariant: one.history for one in found if one.invariant not in DOCUMENTED}
    words = [f"{name} ({history})" if history else name for name, history in classes.items()]
    return f"CHECK FAILED: {', '.join(words)} in {states}."


def check_note(check: CheckReport) -> str:
    """Return what a check does not say."""
    if check.complete:
        return "The whole scope was tried."
    return "NOT the whole scope was tried: " + "; ".join(check.left_out)


def summary(report: ReportData) -> list[str]:
    """Return the sentences that stand at the top."""
    lines = [verdict(report)]
    if report.doc:
        lines.append(f"{report.policy}: {report.doc}")
    if report.differing:
        lines.append(f"It differs from {report.baseline} in {', '.join(report.differing)}.")
    if not report.kinds:
        lines.append(
            f"NO EVENT DIFFERS from {report.baseline} in any kind of folio that was tried "
            f"({', '.join(report.tried_kinds)}): what follows is of {report.points[0].kind} folios."
        )
    elif same := [kind for kind in report.tried_kinds if kind not in report.kinds]:
        lines.append(
            f"It changes what happens to {', '.join(report.kinds)} folios, and nothing for {', '.join(same)} folios."
        )
    for arch in dict.fromkeys(point.arch for point in report.points):
        lines.append(f"{arch}: {_span([point for point in report.points if point.arch == arch])}")
    if report.slower:
        lines.append(f"It costs time in {len(report.slower)} of {len(report.points)} runs (listed below).")
    lines += [
        f"Events without a price on {arch}: {', '.join(events)}. The predictions are silent about them."
        for arch, events in report.unpriced.items()
    ]
    if not report.unpriced:
        lines.append("Every event that differs has a price.")
    lines.append(
        f"Predicted, not measured. Intervals hold {_LEVEL} of what the draws of the costs predict (level {_LEVEL})."
    )
    return lines


def _span(points: Sequence[Point]) -> str:
    """Return the smallest and the largest change among points of an architecture."""
    priced = [point for point in points if point.change]
    if not priced:
        return "no cost vector, events only"
    best, worst = (choose(priced, key=_change) for choose in (min, max))
    if best.change == worst.change:
        return f"{percent(best)} in each of {len(priced)} runs"
    return f"from {percent(best)} ({where(best)}) to {percent(worst)} ({where(worst)}), {len(priced)} runs"


def _change(point: Point) -> float:
    return point.change[0] if point.change else 0.0


def where(point: Point) -> str:
    """Return a point in words, without its architecture."""
    return f"{point.kind}, order {point.order}, {point.layout}"


def percent(point: Point) -> str:
    """Return the change of a point in percent, with a sign but for 0."""
    return "-" if point.change is None else signed_percent(point.change[0])


def interval(point: Point) -> str:
    """Return the interval of the change of a point in percent."""
    return "-" if point.change is None else "..".join(_whole(100 * bound) for bound in point.change[1:])


def _whole(percent: float) -> str:
    return f"{round(percent):+d}" if round(percent) else "0"


def signed_percent(share: float) -> str:
    """Return a share in percent with one decimal."""
    text = f"{100 * share:+.1f}%"
    return "0.0%" if text in ("+0.0%", "-0.0%") else text


def factor_line(factor: Factor) -> str:
    """Return the mean change by step."""
    return ", ".join(f"{step}: {signed_percent(mean)}" for step, mean in factor.means.items())


def notable(report: ReportData) -> dict[str, Sequence[Point]]:
    """Return the runs that the change moves most, by what is said above them."""
    return {"Where it helps most": strongest(report), "Where it costs time": report.slower[:MOST_POINTS]}


def strongest(report: ReportData) -> list[Point]:
    """Return the points with the largest gains."""
    return sorted((point for point in report.points if point.change and point.change[0] < 0), key=_change)[:MOST_POINTS]


def layout_lines() -> list[tuple[str, str]]:
    """Return the layouts with what they are."""
    return [(name, layout.text) for name, layout in LAYOUTS.items()]


def made(report: ReportData) -> str:
    """Return how the report was made."""
    arguments = {name: value for name, value in report.provenance["arguments"].items() if value not in ([], None)}
    arguments["size"] = format_size(arguments["size"])
    return f"rmapfast {report.provenance['rmapfast']} in {report.seconds:.0f} s; {listed(arguments)}"
