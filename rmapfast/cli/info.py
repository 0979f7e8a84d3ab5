"""``rmapfast info``."""

from __future__ import annotations

import argparse
import os
import platform

import numpy as np

import rmapfast as rf
from rmapfast.cli.shared import Verbs, add_verb, print_json
from rmapfast.support import hanging


def add(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    add_verb(verbs, "info", run, "Print the versions and the machine, for a bug report.")


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return its exit status."""
    document = {
        "rmapfast": rf.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cpus": os.cpu_count(),
        "policies": len(rf.policy.names()),
        "architectures": list(rf.arch.names()),
    }
    if arguments.json:
        print_json(document)
    else:
        for name, value in document.items():
            text = ", ".join(value) if isinstance(value, list) else str(value)
            print("\n".join(hanging(name, 14, text)))
    return 0
