"""What a mail takes: 80 columns, a report of one screen, five lines for a commit message."""

import re
from pathlib import Path

import numpy as np
import pytest

import rmapfast as rf
from rmapfast.cli import main
from rmapfast.reports import TEXTS, differing_events

CAPTURE = Path(__file__).resolve().parent / "data" / "captures" / "file64k_cow_memcg.before.npz"
ARCHES = ("arm64-4k", "x86-64")
WIDTH, SCREEN, BRIEF = 80, 45, 5


def compared(policies=("v6.16+young", "v7.0"), target="3MiB", **options):
    return rf.compare(lambda arch: rf.Population.described("4MiB", arch=arch, **options), target, policies=policies)


def fits(text, lines):
    assert text.isascii() and all(line == line.rstrip() for line in text.splitlines())
    assert max(map(len, text.splitlines())) <= WIDTH
    assert len(text.splitlines()) <= lines, text


MANY_ORDERS = "0:1,1:1,2:1,3:1,4:1,5:1,6:1,7:1,8:1,9:1"


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("options", [{}, {"orders": MANY_ORDERS, "holes": 0.1}, {"kind": "anon", "mlocked": 0.5}])
@pytest.mark.parametrize("target", ["3MiB", "10%", "1GiB"])
def test_a_report_fits_a_screen(count, options, target):
    one = compared(("v6.16+young", "v7.0", "v7.3")[:count], target, **options)
    fits(repr(one), SCREEN)
    assert repr(one) == one.to_text() == one.to_text("summary")
    fits(one.to_text("brief"), BRIEF)
    for form in TEXTS:
        assert max(map(len, one.to_text(form).splitlines())) <= WIDTH


def test_the_lists_of_a_multi_gen_lru_fit_a_screen():
    one = rf.compare(
        lambda arch: rf.Population.described("4MiB", arch=arch), "3MiB", policies=["v6.12", "v7.0", "v7.2"], lru="mglru"
    )
    fits(repr(one), SCREEN)
    fits(one.to_text("brief"), BRIEF)
    assert "multi-gen LRU" in one.to_text("brief").splitlines()[0]


def test_predictions_of_the_report():
    """Each run has its time, interval and time per page, and each but the first the change with its interval."""
    one = compared(("v6.16+young", "v7.0", "v7.3"))
    for arch, runs in one.by_arch().items():
        part = repr(one).split(f"\n{arch}, baseline v6.16+young\n")[1].splitlines()
        size = {"us": 1e3, "ms": 1e6}[re.search(r"time \((\w+)\)", part[0])[1]]
        for line, run in zip(part[1:4], runs, strict=True):
            name, value, interval, page, *change = line.split(maxsplit=4)
            low, high = map(float, interval.split("-"))
            assert name == run.policy_name
            assert float(value) * size == pytest.approx(run.prediction.value, rel=1e-3)
            assert (low * size, high * size) == pytest.approx(run.prediction.interval, rel=2e-3)
            assert float(page) == pytest.approx(run.prediction.value / run.reclaimed_pages, rel=2e-3)
            if run is runs[0]:
                assert not change
                continue
            found = run.costs.change(
                runs[0].events.counts / runs[0].reclaimed_pages, run.events.counts / run.reclaimed_pages
            )
            figure, low, high = re.fullmatch(r"(\S+)%\s+(\S+) to (\S+)%", change[0]).groups()
            assert float(figure) == pytest.approx(100 * found.value, abs=0.06)
            assert (float(low), float(high)) == pytest.approx((100 * found.low, 100 * found.high), abs=0.51)


def test_the_events_that_differ_most():
    one = compared()
    for arch, runs in one.by_arch().items():
        pages = [run.events.counts / run.reclaimed_pages for run in runs]
        difference = dict(zip(rf.EVENT_NAMES, abs(pages[1] - pages[0]), strict=True))
        found = differing_events(runs)
        assert set(found) == {name for name, value in difference.items() if value > 0}
        assert sorted((difference[name] for name in found), reverse=True) == [difference[name] for name in found]
        part = repr(one).split(f"\n{arch}, ")[1].split("\n\n")[0]
        assert f"the 5 of {len(found)} events that differ most, per reclaimed page" in part
        shown = [line.split() for line in part.splitlines() if line.split() and line.split()[0] in rf.EVENT_NAMES]
        assert [row[0] for row in shown] == found[:5]
        for name, *figures in shown:
            counts = [run.per_page(name) for run in runs]
            assert [float(figure) for figure in figures[:2]] == pytest.approx(counts, rel=1e-3)
            assert float(figures[2]) == pytest.approx(counts[1] / counts[0], abs=0.006)


def test_a_report_of_the_same_runs_says_that_nothing_differs():
    assert "no event differs between these runs" in repr(compared(("v7.0", "v7.0")))
    empty = rf.compare(rf.Population.synthetic("1MiB"), "0", arches=["x86-64"], policies=["v7.0"])
    assert "no event happened" in repr(empty)


def test_what_has_no_price_is_named():
    population = rf.Population.synthetic("1MiB", arch="arm64-4k")
    population.mm_cpumask[:] = 1
    one = rf.compare(population, "1MiB", policies=["v7.0.12", "local-tlbi"], arches=["arm64-4k"])
    unpriced = one.unpriced("arm64-4k")
    assert unpriced
    for text in (repr(one), one.to_text("brief")):
        assert all(event in text for event in unpriced)
    assert "without a price here: no event that differs" in repr(compared())


