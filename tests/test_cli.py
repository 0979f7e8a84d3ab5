"""The command line: documents, tables, exit status, and one clear line for whatever is wrong."""

import csv
import dataclasses
import gzip
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from classic_model import ClassicModel
from waiting import DEADLINE

import rmapfast as rf
from rmapfast import cli
from rmapfast.cli.command import VERBS

DATA = Path(__file__).resolve().parent / "data"
CAPTURES = DATA / "captures"
VECTORS = DATA / "conformance"
CAPTURE = CAPTURES / "file64k_cow_memcg.before.npz"
SMALL = ["reclaim", "--size", "4MiB"]

# The keys of a run in the document of --json. More may be added, none may be missing.
RUN_KEYS = {
    "policy", "arch", "reclaimed_bytes", "reclaimed_pages", "events", "batch_lengths", "predicted_s",
    "predicted_interval_s", "breakdown_s", "simulated_ptes", "wall_s", "ptes_per_s", "peak_rss_bytes",
}  # fmt: skip
ADDED_RUN_KEYS = {
    "entry", "target_pages", "target_reached", "came_back_pages", "swap_used", "ret", "referenced_events",
    "cost_vector", "policy_parameters", "arch_parameters", "interval_level", "without_price", "lru", "isolated",
    "looked_around",
}  # fmt: skip


@pytest.fixture
def output(run):
    """Standard output of a command that succeeds and says nothing else."""

    def output(*argv):
        status, out, err = run(*argv)
        assert (status, err) == (0, "")
        return out

    return output


@pytest.fixture
def document(output):
    """The one JSON document that a command prints."""

    def no_constant(name):
        raise AssertionError(f"{name} is not JSON")

    def document(*argv):
        return json.loads(output(*argv, "--json"), parse_constant=no_constant)

    return document


def command(*argv, **options):
    """Run the command as a process of its own."""
    code = "import sys; from rmapfast.cli import main; sys.exit(main())"
    argv = [sys.executable, "-c", code, *map(str, argv)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE, **options)


# reclaim


def test_reclaim_table(output):
    out = output("reclaim", "--size", "64MiB", "--full")
    lines = out.splitlines()
    assert "64 MiB" in lines[0] and "51.2 MiB" in lines[0]
    for arch in ("arm64-4k", "x86-64"):
        assert lines.count(f"{arch}, baseline v6.16+young") == 1
    for heading in ("predicted time", "  interval", "ns per reclaimed page", "components: ", "events per reclaimed"):
        assert sum(line.startswith(heading) for line in lines) == 2
    head = [line.split() for line in lines if line.endswith("ratio")]
    assert head == [["v6.16+young", "v7.0", "ratio"]] * 2
    # 16 steps per folio become one: 1 step per page, and 1/16.
    rows = [line.split() for line in lines if line.startswith("batches ")]
    assert rows == [["batches", "1", "0.0625", "0.06"]] * 2
    assert any("rmapfast" in line and rf.__version__ in line for line in lines[-3:])
    # what was left to rmapfast is not listed as an argument
    assert "None" not in out


def test_table_is_the_same_again(output):
    for options in (
        [],
        ["--orders", "0:10,4:70,9:20", "--shuffle", "--holes", "every:7", "--seed", "5"],
        ["--kind", "anon"],
    ):
        argv = ["reclaim", "--size", "8MiB", *options]
        assert output(*argv) == output(*argv)


def test_seed_changes_choices_only(document):
    argv = ["reclaim", "--size", "8MiB", "--write", "0.1", "--arch", "x86-64", "--policy", "v7.0"]
    one, again, other = (document(*argv, "--seed", seed) for seed in (1, 1, 2))
    assert one["runs"][0]["batch_lengths"] == again["runs"][0]["batch_lengths"]
    assert one["runs"][0]["batch_lengths"] != other["runs"][0]["batch_lengths"]
    assert one["population"]["pages"] == other["population"]["pages"]


@pytest.mark.parametrize(
    "argv",
    [
        ["reclaim", "--size", "8MiB"],
        ["reclaim", "--size", "8MiB", "--policy", "v6.16+young"],
        ["reclaim", "--size", "8MiB", "--policy", "per-page,v6.16+young,walker-jump,skip-caller"],
        ["reclaim", "--size", "16MiB", "--orders", "0:1,1:1,2:1,3:1,4:1,5:1,6:1,7:1,8:1,9:1,10:1", "--write", "0.05"],
        ["reclaim", "--size", "8MiB", "--kind", "anon", "--no-swap"],
        ["reclaim", "--capture", str(CAPTURE)],
        ["reclaim", "--capture", str(CAPTURE), "--entry", "pageout"],
        ["conformance", *(str(path) for path in sorted(VECTORS.glob("*.gz")))],
        ["describe", str(CAPTURE)],
        ["describe", str(CAPTURES / "arm72-file-o4-uffdwp.after.npz")],
        ["list", "policy"],
        ["list", "arch"],
        ["list", "event"],
        ["info"],
    ],
    ids=lambda argv: " ".join(argument.rpartition("/")[2] for argument in argv)[:60],
)
def test_output_fits_in_80_columns(output, argv):
    lines = output(*argv).splitlines()
    assert [line for line in lines if len(line) > 80 and str(CAPTURE.parent) not in line] == []
    assert all(line == line.rstrip() for line in lines)


