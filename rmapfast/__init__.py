"""rmapfast simulates, PTE by PTE, how Linux unmaps large folios through the reverse map."""

from rmapfast import arch, cost, policy, pte
from rmapfast._compare import Comparison, compare
from rmapfast._doors import folio_pte_batch, folio_referenced_one, page_vma_mapped_walk, try_to_unmap_one
from rmapfast._reclaim import Result, reclaim
from rmapfast._version import __version__
from rmapfast.arch import Arch
from rmapfast.events import EVENT_NAMES, Call, Events
from rmapfast.policy import Policy
from rmapfast.population import Population
from rmapfast.spec import PopulationSpec

# Imported when they are first asked for: with them, importing the package would take twice as long.
_LATER = {
    "Captured": "captures",
    "capture": "captures",
    "CaptureError": "captures",
    "CheckReport": "_check",
    "check": "_check",
    "VectorError": "_conformance",
    "conformance": "_conformance",
    "calibrate": "_calibrate",
    "load": "_saved",
    "rerun": "_rerun",
    "save": "_saved",
    "Sweep": "_sweep",
    "SweepError": "_executors",
    "sweep": "_sweep",
}


def __getattr__(name):
    if name not in _LATER:
        raise AttributeError(f"module 'rmapfast' has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(f"rmapfast.{_LATER[name]}"), name)
    return found


def __dir__():
    return sorted({*globals(), *_LATER})


__all__ = [
    "EVENT_NAMES",
    "Arch",
    "Call",
    "CaptureError",
    "Captured",
    "CheckReport",
    "Comparison",
    "Events",
    "Policy",
    "Population",
    "PopulationSpec",
    "Result",
    "Sweep",
    "SweepError",
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
    "rerun",
    "save",
    "sweep",
    "try_to_unmap_one",
]
