"""A report on a policy as one HTML page: no script, no other file, pictures as data URIs, sources as plain text."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

from rmapfast.policy_report import words
from rmapfast.policy_report.data import Point, ReportData
from rmapfast.reports import costs_used
from rmapfast.verify import check_drawings, check_table

# Blue is faster and orange slower: most people with colour blindness tell them apart. The change at which a cell is
# coloured as strongly as can be.
_FASTER, _SLOWER = (0, 114, 178), (213, 94, 0)
_FULL = 0.6
_STYLE = """
body { font: 15px/1.5 sans-serif; color: #111; background: #fff; max-width: 62em; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.5em } h2 { font-size: 1.2em; margin-top: 2em } h3 { font-size: 1em }
table { border-collapse: collapse; margin: .5em 0 }
th, td { border: 1px solid #ccc; padding: .25em .6em; text-align: right }
th:first-child, td:first-child { text-align: left }
td small { display: block; color: #444 }
pre { background: #f6f6f6; padding: .8em; overflow-x: auto; font-size: 13px; line-height: 1.35 }
img { max-width: 100%; height: auto }
.failed { border: 3px solid #d55e00; padding: 0 1em }
.clean { border-left: 6px solid #0072b2; padding-left: .6em }
"""


def html(report: ReportData) -> str:
    """Return the page; a check that failed stands at the top."""
    title = f"{report.policy} against {report.baseline}"
    parts = [f"<h1>{escape(title)}</h1>"]
    if not report.clean:
        parts += ['<section class="failed">', *_checks(report), "</section>"]
    first, *others = words.summary(report)
    parts += ["<h2>Summary</h2>", f'<p class="{"clean" if report.clean else "failed"}">{escape(first)}</p>']
    parts += [_list(others), *_pictures(report), *_changes(report), *_factors(report), *_points(report)]
    parts += _captures(report)
    parts += ["<h2>One run in detail</h2>", _pre(report.main.to_text("full"))]
    if report.clean:
        parts += _checks(report)
    if report.source:
        parts += ["<h2>Source</h2>", _pre(report.source)]
    parts.append("<h2>What the figures rest on</h2>")
    parts += [f"<p>{escape(text)}</p>" for text in (*costs_used(report.main), words.made(report))]
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}</style></head><body>",
            *parts,
            "</body></html>",
        ]
    )


def _pre(text: str) -> str:
    return f"<pre>{escape(text.rstrip())}</pre>"


def _list(lines: Iterable[str]) -> str:
    return "<ul>\n" + "\n".join(f"<li>{escape(line)}</li>" for line in lines) + "\n</ul>"


def _checks(report: ReportData) -> list[str]:
    parts = [f"<h2>{'Check' if report.clean else 'CHECK FAILED'}</h2>", f"<p>{escape(words.verdict(report))}</p>"]
    for check in report.checks:
        parts += [_pre(check_table(check)), f"<p>{escape(words.check_note(check))}</p>"]
        if not report.clean:
            drawings = "\n\n".join(check_drawings(check))
            parts.append(f"<details><summary>The smallest examples as drawings</summary>{_pre(drawings)}</details>")
    return parts


def _pictures(report: ReportData) -> list[str]:
    from rmapfast import plot

    kind = report.points[0].kind
    pictures = [
        (
            plot.overview(report.main),
            f"Components of the predicted time, and batch lengths, of plain {kind} folios of order "
            f"{max(map(int, report.main.population['orders']), default=0)}",
        )
    ]
    if any(run.costs for run in report.main.runs):
        pictures.append((plot.by_order(report.by_order), f"Predicted time by folio order, plain {kind} folios"))
    parts = ["<h2>Pictures</h2>"]
    for figure, text in pictures:
        data = base64.b64encode(plot.svg_of(figure)).decode()
        parts.append(f'<figure><img alt="{escape(text)}" src="data:image/svg+xml;base64,{data}">')
        parts.append(f"<figcaption>{escape(text)}</figcaption></figure>")
    return parts


def _changes(report: ReportData) -> list[str]:
    parts = ["<h2>Predicted change of the time per reclaimed page</h2>"]
    parts.append("<p>Blue is faster, orange slower; the 90% interval is below each figure, in percent.</p>")
    parts.append(_list(f"{name}: {text}" for name, text in words.layout_lines()))
    groups: dict[tuple[str, str], list[Point]] = {}
    for point in report.points:
        groups.setdefault((point.arch, point.kind), []).append(point)
    for (arch, kind), points in groups.items():
        orders = list(dict.fromkeys(point.order for point in points))
        parts.append(f"<h3>{escape(arch)}, {kind} folios</h3>")
        rows = [_row(["order", *map(str, orders)], "th")]
        for layout in dict.fromkeys(point.layout for point in points):
            own = {point.order: point for point in points if point.layout == layout}
            rows.append(f"<tr><td>{escape(layout)}</td>{''.join(_cell(own[order]) for order in orders)}</tr>")
        parts.append(_table(rows))
    return parts


def _cell(point: Point) -> str:
    if point.change is None:
        return "<td>-</td>"
    change = point.change[0]
    red, green, blue = _FASTER if change < 0 else _SLOWER
    strength = min(abs(change) / _FULL, 1.0) * 0.6
    style = f"background: rgba({red}, {green}, {blue}, {strength:.2f})"
    return f'<td style="{style}">{words.percent(point)}<small>{words.interval(point)}</small></td>'


def _row(cells: Sequence[str], tag: str = "td") -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _table(rows: Iterable[str]) -> str:
    return "<table>\n" + "\n".join(rows) + "\n</table>"


def _factors(report: ReportData) -> list[str]:
    if not report.factors:
        return []
    rows = [_row(["varied", "points between the means", "mean change by step"], "th")]
    rows += [_row([factor.name, f"{100 * factor.swing:.1f}", words.factor_line(factor)]) for factor in report.factors]
    return ["<h2>What matters</h2>", "<p>The mean change over all runs, what moves it most first.</p>", _table(rows)]


def _points(report: ReportData) -> list[str]:
    parts = []
    for title, points in words.notable(report).items():
        if points:
            unit = points[0].unit
            rows = [_row(["run", f"before ({unit}/page)", f"after ({unit}/page)", "change", "90%"], "th")]
            rows += [
                _row(
                    [
                        f"{point.arch}, {words.where(point)}",
                        f"{point.before:.1f}",
                        f"{point.after:.1f}",
                        words.percent(point),
                        words.interval(point),
                    ]
                )
                for point in points
            ]
            parts += [f"<h2>{title}</h2>", _table(rows)]
    return parts


def _captures(report: ReportData) -> list[str]:
    if not report.captures:
        return []
    rows = [_row(["capture", "architecture", "change", "90%", "events that differ"], "th")]
    rows += [
        _row(
            [
                run.path,
                run.point.arch,
                words.percent(run.point),
                words.interval(run.point),
                str(run.point.differing),
            ]
        )
        for run in report.captures
    ]
    return ["<h2>Captures</h2>", _table(rows)]
