"""Anonymising of captures: addresses, offsets, page frames, swap slots and inodes are renumbered, and names dropped.

docs/howto-capture.md lists what stays. What stays is what the model needs: how long VMAs are, which of them adjoin,
where page tables and folios begin, and which pages are the same.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from rmapfast.captures.format import KPF, PM_PFN, PM_PRESENT, PM_SWAP, RunLengths
from rmapfast.captures.image import Image, Region, Vma
from rmapfast.layout import MAX_ORDER

# Swap entries of this type and above name no swap area. They hold a page frame (migration, hwpoison, device memory),
# except those of the last type, which are markers.
_PFN_TYPES, _MARKER_TYPE = 23, 31
_TYPE_BITS = 5
_HEAD, _TAIL = np.uint64(1 << KPF["head"]), np.uint64(1 << KPF["tail"])

_Numbers = npt.NDArray[np.int64]


def anonymise_images(images: list[Image]) -> None:
    """Renumber what identifies a process in images of one moment; a number stands for the same thing in all."""
    # The device counts too: without names, nothing else tells files of two file systems apart.
    files = sorted({(vma.device, vma.inode) for image in images for vma in image.vmas if vma.inode})
    inodes = {file: number for number, file in enumerate(files, 1)}
    _move_offsets(images)
    frames, slots = _frames(images), _slots(images)
    for image in images:
        _move_addresses(image)
        length, value = image.pm
        moved = value.copy()
        present = (value & PM_PRESENT) != 0
        moved[present] = value[present] & ~PM_PFN | _renumbered(frames, value[present] & PM_PFN)
        swapped, frame = _non_present(value)
        moved[swapped] = value[swapped] & ~PM_PFN | _renumbered(slots, _slot(value[swapped])) << _TYPE_BITS
        moved[frame] = value[frame] & ~PM_PFN | value[frame] & 31
        image.pm = RunLengths(length, moved)
        image.anonymised = True
        for vma in image.vmas:
            # [stack], [vdso] and such names tell nothing about the user. [anon:NAME] does.
            vma.name = vma.name if not vma.inode and ":" not in vma.name else ""
            vma.inode = inodes[vma.device, vma.inode] if vma.inode else 0
            vma.smaps_kb = {}


def _non_present(value: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which entries hold a swap slot, and which the number of a page frame."""
    kind = value & np.uint64((1 << _TYPE_BITS) - 1)
    other = ((value & PM_PRESENT) == 0) & ((value & PM_SWAP) != 0)
    return other & (kind < _PFN_TYPES), other & (kind >= _PFN_TYPES) & (kind != _MARKER_TYPE)


