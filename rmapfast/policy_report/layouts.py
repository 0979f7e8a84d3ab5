"""The memory that a policy is compared on: kinds of folios, folio orders, and how they lie in their mapping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rmapfast.arch import Arch
from rmapfast.population import Population
from rmapfast.spec import PopulationSpec

ORDERS = (0, 2, 4, 6, 9)
KINDS = ("file", "anon", "lazyfree", "shmem")
# The order and the layout of the run that is shown in detail, and of the runs that find the kinds that matter.
MAIN_ORDER = 4
MAIN_LAYOUT = "plain"


@dataclass(frozen=True)
class Layout:
    """How folios lie in their mapping.

    Parameters
    ----------
    text : str
        What a reader is told.
    arguments : mapping
        Those of :class:`rmapfast.PopulationSpec`.
    anon : mapping, optional
        Those for anonymous folios, where they are others.
    """

    text: str
    arguments: Mapping[str, Any]
    anon: Mapping[str, Any] | None = field(default=None)


LAYOUTS = {
    MAIN_LAYOUT: Layout("every page mapped once, aligned", {}),
    "holes": Layout("5% of the entries are zapped, at random", {"holes": 0.05}),
    "COW": Layout(
        "file and shmem: every 16th page was copied, which is a hole for its folio; anonymous: after a fork, so that "
        "parent and child map each page, and none is exclusive or writable",
        {"holes": "every:16"},
        {"sharing": 2},
    ),
    "misaligned": Layout("the mapping is shifted by 5 pages against natural alignment", {"phase": 5}),
    "shared": Layout("four processes map each page", {"sharing": 4}),
    "uffd-wp": Layout("a userfaultfd write-protect VMA with 10% of the entries protected", {"uffd_wp": 0.1}),
}
# Right after MADV_FREE no page is young.
_OF_KIND: dict[str, dict[str, Any]] = {"lazyfree": {"young": 0.0}}


def memory(size: int | str, kind: str, order: int, layout: str, arch: Arch, seed: int) -> PopulationSpec:
    """Return the description of the memory of a run."""
    chosen = LAYOUTS[layout]
    arguments = chosen.anon if chosen.anon is not None and kind in ("anon", "lazyfree") else chosen.arguments
    return Population.described(
        size, arch=arch, kind=kind, orders=order, seed=seed, **_OF_KIND.get(kind, {}), **arguments
    )
