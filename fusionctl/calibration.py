"""Whether probabilities mean what they say: Brier score, calibration error, recalibration, temperature.

Rows without a known label or without a prediction are left out. Probabilities within EDGE of 0 or 1 are taken as EDGE
or 1 - EDGE wherever a logit is needed: that of 0 or 1 is infinite.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusionctl import resampling
from fusionctl.curves import reliability
from fusionctl.intervals import Bootstrap, mean_of_known

Floats = NDArray[np.float64]
EDGE = 1e-6
BINS = 10
COOLEST, HOTTEST = 0.01, 100.0  # temperatures looked at
_STEPS = 50  # of Newton's method; it needs about six
_FLAT = 1e-10  # gradient per row at which it has arrived


def calibration(labels: ArrayLike, scores: ArrayLike) -> dict[str, float]:
    """Summaries of calibration of one label.

    Args:
        labels: (N,) 0, 1 or NaN.
        scores: (N,) probabilities or NaN.

    Returns:
        brier: mean squared error of the probability (Brier, Mon Weather Rev 1950).
        ece: expected calibration error over BINS bins of equal count, equal scores together (Guo et al., ICML 2017).
        slope, intercept: of the logistic recalibration logit(observed) = intercept + slope * logit(predicted) (Cox,
            Biometrika 1958); 1 and 0 for a calibrated model, a slope below 1 for an overconfident one.
        in_the_large: the intercept with the slope held at 1: above 0 where events are more frequent than predicted.
        The last three are NaN with one class, with one probability only (slope, intercept), or where classes part
        without error; all are NaN without rows.
    """
    truth, predicted = _known(labels, scores)
    if not len(truth):
        return dict.fromkeys(("brier", "ece", "slope", "intercept", "in_the_large"), math.nan)
    bins = reliability(truth, predicted, bins=BINS)
    gaps = [each["n"] * abs(each["observed"] - each["predicted"]) for each in bins]
    logits = _logit(predicted)
    slope, intercept = _recalibrate(truth, logits)
    return {
        "brier": float(np.mean((predicted - truth) ** 2)),
        "ece": sum(gaps) / len(truth),
        "slope": slope,
        "intercept": intercept,
        "in_the_large": _newton(truth, np.ones((len(truth), 1)), logits)[0],
    }


def temperature(labels: ArrayLike, scores: ArrayLike) -> float:
    """The temperature T whose probabilities sigmoid(logit / T) have the least log loss (Guo et al., ICML 2017).

    To be fitted on validation rows. The loss is convex in 1 / T, so its derivative is bisected.

    Args:
        labels: (N,) 0, 1 or NaN.
        scores: (N,) probabilities or NaN.

    Returns:
        T above 0: over 1 tempers an overconfident model. Kept within COOLEST and HOTTEST, which are reached where a
        model is always right, or no better than chance. NaN with one class only.
    """
    truth, predicted = _known(labels, scores)
    if not len(truth) or truth.min() == truth.max():
        return math.nan
    logits = _logit(predicted)
    low, high = math.log(1 / HOTTEST), math.log(1 / COOLEST)  # of 1 / T
    for _ in range(60):
        middle = (low + high) / 2
        if float(logits @ (_sigmoid(math.exp(middle) * logits) - truth)) <= 0:
            low = middle
        else:
            high = middle
    return math.exp(-(low + high) / 2)


def rescale(scores: ArrayLike, temperature: float) -> Floats:
    """Probabilities (any shape) at a temperature: sigmoid(logit / temperature). NaN stays, and makes all NaN as T.

    Raises:
        ValueError: the temperature is not above 0.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0; got {temperature}")
    return _sigmoid(_logit(np.asarray(scores, dtype=np.float64)) / temperature)


