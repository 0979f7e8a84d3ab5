"""A sweep as text: tables over two of its axes, what failed, what moves the gain."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import numpy as np

from rmapfast.support import WIDTH, between, folded, format_size, number, signed
from rmapfast.sweeps.axes import label, word
from rmapfast.sweeps.data import SweepData
from rmapfast.sweeps.outputs import steps, title
from rmapfast.sweeps.parameter import Value, parameters
from rmapfast.sweeps.views import View

# Limits of a text: rows of a table, tables, and failures that are named.
_MOST_ROWS = 24
_MOST_FACETS = 8
_MOST_FAILURES = 5
# Shades of a cell, from the lowest value to the highest.
_SHADES = " .:-=+*#%@"


def heatmap_text(shown: View) -> str:
    """Return the tables as plain text of at most 80 columns, each cell with a shade from low to high."""
    if not shown.facets:
        return f"{shown.label}: no point has a value"
    values = np.concatenate([table.ravel() for _, table in shown.facets])
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    across, down = steps(shown.x), steps(shown.y) if shown.y else [""]
    head = title(shown.y) if shown.y else ""
    cells = [
        [
            [f"{cell(shown, place, at, on)} {_shade(value, low, high)}" for on, value in enumerate(row)]
            for at, row in enumerate(table)
        ]
        for place, (_, table) in enumerate(shown.facets)
    ]
    width = max(map(len, [*across, *itertools.chain(*itertools.chain(*cells))])) + 2
    left = max(map(len, [*down, head]))
    columns = spread(len(across), max((WIDTH - left) // width, 1))
    rows = spread(len(down), _MOST_ROWS)
    lines = [f"{shown.label}, from {number(low)} (blank) to {number(high)} ({_SHADES[-1]})"]
    lines += [f"bounds: {shown.bounds_are}"] if shown.bounds else []
    for name, shown_of, total in ((title(shown.x), columns, len(across)), (head, rows, len(down))):
        if len(shown_of) < total:
            lines.append(f"{name}: {len(shown_of)} of {total} steps are shown")
    for (words, _), table in list(zip(shown.facets, cells, strict=True))[:_MOST_FACETS]:
        lines += ["", words] if words else [""]
        lines.append(f"{'':<{left}}  {title(shown.x)}")
        lines.append(f"{head:<{left}}" + "".join(f"{across[at]:>{width}}" for at in columns))
        lines += [f"{down[at]:<{left}}" + "".join(f"{table[at][on]:>{width}}" for on in columns) for at in rows]
    if len(shown.facets) > _MOST_FACETS:
        lines += ["", f"... and {len(shown.facets) - _MOST_FACETS} more tables; --at AXIS=STEP chooses"]
    return "\n".join(line.rstrip() for line in lines)


def cell(shown: View, place: int, at: int, on: int) -> str:
    """Return a value of a table as text, with its bounds if it is a mean.

    Parameters
    ----------
    shown : View
    place, at, on : int
        Number of the table, the row and the column.
    """
    value = float(shown.facets[place][1][at, on])
    if math.isnan(value):
        return "-"
    if not shown.bounds:
        return signed(value)
    low, high = (float(bound[at, on]) for bound in shown.bounds[place])
    if math.isnan(low):
        return signed(value)
    return f"{signed(value)} +-{high - value:.2g}" if shown.by_error else f"{signed(value)} ({between((low, high))})"


def _shade(value: float, low: float, high: float) -> str:
    if math.isnan(value):
        return " "
    share = (value - low) / (high - low) if high > low else 1.0
    return _SHADES[round(share * (len(_SHADES) - 1))]


def spread(count: int, most: int) -> list[int]:
    """Return the numbers of at most so many steps, evenly spread, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(at * (count - 1) / max(most - 1, 1)) for at in range(most)})


def where(sweep: SweepData, index: tuple[int, ...], numbers: Iterable[int] | None = None) -> str:
    """Return the words for a point: its step along each dimension, or along those given."""
    dimensions = sweep.space.dimensions
    numbers = range(len(dimensions)) if numbers is None else numbers
    named = [
        f"{axis.name} {word(axis.labels[index[number]].item())}"
        for number in numbers
        for axis in dimensions[number].axes
    ]
    return ", ".join(named) or "the point"


def summary(sweep: SweepData) -> list[str]:
    """Return sentences that say how large the sweep is, what it has in common, and which points failed."""
    statuses = [sweep.status(index) for index in sweep.simulations]
    done = f"{statuses.count('done'):,} of {len(statuses):,} structural points done"
    axes = " x ".join(f"{'/'.join(axis.name for axis in one.axes)} [{len(one)}]" for one in sweep.space.dimensions)
    lines = [f"sweep: {axes or 'one point'}: {sweep.points:,} points, {done}"]
    if (dropped := math.prod(sweep.space.shape) - sweep.points) > 0:
        lines[0] += f", {dropped:,} dropped by constraints"
    if sweep.space.fixed:
        lines.append("fixed: " + ", ".join(_fixed(name, value) for name, value in sweep.space.fixed.items()))
    failures = sweep.failures
    for index, error in list(failures.items())[:_MOST_FAILURES]:
        lines.append(f"failed: {where(sweep, index, sweep.structural)}: {error}")
    if len(failures) > _MOST_FAILURES:
        lines.append(f"... and {len(failures) - _MOST_FAILURES} more failed; the column 'error' has them all")
    return lines


def _fixed(name: str, value: Value) -> str:
    if type(value) is int and parameters()[name].unit == "bytes":
        return f"{name} {format_size(value)}"
    return f"{name} {label(value)}"


def summary_text(sweep: SweepData) -> str:
    """Return :func:`summary` as lines of at most 80 columns."""
    return "\n".join(part for line in summary(sweep) for part in folded(line))


def one_point(sweep: SweepData) -> str:
    """Return the prediction of a sweep without axes."""
    prices = sweep.prices
    if not prices.unit or np.isnan(prices.predicted).any():
        return "no point has a price"
    value, low, high, page = (float(one) for one in (prices.predicted, prices.low, prices.high, prices.per_page))
    unit = prices.unit
    return f"predicted {value:.4g} {unit} ({low:.4g} to {high:.4g}), {page:.4g} {unit} per reclaimed page"
