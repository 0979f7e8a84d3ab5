"""A call in a process of its own, which may use so much and no more.

For libraries that read some damaged files without end, and hear no signal then.
"""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

_CHILD = """
import json, sys
sys.path[:], *words = json.loads(sys.argv[1])
from rmapfast.support.apart import answer
answer(*words)
"""


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
        If the function raises an exception, or the process does not end by itself; the message says which.
    """
    import subprocess  # 8 ms, for a call that few runs make

    words = json.dumps([sys.path, function, seconds, addresses])
    done = subprocess.run([sys.executable, "-I", "-c", _CHILD, words], input=content, capture_output=True, check=False)
    if done.returncode == 0:
        said = json.loads(done.stdout)
        if "error" in said:
            raise ValueError(said["error"])
        return said["result"]
    if -done.returncode in (signal.SIGXCPU, signal.SIGKILL):
        raise ValueError(f"it was not read within {seconds} s of processor time")
    raise ValueError(f"its reader ended with exit status {done.returncode}")


def answer(function: str, seconds: int, addresses: int) -> None:
    """Be the other process: call the function with what comes in, and print what it returns or raises as JSON."""
    import importlib
    import resource

    for kind, most in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, addresses), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    module, _, name = function.partition(":")
    try:
        said = {"result": getattr(importlib.import_module(module), name)(sys.stdin.buffer.read())}
    except (ValueError, OSError) as error:
        said = {"error": str(error)}
    except Exception as error:  # a library raises many kinds of error for damaged bytes
        said = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(said))
