"""Write docs/validation.md: every measured row against what the committed cost vectors predict (``make validate``)."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from rmapfast import Population, cost, reclaim
from rmapfast._version import __version__
from rmapfast.events import REFERENCE_CHECK
from rmapfast.verify import replay_counts, verdict
from validation import coverage, fit, machine, published, rows
from validation.markdown import table

PAGE = Path(__file__).resolve().parents[1] / "docs" / "validation.md"


def _percent(value: float) -> str:
    return f"{100 * value:+.1f}%"


def _range_percent(found: cost.Range) -> str:
    if found.low == found.high:
        return _percent(found.value)
    return f"{_percent(found.value)} ({100 * found.low:+.0f} to {100 * found.high:+.0f}%)"


def _error(row: rows.Row, predicted: float) -> str:
    inside = row.scatter[0] <= predicted / row.measured <= row.scatter[1]
    return _percent(predicted / row.measured - 1) + (" (inside the scatter)" if inside else "")


def _coverage(fits: fit.Fits) -> list[str]:
    """Of figures that were not used in a fit, the share inside their interval, by vector and kind."""
    body, whole = [], {}
    for name, problem in fits.problems.items():
        rows_of, least = fits.left_out[name], fits.floor(name)
        found = list(zip(rows_of, coverage.held(rows_of, fits.peers(name), least), strict=True))
        vector = fits.vectors_by_name[name]
        for kind, lists in dict.fromkeys((one.row.kind, one.row.lists) for one in rows_of):
            wanted = kind, lists
            of_kind = [
                (one, inside, width) for one, (inside, width) in found if (one.row.kind, one.row.lists) == wanted
            ]
            errors = np.abs([one.error for one, _, _ in of_kind])
            fitted = [abs(one.row.predicted(vector) / one.row.measured - 1) for one, _, _ in of_kind]
            used = [
                (found.high - found.low) / found.value for found in (one.row.range(vector) for one, _, _ in of_kind)
            ]
            body.append(
                [
                    f"`{name}`",
                    _KINDS[kind] + (", MGLRU" if lists == "mglru" else ""),
                    str(len(of_kind)),
                    f"{100 * np.mean([inside for _, inside, _ in of_kind]):.0f}%",
                    f"{100 * np.median([width for _, _, width in of_kind]):.0f}%",
                    f"{100 * np.median(errors):.1f}%",
                    f"{100 * np.median(fitted):.1f}%",
                    f"{100 * np.median(used):.1f}%",
                ]
            )
            whole.setdefault(problem.unit, []).extend(of_kind)
    for unit, of_unit in whole.items():
        body.append(
            [
                f"all in {unit}",
                "",
                str(len(of_unit)),
                f"{100 * np.mean([inside for _, inside, _ in of_unit]):.0f}%",
                f"{100 * np.median([width for _, _, width in of_unit]):.0f}%",
                f"{100 * np.median(np.abs([one.error for one, _, _ in of_unit])):.1f}%",
                "",
                "",
            ]
        )
    head = [
        "vector",
        "kind",
        "rows",
        "inside (90%)",
        "median width",
        "median error",
        "error in the fit",
        "width with it",
    ]
    return table(head, body)


_KINDS = {
    "total": "whole reclaim",
    "shrink": "shrink_folio_list",
    "unmap": "try_to_unmap_one",
    "referenced": "folio_referenced_one",
    "ns": "whole reclaim",
}


def _summary(fits: fit.Fits) -> list[str]:
    body = []
    for name, problem in fits.problems.items():
        vector = fits.vectors_by_name[name]
        inside = np.array([abs(row.predicted(vector) / row.measured - 1) for row in problem.rows])
        outside = np.abs([one.error for one in fits.left_out[name]])
        tested = fits.tested(name)
        body.append(
            [
                f"`{name}`",
                problem.build,
                vector.unit,
                str(len(problem.rows)),
                str(len(set(problem.designs))),
                str(len(problem.parameters)),
                f"{100 * np.median(inside):.2f}%" if tested else "says little",
                f"{100 * inside.max():.1f}%",
                f"{100 * np.median(outside):.1f}%",
                f"{100 * outside.max():.0f}%",
                f"{100 * vector.residual:.0f}%" + ("" if tested else ", borrowed"),
            ]
        )
    return table(
        [
            "vector",
            "build or machine",
            "unit",
            "rows",
            "designs",
            "parameters",
            "median error, in the fit",
            "largest",
            "median, left out",
            "largest, left out",
            "residual",
        ],
        body,
    )


def _improvement(problem, vector) -> list[str]:
    """Build A against build B: what the two lines of commit a67fe41e214f buy, measured and predicted."""
    body = []
    named = {(row.section, row.name): row for row in problem.rows if row.kind == "total"}
    for (section, name), after in named.items():
        before = named.get((section, name.removesuffix("A") + "B"))
        if not name.endswith(" A") or before is None:
            continue
        measured = after.measured / before.measured - 1
        found = vector.change(before.counts, after.counts)
        points = 100 * (found.value - measured)
        body.append([section, name.removesuffix(" A"), _percent(measured), _range_percent(found), f"{points:+.1f}"])
    return table(["section", "row", "measured", "predicted (90%)", "points"], body)


def _costs(vector) -> list[str]:
    tied = {event: number for number, events in enumerate(vector.joint, 1) for event in events}
    body = [
        [
            f"`{one.event}`" + (f" ({tied[one.event]})" if one.event in tied else ""),
            f"{one.value:.1f}",
            f"{one.low:.1f} to {one.high:.1f}",
            one.kind,
            one.source,
        ]
        for one in vector.costs
    ]
    lines = table(["event", vector.unit, "90%", "kind", "source"], body)
    for number, events in enumerate(vector.joint, 1):
        lines += [f"({number}) The rows fix only the sum of {', '.join(f'`{event}`' for event in events)}.", ""]
    return lines


def _rows(problem, vector, left_out) -> list[str]:
    out = {one.row: one for one in left_out}
    body = []
    for row in problem.rows:
        found = row.range(vector)
        interval = f"{found.low:.0f} to {found.high:.0f}"
        without = out[row].ranges[coverage.RESIDUALS.index(vector.residual)]
        left = f"{_percent(out[row].error)} ({without.low:.0f} to {without.high:.0f})"
        body.append(
            [
                row.section,
                row.name,
                f"{row.measured:.0f}",
                f"{found.value:.0f}",
                interval,
                _error(row, found.value),
                left,
            ]
        )
    head = [
        "section",
        "row",
        "measured",
        "predicted",
        "90%",
        "error",
        "error when its design is left out (90% with the vector's residual)",
    ]
    return table(head, body)


def _call_counts() -> list[str]:
    found = replay_counts(rows.DATA / "measured-vm.toml")
    body = [[c.row, c.what, str(c.recorded), str(c.model), verdict(c)] for c in found]
    return table(["row", "what", "recorded", "model", ""], body)


def _gain(name: str, vector, size: str = "1GiB") -> tuple[list[list[str]], int | None]:
    """Return the published experiment by folio order, and the first order at which more than half is gained."""
    body, half = [], None
    for order in range(10):
        per_page = []
        for policy in ("v6.16", "v6.16+young", "v7.0"):
            population = Population.synthetic(size, arch=name, orders=order)
            result = reclaim(population, "820MiB", policy=policy, arch=name, in_place=True)
            per_page.append(result.events.counts / result.reclaimed_pages)
        prices = [vector.price(counts) for counts in per_page]
        young, unmap = vector.change(*per_page[:2]), vector.change(*per_page[1:])
        if half is None and vector.change(per_page[0], per_page[2]).value < -0.5:
            half = order
        texts = [f"{one.value:.0f} ({one.interval[0]:.0f} to {one.interval[1]:.0f})" for one in prices]
        body.append([str(order), f"{4 << order}K", *texts, _range_percent(young), _range_percent(unmap)])
    return body, half


_GAIN_HEAD = ["order", "size", "v6.16, ns", "v6.16+young, ns", "v7.0, ns", "batched young", "batched unmap"]


def _seconds(vectors) -> list[str]:
    lines = [
        "## The seed's experiment by folio order: predictions",
        "",
        "1 GiB of young, clean, read-only mapped file folios, 820 MiB reclaimed through memory.reclaim; ns per "
        "reclaimed page with the interval (90%). None of the published figures says which folio order it had. Folios "
        "of "
        "order 9 are mapped by PTEs here; aligned ones normally have a PMD, and then there is nothing to batch: 14 "
        "ns per "
        "page where 149 are measured with PTEs.",
        "",
    ]
    for name in ("x86-64", "arm64-4k"):
        body, half = _gain(name, vectors[name])
        lines += [f"`{name}`: both batched steps together gain more than half from order {half} on.", ""]
        lines += table(_GAIN_HEAD, body)
    published = rows.load("published.toml")["row"]
    x86 = {row["id"]: row for row in published if "improvement_at_least" in row}
    lines += [
        "Published for x86-64, without folio order or machine: "
        f"at least {_percent(-x86['file-unmap-x86']['improvement_at_least'])} for the batched unmap and "
        f"{_percent(-x86['young-x86']['improvement_at_least'])} for the batched young check. "
        "The table says from which orders on the model reaches that.",
        "",
    ]
    lines += [*_orders(vectors), *_beside(vectors)]
    return [*lines, *_lazyfree(vectors["arm64-4k"], next(row for row in published if row["id"] == "lazyfree-64k"))]


def _orders(vectors) -> list[str]:
    """Return the published times under each folio order and each thing that may take longer than its instructions."""
    tried = published.alternatives(vectors["arm64-7.2"])
    body = []
    for one in sorted(tried, key=lambda one: -one.weight):
        if one.weight < 0.001:
            continue
        errors = [_percent(error) for error in one.errors]
        body.append(
            [
                str(one.order),
                one.extra,
                f"{one.ns_per_instruction:.3f}",
                f"{one.ns:.0f}",
                *errors,
                f"{100 * one.weight:.1f}%",
            ]
        )
    names = [row.name for row in rows.published_rows(4)]
    prior = ", ".join(f"{order}: {100 * share:.0f}%" for order, share in published.ORDERS.items())
    return [
        "## The published arm64 times: folio order and flush cost as unknowns",
        "",
        "Two figures are fitted to three times: nanoseconds per instruction, and what takes longer than its "
        "instructions. "
        f"The prior of the folio order is {prior}; each thing that may take longer is as likely as any other. The "
        f"weight "
        f"is the prior times how well the times are met, with a relative error of {100 * published.MODEL_ERROR:.0f}%. "
        "All other alternatives have less than 0.1%.",
        "",
        *table(
            [
                "order",
                "takes longer",
                "ns per instruction",
                "ns more",
                *(f"error of {name}" for name in names),
                "weight",
            ],
            body,
        ),
    ]


def _beside(vectors) -> list[str]:
    """Return what contradicts the figures, beside them."""
    shares, per_page = [], []
    for policy in ("v6.16", "v6.16+young", "v7.0"):
        population = Population.synthetic("1GiB", arch="arm64-4k", orders=4)
        result = reclaim(population, "820MiB", policy=policy, arch="arm64-4k", in_place=True)
        counts = result.events.counts, result.referenced_events.counts
        shares.append(vectors["arm64-4k"].shares(*counts)[REFERENCE_CHECK])
        per_page.append(counts[0] / result.reclaimed_pages)
    young = vectors["arm64-4k"].change(*per_page[:2])
    x86 = []
    for policy in ("v6.16+young", "v7.0"):
        population = Population.synthetic("1GiB", orders=4)
        result = reclaim(population, "820MiB", policy=policy, in_place=True)
        x86.append(result.events.counts / result.reclaimed_pages)
    saved = vectors["x86-64"].difference(*x86)
    ns, instructions = vectors["x86-64"].change(*x86), vectors["ab-7.2.13"].change(*x86)
    counted = vectors["ab-7.2.13"].difference(*x86)

    def percents(found: cost.Range) -> str:
        return f"{100 * found.value:.0f}% ({100 * found.low:.0f} to {100 * found.high:.0f}%)"

    return [
        "## What stands against the predictions",
        "",
        "At folio order 4, with what was measured or published beside it:",
        "",
        *table(
            ["figure", "predicted (90%)", "beside it"],
            [
                ["batched young check alone, arm64", _range_percent(young), "published -32.9%"],
                [
                    "share of the reference check before, arm64",
                    percents(shares[0]),
                    "published 35% of the profile",
                ],
                [
                    "share of the reference check after the young check, arm64",
                    percents(shares[1]),
                    "published about 5% of the profile",
                ],
                [
                    "saved by the batched unmap, x86-64, ns per page",
                    f"{saved.value:.0f} ({saved.low:.0f} to {saved.high:.0f})",
                    "125 from the profile of the same machine; "
                    f"{counted.value:.0f} ({counted.low:.0f} to {counted.high:.0f}) instructions of ab-7.2.13, which "
                    f"at "
                    "0.30 to 0.40 ns each are "
                    f"{0.3 * counted.value:.0f} to {0.4 * counted.value:.0f}",
                ],
                [
                    "change by the batched unmap, x86-64, in time",
                    _range_percent(ns),
                    f"in instructions {_range_percent(instructions)}; kernels A and B differ by -44%; published at "
                    f"least "
                    "-50%, without folio order",
                ],
            ],
        ),
        "Time and instructions answer two questions on x86-64. The fit of the times gives the loop around the unmap "
        "more "
        "of a page's time than of its instructions: isolation, free lists and struct pages miss caches, the steps of "
        "an "
        "unmap do not. So the same steps are a smaller share of the time. The profile of the machine says that a step "
        "takes more than the fit gives it; the fit has no row in which a file folio is unmapped in batches, as 6.18 "
        "does "
        "not do that. A reader who wants one answer for a batch on x86-64 should take both intervals together.",
        "",
    ]


def _lazyfree(vector, published: dict) -> list[str]:
    body = []
    for side in ("before", "after"):
        population = Population.synthetic("128MiB", kind="lazyfree", orders=4, arch="arm64-4k", young=0.0)
        policy = published[f"policy_{side}"]
        result = reclaim(population, policy=policy, arch="arm64-4k", entry="pageout", in_place=True)
        predicted = vector.price(result.events.counts).seconds
        measured = published[f"{side}_s"]
        body.append([policy, f"{measured:.3f}", f"{predicted:.4f}", f"{measured / predicted:.0f}"])
    return [
        "`lazyfree-64k` (commit 354dffd29575): 128 MiB of 64K lazyfree folios through MADV_PAGEOUT on an unnamed arm64 "
        "device. No vector is fitted to it; `arm64-4k` belongs to a server. The device spends more than a microsecond "
        "per page on things that are not in the vector (the figure includes deferred splits and freeing), so this row "
        "misses by far; both agree that batching gains.",
        "",
        *table(["policy", "published, s", "predicted, s", "published / predicted"], body),
    ]


def _machines() -> list[str]:
    """Return the machines on which predictions were tried."""
    with open(machine.TRIED, encoding="utf-8", newline="") as file:
        tried = list(csv.reader(file))
    return [
        "## Machines on which predictions were tried",
        "",
        "`make validate MACHINE=NAME` (root) measures reclaims of the machine at hand, fits its costs to one part of "
        "them, "
        "predicts the others, and adds a row here.",
        "",
        *table(tried[0], tried[1:]),
    ]


def write(fits: fit.Fits) -> None:
    """Write the page."""
    vectors = {name: cost.get(name) for name in cost.names()}
    ab = fits.problems["ab-7.2.13"]
    lines = [
        "# Validation",
        "",
        "How often the intervals held what was measured, and every measured row against the prediction of the cost "
        f"vectors in `rmapfast/costs`. Written by `make validate` (rmapfast {__version__}); `make fit` fits the "
        f"vectors "
        "anew. The rows are in `validation/data`, the way in which each is simulated in `validation/rows.py`, what is "
        "fitted to what in `validation/fit.py`, `validation/instructions.py` and `validation/published.py`.",
        "",
        "## Coverage",
        "",
        "Every interval states its level, 90% unless asked otherwise. Here each design (a folio order, kind, layout or "
        "mapping, with all builds and figures of it) is left out of the fit of its vector, with the residual that the "
        "other designs give, and predicted. *inside* is the share of these rows that lie in their interval, *median "
        "width* is that of the interval relative to the prediction, and *median error* that of the prediction. The "
        "last "
        "two columns are of the fit to all rows: what a row between the measured ones may expect.",
        "",
        *_coverage(fits),
        *_machines(),
        "## What was fitted",
        "",
        "A fit is non-negative least squares of relative errors. All rows have the same weight, but those under MGLRU, "
        f"whose scatter is larger, {rows.MGLRU_WEIGHT:g}; the residual is that of the classic lists, and the prices of "
        "MGLRU's own events vary by half besides. A vector's draws are "
        "fits "
        "of their own: the designs get new weights (a Bayesian bootstrap), each figure moves by the error of the rows, "
        "each prior value by its spread, and each cost by the *residual*: what a constant cost cannot explain. The "
        "residual is the smallest with which the left-out rows are inside as often as the level says. A vector with "
        f"fewer than {coverage.ENOUGH} designs under the classic LRU cannot test itself: its median error in the "
        "fit says little, and its "
        "residual is borrowed from all such vectors together. Builds in instructions have what their relatives have in "
        "common as their prior, so no row of one is quite independent of the others. Per-call rows hold a tracer's "
        "share "
        "(`traced_calls`), which is stated with the data, or fitted where that says 680 to 1000.",
        "",
        *_summary(fits),
        "## What the seed's two lines buy: build A against build B",
        "",
        *_improvement(ab, vectors[ab.name]),
        "## Call counts",
        "",
        "`tuo` and `fr` are given, all else follows; up to 4 removals of single pages belong to something else.",
        "",
        *_call_counts(),
        *_seconds(vectors),
        "## Rows that no vector is fitted to",
        "",
        "MADV_PAGEOUT on the physical host of the emulated machines, Linux 6.18 (minimum of 21 repeats), against "
        "`x86-64`, which was fitted to another entry on another machine. They are not quite independent: the price "
        "of an "
        "entry that the call walks (`madvise_entries`), and that of an instruction in nanoseconds from which the "
        "priors "
        "come, are taken from them.",
        "",
        *table(
            ["section", "row", "measured", "predicted", "90%", "error"],
            (
                [
                    row.section,
                    row.name,
                    f"{row.measured:.0f}",
                    f"{found.value:.0f}",
                    f"{found.low:.0f} to {found.high:.0f}",
                    _error(row, found.value),
                ]
                for row, found in ((row, row.range(vectors[row.vector])) for row in rows.pageout_rows())
            ),
        ),
    ]
    for name, problem in fits.problems.items():
        vector = vectors[name]
        lines += [f"## `{name}`", "", f"{problem.build}. {vector.note}".strip(), ""]
        lines += [*_costs(vector), *_rows(problem, vector, fits.left_out[name])]
    lines += ["## `arm64-4k`", "", f"{vectors['arm64-4k'].build}. {vectors['arm64-4k'].note}", ""]
    lines += _costs(vectors["arm64-4k"])
    lines += ["## Machines that nobody timed", ""]
    assumed = [(name, vectors[name].note) for name in ("arm64-16k", "arm64-64k", *fit.UNTIMED)]
    lines += table(["vector", "what is assumed"], ([f"`{name}`", note] for name, note in assumed))
    PAGE.write_text("\n".join(line.rstrip() for line in lines).rstrip() + "\n", encoding="utf-8")
    print(f"wrote docs/{PAGE.name}")


if __name__ == "__main__":
    write(fit.Fits.measured())
