"""What a rule of one's own returned during a check: which batch sizes, how often, for which kinds of folios."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rmapfast.flags import FOLIO_KINDS
from rmapfast.reference import BatchRule, Folio, Pte, Vma, Walk
from rmapfast.result import policy_name
from rmapfast.support import paragraph


@dataclass(frozen=True)
class Coverage:
    """The batch sizes that a rule returned.

    Parameters
    ----------
    returned : dict
        By kind of folio (:data:`rmapfast.flags.FOLIO_KINDS`): how often the rule returned each nr.
    """

    returned: Mapping[str, Mapping[int, int]]

    @property
    def asked(self) -> int:
        """How often the rule was asked."""
        return sum(sum(counts.values()) for counts in self.returned.values())

    @property
    def largest(self) -> int:
        """The largest nr that it returned; 0 if it never was asked."""
        return max((nr for counts in self.returned.values() for nr in counts), default=0)

    def to_dict(self) -> dict[str, Any]:
        """Return the coverage as a dict that serialises to JSON; a batch size is a string there.

        Returns
        -------
        dict
        """
        return {
            "asked": self.asked,
            "largest": self.largest,
            "only_1": self.largest == 1,
            "returned": {
                kind: {str(nr): count for nr, count in sorted(counts.items())} for kind, counts in self.returned.items()
            },
        }

    def lines(self, name: str) -> list[str]:
        """Return the coverage as text: a column for each kind of folio, batch sizes in ranges of powers of two.

        Parameters
        ----------
        name : str
            Name of the rule.

        Returns
        -------
        list of str
        """
        if not self.asked:
            return [f"{name} was never asked: no state came to its call."]
        ranges = range(self.largest.bit_length())
        spans = [(1 << power, min((2 << power) - 1, self.largest)) for power in ranges]
        heads = [str(low) if low == high else f"{low}-{high}" for low, high in spans]
        sums: dict[str, Counter[int]] = {kind: Counter() for kind in self.returned}
        for kind, counts in self.returned.items():
            for nr, count in counts.items():
                sums[kind][nr.bit_length() - 1] += count
        rows = [f"nr that {name} returned, and how often:", f"{'nr':<10}" + "".join(f"{kind:>12}" for kind in sums)]
        for power, head in enumerate(heads):
            rows.append(f"{head:<10}" + "".join(f"{count[power] or '.':>12}" for count in sums.values()))
        only_1 = [kind for kind, counts in self.returned.items() if set(counts) == {1}]
        if self.largest == 1:
            rows += paragraph(f"{name} never returned anything but 1: it batches nothing, and this check says no more.")
        elif only_1:
            rows += paragraph(f"{name} never returned anything but 1 for these folios: {', '.join(only_1)}.")
        return rows


class Returned:
    """An account of what a rule returns."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[int]] = {kind: Counter() for kind in FOLIO_KINDS}

    def add(self, kind: str, nr: int, times: int = 1) -> None:
        """Add that the rule returned nr for a kind of folio so many times."""
        self._counts[kind][nr] += times

    @property
    def coverage(self) -> Coverage:
        """What was returned so far; only the kinds of folios for which the rule was asked."""
        return Coverage({kind: dict(sorted(counts.items())) for kind, counts in self._counts.items() if counts})


class WatchedRule:
    """A rule that keeps account of what it returns; it is called like the rule.

    Parameters
    ----------
    rule : callable
    """

    def __init__(self, rule: BatchRule):
        self.rule = rule
        self.__name__ = policy_name(rule)
        self.returned = Returned()

    def __call__(self, folio: Folio, vma: Vma, walk: Walk, pte: Pte) -> int:
        """Return what the rule returns."""
        nr = self.rule(folio, vma, walk, pte)
        # the reference refuses all else
        if isinstance(nr, int | np.integer):
            self.returned.add(folio.kind, int(nr))
        return nr
