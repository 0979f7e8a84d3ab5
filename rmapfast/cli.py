"""The command ``rmapfast``. Exit status: 0 ok, 1 a check failed, 2 bad usage or input."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
import time

import numpy as np

import rmapfast
from rmapfast import arch as _arch
from rmapfast import cost as _cost
from rmapfast import plot as _plot
from rmapfast import policy as _policy
from rmapfast.calibration import calibration_table
from rmapfast.captures import capture
from rmapfast.comparison import SEED_ARCHES, SEED_POLICIES, Comparison, compare
from rmapfast.contents import POLICIES, describe, description_table, vma_names
from rmapfast.events import COMPONENTS, DESCRIPTIONS
from rmapfast.loop import ENGINES as RECLAIM_ENGINES
from rmapfast.loop import ENTRIES, target_bytes
from rmapfast.parallel import EXECUTORS
from rmapfast.population import Population
from rmapfast.reports import comparison_csv, comparison_markdown, comparison_table
from rmapfast.saved import differences, differences_table, json_text, load, rerun, save
from rmapfast.support import check_writable, closest, hanging, parse_size
from rmapfast.sweeps import (
    ASSUMPTIONS,
    Space,
    Sweep,
    SweepError,
    chosen_steps,
    document,
    from_text,
    heatmap_text,
    one_point,
    parameter_of,
    ranking_table,
    summary_text,
    sweep,
    view,
)
from rmapfast.verify import (
    ENGINES,
    capture_cases,
    capture_lines,
    check,
    check_cases,
    check_drawings,
    check_table,
    conformance,
    count_lines,
    load_case,
    random_cases,
    replay_captures,
    replay_counts,
)


class Parser(argparse.ArgumentParser):
    """Says what was wrong in one line."""

    def error(self, message):
        """Print the line and exit with 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")


