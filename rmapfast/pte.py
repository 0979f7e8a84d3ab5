"""The PTE word for NumPy use: masks, kinds and small helpers (docs/model.md, section 1)."""

from __future__ import annotations

import numpy as np

from rmapfast import _core

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

# Index: the kind as kind() returns it.
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


def pfn(ptes):
    """Return the PFN (of a swap entry: the offset) of each entry, as uint64 of the same shape."""
    return np.asarray(ptes, np.uint64) >> PFN_SHIFT


def kind(ptes):
    """Return the kind of each entry, an index into :data:`KINDS`, as uint8 of the same shape."""
    ptes = np.asarray(ptes, np.uint64)
    nonpresent = (ptes >> np.uint64(_core.KIND_SHIFT)) & np.uint64(_core.KIND_MASK)
    return np.where(ptes & PRESENT, np.uint64(7), nonpresent).astype(np.uint8)


def maps_page(ptes):
    """Return whether each entry maps a page and counts in its mapcount, as bool of the same shape.

    Present entries do, but those of the shared zero page; so do device-exclusive and device-private ones.
    """
    ptes = np.asarray(ptes, np.uint64)
    return np.isin(kind(ptes), _MAPPING_KINDS) & (pfn(ptes) != ZERO_PFN)


def make(kind: str, value: int | None = None, flags=()) -> np.uint64:
    """Return the word of one entry.

    Parameters
    ----------
    kind : str
        One of :data:`KINDS`.
    value : int, optional
        PFN or swap offset, below 2^52; none for ``none`` and ``marker_uffd_wp``.
    flags : iterable of str
        Names as :func:`describe` prints them.

    Raises
    ------
    ValueError
        For an unknown kind or flag, or a value that does not fit.
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


def flags(pte) -> list[str]:
    """Return the names of the flags that one entry carries."""
    word = np.uint64(pte)
    if word == NONE or word == MARKER:
        return []
    known = _PRESENT_FLAGS if word & PRESENT else _NONPRESENT_FLAGS
    return [name for name, mask in known.items() if word & mask]


def describe(pte) -> str:
    """Return one entry in words, such as ``present pfn=0x1a0 write young``."""
    name = KINDS[int(kind(pte))]
    if name in ("none", "marker_uffd_wp"):
        return name
    value = "offset" if name == "swap" else "pfn"
    return " ".join([name, f"{value}={int(pfn(pte)):#x}", *flags(pte)])
