"""What a result holds so that it can be repeated and judged: versions, host, arguments, memory used."""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from rmapfast._version import __version__


def provenance(**arguments: Any) -> dict[str, Any]:
    """Return the versions, the host and the arguments of a run.

    Parameters
    ----------
    **arguments
        Values that serialise to JSON.

    Returns
    -------
    dict
        ``rmapfast``, ``numpy`` and ``python`` (versions), ``host`` and ``arguments``; it serialises to JSON.
    """
    return {
        "rmapfast": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "host": {
            "machine": platform.machine(),
            "system": platform.system(),
            "release": platform.release(),
            "cpus": os.cpu_count(),
        },
        "arguments": arguments,
    }


def peak_rss_bytes() -> int | None:
    """Return the largest resident size of this process so far in bytes, or None where it is not known."""
    # Not ru_maxrss, which begins with the size of the process that started this one.
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        status = ""
    if found := re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE):
        return int(found[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
