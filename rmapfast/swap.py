"""The swap space that a run may use."""

from __future__ import annotations

from rmapfast.support import parse_size

# Slots of unlimited swap space: more than the largest population has pages.
UNLIMITED_SWAP = 1 << 48


def swap_pages(swap: bool | int | str | None, page_shift: int) -> int | None:
    """Return the swap slots, one a page, that an argument `swap` stands for.

    Parameters
    ----------
    swap : bool, int, str or None
        True: unlimited. False or None: no swap space. Else a size in bytes, or as text such as ``"1GiB"``.
    page_shift : int
        log2 of the base page size in bytes.

    Returns
    -------
    int or None
        Slots; None without swap space.

    Raises
    ------
    TypeError, ValueError
        If `swap` is none of these.
    """
    if swap is True:
        return UNLIMITED_SWAP
    if swap is False or swap is None:
        return None
    return parse_size(swap, "swap") >> page_shift
