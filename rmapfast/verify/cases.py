"""Cases: states of one folio in one VMA in the format of the recorded unmap vectors, and what an unmap does to them.

A case comes from the enumeration of the C library (:func:`case_of_state`), from a file (:func:`load_case`), from a seed
(:func:`random_cases`) or from a capture (:func:`capture_cases`). :func:`judge` says which invariants a policy violates
on it; they are written here a second time, apart from ``csrc/check.c``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from rmapfast import _core, calls, pte, reference
from rmapfast import arch as _arch
from rmapfast import policy as _policy
from rmapfast.flags import FolioFlag, PageFlag, VmaFlag
from rmapfast.verify.vectors import FOLIO_FLAGS, VMA_FLAGS, VectorError, vector_population

INVARIANTS: tuple[str, ...] = _core.INVARIANTS

# The toy folio of csrc/check.c.
_FOLIO_PFN, _FOLIO_INDEX, _SWAP_OFFSET = 64, 256, 8192


def case_of_state(state: dict) -> dict:
    """Return an enumerated state as a case."""
    start, end, pgoff, vma_flags = state["vma"]
    flags, page_flags = state["folio_flags"], np.array(state["page_flags"], np.uint8)
    fails = np.flatnonzero(page_flags & PageFlag.SWAP_DUP_FAIL)
    per_table, first = state["ptrs_per_pte"], state["first_vpn"]
    return {
        "tags": _tags(state),
        "page_shift": 12,
        "ptrs_per_pte": per_table,
        "vma": {
            "start_vpn": start,
            "end_vpn": end,
            "pgoff": pgoff,
            "flags": [name for name, bit in VMA_FLAGS.items() if vma_flags & bit],
            "anonymous": bool(vma_flags & VmaFlag.ANON),
        },
        "folio": {
            "pfn": _FOLIO_PFN,
            "order": state["order"],
            "index": _FOLIO_INDEX,
            **{name: bool(flags & bit) for name, bit in FOLIO_FLAGS.items()},
            "refcount": state["refcount"],
            "mapcount": sum(state["page_mapcount"]),
            "page_mapcounts": [[1, count] for count in state["page_mapcount"]],
            "exclusive_pages": np.flatnonzero(page_flags & PageFlag.EXCLUSIVE).tolist(),
            "hwpoison_pages": np.flatnonzero(page_flags & PageFlag.HWPOISON).tolist(),
            "swap_offset": _SWAP_OFFSET,
            "swap_dup_fail_page": int(fails[0]) if len(fails) else None,
        },
        "ttu": [name for name, bit in _core.TTU_FLAGS.items() if state["ttu"] & bit],
        "ptes": [_entry(first + i, word) for i, word in enumerate(state["ptes"]) if word],
        "tables": list(range(first // per_table, (first + len(state["ptes"])) // per_table)),
        "absent_pmds": [],
        "guard": state["guard"],
    }


def _tags(state: dict) -> list[str]:
    """What user space cannot make, in the words of the recorded vectors where they have one."""
    flags, vma_anon = state["folio_flags"], state["vma"][3] & VmaFlag.ANON
    anon = bool(flags & FolioFlag.ANON)
    swapbacked, swapcache = bool(flags & FolioFlag.SWAPBACKED), bool(flags & FolioFlag.SWAPCACHE)
    device = any(pte.KINDS[int(kind)] == "device_exclusive" for kind in pte.kind(np.array(state["ptes"], np.uint64)))
    found = {
        "unreachable:lazyfree-in-file-vma": anon and not swapbacked and not vma_anon,
        "abnormal:swapcache-mismatch": anon and swapbacked != swapcache,
        "unreachable:hwpoison-large-folio": state["order"] > 0 and bool(state["ttu"] & _core.TTU_FLAGS["HWPOISON"]),
        "unreachable:device-exclusive-file": device and not anon,
    }
    return [tag for tag, present in found.items() if present]


def _entry(vpn: int, word: int) -> list:
    kind = pte.KINDS[int(pte.kind(word))]
    return [vpn, kind, None if kind == "marker_uffd_wp" else int(pte.pfn(word)), pte.flags(word)]


def load_case(path) -> dict:
    """Read a case from a JSON file, as ``check --json`` and :meth:`CheckReport.to_dict` give them.

    Raises
    ------
    ValueError
        If the file is not JSON or no valid case; the message says what.
    """
    try:
        case = json.loads(Path(path).read_text(encoding="utf-8"))
        case = case.get("example", case) if isinstance(case, dict) else case
        vector_population(case)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    except VectorError as error:
        raise ValueError(f"{path}: not a case: {error}") from None
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise ValueError(f"{path}: not a case: {type(error).__name__} {error}") from None
    return case


@dataclass(frozen=True)
class UnmapOutcome:
    """One case unmapped under one policy."""

    ret: bool
    before: object
    after: object
    call: object


def unmap_case(case: dict, policy, arch="x86-64") -> UnmapOutcome:
    """Unmap a case under a policy (C library), or under a Python function (reference)."""
    before = vector_population(case)
    after = before.copy()
    # CONT says nothing that the entries do not say: a state with it is no other state (csrc/check.c)
    geometry = {"ptrs_per_pte": before.ptrs_per_pte, "page_shift": before.page_shift, "cont_ptes": 1}
    arch = _arch.get(arch).replace(**geometry)
    engine = reference if callable(policy) else calls
    call = engine.try_to_unmap_one(after, 0, 0, policy=policy, arch=arch, ttu=case["ttu"], guard=case["guard"])
    return UnmapOutcome(call.ret, before, after, call)


def judge(case: dict, policy, *, against="per-page", arch="x86-64") -> list[str]:
    """Return the invariants that a policy violates on a case, in the order of :data:`INVARIANTS`.

    The invariants are written here a second time, apart from ``csrc/check.c``.
    """
    outcome = unmap_case(case, policy, arch)
    oracle = unmap_case(case, _policy.get(against), arch)
    found = {name for name, test in _TESTS.items() if not test(outcome)}
    found |= _compare(oracle, outcome)
    return [name for name in INVARIANTS if name in found]


def _maps(outcome: UnmapOutcome, ptes) -> np.ndarray:
    """Page of the folio that each entry maps, or -1."""
    page = pte.pfn(ptes).astype(np.int64) - int(outcome.before.folio_pfn[0])
    return np.where(pte.maps_page(ptes) & (page >= 0) & (page < 1 << int(outcome.before.folio_order[0])), page, -1)


def _page_flags(population) -> np.ndarray:
    flags, pages = int(population.folio_flags[0]), 1 << int(population.folio_order[0])
    if flags & FolioFlag.PAGE_FLAGS:
        return population.page_flags[:pages]
    return np.full(pages, PageFlag.EXCLUSIVE if flags & FolioFlag.EXCLUSIVE else 0, np.uint8)


def _accounting(outcome: UnmapOutcome) -> bool:
    before, after = outcome.before, outcome.after
    was, now = _maps(outcome, before.ptes), _maps(outcome, after.ptes)
    lost = was[(was >= 0) & (now < 0)]
    by_page = np.bincount(lost, minlength=1 << int(before.folio_order[0]))
    swapped = np.count_nonzero((was >= 0) & (pte.kind(after.ptes) == pte.KINDS.index("swap")))
    file, anon, swap, shmem = (after.mm_rss[0] - before.mm_rss[0]).tolist()
    return (
        np.array_equal(before.page_mapcounts(0) - after.page_mapcounts(0), by_page)
        and before.folio_mapcount[0] - after.folio_mapcount[0] == len(lost)
        and before.folio_refcount[0] - after.folio_refcount[0] == len(lost)
        and file + anon + shmem == -len(lost)
        and swap == swapped
    )


def _steps(outcome: UnmapOutcome) -> list[tuple[int, int]]:
    """(vpn, entries) that each step cleared."""
    sizes = {"step": None, "step_nonpresent": 1}
    return [(vpn, sizes[kind] or nr) for kind, vpn, nr in outcome.call.trace if kind in sizes]


def _slot_once(outcome: UnmapOutcome) -> bool:
    slots = [vpn + i for vpn, nr in _steps(outcome) for i in range(nr)]
    return len(slots) == len(set(slots))


def _forward(outcome: UnmapOutcome) -> bool:
    starts = [vpn for vpn, _ in _steps(outcome)]
    return all(a < b for a, b in pairwise(starts))


def _in_bounds(outcome: UnmapOutcome) -> bool:
    names = ("oob_reads", "oob_writes", "vma_overrun_reads", "vma_overrun_writes")
    return not any(outcome.call.events[name] for name in names)


def _changed(outcome: UnmapOutcome) -> tuple[np.ndarray, np.ndarray]:
    """Present entries that changed, before and after."""
    was, now = outcome.before.ptes, outcome.after.ptes
    changed = (was != now) & (was & pte.PRESENT != 0)
    return was[changed], now[changed]


def _restored_without(bit, exactly: bool):
    """A test that entries which are present before and after do not lose (or, exactly, do not change) a bit."""

    def test(outcome: UnmapOutcome) -> bool:
        was, now = _changed(outcome)
        still = (now & pte.PRESENT) != 0
        differs = (was ^ now) if exactly else was & ~now
        return not np.any(differs[still] & bit)

    return test


def _uffd_wp_kept(outcome: UnmapOutcome) -> bool:
    was, now = _changed(outcome)
    restored = (now & pte.PRESENT) != 0
    if np.any((was ^ now)[restored] & pte.UFFD_WP):
        return False
    flags = int(outcome.before.vma_flags[0])
    if flags & VmaFlag.ANON or not flags & VmaFlag.UFFD_WP:
        return True
    return not np.any((was & pte.UFFD_WP != 0) & (now == pte.NONE))


def _dirty_kept(outcome: UnmapOutcome) -> bool:
    was, now = _changed(outcome)
    mapped = _maps(outcome, was) >= 0
    gone = (now & pte.PRESENT) == 0
    dirty = (was & pte.DIRTY) != 0
    if np.any(dirty & ~gone & ((now & pte.DIRTY) == 0)):
        return False
    return not np.any(dirty & gone & mapped) or bool(outcome.after.folio_flags[0] & FolioFlag.DIRTY)


def _flushed(outcome: UnmapOutcome) -> bool:
    first = int(outcome.before.vma_window_start[0])
    flushed = {
        vpn + i for kind, vpn, nr in outcome.call.trace if kind in ("tlb_deferred", "tlb_immediate") for i in range(nr)
    }
    was, now = outcome.before.ptes, outcome.after.ptes
    gone = np.flatnonzero((was & pte.PRESENT != 0) & (now & pte.PRESENT == 0))
    return all(first + int(i) in flushed for i in gone)


def _notified(outcome: UnmapOutcome) -> bool:
    ranges = [(start, end) for kind, start, end in outcome.call.trace if kind == "notifier"]
    return all(ranges[0][0] <= vpn and vpn + nr <= ranges[0][1] for vpn, nr in _steps(outcome))


def _mlock_earned(outcome: UnmapOutcome) -> bool:
    if not outcome.call.events["mlock_calls"]:
        return True
    before = outcome.before
    window, per_table = int(before.vma_window_start[0]), before.ptrs_per_pte
    start, end = next((start, end) for kind, start, end in outcome.call.trace if kind == "notifier")  # the walk's range
    table_end = min(end, (start // per_table + 1) * per_table)
    seen = np.count_nonzero(_maps(outcome, before.ptes[start - window : table_end - window]) >= 0)
    return seen == 1 << int(before.folio_order[0])


_TESTS = {
    "accounting": _accounting,
    "slot-once": _slot_once,
    "forward": _forward,
    "out-of-bounds": _in_bounds,
    "uffd-wp-lost": _uffd_wp_kept,
    "restore-write": _restored_without(pte.WRITE, True),
    "restore-soft-dirty": _restored_without(pte.SOFT_DIRTY, False),
    "restore-young": _restored_without(pte.YOUNG, False),
    "dirty-lost": _dirty_kept,
    "tlb-flush": _flushed,
    "notifier": _notified,
    "mlock": _mlock_earned,
}

_REPRESENTATION = FolioFlag.PAGE_MAPCOUNTS | FolioFlag.PAGE_FLAGS | FolioFlag.EXCLUSIVE
# A batch does not leave a folio partially mapped on its way: queueing for a deferred split is no part of the result.
_QUEUED = FolioFlag.PARTIALLY_MAPPED


def _compare(oracle: UnmapOutcome, outcome: UnmapOutcome) -> set[str]:
    """The final state against the oracle's; after an abort two differences are documented."""
    one, other = oracle.after, outcome.after
    one_flags = int(one.folio_flags[0]) & ~(_REPRESENTATION | _QUEUED)
    other_flags = int(other.folio_flags[0]) & ~(_REPRESENTATION | _QUEUED)
    same_counts = (
        one.folio_refcount[0] == other.folio_refcount[0]
        and one.folio_mapcount[0] == other.folio_mapcount[0]
        and np.array_equal(one.page_mapcounts(0), other.page_mapcounts(0))
        and np.array_equal(_page_flags(one), _page_flags(other))
        and np.array_equal(one.mm_rss, other.mm_rss)
    )
    same_ptes = np.array_equal(one.ptes, other.ptes)
    if same_ptes and same_counts and one_flags == other_flags and oracle.ret == outcome.ret:
        return set()
    if oracle.ret or outcome.ret:
        return {"final-state"}
    present = (one.ptes & pte.PRESENT) != 0
    if not np.array_equal(present, (other.ptes & pte.PRESENT) != 0):
        return {"abort-left-mapped"}
    wider = pte.DIRTY | pte.YOUNG | pte.SOFT_DIRTY
    differ = one.ptes ^ other.ptes
    only_wider = not np.any(differ & ~wider) and not np.any(one.ptes & ~other.ptes) and np.all(present[differ != 0])
    # A batch that finds a dirty entry behind a clean one makes the folio dirty, and so swapbacked, one step earlier.
    dirtied = FolioFlag.DIRTY | FolioFlag.SWAPBACKED if other_flags & FolioFlag.DIRTY else 0
    same_folio = same_counts and not (one_flags ^ other_flags) & ~dirtied and not one_flags & ~other_flags & dirtied
    return {"abort-widened"} if only_wider and same_folio else {"final-state"}


