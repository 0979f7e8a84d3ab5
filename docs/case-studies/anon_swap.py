"""Anonymous swap-out: batching by folio order on x86 and arm64, beside the figures that were published."""

from __future__ import annotations

import _study as study

ARCHES = ("x86-64", "arm64-4k")
ORDERS = range(10)
BEFORE, AFTER = "v7.0", "anon-swap"
# Published for 256 MiB of 64K folios through MADV_PAGEOUT, seconds (mean) and relative standard deviation where given
# (20260410, 20260526); the model's architecture that is nearest to the machine.
PUBLISHED = (
    ("VM on Apple M3", "arm64-4k", 37.40e-3, 17.42e-3, "12% and 11%"),
    ("arm64, v1 of the series", "arm64-4k", 52.19e-3, 26.68e-3, "one sample"),
    ("bare-metal x86", "x86-64", 54.99e-3, 51.93e-3, "1.5% and 3%"),
)
PUBLISHED_PAGES = (256 << 20) // 4096
PUBLISHED_ORDER = 4
NOTICED = 0.05
# Events of a swap-out that no vector has a cost for.
UNPRICED = ("swap_allocs", "swap_dups", "ptes_set", "folios_written")


def main(argv=None) -> dict:
    """Write the page; return events, predicted savings and what each published figure leaves unexplained."""
    given = study.arguments(__file__, argv, __doc__, size="256MiB")
    page = study.Page(
        __file__,
        given,
        "Batching anonymous swap-out",
        "Swapbacked anonymous folios are unmapped page by page up to v7.3. What would batches buy, by folio order, on "
        "x86 and arm64, and why was there so little on x86 and so much on an Apple M3?",
        "Barry Song's RFC (20250513084620.58231-1-21cnbao@gmail.com) and Dev Jain's series v1 to v4 (10 March to "
        '26 May 2026); the question of 9 June 2026: x86 "still -5.5% (stddev 3%)... What happens on larger folio '
        'sizes? (e.g., 1 MiB)".',
    )
    page.head("Simulated")
    page.text(
        f"{study.format_size(given.size)} of anonymous, exclusive, writable, dirty folios of one order, all of it "
        "through MADV_PAGEOUT (no reference check), with swap that completes at once: the setting of the published "
        f"figures, which have order {PUBLISHED_ORDER}. {BEFORE} is per page, {AFTER} the proposal.",
        "What is left out here: swap slots, writing to swap and its compression, the swap cache. The vectors in ns "
        "have a "
        "price for all of it, but it comes from the published times below: what these leave when the rest is "
        "predicted. It "
        "is the same for both policies (one per folio or per page, whatever the batches), but for the swap "
        "references, of "
        "which there are as many as steps. So a price here is a lower bound, and a predicted saving per page can be "
        "compared with a published difference; a ratio cannot.",
    )
    runs = _tables(page, given.size)
    left = _published(page, runs)
    _plot(page, runs)
    _answer(page, runs, left)
    _flips(page, runs, left)
    page.write()
    return {"runs": runs, "published": left}


def _without_swap(page, arch: str):
    """The vector in ns without the price of a write-out, which the published times decided."""
    return page.vector(study.NS[arch]).replace(pages_written=0.0)


def _tables(page, size: int) -> dict:
    runs = {}
    for arch in ARCHES:
        ns, instructions = _without_swap(page, arch), page.vector(study.INSTRUCTIONS[arch])
        body = []
        for order in ORDERS:
            population = study.synthetic(arch, size, order, kind="anon")
            before, after = (
                study.per_page(study.reclaim(population, policy, arch, entry="pageout")) for policy in (BEFORE, AFTER)
            )
            runs[arch, order] = before, after
            body.append(
                [
                    str(order),
                    study.format_size(4096 << order),
                    study.number(study.at(after, "batches")),
                    study.number(study.at(before, "contpte_unfolds")),
                    *(study.number(study.at(counts, "tlbi_ops")) for counts in (before, after)),
                    *(study.text(study.price(counts, ns)) for counts in (before, after)),
                    study.text(study.difference(before, after, ns)),
                    study.text(study.difference(before, after, instructions)),
                    study.percent(study.change(before, after, instructions)),
                ]
            )
        page.head(f"{arch}: per page, `{ns.name}` and `{instructions.name}`, without swap I/O")
        page.table(
            [
                "order",
                "size",
                f"steps {AFTER}",
                f"unfolds {BEFORE}",
                f"TLBI {BEFORE}",
                f"TLBI {AFTER}",
                f"ns {BEFORE}",
                f"ns {AFTER}",
                "ns saved",
                "instructions saved",
                "instructions, change",
            ],
            body,
            left=2,
        )
    return runs


