"""The bounded checker: its scope is complete, its two sets of invariants agree, and it finds the known bugs unaided."""

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
from rmapfast.flags import FolioFlag, VmaFlag
from rmapfast.verify import cases, checker
from rmapfast.verify.vectors import read_vectors

POLICIES = ("per-page", "v6.15", "v6.16", "v6.18", "file-v5", "v7.0-rc1", "v7.0", "v7.0.12", "v7.3", "anon-swap")
VECTORS = Path(__file__).parent / "data" / "conformance"


@pytest.fixture(scope="module")
def report():
    """Folios of up to 4 pages, every state of the default scope."""
    return rf.check(POLICIES, pages=4, budget=600)


def classes(report, policy):
    one = next(one for one in report.policies if one.policy_name == policy)
    return {violation.invariant: violation for violation in one.violations}


# The scope


def test_a_scope_small_enough_to_count_by_hand():
    """Clean and dirty file folios of one page in a VMA without uffd-wp: every slot, border, condition, each once."""
    scope = _core.CheckScope(1, False, False)
    family = next(n for n in range(len(scope)) if scope.family(n)["kind"] == "file" and not scope.family(n)["uffd_wp"])
    seen = [scope.state(family, index) for index in range(scope.family(family)["states"])]
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
    conditions = [(dirty, 0, locked, ttu) for dirty in (0, 1) for ttu in ttus for locked in (0, 1)]
    ignored = (("SYNC", "IGNORE_MLOCK"), ("BATCH_FLUSH", "SYNC", "IGNORE_MLOCK"))
    conditions += [(dirty, 0, 1, ttu) for dirty in (0, 1) for ttu in ignored]
    reclaim = ("BATCH_FLUSH", "SYNC")
    conditions += [(0, 1, 0, reclaim), (0, 1, 1, reclaim), (0, 1, 1, (*reclaim, "IGNORE_MLOCK"))]
    conditions += [(0, 0, 0, ("IGNORE_MLOCK", "HWPOISON"))]
    # a page has two places: before the page-table border and behind it
    assert len(seen) == len(slots) * len(conditions) * 2

    def key(state):
        case = cases.case_of_state(state)
        words = json.dumps([case["ptes"], case["vma"], case["ttu"], case["folio"]], sort_keys=True)
        return words

    assert len({key(state) for state in seen}) == len(seen)
    found = {
        (
            bool(state["folio_flags"] & FolioFlag.DIRTY),
            state["refcount"] - 2 - sum(map(bool, [_maps(state)])),
            bool(state["vma"][3] & VmaFlag.LOCKED),
            frozenset(name for name, bit in _core.TTU_FLAGS.items() if state["ttu"] & bit),
        )
        for state in seen
    }
    assert found == {(bool(d), e, bool(lo), frozenset(t)) for d, e, lo, t in conditions}


def _maps(state):
    words = np.array(state["ptes"], np.uint64)
    return np.any((words & pte.PRESENT != 0) & (pte.pfn(words) == 64))


