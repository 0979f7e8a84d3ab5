"""Work in pieces: a pool that runs tasks wherever the user says, and a journal of what is finished."""

from rmapfast.parallel.journal import Journal
from rmapfast.parallel.pool import EXECUTORS, Pool, Stopped, check_stop, opened

__all__ = [
    "EXECUTORS",
    "Journal",
    "Pool",
    "Stopped",
    "check_stop",
    "opened",
]
