"""Figures of results in greys and hatches, each with units and a caption from which the run can be repeated.

matplotlib is imported where it is used, and needs no display. :func:`save` writes what the other functions return.
"""

from __future__ import annotations

import io
import math
import os
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from rmapfast._version import __version__
from rmapfast.comparison import Comparison
from rmapfast.contents import memory_map
from rmapfast.events import COMPONENTS
from rmapfast.population import Population
from rmapfast.reports import assumed, per_page, run_lines
from rmapfast.result import Result
from rmapfast.support import change, check_writable, decimals, format_size, price_scale, write_atomically
from rmapfast.sweeps import steps, summary, title, view

ENDINGS = (".png", ".svg", ".pdf")

# Inches, and points of a line of text.
_WIDTH = 10.0
_BAR = 0.55
_TEXT = 8.0
_LINE = 11.0

# A fill per component and per policy; neighbours differ in print without colours: greys alternate with hatches.
_FILLS = (
    ("0.25", ""),
    ("1.0", "////"),
    ("0.6", ""),
    ("1.0", "...."),
    ("0.85", "\\\\\\\\"),
    ("0.45", ""),
    ("1.0", "xxxx"),
    ("1.0", "----"),
    ("0.85", "++"),
    ("0.8", ""),
    ("1.0", "||||"),
)
_MARKERS = "os^Dv<>PX*"
_DASHES = ("-", "--", "-.", ":")
# Lengths of a histogram that stand one by one; more are taken together by powers of two.
_MOST_LENGTHS = 10
# Tables of a sweep in one figure.
_MOST_FACETS = 8


def _matplotlib():
    try:
        import matplotlib
    except ImportError:
        raise ImportError("plots need matplotlib; install it with: pip install 'rmapfast[plot]'") from None
    return matplotlib


def check_path(path: str | os.PathLike) -> Path:
    """Return the path if a figure can be saved there: matplotlib, a known ending and a folder.

    Raises
    ------
    ImportError, ValueError, OSError
    """
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"plot: expected a file ending in {', '.join(ENDINGS)}, got {str(path)!r}")
    _matplotlib()
    check_writable(path, overwrite=True)
    return path


def save(figure, path: str | os.PathLike) -> None:
    """Write a figure as .png, .svg or .pdf, whole or not at all; a file that is there is replaced.

    The same figure gives the same file.
    """
    path, content = check_path(path), io.BytesIO()
    ending = path.suffix.lower().removeprefix(".")
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with _matplotlib().rc_context({"svg.hashsalt": "rmapfast"}):
        figure.savefig(content, format=ending, dpi=150, metadata=dates.get(ending))
    write_atomically(path, content.getvalue(), overwrite=True)


# Figures


def components(comparison: Result | Comparison):
    """Draw the predicted time per reclaimed page as stacked components, a bar per policy, with its interval.

    Parameters
    ----------
    comparison : Result or Comparison

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If no run has a price.
    """
    comparison = Comparison.of(comparison)
    if not any(run.costs for run in comparison.runs):
        raise ValueError("comparison: expected runs with a price, got none; name a cost vector with costs=")
    figure, (body,) = _figure(comparison, [_components_height(comparison)])
    _draw_components(body, comparison)
    return _finished(figure)


def batch_lengths(comparison: Result | Comparison):
    """Draw a histogram of batch lengths: how much of the memory was unmapped in steps of which length.

    Parameters
    ----------
    comparison : Result or Comparison

    Returns
    -------
    matplotlib.figure.Figure
    """
    comparison = Comparison.of(comparison)
    figure, (body,) = _figure(comparison, [_lengths_height(comparison)])
    _draw_lengths(body, comparison)
    return _finished(figure)


def overview(comparison: Result | Comparison):
    """Draw components (of runs with a price) and batch lengths in one figure, as ``--plot`` does.

    Parameters
    ----------
    comparison : Result or Comparison

    Returns
    -------
    matplotlib.figure.Figure
    """
    comparison = Comparison.of(comparison)
    if not any(run.costs for run in comparison.runs):
        return batch_lengths(comparison)
    figure, (above, below) = _figure(comparison, [_components_height(comparison), _lengths_height(comparison)])
    _draw_components(above, comparison)
    _draw_lengths(below, comparison)
    return _finished(figure)


