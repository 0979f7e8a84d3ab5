"""What the machine's memory allows in this process, one thread: the passes of limits.c."""

import numpy as np
import pytest

from bench import limits

SIZES = {"256KiB": 256 << 10, "20MiB": 20 << 20, "512MiB": 512 << 20}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("what", ["read", "read_clear", "copy"])
def test_limit(benchmark, what, size):
    """GB/s are of the array, once: a copy moves twice as much."""
    benchmark.group = f"limits, {size}"
    words = np.ones(SIZES[size] // 8, np.uint64)
    arguments = (np.zeros_like(words), words) if what == "copy" else (words,)
    iterations = max((32 << 20) // SIZES[size], 1)
    call = getattr(limits, what)
    benchmark.pedantic(call, args=arguments, rounds=9, iterations=iterations, warmup_rounds=1)
    if benchmark.stats:
        seconds = benchmark.stats.stats.median
        benchmark.extra_info.update(GB_per_s=words.nbytes / seconds / 1e9, words_per_s=len(words) / seconds)
