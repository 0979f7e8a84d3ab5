"""A figure of what a population holds: folio orders by kind, and a map of the memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rmapfast._version import __version__
from rmapfast.contents import Detail, DetailRow, MemoryMap, Strip, memory_map
from rmapfast.plot.style import TEXT, WIDTH, captioned, fill, finished, open_frame
from rmapfast.population import Population
from rmapfast.support import format_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.patches import Rectangle

    from rmapfast.contents import Detail, DetailRow, MemoryMap, Strip

# Height of the boxes of a row, of 1 from row to row.
_HEIGHT = 0.8
# Letters of a VMA's name at the right of a row.
_LONGEST_NAME = 26

# Names of VMAs by mm and first virtual page.
_Names = Mapping[tuple[int, int], str]
# Left, right, bottom and top.
_Box = tuple[float, float, float, float]
_Point = tuple[float, float]


def description(
    population: Population, described: Mapping[str, Any], *, names: Mapping[tuple[int, int], str] | None = None
) -> Figure:
    """Draw folio orders by kind, and a map of the memory: all of it, and a part of it page by page.

    Parameters
    ----------
    population : Population
    described : mapping
        What :func:`rmapfast.describe` returned for it.
    names : mapping of (int, int) to str, optional
        Names of VMAs, by mm and first virtual page; :func:`rmapfast.contents.vma_names` has those of captures.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is not installed; the message has the pip command.

    Examples
    --------
    >>> import rmapfast as rf
    >>> population = rf.Population.synthetic("8MiB", orders=4)
    >>> figure = rf.plot.description(population, rf.describe(population))
    """
    memory = memory_map(population)
    heights = [2.8]
    if memory.strips:
        heights.append(1.05 + 0.125 * len(memory.strips))
    if memory.detail:
        heights.append(1.0 + 0.17 * len(memory.detail.rows))
    figure, (above, *below) = captioned(_caption(described, memory), heights, 165)
    figure.set_layout_engine("constrained", w_pad=0.12)
    _draw_orders_by_kind(above, described)
    if memory.strips:
        _draw_map(below[0], population, memory, names or {})
    if memory.detail:
        _draw_detail(below[1], population, memory.detail, _order_greys(memory.orders), names or {})
    # The long labels beside the rows move the axes, so the layout settles in the second pass.
    figure.draw_without_rendering()
    return finished(figure)


def _caption(described: Mapping[str, Any], memory: MemoryMap) -> str:
    words = [f"{described['source']}: {format_size(described['mapped_pages'] * described['page_size'])} mapped."]
    if described["vmas_unused"]:
        words.append(f"{described['vmas_unused']} VMAs without a mapped page are not drawn.")
    if memory.skipped:
        words.append(f"{memory.skipped:,} rows without a mapped page are left out.")
    words.append("Assumed: " + "; ".join(f"{name}: {value}" for name, value in described["assumptions"].items()) + ".")
    return " ".join([*words, f"rmapfast {__version__}."])


def _draw_orders_by_kind(part: SubFigure, described: Mapping[str, Any]) -> None:
    ax, kinds = part.subplots(), described["orders_by_kind"]
    orders, page = list(described["orders"]), described["page_size"]
    width = 0.85 / max(len(kinds), 1)
    for place, (kind, rows) in enumerate(kinds.items()):
        pages = [rows[order]["pages"] if order in rows else 0 for order in orders]
        shares = [100 * nr / max(described["pages"], 1) for nr in pages]
        lefts = [at + (place - (len(kinds) - 1) / 2) * width for at in range(len(orders))]
        folios = sum(row["folios"] for row in rows.values())
        label = f"{kind}: {format_size(sum(pages) * page)} in {folios:,} folio{'s' * (folios != 1)}"
        bars = ax.bar(lefts, shares, width, label=label, **fill(place))
        # Only where a bar is wide enough for a label.
        if width * (WIDTH - 1) * 72 / max(len(orders), 1) > 6 * 5:
            counts = [f"{rows[order]['folios']:,}" if order in rows else "" for order in orders]
            ax.bar_label(bars, counts, fontsize=TEXT - 1, padding=1)
    for border in range(len(orders) - 1):
        ax.axvline(border + 0.5, color="0.7", linestyle=":", linewidth=0.7)
    ax.set_xlim(-0.5, max(len(orders), 1) - 0.5)
    ax.set_xticks(range(len(orders)), [f"{order}\n{format_size(page << int(order))}" for order in orders])
    ax.set_title("folios by order and kind (on the bars: number of folios)", fontsize=TEXT + 2, loc="left")
    ax.set_xlabel("folio order, folio size", fontsize=TEXT)
    ax.set_ylabel("memory in folios (%)", fontsize=TEXT)
    ax.set_ylim(0, 115)
    ax.set_yticks(range(0, 101, 25))
    ax.tick_params(labelsize=TEXT)
    open_frame(ax)
    if kinds:
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1.12), ncols=4, fontsize=TEXT, frameon=False, borderaxespad=0)


# The map of all memory


def _draw_map(part: SubFigure, population: Population, memory: MemoryMap, names: _Names) -> None:
    """Draw a cell for a range of pages: the order that maps most of it, as high as the share that is mapped."""
    from matplotlib.collections import LineCollection, PolyCollection

    ax = part.subplots()
    greys = _order_greys(memory.orders)
    boxes: list[_Box] = []
    fills: list[str] = []
    slashes, inks = [], []
    dots: list[_Point] = []
    for place, strip in enumerate(memory.strips):
        low = place + _HEIGHT
        for cell in range(len(strip.share)):
            if not strip.share[cell]:
                continue
            grey = greys[int(strip.order[cell])]
            boxes.append((cell, cell + 1, low, low - _HEIGHT * strip.share[cell]))
            fills.append(grey)
            if strip.partial[cell]:
                slashes.append([(cell + 0.1, low - 0.05), (cell + 0.9, place + 0.05)])
                inks.append(_contrast(grey) if strip.share[cell] > 0.5 else "black")
            elif strip.pmd[cell]:
                dots.append((cell + 0.5, place + _HEIGHT / 2))
        ax.add_patch(_outline(strip.begin, strip.end, place))
    ax.add_collection(PolyCollection(_corners(boxes), facecolors=fills, edgecolors="none", rasterized=True))
    ax.add_collection(LineCollection(slashes, colors=inks, linewidths=0.9))
    _draw_dots(ax, dots, 2.5)
    ax.set_xlim(0, memory.width)
    ax.set_ylim(len(memory.strips), -0.2)
    page, cell = 1 << population.page_shift, memory.cell
    step = memory.width // 8
    ax.set_xticks(
        range(0, memory.width + 1, step),
        [format_size(at * cell * page) if at else "0" for at in range(0, memory.width + 1, step)],
    )
    ax.set_title(
        f"all mapped memory: a cell is {format_size(cell * page)}, filled as far as it is mapped, "
        "in the grey of the order that maps most of it",
        fontsize=TEXT + 1,
        loc="left",
    )
    ax.set_xlabel("offset in the row", fontsize=TEXT)
    _label_rows(ax, memory.strips, population, names)
    _draw_legend(part, population, memory)


def _draw_legend(part: SubFigure, population: Population, memory: MemoryMap) -> None:
    from matplotlib.artist import Artist
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Artist] = [
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
    part.legend(handles=handles, loc="outside upper center", ncols=columns, fontsize=TEXT, frameon=False)


# The part that is drawn page by page


def _draw_detail(
    part: SubFigure, population: Population, detail: Detail, greys: Mapping[int, str], names: _Names
) -> None:
    """Draw each folio of a part of the memory as a box."""
    from matplotlib.collections import PolyCollection

    ax = part.subplots()
    # A collection has one hatch and one colour of the lines.
    for partial in (False, True):
        for ink in ("black", "white"):
            boxes: list[_Box] = []
            fills: list[str] = []
            dots: list[_Point] = []
            for place, row in enumerate(detail.rows):
                for begin, end, order, is_partial, pmd in row.runs:
                    grey = greys[order]
                    if is_partial != partial or _contrast(grey) != ink:
                        continue
                    boxes.append((begin, end, place, place + _HEIGHT))
                    fills.append(grey)
                    if pmd:
                        dots.append(((begin + end) / 2, place + _HEIGHT / 2))
            ax.add_collection(
                PolyCollection(
                    _corners(boxes),
                    facecolors=fills,
                    edgecolors=ink,
                    linewidths=0.5,
                    hatch="/////" if partial else None,
                )
            )
            _draw_dots(ax, dots, 8)
    for place, row in enumerate(detail.rows):
        ax.add_patch(_outline(row.begin, row.end, place))
    ax.set_xlim(-0.3, detail.width + 0.3)
    ax.set_ylim(len(detail.rows), -0.2)
    ax.set_xticks(range(0, detail.width + 1, 16))
    what = "most folios mapped in part" if detail.partial else "most large folios"
    ax.set_title(
        f"page by page, where there are {what} (a box is a folio, or order-0 pages in a row)",
        fontsize=TEXT + 1,
        loc="left",
    )
    ax.set_xlabel("page in the row", fontsize=TEXT)
    _label_rows(ax, detail.rows, population, names)


# Both maps


def _order_greys(orders: list[int]) -> dict[int, str]:
    """Return a grey per order: light for order 0, darker with the order from there on; white is left for holes."""
    large = sorted(order for order in orders if order)
    step = 0.58 / max(len(large) - 1, 1)
    greys = {order: f"{0.7 - place * step:.2f}" for place, order in enumerate(large)} if len(large) > 1 else {}
    return {order: "0.88" if order == 0 else greys.get(order, "0.40") for order in sorted(orders)}


def _contrast(grey: str) -> str:
    """Return the colour of a line that can be seen on a grey."""
    return "black" if float(grey) > 0.45 else "white"


def _corners(boxes: Iterable[_Box]) -> list[tuple[_Point, ...]]:
    """Return the corners of rectangles."""
    return [((left, low), (right, low), (right, high), (left, high)) for left, right, low, high in boxes]


def _draw_dots(ax: Axes, points: list[_Point], size: float) -> None:
    """Mark what a PMD maps."""
    if points:
        ax.scatter([x for x, _ in points], [y for _, y in points], s=size, color="white", linewidths=0, zorder=3)


def _outline(begin: float, end: float, place: float) -> Rectangle:
    from matplotlib.patches import Rectangle

    return Rectangle((begin, place), end - begin, _HEIGHT, facecolor="none", edgecolor="0.4", linewidth=0.4)


def _label_rows(ax: Axes, rows: Iterable[Strip | DetailRow], population: Population, names: _Names) -> None:
    """Write the address of each row at the left, and the name of each VMA at the right where it begins."""
    several = len(population.vma_mm) and int(population.vma_mm.max()) > 0
    addresses: list[tuple[float, str]] = []
    texts: list[tuple[float, str]] = []
    before: int | None = None
    after_small = False
    for place, row in enumerate(rows):
        middle = place + _HEIGHT / 2
        if row.vma is None:
            addresses.append((middle, "" if after_small else "small VMAs"))
            after_small = True
            continue
        addresses.append((middle, f"{row.first << population.page_shift:#x}"))
        if row.vma != before or after_small:
            mm = int(population.vma_mm[row.vma])
            name = names.get((mm, int(population.vma_start[row.vma])), "")
            text = (name or "anonymous") + (f" (process {mm})" if several else "")
            texts.append((middle, text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 2] + ".."))
        before, after_small = row.vma, False
    ax.set_yticks([y for y, text in addresses if text], [text for _, text in addresses if text], fontsize=TEXT - 2)
    ax.tick_params(axis="x", labelsize=TEXT)
    ax.tick_params(axis="y", length=2)
    ax.spines[["top", "right", "left", "bottom"]].set_visible(False)
    ax.set_ylabel("address of the row", fontsize=TEXT)
    for y, text in texts:
        ax.text(1.005, y, text, transform=ax.get_yaxis_transform(), va="center", fontsize=TEXT - 2)