def by_order(comparisons: Mapping[int, Result | Comparison] | Iterable[tuple[int, Result | Comparison]]):
    """Draw the predicted time per reclaimed page against folio order, a line per policy.

    Parameters
    ----------
    comparisons : mapping of int to Comparison, or pairs
        By folio order.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If there is no run with a price, or the prices on an architecture have different units.
    """
    pairs = comparisons.items() if isinstance(comparisons, Mapping) else comparisons
    points = sorted(((order, Comparison.of(comparison)) for order, comparison in pairs), key=lambda pair: pair[0])
    lines: dict[str, dict[str, list[tuple[int, Result]]]] = {}
    for order, comparison in points:
        if not isinstance(order, int) or not 0 <= order <= 13:
            raise ValueError(f"comparisons: expected folio orders from 0 to 13, got {order!r}")
        for run in comparison.runs:
            if run.costs and run.reclaimed_pages:
                lines.setdefault(run.arch.name, {}).setdefault(comparison.label(run), []).append((order, run))
    if not lines:
        raise ValueError("comparisons: expected runs with a price, got none; name a cost vector with costs=")
    figure, (body,) = _figure(
        points[0][1], [4.6 * math.ceil(len(lines) / 2)], f"Folio orders {_orders(points)}; otherwise: "
    )
    axes = body.subplots(math.ceil(len(lines) / 2), min(len(lines), 2), squeeze=False).flat
    ends = []
    for ax, (arch, policies) in zip(axes, lines.items(), strict=False):
        ends.append((ax, _draw_orders(ax, arch, policies)))
        # the space at the right is for the names of the policies, at about 6 points a letter
        width, names = (_WIDTH / min(len(lines), 2) - 1) * 72, 6 * max(map(len, policies)) + 20
        ax.set_xlim(-0.4, ax.get_xticks()[-1] + 0.3 + len(ax.get_xticks()) * min(names / (width - names), 1.0))
    for ax in list(axes)[len(lines) :]:
        ax.remove()
    figure.draw_without_rendering()
    for ax, labels in ends:
        _label_ends(ax, labels)
    return _finished(figure)


def _orders(points) -> str:
    return ", ".join(str(order) for order, _ in points)


def description(population: Population, described: Mapping, *, names: Mapping[tuple[int, int], str] | None = None):
    """Draw folio orders by kind, and a map of the memory: all of it, and a part of it page by page.

    Parameters
    ----------
    population : Population
    described : mapping
        What :func:`rmapfast.contents.description.describe` returned for it.
    names : mapping of (int, int) to str, optional
        Names of VMAs, by mm and first virtual page.

    Returns
    -------
    matplotlib.figure.Figure
    """
    memory = memory_map(population)
    heights = [2.8]
    if memory.strips:
        heights.append(1.05 + 0.125 * len(memory.strips))
    if memory.detail:
        heights.append(1.0 + 0.17 * len(memory.detail.rows))
    figure, (above, *below) = _captioned(_description_caption(described, memory), heights, 165)
    figure.get_layout_engine().set(w_pad=0.12)
    _draw_orders_by_kind(above, described)
    if memory.strips:
        _draw_map(below[0], population, memory, names or {})
    if memory.detail:
        _draw_detail(below[1], population, memory, names or {})
    # the long labels beside the rows move the axes: the layout settles in the second pass
    figure.draw_without_rendering()
    return _finished(figure)


def sweep(result, *, value=None, x=None, y=None, at=None):
    """Draw an output of a sweep: a heatmap per step of the other axes, or lines where one axis is left.

    Parameters
    ----------
    result : Sweep
    value : str, optional
        ``gain``, ``per_page``, ``predicted``, a component or an event.
    x, y : str, optional
        Axes along the columns and the rows.
    at : mapping of str to str, optional
        Of further axes, the step to show.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the sweep has no such output, axis or step, or no point has a value.
    """
    shown = view(result, value=value, x=x, y=y, at=at)
    if not shown.facets:
        raise ValueError(f"sweep: no point has a value of {shown.label!r}")
    facets, words = shown.facets[:_MOST_FACETS], _sweep_caption(result)
    if len(shown.facets) > _MOST_FACETS:
        words += f" {_MOST_FACETS} of {len(shown.facets)} tables are drawn."
    if shown.y is None:
        figure, (body,) = _captioned(words, [4.5])
        _draw_lines(body.subplots(), shown, facets)
        return _finished(figure)
    columns = 1 if len(facets) == 1 or len(shown.x) > 12 else 2
    rows = math.ceil(len(facets) / columns)
    height = 1.1 + min(max(0.32 * len(shown.y), 1.2), 5.0)
    figure, (body,) = _captioned(words, [rows * height])
    axes = list(body.subplots(rows, columns, squeeze=False).flat)
    low = min(float(np.nanmin(table)) for _, table in facets)
    high = max(float(np.nanmax(table)) for _, table in facets)
    for ax, (name, table) in zip(axes, facets, strict=False):
        image = _draw_heat(ax, shown, name, table, low, high)
    for ax in axes[len(facets) :]:
        ax.remove()
    bar = body.colorbar(image, ax=axes[: len(facets)], shrink=0.8, aspect=30)
    bar.set_label(shown.label, fontsize=_TEXT)
    bar.ax.tick_params(labelsize=_TEXT)
    return _finished(figure)


