"""How many TLB flushes batching takes away on x86: deferred calls, flushes, INVLPG and IPIs."""

from __future__ import annotations

import tomllib
from pathlib import Path

import _study as study
import numpy as np

RECORDED = Path(__file__).resolve().parents[2] / "validation" / "data" / "measured-vm.toml"
ARCH = "x86-64"
ORDERS = range(10)
BEFORE, AFTER = "v6.16+young", "v7.0"
# CPUs on which the mm is active; CPU 0 reclaims.
MASKS = {"8 CPUs": 0xFF, "2 CPUs": 0x3, "only the reclaiming CPU": 0x1, "another CPU only": 0x2}
EVENTS = ("tlb_deferred", "tlb_immediate", "tlb_flushes", "tlbi_ops", "ipis")
SHOWN = ("8 CPUs", "only the reclaiming CPU")
HALF = 0.5
# Assumed, not measured, in the changelog of e7b52ffd45a6 (2012): ns of an INVLPG.
INVLPG = (100.0, 140.0)


def main(argv=None) -> dict:
    """Write the page; return the events by (mask, entry, order) before and after."""
    given = study.arguments(__file__, argv, __doc__, size="256MiB")
    page = study.Page(
        __file__,
        given,
        "How many TLB flushes really go away on x86",
        "The batched unmap announces a batch to the TLB once in place of once per page. How many flushes and IPIs does "
        "that save on x86, where unmapping defers flushes anyway and reclaim isolates 32 base pages at a time?",
        f'"{study.THREAD}": reviewers hinted at the reduction of TLB flushes as a source of the gain. On x86 '
        "set_tlb_ubc_flush_pending() ignores the range, and every shrink_folio_list() call ends with a flush.",
    )
    page.head("Simulated")
    page.text(
        f"{study.format_size(given.size)} of young, clean file folios of one order, four fifths through "
        "memory.reclaim, or all through MADV_PAGEOUT, where a call handles a page table's worth of folios and flushes "
        "after 31 of them. The mm is active on 8 CPUs (the reclaiming one among them), on 2, on another one only, or "
        "only on the reclaiming one, as a single-threaded process that reclaims from itself is: then nothing is "
        "deferred and every unmap step flushes at once, under the page-table lock. "
        f"{BEFORE} is per page, {AFTER} batched.",
    )
    runs = _simulate(given.size)
    _tables(page, runs)
    _plot(page, runs)
    facts = _answer(page, runs)
    _flips(page, runs)
    page.write()
    return {"runs": runs, **facts}


def _simulate(size: int) -> dict:
    runs = {}
    for order in ORDERS:
        for name, cpus in MASKS.items():
            population = study.synthetic(ARCH, size, order)
            population.mm_cpumask[:] = np.uint64(cpus)
            for entry in ("memory.reclaim", "pageout"):
                runs[name, entry, order] = tuple(
                    study.reclaim(population, policy, ARCH, entry=entry) for policy in (BEFORE, AFTER)
                )
    return runs


def _per_folio(run, event: str) -> float:
    return run.events[event] / run.events["folios_freed"]


def _tables(page, runs: dict) -> None:
    for entry in ("memory.reclaim", "pageout"):
        for name in SHOWN:
            body = []
            for order in ORDERS:
                pair = runs[name, entry, order]
                cells = []
                for event in EVENTS:
                    before, after = (_per_folio(run, event) for run in pair)
                    cells.append(
                        study.number(after) if before == after else f"{study.number(before)} -> {study.number(after)}"
                    )
                body.append([str(order), study.format_size(4096 << order), *cells])
            page.head(f"{entry}, mm on {name}: per freed folio, {BEFORE} -> {AFTER}")
            page.table(["order", "size", *(f"`{event}`" for event in EVENTS)], body, left=2)
    page.text(
        "One figure where both are equal. An mm on 2 CPUs and one on another CPU only have the same deferred calls and "
        f"flushes as on 8, and {'fewer' if _fewer(runs) else 'as many'} IPIs in proportion to the other CPUs."
    )


def _fewer(runs: dict) -> bool:
    return all(
        runs["2 CPUs", entry, order][nr].events["ipis"] * 7 == runs["8 CPUs", entry, order][nr].events["ipis"]
        for _, entry, order in runs
        for nr in (0, 1)
    )


