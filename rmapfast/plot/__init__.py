"""Figures of results, each with units and a caption from which the run can be repeated.

Each function returns a :class:`matplotlib.figure.Figure`; :func:`save` writes one as .png, .svg or .pdf. With ``ax=``
it draws into axes of yours, without a caption, and returns them. Colours are those of Okabe and Ito, which colour-blind
readers can tell apart; ``style="print"`` has greys and hatches alone. matplotlib (``pip install 'rmapfast[plot]'``) is
imported when the first figure is drawn. No figure needs a display.

Examples
--------
>>> import rmapfast as rf
>>> comparison = rf.compare(rf.Population.synthetic("4MiB"), "2MiB", arches=["x86-64"])
>>> figure = rf.plot.overview(comparison)
>>> rf.plot.save(figure, "overview.png")  # doctest: +SKIP
"""

from rmapfast.plot.contents import description
from rmapfast.plot.heatmap import ranking, sweep
from rmapfast.plot.orders import by_order
from rmapfast.plot.runs import batch_lengths, components, overview
from rmapfast.plot.saving import ENDINGS, check_path, save, svg_of
from rmapfast.plot.style import require_matplotlib

__all__ = [
    "ENDINGS",
    "batch_lengths",
    "by_order",
    "check_path",
    "components",
    "description",
    "overview",
    "ranking",
    "require_matplotlib",
    "save",
    "svg_of",
    "sweep",
]
