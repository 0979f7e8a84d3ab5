"""Is a batching rule in C the same rule as a Python function? Both are asked at the same entries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rmapfast import arch as _arch
from rmapfast import policy as _policy
from rmapfast.arch import Arch
from rmapfast.policy import Policy
from rmapfast.reference import BatchRule, Folio, Pte, Vma, Walk, rule_in_c
from rmapfast.result import policy_name
from rmapfast.verify.cases import Case, reachable
from rmapfast.verify.coverage import Coverage, Returned
from rmapfast.verify.drawing import case_in_words
from rmapfast.verify.invariants import unmap_case
from rmapfast.verify.rule_check import DRAWN, RuleSearch, rule_search


@dataclass(frozen=True)
class RuleDifference:
    """The first entry of a case at which the two rules returned something else.

    Parameters
    ----------
    case : dict
        Its fields are those of docs/conformance-format.md.
    vpn, page : int
        Virtual page of the entry, and the page of the folio that it maps.
    in_c, in_python : int
        What each returned.
    """

    case: Case = field(repr=False)
    vpn: int
    page: int
    in_c: int
    in_python: int


@dataclass(frozen=True, repr=False)
class RuleComparison:
    """A rule in C beside a Python function.

    Parameters
    ----------
    in_c, in_python : str
        Names of the rules.
    asked : int
        At how many entries both were asked.
    tried, drawn : int
        Small states tried, and drawn folios.
    exhaustive_pages : int
        Every small state was tried of folios of up to so many pages; 0 for none.
    left_out : tuple of str
        What of the scope was not tried.
    coverage : Coverage
        What the Python function returned.
    difference : RuleDifference or None
        The first that was found; one that a kernel can reach if there is one.

    Examples
    --------
    >>> import rmapfast as rf
    >>> from rmapfast.rule import Rule
    >>> ones = rf.policy.get("v7.0").replace(name="ones", rule=Rule(lambda call: 1))
    >>> compared = rf.compare_rules(ones, lambda folio, vma, walk, pte: 2 if folio.large else 1, budget=8, drawn=10)
    >>> compared.same, compared.difference.in_c, compared.difference.in_python
    (False, 1, 2)
    """

    in_c: str
    in_python: str
    asked: int
    tried: int
    drawn: int
    exhaustive_pages: int
    left_out: tuple[str, ...]
    coverage: Coverage
    difference: RuleDifference | None

    @property
    def same(self) -> bool:
        """Whether both returned the same wherever they were asked."""
        return self.difference is None

    def __repr__(self) -> str:
        head = f"{self.in_c} and {self.in_python}()"
        where = f"{self.tried:,} small states and {self.drawn:,} drawn folios"
        if self.difference is None:
            lines = [
                f"{head} returned the same at {self.asked:,} entries of {where}.",
                *self.coverage.lines(self.in_python),
                *(f"left out: {text}" for text in self.left_out),
            ]
        else:
            one = self.difference
            lines = [
                f"{head} differ, found in {where}:",
                f"{case_in_words(one.case)}",
                f"at vpn {one.vpn}, page {one.page} of the folio: {one.in_c} in C, {one.in_python} in Python",
            ]
        return "\n".join(lines)


class _Differs(Exception):
    """A difference that a kernel can reach ends the search."""


class _Both:
    """A batching rule that asks two, and keeps where they differ; it returns what the Python function returns."""

    def __init__(self, in_c: BatchRule, in_python: BatchRule):
        self._in_c, self._in_python = in_c, in_python
        self.__name__ = policy_name(in_python)
        self.asked, self.returned = 0, Returned()
        self.difference: tuple[int, int, int, int] | None = None

    def __call__(self, folio: Folio, vma: Vma, walk: Walk, pte: Pte) -> int:
        in_c, nr = self._in_c(folio, vma, walk, pte), self._in_python(folio, vma, walk, pte)
        self.asked += 1
        if in_c != nr and self.difference is None:
            self.difference = walk.vpn, folio.page(pte), in_c, nr
        if isinstance(nr, int):
            self.returned.add(folio.kind, nr)
        return nr

    def differs(self, case: Case, arch: Arch) -> bool:
        """Ask both at each entry that the unmap of a case comes to, up to the first difference."""
        self.difference = None
        try:
            unmap_case(case, self, arch)
        except ValueError:  # what one of them returned cannot be
            if self.difference is None:
                raise
        return self.difference is not None


def compare_rules(
    in_c: str | Policy,
    in_python: BatchRule,
    *,
    pages: int | None = None,
    budget: float = 60.0,
    drawn: int = DRAWN,
    seed: int = 0,
    arch: str | Arch = "x86-64",
    unreachable: bool = False,
    progress: Callable[[str], None] | None = None,
) -> RuleComparison:
    """Compare a batching rule in C with the same rule as a Python function.

    Both are asked at each entry that an unmap comes to: in small states, then in drawn folios of 8 to 512 pages, as
    :func:`check` tries them. The search ends with the first difference that a kernel can reach.

    Parameters
    ----------
    in_c : str or Policy
        ``FILE.c:NAME``, or a policy with a batching rule.
    in_python : callable
        ``(folio, vma, walk, pte) -> nr``
    pages, budget, drawn, seed, unreachable, progress
        As for :func:`check` of a Python function.
    arch : str or Arch
        Its rules hold in the unmaps.

    Returns
    -------
    RuleComparison

    Raises
    ------
    TypeError, ValueError
        If the policy has no batching rule, if `in_python` is no function, if the states that `pages` asks for do not
        fit into the budget, and if both rules return the same that cannot be.

    Examples
    --------
    >>> import rmapfast as rf
    >>> from rmapfast.rule import Rule  # a function pointer of ctypes
    >>> ones = rf.policy.get("v7.0").replace(name="ones", rule=Rule(lambda call: 1))
    >>> rf.compare_rules(ones, lambda folio, vma, walk, pte: 1, budget=2, drawn=10).same
    True
    """
    policy, arch = _policy.get(in_c), _arch.get(arch)
    if not policy.rule:
        raise ValueError(f"in_c: expected a policy with a batching rule, got {policy.name}")
    if not callable(in_python):
        raise TypeError(f"in_python: expected a function (folio, vma, walk, pte) -> nr, got {in_python!r}")
    both = _Both(rule_in_c(policy.rule), in_python)

    def judge(case: Case) -> list[str]:
        return ["difference"] if both.differs(case, arch) else []

    search = _UpToFirst(judge, both.returned)
    try:
        rule_search(
            search,
            policy_name(in_python),
            pages=pages,
            budget=budget,
            drawn=drawn,
            seed=seed,
            unreachable=unreachable,
            progress=progress,
        )
    except _Differs:
        search.left_out.append("what comes after the first difference")
    asked, coverage, difference = both.asked, both.returned.coverage, None
    if search.examples:
        (example,) = search.examples.values()
        both.differs(example, arch)
        assert both.difference is not None
        difference = RuleDifference(example, *both.difference)
    return RuleComparison(
        in_c=policy.name,
        in_python=policy_name(in_python),
        asked=asked,
        tried=search.tried,
        drawn=search.drawn,
        exhaustive_pages=search.exhaustive_pages,
        left_out=tuple(search.left_out),
        coverage=coverage,
        difference=difference,
    )


class _UpToFirst(RuleSearch):
    """A search that ends with the first reachable example."""

    def add(self, name: str, count: int, rank: Any, case: Callable[[], Case]) -> None:
        super().add(name, count, rank, case)
        if reachable(case()):
            raise _Differs