def ranking(result):
    """Draw which axis of a sweep moves the gain most: swings one at a time, and total-order Sobol indices.

    Parameters
    ----------
    result : Sweep

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        As :meth:`Sweep.rank`.
    """
    found = result.rank()
    base = ", ".join(f"{name} {step}" for name, step in found.base.items())
    about = f"Left: one axis at a time, from {base}. {found.note} {_sweep_caption(result)}"
    figure, (body,) = _captioned(about, [1.2 + 0.45 * len(found.effects)])
    totals = [one for one in found.effects if one.total is not None]
    axes = body.subplots(1, 2 if totals else 1, squeeze=False)[0]
    places = range(len(found.effects))
    for place, one in enumerate(found.effects):
        (from_, low), (to, high) = one.lowest, one.highest
        axes[0].barh(place, high - low, 0.6, low, **_fill(0))
        words = f"{from_} to {to}" if high > low else "no effect"
        axes[0].annotate(words, (high, place), (4, 0), textcoords="offset points", va="center", size=_TEXT)
    axes[0].axvline(found.base_value, color="black", linestyle=":", linewidth=1)
    axes[0].margins(x=0.35)
    axes[0].set_xlabel(found.output, fontsize=_TEXT)
    if totals:
        errors = [one.confidence for one in totals]
        axes[1].barh(places, [one.total for one in totals], 0.6, xerr=errors, capsize=3, **_fill(2))
        axes[1].set_xlabel("total-order Sobol index", fontsize=_TEXT)
        axes[1].set_xlim(left=0)
    for number, ax in enumerate(axes):
        ax.set_yticks(places, [one.axis if number == 0 else "" for one in found.effects], fontsize=_TEXT)
        ax.set_ylim(len(found.effects) - 0.5, -0.5)
        ax.tick_params(axis="x", labelsize=_TEXT)
        ax.spines[["top", "right"]].set_visible(False)
    return _finished(figure)


def _sweep_caption(result) -> str:
    priced = "Predicted, not measured." if result.prices.unit else ""
    seeds = ", ".join(map(str, result.provenance["arguments"]["seeds"]))
    about = f"rmapfast {result.provenance['rmapfast']}, seed {seeds}."
    axes = [f"{axis.name} {_values(axis)}" for axis in result.space.axes]
    axes += [f"only where {text}" for text in result.space.constraints]
    return " ".join([*(f"{line}." for line in summary(result)), *(f"{words}." for words in axes), priced, about])


def _values(axis) -> str:
    """The values of an axis, or how many there are from where to where."""
    words = [f"{one:g}" if isinstance(one, float) else str(one) for one in axis.labels.tolist()]
    return ", ".join(words) if len(words) <= 12 else f"{words[0]} to {words[-1]} in {len(words)} steps"


def _draw_heat(ax, shown, name: str, table, low: float, high: float):
    # light greys, on which the figures can be read
    grey = _matplotlib().colors.LinearSegmentedColormap.from_list("greys", ["1.0", "0.5"])
    image = ax.imshow(table, cmap=grey, vmin=low, vmax=high, aspect="auto", interpolation="nearest")
    for dimension, axis in ((shown.x, ax.xaxis), (shown.y, ax.yaxis)):
        names = steps(dimension)
        every = math.ceil(len(names) / 16)
        axis.set_ticks(range(0, len(names), every), names[::every], fontsize=_TEXT)
        axis.set_label_text(title(dimension), fontsize=_TEXT)
    if table.size <= 200:
        for row, column in np.argwhere(~np.isnan(table)):
            text = f"{table[row, column]:.3g}"
            ax.text(column, row, text, ha="center", va="center", fontsize=_TEXT - 1)
        for row, column in np.argwhere(np.isnan(table)):
            ax.text(column, row, "-", ha="center", va="center", fontsize=_TEXT - 1)
    ax.set_title(name, fontsize=_TEXT + 1, loc="left")
    return image


