"""A process as it was read: VMAs and the runs of its pagemap, kpageflags and kpagecount."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rmapfast.captures.format import FORMAT, RunLengths, encode, runs
from rmapfast.editions import series_of


@dataclass
class Vma:
    """A VMA as maps and smaps show it.

    Parameters
    ----------
    start, end : int
        Bytes; the end is exclusive.
    pgoff : int
        Page offset of the first page.
    device : str
        Device of the file, ``major:minor``.
    inode : int
        0 for anonymous memory.
    perms, name : str
        As in ``/proc/PID/maps``; of a path the last component.
    flags : str
        VmFlags of smaps.
    smaps_kb : dict of str to int
        The sizes of smaps that are not 0, in kB.
    huge_unknown : int
        kB that PMDs map somewhere in the VMA, if the kernel does not say where.
    """

    start: int
    end: int
    pgoff: int
    device: str
    inode: int
    perms: str
    name: str
    flags: str = ""
    smaps_kb: dict[str, int] = field(default_factory=dict)
    huge_unknown: int = 0


# What says whether the running kernel keeps its folios in generations; its lowest bit is set then.
LRU_GEN_ENABLED = Path("/sys/kernel/mm/lru_gen/enabled")


def running_lru() -> str | None:
    """Return which LRU the running kernel has, ``classic`` or ``mglru``; None if that cannot be read."""
    try:
        return "mglru" if int(LRU_GEN_ENABLED.read_text(), 16) & 1 else "classic"
    except FileNotFoundError:  # it was built without the other one
        return "classic" if LRU_GEN_ENABLED.parent.parent.is_dir() else None
    except (OSError, ValueError):
        return None


class Region(NamedTuple):
    """A range of addresses in bytes; the end is exclusive."""

    start: int
    end: int


class RunEncoder:
    """Entries that are appended chunk by chunk and kept as runs.

    Parameters
    ----------
    counts_up : bool
        As in :func:`rmapfast.captures.format.runs`.
    """

    def __init__(self, counts_up: bool) -> None:
        self.counts_up = counts_up
        self.chunks: list[RunLengths] = []

    def add(self, entries: npt.NDArray[np.uint64], nr: int | None = None) -> None:
        """Append entries; a single entry may stand for `nr` equal ones."""
        length, first = runs(entries, self.counts_up)
        if len(entries) == 1 and nr is not None:
            length = np.array([nr])
        self.chunks.append(RunLengths(length, first))

    def joined(self, from_chunk: int = 0) -> RunLengths:
        """Return the runs of all chunks, or of those from a chunk on."""
        chunks = self.chunks[from_chunk:]
        if not chunks:
            return RunLengths(np.empty(0, np.int64), np.empty(0, np.uint64))
        return RunLengths(
            np.concatenate([chunk.length for chunk in chunks]), np.concatenate([chunk.first for chunk in chunks])
        )


@dataclass
class Image:
    """One process as it was read. It is small, as it holds runs.

    Parameters
    ----------
    vmas : list of Vma
    huge : list of Region
        Ranges that PMDs map.
    pm, kf, kc : RunLengths
        As in :class:`rmapfast.captures.Capture`.
    page_shift : int
        log2 of the page size in bytes.
    seconds : float
        Time that reading took.
    anonymised : bool
        Whether numbers that identify the process were renumbered and names dropped.
    """

    vmas: list[Vma]
    huge: list[Region]
    pm: RunLengths
    kf: RunLengths
    kc: RunLengths
    page_shift: int
    seconds: float
    anonymised: bool = False

    @property
    def pages(self) -> int:
        """Pages of all VMAs."""
        return int(self.pm.length.sum())

    @property
    def present(self) -> int:
        """Present pages."""
        return int(self.kf.length.sum())

    def encode(self) -> bytes:
        """Return the bytes of its file."""
        meta: dict[str, Any] = {
            "format": FORMAT,
            "kernel": series_of(platform.release()) if self.anonymised else platform.release(),
            "machine": platform.machine(),
            "lru": running_lru(),
            "page_shift": self.page_shift,
            "npages": self.pages,
            "npresent": self.present,
            "capture_ns": 0 if self.anonymised else int(self.seconds * 1e9),
            "anonymised": self.anonymised,
            "huge_unknown_kb": sum(vma.huge_unknown for vma in self.vmas),
            "vma_text": [
                {"perms": vma.perms, "name": vma.name, "flags": vma.flags, "smaps_kb": vma.smaps_kb}
                for vma in self.vmas
            ],
        }
        return encode(
            meta,
            vma={name: [getattr(vma, name) for vma in self.vmas] for name in ("start", "end", "pgoff", "inode")},
            huge=self.huge,
            pm=self.pm,
            kf=self.kf,
            kc=self.kc,
        )
