"""Prices of runs, tables of them in every format, and saved results: what must hold whatever the costs are."""

import csv
import dataclasses
import errno
import io
import itertools
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

import rmapfast as rf
from rmapfast import cost
from rmapfast.reports import CSV_COLUMNS, comparison_csv, comparison_markdown
from rmapfast.support import change, ratio, write_atomically

CAPTURE = Path(__file__).resolve().parent / "data" / "captures" / "file64k_cow_memcg.before.npz"
SEED = ("v6.16+young", "v7.0")
# Costs that are easy to follow, in both units.
SIMPLE = cost.CostVector(
    "simple",
    "ns",
    "x86-64",
    (
        cost.Cost("walk_yields", 10.0, 8.0, 13.0, "assumed", "test"),
        cost.Cost("ptes_cleared", 4.0, 4.0, 4.0, "measured", "test"),
        cost.Cost("folios_freed", 100.0, 90.0, 110.0, "assumed", "test"),
    ),
    note="A test's costs",
)
INSTRUCTIONS = dataclasses.replace(SIMPLE, name="simple-instructions", unit="instructions")


def compared(size="4MiB", policies=SEED, arches=("arm64-4k", "x86-64"), target="3MiB", costs=SIMPLE, **options):
    def population(arch):
        return rf.Population.synthetic(size, arch=arch, **options)

    return rf.compare(population, target, policies=policies, arches=arches, costs=costs, arguments={"size": size})


@pytest.fixture(scope="module")
def comparison():
    return compared()


@pytest.fixture(scope="module")
def result():
    return rf.reclaim(rf.Population.synthetic("4MiB"), "3MiB", policy="v7.0", arch="x86-64")


def written(table):
    """Cells of the rows of a plain table by label, of all its parts."""
    rows = {}
    for line in table.splitlines():
        if len(line) > 22 and line[22] == " ":
            rows.setdefault(line[:22].strip(), []).append(line[22:].split())
    return rows


# Prices


def test_price_is_the_sum_of_events_times_costs(result):
    events = result.events
    expected = 10 * events["walk_yields"] + 4 * events["ptes_cleared"] + 100 * events["folios_freed"]
    prediction = result.price(SIMPLE)
    assert prediction.value == expected
    assert prediction.interval[0] < expected < prediction.interval[1]
    assert sum(prediction.breakdown.values()) == pytest.approx(expected)
    # the walks of the reference check are no share of the unmap's walks
    referenced = 10 * result.referenced_events["walk_yields"]
    assert 0 < referenced == prediction.breakdown["reference check"]
    assert prediction.breakdown["walk"] == 10 * events["walk_yields"] - referenced


def test_what_prices_a_run(result, tmp_path):
    path = tmp_path / "simple.toml"
    path.write_text(SIMPLE.to_toml())
    assert result.price() == result.prediction == result.price("x86-64") == result.price(rf.arch.get("x86-64"))
    assert result.price(SIMPLE) == result.price(path) == result.price(str(path))
    assert result.prediction is result.prediction
    priced = rf.reclaim(rf.Population.synthetic("4MiB"), "3MiB", policy="v7.0", arch="x86-64", costs=SIMPLE)
    assert priced.events == result.events
    assert priced.prediction == priced.price() == result.price(SIMPLE) != result.prediction
    for run in compared(costs=SIMPLE).runs:
        assert run.prediction == run.price(SIMPLE)


def test_no_price_without_a_cost_vector():
    arch = rf.arch.get("x86-64").replace(costs="", name="unpriced")
    result = rf.reclaim(rf.Population.synthetic("1MiB"), "1MiB", arch=arch)
    assert result.costs is None
    for ask in (lambda: result.prediction, result.price, lambda: result.price(arch)):
        with pytest.raises(ValueError, match=r"unpriced has no cost vector"):
            ask()
    document = result.to_dict()
    assert all(document[k] is None for k in ("cost_vector", "predicted_s", "predicted_interval_s", "breakdown_s"))
    assert result.price(SIMPLE).value > 0
    assert "predicted" not in repr(result) and "predicted" in repr(
        dataclasses.replace(result, costs=rf.cost.get("x86-64"))
    )


