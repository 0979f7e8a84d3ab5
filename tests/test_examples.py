"""The examples in the docstrings of the package: each runs, and prints what it says."""

import doctest
import importlib
import pkgutil

import pytest

import rmapfast

# `python -m` runs these when they are imported.
PROGRAMS = {"rmapfast.__main__", "rmapfast.cli.__main__"}
NAMES = ["rmapfast", *(found.name for found in pkgutil.walk_packages(rmapfast.__path__, "rmapfast."))]
EXAMPLES = [
    test
    for name in NAMES
    if name not in PROGRAMS
    for test in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name))
    if test.examples
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_runs(example):
    said = []
    doctest.DocTestRunner().run(example, out=said.append)
    assert not said, "".join(said)


def test_what_a_user_calls_first_has_an_example():
    shown = {example.name.split(".")[-1] for example in EXAMPLES}
    assert {"synthetic", "reclaim", "compare", "sweep", "check", "describe", "calibrate", "try_to_unmap_one"} <= shown
