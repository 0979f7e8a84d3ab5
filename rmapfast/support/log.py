"""What is worth knowing of a run, for :mod:`logging` under ``rmapfast``; it is printed if a user asks for it."""

from __future__ import annotations

import sys


def listening() -> bool:
    """Return whether a message of the level INFO would be taken, before work is done to make one.

    A program that never imported :mod:`logging` set up no handler, so it is not imported here.
    """
    logging = sys.modules.get("logging")
    return logging is not None and logging.getLogger("rmapfast").isEnabledFor(logging.INFO)


def info(room: str, message: str, *values: object) -> None:
    """Log a message of the level INFO.

    Parameters
    ----------
    room : str
        The logger is ``rmapfast.ROOM``.
    message : str
        With ``%s`` for each of the values.
    *values
    """
    if listening():
        sys.modules["logging"].getLogger("rmapfast").getChild(room).info(message, *values)