def _published(page, runs: dict) -> dict:
    page.head("Beside the published figures (256 MiB of 64K folios, MADV_PAGEOUT)")
    body, left = [], {}
    for machine, arch, before_s, after_s, scatter in PUBLISHED:
        before, after = runs[arch, PUBLISHED_ORDER]
        vector = _without_swap(page, arch)
        per_page = [1e9 * seconds / PUBLISHED_PAGES for seconds in (before_s, after_s)]
        saved = study.difference(before, after, vector)
        rest = per_page[0] - float(before @ vector.values)
        # The predicted change on a machine whose time before is the published one.
        implied = study.Range(*(-one / per_page[0] for one in (saved.value, saved.high, saved.low)))
        published = after_s / before_s - 1
        left[machine] = {"saved": saved, "published": per_page[0] - per_page[1], "rest": rest, "implied": implied}
        body.append(
            [
                machine,
                f"`{vector.name}`",
                *(f"{one:.0f}" for one in per_page),
                scatter,
                f"{per_page[0] - per_page[1]:.0f}",
                study.text(saved),
                study.signed_percent(published),
                study.percent(implied),
                f"{rest:.0f}",
            ]
        )
    page.table(
        [
            "machine",
            "priced by",
            "published before, ns per page",
            "after",
            "scatter",
            "published saving",
            "predicted saving",
            "published change",
            "predicted saving / published before",
            "not in the vector, ns per page",
        ],
        body,
        left=2,
    )
    page.text(
        "The machines are not those of the vectors: `arm64-4k` is a 32-core server whose TLB invalidations reach all "
        "of them, `x86-64` one Zen 4 guest. *not in the vector* is the published time before less the predicted one: "
        "swap and compression, and whatever the machine does faster or slower."
    )
    return left


def _answer(page, runs: dict, left: dict) -> None:
    words = []
    for arch in ARCHES:
        vector = _without_swap(page, arch)
        four, eight = (study.difference(*runs[arch, order], vector) for order in (4, 8))
        words.append(f"{four.value:.0f} ns per page at order 4 and {eight.value:.0f} at order 8 (1 MiB) on {arch}")
    x86 = next(one for machine, one in left.items() if "x86" in machine)
    arm = left["VM on Apple M3"]
    page.answer(
        f"Batches are predicted to save {'; '.join(words)}: most of it by order 4, so larger folios add little per "
        "page.",
        f"On x86 {study.text(x86['saved'])} ns per page are predicted where {x86['published']:.0f} were measured, "
        f"out of "
        f"a time of which {x86['rest']:.0f} ns are not in the vector; on arm64 {study.text(arm['saved'])} against "
        f"{arm['published']:.0f} on the M3."
        + (
            " The x86 measurement is below the interval: the published series does per page what the model's policy "
            "does once per batch, or that machine's per-page work may be cheaper than that of the Zen 4 guest."
            if x86["published"] < x86["saved"].low
            else " The x86 measurement is inside the interval."
            if x86["published"] <= x86["saved"].high
            else " The x86 measurement is above the interval."
        ),
        "The unmap is a small part of a swap-out on x86, and on arm64 per-page unmapping also unfolds each contpte "
        "block "
        f"({study.number(study.at(runs['arm64-4k', 4][0], 'contpte_unfolds'))} per page) and issues "
        f"{study.number(study.at(runs['arm64-4k', 4][0], 'tlbi_ops'))} TLBI per page against "
        f"{study.number(study.at(runs['arm64-4k', 4][1], 'tlbi_ops'))}: that is where the difference comes from.",
    )


