"""The bounded checker: its scope is complete, its two sets of invariants agree, and it finds the known bugs unaided."""

import dataclasses
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest

import rmapfast as rf
from rmapfast import _core, pte
from rmapfast import policy as _policy
from rmapfast.cli import main
from rmapfast.flags import FolioFlag, PageFlag, VmaFlag
from rmapfast.verify import capture_cases, cases, checker, judge, random_cases, report, unmap_case
from rmapfast.verify.rule_judge import Expected
from rmapfast.verify.states import Scope, State, VmaRange
from rmapfast.verify.vectors import read_vectors

POLICIES = ("per-page", "v6.15", "v6.16", "v6.18", "file-v5", "v7.0-rc1", "v7.0", "v7.0.12", "v7.3", "anon-swap")
VECTORS = Path(__file__).parent / "data" / "conformance"


@pytest.fixture(scope="module")
def checked():
    """Every state of folios of up to 4 pages, and drawn ones."""
    return rf.check(POLICIES, drawn=2000, budget=600)


def classes(found, policy):
    one = next(one for one in found.policies if one.policy_name == policy)
    return {violation.invariant: violation for violation in one.violations}


# The scope


def test_a_scope_small_enough_to_count_by_hand():
    """Clean and dirty file folios of one page in a VMA without uffd-wp: every slot, border, condition, each once."""
    scope = Scope(1)
    number, family = next((n, one) for n, one in enumerate(scope.families) if one.kind == "file" and not one.uffd_wp)
    mlocked, armed = int(FolioFlag.MLOCKED), int(VmaFlag.UFFD_ARMED)
    seen = [scope.state(number, index) for index in range(family.states)]
    bits = ("write", "young", "dirty", "soft_dirty")
    slots = {
        "none",
        "present unused",
        "present prot",
        "migration",
        "device_private",
        "swap",
        "foreign",
    }
    slots |= {"present " + " ".join(c) for n in range(5) for c in itertools.combinations(bits, n)}
    ttus = (("BATCH_FLUSH", "SYNC"), ("BATCH_FLUSH",), ("SYNC",), ())
    # dirty, mapped elsewhere, extra references, VMA locked, other flags, TTU flags
    conditions = [(dirty, 0, 0, locked, 0, ttu) for dirty in (0, 1) for ttu in ttus for locked in (0, 1)]
    ignored = (("SYNC", "IGNORE_MLOCK"), ("BATCH_FLUSH", "SYNC", "IGNORE_MLOCK"))
    conditions += [(dirty, 0, 0, 1, 0, ttu) for dirty in (0, 1) for ttu in ignored]
    reclaim = ("BATCH_FLUSH", "SYNC")
    conditions += [(0, 1, 0, 0, 0, reclaim), (0, 1, 0, 1, 0, reclaim), (0, 1, 0, 1, 0, (*reclaim, "IGNORE_MLOCK"))]
    conditions += [(0, 0, 1, 0, 0, reclaim), (0, 0, 0, 0, armed, reclaim), (0, 0, 0, 0, mlocked, reclaim)]
    conditions += [(0, 0, 0, 1, mlocked, (*reclaim, "IGNORE_MLOCK")), (0, 0, 0, 0, 0, ("IGNORE_MLOCK", "HWPOISON"))]
    # a page has two places: before the page-table border and behind it
    assert len(seen) == len(slots) * len(conditions) * 2

    def key(state):
        case = cases.case_of_state(state)
        words = json.dumps([case["ptes"], case["vma"], case["ttu"], case["folio"]], sort_keys=True)
        return words

    assert len({key(state) for state in seen}) == len(seen)
    found = {
        (
            bool(state.folio_flags & FolioFlag.DIRTY),
            state.page_mapcount[0] - bool(_maps(state)),
            state.refcount - 2 - state.page_mapcount[0],
            bool(state.vma.flags & VmaFlag.LOCKED),
            state.folio_flags & mlocked | state.vma.flags & armed,
            frozenset(name for name, bit in _core.TTU_FLAGS.items() if state.ttu & bit),
        )
        for state in seen
    }
    assert found == {(*one, frozenset(ttu)) for *one, ttu in conditions}


