"""Calibration before and after a temperature from the validation stays, and decision curves."""

import numpy as np
import pytest

from fusionctl.evaluation_calibration import THRESHOLDS, calibrations, decisions
from fusionctl.evaluation_models import Predictions, models_of


def predictions(n, seed, *, sharpness=3.0, missing=0, rate=0.0):
    """A model whose logits are too large by a factor, and one that lacks the first predictions."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(rate, 1.5, n)
    truth = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(float)
    truth[-1] = np.nan
    sharp, good = 1 / (1 + np.exp(-sharpness * logit)), 1 / (1 + np.exp(-logit))
    good[:missing] = np.nan
    ids = np.arange(n)
    return Predictions(("death",), ids, ids, np.ones(n, bool), truth[:, None], np.stack([sharp, good])[..., None])


MODELS = models_of(["sharp", "good"])


def test_temperature_of_the_validation_stays_mends_the_test_stays():
    test, validation = predictions(3000, 0), predictions(3000, 1)
    found = calibrations(test, validation, MODELS, resamples=50, seed=0)["sharp"]["death"]
    assert found["temperature"] == pytest.approx(3, rel=0.1)
    assert found["slope"] == pytest.approx(1 / 3, rel=0.1) and found["after"]["slope"] == pytest.approx(1, rel=0.1)
    assert found["after"]["ece"] < 0.03 < found["ece"]
    assert found["after"]["brier"] < found["brier"]["low"] < found["brier"]["value"] < found["brier"]["high"]
    assert sum(b["n"] for b in found["curve"]) == sum(b["n"] for b in found["curve_after"]) == 2999


def test_a_model_is_judged_on_the_stays_that_it_predicts():
    test, validation = predictions(500, 0, missing=200), predictions(500, 1)
    found = calibrations(test, validation, MODELS, resamples=50, seed=0)["good"]["death"]
    truth, scores = test.labels[200:-1, 0], test.probabilities[1, 200:-1, 0]
    assert found["brier"]["value"] == pytest.approx(np.mean((scores - truth) ** 2))
    assert sum(b["n"] for b in found["curve"]) == 299


def test_validation_of_one_class_gives_no_temperature_and_no_exception():
    test, validation = predictions(300, 0), predictions(300, 1)
    validation.labels[:] = 0
    found = calibrations(test, validation, MODELS, resamples=20, seed=0)["sharp"]["death"]
    assert np.isnan(found["temperature"]) and np.isnan(found["after"]["ece"]) and found["ece"] > 0


def test_decision_curve_of_complete_models_only():
    found = decisions(predictions(500, 0, missing=1), MODELS)
    test = predictions(500, 0)
    truth, scores = test.labels[:-1, 0], test.probabilities[0, :-1, 0]
    at = THRESHOLDS.tolist().index(0.2)
    called = scores >= 0.2
    expected = ((called & (truth == 1)).sum() - 0.25 * (called & (truth == 0)).sum()) / 499
    assert found["models"]["sharp"]["death"][at] == pytest.approx(expected)
    assert found["all"]["death"][at] == pytest.approx(truth.mean() - 0.25 * (1 - truth.mean()))
    assert np.isnan(found["models"]["good"]["death"]).all()


def test_decision_curve_describes_no_single_patient():
    test = predictions(300, 0, sharpness=1.0, rate=-2.0)
    found = np.array(decisions(test, MODELS)["models"]["good"]["death"])
    called = (test.probabilities[1, :-1, 0, None] >= THRESHOLDS).sum(axis=0)
    few = (called > 0) & (called < 10)
    assert few.any() and (np.isnan(found) == few).all()
