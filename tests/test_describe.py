"""What describe counts: closed forms on small populations, sums over captures, and the command line."""

import functools
import json
from pathlib import Path

import matplotlib
import numpy as np
import pytest

import rmapfast as rf
from rmapfast import contents, plot

CAPTURES = Path(__file__).resolve().parent / "data" / "captures"
SINGLE = sorted(path for path in CAPTURES.glob("*.npz") if ".p1." not in path.name)
MAGIC = {"png": b"\x89PNG\r\n\x1a\n", "pdf": b"%PDF-", "svg": b"<?xml"}


def described(size="4MiB", policies=("per-page", "v7.0", "anon-swap"), **options):
    return contents.describe(rf.Population.synthetic(size, **options), policies)


def rows(found):
    """The ways to lie in a VMA that some folio has: {name: (mappings, pages)}."""
    table = {name: (row["mappings"], row["pages"]) for name, row in found["mappings"].items()}
    return {name: row for name, row in table.items() if row[0]}


def steps(found, policy):
    row = found["policies"][policy]
    return row["batched"], row["whole_folio"], row["single"], row["pmd"], row["left"], row["put_back"], row["steps"]


def check_sums(found):
    """Everything that is divided adds up to all mapped pages."""
    mapped = found["mapped_pages"]
    ways = found["mappings"]
    assert sum(ways[name]["pages"] for name in ("order_0", "whole", "partial", "pmd")) == mapped
    runs = found["runs"]
    assert sum(row["pages"] for row in runs.values()) == mapped - ways["pmd"]["pages"]
    for low, row in runs.items():
        assert int(low) * row["runs"] <= row["pages"] < 2 * int(low) * row["runs"]
    by_kind = [row for orders in found["orders_by_kind"].values() for row in orders.values()]
    assert sum(row["mapped"] for row in by_kind) == mapped
    assert sum(row["folios"] for row in by_kind) == found["folios"]
    assert sum(row["pages"] for row in by_kind) == found["pages"]
    flags = found["vma_flags"]
    for field, total in (("vmas", found["vmas"]), ("pages", found["vma_pages"]), ("mapped", mapped)):
        assert flags["file"][field] + flags["anonymous"][field] == total
    for row in found["policies"].values():
        assert row["batched"] + row["single"] + row["pmd"] + row["left"] - row["put_back"] == mapped
        assert row["whole_folio"] <= row["batched"]
        assert row["batched_share"] == (row["batched"] / mapped if mapped else None)
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("path", SINGLE, ids=lambda path: path.name.removesuffix(".npz"))
def test_captures_add_up(path):
    population = rf.Population.load(path)
    before = {name: getattr(population, name).copy() for name in ("ptes", "folio_flags", "folio_mapcount")}
    found = contents.describe(population)
    check_sums(found)
    # every policy meets the same pages, and nothing is changed
    assert all(np.array_equal(getattr(population, name), array) for name, array in before.items())
    assert sum(found["sharing"].values()) <= found["pages"]
    assert found == contents.describe(population)


@pytest.mark.parametrize(
    "options",
    [
        {"orders": "0:1,2:1,4:2,9:2", "holes": 0.1, "seed": 3, "sharing": 2},
        {"orders": "0:1,2:1,4:2,9:2", "holes": 0.1, "kind": "anon", "phase": 7},
        {"orders": 4, "kind": "lazyfree", "dirty": 0.1},
        {"orders": 4, "mlocked": 0.3, "soft_dirty": 0.5, "external": 2},
        {"orders": 3, "arch": "arm64-64k", "kind": "shmem", "uffd_wp": 0.5},
        {"orders": 4, "mapped": 0.0},
    ],
)
def test_populations_add_up(options):
    found = described(**options)
    check_sums(found)


def test_whole_folios():
    """N aligned folios of one order: N mappings, N runs, and N steps where the policy batches."""
    found = described("4MiB", orders=4)
    assert rows(found) == {"whole": (64, 1024)}
    assert found["runs"] == {"16": {"runs": 64, "pages": 1024}}
    assert found["sharing"] == {"1": 1024}
    assert steps(found, "v7.0") == (1024, 1024, 0, 0, 0, 0, 64)
    assert steps(found, "per-page") == (0, 0, 1024, 0, 0, 0, 1024)
    assert found["policies"]["v7.0"]["whole_folio_share"] == 1.0


def test_order_0():
    found = described("1MiB", orders=0)
    assert rows(found) == {"order_0": (256, 256)}
    assert steps(found, "v7.0") == (0, 0, 256, 0, 0, 0, 256)


def test_cut_by_tables():
    """8 pages off, the folio at each border of two tables is cut in halves, which batch but are not whole."""
    found = described("4MiB", orders=4, phase=8)
    # pages 504 to 519 and 1016 to 1031 of the mapping lie around the borders: 1032 pages from 8 on
    assert rows(found) == {"whole": (64, 1024), "cut_by_table": (2, 32)}
    assert found["runs"] == {"8": {"runs": 4, "pages": 32}, "16": {"runs": 62, "pages": 992}}
    assert steps(found, "v7.0") == (1024, 992, 0, 0, 0, 0, 66)


