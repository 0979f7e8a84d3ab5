"""rmapfast simulates, PTE by PTE, how Linux unmaps large folios through the reverse map."""

from rmapfast import arch, cost, policy, pte
from rmapfast._capture import Captured, capture
from rmapfast._check import CheckReport, check
from rmapfast._compare import Comparison, compare
from rmapfast._conformance import VectorError, conformance
from rmapfast._doors import folio_pte_batch, folio_referenced_one, page_vma_mapped_walk, try_to_unmap_one
from rmapfast._reclaim import Result, reclaim
from rmapfast._rle3 import CaptureError
from rmapfast._saved import load, save
from rmapfast._version import __version__
from rmapfast.arch import Arch
from rmapfast.description import Description
from rmapfast.events import EVENT_NAMES, Call, Events
from rmapfast.policy import Policy
from rmapfast.population import Population


def __getattr__(name):
    # calibrate() brings in modules that nobody else needs
    if name == "calibrate":
        from rmapfast._calibrate import calibrate

        return calibrate
    raise AttributeError(f"module 'rmapfast' has no attribute {name!r}")


__all__ = [
    "EVENT_NAMES",
    "Arch",
    "Call",
    "CaptureError",
    "Captured",
    "CheckReport",
    "Comparison",
    "Description",
    "Events",
    "Policy",
    "Population",
    "Result",
    "VectorError",
    "__version__",
    "arch",
    "calibrate",
    "capture",
    "check",
    "compare",
    "conformance",
    "cost",
    "folio_pte_batch",
    "folio_referenced_one",
    "load",
    "page_vma_mapped_walk",
    "policy",
    "pte",
    "reclaim",
    "save",
    "try_to_unmap_one",
]