def test_reclaim_document(document):
    found = document("reclaim", "--size", "64MiB")
    assert set(found) == {"provenance", "population", "cost_vectors", "without_price", "runs"}
    population = found["population"]
    assert {name: population[name] for name in ("pages", "folios", "bytes", "orders")} == {
        "pages": 1 << 14,
        "folios": 1 << 10,
        "bytes": 64 << 20,
        "orders": {"4": 1 << 10},
    }
    labels = [(run["policy"], run["arch"]) for run in found["runs"]]
    assert labels == [(policy, arch) for arch in ("arm64-4k", "x86-64") for policy in ("v6.16+young", "v7.0")]
    for run in found["runs"]:
        # what was reclaimed, where it differs from what the document says of all runs: the assumed architecture
        assert set(run) - {"population"} == RUN_KEYS | ADDED_RUN_KEYS
        assert set(run["events"]) == set(rf.EVENT_NAMES)
        assert all(type(count) is int and count >= 0 for count in run["events"].values())
        assert run["reclaimed_bytes"] == run["reclaimed_pages"] << 12
        # 80%, rounded up to whole isolations of two folios
        assert run["reclaimed_pages"] == -(-(64 << 20) * 8 // 10 // 4096 // 32) * 32
        assert sum(int(nr) * count for nr, count in run["batch_lengths"].items()) == run["simulated_ptes"]
        assert run["simulated_ptes"] == run["reclaimed_pages"] == run["events"]["pages_freed"]
        assert 0 < run["predicted_interval_s"][0] <= run["predicted_s"] <= run["predicted_interval_s"][1]
        assert sum(run["breakdown_s"].values()) == pytest.approx(run["predicted_s"])
        assert rf.cost.CostVector.from_dict(found["cost_vectors"][run["cost_vector"]]).arch == run["arch"]
        assert run["wall_s"] > 0 and run["ptes_per_s"] > 0 and run["peak_rss_bytes"] > 0
    arguments = found["provenance"]["arguments"]
    assert arguments["size"] == "64MiB" and arguments["policies"] == ["v6.16+young", "v7.0"]
    assert found["provenance"]["rmapfast"] == rf.__version__


def test_document_agrees_with_python(document):
    argv = ["--size", "8MiB", "--target", "3MiB", "--orders", "0:1,4:3", "--kind", "lazyfree", "--seed", "9"]
    (run,) = document("reclaim", *argv, "--policy", "v7.3", "--arch", "arm64-4k")["runs"]
    options = {"orders": "0:1,4:3", "kind": "lazyfree", "seed": 9}
    result = rf.reclaim(
        rf.Population.synthetic("8MiB", arch="arm64-4k", **options), "3MiB", policy="v7.3", arch="arm64-4k"
    )
    assert run["events"] == dict(result.events)
    assert run["reclaimed_pages"] == result.reclaimed_pages
    assert {int(nr): count for nr, count in run["batch_lengths"].items()} == result.batch_lengths


def test_a_target_may_be_a_share_of_the_memory(document):
    def target_pages(*argv):
        return document("reclaim", *argv, "--policy", "v7.0", "--arch", "x86-64")["runs"][0]["target_pages"]

    assert target_pages("--size", "8MiB", "--target", "25%") == 512
    assert target_pages("--capture", CAPTURE, "--target", "80%") == target_pages("--capture", CAPTURE)
    result = rf.reclaim(rf.Population.synthetic("8MiB"), "25%")
    assert result.target_pages == 512
    # mlocked folios are on no list, so reclaim cannot find them
    mlocked = rf.Population.synthetic("8MiB", mlocked=0.5, seed=1)
    listed = sum(1 << int(order) for order in mlocked.folio_order[mlocked.lru_inactive])
    assert rf.reclaim(mlocked, "100%").target_pages == listed < mlocked.nr_pages


def test_engines_agree(document):
    argv = ["reclaim", "--size", "1MiB", "--orders", "0:1,4:3", "--policy", "v7.3,per-page"]
    runs = [document(*argv, "--engine", engine)["runs"] for engine in ("c", "reference")]
    assert [run["events"] for run in runs[0]] == [run["events"] for run in runs[1]]


def test_options_reach_the_population(document):
    def run(*options):
        # MADV_PAGEOUT takes no target
        target = () if "pageout" in options else ("--target", "4MiB")
        return document(*SMALL, "--policy", "per-page", "--arch", "x86-64", *target, *options)["runs"][0]

    plain = run()
    assert plain["events"]["active_passes"] == 0 and plain["events"]["young_clears"] == 1024
    assert run("--young", "0")["events"]["young_clears"] == 0
    # 64 folios of 16 pages
    passes = ClassicModel(64, 4, young=True, active=True).reclaim(1024)["active_passes"]
    assert run("--active")["events"]["active_passes"] == passes > 0
    assert run("--mapped", "0")["events"]["unmap_calls"] == 0
    assert run("--sharing", "2")["events"]["ptes_cleared"] == 2048
    assert run("--holes", "every:16")["events"]["ptes_cleared"] == 1024 - 64
    assert run("--mlocked", "1")["reclaimed_pages"] == 0
    assert run("--external", "1")["events"]["unmap_failures"] > 0
    assert run("--dirty", "1")["events"]["folios_dirtied"] > 0
    droppable = run("--kind", "lazyfree", "--dirty", "1", "--droppable")["events"]
    assert droppable["ptes_cleared"] == droppable["pages_freed"] == 1024 and droppable["unmap_failures"] == 0
    assert run("--kind", "lazyfree", "--dirty", "1")["events"]["unmap_failures"] == 64
    assert run("--uffd-wp-vma", "--uffd-wp", "1")["events"]["markers_set"] == 1024
    assert run("--kind", "anon", "--no-swap")["reclaimed_pages"] == 0
    assert run("--kind", "anon", "--swap", "1MiB")["reclaimed_pages"] == 256
    assert run("--kind", "anon")["events"]["swap_dups"] == 1024
    assert run("--entry", "pageout")["events"]["referenced_calls"] == 0
    assert run("--phase", "8")["events"]["table_crossings"] > plain["events"]["table_crossings"]
    assert run("--write", "0.5")["events"]["batches"] == 1024
    assert run("--fault-around", "64KiB")["events"] == plain["events"]  # no contpte blocks here


def test_holes_at_a_rate(document):
    argv = [*SMALL, "--policy", "per-page", "--arch", "x86-64", "--target", "4MiB"]
    result = rf.reclaim(rf.Population.synthetic("4MiB", holes=0.25), "4MiB", policy="per-page")
    assert 512 < result.simulated_ptes < 1024
    assert document(*argv, "--holes", "0.25")["runs"][0]["events"] == dict(result.events)


def test_policies_and_architectures_are_chosen(document):
    found = document(*SMALL, "--policy", "v7.2,skip-hint,v6.12", "--arch", "x86-64")
    assert [(run["policy"], run["arch"]) for run in found["runs"]] == [
        ("v7.2", "x86-64"), ("skip-hint", "x86-64"), ("v6.12", "x86-64"),
    ]  # fmt: skip


def test_set(document):
    def ops(*changes):
        options = [word for change in changes for word in ("--set", change)]
        runs = document(*SMALL, "--policy", "v7.0", "--target", "4MiB", *options)["runs"]
        return {run["arch"]: run["events"] for run in runs}

    plain = ops()
    # The unmap of a 16 page folio is one range TLBI, or 16 single ones; its first young check is as many.
    assert plain["arm64-4k"]["tlbi_ops"] == 2 * 64
    single = ops("arm64-4k.range_tlbi=false")
    assert single["arm64-4k"]["tlbi_ops"] == 16 * plain["arm64-4k"]["tlbi_ops"]
    assert single["x86-64"] == plain["x86-64"]
    assert ops("arch.page_mapcount=0")["x86-64"]["page_mapcount_atomics"] == 0
    assert ops("arch.page_mapcount=false")["arm64-4k"]["page_mapcount_atomics"] == 0
    assert plain["x86-64"]["page_mapcount_atomics"] == 1024
    both = ops("arch.cont_ptes=1", "x86-64.ptrs_per_pte=0x200")
    assert both["x86-64"] == plain["x86-64"]
    # Without contpte blocks arm64 reads as often as x86 does.
    assert both["arm64-4k"]["raw_pte_loads"] == plain["x86-64"]["raw_pte_loads"]


def test_reclaim_of_a_capture(document):
    found = document("reclaim", "--capture", CAPTURE, "--policy", "v7.0,v7.2", "--target", "4MiB")
    described = rf.Population.load(CAPTURE).describe()
    assert found["population"]["pages"] == described["pages"]
    assert found["provenance"]["input_hash"] == described["input_hash"]
    assert [run["arch"] for run in found["runs"]] == ["x86-64", "x86-64"]
    both = [CAPTURES / f"file64k_fork_memcg.p{process}.before.npz" for process in (0, 1)]
    joined = document("reclaim", "--capture", both[0], "--capture", both[1], "--target", "1MiB")
    assert joined["population"]["pages"] == 256
    assert joined["runs"][0]["events"]["ptes_cleared"] == 512


def test_what_proc_does_not_show_can_be_assumed_otherwise(document, output):
    plain = document("reclaim", "--capture", CAPTURE, "--target", "4MiB")
    assumed = document(
        "reclaim", "--capture", CAPTURE, "--target", "4MiB", "--assume", "lru=shuffled", "--young", "0.5"
    )
    assert plain["population"]["assumptions"]["lru"].startswith("address order")
    assert assumed["population"]["assumptions"]["lru"].startswith("shuffled")
    assert assumed["provenance"]["arguments"]["lru"] == "shuffled"
    assert assumed["runs"][0]["events"]["young_clears"] < plain["runs"][0]["events"]["young_clears"]
    checked = ("check", "--capture", CAPTURE, "--cases", "5", "--policy", "v7.3", "--assume", "write=true")
    assert "distinct states" in output(*checked)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--capture", CAPTURE, "--assume", "wrte=true"], "did you mean 'write'?"),
        (["--capture", CAPTURE, "--assume", "lru"], "expected NAME=VALUE"),
        (["--capture", CAPTURE, "--assume", "lru=random"], "lru"),
        (["--assume", "lru=shuffled"], "only with --capture"),
    ],
)
def test_bad_assumptions(run, options, text):
    status, out, err = run("reclaim", *options)
    assert (status, out) == (2, "") and text in err and err.count("\n") == 1


