"""``rmapfast reclaim`` as a madvise call: ranges, swap devices, what is assumed of pages, and bad input."""

import json
from pathlib import Path

import pytest

import rmapfast as rf

SPLITS = Path(__file__).resolve().parent / "data" / "captures" / "splits"
CAPTURE = SPLITS / "x72-noswap_o2.before.npz"
EDITIONS = [name for name in rf.policy.PRESETS if name.startswith("v")]


@pytest.fixture
def runs(run):
    """The runs of a small anonymous population on x86-64, by policy, from the JSON document."""

    def runs(*options, size="1MiB", kind="anon", orders=2, policy="v7.0"):
        memory = ["--size", size, "--kind", kind, "--orders", orders]
        status, out, err = run(
            "reclaim", *memory, "--arch", "x86-64", "--policy", policy, "--entry", "pageout", "--json", *options
        )
        assert (status, err) == (0, "")
        return {one["policy"]: one for one in json.loads(out)["runs"]}

    return runs


# What comes of it


@pytest.mark.parametrize("engine", ["c", "reference"])
def test_without_swap_every_large_folio_is_split(runs, engine):
    """The example of the issue: 1,024 splits on every edition, and nothing comes back."""
    policies = EDITIONS if engine == "c" else ["v6.12", "v7.3"]
    found = runs("--no-swap", "--engine", engine, size="16MiB", policy=",".join(policies))
    assert set(found) == set(policies)
    for one in found.values():
        assert one["events"]["folio_splits"] == 1024
        assert one["reclaimed_pages"] == one["came_back_pages"] == one["swap_used"] == 0


def test_proposals_keep_what_has_no_slot(runs):
    found = runs("--no-swap", policy="v7.0.12,noswap-split-any,noswap-split-all")
    assert [one["events"]["folio_splits"] for one in found.values()] == [64, 0, 0]
    found = runs("--swap", "12KiB", policy="v7.0.12,noswap-split-any,noswap-split-all")
    assert [one["events"]["folio_splits"] for one in found.values()] == [64, 1, 0]
    assert [one["reclaimed_pages"] for one in found.values()] == [3, 3, 0]


def test_a_range_cuts_folios(runs):
    (one,) = runs("--range", "20KiB:32KiB", "--no-swap").values()
    assert one["entry"] == "MADV_PAGEOUT" and one["target_pages"] == 8 and one["ret"] == 0
    # pages 5 to 12: the folios 1 and 3 are cut, folio 2 finds no slots
    assert one["events"]["folio_splits"] == 3 and one["events"]["swpout_fallbacks"] == 1


def test_an_address_and_an_offset_mean_the_same(runs):
    start = int(rf.Population.synthetic("1MiB", kind="anon", orders=2).vma_start[0]) << 12
    by_offset, by_address = (runs("--range", f"{at}:64KiB")["v7.0"] for at in ("16384", hex(start + 16384)))
    assert by_offset["events"] == by_address["events"] and by_offset["reclaimed_pages"] == 16


def test_a_cut_file_folio_is_unmapped_and_not_freed(runs):
    (one,) = runs("--range", "20KiB:152KiB", size="256KiB", kind="file", orders=4).values()
    # 64 pages of order 4, pages 5 to 42: the whole folio in the middle is freed, the two that are cut are not
    assert one["reclaimed_pages"] == one["came_back_pages"] == 16 and one["events"]["folio_splits"] == 2


def test_the_caller_counts_for_files_alone(runs):
    whole, other = (runs(*options, kind="file")["v7.0"] for options in ([], ["--caller", "other"]))
    assert whole["reclaimed_pages"] == 256 and other["reclaimed_pages"] == 0 and other["ret"] == 0
    assert runs("--caller", "other")["v7.0"]["reclaimed_pages"] == 256


