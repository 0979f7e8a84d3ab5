"""What all figures share: sizes, fills, and the caption below the panels."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

import numpy as np

from rmapfast.comparison import Comparison
from rmapfast.cost import LEVEL
from rmapfast.reports import assumed, run_lines, without_price
from rmapfast.support import checked_choice, format_size, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure, SubFigure

# Width of a figure in inches.
WIDTH = 10.0
# Points: the size of the text, and the distance of two lines of it.
TEXT = 8.0
LINE = 11.0

# Of figures: in colours that most people with colour blindness can tell apart, or in greys and hatches.
STYLES = ("colour", "print")

_MARKERS = "os^Dv<>PX*"
_DASHES = ("-", "--", "-.", ":")

# Okabe and Ito, "Color Universal Design" (2008). Neighbours differ in lightness too.
_BLUE, _ORANGE, _GREEN, _SKY, _VERMILLION, _YELLOW, _PURPLE = (
    "#0072b2", "#e69f00", "#009e73", "#56b4e9", "#d55e00", "#f0e442", "#cc79a7"
)  # fmt: skip
# Colour and hatch per component, in their order, and per policy; those that most runs have are without a hatch.
_COLOURS = (
    (_BLUE, ""),
    (_ORANGE, ""),
    (_GREEN, ""),
    (_PURPLE, ""),
    (_VERMILLION, ""),
    (_YELLOW, ""),
    (_BLUE, "////"),
    (_ORANGE, "////"),
    (_GREEN, "////"),
    (_PURPLE, "////"),
    (_SKY, ""),
    (_VERMILLION, "////"),
    ("#555555", ""),
)
# Those that can be seen as a thin line on white.
_INKS = (_BLUE, _VERMILLION, _GREEN, _PURPLE, _ORANGE, _SKY, "#000000")
# Grey and hatch per component and per policy. Greys and hatches alternate, so that neighbours differ in print.
_GREYS = (
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
NR_FILLS = len(_GREYS)


# What a user gives as the axes of a figure's panels: one, or an array or a sequence of them. It is returned.
Given = TypeVar("Given")


class Fill(TypedDict):
    """How a bar is filled, as arguments of a matplotlib patch."""

    facecolor: str
    hatch: str
    edgecolor: str
    linewidth: float


class Stroke(TypedDict):
    """How a line is drawn, as arguments of a matplotlib line."""

    color: str
    linestyle: str
    marker: str


@dataclass(frozen=True)
class Look:
    """How a figure looks in one of the styles.

    Parameters
    ----------
    style : {'colour', 'print'}

    Raises
    ------
    ValueError
        For another style.
    """

    style: str

    def __post_init__(self) -> None:
        """Check the style."""
        checked_choice("style", self.style, STYLES)

    @property
    def printed(self) -> bool:
        """Whether it has greys and hatches alone."""
        return self.style == "print"

    def fill(self, number: int) -> Fill:
        """Return the fill of that number; they repeat after the last one."""
        colour, hatch = (_GREYS if self.printed else _COLOURS)[number % NR_FILLS]
        return {"facecolor": colour, "hatch": hatch, "edgecolor": "black", "linewidth": 0.6}

    def stroke(self, number: int, of: int) -> Stroke:
        """Return how the line of that number is drawn, of so many lines."""
        marker = _MARKERS[number % len(_MARKERS)]
        if self.printed:
            grey = 0.55 * number / max(of - 1, 1)
            return {"color": f"{grey:.2f}", "linestyle": _DASHES[number % len(_DASHES)], "marker": marker}
        dashes = _DASHES[number // len(_INKS) % len(_DASHES)]
        return {"color": _INKS[number % len(_INKS)], "linestyle": dashes, "marker": marker}

    def shades(self) -> Colormap:
        """Return the colours of a heatmap from the lowest value to the highest, on all of which text can be read."""
        from matplotlib import colormaps
        from matplotlib.colors import LinearSegmentedColormap

        if self.printed:
            return LinearSegmentedColormap.from_list("greys", ["1.0", "0.5"])
        return colormaps["cividis"]

    def of_orders(self, orders: Iterable[int]) -> dict[int, str]:
        """Return a colour per folio order: light for order 0, darker with the order; white is left for holes."""
        from matplotlib import colormaps
        from matplotlib.colors import to_hex

        large = sorted(order for order in orders if order)
        step = 1 / max(len(large) - 1, 1)
        at = {order: place * step if len(large) > 1 else 0.5 for place, order in enumerate(large)}
        if self.printed:
            colours = {order: f"{0.7 - 0.58 * share:.2f}" for order, share in at.items()}
        else:
            colours = {order: to_hex(colormaps["cividis"](0.85 * (1 - share))) for order, share in at.items()}
        return {order: "0.88" if order == 0 else colours[order] for order in sorted(orders)}


def contrast(colour: Any) -> str:
    """Return the colour of a text or line that can be seen on a colour, ``black`` or ``white``."""
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(colour)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.45 else "white"


def drawn_before(ax: Axes) -> int:
    """Return how many lines with a name axes have, so that the next ones look different."""
    return len(ax.get_legend_handles_labels()[0])


def given_axes(ax: Axes | Iterable[Axes], least: int, most: int, what: str) -> list[Axes]:
    """Return the axes that a user gave for a figure's panels.

    Parameters
    ----------
    ax : Axes, or an array or a sequence of them
    least, most : int
        How many there may be.
    what : str
        What the panels are, for the error.

    Raises
    ------
    TypeError, ValueError
        If it is something else, or another number of them.
    """
    require_matplotlib()
    from matplotlib.axes import Axes as MatplotlibAxes

    try:
        flat = [ax] if isinstance(ax, MatplotlibAxes) else np.asarray(ax, object).ravel().tolist()
    except TypeError:
        flat = [None]
    if not all(isinstance(one, MatplotlibAxes) for one in flat):
        raise TypeError(f"ax: expected matplotlib axes, got {ax!r}")
    if not least <= len(flat) <= most:
        number = str(most) if least == most else f"{least} to {most}"
        raise ValueError(f"ax: expected {number} axes, {what}, got {len(flat)}")
    return flat


def require_matplotlib() -> None:
    """Raise ImportError with the pip command if matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ImportError("plots need matplotlib; install it with: pip install 'rmapfast[plot]'") from None


def captioned(text: str, heights: list[float], width: int = 185) -> tuple[Figure, list[SubFigure]]:
    """Return a figure above a caption of `width` letters per line, and its parts, one per height (inches)."""
    require_matplotlib()
    from rmapfast.plot.figure import Figure

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
