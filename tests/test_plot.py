"""Figures: what they show adds up, nothing overlaps, captions say where they are from, files are whole or not there."""

import errno
import itertools
import subprocess
import sys

import matplotlib
import numpy as np
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


@pytest.mark.parametrize("name", style.STYLES)
def test_fills_differ(name):
    """Each component and each policy of a panel looks different; in print no fill has a colour."""
    comparison = compared(5, **MIXED)
    for kind in (plot.components, plot.batch_lengths):
        for ax in axes(kind(comparison, style=name)):
            looks = set()
            for bar in bars(ax):
                looks.add((bar.get_facecolor(), bar.get_hatch()))
                assert name != "print" or len(set(bar.get_facecolor()[:3])) == 1
            assert kind != plot.batch_lengths or len(looks) == 5
    fills = [tuple(style.Look(name).fill(place).items()) for place in range(len(rf.events.COMPONENTS))]
    assert len(set(fills)) == len(fills)


# What a reader with one kind of cone less sees of linear RGB (Vienot, Brettel and Mollon, 1999).
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]),
    "deuteranopia": np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]),
}


def lab(colour):
    """A colour of linear RGB in CIELAB, where distances are what an eye sees."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(colour, 0, 1) / [0.9505, 1, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("blindness", BLINDNESS)
@pytest.mark.parametrize("what", ["fills", "lines"])
def test_colours_can_be_told_apart(what, blindness):
    """Of fills without a hatch, and of lines that are solid, no two look alike: 2 is what an eye just sees."""
    look = style.Look("colour")
    if what == "fills":
        fills = [look.fill(place) for place in range(style.NR_FILLS)]
        colours = [one["facecolor"] for one in fills if not one["hatch"]]
    else:
        colours = [look.stroke(place, 7)["color"] for place in range(7)]
        assert {look.stroke(place, 7)["linestyle"] for place in range(7)} == {"-"}
    assert len(colours) > 6
    rgb = np.array([matplotlib.colors.to_rgb(one) for one in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = [lab(BLINDNESS[blindness] @ one) for one in linear]
    for (one, here), (other, there) in itertools.combinations(zip(colours, seen, strict=True), 2):
        assert np.linalg.norm(here - there) > 10, f"{one} and {other} look alike"


def test_text_on_a_colour_can_be_read():
    """The luminances of text and ground differ by a factor of 4.5, as WCAG asks, on every shade of a heatmap."""
    for name in style.STYLES:
        shades = style.Look(name).shades()
        for place in np.linspace(0, 1, 50):
            ground = np.array(shades(place)[:3])
            ink = np.array(matplotlib.colors.to_rgb(style.contrast(ground)))
            light, dark = sorted(
                (
                    float([0.2126, 0.7152, 0.0722] @ np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4))
                    for c in (ground, ink)
                ),
                reverse=True,
            )
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, place)


def test_another_style_is_refused(comparison):
    with pytest.raises(ValueError, match=r"style: expected one of colour, print, got 'prnt' \(did you mean 'print'"):
        plot.components(comparison, style="prnt")


# Axes of a user


def swept(**more):
    return rf.sweep({"population.order": [0, 4, 9], "policy": ["v6.16", "v7.0"], "population.size": "8MiB", **more})


def given(kind):
    """A function that draws into axes, and the number of panels that it has."""
    comparison = compared(2)
    population = rf.Population.synthetic("4MiB", orders="0:1,4:1", holes=0.1)
    described = rf.describe(population)
    return {
        "components": (lambda **to: plot.components(comparison, **to), 2),
        "batch_lengths": (lambda **to: plot.batch_lengths(comparison, **to), 2),
        "overview": (lambda **to: plot.overview(comparison, **to), 4),
        "by_order": (lambda **to: plot.by_order({4: comparison}, **to), 2),
        "sweep": (lambda **to: plot.sweep(swept(), **to), 1),
        "heatmap": (lambda **to: plot.sweep(swept(**{"population.young": [0.1, 0.9]}), **to), 1),
        "ranking": (lambda **to: plot.ranking(swept(**{"population.young": [0.1, 0.9]}), **to), 2),
        "description": (lambda **to: plot.description(population, described, **to), 3),
    }[kind]


KINDS = ("components", "batch_lengths", "overview", "by_order", "sweep", "heatmap", "ranking", "description")


@pytest.mark.parametrize("kind", KINDS)
def test_axes_of_a_user(kind):
    """A figure draws into the axes that it is given, returns them, and refuses another number of them."""
    draw, panels = given(kind)
    figure = matplotlib.figure.Figure()
    mine = figure.subplots(panels, 1, squeeze=False)[:, 0] if panels > 1 else figure.subplots()
    assert draw(ax=mine) is mine
    flat = list(np.ravel(mine))
    assert all(one.has_data() and one.get_xlabel() for one in flat)
    assert f"rmapfast {rf.__version__}" not in words(figure)
    figure.draw_without_rendering()
    other = matplotlib.figure.Figure().subplots(panels + 1, 1)
    with pytest.raises(ValueError, match=rf"ax: expected .* axes, .*, got {panels + 1}"):
        draw(ax=other)
    for nonsense in (1, "ax", [None], figure):
        with pytest.raises(TypeError, match="ax: expected matplotlib axes, got"):
            draw(ax=nonsense)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", style.STYLES)
def test_styles(kind, name):
    """In print every fill, line and shade is a grey; in colour some are not."""
    figure = given(kind)[0](style=name)
    colours = [patch.get_facecolor() for patch in every(matplotlib.patches.Patch, figure)]
    for line in every(matplotlib.lines.Line2D, figure):
        shown = line.get_markeredgecolor() if line.get_linestyle() == "None" else line.get_color()
        colours.append(matplotlib.colors.to_rgba(shown))
    colours += [one for some in every(matplotlib.collections.Collection, figure) for one in some.get_facecolor()]
    for image in every(matplotlib.image.AxesImage, figure):
        colours += [image.cmap(image.norm(value)) for value in np.ravel(image.get_array())]
    coloured = [one for one in colours if len(set(one[:3])) > 1 and one[3]]
    assert bool(coloured) == (name == "colour")


def test_lines_that_are_drawn_later_look_different():
    found = swept(**{"population.young": [0.1, 0.9]})
    for draw in (
        lambda ax: [plot.sweep(found.sel({"population.young": young}), ax=ax) for young in (0.1, 0.9)],
        lambda ax: [plot.by_order({4: compared(1, ["x86-64"])}, ax=ax) for _ in range(2)],
    ):
        ax = matplotlib.figure.Figure().subplots()
        draw(ax)
        handles = ax.get_legend_handles_labels()[0]
        lines = [getattr(handle, "lines", [handle])[0] for handle in handles]
        assert len({line.get_color() for line in lines}) == len(lines) == 2


# Error bars


@pytest.mark.parametrize("quantiles", [None, (0.25, 0.75)])
def test_error_bars_over_seeds(quantiles):
    found = swept(**{"population.seed": [1, 2, 3, 4], "population.holes": 0.1})
    mean = found.mean("population.seed", quantiles=quantiles)
    for figure in (plot.sweep(mean), plot.sweep(mean, value="per_page", at={"policy": "v7.0"})):
        assert "mean over 4 steps of population.seed" in words(figure)
    output = mean.output("per_page")
    (ax,) = axes(figure)
    (bar,) = ax.containers
    line, _, (segments,) = bar
    assert list(line.get_ydata()) == pytest.approx(output.values[:, 1])
    ends = [segment[:, 1] for segment in segments.get_segments()]
    assert ends == [pytest.approx([low, high]) for low, high in zip(output.low[:, 1], output.high[:, 1], strict=True)]
    assert mean.bounds in ax.get_ylabel()


def test_heatmaps_of_means_show_the_bounds():
    more = {"population.seed": [1, 2, 3], "population.holes": [0.05, 0.2]}
    figure = plot.sweep(swept(**more).mean("population.seed"))
    assert words(figure).count("\N{PLUS-MINUS SIGN}") == 6


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
    fills = [(fill["facecolor"], fill["hatch"]) for fill in component_fills(mixed, style.Look("print")).values()]
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


def test_a_notebook_shows_a_figure(comparison):
    """IPython asks an object that has no printer of its own for `_repr_png_`."""
    figure = plot.overview(comparison)
    assert figure._repr_png_().startswith(b"\x89PNG\r\n\x1a\n")


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