def _slot(value: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return one number for the area and the offset of swap entries, so that the slots of an area follow each other."""
    entry = value & PM_PFN
    offsets = np.uint64(55 - _TYPE_BITS)
    return (entry & np.uint64((1 << _TYPE_BITS) - 1)) << offsets | entry >> np.uint64(_TYPE_BITS)


class _Moves:
    """Stretches of numbers that keep their inner distances and go to new places.

    Parameters
    ----------
    start, end : array of int64
        Stretches in rising order; they do not touch each other.
    place : array of int64
        Where each begins from now on.
    """

    def __init__(self, start: _Numbers, end: _Numbers, place: _Numbers) -> None:
        self.start, self.end, self.place = start, end, place


def _renumbered(moves: _Moves, number: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    old = number.astype(np.int64)
    at = np.searchsorted(moves.start, old, side="right") - 1
    return (old + moves.place[at] - moves.start[at]).astype(np.uint64)


def _stretches(pieces: Iterable[tuple[_Numbers, _Numbers]]) -> tuple[_Numbers, _Numbers]:
    """Return the stretches that pieces, given as starts and ends, cover together."""
    columns = [np.zeros(0, np.int64)] * 2, *pieces
    start, end = (np.concatenate(column) for column in zip(*columns, strict=True))
    by = np.argsort(start, kind="stable")
    start, end = start[by], np.maximum.accumulate(end[by]) if len(by) else end
    opens = np.ones(len(start), bool)
    opens[1:] = start[1:] > end[:-1]
    return start[opens], end[np.append(opens[1:], True)] if len(end) else end


def _packed(start: _Numbers, end: _Numbers, order: _Numbers, by: _Numbers) -> _Numbers:
    """Return new places for stretches, one behind the other in the order `by`, with something free between them.

    A place has the same remainder by 2^order as before.
    """
    block = np.int64(1) << order
    inside = start % block
    # in descending order, each size of blocks begins at a multiple of itself
    by = by[np.argsort(-order[by], kind="stable")]
    room = (-(-(inside + end - start + 1) // block) * block)[by]
    place = np.empty(len(start), np.int64)
    place[by] = np.cumsum(room) - room + inside[by]
    return place + (1 << MAX_ORDER)  # frame 0 stands for a hidden one


def _frames(images: list[Image]) -> _Moves:
    """Return new places for the page frames, in random order.

    Frames that are neighbours stay neighbours. A stretch that begins inside a large folio keeps its distance from the
    one before, which may hold other pages of the folio. A stretch with pages of large folios keeps the remainder by the
    smallest block that holds it, from which the importer tells where a folio begins; another one keeps none.
    """
    pieces, heads, tails = [], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for image in images:
        length, value = image.pm
        present = (value & PM_PRESENT) != 0
        first, pages = (value[present] & PM_PFN).astype(np.int64), length[present].astype(np.int64)
        pieces.append((first, first + pages))
        number = np.cumsum(pages) - pages
        flags = np.cumsum(image.kf.length) - image.kf.length
        cuts = np.unique(np.concatenate([number, flags]))
        cuts = cuts[cuts < pages.sum()]
        flag = image.kf.first[np.searchsorted(flags, cuts, side="right") - 1]
        run = np.searchsorted(number, cuts, side="right") - 1
        frame = first[run] + cuts - number[run]
        heads.append(frame[flag & _HEAD != 0])
        tails.append(frame[flag & _TAIL != 0])
    start, end = _stretches(pieces)
    head, tail = np.concatenate(heads), np.concatenate(tails)
    begins = ~np.isin(start, tail)
    begins[1:] |= start[1:] >> MAX_ORDER != end[:-1] - 1 >> MAX_ORDER
    begins[:1] = True
    start, end = start[begins], end[np.append(begins[1:], True)] if len(end) else end
    order = np.zeros(len(start), np.int64)
    held = np.unique(np.searchsorted(start, np.concatenate([head, tail]), side="right") - 1)
    # a tail has a page of its folio before it, and a head has one behind it, also where they are not seen
    low, high = start[held] - np.isin(start[held], tail), end[held] - 1 + np.isin(end[held] - 1, head)
    order[held] = np.clip(np.frexp((low ^ high).astype(float))[1], 0, MAX_ORDER)
    by = np.random.default_rng().permutation(len(start))
    return _Moves(start, end, _packed(start, end, order, by))


def _slots(images: list[Image]) -> _Moves:
    """Return new numbers for the swap slots: neighbours stay neighbours, and gaps are closed to one slot."""
    slots = [_slot(image.pm.first[_non_present(image.pm.first)[0]]).astype(np.int64) for image in images]
    start, end = _stretches([(one, one + 1) for one in slots])
    return _Moves(start, end, np.cumsum(end - start + 1) - (end - start))


def _table_pages(image: Image) -> int:
    """Pages that a page table maps: an entry has 8 bytes."""
    return 1 << (image.page_shift - 3)


def _move_addresses(image: Image) -> None:
    """Move VMAs together; those in one page table keep their distance, and all keep their place in a page table."""
    page, table = 1 << image.page_shift, _table_pages(image)
    moves: list[tuple[int, int, int]] = []
    last_old = last_new = -1  # the last page of the VMA before, as it was and as it is
    for vma in image.vmas:
        first = vma.start // page
        if first // table == last_old // table or first == last_old + 1:
            new = last_new + first - last_old
        else:
            new = (last_new // table + 2) * table + first % table
        moves.append((vma.start, vma.end, (new - first) * page))
        last_old, last_new = vma.end // page - 1, new + vma.end // page - 1 - first
        vma.start, vma.end = vma.start + moves[-1][2], vma.end + moves[-1][2]
    image.huge = [
        Region(region.start + by, region.end + by)
        for region in image.huge
        for start, end, by in moves
        if start <= region.start < end
    ]


def _move_offsets(images: list[Image]) -> None:
    """Move the page offsets of each file together by whole page tables; those of anonymous memory are those of one."""
    places: dict[tuple[str, int], list[tuple[Vma, Image]]] = {}
    for image in images:
        for vma in image.vmas:
            places.setdefault((vma.device, vma.inode) if vma.inode else ("", 0), []).append((vma, image))
    for mapped in places.values():
        table = _table_pages(mapped[0][1])
        start = np.array([vma.pgoff for vma, _ in mapped], np.int64)
        pages = np.array([(vma.end - vma.start) >> image.page_shift for vma, image in mapped], np.int64)
        low, high = _stretches([(start // table, -(-(start + pages) // table))])
        moves = _Moves(low, high, np.cumsum(high - low + 1) - (high - low) - 1)
        new = _renumbered(moves, (start // table).astype(np.uint64)).astype(np.int64) * table + start % table
        for (vma, _), pgoff in zip(mapped, new.tolist(), strict=True):
            vma.pgoff = pgoff
