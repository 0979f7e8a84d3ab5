"""Make what the site shows and the repository does not keep: pictures, and the help of each command.

``python docs/pictures.py`` fills ``docs/generated`` and draws the pictures beside the case studies. A picture that is
newer than its script and than the package is kept. Every picture shows a simulation that is run here, and nothing is
drawn by hand.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch, Rectangle

import rmapfast as rf
from rmapfast.cli import parser

HERE = Path(__file__).resolve().parent
GENERATED = HERE / "generated"
STUDIES = HERE / "case-studies"
# Colours that colour-blind readers can tell apart (Okabe and Ito), lightened so that black text can stand on them.
FOLIOS = ("#7fb8de", "#f2c14e", "#7fceb0", "#e39a76", "#d9a3c7", "#b8d8f0")
HOLE, FRAME = "white", "0.3"
BEFORE, AFTER = "v6.16+young", "v7.0"
# Text stays text in an SVG: the files are small, and their words can be searched.
STYLE = {"svg.fonttype": "none", "font.size": 9.0, "font.family": "sans-serif"}


# Drawings of page tables


def canvas(width: float, height: float, columns: float, rows: float):
    """A figure without axes, measured in entries and rows, the first row at the top."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    ax = figure.subplots()
    ax.set(xlim=(-0.2, columns), ylim=(rows, -0.2))
    ax.axis("off")
    return figure, ax


def cells(ax, y: float, colours: Sequence[str], words: Sequence[object], x: float = 0.0, height: float = 0.8) -> None:
    """A row of boxes with a word in each."""
    for nr, (colour, word) in enumerate(zip(colours, words, strict=True)):
        ax.add_patch(Rectangle((x + nr, y), 1, height, facecolor=colour, edgecolor=FRAME, linewidth=0.6))
        ax.text(x + nr + 0.5, y + height / 2, str(word), ha="center", va="center", fontsize=7.5)


def brace(ax, first: float, nr: float, y: float, word: str = "") -> None:
    """A line under some entries, with a word below."""
    ax.plot([first + 0.08, first + 0.08, first + nr - 0.08, first + nr - 0.08], [y - 0.12, y, y, y - 0.12], "k-", lw=1)
    ax.text(first + nr / 2, y + 0.08, word, ha="center", va="top", fontsize=8)


def entries(population: rf.Population, nr: int) -> tuple[list[str], list[str]]:
    """Return a colour and a word for each of the first entries: the folio that it maps, and the page of the folio."""
    colours, words = [], []
    first = population.folio_pfn
    end = first + (np.uint64(1) << population.folio_order.astype(np.uint64))
    for pte in population.ptes[:nr]:
        if not rf.pte.maps_page(pte):
            colours.append(HOLE)
            words.append("")
            continue
        pfn = rf.pte.pfn(pte)
        (folio,) = np.flatnonzero((first <= pfn) & (pfn < end))
        colours.append(FOLIOS[folio % len(FOLIOS)])
        words.append(str(int(pfn) - int(first[folio])))
    return colours, words


def folio() -> Figure:
    """Folios of three orders in a page table."""
    population = rf.Population.synthetic("128KiB", orders={4: 0.5, 2: 0.25, 0: 0.25}, seed=3)
    colours, words = entries(population, 32)
    figure, ax = canvas(9.5, 1.2, 32.2, 1.8)
    cells(ax, 0.3, colours, words)
    ax.text(0, 0.1, "32 entries of a page table; in each the page of the folio that it maps", va="bottom")
    start = 0
    while start < 32:
        end = start + 1
        while end < 32 and colours[end] == colours[start] and words[end] != "0":
            end += 1
        order = (end - start).bit_length() - 1
        brace(ax, start, end - start, 1.35, f"order {order}" if order else "0")
        start = end
    return figure


def rmap() -> Figure:
    """A folio that three processes map, and what the reverse map says of it."""
    population = rf.Population.synthetic("16KiB", orders=2, sharing=3)
    places = population.rmap(0)
    figure, ax = canvas(9.5, 2.6, 32.2, 5.2)
    cells(ax, 0.4, [FOLIOS[0]] * 4, range(4), x=14)
    ax.text(16, 0.25, "one folio in memory, 4 pages", ha="center", va="bottom")
    for nr, (vma, vpn) in enumerate(places):
        x = 1 + 11 * nr
        cells(ax, 3.2, [HOLE, HOLE, *[FOLIOS[0]] * 4, HOLE, HOLE], ["", "", *range(4), "", ""], x=x)
        ax.text(x + 4, 4.15, f"page table of process {nr + 1}\nVMA {vma}, virtual page {vpn:#x}", ha="center", va="top")
        ax.add_patch(ConnectionPatch((16, 1.25), (x + 4, 3.1), "data", "data", arrowstyle="->", color="0.2", shrinkB=2))
    ax.text(16.6, 2.0, "rmap", fontsize=9)
    return figure


