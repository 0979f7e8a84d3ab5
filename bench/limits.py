"""The passes of limits.c, which is compiled for this machine at the first call (``cc -O3 -march=native``)."""

import ctypes
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

SOURCE = Path(__file__).with_name("limits.c")


@cache
def _library() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "limits.so"
        subprocess.run(
            ["cc", "-std=c11", "-O3", "-march=native", "-fPIC", "-shared", SOURCE, "-o", library], check=True
        )
        loaded = ctypes.CDLL(str(library))
    for name in ("limit_read", "limit_read_clear"):
        getattr(loaded, name).restype = ctypes.c_uint64
    return loaded


def _words(array: np.ndarray) -> tuple[ctypes.c_void_p, ctypes.c_size_t]:
    if array.dtype != np.uint64 or not array.flags.carray:
        raise TypeError(f"array: expected a C-contiguous, writable uint64 array, got {array.dtype}")
    return ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.size)


def read(array: np.ndarray) -> int:
    """Load each word; returns their sum modulo 2^64."""
    return _library().limit_read(*_words(array))


def read_clear(array: np.ndarray) -> int:
    """Load each word and store 0 in its place; returns their sum modulo 2^64."""
    return _library().limit_read_clear(*_words(array))


def copy(target: np.ndarray, source: np.ndarray) -> None:
    """Copy an array into another one of the same size."""
    (to, size), (origin, wanted) = _words(target), _words(source)
    if size.value != wanted.value:
        raise ValueError(f"target: expected {source.size} elements, got {target.size}")
    _library().limit_copy(to, origin, size)
