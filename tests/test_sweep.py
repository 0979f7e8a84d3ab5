"""Sweeps: points, prices, files, executors, resuming, rerunning, ranking."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from waiting import DEADLINE, INTERRUPTIBLE, wait_for

import rmapfast as rf
from rmapfast import plot
from rmapfast.sweeps import dataset, heatmap_text, points, value_of, view
from rmapfast.sweeps import run as sweep_run
from rmapfast.sweeps.resuming import header, journal_of

CAPTURE = str(Path(__file__).resolve().parent / "data" / "captures" / "file64k_cow_memcg.before.npz")
SPACE = {
    "population.size": "4MiB",
    "population.order": [0, 4, "0:10,4:70,9:20"],
    "arch": ["arm64-4k", "x86-64"],
    "arch.cont_ptes": [1, 16],
    "policy": ["v6.16+young", "v7.0"],
    "arch.cost.ptes_cleared": {"from": 1, "to": 30, "steps": 4},
    "costs": ["arm64-4k", "x86-64"],
    "constraints": ["arch == 'arm64-4k' or arch.cont_ptes == 1", "arch.cost.ptes_cleared < 25 or policy == 'v7.0'"],
}
FORMATS = ("nc", "parquet", "csv", "json")


@pytest.fixture(scope="module")
def swept():
    return rf.sweep(SPACE)


def same(one, other):
    """The same sweep, but for wall times, host and workers."""

    def records(sweep):
        return {key: {k: v for k, v in one.items() if k != "wall_s"} for key, one in sweep.records.items()}

    assert one.space.to_dict() == other.space.to_dict()
    assert records(one) == records(other)
    assert list(one.records) == list(other.records)
    for name in ("predicted", "low", "high", "per_page", "gain"):
        np.testing.assert_array_equal(getattr(one.prices, name), getattr(other.prices, name))
    left, right = (one_.to_xarray().drop_vars(["wall_s", "provenance"]) for one_ in (one, other))
    assert left.identical(right)


def test_every_point_is_what_reclaim_gives(swept):
    dataset = swept.to_xarray()
    assert len(swept.records) == 3 * 3 * 2
    for order in SPACE["population.order"]:
        for arch, cont_ptes in (("arm64-4k", 1), ("arm64-4k", 16), ("x86-64", 1)):
            for policy in SPACE["policy"]:
                used = rf.arch.get(arch).replace(cont_ptes=cont_ptes)
                population = rf.Population.synthetic("4MiB", orders=order, arch=used)
                result = rf.reclaim(population, (4 << 20) * 8 // 10, policy=policy, arch=used)
                point = dataset.sel(
                    {"population.order": str(order), "arch": arch, "arch.cont_ptes": cont_ptes, "policy": policy}
                )
                assert str(point["status"].values) == "done"
                np.testing.assert_array_equal(point["events"], result.events.counts)
                np.testing.assert_array_equal(point["referenced_events"], result.referenced_events.counts)
                lengths = dict(zip(point["nr"].values.tolist(), point["batch_lengths"].values.tolist(), strict=True))
                assert {nr: count for nr, count in lengths.items() if count} == result.batch_lengths
                assert int(point["reclaimed_pages"]) == result.reclaimed_pages
                for costs in SPACE["costs"]:
                    for number, cost in enumerate((1.0, 1 + 29 / 3, 1 + 58 / 3, 30.0)):
                        priced = point.sel(costs=costs).isel({"arch.cost.ptes_cleared": number})
                        if cost >= 25 and policy != "v7.0":
                            assert np.isnan(priced["predicted"])
                            continue
                        expected = result.price(rf.cost.get(costs).replace(ptes_cleared=cost))
                        assert float(priced["predicted"]) == pytest.approx(expected.value, rel=1e-12)
                        assert priced["predicted_interval"].values == pytest.approx(expected.interval, rel=1e-9)
                        shares = dict(zip(priced["component"].values, priced["breakdown"].values, strict=True))
                        shares = {name: share for name, share in shares.items() if share > 1e-9 * expected.value}
                        assert shares == pytest.approx(expected.breakdown, rel=1e-9)
                        per_page = expected.value / result.reclaimed_pages
                        assert float(priced["per_page"]) == pytest.approx(per_page, rel=1e-12)


def test_gain_is_against_the_first_policy(swept):
    prices = swept.prices
    along = [dimension.name for dimension in swept.space.dimensions].index("policy")
    first, second = (np.take(prices.per_page, at, axis=along) for at in (0, 1))
    np.testing.assert_allclose(np.take(prices.gain, 1, axis=along), 1 - second / first)
    assert np.nanmax(np.abs(np.take(prices.gain, 0, axis=along))) == 0


def test_axes_are_coordinates_with_units(swept):
    dataset = swept.to_xarray()
    assert dataset["arch.cont_ptes"].attrs == {"units": "PTEs"} and dataset["predicted"].attrs == {"units": "ns"}
    zipped = rf.sweep(
        {
            "population.size": "1MiB",
            "zip": [{"arch.page_shift": [12, 14], "arch.ptrs_per_pte": [512, 2048]}],
            "cases": [{"population.order": 4, "policy": "v7.0"}, {"population.order": 2, "policy": "v6.16"}],
        }
    ).to_xarray()
    assert zipped["arch.ptrs_per_pte"].dims == ("arch.page_shift",)
    assert zipped["population.order"].dims == ("case",) and zipped["policy"].values.tolist() == ["v7.0", "v6.16"]
    assert zipped["events"].dims == ("arch.page_shift", "case", "event")


def test_the_data_frame_has_a_row_per_point(swept):
    frame = swept.to_dataframe()
    assert len(frame) == swept.points == np.count_nonzero(swept.space.kept)
    assert set(frame["status"]) == {"done"}
    row = frame[(frame["arch"] == "x86-64") & (frame["policy"] == "v7.0") & (frame["population.order"] == "4")].iloc[0]
    assert row["events" if "events" in frame else "pages_freed"] == row["reclaimed_pages"]


def test_a_million_costs_are_one_simulation(monkeypatch):
    space = {"population.size": "1MiB", "arch": "arm64-4k", "policy": ["v6.16", "v7.0"]}
    costs = {"from": 1, "to": 500, "steps": 700}
    fine = rf.sweep(space | {"arch.cost.tlbi_ops": costs, "arch.cost.walk_pte_reads": costs})
    assert fine.points == 2 * 490_000 and len(fine.records) == 2
    coarse = rf.sweep(space | {"arch.cost.tlbi_ops": [1.0, 500.0], "arch.cost.walk_pte_reads": [1.0, 500.0]})
    np.testing.assert_allclose(fine.prices.predicted[:, ::699, ::699], coarse.prices.predicted, rtol=1e-12)
    np.testing.assert_allclose(fine.prices.high[:, ::699, ::699], coarse.prices.high, rtol=1e-12)


# Files


@pytest.mark.parametrize("ending", FORMATS)
def test_files_hold_the_whole_sweep(swept, tmp_path, ending):
    path = tmp_path / f"sweep.{ending}"
    swept.save(path)
    with pytest.raises(FileExistsError):
        swept.save(path)
    found = rf.load(path)
    same(found, swept)
    assert found.records == swept.records  # wall times too
    assert found.provenance == swept.provenance
    arguments = found.provenance["arguments"]
    assert arguments["seeds"] == [0] and arguments["target"] == "80%" and found.provenance["host"]["cpus"]
    assert rf.rerun(path).same


@pytest.mark.parametrize("ending", FORMATS)
def test_failed_points_are_in_the_file(tmp_path, ending):
    path = tmp_path / f"sweep.{ending}"
    made = rf.sweep({"population.size": "1MiB", "arch.cont_ptes": [1, 3, 16], "population.sharing": [1, 0]}, path)
    assert [made.status(index) for index in made.simulations] == ["done", *["failed"] * 4, "done"][:1] + [
        "failed" if sharing == 0 or cont_ptes == 3 else "done" for cont_ptes in (1, 3, 16) for sharing in (1, 0)
    ][1:]
    found = rf.load(path)
    assert found.failures == made.failures and found.records == made.records
    text = found.failures[(1, 0)]
    assert "cont_ptes" in text and "power of two" in text


def test_other_readers_can_read_the_files(swept, tmp_path):
    pandas, xarray = pytest.importorskip("pandas"), pytest.importorskip("xarray")
    for ending in FORMATS[:3]:
        swept.save(tmp_path / f"sweep.{ending}")
    frames = [pandas.read_csv(tmp_path / "sweep.csv", comment="#"), pandas.read_parquet(tmp_path / "sweep.parquet")]
    for frame in frames:
        assert len(frame) == swept.points and frame["predicted_ns"].notna().all()
        assert frame["pages_freed"].tolist() == frames[0]["pages_freed"].tolist()
    with xarray.open_dataset(tmp_path / "sweep.nc", engine="h5netcdf") as dataset:
        assert float(dataset["predicted"].max()) == np.nanmax(swept.prices.predicted)


def test_damaged_files(swept, tmp_path, run):
    for ending in FORMATS:
        path = tmp_path / f"sweep.{ending}"
        swept.save(path)
        whole = path.read_bytes()
        for content in (b"", whole[: len(whole) // 2], b"x" * 100):
            path.write_bytes(content)
            with pytest.raises(ValueError, match=str(path)):
                rf.load(path)
            status, out, err = run("compare", path)
            assert (status, out, err.count("\n")) == (2, "", 1)
    with pytest.raises(FileNotFoundError):
        rf.load(tmp_path / "no.nc")


def test_json_that_is_no_sweep(swept, tmp_path):
    document = json.loads(json.dumps(dataset.document(swept)))
    key = next(iter(document["records"]))
    path = tmp_path / "sweep.json"
    for change, word in (
        (lambda d: d["records"][key].pop("wall_s"), "wall_s"),
        (lambda d: d["records"][key]["events"].update(nothing=1), "nothing"),
        (lambda d: d["records"].update({key: 4}), key),
        (lambda d: d["provenance"]["arguments"].pop("space"), "space"),
        (lambda d: d["provenance"]["arguments"]["space"].update(polici=1), "polici"),
    ):
        damaged = json.loads(json.dumps(document))
        change(damaged)
        path.write_text(json.dumps(damaged))
        with pytest.raises(ValueError, match=word):
            rf.load(path)


@pytest.mark.parametrize(
    ("ending", "module", "extra"),
    [("nc", "xarray", "netcdf"), ("nc", "h5netcdf", "netcdf"), ("parquet", "pyarrow", "parquet")],
)
def test_a_missing_extra_is_named_before_the_work(run, tmp_path, monkeypatch, ending, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / f"sweep.{ending}"
    monkeypatch.setattr(sweep_run, "_run", None)
    status, out, err = run("sweep", "population.order=0,4", "population.size=1MiB", "-o", path)
    assert (status, out) == (2, "") and module in err and f"pip install 'rmapfast[{extra}]'" in err
    assert not list(tmp_path.iterdir())


def test_csv_and_json_work_without_extras(tmp_path, monkeypatch):
    for module in ("xarray", "pandas", "h5netcdf", "h5py", "pyarrow", "distributed", "SALib", "matplotlib"):
        monkeypatch.setitem(sys.modules, module, None)
    for ending in ("csv", "json"):
        path = tmp_path / f"sweep.{ending}"
        made = rf.sweep({"population.order": [0, 4], "population.size": "1MiB", "policy": ["v6.16", "v7.0"]}, path)
        assert rf.load(path).records == made.records
        ranking = made.rank()
        assert "SALib" in ranking.note and ranking.effects[0].total is None
        assert "population.order" in heatmap_text(view(made))
    with pytest.raises(ImportError, match=r"pip install 'rmapfast\[xarray\]'"):
        made.to_xarray()
    with pytest.raises(ImportError, match=r"pip install 'rmapfast\[dask\]'"):
        rf.sweep({"population.size": "1MiB"}, executor="dask=tcp://127.0.0.1:1")


# Executors

MANY = {"population.size": "2MiB", "population.order": [0, 2, 4, 9], "population.seed": list(range(40)),
        "population.holes": 0.1, "policy": ["v6.16", "v7.0"]}  # fmt: skip


@pytest.fixture(scope="module")
def many():
    return rf.sweep(MANY, workers=1)


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address=":0",  # any port: another cluster of this machine may have the usual one
        host="127.0.0.1",
    ) as cluster:
        yield cluster


def test_two_threads_give_the_same(many):
    same(rf.sweep(MANY, executor="threads", workers=2), many)


def test_two_processes_give_the_same(many):
    same(rf.sweep(MANY, executor="processes", workers=2), many)


def test_any_executor_gives_the_same(many):
    with ThreadPoolExecutor(3) as executor:
        same(rf.sweep(MANY, executor=executor), many)


def test_dask_gives_the_same(many, cluster, run, tmp_path):
    address = cluster.scheduler_address
    assert address.startswith("tcp://127.0.0.1:")
    found = rf.sweep(MANY, executor=f"dask={address}")
    assert found.provenance["run"] | {"date": ""} == {"executor": "dask", "workers": 2, "date": ""}
    same(found, many)
    path = tmp_path / "a.json"
    words = ["population.order=0,4", "population.size=1MiB", "-o", path, "--executor", f"dask={address}"]
    status, _, err = run("sweep", *words)
    assert (status, err) == (0, "")


def test_a_dask_worker_that_is_killed_loses_nothing(many, cluster, monkeypatch):
    """Nothing is lost, and nothing counted twice."""
    distributed = pytest.importorskip("distributed")
    with distributed.Client(cluster.scheduler_address) as client:
        before = client.run(os.getpid)
        assert len(before) == 2
        killed, seen = [], []

        def progress(done, total, failed):
            seen.append(done)
            if done >= 10 and not killed:
                killed.append(next(iter(before.values())))
                os.kill(killed[0], signal.SIGKILL)

        found = rf.sweep(MANY, executor=client.get_executor(), workers=2, progress=progress)
        assert killed and seen == sorted(seen) and seen[-1] == len(found.records) == len(many.records)
        same(found, many)
        client.wait_for_workers(2)
        assert killed[0] not in client.run(os.getpid).values()


def test_one_described_population_is_split_over_workers(cluster):
    distributed = pytest.importorskip("distributed")
    description = rf.Population.described("40GiB", orders="0:10,4:70,9:20", seed=3)
    local = rf.reclaim(description, "30GiB")
    with ProcessPoolExecutor(2) as executor, distributed.Client(cluster.scheduler_address) as client:
        for where in (executor, client.get_executor()):
            split = rf.reclaim(description, "30GiB", executor=where)
            assert split.events == local.events and split.batch_lengths == local.batch_lengths
            assert split.referenced_events == local.referenced_events
            assert split.reclaimed_pages == local.reclaimed_pages
    with ThreadPoolExecutor(2) as executor:
        for population in (rf.Population.described("1MiB", shuffle=True), rf.Population.synthetic("1MiB")):
            with pytest.raises(ValueError, match="executor"):
                rf.reclaim(population, "1MiB", executor=executor)


def test_bad_executors(run):
    small = ["sweep", "population.size=1MiB", "population.order=0,4"]
    for words, expected in (
        (["--executor", "thread"], "did you mean 'threads'"),
        (["--executor", "dask="], "dask=ADDRESS"),
        (["--workers", "0"], "workers"),
        (["--executor", "dask=tcp://127.0.0.1:9"], "tcp://127.0.0.1:9"),
    ):
        status, out, err = run(*small, *words)
        assert (status, out, err.count("\n")) == (2, "", 1) and expected in err, err
    with pytest.raises(TypeError, match="executor"):
        rf.sweep({"population.size": "1MiB"}, executor=4)
    with ThreadPoolExecutor(3) as executor, pytest.raises(ValueError, match="workers: the ThreadPoolExecutor has 3"):
        rf.sweep({"population.size": "1MiB"}, executor=executor, workers=2)


def die(_points):
    os.kill(os.getpid(), signal.SIGKILL)


def test_workers_that_end_unexpectedly(tmp_path):
    """The sweep says so, keeps what it has, and goes on later."""
    path = tmp_path / "sweep.json"

    class Deadly(ProcessPoolExecutor):
        calls = 0

        def submit(self, call, points):
            self.calls += 1
            return super().submit(call if self.calls < 4 else die, points)

    space = {"population.size": "1MiB", "population.seed": list(range(30))}
    with Deadly(1) as executor, pytest.raises(rf.SweepError, match="resume"):
        rf.sweep(space, path, executor=executor)
    found = rf.sweep(space, path, resume=True)
    assert len(found.records) == 30 and not found.failures
    same(found, rf.sweep(space))


@pytest.mark.parametrize("times", [1, 2])
def test_a_point_whose_result_is_lost_is_tried_again(tmp_path, times):
    """A cluster may lose a result with its worker, and say so by any error; two losses are a failure of the point."""

    lost = Counter()

    class Forgetful(ThreadPoolExecutor):
        def submit(self, call, points):
            keys = [key for key, _ in points]
            lost.update(keys)
            if all(lost[key] > times for key in keys):
                return super().submit(call, points)
            future = Future()
            future.set_exception(TypeError("too many values to unpack"))
            return future

    space = {"population.size": "1MiB", "population.seed": list(range(5))}
    with Forgetful(1) as executor:
        found = rf.sweep(space, executor=executor)
    if times == 1:
        assert not found.failures
        same(found, rf.sweep(space))
    else:
        assert len(found.failures) == 5 and "TypeError: too many" in found.failures[0,]


# Long work

SLOW = ["sweep", "population.size=64MiB", "population.order=0", f"population.seed={','.join(map(str, range(400)))}"]
SLOW_SPACE = {"population.size": "64MiB", "population.order": 0, "population.seed": list(range(400))}


def started(*words, **options):
    code = INTERRUPTIBLE + "import sys; from rmapfast.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def journalled(path, count):
    """Wait until a journal has so many records."""
    journal = Path(f"{path}.journal")
    wait_for(lambda: journal.exists() and journal.read_bytes().count(b"\n") > count, f"{count} records")
    return journal


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_kill_9_and_resume(tmp_path, run, monkeypatch, executor):
    path = tmp_path / "sweep.csv"
    child = started(*SLOW, "-o", path, "--workers", 1, "--executor", executor)
    journal = journalled(path, 20)
    child.kill()
    child.communicate()
    assert not path.exists()
    with open(journal, "ab") as file:
        file.write(b'{"key": "torn')
    done = {json.loads(line[9:])["key"] for line in journal.read_bytes().splitlines()[1:-1]}
    status, out, err = run(*SLOW, "-o", path)
    assert (status, out) == (2, "") and "--resume" in err and journal.exists()
    ran = []
    simulate = points.simulate
    monkeypatch.setattr("rmapfast.sweeps.points.simulate", lambda *a: ran.append(a) or simulate(*a))
    status, _, err = run(*SLOW, "-o", path, "--resume")
    assert (status, err) == (0, "") and not journal.exists()
    assert len(ran) == 400 - len(done) and len(done) >= 20  # what was done is not run again
    found = rf.load(path)
    same(found, rf.sweep(SLOW_SPACE))
    del ran[:]
    assert run(*SLOW, "-o", path, "--resume")[0] == 0 and not ran  # nor what is in the finished file


def test_a_resumed_sweep_has_the_prices_of_an_uninterrupted_one_bit_for_bit(tmp_path, monkeypatch):
    space = {
        "population.size": "2MiB",
        "population.order": [0, 2, 4],
        "population.holes": [0.0, 0.013],
        "policy": ["v6.16+young", "v7.0", "v7.3"],
        "arch.cost.tlbi_ops": [50.0, 77.7, 123.4],
        "arch": ["arm64-4k", "x86-64"],
    }
    whole = rf.sweep(space)
    records = [{"key": key, "record": record} for key, record in whole.records.items()]
    path = tmp_path / "out.csv"
    for done in (1, 7, 20):
        journal = journal_of(path, header(whole.space.to_dict(), {}))
        journal.open(header(whole.space.to_dict(), {}))
        for record in records[:done]:
            journal.add(record)
        journal.close()
        resumed = rf.sweep(space, path, resume=True)
        assert sum(resumed.records[key]["wall_s"] == whole.records[key]["wall_s"] for key in whole.records) >= done
        for name in ("predicted", "low", "high", "per_page", "gain"):
            assert getattr(resumed.prices, name).tobytes() == getattr(whole.prices, name).tobytes(), name
        path.unlink()


@pytest.mark.filterwarnings("always")
def test_a_damaged_record_of_a_journal_is_run_again(tmp_path, run):
    words = ["sweep", "population.order=0,2,4", "policy=v7.0", "population.size=256KiB", "-o", tmp_path / "out.csv"]
    space = rf.sweep({"population.order": [0, 2, 4], "policy": "v7.0", "population.size": "256KiB"})
    journal = journal_of(tmp_path / "out.csv", head := header(space.space.to_dict(), {}))
    journal.open(head)
    for key, record in space.records.items():
        journal.add({"key": key, "record": record})
    journal.add({"key": key, "record": {"arch": "x86-64"}})  # intact, and no record
    journal.close()
    content = journal.path.read_bytes()
    journal.path.write_bytes(content.replace(b'"walk_calls": ', b'"walk_calls": 1', 1))
    status, _, err = run(*words, "--resume")
    assert status == 0 and "warning" in err and "2 of 4 records are damaged" in err and err.count("\n") == 1, err
    same(rf.load(tmp_path / "out.csv"), space)
    assert not journal.path.exists()


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_ctrl_c_leaves_a_valid_file_of_what_is_done(tmp_path, executor):
    path = tmp_path / "sweep.nc"
    child = started(*SLOW, "-o", path, "--workers", 1, "--executor", executor, start_new_session=True)
    journalled(path, 10)
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does
    out, err = child.communicate(timeout=DEADLINE)
    assert (child.returncode, out) == (130, "") and "--resume" in err and "Traceback" not in err, err
    found = rf.load(path)
    done = [found.status(index) for index in found.simulations].count("done")
    assert 10 <= done < 400 and not found.complete and not found.failures
    assert np.isnan(found.prices.predicted).sum() == 400 - done
    whole = rf.sweep(SLOW_SPACE, path, resume=True)
    assert whole.complete and not Path(f"{path}.journal").exists()
    same(rf.load(path), whole)


def test_a_long_point_is_interrupted_too(tmp_path):
    path = tmp_path / "sweep.csv"
    child = started("sweep", "population.size=40TiB", "population.order=0,2", "-o", path, start_new_session=True)
    journalled(path, 0)
    time.sleep(0.5)  # into the point, which nothing outside shows
    os.killpg(child.pid, signal.SIGINT)
    out, err = child.communicate(timeout=DEADLINE)
    assert (child.returncode, out) == (130, "") and "no point was done" in err and "Traceback" not in err
    assert not path.exists()


def test_points_that_fail_are_tried_again(tmp_path, monkeypatch):
    path, space = tmp_path / "sweep.json", {"population.size": "1MiB", "population.order": [0, 2, 4]}
    simulate = points.simulate

    def failing(values, progress):
        if values["population.orders"] == 2:
            raise MemoryError
        return simulate(values, progress)

    monkeypatch.setattr("rmapfast.sweeps.points.simulate", failing)
    found = rf.sweep(space, path)
    assert found.failures == {(1,): "MemoryError: MemoryError"} and found.complete
    with pytest.raises(rf.SweepError, match="MemoryError"):
        rf.sweep(space, tmp_path / "other.json", fail_fast=True)
    monkeypatch.undo()
    assert not rf.sweep(space, path, resume=True).failures


def test_a_resume_of_something_else_is_refused(tmp_path, run):
    path = tmp_path / "sweep.json"
    small = ["sweep", "population.size=1MiB", "-o", path]
    assert run(*small, "population.order=0,4")[0] == 0
    before = path.read_bytes()
    for words, expected in (
        (["population.order=0,4"], "--overwrite"),
        (["population.order=0,2", "--resume"], "population.order"),
        (["population.order=0,4", "target=50%", "--resume"], "target"),
    ):
        status, out, err = run(*small, *words)
        assert (status, out, err.count("\n")) == (2, "", 1) and expected in err, err
        assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]
    document = json.loads(before)
    document["provenance"]["rmapfast"] = "0.0.1"
    path.write_text(json.dumps(document))
    status, _, err = run(*small, "population.order=0,4", "--resume")
    assert status == 2 and "0.0.1" in err and rf.__version__ in err
    assert run(*small, "population.order=0,2", "--overwrite")[0] == 0
    rf.save(rf.reclaim(rf.Population.synthetic("1MiB"), "512KiB"), path, overwrite=True)
    status, _, err = run(*small, "population.order=0,4", "--resume")
    assert status == 2 and "no sweep" in err and path.name in err
    path.write_text('{"provenance": {}}')
    assert run(*small, "population.order=0,4", "--resume")[0] == 2


def test_a_resume_that_is_interrupted_keeps_what_the_output_had(tmp_path, monkeypatch):
    path, space = tmp_path / "sweep.json", {"population.size": "1MiB", "population.order": [0, 2, 4]}
    simulate = points.simulate

    def failing(values, progress):
        if values["population.orders"] == 2:
            raise MemoryError
        return simulate(values, progress)

    monkeypatch.setattr("rmapfast.sweeps.points.simulate", failing)
    rf.sweep(space, path)
    assert os.listdir(tmp_path) == [path.name]

    def interrupted(done, total, failed):
        if failed:
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            rf.sweep(space, path, resume=True, progress=interrupted)
        found = rf.load(path)
        assert [found.status(index) for index in found.simulations] == ["done", "failed", "done"]
    monkeypatch.undo()
    ran = []
    monkeypatch.setattr("rmapfast.sweeps.points.simulate", lambda *a: ran.append(a) or simulate(*a))
    assert not rf.sweep(space, path, resume=True).failures and len(ran) == 1
    assert os.listdir(tmp_path) == [path.name]


def test_damaged_journals(tmp_path, run):
    path = tmp_path / "sweep.json"
    journal = Path(f"{path}.journal")
    words = ["sweep", "population.size=1MiB", "population.order=0,4", "-o", path, "--resume"]
    for content in (b"x\n", b"{}\n", b"[]\nx\n", b'{"sweep": 1}\n', b"\xff\xfe\n"):
        journal.write_bytes(content)
        status, out, err = run(*words)
        assert (status, out, err.count("\n")) == (2, "", 1) and str(journal) in err, (content, err)
        assert journal.read_bytes() == content and not path.exists()
    for content in (b"", b'{"swe'):  # torn before the first line was whole
        journal.write_bytes(content)
        assert run(*words, "--overwrite")[0] == 0


def test_two_sweeps_cannot_write_one_file(tmp_path):
    path = tmp_path / "sweep.json"
    blocked = threading.Event()
    errors = []

    def progress(done, total, failed):
        if not blocked.is_set():
            blocked.set()
            with pytest.raises(OSError, match="Another sweep") as error:
                rf.sweep({"population.size": "1MiB"}, path, resume=True)
            errors.append(error)

    rf.sweep({"population.size": "1MiB"}, path, progress=progress)
    assert errors


def test_disk_full(tmp_path):
    """An earlier file is untouched, and what was done can be resumed."""
    path = tmp_path / "sweep.json"
    rf.sweep({"population.size": "1MiB"}, path)
    before = path.read_bytes()

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    child = started(*SLOW, "-o", path, "--overwrite", preexec_fn=limit)
    out, err = child.communicate(timeout=DEADLINE)
    assert (child.returncode, out, err.count("\n")) == (2, "", 1) and f"{path}.journal" in err, err
    assert path.read_bytes() == before
    found = rf.sweep(SLOW_SPACE, path, resume=True)
    assert found.complete and not found.failures


def test_nowhere_to_write(tmp_path, run):
    small = ["sweep", "population.size=1MiB", "population.order=0,4", "-o"]
    (tmp_path / "folder.csv").mkdir()
    for path in (tmp_path / "no" / "sweep.csv", tmp_path / "folder.csv", tmp_path / "sweep.txt"):
        status, out, err = run(*small, path)
        assert (status, out, err.count("\n")) == (2, "", 1) and path.name in err
    assert run("sweep", "population.size=1MiB", "--resume")[0] == 2


def test_a_huge_space_needs_a_word(run):
    seeds = "population.seed=" + ",".join(map(str, range(101)))
    words = ["sweep", "population.size=1MiB", seeds, "population.holes=" + ",".join(f"0.{n:03}" for n in range(100))]
    status, out, err = run(*words)
    assert (status, out) == (2, "") and "10,100 simulations" in err and "--yes" in err
    status, out, err = run("sweep", "population.size=1MiB", "arch.cost.tlbi_ops=1..2/5000",
                           "arch.cost.walk_pte_reads=1..2/5000")  # fmt: skip
    assert status == 2 and "25,000,000 points" in err


# Captures


def test_captures_are_axes(tmp_path):
    space = {"capture": CAPTURE, "policy": ["v6.16", "v7.0"], "population.young": [0.0, 1.0], "arch.cont_ptes": [1, 16]}
    path = tmp_path / "sweep.json"
    found = rf.sweep(space, path)
    assert not found.failures
    population = rf.Population.load(CAPTURE, young=0.0)
    arch = population.arch.replace(cont_ptes=16)
    record = found.records[found.simulations[(1, 0, 1)]]
    pages = sum(
        1 << int(o) for lru in (population.lru_inactive, population.lru_active) for o in population.folio_order[lru]
    )
    target = (pages << population.page_shift) * 8 // 10
    result = rf.reclaim(population, target, policy="v7.0", arch=arch)
    assert record["events"] == {name: count for name, count in result.events.items() if count}
    assert rf.load(path).provenance["arguments"]["inputs"][CAPTURE]
    assert rf.rerun(path).same


def test_a_capture_that_changed_is_no_rerun(tmp_path, run):
    copy, path = tmp_path / "a.npz", tmp_path / "sweep.json"
    copy.write_bytes(Path(CAPTURE).read_bytes())
    rf.sweep({"capture": str(copy)}, path)
    copy.write_bytes(Path(CAPTURE).with_name("file64k_cow_memcg.after.npz").read_bytes())
    status, _, err = run("rerun", path)
    assert status == 2 and "changed" in err and "a.npz" in err
    with pytest.raises(ValueError, match="inputs"):
        rf.sweep({"capture": str(copy)}, path, resume=True)
    copy.unlink()
    assert rf.load(path).complete  # it can still be read
    assert run("rerun", path)[0] == 2
    status, _, err = run("sweep", f"capture={tmp_path / 'none.npz'}", "policy=v6.16,v7.0")
    assert status == 2 and "none.npz" in err


# Rerun


def test_rerun_says_which_numbers_differ(swept, tmp_path, run):
    path = tmp_path / "sweep.json"
    swept.save(path)
    document = json.loads(path.read_bytes())
    key = list(document["records"])[3]
    document["records"][key]["events"]["ptes_cleared"] += 7
    document["provenance"]["rmapfast"] = "0.0.1"
    path.write_text(json.dumps(document))
    status, out, err = run("rerun", path)
    out = " ".join(out.split())  # lines are folded
    assert (status, err) == (1, "") and "0.0.1" in out and rf.__version__ in out and "ptes_cleared was" in out
    status, out, _ = run("rerun", path, "--json")
    found = json.loads(out)
    assert not found["same"] and found["rmapfast_before"] == "0.0.1"
    names = {one["name"] for one in found["differences"]}
    assert "ptes_cleared" in names and names <= {"ptes_cleared", "predicted", "predicted low", "predicted high"}


def test_reclaim_results_are_rerun(tmp_path, run):
    path = tmp_path / "run.json"
    words = [
        "--size",
        "4MiB",
        "--orders",
        "0:10,4:90",
        "--holes",
        "0.1",
        "--set",
        "arm64-4k.cont_ptes=8",
        "--seed",
        "5",
    ]
    assert run("reclaim", *words, "--policy", "v6.16,v7.0", "-o", path)[0] == 0
    status, out, _ = run("rerun", path)
    assert status == 0 and "4 simulations" in " ".join(out.split()) and "the same numbers" in out
    document = json.loads(path.read_text())
    document["runs"][2]["events"]["pages_freed"] -= 1
    path.write_text(json.dumps(document))
    status, out, _ = run("rerun", path)
    assert status == 1 and "pages_freed was" in out
    for words in (["--workers", "2"], ["--executor", "threads"]):  # which only a sweep has a use for
        status, out, err = run("rerun", path, *words)
        assert (status, out, err.count("\n")) == (2, "", 1) and f"{words[0][2:]}: expected a sweep" in err
    path.unlink()
    assert run("reclaim", "--capture", CAPTURE, "--assume", "dirty=true", "--young", "0.5", "-o", path)[0] == 0
    assert run("rerun", path)[0] == 0


# How it is shown


def test_compare_shows_a_saved_sweep(swept, tmp_path, run):
    path, figure = tmp_path / "sweep.csv", tmp_path / "sweep.png"
    swept.save(path)
    status, out, err = run("compare", path, "--plot", figure, "--x", "population.order", "--y", "arch",
                           "--at", "arch.cont_ptes=1", "--at", "costs=x86-64")  # fmt: skip
    assert (status, err) == (0, "") and figure.stat().st_size > 1000
    assert all(len(line) <= 100 for line in out.splitlines())
    assert "predicted gain per reclaimed page" in out and "population.order" in out
    status, out, _ = run("compare", path, "--json")
    assert json.loads(out)["provenance"] == swept.provenance
    other = tmp_path / "other.json"
    swept.save(other)
    assert run("compare", path, other)[:2] == (0, "the same numbers\n")
    reclaimed = tmp_path / "run.json"
    run("reclaim", "--size", "1MiB", "-o", reclaimed)
    for words in ([path, reclaimed], [path, "--baseline", "v7.0"], [path, "--format", "csv"], [path, "--value", "gian"],
                  [path, "--x", "arhc"], [path, "--at", "arch=z"], [path, "--at", "arch"], [reclaimed, "--x", "arch"],
                  [path, "--x", "arch", "--y", "arch"]):  # fmt: skip
        status, out, err = run("compare", *words)
        assert (status, out, err.count("\n")) == (2, "", 1), words


def test_tables_hold_the_values(swept):
    shown = view(swept, value="pages_freed", x="population.order", y="arch", at={"policy": "v7.0"})
    assert [table.shape for _, table in shown.facets] == [(2, 3)] * len(shown.facets)
    for _, table in shown.facets:
        assert np.all(np.isnan(table) | (table == 1))
    gain, label = value_of(swept)
    assert label == "predicted gain per reclaimed page" and gain is swept.prices.gain
    text = heatmap_text(view(swept, x="population.order", y="arch", at={"arch.cont_ptes": "1", "costs": "x86-64"}))
    assert f"{gain[1, 1, 0, 1, 0, 1]:.4g}" in text
    for name in ("walk_pte_reads", "per_page", "predicted", "TLB"):
        assert not np.isnan(value_of(swept, name)[0]).all()


def test_a_terminal_heatmap_of_many_steps_fits():
    found = rf.sweep({"population.size": "1MiB", "arch": "arm64-4k", "policy": ["v6.16", "v7.0"],
                      "arch.cost.tlbi_ops": {"from": 1, "to": 9, "steps": 1000},
                      "arch.cost.walk_pte_reads": {"from": 1, "to": 9, "steps": 100}})  # fmt: skip
    lines = heatmap_text(view(found)).splitlines()
    assert len(lines) < 40 and max(map(len, lines)) <= 100 and any("of 1000 steps" in line for line in lines)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_plots(tmp_path, axes):
    space = {"population.size": "1MiB", "policy": ["v6.16+young", "v7.0"], "population.order": [0, 2, 4]}
    space |= {"arch": ["arm64-4k", "x86-64"]} if axes > 1 else {}
    space |= {"arch.cont_ptes": [1, 16]} if axes > 2 else {}
    found = rf.sweep(space)
    figure = plot.sweep(found)
    drawn = [ax for body in figure.subfigs for ax in body.axes]
    assert any(ax.images for ax in drawn) == (axes > 1) and any(ax.lines for ax in drawn) == (axes == 1)
    text = " ".join(text.get_text() for text in figure.findobj(match=lambda one: hasattr(one, "get_text")))
    text = " ".join(text.split())  # captions are wrapped
    assert (
        "population.order 0, 2, 4" in text
        and "predicted gain per reclaimed page" in text
        and f"rmapfast {rf.__version__}" in text
    )
    for ending in ("png", "svg", "pdf"):
        plot.save(figure, tmp_path / f"a.{ending}")
    ranked = plot.ranking(found)
    assert "population.order" in " ".join(
        text.get_text() for text in ranked.findobj(match=lambda one: hasattr(one, "get_text"))
    )


def test_rank_finds_what_matters():
    found = rf.sweep({"population.size": "2MiB", "policy": ["v6.16+young", "v7.0"], "population.order": [0, 2, 4, 9],
                      "arch": ["arm64-4k", "x86-64"], "population.seed": [1, 2, 3]})  # fmt: skip
    ranking = found.rank()
    assert [one.axis for one in ranking.effects] == ["population.order", "arch", "population.seed"]
    gain = found.prices.gain[1]  # order, arch, seed
    # total-order indices of a grid are exact sums; what SALib samples must come near
    variance = gain.var()
    for axis, effect in zip(("population.order", "arch", "population.seed"), ranking.effects, strict=True):
        at = ["population.order", "arch", "population.seed"].index(axis)
        exact = gain.var(axis=at).mean() / variance
        assert effect.total == pytest.approx(exact, abs=0.1)
    middle = gain[2, 1, 1]
    assert ranking.base_value == middle and ranking.effects[0].swing == pytest.approx(np.ptp(gain[:, 1, 1]))
    assert found.rank() == ranking and found.rank(seed=1) != ranking
    # the interval of the gain is that of the change of the two runs; a seed alone moves nothing
    low, high = ranking.base_interval
    runs = [
        rf.reclaim(rf.Population.synthetic("2MiB", orders=4, seed=2, arch="x86-64"), "80%", policy=policy)
        for policy in ("v6.16+young", "v7.0")
    ]
    change = rf.cost.get("x86-64").change(*(run.events.counts / run.reclaimed_pages for run in runs))
    assert (-high, -low) == pytest.approx((change.low, change.high)) and -middle == pytest.approx(change.value)
    for effect in ranking.effects:
        assert effect.swing_interval[0] <= effect.swing <= effect.swing_interval[1]
    assert ranking.effects[2].swing_interval == pytest.approx((0, 0), abs=1e-12)
    with pytest.raises(ValueError, match="axis"):
        rf.sweep({"population.size": "1MiB", "policy": ["v6.16", "v7.0"]}).rank()
    with pytest.raises(ValueError, match="price"):
        rf.sweep({"population.size": "1MiB", "population.order": [0, 4], "arch": rf.Arch(name="bare")}).rank()


def test_the_command(run, tmp_path):
    status, out, err = run("sweep", "population.order=0,4", "population.size=1MiB", "policy=v6.16,v7.0", "--json")
    document = json.loads(out)
    assert (status, err) == (0, "") and len(document["records"]) == 4
    assert document["columns"]["population.order"] == [0, 0, 4, 4] and len(document["columns"]["gain"]) == 4
    status, out, _ = run("sweep", "population.order=4", "population.size=1MiB")
    assert status == 0 and "predicted" in out and "per reclaimed page" in out
    status, out, err = run("sweep", "population.size=1MiB", "arch.cont_ptes=1,3")
    assert (status, err) == (1, "") and "failed: arch.cont_ptes 3" in out
    status, out, err = run("sweep", "population.size=1MiB", "arch.cont_ptes=1,3", "--fail-fast")
    assert (status, out) == (2, "") and "cont_ptes" in err
    assert run("sweep", "population.order=0,4", "population.size=1MiB", "policy=v6.16,v7.0", "--rank")[0] == 0
    for words in (["population.order"], ["population.order="], ["a.toml"], ["population.order=0,4", "--zip", "policy"],
                  ["population.order=0,4", "--x", "z"], ["population.order=0,4", "--bogus"]):  # fmt: skip
        status, out, err = run("sweep", *words)
        assert (status, out) == (2, "") and err.count("\n") == 1, (words, err)
