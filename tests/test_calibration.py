import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

from fusionctl.calibration import COOLEST, EDGE, HOTTEST, brier_bootstrap, calibration, rescale, temperature
from fusionctl.metrics import bootstrap


def sample(seed=0, n=4000, sharp=1.0, shift=0.0):
    """Labels drawn from probabilities whose logits are then stretched and shifted."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 1.2, n)
    labels = (rng.random(n) < 1 / (1 + np.exp(-logits))).astype(float)
    return labels, 1 / (1 + np.exp(-(sharp * logits + shift)))


def logit(p):
    return np.log(p / (1 - p))


def test_brier_slope_and_intercept_equal_scikit_learn():
    labels, scores = sample(sharp=2, shift=0.7)
    got = calibration(labels, scores)
    fit = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit(scores)[:, None], labels)
    assert got["brier"] == pytest.approx(brier_score_loss(labels, scores), abs=1e-12)
    assert got["slope"] == pytest.approx(fit.coef_[0, 0], abs=1e-5)
    assert got["intercept"] == pytest.approx(fit.intercept_[0], abs=1e-5)


def test_calibrated_overconfident_and_shifted_models_are_told_apart():
    good, bold, shifted = (calibration(*sample(n=20000, **kind)) for kind in ({}, {"sharp": 2}, {"shift": 1}))
    assert good["slope"] == pytest.approx(1, abs=0.05) and good["intercept"] == pytest.approx(0, abs=0.05)
    assert good["in_the_large"] == pytest.approx(0, abs=0.05) and good["ece"] < 0.01
    assert bold["slope"] == pytest.approx(0.5, abs=0.03) and bold["ece"] > 0.04
    assert shifted["slope"] == pytest.approx(1, abs=0.05)
    assert shifted["in_the_large"] == pytest.approx(-1, abs=0.05) and shifted["brier"] > good["brier"]


def test_in_the_large_makes_the_mean_prediction_the_prevalence():
    labels, scores = sample(1, n=500, sharp=1.7, shift=0.4)
    shift = calibration(labels, scores)["in_the_large"]
    assert np.mean(1 / (1 + np.exp(-(logit(scores) + shift)))) == pytest.approx(labels.mean(), abs=1e-9)


def test_calibration_error_of_a_case_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 1, 0, 1.0])
    scores = np.array([0.2] * 4 + [0.9] * 4)  # two bins: 1/4 observed for 0.2, 3/4 for 0.9
    assert calibration(labels, scores)["ece"] == pytest.approx((0.05 + 0.15) / 2)


def test_rows_without_label_or_prediction_are_left_out():
    labels, scores = sample(2, n=600)
    labels[:50], scores[50:90] = np.nan, np.nan
    assert calibration(labels, scores) == calibration(labels[90:], scores[90:])
    assert temperature(labels, scores) == temperature(labels[90:], scores[90:])


def test_what_is_undefined_is_nan_without_warning(recwarn):
    empty = calibration([], [])
    assert len(empty) == 5 and all(math.isnan(value) for value in empty.values())
    one_class = calibration([0, 0, 0], [0.1, 0.2, 0.6])
    assert one_class["brier"] == pytest.approx(0.41 / 3) and one_class["ece"] > 0
    assert all(math.isnan(one_class[name]) for name in ("slope", "intercept", "in_the_large"))
    constant = calibration([0, 1, 1, 1], [0.5] * 4)
    assert math.isnan(constant["slope"]) and constant["in_the_large"] == pytest.approx(math.log(3))
    separated = calibration([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])
    assert math.isnan(separated["slope"]) and math.isnan(separated["intercept"])
    assert math.isnan(temperature([0, 0], [0.1, 0.2])) and math.isnan(temperature([], []))
    assert not recwarn.list


def test_probabilities_of_zero_and_one_are_clipped():
    labels, scores = sample(3, n=400)
    scores[:3] = [0, 1, 1]
    inside = scores.clip(EDGE, 1 - EDGE)
    got, want = calibration(labels, scores), calibration(labels, inside)
    assert got["slope"] == want["slope"] and temperature(labels, scores) == temperature(labels, inside)
    assert got["brier"] != want["brier"]  # needs no logit: as they are
    assert np.isfinite(rescale([0.0, 1.0], 2)).all()


def test_temperature_undoes_overconfidence_and_has_the_least_loss():
    labels, scores = sample(4, sharp=2.5)
    found = temperature(labels, scores)
    assert found == pytest.approx(2.5, abs=0.2)
    best = log_loss(labels, rescale(scores, found))
    assert best < min(log_loss(labels, rescale(scores, found * factor)) for factor in (0.99, 1.01))
    assert calibration(labels, rescale(scores, found))["ece"] < calibration(labels, scores)["ece"]
    np.testing.assert_allclose(rescale(scores, 1.0), scores.clip(EDGE, 1 - EDGE), atol=1e-12)


def test_temperature_stays_within_its_limits():
    labels, scores = sample(5, n=300)
    assert temperature(labels, 1 - scores) == pytest.approx(HOTTEST)
    assert temperature([0, 1], [0.1, 0.9]) == pytest.approx(COOLEST)


def test_rescale_keeps_shape_order_and_gaps():
    scores = np.array([[0.1, 0.6], [np.nan, 0.9]])
    got = rescale(scores, 3.0)
    assert np.isnan(got[1, 0]) and 0.1 < got[0, 0] < 0.5 < got[0, 1] < 0.6
    assert np.isnan(rescale(scores, math.nan)).all()
    with pytest.raises(ValueError, match="temperature must be above 0; got -1"):
        rescale(scores, -1)


def stack(seed=6, n=200):
    labels, scores = sample(seed, n=n)
    return np.stack([labels, 1 - labels], axis=1), np.stack([scores, scores**2])[..., None].repeat(2, axis=2)


def test_brier_draws_are_those_of_the_same_resamples():
    labels, probabilities = stack()
    labels[:20, 1] = np.nan
    patients = np.random.default_rng(1).integers(0, 120, 200)
    got = brier_bootstrap(labels, probabilities, patients, resamples=70, seed=(4, 0))
    people, columns = np.unique(patients, return_inverse=True)
    assert got.draws.shape == (70, 2, 3, 1)
    np.testing.assert_allclose(got.values[0, 0, 0], calibration(labels[:, 0], probabilities[0, :, 0])["brier"])
    rng = np.random.default_rng((4, 0))
    for draw in got.draws:
        weights = np.bincount(rng.integers(0, len(people), len(people)), minlength=len(people))[columns]
        for k in range(2):
            known = ~np.isnan(labels[:, k])
            want = brier_score_loss(labels[known, k], probabilities[1, known, k], sample_weight=weights[known])
            assert draw[1, k, 0] == pytest.approx(want, abs=1e-12)
        assert draw[0, 2, 0] == pytest.approx(draw[0, :2, 0].mean())


def test_brier_interval_and_jackknife():
    labels, probabilities = stack()
    patients = np.arange(200) // 2
    got = brier_bootstrap(labels, probabilities, patients, resamples=300)
    without = brier_bootstrap(labels[2:], probabilities[:, 2:], patients[2:], resamples=0)
    np.testing.assert_allclose(got.left_out()[0], without.values)
    percentile, bca = got.interval(0, 0)["brier"], got.interval(0, 0, method="bca")["brier"]
    assert percentile["low"] < percentile["value"] < percentile["high"] and bca["low"] != percentile["low"]
    assert got.difference(1, 0, 0)["brier"]["p"] < 1


def test_brier_leaves_out_stays_without_prediction(recwarn):
    labels, probabilities = stack()
    probabilities[1, :150] = np.nan
    labels[150:, 1] = np.nan
    got = brier_bootstrap(labels, probabilities, np.arange(200), resamples=20)
    assert got.values[1, 0, 0] == pytest.approx(np.mean((labels[150:, 0] - probabilities[1, 150:, 0]) ** 2))
    assert np.isnan(got.values[1, 1, 0]) and got.values[1, 2, 0] == got.values[1, 0, 0]
    assert math.isnan(got.interval(1, 1)["brier"]["low"])
    assert not recwarn.list
    assert bootstrap(labels, probabilities, np.arange(200), resamples=20).draws.shape[0] == len(got.draws)
