import math

import numpy as np
import pytest

from fusionctl.comparisons import delong, holm, resamples_for
from fusionctl.metrics import auroc, bootstrap


def test_holm_of_known_cases():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.02, 0.5, 0.9, 0.01]) == pytest.approx([0.06, 1.0, 1.0, 0.04])
    assert holm([0.2, 0.2]) == pytest.approx([0.4, 0.4])
    assert holm([]) == []


def test_a_missing_p_stays_missing_and_does_not_count():
    got = holm([math.nan, 0.01, math.nan, 0.03])
    assert math.isnan(got[0]) and math.isnan(got[2])
    assert [got[1], got[3]] == pytest.approx([0.02, 0.03])


def by_definition(labels, one, other):
    """DeLong's formulas with every pair of a positive and a negative."""
    above, below = [], []
    for scores in (one, other):
        wins = np.sign(scores[labels == 1][:, None] - scores[labels == 0][None]) / 2 + 0.5
        above.append(wins.mean(axis=1))
        below.append(wins.mean(axis=0))
    covariance = np.cov(above) / len(above[0]) + np.cov(below) / len(below[0])
    return covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]


def sample(seed, n=300, digits=16):
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.3).astype(float)
    signal = labels + rng.normal(size=n)
    one, other = (np.round(signal + rng.normal(0, sd, n), digits) for sd in (0.4, 1.2))
    return labels, one, other


@pytest.mark.parametrize("digits", [16, 1, 0])
def test_delong_equals_its_definition(digits):
    labels, one, other = sample(1, digits=digits)
    got = delong(labels, one, other)
    assert got["difference"] == pytest.approx(auroc(labels, one) - auroc(labels, other), abs=1e-12)
    assert got["se"] ** 2 == pytest.approx(by_definition(labels, one, other), rel=1e-9)
    assert got["z"] == pytest.approx(got["difference"] / got["se"])
    assert got["p"] == pytest.approx(math.erfc(abs(got["z"]) / math.sqrt(2)))
    back = delong(labels, other, one)
    assert (back["difference"], back["p"]) == pytest.approx((-got["difference"], got["p"]))


def test_delong_agrees_with_the_bootstrap_where_every_patient_has_one_row():
    labels, one, other = sample(2, n=1000)
    boot = bootstrap(labels[:, None], np.stack([one, other])[..., None], np.arange(1000), resamples=2000)
    draws = boot.draws[:, 0, 0, 0] - boot.draws[:, 1, 0, 0]
    assert delong(labels, one, other)["se"] == pytest.approx(draws.std(), rel=0.06)


def test_unknown_labels_are_left_out():
    labels, one, other = sample(3)
    gaps = labels.copy()
    gaps[:50] = np.nan
    assert delong(gaps, one, other) == delong(labels[50:], one[50:], other[50:])


def test_delong_of_degenerate_rows(recwarn):
    labels, one, _ = sample(4)
    same = delong(labels, one, 2 * one + 1)
    assert (same["difference"], same["z"], same["p"]) == (0.0, 0.0, 1.0)
    perfect = delong(labels, labels, -labels)
    assert (perfect["difference"], perfect["z"], perfect["p"]) == (1.0, math.inf, 0.0)
    for truth, scores in (([0, 0, 0], [1, 2, 3]), ([1, 0, 0], [1, 2, 3]), ([], []), ([0, 0, 1, 1], [1, 2, 3, np.nan])):
        assert all(math.isnan(value) for value in delong(truth, scores, scores).values())
    assert not recwarn.list


@pytest.mark.parametrize("family", [1, 7, 25, 375])
def test_so_many_resamples_suffice_for_a_family(family):
    enough = resamples_for(family)
    assert family * 2 / (enough + 1) < 0.05 <= family * 2 / enough