def test_holes():
    """Every 4th page of order-4 folios is gone: runs of 3."""
    found = described("1MiB", orders=4, holes="every:4")
    assert rows(found) == {"partial": (16, 192), "holes": (16, 192)}
    assert found["runs"] == {"2": {"runs": 64, "pages": 192}}
    assert steps(found, "v7.0") == (192, 0, 0, 0, 0, 0, 64)


def test_partial_anonymous_folios_are_split_first():
    found = described("1MiB", orders=4, kind="anon", holes="every:16")
    assert found["split_first"] == 16 and rows(found)["partial"] == (16, 240)
    assert steps(found, "anon-swap") == (0, 0, 240, 0, 0, 0, 240)


def test_kinds_decide():
    """Lazyfree folios batch since v6.15, file folios since v7.0, swapbacked anonymous ones with anon-swap."""
    for kind, policies in (
        ("file", {"v7.0", "anon-swap"}),
        ("shmem", {"v7.0", "anon-swap"}),
        ("lazyfree", {"v6.16", "v7.0", "anon-swap"}),
        ("anon", {"anon-swap"}),
    ):
        found = described("1MiB", ("per-page", "v6.16", "v7.0", "anon-swap"), orders=4, kind=kind)
        assert {name for name, row in found["policies"].items() if row["batched"]} == policies
        assert list(found["orders_by_kind"]) == [kind]


def test_sharing():
    found = described("1MiB", orders=4, sharing=3, external=2)
    assert found["sharing"] == {"5": 256} and found["mapped_pages"] == 3 * 256
    assert rows(found) == {"whole": (48, 768)}


def test_mlocked_pages_stay():
    found = described("1MiB", orders=4, mlocked=1.0)
    assert steps(found, "v7.0") == (0, 0, 0, 0, 256, 0, 0)
    assert found["vma_flags"]["locked"] == {"vmas": 1, "pages": 256, "mapped": 256}


def test_redirtied_lazyfree_is_put_back():
    found = described("1MiB", orders=4, kind="lazyfree", dirty=1.0)
    # the first step of each folio fails and puts its entries back
    assert steps(found, "v7.0") == (256, 256, 0, 0, 256, 256, 16)


def test_bits_end_runs():
    """Young and dirty may differ inside a run; write ends it."""
    assert described("1MiB", orders=4, young=0.5, dirty=0.5)["runs"] == {"16": {"runs": 16, "pages": 256}}
    found = described("1MiB", orders=4, write=0.5)
    assert found["runs"]["1"]["runs"] > 16


def test_cut_by_a_vma():
    """The VMA begins at page 4 of a folio and ends at page 3 of another one: [4, 16) and [0, 4)."""
    words = [rf.pte.make("present", 0x100 + page) for page in range(4, 20)]
    population = rf.Population.from_arrays(
        np.array(words, np.uint64), folio_pfn=[0x100, 0x110], folio_order=4, start_vpn=4
    )
    found = contents.describe(population)
    assert rows(found) == {"partial": (2, 16), "cut_by_vma": (2, 16)}
    assert found["runs"] == {"4": {"runs": 1, "pages": 4}, "8": {"runs": 1, "pages": 12}}
    check_sums(found)


def test_cow():
    found = contents.describe(rf.Population.load(CAPTURES / "file64k_cow_memcg.before.npz"))
    cases = rows(found)
    assert cases["cow"][0] and cases["cow"] == cases["partial"] and "holes" not in cases


def test_pmd():
    """A 2M folio that a PMD maps is one mapping, batches nothing, and is unmapped as a whole."""
    found = contents.describe(rf.Population.load(CAPTURES / "file2m_pmdmapped_pageout.before.npz"))
    mappings, pages = rows(found)["pmd"]
    assert mappings and pages == 512 * mappings
    assert all(row["pmd"] == pages for row in found["policies"].values())


def test_several_captures():
    paths = [CAPTURES / f"file64k_fork_memcg.p{number}.before.npz" for number in (0, 1)]
    found = contents.describe(rf.Population.load(paths))
    check_sums(found)
    alone = contents.describe(rf.Population.load(paths[0]))
    assert found["mms"] == 2 and found["mapped_pages"] > alone["mapped_pages"]


# The map


