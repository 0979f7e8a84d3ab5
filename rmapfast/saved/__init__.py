"""Saved results: read and written, compared, and run again."""

from rmapfast.saved.again import Rerun, rerun
from rmapfast.saved.differences import Difference, differences, differences_table
from rmapfast.saved.documents import json_text, load, save

__all__ = [
    "Difference",
    "Rerun",
    "differences",
    "differences_table",
    "json_text",
    "load",
    "rerun",
    "save",
]
