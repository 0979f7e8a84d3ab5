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
# # My own process
#
# A capture holds what `/proc` shows of a process: page tables, folios, flags. Taking one needs Linux and root. Without
# them this notebook reads a capture that comes with the repository.

# %%
import subprocess
import sys
import tempfile
from pathlib import Path

import rmapfast as rf

folder = tempfile.TemporaryDirectory()
path = Path(folder.name, "mine.npz")
program = "import sys; memory = bytearray(b'x') * (64 << 20); print('ready', flush=True); sys.stdin.read()"

with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
    process.stdout.readline()
    try:
        [captured] = rf.capture(process.pid, path)
        print(f"{captured.present:,} of {captured.pages:,} pages are present")
    except (rf.CaptureError, OSError) as error:
        print(f"not captured: {error}")
        here = Path(__file__).resolve().parent if "__file__" in globals() else Path.cwd()
        path = next(
            found
            for found in (up / "docs" / "case-studies" / "data" / "anon_mthp.npz" for up in [here, *here.parents])
            if found.exists()
        )
    process.stdin.close()

# %% [markdown]
# Which folios are there, and what would each policy batch?

# %%
population = rf.Population.load(path)
policies = ["v6.18", "v7.0", "anon-swap"]
described = rf.describe(population, policies)
for kind, orders in described["orders_by_kind"].items():
    print(kind, {int(order): row["folios"] for order, row in orders.items()})
for policy in policies:
    print(f"{policy:10} {described['policies'][policy]['batched_share']:.0%} of the pages in batches")

# %% [markdown]
# `/proc` does not show everything. What was assumed instead:

# %%
population.assumptions

# %%
rf.plot.description(population, described)

# %% [markdown]
# Reclaim 80% of it, under three policies. What is predicted to change?

# %%
compared = rf.compare(population, "80%", policies=policies, arches=["x86-64"])
compared

# %%
rf.plot.components(compared)
