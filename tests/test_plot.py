"""Figures: what they show adds up, nothing overlaps, captions say where they are from, files are whole or not there."""

import errno
import itertools
import subprocess
import sys

import matplotlib
import pytest
from waiting import DEADLINE

import rmapfast as rf
from rmapfast import plot
from rmapfast.plot import style
from rmapfast.plot.runs import component_fills

POLICIES = ("per-page", "v6.12", "v6.16+young", "v7.0", "skip-caller")
MAGIC = {"png": b"\x89PNG\r\n\x1a\n", "pdf": b"%PDF-", "svg": b"<?xml"}


def compared(count=2, arches=("arm64-4k", "x86-64"), seed=0, **options):
    def population(arch):
        return rf.Population.synthetic("4MiB", arch=arch, seed=seed, **options)

    return rf.compare(population, "3MiB", policies=POLICIES[-count:], arches=arches, arguments={"wherefrom": "a test"})


def by_order(count=2, orders=(0, 4, 9), **options):
    return {order: compared(count, orders=order, **options) for order in orders}


@pytest.fixture(scope="module")
def comparison():
    return compared()


def every(kind, figure):
    return [one for one in figure.findobj(kind) if one.get_visible()]


def words(figure):
    return " ".join(" ".join(text.get_text().split()) for text in every(matplotlib.text.Text, figure))


def axes(figure):
    return [ax for part in figure.subfigs for ax in part.axes]


def out_of_view(axis):
    """Labels of ticks beyond the ends of an axis, which are not drawn."""
    low, high = sorted(axis.get_view_interval())
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    return [tick.label1 for tick in ticks if not low <= tick.get_loc() <= high]


MIXED = {"orders": "0:1,4:2,9:1", "holes": 0.1, "seed": 7}
FIGURES = {
    "components": lambda count, **options: plot.components(compared(count, **options)),
    "batch_lengths": lambda count, **options: plot.batch_lengths(compared(count, **options)),
    "overview": lambda count, **options: plot.overview(compared(count, **options)),
    "by_order": lambda count, seed=0, **_: plot.by_order(by_order(count, seed=seed)),
}


@pytest.mark.parametrize("kind", FIGURES)
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_figures(kind, count):
    """Labels with units, a caption with version, seed and arguments, and no text over another one or out of sight."""
    figure = FIGURES[kind](count, **MIXED)
    text = words(figure)
    assert f"rmapfast {rf.__version__}" in text and "seed: 7" in text
    assert (
        "wherefrom: a test" in text and "target: 3MiB" in text and f"policies: {', '.join(POLICIES[-count:])}" in text
    )
    if kind != "batch_lengths":
        assert "predicted ns per reclaimed page" in text and "Predicted, not measured" in text
    for policy in POLICIES[-count:]:
        assert policy in text
    for ax in axes(figure):
        assert ax.get_xlabel() and ax.get_title(loc="left")
    figure.draw_without_rendering()
    unseen = [label for ax in axes(figure) for axis in (ax.xaxis, ax.yaxis) for label in out_of_view(axis)]
    boxes = [
        # of an annotation without its arrow
        (text.get_text(), matplotlib.text.Text.get_window_extent(text).padded(-1))
        for text in every(matplotlib.text.Text, figure)
        if text.get_text().strip() and text not in unseen
    ]
    for (one, box), (other, over) in itertools.combinations(boxes, 2):
        assert not box.overlaps(over), f"{one!r} and {other!r} overlap"
    for one, box in boxes:
        assert figure.bbox.x0 - 2 <= box.x0 and box.x1 <= figure.bbox.x1 + 2, f"{one!r} is cut"
        assert figure.bbox.y0 - 2 <= box.y0 and box.y1 <= figure.bbox.y1 + 2, f"{one!r} is cut"


