"""The check of reference checks: its scope, the policies that it accepts, and the faults that it finds."""

import dataclasses
import functools
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
from rmapfast.verify import YOUNG_INVARIANTS, YoungState, case_drawing, judge_young, young_population
from rmapfast.verify.young_check import young_rules
from rmapfast.verify.young_judge import YoungJudge, check_young_c, check_young_reference
from rmapfast.verify.young_states import GENERATIONS, LETTERS, TABLE, YoungFamily, young_arch, young_families

ORACLE = _policy.get("per-page")
EDITIONS = ("per-page", "v6.12", "v7.0", "v7.2", "v7.3")
X86, ARM64 = rf.arch.get("x86-64"), rf.arch.get("arm64-4k")


@functools.cache
def scope():
    """Every state with folios of up to 4 pages."""
    return [state for family in young_families(4) for state in family.states()]


def sample(every):
    """Every n-th state of the scope."""
    return scope()[::every]


def found(state, rule="v7.2", engine=None, arch=X86):
    return judge_young(state, rule if isinstance(rule, rf.YoungRule) else _policy.get(rule), ORACLE, arch, engine)


def state_of(kinds, orders, roles, slots, lru="mglru", **fields):
    return YoungState(lru, kinds, orders, roles, slots, **fields)


ONE = state_of(("file",), (0,), ("tested",), "y")
BATCH = state_of(("file",), (1,), ("tested",), "yy")
CLASSIC = dataclasses.replace(BATCH, lru="classic")
PAIR = state_of(("file", "file"), (0, 0), ("tested", "listed"), "yy")


# The scope


def test_families_small_enough_to_count_by_hand():
    # one page: an anonymous one can hold every letter but "m", a file page neither "x" nor "z"
    assert len(list(YoungFamily("slots", "classic", 1).states())) == (len(LETTERS) - 1) + (len(LETTERS) - 3)
    # two pages of order 0: 4 pairs of kinds, either is tested, young or old, beside y, o, d, f and z (not file)
    assert len(list(YoungFamily("neighbours", "classic", 1).states())) == 2 * 2 * (3 * 5 + 4)
    # a folio of 4 pages with one young page at each of 128 places, 4 VMA borders, folded or not
    assert len(list(YoungFamily("windows", "mglru", 4).states())) == 128 * 4 * 2


def test_every_border():
    for name, field in (("table borders", "border"), ("VMA borders", "cut")):
        states = [state for state in YoungFamily(name, "mglru", 4).states() if state.orders == (2, 2)]
        assert {getattr(state, field) for state in states} == set(range(1, 8))
    for state in YoungFamily("table borders", "mglru", 4).states():
        population = young_population(state)
        assert (int(population.vma_start[0]) + state.border) % TABLE == 0
        assert len(population.table_state) == 2


def test_no_state_comes_twice():
    for family in young_families(4):
        states = list(family.states())
        assert states and len(set(states)) == len(states), family
        assert all(state.lru == family.lru for state in states)
    assert len(scope()) > 20_000


def test_states_go_into_json_and_back():
    for state in sample(97):
        assert YoungState.of_case(json.loads(json.dumps(state.to_case()))) == state


def test_populations_fit_together():
    for state in sample(53):
        rf._core.check_population(young_population(state), young_arch(ARM64, state))


# What is right


@pytest.mark.parametrize("policy", EDITIONS)
@pytest.mark.parametrize("arch", [X86, ARM64], ids=lambda arch: arch.name)
def test_editions_are_clean(policy, arch):
    for state in sample(37):
        assert found(state, policy, arch=arch) == [], str(state)


@pytest.mark.parametrize("policy", EDITIONS)
def test_reference_is_clean_too(policy):
    for state in sample(199):
        assert found(state, policy, check_young_reference, ARM64) == [], str(state)


def test_large_folios_and_leaves_are_clean():
    leaves = [state for lru in ("classic", "mglru") for state in YoungFamily("PMD leaves", lru, 8).states()]
    assert len(leaves) == 160
    blocks = [state for lru in ("classic", "mglru") for state in YoungFamily("contpte", lru, 8).states()]
    for state in leaves + blocks[::97]:
        for policy in ("v6.12", "v7.0", "v7.3"):
            assert found(state, policy, arch=ARM64) == [], str(state)


