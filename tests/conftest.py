"""What all tests share: the marker of those that need the full recorded data, and which package is under test."""

import os
from pathlib import Path

import pytest
import shared

import rmapfast
from rmapfast import cli


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
