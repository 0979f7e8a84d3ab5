"""The checker: distinct states per second and core, each run under the policy and page by page, and compared."""

import pytest

import rmapfast as rf


@pytest.mark.benchmark(group="checker, one thread")
@pytest.mark.parametrize("policy", ["v6.16", "v7.0.12", "v7.3"])
@pytest.mark.parametrize("pages", [2, 4])
def test_check(benchmark, policy, pages):
    run = {"policies": [policy], "pages": pages, "budget": 600, "threads": 1}
    report = benchmark.pedantic(rf.check, kwargs=run, rounds=1)
    benchmark.extra_info["states_per_s"] = report.states / report.seconds
