"""A batching rule in C against the same policy built in: with the memo, without it, and in the checker."""

from pathlib import Path

import pytest

import rmapfast as rf
from bench.cases import CASES

RULE = f"{Path(__file__).parents[1]}/tests/data/rules/restated.c:v7_0"


def least(calls, rounds=5):
    """The least seconds that each call says; they take turns."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            best[name] = min(best[name], call())
    return best


@pytest.mark.benchmark(group="a rule in C")
@pytest.mark.parametrize("case", ["regular", "order 0", "mix", "young .5", "holes .01", "shuffled, young .5"])
def test_reclaim(benchmark, case):
    """Times the built-in policy, on the general path and with the fast paths."""
    population = rf.Population.synthetic("256MiB", **CASES[case])

    def reclaim(policy, engine):
        return lambda: rf.reclaim(population.copy(), "80%", policy=policy, engine=engine, in_place=True).wall_s

    best = least({"rule": reclaim(RULE, "c"), "general": reclaim("v7.0", "general"), "fast": reclaim("v7.0", "c")})
    benchmark.pedantic(reclaim(RULE, "c"), rounds=1)
    for name in ("general", "fast"):
        benchmark.extra_info[f"times_{name}"] = best["rule"] / best[name]


@pytest.mark.benchmark(group="a rule in C")
def test_check(benchmark):
    """Times the built-in policy in the checker, which has no memo."""

    def check(policy):
        return lambda: rf.check([policy], pages=4, threads=1, budget=600).seconds

    best = least({"rule": check(RULE), "built_in": check("v7.0")}, 2)
    benchmark.pedantic(check(RULE), rounds=1)
    benchmark.extra_info["times_built_in"] = best["rule"] / best["built_in"]
