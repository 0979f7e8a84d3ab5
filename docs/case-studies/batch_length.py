"""Is nr really 1 or folio_nr_pages? Batch lengths on captures of real processes and on broken-up layouts."""

from __future__ import annotations

from pathlib import Path

import _study as study
import numpy as np

import rmapfast as rf
from rmapfast import pte
from rmapfast.cost import Range
from rmapfast.flags import FolioFlag

ROOT = Path(__file__).resolve().parents[2]
HERE, SMALL = "docs/case-studies/data", "tests/data/captures"
# (name on the page, files of one moment, their folder, what was captured)
CAPTURES = (
    ("file10g_ra128", ["file10g_ra128.npz"], HERE, "10 GiB of a clean ext4 file, mapped; readahead of 128 KiB"),
    ("file2g_ra8192_pte", ["file2g_ra8192_pte.npz"], HERE, "2 GiB of a clean ext4 file; readahead of 8 MiB; no PMDs"),
    ("file2g_2m_pte", ["file2g_2m_pte.npz"], HERE, "2 GiB of a clean ext4 file in folios of 2 MiB; no PMDs"),
    (
        "fork_shared (4 processes)",
        [f"fork_shared_p{nr}.npz" for nr in range(4)],
        HERE,
        "a parent that maps 256 MiB of a file, and 3 forks that touched the first 64 MiB",
    ),
    (
        "wild_python_numpy",
        ["wild_python_numpy.npz"],
        HERE,
        "unmodified CPython 3.11 with NumPy: 240 MiB of a file through np.memmap, and arrays",
    ),
    (
        "wild_gcc_cc1 (2 processes)",
        ["wild_gcc_cc1_p0.npz", "wild_gcc_cc1_p1.npz"],
        HERE,
        "unmodified gcc -O2: cc1 in mid-compilation, and its driver",
    ),
    ("anon_mthp", ["anon_mthp.npz"], HERE, "anonymous folios of 16 KiB to 2 MiB; nothing freed"),
    (
        "anon_mthp_freed",
        ["anon_mthp_freed.npz"],
        HERE,
        "the same: half MADV_FREE, 60 random parts freed or discarded, 40 random rewrites",
    ),
    ("file64k_holes_memcg", ["file64k_holes_memcg.before.npz"], SMALL, "64 KiB file folios, pages 4 to 7 unmapped"),
    ("file64k_cow_memcg", ["file64k_cow_memcg.before.npz"], SMALL, "64 KiB file folios, page 5 of each copied"),
    ("file64k_twice_pageout", ["file64k_twice_pageout.before.npz"], SMALL, "a file mapped twice by one process"),
    (
        "file2m_straddle_pageout",
        ["file2m_straddle_pageout.before.npz"],
        SMALL,
        "2 MiB file folios, each across two page tables",
    ),
    ("anon64k_lazyfree_pageout", ["anon64k_lazyfree_pageout.before.npz"], SMALL, "64 KiB anonymous folios, MADV_FREE"),
    (
        "anon64k_partfree_pageout",
        ["anon64k_partfree_pageout.before.npz"],
        SMALL,
        "64 KiB anonymous folios, parts of them MADV_FREE",
    ),
)
PER_PAGE = "v6.16+young"
KEPT = 0.5
FEASIBLE = (0.1, 10)
RANDOM = ("1% holes", "5% holes", "5% COWed pages", "writable, 5% written")


# Batch lengths against folio sizes