def test_every_preset_with_folios_of_one_page():
    report = rf.check(young=True, pages=1, budget=600, threads=1)
    assert report.complete and report.clean
    assert report.states == sum(len(list(family.states())) for family in young_families(1))
    states = {one.policy_name: one.states for one in report.policies}
    # of v7.1 the multi-gen LRU is not known
    assert states["v7.1"] == sum(len(list(one.states())) for one in young_families(1) if one.lru == "classic")
    assert states["v7.2"] == report.states


def test_policies_that_differ_elsewhere_check_by_one_rule():
    family = YoungFamily("slots", "mglru", 1)
    assert len({young_rules(_policy.get(name), family) for name in ("v7.2", "walker-jump", "flush-batch")}) == 1
    assert young_rules(_policy.get("v6.14"), family) is None
    assert young_rules(_policy.get("v6.14"), YoungFamily("slots", "classic", 1)) is not None


# What is wrong: two rules that the check must find unaided


def first_only(folio, vma, walk, nr):
    """Test the first entry of a batch alone."""
    return 1


def one_table_too_far(vma, vpn):
    """Look around without a look at the page table."""
    return max(vpn - 32, vma.start), min(vpn + 32, vma.end)


def beyond_the_vma(vma, vpn):
    size = vma.tables.ptrs_per_pte
    return vpn // size * size, vpn // size * size + size


def to_the_borders(vma, vpn):
    start, end = beyond_the_vma(vma, vpn)
    return max(start, vma.start), min(end, vma.end)


def in_batches(folio, vma, walk):
    return walk.batch(walk.room())


def examples(rule, pages):
    """Examples of the violations of a rule by invariant, as states."""
    report = rf.check(rule, pages=pages, budget=600)
    assert report.complete
    (one,) = report.policies
    return {violation.invariant: YoungState.of_case(violation.example) for violation in one.violations}


def test_first_entry_of_a_batch_alone():
    got = examples(rf.YoungRule(tested=first_only), 2)
    assert set(got) == {"young-left", "referenced", "final-state"}
    assert got["young-left"] == state_of(("file",), (1,), ("tested",), "yy", lru="classic")
    # the second page alone is young: nobody finds it
    assert got["referenced"].slots == "oy"
    assert "outside-window" not in got and "out-of-bounds" not in got


def test_window_that_crosses_the_page_table():
    got = examples(rf.YoungRule(window=one_table_too_far), 1)
    assert set(got) == {"out-of-bounds"}
    assert len(got["out-of-bounds"].slots) == 2 and got["out-of-bounds"].border == 1
    drawing = case_drawing(got["out-of-bounds"].to_case(), rf.YoungRule(window=one_table_too_far))
    assert drawing.splitlines()[0] == "one_table_too_far against per-page: out-of-bounds"
    assert "oob_reads: 1" in drawing and "|" in drawing


def test_window_that_leaves_the_vma():
    got = examples(rf.YoungRule(window=beyond_the_vma), 1)
    assert "out-of-bounds" in got and "outside-window" in got
    assert got["outside-window"].cut and got["outside-window"].lru == "mglru"


def test_rules_that_are_right():
    for rule in (
        rf.YoungRule(batch=in_batches),
        rf.YoungRule(batch=in_batches, around="v6.12"),
        rf.YoungRule(batch=lambda folio, vma, walk: 1),
        rf.YoungRule(window=to_the_borders),
        rf.YoungRule(window=lambda vma, vpn: (vpn, vpn + 1), around="v7.0"),
        rf.YoungRule(batch=in_batches, window=to_the_borders, around="v7.3"),
        rf.YoungRule(batch=in_batches, around="v6.14"),
    ):
        for state in sample(1499):
            assert found(state, rule) == [], (rule, str(state))


def test_batch_over_a_page_that_is_another_ones():
    def whole(folio, vma, walk):
        return min(walk.room(), folio.nr_pages - folio.page(walk.pte))

    state = dataclasses.replace(CLASSIC, slots="yf")
    assert found(state, rf.YoungRule(batch=whole)) == ["outside-window", "final-state"]
    assert found(state, rf.YoungRule(batch=in_batches)) == []


