"""The files that the words of a command name: none is written that is read, and none twice."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from pathlib import Path

from rmapfast.support import check_apart

# Options that name a file to write, with the ending that each verb's has; None where a room checks it.
_OUTPUTS = {"output": "-o", "plot": "--plot", "resume": "--resume"}
_ENDINGS = {"reclaim": ".json", "capture": ".npz", "calibrate": ".toml", "sweep": None}


def check_files(arguments: argparse.Namespace) -> None:
    """Refuse output that would replace an input or another output, or whose ending is that of another format.

    Raises
    ------
    ValueError
        The message names the option.
    """
    given = {name: value for name in _OUTPUTS if isinstance(value := getattr(arguments, name, None), str)}
    outputs: dict[str, str | os.PathLike[str]] = {_OUTPUTS[name]: path for name, path in given.items()}
    if "output" in given and arguments.verb == "sweep":
        from rmapfast.sweeps import journal_path

        outputs["the journal"] = journal_path(given["output"])
    words = [word for name, value in vars(arguments).items() if name not in _OUTPUTS for word in _words(value)]
    check_apart(outputs, words)
    ending = _ENDINGS.get(arguments.verb)
    if ending and "output" in given and Path(given["output"]).suffix.lower() != ending:
        raise ValueError(f"-o: expected a file ending in {ending}, got {given['output']!r}")


def _words(value: object) -> Iterator[str]:
    """Yield what may be a path in the value of an argument: the whole, and the parts of NAME=FILE and FILE,FILE."""
    if isinstance(value, list | tuple):
        for one in value:
            yield from _words(one)
    elif isinstance(value, str | os.PathLike):
        text = os.fspath(value)
        yield text
        yield from re.split("[=,;]", text)
