import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc

from fusionctl.curves import GRID, SMALLEST_GROUP, precision_curve, reliability, roc_curve


def sample(n=500, levels=None):
    rng = np.random.default_rng(2)
    labels = (rng.random(n) < 0.3).astype(float)
    scores = 1 / (1 + np.exp(-(rng.normal(size=n) + labels)))
    return labels, np.round(scores * levels) / levels if levels else scores


@pytest.mark.parametrize("levels", [None, 8])
def test_roc_lies_on_the_full_curve(levels):
    labels, scores = sample(levels=levels)
    fpr, tpr, _ = sklearn_roc(labels, scores, drop_intermediate=False)
    got = roc_curve(labels, scores)
    assert len(got) == len(GRID) <= 100 and got[-1] == 1 and (np.diff(got) >= 0).all()
    below = [tpr[fpr <= x].max() for x in GRID]
    above = [tpr[fpr >= x].min() if (fpr >= x).any() else 1 for x in GRID]
    assert (got >= below - np.float64(1e-12)).all()
    assert (got <= np.maximum(above, below) + 1e-12).all()
    assert np.trapezoid(got, GRID) == pytest.approx(roc_auc_score(labels, scores), abs=0.01)


def test_precision_is_that_of_the_first_threshold_reaching_the_recall():
    labels, scores = sample()
    precision, recall, _ = precision_recall_curve(labels, scores)
    got = precision_curve(labels, scores)
    for x, value in zip(GRID, got, strict=True):
        index = np.flatnonzero(recall >= x - 1e-9)[-1] if x else None
        if index is not None and not np.isnan(value):
            assert value == pytest.approx(precision[index])
    assert np.isnan(got[0])  # the top row alone would be a patient
    assert np.isnan(got).sum() < SMALLEST_GROUP


def test_one_class_has_no_curve():
    assert not len(roc_curve(np.zeros(5), np.arange(5.0))) and not len(precision_curve(np.ones(5), np.arange(5.0)))
    assert not len(roc_curve(np.array([0, 1.0]), np.array([0.2, np.nan])))


def test_reliability_bins():
    labels, scores = sample()
    labels[:7] = np.nan
    bins = reliability(labels, scores)
    assert len(bins) == 10 and sum(b["n"] for b in bins) == 493
    assert max(b["n"] for b in bins) - min(b["n"] for b in bins) <= 1
    assert sum(b["positives"] for b in bins) == np.nansum(labels)
    assert [b["predicted"] for b in bins] == sorted(b["predicted"] for b in bins)
    assert bins[3]["observed"] == bins[3]["positives"] / bins[3]["n"]


def test_reliability_keeps_equal_scores_together():
    bins = reliability(np.array([0, 1, 0, 1.0]), np.full(4, 0.5))
    assert bins == [{"n": 4, "positives": 2, "predicted": 0.5, "observed": 0.5}]
    assert reliability(np.array([0, 1.0]), np.array([np.nan, 0.1])) == []