def test_no_price_is_null(document, tmp_path):
    (tmp_path / "bare.toml").write_text('name = "bare"')
    (run,) = document(*SMALL, "--policy", "v7.0", "--arch", tmp_path / "bare.toml")["runs"]
    assert run["cost_vector"] is run["predicted_s"] is run["predicted_interval_s"] is run["breakdown_s"] is None


def test_cost(document, output, tmp_path):
    def price(*options):
        return document(*SMALL, "--policy", "v7.0", "--arch", "arm64-4k", *options)["runs"][0]

    plain, other = price(), price("--cost", "x86-64")
    assert plain["events"] == other["events"] and plain["predicted_s"] != other["predicted_s"]
    path = tmp_path / "mine.toml"
    path.write_text(rf.cost.get("x86-64").replace(folios_freed=0.0).to_toml())
    less, changed = price("--costs", path), price("--costs", "x86-64", "--set", "arch.cost.folios_freed=0")
    assert less["predicted_s"] == changed["predicted_s"] < other["predicted_s"]
    instructions = price("--cost", "ab-7.2.13")
    assert instructions["predicted_s"] is None and instructions["predicted_instructions"] > 0
    text = " ".join(output(*SMALL, "--cost", "ab-7.2.13", "--full").split())
    assert "predicted instr." in text and "costs: ab-7.2.13" in text and "Cost vector ab-7.2.13: instructions" in text


