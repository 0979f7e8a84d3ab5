"""The swap space that a run may use."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rmapfast.support import checked_boolean, parse_size, read_regular

# Slots of unlimited swap space: more than the largest population has pages.
UNLIMITED_SWAP = 1 << 48


@dataclass(frozen=True, eq=False)
class Swap:
    """A swap device: how many slots are free, and whether large folios find a run of them.

    Without a map a folio fits as a whole while as many slots are free as it has pages, and offsets are handed out
    upwards. With a map, offsets are those of the device. It is cut in clusters of as many slots as a page table has
    entries. A large folio needs an aligned free run in a cluster that is unused or serves its order; a single page may
    use any cluster. docs/model.md, section 6, says more.

    Parameters
    ----------
    slots : int, optional
        Free slots, at most 2^48; with a map the size of the device in slots. None is unlimited, and with a map the
        length of the map.
    fragmented : bool
        No run of slots is free: single pages find a slot, large folios do not. Not together with a map.
    free : array_like of bool, shape (slots,), optional
        Which offsets are free at the start. Offset 0 holds the header of the device and is never free.

    Raises
    ------
    TypeError, ValueError
        Naming the argument: for a map that is not as long as the device, of another type, or with offset 0 free.

    Examples
    --------
    >>> Swap(slots=3).slots
    3
    >>> Swap(free=[False, True, True, True]).free_slots
    3
    """

    slots: int | None = None
    fragmented: bool = False
    free: npt.NDArray[np.bool_] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check the arguments."""
        checked_boolean("fragmented", self.fragmented)
        if self.slots is not None:
            try:
                slots = operator.index(self.slots)
            except TypeError:
                raise TypeError(f"slots: expected a whole number or None, got {self.slots!r}") from None
            if isinstance(self.slots, bool) or not 0 <= slots <= UNLIMITED_SWAP:
                raise ValueError(f"slots: expected 0 to 2^48 slots or None, got {self.slots!r}")
            object.__setattr__(self, "slots", slots)
        if self.free is None:
            return
        free = np.asarray(self.free)
        if free.dtype != np.bool_ or free.ndim != 1:
            raise TypeError(f"free: expected bools of one dimension, got {free.dtype} with shape {free.shape}")
        if self.slots is not None and len(free) != self.slots:
            raise ValueError(f"free: expected as many elements as the device has slots, {self.slots}, got {len(free)}")
        if self.fragmented:
            raise ValueError("fragmented: expected False together with a map of free slots, got True")
        if len(free) and free[0]:
            raise ValueError("free: offset 0 holds the header of the device; expected False there, got True")
        free = free.copy()
        free.flags.writeable = False
        object.__setattr__(self, "free", free)
        object.__setattr__(self, "slots", len(free))

    @classmethod
    def of(cls, text: str, page_shift: int) -> Swap:
        """Return the device that a text describes.

        Parameters
        ----------
        text : str
            A size, ``fragmented`` and ``free=FILE``, with commas between them: ``"1GiB"``, ``"1GiB,fragmented"``,
            ``"free=FILE"``. The file is the map of a device: a ``1`` for each slot that is free and a ``0`` for each
            other one, from offset 0 on; white space between them means nothing.
        page_shift : int
            log2 of the base page size in bytes; a slot holds a page.

        Returns
        -------
        Swap

        Raises
        ------
        TypeError, ValueError
            For what is no such text or map, and for a map that is not as long as the device; the message names swap.
        OSError
            If the file cannot be read.

        Examples
        --------
        >>> Swap.of("12KiB,fragmented", 12)
        Swap(slots=3, fragmented=True)
        """
        slots: int | None = None
        fragmented, free = False, None
        for word in (word.strip() for word in text.split(",")):
            if word == "fragmented":
                fragmented = True
            elif word.startswith("free="):
                free = _free_map(word.removeprefix("free="))
            elif slots is None:
                slots = min(parse_size(word, "swap") >> page_shift, UNLIMITED_SWAP)
            else:
                raise ValueError(f"swap: expected one size, fragmented, free=FILE, got {text!r}")
        try:
            return cls(slots, fragmented, free)
        except (TypeError, ValueError) as error:
            raise ValueError(f"swap: {error}") from None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Swap):
            return NotImplemented
        if (self.slots, self.fragmented, self.free is None) != (other.slots, other.fragmented, other.free is None):
            return False
        return self.free is None or other.free is None or np.array_equal(self.free, other.free)

    def __hash__(self) -> int:
        return hash((self.slots, self.fragmented, None if self.free is None else self.free.tobytes()))

    @property
    def free_slots(self) -> int:
        """Slots that are free at the start, :data:`UNLIMITED_SWAP` if they never run out."""
        if self.free is not None:
            return int(np.count_nonzero(self.free))
        return UNLIMITED_SWAP if self.slots is None else self.slots


def _free_map(path: str) -> npt.NDArray[np.bool_]:
    """Read a map of free slots: a text of the digits 0 and 1."""
    try:
        text = read_regular(path).decode(errors="replace")
    except FileNotFoundError:
        raise ValueError(f"swap: free: expected the file of a map, got {path!r}") from None
    digits = "".join(text.split())
    wrong = digits.strip("01")
    if wrong:
        raise ValueError(f"swap: {path}: expected the digits 0 and 1 alone, got {wrong[0]!r}")
    free: npt.NDArray[np.bool_] = np.frombuffer(digits.encode(), np.uint8) == ord("1")
    return free


def swap_device(swap: Swap | bool | int | str | None, page_shift: int) -> Swap | None:
    """Return the device that an argument `swap` means: True is unlimited, False and None are none, else a size.

    Parameters
    ----------
    swap : Swap, bool, int, str or None
        A size is in bytes, or a text for :meth:`Swap.of` such as ``"1GiB"`` or ``"1GiB,fragmented"``.
    page_shift : int
        log2 of the base page size in bytes.

    Returns
    -------
    Swap or None
        None if there is no swap at all; so is a device without slots.

    Raises
    ------
    TypeError, ValueError
        For what is no size.
    """
    if swap is True:
        return Swap()
    if swap is False or swap is None:
        return None
    if isinstance(swap, str):
        swap = Swap.of(swap, page_shift)
    device = swap if isinstance(swap, Swap) else Swap(min(parse_size(swap, "swap") >> page_shift, UNLIMITED_SWAP))
    return None if device.slots == 0 else device
