"""MADV_PAGEOUT without swap: splits, time and memory that comes back, by edition and proposal."""

from __future__ import annotations

import _study as study
import numpy as np

import rmapfast as rf

ARCHES = ("x86-64", "arm64-4k")
ORDERS = (2, 4, 9)
# In the order of the tables: kernels, then what is proposed on v7.0.12.
EDITIONS = ("v6.12", "v6.18", "v7.0.12", "v7.2", "v7.3")
PROPOSALS = ("noswap-split-any", "noswap-split-all", "flush-batch")
NOW = "v7.3"
# The order at which policies are compared with a share of pages that hold only zero bytes, and with some slots.
ORDER = 4
SHARES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
SHARE = 0.25
# Free slots: fewer than a folio of that order has pages, and enough for two and a half.
SLOTS = (3, 40)
FLUSHES = {"x86-64": "tlb_flushes", "arm64-4k": "tlbi_ops"}
# What no vector has a price for.
UNPRICED = (
    "folio_splits",
    "migration_entries",
    "remap_walks",
    "ptes_remapped",
    "swap_allocs",
    "ipis",
    "madvise_entries",
)


def main(argv=None) -> dict:
    """Write the page; return the runs, and what comes back by the share of zero-filled pages."""
    given = study.arguments(__file__, argv, __doc__, size="64MiB")
    page = study.Page(
        __file__,
        given,
        "MADV_PAGEOUT without swap, 6.12 to 7.3, and the proposals",
        "Without swap, MADV_PAGEOUT of anonymous memory can free nothing, but it splits every large folio. How many "
        "splits is that, what do they cost, and what would be lost if folios were kept whole?",
        "The RFC of 18 June 2026 that would avoid splits if swap has no space, and the objection in its thread that a "
        "split can free zero-filled pages (lkml.iu.edu/2606.2/05693.html); the report of 18 May 2026 of a refault that "
        "is slower by 1.7 times from v6.12 to v6.19.",
    )
    page.head("Simulated")
    page.text(
        f"{study.format_size(given.size)} of anonymous, exclusive, dirty, young folios of one order, mapped by PTEs; "
        "one MADV_PAGEOUT call over all of it. Without swap unless a table says otherwise. Zero-filled pages are "
        "drawn at random, one share for all folios. The proposals are v7.0.12 but for one rule: `noswap-split-any` "
        "splits only if any swap slot is free, `noswap-split-all` only if as many are free as the folio has pages, "
        "`flush-batch` flushes once for 31 dirty folios.",
        "*Reclaimed* is what the kernel counts as reclaimed, *came back* is all memory that the call gives back: a "
        "page that holds only zero bytes is replaced by the shared zero page when its folio is split, and nobody "
        "counts it.",
    )
    runs = _runs(page, given.size)
    back = _shares(page, given.size)
    slots = _slots(page, given.size)
    _plot(page, runs, back)
    _answer(page, given.size, runs, back, slots)
    _change(page, given.size, runs, back)
    page.write()
    return {"runs": runs, "back": back, "slots": slots}


def pageout(policy: str, arch: str, size: int, order: int, share: float = 0.0, swap=False) -> rf.Result:
    """Page out memory of one order, of which a share is zero-filled."""
    population = study.synthetic(arch, size, order, folios=1, kind="anon")
    pages = int(share * population.nr_pages)
    if pages:
        chosen = np.random.default_rng(study.SEED).permutation(population.nr_pages)[:pages]
        rf.assume_pages(population, {"zero_filled": int(population.vma_start[0]) + chosen})
    return rf.madvise(population, "MADV_PAGEOUT", swap=swap, policy=policy, arch=arch, in_place=True)


def _pages(size: int) -> int:
    return size >> 12


def _together(found: dict[str, rf.Result]) -> dict[str, rf.Result]:
    """Return a run for each group of policies with equal events, by the names of the group."""
    groups: dict[bytes, list[str]] = {}
    for policy, run in found.items():
        groups.setdefault(run.events.counts.tobytes(), []).append(policy)
    return {", ".join(names): found[names[0]] for names in groups.values()}


