"""The check of splits: whether a process still reaches what page-by-page treatment leaves (docs/checker.md)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rmapfast.arch import Arch
from rmapfast.policy import Policy
from rmapfast.reference import BatchRule
from rmapfast.verify.search import Rule, Search, search_families
from rmapfast.verify.split_judge import SplitJudge, run_c, run_reference
from rmapfast.verify.split_states import SplitFamily, split_families, toy_arch

# The fields of a policy that say how folios are split, swapped and shared, and when they are old.
SPLIT_FIELDS = (
    "young",
    "young_rule",
    "split_order",
    "swap_split",
    "swap_single",
    "sharing",
    "dirty_flush",
    "shmem_fallback",
)
# States that are drawn of each kind of folio, besides all those of the themes, where folios of 4 pages are tried.
DRAWN = 5000


def split_rules(policy: Policy, unmap: Policy, family: SplitFamily) -> Policy:
    """Return one policy for all that treat the states of a family by the same rules; it runs once.

    Parameters
    ----------
    policy : Policy
    unmap : Policy
        The policy that stands for it where a folio of this kind is unmapped.
    family : SplitFamily
    """
    fields = {name: getattr(policy, name) for name in SPLIT_FIELDS}
    # no device of the scope has a map, and what counts in swpout_fallbacks is not compared
    fields |= {"swap_single": "partial", "shmem_fallback": True}
    if not family.anon:
        fields["swap_split"] = "always"
    if family.kind == "file":
        fields["dirty_flush"] = "folio"
    return unmap.replace(**fields)


def split_search(
    chosen: list[Policy] | BatchRule,
    unmap_rules: Callable[[Policy, str], Policy],
    *,
    pages: int,
    budget: float,
    oracle: Policy,
    arch: Arch,
    threads: int,
    progress: Callable[[str], None] | None,
    drawn: int = DRAWN,
) -> Search:
    """Try the states of the scope, until the budget is used up; a family is a kind of folio and a theme.

    Parameters
    ----------
    chosen : list of Policy, or callable
        A callable runs on the reference, in this process.
    unmap_rules : callable
        Gives, for a policy and a kind of folio, the policy that stands for all that unmap it by the same rules.
    pages : {1, 2, 4, 8}
        Largest folio.
    budget : float
        Seconds.
    oracle : Policy
    arch : Arch
    threads : int
        Worker processes; 1: this process.
    progress : callable, optional
    drawn : int
        States that are drawn of each kind where folios of 4 pages are tried.

    Returns
    -------
    Search
    """

    def rule_of(one: Rule, family: SplitFamily) -> Rule:
        if not isinstance(one, Policy):
            return one
        return split_rules(one, unmap_rules(one, family.kind), family)

    engine = run_reference if callable(chosen) else run_c
    return search_families(
        split_families(pages, drawn if pages >= 4 else 0),
        [chosen] if callable(chosen) else list(chosen),
        rule_of,
        partial(SplitJudge, oracle=oracle, arch=toy_arch(arch), engine=engine),
        budget=budget,
        threads=threads,
        progress=progress,
    )