def _draw_lines(ax, shown, facets) -> None:
    axis = shown.x.axes[0]
    numeric = len(shown.x.axes) == 1 and axis.labels.dtype.kind in "if"
    places = axis.labels if numeric else np.arange(len(shown.x))
    for number, (name, table) in enumerate(facets):
        marker = _MARKERS[number % len(_MARKERS)] if len(places) <= 50 else ""
        dashes = _DASHES[number % len(_DASHES)]
        shade = str(0.0 if number < len(_DASHES) else 0.5)
        ax.plot(places, table[0], dashes, marker=marker, color=shade, label=name, linewidth=1, markersize=4)
    if not numeric:
        ax.set_xticks(places, steps(shown.x))
    ax.set_xlabel(title(shown.x), fontsize=_TEXT)
    ax.set_ylabel(shown.label, fontsize=_TEXT)
    ax.tick_params(labelsize=_TEXT)
    ax.spines[["top", "right"]].set_visible(False)
    if any(name for name, _ in facets):
        ax.legend(fontsize=_TEXT, frameon=False)


# The figure around the panels


def _figure(comparison: Comparison, heights: list[float], words: str = ""):
    """A figure with a subfigure per height (inches) above a caption."""
    return _captioned(words + _caption(comparison), heights)


def _captioned(text: str, heights: list[float], width: int = 185):
    """A figure with a subfigure per height (inches) above a caption of that many letters per line."""
    _matplotlib()
    from matplotlib.figure import Figure

    lines = textwrap.wrap(text, width, break_on_hyphens=False)
    caption = (len(lines) + 1) * _LINE / 72
    figure = Figure(figsize=(_WIDTH, sum(heights) + caption), layout="constrained", facecolor="white")
    *bodies, foot = figure.subfigures(len(heights) + 1, 1, height_ratios=[*heights, caption], squeeze=False).flat
    foot.text(0.01, 0.9, "\n".join(lines), va="top", fontsize=_TEXT - 0.5, in_layout=False)
    return figure, bodies


def _caption(comparison: Comparison) -> str:
    first = comparison.runs[0].population
    words = [f"[{number}] {source}." for number, source in enumerate(comparison.sources, 1)]
    words += [f"{first['source']}, {format_size(first['bytes'])}."] if comparison.same_memory else []
    if vectors := comparison.cost_vectors():
        priced = ", ".join(f"{name} ({vector.unit})" for name, vector in vectors.items())
        words.append(f"Predicted, not measured; intervals: the ranges of the costs; cost vectors: {priced}.")
    words += assumed(comparison)
    if all("seed" not in run.population["assumptions"] for run in comparison.runs):
        words.append("seed: none.")
    return " ".join([*words, *(f"{line}." for line in run_lines(comparison))])


