"""Is the model right? Recorded vectors, captures and counts of real kernels, and the checker of small states."""

from rmapfast.verify.cases import INVARIANTS, capture_cases, judge, load_case, random_cases, unmap_case
from rmapfast.verify.checker import CheckReport, PolicyCheck, Violation, check, check_cases, known
from rmapfast.verify.counts import Count, count_lines, replay_counts
from rmapfast.verify.drawing import case_drawing
from rmapfast.verify.live import CaptureCase, capture_lines, replay_captures
from rmapfast.verify.table import check_drawings, check_table
from rmapfast.verify.vectors import ENGINES, VectorError, conformance

__all__ = [
    "ENGINES",
    "INVARIANTS",
    "CaptureCase",
    "CheckReport",
    "Count",
    "PolicyCheck",
    "VectorError",
    "Violation",
    "capture_cases",
    "capture_lines",
    "case_drawing",
    "check",
    "check_cases",
    "check_drawings",
    "check_table",
    "conformance",
    "count_lines",
    "judge",
    "known",
    "load_case",
    "random_cases",
    "replay_captures",
    "replay_counts",
    "unmap_case",
]