def test_local_tlbis_have_no_price():
    """The table says so, unless the cost vector was given a price for them."""
    population = rf.Population.synthetic("1MiB", arch="arm64-4k")
    note = "without a price here: tlbi_local"
    for cpumask, found in ((0b1, True), (0b11, False)):
        population.mm_cpumask[:] = cpumask
        runs = rf.compare(population, "1MiB", policies=["v7.0.12", "local-tlbi"], arches=["arm64-4k"])
        assert (note in runs.to_text("full")) == found
    population.mm_cpumask[:] = 0b1
    for costs, left in (
        ({"cost.tlbi_local": 50.0}, ["dsb_nsh"]),
        ({"cost.tlbi_local": 50.0, "cost.dsb_nsh": 50.0}, []),
    ):
        arch = rf.arch.get("arm64-4k").replace(**costs)
        runs = rf.compare(population, "1MiB", policies=["v7.0.12", "local-tlbi"], arches=[arch])
        assert [event for event in runs.unpriced("arm64-4k") if event in ("tlbi_local", "dsb_nsh")] == left


def test_unfolds_without_a_price():
    """Nobody measured what an unfold costs on riscv. On arm64 it has a price."""
    population = rf.Population.synthetic("1MiB", arch="riscv64-svnapot")
    for arch, policy, found in (
        ("riscv64-svnapot", "per-page", True),
        ("riscv64-svnapot", "v7.0.12", False),
        ("arm64-4k", "per-page", False),
    ):
        runs = rf.compare(population, "1MiB", policies=[policy], arches=[arch])
        assert ("contpte_unfolds" in runs.unpriced(arch)) == found
        assert (
            "contpte_unfolds" in runs.to_text("full").split("without a price here")[-1].split("Population")[0]
        ) == found


def test_many_prices_at_once(result):
    vectors = SIMPLE.sample(1000, seed=3)
    prices = result.price(vectors)
    assert prices.shape == (1000,) and prices.dtype == np.float64
    low, high = result.price(SIMPLE).interval
    assert 0.85 < np.mean((low <= prices) & (prices <= high)) < 0.95
    assert result.price(cost.matrix([SIMPLE, SIMPLE]))[1] == pytest.approx(result.price(SIMPLE).value)
    assert result.price(vectors.astype(np.float32)).dtype == np.float64
    assert result.price(vectors[:0]).shape == (0,)
    assert np.array_equal(result.price(np.asfortranarray(vectors)), prices)


EVENTS = len(rf.EVENT_NAMES)


@pytest.mark.parametrize(
    ("costs", "error", "named"),
    [
        (np.zeros(EVENTS), ValueError, rf"costs: .*\(k, {EVENTS}\).*got shape \({EVENTS},\)"),
        (np.zeros((3, EVENTS - 1)), ValueError, rf"costs: .*\(k, {EVENTS}\)"),
        (np.zeros((1, 2, EVENTS)), ValueError, "costs: "),
        (np.zeros((3, EVENTS), int), TypeError, "costs: .*float array.*got int64"),
        (np.zeros((3, EVENTS), complex), TypeError, "costs: "),
        (np.zeros((3, EVENTS), object), TypeError, "costs: "),
        (np.full((2, EVENTS), np.nan), ValueError, r"costs\[0, 0\] \(unmap_calls\): .*got nan"),
        (np.full((2, EVENTS), np.inf), ValueError, r"costs\[0, 0\] .*got inf"),
        (np.eye(4, EVENTS, 2) * -1.0, ValueError, r"costs\[0, 2\] .*0 or more, got -1"),
        ([[0.0] * EVENTS], TypeError, "costs: expected"),
        (5, TypeError, "costs: expected .*got 5"),
        ("x86-65", ValueError, "did you mean 'x86-64'"),
        ("missing.toml", OSError, "missing.toml"),
    ],
)
def test_costs_that_are_none(result, costs, error, named):
    with pytest.raises(error, match=named):
        result.price(costs)


def test_wrong_costs_are_refused_before_the_run():
    for function in (rf.reclaim, rf.compare):
        with pytest.raises(ValueError, match="no vector 'x86-65'"):
            function(target="1GiB", costs="x86-65")
        with pytest.raises(TypeError, match="costs: expected"):
            function(target="1GiB", costs=np.zeros((1, EVENTS)))
    with pytest.raises(ValueError, match="no vector 'x86-65'"):
        rf.reclaim(target="1GiB", arch=rf.arch.get("x86-64").replace(costs="x86-65"))


