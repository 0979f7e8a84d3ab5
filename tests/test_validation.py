"""The committed cost vectors explain the measured rows as well as docs/validation.md says, and come from the fit."""

import numpy as np
import pytest
import shared

from rmapfast import cost
from validation import fit, page, rows


@pytest.fixture(scope="module")
def problems():
    return {problem.name: problem for problem in fit.problems()}


BUILDS = ("ab-7.2.13", "x86-6.12", "x86-7.2", "arm64-6.12", "arm64-7.2")


def errors(problem):
    vector = cost.get(problem.name)
    return {row: row.predicted(vector) / row.measured - 1 for row in problem.rows}


@pytest.mark.parametrize("build", BUILDS)
def test_instructions_per_call_within_2_percent_and_totals_within_5_or_the_scatter(problems, build):
    for row, error in errors(problems[build]).items():
        aim = 0.02 if row.kind in ("unmap", "referenced") else 0.05
        assert abs(error) <= aim or row.scatter[0] <= 1 + error <= row.scatter[1], (row.section, row.name, error)


def test_the_measured_build_is_explained_by_24_events_at_most_with_a_median_error_below_1_percent(problems):
    vector = cost.get("ab-7.2.13")
    assert len(vector.costs) <= 24
    assert np.median([abs(error) for error in errors(problems["ab-7.2.13"]).values()]) < 0.01


def test_what_the_seeds_two_lines_buy_within_1_5_points(problems):
    vector = cost.get("ab-7.2.13")
    named = {(row.section, row.name): row for row in problems["ab-7.2.13"].rows if row.kind == "total"}
    pairs = [(row, named[section, name[:-1] + "B"]) for (section, name), row in named.items() if name.endswith(" A")]
    assert len(pairs) == 12
    for after, before in pairs:
        predicted = after.predicted(vector) / before.predicted(vector)
        assert abs(predicted - after.measured / before.measured) <= 0.015, after.name


def test_nanoseconds_of_6_18_within_15_percent_of_the_minimum(problems):
    missed = np.abs(list(errors(problems["x86-64"]).values()))
    assert len(missed) == 26
    assert len(cost.get("x86-64").costs) <= 17
    assert missed.max() <= 0.15
    assert np.median(missed) < 0.05


def test_the_published_times_of_the_seeds_experiment_within_10_percent(problems):
    found = errors(problems["arm64-4k"])
    assert {row.name for row in found} == {"v6.16", "v6.16+young", "v7.0-rc1"}
    assert max(map(abs, found.values())) <= 0.1


@pytest.mark.parametrize("name", [*BUILDS, "x86-64", "arm64-4k"])
def test_the_committed_vector_is_what_the_fit_gives(problems, name):
    committed, fitted = cost.get(name), problems[name].vector()
    assert [one.event for one in committed.costs] == [one.event for one in fitted.costs]
    for old, new in zip(committed.costs, fitted.costs, strict=True):
        assert old.value == pytest.approx(new.value, rel=1e-3, abs=0.01)
        assert (old.kind, old.source) == (new.kind, new.source)


@pytest.mark.parametrize("name", [*BUILDS, "x86-64", "arm64-4k"])
def test_every_member_explains_the_rows_as_well(problems, name):
    problem, vector = problems[name], cost.get(name)
    best = errors(problem)
    for member in vector.members:
        other = vector.replace(**{one.event: value for one, value in zip(vector.costs, member, strict=True)})
        for row, error in best.items():
            allowed = max(abs(error), problem.scatter, 1 - row.scatter[0]) * 1.01 + 1e-3
            assert abs(row.predicted(other) / row.measured - 1) <= allowed, (row.section, row.name)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["measured-vm.toml", "measured-x86-6.18.toml", "published.toml"])
def test_the_measured_rows_are_those_recorded(name):
    assert (rows.DATA / name).read_bytes() == (shared.DATA / name).read_bytes()


def test_assumed_vectors_say_so():
    for name, (like, factor) in fit.ASSUMED.items():
        vector = cost.get(name)
        assert {one.kind for one in vector.costs} == {"assumed"}
        for one, source in zip(vector.costs, cost.get(like).costs, strict=True):
            assert one.value == source.value
            assert one.high == pytest.approx(source.high * factor, rel=1e-3, abs=1e-3)


def test_the_page_holds_every_row(tmp_path, monkeypatch, problems, capsys):
    monkeypatch.setattr(page, "PAGE", tmp_path / "validation.md")
    page.main()
    text = page.PAGE.read_text(encoding="utf-8")
    for problem in problems.values():
        for row in problem.rows:
            assert f"| {row.section} | {row.name} | {row.measured:.0f} |" in text
    assert len(rows.vm_rows()) == sum(len(problems[build].rows) for build in BUILDS)
