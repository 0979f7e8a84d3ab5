"""The check of splits: its scope, the states that it accepts as they are, and the faults that it finds."""

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

import rmapfast as rf
from rmapfast import policy as _policy
from rmapfast import reference
from rmapfast.cli import main
from rmapfast.flags import FolioFlag
from rmapfast.verify import SPLIT_INVARIANTS, SplitState, case_drawing, judge_split, split_population
from rmapfast.verify.checker import unmap_rules
from rmapfast.verify.split_judge import SplitOutcome, run_c, run_reference
from rmapfast.verify.split_states import SplitFamily, split_families, toy_arch

ARCH = toy_arch("x86-64")
ORACLE = _policy.get("per-page")
PROPOSALS = ("noswap-split-any", "noswap-split-all", "flush-batch")


def sample(every, pages=8, drawn=500):
    """Every n-th state of the scope."""
    families = split_families(pages, drawn)
    return [state for family in families for state in itertools.islice(family.states(), 0, None, every)]


def found(state, policy="v7.0.12", engine=run_c):
    return judge_split(state, _policy.get(policy), ORACLE, ARCH, engine)


# The scope


def test_a_family_small_enough_to_count_by_hand():
    """Two anonymous pages: 7 kinds of slots each, 3 ranges, and 5 swap devices where the call asks for slots."""
    calls = 3 * 5 + 3 + 3 + 5  # MADV_PAGEOUT, MADV_COLD, MADV_FREE, reclaim
    assert len(list(SplitFamily("slots", "anon", 1).states())) == 7**2 * calls
    # two file folios, one of 2 pages: 5 kinds of slots each, 6 ranges, two actions and reclaim
    three = [state for state in SplitFamily("slots", "file", 2).states() if len(state.slots) == 3]
    assert len(three) == 2 * 5**3 * (6 * 2 + 1)