class Progress:
    """A line on a terminal's stderr that is written over, at most some times a second."""

    def __init__(self):
        self.shown = 0.0
        self.enabled = sys.stderr.isatty()

    def __call__(self, text: str) -> None:
        """Show `text` in place of the line before."""
        if self.enabled and time.monotonic() - self.shown > 0.1:
            self.shown = time.monotonic()
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the line away."""
        if self.enabled and self.shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run the command with these arguments (default: the process's) and return its exit status."""
    arguments, more = parser().parse_known_args(argv)
    # argparse takes one run of positional words, but the axes of a sweep may stand anywhere
    if more and arguments.verb == "sweep" and not any(word.startswith("-") for word in more):
        arguments.space += more
    elif more:
        parser().error(f"unrecognized arguments: {' '.join(more)}")
    try:
        return arguments.run(arguments)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("rmapfast: interrupted", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError, MemoryError, ImportError, SweepError) as error:
        text = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) and error.filename else str(error)
        print(f"rmapfast: error: {' '.join(text.split()) or type(error).__name__}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = Parser(prog="rmapfast", description="Simulates how Linux unmaps large folios through the reverse map.")
    top.add_argument("--version", action="version", version=f"rmapfast {rmapfast.__version__}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_reclaim(verbs)
    _add_compare(verbs)
    _add_sweep(verbs)
    _add_rerun(verbs)
    _add_capture(verbs)
    _add_describe(verbs)
    _add_calibrate(verbs)
    _add_conformance(verbs)
    _add_check(verbs)
    _add_list(verbs)
    _add_info(verbs)
    return top


def _verb(verbs, name: str, run, text: str) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=text, description=text)
    verb.add_argument("--json", action="store_true", help="one JSON document on stdout, nothing else there")
    verb.set_defaults(run=run)
    return verb


def _print_json(document) -> None:
    json.dump(document, sys.stdout, indent=1, default=str)
    print()


# reclaim, compare

_FORMATS = {
    "text": comparison_table,
    "markdown": comparison_markdown,
    "csv": comparison_csv,
    "json": lambda comparison: json_text(comparison.to_dict()),
}


def _add_output(verb) -> None:
    """How a comparison is priced and shown."""
    out = verb.add_argument_group("what comes out")
    out.add_argument(
        "--costs", metavar="NAME|FILE.toml", help="price with this cost vector, not the architectures' own"
    )
    out.add_argument("--format", choices=tuple(_FORMATS), help="(text; --json is --format json)")
    out.add_argument("--plot", metavar="FILE", help=f"draw components and batch lengths ({', '.join(_plot.ENDINGS)})")


def _check_output(arguments) -> None:
    """Refuse what could not be put out, before the work."""
    if arguments.json and arguments.format not in (None, "json"):
        raise ValueError(f"--json: not with --format {arguments.format}")
    if arguments.plot is not None:
        _plot.check_path(arguments.plot)
    if arguments.costs is not None:
        _cost.get(arguments.costs)


def _put_out(comparison: Comparison, arguments) -> None:
    if arguments.plot is not None:
        _plot.save(_plot.overview(comparison), arguments.plot)
    print(_FORMATS[arguments.format or ("json" if arguments.json else "text")](comparison))


def _rate_or_text(text: str) -> float | str:
    """A rate, or text such as every:5 that the population understands."""
    try:
        return float(text)
    except ValueError:
        return text


# Options of Population.synthetic, by the name of their argument; those not given keep its default.
_SYNTHETIC = {
    "size": (str, "SIZE", "memory in folios (10GiB)"),
    "kind": (str, "KIND", "file, lazyfree, anon or shmem (file)"),
    "orders": (str, "ORDERS", "an order (4), or order:share of memory, such as 0:10,4:70,9:20"),
    "phase": (int, "PAGES", "pages by which the mapping is shifted against natural alignment (0)"),
    "mapped": (float, "RATE", "share of folios that are mapped (1)"),
    "holes": (_rate_or_text, "RATE", "share of PTEs zapped, or every:K (0)"),
    "sharing": (int, "N", "processes that map the folios (1)"),
    "dirty": (float, "RATE", "dirty PTEs"),
    "write": (float, "RATE", "writable PTEs"),
    "soft_dirty": (float, "RATE", "soft-dirty PTEs (0)"),
    "uffd_wp": (float, "RATE", "uffd-wp PTEs (0)"),
    "mlocked": (float, "RATE", "mlocked folios (0)"),
    "folio_dirty": (float, "RATE", "folios marked dirty (0)"),
    "external": (int, "N", "mappings of each page by processes outside (0)"),
}
_SYNTHETIC_FLAGS = {
    "active": "folios begin on the active list",
    "shuffle": "LRU order is a permutation, not address order",
    "uffd_wp_vma": "the VMAs are registered for userfaultfd write protection",
    "exec": "the VMAs are executable",
    "droppable": "the VMAs are droppable",
}


def _add_reclaim(verbs) -> None:
    verb = _verb(verbs, "reclaim", run_reclaim, "Reclaim memory under some policies and compare what the kernel does.")
    source = verb.add_argument_group("what is reclaimed")
    source.add_argument("--capture", action="append", metavar="FILE", help="a capture; several are joined by PFN")
    for name, (kind, metavar, text) in _SYNTHETIC.items():
        source.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=text)
    for name, text in _SYNTHETIC_FLAGS.items():
        source.add_argument(f"--{name.replace('_', '-')}", action="store_true", default=None, help=text)
    source.add_argument("--young", type=float, metavar="RATE", help="young PTEs (1)")
    source.add_argument("--seed", type=int, metavar="N", help="of every random choice (0)")
    _add_assume(source)
    how = verb.add_argument_group("how")
    how.add_argument("--target", metavar="SIZE", help="memory to reclaim (80%% of it: 8GiB of 10GiB)")
    how.add_argument("--policy", metavar="NAME,...", help=f"the first is the baseline ({','.join(SEED_POLICIES)})")
    how.add_argument("--arch", metavar="NAME,...", help=f"({','.join(SEED_ARCHES)}; of a capture: its own)")
    how.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="arch.PARAM=VALUE",
        dest="changes",
        help="change a parameter of every architecture, or of one: NAME.PARAM=VALUE",
    )
    how.add_argument("--entry", choices=ENTRIES, default="memory.reclaim")
    how.add_argument("--swap", metavar="SIZE", help="swap space (unlimited)")
    how.add_argument("--no-swap", action="store_true")
    how.add_argument(
        "--engine",
        choices=RECLAIM_ENGINES,
        default="c",
        help="the C library, its general path alone, or the slow plain-Python model",
    )
    how.add_argument("--threads", type=int, metavar="N", help="of a described population's blocks (one per CPU)")
    _add_output(verb)
    verb.add_argument("-o", metavar="FILE.json", dest="output", help="save the result, for compare and rmapfast.load()")
    verb.add_argument("--overwrite", action="store_true", help="replace FILE.json if it is there")


