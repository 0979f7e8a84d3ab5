"""Sweeps: a space of points, where they are simulated, and what becomes of the numbers."""

from rmapfast.sweeps.dataset import document, load_document, load_file
from rmapfast.sweeps.executors import KINDS, SweepError
from rmapfast.sweeps.run import Prices, Sweep, sweep
from rmapfast.sweeps.sensitivity import Effect, Ranking
from rmapfast.sweeps.space import ASSUMPTIONS, Axis, Dimension, Space, from_text, parameter_of, parameters
from rmapfast.sweeps.tables import (
    View,
    chosen_steps,
    differences_table,
    heatmap_text,
    one_point,
    ranking_table,
    steps,
    summary,
    summary_text,
    title,
    value_of,
    view,
    where,
)

__all__ = [
    "ASSUMPTIONS",
    "KINDS",
    "Axis",
    "Dimension",
    "Effect",
    "Prices",
    "Ranking",
    "Space",
    "Sweep",
    "SweepError",
    "View",
    "chosen_steps",
    "differences_table",
    "document",
    "from_text",
    "heatmap_text",
    "load_document",
    "load_file",
    "one_point",
    "parameter_of",
    "parameters",
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
