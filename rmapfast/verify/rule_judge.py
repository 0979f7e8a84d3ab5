"""What one call of ``try_to_unmap_one`` does to a case, by the rules of docs/kernel-rules.md alone.

This is the absolute oracle of the checker, a second time: csrc/check_rules.c judges the states that C enumerates. It
calls neither engine, so a fault that all policies have in common shows against it. Steps such as S5 are those of
docs/kernel-rules.md, section 2.4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import rmapfast._core as _core
from rmapfast import pte as _pte
from rmapfast.arch import Arch
from rmapfast.events import Call
from rmapfast.flags import FolioFlag, PageFlag, VmaFlag
from rmapfast.policy import Policy
from rmapfast.population import Population
from rmapfast.verify.cases import page_flags

PRESENT, WRITE, YOUNG, DIRTY = (int(bit) for bit in (_pte.PRESENT, _pte.WRITE, _pte.YOUNG, _pte.DIRTY))
SOFT_DIRTY, UFFD_WP, UNUSED = int(_pte.SOFT_DIRTY), int(_pte.UFFD_WP), int(_pte.UNUSED)
CONT, EXCLUSIVE, MARKER = int(_pte.CONT), int(_pte.EXCLUSIVE), int(_pte.MARKER)
_USED = YOUNG | DIRTY
_SHIFT = int(_pte.PFN_SHIFT)
_NEXT_PAGE = 1 << _SHIFT
_DEVICES = tuple(_pte.KINDS.index(name) for name in ("device_exclusive", "device_private"))
# How the flags say that pages are stored; no part of what is compared.
_STORED = int(FolioFlag.PAGE_MAPCOUNTS | FolioFlag.PAGE_FLAGS | FolioFlag.EXCLUSIVE)
_FILE, _ANON, _SWAP, _SHMEM = range(4)

# The events that the rules are asked for.
EVENTS = (
    "mlock_calls",
    "munlock_calls",
    "markers_set",
    "folios_dirtied",
    "swap_dups",
    "swap_puts",
    "rmap_remove_calls",
    "ref_puts",
    "deferred_split_calls",
    "deferred_splits",
    "contpte_folds",
    "contpte_unfolds",
    "warns",
)
_FLUSHES = ("tlb_deferred", "tlb_immediate")


class _KnownBugError(Exception):
    """A known bug of the policy leads outside of the rules in this state."""


class Expected:
    """What the rules say of a case.

    Parameters
    ----------
    before : Population
        The case: one folio in one VMA.
    policy : Policy
        The rules of its edition hold.
    arch : Arch
        With the page tables of the case.
    ttu : iterable of str
    sizes : sequence of int, optional
        The sizes of the batches that a rule of the user took; by default the policy decides them.

    Attributes
    ----------
    known_bug : bool
        A known bug of the policy leads outside of the rules in this state: bug 1, a scan that leaves the page table or
        the VMA, or bug 4, a stale nr at a non-present entry. Nothing else is valid then.
    """

    def __init__(
        self, before: Population, policy: Policy, arch: Arch, ttu: Iterable[str], sizes: Sequence[int] | None = None
    ):
        self.policy, self.arch, self.ttu = policy, arch, frozenset(ttu)
        self.ptes: list[int] = before.ptes.tolist()
        self.window = int(before.vma_window_start[0])
        self.table, self.cont = before.ptrs_per_pte, arch.cont_ptes
        self.vma_end, self.vma_flags = int(before.vma_end[0]), int(before.vma_flags[0])
        self.pfn, self.pages = int(before.folio_pfn[0]), 1 << int(before.folio_order[0])
        self.flags, self.swap = int(before.folio_flags[0]) & ~_STORED, int(before.folio_swap[0])
        self.refcount, self.mapcounts = int(before.folio_refcount[0]), before.page_mapcounts(0).tolist()
        self.marks = page_flags(before).tolist()
        self.rss: list[int] = before.mm_rss[0].tolist()
        self.trace: list[tuple[str, int, int]] = []
        self.events: Counter[str] = Counter()
        self.mapped_stat, self.writable, self.ret, self.known_bug = 0, False, True, False
        self._sizes = None if sizes is None else iter(sizes)
        self._split_asked = False
        start, pgoff, index = int(before.vma_start[0]), int(before.vma_pgoff[0]), int(before.folio_index[0])
        first = start + max(index - pgoff, 0)
        last = min(start + index + self.pages - pgoff, self.vma_end)
        self.trace.append(("notifier", first, last))  # S0
        walked = range(first, last)
        if self.vma_flags & VmaFlag.LOCKED and "IGNORE_MLOCK" not in self.ttu:
            self._keep_locked(walked)
            return
        try:
            self._unmap(walked)
        except _KnownBugError:
            self.known_bug = True

    @property
    def anon(self) -> bool:
        """Whether the folio is anonymous."""
        return bool(self.flags & FolioFlag.ANON)

    @property
    def swapbacked(self) -> bool:
        """Whether the folio is swapbacked."""
        return bool(self.flags & FolioFlag.SWAPBACKED)

    def differences(self, after: Population, call: Call) -> set[str]:
        """Return the names of the invariants by what an unmap left and did otherwise."""
        if self.known_bug:
            return set()
        tlb = [step for step in call.trace if step[0] in _FLUSHES]
        expected_tlb = [step for step in self.trace if step[0] in _FLUSHES]
        same = {
            "rule-steps": [step for step in call.trace if step[0] not in _FLUSHES]
            == [step for step in self.trace if step[0] not in _FLUSHES],
            "rule-entries": after.ptes.tolist() == self.ptes,
            "rule-counters": after.mm_rss[0].tolist() == self.rss,
            "rule-folio": (
                call.ret == self.ret
                and int(after.folio_flags[0]) & ~_STORED == self.flags
                and int(after.folio_refcount[0]) == self.refcount
                and int(after.folio_mapcount[0]) == sum(self.mapcounts)
                # a folio of one page has no such field
                and (self.pages == 1 or int(after.folio_nr_pages_mapped[0]) == sum(map(bool, self.mapcounts)))
                and after.page_mapcounts(0).tolist() == self.mapcounts
                and page_flags(after).tolist() == self.marks
            ),
            "rule-tlb": tlb == expected_tlb and call.writable == self.writable,
            "rule-events": call.mapped_stat == self.mapped_stat
            and all(call.events[name] == self.events[name] for name in EVENTS),
        }
        return {name for name, holds in same.items() if not holds}

    # Entries, by virtual page number.

    def _get(self, vpn: int) -> int:
        return self.ptes[vpn - self.window]

    def _put(self, vpn: int, word: int) -> None:
        self.ptes[vpn - self.window] = word

    def _page(self, word: int) -> int:
        """Page of the folio that an entry maps, or -1."""
        page = (word >> _SHIFT) - self.pfn
        mapping = word & PRESENT or (word >> _core.KIND_SHIFT) & _core.KIND_MASK in _DEVICES
        return page if mapping and 0 <= page < self.pages else -1

    def _is_folded(self, vpn: int) -> bool:
        return bool(self._get(vpn) & PRESENT and self._get(vpn) & CONT)

    def _block(self, vpn: int) -> range:
        first = vpn - vpn % self.cont
        return range(first, first + self.cont)

    def _read(self, vpn: int) -> int:
        """Section 2.6: a folded entry has the young and dirty bits of its block."""
        word = self._get(vpn)
        if self._is_folded(vpn):
            for other in self._block(vpn):
                word |= self._get(other) & _USED
        return word

    def _unfold(self, vpn: int) -> None:
        """Section 2.6: a folded block is unfolded before a part of it changes."""
        if not self._is_folded(vpn):
            return
        used = self._read(vpn) & _USED
        for other in self._block(vpn):
            self._put(other, self._get(other) & ~CONT | used)
        self.events["contpte_unfolds"] += 1

    def _fold(self, block: range) -> bool:
        """Section 2.6: fold a block if it is one translation."""
        first = self._get(block.start)
        page = self._page(first)
        if not first & PRESENT or page < 0 or page + self.cont > self.pages or (first >> _SHIFT) % self.cont:
            return False
        if any((self._get(vpn) ^ (first + i * _NEXT_PAGE)) & ~_USED for i, vpn in enumerate(block)):
            return False
        for vpn in block:
            self._put(vpn, self._get(vpn) | CONT)
        self.events["contpte_folds"] += 1
        return True

    # Batches.

    def _room(self, vpn: int) -> int:
        return min((vpn // self.table + 1) * self.table, self.vma_end) - vpn

    def _batches(self, word: int, page: int) -> bool:
        """Section 1, the last column: whether the policy unmaps this entry in a batch at all."""
        policy = self.policy
        of_class = (policy.anon_swap if self.swapbacked else policy.lazyfree) if self.anon else policy.file
        return (
            of_class
            and self.pages > 1
            and "HWPOISON" not in self.ttu
            and not word & UNUSED
            and not (policy.all_or_nothing and page)
            and not (policy.uffd_wp == "per-page" and self.vma_flags & VmaFlag.UFFD_WP)
        )

    def _size(self, vpn: int, word: int, page: int) -> int:
        """Section 1 and 2.1: how many entries the step takes."""
        policy, inside = self.policy, self._room(vpn)
        if self._sizes is not None:
            nr = next(self._sizes, 1)
            if nr > inside:
                raise _KnownBugError
            return nr if 1 <= nr <= self.pages - page else 1
        if not self._batches(word, page):
            return 1
        ignored = YOUNG | DIRTY
        ignored |= 0 if policy.respect_soft_dirty else SOFT_DIRTY
        ignored |= 0 if policy.respect_write else WRITE
        nr = 1
        while nr < self.pages - page:
            if nr == inside and not policy.clip:
                raise _KnownBugError  # bug 1
            if nr == inside or (self._read(vpn + nr) ^ (word + nr * _NEXT_PAGE)) & ~ignored:
                break
            nr += 1
        if policy.all_or_nothing and nr != self.pages:
            return 1
        if self.anon and self.swapbacked:  # policy g: a batch is uniform in PageAnonExclusive
            marks = [mark & PageFlag.EXCLUSIVE for mark in self.marks[page : page + nr]]
            nr = next((i for i, mark in enumerate(marks) if mark != marks[0]), nr)
        return nr

    # Steps.

    def _keep_locked(self, walked: range) -> None:
        """S2: the entries stay; the folio is mlocked if all its pages were seen in one page table (bug 10)."""
        seen = [vpn for vpn in walked if self._page(self._get(vpn)) >= 0]
        if self.policy.mlock_at_once:
            seen = seen[:1]
        self.ret = not seen
        if len(seen) == self.pages and walked.start // self.table == seen[-1] // self.table:
            self.events["mlock_calls"] += 1
            self.flags |= FolioFlag.MLOCKED

    def _unmap(self, walked: range) -> None:
        """S4 to S9 for each entry that maps the folio."""
        last_nr = 1
        # the walk ends after a batch of so many entries or more
        enough = {"never": self.pages + 1, "batched": 2, "whole": self.pages}[self.policy.walk_done]
        for vpn in walked:
            word = self._read(vpn)
            page, nr = self._page(word), 1
            if page < 0:
                continue
            if word & PRESENT:
                nr = self._size(vpn, word, page)
                word = self._clear(vpn, nr)
                self.trace.append(("step", vpn, nr))
            else:
                if last_nr > 1 and not self.policy.nr_reset:  # S1, bug 4
                    raise _KnownBugError
                self._put(vpn, 0)
                self.trace.append(("step_nonpresent", vpn, 1))
            last_nr = nr
            self._place_markers(vpn, nr, word)
            if not self._account(vpn, nr, word, page):
                self.ret = False
                return
            self._discard(nr, page)
            if nr >= enough:
                return

    def _clear(self, vpn: int, nr: int) -> int:
        """S5: clear the entries, see that they are flushed, and keep what was dirty; return what the clear returns."""
        if vpn % self.cont or nr < self.cont:
            self._unfold(vpn)
        if (vpn + nr) % self.cont:
            self._unfold(vpn + nr - 1)
        word, later = self._get(vpn), 0
        for other in range(vpn + 1, vpn + nr):
            later |= self._get(other)
        word |= later & YOUNG
        if later & DIRTY:  # pte_mkdirty() of x86 sets soft-dirty too
            word |= DIRTY | (SOFT_DIRTY if self.arch.mkdirty_soft_dirty else 0)
        for other in range(vpn, vpn + nr):
            self._put(other, 0)
        # section 2.7: another CPU ran the mm of a case, so what can be deferred is
        defers = "BATCH_FLUSH" in self.ttu and self.arch.tlb != "none"
        self.trace.append(("tlb_deferred" if defers else "tlb_immediate", vpn, nr))
        if word & DIRTY:
            self.writable |= defers
            self.flags |= FolioFlag.DIRTY
            self.events["folios_dirtied"] += 1
        return word

    def _place_markers(self, vpn: int, nr: int, word: int) -> None:
        """S6: the entries of a file mapping that had the uffd bit become markers."""
        if self.vma_flags & VmaFlag.ANON or not self.vma_flags & VmaFlag.UFFD_WP or not word & UFFD_WP:
            return
        number = nr if self.policy.uffd_wp == "whole-batch" else 1
        self.events["markers_set"] += number
        for other in range(vpn, vpn + number):
            self._put(other, MARKER)

    def _restore(self, vpn: int, nr: int, word: int) -> None:
        """Section 2.4, "Restoration", and section 2.6: put the entries back, and fold them."""
        if word & PRESENT:
            word &= ~CONT
        for i in range(nr):
            self._put(vpn + i, word + i * _NEXT_PAGE)
        if self.cont == 1 or not word & PRESENT:
            return
        if nr == 1:  # only the last entry of a block has it folded
            if (vpn + 1) % self.cont == 0 and self._fold(self._block(vpn)):
                used = self._read(vpn) & _USED
                for other in self._block(vpn):
                    self._put(other, self._get(other) | used)
            return
        for first in range(-(-vpn // self.cont) * self.cont, vpn + nr - self.cont + 1, self.cont):
            self._fold(self._block(first))

    def _add_counter(self, nr: int) -> None:
        self.rss[_ANON if self.anon else _SHMEM if self.swapbacked else _FILE] += nr

    def _account(self, vpn: int, nr: int, word: int, page: int) -> bool:
        """S8; False if the call aborts."""
        poisoned = self.marks[0 if self.policy.hwpoison_page0 else page] & PageFlag.HWPOISON
        if "HWPOISON" in self.ttu and poisoned:  # 8a
            self._add_counter(-1)
            self._put(vpn, int(_pte.make("hwpoison", self.pfn + page)))
            return True
        if word & PRESENT and word & UNUSED and not self.vma_flags & (VmaFlag.UFFD_WP | VmaFlag.UFFD_ARMED):  # 8b
            self._add_counter(-1)
            return True
        if not self.anon:  # 8d
            self._add_counter(-nr)
            return True
        swapcache = bool(self.flags & FolioFlag.SWAPCACHE)
        if self.swapbacked != swapcache:  # 8c
            self.events["warns"] += 1
            if self.policy.mismatch_restores:
                self._restore(vpn, nr, word)
            return False
        return self._swap_out(vpn, nr, word, page) if swapcache else self._discard_lazyfree(vpn, nr, word)

    def _discard_lazyfree(self, vpn: int, nr: int, word: int) -> bool:
        """8c, lazyfree."""
        droppable = bool(self.vma_flags & VmaFlag.DROPPABLE)
        dirty = bool(self.flags & FolioFlag.DIRTY) and not droppable
        if not dirty and self.refcount == 1 + sum(self.mapcounts):
            self.rss[_ANON] -= nr
            return True
        self._restore(vpn, nr, word)
        if dirty or (self.policy.failure_swapbacked and not droppable):  # bug 7: up to v6.14 a reference was enough
            self.flags |= FolioFlag.SWAPBACKED
        return False

    def _swap_out(self, vpn: int, nr: int, word: int, page: int) -> bool:
        """8c, swapbacked."""
        pages = range(page, page + nr)
        exclusive = bool(self.marks[page] & PageFlag.EXCLUSIVE)
        self.events["swap_dups"] += 1
        fails = any(self.marks[number] & PageFlag.SWAP_DUP_FAIL for number in pages)
        if not fails and exclusive and self.flags & FolioFlag.PINNED:
            self.events["swap_puts"] += 1
            fails = True
        if fails:
            self._restore(vpn, nr, word)
            return False
        self.rss[_ANON] -= nr
        self.rss[_SWAP] += nr
        bits = word & (SOFT_DIRTY | UFFD_WP) | (EXCLUSIVE if exclusive else 0)
        for i, number in enumerate(pages):
            self.marks[number] &= ~int(PageFlag.EXCLUSIVE)
            self._put(vpn + i, int(_pte.make("swap", self.swap + number)) | bits)
        return True

    def _discard(self, nr: int, page: int) -> None:
        """S9."""
        self._remove_mappings(nr, page)
        self.events["rmap_remove_calls"] += 1
        if self.vma_flags & VmaFlag.LOCKED:
            self.events["munlock_calls"] += 1
            self.flags &= ~int(FolioFlag.MLOCKED)
        self.refcount -= nr
        self.events["ref_puts"] += 1

    def _remove_mappings(self, nr: int, page: int) -> None:
        """The mapped statistic, and whether the folio is queued for a deferred split (section 2.4)."""
        gone = 0
        for number in range(page, page + nr):
            self.mapcounts[number] -= 1
            gone += self.mapcounts[number] == 0
        if self.arch.page_mapcount or self.pages == 1:
            self.mapped_stat -= gone
            partial = bool(gone) and any(self.mapcounts)
        else:
            left = sum(self.mapcounts)
            self.mapped_stat -= 0 if left else self.pages
            partial = 0 < left < self.pages
        if self.pages == 1 or not partial or not self.anon or self.flags & FolioFlag.PARTIALLY_MAPPED:
            return
        self.events["deferred_split_calls"] += not self._split_asked
        self._split_asked = True
        if not self.flags & FolioFlag.SWAPCACHE and self.pages > 2:  # two pages have no room for the list
            self.flags |= FolioFlag.PARTIALLY_MAPPED
            self.events["deferred_splits"] += 1