def _add_assume(group) -> None:
    group.add_argument(
        "--assume",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of a capture, what /proc does not show: dirty=auto|true|false, write=perms|true|false, "
        "soft_dirty=ignore|capture, uffd_wp=capture|ignore, lru=address|shuffled",
    )


def _assumptions(arguments) -> dict:
    """What --assume says, as arguments of Population.load()."""
    assumed = {}
    for text in arguments.assume:
        name, _, value = text.partition("=")
        if name not in ASSUMPTIONS or not value:
            raise ValueError(
                f"--assume: expected NAME=VALUE with a name of {', '.join(ASSUMPTIONS)}{closest(name, ASSUMPTIONS)}, "
                f"got {text!r}"
            )
        assumed[name] = {"true": True, "false": False}.get(value, value)
    if assumed and not arguments.capture:
        raise ValueError("--assume: only with --capture; a synthetic population is described by its own options")
    return assumed


def _names(text: str | None, default) -> list[str]:
    return [name.strip() for name in text.split(",")] if text is not None else list(default)


def _arches(names: list[str], changes: list[str]) -> list[_arch.Arch]:
    """Architectures by name or TOML file, with the --set changes applied."""
    return _arch.configured(names, changes, where="--set")


def run_reclaim(arguments) -> int:
    """Run ``rmapfast reclaim``."""
    _check_output(arguments)
    # before the other settings, so that --set arch.cost.EVENT=VALUE changes this vector
    changes = ([f"arch.costs={arguments.costs}"] if arguments.costs is not None else []) + arguments.changes
    if arguments.output is not None:
        check_writable(arguments.output, overwrite=arguments.overwrite)
    given = {name: getattr(arguments, name) for name in (*_SYNTHETIC, *_SYNTHETIC_FLAGS)}
    given = {name: value for name, value in given.items() if value is not None}
    shared = {name: value for name in ("young", "seed") if (value := getattr(arguments, name)) is not None}
    assumed = _assumptions(arguments)
    if arguments.capture:
        if given:
            option = next(iter(given)).replace("_", "-")
            raise ValueError(f"--{option}: not with --capture, which says itself what is mapped")
        single = len(_names(arguments.arch, [])) == 1
        arch = _arches(_names(arguments.arch, []), changes)[0] if single else None
        population = Population.load(arguments.capture, arch=arch, **shared, **assumed)
        arches = _names(arguments.arch, [population.arch.name])
        size = target_bytes("100%", population)
    else:
        arches = _names(arguments.arch, SEED_ARCHES)
        options = given | shared

        def population(arch):
            return Population.described(arch=arch, **options)

        size = parse_size(given.get("size", "10GiB"), "size")
    target = arguments.target if arguments.target is not None else size * 8 // 10
    progress = Progress()
    swap = False if arguments.no_swap else True if arguments.swap is None else arguments.swap
    comparison = compare(
        population,
        target,
        policies=_names(arguments.policy, SEED_POLICIES),
        arches=_arches(arches, changes),
        entry=arguments.entry,
        swap=swap,
        engine=arguments.engine,
        threads=arguments.threads,
        progress=lambda label, freed: progress(f"{label}: {freed} pages reclaimed"),
        arguments=(
            given
            | shared
            | ({"capture": arguments.capture, **assumed} if arguments.capture else {})
            | ({"costs": arguments.costs} if arguments.costs is not None else {})
            | ({"set": arguments.changes} if arguments.changes else {})
        ),
    )
    progress.clear()
    if arguments.output is not None:
        save(comparison, arguments.output, overwrite=arguments.overwrite)
    _put_out(comparison, arguments)
    return 0


def _add_compare(verbs) -> None:
    verb = _verb(verbs, "compare", run_compare, "Put saved results side by side, or show a saved sweep.")
    verb.add_argument("results", nargs="+", metavar="RESULT", help="what reclaim -o or sweep -o saved; or two sweeps")
    verb.add_argument("--baseline", metavar="FILE|POLICY", help="(the first run of the first file)")
    _add_output(verb)
    _add_view(verb)


