"""A sweep as text: tables over two of its axes (also for plots), what failed, what moves the gain, what differs."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rmapfast.events import EVENT_NAMES
from rmapfast.support import closest, format_size, number
from rmapfast.sweeps.points import counts_of
from rmapfast.sweeps.run import Sweep, policy_dimension
from rmapfast.sweeps.space import Axis, Dimension, Space, label, parameters

# Of the terminal.
_WIDTH = 100
_MOST_ROWS = 24
_MOST_FACETS = 8
# From the lowest value to the highest.
_SHADES = " .:-=+*#%@"


@dataclass(frozen=True)
class View:
    """Tables of one output over two axes, or over one.

    Parameters
    ----------
    label : str
        The output.
    x, y : Dimension
        Along the columns and the rows; `y` is None of a table with one row.
    facets : list of (str, ndarray of shape (rows, columns))
        A table per step of the other axes, with the words that say which; NaN where there is no value.
    """

    label: str
    x: Dimension
    y: Dimension | None
    facets: list[tuple[str, np.ndarray]]


def steps(dimension: Dimension) -> list[str]:
    """Return what each step of a dimension is called: after its first axis, or all if that does not tell them apart."""
    labels = [[_word(one) for one in axis.labels.tolist()] for axis in shown_axes(dimension)]
    return ["/".join(words) for words in zip(*labels, strict=True)]


def _word(value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def shown_axes(dimension: Dimension) -> tuple[Axis, ...]:
    """Return the axes after which the steps of a dimension are called."""
    first = dimension.axes[0]
    tells = dimension.name == first.name and len(set(first.labels.tolist())) == len(dimension)
    return (first,) if tells else dimension.axes


def title(dimension: Dimension) -> str:
    """Return the name of a dimension with its unit."""
    names = "/".join(axis.name for axis in shown_axes(dimension))
    units = {axis.unit for axis in shown_axes(dimension)}
    unit = next(iter(units)) if len(units) == 1 else ""
    return f"{names} ({unit})" if unit not in ("", "1") else names


def value_of(sweep: Sweep, name: str | None = None) -> tuple[np.ndarray, str]:
    """Return an output at all points, and what it is called.

    Parameters
    ----------
    sweep : Sweep
    name : str, optional
        ``gain``, ``per_page``, ``predicted``, a component of the prediction or an event, both per reclaimed page; by
        default the gain if there are policies to compare, else the prediction per page, else ``walk_pte_reads``.

    Raises
    ------
    ValueError
        If the sweep has no such output.
    """
    prices, along = sweep.prices, policy_dimension(sweep.space)
    unit = prices.unit
    known = [*EVENT_NAMES]
    if unit:
        several = along is not None and len(sweep.space.dimensions[along]) > 1
        known = [*(["gain"] if several else []), "per_page", "predicted", *prices.breakdown, *known]
    name = name or (known[0] if unit else "walk_pte_reads")
    if name not in known:
        raise ValueError(f"value: no output {name!r} in this sweep{closest(name, known)}; it has {', '.join(known)}")
    if name == "gain":
        return prices.gain, "predicted gain per reclaimed page"
    if name == "per_page":
        return prices.per_page, f"predicted {unit} per reclaimed page"
    if name == "predicted":
        return prices.predicted, f"predicted {unit}"
    pages = _of_records(sweep, lambda record: record["reclaimed_pages"] or math.nan)
    if name in prices.breakdown:
        return prices.breakdown[name] / pages, f"predicted {unit} of {name} per reclaimed page"
    index = EVENT_NAMES.index(name)
    return _of_records(sweep, lambda record: counts_of(record, "events")[index]) / pages, f"{name} per reclaimed page"


def _of_records(sweep: Sweep, value) -> np.ndarray:
    """A value of each record at all points."""
    array = np.full([n if at in sweep.structural else 1 for at, n in enumerate(sweep.space.shape)], np.nan)
    for index, key in sweep.simulations.items():
        record = sweep.records.get(key)
        if record and "error" not in record:
            array[index] = value(record)
    return np.where(sweep.space.kept, array, np.nan)


def chosen_steps(space: Space, at: Mapping[str, str]) -> dict[int, int]:
    """Return the number of the step that each name means, by the number of the dimension.

    Raises
    ------
    ValueError
        If the space has no such axis or step.
    """
    chosen = {}
    for name, word in at.items():
        along = space.along(name)
        words = steps(space.dimensions[along])
        if str(word) not in words:
            raise ValueError(f"{name}: no step {word!r}{closest(word, words)}; it has {', '.join(words)}")
        chosen[along] = words.index(str(word))
    return chosen


def view(
    sweep: Sweep,
    *,
    value: str | None = None,
    x: str | None = None,
    y: str | None = None,
    at: Mapping[str, str] | None = None,
) -> View:
    """Return the tables of an output.

    Parameters
    ----------
    sweep : Sweep
    value : str, optional
        See :func:`value_of`.
    x, y : str, optional
        Axes along the columns and rows; by default the last two that have several steps.
    at : mapping of str to str, optional
        Of further axes, the step to show.

    Raises
    ------
    ValueError
        If the sweep has no such output, axis or step.
    """
    space = sweep.space
    array, output = value_of(sweep, value)
    chosen = chosen_steps(space, at or {})
    policies = policy_dimension(space)
    skipped = policies if output.startswith("predicted gain") else None
    several = [n for n, size in enumerate(space.shape) if size > 1 and n not in chosen]
    wanted = [None if name is None else space.along(name) for name in (x, y)]
    free = [n for n in several if n not in wanted and n != skipped] or [n for n in several if n not in wanted]
    across = wanted[0] if wanted[0] is not None else free.pop() if free else None
    down = wanted[1] if wanted[1] is not None else free.pop() if free and free[-1] != skipped else None
    if across is None:
        across = wanted[1] if wanted[1] is not None else 0 if space.shape else None
        down = None
    if across is None:
        raise ValueError("sweep: one point has no axis to show")
    if across == down:
        raise ValueError(f"x and y: expected two axes, got {space.dimensions[across].name!r} twice")
    others = [n for n in range(len(space.shape)) if n not in (across, down)]
    ranges = [
        [chosen[n]] if n in chosen else range(1, space.shape[n]) if n == skipped else range(space.shape[n])
        for n in others
    ]
    facets = []
    for index in itertools.product(*ranges):
        place = [slice(None)] * array.ndim
        for n, step in zip(others, index, strict=True):
            place[n] = step
        table = array[tuple(place)]
        table = table[None] if down is None else table if down < across else table.T
        words = [
            f"{'/'.join(axis.name for axis in shown_axes(space.dimensions[n]))} {steps(space.dimensions[n])[step]}"
            for n, step in zip(others, index, strict=True)
            if space.shape[n] > 1
        ]
        if not np.isnan(table).all():
            facets.append((", ".join(words), table))
    return View(output, space.dimensions[across], None if down is None else space.dimensions[down], facets)


def heatmap_text(shown: View) -> str:
    """Return the tables as plain text of at most 100 columns, each cell with a shade from low to high."""
    if not shown.facets:
        return f"{shown.label}: no point has a value"
    low, high = (extreme(np.concatenate([table.ravel() for _, table in shown.facets])) for extreme in (_least, _most))
    across, down = steps(shown.x), steps(shown.y) if shown.y else [""]
    head = title(shown.y) if shown.y else ""
    cells = [[[_cell(value, low, high) for value in row] for row in table] for _, table in shown.facets]
    width = max(map(len, [*across, *itertools.chain(*itertools.chain(*cells))])) + 2
    left = max(map(len, [*down, head]))
    columns = _spread(len(across), max((_WIDTH - left) // width, 1))
    rows = _spread(len(down), _MOST_ROWS)
    lines = [f"{shown.label}, from {number(low)} (blank) to {number(high)} ({_SHADES[-1]})"]
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


def _least(values: np.ndarray) -> float:
    return float(np.nanmin(values))


def _most(values: np.ndarray) -> float:
    return float(np.nanmax(values))


def _cell(value: float, low: float, high: float) -> str:
    if math.isnan(value):
        return "-  "
    share = (value - low) / (high - low) if high > low else 1.0
    shade = _SHADES[round(share * (len(_SHADES) - 1))]
    return f"{_signed(value)} {shade}"


def _spread(count: int, most: int) -> list[int]:
    """Numbers of at most so many steps, evenly spread, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(at * (count - 1) / max(most - 1, 1)) for at in range(most)})


