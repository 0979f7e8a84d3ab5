"""Sweeps: a space of points, where they are simulated, and what becomes of the numbers."""

from rmapfast.sweeps.axes import Axis, Dimension, from_text
from rmapfast.sweeps.data import SweepData, SweepPoint
from rmapfast.sweeps.dataset import document
from rmapfast.sweeps.mean import Averaged
from rmapfast.sweeps.outputs import steps, title, value_of
from rmapfast.sweeps.parameter import ASSUMPTIONS, parameter_of
from rmapfast.sweeps.points import Record
from rmapfast.sweeps.prices import Prices
from rmapfast.sweeps.resuming import journal_path
from rmapfast.sweeps.run import Sweep, SweepMean, load_document, load_file, sweep
from rmapfast.sweeps.sensitivity import Effect, Ranking
from rmapfast.sweeps.space import Space
from rmapfast.sweeps.tables import cell, heatmap_text, one_point, summary, summary_text, where
from rmapfast.sweeps.tasks import SweepError
from rmapfast.sweeps.views import View, chosen_steps, view

__all__ = [
    "ASSUMPTIONS",
    "Averaged",
    "Axis",
    "Dimension",
    "Effect",
    "Prices",
    "Ranking",
    "Record",
    "Space",
    "Sweep",
    "SweepData",
    "SweepError",
    "SweepMean",
    "SweepPoint",
    "View",
    "cell",
    "chosen_steps",
    "document",
    "from_text",
    "heatmap_text",
    "journal_path",
    "load_document",
    "load_file",
    "one_point",
    "parameter_of",
    "steps",
    "summary",
    "summary_text",
    "sweep",
    "title",
    "value_of",
    "view",
    "where",
]