def run_compare(arguments) -> int:
    """Run ``rmapfast compare``."""
    _check_output(arguments)
    results = {path: load(path) for path in arguments.results}
    if any(isinstance(one, Sweep) for one in results.values()):
        return _compare_sweeps(results, arguments)
    if given := [name for name in ("value", "x", "y", "at", "rank") if getattr(arguments, name)]:
        raise ValueError(f"--{given[0]}: only of a sweep")
    if len(results) < len(arguments.results):
        twice = next(path for path in arguments.results if arguments.results.count(path) > 1)
        raise ValueError(f"{twice}: given more than once")
    # a single file is shown as it was saved
    together = results if len(results) > 1 else next(iter(results.values()))
    _put_out(Comparison.of(together, baseline=arguments.baseline, costs=arguments.costs), arguments)
    return 0


def _compare_sweeps(results: dict, arguments) -> int:
    """Show one sweep, or what differs between two of the same space."""
    for name in ("baseline", "costs"):
        if getattr(arguments, name) is not None:
            raise ValueError(f"--{name}: not of a sweep, whose space says it")
    if arguments.format in ("markdown", "csv"):
        raise ValueError(f"--format {arguments.format}: not of a sweep; sweep -o FILE.csv is its table")
    as_json = arguments.json or arguments.format == "json"
    if len(results) == 1 and len(arguments.results) == 1:
        (found,) = results.values()
        _show_sweep(found, arguments, as_json)
        return 0
    if len(results) != 2 or not all(isinstance(one, Sweep) for one in results.values()):
        raise ValueError("RESULT: expected one sweep, or two of the same space, or results of reclaim")
    if arguments.plot is not None or arguments.rank:
        raise ValueError(f"--{'plot' if arguments.plot else 'rank'}: of one sweep only")
    found = list(differences(*results.values()))
    if as_json:
        _print_json({"files": list(results), "differences": [vars(one) for one in found]})
    else:
        print(differences_table(found) if found else "the same numbers")
    return 1 if found else 0


# sweep, rerun


def _add_view(verb) -> None:
    """How a sweep is shown."""
    group = verb.add_argument_group("how a sweep is shown")
    group.add_argument(
        "--value",
        metavar="NAME",
        help="gain, per_page, predicted, a component or an event (gain where there are policies)",
    )
    group.add_argument("--x", metavar="AXIS", help="along the columns (the last axis)")
    group.add_argument("--y", metavar="AXIS", help="along the rows (the one before)")
    group.add_argument("--at", action="append", default=[], metavar="AXIS=STEP", help="only this step of an axis")
    group.add_argument("--rank", action="store_true", help="which axis moves the gain most; --plot then draws that")


def _add_sweep(verbs) -> None:
    verb = _verb(verbs, "sweep", run_sweep, "Simulate every point of a space, and price it.")
    verb.add_argument(
        "space",
        nargs="+",
        metavar="SPACE.toml|KEY=V1,V2",
        help="axes such as population.order=0,4,9 arch.cont_ptes=1,16 policy=v6.16,v7.0 and "
        "arch.cost.tlbi_ops=10..400/100; one value is fixed; ';' separates values that have a comma",
    )
    verb.add_argument("--where", action="append", default=[], metavar="EXPR", help="a constraint that points fulfil")
    verb.add_argument("--zip", action="append", default=[], metavar="KEY,KEY", help="axes that step together")
    verb.add_argument("-o", "--output", metavar="FILE", help=".nc, .parquet, .csv or .json")
    verb.add_argument("--overwrite", action="store_true", help="replace FILE if it is there")
    verb.add_argument("--resume", action="store_true", help="go on with what FILE or its journal has")
    verb.add_argument("--executor", metavar="WHERE", help=f"{', '.join(EXECUTORS)} (threads)")
    verb.add_argument("--workers", type=int, metavar="N", help="(one per CPU)")
    verb.add_argument("--fail-fast", action="store_true", help="stop at the first point that fails")
    verb.add_argument("--yes", action="store_true", help="run it however large it is")
    verb.add_argument(
        "--plot", metavar="FILE", help=f"heatmap over two axes, lines over one ({', '.join(_plot.ENDINGS)})"
    )
    _add_view(verb)


