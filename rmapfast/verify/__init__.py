"""Is the model right? Recorded vectors, captures and counts of real kernels, and the checker of small states."""

from rmapfast.verify.cases import Case, VectorError, load_case
from rmapfast.verify.checker import check, check_cases, history_of
from rmapfast.verify.counts import Count, count_lines, replay_counts, verdict
from rmapfast.verify.coverage import Coverage
from rmapfast.verify.drawing import case_drawing
from rmapfast.verify.generation import capture_cases, random_cases, rule_cases
from rmapfast.verify.invariants import INVARIANTS, UnmapOutcome, judge, unmap_case
from rmapfast.verify.live import CaptureCase, capture_lines, replay_captures
from rmapfast.verify.recorded import RecordedCase, directory_lines, replay_directory, replay_recorded
from rmapfast.verify.report import DOCUMENTED, CheckReport, PolicyCheck, Violation, check_drawings, check_table
from rmapfast.verify.same_rule import RuleComparison, RuleDifference, compare_rules
from rmapfast.verify.sequences import Sequence, replay_sequences, sequence_lines
from rmapfast.verify.split_check import SPLIT_FIELDS
from rmapfast.verify.split_judge import SPLIT_INVARIANTS, SplitOutcome, judge_split
from rmapfast.verify.split_states import SplitState, split_population
from rmapfast.verify.vectors import ENGINES, ConformanceReport, conformance
from rmapfast.verify.young_judge import YOUNG_INVARIANTS, YoungOutcome, judge_young
from rmapfast.verify.young_states import YoungState, young_population

__all__ = [
    "DOCUMENTED",
    "ENGINES",
    "INVARIANTS",
    "SPLIT_FIELDS",
    "SPLIT_INVARIANTS",
    "YOUNG_INVARIANTS",
    "CaptureCase",
    "Case",
    "CheckReport",
    "ConformanceReport",
    "Count",
    "Coverage",
    "PolicyCheck",
    "RecordedCase",
    "RuleComparison",
    "RuleDifference",
    "Sequence",
    "SplitOutcome",
    "SplitState",
    "UnmapOutcome",
    "VectorError",
    "Violation",
    "YoungOutcome",
    "YoungState",
    "capture_cases",
    "capture_lines",
    "case_drawing",
    "check",
    "check_cases",
    "check_drawings",
    "check_table",
    "compare_rules",
    "conformance",
    "count_lines",
    "directory_lines",
    "history_of",
    "judge",
    "judge_split",
    "judge_young",
    "load_case",
    "random_cases",
    "replay_captures",
    "replay_counts",
    "replay_directory",
    "replay_recorded",
    "replay_sequences",
    "rule_cases",
    "sequence_lines",
    "split_population",
    "unmap_case",
    "verdict",
    "young_population",
]