def _finished(figure):
    """The figure with its layout fixed, so that it looks the same in every format."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def _fill(number: int) -> dict:
    grey, hatch = _FILLS[number % len(_FILLS)]
    return {"facecolor": grey, "hatch": hatch, "edgecolor": "black", "linewidth": 0.6}


# Components


def _components_height(comparison: Comparison) -> float:
    return 0.6 + sum(0.75 + _BAR * len(runs) for runs in comparison.by_arch().values())


def _draw_components(body, comparison: Comparison) -> None:
    from matplotlib.patches import Patch

    groups = comparison.by_arch()
    axes = body.subplots(len(groups), 1, squeeze=False, height_ratios=[len(runs) + 0.6 for runs in groups.values()])
    fills = _component_fills(comparison)
    body.legend(
        handles=[Patch(label=name, **fill) for name, fill in fills.items()],
        loc="outside upper center",
        ncols=max(1, min(len(fills), 140 // (max(map(len, fills), default=0) + 8))),
        fontsize=_TEXT,
        frameon=False,
    )
    # one scale per unit, with space for the totals at the right
    room = {}
    for run in comparison.runs:
        if run.costs and run.reclaimed_pages:
            unit, high = run.prediction.unit, run.prediction.interval[1]
            room[unit] = max(room.get(unit, 0.0), per_page(run, max(1.35 * run.prediction.value, 1.05 * high)))
    for ax, (arch, runs) in zip(axes.flat, groups.items(), strict=True):
        unit = next((run.prediction.unit for run in runs if run.costs), None)
        against = f", change against {comparison.label(runs[0])}" if len(runs) > 1 else ""
        ax.set_title(arch + against, fontsize=_TEXT + 2, loc="left")
        ax.set_yticks(range(len(runs)), [comparison.label(run) for run in runs], fontsize=_TEXT)
        ax.set_ylim(len(runs) - 0.4, -0.6)
        ax.tick_params(axis="x", labelsize=_TEXT)
        ax.spines[["top", "right"]].set_visible(False)
        if unit is None:
            ax.set_xticks([])
            ax.text(0.5, 0.5, f"no cost vector belongs to {arch}", transform=ax.transAxes, ha="center", fontsize=_TEXT)
            continue
        ax.set_xlabel(f"predicted {unit} per reclaimed page", fontsize=_TEXT)
        ax.set_xlim(0, room.get(unit) or 1.0)
        for place, run in enumerate(runs):
            if run.costs and run.reclaimed_pages:
                _draw_bar(ax, place, run, fills)
                _label_bar(ax, place, run, runs[0], comparison.same_memory)


def _component_fills(comparison: Comparison) -> dict[str, dict]:
    """The fill of each component: always the same one, and for components that stand as one that of a free member."""
    names = {name for run in comparison.runs if run.costs for name in run.prediction.breakdown}
    parts = {name: [list(COMPONENTS).index(part) for part in name.split(" + ")] for name in names}
    chosen: dict[str, int] = {}
    for name in sorted(names, key=lambda name: (len(parts[name]), parts[name])):
        chosen[name] = next(
            (part for part in [*parts[name], *range(len(_FILLS))] if part not in chosen.values()), parts[name][0]
        )
    return {name: _fill(chosen[name]) for name in sorted(names, key=parts.get)}


def _draw_bar(ax, place: int, run: Result, fills: dict) -> None:
    left, room = 0.0, ax.get_xlim()[1]
    for name, share in run.prediction.breakdown.items():
        width = per_page(run, share)
        ax.barh(place, width, 0.5, left, **fills[name])
        # a label as wide as the part of the axes that the component takes, at about 5 points a letter
        letters = width / room * (_WIDTH - 1.5) * 72 / 5
        percent = f"{100 * share / run.prediction.value:.0f}%"
        if text := next((text for text in (f"{name} {percent}", percent) if len(text) + 1 < letters), ""):
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
            ax.text(left + width / 2, place, text, ha="center", va="center", fontsize=_TEXT, bbox=box)
        left += width
    value = per_page(run, run.prediction.value)
    low, high = (per_page(run, bound) for bound in run.prediction.interval)
    # below the bar, where it hides no component
    error = [[max(value - low, 0.0)], [max(high - value, 0.0)]]
    ax.errorbar(value, place + 0.36, xerr=error, fmt="|", color="black", capsize=3, linewidth=1)


def _label_bar(ax, place: int, run: Result, baseline: Result, alike: bool) -> None:
    prediction = run.prediction
    name, scale = price_scale(prediction.unit, prediction.value)
    page = per_page(run, prediction.value)
    if prediction.unit == "instructions":
        name = f"{name} instructions".strip()
    figure, words = (prediction.value / scale, f"{name} in all") if alike else (page, prediction.unit)
    words = [f"{figure:.{decimals(figure)}f} {words}"]
    if run is not baseline and baseline.costs:
        words.append(change(page, per_page(baseline, baseline.prediction.value)))
    ax.text(page + ax.get_xlim()[1] * 0.01, place, ", ".join(words), va="center", fontsize=_TEXT)


# Batch lengths


def _lengths_height(comparison: Comparison) -> float:
    groups = comparison.by_arch()
    return math.ceil(len(groups) / 2) * (2.7 + 0.17 * max(map(len, groups.values())))


def _draw_lengths(body, comparison: Comparison) -> None:
    groups = comparison.by_arch()
    columns = min(len(groups), 2)
    axes = list(body.subplots(math.ceil(len(groups) / columns), columns, squeeze=False).flat)
    bins = _bins(sorted({nr for run in comparison.runs for nr in run.batch_lengths}))
    for ax, (arch, runs) in zip(axes, groups.items(), strict=False):
        width = 0.85 / len(runs)
        for place, run in enumerate(runs):
            steps = sum(run.batch_lengths.values())
            pages = sum(nr * count for nr, count in run.batch_lengths.items())
            inside = [[nr for nr in run.batch_lengths if low <= nr <= high] for low, high in bins]
            shares = [100 * sum(nr * run.batch_lengths[nr] for nr in found) / max(pages, 1) for found in inside]
            lefts = [at + (place - (len(runs) - 1) / 2) * width for at in range(len(bins))]
            label = f"{comparison.label(run)}: {steps:,} steps of {pages / max(steps, 1):.1f} pages on average"
            bars = ax.bar(lefts, shares, width, label=label, **_fill(place))
            # of wide enough bars
            if width * (_WIDTH / columns - 1) * 72 / max(len(bins), 1) > 3.5 * 5:
                percents = [f"{share:.0f}%" if share >= 0.5 else "" for share in shares]
                ax.bar_label(bars, percents, fontsize=_TEXT - 1, padding=1)
        for border in range(len(bins) - 1):
            ax.axvline(border + 0.5, color="0.7", linestyle=":", linewidth=0.7)
        ax.set_xlim(-0.5, max(len(bins), 1) - 0.5)
        ax.set_title(arch, fontsize=_TEXT + 2, loc="left")
        ax.set_xticks(range(len(bins)), [f"{a}" if a == b else f"{a}-{b}" for a, b in bins], fontsize=_TEXT)
        ax.set_xlabel("batch length (pages per unmap step)", fontsize=_TEXT)
        ax.set_ylabel("unmapped pages (%)", fontsize=_TEXT)
        ax.set_ylim(0, 110)
        ax.set_yticks(range(0, 101, 25))
        ax.tick_params(labelsize=_TEXT)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1.1), fontsize=_TEXT, frameon=False, borderaxespad=0)
    for ax in axes[len(groups) :]:
        ax.remove()


def _bins(lengths: list[int]) -> list[tuple[int, int]]:
    """First and last length of each bin: the lengths themselves, or powers of two if there are many."""
    if len(lengths) <= _MOST_LENGTHS:
        return [(nr, nr) for nr in lengths]
    powers = sorted({nr.bit_length() - 1 for nr in lengths})
    return [(1 << power, (2 << power) - 1) for power in powers]


# Time against order


def _draw_orders(ax, arch: str, policies: dict[str, list[tuple[int, Result]]]) -> list[tuple[str, float, float]]:
    """Draw the lines of an architecture; name and end of each."""
    units = {run.prediction.unit for line in policies.values() for _, run in line}
    if len(units) > 1:
        raise ValueError(f"comparisons: the prices on {arch} are in {' and '.join(sorted(units))}; expected one unit")
    orders = sorted({order for line in policies.values() for order, _ in line})
    page_size = next(iter(policies.values()))[0][1].arch.page_size
    ends = []
    for place, (label, line) in enumerate(policies.items()):
        # side by side, so that intervals do not hide each other
        places = [orders.index(order) + 0.06 * (place - (len(policies) - 1) / 2) for order, _ in line]
        values = [per_page(run, run.prediction.value) for _, run in line]
        bounds = [[per_page(run, bound) for bound in run.prediction.interval] for _, run in line]
        ax.errorbar(
            places,
            values,
            yerr=[
                [max(value - low, 0.0) for value, (low, _) in zip(values, bounds, strict=True)],
                [max(high - value, 0.0) for value, (_, high) in zip(values, bounds, strict=True)],
            ],
            color=str(0.55 * place / max(len(policies) - 1, 1)),
            marker=_MARKERS[place % len(_MARKERS)],
            linestyle=_DASHES[place % len(_DASHES)],
            linewidth=1.2,
            elinewidth=0.7,
            capsize=2,
            markersize=4.5,
        )
        ends.append((label, places[-1], values[-1]))
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:.0e}"[0] in "25" else "")
    ax.set_title(arch, fontsize=_TEXT + 2, loc="left")
    ax.set_xticks(range(len(orders)), [f"{order}\n{format_size(page_size << order)}" for order in orders])
    ax.set_xlabel("folio order, folio size", fontsize=_TEXT)
    ax.set_ylabel(f"predicted {units.pop()} per reclaimed page (log scale)", fontsize=_TEXT)
    ax.tick_params(which="both", labelsize=_TEXT)
    ax.spines[["top", "right"]].set_visible(False)
    return ends


def _label_ends(ax, ends: list[tuple[str, float, float]]) -> None:
    """Name each line at its end, pushed apart where the lines meet."""
    figure, place = ax.get_figure(root=True), None
    right = max(x for _, x, _ in ends)
    step = _LINE * figure.dpi / 72
    for label, x, y in sorted(ends, key=lambda end: end[2]):
        wanted = ax.transData.transform((x, y))[1]
        place = wanted if place is None else max(wanted, place + step)
        y_label = ax.transData.inverted().transform((0, place))[1]
        ax.annotate(
            label,
            (x, y),
            (right + 0.15, y_label),
            va="center",
            fontsize=_TEXT,
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": "0.5"},
            annotation_clip=False,
        )


# What a capture holds


def _description_caption(described: Mapping, memory) -> str:
    words = [f"{described['source']}: {format_size(described['mapped_pages'] * described['page_size'])} mapped."]
    if described["vmas_unused"]:
        words.append(f"{described['vmas_unused']} VMAs without a mapped page are not drawn.")
    if memory.skipped:
        words.append(f"{memory.skipped:,} rows without a mapped page are left out.")
    words.append("Assumed: " + "; ".join(f"{name}: {value}" for name, value in described["assumptions"].items()) + ".")
    return " ".join([*words, f"rmapfast {__version__}."])


def _draw_orders_by_kind(body, described: Mapping) -> None:
    ax, kinds = body.subplots(), described["orders_by_kind"]
    orders, page = list(described["orders"]), described["page_size"]
    width = 0.85 / max(len(kinds), 1)
    for place, (kind, rows) in enumerate(kinds.items()):
        pages = [rows[order]["pages"] if order in rows else 0 for order in orders]
        shares = [100 * nr / max(described["pages"], 1) for nr in pages]
        lefts = [at + (place - (len(kinds) - 1) / 2) * width for at in range(len(orders))]
        folios = sum(row["folios"] for row in rows.values())
        label = f"{kind}: {format_size(sum(pages) * page)} in {folios:,} folio{'s' * (folios != 1)}"
        bars = ax.bar(lefts, shares, width, label=label, **_fill(place))
        if width * (_WIDTH - 1) * 72 / max(len(orders), 1) > 6 * 5:
            counts = [f"{rows[order]['folios']:,}" if order in rows else "" for order in orders]
            ax.bar_label(bars, counts, fontsize=_TEXT - 1, padding=1)
    for border in range(len(orders) - 1):
        ax.axvline(border + 0.5, color="0.7", linestyle=":", linewidth=0.7)
    ax.set_xlim(-0.5, max(len(orders), 1) - 0.5)
    ax.set_xticks(range(len(orders)), [f"{order}\n{format_size(page << int(order))}" for order in orders])
    ax.set_title("folios by order and kind (on the bars: number of folios)", fontsize=_TEXT + 2, loc="left")
    ax.set_xlabel("folio order, folio size", fontsize=_TEXT)
    ax.set_ylabel("memory in folios (%)", fontsize=_TEXT)
    ax.set_ylim(0, 115)
    ax.set_yticks(range(0, 101, 25))
    ax.tick_params(labelsize=_TEXT)
    ax.spines[["top", "right"]].set_visible(False)
    if kinds:
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1.12), ncols=4, fontsize=_TEXT, frameon=False, borderaxespad=0)


def _order_greys(orders: list[int]) -> dict[int, str]:
    """A grey per order: light for order 0, the darker the larger from there on; white is left for holes."""
    large = sorted(order for order in orders if order)
    step = 0.58 / max(len(large) - 1, 1)
    greys = {order: f"{0.7 - place * step:.2f}" for place, order in enumerate(large)} if len(large) > 1 else {}
    return {order: "0.88" if order == 0 else greys.get(order, "0.40") for order in sorted(orders)}


def _contrast(grey: str) -> str:
    return "black" if float(grey) > 0.45 else "white"


def _map_legend(body, population: Population, memory) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = [
        Patch(
            facecolor=grey,
            edgecolor="black",
            linewidth=0.6,
            label=f"order {order} ({format_size(1 << order + population.page_shift)})",
        )
        for order, grey in _order_greys(memory.orders).items()
    ]
    handles.append(Patch(facecolor="white", edgecolor="black", linewidth=0.6, label="no page mapped"))
    if memory.any_partial:
        handles.append(
            Patch(facecolor="0.7", hatch="////", edgecolor="black", linewidth=0.6, label="large folio mapped in part")
        )
    if memory.any_pmd:
        handles.append(
            Line2D(
                [],
                [],
                marker="o",
                color="0.3",
                markerfacecolor="white",
                markersize=4,
                linestyle="none",
                label="mapped by a PMD",
            )
        )
    columns = min(len(handles), 6)
    body.legend(handles=handles, loc="outside upper center", ncols=columns, fontsize=_TEXT, frameon=False)


def _row_labels(ax, rows, population: Population, names: Mapping, height: float) -> None:
    """Addresses at the left; the name of each VMA where it begins at the right."""
    several = len(population.vma_mm) and int(population.vma_mm.max()) > 0
    ticks, texts, before = [], [], None
    for place, row in enumerate(rows):
        if row.vma is None:
            ticks.append((place + height / 2, "small VMAs" if before != "small" else ""))
            before = "small"
            continue
        ticks.append((place + height / 2, f"{row.first << population.page_shift:#x}"))
        if row.vma != before:
            mm = int(population.vma_mm[row.vma])
            name = names.get((mm, int(population.vma_start[row.vma])), "")
            text = (name or "anonymous") + (f" (process {mm})" if several else "")
            texts.append((place + height / 2, text if len(text) <= 26 else text[:24] + ".."))
        before = row.vma
    ax.set_yticks([y for y, text in ticks if text], [text for _, text in ticks if text], fontsize=_TEXT - 2)
    ax.tick_params(axis="y", length=2)
    for y, text in texts:
        ax.text(1.005, y, text, transform=ax.get_yaxis_transform(), va="center", fontsize=_TEXT - 2)


def _boxes(boxes):
    """Corners of rectangles (left, right, bottom, top)."""
    return [((left, low), (right, low), (right, high), (left, high)) for left, right, low, high in boxes]


def _draw_map(body, population: Population, memory, names: Mapping) -> None:
    """A cell for a range of pages: the order that maps most of it, as high as the share that is mapped."""
    from matplotlib.collections import LineCollection, PolyCollection

    ax, height = body.subplots(), 0.8
    greys = _order_greys(memory.orders)
    boxes, fills, slashes, inks, dots = [], [], [], [], []
    for place, strip in enumerate(memory.strips):
        low = place + height
        for cell in range(len(strip.share)):
            if not strip.share[cell]:
                continue
            grey = greys[int(strip.order[cell])]
            boxes.append((cell, cell + 1, low, low - height * strip.share[cell]))
            fills.append(grey)
            if strip.partial[cell]:
                slashes.append([(cell + 0.1, low - 0.05), (cell + 0.9, place + 0.05)])
                inks.append(_contrast(grey) if strip.share[cell] > 0.5 else "black")
            elif strip.pmd[cell]:
                dots.append((cell + 0.5, place + height / 2))
        ax.add_patch(_outline(strip.begin, strip.end, place, height))
    ax.add_collection(PolyCollection(_boxes(boxes), facecolors=fills, edgecolors="none", rasterized=True))
    ax.add_collection(LineCollection(slashes, colors=inks, linewidths=0.9))
    if dots:
        ax.scatter(*zip(*dots, strict=True), s=2.5, color="white", linewidths=0, zorder=3)
    ax.set_xlim(0, memory.width)
    ax.set_ylim(len(memory.strips), -0.2)
    page, cell = 1 << population.page_shift, memory.cell
    step = memory.width // 8
    ax.set_xticks(
        range(0, memory.width + 1, step),
        [format_size(at * cell * page) if at else "0" for at in range(0, memory.width + 1, step)],
    )
    ax.tick_params(axis="x", labelsize=_TEXT)
    ax.spines[["top", "right", "left", "bottom"]].set_visible(False)
    ax.set_title(
        f"all mapped memory: a cell is {format_size(cell * page)}, filled as far as it is mapped, "
        "in the grey of the order that maps most of it",
        fontsize=_TEXT + 1,
        loc="left",
    )
    ax.set_xlabel("offset in the row", fontsize=_TEXT)
    ax.set_ylabel("address of the row", fontsize=_TEXT)
    _row_labels(ax, memory.strips, population, names, height)
    _map_legend(body, population, memory)


def _outline(begin: float, end: float, place: float, height: float):
    from matplotlib.patches import Rectangle

    return Rectangle((begin, place), end - begin, height, facecolor="none", edgecolor="0.4", linewidth=0.4)


def _draw_detail(body, population: Population, memory, names: Mapping) -> None:
    """Each folio of a part of the memory as a box."""
    from matplotlib.collections import PolyCollection

    ax, height = body.subplots(), 0.8
    greys, detail = _order_greys(memory.orders), memory.detail
    for partial in (False, True):
        for ink in ("black", "white"):
            boxes, fills, dots = [], [], []
            for place, row in enumerate(detail.rows):
                for begin, end, order, is_partial, pmd in row.runs:
                    grey = greys[order]
                    if is_partial != partial or _contrast(grey) != ink:
                        continue
                    boxes.append((begin, end, place, place + height))
                    fills.append(grey)
                    if pmd:
                        dots.append(((begin + end) / 2, place + height / 2))
            ax.add_collection(
                PolyCollection(
                    _boxes(boxes),
                    facecolors=fills,
                    edgecolors=ink,
                    linewidths=0.5,
                    hatch="/////" if partial else None,
                )
            )
            if dots:
                ax.scatter(*zip(*dots, strict=True), s=8, color="white", linewidths=0, zorder=3)
    for place, row in enumerate(detail.rows):
        ax.add_patch(_outline(row.begin, row.end, place, height))
    ax.set_xlim(-0.3, detail.width + 0.3)
    ax.set_ylim(len(detail.rows), -0.2)
    ax.set_xticks(range(0, detail.width + 1, 16))
    ax.tick_params(axis="x", labelsize=_TEXT)
    ax.spines[["top", "right", "left", "bottom"]].set_visible(False)
    what = "most folios mapped in part" if detail.partial else "most large folios"
    ax.set_title(
        f"page by page, where there are {what} (a box is a folio, or order-0 pages in a row)",
        fontsize=_TEXT + 1,
        loc="left",
    )
    ax.set_xlabel("page in the row", fontsize=_TEXT)
    ax.set_ylabel("address of the row", fontsize=_TEXT)
    _row_labels(ax, detail.rows, population, names, height)
