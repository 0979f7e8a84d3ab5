"""Captures of processes: read live ones, write and read their files, and turn them into the arrays of a population."""

from rmapfast.captures.format import Capture, CaptureError
from rmapfast.captures.process import Captured, capture, capture_of_ranges
from rmapfast.captures.reconstruct import population_arrays

__all__ = ["Capture", "CaptureError", "Captured", "capture", "capture_of_ranges", "population_arrays"]
