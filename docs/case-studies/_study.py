"""What the case studies share: arguments, runs, prices with their ranges, Markdown pages and figures.

A study is a script with ``main(argv)``: it simulates, writes ``NAME.md`` and its figures, and returns the numbers that
its answer states. Every number on a page is computed by the script that writes the page.
"""

from __future__ import annotations

import argparse
import math
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

import rmapfast as rf
from rmapfast import arch as _arch
from rmapfast import cost, plot
from rmapfast.cost import LEVEL, CostVector, Range
from rmapfast.events import COMPONENTS, EVENT_NAMES
from rmapfast.support import format_size, parse_size

HERE = Path(__file__).resolve().parent
THREAD = "[PATCH v5 5/5] mm: rmap: support batched unmapping for file large folios"
# In the order of the index.
NAMES = (
    "folio_order",
    "batch_length",
    "rescan",
    "uffd_wp",
    "anon_swap",
    "page_size",
    "tlb_flush",
    "pageout_no_swap",
    "look_around",
)
# Cost vectors by architecture: nanoseconds of a machine, instructions of a kernel build.
NS = {"x86-64": "x86-64", "arm64-4k": "arm64-4k"}
INSTRUCTIONS = {"x86-64": "ab-7.2.13", "arm64-4k": "arm64-7.2"}
SEED = 0
SAMPLES = 1000

GREYS = ("0.0", "0.35", "0.55", "0.2", "0.45", "0.65")
MARKERS = "os^Dv<>PX*"
DASHES = ("-", "--", "-.", ":", (0, (3, 1, 1, 1, 1, 1)), (0, (7, 1)))
FILLS = (("0.25", ""), ("1.0", "////"), ("0.65", ""), ("1.0", "...."), ("0.85", "\\\\\\\\"), ("0.45", ""))
TEXT = 8.5


# Runs


def reclaim(population, policy, arch, share: float = 0.8, **options) -> rf.Result:
    """Reclaim a share of a population's memory, without changing it."""
    target = int(population.nr_pages * share) << population.page_shift
    return rf.reclaim(population, max(target, 1), policy=policy, arch=arch, **options)


def synthetic(arch: str, size: int, order: int, *, folios: int = 5, **options) -> rf.Population:
    """A synthetic population of one order, of at least so many folios."""
    page_size = _arch.get(arch).page_size
    return rf.Population.synthetic(
        max(size, folios * page_size << order), arch=arch, orders=order, seed=SEED, **options
    )


def per_page(result: rf.Result) -> np.ndarray:
    """Events per reclaimed base page, float64 of shape (len(EVENT_NAMES),)."""
    return result.events.counts / result.reclaimed_pages


def at(counts: np.ndarray, *events: str) -> float:
    """The sum of some events in an array of counts."""
    return float(sum(counts[EVENT_NAMES.index(event)] for event in events))


# Prices


def text(found: Range, form: str = ".0f") -> str:
    """``value (low to high)``."""
    return f"{found.value:{form}} ({found.low:{form}} to {found.high:{form}})"


def price(counts: np.ndarray, vector: CostVector) -> Range:
    """Price events with a vector, with the interval of the prediction."""
    prediction = vector.price(counts)
    return Range(prediction.value, *prediction.interval)


def change(before: np.ndarray, after: np.ndarray, vector: CostVector) -> Range:
    """Return the change of the price as a fraction of the price before; both are drawn together."""
    return vector.change(before, after)


def difference(before: np.ndarray, after: np.ndarray, vector: CostVector) -> Range:
    """Return what is saved, in the unit of the vector; both are drawn together."""
    return vector.difference(before, after)


def draws(vector: CostVector) -> np.ndarray:
    """Draws of a vector: shape (k, len(EVENT_NAMES))."""
    return vector.sample(SAMPLES, SEED)


def percent(change: Range | float) -> str:
    """A change in percent, with its interval if it has one and that is not a point."""
    if not isinstance(change, Range):
        return signed_percent(change)
    low, high = signed_percent(change.low), signed_percent(change.high)
    if low == high:
        return signed_percent(change.value)
    return f"{signed_percent(change.value)} ({low} to {high})"


def signed_percent(value: float) -> str:
    """Return a fraction as percent with a sign, and without one if it rounds to 0."""
    text = f"{100 * value:+.1f}%"
    return "0.0%" if text in ("+0.0%", "-0.0%") else text


