"""What a population holds: a description, also of how much an unmap could batch, its table, and a map of the memory."""

from rmapfast.contents.description import POLICIES, describe
from rmapfast.contents.memory import Detail, DetailRow, DetailRun, MemoryMap, Strip, memory_map, vma_names
from rmapfast.contents.table import description_table

__all__ = [
    "POLICIES",
    "Detail",
    "DetailRow",
    "DetailRun",
    "MemoryMap",
    "Strip",
    "describe",
    "description_table",
    "memory_map",
    "vma_names",
]