# --- beyond the bound: random larger cases, mutations of captures -----------------------------------------------------

_BITS = ("write", "young", "dirty", "soft_dirty", "uffd_wp")
_KINDS = {
    "file": 0,
    "lazyfree": FolioFlag.ANON,
    "anon": FolioFlag.ANON | FolioFlag.SWAPBACKED | FolioFlag.SWAPCACHE | FolioFlag.DIRTY,
}
_RECLAIM_TTU = _core.TTU_FLAGS["BATCH_FLUSH"] | _core.TTU_FLAGS["SYNC"]


def _consistent_state(rng, words, first_vpn, per_table, vma, flags, order, pfn, guard="none") -> dict:
    """A state whose mapcounts and references go with its entries; sometimes somebody else holds the folio too."""
    pages = 1 << order
    mapped = pte.pfn(words).astype(np.int64) - pfn
    counts = np.bincount(mapped[pte.maps_page(words) & (mapped >= 0) & (mapped < pages)], minlength=pages)
    anon, swapbacked = flags & FolioFlag.ANON, flags & FolioFlag.SWAPBACKED
    cached = not anon or flags & FolioFlag.SWAPCACHE
    exclusive = rng.random(pages) < (0.9 if anon and swapbacked else 0)
    return {
        "ptes": words.tolist(),
        "first_vpn": first_vpn,
        "ptrs_per_pte": per_table,
        "vma": vma,
        "folio_flags": flags,
        "order": order,
        "refcount": 1 + int(counts.sum()) + (pages if cached else 0) + int(rng.random() < 0.1),
        "page_mapcount": counts.tolist(),
        "page_flags": exclusive.astype(np.uint8) * PageFlag.EXCLUSIVE,
        "ttu": _RECLAIM_TTU,
        "guard": guard,
    }