def batch() -> Figure:
    """The steps of one unmap, page by page and batched."""
    population = rf.Population.synthetic("64KiB", orders=4, holes="every:11")
    colours, words = entries(population, 16)
    figure, ax = canvas(9.5, 2.7, 24.5, 4.7)
    start = int(population.vma_start[0])
    for nr, (policy, word) in enumerate((("per-page", "page by page"), (AFTER, f"batched ({AFTER})"))):
        y = 2.75 * nr
        call = rf.try_to_unmap_one(population.copy(), 0, 0, policy=policy)
        ax.text(0, y + 0.2, f"{word}: {call.events['batches']} steps", va="bottom", weight="bold")
        cells(ax, y + 0.4, colours, words)
        for step, vpn, length in call.trace:
            if step == "step":
                brace(ax, vpn - start, length, y + 1.45, str(length))
        ax.text(
            16.6,
            y + 0.4,
            f"{call.events['ptes_cleared']} entries cleared\n"
            f"{call.events['rmap_remove_calls']} x folio_remove_rmap_ptes()\n"
            f"{call.events['folio_mapcount_atomics']} atomics on the folio's counters\n"
            f"{call.events['walk_calls']} x page_vma_mapped_walk()",
            va="top",
            fontsize=8.5,
            linespacing=1.5,
        )
    return figure


def contpte() -> Figure:
    """A contpte block of arm64 in one unmap, page by page and batched."""
    population = rf.Population.synthetic("128KiB", orders=4, arch="arm64-4k")
    figure, ax = canvas(9.5, 2.0, 32.2, 3.7)
    colours, words = entries(population, 32)
    cells(ax, 0.4, colours, words)
    ax.text(0, 0.2, "arm64 with 4 KiB pages: two folios of order 4, and the CONT bit in each entry", va="bottom")
    for block in (0, 16):
        brace(ax, block, 16, 1.45, "one contpte block: one TLB entry")
    for nr, policy in enumerate(("per-page", AFTER)):
        events = rf.try_to_unmap_one(population.copy(), 0, 0, policy=policy, arch="arm64-4k").events
        ax.text(
            0,
            2.6 + 0.7 * nr,
            f"unmapping the first folio, {policy}: blocks unfolded {events['contpte_unfolds']}, "
            f"TLB invalidations {events['tlbi_ops']}, barriers that wait for them {events['dsb_ops']}",
            va="center",
        )
    return figure


def tlb() -> Figure:
    """TLB work of a reclaim, page by page and batched, on two architectures."""
    figure = Figure(figsize=(9.5, 2.4), layout="constrained", facecolor="white")
    shown = (
        ("x86-64", "tlb_deferred", "entries noted for a later flush"),
        ("x86-64", "tlb_flushes", "flushes, with IPIs"),
        ("arm64-4k", "tlbi_ops", "TLBI instructions"),
    )
    for ax, (arch, event, words) in zip(figure.subplots(1, 3), shown, strict=True):
        population = rf.Population.synthetic("16MiB", orders=4, arch=arch)
        runs = [rf.reclaim(population, "80%", policy=policy, arch=arch) for policy in (BEFORE, AFTER)]
        values = [1000 * run.events[event] / run.reclaimed_pages for run in runs]
        for place, value in enumerate(values):
            ax.barh(place, value, 0.6, color=FOLIOS[place], edgecolor=FRAME, linewidth=0.6)
            ax.text(value, place, f" {value:,.4g}", va="center")
        ax.set_yticks((0, 1), (BEFORE, AFTER))
        ax.invert_yaxis()
        ax.set_xlim(0, 1.25 * max(values))
        ax.set_title(f"{arch}: {words}", fontsize=9, loc="left")
        ax.set_xlabel("per 1000 reclaimed pages")
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def lru() -> Figure:
    """The lists before and after a reclaim: folios that were accessed are kept, the others are freed."""
    population = rf.Population.synthetic("64KiB", orders=0, young=0.3, seed=1, exec=True)
    young = ["young" in rf.pte.flags(pte) for pte in population.ptes]
    after = population.copy()
    rf.reclaim(after, "40KiB", policy=AFTER, in_place=True)
    freed = np.flatnonzero(after.folio_flags & rf.flags.FolioFlag.FREED)
    figure, ax = canvas(9.5, 2.0, 26.0, 4.6)
    rows = (
        ("inactive list before", population.lru_inactive),
        ("freed", freed),
        ("active list after", after.lru_active),
    )
    for nr, (words, folios) in enumerate(rows):
        ax.text(5.6, 1.2 * nr + 0.4, words, ha="right", va="center")
        cells(ax, 1.2 * nr, [FOLIOS[1] if young[one] else FOLIOS[0] for one in folios], folios, x=6)
    for place, (colour, words) in enumerate(((FOLIOS[0], "not young"), (FOLIOS[1], "young: was accessed"))):
        ax.add_patch(Rectangle((6 + 5 * place, 3.8), 0.8, 0.6, facecolor=colour, edgecolor=FRAME, linewidth=0.6))
        ax.text(7 + 5 * place, 4.1, words, va="center")
    return figure


