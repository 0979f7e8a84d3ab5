"""What the walk's re-scan of cleared entries costs, and what skipping them, or markers in their place, changes."""

from __future__ import annotations

import _study as study
import numpy as np

from rmapfast import pte

ARCHES = ("x86-64", "arm64-4k")
RESCAN, CALLER, HINT, MARKERS, JUMP = "v7.0.12", "skip-caller", "skip-hint", "v7.3", "walker-jump"
# Share of the price of a reclaim below which nobody would see a change.
VISIBLE = 0.05
ORDER = 9
# What reading a slot again takes that this CPU has just written: a hit in the first cache, and a turn of the loop.
SLOT_NS = 1.0


def layouts(arch: str, size: int) -> dict:
    """Populations of file folios by name: with whole batches, and with shorter and shorter ones."""

    def make(order, **options):
        return study.synthetic(arch, size, order, young=0.0, **options)

    made = {"order 4, intact": make(4), "order 9, intact": make(9)}
    for every in (5, 17, 129):
        made[f"order 9, hole every {every}"] = make(9, holes=f"every:{every}")
    made["order 9, 5% holes at random"] = make(9, holes=0.05)
    made["order 9, mapping 8 pages off"] = make(9, phase=8)
    made["order 4, one hole per folio"] = make(4, holes="every:16")
    made["order 9, written in runs of 2"] = make(9)
    runs = made["order 9, written in runs of 2"]
    runs.ptes[np.arange(len(runs.ptes)) // 2 % 2 == 1] |= np.uint64(pte.WRITE)
    runs.refold(runs.cont_ptes)
    return made


def marked(arch: str, size: int, every: int):
    """Write-protected file folios of order 9 in a uffd-wp VMA, with holes: cleared entries become markers."""
    return study.synthetic(arch, size, ORDER, young=0.0, uffd_wp=1.0, holes=f"every:{every}")


def main(argv=None) -> dict:
    """Write the page; return what skipping saves per layout, and the reads per none slot and per marker."""
    given = study.arguments(__file__, argv, __doc__, size="256MiB")
    page = study.Page(
        __file__,
        given,
        "What re-scanning cleared PTEs costs",
        "After a batch that is not the whole folio, page_vma_mapped_walk() reads the cleared slots again. What does "
        "that cost, what do the two proposals to skip them save, and what do uffd-wp markers in place of none change?",
        f'"{study.THREAD}": Wei Yang (7 January 2026) proposed to advance the walk in the caller, Barry Song a hint to '
        "the walker, and called it a corner case; Baolin Wang expected no gain; Dev Jain (16 January 2026) argued that "
        "markers and swap entries are not none.",
    )
    page.head("Simulated")
    page.text(
        f"{study.format_size(given.size)} of file folios, aged (not young), in layouts that make batches whole or "
        "partial, "
        f"four fifths reclaimed. {RESCAN} re-scans; {CALLER} and {HINT} skip. Prices are in instructions: the kernel "
        "builds of those vectors were counted with holes of several distances, so the cost of a re-scanned slot is "
        "fitted there. The ns vector `x86-64` has no row with partial batches: its price of a slot is assumed from "
        "instructions.",
    )
    rows, equal = _skipping(page, given.size)
    markers = _markers(page, given.size)
    _plot(page, rows)
    _answer(page, rows, equal, markers)
    _what_would_change(page, rows, markers)
    page.write()
    return {"layouts": rows, "equal": equal, "markers": markers}


def _skipping(page, size: int) -> tuple[dict, bool]:
    rows, equal = {}, True
    for arch in ARCHES:
        vector, body = page.vector(study.INSTRUCTIONS[arch]), []
        for name, population in layouts(arch, size).items():
            runs = [study.reclaim(population, policy, arch) for policy in (RESCAN, CALLER, HINT)]
            equal &= all(dict(runs[1].events)[event] == count for event, count in runs[2].events.items())
            equal &= bool(np.array_equal(runs[0].after.ptes, runs[1].after.ptes))
            rescan, caller = map(study.per_page, runs[:2])
            saved, change = study.difference(rescan, caller, vector), study.change(rescan, caller, vector)
            steps = runs[0].events["batches"]
            mean = runs[0].events["batched_pages"] / steps
            again = study.at(rescan - caller, "walk_slots")
            rows[arch, name] = {"rescan": rescan, "caller": caller, "again": again, "change": change, "mean": mean}
            body.append(
                [
                    name,
                    f"{mean:.1f}",
                    study.number(again),
                    study.number(study.at(rescan - caller, "walk_pte_reads")),
                    study.text(study.price(rescan, vector)),
                    f"{saved.value:.2f} ({saved.low:.2f} to {saved.high:.2f})",
                    study.percent(change),
                ]
            )
        page.head(f"Skipping, {arch}: predicted instructions per reclaimed page, `{vector.name}`")
        page.table(["layout", "mean nr", "slots again", "reads again", RESCAN, "skipping saves", "change"], body)
    return rows, equal


def _markers(page, size: int) -> dict:
    found, body = {}, []
    for arch in ARCHES:
        vector = page.vector(study.INSTRUCTIONS[arch])
        for every in (5, 17, 129):
            none, marker, jump = (
                study.per_page(study.reclaim(population, policy, arch))
                for population, policy in (
                    (study.synthetic(arch, size, ORDER, young=0.0, holes=f"every:{every}"), MARKERS),
                    (marked(arch, size, every), MARKERS),
                    (marked(arch, size, every), JUMP),
                )
            )
            per_page = study.per_page(study.reclaim(marked(arch, size, every), RESCAN, arch))
            reads = {
                name: study.at(counts - jump, "walk_pte_reads") / study.at(counts - jump, "walk_slots")
                for name, counts in (("none", none), ("marker", marker))
            }
            found[arch, every] = {"none": none, "marker": marker, "jump": jump, "reads": reads}
            body.append(
                [
                    f"{arch}, hole every {every}",
                    *(study.number(study.at(counts, "walk_pte_reads")) for counts in (per_page, none, marker, jump)),
                    f"{reads['none']:.2f}",
                    f"{reads['marker']:.2f}",
                    study.percent(study.change(marker, jump, vector)),
                ]
            )
    page.head("Markers: logical PTE reads of the walk per reclaimed page")
    page.text(
        f"Order-9 folios with holes, in a uffd-wp VMA with every entry write-protected: {MARKERS} leaves a marker in "
        "each "
        f"slot. *none*: the same folios in a VMA without uffd-wp. {JUMP} skips the batch (advance in the caller, "
        "markers "
        f"whole); {RESCAN} unmaps such a VMA page by page. The last column is the predicted change by the jump; the "
        "vectors price a slot once, however often it is read.",
    )
    page.table(
        [
            "layout",
            f"{RESCAN}, per page",
            f"{MARKERS}, none",
            f"{MARKERS}, markers",
            JUMP,
            "reads per none",
            "reads per marker",
            "jump, instructions",
        ],
        body,
    )
    return found


def _answer(page, rows: dict, equal: bool, markers: dict) -> None:
    broken = {key: row for key, row in rows.items() if row["again"] > 0}
    whole = [key for key, row in rows.items() if row["again"] == 0]
    worst = min(broken, key=lambda key: broken[key]["change"].value)
    spans = []
    for arch in ARCHES:
        saved = [-100 * row["change"].value for key, row in broken.items() if key[0] == arch]
        spans.append(f"{min(saved):.1f}% to {max(saved):.1f}% on {arch}")
    most = max(row["again"] for row in broken.values())
    reads = [one["reads"] for one in markers.values()]
    ns = page.vector(study.NS["x86-64"])
    hot = max(
        row["again"] * SLOT_NS / float(row["rescan"] @ ns.values)
        for (arch, _), row in broken.items()
        if arch == "x86-64"
    )
    page.answer(
        f"Nothing where the whole folio is one batch; in layouts that break batches up it is predicted to be "
        f"{' and '.join(spans)} of a reclaim's instructions, which is all that skipping can save.",
        f"A page has {study.number(most)} slots to read again at most. In time that is less: the slots were just "
        f"written "
        f"by the same CPU, so reading one takes about {SLOT_NS:g} ns, which is at most {100 * hot:.1f}% of the time "
        f"of a "
        f"reclaim on x86-64 ({study.NS['x86-64']}).",
        f"{len(whole)} of {len(rows)} cases have nothing to skip.",
        f"The most is saved with {worst[1]} on {worst[0]}.",
        f"{CALLER} and {HINT} cause the same events and end in the same page tables as {RESCAN}."
        if equal
        else f"{CALLER} and {HINT} differ in events or page tables.",
        f"A marker in a skipped slot costs {max(one['marker'] for one in reads):.0f} reads, a none slot "
        f"{max(one['none'] for one in reads):.0f}: the walk stops at what is not none, and reads it again to check it.",
    )


def _what_would_change(page, rows: dict, markers: dict) -> None:
    page.head("What would change this")
    page.text(
        f"Skipping would be worth {100 * VISIBLE:.0f}% of the reclaim if a re-scanned slot cost this much more than it "
        "does, all other costs as they are (on arm64 a plain read is `raw_pte_loads` and `walk_slots`; both are "
        "multiplied):"
    )
    body = []
    for (arch, name), row in rows.items():
        if row["again"] == 0:
            continue
        vector = page.vector(study.INSTRUCTIONS[arch])
        margin = study.gain_margin(row["rescan"], row["caller"], VISIBLE)
        events = [event for event in ("walk_slots", "raw_pte_loads") if vector[event]]
        cost = sum(vector[event] for event in events)
        flip = study.flip_multiple(margin, vector, events)
        reached = study.support(margin, vector)
        body.append(
            [
                f"{name}, {arch}",
                f"{cost:.1f}",
                "never" if flip is None else f"{flip:.1f} times ({flip * cost:.0f})",
                f"{100 * reached:.0f}%",
            ]
        )
    page.table(["layout", "a slot costs now", f"{100 * VISIBLE:.0f}% reached at", "draws that reach it"], body)
    body = []
    for (arch, every), one in markers.items():
        vector = page.vector(study.INSTRUCTIONS[arch])
        second = study.at(one["marker"], "walk_pte_reads") - study.at(one["marker"], "walk_slots")
        second -= study.at(one["jump"], "walk_pte_reads") - study.at(one["jump"], "walk_slots")
        base, after = (float(one[name] @ vector.values) for name in ("marker", "jump"))
        as_first = sum(vector[event] for event in ("walk_slots", "raw_pte_loads"))
        # (base + second x) (1 - VISIBLE) = after
        needed = max((after / (1 - VISIBLE) - base) / second, 0.0)
        body.append(
            [
                f"hole every {every}, {arch}",
                study.number(second),
                study.signed_percent(after / (base + second * as_first) - 1),
                f"{needed:.0f}",
            ]
        )
    page.text(
        "The second read of a marker has no cost of its own in the vectors. If it cost as much as the first, the jump "
        f"would change the price as below; it would change it by {100 * VISIBLE:.0f}% if a second read cost that many "
        "instructions:"
    )
    page.table(
        ["layout", "second reads per page", "jump, if as the first", f"instructions for {100 * VISIBLE:.0f}%"], body
    )
    page.text(
        "In time rather than instructions a re-scanned slot was just written by this CPU, so it is in its cache; a "
        "vector that made it dear would have to charge for something else than the read."
    )


def _plot(page, rows: dict) -> None:
    figure, axes = study.figure(page, 2, height=4.2, words="Predicted instructions, not measured; whiskers: 90%.")
    for ax, arch in zip(axes, ARCHES, strict=True):
        names = [name for key, name in rows if key == arch]
        changes = [rows[arch, name]["change"] for name in names]
        values = np.array([-100 * change.value for change in changes])
        error = np.array([[-100 * change.high, -100 * change.low] for change in changes]).T
        error = np.maximum(np.abs(error - values), 0)
        ax.barh(range(len(names)), values, 0.6, xerr=error, facecolor="0.75", edgecolor="black", capsize=3)
        ax.set_yticks(range(len(names)), names if ax is axes[0] else [""] * len(names))
        ax.set_ylim(len(names) - 0.4, -0.6)
        for place, value in enumerate(values):
            ax.text(value + 0.25 + error[1][place], place, f"{abs(value):.1f}%", va="center", fontsize=study.TEXT - 0.5)
        ax.set_xlim(0, max(-100 * row["change"].low for row in rows.values()) * 1.2 + 0.5)
        study.titles(ax, f"{arch}, {study.INSTRUCTIONS[arch]}", "instructions saved by skipping (% of the reclaim)", "")
    page.plot(figure, "What skipping the cleared slots saves")


if __name__ == "__main__":
    main()
