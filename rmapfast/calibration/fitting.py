"""Non-negative least squares of costs, and draws of the costs that say how sure they are.

What is fitted are parameters, from which the costs follow: ``costs = shares @ parameters``. Events that share a
parameter keep a proportion that is given. Needs SciPy (``pip install 'rmapfast[fit]'``).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Relative error that a row has at least: the repeats of the measurements scatter by about 1%.
SCATTER = 0.01

# A deviation of 100% from the prior value of a parameter counts as much as an error of 2% in a row.
PRIOR_WEIGHT = 0.02
# Relative deviation of a parameter from its prior value, as a standard deviation of its logarithm.
PRIOR_SPREAD = 0.45
DRAWS = 100


@dataclass(frozen=True, eq=False)
class Fit:
    """Parameters and costs that explain measured rows.

    Parameters
    ----------
    parameters : ndarray of float64, shape (parameters,)
    costs : ndarray of float64, shape (costs,)
        ``shares @ parameters``.
    errors : ndarray of float64, shape (rows,)
        Relative error of each row, predicted / measured - 1.
    """

    parameters: npt.NDArray[np.float64]
    costs: npt.NDArray[np.float64]
    errors: npt.NDArray[np.float64]


class Rows:
    """Measured rows and what is known before: the arguments of a fit.

    Parameters
    ----------
    counts : array_like, shape (rows, costs)
        How often each row's event occurs.
    measured : array_like, shape (rows,)
        Positive.
    shares : array_like, shape (costs, parameters), optional
        Cost that one unit of each parameter gives; by default each cost is a parameter.
    given : array_like, shape (rows,), optional
        The part of each row's figure that known costs explain. Errors are relative to the whole figure.
    prior : array_like, shape (parameters,), optional
        Expected value of each parameter, 0 where there is none. It decides where the rows do not.
    prior_weight : float or array_like, shape (parameters,)
        Weight of a parameter's relative deviation from it.
    weights : array_like, shape (rows,), optional
        Weight of each row's relative error.

    Raises
    ------
    ValueError
        If the shapes do not fit together.
    """

    def __init__(
        self,
        counts: npt.ArrayLike,
        measured: npt.ArrayLike,
        shares: npt.ArrayLike | None = None,
        *,
        given: npt.ArrayLike | None = None,
        prior: npt.ArrayLike | None = None,
        prior_weight: npt.ArrayLike = PRIOR_WEIGHT,
        weights: npt.ArrayLike | None = None,
    ) -> None:
        events, self.measured = np.asarray(counts, np.float64), np.asarray(measured, np.float64)
        self.shares = np.eye(events.shape[1]) if shares is None else np.asarray(shares, np.float64)
        rows, parameters = len(self.measured), self.shares.shape[1]
        if events.shape != (rows, len(self.shares)):
            raise ValueError(f"counts: expected {rows} rows of {len(self.shares)} events, got shape {events.shape}")
        self.given = np.zeros(rows) if given is None else np.asarray(given, np.float64)
        self.prior = np.zeros(parameters) if prior is None else np.asarray(prior, np.float64)
        self.weights = np.ones(rows) if weights is None else np.asarray(weights, np.float64)
        self.prior_weight = np.broadcast_to(np.asarray(prior_weight, np.float64), parameters)
        # How much of each row's figure one unit of each parameter predicts, and how much they are to predict.
        self.relative = events @ self.shares / self.measured[:, None]
        self.wanted = 1 - self.given / self.measured

    def fit(self) -> Fit:
        """Fit non-negative costs to the rows by relative error.

        Returns
        -------
        Fit

        Raises
        ------
        ImportError
            If SciPy is not installed; the message has the pip command.
        """
        parameters = self._solve(self.wanted, self.weights, self.prior)
        return Fit(parameters, self.shares @ parameters, self.relative @ parameters - self.wanted)

    def draw(
        self,
        groups: Sequence[Hashable],
        *,
        scatter: float = SCATTER,
        spread: float = PRIOR_SPREAD,
        given: npt.ArrayLike | None = None,
        draws: int = DRAWS,
        seed: int = 0,
    ) -> npt.NDArray[np.float64]:
        """Draw costs that say how sure the fit is.

        Each draw is a fit of its own. The weights of the groups of rows are drawn anew (a Bayesian bootstrap), each
        figure is moved by the scatter of the rows, and each prior value by its spread.

        Parameters
        ----------
        groups : sequence, one per row
            Rows of the same design, which are drawn together.
        scatter : float
            Relative error that each row has at least; the errors of the fit are taken where they are larger.
        spread : float
            Relative deviation of a parameter from its prior value, as a standard deviation of its logarithm.
        given : array_like, shape (draws, rows), optional
            The part of each row's figure that known costs explain, where these are drawn too.
        draws : int
        seed : int

        Returns
        -------
        ndarray of float64, shape (draws, costs)
        """
        rng = np.random.default_rng(seed)
        given = np.broadcast_to(self.given, (draws, len(self.measured))) if given is None else np.asarray(given)
        names = {name: number for number, name in enumerate(dict.fromkeys(groups))}
        member = np.array([names[name] for name in groups])
        error = self.row_error(scatter)
        found = []
        for known in given:
            weights = self.weights * np.sqrt(rng.exponential(size=len(names)))[member]
            wanted = 1 - known / self.measured + error / self.weights * rng.normal(size=len(member))
            prior = self.prior * np.exp(spread * rng.normal(size=len(self.prior)) - spread**2 / 2)
            found.append(self.shares @ self._solve(wanted, weights, prior))
        return np.array(found)

    def row_error(self, scatter: float = SCATTER) -> float:
        """Return the relative error of a row: that of the fit, or the scatter if it is larger.

        Parameters
        ----------
        scatter : float
        """
        # What is far outside says little of the others.
        errors = self.weights * np.minimum(np.abs(self.fit().errors), 0.1)
        rows = float(np.sum(self.weights**2))
        # About half of the parameters are decided by the rows; where there are few rows no more than two in three.
        free = max(rows - len(self.prior) / 2, rows / 3)
        return max(scatter, float(np.sqrt(np.sum(errors**2) / free)))

    def _solve(
        self, wanted: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], prior: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """The parameters that explain the wanted part of each figure best."""
        try:
            from scipy.optimize import nnls
        except ImportError:
            raise ImportError("a fit needs SciPy; install it with: pip install 'rmapfast[fit]'") from None
        has = prior > 0
        # In units of the prior value, so that all columns are of about the same size.
        scale = np.where(has, prior, 1.0)
        expects = np.diag(self.prior_weight)[has]
        parameters, _ = nnls(
            np.concatenate([self.relative * scale * weights[:, None], expects]),
            np.concatenate([wanted * weights, expects.sum(axis=1)]),
            maxiter=100 * len(prior) + 1000,
        )
        return np.asarray(parameters * scale)
