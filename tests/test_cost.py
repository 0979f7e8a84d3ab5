"""Cost vectors: prices are linear, add up and lie in their interval; TOML keeps a vector; bad ones are refused."""

import itertools
import math
import re
import subprocess
import sys
import tomllib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rmapfast as rf
from rmapfast import cost
from rmapfast.cost import KINDS, TRACER, Cost, CostVector
from rmapfast.events import COMPONENTS, REFERENCE_CHECK

NR_EVENTS = len(rf.EVENT_NAMES)
figures = st.floats(0, 1e6, allow_nan=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
counts = st.lists(st.integers(0, 10**9), min_size=NR_EVENTS, max_size=NR_EVENTS).map(np.array)


def one(event, value, low=None, high=None, kind="measured", source="here"):
    return Cost(event, value, value if low is None else low, value if high is None else high, kind, source)


def vector(costs, **options):
    """A vector of (event, value) or (event, value, low, high)."""
    return CostVector("toy", "ns", "x86-64", tuple(one(*figures) for figures in costs), **options)


def events(**named):
    row = np.zeros(NR_EVENTS)
    for name, count in named.items():
        row[rf.EVENT_NAMES.index(name)] = count
    return row


@st.composite
def vectors(draw, members=None):
    """Any vector; with members, without, or (None) either."""
    names = draw(st.lists(st.sampled_from([*rf.EVENT_NAMES, TRACER]), min_size=2, max_size=12, unique=True))
    costs = []
    for name in names:
        low, value, high = sorted(draw(st.tuples(figures, figures, figures)))
        costs.append(Cost(name, value, low, high, draw(st.sampled_from(KINDS)), draw(texts)))
    rows = st.lists(st.tuples(*[figures] * len(names)), min_size=1, max_size=5)
    groups = st.lists(
        st.lists(st.sampled_from([name for name in names if name != TRACER]), min_size=1, max_size=3, unique=True).map(
            tuple
        ),
        max_size=3,
    )
    return CostVector(
        draw(texts),
        draw(st.sampled_from(cost.UNITS)),
        draw(texts),
        tuple(costs),
        build=draw(texts),
        note=draw(texts),
        residual=draw(st.floats(0, 2)),
        joint=tuple(draw(groups)),
        members=tuple(draw(rows)) if (draw(st.booleans()) if members is None else members) else (),
    )


# Components


def test_each_event_is_in_one_component():
    listed = [event for group in COMPONENTS.values() for event in group]
    assert len(listed) == len(set(listed))
    assert set(rf.EVENT_NAMES) <= set(listed)


# Prices


@given(vectors(), counts, counts, st.integers(0, 100))
def test_a_price_is_linear(costs, one_run, other_run, times):
    price = costs.price(one_run).value
    assert costs.price(np.zeros(NR_EVENTS)).value == 0
    assert costs.price(times * one_run).value == pytest.approx(times * price)
    assert costs.price(one_run + other_run).value == pytest.approx(price + costs.price(other_run).value)
    assert price == pytest.approx(float(one_run @ costs.values))


@given(st.sampled_from(rf.EVENT_NAMES), figures)
def test_one_event_costs_what_the_vector_says(event, value):
    costs = vector([(event, value)])
    assert costs[event] == value == costs.price(events(**{event: 1})).value
    for other in rf.EVENT_NAMES:
        if other != event:
            assert costs[other] == costs.price(events(**{other: 5})).value == 0


@given(vectors(), counts, st.data())
def test_breakdown_adds_up(costs, run, data):
    part = np.array([data.draw(st.integers(0, int(count))) for count in run[:8]] + [0] * (NR_EVENTS - 8))
    for referenced in (None, part, run):
        price = costs.price(run, referenced)
        assert sum(price.breakdown.values()) == pytest.approx(price.value)
        named = [component for name in price.breakdown for component in name.split(" + ")]
        assert len(named) == len(set(named)) and set(named) <= set(COMPONENTS)
        assert named == sorted(named, key=list(COMPONENTS).index) or costs.joint
    assert set(costs.price(run, run).breakdown) <= {REFERENCE_CHECK} or costs.joint


@given(vectors(), counts)
def test_interval_holds_the_value(costs, run):
    price = costs.price(run)
    assert 0 <= price.interval[0] <= price.value * (1 + 1e-12) and price.value <= price.interval[1] * (1 + 1e-12)


def test_interval_of_one_cost_is_its_range():
    """low and high are the bounds of the middle 90%, up to the number of draws."""
    low, high = vector([("batches", 10.0, 8.0, 13.0)]).price(events(batches=100)).interval
    assert low == pytest.approx(800, rel=0.03) and high == pytest.approx(1300, rel=0.03)


def test_a_higher_level_is_wider():
    costs = vector([("batches", 10.0, 8.0, 13.0), ("ptes_cleared", 2.0, 1.0, 3.0)], residual=0.1)
    run = events(batches=10, ptes_cleared=50)
    bounds = [costs.price(run, level=level).interval for level in (0.5, 0.8, 0.9, 0.99)]
    assert all(after[0] < before[0] and after[1] > before[1] for before, after in itertools.pairwise(bounds))
    assert [costs.price(run, level=level).level for level in (0.5, 0.9)] == [0.5, 0.9]
    for level in (0, 1, -0.1, "90%", True):
        with pytest.raises(ValueError, match="level: expected a share between 0 and 1"):
            costs.price(run, level=level)


@pytest.mark.parametrize("residual", [0.05, 0.2])
def test_the_residual_widens_what_no_member_does(residual):
    """A residual of one cost shows as it is; in a sum of many it partly averages out."""
    names = ["batches", "ptes_cleared", "ref_puts", "rss_updates"]
    costs = vector([(name, 10.0, 9.9, 10.1) for name in names], residual=residual, members=((10.0,) * 4,))
    for some in (names[:1], names):
        found = costs.price(events(**dict.fromkeys(some, 100)))
        width = (found.interval[1] - found.interval[0]) / found.value
        assert width == pytest.approx(2 * 1.645 * residual / len(some) ** 0.5, rel=0.15)
    exact = vector([("batches", 10.0)], residual=residual)
    assert exact.price(events(batches=3)).interval == (30.0, 30.0)


def test_interval_from_members():
    """Costs that are known only as a sum do not widen the interval of what depends on the sum alone."""
    ranges = [("batches", 5.0, 0.0, 10.0), ("batched_pages", 5.0, 0.0, 10.0)]
    together = vector(ranges, members=((0.0, 10.0), (10.0, 0.0)))
    assert together.price(events(batches=7, batched_pages=7)).interval == (70.0, 70.0)
    assert together.price(events(batches=7)).interval == (0.0, 70.0)
    # the value is inside, whatever the members say
    assert vector(ranges, members=((9.0, 9.0),)).price(events(batches=1)).interval == (5.0, 9.0)


def test_what_two_runs_share_is_drawn_together():
    costs = vector([("batches", 10.0, 5.0, 20.0), ("ptes_cleared", 2.0, 1.0, 3.0)], residual=0.1)
    one, two = events(batches=100, ptes_cleared=100), events(batches=50, ptes_cleared=50)
    for bound in costs.change(one, two):
        assert bound == pytest.approx(-0.5)
    assert list(costs.change(one, one)) == pytest.approx([0, 0, 0])
    assert costs.difference(one, one) == (0.0, 0.0, 0.0)
    # a saving of steps alone is as unsure as a step, not as the two totals
    fewer = events(batches=50, ptes_cleared=100)
    saved = costs.difference(one, fewer)
    alone = costs.price(events(batches=50))
    assert list(saved) == pytest.approx([alone.value, *alone.interval])
    assert costs.change(one, fewer).low < costs.change(one, fewer).value < costs.change(one, fewer).high < 0
    assert math.isnan(costs.change(events(), one).value)


@given(vectors(), counts)
def test_shares_are_those_of_the_breakdown(costs, run):
    price, shares = costs.price(run), costs.shares(run)
    assert set(shares) == set(price.breakdown) or not price.value
    for name, share in shares.items():
        assert share.low <= share.value <= share.high
        assert share.value == pytest.approx(price.breakdown[name] / price.value)


def test_what_has_no_price_is_named():
    costs = vector([("batches", 10.0), ("swap_dups", 3.0)], joint=(("swap_dups", "swap_allocs"),))
    run = events(batches=5, walk_calls=5, ipis=3, swap_allocs=2, folio_splits=1)
    # a walk call comes with a step, whose cost holds it; a joint set has a price
    assert costs.unpriced(run) == ["ipis", "folio_splits"]
    other = events(batches=9, walk_calls=9, ipis=3, swap_allocs=7, folio_splits=4)
    assert costs.unpriced(run, other) == ["folio_splits"]
    assert costs.unpriced(run, run) == []
    assert costs.replace(folio_splits=1.0).unpriced(run, other) == []


def test_joint_components_are_one():
    costs = [("batch_pte_reads", 1.0), ("ptes_cleared", 2.0), ("ref_puts", 4.0), ("rss_updates", 8.0), ("ipis", 16.0)]
    run = events(batch_pte_reads=1, ptes_cleared=1, ref_puts=1, rss_updates=1, ipis=1)

    def breakdown(*joint):
        return vector(costs, joint=joint).price(run).breakdown

    assert breakdown() == {"batch scan": 1, "clear": 2, "TLB": 16, "refcount": 4, "counters": 8}
    assert breakdown(("batch_pte_reads", "ptes_cleared")) == {
        "batch scan + clear": 3,
        "TLB": 16,
        "refcount": 4,
        "counters": 8,
    }
    chained = breakdown(("batch_pte_reads", "ptes_cleared"), ("ptes_cleared", "ref_puts"))
    assert chained == {"batch scan + clear + refcount": 7, "TLB": 16, "counters": 8}
    assert list(chained) == ["batch scan + clear + refcount", "TLB", "counters"]
    # sets that nothing ties together stay apart
    assert breakdown(("batch_pte_reads", "ptes_cleared"), ("ref_puts", "rss_updates")) == {
        "batch scan + clear": 3,
        "TLB": 16,
        "refcount + counters": 12,
    }


def test_tracer_is_in_no_price():
    costs = vector([(TRACER, 100.0), ("batches", 1.0)])
    assert costs[TRACER] == 100
    assert costs.price(np.ones(NR_EVENTS)).value == 1
    assert costs.values.sum() == 1


def test_prediction_as_dict():
    costs = vector([("batches", 2e9)])
    document = costs.price(events(batches=3)).to_dict()
    assert document == {
        "cost_vector": "toy",
        "predicted_s": 6.0,
        "predicted_interval_s": [6.0, 6.0],
        "interval_level": 0.9,
        "breakdown_s": {"clear": 6.0},
    }
    counted = CostVector("toy", "instructions", "x86-64", costs.costs).price(events(batches=3))
    assert counted.seconds is None
    document = counted.to_dict()
    assert document["predicted_s"] is document["predicted_interval_s"] is document["breakdown_s"] is None
    assert document["predicted_instructions"] == 6e9
    assert document["predicted_interval_instructions"] == [6e9, 6e9]
    assert document["breakdown_instructions"] == {"clear": 6e9}


def test_price_of_a_reclaim_with_reference_check():
    """Each folio is checked twice and unmapped once; what the checks cost stands under their name alone."""
    result = rf.reclaim(rf.Population.synthetic("4MiB", orders=4), "4MiB", policy="v7.0")
    run = np.array([result.events[name] for name in rf.EVENT_NAMES], float)
    costs = vector([(name, 1.0) for name in rf.EVENT_NAMES])
    referenced = events(
        **{name: result.events[name] for name in ("referenced_calls", "young_calls", "young_tests", "young_clears")},
        walk_calls=result.events["referenced_calls"],
    )
    price = costs.price(run, referenced)
    assert price.value == pytest.approx(run.sum())
    assert price.breakdown[REFERENCE_CHECK] == referenced.sum() > 0
    whole = costs.price(run).breakdown
    assert whole["walk"] - price.breakdown["walk"] == result.events["referenced_calls"]
    assert whole[REFERENCE_CHECK] == price.breakdown[REFERENCE_CHECK] - result.events["referenced_calls"]


@given(st.lists(vectors(), min_size=1, max_size=4), counts)
def test_matrix_prices_many_vectors(some, run):
    assert cost.matrix(some).shape == (len(some), NR_EVENTS)
    np.testing.assert_allclose(cost.matrix(some) @ run, [costs.price(run).value for costs in some])


# Sampling


@given(vectors(), st.integers(0, 5))
def test_samples_are_costs(costs, seed):
    drawn = costs.sample(20, seed)
    assert drawn.shape == (20, NR_EVENTS) and np.all(drawn >= 0) and np.all(np.isfinite(drawn))
    np.testing.assert_array_equal(drawn, costs.sample(20, seed))
    known = {entry.event for entry in costs.costs}
    for column, event in zip(drawn.T, rf.EVENT_NAMES, strict=True):
        assert event in known or not column.any()


def test_each_member_is_drawn_as_often_as_any_other():
    costs = vector([("batches", 5.0, 0.0, 10.0)], members=tuple((float(at),) for at in range(5)))
    drawn = costs.sample(50)[:, rf.EVENT_NAMES.index("batches")]
    assert np.unique(drawn, return_counts=True)[1].tolist() == [10] * 5


def test_sample_takes_a_generator():
    costs = vector([("batches", 1.0, 0.0, 2.0)])
    rng = np.random.default_rng(3)
    np.testing.assert_array_equal(costs.sample(4, rng), costs.sample(4, 3))
    assert not np.array_equal(costs.sample(4, rng), costs.sample(4, 3))


# replace


@given(vectors(), st.sampled_from(rf.EVENT_NAMES), figures)
def test_replace(costs, event, value):
    changed = costs.replace(**{event: value})
    assert changed[event] == value
    assert all(changed[other] == costs[other] for other in rf.EVENT_NAMES if other != event)
    # the new figure is exact: no range, no member and no set of events says otherwise
    entry = next(entry for entry in changed.costs if entry.event == event)
    assert entry.low == entry.value == entry.high
    assert changed.price(events(**{event: 10})).interval == pytest.approx((10 * value, 10 * value))
    assert not any(event in group for group in changed.joint)
    assert len(changed.members) == len(costs.members)
    assert CostVector.from_dict(changed.to_dict()) == changed
    assert changed.replace() == changed


def test_replace_refuses():
    costs = vector([("batches", 1.0)])
    for change, message in (
        ({"batchs": 1.0}, r"cost\.batchs: no such event \(did you mean 'batches'\?\)"),
        ({"batches": -1.0}, r"cost\.batches: .*0 or more, got -1\.0"),
        ({"batches": math.nan}, r"cost\.batches: .*got nan"),
        ({"batches": "1"}, r"cost\.batches: .*got '1'"),
    ):
        with pytest.raises(ValueError, match=message):
            costs.replace(**change)


# TOML


@settings(max_examples=150)
@given(vectors())
def test_toml_round_trip(costs):
    assert CostVector.from_dict(costs.to_dict()) == costs
    assert CostVector.from_dict(tomllib.loads(costs.to_toml())) == costs
    document = tomllib.loads("before = 1\n\n" + costs.to_toml("some.table"))
    assert CostVector.from_dict(document["some"]["table"]) == costs
    assert hash(CostVector.from_dict(costs.to_dict())) == hash(costs)


def test_file_round_trip(tmp_path):
    costs = vector([("batches", 0.1, 0.0, 1e300)], note='"quotes"\\\n\x00\x7fü')
    path = tmp_path / "costs.toml"
    path.write_text(costs.to_toml(), encoding="utf-8")
    assert cost.get(path) == cost.get(str(path)) == costs
    assert cost.get(costs) is costs


GOOD = {
    "name": "toy",
    "unit": "ns",
    "arch": "x86-64",
    "costs": {"batches": {"value": 1.0, "low": 0.5, "high": 2.0, "kind": "fitted", "source": "x"}},
}


def changed(path, value):
    """GOOD with the value at a path of keys replaced, or taken away (None)."""
    *above, last = path.split("/")
    document = {**GOOD, "costs": {"batches": dict(GOOD["costs"]["batches"])}}
    table = document
    for key in above:
        table = table[key]
    table[last] = value
    if value is None:
        del table[last]
    return document


FIGURES = dict(GOOD["costs"]["batches"])
BAD = [
    (changed("name", None), "'name' is missing"),
    (changed("unit", None), "'unit' is missing"),
    (changed("arch", None), "'arch' is missing"),
    (changed("costs", None), "'costs' is missing"),
    (changed("costs", {}), "at least one Cost"),
    (changed("costs", [1]), "costs: expected a table of events"),
    (changed("name", 5), "cost.name: expected a text"),
    (changed("note", ["x"]), "cost.note: expected a text"),
    (changed("unit", "us"), "cost.unit: expected one of ns, instructions, got 'us'"),
    (changed("unit", 7), "cost.unit"),
    (changed("units", "ns"), "no such key 'units' (did you mean 'unit'?)"),
    (changed("costs/batchs", FIGURES), "cost.batchs: no such event (did you mean 'batches'?)"),
    (changed("costs/batches", 1.0), "costs.batches: expected high, kind, low, source, value"),
    (changed("costs/batches/low", None), "costs.batches: expected"),
    (changed("costs/batches/event", "batches"), "costs.batches: expected"),
    (changed("costs/batches/value", -1.0), "cost.batches: value: expected a finite number, 0 or more, got -1.0"),
    (changed("costs/batches/value", math.nan), "cost.batches: value"),
    (changed("costs/batches/value", math.inf), "cost.batches: value"),
    (changed("costs/batches/value", "1"), "cost.batches: value"),
    (changed("costs/batches/value", True), "cost.batches: value"),
    (changed("costs/batches/value", 1 << 5000), "toy: "),
    (changed("costs/batches/high", math.inf), "cost.batches: high"),
    (changed("costs/batches/low", 1.5), "expected low <= value <= high, got 1.5, 1, 2"),
    (changed("costs/batches/kind", "guessed"), "kind: expected one of measured, published, fitted, assumed"),
    (changed("costs/batches/source", 1), "source: expected a text"),
    (changed("residual", -0.1), "cost.residual"),
    (changed("residual", math.nan), "cost.residual"),
    (changed("residual", "5%"), "cost.residual"),
    (changed("residual", 1 << 5000), "toy: "),
    (changed("joint", [["batches", "walk_call"]]), "cost.joint: "),
    (changed("joint", 3), "toy: "),
    (changed("members", [[1.0, 2.0]]), "cost.members: expected 1 finite figures each"),
    (changed("members", [[-1.0]]), "cost.members"),
    (changed("members", [[math.nan]]), "cost.members"),
    (changed("members", [["x"]]), "toy: "),
    (changed("members", 3), "toy: "),
    ([GOOD], "toy: expected a table"),
]


@pytest.mark.parametrize(("document", "message"), BAD, ids=[message for _, message in BAD])
def test_refusals(document, message):
    assert CostVector.from_dict(GOOD)["batches"] == 1
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        CostVector.from_dict(document, "toy")
    assert str(caught.value).startswith("toy: ")


def test_an_event_has_one_cost():
    with pytest.raises(ValueError, match=r"cost\.batches: given more than once"):
        vector([("batches", 1.0), ("batches", 2.0)])
    with pytest.raises(KeyError, match="did you mean 'batches'"):
        vector([("batches", 1.0)])["batchs"]


@pytest.mark.parametrize(
    "text",
    [
        b"name = ",
        b"\xff\xfe",
        b"name = 1\nname = 2\n",
        b"x = " + b"[" * 5000 + b"]" * 5000,
        b"x = " + b"9" * 5000,
        b"{}",
    ],
)
def test_files_that_are_not_toml(tmp_path, text):
    path = tmp_path / "bad.toml"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=re.escape(f"{path}: not TOML: ")):
        cost.get(path)


