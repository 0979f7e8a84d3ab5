"""A report on a policy as Markdown of at most 80 columns, which reads well as plain text too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rmapfast.policy_report import words
from rmapfast.policy_report.data import Point, ReportData
from rmapfast.reports import costs_used
from rmapfast.support import WIDTH, folded, paragraph
from rmapfast.verify import check_drawings, check_table


def markdown(report: ReportData) -> str:
    """Return the report; a check that failed stands at the top."""
    parts = [f"# {report.policy} against {report.baseline}"]
    checks = _checks(report)
    if not report.clean:
        parts += checks
    parts += ["## Summary", _list(words.summary(report)), *_changes(report), *_factors(report), *_points(report)]
    parts += _captures(report)
    parts += ["## One run in detail", _code(report.main.to_text("summary"))]
    if report.clean:
        parts += checks
    if report.source:
        parts += ["## Source", _code(report.source)]
    parts += ["## What the figures rest on"]
    parts += ["\n".join(paragraph(text)) for text in (*costs_used(report.main), words.made(report))]
    return "\n\n".join(parts)


def _list(lines: Iterable[str]) -> str:
    return "\n".join(line for text in lines for line in _item(text))


def _item(text: str) -> list[str]:
    first, *more = folded(f"- {text}")
    # what follows an item is indented by two
    return [first, *(f"  {line.strip()}" for line in more)]


def _code(text: str) -> str:
    """Return a text that is shown as it is; a long line of a source stays long."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text.rstrip()}\n{fence}"


def _checks(report: ReportData) -> list[str]:
    parts = [f"## {'Check' if report.clean else 'CHECK FAILED'}", "\n".join(paragraph(words.verdict(report)))]
    for check in report.checks:
        parts += [_code(check_table(check, known=False)), "\n".join(paragraph(words.check_note(check)))]
    if not report.clean:
        parts += [_code(drawing) for check in report.checks for drawing in check_drawings(check)]
    return parts


def _changes(report: ReportData) -> list[str]:
    """Return a table of changes per architecture and kind: layouts by folio order."""
    parts = ["## Predicted change of the time per reclaimed page"]
    parts.append(_list(f"{name}: {text}" for name, text in words.layout_lines()))
    groups: dict[tuple[str, str], list[Point]] = {}
    for point in report.points:
        groups.setdefault((point.arch, point.kind), []).append(point)
    for (arch, kind), points in groups.items():
        orders = list(dict.fromkeys(point.order for point in points))
        rows = [["order", *map(str, orders)]]
        for layout in dict.fromkeys(point.layout for point in points):
            own = {point.order: point for point in points if point.layout == layout}
            rows.append([layout, *(words.percent(own[order]) for order in orders)])
            rows.append(["  90%", *(words.interval(own[order]) for order in orders)])
        parts += [f"### {arch}, {kind} folios", *tables(rows)]
    return parts


def tables(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table whose first row is its head, in as many parts as keep it at 80 columns."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    parts: list[list[int]] = [[]]
    for column in range(1, len(widths)):
        used = widths[0] + 4 + sum(widths[one] + 3 for one in parts[-1])
        if parts[-1] and used + widths[column] + 3 > WIDTH:
            parts.append([])
        parts[-1].append(column)
    return [_table(rows, [0, *columns], widths) for columns in parts]


def _table(rows: Sequence[Sequence[str]], columns: Sequence[int], widths: Sequence[int]) -> str:
    def line(row: Sequence[str]) -> str:
        cells = [f"{row[at]:>{widths[at]}}" if at else f"{row[at]:<{widths[at]}}" for at in columns]
        return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"

    rule = "|" + "|".join("-" * (widths[at] + 2) if not at else "-" * (widths[at] + 1) + ":" for at in columns) + "|"
    head, *body = (line(row) for row in rows)
    return "\n".join([head, rule, *body])


def _factors(report: ReportData) -> list[str]:
    if not report.factors:
        return []
    lines = [
        f"{factor.name} ({100 * factor.swing:.1f} points): {words.factor_line(factor)}" for factor in report.factors
    ]
    return ["## What matters", "The mean change over all runs, what moves it most first:", _list(lines)]


def _points(report: ReportData) -> list[str]:
    parts = []
    for title, points in words.notable(report).items():
        if points:
            rows = [["run", "before", "after", "change", "90%"]]
            rows += [
                [
                    f"{point.arch}, {words.where(point)}",
                    f"{point.before:.1f}",
                    f"{point.after:.1f}",
                    words.percent(point),
                    words.interval(point),
                ]
                for point in points
            ]
            parts += [f"## {title}", f"In {points[0].unit} per reclaimed page:", *tables(rows)]
    return parts


def _captures(report: ReportData) -> list[str]:
    if not report.captures:
        return []
    rows = [["capture", "architecture", "change", "90%", "events that differ"]]
    rows += [
        [
            run.point.layout,
            run.point.arch,
            words.percent(run.point),
            words.interval(run.point),
            str(run.point.differing),
        ]
        for run in report.captures
    ]
    return ["## Captures", *tables(rows)]
