"""A figure of the predicted time against the folio order."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from rmapfast.comparison import Comparison
from rmapfast.plot.style import (
    LINE,
    TEXT,
    WIDTH,
    Given,
    Look,
    captioned,
    drawn_before,
    finished,
    given_axes,
    open_frame,
    runs_caption,
)
from rmapfast.reports import per_page
from rmapfast.result import Result
from rmapfast.support import format_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Runs by folio order.
_Line = list[tuple[int, Result]]


# What is drawn: runs by their folio order.
_ByOrder: TypeAlias = "Mapping[int, Result | Comparison] | Iterable[tuple[int, Result | Comparison]]"


@overload
def by_order(comparisons: _ByOrder, *, ax: None = None, style: str = "colour") -> Figure: ...


@overload
def by_order(comparisons: _ByOrder, *, ax: Given, style: str = "colour") -> Given: ...


def by_order(comparisons: _ByOrder, *, ax: Any = None, style: str = "colour") -> Any:
    """Draw the predicted time per reclaimed page against folio order, a line per policy.

    Parameters
    ----------
    comparisons : mapping of int to Result or Comparison, or pairs of these
        The runs by their folio order, 0 to 13.
    ax : matplotlib.axes.Axes, or a sequence of them, optional
        Where to draw: one per architecture. By default a figure of its own with a caption.
    style : {'colour', 'print'}
        In colours, or in greys.

    Returns
    -------
    matplotlib.figure.Figure, or `ax`
        One panel per architecture, in ns or instructions per reclaimed base page on a logarithmic axis.

    Raises
    ------
    TypeError, ValueError
        If there is no run with a price, the prices on an architecture have different units, a folio order is out of
        range, and for another number of axes.
    ImportError
        If matplotlib is not installed; the message has the pip command.

    Examples
    --------
    >>> import rmapfast as rf
    >>> memory = {order: rf.Population.synthetic("8MiB", orders=order) for order in (0, 4, 9)}
    >>> figure = rf.plot.by_order({order: rf.compare(memory[order], "4MiB", arches=["x86-64"]) for order in memory})
    """
    look = Look(style)
    pairs = comparisons.items() if isinstance(comparisons, Mapping) else comparisons
    points = sorted(((order, Comparison.of(comparison)) for order, comparison in pairs), key=lambda pair: pair[0])
    lines: dict[str, dict[str, _Line]] = {}
    for order, comparison in points:
        if not isinstance(order, int) or not 0 <= order <= 13:
            raise ValueError(f"comparisons: expected folio orders from 0 to 13, got {order!r}")
        for run in comparison.runs:
            if run.costs and run.reclaimed_pages:
                lines.setdefault(run.arch.name, {}).setdefault(comparison.label(run), []).append((order, run))
    if not lines:
        raise ValueError("comparisons: expected runs with a price, got none; name a cost vector with costs=")
    if ax is not None:
        panels = given_axes(ax, len(lines), len(lines), "one per architecture")
        for panel, (arch, policies) in zip(panels, lines.items(), strict=True):
            _draw_lines(panel, arch, policies, look)
            panel.legend(fontsize=TEXT, frameon=False)
        return ax
    orders = ", ".join(str(order) for order, _ in points)
    caption = f"Folio orders {orders}; otherwise: {runs_caption(points[0][1])}"
    figure, (part,) = captioned(caption, [4.6 * math.ceil(len(lines) / 2)])
    axes = list(part.subplots(math.ceil(len(lines) / 2), min(len(lines), 2), squeeze=False).flat)
    ends = []
    for panel, (arch, policies) in zip(axes, lines.items(), strict=False):
        ends.append((panel, _draw_lines(panel, arch, policies, look)))
        # The space at the right is for the names of the policies, at about 6 points a letter.
        width, names = (WIDTH / min(len(lines), 2) - 1) * 72, 6 * max(map(len, policies)) + 20
        ticks = panel.get_xticks()
        panel.set_xlim(-0.4, ticks[-1] + 0.3 + len(ticks) * min(names / (width - names), 1.0))
    for empty in axes[len(lines) :]:
        empty.remove()
    figure.draw_without_rendering()
    for panel, labels in ends:
        _label_ends(figure, panel, labels)
    return finished(figure)


def _draw_lines(ax: Axes, arch: str, policies: dict[str, _Line], look: Look) -> list[tuple[str, float, float]]:
    """Draw a line per policy; return the label and the last point of each."""
    units = {run.prediction.unit for line in policies.values() for _, run in line}
    if len(units) > 1:
        raise ValueError(f"comparisons: the prices on {arch} are in {' and '.join(sorted(units))}; expected one unit")
    orders = sorted({order for line in policies.values() for order, _ in line})
    page_size = next(iter(policies.values()))[0][1].arch.page_size
    ends = []
    before = drawn_before(ax)
    for number, (label, line) in enumerate(policies.items()):
        # The points of one order are side by side, so that their intervals do not hide each other.
        places = [orders.index(order) + 0.06 * (number - (len(policies) - 1) / 2) for order, _ in line]
        values = [per_page(run, run.prediction.value) for _, run in line]
        bounds = [[per_page(run, bound) for bound in run.prediction.interval] for _, run in line]
        ax.errorbar(
            places,
            values,
            yerr=[
                [max(value - low, 0.0) for value, (low, _) in zip(values, bounds, strict=True)],
                [max(high - value, 0.0) for value, (_, high) in zip(values, bounds, strict=True)],
            ],
            **look.stroke(before + number, before + len(policies)),
            label=label,
            linewidth=1.2,
            elinewidth=0.7,
            capsize=2,
            markersize=4.5,
        )
        ends.append((label, places[-1], values[-1]))
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:.0e}"[0] in "25" else "")
    ax.set_title(arch, fontsize=TEXT + 2, loc="left")
    ax.set_xticks(range(len(orders)), [f"{order}\n{format_size(page_size << order)}" for order in orders])
    ax.set_xlabel("folio order, folio size", fontsize=TEXT)
    ax.set_ylabel(f"predicted {units.pop()} per reclaimed page (log scale)", fontsize=TEXT)
    ax.tick_params(which="both", labelsize=TEXT)
    open_frame(ax)
    return ends


def _label_ends(figure: Figure, ax: Axes, ends: list[tuple[str, float, float]]) -> None:
    """Name each line at its end; where lines meet, each name is moved up above the one below it."""
    below: float | None = None
    right = max(x for _, x, _ in ends)
    step = LINE * figure.dpi / 72
    for label, x, y in sorted(ends, key=lambda end: end[2]):
        wanted = ax.transData.transform((x, y))[1]
        below = wanted if below is None else max(wanted, below + step)
        y_label = ax.transData.inverted().transform((0, below))[1]
        ax.annotate(
            label,
            (x, y),
            (right + 0.15, y_label),
            va="center",
            fontsize=TEXT,
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": "0.5"},
            annotation_clip=False,
        )
