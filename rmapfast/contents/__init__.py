"""What a population holds, and how much of it an unmap could batch."""

from rmapfast.contents.description import (
    MAP_WIDTH,
    POLICIES,
    VMA_FLAGS,
    describe,
    folio_mappings,
    mapped_entries,
    memory_map,
    vma_names,
)
from rmapfast.contents.table import description_table

__all__ = [
    "MAP_WIDTH",
    "POLICIES",
    "VMA_FLAGS",
    "describe",
    "description_table",
    "folio_mappings",
    "mapped_entries",
    "memory_map",
    "vma_names",
]