def _answer(page, runs: dict) -> dict:
    deferred = {key: pair for key, pair in runs.items() if key[0] != "only the reclaiming CPU"}
    same = all(
        pair[0].events[event] == pair[1].events[event]
        for pair in deferred.values()
        for event in ("tlb_flushes", "ipis", "tlbi_ops")
    )
    local = {order: runs["only the reclaiming CPU", "memory.reclaim", order] for order in ORDERS}
    flushes = {order: [_per_folio(run, "tlb_immediate") for run in pair] for order, pair in local.items()}
    invlpg = {order: [_per_folio(run, "tlbi_ops") for run in pair] for order, pair in local.items()}
    fewer = [order for order in ORDERS if invlpg[order][1] < invlpg[order][0]]
    pair = runs["8 CPUs", "memory.reclaim", 4]
    pages = [run.events["tlb_flushes"] / run.reclaimed_pages for run in pair]
    per_flush = {
        entry: runs["8 CPUs", entry, 4][1].reclaimed_pages / runs["8 CPUs", entry, 4][1].events["tlb_flushes"]
        for entry in ("memory.reclaim", "pageout")
    }
    calls = [_per_folio(run, "tlb_deferred") for run in pair]
    page.answer(
        "None where flushes are deferred: the number of flushes and of IPIs is the same to the last one at every "
        "order; "
        f"only the calls of set_tlb_ubc_flush_pending() fall, at order 4 from {calls[0]:.0f} to {calls[1]:.0f} per "
        "folio."
        if same
        else "Some flushes go away where they are deferred.",
        f"At order 4 a flush covers {per_flush['memory.reclaim']:.1f} pages in memory.reclaim under either policy "
        f"({1000 * pages[0]:.1f} and {1000 * pages[1]:.1f} flushes per 1000 pages), and {per_flush['pageout']:.0f} "
        "pages in MADV_PAGEOUT: how many folios a shrink_folio_list() call gets decides, not the unmap.",
        "Flushes do go away for an mm that is on no other CPU: at order 4 "
        f"{flushes[4][0]:.0f} immediate flushes become {flushes[4][1]:.0f} per folio, at order 9 {flushes[9][0]:.0f} "
        "become "
        f"{flushes[9][1]:.0f}; but the INVLPG in them stay, until a batch passes the ceiling of "
        f"{study.rf.arch.get(ARCH).flush_ceiling} pages and one full flush replaces them (from order {min(fewer)} on).",
    )
    return {"same": same, "fewer": fewer}


