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


@dataclass(frozen=True)
class Fit:
    """Parameters and costs that explain measured rows.

    Parameters
    ----------
    parameters : ndarray, shape (parameters,)
    costs, low, high : ndarray, shape (costs,)
        Best values, and the smallest and largest among all that explain the rows as well.
    members : ndarray, shape (members, costs)
        Such vectors: for each parameter the two in which it is smallest and largest, and further extreme ones.
    errors : ndarray, shape (rows,)
        Relative error of each row, predicted / measured - 1.
    """

    parameters: np.ndarray
    costs: np.ndarray
    low: np.ndarray
    high: np.ndarray
    members: np.ndarray
    errors: np.ndarray


def fit(
    counts,
    measured,
    shares=None,
    *,
    weights=None,
    prior=None,
    prior_weight=PRIOR_WEIGHT,
    scatter=SCATTER,
    directions: int = 24,
    seed: int = 0,
) -> Fit:
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
    scatter : float or array_like, shape (rows,)
        Relative error of a row that any equally good vector may have.
    directions : int
        Random directions for members beyond those of the single parameters.
    seed : int

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
        from scipy.optimize import linprog, nnls
    except ImportError:
        raise ImportError("a fit needs SciPy; install it with: pip install 'rmapfast[fit]'") from None
    counts, measured = np.asarray(counts, float), np.asarray(measured, float)
    shares = np.eye(counts.shape[1]) if shares is None else np.asarray(shares, float)
    if counts.shape != (len(measured), len(shares)):
        raise ValueError(f"counts: expected {len(measured)} rows of {len(shares)} events, got shape {counts.shape}")
    relative = counts @ shares / measured[:, None]
    weights = np.ones(len(measured)) if weights is None else np.asarray(weights, float)
    slack = np.broadcast_to(np.asarray(scatter, float), len(measured))
    expected = np.zeros(shares.shape[1]) if prior is None else np.asarray(prior, float)
    expects = np.diag(1 / np.where(expected > 0, expected, np.inf))[expected > 0]
    relative = np.concatenate([relative, expects])
    weights = np.concatenate([weights, np.full(len(expects), prior_weight)])
    slack = np.concatenate([slack, np.full(len(expects), PRIOR_SLACK)])
    parameters, _ = nnls(relative * weights[:, None], weights)
    errors = relative @ parameters - 1
    slack = np.maximum(np.abs(errors) * (1 + 1e-9) + 1e-12, slack)
    bounds = np.concatenate([1 + slack, slack - 1])
    scale = np.where(parameters > 0, parameters, 1 / np.maximum(relative.max(axis=0), 1e-300))
    rows = np.concatenate([relative, -relative]) * scale

    def extreme(direction):
        found = linprog(direction, A_ub=rows, b_ub=bounds, bounds=(0, None), method="highs")
        return found.x * scale if found.status == 0 else parameters

    rng = np.random.default_rng(seed)
    unit = np.eye(len(parameters))
    extremes = [extreme(direction) for direction in (*unit, *-unit, *rng.normal(size=(directions, len(parameters))))]
    members = np.unique(np.maximum(extremes, 0), axis=0) @ shares.T
    costs = shares @ parameters
    return Fit(
        parameters=parameters,
        costs=costs,
        low=np.minimum(costs, members.min(axis=0)),
        high=np.maximum(costs, members.max(axis=0)),
        members=members,
        errors=errors[: len(measured)],
    )
