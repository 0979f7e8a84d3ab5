"""Architectures: the facts of the presets, what is refused, TOML files, settings, and closed forms of each preset."""

import dataclasses
import json
import math
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from classic_model import ClassicModel
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cost import vectors
from test_twins import assert_same_state

import rmapfast as rf
from rmapfast import _core, cost, pte
from rmapfast.arch import PRESETS, Arch, configured, get, load
from rmapfast.cli import main
from rmapfast.events import COMPONENTS
from rmapfast.flags import TableState
from rmapfast.layout import DEFAULT_CPUMASK
from rmapfast.policy import get as get_policy

KIB, MIB = 1 << 10, 1 << 20

# docs/kernel-rules.md, section 3, as printed there: page, PTEs per table, PMD size, contiguous block, deferral.
FACTS = {
    "x86-64": (4 * KIB, 512, 2 * MIB, None, "only if other CPUs in cpumask"),
    "arm64-4k": (4 * KIB, 512, 2 * MIB, 64 * KIB, "always"),
    "arm64-16k": (16 * KIB, 2048, 32 * MIB, 2 * MIB, "always"),
    "arm64-64k": (64 * KIB, 8192, 512 * MIB, 2 * MIB, "always"),
    "riscv64": (4 * KIB, 512, 2 * MIB, None, "always"),
    "riscv64-svnapot": (4 * KIB, 512, 2 * MIB, 64 * KIB, "always"),
    "s390x": (4 * KIB, 256, 1 * MIB, None, "no"),
    "ppc64-64k": (64 * KIB, 32, 2 * MIB, None, "no"),
}
ARM = [name for name in FACTS if name.startswith("arm64")]


def pmd_order(arch):
    return get(arch).ptrs_per_pte.bit_length() - 1


def one_folio(arch, order, kind="file", **options):
    """One folio, mapped once by one VMA of its size."""
    arch = get(arch)
    return rf.Population.synthetic(arch.page_size << order, arch=arch, orders=order, kind=kind, **options)


def unmapped(population, arch, policy="v7.0", ttu=("BATCH_FLUSH", "SYNC")):
    return rf.try_to_unmap_one(population, 0, 0, policy=policy, arch=arch, ttu=ttu).events


# Facts


def test_every_preset_has_its_facts():
    assert set(PRESETS) == set(FACTS)
    assert all(name == arch.name for name, arch in PRESETS.items())


@pytest.mark.parametrize("name", FACTS)
def test_sizes(name):
    page, entries, pmd, block, _ = FACTS[name]
    arch = get(name)
    assert (arch.page_size, arch.ptrs_per_pte) == (page, entries)
    assert arch.page_size * arch.ptrs_per_pte == pmd
    assert arch.page_size * arch.cont_ptes == (block or page)
    assert arch.ptrs_per_pte * 8 <= arch.page_size


@pytest.mark.parametrize("name", FACTS)
def test_deferral(name):
    """CPU 0 reclaims; masks are of the CPUs that run the process."""
    rule = FACTS[name][-1]
    for cpumask in (0, 1, 2, 3, 1 << 63, (1 << 64) - 1):
        population = one_folio(name, 4)
        population.mm_cpumask[:] = np.uint64(cpumask)
        deferred = rule == "always" or (rule != "no" and cpumask & ~1 != 0)
        events = unmapped(population.copy(), name)
        assert (events["tlb_deferred"], events["tlb_immediate"]) == (deferred, not deferred)
        # Without BATCH_FLUSH never.
        events = unmapped(population, name, ttu=("SYNC",))
        assert (events["tlb_deferred"], events["tlb_immediate"]) == (0, 1)


def test_max_dvm_ops():
    """MAX_DVM_OPS = PTEs per table: one page less takes a TLBI each, as many one TLBI for the whole ASID."""
    for name, limit in (("arm64-4k", 512), ("arm64-16k", 2048), ("arm64-64k", 8192)):
        arch = get(name).replace(range_tlbi=False)
        assert arch.max_dvm_ops == limit == arch.ptrs_per_pte
        order = pmd_order(arch)
        assert unmapped(one_folio(arch, order), arch)["tlbi_ops"] == 1
        assert unmapped(one_folio(arch, order - 1), arch)["tlbi_ops"] == limit // 2


@pytest.mark.parametrize(("name", "ceiling"), [("x86-64", 33), ("riscv64", 64)])
def test_flush_ceiling(name, ceiling):
    assert get(name).flush_ceiling == ceiling
    words = np.array([pte.make("present", 128 + page, []) for page in range(128)], np.uint64)
    for pages in (1, ceiling - 1, ceiling, ceiling + 1, 128):
        population = rf.Population.from_arrays(words[:pages], folio_pfn=128, folio_order=7, arch=name)
        population.mm_cpumask[:] = 1
        events = unmapped(population, name, ttu=("SYNC",))
        assert events["tlb_immediate"] == 1 and events["ipis"] == 0
        assert events["tlbi_ops"] == (pages if pages <= ceiling else 1)


def test_what_only_one_architecture_has():
    assert {name for name, arch in PRESETS.items() if arch.mkdirty_soft_dirty} == {"x86-64"}
    assert {name for name, arch in PRESETS.items() if arch.range_tlbi} == set(ARM)
    assert not any(arch.bbml2_noabort or arch.invlpgb for arch in PRESETS.values())
    assert all(arch.page_mapcount for arch in PRESETS.values())


