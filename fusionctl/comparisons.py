"""Tests of differences: Holm's correction over labels, and DeLong's test of two AUROCs as a cross-check."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def holm(p: Sequence[float]) -> list[float]:
    """P values corrected for testing several hypotheses at once (Holm, Scand J Stat 1979, step-down).

    Args:
        p: one a hypothesis; NaN is no test: it stays NaN and does not count.

    Returns:
        The corrected values in the same order, at most 1.
    """
    given = np.asarray(p, dtype=np.float64)
    corrected = np.full(len(given), np.nan)
    tested = np.flatnonzero(~np.isnan(given))
    order = tested[np.argsort(given[tested], kind="stable")]
    steps = given[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return corrected.tolist()


def resamples_for(family: int) -> int:
    """Fewest resamples R with which 2 / (R + 1), the smallest p, is below 0.05 after Holm's correction of a family."""
    return 40 * family


def delong(labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike) -> dict[str, float]:
    """Compare the AUROCs of two models on the same rows (DeLong et al., Biometrics 1988).

    Computed from midranks in O(N log N) (Sun and Xu, IEEE Signal Process Lett 2014). It treats rows as independent,
    which several stays of one patient are not: a cross-check of the bootstrap over patients, not its substitute.

    Args:
        labels: (N,) 0, 1 or NaN (left out).
        scores_a: (N,) of the first model.
        scores_b: (N,) of the second.

    Returns:
        `{difference, se, z, p}`: AUROC of a minus that of b, its standard error, difference / se, two-sided p. All
        NaN with fewer than two rows of a class or a missing score; equal rankings have z 0 and p 1.
    """
    truth = np.asarray(labels, dtype=np.float64)
    scores = np.stack([np.asarray(scores_a, dtype=np.float64), np.asarray(scores_b, dtype=np.float64)])
    known = ~np.isnan(truth)
    positive, scores = truth[known] > 0, scores[:, known]
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if min(n_positive, n_negative) < 2 or np.isnan(scores).any():
        return dict.fromkeys(("difference", "se", "z", "p"), math.nan)
    above, below = zip(*(_placements(each, positive) for each in scores), strict=True)
    area = np.mean(above, axis=1)
    covariance = np.cov(above) / n_positive + np.cov(below) / n_negative
    difference = float(area[0] - area[1])
    se = math.sqrt(max(0.0, float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])))
    z = difference / se if se > 0 else math.copysign(math.inf, difference) if difference else 0.0
    return {"difference": difference, "se": se, "z": z, "p": math.erfc(abs(z) / math.sqrt(2))}


def _placements(scores: Floats, positive: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Of each positive the share of negatives below it, of each negative that of positives above; ties half."""
    ranks = _midranks(scores)
    n_positive, n_negative = positive.sum(), (~positive).sum()
    above = (ranks[positive] - _midranks(scores[positive])) / n_negative
    below = 1 - (ranks[~positive] - _midranks(scores[~positive])) / n_positive
    return above, below


def _midranks(values: Floats) -> Floats:
    """Ranks from 1; equal values share the middle of their ranks."""
    _, group, size = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(size) - (size - 1) / 2)[group]
