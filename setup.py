"""Builds the one extension module from the C library and its Cython wrapper.

Environment: RMAPFAST_SANITIZE=1 (address and undefined-behaviour sanitizers), RMAPFAST_DEBUG=1 (-O0 -g, assertions),
RMAPFAST_COVERAGE=1 (gcov).
"""

import os
import platform
from glob import glob

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

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

# The loops for each instruction set (csrc/Makefile has the same flags). On other machines
# these files compile to nothing.
ISA_FLAGS = {
    "csrc/isa_avx2.c": ["-mavx2", "-mbmi2"],
    "csrc/isa_avx512.c": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"],
}


class BuildExt(build_ext):
    """Compiles the files of :data:`ISA_FLAGS` with their own flags."""

    def build_extension(self, ext):
        """Add their objects to what is linked."""
        x86 = platform.machine().lower() in ("x86_64", "amd64")
        for source, flags in ISA_FLAGS.items():
            ext.extra_objects += self.compiler.compile(
                [source],
                output_dir=self.build_temp,
                include_dirs=ext.include_dirs,
                extra_postargs=compile_args + (flags if x86 else []),
                depends=ext.depends,
            )
        super().build_extension(ext)


extension = Extension(
    "rmapfast._core",
    sources=["rmapfast/_core.pyx", *sorted(set(glob("csrc/*.c")) - set(ISA_FLAGS))],
    depends=sorted(
        [*glob("rmapfast/*.px[di]"), *glob("rmapfast/include/*.h"), *glob("csrc/*.h"), *glob("csrc/*.def"), *ISA_FLAGS]
    ),
    include_dirs=["csrc", "rmapfast/include", np.get_include()],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
    extra_compile_args=compile_args,
    extra_link_args=link_args,
)

# freethreading_compatible: the module keeps no state of its own but the memory of csrc/arena.c, which has a lock.
DIRECTIVES = {"language_level": 3, "binding": True, "freethreading_compatible": True}

setup(
    ext_modules=cythonize([extension], compiler_directives=DIRECTIVES),
    cmdclass={"build_ext": BuildExt},
)
