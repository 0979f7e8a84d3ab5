"""Builds the one extension module from the C library and its Cython door.

Environment: RMAPFAST_SANITIZE=1 (address and undefined-behaviour sanitizers), RMAPFAST_DEBUG=1 (-O0 -g, assertions),
RMAPFAST_COVERAGE=1 (gcov).
"""

import os
from glob import glob

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup

WARNINGS = ["-Wall", "-Wextra"]
# -fwrapv: counters wrap, as the kernel's atomics do
compile_args = ["-std=c11", "-fwrapv", "-O3", "-fvisibility=hidden", "-fno-math-errno", *WARNINGS]
link_args = []

if os.environ.get("RMAPFAST_DEBUG") == "1":
    compile_args += ["-O0", "-g", "-UNDEBUG"]
if os.environ.get("RMAPFAST_SANITIZE") == "1":
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    compile_args += ["-O1", "-g", *flags]
    link_args += flags
if os.environ.get("RMAPFAST_COVERAGE") == "1":
    compile_args += ["-O0", "--coverage"]
    link_args += ["--coverage"]

extension = Extension(
    "rmapfast._core",
    sources=["rmapfast/_core.pyx", *sorted(glob("csrc/*.c"))],
    depends=sorted(glob("csrc/*.h")),
    include_dirs=["csrc", np.get_include()],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
    extra_compile_args=compile_args,
    extra_link_args=link_args,
)

setup(ext_modules=cythonize([extension], compiler_directives={"language_level": 3, "binding": True}))
