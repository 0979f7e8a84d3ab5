"""Sweeps: a space of points, where they are simulated, and what becomes of the numbers."""

from rmapfast.sweeps.axes import Axis, Dimension, from_text
from rmapfast.sweeps.data import SweepData
from rmapfast.sweeps.dataset import document
from rmapfast.sweeps.parameter import ASSUMPTIONS, parameter_of
from rmapfast.sweeps.points import Record
from rmapfast.sweeps.prices import Prices
from rmapfast.sweeps.resuming import journal_path
from rmapfast.sweeps.run import Sweep, load_document, load_file, sweep
from rmapfast.sweeps.sensitivity import Effect, Ranking
from rmapfast.sweeps.space import Space
from rmapfast.sweeps.tables import heatmap_text, one_point, ranking_table, summary, summary_text, where
from rmapfast.sweeps.tasks import SweepError
from rmapfast.sweeps.views import View, chosen_steps, steps, title, value_of, view

__all__ = [
    "ASSUMPTIONS",
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
    "View",
    "chosen_steps",
    "document",
    "from_text",
    "heatmap_text",
    "journal_path",
    "load_document",
    "load_file",
    "one_point",
    "parameter_of",
    "ranking_table",
    "steps",
    "summary",
    "summary_text",
    "sweep",
    "title",
    "value_of",
    "view",
    "where",
]
