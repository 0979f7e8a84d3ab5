"""A user's script: what the four main functions take and return, with the types that a reader of the docs expects."""

import rmapfast as rf

population: rf.Population = rf.Population.synthetic("16MiB", orders={4: 0.5, 9: 0.5}, holes=0.01)
result: rf.Result = rf.reclaim(population, "12MiB", policy="v7.0", arch="x86-64")
freed: int = result.reclaimed_pages
removed: int = result.events["rmap_remove_calls"]
lengths: dict[int, int] = result.batch_lengths
prediction: rf.Prediction = result.prediction
low, high = prediction.interval
seconds: float | None = prediction.seconds
shares: dict[str, float] = prediction.breakdown
print(f"{freed} pages, {removed} calls, {len(lengths)} lengths, {prediction.value:.3g} {prediction.unit}", low < high)

compared: rf.Comparison = rf.compare(population, "12MiB", policies=["v6.16+young", "v7.0"], arches=["x86-64"])
for run in compared.runs:
    print(run.policy_name, run.per_page("batches"), run.target_reached, run.price("ab-7.2.13").unit)
ratio: float = compared.ratio("batches", "v7.0", "x86-64")

swept: rf.Sweep = rf.sweep(
    {"population.size": "4MiB", "population.order": [0, 4], "policy": ["v6.16+young", "v7.0"], "arch": "x86-64"}
)
assert swept.complete and not swept.failures
gain = swept.prices.gain
print(swept.prices.unit, swept.prices.predicted.shape, None if gain is None else float(gain.max()))
ranking: rf.Ranking = swept.rank()
for effect in ranking.effects:
    print(effect.axis, effect.highest[1] - effect.lowest[1])

report: rf.CheckReport = rf.check(["v7.0"], budget=5.0)
for one in report.policies:
    print(one.policy_name, one.clean, [violation.invariant for violation in one.violations])
print(report.states, report.complete, ratio, seconds, sorted(shares))
