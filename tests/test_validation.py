"""The committed cost vectors come from the fits, and their intervals hold what they were not fitted to."""

import functools

import numpy as np
import pytest
import shared

from rmapfast import cost
from validation import coverage, fit, page, published, rows
from validation.instructions import BUILDS


@functools.cache
def fits():
    return fit.Fits.measured()


@functools.cache
def vectors():
    return fits().vectors()


FITTED = [*BUILDS, "x86-64"]
# Builds with rows in steps of folio order, holes and layouts, which test themselves.
WELL_TESTED = ("ab-7.2.13", "arm64-7.2")
# Those of measured-vm.toml.
VM_BUILDS = ("ab-7.2.13", "x86-6.12", "x86-7.2", "arm64-6.12", "arm64-7.2")


def errors(name):
    """Relative error of each row under the classic LRU."""
    vector = cost.get(name)
    rows_of = [row for row in fits().problems[name].rows if row.lists == "classic"]
    return {row: row.predicted(vector) / row.measured - 1 for row in rows_of}


@pytest.mark.parametrize("build", VM_BUILDS)
def test_instructions_per_call_within_2_percent_and_totals_within_5_or_the_scatter(build):
    for row, error in errors(build).items():
        aim = 0.02 if row.kind in ("unmap", "referenced") else 0.05
        assert abs(error) <= aim or row.scatter[0] <= 1 + error <= row.scatter[1], (row.section, row.name, error)


def test_every_measured_row_is_fitted():
    fitted = [row for name in VM_BUILDS for row in fits().problems[name].rows if row.lists == "classic"]
    assert len(rows.vm_rows()) == len(fitted) == 120


def test_nanoseconds_of_6_18_within_16_percent_of_the_minimum():
    missed = np.abs(list(errors("x86-64").values()))
    assert len(missed) == 26
    assert missed.max() <= 0.16 and np.median(missed) < 0.05


def test_the_measured_build_has_a_median_error_below_1_percent():
    assert np.median([abs(error) for error in errors("ab-7.2.13").values()]) < 0.01


def test_what_the_seeds_two_lines_buy_lies_in_the_interval_of_the_change():
    vector = cost.get("ab-7.2.13")
    named = {(row.section, row.name): row for row in fits().problems["ab-7.2.13"].rows if row.kind == "total"}
    pairs = [
        (row, named[section, name[:-1] + "B"])
        for (section, name), row in named.items()
        if name.endswith(" A") and row.lists == "classic"
    ]
    assert len(pairs) == 12
    held = 0
    for after, before in pairs:
        found = vector.change(before.counts, after.counts)
        measured = after.measured / before.measured - 1
        # where the model counts the same, only the scatter of the measurement is left
        held += found.low - 0.01 <= measured <= found.high + 0.01
        assert abs(found.value - measured) <= 0.015, after.name
    assert held == len(pairs)


@pytest.mark.parametrize(("unit", "lists", "least"), [("ns", "classic", 0.85), ("instructions", "classic", 0.85),
                                                      ("instructions", "mglru", 0.8)])  # fmt: skip
def test_intervals_hold_what_was_left_out(unit, lists, least):
    """Of the rows of designs that were left out, with residuals from the other designs: 90%, give or take 5 points.

    Rows under MGLRU decide no residual, so they may fall outside somewhat more often.
    """
    found = []
    for name, one in fits().left_out.items():
        wanted = [row for row in one if (row.row.unit, row.row.lists) == (unit, lists)]
        found += [inside for inside, _ in coverage.held(wanted, fits().peers(name), fits().floor(name))]
    assert len(found) >= 26
    assert least <= np.mean(found) <= 0.95


def test_intervals_are_not_too_wide():
    """Of whole reclaims in instructions 8% on the builds with rows enough; of nanoseconds 45% on the fitted machine."""
    for names, kind, most in ((WELL_TESTED, "total", 0.08), (("x86-64",), "ns", 0.45)):
        widths = []
        for name in names:
            rows_of = [row for row in fits().problems[name].rows if (row.kind, row.lists) == (kind, "classic")]
            found = [row.range(cost.get(name)) for row in rows_of]
            widths += [(one.high - one.low) / one.value for one in found]
        assert np.median(widths) <= most, names


