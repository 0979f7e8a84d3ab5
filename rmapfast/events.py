"""The events that a run counts, and the result of a single call.

docs/model.md, section 4, defines each event. ``csrc/events.def`` is the one table of their names, texts and components;
to add one, follow its head. :data:`EVENT_NAMES` is their order in every array of counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

import rmapfast._core as _core
from rmapfast.support import closest

EVENT_NAMES: tuple[str, ...] = _core.EVENT_NAMES

# What each event counts, in a line; `rmapfast list event` prints them.
DESCRIPTIONS = {name: text for name, text, _, _ in _core.EVENTS}

# The events whose cost belongs to a component of a price; `rmapfast list component` prints them. What a reference check
# counted belongs to the component REFERENCE_CHECK instead, whatever the event.
COMPONENTS = {
    component: tuple(name for name, _, part, _ in _core.EVENTS if part == component) for component in _core.COMPONENTS
}
REFERENCE_CHECK = "reference check"

# The events that folio_referenced_one() may count.
IN_REFERENCE_CHECK = frozenset(name for name, _, _, may in _core.EVENTS if may)


class Events(Mapping[str, int]):
    """Counts by event name.

    Parameters
    ----------
    counts : array_like of uint64, shape (len(EVENT_NAMES),)
        In the order of :data:`EVENT_NAMES`.

    Examples
    --------
    >>> import rmapfast as rf
    >>> events = rf.reclaim(rf.Population.synthetic("1MiB", orders=4), "512KiB").events
    >>> events["batches"], events["ptes_cleared"], len(events) == len(rf.EVENT_NAMES)
    (9, 144, True)
    """

    def __init__(self, counts: npt.ArrayLike):
        self.counts: npt.NDArray[np.uint64] = np.ascontiguousarray(counts, np.uint64)
        if self.counts.shape != (len(EVENT_NAMES),):
            raise ValueError(f"counts: expected {len(EVENT_NAMES)} of them, got shape {self.counts.shape}")

    def __getitem__(self, name: str) -> int:
        try:
            return int(self.counts[EVENT_NAMES.index(name)])
        except ValueError:
            raise KeyError(f"no event {name!r}{closest(name, EVENT_NAMES)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(EVENT_NAMES)

    def __len__(self) -> int:
        return len(EVENT_NAMES)

    def __repr__(self) -> str:
        counted = ", ".join(f"{name}={count}" for name, count in self.items() if count)
        return f"Events({counted})"


@dataclass(frozen=True)
class Call:
    """What one call of a kernel function on a population did; the population itself was changed in place.

    Parameters
    ----------
    ret : bool
        What the kernel function returns; of a walk, whether it found an entry.
    events : Mapping of str to int
        Count of every event of :data:`EVENT_NAMES`.
    batch_lengths : dict of int to int
        How many unmap steps cleared that many entries.
    trace : list of tuple (str, int, int)
        What was done, in order, as ``(what, vpn, nr)``: ``step``, ``step_nonpresent``, ``tlb_deferred``,
        ``tlb_immediate`` and ``young``, and ``yield`` with nr 0. In two the numbers mean something else:
        ``("notifier", start, end)`` are virtual page numbers, ``("beyond", page, mapcount)`` is a page index past the
        folio's end and its new mapcount.
    writable : bool
        Whether a PTE whose flush was deferred was dirty.
    mapped_stat : int
        Change of the mapped-pages statistic, in pages (docs/model.md, section 5).
    mapcount_left, referenced, vm_flags : int
        Of a reference check: mappings not seen, VMAs that referenced the folio, their flags
        (:class:`rmapfast.flags.VmaFlag` bits).

    Examples
    --------
    >>> import rmapfast as rf
    >>> call = rf.try_to_unmap_one(rf.Population.synthetic("64KiB", orders=4), 0, 0, policy="per-page")
    >>> call.ret, call.batch_lengths, call.events["ptes_cleared"]
    (True, {1: 16}, 16)
    """

    ret: bool
    events: Mapping[str, int]
    batch_lengths: dict[int, int]
    trace: list[tuple[str, int, int]] = field(repr=False)
    writable: bool = False
    mapped_stat: int = 0
    mapcount_left: int = 0
    referenced: int = 0
    vm_flags: int = 0