def bars(ax):
    return [patch for patch in ax.patches if isinstance(patch, matplotlib.patches.Rectangle)]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_components_add_up(count):
    comparison = compared(count, **MIXED)
    for ax, runs in zip(axes(plot.components(comparison)), comparison.by_arch().values(), strict=True):
        ends = {}
        for bar in bars(ax):
            place = round(bar.get_y() + bar.get_height() / 2)
            assert bar.get_x() == pytest.approx(ends.get(place, 0))
            ends[place] = bar.get_x() + bar.get_width()
        expected = [run.prediction.value / run.reclaimed_pages for run in runs]
        assert [ends[place] for place in range(count)] == pytest.approx(expected)
        # the interval
        ranges = [line.get_segments()[0][:, 0] for line in ax.collections]
        intervals = [[bound / run.reclaimed_pages for bound in run.prediction.interval] for run in runs]
        assert [list(found) for found in ranges] == [pytest.approx(interval) for interval in intervals]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_histograms_add_up(count):
    comparison = compared(count, **MIXED)
    for ax, runs in zip(axes(plot.batch_lengths(comparison)), comparison.by_arch().values(), strict=True):
        assert len(ax.containers) == count
        for run, container in zip(runs, ax.containers, strict=True):
            assert sum(bar.get_height() for bar in container) == pytest.approx(100)
            assert f"{sum(run.batch_lengths.values()):,} steps" in container.get_label()


def test_greys_and_hatches_differ():
    """Each component and each policy of a panel looks different, and no fill has a colour."""
    for kind in ("components", "batch_lengths"):
        for ax in axes(FIGURES[kind](5, **MIXED)):
            looks = {}
            for bar in bars(ax):
                red, green, blue, _ = bar.get_facecolor()
                assert red == green == blue
                looks.setdefault((red, bar.get_hatch()), bar)
            if kind == "batch_lengths":
                assert len(looks) == 5
    fills = [tuple(style.fill(place).items()) for place in range(len(rf.events.COMPONENTS))]
    assert len(set(fills)) == len(fills)


def test_joint_components_have_a_fill_of_their_own():
    first = rf.cost.get("x86-64")
    free = dict.fromkeys(first.to_dict()["costs"], 0)
    one = rf.cost.CostVector(
        "one", "ns", "x86-64", tuple(rf.cost.Cost(event, 1, 1, 1, "assumed", "test") for event in free)
    )
    other = rf.cost.CostVector("two", "ns", "x86-64", one.costs, joint=(("walk_yields", "ptes_cleared", "batches"),))
    both = rf.Comparison.of({"a": compared(arches=["x86-64"]), "b": compared(arches=["x86-64"])}, costs=one)
    runs = [*both.runs[:2], *rf.Comparison.of(both, costs=other).runs[2:]]
    mixed = rf.Comparison(tuple(runs), both.population, both.provenance)
    fills = [(fill["facecolor"], fill["hatch"]) for fill in component_fills(mixed).values()]
    assert len(fills) == len(set(fills)) > 3


def test_by_order():
    points = by_order(3)
    figure = plot.by_order(points)
    for ax, arch in zip(axes(figure), ("arm64-4k", "x86-64"), strict=True):
        lines = [line for line in ax.lines if len(line.get_xdata()) == len(points) and line.get_linestyle() != "None"]
        runs = [comparison.by_arch()[arch] for comparison in points.values()]
        for place, line in enumerate(lines):
            prices = [group[place].prediction.value / group[place].reclaimed_pages for group in runs]
            assert list(line.get_ydata()) == pytest.approx(prices)
        assert len(lines) == 3
        assert [label.get_text() for label in ax.get_xticklabels()] == ["0\n4 KiB", "4\n64 KiB", "9\n2 MiB"]
    # pairs do as well, in any order; and runs alone
    pairs = [(order, comparison.runs[0]) for order, comparison in reversed(points.items())]
    assert len(axes(plot.by_order(pairs))) == 1