# Formats, saved results, plots


def test_formats(output, document):
    argv = [*SMALL, "--arch", "x86-64"]
    assert output(*argv) == output(*argv, "--format", "text")
    assert set(json.loads(output(*argv, "--format", "json"))) == set(document(*argv))
    assert output(*argv, "--json", "--format", "json").startswith("{")
    rows = list(csv.DictReader(output(*argv, "--format", "csv").splitlines()))
    assert {row["policy"] for row in rows} == {"v6.16+young", "v7.0"}
    assert any(line.startswith("| predicted time") for line in output(*argv, "--format", "markdown").splitlines())


@pytest.fixture
def two(output, tmp_path, monkeypatch):
    """Two saved results in the current folder, and what was printed with the first."""
    monkeypatch.chdir(tmp_path)
    shown = output(*SMALL, "-o", "one.json")
    output(*SMALL, "--arch", "arm64-4k", "--set", "arm64-4k.cont_ptes=1", "-o", "two.json")
    return shown


def test_saved_results(two, output, document):
    assert output("compare", "one.json") == two
    for form in ("text", "markdown", "csv"):
        assert output("compare", "one.json", "--format", form) == output(*SMALL, "--format", form)
    text = output("compare", "one.json", "two.json")
    assert "[1] one.json" in text and "[2] two.json" in text and "cont_ptes=1" in text
    assert "arm64-4k, baseline [1] v6.16+young" in text
    assert "arm64-4k, baseline [2] v6.16+young" not in text
    assert "arm64-4k, baseline [1] v7.0" in output("compare", "one.json", "two.json", "--baseline", "v7.0")
    runs = document("compare", "one.json", "two.json", "--baseline", "two.json")["runs"]
    assert runs[0]["source"] == "two.json" and len(runs) == 6
    assert {run["cost_vector"] for run in document("compare", "two.json", "--cost", "x86-64")["runs"]} == {"x86-64"}