def _space(arguments) -> Space:
    """The space that a TOML file, words KEY=V1,V2 and options describe together."""
    document = {}
    for word in arguments.space:
        name, equals, text = word.partition("=")
        if not equals:
            if not word.endswith(".toml"):
                raise ValueError(f"sweep: expected SPACE.toml or KEY=V1,V2, got {word!r}")
            document |= _cost.read_toml(word)
            continue
        mix = parameter_of(name) == "population.orders" and ":" in text
        values = [from_text(one) for one in (text.split(";") if ";" in text or mix else text.split(","))]
        if text == "" or "" in values:
            raise ValueError(f"{name}: the axis is empty; give it a value or leave it out")
        document[name] = values if len(values) > 1 else values[0]
    for names in arguments.zip:
        group = {name: document.pop(name, None) for name in names.split(",")}
        if missing := [name for name, values in group.items() if not isinstance(values, list)]:
            raise ValueError(f"--zip: {missing[0]}: expected an axis of several values, give it as KEY=V1,V2")
        document["zip"] = [*document.get("zip", []), group]
    if arguments.where:
        document["constraints"] = [*document.get("constraints", []), *arguments.where]
    return Space.of(document)


def _steps_at(arguments) -> dict[str, str]:
    chosen = {}
    for text in arguments.at:
        name, equals, step = text.partition("=")
        if not (name and equals and step):
            raise ValueError(f"--at: expected AXIS=STEP, got {text!r}")
        chosen[name] = step
    return chosen


def _sweep_progress(progress: Progress):
    """A callback that shows the rate and the time left."""
    start, before = time.monotonic(), None

    def show(done: int, total: int, failed: int) -> None:
        nonlocal before
        before = done if before is None else before  # those of an earlier sweep took no time
        seconds = max(time.monotonic() - start, 1e-9)
        rate = (done - before) / seconds
        left = f", {round((total - done) / rate)} s left" if rate and done < total else ""
        progress(f"{done}/{total} points, {rate:.3g}/s{left}{f', {failed} failed' if failed else ''}")

    return show


def run_sweep(arguments) -> int:
    """Run ``rmapfast sweep``."""
    if arguments.plot is not None:
        _plot.check_path(arguments.plot)
    space, progress = _space(arguments), Progress()
    chosen_steps(space, _steps_at(arguments))  # what cannot be shown is refused before the work
    for name in (arguments.x, arguments.y):
        if name is not None:
            space.along(name)
    try:
        found = sweep(
            space,
            arguments.output,
            overwrite=arguments.overwrite,
            resume=arguments.resume,
            executor=arguments.executor,
            workers=arguments.workers,
            fail_fast=arguments.fail_fast,
            yes=arguments.yes,
            progress=_sweep_progress(progress),
        )
    except KeyboardInterrupt:
        progress.clear()
        kept = arguments.output and f"; what was done is in {arguments.output}, --resume goes on"
        kept = (kept if os.path.exists(arguments.output) else "; no point was done") if kept else ""
        print(f"rmapfast: interrupted{kept}", file=sys.stderr)
        return 130
    finally:
        progress.clear()
    _show_sweep(found, arguments, arguments.json)
    return 1 if found.failures else 0


def _show_sweep(found: Sweep, arguments, as_json: bool) -> None:
    at, several = _steps_at(arguments), any(size > 1 for size in found.space.shape)
    ranking = found.rank() if arguments.rank else None
    chosen = {"value": arguments.value, "x": arguments.x, "y": arguments.y, "at": at}
    if arguments.plot is not None:
        _plot.save(_plot.ranking(found) if ranking else _plot.sweep(found, **chosen), arguments.plot)
    if as_json:
        _print_json(document(found) | ({"ranking": ranking.to_dict()} if ranking else {}))
        return
    body = ranking_table(ranking) if ranking else heatmap_text(view(found, **chosen)) if several else one_point(found)
    print(f"{summary_text(found)}\n\n{body}")


def _add_rerun(verbs) -> None:
    verb = _verb(verbs, "rerun", run_rerun, "Run a saved result again: are the numbers the same?")
    verb.add_argument("result", metavar="RESULT", help="what reclaim -o or sweep -o saved")
    verb.add_argument("--executor", metavar="WHERE", help=f"of a sweep: {', '.join(EXECUTORS)} (threads)")
    verb.add_argument("--workers", type=int, metavar="N", help="of a sweep (one per CPU)")


