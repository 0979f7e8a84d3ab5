"""Non-negative least squares of costs, and further costs that explain the data as well.

What is fitted are parameters, from which the costs follow: ``costs = shares @ parameters``. Events that share a
parameter keep a proportion that is given. Needs SciPy (``pip install 'rmapfast[fit]'``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Relative error of a row that any equally good fit may have, even where the best one explains the row better: the
# repeats of the measurements scatter by about 1%.
SCATTER = 0.01

# A deviation of 100% from the prior value of a parameter counts as much as an error of 2% in a row.
PRIOR_WEIGHT = 0.02
# Relative deviation from its prior value that a parameter may have in any equally good fit.
_PRIOR_SLACK = 0.5


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
    shares : ndarray of float64, shape (costs, parameters)
    relative : ndarray of float64, shape (rows, parameters)
        How much of a row's figure one unit of each parameter predicts.
    expected : ndarray of float64, shape (parameters,)
        The prior, 0 where there is none.
    """

    parameters: npt.NDArray[np.float64]
    costs: npt.NDArray[np.float64]
    errors: npt.NDArray[np.float64]
    shares: npt.NDArray[np.float64]
    relative: npt.NDArray[np.float64]
    expected: npt.NDArray[np.float64]

    def as_good(
        self, scatter: npt.ArrayLike = SCATTER, *, directions: int = 24, seed: int = 0
    ) -> npt.NDArray[np.float64]:
        """Return costs that explain the rows as well.

        Parameters
        ----------
        scatter : float or array_like, shape (rows,)
            Relative error that any such vector may have in a row, even where the fit does better.
        directions : int
            Number of random directions. The vectors are those that lie farthest in one of them, and those in which one
            parameter is smallest or largest.
        seed : int
            Of the random directions.

        Returns
        -------
        ndarray of float64, shape (vectors, costs)
        """
        from scipy.optimize import linprog

        has_prior = self.expected > 0
        slack = np.maximum(np.abs(self.errors) * (1 + 1e-6) + 1e-9, scatter)
        deviation = np.maximum(np.abs(self.parameters / np.where(has_prior, self.expected, np.inf) - 1), _PRIOR_SLACK)
        relative = np.concatenate([self.relative, np.diag(1 / np.where(has_prior, self.expected, np.inf))[has_prior]])
        slack = np.concatenate([slack, deviation[has_prior] * (1 + 1e-6)])
        bounds = np.concatenate([1 + slack, slack - 1])
        scale = np.where(self.parameters > 0, self.parameters, 1 / np.maximum(relative.max(axis=0), 1e-300))
        rows = np.concatenate([relative, -relative]) * scale

        def extreme(direction: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            """The equally good parameters that lie farthest against a direction."""
            found = linprog(direction, A_ub=rows, b_ub=bounds, bounds=(0, None), method="highs")
            return np.asarray(found.x * scale) if found.status == 0 else self.parameters

        random = np.random.default_rng(seed).normal(size=(directions, len(self.parameters)))
        unit = np.eye(len(self.parameters))
        extremes = [extreme(direction) for direction in (*unit, *-unit, *random)]
        return np.asarray(np.unique(np.maximum(extremes, 0), axis=0) @ self.shares.T)


def fit_costs(
    counts: npt.ArrayLike,
    measured: npt.ArrayLike,
    shares: npt.ArrayLike | None = None,
    *,
    weights: npt.ArrayLike | None = None,
    prior: npt.ArrayLike | None = None,
    prior_weight: float = PRIOR_WEIGHT,
) -> Fit:
    """Fit non-negative costs to measured rows by relative error.

    Parameters
    ----------
    counts : array_like, shape (rows, costs)
        How often each row's event occurs.
    measured : array_like, shape (rows,)
        Positive.
    shares : array_like, shape (costs, parameters), optional
        Cost that one unit of each parameter gives; by default each cost is a parameter.
    weights : array_like, shape (rows,), optional
        Weight of a row's relative error.
    prior : array_like, shape (parameters,), optional
        Expected value of each parameter, 0 where there is none. It decides where the rows do not.
    prior_weight : float
        Weight of a parameter's relative deviation from it.

    Returns
    -------
    Fit

    Raises
    ------
    ImportError
        If SciPy is not installed; the message has the pip command.
    ValueError
        If the shapes do not fit together.
    """
    try:
        from scipy.optimize import nnls
    except ImportError:
        raise ImportError("a fit needs SciPy; install it with: pip install 'rmapfast[fit]'") from None
    events, figures = np.asarray(counts, np.float64), np.asarray(measured, np.float64)
    share = np.eye(events.shape[1]) if shares is None else np.asarray(shares, np.float64)
    if events.shape != (len(figures), len(share)):
        raise ValueError(f"counts: expected {len(figures)} rows of {len(share)} events, got shape {events.shape}")
    relative = events @ share / figures[:, None]
    weight = np.ones(len(figures)) if weights is None else np.asarray(weights, np.float64)
    expected = np.zeros(share.shape[1]) if prior is None else np.asarray(prior, np.float64)
    expects = prior_weight * np.diag(1 / np.where(expected > 0, expected, np.inf))[expected > 0]
    parameters, _ = nnls(
        np.concatenate([relative * weight[:, None], expects]),
        np.concatenate([weight, np.full(len(expects), prior_weight)]),
    )
    return Fit(
        parameters=parameters,
        costs=share @ parameters,
        errors=relative @ parameters - 1,
        shares=share,
        relative=relative,
        expected=expected,
    )