def test_document_and_dataset_hold_the_prediction(result):
    document, prediction = result.to_dict(), result.prediction
    assert document["cost_vector"] == "x86-64"
    assert document["predicted_s"] == pytest.approx(prediction.value * 1e-9)
    assert document["predicted_interval_s"] == pytest.approx([bound * 1e-9 for bound in prediction.interval])
    assert sum(document["breakdown_s"].values()) == pytest.approx(document["predicted_s"])
    dataset = result.to_xarray()
    assert dataset.predicted == prediction.value and dataset.predicted.units == "ns"
    assert list(dataset.predicted_interval.sel(bound="low").values.ravel()) == [prediction.interval[0]]
    assert dataset.breakdown.sum().item() == pytest.approx(prediction.value)
    assert dict(zip(dataset.component.values, dataset.breakdown.values, strict=True)) == prediction.breakdown
    instructions = dataclasses.replace(result, costs=INSTRUCTIONS)
    assert instructions.to_dict()["predicted_s"] is None
    assert instructions.to_dict()["predicted_instructions"] == result.price(SIMPLE).value
    assert instructions.to_xarray().breakdown.units == "instructions"
    without = dataclasses.replace(result, costs=None).to_xarray()
    assert "predicted" not in without and "breakdown" not in without


# Tables


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("costs", [None, SIMPLE, INSTRUCTIONS])
def test_width(count, costs):
    policies = ["per-page", "v6.12", "v6.14", "v6.15", "v6.16+young", "v7.0", "v7.3", "skip-caller", "walker-jump"]
    one = compared("2MiB", policies[:count], orders="0:1,4:1,9:2", costs=costs, target="1MiB")
    lines = one.to_text("full").splitlines()
    assert max(map(len, lines)) <= 80 and one.to_text("full").isascii()
    assert all(line == line.rstrip() for line in lines)
    tables = lines[lines.index("") : lines.index("", lines.index("", lines.index("") + 1) + 1)]
    # notes and the names of joint components have lines of their own, which are wrapped at 80 letters
    figures = itertools.takewhile(lambda line: not line.startswith("without a price"), tables)
    assert count > 2 or max(len(line) for line in figures if " + " not in line) <= (65 if costs else 80)
    # every policy is in the table, and no figure runs into the next one
    for policy in policies[:count]:
        assert any(policy in line.split() for line in tables)
    for head, row in itertools.pairwise(tables):
        if head.startswith(" " * 22) and policies[0] in head.split():
            assert row.startswith("predicted ")
            assert len(row[22:].split()) == len(head.split()) and all(map(float, row[22:].split()))


def test_long_names_fit():
    def a_policy_with_a_name_that_is_longer_than_any_column_of_a_table(folio, vma, walk, pte):
        return 1

    one = rf.compare(
        rf.Population.synthetic("64KiB"),
        "64KiB",
        policies=["v7.0", a_policy_with_a_name_that_is_longer_than_any_column_of_a_table],
        arches=["x86-64"],
        engine="reference",
    )
    assert max(map(len, one.to_text("full").splitlines())) <= 80
    assert "a_policy_with_a_name_.." in one.to_text("full")


def test_the_prediction_comes_first(comparison):
    lines = comparison.to_text("full").splitlines()
    for arch in ("arm64-4k", "x86-64"):
        at = lines.index(f"{arch}, baseline v6.16+young")
        assert lines[at + 1].split() == ["v6.16+young", "v7.0", "ratio"]
        assert lines[at + 2].startswith("predicted time (")
        assert lines[at + 3].startswith("  interval")
        assert lines[at + 4].startswith("ns per reclaimed page")
        assert lines[at + 5].startswith("  change") and lines[at + 5].endswith("%")
        assert lines[at + 6].startswith("    interval (90%)")
        assert lines[at + 7].startswith("components: ")
        assert lines.index("events per reclaimed page", at) > at + 7


