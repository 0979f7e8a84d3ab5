"""The check of reference checks: do they clear the young bits that they must, and no others (docs/checker.md)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rmapfast import policy as _policy
from rmapfast.arch import Arch
from rmapfast.policy import Policy
from rmapfast.reference import YoungRule
from rmapfast.verify.search import Rule, Search, search_families
from rmapfast.verify.young_judge import YoungJudge
from rmapfast.verify.young_states import YoungFamily, young_families


def young_rules(policy: Policy, family: YoungFamily) -> Policy | None:
    """Return one policy for all that check the folios of a family by the same rules; None if MGLRU's are not known."""
    if family.lru == "mglru" and policy.mglru == "none":
        return None
    mglru = policy.mglru if family.lru == "mglru" else "none"
    return _policy.PRESETS["per-page"].replace(
        name="", doc="", young=policy.young, young_rule=policy.young_rule, mglru=mglru
    )


def young_search(
    chosen: list[Policy] | YoungRule,
    *,
    pages: int,
    budget: float,
    oracle: Policy,
    arch: Arch,
    threads: int,
    progress: Callable[[str], None] | None,
) -> Search:
    """Try the states of the scope, until the budget is used up; a family is a theme and an LRU.

    Parameters
    ----------
    chosen : list of Policy, or YoungRule
    pages : {1, 2, 4, 8}
        Largest folio.
    budget : float
        Seconds.
    oracle : Policy
    arch : Arch
    threads : int
        Worker processes; 1: this process.
    progress : callable, optional

    Returns
    -------
    Search

    Raises
    ------
    ValueError
        If the MGLRU of the oracle is not known, or a function returns what cannot be.
    """

    def rule_of(one: Rule, family: YoungFamily) -> Rule | None:
        if isinstance(one, Policy):
            return young_rules(one, family)
        assert isinstance(one, YoungRule)
        known = family.lru == "classic" or _policy.get(one.around).mglru != "none"
        return one if known else None

    return search_families(
        young_families(pages),
        [chosen] if isinstance(chosen, YoungRule) else list(chosen),
        rule_of,
        partial(YoungJudge, oracle=oracle, arch=arch),
        budget=budget,
        threads=threads,
        progress=progress,
    )