def test_a_vector_that_cannot_test_itself_is_no_surer_than_one_that_can():
    for name in BUILDS:
        assert cost.get(name).residual >= cost.get("ab-7.2.13").residual
        assert ("too few" in cost.get(name).note) == (not fits().tested(name))


def test_the_published_times_lie_in_their_intervals():
    """At the folio orders that are most likely. At order 5 they are met; at order 4 v7.0-rc1 is missed by a quarter."""
    vector = cost.get("arm64-4k")
    for order in (4, 5):
        found = {row.name: row for row in rows.published_rows(order)}
        assert set(found) == {"v6.16", "v6.16+young", "v7.0-rc1"}
        assert all(coverage.inside(row, vector) for row in found.values())
        missed = [abs(row.predicted(vector) / row.measured - 1) for row in found.values()]
        assert max(missed) <= (0.1 if order == 5 else 0.3)
        for before, after in (("v6.16", "v6.16+young"), ("v6.16+young", "v7.0-rc1")):
            change = vector.change(found[before].counts, found[after].counts)
            assert change.low <= found[after].measured / found[before].measured - 1 <= change.high


def test_the_weights_of_orders_and_alternatives_add_up():
    tried = published.alternatives(cost.get("arm64-7.2"))
    assert sum(one.weight for one in tried) == pytest.approx(1)
    assert {one.order for one in tried} == set(published.ORDERS)
    assert sum(published.ORDERS.values()) == pytest.approx(1)
    assert {one.extra for one in tried} == set(published.EXTRAS)


@pytest.mark.parametrize("name", [*FITTED, "arm64-4k", "arm64-16k", "arm64-64k", *fit.UNTIMED])
def test_the_committed_vector_is_what_the_fit_gives(name):
    committed, fitted = cost.get(name), vectors()[name]
    assert [one.event for one in committed.costs] == [one.event for one in fitted.costs]
    assert (committed.residual, committed.note, committed.joint) == (fitted.residual, fitted.note, fitted.joint)
    for old, new in zip(committed.costs, fitted.costs, strict=True):
        assert (old.value, old.low, old.high) == pytest.approx((new.value, new.low, new.high), rel=1e-2, abs=0.02)
        assert (old.kind, old.source) == (new.kind, new.source)


@pytest.mark.shared
@pytest.mark.parametrize(
    "name",
    ["measured-vm.toml", "measured-arch.toml", "measured-mglru.toml", "measured-x86-6.18.toml", "published.toml"],
)
def test_the_measured_rows_are_those_recorded(name):
    assert (rows.DATA / name).read_bytes() == (shared.DATA / name).read_bytes()


def test_untimed_vectors_say_so():
    for name, counted in fit.UNTIMED.items():
        vector, instructions = cost.get(name), cost.get(counted)
        assert {one.kind for one in vector.costs} == {"assumed"} and counted in vector.note
        for one in vector.costs:
            assert one.value == pytest.approx(instructions[one.event] * fit.NS_PER_INSTRUCTION, rel=1e-3, abs=1e-3)


def test_each_row_of_another_architecture_is_what_the_file_says():
    """Reference checks per unmapped folio follow from the layout: recorded 1.4 and 3.3, which the files give."""
    found = {(row.section, row.name): row for row in rows.arch_rows() if row.kind == "total"}
    for section, name, ratio in (
        ("arm64_16k.total", "order_0_young 7.2", 4603 / 3284),
        ("riscv64.total", "order_0_young 7.2", 10967 / 3335),
        ("riscv64.total", "order_0 7.2", 1.0),
        ("s390x.total", "order_4 7.2", 847 / 416),
    ):
        counts = dict(zip(cost.EVENT_NAMES, found[section, name].counts, strict=True))
        assert counts["referenced_calls"] / counts["unmap_calls"] == pytest.approx(ratio, rel=0.05)


def test_the_page_holds_every_row(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(page, "PAGE", tmp_path / "validation.md")
    page.write(fits())
    text = page.PAGE.read_text(encoding="utf-8")
    for problem in fits().problems.values():
        for row in problem.rows:
            assert f"| {row.section} | {row.name} | {row.measured:.0f} |" in text
    assert text.index("## Coverage") < text.index("## What was fitted")
