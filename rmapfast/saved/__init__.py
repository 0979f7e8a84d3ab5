"""Saved results: read and written, compared, and run again."""

from rmapfast.saved.again import Rerun, rerun
from rmapfast.saved.changed import Difference, differences, differences_table
from rmapfast.saved.documents import load, save

__all__ = [
    "Difference",
    "Rerun",
    "differences",
    "differences_table",
    "load",
    "rerun",
    "save",
]
