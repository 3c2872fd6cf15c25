"""The baselines on tables: summaries of measured cells only, and what is fitted to them."""

import numpy as np
import pytest
import torch
from toy import write_preprocessed

from fusionctl import loop, metrics, settings, tabular
from fusionctl.data.batch import StayData, collate
from fusionctl.data.variables import GCS_TOTAL, INDEX, VARIABLES
from fusionctl.fusion.film_scores import FilmScores
from fusionctl.models.cxr import CxrEncoder
from fusionctl.stages import ENCODERS_OF, WITHOUT_WEIGHTS

each = pytest.mark.parametrize("name", tabular.TABULAR)


@pytest.fixture
def grid():
    rng = np.random.default_rng(0)
    n_rows = np.array([4, 1, 6], dtype=np.int32)
    values = np.stack([rng.integers(0, len(v.categories) or 90, 11) for v in VARIABLES], axis=1).astype(np.float32)
    return values, rng.random(values.shape) < 0.5, np.array([0, 4, 5]), n_rows


def test_summaries_against_a_plain_reading(grid):
    values, observed, first, n = grid
    got = dict(zip(tabular.feature_names(), tabular.summarise(*grid).T, strict=True))
    for stay in range(3):
        rows = slice(first[stay], first[stay] + n[stay])
        for i, variable in enumerate(VARIABLES):
            x = values[rows, i][observed[rows, i]].astype(float)
            x = np.array([variable.scores[int(k)] for k in x], dtype=float) if variable.scores else x
            some = len(x) > 0
            expected = {
                "mean": x.mean() if some else np.nan,
                "min": x.min() if some else np.nan,
                "max": x.max() if some else np.nan,
                "first": x[0] if some else np.nan,
                "last": x[-1] if some else np.nan,
                "sd": x.std() if some else np.nan,
                "count": len(x),
            }
            for summary, value in expected.items():
                np.testing.assert_allclose(got[f"{summary} {variable.name}"][stay], value, rtol=1e-9, err_msg=summary)


def test_an_imputed_value_changes_nothing(grid):
    values, observed, first, n = grid
    other = np.where(observed, values, (values + 1) % 2)
    np.testing.assert_array_equal(
        tabular.summarise(values, observed, first, n), tabular.summarise(other, observed, first, n)
    )


def test_a_category_of_minus_one_is_not_measured(grid):
    values, observed, first, n = grid
    categorical = np.array([v.is_categorical for v in VARIABLES])
    gone = np.zeros_like(observed)
    gone[[0, 2, 4, 7]] = categorical
    expected = tabular.summarise(values, observed & ~gone, first, n)
    for mask in (observed, observed & ~gone):  # even where something says that it was measured
        np.testing.assert_array_equal(tabular.summarise(np.where(gone, -1, values), mask, first, n), expected)
    assert observed[gone].any()


def test_blocks_change_nothing(grid, monkeypatch):
    whole = tabular.summarise(*grid)
    monkeypatch.setattr(tabular, "_BLOCK_STAYS", 2)
    np.testing.assert_array_equal(tabular.summarise(*grid), whole)


def test_coma_points_not_indices(grid):
    values, observed, first, n = grid
    observed[:, GCS_TOTAL] = True
    values[:, GCS_TOTAL] = VARIABLES[GCS_TOTAL].categories.index("15")
    column = tabular.feature_names().index("max Glascow coma scale total")
    assert (tabular.summarise(*grid)[:, column] == 15).all()
    assert INDEX["Glascow coma scale total"] == GCS_TOTAL


@each
def test_they_learn_and_bear_missing_columns_and_labels(name):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 5)) * [1, 50, 1, 1, 1]
    labels = np.stack(
        [features[:, 0] > 0, np.ones(300), features[:, 1] > 0, np.zeros(300), np.full(300, np.nan)], axis=1
    )
    labels = labels.astype(np.float32)
    features[:, 3] = np.nan
    features[:, 4] = 7.0
    features[::7, 0] = np.nan
    labels[:20, 2] = np.nan
    train = np.arange(200)
    got = tabular.fit_predict(name, features, labels, train, seed=0)
    assert got.shape == (300, 5) and ((got > 0) & (got < 1)).all()
    unseen = np.arange(200, 300)[~np.isnan(features[200:, 0])]
    for k in (0, 2):
        assert metrics.auroc(labels[unseen, k], got[unseen, k]) > 0.95
    assert (got[:, 1] > 0.99).all() and (got[:, 3] < 0.01).all() and (got[:, 4] == 0.5).all()
    np.testing.assert_array_equal(got, tabular.fit_predict(name, features, labels, train, seed=0))