def test_memory_comes_back_without_being_reclaimed(runs, run):
    (one,) = runs("--no-swap", "--assume", "zero=every:4").values()
    assert one["reclaimed_pages"] == 0 and one["came_back_pages"] == 64
    status, out, _ = run(
        "reclaim", "--size", "1MiB", "--kind", "anon", "--orders", "2", "--entry", "pageout", "--no-swap",
        "--assume", "zero=every:4", "--arch", "x86-64", "--full",
    )  # fmt: skip
    rows = [line.split() for line in out.splitlines()]
    assert status == 0
    assert ["reclaimed", "0", "B", "0", "B"] in rows and ["folios", "split", "64", "64"] in rows
    assert ["memory", "that", "came", "back", "256", "KiB", "256", "KiB"] in rows
    assert "zero_filled_pages: 64 pages" in " ".join(out.split())


def test_cold_and_free(run):
    def document(*options):
        memory = ["--size", "1MiB", "--kind", "anon", "--orders", "2", "--policy", "v7.0", "--arch", "x86-64"]
        return json.loads(run("reclaim", *memory, "--json", *options)[1])["runs"][0]

    for entry, action in (("cold", "MADV_COLD"), ("free", "MADV_FREE")):
        one = document("--entry", entry, "--range", "4KiB:4KiB")
        assert one["entry"] == action and one["ret"] == 0 and one["events"]["folio_splits"] == 1
        assert one["reclaimed_pages"] == 0


def test_errors_of_the_call_are_results(runs, run):
    """ENOMEM is what the kernel returns, and what lies inside of the VMAs was done."""
    (one,) = runs("--range", "1020KiB:8KiB").values()
    assert one["ret"] == -12 and one["reclaimed_pages"] == 1
    status, out, _ = run(
        "reclaim", "--size", "1MiB", "--kind", "anon", "--entry", "pageout", "--range", "2MiB:1MiB", "--policy", "v7.0",
        "--arch", "x86-64", "--full",
    )  # fmt: skip
    assert status == 0 and "-ENOMEM" in out and "a part of the range is in no VMA" in out


# Swap


def test_fragmented_swap(runs):
    (one,) = runs("--swap", "1GiB,fragmented").values()
    assert one["events"]["folio_splits"] == 64 and one["reclaimed_pages"] == one["swap_used"] == 256


def test_a_map_of_free_slots(runs, tmp_path):
    path = tmp_path / "free"
    path.write_text("0111\n1111 1110\n")
    (one,) = runs("--swap", f"free={path}").values()
    assert one["reclaimed_pages"] == one["swap_used"] == 10
    assert rf.Swap.of(f"48KiB,free={path}", 12) == rf.Swap(free=[False, *[True] * 10, False])


# What is assumed of pages


def test_pages_in_words_and_in_a_file(runs, tmp_path):
    path = tmp_path / "pages"
    population = rf.Population.synthetic("1MiB", kind="anon", orders=2)
    first = int(population.vma_start[0])
    path.write_text(f"0-15\n20, {first + 22:#x}\n")
    found = [runs("--no-swap", "--assume", f"zero={words}")["v7.0"] for words in (path, "0-15,20,22", "16-19,0-15")]
    assert [one["came_back_pages"] for one in found] == [18, 18, 20]
    assert runs("--no-swap", "--assume", "zero=all")["v7.0"]["came_back_pages"] == 256


def test_pins_references_and_further_processes(runs):
    for name, splits in (("pinned", 60), ("extra_references", 60), ("shared", 60)):
        (one,) = runs("--no-swap", "--assume", f"{name}=0-15").values()
        assert one["events"]["folio_splits"] == splits, name


def test_a_capture_can_be_told_what_it_does_not_show(run):
    memory = ("reclaim", "--capture", CAPTURE, "--policy", "v7.2", "--entry", "pageout", "--no-swap", "--json")
    plain, assumed = (json.loads(run(*memory, *more)[1])["runs"][0] for more in ([], ["--assume", "zero=0-3"]))
    assert plain["came_back_pages"] == 0 and assumed["came_back_pages"] == 4