def _runs(page, size: int) -> dict:
    runs = {}
    for arch in ARCHES:
        vector = page.vector(study.NS[arch])
        body = []
        for order in ORDERS:
            for policy in (*EDITIONS, *PROPOSALS):
                runs[arch, order, policy] = pageout(policy, arch, size, order)
            found = {policy: runs[arch, order, policy] for policy in (*EDITIONS, *PROPOSALS)}
            for names, run in _together(found).items():
                events, per = run.events, run.events.counts / _pages(size)
                body.append(
                    [
                        str(order),
                        names,
                        f"{events['folio_splits']:,}",
                        study.format_size(run.reclaimed_bytes),
                        study.format_size(run.came_back_pages << 12),
                        *(study.number(study.at(per, name)) for name in ("ptes_cleared", "remap_walks")),
                        study.number(study.at(per, FLUSHES[arch])),
                        study.text(study.price(per, vector)),
                    ]
                )
        page.head(f"{arch}: no page is zero-filled; per page of the range, `{vector.name}`")
        page.table(
            [
                "order", "policies", "splits", "reclaimed", "came back", "PTEs cleared", "remap walks",
                f"`{FLUSHES[arch]}`", "ns, the part with a price",
            ],
            body,
            left=2,
        )  # fmt: skip
    page.text(
        "Policies in one row agree in every event. What has no price: "
        + ", ".join(f"`{name}`" for name in UNPRICED)
        + ". That is the migration entries and their replacement, the rmap walks that look for them, the split of the "
        "folio itself with its locks, the search for swap slots, the IPIs, and the walk of the system call. So the "
        "nanoseconds are a lower bound for policies that split: they hold the walks and the removal of the first half "
        "of a split and the atomics of both. Where nothing is split, nearly all that is left has no price.",
    )
    return runs


def _shares(page, size: int) -> dict:
    policies = (*EDITIONS, *PROPOSALS)
    back = {
        (order, policy, share): pageout(policy, "x86-64", size, order, share)
        for order in ORDERS
        for policy in policies
        for share in SHARES
    }
    rows: dict[tuple[int, ...], list[tuple[int, str]]] = {}
    for order in ORDERS:
        for policy in policies:
            pages = tuple(back[order, policy, share].came_back_pages for share in SHARES)
            rows.setdefault(pages, []).append((order, policy))
    page.head("Memory that comes back, by the share of zero-filled pages (x86-64)")
    page.table(
        ["orders", "policies", *(f"{100 * share:g}%" for share in SHARES)],
        [
            [
                ", ".join(str(order) for order in dict.fromkeys(order for order, _ in members)),
                ", ".join(dict.fromkeys(policy for _, policy in members)),
                *(study.format_size(one << 12) for one in pages),
            ]
            for pages, members in rows.items()
        ],
        left=2,
    )
    page.text("None of it is counted as reclaimed. At 100% every page of the range is replaced by the zero page.")
    return back


