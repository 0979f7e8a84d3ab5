# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A sweep with seeds and error bars
#
# The holes of a mapping are drawn at random. How much does the gain depend on the draw? Each point of a sweep is run
# with several seeds, and the mean over them has error bars.

# %%
import rmapfast as rf

space = {
    "population.size": "4MiB",
    "population.order": [0, 1, 2, 3, 4, 6, 9],
    "population.holes": [0.0, 0.01, 0.05],
    "population.seed": list(range(5)),
    "policy": ["v6.16+young", "v7.0"],
    "arch": "x86-64",
}
swept = rf.sweep(space)
swept

# %% [markdown]
# The bounds of `mean()` are a standard error of the mean, or quantiles. They say how far the seeds lie apart.

# %%
mean = swept.mean("population.seed")
mean

# %%
rf.plot.sweep(mean)

# %% [markdown]
# Where one axis is left, the figure has lines with error bars. Here they go from the 5% to the 95% quantile of the
# seeds.

# %%
some = swept.sel({"population.holes": 0.05})
rf.plot.sweep(some.mean("population.seed", quantiles=(0.05, 0.95)))

# %% [markdown]
# The seeds are one source of doubt, and the costs are another. The interval of a prediction holds the middle 90% of
# what the draws of the costs give. Here it is far wider than the scatter of the seeds:

# %%
prices = swept.prices
order, holes, policy = 4, 1, 1
seeds = prices.predicted[order, holes, :, policy]
print(f"{prices.unit} by seed: {seeds.min():,.0f} to {seeds.max():,.0f}")
low, high = prices.low[order, holes, 0, policy], prices.high[order, holes, 0, policy]
print(f"{prices.unit} by costs, first seed: {low:,.0f} to {high:,.0f}")

# %% [markdown]
# Which axis moves the gain most?

# %%
swept.rank()