def run_rerun(arguments) -> int:
    """Run ``rmapfast rerun``."""
    progress = Progress()
    options = {name: value for name in ("executor", "workers") if (value := getattr(arguments, name)) is not None}
    found = rerun(arguments.result, progress=_sweep_progress(progress), **options)
    progress.clear()
    if arguments.json:
        _print_json(found.to_dict())
    elif found.same:
        versions = f"rmapfast {found.before}, run again by {found.now}"
        print(f"{found.path}: {found.runs} simulations of {versions}: the same numbers")
    else:
        print(
            f"{found.path}: rmapfast {found.now} gives other numbers than {found.before}, in {len(found.differences)}:"
        )
        print(differences_table(found.differences))
    return 0 if found.same else 1


# capture


def _add_capture(verbs) -> None:
    verb = _verb(verbs, "capture", run_capture, "Capture live processes (Linux, root): what their page tables map.")
    verb.add_argument("pid", nargs="+", type=int, metavar="PID", help="several make one capture, FILE_p0.npz, ...")
    verb.add_argument("-o", "--output", required=True, metavar="FILE.npz")
    verb.add_argument("--freeze", action="store_true", help="stop the processes while they are read")
    verb.add_argument(
        "--anonymise", action="store_true", help="renumber page frames and inodes, drop the names of files"
    )
    verb.add_argument("--overwrite", action="store_true", help="replace files that exist")


def run_capture(arguments) -> int:
    """Run ``rmapfast capture``."""
    progress = Progress()
    done = capture(
        arguments.pid,
        arguments.output,
        freeze=arguments.freeze,
        anonymise=arguments.anonymise,
        overwrite=arguments.overwrite,
        progress=progress,
    )
    progress.clear()
    if arguments.json:
        _print_json({"captures": [dataclasses.asdict(one) for one in done]})
        return 0
    for one in done:
        print(
            f"{one.path}: process {one.pid}, {one.vmas} VMAs, {one.present} of {one.pages} pages present, "
            f"{one.file_bytes} bytes, {one.seconds:.2f} s"
        )
    return 0


# describe


def _add_describe(verbs) -> None:
    verb = _verb(
        verbs, "describe", run_describe, "Say what a capture holds, how much of it policies batch, and what is assumed."
    )
    verb.add_argument("capture", nargs="+", metavar="FILE", help="several are joined by PFN")
    _add_assume(verb)
    verb.add_argument("--policy", metavar="NAME,...", help=f"({','.join(POLICIES)})")
    verb.add_argument(
        "--plot", metavar="FILE", help=f"draw folio orders and a map of the memory ({', '.join(_plot.ENDINGS)})"
    )


def run_describe(arguments) -> int:
    """Run ``rmapfast describe``."""
    policies = [_policy.get(name) for name in _names(arguments.policy, POLICIES)]
    if arguments.plot is not None:
        _plot.check_path(arguments.plot)
    population, progress = Population.load(arguments.capture, **_assumptions(arguments)), Progress()
    described = describe(population, policies, progress=progress)
    progress.clear()
    if arguments.plot is not None:
        figure = _plot.description(population, described, names=vma_names(arguments.capture))
        _plot.save(figure, arguments.plot)
    if arguments.json:
        _print_json(described)
    else:
        print(description_table(described))
    return 0


# calibrate


def _add_calibrate(verbs) -> None:
    verb = _verb(
        verbs, "calibrate", run_calibrate, "Measure the running kernel (Linux, root) and fit the costs of this machine."
    )
    verb.add_argument("-o", "--output", metavar="ARCH.toml", help="write the architecture with its costs")
    verb.add_argument("--overwrite", action="store_true", help="replace a file that exists")
    verb.add_argument("--hold-back", type=int, default=0, metavar="N", help="predict N reclaims that are not fitted")
    verb.add_argument("--folder", default=".", metavar="DIR", help="where files to be mapped are made (.)")
    verb.add_argument("--seed", type=int, default=0, metavar="N", help="of the choice of held-back reclaims (0)")


