"""Metrics of binary labels and their patient-level bootstrap, in numpy alone.

Rows are sorted once per label and model (ranking.py). A resample is then only a weight per patient (resampling.py), and
all models are judged on the very same resamples (intervals.py).
Letters: N rows (stays), K labels, M models, R resamples, Q patients, F metrics.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusionctl import resampling
from fusionctl.intervals import Bootstrap, mean_of_known
from fusionctl.ranking import Floats, Ranked, rank, weighted, weighted_blocks

__all__ = [
    "METRICS",
    "TUNED",
    "Bootstrap",
    "auprc",
    "auroc",
    "bootstrap",
    "choose_threshold",
    "f1",
    "macro_f1",
    "scores_of",
]

METRICS = ("auroc", "auprc", "macro_f1", "binary_f1")
TUNED = ("macro_f1_tuned", "binary_f1_tuned")  # at a threshold chosen on validation
_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


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
    ranked = rank(labels, scores, np.arange(len(labels)), thresholds=[threshold])
    result = weighted(ranked, np.atleast_2d(each))
    return result[0] if each.ndim == 1 else result


def choose_threshold(labels: ArrayLike, scores: ArrayLike) -> float:
    """The threshold at which the F1 of the positive class is greatest.

    To be chosen on validation rows and used on test rows: chosen on the rows that it judges, the F1 would flatter. It
    lies midway between the lowest score called positive and the next, so that it is nobody's probability.

    Args:
        labels: (N,) 0, 1 or NaN (left out).
        scores: (N,) probabilities; NaN (no prediction for the row) is left out.

    Returns:
        The threshold, of equally good ones the largest; half the lowest score where all are best called positive;
        NaN with one class only.
    """
    labels, scores = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    known = ~(np.isnan(labels) | np.isnan(scores))
    truth, given = labels[known] > 0, scores[known]
    if truth.all() or not truth.any():
        return float("nan")
    order = np.argsort(-given, kind="stable")
    last = np.flatnonzero(np.diff(given[order], append=-np.inf))
    best = int(np.argmax(2.0 * np.cumsum(truth[order])[last] / (last + 1.0 + truth.sum())))
    lowest, following = (float(score) for score in np.append(given[order][last], 0.0)[best : best + 2])
    middle = (lowest + following) / 2
    return middle if middle > following else lowest  # neighbours among floating-point numbers have no middle


def bootstrap(
    labels: ArrayLike,
    probabilities: ArrayLike,
    patients: ArrayLike,
    *,
    resamples: int = 1000,
    seed: int | tuple[int, ...] = 0,
    threshold: float = 0.5,
    tuned: ArrayLike | None = None,
    progress: Callable[[int, int], None] | None = None,
    threads: int | None = None,
) -> Bootstrap:
    """Evaluate models on the data and on resamples of its patients.

    Args:
        labels: (N, K) 0, 1 or NaN (unknown; left out for that label).
        probabilities: (M, N, K), or (N, K) for one model. NaN on a known label makes that model's label NaN.
        patients: (N,) any identifier; all rows of a patient are drawn together.
        resamples: number of resamples R; 0 gives values without intervals.
        seed: the same seed, patients and R give the same resamples, whatever the models.
        threshold: a probability at or above it is a positive call.
        tuned: (M, K) a threshold for each model and label, chosen on other rows (`choose_threshold`); NaN for none.
            With it the TUNED metrics follow the METRICS.
        progress: called with (done, total) after each label of each model.
        threads: labels judged at a time; None: as many as this process has processors. Changes no result.

    Returns:
        The values and draws; NaN where a class is missing, never an exception.
    """
    labels, stack = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    stack = stack[None] if stack.ndim == 2 else stack
    people, columns = np.unique(np.asarray(patients), return_inverse=True)
    fixed = np.full((1, len(stack), labels.shape[1]), threshold)
    limits = fixed if tuned is None else np.concatenate([fixed, np.asarray(tuned, dtype=np.float64)[None]])
    comparable = _comparable(labels, stack, limits)

    def evaluate(judge: Callable[[Ranked], Floats], report: Callable[[int, int], None] | None) -> Floats:
        """(weightings, M, K + 1, F) from what `judge` makes of each label of each model."""
        jobs = [(model, label) for model in range(len(stack)) for label in range(labels.shape[1])]

        def one(job: tuple[int, int]) -> Floats:
            model, label = job
            limit = limits[:, model, label].tolist()
            return judge(rank(labels[:, label], stack[model, :, label], columns, thresholds=limit))

        each = []
        for done, scores in enumerate(_in_threads(one, jobs, threads), 1):
            each.append(scores)
            if report:
                report(done, len(jobs))
        scores = np.stack(each, axis=1).reshape(-1, len(stack), labels.shape[1], 2 + 2 * len(limits))
        mean = np.where(comparable, mean_of_known(scores, axis=2), np.nan)
        return np.concatenate([scores, mean[:, :, None]], axis=2)

    blocks = resampling.resample(len(people), resamples, seed)
    scores = evaluate(lambda ranked: weighted_blocks(ranked, blocks)[: resamples + 1], progress)

    @cache
    def left_out() -> Floats:
        return evaluate(lambda ranked: _without_each(ranked, len(people)), None)

    # A label with one class in the data has no value, hence no interval either.
    draws = np.where(np.isnan(scores[0]), np.nan, scores[1:])
    return Bootstrap(scores[0], draws, METRICS if tuned is None else METRICS + TUNED, left_out)


def _comparable(labels: Floats, stack: Floats, limits: Floats) -> NDArray[np.bool_]:
    """(M, F) whether a model's mean is over the same labels as the other models': a mean over others says nothing."""
    missing = np.asarray((np.isnan(stack) & ~np.isnan(labels)).any(axis=(1, 2)))
    lacking = np.isnan(limits) & ~np.isnan(limits).all(axis=1, keepdims=True)  # (C - 1, M, K)
    undecided = np.repeat(lacking.any(axis=2).T, 2, axis=1)
    return ~np.concatenate([missing[:, None], missing[:, None], missing[:, None] | undecided], axis=1)


def _without_each(ranked: Ranked, n_patients: int) -> Floats:
    """(Q, F) the metrics of one label without each of the patients."""
    parts = [weighted_blocks(ranked, blocks) for blocks in resampling.leave_one_out(n_patients)]
    return np.concatenate(parts)[:n_patients] if parts else np.empty((0, 2 * len(ranked.cuts)))


def _in_threads(one: Callable[[_Job], _Result], jobs: Iterable[_Job], threads: int | None) -> Iterator[_Result]:
    """The results in the order of the jobs. Sorting and sums release the interpreter, so that threads help."""
    n = threads or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))
    if n == 1:
        yield from map(one, jobs)
    else:
        with ThreadPoolExecutor(n) as pool:
            yield from pool.map(one, jobs)
