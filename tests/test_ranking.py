"""The compiled loop, its numpy fallback and scikit-learn agree, whatever the ties, weights and cuts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from fusionctl import ranking
from fusionctl.ranking import LANES, rank, weighted, weighted_blocks

compiled = pytest.mark.skipif(ranking._boot is None, reason="not compiled here")


@st.composite
def cases(draw):
    """Labels with unknowns, scores with ties, rows of few patients, weights of any byte."""
    n, n_patients = draw(st.integers(0, 30)), draw(st.integers(1, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    labels = rng.choice([0.0, 1.0, np.nan], n, p=draw(st.sampled_from([[0.5, 0.4, 0.1], [1, 0, 0], [0, 1, 0]])))
    scores = np.round(rng.random(n), draw(st.integers(0, 2)))
    thresholds = draw(st.lists(st.sampled_from([0.0, 0.3, 0.5, 1.0, 2.0, np.nan]), max_size=3))
    most = draw(st.sampled_from([1, 3, 255]))
    blocks = rng.integers(0, most + 1, (draw(st.integers(1, 2)), n_patients, LANES)).astype(np.uint8)
    return rank(labels, scores, rng.integers(0, n_patients, n), thresholds=thresholds), blocks


@compiled
@given(cases())
@settings(max_examples=120, deadline=None)
def test_compiled_equals_numpy(case):
    ranked, blocks = case
    want = np.concatenate([weighted(ranked, block.T.astype(np.int64)) for block in blocks])
    got = weighted_blocks(ranked, blocks)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(got[:, 0], want[:, 0])  # whole numbers: not a bit of difference


@pytest.fixture(params=["compiled", "numpy"])
def path(request, monkeypatch):
    if request.param == "numpy":
        monkeypatch.setattr(ranking, "_boot", None)
    elif ranking._boot is None:
        pytest.skip("not compiled here")


@pytest.mark.parametrize("digits", [16, 2, 1])
def test_equals_scikit_learn_for_the_same_weights(path, digits):
    rng = np.random.default_rng(digits)
    n, n_patients = 400, 250
    labels = (rng.random(n) < 0.3).astype(float)
    scores = np.round(1 / (1 + np.exp(-(rng.normal(size=n) + labels))), digits)
    patients = rng.integers(0, n_patients, n)
    blocks = rng.poisson(1, (1, n_patients, LANES)).astype(np.uint8)
    thresholds = [0.8, 0.5, 0.61]
    got = weighted_blocks(rank(labels, scores, patients, thresholds=thresholds), blocks)
    for lane in range(0, LANES, 9):
        weights = blocks[0, patients, lane]
        want = [f(labels, scores, sample_weight=weights) for f in (roc_auc_score, average_precision_score)]
        for threshold in thresholds:
            called = scores >= threshold
            want += [f1_score(labels, called, average=a, sample_weight=weights) for a in ("macro", "binary")]
        np.testing.assert_allclose(got[lane], want, rtol=0, atol=1e-12)


def test_missing_scores_and_classes_are_nan_without_warning(path, recwarn):
    blocks = np.ones((1, 3, LANES), np.uint8)
    blocks[0, 0, 1] = 0
    patients = np.arange(3)
    gap = rank(np.array([1.0, 0, 0]), np.array([0.2, np.nan, 0.1]), patients, thresholds=[0.5])
    assert np.isnan(weighted_blocks(gap, blocks)).all()
    ranked = rank(np.array([1.0, 0, 0]), np.array([0.2, 0.3, 0.1]), patients, thresholds=[0.5])
    got = weighted_blocks(ranked, blocks)
    assert got[0, 0] == 0.5 and np.isnan(got[1]).all()  # without patient 0 no positive is left
    assert not recwarn.list


def test_block_size_changes_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    labels, scores, weights = rng.integers(0, 2, 300).astype(float), rng.random(300), rng.poisson(1, (30, 300))
    ranked = rank(labels, scores, np.arange(300), thresholds=[0.5])
    whole = weighted(ranked, weights)
    monkeypatch.setattr(ranking, "BLOCK_CELLS", 700)
    np.testing.assert_allclose(weighted(ranked, weights), whole, rtol=0, atol=1e-14)  # sums in another order


def test_more_rows_than_32_bits_can_sum_take_the_other_path(monkeypatch):
    monkeypatch.setattr(ranking, "MOST_ROWS", 2)
    monkeypatch.setattr(ranking, "_boot", object())  # would fail
    ranked = rank(np.array([1.0, 0, 0]), np.array([0.3, 0.2, 0.1]), np.arange(3), thresholds=[0.5])
    assert (weighted_blocks(ranked, np.ones((1, 3, LANES), np.uint8))[:, 0] == 1).all()


@compiled
@pytest.mark.parametrize(
    "changes",
    [
        {"columns": [0, 1, 3]},
        {"columns": [0, 1, -1]},
        {"columns": [0, 1]},
        {"patients": 4},
        {"patients": -1},
        {"patients": 3 + 2**58},  # 64 times that is 3 * 64 in 64 bits
        {"start": [2], "end": [4]},
        {"start": [1], "end": [1]},
        {"start": [0, 0], "end": [1, 2]},
        {"end": []},
        {"cuts": [2, 1]},
        {"cuts": [4]},
        {"cuts": [-1]},
        {"out": np.zeros((1, 3, LANES))},
        {"blocks": np.ones((2, 3, LANES), np.uint8)},
    ],
)
def test_the_compiled_loop_refuses_what_does_not_fit(changes):
    parts = {"blocks": np.ones((1, 3, LANES), np.uint8), "patients": 3, "columns": [0, 1, 2]}
    parts |= {"positive": np.array([True, False, True]), "start": [0, 2], "end": [1, 3], "cuts": [3]}
    parts |= {"out": np.zeros((1, 4, LANES))}
    parts |= changes
    given = [np.array(value, np.intp) if isinstance(value, list) else value for value in parts.values()]
    if changes:
        with pytest.raises(ValueError, match="sizes or positions do not fit each other"):
            ranking._boot.sums(*given)
