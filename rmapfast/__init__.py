"""rmapfast simulates, PTE by PTE, how Linux unmaps large folios through the reverse map."""

from typing import TYPE_CHECKING, Any

from rmapfast import arch, cost, flags, policy, pte
from rmapfast._version import __version__
from rmapfast.arch import Arch
from rmapfast.calls import folio_pte_batch, folio_referenced_one, page_vma_mapped_walk, try_to_unmap_one
from rmapfast.cost import Cost, CostVector, Prediction
from rmapfast.events import EVENT_NAMES, Call, Events
from rmapfast.loop import madvise, reclaim
from rmapfast.policy import Policy
from rmapfast.population import Population
from rmapfast.result import Result
from rmapfast.rule import get_include
from rmapfast.spec import PopulationSpec
from rmapfast.swap import Swap
from rmapfast.unseen import assume_pages

if TYPE_CHECKING:
    from rmapfast import plot
    from rmapfast.calibration import CalibrateError, Calibration, calibrate
    from rmapfast.captures import Captured, CaptureError, capture
    from rmapfast.comparison import Comparison, compare
    from rmapfast.contents import describe
    from rmapfast.policy_report import PolicyReport, report
    from rmapfast.reference import YoungRule
    from rmapfast.saved import Difference, Rerun, load, rerun, save
    from rmapfast.sweeps import (
        Axis,
        Dimension,
        Effect,
        Prices,
        Ranking,
        Space,
        Sweep,
        SweepError,
        SweepMean,
        SweepPoint,
        sweep,
    )
    from rmapfast.verify import (
        CheckReport,
        ConformanceReport,
        PolicyCheck,
        RuleComparison,
        VectorError,
        Violation,
        check,
        compare_rules,
        conformance,
    )

# Imported when they are first asked for: with them, importing the package would take twice as long.
_ROOM_OF = {
    **dict.fromkeys(("CalibrateError", "Calibration", "calibrate"), "calibration"),
    **dict.fromkeys(("CaptureError", "Captured", "capture"), "captures"),
    **dict.fromkeys(("Comparison", "compare"), "comparison"),
    "describe": "contents",
    **dict.fromkeys(("PolicyReport", "report"), "policy_report"),
    "YoungRule": "reference",
    **dict.fromkeys(("Difference", "Rerun", "load", "rerun", "save"), "saved"),
    **dict.fromkeys(
        (
            "Axis",
            "Dimension",
            "Effect",
            "Prices",
            "Ranking",
            "Space",
            "Sweep",
            "SweepError",
            "SweepMean",
            "SweepPoint",
            "sweep",
        ),
        "sweeps",
    ),
    **dict.fromkeys(
        ("CheckReport", "ConformanceReport", "PolicyCheck", "RuleComparison", "VectorError", "Violation"),
        "verify",
    ),
    **dict.fromkeys(("check", "compare_rules", "conformance"), "verify"),
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "plot":
        return import_module("rmapfast.plot")
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'rmapfast' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"rmapfast.{_ROOM_OF[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOM_OF, "plot"})


__all__ = [
    "EVENT_NAMES",
    "Arch",
    "Axis",
    "CalibrateError",
    "Calibration",
    "Call",
    "CaptureError",
    "Captured",
    "CheckReport",
    "Comparison",
    "ConformanceReport",
    "Cost",
    "CostVector",
    "Difference",
    "Dimension",
    "Effect",
    "Events",
    "Policy",
    "PolicyCheck",
    "PolicyReport",
    "Population",
    "PopulationSpec",
    "Prediction",
    "Prices",
    "Ranking",
    "Rerun",
    "Result",
    "RuleComparison",
    "Space",
    "Swap",
    "Sweep",
    "SweepError",
    "SweepMean",
    "SweepPoint",
    "VectorError",
    "Violation",
    "YoungRule",
    "__version__",
    "arch",
    "assume_pages",
    "calibrate",
    "capture",
    "check",
    "compare",
    "compare_rules",
    "conformance",
    "cost",
    "describe",
    "flags",
    "folio_pte_batch",
    "folio_referenced_one",
    "get_include",
    "load",
    "madvise",
    "page_vma_mapped_walk",
    "plot",
    "policy",
    "pte",
    "reclaim",
    "report",
    "rerun",
    "save",
    "sweep",
    "try_to_unmap_one",
]
