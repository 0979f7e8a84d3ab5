"""Non-negative least squares of costs, and all the values that explain the data as well.

A fit has parameters that share out to costs, ``costs = shares @ parameters``: several events with one parameter keep
their proportion, which comes from a stated source. Needs SciPy (``pip install 'rmapfast[fit]'``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Rows that the best fit explains better than this may be missed by as much in an equally good one: the repeats of
# the measurements scatter by about 1%.
SCATTER = 0.01

# How a prior value of a parameter counts: a deviation of 100% as a row's error of 2%. Among equally good fits a
# parameter may deviate by half.
PRIOR_WEIGHT = 0.02
PRIOR_SLACK = 0.5


@dataclass(frozen=True, eq=False)
class Fit:
    """Parameters and costs that explain measured rows.

    Parameters
    ----------
    parameters : ndarray, shape (parameters,)
    costs : ndarray, shape (costs,)
    errors : ndarray, shape (rows,)
        Relative error of each row, predicted / measured - 1.
    shares : ndarray, shape (costs, parameters)
    relative : ndarray, shape (rows, parameters)
        What one of each parameter adds to the relative prediction of a row.
    expected : ndarray, shape (parameters,)
        The prior, 0 where there is none.
    """

    parameters: np.ndarray
    costs: np.ndarray
    errors: np.ndarray
    shares: np.ndarray
    relative: np.ndarray
    expected: np.ndarray

    def as_good(self, scatter=SCATTER, *, directions: int = 24, seed: int = 0) -> np.ndarray:
        """Return vectors that explain the rows as well.

        Parameters
        ----------
        scatter : float or array_like, shape (rows,)
            Relative error that any such vector may have in a row, even where the fit does better.
        directions : int
            Random directions for vectors beyond those in which a single parameter is smallest or largest.
        seed : int

        Returns
        -------
        ndarray, shape (vectors, costs)
        """
        from scipy.optimize import linprog

        has_prior = self.expected > 0
        slack = np.maximum(np.abs(self.errors) * (1 + 1e-6) + 1e-9, scatter)
        deviation = np.maximum(np.abs(self.parameters / np.where(has_prior, self.expected, np.inf) - 1), PRIOR_SLACK)
        relative = np.concatenate([self.relative, np.diag(1 / np.where(has_prior, self.expected, np.inf))[has_prior]])
        slack = np.concatenate([slack, deviation[has_prior] * (1 + 1e-6)])
        bounds = np.concatenate([1 + slack, slack - 1])
        scale = np.where(self.parameters > 0, self.parameters, 1 / np.maximum(relative.max(axis=0), 1e-300))
        rows = np.concatenate([relative, -relative]) * scale

        def extreme(direction):
            found = linprog(direction, A_ub=rows, b_ub=bounds, bounds=(0, None), method="highs")
            return found.x * scale if found.status == 0 else self.parameters

        random = np.random.default_rng(seed).normal(size=(directions, len(self.parameters)))
        unit = np.eye(len(self.parameters))
        extremes = [extreme(direction) for direction in (*unit, *-unit, *random)]
        return np.unique(np.maximum(extremes, 0), axis=0) @ self.shares.T


def fit_costs(counts, measured, shares=None, *, weights=None, prior=None, prior_weight=PRIOR_WEIGHT) -> Fit:
    """Fit non-negative costs to measured rows by relative error.

    Parameters
    ----------
    counts : array_like, shape (rows, costs)
        How often each row's event occurs.
    measured : array_like, shape (rows,)
        Positive.
    shares : array_like, shape (costs, parameters), optional
        How a parameter shares out to costs; by default each cost is a parameter.
    weights : array_like, shape (rows,), optional
        Weight of a row's relative error.
    prior : array_like, shape (parameters,), optional
        What a parameter is expected to be (0: nothing is expected). It decides, gently, where the rows do not.
    prior_weight : float
        Of the relative deviation from it.

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
    counts, measured = np.asarray(counts, float), np.asarray(measured, float)
    shares = np.eye(counts.shape[1]) if shares is None else np.asarray(shares, float)
    if counts.shape != (len(measured), len(shares)):
        raise ValueError(f"counts: expected {len(measured)} rows of {len(shares)} events, got shape {counts.shape}")
    relative = counts @ shares / measured[:, None]
    weights = np.ones(len(measured)) if weights is None else np.asarray(weights, float)
    expected = np.zeros(shares.shape[1]) if prior is None else np.asarray(prior, float)
    expects = prior_weight * np.diag(1 / np.where(expected > 0, expected, np.inf))[expected > 0]
    parameters, _ = nnls(
        np.concatenate([relative * weights[:, None], expects]),
        np.concatenate([weights, np.full(len(expects), prior_weight)]),
    )
    return Fit(
        parameters=parameters,
        costs=shares @ parameters,
        errors=relative @ parameters - 1,
        shares=shares,
        relative=relative,
        expected=expected,
    )