def test_get_refuses(tmp_path):
    with pytest.raises(ValueError, match=r"no vector 'x86_64' \(did you mean 'x86-64'\?\)"):
        cost.get("x86_64")
    with pytest.raises(ValueError, match="no vector ''"):
        cost.get("")
    with pytest.raises(FileNotFoundError):
        cost.get(tmp_path / "none.toml")
    path = tmp_path / "wrong.toml"
    path.write_text('name = "x"\n')
    with pytest.raises(ValueError, match=re.escape(f"{path}: the key 'unit' is missing")):
        cost.get(path)


# What comes with the package


@pytest.mark.parametrize("name", cost.names())
def test_packaged_vectors(name):
    costs = cost.get(name)
    assert costs.name == name and costs.unit in cost.UNITS
    assert cost.get(name) is costs
    assert CostVector.from_dict(tomllib.loads(costs.to_toml())) == costs
    assert all(entry.source for entry in costs.costs)
    price = costs.price(np.ones(NR_EVENTS))
    assert price.value == pytest.approx(sum(entry.value for entry in costs.costs if entry.event != TRACER))
    assert price.costs == name


def test_import_parses_no_toml():
    code = (
        "import tomllib; tomllib.loads = tomllib.load = None; import rmapfast; print(rmapfast.arch.get('x86-64').costs)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "x86-64"