def test_figures_of_the_table(comparison):
    rows = written(comparison.to_text("full"))
    for number, (base, other) in enumerate(comparison.by_arch().values()):
        first, second, ratio = map(float, rows["ns per reclaimed page"][number])
        assert first == pytest.approx(base.prediction.value / base.reclaimed_pages, rel=1e-3)
        assert second == pytest.approx(other.prediction.value / other.reclaimed_pages, rel=1e-3)
        assert ratio == pytest.approx(second / first, abs=0.006)
        assert rows["change"][number] == [f"{100 * (other.prediction.value / base.prediction.value - 1):+.1f}%"]
        # components: ns and share of each run, then the ratio
        names = [name for name in base.prediction.breakdown if len(name) <= 20]
        for column, run in ((0, base), (2, other)):
            cells = {name: rows[name][number][column : column + 2] for name in names}
            pages = {name: share / run.reclaimed_pages for name, share in run.prediction.breakdown.items()}
            for name, (figure, share) in cells.items():
                assert float(figure) == pytest.approx(pages[name], abs=0.06)
                low, high = (float(bound) for bound in (share.rstrip("%").split("-") * 2)[:2])
                assert low - 0.51 <= 100 * pages[name] / sum(pages.values()) <= high + 0.51
            total = sum(float(figure) for figure, _ in cells.values())
            assert total == pytest.approx((first, second)[column // 2], abs=0.06 * (len(names) + 1))


@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1e-3, 1.0, 1e3, 1e6, 1e9])
@pytest.mark.parametrize("unit", cost.UNITS)
def test_units_of_any_size(scale, unit):
    """The figure in the table times its unit is the price, from a nanosecond to centuries."""
    costs = tuple(
        dataclasses.replace(one, value=one.value * scale, low=one.low * scale, high=one.high * scale)
        for one in SIMPLE.costs
    )
    one = compared("1MiB", arches=["x86-64"], costs=dataclasses.replace(SIMPLE, costs=costs, unit=unit))
    line = next(line for line in one.to_text("full").splitlines() if line.startswith("predicted "))
    name = re.search(r"\((\w*)\)", line)
    size = {"s": 1e9, "ms": 1e6, "us": 1e3, "ns": 1, "G": 1e9, "M": 1e6, "k": 1e3}[name[1]] if name else 1
    figure = float(line[22:].split()[0])
    assert figure * size == pytest.approx(one.runs[0].prediction.value, rel=1e-3, abs=0.0006 * size)
    assert max(map(len, one.to_text("full").splitlines())) <= 80


def test_ratios():
    assert ratio(1.0, 4.0) == "0.25" and ratio(0.0, 2.0) == "0.00"
    assert ratio(1.0, 0.0) == ratio(float("nan"), 1.0) == ratio(1.0, float("nan")) == "-"
    for exponent in range(-30, 30):
        text = ratio(3.0 * 10.0**exponent, 1.0)
        assert len(text) <= 6
        if exponent >= -3:
            assert float(text) == pytest.approx(3.0 * 10.0**exponent, rel=0.1)
    assert change(1.0, 4.0) == "-75.0%" and change(3.0, 2.0) == "+50.0%"
    assert change(1.0, 0.0) == "-"


def test_footer_says_what_the_prices_rest_on(comparison):
    text = " ".join(comparison.to_text("full").split())
    assert "Predicted, not measured" in text
    assert "Cost vector simple: ns, 2 costs assumed, 1 cost measured, made for x86-64, prices arm64-4k here." in text
    assert "A test's costs." in text
    assert f"rmapfast {rf.__version__}; policies: v6.16+young, v7.0" in text and "seed: 0" in text


def test_table_without_a_price():
    arches = [rf.arch.get("x86-64").replace(costs="", name="unpriced"), "x86-64"]
    one = compared(arches=arches, costs=None)
    text = one.to_text("full")
    assert "no cost vector belongs to unpriced: events only" in text
    unpriced, priced = text.split("\nx86-64, ")
    assert "predicted" not in unpriced and "predicted time" in priced
    nothing = compared(arches=arches[:1], costs=None).to_text("full")
    assert "redicted" not in nothing and "Cost vector" not in nothing