@pytest.mark.parametrize(
    "options",
    [
        {"size": "1MiB", "orders": 4},
        {"size": "64MiB", "orders": "0:1,4:3,9:4", "holes": 0.05, "seed": 2, "sharing": 3},
        {"size": "16MiB", "orders": 0},
        {"size": "256MiB", "orders": 4, "phase": 8},
    ],
)
def test_map_adds_up(options):
    population = rf.Population.synthetic(**options)
    memory = contents.memory_map(population)
    mapped = contents.describe(population, [])["mapped_pages"]
    assert sum(float(strip.share.sum()) for strip in memory.strips) * memory.cell == pytest.approx(mapped)
    for strip in memory.strips:
        assert strip.share.max() <= 1 and len(strip.share) == memory.width
        assert (strip.share > 0).tolist() == (strip.order >= 0).tolist()
        assert 0 == strip.begin < strip.end <= memory.width
        assert not np.any(strip.share[strip.end :])
    if memory.detail is None:
        assert memory.orders == [0]
    else:
        for row in memory.detail.rows:
            ends = [row.begin] + [at for run in row.runs for at in run[:2]]
            assert ends == sorted(ends) and ends[-1] <= row.end


def every(kind, figure):
    return [one for one in figure.findobj(kind) if one.get_visible()]


def words(figure):
    return " ".join(" ".join(text.get_text().split()) for text in every(matplotlib.text.Text, figure))


def test_figure():
    path = CAPTURES / "file64k_holes_memcg.before.npz"
    population = rf.Population.load(path)
    described, names = contents.describe(population), contents.vma_names([path])
    figure = plot.description(population, described, names=names, style="print")
    text = words(figure)
    for said in (f"rmapfast {rf.__version__}", path.name, "young: True", "mapped in part", "no page mapped", "order 4"):
        assert said in text
    for artist in every(matplotlib.patches.Patch, figure):
        red, green, blue, alpha = artist.get_facecolor()
        assert not alpha or red == green == blue
    figure.draw_without_rendering()
    for one in every(matplotlib.text.Text, figure):
        if one.get_text().strip():
            box = one.get_window_extent()
            assert figure.bbox.x0 - 2 <= box.x0 and box.x1 <= figure.bbox.x1 + 2, f"{one.get_text()!r} is cut"


@pytest.mark.parametrize(
    "population",
    [
        rf.Population.load(CAPTURES / "file64k_nonepte_pageout.after.npz"),
        rf.Population.synthetic("1MiB", orders=0),
        rf.Population.synthetic("4MiB", orders="0:1,2:1,4:1,9:3", kind="anon", holes=0.2, sharing=2),
    ],
    ids=["nothing", "order 0", "mixed"],
)
def test_figures_of_other_populations(population):
    assert rf.__version__ in words(plot.description(population, contents.describe(population)))


# The command line


@pytest.fixture
def run(run):
    """Run the verb; (exit status, stdout, stderr)."""
    return functools.partial(run, "describe")


CAPTURE = CAPTURES / "file64k_holes_memcg.before.npz"


def test_command(run):
    status, out, err = run(CAPTURE, "--json", "--policy", "v7.0,anon-swap")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert found == json.loads(json.dumps(contents.describe(rf.Population.load(CAPTURE), ["v7.0", "anon-swap"])))
    status, out, err = run(CAPTURE)
    assert (status, err) == (0, "") and max(map(len, out.splitlines())) <= 100
    for said in (
        CAPTURE.name,
        "cut by a VMA border",
        "runs that may batch",
        "mappings of a page",
        "Assumed:",
        "unlimited swap",
    ):
        assert said in out
    assert all(any(line.split()[:1] == [name] for line in out.splitlines()) for name in contents.POLICIES)


def test_command_assumes(run):
    found = json.loads(run(CAPTURE, "--assume", "write=true", "--json")[1])
    assert found["assumptions"]["write"].startswith("True")


@pytest.mark.parametrize("path", SINGLE, ids=lambda path: path.name.removesuffix(".npz"))
def test_text_of_captures(run, path):
    status, out, err = run(path)
    assert (status, err) == (0, "") and max(map(len, out.splitlines())) <= 100 and "nan" not in out


@pytest.mark.parametrize("ending", MAGIC)
def test_command_plots(run, tmp_path, ending):
    path = tmp_path / f"figure.{ending}"
    pair = [CAPTURES / f"file64k_fork_memcg.p{number}.before.npz" for number in (0, 1)]
    assert run(*pair, "--plot", path, "--json")[0] == 0
    assert path.read_bytes().startswith(MAGIC[ending])


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["missing.npz"], "missing.npz"),
        ([CAPTURES], "captures"),
        ([__file__], "test_describe.py"),
        ([CAPTURE, "--policy", "v9"], "no preset 'v9'"),
        ([CAPTURE, "--assume", "wirte=true"], "write"),
        ([CAPTURE, "--plot", "figure.jpg"], "figure.jpg"),
        ([CAPTURE, "--plot", "missing/figure.png"], "missing"),
        ([], "FILE"),
    ],
)
def test_bad_input(run, tmp_path, monkeypatch, argv, named):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(*argv)
    assert (status, out, err.count("\n")) == (2, "", 1) and named in err
    assert not list(tmp_path.iterdir())
