"""Sweeps as containers: their points one by one, parts of them, means over an axis, and the tables of all of these."""

import json
import math

import numpy as np
import pytest

import rmapfast as rf
from rmapfast.sweeps import heatmap_text, view

SEEDS = (1, 2, 5)
SPACE = {
    "population.seed": list(SEEDS),
    "population.order": [0, 2, 4],
    "policy": ["v6.16", "v7.0"],
    "arch.cost.tlb_flushes": [0.0, 50.0],
    "population.size": "1MiB",
    "population.holes": 0.1,
    "constraints": ["population.order > 0 or policy == 'v7.0'"],
}


@pytest.fixture(scope="module")
def swept():
    return rf.sweep(SPACE)


def test_points_one_by_one(swept):
    points = list(swept)
    table = swept.to_dataframe()
    assert len(points) == len(swept) == swept.points == len(table) == 3 * 5 * 2
    for point, (_, row) in zip(points, table.iterrows(), strict=True):
        assert point.values == {name: row[name] for name in point.values} and len(point.values) == 4
        assert point.predicted == row["predicted_ns"] and point.per_page == row["per_page_ns"]
        assert point.interval == (row["predicted_low_ns"], row["predicted_high_ns"])
        assert point.gain == row["gain"] or math.isnan(point.gain)
        assert point.events["batches"] == row["batches"] and point.reclaimed_pages == row["reclaimed_pages"]


def test_points_that_failed():
    swept = rf.sweep({"population.sharing": [1, 1 << 20], "population.size": "64MiB", "population.orders": 13})
    done, failed = swept
    assert (done.status, failed.status) == ("done", "failed") and "sharing" in failed.error
    assert failed.events is None and math.isnan(failed.predicted) and failed.reclaimed_pages == 0


@pytest.mark.parametrize(
    ("at", "shape"),
    [
        ({"policy": "v7.0"}, (3, 3, 2)),
        ({"population.order": 4}, (3, 2, 2)),
        ({"population.orders": [4, 0]}, (3, 2, 2, 2)),
        ({"population.order": slice(1, 4)}, (3, 2, 2, 2)),
        ({"population.order": slice(None, 0)}, (3, 1, 2, 2)),
        ({"population.seed": np.array([5])}, (1, 3, 2, 2)),
        ({"arch.cost.tlb_flushes": 50, "policy": "v6.16"}, (3, 3)),
    ],
)
def test_a_part_is_what_its_own_sweep_gives(swept, at, shape):
    part = swept.sel(at)
    assert part.space.shape == shape and part.complete and not part.failures
    again = rf.sweep(part.provenance["arguments"]["space"])
    assert {key: one["events"] for key, one in part.records.items()} == {
        key: one["events"] for key, one in again.records.items()
    }
    np.testing.assert_array_equal(part.prices.predicted, again.prices.predicted)
    # and the numbers are those of the whole
    whole = {json.dumps(point.values, sort_keys=True): point.predicted for point in swept}
    for point in part:
        fixed = {name: value for name, value in at.items() if np.isscalar(value)}
        values = point.values | {name: float(v) if "cost" in name else v for name, v in fixed.items()}
        assert whole[json.dumps(values, sort_keys=True)] == point.predicted


def test_a_part_in_a_file(swept, tmp_path):
    part = swept.sel(policy="v7.0")
    part.save(tmp_path / "part.csv")
    again = rf.load(tmp_path / "part.csv")
    np.testing.assert_array_equal(again.prices.predicted, part.prices.predicted)
    assert rf.rerun(tmp_path / "part.csv").same


def test_parts_of_axes_that_step_together():
    zipped = {"zip": [{"population.order": [0, 4, 9], "population.size": ["1MiB", "1MiB", "2MiB"]}]}
    swept = rf.sweep(zipped | {"policy": ["v6.16", "v7.0"]})
    assert swept.sel({"population.size": "1MiB"}).space.shape == (2, 2)
    one = swept.sel({"population.size": "2MiB"})
    assert one.space.shape == (2,) and one.space.fixed["population.orders"] == 9
    with pytest.raises(ValueError, match=r"population\.size: its axis steps together"):
        swept.sel({"population.order": 0, "population.size": "1MiB"})


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ({"policy": "v7.1"}, r"policy: no step 'v7\.1' \(did you mean 'v7\.0'\?\); it has v6\.16, v7\.0"),
        ({"polcy": "v7.0"}, r"no axis 'polcy' in this sweep \(did you mean 'policy'"),
        ({"population.order": 3}, "population.order: no step 3"),
        ({"population.order": []}, "population.order: expected at least one step"),
        ({"population.order": slice(5, 9)}, "population.order: no step from 5 to 9"),
        ({"policy": slice("v6.16", "v7.0")}, "policy: expected a slice of numbers"),
        ({"population.order": 0, "policy": "v6.16"}, "no point is left"),
        ({"population.size": "1MiB"}, "no axis 'population.size'"),
    ],
)
def test_parts_that_are_not_there(swept, at, said):
    with pytest.raises(ValueError, match=said):
        swept.sel(at)


