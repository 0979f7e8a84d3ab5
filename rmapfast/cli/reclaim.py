"""``rmapfast reclaim``, a layer over :func:`rmapfast.compare`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import rmapfast as rf
from rmapfast.cli.output import add_output, check_output, show_comparison
from rmapfast.cli.shared import (
    Verbs,
    add_assume,
    add_verb,
    assumptions,
    names,
    page_assumptions,
    with_pages,
)
from rmapfast.comparison import SEED_ARCHES, SEED_POLICIES, MadviseCall
from rmapfast.loop import ENGINES, SEED_TARGET, ReclaimOptions, target_bytes
from rmapfast.lru import HISTORY, LRU_STATS, LRUS, checked_history
from rmapfast.support import check_writable, checked_integer


def _rate_or_text(text: str) -> float | str:
    """Return a rate, or text such as every:5 that the population understands."""
    try:
        return float(text)
    except ValueError:
        return text


# Options of Population.described, by the name of their argument. An option that is not given keeps its default.
_DESCRIBED: dict[str, tuple[Callable[[str], Any], str, str]] = {
    "size": (str, "SIZE", "the memory that the folios fill (10GiB)"),
    "kind": (str, "KIND", "file, lazyfree, anon or shmem (file)"),
    "orders": (str, "ORDERS", "one order (4), or orders with their shares of the memory: 0:10,4:70,9:20"),
    "phase": (int, "PAGES", "pages by which the mapping is shifted against natural alignment (0)"),
    "mapped": (float, "RATE", "share of the folios that are mapped (1)"),
    "holes": (_rate_or_text, "RATE", "share of the PTEs that are zapped, or every:K (0)"),
    "sharing": (int, "N", "processes that map the folios (1)"),
    "dirty": (float, "RATE", "share of the PTEs that are dirty (1 for anon and shmem, else 0)"),
    "write": (
        float,
        "RATE",
        "share of the PTEs that are writable (0 for file and for shared anonymous folios, else 1)",
    ),
    "soft_dirty": (float, "RATE", "share of the PTEs that are soft-dirty (0)"),
    "uffd_wp": (float, "RATE", "share of the PTEs that are uffd-wp (0)"),
    "mlocked": (float, "RATE", "share of the folios that are mlocked (0)"),
    "folio_dirty": (float, "RATE", "share of the folios that are marked dirty (0)"),
    "external": (int, "N", "further mappings of each page, by processes outside (0)"),
    "history": (str, "STEP,...", f"what happened to the folios before, for MGLRU: {', '.join(HISTORY)}"),
    "fault_around": (
        str,
        "SIZE",
        "what a page fault mapped of a file, on which contpte blocks depend: folio, or a window such as 64KiB (folio)",
    ),
}
_DESCRIBED_FLAGS = {
    "active": "the folios begin on the active list",
    "shuffle": "the LRU order is random, not the address order",
    "uffd_wp_vma": "the VMAs are registered for userfaultfd write protection",
    "exec": "the VMAs are executable",
    "droppable": "the VMAs are droppable",
}


# Values of --entry that are madvise calls.
_CALLS = {"pageout": "MADV_PAGEOUT", "cold": "MADV_COLD", "free": "MADV_FREE"}
_ENTRIES = ("memory.reclaim", *_CALLS)


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    verb = add_verb(verbs, "reclaim", run, "Reclaim memory under several policies and compare what the kernel does.")
    source = verb.add_argument_group("what is reclaimed")
    source.add_argument("--capture", action="append", metavar="FILE", help="a capture; several are joined by PFN")
    for name, (kind, metavar, text) in _DESCRIBED.items():
        source.add_argument(_option(name), type=kind, metavar=metavar, help=text)
    for name, text in _DESCRIBED_FLAGS.items():
        source.add_argument(_option(name), action="store_true", default=None, help=text)
    source.add_argument("--young", type=float, metavar="RATE", help="share of the PTEs that are young (1)")
    source.add_argument("--seed", type=int, metavar="N", help="the seed of all random choices (0)")
    add_assume(source, pages=True)
    how = verb.add_argument_group("how it is reclaimed")
    how.add_argument("--target", metavar="SIZE", help="memory to reclaim, such as 8GiB or 50%% (80%%: 8GiB of 10GiB)")
    how.add_argument(
        "--policy",
        metavar="NAME,...",
        help="policies: presets, or rules as FILE.c:NAME or FILE.py:NAME, in Python slow; the first is the baseline "
        f"({','.join(SEED_POLICIES)})",
    )
    how.add_argument(
        "--arch",
        metavar="NAME,...",
        help=f"architectures: presets or FILE.toml ({','.join(SEED_ARCHES)}; for a capture: its own)",
    )
    how.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="arch.PARAM=VALUE",
        dest="changes",
        help="change a parameter of every architecture; NAME.PARAM=VALUE changes it in one",
    )
    how.add_argument(
        "--entry",
        choices=_ENTRIES,
        default="memory.reclaim",
        help="a write to memory.reclaim, or a call of MADV_PAGEOUT, MADV_COLD or MADV_FREE (memory.reclaim)",
    )
    how.add_argument(
        "--range",
        metavar="START:LENGTH",
        help="what madvise is called on, such as 20KiB:2MiB from the first address that the process maps, or "
        "0x7f0000000000:2MiB (pageout: each VMA by itself; else from the first VMA to the end of the last)",
    )
    how.add_argument("--process", type=int, metavar="N", help="number of the process whose memory madvise is about (0)")
    how.add_argument(
        "--caller",
        choices=("owner", "other"),
        default="owner",
        help="whether the caller of MADV_PAGEOUT owns the files or may write them (owner)",
    )
    how.add_argument(
        "--swap",
        metavar="SIZE[,fragmented]|free=FILE",
        help="the size of the swap space; fragmented: without free runs; or a map of its slots, 1 for a free one and "
        "0 for any other (unlimited)",
    )
    how.add_argument("--no-swap", action="store_true", help="there is no swap space")
    how.add_argument(
        "--lru",
        choices=LRUS,
        help="the lists that memory.reclaim takes folios from: the classic two, or generations (of a capture: its "
        "kernel's, else classic)",
    )
    how.add_argument(
        "--lru-stats",
        choices=LRU_STATS,
        help="with the classic LRU: whether the statistics that deactivation goes by show the lists (unflushed)",
    )
    how.add_argument(
        "--engine",
        choices=ENGINES,
        help="the C library, its general path alone, or the slow plain-Python reference (c, or reference for a rule in "
        "Python)",
    )
    how.add_argument(
        "--threads", type=int, metavar="N", help="threads that visit folios (one per CPU where there may be several)"
    )
    add_output(verb)
    verb.add_argument(
        "-o", metavar="FILE.json", dest="output", help="save the result; compare and rmapfast.load() read it"
    )
    verb.add_argument("--overwrite", action="store_true", help="replace FILE.json if it exists")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _arches(chosen: list[str], changes: list[str]) -> list[rf.Arch]:
    """Return architectures by name or TOML file, changed as ``--set`` says."""
    return rf.arch.configured(chosen, changes, where="--set")


def _madvise_call(arguments: argparse.Namespace) -> MadviseCall | None:
    """Return the madvise call that the options describe, None where it is reclaim or MADV_PAGEOUT of each VMA."""
    given = {
        "--range": arguments.range is not None,
        "--process": arguments.process is not None,
        "--caller": arguments.caller != "owner",
    }
    wanted = [name for name, is_given in given.items() if is_given]
    if arguments.entry == "memory.reclaim" or (arguments.entry == "pageout" and not wanted):
        if wanted:
            raise ValueError(f"{wanted[0]}: only with --entry {', '.join(_CALLS)}")
        if arguments.entry == "pageout" and arguments.target is not None:
            raise ValueError("--target: not with --entry pageout, which takes all that is mapped; --range takes a part")
        return None
    for name, value in (
        ("--target", arguments.target),
        ("--threads", arguments.threads),
        ("--lru", arguments.lru),
        ("--lru-stats", arguments.lru_stats),
    ):
        if value is not None:
            raise ValueError(f"{name}: not with a madvise call")
    return MadviseCall(
        _CALLS[arguments.entry], arguments.range, process=arguments.process or 0, owner=arguments.caller == "owner"
    )


def _options(arguments: argparse.Namespace, reclaims: bool) -> ReclaimOptions:
    """Return the options of the runs; a madvise call has less of them."""
    swap = False if arguments.no_swap else True if arguments.swap is None else arguments.swap
    options: ReclaimOptions = {"swap": swap, "engine": arguments.engine}
    if reclaims:
        options |= {"entry": arguments.entry, "threads": arguments.threads, "lru": arguments.lru}
        if arguments.lru_stats is not None:
            options["lru_stats"] = arguments.lru_stats
    return options


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return its exit status."""
    check_output(arguments)
    call = _madvise_call(arguments)
    if arguments.no_swap and arguments.swap is not None:
        raise ValueError("--swap: not with --no-swap")
    # before the other settings, so that --set arch.cost.EVENT=VALUE changes this vector
    changes = ([f"arch.costs={arguments.costs}"] if arguments.costs is not None else []) + arguments.changes
    if arguments.output is not None:
        check_writable(arguments.output, overwrite=arguments.overwrite)
    given = {name: getattr(arguments, name) for name in (*_DESCRIBED, *_DESCRIBED_FLAGS)}
    given = {name: value for name, value in given.items() if value is not None}
    both = {name: value for name in ("young", "seed") if (value := getattr(arguments, name)) is not None}
    if "seed" in both:
        checked_integer("--seed", both["seed"], 0, (1 << 64) - 1)
    pages = page_assumptions(arguments)
    assumed = assumptions(arguments)
    population: rf.Population | Callable[[rf.Arch], rf.Population | rf.PopulationSpec]
    example: rf.Population | rf.PopulationSpec
    if arguments.capture:
        history = given.pop("history", "")
        if given:
            raise ValueError(f"{_option(next(iter(given)))}: not with --capture, which says itself what is mapped")
        chosen = names(arguments.arch)
        arch = _arches(chosen, changes)[0] if len(chosen) == 1 else None
        loaded = rf.Population.load(arguments.capture, arch=arch, **both, **assumed)
        assert loaded.arch is not None  # that of the machine that the capture names
        loaded.history = ",".join(checked_history(history))
        both |= {"history": history} if history else {}
        population = example = with_pages(loaded, pages)
        arches = _arches(chosen or [loaded.arch.name], changes)
    else:
        arches = _arches(names(arguments.arch, SEED_ARCHES), changes)

        def described(arch: rf.Arch) -> rf.Population | rf.PopulationSpec:
            spec = rf.Population.described(arch=arch, **given, **both)
            return with_pages(rf.Population.of(spec), pages) if pages else spec

        population, example = described, described(arches[0])
    target = arguments.target if arguments.target is not None else target_bytes(SEED_TARGET, example)
    comparison = rf.compare(
        population,
        target,
        policies=names(arguments.policy, SEED_POLICIES),
        arches=arches,
        call=call,
        **_options(arguments, call is None),
        progress=True,
        arguments=(
            given
            | both
            | ({"capture": arguments.capture, **assumed} if arguments.capture else {})
            | ({"costs": arguments.costs} if arguments.costs is not None else {})
            | ({"set": arguments.changes} if arguments.changes else {})
            | ({"assume_pages": [f"{name}={text}" for name, text in pages.items()]} if pages else {})
        ),
    )
    if arguments.output is not None:
        rf.save(comparison, arguments.output, overwrite=arguments.overwrite)
    show_comparison(comparison, arguments)
    return 0