def lengths(population, policy, arch: str, anon: bool = False) -> dict:
    """Pages and steps by ``one``, ``part`` and ``whole``, of large folios that a policy unmaps; ``small`` ones apart.

    The histogram of a run does not say which folio a batch belongs to, so the folios of each order are reclaimed alone.
    """
    flags, order = population.folio_flags, population.folio_order
    swapbacked_anon = (flags & (FolioFlag.ANON | FolioFlag.SWAPBACKED)) == (FolioFlag.ANON | FolioFlag.SWAPBACKED)
    lists = np.concatenate([population.lru_inactive, population.lru_active])
    of_class = swapbacked_anon[lists] == anon
    split = (flags[lists] & FolioFlag.PARTIALLY_MAPPED) != 0
    found = {
        "pages": dict.fromkeys(("small", "one", "part", "whole"), 0),
        "steps": dict.fromkeys(("small", "one", "part", "whole"), 0),
        "histogram": {},
        "split": int(np.sum(1 << order[lists[of_class & split & anon]].astype(np.int64))),
    }
    for one in np.unique(order[lists[of_class]]).tolist():
        # The kernel splits a partially mapped anonymous folio before it unmaps it.
        chosen = lists[of_class & (order[lists] == one) & ~(split & anon)]
        if not len(chosen):
            continue
        part = population.copy()
        # Without young bits, so that no folio is kept or activated for having been referenced.
        part.ptes &= ~np.where(part.ptes & pte.PRESENT, np.uint64(pte.YOUNG), np.uint64(0))
        part.folio_flags[chosen] &= ~np.uint32(FolioFlag.ACTIVE)
        part.lru_inactive, part.lru_active = chosen.astype(np.uint32), np.zeros(0, np.uint32)
        run = rf.reclaim(part, part.nr_pages << part.page_shift, policy=policy, arch=arch, in_place=True)
        for nr, steps in run.batch_lengths.items():
            kind = "small" if one == 0 else "whole" if nr == 1 << one else "one" if nr == 1 else "part"
            found["pages"][kind] += nr * steps
            found["steps"][kind] += steps
            found["histogram"][nr] = found["histogram"].get(nr, 0) + steps
    return found


def captures() -> dict[str, rf.Population]:
    """The captured populations by their names on the page."""
    return {
        name: rf.Population.load([ROOT / folder / file for file in files], arch="x86-64", young=False)
        for name, files, folder, _ in CAPTURES
    }


# Layouts


def alternate(population, run: int, bits: int, without: int = 0) -> None:
    """Set bits in every other run of so many entries."""
    chosen = np.arange(len(population.ptes)) // run % 2 == 1
    population.ptes[chosen] = (population.ptes[chosen] & ~np.uint64(without)) | np.uint64(bits)


def cow(population) -> None:
    """Fill the holes of a private mapping with copies: entries that map pages of other folios."""
    holes = np.flatnonzero(population.ptes == 0)
    pfn = np.uint64(1 << 40) + 2 * np.arange(len(holes), dtype=np.uint64)
    population.ptes[holes] = pfn << np.uint64(12) | np.uint64(pte.PRESENT | pte.YOUNG | pte.WRITE | pte.DIRTY)


def layouts(arch: str, order: int, size: int) -> dict[str, tuple[rf.Population, str]]:
    """Populations of file folios by name, each with the policy that shows what the layout is about."""

    def make(**options):
        return study.synthetic(arch, size, order, young=0.0, **options)

    made = {
        "intact": (make(), "v7.0"),
        "1% holes": (make(holes=0.01), "v7.0"),
        "5% holes": (make(holes=0.05), "v7.0"),
        "5% COWed pages": (make(holes=0.05, shared=False, cont=False), "v7.0"),
        "mapping 8 pages off": (make(phase=8), "v7.0"),
        "writable, 5% written": (make(write=0.05), "v7.0"),
        "writable, 5% written, v7.0-rc1": (make(write=0.05), "v7.0-rc1"),
        "written in runs of 32": (make(), "v7.0"),
        "uffd-wp in runs of 32, v7.3": (make(uffd_wp_vma=True), "v7.3"),
    }
    cow(made["5% COWed pages"][0])
    alternate(made["written in runs of 32"][0], 32, pte.WRITE)
    alternate(made["uffd-wp in runs of 32, v7.3"][0], 32, pte.UFFD_WP)
    for name in ("5% COWed pages", "written in runs of 32", "uffd-wp in runs of 32, v7.3"):
        made[name][0].refold(rf.arch.get(arch).cont_ptes)
    return made