def test_what_json_prints_can_be_compared(output, tmp_path):
    path = tmp_path / "printed.json"
    path.write_text(output(*SMALL, "--json"))
    assert output("compare", path) == output(*SMALL)


def test_saved_results_are_not_overwritten(two, run, tmp_path):
    before = (tmp_path / "one.json").read_bytes()
    status, out, err = run("reclaim", "-o", "one.json")
    assert (status, out, err.count("\n")) == (2, "", 1) and "one.json" in err and "--overwrite" in err
    assert (tmp_path / "one.json").read_bytes() == before
    assert run(*SMALL, "--policy", "v7.0", "-o", "one.json", "--overwrite")[0] == 0
    assert len(rf.load(tmp_path / "one.json").runs) == 2


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_plot(two, output, tmp_path, ending):
    for number, argv in enumerate(([*SMALL], ["compare", "one.json", "two.json"])):
        path = tmp_path / f"{number}.{ending}"
        output(*argv, "--plot", path)
        assert path.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml", b"%PDF-")


# describe


def test_describe(output, document):
    found = document("describe", CAPTURE)
    population = rf.Population.load(CAPTURE)
    assert found["pages"] == population.nr_pages and found["folios"] == population.nr_folios
    assert found["orders"] == {str(order): count for order, count in population.orders().items()}
    assert found["bytes"] == population.nr_pages << 12
    assert sum(count << int(order) for order, count in found["orders"].items()) == found["pages"]
    text = output("describe", CAPTURE)
    assert text.startswith(CAPTURE.name) and "Assumed:" in text
    lines = iter(text.splitlines())
    next(line for line in lines if line.startswith("folios of order"))
    rows = [line.split() for line in itertools.takewhile(bool, lines)]
    # order, its size, a number per kind, memory, share
    counts = {row[0]: sum(int(cell.replace(",", "")) for cell in row[3:-3]) for row in rows}
    assert counts == found["orders"]
    assert sum(float(row[-1].rstrip("%")) for row in rows) == pytest.approx(100, abs=0.1 * len(rows))


def test_describe_nothing(output, document):
    """A mapping of which nothing is present any more."""
    empty = CAPTURES / "file64k_nonepte_pageout.after.npz"
    assert document("describe", empty)["pages"] == 0
    assert output("describe", empty).startswith(empty.name)
    assert output("reclaim", "--capture", empty, "--policy", "v7.0")


# conformance


def test_conformance(output, document):
    paths = sorted(VECTORS.glob("*.gz"))
    out = output("conformance", *paths)
    total = 0
    for path in paths:
        with gzip.open(path, "rt") as lines:
            total += sum(len(json.loads(line).get("variants", [0])) for line in lines)
    assert out.splitlines()[-1] == f"{total} passed, 0 failed"
    assert output("conformance", "--engine", "reference", *paths).splitlines()[-1] == f"{total} passed, 0 failed"
    found = document("conformance", *paths)
    assert sum(found["vectors"]["passed"].values()) == total
    assert not found["vectors"]["failed"] and not found["vectors"]["differences"]


def one_wrong(path, where):
    """Two vectors, of which one says that the folio had one reference more afterwards."""
    with gzip.open(path, "rt") as lines:
        vectors = [json.loads(line) for line in lines][:2]
    vectors[1]["expect"]["refcount"] += 1
    where.write_bytes(gzip.compress("".join(json.dumps(vector) + "\n" for vector in vectors).encode()))
    return len(vectors[0]["variants"]), len(vectors[1]["variants"])


def test_exit_1_when_a_check_failed(run, tmp_path):
    path = tmp_path / "wrong.jsonl.gz"
    right, wrong = one_wrong(VECTORS / "unmap_vectors.jsonl.gz", path)
    status, out, err = run("conformance", path)
    assert (status, err) == (1, "")
    assert out.splitlines()[-1] == f"{right} passed, {wrong} failed"
    assert "refcount: expected" in out
    status, out, err = run("conformance", "--json", path)
    assert (status, err) == (1, "")
    assert sum(json.loads(out)["vectors"]["failed"].values()) == wrong


def test_conformance_of_captures_and_counts(run, output, tmp_path):
    # The one pair that the capture cannot show in full (tests/data/README.md, test_conformance.py) fails, and says so.
    status, out, err = run("conformance", "--live", CAPTURES)
    assert (status, err) == (1, "")
    assert out.splitlines()[-1].endswith(" passed, 1 failed")
    assert output("conformance", "--counts", DATA / "counts.toml").splitlines()[-1].endswith(" passed, 0 failed")
    counts = tmp_path / "counts.toml"
    counts.write_text("[counts]\nx86_72_order_4 = { tuo = 817, fr = 1674, pvmw = 2492, rr = 820 }\n")
    status, out, err = run("conformance", "--counts", counts)
    assert (status, err, out.splitlines()[-1]) == (1, "", "1 passed, 1 failed")
    status, out, err = run("conformance", "--json", "--counts", counts, "--live", CAPTURES)
    assert (status, err) == (1, "") and set(json.loads(out)) == {"counts", "live"}


