"""The classic LRU as a model of its own: what a reclaim of equal clean file folios does to its two lists.

It is told from docs/kernel-rules.md, section 10, alone, so that tests need no figure that the package computed.
"""

from collections import deque
from dataclasses import dataclass, field


@dataclass
class ClassicModel:
    """Folios of one order, each mapped by one VMA; all the same at the start.

    `young` folios have young PTEs; `active` ones lie on the active list; `low` says that the statistics call for
    deactivation. ``reclaim()`` counts.
    """

    nr: int
    order: int
    young: bool = False
    active: bool = False
    low: bool = False
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self):
        self.queues = deque(), deque(range(self.nr))
        if not self.active:
            self.queues = self.queues[::-1]
        self.young_folios = set(range(self.nr)) if self.young else set()
        self.referenced = set()
        self.freed = []
        names = "isolations groups flushes active_passes passes rounds checks kept activated deactivated"
        self.counts = dict.fromkeys(names.split(), 0)

    def check(self, folio):
        """Return whether the folio was young, which it is not any more."""
        self.counts["checks"] += 1
        young = folio in self.young_folios
        self.young_folios.discard(folio)
        return young

    def take(self, queue, pages):
        """Take folios until so many pages are reached, which is tested before each."""
        folios = []
        while queue and len(folios) << self.order < pages:
            folios.append(queue.popleft())
        return folios

    def shrink_inactive(self, pages):
        inactive, active = self.queues
        folios = self.take(inactive, pages)
        freed = 0
        for folio in folios:
            if not self.check(folio):
                self.freed.append(folio)
                freed += 1
            elif folio in self.referenced:
                self.counts["activated"] += 1
                active.append(folio)
            else:
                self.counts["kept"] += 1
                self.referenced.add(folio)
                inactive.append(folio)
        self.counts["isolations"] += 1
        self.counts["groups"] += bool(folios)
        # the 31st freed folio empties the free batch and flushes; so does the end of each group
        self.counts["flushes"] += -(-freed // 31)
        return freed << self.order

    def shrink_active(self, pages):
        inactive, active = self.queues
        self.counts["active_passes"] += 1
        for folio in self.take(active, pages):
            self.check(folio)
            self.counts["deactivated"] += 1
            inactive.append(folio)

    def scan(self, request, forced):
        """One walk through the priorities; return the pages freed, and whether a deactivation was skipped."""
        freed, skipped = 0, False
        for priority in range(12, -1, -1):
            self.counts["passes"] += 1
            left = [len(queue) << self.order >> priority for queue in self.queues]
            of_pass = 0
            while any(left) and of_pass < request:
                turn = [min(pages, 32) for pages in left]
                left = [pages - taken for pages, taken in zip(left, turn, strict=True)]
                if turn[0]:
                    of_pass += self.shrink_inactive(turn[0])
                if turn[1] and (self.low or forced):
                    self.shrink_active(turn[1])
                elif turn[1]:
                    skipped = True
            freed += of_pass
            if freed >= request:
                break
        return freed, skipped

    def reclaim(self, target):
        """Reclaim so many pages; return the counts."""
        idle = 0
        while (done := len(self.freed) << self.order) < target and idle < 16:
            request = max((target - done) // 4, 32)
            self.counts["rounds"] += 1
            freed, skipped = self.scan(request, forced=False)
            if not freed:
                freed, again = self.scan(request, forced=False)
                skipped |= again
            if not freed and skipped:
                freed, _ = self.scan(request, forced=True)
            idle += not freed
        return self.counts
