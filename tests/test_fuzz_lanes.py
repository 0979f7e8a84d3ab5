"""The hunting lanes: cases that they found, by their seeds, and the planted faults.

The cases failed once. They change when the worlds are drawn otherwise.
"""

from collections import Counter

import crash_states
import fuzz_kill
import fuzz_twins
import mutants
import numpy as np
import pytest

import rmapfast as rf


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
def test_a_sweep_resumes_from_what_a_failing_machine_leaves(tmp_path, seed):
    """Seed 0 lost the journal, whose name was not forced to the disk."""
    rng, whole = np.random.default_rng(seed), fuzz_kill.numbers(rf.sweep(crash_states.SPACE))
    run = crash_states.recorded_run(rng, tmp_path)
    for _ in range(10):
        crash_states.check_crash(run, rng, fuzz_kill.numbers, whole)


def test_planted_faults_are_of_this_code():
    """Each names a text that stands once in its file, so that ``make mutants`` plants what it says."""
    texts = {one.file: (mutants.ROOT / "csrc" / one.file).read_text() for one in mutants.MUTANTS}
    assert [one.what for one in mutants.MUTANTS if texts[one.file].count(one.old) != 1] == []