def test_every_border_and_range():
    states = list(SplitFamily("table borders", "anon", 4).states())
    large = [state for state in states if state.orders == (2, 2) and state.action == "MADV_COLD"]
    ranges = {(state.start, state.end) for state in large}
    assert ranges == set(itertools.combinations(range(9), 2))
    assert {(state.border, state.start, state.end) for state in large} == {
        (border, *pair) for border in range(1, 8) for pair in ranges
    }
    for state in large[:: len(large) // 20]:
        population = split_population(state)
        assert (int(population.vma_start[0]) + state.border) % 8 == 0
        assert len(population.table_state) == 2


def test_no_state_comes_twice():
    for family in split_families(2, 0):
        states = list(family.states())
        assert len(set(states)) == len(states), family


def test_a_number_means_the_same_state():
    family = SplitFamily("drawn", "anon", 4, drawn=20)
    assert list(family.states()) == list(family.states())


def test_a_call_that_does_nothing_is_right():
    """The states are consistent: the judge finds nothing in a state as it is."""

    def nothing(population, state, policy, arch):
        counts = dict.fromkeys(("pages_written", "pages_came_back", "folio_splits"), 0)
        return SplitOutcome(population, counts, 0, frozenset(), False, ())

    for state in sample(1009):
        assert judge_split(state, ORACLE, ORACLE, ARCH, nothing) == [], str(state)


# What is right


def test_small_folios_are_clean():
    policies = ("v6.12", "v7.0.12", "v7.3", *PROPOSALS)
    report = rf.check(policies, splits=True, pages=1, budget=600, threads=1)
    assert report.complete and report.clean
    assert report.states == sum(len(list(family.states())) for family in split_families(1, 0)) > 7000


@pytest.mark.parametrize("policy", ["per-page", "v6.12", "v6.18", "v7.0.12", "v7.3", "anon-swap", *PROPOSALS])
def test_large_folios_are_clean(policy):
    for state in sample(4001):
        assert found(state, policy) == [], str(state)


def test_reference_is_clean_too():
    for state in sample(9001):
        for policy in ("v6.12", "v7.0.12", "flush-batch"):
            assert found(state, policy, run_reference) == [], str(state)


def test_policies_that_differ_in_splits_unmap_by_one_rule():
    for kind in ("anon", "file", "shmem", "lazyfree"):
        rules = {unmap_rules(_policy.get(name), kind, True, False) for name in ("v7.0.12", *PROPOSALS)}
        assert len(rules) == 1


def test_known_gap_is_not_in_the_scope():
    """Freeing a folio of the swap cache keeps the slot of a page that nobody maps. If it no longer does: try it."""
    state = SplitState("anon", (2, 2), "rrrrrr.r", "reclaim", 0, 8, "fragmented", holders=("", "swapcache"))
    assert not state.possible
    assert found(state) == found(state, engine=run_reference) == ["slots"]


# What is wrong

WHOLE = SplitState("anon", (2, 2), "wwwwwwww", "MADV_PAGEOUT", 1, 8, "none")
FILE = SplitState("file", (2, 2), "wrrrwrrr", "MADV_PAGEOUT", 1, 8)
SHMEM = SplitState("shmem", (2, 2), "wrrrwrrr", "MADV_PAGEOUT", 0, 8)
HOLES = SplitState("anon", (2, 2), "o.o.o.o.", "reclaim", 0, 8)
ZEROES = SplitState("anon", (2, 2), "zwzwzwzw", "MADV_PAGEOUT", 0, 8, "none")


@pytest.mark.parametrize("state", [WHOLE, FILE, SHMEM, HOLES, ZEROES], ids=str)
@pytest.mark.parametrize("engine", [run_c, run_reference])
def test_states_of_the_faults_are_clean_without_them(state, engine):
    assert found(state, engine=engine) == []


def test_wrong_restore_of_early_editions():
    """A lazyfree folio that is dirty in one page: the restore takes the first entry's write bit for all."""
    state = SplitState("lazyfree", (2, 2), "wrrrrrrr", "MADV_PAGEOUT", 0, 7)
    for policy in ("v6.16", "v7.0-rc1", _policy.get("v7.0.12").replace(respect_write=False, respect_soft_dirty=False)):
        assert found(state, policy) == ["restore-write"]


def test_pieces_in_the_wrong_place(monkeypatch):
    make = reference.Kernel.make_pieces

    def swapped(self, folio, isolated):
        pieces = make(self, folio, isolated)
        one, two = (piece.index for piece in pieces[-2:])
        for array in (self.population.folio_pfn, self.population.folio_page_base):
            array[[one, two]] = array[[two, one]]
        return pieces

    monkeypatch.setattr(reference.Kernel, "make_pieces", swapped)
    assert "pieces" in found(WHOLE, engine=run_reference)


def test_lost_dirty_bit_of_a_file(monkeypatch):
    monkeypatch.setattr(reference.Folio, "mark_dirty", lambda self, record: None)
    assert "dirty-lost" in found(FILE, engine=run_reference)
    assert "dirty-lost" in found(SHMEM, engine=run_reference)


def test_page_freed_without_a_write(monkeypatch):
    monkeypatch.setattr(reference.Kernel, "write_out", lambda self, folio, turns: "freed")
    assert "dirty-lost" in found(HOLES, engine=run_reference)


def test_slot_not_given_back(monkeypatch):
    def forget(self, folio):
        folio.swapcache = False
        folio.refcount -= folio.nr_pages

    monkeypatch.setattr(reference.Kernel, "give_back_swap", forget)
    assert found(HOLES, engine=run_reference) == ["slots"]


def test_slot_given_back_twice(monkeypatch):
    give_back = reference.SwapSpace.give_back
    monkeypatch.setattr(
        reference.SwapSpace, "give_back", lambda self, offset, nr: [give_back(self, offset, nr) for _ in range(2)]
    )
    assert "slots" in found(HOLES, engine=run_reference)


def test_page_that_is_not_mapped_again(monkeypatch):
    remove = reference.Kernel.remove_migration_ptes
    monkeypatch.setattr(
        reference.Kernel,
        "remove_migration_ptes",
        lambda self, piece, folio, replaced: None if piece is not folio else remove(self, piece, folio, replaced),
    )
    assert "wrong-content" in found(WHOLE, engine=run_reference)


def test_zero_page_for_a_page_that_holds_something():
    """An engine that maps the zero page too often."""

    def engine(population, state, policy, arch):
        outcome = run_c(population, state, policy, arch)
        zero = outcome.after.ptes == outcome.after.ptes[0]
        outcome.after.ptes[1] = outcome.after.ptes[zero][0]
        return outcome

    assert "wrong-content" in found(ZEROES, engine=engine)


def broken(change):
    """The C library with one more fault: `change` gets the population afterwards."""

    def engine(population, state, policy, arch):
        outcome = run_c(population, state, policy, arch)
        if len(state.orders) == 2:  # not the oracle's small folios
            change(outcome.after)
        return outcome

    return engine


def lose_entry(after):
    after.ptes[0] = 0


def lose_write(after):
    after.ptes[0] &= ~np.uint64(rf.pte.WRITE)


def lose_soft_dirty(after):
    after.ptes[0] &= ~np.uint64(rf.pte.SOFT_DIRTY)


def free_mapped(after):
    after.folio_flags[0] |= np.uint32(FolioFlag.FREED)


def lose_reference(after):
    after.folio_refcount[0] -= 1


def lose_counter(after):
    after.mm_rss[0, 1] += 1


def lose_from_list(after):
    after.lru_inactive = after.lru_inactive[1:]
    after.lru_active = after.lru_active[1:]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lose_entry, "lost"),
        (lose_write, "restore-write"),
        (lose_soft_dirty, "restore-soft-dirty"),
        (free_mapped, "freed-mapped"),
        (lose_reference, "accounting"),
        (lose_counter, "accounting"),
        (lose_from_list, "lists"),
    ],
)
def test_faults_in_the_outcome(change, name):
    assert name in found(WHOLE, engine=broken(change))


