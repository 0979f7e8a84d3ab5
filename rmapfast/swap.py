"""Swap space of a run."""

from __future__ import annotations

from rmapfast.support import parse_size

# Swap space that does not run out: the offsets of every page of the largest population fit.
UNLIMITED_SWAP = 1 << 48


def swap_pages(swap: bool | int | str | None, page_shift: int) -> int | None:
    """Return the swap slots that an argument `swap` means: True is unlimited, False and None are none, else a size.

    Parameters
    ----------
    swap : bool, int, str or None
        A size is in bytes, or such as ``"1GiB"``.
    page_shift : int
        log2 of the base page size in bytes.

    Raises
    ------
    TypeError, ValueError
        For what is no size.
    """
    if swap is True:
        return UNLIMITED_SWAP
    if swap is False or swap is None:
        return None
    return parse_size(swap, "swap") >> page_shift
