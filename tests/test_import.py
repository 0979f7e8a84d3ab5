"""`import rmapfast` stays lean: what only some uses need is imported when it is used."""

import os
import subprocess
import sys

import pytest
from waiting import DEADLINE

import rmapfast as rf

# What takes long to import, or is needed by few uses.
OWN = ("calibration", "captures", "cli", "comparison", "contents", "parallel", "plot", "reference", "reports", "saved",
       "stream", "sweeps", "verify")  # fmt: skip
OTHERS = ("IPython", "SALib", "asyncio", "concurrent.futures", "dask", "distributed", "h5netcdf", "h5py", "html",
          "importlib.metadata", "logging", "matplotlib", "multiprocessing", "numpy.random", "pandas", "pyarrow",
          "scipy", "subprocess", "tempfile", "tqdm", "xarray")  # fmt: skip


def loaded(code):
    """The modules that are loaded after some code, beyond those of NumPy and of the interpreter itself."""
    code = f"import sys, numpy\nbefore = set(sys.modules)\n{code}\nprint(*sorted(set(sys.modules) - before))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE, env=environment
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_what_an_import_does_not_load():
    found = loaded("import rmapfast")
    assert "rmapfast.loop" in found
    assert not found & {*OTHERS, *(f"rmapfast.{room}" for room in OWN)}


def test_a_run_and_what_a_notebook_shows_of_it_load_little_more():
    found = loaded("import rmapfast as rf\nrf.reclaim(rf.Population.synthetic('1MiB'), '50%')._repr_html_()")
    assert "html" in found
    assert not found & ({*OTHERS, *(f"rmapfast.{room}" for room in OWN)} - {"html", "numpy.random"})


@pytest.mark.parametrize("name", rf.__all__)
def test_each_public_name_is_there(name):
    assert name in dir(rf) and getattr(rf, name) is not None
