"""userfaultfd write protection: the per-page fallback of v7.0 to v7.2 against whole batches in v7.3."""

from __future__ import annotations

import _study as study
import numpy as np

from rmapfast import pte

ARCHES = ("x86-64", "arm64-4k")
ORDERS = (0, 1, 2, 4, 6, 9)
FALLBACK, BATCHED, OUTSIDE = "v7.2", "v7.3", "v7.2"
# Share of the price of a reclaim that a change must save to be worth its lines.
WORTH = 0.05
# PTEs of the VMA that are write-protected.
LAYOUTS = ("none protected", "all protected", "runs of 16 protected", "half protected, at random")


def make(arch: str, size: int, order: int, layout: str, kind: str = "file"):
    """Young folios in a VMA registered for userfaultfd write protection."""
    population = study.synthetic(arch, size, order, uffd_wp_vma=True, kind=kind)
    slots = np.arange(len(population.ptes))
    chosen = {
        "none protected": np.zeros(len(slots), bool),
        "all protected": np.ones(len(slots), bool),
        "runs of 16 protected": slots // 16 % 2 == 1,
        "half protected, at random": np.random.default_rng(study.SEED).random(len(slots)) < 0.5,
    }[layout]
    population.ptes[chosen] = population.ptes[chosen] & ~np.uint64(pte.WRITE) | np.uint64(pte.UFFD_WP)
    population.refold(population.cont_ptes)
    return population


def main(argv=None) -> dict:
    """Write the page; return the change by layout, and the costs at which it is lost."""
    given = study.arguments(__file__, argv, __doc__, size="256MiB")
    page = study.Page(
        __file__,
        given,
        "Is batching in uffd-wp VMAs worth it?",
        "v7.0 to v7.2 unmap file folios page by page in a VMA registered for userfaultfd write protection; v7.3 "
        "batches there too and writes a marker into each protected slot. What does that buy, and what if the "
        "protection is scattered?",
        f'"{study.THREAD}": Dev Jain found the lost markers (20260116082721.275178-1-dev.jain@arm.com), Barry Song '
        "proposed the fallback; Baolin Wang asked for data to evaluate the value of batching there. v7.3 has it "
        '(series "Batch unmap of uffd-wp file folios").',
    )
    page.head("Simulated")
    page.text(
        f"{study.format_size(given.size)} of young, clean file folios of one order in a uffd-wp VMA, four fifths "
        f"reclaimed under {FALLBACK} and {BATCHED}: no entry protected (the fallback looks at the VMA, not at the "
        "entries), all, alternating runs of 16 entries, and every second entry at random. *outside* is "
        f"{OUTSIDE} on the same folios in a VMA without uffd-wp: what batching could reach without markers.",
    )
    changes, runs = _tables(page, given.size)
    _shmem(page, given.size)
    _plot(page, runs)
    flips = _flips(page, runs)
    _answer(page, changes, runs, flips)
    page.lines = _with_flips_last(page.lines)
    page.write()
    return {"changes": changes, "runs": runs, "flips": flips}


def _with_flips_last(lines: list[str]) -> list[str]:
    """Return the lines with the answer before the section from which it is computed."""
    flips, answer = lines.index("## What would change this"), lines.index("## Answer")
    return lines[:flips] + lines[answer:] + lines[flips:answer]


def _tables(page, size: int) -> tuple[dict, dict]:
    changes, runs = {}, {}
    for arch in ARCHES:
        vector, ns = page.vector(study.INSTRUCTIONS[arch]), page.vector(study.NS[arch])
        body = []
        for order in ORDERS:
            plain = study.reclaim(study.synthetic(arch, size, order), OUTSIDE, arch)
            runs[arch, order, "outside"] = study.per_page(plain)
            for layout in LAYOUTS:
                population = make(arch, size, order, layout)
                before, after = (
                    study.per_page(study.reclaim(population, policy, arch)) for policy in (FALLBACK, BATCHED)
                )
                runs[arch, order, layout] = (before, after)
                changes[arch, order, layout] = study.change(before, after, vector)
                body.append(
                    [
                        f"{order}",
                        layout,
                        *(study.number(study.at(counts, "batches")) for counts in (before, after)),
                        study.number(study.at(after, "markers_set")),
                        *(study.number(study.at(counts, "walk_pte_reads")) for counts in (before, after)),
                        *(study.text(study.price(counts, vector)) for counts in (before, after)),
                        study.percent(changes[arch, order, layout]),
                        study.percent(study.change(before, after, ns)),
                    ]
                )
        page.head(f"{arch}: per reclaimed page, `{vector.name}` and `{ns.name}`")
        page.table(
            [
                "order",
                "entries",
                f"steps {FALLBACK}",
                f"{BATCHED}",
                "markers",
                f"walk reads {FALLBACK}",
                f"{BATCHED}",
                f"instructions {FALLBACK}",
                f"{BATCHED}",
                "change",
                "change, ns",
            ],
            body,
            left=2,
        )
    return changes, runs


