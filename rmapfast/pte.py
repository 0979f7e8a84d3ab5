"""The PTE word for NumPy use: masks, kinds and helpers. docs/model.md, section 1, defines the bits.

Examples
--------
>>> word = make("present", 0x1A0, ["write", "young"])
>>> describe(word)
'present pfn=0x1a0 write young'
>>> bool(word & YOUNG)
True
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

import rmapfast._core as _core

PRESENT = np.uint64(_core.PTE_PRESENT)
WRITE = np.uint64(_core.PTE_WRITE)
YOUNG = np.uint64(_core.PTE_YOUNG)
DIRTY = np.uint64(_core.PTE_DIRTY)
SOFT_DIRTY = np.uint64(_core.PTE_SOFT_DIRTY)
UFFD_WP = np.uint64(_core.PTE_UFFD_WP)
SPECIAL = np.uint64(_core.PTE_SPECIAL)
UNUSED = np.uint64(_core.PTE_UNUSED)
CONT = np.uint64(_core.PTE_CONT)
PROT = np.uint64(_core.PTE_PROT)
EXCLUSIVE = np.uint64(_core.PTE_EXCLUSIVE)

NONE = np.uint64(0)
MARKER = np.uint64(_core.PTE_MARKER_WORD)

PFN_SHIFT = np.uint64(_core.PFN_SHIFT)
PFN_ONE = np.uint64(1 << _core.PFN_SHIFT)

# The PFN of the shared zero page, which belongs to no folio.
ZERO_PFN = np.uint64(_core.ZERO_PFN)

# In the order of the numbers that kind() returns.
KINDS = ("none", "swap", "migration", "device_exclusive", "device_private", "hwpoison", "marker_uffd_wp", "present")

_MAPPING_KINDS = [KINDS.index(name) for name in ("device_exclusive", "device_private", "present")]

_PRESENT_FLAGS = {
    "write": WRITE,
    "young": YOUNG,
    "dirty": DIRTY,
    "soft_dirty": SOFT_DIRTY,
    "uffd_wp": UFFD_WP,
    "special": SPECIAL,
    "unused": UNUSED,
    "cont": CONT,
    "prot": PROT,
}
_NONPRESENT_FLAGS = {"exclusive": EXCLUSIVE, "soft_dirty": SOFT_DIRTY, "uffd_wp": UFFD_WP}


@overload
def pfn(ptes: int | np.integer[Any]) -> np.uint64: ...
@overload
def pfn(ptes: npt.NDArray[Any] | Sequence[int | np.integer[Any]]) -> npt.NDArray[np.uint64]: ...
def pfn(
    ptes: int | np.integer[Any] | npt.NDArray[Any] | Sequence[int | np.integer[Any]],
) -> np.uint64 | npt.NDArray[np.uint64]:
    """Return the PFN of each entry, or the offset of a swap entry.

    Parameters
    ----------
    ptes : uint64 or array of uint64, any shape
        Page-table entries.

    Returns
    -------
    uint64 or ndarray of uint64, of the shape of `ptes`
        A NumPy scalar for a single entry.

    Examples
    --------
    >>> import rmapfast as rf
    >>> int(rf.pte.pfn(rf.pte.make("present", 7)))
    7
    """
    words = np.asarray(ptes, np.uint64)
    return words >> PFN_SHIFT


def kind(ptes: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Return the kind of each entry, as indices into :data:`KINDS`.

    Parameters
    ----------
    ptes : uint64 or array of uint64, any shape
        Page-table entries.

    Returns
    -------
    ndarray of uint8, of the shape of `ptes`
        Of shape ``()`` for a single entry.

    Examples
    --------
    >>> import rmapfast as rf
    >>> rf.pte.KINDS[int(rf.pte.kind(rf.pte.make("swap", 7)))]
    'swap'
    """
    words = np.asarray(ptes, np.uint64)
    nonpresent = (words >> np.uint64(_core.KIND_SHIFT)) & np.uint64(_core.KIND_MASK)
    return np.where(words & PRESENT, np.uint64(KINDS.index("present")), nonpresent).astype(np.uint8)


def maps_page(ptes: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Return whether each entry maps a page and counts in its mapcount.

    Present entries do, but those of the shared zero page; so do device-exclusive and device-private ones.

    Parameters
    ----------
    ptes : uint64 or array of uint64, any shape
        Page-table entries.

    Returns
    -------
    ndarray of bool, of the shape of `ptes`
        Of shape ``()`` for a single entry.

    Examples
    --------
    >>> import rmapfast as rf
    >>> rf.pte.maps_page([rf.pte.make("present", 7), rf.pte.make("swap", 7), 0]).tolist()
    [True, False, False]
    """
    words = np.asarray(ptes, np.uint64)
    found: npt.NDArray[np.bool_] = np.isin(kind(words), _MAPPING_KINDS) & (words >> PFN_SHIFT != ZERO_PFN)
    return found


def make(kind: str, value: int | None = None, flags: Iterable[str] = ()) -> np.uint64:
    """Return the word of one entry.

    Parameters
    ----------
    kind : str
        One of :data:`KINDS`.
    value : int, optional
        PFN or swap offset, below 2^52. Ignored for ``none`` and ``marker_uffd_wp``.
    flags : iterable of str
        Names of bits, as :func:`flags` returns them.

    Returns
    -------
    uint64

    Raises
    ------
    ValueError
        For an unknown kind or flag, or a value that does not fit.

    Examples
    --------
    >>> import rmapfast as rf
    >>> rf.pte.describe(rf.pte.make("present", 7, ["dirty"]))
    'present pfn=0x7 dirty'
    """
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    if kind == "none":
        return NONE
    if kind == "marker_uffd_wp":
        return MARKER
    if not isinstance(value, int | np.integer) or not 0 <= value < 1 << 52:
        raise ValueError(f"value: expected a PFN or swap offset from 0 to 2^52 - 1, got {value!r}")
    known = _PRESENT_FLAGS if kind == "present" else _NONPRESENT_FLAGS
    word = int(PRESENT) if kind == "present" else KINDS.index(kind) << _core.KIND_SHIFT
    for flag in flags:
        if flag not in known:
            raise ValueError(f"flags: expected names out of {', '.join(known)}, got {flag!r}")
        word |= int(known[flag])
    return np.uint64(int(value) << _core.PFN_SHIFT | word)


def flags(pte: int | np.integer[Any]) -> list[str]:
    """Return the names of the flags that one entry carries, such as ``["write", "young"]``.

    Parameters
    ----------
    pte : int or uint64

    Returns
    -------
    list of str

    Examples
    --------
    >>> import rmapfast as rf
    >>> rf.pte.flags(rf.pte.make("present", 7, ["write", "young"]))
    ['write', 'young']
    """
    word = np.uint64(pte)
    if word == NONE or word == MARKER:
        return []
    known = _PRESENT_FLAGS if word & PRESENT else _NONPRESENT_FLAGS
    return [name for name, mask in known.items() if word & mask]


def describe(pte: int | np.integer[Any]) -> str:
    """Return one entry as text, such as ``present pfn=0x1a0 write young``.

    Parameters
    ----------
    pte : int or uint64

    Returns
    -------
    str

    Examples
    --------
    >>> import rmapfast as rf
    >>> rf.pte.describe(0)
    'none'
    """
    name = KINDS[int(kind(pte))]
    if name in ("none", "marker_uffd_wp"):
        return name
    value = "offset" if name == "swap" else "pfn"
    return " ".join([name, f"{value}={int(pfn(pte)):#x}", *flags(pte)])
