"""16K and 64K base pages, and folios of 1 MiB and more: which events go away, and which stay."""

from __future__ import annotations

import _study as study

from rmapfast import arch as _arch

KIB, MIB = 1 << 10, 1 << 20
ARCHES = ("x86-64", "arm64-4k", "arm64-16k", "arm64-64k", "ppc64-64k", "riscv64", "s390x")
ASSUMED = ("arm64-16k", "arm64-64k", "ppc64-64k", "riscv64", "s390x")
SIZES = (64 * KIB, 256 * KIB, MIB, 2 * MIB, 32 * MIB, 512 * MIB)
BEFORE, AFTER = "v6.16+young", "v7.0"
EVENTS = (
    "walk_calls",
    "batches",
    "rmap_remove_calls",
    "page_mapcount_atomics",
    "contpte_unfolds",
    "tlbi_ops",
    "tlb_flushes",
    "isolation_calls",
)
SMALL, LARGE = 64 * KIB, MIB
LOST = 0.0


def orders(arch: str) -> dict[int, int]:
    """Return the order of each folio size that a page cache of the architecture can have (a PMD at most)."""
    arch = _arch.get(arch)
    found = {size: (size // arch.page_size).bit_length() - 1 for size in SIZES if size >= arch.page_size}
    return {size: order for size, order in found.items() if 1 << order <= arch.ptrs_per_pte and order <= 13}


def main(argv=None) -> dict:
    """Write the page; return events per MiB, savings, and what the assumed costs leave open."""
    given = study.arguments(__file__, argv, __doc__)
    page = study.Page(
        __file__,
        given,
        "16K and 64K pages, 1 MiB and larger folios",
        "What is left to gain where base pages are larger, and what happens on folios of 1 MiB and more?",
        'A reviewer of the anonymous series (9 June 2026) asked "What happens on larger folio sizes? (e.g., 1 MiB)"; '
        "Dev Jain noted that most people cannot test other architectures and page sizes.",
    )
    page.head("Simulated")
    page.text(
        f"{study.format_size(given.size)} (more where fewer than 5 folios would fit) of young, clean, read-only file "
        f"folios of one size, four fifths reclaimed, {BEFORE} against {AFTER}; PTE-mapped, up to the size of a page "
        "table. Events are counted per MiB of reclaimed memory, so that page sizes can be compared.",
        f"**Nobody timed {', '.join(ASSUMED)}:** instructions were counted on all of them but `arm64-64k`, and how "
        f"many "
        "nanoseconds one takes is assumed, so the price itself is unsure and the change is much surer.",
        "Which contpte blocks are folded depends on how a file was mapped. v7.2 maps whole large folios, as here. "
        "v6.12 "
        "maps windows of 64K, four entries with 16K pages, and folds none of the blocks of 128; a table below has that "
        "too. With 64K pages such a window is one entry, and a block folds with its last one (not measured).",
    )
    runs = _tables(page, given.size)
    _plot(page, runs)
    kept = _answer(page, runs)
    _flips(page, runs)
    page.write()
    return {"runs": runs, "kept": kept}


def _per_mib(counts, arch: str, event: str) -> float:
    return study.at(counts, event) * MIB / _arch.get(arch).page_size


def _tables(page, size: int) -> dict:
    runs = {}
    for arch in ARCHES:
        body = []
        for folio, order in orders(arch).items():
            population = study.synthetic(arch, size, order)
            pair = [study.per_page(study.reclaim(population, policy, arch)) for policy in (BEFORE, AFTER)]
            runs[arch, folio] = tuple(pair)
            cells = []
            for event in EVENTS:
                before, after = (_per_mib(counts, arch, event) for counts in pair)
                same = abs(before - after) < 1e-9
                cells.append(study.number(after) if same else f"{study.number(before)} -> {study.number(after)}")
            body.append([study.format_size(folio), str(order), *cells])
        one = _arch.get(arch)
        block = f", contpte block {study.format_size(one.cont_ptes * one.page_size)}" if one.cont_ptes > 1 else ""
        page.head(f"{arch}: events per MiB, {BEFORE} -> {AFTER}")
        page.text(
            f"{study.format_size(one.page_size)} pages, {one.ptrs_per_pte} entries per table{block}; one figure where "
            "both are equal."
        )
        page.table(["folio", "order", *(f"`{event}`" for event in EVENTS)], body)
    _windows(page, size)
    page.head("Predicted ns per MiB")
    body = []
    for (arch, folio), (before, after) in runs.items():
        vector = page.vector(arch)
        scale = MIB / _arch.get(arch).page_size
        body.append(
            [
                f"{arch}{' (assumed costs)' if arch in ASSUMED else ''}",
                study.format_size(folio),
                *(study.text(study.price(counts * scale, vector), ",.0f") for counts in (before, after)),
                study.text(study.difference(before * scale, after * scale, vector), ",.0f"),
                study.percent(study.change(before, after, vector)),
            ]
        )
    page.table(["architecture", "folio", BEFORE, AFTER, "saved", "change"], body, left=2)
    return runs


def _windows(page, size: int) -> None:
    """The same on 16K pages, mapped in windows of 64K and of 2M as v6.12 maps them, and whole as v7.2 does."""
    arch, folio = "arm64-16k", 2 * MIB
    vector, body = page.vector("arm64-16k-6.12"), []
    for window in ("64KiB", "2MiB", "folio"):
        population = study.synthetic(arch, size, orders(arch)[folio], young=0.0, fault_around=window)
        before, after = (study.per_page(study.reclaim(population, policy, arch)) for policy in ("v6.12", AFTER))
        body.append(
            [
                window,
                *(study.number(_per_mib(counts, arch, "contpte_unfolds")) for counts in (before, after)),
                *(study.text(study.price(counts, vector)) for counts in (before, after)),
                study.percent(study.change(before, after, vector)),
            ]
        )
    page.head(f"{arch}, folios of 2 MiB, not young, by what a page fault mapped: `{vector.name}`")
    page.table(["window", "unfolds per MiB, v6.12", AFTER, "instructions per page, v6.12", AFTER, "change"], body)
    page.text(
        "Recorded on real kernels per page: 1036 (6.12) and 428 (7.2) with windows of 64K, 12165 (6.12) and 421 "
        "(7.2) with "
        "2M, whose blocks 6.12 unfolds page by page."
    )


def _answer(page, runs: dict) -> dict:
    kept, words = {}, []
    for arch in ("arm64-4k", "arm64-16k", "arm64-64k"):
        before, after = runs[arch, LARGE]
        kept[arch] = _per_mib(before, arch, "batches") - _per_mib(after, arch, "batches")
        words.append(f"{study.number(kept[arch])} on {arch}")
    small = {arch: runs[arch, SMALL] for arch in ("arm64-64k", "ppc64-64k")}
    nothing = [arch for arch, (before, after) in small.items() if (before == after).all()]
    atomics = {arch: _per_mib(runs[arch, LARGE][1], arch, "page_mapcount_atomics") for arch in ("x86-64", "arm64-64k")}
    isolations = {arch: _per_mib(runs[arch, SMALL][1], arch, "isolation_calls") for arch in ("arm64-4k", "arm64-64k")}
    shares = []
    for arch in ("x86-64", "arm64-4k"):
        vector = page.vector(arch)
        sizes = [folio for name, folio in runs if name == arch]
        saved = {
            folio: float((runs[arch, folio][0] - runs[arch, folio][1]) @ vector.values) for folio in (LARGE, max(sizes))
        }
        shares.append(f"{100 * saved[LARGE] / saved[max(sizes)]:.1f}% on {arch}")
    page.answer(
        "Larger pages leave less to batch, in proportion: the batched unmap takes away "
        f"{', '.join(words)} "
        "unmap steps per MiB with folios of 1 MiB. Larger folios add little: 1 MiB has "
        f"{' and '.join(shares)} of the predicted saving that 2 MiB have.",
        f"A 64 KiB folio is a single page on {' and '.join(nothing)}: there nothing changes." if nothing else "",
        "What batching cannot remove is per page: the mapcount atomics stay, "
        f"{study.number(atomics['x86-64'])} per MiB with 4K pages and {study.number(atomics['arm64-64k'])} with 64K; "
        "isolations get fewer with larger pages by themselves, since 32 base pages are more memory "
        f"({study.number(isolations['arm64-4k'])} per MiB of 64 KiB folios on arm64-4k, "
        f"{study.number(isolations['arm64-64k'])} on arm64-64k).",
        _unfold_words(runs),
    )
    return kept


def _unfold_words(runs: dict) -> str:
    words = []
    for arch in ("arm64-4k", "arm64-16k", "arm64-64k"):
        first = min(
            (folio for name, folio in runs if name == arch and study.at(runs[arch, folio][0], "contpte_unfolds")),
            default=None,
        )
        if first:
            count = _per_mib(runs[arch, first][0], arch, "contpte_unfolds")
            words.append(f"from {study.format_size(first)} on {arch} ({study.number(count)} per MiB)")
    return (
        f"Per-page unmapping unfolds contpte blocks {', '.join(words)}; batches of whole blocks never do, so with 16K "
        "and 64K pages this part of the gain needs folios of a whole block."
    )


def _flips(page, runs: dict) -> None:
    page.head("What would change this")
    page.text(
        "The events follow from the structure; a cost changes none of them. The sign of the saving cannot change where "
        "no event grows. Events of 1 MiB folios that grow by batching, and the cost of one at which nothing would be "
        "saved, if everything else costs what the vector says:"
    )
    body = []
    for arch in ARCHES:
        vector = page.vector(arch)
        before, after = runs[arch, LARGE]
        grow = [event for event in study.EVENT_NAMES if study.at(after - before, event) > 1e-12]
        for event in grow:
            flip = study.flip_cost(study.gain_margin(before, after, LOST), vector, event)
            body.append([arch, f"`{event}`", f"{vector[event]:.1f}", "never" if flip is None else f"{flip:.0f}"])
    page.table(["architecture", "event", "ns now", "ns at which nothing is saved"], body, left=2)
    page.text(
        "Over the ranges of the assumed costs the saving of 1 MiB folios is as follows; and the multiple of what stays "
        "(costs of freeing and LRU) at which it is less than a tenth:"
    )
    body = []
    for arch in ARCHES:
        vector = page.vector(arch)
        before, after = runs[arch, LARGE]
        margin = study.gain_margin(before, after, 0.1)
        flip = next(
            study.flip_multiple(margin, vector, events)
            for name, events in study.groups(vector).items()
            if "LRU and free" in name
        )
        body.append(
            [
                arch,
                "assumed" if arch in ASSUMED else "fitted",
                study.percent(study.change(before, after, vector)),
                study.multiple(flip),
            ]
        )
    page.table(["architecture", "costs", "change at 1 MiB", "less than a tenth"], body, left=2)


def _agree(one: dict, other: dict) -> bool:
    """Whether two lines are the same within 2% where both have points: they would hide each other."""
    return all(abs(one[folio] / other[folio] - 1) < 0.02 for folio in one.keys() & other.keys())


def _plot(page, runs: dict) -> None:
    figure, axes = study.figure(
        page,
        2,
        height=3.9,
        words="Events are counted; nothing here depends on a cost. 64K base pages: order 4 is 1 MiB.",
    )
    shown = ("x86-64", "arm64-4k", "arm64-16k", "arm64-64k", "ppc64-64k")
    events = (("batches", "unmap steps per MiB (log)"), ("tlbi_ops", "TLBI per MiB (log)"))
    marks = {size: number for number, size in enumerate(SIZES)}
    for ax, (event, label) in zip(axes, events, strict=True):
        names = shown if event == "batches" else [name for name in shown if name.startswith("arm64")]
        series: dict[tuple, list[str]] = {}
        for policy, name in enumerate((BEFORE, AFTER)):
            for arch in names:
                points = {folio: _per_mib(runs[arch, folio][policy], arch, event) for of, folio in runs if of == arch}
                key = next(
                    (key for key in series if key[0] == name and _agree(dict(key[1]), points)),
                    (name, tuple(points.items())),
                )
                longest = max(dict(key[1]), points, key=len)
                series[name, tuple(longest.items())] = [*series.pop(key, []), arch]
        for number, ((policy, points), arches) in enumerate(series.items()):
            ax.plot(
                [marks[folio] for folio, _ in points],
                [value for _, value in points],
                study.MARKERS[number],
                linestyle="--" if policy == BEFORE else "-",
                color=study.GREYS[number],
                markerfacecolor="white" if policy == BEFORE else study.GREYS[number],
                label=f"{policy}: {'all of them' if len(arches) == len(names) else ', '.join(arches)}",
                markersize=6,
                linewidth=1.3,
            )
        ax.set_xticks(range(len(SIZES)), [study.format_size(size).replace("iB", "").replace(" ", "") for size in SIZES])
        study.log_axis(ax)
        ax.legend(fontsize=study.TEXT, frameon=False, loc="lower left")
        study.titles(ax, event, "folio size", label)
    page.plot(figure, "Unmap steps and TLB invalidations per MiB of reclaimed memory, per page and batched")


if __name__ == "__main__":
    main()