def test_table_of_nothing():
    """Nothing reclaimed: there is a time, but none per page."""
    one = rf.compare(rf.Population.synthetic("1MiB", mlocked=1.0), "1MiB", arches=["x86-64"], policies=["v7.0"])
    assert "only 0 B could be reclaimed" in one.to_text("full")
    assert written(one.to_text("full"))["ns per reclaimed page"] == [["-"]]
    free = rf.compare(rf.Population.synthetic("1MiB"), "0", arches=["x86-64"], costs=SIMPLE)
    assert free.runs[0].prediction.value == 0 and "predicted time (ns)" in free.to_text("full")


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_markdown(count):
    one = compared("2MiB", ["per-page", "v6.12", "v6.16+young", "v7.0", "v7.3"][:count], orders="0:1,4:1")
    text = comparison_markdown(one)
    tables = [
        list(lines) for row, lines in itertools.groupby(text.splitlines(), lambda line: line.startswith("|")) if row
    ]
    assert len(tables) == 2
    for lines in tables:
        cells = {len(re.split(r"(?<!\\)\|", line)) for line in lines}
        assert cells == {2 + 2 * count}
        assert set(lines[1]) <= set("|-:")
    # a table begins after an empty line
    before = [text.splitlines()[at - 1] for at, line in enumerate(text.splitlines()) if re.fullmatch(r"\|  \|.*", line)]
    assert before == [""] * len(before)
    assert text.count("\n### ") == 2 and "rmapfast " in text


def test_markdown_escapes_bars():
    policy = rf.policy.get("v7.0").replace(name="a|b")
    text = comparison_markdown(compared("1MiB", ["v7.0", policy], ["x86-64"]))
    assert "| v7.0 | a\\|b | ratio |" in text


def test_csv(comparison):
    rows = list(csv.DictReader(io.StringIO(comparison_csv(comparison))))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert all(None not in row and None not in row.values() for row in rows)
    keys = [(row["policy"], row["arch"], row["kind"], row["quantity"]) for row in rows]
    assert len(set(keys)) == len(keys)
    found = dict(zip(keys, rows, strict=True))
    for arch, (base, other) in comparison.by_arch().items():
        for run in (base, other):
            for event, count in run.events.items():
                assert int(found[run.policy_name, arch, "event", event]["value"]) == count
            shares = [row for row in rows if (row["policy"], row["arch"]) == (run.policy_name, arch) and row["share"]]
            assert sum(float(row["share"]) for row in shares) == pytest.approx(1)
            predicted = found[run.policy_name, arch, "prediction", "predicted"]
            assert sum(float(row["value"]) for row in shares) == pytest.approx(float(predicted["value"]))
            assert predicted["unit"] == "ns"
            assert float(predicted["ratio"]) == pytest.approx(run.prediction.value / base.prediction.value)


# Saved results


def saved(tmp_path, comparison, name="saved.json"):
    rf.save(comparison, tmp_path / name)
    return rf.load(tmp_path / name)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"costs": None},
        {"costs": INSTRUCTIONS},
        {"policies": ["per-page", "v7.0", "v7.3"], "orders": "0:1,4:1,9:2", "holes": 0.1},
        {"arches": ["x86-64"], "policies": [rf.policy.get("v7.0").replace(name="mine", clip=False)]},
        {"arches": [rf.arch.get("arm64-4k").replace(cont_ptes=1, costs="")], "costs": None},
        {"arches": ["arm64-64k", "x86-64", "s390x"], "costs": None},
    ],
)
def test_saved_results_are_as_the_live_ones(tmp_path, options):
    live = compared(**options)
    again = saved(tmp_path, live)
    assert repr(again) == repr(live)
    assert json.loads(json.dumps(again.to_dict())) == json.loads(json.dumps(live.to_dict()))
    assert comparison_csv(again) == comparison_csv(live)
    assert comparison_markdown(again) == comparison_markdown(live)
    for one, other in zip(again.runs, live.runs, strict=True):
        assert one == other and one.costs == other.costs and one.after is None
        assert one.costs is None or one.prediction == other.prediction
        assert one.price(SIMPLE) == other.price(SIMPLE)
        assert one.to_xarray().identical(other.to_xarray())


def test_saved_result_of_one_run(tmp_path, result):
    again = saved(tmp_path, result)
    assert again.runs == (result,) and repr(again) == repr(rf.Comparison.of(result))


def test_saved_run_under_a_function(tmp_path):
    def two_pages(folio, vma, walk, pte):
        return walk.batch(min(2, walk.room()))

    live = rf.reclaim(rf.Population.synthetic("64KiB"), "64KiB", policy=two_pages, engine="reference")
    again = saved(tmp_path, live).runs[0]
    assert again.policy == again.policy_name == "two_pages" and again.prediction == live.prediction


