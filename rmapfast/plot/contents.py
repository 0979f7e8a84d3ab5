"""A figure of what a population holds: folio orders by kind, and a map of the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, overload

from rmapfast._version import __version__
from rmapfast.contents import Detail, DetailRow, MemoryMap, Strip, memory_map
from rmapfast.plot.style import TEXT, WIDTH, Given, Look, captioned, contrast, finished, given_axes, open_frame
from rmapfast.population import Population
from rmapfast.support import format_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
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


@overload
def description(
    population: Population,
    described: Mapping[str, Any],
    *,
    names: Mapping[tuple[int, int], str] | None = None,
    ax: None = None,
    style: str = "colour",
) -> Figure: ...


@overload
def description(
    population: Population,
    described: Mapping[str, Any],
    *,
    names: Mapping[tuple[int, int], str] | None = None,
    ax: Given,
    style: str = "colour",
) -> Given: ...


def description(
    population: Population,
    described: Mapping[str, Any],
    *,
    names: Mapping[tuple[int, int], str] | None = None,
    ax: Any = None,
    style: str = "colour",
) -> Any:
    """Draw folio orders by kind, and a map of the memory: all of it, and a part of it page by page.

    Parameters
    ----------
    population : Population
    described : mapping
        What :func:`rmapfast.describe` returned for it.
    names : mapping of (int, int) to str, optional
        Names of VMAs, by mm and first virtual page; :func:`rmapfast.contents.vma_names` has those of captures.
    ax : matplotlib.axes.Axes, or a sequence of them, optional
        Where to draw: the orders, the map of all memory, and the part, in this order; of fewer axes the first ones are
        drawn. By default a figure of its own with a caption.
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
    >>> population = rf.Population.synthetic("8MiB", orders=4)
    >>> figure = rf.plot.description(population, rf.describe(population))
    """
    look, memory = Look(style), memory_map(population)
    panels: list[tuple[float, Callable[[Axes, bool], None]]] = [
        (2.8, lambda ax, _: _draw_orders_by_kind(ax, described, look))
    ]
    if memory.strips:
        height = 1.05 + 0.125 * len(memory.strips)
        panels.append((height, lambda ax, own: _draw_map(ax, own, population, memory, look, names or {})))
    if detail := memory.detail:
        height = 1.0 + 0.17 * len(detail.rows)
        colours = look.of_orders(memory.orders)
        panels.append((height, lambda ax, _: _draw_detail(ax, population, detail, colours, names or {})))
    if ax is not None:
        axes = given_axes(ax, 1, len(panels), "one per panel")
        for panel, (_, draw) in zip(axes, panels, strict=False):
            draw(panel, False)
        return ax
    figure, parts = captioned(_caption(described, memory), [height for height, _ in panels], 165)
    figure.set_layout_engine("constrained", w_pad=0.12)
    for part, (_, draw) in zip(parts, panels, strict=True):
        draw(part.subplots(), True)
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


def _draw_orders_by_kind(ax: Axes, described: Mapping[str, Any], look: Look) -> None:
    kinds = described["orders_by_kind"]
    orders, page = list(described["orders"]), described["page_size"]
    width = 0.85 / max(len(kinds), 1)
    for place, (kind, rows) in enumerate(kinds.items()):
        pages = [rows[order]["pages"] if order in rows else 0 for order in orders]
        shares = [100 * nr / max(described["pages"], 1) for nr in pages]
        lefts = [at + (place - (len(kinds) - 1) / 2) * width for at in range(len(orders))]
        folios = sum(row["folios"] for row in rows.values())
        label = f"{kind}: {format_size(sum(pages) * page)} in {folios:,} folio{'s' * (folios != 1)}"
        bars = ax.bar(lefts, shares, width, label=label, **look.fill(place))
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


def _draw_map(ax: Axes, own: bool, population: Population, memory: MemoryMap, look: Look, names: _Names) -> None:
    """Draw a cell for a range of pages: the order that maps most of it, as high as the share that is mapped.

    The legend stands above the part of a figure of our `own`, else above the axes.
    """
    from matplotlib.collections import LineCollection, PolyCollection

    colours = look.of_orders(memory.orders)
    boxes: list[_Box] = []
    fills: list[str] = []
    slashes, inks = [], []
    dots: list[_Point] = []
    for place, strip in enumerate(memory.strips):
        low = place + _HEIGHT
        for cell in range(len(strip.share)):
            if not strip.share[cell]:
                continue
            colour = colours[int(strip.order[cell])]
            boxes.append((cell, cell + 1, low, low - _HEIGHT * strip.share[cell]))
            fills.append(colour)
            if strip.partial[cell]:
                slashes.append([(cell + 0.1, low - 0.05), (cell + 0.9, place + 0.05)])
                inks.append(contrast(colour) if strip.share[cell] > 0.5 else "black")
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
        "in the shade of the order that maps most of it",
        fontsize=TEXT + 1,
        loc="left",
    )
    ax.set_xlabel("offset in the row", fontsize=TEXT)
    _label_rows(ax, memory.strips, population, names)
    _draw_legend(ax, own, population, memory, look)


def _draw_legend(ax: Axes, own: bool, population: Population, memory: MemoryMap, look: Look) -> None:
    from matplotlib.artist import Artist
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Artist] = [
        Patch(
            facecolor=colour,
            edgecolor="black",
            linewidth=0.6,
            label=f"order {order} ({format_size(1 << order + population.page_shift)})",
        )
        for order, colour in look.of_orders(memory.orders).items()
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
    if own:
        ax.figure.legend(handles=handles, loc="outside upper center", ncols=columns, fontsize=TEXT, frameon=False)
    else:
        ax.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(0, 1.12),
            borderaxespad=0,
            ncols=columns,
            fontsize=TEXT,
            frameon=False,
        )


# The part that is drawn page by page


def _draw_detail(ax: Axes, population: Population, detail: Detail, colours: Mapping[int, str], names: _Names) -> None:
    """Draw each folio of a part of the memory as a box."""
    from matplotlib.collections import PolyCollection

    # A collection has one hatch and one colour of the lines.
    for partial in (False, True):
        for ink in ("black", "white"):
            boxes: list[_Box] = []
            fills: list[str] = []
            dots: list[_Point] = []
            for place, row in enumerate(detail.rows):
                for begin, end, order, is_partial, pmd in row.runs:
                    colour = colours[order]
                    if is_partial != partial or contrast(colour) != ink:
                        continue
                    boxes.append((begin, end, place, place + _HEIGHT))
                    fills.append(colour)
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
