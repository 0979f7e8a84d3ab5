"""What stands above and below the tables of runs: the memory, notes, assumptions, cost vectors and arguments."""

from __future__ import annotations

import dataclasses
import errno
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rmapfast.arch import Arch
from rmapfast.cost import LEVEL, CostVector
from rmapfast.policy import Policy, is_known
from rmapfast.result import Result
from rmapfast.runs import Runs
from rmapfast.support import format_size, listed

# What an interval is, for a reader of a table or a figure.
INTERVAL = (
    f"An interval holds the middle {100 * LEVEL:.0f}% of what the draws of the costs predict; changes and shares are "
    "drawn together."
)

# Where costs of a kind come from. Those from published times are many more than the times.
_KIND_WORDS = {
    "measured": "measured",
    "published": "derived from published times",
    "fitted": "fitted",
    "assumed": "assumed",
}

# What it means that madvise returns an error.
_RETURNED = {
    -errno.EINVAL: "madvise stopped at a VMA that it cannot handle; what lies before it was done",
    -errno.ENOMEM: "a part of the range is in no VMA; all the rest was done",
}


def head(comparison: Runs) -> list[str]:
    """Return what was reclaimed: one line where all runs reclaim the same memory, else one per saved result.

    A target that is larger than the memory stands above them.
    """
    memory = [_memory(run) for run in _one_per_source(comparison)]
    lines = [f"[{at}] {source}" for at, source in enumerate(comparison.sources, 1)]
    if len(set(memory)) == 1:
        lines.insert(0, memory[0])
    else:
        lines = [f"{line}: {text}" for line, text in zip(lines, memory, strict=True)]
    if not comparison.same_memory:
        lines.append("These runs reclaim different memory: only the figures per reclaimed page compare.")
    return [*dict.fromkeys(line for run in comparison.runs if (line := too_large(run))), *lines]


def too_large(run: Result) -> str:
    """Return a warning if a run was asked for more than its whole population; else an empty text."""
    asked, memory = run.target_pages << run.arch.page_shift, run.population["bytes"]
    if run.entry != "memory.reclaim" or asked <= memory:
        return ""
    return (
        f"WARNING: the target is larger than the population: {format_size(asked)} asked for, {format_size(memory)} "
        "there are"
    )


def _memory(run: Result) -> str:
    population = run.population
    orders = ", ".join(f"{order}: {count:,}" for order, count in population["orders"].items())
    kinds = ", ".join(population["kinds"])
    asked = "given to" if run.entry.startswith("MADV_") else "asked for through"
    return (
        f"{population['source']}: {format_size(population['bytes'])} of {kinds or 'no'} folios ({orders}); "
        f"{format_size(run.target_pages << run.arch.page_shift)} {asked} {run.entry}"
        f"{', multi-gen LRU' if run.lru == 'mglru' else ''}"
    )


def heading(comparison: Runs, arch: str, runs: Sequence[Result]) -> str:
    """Return the heading of an architecture's table."""
    return f"{arch}, baseline {comparison.label(runs[0])}" if len(runs) > 1 else arch


def notes(comparison: Runs, arch: str, runs: Sequence[Result]) -> list[str]:
    """Return what a reader must know of the runs on one architecture beside their figures."""
    lines = []
    if not any(run.costs for run in runs):
        lines.append(f"no cost vector belongs to {arch}: events only")
    for run in runs:
        label = comparison.label(run)
        if differ := _differing(run.arch, runs[0].arch):
            lines.append(f"{label} is on {arch} with {differ}")
        if run.lru == "mglru" and isinstance(run.policy, Policy) and not is_known(run.policy):
            lines.append(f"{label}: no kernel has these rules together with the multi-gen LRU of {run.policy.mglru}")
        if run.ret in _RETURNED:
            lines.append(f"{label}: {_RETURNED[run.ret]}")
    lines += _short_of_target(comparison, runs)
    if line := without_price(comparison, arch):
        lines.append(line)
    vectors = [run.costs for run in runs if run.costs]
    if any(vector != vectors[0] for vector in vectors):
        lines.append("these runs are priced with different cost vectors")
    return lines