def _shmem(page, size: int) -> None:
    """Shmem, the page cache that userfaultfd write protection is used on, and what of its price is the write-out."""
    page.head("Shmem, all entries protected: ns per reclaimed page")
    body = []
    for arch in ARCHES:
        vector = page.vector(study.NS[arch])
        for order in ORDERS[1:]:
            population = make(arch, size, order, "all protected", "shmem")
            before, after = (study.per_page(study.reclaim(population, policy, arch)) for policy in (FALLBACK, BATCHED))
            written = study.at(before, "pages_written") * vector["pages_written"]
            body.append(
                [
                    f"{arch}, order {order}",
                    *(study.text(study.price(counts, vector)) for counts in (before, after)),
                    f"{written:.0f}",
                    study.percent(study.change(before, after, vector)),
                ]
            )
    page.table(["folios", FALLBACK, BATCHED, "of which write-out", "change"], body)
    page.text(
        "The write-out is priced from what was published of anonymous folios on zram (`docs/validation.md`), within "
        "a wide "
        "range; on a disk it takes longer, and the change is smaller."
    )


def _answer(page, changes: dict, runs: dict, flips: dict) -> None:
    words = []
    for arch in ARCHES:
        ends = [f"{study.percent(changes[arch, order, 'all protected'].value)} at order {order}" for order in (4, 9)]
        words.append(f"{' and '.join(ends)} on {arch}")
    random = {key: change for key, change in changes.items() if key[2] == "half protected, at random" and key[1]}
    least = max(random.values(), key=lambda change: change.value)
    where = next(key for key, change in random.items() if change is least)
    outside = {
        arch: study.change(
            runs[arch, 9, "outside"], runs[arch, 9, "all protected"][1], page.vector(study.INSTRUCTIONS[arch])
        )
        for arch in ARCHES
    }
    same = all(abs(change.value) < 0.005 for change in outside.values())
    page.answer(
        f"Yes, as much as outside such VMAs: predicted {', '.join(words)} (instructions, all entries protected); at "
        "order 0 nothing changes."
        if same
        else f"Yes: predicted {', '.join(words)} (instructions, all entries protected).",
        f"Protection scattered at random is the worst case; even there the change is {study.percent(least.value)} "
        "(order "
        f"{where[1]}, {where[0]}) or more.",
        "The markers themselves have no cost in any vector, and the walk's second read of a marker none either: the "
        "change is an upper bound of what is saved, and the next section says how much a marker may cost. Markers are "
        "written by both editions, so only what batching adds to one could change the sign.",
        "Clean regular files are protected in the asynchronous mode only; those who use write protection on page cache "
        "use shmem, "
        "whose folios are dirty and are written out: see above.",
    )


def _flips(page, runs: dict) -> dict:
    page.head("What would change this")
    page.text(
        f"A batched marker costs nothing extra in the vectors. It could cost this many instructions more than one of "
        f"{FALLBACK} before the change is less than {100 * WORTH:.0f}%, and before nothing is left of it (all entries "
        "protected and half at random):"
    )
    flips, body = {}, []
    for arch in ARCHES:
        vector = page.vector(study.INSTRUCTIONS[arch])
        for order in ORDERS[1:]:
            for layout in LAYOUTS[1::2]:
                before, after = runs[arch, order, layout]
                per_marker = study.at(after, "markers_set")
                none_left = study.difference(before / per_marker, after / per_marker, vector)
                worth = float(study.gain_margin(before, after, WORTH) @ vector.values) / per_marker
                flips[arch, order, layout] = (worth, none_left.value)
                body.append(
                    [
                        f"{arch}, order {order}",
                        layout,
                        f"{max(worth, 0):.0f}",
                        study.text(none_left),
                    ]
                )
    page.table(["folios", "entries", f"{100 * WORTH:.0f}% left", "nothing left"], body, left=2)
    page.text("For order 4, all protected: the change is less than 5% if all costs of one group are multiplied:")
    for arch in ARCHES:
        vector = page.vector(study.INSTRUCTIONS[arch])
        before, after = runs[arch, 4, "all protected"]
        margin = study.gain_margin(before, after, WORTH)
        page.text(f"{arch}, `{vector.name}`; so say {study.support_words(margin, vector)}:")
        page.table(study.FLIP_HEAD, study.flip_rows(margin, before, after, vector))
    return flips


def _plot(page, runs: dict) -> None:
    figure, axes = study.figure(page, 2, height=3.9, words="Predicted, not measured; bars: intervals.")
    for ax, arch in zip(axes, ARCHES, strict=True):
        vector = page.vector(study.INSTRUCTIONS[arch])
        series = {}
        for layout in ("all protected", "half protected, at random"):
            series[f"{FALLBACK}, {layout}"] = [runs[arch, order, layout][0] for order in ORDERS]
        for layout in LAYOUTS[1:]:
            series[f"{BATCHED}, {layout}"] = [runs[arch, order, layout][1] for order in ORDERS]
        series = {name: [study.price(counts, vector) for counts in many] for name, many in series.items()}
        study.lines(ax, range(len(ORDERS)), series, study.order_ticks(ORDERS), legend=ax is axes[1])
        study.log_axis(ax)
        study.titles(ax, f"{arch}, {vector.name}", "folio order, folio size", "predicted instructions per page (log)")
    page.plot(figure, "Predicted instructions per reclaimed page in a uffd-wp VMA")


if __name__ == "__main__":
    main()