# A sweep as text

_MOST_FAILURES = 5


def where(sweep: Sweep, index: tuple[int, ...], numbers=None) -> str:
    """Return the words for a point: its step along each dimension, or along those given."""
    dimensions = sweep.space.dimensions
    numbers = range(len(dimensions)) if numbers is None else numbers
    named = [
        f"{axis.name} {_word(axis.labels[index[number]].item())}"
        for number in numbers
        for axis in dimensions[number].axes
    ]
    return ", ".join(named) or "the point"


def summary(sweep: Sweep) -> list[str]:
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


def _fixed(name: str, value) -> str:
    sized = type(value) is int and parameters()[name][1] == "bytes"
    return f"{name} {format_size(value) if sized else label(value)}"


def summary_text(sweep: Sweep) -> str:
    """Return :func:`summary` as lines of at most 100 columns."""
    return "\n".join(part for line in summary(sweep) for part in textwrap.wrap(line, _WIDTH, subsequent_indent="  "))


def one_point(sweep: Sweep) -> str:
    """Return the prediction of a sweep without axes."""
    prices = sweep.prices
    if not prices.unit or np.isnan(prices.predicted).any():
        return "no point has a price"
    value, low, high, page = (float(one) for one in (prices.predicted, prices.low, prices.high, prices.per_page))
    unit = prices.unit
    return f"predicted {value:.4g} {unit} ({low:.4g} to {high:.4g}), {page:.4g} {unit} per reclaimed page"


def ranking_table(ranking) -> str:
    """Return a :class:`rmapfast.sweeps.sensitivity.Ranking` as a plain table."""
    words = [("axis", "lowest at", "value", "highest at", "value", "swing", "total order")]
    for one in ranking.effects:
        total = "-" if one.total is None else f"{one.total:.3f} +- {one.confidence:.3f}"
        low, high = ((step, _signed(value)) for step, value in (one.lowest, one.highest))
        words.append((one.axis, *low, *high, _signed(one.swing), total))
    widths = [max(len(row[at]) for row in words) for at in range(len(words[0]))]
    base = ", ".join(f"{name} {step}" for name, step in ranking.base.items())
    lines = [f"what moves the {ranking.output}"]
    lines += textwrap.wrap(f"one axis at a time, from {base}, where it is {_signed(ranking.base_value)}", _WIDTH)
    lines.append("total order: share of the variance over all points that the axis has a part in (Sobol)")
    lines.append("")
    for row in words:
        cells = [
            f"{row[0]:<{widths[0]}}",
            *(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines + (["", ranking.note] if ranking.note else []))


def differences_table(differences) -> str:
    """Return numbers that are not what they were as a plain table of at most 20 lines."""
    lines = [f"{one.where}: {one.name} was {one.before}, is {one.now}" for one in differences[:20]]
    if len(differences) > 20:
        lines.append(f"... and {len(differences) - 20} more")
    return "\n".join(lines)


def _signed(value: float) -> str:
    return number(value) if value >= 0 else "-" + number(-value)