@each
def test_other_rows_teach_nothing(name):
    """Neither by their labels nor, through means and bins, by their features."""
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(120, 3)), (rng.random((120, 1)) < 0.5).astype(np.float32)
    features[rng.random(features.shape) < 0.2] = np.nan
    other_features, other_labels = features.copy(), labels.copy()
    other_features[100:], other_labels[80:] = 1e6, 1 - labels[80:]
    one = tabular.fit_predict(name, features, labels, np.arange(80), seed=0)
    two = tabular.fit_predict(name, other_features, other_labels, np.arange(80), seed=0)
    np.testing.assert_array_equal(one[:100], two[:100])


def test_columns_of_a_linear_model():
    nan = np.nan
    train = np.array([[0.0, nan, 5.0, nan, 1.0], [4.0, nan, 5.0, nan, 3.0], [nan, nan, 5.0, 2.0, nan]])
    other = np.array([[1e9, 3.0, 9.0, 2.0, 2.0], [-1e9, nan, nan, nan, nan]])
    got = tabular.scaled(np.concatenate([train, other]), np.arange(3))
    # Columns 0 and 4 vary; 1, 2 and 3 say nothing or one thing only. 4 is missing where 0 is: one indicator for both.
    assert tabular.CLIP == 3
    expected = [[-1, -1, 0, 1], [1, 1, 0, 1], [0, 0, 1, 0], [3, 0, 0, 0], [-3, 0, 0, 1]]
    np.testing.assert_allclose(got, expected)


def test_a_gap_can_tell():
    """That something was not measured is itself a sign, which the mean in its place would hide."""
    rng = np.random.default_rng(0)
    features, missing = rng.normal(size=(400, 1)), rng.random(400) < 0.5
    features[missing] = np.nan
    got = tabular.fit_predict("logistic", features, missing[:, None].astype(np.float32), np.arange(300), seed=0)[
        300:, 0
    ]
    assert (got[missing[300:]] > 0.5).all() and (got[~missing[300:]] < 0.5).all()


def test_a_name_that_is_none_of_them():
    with pytest.raises(ValueError, match="one of trees, logistic, trees-film, logistic-film; got 'forest'"):
        tabular.fit_predict("forest", np.zeros((2, 1)), np.zeros((2, 1), np.float32), np.arange(2), seed=0)


def test_the_names_are_known_everywhere():
    assert tabular.TABULAR == WITHOUT_WEIGHTS
    assert set(tabular.TABULAR) <= set(settings.Fusion.__args__)
    assert {n for n in tabular.TABULAR if "pretrain-cxr" in ENCODERS_OF[n]} == set(tabular.WITH_FILM)
    assert not any("pretrain-ehr" in ENCODERS_OF[name] for name in tabular.TABULAR)


def test_film_scores_are_the_heads_logits_and_missing_without_a_film(tmp_path):
    data = StayData.open(write_preprocessed(tmp_path, most_films=3))
    torch.manual_seed(0)
    cxr = CxrEncoder("resnet18", 14, input_size=32)
    rows = np.array([0, 1, 2, 4])
    got = loop.predict(FilmScores(cxr), lambda chosen: collate(data, chosen), rows, batch_size=3)
    assert got.shape == (4, 14) and np.isnan(got[1]).all()
    with torch.no_grad():
        films = cxr.eval()(collate(data, rows).films).numpy()
    for row, expected in ((0, films[:1]), (2, films[1:3]), (3, films[3:])):
        np.testing.assert_allclose(got[row], expected.mean(axis=0), rtol=1e-4, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in cxr.parameters())


def test_a_films_scores_help_where_there_is_one():
    """The stays with a film gain, and the others are predicted as well."""
    rng = np.random.default_rng(0)
    label = (rng.random((600, 1)) < 0.5).astype(np.float32)
    summaries = rng.normal(size=(600, 3)) + 0.3 * label
    scores = np.where(np.arange(600)[:, None] % 2 == 0, 3 * label + rng.normal(size=(600, 1)), np.nan)
    features, train, test = np.concatenate([summaries, scores], axis=1), np.arange(400), np.arange(400, 600)
    for name in tabular.WITH_FILM:
        right = (tabular.fit_predict(name, features, label, train, seed=0)[test] > 0.5) == (label[test] > 0)
        assert right[::2].mean() > 0.85 and 0.5 < right[1::2].mean() < 0.8
