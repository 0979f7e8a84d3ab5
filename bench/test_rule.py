"""Rules in C against the same policy built in: with the memo, on the general path, and in the checker.

Ratios of CPU time, the least of several in turns.
"""

import time
from pathlib import Path

import pytest

import rmapfast as rf
from bench.cases import CASES

RULES = f"{Path(__file__).parents[1]}/tests/data/rules/restated.c"


def least(calls, rounds=7):
    """The least CPU seconds of each call; they take turns, each on what `make` gives it."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, (make, call) in calls.items():
            made = make()
            start = time.process_time()
            call(made)
            best[name] = min(best[name], time.process_time() - start)
    return best


@pytest.mark.benchmark(group="a rule in C")
@pytest.mark.parametrize(
    "case", ["regular", "order 0", "mix", "young .5", "holes .01", "dirty .1", "shuffled, young .5"]
)
def test_reclaim(benchmark, case):
    """Times the built-in policy: a batching rule, and a young rule with it; then both on the general path."""
    population = rf.Population.synthetic("2GiB", **CASES[case])
    rule = rf.policy.get(f"{RULES}:v7_0")
    with_young = rf.policy.get(f"{RULES}:v7_0+young")

    def reclaim(policy, engine):
        return population.copy, lambda copy: rf.reclaim(copy, "80%", policy=policy, engine=engine, in_place=True)

    best = least(
        {
            "rule": reclaim(rule, "c"),
            "with_young": reclaim(with_young, "c"),
            "built_in": reclaim("v7.0", "c"),
            "general_rule": reclaim(rule, "general"),
            "general_built_in": reclaim("v7.0", "general"),
        }
    )
    benchmark.pedantic(reclaim(rule, "c")[1], setup=lambda: ((population.copy(),), {}), rounds=1)
    for name in ("rule", "with_young"):
        benchmark.extra_info[f"{name}_times_built_in"] = best[name] / best["built_in"]
    benchmark.extra_info["general_times_built_in"] = best["general_rule"] / best["general_built_in"]


@pytest.mark.benchmark(group="a rule in C")
def test_check(benchmark):
    """Times the built-in policy in the checker, which has no memo and asks twice; without drawn folios."""

    def check(policy, **folios):
        return lambda: None, lambda _: rf.check([policy], pages=4, threads=1, budget=600, **folios)

    rule = check(f"{RULES}:v7_0", folios=0)
    best = least({"rule": rule, "built_in": check("v7.0")}, 2)
    benchmark.pedantic(lambda: rule[1](None), rounds=1)
    benchmark.extra_info["times_built_in"] = best["rule"] / best["built_in"]