def test_a_poisoned_page_keeps_its_folio(runs):
    (one,) = runs("--assume", "poisoned=5", orders=4).values()
    assert one["reclaimed_pages"] == 240 and one["events"]["folios_kept"] == 1 and one["events"]["folio_splits"] == 0
    (one,) = runs("--assume", "poisoned=5", orders=0).values()
    assert one["reclaimed_pages"] == 255


def test_thps_of_which_little_is_left_come_back_through_the_shrinker(run):
    memory = ["--size", "8MiB", "--kind", "anon", "--orders", "9", "--holes", "0.97", "--arch", "x86-64"]
    found = json.loads(run("reclaim", *memory, "--no-swap", "--target", "8MiB", "--json")[1])["runs"]
    for one in found:
        assert one["reclaimed_pages"] == 0 and one["events"]["folio_splits"] == 4
        assert one["came_back_pages"] == 2048 - one["events"]["ptes_remapped"] > 1900


def test_folios_seen_in_part_have_the_order_that_is_assumed(run):
    options = ("--entry", "pageout", "--no-swap", "--json", "--policy", "v7.2")
    path = SPLITS / "x72-deferred_free_o4.before.npz"
    orders = [
        json.loads(run("reclaim", "--capture", path, *options, *more)[1])["population"]["orders"]
        for more in ([], ["--assume", "folio_order=4"])
    ]
    assert set(orders[1]) == {"4"} and orders[0] != orders[1]


# Saved results


def test_a_saved_call_is_run_again(run, tmp_path):
    path = tmp_path / "call.json"
    options = ["--entry", "free", "--range", "4KiB:40KiB", "--assume", "dirty=2", "--swap", "64KiB,fragmented"]
    memory = ["--size", "1MiB", "--kind", "anon", "--orders", "2"]
    assert run("reclaim", *memory, *options, "-o", path)[0] == 0
    saved = rf.load(path)
    assert {one.ret for one in saved.runs} == {0} and saved.runs[0].entry == "MADV_FREE"
    assert rf.rerun(path).same
    assert run("rerun", path)[0] == 0


# Recorded cases


@pytest.mark.parametrize("engine", ["c", "reference"])
def test_recorded_cases(run, engine):
    """A line for each case, one for each edition, and the number of those that agree."""
    status, out, err = run("conformance", "--engine", engine, "--live", SPLITS)
    lines = out.splitlines()
    cases = json.loads((SPLITS / "cases.json").read_text())["cases"]
    assert (status, err) == (0, "") and lines[-1] == f"{len(cases)} passed, 0 failed"
    assert any(line.startswith("x612 (v6.12): ") and line.endswith(" agree") for line in lines)


def test_recorded_cases_that_differ(run, tmp_path):
    for path in SPLITS.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    document = json.loads((SPLITS / "cases.json").read_text())
    case = next(one for one in document["cases"] if one["case"] == "x72-noswap_o2")
    name = next(name for name in case["thp_stats"] if name.endswith("_split"))
    case["thp_stats"][name] += 1
    (tmp_path / "cases.json").write_text(json.dumps(document))
    status, out, _ = run("conformance", "--live", tmp_path)
    assert status == 1 and out.splitlines()[-1] == f"{len(document['cases']) - 1} passed, 1 failed"
    assert "folio_splits" in out
    status, out, _ = run("conformance", "--live", tmp_path, "--live", SPLITS)
    total = 2 * len(document["cases"])
    assert status == 1 and out.splitlines()[-2:] == ["in all", f"{total - 1} passed, 1 failed"]


# Bad input

