"""Figures of a sweep: heatmaps or lines of an output, and its axes by how much they move the gain."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rmapfast.plot.style import DASHES, MARKERS, TEXT, captioned, fill, finished, open_frame
from rmapfast.sweeps import Axis, Sweep, View, steps, summary, title, view

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

# Tables of a sweep in one figure.
_MOST_FACETS = 8
# Values of an axis that a caption lists.
_MOST_VALUES = 12


def sweep(
    result: Sweep,
    *,
    value: str | None = None,
    x: str | None = None,
    y: str | None = None,
    at: Mapping[str, str] | None = None,
) -> Figure:
    """Draw an output of a sweep: a heatmap per step of the other axes, or lines where one axis is left.

    Parameters
    ----------
    result : Sweep
    value : str, optional
        ``gain``, ``per_page``, ``predicted``, a component or an event, the last two per reclaimed page. By default the
        gain if there are policies to compare, else the prediction per page, else ``walk_pte_reads``.
    x, y : str, optional
        Axes along the columns and the rows; by default the last two that have several steps.
    at : mapping of str to str, optional
        Of further axes, the step to show.

    Returns
    -------
    matplotlib.figure.Figure
        At most eight heatmaps; the caption says how many there are.

    Raises
    ------
    ValueError
        If the sweep has no such output, axis or step, or no point has a value.
    ImportError
        If matplotlib is not installed; the message has the pip command.

    Examples
    --------
    >>> import rmapfast as rf
    >>> space = {"population.order": [0, 4, 9], "policy": ["v6.16", "v7.0"], "arch": "x86-64"}
    >>> found = rf.sweep({**space, "population.size": "8MiB"})
    >>> figure = rf.plot.sweep(found, value="gain", x="population.order")
    """
    shown = view(result, value=value, x=x, y=y, at=at)
    if not shown.facets:
        raise ValueError(f"sweep: no point has a value of {shown.label!r}")
    facets, words = shown.facets[:_MOST_FACETS], _caption(result)
    if len(shown.facets) > _MOST_FACETS:
        words += f" {_MOST_FACETS} of {len(shown.facets)} tables are drawn."
    if shown.y is None:
        figure, (part,) = captioned(words, [4.5])
        _draw_lines(part.subplots(), shown, facets)
        return finished(figure)
    columns = 1 if len(facets) == 1 or len(shown.x) > 12 else 2
    rows = math.ceil(len(facets) / columns)
    height = 1.1 + min(max(0.32 * len(shown.y), 1.2), 5.0)
    figure, (part,) = captioned(words, [rows * height])
    axes = list(part.subplots(rows, columns, squeeze=False).flat)
    low = min(float(np.nanmin(table)) for _, table in facets)
    high = max(float(np.nanmax(table)) for _, table in facets)
    for ax, (name, table) in zip(axes, facets, strict=False):
        image = _draw_heat(ax, shown, name, table, low, high)
    for ax in axes[len(facets) :]:
        ax.remove()
    bar = part.colorbar(image, ax=axes[: len(facets)], shrink=0.8, aspect=30)
    bar.set_label(shown.label, fontsize=TEXT)
    bar.ax.tick_params(labelsize=TEXT)
    return finished(figure)


def ranking(result: Sweep) -> Figure:
    """Draw which axis of a sweep moves the gain most.

    Parameters
    ----------
    result : Sweep

    Returns
    -------
    matplotlib.figure.Figure
        On the left, from where to where each axis moves the output when it alone changes. On the right, where the sweep
        allows them, the total-order Sobol indices.

    Raises
    ------
    ValueError
        As :meth:`rmapfast.Sweep.rank`.
    ImportError
        If matplotlib is not installed; the message has the pip command.

    Examples
    --------
    >>> import rmapfast as rf
    >>> axes = {"population.size": "1MiB", "population.order": [0, 4], "policy": ["per-page", "v7.0"], "arch": "x86-64"}
    >>> figure = rf.plot.ranking(rf.sweep(axes))
    """
    found = result.rank()
    base = ", ".join(f"{name} {step}" for name, step in found.base.items())
    about = f"Left: one axis at a time, from {base}. {found.note} {_caption(result)}"
    figure, (part,) = captioned(about, [1.2 + 0.45 * len(found.effects)])
    totals = [one for one in found.effects if one.total is not None]
    axes = part.subplots(1, 2 if totals else 1, squeeze=False)[0]
    places = range(len(found.effects))
    for place, one in enumerate(found.effects):
        (from_, low), (to, high) = one.lowest, one.highest
        axes[0].barh(place, high - low, 0.6, low, **fill(0))
        words = f"{from_} to {to}" if high > low else "no effect"
        axes[0].annotate(words, (high, place), (4, 0), textcoords="offset points", va="center", size=TEXT)
    axes[0].axvline(found.base_value, color="black", linestyle=":", linewidth=1)
    axes[0].margins(x=0.35)
    axes[0].set_xlabel(found.output, fontsize=TEXT)
    if totals:
        errors = [one.confidence for one in totals]
        axes[1].barh(places, [one.total for one in totals], 0.6, xerr=errors, capsize=3, **fill(2))
        axes[1].set_xlabel("total-order Sobol index", fontsize=TEXT)
        axes[1].set_xlim(left=0)
    for number, ax in enumerate(axes):
        ax.set_yticks(places, [one.axis if number == 0 else "" for one in found.effects], fontsize=TEXT)
        ax.set_ylim(len(found.effects) - 0.5, -0.5)
        ax.tick_params(axis="x", labelsize=TEXT)
        open_frame(ax)
    return finished(figure)


def _caption(result: Sweep) -> str:
    priced = "Predicted, not measured." if result.prices.unit else ""
    seeds = ", ".join(map(str, result.provenance["arguments"]["seeds"]))
    about = f"rmapfast {result.provenance['rmapfast']}, seed {seeds}."
    axes = [f"{axis.name} {_values(axis)}" for axis in result.space.axes]
    axes += [f"only where {text}" for text in result.space.constraints]
    return " ".join([*(f"{line}." for line in summary(result)), *(f"{words}." for words in axes), priced, about])


def _values(axis: Axis) -> str:
    """Return the values of an axis; of many, the first, the last and the number."""
    words = [f"{one:g}" if isinstance(one, float) else str(one) for one in axis.labels.tolist()]
    return ", ".join(words) if len(words) <= _MOST_VALUES else f"{words[0]} to {words[-1]} in {len(words)} steps"


def _draw_heat(ax: Axes, shown: View, name: str, table: npt.NDArray[Any], low: float, high: float) -> AxesImage:
    from matplotlib.colors import LinearSegmentedColormap

    assert shown.y is not None
    # Light greys, on which the figures can be read.
    grey = LinearSegmentedColormap.from_list("greys", ["1.0", "0.5"])
    image = ax.imshow(table, cmap=grey, vmin=low, vmax=high, aspect="auto", interpolation="nearest")
    for dimension, axis in ((shown.x, ax.xaxis), (shown.y, ax.yaxis)):
        names = steps(dimension)
        every = math.ceil(len(names) / 16)
        axis.set_ticks(range(0, len(names), every), names[::every], fontsize=TEXT)
        axis.set_label_text(title(dimension), fontsize=TEXT)
    if table.size <= 200:
        for row, column in np.argwhere(~np.isnan(table)):
            text = f"{table[row, column]:.3g}"
            ax.text(column, row, text, ha="center", va="center", fontsize=TEXT - 1)
        for row, column in np.argwhere(np.isnan(table)):
            ax.text(column, row, "-", ha="center", va="center", fontsize=TEXT - 1)
    ax.set_title(name, fontsize=TEXT + 1, loc="left")
    return image


def _draw_lines(ax: Axes, shown: View, facets: list[tuple[str, npt.NDArray[Any]]]) -> None:
    axis = shown.x.axes[0]
    numeric = len(shown.x.axes) == 1 and axis.labels.dtype.kind in "if"
    places = axis.labels if numeric else np.arange(len(shown.x))
    for number, (name, table) in enumerate(facets):
        marker = MARKERS[number % len(MARKERS)] if len(places) <= 50 else ""
        dashes = DASHES[number % len(DASHES)]
        shade = str(0.0 if number < len(DASHES) else 0.5)
        ax.plot(places, table[0], dashes, marker=marker, color=shade, label=name, linewidth=1, markersize=4)
    if not numeric:
        ax.set_xticks(places, steps(shown.x))
    ax.set_xlabel(title(shown.x), fontsize=TEXT)
    ax.set_ylabel(shown.label, fontsize=TEXT)
    ax.tick_params(labelsize=TEXT)
    open_frame(ax)
    if any(name for name, _ in facets):
        ax.legend(fontsize=TEXT, frameon=False)