@pytest.mark.parametrize("pages", [2, 4])
def test_every_border_of_the_vma_and_of_the_page_table_occurs(pages):
    scope = _core.CheckScope(pages, False, False)
    for number in range(len(scope)):
        family = scope.family(number)
        if family["pages"] != pages:
            continue
        borders = set()
        for index in range(0, family["states"], max(1, family["states"] // 5000)):
            state = scope.state(number, index)
            if state:
                start, end, pgoff, _ = state["vma"]
                border = 2 * state["first_vpn"] - (start - (pgoff - 256))
                borders.add((border, pgoff - 256, end - start + pgoff - 256))
        runs = {(a, b) for a in range(pages) for b in range(a + 1, pages + 1)}
        first = 0 if pages == 2 else 1
        assert borders == {(border, *run) for border in range(first, pages + 1) for run in runs}


def test_unreachable_states_are_off_by_default_and_tagged():
    def tags(unreachable):
        scope = _core.CheckScope(2, False, unreachable)
        found = set()
        for number in range(len(scope)):
            states = scope.family(number)["states"]
            for index in range(0, states, max(1, states // 3000)):
                if state := scope.state(number, index):
                    found |= set(cases.case_of_state(state)["tags"])
        return found

    assert tags(False) == set()
    assert tags(True) == {
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
def test_the_known_bugs_are_found_with_a_smallest_example(report, policy, invariant, pages):
    found = classes(report, policy)[invariant]
    assert 1 << found.example["folio"]["order"] == pages
    assert invariant in cases.judge(found.example, policy)
    assert checker.known(_policy.get(policy), invariant)


@pytest.mark.parametrize("policy", ["per-page", "v6.18", "v7.0.12", "v7.3"])
def test_the_mended_editions_are_clean(report, policy):
    assert report.complete
    assert set(classes(report, policy)) <= set(checker.DOCUMENTED)


def test_every_example_is_judged_alike_in_python(report):
    for one in report.policies:
        for violation in one.violations:
            assert violation.invariant in cases.judge(violation.example, one.policy), (one.policy_name, violation)


def test_invariants_in_c_and_in_python_agree():
    rng = np.random.default_rng(5)
    scope, arch, oracle = _core.CheckScope(4, False, True), rf.arch.get("x86-64"), _policy.get("per-page")
    policies = [_policy.get(name) for name in POLICIES]
    tried = 0
    for number in rng.integers(0, len(scope), 250).tolist():
        index = int(rng.integers(0, scope.family(number)["states"]))
        state = scope.state(number, index)
        if state is None:
            continue
        tried += 1
        _, found = scope.run(number, index, index + 1, oracle, policies, arch)
        case = cases.case_of_state(state)
        for policy, (_, violated) in zip(policies, found, strict=True):
            assert set(violated) == set(cases.judge(case, policy)), (policy.name, case)
    assert tried > 150


def test_rules_that_are_merged_unmap_alike():
    rng = np.random.default_rng(6)
    scope, arch, oracle = _core.CheckScope(4, False, False), rf.arch.get("x86-64"), _policy.get("per-page")
    for number in range(len(scope)):
        family = scope.family(number)
        policies = [_policy.get(name) for name in rf.policy.PRESETS]
        rules = [checker.unmap_rules(one, family["kind"], family["anon_vma"], family["uffd_wp"]) for one in policies]
        for first in rng.integers(0, family["states"], 5).tolist():
            tried, found = scope.run(number, first, first + 2000, oracle, policies, arch)
            assert (tried, found) == scope.run(number, first, first + 2000, oracle, rules, arch)


def test_what_the_recorded_vectors_expose_the_checker_exposes_too(report):
    exposed = {}
    for _, vector in read_vectors(VECTORS / "unmap_vectors.jsonl.gz"):
        if any(tag.startswith(("unreachable", "abnormal")) for tag in vector["tags"]):
            continue
        for name in ("v6.15", "v6.16", "file-v5", "v7.0-rc1", "v7.0", "v7.0.12", "v7.3"):
            if not (vector["ttu"].count("HWPOISON") and vector["folio"]["order"]):
                exposed.setdefault(name, set()).update(cases.judge(vector, name))
    assert {"out-of-bounds", "accounting"} <= exposed["v6.15"]
    for name, found in exposed.items():
        assert found <= set(classes(report, name)), name


# Running it


def test_threads_budget_and_resume_do_not_change_the_outcome(tmp_path):
    def counts(report):
        return [
            (one.policy_name, [(v.invariant, v.count, v.example) for v in one.violations]) for one in report.policies
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
    with pytest.raises(ValueError, match=r"resume: .* other arguments"):
        rf.check(["v6.16"], pages=2, resume=journal)


def test_against_another_edition():
    """v7.1 and v7.2 changed nothing but the reference check; v7.3 changed the state after an abort only."""
    same = rf.check(["v7.2"], pages=2, against="v7.0.12")
    assert same.policies[0].violations == ()
    found = {violation.invariant for violation in rf.check(["v7.3"], pages=2, against="v7.2").policies[0].violations}
    assert found <= set(checker.DOCUMENTED)


def test_a_python_function_is_checked_on_the_reference():
    def alone(folio, vma, pte):
        return folio.anon or folio.nr_pages == 1 or pte.unused or vma.uffd_wp

    def unclipped(folio, vma, walk, pte):
        return 1 if alone(folio, vma, pte) else walk.batch(folio.nr_pages)

    def clipped(folio, vma, walk, pte):
        return 1 if alone(folio, vma, pte) else walk.batch(min(folio.nr_pages, walk.room()))

    assert "out-of-bounds" in classes(rf.check(unclipped, pages=2, budget=6), "unclipped")
    assert rf.check(clipped, pages=2, budget=6).clean


def test_contpte_makes_no_state_another_one():
    """A restored batch that is folded says the same as the entries put back one by one."""
    arch = rf.arch.get("arm64-4k").replace(cont_ptes=2)
    policies = ("v6.15", "v7.3")
    folding, plain = (rf.check(policies, pages=2, arch=one) for one in (arch, arch.replace(cont_ptes=1)))
    assert [one.violations for one in folding.policies] == [one.violations for one in plain.policies]
    assert {violation.invariant for violation in folding.policies[1].violations} <= set(checker.DOCUMENTED)


@pytest.mark.parametrize("arch", rf.arch.PRESETS)
def test_every_preset_is_checked(arch):
    """Also where a contpte block is larger than a case's page table; aborts restore 16 pages, a block of arm64-4k."""
    found = rf.check(["v6.15"], pages=2, arch=arch).policies[0].violations
    assert {"out-of-bounds", "restore-write"} <= {violation.invariant for violation in found}
    for violation in found:
        assert violation.invariant in cases.judge(violation.example, _policy.get("v6.15"), arch=arch)
    drawn = list(cases.random_cases(0, 60))
    report = checker.check_cases(drawn, ["v7.3", "v6.15"], arch=arch)
    assert {violation.invariant for violation in report.policies[0].violations} <= set(checker.DOCUMENTED)
    assert "out-of-bounds" in classes(report, "v6.15")


@pytest.mark.parametrize("arch", ["arm64-16k", "ppc64-64k"])
def test_a_python_function_is_checked_on_every_preset(arch):
    def page_by_page(folio, vma, walk, pte):
        return 1

    assert rf.check(page_by_page, pages=2, budget=2, arch=arch).clean


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
    drawn = list(cases.random_cases(3, 40))
    assert drawn == list(cases.random_cases(3, 40))
    report = checker.check_cases(drawn, ["v6.15", "v7.0.12", "v7.3"])
    assert not report.policies[0].clean
    assert report.policies[1].clean and report.policies[2].clean
    capture = Path(__file__).parent / "data" / "captures" / "anon64k_lazyfree_pageout.before.npz"
    mutations = cases.capture_cases(rf.Population.load(capture), 0, 30)
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
    assert "marker" in out and "fixed in a67fe41e214f" in out and max(map(len, out.splitlines())) <= 100


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
