"""Each case study at a small size: its page is whole, and what its answer states holds in a simulation of its own."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import shared

import rmapfast as rf
from rmapfast import cost

pytest.importorskip("matplotlib")

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "case-studies"
SIZE = "32MiB"
NAMES = (
    "folio_order",
    "batch_length",
    "rescan",
    "uffd_wp",
    "anon_swap",
    "page_size",
    "tlb_flush",
    "pageout_no_swap",
    "look_around",
)


@pytest.fixture(scope="module")
def study():
    sys.path.insert(0, str(FOLDER))
    try:
        yield importlib.import_module("_study")
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("case-studies")


@pytest.fixture(scope="module")
def run(study, out):
    """Run a study once; its facts."""
    done = {}

    def of(name):
        if name not in done:
            done[name] = importlib.import_module(name).main(["--size", SIZE, "--out", str(out)])
        return done[name]

    return of


def _reclaim(policy, arch="x86-64", share=0.8, entry="memory.reclaim", **options):
    population = rf.Population.synthetic(SIZE, arch=arch, **options)
    target = int(population.nr_pages * share) << population.page_shift
    return rf.reclaim(population, target, policy=policy, arch=arch, entry=entry)


def _price(result, vector):
    return cost.get(vector).price(result.events.counts).value / result.reclaimed_pages


# The pages


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_whole(name, run, out):
    run(name)
    page = (out / f"{name}.md").read_text(encoding="utf-8")
    heads = re.findall(r"^#+ (.*)", page, re.MULTILINE)
    assert heads[1] == "Simulated" and heads[-2:] == ["Answer", "What would change this"]
    for word in (
        "**Question.** ",
        "**Source.** ",
        f"rmapfast {rf.__version__}; docs/case-studies/{name}.py --size 32 MiB",
    ):
        assert word in page
    assert re.search(r"^\*\*.+\*\*$", page[page.index("## Answer") :], re.MULTILINE)
    after = page[page.index("## What would change this") :]
    assert "| --- |" in after, "what would change the answer is a table of computed figures"
    plots = re.findall(r"!\[.+\]\((.+)\)", page)
    assert plots
    for plot in plots:
        assert (out / plot).read_text(encoding="utf-8").startswith("<?xml")


@pytest.mark.parametrize("name", NAMES)
def test_tables_are_rectangular_and_without_gaps(name, run, out):
    run(name)
    lines = (out / f"{name}.md").read_text(encoding="utf-8").split("\n")
    width = None
    for line in lines:
        if not line.startswith("|"):
            width = None
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        width = width or len(cells)
        assert len(cells) == width, line
        assert all(cells) and not any(cell in ("nan", "inf", "None") for cell in cells), line


def test_the_index_has_every_answer(run, out):
    for name in NAMES:
        run(name)
    index = (out / "README.md").read_text(encoding="utf-8")
    for name in NAMES:
        page = (out / f"{name}.md").read_text(encoding="utf-8").split("\n")
        assert f"]({name}.md) | {page[page.index('## Answer') + 2].strip('*')} |" in index


def test_a_run_repeats(run, out, tmp_path):
    run("uffd_wp")
    done = subprocess.run(
        [sys.executable, FOLDER / "uffd_wp.py", "--size", SIZE, "--out", tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for file in ("uffd_wp.md", "uffd_wp.svg"):
        assert (tmp_path / file).read_bytes() == (out / file).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["--size", "0"], "--size"), (["--size", "much"], "--size"), (["--out", "/nowhere"], "--out")],
)
def test_bad_arguments(arguments, word, study, capsys):
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module("uffd_wp").main(arguments)
    assert stopped.value.code == 2 and word in capsys.readouterr().err


# What would change the answer


def test_at_the_multiple_of_a_group_the_margin_is_zero(study):
    rng = np.random.default_rng(1)
    vector = cost.get("ab-7.2.13")
    margin = rng.normal(size=len(rf.EVENT_NAMES))
    for events in study.groups(vector).values():
        flip = study.flip_multiple(margin, vector, events)
        if flip is not None:
            changed = vector.replace(**{event: flip * vector[event] for event in events})
            assert margin @ changed.values == pytest.approx(0, abs=1e-6)
    flip = study.flip_cost(margin, vector, "walk_slots")
    if flip is not None:
        assert margin @ vector.replace(walk_slots=flip).values == pytest.approx(0, abs=1e-6)


def test_groups_keep_tied_costs_together_and_lose_none(study):
    for name in cost.names():
        vector = cost.get(name)
        found = list(study.groups(vector).values())
        priced = {event for event, value in zip(rf.EVENT_NAMES, vector.values, strict=True) if value}
        assert sorted(event for events in found for event in events) == sorted(priced)
        for tied in vector.joint:
            assert sum(bool(set(tied) & set(events)) for events in found) <= 1


# What the answers state


def test_folio_order(run):
    facts = run("folio_order")
    for (arch, unit), first in facts["first"].items():
        name = {"ns": {"x86-64": "x86-64", "arm64-4k": "arm64-4k"}}.get(
            unit, {"x86-64": "ab-7.2.13", "arm64-4k": "arm64-7.2"}
        )[arch]
        for order in (0, first - 1, first, 9):
            before, after = (_price(_reclaim(policy, arch, orders=order), name) for policy in ("v6.16+young", "v7.0"))
            gain = 1 - after / before
            assert (gain > 0.5) == (order >= first)
            assert gain == pytest.approx(-facts["gains"][arch, unit, order].value, abs=0.03)
        assert facts["gains"][arch, unit, 0].value == 0


def test_batch_length(run):
    facts = run("batch_length")
    for key, one in facts["layouts"].items():
        found, (_, order, name) = one["found"], key
        assert sum(nr * steps for nr, steps in found["histogram"].items()) == sum(found["pages"].values())
        if name == "intact":
            assert found["pages"]["whole"] == sum(found["pages"].values())
            assert set(found["histogram"]) == {1 << order}
        if name in ("1% holes", "5% holes", "writable, 5% written"):
            assert found["pages"]["part"] > 0
        if name == "writable, 5% written" and key[0] == "x86-64":
            before = facts["layouts"][key[0], order, f"{name}, v7.0-rc1"]["found"]["pages"]
            assert before["whole"] > found["pages"]["whole"], "write matching cuts what v7.0-rc1 took whole"
    assert facts["share"]["whole"] > facts["share"]["part"] >= facts["share"]["one"]
    assert all(0.5 < left.value < 1.01 for left in facts["left"].values())


@pytest.mark.shared
def test_the_captures_are_those_recorded():
    captures = sorted((FOLDER / "data").glob("*.npz"))
    assert captures
    for path in captures:
        assert path.read_bytes() == (shared.DATA / "captures" / path.name).read_bytes(), path.name


def test_every_capture_is_read(study):
    captures = importlib.import_module("batch_length").CAPTURES
    named = {file for _, files, folder, _ in captures for file in files if folder.endswith("case-studies/data")}
    assert named == {path.name for path in (FOLDER / "data").glob("*.npz")}


def test_a_batch_is_told_from_a_smaller_folio(study):
    lengths = importlib.import_module("batch_length").lengths
    population = rf.Population.synthetic("4MiB", orders="2:1,4:1", holes="every:16", young=0.0)
    found = lengths(population, "v7.0", "x86-64")
    orders = population.orders()
    # a hole in each folio of order 4, in one of four of order 2
    assert found["steps"]["whole"] > 0 and found["pages"]["whole"] % 4 == 0
    assert found["pages"]["whole"] <= orders[2] * 4
    assert found["pages"]["part"] >= orders[4] * 15


def test_rescan(run):
    facts = run("rescan")
    assert facts["equal"]
    for (_, name), row in facts["layouts"].items():
        intact = "intact" in name
        assert (row["again"] == 0) == intact and (row["change"].value == 0) == intact
        assert row["change"].low >= -0.15 and row["change"].high <= 0
    for one in facts["markers"].values():
        assert one["reads"]["marker"] == pytest.approx(2) and one["reads"]["none"] == pytest.approx(1)


def test_uffd_wp(run):
    facts = run("uffd_wp")
    for (arch, order, layout), change in facts["changes"].items():
        if order == 0:
            assert change == (0, 0, 0)
        else:
            # at random half of the batches of two pages are cut; there it is not sure that any gain is left
            assert change.high < 0 or (layout == "half protected, at random" and change.low < 0 and order == 1)
        before, after = facts["runs"][arch, order, layout]
        markers = rf.EVENT_NAMES.index("markers_set")
        assert before[markers] == after[markers]
    for arch in ("x86-64", "arm64-4k"):
        batched = _reclaim("v7.3", arch, orders=4, uffd_wp=1.0)
        outside = _reclaim("v7.2", arch, orders=4)
        assert batched.batch_lengths == outside.batch_lengths


def test_anon_swap(run):
    facts = run("anon_swap")
    for (arch, order), (before, after) in facts["runs"].items():
        values = cost.get(arch).values
        saved = float((before - after) @ values)
        assert saved == 0 if order == 0 else saved > 0
        for event in ("swap_allocs", "folios_written", "ptes_set", "tlb_flushes"):
            index = rf.EVENT_NAMES.index(event)
            assert before[index] == after[index], "the rest of a swap-out is the same"
    for one in facts["published"].values():
        assert one["saved"].low <= one["saved"].value <= one["saved"].high
        assert one["published"] > 0 and one["rest"] > 0


def test_page_size(run):
    facts = run("page_size")
    steps, atomics = (rf.EVENT_NAMES.index(event) for event in ("batches", "page_mapcount_atomics"))
    for (arch, folio), (before, after) in facts["runs"].items():
        pages = folio >> rf.arch.get(arch).page_shift
        assert before[steps] == pytest.approx(1) and after[steps] == pytest.approx(1 / pages)
        assert before[atomics] == after[atomics] == pytest.approx(1)
    kept = facts["kept"]
    assert kept["arm64-4k"] > kept["arm64-16k"] > kept["arm64-64k"] > 0


def test_pageout_no_swap(run):
    facts = run("pageout_no_swap")
    pages = (32 << 20) // 4096
    for (_, order, policy), result in facts["runs"].items():
        kept = policy.startswith("noswap")
        assert result.events["folio_splits"] == (0 if kept else pages >> order)
        assert result.reclaimed_pages == result.came_back_pages == 0
    for (order, policy, share), result in facts["back"].items():
        kept = policy.startswith("noswap")
        assert result.reclaimed_pages == 0 and result.came_back_pages == (0 if kept else int(share * pages))
        # what a split gives back depends on the folio's pages alone, not on its order
        assert result.came_back_pages == facts["back"][2, policy, share].came_back_pages, order
    for (policy, free), result in facts["slots"].items():
        assert result.swap_used <= free and result.reclaimed_pages <= free
        assert result.events["folio_splits"] <= (0 if policy == "noswap-split-all" else pages >> 4)
    again = rf.madvise(
        rf.Population.synthetic("32MiB", kind="anon", orders=4), "MADV_PAGEOUT", policy="v7.3", swap=False
    )
    assert dict(again.events) == dict(facts["runs"]["x86-64", 4, "v7.3"].events)


def test_tlb_flush(run):
    facts = run("tlb_flush")
    assert facts["same"] and min(facts["fewer"]) == 6  # 2^6 is the first above the ceiling of 33 pages
    for (mask, _, order), (before, after) in facts["runs"].items():
        if mask == "only the reclaiming CPU":
            assert before.events["tlb_immediate"] == after.events["tlb_immediate"] << order
            assert after.events["tlb_flushes"] == after.events["ipis"] == 0
        else:
            assert before.events["tlb_deferred"] == after.events["tlb_deferred"] << order
            assert before.events["tlb_flushes"] == after.events["tlb_flushes"] > 0


def test_look_around(run):
    facts = run("look_around")
    runs, alone = facts["runs"], "v7.2, per PTE"
    for arch in ("x86-64", "arm64-4k"):
        for order in range(10):
            before, after = (runs[arch, order, "none", name] for name in (alone, "v7.2"))
            assert before.reclaimed_pages == after.reclaimed_pages
            assert before.events["look_arounds"] == after.events["look_arounds"] << order
            assert before.events["window_pte_reads"] == after.events["window_pte_reads"] == 0
            for share in ("1/64", "half", "all"):
                before, after = (runs[arch, order, share, name] for name in (alone, "v7.2"))
                reads = [one.events["window_pte_reads"] / one.reclaimed_pages for one in (before, after)]
                assert reads[0] == reads[1] > 0 if order == 0 else reads[0] >= reads[1] > 0
    for (*_, name), one in runs.items():
        if name != "classic":
            assert one.events["young_flushes"] == 0
            assert one.events["look_arounds"] == sum(one.looked_around.values())
            # the rest are tests in windows
            assert one.events["young_tests"] >= sum(nr * calls for nr, calls in one.looked_around.items())
    assert runs["arm64-4k", 4, "all", "classic"].events["young_flushes"] > 0
    for order in range(10):
        flushes = [
            runs["x86-64", order, "none", name].events["tlb_flushes"]
            / runs["x86-64", order, "none", name].reclaimed_pages
            for name in ("classic", "v7.2")
        ]
        assert flushes[1] == pytest.approx(flushes[0]) if order >= 6 else flushes[1] < flushes[0]
        assert 2 <= order <= 5 or flushes[1] > 0.6 * flushes[0]
    # a run of one's own
    again = rf.reclaim(
        rf.Population.synthetic(SIZE, orders=4, young=1.0),
        int(0.8 * (32 << 20) // 4096) << 12,
        policy=rf.policy.get("v7.2").replace(young="per-page"),
        arch="x86-64",
        lru="mglru",
    )
    assert dict(again.events) == dict(runs["x86-64", 4, "all", alone].events)
    aged = {words: one.events["ages"] for (arch, words), one in facts["starts"].items() if arch == "x86-64"}
    assert aged["MGLRU, written"] == 0 < aged["MGLRU, written, memory cgroup reclaimed before"]
    for (_, _, order, _), change in facts["changes"].items():
        assert change.value == 0 if order == 0 else change.value < 0


def test_look_around_without_prices(study, tmp_path, monkeypatch):
    module = importlib.import_module("look_around")
    silent = cost.get("x86-64").replace(**dict.fromkeys(module.NEEDED, 0.0))
    monkeypatch.setattr(module, "VECTORS", {"x86-64": (silent,), "arm64-4k": (silent,)})
    monkeypatch.setattr(module, "ORDERS", module.SHOWN)
    facts = module.main(["--size", "16MiB", "--out", str(tmp_path)])
    page = (tmp_path / "look_around.md").read_text(encoding="utf-8")
    assert not facts["changes"] and not facts["lists"]
    assert "events alone" in page and "redicted" not in page