# list, info


def test_list(output, document):
    assert set(document("list", "policy")) == set(rf.policy.PRESETS)
    assert document("list", "policy")["v7.2"]["file"] is True
    assert set(document("list", "arch")) == set(rf.arch.PRESETS)
    assert document("list", "arch")["arm64-4k"] == dataclasses.asdict(rf.arch.get("arm64-4k"))
    assert list(document("list", "event")) == list(rf.EVENT_NAMES)
    for what, names in (
        ("policy", rf.policy.PRESETS),
        ("arch", rf.arch.PRESETS),
        ("event", rf.EVENT_NAMES),
    ):
        first = [line.split()[0] for line in output("list", what).splitlines() if not line.startswith(" ")]
        assert set(names) <= set(first)


def test_info(output, document):
    found = document("info")
    assert found["rmapfast"] == rf.__version__ and found["policies"] == len(rf.policy.PRESETS)
    assert rf.__version__ in output("info")


# What is wrong

DAMAGED = "damaged.npz"
SAVED = json.dumps(rf.compare(rf.Population.synthetic("64KiB"), "64KiB", arches=["x86-64"]).to_dict())
BAD = [
    ([], "VERB"),
    (["reclam"], "reclam"),
    (["reclaim", "--sise", "1MiB"], "--sise"),
    (["reclaim", "extra"], "extra"),
    ([*SMALL, "--policy", "v7.O"], "policy"),
    ([*SMALL, "--policy", ""], "policy"),
    ([*SMALL, "--policy", "v7.0,,v7.2"], "policy"),
    ([*SMALL, "--arch", "x86_64"], "arch"),
    ([*SMALL, "--arch", ""], "arch"),
    (["reclaim", "--size", "big"], "size"),
    (["reclaim", "--size", "0"], "size"),
    (["reclaim", "--size", "-4096"], "size"),
    (["reclaim", "--size", "4097"], "size"),
    (["reclaim", "--size", "1ZiB"], "size"),
    (["reclaim", "--size", "9EiB"], "size"),
    (["reclaim", "--size", ""], "size"),
    ([*SMALL, "--orders", "14"], "orders"),
    ([*SMALL, "--orders", "4:x"], "orders"),
    ([*SMALL, "--orders", "4:1,4:2"], "orders"),
    ([*SMALL, "--orders", ""], "orders"),
    ([*SMALL, "--kind", "files"], "kind"),
    ([*SMALL, "--target", "-1"], "target"),
    ([*SMALL, "--target", "-1GiB"], "target"),
    ([*SMALL, "--target", "lots"], "target"),
    ([*SMALL, "--target", "101%"], "target"),
    ([*SMALL, "--target", "%"], "target"),
    ([*SMALL, "--holes", "2"], "holes"),
    ([*SMALL, "--holes", "every:0"], "holes"),
    ([*SMALL, "--young", "1.5"], "young"),
    ([*SMALL, "--young", "nan"], "young"),
    ([*SMALL, "--young", "often"], "young"),
    ([*SMALL, "--dirty", "-1"], "dirty"),
    ([*SMALL, "--write", "inf"], "write"),
    ([*SMALL, "--mapped", "2"], "mapped"),
    ([*SMALL, "--mlocked", "-0.5"], "mlocked"),
    ([*SMALL, "--soft-dirty", "7"], "soft"),
    ([*SMALL, "--uffd-wp", "7"], "uffd"),
    ([*SMALL, "--sharing", "0"], "sharing"),
    ([*SMALL, "--sharing", "1.5"], "sharing"),
    ([*SMALL, "--external", "-1"], "external"),
    ([*SMALL, "--phase", "9999"], "phase"),
    ([*SMALL, "--seed", "-1"], "seed"),
    ([*SMALL, "--seed", str(1 << 64)], "seed"),
    ([*SMALL, "--seed", "x"], "seed"),
    ([*SMALL, "--swap", "some"], "swap"),
    ([*SMALL, "--swap", "-1"], "swap"),
    ([*SMALL, "--entry", "munmap"], "entry"),
    ([*SMALL, "--engine", "rust"], "engine"),
    ([*SMALL, "--set", "arch.cont_pte=1"], "cont_pte"),
    ([*SMALL, "--set", "arch.cont_ptes"], "--set"),
    ([*SMALL, "--set", "arch.cont_ptes="], "--set"),
    ([*SMALL, "--set", "cont_ptes=1"], "--set"),
    ([*SMALL, "--set", "=1"], "--set"),
    ([*SMALL, "--set", ""], "--set"),
    ([*SMALL, "--set", "arch.=1"], "arch."),
    ([*SMALL, "--set", ".cont_ptes=1"], "--set"),
    ([*SMALL, "--set", "arm64-16k.cont_ptes=1"], "arm64-16k"),
    ([*SMALL, "--set", "arch.cont_ptes=many"], "cont_ptes"),
    ([*SMALL, "--set", "arch.cont_ptes=3"], "cont_ptes"),
    ([*SMALL, "--set", "arch.cont_ptes=-1"], "cont_ptes"),
    ([*SMALL, "--set", "arch.page_shift=99"], "page_shift"),
    ([*SMALL, "--set", "arch.ptrs_per_pte=1"], "ptrs_per_pte"),
    ([*SMALL, "--set", "arch.tlb=fast"], "tlb"),
    ([*SMALL, "--set", "arch.range_tlbi=perhaps"], "range_tlbi"),
    ([*SMALL, "--set", "arch.flush_ceiling=0"], "flush_ceiling"),
    ([*SMALL, "--set", f"arch.flush_ceiling={'9' * 5000}"], "flush_ceiling"),
    ([*SMALL, "--cost", "x86_64"], "x86_64"),
    ([*SMALL, "--cost", ""], "cost"),
    ([*SMALL, "--cost", "missing.toml"], "missing.toml"),
    ([*SMALL, "--cost", "bad.toml"], "bad.toml"),
    ([*SMALL, "--format", "xml"], "--format"),
    ([*SMALL, "--plot", "plot.gif"], "plot.gif"),
    ([*SMALL, "--plot", "missing/plot.png"], "missing/plot.png"),
    ([*SMALL, "--plot", ""], ".png"),
    ([*SMALL, "-o", "missing/out.json"], "missing/out.json"),
    ([*SMALL, "-o", "."], "."),
    ([*SMALL, "-o", "saved.json"], "--overwrite"),
    ([*SMALL, "-o", "/dev/null", "--overwrite"], "/dev/null"),
    ([*SMALL, "-o"], "-o"),
    (["compare"], "RESULT"),
    (["compare", "missing.json"], "missing.json"),
    (["compare", "bad.toml"], "bad.toml"),
    (["compare", str(CAPTURE)], CAPTURE.name),
    (["compare", str(CAPTURES)], "captures"),
    (["compare", "saved.json", "saved.json"], "saved.json"),
    (["compare", "saved.json", "--baseline", "v7.1"], "v7.1"),
    (["compare", "saved.json", "--cost", "x86_64"], "x86_64"),
    (["compare", "saved.json", "--plot", "plot.gif"], "plot.gif"),
    (["compare", "saved.json", "--format", "xml"], "--format"),
    ([*SMALL, "--capture", str(CAPTURE)], "--size"),
    (["reclaim", "--capture", str(CAPTURE), "--orders", "4"], "--orders"),
    (["reclaim", "--capture", str(CAPTURE), "--uffd-wp-vma"], "--uffd-wp-vma"),
    (["reclaim", "--capture", str(CAPTURE), "--target", "-1"], "target"),
    (["reclaim", "--capture", "missing.npz"], "missing.npz"),
    (["reclaim", "--capture", str(CAPTURES)], "captures"),
    (["reclaim", "--capture", DAMAGED], DAMAGED),
    (["reclaim", "--capture", str(CAPTURE), "--capture", DAMAGED], DAMAGED),
    (["reclaim", "--capture", "a\0b"], "npz"),
    (["describe"], "FILE"),
    (["describe", "missing.npz"], "missing.npz"),
    (["describe", str(CAPTURES)], "captures"),
    (["describe", DAMAGED], DAMAGED),
    (["describe", str(DATA / "counts.toml")], "counts.toml"),
    (["conformance"], "FILE"),
    (["conformance", "missing.jsonl.gz"], "missing.jsonl.gz"),
    (["conformance", "--live", "missing"], "missing"),
    (["conformance", "--counts", "missing.toml"], "missing.toml"),
    (["conformance", "--counts", str(DATA)], "data"),
    (["conformance", "--engine", "rust"], "engine"),
    (["list"], "what"),
    (["list", "policies"], "policies"),
    (["info", "more"], "more"),
]