def test_batch_that_counts_too_much_misses_a_process():
    def whole(folio, vma, walk):
        return min(walk.room(), folio.nr_pages - folio.page(walk.pte))

    state = dataclasses.replace(CLASSIC, slots="y.", second=".y")
    assert found(state, rf.YoungRule(batch=whole)) == ["young-left", "referenced", "visited", "final-state"]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"batch": lambda folio, vma, walk: 0}, "int from 1 to 2.*folio 0 at vpn 16, got 0"),
        ({"batch": lambda folio, vma, walk: 3}, "int from 1 to 2.*folio 0 at vpn 16, got 3"),
        ({"batch": lambda folio, vma, walk: True}, "folio 0 at vpn 16, got True"),
        ({"batch": lambda folio, vma, walk: None}, "folio 0 at vpn 16, got None"),
        ({"tested": lambda folio, vma, walk, nr: nr + 1}, "int from 1 to 2.*folio 0 at vpn 16, got 3"),
        ({"window": lambda vma, vpn: vpn}, "around vpn 16, which maps folio 0, got 16"),
        ({"window": lambda vma, vpn: (vpn + 1, vpn + 2)}, r"around vpn 16, which maps folio 0, got \(17, 18\)"),
        ({"window": lambda vma, vpn: (0, 1 << 40)}, "at most 8192 entries"),
    ],
)
def test_functions_that_return_nonsense(rule, message):
    with pytest.raises(ValueError, match=message) as error:
        found(BATCH, rf.YoungRule(**rule))
    assert "\n" not in str(error.value)


def test_room_ends_at_the_page_table():
    state = dataclasses.replace(BATCH, border=1)
    with pytest.raises(ValueError, match=r"int from 1 to 1, .* folio 0 at vpn 23, got 2"):
        found(state, rf.YoungRule(batch=lambda folio, vma, walk: 2))


# What is wrong: faults in the engines


def test_the_states_of_the_faults_are_clean_without_them():
    for state, engine in itertools.product((ONE, BATCH, CLASSIC, PAIR), (check_young_c, check_young_reference)):
        for policy in EDITIONS:
            assert found(state, policy, engine, ARM64) == []


def altered(change, **fields):
    """The C library with a fault: `change` gets the population afterwards, `fields` replace those of the outcome."""

    def engine(population, state, policy, arch):
        outcome = check_young_c(population, state, policy, arch)
        if policy is ORACLE:
            return outcome
        change(outcome.after)
        return dataclasses.replace(outcome, **fields)

    return engine


def nothing(after):
    pass


def leave_young(after):
    after.ptes[0] |= np.uint64(rf.pte.YOUNG)


def leave_neighbour_young(after):
    after.ptes[1] |= np.uint64(rf.pte.YOUNG)


def unmark(after):
    after.folio_flags[1] &= ~np.uint32(FolioFlag.REFERENCED)


def mark_dirty(after):
    after.folio_flags[1] |= np.uint32(FolioFlag.DIRTY)


def mlock(after):
    after.folio_flags[0] |= np.uint32(FolioFlag.MLOCKED)


def lose_write(after):
    after.ptes[0] ^= np.uint64(rf.pte.WRITE)


def lose_mapping(after):
    after.folio_mapcount[0] -= 1


@pytest.mark.parametrize(
    ("change", "fields", "name"),
    [
        (leave_young, {}, "young-left"),
        (leave_neighbour_young, {}, "window-missed"),
        (unmark, {}, "marks"),
        (mark_dirty, {}, "marks"),
        (mlock, {}, "mlock"),
        (lose_write, {}, "other-state"),
        (lose_mapping, {}, "other-state"),
        (nothing, {"referenced": 0}, "referenced"),
        (nothing, {"referenced": 2}, "referenced"),
        (nothing, {"vm_flags": 1}, "referenced"),
        (nothing, {"counts": dict.fromkeys(("young_flushes", "referenced_calls", "oob_reads"), 0)}, "visited"),
    ],
)
def test_faults_in_the_outcome(change, fields, name):
    if "counts" in fields:
        fields = {
            "counts": dict.fromkeys(("oob_writes", "vma_overrun_reads", "vma_overrun_writes"), 0) | fields["counts"]
        }
    assert found(PAIR, engine=altered(change)) == [] or change is not nothing
    assert name in found(PAIR, engine=altered(change, **fields))