def _mutate(rng, words, slots, anon: bool, uffd_wp: bool, rate: float) -> None:
    """Flip bits of some entries, zap some, and put a device entry in the place of some anonymous ones."""
    bits = [getattr(pte, name.upper()) for name in (_BITS if uffd_wp else _BITS[:-1])]
    for slot in slots[rng.random(len(slots)) < rate]:
        what = rng.random()
        if what < 0.7 and words[slot] & pte.PRESENT:
            words[slot] ^= rng.choice(bits)
        elif what < 0.9 or not anon or not words[slot] & pte.PRESENT:
            words[slot] = 0
        else:
            words[slot] = pte.make("device_exclusive", int(pte.pfn(words[slot])))


def random_cases(seed: int, number: int):
    """Yield seeded cases of folios of 8 to 64 pages, across page-table and VMA borders; a pure function of the seed."""
    per_table = 64
    for count in range(number):
        rng = np.random.default_rng([seed, count])
        order = int(rng.integers(3, 7))
        pages, kind = 1 << order, str(rng.choice(list(_KINDS)))
        uffd_wp = bool(rng.random() < 0.3)
        linear = 2 * per_table - int(rng.integers(0, pages + 1))
        first, end = sorted(rng.choice(pages + 1, 2, replace=False).tolist()) if rng.random() < 0.3 else (0, pages)
        names = [name for name in _BITS[: 5 if uffd_wp else 4] if rng.random() < 0.5]
        words = np.zeros(2 * per_table, np.uint64)
        at = linear - per_table
        word = int(pte.make("present", _FOLIO_PFN, names))
        words[at : at + pages] = np.uint64(word) + (np.arange(pages, dtype=np.uint64) << pte.PFN_SHIFT)
        _mutate(rng, words, np.arange(at, at + pages), kind != "file", uffd_wp, float(rng.choice([0.02, 0.1, 0.5])))
        vma_flags = (VmaFlag.ANON if kind != "file" else 0) | (VmaFlag.UFFD_WP if uffd_wp else 0)
        vma = (linear + first, linear + end, _FOLIO_INDEX + first, vma_flags)
        guard = "contiguous" if rng.random() < 0.5 else "none"
        yield case_of_state(
            _consistent_state(rng, words, per_table, per_table, vma, _KINDS[kind], order, _FOLIO_PFN, guard)
        )


