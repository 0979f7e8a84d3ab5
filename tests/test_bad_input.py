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
from rmapfast.cli import main

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
# Calls whose arguments name what is not there.
FAIL = ("arch.load", "capture", "folio_pte_batch", "try_to_unmap_one")
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
                "policy": "anon-swap", "baseline": None, "captures": (), "arches": ["x86-64"], "orders": [2],
                "kinds": ["anon"], "size": "64KiB", "pages": 1, "budget": 0.01, "seed": 0, "progress": None,
            },
        ),
        "sweep": (
            rf.sweep,
            {
                "space": {"population.size": "64KiB"}, "output": None, "overwrite": False, "resume": False,
                "executor": None, "workers": None, "fail_fast": False, "yes": False, "progress": None,
            },
        ),
        "Space.of": (rf.Space.of, {"document": {"population.size": "64KiB"}}),
        "load": (rf.load, {"path": saved}),
        "rerun": (rf.rerun, {"path": saved, "executor": None, "workers": None, "progress": None}),
        "save": (rf.save, {"results": reclaimed, "path": tmp_path / "again.json", "overwrite": True}),
        "assume_pages": (rf.assume_pages, {"population": population(), "pages": {}, "mm": 0}),
        "Swap": (rf.Swap, {"slots": 16, "fragmented": False, "free": None}),
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
        "cost.get": (rf.cost.get, {"costs": "x86-64"}),
        "Result.price": (reclaimed.price, {"costs": None, "level": 0.9}),
        "Result.per_page": (reclaimed.per_page, {"event": "batches"}),
        "Comparison.of": (rf.Comparison.of, {"results": reclaimed, "baseline": None, "costs": None}),
        "Comparison.to_text": (compared().to_text, {"form": "summary"}),
        "Comparison.unpriced": (compared().unpriced, {"arch": "x86-64"}),
        "Comparison.ratio": (compared().ratio, {"event": "batches", "policy": "v7.0", "arch": "x86-64"}),
        "Sweep.save": (sweep.save, {"path": tmp_path / "sweep.json", "overwrite": True}),
        "Sweep.rank": (sweep.rank, {}),
        "CostVector.price": (
            rf.cost.get("x86-64").price, {"counts": reclaimed.events.counts, "referenced": None, "level": 0.9},
        ),
        "conformance": (rf.conformance, {"paths": [], "engine": "c", "progress": None}),
        "folio_pte_batch": (
            rf.folio_pte_batch,
            {
                "ptes": np.zeros(4, np.uint64), "start": 0, "folio_pfn": 0, "folio_pages": 4, "max_nr": 4, "flags": (),
                "cont_ptes": 1,
            },
        ),
        "page_vma_mapped_walk": (
            rf.page_vma_mapped_walk,
            {"population": ONE, "folio": 0, "vma": 0, "arch": "x86-64", "sync": False, "migration": False},
        ),
        "try_to_unmap_one": (
            rf.try_to_unmap_one,
            {
                "population": population(), "folio": 0, "vma": 0, "policy": "v7.0", "arch": "x86-64", "ttu": (),
                "guard": "none",
            },
        ),
        "folio_referenced_one": (
            rf.folio_referenced_one,
            {"population": population(), "folio": 0, "vma": 0, "policy": "v7.0", "arch": "x86-64"},
        ),
        # no process has this number
        "capture": (rf.capture, {"pids": 1 << 22, "path": tmp_path / "c.npz", "freeze": False, "anonymise": False}),
    }  # fmt: skip


def blame(error):
    """Return what is wrong with an exception, or an empty text if it is a clear one of the package."""
    if not isinstance(error, (*EXPECTED, rf.SweepError)):
        return f"{type(error).__name__} is no error of an argument"
    frames = traceback.extract_tb(error.__traceback__)
    inside = [PACKAGE in Path(frame.filename).parents or frame.filename.startswith("rmapfast/") for frame in frames]
    if True in inside and not inside[-1]:
        return f"raised in {frames[-1].filename}:{frames[-1].lineno}"
    text = str(error)
    if not text or "\n" in text:
        return "no line of text"
    return "words of Python" if RAW.search(text) else ""