def test_neighbour_that_is_cleared_outside_a_window():
    """Under the classic LRU there is no window, and an isolated folio is in none of 7.x."""

    def clear(after):
        after.ptes[1] &= ~np.uint64(rf.pte.YOUNG)

    classic = dataclasses.replace(PAIR, lru="classic")
    isolated = dataclasses.replace(PAIR, roles=("tested", "isolated"))
    for state in (classic, isolated):
        assert found(state) == []
        assert "outside-window" in found(state, engine=altered(clear))
    # 6.12 clears isolated ones too
    assert found(isolated, "v6.12") == []
    after = YoungJudge(isolated, ORACLE, X86).outcome(_policy.get("v6.12")).after
    assert not int(after.ptes[1]) & int(rf.pte.YOUNG)


def broken(state, policy="v7.2", arch=ARM64):
    return found(state, policy, check_young_reference, arch)


def test_no_look_around(monkeypatch):
    monkeypatch.setattr(reference.Generations, "window", lambda self, folio, vma, walk: (walk.vpn, walk.vpn + 1))
    assert broken(PAIR) == ["window-missed", "marks"]


def test_window_off_by_one(monkeypatch):
    """In a table of 128 entries, at every place of the young page."""
    window = reference.Generations.window

    def shifted(self, folio, vma, walk):
        start, end = window(self, folio, vma, walk)
        return (start + 1, end + 1) if end - start == 64 and end < vma.end else (start, end)

    states = [state for state in YoungFamily("windows", "mglru", 4).states() if not state.cut and not state.folded]
    assert all(broken(state) == [] for state in states[::16])
    monkeypatch.setattr(reference.Generations, "window", shifted)
    got = [broken(state) for state in states[::16]]
    assert sum("window-missed" in names for names in got) >= len(got) // 2


def test_folio_that_is_not_marked(monkeypatch):
    monkeypatch.setattr(reference.Generations, "update_gen", lambda self, folio, vma: False)
    for policy in EDITIONS:
        assert broken(PAIR, policy) == ["marks"]


def test_second_reference_that_does_not_promote(monkeypatch):
    def only_marks(self, folio, vma):
        folio.referenced = True
        folio.store_flags()
        return True

    monkeypatch.setattr(reference.Generations, "update_gen", only_marks)
    assert broken(PAIR) == []
    assert broken(dataclasses.replace(PAIR, roles=("tested", "referenced"))) == ["marks"]
    assert broken(PAIR, "v6.12") == ["marks"]


def test_dirty_entry_that_is_forgotten(monkeypatch):
    state = dataclasses.replace(PAIR, slots="yd")
    assert broken(state) == []
    monkeypatch.setattr(reference.Folio, "mark_dirty", lambda self, record: None)
    assert broken(state) == ["marks"]


def test_flush_of_mglru_and_none_of_the_classic_lru(monkeypatch):
    clear = reference.PageTables.test_and_clear_young_ptes

    def turned(self, table, slot, nr, events="", flush=True):
        return clear(self, table, slot, nr, events, not flush)

    monkeypatch.setattr(reference.PageTables, "test_and_clear_young_ptes", turned)
    for state in (ONE, CLASSIC):
        assert broken(state) == ["tlb-flush"]
        assert broken(state, arch=X86) == []


def test_page_idle_flag_that_is_overlooked(monkeypatch):
    monkeypatch.setattr(reference.Folio, "young", property(lambda self: False, lambda self, value: None), raising=False)
    names = broken(dataclasses.replace(CLASSIC, slots="oo", idle=True))
    assert "referenced" in names


def test_locked_vma_that_is_overlooked(monkeypatch):
    state = dataclasses.replace(BATCH, locked=0)
    assert broken(state) == []
    monkeypatch.setattr(reference.Kernel, "_mlocked", lambda self, folio, walk: False)
    assert "mlock" in broken(state)


