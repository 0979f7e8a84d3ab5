"""The examples in the docstrings of the package: each runs, and prints what it says."""

import doctest
import functools
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

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


# What the API reference of the site documents (docs/api), by its full name.
DOCUMENTED = [
    f"rmapfast.{name.removeprefix('rmapfast.')}"
    for page in sorted((Path(__file__).parents[1] / "docs" / "api").glob("*.rst"))
    for name in re.findall(r"(?m)^\.\. auto(?:function|class|exception):: ([\w.]+)$", page.read_text(encoding="utf-8"))
]


def test_the_reference_has_every_public_name():
    public = {f"rmapfast.{name}" for name in rmapfast.__all__ if callable(getattr(rmapfast, name))}
    assert public - set(DOCUMENTED) == set()
    assert len(set(DOCUMENTED)) == len(DOCUMENTED)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_what_the_reference_documents_has_an_example(name):
    found = functools.reduce(getattr, name.split(".")[1:], rmapfast)
    section = inspect.getdoc(found).partition("\nExamples\n--------\n")[2]
    assert ">>> " in section
