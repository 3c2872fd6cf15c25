"""Metrics of binary labels and their patient-level bootstrap, in numpy alone.

Rows are sorted once per label and model. A resample is then only a weight per patient (how often it was drawn): it
costs one gather and one cumulative sum, and all models are judged on the very same resamples.
Letters: N rows (stays), K labels, M models, R resamples, Q patients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
METRICS = ("auroc", "auprc", "macro_f1", "binary_f1")
# Cells of one gathered (resamples, rows) block: it stays inside the processor's cache.
BLOCK_CELLS = 1 << 17


def auroc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Area under the ROC curve, ties counted half. See `scores_of` for shapes; NaN with one class only."""
    return scores_of(labels, scores, weights)[..., 0][()]


def auprc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Average precision (no interpolation), a run of equal scores being one threshold. NaN with one class only."""
    return scores_of(labels, scores, weights)[..., 1][()]


def macro_f1(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None, *, threshold: float = 0.5) -> Any:
    """Mean of the F1 of the positive and the F1 of the negative class. NaN with one class only."""
    return scores_of(labels, scores, weights, threshold=threshold)[..., 2][()]


def f1(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None, *, threshold: float = 0.5) -> Any:
    """F1 of the positive class ("binary F1"); 0 if nothing is called positive. NaN with one class only."""
    return scores_of(labels, scores, weights, threshold=threshold)[..., 3][()]


def scores_of(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None, *, threshold: float = 0.5
) -> Floats:
    """The four METRICS of one label.

    Args:
        labels: (N,) 0, 1 or NaN (unknown: the row is left out).
        scores: (N,) probabilities; a NaN on a known label makes every metric NaN: no model chooses its rows.
        weights: (N,) or (R, N), not negative; None counts every row once.
        threshold: a score at or above it is a positive call.

    Returns:
        (4,) or (R, 4) in the order of METRICS; NaN where only one class has weight.
    """
    labels, scores = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    each = np.ones(len(labels)) if weights is None else np.asarray(weights)
    ranked = rank(labels, scores, np.arange(len(labels)), threshold=threshold)
    result = weighted(ranked, np.atleast_2d(each))
    return result[0] if each.ndim == 1 else result


@dataclass(frozen=True)
class Ranked:
    """One label of one model, sorted once: what resamples need. A run: equal scores with a positive among them."""

    columns: NDArray[np.intp]  # (n,) patient of each row with a known label, highest score first
    positives: NDArray[np.intp]  # (p,) positions of the positive rows in that order
    start: NDArray[np.intp]  # (g,) first position of each run
    end: NDArray[np.intp]  # (g,) one past its last position
    last: NDArray[np.intp]  # (g,) index into `positives` of its last positive
    counts: Floats  # (Q, 4) by patient: true positive calls, positive calls, positive rows, known rows
    complete: bool  # no score is missing


def rank(labels: Floats, scores: Floats, patients: NDArray[np.intp], *, threshold: float) -> Ranked:
    """Sort the rows of one label by falling score.

    Args:
        labels: (N,) 0, 1 or NaN.
        scores: (N,) probabilities.
        patients: (N,) 0..Q-1: the column of the weights that holds the row's.
        threshold: a score at or above it is a positive call.
    """
    known = np.flatnonzero(~np.isnan(labels))
    order = known[np.argsort(-scores[known], kind="stable")]
    columns, falling, positive = patients[order], scores[order], labels[order] > 0
    changes = np.flatnonzero(falling[1:] != falling[:-1]) + 1
    bounds = np.concatenate([[0], changes, [len(order)]])
    positives = np.flatnonzero(positive)
    run = np.searchsorted(changes, positives, side="right")
    last = np.flatnonzero(np.diff(run, append=-1))
    called = falling >= threshold
    facts = np.stack([called & positive, called, positive, np.ones_like(called)], axis=1).astype(np.float64)
    counts = np.zeros((int(patients.max(initial=-1)) + 1, 4))
    np.add.at(counts, columns, facts)
    start, end = bounds[run[last]], bounds[run[last] + 1]
    return Ranked(columns, positives, start, end, last, counts, not bool(np.isnan(falling).any()))


def weighted(ranked: Ranked, weights: NDArray[Any]) -> Floats:
    """METRICS (R, 4) of one sorted label under R weightings (R, Q) of the patients, integers or floats."""
    result = np.full((len(weights), len(METRICS)), np.nan)
    if not ranked.complete or not len(ranked.positives):
        return result
    step = max(1, BLOCK_CELLS // max(1, len(ranked.columns)))
    for first in range(0, len(weights), step):
        block = weights[first : first + step]
        tallies = block.astype(np.float64) @ ranked.counts
        _, _, positive, known = tallies.T
        both = (positive > 0) & (known > positive)
        with np.errstate(divide="ignore", invalid="ignore"):
            columns = (*_areas(ranked, block, positive, known), *_f1_scores(tallies))
        result[first : first + step] = np.where(both[:, None], np.stack(columns, axis=1), np.nan)
    return result


def _areas(ranked: Ranked, weights: NDArray[Any], positive: Floats, known: Floats) -> tuple[Floats, Floats]:
    """AUROC and average precision (R,) each, summed over the runs of equal scores that hold a positive."""
    # Sums of integers are exact in their own type and twice as fast as in float64.
    dtype = weights.dtype if np.issubdtype(weights.dtype, np.integer) else np.dtype(np.float64)
    above = np.zeros((len(weights), len(ranked.columns) + 1), dtype=dtype)
    gathered = np.take(weights.astype(dtype, copy=False), ranked.columns, axis=1, mode="clip")
    np.cumsum(gathered, axis=1, out=above[:, 1:])
    true = np.cumsum(gathered[:, ranked.positives], axis=1, dtype=dtype)[:, ranked.last].astype(np.float64)
    gained = np.diff(true, axis=1, prepend=0.0)
    before, after = above[:, ranked.start].astype(np.float64), above[:, ranked.end].astype(np.float64)
    # False positives above a run and half of those inside it rank before its positives.
    false_twice = before + after - 2.0 * true + gained
    area = 1.0 - np.einsum("rg,rg->r", gained, false_twice) / (2.0 * positive * (known - positive))
    # A run of weight 0 at the very top is 0/0; it gains nothing.
    precision = np.divide(true, after, out=np.zeros_like(true), where=after > 0)
    return area, np.einsum("rg,rg->r", gained, precision) / positive


def _f1_scores(tallies: Floats) -> tuple[Floats, Floats]:
    """Macro and binary F1 (R,) each from (R, 4) true positive calls, positive calls, positive rows, known rows."""
    true, called, positive, known = tallies.T
    binary = 2.0 * true / (called + positive)
    rejected, negative = known - called, known - positive
    return (binary + 2.0 * (negative - called + true) / (rejected + negative)) / 2.0, binary


@dataclass(frozen=True)
class Bootstrap:
    """Metrics of M models on the data and on R resamples of its patients.

    values: (M, K + 1, 4); the last of the K + 1 is the mean over the labels that have both classes.
    draws: (R, M, K + 1, 4); a mean is that of the resample's own labels, so that its interval is one of the mean.
    """

    values: Floats
    draws: Floats

    def interval(self, model: int, label: int = -1) -> dict[str, dict[str, float]]:
        """`{metric: {value, low, high}}`: 95 % percentile interval; `label` -1 is the mean over labels."""
        return _summary(self.values[model, label], self.draws[:, model, label])

    def difference(self, model: int, reference: int, label: int = -1) -> dict[str, dict[str, float]]:
        """`{metric: {value, low, high, p}}` of `model` minus `reference`, paired: both on the same resamples.

        p is two-sided: twice the smaller share of resamples at or beyond 0, each counted with one more, so never 0.
        """
        values = self.values[model, label] - self.values[reference, label]
        draws = self.draws[:, model, label] - self.draws[:, reference, label]
        summary = _summary(values, draws)
        for metric, column in zip(METRICS, draws.T, strict=True):
            column = column[~np.isnan(column)]
            tail = min(np.count_nonzero(column <= 0), np.count_nonzero(column >= 0))
            p = min(1.0, 2.0 * (1 + tail) / (1 + len(column)))
            summary[metric]["p"] = p if len(column) else float("nan")
        return summary

    def undefined(self, model: int, label: int) -> int:
        """Number of resamples without a value because one class was not drawn."""
        return int(np.isnan(self.draws[:, model, label, 0]).sum())


def bootstrap(
    labels: ArrayLike,
    probabilities: ArrayLike,
    patients: ArrayLike,
    *,
    resamples: int = 1000,
    seed: int | tuple[int, ...] = 0,
    threshold: float = 0.5,
    progress: Callable[[int, int], None] | None = None,
) -> Bootstrap:
    """Evaluate models on the data and on resamples of its patients.

    Args:
        labels: (N, K) 0, 1 or NaN (unknown; left out for that label).
        probabilities: (M, N, K), or (N, K) for one model. NaN on a known label makes that model's label NaN.
        patients: (N,) any identifier; all rows of a patient are drawn together.
        resamples: number of resamples R; 0 gives values without intervals.
        seed: the same seed, patients and R give the same resamples, whatever the models.
        threshold: a probability at or above it is a positive call.
        progress: called with (done, total) after each label of each model.

    Returns:
        The values and draws; NaN where a class is missing, never an exception.
    """
    labels, stack = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    stack = stack[None] if stack.ndim == 2 else stack
    people, columns = np.unique(np.asarray(patients), return_inverse=True)
    weights = np.concatenate([np.ones((1, len(people)), np.int32), _draw_patients(len(people), resamples, seed)])
    models, n_labels = len(stack), labels.shape[1]
    scores = np.empty((len(weights), models, n_labels + 1, len(METRICS)))
    for model in range(models):
        for label in range(n_labels):
            ranked = rank(labels[:, label], stack[model, :, label], columns, threshold=threshold)
            scores[:, model, label] = weighted(ranked, weights)
            if progress:
                progress(model * n_labels + label + 1, models * n_labels)
    scores[:, :, -1] = _mean(scores[:, :, :-1], axis=2)
    # A model without a prediction for some label has no mean: a mean over other labels would not be comparable.
    scores[:, (np.isnan(stack) & ~np.isnan(labels)).any(axis=(1, 2)), -1] = np.nan
    # A label with one class in the data has no value, hence no interval either.
    return Bootstrap(scores[0], np.where(np.isnan(scores[0]), np.nan, scores[1:]))


def _draw_patients(n: int, resamples: int, seed: int | tuple[int, ...]) -> NDArray[np.int32]:
    """(R, n) how often each of n patients is drawn in each resample of n, with replacement."""
    rng = np.random.default_rng(seed)
    drawn = np.empty((resamples, n), dtype=np.int32)
    for row in drawn:
        row[:] = np.bincount(rng.integers(0, n, n), minlength=n) if n else 0
    return drawn


def _summary(values: Floats, draws: Floats) -> dict[str, dict[str, float]]:
    """`{metric: {value, low, high}}` from (4,) values and (R, 4) draws."""
    summary = {}
    for metric, value, column in zip(METRICS, values, draws.T, strict=True):
        column = column[~np.isnan(column)]
        low, high = np.percentile(column, [2.5, 97.5]) if len(column) else (np.nan, np.nan)
        summary[metric] = {"value": float(value), "low": float(low), "high": float(high)}
    return summary


def _mean(values: Floats, *, axis: int) -> Floats:
    """Mean of what is not NaN; NaN, without a warning, where nothing is left."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0.0).sum(axis=axis) / known.sum(axis=axis))
