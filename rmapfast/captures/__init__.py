"""Captures of processes: reading live ones, reading and writing their files, and making populations of them."""

from rmapfast.captures.assumptions import Assumptions
from rmapfast.captures.format import Capture, CaptureError
from rmapfast.captures.process import Captured, capture, capture_of_ranges
from rmapfast.captures.reconstruct import population_arrays

__all__ = [
    "Assumptions",
    "Capture",
    "CaptureError",
    "Captured",
    "capture",
    "capture_of_ranges",
    "population_arrays",
]