def test_saved_results_of_a_capture(tmp_path):
    population = rf.Population.load(CAPTURE)
    live = rf.compare(population, "1MiB", arches=["x86-64"])
    assert repr(saved(tmp_path, live)) == repr(live)


def test_saved_costs_price_as_they_did(tmp_path):
    """Two vectors of one name are two vectors, and one that has another content than the package's is kept."""
    changed = cost.get("x86-64").replace(folios_freed=12345.0)
    both = rf.Comparison.of(
        {"old": compared(arches=["x86-64"], costs=changed), "new": compared(arches=["x86-64"], costs=None)}
    )
    again = saved(tmp_path, both)
    assert [run.prediction for run in again.runs] == [run.prediction for run in both.runs]
    assert list(again.cost_vectors()) == ["x86-64", "x86-64 (2)"]
    assert "these runs are priced with different cost vectors" in repr(again)
    same = rf.Comparison.of(again, costs="x86-64")
    assert "different cost vectors" not in repr(same)
    assert same.runs[0].prediction == same.runs[2].prediction


def test_save_does_not_overwrite(tmp_path, comparison, result):
    path = tmp_path / "saved.json"
    rf.save(comparison, path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"overwrite=True.*saved\.json"):
        rf.save(result, path)
    assert path.read_bytes() == before
    rf.save(result, path, overwrite=True)
    assert rf.load(path).runs == (result,)
    assert os.listdir(tmp_path) == ["saved.json"]


@pytest.mark.parametrize("failing", ["open", "fsync", "replace"])
@pytest.mark.parametrize("there", [False, True])
def test_nothing_is_half_written(tmp_path, monkeypatch, comparison, failing, there):
    path = tmp_path / "saved.json"
    if there:
        path.write_text("before")

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "somewhere")

    monkeypatch.setattr("builtins.open" if failing == "open" else f"os.{failing}", fail)
    with pytest.raises(OSError, match=r"No space left on device.*saved\.json"):
        rf.save(comparison, path, overwrite=True)
    monkeypatch.undo()
    assert [entry.name for entry in tmp_path.iterdir()] == (["saved.json"] if there else [])
    assert not there or path.read_text() == "before"


def test_where_nothing_is_written(tmp_path, comparison):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, error in (("folder", OSError), ("pipe", OSError), ("missing/saved.json", FileNotFoundError)):
        with pytest.raises(error, match=name):
            rf.save(comparison, tmp_path / name, overwrite=True)
    with pytest.raises(TypeError, match="results: expected a Result or Comparison, got dict"):
        rf.save({"a": {}}, tmp_path / "saved.json")
    assert sorted(os.listdir(tmp_path)) == ["folder", "pipe"]


def test_files_keep_links_and_are_readable(tmp_path):
    (tmp_path / "file").write_bytes(b"before")
    (tmp_path / "link").symlink_to("file")
    write_atomically(tmp_path / "link", b"after", overwrite=True)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_bytes() == b"after"
    mask = os.umask(0o022)
    os.umask(mask)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~mask
    write_atomically(tmp_path / ("n" * 250), b"a name as long as names may be", overwrite=False)


def test_parameters_may_be_added_later(tmp_path, comparison):
    """A result that was saved before an architecture or a policy had some parameter is still one."""
    document = json.loads(json.dumps(comparison.to_dict()))
    for run in document["runs"]:
        del run["arch_parameters"]["nr_cpus"], run["policy_parameters"]["mismatch_restores"]
    (tmp_path / "old.json").write_text(json.dumps(document))
    assert repr(rf.load(tmp_path / "old.json")) == repr(comparison)


def changed(document, where, value):
    *parents, last = where
    for key in parents:
        document = document[key]
    if value is KeyError:
        del document[last]
    else:
        document[last] = value


RUN = ("runs", 1)


