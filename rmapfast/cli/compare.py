"""``rmapfast compare``, a layer over :func:`rmapfast.load` and :meth:`rmapfast.Comparison.of`."""

from __future__ import annotations

import argparse

import rmapfast as rf
from rmapfast.cli.output import add_output, add_view, check_output, show_comparison, show_sweep
from rmapfast.cli.shared import Verbs, add_verb, print_json
from rmapfast.saved import differences, differences_table


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(verbs, "compare", run, "Show saved results side by side, a saved sweep, or how two sweeps differ.")
    verb.add_argument(
        "results", nargs="+", metavar="RESULT", help="files that reclaim -o saved, or one or two that sweep -o saved"
    )
    verb.add_argument(
        "--baseline", metavar="FILE|POLICY", help="what the others are compared with (the first file's first run)"
    )
    add_output(verb)
    add_view(verb)


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return its exit status."""
    check_output(arguments)
    comparisons: dict[str, rf.Comparison] = {}
    sweeps: dict[str, rf.Sweep] = {}
    for path in arguments.results:
        if path in comparisons or path in sweeps:
            continue
        found = rf.load(path)
        if isinstance(found, rf.Sweep):
            sweeps[path] = found
        else:
            comparisons[path] = found
    if sweeps:
        return _compare_sweeps(sweeps, arguments)
    if given := [name for name in ("value", "x", "y", "at", "rank") if getattr(arguments, name)]:
        raise ValueError(f"--{given[0]}: only for a sweep")
    if len(comparisons) < len(arguments.results):
        twice = next(path for path in arguments.results if arguments.results.count(path) > 1)
        raise ValueError(f"{twice}: given more than once")
    # a single file is shown as it was saved
    together = comparisons if len(comparisons) > 1 else next(iter(comparisons.values()))
    show_comparison(rf.Comparison.of(together, baseline=arguments.baseline, costs=arguments.costs), arguments)
    return 0


def _compare_sweeps(sweeps: dict[str, rf.Sweep], arguments: argparse.Namespace) -> int:
    """Show one sweep, or what differs between two sweeps of the same space."""
    for name in ("baseline", "costs"):
        if getattr(arguments, name) is not None:
            raise ValueError(f"--{name}: not for a sweep; its space sets the policies and costs")
    if arguments.format in ("markdown", "csv"):
        raise ValueError(f"--format {arguments.format}: not for a sweep; sweep -o FILE.csv writes its table")
    if arguments.form:
        raise ValueError(f"--{arguments.form}: not for a sweep")
    as_json = arguments.json or arguments.format == "json"
    if len(arguments.results) == 1:
        show_sweep(next(iter(sweeps.values())), arguments, as_json)
        return 0
    if len(sweeps) != 2 or len(arguments.results) != 2:
        raise ValueError("RESULT: expected one sweep, or two of the same space, or results of reclaim")
    if arguments.plot is not None or arguments.rank:
        raise ValueError(f"--{'plot' if arguments.plot else 'rank'}: only for one sweep")
    found = list(differences(*sweeps.values()))
    if as_json:
        print_json({"files": list(sweeps), "differences": [vars(one) for one in found]})
    else:
        print(differences_table(found) if found else "the same numbers")
    return 1 if found else 0