def _flips(page, runs: dict) -> None:
    page.head("What would change this")
    recorded = tomllib.loads(RECORDED.read_text(encoding="utf-8"))["counts"]
    flushes = recorded["arch_tlbbatch_flush_x86"]
    calls = recorded["set_tlb_ubc_flush_pending_x86"]
    page.text(
        "A real kernel agrees: flushes counted by kprobes without (B) and with (A) the batched unmap (Linux 7.2.13, "
        f"`validation/data`) were {flushes['order_4']['B']} and {flushes['order_4']['A']} at order 4, "
        f"{flushes['order_9']['B']} and {flushes['order_9']['A']} at order 9, where the calls of "
        f"set_tlb_ubc_flush_pending() fell from {calls['order_4']['B']:,} to {calls['order_4']['A']:,} and from "
        f"{calls['order_9']['B']:,} to {calls['order_9']['A']:,}.",
        "The counts depend on no cost. What a flush costs decides how much the rest of the gain is worth: flushes and "
        "IPIs are paid under both policies. `ab-7.2.13` has no cost for them, and `x86-64` one of an IPI within a wide "
        "range, which is left out here. The gain halves, deferred flushes, mm on 8 CPUs, if a flush with its IPIs "
        "costs:",
    )
    body = []
    for unit, name in (("ns", study.NS[ARCH]), ("instructions", study.INSTRUCTIONS[ARCH])):
        vector = page.vector(name).replace(ipis=0.0)
        for order in (4, 9):
            before, after = map(study.per_page, runs["8 CPUs", "memory.reclaim", order])
            per_page = study.at(before, "tlb_flushes")
            # The saving stays the same, and the price is twice as high.
            costs = study.price(before * (1 / HALF - 1) / per_page, vector)
            body.append(
                [
                    f"`{name}`, order {order}",
                    study.percent(study.change(before, after, vector)),
                    study.number(1 / per_page),
                    f"{study.text(costs, ',.0f')} {unit}",
                ]
            )
    page.table(["vector", "predicted change without flushes", "pages per flush", "a flush costs, for half of it"], body)
    vector = page.vector(study.INSTRUCTIONS[ARCH])
    before, after = map(study.per_page, runs["8 CPUs", "memory.reclaim", 4])
    saved = before - after
    part = study.at(saved, "tlb_deferred") * vector["tlb_deferred"]
    whole = float(saved @ vector.values)
    needed = study.at(saved, "tlb_deferred")
    page.text(
        f"The calls that do go away are {100 * part / whole:.0f}% of the predicted saving at order 4 in instructions "
        f"(`{vector.name}`: {vector['tlb_deferred']:.0f} per call, fixed only in proportion with other costs per "
        f"batch); they would be half of it at {(whole - part) / needed:.0f} instructions per call. In time a call is "
        "an atomic of a cache line that CPUs with threads of the mm may share, so it can cost more than its "
        "instructions say: that is the one way in which the deferred TLB work could matter on x86.",
        "For an mm on no other CPU, what a batch saves beside the INVLPG, and with an "
        f"INVLPG at the {INVLPG[0]:.0f} to {INVLPG[1]:.0f} ns that the changelog of e7b52ffd45a6 assumed in 2012, a "
        "full flush counted as one:",
    )
    body = []
    ns = page.vector(study.NS[ARCH]).replace(tlbi_ops=0.0)
    for order in (4, 5, 6, 9):
        before, after = map(study.per_page, runs["only the reclaiming CPU", "memory.reclaim", order])
        ops = study.at(before - after, "tlbi_ops")
        body.append(
            [
                str(order),
                study.number(study.at(before - after, "tlb_immediate")),
                study.number(ops),
                f"{ops * INVLPG[0]:.0f} to {ops * INVLPG[1]:.0f}",
                study.text(study.difference(before, after, ns)),
            ]
        )
    page.table(
        ["order", "flushes saved per page", "INVLPG saved", "ns saved by INVLPG", f"ns saved otherwise, `{ns.name}`"],
        body,
    )
    page.text(
        "INVLPGB and other ways to flush without IPIs make every flush cheaper, under both policies. "
        "A larger isolation batch (MGLRU takes 64 base pages, MADV_PAGEOUT more) divides the flushes of both policies."
    )


def _plot(page, runs: dict) -> None:
    figure, axes = study.figure(page, 3, height=3.6, words="Events are counted; nothing here depends on a cost.")
    panels = (
        ("set_tlb_ubc_flush_pending, 8 CPUs", "8 CPUs", "tlb_deferred", "calls per 1000 pages"),
        ("flushes, 8 CPUs", "8 CPUs", "tlb_flushes", "flushes per 1000 pages"),
        (
            "mm on the reclaiming CPU only",
            "only the reclaiming CPU",
            "tlbi_ops",
            "INVLPG or full flushes per 1000 pages",
        ),
    )
    for ax, (title, mask, event, label) in zip(axes, panels, strict=True):
        for entry, dash in (("memory.reclaim", "-"), ("pageout", "--")):
            for nr, policy in enumerate((BEFORE, AFTER)):
                pairs = [runs[mask, entry, order][nr] for order in ORDERS]
                ax.plot(
                    list(ORDERS),
                    [1000 * run.events[event] / run.reclaimed_pages for run in pairs],
                    "o" if entry == "memory.reclaim" else "s",
                    linestyle=dash,
                    color="0.55" if policy == BEFORE else "0",
                    markerfacecolor="white" if policy == BEFORE else "0",
                    markersize=9 if policy == BEFORE else 4.5,
                    linewidth=2.5 if policy == BEFORE else 1,
                    label=f"{policy}, {entry}",
                )
        study.log_axis(ax)
        ax.set_xticks(list(ORDERS))
        study.titles(ax, title, "folio order", f"{label} (log)")
    handles, labels = axes[0].get_legend_handles_labels()
    axes[0].get_figure().legend(
        handles, labels, loc="outside upper center", ncols=4, fontsize=study.TEXT, frameon=False, handlelength=3.5
    )
    page.plot(figure, "TLB work on x86 by folio order, per page and batched")


if __name__ == "__main__":
    main()
