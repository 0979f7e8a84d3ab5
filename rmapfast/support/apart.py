"""A call in a process of its own, which may use so much and no more.

For libraries that read some damaged files without end, and hear no signal then.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

_CHILD = """
import json, sys
sys.path[:], *words = json.loads(sys.argv[1])
from rmapfast.support.apart import answer
answer(*words)
"""
# BLAS maps tens of MiB for each of its threads, which would count as addresses of the call.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def call_apart(function: str, content: bytes, *, seconds: int, addresses: int) -> Any:
    """Call ``function(content)`` in another process and return what it returns.

    Parameters
    ----------
    function : str
        ``module:name``. What it returns must be what JSON has.
    content : bytes
        Its argument.
    seconds : int
        Processor time in s after which the process is ended.
    addresses : int
        Bytes of addresses that it may map.

    Raises
    ------
    ValueError
        If the function raises an exception, runs into a limit, or crashes; the message says which.
    ChildProcessError
        If the process cannot make the call.
    """
    import subprocess  # 8 ms, for a call that few runs make

    words = json.dumps([[str(one) for one in sys.path], function, seconds, addresses])
    done = subprocess.run(
        [sys.executable, "-I", "-c", _CHILD, words],
        input=content,
        capture_output=True,
        check=False,
        env=os.environ | _ONE_THREAD,
    )
    if done.returncode == 0:
        said = json.loads(done.stdout)
        if "error" in said:
            raise ValueError(said["error"])
        return said["result"]
    if -done.returncode == signal.SIGXCPU:
        raise ValueError(f"its reader did not end within {seconds} s of processor time")
    if done.returncode < 0:
        raise ValueError(f"its reader was ended by {signal.Signals(-done.returncode).name}")
    last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    raise ChildProcessError(f"the process that is to read it ended with exit status {done.returncode}: {last}")


def answer(function: str, seconds: int, addresses: int) -> None:
    """Be the other process: call the function with what comes in, and write what it returns or raises as JSON."""
    import importlib
    import resource

    # What a library prints must not come into the answer.
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        for kind, most in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, addresses), (resource.RLIMIT_CORE, 0)):
            _, hard = resource.getrlimit(kind)
            resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
        module, _, name = function.partition(":")
        call = getattr(importlib.import_module(module), name)
        try:
            said = {"result": call(sys.stdin.buffer.read())}
        except (ValueError, OSError) as error:
            said = {"error": str(error)}
        except Exception as error:  # a library raises many kinds of error for damaged bytes
            said = {"error": f"{type(error).__name__}: {error}"}
        json.dump(said, out)
