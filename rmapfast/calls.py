"""Single calls: one kernel function on arrays, for experiments."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

import rmapfast._core as _core
from rmapfast import arch as _arch
from rmapfast import policy as _policy
from rmapfast.arch import Arch
from rmapfast.events import Call, Events
from rmapfast.policy import Policy
from rmapfast.population import Population
from rmapfast.support import checked_boolean, checked_choice, checked_integer, flag_mask, shown


def folio_pte_batch(
    ptes: npt.NDArray[np.uint64],
    start: int = 0,
    *,
    folio_pfn: int,
    folio_pages: int,
    max_nr: int | None = None,
    flags: Iterable[str] = (),
    cont_ptes: int = 1,
) -> int:
    """Return how many entries from `start` on map consecutive pages of one folio with the same bits.

    Models ``folio_pte_batch_flags()``, mm/internal.h, Linux v7.0.

    Parameters
    ----------
    ptes : ndarray of uint64, shape (n,), C-contiguous
        One page table (:mod:`rmapfast.pte` makes words); it is not changed.
    start : int
        Index of the first entry, which must be present and map a page of the folio.
    folio_pfn, folio_pages : int
        PFN of the folio's first page, and its pages (1 to 8192).
    max_nr : int, optional
        Limit in entries; by default the end of the array.
    flags : iterable of str
        Out of RESPECT_DIRTY, RESPECT_SOFT_DIRTY, RESPECT_WRITE (these bits must match too).
    cont_ptes : int
        Entries of a contpte block, 1 without.

    Returns
    -------
    int
        nr, from 1 to `max_nr`.

    Raises
    ------
    TypeError, ValueError
        For an array of another dtype or layout, and for arguments out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from rmapfast import pte
    >>> ptes = np.array([pte.make("present", 64 + page) for page in range(16)])
    >>> folio_pte_batch(ptes, 3, folio_pfn=64, folio_pages=8)
    5
    """
    if type(ptes) is not np.ndarray:
        raise TypeError(f"ptes: expected a NumPy array of uint64, got {type(ptes).__name__}")
    start = checked_integer("start", start, 0, ptes.size - 1)
    if max_nr is None:
        max_nr = ptes.size - start
    mask = flag_mask("flags", flags, _core.FPB_FLAGS)
    max_nr, folio_pfn, folio_pages, cont_ptes = (
        checked_integer(name, value, 0, (1 << 32) - 1)
        for name, value in (
            ("max_nr", max_nr),
            ("folio_pfn", folio_pfn),
            ("folio_pages", folio_pages),
            ("cont_ptes", cont_ptes),
        )
    )
    return _core.folio_pte_batch_flags(ptes, start, max_nr, folio_pfn, folio_pages, mask, cont_ptes, True)[0]


def _check_call(population: Population, folio: int, vma: int) -> None:
    """Check the types of what a call is about; the library checks the arrays, and that there are such indices."""
    if not isinstance(population, Population):
        raise TypeError(f"population: expected a Population, got {shown(population)}")
    for name, number in (("folio", folio), ("vma", vma)):
        if not isinstance(number, int | np.integer):
            raise TypeError(f"{name}: expected the number of a {name}, got {shown(number)}")
        if abs(int(number)) >= 1 << 31:
            raise ValueError(f"{name}: expected 0 to the last {name}, got {shown(number)}")


def _call(run: _core.Run, ret: bool, mapcount_left: int = 0, referenced: int = 0, vm_flags: int = 0) -> Call:
    return Call(
        ret=ret,
        events=Events(run.events),
        batch_lengths=run.batch_lengths,
        trace=[(_core.TRACE_KINDS[kind], a, b) for kind, a, b in run.trace_entries],
        writable=run.writable,
        mapped_stat=run.mapped_stat,
        mapcount_left=mapcount_left,
        referenced=referenced,
        vm_flags=vm_flags,
    )


def _check_mapped(call: Call, folio: int, vma: int) -> Call:
    if not call.events["walk_calls"]:
        raise ValueError(f"vma: VMA {vma} does not map folio {folio}; population.rmap(folio) lists those that may")
    return call


def page_vma_mapped_walk(
    population: Population,
    folio: int,
    vma: int,
    *,
    arch: str | Arch = "x86-64",
    sync: bool = False,
    migration: bool = False,
) -> Call:
    """Walk the entries of one VMA that map pages of one folio, to the end.

    Models ``page_vma_mapped_walk()``, mm/page_vma_mapped.c, Linux v7.0.

    Parameters
    ----------
    population : Population
        Not changed.
    folio, vma : int
        Indices into the population.
    arch : str or Arch
        Its table size must be the population's.
    sync, migration : bool
        PVMW_SYNC (lock before the first look), PVMW_MIGRATION (find migration entries).

    Returns
    -------
    Call
        ``trace`` holds a ``("yield", vpn, 0)`` for each entry found, ``ret`` is whether there was one.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range, and for arrays that do not fit together; the message names what.

    Examples
    --------
    >>> from rmapfast import Population
    >>> call = page_vma_mapped_walk(Population.synthetic("64KiB", orders=4), 0, 0)
    >>> call.ret, len(call.trace)
    (True, 16)
    """
    _check_call(population, folio, vma)
    for name, flag in (("sync", sync), ("migration", migration)):
        checked_boolean(name, flag)
    run = _core.Run(population, _policy.get("per-page"), _arch.get(arch), trace=True)
    run.page_vma_mapped_walk(folio, vma, sync=sync, migration=migration)
    return _call(run, bool(run.trace_entries))


def try_to_unmap_one(
    population: Population,
    folio: int,
    vma: int,
    *,
    policy: str | Policy = "v7.0",
    arch: str | Arch = "x86-64",
    ttu: Iterable[str] = ("BATCH_FLUSH", "SYNC"),
    guard: str = "none",
) -> Call:
    """Unmap one folio from one VMA.

    Models ``try_to_unmap_one()``, mm/rmap.c, in the edition that the policy names.

    Parameters
    ----------
    population : Population
        Changed in place.
    folio, vma : int
        Indices into the population.
    policy : str or Policy
        A preset's name, or a policy.
    arch : str or Arch
        Its table size must be the population's.
    ttu : iterable of str
        Out of BATCH_FLUSH, SYNC, IGNORE_MLOCK, HWPOISON, SPLIT_HUGE_PMD.
    guard : {'none', 'contiguous'}
        What lies in memory behind each page table: zeros, or entries that continue its last one. Only an out-of-bounds
        scan (v6.15) sees it.

    Returns
    -------
    Call
        ``ret`` is False if the unmap was aborted or the VMA is locked.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range, a VMA that does not map the folio, and arrays that do not fit together; the message
        names what, and the population is left as it was.

    Examples
    --------
    >>> from rmapfast import Population
    >>> call = try_to_unmap_one(Population.synthetic("64KiB", orders=4), 0, 0)
    >>> call.ret, call.batch_lengths
    (True, {16: 1})
    """
    _check_call(population, folio, vma)
    checked_choice("guard", guard, ("none", "contiguous"))
    mask = flag_mask("ttu", ttu, _core.TTU_FLAGS)
    run = _core.Run(population, _policy.get(policy), _arch.get(arch), guard=guard, trace=True)
    ret = run.try_to_unmap_one(folio, vma, mask)
    return _check_mapped(_call(run, ret), folio, vma)


def folio_referenced_one(
    population: Population,
    folio: int,
    vma: int,
    *,
    policy: str | Policy = "v7.0",
    arch: str | Arch = "x86-64",
) -> Call:
    """Test and clear the young bits of one folio in one VMA.

    Models ``folio_referenced_one()``, mm/rmap.c, per page (v6.14) or batched (v7.0 to v7.3), as the policy says.

    Parameters
    ----------
    population : Population
        Changed in place (young bits).
    folio, vma : int
        Indices into the population.
    policy : str or Policy
        A preset's name, or a policy.
    arch : str or Arch
        Its table size must be the population's.

    Returns
    -------
    Call
        With ``mapcount_left``, ``referenced`` and ``vm_flags``.

    Raises
    ------
    TypeError, ValueError
        As :func:`try_to_unmap_one`.

    Examples
    --------
    >>> from rmapfast import Population
    >>> call = folio_referenced_one(Population.synthetic("64KiB", orders=4, young=1.0), 0, 0)
    >>> call.referenced, call.events["young_tests"]
    (1, 16)
    """
    _check_call(population, folio, vma)
    run = _core.Run(population, _policy.get(policy), _arch.get(arch), trace=True)
    ret, mapcount_left, referenced, vm_flags = run.folio_referenced_one(folio, vma)
    return _check_mapped(_call(run, ret, mapcount_left, referenced, vm_flags), folio, vma)
