"""Bad arguments of public calls get one clear error of this package, never one that another library raised.

Each public call is made with arguments that work, and then with each argument replaced by each of `BAD`. A value may be
valid for an argument; what is raised else has to come from the package.
"""

import inspect
import itertools
import math
import re
import traceback
from pathlib import Path

import numpy as np
import pytest

import rmapfast as rf

PACKAGE = Path(rf.__file__).parent
CAPTURE = Path(__file__).resolve().parent / "data" / "captures" / "file64k_cow_memcg.before.npz"

BAD = {
    "None": None,
    "True": True,
    "-1": -1,
    "1.5": 1.5,
    "nan": math.nan,
    "inf": math.inf,
    "2^70": 1 << 70,
    "empty text": "",
    "text": "no such thing",
    "text with a null": "a\0b",
    "a path": Path("no/such/file"),
    "bytes": b"abc",
    "an empty list": [],
    "a list": [1, "x"],
    "a list of None": [None],
    "a dict": {"a": object()},
    "an object": object(),
    "a class": int,
    "an array": np.array([1.5, np.nan]),
    "a text array": np.array(["x"]),
    "complex": 1j,
}
# What Python and NumPy say of a value that reached them; it names no argument.
RAW = re.compile(
    r"object is not|object has no|not supported between|unsupported operand|must be real|argument must be|truth value|"
    r"cannot be interpreted|could not convert|embedded null|str, bytes or os.PathLike|invalid literal|unhashable|"
    r"not iterable|has no len|not callable|too large to convert|object cannot|must be (a )?str|only (integer|length)"
)
# What a public call may raise for bad arguments; their subclasses too.
EXPECTED = (TypeError, ValueError, OSError, KeyError, ImportError)


def population():
    return rf.Population.synthetic("64KiB", orders=2)


def compared():
    return rf.compare(population(), "50%", arches=["x86-64"])


def result():
    return rf.reclaim(population(), "50%")


def swept():
    return rf.sweep({"population.size": "64KiB", "population.order": [0, 2], "policy": ["v6.16", "v7.0"]})


def rule(folio, vma, walk, pte):
    return 1


ONE = population()


