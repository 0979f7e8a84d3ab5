"""Figures of runs side by side: the predicted time by component, and the batch lengths."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, overload

from rmapfast.comparison import Comparison
from rmapfast.events import COMPONENTS
from rmapfast.plot.style import (
    NR_FILLS,
    TEXT,
    Fill,
    Given,
    Look,
    captioned,
    finished,
    given_axes,
    open_frame,
    runs_caption,
)
from rmapfast.reports import per_page
from rmapfast.result import Result
from rmapfast.support import change, decimals, price_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.patches import Patch

# Height of a bar of the components in inches.
_BAR = 0.55
# Most lengths of a histogram that are shown one by one; more of them are grouped by powers of two.
_MOST_LENGTHS = 10


@overload
def components(comparison: Result | Comparison, *, ax: None = None, style: str = "colour") -> Figure: ...


@overload
def components(comparison: Result | Comparison, *, ax: Given, style: str = "colour") -> Given: ...


def components(comparison: Result | Comparison, *, ax: Any = None, style: str = "colour") -> Any:
    """Draw the predicted time per reclaimed page, a bar of components per policy, each with its interval.

    Parameters
    ----------
    comparison : Result or Comparison
    ax : matplotlib.axes.Axes, or a sequence of them, optional
        Where to draw: one per architecture. By default a figure of its own with a caption.
    style : {'colour', 'print'}
        In colours, or in greys and hatches.

    Returns
    -------
    matplotlib.figure.Figure, or `ax`
        One panel per architecture, in ns or instructions per reclaimed base page.

    Raises
    ------
    TypeError, ValueError
        If no run has a price, and for another number of axes.
    ImportError
        If matplotlib is not installed; the message has the pip command.

    Examples
    --------
    >>> import rmapfast as rf
    >>> figure = rf.plot.components(rf.compare(rf.Population.synthetic("4MiB"), "2MiB", arches=["x86-64"]))
    """
    comparison, look = Comparison.of(comparison), Look(style)
    if not any(run.costs for run in comparison.runs):
        raise ValueError("comparison: expected runs with a price, got none; name a cost vector with costs=")
    if ax is not None:
        axes = given_axes(ax, len(comparison.by_arch()), len(comparison.by_arch()), "one per architecture")
        _draw_components(axes, comparison, look)
        _legend_above(axes[0], comparison, look)
        return ax
    figure, (part,) = captioned(runs_caption(comparison), [_components_height(comparison)])
    _draw_components_in(part, comparison, look)
    return finished(figure)


@overload
def batch_lengths(comparison: Result | Comparison, *, ax: None = None, style: str = "colour") -> Figure: ...


@overload
def batch_lengths(comparison: Result | Comparison, *, ax: Given, style: str = "colour") -> Given: ...


def batch_lengths(comparison: Result | Comparison, *, ax: Any = None, style: str = "colour") -> Any:
    """Draw a histogram of batch lengths: how much of the memory was unmapped in steps of which length.

    Parameters
    ----------
    comparison : Result or Comparison
    ax : matplotlib.axes.Axes, or a sequence of them, optional
        Where to draw: one per architecture. By default a figure of its own with a caption.
    style : {'colour', 'print'}
        In colours, or in greys and hatches.

    Returns
    -------
    matplotlib.figure.Figure, or `ax`
        One panel per architecture, in percent of the unmapped pages.

    Raises
    ------
    TypeError, ValueError
        For another number of axes.
    ImportError
        If matplotlib is not installed; the message has the pip command.

    Examples
    --------
    >>> import rmapfast as rf
    >>> figure = rf.plot.batch_lengths(rf.compare(rf.Population.synthetic("4MiB"), "2MiB", arches=["x86-64"]))
    """
    comparison, look = Comparison.of(comparison), Look(style)
    if ax is not None:
        axes = given_axes(ax, len(comparison.by_arch()), len(comparison.by_arch()), "one per architecture")
        _draw_lengths(axes, comparison, look)
        return ax
    figure, (part,) = captioned(runs_caption(comparison), [_lengths_height(comparison)])
    _draw_lengths_in(part, comparison, look)
    return finished(figure)


@overload
def overview(comparison: Result | Comparison, *, ax: None = None, style: str = "colour") -> Figure: ...


@overload
def overview(comparison: Result | Comparison, *, ax: Given, style: str = "colour") -> Given: ...


def overview(comparison: Result | Comparison, *, ax: Any = None, style: str = "colour") -> Any:
    """Draw :func:`components` above :func:`batch_lengths` in one figure, as ``--plot`` does.

    Parameters
    ----------
    comparison : Result or Comparison
        Without a price in any run, only the batch lengths are drawn.
    ax : matplotlib.axes.Axes, or a sequence of them, optional
        Where to draw: for the components one per architecture, then for the lengths one per architecture. By default a
        figure of its own with a caption.
    style : {'colour', 'print'}
        In colours, or in greys and hatches.

    Returns
    -------
    matplotlib.figure.Figure, or `ax`

    Raises
    ------
    TypeError, ValueError
        For another number of axes.
    ImportError
        If matplotlib is not installed; the message has the pip command.

    Examples
    --------
    >>> import rmapfast as rf
    >>> figure = rf.plot.overview(rf.compare(rf.Population.synthetic("4MiB"), "2MiB", arches=["x86-64"]))
    """
    comparison, look = Comparison.of(comparison), Look(style)
    if not any(run.costs for run in comparison.runs):
        return batch_lengths(comparison, ax=ax, style=style)
    if ax is not None:
        arches = len(comparison.by_arch())
        axes = given_axes(ax, 2 * arches, 2 * arches, "two per architecture")
        components(comparison, ax=axes[:arches], style=style)
        batch_lengths(comparison, ax=axes[arches:], style=style)
        return ax
    heights = [_components_height(comparison), _lengths_height(comparison)]
    figure, (above, below) = captioned(runs_caption(comparison), heights)
    _draw_components_in(above, comparison, look)
    _draw_lengths_in(below, comparison, look)
    return finished(figure)


# Components


def _components_height(comparison: Comparison) -> float:
    return 0.6 + sum(0.75 + _BAR * len(runs) for runs in comparison.by_arch().values())


def _draw_components_in(part: SubFigure, comparison: Comparison, look: Look) -> None:
    groups = comparison.by_arch()
    axes = part.subplots(len(groups), 1, squeeze=False, height_ratios=[len(runs) + 0.6 for runs in groups.values()])
    fills = component_fills(comparison, look)
    part.legend(
        handles=_handles(fills),
        loc="outside upper center",
        ncols=max(1, min(len(fills), 140 // (max(map(len, fills), default=0) + 8))),
        fontsize=TEXT,
        frameon=False,
    )
    _draw_components(list(axes.flat), comparison, look)


def _handles(fills: dict[str, Fill]) -> list[Patch]:
    from matplotlib.patches import Patch

    return [Patch(label=name, **fill) for name, fill in fills.items()]


def _legend_above(ax: Axes, comparison: Comparison, look: Look) -> None:
    """Write what the fills are above axes, where there is no figure of our own for it."""
    handles = _handles(component_fills(comparison, look))
    ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.1), fontsize=TEXT, frameon=False, borderaxespad=0)


def _draw_components(axes: list[Axes], comparison: Comparison, look: Look) -> None:
    groups, fills = comparison.by_arch(), component_fills(comparison, look)
    # One scale per unit, with space for the totals at the right: about 26 letters of 5 points.
    points = min(ax.get_position().width * ax.figure.bbox.width / ax.figure.dpi for ax in axes) * 72
    beside = max(1.35, 1 / (1 - min(26 * 5 / points, 0.7)))
    space: dict[str, float] = {}
    for run in comparison.runs:
        if run.costs and run.reclaimed_pages:
            unit, high = run.prediction.unit, run.prediction.interval[1]
            space[unit] = max(space.get(unit, 0.0), per_page(run, max(beside * run.prediction.value, 1.05 * high)))
    for ax, (arch, runs) in zip(axes, groups.items(), strict=True):
        priced_in = next((run.prediction.unit for run in runs if run.costs), None)
        against = f", change against {comparison.label(runs[0])}" if len(runs) > 1 else ""
        ax.set_title(arch + against, fontsize=TEXT + 2, loc="left")
        ax.set_yticks(range(len(runs)), [comparison.label(run) for run in runs], fontsize=TEXT)
        ax.set_ylim(len(runs) - 0.4, -0.6)
        ax.tick_params(axis="x", labelsize=TEXT)
        open_frame(ax)
        if priced_in is None:
            ax.set_xticks([])
            ax.text(0.5, 0.5, f"no cost vector belongs to {arch}", transform=ax.transAxes, ha="center", fontsize=TEXT)
            continue
        ax.set_xlabel(f"predicted {priced_in} per reclaimed page", fontsize=TEXT)
        ax.set_xlim(0, space.get(priced_in) or 1.0)
        for place, run in enumerate(runs):
            if run.costs and run.reclaimed_pages:
                _draw_bar(ax, place, run, fills, points)
                _label_bar(ax, place, run, runs[0], comparison.same_memory)


def component_fills(comparison: Comparison, look: Look) -> dict[str, Fill]:
    """Return the fill of each component that the predictions of the runs name.

    A component has the same fill in all figures. Components that a vector does not separate have that of a member
    which no other bar uses.
    """
    order = list(COMPONENTS)
    names = {name for run in comparison.runs if run.costs for name in run.prediction.breakdown}
    members = {name: [order.index(member) for member in name.split(" + ")] for name in names}
    chosen: dict[str, int] = {}
    for name in sorted(names, key=lambda name: (len(members[name]), members[name])):
        candidates = [*members[name], *range(NR_FILLS)]
        chosen[name] = next((one for one in candidates if one not in chosen.values()), members[name][0])
    return {name: look.fill(chosen[name]) for name in sorted(names, key=lambda name: members[name])}


def _draw_bar(ax: Axes, place: int, run: Result, fills: dict[str, Fill], points: float) -> None:
    """Draw the components of a run, with their names where they fit into axes that are so many points wide."""
    left, whole = 0.0, ax.get_xlim()[1]
    for name, share in run.prediction.breakdown.items():
        width = per_page(run, share)
        ax.barh(place, width, 0.5, left, **fills[name])
        # The longest label that is no wider than its part of the bar, at about 5 points a letter.
        letters = width / whole * points / 5
        percent = f"{100 * share / run.prediction.value:.0f}%"
        if text := next((text for text in (f"{name} {percent}", percent) if len(text) + 1 < letters), ""):
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
            ax.text(left + width / 2, place, text, ha="center", va="center", fontsize=TEXT, bbox=box)
        left += width
    value = per_page(run, run.prediction.value)
    low, high = (per_page(run, bound) for bound in run.prediction.interval)
    # The interval is below the bar, where it hides no component.
    error = [[max(value - low, 0.0)], [max(high - value, 0.0)]]
    ax.errorbar(value, place + 0.36, xerr=error, fmt="|", color="black", capsize=3, linewidth=1)


def _label_bar(ax: Axes, place: int, run: Result, baseline: Result, same_memory: bool) -> None:
    """Write the total at the end of a bar (per page where the runs reclaim different memory), and the change."""
    prediction = run.prediction
    name, scale = price_scale(prediction.unit, prediction.value)
    page = per_page(run, prediction.value)
    if prediction.unit == "instructions":
        name = f"{name} instructions".strip()
    total, unit = (prediction.value / scale, f"{name} in all") if same_memory else (page, prediction.unit)
    words = [f"{total:.{decimals(total)}f} {unit}"]
    if run is not baseline and baseline.costs:
        words.append(change(page, per_page(baseline, baseline.prediction.value)))
    ax.text(page + ax.get_xlim()[1] * 0.01, place, ", ".join(words), va="center", fontsize=TEXT)


# Batch lengths


def _lengths_height(comparison: Comparison) -> float:
    groups = comparison.by_arch()
    return math.ceil(len(groups) / 2) * (2.7 + 0.17 * max(map(len, groups.values())))


def _draw_lengths_in(part: SubFigure, comparison: Comparison, look: Look) -> None:
    groups = comparison.by_arch()
    columns = min(len(groups), 2)
    axes = list(part.subplots(math.ceil(len(groups) / columns), columns, squeeze=False).flat)
    _draw_lengths(axes, comparison, look)
    for ax in axes[len(groups) :]:
        ax.remove()


def _draw_lengths(axes: list[Axes], comparison: Comparison, look: Look) -> None:
    groups = comparison.by_arch()
    bins = _bins(sorted({nr for run in comparison.runs for nr in run.batch_lengths}))
    for ax, (arch, runs) in zip(axes, groups.items(), strict=False):
        width = 0.85 / len(runs)
        # Points from one length to the next.
        places = ax.get_position().width * ax.figure.bbox.width / ax.figure.dpi * 72 / max(len(bins), 1)
        for place, run in enumerate(runs):
            steps = sum(run.batch_lengths.values())
            pages = sum(nr * count for nr, count in run.batch_lengths.items())
            inside = [[nr for nr in run.batch_lengths if low <= nr <= high] for low, high in bins]
            shares = [100 * sum(nr * run.batch_lengths[nr] for nr in found) / max(pages, 1) for found in inside]
            lefts = [at + (place - (len(runs) - 1) / 2) * width for at in range(len(bins))]
            label = f"{comparison.label(run)}: {steps:,} steps of {pages / max(steps, 1):.1f} pages on average"
            bars = ax.bar(lefts, shares, width, label=label, **look.fill(place))
            # Only where a bar is wide enough for a label.
            if width * places > 3.5 * 5:
                percents = [f"{share:.0f}%" if share >= 0.5 else "" for share in shares]
                ax.bar_label(bars, percents, fontsize=TEXT - 1, padding=1)
        for border in range(len(bins) - 1):
            ax.axvline(border + 0.5, color="0.7", linestyle=":", linewidth=0.7)
        ax.set_xlim(-0.5, max(len(bins), 1) - 0.5)
        ax.set_title(arch, fontsize=TEXT + 2, loc="left")
        ax.set_xticks(range(len(bins)), [f"{a}" if a == b else f"{a}-{b}" for a, b in bins], fontsize=TEXT)
        if places < 30:
            ax.tick_params(axis="x", rotation=45)
        ax.set_xlabel("batch length (pages per unmap step)", fontsize=TEXT)
        ax.set_ylabel("unmapped pages (%)", fontsize=TEXT)
        ax.set_ylim(0, 110)
        ax.set_yticks(range(0, 101, 25))
        ax.tick_params(labelsize=TEXT)
        open_frame(ax)
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1.1), fontsize=TEXT, frameon=False, borderaxespad=0)


def _bins(lengths: list[int]) -> list[tuple[int, int]]:
    """Return the first and last length of each bin: the lengths themselves, or powers of two if there are many."""
    if len(lengths) <= _MOST_LENGTHS:
        return [(nr, nr) for nr in lengths]
    powers = sorted({nr.bit_length() - 1 for nr in lengths})
    return [(1 << power, (2 << power) - 1) for power in powers]