def _slots(page, size: int) -> dict:
    policies = (*EDITIONS, *PROPOSALS)
    counts = (*SLOTS, _pages(size) // 2)
    slots = {
        (policy, free): pageout(policy, "x86-64", size, ORDER, SHARE, free << 12)
        for policy in policies
        for free in counts
    }
    rows: dict[tuple[str, ...], list[str]] = {}
    for policy in policies:
        cells = tuple(
            text
            for free in counts
            for run in [slots[policy, free]]
            for text in (
                f"{run.events['folio_splits']:,}",
                study.format_size(run.reclaimed_bytes),
                study.format_size(run.came_back_pages << 12),
            )
        )
        rows.setdefault(cells, []).append(policy)
    page.head(f"With a little swap: order {ORDER}, {100 * SHARE:g}% zero-filled (x86-64)")
    page.table(
        ["policies", *(f"{what}, {free:,} slots" for free in counts for what in ("splits", "reclaimed", "came back"))],
        [[", ".join(names), *cells] for cells, names in rows.items()],
    )
    page.text(
        "*Slots* are the free ones before the call, the last figure half of the pages. Large folios find their run of "
        "slots while as many are free as they have pages."
    )
    return slots


def _split_ns(runs: dict, arch: str, order: int, policy: str = NOW) -> study.Range:
    """Return the part of the price per split that the vector of the architecture holds."""
    events = runs[arch, order, policy].events
    return study.price(events.counts / events["folio_splits"], study.cost.get(study.NS[arch]))


def _answer(page, size: int, runs: dict, back: dict, slots: dict) -> None:
    splits = {order: runs["x86-64", order, NOW].events["folio_splits"] for order in ORDERS}
    same = all(
        runs[arch, order, policy].events["folio_splits"] == splits[order]
        for arch in ARCHES
        for order in ORDERS
        for policy in (*EDITIONS, "flush-batch")
    )
    kept = all(
        runs[arch, order, policy].events["folio_splits"] == 0
        for arch in ARCHES
        for order in ORDERS
        for policy in ("noswap-split-any", "noswap-split-all")
    )
    assert same and kept, "the answer says so"
    prices = [f"{study.text(_split_ns(runs, arch, ORDER))} ns on {arch}" for arch in ARCHES]
    few = {policy: slots[policy, SLOTS[0]].events["folio_splits"] for policy in (NOW, *PROPOSALS)}
    freed = back[ORDER, NOW, SHARE].came_back_pages
    page.answer(
        f"Every edition from 6.12 to 7.3 splits every large folio, {splits[ORDER]:,} of order {ORDER} in "
        f"{study.format_size(size)}, and reclaims nothing; the proposals split none. What the split gives is the "
        f"zero-filled pages: {study.format_size(freed << 12)} if {100 * SHARE:g}% of the pages are, and the proposals "
        "give that up.",
        f"The part of a split of order {ORDER} that has a price is predicted to take {' and '.join(prices)}; the rest "
        "has none.",
        "There is no difference between the editions in splits, memory and priced events, so nothing here explains a "
        "regression from v6.12 on: what differs is the order in which the pieces take their turns, which matters only "
        "where some slots are free.",
        f"`flush-batch` changes nothing without swap, for no folio is written. With {SLOTS[0]} free slots {NOW} makes "
        f"{few[NOW]:,} splits, `noswap-split-any` {few['noswap-split-any']:,} and `noswap-split-all` "
        f"{few['noswap-split-all']:,}.",
    )


def _change(page, size: int, runs: dict, back: dict) -> None:
    page.head("What would change this")
    page.text(
        "Whether the splits are worth it depends on the share of zero-filled pages, which a capture does not show. For "
        "each MiB that comes back there are so many splits, and of what has a price so many microseconds, which do not "
        "depend on the order:"
    )
    body = []
    for share in SHARES[1:]:
        found = [back[order, NOW, share] for order in ORDERS]
        mib = found[0].came_back_pages / 256
        price = study.price(found[0].events.counts / mib / 1000, page.vector("x86-64"))
        splits = (study.number(run.events["folio_splits"] / (run.came_back_pages / 256)) for run in found)
        body.append([f"{100 * share:g}%", *splits, study.text(price, ",.0f")])
    page.table(
        ["zero-filled", *(f"splits, order {order}" for order in ORDERS), "microseconds with a price, x86-64"], body
    )
    page.text(
        "The last two columns are prices at which one missing part alone costs as much as everything that has a price: "
        "of an entry that is written or put back, and of a remap walk. If a measurement finds more, that part decides:"
    )
    body = []
    for arch in ARCHES:
        for order in ORDERS:
            events = runs[arch, order, NOW].events
            known = _split_ns(runs, arch, order)
            split = events["folio_splits"]
            entries = (events["migration_entries"] + events["ptes_remapped"]) / split
            walks = events["remap_walks"] / split
            body.append(
                [
                    arch,
                    str(order),
                    study.text(known, ",.0f"),
                    f"{known.value / entries:.0f}",
                    f"{known.value / walks:.0f}",
                ]
            )
    page.table(
        [
            "architecture", "order", "ns per split with a price", "ns per entry written or put back",
            "ns per remap walk",
        ],
        body,
        left=2,
    )  # fmt: skip


def _plot(page, runs: dict, back: dict) -> None:
    figure, axes = study.figure(
        page, 2, height=3.7, words="MADV_PAGEOUT without swap. Right: predicted, not measured; bars: intervals."
    )
    places = [100 * share for share in SHARES]
    series = {
        f"kernels from {EDITIONS[0]} to {NOW}"
        if policy == NOW
        else "noswap-split-any, -all; reclaimed by any policy": [
            back[ORDER, policy, share].came_back_pages / 256 for share in SHARES
        ]
        for policy in (NOW, "noswap-split-any")
    }
    study.lines(axes[0], places, series)
    study.titles(axes[0], "memory that comes back", "pages that are zero-filled, %", "MiB")
    series = {arch: [_split_ns(runs, arch, order) for order in ORDERS] for arch in ARCHES}
    study.lines(axes[1], list(ORDERS), series, study.order_ticks(ORDERS))
    study.log_axis(axes[1])
    study.titles(axes[1], f"the part of a split that has a price, {NOW}", "folio order, folio size", "ns per split")
    page.plot(figure, "Memory that MADV_PAGEOUT gives back without swap, and the predicted time of a split")


if __name__ == "__main__":
    main()
