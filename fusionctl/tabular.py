"""The honest simple baselines: gradient boosting and logistic regression on summaries of the measured values.

They read what the EHR encoder reads, the grid of the 17 variables, but only its measured cells: an imputed value is no
measurement. A variable that was never measured is missing (NaN). `trees-film` and `logistic-film` read the film
encoder's scores as well, as more columns: NaN where a stay has no film.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fusionctl.data.variables import VARIABLES

Floats = npt.NDArray[np.float64]
Array = npt.NDArray[Any]

SUMMARIES = ("mean", "min", "max", "first", "last", "sd", "count")
TABULAR = ("trees", "logistic", "trees-film", "logistic-film")
WITH_FILM = ("trees-film", "logistic-film")
_BLOCK_STAYS = 4096
# Small trees and strong shrinkage, for a few thousand stays. Chosen by five-fold cross-validation over the training
# and validation patients of an open data set of 3,600 stays; the size of the trees matters most.
_BOOSTER = {
    "learning_rate": 0.03,
    "max_iter": 300,
    "max_leaf_nodes": 8,
    "min_samples_leaf": 20,
    "l2_regularization": 10.0,
}
# Of the logistic regression, chosen in the same way, on both tasks: largest standardised value, and scikit-learn's C.
CLIP = 3.0
INVERSE_PENALTY = 0.01
MOST_STEPS = 1000  # enough: it ends after some tens


def feature_names() -> list[str]:
    """Names of the columns of `summarise`, `<summary> <variable>`."""
    return [f"{summary} {variable.name}" for summary in SUMMARIES for variable in VARIABLES]


def summarise(values: Array, observed: Array, first_row: Array, n_rows: Array) -> Floats:
    """Summaries of the measured cells of each stay's grid.

    A category with points (Glasgow coma scale) counts by its points, any other by its index.

    Args:
        values: (R, 17) grid rows, physical units, categories as indices; -1, no category, counts as not measured.
        observed: (R, 17) bool, measured or not.
        first_row: (N,) first row of each stay.
        n_rows: (N,) number of its rows, at least 1.

    Returns:
        (N, 7 * 17), columns as in `feature_names`; NaN (count: 0) where the variable was never measured.
    """
    blocks = [np.zeros((0, len(SUMMARIES) * len(VARIABLES)))]
    for start in range(0, len(first_row), _BLOCK_STAYS):
        first, n = first_row[start : start + _BLOCK_STAYS], n_rows[start : start + _BLOCK_STAYS].astype(np.int64)
        offset = np.cumsum(n) - n
        rows = np.repeat(first - offset, n) + np.arange(n.sum())
        points = _points(values[rows])
        blocks.append(_summarise(points, observed[rows] & ~np.isnan(points), offset))
    return np.concatenate(blocks)


def _points(values: Array) -> Floats:
    """Categories with points as their points; NaN where there is no category."""
    result = values.astype(np.float64)
    for column, variable in enumerate(VARIABLES):
        if variable.is_categorical:
            category = values[:, column].astype(np.int64)
            points = np.asarray(variable.scores or range(len(variable.categories)))
            result[:, column] = np.where(category >= 0, points[np.maximum(category, 0)], np.nan)
    return result


def _summarise(values: Floats, observed: Array, offset: Array) -> Floats:
    """As `summarise`, of rows that lie one stay after another from `offset` (N,)."""
    count = np.add.reduceat(observed.astype(np.float64), offset, axis=0)
    row = np.arange(len(values))[:, None]
    first = np.minimum.reduceat(np.where(observed, row, len(values) - 1), offset, axis=0)
    last = np.maximum.reduceat(np.where(observed, row, 0), offset, axis=0)
    low = np.minimum.reduceat(np.where(observed, values, np.inf), offset, axis=0)
    high = np.maximum.reduceat(np.where(observed, values, -np.inf), offset, axis=0)
    n = np.where(count > 0, count, 1.0)
    mean = np.add.reduceat(np.where(observed, values, 0.0), offset, axis=0) / n
    stay = np.repeat(np.arange(len(offset)), np.diff(offset, append=len(values)))
    deviation = np.where(observed, values - mean[stay], 0.0)
    sd = np.sqrt(np.add.reduceat(deviation**2, offset, axis=0) / n)
    column = np.arange(values.shape[1])
    each = [mean, low, high, values[first, column], values[last, column], sd]
    measured = [np.where(count > 0, summary, np.nan) for summary in each]
    return np.concatenate([*measured, count], axis=1)


def fit_predict(
    name: str, features: Floats, labels: npt.NDArray[np.float32], train_rows: Array, *, seed: int
) -> Floats:
    """Fit one model a label and predict all rows.

    Args:
        name: one of `TABULAR`; those with a film differ by their features alone.
        features: (N, D), NaN = missing.
        labels: (N, K) 0, 1 or NaN (unknown; such a row does not teach that label).
        train_rows: rows to learn from, which include the statistics that fill and scale the columns.
        seed: of the boosters.

    Returns:
        (N, K) probabilities. A label of which training knows one class only gets the share of positives there, kept
        off 0 and 1 (0.5 where it knows none).
    """
    if name not in TABULAR:
        raise ValueError(f"name must be one of {', '.join(TABULAR)}; got {name!r}")
    boosted = name.startswith("trees")
    columns = features if boosted else scaled(features, train_rows)
    probabilities = np.empty(labels.shape)
    for k in range(labels.shape[1]):
        known = train_rows[~np.isnan(labels[train_rows, k])]
        target = labels[known, k] > 0
        if target.all() or not target.any():
            probabilities[:, k] = (target.sum() + 0.5) / (len(target) + 1)
        else:
            predict = _boosted if boosted else _logistic
            probabilities[:, k] = predict(columns, target, known, seed)
    return probabilities


def scaled(features: Floats, train_rows: Array) -> Floats:
    """Columns for a linear model: standardised, gaps filled with the mean, and an indicator of what is missing.

    All statistics are of the training rows. A column that says nothing there (no value, or one only) is left out, and
    so is an indicator that is the same as an earlier one: a variable's summaries are missing together.

    Args:
        features: (N, D), NaN = missing.
        train_rows: rows whose statistics are taken.

    Returns:
        (N, at most 2 D), without NaN; a standardised value is kept within `CLIP` standard deviations.
    """
    train = features[train_rows]
    missing = np.isnan(train)
    n = np.maximum((~missing).sum(axis=0), 1)
    mean = np.where(missing, 0.0, train).sum(axis=0) / n
    sd = np.sqrt((np.where(missing, 0.0, train - mean) ** 2).sum(axis=0) / n)
    varies = sd > 1e-9 * np.maximum(np.abs(mean), 1.0)
    values = (features[:, varies] - mean[varies]) / sd[varies]
    values = np.where(np.isnan(values), 0.0, np.clip(values, -CLIP, CLIP))
    _, first = np.unique(missing, axis=1, return_index=True)
    partly = [column for column in np.sort(first) if 0 < missing[:, column].mean() < 1]
    return np.concatenate([values, np.isnan(features[:, partly])], axis=1)


def _boosted(features: Floats, target: Array, rows: Array, seed: int) -> Floats:
    """Probabilities (N,) of all rows by a booster fitted to some; it runs on all threads that OpenMP has."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    usable = ~np.isnan(features[rows]).all(axis=0)  # scikit-learn cannot bin a column without a value
    booster = HistGradientBoostingClassifier(**_BOOSTER, early_stopping=False, random_state=seed)
    booster.fit(features[rows][:, usable], target)
    return np.asarray(booster.predict_proba(features[:, usable])[:, 1])


def _logistic(columns: Floats, target: Array, rows: Array, seed: int) -> Floats:
    """Probabilities (N,) of all rows by a logistic regression fitted to some; nothing in it is random."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=INVERSE_PENALTY, max_iter=MOST_STEPS)
    return np.asarray(model.fit(columns[rows], target).predict_proba(columns)[:, 1])
