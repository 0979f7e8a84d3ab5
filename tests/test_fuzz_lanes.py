"""The hunting lanes: cases that they found, by their seeds, and the planted faults.

The cases failed once. They change when the worlds are drawn otherwise.
"""

from collections import Counter

import crash_states
import fuzz_twins
import mutants
import planted
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


@pytest.mark.parametrize("seed", range(4))
def test_a_sweep_resumes_from_what_a_failing_machine_leaves(seed):
    done = Counter()
    crash_states.case(seed, done)
    assert done["crash states"] == crash_states.STATES


def test_planted_faults_are_of_this_code():
    """Each names a text that stands once in its file, so that ``make mutants`` plants what it says."""
    faults = [(one.what, f"csrc/{one.file}", one.old) for one in mutants.MUTANTS]
    faults += [(one.what, one.file, one.old) for one in planted.FAULTS]
    assert [what for what, file, old in faults if (mutants.ROOT / file).read_text().count(old) != 1] == []
