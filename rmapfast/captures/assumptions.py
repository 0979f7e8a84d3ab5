"""What is assumed of a captured process where user space cannot see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rmapfast.arch import Arch
from rmapfast.layout import MAX_ORDER
from rmapfast.support import checked_integer, checked_seed


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What is assumed of captured processes where user space cannot see it.

    Parameters
    ----------
    young : bool or float
        Whether present PTEs are young, or the fraction that is.
    dirty : {'auto'} or bool
        ``auto``: writable PTEs of swapbacked anonymous folios and of dirty folios are dirty (MADV_FREE cleaned the
        others). True: all writable PTEs are.
    write : {'perms'} or bool
        ``perms``: a PTE is writable if its VMA is and it maps an exclusive anonymous page, or a dirty folio in a shared
        VMA. True: all PTEs of writable VMAs are. A uffd-wp PTE is never writable.
    soft_dirty : {'ignore', 'capture'}
        Whether bit 55 of pagemap counts. It means nothing on a kernel without soft-dirty tracking.
    uffd_wp : {'capture', 'ignore'}
        Whether uffd-wp bits, markers and VMA flags count.
    lru : {'address', 'shuffled'}
        Order of the LRU lists: by the first page that maps the folio, captures in the given order; or a seeded
        permutation.
    seed : int, or what :func:`numpy.random.default_rng` takes
        For ``young`` as a fraction, and for ``lru='shuffled'``.
    cont : bool
        Set CONT in the contpte blocks that the kernel would fold (arm64).
    folio_order : int, optional
        Smallest order of a folio of which a head or tail page is seen. A capture shows the pages that are mapped; a
        folio of which only some are may be larger than they show.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong type or out of range; the message names it.
    """

    young: bool | float = True
    dirty: str | bool = "auto"
    write: str | bool = "perms"
    soft_dirty: str = "ignore"
    uffd_wp: str = "capture"
    lru: str = "address"
    seed: int = 0
    cont: bool = True
    folio_order: int | None = None

    def __post_init__(self) -> None:
        """Check every argument."""
        object.__setattr__(self, "seed", checked_seed("seed", self.seed))
        _check("young", self.young, (), (int, float), "a number")
        if not 0 <= self.young <= 1:
            raise ValueError(f"young: expected True, False or a rate from 0 to 1, got {self.young!r}")
        _check("dirty", self.dirty, ("auto",), (bool, np.bool_), "True", "False")
        _check("write", self.write, ("perms",), (bool, np.bool_), "True", "False")
        _check("soft_dirty", self.soft_dirty, ("ignore", "capture"))
        _check("uffd_wp", self.uffd_wp, ("capture", "ignore"))
        _check("lru", self.lru, ("address", "shuffled"))
        _check("cont", self.cont, (), (bool, np.bool_), "True", "False")
        if self.folio_order is not None:
            checked_integer("folio_order", self.folio_order, 0, MAX_ORDER)

    @property
    def young_of_all(self) -> bool | None:
        """Whether all PTEs are young (True) or none is (False); None if a fraction is."""
        return bool(self.young) if self.young in (0, 1) else None

    def describe(self, arch: Arch) -> dict[str, str]:
        """Return the assumptions as text by name, for :attr:`rmapfast.Population.assumptions`."""
        return {
            "arch": arch.name,
            "young": f"{self.young}, pagemap does not show it",
            "write": f"{self.write}, pagemap does not show it",
            "dirty": f"{self.dirty}, pagemap does not show it",
            "soft_dirty": self.soft_dirty,
            "uffd_wp": self.uffd_wp,
            "lru": f"{self.lru} order; active and unevictable as in kpageflags; unmapped page cache is not there",
            "references": "mappings and page or swap cache, no others",
            "seed": str(self.seed),
            **({} if self.folio_order is None else {"folio_order": f"{self.folio_order} at least, where in doubt"}),
        }


def _check(name: str, value: Any, words: tuple[str, ...], types: tuple[type, ...] = (), *others: str) -> None:
    """Raise ValueError or TypeError unless the value is one of the words or of one of the types."""
    expected = " or ".join([*map(repr, words), *others])
    if isinstance(value, str):
        if value not in words:
            raise ValueError(f"{name}: expected {expected}, got {value!r}")
    elif not isinstance(value, types):
        raise TypeError(f"{name}: expected {expected}, got {value!r}")
