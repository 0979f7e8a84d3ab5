"""Figures of a sweep: heatmaps or lines of an output, and its axes by how much they move the gain."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from rmapfast.plot.style import TEXT, Given, Look, captioned, contrast, drawn_before, finished, given_axes, open_frame
from rmapfast.sweeps import Axis, Ranking, Sweep, SweepMean, View, cell, steps, summary, title, view

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.image import AxesImage

# Tables of a sweep in one figure.
_MOST_FACETS = 8
# Values of an axis that a caption lists.
_MOST_VALUES = 12


@overload
def sweep(
    result: Sweep | SweepMean,
    *,
    value: str | None = None,
    x: str | None = None,
    y: str | None = None,
    at: Mapping[str, str] | None = None,
    ax: None = None,
    style: str = "colour",
) -> Figure: ...


@overload
def sweep(
    result: Sweep | SweepMean,
    *,
    value: str | None = None,
    x: str | None = None,
    y: str | None = None,
    at: Mapping[str, str] | None = None,
    ax: Given,
    style: str = "colour",
) -> Given: ...


def sweep(
    result: Sweep | SweepMean,
    *,
    value: str | None = None,
    x: str | None = None,
    y: str | None = None,
    at: Mapping[str, str] | None = None,
    ax: Any = None,
    style: str = "colour",
) -> Any:
    """Draw an output of a sweep: a heatmap per step of the other axes, or lines where one axis is left.

    Parameters
    ----------
    result : Sweep or SweepMean
        Lines of means have error bars (:meth:`rmapfast.Sweep.mean`); heatmaps of means show the bounds as text.
    value : str, optional
        ``gain``, ``per_page``, ``predicted``, a component or an event, the last two per reclaimed page. By default the
        gain if there are policies to compare, else the prediction per page, else ``walk_pte_reads``.
    x, y : str, optional
        Axes along the columns and the rows; by default the last two that have several steps.
    at : mapping of str to str, optional
        Of further axes, the step to show.
    ax : matplotlib.axes.Axes, or a sequence of them, optional
        Where to draw: one for lines, one per heatmap. By default a figure of its own with a caption.
    style : {'colour', 'print'}
        In colours, or in greys.

    Returns
    -------
    matplotlib.figure.Figure, or `ax`
        A figure has at most eight heatmaps; the caption says how many there are.

    Raises
    ------
    TypeError, ValueError
        If the sweep has no such output, axis or step, if no point has a value, and for another number of axes.
    ImportError
        If matplotlib is not installed; the message has the pip command.

    Examples
    --------
    >>> import rmapfast as rf
    >>> space = {"population.order": [0, 4, 9], "policy": ["v6.16", "v7.0"], "arch": "x86-64"}
    >>> found = rf.sweep({**space, "population.size": "8MiB"})
    >>> figure = rf.plot.sweep(found, value="gain", x="population.order")
    """
    look, shown = Look(style), view(result, value=value, x=x, y=y, at=at)
    if not shown.facets:
        raise ValueError(f"sweep: no point has a value of {shown.label!r}")
    if ax is not None:
        count = 1 if shown.y is None else len(shown.facets)
        axes = given_axes(ax, count, count, "one for lines" if shown.y is None else "one per heatmap")
        if shown.y is None:
            _draw_lines(axes[0], shown, shown.facets, look)
        else:
            images = _draw_heats(axes, shown, shown.facets, look)
            _draw_bar(axes[0].figure, images[-1], axes, shown)
        return ax
    facets, words = shown.facets[:_MOST_FACETS], _caption(result)
    if len(shown.facets) > _MOST_FACETS:
        words += f" {_MOST_FACETS} of {len(shown.facets)} tables are drawn."
    if shown.y is None:
        figure, (part,) = captioned(words, [4.5])
        _draw_lines(part.subplots(), shown, facets, look)
        return finished(figure)
    columns = 1 if len(facets) == 1 or len(shown.x) > 12 else 2
    rows = math.ceil(len(facets) / columns)
    height = 1.1 + min(max((0.5 if shown.bounds else 0.32) * len(shown.y), 1.2), 5.0)
    figure, (part,) = captioned(words, [rows * height])
    axes = list(part.subplots(rows, columns, squeeze=False).flat)
    images = _draw_heats(axes, shown, facets, look)
    for empty in axes[len(facets) :]:
        empty.remove()
    _draw_bar(part, images[-1], axes[: len(facets)], shown)
    return finished(figure)


@overload
def ranking(result: Sweep, *, ax: None = None, style: str = "colour") -> Figure: ...


@overload
def ranking(result: Sweep, *, ax: Given, style: str = "colour") -> Given: ...


def ranking(result: Sweep, *, ax: Any = None, style: str = "colour") -> Any:
    """Draw which axis of a sweep moves the gain most.

    Parameters
    ----------
    result : Sweep
    ax : matplotlib.axes.Axes, or a sequence of them, optional
        Where to draw: one for what each axis does alone, a second one for the Sobol indices. By default a figure of its
        own with a caption.
    style : {'colour', 'print'}
        In colours, or in greys and hatches.

    Returns
    -------
    matplotlib.figure.Figure, or `ax`
        On the left, from where to where each axis moves the output when it alone changes. On the right, where the sweep
        allows them, the total-order Sobol indices.

    Raises
    ------
    TypeError, ValueError
        As :meth:`rmapfast.Sweep.rank`, and for another number of axes.
    ImportError
        If matplotlib is not installed; the message has the pip command.

    Examples
    --------
    >>> import rmapfast as rf
    >>> axes = {"population.size": "1MiB", "population.order": [0, 4], "policy": ["per-page", "v7.0"], "arch": "x86-64"}
    >>> figure = rf.plot.ranking(rf.sweep(axes))
    """
    look, found = Look(style), result.rank()
    panels = 2 if all(one.total is not None for one in found.effects) else 1
    if ax is not None:
        _draw_ranking(given_axes(ax, 1, panels, "one per panel"), found, look)
        return ax
    base = ", ".join(f"{name} {step}" for name, step in found.base.items())
    about = f"Left: one axis at a time, from {base}. {found.note} {_caption(result)}"
    figure, (part,) = captioned(about, [1.2 + 0.45 * len(found.effects)])
    _draw_ranking(list(part.subplots(1, panels, squeeze=False)[0]), found, look)
    return finished(figure)


def _draw_ranking(axes: list[Axes], found: Ranking, look: Look) -> None:
    places = range(len(found.effects))
    for place, one in enumerate(found.effects):
        (from_, low), (to, high) = one.lowest, one.highest
        axes[0].barh(place, high - low, 0.6, low, **look.fill(0))
        words = f"{from_} to {to}" if high > low else "no effect"
        axes[0].annotate(words, (high, place), (4, 0), textcoords="offset points", va="center", size=TEXT)
    axes[0].axvline(found.base_value, color="black", linestyle=":", linewidth=1)
    axes[0].margins(x=0.35)
    axes[0].set_xlabel(found.output, fontsize=TEXT)
    if len(axes) > 1:
        totals = [one.total or 0.0 for one in found.effects]
        errors = [one.confidence or 0.0 for one in found.effects]
        axes[1].barh(places, totals, 0.6, xerr=errors, capsize=3, **look.fill(2))
        axes[1].set_xlabel("total-order Sobol index", fontsize=TEXT)
        axes[1].set_xlim(left=0)
    for number, ax in enumerate(axes):
        ax.set_yticks(places, [one.axis if number == 0 else "" for one in found.effects], fontsize=TEXT)
        ax.set_ylim(len(found.effects) - 0.5, -0.5)
        ax.tick_params(axis="x", labelsize=TEXT)
        open_frame(ax)


def _caption(result: Sweep | SweepMean) -> str:
    swept, mean = (result.sweep, f"{result.about}.") if isinstance(result, SweepMean) else (result, "")
    priced = "Predicted, not measured." if swept.prices.unit else ""
    seeds = ", ".join(map(str, swept.provenance["arguments"]["seeds"]))
    about = f"rmapfast {swept.provenance['rmapfast']}, seed {seeds}."
    axes = [f"{axis.name} {_values(axis)}" for axis in swept.space.axes]
    axes += [f"only where {text}" for text in swept.space.constraints]
    words = [*(f"{line}." for line in summary(swept)), *(f"{words}." for words in axes), mean, priced, about]
    return " ".join(filter(None, words))


def _values(axis: Axis) -> str:
    """Return the values of an axis; of many, the first, the last and the number."""
    words = [f"{one:g}" if isinstance(one, float) else str(one) for one in axis.labels.tolist()]
    return ", ".join(words) if len(words) <= _MOST_VALUES else f"{words[0]} to {words[-1]} in {len(words)} steps"


def _draw_heats(
    axes: list[Axes], shown: View, facets: list[tuple[str, npt.NDArray[Any]]], look: Look
) -> list[AxesImage]:
    """Draw a heatmap per table, all of one scale."""
    low = min(float(np.nanmin(table)) for _, table in facets)
    high = max(float(np.nanmax(table)) for _, table in facets)
    return [_draw_heat(ax, shown, place, look, low, high) for place, ax in enumerate(axes[: len(facets)])]


def _draw_bar(part: Figure | SubFigure, image: AxesImage, axes: list[Axes], shown: View) -> None:
    """Draw the scale of heatmaps beside them."""
    bar = part.colorbar(image, ax=axes, shrink=0.8, aspect=30)
    bar.set_label(shown.label, fontsize=TEXT)
    bar.ax.tick_params(labelsize=TEXT)


def _draw_heat(ax: Axes, shown: View, place: int, look: Look, low: float, high: float) -> AxesImage:
    assert shown.y is not None
    name, table = shown.facets[place]
    image = ax.imshow(table, cmap=look.shades(), vmin=low, vmax=high, aspect="auto", interpolation="nearest")
    for dimension, axis in ((shown.x, ax.xaxis), (shown.y, ax.yaxis)):
        names = steps(dimension)
        every = math.ceil(len(names) / 16)
        axis.set_ticks(range(0, len(names), every), names[::every], fontsize=TEXT)
        axis.set_label_text(title(dimension), fontsize=TEXT)
    if table.size <= 200:
        for row, column in np.ndindex(table.shape):
            value = table[row, column]
            ink = "black" if np.isnan(value) else contrast(image.cmap(image.norm(value))[:3])
            text = "-" if np.isnan(value) else f"{value:.3g}"
            if shown.bounds and not np.isnan(value):
                text = cell(shown, place, row, column).replace(" +-", "\n\N{PLUS-MINUS SIGN}").replace(" (", "\n(")
            ax.text(column, row, text, ha="center", va="center", fontsize=TEXT - 1, color=ink)
    ax.set_title(name, fontsize=TEXT + 1, loc="left")
    return image


def _draw_lines(ax: Axes, shown: View, facets: list[tuple[str, npt.NDArray[Any]]], look: Look) -> None:
    axis = shown.x.axes[0]
    numeric = len(shown.x.axes) == 1 and axis.labels.dtype.kind in "if"
    places = axis.labels if numeric else np.arange(len(shown.x))
    before = drawn_before(ax)
    for number, (name, table) in enumerate(facets):
        stroke = look.stroke(before + number, before + len(facets))
        if len(places) > 50:
            stroke["marker"] = ""
        if shown.bounds:
            low, high = (bound[0] for bound in shown.bounds[number])
            errors = np.nan_to_num(np.abs([table[0] - low, high - table[0]]))
            ax.errorbar(places, table[0], errors, label=name, linewidth=1.2, markersize=4, capsize=3, **stroke)
        else:
            ax.plot(places, table[0], label=name, linewidth=1.2, markersize=4, **stroke)
    if not numeric:
        ax.set_xticks(places, steps(shown.x))
    ax.set_xlabel(title(shown.x), fontsize=TEXT)
    around = f" ({shown.bounds_are})" if shown.bounds else ""
    ax.set_ylabel(f"{shown.label}{around}", fontsize=TEXT)
    ax.tick_params(labelsize=TEXT)
    open_frame(ax)
    if any(name for name, _ in facets):
        ax.legend(fontsize=TEXT, frameon=False)