# The page


def _row(found: dict) -> list[str]:
    pages, steps = found["pages"], found["steps"]
    large = sum(pages[kind] for kind in ("one", "part", "whole"))
    if not large:
        return [f"{pages['small']:,}", "0", "-", "-", "-", "-"]
    shares = [f"{100 * pages[kind] / large:.2f}%" for kind in ("one", "part", "whole")]
    mean = large / sum(steps[kind] for kind in ("one", "part", "whole"))
    return [f"{pages['small']:,}", f"{large:,}", *shares, f"{mean:.1f}"]


def _shares(found: dict) -> dict[str, float]:
    large = sum(found["pages"][kind] for kind in ("one", "part", "whole"))
    return {kind: 100 * found["pages"][kind] / large if large else 0.0 for kind in ("one", "part", "whole")}


def _span(percents: list[float]) -> str:
    low, high = (f"{one:.0f}%" for one in (min(percents), max(percents)))
    return low if low == high else f"{low} to {high}"


COLUMNS = ["pages of order 0", "pages of large folios", "nr = 1", "1 < nr < F", "nr = F", "mean nr"]


def main(argv=None) -> dict:
    """Write the page; return the shares of each capture and layout, and what the layouts cost."""
    given = study.arguments(__file__, argv, __doc__, size="256MiB")
    page = study.Page(
        __file__,
        given,
        "Is nr really 1 or folio_nr_pages?",
        "How long are the batches of folio_unmap_pte_batch() on real mappings, and which layouts break them up?",
        f'Barry Song in "{study.THREAD}": nr is either 1 or folio_nr_pages in most cases. No distribution was given.',
    )
    page.head("Simulated")
    page.text(
        "Captures of real processes on Linux 6.18 (x86-64, ext4 with large folios, anonymous mTHP), every folio on the "
        "lists unmapped once. A capture does not show the write bits: they are assumed from the permissions of the "
        "VMA. File and lazyfree folios are unmapped under v7.0; swapbacked anonymous folios, which v7.0 unmaps page by "
        "page, under anon-swap. The captures named file64k, file2m and anon64k are small ones that were made to have "
        "holes, copied pages, a mapping across page tables or parts freed; the wild ones are unmodified programs. F is "
        "the number of pages of the folio; shares are of the unmapped pages of large folios.",
        f"Layouts: {study.format_size(given.size)} of file folios of one order with one thing changed. Holes, copied "
        "and written pages are chosen at random, page by page, which is the worst case for a given rate.",
    )
    real = _captures(page)
    broken = _layouts(page, given.size)
    _plot(page, real, broken)
    total = {kind: sum(found["pages"][kind] for found in real["rows"].values()) for kind in ("one", "part", "whole")}
    share = {kind: 100 * pages / sum(total.values()) for kind, pages in total.items()}
    pages = [one["pages"] for name, one in real["all"].items() if name.startswith("wild")]
    wild = 100 * sum(one["small"] for one in pages) / max(sum(sum(one.values()) for one in pages), 1)
    no_whole = [name for name, found in real["rows"].items() if 0 < _shares(found)["part"]]
    kept = {
        order: [
            _shares(one["found"])["whole"]
            for (arch, of, name), one in broken.items()
            if arch == "x86-64" and of == order and name in RANDOM
        ]
        for order in (4, 9)
    }
    clean = all(_shares(broken[a, o, "intact"]["found"])["whole"] == 100 for a, o, _ in broken)
    own = [found for name, found in real["rows"].items() if name.startswith("wild")]
    unmodified = {kind: sum(found["pages"][kind] for found in own) for kind in ("one", "part", "whole")}
    whole = 100 * unmodified["whole"] / max(sum(unmodified.values()), 1)
    made = 100 * (1 - sum(unmodified.values()) / sum(total.values()))
    page.answer(
        f"In unmodified programs {wild:.0f}% of the unmapped pages have order 0, where nr is 1; of the "
        f"{sum(unmodified.values()):,} pages of their large folios {whole:.1f}% lie in batches of the whole folio. "
        f"Holes, "
        f"copied or written pages scattered over 1% to 5% of a mapping leave {_span(kept[4])} of the pages in "
        f"whole-folio "
        f"batches at order 4 and {_span(kept[9])} at order 9.",
        f"Of the large folios of all captures {share['whole']:.1f}% of the pages lie in whole batches, "
        f"{share['one']:.1f}% in "
        f"batches of one page and {share['part']:.1f}% in between; but {made:.1f}% of these pages are of mappings "
        f"that were "
        "made for the purpose.",
        f"Lengths in between occur in {len(no_whole)} of the {len(real['rows'])} captures with large folios "
        f"({'; '.join(no_whole) or 'none'}).",
        "Intact synthetic folios are unmapped whole in every case." if clean else "",
        _lost_words(broken),
    )
    page.head("What would change this")
    page.text(
        "The lengths are counts: no cost changes them. Costs decide whether they matter, that is how much of what "
        "batching saves is left where batches are broken up. *left* is what v7.0 (or the policy named) saves against "
        "page-by-page unmapping of the same layout, over what it saves on intact folios of that order; on arm64 a "
        "layout without contpte blocks has less to save, as page-by-page unmapping has no blocks to unfold there."
    )
    facts = {"captures": real, "layouts": broken, "left": _left(page, broken), "share": share}
    page.text(
        "What the captures assume matters more: a shared writable file mapping with write notification, or soft-dirty "
        "tracking, looks like the written layouts under v7.0 and later, and like the intact one under v7.0-rc1; no "
        "such process is among the captures."
    )
    page.write()
    return facts


