"""The package against what a user would write instead (peers.py): the same unmap, the same state, the same counts."""

import numpy as np
import pytest

import rmapfast as rf
from bench.conftest import MIX, groups_of, table_groups
from bench.peers import PEERS
from rmapfast import _core, arch, policy
from rmapfast.flags import FolioFlag

EVERYTHING = 1 << 62
RUN_WITH = policy.get("v7.0"), arch.get("x86-64")

BITS = {
    "whole": {},
    "holes": {"holes": 0.1},
    "every third": {"holes": "every:3"},
    "mapped in part": {"mapped": 0.7},
    "write": {"write": 0.02, "soft_dirty": 0.02},
    "dirty": {"dirty": 0.003, "folio_dirty": 0.1, "holes": 0.01},
}


def unmap_package(population, folios, group_start):
    run = _core.Run(population, *RUN_WITH, fast=True)
    run.shrink_groups(folios, group_start, 0, EVERYTHING)
    return run


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("orders", [0, 2, 4, 9, MIX])
@pytest.mark.parametrize("grouping", ["whole folios", "all folios"])
def test_peer_is_exact(peer, bits, orders, grouping):
    """In groups of all folios there are those with holes, and those that nothing maps."""
    population = rf.Population.synthetic("16MiB", orders=orders, **BITS[bits])
    if grouping == "whole folios":
        population, folios, group_start = table_groups(population)
    else:
        folios = np.arange(population.nr_folios, dtype=np.uint32)
        tables = population.folio_index // np.uint64(512)
        group_start = np.append(np.flatnonzero(np.diff(tables, prepend=tables[:1] - 1)), len(folios)).astype(np.uint64)
    population.folio_refcount[::50] += 1
    population.folio_flags[::7] |= np.uint32(FolioFlag.ACTIVE | FolioFlag.REFERENCED)
    expected, got = population.copy(), population.copy()
    run = unmap_package(expected, folios, group_start)
    outcome = PEERS[peer](got, folios, group_start)
    counts = {name: (int(a), int(b)) for name, a, b in zip(rf.EVENT_NAMES, run.events, outcome.events, strict=True)}
    assert {name: pair for name, pair in counts.items() if pair[0] != pair[1]} == {}
    assert outcome.batch_lengths == run.batch_lengths
    for name in ("ptes", "folio_mapcount", "folio_refcount", "folio_nr_pages_mapped", "folio_flags", "mm_rss"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name), name)


# Plain Python unmaps the first 1% only; its time is scaled. The package comes last: its row has the ratios.
PYTHON_SHARE = 100


@pytest.mark.parametrize("orders", ["0", "2", "4", "9", MIX])
@pytest.mark.parametrize("by", [*PEERS, "package"])
def test_unmap_8_of_10_gib(benchmark, record, population, orders, by):
    benchmark.group = f"unmap 8 of 10 GiB, orders {orders}"
    original, folios, group_start = groups_of(population("10GiB", orders), 8 << 30)
    scale = PYTHON_SHARE if by == "python" else 1
    group_start = group_start[: (len(group_start) - 1) // scale + 1]
    folios = folios[: int(group_start[-1])]

    def setup():
        fresh = original.copy()
        if by == "package":
            return (_core.Run(fresh, *RUN_WITH, fast=True), folios, group_start, 0, EVERYTHING), {}
        return (fresh, folios, group_start), {}

    unmap = _core.Run.shrink_groups if by == "package" else PEERS[by]
    benchmark.pedantic(unmap, setup=setup, rounds=3 if scale > 1 else 9, warmup_rounds=1)
    pages = int((1 << original.folio_order[folios].astype(np.int64)).sum())
    more = {"measured_share": 1 / scale} if scale > 1 else {}
    record(pages, original.ptes.nbytes, by=by, case=orders, **more)
