"""The check of a rule of one's own, in Python or in C: what is tried, refused, found and reported."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import rmapfast as rf
from rmapfast import _core, pte
from rmapfast.cli.command import main
from rmapfast.flags import FolioFlag, VmaFlag
from rmapfast.verify import (
    case_drawing,
    check_cases,
    check_table,
    judge,
    random_cases,
    rule_cases,
    rule_check,
    unmap_case,
)
from rmapfast.verify.cases import case_of_state, case_population, reachable
from rmapfast.verify.states import Scope, State, VmaRange

RULES = Path(__file__).parent / "data" / "rules" / "restated.c"
TABLE = 512
ROUND = 7 * 4 * 7  # borders, kinds of folios, orders


def in_c(name):
    return f"{RULES}:{name}"


def page_by_page(folio, vma, walk, pte):
    return 1


def alone(folio, vma, walk, pte):
    return folio.anon or vma.uffd_wp or pte.unused or "HWPOISON" in walk.ttu


def clipped(folio, vma, walk, pte):
    return 1 if alone(folio, vma, walk, pte) else walk.batch(min(folio.nr_pages, walk.room()))


def whole_from_16(folio, vma, walk, pte):
    """Batch whole folios from page 0 on, without a look at the table or the VMA: the shape of CVE-2025-38447."""
    if alone(folio, vma, walk, pte) or folio.page(pte) or folio.nr_pages < 16:
        return 1
    nr = walk.batch(folio.nr_pages)
    return nr if nr >= 16 else 1


def pages_of(case):
    return 1 << case["folio"]["order"]


def found(report):
    return {violation.invariant: violation for violation in report.policies[0].violations}


def case_with(words, vma_flags=0, folio_flags=0, vma=None):
    """A file folio of 4 pages at virtual page 8, of which these entries map pages."""
    words = [*words, *[0] * (16 - len(words))]
    page = [(word >> int(pte.PFN_SHIFT)) - 64 for word in words if word]
    counts = np.bincount(page, minlength=4)
    state = State(
        ptes=words,
        first_vpn=8,
        ptrs_per_pte=8,
        vma=vma or VmaRange(8, 12, 256, vma_flags),
        folio_flags=folio_flags,
        order=2,
        refcount=5 + len(page),
        page_mapcount=counts.tolist(),
        page_flags=[0] * 4,
        ttu=_core.TTU_FLAGS["SYNC"] | _core.TTU_FLAGS["BATCH_FLUSH"],
        guard="none",
    )
    return case_of_state(state)


def entry(page, *flags):
    return int(pte.make("present", 64 + page, list(flags)))


FOUR = case_with([entry(page) for page in range(4)])


# What is tried


def test_every_state_of_one_page_is_tried_where_one_page_is_asked_for(monkeypatch):
    scope = Scope(1)
    states = [
        scope.state(number, index) for number, family in enumerate(scope.families) for index in range(family.states)
    ]
    judged = []
    monkeypatch.setattr(rule_check, "judge", lambda case, rule, **_: judged.append(case) or [])
    report = rf.check(page_by_page, pages=1, drawn=0, budget=600)
    assert judged == [case_of_state(state) for state in states if state is not None]
    assert report.complete and not report.left_out and report.states == len(judged)
    done = report.provenance["arguments"]
    assert (done["pages"], done["exhaustive_pages"], done["sampled_pages"], done["drawn"]) == (1, 1, 0, 0)


@pytest.mark.parametrize("pages", [2, 4, 8])
def test_what_does_not_fit_into_the_budget_is_refused_before_it_starts(pages):
    asked = []

    def rule(folio, vma, walk, pte):
        asked.append(folio)
        return 1

    states = sum(family.states for family in Scope(pages).families)
    with pytest.raises(
        ValueError, match=rf"^pages: {states:,} states .* rule\(\) .*; use budget=\d+, or leave"
    ) as error:
        rf.check(rule, pages=pages)
    assert "\n" not in str(error.value) and not asked


def test_the_budget_that_a_refusal_names_would_do():
    with pytest.raises(ValueError, match="use budget=") as error:
        rf.check(page_by_page, pages=1, budget=3, drawn=5)
    budget = int(re.search(r"use budget=(\d+),", str(error.value))[1])

    class Started(Exception):
        pass

    def rule(folio, vma, walk, pte):
        raise Started

    with pytest.raises(Started):
        rf.check(rule, pages=1, budget=budget, drawn=5)


def test_without_pages_the_report_says_what_was_tried_in_part():
    report = rf.check(page_by_page, budget=10, drawn=30)
    done = report.provenance["arguments"]
    assert not report.complete
    assert (done["pages"], done["exhaustive_pages"], done["sampled_pages"], done["drawn"]) == (None, 0, 4, 30)
    text = " ".join(str(report).split())
    assert "not the whole scope" in text and "No size of folio exhaustively." in text
    assert "30 drawn folios of 8 to 512 pages (seed 0)" in text
    # every size that was tried in part is named with how many of how many
    for size in (2, 4):
        states = sum(family.states for family in Scope(4).families if family.pages == size)
        line = next(line for line in report.left_out if line.startswith(f"folios of {size} pages: tried "))
        tried = int(re.search(r"tried ([\d,]+) of", line)[1].replace(",", ""))
        assert 0 < tried < states and f"of {states:,} state numbers" in line


@pytest.mark.parametrize("states", [1, 2, 12, 1104, 1105])
def test_a_part_of_the_states_is_spread_over_all_of_them(states):
    order = list(rule_check._spread(states))
    assert sorted(order) == list(range(states))
    first = sorted(order[: states // 10])
    assert all(b - a < states / 4 for a, b in zip([0, *first], [*first, states], strict=True)) or states < 100


def borders_of(case):
    """Which borders lie in the folio of a drawn case, from its numbers alone."""
    vma, folio = case["vma"], case["folio"]
    linear = vma["start_vpn"] - vma["pgoff"] + folio["index"]
    end = linear + pages_of(case)
    low, high = max(linear, vma["start_vpn"]), min(end, vma["end_vpn"])
    return {
        "starts before the VMA": linear < vma["start_vpn"],
        "ends after the VMA": end > vma["end_vpn"],
        "is cut on both sides": linear < low and high < end,
        "crosses a table end": linear // TABLE != (end - 1) // TABLE,
        "ends at a table end": end % TABLE == 0,
        "starts at a table end": linear % TABLE == 0,
        "crosses a table end and a VMA border": linear // TABLE != (end - 1) // TABLE and (low, high) != (linear, end),
        "crosses nothing": linear // TABLE == (end - 1) // TABLE and (low, high) == (linear, end),
    }


def kind_of(case):
    folio = case["folio"]
    return {(0, 0): "file", (0, 1): "shmem", (1, 0): "lazyfree", (1, 1): "anon"}[folio["anon"], folio["swapbacked"]]


def test_drawn_folios_have_every_size_and_kind_at_every_border():
    drawn = list(rule_cases(0, 10 * ROUND))
    seen = {
        (kind_of(case), pages_of(case), name) for case in drawn for name, is_so in borders_of(case).items() if is_so
    }
    names = borders_of(drawn[0])
    assert seen == {
        (kind, 1 << order, name)
        for kind in ("file", "shmem", "lazyfree", "anon")
        for order in range(3, 10)
        for name in names
    }
    assert all(case["ptrs_per_pte"] == TABLE and reachable(case) for case in drawn)


def test_drawn_folios_follow_from_the_seed_and_are_right_page_by_page():
    drawn = list(rule_cases(3, 60))
    assert drawn == list(rule_cases(3, 60)) and drawn != list(rule_cases(4, 60))
    assert drawn[:40] == list(rule_cases(3, 40))
    for case in drawn:
        _core.check_population(case_population(case), rf.arch.get("x86-64"))
        assert judge(case, "per-page") == judge(case, page_by_page) == []


# What is found


def test_whole_folios_without_a_clip_are_found_with_an_example_of_16_pages():
    report = rf.check(whole_from_16, budget=20, drawn=ROUND)
    example = found(report)["out-of-bounds"].example
    assert not report.clean and pages_of(example) >= 16 and reachable(example)
    assert "out-of-bounds" in judge(example, whole_from_16)
    assert judge(example, clipped) == []


def clips_at_the_table_only(folio, vma, walk, pte):
    if alone(folio, vma, walk, pte):
        return 1
    return walk.batch(min(folio.nr_pages, TABLE - walk.vpn % TABLE))


def clips_at_the_vma_only(folio, vma, walk, pte):
    return 1 if alone(folio, vma, walk, pte) else walk.batch(min(folio.nr_pages, vma.end - walk.vpn))


def wrong_from_256_pages_on(folio, vma, walk, pte):
    return clipped(folio, vma, walk, pte) if folio.nr_pages < 256 else whole_from_16(folio, vma, walk, pte)


def wrong_for_shmem(folio, vma, walk, pte):
    return (whole_from_16 if folio.kind == "shmem" else clipped)(folio, vma, walk, pte)


def skips_no_hole(folio, vma, walk, pte):
    """Clear all that could be left, whatever the entries hold."""
    return min(folio.nr_pages - folio.page(pte), walk.room()) if folio.nr_pages > 8 else 1


@pytest.mark.parametrize(
    ("rule", "invariant"),
    [
        (clips_at_the_table_only, "out-of-bounds"),
        (clips_at_the_vma_only, "out-of-bounds"),
        (wrong_from_256_pages_on, "out-of-bounds"),
        (wrong_for_shmem, "out-of-bounds"),
        (skips_no_hole, "accounting"),
    ],
)
def test_a_rule_that_is_wrong_for_large_folios_is_found(rule, invariant):
    assert invariant in found(check_cases(rule_cases(0, 2 * ROUND), rule))


def test_a_right_rule_is_clean_on_drawn_folios():
    report = check_cases(rule_cases(0, 2 * ROUND), clipped)
    assert report.clean and report.policies[0].coverage.largest > 256


def test_random_cases_are_for_functions_too():
    assert "out-of-bounds" in found(check_cases(random_cases(0, 60), whole_from_16))
    assert check_cases(random_cases(0, 60), clipped).clean


# Coverage


def test_coverage_counts_what_was_returned():
    """Four mapped pages in two steps of two; a folio of another kind page by page."""

    def by_twos(folio, vma, walk, pte):
        return 1 if folio.swapbacked else 2

    shmem = case_with([entry(page) for page in range(3)], folio_flags=FolioFlag.SWAPBACKED)
    report = check_cases([FOUR, FOUR, shmem], by_twos)
    coverage = report.policies[0].coverage
    assert coverage.returned == {"file": {2: 4}, "shmem": {1: 3}}
    assert (coverage.asked, coverage.largest) == (7, 2)
    document = json.loads(json.dumps(report.to_dict()))["policies"][0]["coverage"]
    assert document == {
        "asked": 7,
        "largest": 2,
        "only_1": False,
        "returned": {"file": {"2": 4}, "shmem": {"1": 3}},
    }
    text = check_table(report)
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if re.match(r"(nr|1|2) ", line)}
    columns = dict(zip(rows["nr"][-2:], zip(rows["1"], rows["2"], strict=True), strict=True))
    assert columns == {"file": (".", "4"), "shmem": ("3", ".")}
    assert "by_twos never returned anything but 1 for these folios: shmem." in text


def test_a_rule_that_batches_nothing_is_named():
    report = check_cases([FOUR], page_by_page)
    assert report.policies[0].coverage.returned == {"file": {1: 4}}
    assert report.to_dict()["policies"][0]["coverage"]["only_1"]
    assert "page_by_page never returned anything but 1:" in check_table(report)


def test_a_rule_that_is_never_asked_is_named():
    locked = case_with([entry(0)], vma_flags=VmaFlag.LOCKED)
    report = check_cases([locked], clipped)
    assert report.policies[0].coverage.asked == 0 and "clipped was never asked" in check_table(report)


def test_splits_have_coverage_too():
    report = rf.check(clipped, splits=True, pages=1, budget=1)
    assert set(report.policies[0].coverage.returned["file"]) == {1}


def test_policies_have_none():
    assert check_cases([FOUR], ["v7.0"]).policies[0].coverage is None


def test_a_table_is_at_most_100_columns_wide():
    report = check_cases(rule_cases(0, ROUND), clipped)
    assert report.policies[0].coverage.largest > 256
    assert max(map(len, check_table(report).splitlines())) <= 100


# The same of a rule in C


def test_a_rule_in_c_is_tried_on_every_small_state_and_on_drawn_folios():
    report = rf.check([in_c("clipped"), "v7.0.12"], pages=2, budget=600, folios=ROUND, seed=2)
    own, preset = report.policies
    states = rf.check(["v7.0.12"], pages=2, budget=600).states
    assert report.complete and own.clean and preset.clean
    assert (own.states, preset.states, report.states) == (states + ROUND, states, states + ROUND)
    done = report.provenance["arguments"]
    assert (done["exhaustive_pages"], done["sampled_pages"], done["folios"], done["seed"]) == (2, 0, ROUND, 2)
    text = " ".join(str(report).split())
    assert "clean in the" not in text and f"{ROUND} drawn folios of 8 to 512 pages (seed 2)" in text
    assert preset.coverage is None and "coverage" not in report.to_dict()["policies"][1]


def test_coverage_of_small_states_is_what_their_unmaps_cleared():
    scope, policy = Scope(4), rf.policy.get(in_c("clipped"))
    lengths = set()
    ranges = [(number, part) for number in range(len(scope.families)) for part in range(3)]
    for number, part in ranges:
        states = scope.families[number].states
        first = part * states // 3
        last = min(first + 30, states)
        (tried,) = scope.run(number, first, last, rf.policy.get("v7.0"), [policy], rf.arch.get("x86-64")).found
        numbers = range(first, last)
        distinct = [state for index in numbers if (state := scope.state(number, index)) is not None]
        steps = [step for state in distinct for step in unmap_case(case_of_state(state), policy).steps]
        assert tried.batches == Counter(step.nr for step in steps if step.present)
        lengths |= set(tried.batches)
    assert {1, 2} <= lengths


def test_coverage_of_a_rule_in_c_is_that_of_the_same_function():
    cases = [*rule_cases(0, ROUND), *random_cases(0, 60)]
    compiled, function = (check_cases(cases, rule, budget=600).policies[0] for rule in ([in_c("clipped")], clipped))
    assert compiled.coverage == function.coverage and compiled.coverage.largest > 256
    report = rf.check([in_c("clipped")], pages=1, budget=600, folios=ROUND)
    drawn = check_cases(rule_cases(0, ROUND), [in_c("clipped")], budget=600).policies[0].coverage
    for kind, counts in drawn.returned.items():
        assert {nr: count for nr, count in report.policies[0].coverage.returned[kind].items() if nr > 1} == {
            nr: count for nr, count in counts.items() if nr > 1
        }
    assert "nr that restated.c:clipped returned, and how often:" in str(report)


def test_a_rule_in_c_that_batches_nothing_is_named():
    report = rf.check([in_c("one")], pages=2, budget=600, folios=20)
    assert report.policies[0].clean and report.policies[0].coverage.largest == 1
    assert "restated.c:one never returned anything but 1:" in str(report)


def test_whole_folios_without_a_clip_are_found_in_c_with_an_example_of_16_pages():
    report = rf.check([in_c("whole_from_16")], pages=1, budget=600, folios=ROUND)
    example = found(report)["out-of-bounds"].example
    assert not report.clean and pages_of(example) >= 16 and reachable(example)
    assert found(report) == found(check_cases(rule_cases(0, ROUND), whole_from_16, budget=600))


def test_what_there_was_no_time_for_is_left_out():
    report = rf.check([in_c("clipped")], pages=8, budget=0.01)
    assert not report.complete and report.provenance["arguments"]["exhaustive_pages"] == 0
    assert any("drawn folios: tried" in line for line in report.left_out)


def test_a_check_of_a_rule_in_c_is_resumed(tmp_path):
    arguments = {"pages": 2, "folios": 20, "resume": tmp_path / "journal"}
    first, again = (rf.check([in_c("clipped")], budget=600, **arguments) for _ in range(2))
    assert again.policies == first.policies and first.policies[0].coverage.asked


def test_the_command_line_takes_a_function(tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text("def wrong(folio, vma, walk, pte):\n    return folio.nr_pages - folio.page(pte)\nnumber = 3\n")
    assert main(["check", "--policy", f"{path}:wrong", "--random", "20", "--json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)["policies"]
    assert found["policy"] == "wrong" and found["coverage"]["largest"] >= 8
    assert main(["check", "--policy", f"{path}:wrong", "--budget", "4", "--drawn", "3", "--seed", "7"]) == 1
    assert "3 drawn folios of 8 to 512 pages (seed 7)" in " ".join(capsys.readouterr().out.split())
    assert main(["check", "--policy", f"{RULES}:unclipped", "--random", "20", "--json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)["policies"]
    assert found["policy"] == "restated.c:unclipped" and found["coverage"]["largest"] > 1
    for policy, said in (
        (f"{path}:gone", "has no function 'gone'"),
        (f"{path}:number", "has no function 'number'"),
        (f"{tmp_path}/gone.py:rule", "No such file"),
    ):
        assert main(["check", "--policy", policy]) == 2
        err = capsys.readouterr().err
        assert said in err and err.count("\n") == 1


# A rule in C beside the same function


def test_the_same_rule_twice():
    same = rf.compare_rules(in_c("clipped"), clipped, budget=12, drawn=ROUND)
    assert same.same and same.difference is None and same.tried and same.drawn
    assert same.asked == same.coverage.asked > same.tried and same.coverage.largest > 1
    assert "restated.c:clipped and clipped() returned the same at" in str(same)


def test_the_first_difference():
    """Both rules, each by itself, take the same steps up to that entry."""
    differ = rf.compare_rules(in_c("whole_from_16"), clipped, budget=8)
    one = differ.difference
    assert not differ.same and not differ.drawn and reachable(one.case) and one.in_c != one.in_python
    assert f"{one.in_c} in C, {one.in_python} in Python" in str(differ)
    rules = (in_c("whole_from_16"), clipped)
    c, python = ({step.vpn: step.nr for step in unmap_case(one.case, rule).steps} for rule in rules)
    assert (c[one.vpn], python[one.vpn]) == (one.in_c, one.in_python)
    assert all(c.get(vpn) == nr for vpn, nr in python.items() if vpn < one.vpn)


def test_a_difference_in_what_cannot_be():
    def none(folio, vma, walk, pte):
        return 0

    differ = rf.compare_rules(in_c("one"), none, budget=5, drawn=5)
    assert (differ.difference.in_c, differ.difference.in_python) == (1, 0)
    with pytest.raises(ValueError, match=r"none\(\) must return an int from 1 to"):
        rf.compare_rules(in_c("none"), none, budget=5, drawn=5)


def test_what_is_no_pair_of_rules():
    with pytest.raises(ValueError, match=r"in_c: expected a policy with a batching rule, got v7\.0"):
        rf.compare_rules("v7.0", clipped)
    with pytest.raises(TypeError, match="in_python: expected a function"):
        rf.compare_rules(in_c("one"), "v7.0")
    with pytest.raises(ValueError, match=r"^pages: .* use budget="):
        rf.compare_rules(in_c("one"), page_by_page, pages=4)


# What a rule may not return


@pytest.mark.parametrize("nonsense", [0, -1, 5, 2.0, None, True, "2", [2]], ids=repr)
def test_nonsense_is_an_error_that_names_folio_and_entry(nonsense):
    def broken(folio, vma, walk, pte):
        return nonsense

    said = (
        rf"broken\(\) must return an int from 1 to 4, .* folio 0 at vpn 8, got {re.escape(repr(nonsense))}; .*4 pages"
    )
    with pytest.raises(ValueError, match=said):
        check_cases([FOUR], broken)
    with pytest.raises(ValueError, match=r"broken\(\) must return an int from 1 to \d+, .* folio 0 at vpn \d+, got"):
        rf.check(broken, budget=1, drawn=5)


def test_what_is_left_of_the_folio_is_the_limit_and_numpy_integers_are_right():
    def rest(folio, vma, walk, pte):
        return np.int64(folio.nr_pages - folio.page(pte))

    assert check_cases([FOUR], rest).policies[0].coverage.returned == {"file": {4: 1}}
    with pytest.raises(ValueError, match=r"from 1 to 2, .* folio 0 at vpn 10, got 3"):
        check_cases([FOUR], lambda folio, vma, walk, pte: 2 if folio.page(pte) == 0 else 3)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"policies": ["v7.0"], "young": True, "drawn": 5}, "drawn"),
        ({"policies": ["v7.0"], "splits": True, "seed": 5}, "seed"),
        ({"policies": ["v7.0"], "drawn": 1 << 48}, "drawn"),
        ({"policies": ["v7.0"], "folios": 5}, "folios"),
        ({"policies": [in_c("clipped")], "young": True, "folios": 5}, "folios"),
        ({"policies": page_by_page, "splits": True, "drawn": 5}, "drawn"),
        ({"policies": page_by_page, "drawn": -1}, "drawn"),
        ({"policies": page_by_page, "seed": 0.5}, "seed"),
        ({"policies": page_by_page, "all_bits": True}, "all_bits"),
        ({"policies": page_by_page, "resume": "file"}, "resume"),
        ({"policies": page_by_page, "pages": 3}, "pages"),
    ],
)
def test_arguments_that_do_nothing_are_refused(arguments, named):
    with pytest.raises((TypeError, ValueError), match=f"^{named}: "):
        rf.check(**arguments)


def test_a_case_of_another_check_is_refused():
    with pytest.raises(ValueError, match=r"^cases: .* got one with young_state$"):
        check_cases([{"young_state": {}}], page_by_page)


# Reachable examples first


def test_a_page_twice_in_a_file_vma_is_tagged():
    twice, in_place = [entry(0), entry(0)], [entry(0), 0, entry(2)]
    assert case_with(twice)["tags"] == ["unreachable:page-out-of-place"]
    assert case_with([0, entry(0)])["tags"] == ["unreachable:page-out-of-place"]
    assert case_with(in_place)["tags"] == [] and reachable(case_with(in_place))
    # the VMA begins with page 1 of the folio; what lies in front of it belongs to another VMA
    assert case_with([entry(3), entry(1)], vma=VmaRange(9, 12, 257, 0))["tags"] == []
    # what an anonymous VMA maps need not go by a file's offsets
    assert case_with(twice, VmaFlag.ANON, FolioFlag.ANON)["tags"] == []


def test_reachable_examples_come_first():
    def two(folio, vma, walk, pte):
        return min(2, folio.nr_pages - folio.page(pte))

    twice = case_with([entry(0), entry(0)])
    hole = case_with([entry(0), 0, entry(2), entry(3)])
    marker = case_with([entry(page, "uffd_wp") for page in range(4)], vma_flags=VmaFlag.UFFD_WP)
    assert "accounting" in judge(twice, two) and "accounting" in judge(hole, two)
    assert "uffd-wp-lost" in judge(marker, two) and "accounting" not in judge(marker, two)
    assert found(check_cases([twice, hole], two))["accounting"].example == hole
    report = check_cases([twice, marker], two)
    order = [reachable(violation.example) for violation in report.policies[0].violations]
    assert order == sorted(order, reverse=True) and set(order) == {True, False}
    assert report.policies[0].violations[0].invariant == "uffd-wp-lost"
    assert "unreachable:page-out-of-place" in check_table(report)


def test_a_drawing_of_a_large_folio_shows_where_it_breaks():
    case = next(
        case
        for case in rule_cases(0, 4 * ROUND)
        if pages_of(case) == 512 and "out-of-bounds" in judge(case, whole_from_16)
    )
    step = next(step for step in case_drawing(case, whole_from_16).splitlines() if step.startswith("vpn"))
    shown = [int(vpn) for vpn in re.findall(r"\d+", step)]
    assert len(shown) == 20
    borders = {case["vma"]["end_vpn"], 2 * TABLE}
    assert any(border - 1 in shown for border in borders)


def test_c_knows_which_small_states_a_kernel_can_reach():
    """The first reachable state of what all of them violate is the one that the tags of the cases name."""
    scope = Scope(2, unreachable=True)
    policy = rf.policy.get("v7.0").replace(name="own", rule=in_c("all"))
    seen = set()
    for number, family in enumerate(scope.families):
        indices = range(0, family.states, max(1, family.states // 150))
        for index in indices:
            if (state := scope.state(number, index)) is None:
                continue
            (found,) = scope.run(
                number, index, index + 1, rf.policy.get("per-page"), [policy], rf.arch.get("x86-64")
            ).found
            for one in found.classes.values():
                assert one.reachable == reachable(case_of_state(state)), case_of_state(state)
                seen.add(one.reachable)
    assert seen == {True, False}


def test_examples_of_the_small_states_are_reachable_where_there_are_such():
    (checked,) = rf.check([in_c("all")], pages=2, budget=600, folios=0).policies
    order = [reachable(violation.example) for violation in checked.violations]
    assert order == sorted(order, reverse=True) and checked.violations
    # the lowest number of all that violate it, by hand
    scope, policy = Scope(2), rf.policy.get("v7.0").replace(name="own", rule=in_c("all"))
    first = None  # none of one page does
    for number, family in enumerate(scope.families):
        for index in range(family.states if family.pages == 2 else 0):
            if first is None and (state := scope.state(number, index)) is not None:
                case = case_of_state(state)
                if reachable(case) and "accounting" in judge(case, policy):
                    first = case
        if first:
            break
    assert {one.invariant: one.example for one in checked.violations}["accounting"] == first