# Means


def by_hand(swept, name):
    """Mean and standard error of an output over the seeds, by the values of the other axes."""
    groups = {}
    for point in swept:
        values = {axis: value for axis, value in point.values.items() if axis != "population.seed"}
        groups.setdefault(json.dumps(values), []).append(getattr(point, name))
    return {key: (np.mean(some), np.std(some, ddof=1) / math.sqrt(len(some))) for key, some in groups.items()}


@pytest.mark.parametrize("name", ["gain", "per_page", "predicted"])
def test_means_over_seeds(swept, name):
    table = swept.mean("population.seed").to_dataframe()
    expected = by_hand(swept, name)
    assert len(table) == len(expected) == len(swept.mean("population.seed")) == 10
    for _, row in table.iterrows():
        values = {axis: row[axis] for axis in ("population.order", "policy", "arch.cost.tlb_flushes")}
        mean, error = expected[json.dumps(values)]
        found = [row[name], row[f"{name}_low"], row[f"{name}_high"]]
        assert found == pytest.approx([mean, mean - error, mean + error], nan_ok=True)
    assert table["points"].tolist() == [3] * 10


def test_quantiles(swept):
    mean = swept.mean("population.seed", quantiles=(0.0, 1.0)).output("per_page")
    values = swept.prices.per_page
    np.testing.assert_allclose(mean.low, values.min(axis=0))
    np.testing.assert_allclose(mean.high, values.max(axis=0))
    np.testing.assert_allclose(mean.values, values.mean(axis=0))


def test_one_seed_has_no_error(swept):
    mean = swept.sel({"population.seed": [1]}).mean("population.seed").output("per_page")
    kept = mean.points > 0
    assert np.isnan(mean.low).all() and np.isnan(mean.high).all() and not np.isnan(mean.values[kept]).any()


def test_points_that_failed_are_in_no_mean():
    space = {"population.seed": [1, 2, 3], "population.order": [0, 4], "population.size": "1MiB"}
    swept = rf.sweep(space)
    key = swept.simulations[0, 1]
    broken = rf.sweeps.Sweep(swept.space, swept.records | {key: {"error": "out of memory"}}, swept.provenance)
    found = broken.mean("population.seed").output("per_page")
    assert found.points.tolist() == [3, 2]
    np.testing.assert_allclose(found.values[1], swept.prices.per_page[1:, 1].mean())


def test_means_as_tables(swept):
    mean = swept.mean("population.seed")
    dataset, table, document = mean.to_xarray(), mean.to_dataframe(), mean.to_dict()
    assert dataset["gain"].dims == ("population.order", "policy", "arch.cost.tlb_flushes")
    one = dataset["batches"].sel({"population.order": 4, "policy": "v7.0", "arch.cost.tlb_flushes": 0.0})
    row = table[(table["population.order"] == 4) & (table["policy"] == "v7.0")].iloc[0]
    assert float(one) == row["batches"]
    columns = json.loads(json.dumps(document, allow_nan=False))["columns"]
    assert columns["per_page"] == table["per_page"].tolist() and list(columns) == list(table)
    assert "mean over 3 steps of population.seed, bounds: standard error" in repr(mean)
    assert mean.sel(policy="v7.0").space.shape == (3, 2)


def test_means_as_text(swept):
    mean = swept.mean("population.seed").sel({"arch.cost.tlb_flushes": 0})
    text = heatmap_text(view(mean, value="per_page"))
    assert "bounds: standard error" in text and text.count("+-") == 5 and text.isascii()
    text = heatmap_text(view(swept.mean("population.seed", quantiles=(0.1, 0.9))))
    assert "bounds: 10% to 90% of the points" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("seed",), "no axis 'seed' in this sweep"),
        (("population.seed", (0.9, 0.1)), "quantiles: expected the lower one first"),
        (("population.seed", (0.1, 1.5)), "quantiles: expected a rate"),
        (("population.seed", 0.5), "quantiles: expected two shares"),
        (("population.seed", (0.1, 0.5, 0.9)), "quantiles: expected two shares"),
    ],
)
def test_means_that_cannot_be(swept, arguments, said):
    over, *quantiles = arguments
    with pytest.raises((TypeError, ValueError), match=said):
        swept.mean(over, quantiles=quantiles[0] if quantiles else None)