def _captures(page) -> dict:
    body, rows, every = [], {}, {}
    for name, population in captures().items():
        for what, policy, anon in (("file, lazyfree", "v7.0", False), ("anon", "anon-swap", True)):
            found = lengths(population, policy, "x86-64", anon)
            if not sum(found["pages"].values()):
                continue
            every[f"{name}, {what}"] = found
            note = f"; {found['split']:,} pages split before" if found["split"] else ""
            body.append([name, f"{what} ({policy}){note}", *_row(found)])
            if sum(found["pages"][kind] for kind in ("one", "part", "whole")):
                rows[f"{name}: {'anon' if anon else 'file, lazyfree'}"] = found
    page.head("Real processes")
    page.table(["capture", "folios", *COLUMNS], body, left=2)
    page.text("What was captured, all on Linux 6.18.44 (x86-64), and where the captures are:")
    page.table(
        ["capture", "what", "folder", "files"],
        [(name, what, f"`{folder}`", ", ".join(files)) for name, files, folder, what in CAPTURES],
        left=4,
    )
    return {"rows": rows, "all": every}


def _layouts(page, size: int) -> dict:
    made = {}
    for arch in ("x86-64", "arm64-4k"):
        body = []
        for order in (4, 9):
            for name, (population, policy) in layouts(arch, order, size).items():
                before, after = (study.reclaim(population, one, arch) for one in (PER_PAGE, policy))
                found = lengths(population, policy, arch)
                made[arch, order, name] = {
                    "found": found,
                    "before": study.per_page(before),
                    "after": study.per_page(after),
                }
                body.append([name, str(order), *_row(found)[1:]])
        page.head(f"Layouts, {arch}")
        page.table(["layout", "order", *COLUMNS[1:]], body, left=2)
    return made