def test_flush_that_is_missing():
    def engine(population, state, policy, arch):
        return dataclasses.replace(run_c(population, state, policy, arch), flushed=frozenset())

    assert found(dataclasses.replace(WHOLE, swap="unlimited"), engine=engine) == ["tlb-flush"]


def test_pages_that_came_back_are_counted():
    def engine(population, state, policy, arch):
        outcome = run_c(population, state, policy, arch)
        return dataclasses.replace(outcome, counts=outcome.counts | {"pages_came_back": 0})

    assert found(ZEROES, engine=engine) == ["came-back"]


# The report


def test_report_and_replay(tmp_path, capsys):
    state = SplitState("lazyfree", (2, 2), "wrrrrrrr", "MADV_PAGEOUT", 0, 7)
    file = tmp_path / "case.json"
    file.write_text(json.dumps({"example": state.to_case()}))
    assert main(["check", "--replay", str(file), "--policy", "v6.16,v7.0.12", "--known"]) == 1
    text = capsys.readouterr().out
    assert "v7.0.12       clean" in text
    assert "wrong restore, fixed by 29f40594a281" in " ".join(text.split())
    assert SplitState.of_case(json.loads(json.dumps(state.to_case()))) == state
    lines = case_drawing(state.to_case(), "v6.16").splitlines()
    assert lines[0] == "v6.16 against per-page: restore-write" and str(state) in lines[1]


def test_command_line(capsys):
    assert main(["check", "--splits", "--pages", "1", "--budget", "0.001", "--threads", "1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert not document["complete"] and document["left_out"]
    assert document["provenance"]["arguments"]["splits"] is True


def test_a_python_function_runs_on_the_reference():
    def one_at_a_time(folio, vma, walk, pte):
        return 1

    report = rf.check(one_at_a_time, splits=True, pages=1, budget=0.5)
    assert report.states > 0 and report.left_out


def test_bad_arguments(tmp_path):
    for name, value in (("resume", tmp_path / "file"), ("all_bits", True), ("unreachable", True)):
        with pytest.raises(ValueError, match=f"{name}: not together with splits"):
            rf.check(["v7.0"], splits=True, **{name: value})
    case = WHOLE.to_case()
    for name, value in (("kind", "fish"), ("slots", "ww"), ("start", 8), ("swap", "99"), ("holders", ["", "thief"])):
        with pytest.raises(ValueError, match=f"{name}: no such state"):
            SplitState.of_case({"split_state": case["split_state"] | {name: value}})
    file = tmp_path / "case.json"
    file.write_text(json.dumps({"split_state": {"kind": "anon"}}))
    with pytest.raises(ValueError, match="not a case"):
        rf.verify.load_case(file)


def test_names_are_in_the_documentation():
    text = (Path(__file__).parent.parent / "docs" / "checker.md").read_text(encoding="utf-8")
    for name in SPLIT_INVARIANTS:
        assert f"`{name}`" in text
