"""What a notebook shows: well-formed HTML without a script, with every text escaped, in the colours of the page."""

import re
from xml.etree import ElementTree

import pytest

import rmapfast as rf
from rmapfast.support import Figure, HtmlPart, Share, html_of, price_text

NASTY = "<script>alert('x')</script>&\x1b[2J"


def parsed(html):
    """The tree of the HTML, which has to be XML too; attributes without a value get one."""
    return ElementTree.fromstring(html.replace("<details open>", '<details open="">'))


def text_of(html):
    return " ".join("".join(parsed(html).itertext()).split())


def rows(html, title):
    """Rows of the part whose title begins so, as texts."""
    for part in parsed(html).iter("details"):
        if "".join(part.find("summary").itertext()).startswith(title):
            return [["".join(cell.itertext()) for cell in row] for row in part.iter("tr")]
    raise AssertionError(f"no part {title!r}")


@pytest.fixture(scope="module")
def shown():
    """An object of each class that has an HTML repr."""
    population = rf.Population.synthetic("1MiB", orders="0:1,4:1")
    comparison = rf.compare(population, "512KiB", policies=["v6.16+young", "v7.0"], arches=["x86-64"])
    sweep = rf.sweep({"population.order": [0, 4], "policy": ["v6.16", "v7.0"], "population.size": "1MiB"})
    return {
        "Population": population,
        "PopulationSpec": rf.Population.described("4PiB"),
        "Result": comparison.runs[0],
        "Prediction": comparison.runs[0].prediction,
        "Comparison": comparison,
        "Sweep": sweep,
        "Ranking": sweep.rank(),
        "Arch": rf.arch.get("arm64-4k"),
        "Policy": rf.policy.get("v7.0"),
        "CostVector": rf.cost.get("x86-64"),
    }


CLASSES = ("Population", "PopulationSpec", "Result", "Prediction", "Comparison", "Sweep", "Ranking", "Arch", "Policy",
           "CostVector")  # fmt: skip


@pytest.mark.parametrize("name", CLASSES)
def test_shown(shown, name):
    html = shown[name]._repr_html_()
    head = next(one for one in parsed(html).iter("div") if one.get("class") == "rf-head")
    assert "".join(head.itertext()).startswith(name)
    assert len(list(parsed(html).iter("details"))) >= 1 and not list(parsed(html).iter("script"))
    # Colours of the page, or seen on white and on black.
    style = parsed(html).find("style").text
    assert set(re.findall(r"(?<!-)\bcolor:([^;}]*)", style)) == {"inherit"} and "prefers-color-scheme" not in style


@pytest.mark.parametrize("name", CLASSES)
def test_text_is_short(shown, name):
    text = repr(shown[name])
    assert name == "Comparison" or max(map(len, text.splitlines())) < 300, text
    assert not re.search(r"\de[+-]\d", text), text


def test_what_a_result_shows(shown):
    run = shown["Result"]
    found = rows(run._repr_html_(), "events")
    assert found[0] == ["event", "count", "per page"]
    assert {name: int(count.replace(",", "")) for name, count, _ in found[1:]} == {
        name: count for name, count in run.events.items() if count
    }
    components = rows(run._repr_html_(), "prediction")[1:]
    assert [row[0] for row in components] == list(run.prediction.breakdown)
    # each percent is rounded
    assert abs(sum(int(row[2].rstrip("%")) for row in components) - 100) <= len(components) / 2


def test_what_a_population_shows(shown):
    population = shown["Population"]
    found = rows(population._repr_html_(), "folios by order")[1:]
    assert {int(row[0]): int(row[2].replace(",", "")) for row in found} == population.orders()
    assert sum(int(row[3].rstrip("%")) for row in found) == 100


def test_what_a_comparison_shows(shown):
    found = rows(shown["Comparison"]._repr_html_(), "x86-64")
    assert found[0] == ["", "v6.16+young", "v7.0", "ratio"]
    assert any(row[0] == "ns per reclaimed page" and float(row[3]) < 1 for row in found)


def test_a_repr_makes_an_equal_one(shown):
    for name in ("Arch", "Policy"):
        assert eval(repr(shown[name]), {"Arch": rf.Arch, "Policy": rf.Policy}) == shown[name]


def test_everything_is_escaped():
    parts = [
        HtmlPart(NASTY, [[NASTY, Figure(NASTY), 1, Share(0.5)]], [NASTY] * 4, [NASTY], NASTY),
        HtmlPart("left out"),
    ]
    html = html_of(NASTY, NASTY, NASTY, parts)
    assert not list(parsed(html).iter("script")) and "\x1b" not in html
    assert text_of(html).count(NASTY.replace("\x1b", "\\x1b")) == 12 and "left out" not in html
    policy = rf.policy.get("v7.0").replace(name=NASTY)
    run = rf.reclaim(rf.Population.synthetic("1MiB"), "512KiB", policy=policy)
    for one in (policy, run, rf.Comparison.of({NASTY: run})):
        assert not list(parsed(one._repr_html_()).iter("script"))


@pytest.mark.parametrize(
    ("unit", "value", "said"),
    [
        ("ns", 896_700.0, "0.897 ms"),
        ("ns", 1.0782e9, "1.08 s"),
        ("ns", 99.4e6, "99.4 ms"),
        ("ns", 123_456e9, "123456 s"),
        ("ns", 12.0, "12.0 ns"),
        ("ns", 0.0, "0 ns"),
        ("ns", -2.5e6, "-2.50 ms"),
        ("instructions", 2.5e9, "2.50 G instructions"),
        ("instructions", 64.0, "64.0 instructions"),
    ],
)
def test_prices(unit, value, said):
    assert price_text(unit, value) == said
    assert price_text(unit, value, (value, value)) == f"{said} ({said.split()[0]} to {said.split()[0]})"


def test_a_sweep_of_one_point_shows_its_value():
    for seeds in ([3], [3, 4]):
        swept = rf.sweep({"population.seed": seeds, "population.size": "1MiB", "arch": "x86-64"})
        mean = swept.mean("population.seed")
        shown = rows(mean._repr_html_(), "predicted ns per reclaimed page, mean")
        assert float(shown[0][0]) == pytest.approx(swept.prices.per_page.mean(), rel=1e-3)
    one = rf.sweep({"population.size": "1MiB", "arch": "x86-64"})
    shown = rows(one._repr_html_(), "predicted ns per reclaimed page")
    assert float(shown[0][0]) == pytest.approx(float(one.prices.per_page), rel=1e-3)
    failed = rf.sweep({"population.sharing": 1 << 20, "population.size": "64MiB", "population.orders": 13})
    assert rows(failed._repr_html_(), "walk_pte_reads")[0] == ["-"]