def brier_bootstrap(
    labels: ArrayLike,
    probabilities: ArrayLike,
    patients: ArrayLike,
    *,
    resamples: int = 1000,
    seed: int | tuple[int, ...] = 0,
) -> Bootstrap:
    """Brier scores of models on the data and on the resamples that `metrics.bootstrap` draws.

    Args:
        labels: (N, K) 0, 1 or NaN (left out for that label).
        probabilities: (M, N, K); NaN is left out for that model, other than for METRICS.
        patients: (N,) any identifier.
        resamples: number of resamples R.
        seed: the same seed, patients and R give the same resamples.

    Returns:
        A Bootstrap with the one metric "brier"; the mean over labels is that of the labels with rows.
    """
    truth, stack = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    people, columns = np.unique(np.asarray(patients), return_inverse=True)
    error = (stack - truth) ** 2
    sums = np.zeros((2, len(people), len(stack), truth.shape[1]))  # of errors and of rows, by patient
    np.add.at(sums[0], columns, np.nan_to_num(error).transpose(1, 0, 2))
    np.add.at(sums[1], columns, ~np.isnan(error).transpose(1, 0, 2))
    flat = sums.transpose(1, 0, 2, 3).reshape(len(people), -1)
    blocks = resampling.resample(len(people), resamples, seed)
    drawn = np.concatenate([block.T.astype(np.float64) @ flat for block in blocks])[: resamples + 1]
    scores = _brier(drawn.reshape(-1, 2, *sums.shape[2:]))
    total = sums.sum(axis=1)
    return Bootstrap(scores[0], scores[1:], ("brier",), lambda: _brier((total[:, None] - sums).transpose(1, 0, 2, 3)))


def _brier(sums: Floats) -> Floats:
    """(R, M, K + 1, 1) scores from (R, 2, M, K) sums of squared errors and of rows; the last label is the mean."""
    with np.errstate(invalid="ignore"):
        by_label = np.where(sums[:, 1] > 0, sums[:, 0] / sums[:, 1], np.nan)
    return np.concatenate([by_label, mean_of_known(by_label, axis=2)[:, :, None]], axis=2)[..., None]


def _recalibrate(truth: Floats, logits: Floats) -> tuple[float, float]:
    """Slope and intercept of the logistic regression of the label on the logit; NaN where neither is finite."""
    positive, negative = logits[truth > 0], logits[truth <= 0]
    # With classes that do not overlap the likelihood grows for ever; with one logit no slope is better than another.
    if not len(positive) or not len(negative) or np.ptp(logits) == 0:
        return math.nan, math.nan
    if positive.min() >= negative.max() or positive.max() <= negative.min():
        return math.nan, math.nan
    slope, intercept = _newton(truth, np.stack([logits, np.ones_like(logits)], axis=1), np.zeros_like(logits))
    return slope, intercept


def _newton(truth: Floats, design: Floats, offset: Floats) -> list[float]:
    """Coefficients of the logistic regression of (N,) labels on the (N, p) design, with a fixed (N,) offset.

    Newton's method with halved steps; NaN where there is no finite optimum.
    """
    found = np.zeros(design.shape[1])
    nothing = [math.nan] * len(found)
    if truth.min() == truth.max():
        return nothing
    loss = _log_loss(truth, offset)
    for _ in range(_STEPS):
        chance = _sigmoid(offset + design @ found)
        gradient = design.T @ (chance - truth)
        if np.abs(gradient).max() <= _FLAT * len(truth):
            return found.tolist()
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design
        if np.linalg.cond(curvature) > 1e12:
            return nothing
        step = np.linalg.solve(curvature, gradient)
        while (worse := _log_loss(truth, offset + design @ (found - step))) > loss and np.abs(step).max() > 1e-12:
            step /= 2
        found, loss = found - step, worse
    return nothing


def _log_loss(truth: Floats, logits: Floats) -> float:
    return float(np.sum(np.logaddexp(0.0, logits) - truth * logits))


def _sigmoid(logits: Floats) -> Floats:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)))


def _logit(scores: Floats) -> Floats:
    inside = np.clip(scores, EDGE, 1 - EDGE)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def _known(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    """Labels and probabilities of the rows that have both."""
    truth, predicted = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    known = ~(np.isnan(truth) | np.isnan(predicted))
    return truth[known], predicted[known]
