"""Which sweep a journal or an output is of: what must be equal for a sweep to go on with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rmapfast._version import __version__
from rmapfast.parallel import Journal
from rmapfast.support import JsonObject
from rmapfast.sweeps.points import Record, checked_record

# What the error says where a sweep cannot be resumed from a file.
ADVICE = "--overwrite begins anew"


def header(space: Mapping[str, Any], inputs: Mapping[str, str]) -> dict[str, Any]:
    """Return what must be equal for a sweep to be resumed.

    Parameters
    ----------
    space : mapping
        :meth:`Space.to_dict`.
    inputs : mapping of str to str
        :attr:`Space.inputs`.
    """
    return {"sweep": 1, "rmapfast": __version__, "space": space, "inputs": inputs}


def differs(found: Any, wanted: Mapping[str, Any]) -> str:
    """Return in words what a header differs in from the one of this sweep, or an empty text.

    Raises
    ------
    ValueError
        If it is no header of a sweep.
    """
    if not isinstance(found, dict) or found.get("sweep") != wanted["sweep"]:
        raise ValueError("its first line is no header")
    if found.get("rmapfast") != wanted["rmapfast"]:
        return f"it was made by rmapfast {found.get('rmapfast')}, this is {wanted['rmapfast']}"
    if found.get("space") != wanted["space"]:
        space = found.get("space") or {}
        keys = dict.fromkeys([*space, *wanted["space"]])
        differing = [key for key in keys if space.get(key) != wanted["space"].get(key)]
        return f"it was made of another space: {', '.join(differing) or 'its axes'} differ"
    if found.get("inputs") != wanted["inputs"]:
        changed = [name for name in wanted["inputs"] if found["inputs"].get(name) != wanted["inputs"][name]]
        return f"it was made of other inputs: {', '.join(changed)} changed since"
    return ""


def journal_path(output: str | os.PathLike[str]) -> Path:
    """Return where the journal of a sweep lies: beside its output, whose symbolic links are followed."""
    return Path(f"{os.path.realpath(output)}.journal")


def journal_of(output: str | os.PathLike[str], wanted: Mapping[str, Any]) -> Journal[tuple[str, Record]]:
    """Return the journal of the sweep with that header and output, a line per point."""
    return Journal(
        journal_path(output),
        "sweep",
        advice=ADVICE,
        differs=lambda found: differs(found, wanted),
        parse=_record,
    )


def _record(line: Any) -> tuple[str, Record]:
    """Return the key and the record of a line of the journal."""
    entry = JsonObject.of(line, "")
    return entry.text("key"), checked_record(entry.object("record"))