@pytest.mark.parametrize("name", FACTS)
def test_presets_have_costs_of_their_own(name):
    assert get(name).costs == name
    assert get(name).cost_vector.arch == name and get(name).cost_vector.unit == "ns"


# Each preset runs


@pytest.mark.parametrize("kind", ["file", "lazyfree", "anon", "shmem"])
@pytest.mark.parametrize("name", FACTS)
def test_both_engines_agree_up_to_the_largest_folio(name, kind):
    """Folios of every size up to two page tables, or MAX_ORDER, in odd places."""
    arch = get(name)
    top = min(pmd_order(arch) + 1, 9)
    orders = f"0:5,1:5,{top // 2}:20,{top - 1}:30,{top}:40"

    def run(engine, policy):
        population = rf.Population.synthetic(
            arch.page_size << (top + 1),
            arch=arch,
            kind=kind,
            orders=orders,
            phase=5,
            holes=0.01,
            sharing=2,
            young=0.5,
            dirty=0.02,
            write=0.5,
            seed=3,
        )
        return rf.reclaim(population, arch.page_size << top, policy=policy, arch=arch, engine=engine)

    for policy in ("v6.14", "v7.0", "skip-hint"):
        one, other = run("c", policy), run("reference", policy)
        assert one.events == other.events and one.batch_lengths == other.batch_lengths
        assert_same_state(one.after, other.after)
        assert one.events["walk_yields"] > 0