@pytest.mark.parametrize(
    ("where", "value", "named"),
    [
        *((where, KeyError, f"{where[-1]}.*missing") for where in [
            ("runs",), ("population",), ("provenance",), ("cost_vectors",), ("population", "source"),
            ("population", "bytes"), ("population", "orders"), ("population", "kinds"), ("population", "assumptions"),
            ("provenance", "rmapfast"), ("provenance", "arguments"), (*RUN, "policy"), (*RUN, "arch"),
            (*RUN, "entry"), (*RUN, "target_pages"), (*RUN, "reclaimed_pages"), (*RUN, "events"),
            (*RUN, "events", "batches"), (*RUN, "referenced_events"), (*RUN, "batch_lengths"), (*RUN, "wall_s"),
            (*RUN, "cost_vector"), (*RUN, "policy_parameters"), (*RUN, "arch_parameters"),
            ("cost_vectors", "simple", "unit"),
        ]),
        (("runs",), [], "runs: expected at least one"),
        (("runs",), {}, "runs: expected a list"),
        (RUN, 5, r"runs\[1\]: expected an object, got 5"),
        ((*RUN, "policy"), 7, r"runs\[1\]\.policy: expected a text, got 7"),
        ((*RUN, "policy"), "a\nb", r"runs\[1\]\.policy: expected printable text"),
        ((*RUN, "reclaimed_pages"), -1, r"runs\[1\]\.reclaimed_pages: .*got -1"),
        ((*RUN, "reclaimed_pages"), 1.5, r"reclaimed_pages: expected a whole number"),
        ((*RUN, "reclaimed_pages"), True, r"reclaimed_pages: expected a whole number"),
        ((*RUN, "target_pages"), 1 << 64, "target_pages"),
        ((*RUN, "events", "batches"), -3, r"runs\[1\]\.events\.batches: "),
        ((*RUN, "events", "batches"), None, r"runs\[1\]\.events\.batches: "),
        ((*RUN, "events", "batch"), 1, r"events: no event 'batch' \(did you mean"),
        ((*RUN, "referenced_events", "batch"), 1, r"referenced_events: no event 'batch'"),
        ((*RUN, "batch_lengths"), {"x": 1}, "batch_lengths: expected lengths"),
        ((*RUN, "batch_lengths"), {"9" * 5000: 1}, "batch_lengths: expected lengths"),
        ((*RUN, "wall_s"), float("nan"), "wall_s"),
        ((*RUN, "wall_s"), -1, "wall_s"),
        ((*RUN, "arch_parameters", "cont_ptes"), 3, r"arch_parameters: arch\.cont_ptes"),
        ((*RUN, "arch_parameters", "cont_pte"), 1, "arch_parameters: no such key 'cont_pte'"),
        ((*RUN, "arch_parameters", "page_shift"), "12", r"arch_parameters: arch\.page_shift"),
        ((*RUN, "policy_parameters", "advance"), "fast", r"policy_parameters: policy\.advance"),
        ((*RUN, "cost_vector"), "other", "cost_vector: 'other' is not in cost_vectors"),
        (("cost_vectors", "simple", "costs", "batches"), 5, r"cost_vectors\.simple: costs\.batches"),
        (("cost_vectors", "simple", "costs", "folios_freed", "value"), -5, "folios_freed"),
        (("population", "orders", "4"), "many", r"population\.orders\.4: "),
        (("provenance",), [], "provenance: expected an object"),
        ((*RUN, "peak_rss_bytes"), "much", "peak_rss_bytes: expected a whole number or null"),
        ((*RUN, "source"), "\x1b[2J", "source: expected printable text"),
    ],
)  # fmt: skip
def test_bad_files_name_the_key(tmp_path, comparison, where, value, named):
    document = json.loads(json.dumps(comparison.to_dict()))
    changed(document, where, value)
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=rf"bad\.json: .*{named}") as caught:
        rf.load(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 10000


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"5", b"null", b"\xff\xfe", b"[" * 100000, b'{"runs": ' + b"9" * 5000 + b"}", b"PK\x03\x04"],
)
def test_files_that_are_no_result(tmp_path, content):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.json: "):
        rf.load(path)


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.9, 0.999])
def test_truncated_file(tmp_path, comparison, cut):
    path = tmp_path / "bad.json"
    rf.save(comparison, path)
    text = path.read_text()
    path.write_text(text[: int(len(text) * cut)])
    with pytest.raises(ValueError, match=r"bad\.json: not JSON"):
        rf.load(path)


# Side by side