def price() -> Figure:
    """The seed's experiment on arm64, small: components of the predicted time."""
    population = rf.Population.synthetic("256MiB", orders=4, arch="arm64-4k")
    return rf.plot.components(rf.compare(population, "80%", policies=[BEFORE, AFTER], arches=["arm64-4k"]))


def memory_map() -> Figure:
    """A capture of a real process, drawn as `rmapfast describe --plot` draws it."""
    population = rf.Population.load(STUDIES / "data" / "anon_mthp.npz")
    return rf.plot.description(population, rf.describe(population))


PICTURES: dict[str, Callable[[], Figure]] = {
    "folio": folio,
    "rmap": rmap,
    "contpte": contpte,
    "tlb": tlb,
    "lru": lru,
    "price": price,
    "memory_map": memory_map,
}


def older(path: Path, *scripts: Path) -> bool:
    """Whether a file is missing, or older than one of its scripts or than the package."""
    package = (one for one in Path(rf.__file__).parent.rglob("*") if one.suffix in (".py", ".so", ".toml"))
    newest = max(source.stat().st_mtime for source in (*scripts, *package))
    return not path.exists() or path.stat().st_mtime < newest


def save(figure: Callable[[], Figure], path: Path) -> None:
    """Draw a picture and write it."""
    with rc_context(STYLE):
        rf.plot.save(figure(), path)


def make_pictures() -> None:
    """Draw the pictures of the concepts."""
    for name, draw in PICTURES.items():
        path = GENERATED / f"{name}.svg"
        if older(path, Path(__file__)):
            save(draw, path)


def make_studies(size: str) -> None:
    """Draw the figures of the case studies. Their pages are kept in the repository (`make studies`)."""
    sys.path.insert(0, str(STUDIES))
    study = importlib.import_module("_study")
    for name in study.NAMES:
        script = STUDIES / f"{name}.py"
        wanted = [STUDIES / line.partition("](")[2].rstrip(")") for line in _images(STUDIES / f"{name}.md")]
        if any(older(path, script, STUDIES / "_study.py") for path in wanted):
            print(f"drawing {name}", flush=True)
            with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(None):
                importlib.import_module(name).main(["--size", size, "--out", folder])
                for path in wanted:
                    path.write_bytes((Path(folder) / path.name).read_bytes())


def _images(page: Path) -> list[str]:
    return [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("![")]


def make_commands() -> None:
    """Write the help of each verb."""
    os.environ["COLUMNS"] = "100"
    whole = parser()
    verbs = next(one for one in whole._actions if isinstance(one, argparse._SubParsersAction)).choices
    lines = ["# The command line", "", "Each verb takes `--help`. This page shows what it prints.", ""]
    for name, one in {"": whole, **verbs}.items():
        lines += [f"## rmapfast {name}".rstrip(), "", "```text", one.format_help().rstrip(), "```", ""]
    path, text = GENERATED / "commands.md", "\n".join(lines)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> None:
    """Make what is missing or old."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--size", default="1GiB", help="memory of each population of the case studies")
    arguments.add_argument("--readme", action="store_true", help="instead: the picture of README.md, docs/batch.svg")
    given = arguments.parse_args(argv)
    if given.readme:
        save(batch, HERE / "batch.svg")
        return
    GENERATED.mkdir(exist_ok=True)
    make_pictures()
    make_commands()
    make_studies(given.size)


if __name__ == "__main__":
    main()
