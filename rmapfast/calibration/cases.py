"""The reclaims that are measured."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class ReclaimCase:
    """A mapping and how it is reclaimed.

    Parameters
    ----------
    kind : {'file', 'lazyfree'}
    window_kb : int
        Readahead window of a file, which decides its folio orders; 0 reads page by page.
    mappings : int
        How often a file is mapped. The process that maps it is outside the cgroup, so its references do not count.
    batch : int
        Length to which PTE batches of lazyfree 2 MiB folios are cut.
    """

    kind: str
    window_kb: int = 0
    mappings: int = 1
    batch: int = 0

    def __str__(self) -> str:
        if self.kind == "lazyfree":
            return f"lazyfree, batches of {self.batch}"
        return f"file, window {self.window_kb}K, {self.mappings} mapping{'s' * (self.mappings != 1)}"


FILES = [ReclaimCase("file", window, 1) for window in (0, 16, 64, 256, 2048)]
UNMAPPED = [ReclaimCase("file", window, 0) for window in (0, 16, 64, 256, 2048)]
SEVERAL = [ReclaimCase("file", 64, 2), ReclaimCase("file", 2048, 2), ReclaimCase("file", 64, 4)]
LAZYFREE = [ReclaimCase("lazyfree", batch=batch) for batch in (512, 64, 8, 2, 1)]


def held_back_cases(number: int, seed: int) -> list[ReclaimCase]:
    """Draw cases that the fit does not use: other windows, numbers of mappings and lengths."""
    windows, lengths = (32, 128, 512, 1024), (4, 16, 32, 128, 256)
    all_cases = [ReclaimCase("file", window, mappings) for window in windows for mappings in (0, 1, 2, 3)]
    all_cases += [ReclaimCase("lazyfree", batch=batch) for batch in lengths]
    return random.Random(seed).sample(all_cases, min(number, len(all_cases)))