NAMES = (
    "reclaim madvise compare Population.synthetic Population.load PopulationSpec describe check report sweep Space.of "
    "load rerun save assume_pages Swap Arch Arch.replace arch.get arch.load arch.of_machine arch.configured policy.get "
    "policy.resolved policy.configured policy.is_known Policy Policy.replace cost.get Result.price Result.per_page "
    "Comparison.of Comparison.to_text Comparison.unpriced Comparison.ratio Sweep.save Sweep.rank CostVector.price "
    "conformance folio_pte_batch page_vma_mapped_walk try_to_unmap_one folio_referenced_one capture"
).split()


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    found = calls(folder)
    assert list(found) == NAMES
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_argument_gets_one_clear_error(name, table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a text that is a path may be written
    call, arguments = table[name]
    if name not in FAIL:
        call(**arguments)
    problems = []
    for argument, (label, value) in itertools.product(arguments, BAD.items()):
        try:
            call(**(arguments | {argument: value}))
        except Exception as error:
            if why := blame(error):
                problems.append(f"{argument}={label}: {type(error).__name__}: {error}: {why}")
    assert problems == []


def test_the_errors_of_others_are_seen():
    for wrong in (lambda: np.zeros(2) and 1, lambda: len(5), lambda: [].pop(), lambda: Path(5), lambda: None.x):
        with pytest.raises(Exception) as caught:
            wrong()
        assert blame(caught.value)


# Sizes


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ("1GB", "got '1GB': 1,000,000,000 bytes, as GB is decimal; GiB means 1,073,741,824 bytes"),
        ("2MB", "got '2MB': 2,000,000 bytes, as MB is decimal; MiB means 1,048,576 bytes"),
        (1000, "expected a multiple of the 4096 byte page, got 1000"),
        ("0", "expected 1 to 2^44 - 1 pages of 4096 bytes, got '0'"),
    ],
)
def test_a_size_that_is_no_number_of_pages(size, said, capsys):
    with pytest.raises(ValueError) as caught:
        rf.Population.described(size)
    assert said in str(caught.value)
    assert main(["reclaim", "--size", str(size)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said.replace("1000", "'1000'") in error.replace("'1,000", "1,000")


def test_what_an_error_recommends_is_taken():
    with pytest.raises(ValueError) as caught:
        rf.Population.described("much")
    recommended = re.findall(r'"(\w+)"', str(caught.value))
    assert len(recommended) == 3
    for size in recommended:
        assert rf.Population.described(size).bytes > 0


def test_a_sweep_refuses_a_decimal_size_before_it_runs():
    with pytest.raises(ValueError, match="as GB is decimal"):
        rf.sweep({"population.size": ["1MiB", "1GB"]})


def test_a_share_is_a_target_everywhere(tmp_path):
    memory = rf.Population.synthetic("1MiB", orders=2)
    half = rf.reclaim(memory, "50%").reclaimed_pages
    assert 128 <= half < 256
    assert rf.compare(memory, "50%", arches=["x86-64"]).runs[0].reclaimed_pages == half
    swept = rf.sweep({"population.size": "1MiB", "population.orders": 2, "target": ["50%", "100%"]})
    assert [record["reclaimed_pages"] for record in swept.records.values()] == [half, 256]
    out = tmp_path / "a.json"
    assert main(["reclaim", "--size", "1MiB", "--orders", "2", "--target", "50%", "-o", str(out)]) == 0
    assert rf.load(out).runs[0].reclaimed_pages == half and rf.rerun(out).same


# Names and files


def test_order_and_orders():
    with pytest.raises(TypeError, match=r"^order: no such argument \(did you mean 'orders'\?\)"):
        rf.Population.synthetic("64KiB", order=2)
    alias, own = (
        rf.sweep({"population.size": "64KiB", name: [0, 2]}) for name in ("population.order", "population.orders")
    )
    assert [one["events"] for one in alias.records.values()] == [one["events"] for one in own.records.values()]


def test_a_capture_is_no_result_and_a_result_no_capture(tmp_path):
    with pytest.raises(ValueError, match=r"got a capture; Population\.load\(\) \(--capture\) reads it"):
        rf.load(CAPTURE)
    rf.save(result(), tmp_path / "a.json")
    with pytest.raises(rf.CaptureError, match=r"load\(\) reads saved results"):
        rf.Population.load(tmp_path / "a.json")