def calls(tmp_path):
    """Public calls by name: what is called, and arguments that work, all of them cheap."""
    saved = tmp_path / "saved.json"
    rf.save(compared(), saved)
    reclaimed, sweep = result(), swept()
    return {
        "reclaim": (
            rf.reclaim,
            {
                "population": ONE, "target": "50%", "policy": "v7.0", "arch": "x86-64", "entry": "memory.reclaim",
                "swap": True, "max_ptes_none": None, "lru": None, "lru_stats": "unflushed", "engine": "c",
                "costs": None, "in_place": False, "threads": 1, "executor": None, "workers": None, "progress": None,
            },
        ),
        "madvise": (
            rf.madvise,
            {
                "population": ONE, "action": "MADV_PAGEOUT", "start": None, "length": None, "mm": 0, "owner": True,
                "policy": "v7.0", "arch": "x86-64", "swap": True, "engine": "c", "costs": None, "in_place": False,
            },
        ),
        "compare": (
            rf.compare,
            {
                "population": ONE, "target": "50%", "policies": ["v7.0"], "arches": ["x86-64"], "call": None,
                "costs": None, "progress": None, "arguments": None, "entry": "memory.reclaim", "swap": True,
                "engine": "c", "threads": 1,
            },
        ),
        "Population.synthetic": (
            rf.Population.synthetic,
            {"size": "64KiB"}
            | {
                name: parameter.default
                for name, parameter in inspect.signature(rf.PopulationSpec).parameters.items()
                if name != "size"
            },
        ),
        "Population.load": (rf.Population.load, {"path": str(CAPTURE), "arch": None, "young": 1.0, "seed": 0}),
        "PopulationSpec": (rf.PopulationSpec, {"size": "64KiB", "orders": 2}),
        "describe": (rf.describe, {"population": ONE, "policies": ["v7.0"], "progress": None}),
        "check": (
            rf.check,
            {
                "policies": ["v7.0"], "pages": 1, "budget": 0.01, "drawn": None, "seed": 0, "against": "per-page",
                "arch": "x86-64", "all_bits": False, "unreachable": False, "splits": False, "young": False,
                "threads": 1, "resume": None, "progress": None,
            },
        ),
        "report": (
            rf.report,
            {
                "policy": "v7.0", "baseline": None, "captures": (), "arches": ["x86-64"], "orders": [2],
                "kinds": ["file"], "size": "64KiB", "pages": 1, "budget": 5.0, "seed": 0, "progress": None,
            },
        ),
        "sweep": (
            rf.sweep,
            {
                "space": {"population.size": "64KiB"}, "path": None, "overwrite": False, "resume": False,
                "executor": None, "workers": None, "fail_fast": False, "yes": False, "progress": None,
            },
        ),
        "Space.of": (rf.Space.of, {"document": {"population.size": "64KiB"}}),
        "load": (rf.load, {"path": saved}),
        "rerun": (rf.rerun, {"path": saved, "executor": None, "workers": None, "progress": None}),
        "save": (rf.save, {"results": reclaimed, "path": tmp_path / "again.json", "overwrite": True}),
        "assume_pages": (rf.assume_pages, {"population": population(), "pages": {"dirty": [0]}}),
        "Swap": (rf.Swap, {"pages": 16}),
        "Arch": (rf.Arch, {"name": "mine"}),
        "Arch.replace": (rf.arch.get("x86-64").replace, {"page_shift": 12}),
        "arch.get": (rf.arch.get, {"arch": "x86-64"}),
        "arch.load": (rf.arch.load, {"path": "none.toml"}),
        "arch.of_machine": (rf.arch.of_machine, {"machine": "x86_64", "page_size": 4096}),
        "arch.configured": (rf.arch.configured, {"names": ["x86-64"], "settings": [], "where": "settings"}),
        "policy.get": (rf.policy.get, {"policy": "v7.0"}),
        "policy.resolved": (rf.policy.resolved, {"policy": "v7.0"}),
        "policy.configured": (
            rf.policy.configured, {"policy": rf.policy.get("v7.0"), "settings": [], "where": "settings"},
        ),
        "policy.is_known": (rf.policy.is_known, {"policy": rf.policy.get("v7.0")}),
        "Policy": (rf.Policy, {"name": "mine", "uffd_wp": "per-page", "clip": True, "rule": ""}),
        "Policy.replace": (rf.policy.get("v7.0").replace, {"clip": True}),
        "cost.get": (rf.cost.get, {"name": "x86-64"}),
        "Result.price": (reclaimed.price, {"costs": None, "level": 0.9}),
        "Result.per_page": (reclaimed.per_page, {"event": "batches"}),
        "Comparison.of": (rf.Comparison.of, {"results": reclaimed, "baseline": None, "costs": None}),
        "Comparison.to_text": (compared().to_text, {"form": "summary"}),
        "Comparison.unpriced": (compared().unpriced, {"arch": "x86-64"}),
        "Comparison.ratio": (compared().ratio, {"event": "batches", "policy": "v7.0", "arch": "x86-64"}),
        "Sweep.save": (sweep.save, {"path": tmp_path / "sweep.json", "overwrite": True}),
        "Sweep.rank": (sweep.rank, {}),
        "CostVector.price": (
            rf.cost.get("x86-64").price, {"events": reclaimed.events.counts, "referenced": None, "level": 0.9},
        ),
        "conformance": (rf.conformance, {"paths": [], "engine": "c", "progress": None}),
        "folio_pte_batch": (rf.folio_pte_batch, {"ptes": np.zeros(4, np.uint64), "max_nr": 4}),
    }  # fmt: skip


def blame(error):
    """Return what is wrong with an exception, or an empty text if it is a clear one of the package."""
    if not isinstance(error, (*EXPECTED, rf.SweepError)):
        return f"{type(error).__name__} is no error of an argument"
    frames = traceback.extract_tb(error.__traceback__)
    inside = [PACKAGE in Path(frame.filename).parents or frame.filename.endswith(".pyx") for frame in frames]
    if True in inside and not inside[-1]:
        return f"raised in {frames[-1].filename}:{frames[-1].lineno}"
    text = str(error)
    if not text or "\n" in text:
        return "no line of text"
    return "words of Python" if RAW.search(text) else ""


if __name__ == "__main__":
    import sys, tempfile, time
    table = calls(Path(tempfile.mkdtemp()))
    only = sys.argv[1:]
    for name, (call, arguments) in table.items():
        if only and name not in only: continue
        t = time.process_time()
        try:
            call(**arguments)
        except Exception as e:
            print("BASE", name, type(e).__name__, str(e)[:150])
        for argument, (label, value) in itertools.product(arguments, BAD.items()):
            try:
                call(**(arguments | {argument: value}))
            except Exception as e:
                why = blame(e)
                if why:
                    print(f"{name}({argument}={label}): {type(e).__name__}: {str(e)[:110]!r}: {why}")
        if time.process_time() - t > 1: print("TIME", name, round(time.process_time() - t, 1))
