"""Write docs/forecasts.md: predictions for changes that are discussed but not merged (``make forecasts``)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rmapfast import Population, cost, reclaim
from rmapfast._version import __version__
from rmapfast.events import EVENT_NAMES
from validation.markdown import table

PAGE = Path(__file__).resolve().parents[1] / "docs" / "forecasts.md"
# When these predictions were made. A later run that differs belongs to another model, and gets another date.
DATED = "26 November 2026"
SIZE = "256MiB"

NS = {"x86-64": "x86-64", "arm64-4k": "arm64-4k", "riscv64": "riscv64", "riscv64-svnapot": "riscv64-svnapot"}
INSTRUCTIONS = {"x86-64": "ab-7.2.13", "arm64-4k": "arm64-7.2", "riscv64": "riscv64-7.2"}


@dataclass(frozen=True)
class Case:
    """A reclaim under the policies without and with a change.

    Parameters
    ----------
    name : str
        Of the row.
    arch : str
        Architecture of both runs, or of the first where `other` names another one.
    options : dict
        Of :meth:`rmapfast.Population.synthetic`.
    entry : str
    cpumask : int
        CPUs on which the mm is active.
    other : str
        Architecture of the run with the change, if that is what changes.
    """

    name: str
    arch: str
    options: dict[str, Any]
    entry: str = "memory.reclaim"
    cpumask: int = 0b10
    other: str = ""


@dataclass(frozen=True)
class Forecast:
    """A change and what is predicted for it.

    Parameters
    ----------
    title, patch : str
        The change, and where it was posted.
    before, after : str
        Policies without and with it.
    cases : tuple of Case
    shown : tuple of str
        Events of which the counts per page are shown.
    setting : str
        What is reclaimed, in words.
    wrong : str
        What would prove it wrong.
    missing : str
        What it leaves out.
    """

    title: str
    patch: str
    before: str
    after: str
    cases: tuple[Case, ...]
    shown: tuple[str, ...]
    setting: str
    wrong: str
    missing: str = ""
    prices: tuple[str, ...] = field(default=("ns", "instructions"))


def _orders(archs: Iterable[str], orders: Iterable[int], **options: Any) -> tuple[Case, ...]:
    extra = {name: options.pop(name) for name in ("entry", "cpumask", "other") if name in options}
    return tuple(
        Case(f"{arch}, order {order}", arch, {"orders": order, **options}, **extra)
        for arch in archs
        for order in orders
    )


BOTH = ("x86-64", "arm64-4k")
FORECASTS = (
    Forecast(
        "Batched anonymous swap-out",
        "Dev Jain, v4 of 26 May 2026 (12 patches); Barry Song's RFC of 13 May 2025",
        "v7.3",
        "anon-swap",
        _orders(BOTH, range(2, 10), kind="anon", entry="pageout"),
        ("batches", "tlbi_ops", "contpte_unfolds"),
        "Anonymous, exclusive, dirty folios through MADV_PAGEOUT, swap on zram.",
        "The time of MADV_PAGEOUT on 256 MiB of 64K folios with swap on zram, pages that compress well, changes by a "
        "share outside the interval of order 4 on a server like those of the vectors; or order 9 gains less than "
        "order 4.",
        "The prices of the write-out come from the published times of this series itself, so order 4 tests little "
        "and the "
        "other orders test more. A disk, or pages that compress badly, make the change smaller.",
    ),
    Forecast(
        "Skipping the walker past the batch",
        "Wei Yang (7 January 2026), Dev Jain's page_vma_mapped_walk_jump() (10 March 2026)",
        "v7.3",
        "skip-caller",
        tuple(
            Case(f"{arch}, order 9, {words}", arch, {"orders": 9, "young": 0.0, "holes": holes})
            for arch in BOTH
            for words, holes in (
                ("whole", 0.0),
                ("a hole in 129", "every:129"),
                ("a hole in 17", "every:17"),
                ("5% holes", 0.05),
            )
        ),
        ("walk_slots", "walk_pte_reads"),
        "File folios of order 9 that are mapped by PTEs and have holes.",
        "A kernel with the jump executes fewer instructions than the interval allows, or more than 1% fewer where "
        "every "
        "folio is one batch.",
        "In ns the price of a slot is assumed from instructions; slots that were just written are in the cache, so the "
        "change in time is nearer to nothing than that in instructions.",
    ),
    Forecast(
        "Whole batches of uffd-wp markers",
        'series "Batch unmap of uffd-wp file folios", in v7.3-rc7; compared with v7.2',
        "v7.2",
        "v7.3",
        (
            *_orders(BOTH, (1, 4, 9), uffd_wp=1.0),
            *(
                Case(f"{arch}, shmem, order {order}", arch, {"orders": order, "uffd_wp": 1.0, "kind": "shmem"})
                for arch in BOTH
                for order in (4, 9)
            ),
        ),
        ("batches", "markers_set", "walk_pte_reads"),
        "Every entry write-protected: clean file folios (asynchronous mode), and shmem, which is written to swap.",
        "Instructions of memory.reclaim on the same memory under 7.2 and 7.3 change by a share outside the interval, "
        "or "
        "try_to_unmap_one() of an order-4 folio with all entries protected takes more than 4000 instructions in 7.3.",
        "A marker has no price. Both kernels write as many.",
    ),
    Forecast(
        "One flush for several dirty folios",
        "flush batching in the reclaim loop (proposal; policy flush-batch)",
        "v7.3",
        "flush-batch",
        _orders(("x86-64",), (0, 2, 4, 9), kind="anon", cpumask=0b11),
        ("tlb_flushes", "ipis"),
        "Anonymous dirty folios through memory.reclaim, the mm active on the reclaiming CPU and another one.",
        "tlb:tlb_flush events per freed folio fall by another factor than `tlb_flushes` here.",
        "An IPI has a wide price (200 to 5000 ns), and so has the write-out: the counts are the forecast, the prices "
        "say "
        "what they may be worth.",
        ("ns",),
    ),
    Forecast(
        "TLBIs that are not broadcast",
        "local TLBI for an mm that one CPU ran (proposal; policy local-tlbi)",
        "v7.3",
        "local-tlbi",
        _orders(("arm64-4k",), (0, 4, 9), cpumask=0b1),
        ("tlbi_ops", "tlbi_local", "dsb_ops", "dsb_nsh"),
        "File folios of a process that only the reclaiming CPU ran.",
        "A counter of broadcast TLBIs does not fall to none for such a process.",
        "**No price:** nobody has timed a local TLBI or its barrier. The change below is what is saved if they cost "
        "nothing, "
        "the most that can be. `--set arm64-4k.cost.tlbi_local=NS` and `cost.dsb_nsh` price them.",
        ("ns",),
    ),
    Forecast(
        "Svnapot blocks for user folios on riscv",
        '"riscv: add Svnapot-based contiguous PTE support", v1 of 21 April 2026',
        "v7.3",
        "v7.3",
        _orders(("riscv64",), (4, 9), other="riscv64-svnapot", young=0.0),
        ("raw_pte_loads", "batch_pte_reads", "contpte_unfolds", "tlbi_ops"),
        "File folios, not young, unmapped in whole batches on riscv64 with and without blocks of 64K.",
        "memory.reclaim on intact folios takes more instructions with Svnapot than without, or unfolds a block.",
        "**No price:** what a gather of a block's young and dirty bits takes on riscv was not measured, nor an "
        "unfold. The "
        "events are the forecast: fewer reads by the batch scan, more loads by the gathers, no unfold.",
        (),
    ),
)


def _events(case: Case, policy: str, arch: str) -> np.ndarray:
    population = Population.synthetic(SIZE, arch=arch, **case.options)
    population.mm_cpumask[:] = np.uint64(case.cpumask)
    target = population.nr_pages * 4 // 5 << population.page_shift
    result = reclaim(population, target, policy=policy, arch=arch, entry=case.entry, in_place=True)
    return result.events.counts / result.reclaimed_pages


def _percents(found: cost.Range) -> str:
    if found.low == found.high:
        return f"{100 * found.value:+.1f}%"
    return f"{100 * found.value:+.1f}% ({100 * found.low:+.1f} to {100 * found.high:+.1f}%)"


def rows(forecast: Forecast) -> tuple[list[list[str]], dict[str, list[str]]]:
    """Return a row for each case, and by unit the events in which the policies differ and that have no price.

    Parameters
    ----------
    forecast : Forecast
    """
    body = []
    silent: dict[str, set[str]] = {unit: set() for unit in forecast.prices or ("ns",)}
    for case in forecast.cases:
        before = _events(case, forecast.before, case.arch)
        after = _events(case, forecast.after, case.other or case.arch)
        cells = []
        for event in forecast.shown:
            at = EVENT_NAMES.index(event)
            cells.append(f"{before[at]:.3g} -> {after[at]:.3g}" if before[at] != after[at] else f"{before[at]:.3g}")
        for unit in forecast.prices:
            vector = cost.get((NS if unit == "ns" else INSTRUCTIONS)[case.arch])
            saved = vector.difference(before, after)
            cells += [
                _percents(vector.change(before, after)),
                f"{saved.value:.0f} ({saved.low:.0f} to {saved.high:.0f})",
            ]
            silent[unit] |= set(vector.unpriced(before, after))
        if not forecast.prices:
            silent["ns"] |= set(cost.get(NS[case.arch]).unpriced(before, after))
        body.append([case.name, *cells])
    return body, {unit: [event for event in EVENT_NAMES if event in found] for unit, found in silent.items()}


def main() -> None:
    """Write the page."""
    lines = [
        "# Forecasts",
        "",
        f"Predictions for changes that are discussed but not merged, made on {DATED} with rmapfast {__version__}, "
        f"each with "
        "what would prove it wrong. Written by `make forecasts` from the committed model and cost vectors, so anyone "
        "can "
        "make them again when a patch lands. "
        f"{SIZE} of memory, four fifths reclaimed (all of it through MADV_PAGEOUT). Events are per reclaimed page, "
        f"without "
        "and with the change. An interval holds 90% of what the draws of the costs predict; both runs are drawn "
        "together. "
        "Folios of order 9 are mapped by PTEs here; aligned ones normally have a PMD, and nothing to batch. "
        "`docs/validation.md` says how often such intervals held what was measured.",
        "",
    ]
    for number, one in enumerate(FORECASTS, 1):
        body, silent = rows(one)
        head = ["case", *(f"`{event}`" for event in one.shown)]
        for unit in one.prices:
            head += [f"change, {unit}", f"{unit} saved per page"]
        archs = dict.fromkeys(case.arch for case in one.cases)
        used = [(NS if unit == "ns" else INSTRUCTIONS)[arch] for unit in one.prices for arch in archs]
        lines += [
            f"## {number}. {one.title}",
            "",
            f"*{one.patch}.* {one.setting} `{one.before}` against `{one.after}`.",
            "",
        ]
        lines += table(head, body)
        lines += [f"**Wrong if:** {one.wrong}", ""]
        lines += [one.missing, ""] if one.missing else []
        for unit, events in silent.items():
            if events:
                lines += [f"Without a price in {unit}: {', '.join(f'`{event}`' for event in events)}.", ""]
        if used:
            lines += [f"Cost vectors: {', '.join(f'`{name}`' for name in used)}.", ""]
    PAGE.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    print(f"wrote docs/{PAGE.name}")


if __name__ == "__main__":
    main()
