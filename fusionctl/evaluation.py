"""Models on one subset of the test stays: metrics with intervals, curves, and what every number rests on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionctl.curves import precision_curve, reliability, roc_curve
from fusionctl.evaluation_models import Floats, Models, Predictions
from fusionctl.intervals import Bootstrap, Method

SUBSETS = ("all", "paired", "unpaired")


def subset_rows(test: Predictions) -> dict[str, NDArray[np.bool_]]:
    """(N,) rows of each of SUBSETS: all test stays, those with a film, those without."""
    return {"all": np.ones(len(test.stay_id), bool), "paired": test.has_film, "unpaired": ~test.has_film}


def counts(part: Predictions) -> dict[str, Any]:
    """Stays and patients of a subset, and by label how many are known, positive, and their share."""
    known, positive = (~np.isnan(part.labels)).sum(axis=0).tolist(), (part.labels > 0).sum(axis=0).tolist()
    names = part.label_names
    return {
        "n": len(part.labels),
        "patients": len(np.unique(part.subject_id)),
        "known": dict(zip(names, known, strict=True)),
        "positives": dict(zip(names, positive, strict=True)),
        "prevalence": {n: p / k if k else None for n, k, p in zip(names, known, positive, strict=True)},
    }


def model_entry(part: Predictions, boot: Bootstrap, models: Models, name: str, *, method: Method) -> dict[str, Any]:
    """One model on one subset: the mean over labels, and each label with its curves.

    Args:
        part: the subset's stays.
        boot: of the subset, its models those of `models.names`.
        models: which rows of the predictions are which model.
        name: the model; the metrics of a seed group are means over the seeds, its curves are its ensemble's.
        method: of the intervals; see `intervals.interval`.
    """
    m, scores = models.index(name), part.probabilities[models.shown[models.index(name)]]
    missing = int(np.isnan(scores).any(axis=1).sum())
    by_label = {}
    for k, label in enumerate(part.label_names):
        truth, column = part.labels[:, k], scores[:, k]
        by_label[label] = {
            "metrics": boot.interval(m, k, method=method),
            "note": note(truth),
            "undefined": 0 if np.isnan(boot.values[m, k, 0]) else boot.undefined(m, k),
            "roc": roc_curve(truth, column).round(4).tolist(),
            "pr": precision_curve(truth, column).round(4).tolist(),
            "calibration": reliability(truth, column),
        }
    lacking = f"no prediction for {missing} of {len(scores)} stays" if missing else None
    return {"metrics": boot.interval(m, method=method), "labels": by_label, "missing": missing, "note": lacking}


def note(truth: Floats) -> str | None:
    """Why a label has no metric, if it has none for want of rows."""
    known = truth[~np.isnan(truth)]
    if not len(known):
        return "no stay with a known label"
    return "one class only: no metric is defined" if known.min() == known.max() else None


def complete(part: Predictions, models: Models) -> list[int]:
    """Positions of the models that predict every stay of a subset; none where it has no stay."""
    if not len(part.stay_id):
        return []
    return [m for m, row in enumerate(models.shown) if not np.isnan(part.probabilities[row]).any()]


def over_seeds(boot: Bootstrap, models: Models) -> dict[str, dict[str, Any]]:
    """By seed group: each metric (mean over labels) of each seed, with mean and standard deviation.

    Args:
        boot: of one subset, its models the rows of the stack.
        models: which rows are which model.

    Returns:
        `{model: {metric: {mean, sd, values}}}`; `sd` is of a sample (divided by n - 1).
    """
    found = {}
    for name, rows in zip(models.names, models.rows, strict=True):
        if len(rows) > 1:
            values = boot.values[list(rows), -1]
            found[name] = {
                metric: {"mean": float(column.mean()), "sd": float(column.std(ddof=1)), "values": column.tolist()}
                for metric, column in zip(boot.metrics, values.T, strict=True)
            }
    return found


def plain(content: Any) -> Any:
    """Numbers as JSON knows them: what is not a number becomes null."""
    if isinstance(content, dict):
        return {key: plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [plain(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
