"""A cost vector as a problem: the rows that it explains, its parameters, and what is known before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from rmapfast import cost
from rmapfast.calibration import PRIOR_WEIGHT, SCATTER, Rows
from rmapfast.cost import Cost, CostVector
from rmapfast.events import EVENT_NAMES
from validation.rows import Row

# Costs that one parameter scales together.
Parameter = Mapping[str, float]

# Standard deviations from the middle to the bounds of the middle 90%.
SIGMAS = 1.645
SEED = 0


@dataclass(frozen=True)
class Problem:
    """One vector: the rows that it is fitted to, and its parameters.

    Parameters
    ----------
    name, unit, arch, build, source, note : str
    rows : tuple of Row
    parameters : tuple of dict
        Costs by event that one parameter scales together.
    prior : tuple of float
        Expected value of each parameter, 0 where there is none.
    prior_weight : tuple of float
        Weight of the relative deviation from it, by parameter.
    joint : tuple
        As in :class:`rmapfast.cost.CostVector`.
    known : tuple of Cost
        Costs that are given.
    scatter : float
        Relative error of a row that is no error of the model.
    spread : dict of str to float
        Relative error of single costs, besides the residual that all have.
    """

    name: str
    unit: str
    arch: str
    build: str
    source: str
    rows: tuple[Row, ...]
    parameters: tuple[Parameter, ...]
    prior: tuple[float, ...]
    prior_weight: tuple[float, ...]
    joint: tuple = ()
    known: tuple[Cost, ...] = ()
    note: str = ""
    scatter: float = SCATTER
    spread: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def events(self) -> list[str]:
        """The events that get a fitted cost: those that a row has."""
        found = (event for event in (*EVENT_NAMES, cost.TRACER) if any(event in shared for shared in self.parameters))
        return [event for event in found if any(count(row, event) for row in self.rows)]

    @property
    def designs(self) -> list[str]:
        """What each row was made of; rows of one design are left out together."""
        return [row.design for row in self.rows]

    def without(self, design: str) -> Problem:
        """The problem without the rows of a design."""
        return replace(self, rows=tuple(row for row in self.rows if row.design != design))

    def system(self) -> Rows:
        """The arguments of the fit."""
        return Rows(
            [[count(row, event) for event in self.all_events] for row in self.rows],
            [row.measured for row in self.rows],
            [[shared.get(event, 0.0) for shared in self.parameters] for event in self.all_events],
            given=self._given(np.array([[one.value for one in self.known]]))[0],
            prior=self.prior,
            prior_weight=self.prior_weight,
            weights=[row.weight for row in self.rows],
        )

    @cached_property
    def all_events(self) -> list[str]:
        """The events of all parameters, also of those that no row has: the prior has a cost for them."""
        return [event for event in (*EVENT_NAMES, cost.TRACER) if any(event in shared for shared in self.parameters)]

    def costs(self) -> dict[str, float]:
        """The fitted cost of each event."""
        return dict(zip(self.all_events, self.system().fit().costs.tolist(), strict=True))

    def _given(self, known: np.ndarray) -> np.ndarray:
        """The part of each row that known costs explain, for several sets of them (first axis)."""
        counts = np.array([[count(row, one.event) for one in self.known] for row in self.rows])
        return known @ counts.reshape(len(self.rows), len(self.known)).T

    def vector(self, residual: float, draws: int = 100, note: str = "") -> CostVector:
        """Return the fitted vector.

        Parameters
        ----------
        residual : float
            As in :class:`rmapfast.cost.CostVector`.
        draws : int
        note : str
            What is added to the note.
        """
        system, rng = self.system(), np.random.default_rng(SEED)
        known = drawn(self.known, draws, rng)
        members = system.draw(self.designs, scatter=self.scatter, given=self._given(known), draws=draws, seed=SEED)
        errors = [self.spread.get(event, 0.0) for event in self.all_events]
        members = np.column_stack([members * np.exp(errors * rng.normal(size=members.shape)), known])
        exact = [*system.fit().costs, *(one.value for one in self.known)]
        low, high = np.quantile(members, (0.05, 0.95), axis=0)
        low, high = np.minimum(low, exact), np.maximum(high, exact)
        costs = [
            Cost(event, *map(float, three), *self._origin(event))
            for event, *three in zip(
                self.all_events, *np.round([exact, low, high], 4)[:, : -len(self.known) or None], strict=True
            )
        ]
        return CostVector(
            name=self.name,
            unit=self.unit,
            arch=self.arch,
            build=self.build,
            note=" ".join(filter(None, (self.note, note))),
            residual=residual,
            costs=(*costs, *self.known),
            joint=self.joint,
            members=rounded(members),
        )

    def _origin(self, event: str) -> tuple[str, str]:
        """Kind and source of a cost."""
        if event not in self.events:
            return "assumed", "as in the vectors that the prior comes from; no row has it"
        shared = next(shared for shared in self.parameters if event in shared)
        if len(shared) == 1:
            return "fitted", self.source
        return "fitted", f"{self.source}; one parameter in fixed proportion with " + ", ".join(
            other for other in shared if other != event
        )


def count(row: Row, event: str) -> float:
    """How often an event, or a traced call, belongs to a row's figure."""
    return row.traced if event == cost.TRACER else float(row.counts[EVENT_NAMES.index(event)])


def drawn(costs: Sequence[Cost], draws: int, rng: np.random.Generator) -> np.ndarray:
    """Draws of given costs, with their bounds as those of the middle 90%: shape (draws, costs)."""
    normal = rng.normal(size=(draws, len(costs))) / SIGMAS
    value, low, high = (np.array([getattr(one, name) for one in costs]) for name in ("value", "low", "high"))
    return value * np.where(normal < 0, value / low, high / value) ** normal


def own(*events: str) -> list[Parameter]:
    """A parameter for each event."""
    return [{event: 1.0} for event in events]


def weights(parameters: Sequence[Parameter], vague: Mapping[str, float], weight: float = PRIOR_WEIGHT) -> list[float]:
    """The weight of each parameter's prior; `vague` has factors for the first event of some."""
    return [weight * vague.get(next(iter(shared)), 1.0) for shared in parameters]


def vector_of_draws(like: CostVector, value: np.ndarray, members: np.ndarray, kind: str, source: str) -> CostVector:
    """Return a vector with other costs.

    Parameters
    ----------
    like : CostVector
        Whose other fields it has.
    value : ndarray of float64, shape (len(EVENT_NAMES),)
    members : ndarray of float64, shape (draws, len(EVENT_NAMES))
    kind, source : str
        Of each cost.
    """
    used = np.flatnonzero((members > 0).any(axis=0))
    low, high = np.quantile(members, (0.05, 0.95), axis=0)
    bounds = (value, np.minimum(low, value), np.maximum(high, value))
    costs = (Cost(EVENT_NAMES[at], *(round(float(one[at]), 4) for one in bounds), kind, source) for at in used)
    return replace(like, costs=tuple(costs), members=rounded(members[:, used]))


def rounded(members: np.ndarray) -> tuple[tuple[float, ...], ...]:
    """Draws with four digits, as a vector keeps them."""
    return tuple(tuple(float(f"{value:.4g}") for value in member) for member in members)
