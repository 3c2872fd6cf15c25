"""ROC, precision-recall and reliability curves as aggregates: on a fixed grid, without the thresholds behind them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
# The abscissa of every stored curve: false positive rate for ROC, recall for precision-recall.
GRID = np.linspace(0.0, 1.0, 81)
# Fewest rows above a threshold for a precision to be given: below it the value would describe single patients.
SMALLEST_GROUP = 10


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> Floats:
    """True positive rate at each false positive rate of GRID, linear between the thresholds.

    Args:
        labels: (N,) 0, 1 or NaN (left out).
        scores: (N,) probabilities.

    Returns:
        (81,), or (0,) with one class only or a missing score.
    """
    true, called = _tallies(labels, scores)
    if not len(true):
        return np.empty(0)
    false = called - true
    # Where the curve rises vertically np.interp takes its upper end.
    return np.asarray(np.interp(GRID, false / false[-1], true / true[-1]))


def precision_curve(labels: ArrayLike, scores: ArrayLike) -> Floats:
    """Precision at the first threshold that reaches each recall of GRID (steps, no interpolation).

    Args:
        labels: (N,) 0, 1 or NaN (left out).
        scores: (N,) probabilities.

    Returns:
        (81,), NaN where fewer than SMALLEST_GROUP rows are called positive; (0,) with one class or a missing score.
    """
    true, called = _tallies(labels, scores)
    if not len(true):
        return np.empty(0)
    # Recall of GRID is compared in counts, so that 0.3 of 10 positives is 3 and not 2.9999.
    at = np.maximum(1, np.searchsorted(true, np.round(GRID * true[-1], 9), side="left"))
    return np.where(called[at] >= SMALLEST_GROUP, true[at] / called[at], np.nan)


def reliability(labels: ArrayLike, scores: ArrayLike, *, bins: int = 10) -> list[dict[str, float]]:
    """Predicted against observed in bins of equal size by predicted probability; equal scores stay together.

    Args:
        labels: (N,) 0, 1 or NaN (left out).
        scores: (N,) probabilities.
        bins: most bins; fewer where many scores are equal.

    Returns:
        By bin `{n, positives, predicted, observed}`, lowest first; empty without rows or with a missing score.
    """
    truth, predicted = _known(labels, scores)
    if not len(truth) or np.isnan(predicted).any():
        return []
    edges = np.quantile(predicted, np.arange(1, bins) / bins, method="inverted_cdf")
    of_row = np.searchsorted(edges, predicted, side="left")
    members = [of_row == index for index in np.unique(of_row)]
    return [
        {
            "n": int(member.sum()),
            "positives": int(truth[member].sum()),
            "predicted": float(predicted[member].mean()),
            "observed": float(truth[member].mean()),
        }
        for member in members
    ]


def _tallies(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    """True positives and positive calls at each distinct score, highest first, after a leading (0, 0); or empty."""
    truth, predicted = _known(labels, scores)
    order = np.argsort(-predicted, kind="stable")
    falling, true = predicted[order], np.cumsum(truth[order] > 0)
    if np.isnan(falling).any() or not len(order) or true[-1] in (0, len(order)):
        return np.empty(0), np.empty(0)
    last = np.flatnonzero(np.diff(falling, append=-np.inf))
    return np.r_[0.0, true[last]], np.r_[0.0, last + 1.0]


def _known(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    """Labels and scores of the rows with a known label."""
    truth, predicted = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    known = ~np.isnan(truth)
    return truth[known], predicted[known]
