"""HTML for notebooks: a head and parts that open and close, without a script, in the colours of the page around it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rmapfast.support.text import number, printable

# Colours are those of the page, or grey with transparency, so that a dark page stays dark. A notebook styles the tables
# of its outputs itself, with selectors that are as specific; hence !important.
_STYLE = """<style>
.rmapfast{color:inherit;font-size:13px;line-height:1.45;overflow-x:auto}
.rmapfast .rf-head{padding:.2em 0;border-bottom:1px solid rgba(128,128,128,.5)}
.rmapfast .rf-kind{opacity:.7;margin-right:.6em}
.rmapfast .rf-more{opacity:.7;margin-left:.4em;font-weight:400}
.rmapfast summary{cursor:pointer;font-weight:600;padding:.15em 0}
.rmapfast table{border-collapse:collapse;margin:.1em 0 .5em 1.1em!important;background:none;color:inherit}
.rmapfast tr{background:none!important;border:0}
.rmapfast th,.rmapfast td{padding:.1em .9em .1em 0!important;text-align:left!important;vertical-align:top;border:0;
border-bottom:1px solid rgba(128,128,128,.25)!important;background:none;color:inherit;font-size:inherit;
white-space:pre-wrap!important;max-width:50em!important}
.rmapfast th{font-weight:600;opacity:.8}
.rmapfast .rf-number{text-align:right!important;font-variant-numeric:tabular-nums;white-space:nowrap!important}
.rmapfast .rf-bar{display:inline-block;height:.7em;background:#3a8fc4;opacity:.8;margin-right:.4em}
.rmapfast p{margin:.1em 0 .5em 1.1em;max-width:60em}
</style>"""
# Width of the bar of a whole, in em.
_BAR = 8


class Share(float):
    """A cell that shows a share of a whole as a bar and in percent."""


class Figure(str):
    """A cell that shows a number which was made text already: at the right, as other numbers are."""


@dataclass(frozen=True)
class HtmlPart:
    """A part of an object that can be opened and closed.

    Parameters
    ----------
    title : str
    rows : sequence of sequence
        Cells of a table: texts, numbers, :class:`Share` and :class:`Figure`.
    header : sequence of str
        Above the columns.
    notes : sequence of str
        Paragraphs below the table.
    more : str
        What the closed part says beside its title.
    open : bool
        Whether it is open at first.
    """

    title: str
    rows: Sequence[Sequence[object]] = ()
    header: Sequence[str] = ()
    notes: Sequence[str] = ()
    more: str = ""
    open: bool = False


def html_of(kind: str, name: str, facts: str, parts: Iterable[HtmlPart]) -> str:
    """Return an object as HTML; every text is escaped here.

    Parameters
    ----------
    kind : str
        The class of the object.
    name : str
    facts : str
        A line with what matters most.
    parts : iterable of HtmlPart
        Those without rows and notes are left out.
    """
    head = f'<div class="rf-head"><span class="rf-kind">{_escaped(kind)}</span><b>{_escaped(name)}</b>'
    lines = [f'<div class="rmapfast">{_STYLE}', f'{head}<span class="rf-more">{_escaped(facts)}</span></div>']
    lines += [line for part in parts if part.rows or part.notes for line in _part(part)]
    return "\n".join([*lines, "</div>"])


def _part(part: HtmlPart) -> list[str]:
    more = f'<span class="rf-more">{_escaped(part.more)}</span>' if part.more else ""
    lines = [f"<details{' open' if part.open else ''}><summary>{_escaped(part.title)}{more}</summary>"]
    if part.rows:
        # A heading stands over its column as the cells in it do; without headings all begin at the left.
        columns = max(map(len, [part.header, *part.rows]))
        widest = max(part.rows, key=len)
        right = [bool(part.header) and _is_number(cell) for cell in widest] + [False] * columns
        cells = [f"<th{_class(right[at])}>{_escaped(word)}</th>" for at, word in enumerate(part.header)]
        lines += ["<table>", f"<thead><tr>{''.join(cells)}</tr></thead><tbody>" if cells else "<tbody>"]
        for row in part.rows:
            filled = [*row, *[""] * (columns - len(row))]
            lines.append(f"<tr>{''.join(_cell(one, bool(part.header)) for one in filled)}</tr>")
        lines.append("</tbody></table>")
    lines += [f"<p>{_escaped(note)}</p>" for note in part.notes]
    return [*lines, "</details>"]


def _is_number(cell: object) -> bool:
    return isinstance(cell, Figure | int | float) and not isinstance(cell, bool | Share)


def _class(right: bool) -> str:
    return ' class="rf-number"' if right else ""


def _cell(cell: object, aligned: bool) -> str:
    if isinstance(cell, Share):
        width = min(max(_BAR * cell, 0.0), float(_BAR))
        return f'<td><span class="rf-bar" style="width:{width:.2f}em"></span>{100 * cell:.0f}%</td>'
    if _is_number(cell) and not isinstance(cell, str):
        text = f"{cell:,}" if isinstance(cell, int) else number(cell)  # type: ignore[arg-type]
    else:
        text = "" if cell is None else str(cell)
    return f"<td{_class(aligned and _is_number(cell))}>{_escaped(text)}</td>"


def _escaped(text: str) -> str:
    from html import escape  # not on every import of the package

    return escape("\n".join(map(printable, text.split("\n"))))