def number(value: float) -> str:
    """A count with three or four significant digits."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


# What would change the answer


def groups(vector: CostVector) -> dict[str, list[str]]:
    """The priced events by component; components that the data do not separate are one group."""
    priced = {EVENT_NAMES[i] for i in np.flatnonzero(vector.values)}
    sets = [[{name}, [event for event in events if event in priced]] for name, events in COMPONENTS.items()]
    for events in vector.joint:
        hit = [one for one in sets if set(one[1]) & set(events)]
        if len(hit) > 1:
            merged = [set().union(*(names for names, _ in hit)), [event for _, of in hit for event in of]]
            sets = [one for one in sets if one not in hit] + [merged]
    order = list(COMPONENTS)
    sets.sort(key=lambda one: min(map(order.index, one[0])))
    return {" + ".join(sorted(names, key=order.index)): events for names, events in sets if events}


def mask(events: Iterable[str]) -> np.ndarray:
    """Return an array over all events with 1 for some and 0 for the others."""
    found = np.zeros(len(EVENT_NAMES))
    found[[EVENT_NAMES.index(event) for event in events]] = 1.0
    return found


def flip_multiple(margin: np.ndarray, vector: CostVector, events: Iterable[str]) -> float | None:
    """Return the multiple of some costs at which a conclusion flips (margin . costs = 0), or None."""
    part = float(margin @ (vector.values * mask(events)))
    rest = float(margin @ vector.values) - part
    if part == 0 or -rest / part < 0:
        return None
    return -rest / part


def flip_cost(margin: np.ndarray, vector: CostVector, event: str) -> float | None:
    """Return the cost of one event at which a conclusion flips, all other costs unchanged, or None."""
    slope = at(margin, event)
    rest = float(margin @ vector.values) - slope * vector[event]
    return -rest / slope if slope and -rest / slope >= 0 else None


def support(margin: np.ndarray, vector: CostVector) -> float:
    """The share of the draws of a vector for which margin . costs > 0."""
    return float(np.mean(draws(vector) @ margin > 0))


def gain_margin(before: np.ndarray, after: np.ndarray, gain: float) -> np.ndarray:
    """Return counts whose price is positive if and only if `after` costs less than (1 - gain) of `before`."""
    return (1 - gain) * before - after


def multiple(value: float | None) -> str:
    """A multiple in words."""
    if value is None:
        return "at no multiple"
    if value < 1:
        return f"below {value:.2f} times" if value >= 0.005 else "only without it"
    return f"above {value:.3g} times" if value < 1000 else "above 1000 times"


def flip_rows(margin: np.ndarray, before: np.ndarray, after: np.ndarray, vector: CostVector) -> list[list[str]]:
    """A row per group of costs: its share before and after, and the multiple at which the conclusion flips."""
    body = []
    for name, events in groups(vector).items():
        values = vector.values * mask(events)
        shares = [float(counts @ values / (counts @ vector.values)) for counts in (before, after)]
        if any(shares):
            flips = multiple(flip_multiple(margin, vector, events))
            body.append([name, *(f"{100 * share:.1f}%" for share in shares), flips])
    return body


FLIP_HEAD = ["costs of", "share before", "share after", "the other way round"]


def support_words(margin: np.ndarray, vector: CostVector) -> str:
    """Return in how many of the draws a conclusion holds, in words; a share that says nothing is not printed."""
    share = support(margin, vector)
    if 0.01 <= share <= 0.99:
        return f"{100 * share:.0f}% of the draws of `{vector.name}`"
    return f"{'nearly all' if share > 0.5 else 'hardly any'} draws of `{vector.name}`"


# The page


class Page:
    """A Markdown page and its figures.

    Parameters
    ----------
    script : str
        The script's ``__file__``.
    arguments : argparse.Namespace
    title, question, source : str
        The question, and who asked it where.
    """

    def __init__(self, script: str, arguments, title: str, question: str, source: str):
        self.name, self.arguments = Path(script).stem, arguments
        self.title = title
        self.lines = [f"# {title}", "", f"**Question.** {question}", "", f"**Source.** {source}", ""]
        self.vectors: dict[str, CostVector] = {}
        self.short = ""

    def vector(self, name: str) -> CostVector:
        """A cost vector, which the footer then names."""
        return self.vectors.setdefault(name, cost.get(name))

    def head(self, text: str) -> None:
        """A section."""
        self.lines += [f"## {text}", ""]

    def text(self, *paragraphs: str) -> None:
        """Paragraphs."""
        for paragraph in paragraphs:
            self.lines += [paragraph, ""]

    def items(self, *items: str) -> None:
        """A list."""
        self.lines += [*(f"- {item}" for item in items), ""]

    def table(self, head: Sequence[str], body: Iterable[Sequence[str]], left: int = 1) -> None:
        """A table; the first `left` columns are words."""
        rule = ["---"] * left + ["---:"] * (len(head) - left)
        rows = [list(head), rule, *([str(cell) for cell in row] for row in body)]
        self.lines += ["| " + " | ".join(row) + " |" for row in rows]
        self.lines.append("")

    def answer(self, short: str, *sentences: str) -> None:
        """The answer: a line for the index, and what belongs to it."""
        self.short = short
        self.head("Answer")
        self.text(f"**{short}**", *([" ".join(filter(None, sentences))] if sentences else []))

    def plot(self, figure, words: str, name: str = "") -> None:
        """Save a figure beside the page and show it."""
        path = self.arguments.out / f"{self.name}{'_' + name if name else ''}.svg"
        figure.draw_without_rendering()
        plot.save(figure, path)
        self.lines += [f"![{words}]({path.name})", "", f"*{words}*", ""]

    @property
    def arguments_line(self) -> str:
        """Version, script and arguments."""
        size = format_size(self.arguments.size)
        return f"rmapfast {rf.__version__}; docs/case-studies/{self.name}.py --size {size}; seed {SEED}"

    def write(self) -> None:
        """Write the page, and the index of all pages that are there."""
        lines = [*self.lines, "---", "", f"Written by {self.arguments_line}."]
        lines[-1] += " Events are counts of the model (`docs/model.md`)."
        if self.vectors:
            lines[-1] += (
                f" Prices are predicted, not measured. An interval holds the middle {100 * LEVEL:.0f}% of what the "
                f"draws "
                "of the costs predict; changes and differences are drawn together (`docs/validation.md` says how often "
                "such intervals held what was measured)."
            )
            lines += ["", "Cost vectors:", ""]
            for vector in self.vectors.values():
                words = [vector.unit, vector.build, vector.note.rstrip(".")]
                lines.append(f"- `{vector.name}`: {'; '.join(filter(None, words))}.")
        path = self.arguments.out / f"{self.name}.md"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        _write_index(self.arguments.out)
        print(f"wrote {path}")


def _write_index(folder: Path) -> None:
    lines = [
        "# Case studies",
        "",
        f'Questions that the thread "{THREAD}" argued without data, each with a script that writes its page and its '
        "figures: `make studies` writes them all, `python docs/case-studies/NAME.py --size SIZE --out DIR` one. "
        "The repository keeps the pages; `make docs` draws the figures. "
        "The answers are predictions of the model (`docs/model.md`); the pages say with which costs, how sure they are "
        "and what would change them.",
        "",
        "| | study | answer |",
        "|---|---|---|",
    ]
    for name in NAMES:
        path = folder / f"{name}.md"
        if path.exists():
            words = path.read_text(encoding="utf-8").split("\n")
            title = words[0].removeprefix("# ")
            answer = words[words.index("## Answer") + 2].strip("*")
            picture = next((f"[{word}]({name}.md)" for word in words if word.startswith("![")), "")
            lines.append(f"| {picture} | [{title}]({name}.md) | {answer} |")
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def arguments(script: str, argv: Sequence[str] | None, description: str, size: str = "1GiB"):
    """Parse ``--size`` and ``--out``."""
    parser = argparse.ArgumentParser(prog=Path(script).name, description=description.splitlines()[0])
    parser.add_argument("--size", default=size, help=f"memory of each synthetic population (default {size})")
    parser.add_argument("--out", type=Path, default=HERE, metavar="DIR", help="folder for the page and its figures")
    given = parser.parse_args(argv)
    try:
        given.size = parse_size(given.size, "--size")
        if given.size < 1 << 24 or given.size % (1 << 21):
            raise ValueError(f"--size: expected at least 16MiB, in steps of 2MiB, got {format_size(given.size)}")
    except (TypeError, ValueError) as error:
        parser.error(str(error))
    if not given.out.is_dir():
        parser.error(f"--out: no folder {given.out}")
    return given


# Figures


def figure(page: Page, columns: int, height: float = 3.6, rows: int = 1, words: str = ""):
    """A figure of panels above a caption from which it can be made again; returns it and its axes as a flat list."""
    from matplotlib.figure import Figure

    caption = textwrap.wrap(f"{words} {page.arguments_line}".strip(), 165, break_on_hyphens=False)
    foot = 0.16 * (len(caption) + 1)
    whole = Figure(figsize=(10, rows * height + foot), layout="constrained", facecolor="white")
    body, below = whole.subfigures(2, 1, height_ratios=[rows * height, foot])
    below.text(0.01, 0.9, "\n".join(caption), va="top", fontsize=TEXT - 1, in_layout=False)
    axes = list(np.ravel(body.subplots(rows, columns, squeeze=False)))
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(which="both", labelsize=TEXT)
    return whole, axes


def titles(ax, title: str, x: str, y: str) -> None:
    """Title and units of a panel."""
    ax.set_title(title, fontsize=TEXT + 1.5, loc="left")
    ax.set_xlabel(x, fontsize=TEXT)
    ax.set_ylabel(y, fontsize=TEXT)


def lines(ax, places, series: dict[str, Sequence], ticks=None, legend: bool = True) -> None:
    """A line per series; values are figures or ranges, whose intervals are drawn."""
    for nr, (label, values) in enumerate(series.items()):
        shown = [value.value if isinstance(value, Range) else value for value in values]
        error = None
        if any(isinstance(value, Range) for value in values):
            error = [
                [max(value.value - value.low, 0.0) for value in values],
                [max(value.high - value.value, 0.0) for value in values],
            ]
        spread = 0.03 * (nr - (len(series) - 1) / 2) if error else 0.0
        ax.errorbar(
            np.asarray(places, float) + spread,
            shown,
            yerr=error,
            label=label,
            color=GREYS[nr % len(GREYS)],
            marker=MARKERS[nr % len(MARKERS)],
            linestyle=DASHES[nr % len(DASHES)],
            linewidth=1.3,
            elinewidth=0.8,
            capsize=2.5,
            markersize=5,
        )
    if ticks is not None:
        ax.set_xticks(places, ticks)
    if legend:
        ax.legend(fontsize=TEXT, frameon=False)


def log_axis(ax, which: str = "y") -> None:
    """A logarithmic axis with plain figures."""
    getattr(ax, f"set_{which}scale")("log")
    axis = getattr(ax, f"{which}axis")
    axis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axis.set_minor_formatter(lambda value, _: f"{value:,.10g}" if f"{value:.0e}"[0] in "25" else "")


def stacked(ax, labels: Sequence[str], parts: dict[str, Sequence[float]], smallest: float = 6.0) -> None:
    """Horizontal bars of parts in percent, the first label at the top; parts from `smallest` on are labelled."""
    left = np.zeros(len(labels))
    for nr, (name, values) in enumerate(parts.items()):
        grey, hatch = FILLS[nr % len(FILLS)]
        values = np.asarray(values, float)
        ax.barh(
            range(len(labels)), values, 0.7, left, label=name, facecolor=grey, hatch=hatch, edgecolor="black", lw=0.6
        )
        for place, (value, start) in enumerate(zip(values, left, strict=True)):
            if value >= smallest:
                box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
                ax.text(
                    start + value / 2, place, f"{value:.0f}%", ha="center", va="center", fontsize=TEXT - 1, bbox=box
                )
        left += values
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.4, -0.6)


def bars(ax, labels: Sequence[str], series: dict[str, Sequence[float]], form: str = "{:.3g}") -> None:
    """Grouped bars with their figures."""
    width = 0.84 / len(series)
    for nr, (name, values) in enumerate(series.items()):
        grey, hatch = FILLS[nr % len(FILLS)]
        lefts = np.arange(len(labels)) + (nr - (len(series) - 1) / 2) * width
        drawn = ax.bar(lefts, values, width, label=name, facecolor=grey, hatch=hatch, edgecolor="black", linewidth=0.6)
        texts = ["" if math.isnan(value) else form.format(value) for value in values]
        ax.bar_label(drawn, texts, fontsize=TEXT - 1.5, padding=1)
    ax.set_xticks(range(len(labels)), labels)
    ax.legend(fontsize=TEXT, frameon=False)


def order_ticks(orders: Iterable[int], page_size: int = 4096) -> list[str]:
    """Ticks of folio orders, with the size below."""
    return [f"{order}\n{format_size(page_size << order).replace('iB', '').replace(' ', '')}" for order in orders]