def capture_cases(population, seed: int, number: int):
    """Yield mutations of the large folios that a population maps: a folio in a VMA, with some bits flipped."""
    large = np.flatnonzero((population.folio_order > 0) & (population.folio_mapcount > 0))
    if not len(large):
        raise ValueError("capture: it maps no large folio, so there is nothing that a policy could batch")
    per_table = population.ptrs_per_pte
    for count in range(number):
        rng = np.random.default_rng([seed, count])
        folio = int(rng.choice(large))
        pairs = population.rmap(folio)
        vma, vpn = pairs[int(rng.integers(len(pairs)))]
        order, pfn = int(population.folio_order[folio]), int(population.folio_pfn[folio])
        start, end = int(population.vma_start[vma]), int(population.vma_end[vma])
        low = vpn // per_table * per_table
        high = -(-min(vpn + (1 << order), end) // per_table) * per_table
        cut_start, cut_end = max(start, low), min(end, high)
        base = int(population.vma_pte_base[vma]) - start
        words = np.zeros(high - low, np.uint64)
        words[cut_start - low : cut_end - low] = population.ptes[base + cut_start : base + cut_end]
        words[(words & pte.PRESENT) != 0] &= ~pte.CONT
        flags = int(population.folio_flags[folio]) & sum(FOLIO_FLAGS.values()) & ~FolioFlag.MLOCKED
        if flags & FolioFlag.ANON and flags & FolioFlag.SWAPBACKED:
            flags |= FolioFlag.SWAPCACHE
        vma_flags = int(population.vma_flags[vma])
        slots = np.arange(vpn - low, min(vpn + (1 << order), cut_end) - low)
        _mutate(
            rng,
            words,
            slots,
            bool(flags & FolioFlag.ANON),
            bool(vma_flags & VmaFlag.UFFD_WP),
            float(rng.choice([0.0, 0.02, 0.2])),
        )
        pgoff = int(population.vma_pgoff[vma]) + cut_start - start
        state = _consistent_state(rng, words, low, per_table, (cut_start, cut_end, pgoff, vma_flags), flags, order, pfn)
        case = case_of_state(state)
        case["folio"] |= {"pfn": pfn, "index": int(population.folio_index[folio]), "swap_offset": 1 << 20}
        yield case