def test_results_side_by_side(tmp_path, comparison):
    other = compared(arches=[rf.arch.get("arm64-4k").replace(cont_ptes=1)])
    both = rf.Comparison.of({"a.json": saved(tmp_path, comparison), "b.json": other})
    assert [both.label(run) for run in both.by_arch()["arm64-4k"]] == [
        "[1] v6.16+young", "[1] v7.0", "[2] v6.16+young", "[2] v7.0",
    ]  # fmt: skip
    assert both.same_memory and both.sources == ["a.json", "b.json"]
    text = repr(both)
    assert "[1] a.json\n[2] b.json\n" in text and "arm64-4k, baseline [1] v6.16+young" in text
    assert "[2] v7.0 is on arm64-4k with cont_ptes=1" in text
    assert max(map(len, text.splitlines())) <= 80
    # what was put together can be saved, and put together again
    again = saved(tmp_path, both, "both.json")
    assert repr(again) == text and again.runs[2].provenance == both.runs[2].provenance == other.provenance
    more = rf.Comparison.of({"both": again, "a": comparison})
    assert more.sources == ["both: a.json", "both: b.json", "a"]


def test_baseline(comparison):
    other = compared(policies=["v7.3", "v7.0"])
    both = {"a": comparison, "b": other}

    def first(baseline):
        groups = rf.Comparison.of(both, baseline=baseline).by_arch()
        assert {len(group) for group in groups.values()} == {4}
        return {(group[0].source, group[0].policy_name) for group in groups.values()}

    assert first(None) == {("a", "v6.16+young")}
    assert first("b") == {("b", "v7.3")}
    assert first("v7.0") == {("a", "v7.0")}
    assert first("v7.3") == {("b", "v7.3")}
    with pytest.raises(ValueError, match=r"baseline: no result or policy 'v7\.1'.*there are a, b, v6\.16"):
        first("v7.1")
    assert rf.Comparison.of(comparison, baseline="v7.0").runs[0].policy_name == "v7.0"
    assert rf.Comparison.of(comparison).to_dict() == comparison.to_dict()


def test_different_memory_compares_per_page(comparison):
    both = rf.Comparison.of({"small": comparison, "large": compared("16MiB", target="12MiB", orders=2)})
    assert not both.same_memory
    text = both.to_text("full")
    assert "only the figures per reclaimed page compare" in " ".join(text.split())
    assert "[1] small: synthetic: 4 MiB" in text and "[2] large: synthetic: 16 MiB" in text
    assert "Population of [2] differs in size: 16 MiB; orders: 2." in " ".join(text.split())
    rows = written(text)
    # the totals have no ratio: as many figures as runs
    assert all(len(row) <= 4 for row in rows["predicted time (us)"])
    assert len(rows["ns per reclaimed page"][0]) > len(rows["predicted time (us)"][0])


def test_side_by_side_refuses(comparison):
    with pytest.raises(ValueError, match=r"costs: runs on arm64-4k are priced in ns \(simple\) and in instructions"):
        rf.Comparison.of({"a": comparison, "b": compared(costs=INSTRUCTIONS)})
    same = rf.Comparison.of({"a": comparison, "b": compared(costs=INSTRUCTIONS)}, costs=SIMPLE)
    assert same.runs[0].prediction == same.runs[2].prediction
    assert same.provenance["arguments"] == {"results": ["a", "b"], "costs": "simple"}
    with pytest.raises(ValueError, match="at least one"):
        rf.Comparison.of({})
    with pytest.raises(TypeError, match="expected a Result or Comparison, got str"):
        rf.Comparison.of("a.json")


def test_the_multi_gen_lru_is_named_and_a_combination_without_a_kernel_too():
    known = rf.compare(
        rf.Population.synthetic("1MiB", young=0), "512KiB", policies=["v7.2"], arches=["x86-64"], lru="mglru"
    )
    assert "memory.reclaim, multi-gen LRU" in repr(known) and "no kernel has" not in repr(known)
    mixed = rf.policy.get("v6.16").replace(name="mixed", mglru="v7.2")
    text = rf.compare(
        rf.Population.synthetic("1MiB", young=0), "512KiB", policies=[mixed], arches=["x86-64"], lru="mglru"
    )
    assert "mixed: no kernel has these rules together with the multi-gen LRU of v7.2" in repr(text)