def test_block_that_is_cleared_in_part(monkeypatch):
    """A contpte block has one young bit: a clear of one of its entries alone leaves it young."""
    state = state_of(("file",), (2,), ("tested",), "yyyy", lru="classic", folded=True)
    assert broken(state) == []
    assert "young-left" not in broken(state, rf.YoungRule(tested=first_only))  # the block is cleared as a whole
    monkeypatch.setattr(reference.PageTables, "has_cont", lambda self, table, slot: False)
    assert "young-left" in broken(state, rf.YoungRule(tested=first_only))


# The report


def test_report_and_replay(tmp_path, capsys):
    file = tmp_path / "case.json"
    file.write_text(json.dumps({"example": PAIR.to_case()}))
    assert main(["check", "--replay", str(file), "--policy", "v6.14,v7.2", "--known"]) == 0
    text = capsys.readouterr().out
    assert "v7.2          clean" in text and "v6.14         has no rules here" in text
    shared = dataclasses.replace(BATCH, second=".y", locked=0)
    assert "816" in case_drawing(shared.to_case(), "v7.2").splitlines()[2]
    wide = next(YoungFamily("windows", "mglru", 4).states())
    assert max(map(len, case_drawing(wide.to_case(), "v7.2").splitlines()[2:])) < 300
    assert case_drawing(PAIR.to_case(), "v7.2").splitlines()[:2] == ["v7.2 against per-page: no violation", str(PAIR)]


def test_command_line(capsys):
    assert main(["check", "--young", "--pages", "1", "--budget", "0.001", "--threads", "1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert not document["complete"] and document["left_out"]
    assert document["provenance"]["arguments"]["young"] is True


def test_bad_arguments(tmp_path):
    for name, value in (("resume", tmp_path / "file"), ("all_bits", True), ("unreachable", True)):
        with pytest.raises(ValueError, match=f"{name}: not together with young"):
            rf.check(["v7.0"], young=True, **{name: value})
    with pytest.raises(ValueError, match="young: not together with splits"):
        rf.check(["v7.0"], young=True, splits=True)
    with pytest.raises(ValueError, match=r"expected a policy whose multi-gen LRU is known, got v7\.1"):
        rf.check(["v7.0"], young=True, pages=1, against="v7.1", threads=1)
    with pytest.raises(TypeError, match="expected policies or a YoungRule"):
        rf.check(lambda folio, vma, walk, pte: 1, young=True)
    with pytest.raises(ValueError, match="expected a function for at least one of them, got none"):
        rf.YoungRule()
    with pytest.raises(TypeError, match="batch: expected a function, got 4"):
        rf.YoungRule(batch=4)
    with pytest.raises(ValueError, match="v9"):
        rf.YoungRule(batch=in_batches, around="v9")
    case = PAIR.to_case()
    for name, value in (("lru", "fish"), ("kinds", ["fish", "file"]), ("slots", "y"), ("border", 2), ("table", 9)):
        with pytest.raises(ValueError, match=f"{name}: no such state"):
            YoungState.of_case({"young_state": case["young_state"] | {name: value}})
    with pytest.raises(ValueError, match="no kernel comes to such a state"):
        YoungState.of_case({"young_state": case["young_state"] | {"slots": "yx"}})


def test_names_are_in_the_documentation():
    text = (Path(__file__).parent.parent / "docs" / "checker.md").read_text(encoding="utf-8")
    for name in YOUNG_INVARIANTS:
        assert f"`{name}`" in text


def test_generations_of_the_states_are_those_of_a_new_memcg():
    assert GENERATIONS == (rf.Population.synthetic("4KiB").lru_gen.max_seq, 0, 0)


def test_a_young_rule_runs_on_the_reference_alone():
    rule = rf.YoungRule(batch=lambda folio, vma, walk: 1)
    with pytest.raises(ValueError, match=r"policy: a Python function runs on the reference only"):
        rf.reclaim(rf.Population.synthetic("64KiB"), "4KiB", policy=rule, engine="c")
    with pytest.raises(
        TypeError, match=r"policy: .*got YoungRule \(a YoungRule is for check\(\), and for the reference"
    ):
        rf.policy.get(rule)