@pytest.mark.parametrize(
    ("points", "named"),
    [
        ({}, "a price"),
        ({14: None}, "0 to 13, got 14"),
        ({"4": None}, "0 to 13, got '4'"),
        ([(4, 1), (True, 2)], "results: expected a Result"),
    ],
)
def test_by_order_refuses(comparison, points, named):
    points = {order: comparison for order in points} if isinstance(points, dict) else points
    with pytest.raises((TypeError, ValueError), match=named):
        plot.by_order(points)


def test_without_a_price():
    bare = compared(arches=[rf.arch.get("x86-64").replace(costs="", name="bare")])
    for function, argument in ((plot.components, bare), (plot.by_order, {4: bare})):
        with pytest.raises(ValueError, match="expected runs with a price"):
            function(argument)
    assert "redicted" not in words(plot.overview(bare))
    some = compared(arches=[rf.arch.get("x86-64").replace(costs="", name="bare"), "x86-64"])
    assert "no cost vector belongs to bare" in words(plot.overview(some))


def test_nothing_reclaimed():
    nothing = rf.compare(rf.Population.synthetic("1MiB", mlocked=1.0), "1MiB", arches=["x86-64"])
    assert f"rmapfast {rf.__version__}" in words(plot.overview(nothing))
    empty = rf.compare(rf.Population.synthetic("1MiB", mapped=0.0), "1MiB", arches=["x86-64"])
    assert f"rmapfast {rf.__version__}" in words(plot.overview(empty))


def test_results_put_together(comparison, tmp_path):
    rf.save(comparison, tmp_path / "a.json")
    both = rf.Comparison.of({"a.json": rf.load(tmp_path / "a.json"), "b": compared(orders=2)})
    text = words(plot.overview(both))
    assert "[1] a.json" in text and "[2] b" in text and "[2] v7.0" in text


@pytest.mark.parametrize("ending", MAGIC)
def test_files(comparison, tmp_path, ending):
    figure = plot.overview(comparison)
    for name in (f"one.{ending}", f"two.{ending.upper()}"):
        plot.save(figure, tmp_path / name)
    one, two = (path.read_bytes() for path in sorted(tmp_path.iterdir()))
    assert one.startswith(MAGIC[ending]) and one == two
    again = tmp_path / f"one.{ending}"
    plot.save(plot.components(comparison), again)
    assert again.read_bytes() != one
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", ["plot.jpg", "plot", "plot.png.txt", ".png"])
def test_other_endings(comparison, tmp_path, name):
    with pytest.raises(ValueError, match=r"plot: expected a file ending in \.png, \.svg, \.pdf, got "):
        plot.save(plot.components(comparison), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_nothing_is_half_written(comparison, tmp_path, monkeypatch, failing):
    figure, path = plot.components(comparison), tmp_path / "plot.svg"
    path.write_text("before")

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(f"os.{failing}", fail)
    with pytest.raises(OSError, match=r"No space left.*plot\.svg"):
        plot.save(figure, path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["plot.svg"] and path.read_text() == "before"


def test_without_matplotlib_or_display(tmp_path):
    """The package does without matplotlib until a plot is asked for, then names the extra; it never needs a display."""
    code = """
import sys
if sys.argv[1] == "missing":
    sys.modules["matplotlib"] = None
import rmapfast as rf
from rmapfast import plot
assert "matplotlib" not in sys.modules or sys.modules["matplotlib"] is None
comparison = rf.compare(rf.Population.synthetic("1MiB"), "1MiB", arches=["x86-64"])
try:
    plot.save(plot.overview(comparison), sys.argv[2])
except ImportError as error:
    print(error)
assert "matplotlib.pyplot" not in sys.modules
"""
    for kind, said in (("missing", "install it with: pip install 'rmapfast[plot]'"), ("there", "")):
        argv = [sys.executable, "-c", code, kind, str(tmp_path / f"{kind}.png")]
        environment = {"MPLBACKEND": "", "MPLCONFIGDIR": str(tmp_path / "config"), "PATH": ""}
        done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE, env=environment)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout and bool(said) == bool(done.stdout)
    assert (tmp_path / "there.png").read_bytes().startswith(MAGIC["png"]) and not (tmp_path / "missing.png").exists()
