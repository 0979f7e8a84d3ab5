"""docs/howto-policy.md from end to end: a policy in ten lines, its counterexample, the fix, and what it saves."""

import rmapfast as rf
from rmapfast.verify import case_drawing


def unclipped(folio, vma, walk, pte):
    """Batch file folios up to the end of the folio."""
    if folio.anon or folio.nr_pages == 1 or vma.uffd_wp or pte.unused or "HWPOISON" in walk.ttu:
        return 1
    return walk.batch(folio.nr_pages)


def clipped(folio, vma, walk, pte):
    """Batch file folios up to the end of the folio, the page table and the VMA."""
    if folio.anon or folio.nr_pages == 1 or vma.uffd_wp or pte.unused or "HWPOISON" in walk.ttu:
        return 1
    return walk.batch(min(folio.nr_pages, walk.room()))


def whole_from_16(folio, vma, walk, pte):
    """Batch a whole file folio from its first page on; wrong in large folios only."""
    if folio.anon or vma.uffd_wp or pte.unused or "HWPOISON" in walk.ttu or folio.page(pte) or folio.nr_pages < 16:
        return 1
    nr = walk.batch(folio.nr_pages)
    return nr if nr >= 16 else 1


def main(budget: float = 20.0) -> None:
    """Check all, draw what the first does wrong, and count what the second saves."""
    wrong = rf.check(unclipped, budget=budget)
    print(wrong)
    print()
    print(case_drawing(wrong.policies[0].violations[0].example, unclipped))
    print()
    print(rf.check(clipped, budget=budget))
    print()
    print(rf.check(whole_from_16, budget=budget))
    population = rf.Population.synthetic("4MiB", orders=4)
    for policy in ("per-page", clipped):
        print(rf.reclaim(population, "3MiB", policy=policy))


if __name__ == "__main__":
    main()