def _flips(page, runs: dict, left: dict) -> None:
    page.head("What would change this")
    page.text(
        f"The relative gain is decided by what the vectors do not hold. It stays above {100 * NOTICED:.0f}% as long as "
        "swap, compression and the rest cost less than this per page; the second figure is the cost of a swap "
        "reference (one per step) that would add as much saving again as the priced events have:"
    )
    body = []
    for arch in ARCHES:
        vector = _without_swap(page, arch)
        for order in (2, 4, 8, 9):
            before, after = runs[arch, order]
            saved = study.difference(before, after, vector)
            base = float(before @ vector.values)
            limits = study.Range(*((one / NOTICED - base) for one in (saved.value, saved.low, saved.high)))
            dups = study.at(before - after, "swap_dups")
            body.append([f"{arch}, order {order}", study.text(limits), f"{saved.value / dups:.0f}"])
    page.table(
        ["folios", f"rest per page for {100 * NOTICED:.0f}%, ns", "swap reference for twice the saving, ns"], body
    )
    page.text(
        "Which costs the saving at order 4 comes from; *half* is the multiple of a group of costs at which the saving "
        "is half, *twice* that at which it is twice as large:"
    )
    for arch in ARCHES:
        vector = _without_swap(page, arch)
        before, after = runs[arch, PUBLISHED_ORDER]
        saved = before - after
        total = float(saved @ vector.values)
        body = []
        for name, events in study.groups(vector).items():
            part = float(saved @ (vector.values * study.mask(events)))
            if abs(part) > 1e-9 * abs(total):
                half, twice = (1 + (goal - 1) * total / part for goal in (0.5, 2.0))
                body.append(
                    [
                        name,
                        f"{part:.0f}",
                        f"{100 * part / total:.0f}%",
                        f"{half:.2f} times" if half >= 0 else "no multiple",
                        f"{twice:.2f} times" if twice >= 0 else "no multiple",
                    ]
                )
        page.text(f"{arch}, `{vector.name}`, {study.text(study.difference(before, after, vector))} ns saved per page:")
        page.table(["costs of", "ns saved", "share", "half", "twice"], body)
    x86 = [(machine, one) for machine, one in left.items() if "x86" in machine]
    for machine, one in x86:
        factor = one["published"] / one["saved"].value
        page.text(
            f"{machine}: the published saving is the predicted one if everything that batching removes costs "
            f"{factor:.2f} times what `x86-64` says."
        )


def _plot(page, runs: dict) -> None:
    figure, axes = study.figure(
        page, 2, height=3.7, words="Predicted, not measured; bars: intervals. MADV_PAGEOUT; without swap I/O."
    )
    for ax, arch in zip(axes, ARCHES, strict=True):
        vector = page.vector(study.NS[arch])
        series = {
            policy: [study.price(runs[arch, order][nr], vector) for order in ORDERS]
            for nr, policy in enumerate((BEFORE, AFTER))
        }
        series["saved, predicted"] = [study.difference(*runs[arch, order], vector) for order in ORDERS]
        study.lines(ax, list(ORDERS), series, study.order_ticks(ORDERS), legend=False)
        published = [one for one in PUBLISHED if one[1] == arch]
        for (machine, _, before_s, after_s, _), marker in zip(published, "x+", strict=False):
            saving = 1e9 * (before_s - after_s) / PUBLISHED_PAGES
            ax.plot(
                [PUBLISHED_ORDER],
                [saving],
                marker,
                color="black",
                markersize=11,
                markeredgewidth=2.2,
                zorder=5,
                label=f"saved, as published: {machine}",
            )
        ax.legend(fontsize=study.TEXT, frameon=False, loc="upper right")
        ax.set_ylim(0)
        study.titles(ax, f"{arch}, {vector.name}", "folio order, folio size", "predicted ns per page")
    page.plot(figure, "Predicted time of the unmap and of freeing per page of swap-out, and what batches save")


if __name__ == "__main__":
    main()