@pytest.mark.parametrize("order", ["PMD", "MAX"])
@pytest.mark.parametrize("name", FACTS)
def test_the_largest_folios(name, order):
    """One batch per page table, page by page one step each; the reference agrees."""
    order = pmd_order(name) if order == "PMD" else _core.MAX_ORDER
    arch, pages = get(name), 1 << order
    population = one_folio(arch, order)
    tables = max(pages // arch.ptrs_per_pte, 1)
    result = rf.reclaim(population, population.nr_pages * arch.page_size, policy="v7.0")
    assert result.reclaimed_pages == pages and result.events["pages_freed"] == pages
    assert result.batch_lengths == {pages // tables: tables}
    assert result.events["table_crossings"] >= tables - 1
    assert result.events["contpte_unfolds"] == 0
    by_page = rf.reclaim(population, population.nr_pages * arch.page_size, policy="per-page")
    assert by_page.batch_lengths == {1: pages}
    slow = rf.reclaim(population, population.nr_pages * arch.page_size, policy="v7.0", engine="reference")
    assert slow.events == result.events
    assert_same_state(slow.after, result.after)


@pytest.mark.parametrize("kind", ["file", "anon"])
@pytest.mark.parametrize("name", FACTS)
def test_pmd_leaf(name, kind):
    """A file leaf is cleared whole; an anonymous one is split, and then its whole contpte blocks fold."""
    arch, order = get(name), pmd_order(name)
    population = one_folio(arch, order, kind, cont=False)
    population.table_state[:] = TableState.PMD_LEAF
    population.folio_entire_mapcount[:] = population.folio_mapcount[:] = 1
    population.folio_refcount[:] = 1 if kind == "anon" else 1 + (1 << order)
    for policy in ("per-page", "v7.0"):
        result = rf.reclaim(population, "1GiB", policy=policy, arch=arch, entry="pageout")
        assert result.reclaimed_pages == 1 << order
        if kind == "file":
            assert (result.events["pmds_cleared"], result.events["batches"]) == (1, 0)
        else:
            blocks = arch.ptrs_per_pte // arch.cont_ptes if arch.cont_ptes > 1 else 0
            assert result.events["pmd_splits"] == 1
            # neither policy batches a swap-out
            assert (result.events["contpte_folds"], result.events["contpte_unfolds"]) == (blocks, blocks)
        slow = rf.reclaim(population, "1GiB", policy=policy, arch=arch, entry="pageout", engine="reference")
        assert slow.events == result.events


@pytest.mark.parametrize("name", FACTS)
def test_seed_experiment(name):
    """Whole folios of order 4 on the experiment's memory: a sixteenth of the steps, the same pages."""
    runs = rf.compare(None, "8GiB", policies=["v6.16+young", "v7.0"], arches=[name]).runs
    assert runs[0].reclaimed_pages == runs[1].reclaimed_pages >= (8 << 30) // get(name).page_size
    assert runs[0].events["batches"] == 16 * runs[1].events["batches"] == runs[0].reclaimed_pages


def test_populations_keep_the_page_size():
    for name, (page, entries, *_) in FACTS.items():
        population = rf.Population.synthetic("64MiB", arch=name, orders=2)
        assert population.describe()["page_size"] == page and population.ptrs_per_pte == entries
        assert population.nr_pages * page == 64 * MIB
        with pytest.raises(ValueError, match="PTEs per table"):
            rf.reclaim(population, "1MiB", arch=get(name).replace(ptrs_per_pte=entries // 2, cont_ptes=1))
    with pytest.raises(ValueError, match="65536 byte page"):
        rf.Population.synthetic("4KiB", arch="arm64-64k")


# contpte


@pytest.mark.parametrize("name", ARM)
def test_contpte_closed_forms(name):
    """An aligned folio of some blocks: in one batch no unfold, page by page one for each block."""
    arch = get(name)
    block = arch.cont_ptes
    assert name == "arm64-4k" or block * arch.page_size == 2 * MIB
    for order in range(block.bit_length() - 1, pmd_order(arch) + 1):
        pages = 1 << order
        population = one_folio(arch, order)
        assert np.all(population.ptes & pte.CONT)
        events = unmapped(population.copy(), arch)
        assert (events["batches"], events["ptes_cleared"], events["contpte_unfolds"]) == (1, pages, 0)
        # a range of a power of two is one TLBI, and its barrier comes with try_to_unmap_flush()
        assert (events["tlbi_ops"], events["dsb_ishst_ops"], events["dsb_ops"]) == (1, 1, 0)
        events = unmapped(population.copy(), arch, "per-page")
        assert (events["batches"], events["contpte_unfolds"]) == (pages, pages // block)
        assert events["tlbi_ops"] == pages + pages // block and events["dsb_ops"] == pages // block
        events = unmapped(population.copy(), arch.replace(bbml2_noabort=True), "per-page")
        assert (events["tlbi_ops"], events["dsb_ops"], events["contpte_unfolds"]) == (pages, 0, pages // block)


@pytest.mark.parametrize("name", ARM)
def test_what_does_not_fold(name):
    arch = get(name)
    order = arch.cont_ptes.bit_length() - 1
    for population in (
        one_folio(arch, order - 1),
        one_folio(arch, order, phase=1),
        one_folio(arch, order, phase=arch.cont_ptes // 2),
        one_folio(arch, order, holes=f"every:{arch.cont_ptes}"),
        one_folio(arch, order, cont=False),
    ):
        assert not np.any(population.ptes & pte.CONT)
    # the half of a two-block folio without the hole is folded
    half = one_folio(arch, order + 1, holes=f"every:{2 * arch.cont_ptes}")
    assert np.count_nonzero(half.ptes & pte.CONT) == arch.cont_ptes


@pytest.mark.parametrize("name", ARM)
def test_contpte_reads(name):
    """A clean block that no walk has touched is read whole for its dirty bit, once for each logical read."""
    arch = get(name)
    block = arch.cont_ptes
    population = one_folio(arch, block.bit_length() - 1)
    events = unmapped(population, arch)
    logical = events["walk_pte_reads"] + events["batch_pte_reads"] + events["entry_pte_reads"]
    assert events["batch_pte_reads"] == 0  # the hint says it all
    assert events["raw_pte_loads"] == logical * (1 + block)


@pytest.mark.parametrize("name", ARM)
def test_contpte_young(name):
    """Page by page each test is widened to the block; batched it is one test, one flush."""
    arch = get(name)
    block = arch.cont_ptes
    for policy, widened in (("v6.14", block * block), ("v7.0", block)):
        population = one_folio(arch, block.bit_length() - 1)
        events = rf.folio_referenced_one(population, 0, 0, policy=policy, arch=arch).events
        assert (events["young_tests"], events["young_clears"]) == (widened, block)
        assert events["young_flushes"] == 1 and events["dsb_ops"] == 0
        assert not np.any(population.ptes & pte.YOUNG)


def test_contpte_of_another_size():
    """Reclaim folds anew for the blocks that it is told."""
    population = one_folio("arm64-16k", 11)
    for block in (1, 16, 128, 2048):
        arch = get("arm64-16k").replace(cont_ptes=block)
        result = rf.reclaim(population, "1GiB", policy="per-page", arch=arch)
        assert result.events["contpte_unfolds"] == (2048 // block if block > 1 else 0)


# Local TLBIs, a proposal for arm64


def reclaimed(engine, policy, cpumasks, arch="arm64-4k", **options):
    """Reclaim 16 clean folios of one contpte block each."""
    population = rf.Population.synthetic(MIB, arch=arch, orders=4, sharing=len(cpumasks), **options)
    population.mm_cpumask[:] = cpumasks
    return rf.reclaim(population, MIB, policy=policy, arch=arch, engine=engine)


def flushing_calls(young=0):
    """How many shrink_folio_list calls free some of them, each of which flushes once."""
    return ClassicModel(16, 4, young=bool(young)).reclaim(256)["flushes"]


def tlb_counts(events):
    names = ("tlbi_ops", "tlbi_range_ops", "tlbi_local", "dsb_ishst_ops", "dsb_ops", "dsb_nsh", "tlb_flushes")
    return tuple(events[name] for name in names)


@pytest.mark.parametrize("engine", ["c", "general", "reference"])
def test_local_tlbi(engine):
    """A TLBI for each folio that is unmapped, one for each that was young, and a barrier for each call."""
    for young in (0, 1):
        local, calls = reclaimed(engine, "local-tlbi", [0b1], young=young), flushing_calls(young)
        assert tlb_counts(local.events) == (0, 0, 16 + 16 * young, 16, 0, calls, calls)
        assert local.referenced_events["tlbi_local"] == 16 * young
    calls = flushing_calls()
    # other CPUs ran the mm; the CPU that reclaims did not, alone or with others; nobody knows where it ran
    for cpumask in (0b11, 0b1001, 0b10, 0b110, 0):
        broadcast = reclaimed(engine, "local-tlbi", [cpumask], young=0)
        assert tlb_counts(broadcast.events) == (16, 16, 0, 16, calls, 0, calls)
    # page by page each of the 16 pages has a TLBI, and each unfold one with a barrier of its own
    single = get_policy("per-page").replace(name="single", local_tlbi=True)
    assert tlb_counts(reclaimed(engine, single, [0b1], young=0).events) == (0, 0, 272, 272, 0, 16 + calls, calls)
    assert tlb_counts(reclaimed(engine, single, [0b11], young=0).events) == (272, 16, 0, 272, 16 + calls, 0, calls)
    bbml2 = get("arm64-4k").replace(bbml2_noabort=True)
    assert tlb_counts(reclaimed(engine, single, [0b1], bbml2, young=0).events) == (0, 0, 256, 256, 0, calls, calls)


@pytest.mark.parametrize("engine", ["c", "general", "reference"])
def test_local_tlbi_of_a_shared_mapping(engine):
    """Each mm by its own mask; a barrier that waits for any broadcast waits for all CPUs."""
    calls = flushing_calls()
    for cpumasks, expected in (
        ([0b1, 0b1], (0, 0, 32, 32, 0, calls, calls)),
        ([0b1, 0b10], (16, 16, 16, 32, calls, 0, calls)),
        ([0b0, 0b1], (16, 16, 16, 32, calls, 0, calls)),
        ([0b11, 0b10], (32, 32, 0, 32, calls, 0, calls)),
    ):
        assert tlb_counts(reclaimed(engine, "local-tlbi", cpumasks, young=0).events) == expected, cpumasks


@pytest.mark.parametrize("name", FACTS)
@pytest.mark.parametrize("cpumask", [0b1, 0b11, DEFAULT_CPUMASK])
def test_local_tlbi_changes_nothing_else(name, cpumask):
    """Elsewhere no event; on arm64 the kind of the TLBIs and of the barriers, and not how many they are."""
    before, after = (reclaimed("c", policy, [cpumask], name) for policy in ("v7.0.12", "local-tlbi"))
    if name not in ARM or cpumask != 0b1:
        assert before.events == after.events
        return
    assert before.events["tlbi_ops"] == after.events["tlbi_local"] > 0
    assert before.events["dsb_ops"] == after.events["dsb_nsh"] > 0
    kinds = {"tlbi_ops", "tlbi_range_ops", "tlbi_local", "dsb_ops", "dsb_nsh"}
    assert all(before.events[event] == after.events[event] for event in set(rf.EVENT_NAMES) - kinds)


# Svnapot, a proposal for riscv


@pytest.mark.parametrize("engine", ["c", "general", "reference"])
@pytest.mark.parametrize(("cpumask", "own", "others"), [(0b1, 1, 0), (0b10, 0, 1), (0b111, 1, 2), (0b1110, 0, 3)])
def test_svnapot(engine, cpumask, own, others):
    """An unfold flushes the 16 pages of its block on each CPU of the mm; arm64 has one TLBI and barriers for it."""
    arch = "riscv64-svnapot"
    single = reclaimed(engine, "per-page", [cpumask], arch, young=0).events
    batched = reclaimed(engine, "v7.0.12", [cpumask], arch, young=0).events
    assert (single["contpte_unfolds"], batched["contpte_unfolds"]) == (16, 0)
    # each call flushes everything once; before that 16 unfolds
    calls = flushing_calls()
    assert (batched["tlbi_ops"], batched["ipis"]) == (calls * own, calls * others)
    assert (single["tlbi_ops"], single["ipis"]) == ((calls + 16 * 16) * own, (calls + 16) * others)
    assert batched["batch_pte_reads"] == 0  # the hint gives the rest of the block
    for events in (single, batched):
        assert not any(events[name] for name in ("dsb_ops", "dsb_nsh", "dsb_ishst_ops", "tlbi_local", "young_flushes"))
        assert not events["tlb_immediate"] and events["tlb_flushes"] == calls


def test_svnapot_needs_whole_blocks():
    """As on arm64: smaller folios, and blocks with a hole, are what they are without it."""
    for options in ({"orders": 3}, {"orders": 4, "holes": "every:16"}):
        runs = [
            rf.reclaim(rf.Population.synthetic(MIB, arch=arch, **options), MIB, policy="per-page", arch=arch).events
            for arch in ("riscv64", "riscv64-svnapot")
        ]
        assert runs[0] == runs[1] and not runs[0]["contpte_unfolds"]


# INVLPGB


@pytest.mark.parametrize("cpumask", [1, 2, 3, 0xFF, 0xFE])
def test_invlpgb(cpumask):
    """The same flushes; where there were IPIs, one INVLPGB and one TLBSYNC."""
    own, others = cpumask & 1, (cpumask & ~1).bit_count()
    with_ipis, without = get("x86-64"), get("x86-64").replace(invlpgb=True)
    population = rf.Population.synthetic("4MiB", arch=with_ipis)
    population.mm_cpumask[:] = cpumask
    for policy in ("per-page", "v7.0"):
        for engine in ("c", "reference"):
            before, after = (
                rf.reclaim(population, "4MiB", policy=policy, arch=arch, engine=engine).events
                for arch in (with_ipis, without)
            )
            flushes = before["tlb_flushes"] or before["tlb_immediate"]
            remote = flushes if others else 0
            assert before["ipis"] == others * flushes and before["dsb_ops"] == 0
            assert after["ipis"] == 0 and after["dsb_ops"] == remote
            # the broadcast of a full flush is the CPU's own flush too
            shared = remote if own and before["tlb_flushes"] else 0
            assert after["tlbi_ops"] == before["tlbi_ops"] + remote - shared
            same = set(rf.EVENT_NAMES) - {"ipis", "dsb_ops", "tlbi_ops"}
            assert {name: after[name] for name in same} == {name: before[name] for name in same}


def test_invlpgb_is_a_setting(capsys):
    assert main(["reclaim", "--size", "4MiB", "--arch", "x86-64", "--set", "x86-64.invlpgb=true", "--json"]) == 0
    for run in json.loads(capsys.readouterr().out)["runs"]:
        assert run["events"]["ipis"] == 0 < run["events"]["dsb_ops"]
    assert main(["reclaim", "--size", "4MiB", "--set", "arch.invlpgb=true"]) == 2
    assert "--set: arch.invlpgb=true: arch.invlpgb: expected False with tlb 'arm64'" in capsys.readouterr().err


# Refusals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"page_shift": 11}, "arch.page_shift: expected 12 to 18 (4 KiB to 256 KiB), got 11"),
        ({"page_shift": 19}, "arch.page_shift: expected 12 to 18 (4 KiB to 256 KiB), got 19"),
        ({"page_shift": 12.0}, "arch.page_shift: expected int, got 12.0"),
        ({"page_shift": True}, "arch.page_shift: expected int, got True"),
        ({"ptrs_per_pte": 1024}, "arch.ptrs_per_pte: expected a power of two from 2 to 512 (8 bytes each in one page)"),
        ({"ptrs_per_pte": 500}, "arch.ptrs_per_pte: expected a power of two from 2 to 512"),
        ({"ptrs_per_pte": 1}, "arch.ptrs_per_pte: expected a power of two from 2 to 512"),
        ({"ptrs_per_pte": 0}, "arch.ptrs_per_pte: expected a power of two"),
        ({"ptrs_per_pte": -512}, "arch.ptrs_per_pte: expected a power of two"),
        ({"page_shift": 18, "ptrs_per_pte": 16384}, "arch.ptrs_per_pte: expected a power of two from 2 to 8192"),
        ({"cont_ptes": 3}, "arch.cont_ptes: expected a power of two from 1 to 512 (the page table), got 3"),
        ({"cont_ptes": 0}, "arch.cont_ptes: expected a power of two from 1 to 512 (the page table), got 0"),
        ({"cont_ptes": -16}, "arch.cont_ptes: expected a power of two"),
        ({"cont_ptes": 1024}, "arch.cont_ptes: expected a power of two from 1 to 512 (the page table), got 1024"),
        ({"ptrs_per_pte": 8, "cont_ptes": 16}, "arch.cont_ptes: expected a power of two from 1 to 8 (the page table)"),
        ({"tlb": "arm"}, "arch.tlb: expected one of none, x86, arm64, riscv, got 'arm' (did you mean 'arm64'?)"),
        ({"tlb": None}, "arch.tlb: expected str, got None"),
        ({"range_tlbi": 1}, "arch.range_tlbi: expected bool, got 1"),
        ({"tlb": "riscv", "invlpgb": True}, "arch.invlpgb: expected False with tlb 'riscv', only x86 has INVLPGB"),
        ({"invlpgb": 1}, "arch.invlpgb: expected bool, got 1"),
        ({"flush_ceiling": 0}, "arch.flush_ceiling: expected 1 to 2^31 - 1, got 0"),
        ({"max_dvm_ops": -1}, "arch.max_dvm_ops: expected 1 to 2^31 - 1, got -1"),
        ({"nr_cpus": 1 << 31}, "arch.nr_cpus: expected 1 to 2^31 - 1, got 2147483648"),
        ({"name": ""}, "arch.name: expected printable text"),
        ({"name": " x"}, "arch.name: expected printable text"),
        ({"name": "a\nb"}, "arch.name: expected printable text"),
        ({"costs": 5}, "arch.costs: expected the name of a cost vector or a CostVector, got 5"),
        ({"costs": None}, "arch.costs: expected the name of a cost vector or a CostVector, got None"),
        ({"costs": "x.toml"}, "arch.costs: expected the name of a cost vector, got 'x.toml'; pass cost.get('x.toml')"),
        ({"page_shfit": 12}, "arch.page_shfit: no such parameter (did you mean 'page_shift'?)"),
        ({"cost": "x86-64"}, "arch.cost: no such parameter (did you mean 'costs'?)"),
        ({"cost.tlbi_op": 1.0}, "cost.tlbi_op: no such event (did you mean 'tlbi_ops'?)"),
        ({"cost.tlbi_ops": -1.0}, "cost.tlbi_ops: value: expected a finite number, 0 or more, got -1.0"),
        ({"cost.tlbi_ops": math.nan}, "cost.tlbi_ops: value"),
        ({"cost.tlbi_ops": "50"}, "cost.tlbi_ops: value"),
        ({"costs": "", "cost.tlbi_ops": 50.0}, "arch.cost.tlbi_ops: x86-64 has no cost vector"),
    ],
)
def test_refusals(change, message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        get("x86-64").replace(**change)


def test_get_refuses(tmp_path):
    with pytest.raises(ValueError, match=r"no preset 'x86_64' \(did you mean 'x86-64'\?\); known are .*ppc64-64k"):
        get("x86_64")
    for bad in ("", None, 5, ["x86-64"], Path("x86-64"), tmp_path, b"x86-64.toml"):
        with pytest.raises(ValueError, match="arch: no preset"):
            get(bad)
    with pytest.raises(FileNotFoundError):
        get(tmp_path / "none.toml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(IsADirectoryError):
        get(tmp_path / "folder.toml")


def test_an_unknown_cost_vector_is_named():
    with pytest.raises(ValueError, match=r"no vector 'x86_64' \(did you mean 'x86-64'\?\)"):
        _ = get("x86-64").replace(costs="x86_64").cost_vector


# Costs


def test_costs_by_name_and_by_value():
    arch = get("x86-64")
    by_value = arch.replace(costs=cost.get("x86-64"))
    assert arch.cost_vector is by_value.cost_vector is cost.get("x86-64")
    assert arch.replace(costs="").cost_vector is None and Arch(name="bare").cost_vector is None
    assert hash(by_value) == hash(arch.replace(costs=cost.get("x86-64"))) and by_value == arch.replace(
        costs=arch.cost_vector
    )
    assert len({arch, by_value, arch.replace(costs="")}) == 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        arch.costs = ""


def test_replace_of_single_costs():
    arch = get("arm64-4k")
    changed = arch.replace(**{"cost.tlbi_ops": 50.0, "cost.dsb_ops": 7})
    assert changed == arch.replace(costs=arch.cost_vector.replace(tlbi_ops=50.0, dsb_ops=7))
    assert (changed.cost_vector["tlbi_ops"], changed.cost_vector["dsb_ops"]) == (50, 7)
    assert changed.replace(costs="arm64-4k") == arch
    # after the other changes
    other = arch.replace(**{"cost.tlbi_ops": 50.0}, costs="x86-64", cont_ptes=1)
    assert other.cost_vector == cost.get("x86-64").replace(tlbi_ops=50.0) and other.cont_ptes == 1


# TOML


@st.composite
def arches(draw):
    page_shift = draw(st.integers(12, 18))
    table = draw(st.integers(1, min(page_shift - 3, 13)))
    whole = st.integers(1, (1 << 31) - 1)
    name = st.text(min_size=1, max_size=12).filter(lambda text: text.isprintable() and text == text.strip())
    flags = {field.name: draw(st.booleans()) for field in dataclasses.fields(Arch) if field.type == "bool"}
    tlb = draw(st.sampled_from(["none", "x86", "arm64", "riscv"]))
    return Arch(
        name=draw(name),
        page_shift=page_shift,
        ptrs_per_pte=1 << table,
        cont_ptes=1 << draw(st.integers(0, table)),
        tlb=tlb,
        flush_ceiling=draw(whole),
        max_dvm_ops=draw(whole),
        nr_cpus=draw(whole),
        **flags | {"invlpgb": flags["invlpgb"] and tlb == "x86"},
        costs=draw(st.sampled_from(["", *cost.names()]) | vectors()),
    )


@settings(max_examples=200, deadline=None)
@given(arches())
def test_toml_round_trip(tmp_path_factory, arch):
    path = tmp_path_factory.getbasetemp() / "arch.toml"
    path.write_text(arch.to_toml(), encoding="utf-8", newline="")
    assert load(path) == load(str(path)) == get(path) == get(str(path)) == arch
    assert hash(load(path)) == hash(arch)
    document = tomllib.loads(arch.to_toml())
    assert set(document) - {"cost", "costs"} == {field.name for field in dataclasses.fields(Arch)} - {"costs"}
    assert ("cost" in document, "costs" in document) == (
        not isinstance(arch.costs, str),
        isinstance(arch.costs, str) and arch.costs != "",
    )


@pytest.mark.parametrize("name", FACTS)
def test_preset_round_trip(tmp_path, name):
    path = tmp_path / f"{name}.toml"
    for arch in (get(name), get(name).replace(costs=cost.get(name)), get(name).replace(**{"cost.ipis": 1 / 3})):
        path.write_text(arch.to_toml())
        assert load(path) == arch


def test_the_file_in_the_documentation(tmp_path):
    text = (Path(__file__).parent.parent / "docs" / "model.md").read_text()
    path = tmp_path / "zen3.toml"
    path.write_text(re.search(r"^    name = .*?^$", text, re.DOTALL | re.MULTILINE)[0].replace("    ", ""))
    assert load(path) == get("x86-64").replace(name="zen3", invlpgb=True)


def test_missing_keys_take_the_defaults(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('name = "a"\n')
    assert load(path) == Arch(name="a")


VECTOR = '[cost]\nname = "v"\nunit = "ns"\narch = "a"\n[cost.costs.ipis]\n' + (
    'value = 1.0\nlow = 1.0\nhigh = 1.0\nkind = "assumed"\nsource = ""\n'
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the key 'name' is missing"),
        ("page_shift = 12", "the key 'name' is missing"),
        ('name = "a"\npage_shfit = 12', "no such key 'page_shfit' (did you mean 'page_shift'?)"),
        ('name = "a"\n[arch]\nx = 1', "no such key 'arch'"),
        ("name = 5", "arch.name: expected str, got 5"),
        ('name = ""', "arch.name: expected printable text"),
        ('name = "a"\npage_shift = "12"', "arch.page_shift: expected int, got '12'"),
        ('name = "a"\npage_shift = 12.0', "arch.page_shift: expected int, got 12.0"),
        ('name = "a"\npage_shift = true', "arch.page_shift: expected int, got True"),
        ('name = "a"\npage_shift = 1979-05-27', "arch.page_shift: expected int, got datetime.date(1979, 5, 27)"),
        ('name = "a"\npage_shift = [12]', "arch.page_shift: expected int, got [12]"),
        ('name = "a"\npage_shift = -9223372036854775808', "arch.page_shift: expected 12 to 18"),
        ('name = "a"\nnr_cpus = 0x' + "f" * 9000, ": "),
        ('name = "a"\nnr_cpus = ' + "9" * 9000, "not TOML: "),
        ('name = "a"\nrange_tlbi = 1', "arch.range_tlbi: expected bool, got 1"),
        ('name = "a"\ntlb = "x86_64"', "arch.tlb: expected one of none, x86, arm64, riscv, got 'x86_64'"),
        ('name = "a"\ncosts = "x86_64"', "no vector 'x86_64' (did you mean 'x86-64'?)"),
        ('name = "a"\ncosts = "other.toml"', "arch.costs: expected the name of a cost vector, got 'other.toml'"),
        ('name = "a"\ncosts = 5', "arch.costs: expected the name of a cost vector or a CostVector, got 5"),
        ('name = "a"\n[costs]\nipis = 5', "arch.costs: expected the name of a cost vector or a CostVector"),
        ('name = "a"\ncost = "x86-64"', "cost: expected a table, got 'x86-64'"),
        ('name = "a"\ncosts = "x86-64"\n' + VECTOR, "expected costs = NAME or the table [cost], got both"),
        ('name = "a"\n[cost]\nname = "v"', "cost: the key 'unit' is missing"),
        ('name = "a"\n' + VECTOR.replace("unit", "units"), "cost: no such key 'units' (did you mean 'unit'?)"),
        ('name = "a"\n' + VECTOR.replace("ipis", "ipi"), "cost.ipi: no such event (did you mean 'ipis'?)"),
        ('name = "a"\n' + VECTOR.replace("high = 1.0", "high = inf"), "cost.ipis: high: expected a finite number"),
        ('name = "a"\n' + VECTOR.replace("value", "values"), "cost: costs.ipis: expected high, kind, low, source"),
        ('name = "a"\nname = "b"', "not TOML: "),
        ("name = ", "not TOML: "),
        ("\x00", "not TOML: "),
        ("x = " + "[" * 20000, "not TOML: "),
        ("x." * 500 + "x = 1", "no such key 'x'"),
    ],
)
def test_hostile_files(tmp_path, text, message):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    with pytest.raises(ValueError, match=re.escape(str(path))):
        get(str(path))


def test_files_that_are_no_text(tmp_path):
    path = tmp_path / "bad.toml"
    for content in (b"\xff\xfe\x00", b'name = "\xc3"', bytes(range(256))):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=re.escape(f"{path}: not TOML: ")):
            load(path)


# configured()


def test_configured():
    assert configured(["x86-64", get("arm64-4k")]) == [get("x86-64"), get("arm64-4k")]
    assert configured(["x86-64", "x86-64"]) == [get("x86-64")]
    assert configured([]) == []
    changes = ["arch.cont_ptes=1", "arm64-4k.range_tlbi=False", "x86-64.nr_cpus=0x40", "arch.tlb=none"]
    assert configured(["x86-64", "arm64-4k"], changes) == [
        get("x86-64").replace(cont_ptes=1, nr_cpus=64, tlb="none"),
        get("arm64-4k").replace(cont_ptes=1, range_tlbi=False, tlb="none"),
    ]
    for text in ("true", "True", "1"):
        assert configured(["riscv64"], [f"riscv64.page_mapcount={text}"]) == [get("riscv64")]
    # the later one holds; together they are valid, though in this order the first alone is not
    assert configured(["x86-64"], ["arch.ptrs_per_pte=8192", "x86-64.page_shift=14", "arch.page_shift=16"]) == [
        get("x86-64").replace(ptrs_per_pte=8192, page_shift=16)
    ]


def test_configured_costs(tmp_path):
    x86, arm = get("x86-64"), get("arm64-4k")
    assert configured([x86, arm], ["arch.cost.tlbi_ops=50", "arm64-4k.cost.dsb_ops=1e2"]) == [
        x86.replace(**{"cost.tlbi_ops": 50.0}),
        arm.replace(**{"cost.tlbi_ops": 50.0, "cost.dsb_ops": 100.0}),
    ]
    assert configured([x86], ["arch.costs=arm64-4k"]) == [x86.replace(costs="arm64-4k")]
    path = tmp_path / "mine.toml"
    mine = cost.get("arm64-4k").replace(ipis=3.0)
    path.write_text(mine.to_toml())
    assert configured([x86], [f"x86-64.costs={path}"]) == [x86.replace(costs=mine)]
    assert configured([x86], ["arch.cost.ipis=2", f"x86-64.costs={path}"])[0].cost_vector == mine.replace(ipis=2)


def test_configured_takes_files(tmp_path):
    path = tmp_path / "mine.toml"
    mine = get("arm64-16k").replace(name="arm64.v9", costs="")
    path.write_text(mine.to_toml())
    assert configured([path, "x86-64"], ["arm64.v9.cont_ptes=16"]) == [mine.replace(cont_ptes=16), get("x86-64")]
    path.write_text(mine.replace(name="x86-64").to_toml())
    with pytest.raises(ValueError, match="two different architectures are named 'x86-64'"):
        configured([path, "x86-64"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("", "given: expected arch.PARAM=VALUE or NAME.PARAM=VALUE, got ''"),
        ("cont_ptes=1", "given: expected arch.PARAM=VALUE or NAME.PARAM=VALUE, got 'cont_ptes=1'"),
        ("arch.cont_ptes", "given: expected arch.PARAM=VALUE or NAME.PARAM=VALUE, got 'arch.cont_ptes'"),
        ("arch.cont_ptes=", "given: expected arch.PARAM=VALUE"),
        (".cont_ptes=1", "given: expected arch.PARAM=VALUE"),
        ("arm64-4k.cont_ptes=1", "given: arm64-4k.cont_ptes=1: 'arm64-4k' is no architecture of this run"),
        ("x86_64.cont_ptes=1", "'x86_64' is no architecture of this run (did you mean 'x86-64'?); it has x86-64"),
        ("arch.cont_pte=1", "given: arch.cont_pte=1: arch.cont_pte: no such parameter (did you mean 'cont_ptes'?)"),
        ("arch.=1", "given: arch.=1: arch.: no such parameter"),
        ("arch.cont_ptes=many", "given: arch.cont_ptes=many: expected a whole number, got 'many'"),
        ("arch.cont_ptes=1.5", "given: arch.cont_ptes=1.5: expected a whole number, got '1.5'"),
        ("arch.cont_ptes=3", "given: arch.cont_ptes=3: arch.cont_ptes: expected a power of two"),
        ("arch.range_tlbi=yes", "given: arch.range_tlbi=yes: expected true or false, got 'yes'"),
        ("x86-64.tlb=arm", "given: x86-64.tlb=arm: arch.tlb: expected one of"),
        ("arch.cost.tlbi_op=5", "given: arch.cost.tlbi_op=5: cost.tlbi_op: no such event (did you mean 'tlbi_ops'?)"),
        ("arch.cost.tlbi_ops=much", "given: arch.cost.tlbi_ops=much: expected a number, got 'much'"),
        ("arch.cost.tlbi_ops=-1", "given: arch.cost.tlbi_ops=-1: cost.tlbi_ops: value: expected a finite number"),
        ("arch.cost.tlbi_ops=nan", "given: arch.cost.tlbi_ops=nan: cost.tlbi_ops: value"),
        ("arch.cost.self=1", "given: arch.cost.self=1: "),
        ("arch.costs=x86_64", "given: arch.costs=x86_64: cost: no vector 'x86_64' (did you mean 'x86-64'?)"),
        (
            "arch.cost=x86-64",
            "given: arch.cost=x86-64: cost: one figure is cost.EVENT=VALUE, a whole vector is costs=NAME",
        ),
        ("arch.costs=/none.toml", "given: arch.costs=/none.toml: "),
    ],
)
def test_configured_refuses(setting, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        configured(["x86-64"], [setting], where="given")


def test_costs_of_an_architecture_without():
    with pytest.raises(ValueError, match=r"settings: arch\.cost\.ipis=1: arch\.cost\.ipis: bare has no cost vector"):
        configured([Arch(name="bare")], ["arch.cost.ipis=1"])


# Command line


def test_arch_from_a_file(tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text(get("arm64-16k").replace(name="mine").to_toml())
    argv = ["reclaim", "--size", "64MiB", "--orders", "7", "--policy", "per-page,v7.0", "--json"]
    assert main([*argv, "--arch", f"{path},arm64-16k", "--set", "mine.cont_ptes=1"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    unfolds = {(run["arch"], run["policy"]): run["events"]["contpte_unfolds"] for run in runs}
    assert unfolds["mine", "per-page"] == unfolds["mine", "v7.0"] == unfolds["arm64-16k", "v7.0"] == 0
    assert unfolds["arm64-16k", "per-page"] > 0
    assert main(["check", "--arch", str(path), "--policy", "v7.3", "--pages", "1"]) == 0
    capsys.readouterr()
    path.write_text('name = "mine"\nptrs = 5\n')
    assert main([*argv, "--arch", str(path)]) == 2
    err = capsys.readouterr().err
    assert f"{path}: no such key 'ptrs'" in err and err.count("\n") == 1


def test_list(capsys):
    def listed(what):
        assert main(["list", what]) == 0
        text = capsys.readouterr().out
        assert max(map(len, text.splitlines())) <= 100
        assert main(["list", what, "--json"]) == 0
        return text, json.loads(capsys.readouterr().out)

    text, document = listed("arch")
    assert document == {name: dataclasses.asdict(arch) for name, arch in PRESETS.items()}
    assert all(re.search(f"^{name} ", text, re.MULTILINE) for name in FACTS)
    text, document = listed("cost")
    assert document == {name: json.loads(json.dumps(cost.get(name).to_dict())) for name in cost.names()}
    for name in cost.names():
        vector = cost.get(name)
        row = re.search(f"^{name} .*$", text, re.MULTILINE)[0]
        assert vector.unit in row and vector.arch in row and f"{len(vector.costs)} costs" in row
    text, document = listed("component")
    assert document == {name: list(events) for name, events in COMPONENTS.items()}
    assert all(re.search(f"^{name} ", text, re.MULTILINE) for name in COMPONENTS)
    assert set(rf.EVENT_NAMES) <= set(text.split())


def test_reclaim_uses_the_architecture_that_the_population_was_made_for():
    changed = get("arm64-4k").replace(range_tlbi=False)
    population = rf.Population.synthetic("2MiB", arch=changed, orders=4)
    result = rf.reclaim(population, "1MiB")
    assert result.arch == changed == population.copy().arch
    assert result.events["tlbi_range_ops"] == 0
