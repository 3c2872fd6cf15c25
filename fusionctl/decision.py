"""Decision curves: what acting on a model is worth, against acting on all patients or on none (worth 0).

Net benefit counts a false positive as t / (1 - t) of a true positive, where t is the probability from which one would
act: who acts from 20 % on takes four needless actions for one needed (Vickers and Elkin, Med Decis Making 2006).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def net_benefit(labels: ArrayLike, scores: ArrayLike, thresholds: ArrayLike) -> Floats:
    """Net benefit per row of acting where the probability is at or above each threshold.

    Args:
        labels: (N,) 0, 1 or NaN (left out).
        scores: (N,) probabilities; NaN (no prediction) is left out.
        thresholds: (T,) above 0 and below 1.

    Returns:
        (T,), at most the prevalence; NaN without rows.

    Raises:
        ValueError: a threshold is not between 0 and 1.
    """
    limits = _checked(thresholds)
    truth, predicted = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    known = ~(np.isnan(truth) | np.isnan(predicted))
    falling = np.sort(-predicted[known])
    called = np.searchsorted(falling, -limits, side="right")
    true = np.searchsorted(np.sort(-predicted[known & (truth > 0)]), -limits, side="right")
    return _per_row(true, called - true, limits, int(known.sum()))


def treat_all(labels: ArrayLike, thresholds: ArrayLike) -> Floats:
    """Net benefit per row of acting on everyone; see `net_benefit`."""
    limits = _checked(thresholds)
    truth = np.asarray(labels, dtype=np.float64)
    positive, known = int((truth > 0).sum()), int((~np.isnan(truth)).sum())
    return _per_row(positive, known - positive, limits, known)


def _per_row(true: ArrayLike, false: ArrayLike, limits: Floats, n: int) -> Floats:
    if not n:
        return np.full(len(limits), np.nan)
    return np.asarray((np.asarray(true) - np.asarray(false) * limits / (1 - limits)) / n)


def _checked(thresholds: ArrayLike) -> Floats:
    limits = np.atleast_1d(np.asarray(thresholds, dtype=np.float64))
    if not ((limits > 0) & (limits < 1)).all():
        raise ValueError(f"thresholds must lie between 0 and 1, both left out; got {limits.tolist()}")
    return limits