# Rankings and runs as tables


def test_a_ranking_is_a_table(swept):
    ranking = swept.sel({"population.order": [2, 4]}).rank()
    table = ranking.to_dataframe()
    assert len(ranking) == len(table) == 3 and [one.axis for one in ranking] == table["axis"].tolist()
    assert table["swing"].tolist() == [one["swing"] for one in ranking.to_dict()["effects"]]
    assert ranking.to_xarray()["swing"].sel(axis=table["axis"][0]) == table["swing"][0]
    assert all(one.axis in repr(ranking) for one in ranking)


def test_runs_as_tables():
    memory = rf.Population.synthetic("1MiB")
    both = rf.compare(memory, "512KiB", policies=["v6.16", "v7.0"], arches=["x86-64"])
    table, dataset = both.to_dataframe(), both.to_xarray()
    batches = table[(table["quantity"] == "batches") & (table["kind"] == "event")]
    assert batches["value"].tolist() == dataset["events"].sel(event="batches").values.tolist()
    assert batches["ratio"].iloc[1] == both.ratio("batches", "v7.0", "x86-64")
    assert dataset["predicted"].values.tolist() == [run.prediction.value for run in both.runs]
    run = both.runs[0]
    counts = run.to_dataframe().set_index("event")
    assert counts["count"].to_dict() == dict(run.events)
    priced = float((counts["count"] * counts["cost_ns"]).sum())
    assert priced == pytest.approx(run.prediction.value)
    vector = rf.cost.get("x86-64")
    assert dict(zip(vector.to_dataframe()["event"], vector.to_dataframe()["value"], strict=True)) == {
        cost.event: cost.value for cost in vector.costs
    }
    event = vector.costs[0].event
    assert float(vector.to_xarray()["value"].sel(event=event)) == vector[event]


# Seeds


@pytest.mark.parametrize(
    "seed",
    [np.random.SeedSequence(7), np.random.PCG64(7), [1, 2, 3], 1 << 80, np.random.default_rng(7)],
    ids=["SeedSequence", "BitGenerator", "list", "large", "Generator"],
)
def test_seeds_of_numpy(seed):
    made = rf.Population.synthetic("1MiB", young=0.5, seed=seed)
    drawn = made.assumptions["seed"]
    assert type(drawn) is int and 0 <= drawn < 1 << 40
    again = rf.Population.synthetic("1MiB", young=0.5, seed=drawn)
    np.testing.assert_array_equal(made.ptes, again.ptes)


def test_a_number_is_the_seed_itself_and_a_generator_moves_on():
    assert rf.Population.described("1MiB", seed=(1 << 64) - 1).seed == (1 << 64) - 1
    rng = np.random.default_rng(3)
    one, two = (rf.Population.described("1MiB", seed=rng).seed for _ in range(2))
    assert one != two
    assert rf.Population.described("1MiB", seed=None).seed != rf.Population.described("1MiB", seed=None).seed


def test_seeds_as_an_axis(tmp_path):
    children = np.random.SeedSequence(11).spawn(3)
    space = {"population.seed": children, "population.young": 0.5, "population.size": "1MiB"}
    swept = rf.sweep(space, tmp_path / "out.nc")
    again = rf.sweep(space | {"population.seed": np.random.SeedSequence(11).spawn(3)})
    assert [point.values for point in swept] == [point.values for point in again]
    assert len({point.values["population.seed"] for point in swept}) == 3
    assert rf.rerun(tmp_path / "out.nc").same


@pytest.mark.parametrize("seed", [-1, 1.5, "1", {}, [-1]])
def test_what_is_no_seed(seed):
    for make in (
        lambda: rf.Population.described("1MiB", seed=seed),
        lambda: rf.check(lambda *_: 1, seed=seed, budget=1),
        lambda: rf.Space.of({"population.size": "1MiB", "population.seed": (seed,)}),
    ):
        with pytest.raises((TypeError, ValueError), match=r"seed: expected .*numpy\.random\.default_rng"):
            make()
