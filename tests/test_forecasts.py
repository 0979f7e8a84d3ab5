"""Every forecast says what would prove it wrong, and what it leaves out; the page holds them all."""

import pytest

from rmapfast import cost
from validation import forecasts


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(forecasts, "SIZE", "32MiB")


@pytest.mark.parametrize("one", forecasts.FORECASTS, ids=lambda one: one.title)
def test_a_forecast_can_be_wrong(one):
    body, silent = forecasts.rows(one)
    assert len(body) == len(one.cases) and one.wrong and one.patch
    assert all(len(row) == 1 + len(one.shown) + 2 * len(one.prices) for row in body)
    # something changes in some case, and what has no price is named
    assert any("->" in cell for row in body for cell in row)
    if any(silent.values()):
        assert one.missing


def test_a_change_is_that_of_its_vector():
    one = forecasts.FORECASTS[0]
    body, _ = forecasts.rows(one)
    case, row = one.cases[2], body[2]
    before, after = (forecasts._events(case, policy, case.arch) for policy in (one.before, one.after))
    change = cost.get("x86-64").change(before, after)
    assert row[len(one.shown) + 1].startswith(f"{100 * change.value:+.1f}%")
    assert change.low < change.value < change.high < 0


def test_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(forecasts, "PAGE", tmp_path / "forecasts.md")
    forecasts.main()
    text = forecasts.PAGE.read_text(encoding="utf-8")
    assert text.count("**Wrong if:**") == len(forecasts.FORECASTS) and forecasts.DATED in text
    for title in ("anonymous swap-out", "Skipping the walker", "uffd-wp markers", "One flush", "broadcast", "Svnapot"):
        assert title in text
    for order in range(2, 10):
        assert f"| x86-64, order {order} |" in text
    committed = (forecasts.Path(__file__).resolve().parents[1] / "docs" / "forecasts.md").read_text(encoding="utf-8")
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert [line for line in committed.splitlines() if line.startswith("## ")] == headings