@pytest.mark.parametrize(
    ("argv", "named"), BAD, ids=[f"{n}: {' '.join(argv)[-40:]!r}" for n, (argv, _) in enumerate(BAD)]
)
@pytest.mark.parametrize("more", [[], ["--json"]], ids=["text", "json"])
def test_bad_usage(run, monkeypatch, tmp_path, argv, named, more):
    """Exit status 2, one line on stderr that names what is wrong, nothing on stdout."""
    monkeypatch.chdir(tmp_path)
    whole = CAPTURE.read_bytes()
    (tmp_path / DAMAGED).write_bytes(whole[: len(whole) // 2])
    (tmp_path / "bad.toml").write_text("name = 5")
    (tmp_path / "saved.json").write_text(SAVED)
    before = sorted(os.listdir(tmp_path))
    status, out, err = run(*argv, *(more if argv else []))
    assert (status, out) == (2, "")
    assert err.startswith("rmapfast") and err.count("\n") == 1 and err.endswith("\n"), err
    assert "Traceback" not in err
    if named != "npz":  # the path with a NUL has no name
        assert named in err
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("keep", [0, 10, 1000, 2500, -1])
def test_damaged_capture(run, tmp_path, keep):
    path = tmp_path / "cut.npz"
    path.write_bytes(CAPTURE.read_bytes()[:keep])
    for argv in (["describe", path], ["reclaim", "--capture", path]):
        status, out, err = run(*argv)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert str(path) in err


def test_inputs_are_not_written(run, tmp_path):
    path = tmp_path / "capture.npz"
    path.write_bytes(CAPTURE.read_bytes())
    before = path.stat()
    run("reclaim", "--capture", path)
    run("describe", path)
    assert path.read_bytes() == CAPTURE.read_bytes() and path.stat().st_mtime_ns == before.st_mtime_ns
    assert [entry.name for entry in tmp_path.iterdir()] == ["capture.npz"]


def test_interrupted(run, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(rf, "compare", interrupt)
    assert run(*SMALL) == (130, "", "rmapfast: interrupted\n")


@pytest.mark.parametrize("argv", [["--help"], ["reclaim", "--help"], ["conformance", "--help"], ["--version"]])
def test_help_and_version(run, argv):
    status, out, err = run(*argv)
    assert (status, err) == (0, "") and out


def test_each_file_of_a_verb_is_registered():
    room = Path(cli.__file__).parent
    assert {path.stem for path in room.glob("*.py") if "\ndef add(verbs" in path.read_text()} == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb(run, verb):
    """A verb is in the list of verbs, and its help says what each of its options does."""
    assert verb in run("--help")[1].split()
    status, out, err = run(verb, "--help")
    assert (status, err) == (0, "") and "--json" in out
    if "--plot" in out:
        assert all(ending in out for ending in rf.plot.ENDINGS)
    known = cli.parser([verb])._subparsers._group_actions[0].choices[verb]
    assert [option.dest for option in known._actions if not option.help and not option.choices] == []


# As processes


def test_process():
    done = command(*SMALL, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert {run["arch"] for run in json.loads(done.stdout)["runs"]} == {"arm64-4k", "x86-64"}
    done = command("reclaim", "--size", "nonsense")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    for name in ("rmapfast", "rmapfast.cli"):
        module = [sys.executable, "-m", name, "list", "event"]
        assert subprocess.run(module, capture_output=True, text=True, timeout=DEADLINE).returncode == 0


def test_a_verb_imports_what_it_needs():
    """Start-up is quick: a table of a described population needs no sweeps, no checker and no calibration."""
    code = "import sys; from rmapfast.cli import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    argv = [sys.executable, "-c", code, "reclaim", "--size", "1MiB", "--policy", "v7.0"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE)
    loaded = set(done.stderr.split())
    assert "rmapfast.cli.reclaim" in loaded
    rooms = ("sweeps", "verify", "calibration", "plot", "saved", "contents", "cli.sweep")
    assert not loaded & {f"rmapfast.{room}" for room in rooms}


def test_output_does_not_depend_on_the_locale():
    done = [command(*SMALL, env=os.environ | {"LC_ALL": locale, "PYTHONUTF8": "0"}) for locale in ("C", "C.UTF-8")]
    assert done[0].stdout == done[1].stdout and done[0].stdout.isascii()


@pytest.mark.parametrize(
    "argv", [["list", "event"], ["reclaim", "--size", "1MiB"], ["reclaim", "--size", "1MiB", "--json"]]
)
def test_reader_that_goes_away(argv):
    """The reader of a pipe may close it at any time; that is no error to talk about."""
    code = "import sys; from rmapfast.cli import main; sys.exit(main())"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", code, *argv], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=DEADLINE
    )
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode in (0, 141)


def test_what_is_half_written_says_nothing_after_ctrl_c():
    """A ZIP archive that goes while a member is being opened raises an error that Python prints."""
    script = """if True:
        import io, sys, zipfile
        from rmapfast import cli
        from rmapfast.cli import list as verb

        def run(arguments):
            archive = zipfile.ZipFile(io.BytesIO(), "w")
            archive._writing = True
            raise KeyboardInterrupt

        verb.run = run
        sys.exit(cli.main(["list", "event"]))
    """
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=DEADLINE)
    assert (child.returncode, child.stdout, child.stderr) == (130, "", "rmapfast: interrupted\n")
