"""rmapfast simulates, PTE by PTE, how Linux unmaps large folios through the reverse map."""

from rmapfast import arch, policy, pte
from rmapfast._check import CheckReport, check
from rmapfast._compare import Comparison, compare
from rmapfast._conformance import VectorError, conformance
from rmapfast._doors import folio_pte_batch, folio_referenced_one, page_vma_mapped_walk, try_to_unmap_one
from rmapfast._reclaim import Result, reclaim
from rmapfast._saved import load, save
from rmapfast._version import __version__
from rmapfast.arch import Arch
from rmapfast.events import EVENT_NAMES, Call, Events
from rmapfast.policy import Policy
from rmapfast.population import Population

__all__ = [
    "EVENT_NAMES",
    "Arch",
    "Call",
    "CheckReport",
    "Comparison",
    "Events",
    "Policy",
    "Population",
    "Result",
    "VectorError",
    "__version__",
    "arch",
    "check",
    "compare",
    "conformance",
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
