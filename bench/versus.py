"""The unmap of irregular populations by the package and by tuned Numba, in turn, least against least.

Beside each case stands the limit: one pass that loads each of its entries and stores 0 in its place, in the same turns.
"""

import argparse
import time

import numpy as np

import rmapfast as rf
from bench import limits
from bench.cases import MIX
from bench.peers import PEERS
from bench.peers_general import unmap_general
from rmapfast import _core, arch, policy

BITS = {
    "regular": {},
    "PFNs permuted": {},
    "holes .01": {"holes": 0.01},
    "young .5": {"young": 0.5},
    "sharing 2": {"sharing": 2},
    "all three": {"holes": 0.01, "young": 0.5, "sharing": 2},
}
EVERYTHING = 1 << 62
SAME = ("ptes", "folio_mapcount", "folio_refcount", "folio_nr_pages_mapped", "folio_flags", "mm_rss")


def permute_frames(population) -> None:
    """Give folios of the same order each other's frames, at random."""
    rng = np.random.default_rng(0)
    for order in np.unique(population.folio_order).tolist():
        folios = np.flatnonzero(population.folio_order == order)
        moved = rng.permutation(folios)
        shift = (population.folio_pfn[moved] - population.folio_pfn[folios]) << np.uint64(12)
        slots = (population.folio_index[folios] - population.vma_pgoff[0]).astype(np.int64)
        for page in range(1 << order):
            population.ptes[slots + page] += shift
        population.folio_pfn[folios] = population.folio_pfn[moved]


def made(size: str, orders: str, bits: str):
    """A population of one mapping, all its folios, and where the group of each table begins."""
    population = rf.Population.synthetic(size, orders=orders, **BITS[bits])
    if bits == "PFNs permuted":
        population.folio_pfn = population.folio_pfn.copy()
        permute_frames(population)
    folios = np.arange(population.nr_folios, dtype=np.uint32)
    tables = population.folio_index // np.uint64(population.ptrs_per_pte)
    starts = np.flatnonzero(np.diff(tables, prepend=tables[:1] - 1))
    return population, folios, np.append(starts, len(folios)).astype(np.uint64)


def package(population):
    """The unmap by the package, as a function of the folios and their groups."""
    run = _core.Run(population, policy.get("v7.0"), arch.get("x86-64"), fast=True)

    def unmap(folios, group_start):
        run.shrink_groups(folios, group_start, 0, EVERYTHING)
        return dict(zip(rf.EVENT_NAMES, run.events.tolist(), strict=True)), run.batch_lengths

    return unmap


def peers_of(bits: str) -> dict:
    """Who can do the same, by name, each as a function of a population that gives what :func:`package` gives."""
    general = {"numba general": lambda population: lambda *groups: unmap_general(population, *groups)}
    if bits in ("sharing 2", "all three"):
        return general
    whole = {
        f"{name}{' regular' if name == 'numba' else ''}": lambda population, unmap=unmap: (
            lambda *groups: unmap(population, *groups)
        )
        for name, unmap in PEERS.items()
        if name != "python"
    }
    return general | whole


def check(case, bits: str) -> None:
    """Raise AssertionError unless everybody leaves the same state, and the general peer counts the same."""
    original, folios, group_start = case
    expected = original.copy()
    events, lengths = package(expected)(folios, group_start)
    for name, peer in peers_of(bits).items():
        got = original.copy()
        outcome = peer(got)(folios, group_start)
        for array in SAME:
            assert np.array_equal(getattr(expected, array), getattr(got, array)), (name, array)
        if name == "numba general":
            counted, steps = outcome
            assert counted == {event: events[event] for event in counted} and steps == lengths, name


def measure(case, bits: str, rounds: int) -> dict[str, float]:
    """Least seconds of everybody, and of the limit."""
    original, folios, group_start = case
    who = {"package": package} | peers_of(bits)
    best = dict.fromkeys([*who, "limit"], float("inf"))
    words = np.ones(len(original.ptes), np.uint64)
    for _ in range(rounds):
        for name, of in who.items():
            unmap = of(original.copy())
            start = time.perf_counter()
            unmap(folios, group_start)
            best[name] = min(best[name], time.perf_counter() - start)
        start = time.perf_counter()
        limits.read_clear(words)
        best["limit"] = min(best["limit"], time.perf_counter() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="1GiB")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    names = "numba general", "numba regular", "numpy"
    print(f"{'orders':<16} {'bits':<14} {'ms':>8} {'MPTE/s':>8} {'of limit':>9}  times " + ", ".join(names))
    for orders in ("0", "4", MIX):
        for bits in BITS:
            check(made("8MiB", orders, bits), bits)
            case = made(arguments.size, orders, bits)
            best = measure(case, bits, arguments.rounds)
            seconds, ptes = best["package"], int(np.count_nonzero(case[0].ptes))
            line = f"{orders:<16} {bits:<14} {seconds * 1e3:>8.2f} {ptes / seconds / 1e6:>8.0f}"
            line += f" {best['limit'] / seconds:>9.3f} "
            print(line + "".join(f" {best[name] / seconds:>6.2f}" if name in best else "      -" for name in names))
    print("times: above 1 the package is faster")


if __name__ == "__main__":
    main()
