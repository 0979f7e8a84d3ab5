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
# # My own policy
#
# A batching rule is a function of the folio, the VMA, the walk and the entry. It says how many entries to clear at
# once.

# %%
import rmapfast as rf
from rmapfast.verify import case_drawing


def mine(folio, vma, walk, pte):
    """Batch file folios up to the end of the folio."""
    if folio.anon or folio.nr_pages == 1 or vma.uffd_wp or pte.unused or "HWPOISON" in walk.ttu:
        return 1
    return walk.batch(folio.nr_pages)


# %% [markdown]
# Is it right? The checker tries small states, and compares the end of each with unmapping page by page (up to 20
# seconds).

# %%
report = rf.check(mine, budget=20)
print(report)

# %% [markdown]
# `out-of-bounds`: the scan looks behind the end of the page table. The smallest example shows it.

# %%
violation = next(one for one in report.policies[0].violations if one.invariant == "out-of-bounds")
print(case_drawing(violation.example, mine))


# %% [markdown]
# `walk.room()` is the number of entries that are left in the table and the VMA.


# %%
def clipped(folio, vma, walk, pte):
    """Batch file folios up to the end of the folio, the page table and the VMA."""
    if folio.anon or folio.nr_pages == 1 or vma.uffd_wp or pte.unused or "HWPOISON" in walk.ttu:
        return 1
    return walk.batch(min(folio.nr_pages, walk.room()))


fixed = rf.check(clipped, budget=20)
assert fixed.clean
print(fixed)

# %% [markdown]
# What does it buy? A Python rule runs on the slow reference model, so the memory is small here.

# %%
population = rf.Population.synthetic("4MiB", orders=4)
runs = {
    name: rf.reclaim(population, "3MiB", policy=policy, engine="reference", arch="x86-64")
    for name, policy in (("page by page", "per-page"), ("mine", clipped))
}
for name, run in runs.items():
    print(f"{name:14} {run.batch_lengths} {run.prediction.seconds * 1e6:.0f} us predicted")