def run_calibrate(arguments) -> int:
    """Run ``rmapfast calibrate``."""
    from rmapfast.calibration import calibrate
    from rmapfast.support import check_writable, write_atomically

    if arguments.hold_back < 0:
        raise ValueError(f"--hold-back: expected 0 or more, got {arguments.hold_back}")
    if arguments.output:
        if not arguments.output.endswith(".toml"):
            raise ValueError(f"-o: expected a file ending in .toml, got {arguments.output!r}")
        check_writable(arguments.output, overwrite=arguments.overwrite)
    progress = Progress()
    found = calibrate(hold_back=arguments.hold_back, folder=arguments.folder, seed=arguments.seed, progress=progress)
    progress.clear()
    if arguments.output:
        write_atomically(arguments.output, found.arch.to_toml().encode("utf-8"), overwrite=arguments.overwrite)
    if arguments.json:
        _print_json(found.to_dict())
    else:
        print(calibration_table(found))
    return 0


# conformance


def _add_conformance(verbs) -> None:
    verb = _verb(verbs, "conformance", run_conformance, "Replay what real kernels did and compare every field.")
    verb.add_argument("files", nargs="*", metavar="FILE", help="recorded vectors (*.jsonl.gz)")
    verb.add_argument("--engine", choices=tuple(ENGINES), default="c")
    verb.add_argument(
        "--live", action="append", metavar="DIR", default=[], help="before/after captures around a reclaim"
    )
    verb.add_argument(
        "--counts", action="append", metavar="TOML", default=[], help="call counts of real kernels ([counts])"
    )


def run_conformance(arguments) -> int:
    """Run ``rmapfast conformance``."""
    if not (arguments.files or arguments.live or arguments.counts):
        raise ValueError("FILE: nothing to replay; give vectors, --live DIR or --counts TOML")
    progress, documents, lines, ok = Progress(), {}, [], True
    if arguments.files:
        report = conformance(arguments.files, engine=arguments.engine, progress=lambda n: progress(f"{n} vectors"))
        progress.clear()
        ok &= report.ok
        documents["vectors"] = {
            "engine": arguments.engine,
            "passed": report.passed,
            "failed": report.failed,
            "differences": report.differences,
        }
        lines += [f"engine: {arguments.engine}", *report.lines()]
    for directory in arguments.live:
        cases = replay_captures(directory)
        ok &= all(case.agrees for case in cases)
        documents.setdefault("live", []).extend(dataclasses.asdict(case) | {"agrees": case.agrees} for case in cases)
        lines += [directory, *capture_lines(cases)]
    for path in arguments.counts:
        counts = replay_counts(path)
        ok &= all(count.agrees is not False for count in counts)
        documents.setdefault("counts", []).extend(dataclasses.asdict(count) for count in counts)
        lines += [path, *count_lines(counts)]
    if arguments.json:
        _print_json(documents)
    else:
        print("\n".join(lines))
    return 0 if ok else 1


# check


def _add_check(verbs) -> None:
    verb = _verb(
        verbs, "check", run_check, "Try every small state: does a policy end where unmapping page by page ends?"
    )
    verb.add_argument("--policy", metavar="NAME,...", help="(every preset)")
    verb.add_argument("--against", metavar="NAME", default="per-page", help="the oracle (per-page)")
    verb.add_argument("--pages", type=int, default=4, metavar="N", help="largest folio: 1, 2, 4 or 8 (4)")
    verb.add_argument("--budget", type=float, default=60.0, metavar="SECONDS", help="(60)")
    verb.add_argument("--arch", default="x86-64", metavar="NAME", help="(x86-64)")
    verb.add_argument("--all-bits", action="store_true", help="4 pages with every bit too: may take hours")
    verb.add_argument("--unreachable", action="store_true", help="also states that user space cannot make")
    verb.add_argument("--resume", metavar="FILE", help="keep what was done in FILE, and go on from there")
    verb.add_argument("--threads", type=int, metavar="N", help="(one per CPU)")
    verb.add_argument("--random", type=int, metavar="N", help="instead: N seeded cases of folios of 8 to 64 pages")
    verb.add_argument(
        "--capture", action="append", metavar="FILE", help="instead: mutations of the folios of a capture"
    )
    _add_assume(verb)
    verb.add_argument("--cases", type=int, default=200, metavar="N", help="mutations of a capture (200)")
    verb.add_argument("--seed", type=int, default=0, metavar="N", help="of --random and --capture (0)")
    verb.add_argument("--replay", metavar="FILE", help="instead: judge one case, a JSON example of an earlier check")
    verb.add_argument("--known", action="store_true", help="name each class after its history (commit or CVE)")
    verb.add_argument("--draw", action="store_true", help="draw the smallest example of each violation")


