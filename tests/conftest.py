"""What all tests share: the marker of those that need the full recorded data."""

import pytest
import shared


def pytest_configure(config):
    config.addinivalue_line("markers", "shared: needs the full recorded data (tests/shared.py says where it lies)")


def pytest_runtest_setup(item):
    if item.get_closest_marker("shared") and not shared.PRESENT:
        pytest.skip("the full recorded data is not beside the repository")
