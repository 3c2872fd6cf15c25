"""How far predicted probabilities can be taken at their word, and what acting on them would gain."""

from __future__ import annotations

from typing import Any

import numpy as np

from fusionctl import calibration as cal
from fusionctl.curves import SMALLEST_GROUP, reliability
from fusionctl.decision import net_benefit, treat_all
from fusionctl.evaluation_models import Floats, Models, Predictions, predicted

# Probabilities at which a decision is looked at, in steps of one per cent.
THRESHOLDS = np.arange(1, 100) / 100


def calibrations(
    test: Predictions, validation: Predictions, models: Models, *, resamples: int, seed: int | tuple[int, ...]
) -> dict[str, dict[str, Any]]:
    """Calibration of every model and label, as it is and after a temperature that was fitted on the validation stays.

    Args:
        test: all test stays; a model is judged on those that it predicts.
        validation: the validation stays.
        models: which rows of the predictions are which model; of a seed group its ensemble is taken.
        resamples, seed: of the patients, for the interval of the Brier score.
    """
    rows = [models.shown[models.index(name)] for name in models.own]
    options: dict[str, Any] = {"resamples": resamples, "seed": seed}
    boot = cal.brier_bootstrap(test.labels, test.probabilities[rows], test.subject_id, **options)
    return {
        name: {
            label: {**_one(test, validation, row, k), **boot.interval(m, k)} for k, label in enumerate(test.label_names)
        }
        for m, (name, row) in enumerate(zip(models.own, rows, strict=True))
    }


def _one(test: Predictions, validation: Predictions, row: int, k: int) -> dict[str, Any]:
    truth, scores = test.labels[:, k], test.probabilities[row, :, k]
    temperature = cal.temperature(validation.labels[:, k], validation.probabilities[row, :, k])
    after = cal.rescale(scores, temperature)
    judged = predicted(truth, scores)
    return {
        **cal.calibration(truth, scores),
        "temperature": temperature,
        "after": cal.calibration(truth, after),
        "curve": reliability(truth[judged], scores[judged]),
        "curve_after": reliability(truth[judged], after[judged]),
    }


def decisions(test: Predictions, models: Models) -> dict[str, Any]:
    """Net benefit of every model and of treating all, by label, at THRESHOLDS.

    A model that does not predict every stay has none: its curve would be that of other patients. Nor is there a value
    where fewer than 10 stays are called: it would describe single patients.
    """
    names = list(enumerate(test.label_names))
    every = {label: treat_all(test.labels[:, k], THRESHOLDS).tolist() for k, label in names}
    curves: dict[str, dict[str, list[float]]] = {}
    for name in models.own:
        scores = test.probabilities[models.shown[models.index(name)]]
        curves[name] = {label: _net_benefit(test.labels[:, k], scores[:, k]).tolist() for k, label in names}
    return {"thresholds": THRESHOLDS.tolist(), "all": every, "models": curves}


def _net_benefit(truth: Floats, scores: Floats) -> Floats:
    known = ~np.isnan(truth)
    if np.isnan(scores[known]).any():
        return np.full(len(THRESHOLDS), np.nan)
    called = (scores[known, None] >= THRESHOLDS).sum(axis=0)
    return np.where((called == 0) | (called >= SMALLEST_GROUP), net_benefit(truth, scores, THRESHOLDS), np.nan)
