"""Anonymising of captures: page frames and inodes are renumbered, and names are dropped."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rmapfast.captures.format import PM_PFN, PM_PRESENT, PM_SWAP, RunLengths
from rmapfast.captures.image import Image
from rmapfast.layout import MAX_ORDER, ranges

# Frames are renumbered in blocks of the largest folio, so that each keeps its alignment.
_BLOCK_ORDER = MAX_ORDER
# Swap entries of this type and above name no swap area. They hold a page frame (migration, hwpoison, device memory),
# except those of the last type, which are markers.
_PFN_TYPES, _MARKER_TYPE = 23, 31


def anonymise_images(images: list[Image]) -> None:
    """Renumber frames and inodes in images of one moment, and drop names; a number stands for the same thing in all.

    Frames that are neighbours stay neighbours, and keep their alignment up to the largest folio.
    """
    blocks = np.unique(np.concatenate([_blocks(image) for image in images]))
    # Blocks that were neighbours stay neighbours. Between others, one block is left free.
    new = np.cumsum(np.where(np.diff(blocks, prepend=-1) == 1, 1, 2)) if len(blocks) else blocks
    # The device counts too: without names, nothing else tells files of two file systems apart.
    files = sorted({(vma.device, vma.inode) for image in images for vma in image.vmas if vma.inode})
    inodes = {file: number for number, file in enumerate(files, 1)}
    for image in images:
        length, value = image.pm
        pfn = (value & PM_PFN).astype(np.int64)
        present = (value & PM_PRESENT) != 0
        moved = value.copy()
        block = new[np.searchsorted(blocks, pfn[present] >> _BLOCK_ORDER)]
        renumbered = (block << _BLOCK_ORDER) | (pfn[present] & ((1 << _BLOCK_ORDER) - 1))
        moved[present] = value[present] & ~PM_PFN | renumbered.astype(np.uint64)
        kind = value & np.uint64(31)
        frame = ~present & ((value & PM_SWAP) != 0) & (kind >= _PFN_TYPES) & (kind != _MARKER_TYPE)
        moved[frame] = value[frame] & ~PM_PFN | kind[frame]
        image.pm = RunLengths(length, moved)
        image.anonymised = True
        for vma in image.vmas:
            # [stack], [vdso] and such names tell nothing about the user. [anon:NAME] does.
            vma.name = vma.name if not vma.inode and ":" not in vma.name else ""
            vma.inode = inodes[vma.device, vma.inode] if vma.inode else 0


def _blocks(image: Image) -> npt.NDArray[np.int64]:
    """Return the blocks that hold a present frame."""
    length, value = image.pm
    present = (value & PM_PRESENT) != 0
    first = (value[present] & PM_PFN).astype(np.int64)
    low, high = first >> _BLOCK_ORDER, (first + length[present] - 1) >> _BLOCK_ORDER
    return ranges(low, high - low + 1)
