"""The hunting lanes: cases that they found, by their seeds, and the planted faults.

The cases failed once. They change when the worlds are drawn otherwise.
"""

from collections import Counter

import fuzz_twins
import mutants
import pytest


@pytest.mark.parametrize(
    "seed",
    [
        5003016,  # madvise on a part of a PMD leaf: a single page was to be split
        25553,  # the same
        33874890612874078,  # a stale nr passed the end of a folio whose pages are swapped out in a batch
    ],
)
def test_twins(seed):
    done = Counter()
    fuzz_twins.case(seed, done)
    assert done.total()


def test_planted_faults_are_of_this_code():
    """Each names a text that stands once in its file, so that ``make mutants`` plants what it says."""
    texts = {one.file: (mutants.ROOT / "csrc" / one.file).read_text() for one in mutants.MUTANTS}
    assert [one.what for one in mutants.MUTANTS if texts[one.file].count(one.old) != 1] == []
