"""Cases: one folio in one VMA as a JSON document, in the form of the recorded unmap vectors.

docs/conformance-format.md describes the fields. A case comes from a state (:func:`case_of_state`), from a file
(:func:`load_case`) or from a recorded vector, and becomes a population again (:func:`case_population`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

import rmapfast._core as _core
from rmapfast import pte
from rmapfast.arch import Arch
from rmapfast.flags import FolioFlag, PageFlag, TableState, VmaFlag
from rmapfast.population import Population
from rmapfast.support import checked_choice, flag_mask, read_json
from rmapfast.verify.split_states import SplitState
from rmapfast.verify.states import State
from rmapfast.verify.young_states import YoungState

# A JSON document; its fields are those of docs/conformance-format.md.
Case: TypeAlias = dict[str, Any]

# Flags by their name in a case, for export and import. A VMA's ANON is the field "anonymous".
VMA_FLAGS = {
    "LOCKED": VmaFlag.LOCKED,
    "UFFD_WP": VmaFlag.UFFD_WP,
    "DROPPABLE": VmaFlag.DROPPABLE,
    "UFFD_MISSING": VmaFlag.UFFD_ARMED,
}
FOLIO_FLAGS = {
    "anon": FolioFlag.ANON,
    "swapbacked": FolioFlag.SWAPBACKED,
    "swapcache": FolioFlag.SWAPCACHE,
    "dirty": FolioFlag.DIRTY,
    "mlocked": FolioFlag.MLOCKED,
    "pinned": FolioFlag.PINNED,
    "young_flag": FolioFlag.YOUNG,
}
# A case spans a few page tables; anything larger is a damaged or hostile file.
MAX_SLOTS = 1 << 20

# Where the folio of a state lies. The PFN and the index are those of csrc/check_states.h.
FOLIO_PFN, FOLIO_INDEX, SWAP_OFFSET = 64, 256, 8192


class VectorError(ValueError):
    """A file that is not a valid set of conformance vectors, or a document that is not a valid case.

    Examples
    --------
    >>> import rmapfast as rf
    >>> issubclass(rf.VectorError, ValueError)
    True
    """


class Entries(NamedTuple):
    """An element of a list of page-table entries: `nr` of them from virtual page `vpn` on, of consecutive values."""

    vpn: int
    kind: str
    value: int | None
    flags: list[str]
    nr: int = 1


def words_of(entries: Iterable[Sequence[Any]], first: int, length: int) -> npt.NDArray[np.uint64]:
    """Return a list of entries as PTE words of shape (length,), of which element 0 is virtual page `first`.

    Raises
    ------
    VectorError
        If entries overlap, descend, lie outside the array or do not fit into a word.
    """
    words = np.zeros(length, np.uint64)
    last = -1
    for entry in entries:
        vpn, kind, value, flags, nr = Entries(*entry)
        if not (isinstance(vpn, int) and isinstance(nr, int)) or nr < 1 or nr > MAX_SLOTS:
            raise VectorError(f"ptes: bad run length or page in {entry}")
        if vpn <= last or vpn < first or vpn + nr > first + length:
            raise VectorError(f"ptes: {entry} overlaps the entry before it or lies outside the tables")
        last = vpn + nr - 1
        step = 0 if value is None else int(pte.PFN_ONE)
        word = int(pte.make(kind, value, flags))
        if word + step * nr >= 1 << 64:
            raise VectorError(f"ptes: the values of {entry} overflow")
        words[vpn - first : vpn - first + nr] = np.uint64(word) + np.arange(nr, dtype=np.uint64) * np.uint64(step)
    return words


def page_flags(population: Population) -> npt.NDArray[np.uint8]:
    """Return the flags of each page of the first folio, whether or not the population stores them per page."""
    flags, pages = int(population.folio_flags[0]), 1 << int(population.folio_order[0])
    if flags & FolioFlag.PAGE_FLAGS:
        return population.page_flags[:pages]
    return np.full(pages, PageFlag.EXCLUSIVE if flags & FolioFlag.EXCLUSIVE else 0, np.uint8)


# --- a case from a state ---------------------------------------------------------------------------------------------


def case_of_state(
    state: State, *, pfn: int = FOLIO_PFN, index: int = FOLIO_INDEX, swap_offset: int = SWAP_OFFSET
) -> Case:
    """Return a state as a case.

    Parameters
    ----------
    state : State
    pfn, index, swap_offset : int
        First PFN, page offset and first swap slot of the folio, which a state does not name.
    """
    flags, marks = state.folio_flags, np.array(state.page_flags, np.uint8)
    zeroes = np.flatnonzero(marks & PageFlag.ZERO).tolist()
    fails = np.flatnonzero(marks & PageFlag.SWAP_DUP_FAIL)
    per_table, first = state.ptrs_per_pte, state.first_vpn
    return {
        "tags": _tags(state, pfn, index),
        "page_shift": 12,
        "ptrs_per_pte": per_table,
        **({"cont_ptes": state.cont_ptes} if state.cont_ptes > 1 else {}),
        "vma": {
            "start_vpn": state.vma.start,
            "end_vpn": state.vma.end,
            "pgoff": state.vma.pgoff,
            "flags": [name for name, bit in VMA_FLAGS.items() if state.vma.flags & bit],
            "anonymous": bool(state.vma.flags & VmaFlag.ANON),
        },
        "folio": {
            "pfn": pfn,
            "order": state.order,
            "index": index,
            **{name: bool(flags & bit) for name, bit in FOLIO_FLAGS.items()},
            "refcount": state.refcount,
            "mapcount": sum(state.page_mapcount),
            "page_mapcounts": [[1, count] for count in state.page_mapcount],
            "exclusive_pages": np.flatnonzero(marks & PageFlag.EXCLUSIVE).tolist(),
            "hwpoison_pages": np.flatnonzero(marks & PageFlag.HWPOISON).tolist(),
            "swap_offset": swap_offset,
            "swap_dup_fail_page": int(fails[0]) if len(fails) else None,
            **({"zero_pages": zeroes} if zeroes else {}),
        },
        "ttu": [name for name, bit in _core.TTU_FLAGS.items() if state.ttu & bit],
        "ptes": [_entry(first + i, word) for i, word in enumerate(state.ptes) if word],
        "tables": list(range(first // per_table, (first + len(state.ptes)) // per_table)),
        "absent_pmds": [],
        "guard": state.guard,
    }


def reachable(case: Case) -> bool:
    """Return whether user space can make the state of a case, as far as its tags know.

    Parameters
    ----------
    case : dict

    Returns
    -------
    bool
    """
    return not any(tag.startswith(("unreachable:", "abnormal:")) for tag in case.get("tags", ()))


def _tags(state: State, pfn: int, index: int) -> list[str]:
    """What user space cannot make, in the words of the recorded vectors where they have one."""
    flags, vma_anon = state.folio_flags, bool(state.vma.flags & VmaFlag.ANON)
    anon = bool(flags & FolioFlag.ANON)
    swapbacked, swapcache = bool(flags & FolioFlag.SWAPBACKED), bool(flags & FolioFlag.SWAPCACHE)
    device = any(pte.KINDS[int(kind)] == "device_exclusive" for kind in pte.kind(np.array(state.ptes, np.uint64)))
    found = {
        "unreachable:lazyfree-in-file-vma": anon and not swapbacked and not vma_anon,
        "abnormal:swapcache-mismatch": anon and swapbacked != swapcache,
        "unreachable:hwpoison-large-folio": state.order > 0 and bool(state.ttu & _core.TTU_FLAGS["HWPOISON"]),
        "unreachable:device-exclusive-file": device and not anon,
        "unreachable:page-out-of-place": not vma_anon and _out_of_place(state, pfn, index),
    }
    return [tag for tag, present in found.items() if present]


def _out_of_place(state: State, pfn: int, index: int) -> bool:
    """Whether the VMA maps a page of the folio where its page offset does not put it: twice in itself, say."""
    words = np.array(state.ptes, np.uint64)
    vpn = state.first_vpn + np.arange(len(words))
    page = pte.pfn(words).astype(np.int64) - pfn
    mapped = pte.maps_page(words) & (page >= 0) & (page < 1 << state.order)
    mapped &= (vpn >= state.vma.start) & (vpn < state.vma.end)
    return bool(np.any(mapped & (page + index != vpn - state.vma.start + state.vma.pgoff)))


def _entry(vpn: int, word: int) -> list[Any]:
    kind = pte.KINDS[int(pte.kind(word))]
    return [vpn, kind, None if kind == "marker_uffd_wp" else int(pte.pfn(word)), pte.flags(word)]


# --- a population from a case ----------------------------------------------------------------------------------------


def case_arch(case: Case) -> Arch:
    """Return the architecture of the recordings: x86's rules of advance and flush, with the case's page tables.

    Raises
    ------
    TypeError, ValueError
        If the size of a page or of a table is none.
    """
    return Arch(
        name="recorded",
        page_shift=case["page_shift"],
        ptrs_per_pte=case["ptrs_per_pte"],
        cont_ptes=case.get("cont_ptes", 1),
        tlb="x86",
        mkdirty_soft_dirty=True,
    )


def case_population(case: Case) -> Population:
    """Return a case, or the input of a recorded unmap or reference-check vector, as a population of one folio and VMA.

    Raises
    ------
    VectorError
        If the fields do not fit together.
    KeyError, TypeError, ValueError, OverflowError
        If a field is missing or of another type.
    """
    vma, folio, arch = case["vma"], case["folio"], case_arch(case)
    per_table = arch.ptrs_per_pte
    start, end = vma["start_vpn"], vma["end_vpn"]
    tables = set(case["tables"])
    spanned = tables | set(case["absent_pmds"]) | {start // per_table, (end - 1) // per_table}
    first, length = min(spanned) * per_table, (max(spanned) + 1 - min(spanned)) * per_table
    if not 0 < length <= MAX_SLOTS or start >= end:
        raise VectorError(f"vma: pages {start} to {end} in {len(tables)} tables do not make sense")
    vma_tables = range(start // per_table, (end - 1) // per_table + 1)
    if not 0 <= folio["order"] <= _core.MAX_ORDER:
        raise VectorError(f"folio: order {folio['order']}, expected 0 to {_core.MAX_ORDER}")
    mapcounts, marks = _mapcounts(folio), _marks(folio)
    flags = FolioFlag.PAGE_MAPCOUNTS | FolioFlag.PAGE_FLAGS
    for name, bit in FOLIO_FLAGS.items():
        flags |= bit if folio.get(name) else 0
    vma_flags = sum(VMA_FLAGS[name] for name in vma["flags"]) | (VmaFlag.ANON if vma["anonymous"] else 0)
    return Population(
        page_shift=arch.page_shift,
        ptrs_per_pte=per_table,
        ptes=words_of(case["ptes"], first, length),
        vma_start=np.array([start], np.uint64),
        vma_end=np.array([end], np.uint64),
        vma_pgoff=np.array([vma["pgoff"]], np.uint64),
        vma_flags=np.array([vma_flags], np.uint32),
        vma_mm=np.zeros(1, np.uint32),
        vma_pte_base=np.array([start - first], np.uint64),
        vma_window_start=np.array([first], np.uint64),
        vma_window_end=np.array([first + length], np.uint64),
        vma_table_base=np.zeros(1, np.uint64),
        table_state=np.array(
            [TableState.PTE if table in tables else TableState.ABSENT for table in vma_tables], np.uint8
        ),
        folio_pfn=np.array([folio["pfn"]], np.uint64),
        folio_index=np.array([folio["index"]], np.uint64),
        folio_order=np.array([folio["order"]], np.uint8),
        folio_flags=np.array([flags], np.uint32),
        folio_refcount=np.array([folio["refcount"]], np.int32),
        folio_mapcount=np.array([folio["mapcount"]], np.int32),
        folio_entire_mapcount=np.zeros(1, np.int32),
        folio_nr_pages_mapped=np.array([np.count_nonzero(mapcounts > 0)], np.int32),
        folio_swap=np.array([folio["swap_offset"] or 0], np.uint64),
        folio_page_base=np.zeros(1, np.uint64),
        page_mapcount=mapcounts.astype(np.int32),
        page_flags=marks,
        rmap_start=np.array([0, 1], np.uint64),
        rmap_vma=np.zeros(1, np.uint32),
        mm_rss=np.zeros((1, 4), np.int64),
        # another CPU is in the mask, so that flushes can always be deferred
        mm_cpumask=np.array([2], np.uint64),
        mm_flags=np.zeros(1, np.uint32),
        lru_inactive=np.zeros(0, np.uint32),
        lru_active=np.zeros(0, np.uint32),
    )


def _mapcounts(folio: dict[str, Any]) -> npt.NDArray[np.int64]:
    """Mapcount of each page."""
    pages, runs = 1 << folio["order"], folio["page_mapcounts"]
    if sum(count for count, _ in runs) != pages or min(value for run in runs for value in run) < 0:
        raise VectorError(f"page_mapcounts: {runs} are not the counts of {pages} pages")
    counts, values = np.array(runs, np.int64).T
    mapcounts = np.repeat(values, counts)
    if mapcounts.sum() != folio["mapcount"]:
        raise VectorError(f"page_mapcounts: {mapcounts.sum()} mappings, mapcount {folio['mapcount']}: do not add up")
    return mapcounts


def _marks(folio: dict[str, Any]) -> npt.NDArray[np.uint8]:
    """Flags of each page."""
    pages, failing = 1 << folio["order"], folio["swap_dup_fail_page"]
    marks = np.zeros(pages, np.uint8)
    for name, numbers, flag in (
        ("exclusive_pages", folio["exclusive_pages"], PageFlag.EXCLUSIVE),
        ("hwpoison_pages", folio["hwpoison_pages"], PageFlag.HWPOISON),
        ("zero_pages", folio.get("zero_pages", []), PageFlag.ZERO),
        ("swap_dup_fail_page", [] if failing is None else [failing], PageFlag.SWAP_DUP_FAIL),
    ):
        for number in numbers:
            if type(number) is not int or not 0 <= number < pages:
                raise VectorError(f"{name}: expected pages 0 to {pages - 1}, got {number!r}")
            marks[number] |= flag
    return marks


def _check_mapped(population: Population) -> None:
    """Raise VectorError unless the VMA holds a page of the folio."""
    first, low = int(population.folio_index[0]), int(population.vma_pgoff[0])
    size = int(population.vma_end[0]) - int(population.vma_start[0])
    if not low - (1 << int(population.folio_order[0])) < first < low + size:
        raise VectorError("vma: its page offsets are none of the folio")


def load_case(path: str | os.PathLike[str]) -> Case:
    """Read a case from a JSON file, as ``check --json`` and :meth:`CheckReport.to_dict` give them.

    Parameters
    ----------
    path : path
        Holds a case, or a violation with its ``example``.

    Returns
    -------
    dict
        The case; its fields are those of docs/conformance-format.md, or ``split_state`` or ``young_state`` alone.

    Raises
    ------
    ValueError
        If the file is not JSON or no valid case; the message says what.
    OSError
        If it cannot be read.
    """
    document = read_json(path).value
    try:
        case: Case = document.get("example", document)
        if "split_state" in case:
            SplitState.of_case(case)
        elif "young_state" in case:
            YoungState.of_case(case)
        else:
            _check_mapped(case_population(case))
            flag_mask("ttu", case["ttu"], _core.TTU_FLAGS)
            checked_choice("guard", case["guard"], ("none", "contiguous"))
    except VectorError as error:
        raise ValueError(f"{path}: not a case: {error}") from None
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise ValueError(f"{path}: not a case: {type(error).__name__} {error}") from None
    return case
