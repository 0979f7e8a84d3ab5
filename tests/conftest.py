"""What all tests share: the marker of those that need the full recorded data, which package is under test, and how the
examples of property-based tests are drawn.

HYPOTHESIS_PROFILE=ci draws the same examples in each run of a commit, and uses none that earlier runs kept. Without it
the examples are drawn at random, as a search for faults wants them.
"""

import os
from pathlib import Path

import pytest
import shared
from hypothesis import settings

import rmapfast
from rmapfast import cli

settings.register_profile("ci", derandomize=True, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_configure(config):
    config.addinivalue_line("markers", "shared: needs the full recorded data (tests/shared.py says where it lies)")
    expected, found = os.environ.get("RMAPFAST_UNDER_TEST"), Path(rmapfast.__file__).resolve()
    if expected and not found.is_relative_to(Path(expected).resolve()):
        raise pytest.UsageError(f"RMAPFAST_UNDER_TEST: expected the package below {expected}, got {found}")


def pytest_runtest_setup(item):
    if item.get_closest_marker("shared") and not shared.PRESENT:
        pytest.skip("the full recorded data is not beside the repository")


@pytest.fixture
def run(capsys):
    """Run the command in this process; (exit status, stdout, stderr)."""

    def run(*argv):
        capsys.readouterr()
        try:
            status = cli.main([str(argument) for argument in argv])
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return run
