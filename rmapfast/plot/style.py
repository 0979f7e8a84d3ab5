"""What all figures share: sizes, fills, and the caption below the panels."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, TypedDict

from rmapfast.comparison import Comparison
from rmapfast.cost import LEVEL
from rmapfast.reports import assumed, run_lines, without_price
from rmapfast.support import format_size, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# Width of a figure in inches.
WIDTH = 10.0
# Points: the size of the text, and the distance of two lines of it.
TEXT = 8.0
LINE = 11.0

MARKERS = "os^Dv<>PX*"
DASHES = ("-", "--", "-.", ":")

# Grey and hatch per component and per policy. Greys and hatches alternate, so that neighbours differ in print.
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
    ("0.85", "oo"),
    ("0.6", "xx"),
)
NR_FILLS = len(_FILLS)


class Fill(TypedDict):
    """How a bar is filled, as arguments of a matplotlib patch."""

    facecolor: str
    hatch: str
    edgecolor: str
    linewidth: float


def fill(number: int) -> Fill:
    """Return the fill of that number; they repeat after the last one."""
    grey, hatch = _FILLS[number % NR_FILLS]
    return {"facecolor": grey, "hatch": hatch, "edgecolor": "black", "linewidth": 0.6}


def require_matplotlib() -> None:
    """Raise ImportError with the pip command if matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ImportError("plots need matplotlib; install it with: pip install 'rmapfast[plot]'") from None


def captioned(text: str, heights: list[float], width: int = 185) -> tuple[Figure, list[SubFigure]]:
    """Return a figure above a caption of `width` letters per line, and its parts, one per height (inches)."""
    require_matplotlib()
    from matplotlib.figure import Figure

    lines = textwrap.wrap(text, width, break_on_hyphens=False)
    caption = (len(lines) + 1) * LINE / 72
    figure = Figure(figsize=(WIDTH, sum(heights) + caption), layout="constrained", facecolor="white")
    *parts, foot = figure.subfigures(len(heights) + 1, 1, height_ratios=[*heights, caption], squeeze=False).flat
    foot.text(0.01, 0.9, "\n".join(lines), va="top", fontsize=TEXT - 0.5, in_layout=False)
    return figure, parts


def runs_caption(comparison: Comparison) -> str:
    """Return the sources of the runs, their memory, prices, assumptions, versions and arguments as one paragraph."""
    first = comparison.runs[0].population
    words = [f"[{number}] {source}." for number, source in enumerate(comparison.sources, 1)]
    words += [f"{first['source']}, {format_size(first['bytes'])}."] if comparison.same_memory else []
    if vectors := comparison.cost_vectors():
        priced = ", ".join(f"{name} ({vector.unit})" for name, vector in vectors.items())
        words.append(f"Predicted, not measured; intervals: {100 * LEVEL:.0f}%; cost vectors: {priced}.")
    silent = {arch: without_price(comparison, arch) for arch in comparison.by_arch()}
    words += [f"{arch}: {line}." for arch, line in silent.items() if line]
    words += assumed(comparison)
    if all("seed" not in run.population["assumptions"] for run in comparison.runs):
        words.append("seed: none.")
    return " ".join([*words, *(f"{line}." for line in run_lines(comparison))])


def finished(figure: Figure) -> Figure:
    """Return the figure with its layout fixed, so that it looks the same in every format.

    Control characters of names are shown as escapes: an SVG with them is no XML.
    """
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_text("\n".join(map(printable, text.get_text().split("\n"))))
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def open_frame(ax: Axes) -> None:
    """Draw the axes without the lines at the top and at the right."""
    ax.spines[["top", "right"]].set_visible(False)