def test_the_brief_text_has_each_change():
    one = compared()
    lines = one.to_text("brief").splitlines()
    assert lines[0] == "3 MiB of 4 MiB of file folios, order 4, against v6.16+young:"
    for line, (arch, (base, run)) in zip(lines[1:], one.by_arch().items(), strict=False):
        found = re.fullmatch(rf"  {arch}, v7\.0: (\S+) -> (\S+) (us|ms), (\S+)% \((\S+) to (\S+)%\)", line)
        size = {"us": 1e3, "ms": 1e6}[found[3]]
        values = [one.prediction.value for one in (base, run)]
        assert [float(found[1]) * size, float(found[2]) * size] == pytest.approx(values, rel=1e-3)
        assert float(found[4]) == pytest.approx(100 * (values[1] / values[0] - 1), abs=0.06)
        assert float(found[5]) <= float(found[4]) <= float(found[6])
    assert lines[-1] == f"Predicted by rmapfast {rf.__version__}, not measured; 90% intervals."


def test_the_brief_text_counts_what_it_leaves_out():
    lines = compared(("v6.14", "v6.16", "v7.0", "v7.3", "skip-caller")).to_text("brief").splitlines()
    shown = [line for line in lines if " -> " in line]
    left = int(re.search(r"and (\d+) more", " ".join(lines))[1])
    assert len(shown) + left == 2 * 4


def test_runs_of_different_memory_are_compared_per_page():
    both = rf.Comparison.of({"small": compared(), "large": compared(orders=2)})
    lines = [line for line in both.to_text("brief").splitlines() if " -> " in line]
    assert lines and all("per page" in line for line in lines)


@pytest.mark.parametrize("form", ["", "text", "long", 5, None])
def test_another_form_is_refused(form):
    with pytest.raises(ValueError, match="form: expected one of summary, full, brief"):
        compared().to_text(form)


# A target that is larger than the population


def test_a_target_that_is_too_large_is_said_first(capsys):
    for target, warned in (("1GiB", True), ("4MiB", False), ("100%", False)):
        one = compared(target=target)
        for form in ("summary", "full"):
            first = one.to_text(form).splitlines()[0]
            assert first.startswith("WARNING: the target is larger than the population: 1 GiB") == warned
        assert ("only 4 MiB could be reclaimed" in repr(one)) == warned
    assert "4 MiB reclaimed" in compared(target="1GiB").to_text("brief").splitlines()[0]
    assert main(["reclaim", "--size", "1MiB", "--target", "2MiB", "--format", "markdown"]) == 0
    assert capsys.readouterr().out.startswith("WARNING: ")


# The command line


@pytest.mark.parametrize(
    "words",
    [
        ["reclaim", "--size", "4MiB"],
        ["reclaim", "--size", "4MiB", "--full"],
        ["reclaim", "--size", "4MiB", "--brief"],
        ["reclaim", "--size", "4MiB", "--full", "--policy", "v6.12,v7.0,v7.2,anon-swap", "--orders", MANY_ORDERS],
        ["reclaim", "--capture", str(CAPTURE), "--target", "50%"],
        ["list", "arch"],
        ["list", "policy"],
        ["list", "event"],
        ["list", "cost"],
        ["list", "component"],
        ["describe", str(CAPTURE)],
        ["info"],
        ["check", "--pages", "1", "--policy", "v6.15,v7.0", "--draw"],
        ["check", "--random", "20", "--policy", "v6.15,v7.0"],
        ["conformance", "--live", str(CAPTURE.parent)],
        [
            "sweep", "population.size=1MiB", "population.order=0,1,2,3,4", "policy=v6.16+young,v7.0", "arch=arm64-4k",
            "arch.cont_ptes=1,16", "target=50%",
        ],
        ["sweep", "population.size=1MiB", "population.order=0,4", "policy=v6.16+young,v7.0", "arch=arm64-4k", "--rank"],
    ],
    ids=lambda words: " ".join(words[:3]),
)  # fmt: skip
def test_every_text_fits_a_mail(words, capsys):
    assert main(words) in (0, 1)
    text = capsys.readouterr().out
    paths = {str(CAPTURE), str(CAPTURE.parent)}
    wide = [line for line in text.splitlines() if len(line) > WIDTH and not any(path in line for path in paths)]
    assert text and wide == []


def test_full_and_brief_are_texts_only(capsys, tmp_path):
    for words, said in (
        (["--full", "--json"], "--full: only for text"),
        (["--brief", "--format", "csv"], "--brief: only for text"),
    ):
        assert main(["reclaim", "--size", "1MiB", *words]) == 2
        assert said in capsys.readouterr().err
    saved = str(tmp_path / "a.json")
    assert main(["reclaim", "--size", "1MiB", "-o", saved, "--brief"]) == 0
    first = capsys.readouterr().out
    assert main(["compare", saved, "--brief"]) == 0
    assert capsys.readouterr().out == first and len(first.splitlines()) == BRIEF - 1


def test_counts_are_finite():
    """A table of events never divides by pages that no run reclaimed."""
    one = rf.compare(rf.Population.synthetic("1MiB", mlocked=1.0), "1MiB", arches=["x86-64"], policies=["v7.0"])
    with np.errstate(all="raise"):
        assert ", in all" in repr(one) and "nan" not in repr(one)
