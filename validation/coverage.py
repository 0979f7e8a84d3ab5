"""How often an interval holds a figure that was not used: each design is left out of a fit and predicted by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rmapfast.cost import LEVEL, CostVector, Range
from validation.problem import Problem
from validation.rows import Row

# Residuals that are tried, and how many draws the fit of a left-out design has.
RESIDUALS = tuple(np.round(np.arange(0.0, 0.305, 0.01), 3).tolist())
_DRAWS = 60
# A vector tests itself from so many designs on.
ENOUGH = 10


@dataclass(frozen=True, eq=False)
class LeftOut:
    """A row as a fit without its design predicts it.

    Parameters
    ----------
    row : Row
    ranges : tuple of Range
        The prediction with each of :data:`RESIDUALS`.
    """

    row: Row
    ranges: tuple[Range, ...]

    @property
    def error(self) -> float:
        """Relative error of the prediction."""
        return self.ranges[0].value / self.row.measured - 1

    @property
    def inside(self) -> np.ndarray:
        """Whether the interval holds the figure, by residual."""
        return np.array([one.low <= self.row.measured <= one.high for one in self.ranges])

    def width(self, residual: float) -> float:
        """Relative width of the interval."""
        found = self.ranges[RESIDUALS.index(residual)]
        return (found.high - found.low) / found.value


def left_out(problem: Problem, fold: Callable[[str], Problem]) -> list[LeftOut]:
    """Leave out each design of a problem in turn.

    Parameters
    ----------
    problem : Problem
    fold : callable
        The problem without a design, its prior included.
    """
    found = []
    for design in dict.fromkeys(problem.designs):
        vector = fold(design).vector(0.0, _DRAWS)
        tried = [replace(vector, residual=residual) for residual in RESIDUALS]
        for row in problem.rows:
            if row.design == design:
                found.append(LeftOut(row, tuple(row.range(one) for one in tried)))
    return found


def calibrated(rows: Sequence[LeftOut]) -> float:
    """Return the smallest residual with which the intervals hold the share of the rows that they state."""
    held = np.mean([row.inside for row in rows], axis=0)
    enough = np.flatnonzero(held >= LEVEL)
    return RESIDUALS[int(enough[0]) if len(enough) else -1]


def held(rows: Sequence[LeftOut], peers: Sequence[LeftOut], least: float = 0.0) -> list[tuple[bool, float]]:
    """Return of each row whether its interval holds it, and how wide it is, with the residual that others give.

    Parameters
    ----------
    rows : sequence of LeftOut
    peers : sequence of LeftOut
        Those from which the residual comes; those of the row's own design and vector are left out.
    least : float
        The residual is not below this one.
    """
    found = []
    for row in rows:
        own = row.row.vector, row.row.design
        residual = max(calibrated([one for one in peers if (one.row.vector, one.row.design) != own]), least)
        found.append((bool(row.inside[RESIDUALS.index(residual)]), row.width(residual)))
    return found


def classic_designs(problem: Problem) -> set[str]:
    """The designs whose rows say how sure a vector is: those under the classic LRU."""
    return {row.design for row in problem.rows if row.lists == "classic"}


def tests_itself(problem: Problem) -> bool:
    """Whether a vector has rows of enough designs."""
    return len(classic_designs(problem)) >= ENOUGH


def inside(row: Row, vector: CostVector) -> bool:
    """Whether the interval of a vector holds a row."""
    found = row.range(vector)
    return found.low <= row.measured <= found.high
