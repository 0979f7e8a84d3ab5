"""Saved results: read and written, and run again."""

from rmapfast.saved.again import Difference, Rerun, differences, rerun
from rmapfast.saved.documents import json_text, load, save

__all__ = [
    "Difference",
    "Rerun",
    "differences",
    "json_text",
    "load",
    "rerun",
    "save",
]
