"""Cases that the lanes found, by their seeds; each failed once. They change when the worlds are drawn otherwise."""

from collections import Counter

import fuzz_twins
import pytest


@pytest.mark.parametrize(
    "seed",
    [
        56635579323960286,  # madvise on a part of a PMD leaf: a single page was to be split
    ],
)
def test_twins(seed):
    done = Counter()
    fuzz_twins.case(seed, done)
    assert done.total()
