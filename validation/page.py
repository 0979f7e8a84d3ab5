"""Write docs/validation.md: every measured row against what the committed cost vectors predict (``make validate``)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from rmapfast import Population, cost, reclaim
from rmapfast._version import __version__
from rmapfast.events import REFERENCE_CHECK
from rmapfast.verify import replay_counts
from validation import fit, rows

PAGE = Path(__file__).resolve().parents[1] / "docs" / "validation.md"

# Leverage from which on a row's prediction rests on that row alone.
_TESTS_NOTHING = 0.8


def _table(head: list[str], body: Iterable[list[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*lines, *("| " + " | ".join(line) + " |" for line in body), ""]


def _percent(value: float) -> str:
    return f"{100 * value:+.1f}%"


def _error(row: rows.Row, predicted: float) -> str:
    inside = row.scatter[0] <= predicted / row.measured <= row.scatter[1]
    return _percent(predicted / row.measured - 1) + (" (inside the scatter)" if inside else "")


def _figures(row: rows.Row, vector) -> list[str]:
    predicted = row.predicted(vector)
    return [f"{row.measured:.0f}", f"{predicted:.0f}", _error(row, predicted)]


def _summary(problems, vectors) -> list[str]:
    body = []
    for problem in problems:
        vector = vectors[problem.name]
        errors = np.array([abs(row.predicted(vector) / row.measured - 1) for row in problem.rows])
        body.append(
            [
                f"`{problem.name}`",
                problem.build,
                vector.unit,
                str(len(problem.rows)),
                str(len(problem.parameters)),
                str(len(vector.costs)),
                f"{100 * np.median(errors):.2f}%",
                f"{100 * errors.max():.1f}%",
            ]
        )
    return _table(
        ["vector", "build or machine", "unit", "rows", "parameters", "costs", "median error", "largest"], body
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
        predicted = after.predicted(vector) / before.predicted(vector) - 1
        points = 100 * (predicted - measured)
        body.append([section, name.removesuffix(" A"), _percent(measured), _percent(predicted), f"{points:+.1f}"])
    return _table(["section", "row", "measured", "predicted", "points"], body)


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
    lines = _table(["event", vector.unit, "fits as well", "kind", "source"], body)
    for number, events in enumerate(vector.joint, 1):
        lines += [f"({number}) The rows fix only the sum of {', '.join(f'`{event}`' for event in events)}.", ""]
    return lines


def _rows(problem, vector) -> list[str]:
    left_out, leverage = problem.left_out(), problem.leverage()
    body = []
    for row, error, lever in zip(problem.rows, left_out, leverage, strict=True):
        without = "tests nothing" if lever > _TESTS_NOTHING else _percent(error)
        predicted = row.predicted(vector)
        body.append([row.section, row.name, f"{row.measured:.0f}", f"{predicted:.0f}", _error(row, predicted), without])
    return _table(["section", "row", "measured", "predicted", "error", "error when left out"], body)


def _call_counts() -> list[str]:
    found = replay_counts(rows.DATA / "measured-vm.toml")
    verdict = {True: "agrees", False: "**differs**", None: "prediction"}
    body = [[c.row, c.what, str(c.recorded), str(c.model), verdict[c.agrees]] for c in found]
    return _table(["row", "what", "recorded", "model", ""], body)


def _gain(name: str, vector, size: str = "1GiB") -> tuple[list[list[str]], int | None]:
    """Return the published experiment by folio order, and the first order at which more than half is gained."""
    body, half = [], None
    for order in range(10):
        per_page = []
        for policy in ("v6.16", "v6.16+young", "v7.0"):
            population = Population.synthetic(size, arch=name, orders=order)
            result = reclaim(population, "820MiB", policy=policy, arch=name, in_place=True)
            price = vector.price(result.events.counts)
            per_page.append([figure / result.reclaimed_pages for figure in (price.value, *price.interval)])
        young, before, after = per_page
        if half is None and after[0] < before[0] / 2:
            half = order
        texts = [f"{value:.0f} ({low:.0f} to {high:.0f})" for value, low, high in per_page]
        gains = [_percent(before[0] / young[0] - 1), _percent(after[0] / before[0] - 1)]
        body.append([str(order), f"{4 << order}K", *texts, *gains])
    return body, half


_GAIN_HEAD = ["order", "size", "v6.16, ns", "v6.16+young, ns", "v7.0, ns", "batched young", "batched unmap"]


def _seconds(vectors) -> list[str]:
    lines = [
        "## The seed's experiment by folio order: predictions",
        "",
        "1 GiB of young, clean, read-only mapped file folios, 820 MiB reclaimed through memory.reclaim; ns per "
        "reclaimed page with the interval. None of the published figures says which folio order it had.",
        "",
    ]
    for name in ("x86-64", "arm64-4k"):
        body, half = _gain(name, vectors[name])
        lines += [f"`{name}`: the batched unmap gains more than half from order {half} on.", ""]
        lines += _table(_GAIN_HEAD, body)
    published = rows.load("published.toml")["row"]
    x86 = {row["id"]: row for row in published if "improvement_at_least" in row}
    lines += [
        "Published for x86-64, without folio order or machine: "
        f"at least {_percent(-x86['file-unmap-x86']['improvement_at_least'])} for the batched unmap and "
        f"{_percent(-x86['young-x86']['improvement_at_least'])} for the batched young check. "
        "The table says from which orders on the model reaches that.",
        "",
    ]
    lines += _reference_share(vectors["arm64-4k"])
    return [*lines, *_lazyfree(vectors["arm64-4k"], next(row for row in published if row["id"] == "lazyfree-64k"))]


def _reference_share(vector) -> list[str]:
    """Return what is predicted for the share of the reference check, which its authors give from a profile."""
    shares = []
    for policy in ("v6.16", "v6.16+young"):
        population = Population.synthetic("1GiB", arch="arm64-4k", orders=fit.PUBLISHED_ORDER)
        price = reclaim(population, "820MiB", policy=policy, arch="arm64-4k", in_place=True).price(vector)
        shares.append(100 * price.breakdown[REFERENCE_CHECK] / price.value)
    return [
        "`young-arm64` also says that folio_check_references went from 35% of the profile to about 5%; nothing is "
        f"fitted to that. Predicted at order {fit.PUBLISHED_ORDER}: {shares[0]:.0f}% and {shares[1]:.0f}%.",
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
        *_table(["policy", "published, s", "predicted, s", "published / predicted"], body),
    ]


def main() -> None:
    """Write the page."""
    problems = fit.problems()
    vectors = {name: cost.get(name) for name in cost.names()}
    ab = problems[0]
    lines = [
        "# Validation",
        "",
        "Every measured row against the prediction of the cost vectors in `rmapfast/costs`. Written by "
        f"`make validate` (rmapfast {__version__}); `make fit` fits the vectors anew. The rows are in "
        "`validation/data`, the way in which each is simulated in `validation/rows.py`, what is fitted to what in "
        "`validation/fit.py`.",
        "",
        "A fit is non-negative least squares of relative errors. *fits as well* is the range of a cost over all "
        "vectors that miss no row by more than the fit does, or by the scatter of the measurement (1%; 5% in "
        "nanoseconds; 10% of published figures) where that is more. *error when left out* is the error of a row "
        "as predicted from all others; a row that nothing else decides tests nothing and says so. Per-call rows hold "
        "a tracer's share "
        "(`traced_calls`), which is stated with the data.",
        "",
        *_summary(problems, vectors),
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
        "`x86-64`, which was fitted to another entry on another machine. The call's own walk over the page tables is "
        "not in the model.",
        "",
        *_table(
            ["section", "row", "measured", "predicted", "error"],
            ([row.section, row.name, *_figures(row, vectors[row.vector])] for row in rows.pageout_rows()),
        ),
    ]
    for problem in problems:
        vector = vectors[problem.name]
        lines += [f"## `{problem.name}`", "", f"{problem.build}. {vector.note}".strip(), ""]
        lines += [*_costs(vector), *_rows(problem, vector)]
    lines += ["## Assumed vectors", ""]
    assumed = [(name, vectors[name].note) for name in vectors if name in fit.ASSUMED]
    lines += _table(["vector", "what is assumed"], ([f"`{name}`", note] for name, note in assumed))
    PAGE.write_text("\n".join(line.rstrip() for line in lines).rstrip() + "\n", encoding="utf-8")
    print(f"wrote docs/{PAGE.name}")


if __name__ == "__main__":
    main()