def run_check(arguments) -> int:
    """Run ``rmapfast check``."""
    policies = [_policy.get(name) for name in _names(arguments.policy, _policy.PRESETS)]
    progress = Progress()
    shared = {"against": arguments.against, "arch": arguments.arch, "budget": arguments.budget, "progress": progress}
    if not arguments.budget > 0:
        raise ValueError(f"--budget: expected seconds above 0, got {arguments.budget}")
    for name in ("random", "cases", "threads"):
        if (value := getattr(arguments, name)) is not None and value < 1:
            raise ValueError(f"--{name}: expected 1 or more, got {value}")
    if arguments.replay:
        case = load_case(arguments.replay)
        report = check_cases([case], policies, **shared)
    elif arguments.capture:
        population = Population.load(arguments.capture, **_assumptions(arguments))
        cases = capture_cases(population, arguments.seed, arguments.cases)
        report = check_cases(cases, policies, **shared)
    elif arguments.random:
        report = check_cases(random_cases(arguments.seed, arguments.random), policies, **shared)
    else:
        report = check(
            policies,
            pages=arguments.pages,
            all_bits=arguments.all_bits,
            unreachable=arguments.unreachable,
            threads=arguments.threads,
            resume=arguments.resume,
            **shared,
        )
    progress.clear()
    if arguments.json:
        _print_json(report.to_dict())
    else:
        print(check_table(report, known=arguments.known))
        if arguments.draw or arguments.replay:
            for drawing in check_drawings(report, arguments.arch):
                print("\n" + drawing)
    return 0 if report.clean else 1


# list, info


def _add_list(verbs) -> None:
    verb = _verb(
        verbs,
        "list",
        run_list,
        "List the presets of architectures or policies, the events, cost vectors or components.",
    )
    verb.add_argument("what", choices=("arch", "policy", "event", "cost", "component"))


def run_list(arguments) -> int:
    """Run ``rmapfast list``."""
    if arguments.what == "arch":
        document = {name: dataclasses.asdict(arch) for name, arch in _arch.PRESETS.items()}
        lines = [
            line
            for name, fields in document.items()
            for line in hanging(name, 12, " ".join(f"{k}={v}" for k, v in fields.items() if k != "name" and v != ""))
        ]
    elif arguments.what == "cost":
        vectors = {name: _cost.get(name) for name in _cost.names()}
        document = {name: vector.to_dict() for name, vector in vectors.items()}
        lines = [
            line
            for name, vector in vectors.items()
            for line in hanging(
                name,
                16,
                f"{vector.unit}, {vector.arch}, {len(vector.costs)} costs{vector.build and ', ' + vector.build}",
            )
        ]
    elif arguments.what == "component":
        document = COMPONENTS
        lines = [line for name, events in document.items() for line in hanging(name, 18, " ".join(events))]
    elif arguments.what == "policy":
        document = {name: dataclasses.asdict(policy) for name, policy in _policy.PRESETS.items()}
        lines = [line for name, fields in document.items() for line in hanging(name, 12, fields["doc"])]
        lines += [f"{name:<12} = {target}" for name, target in _policy.ALIASES.items()]
        document |= {alias: document[target] | {"name": alias} for alias, target in _policy.ALIASES.items()}
    else:
        document = DESCRIPTIONS
        lines = [f"{name:<24} {text}" for name, text in DESCRIPTIONS.items()]
    if arguments.json:
        _print_json(document)
    else:
        print("\n".join(lines))
    return 0


def _add_info(verbs) -> None:
    _verb(verbs, "info", run_info, "Versions and machine, for a report.")


def run_info(arguments) -> int:
    """Run ``rmapfast info``."""
    document = {
        "rmapfast": rmapfast.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cpus": os.cpu_count(),
        "policies": len(_policy.PRESETS),
        "architectures": list(_arch.PRESETS),
    }
    if arguments.json:
        _print_json(document)
    else:
        for name, value in document.items():
            print(f"{name:<14} {', '.join(value) if isinstance(value, list) else value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