def _maps(state):
    words = np.array(state.ptes, np.uint64)
    return np.any((words & pte.PRESENT != 0) & (pte.pfn(words) == 64))


@pytest.mark.parametrize("pages", [2, 4])
def test_every_border_of_the_vma_and_of_the_page_table_occurs(pages):
    scope = Scope(pages)
    for number, family in enumerate(scope.families):
        if family.pages != pages or family.folded or family.bits == "few":
            continue
        borders = set()
        for index in range(0, family.states, max(1, family.states // 5000)):
            state = scope.state(number, index)
            if state:
                vma, first = state.vma, state.vma.pgoff - 256
                border = 2 * state.first_vpn - (vma.start - first)
                borders.add((border, first, vma.end - vma.start + first))
        runs = {(a, b) for a in range(pages) for b in range(a + 1, pages + 1)}
        first = 0 if pages == 2 else 1
        assert borders == {(border, *run) for border in range(first, pages + 1) for run in runs}


def test_unreachable_states_are_off_by_default_and_tagged():
    def tags(unreachable):
        scope = Scope(2, unreachable=unreachable)
        found = set()
        for number, family in enumerate(scope.families):
            for index in range(0, family.states, max(1, family.states // 3000)):
                if state := scope.state(number, index):
                    found |= set(cases.case_of_state(state)["tags"])
        return found

    # a walk takes any page of the folio, so that of another place is always tried
    assert tags(False) == {"unreachable:page-out-of-place"}
    assert tags(True) == {
        "unreachable:page-out-of-place",
        "unreachable:lazyfree-in-file-vma",
        "abnormal:swapcache-mismatch",
        "unreachable:hwpoison-large-folio",
        "unreachable:device-exclusive-file",
    }


# What is found


@pytest.mark.parametrize(
    "policy, invariant, pages",
    [
        ("v6.15", "out-of-bounds", 2),
        ("v6.16", "accounting", 4),
        ("v7.0", "accounting", 4),
        ("file-v5", "uffd-wp-lost", 2),
        ("v6.16", "restore-write", 2),
        ("v6.16", "restore-soft-dirty", 2),
        ("v7.0-rc1", "restore-write", 2),
        ("v7.0-rc1", "restore-soft-dirty", 2),
    ],
)
def test_the_known_bugs_are_found_with_a_smallest_example(checked, policy, invariant, pages):
    found = classes(checked, policy)[invariant]
    assert 1 << found.example["folio"]["order"] == pages
    assert invariant in judge(found.example, policy)
    assert checker.history_of(_policy.get(policy), invariant)


@pytest.mark.parametrize("policy", ["per-page", "v6.18", "v7.0.12", "v7.3"])
def test_the_mended_editions_are_clean(checked, policy):
    assert checked.complete
    assert set(classes(checked, policy)) <= set(report.DOCUMENTED)


def test_every_example_is_judged_the_same_in_python(checked):
    for one in checked.policies:
        for violation in one.violations:
            assert violation.invariant in judge(violation.example, one.policy), (one.policy_name, violation)


def test_invariants_in_c_and_in_python_agree():
    rng = np.random.default_rng(5)
    scope, oracle = Scope(4, unreachable=True, drawn=1000), _policy.get("per-page")
    arch = rf.arch.get("x86-64")
    policies = [_policy.get(name) for name in POLICIES]
    tried = 0
    for number in rng.integers(0, len(scope.families), 400).tolist():
        index = int(rng.integers(0, scope.families[number].states))
        state = scope.state(number, index)
        if state is None:
            continue
        tried += 1
        tries = scope.run(number, index, index + 1, oracle, policies, arch)
        case = cases.case_of_state(state)
        for policy, found in zip(policies, tries.found, strict=True):
            assert set(found.classes) == set(judge(case, policy)), (policy.name, case)
    assert tried > 250


def test_rules_that_are_merged_unmap_the_same():
    rng = np.random.default_rng(6)
    scope, arch, oracle = Scope(4, drawn=500), rf.arch.get("x86-64"), _policy.get("per-page")
    for number, family in enumerate(scope.families):
        policies = [_policy.get(name) for name in rf.policy.PRESETS]
        rules = [checker.unmap_rules(one, family.kind, family.anon_vma, family.uffd_wp) for one in policies]
        for first in rng.integers(0, family.states, 5).tolist():
            tried = scope.run(number, first, first + 2000, oracle, policies, arch)
            assert tried == scope.run(number, first, first + 2000, oracle, rules, arch)


def test_what_the_recorded_vectors_expose_the_checker_exposes_too(checked):
    exposed = {}
    for _, vector in read_vectors(VECTORS / "unmap_vectors.jsonl.gz"):
        if any(tag.startswith(("unreachable", "abnormal")) for tag in vector["tags"]):
            continue
        for name in ("v6.15", "v6.16", "file-v5", "v7.0-rc1", "v7.0", "v7.0.12", "v7.3"):
            if not (vector["ttu"].count("HWPOISON") and vector["folio"]["order"]):
                exposed.setdefault(name, set()).update(judge(vector, name))
    assert {"out-of-bounds", "accounting"} <= exposed["v6.15"]
    for name, found in exposed.items():
        assert found <= set(classes(checked, name)), name


# Running it


def test_threads_budget_and_resume_do_not_change_the_outcome(tmp_path):
    def counts(found):
        return [
            (one.policy_name, [(v.invariant, v.count, v.example) for v in one.violations]) for one in found.policies
        ]

    whole = rf.check(["v6.16", "v7.3"], pages=2, threads=1)
    assert counts(rf.check(["v6.16", "v7.3"], pages=2, threads=3)) == counts(whole)
    journal = tmp_path / "journal"
    part = rf.check(["v6.16", "v7.3"], pages=2, threads=1, budget=0.3, resume=journal)
    assert not part.complete and part.left_out
    with open(journal, "a") as log:
        log.write("[3, 17, [[")  # torn by a kill
    rest = rf.check(["v6.16", "v7.3"], pages=2, threads=2, resume=journal)
    assert rest.complete and rest.states == whole.states
    assert counts(rest) == counts(whole)
    with pytest.raises(ValueError, match=r"cannot be resumed: it is of other arguments: policies differ"):
        rf.check(["v6.16"], pages=2, resume=journal)


def test_resume_goes_by_the_rules_and_not_by_their_names(tmp_path):
    """A policy or architecture that was changed under its name is another one; its costs do not matter."""
    journal, arch = tmp_path / "journal", rf.arch.get("x86-64")
    first = rf.check(["v7.3"], pages=1, arch=arch, resume=journal)
    same = rf.check(["v7.3"], pages=1, arch=arch.replace(costs=""), resume=journal)
    assert same.policies == first.policies and same.complete
    for arguments, named in (
        ({"policies": [_policy.get("v7.3").replace(clip=False)]}, "policies"),
        ({"policies": ["v7.3"], "against": _policy.get("per-page").replace(mlock_at_once=True)}, "against"),
        ({"policies": ["v7.3"], "arch": arch.replace(mkdirty_soft_dirty=False)}, "arch"),
    ):
        with pytest.raises(ValueError, match=f"cannot be resumed: it is of other arguments: {named} differ"):
            rf.check(**{"pages": 1, "resume": journal} | arguments)


@pytest.mark.parametrize("text", ["some\nnotes\nof mine\n", "[1]\n", '"text"\n'])
def test_resume_leaves_a_file_alone_that_is_no_journal(text, tmp_path):
    path = tmp_path / "notes"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"notes: no journal of a check: "):
        rf.check(["v7.3"], pages=1, resume=path)
    assert path.read_text() == text


def state_with(**fields):
    """Four pages of a folio, all mapped, with some fields changed."""
    state = {
        "ptes": [int(pte.make("present", 64 + page, ["write"])) for page in range(4)] + [0] * 12,
        "first_vpn": 8,
        "ptrs_per_pte": 8,
        "vma": VmaRange(8, 12, 256, 0),
        "folio_flags": 0,
        "order": 2,
        "refcount": 9,
        "page_mapcount": [1, 1, 1, 1],
        "page_flags": [0, 0, 0, 0],
        "ttu": 0,
        "guard": "none",
    }
    return State(**state | fields)


@pytest.mark.parametrize("number", range(-1, max(len(cases.FOLIO_FLAGS), len(cases.VMA_FLAGS) + 1)))
def test_every_flag_survives_export_and_import(number):
    """A state becomes a case, and the case a population: with every flag (-1), and with one at a time."""

    def some(flags):
        flags = list(flags)
        return sum(flags) if number < 0 else flags[number % len(flags)]

    folio_flags, vma_flags = some(cases.FOLIO_FLAGS.values()), some([*cases.VMA_FLAGS.values(), VmaFlag.ANON])
    # What a page holds is nothing to an unmap.
    marks = [some(flag for flag in PageFlag if flag != PageFlag.ZERO), PageFlag.EXCLUSIVE, PageFlag.HWPOISON, 0]
    state = state_with(
        folio_flags=folio_flags,
        vma=VmaRange(8, 12, 256, vma_flags),
        page_flags=marks,
        ttu=some(_core.TTU_FLAGS.values()),
    )
    case = json.loads(json.dumps(cases.case_of_state(state)))
    population = cases.case_population(case)
    stored = FolioFlag.PAGE_MAPCOUNTS | FolioFlag.PAGE_FLAGS
    assert int(population.folio_flags[0]) == folio_flags | stored
    assert int(population.vma_flags[0]) == vma_flags
    assert cases.page_flags(population).tolist() == marks
    assert population.ptes.tolist() == list(state.ptes)
    assert sum(_core.TTU_FLAGS[name] for name in case["ttu"]) == state.ttu
    assert population.page_mapcounts(0).tolist() == list(state.page_mapcount)
    assert int(population.folio_refcount[0]) == state.refcount


def test_a_case_has_every_flag_that_an_unmap_can_meet():
    """The others say nothing to an unmap: LRU and reclaim state, what the case has as fields of its own, sharing."""
    without = FolioFlag.REFERENCED | FolioFlag.ACTIVE | FolioFlag.UNEVICTABLE | FolioFlag.LOCKED | FolioFlag.FREED
    without |= FolioFlag.WORKINGSET  # only the lists ask
    without |= FolioFlag.PARTIALLY_MAPPED  # being queued for a split is no part of what is checked
    without |= FolioFlag.MAYBE_SHARED  # only madvise asks
    without |= FolioFlag.EXCLUSIVE | FolioFlag.PAGE_MAPCOUNTS | FolioFlag.PAGE_FLAGS  # how the pages are stored
    assert sum(cases.FOLIO_FLAGS.values()) | without == sum(FolioFlag)
    assert sum(cases.VMA_FLAGS.values()) | VmaFlag.ANON | VmaFlag.EXEC | VmaFlag.SHARED == sum(VmaFlag)


def test_against_another_edition():
    """v7.1 and v7.2 changed nothing but the reference check; v7.3 changed the state after an abort only."""
    same = rf.check(["v7.2"], pages=2, against="v7.0.12")
    assert same.policies[0].violations == ()
    found = {violation.invariant for violation in rf.check(["v7.3"], pages=2, against="v7.2").policies[0].violations}
    assert found <= set(report.DOCUMENTED)


def test_a_python_function_is_checked_on_the_reference():
    def alone(folio, vma, pte):
        return folio.anon or folio.nr_pages == 1 or pte.unused or vma.uffd_wp

    def unclipped(folio, vma, walk, pte):
        return 1 if alone(folio, vma, pte) else walk.batch(folio.nr_pages)

    def clipped(folio, vma, walk, pte):
        return 1 if alone(folio, vma, pte) else walk.batch(min(folio.nr_pages, walk.room()))

    assert "out-of-bounds" in classes(rf.check(unclipped, budget=6), "unclipped")
    assert rf.check(clipped, budget=6).clean


def test_contpte_makes_no_state_another_one():
    """A restored batch that is folded says the same as the entries put back one by one."""
    arch = rf.arch.get("arm64-4k").replace(cont_ptes=2)
    policies = ("v6.15", "v7.3")
    folding, plain = (rf.check(policies, pages=2, arch=one) for one in (arch, arch.replace(cont_ptes=1)))
    assert [one.violations for one in folding.policies] == [one.violations for one in plain.policies]
    assert {violation.invariant for violation in folding.policies[1].violations} <= set(report.DOCUMENTED)


@pytest.mark.parametrize("arch", rf.arch.PRESETS)
def test_every_preset_is_checked(arch):
    """Also where a contpte block is larger than a case's page table; aborts restore 16 pages, a block of arm64-4k."""
    found = rf.check(["v6.15"], pages=2, arch=arch).policies[0].violations
    assert {"out-of-bounds", "restore-write"} <= {violation.invariant for violation in found}
    for violation in found:
        assert violation.invariant in judge(violation.example, _policy.get("v6.15"), arch=arch)
    drawn = list(random_cases(0, 60))
    found = checker.check_cases(drawn, ["v7.3", "v6.15"], arch=arch)
    assert {violation.invariant for violation in found.policies[0].violations} <= set(report.DOCUMENTED)
    assert "out-of-bounds" in classes(found, "v6.15")


@pytest.mark.parametrize("arch", ["arm64-16k", "ppc64-64k"])
def test_a_python_function_is_checked_on_every_preset(arch):
    def page_by_page(folio, vma, walk, pte):
        return 1

    assert rf.check(page_by_page, budget=2, arch=arch).clean


def test_the_how_to_runs_from_end_to_end(capsys):
    path = Path(__file__).parent.parent / "examples" / "policy.py"
    scope = {}
    exec(compile(path.read_text(), str(path), "exec"), scope)
    scope["main"](budget=5)
    out = capsys.readouterr().out
    assert "out-of-bounds" in out and "oob_reads" in out
    assert re.search(r"clipped +clean", out)
    assert "48 steps of 16.00 pages" in out


def test_random_cases_and_mutations_of_captures():
    drawn = list(random_cases(3, 40))
    assert drawn == list(random_cases(3, 40))
    found = checker.check_cases(drawn, ["v6.15", "v7.0.12", "v7.3"])
    assert not found.policies[0].clean
    assert found.policies[1].clean and found.policies[2].clean
    capture = Path(__file__).parent / "data" / "captures" / "anon64k_lazyfree_pageout.before.npz"
    mutations = capture_cases(rf.Population.load(capture), 0, 30)
    assert checker.check_cases(mutations, ["v7.0.12", "v7.3"]).clean


def test_command_line(tmp_path, capsys):
    assert main(["check", "--policy", "v7.0.12", "--pages", "2"]) == 0
    assert "abort-widened" in capsys.readouterr().out
    assert main(["check", "--policy", "file-v5", "--pages", "2", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    found = {violation["invariant"]: violation for violation in document["policies"][0]["violations"]}
    assert set(document["policies"][0]) >= {"policy", "states", "violations"}
    case = tmp_path / "case.json"
    case.write_text(json.dumps(found["uffd-wp-lost"]))
    assert main(["check", "--policy", "file-v5,v7.0", "--replay", str(case), "--known"]) == 1
    out = capsys.readouterr().out
    assert "marker" in out and "fixed in a67fe41e214f" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["--pages", "3"], "pages"),
        (["--budget", "0"], "budget"),
        (["--policy", "v9"], "policy"),
        (["--against", "v9"], "policy"),
        (["--random", "0"], "random"),
        (["--replay", "missing.json"], "missing.json"),
        (["--capture", "missing.npz"], "missing.npz"),
    ],
)
def test_bad_usage(arguments, word, capsys):
    assert main(["check", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and word in err


@pytest.mark.parametrize("text", ["", "[1", "[]", "{}", '{"vma": 3}', '{"folio": {"order": 99}}'])
def test_a_file_that_is_no_case(text, tmp_path, capsys):
    path = tmp_path / "case.json"
    path.write_text(text)
    assert main(["check", "--replay", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def counted_bits(pages, policy, arch, claim):
    """Return how many small states have bits to move under a claim, and how many of them had another outcome."""
    scope = _core.CheckScope(pages, False, False, 0, 0)
    found = [
        scope.counted_bits(
            family, 0, scope.family(family)["states"], rf.policy.get(policy), rf.arch.get(arch), claim=claim
        )
        for family in range(len(scope))
    ]
    return sum(tried for tried, _, _ in found), sum(wrong for _, wrong, _ in found)


@pytest.mark.parametrize("arch", ["x86-64", "arm64-4k"])
@pytest.mark.parametrize("policy", rf.policy.PRESETS)
def test_the_place_of_a_counted_bit_does_not_matter(policy, arch):
    """Pages of one run are alike to the rules, so their bits may be permuted; of 4 pages under the main editions."""
    pages = 4 if policy in ("per-page", "v6.15", "v7.0", "v7.3", "anon-swap") else 2
    tried, wrong = counted_bits(pages, policy, arch, "right")
    assert tried > 1000 and wrong == 0


@pytest.mark.parametrize("policy", ["per-page", "v6.15", "v7.0", "v7.3", "anon-swap"])
def test_a_wrong_counted_bit_is_found(policy):
    """An entry's own dirty bit leaves soft-dirty alone; one that is merged into it sets soft-dirty on x86."""
    _, wrong = counted_bits(2, policy, "x86-64", "first is counted")
    assert wrong > 0


# The rules, apart from any run


def anonymous(*flags, **fields):
    """An anonymous folio of four pages that is to be swapped out, with an exclusive page or more."""
    state = {
        "ptes": [int(pte.make("present", 64 + page, ["write", *flags])) for page in range(4)] + [0] * 12,
        "vma": VmaRange(8, 12, 256, int(VmaFlag.ANON)),
        "folio_flags": int(FolioFlag.ANON | FolioFlag.SWAPBACKED | FolioFlag.SWAPCACHE | FolioFlag.DIRTY),
        "page_flags": [int(PageFlag.EXCLUSIVE)] * 4,
        "ttu": _core.TTU_FLAGS["BATCH_FLUSH"],
    }
    return cases.case_of_state(state_with(**state | fields))


def expected(case, policy, cont_ptes=1):
    arch = rf.arch.get("x86-64").replace(ptrs_per_pte=8, cont_ptes=cont_ptes)
    return Expected(cases.case_population(case), _policy.get(policy), arch, case["ttu"])


def test_what_the_rules_say_of_a_folio_that_is_swapped_out():
    """Four entries, one by one: offset and bits of each swap entry, both counters, flushes, marks."""
    right = expected(anonymous("soft_dirty"), "v7.3")
    swap = [int(pte.make("swap", 8192 + page, ["soft_dirty", "exclusive"])) for page in range(4)]
    assert right.ptes == [*swap, *[0] * 12]
    assert right.rss == [0, -4, 4, 0] and right.refcount == 5 and right.marks == [0] * 4 and right.ret
    assert right.events["swap_dups"] == right.events["ref_puts"] == 4 and right.mapped_stat == -4
    assert [step for step in right.trace if step[0] == "tlb_deferred"] == [("tlb_deferred", 8 + i, 1) for i in range(4)]
    batch = expected(anonymous("soft_dirty"), "anon-swap")
    assert batch.ptes == right.ptes and ("step", 8, 4) in batch.trace and batch.events["swap_dups"] == 1


def test_what_the_rules_say_of_a_pinned_folio():
    """The first page is put back, and its swap reference is given back."""
    case = anonymous()
    case["folio"]["pinned"] = True
    right = expected(case, "v7.3")
    assert not right.ret and right.ptes == cases.case_population(case).ptes.tolist()
    assert right.events["swap_puts"] == 1 and right.rss == [0, 0, 0, 0] and right.marks == [int(PageFlag.EXCLUSIVE)] * 4


def test_what_the_rules_say_of_a_held_lazyfree_folio_in_folded_blocks():
    """It is put back in one piece, folded again, and stays lazyfree."""
    words = [int(pte.make("present", 64 + page, ["cont"])) for page in range(4)] + [0] * 12
    case = anonymous(ptes=words, folio_flags=int(FolioFlag.ANON), page_flags=[0] * 4, refcount=6, cont_ptes=2)
    right = expected(case, "v7.3", cont_ptes=2)
    assert not right.ret and right.ptes == words and right.events["contpte_folds"] == 2
    assert right.flags == int(FolioFlag.ANON) and right.refcount == 6
    assert judge(case, "v7.3") == []


@pytest.mark.parametrize(
    "invariant, damage",
    [
        ("rule-counters", lambda after, call: after.mm_rss.__setitem__((0, 0), 1)),
        ("rule-entries", lambda after, call: after.ptes.__setitem__(0, after.ptes[0] ^ pte.EXCLUSIVE)),
        ("rule-folio", lambda after, call: after.folio_refcount.__setitem__(0, 4)),
        ("rule-folio", lambda after, call: after.folio_flags.__ior__(FolioFlag.MLOCKED)),
        ("rule-folio", lambda after, call: dataclasses.replace(call, ret=False)),
        ("rule-events", lambda after, call: dataclasses.replace(call, mapped_stat=-3)),
        ("rule-tlb", lambda after, call: dataclasses.replace(call, writable=True)),
        ("rule-tlb", lambda after, call: changed_trace(call, "tlb_deferred")),
        ("rule-steps", lambda after, call: changed_trace(call, "step")),
    ],
)
@pytest.mark.parametrize("policy", ["v7.3", "anon-swap"])
def test_what_differs_from_the_rules_is_named(policy, invariant, damage):
    case = anonymous()
    outcome = unmap_case(case, policy)
    assert expected(case, policy).differences(outcome.after, outcome.call) == set()
    damaged = damage(outcome.after, outcome.call)
    call = damaged if isinstance(damaged, rf.Call) else outcome.call
    assert expected(case, policy).differences(outcome.after, call) == {invariant}


def changed_trace(call, what):
    """The first entry of a kind is said to be one page longer."""
    at = next(i for i, step in enumerate(call.trace) if step[0] == what)
    name, vpn, nr = call.trace[at]
    return dataclasses.replace(call, trace=[*call.trace[:at], (name, vpn, nr + 1), *call.trace[at + 1 :]])


def test_a_known_bug_hides_no_new_one(checked):
    """Its outcome is predicted, or its state is left alone; the state of another edition is judged."""
    wrong_restore = classes(checked, "v6.16")["restore-write"].example
    outcome = unmap_case(wrong_restore, "v6.16")
    assert expected(wrong_restore, "v6.16").differences(outcome.after, outcome.call) == set()
    # of a folio whose pages have no flags of their own it says what all of them have
    outcome.after.folio_flags[0] ^= int(FolioFlag.EXCLUSIVE)
    assert expected(wrong_restore, "v6.16").differences(outcome.after, outcome.call) == {"rule-folio"}
    for policy, mended, invariant in (("v7.0", "v7.0.12", "accounting"), ("v6.15", "v6.16", "out-of-bounds")):
        example = classes(checked, policy)[invariant].example
        assert expected(example, policy).known_bug and not expected(example, mended).known_bug


def test_drawn_states_have_long_batches_and_crossed_conditions():
    scope = Scope(1, drawn=400)
    lengths, crossed, folded = set(), set(), set()
    for number, family in enumerate(scope.families):
        if family.bits != "drawn":
            continue
        for index in range(400):
            state = scope.state(number, index)
            assert 1 << state.order == family.pages
            crossed.add((state.folio_flags & int(FolioFlag.DIRTY | FolioFlag.MLOCKED), state.vma.flags, state.ttu))
            folded.add(state.cont_ptes)
            if family.pages >= 8 and family.kind == "shmem" and not family.uffd_wp:
                case = cases.case_of_state(state)
                lengths |= {step.nr for step in unmap_case(case, "v7.3").steps}
    assert {8, 16, 32} <= lengths and any(16 < nr < 32 for nr in lengths)
    assert len(crossed) > 150 and folded == {1, 2, 4, 8, 16}
    again = Scope(1, drawn=400, seed=1)
    assert again.state(len(again.families) - 1, 7) != scope.state(len(scope.families) - 1, 7)