def _lost_words(broken: dict) -> str:
    words = []
    for order in (4, 9):
        kept, lost = (
            _shares(broken["x86-64", order, name]["found"])["whole"]
            for name in ("writable, 5% written, v7.0-rc1", "writable, 5% written")
        )
        words.append(f"from {kept:.0f}% to {lost:.0f}% of the pages at order {order}")
    return (
        "Matching the write bit (v7.0 against v7.0-rc1) takes whole-folio batches of a mapping of which 5% was written "
        f"{' and '.join(words)}, although file folios are never restored."
    )


def _left(page, broken: dict) -> dict:
    body, left, flips = [], {}, []
    for (arch, order, name), one in broken.items():
        vector = page.vector(study.INSTRUCTIONS[arch])
        saved = one["before"] - one["after"]
        if name == "intact":
            intact = saved
            continue
        many = study.draws(vector)
        share = float((saved @ vector.values) / (intact @ vector.values))
        shown = left[arch, order, name] = Range.of_draws(share, (many @ saved) / (many @ intact))
        interval = f"{100 * shown.value:.0f}% ({100 * shown.low:.0f}% to {100 * shown.high:.0f}%)"
        body.append([name, str(order), arch, interval])
        for group, events in study.groups(vector).items():
            multiple = study.flip_multiple(saved - KEPT * intact, vector, events)
            if multiple is not None and FEASIBLE[0] <= multiple <= FEASIBLE[1]:
                flips.append(f"{name}, order {order}, {arch}: {group}, {study.multiple(multiple)}")
    page.table(["layout", "order", "architecture", "left, instructions"], body, left=3)
    least = min(left, key=lambda key: left[key].value)
    page.text(
        f"The least that is left is {100 * left[least].value:.0f}% ({least[2]}, order {least[1]}, {least[0]}). "
        f"Less than {100 * KEPT:.0f}% would be left with the costs of one group multiplied by something between "
        f"{FEASIBLE[0]} and {FEASIBLE[1]} " + (f"here: {'; '.join(flips)}." if flips else "in none of the cases.")
    )
    return left


def _plot(page, real: dict, broken: dict) -> None:
    figure, axes = study.figure(page, 1, height=3.9, words="x86-64. F: pages of the folio.")
    names = {"one": "nr = 1", "part": "1 < nr < F", "whole": "nr = F"}
    rows = real["rows"]
    parts = {words: [_shares(found)[kind] for found in rows.values()] for kind, words in names.items()}
    study.stacked(axes[0], list(rows), parts)
    study.titles(axes[0], "captures", "unmapped pages of large folios (%)", "")
    axes[0].set_xlim(0, 100)
    axes[0].legend(fontsize=study.TEXT, frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    page.plot(figure, "Captures: share of the unmapped pages of large folios by batch length", "captures")
    figure, axes = study.figure(
        page,
        2,
        height=4.0,
        words="x86-64; pages chosen at random; 5% COWed pages as 5% holes. nr by powers of two.",
    )
    for ax, order in zip(axes, (4, 9), strict=True):
        bins = [(1 << power, min((2 << power) - 1, 1 << order)) for power in range(order)] + [(1 << order,) * 2]
        bins[-2] = (bins[-2][0], (1 << order) - 1)
        series = {}
        for name in ("intact", "mapping 8 pages off", "1% holes", "5% holes", "writable, 5% written"):
            histogram = broken["x86-64", order, name]["found"]["histogram"]
            pages = [sum(nr * steps for nr, steps in histogram.items() if low <= nr <= high) for low, high in bins]
            series[name] = [100 * one / sum(pages) for one in pages]
        ticks = [f"{low}" if low == high else f"{low}-{high}" for low, high in bins]
        study.lines(ax, range(len(bins)), series, ticks, legend=ax is axes[0])
        ax.tick_params(axis="x", rotation=30 if order == 9 else 0)
        study.titles(ax, f"file folios of order {order} (F = {1 << order})", "nr", "unmapped pages (%)")
    page.plot(figure, "Layouts: unmapped pages by the length of their batch")


if __name__ == "__main__":
    main()