SMALL = ["reclaim", "--size", "1MiB", "--kind", "anon", "--orders", "2"]
PAGEOUT = [*SMALL, "--entry", "pageout"]
BAD = [
    ([*PAGEOUT, "--range", "5:4096"], "range: START"),
    ([*PAGEOUT, "--range", "4096"], "range"),
    ([*PAGEOUT, "--range", "4KiB:"], "range: LENGTH"),
    ([*PAGEOUT, "--range", ":4KiB"], "range: START"),
    ([*PAGEOUT, "--range", "1:2:3"], "range"),
    ([*PAGEOUT, "--range", "4KiB:8EiB"], "range: LENGTH"),
    ([*PAGEOUT, "--range", f"4KiB:{1 << 63}"], "range: LENGTH"),
    ([*PAGEOUT, "--range", "0xfffffffffffff000:8192"], "range: length"),
    ([*PAGEOUT, "--range", f"0x{'f' * 5000}000:8192"], "range: START"),
    ([*PAGEOUT, "--range", "0xzz:8192"], "range: START"),
    ([*PAGEOUT, "--range=-4096:8192"], "range: START"),
    ([*PAGEOUT, "--process", "1"], "process"),
    ([*PAGEOUT, "--process", "-1"], "process"),
    ([*SMALL, "--range", "0:4096"], "--range"),
    ([*SMALL, "--caller", "other"], "--caller"),
    ([*SMALL, "--process", "0"], "--process"),
    ([*PAGEOUT, "--caller", "root"], "--caller"),
    ([*SMALL, "--entry", "cold", "--target", "1MiB"], "--target"),
    ([*PAGEOUT, "--target", "1MiB"], "--target"),
    ([*SMALL, "--entry", "free", "--threads", "2"], "--threads"),
    ([*PAGEOUT, "--assume", "zero=5000"], "zero_filled"),
    ([*PAGEOUT, "--assume", "zero=250-256"], "zero_filled"),
    ([*PAGEOUT, "--assume", "zero=5-3"], "zero_filled"),
    ([*PAGEOUT, "--assume", f"zero={'9' * 5000}"], "zero_filled"),
    ([*PAGEOUT, "--assume", "zero=0x1"], "zero_filled"),
    ([*PAGEOUT, "--assume", "zero=words"], "zero_filled: words"),
    ([*PAGEOUT, "--assume", "pinned=missing"], "pinned: expected pages"),
    ([*PAGEOUT, "--assume", "zero="], "--assume"),
    ([*PAGEOUT, "--assume", "zeros=4"], "--assume"),
    (["reclaim", "--capture", str(CAPTURE), "--assume", "folio_order=99"], "folio_order"),
    ([*PAGEOUT, "--assume", "folio_order=4"], "folio_order"),
    ([*PAGEOUT, "--swap", "64KiB,free=map"], "swap: free"),
    ([*PAGEOUT, "--swap", "free=words"], "swap: words"),
    ([*PAGEOUT, "--swap", "free=missing"], "swap: free"),
    ([*PAGEOUT, "--swap", "12KiB,fragmented,4"], "swap"),
    ([*PAGEOUT, "--swap", "free=map,fragmented"], "swap: fragmented"),
    ([*PAGEOUT, "--swap", "12KiB", "--no-swap"], "--swap"),
]


@pytest.mark.parametrize(("argv", "named"), BAD, ids=[f"{n}: {' '.join(a)[-40:]!r}" for n, (a, _) in enumerate(BAD)])
def test_bad_input(run, monkeypatch, tmp_path, argv, named):
    """Exit status 2, one line that names the argument, and no file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "map").write_text("0111")
    (tmp_path / "words").write_text("some words")
    status, out, err = run(*argv, "-o", "out.json")
    assert (status, out) == (2, "")
    assert err.startswith("rmapfast") and err.count("\n") == 1 and named in err, err
    assert not (tmp_path / "out.json").exists()


def test_bad_calls_in_python():
    population = rf.Population.synthetic("64KiB", kind="anon")
    call = rf.comparison.MadviseCall("MADV_COLD")
    for name in ("entry", "lru_stats", "max_ptes_none", "threads", "executor", "workers"):
        with pytest.raises(ValueError, match=f"^{name}: expected none"):
            rf.compare(population, call=call, **{name: "pageout" if name == "entry" else 2})
    with pytest.raises(ValueError, match=r"^action"):
        rf.comparison.MadviseCall("MADV_DONTNEED")
    described = rf.compare(rf.Population.described("64KiB", kind="anon", orders=2), call=call, arches=["x86-64"])
    assert described.runs[0].ret == 0 and "MADV_COLD" in repr(described)