def _short_of_target(comparison: Runs, runs: Sequence[Result]) -> list[str]:
    """Return what the runs that did not reach their target reclaimed; those with the same figure share a line."""
    short: dict[int, list[str]] = {}
    for run in runs:
        if not run.target_reached and run.entry not in ("MADV_COLD", "MADV_FREE"):
            short.setdefault(run.reclaimed_bytes, []).append(comparison.label(run))
    return [f"{', '.join(labels)}: only {format_size(size)} could be reclaimed" for size, labels in short.items()]


def without_price(comparison: Runs, arch: str) -> str:
    """Return a line with the events that the prices of an architecture's runs leave out; empty if there are none.

    Parameters
    ----------
    comparison : Runs
    arch : str
    """
    events = comparison.unpriced(arch)
    differ = " (differ between the runs)" if len(comparison.by_arch()[arch]) > 1 else ""
    return f"without a price here: {', '.join(events)}{differ}" if events else ""


def _differing(arch: Arch, other: Arch) -> str:
    """Return the parameters in which an architecture differs from another one with the same name."""
    names = [field.name for field in dataclasses.fields(arch) if field.name != "costs"]
    return ", ".join(f"{name}={getattr(arch, name)}" for name in names if getattr(arch, name) != getattr(other, name))


def costs_in_short(comparison: Runs) -> list[str]:
    """Return one paragraph with the cost vectors that price the runs, and how many of their costs are of which kind."""
    vectors = comparison.cost_vectors()
    if not vectors:
        return []
    named = "; ".join(f"{name} ({_kinds(vector)})" for name, vector in vectors.items())
    return [f"Predicted, not measured. {INTERVAL} Cost vectors: {named}."]


def _kinds(vector: CostVector) -> str:
    """Return how many costs of a vector are of which kind."""
    kinds = Counter(cost.kind for cost in vector.costs)
    return ", ".join(f"{count} cost{'s' if count > 1 else ''} {_KIND_WORDS[kind]}" for kind, count in kinds.items())


def footer(comparison: Runs) -> list[str]:
    """Return the paragraphs below the tables: assumptions, cost vectors, version and arguments."""
    return [*assumed(comparison), *costs_used(comparison), *run_lines(comparison)]


def assumed(comparison: Runs) -> list[str]:
    """Return the assumptions of the population, a paragraph per population; those of a further one if they differ.

    Parameters
    ----------
    comparison : Runs
    """
    first, *others = (
        {key: value for key, value in run.population["assumptions"].items() if key != "arch"}
        for run in _one_per_source(comparison)
    )
    lines = [f"Population: {listed(first)}."] if first else []
    for at, other in enumerate(others, 2):
        if differing := {key: other.get(key, "-") for key in first | other if other.get(key) != first.get(key)}:
            lines.append(f"Population of [{at}] differs in {listed(differing)}.")
    return lines


def _one_per_source(comparison: Runs) -> list[Result]:
    """Return the first run of each result that was put together; of one comparison, its first run."""
    return [next(run for run in comparison.runs if run.source == source) for source in comparison.sources or [""]]


def costs_used(comparison: Runs) -> list[str]:
    """Return what a prediction is, and a paragraph per cost vector with its unit, kinds of cost and note."""
    vectors = comparison.cost_vectors()
    lines = [f"Predicted, not measured. {INTERVAL}"] if vectors else []
    for name, vector in vectors.items():
        foreign = {run.arch.name for run in comparison.runs if run.costs == vector} - {vector.arch}
        words = [vector.unit, *filter(None, [vector.build])]
        words.append(_kinds(vector))
        words += [f"made for {vector.arch}, prices {', '.join(sorted(foreign))} here"] if foreign else []
        note = f" {vector.note.rstrip('.')}." if vector.note else ""
        lines.append(f"Cost vector {name}: {', '.join(words)}.{note}")
    return lines


def run_lines(comparison: Runs) -> list[str]:
    """Return the version and the arguments of a comparison, and those of each result that was put together in it.

    Parameters
    ----------
    comparison : Runs
    """

    def line(provenance: dict[str, Any]) -> str:
        return f"rmapfast {provenance['rmapfast']}; {listed(provenance['arguments'])}"

    parts = _one_per_source(comparison) if comparison.sources else []
    return [line(comparison.provenance), *(f"[{n}] {line(run.provenance)}" for n, run in enumerate(parts, 1))]
