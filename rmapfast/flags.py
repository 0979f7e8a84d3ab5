"""Flags of folios, VMAs, page tables, pages and mms, as the arrays of a population hold them.

docs/model.md, section 2, says what each flag means. The values are those of ``csrc/population.h``.

Examples
--------
>>> import numpy as np
>>> from rmapfast.flags import FOLIO_KINDS, FolioFlag, folio_kind
>>> folio_flags = np.array([0, FolioFlag.ANON | FolioFlag.SWAPBACKED], np.uint32)
>>> [FOLIO_KINDS[kind] for kind in folio_kind(folio_flags)]
['file', 'anon']
>>> folio_flags[0] |= FolioFlag.DIRTY
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Any

import numpy as np
import numpy.typing as npt

import rmapfast._core as _core


class _PlainInArrays:
    """Lets NumPy take an enumerated value for a plain Python int, so that arrays keep their dtype.

    Without it ``population.folio_flags |= FolioFlag.DIRTY`` would fail, as NumPy takes a subclass of int for int64.
    """

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """Call the function again with plain ints."""
        plain = (int(one) if isinstance(one, _PlainInArrays) and isinstance(one, int) else one for one in inputs)
        return getattr(ufunc, method)(*plain, **options)


class FolioFlag(_PlainInArrays, IntFlag):
    """A bit of ``Population.folio_flags``.

    Examples
    --------
    >>> import rmapfast as rf
    >>> population = rf.Population.synthetic("1MiB", orders=0, kind="anon")
    >>> bool((population.folio_flags & rf.flags.FolioFlag.ANON).all())
    True
    """

    ANON = _core.FOLIO_ANON
    SWAPBACKED = _core.FOLIO_SWAPBACKED
    SWAPCACHE = _core.FOLIO_SWAPCACHE
    DIRTY = _core.FOLIO_DIRTY
    MLOCKED = _core.FOLIO_MLOCKED
    REFERENCED = _core.FOLIO_REFERENCED
    ACTIVE = _core.FOLIO_ACTIVE
    PINNED = _core.FOLIO_PINNED
    UNEVICTABLE = _core.FOLIO_UNEVICTABLE
    YOUNG = _core.FOLIO_YOUNG
    PARTIALLY_MAPPED = _core.FOLIO_PARTIALLY_MAPPED
    LOCKED = _core.FOLIO_LOCKED
    EXCLUSIVE = _core.FOLIO_EXCLUSIVE
    PAGE_MAPCOUNTS = _core.FOLIO_PAGE_MAPCOUNTS
    PAGE_FLAGS = _core.FOLIO_PAGE_FLAGS
    FREED = _core.FOLIO_FREED
    MAYBE_SHARED = _core.FOLIO_MAYBE_SHARED
    WORKINGSET = _core.FOLIO_WORKINGSET


class VmaFlag(_PlainInArrays, IntFlag):
    """A bit of ``Population.vma_flags``.

    Examples
    --------
    >>> import rmapfast as rf
    >>> population = rf.Population.synthetic("1MiB", exec=True)
    >>> bool(population.vma_flags[0] & rf.flags.VmaFlag.EXEC)
    True
    """

    LOCKED = _core.VMA_LOCKED
    UFFD_WP = _core.VMA_UFFD_WP
    UFFD_ARMED = _core.VMA_UFFD_ARMED
    DROPPABLE = _core.VMA_DROPPABLE
    EXEC = _core.VMA_EXEC
    SHARED = _core.VMA_SHARED
    ANON = _core.VMA_ANON


class TableState(_PlainInArrays, IntEnum):
    """A value of ``Population.table_state``.

    Examples
    --------
    >>> import rmapfast as rf
    >>> population = rf.Population.synthetic("4MiB")
    >>> bool((population.table_state == rf.flags.TableState.PTE).all())
    True
    """

    PTE = _core.TABLE_PTE
    ABSENT = _core.TABLE_ABSENT
    PMD_LEAF = _core.TABLE_PMD_LEAF


class PageFlag(_PlainInArrays, IntFlag):
    """A bit of ``Population.page_flags``.

    Examples
    --------
    >>> import rmapfast as rf
    >>> rf.flags.PageFlag(1).name
    'EXCLUSIVE'
    """

    EXCLUSIVE = _core.PAGE_EXCLUSIVE
    HWPOISON = _core.PAGE_HWPOISON
    SWAP_DUP_FAIL = _core.PAGE_SWAP_DUP_FAIL
    ZERO = _core.PAGE_ZERO


class MmFlag(_PlainInArrays, IntFlag):
    """A bit of ``Population.mm_flags``.

    Examples
    --------
    >>> import rmapfast as rf
    >>> population = rf.Population.synthetic("1MiB", sharing=2)
    >>> population.mm_flags[1] |= rf.flags.MmFlag.OUTSIDE_MEMCG
    """

    OUTSIDE_MEMCG = _core.MM_OUTSIDE_MEMCG


# In the order of the numbers that folio_kind() returns.
FOLIO_KINDS = ("file", "shmem", "anon", "lazyfree")
_KIND_OF = np.array([0, 3, 1, 2], np.int8)  # by ANON and SWAPBACKED, the two lowest bits


def folio_kind(folio_flags: npt.ArrayLike) -> npt.NDArray[np.int8]:
    """Return the kind of folios, as indices into :data:`FOLIO_KINDS`.

    A folio is ``anon`` if it is anonymous and swapbacked, ``lazyfree`` if it is anonymous alone, ``shmem`` if it is
    swapbacked alone, and ``file`` otherwise.

    Parameters
    ----------
    folio_flags : int or array of int, any shape
        :class:`FolioFlag` bits.

    Returns
    -------
    ndarray of int8, of the shape of `folio_flags`
        Of shape ``()`` for a single number.

    Examples
    --------
    >>> import rmapfast as rf
    >>> population = rf.Population.synthetic("1MiB", kind="anon")
    >>> rf.flags.FOLIO_KINDS[rf.flags.folio_kind(population.folio_flags)[0]]
    'anon'
    """
    flags: npt.NDArray[Any] = np.asarray(folio_flags)
    both = flags & flags.dtype.type(FolioFlag.ANON | FolioFlag.SWAPBACKED)
    return np.asarray(_KIND_OF[both])


def folio_generation(folio_flags: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
    """Return the generation of folios as MGLRU stores it.

    Parameters
    ----------
    folio_flags : ndarray of uint32, any shape
        ``Population.folio_flags``.

    Returns
    -------
    ndarray of uint8, of the same shape
        1 + the sequence number modulo 4; 0 for a folio on no list of MGLRU's.

    Examples
    --------
    >>> import rmapfast as rf
    >>> flags = rf.flags.with_generation(rf.Population.synthetic("64KiB", orders=2).folio_flags, 3)
    >>> rf.flags.folio_generation(flags).tolist()
    [3, 3, 3, 3]
    """
    return (folio_flags >> np.uint32(_core.FOLIO_GEN_SHIFT) & np.uint32(_core.FOLIO_GEN_MASK)).astype(np.uint8)


def folio_accesses(folio_flags: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
    """Return how often MGLRU saw folios accessed after the first time, 0 to 3.

    Parameters
    ----------
    folio_flags : ndarray of uint32, any shape
        ``Population.folio_flags``.

    Returns
    -------
    ndarray of uint8, of the same shape

    Examples
    --------
    >>> import rmapfast as rf
    >>> rf.flags.folio_accesses(rf.Population.synthetic("64KiB", orders=2).folio_flags).tolist()
    [0, 0, 0, 0]
    """
    return (folio_flags >> np.uint32(_core.FOLIO_REFS_SHIFT) & np.uint32(_core.FOLIO_REFS_MASK)).astype(np.uint8)


def with_generation(folio_flags: npt.NDArray[np.uint32], generation: npt.ArrayLike) -> npt.NDArray[np.uint32]:
    """Return folio flags with another generation (see :func:`folio_generation`).

    Examples
    --------
    >>> import rmapfast as rf
    >>> population = rf.Population.synthetic("64KiB", orders=2)
    >>> population.folio_flags[:] = rf.flags.with_generation(population.folio_flags, 2)
    """
    return _with_field(folio_flags, generation, _core.FOLIO_GEN_SHIFT, _core.FOLIO_GEN_MASK)


def with_accesses(folio_flags: npt.NDArray[np.uint32], accesses: npt.ArrayLike) -> npt.NDArray[np.uint32]:
    """Return folio flags with another number of accesses (see :func:`folio_accesses`).

    Examples
    --------
    >>> import rmapfast as rf
    >>> flags = rf.flags.with_accesses(rf.Population.synthetic("64KiB", orders=2).folio_flags, 1)
    >>> rf.flags.folio_accesses(flags).tolist()
    [1, 1, 1, 1]
    """
    return _with_field(folio_flags, accesses, _core.FOLIO_REFS_SHIFT, _core.FOLIO_REFS_MASK)


def _with_field(flags: npt.NDArray[np.uint32], value: npt.ArrayLike, shift: int, mask: int) -> npt.NDArray[np.uint32]:
    return flags & ~np.uint32(mask << shift) | np.asarray(value).astype(np.uint32) << np.uint32(shift)
